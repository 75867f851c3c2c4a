//! Updates of a small disk in memory: good ones, bad ones, and power cuts.
//!
//! `fixtures/` was made once with minisign 0.11: `minisign -G -W -p update.pub -s update.key` (and `other.pub` the same
//! way), then `minisign -S -s update.key -m manifest.json` and, with `-l`, `legacy.minisig`. The secret keys were thrown
//! away. The parts are the numbers of [`Random`], so only their digests had to be kept.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::device::slot::testing::{PowerCut, disk_bytes};
use crate::device::slot::{Content, SlotName, SlotState};
use crate::random::Random;

const KEY: &str = include_str!("fixtures/update.pub");
const MANIFEST: &[u8] = include_bytes!("fixtures/manifest.json");
const SIGNATURE: &[u8] = include_bytes!("fixtures/manifest.json.minisig");
const LEGACY: &[u8] = include_bytes!("fixtures/legacy.minisig");
const BOARD: &str = "qemu-virt";
const VERSION: &str = "1.2.0";

fn key() -> PublicKey {
    PublicKey::decode(KEY).unwrap()
}

fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut noise: Vec<u8> = (0..bytes.div_ceil(8)).flat_map(|_| random.bits().to_le_bytes()).collect();
    noise.truncate(bytes);
    noise
}

fn boot() -> Vec<u8> {
    noise(11, 3001)
}

fn root() -> Vec<u8> {
    noise(12, 20_321)
}

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn bundle() -> Vec<u8> {
    bundle_signed(SIGNATURE)
}

fn bundle_signed(signature: &[u8]) -> Vec<u8> {
    let (boot, root) = (boot(), root());
    tar_of(&[
        ("manifest.json", MANIFEST),
        ("manifest.json.minisig", signature),
        ("boot.vfat", &boot),
        ("root.squashfs", &root),
    ])
}

/// Where the header of the first part begins: a block each for two headers and two contents.
const PARTS_AT: usize = 4 * 512;
/// Where the last part ends, up to its block: what follows is tar's end.
const PARTS_END: usize = PARTS_AT + 512 + 3072 + 512 + 20_480;

/// A is committed with 1.0.0, B holds 0.9.0.
fn before() -> SlotState {
    let ready = |version: &str| Content::Ready(version.into());
    SlotState { a: ready("1.0.0"), b: ready("0.9.0"), ..SlotState::default() }
}

fn fresh() -> Vec<u8> {
    let (medium, disk) = disk_of(disk_bytes());
    disk.set_state(&before()).unwrap();
    medium.after_cut(0)
}

fn disk_of(bytes: Vec<u8>) -> (Arc<PowerCut>, Disk) {
    let medium = Arc::new(PowerCut::new(bytes));
    let disk = Disk::over(Box::new(Arc::clone(&medium)), Path::new("disk")).unwrap();
    (medium, disk)
}

fn install_on(disk: &Disk, bundle: &[u8]) -> Result<Installed, Error> {
    install(&mut &*bundle, disk, BOARD, &key(), SlotName::A, &mut |_, _| {})
}

fn partition(disk: &Disk, number: u8, bytes: usize) -> Vec<u8> {
    let region = disk.partition(number).unwrap();
    let mut content = vec![0; bytes];
    disk.read(region, 0, &mut content).unwrap();
    content
}

fn holds_the_update(disk: &Disk) -> bool {
    partition(disk, 3, boot().len()) == boot() && partition(disk, 6, root().len()) == root()
}

/// What must hold of a disk whatever was done to it while `before` was on it: the environment says A, everything but B
/// is as it was, and B can be tried only when it is whole.
fn assert_safe(bytes: &[u8], start: &[u8], told: &str) {
    let (_, disk) = disk_of(bytes.to_vec());
    let state = disk.state().unwrap();
    assert_eq!((state.committed, state.trial, &state.a), (SlotName::A, None, &before().a), "{told}");
    let environment = slot::environment::COPY_OFFSETS.map(|offset| Region { offset, bytes: 512 });
    let slot = [3, 6].map(|number| disk.partition(number).unwrap());
    // In the order of the disk; what lies between them may not change.
    let mut begin = 0;
    for Region { offset, bytes: length } in environment.into_iter().chain(slot) {
        let between = begin..usize::try_from(offset).unwrap();
        assert!(bytes[between.clone()] == start[between.clone()], "{told}: something in {between:?} changed");
        begin = usize::try_from(offset + length).unwrap();
    }
    assert!(bytes[begin..] == start[begin..], "{told}: something behind {begin} changed");
    let tried = state.try_(SlotName::B).is_ok();
    match &state.b {
        Content::Ready(version) if version == VERSION => assert!(tried && holds_the_update(&disk), "{told}"),
        // The old system is still promised, so it must still be there.
        Content::Ready(_) => {
            let (_, old) = disk_of(start.to_vec());
            let same = |number, bytes| partition(&disk, number, bytes) == partition(&old, number, bytes);
            assert!(same(3, 16 << 10) && same(6, 32 << 10), "{told}: {}", state.b);
        }
        content => assert!(!tried && *content == Content::Writing, "{told}"),
    }
}

