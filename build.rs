//! Packs the worker, where `scripts/worker` has built one for this architecture, so that the binary carries it.
//!
//! Without one the binary is whole all the same: its accelerators say that there is no worker.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Watched whole, as a worker may appear in it.
const BUILT: &str = "src/bin/worker/built";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={BUILT}");
    let architecture = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let worker = PathBuf::from(format!("{BUILT}/firstlight-worker-{architecture}"));
    let packed = Path::new(&env::var_os("OUT_DIR").expect("cargo names it")).join("worker.zlib");
    let bytes = fs::read(&worker).unwrap_or_default();
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&bytes).expect("a vector takes everything");
    let encoded = if bytes.is_empty() { Vec::new() } else { encoder.finish().expect("a vector takes everything") };
    fs::write(&packed, encoded).unwrap_or_else(|error| panic!("{}: {error}", packed.display()));
}
