//! The models-cache layout: `{root}/models-cache/v2-{slug}-{hash}/{package id}/`, a manifest a package, the content of
//! its files in `shared-blobs` (SPEC §1.3).
//!
//! Every file that is used is checked against the MD5 that its manifest states, the weights too, each time a package
//! is opened: hashing costs 1.5 ms a megabyte on a x86-64 core, a small part of what loading a network takes, and is
//! the one thing that tells a worn flash from a bad model.

use std::path::{Path, PathBuf};

use super::choice::{self, Host, PassedOver};
use super::manifest::{MANIFEST, Manifest};
use super::reader::{Reader, blob_name};
use super::record::{Record, RecordedPackage};
use super::{
    Entry, Error, InferenceConfig, Layout, LayoutKind, ModelId, ModelsCache, PALETTE, Package, PackageKind, Weights,
    classic, digest, id, keypoints, subdirectories,
};

/// Below the cache root.
pub(super) const FOLDER: &str = "models-cache";

const INFERENCE_CONFIG: &str = "inference_config.json";
const CLASS_NAMES: &str = "class_names.txt";
const KEYPOINTS: &str = "keypoints_metadata.json";
const WEIGHTS: &str = "weights.onnx";

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

/// Opens the package of a model that a host runs best; `None` when no package of it is there.
pub(super) fn choose(root: &Path, id: &ModelId, host: &Host) -> Option<Outcome> {
    let slug = id.models_cache_slug();
    let (slug, record) = match root.join(FOLDER).join(&slug).is_dir() {
        true => (slug.clone(), Record::read(root, &slug)),
        // A name of the model's own, besides those that every version knows.
        false => {
            let record = Record::of_alias(root, id.as_str())?;
            (id::models_cache_slug(&record.model_id), Some(record))
        }
    };
    let model_id = record.as_ref().map_or(id.as_str(), |record| record.model_id.as_str()).to_owned();
    let found = candidates(root, &slug);
    if found.is_empty() {
        return None;
    }
    let mut passed_over = absent(record.as_ref(), &found);
    let recorded = |package_id: &str| record.as_ref().and_then(|record| record.package(package_id));
    let mut runnable = Vec::new();
    let mut last_error = None;
    for Candidate { package_id, dir, manifest } in found {
        let unusable = match manifest {
            Err(error) => (Manifest::default(), error.to_string(), Some(error)),
            Ok(manifest) => match choice::obstacle(&manifest, recorded(&package_id), host) {
                None => {
                    runnable.push((package_id, dir, manifest));
                    continue;
                }
                Some(why) => (manifest, why, None),
            },
        };
        let (manifest, why, error) = unusable;
        last_error = error.or(last_error);
        passed_over.push(passed(package_id, &manifest, why));
    }
    runnable
        .sort_by_cached_key(|(package_id, _, manifest)| choice::rank(manifest, recorded(package_id), package_id, host));
    let mut chosen: Option<Package> = None;
    for (package_id, dir, manifest) in runnable {
        let why = match &chosen {
            Some(chosen) => format!("{} is preferred", package_id_of(chosen)),
            None => match read(root, &dir, &package_id, &manifest, record.as_ref(), Some(&model_id)) {
                Ok(package) => {
                    chosen = Some(package);
                    continue;
                }
                Err(error) => {
                    let why = error.to_string();
                    last_error = Some(error);
                    why
                }
            },
        };
        passed_over.push(passed(package_id, &manifest, why));
    }
    let package = chosen.ok_or_else(|| {
        let tried: Vec<&PassedOver> = passed_over.iter().filter(|passed| !passed.why.starts_with(NOT_HERE)).collect();
        match (last_error, tried.as_slice()) {
            // One package that is broken: its own message says all.
            (Some(error), [_]) => error,
            _ => {
                let reasons: Vec<String> =
                    passed_over.iter().map(|passed| format!("{}: {}", passed.package_id, passed.why)).collect();
                Error::NoPackage { id: model_id, dir: root.join(FOLDER).join(&slug), reasons: reasons.join("; ") }
            }
        }
    });
    Some(Outcome { package, passed_over })
}

