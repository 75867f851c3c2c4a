//! The models-cache layout: `{root}/models-cache/v2-{slug}-{hash}/{package id}/`, a manifest a package, the content of
//! its files in `shared-blobs` (SPEC §1.3).
//!
//! Every file that is used is checked against the MD5 that its manifest states, the weights too, each time a package
//! is opened. Manifests state no sizes, and a worn flash keeps them anyway, so there is no cheaper check that means
//! something. Measured on a x86-64 core: 2.3 ms a megabyte, 0.1 s for 45 MB of YOLOv8s, whose load and first inference
//! take 1.9 s.

use std::path::{Path, PathBuf};

use super::choice::{self, Host, PassedOver};
use super::manifest::{Artifact, MANIFEST, Manifest};
use super::reader::{Reader, blob_name};
use super::record::{Record, RecordedPackage};
use super::{
    Entry, Error, InferenceConfig, Layout, LayoutKind, ModelId, ModelsCache, PALETTE, Package, PackageKind, classic,
    digest, id, keypoints, prebuilt, subdirectories,
};

/// Below the cache root.
pub(crate) const FOLDER: &str = "models-cache";

const INFERENCE_CONFIG: &str = "inference_config.json";
const CLASS_NAMES: &str = "class_names.txt";
const KEYPOINTS: &str = "keypoints_metadata.json";
const WEIGHTS: &str = "weights.onnx";

/// Most packages whose reasons one message gives; `probe` gives all.
const REASONS_MAX: usize = 8;

/// What became of the packages of one model.
pub(super) struct Outcome {
    pub package: Result<Package, Error>,
    pub passed_over: Vec<PassedOver>,
}

/// One directory of a package, with its manifest.
struct Candidate {
    package_id: String,
    dir: PathBuf,
    manifest: Result<Manifest, Error>,
}

/// A package that a host can run.
struct Runnable {
    package_id: String,
    dir: PathBuf,
    manifest: Manifest,
}

/// Opens the package of a model that a host runs best; `None` when no package of it is there.
pub(super) fn choose(root: &Path, id: &ModelId, host: &Host) -> Option<Outcome> {
    let (slug, record) = locate(root, id)?;
    let found = candidates(root, &slug);
    if found.is_empty() {
        return None;
    }
    let model_id = record.as_ref().map_or(id.as_str(), |record| record.model_id.as_str());
    let mut passed_over = absent(record.as_ref(), &found);
    let mut errors = Vec::new();
    let runnable = sieve(found, record.as_ref(), host, &mut passed_over, &mut errors);
    let (engines, runnable): (Vec<_>, Vec<_>) =
        runnable.into_iter().partition(|package| package.manifest.backend == choice::TENSORRT);
    let mut chosen: Option<Package> = None;
    for Runnable { package_id, dir, manifest } in runnable {
        let why = match &chosen {
            Some(chosen) => format!("{} is preferred", name_of(&chosen.dir)),
            None => match read(root, &dir, &package_id, &manifest, record.as_ref(), Some(model_id)) {
                Ok(package) => {
                    chosen = Some(package);
                    continue;
                }
                Err(error) => {
                    let why = error.to_string();
                    errors.push(error);
                    why
                }
            },
        };
        passed_over.push(passed(package_id, &manifest, why));
    }
    attach(root, chosen.as_mut(), engines, &mut passed_over);
    let package = chosen.ok_or_else(|| {
        let here = passed_over.iter().filter(|passed| !passed.why.starts_with(NOT_HERE)).count();
        match errors.pop() {
            // One package that is broken: its own message says all.
            Some(error) if here == 1 => error,
            _ => {
                let reasons = passed_over.iter().map(|passed| format!("{}: {}", passed.package_id, passed.why));
                let reasons: Vec<String> = reasons.take(REASONS_MAX).collect();
                let dir = root.join(FOLDER).join(&slug);
                Error::NoPackage { id: model_id.into(), dir, reasons: reasons.join("; ") }
            }
        }
    });
    Some(Outcome { package, passed_over })
}

/// A package that is not here yet.
#[derive(Clone, Debug)]
pub struct Offered {
    pub package_id: String,
    /// What its `model_config.json` will say.
    pub model_config: serde_json::Value,
}

