//! The part of the configuration that is about tracks and rules. What a rule says of classes, sources and places is judged
//! where the model is known, in `crate::rules`.

use serde::Deserialize;

/// Objects followed from frame to frame; the names and defaults are those of `supervision`'s ByteTrack. With this section,
/// or a rule that needs it, every detection that has a track says which.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrackerConfig {
    /// A detection below this confidence continues a track but never begins one, which takes 0.1 more; 0 to 1.
    pub track_activation_threshold: f64,
    /// How long a track that is not seen is looked for, in frames of 30 a second, 0 to 3000.
    pub lost_track_buffer: u32,
    /// The most that a detection may cost, 0 to 1: 1 - IoU * confidence. Higher follows faster objects and mixes up more.
    pub minimum_matching_threshold: f64,
    /// Frames after its first in which an object must be seen in a row before it has a number, 1 to 100.
    pub minimum_consecutive_frames: u32,
    /// Frames a second of a source that is not live, 1 to 1000: files have no clock. Live sources have their own.
    pub frame_rate: f64,
    /// Whether a track keeps its class.
    pub class_aware: bool,
}

impl Default for TrackerConfig {
    fn default() -> Self {
        Self {
            track_activation_threshold: 0.25,
            lost_track_buffer: 30,
            minimum_matching_threshold: 0.8,
            minimum_consecutive_frames: 1,
            frame_rate: 30.0,
            class_aware: false,
        }
    }
}

impl TrackerConfig {
    /// The first value that is out of range: its key, what was found, what is expected.
    pub(super) fn fault(&self) -> Option<(&'static str, String, &'static str)> {
        for (key, share) in [
            ("tracker.track_activation_threshold", self.track_activation_threshold),
            ("tracker.minimum_matching_threshold", self.minimum_matching_threshold),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return Some((key, share.to_string(), "0 to 1"));
            }
        }
        if self.lost_track_buffer > 3000 {
            return Some(("tracker.lost_track_buffer", self.lost_track_buffer.to_string(), "0 to 3000"));
        }
        if !(1..=100).contains(&self.minimum_consecutive_frames) {
            let found = self.minimum_consecutive_frames.to_string();
            return Some(("tracker.minimum_consecutive_frames", found, "1 to 100"));
        }
        let found = Some(self.frame_rate).filter(|rate| !(1.0..=1000.0).contains(rate));
        found.map(|found| ("tracker.frame_rate", found.to_string(), "1 to 1000"))
    }
}

/// What of all that is seen is worth an event.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// What its events are called by; no two rules have the same.
    pub name: String,
    pub kind: RuleKind,
    /// Names of the model's classes that count; empty: all.
    #[serde(default)]
    pub classes: Vec<String>,
    /// The one source that it is about, by its id or its number; absent: each by itself.
    #[serde(default)]
    pub source: Option<SourceName>,
    /// Corners of a polygon.
    #[serde(default)]
    pub zone: Option<Vec<[f64; 2]>>,
    /// Ends of a line. Seen from the first to the second, `in` is to its left.
    #[serde(default)]
    pub line: Option<[[f64; 2]; 2]>,
    /// Of which zone and line are: shares of the picture's width and height, or pixels.
    #[serde(default)]
    pub units: Units,
    /// The point of an object's box that is in the zone or crosses the line.
    #[serde(default)]
    pub anchor: Anchor,
    /// `count`: more objects than this.
    #[serde(default)]
    pub above: Option<u32>,
    /// `line`: only what crosses it this way; absent: both.
    #[serde(default)]
    pub direction: Option<Direction>,
    /// Detections below this confidence do not count, 0 to 1.
    #[serde(default)]
    pub min_confidence: f64,
    /// How long it must be so before an event begins, and be over before it ends, seconds, 0 to 3600.
    #[serde(default)]
    pub hold_s: Option<f64>,
    /// How long after an event no other begins, seconds, 0 to 86400.
    #[serde(default)]
    pub cooldown_s: f64,
}

/// Half a second: a detector that blinks for some frames neither begins nor ends anything, and nobody waits for it.
pub const HOLD_DEFAULT_S: f64 = 0.5;

/// A source by the id or the number that the configuration gives it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum SourceName {
    Number(u32),
    Id(String),
}

/// What a rule looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleKind {
    /// An object is in the zone.
    Zone,
    /// More than so many objects are seen, in the zone or anywhere.
    Count,
    /// An object crosses the line.
    Line,
    /// A classifier says that it is one of the classes.
    Class,
}

/// Of what the coordinates of a rule are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Units {
    /// Shares of width and height, 0 to 1: they outlive a change of the camera's resolution.
    #[default]
    Relative,
    Pixels,
}

/// A point of a box.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Anchor {
    #[default]
    Center,
    /// Where what stands upright touches the ground.
    BottomCenter,
    TopCenter,
    LeftCenter,
    RightCenter,
    TopLeft,
    TopRight,
    BottomLeft,
    BottomRight,
}

/// A way across a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    In,
    Out,
}

impl RuleKind {
    /// As the configuration has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Zone => "zone",
            Self::Count => "count",
            Self::Line => "line",
            Self::Class => "class",
        }
    }
}

impl Direction {
    /// As the configuration and events have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}
