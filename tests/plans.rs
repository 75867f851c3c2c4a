//! Plans as their users meet them: made once, mapped by every later start, and never the reason that a model does not
//! run. Everything here starts the real binary.

mod support;

use std::path::{Path, PathBuf};

use prost::Message;
use serde_json::Value;
use support::{Firstlight, Run, firstlight, get, parts_cache, poll};
use tract_onnx::pb::ModelProto;

/// Of the demo's weights.
const SHA256: &str = "5dafbdb7061121dab5f4f6a11e4308d87730f9e86af555ffbccd5972a273eeb9";
const GOLDEN: &str = "src/demo/golden.png";

/// A cache with the demo model, and a state directory.
struct Place {
    cache: tempfile::TempDir,
    state: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { cache: parts_cache(), state: tempfile::tempdir().unwrap() }
    }

    fn command(&self, args: &[&str]) -> Firstlight {
        let mut command = firstlight(args);
        command.command.env("MODEL_CACHE_DIR", self.cache.path()).env("FIRSTLIGHT_STATE_DIR", self.state.path());
        command
    }

    /// A command that must succeed.
    fn run(&self, args: &[&str]) -> Run {
        let run = self.command(args).run();
        assert_eq!(run.exit, Some(0), "{args:?}: {}{}", run.stdout, run.stderr);
        run
    }

    /// The answer to the golden picture, and what was said.
    fn infer(&self) -> (usize, String) {
        let run = self.run(&["infer", "--model", "parts/1", GOLDEN]);
        let answer: Value = serde_json::from_str(&run.stdout).unwrap();
        (answer["predictions"].as_array().unwrap().len(), run.stderr)
    }

    /// The one plan there is.
    fn plan(&self) -> PathBuf {
        let plans: Vec<PathBuf> = std::fs::read_dir(self.state.path().join("plans"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "plan"))
            .collect();
        assert_eq!(plans.len(), 1, "{plans:?}");
        plans[0].clone()
    }

    fn weights(&self) -> PathBuf {
        self.cache.path().join("parts/1/weights.onnx")
    }

    /// Changes the network.
    fn edit(&self, change: impl FnOnce(&mut ModelProto)) {
        let mut network = ModelProto::decode(&*std::fs::read(self.weights()).unwrap()).unwrap();
        change(&mut network);
        std::fs::write(self.weights(), network.encode_to_vec()).unwrap();
    }

    fn status(&self, args: &[&str]) -> Value {
        let running = self.command(&[&["run", "--listen", "127.0.0.1:0", "--model", "parts/1"], args].concat()).start();
        let address = running.address();
        poll(&address, "/readiness", |status, _| status == 200);
        serde_json::from_slice(&get(&address, "/status").1).unwrap()
    }
}

fn json(run: &Run) -> Value {
    serde_json::from_str(&run.stdout).unwrap()
}

/// What was passed over besides accelerators, of which this machine may have none.
fn rejected_on_the_cpu(status: &Value) -> Vec<Value> {
    let rejected = status["engine"]["rejected"].as_array().expect("a list").clone();
    rejected.into_iter().filter(|engine| engine["name"] != "tensorrt" && engine["name"] != "cuda").collect()
}

