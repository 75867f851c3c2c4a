//! What a model is served from: packages made models on demand, within a budget of memory, by threads that give way to
//! the camera loop.
//!
//! May not know: who asks, over HTTP or from the command line.

pub mod loader;
mod models;
pub mod pipeline;
mod usage;
mod workers;

pub use loader::{Chosen, Engines, Loader, Wanted};
pub use models::{Cached, CachedState, Description, Lease, Models};
pub use pipeline::Pipelines;
pub use usage::Usage;
pub use workers::{CLIENTS_NICE, PORT_NICE, QUEUE_MAX, Refused, Workers};

use crate::{cache, engine, model};

/// Why a model cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Cache(#[from] cache::Error),
    #[error(transparent)]
    Model(#[from] model::Error),
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// A setting that cannot be met.
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    NoEngine(String),
    #[error(
        "model `{id}` takes {needed_mb} MB, and all models of the API together may take {limit_mb} MB; raise \
         serving.memory_mb, or unload a pinned model"
    )]
    Budget { id: String, needed_mb: u64, limit_mb: u64 },
    /// It may go well a little later.
    #[error("model `{id}`: {why}; retry the request")]
    Busy { id: String, why: &'static str },
    /// It went wrong a moment ago, and is not tried again at once.
    #[error("{why}")]
    Again { kind: Kind, why: String },
}

/// What an error means for who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No id of a model.
    InvalidId,
    /// The model is not there.
    Missing,
    /// It is there and does not run.
    Broken,
    /// There is not the memory for it.
    TooLarge,
    /// Later, perhaps.
    Busy,
    /// A setting is wrong.
    Usage,
    /// Nothing of the model's.
    Failed,
}

impl Error {
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Cache(cache::Error::InvalidId { .. }) => Kind::InvalidId,
            Self::Cache(cache::Error::Missing { .. }) => Kind::Missing,
            Self::Cache(_) | Self::Model(_) | Self::Engine(_) => Kind::Broken,
            Self::Usage(_) => Kind::Usage,
            Self::NoEngine(_) => Kind::Failed,
            Self::Budget { .. } => Kind::TooLarge,
            Self::Busy { .. } => Kind::Busy,
            Self::Again { kind, .. } => *kind,
        }
    }
}
