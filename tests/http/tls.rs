//! TLS with a client that is not ours: curl. Versions, authorities, client certificates, and what else may come to a
//! port that speaks it.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use firstlight::config::TlsConfig;
use firstlight::http::tls::{Error, Origin, Tls};
use firstlight::http::{Door, HEAD_TIME_MAX, Kind, Server};
use firstlight::pipeline::telemetry::Telemetry;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use sha2::{Digest, Sha256};

use super::client::{Client, PATIENCE};
use super::device::{Device, routes};

/// curl's exit codes: a handshake that failed; an authority that is not known; no answer after the handshake.
const HANDSHAKE: i32 = 35;
const UNKNOWN_AUTHORITY: i32 = 60;

/// An authority of the tests, and the folder that all its files lie in.
struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(dir: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let file = dir.join(format!("{name}.pem"));
        std::fs::write(&file, pem("CERTIFICATE", params.self_signed(&key).unwrap().der())).unwrap();
        Self { dir: dir.into(), issuer: Issuer::new(params, key), file }
    }

    /// Certificate and key files of `name`.
    fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let (at, of) = (self.dir.join(format!("{name}-certificate.pem")), self.dir.join(format!("{name}-key.pem")));
        std::fs::write(&at, pem("CERTIFICATE", params.signed_by(&key, &self.issuer).unwrap().der())).unwrap();
        std::fs::write(&of, pem("PRIVATE KEY", key.serialized_der())).unwrap();
        (at, of)
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A device that speaks TLS, and its address.
struct Secret {
    device: Device,
    _server: Server,
    address: SocketAddr,
}

impl Secret {
    fn start(config: TlsConfig, state: Option<&Path>) -> Self {
        let device = Device::running(3);
        let tls = start(config, state, &device.telemetry).unwrap();
        let door = Door::open("127.0.0.1:0".parse().unwrap(), Kind::Tls(tls)).unwrap();
        let address = door.local_addr();
        let routes = routes(&device.telemetry, &device.pictures);
        Self { device, _server: Server::serve(vec![door], routes, None).unwrap(), address }
    }

    /// What curl prints for `/info`, or its exit code and what it said.
    fn curl(&self, arguments: &[&str]) -> Result<String, (i32, String)> {
        curl(&format!("https://{}/info", self.address), arguments)
    }

    fn problems(&self) -> String {
        let health = self.device.telemetry.health();
        health.reasons.iter().map(|reason| reason.as_str()).collect::<Vec<_>>().join("; ")
    }
}

fn start(config: TlsConfig, state: Option<&Path>, telemetry: &Arc<Telemetry>) -> Result<Tls, Error> {
    Tls::start(Origin { config, state: state.map(Path::to_owned), appears: Duration::ZERO }, telemetry)
}

fn curl(url: &str, arguments: &[&str]) -> Result<String, (i32, String)> {
    let limit = PATIENCE.as_secs().to_string();
    let run = Command::new("curl").args(["-sS", "--max-time", &limit]).args(arguments).arg(url).output();
    let run = run.expect("this test needs the program `curl`: tests/packages.sh installs it");
    match run.status.code() {
        Some(0) => Ok(String::from_utf8(run.stdout).unwrap()),
        code => Err((code.unwrap_or(-1), String::from_utf8_lossy(&run.stderr).into_owned())),
    }
}