/// The package that a host would choose if all were here; `record` is what the registry would hold of the model.
///
/// # Errors
/// None would run; in words, the reason of each.
pub fn preferred(offered: &[Offered], record: &serde_json::Value, host: &Host) -> Result<String, String> {
    let record = Record::parse(&record.to_string());
    let candidate = |offered: &Offered| Candidate {
        package_id: offered.package_id.clone(),
        dir: PathBuf::new(),
        manifest: Manifest::parse(&offered.model_config.to_string(), Path::new(MANIFEST)),
    };
    let (mut passed_over, mut errors) = (Vec::new(), Vec::new());
    let found = offered.iter().map(candidate).collect();
    let runnable = sieve(found, record.as_ref(), host, &mut passed_over, &mut errors);
    runnable.into_iter().next().map(|package| package.package_id).ok_or_else(|| {
        let reasons = passed_over.iter().map(|passed| format!("{}: {}", passed.package_id, passed.why));
        format!("no package of it runs here: {}", reasons.take(REASONS_MAX).collect::<Vec<_>>().join("; "))
    })
}

/// Puts engines that may run here beside the package in ONNX; without one they are of no use.
fn attach(root: &Path, chosen: Option<&mut Package>, engines: Vec<Runnable>, passed_over: &mut Vec<PassedOver>) {
    let Some(chosen) = chosen else {
        let unused = engines.into_iter();
        passed_over.extend(unused.map(|of| passed(of.package_id, &of.manifest, "its engine could run here".into())));
        let here = passed_over.iter_mut().filter(|passed| !passed.why.starts_with(NOT_HERE));
        for passed in here.filter(|passed| passed.backend == choice::TENSORRT) {
            passed.why += NEEDS_ONNX;
        }
        return;
    };
    for Runnable { package_id, dir, manifest } in engines {
        match prebuilt::read(root, &dir, &package_id, &manifest) {
            Ok(engine) => chosen.prebuilt.push(engine),
            Err(error) => passed_over.push(passed(package_id, &manifest, error.to_string())),
        }
    }
}

/// The directory of a model and what the registry has of it; also by a name that only the model's record knows.
fn locate(root: &Path, id: &ModelId) -> Option<(String, Option<Record>)> {
    let slug = id.models_cache_slug();
    if root.join(FOLDER).join(&slug).is_dir() {
        let record = Record::read(root, &slug);
        return Some((slug, record));
    }
    let record = Record::of_alias(root, id.as_str())?;
    Some((id::models_cache_slug(&record.model_id), Some(record)))
}

/// The packages that a host can run, best first; the others are passed over with their reason.
fn sieve(
    found: Vec<Candidate>,
    record: Option<&Record>,
    host: &Host,
    passed_over: &mut Vec<PassedOver>,
    errors: &mut Vec<Error>,
) -> Vec<Runnable> {
    let recorded = |package_id: &str| record.and_then(|record| record.package(package_id));
    let mut runnable = Vec::new();
    for Candidate { package_id, dir, manifest } in found {
        match manifest {
            Err(error) => {
                passed_over.push(passed(package_id, &Manifest::default(), error.to_string()));
                errors.push(error);
            }
            Ok(manifest) => match choice::obstacle(&manifest, recorded(&package_id), host) {
                Some(why) => passed_over.push(passed(package_id, &manifest, why)),
                None => runnable.push(Runnable { package_id, dir, manifest }),
            },
        }
    }
    runnable.sort_by_cached_key(|package| {
        choice::rank(&package.manifest, recorded(&package.package_id), &package.package_id, host)
    });
    runnable
}

/// How the reason of a package begins that Roboflow offers and that was never downloaded.
const NOT_HERE: &str = "not in the cache";

/// What is wrong where a model has only engines of TensorRT.
const NEEDS_ONNX: &str =
    "; a package in ONNX is needed beside it, which judges its answers and stands in when the GPU fails";

fn absent(record: Option<&Record>, found: &[Candidate]) -> Vec<PassedOver> {
    let offered = record.map(|record| record.packages.as_slice()).unwrap_or_default();
    let absent = offered.iter().filter(|package| !found.iter().any(|here| here.package_id == package.package_id));
    absent
        .map(|package| PassedOver {
            layout: LayoutKind::ModelsCache,
            package_id: package.package_id.clone(),
            backend: package.backend.clone(),
            quantization: package.quantization.clone(),
            why: format!("{NOT_HERE}, its files were never downloaded"),
        })
        .collect()
}

