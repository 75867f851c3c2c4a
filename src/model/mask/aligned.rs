//! The default engine's masks: cut to their box on the network's grid, padding taken off, resized, and laid into the
//! canvas of the whole image.

use super::sheet::{Content, Planes, Sheet};
use super::taps::Kernel;
use super::window::{Window, cells};
use super::{MaskWriter, Prototypes, to_f64, whole};
use crate::frame::Size;
use crate::frame::resize::SIDE_MAX;
use crate::model::Error;
use crate::model::family::Job;
use crate::model::geometry::DefaultInverse;
use crate::model::nms::Candidate;
use crate::model::predictions::Predictions;
use crate::model::request::{MaskDecodeMode, MaskFormat, Request};
use crate::model::transform::Transform;

/// Cells of a quarter of the network's pixels, whatever the prototypes really have.
const BOX_SCALE: f32 = 0.25;

/// Above this, a cell belongs to the mask: of probabilities, and of logits.
const PROBABILITY_MIN: f32 = 0.5;
const LOGIT_MIN: f32 = 0.0;

pub(super) fn prototypes(
    sheet: &mut Sheet<f32>,
    writer: &mut MaskWriter,
    masks: &Prototypes<'_>,
    planes: Planes<'_>,
    candidates: &[Candidate],
    job: &Job<'_>,
    into: &mut Predictions,
) -> Result<(), Error> {
    let plan = Plan::begin(planes.size, sheet, job, into)?;
    let limit = if masks.smoothing { PROBABILITY_MIN } else { LOGIT_MIN };
    let rows = masks.coefficients.chunks_exact(planes.count());
    for (candidate, coefficients) in candidates.iter().zip(rows) {
        if !job.wants(candidate.class_id) {
            continue;
        }
        let corners = candidate.corners.map(|corner| f64::from((corner * BOX_SCALE).round_ties_even()));
        let content = Content::Product { coefficients, probability: masks.smoothing };
        sheet.fill(planes, content, plan.in_source(&cells(corners, planes.size)), plan.strip);
        plan.finish(sheet, limit, candidate, writer, job.request, into);
    }
    Ok(())
}

pub(super) fn queries(
    sheet: &mut Sheet<f32>,
    writer: &mut MaskWriter,
    planes: Planes<'_>,
    candidates: &[Candidate],
    job: &Job<'_>,
    into: &mut Predictions,
) -> Result<(), Error> {
    let plan = Plan::begin(planes.size, sheet, job, into)?;
    for candidate in candidates.iter().filter(|candidate| job.wants(candidate.class_id)) {
        let window = plan.in_source(&Window::all(planes.size));
        sheet.fill(planes, Content::Plane(candidate.index as usize), window, plan.strip);
        plan.finish(sheet, LOGIT_MIN, candidate, writer, job.request, into);
    }
    Ok(())
}

/// How the grids of one image lie in each other.
struct Plan {
    /// Cells of padding at the left and at the top of the network's grid; negative where a crop cut the picture.
    strip: (i64, i64),
    /// The grid without its padding.
    source: Size,
    /// What it is resized to: the picture that was inferred on, or less if the request allows it.
    result: Size,
    /// The whole image at the same scale, and where the result lies in it.
    canvas: Size,
    offset: (usize, usize),
    inverse: DefaultInverse,
    /// Corners are whole pixels: the canvas is the image.
    exact: bool,
}

impl Plan {
    /// Looks at the request and prepares the resize.
    fn begin(grid: Size, sheet: &mut Sheet<f32>, job: &Job<'_>, into: &mut Predictions) -> Result<Self, Error> {
        let request = job.request;
        let reduced = request.allow_reduced_mask_resolution.unwrap_or(false);
        let factor = resolution_factor(request)?;
        let plan = Self::new(grid, job.transform, if reduced { factor } else { 1.0 });
        if reduced {
            into.mask_grid = Some(plan.canvas);
        }
        sheet.prepare(plan.source, plan.result, Kernel::Antialias);
        Ok(plan)
    }

