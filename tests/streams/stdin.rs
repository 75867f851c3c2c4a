//! `stdin:` behind ffmpeg, as behind a camera's program.

use std::process::Output;

use super::*;

/// Times that the known pictures go round.
const ROUNDS: usize = 5;

/// What the binary makes of what ffmpeg writes with these arguments.
fn pipe(known: &Known, encode: &[&str], source: &str) -> Output {
    let mut command = ffmpeg();
    let rounds = (ROUNDS - 1).to_string();
    command.args(["-stream_loop", &rounds, "-framerate", "10", "-i", &known.pattern()]).args(encode).arg("-");
    let mut writer = Peer::spawn(command.stdout(Stdio::piped()), "ffmpeg");
    let mut binary = known.firstlight(&["run", "--listen", "off", "--source", source]).command;
    binary.stdin(writer.0.stdout.take().expect("piped")).output().expect("it runs")
}

#[test]
fn every_picture_of_a_pipe_is_seen_in_order_and_the_end_ends_it() {
    let known = Known::new();
    let x264 = ["-c:v", "libx264", "-crf", "8", "-pix_fmt", "yuv420p", "-f", "h264"];
    let raw = |pixels| ["-f", "rawvideo", "-pix_fmt", pixels];
    let sized = |format| format!("stdin:?format={format}&width=640&height=480");
    for (encode, source) in [
        (&["-f", "mjpeg", "-q:v", "2"][..], "stdin:?format=mjpeg".to_owned()),
        (&x264, "stdin:?format=h264".into()),
        (&["-f", "yuv4mpegpipe", "-pix_fmt", "yuv420p"], "stdin:?format=y4m".into()),
        (&raw("rgb24"), sized("rgb")),
        (&raw("yuyv422"), sized("yuyv")),
        (&raw("nv12"), sized("nv12")),
        (&raw("yuv420p"), sized("i420")),
    ] {
        let output = pipe(&known, encode, &source);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{source}: {stderr}");
        let seen = lines(&String::from_utf8(output.stdout).unwrap());
        assert_eq!(seen.len(), PICTURES * ROUNDS, "{source}: {stderr}");
        for (index, line) in seen.iter().enumerate() {
            assert_eq!(line["frame_id"], index, "{source}");
            assert_eq!(known.which(line), Some(index % PICTURES), "{source}: {line}");
            if source == sized("rgb") {
                assert_eq!(line["predictions"], known.seen[index % PICTURES]["predictions"], "nothing was lost");
            }
        }
    }
}

#[test]
fn what_cannot_be_read_is_said_and_ends_it() {
    let known = Known::new();
    for (encode, source, word) in [
        (&["-f", "yuv4mpegpipe", "-pix_fmt", "yuv422p"][..], "stdin:?format=y4m", "expected 8-bit 4:2:0"),
        (&["-f", "mjpeg"], "stdin:?format=grey&width=9999&height=3001", "bytes end before the picture does"),
    ] {
        let output = pipe(&known, encode, source);
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert_eq!((output.status.code(), stdout.lines().count()), (Some(1), 1), "{stdout}");
        assert!(stdout.contains(word), "{stdout}");
    }
    let run = firstlight(&["run", "--listen", "off", "--source", "stdin:?format=mjpeg"]).run();
    assert_eq!((run.exit, run.stdout.as_str()), (Some(0), ""), "an empty stream: {}", run.stderr);
}

#[test]
fn a_live_pipe_is_never_held_back() {
    let known = Known::new();
    let mut command = ffmpeg();
    command.args(["-re", "-stream_loop", "19", "-framerate", "200", "-i", &known.pattern()]);
    let mut writer = Peer::spawn(command.args(["-f", "mjpeg", "-"]).stdout(Stdio::piped()), "ffmpeg");
    let mut binary =
        firstlight(&["run", "--listen", "off", "--threads", "1", "--source", "stdin:?format=mjpeg&live=true"]).command;
    let output = binary.stdin(writer.0.stdout.take().expect("piped")).output().expect("it runs");
    let seen = lines(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!seen.is_empty() && seen.len() <= 80);
    let ids: Vec<u64> = seen.iter().map(|line| line["frame_id"].as_u64().unwrap()).collect();
    assert!(ids.is_sorted_by(|a, b| a < b) && *ids.last().unwrap() < 80, "{ids:?}");
}
