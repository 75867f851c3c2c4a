//! One model directory of the classic layout, read and checked, without its network being parsed.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::environment::Environment;
use super::{Error, InferenceConfig, ModelId, Preprocessing, Recommended, Rgb, Weights};

/// Largest text file of a package that is read; the largest real one, a class map of 20,000 names, is under 1 MB.
const TEXT_BYTES_MAX: u64 = 16 << 20;

const MODEL_TYPE: &str = "model_type.json";
const ENVIRONMENT: &str = "environment.json";
const CLASS_NAMES: &str = "class_names.txt";

/// What Roboflow calls the task and the type of a model: the pair that picks its decoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageKind {
    pub task: String,
    pub model_type: String,
}

/// A package: everything but the network itself, which stays behind [`Weights`].
#[derive(Debug)]
pub struct Package {
    pub id: String,
    pub dir: PathBuf,
    pub kind: PackageKind,
    pub layout: Layout,
    pub class_names: Vec<String>,
    /// One a class.
    pub colors: Vec<Rgb>,
    /// What `keypoints_metadata.json` says; empty without that file.
    pub keypoints: Vec<Skeleton>,
    pub weights: Weights,
}

/// Which of Roboflow's two layouts a package lies in, with what only that layout says. It decides whose answers are
/// given: a classic package is decoded as the classic engine does, one of the models-cache as the default engine does.
#[derive(Clone, Debug, PartialEq)]
pub enum Layout {
    Classic {
        preprocessing: Preprocessing,
        /// `MULTICLASS`: every class is answered for itself.
        multiclass: bool,
    },
    ModelsCache(Box<ModelsCache>),
}

/// One package of a model in the models-cache layout.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelsCache {
    pub package_id: String,
    /// `onnx`, `trt`, …
    pub backend: String,
    /// `fp32`, `fp16`, …
    pub quantization: String,
    pub config: InferenceConfig,
    pub recommended: Recommended,
}

/// Key points of one class of objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skeleton {
    /// Class of the object.
    pub class_id: usize,
    /// Names of its points, by their number.
    pub names: Vec<String>,
    /// Pairs of points that are drawn joined.
    pub edges: Vec<(usize, usize)>,
}

#[derive(Deserialize)]
struct ModelType {
    project_task_type: String,
    model_type: String,
    model_id: Option<String>,
}

impl Package {
    /// Reads the package in `dir` of the cache at `root`; `id` is what was asked for, `None` when listing.
    pub(super) fn read(root: &Path, dir: &Path, id: Option<&ModelId>) -> Result<Self, Error> {
        let reader = Reader { root, dir };
        let model_type: ModelType = {
            let path = dir.join(MODEL_TYPE);
            serde_json::from_str(&reader.text(MODEL_TYPE)?)
                .map_err(|error| Error::Parse { path, message: format!("not a model type: {error}") })?
        };
        let own_id = dir.strip_prefix(root).unwrap_or(dir).to_string_lossy().into_owned();
        let id = checked_owner(dir, &own_id, model_type.model_id, id)?;
        let kind = PackageKind { task: model_type.project_task_type, model_type: model_type.model_type };
        let environment = reader.text(ENVIRONMENT)?;
        let names = match reader.text(CLASS_NAMES) {
            Err(Error::Missing { .. }) if kind.task == "classification" => None,
            read => Some(read?),
        };
        let weights_file = kind.weights_file();
        let weights = Weights::map(&reader.inside(weights_file)?)?;
        Self::assemble(id, dir, kind, &environment, names.as_deref(), weights)
    }

    /// Everything that is wrong with the files of the package in `dir`: each is looked at, also after a fault.
    #[must_use]
    pub fn faults(root: &Path, dir: &Path) -> Vec<Error> {
        let reader = Reader { root, dir };
        let mut faults: Vec<Error> = Vec::new();
        let model_type = reader.text(MODEL_TYPE).and_then(|text| {
            serde_json::from_str::<ModelType>(&text).map_err(|error| Error::Parse {
                path: dir.join(MODEL_TYPE),
                message: format!("not a model type: {error}"),
            })
        });
        let kind = match model_type {
            Ok(found) => PackageKind { task: found.project_task_type, model_type: found.model_type },
            Err(error) => {
                faults.push(error);
                PackageKind { task: String::new(), model_type: String::new() }
            }
        };
        let environment = reader.text(ENVIRONMENT).and_then(|text| Environment::parse(&text, &dir.join(ENVIRONMENT)));
        faults.extend(environment.err());
        if kind.task != "classification" {
            faults.extend(reader.text(CLASS_NAMES).err());
        }
        faults.extend(reader.inside(kind.weights_file()).and_then(|path| Weights::map(&path)).err());
        faults
    }

