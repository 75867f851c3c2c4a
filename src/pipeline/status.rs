//! The contract of health: one document, the same on HTTP, on the serial line and on the page.
//!
//! A [`Status`] is a value of fixed size (`heapless` inside), composed by [`super::telemetry::Telemetry::status`]
//! without a lock and rendered by [`Status::render`] into a fixed buffer, so that asking never costs the loop anything.

use serde::{Deserialize, Serialize};

use crate::config::SOURCES_MAX;

/// A bounded text; longer ones are cut at a character boundary by [`text`].
pub type Text<const N: usize> = heapless::String<N>;

/// Most reasons shown at once: one each for engine, precision, display, HTTP, TLS, serving and the late loop, some for sources and
/// outputs, and the device's own.
pub const REASONS_MAX: usize = 17 + DEVICE_REASONS_MAX;
/// Most troubles of the device shown at once: loop, configuration, root, modules, data partition, network, slots.
pub const DEVICE_REASONS_MAX: usize = 7;
/// Most resets remembered: enough to see whether they repeat.
pub const RESETS_MAX: usize = 4;
/// Most rejected engines listed: the engines this project plans for, with room to spare.
pub const REJECTED_MAX: usize = 8;
/// Bytes a rendered document can take at most: every text at its longest with every character escaped (`\u00XX`
/// would be six bytes, but [`text`] strips control characters, so two) and all numbers at their widest.
pub const RENDERED_BYTES_MAX: usize = 32 * 1024;
/// Most outputs listed: one of each kind, with room for several of some.
pub const SINKS_MAX: usize = 16;

/// What the device is doing, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// No inference yet, and still inside the start grace.
    Starting,
    /// Frames flow.
    Running,
    /// Something is wrong, said in `reasons`; the process keeps trying.
    Degraded,
    /// Nothing will come of this process any more.
    Failed,
}

impl State {
    pub const ALL: [State; 4] = [State::Starting, State::Running, State::Degraded, State::Failed];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Running => "running",
            State::Degraded => "degraded",
            State::Failed => "failed",
        }
    }
}

/// The status document. Field names are the contract of `DESIGN.md`.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub state: State,
    pub reasons: heapless::Vec<Text<160>, REASONS_MAX>,
    pub model: ModelFacts,
    pub engine: EngineFacts,
    /// In the order of the configuration; their places are the source ids.
    pub sources: heapless::Vec<SourceFacts, SOURCES_MAX>,
    pub sinks: heapless::Vec<SinkFacts, SINKS_MAX>,
    #[serde(rename = "loop")]
    pub flow: Flow,
    /// Null where nothing is kept on a disk.
    pub spool: Option<Spool>,
    pub boot: Boot,
    pub board: Board,
}

/// Which model runs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ModelFacts {
    pub id: Text<256>,
    pub task: Text<48>,
    /// Of the weights file, hex.
    pub sha256: Text<64>,
}

/// What runs it, and what was passed over.
#[derive(Clone, Debug, Default, Serialize)]
pub struct EngineFacts {
    pub name: Text<32>,
    pub version: Text<32>,
    /// `fp32`, or `fp16` or `int8` where such a plan runs.
    pub precision: Text<8>,
    /// How far the answers are from those in fp32; null in fp32.
    pub accuracy: Option<AccuracyFacts>,
    pub threads: usize,
    pub rejected: heapless::Vec<Rejected, REJECTED_MAX>,
}

/// What was measured of an fp16 or int8 plan when it was baked.
#[derive(Clone, Debug, Serialize)]
pub struct AccuracyFacts {
    /// Such as `mAP@50:95 0.957`, or `largest error 3.1e-3` of any output, by the referee.
    pub measured: Text<32>,
    /// Pictures on which it was measured; 0 where that were the golden frame and noise.
    pub images: usize,
}

/// An engine that could not be used here.
#[derive(Clone, Debug, Serialize)]
pub struct Rejected {
    pub name: Text<32>,
    pub why: Text<160>,
}

/// Where frames come from.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SourceFacts {
    pub uri: Text<256>,
    /// A live source goes on by itself.
    pub live: bool,
    /// Frames it gave.
    pub captured: u64,
    /// Frames until its end, as it declares; null of one without an end.
    pub total: Option<u64>,
    /// Of these, how many gave way to others before their turn.
    pub dropped: u64,
    /// How often it was lost.
    pub lost: u64,
    /// Why it is lost now.
    pub problem: Option<Text<160>>,
}

/// Where answers go. Figures are null of an output that is done when it returns.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SinkFacts {
    pub name: Text<64>,
    /// Records that their receiver has, or that are safe on the disk.
    pub delivered: Option<u64>,
    pub waiting: Option<u64>,
    /// Records that gave way.
    pub dropped: Option<u64>,
    /// What is wrong with it now.
    pub problem: Option<Text<160>>,
}

/// How frames flow.
#[derive(Clone, Debug, Serialize)]
pub struct Flow {
    /// Frames inferred since the start.
    pub frames: u64,
    /// Frames of a live source that were replaced by a newer one before their turn.
    pub dropped: u64,
    /// Frames whose pre-processing, inference or decoding failed.
    pub failed: u64,
    /// Answers of a live source that no output took in time.
    pub undelivered: u64,
    /// Over the last 32 frames; falls towards 0 while none comes.
    pub fps: f32,
    /// From the frame complete in memory to its predictions, over the last 256 frames.
    pub latency_ms: Latency,
    /// Since the last inference ended; null before the first.
    pub last_frame_age_ms: Option<u64>,
}

