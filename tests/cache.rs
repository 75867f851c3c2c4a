//! Both of Roboflow's cache layouts as a device meets them: moved, copied, read-only, damaged, with several packages.
//! The caches are those that the real library wrote, laid out from the recordings.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use firstlight::cache::{Cache, Error, Host, Layout, LayoutKind, ModelId, Package};
use serde_json::{Value, json};
use support::damage::{Random, damage, deface, rounds};
use support::firstlight;
use support::recorded::{lay_out_classic, lay_out_models_cache};

const DETECTOR: &str = "g-const-v8det/1";

fn open(root: &Path, id: &str) -> Result<Package, Error> {
    Cache::at(root).open(&ModelId::parse(id).unwrap())
}

fn models_cache(package: &Package) -> &firstlight::cache::ModelsCache {
    match &package.layout {
        Layout::ModelsCache(layout) => layout,
        Layout::Classic { .. } | Layout::Tflite(_) => panic!("a package of another layout"),
    }
}

/// A cache with one model in the models-cache layout, and the directory of its package.
fn one_model(id: &str) -> (tempfile::TempDir, PathBuf) {
    let cache = tempfile::tempdir().unwrap();
    let package = lay_out_models_cache(cache.path(), id).unwrap();
    (cache, package)
}

#[test]
fn every_recorded_cache_opens_in_both_layouts() {
    let mut opened = 0;
    for entry in fs::read_dir(support::shared().join("golden/caches")).unwrap() {
        let description: Value = serde_json::from_slice(&fs::read(entry.unwrap().path()).unwrap()).unwrap();
        // A hundred megabytes of noise each, made by a script: the texts are as those of their siblings.
        if description["model"].get("made_by").is_some() {
            continue;
        }
        let id = description["model_id"].as_str().unwrap();
        let root = tempfile::tempdir().unwrap();
        lay_out_models_cache(root.path(), id).unwrap();
        let package = open(root.path(), id).unwrap_or_else(|error| panic!("{id}: {error}"));
        assert_eq!(package.id, id);
        let layout = models_cache(&package);
        assert_eq!((layout.package_id.as_str(), layout.backend.as_str()), ("onnxfp32st1", "onnx"), "{id}");
        assert!(!package.class_names.is_empty() && package.class_names.len() == package.colors.len(), "{id}");
        assert_eq!(package.keypoints.is_empty(), package.kind.task != "keypoint-detection", "{id}");
        if description.get("classic").is_some() {
            let root = tempfile::tempdir().unwrap();
            lay_out_classic(root.path(), id).unwrap();
            let package = open(root.path(), id).unwrap_or_else(|error| panic!("{id}: {error}"));
            assert_eq!(package.layout_kind(), LayoutKind::Classic, "{id}");
            assert_eq!(package.keypoints.is_empty(), package.kind.task != "keypoint-detection", "{id}");
        }
        opened += 1;
    }
    assert!(opened > 100, "{opened} recorded caches");
}

#[test]
fn a_moved_cache_opens_though_its_links_dangle() {
    let (old, _) = one_model(DETECTOR);
    let moved = old.path().with_extension("moved");
    fs::rename(old.path(), &moved).unwrap();
    let package = open(&moved, DETECTOR);
    // No link may lead back to where the cache was, even if something is there again.
    let (again, dir) = one_model(DETECTOR);
    fs::write(again.path().join("shared-blobs").join(blob_of(&dir, "class_names.txt")), "other\n").unwrap();
    fs::rename(again.path(), old.path()).unwrap();
    let beside = open(&moved, DETECTOR);
    fs::remove_dir_all(&moved).unwrap();
    assert_eq!(package.unwrap().class_names, beside.unwrap().class_names);
}

#[test]
fn links_that_are_gone_or_were_copied_as_files_do_no_harm() {
    for copied in [false, true] {
        let (cache, dir) = one_model(DETECTOR);
        for file in ["weights.onnx", "class_names.txt", "inference_config.json"] {
            let content = fs::read(dir.join(file)).unwrap();
            fs::remove_file(dir.join(file)).unwrap();
            if copied {
                fs::write(dir.join(file), content).unwrap();
            }
        }
        if copied {
            fs::remove_dir_all(cache.path().join("shared-blobs")).unwrap();
        }
        let package = open(cache.path(), DETECTOR).unwrap();
        assert_eq!(package.class_names.len(), 4, "copied: {copied}");
    }
}

