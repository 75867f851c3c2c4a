//! The headers that Roboflow's server puts on its answers.

use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::{self, HeaderName, HeaderValue};
use serde_json::json;

use crate::http::reply::Answer;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const ENGINE: HeaderName = HeaderName::from_static("x-inference-engine");
const COLD_START: HeaderName = HeaderName::from_static("x-model-cold-start");
const COLD_START_COUNT: HeaderName = HeaderName::from_static("x-model-cold-start-count");
const MODEL_ID: HeaderName = HeaderName::from_static("x-model-id");
const LOAD_TIME: HeaderName = HeaderName::from_static("x-model-load-time");
const LOAD_DETAILS: HeaderName = HeaderName::from_static("x-model-load-details");

/// Says which model was asked for, and how long its load took where the request waited for it.
pub(super) fn name_model(answer: &mut Answer, id: &str, loaded_in: Option<Duration>) {
    let headers = answer.headers_mut();
    // An id that is no text of a header names no model either.
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(MODEL_ID, value);
    }
    let Some(seconds) = loaded_in.map(|time| time.as_secs_f64()) else { return };
    let details = format!("[{}]", json!({"m": id, "t": seconds}));
    headers.insert(COLD_START, HeaderValue::from_static("true"));
    headers.insert(COLD_START_COUNT, HeaderValue::from(1));
    for (name, text) in [(LOAD_TIME, seconds.to_string()), (LOAD_DETAILS, details)] {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    }
}

/// What every answer says.
pub(in crate::http) fn stamp(headers: &mut HeaderMap) {
    let mut id = [0; uuid::fmt::Simple::LENGTH];
    let id = uuid::Uuid::new_v4().simple().encode_lower(&mut id);
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(ENGINE, HeaderValue::from_static("firstlight"));
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    headers.entry(header::ACCESS_CONTROL_ALLOW_ORIGIN).or_insert(HeaderValue::from_static("*"));
    headers.entry(COLD_START).or_insert(HeaderValue::from_static("false"));
    headers.entry(COLD_START_COUNT).or_insert(HeaderValue::from(0));
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;
    use crate::http::reply::json as reply;

    #[test]
    fn a_cold_start_is_told_with_its_time() {
        let mut answer = reply(StatusCode::OK, "{}");
        name_model(&mut answer, "parts/1", Some(Duration::from_millis(250)));
        stamp(answer.headers_mut());
        let header = |name: &str| answer.headers()[name].to_str().unwrap();
        assert_eq!((header("x-model-id"), header("x-model-load-time")), ("parts/1", "0.25"));
        assert_eq!(header("x-model-load-details"), r#"[{"m":"parts/1","t":0.25}]"#);
        assert_eq!((header("x-model-cold-start"), header("x-model-cold-start-count")), ("true", "1"));
        assert_eq!((header("x-request-id").len(), header("vary")), (32, "Origin"));
    }

    #[test]
    fn an_id_that_no_header_can_hold_is_left_out() {
        let mut answer = reply(StatusCode::OK, "{}");
        name_model(&mut answer, "a\r\nset-cookie: b", None);
        stamp(answer.headers_mut());
        assert!(!answer.headers().contains_key("x-model-id"));
        assert_eq!(answer.headers()["x-model-cold-start"], "false");
    }
}
