//! Pixels against the golden answers of Roboflow Inference, bit for bit: decoded pictures, and the network inputs that
//! the classic engine's pre-processing makes of them.

mod support;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use firstlight::cache::Package;
use firstlight::engine::{DeclaredInput, InputShape};
use firstlight::frame::{Frame, Limits, Orientation, Size, decode};
use firstlight::model::{Contract, Family, Preprocessor, Request, Task};
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

/// Families whose input is the picture divided by 255 and nothing more.
fn plain(engine_class: &str) -> bool {
    let normalises = ["RFDETR", "Classification", "DeepLab"];
    !normalises.iter().any(|family| engine_class.contains(family))
}

/// What our model floor gives the network of a case.
fn network_input(case: &Value, frame: &Frame, network: Size) -> Vec<f32> {
    let environment = json!({"PREPROCESSING": case["preprocessing"]}).to_string();
    let kind = r#"{"project_task_type": "object-detection", "model_type": "yolov8n"}"#;
    let package = Package::embedded("a/1", kind, &environment, "a\n", &[]).unwrap();
    let request = Request::parse(&case["request"].to_string()).unwrap();
    let mut input = vec![f32::NAN; network.width * network.height * 3];
    let contract = Contract { task: Task::ObjectDetection, family: Family::YoloV8 };
    let declared =
        DeclaredInput { batch: Some(1), channels: Some(3), height: Some(network.height), width: Some(network.width) };
    let shape = InputShape { batch: 1, channels: 3, height: network.height, width: network.width };
    let mut preprocessor = Preprocessor::new(&package, contract, &declared, &shape);
    preprocessor.run(frame, &request, &mut input).unwrap();
    input
}

#[test]
fn every_network_input_is_that_of_the_classic_engine() {
    let mut pictures = HashMap::new();
    let mut seen = HashSet::new();
    let mut exact: BTreeMap<String, usize> = BTreeMap::new();
    for entry in std::fs::read_dir(support::shared().join("golden/cases")).expect("golden cases") {
        let path = entry.expect("a readable directory").path();
        if !path.file_name().unwrap().to_string_lossy().starts_with("classic.") {
            continue;
        }
        let case = read_json(&path);
        let input = &case["tensors"]["input"]["images"];
        let (Some(sha), true) = (input["sha256"].as_str(), plain(case["engine_class"].as_str().unwrap())) else {
            continue;
        };
        let image = case["image"].as_str().unwrap();
        // Many cases differ only in what happens after the network.
        if !seen.insert((image.to_owned(), sha.to_owned())) {
            continue;
        }
        let auto_orient = case["preprocessing"].get("auto-orient").is_some();
        let oriented = auto_orient && case["request"]["disable_preproc_auto_orient"] != true;
        let orientation = if oriented { Orientation::Apply } else { Orientation::Ignore };
        let picture = pictures.entry((image.to_owned(), oriented)).or_insert_with(|| read_image(image, orientation));
        let side = |axis: usize| usize::try_from(input["shape"][axis].as_u64().unwrap()).unwrap();
        let found = network_input(&case, picture, Size::new(side(3), side(2)));
        let bytes: Vec<u8> = found.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(sha256(&bytes), sha, "{}: {}", case["case"], probes(input, &found));
        *exact.entry(case["preprocessing_label"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    println!("bit-equal inputs: {exact:?}");
    for label in ["fit-black", "fit-white", "fit-grey", "stretch", "crop", "contrast-adaptive", "grayscale"] {
        assert!(exact.contains_key(label), "no case of {label}");
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
