//! A producer of this process: it writes as the layout says, or as it does not.

use super::layout::tests::{FILE_BYTES, header};
use super::*;
use crate::random::Random;

struct Producer {
    dir: tempfile::TempDir,
    file: File,
    written: u64,
}

impl Producer {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = Self::create(&dir.path().join("frames"));
        Self { dir, file, written: 0 }
    }

    fn create(path: &Path) -> File {
        let new = path.with_extension("new");
        let file = File::create(&new).unwrap();
        file.set_len(FILE_BYTES).unwrap();
        file.write_all_at(&header(0, now_ns()), 0).unwrap();
        std::fs::rename(new, path).unwrap();
        file
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("frames")
    }

    fn slot_at(&self) -> u64 {
        64 + self.written % 3 * 72
    }

    fn begin(&self, grey: u8) {
        self.file.write_all_at(&(2 * self.written + 1).to_le_bytes(), self.slot_at()).unwrap();
        self.file.write_all_at(&now_ns().to_le_bytes(), self.slot_at() + 8).unwrap();
        self.file.write_all_at(&[grey; 8], self.slot_at() + 64).unwrap();
    }

    fn end(&mut self) {
        self.file.write_all_at(&(2 * self.written + 2).to_le_bytes(), self.slot_at()).unwrap();
        self.written += 1;
        self.file.write_all_at(&header(self.written, now_ns())[48..], 48).unwrap();
    }

    fn write(&mut self, grey: u8) {
        self.begin(grey);
        self.end();
    }

    fn source(&self) -> ShmSource {
        ShmSource::open(&format!("shm:{}", self.path().display())).unwrap()
    }
}

fn now_ns() -> u64 {
    u64::try_from(clock::since_boot().as_nanos()).unwrap()
}

fn next(source: &mut ShmSource) -> Result<Option<(u64, u8)>, String> {
    let mut frame = Frame::empty();
    match source.next(&mut frame, &mut String::new()) {
        Ok(Next::Frame) => {
            assert_eq!((frame.width(), frame.height()), (4, 2));
            assert!(frame.captured_at.elapsed() < Duration::from_secs(10), "the producer's time");
            Ok(Some((frame.id, frame.pixels()[0])))
        }
        Ok(Next::Nothing | Next::Idle) => Ok(None),
        Ok(Next::End) => panic!("a camera has no end"),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn the_newest_frame_is_taken_once_and_missed_ones_leave_a_gap() {
    let mut producer = Producer::start();
    producer.write(1);
    let mut source = producer.source();
    // What was there before us is old.
    assert_eq!(next(&mut source), Ok(None));
    producer.write(2);
    assert_eq!(next(&mut source), Ok(Some((0, 2))));
    (3..=9).for_each(|grey| producer.write(grey));
    assert_eq!(next(&mut source), Ok(Some((7, 9))));
    assert_eq!(next(&mut source), Ok(None));
    // While a frame is being written, the one before it is the newest.
    producer.write(10);
    producer.begin(11);
    assert_eq!(next(&mut source), Ok(Some((8, 10))));
    producer.end();
    assert_eq!(next(&mut source), Ok(Some((9, 11))));
}

#[test]
fn a_frame_that_is_written_over_is_never_taken() {
    let mut producer = Producer::start();
    let mut source = producer.source();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (mut frame, mut taken) = (Frame::empty(), 0);
    std::thread::scope(|scope| {
        let stop = std::sync::Arc::clone(&stop);
        let writing = std::sync::Arc::clone(&stop);
        scope.spawn(move || {
            while !writing.load(std::sync::atomic::Ordering::Relaxed) {
                producer.write(u8::try_from(producer.written % 251).unwrap());
            }
        });
        while taken < 2000 {
            if source.next(&mut frame, &mut String::new()).unwrap() == Next::Frame {
                taken += 1;
                let first = frame.pixels()[0];
                assert!(frame.pixels().iter().all(|&value| value == first), "torn: {:?}", frame.pixels());
                assert_eq!(u64::from(first), frame.id % 251);
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_producer_may_be_absent_die_and_be_followed_by_another() {
    let dir = tempfile::tempdir().unwrap();
    let mut absent = ShmSource::open(&format!("shm:{}/none", dir.path().display())).unwrap();
    assert!(next(&mut absent).unwrap_err().contains("cannot be opened: No such file"));
    assert!(absent.reopen().is_err());

    let mut producer = Producer::start();
    let mut source = producer.source();
    producer.write(1);
    assert_eq!(next(&mut source), Ok(Some((0, 1))));
    // It dies: its sign of life gets old.
    let old = now_ns() - 3_000_000_000;
    producer.file.write_all_at(&old.to_le_bytes(), 56).unwrap();
    assert!(next(&mut source).unwrap_err().contains("no sign of life for 3."));
    source.reopen().unwrap();
    assert!(next(&mut source).unwrap_err().contains("no sign of life"), "the old frame is not taken for a new one");
    // Another one comes, counting from the start.
    producer.file = Producer::create(&producer.path());
    producer.written = 0;
    source.reopen().unwrap();
    producer.write(7);
    assert_eq!(next(&mut source), Ok(Some((1, 7))));
    producer.file = Producer::create(&producer.path());
    assert!(next(&mut source).unwrap_err().contains("a new file of that name"));
    std::fs::remove_file(producer.path()).unwrap();
    assert!(source.reopen().is_err());
}

#[test]
fn a_file_that_shrinks_or_is_none_is_an_error_and_no_fault() {
    let mut producer = Producer::start();
    let mut source = producer.source();
    producer.write(1);
    producer.file.set_len(100).unwrap();
    assert!(next(&mut source).unwrap_err().contains("has 100 bytes, too few"));
    producer.file.set_len(10).unwrap();
    assert!(source.reopen().unwrap_err().to_string().contains("cannot be read at byte 0"));
    let pipe = producer.dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (path, word) in [(pipe.as_path(), "is no file"), (producer.dir.path(), "is no file")] {
        let why = next(&mut ShmSource::open(&format!("shm:{}", path.display())).unwrap()).unwrap_err();
        assert!(why.contains(word), "{why}");
    }
    for (uri, word) in [("shm:", "names no file"), ("shm:/dev/shm/x?fps=3", "unknown option `fps`")] {
        assert!(ShmSource::open(uri).unwrap_err().to_string().contains(word), "{uri}");
    }
}

#[test]
fn a_producer_that_scribbles_gets_errors_and_frames_and_nothing_else() {
    let mut random = Random::new(0x5C81);
    let producer = Producer::start();
    let mut source = producer.source();
    for _ in 0..300 {
        let at = random.below(usize::try_from(FILE_BYTES).unwrap()) as u64;
        producer.file.write_all_at(&random.bits().to_le_bytes()[..1 + random.below(8)], at).unwrap();
        // Something new to read, and alive, or it would wait for it.
        producer.file.write_all_at(&(random.bits() >> random.below(64)).to_le_bytes(), 48).unwrap();
        producer.file.write_all_at(&[0; 8], 56).unwrap();
        if source.next(&mut Frame::empty(), &mut String::new()).is_err() {
            if random.chance(0.5) {
                producer.file.write_all_at(&header(producer.written, now_ns()), 0).unwrap();
            }
            let _ = source.reopen();
        }
    }
}
