//! How far `run` is with sources that have an end, for whoever watches a terminal, and what it did.

use std::io::IsTerminal;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

use crate::pipeline::Telemetry;
use crate::pipeline::cells::SourceCell;

/// A bar on stderr; none where a source has no end, nobody watches, or the lines of answers would be torn by it.
#[derive(Debug)]
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    started_at: Instant,
}

impl Progress {
    /// Of a loop that has just been started; `lines` says that answers go to stdout.
    pub fn start(telemetry: &Telemetry, lines: bool) -> Self {
        let watched = std::io::stderr().is_terminal() && !(lines && std::io::stdout().is_terminal());
        let total = telemetry.sources().iter().map(SourceCell::total).sum::<Option<u64>>();
        let bar = total.filter(|total| watched && *total > 1).map(|total| {
            let bar = ProgressBar::new(total);
            let style = ProgressStyle::with_template("{bar:30} {pos} of {len} frames, {per_sec}, {eta} left {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self { bar, started_at: Instant::now() }
    }

    pub fn show(&self, telemetry: &Telemetry) {
        if let Some(bar) = &self.bar {
            bar.set_position(telemetry.frames() + telemetry.failed());
            if let Some(reason) = telemetry.health().reasons.first() {
                bar.set_message(reason.to_string());
            }
        }
    }

    /// Takes the bar away and says what was done, in words.
    pub fn end(self, telemetry: &Telemetry) -> String {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        let flow = telemetry.status().flow;
        let elapsed_s = self.started_at.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let per_s = flow.frames as f64 / elapsed_s.max(1e-3);
        let mut said = format!(
            "{} frames, {} failed, {} dropped before their turn, {} answers not taken in time; latency p50 {} ms, \
             p99 {} ms; {elapsed_s:.1} s, {per_s:.1} frames a second",
            flow.frames, flow.failed, flow.dropped, flow.undelivered, flow.latency_ms.p50, flow.latency_ms.p99
        );
        for source in telemetry.sources() {
            let captured = source.captured();
            if let Some(total) = source.total().filter(|total| *total != captured) {
                said.push_str(&format!("; {} gave {captured} of the {total} frames that it declares", source.uri()));
            }
        }
        said
    }
}
