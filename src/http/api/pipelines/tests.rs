//! Recorded answers about pipelines (`sdk_pipeline*.json`), by their fields, of the demo model on the demo scene.

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;

use super::*;
use crate::cache::digest::sha256;
use crate::cache::{Cache, Host};
use crate::config::{AccessMode, HttpConfig, ServingConfig};
use crate::engine::{Backends, LoadOptions, Precision};
use crate::http::access::Access;
use crate::serving::pipeline::Pipelines;
use crate::serving::{Engines, Loader, Models, Wanted, Workers};

/// Longer than anything here takes on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

fn api() -> Arc<Api> {
    let loader = Loader {
        cache: Cache::at("/nowhere"),
        host: Host::default(),
        engines: Engines::choose(Wanted::Best, &[Precision::Fp32], &Backends::default()).unwrap(),
        options: LoadOptions { threads: 1 },
        semantics: None,
    };
    let config = ServingConfig { pipelines_max: 1, ..ServingConfig::default() };
    let models = Models::new(loader, &config).unwrap();
    let pipelines = Pipelines::new(Arc::clone(&models), &config, 80);
    Api::new(models, Workers::start(2).unwrap(), pipelines, Vec::new())
}

fn ask_as(api: &Arc<Api>, lock: Option<Arc<Access>>, method: &str, path: &str, body: &str) -> (StatusCode, Bytes) {
    let body = Full::new(Bytes::from(body.to_owned()));
    let request = Request::builder().method(method).uri(format!("/inference_pipelines/{path}")).body(body).unwrap();
    smol::block_on(async {
        let answer = api.answer(request, lock).await.unwrap_or_else(|_| panic!("{path} is no route"));
        let (parts, body) = answer.into_parts();
        (parts.status, body.collect().await.unwrap().to_bytes())
    })
}

fn ask(api: &Arc<Api>, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let (status, body) = ask_as(api, None, method, path, &body.to_string());
    (status.as_u16(), serde_json::from_slice(&body).unwrap())
}

