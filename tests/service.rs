//! `firstlight run` as an ordinary service: what it tells a supervisor that speaks systemd's protocol.

mod support;

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use support::{PATIENCE, Run, Running, firstlight};

/// A service with a supervisor that only listens.
fn start(source: &str, config: &str) -> (Running, UnixDatagram, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    std::fs::write(dir.path().join("device.toml"), config).unwrap();
    let config = dir.path().join("device.toml");
    let arguments = ["run", "-c", config.to_str().unwrap(), "--source", source, "--listen", "off", "--json", "none"];
    let mut service = firstlight(&arguments);
    service.command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000");
    (service.start(), socket, dir)
}

fn hear(socket: &UnixDatagram) -> String {
    let mut datagram = [0; 16 * 1024];
    let read = socket.recv(&mut datagram).expect("a message in time");
    String::from_utf8(datagram[..read].to_vec()).unwrap()
}

fn hear_until(socket: &UnixDatagram, what: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let message = hear(socket);
        if message.contains(what) {
            return message;
        }
        assert!(Instant::now() < deadline, "no {what}; the last was {message}");
    }
}

#[test]
fn a_service_says_ready_alive_how_it_is_and_that_it_stops() {
    let (mut service, socket, _dir) = start("demo:", "");
    let ready = hear_until(&socket, "READY=1");
    assert!(ready.contains("WATCHDOG=1\n") && ready.contains("STATUS=running: "), "{ready}");
    assert!(!ready.contains("X_FIRSTLIGHT"), "systemd is told only what it knows: {ready}");
    assert!(!hear(&socket).contains("READY"), "ready is said once");
    service.signal(nix::sys::signal::Signal::SIGTERM);
    hear_until(&socket, "STOPPING=1");
    assert_eq!(service.exit(), Some(0));
}

#[test]
fn a_service_whose_frames_stop_gives_no_sign_of_life() {
    let (_service, socket, _dir) = start("demo:?stall_after=3", "[device.watchdog]\nframe_age_max_s = 0.5\n");
    hear_until(&socket, "READY=1");
    let deadline = Instant::now() + PATIENCE;
    while hear(&socket).contains("WATCHDOG=1") {
        assert!(Instant::now() < deadline, "it still says that frames flow");
    }
    // And it stays so, while the process itself goes on telling how it is.
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        let message = hear(&socket);
        assert!(!message.contains("WATCHDOG=1") && message.contains("STATUS="), "{message}");
    }
}

/// A service with a port, and how the gate at it ends.
fn gate(source: &str, arguments: &[&str]) -> Run {
    let service = firstlight(&["run", "--source", source, "--listen", "127.0.0.1:0", "--json", "none"]).start();
    let address = service.address();
    firstlight(&[&["gate", "--address", &address], arguments].concat()).run()
}

#[test]
fn the_gate_opens_for_a_service_that_sees() {
    let run = gate("demo:", &["--inferences", "5", "--healthy-for", "1", "--within", "60"]);
    assert_eq!(run.exit, Some(0), "{}", run.stderr);
    let line: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert!(line["healthy"] == true && line["inferences"].as_u64() >= Some(5), "{line}");
}

#[test]
fn the_gate_stays_shut_and_says_why() {
    let run = gate("demo:?stall_after=3", &["--inferences", "1000", "--healthy-for", "1", "--within", "3"]);
    assert_eq!(run.exit, Some(1));
    assert!(run.stderr.contains("of 1000 inferences"), "{}", run.stderr);
    // Port 1 is nobody's.
    let run = firstlight(&["gate", "--address", "127.0.0.1:1", "--within", "0.5"]).run();
    assert_eq!(run.exit, Some(1));
    assert!(run.stderr.contains("0 of 100 inferences") && run.stderr.contains("refused"), "{}", run.stderr);
}

/// A service of a configuration, and how the gate ends that reads the same one.
fn gate_of(config: &str) -> Run {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("device.toml");
    std::fs::write(&file, config).unwrap();
    let file = file.to_str().unwrap();
    let mut service = firstlight(&["run", "-c", file, "--source", "demo:", "--json", "none"]);
    service.command.env("FIRSTLIGHT_STATE_DIR", dir.path());
    let _service = service.start();
    firstlight(&["gate", "-c", file, "--inferences", "5", "--healthy-for", "1", "--within", "60"]).run()
}

#[test]
fn the_gate_needs_no_token_and_under_tls_an_address_of_health() {
    // Free a moment ago; whoever took it meanwhile would make this fail, and not pass.
    let bound = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = |listener: &std::net::TcpListener| listener.local_addr().unwrap().to_string();
    let free = || address(&bound());
    let token = "0".repeat(64);
    let run = gate_of(&format!("listen = {:?}\n[http]\naccess = \"token\"\ntokens_sha256 = [{token:?}]\n", free()));
    assert_eq!(run.exit, Some(0), "{}", run.stderr);
    let tls = "[http.tls]\nself_signed = true\n";
    let run = gate_of(&format!("listen = {:?}\n{tls}", free()));
    assert_eq!(run.exit, Some(2), "{}", run.stderr);
    assert!(run.stderr.contains("speaks TLS") && run.stderr.contains("http.health_listen"), "{}", run.stderr);
    // Bound at the same time, for they must differ.
    let two = [bound(), bound()];
    let [main, health] = two.each_ref().map(address);
    drop(two);
    let run = gate_of(&format!("listen = {main:?}\n[http]\nhealth_listen = {health:?}\n{tls}"));
    assert_eq!(run.exit, Some(0), "{}", run.stderr);
}

/// What the files for RAUC, Mender, SWUpdate and systemd call is what the binary knows.
#[test]
fn the_updaters_hooks_call_the_gate_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.toml");
    std::fs::write(&config, "listen = \"127.0.0.1:1\"\n[device.trial]\ndeadline_s = 0.5\n").unwrap();
    let hooks = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("boards/updaters");
    let mut calls = 0;
    for hook in std::fs::read_dir(hooks).unwrap().map(|entry| entry.unwrap().path()) {
        let text = std::fs::read_to_string(&hook).unwrap();
        for call in text.lines().filter_map(|line| line.split("/usr/local/bin/firstlight ").nth(1)) {
            let call = call.replace("/etc/firstlight/config.toml", config.to_str().unwrap());
            let run = firstlight(&call.split_whitespace().collect::<Vec<_>>()).run();
            assert_eq!(run.exit, Some(1), "{}: {}", hook.display(), run.stderr);
            assert!(run.stderr.contains("within 0 s") || run.stderr.contains("within 1 s"), "{}", run.stderr);
            calls += 1;
        }
    }
    assert_eq!(calls, 4);
}
