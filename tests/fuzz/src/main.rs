//! One target a reader; `FUZZ_TARGET` names it. Whatever the bytes are, the answer is a value or an error in bounded words.
#![no_main]

use std::path::Path;
use std::sync::OnceLock;

use firstlight::config::Config;
use firstlight::frame::{self, Limits, Orientation};
use firstlight::model::Request;
use firstlight::provision::bundle::{self, Manifest, Store, Trust};
use firstlight::{cache, provision};
use libfuzzer_sys::fuzz_target;

/// Longest message: the file's path, and 400 characters with what they take in UTF-8.
const MESSAGE_BYTES_MAX: usize = 2000;

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 8] = [
    ("environment", |bytes| text(bytes, cache::fuzzing::environment)),
    ("model_config", |bytes| text(bytes, cache::fuzzing::model_config)),
    ("inference_config", |bytes| text(bytes, cache::fuzzing::inference_config)),
    ("bundle", bundle),
    ("manifest", |bytes| drop(Manifest::parse(bytes).map(|manifest| Manifest::parse(&manifest.to_bytes()).unwrap()))),
    ("answer", |bytes| drop(serde_json::from_slice(bytes).map(|answer| provision::pull::fuzzing::answer(&answer)))),
    ("picture", picture),
    ("settings", settings),
];

fuzz_target!(|bytes: &[u8]| {
    static TARGET: OnceLock<Target> = OnceLock::new();
    let chosen = || {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        let found = TARGETS.iter().find(|(target, _)| *target == name);
        found.unwrap_or_else(|| panic!("FUZZ_TARGET={name}: expected one of {:?}", TARGETS.map(|(name, _)| name))).1
    };
    TARGET.get_or_init(chosen)(bytes);
});

fn text(bytes: &[u8], read: fn(&str) -> Result<(), cache::Error>) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Err(error) = read(text)
    {
        let message = error.to_string();
        assert!(message.len() <= MESSAGE_BYTES_MAX, "{} bytes: {message}", message.len());
    }
}

/// Unpacked into a folder that is empty each time, with a board that the seeds are for.
fn bundle(mut bytes: &[u8]) {
    let state = tempfile::tempdir().unwrap();
    let installed = bundle::install(bundle::Request {
        bundle: &mut bytes,
        store: &Store::of(state.path()),
        trust: &Trust::Any,
        board: "qemu-virt",
        once: false,
        try_it: &|_| Ok(()),
        progress: &mut |_, _| {},
    });
    let current = Store::of(state.path()).state().unwrap().current;
    assert_eq!(current, installed.ok().map(|installed| installed.bundle.manifest.root));
}

fn picture(bytes: &[u8]) {
    let limits = Limits { bytes_max: 1 << 20, pixels_max: 1 << 20 };
    if let Ok(frame) = frame::decode(bytes, Orientation::Apply, limits) {
        assert!(frame.width() * frame.height() <= 1 << 20);
    }
}

fn settings(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Config::parse(text, Path::new("device.toml"));
        let _ = Request::parse(text);
    }
}
