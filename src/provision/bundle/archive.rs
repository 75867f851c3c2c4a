//! The archive of a bundle: a tar (ustar) without choice. Name and size of a file decide every byte of its header, what fills
//! the last block is zero, and after two blocks of zeros there is nothing.

use std::io::{ErrorKind, Read, Write};

use super::Error;

/// Size of a tar's blocks.
const BLOCK: usize = 512;
/// Blocks of zeros at the end.
const END_BLOCKS: usize = 2;
/// Longest last part of a path, and longest begin before it: the fields of a header.
const NAME_BYTES: usize = 100;
const PREFIX_BYTES: usize = 155;
/// Largest size that eleven octal digits hold.
const SIZE_MAX: u64 = (8 << 30) - 1;
/// What is read at once.
const PIECE_BYTES: usize = 256 << 10;

/// First file of a bundle.
pub const MANIFEST: &str = "manifest.json";
/// Second file, where there is a signature.
pub const SIGNATURE: &str = "manifest.json.minisig";

/// What tells a bundle of models from a system's update in its first bytes.
const MARK: &[u8] = br#"{"format":1,"kind":"models","#;
/// Bytes to look at for that.
const LOOK_BYTES: u64 = (BLOCK + MARK.len()) as u64;

/// Whether what is read begins as a bundle does; with the bytes that were read for it.
///
/// # Errors
/// It cannot be read.
pub fn begins_as_bundle(from: &mut dyn Read) -> std::io::Result<(bool, Vec<u8>)> {
    let mut begin = Vec::new();
    from.take(LOOK_BYTES).read_to_end(&mut begin)?;
    Ok((begin.ends_with(MARK) && begin.starts_with(MANIFEST.as_bytes()), begin))
}

/// The header of a file; `None` where the path does not fit.
fn header(path: &str, bytes: u64) -> Option<[u8; BLOCK]> {
    let (prefix, name) = split(path)?;
    if bytes > SIZE_MAX {
        return None;
    }
    let mut block = [0; BLOCK];
    let mut put = |at: usize, field: &[u8]| block[at..at + field.len()].copy_from_slice(field);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{bytes:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    put(329, b"0000000\0");
    put(337, b"0000000\0");
    put(345, prefix.as_bytes());
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Some(block)
}

/// A path as the fields of a header hold it: cut at the first slash that leaves both short enough.
fn split(path: &str) -> Option<(&str, &str)> {
    if path.len() <= NAME_BYTES {
        return Some(("", path));
    }
    let cuts = path.match_indices('/').map(|(at, _)| (&path[..at], &path[at + 1..]));
    cuts.into_iter().find(|(prefix, name)| prefix.len() <= PREFIX_BYTES && name.len() <= NAME_BYTES)
}

/// Whether a path fits into a header.
pub fn fits(path: &str) -> bool {
    split(path).is_some()
}

/// Bytes after the content until the next block.
fn padding(bytes: u64) -> usize {
    let over = usize::try_from(bytes % BLOCK as u64).unwrap_or(0);
    (BLOCK - over) % BLOCK
}

/// Reads a bundle from its begin to its end.
pub struct Archive<'a> {
    from: &'a mut dyn Read,
    piece: Vec<u8>,
}

impl<'a> Archive<'a> {
    pub fn new(from: &'a mut dyn Read) -> Self {
        Self { from, piece: vec![0; PIECE_BYTES] }
    }

    fn fill(&mut self, buffer: &mut [u8], within: &str) -> Result<(), Error> {
        self.from.read_exact(buffer).map_err(|cause| match cause.kind() {
            ErrorKind::UnexpectedEof => Error::CutOff(within.to_owned()),
            _ => Error::Read(cause),
        })
    }

    fn block(&mut self, within: &str) -> Result<[u8; BLOCK], Error> {
        let mut block = [0; BLOCK];
        self.fill(&mut block, within)?;
        Ok(block)
    }

    /// The next file if it is a small one of this name; else its header, which is the next that is read of.
    pub fn small(&mut self, name: &'static str, limit: u64) -> Result<Result<Vec<u8>, [u8; BLOCK]>, Error> {
        let found = self.block(name)?;
        let digits = std::str::from_utf8(&found[124..135]).ok();
        let bytes = digits.and_then(|digits| u64::from_str_radix(digits, 8).ok());
        let Some(bytes) = bytes.filter(|&bytes| header(name, bytes) == Some(found)) else { return Ok(Err(found)) };
        if bytes > limit {
            return Err(Error::TooLong { name, bytes, limit });
        }
        // At most `limit`, so it fits.
        let mut content = vec![0; usize::try_from(bytes).unwrap_or(0)];
        self.fill(&mut content, name)?;
        self.skip_padding(bytes, name)?;
        Ok(Ok(content))
    }

