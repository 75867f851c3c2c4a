//! `firstlight cache pull` against a stand-in of Roboflow's weights API: what is in the cache afterwards, and whatever may go
//! wrong on the way.

mod support;
#[path = "support/weights_api.rs"]
mod weights_api;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::damage::Random;
use support::{Firstlight, Run, firstlight};
use weights_api::{KEY, Trouble, WeightsApi, hex_md5, inference_config};

const ID: &str = "my-project/3";
const SLUG: &str = "v2-my-project-3-812ea507cf6ab70156344afcfa2e3315";

fn weights() -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/demo/parts.onnx")).unwrap()
}

/// `cache pull` with these arguments, the key in the environment, the roots of the stand-in.
fn pull(api: &WeightsApi, cache: &Path, args: &[&str]) -> Firstlight {
    let cache = cache.to_str().unwrap();
    let mut pull = firstlight(&[&["cache", "--cache", cache, "pull"], args].concat());
    for variable in ["API_KEY", "OFFLINE_MODE", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        pull.command.env_remove(variable);
    }
    pull.command.env("ROBOFLOW_API_KEY", KEY).env("ROBOFLOW_API_HOST", api.address());
    pull.command.env("API_BASE_URL", api.address()).env("SSL_CERT_FILE", api.root());
    pull
}

fn done(run: &Run) {
    assert_eq!(run.exit, Some(0), "{}", run.stderr);
    no_key(run);
}

fn no_key(run: &Run) {
    assert!(!run.stderr.contains(KEY) && !run.stdout.contains(KEY), "{}{}", run.stdout, run.stderr);
    assert!(!run.stderr.contains("X-Goog-Signature"), "{}", run.stderr);
}

/// Everything below a folder: files with their bytes, links with where they lead.
fn tree(root: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let name = path.strip_prefix(root).unwrap().display().to_string();
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_symlink() {
                found.push((name, format!("-> {}", fs::read_link(&path).unwrap().display())));
            } else {
                found.push((name, hex_md5(&fs::read(&path).unwrap())));
            }
        }
    }
    found.sort();
    found
}

/// The parts that a pull leaves behind when it does not end.
fn parts(root: &Path) -> Vec<String> {
    tree(root).into_iter().map(|(name, _)| name).filter(|name| name.ends_with(".part")).collect()
}

fn blob(cache: &Path) -> PathBuf {
    cache.join("shared-blobs").join(hex_md5(&weights()))
}

