//! Masks of instance segmentation, for both of Roboflow's engines (SPEC §2.7): what segmentation heads call after
//! suppression.
//!
//! Coefficients and prototypes, or a mask a query, become a detection each with an outline or a run-length mask. A mask
//! is never held at the size of the image: it is computed on the network's grid within its box, and of the resized
//! one only the rectangle that can hold pixels is looked at, once, against the limit.

mod aligned;
mod classic;
pub(super) mod real;
pub mod rle;
mod sheet;
pub(super) mod taps;
mod window;

use super::family::Job;
use super::geometry::Precision;
use super::nms::Candidate;
use super::predictions::{Detection, Predictions, Shape, Span};
use super::request::MaskFormat;
use super::{Error, Semantics};
use crate::engine::TensorView;
use crate::frame::Size;
use crate::frame::contour::{Bitmap, Tracer};
pub(super) use aligned::Stripped;
pub(super) use sheet::Planes;
use sheet::Sheet;

/// Masks of YOLO segmentation (v5, v7, v8, v11, 26).
#[derive(Clone, Copy, Debug)]
pub struct Prototypes<'a> {
    /// Whether the default engine puts masks through the sigmoid before it resizes them (v8, v11); of the others it
    /// resizes the logits. The classic engine always applies it.
    pub smoothing: bool,
    /// What the classic engine computes boxes and masks in: 64-bit floats after its suppression, 32-bit ones of a
    /// network that needs none (YOLO26).
    pub precision: Precision,
    /// A row for each candidate, as long as there are prototypes.
    pub coefficients: &'a [f32],
    /// `[prototypes, height, width]`.
    pub protos: TensorView<'a>,
}

/// Buffers kept from frame to frame.
#[derive(Debug, Default)]
pub struct MaskAssembler {
    single: Sheet<f32>,
    double: Sheet<f64>,
    writer: MaskWriter,
}

impl MaskAssembler {
    /// Adds the candidates that the request wants to `into`, each with its mask. Corners of candidates are network
    /// pixels.
    ///
    /// # Errors
    /// [`Error::MaskArgument`] as the engine in question raises it, [`Error::OutputShape`] for prototypes that are not
    /// of three axes or do not fit the coefficients.
    pub fn prototypes(
        &mut self,
        semantics: Semantics,
        masks: &Prototypes<'_>,
        candidates: &[Candidate],
        job: &Job<'_>,
        into: &mut Predictions,
    ) -> Result<(), Error> {
        let planes = Planes::new(masks.protos)
            .filter(|planes| planes.count() * candidates.len() == masks.coefficients.len())
            .ok_or_else(|| unfit("prototypes [coefficients, height, width]", masks.protos))?;
        let Self { single, double, writer } = self;
        match (semantics, masks.precision) {
            (Semantics::Default, _) => aligned::prototypes(single, writer, masks, planes, candidates, job, into),
            (Semantics::Classic, Precision::Single) => {
                classic::prototypes(single, writer, masks, planes, candidates, job, into)
            }
            (Semantics::Classic, Precision::Double) => {
                classic::prototypes(double, writer, masks, planes, candidates, job, into)
            }
        }
    }

    /// RF-DETR segmentation: adds the candidates that the request wants to `into`, each with the mask of its query,
    /// which is [`Candidate::index`]. `masks` is `[queries, height, width]`, logits. Corners of candidates are network
    /// pixels for the default engine, and final for the classic one, whose way back is the head's own.
    ///
    /// # Errors
    /// [`Error::MaskArgument`] as the engine in question raises it, [`Error::OutputShape`] for masks that are not of
    /// three axes or fewer than the queries.
    pub fn queries(
        &mut self,
        semantics: Semantics,
        candidates: &[Candidate],
        masks: TensorView<'_>,
        job: &Job<'_>,
        into: &mut Predictions,
    ) -> Result<(), Error> {
        let planes = Planes::new(masks)
            .filter(|planes| candidates.iter().all(|candidate| (candidate.index as usize) < planes.count()))
            .ok_or_else(|| unfit("masks [queries, height, width]", masks))?;
        let Self { single, writer, .. } = self;
        match semantics {
            Semantics::Default => aligned::queries(single, writer, planes, candidates, job, into),
            Semantics::Classic => classic::queries(single, writer, planes, candidates, job, into),
        }
    }
}

fn unfit(expected: &str, found: TensorView<'_>) -> Error {
    Error::OutputShape { expected: expected.into(), found: vec![found.shape.to_vec()] }
}

/// Turns drawn masks into shapes of detections.
#[derive(Debug, Default)]
struct MaskWriter {
    bitmap: Bitmap,
    tracer: Tracer,
}

impl MaskWriter {
    /// Adds a detection whose mask is in `bitmap`, a window of a mask of `size`.
    fn push(
        &mut self,
        candidate: &Candidate,
        corners: [f64; 4],
        format: MaskFormat,
        size: Size,
        place: impl Fn(f64, f64) -> [f64; 2],
        into: &mut Predictions,
    ) {
        let shape = match format {
            MaskFormat::Polygon => {
                let start = into.points.len();
                let outline = self.tracer.longest(&mut self.bitmap);
                into.points.extend(outline.iter().map(|&[x, y]| place(f64::from(x), f64::from(y))));
                Shape::Polygon(Span::since(start, into.points.len()))
            }
            MaskFormat::Rle => {
                let start = into.rle.len();
                rle::encode(&self.bitmap, size, &mut into.rle);
                Shape::Mask(Span::since(start, into.rle.len()))
            }
        };
        into.detections.push(Detection {
            corners,
            confidence: candidate.confidence,
            class_id: candidate.class_id,
            shape,
        });
    }
}

#[expect(clippy::cast_precision_loss, reason = "sides are far below 2^53")]
fn to_f64(side: usize) -> f64 {
    side as f64
}

/// Cut to a whole number; 0 for what is negative or no number.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
fn whole(length: f64) -> usize {
    length as usize
}

#[cfg(test)]
mod tests;
