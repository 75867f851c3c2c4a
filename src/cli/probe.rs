//! `firstlight probe`: the board, and which engine would run.

use std::path::Path;

use serde_json::json;

use super::{Error, print_line};
use crate::{device, engine};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON object instead of words
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<(), Error> {
    let board = device::identify(Path::new("/"));
    let probed: Vec<_> = engine::engines()
        .into_iter()
        .map(|engine| {
            let why = engine.probe().err();
            (engine.name(), engine.version(), why)
        })
        .collect();
    let chosen = probed.iter().find(|(_, _, why)| why.is_none()).map(|(name, ..)| *name);
    if args.json {
        let engines: Vec<_> = probed
            .iter()
            .map(|(name, version, why)| json!({"name": name, "version": version, "usable": why.is_none(), "why": why}))
            .collect();
        let document = json!({
            "board": {
                "name": board.name, "model": board.model, "architecture": board.architecture, "cores": board.cores,
                "cpu_features": board.cpu_features, "memory_mb": board.memory_mb,
            },
            "engines": engines,
            "chosen": chosen,
        });
        return print_line(&document.to_string());
    }
    let model = if board.model.is_empty() { String::new() } else { format!(" ({})", board.model) };
    print_line(&format!("board    {}{model}", board.name))?;
    print_line(&format!(
        "cpu      {} {}, {} cores, {} MB memory",
        board.architecture,
        board.cpu_features.join(" "),
        board.cores,
        board.memory_mb
    ))?;
    for (name, version, why) in &probed {
        let verdict = match why {
            None if Some(*name) == chosen => "chosen".into(),
            None => "usable".into(),
            Some(why) => format!("not usable: {why}"),
        };
        print_line(&format!("engine   {name} {version}: {verdict}"))?;
    }
    Ok(())
}
