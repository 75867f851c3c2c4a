//! Which decoder decodes: what the configuration says, or what the board has.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::Serialize;

use super::Opener;
use super::port::{DevicePort, identify};
use crate::source::videodev::fourcc;

const H264: u32 = fourcc(*b"H264");
/// Most nodes that are looked at; boards with cameras and codecs have some 30.
const NODES_MAX: u32 = 64;
/// So often may a device fail before it is left alone: once or twice a stream may be to blame.
const FAILURES_MAX: u32 = 3;

static CHOSEN: OnceLock<Option<Found>> = OnceLock::new();
static FAILURES: AtomicU32 = AtomicU32::new(0);

/// A decoder of H.264 that the board has.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    pub path: PathBuf,
    /// What its driver calls it.
    pub card: String,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.path.display(), self.card)
    }
}

impl Found {
    pub(in crate::source::codec) fn opener(&self) -> Opener {
        let path = self.path.clone();
        Box::new(move |size| Ok(Box::new(DevicePort::open(&path, H264, size)?)))
    }
}

/// Says which decoder all streams have that are opened from now on: `auto`, `software`, or a device. Said once a process,
/// before the first stream; without it, it is `auto`.
///
/// # Errors
/// The device is no decoder of H.264 that can be used.
pub fn choose(decoder: &str) -> Result<(), String> {
    let chosen = match decoder {
        // Looked for when it is needed: that opens every camera.
        "auto" => return Ok(()),
        "software" => None,
        device => {
            Some(examine(Path::new(device)).map_err(|why| format!("{device}: {why}; `auto` takes what there is"))?)
        }
    };
    CHOSEN.get_or_init(|| chosen);
    Ok(())
}

/// The device that decodes; `None`: software does.
pub fn chosen() -> Option<&'static Found> {
    let found = CHOSEN.get_or_init(|| decoders().into_iter().next());
    found.as_ref().filter(|_| FAILURES.load(Ordering::Relaxed) < FAILURES_MAX)
}

/// Says that the device has failed a stream; returns whether it is left alone from now on.
pub fn failed() -> bool {
    FAILURES.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES_MAX
}

/// The decoders that the board has, as far as they can be used.
#[must_use]
pub fn decoders() -> Vec<Found> {
    let nodes = (0..NODES_MAX).map(|number| PathBuf::from(format!("/dev/video{number}")));
    nodes.filter_map(|path| examine(&path).ok()).collect()
}

fn examine(path: &Path) -> Result<Found, String> {
    identify(path, H264).map(|(_, card)| Found { path: path.into(), card })
}
