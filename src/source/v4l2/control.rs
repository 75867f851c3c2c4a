//! Controls: what a URI sets by `exposure=`, `gain=` … or `ctrl.NAME=`, judged by what the driver says it has.
//!
//! May not know: devices. A [`Panel`] may be a test's.

use nix::errno::Errno;
use serde::Serialize;

use super::abi::field_text;
use super::abi::{ControlKind, RawControl, state};
use super::camera::Fault;
use crate::error::nearest;

/// Most controls that are looked at: three times those of `vivid`, the kernel's test driver.
pub const CONTROLS_MAX: usize = 256;
/// Most entries of a menu that are looked at.
const ENTRIES_MAX: i64 = 64;
/// Most controls that a message names: as many as webcams have.
const NAMES_MAX: usize = 20;
/// What goes before the name of a control that has no option of its own.
const PREFIX: &str = "ctrl.";

/// A control by an option of its own, and the other control that gives it to the camera or takes it back.
struct Named {
    option: &'static str,
    id: u32,
    /// What is tried when the URI gives a number, and when it says `auto`: the first that the camera has.
    automatic: Option<Automatic>,
    expected: &'static str,
}

struct Automatic {
    id: u32,
    on: &'static [i64],
    off: &'static [i64],
}

/// A switch that is on or off.
const fn switch(id: u32) -> Option<Automatic> {
    Some(Automatic { id, on: &[1], off: &[0] })
}

/// Ids of `<linux/v4l2-controls.h>`.
const NAMED: [Named; 8] = [
    Named {
        option: "exposure",
        id: 0x009a_0902,
        // Automatic or with the aperture first, by hand or with the shutter first: webcams offer one of each.
        automatic: Some(Automatic { id: 0x009a_0901, on: &[0, 3], off: &[1, 2] }),
        expected: "a whole number of 100 µs, or auto",
    },
    Named { option: "gain", id: 0x0098_0913, automatic: switch(0x0098_0912), expected: "a whole number, or auto" },
    Named { option: "brightness", id: 0x0098_0900, automatic: None, expected: "a whole number" },
    Named { option: "contrast", id: 0x0098_0901, automatic: None, expected: "a whole number" },
    Named { option: "saturation", id: 0x0098_0902, automatic: None, expected: "a whole number" },
    Named {
        option: "white_balance",
        id: 0x0098_091a,
        automatic: switch(0x0098_090c),
        expected: "a whole number of kelvin, or auto",
    },
    Named { option: "focus", id: 0x009a_090a, automatic: switch(0x009a_090c), expected: "a whole number, or auto" },
    Named { option: POWER_LINE, id: 0x0098_0918, automatic: None, expected: "50, 60, auto or off" },
];
const POWER_LINE: &str = "power_line";

/// One control that a URI sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The option as it stands in the URI.
    option: String,
    value: String,
}

impl Setting {
    /// What an option sets; `None` where it is about no control.
    ///
    /// # Errors
    /// The option, and what was expected of its value.
    pub fn parse(option: &str, value: &str) -> Option<Result<Self, (&'static str, &'static str)>> {
        let setting = Self { option: option.into(), value: value.into() };
        if let Some(named) = NAMED.iter().find(|named| named.option == option) {
            let automatic = named.automatic.is_some() && value == "auto";
            let fits = match option {
                POWER_LINE => power_line(value).is_some(),
                _ => automatic || value.parse::<i64>().is_ok(),
            };
            return Some(if fits { Ok(setting) } else { Err((named.option, named.expected)) });
        }
        let name = option.strip_prefix(PREFIX)?;
        let fits = !name.is_empty() && !value.is_empty();
        Some(if fits { Ok(setting) } else { Err(("ctrl.NAME", "the name of a control, and a value")) })
    }
}

/// The entry of the kernel's menu.
fn power_line(value: &str) -> Option<i64> {
    ["off", "50", "60", "auto"].iter().position(|word| *word == value).and_then(|index| i64::try_from(index).ok())
}

/// A camera's controls.
pub trait Panel {
    /// The control with the first id above `id`; `EINVAL` after the last.
    fn next(&self, id: u32) -> nix::Result<RawControl>;

    /// The name or number of an entry of a menu; `EINVAL` where there is none.
    fn entry(&self, id: u32, index: u32) -> nix::Result<[u8; 32]>;

    fn get(&self, control: &RawControl) -> nix::Result<i64>;

    /// Sets a control and returns the value that it has then.
    fn set(&self, control: &RawControl, value: i64) -> nix::Result<i64>;
}

