//! What is answered where. Paths and bodies are those of Roboflow's server where it has them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use hyper::body::{Body, Bytes};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use serde::Serialize;

use super::access::{Access, Gate, is_health};
use super::api::{self, Api};
use super::connection::BODY_BYTES_MAX;
use super::device::{self, DeviceAccess};
use super::exposition;
use super::metrics::{self, Served};
use super::page::{FAVICON, Page, openapi};
use super::query;
use super::reply::{Answer, METHODS, NO_STORE, detail, json, method_not_allowed, preflight, with_type};
use super::snapshot::{Pictures, Snapshot};
use super::stream::Live;
use super::traffic::{self, Exchange, Traffic};
use crate::pipeline::status::{Board, RENDERED_BYTES_MAX};
use crate::pipeline::telemetry::Telemetry;

/// Beside health, whose body is Roboflow's: good inferences so far, for a gate that has no token for the status.
pub const INFERENCES: HeaderName = HeaderName::from_static("firstlight-inferences");

/// What this server says of itself on `/info`.
#[derive(Clone, Debug, Serialize)]
pub struct ServerFacts {
    /// Of the binary.
    pub version: String,
    /// Names this process to a client that keeps several apart; Roboflow's is six letters.
    pub uuid: String,
}

/// Everything the routes answer from.
pub struct Routes {
    telemetry: Arc<Telemetry>,
    pictures: Arc<Pictures>,
    live: Live,
    version: String,
    info: Bytes,
    page: Page,
    docs: Page,
    access: DeviceAccess,
    lock: Arc<Access>,
    api: Option<Arc<Api>>,
    traffic: Traffic,
}

impl std::fmt::Debug for Routes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Routes").field("version", &self.version).finish_non_exhaustive()
    }
}

/// A path that is served.
#[derive(Clone, Copy)]
enum Route {
    Page,
    Docs,
    OpenApi,
    Favicon,
    Healthz,
    Readiness,
    Info,
    Status,
    Metrics,
    Snapshot,
    Stream,
    DeviceStats,
    Logs,
}

/// A request that waits for its answer.
struct Arrival {
    at: Instant,
    method: Method,
    handler: &'static str,
    /// As it states.
    bytes: u64,
}

impl Route {
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/" => Self::Page,
            "/docs" => Self::Docs,
            "/openapi.json" => Self::OpenApi,
            "/favicon.ico" => Self::Favicon,
            "/healthz" => Self::Healthz,
            "/readiness" => Self::Readiness,
            "/info" => Self::Info,
            "/status" => Self::Status,
            "/metrics" => Self::Metrics,
            "/snapshot.jpg" => Self::Snapshot,
            "/stream.mjpeg" => Self::Stream,
            "/device/stats" => Self::DeviceStats,
            "/logs" => Self::Logs,
            _ => return None,
        })
    }
}