#[test]
fn neither_registry_nor_anything_else_of_the_library_is_needed() {
    let (cache, dir) = one_model(DETECTOR);
    fs::remove_dir_all(cache.path().join("offline-weights-registry")).unwrap();
    fs::remove_dir_all(cache.path().join("g-const-v8det")).unwrap();
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "lock") {
            fs::remove_file(path).unwrap();
        }
    }
    // As old as a clock that was never set says.
    let epoch = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
    fs::File::open(dir.join("model_config.json")).unwrap().set_times(epoch).unwrap();
    open(cache.path(), DETECTOR).unwrap();
    let run = firstlight(&["--cache", cache.path().to_str().unwrap(), "probe", "--model", DETECTOR, "--json"]).run();
    let probe: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(probe["package"]["package_id"], "onnxfp32st1");
    assert_eq!(probe["package"]["passed_over"], json!([]));
}

#[test]
fn a_damaged_file_is_named_with_both_digests_and_not_used() {
    for file in ["weights.onnx", "class_names.txt", "inference_config.json"] {
        let (cache, dir) = one_model(DETECTOR);
        let expected = blob_of(&dir, file);
        let blob = cache.path().join("shared-blobs").join(&expected);
        let mut content = fs::read(&blob).unwrap();
        // A bit of a digit or letter: the file still parses.
        let middle = content.iter().position(u8::is_ascii_alphabetic).unwrap();
        content[middle] ^= 1;
        fs::write(&blob, content).unwrap();
        let message = open(cache.path(), DETECTOR).unwrap_err().to_string();
        assert!(message.contains(&expected) && message.contains("damaged"), "{file}: {message}");
        let root = cache.path().to_str().unwrap();
        let run = firstlight(&["--cache", root, "cache", "verify"]).run();
        assert_eq!(run.exit, Some(4), "{file}: {} {}", run.stdout, run.stderr);
        assert!(run.stdout.contains(&format!("FAULT {DETECTOR} onnxfp32st1: ")) && run.stdout.contains(&expected));
        let run = firstlight(&["--cache", root, "infer", "--model", DETECTOR, "x.png"]).run();
        assert_eq!(run.exit, Some(3), "{file}: {}", run.stderr);
    }
}

#[test]
fn a_sha256_is_checked_too_and_a_link_to_another_blob_refused() {
    let (cache, dir) = one_model(DETECTOR);
    edit_manifest(&dir, |manifest| {
        let names = artifact(manifest, "class_names.txt");
        names["sha256_hash"] = json!("0".repeat(64));
    });
    let entries = Cache::at(cache.path()).entries();
    let faults = Cache::at(cache.path()).faults(&entries[0]);
    assert!(matches!(&faults[..], [Error::Digest { expected, .. }] if *expected == "0".repeat(64)), "{faults:?}");

    let (cache, dir) = one_model(DETECTOR);
    let other = blob_of(&dir, "inference_config.json");
    fs::remove_file(dir.join("class_names.txt")).unwrap();
    let target = cache.path().join("shared-blobs").join(&other);
    std::os::unix::fs::symlink(target, dir.join("class_names.txt")).unwrap();
    assert!(matches!(open(cache.path(), DETECTOR), Err(Error::Digest { found, .. }) if found == other));
}

