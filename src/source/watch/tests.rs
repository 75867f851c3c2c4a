//! A watched directory, with producers and outputs that the test plays.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use super::*;
use crate::source::Fate;

/// A watched directory, the source, and what the loop holds of it.
struct Rig {
    root: tempfile::TempDir,
    source: WatchSource,
    receipts: Box<dyn Receipts>,
    frame: Frame,
    origin: String,
}

impl Rig {
    fn new(options: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("in")).unwrap();
        Self::over(root, options)
    }

    fn over(root: tempfile::TempDir, options: &str) -> Self {
        let mut source = open(&root.path().join("in"), options).unwrap();
        let receipts = source.receipts().unwrap();
        Self { root, source, receipts, frame: Frame::empty(), origin: String::new() }
    }

    /// The process ends here, with what it had in hand, and another begins.
    fn restarted(self) -> Self {
        let Self { root, source, receipts, .. } = self;
        drop((source, receipts));
        Self::over(root, "")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("in").join(name)
    }

    fn put(&self, name: &str) {
        fs::write(self.path(name), png()).unwrap();
    }

    /// The next image's name, or what the source says instead.
    fn next(&mut self) -> Result<String, String> {
        for _ in 0..5 {
            match self.source.next(&mut self.frame, &mut self.origin) {
                Ok(Next::Frame) => return Ok(self.origin.rsplit('/').next().unwrap().into()),
                Ok(Next::Idle) => return Err("idle".into()),
                Ok(_) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Err("nothing".into())
    }

    fn answer(&mut self) {
        self.receipts.settle(self.frame.id, Fate::Answered);
    }

    /// Every image that there is, each answered.
    fn rest(&mut self) -> Vec<String> {
        std::iter::from_fn(|| {
            let name = self.next().ok()?;
            self.answer();
            Some(name)
        })
        .collect()
    }

    fn names(&self, dir: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(dir)).unwrap().map(|entry| entry.unwrap());
        let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
        let mut names: Vec<String> = files.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn open(dir: &Path, options: &str) -> Result<WatchSource, Error> {
    WatchSource::open(&format!("watch:{}{options}", dir.display()), Orientation::Apply)
}

fn png() -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(4, 2).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

#[test]
fn what_is_there_and_what_comes_is_answered_and_moved() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("in")).unwrap();
    for name in ["b.png", "a.PNG", ".hidden.png", "c.png.tmp", "notes.txt"] {
        fs::write(root.path().join("in").join(name), png()).unwrap();
    }
    fs::create_dir(root.path().join("in/sub.png")).unwrap();
    std::os::unix::fs::symlink("b.png", root.path().join("in/link.png")).unwrap();
    let mut rig = Rig::over(root, "");
    assert_eq!(rig.rest(), ["a.PNG", "b.png"]);
    assert_eq!(rig.frame.id, 1);
    assert_eq!(rig.next().unwrap_err(), "idle");
    fs::rename(rig.path("c.png.tmp"), rig.path("c.png")).unwrap();
    assert_eq!(rig.next().unwrap(), "c.png");
    assert_eq!(rig.names("done"), ["a.PNG", "b.png"], "not before it is answered");
    rig.answer();
    assert_eq!(rig.names("done"), ["a.PNG", "b.png", "c.png"]);
    assert_eq!(rig.names(""), [".hidden.png", "notes.txt"]);
    assert!(rig.names(".firstlight-work").is_empty());
}

#[test]
fn a_file_is_not_read_while_somebody_writes_to_it() {
    let mut rig = Rig::new("");
    let bytes = png();
    let mut file = fs::File::create(rig.path("slow.png")).unwrap();
    file.write_all(&bytes[..20]).unwrap();
    rig.put("quick.png");
    assert_eq!(rig.rest(), ["quick.png"]);
    // What a start finds half-written is no more ready.
    let mut rig = rig.restarted();
    assert_eq!(rig.next().unwrap_err(), "idle");
    file.write_all(&bytes[20..]).unwrap();
    drop(file);
    assert_eq!(rig.rest(), ["slow.png"]);
}

#[test]
fn what_is_no_image_is_put_aside_with_the_reason() {
    let mut rig = Rig::new("");
    fs::write(rig.path("bad.jpg"), b"no picture").unwrap();
    fs::write(rig.path("cut.png"), &png()[..30]).unwrap();
    fs::write(rig.path("empty.png"), b"").unwrap();
    for name in ["bad.jpg", "cut.png", "empty.png"] {
        let why = rig.next().unwrap_err();
        assert!(why.contains(name), "{why}");
        let id = rig.source.frames - 1;
        rig.receipts.settle(id, Fate::Failed(&why));
        let told = fs::read_to_string(rig.path("failed").join(format!("{name}.txt"))).unwrap();
        assert_eq!(told.trim_end(), why);
    }
    let names = ["bad.jpg", "bad.jpg.txt", "cut.png", "cut.png.txt", "empty.png", "empty.png.txt"];
    assert_eq!(rig.names("failed"), names);
    assert_eq!(rig.next().unwrap_err(), "idle");
}

#[test]
fn what_was_not_answered_comes_again_after_a_restart_and_what_was_does_not() {
    let mut rig = Rig::new("");
    for name in ["1.png", "2.png", "3.png"] {
        rig.put(name);
    }
    assert_eq!(rig.next().unwrap(), "1.png");
    rig.answer();
    assert_eq!(rig.next().unwrap(), "2.png");
    let mut rig = rig.restarted();
    assert_eq!(rig.rest(), ["2.png", "3.png"]);
    assert_eq!(rig.names("done"), ["1.png", "2.png", "3.png"]);
}

