//! The topics of a device.

use crate::sink::outbox::Kind;

/// Longest name of a device, rule or class in a topic.
const NAME_CHARS_MAX: usize = 64;

/// All topics begin with the prefix and the device's name.
#[derive(Clone, Debug)]
pub struct Topics {
    base: String,
    pub device: String,
}

impl Topics {
    pub fn new(prefix: &str, device: &str) -> Self {
        Self { base: format!("{}/{device}", prefix.trim_end_matches('/')), device: device.into() }
    }

    /// Retained `online` or `offline`, which is the last will.
    pub fn availability(&self) -> String {
        format!("{}/availability", self.base)
    }

    pub fn record(&self, kind: Kind) -> String {
        format!("{}/{}", self.base, kind.as_str())
    }

    /// Retained: counts and rates.
    pub fn status(&self) -> String {
        format!("{}/status", self.base)
    }

    /// Retained `ON` while a rule sees something, else `OFF`.
    pub fn rule(&self, object: &str) -> String {
        format!("{}/rule/{object}", self.base)
    }
}

/// A text as part of a topic: letters, digits, `-` and `_`; anything else becomes `_`.
pub fn plain(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    text.chars().map(plain).take(NAME_CHARS_MAX).collect()
}

/// Plain texts of names, each of which no other has.
pub fn objects<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut objects: Vec<String> = Vec::new();
    for (index, name) in names.into_iter().enumerate() {
        let object = plain(name).to_lowercase();
        let taken = object.is_empty() || objects.contains(&object);
        objects.push(if taken { format!("{object}_{index}") } else { object });
    }
    objects
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_parts_of_topics_that_differ() {
        let names = ["M8 nut", "m8_nut", "", "a/b+#", "Ä"];
        assert_eq!(objects(names), ["m8_nut", "m8_nut_1", "_2", "a_b__", "_"]);
        let topics = Topics::new("plant/", "cam-1");
        assert_eq!(topics.availability(), "plant/cam-1/availability");
        assert_eq!(topics.record(Kind::Event), "plant/cam-1/event");
    }
}
