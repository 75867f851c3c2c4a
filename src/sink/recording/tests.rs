//! What lies on the disk afterwards, judged by ffprobe; and after power cuts, full disks and lost directories.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::lane::{Lane, Shot, Wanted};
use super::ring::{Home, Place, Ring};
use super::{Clips, Keeper, Pen, Pictures, Video};
use crate::clock::Stamp;
use crate::config::{ClipsConfig, Keep, RecordingConfig, VideoConfig};
use crate::frame::{Frame, decode};
use crate::model::{Labels, Predictions, Task};
use crate::random::Random;
use crate::rules::{Event, Phase};
use crate::sink::{Outcome, Sink};

const WIDTH: usize = 160;
const HEIGHT: usize = 120;
const PATIENCE: Duration = Duration::from_secs(20);

/// A frame that says which it is: its grey level is its moment's.
fn shot(moment: u64, events: Vec<Event>) -> Shot {
    let mut frame = Frame::new(WIDTH, HEIGHT);
    let mut random = Random::new(moment);
    // Noise, so that a JPEG has some thousand bytes.
    frame.pixels_mut().fill_with(|| u8::try_from(random.bits() % 97).unwrap() + u8::try_from(moment % 100).unwrap());
    frame.id = moment;
    let mut predictions = Predictions::default();
    predictions.clear(frame.size());
    Shot { frame, predictions, events, stamp: Stamp::now(), moment }
}

fn event(id: &str, phase: Phase, frame_id: u64) -> Event {
    Event {
        event_id: id.into(),
        rule: "gate".into(),
        phase,
        source_id: 0,
        frame_id,
        started: Stamp::now(),
        ended: (phase == Phase::End).then(Stamp::now),
        count: 1,
        track_id: None,
        class: None,
        direction: None,
    }
}

fn pen() -> Pen {
    Pen::new(&RecordingConfig::default(), &Labels::new(Task::ObjectDetection, vec!["bolt".into()]))
}

fn place(dir: &Path) -> Place {
    Place::new(Keep { size_mb: 8, age_h: None }, dir, "0123-4567-89ab")
}

fn open(place: &Place) -> Ring {
    Ring::open(place).unwrap()
}

/// Names in order.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn videos(dir: &Path) -> Vec<PathBuf> {
    names(dir).into_iter().filter(|name| name.ends_with(".avi")).map(|name| dir.join(name)).collect()
}

fn bytes(dir: &Path) -> u64 {
    names(dir).iter().map(|name| fs::metadata(dir.join(name)).unwrap().len()).sum()
}

/// When each picture of a video is shown, in moments, by ffprobe.
fn shown(path: &Path, fps: u64) -> Vec<u64> {
    let arguments = ["-v", "error", "-show_entries", "frame=pts_time", "-of", "csv=p=0"];
    let output = Command::new("ffprobe").args(arguments).arg(path).output().expect("ffprobe of Debian's ffmpeg");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{}: {said}", path.display());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "moments of a short video")]
    let moment = |line: &str| (line.trim_end_matches(',').parse::<f64>().unwrap() * fps as f64).round() as u64;
    String::from_utf8(output.stdout).unwrap().lines().map(moment).collect()
}

#[test]
fn pictures_are_whole_numbered_on_and_the_oldest_give_way() {
    let dir = tempfile::tempdir().unwrap();
    let place = place(dir.path());
    let mut pictures = Pictures::new(pen());
    for round in 0..2 {
        let mut ring = open(&place);
        for moment in 0..6 {
            assert_eq!(pictures.keep(&mut ring, &mut shot(moment, Vec::new())), Ok(1));
        }
        assert_eq!(names(dir.path()).len(), 6 * (round + 1));
    }
    for (number, name) in names(dir.path()).iter().enumerate() {
        assert!(name.starts_with(&format!("{:09}_20", number + 1)) && name.contains("_boot-01234567-"), "{name}");
        let frame = format!("_source-0_frame-{}.jpg", number % 6);
        assert!(name.ends_with(&frame), "{name}");
        let jpeg = fs::read(dir.path().join(name)).unwrap();
        let frame = decode(&jpeg, crate::frame::Orientation::Ignore, crate::frame::Limits::default()).unwrap();
        assert_eq!((frame.width(), frame.height()), (WIDTH, HEIGHT));
    }
    // What is not ours stays, and does not count.
    fs::write(dir.path().join("notes.txt"), vec![0; 9_000_000]).unwrap();
    let mut ring = open(&place);
    for moment in 0..1000 {
        pictures.keep(&mut ring, &mut shot(moment % 7, Vec::new())).unwrap();
    }
    let ours = bytes(dir.path()) - 9_000_000;
    assert!((6_000_000..=8_000_000).contains(&ours), "{ours}");
    let names = names(dir.path());
    assert!(names[names.len() - 2].starts_with("000001012_"), "{}", names[names.len() - 2]);
}

