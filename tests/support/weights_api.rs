//! A stand-in of Roboflow's weights API on loopback, over TLS with a root of its own: both APIs, files with ranges, and on
//! request everything that goes wrong on the way.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

pub const KEY: &str = "rf_a_key_of_the_test";

/// What goes wrong.
#[derive(Debug, Default)]
pub struct Trouble {
    /// The connection ends when so many bytes of files were sent in all; each once, in order.
    pub cuts: Vec<u64>,
    /// So many of the next requests are answered 429, to be tried again at once.
    pub busy: usize,
    /// Files come with one byte wrong.
    pub wrong: bool,
    /// Ranges are not known.
    pub no_ranges: bool,
    /// Files come at so many bytes in ten milliseconds.
    pub slowly: Option<usize>,
}

#[derive(Debug, Default)]
struct State {
    trouble: Trouble,
    /// How often it was changed.
    changes: usize,
    sent: u64,
    /// Path, range and status of each request.
    seen: Vec<(String, Option<String>, u16)>,
    files: HashMap<String, Vec<u8>>,
    /// Documents of both APIs by model.
    weights: HashMap<String, Value>,
    older: HashMap<String, Value>,
}

/// See the head of this file.
pub struct WeightsApi {
    state: Arc<Mutex<State>>,
    port: u16,
    folder: tempfile::TempDir,
}

impl WeightsApi {
    /// With the demo model as `my-project/3`.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&pair).unwrap();
        let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
        for line in STANDARD.encode(certificate.der()).as_bytes().chunks(64) {
            writeln!(pem, "{}", String::from_utf8_lossy(line)).unwrap();
        }
        std::fs::write(folder.path().join("root.pem"), pem + "-----END CERTIFICATE-----\n").unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let chain = vec![certificate.der().clone()];
        let config = config.with_no_client_auth().with_single_cert(chain, PrivateKeyDer::from(pair)).unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let served = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (state, config) = (Arc::clone(&served), Arc::clone(&config));
                std::thread::spawn(move || serve(stream, config, &state));
            }
        });
        let api = Self { state, port, folder };
        api.offer_demo();
        api
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root.pem")
    }

    pub fn address(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    pub fn trouble(&self, trouble: Trouble) {
        let mut state = self.state.lock().unwrap();
        (state.trouble, state.sent) = (trouble, 0);
        state.changes += 1;
        state.seen.clear();
    }

    /// Bytes of files that were sent since [`Self::trouble`].
    pub fn sent(&self) -> u64 {
        self.state.lock().unwrap().sent
    }

    pub fn seen(&self) -> Vec<(String, Option<String>, u16)> {
        self.state.lock().unwrap().seen.clone()
    }

    /// Puts a file there and gives its address.
    pub fn file(&self, name: &str, content: &[u8]) -> String {
        self.state.lock().unwrap().files.insert(format!("/files/{name}"), content.to_vec());
        format!("{}/files/{name}?X-Goog-Signature=of-the-test", self.address())
    }

    /// Offers a document of the weights API.
    pub fn offer(&self, id: &str, document: Value) {
        self.state.lock().unwrap().weights.insert(id.into(), document);
    }

    fn offer_demo(&self) {
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/demo");
        let read = |name: &str| std::fs::read(demo.join(name)).unwrap();
        let (weights, names) = (read("parts.onnx"), read("class_names.txt"));
        let config = inference_config();
        let file = |handle: &str, content: &[u8]| {
            json!({
                "fileHandle": handle, "downloadUrl": self.file(&format!("pkg/{handle}"), content),
                "md5Hash": hex_md5(content),
            })
        };
        let package = |id: &str, quantization: &str| {
            json!({
                "type": "external-model-package-v1", "packageId": id, "trustedSource": true,
                "packageManifest": {
                    "type": "onnx-model-package-v1", "backendType": "onnx", "dynamicBatchSize": false,
                    "staticBatchSize": 1, "quantization": quantization, "opset": 17,
                },
                "packageFiles": [file("weights.onnx", &weights), file("class_names.txt", &names),
                    file("inference_config.json", config.as_bytes())],
            })
        };
        self.offer(
            "my-project/3",
            json!({"modelMetadata": {
                "type": "external-model-metadata-v1", "modelId": "my-project/3", "modelArchitecture": "yolov8",
                "modelVariant": "yolov8n", "taskType": "object-detection",
                "modelPackages": [package("onnxbf16", "bf16"), package("onnxfp32st01", "fp32")], "nextPage": null,
            }}),
        );
        let environment = read("environment.json");
        let names: Vec<&str> = std::str::from_utf8(&names).unwrap().lines().collect();
        let older = json!({"ort": {
            "type": "object-detection", "modelType": "yolov8n", "classes": names,
            "model": self.file("ort/weights.onnx", &weights),
            "environment": self.file("ort/environment.json", &environment),
            "colors": {"nut": "#C7FC00"},
        }});
        self.state.lock().unwrap().older.insert("my-project/3".into(), older);
    }
}

/// Of the demo model, as the default engine's packages say it.
pub fn inference_config() -> String {
    json!({
        "image_pre_processing": {"auto-orient": {"enabled": true}},
        "network_input": {
            "training_input_size": {"height": 320, "width": 320},
            "dataset_version_resize_dimensions": {"height": 320, "width": 320},
            "dynamic_spatial_size_supported": false, "color_mode": "rgb", "resize_mode": "letterbox",
            "padding_value": 114, "input_channels": 3, "scaling_factor": 255, "normalization": null,
        },
        "forward_pass": {"static_batch_size": 1, "max_dynamic_batch_size": null},
        "post_processing": {"type": "nms", "fused": false},
    })
    .to_string()
}

