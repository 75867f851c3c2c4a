//! What a rule says: that something began or ended.

use std::sync::Arc;

use serde::Serialize;

use crate::clock::Stamp;

/// Whether an event begins with this frame or is over with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Start,
    End,
}

/// One record of a rule. An event that lasts has two, with the same id.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// Of start and end the same, and never of another event: the boot that saw it, and a number.
    pub event_id: Arc<str>,
    /// Name of the rule in the configuration.
    pub rule: Arc<str>,
    pub phase: Phase,
    pub source_id: u32,
    /// Of the frame that began or ended it.
    pub frame_id: u64,
    /// When it began.
    pub started: Stamp,
    /// When it ended; absent while it lasts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Stamp>,
    /// Objects that the rule counted in this frame.
    pub count: u32,
    /// Track of the object it is about, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub track_id: Option<u64>,
    /// Class of that object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<Arc<str>>,
    /// Of a line crossed: `in` or `out`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<&'static str>,
}
