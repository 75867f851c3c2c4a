//! Events and answers to an HTTP server, a POST each or several at once, each at least once and in order, by way of an
//! outbox.
//!
//! A record's body is its JSON object; with `batch` above 1 it is an array of them. `Idempotency-Key` is the id of the
//! record, or of the first and the last. May not know: the loop.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ureq::http::{HeaderMap, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::Error;
use super::forward::{Forward, Selection};
use super::outbox::{Deliver, Delivered, Record, Refused, Settings};
use super::tls;
use crate::config::{WebhookConfig, seconds};
use crate::model::Labels;

/// Of an answer's body that is read, so that the connection can be used again.
const BODY_BYTES_MAX: u64 = 64 * 1024;
/// Of an answer's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Of a refusal's body that is told.
const TOLD_CHARS_MAX: usize = 120;

/// How long a connection is kept for the next record: less than any server does, or it would be closed under it.
const IDLE_MAX: Duration = Duration::from_secs(3);

struct Server {
    config: WebhookConfig,
    host: String,
    device: String,
    /// Made at the first request: its files may come with a partition.
    agent: Option<Agent>,
}

/// Starts the sink. The server need not be there. `device` is the name of the device where the configuration has no
/// other.
///
/// # Errors
/// The system gives no thread.
pub fn start(config: &WebhookConfig, device: &str, boot_id: String, labels: Arc<Labels>) -> Result<Forward, Error> {
    let host = config.host().unwrap_or_default().to_owned();
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let device = config.device.as_deref().unwrap_or(device).chars().map(plain).collect();
    let name = format!("webhook {host}");
    let settings = Settings {
        dir: config.spool.as_deref().map(Path::to_owned),
        bytes_max: config.spool_mb * 1_000_000,
        interval: seconds(config.spool_interval_s),
        boot_id,
    };
    let selection = Selection { events: config.events, answers_per_s: config.answers_per_s };
    let server = Server { config: config.clone(), host, device, agent: None };
    Forward::start(&name, selection, settings, labels, Box::new(server), None)
}

impl Deliver for Server {
    fn batch_max(&self) -> usize {
        self.config.batch
    }

    fn deliver(&mut self, records: &[Record]) -> Result<Delivered, Refused> {
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return Ok(Delivered::default()) };
        let mut key = first.id(&self.device);
        if records.len() > 1 {
            key = format!("{key}..{}-{}", last.stream, last.number);
        }
        let (status, headers, said) = self.post(&self.body(records), &key).map_err(|why| self.refused(&why, None))?;
        let words = match status.canonical_reason() {
            Some(reason) => format!("it answers {} {reason}{said}", status.as_u16()),
            None => format!("it answers {}{said}", status.as_u16()),
        };
        match status.as_u16() {
            200..=299 => Ok(Delivered { delivered: records.len(), refused: None }),
            408 | 425 | 429 | 500..=599 => Err(self.refused(&words, retry_after(&headers))),
            // A redirection goes somewhere that the configuration does not name: for somebody to put right.
            300..=399 => Err(self.refused(&format!("{words}: redirections are not followed, see webhook.url"), None)),
            // So is who may send: that is no fault of a record.
            401 | 407 => Err(self.refused(&words, None)),
            _ if records.len() > 1 => self.one_by_one(records),
            _ => Ok(Delivered { delivered: 0, refused: Some((1, self.said(&words))) }),
        }
    }
}

impl Server {
    /// Posts records that are refused together, to find the one that is to blame.
    fn one_by_one(&mut self, records: &[Record]) -> Result<Delivered, Refused> {
        for (delivered, record) in records.iter().enumerate() {
            match self.deliver(std::slice::from_ref(record)) {
                Ok(Delivered { refused: None, .. }) => {}
                Ok(Delivered { refused, .. }) => return Ok(Delivered { delivered, refused }),
                Err(_) if delivered > 0 => return Ok(Delivered { delivered, refused: None }),
                Err(refused) => return Err(refused),
            }
        }
        Ok(Delivered { delivered: records.len(), refused: None })
    }

    fn body(&self, records: &[Record]) -> Vec<u8> {
        let payloads: Vec<Vec<u8>> = records.iter().map(|record| record.payload(&self.device)).collect();
        let joined = payloads.join(&b',');
        if self.config.batch > 1 { [b"[", &joined[..], b"]"].concat() } else { joined }
    }

    /// What the server answers: status, headers, and the beginning of a refusal's text.
    fn post(&mut self, body: &[u8], key: &str) -> Result<(StatusCode, HeaderMap, String), String> {
        let agent = match &self.agent {
            Some(agent) => agent.clone(),
            None => self.agent.insert(self.connect()?).clone(),
        };
        let mut request = agent.post(&self.config.url).header("content-type", "application/json");
        request = request.header("idempotency-key", key);
        for (name, value) in &self.config.headers {
            request = match value.strip_prefix("env:") {
                None => request.header(name, value),
                Some(variable) => {
                    let value = std::env::var(variable).map_err(|_| format!("{variable} is not in the environment"))?;
                    request.header(name, value)
                }
            };
        }
        if let Some(path) = &self.config.token_file {
            let token = String::from_utf8(tls::read(path)?).map_err(|_| format!("{}: is no text", path.display()))?;
            request = request.header("authorization", format!("Bearer {}", token.trim()));
        }
        let mut answer = request.send(body).map_err(|error| self.words(&error))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        Ok((status, headers, told(status, answer.body_mut())))
    }

    fn connect(&self) -> Result<Agent, String> {
        let roots = match &self.config.ca {
            None => RootCerts::WebPki,
            Some(path) => {
                let found = tls::certificates(path)?;
                let found: Vec<Certificate<'static>> =
                    found.iter().map(|found| Certificate::from_der(found).to_owned()).collect();
                RootCerts::new_with_certs(&found)
            }
        };
        let config = Agent::config_builder()
            .timeout_global(Some(seconds(self.config.timeout_s)))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_age(IDLE_MAX)
            .max_response_header_size(HEAD_BYTES_MAX)
            // The configuration names every peer; the environment names none.
            .proxy(None)
            .user_agent(concat!("firstlight/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .build();
        Ok(config.into())
    }

    fn words(&self, error: &ureq::Error) -> String {
        match error {
            ureq::Error::Timeout(_) => format!("no answer within {} s", self.config.timeout_s),
            ureq::Error::HostNotFound => "its name cannot be resolved".into(),
            ureq::Error::Io(cause) => cause.to_string(),
            error => error.to_string(),
        }
    }

    fn said(&self, why: &str) -> String {
        format!("{}: {why}", self.host)
    }

    fn refused(&self, why: &str, after: Option<Duration>) -> Refused {
        Refused { why: self.said(why), after }
    }
}

/// Reads the body to its end, within a bound; the beginning of it if it is a refusal's.
fn told(status: StatusCode, body: &mut Body) -> String {
    let mut bytes = Vec::new();
    // What the head has said holds, whatever becomes of the body.
    let _ = body.as_reader().take(BODY_BYTES_MAX).read_to_end(&mut bytes);
    if status.is_success() {
        return String::new();
    }
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let text: String = String::from_utf8_lossy(&bytes).trim().chars().map(plain).take(TOLD_CHARS_MAX).collect();
    if text.is_empty() { text } else { format!(": {text}") }
}

/// In seconds; a date needs a clock that is set, and is passed over.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get("retry-after")?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}
