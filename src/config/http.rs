//! The part of the configuration that is about the HTTP port: who may ask, and whether what is said there is encrypted.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

/// Most tokens one device knows: one a person or program that asks it.
const TOKENS_MAX: usize = 64;

/// The HTTP port, besides its address, which is `listen`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    pub access: AccessMode,
    /// SHA-256, hex, of each token that opens the port. The token of `device.token_sha256` opens it too.
    pub tokens_sha256: Vec<String>,
    /// Second address, which answers only `/healthz` and `/readiness`: without token and without TLS.
    pub health_listen: Option<String>,
    pub tls: TlsConfig,
}

/// Whether a request needs a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccessMode {
    /// On loopback none; on every other address one.
    #[default]
    Auto,
    /// None, wherever it listens.
    Open,
    /// One, on loopback too.
    Token,
}

/// Encryption; with none of it set the port speaks plain HTTP.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// PEM file: the certificate, then what leads from it to an authority.
    pub certificate: Option<PathBuf>,
    /// PEM file of its private key, without a password.
    pub key: Option<PathBuf>,
    /// Make a certificate of our own, once, and keep it in the state directory.
    pub self_signed: bool,
    /// PEM file of the authorities whose certificates a client must bring; absent: a client needs none.
    pub client_ca: Option<PathBuf>,
}

impl TlsConfig {
    /// Whether the port is encrypted.
    #[must_use]
    pub fn wanted(&self) -> bool {
        self.self_signed || self.certificate.is_some()
    }
}

impl HttpConfig {
    /// Where only health is answered.
    #[must_use]
    pub fn health_address(&self) -> Option<SocketAddr> {
        self.health_listen.as_ref()?.parse().ok()
    }

    /// The first value that is out of range: its key, what was found, what is expected. `device_token`: whether the
    /// device has one, which opens this port too.
    pub(super) fn fault(&self, device_token: bool) -> Option<(&'static str, String, &'static str)> {
        let tokens = &self.tokens_sha256;
        if tokens.len() > TOKENS_MAX {
            return Some(("http.tokens_sha256", format!("{} tokens", tokens.len()), "at most 64 tokens"));
        }
        if let Some((found, expected)) = tokens.iter().find_map(|token| digest_fault(token)) {
            return Some(("http.tokens_sha256", found, expected));
        }
        if self.access == AccessMode::Token && tokens.is_empty() && !device_token {
            return Some(("http.access", "token".into(), "the tokens' digests in http.tokens_sha256"));
        }
        if let Some(listen) = self.health_listen.as_ref().filter(|_| self.health_address().is_none()) {
            return Some(("http.health_listen", listen.clone(), "ADDRESS:PORT such as 0.0.0.0:9002"));
        }
        self.tls.fault()
    }
}

impl TlsConfig {
    fn fault(&self) -> Option<(&'static str, String, &'static str)> {
        let found = |path: &PathBuf| path.display().to_string();
        match (&self.certificate, &self.key) {
            (Some(certificate), None) => {
                return Some(("http.tls.certificate", found(certificate), "its private key in http.tls.key as well"));
            }
            (None, Some(key)) => {
                return Some(("http.tls.key", found(key), "its certificate in http.tls.certificate as well"));
            }
            (Some(_), Some(_)) if self.self_signed => {
                return Some(("http.tls.self_signed", "true".into(), "false where http.tls.certificate is given"));
            }
            _ => {}
        }
        let authority = self.client_ca.as_ref().filter(|_| !self.wanted())?;
        Some(("http.tls.client_ca", found(authority), "http.tls.certificate and .key, or .self_signed = true, as well"))
    }
}

/// What is wrong with a token's digest: what was found, what is expected. What stands in its place may be the token
/// itself, and messages end up in logs: only its length is told.
pub(super) fn digest_fault(text: &str) -> Option<(String, &'static str)> {
    let is_digest = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let found = || (format!("(a text of {} bytes)", text.len()), "64 hex digits: printf %s TOKEN | sha256sum");
    (!is_digest).then(found)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;
    use super::*;

    fn parse(text: &str) -> Result<HttpConfig, String> {
        Config::parse(text, Path::new("device.toml")).map(|config| config.http).map_err(|error| error.to_string())
    }

    #[test]
    fn by_default_it_depends_on_the_address_and_nothing_is_encrypted() {
        let config = parse("").unwrap();
        assert_eq!((config.access, config.tls.wanted(), config.health_address()), (AccessMode::Auto, false, None));
    }

    #[test]
    fn values_that_do_not_go_together_name_the_key_and_what_is_missing() {
        let digest = "0".repeat(64);
        for (text, key, expected) in [
            ("[http]\naccess = \"token\"", "http.access", "http.tokens_sha256"),
            ("[http]\nhealth_listen = \"9002\"", "http.health_listen", "ADDRESS:PORT"),
            ("[http.tls]\ncertificate = \"c.pem\"", "http.tls.certificate = c.pem", "http.tls.key"),
            ("[http.tls]\nkey = \"k.pem\"", "http.tls.key = k.pem", "http.tls.certificate"),
            ("[http.tls]\nself_signed = true\ncertificate = \"c\"\nkey = \"k\"", "http.tls.self_signed", "false"),
            ("[http.tls]\nclient_ca = \"ca.pem\"", "http.tls.client_ca = ca.pem", ".self_signed"),
            (&format!("[http]\ntokens_sha256 = {:?}", vec![digest.as_str(); 65]), "http.tokens_sha256", "at most 64"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(key) && message.contains("expected") && message.contains(expected), "{message}");
        }
        assert!(parse("[http]\naccess = \"closed\"").unwrap_err().contains("line 2"));
        assert!(parse("[http.tls]\nself_singed = true").unwrap_err().contains("did you mean `self_signed`?"));
    }

    #[test]
    fn a_token_in_the_place_of_its_digest_is_not_repeated() {
        let message = parse("[http]\ntokens_sha256 = [\"my secret\"]").unwrap_err();
        assert!(message.contains("http.tokens_sha256") && message.contains("sha256sum"), "{message}");
        assert!(!message.contains("my secret"), "{message}");
    }

    #[test]
    fn the_device_s_token_is_a_token() {
        let digest = "A".repeat(64);
        parse(&format!("[http]\naccess = \"token\"\n[device]\ntoken_sha256 = \"{digest}\"")).unwrap();
        assert_eq!(parse(&format!("[http]\ntokens_sha256 = [\"{digest}\"]")).unwrap().tokens_sha256, [digest]);
    }
}