#[test]
fn a_plan_is_baked_listed_and_mapped() {
    let place = Place::new();
    let run = place.run(&["cache", "bake", "parts/1"]);
    assert!(
        run.stdout.starts_with("parts/1 ") && run.stdout.contains("of tract's answers (bound 1e-3)"),
        "{}",
        run.stdout
    );
    let plan = place.plan();
    assert!(run.stdout.contains(plan.to_str().unwrap()), "{}", run.stdout);
    let name = plan.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with(SHA256) && name.ends_with(".1x3x320x320.plan"), "{name}");

    let listed = json(&place.run(&["cache", "ls", "--json"]));
    let row = &listed[0]["plans"][0];
    assert_eq!(row["path"], plan.to_str().unwrap());
    assert_eq!(row["input"], serde_json::json!([1, 3, 320, 320]));
    assert!(row["error"].as_f64().is_some_and(|error| error > 0.0 && error < 1e-3), "{row}");
    assert!(place.run(&["cache", "ls"]).stdout.contains(row["isa"].as_str().unwrap()));
    let probe = json(&place.run(&["probe", "--json", "--model", "parts/1"]));
    assert_eq!((&probe["plans"][0]["usable"], &probe["plans"][0]["path"]), (&Value::Bool(true), &row["path"]));

    let made = std::fs::metadata(&plan).unwrap().modified().unwrap();
    let status = place.status(&[]);
    assert_eq!((&status["engine"]["name"], &status["model"]["sha256"]), (&"plan".into(), &SHA256.into()));
    assert_eq!(rejected_on_the_cpu(&status), Vec::<Value>::new());
    let (detections, said) = place.infer();
    assert_eq!((detections, said.as_str()), (8, ""));
    assert_eq!(std::fs::metadata(&plan).unwrap().modified().unwrap(), made);
}

#[test]
fn the_first_start_makes_the_plan() {
    let place = Place::new();
    let (detections, said) = place.infer();
    assert!(detections == 8 && said.contains("making one") && said.contains("kept as"), "{said}");
    place.plan();
    assert_eq!(place.infer(), (8, String::new()));
}

#[test]
fn a_plan_beside_the_models_is_found() {
    let place = Place::new();
    let beside = place.cache.path().join(".firstlight/plans");
    let run = place.run(&["cache", "bake", "--all", "--json", "-o", beside.to_str().unwrap()]);
    assert_eq!(Path::new(json(&run)["path"].as_str().unwrap()).parent().unwrap(), beside);
    assert_eq!(place.infer(), (8, String::new()));
    // What lies there is no model.
    assert_eq!(json(&place.run(&["cache", "ls", "--json"])).as_array().unwrap().len(), 1);
}

#[test]
fn a_plan_for_another_machine_is_not_compared_and_not_used() {
    let place = Place::new();
    let foreign = if cfg!(target_arch = "x86_64") { ("cortex-a72", "neon") } else { ("x86-64-v3", "avx2") };
    let run = place.run(&["cache", "bake", "parts/1", "--target", foreign.0]);
    assert!(run.stdout.contains("not compared here"), "{}", run.stdout);
    assert!(place.run(&["cache", "ls"]).stdout.contains(&format!("{} not compared here", foreign.1)));
    assert!(place.infer().1.contains("making one"));
    let run = place.command(&["cache", "bake", "parts/1", "--target", "cortex-a73"]).run();
    assert!(run.exit == Some(2) && run.stderr.contains("did you mean"), "{}", run.stderr);
}

#[test]
fn a_plan_that_is_damaged_is_said_and_made_again() {
    let place = Place::new();
    place.infer();
    let plan = place.plan();
    let whole = std::fs::read(&plan).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let mut newer = whole.clone();
    newer[8] ^= 0x40;
    for (what, bytes) in [
        ("flipped", flipped),
        ("newer", newer),
        ("cut", whole[..whole.len() - 100].to_vec()),
        ("short", whole[..10].to_vec()),
        ("empty", Vec::new()),
        ("other", b"<html>not found</html>".to_vec()),
    ] {
        std::fs::write(&plan, bytes).unwrap();
        let (detections, said) = place.infer();
        assert!(detections == 8 && said.contains("cannot be used") && said.contains("kept as"), "{what}: {said}");
        // Not by its bytes: which way a convolution takes is raced on this CPU, and two that are as fast win by turns.
        assert_eq!(place.infer(), (8, String::new()), "{what}: the plan made again is not taken");
    }
}

