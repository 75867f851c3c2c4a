//! `cache rm`, `gc` and `du` through the binary: what goes, what stays, what is refused while it is in use; and the warning of
//! little room.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use firstlight::cache::{Cache, ModelId};
use nix::sys::signal::Signal;
use serde_json::Value;
use support::recorded::{lay_out_classic, lay_out_models_cache};
use support::{PATIENCE, Run, at_a_terminal, firstlight, get, parts_cache, poll, wait_for};

/// Two recorded models whose packages share blobs.
const FIRST: &str = "g-const-v8det/1";
const SECOND: &str = "g-const-v8det/2";

fn cache(root: &Path, args: &[&str]) -> Run {
    firstlight(&[&["--cache", root.to_str().unwrap(), "cache"], args].concat()).run()
}

/// As [`cache`], with state in a directory.
fn with_state(root: &Path, state: &Path, args: &[&str]) -> Run {
    let mut firstlight = firstlight(&[&["--cache", root.to_str().unwrap(), "cache"], args].concat());
    firstlight.command.env("FIRSTLIGHT_STATE_DIR", state);
    firstlight.run()
}

fn report(run: &Run) -> Value {
    assert_eq!(run.exit, Some(0), "{}{}", run.stdout, run.stderr);
    serde_json::from_str(run.stdout.trim()).unwrap_or_else(|error| panic!("{error}: {}", run.stdout))
}

fn slug(id: &str) -> String {
    ModelId::parse(id).unwrap().models_cache_slug()
}

fn is_there(root: &Path, id: &str) -> bool {
    Cache::at(root).open(&ModelId::parse(id).unwrap()).is_ok()
}

fn blobs(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root.join("shared-blobs")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names
}

fn sha256_of(root: &Path, id: &str) -> String {
    Cache::at(root).open(&ModelId::parse(id).unwrap()).unwrap().weights.sha256()
}

/// A plan, an engine and the note of a refusal, as far as their names go.
fn lay_out_state(state: &Path, sha256: &str) -> [PathBuf; 3] {
    let paths = [
        state.join(format!("plans/{sha256}.avx2.fp32.1x3x64x64.plan")),
        state.join(format!("plans/{sha256}.neon.refused")),
        state.join(format!("engines/{}-tensorrt-prebuilt-fp16-0123456789abcdef/record.json", &sha256[..16])),
    ];
    for path in &paths {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "{}").unwrap();
    }
    paths
}

fn age(path: &Path) {
    let then = SystemTime::now() - Duration::from_secs(7200);
    fs::File::options().write(true).open(path).unwrap().set_times(fs::FileTimes::new().set_modified(then)).unwrap();
}

