//! The classic layout: `{root}/{model id}/` with `model_type.json`, `environment.json`, names and weights (SPEC §1.2).
//!
//! It records no digests, so nothing here can tell whether a file is what was downloaded; only that it parses.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::environment::Environment;
use super::json::NAME_BYTES_MAX;
use super::reader::Reader;
use super::{Error, Layout, ModelId, Package, PackageKind, Weights, keypoints};

const MODEL_TYPE: &str = "model_type.json";
const ENVIRONMENT: &str = "environment.json";
const CLASS_NAMES: &str = "class_names.txt";
const KEYPOINTS: &str = "keypoints_metadata.json";

#[derive(Deserialize)]
struct ModelType {
    project_task_type: String,
    model_type: Option<String>,
    model_id: Option<String>,
}

/// The text files of a package.
pub(super) struct Texts {
    pub kind: PackageKind,
    pub environment: String,
    pub class_names: Option<String>,
    pub keypoints: Option<String>,
}

/// Reads the package in `dir` of the cache at `root`; `id` is what was asked for, `None` when listing.
pub(super) fn read(root: &Path, dir: &Path, id: Option<&ModelId>) -> Result<Package, Error> {
    let reader = Reader { root, dir };
    let model_type = model_type(&reader.text(MODEL_TYPE)?, dir)?;
    let own_id = dir.strip_prefix(root).unwrap_or(dir).to_string_lossy().into_owned();
    let id = checked_owner(dir, &own_id, model_type.model_id.clone(), id)?;
    let kind = model_type.kind();
    let environment = reader.text(ENVIRONMENT)?;
    let texts = Texts {
        class_names: required(&kind, CLASS_NAMES).then(|| reader.text(CLASS_NAMES)).transpose()?,
        keypoints: required(&kind, KEYPOINTS).then(|| reader.text(KEYPOINTS)).transpose()?,
        kind,
        environment,
    };
    let weights = Weights::map(&reader.inside(texts.kind.weights_file())?)?;
    texts.assemble(id, dir, weights)
}

/// Everything that is wrong with the files of the package in `dir`: each is looked at, also after a fault.
pub(super) fn faults(root: &Path, dir: &Path) -> Vec<Error> {
    let reader = Reader { root, dir };
    let mut faults: Vec<Error> = Vec::new();
    let kind = match reader.text(MODEL_TYPE).and_then(|text| kind(&text, dir)) {
        Ok(kind) => kind,
        Err(error) => {
            faults.push(error);
            PackageKind { task: String::new(), model_type: String::new() }
        }
    };
    let environment = reader.text(ENVIRONMENT).and_then(|text| Environment::parse(&text, &dir.join(ENVIRONMENT)));
    faults.extend(environment.err());
    if required(&kind, CLASS_NAMES) {
        faults.extend(reader.text(CLASS_NAMES).err());
    }
    if required(&kind, KEYPOINTS) {
        let points = reader.text(KEYPOINTS).and_then(|text| keypoints::parse(&text, &dir.join(KEYPOINTS), false));
        faults.extend(points.err());
    }
    faults.extend(reader.inside(kind.weights_file()).and_then(|path| Weights::map(&path)).err());
    faults
}

/// Task and type from the text of `model_type.json` in `dir` (named in errors only).
pub(super) fn kind(text: &str, dir: &Path) -> Result<PackageKind, Error> {
    Ok(model_type(text, dir)?.kind())
}

/// Task and type of the package in `dir`, if they can be read.
pub(super) fn kind_of(root: &Path, dir: &Path) -> Option<PackageKind> {
    kind(&Reader { root, dir }.text(MODEL_TYPE).ok()?, dir).ok()
}

/// The id a directory says it belongs to, if its `model_type.json` can be read and says so.
pub(super) fn owner(root: &Path, dir: &Path) -> Option<String> {
    model_type(&Reader { root, dir }.text(MODEL_TYPE).ok()?, dir).ok()?.model_id
}