#[test]
fn links_out_of_the_cache_and_loops_are_refused() {
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("names.txt");
    fs::write(&secret, "root\n").unwrap();
    let relink = |dir: &Path, target: &Path| {
        fs::remove_file(dir.join("class_names.txt")).unwrap();
        std::os::unix::fs::symlink(target, dir.join("class_names.txt")).unwrap();
    };
    let (cache, dir) = one_model(DETECTOR);
    relink(&dir, &secret);
    assert!(matches!(open(cache.path(), DETECTOR), Err(Error::Escapes { .. })));

    // A blob that is itself a link out.
    let (cache, dir) = one_model(DETECTOR);
    let blob = cache.path().join("shared-blobs").join(blob_of(&dir, "class_names.txt"));
    fs::remove_file(&blob).unwrap();
    std::os::unix::fs::symlink(&secret, &blob).unwrap();
    assert!(matches!(open(cache.path(), DETECTOR), Err(Error::Escapes { .. })));

    // A loop in place of a file is no file; the manifest still says which blob it is.
    let (cache, dir) = one_model(DETECTOR);
    relink(&dir, Path::new("class_names.txt"));
    open(cache.path(), DETECTOR).unwrap();
    let blob = cache.path().join("shared-blobs").join(artifact_md5(&dir, "class_names.txt"));
    fs::remove_file(&blob).unwrap();
    std::os::unix::fs::symlink(&blob, &blob).unwrap();
    assert!(matches!(open(cache.path(), DETECTOR), Err(Error::Read { .. })));
}

#[test]
fn the_best_runnable_package_is_taken_and_each_other_has_its_reason() {
    let (cache, dir) = one_model(DETECTOR);
    let add = |package_id: &str, change: &dyn Fn(&mut Value)| {
        let other = dir.with_file_name(package_id);
        copy_tree(&dir, &other);
        edit_manifest(&other, change);
    };
    add("onnxfp32dyn", &|manifest| {
        manifest["dynamic_batch_size_supported"] = json!(true);
        manifest["static_batch_size"] = Value::Null;
    });
    add("onnxfp16", &|manifest| manifest["quantization"] = json!("fp16"));
    add("onnxbf16", &|manifest| manifest["quantization"] = json!("bf16"));
    add("trt1", &|manifest| manifest["backend_type"] = json!("trt"));
    add("broken1", &|manifest| manifest["static_batch_size"] = json!("many"));
    fs::remove_file(dir.with_file_name("onnxfp16").join("weights.onnx")).unwrap();

    let root = cache.path().to_str().unwrap();
    let probe = firstlight(&["--cache", root, "probe", "--model", DETECTOR, "--json"]).run();
    let probe: Value = serde_json::from_str(&probe.stdout).unwrap();
    assert_eq!(probe["package"]["package_id"], "onnxfp32dyn");
    let why = |package_id: &str| {
        let others = probe["package"]["passed_over"].as_array().unwrap();
        let other = others.iter().find(|other| other["package_id"] == package_id);
        other.unwrap_or_else(|| panic!("{package_id} is not in {others:?}"))["why"].as_str().unwrap().to_owned()
    };
    assert_eq!(why("onnxfp32st1"), "onnxfp32dyn is preferred");
    assert_eq!(why("onnxfp16"), "onnxfp32dyn is preferred");
    assert!(why("onnxbf16").contains("bf16"));
    assert!(why("trt1").contains("backend is trt"));
    assert!(why("broken1").contains("static_batch_size"));
    let words = firstlight(&["--cache", root, "probe", "--model", DETECTOR]).run().stdout;
    assert!(
        words.contains("models-cache onnxfp32dyn onnx fp32: chosen") && words.contains("trt1 trt fp32: passed over")
    );

    let rows = firstlight(&["--cache", root, "cache", "ls", "--json"]).run();
    let rows: Vec<Value> = serde_json::from_str(&rows.stdout).unwrap();
    let states: Vec<(&str, &str)> =
        rows.iter().map(|row| (row["package"].as_str().unwrap(), row["state"].as_str().unwrap())).collect();
    let expected = [
        ("broken1", "broken"),
        ("onnxbf16", "unsupported"),
        ("onnxfp16", "ready"),
        ("onnxfp32dyn", "ready"),
        ("onnxfp32st1", "ready"),
        ("trt1", "unsupported"),
    ];
    assert_eq!(states, expected);
    assert_eq!((rows[3]["layout"].as_str(), rows[3]["backend"].as_str()), (Some("models-cache"), Some("onnx")));

    // A package that turns out broken gives way to the next.
    let config = dir.with_file_name("onnxfp32dyn").join("inference_config.json");
    fs::remove_file(&config).unwrap();
    fs::write(&config, "{}").unwrap();
    let package = open(cache.path(), DETECTOR).unwrap();
    assert_eq!(models_cache(&package).package_id, "onnxfp32st1");
}

