//! Prometheus' text exposition format 0.0.4, written family by family.

use std::fmt::{Display, Write};

pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Bytes of a usual answer, so that the text grows a few times at most.
const TYPICAL_BYTES: usize = 16 * 1024;

/// A family's kind.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
    /// Without quantiles, as Roboflow's server has them: a count and a sum.
    Summary,
}

pub(super) type Labels<'a> = [(&'a str, &'a dyn Display)];

/// Text being written, family by family.
pub(super) struct Exposition {
    text: String,
    prefix: &'static str,
}

impl Exposition {
    /// With no names yet, and none before them.
    pub(super) fn new() -> Self {
        Self { text: String::with_capacity(TYPICAL_BYTES), prefix: "" }
    }

    /// Puts `prefix` before all names that follow.
    pub(super) fn prefix(&mut self, prefix: &'static str) {
        self.prefix = prefix;
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    pub(super) fn family(&mut self, kind: Kind, name: &str, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Summary => "summary",
        };
        let prefix = self.prefix;
        let _ = write!(self.text, "# HELP {prefix}{name} {help}\n# TYPE {prefix}{name} {kind}\n");
    }

    pub(super) fn sample(&mut self, name: &str, labels: &Labels<'_>, value: impl Display) {
        let _ = write!(self.text, "{}{name}", self.prefix);
        for (i, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{label}=\"{}\"", if i == 0 { '{' } else { ',' }, escaped(&text.to_string()));
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// A family of one sample without labels.
    pub(super) fn single(&mut self, kind: Kind, name: &str, help: &str, value: impl Display) {
        self.family(kind, name, help);
        self.sample(name, &[], value);
    }

    /// A family that is left out while its value is unknown, as Prometheus wants it.
    pub(super) fn known(&mut self, name: &str, help: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.single(Kind::Gauge, name, help, value);
        }
    }
}

/// A label's value with the three escapes of the format.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_before_all_names_that_follow() {
        let mut out = Exposition::new();
        out.single(Kind::Gauge, "a", "An a.", 1);
        out.prefix("x_");
        out.family(Kind::Summary, "b", "Some b.");
        out.sample("b_count", &[("c", &"\"\\\n")], 2);
        let text = "# HELP a An a.\n# TYPE a gauge\na 1\n# HELP x_b Some b.\n# TYPE x_b summary\n";
        assert_eq!(out.into_text(), text.to_owned() + "x_b_count{c=\"\\\"\\\\\\n\"} 2\n");
    }
}
