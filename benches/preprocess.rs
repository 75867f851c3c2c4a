//! What pre-processing costs: `cargo bench --bench preprocess`, one thread, the scalar loops beside the fastest ones.
//!
//! With `-- --plain` it prints `NAME MEDIAN_MS` lines instead, for `benches/opencv_letterbox.py`.

use std::time::{Duration, Instant};

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use firstlight::frame::contrast::{Contrast, ContrastFilter};
use firstlight::frame::resize::Kernel;
use firstlight::frame::{Antialias, Arithmetic, Frame, Levels, Placement, Resizer, Size, colour, decode, encode};

const NET: Size = Size::new(640, 640);

/// Camera pictures: a third and a half of them fit the network exactly, the last one does not.
const CAMERAS: [(usize, usize); 3] = [(1920, 1080), (1280, 720), (1600, 1200)];

fn main() {
    if std::env::args().any(|argument| argument == "--plain") {
        plain();
    } else {
        divan::main();
    }
}

fn noise(width: usize, height: usize) -> Frame {
    let mut state = 7u64;
    let pixels = (0..width * height * 3).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[1]
    });
    Frame::from_rgb(width, height, pixels.collect())
}

fn planes() -> Vec<f32> {
    vec![0.0; NET.width * NET.height * 3]
}

fn letterbox(bencher: Bencher, camera: (usize, usize), kernel: Kernel) {
    let (frame, mut out) = (noise(camera.0, camera.1), planes());
    let mut resizer = Resizer::with_kernel(kernel);
    bencher
        .counter(ItemsCount::new(1u32))
        .bench_local(|| resizer.letterbox_chw(black_box(frame.view()), NET, 114, black_box(&mut out)).unwrap());
}

#[divan::bench(args = CAMERAS)]
fn letterbox_scalar(bencher: Bencher, camera: (usize, usize)) {
    letterbox(bencher, camera, Kernel::SCALAR);
}

#[divan::bench(args = CAMERAS)]
fn letterbox_fastest(bencher: Bencher, camera: (usize, usize)) {
    letterbox(bencher, camera, Kernel::detect());
}

fn stretch(bencher: Bencher, kernel: Kernel) {
    let (frame, mut out) = (noise(1920, 1080), planes());
    let mut resizer = Resizer::with_kernel(kernel);
    bencher.bench_local(|| {
        resizer.stretch_chw(black_box(frame.view()), NET, Arithmetic::Float, black_box(&mut out)).unwrap()
    });
}

#[divan::bench]
fn stretch_float_scalar(bencher: Bencher) {
    stretch(bencher, Kernel::SCALAR);
}

#[divan::bench]
fn stretch_float_fastest(bencher: Bencher) {
    stretch(bencher, Kernel::detect());
}

fn resize(bencher: Bencher, kernel: Kernel) {
    let (frame, mut out) = (noise(1920, 1080), Frame::empty());
    let mut resizer = Resizer::with_kernel(kernel);
    bencher.bench_local(|| resizer.resize(black_box(frame.view()), NET, black_box(&mut out)).unwrap());
}

#[divan::bench]
fn resize_bytes_scalar(bencher: Bencher) {
    resize(bencher, Kernel::SCALAR);
}

#[divan::bench]
fn resize_bytes_fastest(bencher: Bencher) {
    resize(bencher, Kernel::detect());
}

/// What RF-DETR has: to a smaller square, with Pillow's filter and then by table, or by table and then as floats.
const DETR: Size = Size::new(384, 384);

fn levels() -> Levels {
    Levels::new([0, 1, 2], |_, level| (level / 255.0 - 0.45) / 0.225)
}

