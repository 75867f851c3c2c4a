//! The part of the configuration that is about servers that records are posted to.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

/// Most headers of one server.
const HEADERS_MAX: usize = 32;

/// A server that records are posted to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookConfig {
    /// `http://HOST[:PORT]/PATH` or `https://…`.
    pub url: String,
    /// Name of this device in ids, letters, digits, `-` and `_`; absent: its host name.
    pub device: Option<String>,
    /// Headers of every request; a value `env:NAME` is that of an environment variable.
    pub headers: BTreeMap<String, String>,
    /// File with a token, sent as `Authorization: Bearer TOKEN`; read before every request.
    pub token_file: Option<PathBuf>,
    /// PEM file of the authorities that may vouch for the server; absent: those that browsers trust.
    pub ca: Option<PathBuf>,
    /// Longest time of one request, seconds, 0.5 to 300.
    pub timeout_s: f64,
    /// Most records in one request, 1 to 100: more than 1 makes every body an array.
    pub batch: usize,
    /// Whether the events of rules are posted.
    pub events: bool,
    /// Most answers posted a second, 0 to 1000: the first of each such interval; 0: none.
    pub answers_per_s: f64,
    /// Directory on the data partition where records wait for the server; absent: in memory. It is made if only its last
    /// part is missing.
    pub spool: Option<PathBuf>,
    /// Size of the spool, MB of 10⁶ bytes, 1 to 1024; the oldest records give way.
    pub spool_mb: u64,
    /// Longest time until an answer is safe from a power cut, seconds, 0.1 to 3600; an event is at once.
    pub spool_interval_s: f64,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        // Ten seconds: a server that takes longer for one record does not keep up. No answers: a request each is much for
        // what most servers want, which is events. Sixteen MB: 4,000 events of their own block each.
        Self {
            url: String::new(),
            device: None,
            headers: BTreeMap::new(),
            token_file: None,
            ca: None,
            timeout_s: 10.0,
            batch: 1,
            events: true,
            answers_per_s: 0.0,
            spool: None,
            spool_mb: 16,
            spool_interval_s: 1.0,
        }
    }
}

impl WebhookConfig {
    /// Host and port, as the URL has them; `None` when it is none that is understood.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        let rest = self.url.strip_prefix("http://").or_else(|| self.url.strip_prefix("https://"))?;
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
        let whole = self.url.chars().all(|c| c.is_ascii_graphic());
        (whole && host.starts_with(|c: char| c != ':') && host.chars().all(plain)).then_some(host)
    }

    /// The first value that is out of range: its key, what was found, what is expected.
    pub(super) fn fault(&self) -> Option<(&'static str, String, &'static str)> {
        if self.host().is_none() {
            // What stands before an `@` may be a password.
            let shown = self.url.rsplit_once('@').map_or(self.url.clone(), |(_, host)| format!("…@{host}"));
            return Some(("webhook.url", shown, "http://HOST/PATH or https://HOST/PATH; a token has a key of its own"));
        }
        if self.ca.is_some() && self.url.starts_with("http://") {
            return Some(("webhook.ca", "http://".into(), "none with http://; https:// is encrypted"));
        }
        let token =
            |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        let set = ["content-type", "content-length", "host", "idempotency-key", "transfer-encoding"];
        let ours = |name: &String| set.contains(&name.to_ascii_lowercase().as_str());
        if self.headers.len() > HEADERS_MAX {
            return Some(("webhook.headers", format!("{} headers", self.headers.len()), "at most 32"));
        }
        if let Some(name) = self.headers.keys().find(|name| !token(name) || ours(name)) {
            return Some(("webhook.headers", name.clone(), "the name of a header that is not set here anyway"));
        }
        if let Some((name, _)) = self.headers.iter().find(|(_, value)| value.chars().any(char::is_control)) {
            return Some(("webhook.headers", name.clone(), "a value of one line"));
        }
        let named = |name: &&String| (1..=64).contains(&name.len()) && token(name);
        if let Some(device) = self.device.as_ref().filter(|name| !named(name)) {
            return Some(("webhook.device", device.clone(), "1 to 64 letters, digits, - and _"));
        }
        if !(0.5..=300.0).contains(&self.timeout_s) {
            return Some(("webhook.timeout_s", self.timeout_s.to_string(), "0.5 to 300 seconds"));
        }
        if !(1..=100).contains(&self.batch) {
            return Some(("webhook.batch", self.batch.to_string(), "1 to 100"));
        }
        if !(0.0..=1000.0).contains(&self.answers_per_s) {
            return Some(("webhook.answers_per_s", self.answers_per_s.to_string(), "0 to 1000 a second"));
        }
        if !(1..=1024).contains(&self.spool_mb) {
            return Some(("webhook.spool_mb", self.spool_mb.to_string(), "1 to 1024"));
        }
        if !(0.1..=3600.0).contains(&self.spool_interval_s) {
            return Some(("webhook.spool_interval_s", self.spool_interval_s.to_string(), "0.1 to 3600 seconds"));
        }
        let nameless = self.spool.as_ref().is_some_and(|dir| dir.as_os_str().is_empty());
        nameless.then(|| ("webhook.spool", "\"\"".into(), "a directory such as /data/webhook"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_and_secrets_are_not_shown() {
        let of = |url: &str| WebhookConfig { url: url.into(), ..WebhookConfig::default() };
        assert_eq!(of("https://example.com/hook?a=1").host(), Some("example.com"));
        assert_eq!(of("http://[::1]:8080").host(), Some("[::1]:8080"));
        for wrong in
            ["", "example.com", "ftp://a/", "http:///x", "http://:80/", "http://u:p@a/", "http://a b/", "http://a/\n"]
        {
            assert_eq!(of(wrong).host(), None, "{wrong}");
        }
        assert!(!of("http://u:hunter2@a/").fault().unwrap().1.contains("hunter2"));
    }

    #[test]
    fn faults_name_their_key() {
        let parse = |text: &str| toml::from_str::<WebhookConfig>(&format!("url = \"http://a/\"\n{text}")).unwrap();
        assert_eq!(parse("headers = { X-Key = \"env:KEY\" }").fault(), None);
        for (text, key) in [
            ("ca = \"ca.pem\"", "webhook.ca"),
            ("headers = { Idempotency-Key = \"1\" }", "webhook.headers"),
            ("headers = { \"a b\" = \"1\" }", "webhook.headers"),
            ("headers = { a = \"1\\n2\" }", "webhook.headers"),
            ("device = \"\"", "webhook.device"),
            ("timeout_s = 0.0", "webhook.timeout_s"),
            ("batch = 0", "webhook.batch"),
            ("answers_per_s = -1.0", "webhook.answers_per_s"),
            ("spool_mb = 2000", "webhook.spool_mb"),
            ("spool_interval_s = nan", "webhook.spool_interval_s"),
            ("spool = \"\"", "webhook.spool"),
        ] {
            assert_eq!(parse(text).fault().map(|fault| fault.0), Some(key), "{text}");
        }
    }
}
