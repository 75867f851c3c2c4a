//! The part of the configuration that is about bundles: whose are installed.

use std::path::PathBuf;

use serde::Deserialize;

/// Whose bundles this machine installs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BundleConfig {
    /// minisign public key that must have signed a bundle.
    pub key: PathBuf,
    pub accept: Accept,
}

/// Which bundles are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Accept {
    /// Those that are signed by the key.
    #[default]
    Signed,
    /// All, signed or not, by whomever.
    Any,
}

impl Accept {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Signed => "signed",
            Self::Any => "any",
        }
    }
}

impl Default for BundleConfig {
    fn default() -> Self {
        // The key of the system's updates: who may replace the program may replace its models.
        Self { key: "/etc/firstlight/update.pub".into(), accept: Accept::default() }
    }
}
