//! The part of the configuration that is about a screen on the device itself.

use serde::Deserialize;

/// The screen.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DisplayConfig {
    /// `fb:/dev/fb0`, `drm:/dev/dri/card0`, `png:FILE` or `off`, with options behind a `?`.
    pub target: String,
    /// Most pictures a second, 0.1 to 60.
    pub fps: f64,
}

impl Default for DisplayConfig {
    fn default() -> Self {
        // Ten a second look alive and cost a small board's core a few per cent; the network may have the rest.
        Self { target: "off".into(), fps: 10.0 }
    }
}

impl DisplayConfig {
    /// The first value that is out of range: its key, what was found, what is expected.
    pub(super) fn fault(&self) -> Option<(&'static str, String, &'static str)> {
        (!(0.1..=60.0).contains(&self.fps))
            .then(|| ("display.fps", self.fps.to_string(), "0.1 to 60 pictures a second"))
    }
}
