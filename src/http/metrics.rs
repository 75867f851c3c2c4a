//! The same figures for Prometheus: those of the device with the prefix `firstlight_`; those of the process, the API's
//! models and pipelines and of HTTP under the names that Roboflow's server gives them.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::atomic::Ordering::Relaxed;

use super::exposition::{Exposition, Kind};
use super::traffic::Traffic;
use crate::device::Process;
use crate::pipeline::cells::{SinkCell, SourceCell};
use crate::pipeline::status::{State, Status};
use crate::pipeline::telemetry::{LATENCY_BUCKETS_MS, Stage, Telemetry};
use crate::serving::Usage;
use crate::serving::pipeline::Pace;

/// What is served to clients beside the loop.
pub(super) struct Served {
    pub usage: Vec<(String, Usage)>,
    pub streams: Vec<Pace>,
}

/// All figures at this moment; those of the API, where there is one.
pub(super) fn render(telemetry: &Telemetry, version: &str, served: Option<&Served>, traffic: &Traffic) -> String {
    let mut out = Exposition::new();
    out.prefix("firstlight_");
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
    ends(&mut out, telemetry);
    spool(&mut out, &status);
    board(&mut out, &status, telemetry.rss_kb());
    device(&mut out, &status);
    out.prefix("");
    process(&mut out, &Process::now());
    if let Some(served) = served {
        models(&mut out, &served.usage);
        streams(&mut out, &served.streams);
    }
    traffic.write(&mut out);
    out.into_text()
}

/// In the names of Prometheus' own client libraries.
fn process(out: &mut Exposition, process: &Process) {
    out.known("process_virtual_memory_bytes", "Virtual memory size in bytes.", process.virtual_bytes);
    out.known("process_resident_memory_bytes", "Resident memory size in bytes.", process.resident_bytes);
    let started = "Start time of the process since unix epoch in seconds.";
    out.known("process_start_time_seconds", started, process.started_unix_s);
    if let Some(cpu_s) = process.cpu_s {
        let spent = "Total user and system CPU time spent in seconds.";
        out.single(Kind::Counter, "process_cpu_seconds_total", spent, cpu_s);
    }
    out.known("process_open_fds", "Number of open file descriptors.", process.open_fds);
    out.known("process_max_fds", "Maximum number of open file descriptors.", process.max_fds);
}

/// The pipelines of clients. The camera loop is none of them; its figures have our own names.
fn streams(out: &mut Exposition, streams: &[Pace]) {
    type Read = fn(&Pace) -> Option<f64>;
    let families: [(&str, &str, Read); 5] = [
        ("inference_fps", "Inference throughput FPS", |pace| Some(pace.inference_fps)),
        ("camera_fps", "Camera source FPS", |pace| Some(pace.source_fps)),
        ("frame_decoding_latency", "Average frame decoding latency (seconds)", |pace| Some(pace.latency?.decoding_s)),
        ("inference_latency", "Average inference latency (seconds)", |pace| Some(pace.latency?.inference_s)),
        ("e2e_latency", "Average end-to-end latency (seconds)", |pace| Some(pace.latency?.whole_s)),
    ];
    for (name, help, read) in families {
        let name = format!("inference_pipeline_{name}");
        out.family(Kind::Gauge, &name, help);
        for pace in streams {
            if let Some(value) = read(pace) {
                out.sample(&name, &[("pipeline_id", &pace.id), ("source", &pace.source)], value);
            }
        }
    }
    let active = streams.iter().filter(|pace| pace.active).count();
    let help = "Number of active inference pipelines";
    out.single(Kind::Gauge, "inference_pipeline_active_streams", help, active);
}

