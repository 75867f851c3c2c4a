//! `firstlight env`: every environment variable the program reads.

use super::{Error, print_line};
use crate::env::VARIABLES;
use crate::env::roboflow::REFUSALS;

pub fn run() -> Result<(), Error> {
    for variable in VARIABLES {
        let value = match variable.get() {
            // A list that is shown to somebody shall not hold a key.
            Some(_) if variable.name.ends_with("API_KEY") => " (now: set)".into(),
            value => value.map_or_else(String::new, |value| format!(" (now: {value})")),
        };
        let default = if variable.default.is_empty() { "none" } else { variable.default };
        print_line(&format!("{}{value}\n    {}\n    Default: {default}", variable.name, variable.doc))?;
    }
    print_line(
        "\nOf Roboflow Inference; refused at the start of `run`, `infer` and `cache pull` where they ask for something:",
    )?;
    for refusal in REFUSALS {
        print_line(&format!("{}\n    {}", refusal.name, refusal.why))?;
    }
    Ok(())
}
