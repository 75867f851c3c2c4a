//! Bytes from outside, damaged on purpose: whatever they are, the answer is a value or an error, in bounded time.
//!
//! Damage is seeded, so a failure repeats. `FIRSTLIGHT_FULL=1` (scripts/test --full) runs fifty times as many.

mod support;

use std::path::Path;

use firstlight::cache::Package;
use firstlight::config::Config;
use firstlight::demo;
use firstlight::engine::{InputShape, LoadOptions, Network, by_name};
use firstlight::frame::{self, Limits, Orientation};
use firstlight::model::{Model, Request};
use support::damage::{Random, damage, rounds};

/// Wounds among the names, shapes and attributes at the file's two ends, not in the weights that fill its middle.
fn damage_structure(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let tail = bytes.len().saturating_sub(30_000);
    let (kept, struck) = bytes.split_at(tail);
    [kept, &damage(struck, random)].concat()
}

#[test]
fn networks() {
    let engine = by_name("tract").unwrap();
    let shape = |_: &_| InputShape { batch: 1, channels: 3, height: 320, width: 320 };
    let mut random = Random::new(0x5EED);
    let (mut loaded, mut refused) = (0, 0);
    for round in 0..rounds(60) {
        let strike = if round % 2 == 0 { damage } else { damage_structure };
        let bytes = strike(demo::PARTS_ONNX, &mut random);
        let network = Network {
            bytes: &bytes,
            origin: format!("round {round}").into(),
            shape: &shape,
            picture: None,
            prebuilt: &[],
        };
        match engine.load(&network, LoadOptions { threads: 1 }) {
            Ok(mut session) => {
                // Weights may be damaged beyond what a loader can see; running must still end.
                let _ = session.run();
                loaded += 1;
            }
            Err(_) => refused += 1,
        }
    }
    println!("damaged networks: {refused} refused, {loaded} loaded");
    assert!(refused > 0 && loaded > 0, "the damage should be of both kinds");
}

#[test]
fn images() {
    let mut random = Random::new(0x1AA6E);
    let mut jpeg = Vec::new();
    let png = include_bytes!("../src/demo/golden.png");
    let frame = frame::decode(png, Orientation::Apply, Limits::default()).unwrap();
    frame::encode_jpeg(&frame, 80, &mut jpeg).unwrap();
    let limits = Limits { bytes_max: 1 << 20, pixels_max: 1 << 20 };
    for _ in 0..rounds(150) {
        for bytes in [png.as_slice(), &jpeg] {
            if let Ok(frame) = frame::decode(&damage(bytes, &mut random), Orientation::Apply, limits) {
                assert!(frame.width() * frame.height() <= 1 << 20);
            }
        }
    }
}

#[test]
fn texts() {
    let mut random = Random::new(0x7E87);
    let engine = by_name("tract").unwrap();
    let toml = "model = \"parts/1\"\n[health]\nframe_age_max_s = 3.0\n[buffer]\nframes = 2\npolicy = \"wait\"\n";
    let request = r#"{"confidence": 0.5, "class_filter": ["bolt"], "max_detections": 3}"#;
    for _ in 0..rounds(400) {
        let text =
            |from: &str, random: &mut Random| String::from_utf8_lossy(&damage(from.as_bytes(), random)).into_owned();
        let _ = Config::parse(&text(toml, &mut random), Path::new("device.toml"));
        let _ = Request::parse(&text(request, &mut random));
        let environment = text(demo::ENVIRONMENT_JSON, &mut random);
        let names = text(demo::CLASS_NAMES, &mut random);
        let kind = text(demo::MODEL_TYPE_JSON, &mut random);
        if let Ok(package) = Package::embedded("a/1", &kind, &environment, &names, &[0]) {
            assert!(
                Model::load(&package, &*engine, LoadOptions { threads: 1 }).is_err(),
                "one zero byte is no network"
            );
        }
    }
}
