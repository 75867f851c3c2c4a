//! Packs what the binary carries and seldom needs: documents for browsers, and the worker, where `scripts/worker` has built one
//! for this architecture. Without a worker the binary is whole all the same: its accelerators say that there is none.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// A folder an architecture, watched whole, as a worker may appear in it; one for another architecture is no reason to build anew.
const WORKERS: &str = "src/bin/worker/built";
const DOCUMENTS: &str = "src/http";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for document in ["openapi.json", "page.html", "docs.html"] {
        let path = format!("{DOCUMENTS}/{document}");
        println!("cargo::rerun-if-changed={path}");
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        pack(&bytes, &format!("{document}.zlib"));
    }
    let architecture = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let folder = PathBuf::from(WORKERS).join(architecture);
    println!("cargo::rerun-if-changed={}", folder.display());
    let worker = folder.join("firstlight-worker");
    pack(&fs::read(&worker).unwrap_or_default(), "worker.zlib");
}

/// Writes bytes, packed, where the crate includes them from; nothing of nothing.
fn pack(bytes: &[u8], name: &str) {
    let mut packed = Vec::new();
    if !bytes.is_empty() {
        let mut encoder = flate2::write::ZlibEncoder::new(&mut packed, flate2::Compression::best());
        encoder.write_all(bytes).and_then(|()| encoder.finish().map(drop)).expect("a vector takes everything");
    }
    let path = Path::new(&env::var_os("OUT_DIR").expect("cargo names it")).join(name);
    fs::write(&path, packed).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