fn passed(package_id: String, manifest: &Manifest, why: String) -> PassedOver {
    let (backend, quantization) = (manifest.backend.clone(), manifest.quantization.clone());
    PassedOver { layout: LayoutKind::ModelsCache, package_id, backend, quantization, why }
}

/// Every package of every model, one entry each.
pub(super) fn entries(root: &Path, host: &Host) -> Vec<Entry> {
    subdirectories(&root.join(FOLDER)).iter().flat_map(|model| entries_in(root, &name_of(model), host)).collect()
}

/// Every package of one model.
pub(super) fn entries_of(root: &Path, id: &ModelId, host: &Host) -> Vec<Entry> {
    entries_in(root, &id.models_cache_slug(), host)
}

fn entries_in(root: &Path, slug: &str, host: &Host) -> Vec<Entry> {
    let record = Record::read(root, slug);
    let entry = |candidate| entry(root, slug, candidate, record.as_ref(), host);
    candidates(root, slug).into_iter().map(entry).collect()
}

fn entry(root: &Path, slug: &str, candidate: Candidate, record: Option<&Record>, host: &Host) -> Entry {
    let Candidate { package_id, dir, manifest } = candidate;
    let stated = manifest.as_ref().ok().and_then(|manifest| manifest.model_id.clone());
    let id = stated.or(record.map(|record| record.model_id.clone())).unwrap_or_else(|| slug.into());
    let (package, known) = match manifest {
        Err(error) => (Err(error), None),
        Ok(manifest) => {
            let recorded: Option<&RecordedPackage> = record.and_then(|record| record.package(&package_id));
            let package = match choice::obstacle(&manifest, recorded, host) {
                Some(why) => Err(Error::NotForThisBoard { id: id.clone(), package_id: package_id.clone(), why }),
                None => read(root, &dir, &package_id, &manifest, record, None),
            };
            (package, Some(manifest))
        }
    };
    let known = known.unwrap_or_default();
    Entry {
        id,
        layout: LayoutKind::ModelsCache,
        kind: Some(known.kind()).filter(|kind| !kind.task.is_empty()),
        package_id,
        backend: known.backend,
        quantization: known.quantization,
        dir,
        package,
    }
}

/// Ids of the models that are there, cheaply.
pub(super) fn ids(root: &Path) -> Vec<String> {
    let models = subdirectories(&root.join(FOLDER));
    let manifests = models.iter().flat_map(|model| candidates(root, &name_of(model)));
    let mut ids: Vec<String> = manifests.filter_map(|candidate| candidate.manifest.ok()?.model_id).collect();
    ids.dedup();
    ids
}

/// Whether a model has a directory in this layout.
pub(super) fn has(root: &Path, id: &str) -> bool {
    root.join(FOLDER).join(id::models_cache_slug(id)).is_dir()
}

/// Everything that is wrong with the files of the package in `dir`: each is looked at, also after a fault. Of a package
/// that was `opened` just now the large ones have been checked already, as far as their MD5 goes.
pub(super) fn faults(root: &Path, dir: &Path, opened: bool) -> Vec<Error> {
    let reader = Reader { root, dir };
    let manifest = match reader.text(MANIFEST).and_then(|text| Manifest::parse(&text, &dir.join(MANIFEST))) {
        Ok(manifest) => manifest,
        Err(error) => return vec![error],
    };
    // Of files that the manifest does not list (older ones list none), the blobs' names still tell.
    let unlisted = [INFERENCE_CONFIG, CLASS_NAMES, KEYPOINTS, WEIGHTS].into_iter().filter_map(|file| {
        let link = std::fs::read_link(dir.join(file)).ok().filter(|_| manifest.md5(file).is_none())?;
        Some(Artifact { file: file.into(), md5: blob_name(&link), sha256: None })
    });
    let checked = |artifact: &&Artifact| {
        opened && artifact.file == WEIGHTS && artifact.md5.is_some() && artifact.sha256.is_none()
    };
    manifest
        .artifacts
        .iter()
        .filter(|artifact| !checked(artifact))
        .cloned()
        .chain(unlisted)
        .flat_map(|artifact| artifact_faults(&reader, &artifact))
        .collect()
}