#[test]
fn a_bundle_is_installed_into_the_idle_slot() {
    for signature in [SIGNATURE, LEGACY] {
        let start = fresh();
        let (medium, disk) = disk_of(start.clone());
        let mut told = Vec::new();
        let mut tell = |done, total| told.push((done, total));
        let bundle = bundle_signed(signature);
        let installed = install(&mut &*bundle, &disk, BOARD, &key(), SlotName::A, &mut tell).unwrap();
        assert_eq!(installed, Installed { slot: SlotName::B, version: VERSION.into(), bytes: 23_322 });
        assert!(holds_the_update(&disk));
        assert_eq!(disk.state().unwrap(), SlotState { b: Content::Ready(VERSION.into()), ..before() });
        assert!(told.is_sorted() && told.last() == Some(&(46_644, 46_644)), "{told:?}");
        assert_safe(&medium.after_cut(0), &start, "whole");
    }
}

#[test]
fn the_other_slot_is_written_when_b_is_committed() {
    let (_, disk) = disk_of(fresh());
    disk.set_state(&SlotState { committed: SlotName::B, ..before() }).unwrap();
    let installed = install(&mut &*bundle(), &disk, BOARD, &key(), SlotName::B, &mut |_, _| {}).unwrap();
    assert_eq!(installed.slot, SlotName::A);
    assert_eq!((partition(&disk, 2, 3001), partition(&disk, 5, 20_321)), (boot(), root()));
}

/// Installs what must be refused before anything is written.
fn refused(bundle: &[u8], board: &str, key: &PublicKey, running: SlotName) -> Error {
    let (medium, disk) = disk_of(fresh());
    let error = install(&mut &*bundle, &disk, board, key, running, &mut |_, _| panic!("progress")).unwrap_err();
    assert_eq!(medium.operations(), 0, "{error}");
    error
}

#[test]
fn what_is_refused_is_refused_before_anything_is_written() {
    let other = PublicKey::decode(include_str!("fixtures/other.pub")).unwrap();
    let error = refused(&bundle(), BOARD, &other, SlotName::A);
    assert!(matches!(error, Error::Signature(_)) && error.is_verification(), "{error}");
    let error = refused(&bundle(), "raspberry-pi-5", &key(), SlotName::A);
    assert!(matches!(error, Error::Board { .. }) && error.to_string().contains("`raspberry-pi-5`"), "{error}");
    let error = refused(&bundle(), BOARD, &key(), SlotName::B);
    assert!(matches!(error, Error::Slot(slot::Error::Refused(_))), "{error}");

    let changed = String::from_utf8_lossy(MANIFEST).replace("1.2.0", "6.6.6");
    let head = |manifest: &[u8], signature: &[u8]| {
        tar_of(&[("manifest.json", manifest), ("manifest.json.minisig", signature), ("boot.vfat", &boot())])
    };
    for (manifest, signature) in [(changed.as_bytes(), SIGNATURE), (MANIFEST, b""), (MANIFEST, b"\xff\n\n\n\n")] {
        let error = refused(&head(manifest, signature), BOARD, &key(), SlotName::A);
        assert!(error.is_verification(), "{error}");
    }
    let long = refused(&head(&vec![b' '; (64 << 10) + 1], SIGNATURE), BOARD, &key(), SlotName::A);
    assert!(matches!(long, Error::TooLong { name: "manifest.json", .. }), "{long}");
    let long = refused(&head(MANIFEST, &[b' '; 4097]), BOARD, &key(), SlotName::A);
    assert!(matches!(long, Error::TooLong { name: "manifest.json.minisig", .. }), "{long}");
}

