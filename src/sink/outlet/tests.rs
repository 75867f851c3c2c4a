//! Outlets against real files, pipes, terminals and sockets that are absent, slow, gone and back.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::libc;

use super::*;

/// Only decides when a hang is called one.
const PATIENCE: Duration = Duration::from_secs(20);

fn path(path: &Path) -> Outlet {
    Outlet::start(Place::Path { path: path.into(), baud: 115_200 }).unwrap()
}

fn until(what: &str, fits: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !fits() {
        assert!(Instant::now() < deadline, "never {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Pushes numbered lines until the trouble fits.
fn push_until(outlet: &Outlet, number: &mut u64, what: &str, fits: impl Fn(Option<&str>) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        *number += 1;
        let trouble = outlet.push(format!("{number}\n").as_bytes(), false);
        if fits(trouble.as_deref()) {
            return;
        }
        assert!(Instant::now() < deadline, "never {what}: {trouble:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn counts(outlet: &Outlet) -> (u64, u64) {
    let gauge = outlet.gauge();
    (gauge.delivered.load(Relaxed), gauge.dropped.load(Relaxed))
}

#[test]
fn a_file_whose_directory_comes_later_gets_every_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("data/lines");
    let outlet = path(&file);
    let mut number = 0;
    push_until(&outlet, &mut number, "in trouble", |trouble| trouble.is_some_and(|why| why.contains("No such file")));
    fs::create_dir(dir.path().join("data")).unwrap();
    push_until(&outlet, &mut number, "well again", |trouble| trouble.is_none());
    drop(outlet);
    let expected: String = (1..=number).map(|number| format!("{number}\n")).collect();
    assert_eq!(fs::read_to_string(file).unwrap(), expected);
}

#[test]
fn a_file_that_is_rotated_is_let_go_and_one_that_cannot_be_made_again_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let (logs, file) = (dir.path().join("logs"), dir.path().join("logs/lines"));
    fs::create_dir(&logs).unwrap();
    let (outlet, mut number) = (path(&file), 0);
    push_until(&outlet, &mut number, "written", |_| file.exists());
    fs::rename(&file, logs.join("lines.1")).unwrap();
    push_until(&outlet, &mut number, "a new file", |_| file.exists());
    fs::remove_dir_all(&logs).unwrap();
    push_until(&outlet, &mut number, "the trouble", |trouble| trouble.is_some_and(|why| why.contains("No such file")));
    fs::create_dir(&logs).unwrap();
    push_until(&outlet, &mut number, "in order again", |trouble| trouble.is_none() && file.exists());
}

#[test]
fn a_device_that_is_unplugged_does_not_become_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("serial");
    std::os::unix::fs::symlink("/dev/firstlight-is-not-there", &link).unwrap();
    let (outlet, mut number) = (path(&link), 0);
    push_until(&outlet, &mut number, "the trouble", |trouble| trouble.is_some_and(|why| why.contains("No such file")));
    assert!(!Path::new("/dev/firstlight-is-not-there").exists());
}

#[test]
fn a_full_disk_is_said_and_holds_nobody_up() {
    let outlet = path(Path::new("/dev/full"));
    let mut number = 0;
    push_until(&outlet, &mut number, "full", |trouble| trouble.is_some_and(|why| why.contains("No space left")));
    let line = vec![b'x'; 100_000];
    for _ in 0..100 {
        assert!(outlet.push(&line, true).is_some(), "patience ends where trouble begins");
    }
    assert!(outlet.gauge().waiting.load(Relaxed) <= 11 + number);
    assert!(counts(&outlet).1 >= 89);
}

#[test]
fn a_pipe_without_a_reader_waits_for_one_and_for_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let outlet = path(&pipe);
    let mut number = 0;
    push_until(&outlet, &mut number, "unread", |trouble| trouble.is_some_and(|why| why.contains("nobody reads it")));
    for _ in 0..2 {
        let reader = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&pipe).unwrap();
        push_until(&outlet, &mut number, "read", |trouble| trouble.is_none());
        drop(reader);
        push_until(&outlet, &mut number, "gone", |trouble| trouble.is_some());
    }
}

