//! Model ids and the directory each maps to: Roboflow's rule, whole (SPEC §1.2).

use std::path::PathBuf;

use blake2::digest::consts::{U4, U16};
use blake2::{Blake2s, Digest};

use super::digest::hex;
use super::{Error, RESERVED, aliases};

/// First chunks that name a foundation model, whose version is a word and not a number.
const CORE_FAMILIES: &[&str] = &[
    "clip",
    "easy_ocr",
    "doctr",
    "doctr_rec",
    "doctr_det",
    "gaze",
    "grounding_dino",
    "sam",
    "sam2",
    "sam3",
    "owlv2",
    "trocr",
    "pp_ocr",
    "yolo_world",
    "smolvlm2",
    "moondream2",
    "depth-anything-v2",
    "depth-anything-v3",
    "perception_encoder",
    "sam3-3d-objects",
];

/// Names that Windows gives to devices; Roboflow refuses them on every system.
const DEVICE_NAMES: &[&str] = &[
    "con", "prn", "aux", "nul", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8", "com9", "lpt1", "lpt2",
    "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
];

/// Longest slug of a directory name that is not the id itself.
const SLUG_CHARS_MAX: usize = 48;
/// Longest file name and path of Linux's file systems, bytes.
const NAME_BYTES_MAX: usize = 255;
const PATH_BYTES_MAX: usize = 4096;

/// A model id after alias resolution and version normalisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelId(String);

impl ModelId {
    /// Resolves an alias and normalises the version (`coco/03` is `coco/3`).
    ///
    /// # Errors
    /// The id is empty, longer than a path can be, or has more than one slash.
    pub fn parse(raw: &str) -> Result<Self, Error> {
        let invalid = |why| Err(Error::InvalidId { id: raw.chars().take(120).collect(), why });
        if raw.is_empty() {
            return invalid("is empty");
        }
        if raw.len() > PATH_BYTES_MAX {
            return invalid("is longer than a path can be");
        }
        if raw.contains('\0') {
            return invalid("contains a NUL character");
        }
        let id = aliases::resolve(raw);
        let Some((dataset, version)) = id.split_once('/') else { return Ok(Self(id.into())) };
        if version.contains('/') {
            return invalid("has more than one slash");
        }
        if CORE_FAMILIES.contains(&dataset.to_lowercase().as_str()) {
            return Ok(Self(id.into()));
        }
        Ok(Self(match python_int(version) {
            Some(version) => format!("{dataset}/{version}"),
            None => id.into(),
        }))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directory below the cache root: the id itself when it is safe as a path, else `~{slug}-{hash}`.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        if is_safe_path(&self.0) { PathBuf::from(&self.0) } else { PathBuf::from(slug_directory(&self.0)) }
    }

    /// The name of the model's directory below `models-cache`: `v2-{slug}-{hash}` (SPEC §1.3).
    #[must_use]
    pub fn models_cache_slug(&self) -> String {
        models_cache_slug(&self.0)
    }

    /// Where versions before "V2" kept a model whose directory is another today. They wrote the id itself wherever it
    /// was short enough, else a slug with a hash of four bytes. Such a directory must state its owner to be read.
    #[must_use]
    pub fn legacy_directories(&self) -> Vec<PathBuf> {
        let is_plain =
            |segment: &str| !segment.is_empty() && segment != "." && segment != ".." && segment.len() <= NAME_BYTES_MAX;
        let raw = self.0.split('/').all(is_plain).then(|| PathBuf::from(&self.0));
        let slugged = PathBuf::from(format!("{}-{}", slug(&self.0), hash::<Blake2s<U4>>(&self.0)));
        let current = self.directory();
        raw.into_iter().chain([slugged]).filter(|directory| *directory != current).collect()
    }
}

/// [`ModelId::models_cache_slug`] of an id as a manifest states it.
pub(super) fn models_cache_slug(id: &str) -> String {
    format!("v2-{}-{}", slug(id), hash::<Blake2s<U16>>(id))
}

/// What Python's `int()` reads from a version: sign, digits, single underscores between digits, outer white space.
fn python_int(version: &str) -> Option<String> {
    let trimmed = version.trim();
    let (negative, digits) = match trimmed.as_bytes().first()? {
        b'-' => (true, &trimmed[1..]),
        b'+' => (false, &trimmed[1..]),
        _ => (false, trimmed),
    };
    let grouped = digits.split('_').all(|group| !group.is_empty() && group.bytes().all(|b| b.is_ascii_digit()));
    if !grouped {
        return None;
    }
    let digits = digits.replace('_', "");
    let digits = digits.trim_start_matches('0');
    Some(match (digits, negative) {
        ("", _) => "0".into(),
        (digits, true) => format!("-{digits}"),
        (digits, false) => digits.into(),
    })
}

fn is_safe_path(id: &str) -> bool {
    let first = id.split('/').next().unwrap_or_default();
    !id.contains('\\')
        && id.split('/').all(is_safe_segment)
        && !first.starts_with('~')
        && !RESERVED.contains(&first)
        && !looks_like_a_legacy_slug(first)
        && id.len() < PATH_BYTES_MAX
}

fn is_safe_segment(segment: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._ -".contains(&b);
    let stem = segment.split('.').next().unwrap_or_default().trim_end();
    !segment.is_empty()
        && segment != "."
        && segment != ".."
        && segment.bytes().all(allowed)
        && !segment.ends_with([' ', '.'])
        && !DEVICE_NAMES.contains(&stem)
        && segment.len() <= NAME_BYTES_MAX
}

