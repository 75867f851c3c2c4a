//! The inner loops: written once over [`vector::Vector`], made for each instruction set in a file of its own.

#[cfg(target_arch = "x86_64")]
pub mod avx512;
mod gemm;
mod math;
mod peak;
mod rows;
mod vector;

pub use gemm::Tile;

use super::graph::{Binary, Unary};

/// All kernels of one instruction set.
#[derive(Debug)]
pub struct Kernels {
    pub name: &'static str,
    /// Panels of output channels, from one vector upwards without a gap.
    panels: &'static [Panel],
    /// `to[i] = op(x[i])` for `i` below `count`; `to` may be `x`.
    pub unary: unsafe fn(op: Unary, x: *const f32, to: *mut f32, count: usize),
    /// `to[i] = op(a[i·a_step], b[i·b_step])`, steps 0 or 1; `to` may be `a` or `b`.
    pub binary: unsafe fn(op: Binary, a: Row, b: Row, to: *mut f32, count: usize),
    /// `to[i]` is the largest of `rows[0][i]`, `rows[1][i]`, …
    pub max_rows: unsafe fn(rows: &[*const f32], to: *mut f32, count: usize),
    /// `to[i]` is the sum of `rows[0][i]`, `rows[1][i]`, … times `scale`.
    pub sum_rows: unsafe fn(rows: &[*const f32], scale: f32, to: *mut f32, count: usize),
    /// `to[i] = e^x[i] / Σ e^x`; `to` may be `x`.
    pub softmax: unsafe fn(x: *const f32, to: *mut f32, count: usize),
    /// `to[i] = (x[i] - mean) / √(variance + epsilon) · scale[i] + bias[i]`; `to` may be `x`.
    pub layer_norm:
        unsafe fn(x: *const f32, scale: *const f32, bias: *const f32, epsilon: f32, to: *mut f32, count: usize),
    /// The sum of a row.
    pub sum_row: unsafe fn(x: *const f32, count: usize) -> f32,
    /// The largest value of a row.
    pub max_row: unsafe fn(x: *const f32, count: usize) -> f32,
    /// Nothing but multiplications with additions, in registers; how many of both it did.
    pub peak: unsafe fn(rounds: usize) -> u64,
}

/// Runs the peak loop of some kernels; the multiplications and additions it did.
///
/// # Safety
/// They run on this CPU.
pub unsafe fn peak_flops(kernels: &Kernels, rounds: usize) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { (kernels.peak)(rounds) }
}

/// One row of an operand.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub values: *const f32,
    /// Whether the one value stands for the whole row.
    pub single: bool,
}

/// The micro-kernel for panels of some width.
#[derive(Debug)]
pub struct Panel {
    /// Output channels it computes.
    pub lanes: usize,
    /// Pixels of its tile.
    pub pixels: usize,
    pub run: unsafe fn(&Tile),
}

impl Kernels {
    /// The panels into which this many channels are cut; the last one may be wider than what is left.
    pub fn panels(&self, channels: usize) -> impl Iterator<Item = &'static Panel> + use<> {
        let panels = self.panels;
        let (lanes, widest) = (panels[0].lanes, panels.len());
        let mut left = channels.div_ceil(lanes);
        std::iter::from_fn(move || {
            // One vector alone makes poor use of the registers: five are three and two rather than four and one.
            let vectors = if left == widest + 1 { widest.div_ceil(2) + 1 } else { left.min(widest) };
            left -= vectors.min(left);
            (vectors > 0).then(|| &panels[vectors - 1])
        })
    }
}

/// A function that uses what the CPU must have, and is safe to call where it has that.
macro_rules! enabled {
    ([$($feature:meta)?] unsafe fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? $body:block) => {
        $(#[$feature])?
        unsafe fn $name($($argument: $type),*) $(-> $result)? {
            // SAFETY: the caller's promise.
            $body
        }
    };
}
use enabled;

/// The table of an instruction set: its vector, what the CPU must have, its tiles as pixels × vectors from one vector
/// upwards.
macro_rules! kernels {
    ($name:literal, $vector:ty, $feature:tt, [$(($pixels:literal, $vectors:literal)),*]) => {
        pub static KERNELS: super::Kernels = {
            use super::{Binary, Kernels, Panel, Row, Tile, Unary, enabled, gemm, rows};
            enabled! { $feature unsafe fn unary(op: Unary, x: *const f32, to: *mut f32, count: usize) { unsafe { rows::unary::<$vector>(op, x, to, count) } } }
            enabled! { $feature unsafe fn binary(op: Binary, a: Row, b: Row, to: *mut f32, count: usize) { unsafe { rows::binary::<$vector>(op, a, b, to, count) } } }
            enabled! { $feature unsafe fn max_rows(rows: &[*const f32], to: *mut f32, count: usize) { unsafe { rows::max_rows::<$vector>(rows, to, count) } } }
            enabled! { $feature unsafe fn sum_rows(rows: &[*const f32], scale: f32, to: *mut f32, count: usize) { unsafe { rows::sum_rows::<$vector>(rows, scale, to, count) } } }
            enabled! { $feature unsafe fn softmax(x: *const f32, to: *mut f32, count: usize) {
                unsafe { rows::softmax::<$vector>(x, to, count) }
            } }
            enabled! { $feature unsafe fn layer_norm(
                x: *const f32, scale: *const f32, bias: *const f32, epsilon: f32, to: *mut f32, count: usize
            ) {
                unsafe { rows::layer_norm::<$vector>(x, scale, bias, epsilon, to, count) }
            } }
            enabled! { $feature unsafe fn sum_row(x: *const f32, count: usize) -> f32 {
                unsafe { rows::sum_row::<$vector>(x, count) }
            } }
            enabled! { $feature unsafe fn max_row(x: *const f32, count: usize) -> f32 {
                unsafe { rows::max_row::<$vector>(x, count) }
            } }
            enabled! { $feature unsafe fn peak(rounds: usize) -> u64 { unsafe { super::peak::peak::<$vector>(rounds) } } }
            Kernels {
                name: $name,
                panels: &[$(Panel {
                    lanes: $vectors * <$vector as Vector>::LANES,
                    pixels: $pixels,
                    run: {
                        enabled! { $feature unsafe fn run(tile: &Tile) {
                            unsafe { gemm::multiply::<$vector, $pixels, $vectors>(tile) }
                        } }
                        run
                    },
                }),*],
                unary,
                binary,
                max_rows,
                sum_rows,
                softmax,
                layer_norm,
                sum_row,
                max_row,
                peak,
            }
        };
    };
}
use kernels;
