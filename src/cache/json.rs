//! Typed look-ups in a JSON object, with messages that name the key, what was expected and what was found.

use std::path::Path;

use serde_json::{Map, Value};

use super::Error;
use super::error::short;

/// Longest name of a thing (an id, a type, a backend) that is believed.
pub(super) const NAME_BYTES_MAX: usize = 512;

/// Longest piece of a found value that a message shows.
const SHOWN_CHARS_MAX: usize = 60;

/// An object of a file, with the way to it for messages (`network_input.`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Object<'a> {
    map: &'a Map<String, Value>,
    way: &'a str,
}

/// Parses the object that a whole file is.
pub(super) fn object(text: &str, path: &Path) -> Result<Map<String, Value>, Error> {
    serde_json::from_str(text).map_err(|error| Error::parse(path, format_args!("not a JSON object: {error}")))
}

/// A value as a message shows it: cut when long.
pub(super) fn shown(value: &Value) -> String {
    short(&value.to_string(), SHOWN_CHARS_MAX)
}

/// A whole number, as a number or as a string holding one (Roboflow writes both).
pub(super) fn integer(value: &Value) -> Option<usize> {
    let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())?;
    usize::try_from(number).ok()
}

impl<'a> Object<'a> {
    pub fn new(map: &'a Map<String, Value>, way: &'a str) -> Self {
        Self { map, way }
    }

    /// The value of a key; a null counts as none.
    pub fn value(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub fn wrong(&self, key: &str, expected: &str) -> String {
        match self.map.get(key) {
            Some(found) => format!("{}{key}: expected {expected}, found {}", self.way, shown(found)),
            None => format!("{}{key}: expected {expected}, the key is missing", self.way),
        }
    }

    fn optional<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, String> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| self.wrong(key, expected)),
        }
    }

    pub fn string(&self, key: &str) -> Result<Option<&'a str>, String> {
        self.optional(key, "a string", Value::as_str)
    }

    /// A string of a name's length.
    pub fn name(&self, key: &str) -> Result<Option<&'a str>, String> {
        let read = |value: &'a Value| value.as_str().filter(|name| name.len() <= NAME_BYTES_MAX);
        self.optional(key, &format!("a string of at most {NAME_BYTES_MAX} bytes"), read)
    }

    pub fn boolean(&self, key: &str) -> Result<Option<bool>, String> {
        self.optional(key, "true or false", Value::as_bool)
    }

    pub fn number(&self, key: &str) -> Result<Option<f64>, String> {
        self.optional(key, "a number", Value::as_f64)
    }

    pub fn map(&self, key: &str) -> Result<Option<&'a Map<String, Value>>, String> {
        self.optional(key, "an object", Value::as_object)
    }

    pub fn list(&self, key: &str) -> Result<Option<&'a Vec<Value>>, String> {
        self.optional(key, "a list", Value::as_array)
    }

    /// A whole number from 1 to `max`.
    pub fn count(&self, key: &str, max: usize) -> Result<Option<usize>, String> {
        let read = |value: &Value| integer(value).filter(|number| (1..=max).contains(number));
        self.optional(key, &format!("a whole number from 1 to {max}"), read)
    }
}
