//! What a bundle says of itself: `manifest.json`, with the digest of every file.
//!
//! There is one way to write a manifest, and only that is read, so that no byte of it is without meaning. Its `root` is the
//! SHA-256 of all the rest, digests of files included, and so names the whole bundle.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{BOARD, CACHE, CONFIG, Error, Fingerprint, archive};
use crate::cache::digest;

/// The one format there is.
const FORMAT: u32 = 1;
const KIND: &str = "models";
/// Most files: a device has a few models of some ten files each.
const FILES_MAX: usize = 4096;
/// Largest file: as large as weights may be.
const FILE_BYTES_MAX: u64 = crate::cache::WEIGHTS_BYTES_MAX;
/// Longest path: what the format of the archive holds, whatever lies where in it.
const PATH_BYTES_MAX: usize = 200;
/// Most folders above a file; the models-cache has four.
const DEPTH_MAX: usize = 8;
/// Longest name of a board, a model or a workflow, and most of each.
const NAME_BYTES_MAX: usize = 200;
const NAMES_MAX: usize = 256;
const VERSION_BYTES_MAX: usize = 64;

/// The manifest, its keys in this order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: u32,
    kind: String,
    /// Of the bundle, for people.
    pub version: String,
    /// The program that made it.
    pub created_by: String,
    /// Boards that it is for; none: any.
    pub boards: Vec<String>,
    pub models: Vec<Model>,
    /// Ids of the workflows that lie in the cache.
    pub workflows: Vec<String>,
    /// Every file, sorted by path.
    pub files: Vec<File>,
    /// SHA-256, hex, of this manifest with an empty root.
    pub root: String,
}

/// A model of a bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    pub id: String,
    /// Of the weights that ran where the bundle was made.
    pub sha256: String,
    /// What their network answered to the golden frame.
    pub golden: Vec<Fingerprint>,
}

/// A file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub path: String,
    pub bytes: u64,
    /// Lower-case hex.
    pub sha256: String,
}

impl Manifest {
    /// The manifest of these files, which are sorted here.
    ///
    /// # Errors
    /// It would be one that is not read.
    pub fn new(
        version: &str,
        boards: Vec<String>,
        models: Vec<Model>,
        workflows: Vec<String>,
        mut files: Vec<File>,
    ) -> Result<Self, Error> {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let mut manifest = Self {
            format: FORMAT,
            kind: KIND.into(),
            version: version.into(),
            created_by: format!("firstlight {}", env!("CARGO_PKG_VERSION")),
            boards,
            models,
            workflows,
            files,
            root: String::new(),
        };
        manifest.root = manifest.digest();
        manifest.fault().map_or(Ok(manifest), |fault| Err(Error::Manifest(fault)))
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is of another format, or not as this program writes it.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
            kind: Option<String>,
        }
        let wrong = |error: serde_json::Error| Error::Manifest(error.to_string());
        let head: Head = serde_json::from_slice(json).map_err(wrong)?;
        let kind = head.kind.as_deref().unwrap_or("a system update");
        if kind != KIND {
            return Err(Error::Manifest(format!("it is of kind `{kind}`; expected `{KIND}`")));
        }
        if head.format != FORMAT {
            let found = head.format;
            return Err(Error::Manifest(format!(
                "format {found}; this version knows {FORMAT}: update the device first"
            )));
        }
        let manifest: Self = serde_json::from_slice(json).map_err(wrong)?;
        if manifest.to_bytes() != json {
            return Err(Error::Manifest("it is not as this program writes it".into()));
        }
        if manifest.digest() != manifest.root {
            return Err(Error::Manifest(format!("its root is not the digest of it, {}", manifest.digest())));
        }
        manifest.fault().map_or(Ok(manifest), |fault| Err(Error::Manifest(fault)))
    }

    /// As it lies in the bundle.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("texts and finite numbers are JSON");
        bytes.push(b'\n');
        bytes
    }

    /// Of all files together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Whether there is a file of this path.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.files.binary_search_by(|file| file.path.as_str().cmp(path)).is_ok()
    }

    fn digest(&self) -> String {
        digest::sha256(&Self { root: String::new(), ..self.clone() }.to_bytes())
    }

    /// What is wrong with it.
    fn fault(&self) -> Option<String> {
        if !is_word(&self.version, VERSION_BYTES_MAX) {
            return Some(format!(
                "version {:?}: expected 1 to {VERSION_BYTES_MAX} of letters, digits and ._+~-",
                self.version
            ));
        }
        let ids = self.models.iter().map(|model| &model.id);
        for (what, count) in
            [("boards", self.boards.len()), ("models", self.models.len()), ("workflows", self.workflows.len())]
        {
            if count > NAMES_MAX {
                return Some(format!("{count} {what}; at most {NAMES_MAX}"));
            }
        }
        let is_name = |name: &str| {
            (1..=NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(|c| !c.is_control()) && name.trim() == name
        };
        if let Some(name) = self.boards.iter().chain(ids).chain(&self.workflows).find(|name| !is_name(name)) {
            return Some(format!("{name:?}: expected a name of 1 to {NAME_BYTES_MAX} bytes"));
        }
        if let Some(model) = self.models.iter().find(|model| !digest::is_hex(&model.sha256, 64) || !model.is_sound()) {
            return Some(format!("model {}: its digest or its golden answers are none", model.id));
        }
        if !(1..=FILES_MAX).contains(&self.files.len()) {
            return Some(format!("{} files; expected 1 to {FILES_MAX}", self.files.len()));
        }
        if let Some(file) = self.files.iter().find(|file| !is_path(&file.path)) {
            return Some(format!("{:?} is no path of a bundle", file.path));
        }
        let unsound = |file: &&File| file.bytes > FILE_BYTES_MAX || !digest::is_hex(&file.sha256, 64);
        if let Some(file) = self.files.iter().find(unsound) {
            return Some(format!(
                "{}: its sha256 is not 64 hex digits, or it is larger than {FILE_BYTES_MAX}",
                file.path
            ));
        }
        if let Some(pair) = self.files.windows(2).find(|pair| pair[0].path >= pair[1].path) {
            return Some(format!("{} after {}: expected each path once, and sorted", pair[1].path, pair[0].path));
        }
        // A file cannot be the folder of another.
        let paths: BTreeSet<&str> = self.files.iter().map(|file| file.path.as_str()).collect();
        let mut folders = self
            .files
            .iter()
            .flat_map(|file| file.path.match_indices('/').map(|(at, _)| &file.path[..at]).collect::<Vec<_>>());
        folders.find(|folder| paths.contains(folder)).map(|folder| format!("{folder} is a file and a folder"))
    }
}