#[test]
fn a_plan_of_another_model_is_not_taken() {
    let place = Place::new();
    place.infer();
    let first = place.plan();
    // The same network, other bytes: another model, as far as anyone can tell.
    place.edit(|network| network.producer_version = "2".into());
    let (detections, said) = place.infer();
    assert!(detections == 8 && said.contains("making one"), "{said}");
    let plans: Vec<PathBuf> = std::fs::read_dir(first.parent().unwrap()).unwrap().map(|e| e.unwrap().path()).collect();
    let second = plans.into_iter().find(|path| *path != first && path.extension().is_some_and(|end| end == "plan"));
    // Under the other's name it is found out.
    std::fs::copy(&first, second.unwrap()).unwrap();
    let (detections, said) = place.infer();
    assert!(detections == 8 && said.contains("made for another model"), "{said}");
}

#[test]
fn where_nothing_can_be_kept_the_plan_is_in_memory() {
    let place = Place::new();
    // A file in the directory's place cannot be written to, also not by root.
    let state = place.state.path().join("file");
    std::fs::write(&state, "").unwrap();
    for (dir, words) in [(state.to_str().unwrap(), "cannot be kept"), ("off", "no state directory")] {
        let mut command = place.command(&["run", "--listen", "off", "--model", "parts/1", "--frames", "3"]);
        command.command.env("FIRSTLIGHT_STATE_DIR", dir);
        let run = command.run();
        assert_eq!((run.exit, run.stdout.lines().count()), (Some(0), 3), "{}", run.stderr);
        assert!(run.stderr.contains("in memory") && run.stderr.contains(words), "{}", run.stderr);
        assert!(run.stderr.contains("engine plan "), "{}", run.stderr);
    }
}

#[test]
fn a_network_without_a_plan_runs_on_tract_and_says_why() {
    let place = Place::new();
    place.edit(|network| {
        let nodes = &mut network.graph.as_mut().unwrap().node;
        let sigmoid = nodes.iter_mut().rev().find(|node| node.op_type == "Sigmoid").unwrap();
        sigmoid.op_type = "Sinh".into();
    });
    let probe = place.run(&["probe", "--model", "parts/1"]);
    let line = probe.stdout.lines().find(|line| line.starts_with("plan ")).unwrap();
    assert!(line.contains("parts/1: no: ") && line.contains("Sinh"), "{line}");
    // The first start finds out, and the next one knows.
    for _ in 0..2 {
        let status = place.status(&[]);
        assert_eq!(status["engine"]["name"], "tract");
        let rejected = &rejected_on_the_cpu(&status)[0];
        assert_eq!(rejected["name"], "plan");
        assert!(rejected["why"].as_str().unwrap().contains("Sinh"), "{rejected}");
    }
    let run = place.command(&["infer", "--engine", "plan", "--model", "parts/1", GOLDEN]).run();
    assert!(run.exit == Some(3) && run.stderr.contains("Sinh"), "{}", run.stderr);
    let run = place.command(&["cache", "bake", "parts/1"]).run();
    assert!(run.exit == Some(1) && run.stdout.contains("no plan: ") && run.stdout.contains("Sinh"), "{}", run.stdout);
    place.run(&["cache", "bake", "--all"]);
}

#[test]
fn the_engine_can_be_named() {
    let place = Place::new();
    assert_eq!(place.status(&["--engine", "tract"])["engine"]["name"], "tract");
    for engine in ["plan", "tract"] {
        let args = ["bench", "--model", "parts/1", "--iterations", "2", "--json", "--engine", engine];
        assert_eq!(json(&place.run(&args))["engine"], engine);
    }
    let run = place.command(&["bench", "--model", "parts/1", "--engine", "plam"]).run();
    assert!(run.exit == Some(2) && run.stderr.contains("did you mean `plan`?"), "{}", run.stderr);
}

#[test]
fn a_profile_names_every_step() {
    let place = Place::new();
    let bench = json(&place.run(&["bench", "--model", "parts/1", "--iterations", "2", "--profile", "--json"]));
    let profile = &bench["profile"];
    assert!(profile["peak_gflops"].as_f64().unwrap() > 0.1, "{profile}");
    let steps = profile["steps"].as_array().unwrap();
    assert!(steps.len() > 10 && steps.iter().any(|step| step["flops"].as_u64().unwrap() > 1_000_000), "{profile}");
    let table = place.run(&["bench", "--model", "parts/1", "--iterations", "2", "--profile"]).stdout;
    assert!(table.starts_with("MS ") && table.lines().count() == steps.len() + 3, "{table}");
    let run = place.command(&["bench", "--model", "parts/1", "--engine", "tract", "--profile"]).run();
    assert!(run.exit == Some(1) && run.stderr.contains("does not know its steps"), "{}", run.stderr);
}

