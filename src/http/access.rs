//! Who may ask: everybody, or who brings a token. Health is for all, and so are pages that hold no data.
//!
//! [`Access::check_head`] judges a request before its body is read. Where a JSON body may bring the key, as the client
//! library of Roboflow sends it by default, the verdict is [`Gate::NeedsBodyKey`]: whoever reads the body asks
//! [`Access::check_key`] before doing anything else with it.
//! Only digests of tokens are known here. No token, right or wrong, is ever written anywhere.

use std::hint::black_box;
use std::net::SocketAddr;

use hyper::body::Body;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, StatusCode};

use super::query;
use super::reply::{Answer, JSON, detail, json};
use crate::cache::digest;
use crate::config::{AccessMode, HttpConfig};

/// What the page for people needs before anybody has typed a token: none of it holds data.
const OPEN_PATHS: [&str; 4] = ["/", "/docs", "/openapi.json", "/favicon.ico"];
/// Locked for no one: a monitor that lacks a token must not restart a healthy device.
const HEALTH_PATHS: [&str; 2] = ["/healthz", "/readiness"];

/// Without a key, or with a wrong one.
const UNAUTHORIZED: &str = "{\"message\":\"missing or wrong key: expected a token of this device, as \
    `Authorization: Bearer TOKEN`, as `api_key=TOKEN` in the address or as `api_key` in the JSON body\"}";
/// Why no key would do, and what to do about it.
pub const SHUT: &str = "locked for everything but health: it listens beyond loopback and no token is configured; set \
    http.tokens_sha256, or http.access = `open` to let everybody in";

/// Who may use the port.
#[derive(Default)]
pub struct Access {
    /// `None`: everybody.
    locked: Option<Vec<String>>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("locked", &self.locked.is_some()).finish_non_exhaustive()
    }
}

/// What is known of a request once its head is there.
#[derive(Debug)]
pub(super) enum Gate {
    Pass,
    Refused(Answer),
    /// Its JSON body may bring the key: read it, then ask [`Access::check_key`].
    NeedsBodyKey,
}

impl Access {
    /// What a configuration lets in at the address `listen`; the device's own token opens everything.
    #[must_use]
    pub fn new(config: &HttpConfig, device_token_sha256: Option<&str>, listen: SocketAddr) -> Self {
        let open = match config.access {
            AccessMode::Open => true,
            AccessMode::Token => false,
            AccessMode::Auto => listen.ip().to_canonical().is_loopback(),
        };
        let tokens = config.tokens_sha256.iter().map(String::as_str).chain(device_token_sha256);
        Self { locked: (!open).then(|| tokens.map(str::to_lowercase).collect()) }
    }

    /// Whether nobody may: it is locked, and there is no token.
    #[must_use]
    pub fn is_shut(&self) -> bool {
        self.locked.as_ref().is_some_and(Vec::is_empty)
    }

    /// Judges a request by its head. A key in the address comes before one in the header, that before one in the body:
    /// the order of Roboflow's server.
    pub(super) fn check_head<B: Body>(&self, request: &Request<B>) -> Gate {
        let path = request.uri().path();
        // A browser's preflight cannot bring a key.
        let unlocked = OPEN_PATHS.contains(&path) || is_health(path) || *request.method() == Method::OPTIONS;
        if self.locked.is_none() || unlocked {
            return Gate::Pass;
        }
        let of_query = request.uri().query().and_then(|query| query::pairs(query).find(|(name, _)| name == "api_key"));
        let of_query = of_query.map(|(_, key)| key).filter(|key| !key.is_empty());
        let of_header = || bearer(request.headers().get(header::AUTHORIZATION));
        let key = of_query.as_deref().or_else(of_header);
        if key.is_none() && !self.is_shut() && may_bring_json(request) {
            return Gate::NeedsBodyKey;
        }
        self.check_key(key).map_or_else(Gate::Refused, |()| Gate::Pass)
    }

