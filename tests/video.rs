//! Video files through the binary: every picture once, in order, and seen as the same picture on its own would be.
//!
//! ffmpeg makes the videos of the demo's scene, counts their frames with `ffprobe`, and takes single pictures out.

mod support;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use firstlight::frame::Frame;
use firstlight::source::demo::{Conveyor, HEIGHT, WIDTH};
use serde_json::Value;
use support::{Firstlight, firstlight, parts_cache};

/// Frames of every video: several groups of pictures.
const FRAMES: usize = 110;
/// Frames whose detections are compared: the first, the last, and of each kind between.
const SAMPLED: [usize; 6] = [0, 1, 2, 47, 50, FRAMES - 1];

/// Runs ffmpeg or ffprobe and returns what it prints.
fn tool(name: &str, args: &[&str], input: &[u8]) -> String {
    let child = Command::new(name).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{name}: {error}; install ffmpeg (tests/packages.sh)"));
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{name} {args:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// A video of the scene, coded as the arguments say.
fn encode(dir: &Path, name: &str, args: &[&str]) -> String {
    let mut conveyor = Conveyor::new(3);
    let (mut frame, mut rgb) = (Frame::empty(), Vec::new());
    for _ in 0..FRAMES {
        conveyor.render(&mut frame);
        rgb.extend_from_slice(frame.pixels());
    }
    let path = dir.join(name).display().to_string();
    let size = format!("{WIDTH}x{HEIGHT}");
    let input = ["-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", &size, "-r", "25", "-i", "-"];
    tool("ffmpeg", &[&input, args, &[&path]].concat(), &rgb);
    path
}

/// A command that keeps its plan, or takes the one that is there: two plans of one network may go different ways, and then
/// their answers differ in the seventh digit.
fn by_one_plan(dir: &Path, args: &[&str]) -> Firstlight {
    let mut command = firstlight(args);
    command.command.env("FIRSTLIGHT_STATE_DIR", dir.join("state"));
    command
}

/// What `firstlight run` says of each frame.
fn seen(dir: &Path, video: &str) -> Vec<Value> {
    let source = format!("file:{video}");
    let run = by_one_plan(dir, &["run", "--listen", "off", "--source", &source]).run();
    assert_eq!(run.exit, Some(0), "{}", run.stderr);
    run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Every frame that ffprobe counts is seen once, and the sampled ones as `infer` sees them in picture files; `extract`
/// makes ffmpeg write those.
fn every_frame_is_seen(dir: &Path, video: &str, extract: &[&str], ending: &str) {
    let count = ["-v", "error", "-count_frames", "-show_entries", "stream=nb_read_frames", "-of", "csv=p=0", video];
    let counted: usize = tool("ffprobe", &count, &[]).trim().parse().unwrap();
    assert!(counted >= 100, "{counted} frames");
    let lines = seen(dir, video);
    let numbers: Vec<u64> = lines.iter().map(|line| line["frame_id"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..counted as u64).collect::<Vec<_>>());

    let pattern = dir.join(format!("%d.{ending}")).display().to_string();
    let all = ["-v", "error", "-i", video, "-fps_mode", "passthrough", "-start_number", "0"];
    tool("ffmpeg", &[&all, extract, &[&pattern]].concat(), &[]);
    let pictures = SAMPLED.map(|number| dir.join(format!("{number}.{ending}")).display().to_string());
    let cache = parts_cache();
    let cache = cache.path().to_str().unwrap();
    let mut args = vec!["--cache", cache, "infer", "--model", "parts/1"];
    args.extend(pictures.iter().map(String::as_str));
    let inferred = by_one_plan(dir, &args).run();
    assert_eq!(inferred.exit, Some(0), "{}", inferred.stderr);
    let mut found = 0;
    for (number, answer) in SAMPLED.into_iter().zip(inferred.stdout.lines()) {
        let answer: Value = serde_json::from_str(answer).unwrap();
        let told = |all: &Value| -> Vec<[Value; 6]> {
            let fields = ["class", "confidence", "x", "y", "width", "height"];
            all["predictions"].as_array().unwrap().iter().map(|one| fields.map(|field| one[field].clone())).collect()
        };
        assert_eq!(told(&lines[number]), told(&answer), "frame {number} of {video}");
        found += told(&answer).len();
    }
    assert!(found >= 3 * SAMPLED.len(), "{found} detections in {} frames", SAMPLED.len());
}

#[test]
fn h264_with_b_pictures_in_mp4() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "48", "-bf", "3", "-x264-params", "slices=2:b-pyramid=2"];
    let video = encode(dir.path(), "clip.mp4", &options);
    every_frame_is_seen(dir.path(), &video, &["-pix_fmt", "rgb24"], "png");
}

#[test]
fn jpeg_in_avi() {
    let dir = tempfile::tempdir().unwrap();
    let video = encode(dir.path(), "clip.avi", &["-c:v", "mjpeg", "-q:v", "3", "-pix_fmt", "yuvj420p"]);
    // The pictures as they are in the file: both ways of decoding them are then this program's.
    every_frame_is_seen(dir.path(), &video, &["-c:v", "copy"], "jpg");
}

#[test]
fn uncompressed_y4m() {
    let dir = tempfile::tempdir().unwrap();
    let video = encode(dir.path(), "clip.y4m", &["-pix_fmt", "yuv420p"]);
    every_frame_is_seen(dir.path(), &video, &["-pix_fmt", "rgb24"], "png");
}

#[test]
fn a_damaged_picture_is_an_error_of_its_own_and_the_film_goes_on_with_the_next_key_picture() {
    let dir = tempfile::tempdir().unwrap();
    let options = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "20", "-bf", "0", "-x264-params", "scenecut=0"];
    let video = encode(dir.path(), "clip.mp4", &options);
    // The packets' places: that of picture 30 is overwritten.
    let places = ["-v", "error", "-show_entries", "packet=pos,size", "-of", "csv=p=0", &video];
    let packets = tool("ffprobe", &places, &[]);
    let packet = packets.lines().nth(30).unwrap();
    let mut numbers = packet.split(',').map(|number| number.parse::<usize>().unwrap());
    let (size, place) = (numbers.next().unwrap(), numbers.next().unwrap());
    let mut bytes = std::fs::read(&video).unwrap();
    bytes[place..place + size].fill(0xff);
    std::fs::write(&video, bytes).unwrap();

    let run = firstlight(&["run", "--listen", "off", "--source", &format!("file:{video}")]).run();
    assert_eq!(run.exit, Some(1), "{}", run.stderr);
    let lines: Vec<Value> = run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let failed: Vec<usize> = (0..lines.len()).filter(|&at| lines[at].get("error").is_some()).collect();
    assert_eq!(failed, [30]);
    assert!(lines[30]["error"].as_str().unwrap().contains("clip.mp4"), "{}", lines[30]);
    // 31 to 39 refer to it; 40 is the next key picture.
    assert_eq!(lines.len(), FRAMES - 9);
}

#[test]
fn what_is_not_decoded_is_named_with_what_helps() {
    let dir = tempfile::tempdir().unwrap();
    for (name, options, word) in [
        ("ten.mp4", &["-c:v", "libx264", "-pix_fmt", "yuv420p10le"][..], "High 10 (4:2:0, 10 bits)"),
        ("wide.mp4", &["-c:v", "libx264", "-pix_fmt", "yuv422p"], "High 4:2:2"),
        ("part2.avi", &["-c:v", "mpeg4"], "MPEG-4 part 2"),
        ("clip.mkv", &["-c:v", "mjpeg"], "Matroska"),
    ] {
        let video = encode(dir.path(), name, options);
        let run = firstlight(&["run", "--listen", "off", "--source", &format!("file:{video}")]).run();
        assert_ne!(run.exit, Some(0), "{name}");
        assert!(run.stderr.contains(word) && run.stderr.contains("ffmpeg -i IN"), "{name}: {}", run.stderr);
    }
}
