//! The part of the configuration that is about the machine: read by PID 1, and by the HTTP port for its token.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::Deserialize;

/// The machine around the loop. Only what boots as PID 1 heeds all of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeviceConfig {
    /// Absent: the board's name.
    pub hostname: Option<String>,
    /// Kernel modules to load after the board's own, each with its parameters, such as `vivid n_devs=1`.
    pub modules: Vec<String>,
    /// SHA-256, hex, of the token that `POST /device/…` must bring as `Authorization: Bearer …`; absent: nobody may.
    pub token_sha256: Option<String>,
    pub power_button: PowerButton,
    pub network: NetworkConfig,
    pub data: DataConfig,
    pub watchdog: WatchdogConfig,
    pub restarts: RestartsConfig,
    pub trial: TrialConfig,
}

/// What the power button does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PowerButton {
    #[default]
    Reboot,
    PowerOff,
}

/// How the device gets its address.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkConfig {
    pub mode: NetworkMode,
    /// Such as `eth0`; absent: the first wired one that appears.
    pub interface: Option<String>,
    /// With `mode = "static"`: `192.168.1.5/24`.
    pub address: Option<String>,
    pub gateway: Option<Ipv4Addr>,
    pub dns: Vec<Ipv4Addr>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkMode {
    #[default]
    Dhcp,
    Static,
    Off,
}

/// The writable partition.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// Absent: the partition of the image.
    pub partition: Option<PathBuf>,
    /// Write a new, empty file system when the one there cannot be mounted. What was on it is lost.
    pub reformat: bool,
}

/// When the hardware restarts the machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WatchdogConfig {
    /// Seconds until the hardware acts once it is no longer fed; absent: the board's.
    pub timeout_s: Option<u32>,
    /// It is fed while the last inference is younger than this, seconds.
    pub frame_age_max_s: f64,
}

impl Default for WatchdogConfig {
    fn default() -> Self {
        // Ten: three times what already counts as degraded, so that a hiccup is seen in the status before it restarts
        // the machine.
        Self { timeout_s: None, frame_age_max_s: 10.0 }
    }
}

/// How often the loop may end before the machine is restarted instead.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RestartsConfig {
    pub max: u32,
    pub window_s: f64,
}

impl Default for RestartsConfig {
    fn default() -> Self {
        // Five in ten minutes: a fault that comes back so soon is not in the loop's own memory; what is left to try is
        // the drivers and the hardware, which only a restart of the machine starts anew.
        Self { max: 5, window_s: 600.0 }
    }
}

/// What a trial slot must show before it is kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrialConfig {
    /// Good inferences.
    pub inferences: u64,
    /// Seconds of unbroken health.
    pub healthy_s: f64,
    /// Seconds after its start by which it must have shown both.
    pub deadline_s: f64,
}

impl Default for TrialConfig {
    fn default() -> Self {
        // A hundred frames and a minute: enough for a leak or a heat problem of the first minute to show. Five minutes:
        // a slow board that loads a large model is not judged while it loads.
        Self { inferences: 100, healthy_s: 60.0, deadline_s: 300.0 }
    }
}

impl DeviceConfig {
    /// The first value that is out of range: its key, what was found, what is expected.
    pub(super) fn fault(&self) -> Option<(&'static str, String, &'static str)> {
        let seconds = [
            ("device.watchdog.frame_age_max_s", self.watchdog.frame_age_max_s),
            ("device.restarts.window_s", self.restarts.window_s),
            ("device.trial.healthy_s", self.trial.healthy_s),
            ("device.trial.deadline_s", self.trial.deadline_s),
        ];
        if let Some((key, found)) = seconds.into_iter().find(|(_, s)| !(0.1..=86_400.0).contains(s)) {
            return Some((key, found.to_string(), "0.1 to 86400 seconds"));
        }
        if let Some(timeout) = self.watchdog.timeout_s.filter(|s| !(2..=3600).contains(s)) {
            return Some(("device.watchdog.timeout_s", timeout.to_string(), "2 to 3600 seconds"));
        }
        if !(1..=1000).contains(&self.restarts.max) {
            return Some(("device.restarts.max", self.restarts.max.to_string(), "1 to 1000"));
        }
        if let Some((found, expected)) = self.token_sha256.as_deref().and_then(super::http::digest_fault) {
            return Some(("device.token_sha256", found, expected));
        }
        let is_name = |name: &String| {
            let label = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            (1..=63).contains(&name.len()) && name.bytes().all(label)
        };
        if let Some(name) = self.hostname.as_ref().filter(|name| !is_name(name)) {
            return Some(("device.hostname", name.clone(), "1 to 63 letters, digits and hyphens"));
        }
        let network = &self.network;
        if network.mode == NetworkMode::Static && network.prefix().is_none() {
            let found = network.address.clone().unwrap_or_default();
            return Some(("device.network.address", found, "ADDRESS/PREFIX such as 192.168.1.5/24"));
        }
        None
    }
}

impl NetworkConfig {
    /// `address` taken apart.
    #[must_use]
    pub fn prefix(&self) -> Option<(Ipv4Addr, u8)> {
        let (address, length) = self.address.as_ref()?.split_once('/')?;
        Some((address.parse().ok()?, length.parse().ok().filter(|bits| *bits <= 32)?))
    }
}