/// 1 to `bytes_max` of letters, digits and `._+~-`.
fn is_word(text: &str, bytes_max: usize) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._+~-".contains(&b);
    (1..=bytes_max).contains(&text.len()) && text.bytes().all(fits)
}

/// Whether a path is one of a bundle: relative, of plain names, in one of the known places.
fn is_path(path: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._+~-@=".contains(&b);
    let is_step = |step: &str| !step.is_empty() && step != "." && step != ".." && step.bytes().all(fits);
    let place = path == CONFIG || path == BOARD || path.strip_prefix(CACHE).is_some_and(|rest| rest.starts_with('/'));
    place
        && archive::fits(path)
        && path.len() <= PATH_BYTES_MAX
        && path.split('/').count() <= DEPTH_MAX + 1
        && path.split('/').all(is_step)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn file(path: &str, content: &[u8]) -> File {
        File { path: path.into(), bytes: content.len() as u64, sha256: digest::sha256(content) }
    }

    pub fn manifest(files: Vec<File>) -> Result<Manifest, Error> {
        Manifest::new("1.2.0", vec!["qemu-virt".into()], Vec::new(), Vec::new(), files)
    }

    fn refused(files: &[&str]) -> String {
        manifest(files.iter().map(|path| file(path, b"x")).collect()).unwrap_err().to_string()
    }

    #[test]
    fn a_manifest_is_read_as_it_was_written() {
        let golden = vec![Fingerprint { mean: 0.1, rms: -1.5e-7, peak: 3.0 }];
        let model = Model { id: "parts/1".into(), sha256: digest::sha256(b"x"), golden };
        let files = vec![file("cache/b/c", b"2"), file("cache/a", b""), file("board.toml", b"1")];
        let made = Manifest::new("1.0", Vec::new(), vec![model], vec!["belt".into()], files).unwrap();
        let read = Manifest::parse(&made.to_bytes()).unwrap();
        assert_eq!(read, made);
        assert!(read.has("cache/b/c") && !read.has("cache/b") && read.bytes() == 2);
    }

    #[test]
    fn a_byte_that_is_another_is_refused() {
        let made = manifest(vec![file("cache/a", b"1")]).unwrap().to_bytes();
        for at in 0..made.len() {
            for bit in 0..8 {
                let mut bytes = made.clone();
                bytes[at] ^= 1 << bit;
                assert!(Manifest::parse(&bytes).is_err(), "bit {bit} of byte {at}");
            }
        }
        assert!(Manifest::parse(&[made.as_slice(), b" "].concat()).is_err());
        let update = br#"{"format":1,"board":"x"}"#;
        assert!(Manifest::parse(update).unwrap_err().to_string().contains("a system update"));
    }

    #[test]
    fn paths_lead_nowhere_else() {
        for path in [
            "cache/../x",
            "/cache/a",
            "cache//a",
            "cache/./a",
            "cache/",
            "cache",
            "cacheb/a",
            "etc/passwd",
            "cache/a b",
            "cache/a\\b",
            "cache/\u{e9}",
            "cache/a\n",
            "",
            "cache/1/2/3/4/5/6/7/8/9",
            "..",
            "config.toml/a",
        ] {
            assert!(refused(&[path]).contains("no path of a bundle"), "{path}");
        }
        assert!(refused(&[&format!("cache/{}", "a".repeat(200))]).contains("no path"));
        assert!(refused(&["cache/a", "cache/a"]).contains("each path once"));
        assert!(refused(&["cache/a", "cache/a-b", "cache/a/b"]).contains("a file and a folder"));
        assert!(manifest(Vec::new()).is_err());
        let many = (0..=FILES_MAX).map(|n| file(&format!("cache/{n:05}"), b"")).collect();
        assert!(manifest(many).unwrap_err().to_string().contains("4097 files"));
    }

    #[test]
    fn other_values_are_refused() {
        let one = || vec![file("cache/a", b"1")];
        let with = |version: &str, boards: &[&str]| {
            let boards = boards.iter().map(|&board| board.into()).collect();
            Manifest::new(version, boards, Vec::new(), Vec::new(), one()).unwrap_err().to_string()
        };
        assert!(with("1 0", &[]).contains("version \"1 0\""));
        assert!(with("1.0", &[""]).contains("expected a name"));
        assert!(with("1.0", &["a\nb"]).contains("expected a name"));
        let odd = File { sha256: "AB".into(), ..file("cache/a", b"1") };
        assert!(manifest(vec![odd]).unwrap_err().to_string().contains("sha256"));
        let huge = File { bytes: FILE_BYTES_MAX + 1, ..file("cache/a", b"1") };
        assert!(manifest(vec![huge]).unwrap_err().to_string().contains("larger"));
    }
}
