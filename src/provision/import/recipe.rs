//! Everything that a package says of a network, put together from the file, from what the families are known to want, and
//! from whoever imports it.

use super::facts::Facts;
use super::kind::{self, Kind};
use super::literal::Literal;
use super::names::{self, Points};
use super::{Error, Question, Wishes};
use crate::cache::{LayoutKind, Normalization, PackageKind, PostProcessingKind, ResizeMode};
use crate::frame::Size;
use crate::model::{Family, registry};

/// Grey of what a letterbox leaves free, where Ultralytics and YOLOX trained.
const GREY: u8 = 114;
/// What sides of an open input are a multiple of, where the file does not say.
const STRIDE: usize = 32;
/// Most images at once of a network with an open batch, as Roboflow's own packages say.
pub const BATCH_MAX: usize = 8;
/// Longest side that is believed; the readers of packages have the same bound.
const SIDE_MAX: usize = 8192;

const IMAGENET: Normalization = Normalization { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
const HALVES: Normalization = Normalization { mean: [0.5; 3], std: [0.5; 3] };

/// A package to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Task and architecture.
    pub kind: PackageKind,
    pub variant: Option<String>,
    pub layout: LayoutKind,
    pub class_names: Vec<String>,
    pub points: Option<Points>,
    /// Pixels of the network's input.
    pub size: Size,
    /// Where its sides are open: what they are a multiple of.
    pub divisor: Option<usize>,
    /// Images it takes at once; `None` where that is open.
    pub batch: Option<usize>,
    pub preparation: Preparation,
    pub post: PostProcessingKind,
    /// The network does the last step itself.
    pub fused: bool,
    pub quantization: &'static str,
    pub opset: i64,
    /// What is not as it was in training, or was taken for granted: for people.
    pub notes: Vec<String>,
}

/// How an image comes to the network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preparation {
    pub resize: ResizeMode,
    /// Grey of what is left free.
    pub padding: u8,
    pub normalization: Option<Normalization>,
}

impl Recipe {
    /// Of a network, with what is asked for; `ask` is asked what neither says.
    ///
    /// # Errors
    /// It is of a kind that does not run, says what cannot be, or something is unclear that `ask` does not know either.
    pub fn new(facts: &Facts, wishes: &Wishes, ask: &dyn Fn(&Question) -> Option<String>) -> Result<Self, Error> {
        let (mut kind, variant) = kind_of(facts, wishes, ask)?;
        let layout = wishes.layout.unwrap_or_else(|| layout_of(&kind));
        // The classic engine knows some networks by their size only.
        let sized = variant.clone().map(|model_type| PackageKind { task: kind.task.clone(), model_type });
        if let Some(sized) =
            sized.filter(|sized| layout == LayoutKind::Classic && registry::family(sized, layout).is_ok())
        {
            kind = sized;
        }
        let family = registry::family(&kind, layout).map_err(|why| Error::Unsupported {
            task: kind.task.clone(),
            model_type: kind.model_type.clone(),
            why,
        })?;
        let class_names = class_names(facts, wishes, &kind, ask)?;
        let points = match (kind.task.as_str(), family) {
            ("keypoint-detection", Family::RfDetr) => {
                return Err(Error::File("RF-DETR's exports do not say which key points they find".into()));
            }
            ("keypoint-detection", _) => Some(names::of_points(facts).map_err(Error::File)?),
            _ => None,
        };
        let size = size(facts, wishes, ask)?;
        let [batch, _, height, width] = facts.input;
        let open = height.is_none() || width.is_none();
        let stride = facts.literal("stride").ok().flatten().as_ref().and_then(Literal::count);
        let fused = kind.task == "classification" && facts.metadata.contains_key("task");
        let mut notes = Vec::new();
        let preparation = preparation(facts, wishes, &kind.task, family, &mut notes);
        let recipe = Self {
            post: match kind.task.as_str() {
                "classification" | "semantic-segmentation" => PostProcessingKind::Softmax,
                "multi-label-classification" => PostProcessingKind::Sigmoid,
                _ => PostProcessingKind::Nms,
            },
            kind,
            variant,
            layout,
            class_names,
            points,
            size,
            divisor: open.then_some(stride.filter(|stride| *stride > 1).unwrap_or(STRIDE)),
            batch,
            preparation,
            fused,
            quantization: facts.quantization,
            opset: facts.opset,
            notes,
        };
        if layout == LayoutKind::Classic { recipe.fits_classic() } else { Ok(()) }?;
        Ok(recipe)
    }

