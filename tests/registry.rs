//! The tables of models: against Roboflow's own, as they were dumped from the running engines, and against the README.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use firstlight::cache::aliases::ALIASES;
use firstlight::model::registry::{Engines, GROUPS, Runs};
use serde_json::Value;
use support::firstlight;

/// The text of an appendix of the reference.
fn appendix(letter: &str, next: &str) -> String {
    let path = support::shared().join("roboflow/SPEC.md");
    let spec = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let start = spec.find(&format!("## Appendix {letter}.")).expect("the appendix");
    let end = spec[start..].find(&format!("## Appendix {next}.")).expect("the next appendix");
    spec[start..start + end].to_owned()
}

/// The cells of every line of a Markdown table.
fn cells(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().filter_map(|line| Some(line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect()))
}

fn code(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.strip_suffix('`')
}

#[test]
fn every_pair_of_the_reference_is_known_with_its_engines() {
    let text = appendix("B", "C");
    let reference: BTreeSet<(&str, &str, bool, bool)> = cells(&text)
        .filter(|row| row.len() == 4)
        .filter_map(|row| Some((row[0], code(row[1])?, row[2] != "—", row[3] != "—")))
        .collect();
    assert!(reference.len() > 290, "{} rows", reference.len());
    let ours: Vec<(&str, Vec<String>, Engines)> =
        GROUPS.iter().map(|group| (group.task, group.model_types(), group.engines)).collect();
    let ours: BTreeSet<(&str, &str, bool, bool)> = ours
        .iter()
        .filter(|(.., engines)| !matches!(engines, Engines::Ours | Engines::Manifest))
        .flat_map(|(task, types, engines)| {
            types.iter().map(|name| (*task, name.as_str(), *engines == Engines::Both, true))
        })
        .collect();
    let missing: Vec<_> = reference.difference(&ours).collect();
    let surplus: Vec<_> = ours.difference(&reference).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "missing here: {missing:?}; only here: {surplus:?}");
}

#[test]
fn every_alias_of_the_reference_stands_for_the_same_id() {
    let text = appendix("A", "B");
    let reference: BTreeMap<&str, &str> =
        cells(&text).filter(|row| row.len() == 2).filter_map(|row| Some((code(row[0])?, code(row[1])?))).collect();
    assert_eq!(reference.len(), 153);
    assert_eq!(ALIASES.len(), reference.len());
    assert_eq!(ALIASES.iter().copied().collect::<BTreeMap<_, _>>(), reference);
}

#[test]
fn the_command_prints_every_pair_and_every_alias() {
    let json = |args: &[&str]| -> Vec<Value> {
        let run = firstlight(&[&["models", "--json"], args].concat()).run();
        assert_eq!(run.exit, Some(0), "{}", run.stderr);
        serde_json::from_str(&run.stdout).unwrap()
    };
    let rows = json(&[]);
    assert_eq!(rows.len(), GROUPS.iter().map(|group| group.model_types().len()).sum::<usize>());
    let row = |task: &str, name: &str| {
        rows.iter().find(|row| row["task"] == task && row["type"] == name).unwrap_or_else(|| panic!("{task} {name}"))
    };
    assert_eq!(row("object-detection", "yolov8n")["runs_as"], "YOLOv8");
    assert_eq!(row("keypoint-detection", "rfdetr")["classic"], false);
    assert!(row("lmm", "moondream2")["why_not"].as_str().unwrap().contains("language model"));
    assert!(rows.iter().all(|row| row["runs_as"].is_string() != row["why_not"].is_string()));
    assert_eq!(json(&["--aliases"]).len(), 153);
    let table = firstlight(&["models"]).run().stdout;
    assert!(table.starts_with("TASK") && table.contains("yolov8n ") && table.lines().count() == rows.len() + 1);
    assert!(firstlight(&["models", "--aliases"]).run().stdout.contains("coco/3"));
}

#[test]
fn the_readme_has_the_same_tables() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let types = |types: &str| types.split(' ').map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" ");
    let mut running = vec!["| task | types | of engine | decoded as |".to_owned(), "|---|---|---|---|".to_owned()];
    let mut others: Vec<(&str, Vec<String>)> = Vec::new();
    for group in GROUPS {
        match group.runs {
            Runs::As(family) => running.push(format!(
                "| `{}` | {} | {} | {} |",
                group.task,
                types(group.types),
                group.engines.as_str(),
                family.as_str()
            )),
            Runs::Not(why) => {
                let text = format!("`{}` {}", group.task, types(group.types));
                match others.iter_mut().find(|(known, _)| *known == why) {
                    Some((_, list)) => list.push(text),
                    None => others.push((why, vec![text])),
                }
            }
        }
    }
    let mut not = vec!["| does not run, because | task, types |".to_owned(), "|---|---|".to_owned()];
    not.extend(others.iter().map(|(why, list)| format!("| {why} | {} |", list.join("; "))));
    for table in [running.join("\n"), not.join("\n")] {
        // The line after the table must not be a row of it, or the README would list more than there is.
        let found = readme.find(&format!("{table}\n\n"));
        assert!(found.is_some(), "README.md, `## Models`, should have this table and does not:\n{table}\n");
    }
}
