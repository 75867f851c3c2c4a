//! The outputs that the configuration names, opened.

use std::sync::Arc;

use super::Error;
use super::run::Settings;
use crate::config::RuleKind;
use crate::device;
use crate::model::Labels;
use crate::pipeline::Telemetry;
use crate::pipeline::status::RENDERED_BYTES_MAX;
use crate::sink::{JsonLines, Sink, Spool, mqtt, webhook};

/// Opens them in the order in which they are given each frame: first what costs least.
pub(super) fn open(
    settings: &Settings,
    labels: &Arc<Labels>,
    telemetry: &Arc<Telemetry>,
) -> Result<Vec<Box<dyn Sink>>, Error> {
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    if settings.json != "none" {
        sinks.push(Box::new(JsonLines::open(&settings.json, Arc::clone(labels))?));
    }
    let output = &settings.config.output;
    if let Some(dir) = &output.spool {
        let spool = Spool::start(dir, output, device::boot_id(), Arc::clone(labels))?;
        telemetry.set_spool(spool.counters());
        sinks.push(Box::new(spool));
    }
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