#[test]
fn a_package_is_to_the_byte_what_roboflows_loader_writes() {
    let (api, cache) = (WeightsApi::start(), tempfile::tempdir().unwrap());
    let root = cache.path().canonicalize().unwrap();
    done(&pull(&api, &root, &[ID]).run());

    let (onnx, names) = (hex_md5(&weights()), hex_md5(b"bolt\nnut\nwasher\n"));
    let config = hex_md5(inference_config().as_bytes());
    let package = format!("models-cache/{SLUG}/onnxfp32st01");
    let manifest = format!(
        "{{\"offline_manifest_version\": 4, \"model_architecture\": \"yolov8\", \"task_type\": \"object-detection\", \
         \"backend_type\": \"onnx\", \"model_features\": null, \"trusted_source\": true, \"model_dependencies\": [], \
         \"recommended_parameters\": null, \"quantization\": \"fp32\", \"dynamic_batch_size_supported\": false, \
         \"static_batch_size\": 1, \"canonical_model_id\": \"{ID}\", \"package_artifacts\": [{}, {}, {}], \
         \"dependency_package_paths\": [], \"model_id\": \"{ID}\"}}",
        artifact("class_names.txt", &names),
        artifact("inference_config.json", &config),
        artifact("weights.onnx", &onnx),
    );
    let model_type = "{\n    \"project_task_type\": \"object-detection\",\n    \"model_type\": \"yolov8\",\n    \
                      \"model_id\": \"my-project/3\",\n    \"model_variant\": \"yolov8n\"\n}";
    let empty = hex_md5(b"");
    let link = |md5: &str| format!("-> {}/shared-blobs/{md5}", root.display());
    let record = root.join(format!("offline-weights-registry/{SLUG}.json"));
    let mut expected = vec![
        (format!("models-cache/{SLUG}/.onnxfp32st01.materialization.lock"), empty.clone()),
        (format!("{package}/model_config.json"), hex_md5(manifest.as_bytes())),
        (format!("{package}/weights.onnx"), link(&onnx)),
        (format!("{package}/class_names.txt"), link(&names)),
        (format!("{package}/inference_config.json"), link(&config)),
        ("my-project/3/model_type.json".to_owned(), hex_md5(model_type.as_bytes())),
        (format!("offline-weights-registry/.{SLUG}.json.lock"), empty.clone()),
        (format!("offline-weights-registry/{SLUG}.json"), hex_md5(&fs::read(&record).unwrap())),
    ];
    for file in ["model_config.json", "weights.onnx", "class_names.txt", "inference_config.json"] {
        expected.push((format!("{package}/.{file}.lock"), empty.clone()));
    }
    for md5 in [&onnx, &names, &config] {
        expected.push((format!("shared-blobs/{md5}"), md5.clone()));
        expected.push((format!("shared-blobs/.{md5}.lock"), empty.clone()));
    }
    expected.sort();
    assert_eq!(tree(&root), expected);
    let mode = fs::metadata(root.join(package).join("model_config.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let text = fs::read_to_string(&record).unwrap();
    let recorded: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(recorded["proven"].as_object().unwrap().keys().collect::<Vec<_>>(), ["onnxfp32st01"]);
    assert_eq!(recorded["packages"].as_array().unwrap().len(), 2, "what was offered is recorded");
    let same: Value = serde_json::from_slice(&fs::read(shared_record()).unwrap()).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&recorded), keys(&same));
    assert_eq!(keys(&recorded["packages"][1]), keys(&same["packages"][0]));
    assert_eq!(keys(&recorded["model"]), keys(&same["model"]));
    assert!(text.starts_with("{\n  \"canonical_model_id\": \"my-project/3\",\n  \"format_version\": 1,\n"), "{text}");

    sees(&root);
    let verified = firstlight(&["cache", "--cache", root.to_str().unwrap(), "verify"]).run();
    assert_eq!(verified.exit, Some(0), "{}", verified.stdout);
    // Nothing is fetched twice.
    api.trouble(Trouble::default());
    done(&pull(&api, &root, &[ID]).run());
    assert_eq!(api.sent(), 0);
}

fn artifact(handle: &str, md5: &str) -> String {
    format!(
        "{{\"file_handle\": \"{handle}\", \"md5_hash\": \"{md5}\", \"unhashed\": false, \"sha256_hash\": null, \
         \"source_hash\": null, \"storage\": \"shared_blob\"}}"
    )
}

/// A record that the real library wrote.
fn shared_record() -> PathBuf {
    let examples = support::shared().join("roboflow/examples/cache_models_cache_layout");
    examples.join(format!("offline-weights-registry/{SLUG}.json"))
}

/// The eight parts of the golden frame.
fn sees(cache: &Path) {
    let cache = cache.to_str().unwrap();
    let seen = firstlight(&["infer", "--cache", cache, "--model", ID, "src/demo/golden.png"]).run();
    assert_eq!(seen.exit, Some(0), "{}", seen.stderr);
    let answer: Value = serde_json::from_str(&seen.stdout).unwrap();
    assert_eq!(answer["predictions"].as_array().unwrap().len(), 8);
}

#[test]
fn the_classic_layout_is_what_the_classic_engine_writes() {
    let (api, cache) = (WeightsApi::start(), tempfile::tempdir().unwrap());
    done(&pull(&api, cache.path(), &["--layout", "classic", ID]).run());
    let read = |name: &str| fs::read(cache.path().join("my-project/3").join(name)).unwrap();
    assert!(read("weights.onnx") == weights());
    assert_eq!(read("class_names.txt"), b"bolt\nnut\nwasher");
    let environment = String::from_utf8(read("environment.json")).unwrap();
    assert!(environment.starts_with("{\"PREPROCESSING\": {\"auto-orient\": {\"enabled\": true}, "), "{environment}");
    assert!(environment.ends_with("\"COLORS\": {\"nut\": \"#C7FC00\"}}"), "{environment}");
    assert_eq!(
        String::from_utf8(read("model_type.json")).unwrap(),
        "{\n    \"project_task_type\": \"object-detection\",\n    \"model_type\": \"yolov8n\",\n    \"model_id\": \
         \"my-project/3\"\n}"
    );
    let names: Vec<String> = tree(cache.path()).into_iter().map(|(name, _)| name).collect();
    let expected = [
        "_file_locks/my-project/3.lock",
        "my-project/3/.weights.onnx.lock",
        "my-project/3/class_names.txt",
        "my-project/3/environment.json",
        "my-project/3/model_type.json",
        "my-project/3/weights.onnx",
    ];
    assert_eq!(names, expected);
    sees(cache.path());
}

