//! Values as pydantic takes them in its lax mode, from JSON and from a query: `"0.5"` is a number, `"off"` is false, `3.0` is
//! an integer. What it refuses is a [`Problem`] in its words.

use std::borrow::Cow;

use serde_json::json;

use super::fault::{Place, Problem};
use super::json::{Json, Members};
use crate::model::{Confidence, ConfidenceWord};

/// Words that pydantic takes for a boolean, in small letters.
const TRUE: &[&str] = &["1", "on", "t", "true", "y", "yes"];
const FALSE: &[&str] = &["0", "off", "f", "false", "n", "no"];

/// Whether a field may be null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Null {
    Allowed,
    Refused,
}

/// Named values that are taken out one by one, and what was wrong with them.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    members: Members<'a>,
    /// Where they come from: `body` or `query`.
    origin: &'static str,
    pub problems: Vec<Problem>,
}

/// Kind and words of a refusal.
type Refusal = (&'static str, &'static str);

impl<'a> Reader<'a> {
    pub(super) fn new(members: Members<'a>, origin: &'static str) -> Self {
        Self { members, origin, problems: Vec::new() }
    }

    /// The last value of a name.
    pub(super) fn take(&mut self, name: &str) -> Option<Json<'a>> {
        let at = self.members.iter().rposition(|(found, _)| found == name)?;
        Some(std::mem::replace(&mut self.members[at].1, Json::Null))
    }

    /// The last value of a name that must be there.
    pub(super) fn require(&mut self, name: &'static str) -> Option<Json<'a>> {
        let found = self.take(name);
        if found.is_none() {
            self.problems.push(Problem::missing(self.at(name)));
        }
        found
    }

    pub(super) fn at(&self, name: &'static str) -> Vec<Place> {
        vec![Place::Name(self.origin), Place::Name(name)]
    }

    fn read<T>(
        &mut self,
        name: &'static str,
        null: Null,
        convert: impl FnOnce(&Json<'a>) -> Result<T, Refusal>,
    ) -> Option<T> {
        let value = self.take(name)?;
        if value == Json::Null && null == Null::Allowed {
            return None;
        }
        convert(&value).map_err(|(kind, msg)| self.problems.push(Problem::new(kind, self.at(name), msg))).ok()
    }

    pub(super) fn number(&mut self, name: &'static str, null: Null) -> Option<f64> {
        self.read(name, null, number)
    }

    pub(super) fn integer(&mut self, name: &'static str, null: Null) -> Option<i64> {
        self.read(name, null, integer)
    }

    pub(super) fn flag(&mut self, name: &'static str, null: Null) -> Option<bool> {
        self.read(name, null, flag)
    }

    pub(super) fn text(&mut self, name: &'static str, null: Null) -> Option<Cow<'a, str>> {
        self.read(name, null, |value| match value {
            Json::Text(text) => Ok(text.clone()),
            _ => Err(("string_type", "Input should be a valid string")),
        })
    }

    /// A text that must be there.
    pub(super) fn required_text(&mut self, name: &'static str) -> Option<Cow<'a, str>> {
        match self.require(name)? {
            Json::Text(text) => Some(text),
            _ => {
                self.problems.push(Problem::new("string_type", self.at(name), "Input should be a valid string"));
                None
            }
        }
    }

    /// A count: an integer that is not negative.
    pub(super) fn count(&mut self, name: &'static str, null: Null) -> Option<usize> {
        let refusal = ("greater_than_equal", "Input should be greater than or equal to 0");
        self.read(name, null, |value| usize::try_from(integer(value)?).map_err(|_| refusal))
    }

    pub(super) fn texts(&mut self, name: &'static str) -> Option<Vec<String>> {
        let values = match self.take(name)? {
            Json::Null => return None,
            Json::List(values) => values,
            _ => {
                self.problems.push(Problem::new("list_type", self.at(name), "Input should be a valid list"));
                return None;
            }
        };
        let mut texts = Vec::with_capacity(values.len());
        for (index, value) in values.into_iter().enumerate() {
            if let Json::Text(text) = value {
                texts.push(text.into_owned());
            } else {
                let at = [self.at(name), vec![Place::Index(index)]].concat();
                self.problems.push(Problem::new("string_type", at, "Input should be a valid string"));
            }
        }
        Some(texts)
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(
        &mut self,
        name: &'static str,
        words: &'static [(&'static str, T)],
        null: Null,
    ) -> Option<T> {
        let value = self.take(name)?;
        if value == Json::Null && null == Null::Allowed {
            return None;
        }
        let found = words.iter().find(|(word, _)| matches!(&value, Json::Text(text) if text == word));
        if found.is_none() {
            self.problems.push(literal(self.at(name), words.iter().map(|(word, _)| *word)));
        }
        found.map(|&(_, value)| value)
    }

    /// A number, `best` or `default`.
    pub(super) fn confidence(&mut self, name: &'static str) -> Option<Confidence> {
        const WORDS: [(&str, ConfidenceWord); 2] =
            [("best", ConfidenceWord::Best), ("default", ConfidenceWord::Default)];
        let value = self.take(name)?;
        let refusal = match number(&value) {
            Ok(number) => return Some(Confidence::Number(number)),
            Err(refusal) => refusal,
        };
        let word = WORDS.iter().find(|(word, _)| matches!(&value, Json::Text(text) if text == word));
        if let Some(&(_, word)) = word {
            return Some(Confidence::Word(word));
        }
        let at = |way| [self.at(name), vec![Place::Name(way)]].concat();
        let problems = [
            Problem::new(refusal.0, at("float"), refusal.1),
            literal(at("literal['best','default']"), WORDS.iter().map(|(word, _)| *word)),
        ];
        self.problems.extend(problems);
        None
    }
}

fn literal<'w>(loc: Vec<Place>, words: impl Iterator<Item = &'w str>) -> Problem {
    let words: Vec<String> = words.map(|word| format!("'{word}'")).collect();
    let expected = match words.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => words.concat(),
    };
    let msg = format!("Input should be {expected}");
    Problem { ctx: Some(json!({"expected": expected})), ..Problem::new("literal_error", loc, msg) }
}