impl Routes {
    /// Routes that read `telemetry` and show the pictures of `snapshot`.
    #[must_use]
    pub fn new(telemetry: Arc<Telemetry>, snapshot: Arc<dyn Snapshot>, facts: ServerFacts) -> Self {
        #[derive(Serialize)]
        struct Info<'a> {
            name: &'a str,
            #[serde(flatten)]
            facts: &'a ServerFacts,
        }
        let info = serde_json::to_vec(&Info { name: "Firstlight", facts: &facts }).expect("strings are JSON");
        let pictures = Arc::new(Pictures::new(snapshot));
        Self {
            telemetry,
            live: Live::new(pictures.clone()),
            pictures,
            version: facts.version,
            info: info.into(),
            page: Page::main(),
            docs: Page::docs(),
            access: DeviceAccess::default(),
            lock: Arc::default(),
            api: None,
            traffic: Traffic::default(),
        }
    }

    /// Lets those who may act on the device; without this nobody may.
    #[must_use]
    pub fn with_access(mut self, access: DeviceAccess) -> Self {
        self.access = access;
        self
    }

    /// Locks everything but health to those who bring no token; without this everybody may ask.
    #[must_use]
    pub fn with_lock(mut self, lock: Access) -> Self {
        self.lock = Arc::new(lock);
        self
    }

    /// Serves models to clients; without this nobody may infer.
    #[must_use]
    pub fn with_api(mut self, api: Arc<Api>) -> Self {
        self.api = Some(api);
        self
    }

    pub(super) fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    /// The answer to one request of `peer`. Waits for nothing but the encoder, where a picture is asked for, for an
    /// update, and for the workers of the API.
    pub(super) async fn answer<B>(&self, peer: Option<SocketAddr>, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let arrival = self.arrival(&request);
        let answer = self.answer_route(peer, request).await;
        self.count(arrival, &answer);
        answer
    }

    async fn answer_route<B>(&self, peer: Option<SocketAddr>, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let route = Route::of(request.uri().path());
        if let Some(peer) = peer.filter(|_| route.is_none() && device::is_ours(request.uri().path())) {
            let (status, body) = device::answer(&self.access, peer, request).await;
            return json(status, body.to_string());
        }
        let mut answer = match route {
            Some(route) => self.answer_read(route, &request).await,
            None => self.answer_api(request).await,
        };
        api::stamp(answer.headers_mut());
        answer
    }

    /// The answer at an address where only health is asked for.
    pub(super) fn answer_health<B>(&self, request: &Request<B>) -> Answer {
        let arrival = self.arrival(request);
        let route = Route::of(request.uri().path()).filter(|_| is_health(request.uri().path()));
        let answer = match (route, request.method()) {
            (None, _) => detail(StatusCode::NOT_FOUND, r#"{"detail":"Not Found"}"#),
            (Some(Route::Healthz), &Method::GET | &Method::HEAD) => self.healthz(),
            (Some(_), &Method::GET | &Method::HEAD) => self.readiness(),
            (Some(_), &Method::OPTIONS) => preflight(METHODS),
            (Some(_), _) => method_not_allowed(METHODS),
        };
        self.count(arrival, &answer);
        answer
    }

    /// What is counted of a request once it is answered, and gone.
    fn arrival<B>(&self, request: &Request<B>) -> Arrival {
        let path = request.uri().path();
        let handler = match (traffic::own(path), query::path(path)) {
            (traffic::NONE, path) if self.api.is_some() && Api::serves(&path) => traffic::of_api(&path),
            (own, _) => own,
        };
        let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        Arrival { at: Instant::now(), method: request.method().clone(), handler, bytes: length.unwrap_or(0) }
    }

    fn count(&self, arrival: Arrival, answer: &Answer) {
        let exchange = Exchange {
            handler: arrival.handler,
            status: answer.status(),
            request_bytes: arrival.bytes,
            answer_bytes: answer.body().size_hint().exact().unwrap_or(0),
            took: arrival.at.elapsed(),
        };
        self.traffic.count(&arrival.method, exchange);
    }

    async fn answer_api<B>(&self, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let lock = match self.lock.check_head(&request) {
            Gate::Pass => None,
            Gate::Refused(answer) => return answer,
            Gate::NeedsBodyKey => Some(self.lock.clone()),
        };
        let request = match &self.api {
            Some(api) => match api.answer(request, lock.clone()).await {
                Ok(answer) => return answer,
                Err(request) => request,
            },
            None => request,
        };
        // Nothing is there to bring a key to, and who has none need not know that.
        let refused = lock.and_then(|lock| lock.check_key(None).err());
        drop(request);
        refused.map_or_else(|| detail(StatusCode::NOT_FOUND, r#"{"detail":"Not Found"}"#), |refused| *refused)
    }

    async fn answer_read<B: Body>(&self, route: Route, request: &Request<B>) -> Answer {
        let refused = match self.lock.check_head(request) {
            Gate::Pass => None,
            Gate::Refused(answer) => Some(answer),
            // What is read here has no body that could bring a key.
            Gate::NeedsBodyKey => self.lock.check_key(None).err().map(|refused| *refused),
        };
        if let Some(refused) = refused {
            return refused;
        }
        // A body of unknown length counts as too large: reading it to find out is what the limit is there to avoid.
        if request.body().size_hint().upper().is_none_or(|bytes| bytes > BODY_BYTES_MAX) {
            return detail(StatusCode::PAYLOAD_TOO_LARGE, r#"{"detail":"Content Too Large"}"#);
        }
        match *request.method() {
            // hyper sends the same head and no body for HEAD.
            Method::GET | Method::HEAD => self.get(route, request).await,
            Method::OPTIONS => preflight(METHODS),
            _ => method_not_allowed(METHODS),
        }
    }

    async fn get<B>(&self, route: Route, request: &Request<B>) -> Answer {
        match route {
            Route::Page => self.page.answer(request.headers().get(header::IF_NONE_MATCH)),
            Route::Docs => self.docs.answer(request.headers().get(header::IF_NONE_MATCH)),
            Route::OpenApi => json(StatusCode::OK, openapi()),
            Route::Favicon => with_type(StatusCode::OK, "image/svg+xml", FAVICON),
            Route::Healthz => self.healthz(),
            Route::Readiness => self.readiness(),
            Route::Info => json(StatusCode::OK, self.info.clone()),
            Route::Status => {
                let mut buffer = [0; RENDERED_BYTES_MAX];
                let document = self.telemetry.status();
                json(StatusCode::OK, Bytes::copy_from_slice(document.render(&mut buffer)))
            }
            Route::Metrics => {
                let served = self.api.as_ref().map(|api| Served { usage: api.usage(), streams: api.paces() });
                let text = metrics::render(&self.telemetry, &self.version, served.as_ref(), &self.traffic);
                with_type(StatusCode::OK, exposition::CONTENT_TYPE, text)
            }
            Route::Snapshot => self.snapshot().await,
            Route::Stream => self.live.answer().await,
            Route::DeviceStats => json(StatusCode::OK, self.device_stats()),
            Route::Logs => with_type(StatusCode::OK, "text/plain; charset=utf-8", device::log_text()),
        }
    }

    fn healthz(&self) -> Answer {
        #[derive(Serialize)]
        struct Unhealthy<'a> {
            status: &'a str,
            reason: &'a str,
        }
        let health = self.telemetry.health();
        let mut answer = if health.flowing {
            json(StatusCode::OK, r#"{"status":"healthy"}"#)
        } else {
            let reasons: Vec<&str> = health.reasons.iter().map(|reason| reason.as_str()).collect();
            let unhealthy = Unhealthy { status: "unhealthy", reason: &reasons.join("; ") };
            json(StatusCode::SERVICE_UNAVAILABLE, serde_json::to_vec(&unhealthy).expect("strings are JSON"))
        };
        answer.headers_mut().insert(INFERENCES, HeaderValue::from(self.telemetry.frames()));
        answer
    }

    fn readiness(&self) -> Answer {
        if self.telemetry.frames() > 0 && self.api.as_ref().is_none_or(|api| api.ready()) {
            return json(StatusCode::OK, r#"{"status":"ready"}"#);
        }
        json(StatusCode::SERVICE_UNAVAILABLE, r#"{"status":"not ready"}"#)
    }

    /// What Roboflow's server tells of its container, this one tells of its board.
    fn device_stats(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Stats<'a> {
            board: &'a Board,
            processors: usize,
            uptime_s: f64,
            memory_used_mb: u64,
            memory_total_mb: u64,
        }
        let status = self.telemetry.status();
        let memory = nix::sys::sysinfo::sysinfo().ok();
        let mb = |bytes: Option<u64>| bytes.unwrap_or(0) / 1_000_000;
        let total = memory.as_ref().map(|info| info.ram_total());
        let used = memory.as_ref().map(|info| info.ram_total().saturating_sub(info.ram_unused()));
        let stats = Stats {
            board: &status.board,
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            uptime_s: status.boot.uptime_s,
            memory_used_mb: mb(used),
            memory_total_mb: mb(total),
        };
        serde_json::to_vec(&stats).expect("numbers and texts are JSON")
    }

    async fn snapshot(&self) -> Answer {
        match self.pictures.newest().await {
            Ok(picture) => {
                let mut answer = with_type(StatusCode::OK, "image/jpeg", picture.jpeg);
                answer.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
                answer
            }
            Err(missing) => missing.answer(),
        }
    }
}
