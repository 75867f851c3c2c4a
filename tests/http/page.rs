//! The pages in a real browser: `cargo test --test http page -- --ignored`, which needs `chromium`.
//!
//! With `FIRSTLIGHT_PAGE_SHOTS=DIR` they also leave a screenshot of each state there, for people to look at.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use firstlight::pipeline::telemetry::Stage;
use serde_json::Value;

use super::browser::Browser;
use super::client::get;
use super::device::{Device, MODEL, lose};
use super::support::{Running, firstlight, parts_cache};

/// A desk and the narrowest phone that is common, by day and by night.
const SCREENS: [(&str, u32, u32, &str); 4] = [
    ("desktop-light", 1280, 900, "light"),
    ("desktop-dark", 1280, 900, "dark"),
    ("phone-light", 360, 740, "light"),
    ("phone-dark", 360, 740, "dark"),
];
/// More than either page has to stop at.
const TABS_MAX: usize = 400;

/// The contrast of each visible text with what is behind it, by WCAG 2: those below 4.5, or 3 where they are large.
const FAINT: &str = r#"(() => {
  const rgb = text => text.match(/[\d.]+/g).map(Number);
  const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b };
  const ground = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c[3] !== 0) return c } return [255, 255, 255] };
  const faint = new Set();
  for (const e of document.body.querySelectorAll("*")) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (!own || e.disabled || !e.checkVisibility() || e.closest("svg, figcaption, noscript, script, style, option")) continue;
    const style = getComputedStyle(e), [a, b] = [light(rgb(style.color).slice(0, 3)), light(ground(e).slice(0, 3))].sort((x, y) => y - x);
    const large = parseFloat(style.fontSize) >= 24, contrast = (a + .05) / (b + .05);
    if (contrast < (large ? 3 : 4.5)) faint.add(e.tagName + "." + e.className + " " + contrast.toFixed(2) + " " + e.textContent.slice(0, 20));
  }
  return [...faint];
})()"#;

/// What has the focus: its name for a screen reader, and whether the focus can be seen.
const FOCUSED: &str = r##"(() => {
  const e = document.activeElement;
  if (e === document.body) return null;
  const style = getComputedStyle(e.closest("#drop") ?? e);
  const name = e.getAttribute("aria-label") ?? e.labels?.[0]?.textContent ?? e.textContent;
  return { name: name.trim(), seen: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 };
})()"##;

/// Looks at the page on every screen: nothing is cut off, nothing is faint. Keeps a picture of each.
fn look(browser: &mut Browser, name: &str) {
    for (screen, width, height, scheme) in SCREENS {
        browser.screen(width, height, scheme);
        // The plots are drawn for the new size with the next answer.
        std::thread::sleep(Duration::from_millis(1200));
        assert_eq!(browser.value("document.documentElement.scrollWidth"), width_shown(browser), "{name} on {screen}");
        let faint = browser.value(FAINT);
        assert_eq!(faint, serde_json::json!([]), "{name} on {screen}");
        browser.shoot(&format!("{name}-{screen}"));
    }
}

fn width_shown(browser: &mut Browser) -> Value {
    browser.value("document.documentElement.clientWidth")
}

/// Presses Tab until the focus has come around, and returns the names of all stops.
fn stops(browser: &mut Browser) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for _ in 0..TABS_MAX {
        browser.press("Tab", 9);
        let focused = browser.value(FOCUSED);
        if focused.is_null() {
            return names;
        }
        let name = focused["name"].as_str().unwrap().to_owned();
        assert!(!name.is_empty() && focused["seen"] == true, "{focused} after {names:?}");
        names.insert(name);
    }
    panic!("the focus never comes around: {names:?}");
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
            device.telemetry.sources()[0].frames_dropped(1);
        }
        std::thread::sleep(Duration::from_millis(40));
    }
}

/// Runs `checks` while the device sees.
fn while_it_sees(device: &Device, checks: impl FnOnce()) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| infer(device, &done));
        // The loop must end whatever the checks find.
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(checks));
        done.store(true, Relaxed);
        found.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
#[ignore = "needs chromium"]
fn the_page_says_what_the_device_says() {
    let device = Device::running(2);
    device.telemetry.set_board(Some(61.5), Some(false), 48 * 1024);
    device.pictures.show(1, picture());
    let address = device.server.local_addr();
    while_it_sees(&device, || {
        let mut browser = Browser::start();
        browser.open(&format!("http://{address}/"));
        browser.wait_until("document.body.dataset.state === 'running'");
        browser.wait_until("document.querySelector('#main img').src.startsWith('blob:')");
        assert_eq!(browser.text("state"), "running");
        assert!(browser.text("who").starts_with(MODEL), "{}", browser.text("who"));
        browser.wait_until("parseFloat(document.getElementById('main-fps').textContent) > 1");
        browser.wait_until("document.querySelectorAll('#main .plot path').length === 3");
        assert!(browser.text("rejected").contains("not tensorrt: libnvinfer.so.10 not found"));
        look(&mut browser, "running");

        let (camera, disk) = ("/dev/video0 is gone (retry 4)", "<b>disk</b> full, 3 frames kept back");
        lose(&device.telemetry, Some(camera), Some(disk));
        device.telemetry.set_board(Some(84.2), Some(true), 51 * 1024);
        browser.wait_until("document.body.dataset.state === 'degraded'");
        let reasons = browser.value("[...document.querySelectorAll('#reasons li')].map(li => li.textContent)");
        let expected = ["source: /dev/video0 is gone (retry 4)", "sink: <b>disk</b> full, 3 frames kept back"];
        assert_eq!(reasons, serde_json::json!(expected), "device text is text, not markup");
        look(&mut browser, "degraded");
        assert_eq!(browser.faults, [""; 0]);
    });
}

