//! What the weights API says of a model: its packages, their files and where each lies (SPEC §1.3).
//!
//! Answers come over the network: every text has a bound and every list a length; names of files and digests are checked
//! by the same parser that later reads the manifest from the cache.

use serde_json::{Map, Value, json};
use url::Url;

use super::{Error, Listed};
use crate::cache::{Offered, digest};

/// Longest text that is taken over; a signed address has 1,000 characters.
const TEXT_BYTES_MAX: usize = 8192;
/// Most packages of a model, of all pages; a real one has a few dozen.
const PACKAGES_MAX: usize = 1000;
/// Most files of a package, as in the cache.
const FILES_MAX: usize = 256;

/// Of each type of package: Roboflow's type of its manifest, and its name of the backend.
const TYPES: [(&str, &str); 6] = [
    ("onnx-model-package-v1", "onnx"),
    ("trt-model-package-v1", "trt"),
    ("torch-model-package-v1", "torch"),
    ("torch-script-model-package-v1", "torch-script"),
    ("hf-model-package-v1", "hugging-face"),
    ("ultralytics-model-package-v1", "ultralytics"),
];

/// A model as the API offers it.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The canonical id.
    pub model_id: String,
    pub architecture: String,
    pub variant: Option<String>,
    pub task: String,
    recommended: Value,
    pub packages: Vec<Package>,
}

/// One package of it.
#[derive(Clone, Debug)]
pub struct Package {
    pub id: String,
    pub files: Vec<File>,
    manifest: Map<String, Value>,
    backend: &'static str,
    features: Value,
    trusted: bool,
    recommended: Value,
}

#[derive(Clone, Debug)]
pub struct File {
    /// Its path in the package's folder.
    pub handle: String,
    pub url: Url,
    pub md5: String,
}

/// One page of the answer; `next` names the one that follows.
#[derive(Debug)]
pub struct Page {
    pub offer: Offer,
    pub next: Option<String>,
    /// Packages that were passed over, with the reason.
    pub skipped: Vec<String>,
}

impl Page {
    /// Reads one page.
    ///
    /// # Errors
    /// It is not what the weights API answers.
    pub fn parse(id: &str, document: &Value) -> Result<Self, Error> {
        let wrong = |what: &str| Error::offer(id, format!("the weights API's answer: {what}"));
        let of = document["modelMetadata"].as_object().ok_or_else(|| wrong("modelMetadata is no object"))?;
        let kind = text(of.get("type"));
        if kind.as_deref() != Some("external-model-metadata-v1") {
            return Err(wrong(&format!("its type is {kind:?}; this version reads external-model-metadata-v1")));
        }
        let required = |key: &str| text(of.get(key)).ok_or_else(|| wrong(&format!("{key} is no text")));
        if of.get("modelDependencies").and_then(Value::as_array).is_some_and(|list| !list.is_empty()) {
            return Err(Error::offer(id, "it needs other models beside it, which no task here does"));
        }
        let listed = of.get("modelPackages").and_then(Value::as_array);
        let listed = listed.ok_or_else(|| wrong("modelPackages is no list"))?;
        if listed.len() > PACKAGES_MAX {
            return Err(wrong(&format!("{} packages; at most {PACKAGES_MAX} are read", listed.len())));
        }
        let mut page = Self {
            offer: Offer {
                model_id: required("modelId")?,
                architecture: required("modelArchitecture")?,
                variant: text(of.get("modelVariant")),
                task: required("taskType")?,
                recommended: object(of.get("recommendedParameters")),
                packages: Vec::new(),
            },
            next: text(of.get("nextPage")),
            skipped: Vec::new(),
        };
        for package in listed {
            match Package::parse(package) {
                Ok(package) => page.offer.packages.push(package),
                Err(why) => page.skipped.push(why),
            }
        }
        Ok(page)
    }
}

