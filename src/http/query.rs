//! The path and the query of a request's address, decoded.

/// The pairs of a query, decoded: `%41` is a byte, `+` a space, and what is no UTF-8 becomes U+FFFD.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name, b' '), decode(value, b' '))
    })
}

/// A path, decoded: as a query, but a `+` is a `+`.
pub(super) fn path(path: &str) -> String {
    decode(path, b'+')
}

/// Undoes escapes; `plus` is what a `+` stands for.
fn decode(text: &str, plus: u8) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let (bytes, mut at) = (text.as_bytes(), 0);
    let mut decoded = Vec::with_capacity(bytes.len());
    while let Some(byte) = bytes.get(at) {
        let escaped = digit(bytes.get(at + 1)).zip(digit(bytes.get(at + 2))).filter(|_| *byte == b'%');
        let (byte, taken) = match (escaped.map(|(high, low)| u8::try_from(high * 16 + low)), *byte) {
            (Some(Ok(byte)), _) => (byte, 3),
            (_, b'+') => (plus, 1),
            (_, byte) => (byte, 1),
        };
        decoded.push(byte);
        at += taken;
    }
    String::from_utf8(decoded).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded_and_nothing_is_too_odd() {
        let all = |query| pairs(query).collect::<Vec<_>>();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(all("a=1&b=x%20y+z&&c"), [pair("a", "1"), pair("b", "x y z"), pair("c", "")]);
        assert_eq!(all("a=b=c&%61=%2B%2b"), [pair("a", "b=c"), pair("a", "++")]);
        assert_eq!(all("a=%&b=%4&c=%zz&d=é"), [pair("a", "%"), pair("b", "%4"), pair("c", "%zz"), pair("d", "é")]);
        assert_eq!(all("a=%ff%C3%A9"), [pair("a", "\u{fffd}é")]);
        assert!(all("").is_empty());
    }

    #[test]
    fn a_plus_in_a_path_is_one() {
        for (raw, decoded) in [("/a+b/1", "/a+b/1"), ("/a%20b/%31", "/a b/1"), ("/..%2fx", "/../x"), ("/%2525", "/%25")]
        {
            assert_eq!(path(raw), decoded);
        }
    }
}
