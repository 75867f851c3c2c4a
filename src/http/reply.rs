//! The answers that all routes are made of: JSON, FastAPI's errors, a body of a stated type.

use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};

use super::payload::Payload;

pub(super) const JSON: &str = "application/json";
/// The methods of the routes that only read.
pub(super) const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");
/// How long a browser may remember a preflight's answer: Starlette's default, which Roboflow's server uses.
const PREFLIGHT_SECONDS: HeaderValue = HeaderValue::from_static("600");
/// The headers that a page of another origin may send: all, and the one that browsers do not count among all.
const ALLOWED_HEADERS: HeaderValue = HeaderValue::from_static("*, Authorization");
/// Live answers are stale as soon as they are sent.
pub(super) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

pub(super) type Answer = Response<Payload>;

pub(super) fn with_type(status: StatusCode, content_type: &'static str, body: impl Into<Payload>) -> Answer {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// A live JSON answer, for pages of any origin, as Roboflow's server allows by default.
pub(super) fn json(status: StatusCode, body: impl Into<Payload>) -> Answer {
    let mut answer = with_type(status, JSON, body);
    let headers = answer.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    answer
}

/// An error answer, in FastAPI's words where FastAPI has some.
pub(super) fn detail(status: StatusCode, body: &'static str) -> Answer {
    json(status, Bytes::from_static(body.as_bytes()))
}

/// FastAPI's 405, with the `methods` that the path has.
pub(super) fn method_not_allowed(methods: HeaderValue) -> Answer {
    let mut answer = detail(StatusCode::METHOD_NOT_ALLOWED, r#"{"detail":"Method Not Allowed"}"#);
    answer.headers_mut().insert(header::ALLOW, methods);
    answer
}

/// The answer to a browser that asks which `methods` a page of another origin may use.
pub(super) fn preflight(methods: HeaderValue) -> Answer {
    let mut answer = json(StatusCode::OK, Bytes::new());
    let headers = answer.headers_mut();
    headers.insert(header::ALLOW, methods.clone());
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS);
    answer
}
