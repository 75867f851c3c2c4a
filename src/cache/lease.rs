//! That a package is in use: a lock on its directory that everybody who runs it shares, and who removes it needs alone.
//!
//! Nothing is written for it, so it works on a read-only medium as well. A file system without locks has no leases: there
//! nobody is asked.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// Held as long as it lives, by a process that dies no longer.
#[derive(Debug)]
pub struct Lease(#[expect(dead_code, reason = "open is held")] File);

impl Lease {
    /// Shares the lock of a package's directory; `None` where that is being removed, or cannot be locked.
    #[must_use]
    pub fn share(dir: &Path) -> Option<Arc<Self>> {
        let file = File::open(dir).ok()?;
        file.try_lock_shared().ok()?;
        Some(Arc::new(Self(file)))
    }
}
