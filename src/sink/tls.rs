//! TLS to a peer: whose certificates are believed, and our own where the peer wants one.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::durable::read_bounded;

/// Largest file that is read: a whole system's authorities have a quarter of a megabyte.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A file as a whole.
///
/// # Errors
/// In words that name it.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    match read_bounded(path, FILE_BYTES_MAX) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(format!("{}: no such file", path.display())),
        Err(error) => Err(error.to_string()),
    }
}

/// The certificates of a PEM file, at least one.
///
/// # Errors
/// In words that name the file.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(format!("{}: no certificate; expected PEM sections `BEGIN CERTIFICATE`", path.display())),
    }
}

/// The private key of a PEM file.
///
/// # Errors
/// In words that name the file.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| {
        let expected = "a PEM section such as `BEGIN PRIVATE KEY`, without a password";
        format!("{}: no private key; expected {expected}", path.display())
    })
}

/// What a client of TLS 1.2 and 1.3 goes by. `ca`: who may vouch for the peer, else those that browsers trust;
/// `identity`: certificate and key of our own.
///
/// # Errors
/// In words.
pub fn client_config(ca: Option<&Path>, identity: Option<(&Path, &Path)>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
            }
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
            .map_err(|error| format!("{} and {}: {error}", certificate.display(), key.display()))?,
    };
    Ok(Arc::new(config))
}