    /// The file that comes next must be this one; what is in it goes to `take`, piece by piece. `begun` is its header where
    /// that was read already.
    pub fn file(
        &mut self,
        path: &str,
        bytes: u64,
        begun: Option<[u8; BLOCK]>,
        take: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let found = begun.map_or_else(|| self.block(path), Ok)?;
        if header(path, bytes) != Some(found) {
            return Err(unexpected(&found, path));
        }
        let mut left = bytes;
        while left > 0 {
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES);
            let mut piece = std::mem::take(&mut self.piece);
            let filled = self.fill(&mut piece[..count], path);
            let taken = filled.and_then(|()| take(&piece[..count]));
            self.piece = piece;
            taken?;
            left -= count as u64;
        }
        self.skip_padding(bytes, path)
    }

    fn skip_padding(&mut self, bytes: u64, within: &str) -> Result<(), Error> {
        let mut block = [0; BLOCK];
        let rest = &mut block[..padding(bytes)];
        self.fill(rest, within)?;
        if rest.iter().all(|&byte| byte == 0) {
            return Ok(());
        }
        Err(Error::Entry { expected: format!("zeros after {within}"), found: "something else".into() })
    }

    /// Nothing may follow the last file.
    pub fn end(&mut self) -> Result<(), Error> {
        for _ in 0..END_BLOCKS {
            let block = self.block("its end")?;
            if block != [0; BLOCK] {
                return Err(unexpected(&block, "the end"));
            }
        }
        match self.from.read(&mut [0]).map_err(Error::Read)? {
            0 => Ok(()),
            _ => Err(Error::Entry { expected: "the end".into(), found: "more".into() }),
        }
    }
}

/// A header that is another one, in words fit for a message.
pub fn unexpected(found: &[u8; BLOCK], expected: &str) -> Error {
    let name: Vec<u8> = found[..NAME_BYTES].iter().copied().take_while(|&byte| byte != 0).collect();
    let found = format!("`{}`", String::from_utf8_lossy(&name).escape_debug());
    Error::Entry { expected: expected.into(), found: if name.is_empty() { "no file".into() } else { found } }
}

/// Writes the begin of a file; its content is to follow, then [`end_file`].
///
/// # Errors
/// It cannot be written.
#[cfg_attr(not(any(test, feature = "workbench")), expect(dead_code, reason = "devices only read"))]
pub fn begin_file(to: &mut dyn Write, path: &str, bytes: u64) -> std::io::Result<()> {
    let header = header(path, bytes).ok_or_else(|| std::io::Error::other(format!("{path} does not fit into a tar")))?;
    to.write_all(&header)
}

/// Fills the last block of a file.
///
/// # Errors
/// It cannot be written.
#[cfg_attr(not(any(test, feature = "workbench")), expect(dead_code, reason = "devices only read"))]
pub fn end_file(to: &mut dyn Write, bytes: u64) -> std::io::Result<()> {
    to.write_all(&[0; BLOCK][..padding(bytes)])
}

/// Writes the end.
///
/// # Errors
/// It cannot be written.
#[cfg_attr(not(any(test, feature = "workbench")), expect(dead_code, reason = "devices only read"))]
pub fn end(to: &mut dyn Write) -> std::io::Result<()> {
    to.write_all(&[0; END_BLOCKS * BLOCK])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_programs_read_the_archive() {
        let long = format!("cache/{}/{}", "a".repeat(80), "b".repeat(60));
        let files: [(&str, &[u8]); 3] = [("config.toml", b""), ("cache/x", &[7; 513]), (&long, b"1")];
        let mut bytes = Vec::new();
        for (path, content) in files {
            begin_file(&mut bytes, path, content.len() as u64).unwrap();
            bytes.extend_from_slice(content);
            end_file(&mut bytes, content.len() as u64).unwrap();
        }
        end(&mut bytes).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (String::from_utf8(entry.path_bytes().into_owned()).unwrap(), content)
        });
        let expected: Vec<_> = files.iter().map(|(path, content)| ((*path).to_owned(), content.to_vec())).collect();
        assert_eq!(entries.collect::<Vec<_>>(), expected);

        let mut from = bytes.as_slice();
        let mut archive = Archive::new(&mut from);
        for (path, content) in files {
            let mut read = Vec::new();
            let mut take = |piece: &[u8]| {
                read.extend_from_slice(piece);
                Ok(())
            };
            archive.file(path, content.len() as u64, None, &mut take).unwrap();
            assert_eq!(read, content);
        }
        archive.end().unwrap();
    }

    #[test]
    fn a_path_that_does_not_fit_is_refused() {
        assert!(fits(&"a".repeat(100)) && !fits(&"a".repeat(101)));
        assert!(fits(&format!("{}/{}", "a".repeat(155), "b".repeat(100))));
        assert!(!fits(&format!("{}/{}", "a".repeat(156), "b".repeat(100))));
        assert!(begin_file(&mut Vec::new(), "a", SIZE_MAX + 1).is_err());
    }
}
