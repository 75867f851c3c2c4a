//! The page in a real browser: `cargo test --test http page -- --ignored`, which needs `chromium`.
//!
//! With `FIRSTLIGHT_PAGE_SHOTS=DIR` it also leaves a screenshot of each state there, for people to look at.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use firstlight::pipeline::telemetry::{Part, Stage};

use super::client::PATIENCE;
use super::device::{Device, MODEL};

/// Milliseconds of the page's own time before it is read: several questions and pictures.
const PAGE_TIME_MS: u32 = 4000;

/// Chromium without a screen, a profile of its own and nothing that would call home.
fn chromium(profile: &Path) -> Command {
    let mut command = Command::new("chromium");
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]);
    command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
    command.arg(format!("--virtual-time-budget={PAGE_TIME_MS}"));
    command.arg(format!("--user-data-dir={}", profile.display())).stderr(Stdio::null());
    command
}

/// The page's elements after it has run for [`PAGE_TIME_MS`] of its own time, which stands still while it waits for
/// an answer.
fn elements(address: SocketAddr) -> String {
    let profile = tempfile::tempdir().unwrap();
    let dump = chromium(profile.path()).arg("--dump-dom").arg(format!("http://{address}/")).output();
    let dump = dump.unwrap_or_else(|error| {
        panic!("THE PAGE WAS NOT CHECKED: cannot run chromium ({error}); install it (Debian: apt install chromium)")
    });
    String::from_utf8(dump.stdout).unwrap()
}

/// Screenshots for a phone and a desk, light and dark, if they are wanted.
fn shoot(address: SocketAddr, name: &str) {
    let Some(folder) = std::env::var_os("FIRSTLIGHT_PAGE_SHOTS") else { return };
    let sizes = [("desktop", "1280,1250"), ("phone", "500,1800")];
    for ((size, window), (tone, scheme)) in sizes.iter().flat_map(|s| [("light", 1), ("dark", 0)].map(|t| (*s, t))) {
        let profile = tempfile::tempdir().unwrap();
        let file = Path::new(&folder).join(format!("{name}-{size}-{tone}.png"));
        let shot = chromium(profile.path())
            .args([format!("--window-size={window}"), format!("--screenshot={}", file.display())])
            .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
            .arg(format!("http://{address}/"))
            .output();
        assert!(shot.is_ok_and(|shot| shot.status.success()), "no screenshot {}", file.display());
    }
}

/// The text of the element with this id.
fn shown<'p>(page: &'p str, id: &str) -> &'p str {
    let (_, after) = page.split_once(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("no #{id} in {page:?}"));
    after.split_once('>').unwrap().1.split_once('<').unwrap().0
}

/// A street of boxes as a camera and a model would give it.
fn picture() -> Vec<u8> {
    let picture = image::RgbImage::from_fn(960, 720, |x, y| {
        let on_frame = |x0: u32, y0: u32, w: u32, h: u32| {
            let (dx, dy) = (x.wrapping_sub(x0), y.wrapping_sub(y0));
            dx < w && dy < h && (dx < 5 || dy < 5 || dx >= w - 5 || dy >= h - 5)
        };
        let ground = u8::try_from(60 + y / 8).unwrap();
        if on_frame(120, 330, 210, 180) || on_frame(560, 300, 260, 240) {
            image::Rgb([240, 170, 60])
        } else if (x / 8 + y / 8) % 2 == 0 && (420..500).contains(&y) {
            image::Rgb([ground + 30, ground + 20, ground])
        } else {
            image::Rgb([ground / 2, ground / 2 + 10, ground / 2 + 20])
        }
    });
    let mut jpeg = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut jpeg, image::ImageFormat::Jpeg).unwrap();
    jpeg.into_inner()
}

/// Infers 25 frames a second of changing latency until `done`.
fn infer(device: &Device, done: &AtomicBool) {
    for n in 0_u64.. {
        if done.load(Relaxed) {
            return;
        }
        let latency_us = 28_000 + (n * 7919) % 5000 + if n.is_multiple_of(60) { 14_000 } else { 0 };
        let captured_at = Instant::now().checked_sub(Duration::from_micros(latency_us)).unwrap();
        device.telemetry.frame_done(captured_at);
        device.telemetry.stage_done(Stage::Infer, Duration::from_micros(latency_us));
        if n % 90 == 5 {
            device.telemetry.frame_dropped();
        }
        std::thread::sleep(Duration::from_millis(40));
    }
}

#[test]
#[ignore = "needs chromium"]
fn the_page_says_what_the_device_says() {
    let device = Device::running(2);
    device.telemetry.set_board(Some(61.5), Some(false), 48 * 1024);
    device.pictures.show(1, picture());
    let address = device.server.local_addr();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| infer(&device, &done));
        // The loop must end whatever the checks below find.
        let checks = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            std::thread::sleep(Duration::from_secs(2));
            shoot(address, "running");
            let page = elements(address);
            assert!(page.contains("<body data-state=\"running\">"), "{page}");
            assert_eq!(shown(&page, "state"), "running");
            assert!(shown(&page, "who").starts_with(MODEL), "{}", shown(&page, "who"));
            assert!(shown(&page, "fps").parse::<f32>().is_ok_and(|fps| fps > 1.0), "{}", shown(&page, "fps"));
            assert!(page.contains("blob:http"), "the snapshot is shown");
            assert!(page.contains("not tensorrt: libnvinfer.so.10 not found"));

            device.telemetry.set_problem(Part::Sink, Some("<b>disk</b> full, 3 frames kept back".to_owned()));
            device.telemetry.set_problem(Part::Source, Some("/dev/video0 is gone (retry 4)".to_owned()));
            device.telemetry.set_board(Some(84.2), Some(true), 51 * 1024);
            shoot(address, "degraded");
            let page = elements(address);
            assert_eq!(shown(&page, "state"), "degraded");
            assert!(page.contains("<li>sink: &lt;b&gt;disk&lt;/b&gt; full"), "device text is text, not markup");
            assert!(page.contains("<li>source: /dev/video0 is gone (retry 4)</li>"));
        }));
        done.store(true, Relaxed);
        checks.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
#[ignore = "needs chromium"]
fn the_page_says_when_the_device_stops_answering() {
    let Device { pictures, server, .. } = Device::running(2);
    pictures.show(1, picture());
    let address = server.local_addr();
    let (asked, seen) = std::sync::mpsc::sync_channel(1);
    pictures.while_encoding(move || {
        // The page asks for the status and for the picture at once: now it gets its status, then the device is gone.
        std::thread::sleep(Duration::from_secs(1));
        let _ = asked.try_send(());
        std::thread::sleep(Duration::from_secs(1));
    });
    let page = std::thread::scope(|scope| {
        let page = scope.spawn(|| elements(address));
        let asked = seen.recv_timeout(PATIENCE);
        server.stop();
        asked.map(|()| page.join().unwrap())
    });
    let page = page.expect("the page asked for the picture");
    assert_eq!(shown(&page, "state"), "no answer");
    let sentence = shown(&page, "sentence");
    assert!(sentence.starts_with("No answer for ") && sentence.contains("Before that it was running"), "{sentence}");
}
