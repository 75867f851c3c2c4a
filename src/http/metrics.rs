//! The same figures for Prometheus: text exposition format 0.0.4, every name with the prefix `firstlight_`, and those of the
//! API's models under the names that Roboflow's server gives them.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use crate::pipeline::status::{State, Status};
use crate::pipeline::telemetry::{LATENCY_BUCKETS_MS, Stage, Telemetry};
use crate::serving::Usage;

pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Bytes of a usual answer, so that the text grows once at most.
const TYPICAL_BYTES: usize = 6 * 1024;

/// A family's kind.
#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Text being written, family by family.
struct Exposition(String);

impl Exposition {
    fn family(&mut self, kind: Kind, name: &str, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = write!(self.0, "# HELP firstlight_{name} {help}\n# TYPE firstlight_{name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &dyn Display)], value: impl Display) {
        let _ = write!(self.0, "firstlight_{name}");
        for (i, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"{}\"", if i == 0 { '{' } else { ',' }, escaped(&text.to_string()));
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// A family of one sample without labels.
    fn single(&mut self, kind: Kind, name: &str, help: &str, value: impl Display) {
        self.family(kind, name, help);
        self.sample(name, &[], value);
    }

    /// A family that is left out while its value is unknown, as Prometheus wants it.
    fn known(&mut self, name: &str, help: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.single(Kind::Gauge, name, help, value);
        }
    }
}

/// A label's value with the three escapes of the format.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// All figures at this moment; `usage` of each model of the API, where there is one.
pub(super) fn render(telemetry: &Telemetry, version: &str, usage: Option<&[(String, Usage)]>) -> String {
    let mut out = Exposition(String::with_capacity(TYPICAL_BYTES));
    // Before the frame counter: a frame that ends meanwhile must not be in a bucket and not in the count.
    let (buckets, latency_sum_s) = telemetry.latency_histogram();
    let status = telemetry.status();
    identity(&mut out, &status, version);
    flow(&mut out, &status);
    latency(&mut out, buckets, latency_sum_s, status.flow.frames);
    out.family(Kind::Counter, "stage_seconds_total", "Time spent in each stage of the loop.");
    for stage in Stage::ALL {
        out.sample("stage_seconds_total", &[("stage", &stage.as_str())], telemetry.stage_seconds(stage));
    }
    spool(&mut out, &status);
    board(&mut out, &status, telemetry.rss_kb());
    device(&mut out, &status);
    if let Some(usage) = usage {
        models(&mut out.0, usage);
    }
    out.0
}

/// Roboflow's three families a model and three of all. Its own are of the last 10 s, which a scraper that comes every 15
/// does not see all of; ours are since the start.
fn models(out: &mut String, usage: &[(String, Usage)]) {
    let (mut total, mut by_name) = (Usage::default(), BTreeMap::<String, Usage>::new());
    for (id, usage) in usage {
        let name = id.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_");
        // Two ids may be one name, which may be there only once.
        for sum in [&mut total, by_name.entry(name).or_default()] {
            sum.inferences += usage.inferences;
            sum.errors += usage.errors;
            sum.busy += usage.busy;
        }
    }
    for (name, usage) in by_name.iter().map(|(name, usage)| (name.as_str(), usage)).chain([("total", &total)]) {
        family_of_model(out, name, usage);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a mean of fewer than 2^53")]
fn family_of_model(out: &mut String, name: &str, usage: &Usage) {
    let mean_s = usage.busy.as_secs_f64() / usage.inferences.max(1) as f64;
    let mut gauge = |kind: &str, help: &str, value: &dyn Display| {
        let _ = write!(out, "# HELP {kind}_{name} {help}\n# TYPE {kind}_{name} gauge\n{kind}_{name} {value}\n");
    };
    gauge("num_inferences", "Number of inferences made since the start", &usage.inferences);
    gauge("avg_inference_time", "Average inference time (over inferences completed since the start), s", &mean_s);
    gauge("num_errors", "Number of errors since the start", &usage.errors);
}

fn identity(out: &mut Exposition, status: &Status, version: &str) {
    out.family(Kind::Gauge, "info", "What runs here, in its labels.");
    let labels: [(&str, &dyn Display); 4] = [
        ("model", &status.model.id),
        ("engine", &status.engine.name),
        ("version", &version),
        ("board", &status.board.name),
    ];
    out.sample("info", &labels, 1);
    out.family(Kind::Gauge, "state", "1 for the state the device is in, 0 for the others.");
    for state in State::ALL {
        out.sample("state", &[("state", &state.as_str())], u8::from(state == status.state));
    }
}

fn flow(out: &mut Exposition, status: &Status) {
    let flow = &status.flow;
    out.single(Kind::Counter, "frames_total", "Frames inferred.", flow.frames);
    out.single(Kind::Counter, "frames_dropped_total", "Frames replaced by a newer one in time.", flow.dropped);
    out.single(Kind::Counter, "frames_failed_total", "Frames that could not be inferred.", flow.failed);
    let undelivered = flow.undelivered;
    out.single(Kind::Counter, "answers_dropped_total", "Answers that no output took in time.", undelivered);
    out.single(Kind::Gauge, "fps", "Frames a second over the last 32 frames.", flow.fps);
    let age_s = flow.last_frame_age_ms.map(seconds);
    out.known("last_frame_age_seconds", "Since the last inference ended.", age_s);
}

/// `buckets` are cumulative; `frames` is at least the last of them, see [`render`].
fn latency(out: &mut Exposition, buckets: [u64; LATENCY_BUCKETS_MS.len()], sum_s: f64, frames: u64) {
    out.family(Kind::Histogram, "latency_seconds", "From a frame complete in memory to its predictions.");
    // A bucket is counted just before its frame, so the counter may be one behind.
    let count = frames.max(buckets[buckets.len() - 1]);
    for (bound_ms, cumulative) in LATENCY_BUCKETS_MS.into_iter().zip(buckets) {
        out.sample("latency_seconds_bucket", &[("le", &seconds(u64::from(bound_ms)))], cumulative);
    }
    out.sample("latency_seconds_bucket", &[("le", &"+Inf")], count);
    out.sample("latency_seconds_sum", &[], sum_s);
    out.sample("latency_seconds_count", &[], count);
}

fn spool(out: &mut Exposition, status: &Status) {
    let Some(spool) = &status.spool else { return };
    out.single(Kind::Counter, "spool_committed_total", "Answers that a power cut no longer takes.", spool.committed);
    out.single(Kind::Counter, "spool_dropped_total", "Answers that the spool had no room for.", spool.dropped);
}

/// What PID 1 tells, where that is ours.
fn device(out: &mut Exposition, status: &Status) {
    let device = &status.boot.device;
    let clock_set = u8::from(status.boot.clock_set);
    out.single(Kind::Gauge, "clock_set", "1 when the wall clock is plausible.", clock_set);
    if let Some(slot) = &device.slot {
        out.family(Kind::Gauge, "slot", "1 for the A/B slot that runs.");
        out.sample("slot", &[("slot", slot)], 1);
    }
    let armed = u8::from(device.watchdog.as_str() == "armed");
    out.single(Kind::Gauge, "watchdog_armed", "1 while the hardware watchdog is armed and fed by us.", armed);
    let restarts = device.loop_restarts;
    out.single(Kind::Counter, "loop_restarts_total", "Starts of the loop after its end, since the boot.", restarts);
}

fn board(out: &mut Exposition, status: &Status, rss_kb: u64) {
    let memory = "Memory of this process that is in RAM.";
    out.single(Kind::Gauge, "process_resident_memory_bytes", memory, rss_kb * 1024);
    out.known("temperature_celsius", "Of the processor.", status.board.temperature_c);
    let throttled = status.board.throttled.map(u8::from);
    out.known("throttled", "1 while the board holds its clock down for heat or power.", throttled);
    let first_s = status.boot.first_inference_ms.map(seconds);
    out.known("first_inference_seconds", "From process start to the first predictions.", first_s);
    out.single(Kind::Gauge, "uptime_seconds", "Since the process started.", status.boot.uptime_s);
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of millennia fit 53 bits")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn models_have_roboflows_names_each_once() {
        let usage = |inferences, errors| Usage { inferences, errors, busy: Duration::from_millis(500) };
        let mut out = String::new();
        models(&mut out, &[("a-b/1".into(), usage(2, 0)), ("a_b/1".into(), usage(3, 1)), ("c/2".into(), usage(0, 0))]);
        for line in [
            "num_inferences_a_b_1 5",
            "avg_inference_time_a_b_1 0.2",
            "num_errors_a_b_1 1",
            "num_inferences_c_2 0",
            "num_inferences_total 5",
            "avg_inference_time_total 0.3",
        ] {
            assert_eq!(out.lines().filter(|found| *found == line).count(), 1, "{line} in {out}");
        }
    }
}