#[test]
fn entries_of_another_name_order_kind_or_size_are_refused() {
    let (boot, root) = (boot(), root());
    let entry = |files: &[(&str, &[u8])]| refused(&tar_of(files), BOARD, &key(), SlotName::A).to_string();
    let (manifest, signature) = (("manifest.json", MANIFEST), ("manifest.json.minisig", SIGNATURE));
    assert!(entry(&[]).contains("the end where manifest.json"));
    assert!(entry(&[signature, manifest]).contains("manifest.json.minisig"));
    assert!(entry(&[("./manifest.jso\u{7}", MANIFEST)]).contains("manifest.jso\\u{7}"));
    assert!(entry(&[manifest, signature, ("root.squashfs", &root)]).contains("root.squashfs"));
    assert!(entry(&[manifest, signature, ("boot.vfat", &boot[1..])]).contains("3000 bytes"));
    // A name too long for ustar becomes an entry of GNU's kind, whose content is the name: it is not followed.
    let long = "x".repeat(4000);
    assert!(entry(&[(&long, b"")]).contains("GNULongName"));

    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_link(&mut header, "manifest.json", "/etc/shadow").unwrap();
    let error = refused(&builder.into_inner().unwrap(), BOARD, &key(), SlotName::A).to_string();
    assert!(error.contains("Symlink"), "{error}");

    // One entry too many is found after the parts: the slot stays `writing`.
    let (_, disk) = disk_of(fresh());
    let more = tar_of(&[manifest, signature, ("boot.vfat", &boot), ("root.squashfs", &root), ("more", b"")]);
    assert!(matches!(install_on(&disk, &more), Err(Error::Entry { .. })));
    assert_eq!(disk.state().unwrap().b, Content::Writing);
}

#[test]
fn a_part_larger_than_its_partition_is_refused() {
    let (_, disk) = disk_of(fresh());
    let json = String::from_utf8_lossy(MANIFEST).replace("20321", "32769");
    let manifest: Manifest = serde_json::from_str(&json).unwrap();
    let error = places(&manifest, &disk, SlotName::B).unwrap_err().to_string();
    assert!(error.contains("root.squashfs has 32769 bytes; partition 6 holds 32768"), "{error}");
}

#[test]
fn a_truncated_bundle_is_an_error_at_every_97th_byte() {
    let (start, bundle) = (fresh(), bundle());
    assert_eq!(&bundle[PARTS_AT..PARTS_AT + 9], b"boot.vfat");
    for length in (0..bundle.len()).step_by(97) {
        let (medium, disk) = disk_of(start.clone());
        let result = install_on(&disk, &bundle[..length]);
        // Of tar's end, two blocks and more of zeros, one is enough: everything that was signed is there.
        assert_eq!(result.is_ok(), length >= PARTS_END + 512, "{length}");
        if length < PARTS_AT + 512 {
            assert_eq!(medium.operations(), 0, "{length}");
        } else if result.is_err() {
            assert_eq!(disk.state().unwrap().b, Content::Writing, "{length}");
        }
        assert_safe(&medium.after_cut(1), &start, &format!("{length} bytes"));
    }
}

#[test]
fn a_damaged_bundle_is_refused_or_was_not_damaged_where_it_matters() {
    let (start, whole) = (fresh(), bundle());
    let mut random = Random::new(5);
    let (mut early, mut late) = (0, 0);
    for round in 0..600 {
        let mut damaged = whole.clone();
        // Half of the wounds in the head, where the structure is.
        let range = if round % 2 == 0 { PARTS_AT + 512 } else { PARTS_END };
        let at = random.below(range);
        damaged[at] ^= 1 << random.below(8);
        let (medium, disk) = disk_of(start.clone());
        match install_on(&disk, &damaged) {
            // A date, an owner, padding, a comment: nothing that is installed.
            Ok(_) => assert!(holds_the_update(&disk), "byte {at}"),
            Err(error) if at < PARTS_AT + 512 => {
                early += 1;
                assert_eq!(medium.operations(), 0, "byte {at}: {error}");
            }
            Err(_) => {
                late += 1;
                assert_eq!(disk.state().unwrap().b, Content::Writing, "byte {at}");
            }
        }
        assert_safe(&medium.after_cut(1), &start, &format!("byte {at}"));
    }
    assert!(early > 100 && late > 100, "{early} {late}");
}