#[test]
fn a_pull_goes_on_where_the_connection_was_cut() {
    let size = weights().len();
    let mut random = Random::new(20);
    let mut cuts: Vec<u64> = (0..20).map(|_| random.below(size) as u64).collect();
    cuts.sort_unstable();
    for args in [&[ID][..], &["--layout", "classic", ID]] {
        let (api, cache) = (WeightsApi::start(), tempfile::tempdir().unwrap());
        api.trouble(Trouble { cuts: cuts.clone(), ..Trouble::default() });
        done(&pull(&api, cache.path(), args).run());
        sees(cache.path());
        // Texts and first bytes beside the weights; what was sent and lost with the connection is less than a window.
        assert!(api.sent() < size as u64 + 2_000_000, "{} of {size} bytes", api.sent());
        let resumed =
            api.seen().iter().filter(|(_, range, _)| range.as_deref().is_some_and(|r| r.ends_with('-'))).count();
        assert!(resumed >= 10, "{resumed} of 20 cuts were continued: {:?}", api.seen());
        assert_eq!(parts(cache.path()), [""; 0]);
    }
}

#[test]
fn a_pull_goes_on_where_an_earlier_one_was_killed() {
    let (api, cache) = (WeightsApi::start(), tempfile::tempdir().unwrap());
    let mut random = Random::new(7);
    let part = cache.path().join("shared-blobs").join(format!(".{}.part", hex_md5(&weights())));
    let mut had = 0;
    for _ in 0..support::damage::rounds(4) {
        // Slow enough to be met in the middle, wherever that is.
        api.trouble(Trouble { slowly: Some(8 << 10), ..Trouble::default() });
        let mut child = pull(&api, cache.path(), &[ID]).command.stderr(Stdio::null()).spawn().unwrap();
        let until = had + 1 + random.below(200_000) as u64;
        let deadline = Instant::now() + Duration::from_secs(60);
        while fs::metadata(&part).map_or(0, |part| part.len()) < until && !blob(cache.path()).exists() {
            assert!(Instant::now() < deadline, "nothing comes");
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let left = fs::metadata(&part).map_or(0, |part| part.len());
        assert!(left >= had, "{left} of {had} bytes are left");
        had = left;
        if blob(cache.path()).exists() {
            break;
        }
    }
    api.trouble(Trouble::default());
    let last = pull(&api, cache.path(), &[ID]).run();
    done(&last);
    assert!(blob(cache.path()).exists() && parts(cache.path()).is_empty());
    assert!(api.sent() <= weights().len() as u64 - had + 10_000, "{} bytes again, {had} were there", api.sent());
    sees(cache.path());
}

#[test]
fn without_ranges_a_file_comes_whole_or_again() {
    let (api, cache) = (WeightsApi::start(), tempfile::tempdir().unwrap());
    api.trouble(Trouble { cuts: vec![900_000], no_ranges: true, ..Trouble::default() });
    done(&pull(&api, cache.path(), &[ID]).run());
    sees(cache.path());
}

#[test]
fn a_wrong_digest_is_refused_and_nothing_is_kept_of_it() {
    for args in [&[ID][..], &["--layout", "classic", ID]] {
        let (api, cache) = (WeightsApi::start(), tempfile::tempdir().unwrap());
        api.trouble(Trouble { wrong: true, ..Trouble::default() });
        let refused = pull(&api, cache.path(), args).run();
        assert_eq!(refused.exit, Some(4), "{}", refused.stderr);
        assert!(refused.stderr.contains("came with MD5"), "{}", refused.stderr);
        no_key(&refused);
        let left = tree(cache.path());
        assert!(left.iter().all(|(name, _)| name.ends_with(".lock") || !name.contains("onnx")), "{left:?}");
        // What was there in parts and is spoilt is fetched anew.
        api.trouble(Trouble::default());
        fs::create_dir_all(cache.path().join("shared-blobs")).unwrap();
        let part = cache.path().join("shared-blobs").join(format!(".{}.part", hex_md5(&weights())));
        fs::write(part, vec![0; 10_000]).unwrap();
        done(&pull(&api, cache.path(), args).run());
        sees(cache.path());
    }
}

#[test]
fn a_busy_server_is_asked_again() {
    let (api, cache) = (WeightsApi::start(), tempfile::tempdir().unwrap());
    api.trouble(Trouble { busy: 3, ..Trouble::default() });
    let run = pull(&api, cache.path(), &[ID]).run();
    done(&run);
    assert!(run.stderr.contains("429"), "{}", run.stderr);
    let other = tempfile::tempdir().unwrap();
    api.trouble(Trouble { busy: 1000, ..Trouble::default() });
    let run = pull(&api, other.path(), &[ID]).run();
    assert_eq!(run.exit, Some(1), "{}", run.stderr);
    assert!(run.stderr.contains("slow down (tried 6 times)"), "{}", run.stderr);
}

#[test]
fn the_key_is_asked_for_by_name_and_never_told() {
    let (api, cache) = (WeightsApi::start(), tempfile::tempdir().unwrap());
    for layout in ["packages", "classic"] {
        let mut absent = pull(&api, cache.path(), &["--layout", layout, ID]);
        absent.command.env_remove("ROBOFLOW_API_KEY");
        let absent = absent.run();
        assert_eq!(absent.exit, Some(2), "{}", absent.stderr);
        assert!(absent.stderr.contains("ROBOFLOW_API_KEY"), "{}", absent.stderr);
        let mut wrong = pull(&api, cache.path(), &["--layout", layout, ID]);
        wrong.command.env("ROBOFLOW_API_KEY", "wrong_key");
        let wrong = wrong.run();
        assert_eq!(wrong.exit, Some(1), "{}", wrong.stderr);
        assert!(wrong.stderr.contains("refuses the API key (401)"), "{}", wrong.stderr);
        assert!(!wrong.stderr.contains("wrong_key"), "{}", wrong.stderr);
    }
    let file = cache.path().join("key");
    fs::write(&file, format!("{KEY}\n")).unwrap();
    let mut of_file = pull(&api, cache.path(), &["--api-key-file", file.to_str().unwrap(), ID]);
    of_file.command.env("ROBOFLOW_API_KEY", "wrong_key");
    done(&of_file.run());
    let unknown = pull(&api, cache.path(), &["nobody/7"]).run();
    assert_eq!(unknown.exit, Some(3), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("nobody/7"), "{}", unknown.stderr);
}

#[test]
fn two_pulls_of_one_model_fetch_it_once() {
    for args in [&[ID][..], &["--layout", "classic", ID]] {
        let (api, cache) = (WeightsApi::start(), tempfile::tempdir().unwrap());
        api.trouble(Trouble { slowly: Some(16 << 10), ..Trouble::default() });
        let runs: Vec<Run> = std::thread::scope(|scope| {
            let runs: Vec<_> = (0..2).map(|_| scope.spawn(|| pull(&api, cache.path(), args).run())).collect();
            runs.into_iter().map(|run| run.join().unwrap()).collect()
        });
        runs.iter().for_each(done);
        assert!(api.sent() < weights().len() as u64 + 10_000, "{} bytes", api.sent());
        sees(cache.path());
    }
}

#[test]
fn a_disk_that_is_too_small_is_refused_before_anything_is_fetched() {
    let (api, place) = (WeightsApi::start(), tempfile::tempdir().unwrap());
    let mount =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(place.path()).output().unwrap();
    if !mount.status.success() {
        eprintln!(
            "NOT TESTED: a small disk needs the right to mount: {}",
            String::from_utf8_lossy(&mount.stderr).trim()
        );
        return;
    }
    let refused = pull(&api, place.path(), &[ID]).run();
    let left = tree(place.path());
    assert!(Command::new("umount").arg(place.path()).status().unwrap().success());
    assert_eq!(refused.exit, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("MB are needed") && refused.stderr.contains("MB are free"), "{}", refused.stderr);
    assert_eq!(left, []);
    assert!(
        api.seen().iter().all(|(path, range, _)| !path.starts_with("/files/") || range.as_deref() == Some("bytes=0-0"))
    );
}

#[test]
fn what_is_not_allowed_is_refused_with_the_reason() {
    let (api, cache) = (WeightsApi::start(), tempfile::tempdir().unwrap());
    let refused = |variable: &str, value: &str| {
        let mut pull = pull(&api, cache.path(), &[ID]);
        pull.command.env(variable, value);
        let run = pull.run();
        no_key(&run);
        (run.exit, run.stderr)
    };
    let (exit, said) = refused("OFFLINE_MODE", "True");
    assert!(exit == Some(2) && said.contains("OFFLINE_MODE"), "{said}");
    let (exit, said) = refused("OFFLINE_MODE", "yes");
    assert!(exit == Some(2) && said.contains("expected true or false"), "{said}");
    let (exit, said) = refused("ROBOFLOW_API_HOST", "http://api.example");
    assert!(exit == Some(1) && said.contains("expected https"), "{said}");
    let (exit, said) = refused("SECURE_GATEWAY", "gw.example");
    assert!(exit == Some(2) && said.contains("SECURE_GATEWAY"), "{said}");
    // Its root is nobody's.
    let mut untrusted = pull(&api, cache.path(), &[ID]);
    untrusted.command.env_remove("SSL_CERT_FILE");
    let untrusted = untrusted.run();
    assert_eq!(untrusted.exit, Some(1), "{}", untrusted.stderr);
    assert!(untrusted.stderr.contains("certificate"), "{}", untrusted.stderr);
    assert_eq!(api.seen(), []);
}

#[test]
fn packages_are_listed_and_lists_are_pulled_to_their_end() {
    let (api, cache) = (WeightsApi::start(), tempfile::tempdir().unwrap());
    let listed = pull(&api, cache.path(), &["--list", "--json", ID]).run();
    done(&listed);
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(listed[0], json!({"package": "onnxbf16", "backend": "onnx", "quantization": "bf16", "files": 3}));
    let file = cache.path().join("ids");
    fs::write(&file, format!("# ours\nnobody/1 # gone\n\n{ID}\n")).unwrap();
    let run = pull(&api, cache.path(), &["--all-of", file.to_str().unwrap(), "--json"]).run();
    assert_eq!(run.exit, Some(1), "{}", run.stderr);
    assert!(run.stderr.contains("nobody/1"), "{}", run.stderr);
    let pulled: Value = serde_json::from_str(run.stdout.trim()).unwrap();
    assert_eq!(pulled["packages"], json!(["onnxfp32st01"]));
    sees(cache.path());
    let none = pull(&api, cache.path(), &["--package", "onnxint4", ID]).run();
    assert_eq!(none.exit, Some(3), "{}", none.stderr);
    assert!(none.stderr.contains("there are onnxbf16, onnxfp32st01"), "{}", none.stderr);
}

#[test]
fn hostile_answers_do_no_harm() {
    let (api, cache) = (WeightsApi::start(), tempfile::tempdir().unwrap());
    let content = b"content".as_slice();
    let url = api.file("evil", content);
    let offer = |id: &str, package: &str, handle: &str| {
        api.offer(
            "evil/1",
            json!({"modelMetadata": {"type": "external-model-metadata-v1", "modelId": id, "modelArchitecture": "yolov8",
                "taskType": "object-detection", "modelPackages": [{"packageId": package, "packageManifest": {
                "type": "onnx-model-package-v1", "dynamicBatchSize": true, "quantization": "fp32"}, "packageFiles":
                [{"fileHandle": handle, "downloadUrl": url, "md5Hash": hex_md5(content)}]}]}}),
        );
        let run = pull(&api, cache.path(), &["evil/1"]).run();
        assert_ne!(run.exit, Some(0), "{}", run.stdout);
        assert!(run.exit.is_some() && !run.stderr.contains("panicked"), "{}", run.stderr);
        run.stderr
    };
    let said = offer("evil/1", "pkg1", "../../../../escaped");
    assert!(said.contains("file inside the package's directory"), "{said}");
    offer("evil/1", "../pkg", "weights.onnx");
    offer("../../evil", "pkg1", "weights.onnx");
    offer("/etc", "pkg1", "weights.onnx");
    offer(&"x".repeat(9000), "pkg1", "weights.onnx");
    let above = fs::read_dir(cache.path().parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(above.into_iter().all(|name| name != "escaped" && name != "evil"));
}
