//! Where frames come from, and what happens to those that come faster than they can be used.

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Most sources of one loop: more cameras than any board this runs on has CPU for.
pub const SOURCES_MAX: usize = 8;
/// Fastest rate that a source can be held to, frames a second; slower than one in a quarter of an hour is a still.
const FPS: std::ops::RangeInclusive<f64> = 0.001..=1000.0;

/// One source.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourceConfig {
    /// By which rules may name it; absent: its number only.
    pub id: Option<String>,
    /// Such as `v4l2:/dev/video0`, `rtsp://camera/stream` or `file:/data/video.mp4`; absent: the demo scene.
    pub uri: Option<String>,
    /// Frames a second at most: those of a live source in between are dropped, those of a file wait.
    pub max_fps: Option<f64>,
    /// Instead of `buffer.policy`.
    pub policy: Option<BufferPolicy>,
    /// Instead of `buffer.consumption`.
    pub consumption: Option<Consumption>,
}

/// The table `[source]`, or several as `[[source]]`.
#[derive(Clone, Debug)]
pub struct Sources(pub Vec<SourceConfig>);

impl Default for Sources {
    fn default() -> Self {
        Self(vec![SourceConfig::default()])
    }
}

impl<'de> Deserialize<'de> for Sources {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// By hand, because an untagged enum forgets which key was wrong.
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Sources;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a table `[source]`, or several as `[[source]]`")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Sources, A::Error> {
                SourceConfig::deserialize(MapAccessDeserializer::new(map)).map(|one| Sources(vec![one]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Sources, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Sources)
            }
        }

        deserializer.deserialize_any(OneOrMany)
    }
}

impl Sources {
    /// Key, value found and what was expected, of the first value that cannot be.
    pub(super) fn fault(&self) -> Option<(&'static str, String, &'static str)> {
        if !(1..=SOURCES_MAX).contains(&self.0.len()) {
            return Some(("source", format!("{} of them", self.0.len()), "1 to 8"));
        }
        if self.0.len() > 1 && self.0.iter().any(|source| source.uri.is_none()) {
            return Some(("source.uri", "absent".into(), "a URI for each of several sources"));
        }
        let fps = self.0.iter().filter_map(|source| source.max_fps).find(|fps| !FPS.contains(fps))?;
        Some(("source.max_fps", fps.to_string(), "0.001 to 1000 frames a second"))
    }
}

/// The buffer between the capture of each source and inference.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BufferConfig {
    /// Frames of one source that may wait for the network.
    pub frames: usize,
    pub policy: BufferPolicy,
    pub consumption: Consumption,
}

impl Default for BufferConfig {
    fn default() -> Self {
        // Two: one being copied in while one waits. More only adds age to a live picture.
        Self { frames: 2, policy: BufferPolicy::Auto, consumption: Consumption::Auto }
    }
}

/// What happens to a frame that finds the buffer full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BufferPolicy {
    /// Files wait, live sources drop the oldest, adaptively.
    Auto,
    /// It waits for room.
    Wait,
    /// The oldest waiting frame gives way to it.
    DropOldest,
    /// It is dropped itself.
    DropLatest,
    /// As `drop-oldest`; and while frames come faster than they are used, some are not even decoded.
    AdaptiveDropOldest,
    /// As `drop-latest`, likewise.
    AdaptiveDropLatest,
}

/// Which of the waiting frames is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Consumption {
    /// Lazy for files, eager for live sources.
    Auto,
    /// One after the other.
    Lazy,
    /// The newest; those before it are dropped.
    Eager,
}

/// What becomes of a frame for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    Wait,
    DropOldest,
    DropLatest,
}

/// A policy as it works for one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discipline {
    pub overflow: Overflow,
    /// Frames that nobody would use are not decoded.
    pub adaptive: bool,
    /// Only the newest waiting frame is used.
    pub eager: bool,
}

