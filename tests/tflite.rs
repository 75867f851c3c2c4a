//! Packages of TensorFlow Lite networks, through the real binary: real models, pictures of real people and things, and what
//! TensorFlow Lite itself answered to them.

mod support;

use std::path::{Path, PathBuf};

use firstlight::engine::{DeclaredInput, Error, InputShape, LoadOptions, Network, Session, by_name};
use serde_json::{Value, json};
use support::damage::{Random, damage, deface, rounds};
use support::{fetched, find_file, firstlight};

const CLASSIFIER: &str = "efficientnet-lite3.tflite";
const POSE: &str = "movenet-lightning.tflite";
const FACES: &str = "blazeface-short.tflite";

/// COCO's, in the order of MoveNet.
const POINTS: [&str; 17] = [
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
];

/// ImageNet's classes by number: what they are called does not matter here.
fn numbered() -> Vec<String> {
    (0..1000).map(|class| format!("class {class}")).collect()
}

fn classifier() -> Value {
    json!({"task": "classification", "class_names": numbered(), "input": {"mean": 127, "std": 128},
        "sha256": "948629061b2b94fb499ed7ff113a6022a44f0d16d0729e1aa18d64cc3fb31acc"})
}

fn pose() -> Value {
    json!({"task": "keypoint-detection", "keypoints": {"names": POINTS, "edges": [[5, 7], [7, 9]]}})
}

fn raw() -> Value {
    json!({"task": "raw", "input": {"mean": 127.5, "std": [127.5, 127.5, 127.5]}})
}

fn picture(name: &str) -> PathBuf {
    find_file(&[], name).unwrap()
}

/// A cache with one package of each kind.
struct Cache(tempfile::TempDir);

impl Cache {
    fn new() -> Self {
        let cache = Self(tempfile::tempdir().unwrap());
        cache.add("things/1", CLASSIFIER, &classifier());
        cache.add("people/2", POSE, &pose());
        cache.add("faces/3", FACES, &raw());
        cache
    }

    fn add(&self, id: &str, model: &str, manifest: &Value) {
        let dir = self.dir(id);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::copy(find_file(&[], model).unwrap(), dir.join("model.tflite")).unwrap();
        std::fs::write(dir.join("firstlight.json"), manifest.to_string()).unwrap();
    }

    fn dir(&self, id: &str) -> PathBuf {
        self.0.path().join(id)
    }

    fn run(&self, args: &[&str]) -> support::Run {
        firstlight(&[&["--cache", self.0.path().to_str().unwrap()], args].concat()).run()
    }

    fn answer(&self, id: &str, image: &Path) -> Value {
        let run = self.run(&["infer", "--model", id, "--confidence", "0.2", image.to_str().unwrap()]);
        assert_eq!(run.exit, Some(0), "{}", run.stderr);
        serde_json::from_str(&run.stdout).unwrap()
    }
}

#[test]
fn a_classifier_of_bytes_names_what_tensorflow_lite_names() {
    let cache = Cache::new();
    // In steps of 1/256, which the picture's resize and each library's roundings move by a few.
    for (image, class, score) in [("bus.jpg", 654, 0.684), ("zidane.jpg", 834, 0.563)] {
        let answer = cache.answer("things/1", &picture(image));
        assert_eq!(answer["top"], format!("class {class}"), "{answer}");
        let found = answer["confidence"].as_f64().unwrap();
        assert!((found - score).abs() < 0.04, "{image}: {found}, not {score}");
        assert_eq!(answer["resolved_model"]["backend"], "tflite");
    }
}