/// Where a model's package lies: today's directory, or an older version's that states the id as its owner.
pub(super) fn directory(root: &Path, id: &ModelId) -> PathBuf {
    let current = root.join(id.directory());
    let is_owned = |dir: &PathBuf| owner(root, dir).as_deref() == Some(id.as_str());
    if is_owned(&current) {
        return current;
    }
    let legacy = id.legacy_directories().into_iter().map(|directory| root.join(directory)).find(is_owned);
    legacy.unwrap_or(current)
}

/// Whether a directory holds at least one file that only a model directory has.
pub(super) fn is_model_directory(dir: &Path) -> bool {
    has(dir, MODEL_TYPE) || has_more_than_a_type(dir)
}

/// The default engine, too, writes a `model_type.json`, and nothing else beside it.
pub(super) fn has_more_than_a_type(dir: &Path) -> bool {
    [ENVIRONMENT, CLASS_NAMES, "weights.onnx"].iter().any(|file| has(dir, file))
}

fn has(dir: &Path, file: &str) -> bool {
    dir.join(file).symlink_metadata().is_ok()
}

/// Whether the classic engine requires a file for a task. Names of a classifier come from `CLASS_MAP`.
fn required(kind: &PackageKind, file: &str) -> bool {
    match file {
        CLASS_NAMES => kind.task != "classification",
        _ => kind.task == "keypoint-detection",
    }
}

fn model_type(text: &str, dir: &Path) -> Result<ModelType, Error> {
    let fail = |error: &dyn Display| Error::parse(&dir.join(MODEL_TYPE), format_args!("not a model type: {error}"));
    let read: ModelType = serde_json::from_str(text).map_err(|error| fail(&error))?;
    let names = [Some(&read.project_task_type), read.model_type.as_ref(), read.model_id.as_ref()];
    match names.into_iter().flatten().map(String::len).max() {
        Some(bytes) if bytes > NAME_BYTES_MAX => Err(fail(&format_args!("a name of {bytes} bytes"))),
        _ => Ok(read),
    }
}

impl ModelType {
    fn kind(self) -> PackageKind {
        PackageKind::new(self.project_task_type, self.model_type.unwrap_or_default())
    }
}

/// SPEC §1.2: a stated owner must be the id exactly; a directory without an owner belongs to the id it is named for.
fn checked_owner(dir: &Path, own_id: &str, owner: Option<String>, asked: Option<&ModelId>) -> Result<String, Error> {
    let owner = owner.unwrap_or_else(|| own_id.into());
    match asked {
        Some(asked) if owner != asked.as_str() => {
            Err(Error::Owner { dir: dir.into(), file: MODEL_TYPE, owner, id: asked.as_str().into() })
        }
        _ => Ok(owner),
    }
}

/// Names, one a line, without the white space around them and without empty lines.
pub(super) fn class_names(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

impl Texts {
    pub fn assemble(self, id: String, dir: &Path, weights: Weights) -> Result<Package, Error> {
        let environment = Environment::parse(&self.environment, &dir.join(ENVIRONMENT))?;
        let (class_names, file) = match &self.class_names {
            Some(text) => (class_names(text), CLASS_NAMES),
            None => (environment.class_map.clone(), ENVIRONMENT),
        };
        if class_names.is_empty() {
            return Err(Error::parse(&dir.join(file), "names no class"));
        }
        let keypoints = match &self.keypoints {
            Some(text) => keypoints::parse(text, &dir.join(KEYPOINTS), false)?,
            None => Vec::new(),
        };
        let colors = class_names.iter().enumerate().map(|(i, name)| environment.color(i, name)).collect();
        let layout = Layout::Classic { preprocessing: environment.preprocessing, multiclass: environment.multiclass };
        let (dir, prebuilt, lease) = (dir.into(), Vec::new(), None);
        Ok(Package { id, dir, kind: self.kind, layout, class_names, colors, keypoints, weights, prebuilt, lease })
    }
}
