//! Engines of TensorRT that Roboflow's tools built ahead of time: packages with backend `trt` that lie beside one in ONNX
//! (SPEC §1.3).
//!
//! Only what is needed to load the engine is read here. How pictures become its input and its outputs become answers is
//! said by the package in ONNX, which it is compared with before it is trusted.

use std::ops::RangeInclusive;
use std::path::Path;

use super::inference_config::BATCH_MAX;
use super::json::{Object, object};
use super::manifest::Manifest;
use super::reader::Reader;
use super::{Error, Weights};

const ENGINE: &str = "engine.plan";
const CONFIG: &str = "trt_config.json";

/// Largest engine that is used: whoever loads it holds it twice for a moment, and the largest model served is a third of it.
const ENGINE_BYTES_MAX: u64 = 1 << 30;

/// An engine whose recorded requirements this machine meets.
#[derive(Debug)]
pub struct Prebuilt {
    pub package_id: String,
    /// `fp32`, `fp16`, or `unknown`.
    pub quantization: String,
    /// Images that it takes at once.
    pub batch: RangeInclusive<usize>,
    pub engine: Weights,
}

/// Reads the package in `dir`.
pub(super) fn read(root: &Path, dir: &Path, package_id: &str, manifest: &Manifest) -> Result<Prebuilt, Error> {
    let reader = Reader { root, dir };
    for artifact in &manifest.artifacts {
        reader.blob(&artifact.file, artifact.md5.as_deref())?;
    }
    let batch = batch(&reader.blob_text(CONFIG, manifest.md5(CONFIG))?, &dir.join(CONFIG))?;
    let path = reader.blob(ENGINE, manifest.md5(ENGINE))?;
    let bytes = std::fs::metadata(&path).map_err(|cause| Error::Read { path: path.clone(), cause })?.len();
    if bytes > ENGINE_BYTES_MAX {
        return Err(Error::TooLarge { path, bytes, limit: ENGINE_BYTES_MAX });
    }
    let engine = reader.blob_mapped(ENGINE, manifest.md5(ENGINE))?;
    Ok(Prebuilt { package_id: package_id.into(), quantization: manifest.quantization.clone(), batch, engine })
}

