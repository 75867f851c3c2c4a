//! `cache import` through the binary: exports as their exporters write them, files that do not say what they are, other
//! caches; and that nothing is left where it fails.
//!
//! Exports lie in `FIRSTLIGHT_EXPORTS` (`scripts/export_models` makes them). Each that is not there is said aloud. What needs
//! no export uses the demo network, with the metadata that an exporter would have written.

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use firstlight::cache::{Cache, Layout, LayoutKind, ModelId, Package, PostProcessingKind, ResizeMode};
use serde_json::Value;
use support::recorded::{lay_out_classic, lay_out_models_cache};
use support::{Run, at_a_terminal, firstlight};

const IMAGENET: [f32; 3] = [0.485, 0.456, 0.406];

fn import(cache: &Path, args: &[&str]) -> Run {
    let cache = cache.to_str().unwrap();
    firstlight(&[&["--cache", cache, "cache", "import"], args].concat()).run()
}

/// A successful import's report.
fn imported(cache: &Path, args: &[&str]) -> Value {
    let run = import(cache, &[args, &["--json"]].concat());
    assert_eq!(run.exit, Some(0), "{args:?}: {}", run.stderr);
    serde_json::from_str(run.stdout.trim()).unwrap()
}

/// A refused import: its exit, words of its message, and that it left nothing at all.
fn refused(args: &[&str], exit: i32, words: &[&str]) {
    let cache = tempfile::tempdir().unwrap();
    let run = import(cache.path(), args);
    assert_eq!(run.exit, Some(exit), "{args:?}: {}", run.stderr);
    assert!(words.iter().all(|word| run.stderr.contains(word)), "{args:?}: {}", run.stderr);
    assert_eq!(tree(cache.path()), Vec::<String>::new(), "{args:?} left something");
}

/// All files and links below a directory.
fn tree(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => found.push(entry.path().strip_prefix(root).unwrap().display().to_string()),
            }
        }
    }
    found.sort();
    found
}

fn open(cache: &Path, id: &str) -> Package {
    Cache::at(cache).open(&ModelId::parse(id).unwrap()).unwrap_or_else(|error| panic!("{error}"))
}

fn verifies(cache: &Path) {
    let run = firstlight(&["--cache", cache.to_str().unwrap(), "cache", "verify"]).run();
    assert_eq!(run.exit, Some(0), "{}{}", run.stdout, run.stderr);
}

/// The demo network with this metadata and no other: fields of a protobuf message that are appended are fields of the message.
fn network(dir: &Path, name: &str, metadata: &[(&str, &str)]) -> String {
    let demo = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/demo/parts.onnx")).unwrap();
    let mut bytes = without_metadata(&demo);
    append(&mut bytes, metadata);
    let path = dir.join(name);
    fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().into()
}

/// `metadata_props` of an ONNX model, and key and value of its entries, all of them of known length.
const FIELDS: [u8; 3] = [14 << 3 | 2, 1 << 3 | 2, 2 << 3 | 2];

/// The fields of a message but for its metadata.
fn without_metadata(mut message: &[u8]) -> Vec<u8> {
    let varint = |bytes: &[u8]| {
        let length = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let value = bytes[..length].iter().rev().fold(0_usize, |value, byte| value << 7 | usize::from(byte & 0x7F));
        (value, length)
    };
    let mut kept = Vec::new();
    while !message.is_empty() {
        let (value, length) = varint(&message[1..]);
        // Numbers, or what has a length: a model has no other fields, and none whose tag is longer than a byte.
        let end = 1 + length + if message[0] & 7 == 2 { value } else { 0 };
        let (field, rest) = message.split_at(end);
        if field[0] != FIELDS[0] {
            kept.extend_from_slice(field);
        }
        message = rest;
    }
    kept
}

fn append(bytes: &mut Vec<u8>, metadata: &[(&str, &str)]) {
    let field = |tag: u8, content: &[u8]| {
        let mut field = vec![tag];
        let mut length = content.len();
        while length >= 0x80 {
            field.push(u8::try_from(length & 0x7F).unwrap() | 0x80);
            length >>= 7;
        }
        field.push(u8::try_from(length).unwrap());
        field.extend_from_slice(content);
        field
    };
    for (key, value) in metadata {
        let entry = [field(FIELDS[1], key.as_bytes()), field(FIELDS[2], value.as_bytes())].concat();
        bytes.extend(field(FIELDS[0], &entry));
    }
}

