//! `firstlight infer`: images in, Roboflow-shaped answers out.

use std::path::{Path, PathBuf};

use super::{Engines, Error, Wanted, backends, load_model, open_package_as, print_line, threads};
use crate::cache::Cache;
use crate::engine::Precision;
use crate::frame::{self, Frame, Limits, Orientation};
use crate::model::{Annotator, Answer, Confidence, Model, Predictions, Request, Response, Semantics};

/// One answer an image, in order. An image that cannot be read is answered with `{"message": …}`, and the exit code
/// is then 1.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model id, such as `my-project/3`, or an alias such as `yolov8n-640`
    #[arg(long, value_name = "ID")]
    model: String,
    /// Confidence threshold, 0 to 1 [default: 0.4]
    #[arg(long, value_name = "X")]
    confidence: Option<f64>,
    /// Overlap threshold of non-maximum suppression, 0 to 1 [default: 0.3]
    #[arg(long, value_name = "X")]
    iou: Option<f64>,
    /// Any fields of Roboflow's request, such as '{"max_detections": 3, "class_filter": ["bolt"]}'
    #[arg(long, value_name = "JSON")]
    request: Option<String>,
    /// Whose answers: of Roboflow's classic or its default engine [default: of the one whose cache layout it is]
    #[arg(long, value_name = "ENGINE")]
    semantics: Option<Semantics>,
    /// Write the annotated picture: a .jpg or .png file, or a directory when there are several images
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Engine, instead of the best that works here
    #[arg(long, value_name = "NAME")]
    engine: Option<String>,
    /// Compute in numbers (fp32), or with halves (fp16) or bytes (int8) by a plan of `cache bake` [default: fp32]
    #[arg(long, value_name = "PRECISION")]
    precision: Option<Precision>,
    /// Threads of a CPU engine [default: one a core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
}

pub fn run(args: &Args, cache: &Cache) -> Result<(), Error> {
    crate::env::roboflow::check().map_err(Error::Usage)?;
    let mut request = Request::parse(args.request.as_deref().unwrap_or("{}"))?;
    request.confidence = args.confidence.map(Confidence::Number).or(request.confidence);
    request.iou_threshold = args.iou.or(request.iou_threshold);
    if let Some(out) = args.out.as_ref().filter(|out| args.images.len() > 1 && !out.is_dir()) {
        return Err(Error::Usage(format!("--out {}: several images need a directory that exists", out.display())));
    }
    let backends = backends(cache)?;
    let package = open_package_as(cache, &backends, Some(&args.model), args.semantics)?;
    let engines =
        Engines::choose(Wanted::only(args.engine.as_deref()), &[args.precision.unwrap_or_default()], &backends)?;
    let (mut model, _) = load_model(&package, &engines, threads(args.threads, None)?)?;
    let mut failed = 0;
    for images in args.images.chunks(model.batch()) {
        for (image, answer) in images.iter().zip(answers(&mut model, &request, images, args.out.as_deref())) {
            let line = answer.unwrap_or_else(|message| {
                failed += 1;
                eprintln!("firstlight: {}: {message}", image.display());
                serde_json::json!({"message": format!("Could not load input image. Cause: {message}")}).to_string()
            });
            print_line(&line)?;
        }
    }
    match failed {
        0 => Ok(()),
        _ => Err(Error::Failed(format!("{failed} of {} images failed", args.images.len()))),
    }
}

/// The answers to as many images as the network takes at once, each a line of JSON or why there is none.
fn answers(model: &mut Model, request: &Request, paths: &[PathBuf], out: Option<&Path>) -> Vec<Result<String, String>> {
    let orientation = model.orientation(request);
    let frames: Vec<Result<Frame, String>> = paths.iter().map(|path| read(orientation, path)).collect();
    let readable: Vec<&Frame> = frames.iter().flatten().collect();
    let mut predictions = vec![Predictions::default(); readable.len()];
    let timing = model.infer_batch(&readable, request, &mut predictions).map_err(|error| error.to_string());
    let mut predictions = predictions.iter();
    let answer = |(frame, path): (Result<Frame, String>, &PathBuf)| {
        let frame = frame?;
        let predictions = predictions.next().ok_or("no answer to this image")?;
        let timing = timing.clone()?;
        if let Some(out) = out {
            let target = if out.is_dir() { out.join(path.file_name().unwrap_or_default()) } else { out.to_owned() };
            write_annotated(model, request, frame, predictions, &target)?;
        }
        let response = Response {
            inference_id: uuid::Uuid::new_v4(),
            time: timing.total().as_secs_f64(),
            resolved_model: model.resolved(),
            answer: Answer { predictions, labels: model.labels(), with_ids: true, tracks: &[] },
        };
        serde_json::to_string(&response).map_err(|error| error.to_string())
    };
    frames.into_iter().zip(paths).map(answer).collect()
}

pub fn read(orientation: Orientation, path: &Path) -> Result<Frame, String> {
    let limits = Limits::default();
    let mut bytes = Vec::new();
    frame::read_file(path, limits, &mut bytes).map_err(|error| error.to_string())?;
    frame::decode(&bytes, orientation, limits).map_err(|error| error.to_string())
}

fn write_annotated(
    model: &Model,
    request: &Request,
    mut frame: Frame,
    predictions: &Predictions,
    target: &Path,
) -> Result<(), String> {
    let annotator = Annotator {
        names: std::sync::Arc::clone(model.labels()),
        labels: request.visualization_labels.unwrap_or(true),
        stroke_px: request.visualization_stroke_width.unwrap_or(2),
        text_px: None,
    };
    annotator.draw(predictions, &mut frame);
    frame::write_file(&frame, target).map_err(|error| format!("{}: {error}", target.display()))
}