    /// Judges a key, wherever it was found.
    ///
    /// # Errors
    /// The answer: 401, or 403 where no key would do.
    pub(super) fn check_key(&self, key: Option<&str>) -> Result<(), Answer> {
        let Some(tokens) = &self.locked else { return Ok(()) };
        if tokens.is_empty() {
            return Err(json(StatusCode::FORBIDDEN, format!("{{\"message\":\"{SHUT}\"}}")));
        }
        let key = key.filter(|key| !key.is_empty());
        let found = digest::sha256(key.unwrap_or_default().as_bytes());
        // All of them, also after the right one: how long it takes does not say which that is.
        let matches = tokens.iter().fold(false, |any, token| any | same(&found, token));
        if matches && key.is_some() {
            return Ok(());
        }
        let mut answer = detail(StatusCode::UNAUTHORIZED, UNAUTHORIZED);
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Err(answer)
    }
}

/// Whether a path is one of health.
pub(super) fn is_health(path: &str) -> bool {
    HEALTH_PATHS.contains(&path)
}

/// The token of an `Authorization: Bearer TOKEN`.
pub(super) fn bearer(header: Option<&HeaderValue>) -> Option<&str> {
    let (scheme, token) = header?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_matches(' '))
}

/// Whether two texts are equal. All of both is looked at: how long it takes says only whether their lengths are.
pub(super) fn same(a: &str, b: &str) -> bool {
    let difference = a.bytes().zip(b.bytes()).fold(0, |sum, (a, b)| black_box(sum | (a ^ b)));
    a.len() == b.len() && difference == 0
}

