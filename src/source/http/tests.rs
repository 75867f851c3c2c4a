//! A camera of a thread that plays what it is told, over a real socket.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::frame::{Frame, encode_jpeg};
use crate::source::{Next, Source};

/// A small picture.
static JPEG: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = Vec::new();
    encode_jpeg(&Frame::new(2, 2), 90, &mut bytes).unwrap();
    bytes
});

/// Serves the given answers, one a connection, and remembers the requests.
fn camera(answers: Vec<Vec<u8>>) -> (u16, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = move || {
        let serve = |answer: Vec<u8>| {
            let (mut socket, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                socket.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            // Who has read enough closes before the end.
            let _ = socket.write_all(&answer);
            String::from_utf8(request).unwrap()
        };
        answers.into_iter().map(serve).collect()
    };
    (port, std::thread::spawn(serve))
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {head}\r\nconnection: close\r\n\r\n").as_bytes(), body].concat()
}

/// Pictures until it is lost, and why it was.
fn watch(uri: &str) -> (usize, String) {
    let mut source = open(uri, Orientation::Apply).unwrap();
    let (mut frame, mut last) = (Frame::empty(), None);
    loop {
        match source.next(&mut frame, &mut String::new()) {
            Ok(Next::Frame) => last = Some(frame.id),
            Ok(Next::Nothing | Next::Idle) => {}
            Ok(Next::End) => panic!("a camera has no end"),
            Err(Error::Lost(why)) => return (last.map_or(0, |id| usize::try_from(id).unwrap() + 1), why),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn streams_and_single_pictures_are_told_apart_by_the_answer() {
    let part = [b"--b\r\nContent-Type: image/jpeg\r\n\r\n", JPEG.as_slice(), b"\r\n"].concat();
    let stream = answer("200 OK\r\ncontent-type: multipart/x-mixed-replace; boundary=b", &part.repeat(3));
    let (port, requests) = camera(vec![stream]);
    let (pictures, why) = watch(&format!("http://us%3Aer:pass@127.0.0.1:{port}/live?channel=1#fps=2"));
    assert_eq!((pictures, why.ends_with("the camera ended its stream")), (3, true), "{why}");
    let request = requests.join().unwrap().remove(0);
    assert!(request.starts_with("GET /live?channel=1 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("host: 127.0.0.1:{port}\r\n")), "{request}");
    assert!(request.contains("authorization: Basic dXM6ZXI6cGFzcw==\r\n"), "{request}");

    let single = answer("200 OK\r\nContent-Type: image/jpeg", &JPEG);
    let (port, requests) = camera(vec![single.clone(), single, answer("200 OK", b"no picture")]);
    let (pictures, why) = watch(&format!("http://127.0.0.1:{port}/#fps=50"));
    assert_eq!((pictures, why.ends_with("holds no whole JPEG")), (2, true), "{why}");
    assert_eq!(requests.join().unwrap().len(), 3);
}

#[test]
fn redirections_lead_to_the_same_host_and_not_in_circles() {
    let (port, _requests) = camera(vec![
        answer("302 Found\r\nlocation: /other?x=1", b""),
        answer("200 OK\r\ncontent-type: multipart/x-mixed-replace", &JPEG),
    ]);
    assert_eq!(watch(&format!("http://127.0.0.1:{port}/")).0, 1);
    for (target, word) in [
        ("http://example.invalid/secret?x", "sends on to http://example.invalid: name that one"),
        ("file:///etc/passwd", "sends on to file://"),
        ("http://", "no URL"),
    ] {
        let (port, _requests) = camera(vec![answer(&format!("301 Moved\r\nlocation: {target}"), b"")]);
        let (_, why) = watch(&format!("http://127.0.0.1:{port}/"));
        assert!(why.contains(word), "{why}");
    }
    let (port, _requests) = camera(vec![answer("302 Found\r\nlocation: /", b""); 6]);
    let (_, why) = watch(&format!("http://127.0.0.1:{port}/"));
    assert!(why.contains("more than 5 times"), "{why}");
}

#[test]
fn what_is_no_camera_is_said() {
    for (head, word) in [
        ("404 Not Found", "answered 404 Not Found"),
        ("200 OK\r\ncontent-type: text/html; charset=utf-8", "the answer is text/html: expected multipart"),
        ("401 Unauthorized\r\nwww-authenticate: Digest realm=x", "wants Digest authentication"),
        ("401 Unauthorized\r\nwww-authenticate: Basic realm=x", "does not take this user"),
        ("garbage", "no answer: "),
    ] {
        let (port, _requests) = camera(vec![answer(head, b"")]);
        let (pictures, why) = watch(&format!("http://u:hunter2@127.0.0.1:{port}/x?token=hunter2"));
        assert!(pictures == 0 && why.contains(word) && !why.contains("hunter2"), "{why}");
    }
    let (_, why) = watch("http://127.0.0.1:1/");
    assert!(why.contains("cannot connect"), "{why}");
    for (uri, word) in [
        ("http://cam/#fps=0", "1/60 to 60"),
        ("http://cam/#speed=1", "fps, ca"),
        ("https://cam/#ca=/nowhere.pem", "ca=/nowhere.pem"),
    ] {
        let message = open(uri, Orientation::Apply).unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn https_is_for_who_proves_to_be_the_camera() {
    use std::sync::Arc;

    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("camera.pem");
    let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(made.cert.der()));
    std::fs::write(&file, pem).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    std::thread::spawn(move || {
        while let Ok((mut socket, _)) = listener.accept() {
            let mut session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::Stream::new(&mut session, &mut socket);
            let mut request = [0; 1024];
            // Who does not trust us goes during the handshake.
            if stream.read(&mut request).is_ok() {
                let body = answer("200 OK\r\ncontent-type: multipart/x-mixed-replace", &JPEG);
                stream.write_all(&body).unwrap();
                session.send_close_notify();
                let _ = rustls::Stream::new(&mut session, &mut socket).flush();
            }
        }
    });
    let trusted = watch(&format!("https://localhost:{port}/#ca={}", file.display()));
    assert_eq!(trusted.0, 1, "{trusted:?}");
    let (pictures, why) = watch(&format!("https://localhost:{port}/"));
    assert!(pictures == 0 && why.contains("no TLS with it") && why.contains("#ca=FILE"), "{why}");
}
