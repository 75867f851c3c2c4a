//! Addresses of network sources: what goes to the peer, what is ours, and what may be shown.
//!
//! `rtsp://user:password@camera/stream?channel=1#transport=udp`: what is before `#` is the camera's, its query included;
//! what is behind is never sent to anybody (RFC 3986, 3.5), so it is where our options are. A password is shown nowhere,
//! and a query neither, because many cameras take one there.

use url::Url;

use super::Error;

/// What is shown for what is secret.
const SECRET: &str = "***";

/// A network source's address, taken apart.
#[derive(Clone)]
pub struct Address {
    /// Without credentials and options: what is asked for.
    pub url: Url,
    pub credentials: Option<Credentials>,
    /// What may be printed.
    pub shown: String,
    options: String,
}

/// A user and a password, as the peer wants to hear them.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub user: String,
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({SECRET})")
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Address({})", self.shown)
    }
}

impl Address {
    /// Takes a URI apart.
    ///
    /// # Errors
    /// It is no URL, or names no host; the message shows none of it but its kind.
    pub fn parse(uri: &str) -> Result<Self, Error> {
        let fail = |why: String| Error::Open { uri: shown(uri), why };
        let mut url = Url::parse(uri).map_err(|error| {
            fail(format!(
                "is no URL ({error}); in a user or password write `@`, `/`, `:` and `#` as %40, %2F, %3A and %23"
            ))
        })?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err(fail(format!("names no host; for instance {}://camera.local/stream", url.scheme())));
        }
        let credentials = (!url.username().is_empty() || url.password().is_some()).then(|| Credentials {
            user: decoded(url.username()),
            password: decoded(url.password().unwrap_or_default()),
        });
        let shown = shown(url.as_str());
        let options = url.fragment().unwrap_or_default().to_owned();
        url.set_fragment(None);
        // Neither can fail for a URL that has a host.
        let _ = (url.set_username(""), url.set_password(None));
        Ok(Self { url, credentials, shown, options })
    }

    /// Our own options, `#name=value&name=value`.
    pub fn options(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.options.split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }

    /// The error of an option that there is not.
    pub fn unknown_option(&self, option: &str, valid: &'static str) -> Error {
        Error::UnknownOption { uri: self.shown.clone(), option: option.into(), valid }
    }

    /// The error of a value that cannot be.
    pub fn wrong_option(&self, option: &'static str, found: &str, expected: &'static str) -> Error {
        Error::Option { uri: self.shown.clone(), option, found: found.into(), expected }
    }
}

/// A URI as it may be printed: the user but no password, and no query of the peer's. Of one that hides what its parts
/// are only the kind is left.
pub fn shown(uri: &str) -> String {
    let Some((scheme, _)) = uri.split_once("://") else { return uri.to_owned() };
    let Ok(mut url) = Url::parse(uri) else { return format!("{scheme}://{SECRET}") };
    if url.password().is_some() {
        let _ = url.set_password(Some(SECRET));
    } else if !url.username().is_empty() {
        // A user alone may be a token.
        let _ = url.set_username(SECRET);
    }
    if url.query().is_some() {
        url.set_query(Some(SECRET));
    }
    url.into()
}

/// `%40` and the like as the bytes that they stand for; what is no such escape stays.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digit = |at: usize| tail.get(at).and_then(|&digit| char::from(digit).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).expect("two hexadecimal digits"));
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_camera_gets_its_part_and_we_ours() {
        let address =
            Address::parse("rtsp://ad%40min:p%3Ass@cam:8554/live?channel=1&subtype=0#transport=udp&x").unwrap();
        assert_eq!(address.url.as_str(), "rtsp://cam:8554/live?channel=1&subtype=0");
        assert_eq!(address.options().collect::<Vec<_>>(), [("transport", "udp"), ("x", "")]);
        let credentials = address.credentials.clone().unwrap();
        assert_eq!((credentials.user.as_str(), credentials.password.as_str()), ("ad@min", "p:ss"));
        assert_eq!(address.shown, "rtsp://ad%40min:***@cam:8554/live?***#transport=udp&x");
        assert_eq!(Address::parse("http://[::1]:8080/").unwrap().credentials, None);
    }

    #[test]
    fn a_secret_is_shown_nowhere() {
        for uri in [
            "rtsp://user:hunter2@cam/x",
            "rtsp://hunter2@cam/x",
            "rtsp://cam/user=admin&x?password=hunter2",
            // Of what is no URL nobody can say where the password is.
            "rtsp://user:hun/ter2@cam/x",
            "rtsp://user:hunter2@:99999/x",
            "rtps://user:hunter2@cam/x",
        ] {
            let address = Address::parse(uri);
            let printed = format!("{address:?} {} {:?}", shown(uri), address.as_ref().err().map(ToString::to_string));
            assert!(!printed.contains("ter2"), "{printed}");
        }
    }

    #[test]
    fn what_is_no_address_is_said() {
        for (uri, word) in
            [("rtsp:///x", "host"), ("rtsp:cam", "host"), ("http://", "is no URL"), ("http://a:b:c/", "%40")]
        {
            let message = Address::parse(uri).unwrap_err().to_string();
            assert!(message.contains(word), "{uri}: {message}");
        }
    }
}
