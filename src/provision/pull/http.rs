//! Requests to Roboflow and to where it keeps its files: over TLS, through a proxy where the environment names one, tried
//! again with growing pauses where that may help, and never with a key in a message.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, Proxy};
use url::{Host, Url};

use super::Error;
use crate::random::Random;

/// A peer that does not answer the knock.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// A database behind the API may be slow to wake; a transfer that gives nothing for so long has died.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Tries without a byte of progress: with the pauses between them, a minute's outage.
const TRIES_MAX: u32 = 6;
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Longest pause that a server is granted; with more it should be asked again later, by a person.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(120);
/// Largest document of the API: ours of a hundred packages has 200 kB.
const DOCUMENT_BYTES_MAX: u64 = 16 << 20;
/// Of a refusal's body that is told.
const TOLD_CHARS_MAX: usize = 200;

/// See the head of this file.
#[derive(Debug)]
pub struct Http {
    agent: Agent,
    key: Option<String>,
}

/// Why one try brought nothing.
#[derive(Debug)]
pub enum Failure {
    /// It may go well another time, after that pause if the server asked for one.
    Again {
        why: String,
        after: Option<Duration>,
    },
    Final(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// Part of a file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Part<'a> {
    /// First byte that is wanted.
    pub start: u64,
    /// Last byte, where not all the rest is wanted.
    pub last: Option<u64>,
    /// Only of the file with this validator; otherwise the whole of another.
    pub if_range: Option<&'a str>,
}

impl Http {
    /// With the roots of a PEM file instead of the web's; `key` is what no message may hold.
    ///
    /// # Errors
    /// The file cannot be read or holds no certificate; the environment names a proxy that is none.
    pub fn new(roots: Option<&Path>, key: Option<String>) -> Result<Self, Error> {
        let roots = match roots {
            None => RootCerts::WebPki,
            Some(path) => RootCerts::new_with_certs(&certificates(path)?),
        };
        let config = Agent::config_builder()
            .timeout_connect(Some(CONNECT_MAX))
            .timeout_recv_response(Some(SILENCE_MAX))
            .timeout_per_read(Some(SILENCE_MAX))
            .http_status_as_error(false)
            .proxy(Proxy::try_from_env())
            .user_agent(concat!("firstlight/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .build();
        Ok(Self { agent: config.into(), key })
    }

    /// One try. The key goes along where `bearer` says so, and not to where the answer redirects.
    ///
    /// # Errors
    /// Nobody answered, or with another status than 2xx, 404 and those that concern the key.
    pub fn get(&self, url: &Url, bearer: bool, part: Option<Part<'_>>) -> Result<Response<Body>, Failure> {
        checked(url)?;
        let mut request = self.agent.get(url.as_str());
        if let Some(key) = self.key.as_ref().filter(|_| bearer) {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        if let Some(part) = part {
            let last = part.last.map(|last| last.to_string()).unwrap_or_default();
            request = request.header("range", format!("bytes={}-{last}", part.start));
            if let Some(validator) = part.if_range {
                request = request.header("if-range", validator);
            }
        }
        let mut answer = request.call().map_err(|error| self.failure(url, &error))?;
        let status = answer.status();
        if status.is_success() || matches!(status.as_u16(), 401 | 403 | 404 | 416) {
            return Ok(answer);
        }
        let why = format!("it answers {status}{}", self.told(answer.body_mut()));
        match status.as_u16() {
            408 | 425 | 429 | 500..=599 => Err(Failure::Again { why, after: retry_after(answer.headers()) }),
            _ => Err(Failure::Final(Error::Transfer { url: shown(url), why })),
        }
    }

    /// A document of the API and the status it came with; of a refusal, what it says.
    ///
    /// # Errors
    /// It did not come after several tries, is too large, or is no JSON.
    pub fn document(&self, url: &Url, bearer: bool) -> Result<(StatusCode, Value), Error> {
        self.patiently(
            url,
            || 0,
            || {
                let mut answer = self.get(url, bearer, None)?;
                let status = answer.status();
                if !status.is_success() {
                    return Ok((status, Value::Null));
                }
                let wrong = |why: String| Error::Transfer { url: shown(url), why };
                let read = answer.body_mut().with_config().limit(DOCUMENT_BYTES_MAX).read_to_vec();
                let bytes = read.map_err(|error| match error {
                    ureq::Error::BodyExceedsLimit(limit) => Failure::Final(wrong(format!("more than {limit} bytes"))),
                    error => self.failure(url, &error),
                })?;
                let value = serde_json::from_slice(&bytes).map_err(|error| wrong(format!("expected JSON: {error}")))?;
                Ok((status, value))
            },
        )
    }

    /// Tries until it goes well, with pauses; tries that brought something (`progress` grew) do not count.
    ///
    /// # Errors
    /// What is final, or the reason of the last try.
    pub fn patiently<T>(
        &self,
        url: &Url,
        progress: impl Fn() -> u64,
        mut attempt: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, Error> {
        // Whoever pulls at the same time shall not come back at the same moment.
        let mut random = Random::new(u64::from(std::process::id()));
        let (mut tries, mut reached) = (0, progress());
        loop {
            let (why, after) = match attempt() {
                Ok(done) => return Ok(done),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Again { why, after }) => (why, after),
            };
            let now = progress();
            tries = if now > reached { 1 } else { tries + 1 };
            reached = reached.max(now);
            if tries >= TRIES_MAX {
                let why = format!("{why} (tried {tries} times)");
                return Err(Error::Transfer { url: shown(url), why });
            }
            let own = (PAUSE_MIN * (1 << (tries - 1))).min(PAUSE_MAX);
            let pause = after.unwrap_or_else(|| own.mul_f32(random.uniform(0.75, 1.25)));
            crate::log::say(&format!("{}: {why}; again in {:.1} s", shown(url), pause.as_secs_f32()));
            std::thread::sleep(pause);
        }
    }

    pub fn failure(&self, url: &Url, error: &ureq::Error) -> Failure {
        let (why, again) = match error {
            ureq::Error::Timeout(of) => (format!("no answer in time ({of})"), true),
            ureq::Error::HostNotFound => ("its name cannot be resolved".into(), true),
            ureq::Error::Io(cause) => (cause.to_string(), !is_final(cause)),
            ureq::Error::ConnectionFailed => ("no connection".into(), true),
            error => (error.to_string(), false),
        };
        let why = self.redacted(&why);
        if again { Failure::Again { why, after: None } } else { Error::Transfer { url: shown(url), why }.into() }
    }

    /// The beginning of what a refusal says, for a person.
    fn told(&self, body: &mut Body) -> String {
        let mut text = Vec::new();
        let _ = body.as_reader().take(4096).read_to_end(&mut text);
        let text = String::from_utf8_lossy(&text);
        let words: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let words: String = self.redacted(&words).chars().filter(|c| !c.is_control()).take(TOLD_CHARS_MAX).collect();
        if words.is_empty() { words } else { format!(": {words}") }
    }

    fn redacted(&self, text: &str) -> String {
        match &self.key {
            Some(key) if !key.is_empty() => text.replace(key, "…"),
            _ => text.to_owned(),
        }
    }
}

/// A certificate that is not trusted is not trusted the next time either.
fn is_final(cause: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, InvalidInput};
    matches!(cause.kind(), InvalidData | InvalidInput)
}

/// Keys and weights go over TLS, or stay on this machine.
fn checked(url: &Url) -> Result<(), Error> {
    let local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" => Ok(()),
        "http" if local => Ok(()),
        _ => Err(Error::Transfer { url: shown(url), why: "expected https".into() }),
    }
}

/// An address without what may be secret: user, query and fragment.
pub fn shown(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, Error> {
    let text = std::fs::read(path).map_err(Error::io(path))?;
    let found: Vec<Certificate<'static>> = parse_pem(&text)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if found.is_empty() {
        return Err(Error::Settings(format!("{}: expected certificates in PEM, found none", path.display())));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_an_address_holds_no_secret() {
        let url = Url::parse("https://user:word@api.example:8443/ort/a/1?api_key=secret&x=1#frag").unwrap();
        assert_eq!(shown(&url), "https://api.example:8443/ort/a/1");
        let http = Http::new(None, Some("secret".into())).unwrap();
        assert_eq!(http.redacted("no key secret here"), "no key … here");
    }

    #[test]
    fn keys_go_over_tls_or_nowhere() {
        for (url, ok) in [
            ("https://api.roboflow.com/", true),
            ("http://127.0.0.1:9/", true),
            ("http://localhost:9/", true),
            ("http://[::1]/", true),
            ("http://api.roboflow.com/", false),
            ("file:///etc/passwd", false),
        ] {
            assert_eq!(checked(&Url::parse(url).unwrap()).is_ok(), ok, "{url}");
        }
    }

    #[test]
    fn tries_end_and_progress_is_worth_another() {
        let http = Http::new(None, None).unwrap();
        let url = Url::parse("https://a.example/").unwrap();
        let soon = || Failure::Again { why: "busy".into(), after: Some(Duration::ZERO) };
        let mut tries = 0;
        let failed = http.patiently(
            &url,
            || 0,
            || -> Result<(), Failure> {
                tries += 1;
                Err(soon())
            },
        );
        assert!(failed.unwrap_err().to_string().contains("busy (tried 6 times)"));
        assert_eq!(tries, TRIES_MAX);
        let bytes = std::cell::Cell::new(0);
        let got = http.patiently(
            &url,
            || bytes.get(),
            || {
                bytes.set(bytes.get() + 1);
                if bytes.get() < 50 { Err(soon()) } else { Ok(bytes.get()) }
            },
        );
        assert_eq!(got.unwrap(), 50);
    }
}