#[test]
fn what_is_too_old_goes_and_the_newest_stays() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(Keep { size_mb: 8, age_h: Some(1.0) }, dir.path(), "b");
    let mut pictures = Pictures::new(pen());
    let mut ring = open(&place);
    for moment in 0..4 {
        pictures.keep(&mut ring, &mut shot(moment, Vec::new())).unwrap();
    }
    drop(ring);
    let made = |index: usize, hours: u64| {
        let file = fs::File::options().write(true).open(dir.path().join(&names(dir.path())[index])).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(hours * 3600)).unwrap();
    };
    made(0, 5);
    made(1, 2);
    // Made before the clock was set: its age is unknown.
    made(2, 24 * 365 * 60);
    drop(open(&place));
    assert_eq!(names(dir.path()).len(), 2);
}

fn video(segment_s: u32) -> Video {
    Video::new(&VideoConfig { fps: 10, segment_s, size_mb: 8, ..VideoConfig::default() }, pen())
}

#[test]
fn segments_have_every_picture_at_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let place = place(dir.path());
    let (mut ring, mut video) = (open(&place), video(3));
    // Two and a half segments, with a hole in the first, then a pause that begins a new one.
    let moments: Vec<u64> = (0..75).filter(|moment| ![4, 5, 6, 11].contains(moment)).chain(200..210).collect();
    for &moment in &moments {
        assert_eq!(video.keep(&mut ring, &mut shot(moment, Vec::new())), Ok(1));
    }
    // The file that grows is readable.
    assert_eq!(shown(videos(dir.path()).last().unwrap(), 10), (0..10).collect::<Vec<_>>());
    assert_eq!(video.end(&mut ring), Ok(0));
    let videos = videos(dir.path());
    assert_eq!(videos.len(), 4);
    let first: Vec<u64> = moments.iter().copied().filter(|&moment| moment < 30).collect();
    assert_eq!(shown(&videos[0], 10), first);
    assert_eq!(shown(&videos[1], 10), (0..30).collect::<Vec<_>>());
    assert_eq!((shown(&videos[2], 10).len(), shown(&videos[3], 10).len()), (15, 10));
    // The length is that of time, not of pictures.
    let length = Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", "stream=duration,nb_frames", "-of", "csv=p=0"])
        .arg(&videos[0])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&length.stdout).trim(), "3.000000,30");
}

#[test]
fn sources_have_videos_of_their_own_and_a_new_size_begins_another() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ring, mut video) = (open(&place(dir.path())), video(60));
    for moment in 0..10 {
        for source_id in 0..2 {
            let mut shot = shot(moment, Vec::new());
            shot.frame.source_id = source_id;
            if source_id == 1 && moment >= 5 {
                shot.frame.reshape(64, 48);
                shot.predictions.clear(shot.frame.size());
            }
            video.keep(&mut ring, &mut shot).unwrap();
        }
    }
    video.end(&mut ring).unwrap();
    let lengths: Vec<usize> = videos(dir.path()).iter().map(|path| shown(path, 10).len()).collect();
    assert_eq!(lengths, [10, 5, 5]);
}

