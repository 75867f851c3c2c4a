//! Inference: a model's name, images and wishes in, Roboflow's answer out. Runs on a worker, never on the thread that
//! serves everybody.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::StatusCode;
use serde::Serialize;

use super::fault::Fault;
use super::fields::{Image, Images, Kind, Wishes};
use super::head;
use super::image::Reader;
use super::{Api, Call};
use crate::cache::aliases;
use crate::frame::{Frame, encode_jpeg};
use crate::http::reply::{Answer, json, with_type};
use crate::model::{self, Annotator, Predictions, ResolvedModel};
use crate::serving::Lease;

/// Images of one request: what Roboflow's SDK sends at most, with room.
pub const IMAGES_MAX: usize = 64;
/// Pixels that are decoded before the network has its turn: one picture of the largest kind, or a batch of usual ones.
const PIXELS_AT_ONCE: usize = 50_000_000;
/// Bytes of an answer, which pictures with predictions drawn can make large.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Buffers that a worker keeps for its next request; those that a picture of 12 megapixels needs go back.
const KEPT_BYTES_MAX: usize = 16 << 20;
/// Pictures that are sent to be looked at; the same as those that the command line keeps.
const JPEG_QUALITY: u8 = 92;
/// Roboflow's default, over HTTP.
const STROKE_PX: u32 = 1;

/// An image, as a request may bring it.
#[derive(Debug)]
pub(super) enum Input<'a> {
    Described(Image<'a>),
    /// Text of a body.
    Base64(&'a [u8]),
    /// A file as it is.
    Encoded(&'a [u8]),
}

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    /// The picture with the predictions drawn, and nothing else.
    Jpeg,
}

/// A request that was read.
#[derive(Debug)]
pub(super) struct Order<'a> {
    pub wishes: Wishes<'a>,
    pub inputs: Vec<Input<'a>>,
    /// Whether a list is to be answered.
    pub list: bool,
    pub form: Form,
}

/// Answers a `POST /infer/…`.
pub(super) fn answer(api: &Api, kind: Kind, call: &Call) -> Answer {
    let (wishes, images) = match kind.read(call.content_type.as_deref(), call.body()) {
        Ok(read) => read,
        Err(fault) => return fault.into_answer(),
    };
    let (inputs, list) = match images {
        Images::One(image) => (vec![Input::Described(image)], false),
        Images::Many(images) => (images.into_iter().map(Input::Described).collect(), true),
    };
    fulfil(api, call, &Order { wishes, inputs, list, form: Form::Json })
}

/// Answers a request that was read.
pub(super) fn fulfil(api: &Api, call: &Call, order: &Order<'_>) -> Answer {
    let mut loaded_in = None;
    let answer = lease(api, call, order).and_then(|mut lease| {
        loaded_in = lease.loaded_in();
        infer(api, &mut lease, order).inspect_err(|_| api.models.note_error(lease.id()))
    });
    let mut answer = answer.unwrap_or_else(Fault::into_answer);
    head::name_model(&mut answer, aliases::resolve(&order.wishes.model_id), loaded_in);
    answer
}

fn lease(api: &Api, call: &Call, order: &Order<'_>) -> Result<Lease, Fault> {
    let count = order.inputs.len();
    if count > IMAGES_MAX {
        let why = format_args!("{count} images in one request; at most {IMAGES_MAX} are taken.");
        return Err(Fault::image(why, None));
    }
    api.lease(&order.wishes.model_id, &call.path, call.by)
}

/// Buffers that go from request to request.
#[derive(Debug, Default)]
struct Buffers {
    encoded: Vec<u8>,
    frames: Vec<Frame>,
    predictions: Vec<Predictions>,
}