#[test]
#[ignore = "needs chromium"]
fn the_page_says_when_the_device_stops_answering() {
    let Device { pictures, server, .. } = Device::running(2);
    pictures.show(1, picture());
    let mut browser = Browser::start();
    browser.open(&format!("http://{}/", server.local_addr()));
    browser.wait_until("document.body.dataset.state === 'running'");
    server.stop();
    browser.wait_until("document.body.dataset.state === 'silent'");
    assert_eq!(browser.text("state"), "no answer");
    let sentence = browser.text("sentence");
    assert!(sentence.starts_with("No answer for ") && sentence.contains("Before that it was running"), "{sentence}");
}

#[test]
#[ignore = "needs chromium"]
fn a_picture_on_the_page_can_be_held_with_the_keyboard() {
    let device = Device::running(2);
    device.pictures.show(1, picture());
    let mut browser = Browser::start();
    browser.open(&format!("http://{}/", device.server.local_addr()));
    browser.wait_until("document.querySelector('#main .shot button:not([hidden])')");
    let reached = stops(&mut browser);
    for name in ["hold", "API", "status", "stream"] {
        assert!(reached.contains(name), "{name} is not among {reached:?}");
    }
    browser.press("Tab", 9);
    browser.press("Enter", 13);
    browser.wait_until("document.querySelector('#main .shot button').getAttribute('aria-pressed') === 'true'");
    let held = browser.value("document.querySelector('#main img').src");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(browser.value("document.querySelector('#main img').src"), held, "motion can be stopped");
}

#[test]
#[ignore = "needs chromium"]
fn the_docs_page_lists_every_route_and_asks_the_device() {
    let device = Device::running(2);
    let address = device.server.local_addr();
    let document = get(address, "/openapi.json").json();
    let paths: BTreeSet<&str> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    let mut browser = Browser::start();
    browser.open(&format!("http://{address}/docs"));
    browser.wait_until("document.querySelector('section > details')");
    let listed =
        browser.value("[...document.querySelectorAll('section > details > summary code')].map(e => e.textContent)");
    let listed: BTreeSet<&str> = listed.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(listed, paths);
    look(&mut browser, "docs");

    // Everything opens, and the page's policy forbids nothing of it.
    browser.value("document.querySelectorAll('details').forEach(d => { d.open = true })");
    browser.wait_until("[...document.querySelectorAll('section > details')].every(d => d.childElementCount === 2)");
    assert!(
        browser.value("document.querySelector('.in pre').textContent").as_str().unwrap().contains(&address.to_string())
    );
    browser.value("document.querySelectorAll('section > details').forEach(d => { d.open = d.querySelector('code').textContent === '/status' })");
    browser.value("document.querySelector('details[open] form').requestSubmit()");
    browser.wait_until("document.querySelector('details[open] [role=status]').textContent.startsWith('200 after')");
    let sent = browser.value("document.querySelector('details[open] .in > div pre').textContent");
    let sent: Value = serde_json::from_str(sent.as_str().unwrap()).unwrap();
    browser.shoot("docs-open");
    assert_eq!(sent["model"]["id"], MODEL);

    browser.value("document.getElementById('find').value = 'iou_threshold'; document.getElementById('find').oninput()");
    let found = browser.value("[...document.querySelectorAll('section:not([hidden]) > details:not([hidden]) > summary code')].map(e => e.textContent)");
    let found: Vec<&str> = found.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(found.contains(&"/infer/object_detection") && !found.contains(&"/status"), "{found:?}");
    assert_eq!(browser.faults, [""; 0]);
}

/// The page of the binary itself, which serves a cache with the demo model.
fn on_the_binary() -> (tempfile::TempDir, Running, Browser) {
    let cache = parts_cache();
    let path = cache.path().to_str().unwrap();
    let running =
        firstlight(&["--cache", path, "run", "--model", "parts/1", "--json", "none", "--listen", "127.0.0.1:0"])
            .start();
    let mut browser = Browser::start();
    browser.open(&format!("http://{}/", running.address()));
    (cache, running, browser)
}