#[test]
fn a_power_cut_at_any_byte_leaves_what_was_written_readable() {
    let (dir, mut random) = (tempfile::tempdir().unwrap(), Random::new(7));
    let (mut ring, mut keeper) = (open(&place(dir.path())), video(2));
    for moment in 0..50 {
        keeper.keep(&mut ring, &mut shot(moment, Vec::new())).unwrap();
    }
    let written = videos(dir.path());
    assert_eq!(written.len(), 3, "the last is not ended");
    let open_bytes = fs::metadata(&written[2]).unwrap().len();
    let picture = (open_bytes - 224) / 10;
    for cut in (0..12).map(|i| if i == 0 { 0 } else { random.bits() % open_bytes }) {
        let copy = tempfile::tempdir().unwrap();
        for path in &written {
            fs::copy(path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
        let last = copy.path().join(written[2].file_name().unwrap());
        let file = fs::File::options().write(true).open(&last).unwrap();
        file.set_len(cut).unwrap();
        if cut % 2 == 1 {
            // A file system that knows the length and has not the bytes.
            file.set_len(open_bytes).unwrap();
        }
        drop(file);
        fs::write(copy.path().join(".000000009_x.jpg.firstlight-tmp"), "half").unwrap();
        let mut ring = open(&place(copy.path()));
        for path in &written[..2] {
            assert_eq!(fs::read(path).unwrap(), fs::read(copy.path().join(path.file_name().unwrap())).unwrap());
        }
        let left = videos(copy.path());
        assert_eq!(names(copy.path()).len(), left.len(), "leftovers are gone");
        let frames = left.get(2).map_or(0, |path| shown(path, 10).len() as u64);
        let whole = cut.saturating_sub(224) / picture;
        assert!(frames + 1 >= whole && frames <= whole + 1, "cut at {cut}: {frames} of about {whole}");
        // And it goes on behind it.
        assert_eq!(video(2).keep(&mut ring, &mut shot(0, Vec::new())), Ok(1));
        assert_eq!(videos(copy.path()).len(), left.len() + 1);
    }
}

#[test]
fn the_ring_of_videos_keeps_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ring, mut video) = (open(&place(dir.path())), video(5));
    for moment in 0..1200 {
        video.keep(&mut ring, &mut shot(moment, Vec::new())).unwrap();
        assert!(bytes(dir.path()) <= 8_000_000 + 20_000);
    }
    assert!(bytes(dir.path()) > 5_000_000 && videos(dir.path()).len() > 3);
}

fn clips() -> Clips {
    let config = ClipsConfig { fps: 10, before_s: 2, after_s: 1, longest_s: 6, size_mb: 8, ..ClipsConfig::default() };
    Clips::new(&config, pen())
}

/// The notes beside the clips.
fn notes(dir: &Path) -> Vec<serde_json::Value> {
    let notes = names(dir).into_iter().filter(|name| name.ends_with(".json"));
    notes.map(|name| serde_json::from_slice(&fs::read(dir.join(name)).unwrap()).unwrap()).collect()
}

#[test]
fn a_clip_has_the_seconds_before_and_after_and_says_of_what() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ring, mut clips) = (open(&place(dir.path())), clips());
    let mut done = 0;
    for moment in 0..150 {
        let events = match moment {
            50 => vec![event("a", Phase::Start, moment)],
            // Within the second after: the same clip, longer.
            58 => vec![event("b", Phase::Start, moment), event("a", Phase::End, moment)],
            // Before the next clip's two seconds are over: shared pictures.
            75 => vec![event("c", Phase::Start, moment)],
            // The end of what no clip is open for begins none.
            120 => vec![event("c", Phase::End, moment)],
            _ => Vec::new(),
        };
        done += clips.keep(&mut ring, &mut shot(moment, events)).unwrap();
    }
    assert_eq!(done, 2);
    let (videos, notes) = (videos(dir.path()), notes(dir.path()));
    assert_eq!((videos.len(), notes.len()), (2, 2));
    // From 30 to 68, and from 55 to 85.
    assert_eq!(shown(&videos[0], 10).len(), 39);
    assert_eq!(shown(&videos[1], 10).len(), 31);
    assert_eq!(notes[0]["before_s"], 2.0);
    let ids = |note: &serde_json::Value| -> Vec<String> {
        let events = note["events"].as_array().unwrap();
        events.iter().map(|event| format!("{} {}", event["event_id"], event["phase"]).replace('"', "")).collect()
    };
    assert_eq!(ids(&notes[0]), ["a start", "b start", "a end"]);
    assert_eq!(ids(&notes[1]), ["c start"]);
    assert_eq!(notes[0]["video"].as_str().unwrap(), videos[0].file_name().unwrap().to_str().unwrap());
}

