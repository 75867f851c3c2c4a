//! What `run` serves to clients besides its loop: models of the cache on demand, and further pipelines.

use std::sync::Arc;
use std::time::Duration;

use super::run::Settings;
use super::{Engines, Error, host};
use crate::cache::Cache;
use crate::engine::plan::{Making, Shelf};
use crate::engine::{self, Backends, LoadOptions};
use crate::http::Api;
use crate::log;
use crate::pipeline::Telemetry;
use crate::pipeline::telemetry::Part;
use crate::priority::give_way;
use crate::serving::{CLIENTS_NICE, Loader, Models, Pipelines, Workers};

/// Fewest workers: while one waits for a model to load, another answers for those that are there.
const WORKERS_MIN: usize = 2;
/// How long a model that is loaded at the start may wait for one that a client asked for.
const PRELOAD_WAIT: Duration = Duration::from_secs(600);

/// Makes the API and begins to load what is to be there from the start.
pub(super) fn start(
    settings: &Settings,
    cache: &Cache,
    backends: &Backends,
    telemetry: &Arc<Telemetry>,
) -> Result<Arc<Api>, Error> {
    let failed = |cause| Error::Io { what: "starting the threads of the API".into(), cause };
    let config = &settings.config.serving;
    // A plan that is made for a client is none that the start waits for.
    let plans = Shelf { making: Making::default(), ..backends.plans.clone() };
    let backends = Backends { plans, ..backends.clone() };
    let loader = Loader {
        cache: cache.clone(),
        host: host(&backends),
        engines: Engines::choose(settings.wanted(), settings.precisions(), &backends)?,
        options: LoadOptions { threads: config.threads.unwrap_or(settings.options.threads) },
        semantics: settings.semantics,
    };
    let models = Models::new(loader, config)?;
    let workers = Workers::start(engine::default_threads().max(WORKERS_MIN)).map_err(failed)?;
    if !models.ready() {
        let (models, telemetry) = (Arc::clone(&models), Arc::clone(telemetry));
        crate::thread::spawn("preload", move || preload(&models, &telemetry)).map_err(failed)?;
    }
    let pipelines = Pipelines::new(Arc::clone(&models), config, settings.config.snapshot.quality);
    Ok(Api::new(models, workers, pipelines, config.images.dirs.clone()))
}

/// Loads the models of the configuration, beside the loop and after it. One that cannot be is said, and clients who ask
/// for it hear why.
fn preload(models: &Arc<Models>, telemetry: &Telemetry) {
    give_way(CLIENTS_NICE);
    let failed = models.preload(PRELOAD_WAIT);
    let reasons: Vec<String> =
        failed.into_iter().map(|(id, error)| format!("model {id} not loaded: {error}")).collect();
    if !reasons.is_empty() {
        log::say(&format!("api: {}", reasons.join("; ")));
        telemetry.set_problem(Part::Serving, Some(reasons.join("; ")));
    }
}
