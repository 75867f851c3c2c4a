//! TLS of the port: a certificate from files, or one of our own that is made once and kept in the state directory.
//!
//! TLS 1.2 and 1.3, no older. Under our own PID 1 the data partition comes some seconds after the start: the port is
//! open before, and handshakes wait until the certificate is settled, which has a bound like any wait.
//! May not know: HTTP.

use std::fmt::Write;
use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use std::{fmt, io};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_rustls::TlsAcceptor;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, version};
use smol::lock::OnceCell;

use crate::cache::digest;
use crate::config::TlsConfig;
use crate::durable::{self, Disk};
use crate::log;
use crate::pipeline::telemetry::{Part, Telemetry};

/// Largest file that is read: a chain has a few KiB, a whole system's authorities a quarter of a megabyte.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// How often it is looked whether the files have appeared.
const LOOK: Duration = Duration::from_millis(100);
/// Certificate and key of our own, in one file so that a power cut leaves both or none.
const OWN: &str = "tls/self-signed.pem";
/// The name that our own certificate is always valid for: `curl --cacert … --resolve firstlight:9001:ADDRESS`.
const OWN_NAME: &str = "firstlight";
/// Our own certificate's years: a board has no clock to judge by, and nobody renews the certificate of a sealed device.
const OWN_YEARS: (i32, i32) = (1975, 4096);

/// Why the port cannot speak TLS.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    File(#[from] durable::Error),
    #[error("{path}: no such file; {key} names it", path = .path.display())]
    Missing { key: &'static str, path: PathBuf },
    #[error("{path}: {found}; expected {expected}", path = .path.display())]
    Content { path: PathBuf, found: String, expected: &'static str },
    #[error("{}: is not the certificate of the key in {}", .certificate.display(), .key.display())]
    Mismatch { certificate: PathBuf, key: PathBuf },
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    #[error(transparent)]
    Library(#[from] rustls::Error),
    #[error("cannot start its thread: {0}")]
    Thread(io::Error),
}

/// Where the port's certificate comes from.
#[derive(Clone, Debug)]
pub struct Origin {
    pub config: TlsConfig,
    /// The state directory; `None`: what is made here is kept nowhere.
    pub state: Option<PathBuf>,
    /// How long files and state directory may take to appear.
    pub appears: Duration,
}

/// What makes connections of the port secret. Cloning shares it.
#[derive(Clone)]
pub struct Tls {
    /// Empty until settled; `None`: there will be none.
    acceptor: Arc<OnceCell<Option<TlsAcceptor>>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("settled", &self.acceptor.is_initialized()).finish()
    }
}

impl Tls {
    /// Reads or makes the certificate, and says its fingerprint: at once, or on a thread as soon as what it needs has
    /// appeared. A certificate that cannot be kept is a problem of the device, and so is one that never came.
    ///
    /// # Errors
    /// A file is missing, damaged or of another kind than it should be, and nothing is waited for.
    pub fn start(origin: Origin, telemetry: &Arc<Telemetry>) -> Result<Self, Error> {
        let tls = Self { acceptor: Arc::default() };
        if origin.appears.is_zero() || origin.is_there() {
            tls.settle(Some(origin.acceptor(telemetry)?));
            return Ok(tls);
        }
        let (waiting, telemetry) = (tls.clone(), telemetry.clone());
        let wait = move || {
            let deadline = Instant::now() + origin.appears;
            while !origin.is_there() && Instant::now() < deadline {
                thread::sleep(LOOK);
            }
            let acceptor = origin.acceptor(&telemetry).inspect_err(|error| {
                log::say(&format!("tls: {error}"));
                telemetry.set_problem(Part::Tls, Some(error.to_string()));
            });
            waiting.settle(acceptor.ok());
        };
        crate::thread::spawn("tls", wait).map_err(Error::Thread)?;
        Ok(tls)
    }

    fn settle(&self, acceptor: Option<TlsAcceptor>) {
        // Settled once a start: whoever else had done so would have had the same files.
        let _ = self.acceptor.set_blocking(acceptor);
    }

    /// What shakes hands, once it is settled.
    pub(super) async fn acceptor(&self) -> Option<&TlsAcceptor> {
        self.acceptor.wait().await.as_ref()
    }
}

impl Origin {
    fn is_there(&self) -> bool {
        let TlsConfig { certificate, key, client_ca, self_signed } = &self.config;
        let state = self.state.as_ref().filter(|_| *self_signed);
        [certificate.as_ref(), key.as_ref(), client_ca.as_ref(), state].into_iter().flatten().all(|path| path.exists())
    }

    fn acceptor(&self, telemetry: &Telemetry) -> Result<TlsAcceptor, Error> {
        let identity = match (&self.config.certificate, &self.config.key) {
            (Some(certificate), Some(key)) => Identity::read(certificate, key)?,
            _ => self.own(telemetry)?,
        };
        let fingerprint = fingerprint(&identity.chain[0]);
        let config = server_config(identity, self.config.client_ca.as_deref())?;
        log::say(&format!("tls: the certificate's SHA-256 fingerprint is {fingerprint}"));
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// The certificate of our own: the one that was kept, else a new one.
    fn own(&self, telemetry: &Telemetry) -> Result<Identity, Error> {
        let volatile = |why: &str| {
            let problem = format!("the certificate is only in memory and will be another after the next start: {why}");
            log::say(&format!("tls: {problem}"));
            telemetry.set_problem(Part::Tls, Some(problem));
        };
        let Some(path) = self.state.as_ref().map(|state| state.join(OWN)) else {
            volatile("there is no state directory");
            return Ok(Identity::make()?.0);
        };
        match path.exists().then(|| Identity::read(&path, &path)) {
            None => {}
            Some(Ok(identity)) => return Ok(identity),
            // What could not be read may be whole: it stays for the next start.
            Some(Err(Error::File(why))) => {
                volatile(&why.to_string());
                return Ok(Identity::make()?.0);
            }
            Some(Err(damage)) => log::say(&format!("tls: {damage}; a new one is made")),
        }
        let (identity, pem) = Identity::make()?;
        match keep(&path, &pem) {
            Ok(()) => log::say(&format!("tls: a certificate was made; kept as {}", path.display())),
            Err(why) => volatile(&why.to_string()),
        }
        Ok(identity)
    }
}

/// A certificate with what leads to its authority, and its key.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    fn read(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let chain = certificates("http.tls.certificate", certificate)?;
        let text = read("http.tls.key", key)?;
        let parsed = PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
            let encrypted = String::from_utf8_lossy(&text).contains("ENCRYPTED");
            let found = if encrypted { "a key with a password" } else { "no private key" };
            let expected = "a PEM section such as `BEGIN PRIVATE KEY`, without a password";
            Error::Content { path: key.into(), found: found.into(), expected }
        })?;
        let loaded = rustls::sign::CertifiedKey::from_der(chain.clone(), parsed.clone_key(), &ring::default_provider());
        match loaded {
            Ok(_) => Ok(Self { chain, key: parsed }),
            Err(rustls::Error::InconsistentKeys(_)) => {
                Err(Error::Mismatch { certificate: certificate.into(), key: key.into() })
            }
            Err(rustls::Error::InvalidCertificate(cause)) => Err(Error::Content {
                path: certificate.into(),
                found: format!("a damaged certificate ({cause:?})"),
                expected: "an X.509 certificate of version 3",
            }),
            Err(cause) => Err(Error::Content {
                path: key.into(),
                found: format!("a key that cannot be used ({cause})"),
                expected: "ECDSA P-256 or P-384, Ed25519, or RSA of 2048 bits and more",
            }),
        }
    }

    /// A new one, and the PEM text to keep it by.
    fn make() -> Result<(Self, String), Error> {
        let mut names = vec![OWN_NAME.to_owned(), "localhost".into(), "127.0.0.1".into(), "::1".into()];
        let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        let is_name = |name: &String| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
        };
        names.extend(host.filter(|host| is_name(host) && !names.contains(host)));
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, OWN_NAME);
        params.not_before = rcgen::date_time_ymd(OWN_YEARS.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(OWN_YEARS.1, 1, 1);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // ECDSA on P-256: every client knows it, and it is the cheapest handshake for a small board.
        let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.self_signed(&pair)?;
        let pem = pem("CERTIFICATE", certificate.der()) + &pem("PRIVATE KEY", pair.serialized_der());
        Ok((Self { chain: vec![certificate.der().clone()], key: PrivateKeyDer::from(pair) }, pem))
    }
}