#[expect(clippy::cast_precision_loss, reason = "Python's float() rounds as well")]
fn number(value: &Json<'_>) -> Result<f64, Refusal> {
    match value {
        Json::Number(number) => Ok(*number),
        Json::Int(number) => Ok(*number as f64),
        Json::Bool(flag) => Ok(f64::from(u8::from(*flag))),
        Json::Text(text) => text
            .trim()
            .parse()
            .map_err(|_| ("float_parsing", "Input should be a valid number, unable to parse string as a number")),
        _ => Err(("float_type", "Input should be a valid number")),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "whole, and within bounds that f64 holds exactly")]
fn integer(value: &Json<'_>) -> Result<i64, Refusal> {
    /// Up to here f64 has every integer.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Json::Int(number) => Ok(*number),
        Json::Bool(flag) => Ok(i64::from(*flag)),
        Json::Number(number) if number.fract() != 0.0 => {
            Err(("int_from_float", "Input should be a valid integer, got a number with a fractional part"))
        }
        Json::Number(number) if number.abs() <= EXACT => Ok(*number as i64),
        Json::Number(_) => {
            Err(("int_parsing_size", "Unable to parse input string as an integer, exceeded maximum size"))
        }
        Json::Text(text) => {
            let text = text.trim();
            // As pydantic does, "3.00" is 3.
            let whole = text.split_once('.').filter(|(_, zeros)| zeros.bytes().all(|byte| byte == b'0'));
            whole
                .map_or(text, |(whole, _)| whole)
                .parse()
                .map_err(|_| ("int_parsing", "Input should be a valid integer, unable to parse string as an integer"))
        }
        _ => Err(("int_type", "Input should be a valid integer")),
    }
}