#[test]
fn a_model_without_a_package_for_this_board_says_what_there_is() {
    let (cache, dir) = one_model(DETECTOR);
    edit_manifest(&dir, |manifest| manifest["backend_type"] = json!("trt"));
    let message = open(cache.path(), DETECTOR).unwrap_err().to_string();
    assert!(message.contains("onnxfp32st1: its backend is trt, this binary runs onnx here"), "{message}");
    let root = cache.path().to_str().unwrap();
    let run = firstlight(&["--cache", root, "infer", "--model", DETECTOR, "x.png"]).run();
    assert_eq!((run.exit, run.stderr.contains("backend is trt")), (Some(3), true), "{}", run.stderr);
}

#[test]
fn the_models_cache_goes_first_and_the_caller_may_force_the_other() {
    let cache = tempfile::tempdir().unwrap();
    lay_out_models_cache(cache.path(), DETECTOR).unwrap();
    let only_type = Cache::at(cache.path()).entries();
    assert_eq!(only_type.len(), 1, "the library's own model_type.json is no classic package: {only_type:?}");
    let classic = lay_out_classic(cache.path(), DETECTOR).unwrap();
    let id = ModelId::parse(DETECTOR).unwrap();
    let open = |layout: Option<LayoutKind>| Cache::at(cache.path()).choose(&id, layout, &Host::default());
    let choice = open(None).unwrap();
    assert_eq!(choice.package.layout_kind(), LayoutKind::ModelsCache);
    assert_eq!(choice.passed_over.len(), 1);
    assert_eq!(choice.passed_over[0].layout, LayoutKind::Classic);
    assert_eq!(open(Some(LayoutKind::Classic)).unwrap().package.dir, classic);
    assert_eq!(open(Some(LayoutKind::ModelsCache)).unwrap().package.layout_kind(), LayoutKind::ModelsCache);
    let root = cache.path().to_str().unwrap();
    let run = firstlight(&["--cache", root, "probe", "--model", DETECTOR, "--layout", "classic"]).run();
    assert!(run.stdout.contains(&format!("{DETECTOR} classic onnx: chosen")), "{}", run.stdout);
    assert_eq!(Cache::at(cache.path()).entries().len(), 2);

    // Whoever wants one engine's answers gets them from that engine's own layout.
    let image = concat!(env!("CARGO_MANIFEST_DIR"), "/src/demo/golden.png");
    for (semantics, package_id) in [("classic", Value::Null), ("default", json!("onnxfp32st1"))] {
        let run = firstlight(&["--cache", root, "infer", "--model", DETECTOR, "--semantics", semantics, image]).run();
        let answer: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{}", run.stderr));
        assert_eq!(answer["resolved_model"]["model_package_id"], package_id, "{semantics}");
    }

    // Without a usable package of the models-cache the classic one stands in.
    fs::remove_dir_all(cache.path().join("shared-blobs")).unwrap();
    let choice = open(None).unwrap();
    assert_eq!((choice.package.layout_kind(), choice.passed_over.len()), (LayoutKind::Classic, 1));
    assert!(matches!(open(Some(LayoutKind::ModelsCache)), Err(Error::Missing { .. })));
}

#[test]
fn thresholds_come_from_the_manifest_else_from_the_registry() {
    let (cache, dir) = one_model("g-yolov8n/18");
    let package = open(cache.path(), "g-yolov8n/18").unwrap();
    let recommended = models_cache(&package).recommended.clone();
    assert_eq!((recommended.confidence, recommended.per_class["square"]), (Some(0.55), 0.7));
    edit_manifest(&dir, |manifest| manifest["recommended_parameters"] = Value::Null);
    let package = open(cache.path(), "g-yolov8n/18").unwrap();
    assert_eq!(models_cache(&package).recommended, recommended);
    fs::remove_dir_all(cache.path().join("offline-weights-registry")).unwrap();
    let package = open(cache.path(), "g-yolov8n/18").unwrap();
    assert_eq!(models_cache(&package).recommended.confidence, None);
}

