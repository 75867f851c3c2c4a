//! The reader and the store against strangers and accidents; through the binary, tests/bundle.rs.

use std::cell::Cell;
use std::fs;
use std::io::Read;
use std::path::Path;

use super::manifest::tests::{file, manifest};
use super::*;
use crate::random::Random;

/// Content of a small bundle.
const FILES: [(&str, &[u8]); 3] =
    [("cache/a/weights.onnx", &[7; 1500]), ("cache/a/x.json", b"{}"), ("config.toml", b"# nothing\n")];

/// A small bundle, not signed.
fn bundle() -> (Manifest, Vec<u8>) {
    let manifest = manifest(FILES.iter().map(|(path, content)| file(path, content)).collect()).unwrap();
    let json = manifest.to_bytes();
    let mut bytes = Vec::new();
    for (path, content) in [(archive::MANIFEST, json.as_slice())].into_iter().chain(FILES) {
        archive::begin_file(&mut bytes, path, content.len() as u64).unwrap();
        bytes.extend_from_slice(content);
        archive::end_file(&mut bytes, content.len() as u64).unwrap();
    }
    archive::end(&mut bytes).unwrap();
    (manifest, bytes)
}

fn install_from(store: &Store, from: &mut dyn Read, board: &str) -> Result<Installed, Error> {
    install(Request {
        bundle: from,
        store,
        trust: &Trust::Any,
        board,
        once: false,
        try_it: &|_| Ok(()),
        progress: &mut |_, _| {},
    })
}

fn put(store: &Store, bytes: &[u8]) -> Result<Installed, Error> {
    install_from(store, &mut &*bytes, "qemu-virt")
}

/// Every name below a folder, but for the lock.
fn names(dir: &Path) -> Vec<String> {
    let entries =
        fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.filter(|name| name != "lock").collect();
    names.sort();
    names
}

#[test]
fn a_bundle_is_installed_and_taken_back() {
    let state = tempfile::tempdir().unwrap();
    let store = Store::of(state.path());
    assert!(matches!(store.roll_back(), Err(Error::Nothing(_))));
    let (manifest, bytes) = bundle();
    let installed = put(&store, &bytes).unwrap();
    assert!(!installed.already);
    for (path, content) in FILES {
        assert_eq!(fs::read(installed.bundle.dir.join(path)).unwrap(), content, "{path}");
    }
    assert_eq!(names(store.dir()), [manifest.root.as_str(), "state.json"]);
    assert!(put(&store, &bytes).unwrap().already);
    // It is damaged, and the same bundle repairs it.
    fs::write(installed.bundle.dir.join("cache/a/x.json"), "[]").unwrap();
    assert!(Bundle::open(&installed.bundle.dir, &manifest.root).unwrap_err().to_string().contains("x.json"));
    assert!(!put(&store, &bytes).unwrap().already);
    Bundle::verify(&installed.bundle.dir, &manifest.root).unwrap();

    assert_eq!(store.state().unwrap().starts, Some(0));
    assert!((0..3).all(|_| store.begin_start().unwrap()) && !store.begin_start().unwrap(), "three starts");
    store.proved(&manifest.root).unwrap();
    assert!(store.begin_start().unwrap() && store.state().unwrap().starts.is_none());
    store.take_back("another", "no").unwrap();
    assert_eq!(store.state().unwrap().current.as_ref(), Some(&manifest.root));
    let back = store.roll_back().unwrap();
    assert_eq!((back.current, back.previous.as_ref()), (None, Some(&manifest.root)));
    assert_eq!(store.roll_back().unwrap().current.as_ref(), Some(&manifest.root));
    store.take_back(&manifest.root, "it is bad").unwrap();
    let state = store.state().unwrap();
    assert_eq!((state.current, state.taken_back.unwrap().why.as_str()), (None, "it is bad"));
    assert!(put(&store, &bytes).is_ok_and(|_| store.state().unwrap().taken_back.is_none()));
    // By a stick it comes once, even if that is gone back from.
    let by_stick = || {
        let (bundle, trust, board) = (&mut &*bytes, &Trust::Any, "qemu-virt");
        install(Request {
            bundle,
            store: &store,
            trust,
            board,
            once: true,
            try_it: &|_| Ok(()),
            progress: &mut |_, _| {},
        })
    };
    fs::remove_file(store.dir().join("state.json")).unwrap();
    assert!(!by_stick().unwrap().already);
    store.roll_back().unwrap();
    assert!(matches!(by_stick(), Err(Error::Known)) && store.state().unwrap().current.is_none());
}