#[test]
fn a_pose_is_one_person_with_named_points() {
    let answer = Cache::new().answer("people/2", &picture("zidane.jpg"));
    let people = answer["predictions"].as_array().unwrap();
    assert_eq!(people.len(), 1, "{answer}");
    let person = &people[0];
    assert_eq!((person["class"].as_str(), person["class_id"].as_u64()), (Some("person"), Some(0)));
    let points = person["keypoints"].as_array().unwrap();
    let [left, top, right, bottom] = {
        let at = |key: &str| person[key].as_f64().unwrap();
        let (x, y, width, height) = (at("x"), at("y"), at("width"), at("height"));
        [x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0]
    };
    for (name, x, y) in ZIDANE {
        let point = points.iter().find(|point| point["class"] == name).unwrap_or_else(|| panic!("no {name}: {answer}"));
        let (found_x, found_y) = (point["x"].as_f64().unwrap(), point["y"].as_f64().unwrap());
        // A pixel of the network is seven by four of the picture.
        assert!((found_x - x).abs() <= 7.0 && (found_y - y).abs() <= 4.0, "{name}: {found_x} {found_y}");
        assert!((left..=right).contains(&found_x) && (top..=bottom).contains(&found_y), "{name} is outside of the box");
    }
}

/// Points of zidane.jpg as TensorFlow Lite finds them, in pixels.
const ZIDANE: [(&str, f64, f64); 4] = [
    ("nose", 997.1, 193.5),
    ("left_eye", 1034.7, 177.0),
    ("right_shoulder", 817.1, 313.1),
    ("right_wrist", 938.7, 463.3),
];

#[test]
fn raw_answers_are_the_outputs_as_they_are() {
    let answer = Cache::new().answer("faces/3", &picture("zidane.jpg"));
    let outputs = answer["predictions"].as_array().unwrap();
    let named: Vec<(&str, &Value)> =
        outputs.iter().map(|output| (output["name"].as_str().unwrap(), &output["shape"])).collect();
    assert_eq!(named, [("regressors", &json!([896, 16])), ("classificators", &json!([896, 1]))]);
    assert_eq!(outputs[0]["values"].as_array().unwrap().len(), 896 * 16);
    let scores: Vec<f64> =
        outputs[1]["values"].as_array().unwrap().iter().map(|score| score.as_f64().unwrap()).collect();
    let best = scores.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    assert!(best.0 == 349 && (best.1 - 0.345).abs() < 0.3, "{best:?}");
    assert_eq!(scores.len(), 896);
}

/// A file of `tests/tflite`.
fn made(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tflite").join(name)
}

/// Operators by themselves, and the end of an SSD: suppression over all classes at once, and within each.
#[test]
fn operators_answer_what_tensorflow_lite_answers() {
    let answers: Value = serde_json::from_slice(&std::fs::read(made("answers.json")).unwrap()).unwrap();
    let numbers = |value: &Value| -> Vec<f64> {
        value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    };
    for name in ["operators", "detector", "detector-regular"] {
        let bytes = std::fs::read(made(&format!("{name}.tflite"))).unwrap();
        let mut session = load(&bytes, name.into()).unwrap();
        let input = numbers(&answers["input"]);
        for (to, from) in session.input_mut().iter_mut().zip(input) {
            #[expect(clippy::cast_possible_truncation, reason = "written as such")]
            let from = from as f32;
            *to = from;
        }
        session.run().unwrap();
        let names: Vec<String> = session.outputs().iter().map(|output| output.name.clone()).collect();
        for (index, wanted) in answers[name].as_array().unwrap().iter().enumerate() {
            let (found, wanted) = (session.output(index).data, numbers(wanted));
            let close = |(found, wanted): (&f32, &f64)| (f64::from(*found) - wanted).abs() < 1e-5;
            assert!(
                found.len() == wanted.len() && found.iter().zip(&wanted).all(close),
                "{name}, {}: {found:?}, not {wanted:?}",
                names[index]
            );
        }
    }
}

