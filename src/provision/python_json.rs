//! JSON as Python's `json.dump` writes it, so that a cache is to the byte what Roboflow's programs would have written.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

/// On one line, with a space after every comma and colon.
#[must_use]
pub fn line(value: &Value) -> Vec<u8> {
    write(value, Line)
}

/// With that many spaces a level.
#[must_use]
pub fn indented(value: &Value, spaces: usize) -> Vec<u8> {
    let indent = " ".repeat(spaces);
    write(value, Indented(PrettyFormatter::with_indent(indent.as_bytes())))
}

/// The same value with the keys of every object in order, as `sort_keys=True` has them.
#[must_use]
pub fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            entries.sort_by_key(|&(key, _)| key);
            Value::Object(entries.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect())
        }
        Value::Array(list) => Value::Array(list.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

fn write<F: Formatter>(value: &Value, formatter: F) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter));
    debug_assert!(written.is_ok(), "values have no way to fail, nor has memory");
    bytes
}

/// `ensure_ascii=True`: what is not ASCII is written in UTF-16 code units.
fn ascii<W: ?Sized + Write>(writer: &mut W, fragment: &str) -> io::Result<()> {
    for c in fragment.chars() {
        if c.is_ascii() {
            writer.write_all(&[u8::try_from(c).unwrap_or(b'?')])?;
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
    }
    Ok(())
}

struct Line;

impl Formatter for Line {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        ascii(writer, fragment)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        CompactFormatter.begin_object_value(writer)?;
        writer.write_all(b" ")
    }
}

struct Indented<'a>(PrettyFormatter<'a>);

impl Formatter for Indented<'_> {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        ascii(writer, fragment)
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn it_is_what_python_writes() {
        let value = json!({"b": [1, "ä😀\n"], "a": {}, "c": [], "d": null});
        // json.dumps of the same.
        assert_eq!(text(line(&value)), "{\"b\": [1, \"\\u00e4\\ud83d\\ude00\\n\"], \"a\": {}, \"c\": [], \"d\": null}");
        // json.dumps(…, indent=2, sort_keys=True).
        assert_eq!(
            text(indented(&sorted(&value), 2)),
            "{\n  \"a\": {},\n  \"b\": [\n    1,\n    \"\\u00e4\\ud83d\\ude00\\n\"\n  ],\n  \"c\": [],\n  \"d\": null\n}"
        );
    }
}
