//! Roboflow's HTTP API: routes, bodies and answers over the models of [`crate::serving`].
//!
//! A request's body is read on the thread that serves everybody; all else (JSON, images, inference, the answer's bytes)
//! is done by workers of low priority, so that neither other clients nor the camera loop wait for it.

mod body;
mod fault;
mod fields;
mod head;
mod image;
mod infer;
mod json;
mod lax;
mod legacy;
mod models;
mod pipelines;
mod table;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::{Body, Bytes};
use hyper::header::{self, HeaderName};
use hyper::{HeaderMap, Method, Request, StatusCode};

use body::{Bodies, Unread, Whole};
use fault::Fault;
use table::{Absent, Act, Methods, Route};

pub use body::{REQUEST_BYTES_MAX, REQUESTS_BYTES_MAX};
pub use infer::IMAGES_MAX;

pub(super) use head::stamp;

use super::access::Access;
use super::query;
use super::reply::{Answer, method_not_allowed, preflight};
use crate::serving::pipeline::{Pace, Pipelines};
use crate::serving::{Lease, Models, Usage, Workers};

/// From a body's last byte until its model is there: the largest model loads in half of it on the slowest board, and
/// clients give up after a minute.
pub const TURN_TIME_MAX: Duration = Duration::from_secs(30);

/// What the routes of the API answer from.
#[derive(Debug)]
pub struct Api {
    models: Arc<Models>,
    workers: Arc<Workers>,
    pipelines: Arc<Pipelines>,
    bodies: Bodies,
    /// Directories whose files a request may name.
    dirs: Vec<PathBuf>,
}

/// A request on its way to a worker.
#[derive(Debug)]
struct Call {
    path: String,
    query: String,
    content_type: Option<String>,
    body: Option<Whole>,
    /// Asks for the key that the body may bring, where the head brought none.
    lock: Option<Arc<Access>>,
    /// When it is no longer worth the work.
    by: Instant,
}

impl Call {
    fn body(&self) -> &Bytes {
        static NONE: Bytes = Bytes::new();
        self.body.as_ref().map_or(&NONE, |body| &body.bytes)
    }

    /// Judges the key in the body, before anything else is done with it.
    fn admit(&self) -> Result<(), Box<Answer>> {
        let Some(lock) = &self.lock else { return Ok(()) };
        let members = json::object(self.body(), &|name| name == "api_key").ok().flatten().unwrap_or_default();
        let key = members.into_iter().next_back().and_then(|(_, value)| match value {
            json::Json::Text(key) => Some(key),
            _ => None,
        });
        lock.check_key(key.as_deref())
    }
}

impl Api {
    /// Serves `models` and `pipelines` by `workers`; requests may name files below `dirs`.
    #[must_use]
    pub fn new(models: Arc<Models>, workers: Arc<Workers>, pipelines: Arc<Pipelines>, dirs: Vec<PathBuf>) -> Arc<Self> {
        Arc::new(Self { models, workers, pipelines, bodies: Bodies::default(), dirs })
    }

    /// Whether all models are there that are loaded at the start.
    pub(super) fn ready(&self) -> bool {
        self.models.ready()
    }

    /// Counts of each model since the start.
    pub(super) fn usage(&self) -> Vec<(String, Usage)> {
        self.models.usage()
    }

    /// How fast each pipeline is.
    pub(super) fn paces(&self) -> Vec<Pace> {
        self.pipelines.paces()
    }

    /// Whether a decoded path is one of the API.
    pub(super) fn serves(path: &str) -> bool {
        table::find(path).is_some()
    }

