//! Why a model could not be pulled.

use std::io;
use std::path::{Path, PathBuf};

use super::super::lock;
use crate::error::Exit;
use crate::{cache, durable};

/// Every message names the model, the address or the file; no message holds a key or the query of an address.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "model `{id}`: Roboflow gives it to nobody without a key: set ROBOFLOW_API_KEY, or name a file that holds the key \
         with --api-key-file"
    )]
    KeyMissing { id: String },
    #[error("model `{id}`: Roboflow refuses the API key ({status}): is it that of the model's workspace?")]
    KeyRefused { id: String, status: u16 },
    #[error("model `{id}`: Roboflow knows no such model, or this API key may not see it")]
    Unknown { id: String },
    #[error("model `{id}`: {why}")]
    Offer { id: String, why: String },
    #[error("{0}")]
    Settings(String),
    /// Of an address; tried several times where that may help.
    #[error("{url}: {why}")]
    Transfer { url: String, why: String },
    #[error("{url}: it came with MD5 {found}, {stated} says {expected}; nothing of it was kept")]
    Digest { url: String, stated: &'static str, expected: String, found: String },
    #[error(
        "{path}: {needed_mb} MB are needed, {free_mb} MB are free: make room, or name another cache with --cache",
        path = .path.display()
    )]
    Space { path: PathBuf, needed_mb: u64, free_mb: u64 },
    #[error("{path}: {cause}", path = .path.display())]
    Io { path: PathBuf, cause: io::Error },
    #[error(transparent)]
    Durable(#[from] durable::Error),
    #[error(transparent)]
    Lock(#[from] lock::Error),
    #[error(transparent)]
    Cache(#[from] cache::Error),
}

impl Error {
    /// What it is worth to whoever started the program.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::KeyMissing { .. } | Self::Settings(_) => Exit::Usage,
            Self::Unknown { .. } | Self::Offer { .. } | Self::Cache(_) => Exit::ModelUnavailable,
            Self::Digest { .. } => Exit::VerificationFailed,
            _ => Exit::Failed,
        }
    }

    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |cause| Self::Io { path, cause }
    }

    pub(super) fn offer(id: &str, why: impl Into<String>) -> Self {
        Self::Offer { id: id.into(), why: why.into() }
    }
}
