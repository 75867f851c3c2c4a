//! Pixels against the golden answers of Roboflow Inference, bit for bit: decoded pictures, and the network inputs that
//! the pre-processing of both engines makes of them for every family.

mod support;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use firstlight::cache::{
    ColorMode, InferenceConfig, Layout, ModelsCache, NetworkInput, Normalization, Package, PostProcessing, Recommended,
    ResizeMode,
};
use firstlight::engine::DeclaredInput;
use firstlight::frame::{Contrast, CropPercent, Frame, Limits, Orientation, Size, decode};
use firstlight::model::{Contract, Family, Preprocessor, Request, Task, concrete_shape};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn read_json(path: &Path) -> Value {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bgr_sha256(frame: &Frame) -> String {
    let bgr = frame.pixels().as_chunks::<3>().0.iter().flat_map(|&[red, green, blue]| [blue, green, red]);
    sha256(&bgr.collect::<Vec<u8>>())
}

/// A picture from the recordings, or from the fetched folder where it may not be copied into them.
fn read_image(name: &str, orientation: Orientation) -> Frame {
    let path = support::find_file(&[support::shared().join("golden/images")], name).unwrap();
    decode(&std::fs::read(path).unwrap(), orientation, Limits::default())
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn every_picture_decodes_as_in_opencv() {
    let images = read_json(&support::shared().join("golden/images.json"));
    for (name, facts) in images.as_object().expect("an object") {
        let decoded = &facts["decoded"];
        assert_eq!(decoded["bgr_sha256"], bgr_sha256(&read_image(name, Orientation::Apply)), "{name}");
        let stored = bgr_sha256(&read_image(name, Orientation::Ignore));
        assert_eq!(decoded["ignore_orientation_bgr_sha256"], stored, "{name} as stored");
    }
}

/// What a case's model is, by the name of the engine's class for it.
fn contract(engine_class: &str) -> Contract {
    let find = |names: &[&str]| names.iter().any(|name| engine_class.contains(name));
    let task = match () {
        () if find(&["MultiLabel"]) => Task::MultiLabelClassification,
        () if find(&["SemanticSegmentation"]) => Task::SemanticSegmentation,
        () if find(&["InstanceSegmentation"]) => Task::InstanceSegmentation,
        () if find(&["Keypoints", "KeyPoints"]) => Task::KeypointDetection,
        () if find(&["ObjectDetection"]) => Task::ObjectDetection,
        () => Task::Classification,
    };
    let family = match () {
        () if find(&["RFDETR", "RFDetr"]) => Family::RfDetr,
        () if find(&["DeepLab"]) => Family::DeepLab,
        () if find(&["ResNet"]) => Family::ResNet,
        () if find(&["Vit", "VIT"]) => Family::Vit,
        () if find(&["NAS", "Nas"]) => Family::YoloNas,
        () if find(&["YOLOv5"]) => Family::YoloV5,
        () if find(&["YOLOv7"]) => Family::YoloV7,
        () if find(&["YOLOv10"]) => Family::YoloV10,
        () if find(&["YOLO26"]) => Family::Yolo26,
        () => Family::YoloV8,
    };
    Contract { task, family }
}

/// A package that prepares images as a case says.
fn package(case: &Value) -> Package {
    let environment = json!({"PREPROCESSING": case["preprocessing"]}).to_string();
    let kind = r#"{"project_task_type": "object-detection", "model_type": "yolov8n"}"#;
    let mut package = Package::embedded("a/1", kind, &environment, "a\n", &[]).unwrap();
    if case["engine"] == "default" {
        package.layout = Layout::ModelsCache(Box::new(ModelsCache {
            package_id: String::new(),
            backend: "onnx".into(),
            quantization: "fp32".into(),
            config: inference_config(&case["inference_config"]),
            recommended: Recommended::default(),
        }));
    }
    package
}

/// What the recorded configurations have of `inference_config.json`.
fn inference_config(config: &Value) -> InferenceConfig {
    let (steps, input) = (&config["image_pre_processing"], &config["network_input"]);
    let enabled = |step: &str| (steps[step]["enabled"] == true).then(|| &steps[step]);
    let size = |key: &str| {
        let side = |side: &str| usize::try_from(input[key][side].as_u64()?).ok();
        Some(Size::new(side("width")?, side("height")?))
    };
    #[expect(clippy::cast_possible_truncation, reason = "the engine narrows too")]
    let number = |value: &Value| value.as_f64().map(|value| value as f32);
    let channels = |value: &Value| [0, 1, 2].map(|channel| number(&value[channel]).expect("a number"));
    InferenceConfig {
        static_crop: enabled("static-crop").map(|step| {
            let bound = |key: &str| step[key].as_f64().expect("a number");
            let (x_min, x_max, y_min, y_max) = (bound("x_min"), bound("x_max"), bound("y_min"), bound("y_max"));
            CropPercent { x_min, x_max, y_min, y_max }
        }),
        contrast: enabled("contrast").map(|step| match step["type"].as_str() {
            Some("Contrast Stretching") => Contrast::Stretching,
            Some("Histogram Equalization") => Contrast::Histogram,
            Some("Adaptive Equalization") => Contrast::Adaptive,
            other => panic!("contrast {other:?}"),
        }),
        grayscale: enabled("grayscale").is_some(),
        network_input: NetworkInput {
            size: size("training_input_size"),
            dataset_size: size("dataset_version_resize_dimensions"),
            color: if input["color_mode"] == "bgr" { ColorMode::Bgr } else { ColorMode::Rgb },
            resize: match input["resize_mode"].as_str() {
                Some("stretch") => ResizeMode::Stretch,
                Some("letterbox") => ResizeMode::Letterbox,
                Some("center-crop") => ResizeMode::CenterCrop,
                Some("fit-longer-edge") => ResizeMode::FitLongerEdge,
                Some("letterbox-reflect-edges") => ResizeMode::LetterboxReflectEdges,
                other => panic!("resize mode {other:?}"),
            },
            padding: number(&input["padding_value"]).unwrap_or(0.0),
            scaling: number(&input["scaling_factor"]),
            normalization: input["normalization"]
                .as_array()
                .map(|pair| Normalization { mean: channels(&pair[0]), std: channels(&pair[1]) }),
        },
        static_batch: None,
        post_processing: PostProcessing::default(),
        removed_classes: Vec::new(),
    }
}

/// Whether a case's image is turned as its EXIF says, before any of this.
fn orientation(case: &Value, contract: Contract) -> Orientation {
    let disabled = case["request"]["disable_preproc_auto_orient"] == true;
    let oriented = match case["engine"].as_str() {
        // Present is enough, and semantic segmentation does not look at the request.
        Some("classic") => {
            case["preprocessing"].get("auto-orient").is_some()
                && (!disabled || contract.task == Task::SemanticSegmentation)
        }
        _ => !disabled,
    };
    if oriented { Orientation::Apply } else { Orientation::Ignore }
}

/// What our model floor gives the network of a case, which declares the size that was recorded.
fn network_input(case: &Value, contract: Contract, frame: &Frame, network: Size) -> Vec<f32> {
    let package = package(case);
    let request = Request::parse(&case["request"].to_string()).unwrap();
    let declared =
        DeclaredInput { batch: Some(1), channels: Some(3), height: Some(network.height), width: Some(network.width) };
    let shape = concrete_shape(&declared, &package.layout, contract);
    let mut preprocessor = Preprocessor::new(&package, contract, &declared, &shape).unwrap();
    let mut input = vec![f32::NAN; network.width * network.height * 3];
    let transform = preprocessor.run(frame, &request, &mut input).unwrap();
    assert_eq!(transform.image, frame.size());
    input
}

#[test]
fn every_network_input_is_that_of_roboflows_engines() {
    let mut pictures = HashMap::new();
    let mut seen = HashSet::new();
    let mut exact: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(support::shared().join("golden/cases")).expect("golden cases") {
        let case = read_json(&entry.expect("a readable directory").path());
        // Every network has one input; its name differs.
        let Some(input) = case["tensors"]["input"].as_object().and_then(|inputs| inputs.values().next()) else {
            continue;
        };
        let engine_class = case["engine_class"].as_str().unwrap();
        let (image, sha) = (case["image"].as_str().unwrap(), input["sha256"].as_str().unwrap());
        let contract = contract(engine_class);
        let orientation = orientation(&case, contract);
        // Many cases differ only in what happens after the network.
        let steps = [&case["engine"], &case["inference_config"], &case["preprocessing"]].map(Value::to_string);
        if !seen.insert((engine_class.to_owned(), steps, image.to_owned(), sha.to_owned())) {
            continue;
        }
        let picture = pictures
            .entry((image.to_owned(), orientation == Orientation::Apply))
            .or_insert_with(|| read_image(image, orientation));
        let side = |axis: usize| usize::try_from(input["shape"][axis].as_u64().unwrap()).unwrap();
        let found = network_input(&case, contract, picture, Size::new(side(3), side(2)));
        let bytes: Vec<u8> = found.iter().flat_map(|value| value.to_le_bytes()).collect();
        if sha256(&bytes) == sha {
            let label = case["preprocessing_label"].as_str().unwrap();
            *exact.entry(format!("{} {label}", case["engine"].as_str().unwrap())).or_default() += 1;
        } else {
            wrong.push(format!("{}: {}", case["case"], probes(input, &found)));
        }
    }
    println!("bit-equal inputs: {exact:?}");
    assert!(wrong.is_empty(), "{} inputs differ:\n{}", wrong.len(), wrong.join("\n"));
    for engine in ["classic", "default"] {
        for label in ["fit-black", "fit-white", "fit-grey", "stretch", "crop", "contrast-adaptive", "all-steps"] {
            assert!(exact.contains_key(&format!("{engine} {label}")), "no case of {label} in the {engine} engine");
        }
    }
}

/// The largest difference at the values that a case records.
fn probes(input: &Value, found: &[f32]) -> String {
    let difference = |probe: &Value| {
        let at = usize::try_from(probe[0].as_u64().unwrap()).unwrap();
        (f64::from(found[at]) - probe[1].as_f64().unwrap()).abs()
    };
    let worst = input["probes"].as_array().expect("probes").iter().map(difference).fold(0.0, f64::max);
    format!("probes differ by at most {worst}")
}
