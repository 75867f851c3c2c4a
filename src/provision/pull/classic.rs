//! The classic layout: the older API, which gives addresses of weights and environment (SPEC §1.2).

use std::path::Path;

use serde_json::{Value, json};
use url::Url;

use super::download::{Wanted, fetch};
use super::http::Http;
use super::{Error, Pulled, Watch, create, status_error};
use crate::cache::{LayoutKind, ModelId};
use crate::durable::write_durably;
use crate::provision::lock::Lock;
use crate::provision::python_json;
use crate::provision::store::classic_lock;

/// What Roboflow calls the machine that asks; nothing about this one needs to be told.
const DEVICE: &str = "firstlight";
/// Most classes, as in the cache.
const CLASSES_MAX: usize = 100_000;

/// Types that are taken where the API says `ort` or nothing (SPEC §1.2).
const TYPE_DEFAULTS: [(&str, &str); 4] = [
    ("object-detection", "yolov5v2s"),
    ("instance-segmentation", "yolact"),
    ("classification", "vit"),
    ("keypoint-detection", "yolov8n"),
];

/// The answer of the older API.
#[derive(Debug)]
pub struct Offer {
    task: String,
    model_type: String,
    classes: Option<Vec<String>>,
    weights: Url,
    environment: Url,
    colors: Option<Value>,
    keypoints: Option<Value>,
}

impl Offer {
    pub fn parse(id: &str, document: &Value) -> Result<Self, Error> {
        let of = &document["ort"];
        if !of.is_object() {
            return Err(Error::offer(id, "the API's answer has no `ort`: there is no ONNX of this model"));
        }
        let text = |key: &str| of[key].as_str().filter(|text| !text.is_empty());
        let address = |key: &str| {
            text(key)
                .and_then(|url| Url::parse(url).ok())
                .ok_or_else(|| Error::offer(id, format!("the API's answer: `ort.{key}` is no address")))
        };
        let task = text("type").unwrap_or("object-detection");
        let default = || TYPE_DEFAULTS.iter().find(|(of, _)| *of == task).map(|(_, kind)| *kind);
        let model_type = text("modelType").filter(|kind| *kind != "ort").or_else(default);
        let model_type =
            model_type.ok_or_else(|| Error::offer(id, format!("the API names no type, and {task} has no default")))?;
        let classes = match &of["classes"] {
            Value::Null => None,
            Value::Array(list) if list.len() <= CLASSES_MAX => {
                let names: Option<Vec<String>> = list.iter().map(|name| name.as_str().map(str::to_owned)).collect();
                Some(names.ok_or_else(|| Error::offer(id, "the API's answer: `ort.classes` holds what is no text"))?)
            }
            _ => return Err(Error::offer(id, "the API's answer: `ort.classes` is no list of names")),
        };
        Ok(Self {
            classes,
            weights: address("model")?,
            environment: address("environment")?,
            colors: Some(of["colors"].clone()).filter(Value::is_object),
            keypoints: Some(of["keypoints_metadata"].clone()).filter(Value::is_array),
            task: task.into(),
            model_type: model_type.into(),
        })
    }

    /// What the classic engine looks for.
    fn weights_file(&self) -> &'static str {
        match (self.task.as_str(), self.model_type.as_str()) {
            ("object-detection" | "instance-segmentation", kind) if kind.starts_with("yolov5") => {
                "yolov5s_weights.onnx"
            }
            ("classification", kind) if kind.starts_with("vit") || kind.starts_with("resnet") => "best.onnx",
            _ => "weights.onnx",
        }
    }
}