/// What ultralytics 8.4 writes into its exports (its `engine/exporter.py`).
const ULTRALYTICS: [(&str, &str); 12] = [
    ("description", "Ultralytics YOLOv8n model trained on parts.yaml"),
    ("author", "Ultralytics"),
    ("date", "2026-11-22T14:30:33.063733+00:00"),
    ("version", "8.4.190"),
    ("stride", "32"),
    ("task", "detect"),
    ("head", "Detect"),
    ("batch", "1"),
    ("imgsz", "[320, 320]"),
    ("names", "{0: 'bolt', 1: \"worker's nut\", 2: 'washer'}"),
    ("channels", "3"),
    ("end2end", "False"),
];

struct Export {
    name: &'static str,
    task: &'static str,
    model_type: &'static str,
    classes: usize,
    resize: ResizeMode,
}

const fn export(name: &'static str, task: &'static str, model_type: &'static str, classes: usize) -> Export {
    Export { name, task, model_type, classes, resize: ResizeMode::Letterbox }
}

/// Of `scripts/export_models`; all of them run without a flag.
const EXPORTS: &[Export] = &[
    export("yolov8n-160", "object-detection", "yolov8", 80),
    export("yolov8n-dynamic", "object-detection", "yolov8", 80),
    export("yolov8n-fp16", "object-detection", "yolov8", 80),
    export("yolov8n-fp16-io", "object-detection", "yolov8", 80),
    export("yolov8n-256x384", "object-detection", "yolov8", 80),
    export("yolo11n", "object-detection", "yolov11", 80),
    export("yolo12n", "object-detection", "yolov12", 80),
    export("yolov9t", "object-detection", "yolov9", 80),
    export("yolov5nu", "object-detection", "yolov8", 80),
    export("yolov8n-seg", "instance-segmentation", "yolov8", 80),
    export("yolov8n-pose", "keypoint-detection", "yolov8", 1),
    Export { resize: ResizeMode::Stretch, ..export("yolov8n-cls", "classification", "yolov8", 1000) },
    export("yolov10n", "object-detection", "yolov10", 80),
    export("yolo26n", "object-detection", "yolo26", 80),
    Export { resize: ResizeMode::Stretch, ..export("rtdetr", "object-detection", "rtdetr-l", 80) },
    Export { resize: ResizeMode::Stretch, ..export("rfdetr-nano", "object-detection", "rfdetr", 91) },
    Export { resize: ResizeMode::Stretch, ..export("rfdetr-seg-nano", "instance-segmentation", "rfdetr", 91) },
];

/// YOLO11's other heads, of which there is no export: they answer as YOLOv8's do, and their files say another name.
const RENAMED: [(&str, &str, &str); 3] = [
    ("yolov8n-seg", "Ultralytics YOLO11n-seg model ", "instance-segmentation"),
    ("yolov8n-pose", "Ultralytics YOLO11n-pose model ", "keypoint-detection"),
    ("yolov8n-cls", "Ultralytics YOLO11n-cls model ", "classification"),
];

fn exports() -> PathBuf {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/exports");
    std::env::var_os("FIRSTLIGHT_EXPORTS").map_or(default, PathBuf::from)
}

/// An export's file; what is not there is said past the harness, which keeps what passes to itself.
fn exported(name: &str) -> Option<String> {
    let path = exports().join(name).join("model.onnx");
    if !path.exists() {
        let why =
            format!("import: NOT TESTED: {name}: {} is missing; scripts/export_models makes it\n", path.display());
        std::io::stderr().write_all(why.as_bytes()).unwrap();
        return None;
    }
    Some(path.to_str().unwrap().into())
}