/// A control, as people see it.
#[derive(Clone, Debug, Serialize)]
pub struct Control {
    /// As the driver calls it, in lower case and with `_` for whatever is no letter or digit.
    pub name: String,
    #[serde(skip)]
    raw: RawControl,
    pub minimum: i64,
    pub maximum: i64,
    pub step: u64,
    pub default: i64,
    /// What it is now, where that can be asked.
    pub value: Option<i64>,
    /// Why it cannot be set, where that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixed: Option<&'static str>,
    /// Of a menu: each value and its name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<(i64, String)>,
}

impl Control {
    fn of(panel: &impl Panel, raw: RawControl) -> Self {
        let entry = |index: i64| {
            let name = panel.entry(raw.id, u32::try_from(index).ok()?).ok()?;
            let [a, b, c, d, e, f, g, h, ..] = name;
            Some(match raw.kind() {
                ControlKind::IntegerMenu => (index, i64::from_ne_bytes([a, b, c, d, e, f, g, h]).to_string()),
                _ => (index, field_text(&name)),
            })
        };
        let is_menu = matches!(raw.kind(), ControlKind::Menu | ControlKind::IntegerMenu);
        let last = raw.maximum.min(raw.minimum.saturating_add(ENTRIES_MAX));
        let entries = if is_menu { (raw.minimum..=last).filter_map(entry).collect() } else { Vec::new() };
        let fixed = fixed(&raw);
        let readable = raw.kind() != ControlKind::Other && raw.flags & (state::WRITE_ONLY | state::HAS_PAYLOAD) == 0;
        Self {
            name: spelt(&field_text(&raw.name)),
            raw,
            minimum: raw.minimum,
            maximum: raw.maximum,
            step: raw.step,
            default: raw.default,
            value: readable.then(|| panel.get(&raw).ok()).flatten(),
            fixed,
            entries,
        }
    }

    /// What it may be set to, for people.
    pub fn range(&self) -> String {
        let entries: Vec<String> = self.entries.iter().map(|(value, name)| format!("{value} ({name})")).collect();
        match self.raw.kind() {
            ControlKind::Menu | ControlKind::IntegerMenu => entries.join(", "),
            ControlKind::Boolean => "0 or 1".into(),
            ControlKind::Bitmask => format!("bits of {:#x}", self.maximum),
            _ if self.step > 1 => format!("{} to {} in steps of {}", self.minimum, self.maximum, self.step),
            _ => format!("{} to {}", self.minimum, self.maximum),
        }
    }

    /// Whether a value is one of its range.
    fn takes(&self, value: i64) -> bool {
        match self.raw.kind() {
            ControlKind::Menu | ControlKind::IntegerMenu => self.entries.iter().any(|(entry, _)| *entry == value),
            // The maximum is a mask, and may be negative.
            ControlKind::Bitmask => value & !self.maximum == 0,
            _ => {
                let in_range = (self.minimum..=self.maximum).contains(&value);
                in_range && value.abs_diff(self.minimum).is_multiple_of(self.step.max(1))
            }
        }
    }

    /// The value that a text means: a number, a word of a switch, the name of a menu's entry.
    fn value_of(&self, text: &str) -> Option<i64> {
        let number = match text.strip_prefix("0x") {
            Some(hex) => i64::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        };
        let by_name = || match (self.raw.kind(), text) {
            (ControlKind::Boolean, "true" | "on") => Some(1),
            (ControlKind::Boolean, "false" | "off") => Some(0),
            (ControlKind::Menu, name) => {
                self.entries.iter().find(|(_, entry)| spelt(entry) == spelt(name)).map(|(value, _)| *value)
            }
            _ => None,
        };
        number.or_else(by_name).filter(|value| self.takes(*value))
    }
}

/// Why a control cannot be set, whatever the value.
fn fixed(raw: &RawControl) -> Option<&'static str> {
    if raw.kind() == ControlKind::Other || raw.flags & state::HAS_PAYLOAD != 0 {
        Some("is no number")
    } else if raw.flags & state::READ_ONLY != 0 {
        Some("can only be read")
    } else if raw.flags & state::INACTIVE != 0 {
        Some("is inactive: another control, often an automatic one, decides it")
    } else if raw.flags & state::GRABBED != 0 {
        Some("is held by another program")
    } else {
        None
    }
}

/// A name as it is written in a URI.
fn spelt(name: &str) -> String {
    let words = name.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("_").to_ascii_lowercase()
}

