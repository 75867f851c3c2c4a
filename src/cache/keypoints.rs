//! `keypoints_metadata.json`: names and edges of the points of each class (SPEC §1.2).

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::Error;
use super::json::{Object, integer, shown};

/// Key points of one class of objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skeleton {
    /// Class of the object.
    pub class_id: usize,
    /// Names of its points, by their number.
    pub names: Vec<String>,
    /// Pairs of points that are drawn joined.
    pub edges: Vec<(usize, usize)>,
}

/// Parses the text of the file at `path`. The classic engine does without edges, the default engine requires them,
/// and requires a skeleton of every class from the first to the last.
pub(super) fn parse(text: &str, path: &Path, edges_required: bool) -> Result<Vec<Skeleton>, Error> {
    let fail = |message: String| Error::parse(path, message);
    let list: Vec<Map<String, Value>> = serde_json::from_str(text)
        .map_err(|error| fail(format!("expected a list with one object a class: {error}")))?;
    let skeletons: Vec<Skeleton> =
        list.iter().map(|entry| skeleton(entry, edges_required)).collect::<Result<_, _>>().map_err(&fail)?;
    if edges_required {
        let mut classes: Vec<usize> = skeletons.iter().map(|skeleton| skeleton.class_id).collect();
        classes.sort_unstable();
        if !classes.iter().copied().eq(0..list.len()) {
            return Err(fail(format!("object_class_id: expected each of 0 to {} once", list.len().saturating_sub(1))));
        }
    }
    Ok(skeletons)
}

fn skeleton(entry: &Map<String, Value>, edges_required: bool) -> Result<Skeleton, String> {
    let entry = Object::new(entry, "");
    let class_id = entry.value("object_class_id").and_then(integer);
    let class_id = class_id.ok_or_else(|| entry.wrong("object_class_id", "a class index"))?;
    let points = entry.map("keypoints")?.ok_or_else(|| entry.wrong("keypoints", "an object"))?;
    let mut numbered = BTreeMap::new();
    for (number, name) in points {
        let number: usize =
            number.trim().parse().map_err(|_| format!("keypoints: `{number}`: expected the number of a point"))?;
        let name =
            name.as_str().ok_or_else(|| format!("keypoints.{number}: expected a name, found {}", shown(name)))?;
        numbered.insert(number, name.to_owned());
    }
    if !numbered.keys().copied().eq(0..points.len()) {
        return Err(format!("keypoints of class {class_id}: the numbers are not 0, 1, 2, …"));
    }
    let edges = match entry.list("edges")? {
        None if edges_required => return Err(entry.wrong("edges", "a list")),
        None => Vec::new(),
        Some(list) => list.iter().map(|edge| self::edge(edge, points.len())).collect::<Result<_, _>>()?,
    };
    Ok(Skeleton { class_id, names: numbered.into_values().collect(), edges })
}

fn edge(edge: &Value, points: usize) -> Result<(usize, usize), String> {
    let end = |key: &str| edge.get(key).and_then(integer).filter(|end| *end < points);
    match (end("from"), end("to")) {
        (Some(from), Some(to)) => Ok((from, to)),
        _ => Err(format!("edges: expected `from` and `to` below {points}, found {}", shown(edge))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, edges_required: bool) -> Result<Vec<Skeleton>, String> {
        parse(text, Path::new("keypoints_metadata.json"), edges_required).map_err(|error| error.to_string())
    }

    #[test]
    fn names_are_ordered_by_number_and_edges_optional_in_one_engine() {
        let text = r#"[{"object_class_id": 0, "keypoints": {"1": "tail", "0": "nose"}}]"#;
        let skeletons = read(text, false).unwrap();
        assert_eq!(skeletons, [Skeleton { class_id: 0, names: vec!["nose".into(), "tail".into()], edges: vec![] }]);
        assert!(read(text, true).unwrap_err().contains("edges: expected a list, the key is missing"));
        let joined = text.replace("}}]", r#"}, "edges": [{"from": 0, "to": 1}]}]"#);
        assert_eq!(read(&joined, true).unwrap()[0].edges, [(0, 1)]);
    }

    #[test]
    fn faults_are_named() {
        for (text, word) in [
            ("{}", "a list"),
            ("[3]", "a list"),
            (r#"[{"keypoints": {}}]"#, "object_class_id"),
            (r#"[{"object_class_id": -1, "keypoints": {}}]"#, "object_class_id"),
            (r#"[{"object_class_id": 0}]"#, "keypoints"),
            (r#"[{"object_class_id": 0, "keypoints": {"a": "b"}}]"#, "number of a point"),
            (r#"[{"object_class_id": 0, "keypoints": {"1": "b"}}]"#, "not 0, 1, 2"),
            (r#"[{"object_class_id": 0, "keypoints": {"0": 3}}]"#, "expected a name"),
            (r#"[{"object_class_id": 0, "keypoints": {"0": "a"}, "edges": [{"from": 0, "to": 1}]}]"#, "below 1"),
        ] {
            let message = read(text, false).unwrap_err();
            assert!(message.contains(word), "{text}: {message}");
        }
        let twice = r#"[{"object_class_id": 0, "keypoints": {}, "edges": []}, {"object_class_id": 0, "keypoints": {}, "edges": []}]"#;
        assert!(read(twice, true).unwrap_err().contains("each of 0 to 1 once"));
    }
}
