//! The binary as its users meet it: exit codes, messages and bounds, above all on bad input. Everything here starts
//! the real binary and reads what it prints.

mod support;

use std::path::Path;

use support::{Run, firstlight, parts_cache, png};

/// Most address space a command on bad input may take, so that "bounded memory" is a fact: the binary, the demo model
/// and one decoded picture at the limit (50 megapixels) fit.
const MEMORY_KB_MAX: u64 = 1_500_000;

/// Runs a command that must fail with this exit code and these words, without a panic and in bounded memory.
fn refuses(args: &[&str], exit: i32, words: &[&str]) -> Run {
    let run = firstlight(args).memory_kb(MEMORY_KB_MAX).run();
    let all = format!("{}{}", run.stdout, run.stderr);
    assert_eq!(run.exit, Some(exit), "{args:?}: {all}");
    assert!(!all.contains("panicked"), "{args:?}: {all}");
    for word in words {
        assert!(all.contains(word), "{args:?}: `{word}` is not in: {all}");
    }
    run
}

#[test]
fn a_model_that_is_not_there_names_id_directory_file_and_the_nearest() {
    let cache = parts_cache();
    let dir = cache.path().to_str().unwrap();
    refuses(
        &["--cache", dir, "infer", "--model", "prats/2", "x.png"],
        3,
        &["prats/2", dir, "model_type.json", "parts/1"],
    );
    refuses(
        &["--cache", "/nowhere", "infer", "--model", "a/1", "x.png"],
        3,
        &["a/1", "/nowhere/a/1", "no model is there"],
    );
}

#[test]
fn ids_that_would_leave_the_cache_are_refused() {
    let cache = parts_cache();
    let dir = cache.path().to_str().unwrap();
    for id in ["../../etc/passwd", "../parts", "/etc/passwd", "a/b/c", "", ".."] {
        let run = refuses(&["--cache", dir, "infer", "--model", id, "x.png"], 3, &["model"]);
        assert!(!run.stderr.contains("root:"), "{}", run.stderr);
    }
}

#[test]
fn a_link_out_of_the_cache_is_refused() {
    let cache = parts_cache();
    let outside = tempfile::tempdir().unwrap();
    let weights = cache.path().join("parts/1/weights.onnx");
    let moved = outside.path().join("weights.onnx");
    std::fs::rename(&weights, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, &weights).unwrap();
    let dir = cache.path().to_str().unwrap();
    refuses(&["--cache", dir, "infer", "--model", "parts/1", "x.png"], 3, &["weights.onnx", "out of the cache"]);
    refuses(&["--cache", dir, "cache", "verify"], 4, &["weights.onnx", "out of the cache"]);
}

#[test]
fn damaged_networks_are_named_by_verify_and_by_infer() {
    let onnx = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/demo/parts.onnx")).unwrap();
    let noise: Vec<u8> = (0..200_000_u32).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let mut flipped = onnx.clone();
    for i in (1000..2000).step_by(7) {
        flipped[i] ^= 0x55;
    }
    let damaged: Vec<(&str, Vec<u8>)> = vec![
        ("truncated", onnx[..onnx.len() / 2].to_vec()),
        ("cut at the end", onnx[..onnx.len() - 1].to_vec()),
        ("noise", noise),
        ("text", b"<html>not found</html>".to_vec()),
        ("flipped", flipped),
        ("empty", Vec::new()),
    ];
    for (what, bytes) in damaged {
        let cache = parts_cache();
        std::fs::write(cache.path().join("parts/1/weights.onnx"), bytes).unwrap();
        let dir = cache.path().to_str().unwrap();
        let run = refuses(&["--cache", dir, "cache", "verify"], 4, &["FAULT parts/1", "weights.onnx"]);
        assert!(run.stdout.lines().count() >= 1, "{what}: {}", run.stdout);
        refuses(&["--cache", dir, "infer", "--model", "parts/1", "src/demo/golden.png"], 3, &["weights.onnx"]);
    }
}

#[test]
fn a_class_count_that_differs_is_named() {
    let cache = parts_cache();
    let dir = cache.path().to_str().unwrap();
    std::fs::write(cache.path().join("parts/1/class_names.txt"), "bolt\nnut\n").unwrap();
    refuses(&["--cache", dir, "cache", "verify", "parts/1"], 4, &["3 classes", "2 names"]);
    refuses(&["--cache", dir, "infer", "--model", "parts/1", "src/demo/golden.png"], 3, &["3 classes", "2 names"]);
}

