//! Each route's status, headers and body.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use firstlight::http::PICTURE_AGE_MIN;
use firstlight::pipeline::telemetry::HealthLimits;

use super::client::{Client, ask, get};
use super::device::{Device, MODEL, UUID, VERSION, lose};

#[test]
fn info_names_the_server_as_the_sdk_reads_it() {
    let device = Device::start();
    let answer = get(device.server.local_addr(), "/info");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.json(), serde_json::json!({"name": "Firstlight", "version": VERSION, "uuid": UUID}));
}

#[test]
fn healthz_says_all_reasons_when_frames_cannot_flow() {
    let device = Device::start();
    let address = device.server.local_addr();
    let healthy = get(address, "/healthz");
    assert_eq!((healthy.status, healthy.text()), (200, r#"{"status":"healthy"}"#));

    lose(&device.telemetry, None, Some("disk full"));
    assert_eq!(get(address, "/healthz").status, 200, "a sink in trouble does not stop frames");

    lose(&device.telemetry, Some("\"/dev/video0\" is gone"), Some("disk full"));
    let unhealthy = get(address, "/healthz");
    assert_eq!(unhealthy.status, 503);
    let reason = r#"source: "/dev/video0" is gone; sink: disk full"#;
    assert_eq!(unhealthy.json(), serde_json::json!({"status": "unhealthy", "reason": reason}));

    lose(&device.telemetry, None, None);
    assert_eq!(get(address, "/healthz").status, 200);
    device.telemetry.set_failed("the model cannot be read".to_owned());
    assert_eq!(get(address, "/healthz").json()["reason"], "the model cannot be read");
}

#[test]
fn healthz_sees_a_loop_that_stands_still() {
    let device = Device::with_limits(HealthLimits { frame_age_max: Duration::ZERO, start_grace: Duration::ZERO });
    let answer = get(device.server.local_addr(), "/healthz");
    assert_eq!(answer.status, 503);
    assert!(answer.json()["reason"].as_str().unwrap().starts_with("loop: no frame for "));
}

#[test]
fn ready_after_the_first_inference() {
    let device = Device::start();
    let address = device.server.local_addr();
    let before = get(address, "/readiness");
    assert_eq!((before.status, before.text()), (503, r#"{"status":"not ready"}"#));
    device.telemetry.frame_done(std::time::Instant::now());
    let after = get(address, "/readiness");
    assert_eq!((after.status, after.text()), (200, r#"{"status":"ready"}"#));
}

#[test]
fn status_is_the_document() {
    let device = Device::running(40);
    let answer = get(device.server.local_addr(), "/status");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("date"), None, "a board may not know the date");
    let status = answer.json();
    assert_eq!(status["state"], "running");
    assert_eq!(status["model"]["id"], MODEL);
    assert_eq!(status["loop"]["frames"], 40);
    assert!(status["loop"]["latency_ms"]["p50"].as_f64().unwrap() >= 20.0);
    assert_eq!(status["engine"]["rejected"][0]["why"], "libnvinfer.so.10 not found");
}

#[test]
fn no_snapshot_is_said_with_its_reason() {
    let device = Device::start();
    let answer = get(device.server.local_addr(), "/snapshot.jpg");
    assert_eq!(answer.status, 503);
    assert!(answer.json()["message"].as_str().unwrap().contains("no frame has been inferred"));
}

#[test]
fn a_snapshot_is_encoded_once_a_frame() {
    let device = Device::start();
    let address = device.server.local_addr();
    device.pictures.show(7, "picture seven");
    let answer = get(address, "/snapshot.jpg");
    assert_eq!((answer.status, answer.text()), (200, "picture seven"));
    assert_eq!(answer.header("content-type"), Some("image/jpeg"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    get(address, "/snapshot.jpg");
    assert_eq!(device.pictures.encoded.load(SeqCst), 1);

    std::thread::sleep(PICTURE_AGE_MIN);
    device.pictures.show(8, "picture eight");
    assert_eq!(get(address, "/snapshot.jpg").text(), "picture eight");
    assert_eq!(device.pictures.encoded.load(SeqCst), 2);
}

#[test]
fn a_defect_in_the_encoder_stays_there() {
    let device = Device::start();
    let address = device.server.local_addr();
    device.pictures.show(1, "picture");
    device.pictures.while_encoding(|| panic!("a defect, on purpose"));
    let answer = get(address, "/snapshot.jpg");
    assert_eq!((answer.status, answer.text()), (503, r#"{"message":"no picture: the encoder failed"}"#));
    device.pictures.while_encoding(|| {});
    assert_eq!(get(address, "/snapshot.jpg").status, 200);
}

#[test]
fn the_page_is_revalidated_and_trusts_only_this_device() {
    let device = Device::start();
    let address = device.server.local_addr();
    let page = get(address, "/");
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(page.header("cache-control"), Some("no-cache"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let known = format!("if-none-match: {}", page.header("etag").unwrap());
    let again = ask(address, "GET /", &[&known], "");
    assert_eq!((again.status, again.body.len()), (304, 0));
    assert_eq!(get(address, "/favicon.ico").header("content-type"), Some("image/svg+xml"));
}

#[test]
fn unknown_paths_and_methods_are_refused_as_fastapi_does() {
    let device = Device::start();
    let address = device.server.local_addr();
    for path in ["/nothing", "/status/", "//", "/..%2fetc/passwd", "*"] {
        let answer = get(address, path);
        assert_eq!((answer.status, answer.text()), (404, r#"{"detail":"Not Found"}"#), "{path}");
    }
    assert_eq!(get(address, "/info?api_key=secret").status, 200, "the SDK adds its key to everything");
    for method in ["POST", "PUT", "DELETE", "PATCH", "BREW"] {
        let answer = ask(address, &format!("{method} /status"), &["content-length: 0"], "");
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD, OPTIONS")), "{method}");
    }
    let preflight = ask(address, "OPTIONS /status", &["origin: https://a.example"], "");
    assert_eq!(preflight.status, 200);
    assert_eq!(preflight.header("access-control-allow-origin"), Some("*"));
    assert_eq!(preflight.header("access-control-allow-methods"), Some("GET, HEAD, OPTIONS"));
}

#[test]
fn head_has_the_same_head_and_no_body() {
    let device = Device::running(1);
    let mut client = Client::connect(device.server.local_addr());
    for path in ["/", "/info", "/readiness", "/favicon.ico"] {
        let full = client.get(path);
        client.send(format!("HEAD {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
        let head = client.answer(true);
        assert_eq!((head.status, head.header("content-length")), (200, full.header("content-length")), "{path}");
    }
    assert_eq!(client.get("/healthz").status, 200, "nothing of a body came in between");
}
