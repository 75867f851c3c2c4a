//! `firstlight run` as an ordinary service: what it tells a supervisor that speaks systemd's protocol.

mod support;

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use support::{PATIENCE, Running, firstlight};

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
