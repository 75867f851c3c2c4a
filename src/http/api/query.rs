//! Paths and queries with their escapes undone.

use std::borrow::Cow;

use super::json::{Json, Members};

/// Members of a query, each a text; what is no UTF-8 is replaced, as Python does.
pub(super) fn members(query: &str) -> Members<'_> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (unescaped(name, true), Json::Text(unescaped(value, true)))
        })
        .collect()
}

/// Undoes `%20`, and in a query `+`. An escape that is none stays.
pub(super) fn unescaped(text: &str, is_query: bool) -> Cow<'_, str> {
    if !text.contains('%') && !(is_query && text.contains('+')) {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        bytes.push(match first {
            b'+' if is_query => b' ',
            b'%' => match after {
                [high, low, after @ ..] if let Some(byte) = hex(*high, *low) => {
                    rest = after;
                    byte
                }
                _ => b'%',
            },
            byte => *byte,
        });
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone_once() {
        for (text, query, path) in [
            ("plain", "plain", "plain"),
            ("a+b%20c", "a b c", "a+b c"),
            ("%2525", "%25", "%25"),
            ("100%", "100%", "100%"),
            ("%zz%4", "%zz%4", "%zz%4"),
            ("%c3%a9", "é", "é"),
            ("%ff", "\u{fffd}", "\u{fffd}"),
        ] {
            assert_eq!((&*unescaped(text, true), &*unescaped(text, false)), (query, path), "{text}");
        }
    }

    #[test]
    fn a_query_is_names_and_texts() {
        let text = |text: &'static str| Json::Text(text.into());
        assert_eq!(members("a=1&b&&c=x%26y=z"), [
            ("a".into(), text("1")),
            ("b".into(), text("")),
            ("c".into(), text("x&y=z"))
        ]);
        assert!(members("").is_empty());
    }
}