#[test]
fn a_model_goes_with_all_that_is_its_own_and_nothing_else() {
    let (root, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = root.path();
    for id in [FIRST, SECOND] {
        lay_out_models_cache(root, id).unwrap();
    }
    lay_out_classic(root, FIRST).unwrap();
    fs::create_dir(root.join("auto-resolution-cache")).unwrap();
    for (name, id) in [("a.json", FIRST), ("b.json", SECOND)] {
        let entry = format!("{{\"model_id\": \"{id}\", \"canonical_model_id\": \"{id}\"}}");
        fs::write(root.join("auto-resolution-cache").join(name), entry).unwrap();
    }
    let other = parts_cache();
    support::copy_package(&other.path().join("parts/1"), &root.join("parts/1"));
    let both = sha256_of(root, FIRST);
    assert_eq!(both, sha256_of(root, SECOND), "they share their weights");
    let [parts, shared] = [sha256_of(root, "parts/1"), both].map(|sha256| lay_out_state(state.path(), &sha256));
    let before = blobs(root);

    let shown = report(&with_state(root, state.path(), &["rm", FIRST, "--dry-run", "--json"]));
    assert_eq!(shown["removed"], false);
    let kinds: Vec<&str> =
        shown["items"].as_array().unwrap().iter().map(|item| item["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "package").count(), 2, "in both layouts: {kinds:?}");
    assert!(is_there(root, FIRST) && blobs(root) == before);

    let gone = report(&with_state(root, state.path(), &["rm", FIRST, "--yes", "--json"]));
    assert_eq!((gone["removed"].as_bool(), &gone["items"]), (Some(true), &shown["items"]));
    assert!(!is_there(root, FIRST) && is_there(root, SECOND) && is_there(root, "parts/1"));
    for path in [
        format!("models-cache/{}", slug(FIRST)),
        FIRST.into(),
        format!("offline-weights-registry/{}.json", slug(FIRST)),
        "auto-resolution-cache/a.json".into(),
    ] {
        assert!(!root.join(&path).exists(), "{path}");
    }
    assert!(root.join("auto-resolution-cache/b.json").exists());
    // What the other model has as well stays: blobs, and all that was made from the same weights.
    assert!(parts.iter().chain(&shared).all(|path| path.exists()));
    assert!(!root.join(".firstlight/staging").exists());

    report(&with_state(root, state.path(), &["rm", SECOND, "--yes", "--json"]));
    assert_eq!(blobs(root), Vec::<String>::new());
    assert!(parts.iter().all(|path| path.exists()) && !shared.iter().any(|path| path.exists()));
    let run = with_state(root, state.path(), &["rm", SECOND, "--yes"]);
    assert_eq!(run.exit, Some(3), "{}", run.stderr);
    assert!(run.stderr.contains("nearest ids") && is_there(root, "parts/1"), "{}", run.stderr);
}

#[test]
fn nobody_is_asked_where_nobody_sits() {
    let root = parts_cache();
    let run = cache(root.path(), &["rm", "parts/1"]);
    assert_eq!(run.exit, Some(2), "{}", run.stderr);
    assert!(run.stderr.contains("--yes") && run.stderr.contains("parts/1"), "{}", run.stderr);
    assert!(is_there(root.path(), "parts/1"));
}

#[test]
fn who_sits_at_a_terminal_is_asked() {
    let root = parts_cache();
    let args = ["--cache", root.path().to_str().unwrap(), "cache", "rm", "parts/1"];
    for (answer, exit, word) in
        [("\n", 1, "nothing was removed"), ("no\n", 1, "nothing was removed"), ("y\n", 0, "removed")]
    {
        assert!(is_there(root.path(), "parts/1"));
        let (found, shown) = at_a_terminal(&args, answer);
        assert_eq!(found, Some(exit), "{answer:?}: {shown}");
        assert!(shown.contains("parts/1") && shown.contains(word), "{shown}");
    }
    assert!(!is_there(root.path(), "parts/1"));
}

#[test]
fn a_model_that_runs_stays_and_who_runs_it_is_named() {
    let root = parts_cache();
    let dir = root.path().to_str().unwrap();
    let mut running = firstlight(&["--cache", dir, "run", "--model", "parts/1", "--listen", "off"]).start();
    wait_for(&running.stdout, |line| line.contains("predictions"));
    let run = cache(root.path(), &["rm", "parts/1", "--yes"]);
    assert_eq!(run.exit, Some(1), "{}", run.stderr);
    let pid = running.child.id().to_string();
    assert!(run.stderr.contains("in use") && run.stderr.contains(&pid), "{}", run.stderr);
    assert!(root.path().join("parts/1/weights.onnx").exists() && !root.path().join(".firstlight/staging").exists());
    running.signal(Signal::SIGKILL);
    running.child.wait().unwrap();
    assert_eq!(cache(root.path(), &["rm", "parts/1", "--yes"]).exit, Some(0));
    assert!(!root.path().join("parts").exists());
}

#[test]
fn a_model_that_was_loaded_for_a_client_is_in_use_until_it_is_unloaded() {
    let root = parts_cache();
    let dir = root.path().to_str().unwrap();
    support::copy_package(&root.path().join("parts/1"), &root.path().join("other/1"));
    let kind = r#"{"project_task_type": "object-detection", "model_type": "yolov8n", "model_id": "other/1"}"#;
    fs::write(root.path().join("other/1/model_type.json"), kind).unwrap();
    let running = firstlight(&["--cache", dir, "run", "--listen", "127.0.0.1:0"]).start();
    let address = running.address();
    post(&address, "/model/add", r#"{"model_id": "other/1", "api_key": "x"}"#);
    let run = cache(root.path(), &["rm", "other/1", "--yes"]);
    assert!(run.exit == Some(1) && run.stderr.contains("in use"), "{}", run.stderr);
    post(&address, "/model/remove", r#"{"model_id": "other/1", "api_key": "x"}"#);
    assert_eq!(cache(root.path(), &["rm", "other/1", "--yes"]).exit, Some(0));
}

fn post(address: &str, path: &str, body: &str) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: \
         {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn of_a_package_that_lies_elsewhere_only_the_link_goes() {
    let (elsewhere, root) = (parts_cache(), tempfile::tempdir().unwrap());
    fs::create_dir(root.path().join("parts")).unwrap();
    symlink(elsewhere.path().join("parts/1"), root.path().join("parts/1")).unwrap();
    let run = cache(root.path(), &["rm", "parts/1", "--yes"]);
    assert_eq!(run.exit, Some(0), "{}", run.stderr);
    assert!(root.path().join("parts/1").symlink_metadata().is_err());
    assert!(is_there(elsewhere.path(), "parts/1"));
}

#[test]
fn what_lies_outside_behind_a_link_is_not_touched() {
    let (elsewhere, root) = (parts_cache(), tempfile::tempdir().unwrap());
    symlink(elsewhere.path().join("parts"), root.path().join("parts")).unwrap();
    let blobs = elsewhere.path().join("blobs");
    let blob = blobs.join("0".repeat(32));
    fs::create_dir(&blobs).unwrap();
    fs::write(&blob, "x").unwrap();
    age(&blob);
    symlink(&blobs, root.path().join("shared-blobs")).unwrap();
    let run = cache(root.path(), &["rm", "parts/1", "--yes"]);
    assert_eq!(run.exit, Some(1), "{}", run.stderr);
    assert!(run.stderr.contains("outside of the cache"), "{}", run.stderr);
    let found = report(&cache(root.path(), &["gc", "--yes", "--json"]));
    assert_eq!(found["items"].as_array().unwrap().len(), 0, "{found}");
    assert!(is_there(elsewhere.path(), "parts/1") && blob.exists());
}

#[test]
fn garbage_is_what_nothing_refers_to() {
    let (root, state) = (parts_cache(), tempfile::tempdir().unwrap());
    let root = root.path();
    lay_out_models_cache(root, FIRST).unwrap();
    let kept = lay_out_state(state.path(), &sha256_of(root, "parts/1"));
    let gone = lay_out_state(state.path(), &"ab".repeat(32));
    let blob = root.join("shared-blobs").join("0".repeat(32));
    let partial = root.join("shared-blobs/x.partial");
    let young = root.join("shared-blobs").join("1".repeat(32));
    for path in [&blob, &partial, &young] {
        fs::write(path, "12345").unwrap();
    }
    age(&blob);
    age(&partial);
    let staged = root.join(".firstlight/staging/import-1-0/shared-blobs");
    fs::create_dir_all(&staged).unwrap();
    let foreign = state.path().join("plans/notes-of-mine.txt");
    fs::write(&foreign, "x").unwrap();

    let shown = report(&with_state(root, state.path(), &["gc", "--dry-run", "--json"]));
    let found = report(&with_state(root, state.path(), &["gc", "--yes", "--json"]));
    assert_eq!(shown["items"], found["items"]);
    let mut kinds: Vec<&str> =
        found["items"].as_array().unwrap().iter().map(|item| item["kind"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["blob", "engine", "leftover", "leftover", "plan", "plan"]);
    assert!(!gone.iter().chain([&blob, &partial, &staged]).any(|path| path.exists()));
    assert!(kept.iter().chain([&young, &foreign]).all(|path| path.exists()));
    assert!(is_there(root, FIRST) && is_there(root, "parts/1"));
    let again = report(&with_state(root, state.path(), &["gc", "--yes", "--json"]));
    assert_eq!((again["removed"].as_bool(), again["bytes"].as_u64()), (Some(false), Some(0)));
}

#[test]
fn what_was_made_from_models_of_another_cache_is_no_garbage() {
    let (one, other, state) = (parts_cache(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    lay_out_classic(one.path(), FIRST).unwrap();
    let kept = lay_out_state(state.path(), &sha256_of(one.path(), FIRST));
    // A listing hashes the weights and notes it.
    assert_eq!(with_state(one.path(), state.path(), &["ls"]).exit, Some(0));
    let found = report(&with_state(other.path(), state.path(), &["gc", "--yes", "--json"]));
    assert_eq!(found["items"].as_array().unwrap().len(), 0, "{found}");
    assert!(kept.iter().all(|path| path.exists()));
}

#[test]
fn usage_counts_what_is_shared_once() {
    let (root, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for id in [FIRST, SECOND] {
        lay_out_models_cache(root.path(), id).unwrap();
    }
    lay_out_state(state.path(), &sha256_of(root.path(), FIRST));
    let usage = report(&with_state(root.path(), state.path(), &["du", "--json"]));
    let models = usage["models"].as_array().unwrap();
    let weights = fs::metadata(Cache::at(root.path()).open(&ModelId::parse(FIRST).unwrap()).unwrap().weights.path());
    let weights = weights.unwrap().len();
    for (model, id) in models.iter().zip([FIRST, SECOND]) {
        assert_eq!((model["id"].as_str(), model["weights"].as_u64()), (Some(id), Some(weights)));
        assert!(model["shared"].as_u64() >= Some(weights), "{model}");
        assert!(model["plans"].as_u64() >= Some(4) && model["engines"].as_u64() == Some(2), "{model}");
    }
    let texts: u64 = models.iter().map(|model| model["texts"].as_u64().unwrap()).sum();
    let total = usage["total"].as_u64().unwrap();
    assert!(total >= weights && total < 2 * weights + texts + 10_000, "{usage}");
    assert!(usage["disks"].as_array().unwrap().iter().all(|disk| disk["free"].as_u64() > Some(0)));
    let table = with_state(root.path(), state.path(), &["du"]);
    assert!(table.stdout.contains("WEIGHTS") && table.stdout.contains("free at"), "{}", table.stdout);
}

#[test]
fn little_room_is_said_and_frames_go_on() {
    let state = tempfile::tempdir().unwrap();
    let config = state.path().join("device.toml");
    fs::write(&config, "[disk]\nlow_space_mb = 1000000\n").unwrap();
    let mut firstlight = firstlight(&["run", "--listen", "127.0.0.1:0", "-c", config.to_str().unwrap()]);
    firstlight.command.env("FIRSTLIGHT_STATE_DIR", state.path());
    let running = firstlight.start();
    let address = running.address();
    let body = poll(&address, "/status", |_, body| String::from_utf8_lossy(body).contains("MB left"));
    let status: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(status["state"], "degraded", "{status}");
    let reasons: Vec<&str> = status["reasons"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(reasons.iter().any(|reason| reason.starts_with("disk: ")), "{reasons:?}");
    assert_eq!(get(&address, "/healthz").0, 200);
}