impl Buffers {
    fn trim(&mut self) {
        let frames: usize = self.frames.iter().map(|frame| frame.pixels().len()).sum();
        if self.encoded.capacity() + frames > KEPT_BYTES_MAX {
            *self = Self::default();
        }
    }
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

fn infer(api: &Api, lease: &mut Lease, order: &Order<'_>) -> Result<Answer, Fault> {
    BUFFERS.with_borrow_mut(|buffers| {
        let answer = infer_with(api, lease, order, buffers);
        buffers.trim();
        answer
    })
}

fn infer_with(api: &Api, lease: &mut Lease, order: &Order<'_>, buffers: &mut Buffers) -> Result<Answer, Fault> {
    let Order { wishes, inputs, list, form } = order;
    let started = Instant::now();
    let reader = Reader { dirs: &api.dirs, orientation: lease.orientation(&wishes.request) };
    let own_id = wishes.id.is_none().then(|| uuid::Uuid::new_v4().to_string());
    let inference_id = wishes.id.as_deref().or(own_id.as_deref()).unwrap_or_default();
    let mut body = Vec::new();
    let (mut rest, mut busy) = (inputs.as_slice(), Duration::ZERO);
    while !rest.is_empty() {
        let count = read_some(&reader, &rest[..lease.batch().min(rest.len())], buffers)?;
        rest = &rest[count..];
        let Buffers { frames, predictions, .. } = buffers;
        predictions.resize_with(predictions.len().max(count), Predictions::default);
        let views: Vec<&Frame> = frames[..count].iter().collect();
        busy += lease.infer_batch(&views, &wishes.request, &mut predictions[..count])?.total();
        for (frame, predictions) in frames.iter_mut().zip(&mut predictions[..count]) {
            let jpeg = if wishes.visualize { Some(draw(lease, wishes, predictions, frame)?) } else { None };
            match form {
                Form::Jpeg => body = jpeg.unwrap_or_default(),
                Form::Json => {
                    let envelope = Envelope {
                        visualization: jpeg.map(|jpeg| BASE64_STANDARD.encode(jpeg)),
                        inference_id,
                        time: started.elapsed().as_secs_f64(),
                        resolved_model: lease.resolved(),
                        answer: model::Answer { predictions, labels: lease.labels(), with_ids: true, tracks: &[] },
                    };
                    body.extend_from_slice(match (list, body.is_empty()) {
                        (true, true) => b"[",
                        (true, false) => b",",
                        (false, _) => b"",
                    });
                    serde_json::to_writer(&mut body, &envelope).map_err(Fault::internal)?;
                }
            }
            if body.len() > ANSWER_BYTES_MAX {
                let words = format!("The answer is too large: at most {ANSWER_BYTES_MAX} bytes are sent.");
                return Err(Fault::told(StatusCode::INSUFFICIENT_STORAGE, words));
            }
        }
    }
    api.models.note_inferences(lease.id(), inputs.len() as u64, busy);
    if *list {
        body.extend_from_slice(if body.is_empty() { b"[]" } else { b"]" });
    }
    Ok(match form {
        Form::Json => json(StatusCode::OK, body),
        Form::Jpeg => with_type(StatusCode::OK, "image/jpeg", body),
    })
}

/// Reads images, as many as there are or as [`PIXELS_AT_ONCE`] allow, at least one; how many.
fn read_some(reader: &Reader<'_>, inputs: &[Input<'_>], buffers: &mut Buffers) -> Result<usize, Fault> {
    let Buffers { encoded, frames, .. } = buffers;
    let mut pixels = 0;
    for (index, input) in inputs.iter().enumerate() {
        if index == frames.len() {
            frames.push(Frame::empty());
        }
        let frame = &mut frames[index];
        match input {
            Input::Described(image) => reader.read(image, encoded, frame)?,
            Input::Base64(text) => reader.base64(text, encoded, frame)?,
            Input::Encoded(file) => reader.decode(file, frame).map_err(|error| Fault::image(error, None))?,
        }
        pixels += frame.width() * frame.height();
        if pixels >= PIXELS_AT_ONCE {
            return Ok(index + 1);
        }
    }
    Ok(inputs.len())
}

fn draw(lease: &Lease, wishes: &Wishes<'_>, predictions: &Predictions, frame: &mut Frame) -> Result<Vec<u8>, Fault> {
    let annotator = Annotator {
        names: lease.labels().clone(),
        labels: wishes.request.visualization_labels.unwrap_or(false),
        stroke_px: wishes.request.visualization_stroke_width.unwrap_or(STROKE_PX),
        text_px: None,
    };
    annotator.draw(predictions, frame);
    let mut jpeg = Vec::new();
    encode_jpeg(frame, JPEG_QUALITY, &mut jpeg).map_err(Fault::internal)?;
    Ok(jpeg)
}

/// Roboflow's answer to one image, in its order.
#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    visualization: Option<String>,
    inference_id: &'a str,
    /// Seconds since the images of the request began to be read.
    time: f64,
    resolved_model: &'a ResolvedModel,
    #[serde(flatten)]
    answer: model::Answer<'a>,
}
