//! What is done to a cache and its state from outside: weights fetched, imported, bundled, installed, removed.
//!
//! The one room that writes below a cache's root; [`crate::cache`] only reads. May not know: HTTP ports, the command line.

pub mod bundle;
#[cfg(feature = "workbench")]
pub mod import;
pub mod lock;
#[cfg(feature = "workbench")]
pub mod pull;
#[cfg(feature = "workbench")]
mod python_json;
pub mod store;