#[test]
fn a_detector_answers_boxes_with_names() {
    let cache = Cache::new();
    let dir = cache.dir("parts/4");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::copy(made("detector.tflite"), dir.join("model.tflite")).unwrap();
    std::fs::write(dir.join("firstlight.json"), json!({"task": "object-detection"}).to_string()).unwrap();
    let found = |answer: &Value| -> Vec<String> {
        let list = answer["predictions"].as_array().unwrap();
        list.iter().map(|object| object["class"].as_str().unwrap().to_owned()).collect()
    };
    let plain = cache.answer("parts/4", &picture("bus.jpg"));
    let classes = found(&plain);
    assert!(!classes.is_empty() && classes.iter().all(|class| ["0", "1", "2"].contains(&class.as_str())), "{plain}");
    let confidences: Vec<f64> =
        plain["predictions"].as_array().unwrap().iter().map(|object| object["confidence"].as_f64().unwrap()).collect();
    assert!(confidences.is_sorted_by(|a, b| a >= b), "{confidences:?}");
    std::fs::write(dir.join("class_names.txt"), "bolt\nnut\nwasher\n").unwrap();
    let names: Vec<&str> =
        classes.iter().map(|class| ["bolt", "nut", "washer"][class.parse::<usize>().unwrap()]).collect();
    assert_eq!(found(&cache.answer("parts/4", &picture("bus.jpg"))), names);
}

#[test]
fn the_loop_runs_such_a_package() {
    let cache = Cache::new();
    let source = format!("file:{}", picture("bus.jpg").display());
    let listen = ["--listen", "127.0.0.1:0"];
    let run = cache.run(&[&["run", "--model", "people/2", "--source", &source, "--frames", "2"][..], &listen].concat());
    assert_eq!(run.exit, Some(0), "{}", run.stderr);
    let lines: Vec<Value> = run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!lines.is_empty() && lines.iter().all(|line| line["predictions"].is_array()), "{}", run.stdout);
}

