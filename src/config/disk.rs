//! `[disk]`: when a file system counts as nearly full.

use serde::Deserialize;

/// More than this is no warning any more.
const LOW_SPACE_MB_MAX: u64 = 1_000_000;

/// See the head of this file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiskConfig {
    /// Free MB of 10⁶ bytes below which the file systems of the state directory and of the cache are warned of, up to
    /// 1000000; 0: never. Absent: 100, or a twentieth of a file system that is smaller than 2 GB.
    pub low_space_mb: Option<u64>,
}

impl DiskConfig {
    /// The first value that is out of its range: key, value, what was expected.
    pub(super) fn fault(&self) -> Option<(&'static str, String, &'static str)> {
        let mb = self.low_space_mb.filter(|&mb| mb > LOW_SPACE_MB_MAX)?;
        Some(("disk.low_space_mb", mb.to_string(), "0 to 1000000"))
    }
}