/// Every control of a camera; a driver that has none, or knows no such call, has an empty list.
pub fn list(panel: &impl Panel) -> Vec<Control> {
    let mut controls = Vec::new();
    let mut id = 0;
    while controls.len() < CONTROLS_MAX {
        let Ok(raw) = panel.next(id) else { break };
        if raw.id <= id {
            break;
        }
        id = raw.id;
        // A class is a heading; its name is no control's.
        let heading = raw.id & 0xffff == 1;
        if raw.flags & state::DISABLED == 0 && !heading {
            controls.push(Control::of(panel, raw));
        }
    }
    controls
}

/// Sets what a URI asks for, in its order, and says what each control is then.
pub fn apply(panel: &impl Panel, settings: &[Setting]) -> Result<Vec<String>, Fault> {
    if settings.is_empty() {
        return Ok(Vec::new());
    }
    let controls = list(panel);
    let mut told = Vec::new();
    for setting in settings {
        for (control, value) in steps(setting, &controls).map_err(Fault::Unfit)? {
            // Asked again: what was set before may have woken it, or put it to sleep.
            let now = panel.next(control.raw.id - 1).unwrap_or(control.raw);
            if let Some(why) = fixed(&now) {
                return Err(Fault::Unfit(format!("control {} {why}", control.name)));
            }
            let set = panel.set(&now, value).map_err(|errno| refused(control, value, errno))?;
            let asked = if set == value { String::new() } else { format!(" (asked for {value})") };
            told.push(format!("{} {set}{asked}", control.name));
        }
    }
    Ok(told)
}

fn refused(control: &Control, value: i64, errno: Errno) -> Fault {
    let what = format!("setting control {} to {value} ({})", control.name, control.range());
    Fault::of(&what, errno, &[Errno::EINVAL, Errno::ERANGE])
}

/// The controls that a setting sets, and to what.
fn steps<'a>(setting: &Setting, controls: &'a [Control]) -> Result<Vec<(&'a Control, i64)>, String> {
    let Setting { option, value } = setting;
    let by_id = |id: u32| controls.iter().find(|control| control.raw.id == id);
    let Some(named) = NAMED.iter().find(|named| named.option == *option) else {
        let name = spelt(option.strip_prefix(PREFIX).unwrap_or(option));
        let control = controls.iter().find(|control| control.name == name).ok_or_else(|| lacks(&name, controls))?;
        return Ok(vec![(control, judged(option, control, control.value_of(value), value)?)]);
    };
    // The first of some values that a control has.
    let first_of = |control: &Control, values: &[i64]| values.iter().copied().find(|value| control.takes(*value));
    let mut steps = Vec::new();
    if let Some(automatic) = &named.automatic {
        let switch = by_id(automatic.id);
        if value == "auto" {
            let switch = switch.ok_or_else(|| lacks(&format!("automatic {option}"), controls))?;
            let on = judged(option, switch, first_of(switch, automatic.on), value)?;
            return Ok(vec![(switch, on)]);
        }
        steps.extend(switch.and_then(|switch| Some((switch, first_of(switch, automatic.off)?))));
    }
    let control = by_id(named.id).ok_or_else(|| lacks(option, controls))?;
    let number = if option == POWER_LINE { power_line(value) } else { value.parse().ok() };
    let number = number.filter(|number| control.takes(*number));
    steps.push((control, judged(option, control, number, value)?));
    Ok(steps)
}

/// The value, or the words for one that the control does not take.
fn judged(option: &str, control: &Control, value: Option<i64>, found: &str) -> Result<i64, String> {
    if let (Some(why), ControlKind::Other) = (control.fixed, control.raw.kind()) {
        return Err(format!("option {option}={found}: control {} {why}", control.name));
    }
    value.ok_or_else(|| format!("option {option}={found}: control {}: expected {}", control.name, control.range()))
}

fn lacks(name: &str, controls: &[Control]) -> String {
    let names: Vec<&str> = controls.iter().map(|control| control.name.as_str()).collect();
    let near = nearest(name, names.iter().copied(), 1).first().map(|near| format!("; did you mean ctrl.{near}?"));
    let has = match names.len() {
        0 => "none".into(),
        count if count > NAMES_MAX => {
            let first = names[..NAMES_MAX].join(", ");
            format!("{first} and {} more, which `firstlight probe --camera` lists", count - NAMES_MAX)
        }
        _ => names.join(", "),
    };
    format!("has no control {name}{}; its controls are: {has}", near.unwrap_or_default())
}

#[cfg(test)]
#[path = "control/tests.rs"]
mod tests;
