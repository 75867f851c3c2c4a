//! Decoding and suppression of a YOLOv8n output, 80 classes and 8,400 anchors: a quiet frame and a crowded one.

use firstlight::engine::TensorView;
use firstlight::model::family::objects::Rows;
use firstlight::model::family::yolov8::YoloV8;
use firstlight::model::nms::{Candidate, ClassicSuppressor, StandardSuppressor};
use firstlight::model::{Bound, Threshold};

const CLASSES: usize = 80;
const ANCHORS: usize = 8_400;
const SHAPE: [usize; 2] = [4 + CLASSES, ANCHORS];

fn main() {
    divan::main();
}

/// An output in which `confident` anchors, spread over image and classes, reach 0.5 and more.
fn output(confident: usize) -> Vec<f32> {
    let mut data = vec![0.01; SHAPE.iter().product()];
    for anchor in 0..ANCHORS {
        let (x, y) = (anchor % 92 * 7, anchor / 92 * 7);
        for (row, value) in [x, y, 40 + anchor % 30, 40 + anchor % 20].into_iter().enumerate() {
            data[row * ANCHORS + anchor] = value as f32;
        }
    }
    for i in 0..confident {
        let anchor = i * ANCHORS / confident;
        data[(4 + i % CLASSES) * ANCHORS + anchor] = 0.5 + (i % 50) as f32 / 100.0;
    }
    data
}

fn decoder() -> YoloV8 {
    YoloV8::new(&[SHAPE.to_vec()], CLASSES, 0, Bound::AtLeast).expect("the shape of YOLOv8n")
}

/// What the classic engine does at its default thresholds.
#[divan::bench(args = [50, 3_000])]
fn decode_and_suppress(bencher: divan::Bencher<'_, '_>, confident: usize) {
    let data = output(confident);
    let (mut decoder, mut suppressor, mut candidates) = (decoder(), ClassicSuppressor::default(), Vec::new());
    bencher.bench_local(|| {
        candidates.clear();
        decoder.candidates(&[TensorView { shape: &SHAPE, data: &data }], &Threshold::uniform(0.4), &mut candidates);
        suppressor.run(&mut candidates, 0.3, false, 300);
        candidates.len()
    });
}

/// What the default engine does at its default thresholds.
#[divan::bench(args = [50, 900, 3_000])]
fn decode_and_suppress_by_iou(bencher: divan::Bencher<'_, '_>, confident: usize) {
    let data = output(confident);
    let (mut decoder, mut suppressor, mut candidates) = (decoder(), StandardSuppressor::default(), Vec::new());
    bencher.bench_local(|| {
        candidates.clear();
        decoder.candidates(&[TensorView { shape: &SHAPE, data: &data }], &Threshold::uniform(0.4), &mut candidates);
        suppressor.run(&mut candidates, 0.3, false, 300);
        candidates.len()
    });
}

fn crowd() -> Vec<Candidate> {
    let data = output(3_000);
    let mut all = Vec::new();
    decoder().candidates(&[TensorView { shape: &SHAPE, data: &data }], &Threshold::uniform(0.4), &mut all);
    all
}

/// One class only, so that every candidate meets every other.
#[divan::bench]
fn suppress_3000_of_one_class(bencher: divan::Bencher<'_, '_>) {
    let (all, mut suppressor, mut candidates) = (crowd(), ClassicSuppressor::default(), Vec::new());
    bencher.bench_local(|| {
        candidates.clone_from(&all);
        suppressor.run(&mut candidates, 0.3, true, 300);
        candidates.len()
    });
}

/// The same by IoU.
#[divan::bench]
fn suppress_3000_of_one_class_by_iou(bencher: divan::Bencher<'_, '_>) {
    let (all, mut suppressor, mut candidates) = (crowd(), StandardSuppressor::default(), Vec::new());
    bencher.bench_local(|| {
        candidates.clone_from(&all);
        suppressor.run(&mut candidates, 0.3, true, 300);
        candidates.len()
    });
}
