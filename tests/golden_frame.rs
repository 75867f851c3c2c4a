//! Pixels against the golden answers of Roboflow Inference: decoded pictures, and the network inputs made of them.
//!
//! The answers lie outside the repository, in `golden/` of the directory that `FIRSTLIGHT_SHARED` names (`../shared`
//! when unset). Without them these tests fail.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use firstlight::frame::contrast::{Contrast, ContrastFilter};
use firstlight::frame::decode::{Limits, Orientation, decode};
use firstlight::frame::{Arithmetic, CropPercent, Frame, Resizer, Size, colour};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn golden() -> PathBuf {
    let shared = std::env::var_os("FIRSTLIGHT_SHARED").map_or_else(|| PathBuf::from("../shared"), PathBuf::from);
    let golden = shared.join("golden");
    assert!(
        golden.is_dir(),
        "no golden answers at {}: set FIRSTLIGHT_SHARED to the directory that holds golden/",
        golden.display()
    );
    golden
}

fn json(path: &Path) -> Value {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bgr(frame: &Frame) -> Vec<u8> {
    frame.pixels().as_chunks::<3>().0.iter().flat_map(|&[red, green, blue]| [blue, green, red]).collect()
}

/// The pictures that may be copied; the others are only named in the answers.
fn read_image(golden: &Path, name: &str, orientation: Orientation) -> Option<Frame> {
    let bytes = std::fs::read(golden.join("images").join(name)).ok()?;
    Some(decode(&bytes, orientation, Limits::default()).unwrap_or_else(|error| panic!("{name}: {error}")))
}

#[test]
fn pictures_decode_as_in_opencv() {
    let golden = golden();
    let (mut exact, mut near) = (0, 0);
    for (name, facts) in json(&golden.join("images.json")).as_object().expect("an object") {
        let Some(frame) = read_image(&golden, name, Orientation::Apply) else { continue };
        let stored = read_image(&golden, name, Orientation::Ignore).expect("read above");
        let decoded = &facts["decoded"];
        assert_eq!(decoded["width"], frame.width(), "{name}");
        assert_eq!(decoded["height"], frame.height(), "{name}");
        if name.ends_with(".png") {
            assert_eq!(decoded["bgr_sha256"], sha256(&bgr(&frame)), "{name}");
            assert_eq!(decoded["ignore_orientation_bgr_sha256"], sha256(&bgr(&stored)), "{name}");
            exact += 1;
        } else {
            check_jpeg(name, decoded, &frame);
            near += 1;
        }
    }
    assert!(exact >= 10 && near >= 2, "{exact} PNG and {near} JPEG pictures in {}", golden.display());
}

/// JPEG decoders round differently; what is known of OpenCV's picture is its mean and first pixels.
fn check_jpeg(name: &str, decoded: &Value, frame: &Frame) {
    let bgr = bgr(frame);
    let same = decoded["bgr_sha256"] == sha256(&bgr);
    let mut worst_mean = 0.0f64;
    for channel in 0..3 {
        let sum: u64 = bgr.iter().skip(channel).step_by(3).map(|&level| u64::from(level)).sum();
        let mean = sum as f64 / (bgr.len() / 3) as f64;
        worst_mean = worst_mean.max((mean - decoded["mean_bgr"][channel].as_f64().unwrap()).abs());
    }
    let first = decoded["first_pixels_bgr"].as_array().expect("pixels").iter().flat_map(|p| p.as_array().unwrap());
    let worst_pixel = first.zip(&bgr).map(|(level, &found)| level.as_u64().unwrap().abs_diff(u64::from(found))).max();
    eprintln!("{name}: same {same}, means differ by {worst_mean:.4}, first pixels by {worst_pixel:?}");
    assert!(worst_mean < 0.5, "{name}: mean of a channel differs by {worst_mean}");
    assert!(worst_pixel.unwrap() <= 3, "{name}: a first pixel differs by {worst_pixel:?}");
}

/// Families whose input is the picture divided by 255 and nothing more.
fn plain(engine_class: &str) -> bool {
    let normalises = ["RFDETR", "Classification", "DeepLab"];
    !normalises.iter().any(|family| engine_class.contains(family))
}

fn enabled(case: &Value, step: &str, disable: &str) -> bool {
    case["preprocessing"][step]["enabled"] == true && case["request"][disable] != true
}

/// The steps of the classic engine before normalisation.
fn network_input(case: &Value, frame: &Frame, net: Size) -> Vec<f32> {
    let mut view = frame.view();
    if enabled(case, "static-crop", "disable_preproc_static_crop") {
        let bound = |name: &str| case["preprocessing"]["static-crop"][name].as_f64().unwrap();
        let [x_min, x_max, y_min, y_max] = ["x_min", "x_max", "y_min", "y_max"].map(bound);
        let region = CropPercent { x_min, x_max, y_min, y_max }.region(frame.size()).unwrap();
        view = view.crop(region).unwrap();
    }
    let mut work = Frame::empty();
    view.copy_to(&mut work);
    if enabled(case, "contrast", "disable_preproc_contrast") {
        let contrast = match case["preprocessing"]["contrast"]["type"].as_str().unwrap() {
            "Contrast Stretching" => Contrast::Stretching,
            "Histogram Equalization" => Contrast::Histogram,
            "Adaptive Equalization" => Contrast::Adaptive,
            other => panic!("contrast {other}"),
        };
        ContrastFilter::default().apply(contrast, &mut work);
    }
    if enabled(case, "grayscale", "disable_preproc_grayscale") {
        colour::grey_in_place(&mut work);
    }
    let mut out = vec![0.0; net.width * net.height * 3];
    let mut resizer = Resizer::new();
    let format = case["preprocessing"]["resize"]["format"].as_str().unwrap();
    let fill = match format {
        "Stretch to" => {
            resizer.stretch_chw(work.view(), net, Arithmetic::Float, &mut out).unwrap();
            return out;
        }
        "Fit (white edges) in" => 255,
        "Fit (grey edges) in" => 114,
        _ => 0,
    };
    resizer.letterbox_chw(work.view(), net, fill, &mut out).unwrap();
    out
}

#[test]
fn network_inputs_are_those_of_the_classic_engine() {
    let golden = golden();
    let mut pictures = HashMap::new();
    let mut exact: BTreeMap<String, usize> = BTreeMap::new();
    let (mut near, mut seen) = (0, HashMap::new());
    for entry in std::fs::read_dir(golden.join("cases")).expect("golden cases") {
        let path = entry.expect("a readable directory").path();
        if !path.file_name().unwrap().to_string_lossy().starts_with("classic.") {
            continue;
        }
        let case = json(&path);
        let input = &case["tensors"]["input"]["images"];
        let (Some(sha), true) = (input["sha256"].as_str(), plain(case["engine_class"].as_str().unwrap())) else {
            continue;
        };
        let image = case["image"].as_str().unwrap();
        let side = |axis: usize| usize::try_from(input["shape"][axis].as_u64().unwrap()).unwrap();
        let net = Size::new(side(3), side(2));
        // Many cases differ only in what happens after the network.
        if seen.insert((image.to_owned(), sha.to_owned()), ()).is_some() {
            continue;
        }
        let oriented = case["preprocessing"].get("auto-orient").is_some()
            && case["request"]["disable_preproc_auto_orient"] != true;
        let orientation = if oriented { Orientation::Apply } else { Orientation::Ignore };
        let picture =
            pictures.entry((image.to_owned(), oriented)).or_insert_with(|| read_image(&golden, image, orientation));
        let Some(picture) = picture else { continue };
        let found = network_input(&case, picture, net);
        if image.ends_with(".png") {
            let bytes: Vec<u8> = found.iter().flat_map(|value| value.to_le_bytes()).collect();
            assert_eq!(sha256(&bytes), sha, "{}: {}", case["case"], probes(input, &found));
            *exact.entry(case["preprocessing_label"].as_str().unwrap().to_owned()).or_default() += 1;
        } else {
            let mean = found.iter().map(|&value| f64::from(value)).sum::<f64>() / found.len() as f64;
            let difference = (mean - input["mean"].as_f64().unwrap()).abs();
            assert!(difference < 0.005, "{}: mean differs by {difference}", case["case"]);
            near += 1;
        }
    }
    eprintln!("bit-equal inputs of PNG pictures: {exact:?}; near ones of JPEG pictures: {near}");
    for label in ["fit-black", "fit-white", "fit-grey", "stretch", "crop", "contrast-adaptive", "grayscale"] {
        assert!(exact.contains_key(label), "no case of {label} in {}", golden.display());
    }
}

/// The largest difference at the values that a case records.
fn probes(input: &Value, found: &[f32]) -> String {
    let difference = |probe: &Value| {
        let at = usize::try_from(probe[0].as_u64().unwrap()).unwrap();
        (f64::from(found[at]) - probe[1].as_f64().unwrap()).abs()
    };
    let worst = input["probes"].as_array().expect("probes").iter().map(difference).fold(0.0, f64::max);
    format!("probes differ by at most {worst}")
}