/// As the SDK sends it, with the recorded workflow's step of a model.
fn order(reference: &str) -> Value {
    json!({
        "api_key": "dummykey",
        "video_configuration": {
            "type": "VideoConfiguration",
            "video_reference": reference,
            "max_fps": 10,
            "source_buffer_filling_strategy": "DROP_OLDEST",
            "source_buffer_consumption_strategy": "EAGER",
            "video_source_properties": null,
            "batch_collection_timeout": null
        },
        "processing_configuration": {
            "type": "WorkflowConfiguration",
            "workflow_specification": {
                "version": "1.0",
                "inputs": [
                    {"type": "WorkflowImage", "name": "image"},
                    {"type": "WorkflowParameter", "name": "conf", "default_value": 0.2}
                ],
                "steps": [{
                    "type": "roboflow_core/roboflow_object_detection_model@v2", "name": "m", "images": "$inputs.image",
                    "model_id": "parts/1", "confidence": "$inputs.conf"
                }],
                "outputs": [
                    {"type": "JsonField", "name": "predictions", "selector": "$steps.m.predictions"},
                    {"type": "JsonField", "name": "vis", "selector": "$steps.m.inference_id"}
                ]
            },
            "workspace_name": null,
            "workflow_id": null,
            "image_input_name": "image",
            "workflows_parameters": null,
            "workflows_thread_pool_workers": 4,
            "cancel_thread_pool_tasks_on_exit": true,
            "video_metadata_input_name": "video_metadata"
        },
        "sink_configuration": {"type": "MemorySinkConfiguration", "results_buffer_size": 8}
    })
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn the_life_of_a_pipeline_is_told_in_the_recorded_fields() {
    let api = api();
    let key = json!({"api_key": "dummykey"});
    let (status, list) = ask(&api, "GET", "list", &key);
    assert_eq!((status, keys(&list)), (200, vec!["status", "context", "pipelines"]));
    assert_eq!((&list["context"]["pipeline_id"], &list["pipelines"]), (&Value::Null, &json!([])));

    let (status, started) = ask(&api, "POST", "initialise", &order("demo:?fps=50"));
    assert_eq!((status, keys(&started)), (200, vec!["status", "context"]), "{started}");
    assert_eq!(keys(&started["context"]), ["request_id", "pipeline_id"]);
    let id = started["context"]["pipeline_id"].as_str().unwrap();
    let of = |act: &str| format!("{id}/{act}");
    assert_eq!(ask(&api, "GET", "list", &key).1["pipelines"], json!([id]));
    let (status, full) = ask(&api, "POST", "initialise", &order("demo:"));
    assert_eq!((status, &full["error_type"]), (503, &json!("ProcessesManagerOperationError")));
    assert!(full["message"].as_str().unwrap().contains("serving.pipelines_max"), "{full}");

    let until = Instant::now() + PATIENCE;
    let consume = json!({"api_key": "dummykey", "excluded_fields": ["vis"]});
    let result = loop {
        let (status, result) = ask(&api, "GET", &of("consume"), &consume);
        assert_eq!((status, keys(&result)), (200, vec!["status", "context", "outputs", "frames_metadata"]));
        if result["outputs"] != json!([]) {
            break result;
        }
        assert_eq!(result["frames_metadata"], json!([]));
        assert!(Instant::now() < until, "no result");
    };
    assert_eq!(keys(&result["outputs"][0]), ["predictions"]);
    assert_eq!(result["outputs"][0]["predictions"]["image"], json!({"width": 640, "height": 480}));
    assert_eq!(keys(&result["frames_metadata"][0]), ["frame_timestamp", "frame_id", "source_id"]);

    let report = ask(&api, "GET", &of("status"), &key).1["report"].clone();
    let fields = ["video_source_status_updates", "latency_reports", "inference_throughput", "sources_metadata"];
    assert_eq!(keys(&report), [fields.as_slice(), &["completion_statistics"]].concat());
    assert_eq!(
        keys(&report["latency_reports"][0]),
        ["source_id", "frame_decoding_latency", "inference_latency", "e2e_latency"]
    );
    assert_eq!(keys(&report["sources_metadata"][0]).len(), 7);
    let (status, paused) = ask(&api, "POST", &of("pause"), &key);
    assert_eq!((status, keys(&paused)), (200, vec!["status", "context"]));
    assert_eq!(ask(&api, "GET", &of("status"), &key).1["report"]["sources_metadata"][0]["state"], "MUTED");
    assert_eq!(ask(&api, "GET", &of("resume"), &json!({})).0, 200);
    let (status, jpeg) = ask_as(&api, None, "GET", &of("snapshot.jpg"), "");
    assert!(status == 200 && jpeg.starts_with(&[0xff, 0xd8]));

    assert_eq!(ask(&api, "POST", &of("terminate"), &key).0, 200);
    let (status, gone) = ask(&api, "GET", &of("status"), &key);
    let message = format!(
        "Error with command handling raised by InferencePipeline Manager. Error type: not_found. Details: Could not find \
         InferencePipeline with id={id}."
    );
    let recorded = json!({"message": message, "error_type": "ProcessesManagerNotFoundError", "inner_error_type": null});
    assert_eq!((status, gone), (404, recorded));
}

#[test]
fn of_an_unknown_pipeline_there_is_nothing() {
    let api = api();
    for (method, act) in [
        ("GET", "status"),
        ("GET", "consume"),
        ("POST", "pause"),
        ("GET", "resume"),
        ("POST", "terminate"),
        ("GET", "snapshot.jpg"),
    ] {
        let (status, body) = ask(&api, method, &format!("nope/{act}"), &json!({}));
        assert_eq!((status, &body["error_type"]), (404, &json!("ProcessesManagerNotFoundError")), "{act}");
    }
}

#[test]
fn a_key_in_the_body_is_judged_before_anything_is_done() {
    let api = api();
    let config =
        HttpConfig { access: AccessMode::Token, tokens_sha256: vec![sha256(b"secret")], ..HttpConfig::default() };
    let lock = || Some(Arc::new(Access::new(&config, None, "127.0.0.1:9001".parse().unwrap())));
    for (method, path) in [("GET", "list"), ("POST", "initialise"), ("GET", "x/status"), ("POST", "x/terminate")] {
        assert_eq!(ask_as(&api, lock(), method, path, r#"{"api_key": "wrong"}"#).0, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(ask_as(&api, lock(), method, path, "").0, StatusCode::UNAUTHORIZED, "{path}");
    }
    assert_eq!(ask_as(&api, lock(), "GET", "list", r#"{"api_key": "secret"}"#).0, StatusCode::OK);
    assert_eq!(ask_as(&api, lock(), "GET", "x/status", r#"{"api_key": "secret"}"#).0, StatusCode::NOT_FOUND);
}

#[test]
fn what_cannot_start_says_why() {
    let api = api();
    let changed = |pointer: &str, value: Value| {
        let mut order = order("demo:");
        *order.pointer_mut(pointer).unwrap() = value;
        ask(&api, "POST", "initialise", &order)
    };
    let step = "/processing_configuration/workflow_specification/steps/0";
    for (pointer, value, status, word) in [
        ("/video_configuration/video_reference", json!("rtsp://camera"), 400, "serving.streams"),
        ("/video_configuration/video_reference", json!("srt://camera"), 501, "srt://"),
        ("/video_configuration/video_reference", json!("/etc/hostname"), 400, "serving.images.dirs"),
        ("/video_configuration/video_reference", json!("demo:?speed=1"), 400, "speed"),
        ("/video_configuration/max_fps", json!(-1), 400, "max_fps"),
        (&format!("{step}/type"), json!("roboflow_core/ocr_model@v1"), 501, "ocr_model"),
        (&format!("{step}/model_id"), json!("no-such/1"), 503, "no-such/1"),
        (&format!("{step}/model_id"), json!("a/b/c"), 400, "Invalid Model ID"),
        ("/processing_configuration/workflow_specification", json!(null), 400, "workflow_specification"),
    ] {
        let (found, body) = changed(pointer, value);
        let message = body["message"].as_str().unwrap_or_default();
        assert!(found == status && message.contains(word), "{pointer}: {found} {body}");
    }
    let (status, body) = changed("/video_configuration", json!({"type": "VideoConfiguration"}));
    let missing =
        json!({"type": "missing", "loc": ["body", "video_configuration", "video_reference"], "msg": "Field required"});
    assert_eq!((status, body), (422, json!({"detail": [missing]})));
    assert_eq!(ask_as(&api, None, "POST", "initialise", "{").0, StatusCode::UNPROCESSABLE_ENTITY);
    let long = format!("\"{}\"", "x".repeat(ORDER_BYTES_MAX));
    assert_eq!(ask_as(&api, None, "POST", "initialise", &long).0, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(ask(&api, "GET", "list", &json!({})).1["pipelines"], json!([]));
}

#[test]
fn names_of_fields_to_leave_out_come_with_the_query_or_the_body() {
    let call = |query: &str, body: &str| Call {
        path: String::new(),
        query: query.into(),
        content_type: None,
        body: Some(super::super::body::Whole::of(Bytes::from(body.to_owned()))),
        lock: None,
        by: Instant::now(),
    };
    let names = |query, body| excluded(&call(query, body)).unwrap();
    assert_eq!(names("", ""), [""; 0]);
    assert_eq!(names("excluded_fields=a%20b&x=1", r#"{"excluded_fields": ["c"], "api_key": "k"}"#), ["a b", "c"]);
    assert_eq!(names("", r#"{"excluded_fields": null}"#), [""; 0]);
    for body in ["[]", "{", r#"{"excluded_fields": "a"}"#, r#"{"excluded_fields": [1]}"#] {
        assert!(matches!(excluded(&call("", body)), Err(Fault::Invalid(_))), "{body}");
    }
}
