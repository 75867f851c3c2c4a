//! `firstlight models`: what Roboflow's engines know, and what of it runs here.

use serde::Serialize;

use super::{Error, print_line, print_table};
use crate::cache::aliases::ALIASES;
use crate::model::registry::{Engines, GROUPS, Runs};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON array instead of a table
    #[arg(long)]
    json: bool,
    /// The names of Roboflow's pre-trained models and the ids they stand for, instead
    #[arg(long)]
    aliases: bool,
}

/// One pair of task and type.
#[derive(Serialize)]
struct Row {
    task: &'static str,
    #[serde(rename = "type")]
    model_type: String,
    /// Roboflow's classic engine knows it.
    classic: bool,
    /// Roboflow's default engine knows it.
    default: bool,
    /// The family it is decoded as.
    #[serde(skip_serializing_if = "Option::is_none")]
    runs_as: Option<&'static str>,
    /// Why it does not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<&'static str>,
}

#[derive(Serialize)]
struct Alias {
    alias: &'static str,
    model_id: &'static str,
}

pub fn run(args: &Args) -> Result<(), Error> {
    let failed = |error: serde_json::Error| Error::Failed(error.to_string());
    if args.aliases {
        let aliases: Vec<Alias> = ALIASES.iter().map(|&(alias, model_id)| Alias { alias, model_id }).collect();
        if args.json {
            return print_line(&serde_json::to_string(&aliases).map_err(failed)?);
        }
        let rows = aliases.iter().map(|alias| vec![alias.alias.into(), alias.model_id.into()]);
        return print_table(&["ALIAS", "MODEL ID"], rows);
    }
    let rows: Vec<Row> = rows().collect();
    if args.json {
        return print_line(&serde_json::to_string(&rows).map_err(failed)?);
    }
    let yes = |known: bool| if known { "yes" } else { "-" }.to_owned();
    let cells = rows.iter().map(|row| {
        let verdict = match (row.runs_as, row.why_not) {
            (Some(family), _) => format!("as {family}"),
            (None, why) => format!("no: {}", why.unwrap_or_default()),
        };
        vec![row.task.into(), row.model_type.clone(), yes(row.classic), yes(row.default), verdict]
    });
    print_table(&["TASK", "TYPE", "CLASSIC", "DEFAULT", "RUNS HERE"], cells)
}

fn rows() -> impl Iterator<Item = Row> {
    GROUPS.iter().flat_map(|group| {
        let (runs_as, why_not) = match group.runs {
            Runs::As(family) => (Some(family.as_str()), None),
            Runs::Not(why) => (None, Some(why)),
        };
        let (classic, default) = match group.engines {
            Engines::Both => (true, true),
            Engines::Default => (false, true),
            Engines::Ours | Engines::Manifest => (false, false),
        };
        let task = group.task;
        group.model_types().into_iter().map(move |model_type| Row {
            task,
            model_type,
            classic,
            default,
            runs_as,
            why_not,
        })
    })
}