    /// The classic layout has words for four resizes, and its engine decides on normalisation by itself.
    fn fits_classic(&self) -> Result<(), Error> {
        let why = match (self.kind.task.as_str(), self.preparation.resize, self.fused) {
            ("classification", _, true) => "Roboflow's classic engine would normalise its levels and scores once more",
            (_, ResizeMode::Stretch | ResizeMode::Letterbox, _) => return Ok(()),
            _ => "it has no word for this resize",
        };
        Err(Error::Usage(format!("--layout classic: {why}; leave it, and the layout is models-cache")))
    }
}

/// What whoever is asked must know: the flag that decides, and what was found.
fn unclear(facts: &Facts, flag: &'static str, what: &str, choices: Vec<String>) -> Question {
    Question { flag, what: what.into(), found: facts.told(), choices }
}

/// The answer of who is asked, or what is unclear as an error.
fn answer(question: Question, ask: &dyn Fn(&Question) -> Option<String>) -> Result<String, Error> {
    ask(&question).ok_or(Error::Unclear(question))
}

fn kind_of(
    facts: &Facts,
    wishes: &Wishes,
    ask: &dyn Fn(&Question) -> Option<String>,
) -> Result<(PackageKind, Option<String>), Error> {
    let found = match (&wishes.task, &wishes.model_type) {
        (Some(_), Some(_)) => Kind::default(),
        _ => Kind::of(facts).map_err(Error::File)?,
    };
    let runs = |group: &&registry::Group| matches!(group.runs, registry::Runs::As(_)) && group.task != "raw";
    let task = match wishes.task.clone().or(found.task) {
        Some(task) => task,
        None => {
            let mut tasks: Vec<String> = registry::GROUPS.iter().filter(runs).map(|group| group.task.into()).collect();
            tasks.dedup();
            answer(unclear(facts, "--task", "what it is for", tasks), ask)?
        }
    };
    let said = match wishes.model_type.clone().or(found.model_type) {
        Some(model_type) => model_type,
        None => {
            let of_task = registry::GROUPS.iter().filter(runs).filter(|group| group.task == task);
            let types = of_task.filter_map(|group| group.model_types().into_iter().next()).collect();
            answer(unclear(facts, "--type", "which family of networks it is", types), ask)?
        }
    };
    // Roboflow's packages say the architecture, and its size beside it.
    let architecture = architecture(&task, &said);
    let variant = if architecture == said { found.variant } else { Some(said) };
    Ok((PackageKind { task, model_type: architecture }, variant))
}

/// `yolov8` of `yolov8n-seg`: the longest type of the task that it begins with and that no other one shortens.
fn architecture(task: &str, said: &str) -> String {
    let types = registry::GROUPS.iter().filter(|group| group.task == task).flat_map(registry::Group::model_types);
    let mut begins: Vec<String> = types.filter(|known| said.starts_with(known.as_str())).collect();
    begins.sort_by_key(String::len);
    match begins.iter().any(|known| known == said) {
        true => begins.swap_remove(0),
        false => said.into(),
    }
}

fn layout_of(kind: &PackageKind) -> LayoutKind {
    // What Roboflow's own engines do not know runs from the classic layout only.
    match registry::family(kind, LayoutKind::ModelsCache) {
        Err(_) if registry::family(kind, LayoutKind::Classic).is_ok() => LayoutKind::Classic,
        _ => LayoutKind::ModelsCache,
    }
}

