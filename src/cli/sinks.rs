//! The outputs that the configuration names, opened.

use std::sync::Arc;

use super::Error;
use super::run::Settings;
use crate::config::RuleKind;
use crate::device;
use crate::model::Labels;
use crate::pipeline::Telemetry;
use crate::pipeline::status::RENDERED_BYTES_MAX;
use crate::sink::{Gpio, JsonLines, Sink, Spool, Target, mqtt, recording, webhook};

/// Opens them in the order in which they are given each frame: first what costs least. Outputs of a source that can wait are
/// patient with their receivers.
pub(super) fn open(
    settings: &Settings,
    labels: &Arc<Labels>,
    patient: bool,
    telemetry: &Arc<Telemetry>,
) -> Result<Vec<Box<dyn Sink>>, Error> {
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    for target in Target::parse_all(&settings.json, settings.config.serial.baud)? {
        sinks.push(Box::new(JsonLines::open(&target, Arc::clone(labels), patient)?));
    }
    for line in &settings.config.gpio {
        sinks.push(Box::new(Gpio::start(line)?));
    }
    let output = &settings.config.output;
    if let Some(dir) = &output.spool {
        let spool = Spool::start(dir, output, device::boot_id(), Arc::clone(labels))?;
        telemetry.set_spool(spool.counters());
        sinks.push(Box::new(spool));
    }
    sinks.extend(recording::open(&settings.config.recording, &device::boot_id(), labels)?);
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let name = settings.config.device.hostname.clone().or(host).unwrap_or_else(|| "firstlight".into());
    if let Some(config) = &settings.config.mqtt {
        let telemetry = Arc::clone(telemetry);
        let device = mqtt::Device {
            name: &name,
            boot_id: device::boot_id(),
            rules: settings
                .config
                .rules
                .iter()
                .map(|rule| mqtt::Rule::new(&rule.name, rule.kind == RuleKind::Line))
                .collect(),
            report: Box::new(move || {
                let mut buffer = [0; RENDERED_BYTES_MAX];
                serde_json::from_slice(telemetry.status().render(&mut buffer)).ok()
            }),
        };
        sinks.push(Box::new(mqtt::start(config, device, Arc::clone(labels))?));
    }
    for config in &settings.config.webhook {
        sinks.push(Box::new(webhook::start(config, &name, device::boot_id(), Arc::clone(labels))?));
    }
    Ok(sinks)
}
