//! `http://` against a camera that writes its stream as differently as cameras do, and against ffmpeg.

use std::process::Command;

use nix::sys::signal::Signal;

use super::*;

/// The known pictures as JPEGs, in their order.
fn jpegs(known: &Known) -> Vec<PathBuf> {
    let pattern = known.dir.path().join("%d.jpg");
    let mut command = ffmpeg();
    command.args(["-start_number", "0", "-i", &known.pattern(), "-q:v", "2", "-start_number", "0"]).arg(&pattern);
    assert!(command.status().expect("tests/packages.sh installs ffmpeg").success());
    (0..PICTURES).map(|index| known.dir.path().join(format!("{index}.jpg"))).collect()
}

pub fn camera(pictures: &[PathBuf], port: u16) -> Peer {
    let mut command = Command::new("/usr/bin/python3");
    command.arg(here("http_camera.py")).arg(port.to_string()).args(pictures);
    Peer::ready(&mut command, "python3", None)
}

#[test]
fn streams_and_snapshots_are_seen_however_the_camera_writes_them() {
    let known = Known::new();
    let port = free_port();
    let _camera = camera(&jpegs(&known), port);
    for (path, shown) in [
        ("stream?dashes=2&length=yes", "stream?***"),
        ("stream?dashes=0&length=no", "stream?***"),
        ("snapshot#fps=10", "snapshot#fps=10"),
    ] {
        let uri = format!("http://viewer:hunter2@127.0.0.1:{port}/{path}");
        let running = firstlight(&["run", "--listen", "off", "--source", &uri]).start();
        let seen = next_lines(&running, 8);
        known.assert_in_turn(&seen);
        assert_eq!(seen[0]["source"], format!("http://viewer:***@127.0.0.1:{port}/{shown}"));
    }
    let uri = format!("http://viewer:wrong@127.0.0.1:{port}/snapshot");
    let running = firstlight(&["run", "--listen", "127.0.0.1:0", "--source", &uri]).start();
    wait_for_reason(&running.address(), "answered 401: it does not take this user and password");
}

#[test]
fn a_stream_of_ffmpeg_is_seen() {
    let known = Known::new();
    let port = free_port();
    let mut command = ffmpeg();
    command.args(["-re", "-stream_loop", "-1", "-framerate", "10", "-i", &known.pattern(), "-q:v", "2"]);
    command.args(["-f", "mpjpeg", "-content_type", "multipart/x-mixed-replace; boundary=ffmpeg", "-listen", "1"]);
    let _camera = Peer::spawn(command.arg(format!("http://127.0.0.1:{port}/")), "ffmpeg");
    let uri = format!("http://127.0.0.1:{port}/");
    let running = firstlight(&["run", "--listen", "off", "--source", &uri]).start();
    known.assert_in_turn(&next_lines(&running, 8));
}

#[test]
fn a_camera_that_is_absent_dies_or_falls_silent_is_said_and_found_again() {
    let known = Known::new();
    let pictures = jpegs(&known);
    let port = free_port();
    let uri = format!("http://viewer:hunter2@127.0.0.1:{port}/stream");
    let running = firstlight(&["run", "--listen", "127.0.0.1:0", "--source", &uri]).start();
    let address = running.address();
    wait_for_reason(&address, "cannot connect: Connection refused");
    let first = camera(&pictures, port);
    wait_for_recovery(&address);
    drop(first);
    wait_for_reason(&address, &format!("source: http://viewer:***@127.0.0.1:{port}/stream: "));
    let second = camera(&pictures, port);
    wait_for_recovery(&address);
    second.signal(Signal::SIGSTOP);
    wait_for_reason(&address, "no whole JPEG for 5s");
    wait_for_reason(&address, "no answer within 5s");
    second.signal(Signal::SIGCONT);
    wait_for_recovery(&address);
}