#[test]
fn a_socket_is_connected_again_and_never_sees_half_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let outlet = Outlet::start(Place::Unix(socket.clone())).unwrap();
    let mut number = 0;
    push_until(&outlet, &mut number, "absent", |trouble| trouble.is_some());
    let mut last = 0;
    for _ in 0..3 {
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let mut reader = BufReader::new(listener.accept().unwrap().0);
        push_until(&outlet, &mut number, "connected", |trouble| trouble.is_none());
        let mut line = String::new();
        while last < number {
            line.clear();
            reader.read_line(&mut line).unwrap();
            let found: u64 = line.trim_end().parse().unwrap();
            assert!(found > last, "{found} after {last}");
            last = found;
        }
        drop((reader, listener));
        push_until(&outlet, &mut number, "gone", |trouble| trouble.is_some());
    }
}

#[test]
fn a_peer_that_does_not_read_costs_the_oldest_lines_and_nobody_time() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let outlet = Outlet::start(Place::Unix(socket)).unwrap();
    let line = |number: u64| format!("{number} {}\n", "x".repeat(10_000));
    for number in 0..500 {
        outlet.push(line(number).as_bytes(), false);
    }
    let dropped = counts(&outlet).1;
    assert!(dropped > 300, "{dropped} of 5 MB gave way");
    until("slow", || outlet.shared.lock().trouble.as_deref() == Some("nobody takes what is written"));
    // Now it reads: what was begun, what waits, and nothing torn.
    let mut reader = BufReader::new(listener.accept().unwrap().0);
    let (mut text, mut last) = (String::new(), None);
    while last != Some(499) {
        text.clear();
        reader.read_line(&mut text).unwrap();
        let number: u64 = text.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(text, line(number));
        assert!(last.is_none_or(|last| number > last));
        last = Some(number);
    }
    until("well again", || outlet.shared.lock().trouble.is_none());
    until("counted", || counts(&outlet) == (500 - dropped, dropped));
}

#[test]
fn who_can_wait_loses_nothing_to_a_slow_reader() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let outlet = Outlet::start(Place::Unix(socket)).unwrap();
    let reader = std::thread::spawn(move || {
        let mut lines = 0;
        for line in BufReader::new(listener.accept().unwrap().0).lines() {
            line.unwrap();
            lines += 1;
            if lines % 50 == 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        lines
    });
    let line = format!("{}\n", "x".repeat(10_000));
    for _ in 0..500 {
        assert_eq!(outlet.push(line.as_bytes(), true), None);
    }
    drop(outlet);
    assert_eq!(reader.join().unwrap(), 500);
}

#[test]
fn a_terminal_is_raw_and_what_waits_for_it_is_fresh() {
    let pty = nix::pty::openpty(None, None).unwrap();
    let name = nix::unistd::ttyname(&pty.slave).unwrap();
    let outlet = path(&name);
    for number in 0..2000_u32 {
        outlet.push(format!("{number:099}\n").as_bytes(), false);
        std::thread::sleep(Duration::from_micros(100));
    }
    let (delivered, dropped) = counts(&outlet);
    assert!(dropped > 1500 && delivered < 500, "{delivered} delivered, {dropped} dropped");
    let mut master = fs::File::from(pty.master);
    let mut bytes = [0; 1000];
    master.read_exact(&mut bytes).unwrap();
    assert!(!bytes.contains(&b'\r'), "line feeds are left alone");
}

#[test]
fn a_receiver_of_datagrams_may_come_and_go() {
    let holder = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    drop(holder);
    let outlet = Outlet::start(Place::Udp(address.to_string())).unwrap();
    let mut number = 0;
    push_until(&outlet, &mut number, "refused", |trouble| trouble.is_some_and(|why| why.contains("refused")));
    let receiver = UdpSocket::bind(address).unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let came_back_at = number;
    push_until(&outlet, &mut number, "received", |trouble| trouble.is_none());
    let (mut bytes, mut last) = ([0; 100], 0);
    while last < number {
        let length = receiver.recv(&mut bytes).unwrap();
        last = std::str::from_utf8(&bytes[..length]).unwrap().trim().parse().unwrap();
        assert!(last >= came_back_at, "an old one: {last}");
    }
}

#[test]
fn its_end_is_bounded_with_a_peer_that_is_absent() {
    let outlet = Outlet::start(Place::Unix("/nonexistent/socket".into())).unwrap();
    outlet.push(b"1\n", false);
    outlet.push(b"2\n", false);
    let gauge = outlet.gauge();
    drop(outlet);
    until("counted", || gauge.dropped.load(Relaxed) == 2);
}
