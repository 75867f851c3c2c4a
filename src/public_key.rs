//! minisign's public keys: of who may update the system, and of who may bring models.

use std::fs::File;
use std::io::Read;
use std::path::Path;

pub use minisign_verify::PublicKey;

/// Largest file of a key: minisign's have 120 bytes.
const BYTES_MAX: u64 = 4 << 10;

/// Reads a key file.
///
/// # Errors
/// In words: it cannot be read, or is no such file.
pub fn read(path: &Path) -> Result<PublicKey, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|cause| cause.to_string())?;
    file.take(BYTES_MAX).read_to_string(&mut text).map_err(|cause| cause.to_string())?;
    PublicKey::decode(&text).map_err(|cause| cause.to_string())
}