/// Whether there is a body, and nothing says that it is something else than JSON.
fn may_bring_json<B: Body>(request: &Request<B>) -> bool {
    let is_json = |kind: &HeaderValue| {
        let kind = kind.as_bytes();
        kind.get(..JSON.len()).is_some_and(|start| start.eq_ignore_ascii_case(JSON.as_bytes()))
    };
    !request.body().is_end_stream() && request.headers().get(header::CONTENT_TYPE).is_none_or(is_json)
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use hyper::body::Bytes;

    use super::*;

    const TOKEN: &str = "a token of the tests";

    fn access(mode: AccessMode, tokens: &[&str], listen: &str) -> Access {
        let tokens_sha256 = tokens.iter().map(|token| digest::sha256(token.as_bytes()).to_uppercase()).collect();
        let config = HttpConfig { access: mode, tokens_sha256, ..HttpConfig::default() };
        Access::new(&config, None, listen.parse().unwrap())
    }

    /// 0 for a pass, 1 for "after the body", else the status.
    fn verdict(access: &Access, line: &str, headers: &[(&str, &str)], body: &'static str) -> u16 {
        let (method, uri) = line.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match access.check_head(&request.body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap()) {
            Gate::Pass => 0,
            Gate::NeedsBodyKey => 1,
            Gate::Refused(answer) => answer.status().as_u16(),
        }
    }

    #[test]
    fn by_default_loopback_is_open_and_everything_else_is_locked() {
        for (mode, listen, expected) in [
            (AccessMode::Auto, "127.0.0.1:9001", 0),
            (AccessMode::Auto, "[::1]:9001", 0),
            (AccessMode::Auto, "[::ffff:127.0.0.1]:9001", 0),
            (AccessMode::Auto, "0.0.0.0:9001", 401),
            (AccessMode::Auto, "[::]:9001", 401),
            (AccessMode::Auto, "192.168.1.5:9001", 401),
            (AccessMode::Open, "0.0.0.0:9001", 0),
            (AccessMode::Token, "127.0.0.1:9001", 401),
        ] {
            assert_eq!(verdict(&access(mode, &[TOKEN], listen), "GET /status", &[], ""), expected, "{mode:?} {listen}");
        }
    }

    #[test]
    fn without_a_token_a_locked_port_is_shut_for_all_but_health_and_empty_pages() {
        let shut = access(AccessMode::Auto, &[], "0.0.0.0:9001");
        assert!(shut.is_shut());
        for path in ["/status", "/snapshot.jpg", "/metrics", "/logs", "/info", "/model/registry", "/nothing", "//"] {
            assert_eq!(verdict(&shut, &format!("GET {path}"), &[("authorization", "Bearer ")], ""), 403, "{path}");
        }
        assert_eq!(verdict(&shut, "POST /infer/object_detection", &[], "{}"), 403, "before its body is read");
        for line in ["GET /healthz", "HEAD /readiness", "OPTIONS /status", "GET /", "GET /docs", "GET /openapi.json"] {
            assert_eq!(verdict(&shut, line, &[], ""), 0, "{line}");
        }
    }

    #[test]
    fn a_key_comes_in_the_header_the_address_or_the_body() {
        let locked = access(AccessMode::Token, &["another", TOKEN], "127.0.0.1:9001");
        let bearer = format!("Bearer {TOKEN}");
        let bearer = ("authorization", bearer.as_str());
        assert_eq!(verdict(&locked, "GET /status", &[bearer], ""), 0);
        assert_eq!(verdict(&locked, "GET /status", &[("authorization", "bearer another")], ""), 0);
        assert_eq!(verdict(&locked, "GET /x?a=b&api_key=a+token%20of+the%20tests", &[], ""), 0);
        assert_eq!(verdict(&locked, "GET /x?api_key=", &[bearer], ""), 0, "an empty one is none");
        assert_eq!(verdict(&locked, "GET /x?api_key=wrong", &[bearer], ""), 401, "the address comes first");
        assert_eq!(verdict(&locked, "GET /x?api_key", &[], ""), 401);
        for wrong in ["Bearer", "Bearer ", "Bearer a token", "Basic another", TOKEN] {
            assert_eq!(verdict(&locked, "GET /status", &[("authorization", wrong)], ""), 401, "{wrong}");
        }
        let json = ("content-type", "application/json; charset=utf-8");
        assert_eq!(verdict(&locked, "POST /infer/x", &[json], "{}"), 1);
        assert_eq!(verdict(&locked, "GET /inference_pipelines/list", &[json], "{}"), 1);
        assert_eq!(verdict(&locked, "POST /infer/x", &[], "{}"), 1);
        assert_eq!(verdict(&locked, "POST /infer/x", &[json], ""), 401, "there is no body");
        assert_eq!(verdict(&locked, "POST /infer/x", &[("content-type", "image/jpeg")], "x"), 401);
        assert_eq!(verdict(&locked, "POST /infer/x?api_key=wrong", &[json], "{}"), 401);
        assert!(locked.check_key(Some(TOKEN)).is_ok() && locked.check_key(Some("")).is_err());
        let refused = locked.check_key(None).unwrap_err();
        assert_eq!(refused.headers()[header::WWW_AUTHENTICATE], "Bearer");
    }

    #[test]
    fn the_digest_of_nothing_lets_nobody_in() {
        let locked = access(AccessMode::Token, &[""], "127.0.0.1:9001");
        assert!(locked.check_key(Some("")).is_err());
        assert_eq!(verdict(&locked, "GET /status", &[], ""), 401);
    }

    #[test]
    fn the_token_of_the_device_opens_the_port() {
        let digest = digest::sha256(TOKEN.as_bytes());
        let access = Access::new(&HttpConfig::default(), Some(&digest), "0.0.0.0:1".parse().unwrap());
        assert!(!access.is_shut() && access.check_key(Some(TOKEN)).is_ok());
        assert!(!format!("{access:?}").contains(&digest));
    }

    #[test]
    fn equal_is_equal_in_all_of_both() {
        assert!(same("", "") && same("abc", "abc"));
        assert!(!same("abc", "abd") && !same("abc", "ab") && !same("ab", "abc") && !same("", "a"));
    }
}