fn artifact_faults(reader: &Reader<'_>, artifact: &Artifact) -> Vec<Error> {
    let path = match reader.blob(&artifact.file, artifact.md5.as_deref()) {
        Ok(path) => path,
        Err(error) => return vec![error],
    };
    let (md5, sha256) = match digest::of_file(&path) {
        Ok(digests) => digests,
        Err(cause) => return vec![Error::Read { path, cause }],
    };
    let stated = [(&artifact.md5, md5), (&artifact.sha256, sha256)];
    let differs = stated.into_iter().filter_map(|(stated, found)| {
        let expected = stated.clone().filter(|expected| *expected != found)?;
        Some(Error::Digest { path: path.clone(), expected, found })
    });
    differs.collect()
}

/// The directories of a model's packages, sorted. What is not named like a package is none.
pub(super) fn places(root: &Path, slug: &str) -> Vec<PathBuf> {
    let is_package_id = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric());
    let mut directories = subdirectories(&root.join(FOLDER).join(slug));
    directories.retain(|dir| is_package_id(&name_of(dir)));
    directories
}

/// What lies in the directories of a model's packages.
fn candidates(root: &Path, slug: &str) -> Vec<Candidate> {
    let named = places(root, slug).into_iter().map(|dir| (name_of(&dir), dir));
    named
        .map(|(package_id, dir)| {
            let text = Reader { root, dir: &dir }.text(MANIFEST);
            let manifest = text.and_then(|text| Manifest::parse(&text, &dir.join(MANIFEST)));
            let manifest = manifest.and_then(|manifest| match &manifest.model_id {
                Some(owner) if id::models_cache_slug(owner) != slug => {
                    Err(Error::Owner { dir: dir.clone(), file: MANIFEST, owner: owner.clone(), id: slug.into() })
                }
                _ => Ok(manifest),
            });
            Candidate { package_id, dir, manifest }
        })
        .collect()
}

/// Reads one package; `id` is the model's where it is known, else the manifest's counts.
fn read(
    root: &Path,
    dir: &Path,
    package_id: &str,
    manifest: &Manifest,
    record: Option<&Record>,
    id: Option<&str>,
) -> Result<Package, Error> {
    let reader = Reader { root, dir };
    for artifact in &manifest.artifacts {
        reader.blob(&artifact.file, artifact.md5.as_deref())?;
    }
    let text = |file: &str| reader.blob_text(file, manifest.md5(file));
    let mut config = InferenceConfig::parse(&text(INFERENCE_CONFIG)?, &dir.join(INFERENCE_CONFIG))?;
    config.static_batch = config.static_batch.or(manifest.static_batch.filter(|_| !manifest.dynamic_batch));
    let class_names = classic::class_names(&text(CLASS_NAMES)?);
    if class_names.is_empty() {
        return Err(Error::parse(&dir.join(CLASS_NAMES), "names no class"));
    }
    let kind = manifest.kind();
    let keypoints = match kind.task.as_str() {
        "keypoint-detection" => keypoints::parse(&text(KEYPOINTS)?, &dir.join(KEYPOINTS), true)?,
        _ => Vec::new(),
    };
    let weights = reader.blob_mapped(WEIGHTS, manifest.md5(WEIGHTS))?;
    let from_record = || record.and_then(|record| record.recommended(package_id)).cloned();
    let recommended = manifest.recommended.clone().or_else(from_record).unwrap_or_default();
    let id = id.or(manifest.model_id.as_deref()).or(record.map(|record| record.model_id.as_str()));
    Ok(Package {
        id: id.map_or_else(|| dir.parent().map(name_of).unwrap_or_default(), str::to_owned),
        dir: dir.into(),
        kind,
        layout: Layout::ModelsCache(Box::new(ModelsCache {
            package_id: package_id.into(),
            backend: manifest.backend.clone(),
            quantization: manifest.quantization.clone(),
            config,
            recommended,
        })),
        colors: (0..class_names.len()).map(|class| PALETTE[class % PALETTE.len()]).collect(),
        class_names,
        keypoints,
        weights,
        prebuilt: Vec::new(),
        lease: None,
    })
}

impl Manifest {
    fn kind(&self) -> PackageKind {
        PackageKind { task: self.task.clone(), model_type: self.architecture.clone() }
    }
}

fn name_of(dir: &Path) -> String {
    dir.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
