//! What a plan was made for, by whom, and why its answers are trusted.

use serde::{Deserialize, Serialize};

use crate::engine::Precision;
use crate::engine::plan::kernels::Isa;

/// What a plan is bound to: it is of no use for another model, another shape or another instruction set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// Of the ONNX file, in lower-case hexadecimal.
    pub model_sha256: String,
    /// Batch, channels, height, width.
    pub input: [usize; 4],
    /// The name of the kernels.
    pub isa: String,
}

/// What a plan says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    pub binding: Binding,
    /// The input as the model declares it, so that nobody needs to parse the model for that.
    pub declared: [Option<usize>; 4],
    /// Whether the model declares an f16 input: each value becomes the nearest one of those.
    pub f16_input: bool,
    /// Version of the program that baked it.
    pub made_by: String,
    /// Lanes and pixels of the panels for which the weights were packed.
    pub tiles: Vec<[usize; 2]>,
    pub trust: Trust,
}

impl Head {
    /// Of a plan baked by this program for these kernels.
    #[must_use]
    pub fn new(binding: Binding, declared: [Option<usize>; 4], isa: &Isa, trust: Trust) -> Self {
        Self {
            binding,
            declared,
            f16_input: false,
            made_by: env!("CARGO_PKG_VERSION").into(),
            tiles: isa.tiles(),
            trust,
        }
    }
}

/// Why the answers of a plan are trusted, which is another reason in each precision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    Fp32(Referee),
    Fp16(Refereed),
    Int8(Judged),
}

impl Trust {
    #[must_use]
    pub fn precision(&self) -> Precision {
        match self {
            Self::Fp32(_) => Precision::Fp32,
            Self::Fp16(_) => Precision::Fp16,
            Self::Int8(_) => Precision::Int8,
        }
    }

    /// What cannot be so, whoever wrote it.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        match self {
            Self::Fp32(referee) => referee.fault(),
            Self::Fp16(Refereed { referee, judged }) => {
                referee.fault().or_else(|| judged.as_ref().and_then(Judged::fault))
            }
            Self::Int8(judged) => judged.fault(),
        }
    }

    /// How far the answers are off, in words: the judge's where there is one.
    #[must_use]
    pub fn told(&self) -> String {
        match (self.judged(), self.referee().and_then(Referee::worst)) {
            (Some(judged), _) => judged.to_string(),
            (None, Some(worst)) => format!("largest error {worst:.1e}"),
            (None, None) => "not compared".into(),
        }
    }

    /// The referee's word, where it was asked.
    #[must_use]
    pub fn referee(&self) -> Option<&Referee> {
        match self {
            Self::Fp32(referee) | Self::Fp16(Refereed { referee, .. }) => Some(referee),
            Self::Int8(_) => None,
        }
    }

    /// The judge's word, where there were pictures.
    #[must_use]
    pub fn judged(&self) -> Option<&Judged> {
        match self {
            Self::Fp32(_) => None,
            Self::Fp16(Refereed { judged, .. }) => judged.as_ref(),
            Self::Int8(judged) => Some(judged),
        }
    }
}

/// Why a plan in halves is trusted: tract's answers within a bound that is wider than that of numbers, and, where pictures
/// were given, the judge's word on them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refereed {
    pub referee: Referee,
    pub judged: Option<Judged>,
}

/// How the plan's outputs compare with tract's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Referee {
    /// The largest error that was allowed.
    pub bound: f32,
    pub outputs: Vec<Compared>,
}

impl Referee {
    /// The largest error of all outputs; none where nothing was compared.
    #[must_use]
    pub fn worst(&self) -> Option<f32> {
        self.outputs.iter().map(|output| output.error).reduce(f32::max)
    }

    fn fault(&self) -> Option<String> {
        let finite = self.bound.is_finite() && self.outputs.iter().all(|output| output.error.is_finite());
        (!finite).then(|| format!("a plan that was not compared: {self:?}"))
    }
}

/// The largest error of one output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compared {
    pub name: String,
    pub error: f32,
}

/// How the answers of a plan in bytes or halves compare with those of the same network in numbers, over pictures of what it is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judged {
    pub measure: Measure,
    /// What was found when it was baked, 0 to `error_max`.
    pub error: f64,
    /// The largest error that was accepted, at most 1.
    pub error_max: f64,
    /// Pictures that were looked at.
    pub images: usize,
    /// By which a later start is known to answer as it did then; none where that CPU could not run the plan.
    pub golden: Option<Golden>,
}

/// What a plan answered to the golden frame when it was judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// Of the CPU and the program that answered: others may round otherwise, and a byte more or less goes far.
    pub arithmetic: u32,
    /// Some values of each output.
    pub answers: Vec<Vec<f32>>,
}

/// Most values that are remembered of an output: as many as tell any defect, and 3 KB of text.
pub const REMEMBERED_MAX: usize = 256;

/// What an error of [`Judged`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Measure {
    /// What its detections lack of a mean average precision of 1, where those in numbers are the truth.
    #[serde(rename = "mAP@50:95")]
    Detections,
    /// The root of the mean square of the differences, in parts of that of the values, of the worst output.
    #[serde(rename = "relative error")]
    Values,
}

impl Judged {
    fn fault(&self) -> Option<String> {
        let Self { error, error_max, images, golden, .. } = self;
        let in_order = (0.0..=1.0).contains(error_max) && (0.0..=*error_max).contains(error) && *images > 0;
        if !in_order {
            return Some(format!("an error of {error} in {images} pictures, where at most {error_max} was accepted"));
        }
        let fits = |output: &Vec<f32>| output.len() <= REMEMBERED_MAX && output.iter().all(|x| x.is_finite());
        let fit = golden.as_ref().is_none_or(|golden| golden.answers.iter().all(fits));
        (!fit).then(|| format!("answers to the golden frame that are not at most {REMEMBERED_MAX} numbers an output"))
    }
}

impl std::fmt::Display for Judged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.measure {
            Measure::Detections => write!(f, "mAP@50:95 {:.3}", 1.0 - self.error),
            Measure::Values => write!(f, "relative error {:.1e}", self.error),
        }
    }
}