/// Percentiles, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    pub p50: f32,
    pub p99: f32,
}

/// What is kept over power cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Spool {
    /// Records that this process has made safe.
    pub committed: u64,
    /// Number of the last record that is safe, whoever wrote it; 0 for none.
    pub last: u64,
    /// Records that gave way because the disk was missing, full or slow.
    pub dropped: u64,
}

/// Since the process started.
#[derive(Clone, Debug, Serialize)]
pub struct Boot {
    pub boot_id: Text<36>,
    pub uptime_s: f64,
    /// From process start to the first predictions; null before them.
    pub first_inference_ms: Option<u64>,
    /// From the kernel's start to the first predictions of this process; null before them.
    pub kernel_to_first_inference_ms: Option<u64>,
    /// Whether the wall clock is plausible (a board without a battery starts in 1970).
    pub clock_set: bool,
    #[serde(flatten)]
    pub device: DeviceFacts,
}

/// What only PID 1 knows; empty where another program is PID 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceFacts {
    /// A/B slot that was booted; null where there are no slots.
    pub slot: Option<Text<8>>,
    /// What became of the last trial of a slot, or how far the present one is; null when there was none.
    pub trial: Option<Text<200>>,
    /// `off`, `armed`, or why it is not fed.
    pub watchdog: Text<96>,
    /// Why the machine restarted, newest first.
    pub resets: heapless::Vec<Text<160>, RESETS_MAX>,
    /// How often the loop ended and was started again since the machine started.
    pub loop_restarts: u32,
}

/// What PID 1 tells the loop.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceReport {
    pub facts: DeviceFacts,
    /// Troubles of the machine, which become reasons of the whole document.
    pub reasons: heapless::Vec<Text<160>, DEVICE_REASONS_MAX>,
}

/// The machine.
#[derive(Clone, Debug, Serialize)]
pub struct Board {
    pub name: Text<64>,
    pub temperature_c: Option<f32>,
    pub throttled: Option<bool>,
    pub memory_rss_mb: u64,
}

impl Status {
    /// Renders the document as one line of JSON into `buffer` and returns the bytes written.
    ///
    /// # Panics
    /// Never with a buffer of [`RENDERED_BYTES_MAX`] bytes: every field is bounded (a unit test fills each).
    pub fn render<'b>(&self, buffer: &'b mut [u8; RENDERED_BYTES_MAX]) -> &'b [u8] {
        let written = serde_json_core::to_slice(self, buffer).expect("RENDERED_BYTES_MAX holds every document");
        &buffer[..written]
    }
}

/// `value` as a bounded text, cut at a character boundary, control characters replaced by a space.
#[must_use]
pub fn text<const N: usize>(value: &str) -> Text<N> {
    let mut out = Text::new();
    for c in value.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if out.push(c).is_err() {
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text that is as long as it can be, every character escaped.
    fn full<const N: usize>() -> Text<N> {
        text(&"\"".repeat(N))
    }

    #[test]
    fn the_largest_document_fits() {
        let mut reasons = heapless::Vec::new();
        while reasons.push(full()).is_ok() {}
        let mut rejected = heapless::Vec::new();
        while rejected.push(Rejected { name: full(), why: full() }).is_ok() {}
        let status = Status {
            state: State::Degraded,
            reasons,
            model: ModelFacts { id: full(), task: full(), sha256: full() },
            engine: EngineFacts {
                name: full(),
                version: full(),
                precision: full(),
                accuracy: Some(AccuracyFacts { measured: full(), images: usize::MAX }),
                threads: usize::MAX,
                rejected,
            },
            sources: std::iter::repeat_with(|| SourceFacts {
                uri: full(),
                live: false,
                captured: u64::MAX,
                total: Some(u64::MAX),
                dropped: u64::MAX,
                lost: u64::MAX,
                problem: Some(full()),
            })
            .take(SOURCES_MAX)
            .collect(),
            sinks: std::iter::repeat_with(|| SinkFacts {
                name: full(),
                delivered: Some(u64::MAX),
                waiting: Some(u64::MAX),
                dropped: Some(u64::MAX),
                problem: Some(full()),
            })
            .take(SINKS_MAX)
            .collect(),
            flow: Flow {
                frames: u64::MAX,
                dropped: u64::MAX,
                failed: u64::MAX,
                undelivered: u64::MAX,
                fps: f32::MIN,
                latency_ms: Latency { p50: f32::MIN, p99: f32::MIN },
                last_frame_age_ms: Some(u64::MAX),
            },
            spool: Some(Spool { committed: u64::MAX, last: u64::MAX, dropped: u64::MAX }),
            boot: Boot {
                boot_id: full(),
                uptime_s: f64::MIN,
                first_inference_ms: Some(u64::MAX),
                kernel_to_first_inference_ms: Some(u64::MAX),
                clock_set: false,
                device: DeviceFacts {
                    slot: Some(full()),
                    trial: Some(full()),
                    watchdog: full(),
                    resets: std::iter::repeat_with(full).take(RESETS_MAX).collect(),
                    loop_restarts: u32::MAX,
                },
            },
            board: Board {
                name: full(),
                temperature_c: Some(f32::MIN),
                throttled: Some(false),
                memory_rss_mb: u64::MAX,
            },
        };
        let mut buffer = [0; RENDERED_BYTES_MAX];
        let document: serde_json::Value = serde_json::from_slice(status.render(&mut buffer)).unwrap();
        assert_eq!(document["spool"]["last"], u64::MAX);
        assert_eq!(document["reasons"][REASONS_MAX - 1].as_str().unwrap().len(), 160);
    }
}