#[test]
fn frames_that_were_dropped_or_not_taken_come_again() {
    let mut rig = Rig::new("");
    for name in ["1.png", "2.png", "3.png"] {
        rig.put(name);
    }
    for _ in 0..3 {
        rig.next().unwrap();
    }
    // The first was dropped on the way, and a disk was full when the second came.
    rig.receipts.settle(1, Fate::NotTaken);
    rig.receipts.settle(2, Fate::Answered);
    assert_eq!(rig.names("done"), ["3.png"]);
    rig.source.again_at -= AGAIN_AFTER;
    assert_eq!(rig.rest(), ["1.png", "2.png"]);
}

#[test]
fn a_name_that_comes_again_while_the_first_is_answered_is_another_image() {
    let mut rig = Rig::new("");
    rig.put("latest.png");
    assert_eq!(rig.next().unwrap(), "latest.png");
    let first = rig.frame.id;
    fs::write(rig.path("new.tmp"), png()).unwrap();
    fs::rename(rig.path("new.tmp"), rig.path("latest.png")).unwrap();
    assert_eq!(rig.next().unwrap_err(), "nothing", "one at a time under a name");
    rig.receipts.settle(first, Fate::Answered);
    assert_eq!(rig.rest(), ["latest.png"]);
    let names = rig.names("done");
    assert!(names.len() == 2 && names.contains(&"latest.png".into()), "{names:?}");
    assert!(names.iter().all(|name| name.starts_with("latest.") && name.ends_with(".png")), "{names:?}");
}

#[test]
fn more_than_memory_holds_are_all_answered_and_answered_ones_may_be_removed() {
    let mut rig = Rig::new("?keep=false");
    let count = inbox::QUEUE_MAX * 2 + 100;
    let bytes = png();
    for number in 0..count {
        fs::write(rig.path(&format!("{number:06}.png")), &bytes).unwrap();
    }
    let names = rig.rest();
    assert_eq!(names.len(), count);
    assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), count);
    assert!(rig.names("").is_empty() && !rig.path("done").exists());
}

#[test]
fn a_directory_that_goes_is_lost_and_one_that_comes_is_found() {
    let root = tempfile::tempdir().unwrap();
    let mut rig = Rig::over(root, "");
    assert!(rig.next().unwrap_err().contains("no such directory"));
    assert!(rig.source.reopen().is_err());
    fs::create_dir(rig.path("")).unwrap();
    rig.source.reopen().unwrap();
    rig.put("1.png");
    assert_eq!(rig.rest(), ["1.png"]);
    fs::remove_dir_all(rig.path("")).unwrap();
    let why = rig.next().unwrap_err();
    assert!(why.contains("was removed"), "{why}");
    assert!(rig.source.reopen().is_err());
    fs::create_dir(rig.path("")).unwrap();
    rig.put("2.png");
    rig.source.reopen().unwrap();
    assert_eq!(rig.rest(), ["2.png"]);
}

#[test]
fn one_that_cannot_be_moved_is_trouble_and_is_not_answered_twice() {
    let mut rig = Rig::new("");
    rig.put("1.png");
    rig.put("2.png");
    assert_eq!(rig.next().unwrap(), "1.png");
    // As a full or failing disk; root may write anywhere, so that no permission would do.
    fs::remove_dir(rig.path("done")).unwrap();
    fs::write(rig.path("done"), b"in the way").unwrap();
    rig.answer();
    let why = rig.next().unwrap_err();
    assert!(why.contains("1.png") && why.contains("cannot be moved"), "{why}");
    assert!(rig.source.reopen().is_err());
    fs::remove_file(rig.path("done")).unwrap();
    rig.source.reopen().unwrap();
    assert_eq!(rig.rest(), ["2.png"]);
    assert_eq!(rig.names("done"), ["1.png", "2.png"]);
}

#[test]
fn two_do_not_watch_one_directory() {
    let rig = Rig::new("");
    let mut other = open(&rig.path(""), "").unwrap();
    let error = other.next(&mut Frame::empty(), &mut String::new()).unwrap_err();
    assert!(error.to_string().contains("another process watches it"), "{error}");
}

#[test]
fn what_cannot_be_meant_is_said_at_once() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, b"").unwrap();
    let dir = root.path().display();
    for (uri, words) in [
        ("watch:".to_owned(), "watch:/data/in"),
        (format!("watch:{}", file.display()), "is no directory"),
        (format!("watch:{dir}?speed=3"), "unknown option `speed`; valid here: done, failed, keep"),
        (format!("watch:{dir}?keep=maybe"), "option keep=maybe: expected true or false"),
        (format!("watch:{dir}?keep=false&done={dir}/x"), "expected one of them"),
        (
            format!("watch:{dir}?done={dir}/../{}", root.path().file_name().unwrap().display()),
            "is the watched directory",
        ),
        (format!("watch:{dir}?failed=/proc"), "on the file system of"),
    ] {
        let message = WatchSource::open(&uri, Orientation::Apply).unwrap_err().to_string();
        assert!(message.contains(words), "{uri}: {message}");
    }
}