fn server_config(identity: Identity, client_ca: Option<&Path>) -> Result<ServerConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_protocol_versions(&[&version::TLS13, &version::TLS12])?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let unusable = |found| Error::Content { path: path.into(), found, expected: "certificates of authorities" };
            let mut roots = RootCertStore::empty();
            for authority in certificates("http.tls.client_ca", path)? {
                roots.add(authority).map_err(|cause| unusable(cause.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|cause| unusable(cause.to_string()))?)
        }
    };
    let mut config = builder.with_single_cert(identity.chain, identity.key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    durable::read_bounded(path, FILE_BYTES_MAX)?.ok_or_else(|| Error::Missing { key, path: path.into() })
}

/// All certificates of a PEM file; at least one.
fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = read(key, path)?;
    let content = |found| Error::Content { path: path.into(), found, expected: "PEM with `BEGIN CERTIFICATE`" };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|cause| content(format!("damaged PEM ({cause})")))?;
    if found.is_empty() {
        return Err(content("no certificate".into()));
    }
    Ok(found)
}

/// Keeps the key where only this user can read it.
fn keep(path: &Path, pem: &str) -> Result<(), durable::Error> {
    struct Private;
    impl Disk for Private {
        fn create(&self, path: &Path) -> io::Result<File> {
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
            // A leftover keeps the mode that it has.
            file.set_permissions(Permissions::from_mode(0o600))?;
            Ok(file)
        }
    }
    let dir = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(dir).map_err(durable::Error::io(dir, "made"))?;
    durable::write_on(&Private, path, &[pem.as_bytes()])
}

/// RFC 7468: base64 in lines of 64.
fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    // 48 bytes are 64 characters.
    for line in der.chunks(48) {
        STANDARD.encode_string(line, &mut text);
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

/// As `openssl x509 -fingerprint -sha256` and browsers show it.
fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = digest::sha256(certificate).to_uppercase();
    let mut text = String::with_capacity(digest.len() * 3 / 2);
    for (at, digit) in digest.chars().enumerate() {
        let colon = if at > 0 && at % 2 == 0 { ":" } else { "" };
        let _ = write!(text, "{colon}{digit}");
    }
    text
}
