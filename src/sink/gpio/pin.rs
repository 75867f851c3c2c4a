//! A line of a GPIO chip: the edge between what it shows and the kernel.

use gpiocdev::line::Value;
use gpiocdev::{Chip, Request};

use crate::config::{GpioConfig, LineName};

/// Something that can be active.
pub trait Pin: Send {
    /// # Errors
    /// Why it cannot be set; it is asked for anew then.
    fn set(&mut self, active: bool) -> Result<(), String>;
}

/// Finds the pin, inactive; or says why not.
pub type Find = Box<dyn FnMut() -> Result<Box<dyn Pin>, String> + Send>;

/// How the line of a configuration is found through the character device of its chip.
pub fn find(config: &GpioConfig) -> Find {
    let config = config.clone();
    Box::new(move || {
        let chip = chip(&config.chip)?;
        let offset = match &config.line {
            LineName::Number(number) => *number,
            LineName::Name(name) => {
                let info = chip.find_line_info(name);
                info.ok_or_else(|| format!("the chip has no line called `{name}`"))?.offset
            }
        };
        let mut request = Request::builder();
        request.on_chip(chip.path()).with_consumer("firstlight").with_line(offset).as_output(Value::Inactive);
        if config.active_low {
            request.as_active_low();
        }
        let request = request.request().map_err(|error| error.to_string())?;
        Ok(Box::new(Line { request, offset }) as Box<dyn Pin>)
    })
}

struct Line {
    request: Request,
    offset: u32,
}

impl Pin for Line {
    fn set(&mut self, active: bool) -> Result<(), String> {
        let value = if active { Value::Active } else { Value::Inactive };
        self.request.set_value(self.offset, value).map(drop).map_err(|error| error.to_string())
    }
}

/// A chip by its path, its name, or its label, which is what a board's handbook has.
fn chip(wanted: &str) -> Result<Chip, String> {
    if wanted.starts_with('/') {
        return Chip::from_path(wanted).map_err(|error| error.to_string());
    }
    let mut seen = Vec::new();
    for path in gpiocdev::chip::chips().map_err(|error| error.to_string())? {
        let Ok(chip) = Chip::from_path(&path) else { continue };
        let Ok(info) = chip.info() else { continue };
        if info.name == wanted || info.label == wanted {
            return Ok(chip);
        }
        seen.push(format!("{} ({})", info.name, info.label));
    }
    let seen = if seen.is_empty() { "none".into() } else { seen.join(", ") };
    Err(format!("no such chip; there are: {seen}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chip_that_is_absent_is_said() {
        let config = |chip: &str| GpioConfig {
            chip: chip.into(),
            line: LineName::Number(4),
            rule: "r".into(),
            active_low: false,
            pulse_s: None,
        };
        let missing = |chip| find(&config(chip))().err().unwrap();
        assert!(missing("/dev/gpiochip-of-nobody").contains("No such file"), "{}", missing("/dev/gpiochip-of-nobody"));
        assert!(missing("pinctrl-of-nobody").starts_with("no such chip; there are: "));
        assert!(!missing("/dev/null").is_empty(), "no chip at all");
    }
}
