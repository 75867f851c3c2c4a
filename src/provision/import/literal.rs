//! Python literals as exporters write them into a network's metadata: `{0: 'person', 1: "child's toy"}`, `[640, 640]`.
//!
//! Bounded in depth and by its text; what is no literal is an error and never evaluated.

/// Deeper nesting is no metadata.
const DEPTH_MAX: usize = 16;

/// A value of the text.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    /// Of a list or a tuple.
    List(Vec<Literal>),
    /// In the order of the text.
    Dict(Vec<(Literal, Literal)>),
}

impl Literal {
    /// Reads a text that is one literal.
    ///
    /// # Errors
    /// It is none; the message says where it stops being one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut reader = Reader { text, at: 0 };
        let value = reader.value(0)?;
        reader.skip_space();
        if reader.at < text.len() { Err(reader.expected("the end")) } else { Ok(value) }
    }

    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A number that counts something.
    #[must_use]
    pub fn count(&self) -> Option<usize> {
        match self {
            Self::Int(number) => usize::try_from(*number).ok(),
            _ => None,
        }
    }

    #[must_use]
    pub fn list(&self) -> Option<&[Literal]> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }

    /// Names in order: of a list, or of a dict whose keys are 0, 1, 2 and so on.
    ///
    /// # Errors
    /// What it is instead.
    pub fn names(&self) -> Result<Vec<String>, String> {
        let name = |value: &Literal| match value {
            Self::Text(text) => Ok(text.clone()),
            Self::Int(number) => Ok(number.to_string()),
            other => Err(format!("expected a name, found {other:?}")),
        };
        match self {
            Self::List(list) => list.iter().map(name).collect(),
            Self::Dict(entries) => {
                let mut names: Vec<Option<String>> = vec![None; entries.len()];
                for (key, value) in entries {
                    let index = key.count().or_else(|| key.text()?.parse().ok());
                    let place = index.and_then(|index| names.get_mut(index));
                    *place.ok_or_else(|| format!("expected the keys 0 to {}, found {key:?}", entries.len() - 1))? =
                        Some(name(value)?);
                }
                names.into_iter().collect::<Option<_>>().ok_or_else(|| "a key is there twice".into())
            }
            other => Err(format!("expected a list or a dict, found {other:?}")),
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    /// Byte that is read next, at the begin of a character.
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let found = self.peek()?;
        self.at += found.len_utf8();
        Some(found)
    }

    fn skip_space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    /// Takes a character that may be there.
    fn take(&mut self, wanted: char) -> bool {
        self.skip_space();
        let there = self.peek() == Some(wanted);
        if there {
            self.at += wanted.len_utf8();
        }
        there
    }

    fn expected(&self, what: &str) -> String {
        let found: String = self.rest().chars().take(20).collect();
        format!("expected {what} at byte {}, found `{found}`", self.at)
    }

    fn value(&mut self, depth: usize) -> Result<Literal, String> {
        if depth > DEPTH_MAX {
            return Err(format!("nested deeper than {DEPTH_MAX} levels"));
        }
        self.skip_space();
        match self.peek() {
            Some('{') => self.dict(depth),
            Some('[') => self.list(']', depth),
            Some('(') => self.list(')', depth),
            Some(quote @ ('\'' | '"')) => self.string(quote).map(Literal::Text),
            _ => self.word(),
        }
    }

    fn list(&mut self, end: char, depth: usize) -> Result<Literal, String> {
        self.next();
        let mut values = Vec::new();
        while !self.take(end) {
            values.push(self.value(depth + 1)?);
            if !self.take(',') {
                return if self.take(end) { Ok(Literal::List(values)) } else { Err(self.expected("a comma")) };
            }
        }
        Ok(Literal::List(values))
    }

    fn dict(&mut self, depth: usize) -> Result<Literal, String> {
        self.next();
        let mut entries = Vec::new();
        while !self.take('}') {
            let key = self.value(depth + 1)?;
            if !self.take(':') {
                return Err(self.expected("a colon"));
            }
            entries.push((key, self.value(depth + 1)?));
            if !self.take(',') {
                return if self.take('}') { Ok(Literal::Dict(entries)) } else { Err(self.expected("a comma")) };
            }
        }
        Ok(Literal::Dict(entries))
    }

    fn string(&mut self, quote: char) -> Result<String, String> {
        self.next();
        let mut text = String::new();
        loop {
            match self.next() {
                None => return Err("a string has no end".into()),
                Some(c) if c == quote => return Ok(text),
                Some('\\') => text.push(self.escaped()?),
                Some(c) => text.push(c),
            }
        }
    }

    fn escaped(&mut self) -> Result<char, String> {
        let digits = match self.next() {
            Some('n') => return Ok('\n'),
            Some('t') => return Ok('\t'),
            Some('r') => return Ok('\r'),
            Some(c @ ('\\' | '\'' | '"')) => return Ok(c),
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            _ => return Err(self.expected("an escape")),
        };
        let code = self.rest().get(..digits).and_then(|hex| u32::from_str_radix(hex, 16).ok()).and_then(char::from_u32);
        self.at += if code.is_some() { digits } else { 0 };
        code.ok_or_else(|| self.expected("a character's number"))
    }

    /// A number, or one of the three words.
    fn word(&mut self) -> Result<Literal, String> {
        let len = self.rest().find(|c: char| !(c.is_ascii_alphanumeric() || "+-._".contains(c)));
        let word = &self.rest()[..len.unwrap_or(self.rest().len())];
        let value = match word {
            "None" => Some(Literal::None),
            "True" => Some(Literal::Bool(true)),
            "False" => Some(Literal::Bool(false)),
            number => number.parse().map(Literal::Int).or_else(|_| number.parse().map(Literal::Float)).ok(),
        };
        let value = value.ok_or_else(|| self.expected("a value"))?;
        self.at += word.len();
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// What Python's `str` makes of a dict of names, with each kind of quote and escape.
    const NAMES: &str =
        r#"{0: 'person', 1: "child's toy", 2: 'back\\slash', 3: 'tab\t', 4: 'Straße', 5: '\x7f', 6: '猫'}"#;

    #[test]
    fn names_are_read_as_python_writes_them() {
        let names = Literal::parse(NAMES).unwrap().names().unwrap();
        assert_eq!(names, ["person", "child's toy", "back\\slash", "tab\t", "Straße", "\x7f", "猫"]);
        assert_eq!(Literal::parse("['a', 'b',]").unwrap().names().unwrap(), ["a", "b"]);
        assert_eq!(Literal::parse("{1: 'b', 0: 'a'}").unwrap().names().unwrap(), ["a", "b"]);
        assert!(Literal::parse("{}").unwrap().names().unwrap().is_empty());
    }

    #[test]
    fn other_literals_are_read() {
        let args = "{'data': None, 'batch': 1, 'fraction': -1.5, 'dynamic': False, 'shape': (17, 3), 'e': []}";
        let Literal::Dict(entries) = Literal::parse(args).unwrap() else { panic!("a dict") };
        let values: Vec<Literal> = entries.into_iter().map(|(_, value)| value).collect();
        let shape = Literal::List(vec![Literal::Int(17), Literal::Int(3)]);
        let rest = [Literal::Bool(false), shape, Literal::List(Vec::new())];
        assert_eq!(values[..3], [Literal::None, Literal::Int(1), Literal::Float(-1.5)]);
        assert_eq!(values[3..], rest);
    }

    #[test]
    fn what_is_no_literal_is_refused_with_its_place() {
        for (text, word) in [
            ("", "a value"),
            ("{0 'a'}", "a colon"),
            ("{0: 'a' 1: 'b'}", "a comma"),
            ("{0: 'a'", "a comma"),
            ("'open", "no end"),
            ("__import__('os')", "a value"),
            ("[1] 2", "the end"),
            ("'\\u12'", "a character's number"),
        ] {
            let error = Literal::parse(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
        assert!(Literal::parse(&"[".repeat(100_000)).unwrap_err().contains("nested"));
        for text in ["{0: 'a', 2: 'b'}", "{0: 'a', 0: 'b'}", "{0: None}", "3", "{-1: 'a'}"] {
            assert!(Literal::parse(text).unwrap().names().is_err(), "{text}");
        }
    }

    #[test]
    fn damaged_texts_are_read_or_refused() {
        let mut random = Random::new(20_261_122);
        for _ in 0..20_000 {
            let mut bytes = NAMES.as_bytes().to_vec();
            for _ in 0..1 + random.bits() % 4 {
                let at = usize::try_from(random.bits()).unwrap_or_default() % bytes.len();
                match random.bits() % 3 {
                    0 => bytes[at] = random.bits().to_le_bytes()[0],
                    1 => bytes.truncate(at.max(1)),
                    _ => bytes.insert(at, b"{}[](),:'\"\\x0"[usize::try_from(random.bits() % 13).unwrap_or_default()]),
                }
            }
            if let Ok(literal) = Literal::parse(&String::from_utf8_lossy(&bytes)) {
                let _ = literal.names().map(|names| assert!(names.len() <= bytes.len()));
            }
        }
    }
}