impl Package {
    fn parse(value: &Value) -> Result<Self, String> {
        let id = text(value.get("packageId")).unwrap_or_default();
        let wrong = |what: &str| format!("package {id:?}: {what}");
        if id.is_empty() || id.len() > 255 || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(wrong("its id is not of letters and digits"));
        }
        let manifest = value["packageManifest"].as_object().ok_or_else(|| wrong("it has no packageManifest"))?;
        let kind = text(manifest.get("type")).unwrap_or_default();
        let backend = TYPES.iter().find(|(of, _)| *of == kind).map(|(_, backend)| *backend);
        let backend = backend.ok_or_else(|| wrong(&format!("its type is {kind:?}, which nothing here reads")))?;
        let files = value["packageFiles"].as_array().ok_or_else(|| wrong("packageFiles is no list"))?;
        if files.len() > FILES_MAX {
            return Err(wrong(&format!("{} files", files.len())));
        }
        let files = files.iter().map(File::parse).collect::<Result<_, _>>().map_err(|why| wrong(&why))?;
        Ok(Self {
            files,
            manifest: manifest.clone(),
            backend,
            features: object(value.get("modelFeatures")),
            trusted: value["trustedSource"] == true,
            recommended: object(value.get("recommendedParameters")),
            id,
        })
    }

    fn quantization(&self) -> String {
        text(self.manifest.get("quantization")).unwrap_or_else(|| "unknown".into())
    }

    fn field(&self, key: &str) -> Value {
        self.manifest.get(key).cloned().unwrap_or_default()
    }

    /// `model_config.json`, as Roboflow's loader would write it.
    pub fn model_config(&self, offer: &Offer) -> Value {
        let mut files: Vec<&File> = self.files.iter().collect();
        files.sort_by_key(|file| &file.handle);
        let artifact = |file: &File| {
            json!({
                "file_handle": file.handle, "md5_hash": file.md5, "unhashed": false, "sha256_hash": null,
                "source_hash": null, "storage": "shared_blob",
            })
        };
        json!({
            "offline_manifest_version": 4,
            "model_architecture": offer.architecture,
            "task_type": offer.task,
            "backend_type": self.backend,
            "model_features": self.features,
            "trusted_source": self.trusted,
            "model_dependencies": [],
            "recommended_parameters": self.recommended_or(offer),
            "quantization": self.quantization(),
            "dynamic_batch_size_supported": self.dynamic(),
            "static_batch_size": self.field("staticBatchSize"),
            "canonical_model_id": offer.model_id,
            "package_artifacts": files.into_iter().map(artifact).collect::<Vec<_>>(),
            "dependency_package_paths": [],
            "model_id": offer.model_id,
        })
    }

    /// Its own, else the model's: what the loader hands on.
    fn recommended_or(&self, offer: &Offer) -> Value {
        if self.recommended.is_null() { offer.recommended.clone() } else { self.recommended.clone() }
    }

    fn dynamic(&self) -> Value {
        match self.backend {
            "hugging-face" | "ultralytics" => Value::Null,
            _ => Value::Bool(self.manifest.get("dynamicBatchSize") == Some(&Value::Bool(true))),
        }
    }

    /// What the registry's record holds of it.
    fn recorded(&self) -> Value {
        let artifact = |file: &File| json!({"file_handle": file.handle, "md5_hash": file.md5});
        let (mut needs, mut trt, mut onnx, mut torch) = (Value::Null, Value::Null, Value::Null, Value::Null);
        match self.backend {
            "trt" => (needs, trt) = (self.requirements(), self.engine_details()),
            "onnx" => {
                onnx = json!({
                    "opset": self.field("opset"), "incompatible_providers": self.field("incompatibleProviders"),
                });
            }
            "torch-script" => {
                torch = json!({
                    "supported_device_types": self.field("supportedDeviceTypes"),
                    "torch_version": self.field("torchVersion"),
                    "torch_vision_version": self.field("torchVisionVersion"),
                });
            }
            _ => {}
        }
        json!({
            "package_id": self.id,
            "backend": self.backend,
            "quantization": self.quantization(),
            "dynamic_batch_size_supported": self.dynamic(),
            "static_batch_size": self.field("staticBatchSize"),
            "trusted_source": self.trusted,
            "model_features": self.features,
            "recommended_parameters": self.recommended,
            "cache_model_id": null,
            "environment_requirements": needs,
            "trt_package_details": trt,
            "onnx_package_details": onnx,
            "torch_script_package_details": torch,
            "artifacts": self.files.iter().map(artifact).collect::<Vec<_>>(),
        })
    }

    /// The machine that an engine was built for.
    fn requirements(&self) -> Value {
        let specs = self.field("machineSpecs");
        let mut needs = json!({
            "kind": self.field("machineType"),
            "cuda_device_cc": self.field("cudaDeviceCC"),
            "cuda_device_name": self.field("cudaDeviceType"),
            "cuda_version": self.field("cudaVersion"),
            "trt_version": self.field("trtVersion"),
            "driver_version": specs["driverVersion"],
        });
        if self.field("machineType") == "jetson" {
            needs["l4t_version"] = specs["l4tVersion"].clone();
            needs["jetson_product_name"] = specs["deviceName"].clone();
        } else {
            needs["os_version"] = specs["osVersion"].clone();
        }
        needs
    }

    fn engine_details(&self) -> Value {
        let flag = |key: &str| Value::Bool(self.manifest.get(key) == Some(&Value::Bool(true)));
        json!({
            "min_dynamic_batch_size": self.field("minBatchSize"),
            "opt_dynamic_batch_size": self.field("optBatchSize"),
            "max_dynamic_batch_size": self.field("maxBatchSize"),
            "same_cc_compatible": flag("sameCCCompatible"),
            "trt_forward_compatible": flag("trtForwardCompatible"),
            "trt_lean_runtime_excluded": flag("trtLeanRuntimeExcluded"),
        })
    }
}

