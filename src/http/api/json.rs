//! A request's JSON as a tree that borrows its body, so that an image of megabytes in base64 is looked at where it lies.
//!
//! Bounded against hostile bodies: nesting by serde_json's own limit, the size of the tree by [`VALUES_MAX`]; what no
//! field of ours is called takes no memory at all.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::Deserializer;
use serde::de::{Deserialize, DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Values in the fields that are read: 64 images take 200, a class filter of all classes of the largest models 2,000.
const VALUES_MAX: usize = 20_000;
/// How serde_json begins the message of a tree that is too large; our own words.
const TOO_MANY: &str = "too many values";

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Number(f64),
    Text(Cow<'a, str>),
    List(Vec<Json<'a>>),
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

/// Names and values, in the order of the body; of several of one name the last counts.
pub(super) type Members<'a> = Vec<(Cow<'a, str>, Json<'a>)>;

/// Why a body is no JSON.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Invalid {
    /// Byte of the body.
    pub at: usize,
    pub why: String,
    /// JSON it may be, but too much of it.
    pub too_large: bool,
}

/// Reads an object, of which only the members that `keep` names are kept; `None` for any other JSON.
pub(super) fn object<'a>(body: &'a [u8], keep: &dyn Fn(&str) -> bool) -> Result<Option<Members<'a>>, Invalid> {
    // Python reads past a byte order mark as well.
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let left = Cell::new(VALUES_MAX);
    let mut reader = serde_json::Deserializer::from_slice(body);
    let read = Outer { keep, left: &left }.deserialize(&mut reader).and_then(|read| reader.end().map(|()| read));
    read.map_err(|error| {
        let why = error.to_string();
        let (words, _) = why.rsplit_once(" at line ").unwrap_or((&why, ""));
        Invalid {
            at: offset(body, error.line(), error.column()),
            why: words.to_owned(),
            too_large: error.is_data() && words.starts_with(TOO_MANY),
        }
    })
}

/// The byte at a line and a column as serde_json counts them, from 1.
fn offset(body: &[u8], line: usize, column: usize) -> usize {
    let lines = body.split_inclusive(|&byte| byte == b'\n').take(line.saturating_sub(1));
    (lines.map(<[u8]>::len).sum::<usize>() + column.saturating_sub(1)).min(body.len())
}

/// The outermost value.
struct Outer<'c> {
    keep: &'c dyn Fn(&str) -> bool,
    left: &'c Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Outer<'_> {
    type Value = Option<Members<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Outer<'_> {
    type Value = Option<Members<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Members::new();
        while let Some(Text(name)) = map.next_key::<Text<'de>>()? {
            if (self.keep)(&name) {
                members.push((name, map.next_value_seed(Tree { left: self.left })?));
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Some(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// A string, borrowed where it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Words;
        impl<'de> Visitor<'de> for Words {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        reader.deserialize_str(Words)
    }
}

/// Any value.
struct Tree<'c> {
    left: &'c Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Json<'de>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Json<'de>, D::Error> {
        let left = self.left.get().checked_sub(1);
        self.left.set(left.ok_or_else(|| D::Error::custom(format_args!("{TOO_MANY}: at most {VALUES_MAX} are read")))?);
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Int(value))
    }

    #[expect(clippy::cast_precision_loss, reason = "a number past 63 bits counts as one with a point")]
    fn visit_u64<E>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(i64::try_from(value).map_or(Json::Number(value as f64), Json::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json<'de>, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(Tree { left: self.left })? {
            values.push(value);
        }
        Ok(Json::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json<'de>, A::Error> {
        let mut members = Members::new();
        while let Some(Text(name)) = map.next_key::<Text<'de>>()? {
            members.push((name, map.next_value_seed(Tree { left: self.left })?));
        }
        Ok(Json::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Result<Option<Members<'_>>, Invalid> {
        object(text.as_bytes(), &|_| true)
    }

    #[test]
    fn strings_are_borrowed_unless_they_have_escapes() {
        let members = all(r#"{"a": "plain", "b": "one\/two", "c": [1, -2.5, null, true, {"d": 9223372036854775808}]}"#);
        let members = members.unwrap().unwrap();
        assert!(matches!(&members[0].1, Json::Text(Cow::Borrowed("plain"))));
        assert!(matches!(&members[1].1, Json::Text(Cow::Owned(text)) if text == "one/two"));
        let inner = Json::Object(vec![("d".into(), Json::Number(9_223_372_036_854_775_808.0))]);
        let list = vec![Json::Int(1), Json::Number(-2.5), Json::Null, Json::Bool(true), inner];
        assert_eq!(members[2].1, Json::List(list));
    }

    #[test]
    fn what_is_not_wanted_is_skipped_and_other_json_is_none() {
        let members = object(br#"{"a": 1, "b": [[[2]]], "a": 3}"#, &|name| name == "a").unwrap().unwrap();
        assert_eq!(members, [("a".into(), Json::Int(1)), ("a".into(), Json::Int(3))]);
        for other in ["[1, {}]", "null", "true", "-1", "1", "1.5", "\"a\"", r#""\n""#] {
            assert_eq!(all(other), Ok(None), "{other}");
        }
        assert!(all("\u{feff}{}").unwrap().is_some());
    }

    #[test]
    fn faults_are_placed() {
        assert_eq!(all("{\n \"a\": x}").unwrap_err().at, 8);
        for (text, why) in [
            ("", "EOF while parsing a value"),
            ("{\"a\": 1", "EOF while parsing an object"),
            ("{} x", "trailing characters"),
            ("{'a': 1}", "key must be a string"),
        ] {
            let found = all(text).unwrap_err();
            assert_eq!((found.why.as_str(), found.too_large), (why, false), "{text}");
        }
        assert!(object(b"{\"a\": \"\xff\"}", &|_| true).is_err());
    }

    #[test]
    fn depth_and_size_have_an_end() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let deep = format!("{{\"a\": {}1{}}}", open.repeat(100_000), close.repeat(100_000));
            assert!(all(&deep).unwrap_err().why.starts_with("recursion limit"));
            assert!(object(deep.as_bytes(), &|name| name == "b").is_ok(), "skipped without recursion");
        }
        let wide = |count: usize| format!("{{\"a\": [{}1]}}", "1,".repeat(count - 1));
        assert!(all(&wide(VALUES_MAX - 1)).is_ok());
        assert!(all(&wide(VALUES_MAX)).unwrap_err().too_large);
        assert_eq!(object(wide(1_000_000).as_bytes(), &|_| false), Ok(Some(vec![])));
    }
}
