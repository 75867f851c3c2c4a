//! Roboflow's API over a socket, with the demo model: what a client sends and what it gets, good and bad.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use firstlight::cache::{Cache, Host};
use firstlight::config::{AccessMode, HttpConfig, ServingConfig};
use firstlight::engine::{Backends, LoadOptions, Precision};
use firstlight::http::{Access, Api, IMAGES_MAX, REQUEST_BYTES_MAX, Server};
use firstlight::serving::pipeline::Pipelines;
use firstlight::serving::{Engines, Loader, Models, Wanted, Workers};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::client::{Answer, Client, PATIENCE, ask, get};
use super::device::{Device, routes};

const PICTURE: &[u8] = include_bytes!("../../src/demo/golden.png");
const JSON: &str = "content-type: application/json";
const DETECTION: &str = "/infer/object_detection";

/// A cache with the demo model as `my-project/3`, and a damaged one.
fn cache() -> tempfile::TempDir {
    let cache = tempfile::tempdir().unwrap();
    let demo = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/demo");
    for id in ["my-project/3", "broken/1"] {
        let package = cache.path().join(id);
        std::fs::create_dir_all(&package).unwrap();
        for (from, to) in [("environment.json", "environment.json"), ("class_names.txt", "class_names.txt")] {
            std::fs::copy(demo.join(from), package.join(to)).unwrap();
        }
        std::fs::write(package.join("model_type.json"), TYPE).unwrap();
        let weights =
            if id == "broken/1" { b"no network".to_vec() } else { std::fs::read(demo.join("parts.onnx")).unwrap() };
        std::fs::write(package.join("weights.onnx"), weights).unwrap();
    }
    cache
}

const TYPE: &str = r#"{"project_task_type": "object-detection", "model_type": "yolov8n"}"#;

/// A device with the API, on a free port.
struct Serving {
    cache: tempfile::TempDir,
    _device: Device,
    server: Server,
}

impl Serving {
    fn start() -> Self {
        Self::with(Access::default(), Vec::new())
    }

    fn with(lock: Access, dirs: Vec<PathBuf>) -> Self {
        let (cache, device) = (cache(), Device::running(1));
        let loader = Loader {
            cache: Cache::at(cache.path()),
            host: Host::default(),
            engines: Engines::choose(Wanted::Only("tract"), &[Precision::Fp32], &Backends::default()).unwrap(),
            options: LoadOptions { threads: 1 },
            semantics: None,
        };
        let config = ServingConfig::default();
        let models: Arc<Models> = Models::new(loader, &config).unwrap();
        let pipelines = Pipelines::new(Arc::clone(&models), &config, 80);
        let api = Api::new(models, Workers::start(2).unwrap(), pipelines, dirs);
        let routes = routes(&device.telemetry, &device.pictures).with_lock(lock).with_api(api);
        let server = Server::start("127.0.0.1:0".parse().unwrap(), routes).unwrap();
        Self { cache, _device: device, server }
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(&format!("POST {path}"), JSON, &body.to_string())
    }

    fn send(&self, line: &str, header: &str, body: &str) -> Answer {
        ask(self.server.local_addr(), line, &[header, &format!("content-length: {}", body.len())], body)
    }

    fn get(&self, path: &str) -> Answer {
        get(self.server.local_addr(), path)
    }

    fn loaded(&self) -> Vec<String> {
        let registry = self.get("/model/registry").json();
        let models = registry["models"].as_array().unwrap().iter();
        models.map(|model| model["model_id"].as_str().unwrap().to_owned()).collect()
    }
}

fn base64() -> String {
    BASE64_STANDARD.encode(PICTURE)
}

fn image() -> Value {
    json!({"type": "base64", "value": base64()})
}

