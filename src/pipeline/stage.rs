//! Names of what figures and problems are about: the steps of a frame, and the parts of a device.

/// A part of the device that can be in trouble by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Engine,
    /// Frames flow, by another engine than was chosen.
    Accelerator,
    /// Frames flow, in another precision than was asked for.
    Precision,
    Display,
    Http,
    Tls,
    /// A model for clients cannot be served.
    Serving,
    /// There is little room left.
    Disk,
    /// A bundle of models was taken back.
    Bundle,
}

impl Part {
    #[rustfmt::skip]
    pub(super) const ALL: [Part; 9] = [
        Part::Engine, Part::Accelerator, Part::Precision, Part::Display, Part::Http, Part::Tls, Part::Serving, Part::Disk,
        Part::Bundle,
    ];

    /// The word before the colon in `reasons`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Part::Engine => "engine",
            Part::Accelerator => "accelerator",
            Part::Precision => "precision",
            Part::Display => "display",
            Part::Http => "http",
            Part::Tls => "tls",
            Part::Serving => "serving",
            Part::Disk => "disk",
            Part::Bundle => "bundle",
        }
    }

    /// Whether frames cannot flow while this part is in trouble.
    pub(super) fn stops_frames(self) -> bool {
        matches!(self, Part::Engine)
    }
}

/// A step of one frame's way through the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Preprocess,
    Infer,
    Decode,
    Deliver,
}

impl Stage {
    pub const ALL: [Stage; 4] = [Stage::Preprocess, Stage::Infer, Stage::Decode, Stage::Deliver];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Preprocess => "preprocess",
            Stage::Infer => "infer",
            Stage::Decode => "decode",
            Stage::Deliver => "deliver",
        }
    }
}