/// Roboflow's three families a model and three of all. Its own are of the last 10 s, which a scraper that comes every 15
/// does not see all of; ours are since the start.
fn models(out: &mut Exposition, usage: &[(String, Usage)]) {
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
fn family_of_model(out: &mut Exposition, name: &str, usage: &Usage) {
    let mean_s = usage.busy.as_secs_f64() / usage.inferences.max(1) as f64;
    let mut gauge = |kind: &str, help: &str, value: &dyn Display| {
        out.single(Kind::Gauge, &format!("{kind}_{name}"), help, value);
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

/// Sources and outputs, each by itself.
fn ends(out: &mut Exposition, telemetry: &Telemetry) {
    type OfSource = fn(&SourceCell) -> u64;
    let of_source: [(Kind, &str, &str, OfSource); 4] = [
        (Kind::Counter, "source_frames_total", "Frames that a source gave.", SourceCell::captured),
        (Kind::Counter, "source_dropped_total", "Of these, how many gave way to others.", SourceCell::dropped),
        (Kind::Counter, "source_lost_total", "How often a source was lost.", SourceCell::lost),
        (Kind::Gauge, "source_up", "1 unless a source is lost.", |source| u64::from(source.problem().is_none())),
    ];
    for (kind, name, help, read) in of_source {
        out.family(kind, name, help);
        for (id, source) in telemetry.sources().iter().enumerate() {
            out.sample(name, &[("source_id", &id), ("source", &source.uri())], read(source));
        }
    }
    type OfSink = fn(&SinkCell) -> Option<u64>;
    let of_sink: [(Kind, &str, &str, OfSink); 4] = [
        (Kind::Counter, "sink_delivered_total", "Records that an output's receiver has.", |sink| {
            Some(sink.gauge()?.delivered.load(Relaxed))
        }),
        (Kind::Gauge, "sink_waiting", "Records that wait for an output.", |sink| {
            Some(sink.gauge()?.waiting.load(Relaxed))
        }),
        (Kind::Counter, "sink_dropped_total", "Records that an output had to let go.", |sink| {
            Some(sink.gauge()?.dropped.load(Relaxed))
        }),
        (Kind::Gauge, "sink_up", "1 unless an output is in trouble.", |sink| Some(u64::from(sink.problem().is_none()))),
    ];
    for (kind, name, help, read) in of_sink {
        out.family(kind, name, help);
        for (id, sink) in telemetry.sinks().iter().enumerate() {
            if let Some(value) = read(sink) {
                out.sample(name, &[("sink_id", &id), ("sink", &sink.name())], value);
            }
        }
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
    use crate::serving::pipeline::Latency;

    #[test]
    fn models_have_roboflows_names_each_once() {
        let usage = |inferences, errors| Usage { inferences, errors, busy: Duration::from_millis(500) };
        let mut out = Exposition::new();
        models(&mut out, &[("a-b/1".into(), usage(2, 0)), ("a_b/1".into(), usage(3, 1)), ("c/2".into(), usage(0, 0))]);
        let out = out.into_text();
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

    #[test]
    fn pipelines_have_roboflows_labels_and_no_latency_before_the_first_frame() {
        let latency = Some(Latency { decoding_s: 0.25, inference_s: 0.5, whole_s: 0.75 });
        let running = Pace {
            id: "a-b".into(),
            source: "/dev/video0".into(),
            active: true,
            inference_fps: 10.0,
            source_fps: 30.0,
            latency,
        };
        let ended = Pace { id: "c".into(), active: false, latency: None, ..running.clone() };
        let mut out = Exposition::new();
        streams(&mut out, &[running, ended]);
        let out = out.into_text();
        for line in [
            r#"inference_pipeline_inference_fps{pipeline_id="a-b",source="/dev/video0"} 10"#,
            r#"inference_pipeline_camera_fps{pipeline_id="c",source="/dev/video0"} 30"#,
            r#"inference_pipeline_frame_decoding_latency{pipeline_id="a-b",source="/dev/video0"} 0.25"#,
            r#"inference_pipeline_e2e_latency{pipeline_id="a-b",source="/dev/video0"} 0.75"#,
            "inference_pipeline_active_streams 1",
        ] {
            assert_eq!(out.lines().filter(|found| *found == line).count(), 1, "{line} in {out}");
        }
        assert!(!out.contains("inference_pipeline_inference_latency{pipeline_id=\"c\""), "{out}");
    }
}
