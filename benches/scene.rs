//! What a frame of the demo costs, beside what it costs merely to copy one.

use divan::Bencher;
use firstlight::{frame::Frame, source::demo::Conveyor};

fn main() {
    divan::main();
}

/// The belt in motion, with the parts that come onto it meanwhile.
#[divan::bench(sample_count = 500)]
fn render(bencher: Bencher) {
    let (mut conveyor, mut frame) = (Conveyor::new(1), Frame::empty());
    bencher.bench_local(|| conveyor.render(&mut frame));
}

/// The yardstick: 921,600 bytes from one buffer to another.
#[divan::bench(sample_count = 500)]
fn copy(bencher: Bencher) {
    let (mut conveyor, mut frame, mut other) = (Conveyor::new(1), Frame::empty(), Frame::empty());
    conveyor.render(&mut frame);
    bencher.bench_local(|| other.copy_from(&frame));
}

/// A new belt, with its texture, noise and first parts.
#[divan::bench(sample_count = 20)]
fn start() -> Conveyor {
    Conveyor::new(1)
}
