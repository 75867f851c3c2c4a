//! The part of the configuration that is about lines of GPIO chips.

use serde::Deserialize;

use super::{RuleConfig, RuleKind};

/// Most lines: each has a thread.
const LINES_MAX: usize = 16;

/// A line that shows a rule's events: a lamp, a relay, an input of another machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpioConfig {
    /// `/dev/gpiochip0`, or the chip's name or label.
    pub chip: String,
    /// Its number on the chip, or its name.
    pub line: LineName,
    /// Name of the rule.
    pub rule: String,
    /// Whether the line is active when its voltage is low.
    #[serde(default)]
    pub active_low: bool,
    /// It is active for so long from the start of each event, seconds, 0.001 to 3600; absent: while an event lasts.
    #[serde(default)]
    pub pulse_s: Option<f64>,
}

/// A line of a chip.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum LineName {
    Number(u32),
    Name(String),
}

impl std::fmt::Display for LineName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LineName::Number(number) => write!(f, "{number}"),
            LineName::Name(name) => f.write_str(name),
        }
    }
}

/// The first value that cannot be: its key, what was found, what is expected.
pub(super) fn fault(lines: &[GpioConfig], rules: &[RuleConfig]) -> Option<(&'static str, String, &'static str)> {
    if lines.len() > LINES_MAX {
        return Some(("[[gpio]]", format!("{} lines", lines.len()), "at most 16"));
    }
    for (at, line) in lines.iter().enumerate() {
        if line.chip.is_empty() {
            return Some(("gpio.chip", "\"\"".into(), "a chip such as /dev/gpiochip0"));
        }
        if lines[..at].iter().any(|other| (&other.chip, &other.line) == (&line.chip, &line.line)) {
            return Some(("gpio.line", format!("{} of {} twice", line.line, line.chip), "each line once"));
        }
        let Some(rule) = rules.iter().find(|rule| rule.name == line.rule) else {
            return Some(("gpio.rule", format!("`{}`", line.rule), "the name of one of [[rules]]"));
        };
        if rule.kind == RuleKind::Line && line.pulse_s.is_none() {
            return Some(("gpio.pulse_s", "nothing".into(), "seconds, because a line is crossed in a moment"));
        }
        if let Some(found) = line.pulse_s.filter(|seconds| !(0.001..=3600.0).contains(seconds)) {
            return Some(("gpio.pulse_s", found.to_string(), "0.001 to 3600 seconds"));
        }
    }
    None
}