    fn new(grid: Size, transform: &Transform, factor: f64) -> Self {
        let Stripped { strip, size: source } = Stripped::new(grid, transform);
        let (crop, image) = (transform.crop_size(), transform.image);
        let towards = |from: usize, to: usize| {
            whole((to_f64(from) * (1.0 - factor) + to_f64(to) * factor).round_ties_even()).max(1)
        };
        let result = if factor >= 1.0 {
            crop
        } else {
            Size::new(towards(source.width, crop.width), towards(source.height, crop.height))
        };
        let scale = (to_f64(result.width) / to_f64(crop.width), to_f64(result.height) / to_f64(crop.height));
        let scaled = |length: usize, scale: f64| whole((to_f64(length) * scale).round_ties_even());
        let (canvas, offset) = if crop == image {
            (result, (0, 0))
        } else {
            let offset = (scaled(transform.crop.left, scale.0), scaled(transform.crop.top, scale.1));
            let canvas = Size {
                width: scaled(image.width, scale.0).max(offset.0 + result.width),
                height: scaled(image.height, scale.1).max(offset.1 + result.height),
            };
            (canvas, offset)
        };
        // From the network straight to the canvas: corners are not rounded in between.
        let mut to_canvas = *transform;
        to_canvas.image = canvas;
        (to_canvas.crop.left, to_canvas.crop.top) = offset;
        if result != crop {
            to_canvas.scale.0 *= to_f64(crop.width) / to_f64(result.width);
            to_canvas.scale.1 *= to_f64(crop.height) / to_f64(result.height);
        }
        let inverse = DefaultInverse::new(&to_canvas);
        Self { strip, source, result, canvas, offset, inverse, exact: canvas == image }
    }

    /// A window of the network's grid without the padding.
    fn in_source(&self, window: &Window) -> Window {
        let moved = window.shifted((-self.strip.0, -self.strip.1), self.source);
        moved.filled().unwrap_or_default()
    }

    /// Resizes the sheet and adds the candidate.
    fn finish(
        &self,
        sheet: &mut Sheet<f32>,
        limit: f32,
        candidate: &Candidate,
        writer: &mut MaskWriter,
        request: &Request,
        into: &mut Predictions,
    ) {
        sheet.draw(limit, &Window::all(self.result), self.offset, &mut writer.bitmap);
        let corners = if self.exact {
            self.inverse.whole_corners(candidate.corners)
        } else {
            self.inverse.corners(candidate.corners).map(f64::from)
        };
        let format = request.response_mask_format.unwrap_or(MaskFormat::Polygon);
        writer.push(candidate, corners, format, self.canvas, |x, y| [x, y], into);
    }
}

/// A grid of the network without the cells that padding fills, or with those that a centre crop cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stripped {
    /// Cells taken off at the left and at the top; negative for cells put on.
    pub strip: (i64, i64),
    /// At least one cell: where the engine fails on a picture so thin that none is left, this one goes on.
    pub size: Size,
}

impl Stripped {
    pub fn new(grid: Size, transform: &Transform) -> Self {
        let [left, top, right, bottom] = transform.pad;
        let across = to_f64(grid.width) / to_f64(transform.network.width);
        let down = to_f64(grid.height) / to_f64(transform.network.height);
        let (left, right) = (cells_of(left, across), cells_of(right, across));
        let (top, bottom) = (cells_of(top, down), cells_of(bottom, down));
        let rest = |length: usize, before: i64, after: i64| {
            let rest = i64::try_from(length).unwrap_or(i64::MAX).saturating_sub(before.saturating_add(after));
            usize::try_from(rest).unwrap_or(0).clamp(1, SIDE_MAX)
        };
        Self { strip: (left, top), size: Size::new(rest(grid.width, left, right), rest(grid.height, top, bottom)) }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "padding is less than the longest side of a picture")]
fn cells_of(pad: i32, scale: f64) -> i64 {
    (scale * f64::from(pad)).round_ties_even() as i64
}

/// How far masks are to go from the network's grid (0) to the image's (1).
fn resolution_factor(request: &Request) -> Result<f64, Error> {
    match request.mask_decode_mode() {
        MaskDecodeMode::Accurate => Ok(1.0),
        MaskDecodeMode::Fast => Ok(0.0),
        MaskDecodeMode::Tradeoff => {
            Some(request.tradeoff_factor()).filter(|factor| (0.0..=1.0).contains(factor)).ok_or(Error::MaskArgument)
        }
        MaskDecodeMode::Unknown => Err(Error::MaskArgument),
    }
}
