//! The configuration file of `run`: typed TOML, every key optional, unknown keys refused.
//!
//! May not know: anything above floor 0. Values that name a model, a source or a board are plain text here and are
//! judged where they are used.

mod bundle;
mod device;
mod disk;
mod display;
mod engine;
mod gpio;
mod http;
mod mqtt;
mod needs;
mod recording;
mod rules;
mod secret;
mod serving;
mod source;
pub mod text;
mod video;
mod webhook;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

pub use bundle::{Accept, BundleConfig};
pub use device::{DataConfig, DeviceConfig, NetworkConfig, NetworkMode, PowerButton, RestartsConfig, TrialConfig};
pub use disk::DiskConfig;
pub use display::DisplayConfig;
pub use engine::EngineConfig;
pub use gpio::{GpioConfig, LineName};
pub use http::{AccessMode, HttpConfig, TlsConfig};
pub use mqtt::{MqttAddress, MqttConfig, MqttVersion};
pub use needs::Need;
pub use recording::{ClipsConfig, Keep, PicturesConfig, RecordingConfig, VideoConfig};
pub use rules::{Anchor, Direction, HOLD_DEFAULT_S, RuleConfig, RuleKind, SourceName, TrackerConfig, Units};
pub use secret::Secret;
pub use serving::{ImagesConfig, ServingConfig};
pub use source::{BufferConfig, BufferPolicy, Consumption, Discipline, Overflow, SOURCES_MAX, SourceConfig, Sources};
pub use video::DecodingConfig;
pub use webhook::WebhookConfig;

/// A configuration larger than this is not one.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// What can be wrong with a configuration file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("config {path}: cannot be read: {cause}")]
    Read { path: PathBuf, cause: std::io::Error },
    #[error("config {path}: {bytes} bytes; a configuration has at most {CONFIG_BYTES_MAX}")]
    TooLarge { path: PathBuf, bytes: u64 },
    #[error("config {path}: {message}")]
    Parse { path: PathBuf, message: String },
    #[error("config {path}: {key} = {found}: expected {expected}")]
    Value { path: PathBuf, key: &'static str, found: String, expected: &'static str },
}

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Model id in the cache; absent: the demo model inside the binary.
    pub model: Option<String>,
    /// `classic` or `default`: whose answers, where not those of the engine whose cache layout the model lies in.
    pub semantics: Option<String>,
    /// Cache root.
    pub cache: Option<PathBuf>,
    /// Address of the HTTP port, or `off`.
    pub listen: Option<String>,
    pub http: HttpConfig,
    pub source: Sources,
    pub video: DecodingConfig,
    pub engine: EngineConfig,
    /// Fields of Roboflow's request for every frame; absent ones have Roboflow's defaults.
    pub inference: toml::Table,
    pub buffer: BufferConfig,
    pub health: HealthConfig,
    pub disk: DiskConfig,
    /// Absent: nothing is tracked unless a rule needs it.
    pub tracker: Option<TrackerConfig>,
    pub rules: Vec<RuleConfig>,
    pub gpio: Vec<GpioConfig>,
    pub output: OutputConfig,
    /// Absent: no broker is told anything.
    pub mqtt: Option<MqttConfig>,
    /// Servers that records are posted to.
    pub webhook: Vec<WebhookConfig>,
    pub serial: SerialConfig,
    pub snapshot: SnapshotConfig,
    pub display: DisplayConfig,
    pub recording: RecordingConfig,
    pub serving: ServingConfig,
    pub bundle: BundleConfig,
    pub device: DeviceConfig,
}

/// When the device calls itself degraded.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthConfig {
    /// Oldest acceptable last inference, seconds.
    pub frame_age_max_s: f64,
    /// Time allowed from process start to the first inference, seconds.
    pub start_grace_s: f64,
}

impl Default for HealthConfig {
    fn default() -> Self {
        // Three seconds: longer than any frame of a model that is worth running live, short enough to be noticed.
        // Thirty: the largest model on the slowest board loads within it.
        Self { frame_age_max_s: 3.0, start_grace_s: 30.0 }
    }
}

/// The machine-readable output.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutputConfig {
    /// JSON lines, to one target or a list of them: `stdout`, `none`, `unix:PATH`, `udp:HOST:PORT`, or a path such as a
    /// file, a named pipe or a serial device.
    #[serde(deserialize_with = "one_or_many")]
    pub json: Vec<String>,
    /// Directory on the data partition that keeps the newest answers over power cuts; absent: none are kept. It is made
    /// if only its last part is missing.
    pub spool: Option<PathBuf>,
    /// Size of the spool, MB of 10⁶ bytes, 1 to 1024; the oldest answers give way. It must fit its partition: on a full
    /// disk nothing older is removed to make room.
    pub spool_mb: u64,
    /// Longest time until an answer is safe from a power cut, seconds, 0.1 to 3600.
    pub spool_interval_s: f64,
    /// Most answers kept a second, 0.001 to 1000: the first of each such interval, with detections or without.
    pub spool_per_s: f64,
}