/// The golden picture in three positions, and what is no picture.
fn pictures() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let picture = image::open(GOLDEN).unwrap();
    for (name, picture) in [("a.png", picture.clone()), ("b.png", picture.fliph()), ("c.png", picture.flipv())] {
        picture.save(folder.path().join(name)).unwrap();
    }
    std::fs::write(folder.path().join("notes.txt"), "not listed").unwrap();
    folder
}

#[test]
fn a_plan_in_bytes_is_calibrated_judged_and_used_only_when_asked_for() {
    let (place, pictures) = (Place::new(), pictures());
    let bake = ["cache", "bake", "parts/1", "--int8", "--calibrate", pictures.path().to_str().unwrap(), "--json"];
    let baked = place.command(&bake).run();
    if baked.stderr.contains("int8 plans need a CPU with") {
        assert_eq!(baked.exit, Some(2), "{}", baked.stderr);
        println!("this CPU does not multiply bytes: {}", baked.stderr);
        return;
    }
    assert_eq!(baked.exit, Some(0), "{}{}", baked.stdout, baked.stderr);
    let report = json(&baked);
    assert_eq!((&report["precision"], &report["measure"]), (&"int8".into(), &"mAP@50:95".into()));
    let error = report["error"].as_f64().unwrap();
    assert!((0.0..=0.05).contains(&error) && report["accuracy"]["objects"].as_u64() > Some(8), "{report}");
    let layers = report["layers"].as_array().unwrap();
    let count = |key: &str| usize::try_from(report[key].as_u64().unwrap()).unwrap();
    assert!(count("layers_in_bytes") > 0 && count("layers_in_bytes") + count("layers_in_numbers") == layers.len());
    assert_eq!((count("images"), count("images_there")), (3, 3));

    // Beside the plan in numbers that it was judged by, which is what runs unless bytes are asked for.
    let listed = json(&place.run(&["cache", "ls", "--json"]));
    let plans = listed[0]["plans"].as_array().unwrap();
    let of = |precision: &str| plans.iter().find(|plan| plan["precision"] == precision).unwrap();
    assert_eq!((plans.len(), of("int8")["error"].as_f64(), of("int8")["bound"].as_f64()), (2, Some(error), Some(0.05)));
    assert!(of("int8")["path"].as_str().unwrap().contains(".int8.") && of("fp32")["bound"].as_f64() < Some(0.0011));
    let told = format!("int8 mAP@50:95 {:.3}", 1.0 - error);
    assert!(place.run(&["cache", "ls"]).stdout.contains(&told) && place.run(&["probe"]).stdout.contains(&told));
    let infer = |more: &[&str]| json(&place.run(&[&["infer", "--model", "parts/1", GOLDEN], more].concat()));
    let (numbers, bytes) = (infer(&[]), infer(&["--precision", "int8"]));
    assert_eq!(bytes["predictions"].as_array().unwrap().len(), 8);
    assert_ne!(numbers["predictions"][0]["confidence"], bytes["predictions"][0]["confidence"]);
    let bench = ["bench", "--model", "parts/1", "--iterations", "2", "--json", "--precision", "int8"];
    assert_eq!(json(&place.run(&bench))["precision"], "int8");

    let engine = &place.status(&["--precision", "int8"])["engine"];
    assert_eq!((&engine["precision"], &engine["accuracy"]["images"]), (&"int8".into(), &3.into()), "{engine}");
    let engine = &place.status(&[])["engine"];
    assert_eq!((&engine["precision"], &engine["accuracy"]), (&"fp32".into(), &Value::Null), "{engine}");

    // It answers as it did when it was judged; where nothing can be tested, that is a failure.
    let selftest = ["selftest", "--frames", "20", "--precision", "int8", "--model", "parts/1"];
    let passed = place.run(&selftest).stdout;
    assert!(passed.contains("within 0.0e0 of what it was when it was judged"), "{passed}");
    // The precision of the engine is one thing, that of what it found in the scene another.
    let in_bytes = place.command(&["selftest", "--frames", "20", "--precision", "int8", "--json"]).run();
    let lines = in_bytes.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let plan = lines.into_iter().find(|line| line["engine"] == "plan").unwrap();
    assert_eq!((&plan["precision"], &plan["scene"]["frames"]), (&"int8".into(), &20.into()), "{plan}");
    assert!(plan["scene"]["precision"].as_f64().unwrap() > 0.9, "{plan}");
    std::fs::write(of("int8")["path"].as_str().unwrap(), b"<html>not found</html>").unwrap();
    let run = place.command(&selftest).run();
    assert!(run.exit == Some(4) && run.stderr.contains("cannot be used"), "{}", run.stderr);
    assert!(place.run(&["probe"]).stdout.contains("not usable"));
}

