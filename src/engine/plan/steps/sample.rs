//! Pictures read between their pixels: along an axis at fixed places, or wherever a grid points.

use serde::{Deserialize, Serialize};

use super::gemm::POINTER;
use super::rows::Places;
use super::select::place;
use super::{Context, Fault, Limits, Operand, Picture, Strided, Work};
use crate::engine::plan::kernels::Isa;

/// Along one axis every result is a sum of weighted rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resample {
    /// Of the result, without the axis; the last dimension is contiguous in input and output.
    pub shape: Vec<usize>,
    /// Results along the axis, inputs along it, and inputs of each result.
    pub results: usize,
    pub length: usize,
    pub terms: usize,
    /// Strides of the shape, then of the axis.
    pub input: Operand,
    pub output: Strided,
    /// Where places [results, terms] and weights [results, terms] begin.
    pub places: usize,
    pub weights: usize,
}

/// Inputs of one result, at most: those of a downscale by 128 with antialiasing.
const TERMS_MAX: usize = 1024;

impl Work for Resample {
    fn check(&self, limits: &Limits, _: &Isa) -> Result<(), Fault> {
        let with = |axis: usize| -> Vec<usize> { self.shape.iter().copied().chain([axis]).collect() };
        self.input.check(&with(self.length), limits)?;
        self.output.check_written(&with(self.results), limits)?;
        self.input.check_apart_from(&with(self.length), &self.output, &with(self.results))?;
        let table = self.results.saturating_mul(self.terms);
        if self.shape.is_empty() || !(1..=TERMS_MAX).contains(&self.terms) {
            return Err(format!("{} inputs of each result; 1 to {TERMS_MAX}", self.terms));
        }
        if self.places.max(self.weights).saturating_add(table) > limits.weights {
            return Err(format!("its table leaves the {} weights there are", limits.weights));
        }
        super::map::check_last(&self.input.strides[..self.shape.len()], &[1])?;
        super::map::check_last(&self.output.strides[..self.shape.len()], &[1])
    }

    fn items(&self, _: &Isa) -> usize {
        self.results
    }

    fn scratch(&self, _: &Isa) -> usize {
        self.terms * POINTER
    }

    unsafe fn run(&self, item: usize, context: &Context) {
        let (&count, outer) = self.shape.split_last().expect("checked");
        let (step, to_step) = (self.input.strides[self.shape.len()], self.output.strides[self.shape.len()]);
        let rows: *mut *const f32 = context.scratch.cast();
        // SAFETY: check() has seen that all is inside; the scratch holds all terms.
        unsafe {
            let places = context.weights.add(self.places + item * self.terms);
            let weights = context.weights.add(self.weights + item * self.terms);
            let strides = [&*self.input.strides, &*self.output.strides];
            for [x, y] in Places::new(outer, strides, 0..outer.iter().product()) {
                for term in 0..self.terms {
                    let place = place(*places.add(term), self.length);
                    *rows.add(term) = self.input.pointer(context).add(x + place * step);
                }
                let to = context.arena.add(self.output.offset + y + item * to_step);
                (context.kernels.blend)(std::slice::from_raw_parts(rows, self.terms), weights, to, count);
            }
        }
    }
}

/// Bilinear, zero outside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GridSample {
    pub input: Picture,
    pub output: Picture,
    /// Strides of rows, columns, and of x and y, from -1 to 1.
    pub grid: Operand,
    pub align_corners: bool,
}

impl GridSample {
    /// The pixel before a place between -1 and 1, and how far beyond it the place lies.
    fn pixel(&self, at: f32, length: usize) -> (f32, f32) {
        let length = length as f32;
        let at = if self.align_corners { (at + 1.0) / 2.0 * (length - 1.0) } else { ((at + 1.0) * length - 1.0) / 2.0 };
        (at.floor(), at - at.floor())
    }
}

impl Work for GridSample {
    fn check(&self, limits: &Limits, _: &Isa) -> Result<(), Fault> {
        self.input.check(limits)?;
        self.output.check_written(limits)?;
        let grid = [self.output.height, self.output.width, 2];
        self.grid.check(&grid, limits)?;
        self.input.check_apart(&self.output)?;
        let (shape, strides) = self.output.strided();
        let written = Strided { offset: self.output.offset, strides: strides.to_vec() };
        self.grid.check_apart_from(&grid, &written, &shape)?;
        if self.input.channels != self.output.channels {
            return Err(format!("{} channels of {}", self.output.channels, self.input.channels));
        }
        Ok(())
    }

    fn items(&self, _: &Isa) -> usize {
        self.output.height.div_ceil(ROWS_EACH)
    }

    unsafe fn run(&self, item: usize, context: &Context) {
        let rows = item * ROWS_EACH..((item + 1) * ROWS_EACH).min(self.output.height);
        for (y, x) in rows.flat_map(|y| (0..self.output.width).map(move |x| (y, x))) {
            // SAFETY: check() has seen that all is inside.
            unsafe {
                let at = self.grid.pointer(context).add(y * self.grid.strides[0] + x * self.grid.strides[1]);
                let (left, right) = self.pixel(*at, self.input.width);
                let (top, bottom) = self.pixel(*at.add(self.grid.strides[2]), self.input.height);
                let (mut rows, mut weights, mut count) = ([std::ptr::null(); 4], [0.0; 4], 0);
                for (dy, dx) in [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)] {
                    let (row, column) = (top + dy, left + dx);
                    let inside = |at: f32, length: usize| at >= 0.0 && at < length as f32;
                    if inside(row, self.input.height) && inside(column, self.input.width) {
                        let (row, column) = (place(row, self.input.height), place(column, self.input.width));
                        let offset = row * self.input.row + column * self.input.pixel;
                        rows[count] = context.arena.add(self.input.offset + offset).cast_const();
                        let share = |far: f32, beyond: f32| if far > 0.0 { beyond } else { 1.0 - beyond };
                        weights[count] = share(dy, bottom) * share(dx, right);
                        count += 1;
                    }
                }
                let to = context.arena.add(self.output.offset + y * self.output.row + x * self.output.pixel);
                (context.kernels.blend)(&rows[..count], weights.as_ptr(), to, self.output.channels);
            }
        }
    }
}

/// Rows of a grid in one item: grids are tall and narrow.
const ROWS_EACH: usize = 16;
