//! Bundles: one file with models, their plans, a configuration and workflows, made on a workbench, verified and installed on a
//! device.
//!
//! The file is a tar (ustar) of which every byte follows from its manifest and its signature: there is one way to write it, and
//! nothing else is read. Everything is a stranger's until the signature is verified, and sizes are bounded before they are
//! believed. On the device it is unpacked beside what runs, checked, tried on the golden frame, and switched to by one rename.
//! What does not prove itself is taken back.

mod archive;
mod golden;
mod install;
#[cfg(feature = "workbench")]
mod key;
#[cfg(feature = "workbench")]
mod make;
mod manifest;
mod settings;
mod signature;
mod store;
#[cfg(test)]
mod tests;

/// The writer of bundles, piece by piece; for tests/fuzz.
#[cfg(fuzzing)]
pub mod fuzzing {
    pub use super::archive::{MANIFEST, begin_file, end, end_file};
}

use std::io;
use std::path::PathBuf;

pub use archive::begins_as_bundle;
pub use golden::{Fingerprint, fingerprint, same};
pub use install::{Installed, Progress, Request, Trust, install};
#[cfg(feature = "workbench")]
pub use key::{KeyFiles, make_keys, read_key};
#[cfg(feature = "workbench")]
pub use make::{Content, Made, make};
pub use manifest::{File, Manifest, Model};
pub use settings::{check as check_settings, check_model, with_machine};
pub use signature::load_key;
pub use store::{Bundle, Listed, State, Store, TakenBack};

use crate::durable;

/// The configuration in a bundle.
pub const CONFIG: &str = "config.toml";
/// The board file in a bundle.
pub const BOARD: &str = "board.toml";
/// The cache root in a bundle, with plans where a cache has them.
pub const CACHE: &str = "cache";

/// Why there is no bundle, or none is installed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("key {path}: {why}; expected a key file of `firstlight cache keygen` or `minisign -G`", path = .path.display())]
    Key { path: PathBuf, why: String },
    #[error("password of {path}: {why}", path = .path.display())]
    Password { path: PathBuf, why: String },
    #[error("the bundle cannot be read: {0}")]
    Read(io::Error),
    #[error("the bundle ends within {0}: it was cut off on its way")]
    CutOff(String),
    #[error("the bundle has {found} where {expected} should be; it is no bundle, or damaged")]
    Entry { expected: String, found: String },
    #[error("the bundle's {name} has {bytes} bytes; at most {limit} are read")]
    TooLong { name: &'static str, bytes: u64, limit: u64 },
    #[error(
        "the bundle is not signed; make it with --sign, or say bundle.accept = \"any\" in the device's configuration"
    )]
    Unsigned,
    #[error("the bundle is not signed by this device's key: {0}")]
    Signature(String),
    #[error("the bundle's manifest.json: {0}")]
    Manifest(String),
    #[error("the bundle's {file} has sha256 {found}, its manifest says {expected}; it was damaged on its way")]
    Digest { file: String, expected: String, found: String },
    #[error("the bundle is for {found}, this is `{expected}`; name this board with --board when it is made")]
    Board { expected: String, found: String },
    #[error("the bundle needs {needed} bytes in {path}, where {free} are free; nothing was written", path = .path.display())]
    Full { path: PathBuf, needed: u64, free: u64 },
    #[error("the bundle's {file}: {why}")]
    Settings { file: &'static str, why: String },
    #[error("the bundle's model {id} does not do here what it did where the bundle was made: {why}")]
    Golden { id: String, why: String },
    #[error("another installation is going on in {path}; try again when it has ended", path = .path.display())]
    Busy { path: PathBuf },
    #[error("{path}: {why}; install the bundle again", path = .path.display())]
    Damaged { path: PathBuf, why: String },
    #[error("the bundle came this way before, and is not taken from there again")]
    Known,
    #[error("no bundle to go back to: {0}")]
    Nothing(&'static str),
    #[error(transparent)]
    File(#[from] durable::Error),
    /// Of the making: what is wrong with what was to be in it.
    #[error("{0}")]
    Content(String),
}

impl Error {
    /// Whether the bundle itself is at fault: it is not trusted, damaged, or does not do what it should.
    #[must_use]
    pub fn is_verification(&self) -> bool {
        matches!(
            self,
            Self::CutOff(_)
                | Self::Entry { .. }
                | Self::TooLong { .. }
                | Self::Unsigned
                | Self::Signature(_)
                | Self::Manifest(_)
                | Self::Digest { .. }
                | Self::Settings { .. }
                | Self::Golden { .. }
                | Self::Damaged { .. }
        )
    }
}