#[test]
fn a_plan_in_halves_is_compared_judged_and_used_only_when_asked_for() {
    let (place, pictures) = (Place::new(), pictures());
    let bake = |more: &[&str]| place.run(&[&["cache", "bake", "parts/1", "--fp16"], more].concat());
    let report = json(&bake(&["--target", "cortex-a76", "--json"]));
    assert_eq!((&report["precision"], &report["isa"]), (&"fp16".into(), &"neon-fp16".into()));
    let error = report["outputs"][0]["error"].as_f64().unwrap();
    assert!(error > 1e-5 && Some(error) <= report["bound"].as_f64() && report["measure"].is_null(), "{report}");
    let listed = || json(&place.run(&["cache", "ls", "--json"]))[0]["plans"].as_array().unwrap().clone();
    let plans = listed();
    let of = |row: &Value, key: &str| row[key].as_f64().unwrap();
    let alike = |a: f64, b: f64| (a - b).abs() < 1e-6;
    assert!(plans.len() == 1 && alike(of(&plans[0], "error"), error), "{plans:?}");
    assert!(alike(of(&plans[0], "bound"), of(&report, "bound")), "{plans:?}");
    assert!(plans[0]["path"].as_str().unwrap().contains(".neon-fp16.fp16."), "{plans:?}");

    let calibrate = ["--target", "cortex-a76", "--calibrate", pictures.path().to_str().unwrap()];
    let said = bake(&calibrate).stdout;
    assert!(said.contains("of tract's answers (bound ") && said.contains("mAP@50:95 "), "{said}");
    let judged = listed().into_iter().find(|plan| plan["precision"] == "fp16").unwrap();
    assert!(of(&judged, "error") < 0.02 && judged["images"] == 3, "{judged}");
    assert!(place.run(&["cache", "ls"]).stdout.contains("neon-fp16 fp16 mAP@50:95 "));
    let strict = [&["cache", "bake", "parts/1", "--fp16"], &calibrate[..], &["--error-max", "0"]].concat();
    let run = place.command(&strict).run();
    assert!(run.exit == Some(0) || run.stdout.contains("in halves the error on the pictures is "), "{}", run.stdout);
    let both = place.command(&["cache", "bake", "parts/1", "--fp16", "--int8"]).run();
    assert!(both.exit == Some(2) && both.stderr.contains("cannot be used with"), "{}", both.stderr);

    let infer = place.command(&["infer", "--model", "parts/1", GOLDEN, "--precision", "fp16"]).run();
    let status = place.status(&["--precision", "fp16"]);
    if place.command(&["cache", "bake", "parts/1", "--fp16"]).run().exit == Some(0) {
        assert_eq!(json(&infer)["predictions"].as_array().unwrap().len(), 8);
        assert_eq!((&status["engine"]["precision"], &status["state"]), (&"fp16".into(), &"running".into()));
        let passed = place.run(&["selftest", "--frames", "20", "--precision", "fp16", "--model", "parts/1"]).stdout;
        assert!(passed.contains("of tract"), "{passed}");
    } else {
        let needs = "fp16 plans need a CPU with the half-precision arithmetic of ARMv8.2";
        assert!(infer.exit == Some(1) && infer.stdout.is_empty() && infer.stderr.contains(needs), "{}", infer.stderr);
        let reason = status["reasons"][0].as_str().unwrap();
        assert!(reason.starts_with("precision: fp32 instead of fp16: ") && reason.contains(needs), "{reason}");
    }
}

