//! `file:` an image, a directory of images, or a glob; in the order of their names, once or in a loop.
//!
//! `file:PATH?loop=true` starts again at the end. Every image is read and decoded when its turn comes, so a long list
//! costs only its names.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{Error, Facts, Next, Source, flag, options};
use crate::frame::{Frame, Limits, Orientation, decode_into, read_file};

/// Most files of one directory or glob: names of a million images take 100 MB, which no small board has.
const FILES_MAX: usize = 100_000;

/// File name endings that a directory is searched for.
const EXTENSIONS: &[&str] = &["bmp", "gif", "jpeg", "jpg", "png", "tif", "tiff", "webp"];

/// Images of the file system.
#[derive(Debug)]
pub struct FileSource {
    uri: String,
    paths: Vec<PathBuf>,
    position: usize,
    repeat: bool,
    orientation: Orientation,
    bytes: Vec<u8>,
    frames: u64,
}

impl FileSource {
    /// Opens `file:PATH`, `file:DIR` or `file:GLOB`, with `?loop=true` or not.
    ///
    /// # Errors
    /// Nothing is there, or an option is unknown.
    pub fn open(uri: &str, orientation: Orientation) -> Result<Self, Error> {
        let mut repeat = false;
        for (option, value) in options(uri).1 {
            match option {
                "loop" => repeat = flag(uri, "loop", value)?,
                _ => return Err(Error::UnknownOption { uri: uri.into(), option: option.into(), valid: "loop" }),
            }
        }
        let paths = find(name(uri)).map_err(|why| Error::Open { uri: uri.into(), why })?;
        Ok(Self { uri: uri.into(), paths, position: 0, repeat, orientation, bytes: Vec::new(), frames: 0 })
    }

    /// The same files by their own paths, with every link followed, so that what was judged is what is read.
    ///
    /// # Errors
    /// The first of them that `allowed` does not hold of, or that has gone.
    pub fn resolved(mut self, allowed: impl Fn(&Path) -> bool) -> Result<Self, PathBuf> {
        for path in &mut self.paths {
            match path.canonicalize() {
                Ok(own) if allowed(&own) => *path = own,
                _ => return Err(std::mem::take(path)),
            }
        }
        Ok(self)
    }
}

impl Source for FileSource {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn live(&self) -> bool {
        false
    }

    fn facts(&self) -> Facts {
        Facts { frames: (!self.repeat).then_some(self.paths.len() as u64), ..Facts::default() }
    }

    fn next(&mut self, frame: &mut Frame, origin: &mut String) -> Result<Next, Error> {
        if self.position == self.paths.len() {
            if !self.repeat {
                return Ok(Next::End);
            }
            self.position = 0;
        }
        let path = self.paths[self.position].clone();
        self.position += 1;
        origin.clear();
        origin.push_str(&path.to_string_lossy());
        frame.id = self.frames;
        self.frames += 1;
        let limits = Limits::default();
        read_file(&path, limits, &mut self.bytes).map_err(|cause| Error::Read { path: path.clone(), cause })?;
        decode_into(&self.bytes, self.orientation, limits, frame)
            .map_err(|cause| Error::Frame { path: path.clone(), cause })?;
        frame.captured_at = Instant::now();
        Ok(Next::Frame)
    }
}

/// The path, directory or glob that a `file:` URI names.
pub(super) fn name(uri: &str) -> &str {
    // A name may itself hold a question mark: the whole of it counts when such a file is there.
    let whole = uri.strip_prefix("file:").unwrap_or(uri);
    if Path::new(whole).exists() { whole } else { whole.split_once('?').map_or(whole, |(name, _)| name) }
}

/// The image files that a path, a directory or a glob stands for, sorted.
///
/// # Errors
/// There is none, or more than a list may have.
pub fn find(name: &str) -> Result<Vec<PathBuf>, String> {
    let path = Path::new(name);
    if path.is_dir() {
        let entries = std::fs::read_dir(path).map_err(|error| format!("cannot list the directory: {error}"))?;
        let is_image = |path: &PathBuf| path.is_file() && ends_as_image(path);
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_image).take(FILES_MAX + 1).collect();
        return checked(paths, &format!("no image in the directory (looked for {})", EXTENSIONS.join(", ")));
    }
    if path.exists() {
        return Ok(vec![path.into()]);
    }
    if !name.contains(['*', '?', '[']) {
        return Err("no such file or directory".into());
    }
    let matches = glob::glob(name).map_err(|error| format!("not a valid pattern: {error}"))?;
    let paths = matches.filter_map(Result::ok).filter(|path| path.is_file()).take(FILES_MAX + 1).collect();
    checked(paths, "no file matches the pattern")
}

/// Whether a name ends as those of images do.
pub(super) fn ends_as_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|found| EXTENSIONS.iter().any(|known| found.eq_ignore_ascii_case(known)))
}

fn checked(mut paths: Vec<PathBuf>, when_empty: &str) -> Result<Vec<PathBuf>, String> {
    match paths.len() {
        0 => Err(when_empty.into()),
        found if found > FILES_MAX => Err(format!("more than {FILES_MAX} files; name fewer")),
        _ => {
            paths.sort();
            Ok(paths)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(uri: &str) -> Result<FileSource, Error> {
        FileSource::open(uri, Orientation::Apply)
    }

    #[test]
    fn names_are_sorted_and_filtered_and_bad_images_do_not_end_the_source() {
        let dir = tempfile::tempdir().unwrap();
        let png = {
            let mut bytes = std::io::Cursor::new(Vec::new());
            image::RgbImage::new(4, 2).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
            bytes.into_inner()
        };
        std::fs::write(dir.path().join("b.png"), &png).unwrap();
        std::fs::write(dir.path().join("a.PNG"), &png).unwrap();
        std::fs::write(dir.path().join("ab.jpg"), b"not an image").unwrap();
        std::fs::write(dir.path().join("notes.txt"), b"not listed").unwrap();
        let mut source = open(&format!("file:{}", dir.path().display())).unwrap();
        let (mut frame, mut origin) = (Frame::empty(), String::new());
        assert_eq!(source.next(&mut frame, &mut origin).unwrap(), Next::Frame);
        assert!(origin.ends_with("a.PNG"));
        assert_eq!((frame.width(), frame.height(), frame.id), (4, 2, 0));
        assert!(matches!(source.next(&mut frame, &mut origin), Err(Error::Frame { .. })));
        assert_eq!(source.next(&mut frame, &mut origin).unwrap(), Next::Frame);
        assert_eq!(frame.id, 2);
        assert_eq!(source.next(&mut frame, &mut origin).unwrap(), Next::End);

        let mut repeated = open(&format!("file:{}/*.png?loop=true", dir.path().display())).unwrap();
        for _ in 0..5 {
            assert_eq!(repeated.next(&mut frame, &mut origin).unwrap(), Next::Frame);
        }
    }

    #[test]
    fn what_is_not_there_is_said() {
        for (uri, word) in [
            ("file:/nowhere/x.png", "no such file"),
            ("file:/nowhere/*.png", "no file matches"),
            ("file:/tmp?speed=2", "unknown option `speed`"),
            ("file:/tmp?loop=maybe", "true or false"),
        ] {
            let message = open(uri).unwrap_err().to_string();
            assert!(message.contains(word), "{uri}: {message}");
        }
    }
}