impl Default for OutputConfig {
    fn default() -> Self {
        // Ten seconds: an SD card takes 8,640 small commits a day for years. One a second: ten lines of a kilobyte fill
        // three blocks, and 16 MB of those are more than three hours. All of 30 a second would cost the card 2 GB a day
        // and keep ten minutes; and which change is worth keeping, only who reads the answers knows.
        Self { json: vec!["stdout".into()], spool: None, spool_mb: 16, spool_interval_s: 10.0, spool_per_s: 1.0 }
    }
}

/// The status line on a serial device.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SerialConfig {
    /// Such as `/dev/ttyS0`; absent: no status line.
    pub device: Option<PathBuf>,
    pub baud: u32,
    /// Seconds between two status lines.
    pub interval_s: f64,
}

impl Default for SerialConfig {
    fn default() -> Self {
        // 115200 is what every board's console uses. A line is under 1 kB, so 5 s costs 2 % of that line.
        Self { device: None, baud: 115_200, interval_s: 5.0 }
    }
}

/// The annotated picture on `/snapshot.jpg`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SnapshotConfig {
    /// JPEG quality, 1 to 100.
    pub quality: u8,
}

impl Default for SnapshotConfig {
    fn default() -> Self {
        // 80 shows a detection as well as 95 does, at a third of the bytes.
        Self { quality: 80 }
    }
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// The file cannot be read, is no TOML, has an unknown key (the message names the nearest valid one) or a value
    /// out of range.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let read = |cause| Error::Read { path: path.into(), cause };
        let bytes = std::fs::metadata(path).map_err(read)?.len();
        if bytes > CONFIG_BYTES_MAX {
            return Err(Error::TooLarge { path: path.into(), bytes });
        }
        Self::parse(&std::fs::read_to_string(path).map_err(read)?, path)
    }

    /// Parses and checks the text of the file at `path`.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let config: Self = text::read(text).map_err(|message| Error::Parse { path: path.into(), message })?;
        config.check(path)?;
        Ok(config)
    }

    fn check(&self, path: &Path) -> Result<(), Error> {
        let value = |key, found: String, expected| Err(Error::Value { path: path.into(), key, found, expected });
        if !(1..=64).contains(&self.buffer.frames) {
            return value("buffer.frames", self.buffer.frames.to_string(), "1 to 64");
        }
        if !(1..=100).contains(&self.snapshot.quality) {
            return value("snapshot.quality", self.snapshot.quality.to_string(), "1 to 100");
        }
        if !(1..=1024).contains(&self.output.spool_mb) {
            return value("output.spool_mb", self.output.spool_mb.to_string(), "1 to 1024");
        }
        if !(0.1..=3600.0).contains(&self.output.spool_interval_s) {
            return value("output.spool_interval_s", self.output.spool_interval_s.to_string(), "0.1 to 3600 seconds");
        }
        if !(0.001..=1000.0).contains(&self.output.spool_per_s) {
            return value("output.spool_per_s", self.output.spool_per_s.to_string(), "0.001 to 1000 a second");
        }
        if self.output.spool.as_ref().is_some_and(|dir| dir.as_os_str().is_empty()) {
            return value("output.spool", "\"\"".into(), "a directory such as /data/spool");
        }
        for (key, seconds) in [
            ("health.frame_age_max_s", self.health.frame_age_max_s),
            ("health.start_grace_s", self.health.start_grace_s),
            ("serial.interval_s", self.serial.interval_s),
        ] {
            if !(0.1..=86_400.0).contains(&seconds) {
                return value(key, seconds.to_string(), "0.1 to 86400 seconds");
            }
        }
        let faults = [
            self.device.fault(),
            self.disk.fault(),
            self.engine.fault(),
            self.http.fault(self.device.token_sha256.is_some()),
            self.serving.fault(),
            self.source.fault(),
            self.video.fault(),
            self.tracker.as_ref().and_then(TrackerConfig::fault),
            self.display.fault(),
            self.recording.fault(),
            gpio::fault(&self.gpio, &self.rules),
            self.mqtt.as_ref().and_then(MqttConfig::fault),
            self.webhook.iter().find_map(WebhookConfig::fault),
        ];
        if let Some((key, found, expected)) = faults.into_iter().flatten().next() {
            return value(key, found, expected);
        }
        let mut spools: Vec<&PathBuf> = self.output.spool.iter().collect();
        spools.extend(self.mqtt.iter().filter_map(|mqtt| mqtt.spool.as_ref()));
        spools.extend(self.webhook.iter().filter_map(|webhook| webhook.spool.as_ref()));
        spools.sort_unstable();
        if let Some(twice) = spools.windows(2).find(|pair| pair[0] == pair[1]) {
            return value("spool", twice[0].display().to_string(), "a directory of its own for each spool");
        }
        for (key, name) in [("inference.confidence", "confidence"), ("inference.iou_threshold", "iou_threshold")] {
            let share = self.inference.get(name).and_then(toml::Value::as_float);
            if let Some(share) = share.filter(|share| !(0.0..=1.0).contains(share)) {
                return value(key, share.to_string(), "0 to 1");
            }
        }
        Ok(())
    }
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a text or a list of texts")]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}