fn request(image: Value) -> Value {
    json!({"model_id": "my-project/3", "image": image})
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Predictions without the ids that differ from answer to answer.
fn seen(answer: &Value) -> Value {
    let mut predictions = answer["predictions"].clone();
    for prediction in predictions.as_array_mut().unwrap() {
        prediction.as_object_mut().unwrap().shift_remove("detection_id").unwrap();
    }
    predictions
}

#[test]
fn an_image_is_answered_as_recorded_and_the_first_one_says_that_it_waited_for_the_load() {
    let serving = Serving::start();
    let first = serving.post(DETECTION, &request(image()));
    assert_eq!(first.status, 200, "{}", first.text());
    assert_eq!(
        (first.header("x-model-cold-start"), first.header("x-model-cold-start-count")),
        (Some("true"), Some("1"))
    );
    let seconds: f64 = first.header("x-model-load-time").unwrap().parse().unwrap();
    let details: Value = serde_json::from_str(first.header("x-model-load-details").unwrap()).unwrap();
    assert_eq!(details, json!([{"m": "my-project/3", "t": seconds}]));
    let answer = first.json();
    assert_eq!(keys(&answer), ["inference_id", "time", "resolved_model", "image", "predictions"]);
    assert_eq!(answer["resolved_model"], json!({"model_id": "my-project/3"}));
    assert_eq!(answer["image"], json!({"width": 640, "height": 480}));
    let fields = ["x", "y", "width", "height", "confidence", "class", "class_id", "detection_id"];
    assert_eq!(keys(&answer["predictions"][0]), fields);

    let again = serving.post(DETECTION, &request(image()));
    for (name, value) in [
        ("x-model-cold-start", "false"),
        ("x-model-cold-start-count", "0"),
        ("x-model-id", "my-project/3"),
        ("x-inference-engine", "firstlight"),
        ("vary", "Origin"),
        ("access-control-allow-origin", "*"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(again.header(name), Some(value));
    }
    assert_eq!((again.header("x-model-load-time"), again.header("x-request-id").unwrap().len()), (None, 32));
    assert_eq!(seen(&again.json()), seen(&answer));
    // Roboflow's server does not look at the route's task either.
    let other = serving.post("/infer/classification", &request(image()));
    assert_eq!((other.status, seen(&other.json())), (200, seen(&answer)));
}

#[test]
fn several_images_are_answered_in_their_order_under_one_id() {
    let serving = Serving::start();
    let small = {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image::RgbImage::new(64, 32).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        json!({"type": "base64", "value": BASE64_STANDARD.encode(bytes.into_inner())})
    };
    let mut batch = request(json!([image(), small, image()]));
    batch["visualize_predictions"] = json!(true);
    batch["id"] = json!("my-own-id");
    let answer = serving.post(DETECTION, &batch);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answers = answer.json();
    let widths: Vec<&Value> = answers.as_array().unwrap().iter().map(|answer| &answer["image"]["width"]).collect();
    assert_eq!(widths, [640, 64, 640]);
    assert_eq!(seen(&answers[0]), seen(&answers[2]));
    for answer in answers.as_array().unwrap() {
        assert_eq!((&answer["inference_id"], keys(answer)[0]), (&json!("my-own-id"), "visualization"));
        let jpeg = BASE64_STANDARD.decode(answer["visualization"].as_str().unwrap()).unwrap();
        assert!(jpeg.starts_with(b"\xff\xd8\xff"));
    }
    assert_eq!(serving.post(DETECTION, &request(json!([]))).json(), json!([]));
    let many = serving.post(DETECTION, &request(json!(vec![json!({"type": "base64", "value": ""}); IMAGES_MAX + 1])));
    assert!(many.status == 400 && many.text().contains("at most 64"), "{}", many.text());
}

#[test]
fn wishes_change_the_answer() {
    let serving = Serving::start();
    let with = |name: &str, value: Value| {
        let mut request = request(image());
        request[name] = value;
        let answer = serving.post(DETECTION, &request);
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        answer.json()["predictions"].as_array().unwrap().len()
    };
    let all = with("confidence", json!(0.4));
    assert!(all > 2 && with("confidence", json!("0.99")) < all);
    assert_eq!((with("max_detections", json!(2)), with("class_filter", json!(["nope"]))), (2, 0));
    assert_eq!((with("confidence", json!("best")), with("no_field_of_ours", json!({"a": [1]}))), (all, all));
}

#[test]
fn refusals_are_as_recorded_and_say_more() {
    let serving = Serving::start();
    let told = |path: &str, body: Value| {
        let answer = serving.post(path, &body);
        (answer.status, answer.json()["message"].as_str().unwrap_or_default().to_owned())
    };
    let of_image = |kind: &str, value: &str| told(DETECTION, request(json!({"type": kind, "value": value})));
    let cause = |words: &str| (400, format!("Could not load input image. Cause: {words}"));
    assert_eq!(of_image("base64", "aGVsbG8="), cause("Malformed base64 input image."));
    assert_eq!(of_image("bogus", "x"), cause("Image declaration contains not recognised image type."));
    let url = "Cannot load an image from URL while OFFLINE_MODE is enabled.";
    assert_eq!(of_image("URL", "https://example.com/a.jpg"), cause(url));
    assert_eq!(of_image("file", "/etc/passwd"), cause("Loading images from the local filesystem is disabled."));
    let of_model = |id: Value| told(DETECTION, json!({"model_id": id, "image": image()}));
    assert_eq!(of_model(json!("a/b/c")), (400, "Invalid Model ID sent in request.".into()));
    assert_eq!(of_model(Value::Null), (400, "Invalid Model ID sent in request.".into()));
    assert_eq!(of_model(json!("broken/1")), (500, "Model package is broken.".into()));
    let (status, missing) = of_model(json!("no-such/1"));
    let dir = serving.cache.path().join("no-such/1");
    assert!(status == 503 && missing.contains("no-such/1") && missing.contains(dir.to_str().unwrap()), "{missing}");
    let masks = json!({"model_id": "my-project/3", "image": image(), "mask_decode_mode": "nonsense"});
    assert_eq!(serving.post("/infer/instance_segmentation", &masks).status, 200, "nothing is decoded");

    let no_model = serving.post(DETECTION, &json!({"image": image()}));
    let missing = json!({"detail": [{"type": "missing", "loc": ["body", "model_id"], "msg": "Field required"}]});
    assert_eq!((no_model.status, no_model.json()), (422, missing));
    let no_json = serving.send(&format!("POST {DETECTION}"), JSON, "{\"model_id\": ");
    assert_eq!((no_json.status, &no_json.json()["detail"][0]["type"]), (422, &json!("json_invalid")));
    let deep = format!("{{\"image\": {}", "[".repeat(1_000_000));
    assert_eq!(serving.send(&format!("POST {DETECTION}"), JSON, &deep).status, 422);
    let typed = serving.send(&format!("POST {DETECTION}"), "content-type: text/plain", &request(image()).to_string());
    assert_eq!(typed.status, 422, "a page of another origin may send text without asking");
}

#[test]
fn the_first_interface_takes_every_form_of_an_image() {
    let serving = Serving::start();
    let expected = seen(&serving.post(DETECTION, &request(image())).json());
    let text = base64();
    for (line, header) in [
        (
            "POST /my-project/3?api_key=x&confidence=40&allow_reduced_mask_resolution=False",
            "content-type: application/json",
        ),
        ("POST /my-project/3", "content-type: application/x-www-form-urlencoded"),
        ("GET /my%2Dproject/3", "content-type: anything"),
    ] {
        let answer = serving.send(line, header, &text);
        assert_eq!(answer.status, 200, "{line}: {}", answer.text());
        assert_eq!(seen(&answer.json()), expected, "{line}");
    }
    let prefixed = serving.send("POST /my-project/3", "content-type: x", &format!("data:image/png;base64,{text}"));
    assert_eq!(seen(&prefixed.json()), expected);

    let form = form("file");
    let head = format!("content-type: multipart/form-data; boundary=B\r\ncontent-length: {}", form.len());
    let mut client = Client::connect(serving.server.local_addr());
    client.send(format!("POST /my-project/3?format=image_and_json&labels=true HTTP/1.1\r\nhost: t\r\n{head}\r\n\r\n"));
    client.send(&form);
    let both = client.answer(false).json();
    assert!(both["visualization"].is_string());
    assert_eq!(seen(&both), expected);

    let picture = serving.send("POST /my-project/3?format=image&stroke=3", "content-type: x", &text);
    assert_eq!((picture.status, picture.header("content-type")), (200, Some("image/jpeg")));
    assert!(picture.body.starts_with(b"\xff\xd8\xff") && picture.header("x-model-id") == Some("my-project/3"));

    let told = |line: &str, header: &str| {
        let answer = serving.send(line, header, &text);
        (answer.status, answer.json())
    };
    let no_type = json!({"message": "Content-Type header not provided with request."});
    assert_eq!(told("POST /my-project/3", "x-none: x"), (400, no_type.clone()));
    assert_eq!((serving.get("/my-project/3").status, serving.get("/my-project/3").json()), (400, no_type));
    let no_boundary = json!("Invalid Content-Type header provided with request.");
    assert_eq!(told("POST /my-project/3", "content-type: multipart/form-data").1["message"], no_boundary);
    assert_eq!(told("POST /my-project/3?image=https%3A%2F%2Fa.example", "x-none: x").0, 400);
    assert_eq!(told("POST /my-project/3?confidence=high", "content-type: x").0, 422);
}

fn form(name: &str) -> Vec<u8> {
    let head = format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"a.png\"\r\n\r\n");
    [head.as_bytes(), PICTURE, b"\r\n--B--\r\n"].concat()
}

#[test]
fn models_are_loaded_listed_and_unloaded_and_their_files_stay() {
    let serving = Serving::start();
    let empty = serving.get("/model/registry");
    let fields = [
        "models",
        "total_vram_bytes",
        "gpu_memory_used",
        "gpu_memory_total",
        "torch_cuda_allocated",
        "torch_cuda_reserved",
        "torch_cuda_allocator_cache",
        "non_torch_gpu_memory",
    ];
    assert_eq!((keys(&empty.json()), &empty.json()["models"]), (fields.to_vec(), &json!([])));
    let added = serving.post("/model/add", &json!({"model_id": "my-project/3", "api_key": "x"}));
    assert_eq!((added.status, added.header("x-model-cold-start")), (200, Some("true")));
    serving.post(DETECTION, &request(image()));
    let expected = json!({
        "model_id": "my-project/3", "task_type": "object-detection", "batch_size": 1, "input_height": 320,
        "input_width": 320, "vram_bytes": null, "request_aliases": [],
        "request_paths": ["/infer/object_detection", "/model/add"],
    });
    assert_eq!(serving.get("/model/registry").json()["models"], json!([expected]));
    let state = |id: &str| {
        let models = serving.get("/models").json();
        models.as_array().unwrap().iter().find(|model| model["id"] == id).unwrap()["state"].clone()
    };
    assert_eq!((state("my-project/3"), state("parts/1")), (json!("loaded"), json!("cached")));

    for _ in 0..2 {
        let removed = serving.post("/model/remove", &json!({"model_id": "my-project/3"}));
        assert_eq!((removed.status, &removed.json()["models"]), (200, &json!([])), "an unknown one is no error");
    }
    assert_eq!(serving.post("/model/remove", &json!({})).status, 422);
    assert_eq!(serving.post("/model/add", &json!({"model_id": "nope/1"})).status, 503);
    let started = serving.get("/start/my-project/3?api_key=x");
    let words = json!({"status": 200, "message": "inference session started from local memory."});
    assert_eq!((started.status, started.json()), (200, words));
    assert_eq!(serving.loaded(), ["my-project/3"]);
    assert_eq!(serving.send("POST /model/clear", "x-none: x", "").status, 200);
    assert_eq!(serving.loaded(), [""; 0]);
    serving.get("/start/my-project/3");
    assert_eq!((serving.get("/clear_cache").json(), serving.loaded().len()), (json!("Cache Cleared"), 0));
    for file in ["weights.onnx", "model_type.json", "environment.json", "class_names.txt"] {
        assert!(serving.cache.path().join("my-project/3").join(file).is_file(), "{file}");
    }
    assert_eq!(state("my-project/3"), "cached");
}

#[test]
fn what_is_not_served_is_refused_by_name() {
    let serving = Serving::start();
    for (path, words) in [
        ("/infer/workflows", "Workflows"),
        ("/workflows/run", "Workflows"),
        ("/my-ws/workflows/my-flow", "Workflows"),
        ("/clip/embed_image", "CLIP"),
        ("/doctr/ocr", "docTR"),
        ("/infer/lmm", "language model"),
    ] {
        let mut client = Client::connect(serving.server.local_addr());
        let body = json!({"api_key": "x", "image": image()}).to_string();
        client
            .send(format!("POST {path} HTTP/1.1\r\nhost: t\r\n{JSON}\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
        let answer = client.answer(false);
        assert!(answer.status == 501 && answer.text().contains(words), "{path}: {}", answer.text());
        assert_eq!(client.get("/model/registry").status, 200, "the connection goes on");
    }
    assert_eq!(serving.get("/gaze/gaze_detection").status, 410);
    assert_eq!((serving.get("/a/b/c").status, serving.get("/a/b/c").json()), (404, json!({"detail": "Not Found"})));
}

#[test]
fn each_route_has_its_methods() {
    let serving = Serving::start();
    for (path, methods) in [
        ("/model/registry", "GET, HEAD, OPTIONS"),
        (DETECTION, "POST, OPTIONS"),
        ("/my-project/3", "GET, HEAD, POST, OPTIONS"),
    ] {
        let preflight =
            ask(serving.server.local_addr(), &format!("OPTIONS {path}"), &["origin: https://a.example"], "");
        assert_eq!((preflight.status, preflight.header("access-control-allow-methods")), (200, Some(methods)));
        let wrong = serving.send(&format!("PUT {path}"), JSON, "{}");
        assert_eq!((wrong.status, wrong.header("allow")), (405, Some(methods)), "{path}");
    }
    let head = ask(serving.server.local_addr(), "HEAD /model/registry", &[], "");
    assert_eq!((head.status, head.body.len()), (200, 0));
    let with_body = serving.send("GET /model/registry", JSON, r#"{"api_key": "x"}"#);
    assert_eq!(with_body.status, 200, "Roboflow's client sends JSON with a GET");
}

#[test]
fn bodies_come_whole_in_chunks_or_after_a_question() {
    let serving = Serving::start();
    let body = request(image()).to_string();
    let mut client = Client::connect(serving.server.local_addr());
    client.send(format!("POST {DETECTION} HTTP/1.1\r\nhost: t\r\n{JSON}\r\ntransfer-encoding: chunked\r\n\r\n"));
    for chunk in body.as_bytes().chunks(10_000) {
        client.send(format!("{:x}\r\n", chunk.len()));
        client.send(chunk);
        client.send("\r\n");
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.answer(false).status, 200);

    let head = format!("POST {DETECTION} HTTP/1.1\r\nhost: t\r\n{JSON}\r\n");
    client.send(format!("{head}expect: 100-continue\r\ncontent-length: {}\r\n\r\n", body.len()));
    assert_eq!(client.interim(), "HTTP/1.1 100 Continue");
    client.send(&body);
    assert_eq!(client.answer(false).status, 200);
}

#[test]
fn a_body_that_is_too_large_is_refused_early_and_the_client_hears_it() {
    let serving = Serving::start();
    let mut client = Client::connect(serving.server.local_addr());
    let length = REQUEST_BYTES_MAX + 1;
    client.send(format!("POST {DETECTION} HTTP/1.1\r\nhost: t\r\n{JSON}\r\ncontent-length: {length}\r\n\r\n"));
    // Most clients send all before they listen.
    let sent = (0..40).take_while(|_| client.try_send(vec![b' '; 1 << 20])).count();
    let refused = client.answer(false);
    assert_eq!((refused.status, refused.header("connection")), (413, Some("close")), "after {sent} MiB");
    assert!(refused.json()["message"].as_str().unwrap().contains(&REQUEST_BYTES_MAX.to_string()));
    assert!(client.closed_within(PATIENCE));
    assert_eq!(serving.post(DETECTION, &request(image())).status, 200);
}

#[test]
fn the_key_may_be_in_the_body() {
    let token = "a token of the tests";
    let tokens_sha256 = vec![Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect()];
    let config = HttpConfig { access: AccessMode::Token, tokens_sha256, ..HttpConfig::default() };
    let serving = Serving::with(Access::new(&config, None, "127.0.0.1:9001".parse().unwrap()), Vec::new());
    let with_key = |key: Value| {
        let mut request = request(image());
        request["api_key"] = key;
        serving.post(DETECTION, &request).status
    };
    assert_eq!((with_key(json!(token)), with_key(json!("x")), with_key(json!(null))), (200, 401, 401));
    assert_eq!(serving.post(DETECTION, &request(image())).status, 401);
    assert_eq!(serving.post("/model/remove", &json!({"model_id": "a/1", "api_key": token})).status, 200);
    let listed = serving.send("GET /model/registry", JSON, &json!({"api_key": token}).to_string());
    assert_eq!((listed.status, serving.get("/model/registry").status), (200, 401));
    assert_eq!(serving.get(&format!("/model/registry?api_key={}", token.replace(' ', "+"))).status, 200);
    let unnamed = serving.post("/nothing", &json!({"api_key": token})).status;
    assert_eq!(
        (unnamed, serving.post("/workflows/run", &json!({})).status),
        (401, 401),
        "nothing is told to strangers"
    );
}

#[test]
fn files_are_read_below_the_directories_of_the_configuration() {
    let pictures = tempfile::tempdir().unwrap();
    let path = pictures.path().join("a.png");
    std::fs::write(&path, PICTURE).unwrap();
    let serving = Serving::with(Access::default(), vec![pictures.path().to_owned()]);
    let read = |path: &str| serving.post(DETECTION, &request(json!({"type": "file", "value": path})));
    assert_eq!(read(path.to_str().unwrap()).status, 200);
    let weights = serving.cache.path().join("my-project/3/weights.onnx");
    let refused = read(weights.to_str().unwrap());
    assert!(refused.status == 400 && refused.text().contains("serving.images.dirs"), "{}", refused.text());
}

#[test]
fn figures_tell_of_clients_too() {
    let serving = Serving::start();
    serving.post(DETECTION, &request(json!([image(), image()])));
    serving.post(DETECTION, &request(json!({"type": "base64", "value": "x"})));
    let metrics = serving.get("/metrics");
    let text = metrics.text();
    for line in ["num_inferences_my_project_3 2", "num_errors_my_project_3 1", "num_inferences_total 2"] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    let stats = serving.get("/device/stats").json();
    assert!(stats["processors"].as_u64() > Some(0) && stats["board"]["memory_rss_mb"].is_u64(), "{stats}");
    assert_eq!(serving.get("/info").header("x-request-id").unwrap().len(), 32);
}

#[test]
fn many_clients_at_once_all_get_the_same_answer() {
    let serving = Serving::start();
    let expected = seen(&serving.post(DETECTION, &request(image())).json());
    let started = std::time::Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..3 {
                    let answer = serving.post(DETECTION, &request(image()));
                    assert_eq!((answer.status, seen(&answer.json())), (200, expected.clone()));
                }
            });
        }
    });
    assert!(started.elapsed() < Duration::from_secs(60));
}
