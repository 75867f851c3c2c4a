//! The pages for people: embedded documents, with the headers that let a browser trust nothing else.

use std::io::Read;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::read::ZlibDecoder;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

use super::reply::{Answer, with_type};

/// Documents that `build.rs` packed; each is unpacked once, when it is first wanted.
macro_rules! document {
    ($(#[$doc:meta])* $visible:vis $name:ident, $file:literal) => {
        $(#[$doc])*
        $visible fn $name() -> &'static str {
            static TEXT: OnceLock<String> = OnceLock::new();
            TEXT.get_or_init(|| unpacked(include_bytes!(concat!(env!("OUT_DIR"), "/", $file, ".zlib"))))
        }
    };
}

document! {
    /// The page at `/`: its style and script are inside, it loads nothing but this device's own routes.
    main_page, "page.html"
}
document! {
    /// The page at `/docs`, made in the browser from [`openapi`].
    docs_page, "docs.html"
}
document! {
    /// Every route, its fields and its answers, for programs that read OpenAPI 3.1.
    pub(super) openapi, "openapi.json"
}
/// A sun coming up, for the browser's tab.
pub(super) const FAVICON: &str = include_str!("favicon.svg");

fn unpacked(packed: &[u8]) -> String {
    let mut text = String::new();
    ZlibDecoder::new(packed).read_to_string(&mut text).expect("what build.rs packed can be unpacked");
    text
}

/// A page and what is derived from its text, once.
pub(super) struct Page {
    html: &'static str,
    etag: HeaderValue,
    /// Allows exactly the embedded style and script, by their hashes, and requests to this device.
    content_security_policy: HeaderValue,
}

impl Page {
    pub(super) fn main() -> Self {
        Self::of(main_page())
    }

    pub(super) fn docs() -> Self {
        Self::of(docs_page())
    }

    fn of(html: &'static str) -> Self {
        let hash = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
        let style = hash(element(html, "style"));
        let script = hash(element(html, "script"));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; connect-src 'self'; \
             img-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        let header = |text: String| HeaderValue::try_from(text).expect("base64 and fixed text are visible ASCII");
        Self { html, etag: header(format!("\"{}\"", hash(html))), content_security_policy: header(policy) }
    }

    /// The page, or that the client's copy of it, which has the tag `known`, is still good.
    pub(super) fn answer(&self, known: Option<&HeaderValue>) -> Answer {
        let unchanged = known == Some(&self.etag);
        let (status, body) =
            if unchanged { (StatusCode::NOT_MODIFIED, Bytes::new()) } else { (StatusCode::OK, self.html.into()) };
        let mut answer = with_type(status, "text/html; charset=utf-8", body);
        let headers: [(HeaderName, HeaderValue); 4] = [
            (header::CONTENT_SECURITY_POLICY, self.content_security_policy.clone()),
            (header::ETAG, self.etag.clone()),
            // To be asked for each time: after an update of the device nobody should look at the old page.
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        ];
        answer.headers_mut().extend(headers.map(|(name, value)| (Some(name), value)));
        answer
    }
}

/// The text between the only `<name>` and `</name>` of a page.
fn element<'h>(html: &'h str, name: &str) -> &'h str {
    let after = html.split_once(&format!("<{name}>")).map(|(_, after)| after);
    let inside = after.and_then(|after| after.split_once(&format!("</{name}>"))).map(|(inside, _)| inside);
    inside.expect("an embedded page has one style and one script")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a phone on a bad link should have to load at most: a second at 320 kbit/s. Live view, plots, models and the
    /// try-it box with its drawing are in it; a framework alone is several times as large.
    const MAIN_BYTES_MAX: usize = 40_000;
    /// The list of routes holds no route: it is made from the OpenAPI document.
    const DOCS_BYTES_MAX: usize = 20_000;

    #[test]
    fn pages_are_small_and_load_nothing_from_elsewhere() {
        for (page, bytes_max) in [(main_page(), MAIN_BYTES_MAX), (docs_page(), DOCS_BYTES_MAX)] {
            assert!(page.len() < bytes_max, "the page has {} bytes", page.len());
            for outside in ["http://", "https://", "//cdn", "@import", "innerHTML", " style=\""] {
                assert!(!page.contains(outside), "the page contains {outside:?}");
            }
        }
    }

    #[test]
    fn the_policy_names_the_embedded_script() {
        for html in [main_page(), docs_page()] {
            let policy = Page::of(html).content_security_policy;
            let hash = BASE64_STANDARD.encode(Sha256::digest(element(html, "script")));
            assert!(policy.to_str().unwrap().contains(&hash));
            assert_eq!(html.matches("<script").count(), 1, "a second script would be blocked by the policy");
        }
    }
}