#[test]
fn packages_are_listed_and_verified() {
    let cache = Cache::new();
    let run = cache.run(&["cache", "ls", "--json"]);
    let rows: Vec<Value> = serde_json::from_str(&run.stdout).unwrap();
    let told: Vec<[&str; 5]> = rows
        .iter()
        .map(|row| ["id", "layout", "task", "backend", "state"].map(|key| row[key].as_str().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            ["faces/3", "tflite", "raw", "tflite", "ready"],
            ["people/2", "tflite", "keypoint-detection", "tflite", "ready"],
            ["things/1", "tflite", "classification", "tflite", "ready"],
        ]
    );
    let run = cache.run(&["cache", "verify"]);
    assert_eq!(run.exit, Some(0), "{}{}", run.stdout, run.stderr);
    // One byte of the weights.
    let path = cache.dir("things/1").join("model.tflite");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let run = cache.run(&["cache", "verify"]);
    assert_eq!(run.exit, Some(4), "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("FAULT things/1") && run.stdout.contains("9486290"), "{}", run.stdout);
}

#[test]
fn what_is_not_in_order_is_refused_with_its_reason() {
    let cache = Cache::new();
    let refused = |id: &str, manifest: &Value, word: &str| {
        std::fs::write(cache.dir(id).join("firstlight.json"), manifest.to_string()).unwrap();
        let run = cache.run(&["infer", "--model", id, picture("bus.jpg").to_str().unwrap()]);
        assert!(run.exit.is_some_and(|exit| exit != 0) && run.stderr.contains(word), "{word}: {run:?}");
    };
    let with = |mut manifest: Value, key: &str, value: Value| {
        manifest[key] = value;
        manifest
    };
    refused("things/1", &with(classifier(), "confidence", json!(0.5)), "unknown field `confidence`");
    refused("things/1", &with(classifier(), "class_names", json!(["a", "b"])), "1000 classes");
    refused("things/1", &with(classifier(), "class_names", Value::Null), "a classifier needs names");
    refused("things/1", &with(classifier(), "task", json!("instance-segmentation")), "unknown variant");
    refused("people/2", &with(pose(), "keypoints", json!({"names": ["nose"]})), "[1, 1, 3]");
    refused("people/2", &json!({"task": "object-detection"}), "firstlight.json says which is which");
    refused("people/2", &json!({"task": "classification", "class_names": ["a"]}), "outputs");
    refused("faces/3", &with(raw(), "input", json!({"std": [1, 0, 1]})), "no std of 0");
    // The file is there, the network is not.
    cache.add("faces/3", FACES, &raw());
    std::fs::remove_file(cache.dir("faces/3").join("model.tflite")).unwrap();
    refused("faces/3", &raw(), "model.tflite");
    // What the plan engine says, when asked by name.
    let image = picture("bus.jpg");
    cache.add("faces/3", FACES, &raw());
    let run = cache.run(&["infer", "--model", "faces/3", "--engine", "plan", image.to_str().unwrap()]);
    assert!(run.exit == Some(3) && run.stderr.contains("ONNX files only"), "{run:?}");
}

/// Manifests with something that does not belong there.
#[test]
fn damaged_manifests_are_read_or_refused() {
    use firstlight::cache::{Cache as Store, ModelId};
    let cache = Cache::new();
    let (store, id) = (Store::at(cache.0.path()), ModelId::parse("people/2").unwrap());
    let mut random = Random::new(0x7F11);
    let (mut read, mut refused) = (0, 0);
    for _ in 0..rounds(200) {
        let mut manifest = pose();
        deface(&mut manifest, &mut random);
        std::fs::write(cache.dir("people/2").join("firstlight.json"), manifest.to_string()).unwrap();
        match store.open(&id) {
            Ok(_) => read += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 100, "{refused} refused, {read} read");
}

fn load(bytes: &[u8], origin: String) -> Result<Box<dyn Session>, Error> {
    let shape = |declared: &DeclaredInput| InputShape {
        batch: declared.batch.unwrap_or(1),
        channels: declared.channels.unwrap_or(3),
        height: declared.height.unwrap_or(64),
        width: declared.width.unwrap_or(64),
    };
    let network = Network { bytes, origin: origin.into(), shape: &shape, picture: None, prebuilt: &[] };
    by_name("tract").unwrap().load(&network, LoadOptions { threads: 1 })
}

/// Loads a file's bytes by tract, and runs what loads.
fn try_to_run(bytes: &[u8], origin: String) -> bool {
    match load(bytes, origin) {
        Ok(mut session) => {
            // What was damaged may show only now; it must end, as a value or an error.
            let _ = session.run();
            true
        }
        Err(_) => false,
    }
}

#[test]
fn damaged_networks_are_run_or_refused() {
    let mut random = Random::new(0x7F11E);
    let bytes = std::fs::read(fetched().join(FACES)).unwrap();
    // Of these files, the structure is at one end, and the weights in the other.
    let structure = bytes.len() - 60_000..bytes.len();
    let (mut ran, mut refused) = (0, 0);
    // Small files, more structure than weights.
    for small in ["detector.tflite", "operators.tflite"] {
        let bytes = std::fs::read(made(small)).unwrap();
        for round in 0..rounds(200) {
            let _ = try_to_run(&damage(&bytes, &mut random), format!("{small}, round {round}"));
        }
    }
    for round in 0..rounds(150) {
        let hurt = match round % 3 {
            0 => damage(&bytes, &mut random),
            1 => [&bytes[..structure.start], &damage(&bytes[structure.clone()], &mut random)].concat(),
            // Numbers within the structure: sizes, indices, offsets, enumerations.
            _ => {
                let mut hurt = bytes.clone();
                for _ in 0..=random.below(3) {
                    let at = structure.start + random.below(structure.len());
                    hurt[at] = hurt[at].wrapping_add(1 + u8::try_from(random.below(255)).unwrap());
                }
                hurt
            }
        };
        match try_to_run(&hurt, format!("round {round}")) {
            true => ran += 1,
            false => refused += 1,
        }
    }
    println!("damaged networks: {refused} refused, {ran} ran");
    assert!(refused > 0 && ran > 0, "the damage should be of both kinds");
}

#[test]
fn a_cut_network_is_refused_wherever_it_is_cut() {
    let bytes = std::fs::read(fetched().join(CLASSIFIER)).unwrap();
    for eighths in 0..8 {
        let cut = &bytes[..bytes.len() * eighths / 8];
        assert!(!try_to_run(cut, format!("{eighths}/8")), "{eighths} eighths ran");
    }
}

/// The same through TensorFlow Lite's own library, in the worker; `scripts/test` brings it with the glibc that it needs.
#[test]
fn the_library_in_the_worker_answers_as_tract_does() {
    let Some(root) = std::env::var_os("FIRSTLIGHT_TEST_TFLITE").map(PathBuf::from) else {
        return eprintln!("NOT TESTED: FIRSTLIGHT_TEST_TFLITE names no library; tests/tflite-library.sh brings one");
    };
    let library = root.join("lib/libtensorflow-lite.so");
    let loader = format!("{} --library-path {}", root.join("loader").display(), root.join("lib").display());
    let cache = Cache::new();
    let answer = |id: &str, engine: &str, image: &str| -> Value {
        let (dir, image) = (cache.0.path().to_str().unwrap(), picture(image));
        let image = image.to_str().unwrap();
        let mut run =
            firstlight(&["--cache", dir, "infer", "--model", id, "--confidence", "0.2", "--engine", engine, image]);
        run.command.env("FIRSTLIGHT_TFLITE", &library).env("FIRSTLIGHT_WORKER_LOADER", &loader);
        let run = run.run();
        assert_eq!(run.exit, Some(0), "{}", run.stderr);
        assert_eq!(run.stderr.contains("engine tflite 2."), engine == "tflite", "{}", run.stderr);
        assert!(!run.stderr.contains("answers"), "{}", run.stderr);
        serde_json::from_str(&run.stdout).unwrap()
    };
    let number = |value: &Value| value.as_f64().expect("a number");
    for image in ["bus.jpg", "zidane.jpg"] {
        let (ours, theirs) = (answer("things/1", "tract", image), answer("things/1", "tflite", image));
        assert_eq!(ours["top"], theirs["top"], "{image}");
        // Of bytes, rounded after each of a hundred layers: some of their 256 steps.
        let apart = (number(&ours["confidence"]) - number(&theirs["confidence"])).abs();
        assert!(apart <= 16.0 / 256.0, "{image}: {apart}");
        let (ours, theirs) = (answer("people/2", "tract", image), answer("people/2", "tflite", image));
        let points = |answer: &Value| answer["predictions"][0]["keypoints"].as_array().unwrap().clone();
        let (ours, theirs) = (points(&ours), points(&theirs));
        assert!(ours.len() == theirs.len() && !ours.is_empty(), "{image}: {} and {}", ours.len(), theirs.len());
        for (a, b) in ours.iter().zip(&theirs) {
            assert!(
                (number(&a["x"]) - number(&b["x"])).abs() <= 1.0 && (number(&a["y"]) - number(&b["y"])).abs() <= 1.0
            );
        }
        let (ours, theirs) = (answer("faces/3", "tract", image), answer("faces/3", "tflite", image));
        for (a, b) in ours["predictions"].as_array().unwrap().iter().zip(theirs["predictions"].as_array().unwrap()) {
            assert_eq!((&a["name"], &a["shape"]), (&b["name"], &b["shape"]));
            let values = |output: &Value| output["values"].as_array().unwrap().clone();
            let worst =
                values(a).iter().zip(&values(b)).map(|(a, b)| (number(a) - number(b)).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-2, "{image} {}: {worst}", a["name"]);
        }
    }
}
