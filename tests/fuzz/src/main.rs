//! One target a reader; `FUZZ_TARGET` names it. Whatever the bytes are, the answer is a value or an error in bounded words.
#![no_main]

use std::path::Path;
use std::sync::OnceLock;

use firstlight::config::Config;
use firstlight::frame::{self, Limits, Orientation};
use firstlight::model::Request;
use firstlight::provision::bundle::{self, Manifest, Store, Trust, fuzzing as write};
use firstlight::{cache, provision};
use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};

/// Longest message: the file's path, and 400 characters with what they take in UTF-8.
const MESSAGE_BYTES_MAX: usize = 2000;

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 8] = [
    ("environment", |bytes| text(bytes, cache::fuzzing::environment)),
    ("model_config", |bytes| text(bytes, cache::fuzzing::model_config)),
    ("inference_config", |bytes| text(bytes, cache::fuzzing::inference_config)),
    ("bundle", |bytes| drop(install(bytes))),
    ("manifest", manifest),
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
fn install(mut bytes: &[u8]) -> bool {
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
    assert_eq!(current.as_deref(), installed.as_ref().ok().map(|installed| installed.bundle.manifest.root.as_str()));
    installed.is_ok()
}

/// What a manifest may say, in a bundle whose digests are right: by chance alone they never would be.
fn manifest(bytes: &[u8]) {
    let _ = Manifest::parse(bytes);
    let Ok(Manifest { version, boards, models, workflows, mut files, .. }) = serde_json::from_slice(bytes) else {
        return;
    };
    files.truncate(20);
    for file in &mut files {
        file.bytes = file.path.len() as u64;
        file.sha256 = Sha256::digest(&file.path).iter().map(|byte| format!("{byte:02x}")).collect();
    }
    let Ok(manifest) = Manifest::new(&version, boards, models, workflows, files) else { return };
    let json = manifest.to_bytes();
    assert_eq!(Manifest::parse(&json).unwrap(), manifest);
    let mut bundle = Vec::new();
    let contents = manifest.files.iter().map(|file| (file.path.as_str(), file.path.as_bytes()));
    for (path, content) in [(write::MANIFEST, json.as_slice())].into_iter().chain(contents) {
        write::begin_file(&mut bundle, path, content.len() as u64).unwrap();
        bundle.extend_from_slice(content);
        write::end_file(&mut bundle, content.len() as u64).unwrap();
    }
    write::end(&mut bundle).unwrap();
    // Refused only where it is for another board, or its configuration is none.
    let is_ours = manifest.boards.is_empty() || manifest.boards.iter().any(|board| board == "qemu-virt");
    let is_plain = !manifest.files.iter().any(|file| file.path == bundle::CONFIG);
    assert!(install(&bundle) || !is_ours || !is_plain, "{}", String::from_utf8_lossy(&json));
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