fn files(certificate: &Path, key: &Path) -> TlsConfig {
    TlsConfig { certificate: Some(certificate.into()), key: Some(key.into()), ..TlsConfig::default() }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn versions_and_authorities_are_judged_as_they_should_be() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, other) = (Authority::new(dir.path(), "ours"), Authority::new(dir.path(), "other"));
    let (certificate, key) = ours.issue("server", ExtendedKeyUsagePurpose::ServerAuth);
    let secret = Secret::start(files(&certificate, &key), None);
    let ca = ["--cacert", text(&ours.file)];
    for version in ["1.2", "1.3"] {
        let answer = secret.curl(&[&ca[..], &[&format!("--tlsv{version}"), "--tls-max", version]].concat());
        assert!(answer.as_ref().is_ok_and(|answer| answer.contains("\"uuid\"")), "TLS {version}: {answer:?}");
    }
    // OpenSSL itself speaks 1.1 only when asked for security level 0; the alert is the server's.
    let old = [&ca[..], &["-v", "--tlsv1.0", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0"]].concat();
    let (code, said) = secret.curl(&old).unwrap_err();
    assert_eq!(code, HANDSHAKE, "{said}");
    assert!(said.contains("alert protocol version"), "{said}");
    let (code, said) = secret.curl(&["--cacert", text(&other.file)]).unwrap_err();
    assert_eq!(code, UNKNOWN_AUTHORITY, "{said}");
    let (code, said) = secret.curl(&[]).unwrap_err();
    assert_eq!(code, UNKNOWN_AUTHORITY, "{said}");
    // Two requests on one connection, and a body that is larger than a record of TLS.
    secret.device.pictures.show(1, vec![b'x'; 300_000]);
    let url = format!("https://{}/snapshot.jpg", secret.address);
    let picture = curl(&format!("https://{}/info", secret.address), &[&ca[..], &["-o", "/dev/null", &url]].concat());
    assert_eq!(picture.unwrap().len(), 300_000);
    assert_eq!(secret.problems(), "");
}

#[test]
fn a_client_needs_a_certificate_where_an_authority_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, other) = (Authority::new(dir.path(), "ours"), Authority::new(dir.path(), "other"));
    let (certificate, key) = ours.issue("server", ExtendedKeyUsagePurpose::ServerAuth);
    let secret = Secret::start(TlsConfig { client_ca: Some(ours.file.clone()), ..files(&certificate, &key) }, None);
    let ask = |client: Option<&(PathBuf, PathBuf)>, version: &str| {
        let mut arguments = vec!["--cacert", text(&ours.file), "--tls-max", version];
        if let Some((certificate, key)) = client {
            arguments.extend(["--cert", text(certificate), "--key", text(key)]);
        }
        secret.curl(&arguments)
    };
    let right = ours.issue("right", ExtendedKeyUsagePurpose::ClientAuth);
    let wrong = other.issue("wrong", ExtendedKeyUsagePurpose::ClientAuth);
    let server = ours.issue("another-server", ExtendedKeyUsagePurpose::ServerAuth);
    for version in ["1.2", "1.3"] {
        assert!(ask(Some(&right), version).unwrap().contains("\"uuid\""));
        for client in [None, Some(&wrong), Some(&server)] {
            let (_, said) = ask(client, version).unwrap_err();
            assert!(said.contains("alert"), "TLS {version}: {said}");
        }
    }
}

#[test]
fn a_certificate_of_our_own_is_made_once_and_only_we_can_read_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("firstlight");
    let config = TlsConfig { self_signed: true, ..TlsConfig::default() };
    let secret = Secret::start(config.clone(), Some(&state));
    let file = state.join("tls/self-signed.pem");
    let kept = std::fs::read_to_string(&file).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    // It is its own authority, for the names that it has.
    let resolve = format!("firstlight:{}:127.0.0.1", secret.address.port());
    let arguments = ["--cacert", text(&file), "--resolve", &resolve];
    let named = curl(&format!("https://firstlight:{}/info", secret.address.port()), &arguments);
    assert!(named.unwrap().contains("\"uuid\"") && secret.curl(&["--cacert", text(&file)]).is_ok());
    assert_eq!(secret.problems(), "");
    let fingerprint = fingerprint(&kept);
    assert!(firstlight::log::text().contains(&fingerprint), "{fingerprint} was not said");
    let again = Secret::start(config.clone(), Some(&state));
    assert!(again.curl(&["--cacert", text(&file)]).is_ok(), "it is the same after a restart");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), kept);
    std::fs::write(&file, &kept[..kept.len() / 2]).unwrap();
    let healed = Secret::start(config, Some(&state));
    assert!(healed.curl(&["--cacert", text(&file)]).is_ok(), "a damaged one is replaced");
    assert_ne!(std::fs::read_to_string(&file).unwrap(), kept);
}

