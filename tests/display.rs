//! The screen of `firstlight run`, by way of its PNG target: compared with stored pictures, and absent.
//!
//! `FIRSTLIGHT_STORE_PICTURES=1 cargo test --test display` stores what is shown now in tests/display/, to be looked at and
//! committed.

mod support;

use std::path::{Path, PathBuf};
use std::time::Instant;

use image::RgbImage;
use nix::sys::signal::Signal;
use serde_json::Value;
use support::{PATIENCE, firstlight, poll};

/// Levels that a pixel may differ by: letters may be drawn a little softer.
const LEVELS: u8 = 40;
/// Pixels of a thousand that may differ by more: an edge of a box may lie beside where it was.
const PER_MILLE: usize = 4;

/// What changes from run to run, by its edges.
#[derive(Clone, Copy)]
struct Changing {
    left: u32,
    top: u32,
    right: u32,
    bottom: u32,
}

impl Changing {
    fn holds(self, x: u32, y: u32) -> bool {
        (self.left..self.right).contains(&x) && (self.top..self.bottom).contains(&y)
    }
}

/// How many pixels of a thousand differ, outside of what changes.
fn difference(found: &RgbImage, stored: &RgbImage, changing: &[Changing]) -> usize {
    assert_eq!(found.dimensions(), stored.dimensions());
    let compared = found.enumerate_pixels().filter(|(x, y, _)| !changing.iter().any(|area| area.holds(*x, *y)));
    let (mut pixels, mut different) = (0, 0);
    for (x, y, pixel) in compared {
        let other = stored.get_pixel(x, y);
        pixels += 1;
        different += usize::from(pixel.0.iter().zip(other.0).any(|(a, b)| a.abs_diff(b) > LEVELS));
    }
    different * 1000 / pixels
}

fn stored(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/display").join(name)
}

/// Waits until the screen of a source shows what is stored.
fn shows(source: &str, name: &str, changing: &[Changing], settled: impl Fn(&Value) -> bool) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("screen.png");
    let display = format!("png:{}", path.display());
    let mut running =
        firstlight(&["run", "--listen", "127.0.0.1:0", "--json", "none", "--source", source, "--display", &display])
            .start();
    let address = running.address();
    poll(&address, "/status", |_, body| settled(&serde_json::from_slice(body).unwrap()));
    if std::env::var_os("FIRSTLIGHT_STORE_PICTURES").is_some() {
        // The picture of this second is drawn in the next.
        std::thread::sleep(std::time::Duration::from_secs(3));
        let mut picture = image::open(&path).unwrap().to_rgb8();
        // A camera's noise does not compress; sixteen levels do, and are well within what may differ.
        picture.iter_mut().for_each(|level| *level = *level & 0xf0 | 0x08);
        picture.save(stored(name)).unwrap();
    }
    let expected = image::open(stored(name)).unwrap().to_rgb8();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = image::open(&path).unwrap().to_rgb8();
        let per_mille = difference(&found, &expected, changing);
        if per_mille <= PER_MILLE {
            break;
        }
        if Instant::now() > deadline {
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
            std::fs::copy(&path, &kept).unwrap();
            panic!("{per_mille} of 1000 pixels differ from tests/display/{name}; what was shown is {}", kept.display());
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    running.signal(Signal::SIGTERM);
    assert_eq!(running.exit(), Some(0));
}

/// The rate, and the figures below the counts.
const FIGURES: [Changing; 2] =
    [Changing { left: 480, top: 0, right: 640, bottom: 44 }, Changing { left: 474, top: 255, right: 640, bottom: 400 }];
/// The line at the lower edge.
const FOOTER: [Changing; 1] = [Changing { left: 0, top: 366, right: 640, bottom: 400 }];

#[test]
fn the_live_picture_with_what_is_seen_in_it() {
    shows("file:src/demo/golden.png?loop=true&fps=10", "running.png", &FIGURES, |status| {
        status["state"] == "running" && status["loop"]["frames"].as_u64().unwrap() > 20
    });
}

#[test]
fn why_there_is_no_picture_in_large_letters() {
    shows("v4l2:/dev/video99", "degraded.png", &FOOTER, |status| {
        status["state"] == "degraded" && status["model"]["id"] != ""
    });
}

#[test]
fn the_stored_pictures_are_not_the_same() {
    let [running, degraded] = ["running.png", "degraded.png"].map(|name| image::open(stored(name)).unwrap().to_rgb8());
    assert_eq!(running.dimensions(), (640, 400));
    assert!(difference(&running, &degraded, &[]) > 20 * PER_MILLE);
    // The reasons take more of the width than not.
    let bright = |x, y| degraded.get_pixel(x, y).0.iter().all(|&level| level > 200);
    let columns = (0..640).filter(|&x| (60..360).any(|y| bright(x, y))).count();
    assert!(columns > 320, "{columns}");
}

#[test]
fn a_screen_that_is_absent_degrades_and_one_that_comes_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("later/screen.png");
    let display = format!("png:{}?size=320x240&rotate=90", path.display());
    let running = firstlight(&["run", "--listen", "127.0.0.1:0", "--json", "none", "--display", &display]).start();
    let address = running.address();
    let status = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap();
    let body = poll(&address, "/status", |_, body| {
        let status = status(body);
        status["state"] == "degraded" && status["loop"]["frames"].as_u64().unwrap() > 10
    });
    let reason = status(&body)["reasons"][0].as_str().unwrap().to_owned();
    assert!(reason.starts_with("display: png:") && reason.contains("cannot be written"), "{reason}");
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    poll(&address, "/status", |_, body| status(body)["state"] == "running");
    let shown = image::open(&path).unwrap().to_rgb8();
    assert_eq!(shown.dimensions(), (320, 240));
}

#[test]
fn devices_that_are_not_there_are_said_and_frames_flow() {
    for (display, word) in
        [("fb:/dev/fb99", "fb:/dev/fb99: cannot be opened"), ("drm:/dev/null", "drm:/dev/null: has no screens")]
    {
        let running = firstlight(&["run", "--listen", "127.0.0.1:0", "--json", "none", "--display", display]).start();
        let address = running.address();
        let body = poll(&address, "/status", |_, body| {
            let status: Value = serde_json::from_slice(body).unwrap();
            status["state"] == "degraded" && status["loop"]["frames"].as_u64().unwrap() > 10
        });
        assert!(String::from_utf8_lossy(&body).contains(word), "{}", String::from_utf8_lossy(&body));
    }
}

#[test]
fn a_setting_that_names_no_screen_is_refused() {
    let run = firstlight(&["run", "--listen", "off", "--display", "hdmi"]).run();
    assert_eq!(run.exit, Some(2));
    assert!(run.stderr.contains("display `hdmi`: unknown kind; expected fb:DEVICE"), "{}", run.stderr);
}