#[test]
fn other_names_of_a_model_are_found_in_its_record() {
    let (cache, _) = one_model(DETECTOR);
    let record = cache.path().join("offline-weights-registry");
    let record = fs::read_dir(&record).unwrap().next().unwrap().unwrap().path();
    edit(&record, |record| record["requested_aliases"] = json!(["my-workspace/detector"]));
    assert_eq!(open(cache.path(), "my-workspace/detector").unwrap().id, DETECTOR);
}

#[test]
fn a_directory_of_another_model_is_not_taken() {
    let (cache, dir) = one_model(DETECTOR);
    edit_manifest(&dir, |manifest| manifest["model_id"] = json!("other/1"));
    assert!(matches!(open(cache.path(), DETECTOR), Err(Error::Owner { owner, .. }) if owner == "other/1"));
    let entries = Cache::at(cache.path()).entries();
    assert!(matches!(entries[0].package, Err(Error::Owner { .. })));
}

#[test]
fn directories_of_older_versions_are_read_when_they_name_the_exact_id() {
    for (id, directory) in [("G-Const/1", "G-Const/1"), ("G-Const/1", "G-Const-1-LEGACY")] {
        let cache = tempfile::tempdir().unwrap();
        let classic = lay_out_classic(cache.path(), DETECTOR).unwrap();
        let slug = ModelId::parse(id).unwrap().legacy_directories().pop().unwrap();
        let directory = match directory.contains("LEGACY") {
            true => cache.path().join(slug),
            false => cache.path().join(directory),
        };
        fs::create_dir_all(directory.parent().unwrap()).unwrap();
        fs::rename(&classic, &directory).unwrap();
        assert!(matches!(open(cache.path(), id), Err(Error::Missing { .. })), "it names another id");
        edit(&directory.join("model_type.json"), |kind| kind["model_id"] = json!(id));
        assert_eq!(open(cache.path(), id).unwrap().dir, directory);
        edit(&directory.join("model_type.json"), |kind| drop(kind.as_object_mut().unwrap().remove("model_id")));
        assert!(open(cache.path(), id).is_err(), "an older directory must state its owner");
    }
}

#[test]
fn what_is_not_there_is_said_with_both_places_and_the_nearest_ids() {
    let (cache, _) = one_model(DETECTOR);
    let message = open(cache.path(), "g-const-v8dte/1").unwrap_err().to_string();
    for word in ["g-const-v8dte/1", "model_type.json", "models-cache/v2-g-const-v8dte-1-", DETECTOR] {
        assert!(message.contains(word), "{word}: {message}");
    }
    let root = cache.path().to_str().unwrap();
    let run = firstlight(&["--cache", root, "infer", "--model", "clip/ViT-B-16", "x.png"]).run();
    assert_eq!(run.exit, Some(3));
    assert!(run.stderr.contains("foundation model") && run.stderr.contains("text encoder"), "{}", run.stderr);
}

#[test]
fn a_model_of_a_kind_that_never_runs_is_unsupported_and_not_broken() {
    let (cache, dir) = one_model(DETECTOR);
    edit_manifest(&dir, |manifest| {
        manifest["task_type"] = json!("embedding");
        manifest["model_architecture"] = json!("clip");
        manifest["package_artifacts"] = json!([]);
    });
    fs::remove_file(dir.join("class_names.txt")).unwrap();
    let root = cache.path().to_str().unwrap();
    let rows = firstlight(&["--cache", root, "cache", "ls", "--json"]).run();
    let rows: Vec<Value> = serde_json::from_str(&rows.stdout).unwrap();
    assert_eq!(rows[0]["state"], "unsupported");
    let run = firstlight(&["--cache", root, "infer", "--model", DETECTOR, "x.png"]).run();
    assert!(run.exit == Some(3) && run.stderr.contains("text encoder"), "{}", run.stderr);
}