#[test]
fn every_missing_or_unreadable_file_is_a_fault_of_its_own() {
    let cache = parts_cache();
    let dir = cache.path().to_str().unwrap();
    let package = cache.path().join("parts/1");
    std::fs::remove_file(package.join("class_names.txt")).unwrap();
    std::fs::write(package.join("environment.json"), "{").unwrap();
    // A directory in a file's place cannot be read, also not by root.
    std::fs::remove_file(package.join("weights.onnx")).unwrap();
    std::fs::create_dir(package.join("weights.onnx")).unwrap();
    let run =
        refuses(&["--cache", dir, "cache", "verify"], 4, &["class_names.txt", "environment.json", "weights.onnx"]);
    assert_eq!(run.stdout.lines().filter(|line| line.starts_with("FAULT")).count(), 3, "{}", run.stdout);
}

#[test]
fn bad_images_are_answered_in_order_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/demo/golden.png");
    let whole = std::fs::read(&golden).unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let images = [
        write("empty.png", b""),
        write("truncated.png", &whole[..whole.len() / 3]),
        write("noise.jpg", &[0x5A; 5000]),
        write("one.png", &png(1, 1)),
        // Declares 20,000 × 20,000 pixels in a few hundred bytes.
        write("huge.png", &support::png_header(20_000, 20_000)),
        "/nowhere/missing.png".to_owned(),
        golden.to_str().unwrap().to_owned(),
    ];
    let mut args = vec!["infer", "--model", "parts/1"];
    args.extend(images.iter().map(String::as_str));
    let run = refuses(
        &args,
        1,
        &["empty.png", "truncated.png", "noise.jpg", "huge.png", "missing.png", "5 of 7 images failed"],
    );
    let lines: Vec<serde_json::Value> = run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 7);
    for bad in [0, 1, 2, 4, 5] {
        assert!(
            lines[bad]["message"].as_str().unwrap().starts_with("Could not load input image. Cause: "),
            "{}",
            lines[bad]
        );
    }
    assert_eq!(lines[3]["image"], serde_json::json!({"width": 1, "height": 1}));
    assert_eq!(lines[6]["predictions"].as_array().unwrap().len(), 8);
}

#[test]
fn config_faults_name_the_key_and_the_nearest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("device.toml");
    let path = path.to_str().unwrap();
    for (text, words) in [
        ("modle = \"parts/1\"", ["modle", "did you mean `model`"]),
        ("[health]\nframe_age_s = 3", ["frame_age_s", "did you mean `frame_age_max_s`"]),
        ("listen = 9001", ["line 1", "string"]),
        ("model = ", ["line 1", path]),
    ] {
        std::fs::write(path, text).unwrap();
        refuses(&["run", "-c", path], 2, &words);
    }
    refuses(&["run", "-c", "/nowhere.toml"], 2, &["/nowhere.toml"]);
}

#[test]
fn wrong_words_on_the_command_line_are_usage() {
    for args in [
        &["run", "--source", "dmeo:"][..],
        &["run", "--source", "demo:?speed=3"],
        &["run", "--listen", "nine"],
        &["run", "--threads", "0"],
        &["run", "--engine", "tracd"],
        &["infer", "--model", "parts/1"],
        &["infer", "--model", "parts/1", "--request", "{\"confidense\": 1}", "x.png"],
        &["infer", "--model", "parts/1", "--semantics", "modern", "x.png"],
        &["bench"],
        &["frobnicate"],
    ] {
        refuses(args, 2, &[]);
    }
}

