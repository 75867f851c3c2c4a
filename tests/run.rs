//! `firstlight run` as a device runs it: started, watched over HTTP and the serial line, stopped by signals.

mod support;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::{PATIENCE, firstlight, get, poll, wait_for};

#[test]
fn with_nothing_said_it_sees_the_demo_and_shows_it() {
    let mut running = firstlight(&["run", "--listen", "127.0.0.1:0"]).start();
    let address = running.address();
    let line: Value = serde_json::from_str(&running.stdout.recv_timeout(PATIENCE).unwrap()).unwrap();
    assert_eq!(line["source"], "demo:");
    assert_eq!(line["image"], serde_json::json!({"width": 640, "height": 480}));
    let classes = ["bolt", "nut", "washer"];
    let predictions = line["predictions"].as_array().unwrap();
    assert!(!predictions.is_empty() && predictions.iter().all(|p| classes.contains(&p["class"].as_str().unwrap())));

    poll(&address, "/readiness", |status, _| status == 200);
    assert_eq!(get(&address, "/healthz"), (200, br#"{"status":"healthy"}"#.to_vec()));
    let status: Value = serde_json::from_slice(&get(&address, "/status").1).unwrap();
    assert_eq!(status["state"], "running");
    assert_eq!(status["model"]["id"], "parts/1");
    assert_eq!(status["model"]["sha256"], "5dafbdb7061121dab5f4f6a11e4308d87730f9e86af555ffbccd5972a273eeb9");
    assert_eq!(status["engine"]["name"], "plan");
    assert!(status["loop"]["frames"].as_u64().unwrap() > 0);
    assert!(status["boot"]["first_inference_ms"].as_u64().is_some());
    assert!(status["board"]["memory_rss_mb"].as_u64().unwrap() > 0);
    let jpeg = poll(&address, "/snapshot.jpg", |status, _| status == 200);
    let picture = image::load_from_memory(&jpeg).unwrap();
    assert_eq!((picture.width(), picture.height()), (640, 480));
    let metrics = String::from_utf8(get(&address, "/metrics").1).unwrap();
    assert!(metrics.contains("firstlight_frames_total"), "{metrics}");

    running.signal(Signal::SIGTERM);
    assert_eq!(running.exit(), Some(0));
    wait_for(&running.stderr, |line| line.contains("frames, 0 failed"));
}

#[test]
fn an_interrupt_ends_it_as_well_and_frames_bound_it() {
    let mut running = firstlight(&["run", "--listen", "off"]).start();
    running.stdout.recv_timeout(PATIENCE).unwrap();
    running.signal(Signal::SIGINT);
    assert_eq!(running.exit(), Some(0));
    let run = firstlight(&["run", "--listen", "off", "--frames", "7"]).run();
    assert_eq!((run.exit, run.stdout.lines().count()), (Some(0), 7));
}

#[test]
fn files_are_inferred_every_one_in_order_and_a_bad_one_is_said() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["1.png", "2.png", "4.png"] {
        std::fs::copy("src/demo/golden.png", dir.path().join(name)).unwrap();
    }
    std::fs::write(dir.path().join("3.png"), b"not a picture").unwrap();
    let source = format!("file:{}", dir.path().display());
    let run = firstlight(&["run", "--listen", "off", "--source", &source]).run();
    assert_eq!(run.exit, Some(1), "{}", run.stderr);
    let lines: Vec<Value> = run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().map(|line| line["frame_id"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert!(lines[2]["error"].as_str().unwrap().contains("3.png"), "{}", lines[2]);
    assert!([0, 1, 3].iter().all(|&i| lines[i]["predictions"].as_array().unwrap().len() == 8));
    assert!(run.stderr.contains("3 frames, 1 failed"), "{}", run.stderr);
}

#[test]
fn a_port_that_is_taken_degrades_and_does_not_blind() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let serial = dir.path().join("ttyS0");
    std::fs::write(&serial, b"").unwrap();
    let run = firstlight(&["run", "--listen", &address, "--serial", serial.to_str().unwrap(), "--frames", "20"]).run();
    assert_eq!((run.exit, run.stdout.lines().count()), (Some(0), 20), "{}", run.stderr);
    assert!(run.stderr.contains(&address), "{}", run.stderr);
    let log = std::fs::read_to_string(&serial).unwrap();
    assert!(log.contains(r#""state":"degraded""#) && log.contains("http: "), "{log}");
}

#[test]
fn the_serial_line_carries_the_status_document_on_a_real_terminal() {
    let terminal = nix::pty::openpty(None, None).unwrap();
    let name = nix::unistd::ttyname(&terminal.slave).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("device.toml");
    let text = format!("[serial]\ndevice = {name:?}\ninterval_s = 0.2\n[output]\njson = \"none\"\n");
    std::fs::write(&config, text).unwrap();
    let mut running = firstlight(&["run", "--listen", "off", "-c", config.to_str().unwrap()]).start();
    let mut reader = std::io::BufReader::new(std::fs::File::from(terminal.master));
    let mut states = Vec::new();
    // A start that makes a plan on a busy machine takes a while; a hundred lines are twenty seconds.
    while states.len() < 4 || (states.len() < 100 && !states.contains(&"running".to_owned())) {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
        let document = line.trim_end().strip_prefix("FIRSTLIGHT ").expect("the prefix");
        let document: Value = serde_json::from_str(document).unwrap();
        states.push(document["state"].as_str().unwrap().to_owned());
    }
    assert_eq!(states[0], "starting");
    assert!(states.contains(&"running".to_owned()), "{states:?}");
    running.signal(Signal::SIGTERM);
    // The last line waits in the terminal until somebody reads it.
    std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    assert_eq!(running.exit(), Some(0));
}

#[test]
fn a_reader_of_stdout_that_goes_ends_it_cleanly_and_one_that_stalls_does_not_blind_it() {
    let mut running = firstlight(&["run", "--listen", "127.0.0.1:0"]);
    running
        .command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = running.command.spawn().unwrap();
    let stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let address = std::io::BufRead::lines(stderr)
        .map_while(Result::ok)
        .find_map(|line| Some(line.split("http://").nth(1)?.trim_end_matches('/').to_owned()))
        .unwrap();
    // Nobody reads stdout: its pipe fills, and the loop goes on.
    let frames = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap()["loop"]["frames"].as_u64().unwrap();
    poll(&address, "/status", |_, body| frames(body) > 150);
    drop(child.stdout.take());
    let deadline = std::time::Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        assert!(std::time::Instant::now() < deadline, "still running after its reader has gone");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Weights on a read-only mount, no interface in the network namespace: nothing is written, nothing is called.
#[test]
fn a_real_model_runs_read_only_and_without_a_network() {
    let weights = support::find_file(&[], "doclaynet-yolov8n.onnx").unwrap();
    let cache = tempfile::tempdir().unwrap();
    let package = cache.path().join("doclaynet/1");
    std::fs::create_dir_all(&package).unwrap();
    std::fs::copy(weights, package.join("weights.onnx")).unwrap();
    let names = "Caption\nFootnote\nFormula\nList-item\nPage-footer\nPage-header\nPicture\nSection-header\nTable\nText\nTitle\n";
    std::fs::write(package.join("class_names.txt"), names).unwrap();
    let preprocessing = r#"{\"auto-orient\": {\"enabled\": true}, \"resize\": {\"enabled\": true, \"width\": 1024, \"height\": 1024, \"format\": \"Fit (grey edges) in\"}}"#;
    std::fs::write(package.join("environment.json"), format!(r#"{{"PREPROCESSING": "{preprocessing}"}}"#)).unwrap();
    std::fs::write(
        package.join("model_type.json"),
        r#"{"project_task_type": "object-detection", "model_type": "yolov8n", "model_id": "doclaynet/1"}"#,
    )
    .unwrap();

    let script = r#"
        set -e
        mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"
        if touch "$1/x" 2>/dev/null; then echo "the mount is writable" >&2; exit 99; fi
        test -z "$(tail -n +3 /proc/net/dev | grep -v 'lo:')" || { echo "there is a network" >&2; exit 98; }
        "$2" --cache "$1" cache verify
        "$2" --cache "$1" infer --model doclaynet/1 "$3"
        "$2" --cache "$1" run --model doclaynet/1 --listen off --source "file:$3"
    "#;
    let output = std::process::Command::new("unshare")
        .args(["-rnm", "sh", "-c", script, "sh"])
        .arg(cache.path())
        .arg(env!("CARGO_BIN_EXE_firstlight"))
        .arg(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/demo/golden.png"))
        .output()
        .expect("unshare is part of util-linux");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{:?}: {stdout} {stderr}", output.status);
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines[0], "ok doclaynet/1");
    let answer: Value = serde_json::from_str(lines[1]).unwrap();
    assert_eq!(answer["resolved_model"]["model_id"], "doclaynet/1");
    let frame: Value = serde_json::from_str(lines[2]).unwrap();
    assert!(frame["predictions"].is_array());
}