/// Images that an engine takes at once, by `trt_config.json`; keys that are not known here are passed over.
fn batch(text: &str, path: &Path) -> Result<RangeInclusive<usize>, Error> {
    let root = object(text, path)?;
    let root = Object::new(&root, "");
    let count = |key: &str| root.count(key, BATCH_MAX).map_err(|message| Error::parse(path, message));
    if let Some(fixed) = count("static_batch_size")? {
        return Ok(fixed..=fixed);
    }
    match (count("dynamic_batch_size_min")?, count("dynamic_batch_size_max")?) {
        (Some(min), Some(max)) if min <= max => Ok(min..=max),
        _ => Err(Error::parse(
            path,
            "expected static_batch_size, or dynamic_batch_size_min and a dynamic_batch_size_max that is not smaller",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use std::sync::{Arc, LazyLock};

    use serde_json::json;

    use super::*;
    use crate::cache::{Cache, Choice, Cuda, Host, ModelId, digest};

    const ID: &str = "my-project/3";
    const PLAN: &[u8] = b"an engine";
    const STATIC: &str = r#"{"static_batch_size": 1}"#;

    /// A cache with one model: packages with these backends, all on record as built for an Orin with TensorRT 10.3.
    struct Laid {
        root: tempfile::TempDir,
        model: PathBuf,
    }

    impl Laid {
        fn with(packages: &[(&str, &str, &str)]) -> Self {
            let root = tempfile::tempdir().unwrap();
            let slug = ModelId::parse(ID).unwrap().models_cache_slug();
            let model = root.path().join("models-cache").join(&slug);
            let laid = Self { root, model };
            let mut recorded = Vec::new();
            for (package_id, backend, quantization) in packages {
                laid.package(package_id, backend, quantization);
                recorded.push(json!({"package_id": package_id, "backend": backend, "quantization": quantization,
                    "environment_requirements": {"kind": "jetson", "cuda_device_cc": "8.7", "cuda_device_name": "orin",
                    "l4t_version": "36.3.0", "trt_version": "10.3.0.30"}}));
            }
            let registry = laid.root.path().join("offline-weights-registry");
            fs::create_dir(&registry).unwrap();
            let record = json!({"canonical_model_id": ID, "packages": recorded});
            fs::write(registry.join(format!("{slug}.json")), record.to_string()).unwrap();
            laid
        }

        fn package(&self, package_id: &str, backend: &str, quantization: &str) {
            let dir = self.model.join(package_id);
            fs::create_dir_all(&dir).unwrap();
            let write = |file: &str, bytes: &[u8]| fs::write(dir.join(file), bytes).unwrap();
            let (file, bytes) = if backend == "trt" { (ENGINE, PLAN) } else { ("weights.onnx", &b"a network"[..]) };
            let artifacts = [json!({"file_handle": file, "md5_hash": digest::md5(bytes)})];
            let manifest = json!({"model_architecture": "yolov8", "task_type": "object-detection", "model_id": ID,
                "backend_type": backend, "quantization": quantization, "package_artifacts": artifacts});
            write("model_config.json", manifest.to_string().as_bytes());
            write(file, bytes);
            write("class_names.txt", b"circle");
            write("inference_config.json", CONFIG_OF_PICTURES.as_bytes());
            write(CONFIG, STATIC.as_bytes());
        }

        fn file(&self, package_id: &str, file: &str) -> PathBuf {
            self.model.join(package_id).join(file)
        }

        fn choose(&self, host: &Host) -> Result<Choice, Error> {
            Cache::at(self.root.path()).choose(&ModelId::parse(ID).unwrap(), None, host)
        }

        /// Why the package `trt1` is passed over on an Orin.
        fn why(&self) -> String {
            let choice = self.choose(&host("8.7", "10.3.0")).unwrap();
            assert!(choice.package.prebuilt.is_empty());
            let passed = choice.passed_over.iter().find(|passed| passed.package_id == "trt1");
            passed.expect("it is passed over").why.clone()
        }
    }

    const CONFIG_OF_PICTURES: &str = r#"{"image_pre_processing": {}, "network_input": {
        "training_input_size": {"height": 64, "width": 64}, "dynamic_spatial_size_supported": false,
        "color_mode": "rgb", "resize_mode": "stretch", "input_channels": 3, "scaling_factor": 255},
        "forward_pass": {"static_batch_size": 1}, "post_processing": {"type": "nms", "fused": false}}"#;

    fn host(capability: &'static str, tensorrt: &'static str) -> Host {
        let name = if capability == "8.7" { "Orin" } else { "Xavier" };
        let cuda: Box<dyn FnOnce() -> Cuda + Send> = Box::new(move || Cuda {
            devices: vec![(Cuda::device_name(name), capability.into())],
            tensorrt: Some(tensorrt.into()),
        });
        Host { l4t_version: Some("36.3".into()), cuda: Arc::new(LazyLock::new(cuda)), ..Host::default() }
    }

    #[test]
    fn engines_for_this_machine_lie_beside_the_package_in_onnx() {
        let all =
            [("onnx1", "onnx", "fp32"), ("trt1", "trt", "fp16"), ("trt2", "trt", "fp32"), ("trt3", "trt", "int8")];
        let laid = Laid::with(&all);
        laid.package("trt4", "trt", "fp32");
        let Choice { package, passed_over } = laid.choose(&host("8.7", "10.3.0")).unwrap();
        assert!(package.dir.ends_with("onnx1"));
        let found: Vec<(&str, &str)> =
            package.prebuilt.iter().map(|of| (of.package_id.as_str(), of.quantization.as_str())).collect();
        assert_eq!(found, [("trt2", "fp32"), ("trt1", "fp16")]);
        assert_eq!((package.prebuilt[0].engine.bytes(), &package.prebuilt[0].batch), (PLAN, &(1..=1)));
        let why = |id: &str| passed_over.iter().find(|passed| passed.package_id == id).unwrap().why.as_str();
        assert!(why("trt3").contains("int8") && why("trt4").contains("nothing is recorded"));

        let elsewhere = laid.choose(&host("7.2", "10.3.0")).unwrap();
        assert!(elsewhere.package.prebuilt.is_empty());
        assert!(elsewhere.passed_over[0].why.contains("this board has xavier (7.2)"), "{:?}", elsewhere.passed_over);
        let without = laid.choose(&Host::default()).unwrap();
        assert!(
            without.passed_over[0].why.contains("its backend is trt, this binary runs onnx here; it was built for")
        );
        assert!(!without.passed_over[0].why.contains("needed beside it"));
    }

    #[test]
    fn engines_alone_are_of_no_use() {
        let laid = Laid::with(&[("trt1", "trt", "fp16")]);
        for host in [host("8.7", "10.3.0"), host("7.2", "10.3.0"), Host::default()] {
            let message = laid.choose(&host).unwrap_err().to_string();
            assert!(message.contains("a package in ONNX is needed beside it"), "{message}");
        }
    }

    #[test]
    fn an_engine_whose_files_are_not_in_order_is_passed_over() {
        let broken = |breaking: &dyn Fn(&Laid)| {
            let laid = Laid::with(&[("onnx1", "onnx", "fp32"), ("trt1", "trt", "fp32")]);
            breaking(&laid);
            laid.why()
        };
        let rewrite = |file: &'static str, bytes: Vec<u8>| {
            broken(&move |laid| fs::write(laid.file("trt1", file), &bytes).unwrap())
        };
        assert!(broken(&|laid| fs::remove_file(laid.file("trt1", ENGINE)).unwrap()).contains("engine.plan"));
        assert!(
            broken(&|laid| fs::remove_file(laid.file("trt1", CONFIG)).unwrap()).contains("trt_config.json is missing")
        );
        assert!(rewrite(ENGINE, b"another engine".to_vec()).contains("its content has digest"));
        assert!(rewrite(ENGINE, Vec::new()).contains("is empty"));
        assert!(rewrite(CONFIG, b"{}".to_vec()).contains("expected static_batch_size"));
        assert!(rewrite(CONFIG, vec![b' '; (16 << 20) + 1]).contains("at most 16777216 are read"));
        let outside = tempfile::NamedTempFile::new().unwrap();
        fs::write(outside.path(), PLAN).unwrap();
        let linked = broken(&|laid| {
            fs::remove_file(laid.file("trt1", ENGINE)).unwrap();
            symlink(outside.path(), laid.file("trt1", ENGINE)).unwrap();
        });
        assert!(linked.contains("out of the cache"), "{linked}");
        let folder = broken(&|laid| {
            fs::remove_file(laid.file("trt1", ENGINE)).unwrap();
            fs::create_dir(laid.file("trt1", ENGINE)).unwrap();
        });
        assert!(folder.contains("not a regular file") || folder.contains("directory"), "{folder}");
        let huge = broken(&|laid| {
            let file = fs::File::options().write(true).open(laid.file("trt1", ENGINE)).unwrap();
            file.set_len(ENGINE_BYTES_MAX + 1).unwrap();
        });
        assert!(huge.contains("at most 1073741824 are read"), "{huge}");
    }

    #[test]
    fn the_batch_is_fixed_or_a_range() {
        let batch = |text: &str| batch(text, Path::new(CONFIG)).map_err(|error| error.to_string());
        assert_eq!(batch(r#"{"static_batch_size": 4, "dynamic_batch_size_min": null, "more": {}}"#), Ok(4..=4));
        let range = r#"{"static_batch_size": null, "dynamic_batch_size_min": 1, "dynamic_batch_size_opt": 8,
            "dynamic_batch_size_max": 16}"#;
        assert_eq!(batch(range), Ok(1..=16));
        for (text, word) in [
            ("[]", "not a JSON object"),
            ("{}", "expected static_batch_size, or"),
            (r#"{"static_batch_size": 0}"#, "from 1 to 1024, found 0"),
            (r#"{"static_batch_size": 1e300}"#, "static_batch_size"),
            (r#"{"dynamic_batch_size_min": 8, "dynamic_batch_size_max": 1}"#, "not smaller"),
        ] {
            let message = batch(text).unwrap_err();
            assert!(message.starts_with("trt_config.json: ") && message.contains(word), "{text}: {message}");
        }
    }
}
