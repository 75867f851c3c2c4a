//! Packs what the binary carries and seldom needs: the document of its routes, and the worker, where `scripts/worker` has built one
//! for this architecture. Without a worker the binary is whole all the same: its accelerators say that there is none.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Watched whole, as a worker may appear in it.
const WORKERS: &str = "src/bin/worker/built";
const ROUTES: &str = "src/http/openapi.json";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={WORKERS}");
    println!("cargo::rerun-if-changed={ROUTES}");
    pack(&fs::read(ROUTES).unwrap_or_else(|error| panic!("{ROUTES}: {error}")), "openapi.json.zlib");
    let architecture = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let worker = PathBuf::from(format!("{WORKERS}/firstlight-worker-{architecture}"));
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