#[test]
fn exports_need_no_flag() {
    let cache = tempfile::tempdir().unwrap();
    for export in EXPORTS {
        let Some(path) = exported(export.name) else { continue };
        let id = format!("{}/1", export.name);
        let report = imported(cache.path(), &[&path, "--id", &id]);
        let words = |key: &str| report[key].as_str().unwrap_or_default().to_owned();
        assert_eq!((words("task"), words("type")), (export.task.into(), export.model_type.into()), "{id}");
        assert_eq!(report["classes"], export.classes, "{id}");
        let package = open(cache.path(), &id);
        assert_eq!(package.class_names.len(), export.classes, "{id}");
        match &package.layout {
            Layout::ModelsCache(layout) => {
                let input = &layout.config.network_input;
                assert_eq!(input.resize, export.resize, "{id}");
                let normalization = input.normalization.map(|normalization| normalization.mean);
                assert_eq!(normalization, export.model_type.starts_with("rfdetr").then_some(IMAGENET), "{id}");
                let padding = if export.resize == ResizeMode::Letterbox { 114.0 } else { 0.0 };
                assert_eq!((input.padding, input.scaling), (padding, Some(255.0)), "{id}");
                let softmax = layout.config.post_processing.kind == PostProcessingKind::Softmax;
                assert_eq!((softmax, layout.config.post_processing.fused), (export.task == "classification", softmax));
            }
            Layout::Classic { preprocessing, .. } => assert_eq!(preprocessing.resize.mode.0, export.resize, "{id}"),
            Layout::Tflite(_) => panic!("{id} is no such package"),
        }
    }
}

#[test]
fn yolo11_heads_need_no_flag() {
    let cache = tempfile::tempdir().unwrap();
    let files = tempfile::tempdir().unwrap();
    for (name, description, task) in RENAMED {
        let Some(path) = exported(name) else { continue };
        let mut bytes = fs::read(path).unwrap();
        append(&mut bytes, &[("description", description)]);
        let file = files.path().join(format!("{name}.onnx"));
        fs::write(&file, bytes).unwrap();
        let report = imported(cache.path(), &[file.to_str().unwrap()]);
        assert_eq!((report["task"].as_str(), report["type"].as_str()), (Some(task), Some("yolov11")), "{name}");
        let package = open(cache.path(), report["id"].as_str().unwrap());
        if task == "keypoint-detection" {
            assert_eq!((package.keypoints[0].names.len(), package.keypoints[0].edges.len()), (17, 19));
        }
    }
}

