//! `firstlight env`: every environment variable the program reads.

use super::{Error, print_line};
use crate::env::VARIABLES;

pub fn run() -> Result<(), Error> {
    for variable in VARIABLES {
        let value = variable.get().map_or_else(String::new, |value| format!(" (now: {value})"));
        let default = if variable.default.is_empty() { "none" } else { variable.default };
        print_line(&format!("{}{value}\n    {}\n    Default: {default}", variable.name, variable.doc))?;
    }
    Ok(())
}