impl Discipline {
    /// Of a source that is `live` or not: the same choice as Roboflow's where nothing is said.
    #[must_use]
    pub fn of(policy: BufferPolicy, consumption: Consumption, live: bool) -> Self {
        let (overflow, adaptive) = match policy {
            BufferPolicy::Auto if live => (Overflow::DropOldest, true),
            BufferPolicy::Auto | BufferPolicy::Wait => (Overflow::Wait, false),
            BufferPolicy::DropOldest => (Overflow::DropOldest, false),
            BufferPolicy::DropLatest => (Overflow::DropLatest, false),
            BufferPolicy::AdaptiveDropOldest => (Overflow::DropOldest, true),
            BufferPolicy::AdaptiveDropLatest => (Overflow::DropLatest, true),
        };
        let eager = match consumption {
            Consumption::Auto => live,
            Consumption::Lazy => false,
            Consumption::Eager => true,
        };
        Self { overflow, adaptive, eager }
    }

    /// Roboflow's word for the filling strategy.
    #[must_use]
    pub fn filling(self) -> &'static str {
        match (self.overflow, self.adaptive) {
            (Overflow::Wait, _) => "WAIT",
            (Overflow::DropOldest, false) => "DROP_OLDEST",
            (Overflow::DropOldest, true) => "ADAPTIVE_DROP_OLDEST",
            (Overflow::DropLatest, false) => "DROP_LATEST",
            (Overflow::DropLatest, true) => "ADAPTIVE_DROP_LATEST",
        }
    }

    /// Roboflow's word for the consumption strategy.
    #[must_use]
    pub fn consumption(self) -> &'static str {
        if self.eager { "EAGER" } else { "LAZY" }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;
    use super::*;

    fn sources(text: &str) -> Result<Vec<SourceConfig>, String> {
        Config::parse(text, Path::new("device.toml")).map(|config| config.source.0).map_err(|error| error.to_string())
    }

    #[test]
    fn one_source_or_several() {
        assert_eq!(sources("").unwrap().len(), 1);
        let one = sources("[source]\nuri = \"demo:\"\nmax_fps = 5\npolicy = \"drop-latest\"\n").unwrap();
        assert_eq!((one[0].uri.as_deref(), one[0].policy), (Some("demo:"), Some(BufferPolicy::DropLatest)));
        let two = sources("[[source]]\nuri = \"demo:\"\n[[source]]\nuri = \"v4l2:/dev/video0\"\n").unwrap();
        assert_eq!(
            two.iter().filter_map(|source| source.uri.as_deref()).collect::<Vec<_>>(),
            ["demo:", "v4l2:/dev/video0"]
        );
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (text, word) in [
            ("source = []\n", "0 of them"),
            ("[[source]]\nuri = \"demo:\"\n[[source]]\n", "source.uri = absent"),
            ("[source]\nmax_fps = 0\n", "source.max_fps = 0"),
            ("[[source]]\nurl = \"demo:\"\n", "unknown key `url`; did you mean `uri`?"),
            ("source = 3\n", "[[source]]"),
            ("[buffer]\npolicy = \"drop_oldest\"\n", "drop-oldest"),
        ] {
            let message = sources(text).unwrap_err();
            assert!(message.contains(word), "{text}: {message}");
        }
    }

    #[test]
    fn where_nothing_is_said_a_file_loses_nothing_and_a_camera_shows_the_present() {
        let file = Discipline::of(BufferPolicy::Auto, Consumption::Auto, false);
        assert_eq!((file.filling(), file.consumption()), ("WAIT", "LAZY"));
        let live = Discipline::of(BufferPolicy::Auto, Consumption::Auto, true);
        assert_eq!((live.filling(), live.consumption()), ("ADAPTIVE_DROP_OLDEST", "EAGER"));
        let asked = Discipline::of(BufferPolicy::DropLatest, Consumption::Lazy, true);
        assert_eq!((asked.filling(), asked.consumption()), ("DROP_LATEST", "LAZY"));
    }
}
