//! Who may ask, over the wire: a locked port, a shut one, an address for health alone.

use firstlight::config::{AccessMode, HttpConfig};
use firstlight::http::{Access, Door, Kind, Server};
use sha2::{Digest, Sha256};

use super::client::{Client, ask, get};
use super::device::{Device, routes};

const TOKEN: &str = "a token of the tests";
/// Everything that says something about the device or what it sees.
const LOCKED: [&str; 6] = ["/status", "/metrics", "/snapshot.jpg", "/logs", "/info", "/nothing"];
const OPEN: [&str; 4] = ["/healthz", "/readiness", "/", "/favicon.ico"];

fn digest(token: &str) -> String {
    Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A server of `device` on loopback, locked as one on `listen` is.
fn locked(device: &Device, tokens_sha256: Vec<String>, listen: &str) -> Server {
    let config = HttpConfig { access: AccessMode::Auto, tokens_sha256, ..HttpConfig::default() };
    let lock = Access::new(&config, None, listen.parse().unwrap());
    let routes = routes(&device.telemetry, &device.pictures).with_lock(lock);
    Server::start("127.0.0.1:0".parse().unwrap(), routes).unwrap()
}

#[test]
fn a_locked_port_answers_whoever_brings_the_token() {
    let device = Device::running(1);
    device.pictures.show(1, "picture");
    let server = locked(&device, vec![digest("another"), digest(TOKEN)], "0.0.0.0:9001");
    let address = server.local_addr();
    for path in LOCKED {
        let refused = get(address, path);
        assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")), "{path}");
        assert!(refused.json()["message"].as_str().unwrap().contains("Authorization: Bearer TOKEN"));
        assert_eq!(refused.header("access-control-allow-origin"), Some("*"), "a page may read why");
        let expected = if path == "/nothing" { 404 } else { 200 };
        let get = format!("GET {path}");
        assert_eq!(ask(address, &get, &[&format!("authorization: Bearer {TOKEN}")], "").status, expected, "{path}");
        assert_eq!(ask(address, &format!("{get}?api_key=a%20token+of+the+tests"), &[], "").status, expected);
        assert_eq!(ask(address, &get, &["authorization: Bearer a token"], "").status, 401);
        assert_eq!(ask(address, &format!("{get}?api_key="), &["authorization: Basic x"], "").status, 401);
    }
    let json = ["content-type: application/json", "content-length: 2"];
    assert_eq!(ask(address, "GET /status", &json, "{}").status, 401, "no body opens what reads none");
    for path in OPEN {
        assert_eq!(get(address, path).status, 200, "{path}");
    }
    let preflight = ask(address, "OPTIONS /status", &["origin: https://a.example"], "");
    assert_eq!(preflight.status, 200);
    assert!(preflight.header("access-control-allow-headers").unwrap().contains("Authorization"));
}

#[test]
fn without_a_token_a_port_beyond_loopback_is_shut_and_says_what_to_set() {
    let device = Device::running(1);
    let server = locked(&device, Vec::new(), "0.0.0.0:9001");
    for path in LOCKED {
        let refused = ask(server.local_addr(), &format!("GET {path}"), &["authorization: Bearer x"], "");
        assert_eq!(refused.status, 403, "{path}");
        let message = refused.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains("http.tokens_sha256") && message.contains("http.access"), "{message}");
    }
    for path in OPEN {
        assert_eq!(get(server.local_addr(), path).status, 200, "{path}");
    }
    let open = locked(&device, Vec::new(), "127.0.0.1:9001");
    assert_eq!(get(open.local_addr(), "/status").status, 200, "loopback is open");
}

#[test]
fn a_refused_client_keeps_its_connection() {
    let device = Device::running(1);
    let server = locked(&device, vec![digest(TOKEN)], "0.0.0.0:9001");
    let mut client = Client::connect(server.local_addr());
    assert_eq!(client.get("/status").status, 401);
    client.send(format!("GET /status HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {TOKEN}\r\n\r\n"));
    assert_eq!(client.answer(false).status, 200);
}

#[test]
fn an_address_for_health_answers_nothing_else() {
    let device = Device::running(3);
    let open = |kind| Door::open("127.0.0.1:0".parse().unwrap(), kind).unwrap();
    let doors = vec![open(Kind::Plain), open(Kind::Health)];
    let (main, health) = (doors[0].local_addr(), doors[1].local_addr());
    let _server = Server::serve(doors, routes(&device.telemetry, &device.pictures), None).unwrap();
    assert_eq!(get(main, "/status").status, 200);
    for path in ["/healthz", "/readiness"] {
        let (here, there) = (get(health, path), get(main, path));
        assert_eq!((here.status, here.text()), (200, there.text()), "{path}");
    }
    assert_eq!(get(health, "/healthz").header("firstlight-inferences"), Some("3"));
    for path in ["/", "/status", "/metrics", "/snapshot.jpg", "/info", "/device/slot", "/healthz/"] {
        assert_eq!(get(health, path).status, 404, "{path}");
    }
    let refused = ask(health, "POST /healthz", &["content-length: 0"], "");
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD, OPTIONS")));
}

#[test]
fn a_crowd_at_the_port_keeps_no_monitor_from_health() {
    let device = Device::running(1);
    let open = |kind| Door::open("127.0.0.1:0".parse().unwrap(), kind).unwrap();
    let doors = vec![open(Kind::Plain), open(Kind::Health)];
    let (main, health) = (doors[0].local_addr(), doors[1].local_addr());
    let _server = Server::serve(doors, routes(&device.telemetry, &device.pictures), None).unwrap();
    let _crowd: Vec<Client> = (0..300).map(|_| Client::connect(main)).collect();
    let mut monitor = Client::connect(health);
    assert_eq!(monitor.get("/healthz").status, 200);
    let _more: Vec<Client> = (0..300).map(|_| Client::connect(main)).collect();
    assert_eq!(monitor.get("/healthz").status, 200, "nor does it lose its connection");
}