#[test]
#[ignore = "needs chromium"]
fn a_picture_dropped_on_the_page_is_seen_by_the_model() {
    let (_cache, _running, mut browser) = on_the_binary();
    browser.wait_until("document.getElementById('which').value === 'parts/1'");
    browser.choose_file("#file", Path::new("src/demo/golden.png"));
    browser.wait_until("document.getElementById('tried').textContent.startsWith('8 things found in ')");
    let found = browser.value("[...document.querySelectorAll('#found li span:first-of-type')].map(e => e.textContent)");
    let found: Vec<&str> = found.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(found.len() == 8 && found.iter().all(|name| ["bolt", "nut", "washer"].contains(name)), "{found:?}");
    assert_eq!(browser.value("document.getElementById('canvas').checkVisibility()"), true);
    look(&mut browser, "tried");

    // Surer than sure there is nothing.
    browser.value("(e => { e.value = 100; e.oninput(); e.onchange() })(document.getElementById('confidence'))");
    browser.wait_until("document.getElementById('tried').textContent.startsWith('Nothing found')");

    // A file that is no picture is said in the server's words.
    let broken = tempfile::Builder::new().suffix(".png").tempfile().unwrap();
    std::fs::write(broken.path(), "no picture").unwrap();
    browser.choose_file("#file", broken.path());
    browser.wait_until("document.getElementById('tried').className.includes('bad')");
    assert!(browser.text("tried").contains("image"), "{}", browser.text("tried"));
    assert_eq!(browser.faults, [""; 0]);
}

#[test]
#[ignore = "needs chromium"]
fn models_are_unloaded_and_loaded_from_the_page_and_a_pipeline_appears_on_it() {
    let (_cache, _running, mut browser) = on_the_binary();
    for (act, state) in [("Load", "loaded"), ("Unload", "cached"), ("Load", "loaded")] {
        let button = format!("document.querySelector('[aria-label=\"{act} parts/1\"]')");
        // Loaded or not to begin with: the first round may have nothing to do.
        browser.wait_until("document.querySelector('#models [data-model]:not(:disabled)')");
        if browser.value(&format!("{button} !== null")) == true {
            browser.value(&format!("{button}.focus()"));
            browser.press("Enter", 13);
        }
        browser.wait_until(&format!("document.querySelector('#models li[data-state={state}]')"));
    }

    let start = r#"fetch("/inference_pipelines/initialise", { method: "POST", headers: { "content-type": "application/json" },
      body: JSON.stringify({ video_configuration: { type: "VideoConfiguration", video_reference: "demo:", max_fps: 5 },
        processing_configuration: { type: "ModelConfiguration", model_id: "parts/1" } }) }).then(async a => [a.status, await a.text()])"#;
    let started = browser.value(start);
    assert_eq!(started[0], 200, "{started}");
    browser.wait_until("document.querySelectorAll('.pipeline').length === 2");
    browser.wait_until("parseFloat(document.querySelector('[id^=p-][id$=-fps]')?.textContent) > 0");
    // Its picture is asked for while it can be seen.
    browser.value("document.querySelectorAll('.pipeline')[1].scrollIntoView()");
    browser.wait_until("document.querySelectorAll('.pipeline')[1].querySelector('img').src.startsWith('blob:')");
    look(&mut browser, "pipelines");
    browser.value("[...document.querySelectorAll('.acts button')].find(b => b.textContent === 'End').focus()");
    browser.press("Enter", 13);
    browser.wait_until("document.querySelectorAll('.pipeline').length === 1");
    assert_eq!(browser.faults, [""; 0]);
}

#[test]
#[ignore = "needs chromium"]
fn a_locked_page_opens_with_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("device.toml");
    // SHA-256 of "sunrise".
    let digest = "e9f2a0186210e30a516d12b001717fc17b1887acad69faf5c2141067f3f6b094";
    let text = format!("[http]\naccess = \"token\"\ntokens_sha256 = [\"{digest}\"]\n[output]\njson = \"none\"\n");
    std::fs::write(&config, text).unwrap();
    let running = firstlight(&["run", "-c", config.to_str().unwrap(), "--listen", "127.0.0.1:0"]).start();
    let address = running.address();
    let mut browser = Browser::start();
    browser.open(&format!("http://{address}/"));
    browser.wait_until("document.body.dataset.state === 'locked'");
    look(&mut browser, "locked");
    for (token, then) in [("sunset", "locked"), ("sunrise", "running")] {
        browser.wait_until("!document.getElementById('door').hidden");
        browser.value("document.getElementById('token').focus()");
        browser.write(token);
        browser.press("Enter", 13);
        if then == "locked" {
            browser.wait_until("document.getElementById('refused').textContent.startsWith('Not accepted')");
        }
        browser.wait_until(&format!("document.body.dataset.state === '{then}'"));
    }
    browser.wait_until("document.querySelector('#main img').src.startsWith('blob:')");
    assert_eq!(browser.value("document.getElementById('door').hidden"), true);
    // The other page of this device knows it too, in this tab.
    browser.open(&format!("http://{address}/docs"));
    browser.wait_until("document.querySelector('section > details')");
}