    /// The answer to a request; one whose path is none of the API comes back. `lock` judges the key in its body, where
    /// it needs one.
    pub(super) async fn answer<B>(
        self: &Arc<Self>,
        request: Request<B>,
        lock: Option<Arc<Access>>,
    ) -> Result<Answer, Request<B>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let path = query::path(request.uri().path());
        let Some((route, methods)) = table::find(&path) else { return Err(request) };
        if *request.method() == Method::OPTIONS {
            return Ok(preflight(methods.header()));
        }
        let (parts, body) = request.into_parts();
        if !methods.allow(&parts.method) {
            return Ok(self.refuse_method(&parts.headers, body, methods).await);
        }
        let mut call = Call {
            path,
            query: parts.uri.query().unwrap_or_default().to_owned(),
            content_type: text_of(&parts.headers, header::CONTENT_TYPE),
            body: None,
            lock,
            by: Instant::now(),
        };
        if call.lock.is_some() || reads(&route) {
            match self.bodies.read(&parts.headers, body).await {
                Ok(body) => call.body = Some(body),
                Err(unread) => return Ok(unread.into_answer()),
            }
        } else if let Err(unread) = Bodies::skip(&parts.headers, body).await {
            return Ok(unread.into_answer());
        }
        call.by = Instant::now() + TURN_TIME_MAX;
        Ok(self.dispatch(route, call).await)
    }

    async fn dispatch(self: &Arc<Self>, route: Route, call: Call) -> Answer {
        let at_once = call.lock.is_none();
        match route {
            // What takes no time needs no worker.
            Route::Registry if at_once => models::registry(self),
            Route::Absent(absent) if at_once => refuse(absent, &call.path),
            Route::Registry => self.work(call, |api, _| models::registry(api)).await,
            Route::Absent(absent) => self.work(call, move |_, call| refuse(absent, &call.path)).await,
            Route::Infer(kind) => self.work(call, move |api, call| infer::answer(api, kind, call)).await,
            Route::Legacy(id) => self.work(call, move |api, call| legacy::answer(api, call, &id)).await,
            Route::Start(id) => self.work(call, move |api, call| models::start(api, call, &id)).await,
            Route::Add => self.work(call, models::add).await,
            Route::Remove => self.work(call, models::remove).await,
            Route::Clear => self.work(call, |api, _| models::clear(api)).await,
            Route::ClearCache => self.work(call, |api, _| models::clear_cache(api)).await,
            Route::Models => self.work(call, |api, _| models::cached(api)).await,
            Route::Pipelines(act) => pipelines::answer(self, act, call).await,
        }
    }

    /// Has a worker answer. A client that leaves before its turn costs nothing more.
    async fn work(self: &Arc<Self>, call: Call, job: impl FnOnce(&Self, &Call) -> Answer + Send + 'static) -> Answer {
        let api = self.clone();
        let job = move || {
            if Instant::now() > call.by {
                return Fault::busy("the request waited too long for its turn").into_answer();
            }
            match call.admit() {
                Ok(()) => job(&api, &call),
                Err(refused) => *refused,
            }
        };
        self.workers.run(job).await.unwrap_or_else(|refused| Fault::from(refused).into_answer())
    }

    /// A session of a model, and a note of who asked for it by which name.
    fn lease(&self, id: &str, path: &str, by: Instant) -> Result<Lease, Fault> {
        let lease = self.models.lease(id, by)?;
        self.models.note_request(id, path);
        Ok(lease)
    }

    async fn refuse_method<B>(&self, headers: &HeaderMap, body: B, methods: Methods) -> Answer
    where
        B: Body<Data = Bytes> + Unpin,
    {
        match Bodies::skip(headers, body).await {
            Ok(()) => method_not_allowed(methods.header()),
            Err(unread) => Unread::into_answer(unread),
        }
    }
}

/// Whether a route looks at the body, besides for a key.
fn reads(route: &Route) -> bool {
    match route {
        Route::Infer(_) | Route::Legacy(_) | Route::Add | Route::Remove => true,
        Route::Pipelines(act) => matches!(act, Act::Initialise | Act::Consume(_)),
        _ => false,
    }
}

fn text_of(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// Says by name what is not done here.
fn refuse(absent: Absent, path: &str) -> Answer {
    const SERVED: &str =
        "this server answers for detection, segmentation, key point and classification models of its cache";
    let (status, message) = match absent {
        Absent::Workflows => (StatusCode::NOT_IMPLEMENTED, format!("Workflows are not run here: {SERVED}.")),
        Absent::WebRtc => (StatusCode::NOT_IMPLEMENTED, "WebRTC is not spoken here; see /stream.mjpeg.".to_owned()),
        Absent::Notebook => (StatusCode::NOT_IMPLEMENTED, "There is no notebook here.".to_owned()),
        Absent::Gaze => {
            (StatusCode::GONE, "Gaze detection is gone from Roboflow's server, and was never here.".to_owned())
        }
        Absent::Model(name) => {
            (StatusCode::NOT_IMPLEMENTED, format!("{path} needs {name}, which is not run here: {SERVED}."))
        }
    };
    Fault::told(status, message).into_answer()
}
