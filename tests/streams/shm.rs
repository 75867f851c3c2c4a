//! `shm:` beside the producer of scripts/.

use nix::sys::signal::Signal;

use super::*;

/// A producer of the known pictures, fed by ffmpeg; the ffmpeg ends with it.
fn producer(known: &Known, path: &Path) -> (Peer, Peer) {
    let mut command = ffmpeg();
    command.args(["-re", "-stream_loop", "-1", "-framerate", "10", "-i", &known.pattern()]);
    command.args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]).stderr(Stdio::null());
    let mut feeder = Peer::spawn(command.stdout(Stdio::piped()), "ffmpeg");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/shm_producer.py");
    let mut command = Command::new("/usr/bin/python3");
    command.arg(script).arg(path).args(["640", "480"]).stdin(feeder.0.stdout.take().expect("piped"));
    (Peer::spawn(&mut command, "python3"), feeder)
}

#[test]
fn frames_are_seen_exactly_and_a_producer_may_die_hang_and_come_again() {
    let known = Known::new();
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = dir.path().join("camera");
    let uri = format!("shm:{}", path.display());
    let running = known.firstlight(&["run", "--listen", "127.0.0.1:0", "--source", &uri]).start();
    let address = running.address();
    wait_for_reason(&address, "cannot be opened: No such file");

    let first = producer(&known, &path);
    wait_for_recovery(&address);
    first.0.signal(Signal::SIGKILL);
    wait_for_reason(&address, "its producer has shown no sign of life for");
    drop(first);

    let second = producer(&known, &path);
    wait_for_recovery(&address);
    second.0.signal(Signal::SIGSTOP);
    wait_for_reason(&address, "its producer has shown no sign of life for");
    second.0.signal(Signal::SIGCONT);
    wait_for_recovery(&address);

    let lines: Vec<Value> = running.stdout.try_iter().map(|line| serde_json::from_str(&line).unwrap()).collect();
    assert!(lines.len() > 8);
    for line in &lines {
        let which = known.which(line).unwrap_or_else(|| panic!("none of the pictures: {line}"));
        assert_eq!(line["predictions"], known.seen[which]["predictions"], "nothing was lost");
    }
    // A file that is no producer's is said, and no fault.
    drop(second);
    std::fs::write(&path, b"FLFRAMESgarbage").unwrap();
    wait_for_reason(&address, "cannot be read at byte 0");
    std::fs::write(&path, [b'x'; 4096]).unwrap();
    wait_for_reason(&address, "expected FLFRAMES");
}
