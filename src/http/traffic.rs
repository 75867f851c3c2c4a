//! What this server was asked and how it answered, for `/metrics`, in the families of Roboflow's server.
//!
//! Whatever clients send, the figures take no more memory than there are handlers, methods and classes of status: paths
//! are counted by the pattern that they match, and those that match none together. A client that leaves before its
//! answer is there is not counted.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use hyper::{Method, StatusCode};

use super::exposition::{Exposition, Kind, Labels};

/// Handler of all paths that are none of ours.
pub(super) const NONE: &str = "none";
/// What is answered with and without the API.
#[rustfmt::skip]
const OWN: [&str; 20] = [
    "/", "/docs", "/openapi.json", "/favicon.ico", "/healthz", "/readiness", "/info", "/status", "/metrics",
    "/snapshot.jpg", "/stream.mjpeg", "/device/stats", "/logs", "/device/reboot", "/device/update", "/device/slot",
    "/device/slot/try", "/device/slot/revert", "/device/bundle", "/device/bundle/rollback",
];
/// What is answered by the API, served or refused by name.
#[rustfmt::skip]
const API: [&str; 59] = [
    "/infer/object_detection", "/infer/instance_segmentation", "/infer/keypoints_detection", "/infer/classification",
    "/infer/semantic_segmentation", "/model/registry", "/model/add", "/model/remove", "/model/clear", "/clear_cache",
    "/models", "/inference_pipelines/list", "/inference_pipelines/initialise", "/inference_pipelines/initialise_webrtc",
    "/initialise_webrtc_worker", "/webrtc/session/heartbeat", "/webrtc/session/heartbeat/end", "/notebook/start",
    "/gaze/gaze_detection", "/infer/lmm", "/infer/depth-estimation", "/infer/action_recognition", "/infer/embeddings",
    "/clip/embed_image", "/clip/embed_text", "/clip/compare", "/perception_encoder/embed_image",
    "/perception_encoder/embed_text", "/perception_encoder/compare", "/grounding_dino/infer", "/yolo_world/infer",
    "/owlv2/infer", "/doctr/ocr", "/easy_ocr/ocr", "/ocr/trocr", "/ocr/pp-ocr", "/sam/embed_image",
    "/sam/segment_image", "/sam2/embed_image", "/sam2/segment_image", "/sam3/embed_image", "/sam3/concept_segment",
    "/sam3/visual_segment", "/sam3_3d/infer", "/infer/workflows", "/workflows/run", "/workflows/validate",
    "/workflows/describe_interface", "/workflows/describe_workload", "/workflows/execution_engine/versions",
    "/workflows/blocks/describe", "/workflows/blocks/dynamic_outputs", "/workflows/definition/schema",
    "/infer/lmm/{model_id:path}", "/infer/depth-estimation/{model_id:path}",
    "/infer/workflows/{workspace_name}/{workflow_id}", "/{workspace_name}/workflows/{workflow_id}",
    "/{workspace_name}/workflows/{workflow_id}/describe_interface",
    "/{workspace_name}/workflows/{workflow_id}/describe_workload",
];
/// The same with a part that is the client's; the first that matches counts.
#[rustfmt::skip]
const API_LAST: [&str; 8] = [
    "/start/{dataset_id}/{version_id}", "/inference_pipelines/{pipeline_id}/status",
    "/inference_pipelines/{pipeline_id}/consume", "/inference_pipelines/{pipeline_id}/pause",
    "/inference_pipelines/{pipeline_id}/resume", "/inference_pipelines/{pipeline_id}/terminate",
    "/inference_pipelines/{pipeline_id}/snapshot.jpg", "/{dataset_id}/{version_id:str}",
];
/// Any other is counted as [`OTHER`]: HTTP lets clients invent methods.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];
const OTHER: &str = "OTHER";
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// Upper bounds of the histogram over all handlers, seconds.
#[rustfmt::skip]
const FINE_S: [f64; 21] = [
    0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 7.5, 10.0, 30.0, 60.0,
];
/// Upper bounds of each handler's, seconds.
const COARSE_S: [f64; 3] = [0.1, 0.5, 1.0];

/// The handler of a path that the routes without the API have.
pub(super) fn own(path: &str) -> &'static str {
    OWN.into_iter().find(|name| *name == path).unwrap_or(NONE)
}

/// The handler of a decoded path that the API answers.
pub(super) fn of_api(path: &str) -> &'static str {
    let all = || API.into_iter().chain(API_LAST);
    all().find(|name| *name == path).or_else(|| all().find(|name| matches(name, path))).unwrap_or(NONE)
}

