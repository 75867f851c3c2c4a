//! What a client can do wrong, and that nobody else suffers for it.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use firstlight::http::{BODY_BYTES_MAX, CONNECTIONS_MAX, Error, HEAD_BYTES_MAX};

use super::client::{Client, PATIENCE, ask, get};
use super::device::{Device, serve};

#[test]
fn a_connection_serves_many_requests_also_all_sent_at_once() {
    let device = Device::running(1);
    let mut client = Client::connect(device.server.local_addr());
    for _ in 0..50 {
        assert_eq!(client.get("/status").status, 200);
    }
    let pair = "GET /healthz HTTP/1.1\r\nhost: t\r\n\r\nGET /nothing HTTP/1.1\r\nhost: t\r\n\r\n";
    client.send(pair.repeat(200));
    for _ in 0..200 {
        assert_eq!((client.answer(false).status, client.answer(false).status), (200, 404));
    }
}

#[test]
fn an_answer_that_is_the_last_ends_at_once_and_not_when_the_connection_is_dropped() {
    let device = Device::start();
    let mut client = Client::connect(device.server.local_addr());
    client.send("GET /info HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n");
    assert_eq!(client.answer(false).status, 200);
    assert!(client.closed_within(PATIENCE));
    // The server has closed its direction only. Had it dropped the connection, the first byte would reset it.
    for _ in 0..2 {
        assert!(client.try_send("x"), "the connection is gone");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_large_head_is_431() {
    let device = Device::start();
    let address = device.server.local_addr();
    let fits = format!("x-large: {}", "x".repeat(HEAD_BYTES_MAX / 2));
    assert_eq!(ask(address, "GET /info", &[&fits], "").status, 200);
    let large = format!("x-large: {}", "x".repeat(HEAD_BYTES_MAX));
    assert_eq!(ask(address, "GET /info", &[&large], "").status, 431);
    let many = vec!["x: y"; 200];
    assert_eq!(ask(address, "GET /info", &many, "").status, 431);
    assert_eq!(get(address, "/info").status, 200);
}

#[test]
fn a_small_body_is_ignored_a_large_one_is_413() {
    let device = Device::start();
    let address = device.server.local_addr();
    let mut client = Client::connect(address);
    client.send("GET /info HTTP/1.1\r\nhost: t\r\ncontent-length: 2\r\n\r\n{}");
    assert_eq!(client.answer(false).status, 200);
    let length = format!("content-length: {}", BODY_BYTES_MAX + 1);
    assert_eq!(ask(address, "GET /info", &[&length], "").status, 413, "refused before it is sent");
    assert_eq!(ask(address, "GET /info", &["transfer-encoding: chunked"], "2\r\n{}\r\n0\r\n\r\n").status, 413);
}

#[test]
fn garbage_gets_400_at_most() {
    let device = Device::start();
    let address = device.server.local_addr();
    let garbage: [&[u8]; 6] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /info HTTP/9.9\r\n\r\n",
        b"GET /info HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    for bytes in garbage {
        let mut client = Client::connect(address);
        client.send(bytes);
        client.try_send("\r\n\r\n");
        assert!(client.closed_within(PATIENCE), "{:?}", String::from_utf8_lossy(bytes));
    }
    assert_eq!(get(address, "/info").status, 200);
}

#[test]
fn a_client_that_trickles_delays_nobody_and_is_dropped() {
    let device = Device::running(1);
    let address = device.server.local_addr();
    let mut slow = Client::connect(address);
    let mut asked = 0;
    let started = Instant::now();
    for byte in b"GET /status HTTP/1.1\r\nx-slow: ".iter().chain(std::iter::repeat(&b'x')) {
        if !slow.try_send([*byte]) {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "still served after {PATIENCE:?}");
        assert_eq!(get(address, "/status").status, 200);
        asked += 1;
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(asked > 5, "others were served meanwhile, {asked} times");
}

#[test]
fn idle_connections_make_room_for_new_ones() {
    let device = Device::running(1);
    let address = device.server.local_addr();
    let mut idle: Vec<Client> = (0..CONNECTIONS_MAX + 100).map(|_| Client::connect(address)).collect();
    assert_eq!(get(address, "/status").status, 200, "a later client is served");
    let closed = idle.iter_mut().filter_map(|client| client.closed_within(Duration::ZERO).then_some(())).count();
    assert!(idle.len() - closed <= CONNECTIONS_MAX, "{closed} of {} were closed", idle.len());
    assert_eq!(idle.last_mut().unwrap().get("/status").status, 200, "the youngest is still here");
}

#[test]
fn a_full_house_refuses_and_an_encoder_that_hangs_is_waited_for_with_a_bound() {
    let device = Device::start();
    let address = device.server.local_addr();
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let hang = gate.clone();
    device.pictures.show(1, "picture");
    device.pictures.while_encoding(move || {
        drop(hang.1.wait_while(hang.0.lock().unwrap(), |open| !*open).unwrap());
    });
    let wait = || {
        let mut client = Client::connect(address);
        client.send("GET /snapshot.jpg HTTP/1.1\r\nhost: t\r\n\r\n");
        client
    };
    let mut waiting: Vec<Client> = (0..CONNECTIONS_MAX).map(|_| wait()).collect();
    // Until the server has read a request, a newcomer takes that silent client's place: then fill up again.
    let refused = loop {
        assert!(waiting.len() < 4 * CONNECTIONS_MAX, "never full");
        let answer = get(address, "/info");
        if answer.status == 503 {
            break answer;
        }
        waiting.push(wait());
    };
    assert_eq!(refused.json()["message"], "too many connections, try later");
    for client in waiting.iter_mut().rev().take(3) {
        let answer = client.answer(false);
        assert_eq!((answer.status, answer.text()), (503, r#"{"message":"no picture: the encoder takes too long"}"#));
    }
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    assert_eq!(get(address, "/snapshot.jpg").text(), "picture");
}

#[test]
fn a_port_in_use_is_named_with_advice() {
    let device = Device::start();
    let address = device.server.local_addr().to_string();
    let error = serve(&address, &device.telemetry, &device.pictures).unwrap_err();
    assert!(matches!(error, Error::Bind { .. }));
    let message = error.to_string();
    assert!(message.contains(&address) && message.contains("--listen"), "{message}");
}

#[test]
fn stopping_closes_everything_at_once_and_frees_the_port() {
    let device = Device::running(1);
    let address = device.server.local_addr();
    let mut clients: Vec<Client> = (0..10).map(|_| Client::connect(address)).collect();
    assert_eq!(clients[0].get("/status").status, 200);
    let started = Instant::now();
    device.server.stop();
    assert!(started.elapsed() < Duration::from_secs(5), "stopped after {:?}", started.elapsed());
    for client in &mut clients {
        assert!(client.closed_within(PATIENCE));
    }
    let again = serve(&address.to_string(), &device.telemetry, &device.pictures).unwrap();
    assert_eq!(get(again.local_addr(), "/status").status, 200);
}
