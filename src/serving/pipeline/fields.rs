//! The fields of a JSON object read one by one, with faults that say which field and why, as FastAPI says them.

use serde_json::{Map, Value};

use super::Error;

/// A JSON object and the way to it from the body.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// Of the whole body.
    ///
    /// # Errors
    /// It is no object.
    pub fn of_body(body: &'a Value) -> Result<Self, Error> {
        Self::of(body, Vec::new())
    }

    fn of(value: &'a Value, path: Vec<&'static str>) -> Result<Self, Error> {
        match value.as_object() {
            Some(map) => Ok(Self { map, path }),
            None => Err(fault(path, "model_attributes_type", "Input should be a valid dictionary")),
        }
    }

    /// The value of a field; a null is none.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    pub fn map(&self) -> &'a Map<String, Value> {
        self.map
    }

    /// The value of a field that must be there.
    pub fn need(&self, name: &'static str) -> Result<&'a Value, Error> {
        self.get(name).ok_or_else(|| self.fault(name, "missing", "Field required"))
    }

    pub fn object(&self, name: &'static str) -> Result<Option<Fields<'a>>, Error> {
        self.get(name).map(|value| Self::of(value, self.path_to(name))).transpose()
    }

    pub fn need_object(&self, name: &'static str) -> Result<Fields<'a>, Error> {
        Self::of(self.need(name)?, self.path_to(name))
    }

    pub fn text(&self, name: &'static str) -> Result<Option<&'a str>, Error> {
        let wrong = || self.fault(name, "string_type", "Input should be a valid string");
        self.get(name).map(|value| value.as_str().ok_or_else(wrong)).transpose()
    }

    /// A finite number.
    pub fn number(&self, name: &'static str) -> Result<Option<f64>, Error> {
        let wrong = || self.fault(name, "float_type", "Input should be a valid number");
        self.get(name).map(|value| value.as_f64().ok_or_else(wrong)).transpose()
    }

    /// A whole number within bounds, both included.
    pub fn count(&self, name: &'static str, (least, most): (usize, usize)) -> Result<Option<usize>, Error> {
        let Some(value) = self.get(name) else { return Ok(None) };
        if !value.is_number() {
            return Err(self.fault(name, "int_type", "Input should be a valid integer"));
        }
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
        match count.filter(|count| (least..=most).contains(count)) {
            Some(count) => Ok(Some(count)),
            None => Err(Error::Invalid(format!("{name} is {value}; it must be a whole number from {least} to {most}"))),
        }
    }

    /// One of some words.
    pub fn word(&self, name: &'static str, words: &[&'static str]) -> Result<Option<&'static str>, Error> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let found = value.as_str().and_then(|found| words.iter().find(|word| **word == found));
        found.copied().map(Some).ok_or_else(|| {
            let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
            self.fault(name, "enum", &format!("Input should be {}", words.join(", ")))
        })
    }

    /// The discriminator of a union of objects.
    pub fn need_type(&self, words: &[&'static str]) -> Result<&'static str, Error> {
        self.need("type")?;
        self.word("type", words).map(Option::unwrap_or_default)
    }

    /// What is wrong with a field.
    pub fn fault(&self, name: &'static str, kind: &'static str, message: &str) -> Error {
        fault(self.path_to(name), kind, message)
    }

    fn path_to(&self, name: &'static str) -> Vec<&'static str> {
        let mut path = self.path.clone();
        path.push(name);
        path
    }
}

fn fault(path: Vec<&'static str>, kind: &'static str, message: &str) -> Error {
    Error::Field { path, kind, message: message.into() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_fault_names_the_way_to_the_field() {
        let body = json!({"video": {"fps": "fast", "size": 70, "type": "Film"}, "none": null});
        let fields = Fields::of_body(&body).unwrap();
        let video = fields.need_object("video").unwrap();
        let path = |error| match error {
            Error::Field { path, kind, .. } => (path.join("."), kind),
            other => panic!("{other}"),
        };
        assert_eq!(path(video.number("fps").unwrap_err()), ("video.fps".into(), "float_type"));
        assert_eq!(path(video.need_type(&["Video"]).unwrap_err()), ("video.type".into(), "enum"));
        assert_eq!(path(fields.need("none").unwrap_err()), ("none".into(), "missing"));
        assert_eq!(path(fields.need_object("sink").unwrap_err()), ("sink".into(), "missing"));
        assert!(matches!(video.count("size", (1, 64)), Err(Error::Invalid(_))));
        assert_eq!(video.count("size", (1, 70)).unwrap(), Some(70));
        assert!(Fields::of_body(&json!([1])).is_err());
    }
}