    /// A package whose files are part of this binary.
    ///
    /// # Errors
    /// As for one on disk: a text that does not parse.
    pub fn embedded(
        id: &str,
        model_type: &str,
        environment: &str,
        class_names: &str,
        network: &'static [u8],
    ) -> Result<Self, Error> {
        let dir = PathBuf::from("(embedded)").join(id);
        let model_type: ModelType = serde_json::from_str(model_type)
            .map_err(|error| Error::Parse { path: dir.join(MODEL_TYPE), message: error.to_string() })?;
        let kind = PackageKind { task: model_type.project_task_type, model_type: model_type.model_type };
        let weights = Weights::embedded("(embedded)/weights.onnx", network);
        Self::assemble(id.into(), &dir, kind, environment, Some(class_names), weights)
    }

    fn assemble(
        id: String,
        dir: &Path,
        kind: PackageKind,
        environment: &str,
        class_names: Option<&str>,
        weights: Weights,
    ) -> Result<Self, Error> {
        let path = dir.join(ENVIRONMENT);
        let environment = Environment::parse(environment, &path)?;
        let class_names = match class_names {
            Some(text) => text.lines().map(|line| line.trim().to_owned()).collect(),
            None => environment.class_map.clone(),
        };
        if class_names.is_empty() {
            return Err(Error::Parse { path: dir.join(CLASS_NAMES), message: "names no class".into() });
        }
        let colors = class_names.iter().enumerate().map(|(i, name)| environment.color(i, name)).collect();
        let layout = Layout::Classic { preprocessing: environment.preprocessing, multiclass: environment.multiclass };
        Ok(Self { id, dir: dir.into(), kind, layout, class_names, colors, keypoints: Vec::new(), weights })
    }
}

impl PackageKind {
    /// The name of the weights file (SPEC §1.2).
    #[must_use]
    pub fn weights_file(&self) -> &'static str {
        let is = |prefix: &str| self.model_type.starts_with(prefix);
        match self.task.as_str() {
            "object-detection" | "instance-segmentation" if is("yolov5") => "yolov5s_weights.onnx",
            "classification" if is("vit") || is("resnet") => "best.onnx",
            _ => "weights.onnx",
        }
    }
}

/// The id a directory says it belongs to, if its `model_type.json` can be read and says so.
pub(super) fn owner(dir: &Path) -> Option<String> {
    let text = std::fs::read_to_string(dir.join(MODEL_TYPE)).ok()?;
    serde_json::from_str::<ModelType>(&text).ok()?.model_id
}

/// Whether a directory holds at least one file that only a model directory has.
pub(super) fn is_model_directory(dir: &Path) -> bool {
    [MODEL_TYPE, ENVIRONMENT, CLASS_NAMES, "weights.onnx"].iter().any(|file| dir.join(file).symlink_metadata().is_ok())
}

/// SPEC §1.2: a stated owner must be the id exactly; a directory without an owner belongs to the id it is named for.
fn checked_owner(dir: &Path, own_id: &str, owner: Option<String>, asked: Option<&ModelId>) -> Result<String, Error> {
    let Some(asked) = asked else { return Ok(owner.unwrap_or_else(|| own_id.into())) };
    let owner = owner.unwrap_or_else(|| own_id.into());
    if owner != asked.as_str() {
        return Err(Error::Owner { dir: dir.into(), owner, id: asked.as_str().into() });
    }
    Ok(owner)
}

/// Reads files of one directory that may not lead out of the cache root.
struct Reader<'a> {
    root: &'a Path,
    dir: &'a Path,
}

impl Reader<'_> {
    /// The path of a file that exists, and whose links, if any, end below the root.
    fn inside(&self, file: &str) -> Result<PathBuf, Error> {
        let path = self.dir.join(file);
        let target = path.canonicalize().map_err(|cause| self.missing_or(file, cause))?;
        let root = self.root.canonicalize().map_err(|cause| Error::Read { path: self.root.into(), cause })?;
        if !target.starts_with(&root) {
            return Err(Error::Escapes { path, target, root });
        }
        Ok(path)
    }

    fn text(&self, file: &str) -> Result<String, Error> {
        let path = self.inside(file)?;
        let read = |cause| Error::Read { path: path.clone(), cause };
        let metadata = std::fs::metadata(&path).map_err(read)?;
        if !metadata.is_file() {
            return Err(read(std::io::Error::other("not a regular file")));
        }
        if metadata.len() > TEXT_BYTES_MAX {
            return Err(Error::TooLarge { path, bytes: metadata.len(), limit: TEXT_BYTES_MAX });
        }
        std::fs::read_to_string(&path).map_err(read)
    }

    fn missing_or(&self, file: &str, cause: std::io::Error) -> Error {
        match cause.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => Error::Missing {
                id: self.dir.strip_prefix(self.root).unwrap_or(self.dir).to_string_lossy().into_owned(),
                dir: self.dir.into(),
                file: file.into(),
                nearest: String::new(),
            },
            _ => Error::Read { path: self.dir.join(file), cause },
        }
    }
}
