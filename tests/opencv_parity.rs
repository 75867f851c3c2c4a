//! Our pixels against those of OpenCV, numpy, scikit-image and Pillow themselves, on seeded noise of many odd sizes.
//!
//! Needs a Python with `opencv-python-headless` 4.12, numpy and scikit-image, which brings Pillow; the environment variable `FIRSTLIGHT_OPENCV_PYTHON` names it. Without it the test says so and compares nothing.

use std::io::{BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use firstlight::frame::contour::{Bitmap, Corner, Tracer};
use firstlight::frame::contrast::{Contrast, ContrastFilter};
use firstlight::frame::{
    Antialias, Arithmetic, Frame, Levels, Limits, Placement, RawFormat, RawLayout, Region, Resizer, Size, colour,
};
use firstlight::random::Random;
use sha2::{Digest, Sha256};

const PYTHON: &str = "FIRSTLIGHT_OPENCV_PYTHON";

/// A Python process that answers jobs.
struct Reference {
    child: Child,
    jobs: ChildStdin,
    results: BufReader<ChildStdout>,
}

impl Reference {
    fn start() -> Option<Self> {
        let Some(python) = std::env::var_os(PYTHON) else {
            eprintln!("NOT RUN: {PYTHON} does not name a Python with cv2, so nothing was compared with OpenCV");
            return None;
        };
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/opencv_parity.py");
        let mut child = Command::new(&python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{PYTHON}={}: {error}", python.display()));
        let jobs = child.stdin.take().expect("piped");
        let results = BufReader::new(child.stdout.take().expect("piped"));
        Some(Self { child, jobs, results })
    }

    fn ask(&mut self, operation: &str, frame: &Frame, size: Size, result_bytes: usize) -> Vec<u8> {
        let (width, height) = (frame.width(), frame.height());
        writeln!(self.jobs, "{operation} {width} {height} {} {}", size.width, size.height).expect("the reference runs");
        self.jobs.write_all(frame.pixels()).expect("the reference runs");
        self.jobs.flush().expect("the reference runs");
        let mut result = vec![0; result_bytes];
        self.results.read_exact(&mut result).expect("the reference answers");
        result
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Noise(Random);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0.bits()
    }

    fn side(&mut self, longest: u64) -> usize {
        usize::try_from(1 + self.next() % longest).unwrap()
    }

    /// Full-range noise, or a narrow range of levels so that contrast steps have something to do.
    fn frame(&mut self, width: usize, height: usize) -> Frame {
        let (narrow, floor) = (self.next().is_multiple_of(2), self.next().to_le_bytes()[0] / 2);
        let pixels = (0..width * height * 3).map(|_| {
            let [level, other, ..] = self.next().to_le_bytes();
            if narrow { floor + level % 40 + other % 30 } else { level }
        });
        Frame::from_rgb(width, height, pixels.collect())
    }
}

#[rustfmt::skip]
const SIZES: [(usize, usize); 14] = [
    (1, 1), (1, 9), (9, 1), (2, 2), (7, 5), (8, 8), (16, 9), (37, 23), (64, 64), (64, 41), (97, 141), (320, 240),
    (641, 427), (1280, 720),
];

fn sizes(noise: &mut Noise) -> Vec<(usize, usize)> {
    let random = (0..40).map(|_| (noise.side(300), noise.side(200)));
    SIZES.into_iter().chain(random).collect()
}

/// Pairs of a size and a new one; exact halves, thirds and copies among them.
fn resizes(noise: &mut Noise) -> Vec<((usize, usize), Size)> {
    let mut pairs = Vec::new();
    for (width, height) in sizes(noise) {
        pairs.push(((width, height), Size::new(noise.side(700), noise.side(400))));
        pairs.push(((width * 2, height * 2), Size::new(width, height)));
        pairs.push(((width, height), Size::new(width, noise.side(50))));
        pairs.push(((width, height), Size::new(width * 2, height * 2)));
    }
    pairs.push(((1920, 1080), Size::new(640, 360)));
    pairs.push(((1919, 1081), Size::new(640, 641)));
    pairs.push(((4000, 31), Size::new(641, 333)));
    pairs.push(((4000, 1), Size::new(641, 3)));
    pairs.push(((1, 1000), Size::new(2, 641)));
    pairs
}

#[test]
fn resize_of_bytes_is_opencvs() {
    let Some(mut opencv) = Reference::start() else { return };
    let mut noise = Noise(Random::new(11));
    let (mut resizer, mut result) = (Resizer::new(), Frame::empty());
    for ((width, height), size) in resizes(&mut noise) {
        let frame = noise.frame(width, height);
        resizer.resize(frame.view(), size, &mut result).unwrap();
        let expected = opencv.ask("resize", &frame, size, result.pixels().len());
        assert!(result.pixels() == expected, "{width}x{height} to {size:?}");
    }
}

#[test]
fn antialiased_resize_is_pillows() {
    let Some(mut pillow) = Reference::start() else { return };
    let mut noise = Noise(Random::new(14));
    let (mut antialias, mut result) = (Antialias::default(), Frame::empty());
    for ((width, height), size) in resizes(&mut noise) {
        let frame = noise.frame(width, height);
        antialias.resize(frame.view(), size, &mut result).unwrap();
        let expected = pillow.ask("antialias", &frame, size, result.pixels().len());
        assert!(result.pixels() == expected, "{width}x{height} to {size:?}");
    }
}

/// Bit for bit where the wheel uses Intel's IPP, as Roboflow's x86 images do.
fn compare_floats(operation: &str, mut resize: impl FnMut(&mut Resizer, &Frame, Size, &mut [f32])) {
    if !cfg!(target_arch = "x86_64") {
        eprintln!("NOT RUN: only the x86-64 wheels of OpenCV hold IPP, whose float resize is the reference");
        return;
    }
    let Some(mut opencv) = Reference::start() else { return };
    let mut noise = Noise(Random::new(12));
    let mut resizer = Resizer::new();
    for ((width, height), size) in resizes(&mut noise) {
        let frame = noise.frame(width, height);
        let plane = size.width * size.height;
        let mut out = vec![0.0; plane * 3];
        resize(&mut resizer, &frame, size, &mut out);
        let expected = opencv.ask(operation, &frame, size, plane * 12);
        for (i, expected) in expected.as_chunks::<4>().0.iter().enumerate() {
            let (expected, found) = (f32::from_le_bytes(*expected), out[i % 3 * plane + i / 3]);
            assert!(expected == found, "{width}x{height} to {size:?}, value {i}: {found}, expected {expected}");
        }
    }
}

#[test]
fn resize_of_floats_is_opencvs() {
    compare_floats("resize_float", |resizer, frame, size, out| {
        resizer.stretch_chw(frame.view(), size, Arithmetic::Float, out).unwrap();
    });
}

#[test]
fn resize_of_normalised_levels_is_opencvs() {
    let (mean, deviation) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    let levels = Levels::new([0, 1, 2], |plane, level| (level / 255.0 - mean[plane]) / deviation[plane]);
    compare_floats("resize_normalised", |resizer, frame, size, out| {
        resizer.place_levels(frame.view(), &levels, Placement::stretch(size), 0.0, out).unwrap();
    });
}

fn compare(operation: &str, mut change: impl FnMut(&mut Frame)) {
    let Some(mut opencv) = Reference::start() else { return };
    let mut noise = Noise(Random::new(13));
    for (width, height) in sizes(&mut noise) {
        let mut frame = noise.frame(width, height);
        let expected = opencv.ask(operation, &frame, frame.size(), frame.pixels().len());
        change(&mut frame);
        assert!(frame.pixels() == expected, "{operation} of {width}x{height}");
    }
}

#[test]
fn grey_is_opencvs() {
    compare("grey", colour::grey_in_place);
}

#[test]
fn contrast_stretching_is_scikit_images() {
    let mut filter = ContrastFilter::default();
    compare("stretching", |frame| filter.apply(Contrast::Stretching, frame));
}

#[test]
fn histogram_equalization_is_opencvs() {
    let mut filter = ContrastFilter::default();
    compare("histogram", |frame| filter.apply(Contrast::Histogram, frame));
}

#[test]
fn adaptive_equalization_is_opencvs() {
    let mut filter = ContrastFilter::default();
    compare("adaptive", |frame| filter.apply(Contrast::Adaptive, frame));
}

#[test]
fn histogram_equalization_in_colour_is_scikit_images() {
    let mut filter = ContrastFilter::default();
    compare("histogram_in_colour", |frame| filter.apply_in_colour(Contrast::Histogram, frame));
}

#[test]
fn adaptive_equalization_in_colour_is_scikit_images() {
    let mut filter = ContrastFilter::default();
    compare("adaptive_in_colour", |frame| filter.apply_in_colour(Contrast::Adaptive, frame));
}

/// Pictures of a camera, whose rows may be padded. `rows_of` and `row_bytes_of` say how many there are and how long,
/// of a picture's height and width.
fn compare_camera(
    operation: &str,
    format: RawFormat,
    rows_of: impl Fn(usize) -> usize,
    row_bytes_of: impl Fn(usize) -> usize,
) {
    let Some(mut opencv) = Reference::start() else { return };
    let mut noise = Noise(Random::new(15));
    let mut found = Frame::empty();
    for (width, height) in sizes(&mut noise) {
        // Even sides, as cameras have.
        let size = Size::new(width.next_multiple_of(2), height.next_multiple_of(2));
        let padding = noise.side(20) - 1;
        let carrier = noise.frame(row_bytes_of(size.width).div_ceil(3) + padding, rows_of(size.height));
        let layout = RawLayout::new(format, size, carrier.width() * 3, Limits::default()).unwrap();
        layout.read(carrier.pixels(), &mut found).unwrap();
        let expected = opencv.ask(operation, &carrier, size, found.pixels().len());
        assert!(found.pixels() == expected, "{operation} of {size:?} in rows of {} bytes", carrier.width() * 3);
    }
}

#[test]
fn yuyv_of_a_camera_is_opencvs() {
    compare_camera("camera_yuyv", RawFormat::Yuyv, |height| height, |width| width * 2);
}

#[test]
fn nv12_of_a_camera_is_opencvs() {
    compare_camera("camera_nv12", RawFormat::Nv12, |height| height + height / 2, |width| width);
}

#[test]
fn grey_of_a_camera_is_opencvs() {
    compare_camera("camera_grey", RawFormat::Grey, |height| height, |width| width);
}

/// Noise of any density, blobs, lines, frames of rectangles, everything and nothing.
fn mask(noise: &mut Noise, width: usize, height: usize) -> Vec<bool> {
    let kind = noise.next() % 6;
    let density = noise.next() % 256;
    let coarse: Vec<bool> = (0..width * height).map(|_| noise.next() % 256 < density).collect();
    let scale = noise.side(9);
    let (step, phase) = (noise.side(7), noise.side(7));
    let at = |x: usize, y: usize| coarse[y * width + x];
    let value = |x: usize, y: usize| match kind {
        0 | 1 => at(x, y),
        2 => at(x / scale, y / scale),
        3 => (x + y * phase).is_multiple_of(step + 1),
        4 => x.min(width - 1 - x).min(y.min(height - 1 - y)) % (step + 1) == phase % (step + 1),
        _ => density < 128,
    };
    (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| value(x, y)).collect()
}

#[test]
fn outlines_are_opencvs() {
    let Some(mut opencv) = Reference::start() else { return };
    let mut noise = Noise(Random::new(14));
    let (mut bitmap, mut tracer) = (Bitmap::default(), Tracer::default());
    for _ in 0..3000 {
        let (width, height) = (noise.side(40), noise.side(40));
        let mask = mask(&mut noise, width, height);
        bitmap.reset(Region { left: 0, top: 0, width, height });
        for (y, row) in mask.chunks_exact(width).enumerate() {
            bitmap.row_mut(y).iter_mut().zip(row).for_each(|(cell, &set)| *cell = i8::from(set));
        }
        let mut again = bitmap.clone();
        let mut found: Vec<Vec<Corner>> = Vec::new();
        tracer.each(&mut bitmap, |outline| found.push(outline.to_vec()));
        found.reverse();
        let mut digest = Sha256::new();
        for outline in &found {
            digest.update(u32::try_from(outline.len()).unwrap().to_le_bytes());
            outline.iter().flatten().for_each(|side| digest.update(side.to_le_bytes()));
        }
        let pixels = mask.iter().flat_map(|&set| [u8::from(set) * 255; 3]).collect();
        let frame = Frame::from_rgb(width, height, pixels);
        let expected = opencv.ask("outlines", &frame, Size::new(0, 0), 32);
        assert!(digest.finalize()[..] == expected, "{width}x{height}: {mask:?} gives {found:?}");
        // Roboflow's choice: numpy's argmax, the first of the longest.
        let most = found.iter().map(Vec::len).max().unwrap_or(0);
        let longest = found.iter().find(|outline| outline.len() == most).map_or(&[][..], |outline| outline);
        assert_eq!(tracer.longest(&mut again), longest);
    }
}