fn class_names(
    facts: &Facts,
    wishes: &Wishes,
    kind: &PackageKind,
    ask: &dyn Fn(&Question) -> Option<String>,
) -> Result<Vec<String>, Error> {
    let found = match &wishes.classes {
        Some(names) => Some(names.clone()),
        None => names::of_classes(facts, &kind.model_type).map_err(Error::File)?,
    };
    let names = match found {
        Some(names) => names,
        None => {
            let choices = vec!["FILE".into(), "a,b,c".into(), names::COCO_WORD.into()];
            let said = answer(unclear(facts, "--classes", "what its classes are called", choices), ask)?;
            super::classes(&said)?
        }
    };
    // One a line: what a line cannot hold, a package cannot say.
    let wrong = names.iter().position(|name| name.trim().is_empty() || name.contains(['\n', '\r']));
    match wrong {
        Some(index) => Err(Error::Usage(format!(
            "class {index} is called {:?}; a name is one line that is not blank: give all with --classes",
            names[index]
        ))),
        None if names.is_empty() => Err(Error::Usage("there is no class; give names with --classes".into())),
        None => Ok(names.into_iter().map(|name| name.trim().to_owned()).collect()),
    }
}

/// The network's own size, else the one that is asked for or that its metadata has.
fn size(facts: &Facts, wishes: &Wishes, ask: &dyn Fn(&Question) -> Option<String>) -> Result<Size, Error> {
    if let [_, _, Some(height), Some(width)] = facts.input {
        let own = Size::new(width, height);
        return match wishes.size {
            Some(wanted) if wanted != own => Err(Error::Usage(format!(
                "--size {}x{}: the network takes {width}x{height} and nothing else",
                wanted.width, wanted.height
            ))),
            _ => Ok(own),
        };
    }
    let imgsz = facts.literal("imgsz").map_err(Error::File)?;
    let sides = imgsz.as_ref().and_then(|value| match value {
        Literal::List(list) => list.iter().map(Literal::count).collect::<Option<Vec<usize>>>(),
        one => one.count().map(|side| vec![side, side]),
    });
    let stated = match sides.as_deref() {
        Some(&[height, width]) => Some(Size::new(width, height)),
        _ => None,
    };
    match wishes.size.or(stated) {
        Some(size) if (1..=SIDE_MAX).contains(&size.width) && (1..=SIDE_MAX).contains(&size.height) => Ok(size),
        Some(size) => Err(Error::Usage(format!(
            "its input is {}x{} pixels; expected sides of 1 to {SIDE_MAX}: --size says another",
            size.width, size.height
        ))),
        None => {
            let question = unclear(facts, "--size", "which size its input has", vec!["640x640".into()]);
            super::parse_size(&answer(question, ask)?)
        }
    }
}

/// As the family was trained, as far as a package can say it.
fn preparation(facts: &Facts, wishes: &Wishes, task: &str, family: Family, notes: &mut Vec<String>) -> Preparation {
    let own = match family {
        Family::RfDetr | Family::ResNet | Family::DinoV3 | Family::DeepLab => (ResizeMode::Stretch, Some(IMAGENET)),
        Family::Vit => (ResizeMode::Stretch, Some(HALVES)),
        Family::RtDetr => (ResizeMode::Stretch, None),
        _ if task == "classification" => {
            notes.push(
                "Ultralytics resizes the shorter side and cuts out the middle, which no package can say: pictures are \
                 stretched; --resize decides otherwise"
                    .into(),
            );
            (ResizeMode::Stretch, None)
        }
        _ => (ResizeMode::Letterbox, None),
    };
    if family == Family::YoloX {
        notes.push("YOLOX was trained with the picture in the upper left corner; here it is in the middle".into());
    } else if !facts.metadata.contains_key("task") && wishes.resize.is_none() && own.0 == ResizeMode::Letterbox {
        notes.push("the file does not say how pictures come to its size: letterboxed on grey; --resize decides".into());
    }
    Preparation { resize: wishes.resize.unwrap_or(own.0), padding: GREY, normalization: own.1 }
}

/// What a model is called where nobody says: by its file, or where that is called as all are, by what it is.
#[must_use]
pub fn default_id(stem: &str, facts: &Facts) -> String {
    const COMMON: [&str; 6] = ["model", "best", "last", "weights", "inference_model", "yolov5s_weights"];
    let lower = stem.to_lowercase();
    let pretty = kind::pretty_name(facts);
    let name = if COMMON.contains(&lower.as_str()) && !pretty.is_empty() { pretty } else { lower };
    let plain = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c) { c } else { '-' };
    let name: String = name.chars().map(plain).collect();
    match name.trim_matches(['.', '-', '_']) {
        "" => "imported/1".into(),
        name => format!("{name}/1"),
    }
}
