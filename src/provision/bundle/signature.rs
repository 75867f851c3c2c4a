//! The signature of a manifest: minisign's file, of the prehashed kind, Ed25519 over BLAKE2b.
//!
//! What minisign leaves open (the comment that is not signed, base64 that ends in other bits) is settled here, so that a
//! signature has one spelling.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minisign_verify::{PublicKey, Signature};

use super::Error;
use crate::public_key;

/// Largest signature: ours have 300 bytes.
pub const BYTES_MAX: u64 = 4 << 10;
/// What stands where minisign has a comment that is not signed.
pub const COMMENT: &str = "signature of a Firstlight bundle";

/// Reads a minisign public key file.
///
/// # Errors
/// It cannot be read, or is no such file.
pub fn load_key(path: &Path) -> Result<PublicKey, Error> {
    public_key::read(path).map_err(|why| Error::Key { path: path.into(), why })
}

/// Checks that a key has signed a manifest; returns the comment that is signed with it.
///
/// # Errors
/// It has not, or the signature is not written as ours are.
pub fn verify(manifest: &[u8], signature: &[u8], key: &PublicKey) -> Result<String, Error> {
    let wrong = |why: &str| Error::Signature(why.to_owned());
    let text = std::str::from_utf8(signature).map_err(|_| wrong("the signature is no text"))?;
    let decoded = Signature::decode(text).map_err(|error| Error::Signature(error.to_string()))?;
    let lines: Vec<&str> = text.lines().collect();
    let [_, first, _, second] = lines.as_slice() else { return Err(wrong("the signature has not four lines")) };
    let is_canonical = |line: &str| STANDARD.decode(line).is_ok_and(|bytes| STANDARD.encode(bytes) == line);
    let comment = decoded.trusted_comment();
    let canonical = format!("untrusted comment: {COMMENT}\n{first}\ntrusted comment: {comment}\n{second}\n");
    if text != canonical || !is_canonical(first) || !is_canonical(second) {
        return Err(wrong("the signature is not written as `firstlight cache bundle` writes it"));
    }
    key.verify(manifest, &decoded, false).map_err(|error| Error::Signature(error.to_string()))?;
    Ok(comment.to_owned())
}

/// The comment that is signed.
pub fn trusted_comment(root: &str) -> String {
    format!("root {root}")
}
