//! Digests as lower-case hex: what Roboflow names blobs by (MD5), and what we show of weights (SHA-256).

use std::fs::File;
use std::io::Read;
use std::path::Path;

use md5::Md5;
use sha2::Sha256;
use sha2::digest::Digest;

/// Lower-case hex digits of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    let mut text = String::with_capacity(2 * bytes.len());
    text.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
    text
}

/// Whether a text is an MD5 as file names and manifests write it.
pub fn is_md5(text: &str) -> bool {
    is_hex(text, 32)
}

/// Whether a text is `digits` lower-case hex digits.
pub fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

pub fn md5(bytes: &[u8]) -> String {
    hex(&Md5::digest(bytes))
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// MD5 and SHA-256 of a file, read in pieces: artifacts of other backends may be larger than memory.
pub fn of_file(path: &Path) -> std::io::Result<(String, String)> {
    let mut file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    let (mut md5, mut sha256) = (Md5::new(), Sha256::new());
    let mut piece = vec![0; 1 << 16];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok((hex(&md5.finalize()), hex(&sha256.finalize()))),
            read => {
                md5.update(&piece[..read]);
                sha256.update(&piece[..read]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The digests of "abc" in RFC 1321 and FIPS 180-2.
    #[test]
    fn digests_are_those_of_the_standards() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        let (md5_hex, sha256_hex) = of_file(&path).unwrap();
        assert_eq!(md5_hex, "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(sha256_hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!((md5(b"abc"), sha256(b"abc")), (md5_hex, sha256_hex));
        assert!(of_file(dir.path()).is_err());
    }

    #[test]
    fn an_md5_is_32_lower_case_digits() {
        assert!(is_md5("900150983cd24fb0d6963f7d28e17f72"));
        for other in [
            "",
            "900150983CD24FB0D6963F7D28E17F72",
            "900150983cd24fb0d6963f7d28e17f7",
            "../50983cd24fb0d6963f7d28e17f72aa",
        ] {
            assert!(!is_md5(other), "{other}");
        }
    }
}