/// `[A-Za-z0-9_-]{1,48}-[0-9a-f]{8}`: what versions before "V2" named their hashed directories.
fn looks_like_a_legacy_slug(segment: &str) -> bool {
    let Some((slug, hash)) = segment.rsplit_once('-') else { return false };
    (1..=SLUG_CHARS_MAX).contains(&slug.len())
        && slug.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        && hash.len() == 8
        && hash.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn slug_directory(id: &str) -> String {
    format!("~{}-{}", slug(id), hash::<Blake2s<U16>>(id))
}

/// Hex of the hash of an id.
fn hash<H: Digest>(id: &str) -> String {
    hex(&H::digest(id.as_bytes()))
}

/// The readable part of a hashed directory's name.
fn slug(id: &str) -> String {
    let mut slug = String::new();
    // Two substitutions in turn: [^A-Za-z0-9_-]+ → "-", then [_-]{2,} → "-".
    let mut foreign = false;
    for c in id.chars() {
        let keep = c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if keep {
            slug.push(c);
        } else if !foreign {
            slug.push('-');
        }
        foreign = !keep;
    }
    let mut folded = String::new();
    let mut rest = slug.as_str();
    while let Some(c) = rest.chars().next() {
        let run = rest.len() - rest.trim_start_matches(['_', '-']).len();
        if run >= 2 {
            folded.push('-');
            rest = &rest[run..];
        } else {
            folded.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    folded.truncate(SLUG_CHARS_MAX);
    if folded.is_empty() {
        folded.push_str("special-char-only-model-id");
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(id: &str) -> String {
        ModelId::parse(id).unwrap().directory().to_str().unwrap().into()
    }

    #[test]
    fn versions_are_normalised_as_python_reads_integers() {
        for (raw, id) in [
            ("coco/03", "coco/3"),
            ("coco/+3", "coco/3"),
            ("coco/ 3 ", "coco/3"),
            ("coco/1_0", "coco/10"),
            ("coco/-0", "coco/0"),
            ("coco/000", "coco/0"),
            ("coco/3a", "coco/3a"),
            ("clip/ViT-B-16", "clip/ViT-B-16"),
            ("sam/007", "sam/007"),
            ("workspace/model-slug", "workspace/model-slug"),
            ("project", "project"),
        ] {
            assert_eq!(ModelId::parse(raw).unwrap().as_str(), id, "{raw}");
        }
    }

    #[test]
    fn aliases_resolve_once() {
        assert_eq!(ModelId::parse("yolov8n-640").unwrap().as_str(), "coco/3");
    }

    #[test]
    fn two_slashes_and_nothing_are_refused() {
        for id in ["a/b/c", "../../etc", "", "a//b"] {
            assert!(matches!(ModelId::parse(id), Err(Error::InvalidId { .. })), "{id}");
        }
    }

    #[test]
    fn safe_ids_are_their_own_directory() {
        for id in ["coco/3", "my project/1", "a.b_c-d/12", "project"] {
            assert_eq!(directory(id), id);
        }
    }

    #[test]
    fn unsafe_ids_are_hashed_and_stay_below_the_root() {
        for id in [
            "Coco/3",
            "../x",
            "..",
            "x/..",
            "./x",
            "/etc",
            "x/",
            "con/1",
            "aux.v2/1",
            "a./1",
            "~a/1",
            "shared-blobs/1",
            "models-cache/1",
            "name-0123abcd/1",
            "a\\b/1",
            "é/1",
        ] {
            let directory = directory(id);
            assert!(
                directory.starts_with('~') && !directory.contains('/') && !directory.contains(".."),
                "{id}: {directory}"
            );
        }
    }

    /// `hashlib.blake2s(b"g-yolov8n/1", digest_size=16)` as Roboflow wrote it into a recorded cache tree, and the
    /// slug rules on ids made for them.
    #[test]
    fn slugs_and_hashes_are_those_of_roboflow() {
        assert_eq!(slug_directory("g-yolov8n/1"), "~g-yolov8n-1-a65151054cec19a4ed33409a434c6a8b");
        assert!(slug_directory("A__b--c  d/1").starts_with("~A-b-c-d-1-"));
        assert!(slug_directory("é").starts_with("~--"));
        let long = slug_directory(&"A".repeat(100));
        assert_eq!(long.len(), 1 + 48 + 1 + 32);
        let id = ModelId::parse("my-project/3").unwrap();
        assert_eq!(id.models_cache_slug(), "v2-my-project-3-812ea507cf6ab70156344afcfa2e3315");
    }

    /// `hashlib.blake2s(b"Coco/3", digest_size=4)`, computed with Python.
    #[test]
    fn directories_of_older_versions() {
        let legacy = |id: &str| ModelId::parse(id).unwrap().legacy_directories();
        assert_eq!(legacy("Coco/3"), [PathBuf::from("Coco/3"), PathBuf::from("Coco-3-736895fb")]);
        assert_eq!(legacy("coco/3").len(), 1, "the id itself is today's directory");
        for id in ["../x", "..", "./x", "/etc", "x/"] {
            let found = legacy(id);
            assert!(found.len() == 1 && !found[0].to_str().unwrap().contains(['/', '.']), "{id}: {found:?}");
        }
    }
}
