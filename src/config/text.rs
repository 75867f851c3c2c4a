//! TOML text into a typed value, with errors that name the line and the nearest valid key.

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use crate::error::nearest;

/// Reads a whole document as `T`.
///
/// By way of a tree, and not straight from the text: the code that serde makes for that is several times as large.
///
/// # Errors
/// One line: where and what is wrong.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let at = |start: usize| format!("line {}: ", text[..start.min(text.len())].matches('\n').count() + 1);
    let one_line = |message: &str| message.trim_end().replace('\n', " ");
    let table: Table = toml::from_str(text).map_err(|error| {
        let place = error.span().map(|span| at(span.start)).unwrap_or_default();
        format!("{place}{}", one_line(error.message()))
    })?;
    Value::Table(table).try_into().map_err(|error: toml::de::Error| {
        let (mut message, mut keys) = (one_line(error.message()), keys(&error));
        if let Some((unknown, said)) = unknown_key(&message) {
            keys.push(unknown);
            message = said;
        }
        format!("{}{message}", start_of(text, &keys).map(at).unwrap_or_default())
    })
}

/// The way to what is wrong, which toml tells only in the last line of its words: ``in `a.b` ``.
fn keys(error: &toml::de::Error) -> Vec<String> {
    let words = error.to_string();
    let way = words.trim_end().lines().last().and_then(|line| line.strip_prefix("in `")?.strip_suffix('`'));
    way.map(|way| way.split('.').map(str::to_owned).collect()).unwrap_or_default()
}

/// The key that serde does not know, and better words for it.
fn unknown_key(message: &str) -> Option<(String, String)> {
    let (key, valid) = message.strip_prefix("unknown field `")?.split_once("`, expected ")?;
    let valid: Vec<&str> = valid.split('`').skip(1).step_by(2).collect();
    let said = match nearest(key, valid.iter().copied(), 1).first() {
        Some(near) => format!("unknown key `{key}`; did you mean `{near}`?"),
        None => format!("unknown key `{key}`; valid here: {}", valid.join(", ")),
    };
    Some((key.to_owned(), said))
}

/// Where the last of `keys` stands in the text.
fn start_of(text: &str, keys: &[String]) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let (mut table, mut start) = (document.get_ref(), None);
    for key in keys {
        let (name, value) = table.iter().find(|(name, _)| name.get_ref() == key)?;
        start = Some(name.span().start);
        let DeValue::Table(inner) = value.get_ref() else { break };
        table = inner;
    }
    start
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Document {
        #[expect(dead_code, reason = "only read")]
        table: Inner,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[expect(dead_code, reason = "only read")]
        number: u16,
    }

    fn fault(text: &str) -> String {
        read::<Document>(text).unwrap_err()
    }

    #[test]
    fn every_mistake_has_its_line() {
        assert!(read::<Document>("[table]\nnumber = 1\n").is_ok());
        assert_eq!(fault("[table]\n\nnumbre = 1\n"), "line 3: unknown key `numbre`; did you mean `number`?");
        assert_eq!(fault("\n[tabel]\nnumber = 1\n"), "line 2: unknown key `tabel`; did you mean `table`?");
        assert_eq!(fault("table.number = \"1\""), "line 1: invalid type: string \"1\", expected u16");
        assert!(fault("\n[table]\nnumber = 70000").starts_with("line 3: invalid value: integer `70000`"));
        assert_eq!(fault("\n[table]\n"), "line 2: missing field `number`");
        assert!(fault("[table]\nnumber = \n").starts_with("line 2: "), "{}", fault("[table]\nnumber = \n"));
        assert_eq!(fault(""), "missing field `table`");
    }
}
