//! `rtsp://` against gst-rtsp-server.

use std::process::Command;
use std::sync::mpsc::channel;

use nix::sys::signal::Signal;

use super::*;

const PACKAGES: &str = "python3-gi, gir1.2-gst-rtsp-server-1.0 and gstreamer1.0-plugins-{base,good,bad,ugly}";

/// The server on a port; what it says goes to `log`.
fn server(known: &Known, port: u16, options: &[&str], log: Option<std::sync::mpsc::Sender<String>>) -> Peer {
    // Debian's own Python has Debian's GStreamer.
    let mut command = Command::new("/usr/bin/python3");
    command.arg(here("rtsp_server.py")).arg(port.to_string()).arg(known.pattern()).args(options);
    Peer::ready(&mut command, PACKAGES, log)
}

#[test]
fn what_is_in_the_stream_is_seen_over_tcp_and_udp_with_a_password_that_nobody_sees() {
    let known = Known::new();
    let (log, said) = channel();
    let port = free_port();
    let _server = server(&known, port, &["--user", "viewer", "--password", "hun:ter2"], Some(log));
    for transport in ["tcp", "udp"] {
        let uri = format!("rtsp://viewer:hun%3Ater2@127.0.0.1:{port}/live?channel=1&key=hunter2#transport={transport}");
        let running = firstlight(&["run", "--listen", "127.0.0.1:0", "--source", &uri]).start();
        let address = running.address();
        let seen = next_lines(&running, 12);
        known.assert_in_turn(&seen);
        let shown = format!("rtsp://viewer:***@127.0.0.1:{port}/live?***#transport={transport}");
        assert_eq!(seen[0]["source"], shown.as_str());
        let status = wait_for_status(&address, "running", |status| status["state"] == "running");
        let source = &status["sources"][0];
        assert_eq!((&source["uri"], &source["live"]), (&shown.as_str().into(), &true.into()));
        let log = String::from_utf8(get(&address, "/logs").1).unwrap();
        assert!(log.contains(&format!("H.264 over {transport}")), "{log}");
        for printed in [log, status.to_string(), running.stderr.try_iter().collect::<String>()] {
            assert!(!printed.contains("ter2"), "{printed}");
        }
        // The query is the camera's, whole.
        let asked = said.recv_timeout(PATIENCE).unwrap();
        assert_eq!(asked, format!("DESCRIBE rtsp://127.0.0.1:{port}/live?channel=1&key=hunter2"));
    }
}

#[test]
fn jpeg_over_rtp_is_seen_and_h265_is_refused_by_name() {
    let known = Known::new();
    let port = free_port();
    let uri = format!("rtsp://127.0.0.1:{port}/live");
    {
        let _server = server(&known, port, &["--codec", "jpeg"], None);
        let running = firstlight(&["run", "--listen", "off", "--source", &uri]).start();
        known.assert_in_turn(&next_lines(&running, 8));
    }
    let _server = server(&known, port, &["--codec", "h265"], None);
    let running = firstlight(&["run", "--listen", "127.0.0.1:0", "--source", &uri]).start();
    wait_for_reason(&running.address(), "H.265, for which there is no decoder here: set it to H.264");
}

#[test]
fn a_server_that_is_absent_dies_or_falls_silent_is_said_and_found_again() {
    let known = Known::new();
    let port = free_port();
    let uri = format!("rtsp://127.0.0.1:{port}/live");
    let running = firstlight(&["run", "--listen", "127.0.0.1:0", "--source", &uri]).start();
    let address = running.address();
    wait_for_reason(&address, "Connection refused");

    let first = server(&known, port, &[], None);
    wait_for_recovery(&address);
    first.signal(Signal::SIGKILL);
    drop(first);
    wait_for_reason(&address, &format!("source: {uri}: "));

    let second = server(&known, port, &[], None);
    wait_for_recovery(&address);
    second.signal(Signal::SIGSTOP);
    wait_for_reason(&address, "nothing for 5s");
    // While it hangs, attempts to connect end as well.
    wait_for_reason(&address, "no answer within 5s");
    drop(second);

    let _third = server(&known, port, &[], None);
    wait_for_recovery(&address);
    let mut lines: Vec<Value> = running.stdout.try_iter().map(|line| serde_json::from_str(&line).unwrap()).collect();
    let ids: Vec<u64> = lines.iter().map(|line| line["frame_id"].as_u64().unwrap()).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "ids go on over reconnections: {ids:?}");
    // Of the last server's stream, the pictures.
    known.assert_in_turn(&lines.split_off(lines.len() - 4));
}