#[test]
fn a_source_that_fails_midway_leaves_the_slot_unusable() {
    let (_, disk) = disk_of(fresh());
    let whole = bundle();
    let mut source = whole[..9000].chain(Broken);
    let error = install(&mut source, &disk, BOARD, &key(), SlotName::A, &mut |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("connection reset"), "{error}");
    assert_eq!(disk.state().unwrap().b, Content::Writing);
    install_on(&disk, &whole).unwrap();
    assert_eq!(disk.state().unwrap().b, Content::Ready(VERSION.into()));
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

/// The environment is on the disk before the first byte of a part, and says `ready:` after everything else.
#[test]
fn the_slot_is_marked_first_and_last() {
    let (medium, disk) = disk_of(fresh());
    install_on(&disk, &bundle()).unwrap();
    let copies = slot::environment::COPY_OFFSETS;
    let offsets = medium.write_offsets();
    let (first, rest) = offsets.split_at(2);
    let (parts, last) = rest.split_at(rest.len() - 2);
    assert_eq!((first, last), (&copies[..], &copies[..]));
    assert!(parts.len() == 6 && parts.iter().all(|offset| !copies.contains(offset)), "{parts:?}");
}

#[test]
fn a_disk_that_keeps_something_else_is_found_out() {
    let (medium, disk) = disk_of(fresh());
    let at = disk.partition(6).unwrap().offset + 5000;
    medium.wear_out(at);
    let error = install_on(&disk, &bundle()).unwrap_err();
    assert!(matches!(error, Error::ReadBack { partition: 6, .. }) && error.is_verification(), "{error}");
    assert_eq!(disk.state().unwrap().b, Content::Writing);
}

/// Cuts the power at one point of an update, checks the disk, and then installs again: with a second cut, and without.
fn survives(start: &[u8], bundle: &[u8], cut: &dyn Fn(&PowerCut), seed: u64, told: &str) {
    let (medium, disk) = disk_of(start.to_vec());
    cut(&medium);
    assert!(install_on(&disk, bundle).is_err(), "{told}");
    let once = medium.after_cut(seed);
    assert_safe(&once, start, told);
    let (medium, disk) = disk_of(once);
    medium.cut_at_operation(usize::try_from(seed % 7).unwrap());
    let _ = install_on(&disk, bundle);
    let twice = medium.after_cut(seed + 1);
    assert_safe(&twice, start, told);
    let (medium, disk) = disk_of(twice);
    install_on(&disk, bundle).unwrap();
    assert_safe(&medium.after_cut(0), start, told);
    assert_eq!(disk.state().unwrap().b, Content::Ready(VERSION.into()), "{told}");
}

#[test]
fn power_may_be_cut_at_every_operation() {
    let (start, bundle) = (fresh(), bundle());
    let (medium, disk) = disk_of(start.clone());
    install_on(&disk, &bundle).unwrap();
    let operations = medium.operations();
    // Two marks of two copies (a write and a sync each), six pieces, three syncs.
    assert_eq!(operations, 8 + 6 + 3);
    for count in 0..operations {
        for seed in 0..8 {
            survives(&start, &bundle, &|medium| medium.cut_at_operation(count), seed, &format!("{count}/{seed}"));
        }
    }
}

#[test]
fn power_may_be_cut_at_any_byte() {
    let (start, bundle) = (fresh(), bundle());
    let (medium, disk) = disk_of(start.clone());
    install_on(&disk, &bundle).unwrap();
    let written = usize::try_from(medium.bytes_written()).unwrap();
    let mut random = Random::new(9);
    for round in 0..300 {
        // Half of them in the marks before and after the parts, which are a tenth of the bytes.
        let at = match round % 4 {
            0 => random.below(1024),
            1 => written - 1 - random.below(1024),
            _ => random.below(written),
        };
        survives(&start, &bundle, &|medium| medium.cut_at_byte(at), random.bits() >> 8, &format!("byte {at}"));
    }
}

#[test]
fn keys_are_read_from_minisigns_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("update.pub");
    let wrong = |text: &str| {
        std::fs::write(&path, text).unwrap();
        load_key(&path).unwrap_err().to_string()
    };
    for text in ["", "one line", "untrusted comment: x\nnot base64", SIGNATURE_TEXT] {
        assert!(wrong(text).contains("update.pub"), "{text}");
    }
    std::fs::write(&path, KEY).unwrap();
    assert_eq!(load_key(&path).unwrap(), key());
    assert!(matches!(load_key(Path::new("/nowhere")), Err(Error::Key { .. })));
}

/// A signature in the place of a key.
const SIGNATURE_TEXT: &str = include_str!("fixtures/legacy.minisig");