/// No network interface, no right to write, no clock that is ahead of the cache, no key.
#[test]
fn a_read_only_cache_without_a_network_is_enough() {
    let (cache, _) = one_model(DETECTOR);
    let script = r#"
        set -e
        mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"
        if touch "$1/x" 2>/dev/null; then exit 99; fi
        test -z "$(tail -n +3 /proc/net/dev | grep -v 'lo:')" || exit 98
        env -i "$2" --cache "$1" probe --model "$3" --json
        env -i "$2" --cache "$1" cache ls --json
    "#;
    let output = std::process::Command::new("unshare")
        .args(["-rnm", "sh", "-c", script, "sh"])
        .arg(cache.path())
        .arg(env!("CARGO_BIN_EXE_firstlight"))
        .arg(DETECTOR)
        .output()
        .expect("unshare is part of util-linux");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{:?}: {stdout} {stderr}", output.status);
    let lines: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["package"]["package_id"], "onnxfp32st1");
    assert_eq!(lines[1][0]["state"], "ready");
}

/// Any text of a package may be damaged in any way: it opens or it does not, and listing and verifying end too.
#[test]
fn damaged_texts_give_values_or_errors() {
    let id = "g-const-rfdetr-kp/1";
    let (cache, dir) = one_model(id);
    // Digests would catch all damage before it is read.
    edit_manifest(&dir, |manifest| manifest["package_artifacts"] = json!([]));
    let classic = lay_out_classic(cache.path(), "g-const-v8pose/1").unwrap();
    let record = fs::read_dir(cache.path().join("offline-weights-registry")).unwrap().next().unwrap().unwrap().path();
    let in_package = ["model_config.json", "inference_config.json", "class_names.txt", "keypoints_metadata.json"];
    let in_classic = ["model_type.json", "environment.json", "class_names.txt", "keypoints_metadata.json"];
    let files = in_package.iter().map(|file| dir.join(file)).chain(in_classic.iter().map(|file| classic.join(file)));
    let mut random = Random::new(0xCAC4E);
    let (mut opened, mut refused) = (0, 0);
    for path in files.chain([record]) {
        let text = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        for round in 0..rounds(60) {
            let mut parsed = serde_json::from_slice::<Value>(&text);
            let damaged = match &mut parsed {
                Ok(value) if round % 2 == 0 => {
                    deface(value, &mut random);
                    value.to_string().into_bytes()
                }
                _ => damage(&text, &mut random),
            };
            fs::write(&path, damaged).unwrap();
            let cache = Cache::at(cache.path());
            for id in [id, "g-const-v8pose/1"] {
                match cache.open(&ModelId::parse(id).unwrap()) {
                    Ok(_) => opened += 1,
                    Err(error) => {
                        refused += 1;
                        assert!(error.to_string().len() < 2_000, "{error}");
                    }
                }
            }
            for entry in cache.entries() {
                let _ = cache.faults(&entry);
            }
        }
        fs::write(&path, text).unwrap();
    }
    println!("damaged texts: {refused} refused, {opened} opened");
    assert!(opened > 0 && refused > 0, "the damage should be of both kinds");
}

/// The name of the blob that a file of a package is a link to.
fn blob_of(dir: &Path, file: &str) -> String {
    fs::read_link(dir.join(file)).unwrap().file_name().unwrap().to_str().unwrap().to_owned()
}

fn artifact<'a>(manifest: &'a mut Value, file: &str) -> &'a mut Value {
    let artifacts = manifest["package_artifacts"].as_array_mut().unwrap();
    artifacts.iter_mut().find(|artifact| artifact["file_handle"] == file).unwrap()
}

fn artifact_md5(dir: &Path, file: &str) -> String {
    let mut manifest: Value = serde_json::from_slice(&fs::read(dir.join("model_config.json")).unwrap()).unwrap();
    artifact(&mut manifest, file)["md5_hash"].as_str().unwrap().to_owned()
}

fn edit_manifest(dir: &Path, change: impl Fn(&mut Value)) {
    edit(&dir.join("model_config.json"), change);
}

fn edit(path: &Path, change: impl Fn(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

/// Copies a package, links as links.
fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match fs::read_link(&path) {
            Ok(link) => std::os::unix::fs::symlink(link, target).unwrap(),
            Err(_) => drop(fs::copy(&path, target).unwrap()),
        }
    }
}
