//! Writes frames of the conveyor as PNG with their truth as JSON lines, to measure or to train a detector on them.
//!
//! `cargo run --release --example export_demo -- DIR [FRAMES [SEEDS [STRIDE]]]`: `FRAMES` (500) frames in all, spread
//! over `SEEDS` (10) seeds, of each every `STRIDE`th (7) frame, so that parts are seen at many places.

use std::{error::Error, fs, io::Write, path::Path};

use firstlight::{
    frame::Frame,
    source::demo::{Conveyor, Truth},
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("usage: export_demo DIR [FRAMES [SEEDS [STRIDE]]]")?;
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let (frames, seeds, stride) = (number(500)?, number(10)?, number(7)?);
    let directory = Path::new(&directory);
    fs::create_dir_all(directory)?;
    let mut truth = fs::File::create(directory.join("truth.jsonl"))?;
    let mut frame = Frame::empty();
    for seed in 0..seeds {
        let mut conveyor = Conveyor::new(seed);
        for _ in 0..frames.div_ceil(seeds) {
            for _ in 0..stride {
                conveyor.render(&mut frame);
            }
            let name = format!("{seed}-{:06}.png", frame.id);
            let (width, height) = (u32::try_from(frame.width())?, u32::try_from(frame.height())?);
            let rgb = image::ExtendedColorType::Rgb8;
            image::save_buffer(directory.join(&name), frame.pixels(), width, height, rgb)?;
            let parts: Vec<serde_json::Value> = conveyor.truth().iter().map(as_json).collect();
            writeln!(truth, "{}", serde_json::json!({ "image": name, "parts": parts }))?;
        }
    }
    Ok(())
}

fn as_json(part: &Truth) -> serde_json::Value {
    serde_json::json!({
        "class_id": part.class_id,
        "box": [part.left, part.top, part.right, part.bottom],
        "visible": part.visible,
    })
}
