//! The network is never needed: nobody is called (watched by strace, and in a namespace that has none), and
//! `verify-offline` says what would be missing.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::{Run, firstlight, parts_cache};

/// The binary with these arguments behind another program; `None` where that is not here, said aloud.
fn behind(program: &[&str], args: &[&str]) -> Option<Run> {
    let mut own = firstlight(args);
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).arg(own.command.get_program()).args(own.command.get_args());
    for (name, value) in own.command.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.current_dir(own.command.get_current_dir().unwrap());
    own.command = command;
    if Command::new(program[0]).arg("--version").output().is_err() {
        eprintln!("NOT TESTED: no {}; tests/packages.sh brings it", program[0]);
        return None;
    }
    Some(own.run())
}

/// What each command does to the cache and a picture.
fn commands(cache: &str) -> [Vec<&str>; 4] {
    [
        vec!["run", "--cache", cache, "--model", "parts/1", "--frames", "5", "--listen", "127.0.0.1:0"],
        vec!["infer", "--cache", cache, "--model", "parts/1", "src/demo/golden.png"],
        vec!["cache", "--cache", cache, "verify"],
        vec!["selftest"],
    ]
}

#[test]
fn nobody_is_called() {
    let (cache, folder) = (parts_cache(), tempfile::tempdir().unwrap());
    let trace = folder.path().join("trace");
    let strace = ["strace", "-f", "-qq", "-e", "trace=%net", "-o", trace.to_str().unwrap()];
    for args in commands(cache.path().to_str().unwrap()) {
        let Some(run) = behind(&strace, &args) else { return };
        assert_eq!(run.exit, Some(0), "{args:?}: {}", run.stderr);
        let traced = fs::read_to_string(&trace).unwrap();
        let outbound: Vec<&str> = traced.lines().filter(|line| is_outbound(line)).collect();
        assert_eq!(outbound, [""; 0], "{args:?}");
        // What `run` offers is seen, so what it called would be.
        assert_eq!(traced.contains("bind("), args[0] == "run", "{args:?}: {traced}");
    }
}

/// A call by which a process reaches out over IP; netlink and sockets of this machine are none.
fn is_outbound(line: &str) -> bool {
    let calls = ["connect(", "sendto(", "sendmsg(", "sendmmsg("];
    calls.iter().any(|call| line.contains(call)) && (line.contains("AF_INET") || line.contains("sin_addr"))
}

#[test]
fn a_webhook_that_is_configured_is_seen_by_the_same_watch() {
    let folder = tempfile::tempdir().unwrap();
    let (config, trace) = (folder.path().join("c.toml"), folder.path().join("trace"));
    fs::write(&config, "[[webhook]]\nurl = \"http://127.0.0.1:9/\"\nanswers_per_s = 1000.0\n").unwrap();
    let strace = ["strace", "-f", "-qq", "-e", "trace=%net", "-o", trace.to_str().unwrap()];
    let args = ["run", "-c", config.to_str().unwrap(), "--frames", "5", "--listen", "off"];
    let Some(run) = behind(&strace, &args) else { return };
    assert_eq!(run.exit, Some(0), "{}", run.stderr);
    assert!(fs::read_to_string(&trace).unwrap().lines().any(is_outbound), "the watch sees nothing");
}

#[test]
fn everything_works_where_there_is_no_network_at_all() {
    let cache = parts_cache();
    for mut args in commands(cache.path().to_str().unwrap()) {
        if let Some(listen) = args.iter().position(|arg| *arg == "127.0.0.1:0") {
            // There is no loopback either.
            args[listen] = "off";
        }
        let Some(run) = behind(&["unshare", "--net", "--map-root-user"], &args) else { return };
        if run.stderr.contains("unshare failed") {
            eprintln!("NOT TESTED: no namespaces here: {}", run.stderr.trim());
            return;
        }
        assert_eq!(run.exit, Some(0), "{args:?}: {}", run.stderr);
    }
}

/// `verify-offline` with a configuration; the checks by what they are about.
fn verified(cache: &Path, config: &str, args: &[&str]) -> (Run, Vec<Value>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, config).unwrap();
    let own = ["verify-offline", "--json", "--cache", cache.to_str().unwrap(), "-c", path.to_str().unwrap()];
    let run = firstlight(&[&own[..], args].concat()).run();
    let checks = serde_json::from_str(&run.stdout).unwrap_or_default();
    (run, checks)
}

fn missing(checks: &[Value]) -> Vec<String> {
    let missing = checks.iter().filter(|check| check["state"] == "missing");
    missing.map(|check| format!("{} {}", check["what"], check["subject"]).replace('"', "")).collect()
}

