//! The part of the configuration that is about video that comes in.

use serde::Deserialize;

/// How the H.264 of all sources is decoded.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DecodingConfig {
    /// `auto`: the board's decoder where it has one, else software; `software`; or a device such as `/dev/video10`.
    pub decoder: String,
}

impl Default for DecodingConfig {
    fn default() -> Self {
        // A board that has a decoder has few cores to do without.
        Self { decoder: "auto".into() }
    }
}

impl DecodingConfig {
    /// The first value that is out of range: its key, what was found, what is expected.
    pub(super) fn fault(&self) -> Option<(&'static str, String, &'static str)> {
        let known = ["auto", "software"].contains(&&*self.decoder) || self.decoder.starts_with("/dev/");
        (!known).then(|| {
            let expected = "`auto`, `software` or a device such as `/dev/video10`";
            ("video.decoder", format!("\"{}\"", self.decoder), expected)
        })
    }
}
