//! The classic engine's masks: probabilities, cut to their box in the size that the request's mode asks for.

use super::real::Real;
use super::sheet::{Content, Planes, Sheet};
use super::taps::Kernel;
use super::window::{Window, cells};
use super::{MaskWriter, Prototypes, to_f64, whole};
use crate::frame::Size;
use crate::frame::resize::SIDE_MAX;
use crate::model::Error;
use crate::model::family::Job;
use crate::model::geometry::{ClassicInverse, Precision};
use crate::model::nms::Candidate;
use crate::model::predictions::Predictions;
use crate::model::request::{MaskDecodeMode, MaskFormat};
use crate::model::transform::{Fit, Transform};

/// Where the picture lies in the grid of the prototypes, and what masks are resized to.
struct Plan {
    /// First cell of the picture, across and down.
    origin: (i64, i64),
    source: Size,
    result: Size,
    /// Cells of the result a network pixel.
    scale: (f64, f64),
}

pub(super) fn prototypes<T: Real>(
    sheet: &mut Sheet<T>,
    writer: &mut MaskWriter,
    masks: &Prototypes<'_>,
    planes: Planes<'_>,
    candidates: &[Candidate],
    job: &Job<'_>,
    into: &mut Predictions,
) -> Result<(), Error> {
    if candidates.is_empty() {
        return Ok(());
    }
    let plan = Plan::new(job, planes.size)?;
    // All masks are one array to OpenCV, a channel each; of some counts of channels it leaves the work to Intel's IPP.
    let kernel = if matches!(candidates.len(), 1 | 3 | 4) { Kernel::Ipp } else { Kernel::OpenCv };
    sheet.prepare(plan.source, plan.result, kernel);
    let boxes = ClassicInverse::new(job.transform);
    // The engine forgets here that a request may disable the crop.
    let points = ClassicInverse::between(job.transform, plan.result, true);
    let rows = masks.coefficients.chunks_exact(planes.count());
    for (candidate, coefficients) in candidates.iter().zip(rows) {
        if !job.wants(candidate.class_id) {
            continue;
        }
        let [left, top, right, bottom] = candidate.corners.map(f64::from);
        let (across, down) = plan.scale;
        let scaled = |value: f64, scale: f64| match masks.precision {
            Precision::Double => value * scale,
            Precision::Single => f64::from(f32::of_f64(value) * f32::of_f64(scale)),
        };
        let within =
            cells([scaled(left, across), scaled(top, down), scaled(right, across), scaled(bottom, down)], plan.result);
        let window = within.clone().filled().map(|within| sheet.sources(&within)).unwrap_or_default();
        sheet.fill(planes, Content::Product { coefficients, probability: true }, window, plan.origin);
        sheet.draw(T::BELOW_HALF, &within, (0, 0), &mut writer.bitmap);
        let corners = boxes.corners(candidate.corners, masks.precision);
        writer.push(candidate, corners, MaskFormat::Polygon, plan.result, |x, y| points.polygon_point(x, y), into);
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
    if candidates.is_empty() {
        return Ok(());
    }
    let picture = picture_in_mask(job.transform, planes.size);
    let source = Size::new(picture.x.len(), picture.y.len());
    let image = job.transform.image;
    // This family takes any other word for "fast", and no factor is too large or too small.
    let result = match job.request.mask_decode_mode() {
        MaskDecodeMode::Accurate => image,
        MaskDecodeMode::Tradeoff => between(source, image, job.request.tradeoff_factor()),
        MaskDecodeMode::Fast | MaskDecodeMode::Unknown => source,
    };
    check(source)?;
    check(result)?;
    sheet.prepare(source, result, Kernel::Ipp);
    let scale = (to_f64(image.width) / to_f64(result.width), to_f64(image.height) / to_f64(result.height));
    // 32-bit floats, as numpy's after it traced the outline.
    let place = |x, y| [(x, scale.0), (y, scale.1)].map(|(at, by)| f64::from(f32::of_f64(at) * f32::of_f64(by)));
    let origin = (signed(picture.x.start), signed(picture.y.start));
    for candidate in candidates.iter().filter(|candidate| job.wants(candidate.class_id)) {
        sheet.fill(planes, Content::Plane(candidate.index as usize), Window::all(source), origin);
        sheet.draw(0.0, &Window::all(result), (0, 0), &mut writer.bitmap);
        writer.push(candidate, candidate.corners.map(f64::from), MaskFormat::Polygon, result, place, into);
    }
    Ok(())
}

impl Plan {
    #[expect(clippy::cast_possible_truncation, reason = "cells of a grid, far below 2^52")]
    fn new(job: &Job<'_>, grid: Size) -> Result<Self, Error> {
        let network = job.transform.network;
        let [grid_w, grid_h, network_w, network_h] =
            [grid.width, grid.height, network.width, network.height].map(to_f64);
        let gain = (grid_h / network_h).min(grid_w / network_w);
        let pad = ((grid_w - network_w * gain) / 2.0, (grid_h - network_h * gain) / 2.0);
        let first = (pad.0 as i64, pad.1 as i64);
        let last = ((grid_w - pad.0) as i64, (grid_h - pad.1) as i64);
        let source = Size::new(side(last.0 - first.0), side(last.1 - first.1));
        let (result, measure) = match job.request.mask_decode_mode() {
            MaskDecodeMode::Accurate => (network, network),
            // Boxes are scaled by the whole grid here, padding and all.
            MaskDecodeMode::Fast => (source, grid),
            MaskDecodeMode::Tradeoff => {
                let factor = job.request.tradeoff_factor();
                if !(0.0..=1.0).contains(&factor) {
                    return Err(Error::MaskArgument);
                }
                let target = between(grid, network, factor);
                // The engine hands OpenCV height and width where it wants width and height.
                let swapped = Size::new(target.height, target.width);
                let result = if factor == 0.0 { source } else { swapped };
                (result, result)
            }
            MaskDecodeMode::Unknown => return Err(Error::MaskArgument),
        };
        check(source)?;
        check(result)?;
        let scale = (to_f64(measure.width) / network_w, to_f64(measure.height) / network_h);
        Ok(Self { origin: first, source, result, scale })
    }
}

/// The cells of a mask that the picture fills, padding left out.
fn picture_in_mask(transform: &Transform, mask: Size) -> Window {
    if transform.fit == Fit::Stretch {
        return Window::all(mask);
    }
    let [image_w, image_h] = [transform.image.width, transform.image.height].map(to_f64);
    let [network_w, network_h] = [transform.network.width, transform.network.height].map(to_f64);
    let scale = (network_w / image_w).min(network_h / image_h);
    let range = |image: f64, network: f64, mask: usize| {
        let length = (image * scale).trunc();
        let pad = (network - length) / 2.0;
        let cell = |at: f64| whole((at * to_f64(mask) / network).round_ties_even()).min(mask);
        cell(pad)..cell(pad + length)
    };
    Window { x: range(image_w, network_w, mask.width), y: range(image_h, network_h, mask.height) }
}

/// Part of the way from one size to another, cut to whole cells.
fn between(from: Size, to: Size, factor: f64) -> Size {
    let side = |from: usize, to: usize| whole(to_f64(from) * (1.0 - factor) + to_f64(to) * factor);
    Size::new(side(from.width, to.width), side(from.height, to.height))
}

/// No mask can be made of nothing, nor one larger than any picture.
fn check(size: Size) -> Result<(), Error> {
    let fits = |side| (1..=SIDE_MAX).contains(&side);
    if fits(size.width) && fits(size.height) { Ok(()) } else { Err(Error::MaskArgument) }
}

fn side(length: i64) -> usize {
    usize::try_from(length).unwrap_or(0)
}

fn signed(cell: usize) -> i64 {
    i64::try_from(cell).unwrap_or(i64::MAX)
}