#[test]
fn what_is_wrong_changes_nothing() {
    let state = tempfile::tempdir().unwrap();
    let store = Store::of(state.path());
    let (_, bytes) = bundle();
    assert!(matches!(install_from(&store, &mut &*bytes, "raspberry-pi-5"), Err(Error::Board { .. })));
    let lock = store.lock().unwrap();
    assert!(matches!(put(&store, &bytes), Err(Error::Busy { .. })));
    drop(lock);
    let failing = install(Request {
        bundle: &mut &*bytes,
        store: &store,
        trust: &Trust::Any,
        board: "qemu-virt",
        once: false,
        try_it: &|_| Err(Error::Golden { id: "a".into(), why: "no".into() }),
        progress: &mut |_, _| {},
    });
    assert!(matches!(failing, Err(Error::Golden { .. })));
    assert_eq!(names(store.dir()), [""; 0]);
    for length in 0..bytes.len() {
        assert!(put(&store, &bytes[..length]).is_err(), "{length} bytes");
    }
    assert!(put(&store, &[bytes.as_slice(), b"\0"].concat()).is_err(), "a byte too many");
    assert_eq!(names(store.dir()), [""; 0]);
    // A state that cannot be read is no reason to refuse for ever.
    fs::write(store.dir().join("state.json"), "{").unwrap();
    assert!(matches!(store.state(), Err(Error::Damaged { .. })));
    fs::write(store.dir().join("state.json"), r#"{"current": "../../etc"}"#).unwrap();
    assert!(store.state().unwrap_err().to_string().contains("no root of a bundle"));
    put(&store, &bytes).unwrap();
}

#[test]
fn every_bit_counts() {
    let state = tempfile::tempdir().unwrap();
    let store = Store::of(state.path());
    let (_, bytes) = bundle();
    let full = std::env::var_os("FIRSTLIGHT_FULL").is_some();
    let mut random = Random::new(9);
    let all: Vec<usize> = (0..bytes.len() * 8).collect();
    let some = (0..500).map(|_| random.below(all.len())).collect();
    for at in if full { all } else { some } {
        let mut wounded = bytes.clone();
        wounded[at / 8] ^= 1 << (at % 8);
        assert!(put(&store, &wounded).is_err(), "bit {} of byte {}", at % 8, at / 8);
    }
    assert_eq!(names(store.dir()), [""; 0]);
}

/// A stream that counts what is read of it, and never ends.
struct Endless<'a> {
    begin: &'a [u8],
    read: &'a Cell<u64>,
}

impl Read for Endless<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = if self.begin.is_empty() {
            buffer.fill(0);
            buffer.len()
        } else {
            self.begin.read(buffer)?
        };
        self.read.set(self.read.get() + count as u64);
        Ok(count)
    }
}

