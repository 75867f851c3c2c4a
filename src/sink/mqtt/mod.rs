//! Events and answers to an MQTT broker, 3.1.1 or 5, each at least once and in order, by way of an outbox; and a device
//! that appears in Home Assistant by itself.
//!
//! | topic below `PREFIX/DEVICE/` | retained | what |
//! |---|---|---|
//! | `availability` | yes | `online`; `offline` is the last will |
//! | `event` | no | a rule's event began or ended, with its `id` and `number` |
//! | `answer` | no | a frame with its answer, likewise |
//! | `rule/NAME` | yes | `ON` while the rule sees something, else `OFF`; of a line only the `ON`, and not retained |
//! | `status` | yes | counts, rates, and the status document of the device |
//!
//! May not know: the loop, or the status document.

mod discovery;
mod link;
mod live;
mod packets;
mod session;
#[cfg(test)]
mod tests;
mod topics;
mod wire;
mod words;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::forward::{Forward, Selection};
use super::outbox::Settings;
use super::{Error, Sink};
use crate::config::{MqttConfig, seconds};
use crate::model::Labels;
use live::Live;
use session::Session;
use topics::{Topics, plain};

pub use session::Report;

/// A rule as its topic tells of it.
#[derive(Clone, Debug)]
pub struct Rule {
    pub name: String,
    /// Whether its events are over when they begin.
    pub momentary: bool,
}

impl Rule {
    #[must_use]
    pub fn new(name: &str, momentary: bool) -> Self {
        Self { name: name.into(), momentary }
    }
}

/// What the sink needs to know of the device.
pub struct Device<'a> {
    /// Its host name; the configuration may name it otherwise.
    pub name: &'a str,
    pub boot_id: String,
    /// Its rules, in their order.
    pub rules: Vec<Rule>,
    /// What else the status says.
    pub report: Report,
}

impl std::fmt::Debug for Device<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device").field("name", &self.name).field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// Starts the sink. The broker need not be there.
///
/// # Errors
/// The system gives no thread.
pub fn start(config: &MqttConfig, device: Device<'_>, labels: Arc<Labels>) -> Result<Forward, Error> {
    let unknown = || Error::Trouble { target: "mqtt".into(), why: format!("{} is no address", config.url) };
    let topics = Topics::new(&config.prefix, &plain(config.device.as_deref().unwrap_or(device.name)));
    let live = Live::new(Arc::clone(&labels), &device.rules);
    let gauge = Arc::new(OnceLock::new());
    let session = Session {
        config: config.clone(),
        address: config.address().ok_or_else(unknown)?,
        topics,
        rules: device.rules,
        classes: labels.class_names.clone(),
        live: live.clone(),
        gauge: Arc::clone(&gauge),
        report: device.report,
        connected: None,
    };
    let settings = Settings {
        dir: config.spool.as_deref().map(Path::to_owned),
        bytes_max: config.spool_mb * 1_000_000,
        interval: seconds(config.spool_interval_s),
        boot_id: device.boot_id,
    };
    let selection = Selection { events: config.events, answers_per_s: config.answers_per_s };
    let watch = Box::new(move |outcome: &super::Outcome<'_>| live.observe(outcome));
    let sink = Forward::start("mqtt", selection, settings, labels, Box::new(session), Some(watch))?;
    if let Some(counted) = sink.gauge() {
        // Only the one gauge is ever set.
        let _ = gauge.set(counted);
    }
    Ok(sink)
}