/// A number of seconds that [`Config::check`] has passed.
#[must_use]
pub fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, Error> {
        Config::parse(text, Path::new("device.toml"))
    }

    #[test]
    fn an_empty_file_is_the_default() {
        let config = parse("").unwrap();
        assert_eq!(config.serial.baud, 115_200);
        assert_eq!(config.output.json, ["stdout"]);
        let both = parse("output.json = [\"stdout\", \"unix:/run/lines\"]").unwrap();
        assert_eq!(both.output.json, ["stdout", "unix:/run/lines"]);
    }

    #[test]
    fn a_typo_names_the_key_its_line_and_the_nearest_valid_one() {
        let message = parse("\n[engine]\nthraeds = 2\n").unwrap_err().to_string();
        assert_eq!(message, "config device.toml: line 3: unknown key `thraeds`; did you mean `threads`?");
        let message = parse("modle = \"parts/1\"\n").unwrap_err().to_string();
        assert!(message.contains("`modle`; did you mean `model`?"), "{message}");
    }

    #[test]
    fn values_out_of_range_name_key_found_and_expected() {
        let line_rule = "[[rules]]\nname = \"r\"\nkind = \"line\"\n";
        for (text, key) in [
            ("[buffer]\nframes = 0", "buffer.frames"),
            ("[snapshot]\nquality = 0", "snapshot.quality"),
            ("[health]\nframe_age_max_s = -1.0", "health.frame_age_max_s"),
            ("[serial]\ninterval_s = nan", "serial.interval_s"),
            ("[inference]\nconfidence = 1.5", "inference.confidence"),
            ("[device]\nhostname = \"a b\"", "device.hostname"),
            ("[device]\ntoken_sha256 = \"secret\"", "device.token_sha256"),
            ("[device.restarts]\nmax = 0", "device.restarts.max"),
            ("[device.watchdog]\ntimeout_s = 1", "device.watchdog.timeout_s"),
            ("[device.trial]\nhealthy_s = 0", "device.trial.healthy_s"),
            ("[device.network]\nmode = \"static\"\naddress = \"10.0.0.1\"", "device.network.address"),
            ("[disk]\nlow_space_mb = 1000001", "disk.low_space_mb"),
            ("[serving]\nmemory_mb = 1", "serving.memory_mb"),
            ("[serving]\nsessions = 0", "serving.sessions"),
            ("[serving.images]\ndirs = [\"pictures\"]", "serving.images.dirs"),
            ("[tracker]\nframe_rate = nan", "tracker.frame_rate"),
            ("[tracker]\ntrack_activation_threshold = 25", "tracker.track_activation_threshold"),
            ("[tracker]\nminimum_consecutive_frames = 0", "tracker.minimum_consecutive_frames"),
            ("[[gpio]]\nchip = \"a\"\nline = 1\nrule = \"r\"", "gpio.rule"),
            (&*format!("{line_rule}[[gpio]]\nchip = \"a\"\nline = \"L\"\nrule = \"r\""), "gpio.pulse_s"),
            (&*format!("{line_rule}[[gpio]]\nchip = \"a\"\nline = 1\nrule = \"r\"\npulse_s = 0"), "gpio.pulse_s"),
            (&*format!("{line_rule}[[gpio]]\nchip = \"\"\nline = 1\nrule = \"r\"\npulse_s = 1"), "gpio.chip"),
            ("[output]\nspool = \"\"", "output.spool"),
            ("[output]\nspool_mb = 0", "output.spool_mb"),
            ("[output]\nspool_interval_s = 0.0", "output.spool_interval_s"),
            ("[output]\nspool_per_s = inf", "output.spool_per_s"),
            ("[display]\nfps = 0", "display.fps"),
            ("[video]\ndecoder = \"hardware\"", "video.decoder"),
            ("[recording]\nquality = 0", "recording.quality"),
            ("[recording.pictures]\nevery_s = 0.01", "recording.pictures.every_s"),
            ("[recording.video]\ndir = \"\"", "recording.video"),
            ("[recording.video]\nsize_mb = 1", "size_mb"),
            ("[recording.video]\nage_h = 0.0", "age_h"),
            ("[recording.video]\nfps = 0", "recording.video.fps"),
            ("[recording.clips]\nlongest_s = 9", "recording.clips.longest_s"),
            ("[recording.clips]\nmemory_mb = 0", "recording.clips.memory_mb"),
            ("[recording]\nclips.dir = \"/data/a\"\nvideo.dir = \"/data/a\"", "a directory of its own"),
            ("[mqtt]\nurl = \"mqtt://a\"\nkeep_alive_s = 0", "mqtt.keep_alive_s"),
            ("[[webhook]]\nurl = \"http://a/\"\ntimeout_s = 0.0", "webhook.timeout_s"),
            ("[output]\nspool = \"/a\"\n[mqtt]\nurl = \"mqtt://a\"\nspool = \"/a\"", "spool = /a"),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(key) && message.contains("expected"), "{message}");
        }
    }
}