/// Seeded mutations of a bundle, as a fuzzer makes them: nothing panics, nothing is installed that was not made so, and of
/// what never ends little is read.
#[test]
fn a_hostile_bundle_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let store = Store::of(state.path());
    let (manifest, bytes) = bundle();
    let rounds = if std::env::var_os("FIRSTLIGHT_FULL").is_some() { 20_000 } else { 1000 };
    for seed in 0..rounds {
        let mut random = Random::new(seed);
        let mut hostile = bytes.clone();
        for _ in 0..=random.below(4) {
            let (at, length) = (random.below(hostile.len()), random.below(700));
            let end = (at + length).min(hostile.len());
            match random.below(6) {
                0 => hostile[at] = random.bits().to_le_bytes()[0],
                1 => drop(hostile.drain(at..end)),
                2 => {
                    let piece = hostile[at..end].to_vec();
                    let to = random.below(hostile.len());
                    hostile.splice(to..to, piece);
                }
                3 => hostile[at..end].fill(random.bits().to_le_bytes()[0]),
                4 => {
                    // A number of a header or of the manifest becomes a large one.
                    let digits = (at..end).find(|&at| hostile[at].is_ascii_digit());
                    digits.into_iter().for_each(|at| hostile[at] = b'7');
                }
                _ => hostile.truncate(at.max(1)),
            }
            if hostile.is_empty() {
                hostile.push(0);
            }
        }
        let read = Cell::new(0);
        let mut endless = Endless { begin: &hostile, read: &read };
        let endless = install_from(&store, &mut endless, "qemu-virt");
        // Of one that is the current one already nothing more is read.
        assert!(endless.is_err() || endless.is_ok_and(|it| it.already), "seed {seed}: without an end");
        // The largest manifest and the largest piece, and no more than that beyond what was sent.
        assert!(read.get() < hostile.len() as u64 + (3 << 20), "seed {seed}: {} bytes read", read.get());
        match put(&store, &hostile) {
            Ok(installed) => assert_eq!(installed.bundle.manifest, manifest, "seed {seed}"),
            Err(error) => {
                assert!(error.is_verification() || matches!(error, Error::Full { .. }), "seed {seed}: {error}")
            }
        }
    }
}

#[cfg(feature = "workbench")]
#[test]
fn a_signature_is_of_a_key_and_a_root() {
    let dir = tempfile::tempdir().unwrap();
    let keys = make_keys(&dir.path().join("one"), false).unwrap();
    assert!(make_keys(&dir.path().join("one"), false).unwrap_err().to_string().contains("is there already"));
    let other = make_keys(&dir.path().join("other"), false).unwrap();
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(&keys.secret).unwrap().permissions().mode() & 0o777, 0o600);
    let from = dir.path().join("x.json");
    fs::write(&from, "{}").unwrap();
    let output = dir.path().join("out.flb");
    let content =
        || Content { version: "1".into(), files: vec![("cache/x.json".into(), from.clone())], ..Content::default() };
    let key = read_key(&keys.secret).unwrap();
    make(content(), Some(&key), &output, &mut |_, _| {}).unwrap();
    let signed = fs::read(&output).unwrap();
    make(content(), None, &output, &mut |_, _| {}).unwrap();
    let unsigned = fs::read(&output).unwrap();
    make(content(), None, &output, &mut |_, _| {}).unwrap();
    assert_eq!(fs::read(&output).unwrap(), unsigned, "of the same files comes the same bundle");
    assert!(
        begins_as_bundle(&mut signed.as_slice()).unwrap().0 && begins_as_bundle(&mut unsigned.as_slice()).unwrap().0
    );
    assert!(
        !begins_as_bundle(&mut [0; 4096].as_slice()).unwrap().0 && !begins_as_bundle(&mut [].as_slice()).unwrap().0
    );

    let store = Store::of(dir.path());
    let trusting = |key: &KeyFiles| Trust::Signed(Box::new(load_key(&key.public).unwrap()));
    let with = |bytes: &[u8], trust: &Trust| {
        install(Request {
            bundle: &mut &*bytes,
            store: &store,
            trust,
            board: "any",
            once: false,
            try_it: &|_| Ok(()),
            progress: &mut |_, _| {},
        })
    };
    assert!(matches!(with(&unsigned, &trusting(&keys)), Err(Error::Unsigned)));
    assert!(matches!(with(&signed, &trusting(&other)), Err(Error::Signature(_))));
    // No bit of the signature's own file is without meaning.
    for at in 0..signed.len() * 8 {
        let mut wounded = signed.clone();
        wounded[at / 8] ^= 1 << (at % 8);
        assert!(with(&wounded, &trusting(&keys)).is_err(), "bit {} of byte {}", at % 8, at / 8);
    }
    with(&signed, &trusting(&keys)).unwrap();
    with(&unsigned, &Trust::Any).unwrap();
    for text in ["", "one line", "untrusted comment: x\nnot base64"] {
        fs::write(&keys.public, text).unwrap();
        assert!(matches!(load_key(&keys.public), Err(Error::Key { .. })), "{text}");
        fs::write(&keys.secret, text).unwrap();
        assert!(read_key(&keys.secret).is_err(), "{text}");
    }
}