impl File {
    fn parse(value: &Value) -> Result<Self, String> {
        let handle = text(value.get("fileHandle")).ok_or("a file without a fileHandle")?;
        let url = text(value.get("downloadUrl")).and_then(|url| Url::parse(&url).ok());
        let url = url.ok_or_else(|| format!("file {handle:?}: downloadUrl is no address"))?;
        let md5 = text(value.get("md5Hash")).filter(|md5| digest::is_md5(md5));
        let md5 =
            md5.ok_or_else(|| format!("file {handle:?}: no MD5 is stated, so nobody could tell whether it is right"))?;
        Ok(Self { handle, url, md5 })
    }
}

impl Offer {
    /// Each package as the cache would hold it.
    pub fn offered(&self) -> Vec<Offered> {
        let offered =
            |package: &Package| Offered { package_id: package.id.clone(), model_config: package.model_config(self) };
        self.packages.iter().map(offered).collect()
    }

    /// For a list.
    pub fn listed(&self) -> Vec<Listed> {
        let listed = |package: &Package| Listed {
            package: package.id.clone(),
            backend: package.backend.into(),
            quantization: package.quantization(),
            files: package.files.len(),
        };
        self.packages.iter().map(listed).collect()
    }

    pub fn package(&self, id: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.id == id)
    }

    /// What the registry's record holds of the model itself.
    pub fn recorded_model(&self) -> Value {
        json!({
            "model_architecture": self.architecture,
            "task_type": self.task,
            "model_variant": self.variant,
            "model_dependencies": null,
            "recommended_parameters": self.recommended,
        })
    }

    /// What it holds of the packages.
    pub fn recorded_packages(&self) -> Vec<Value> {
        self.packages.iter().map(Package::recorded).collect()
    }
}

/// A text of bounded length.
fn text(value: Option<&Value>) -> Option<String> {
    value?.as_str().filter(|text| text.len() <= TEXT_BYTES_MAX).map(str::to_owned)
}

/// An object, or null.
fn object(value: Option<&Value>) -> Value {
    value.filter(|value| value.is_object()).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const PAGE: &str = r#"{"modelMetadata": {"type": "external-model-metadata-v1", "modelId": "my-project/3",
        "modelArchitecture": "yolov8", "modelVariant": "yolov8n", "taskType": "object-detection", "modelPackages": [
        {"type": "external-model-package-v1", "packageId": "onnxfp32dyn01", "packageManifest": {"type":
        "onnx-model-package-v1", "backendType": "onnx", "dynamicBatchSize": true, "staticBatchSize": null,
        "quantization": "fp32", "opset": 17}, "packageFiles": [{"fileHandle": "weights.onnx", "downloadUrl":
        "https://files.example/w?sig=1", "md5Hash": "335234ec60916d2db56d8f54bfad024d"}], "trustedSource": true},
        {"packageId": "later", "packageManifest": {"type": "quantum-model-package-v9"}, "packageFiles": []}],
        "nextPage": null}}"#;

    fn page(text: &str) -> Result<Page, Error> {
        Page::parse("my-project/3", &serde_json::from_str(text).unwrap())
    }

    #[test]
    fn a_page_is_read_and_what_is_new_is_passed_over() {
        let page = page(PAGE).unwrap();
        assert_eq!((page.offer.packages.len(), page.next), (1, None));
        assert!(page.skipped[0].contains("later") && page.skipped[0].contains("quantum"), "{:?}", page.skipped);
        let offered = &page.offer.offered()[0];
        assert_eq!(offered.model_config["package_artifacts"][0]["storage"], "shared_blob");
        assert_eq!(page.offer.recorded_packages()[0]["onnx_package_details"]["opset"], 17);
    }

    #[test]
    fn what_is_no_such_answer_is_refused_with_what_is_wrong() {
        let refused = |from: &str, to: &str| {
            assert!(PAGE.contains(from), "{from}");
            page(&PAGE.replacen(from, to, 1)).map(|page| page.skipped.join("; ")).unwrap_or_else(|e| e.to_string())
        };
        assert!(refused("metadata-v1", "metadata-v2").contains("external-model-metadata-v2"));
        assert!(refused("\"taskType\"", "\"task\"").contains("taskType"));
        assert!(refused("335234ec", "x35234ec").contains("no MD5"));
        assert!(refused("onnxfp32dyn01", "../../etc").contains("letters and digits"));
        assert!(refused("https://files.example/w?sig=1", "not an address").contains("downloadUrl"));
    }

    #[test]
    fn no_answer_makes_it_panic() {
        let mut random = Random::new(9);
        for _ in 0..2000 {
            let mut bytes = PAGE.as_bytes().to_vec();
            for _ in 0..=random.bits() % 8 {
                let at = usize::try_from(random.bits()).unwrap_or(0) % bytes.len();
                bytes[at] = random.bits().to_le_bytes()[0];
            }
            if let Ok(value) = serde_json::from_slice::<Value>(&bytes)
                && let Ok(page) = Page::parse("a/1", &value)
            {
                let _ = (page.offer.offered(), page.offer.recorded_packages());
            }
        }
    }
}
