//! The outputs that the configuration names, opened.

use std::sync::Arc;

use super::Error;
use super::run::Settings;
use crate::device;
use crate::model::Labels;
use crate::pipeline::Telemetry;
use crate::sink::{Gpio, JsonLines, Sink, Spool, Target, recording};

/// Opens them in the order in which they are given each frame: first what costs least. Outputs of a source that can wait are
/// patient with their receivers.
pub(super) fn open(
    settings: &Settings,
    labels: &Arc<Labels>,
    patient: bool,
    telemetry: &Telemetry,
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
    Ok(sinks)
}
