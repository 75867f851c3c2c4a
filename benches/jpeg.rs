//! JPEG in and out: what a file source and a viewer of the snapshot cost.

use firstlight::frame::{Frame, Limits, Orientation, decode, decode_into, encode_jpeg};

fn main() {
    divan::main();
}

fn golden() -> Frame {
    decode(include_bytes!("../src/demo/golden.png"), Orientation::Ignore, Limits::default())
        .expect("the embedded frame")
}

#[divan::bench]
fn encode_640x480(bencher: divan::Bencher<'_, '_>) {
    let (frame, mut jpeg) = (golden(), Vec::new());
    bencher.bench_local(|| encode_jpeg(&frame, 80, &mut jpeg).expect("a frame"));
}

#[divan::bench]
fn decode_640x480(bencher: divan::Bencher<'_, '_>) {
    let (mut frame, mut jpeg) = (golden(), Vec::new());
    encode_jpeg(&frame, 80, &mut jpeg).expect("a frame");
    bencher.bench_local(|| decode_into(&jpeg, Orientation::Apply, Limits::default(), &mut frame).expect("a JPEG"));
}