/// Whether a path is one of a pattern, step by step.
fn matches(pattern: &str, path: &str) -> bool {
    let mut steps = path.split('/');
    for wanted in pattern.split('/') {
        match steps.next() {
            Some(step) if !step.is_empty() && wanted.ends_with(":path}") => return true,
            Some(step) if step == wanted || !step.is_empty() && wanted.starts_with('{') => {}
            _ => return false,
        }
    }
    steps.next().is_none()
}

/// One request and its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    pub handler: &'static str,
    pub status: StatusCode,
    /// As the request states it, bytes; 0 where it does not.
    pub request_bytes: u64,
    /// 0 where it is not known when the head is sent, as that of a stream.
    pub answer_bytes: u64,
    /// Until the answer's head was there.
    pub took: Duration,
}

#[derive(Debug)]
struct Histogram<const N: usize> {
    /// Not cumulative; those above the last bound are only in `count`.
    buckets: [u64; N],
    count: u64,
    sum_s: f64,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self { buckets: [0; N], count: 0, sum_s: 0.0 }
    }
}

impl<const N: usize> Histogram<N> {
    fn add(&mut self, bounds_s: &[f64; N], took: Duration) {
        let took_s = took.as_secs_f64();
        self.count += 1;
        self.sum_s += took_s;
        if let Some(bucket) = bounds_s.iter().position(|bound_s| took_s <= *bound_s) {
            self.buckets[bucket] += 1;
        }
    }

    fn write(&self, out: &mut Exposition, name: &str, bounds_s: &[f64; N], labels: &Labels<'_>) {
        let (bucket, mut cumulative) = (format!("{name}_bucket"), 0);
        for (bound_s, count) in bounds_s.iter().zip(self.buckets) {
            cumulative += count;
            // As Python writes them: a whole number has its ".0".
            out.sample(&bucket, &[labels, &[("le", &format!("{bound_s:?}"))]].concat(), cumulative);
        }
        out.sample(&bucket, &[labels, &[("le", &"+Inf")]].concat(), self.count);
        out.sample(&format!("{name}_count"), labels, self.count);
        out.sample(&format!("{name}_sum"), labels, self.sum_s);
    }
}

/// Figures of one handler.
#[derive(Debug, Default)]
struct Handled {
    request_bytes: u64,
    answer_bytes: u64,
    took: Histogram<{ COARSE_S.len() }>,
}

#[derive(Debug, Default)]
struct Counts {
    /// By handler, method and class of status; each of these is a constant of this file.
    requests: BTreeMap<[&'static str; 3], u64>,
    handlers: BTreeMap<&'static str, Handled>,
    took: Histogram<{ FINE_S.len() }>,
}

/// All exchanges since the start. Of the one thread that serves everybody.
#[derive(Debug, Default)]
pub(super) struct Traffic(RefCell<Counts>);

impl Traffic {
    pub(super) fn count(&self, method: &Method, exchange: Exchange) {
        let method = METHODS.into_iter().find(|name| *name == method.as_str()).unwrap_or(OTHER);
        let class = usize::from(exchange.status.as_u16() / 100).clamp(1, CLASSES.len());
        let mut counts = self.0.borrow_mut();
        *counts.requests.entry([exchange.handler, method, CLASSES[class - 1]]).or_default() += 1;
        counts.took.add(&FINE_S, exchange.took);
        let handled = counts.handlers.entry(exchange.handler).or_default();
        // The length is the client's word.
        handled.request_bytes = handled.request_bytes.saturating_add(exchange.request_bytes);
        handled.answer_bytes += exchange.answer_bytes;
        handled.took.add(&COARSE_S, exchange.took);
    }

