//! The files of a package, for who copies it into another cache.

use std::path::{Path, PathBuf};

use super::manifest::{MANIFEST, Manifest};
use super::reader::{BLOBS, Reader, blob_name};
use super::{Cache, Error, Layout, Package, models_cache, record};

/// Most files of one directory: a package has some ten.
const FILES_MAX: usize = 1000;

/// A file below the root of a cache, and where its content lies.
pub type Located = (String, PathBuf);

impl Cache {
    /// Every file that a package needs, by its place in a cache without links: what the models-cache keeps under its MD5 is
    /// there once, and the packages' manifests lead to it.
    ///
    /// # Errors
    /// A file cannot be found, or leads out of the cache.
    pub fn files(&self, package: &Package) -> Result<Vec<Located>, Error> {
        let root = self.root();
        let (mut dirs, mut files) = (vec![package.dir.clone()], Vec::new());
        if let (Layout::ModelsCache(_), Some(model)) = (&package.layout, package.dir.parent()) {
            dirs.extend(package.prebuilt.iter().map(|of| model.join(&of.package_id)));
            let slug = model.file_name().unwrap_or_default().to_string_lossy();
            let name = format!("{}/{slug}.json", record::REGISTRY);
            // It only helps: a model loads without it.
            files.extend(Reader { root, dir: root }.inside(&name).ok().map(|path| (name, path)));
        }
        for dir in &dirs {
            files.extend(of_directory(root, dir)?);
        }
        Ok(files)
    }
}

fn of_directory(root: &Path, dir: &Path) -> Result<Vec<Located>, Error> {
    let reader = Reader { root, dir };
    let below = dir.strip_prefix(root).unwrap_or(dir).to_string_lossy().into_owned();
    let manifest = reader.text(MANIFEST).ok().and_then(|text| Manifest::parse(&text, &dir.join(MANIFEST)).ok());
    let manifest = manifest.filter(|_| below.starts_with(models_cache::FOLDER)).unwrap_or_default();
    let mut names: Vec<String> = manifest.artifacts.iter().map(|artifact| artifact.file.clone()).collect();
    let read = |cause| Error::Read { path: dir.into(), cause };
    for entry in std::fs::read_dir(dir).map_err(read)?.take(FILES_MAX) {
        let entry = entry.map_err(read)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // Locks and half-written files of other programs; folders of other packages.
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        if !name.starts_with('.') && !name.ends_with(".lock") && (is_link || entry.path().is_file()) {
            names.push(name);
        }
    }
    names.sort();
    names.dedup();
    let locate = |name: &String| {
        let md5 = manifest.md5(name);
        let path = reader.blob(name, md5)?;
        let linked = std::fs::read_link(dir.join(name)).ok().and_then(|target| blob_name(&target));
        // Without the link only the manifest's digest leads to the content.
        let place = match (linked, md5) {
            (Some(blob), Some(_)) => format!("{BLOBS}/{blob}"),
            (None, Some(md5)) if path.ends_with(Path::new(BLOBS).join(md5)) => format!("{BLOBS}/{md5}"),
            _ => format!("{below}/{name}"),
        };
        Ok((place, path))
    };
    names.iter().map(locate).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use serde_json::json;

    use super::*;
    use crate::cache::{ModelId, digest};

    const CONFIG: &str = r#"{"image_pre_processing": {}, "network_input": {
        "training_input_size": {"height": 64, "width": 64}, "dynamic_spatial_size_supported": false,
        "color_mode": "rgb", "resize_mode": "stretch", "input_channels": 3, "scaling_factor": 255},
        "forward_pass": {"static_batch_size": 1}, "post_processing": {"type": "nms", "fused": false}}"#;

    /// Copies files to where they are said to belong.
    fn copy(files: &[Located]) -> tempfile::TempDir {
        let to = tempfile::tempdir().unwrap();
        for (place, path) in files {
            let place = to.path().join(place);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::copy(path, place).unwrap();
        }
        to
    }

    #[test]
    fn a_models_cache_without_links_is_the_same_cache() {
        for listed in [true, false] {
            let root = tempfile::tempdir().unwrap();
            let id = ModelId::parse("my-project/3").unwrap();
            let dir = root.path().join("models-cache").join(id.models_cache_slug()).join("abc1");
            fs::create_dir_all(&dir).unwrap();
            fs::create_dir(root.path().join(BLOBS)).unwrap();
            let mut artifacts = Vec::new();
            for (name, bytes) in [
                ("weights.onnx", b"network".as_slice()),
                ("class_names.txt", b"a"),
                ("inference_config.json", CONFIG.as_bytes()),
            ] {
                let md5 = digest::md5(bytes);
                let blob = root.path().join(BLOBS).join(&md5);
                fs::write(&blob, bytes).unwrap();
                symlink(Path::new("/elsewhere/shared-blobs").join(&md5), dir.join(name)).unwrap();
                artifacts.push(json!({"file_handle": name, "md5_hash": md5}));
            }
            let artifacts = if listed { artifacts } else { Vec::new() };
            let manifest = json!({"model_architecture": "yolov8", "task_type": "object-detection",
                "model_id": id.as_str(), "backend_type": "onnx", "package_artifacts": artifacts});
            fs::write(dir.join(MANIFEST), manifest.to_string()).unwrap();
            fs::write(dir.join(".x.lock"), "").unwrap();

            let cache = Cache::at(root.path());
            let files = cache.files(&cache.open(&id).unwrap()).unwrap();
            assert_eq!(files.len(), 4, "{files:?}");
            assert_eq!(files.iter().filter(|(place, _)| place.starts_with(BLOBS)).count(), if listed { 3 } else { 0 });
            let copied = copy(&files);
            assert_eq!(Cache::at(copied.path()).open(&id).unwrap().weights.bytes(), b"network");
        }
    }
}