#[test]
fn an_export_becomes_what_roboflows_layout_prescribes() {
    let (cache, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = network(files.path(), "Best Parts.onnx", &ULTRALYTICS);
    let report = imported(cache.path(), &[&file]);
    assert_eq!(report["id"], "best-parts/1");
    assert_eq!((report["type"].as_str(), report["variant"].as_str()), (Some("yolov8"), Some("yolov8n")));
    let id = ModelId::parse("best-parts/1").unwrap();
    let slug = id.models_cache_slug();
    let package = format!("models-cache/{slug}/onnxfp32st1");
    let read = |file: &str| fs::read_to_string(cache.path().join(file)).unwrap();
    assert_eq!(read(&format!("{package}/class_names.txt")), "bolt\nworker's nut\nwasher");
    assert_eq!(
        read("best-parts/1/model_type.json"),
        "{\n    \"project_task_type\": \"object-detection\",\n    \"model_type\": \"yolov8\",\n    \
         \"model_id\": \"best-parts/1\",\n    \"model_variant\": \"yolov8n\"\n}"
    );
    assert_eq!(
        read(&format!("{package}/inference_config.json")),
        "{\"image_pre_processing\": {\"auto-orient\": {\"enabled\": true}}, \"network_input\": \
         {\"training_input_size\": {\"height\": 320, \"width\": 320}, \"dataset_version_resize_dimensions\": \
         {\"height\": 320, \"width\": 320}, \"dynamic_spatial_size_supported\": false, \
         \"dynamic_spatial_size_mode\": null, \"color_mode\": \"rgb\", \"resize_mode\": \"letterbox\", \
         \"padding_value\": 114, \"input_channels\": 3, \"scaling_factor\": 255, \"normalization\": null}, \
         \"forward_pass\": {\"static_batch_size\": 1, \"max_dynamic_batch_size\": null}, \"post_processing\": \
         {\"type\": \"nms\", \"fused\": false}}"
    );
    let record: Value = serde_json::from_str(&read(&format!("offline-weights-registry/{slug}.json"))).unwrap();
    assert_eq!(
        (record["canonical_model_id"].as_str(), record["source"].as_str()),
        (Some("best-parts/1"), Some("cli-install"))
    );
    // Every file but the manifest is a link to the blob of its MD5, by an absolute path, as Roboflow's loader makes them.
    let manifest: Value = serde_json::from_str(&read(&format!("{package}/model_config.json"))).unwrap();
    for artifact in manifest["package_artifacts"].as_array().unwrap() {
        let link = cache.path().join(&package).join(artifact["file_handle"].as_str().unwrap());
        let target = fs::read_link(link).unwrap();
        assert!(target.is_absolute() && target.ends_with(artifact["md5_hash"].as_str().unwrap()));
    }
    let mode = fs::metadata(cache.path().join(&package).join("model_config.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    verifies(cache.path());
    assert!(!cache.path().join(".firstlight").exists(), "what was staged is gone");
}

#[test]
fn the_classic_layout_is_written_where_it_is_asked_for() {
    let (cache, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = network(files.path(), "parts.onnx", &ULTRALYTICS);
    let report = imported(cache.path(), &[&file, "--layout", "classic", "--id", "mine/3"]);
    assert_eq!(report["layout"], "classic");
    let files: Vec<String> = tree(cache.path()).into_iter().filter(|path| !path.contains("lock")).collect();
    assert_eq!(
        files,
        ["class_names.txt", "environment.json", "model_type.json", "weights.onnx"].map(|file| format!("mine/3/{file}"))
    );
    let package = open(cache.path(), "mine/3");
    assert_eq!((package.layout_kind(), package.class_names[1].as_str()), (LayoutKind::Classic, "worker's nut"));
    verifies(cache.path());
}

#[test]
fn what_a_file_does_not_say_is_asked_for_by_the_flag_that_decides_it() {
    let (cache, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let silent = network(files.path(), "silent.onnx", &[]);
    refused(&[&silent], 2, &["--classes", "a,b,c", "found: input [1, 3, 320, 320]", "no metadata"]);
    refused(&[&silent, "--classes", "a,b"], 4, &["3 classes", "2 names"]);
    refused(&[&silent, "--classes", "/nowhere/names.txt"], 2, &["/nowhere/names.txt", "no such file"]);
    refused(&[&silent, "--classes", "a,,c"], 2, &["class 1", "--classes"]);
    refused(&[&silent, "--classes", "a,b,c", "--size", "640x640"], 2, &["--size 640x640", "320x320"]);
    refused(&[&silent, "--classes", "a,b,c", "--type", "yolo8"], 3, &["yolo8", "nearest"]);
    refused(&[&silent, "--classes", "a,b,c", "--task", "find"], 3, &["task `find`", "no such task"]);
    refused(&[&silent, "--classes", "a,b,c", "--id", "a/b/c"], 3, &["more than one slash"]);
    refused(&[&silent, "--classes", "a,b,c", "--id", "sam2/1"], 2, &["foundation model"]);
    let names = files.path().join("names.txt");
    fs::write(&names, "bolt\nnut\n\nwasher\n").unwrap();
    let report = imported(cache.path(), &[&silent, "--classes", names.to_str().unwrap(), "--resize", "stretch"]);
    assert_eq!((report["type"].as_str(), report["resize"].as_str()), (Some("yolov8"), Some("stretch")));
    assert_eq!(open(cache.path(), "silent/1").class_names, ["bolt", "nut", "washer"]);
}

#[test]
fn who_sits_at_a_terminal_is_asked() {
    let (cache, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let silent = network(files.path(), "silent.onnx", &[]);
    let args = ["--cache", cache.path().to_str().unwrap(), "cache", "import", &silent];
    let (exit, shown) = at_a_terminal(&args, "bolt,nut,washer\nn\n");
    assert_eq!(exit, Some(1), "{shown}");
    assert!(shown.contains("--classes") && shown.contains("nothing was imported"), "{shown}");
    assert_eq!(tree(cache.path()), Vec::<String>::new());
    let (exit, shown) = at_a_terminal(&args, "bolt,nut,washer\ny\n");
    assert_eq!(exit, Some(0), "{shown}");
    assert_eq!(open(cache.path(), "silent/1").class_names, ["bolt", "nut", "washer"]);
}

#[test]
fn metadata_that_is_none_is_named() {
    let files = tempfile::tempdir().unwrap();
    let with = |key: &str, value: &str| {
        let changed: Vec<(&str, &str)> =
            ULTRALYTICS.iter().map(|&(k, v)| if k == key { (k, value) } else { (k, v) }).collect();
        network(files.path(), "parts.onnx", &changed)
    };
    refused(&[&with("names", "{0: 'bolt'")], 3, &["parts.onnx", "`names`"]);
    refused(&[&with("names", "{0: 'bolt', 7: 'nut'}")], 3, &["`names`", "keys 0 to 1"]);
    refused(&[&with("task", "obb")], 3, &["`obb`", "detect"]);
    refused(&[&with("task", "pose")], 3, &["kpt_shape"]);
    refused(&[&with("task", "segment")], 4, &["outputs"]);
}

#[test]
fn what_is_no_network_is_refused_and_leaves_nothing() {
    let files = tempfile::tempdir().unwrap();
    let whole = fs::read(network(files.path(), "whole.onnx", &ULTRALYTICS)).unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = files.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    refused(&[&file("cut.onnx", &whole[..whole.len() / 2])], 3, &["cut.onnx"]);
    refused(&[&file("empty.onnx", b"")], 3, &["empty"]);
    refused(&[&file("noise.onnx", &[0xA5; 5000])], 3, &["noise.onnx", "protobuf"]);
    refused(&["/nowhere/x.onnx"], 3, &["/nowhere/x.onnx"]);
    refused(&[files.path().to_str().unwrap()], 2, &["neither an ONNX file nor a cache"]);
}

#[test]
fn an_id_that_is_taken_stays_unless_it_is_to_be_replaced() {
    let (cache, files) = (support::parts_cache(), tempfile::tempdir().unwrap());
    let file = network(files.path(), "parts.onnx", &ULTRALYTICS);
    let before = tree(cache.path());
    let run = import(cache.path(), &[&file, "--id", "parts/1"]);
    assert_eq!(run.exit, Some(2), "{}", run.stderr);
    assert!(run.stderr.contains("parts/1") && run.stderr.contains("--replace"), "{}", run.stderr);
    assert_eq!(tree(cache.path()), before);
    for layout in ["packages", "classic", "packages"] {
        imported(cache.path(), &[&file, "--id", "parts/1", "--layout", layout, "--replace"]);
        let places = Cache::at(cache.path()).places_of(&ModelId::parse("parts/1").unwrap());
        assert_eq!(places.len(), 1, "{layout}: {places:?}");
        assert_eq!(open(cache.path(), "parts/1").class_names[1], "worker's nut");
        verifies(cache.path());
    }
    assert!(!cache.path().join("parts/1/weights.onnx").exists(), "the classic package is gone");
}

#[test]
fn locks_of_roboflows_programs_are_waited_for() {
    let (cache, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = network(files.path(), "parts.onnx", &ULTRALYTICS);
    let model = cache.path().join("models-cache").join(ModelId::parse("parts/1").unwrap().models_cache_slug());
    fs::create_dir_all(&model).unwrap();
    let lock = File::create(model.join(".onnxfp32st1.materialization.lock")).unwrap();
    lock.lock().unwrap();
    std::thread::scope(|scope| {
        let importing = scope.spawn(|| import(cache.path(), &[&file, "--id", "parts/1"]));
        std::thread::sleep(Duration::from_secs(3));
        assert!(!model.join("onnxfp32st1").exists() && !importing.is_finished());
        drop(lock);
        let run = importing.join().unwrap();
        assert_eq!(run.exit, Some(0), "{}", run.stderr);
    });
    verifies(cache.path());
}

/// A cache with a model in each of Roboflow's layouts and one in both, which was moved after it was written.
fn other_cache() -> (tempfile::TempDir, PathBuf) {
    let old = tempfile::tempdir().unwrap();
    lay_out_models_cache(old.path(), "g-const-v8det/1").unwrap();
    lay_out_models_cache(old.path(), "g-const-v8seg/1").unwrap();
    lay_out_classic(old.path(), "g-const-v8seg/1").unwrap();
    lay_out_classic(old.path(), "g-const-v8pose/1").unwrap();
    let moved = old.path().with_extension("moved");
    fs::rename(old.path(), &moved).unwrap();
    (old, moved)
}

#[test]
fn a_cache_is_copied_with_its_links_and_layouts() {
    let (cache, (_old, from)) = (tempfile::tempdir().unwrap(), other_cache());
    let path = from.to_str().unwrap();
    let run = import(cache.path(), &[path, "--json"]);
    assert_eq!(run.exit, Some(0), "{}{}", run.stdout, run.stderr);
    let told: Vec<Value> = run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let outcomes: Vec<(&str, &str)> =
        told.iter().map(|of| (of["id"].as_str().unwrap(), of["outcome"].as_str().unwrap())).collect();
    let ids = ["g-const-v8det/1", "g-const-v8pose/1", "g-const-v8seg/1"];
    assert_eq!(outcomes, ids.map(|id| (id, "imported")));
    // The same again is there; one that is named is looked at alone.
    let again = import(cache.path(), &[path, "--id", ids[2]]);
    assert_eq!((again.exit, again.stdout.starts_with("there g-const-v8seg/1")), (Some(0), true), "{}", again.stdout);
    fs::remove_dir_all(&from).unwrap();
    for id in ids {
        let here = open(cache.path(), id);
        assert!(here.dir.starts_with(cache.path()) && !here.class_names.is_empty());
    }
    let seg = Cache::at(cache.path()).places_of(&ModelId::parse(ids[2]).unwrap());
    assert_eq!(seg.len(), 2, "both layouts: {seg:?}");
    verifies(cache.path());
}

#[test]
fn a_damaged_or_treacherous_package_is_not_copied_and_the_others_are() {
    let (cache, (_old, from)) = (tempfile::tempdir().unwrap(), other_cache());
    let place = |id: &str| Cache::at(&from).places_of(&ModelId::parse(id).unwrap()).pop().unwrap();
    // One byte of a blob; and a file that leads out of the cache.
    let link = fs::read_link(place("g-const-v8det/1").join("weights.onnx")).unwrap();
    let blob = from.join("shared-blobs").join(link.file_name().unwrap());
    let mut bytes = fs::read(&blob).unwrap();
    bytes[100] ^= 1;
    fs::write(&blob, bytes).unwrap();
    let names = place("g-const-v8pose/1").join("class_names.txt");
    fs::remove_file(&names).unwrap();
    symlink("/etc/hostname", &names).unwrap();
    let run = import(cache.path(), &[from.to_str().unwrap()]);
    fs::remove_dir_all(&from).unwrap();
    assert_eq!(run.exit, Some(1), "{}{}", run.stdout, run.stderr);
    let line = |id: &str| run.stdout.lines().find(|line| line.contains(id)).unwrap().to_owned();
    assert!(
        line("g-const-v8det/1").starts_with("failed") && line("g-const-v8det/1").contains("digest"),
        "{}",
        run.stdout
    );
    assert!(line("g-const-v8pose/1").contains("out of the cache"), "{}", run.stdout);
    assert!(line("g-const-v8seg/1").starts_with("imported"), "{}", run.stdout);
    assert_eq!(Cache::at(cache.path()).ids(), ["g-const-v8seg/1"]);
    assert!(!cache.path().join(".firstlight").exists());
}

#[test]
fn a_disk_that_is_too_small_is_found_before_anything_is_written() {
    let files = tempfile::tempdir().unwrap();
    let file = network(files.path(), "parts.onnx", &ULTRALYTICS);
    let script =
        "mount -t tmpfs -o size=4m none \"$1\" && \"$2\" --cache \"$1\" cache import \"$3\"; echo $?; ls -A \"$1\"";
    let place = tempfile::tempdir().unwrap();
    let output = std::process::Command::new("unshare")
        .args(["-rm", "sh", "-c", script, "sh"])
        .args([place.path().to_str().unwrap(), env!("CARGO_BIN_EXE_firstlight"), &file])
        .env("FIRSTLIGHT_STATE_DIR", "off")
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(stderr.contains("MB are needed and") && stderr.contains("nothing was written"), "{stderr}");
    assert_eq!(stdout, "1\n", "the exit, and an empty folder: {stdout}");
}
