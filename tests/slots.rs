//! `firstlight slot` and `firstlight update` on the image of a disk, as at a workbench: what they print and exit with.

mod support;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use firstlight::device::slot::{Access, Content, Disk, SlotName, SlotState};
use firstlight::random::Random;
use serde_json::{Value, json};
use support::{Run, firstlight};

/// An image with the partition table that sfdisk made: a file of 791 MiB that takes a few kilobytes.
fn image(dir: &Path) -> PathBuf {
    let path = dir.join("disk.img");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(812 << 20).unwrap();
    for record in include_bytes!("../src/device/slot/fixtures/sfdisk.bin").chunks_exact(520) {
        let (sector, number) = record.split_at(512);
        file.write_all_at(sector, u64::from_le_bytes(number.try_into().unwrap()) * 512).unwrap();
    }
    let state = SlotState { a: Content::Ready("1.0.0".into()), ..SlotState::default() };
    Disk::open(&path, Access::Change).unwrap().set_state(&state).unwrap();
    path
}

fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut noise: Vec<u8> = (0..bytes.div_ceil(8)).flat_map(|_| random.bits().to_le_bytes()).collect();
    noise.truncate(bytes);
    noise
}

/// The bundle of the unit tests' fixtures.
fn bundle(dir: &Path) -> PathBuf {
    let path = dir.join("update.flb");
    let mut builder = tar::Builder::new(std::fs::File::create(&path).unwrap());
    let files: [(&str, &[u8]); 4] = [
        ("manifest.json", include_bytes!("../src/device/update/fixtures/manifest.json")),
        ("manifest.json.minisig", include_bytes!("../src/device/update/fixtures/manifest.json.minisig")),
        ("boot.vfat", &noise(11, 3001)),
        ("root.squashfs", &noise(12, 20_321)),
    ];
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content).unwrap();
    }
    builder.finish().unwrap();
    path
}

fn run(args: &[&str], disk: &Path) -> Run {
    let mut all = args.to_vec();
    all.extend(["--disk", disk.to_str().unwrap()]);
    firstlight(&all).run()
}

fn status(disk: &Path) -> Value {
    let run = run(&["slot", "status", "--json"], disk);
    assert_eq!(run.exit, Some(0), "{}", run.stderr);
    serde_json::from_str(&run.stdout).unwrap()
}

fn fixture(name: &str) -> String {
    format!("{}/src/device/update/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn an_update_of_an_image_is_installed_tried_and_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, bundle) = (image(dir.path()), bundle(dir.path()));
    let (bundle, key) = (bundle.to_str().unwrap(), fixture("update.pub"));
    let early = run(&["slot", "try"], &disk);
    assert_eq!(early.exit, Some(1));
    assert!(early.stderr.contains("slot B is empty"), "{}", early.stderr);

    let done = run(&["update", bundle, "--key", &key, "--board", "qemu-virt", "--try"], &disk);
    assert_eq!(done.exit, Some(0), "{}", done.stderr);
    let line: Value = serde_json::from_str(&done.stdout).unwrap();
    let expected = json!({"slot": "B", "version": "1.2.0", "bytes": 23_322, "armed": true, "reboot_argument": null});
    assert_eq!(line, expected);
    assert!(!done.stderr.contains('\r'), "a bar is for terminals: {}", done.stderr);

    let told = status(&disk);
    assert_eq!((&told["running"], &told["committed"], &told["trial"]), (&json!("A"), &json!("A"), &json!("B")));
    assert_eq!(told["slots"]["B"], json!({"state": "ready", "version": "1.2.0"}));
    let words = run(&["slot", "status"], &disk).stdout;
    assert_eq!(words, "A  ready:1.0.0  committed, running\nB  ready:1.2.0  armed\n");

    assert_eq!(run(&["slot", "commit"], &disk).exit, Some(1), "nothing runs on trial in an image");
    let reverted = run(&["slot", "revert", "--json"], &disk);
    assert_eq!(reverted.stdout.trim(), r#"{"reverted":"disarmed"}"#);
    assert_eq!(status(&disk)["trial"], Value::Null);
}

#[test]
fn what_is_wrong_has_its_exit_code_and_its_words() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, good) = (image(dir.path()), bundle(dir.path()));
    let (key, other_key) = (fixture("update.pub"), fixture("other.pub"));
    let refused = |args: &[&str], exit: i32, word: &str| {
        let run = run(args, &disk);
        assert_eq!(run.exit, Some(exit), "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains(word) && !run.stderr.contains("panicked"), "{args:?}: {}", run.stderr);
        assert_eq!(run.stdout, "", "{args:?}");
    };
    let good_path = good.to_str().unwrap();
    let update = |bundle, key, board| ["update", bundle, "--key", key, "--board", board];
    refused(&update(good_path, &other_key, "qemu-virt"), 4, "not signed by this device's key");
    refused(&update(good_path, &key, "jetson"), 1, "for board `qemu-virt`, this is `jetson`");
    refused(&["update", good_path, "--key", &key], 2, "--board");
    refused(&["update", good_path, "--key", "/nowhere", "--board", "x"], 1, "/nowhere");
    refused(&update("-", &key, "qemu-virt"), 1, "the end where manifest.json");
    refused(&["slot", "swap"], 2, "swap");

    let mut damaged = std::fs::read(&good).unwrap();
    damaged[5 * 512] ^= 1;
    let path = dir.path().join("damaged.flb");
    std::fs::write(&path, damaged).unwrap();
    assert_eq!(status(&disk)["slots"]["B"]["state"], "empty");
    refused(&update(path.to_str().unwrap(), &key, "qemu-virt"), 4, "boot.vfat has sha256");
    assert_eq!(status(&disk)["slots"]["B"]["state"], "writing");
    assert_eq!(status(&disk)["committed"], json!(SlotName::A));

    let held = Disk::open(&disk, Access::Change).unwrap();
    refused(&update(good_path, &key, "qemu-virt"), 1, "somebody else is changing it");
    drop(held);
}