fn flag(value: &Json<'_>) -> Result<bool, Refusal> {
    let parsing = ("bool_parsing", "Input should be a valid boolean, unable to interpret input");
    match value {
        Json::Bool(flag) => Ok(*flag),
        Json::Int(0) => Ok(false),
        Json::Int(1) => Ok(true),
        Json::Number(0.0) => Ok(false),
        Json::Number(1.0) => Ok(true),
        Json::Int(_) | Json::Number(_) => Err(parsing),
        Json::Text(text) => {
            let is_in = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
            if is_in(TRUE) {
                Ok(true)
            } else if is_in(FALSE) {
                Ok(false)
            } else {
                Err(parsing)
            }
        }
        _ => Err(("bool_type", "Input should be a valid boolean")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::json::object;
    use super::*;

    fn reader(body: &str) -> Reader<'_> {
        Reader::new(object(body.as_bytes(), &|_| true).unwrap().unwrap(), "body")
    }

    fn kinds(reader: &Reader<'_>) -> Vec<&'static str> {
        reader.problems.iter().map(|problem| problem.kind).collect()
    }

    #[test]
    fn numbers_are_taken_from_what_looks_like_one() {
        for (json, expected) in
            [("0.5", 0.5), ("1", 1.0), ("\" 0.5 \"", 0.5), ("true", 1.0), ("\"1e-1\"", 0.1), ("1e2", 100.0)]
        {
            let body = format!("{{\"a\": {json}}}");
            assert_eq!(reader(&body).number("a", Null::Refused), Some(expected), "{json}");
        }
        for (json, kind) in [("\"x\"", "float_parsing"), ("null", "float_type"), ("[]", "float_type")] {
            let body = format!("{{\"a\": {json}}}");
            let mut reader = reader(&body);
            assert_eq!(reader.number("a", Null::Refused), None);
            assert_eq!(kinds(&reader), [kind], "{json}");
        }
    }

    #[test]
    fn integers_may_have_a_point_but_no_fraction() {
        for (json, expected) in [("3", 3), ("3.0", 3), ("\"3\"", 3), ("\"3.00\"", 3), ("true", 1), ("-2", -2)] {
            let body = format!("{{\"a\": {json}}}");
            assert_eq!(reader(&body).integer("a", Null::Refused), Some(expected), "{json}");
        }
        for (json, kind) in [
            ("3.5", "int_from_float"),
            ("\"3.5\"", "int_parsing"),
            ("1e300", "int_parsing_size"),
            ("{}", "int_type"),
            ("\"\"", "int_parsing"),
        ] {
            let body = format!("{{\"a\": {json}}}");
            let mut reader = reader(&body);
            assert_eq!(reader.integer("a", Null::Refused), None);
            assert_eq!(kinds(&reader), [kind], "{json}");
        }
        let mut negative = reader(r#"{"a": -1}"#);
        assert_eq!((negative.count("a", Null::Refused), kinds(&negative)), (None, vec!["greater_than_equal"]));
    }

    #[test]
    fn flags_are_words_too() {
        for (json, expected) in
            [("true", true), ("0", false), ("1.0", true), ("\"False\"", false), ("\"ON\"", true), ("\"n\"", false)]
        {
            let body = format!("{{\"a\": {json}}}");
            assert_eq!(reader(&body).flag("a", Null::Refused), Some(expected), "{json}");
        }
        for (json, kind) in [("2", "bool_parsing"), ("\"x\"", "bool_parsing"), ("null", "bool_type")] {
            let body = format!("{{\"a\": {json}}}");
            let mut reader = reader(&body);
            assert_eq!(reader.flag("a", Null::Refused), None);
            assert_eq!(kinds(&reader), [kind], "{json}");
        }
    }

    #[test]
    fn null_is_nothing_where_it_may_be() {
        let body = r#"{"a": null, "b": 1, "b": 2}"#;
        let mut reader = reader(body);
        assert_eq!(reader.number("a", Null::Allowed), None);
        assert_eq!(reader.integer("b", Null::Allowed), Some(2), "the last of a name counts");
        assert_eq!(reader.text("c", Null::Refused), None);
        assert!(reader.problems.is_empty());
        assert!(reader.require("c").is_none());
        let missing = serde_json::to_value(&reader.problems[0]).unwrap();
        assert_eq!(missing, json!({"type": "missing", "loc": ["body", "c"], "msg": "Field required"}));
    }

    #[test]
    fn confidence_is_a_number_or_one_of_two_words() {
        let read = |body: &str| reader(body).confidence("a");
        assert_eq!(read(r#"{"a": "0.3"}"#), Some(Confidence::Number(0.3)));
        assert_eq!(read(r#"{"a": "best"}"#), Some(Confidence::Word(ConfidenceWord::Best)));
        let mut wrong = reader(r#"{"a": "high"}"#);
        assert_eq!(wrong.confidence("a"), None);
        let problems = serde_json::to_value(&wrong.problems).unwrap();
        assert_eq!(problems[0]["loc"], json!(["body", "a", "float"]));
        assert_eq!(problems[1]["loc"], json!(["body", "a", "literal['best','default']"]));
        assert_eq!(problems[1]["ctx"]["expected"], "'best' or 'default'");
    }

    #[test]
    fn lists_name_the_entry_that_is_wrong() {
        assert_eq!(reader(r#"{"a": ["x", "y"]}"#).texts("a").unwrap(), ["x", "y"]);
        let mut wrong = reader(r#"{"a": ["x", 1]}"#);
        wrong.texts("a");
        assert_eq!(serde_json::to_value(&wrong.problems[0].loc).unwrap(), json!(["body", "a", 1]));
        let mut wrong = reader(r#"{"a": "x"}"#);
        assert_eq!((wrong.texts("a"), kinds(&wrong)), (None, vec!["list_type"]));
    }
}
