//! The page for people: one embedded document, with the headers that let a browser trust nothing else.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::body::Bytes;
use hyper::header::HeaderValue;
use sha2::{Digest, Sha256};

/// The page: its style and script are inside, it loads nothing but this device's own routes.
const PAGE: &str = include_str!("page.html");
/// A sun coming up, for the browser's tab.
pub(super) const FAVICON: &str = include_str!("favicon.svg");

/// The page and what is derived from its text, once.
pub(super) struct Page {
    pub html: Bytes,
    pub etag: HeaderValue,
    /// Allows exactly the embedded style and script, by their hashes, and requests to this device.
    pub content_security_policy: HeaderValue,
}

impl Page {
    pub(super) fn new() -> Self {
        let hash = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
        let style = hash(element("style"));
        let script = hash(element("script"));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; connect-src 'self'; \
             img-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        let header = |text: String| HeaderValue::try_from(text).expect("base64 and fixed text are visible ASCII");
        Self {
            html: Bytes::from_static(PAGE.as_bytes()),
            etag: header(format!("\"{}\"", hash(PAGE))),
            content_security_policy: header(policy),
        }
    }
}

/// The text between the page's only `<name>` and `</name>`.
fn element(name: &str) -> &'static str {
    let after = PAGE.split_once(&format!("<{name}>")).map(|(_, after)| after);
    let inside = after.and_then(|after| after.split_once(&format!("</{name}>"))).map(|(inside, _)| inside);
    inside.expect("the embedded page has one style and one script")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a phone on a bad link should have to load at most.
    const PAGE_BYTES_MAX: usize = 20_000;

    #[test]
    fn the_page_is_small_and_loads_nothing_from_elsewhere() {
        assert!(PAGE.len() < PAGE_BYTES_MAX, "the page has {} bytes", PAGE.len());
        for outside in ["http://", "https://", "//cdn", "@import", "innerHTML", " style=\""] {
            assert!(!PAGE.contains(outside), "the page contains {outside:?}");
        }
    }

    #[test]
    fn the_policy_names_the_embedded_script() {
        let policy = Page::new().content_security_policy;
        let hash = BASE64_STANDARD.encode(Sha256::digest(element("script")));
        assert!(policy.to_str().unwrap().contains(&hash));
        assert_eq!(PAGE.matches("<script").count(), 1, "a second script would be blocked by the policy");
    }
}