/// One connection: requests until the peer or the trouble ends it.
fn serve(stream: TcpStream, config: Arc<ServerConfig>, state: &Mutex<State>) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
    let Ok(connection) = ServerConnection::new(config) else { return };
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    while let Some((target, headers)) = request(&mut stream) {
        if !answer(stream.get_mut(), &target, &headers, state) {
            return;
        }
    }
}

fn request(stream: &mut impl BufRead) -> Option<(String, HashMap<String, String>)> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.by_ref().take(16 << 10).read_line(&mut line).ok()?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let target = lines.first()?.split(' ').nth(1)?.to_owned();
    let header = |line: &String| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    Some((target, lines[1..].iter().filter_map(header).collect()))
}

/// Answers; false where the connection shall end.
fn answer(stream: &mut impl Write, target: &str, headers: &HashMap<String, String>, state: &Mutex<State>) -> bool {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let parameter = |name: &str| {
        let found = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        found.map(|value| value.replace("%2F", "/"))
    };
    let mut locked = state.lock().unwrap();
    let note = |status: u16, locked: &mut State| {
        locked.seen.push((path.to_owned(), headers.get("range").cloned(), status));
    };
    if locked.trouble.busy > 0 {
        locked.trouble.busy -= 1;
        note(429, &mut locked);
        return reply(stream, "429 Too Many Requests", "retry-after: 0\r\n", b"slow down");
    }
    if path.starts_with("/files/") {
        let Some(content) = locked.files.get(path).cloned() else {
            note(404, &mut locked);
            return reply(stream, "404 Not Found", "", b"");
        };
        let range = headers.get("range").filter(|_| !locked.trouble.no_ranges).cloned();
        note(if range.is_some() { 206 } else { 200 }, &mut locked);
        drop(locked);
        return send(stream, &content, range.as_deref(), state);
    }
    let (found, allowed) = match path.strip_prefix("/ort/") {
        Some(id) => (locked.older.get(id).cloned(), parameter("api_key").as_deref() == Some(KEY)),
        None => {
            let bearer = headers.get("authorization").is_some_and(|value| *value == format!("Bearer {KEY}"));
            let document = parameter("modelId").and_then(|id| locked.weights.get(&id).cloned());
            (document.filter(|_| path == "/models/v1/external/weights"), bearer)
        }
    };
    let (status, body) = match found {
        _ if !allowed => ("401 Unauthorized", json!({"error": "no such key"})),
        Some(document) => ("200 OK", document),
        None => ("404 Not Found", json!({"error": "no such model"})),
    };
    note(status[..3].parse().unwrap(), &mut locked);
    drop(locked);
    reply(stream, status, "content-type: application/json\r\n", body.to_string().as_bytes())
}

fn reply(stream: &mut impl Write, status: &str, headers: &str, body: &[u8]) -> bool {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).and_then(|()| stream.flush()).is_ok()
}

fn send(stream: &mut impl Write, content: &[u8], range: Option<&str>, state: &Mutex<State>) -> bool {
    let total = content.len();
    let (start, last) = range
        .and_then(|range| range.strip_prefix("bytes=")?.split_once('-'))
        .map_or((0, total - 1), |(start, last)| (start.parse().unwrap(), last.parse().unwrap_or(total - 1)));
    if start >= total {
        return reply(stream, "416 Range Not Satisfiable", &format!("content-range: bytes */{total}\r\n"), b"");
    }
    let mut body = content[start..=last.min(total - 1)].to_vec();
    if state.lock().unwrap().trouble.wrong && body.len() > 1 {
        let middle = body.len() / 2;
        body[middle] ^= 1;
    }
    let mut head = match range {
        Some(_) => format!("HTTP/1.1 206 Partial Content\r\ncontent-range: bytes {start}-{last}/{total}\r\n"),
        None => "HTTP/1.1 200 OK\r\n".to_owned(),
    };
    let digest = Md5::digest(content);
    write!(head, "content-length: {}\r\netag: \"{}\"\r\n", body.len(), STANDARD.encode(digest)).unwrap();
    write!(head, "x-goog-hash: crc32c=AAAAAA==,md5={}\r\n\r\n", STANDARD.encode(digest)).unwrap();
    if stream.write_all(head.as_bytes()).is_err() {
        return false;
    }
    let (slowly, changes) = {
        let locked = state.lock().unwrap();
        (locked.trouble.slowly, locked.changes)
    };
    for piece in body.chunks(slowly.unwrap_or(4096)) {
        let mut locked = state.lock().unwrap();
        // Whoever asked before the last change was killed; the bytes on their way to it are nobody's.
        if locked.changes != changes {
            return false;
        }
        let (before, after) = (locked.sent, locked.sent + piece.len() as u64);
        let cut = locked.trouble.cuts.first().copied().filter(|cut| *cut < after);
        let kept = cut.map_or(piece.len(), |cut| usize::try_from(cut.saturating_sub(before)).unwrap());
        locked.sent += kept as u64;
        if cut.is_some() {
            locked.trouble.cuts.remove(0);
        }
        drop(locked);
        if stream.write_all(&piece[..kept]).and_then(|()| stream.flush()).is_err() || cut.is_some() {
            return false;
        }
        if slowly.is_some() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    true
}

pub fn hex_md5(content: &[u8]) -> String {
    Md5::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}