/// How the reason of a package begins that Roboflow offers and that was never downloaded.
const NOT_HERE: &str = "not in the cache";

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

fn package_id_of(package: &Package) -> &str {
    match &package.layout {
        Layout::ModelsCache(layout) => &layout.package_id,
        Layout::Classic { .. } => "classic",
    }
}

/// Every package of every model, one entry each.
pub(super) fn entries(root: &Path, host: &Host) -> Vec<Entry> {
    let mut entries = Vec::new();
    for model in subdirectories(&root.join(FOLDER)) {
        let slug = name_of(&model);
        let record = Record::read(root, &slug);
        for candidate in candidates(root, &slug) {
            entries.push(entry(root, &slug, candidate, record.as_ref(), host));
        }
    }
    entries
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

/// Everything that is wrong with the files of the package in `dir`: each is looked at, also after a fault.
pub(super) fn faults(root: &Path, dir: &Path) -> Vec<Error> {
    let reader = Reader { root, dir };
    let manifest = match reader.text(MANIFEST).and_then(|text| Manifest::parse(&text, &dir.join(MANIFEST))) {
        Ok(manifest) => manifest,
        Err(error) => return vec![error],
    };
    let mut faults = Vec::new();
    for artifact in &manifest.artifacts {
        let digests = reader.blob(&artifact.file, artifact.md5.as_deref()).and_then(|path| {
            let digests = digest::of_file(&path).map_err(|cause| Error::Read { path: path.clone(), cause })?;
            Ok((path, digests))
        });
        match digests {
            Err(error) => faults.push(error),
            Ok((path, (md5, sha256))) => {
                let expected = [(&artifact.md5, md5), (&artifact.sha256, sha256)];
                faults.extend(expected.into_iter().filter_map(|(expected, found)| {
                    let expected = expected.clone().filter(|expected| *expected != found)?;
                    Some(Error::Digest { path: path.clone(), expected, found })
                }));
            }
        }
    }
    // A manifest older than the list of files: the blobs' names still tell.
    for file in [INFERENCE_CONFIG, CLASS_NAMES, KEYPOINTS, WEIGHTS] {
        let link = std::fs::read_link(dir.join(file)).ok().and_then(|target| blob_name(&target));
        if let (None, Some(expected)) = (manifest.md5(file), link) {
            match reader.blob(file, Some(&expected)).map(|path| (digest::of_file(&path), path)) {
                Ok((Ok((found, _)), path)) if found != expected => {
                    faults.push(Error::Digest { path, expected, found });
                }
                Ok((Err(cause), path)) => faults.push(Error::Read { path, cause }),
                Ok(_) => {}
                Err(error) => faults.push(error),
            }
        }
    }
    faults
}

/// The directories of a model's packages, sorted. What is not named like a package is none.
fn candidates(root: &Path, slug: &str) -> Vec<Candidate> {
    let is_package_id = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric());
    let directories = subdirectories(&root.join(FOLDER).join(slug));
    let named = directories.into_iter().map(|dir| (name_of(&dir), dir)).filter(|(name, _)| is_package_id(name));
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
        return Err(Error::Parse { path: dir.join(CLASS_NAMES), message: "names no class".into() });
    }
    let kind = manifest.kind();
    let keypoints = match kind.task.as_str() {
        "keypoint-detection" => keypoints::parse(&text(KEYPOINTS)?, &dir.join(KEYPOINTS), true)?,
        _ => Vec::new(),
    };
    let weights = Weights::map(&reader.blob(WEIGHTS, manifest.md5(WEIGHTS))?)?;
    if let Some(expected) = manifest.md5(WEIGHTS) {
        let found = digest::md5(weights.bytes());
        if found != expected {
            return Err(Error::Digest { path: weights.path().into(), expected: expected.into(), found });
        }
    }
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