#[divan::bench]
fn antialias_and_levels(bencher: Bencher) {
    let (frame, mut out, mut resized) = (noise(1920, 1080), vec![0.0; DETR.width * DETR.height * 3], Frame::empty());
    let (mut antialias, levels, placement) = (Antialias::default(), levels(), Placement::stretch(DETR));
    bencher.bench_local(|| {
        antialias.resize(black_box(frame.view()), DETR, &mut resized).unwrap();
        levels.place(resized.view(), placement, [0.0; 3], black_box(&mut out)).unwrap();
    });
}

#[divan::bench]
fn levels_as_floats(bencher: Bencher) {
    let (frame, mut out) = (noise(1920, 1080), vec![0.0; DETR.width * DETR.height * 3]);
    let (mut resizer, levels, placement) = (Resizer::new(), levels(), Placement::stretch(DETR));
    bencher.bench_local(|| {
        resizer.place_levels(black_box(frame.view()), &levels, placement, 0.0, black_box(&mut out)).unwrap();
    });
}

#[divan::bench]
fn grey(bencher: Bencher) {
    let mut frame = noise(1920, 1080);
    bencher.bench_local(|| colour::grey_in_place(black_box(&mut frame)));
}

#[divan::bench(args = [Contrast::Stretching, Contrast::Histogram, Contrast::Adaptive])]
fn contrast(bencher: Bencher, contrast: Contrast) {
    let (mut frame, mut filter) = (noise(1920, 1080), ContrastFilter::default());
    bencher.bench_local(|| filter.apply(contrast, black_box(&mut frame)));
}

#[divan::bench(args = [Contrast::Histogram, Contrast::Adaptive])]
fn contrast_in_colour(bencher: Bencher, contrast: Contrast) {
    let (mut frame, mut filter) = (noise(1920, 1080), ContrastFilter::default());
    bencher.bench_local(|| filter.apply_in_colour(contrast, black_box(&mut frame)));
}

/// A smooth picture, as JPEG knows them; noise would measure the entropy coder.
fn smooth() -> Frame {
    let pixels = (0..1280 * 720usize).flat_map(|i| {
        let (x, y) = (i % 1280, i / 1280);
        [x / 6, y / 4, (x + y) / 8].map(|level| u8::try_from(level % 256).unwrap())
    });
    Frame::from_rgb(1280, 720, pixels.collect())
}

#[divan::bench]
fn jpeg_encode_720p(bencher: Bencher) {
    let (frame, mut out) = (smooth(), Vec::new());
    bencher.bench_local(|| encode::encode_jpeg(black_box(&frame), 80, &mut out).unwrap());
}

#[divan::bench]
fn jpeg_decode_720p(bencher: Bencher) {
    let (mut file, mut frame) = (Vec::new(), Frame::empty());
    encode::encode_jpeg(&smooth(), 80, &mut file).unwrap();
    let (orientation, limits) = (decode::Orientation::Apply, decode::Limits::default());
    bencher.bench_local(|| decode::decode_into(black_box(&file), orientation, limits, &mut frame).unwrap());
}

/// Median over two seconds of the letterbox and the float stretch, for every camera and kernel.
fn plain() {
    for (width, height) in CAMERAS {
        let (frame, mut out) = (noise(width, height), planes());
        for kernel in [Kernel::SCALAR, Kernel::detect()] {
            let mut resizer = Resizer::with_kernel(kernel);
            let median = median_ms(|| {
                resizer.letterbox_chw(black_box(frame.view()), NET, 114, black_box(&mut out)).unwrap();
            });
            println!("letterbox_{width}x{height}_{} {median:.4}", kernel.name());
            let median = median_ms(|| {
                resizer.stretch_chw(black_box(frame.view()), NET, Arithmetic::Float, black_box(&mut out)).unwrap();
            });
            println!("stretch_{width}x{height}_{} {median:.4}", kernel.name());
        }
    }
}

fn median_ms(mut run: impl FnMut()) -> f64 {
    let started = Instant::now();
    let mut times = Vec::new();
    while started.elapsed() < Duration::from_secs(2) {
        let before = Instant::now();
        run();
        times.push(before.elapsed());
    }
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}