/// As `openssl x509 -fingerprint -sha256` shows it.
fn fingerprint(pem: &str) -> String {
    let body: String = pem.lines().skip(1).take_while(|line| !line.starts_with("-----")).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(body).unwrap();
    Sha256::digest(der).iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

#[test]
fn one_that_cannot_be_kept_is_served_from_memory_and_said() {
    let config = TlsConfig { self_signed: true, ..TlsConfig::default() };
    for state in [Some(Path::new("/proc/firstlight")), None] {
        let secret = Secret::start(config.clone(), state);
        assert!(secret.curl(&["--insecure"]).unwrap().contains("\"uuid\""));
        let problems = secret.problems();
        assert!(problems.starts_with("tls: the certificate is only in memory"), "{problems}");
    }
}

#[test]
fn handshakes_wait_for_files_that_are_still_to_come() {
    let dir = tempfile::tempdir().unwrap();
    let device = Device::running(1);
    let config = TlsConfig { self_signed: true, ..TlsConfig::default() };
    let state = dir.path().join("data/state");
    let origin = Origin { config, state: Some(state.clone()), appears: PATIENCE };
    let tls = Tls::start(origin, &device.telemetry).unwrap();
    let door = Door::open("127.0.0.1:0".parse().unwrap(), Kind::Tls(tls)).unwrap();
    let address = door.local_addr();
    let _server = Server::serve(vec![door], routes(&device.telemetry, &device.pictures), None).unwrap();
    let mounting = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(700));
        std::fs::create_dir_all(state).unwrap();
    });
    assert!(curl(&format!("https://{address}/info"), &["--insecure"]).unwrap().contains("\"uuid\""));
    mounting.join().unwrap();
    assert!(dir.path().join("data/state/tls/self-signed.pem").is_file());
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ours");
    let (certificate, key) = authority.issue("server", ExtendedKeyUsagePurpose::ServerAuth);
    let (_, other_key) = authority.issue("other", ExtendedKeyUsagePurpose::ServerAuth);
    let write = |name: &str, content: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let locked =
        write("locked.pem", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    let garbage = write("garbage.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let not_a_key = write("not-a-key.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    let missing = dir.path().join("missing.pem");
    let telemetry = Device::start().telemetry;
    for (config, words) in [
        (files(&missing, &key), ["missing.pem: no such file", "http.tls.certificate"]),
        (files(&certificate, &missing), ["missing.pem: no such file", "http.tls.key"]),
        (files(&key, &key), ["server-key.pem: no certificate", "BEGIN CERTIFICATE"]),
        (files(&certificate, &certificate), ["server-certificate.pem: no private key", "BEGIN PRIVATE KEY"]),
        (files(&certificate, &locked), ["locked.pem: a key with a password", "without a password"]),
        (files(&certificate, &not_a_key), ["not-a-key.pem: a key that cannot be used", "P-256"]),
        (files(&garbage, &key), ["garbage.pem: a damaged certificate", "X.509"]),
        (files(&certificate, &other_key), ["server-certificate.pem: is not the certificate", "other-key.pem"]),
        (files(dir.path(), &key), [text(dir.path()), "is not a regular file"]),
        (
            TlsConfig { client_ca: Some(garbage.clone()), ..files(&certificate, &key) },
            ["garbage.pem: ", "certificates of authorities"],
        ),
        (TlsConfig { client_ca: Some(missing.clone()), ..files(&certificate, &key) }, ["no such file", "client_ca"]),
    ] {
        let message = start(config, None, &telemetry).unwrap_err().to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{message}: expected {words:?}");
    }
}

#[test]
fn whoever_speaks_no_tls_is_told_or_dropped_and_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ours");
    let (certificate, key) = authority.issue("server", ExtendedKeyUsagePurpose::ServerAuth);
    let secret = Secret::start(files(&certificate, &key), None);
    let plain = super::client::get(secret.address, "/info");
    assert_eq!(plain.status, 400);
    assert!(plain.json()["message"].as_str().unwrap().contains("https://"));
    let started = Instant::now();
    // Silent, half a hello that trickles, garbage that begins like one and garbage that does not.
    let mut silent: Vec<Client> = (0..40).map(|_| Client::connect(secret.address)).collect();
    let mut slow = Client::connect(secret.address);
    slow.send([22, 3, 1, 2, 0, 1]);
    for garbage in [&[22, 3, 1, 0, 5, 99, 99, 99, 99, 99][..], &[0xff; 600], &[0x80, 0x2e, 1, 3, 1], &[22; 20_000]] {
        let mut client = Client::connect(secret.address);
        client.try_send(garbage);
        assert!(client.closed_within(PATIENCE), "{:?}", &garbage[..5]);
    }
    assert!(secret.curl(&["--insecure"]).is_ok());
    assert!(started.elapsed() < HEAD_TIME_MAX, "answered while others hold their handshakes back");
    while slow.try_send([0]) {
        assert!(started.elapsed() < 3 * HEAD_TIME_MAX, "a handshake that trickles is never dropped");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(silent.iter_mut().all(|client| client.closed_within(HEAD_TIME_MAX)));
    assert!(secret.curl(&["--insecure"]).is_ok());
}
