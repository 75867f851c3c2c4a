//! The live stream from outside: who may watch, what a viewer gets, and that nobody who leaves stays in a seat.

use std::time::{Duration, Instant};

use firstlight::http::VIEWERS_MAX;

use super::client::{Client, PATIENCE, ask, get};
use super::device::Device;

/// In a version that has no chunks, so that the parts come as they are.
const REQUEST: &str = "GET /stream.mjpeg HTTP/1.0\r\nhost: test\r\n\r\n";

/// A viewer that has the first picture.
fn viewer(device: &Device) -> Client {
    let mut client = Client::connect(device.server.local_addr());
    client.send(REQUEST);
    let head = client.read_until("\r\n\r\n");
    assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
    assert!(head.contains("content-type: multipart/x-mixed-replace; boundary=firstlight\r\n"), "{head}");
    assert!(head.contains("cache-control: no-store\r\n"), "{head}");
    let part = client.read_until("picture one");
    assert!(part.contains("--firstlight\r\ncontent-type: image/jpeg\r\ncontent-length: 11\r\n\r\n"), "{part}");
    client
}

#[test]
fn without_a_picture_there_is_no_stream_and_it_is_said_why() {
    let device = Device::start();
    let answer = get(device.server.local_addr(), "/stream.mjpeg");
    assert_eq!(answer.status, 503);
    assert!(answer.json()["message"].as_str().unwrap().contains("no frame has been inferred"));
}

#[test]
fn a_viewer_gets_each_new_picture() {
    let device = Device::start();
    device.pictures.show(1, "picture one");
    let mut client = viewer(&device);
    device.pictures.show(2, "picture two");
    client.read_until("picture two");
    assert_eq!(get(device.server.local_addr(), "/healthz").status, 200, "others are served meanwhile");
}

#[test]
fn viewers_have_seats_and_leave_them() {
    let device = Device::start();
    device.pictures.show(1, "picture one");
    let address = device.server.local_addr();
    let mut viewers: Vec<Client> = (0..VIEWERS_MAX).map(|_| viewer(&device)).collect();
    let full = get(address, "/stream.mjpeg");
    assert_eq!((full.status, full.header("retry-after")), (503, Some("1")));
    assert!(full.json()["message"].as_str().unwrap().contains(&VIEWERS_MAX.to_string()));

    viewers.pop();
    // Noticed without a new picture.
    let left_at = Instant::now();
    let mut client = loop {
        let mut client = Client::connect(address);
        client.send(REQUEST);
        if client.read_until("\r\n\r\n").starts_with("HTTP/1.0 200") {
            break client;
        }
        assert!(left_at.elapsed() < PATIENCE, "the seat stays taken");
        std::thread::sleep(Duration::from_millis(50));
    };
    client.read_until("picture one");
}

#[test]
fn asking_for_the_head_takes_no_seat() {
    let device = Device::start();
    device.pictures.show(1, "picture one");
    let mut client = Client::connect(device.server.local_addr());
    for _ in 0..2 * VIEWERS_MAX {
        client.send("HEAD /stream.mjpeg HTTP/1.1\r\nhost: test\r\n\r\n");
        assert_eq!(client.answer(true).status, 200);
    }
    assert_eq!(ask(device.server.local_addr(), "POST /stream.mjpeg", &["content-length: 0"], "").status, 405);
}
