//! How much room is left where state and models lie, before what wants to write there fails.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nix::sys::statvfs::{FsFlags, statvfs};

/// What is warned of where nothing is said: room for the plan of a large model, and for what else is written until
/// somebody comes.
const LOW_BYTES: u64 = 100_000_000;
/// Of a small file system only this part: a data partition of 64 MB is not short of room when it is half empty.
const LOW_SHARE: u64 = 20;
/// A warning ends when this part of the mark more is free, so that it does not come and go with every file.
const RELIEF_SHARE: u64 = 10;

/// Watches some directories.
#[derive(Debug)]
pub struct Room {
    places: Vec<Place>,
    low_bytes: Option<u64>,
}

#[derive(Debug)]
struct Place {
    dir: PathBuf,
    low: bool,
}

impl Room {
    /// Of directories, which need not be there yet; `low_space_mb` as in the configuration.
    #[must_use]
    pub fn new(dirs: Vec<PathBuf>, low_space_mb: Option<u64>) -> Self {
        let places = dirs.into_iter().map(|dir| Place { dir, low: false }).collect();
        Self { places, low_bytes: low_space_mb.map(|mb| mb.saturating_mul(1_000_000)) }
    }

    /// What there is too little of now; `None` while there is enough.
    pub fn problem(&mut self) -> Option<String> {
        let mut seen = Vec::new();
        let mut problems = Vec::new();
        for Place { dir, low } in &mut self.places {
            let device = std::fs::metadata(&*dir).map(|metadata| metadata.dev());
            let (Ok(device), Ok(stat)) = (device, statvfs(&*dir)) else { continue };
            // What cannot be written does not fill up.
            if seen.contains(&device) || stat.flags().contains(FsFlags::ST_RDONLY) {
                continue;
            }
            seen.push(device);
            let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
            let (free, all) = (bytes(stat.blocks_available()), bytes(stat.blocks()));
            let mark = self.low_bytes.unwrap_or(LOW_BYTES.min(all / LOW_SHARE));
            *low = free < if *low { mark + mark / RELIEF_SHARE } else { mark };
            if *low {
                let (left_mb, mark_mb) = (free / 1_000_000, mark / 1_000_000);
                problems.push(format!("{}: {left_mb} MB left, the mark is {mark_mb} MB", dir.display()));
            }
        }
        (!problems.is_empty()).then(|| problems.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_warns_below_the_mark_once_a_file_system() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("below");
        std::fs::create_dir(&below).unwrap();
        let dirs = || vec![dir.path().to_path_buf(), below.clone(), "/nowhere".into()];
        assert_eq!(Room::new(dirs(), Some(0)).problem(), None);
        let problem = Room::new(dirs(), Some(u64::MAX)).problem().unwrap();
        assert!(problem.contains(dir.path().to_str().unwrap()) && !problem.contains("below"), "{problem}");
    }
}