#[test]
fn without_a_plan_in_bytes_a_device_sees_in_numbers_and_says_so() {
    let place = Place::new();
    let status = place.status(&["--precision", "int8"]);
    assert_eq!((&status["state"], &status["engine"]["precision"]), (&"degraded".into(), &"fp32".into()));
    let reason = status["reasons"][0].as_str().unwrap();
    assert!(reason.starts_with("precision: fp32 instead of int8: "), "{reason}");
    assert!(reason.contains("cache bake ID --int8") || reason.contains("int8 plans need a CPU"), "{reason}");
    // Who compares answers or times wants nothing else in their place.
    for command in ["infer", "bench"] {
        let image: &[&str] = if command == "infer" { &[GOLDEN] } else { &[] };
        let run = place.command(&[&[command, "--model", "parts/1", "--precision", "int8"], image].concat()).run();
        assert!(run.exit != Some(0) && run.stdout.is_empty() && run.stderr.contains("int8 plan"), "{}", run.stderr);
    }
    let run = place.command(&["bench", "--model", "parts/1", "--engine", "tract", "--precision", "int8"]).run();
    assert!(run.exit == Some(2) && run.stderr.contains("computes in fp32 only"), "{}", run.stderr);
    let config = place.state.path().join("device.toml");
    std::fs::write(&config, "[engine]\nprecision = \"int4\"\n").unwrap();
    let run = place.command(&["run", "-c", config.to_str().unwrap()]).run();
    assert!(run.exit == Some(2) && run.stderr.contains("engine.precision = int4: expected `fp32`, `fp16` or `int8`"));
}

#[test]
fn what_cannot_be_calibrated_is_refused() {
    let (place, pictures) = (Place::new(), pictures());
    let (empty, broken, grey) = (tempfile::tempdir(), tempfile::tempdir(), tempfile::tempdir());
    let (empty, broken, grey) = (empty.unwrap(), broken.unwrap(), grey.unwrap());
    std::fs::write(broken.path().join("a.jpg"), b"no picture").unwrap();
    image::RgbImage::from_pixel(64, 48, image::Rgb([114; 3])).save(grey.path().join("grey.png")).unwrap();
    let [pictures, empty, broken, grey] =
        [&pictures, &empty, &broken, &grey].map(|folder| folder.path().to_str().unwrap());
    let foreign = if cfg!(target_arch = "x86_64") { "cortex-a72" } else { "haswell" };
    let refused: [(&[&str], i32, &str); 7] = [
        (&["--int8"], 2, "--calibrate"),
        (&["--calibrate", pictures], 2, "--int8"),
        (&["--int8", "--calibrate", "/nowhere"], 2, "no such folder"),
        (&["--int8", "--calibrate", empty], 2, "no image"),
        (&["--int8", "--calibrate", broken], 2, "a.jpg"),
        (&["--int8", "--calibrate", grey], 1, "sees nothing"),
        (&["--int8", "--calibrate", pictures, "--target", foreign], 2, "int8 plans need"),
    ];
    for (more, exit, words) in refused {
        // For what every CPU can run, so that it is refused on each for the same reason.
        let target: &[&str] = if more.contains(&"--target") { &[] } else { &["--target", "portable"] };
        let run = place.command(&[&["cache", "bake", "parts/1"], more, target].concat()).run();
        assert!(run.exit == Some(exit), "{more:?}: {:?} {}{}", run.exit, run.stdout, run.stderr);
        assert!((run.stdout + &run.stderr).contains(words), "{more:?}");
    }
}