    pub(super) fn write(&self, out: &mut Exposition) {
        const FINE: &str = "http_request_duration_highr_seconds";
        const COARSE: &str = "http_request_duration_seconds";
        let counts = self.0.borrow();
        out.family(Kind::Counter, "http_requests_total", "Total number of requests by method, status and handler.");
        for ([handler, method, status], count) in &counts.requests {
            out.sample("http_requests_total", &[("handler", handler), ("method", method), ("status", status)], count);
        }
        let incoming = "Content length of incoming requests by handler. Without the header it counts as 0.";
        sizes(out, "http_request_size_bytes", incoming, &counts, |handled| handled.request_bytes);
        let outgoing = "Content length of outgoing responses by handler. That of a stream counts as 0.";
        sizes(out, "http_response_size_bytes", outgoing, &counts, |handled| handled.answer_bytes);
        out.family(Kind::Histogram, FINE, "Latency with many buckets over all handlers.");
        counts.took.write(out, FINE, &FINE_S, &[]);
        out.family(Kind::Histogram, COARSE, "Latency with few buckets by handler.");
        for (handler, handled) in &counts.handlers {
            handled.took.write(out, COARSE, &COARSE_S, &[("handler", handler)]);
        }
    }
}

fn sizes(out: &mut Exposition, name: &str, help: &str, counts: &Counts, bytes: impl Fn(&Handled) -> u64) {
    out.family(Kind::Summary, name, help);
    for (handler, handled) in &counts.handlers {
        out.sample(&format!("{name}_count"), &[("handler", handler)], handled.took.count);
        out.sample(&format!("{name}_sum"), &[("handler", handler)], bytes(handled));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Api;

    fn exchange(handler: &'static str, took_ms: u64) -> Exchange {
        let took = Duration::from_millis(took_ms);
        Exchange { handler, status: StatusCode::OK, request_bytes: 100, answer_bytes: 7, took }
    }

    #[test]
    fn paths_are_counted_by_their_patterns() {
        for (path, handler) in [
            ("/infer/object_detection", "/infer/object_detection"),
            ("/parts/3", "/{dataset_id}/{version_id:str}"),
            ("/start/parts/3", "/start/{dataset_id}/{version_id}"),
            ("/inference_pipelines/a-b/status", "/inference_pipelines/{pipeline_id}/status"),
            ("/infer/lmm/florence-2/1", "/infer/lmm/{model_id:path}"),
            ("/my-ws/workflows/my-flow", "/{workspace_name}/workflows/{workflow_id}"),
            ("/infer/workflows/a/b", "/infer/workflows/{workspace_name}/{workflow_id}"),
            ("/parts/", NONE),
            ("/a/b/c", NONE),
            ("", NONE),
        ] {
            assert_eq!(of_api(path), handler, "{path}");
        }
        for path in API.into_iter().filter(|name| !name.contains('{')) {
            assert!(Api::serves(path) && of_api(path) == path, "{path}");
        }
        assert_eq!((own("/healthz"), own("/healthy")), ("/healthz", NONE));
    }

    #[test]
    fn an_exchange_is_in_every_family() {
        let traffic = Traffic::default();
        traffic.count(&Method::GET, exchange("/healthz", 20));
        traffic.count(&Method::GET, exchange("/healthz", 700));
        traffic.count(&Method::POST, Exchange { status: StatusCode::NOT_FOUND, ..exchange(NONE, 90_000) });
        let mut out = Exposition::new();
        traffic.write(&mut out);
        let text = out.into_text();
        for line in [
            r#"http_requests_total{handler="/healthz",method="GET",status="2xx"} 2"#,
            r#"http_requests_total{handler="none",method="POST",status="4xx"} 1"#,
            r#"http_request_size_bytes_count{handler="/healthz"} 2"#,
            r#"http_request_size_bytes_sum{handler="/healthz"} 200"#,
            r#"http_response_size_bytes_sum{handler="none"} 7"#,
            r#"http_request_duration_highr_seconds_bucket{le="0.01"} 0"#,
            r#"http_request_duration_highr_seconds_bucket{le="0.025"} 1"#,
            r#"http_request_duration_highr_seconds_bucket{le="60.0"} 2"#,
            r#"http_request_duration_highr_seconds_bucket{le="+Inf"} 3"#,
            "http_request_duration_highr_seconds_count 3",
            r#"http_request_duration_seconds_bucket{handler="/healthz",le="0.1"} 1"#,
            r#"http_request_duration_seconds_bucket{handler="/healthz",le="1.0"} 2"#,
            r#"http_request_duration_seconds_bucket{handler="none",le="1.0"} 0"#,
            r#"http_request_duration_seconds_sum{handler="none"} 90"#,
        ] {
            assert_eq!(text.lines().filter(|found| *found == line).count(), 1, "{line} in {text}");
        }
    }

    #[test]
    fn nothing_that_a_client_sends_makes_the_figures_grow() {
        let traffic = Traffic::default();
        for number in 0..100 {
            let method = Method::from_bytes(format!("M{number}").as_bytes()).unwrap();
            let handler = of_api(&format!("/a{number}/{number}"));
            traffic.count(&method, Exchange { request_bytes: u64::MAX, ..exchange(handler, 1) });
        }
        let counts = traffic.0.borrow();
        assert_eq!((counts.requests.len(), counts.handlers.len()), (1, 1));
        assert_eq!(counts.requests[&["/{dataset_id}/{version_id:str}", OTHER, "2xx"]], 100);
    }
}