#[test]
fn a_device_that_has_all_it_needs_is_ready() {
    let cache = parts_cache();
    let (run, checks) = verified(cache.path(), "model = \"parts/1\"\n", &[]);
    if missing(&checks) == ["network none"] {
        eprintln!("NOT TESTED: no namespaces here: {}", run.stdout);
        return;
    }
    assert_eq!(run.exit, Some(0), "{}{}", run.stdout, run.stderr);
    let model = checks.iter().find(|check| check["what"] == "model").unwrap();
    assert!(model["detail"].as_str().unwrap().contains("agrees with its referee"), "{model}");
    // For people, and with no configuration at all.
    let demo = firstlight(&["verify-offline"]).run();
    assert_eq!(demo.exit, Some(0), "{}{}", demo.stdout, demo.stderr);
    assert!(demo.stdout.contains("ready   model the demo in the binary: sha256 "), "{}", demo.stdout);
}

#[test]
fn what_is_missing_is_named_and_the_exit_is_4() {
    let cache = parts_cache();
    let config = "model = \"parts/1\"\n[source]\nuri = \"file:/nowhere/clip.mp4\"\n[engine]\nname = \"onnxruntime\"\n\
                  onnxruntime = \"/nowhere/libonnxruntime.so\"\n[serving]\npreload = [\"gone/2\"]\n[[webhook]]\n\
                  url = \"https://user:word@hub.example/x?key=1\"\ntoken_file = \"/nowhere/token\"\n\
                  headers = { x-key = \"env:FIRSTLIGHT_NO_SUCH\" }\n";
    let (run, checks) = verified(cache.path(), config, &[]);
    assert_eq!(run.exit, Some(4), "{}{}", run.stdout, run.stderr);
    let found: Vec<String> = missing(&checks).into_iter().filter(|check| check != "network none").collect();
    assert_eq!(
        found,
        [
            "engine onnxruntime of parts/1",
            "model gone/2",
            "file /nowhere/clip.mp4 (source[0].uri)",
            "file /nowhere/libonnxruntime.so (engine.onnxruntime)",
            "file /nowhere/token (webhook[0].token_file)",
            "variable FIRSTLIGHT_NO_SUCH (webhook[0].headers.x-key)",
        ]
    );
    assert!(!run.stdout.contains("word") && !run.stdout.contains("key=1"), "{}", run.stdout);
    assert!(run.stdout.contains("https://hub.example"), "{}", run.stdout);

    // A damaged model, and a plan for a board that is not there.
    let weights = cache.path().join("parts/1/weights.onnx");
    let mut bytes = fs::read(&weights).unwrap();
    bytes.truncate(bytes.len() / 2);
    fs::write(&weights, bytes).unwrap();
    let (run, checks) = verified(cache.path(), "model = \"parts/1\"\n", &[]);
    assert_eq!(run.exit, Some(4), "{}", run.stderr);
    assert!(missing(&checks).contains(&"model parts/1".to_owned()), "{}", run.stdout);
    let (run, checks) = verified(parts_cache().path(), "model = \"parts/1\"\n", &["--target", "neon"]);
    assert_eq!(run.exit, Some(4), "{}", run.stderr);
    assert!(missing(&checks).contains(&"plan for neon of parts/1".to_owned()), "{}", run.stdout);
}

#[test]
fn an_image_is_looked_at_below_its_root() {
    let (cache, root) = (parts_cache(), tempfile::tempdir().unwrap());
    fs::create_dir_all(root.path().join("etc")).unwrap();
    fs::rename(cache.path().join("parts"), root.path().join("parts")).unwrap();
    fs::write(root.path().join("etc/ca.pem"), "x").unwrap();
    let config = root.path().join("etc/config.toml");
    fs::write(&config, "cache = \"/\"\nmodel = \"parts/1\"\n[engine]\nname = \"tensorrt\"\n[mqtt]\nurl = \"mqtts://b\"\nca = \"/etc/ca.pem\"\n")
        .unwrap();
    let (root, config) = (root.path().to_str().unwrap(), config.to_str().unwrap());
    let run = firstlight(&["verify-offline", "--root", root, "-c", config]).run();
    if run.stdout.contains("MISSING network") {
        eprintln!("NOT TESTED: no namespaces here: {}", run.stdout);
        return;
    }
    assert_eq!(run.exit, Some(0), "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains(&format!("ready   file {root}/etc/ca.pem (mqtt.ca)")), "{}", run.stdout);
    assert!(run.stdout.contains("note    engine tensorrt"), "{}", run.stdout);
}