#[test]
fn cache_ls_lists_what_is_there_and_in_which_state() {
    let cache = parts_cache();
    let dir = cache.path().to_str().unwrap();
    support::copy_package(&cache.path().join("parts/1"), &cache.path().join("parts/2"));
    std::fs::write(
        cache.path().join("parts/2/model_type.json"),
        r#"{"project_task_type": "object-detection", "model_type": "florence-2-base", "model_id": "parts/2"}"#,
    )
    .unwrap();
    support::copy_package(&cache.path().join("parts/1"), &cache.path().join("parts/3"));
    std::fs::remove_file(cache.path().join("parts/3/weights.onnx")).unwrap();
    std::fs::write(
        cache.path().join("parts/3/model_type.json"),
        r#"{"project_task_type": "object-detection", "model_type": "yolov8n"}"#,
    )
    .unwrap();
    std::fs::create_dir_all(cache.path().join("shared-blobs/x")).unwrap();
    let run = firstlight(&["--cache", dir, "cache", "ls", "--json"]).run();
    assert_eq!(run.exit, Some(0), "{}", run.stderr);
    let rows: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let states: Vec<_> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["id"].as_str().unwrap(), row["state"].as_str().unwrap()))
        .collect();
    assert_eq!(states, [("parts/1", "ready"), ("parts/2", "unsupported"), ("parts/3", "broken")]);
    assert_eq!(rows[0]["sha256"], "5dafbdb7061121dab5f4f6a11e4308d87730f9e86af555ffbccd5972a273eeb9");
    assert_eq!(rows[0]["size"], 1_197_816);
    assert_eq!((rows[0]["task"].as_str(), rows[0]["type"].as_str()), (Some("object-detection"), Some("yolov8n")));
    let table = firstlight(&["--cache", dir, "cache", "ls"]).run().stdout;
    assert!(table.starts_with("ID") && table.contains("5dafbdb70611"), "{table}");
}

#[test]
fn a_directory_that_belongs_to_another_id_is_not_taken() {
    let cache = parts_cache();
    let dir = cache.path().to_str().unwrap();
    std::fs::rename(cache.path().join("parts"), cache.path().join("bolts")).unwrap();
    refuses(&["--cache", dir, "infer", "--model", "bolts/1", "x.png"], 3, &["bolts/1", "belongs to model `parts/1`"]);
}

#[test]
fn request_and_flags_change_the_answer() {
    let count = |args: &[&str]| {
        let run = firstlight(&[&["infer", "--model", "parts/1"], args, &["src/demo/golden.png"]].concat()).run();
        assert_eq!(run.exit, Some(0), "{}", run.stderr);
        let answer: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        answer["predictions"].as_array().unwrap().len()
    };
    assert_eq!(count(&[]), 8);
    assert_eq!(count(&["--confidence", "0.93"]), 4);
    assert_eq!(count(&["--request", r#"{"max_detections": 3, "mask_decode_mode": "fast"}"#]), 3);
    assert_eq!(count(&["--request", r#"{"class_filter": ["bolt"]}"#]), 3);
}

#[test]
fn the_annotated_picture_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let original = image::open("src/demo/golden.png").unwrap().to_rgb8();
    for name in ["out.png", "out.jpg"] {
        let out = dir.path().join(name);
        let run =
            firstlight(&["infer", "--model", "parts/1", "--out", out.to_str().unwrap(), "src/demo/golden.png"]).run();
        assert_eq!(run.exit, Some(0), "{}", run.stderr);
        let drawn = image::open(&out).unwrap().to_rgb8();
        assert_eq!(drawn.dimensions(), (640, 480));
        // The left edge of the washer at x 470, y 118, 60 pixels wide, is green now.
        let edge = drawn.get_pixel(440, 118);
        assert!(edge[1] > 150 && i16::from(edge[1]) - i16::from(edge[0]) > 60, "{edge:?} in {name}");
        assert_ne!(drawn.get_pixel(440, 118), original.get_pixel(440, 118));
    }
}

#[test]
fn env_lists_every_variable() {
    let run = firstlight(&["env"]).run();
    for name in ["MODEL_CACHE_DIR", "FIRSTLIGHT_CONFIG", "FIRSTLIGHT_LISTEN", "FIRSTLIGHT_THREADS"] {
        assert!(run.stdout.contains(name));
    }
}

#[test]
fn probe_and_bench_speak_json() {
    let probe: serde_json::Value = serde_json::from_str(&firstlight(&["probe", "--json"]).run().stdout).unwrap();
    assert_eq!(probe["chosen"], "plan");
    let bench =
        firstlight(&["bench", "--onnx", "src/demo/parts.onnx", "--threads", "1", "--iterations", "3", "--json"]).run();
    let bench: serde_json::Value = serde_json::from_str(&bench.stdout).unwrap();
    for key in ["load_ms", "first_ms", "min_ms", "median_ms", "p99_ms", "rss_mb"] {
        assert!(bench[key].as_f64().unwrap() > 0.0, "{key}: {bench}");
    }
    assert_eq!((bench["engine"].as_str(), bench["threads"].as_u64()), (Some("plan"), Some(1)));
}
