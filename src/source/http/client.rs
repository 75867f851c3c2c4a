//! As much of an HTTP client as a camera needs: one connection at a time, kept while it lasts, to one host.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_rustls::TlsConnector;
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, StatusCode, header};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use smol::io::{AsyncRead, AsyncWrite};
use smol::net::TcpStream;
use smol::{LocalExecutor, Task, Timer, future};
use smol_hyper::rt::FuturesIo;
use url::{Position, Url};

use crate::source::address::Address;
use crate::source::live::{CONNECT_TIME_MAX, SILENCE_MAX};

/// Redirections in a row: a camera that sends on more often is going round in a circle.
const REDIRECTIONS_MAX: usize = 5;

/// Who may vouch for a camera.
#[derive(Clone)]
pub struct Trust(TlsConnector);

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trust")
    }
}

impl Default for Trust {
    /// The authorities of the web, as compiled in.
    fn default() -> Self {
        Self::of(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() })
    }
}

impl Trust {
    /// The certificates of a PEM file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())? {
            let certificate = certificate.map_err(|error| error.to_string())?;
            roots.add(certificate).map_err(|error| error.to_string())?;
        }
        if roots.is_empty() {
            return Err("holds no certificate; expected PEM".into());
        }
        Ok(Self::of(roots))
    }

    fn of(roots: RootCertStore) -> Self {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has the cipher suites of both versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self(TlsConnector::from(Arc::new(config)))
    }
}

/// What a connection runs over.
trait Io: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// An open connection.
struct Connection {
    url: Url,
    sender: SendRequest<Empty<Bytes>>,
    /// Moves its bytes; ends with it.
    _driver: Task<()>,
}

/// A client of one host.
pub struct Client<'e> {
    address: &'e Address,
    trust: &'e Trust,
    executor: &'e LocalExecutor<'static>,
    connection: Option<Connection>,
}

impl<'e> Client<'e> {
    pub fn new(address: &'e Address, trust: &'e Trust, executor: &'e LocalExecutor<'static>) -> Self {
        Self { address, trust, executor, connection: None }
    }

    /// The answer to a GET of the address, redirections followed.
    ///
    /// # Errors
    /// There is none in time, or not the one that was hoped for.
    pub async fn get(&mut self) -> Result<Response<Incoming>, String> {
        let mut url = self.address.url.clone();
        for _ in 0..=REDIRECTIONS_MAX {
            let answer = self.ask(&url).await?;
            let status = answer.status();
            if status == StatusCode::OK {
                return Ok(answer);
            }
            // What is left of this answer is nobody's.
            self.connection = None;
            if status == StatusCode::UNAUTHORIZED {
                return Err(unauthorized(&answer, self.address.credentials.is_some()));
            }
            let target = answer.headers().get(header::LOCATION).and_then(|target| target.to_str().ok());
            let (true, Some(target)) = (status.is_redirection(), target) else {
                return Err(format!("answered {status}: expected 200 OK"));
            };
            url = self.follow(&url, target)?;
        }
        Err(format!("sends on more than {REDIRECTIONS_MAX} times"))
    }

    /// Where a redirection leads, if we may go there.
    fn follow(&self, from: &Url, target: &str) -> Result<Url, String> {
        let to = from.join(target).map_err(|error| format!("sends on to what is no URL: {error}"))?;
        if to.host() != self.address.url.host() || !matches!(to.scheme(), "http" | "https") {
            return Err(format!("sends on to {}: name that one if it is the camera", &to[..Position::AfterHost]));
        }
        if from.scheme() == "https" && to.scheme() == "http" {
            return Err("sends on from https to http: what is asked for encrypted is not taken in clear".into());
        }
        Ok(to)
    }

    /// One request and its answer, over the connection that is there or a new one.
    async fn ask(&mut self, url: &Url) -> Result<Response<Incoming>, String> {
        let same = |open: &Connection| open.url.origin() == url.origin() && open.sender.is_ready();
        let mut connection = match self.connection.take().filter(same) {
            Some(open) => open,
            None => {
                let late = || format!("no connection within {CONNECT_TIME_MAX:?}");
                within(CONNECT_TIME_MAX, self.connect(url)).await.ok_or_else(late)??
            }
        };
        let host = &url[Position::BeforeHost..Position::AfterPort];
        let mut request = Request::get(&url[Position::BeforePath..Position::AfterQuery])
            .header(header::HOST, host)
            .header(header::USER_AGENT, concat!("firstlight/", env!("CARGO_PKG_VERSION")));
        if let Some(credentials) = &self.address.credentials {
            let pair = STANDARD.encode(format!("{}:{}", credentials.user, credentials.password));
            request = request.header(header::AUTHORIZATION, format!("Basic {pair}"));
        }
        let request = request.body(Empty::new()).map_err(|error| error.to_string())?;
        let late = || format!("no answer within {SILENCE_MAX:?}");
        let answer = within(SILENCE_MAX, connection.sender.send_request(request)).await.ok_or_else(late)?;
        let answer = answer.map_err(|error| format!("no answer: {}", reason(&error)))?;
        self.connection = Some(connection);
        Ok(answer)
    }

    async fn connect(&self, url: &Url) -> Result<Connection, String> {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let port = url.port_or_known_default().unwrap_or_default();
        let socket = TcpStream::connect((host, port)).await.map_err(|error| format!("cannot connect: {error}"))?;
        let io: Box<dyn Io> = if url.scheme() == "https" {
            let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
            let encrypted = self.trust.0.connect(name, socket).await;
            Box::new(encrypted.map_err(|error| format!("no TLS with it: {error}; #ca=FILE names who to trust"))?)
        } else {
            Box::new(socket)
        };
        let handshake = http1::handshake(FuturesIo::new(io)).await;
        let (sender, connection) = handshake.map_err(|error| error.to_string())?;
        // An error of the connection is one of the request or of the body too, and told there.
        let driver = self.executor.spawn(async { drop(connection.await) });
        Ok(Connection { url: url.clone(), sender, _driver: driver })
    }
}

/// What to do about a 401.
fn unauthorized(answer: &Response<Incoming>, given: bool) -> String {
    let challenges = answer.headers().get_all(header::WWW_AUTHENTICATE);
    let schemes: Vec<&str> =
        challenges.iter().filter_map(|challenge| challenge.to_str().ok()?.split(' ').next()).collect();
    let basic = schemes.iter().any(|scheme| scheme.eq_ignore_ascii_case("basic"));
    match (basic, given) {
        (false, _) if !schemes.is_empty() => {
            format!("answered 401: it wants {} authentication, and only Basic is spoken here", schemes.join(" or "))
        }
        (_, true) => "answered 401: it does not take this user and password".into(),
        (_, false) => "answered 401: it wants a user and password, as in http://user:password@camera/".into(),
    }
}

/// What a library's error says at its root; the words above it are about the library.
pub fn reason(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().map(ToString::to_string).unwrap_or_default()
}

/// What a future gives, or `None` when it takes longer than `limit`.
pub async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let late = async {
        Timer::after(limit).await;
        None
    };
    future::or(async { Some(future.await) }, late).await
}
