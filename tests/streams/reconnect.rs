//! What reconnecting costs: nothing that stays.

use support::damage::rounds;

use super::*;

/// Descriptors, threads and resident kilobytes of a process.
fn held(pid: u32) -> (usize, usize, u64) {
    let count = |what: &str| std::fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    (count("fd"), count("task"), rss.trim().trim_end_matches(" kB").parse().unwrap())
}

/// A stream that ends after three pictures is one that is opened again and again.
#[test]
fn connections_leave_no_descriptor_thread_or_memory_behind() {
    let known = Known::new();
    let port = free_port();
    let jpeg = known.dir.path().join("0.jpg");
    let converted = ffmpeg().args(["-i", &known.pattern().replace("%d", "0"), "-update", "1"]).arg(&jpeg).status();
    assert!(converted.expect("tests/packages.sh installs ffmpeg").success());
    let _camera = http::camera(&[jpeg], port);
    let uri = format!("http://viewer:hunter2@127.0.0.1:{port}/stream?pictures=3");
    let running = firstlight(&["run", "--listen", "127.0.0.1:0", "--source", &uri]).start();
    let address = running.address();
    let connections = |count: u64| {
        let mut last = 0;
        while last < 3 * count {
            let line: Value = serde_json::from_str(&running.stdout.recv_timeout(PATIENCE).unwrap()).unwrap();
            last = line["frame_id"].as_u64().unwrap() + 1;
        }
    };
    // Warm: the allocator and the pools have what they need.
    connections(5);
    let before = held(running.child.id());
    connections(5 + rounds(10) as u64);
    let after = held(running.child.id());
    eprintln!("descriptors, threads, kB before and after {} connections: {before:?}, {after:?}", rounds(10));
    // One connection, its thread and a name look-up may be at work in either moment.
    assert!(after.0 <= before.0 + 4 && after.1 <= before.1 + 3, "{before:?}, {after:?}");
    assert!(after.2 <= before.2 + 8 * 1024, "{before:?}, {after:?}");
    wait_for_status(&address, "a status", |status| status["loop"]["failed"] == 0);
}