#[test]
fn a_clip_that_never_ends_is_cut_and_memory_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let config = ClipsConfig {
        memory_mb: 1,
        fps: 10,
        before_s: 60,
        after_s: 1,
        longest_s: 61,
        size_mb: 100,
        ..ClipsConfig::default()
    };
    let (mut ring, mut bounded) = (open(&place(dir.path())), Clips::new(&config, pen()));
    for moment in 0..400 {
        let events = if moment == 399 { vec![event("a", Phase::Start, moment)] } else { Vec::new() };
        bounded.keep(&mut ring, &mut shot(moment, events)).unwrap();
    }
    bounded.end(&mut ring).unwrap();
    let clip = bytes(dir.path());
    assert!((800_000..1_100_000).contains(&clip), "a megabyte of pictures before: {clip}");

    let dir = tempfile::tempdir().unwrap();
    let (mut ring, mut clips) = (open(&place(dir.path())), clips());
    for moment in 0..200 {
        let events = if moment % 5 == 0 { vec![event("a", Phase::Start, moment)] } else { Vec::new() };
        clips.keep(&mut ring, &mut shot(moment, events)).unwrap();
    }
    clips.end(&mut ring).unwrap();
    let lengths: Vec<usize> = videos(dir.path()).iter().map(|path| shown(path, 10).len()).collect();
    assert!(lengths.len() >= 3 && lengths.iter().all(|&length| length <= 61), "{lengths:?}");
}

/// Every frame, each with a moment of its own.
fn every_frame() -> Wanted {
    Box::new(|outcome| Some(outcome.frame.id))
}

/// Hands over frames until something is so.
fn deliver_until(lane: &mut Lane, what: &str, fits: impl Fn(&Lane, Result<(), String>) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    let mut moment = 0;
    loop {
        let shot = shot(moment, Vec::new());
        let outcome = Outcome::new(&shot.frame, "test:", Ok(&shot.predictions), Duration::ZERO);
        let said = lane.deliver(&outcome).map_err(|error| error.to_string());
        if fits(lane, said) {
            return;
        }
        assert!(Instant::now() < deadline, "never {what}");
        moment += 1;
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_disk_that_is_missing_is_said_and_one_that_comes_back_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let stick = dir.path().join("stick");
    let target = stick.join("video");
    let mut lane = Lane::start("recording.video", place(&target), every_frame(), video(60)).unwrap();
    let gauge = lane.gauge().unwrap();
    let delivered = || gauge.delivered.load(Relaxed);
    deliver_until(&mut lane, "in trouble", |_, said| {
        said.is_err_and(|why| why.contains("recording.video: ") && why.contains("is its disk mounted?"))
    });
    assert_eq!(delivered(), 0);
    fs::create_dir(&stick).unwrap();
    deliver_until(&mut lane, "recovered", |_, said| said.is_ok() && delivered() > 5);
    // Unplugged, and plugged in again.
    fs::rename(&stick, dir.path().join("gone")).unwrap();
    deliver_until(&mut lane, "in trouble again", |_, said| said.is_err());
    assert!(gauge.dropped.load(Relaxed) > 0 && gauge.waiting.load(Relaxed) <= 3);
    fs::rename(dir.path().join("gone"), &stick).unwrap();
    let before = delivered();
    deliver_until(&mut lane, "recovered again", |_, said| said.is_ok() && delivered() > before + 5);
    drop(lane);
    let frames: Vec<usize> = videos(&target).iter().map(|path| shown(path, 10).len()).collect();
    assert_eq!(frames.iter().sum::<usize>() as u64, delivered(), "every picture that was counted: {frames:?}");
}

#[test]
fn what_it_does_not_keep_up_with_is_dropped_and_counted() {
    /// Keeps nothing until it is let.
    struct Slow(Arc<std::sync::atomic::AtomicBool>);
    impl Keeper for Slow {
        fn keep(&mut self, _: &mut Ring, _: &mut Shot) -> Result<u64, String> {
            while !self.0.load(Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(1)
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let free = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut lane = Lane::start("recording.test", place(dir.path()), every_frame(), Slow(Arc::clone(&free))).unwrap();
    let gauge = lane.gauge().unwrap();
    deliver_until(&mut lane, "full", |_, said| said.is_ok() && gauge.dropped.load(Relaxed) >= 20);
    assert!(gauge.waiting.load(Relaxed) <= 3);
    free.store(true, Relaxed);
    deliver_until(&mut lane, "free", |_, _| gauge.delivered.load(Relaxed) >= 10);
}

#[test]
fn a_directory_has_one_writer() {
    let dir = tempfile::tempdir().unwrap();
    let place = place(dir.path());
    let ring = open(&place);
    assert!(Ring::open(&place).unwrap_err().contains("another recording writes there"));
    let mut home = Home::new(place);
    assert!(home.ring().is_err() && !home.is_open());
    drop(ring);
    let deadline = Instant::now() + PATIENCE;
    while home.ring().is_err() {
        assert!(Instant::now() < deadline, "never opened");
        std::thread::sleep(Duration::from_millis(20));
    }
}