/// Fetches a model; see [`super::Puller::pull`].
pub fn pull(
    http: &Http,
    api: &Url,
    key: Option<&str>,
    root: &Path,
    id: &ModelId,
    watch: &dyn Watch,
) -> Result<Pulled, Error> {
    let (status, document) = http.document(&address(api, key, id)?, false)?;
    status_error(id.as_str(), status, key.is_some())?;
    let offer = Offer::parse(id.as_str(), &document)?;
    let folder = root.join(id.directory());
    create(&folder)?;
    // Under which Roboflow's server removes a model.
    let lock = classic_lock(root, &id.directory());
    create(lock.parent().unwrap_or(root))?;
    let _lock = Lock::acquire(&lock, &|| newest(&folder))?;
    let weights = folder.join(offer.weights_file());
    let wanted =
        Wanted { name: format!("{} weights", id.as_str()), url: offer.weights.clone(), md5: None, target: weights };
    let (status, mut environment) = http.document(&offer.environment, false)?;
    status_error(id.as_str(), status, key.is_some())?;
    if !environment.is_object() {
        return Err(Error::offer(id.as_str(), "its environment is no JSON object"));
    }
    if let Some(colors) = offer.colors.clone() {
        environment["COLORS"] = colors;
    }
    fetch(http, root, &[wanted], watch)?;
    if let Some(classes) = &offer.classes {
        write_durably(&folder.join("class_names.txt"), classes.join("\n").as_bytes())?;
    }
    if let Some(keypoints) = &offer.keypoints {
        write_durably(&folder.join("keypoints_metadata.json"), &python_json::line(keypoints))?;
    }
    write_durably(&folder.join("environment.json"), &python_json::line(&environment))?;
    // What makes the folder a model comes last.
    write_model_type(&folder, id.as_str(), &offer.task, &offer.model_type, None)?;
    Ok(Pulled { id: id.as_str().into(), layout: LayoutKind::Classic, packages: vec![String::new()], dir: folder })
}

/// `model_type.json`, which both engines' registry writes.
pub fn write_model_type(
    folder: &Path,
    id: &str,
    task: &str,
    model_type: &str,
    variant: Option<&str>,
) -> Result<(), Error> {
    let mut value = json!({"project_task_type": task, "model_type": model_type, "model_id": id});
    if let Some(variant) = variant {
        value["model_variant"] = variant.into();
    }
    Ok(write_durably(&folder.join("model_type.json"), &python_json::indented(&value, 4))?)
}

/// The older API takes the key in the query; no message shows one.
fn address(api: &Url, key: Option<&str>, id: &ModelId) -> Result<Url, Error> {
    let mut url = api.clone();
    let is_version = id.as_str().rsplit_once('/').is_some_and(|(_, version)| version.parse::<u32>().is_ok());
    {
        let mut path = url
            .path_segments_mut()
            .map_err(|()| Error::Settings(format!("API_BASE_URL: {api} is no address of a server")))?;
        path.pop_if_empty();
        if is_version {
            path.push("ort").extend(id.as_str().split('/'));
        } else {
            path.push("getWeights");
        }
    }
    let mut query = url.query_pairs_mut();
    if is_version {
        query.append_pair("nocache", "true").append_pair("device", DEVICE).append_pair("dynamic", "true");
    } else {
        query.append_pair("model", id.as_str());
    }
    if let Some(key) = key {
        query.append_pair("api_key", key);
    }
    drop(query);
    Ok(url)
}

/// Bytes of all that lies in a folder, which grow while another process fetches into it.
fn newest(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_locks_are_those_of_roboflow() {
        let api = Url::parse("https://api.roboflow.com").unwrap();
        let id = ModelId::parse("my-project/3").unwrap();
        assert_eq!(
            address(&api, Some("k y"), &id).unwrap().as_str(),
            "https://api.roboflow.com/ort/my-project/3?nocache=true&device=firstlight&dynamic=true&api_key=k+y"
        );
        let slug = ModelId::parse("workspace/some-model").unwrap();
        assert_eq!(
            address(&api, None, &slug).unwrap().as_str(),
            "https://api.roboflow.com/getWeights?model=workspace%2Fsome-model"
        );
        let lock = classic_lock(Path::new("/cache"), &id.directory());
        assert_eq!(lock, Path::new("/cache/_file_locks/my-project/3.lock"));
    }

    #[test]
    fn the_file_of_the_weights_goes_by_task_and_type() {
        let offer = |task: &str, kind: &str| {
            let of =
                json!({"ort": {"type": task, "modelType": kind, "model": "https://a/w", "environment": "https://a/e"}});
            Offer::parse("a/1", &of).unwrap()
        };
        assert_eq!(offer("object-detection", "yolov5v6s").weights_file(), "yolov5s_weights.onnx");
        assert_eq!(offer("classification", "vit").weights_file(), "best.onnx");
        assert_eq!(offer("object-detection", "yolov8n").weights_file(), "weights.onnx");
        assert_eq!(offer("object-detection", "ort").model_type, "yolov5v2s");
        let refused = |of: Value| Offer::parse("a/1", &of).unwrap_err().to_string();
        assert!(refused(json!({})).contains("no `ort`"));
        assert!(refused(json!({"ort": {"model": 3}})).contains("`ort.model` is no address"));
        assert!(refused(json!({"ort": {"classes": [1], "model": "https://a/w"}})).contains("classes"));
    }
}
