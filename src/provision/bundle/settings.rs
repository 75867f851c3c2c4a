//! The configuration in a bundle: what to see and where to tell it. What belongs to the one machine, who may reach it and whom it
//! trusts, stays with the machine's own.

use std::path::Path;

use super::{CONFIG, Error, Model};
use crate::cache::ModelId;
use crate::config::{self, Config};
use crate::demo;

/// Keys that a bundle may not have.
const MACHINE: [&str; 5] = ["bundle", "cache", "device", "http", "listen"];

/// Checks the text of a configuration for a bundle.
///
/// # Errors
/// It is none, or says what is the machine's to say.
pub fn check(text: &str) -> Result<Config, Error> {
    let wrong = |why: String| Error::Settings { file: CONFIG, why };
    let table: toml::Table = config::text::read(text).map_err(wrong)?;
    if let Some(key) = MACHINE.into_iter().find(|key| table.contains_key(*key)) {
        return Err(wrong(format!(
            "it has `{key}`, which is the machine's own: leave {} to the configuration on the device",
            MACHINE.map(|key| format!("`{key}`")).join(", ")
        )));
    }
    Config::parse(text, Path::new(CONFIG)).map_err(|error| wrong(error.to_string()))
}

/// Checks that the model of a configuration comes with it.
///
/// # Errors
/// It is neither in the bundle nor in the binary.
pub fn check_model(config: &Config, models: &[Model]) -> Result<(), Error> {
    let Some(id) = &config.model else { return Ok(()) };
    let parsed = ModelId::parse(id).map_err(|error| Error::Settings { file: CONFIG, why: error.to_string() })?;
    if parsed.as_str() == demo::MODEL_ID || models.iter().any(|model| model.id == parsed.as_str()) {
        return Ok(());
    }
    let models: Vec<&str> = models.iter().map(|model| model.id.as_str()).collect();
    let why = format!("model = {id:?} is not in the bundle, which has {}", models.join(", "));
    Err(Error::Settings { file: CONFIG, why })
}

/// The configuration of a bundle on a machine.
#[must_use]
pub fn with_machine(bundle: Config, machine: Config) -> Config {
    let Config { bundle: trust, cache, device, http, listen, .. } = machine;
    Config { bundle: trust, cache, device, http, listen, ..bundle }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_machines_stays_the_machines() {
        for key in
            ["[device]\nhostname = \"a\"", "listen = \"off\"", "[http]", "[bundle]\naccept = \"any\"", "cache = \"/\""]
        {
            assert!(check(key).unwrap_err().to_string().contains("the machine's own"), "{key}");
        }
        assert!(check("modle = 1").unwrap_err().to_string().contains("did you mean"));
        let bundle = check("model = \"parts/1\"\n[buffer]\nframes = 3").unwrap();
        check_model(&bundle, &[]).unwrap();
        let other = check("model = \"other/1\"").unwrap();
        assert!(check_model(&other, &[]).unwrap_err().to_string().contains("is not in the bundle"));
        let machine = Config::parse("listen = \"off\"\nmodel = \"other/1\"", Path::new("machine.toml")).unwrap();
        let both = with_machine(bundle, machine);
        assert_eq!(
            (both.model.as_deref(), both.listen.as_deref(), both.buffer.frames),
            (Some("parts/1"), Some("off"), 3)
        );
    }
}
