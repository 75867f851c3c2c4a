//! `firstlight infer`: images in, Roboflow-shaped answers out.

use std::path::{Path, PathBuf};

use super::{Error, choose_engine, load_model, open_package, print_line, threads};
use crate::cache::{Cache, LayoutKind};
use crate::frame::{self, Frame, Limits};
use crate::model::{Annotator, Answer, Confidence, Model, Predictions, Request, Response};

/// One answer an image, in order. An image that cannot be read is answered with `{"message": …}`, and the exit code
/// is then 1.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model id, such as `my-project/3`, or an alias such as `yolov8n-640`
    #[arg(long, value_name = "ID")]
    model: String,
    /// Confidence threshold, 0 to 1 [default: 0.4]
    #[arg(long, value_name = "X")]
    confidence: Option<f32>,
    /// Overlap threshold of non-maximum suppression, 0 to 1 [default: 0.3]
    #[arg(long, value_name = "X")]
    iou: Option<f64>,
    /// Any fields of Roboflow's request, such as '{"max_detections": 3, "class_filter": ["bolt"]}'
    #[arg(long, value_name = "JSON")]
    request: Option<String>,
    /// Whose answers, where the cache has the model in both layouts: the classic or the default engine's
    #[arg(long, value_enum)]
    semantics: Option<Semantics>,
    /// Write the annotated picture: a .jpg or .png file, or a directory when there are several images
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Engine, instead of the best that works here
    #[arg(long, value_name = "NAME")]
    engine: Option<String>,
    /// Threads of a CPU engine [default: one a core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Semantics {
    Classic,
    Default,
}

impl From<Semantics> for LayoutKind {
    /// Each engine reads one layout.
    fn from(semantics: Semantics) -> Self {
        match semantics {
            Semantics::Classic => LayoutKind::Classic,
            Semantics::Default => LayoutKind::ModelsCache,
        }
    }
}

pub fn run(args: &Args, cache: &Cache) -> Result<(), Error> {
    let mut request = Request::parse(args.request.as_deref().unwrap_or("{}"))?;
    request.confidence = args.confidence.map(Confidence::Number).or(request.confidence);
    request.iou_threshold = args.iou.or(request.iou_threshold);
    if let Some(out) = args.out.as_ref().filter(|out| args.images.len() > 1 && !out.is_dir()) {
        return Err(Error::Usage(format!("--out {}: several images need a directory that exists", out.display())));
    }
    let package = open_package(cache, Some(&args.model), args.semantics.map(LayoutKind::from))?;
    let chosen = choose_engine(args.engine.as_deref())?;
    let mut model = load_model(&package, &chosen, threads(args.threads, None)?)?;
    let mut failed = 0;
    for image in &args.images {
        let answer = answer(&mut model, &request, image, args.out.as_deref());
        let line = answer.unwrap_or_else(|message| {
            failed += 1;
            eprintln!("firstlight: {}: {message}", image.display());
            serde_json::json!({"message": format!("Could not load input image. Cause: {message}")}).to_string()
        });
        print_line(&line)?;
    }
    match failed {
        0 => Ok(()),
        _ => Err(Error::Failed(format!("{failed} of {} images failed", args.images.len()))),
    }
}

/// The answer to one image, as a line of JSON.
fn answer(model: &mut Model, request: &Request, path: &Path, out: Option<&Path>) -> Result<String, String> {
    let limits = Limits::default();
    let mut bytes = Vec::new();
    frame::read_file(path, limits, &mut bytes).map_err(|error| error.to_string())?;
    let frame = frame::decode(&bytes, model.orientation(request), limits).map_err(|error| error.to_string())?;
    let mut predictions = Predictions::default();
    let timing = model.infer(&frame, request, &mut predictions).map_err(|error| error.to_string())?;
    if let Some(out) = out {
        let name = path.file_name().unwrap_or_default();
        let target = if out.is_dir() { out.join(name) } else { out.to_owned() };
        write_annotated(model, request, frame, &predictions, &target)?;
    }
    let response = Response {
        inference_id: uuid::Uuid::new_v4(),
        time: timing.total().as_secs_f64(),
        resolved_model: model.resolved(),
        answer: Answer { predictions: &predictions, labels: model.labels(), with_ids: true },
    };
    serde_json::to_string(&response).map_err(|error| error.to_string())
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
    };
    annotator.draw(predictions, &mut frame);
    frame::write_file(&frame, target).map_err(|error| format!("{}: {error}", target.display()))
}
