//! The outputs that the configuration names, opened.

use std::sync::Arc;

use super::Error;
use super::run::Settings;
use crate::device;
use crate::model::Labels;
use crate::pipeline::Telemetry;
use crate::sink::{JsonLines, Sink, Spool, recording};

/// Opens them in the order in which they are given each frame: first what costs least.
pub(super) fn open(
    settings: &Settings,
    labels: &Arc<Labels>,
    telemetry: &Telemetry,
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
    sinks.extend(recording::open(&settings.config.recording, &device::boot_id(), labels)?);
    Ok(sinks)
}
