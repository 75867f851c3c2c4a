//! The update bundle: a tar (ustar) with `manifest.json`, its minisign signature, `boot.vfat` and `root.squashfs`, in
//! this order.
//!
//! Until the signature is verified everything here is from a stranger: sizes are bounded before they are read, and tar's
//! extensions (long names, PAX records, sparse files) are not followed but refused as entries of another name or kind.
//!
//! May not know: where the parts go.

use std::io::Read;

use minisign_verify::{PublicKey, Signature};
use serde::Deserialize;
use tar::{Entries, Entry};

use super::Error;
use crate::cache::digest::is_hex;
use crate::device::slot::is_version;

/// Largest manifest: ours has 400 bytes.
const MANIFEST_BYTES_MAX: u64 = 64 << 10;
/// Largest signature: minisign's have 300 bytes, most of it comments.
const SIGNATURE_BYTES_MAX: u64 = 4 << 10;
/// The one format there is.
const FORMAT: u32 = 1;

/// The bundle, as the tar reader (of lifetime `'a`) walks it.
pub(super) type Bundle<'a, 'r> = Entries<'a, &'r mut dyn Read>;
type File<'a, 'r> = Entry<'a, &'r mut dyn Read>;

/// What a bundle says of itself. Of a verified signer.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    format: u32,
    pub board: String,
    pub version: String,
    pub parts: [Part; 2],
}

/// The image of one partition.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    pub name: String,
    pub file: String,
    pub bytes: u64,
    /// Lower-case hex.
    pub sha256: String,
}

/// Name and file of the parts, in their order.
const PARTS: [(&str, &str); 2] = [("boot", "boot.vfat"), ("root", "root.squashfs")];

impl Manifest {
    fn parse(json: &[u8]) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let wrong = |error: serde_json::Error| Error::Manifest(error.to_string());
        let Format { format } = serde_json::from_slice(json).map_err(wrong)?;
        if format != FORMAT {
            return Err(Error::Manifest(format!("format {format}; this version knows {FORMAT}: update in steps")));
        }
        let manifest: Self = serde_json::from_slice(json).map_err(wrong)?;
        if !is_version(&manifest.version) {
            let found = &manifest.version;
            return Err(Error::Manifest(format!("version {found:?}: expected 1 to 64 of letters, digits and ._+~-")));
        }
        for (part, (name, file)) in manifest.parts.iter().zip(PARTS) {
            if (part.name.as_str(), part.file.as_str()) != (name, file) {
                let found = (&part.name, &part.file);
                return Err(Error::Manifest(format!("part {found:?}: expected {:?}", (name, file))));
            }
            if part.bytes == 0 || !is_hex(&part.sha256, 64) {
                return Err(Error::Manifest(format!("part {name}: it is empty, or its sha256 is not 64 hex digits")));
            }
        }
        Ok(manifest)
    }
}

/// Reads the manifest and believes it when its signature is right.
pub(super) fn read_manifest(bundle: &mut Bundle<'_, '_>, key: &PublicKey) -> Result<Manifest, Error> {
    let manifest = read_small(bundle, "manifest.json", MANIFEST_BYTES_MAX)?;
    let signature = read_small(bundle, "manifest.json.minisig", SIGNATURE_BYTES_MAX)?;
    let signature = String::from_utf8(signature).map_err(|_| minisign_verify::Error::InvalidEncoding);
    signature
        .and_then(|text| Signature::decode(&text))
        .and_then(|signature| key.verify(&manifest, &signature, true))
        .map_err(Error::Signature)?;
    Manifest::parse(&manifest)
}

fn read_small(bundle: &mut Bundle<'_, '_>, name: &'static str, limit: u64) -> Result<Vec<u8>, Error> {
    let mut entry = next(bundle, name)?;
    let bytes = entry.size();
    if bytes > limit {
        return Err(Error::TooLong { name, bytes, limit });
    }
    // At most `limit`, so it fits.
    let mut content = vec![0; usize::try_from(bytes).unwrap_or(0)];
    entry.read_exact(&mut content).map_err(Error::Read)?;
    Ok(content)
}

/// The next entry, which must be a part's file, as large as the manifest says.
pub(super) fn next_part<'a, 'r>(bundle: &mut Bundle<'a, 'r>, part: &Part) -> Result<File<'a, 'r>, Error> {
    let entry = next(bundle, &part.file)?;
    if entry.size() != part.bytes {
        return Err(Error::Size { file: part.file.clone(), expected: part.bytes, found: entry.size() });
    }
    Ok(entry)
}

/// Nothing may follow the last part.
pub(super) fn end(bundle: &mut Bundle<'_, '_>) -> Result<(), Error> {
    match bundle.next().transpose().map_err(Error::Read)? {
        None => Ok(()),
        Some(entry) => Err(Error::Entry { expected: "the end".into(), found: described(&entry) }),
    }
}

fn next<'a, 'r>(bundle: &mut Bundle<'a, 'r>, name: &str) -> Result<File<'a, 'r>, Error> {
    let unexpected = |found| Error::Entry { expected: name.into(), found };
    let entry = bundle.next().transpose().map_err(Error::Read)?.ok_or_else(|| unexpected("the end".into()))?;
    if entry.header().entry_type().is_file() && *entry.path_bytes() == *name.as_bytes() {
        return Ok(entry);
    }
    Err(unexpected(described(&entry)))
}

/// A name from a stranger, fit for a message.
fn described(entry: &File<'_, '_>) -> String {
    let kind = entry.header().entry_type();
    format!("`{}` ({kind:?})", String::from_utf8_lossy(&entry.path_bytes()).escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = include_str!("fixtures/manifest.json");

    fn refused(from: &str, to: &str) -> String {
        assert!(MANIFEST.contains(from), "{from}");
        Manifest::parse(MANIFEST.replacen(from, to, 1).as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_manifest_is_read() {
        let manifest = Manifest::parse(MANIFEST.as_bytes()).unwrap();
        assert_eq!((manifest.board.as_str(), manifest.version.as_str()), ("qemu-virt", "1.2.0"));
        assert_eq!(manifest.parts.each_ref().map(|part| part.bytes), [3001, 20321]);
    }

    #[test]
    fn a_manifest_that_is_not_understood_is_refused() {
        assert!(refused("\"format\": 1", "\"format\": 2, \"new\": 3").contains("format 2"));
        assert!(refused("\"board\"", "\"colour\": 1, \"board\"").contains("colour"));
        assert!(refused("1.2.0", "1.2 0").contains("version \"1.2 0\""));
        assert!(refused("\"name\": \"boot\"", "\"name\": \"loader\"").contains("loader"));
        assert!(refused("root.squashfs", "../root").contains("../root"));
        assert!(refused("3001", "0").contains("part boot"));
        assert!(refused("3001", "-1").contains("-1"));
        assert!(refused("\"sha256\": \"", "\"sha256\": \"A").contains("part boot"));
        assert!(refused("}]}", "}, {}]}").contains("JSON") || !refused("}]}", "}, {}]}").is_empty());
        assert!(Manifest::parse(b"").is_err());
    }
}
