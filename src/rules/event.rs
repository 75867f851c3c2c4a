//! What a rule says: that something began or ended.

use std::sync::Arc;

use serde::Serialize;

use crate::clock::Stamp;

/// Whether an event begins or is over, or both at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Start,
    End,
    /// A line was crossed: there is one record, with the same moment for start and end.
    Once,
}

/// One record of a rule. An event that lasts has two, with the same id; the second is missing if the process ended first.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// Of start and end the same, and never of another event: the boot and the process that saw it, and a number.
    pub event_id: Arc<str>,
    /// Name of the rule in the configuration.
    pub rule: Arc<str>,
    pub phase: Phase,
    pub source_id: u32,
    /// Of the frame with which it is told; the condition has then held for `hold_s`.
    pub frame_id: u64,
    /// When the first frame of it was taken (of a file: read).
    pub started: Stamp,
    /// When the first frame after it was taken; absent while it lasts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Stamp>,
    /// Objects that the rule counts in this frame.
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
