//! The inner loops: written once over [`vector::Vector`], made for each instruction set in a file of its own.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod bytes;
#[cfg(target_arch = "aarch64")]
mod bytes_lanes;
#[cfg(test)]
mod check;
#[cfg(test)]
mod check_halves;
pub mod depthwise;
mod gemm;
#[cfg(target_arch = "aarch64")]
mod gemm_lanes;
pub mod halves;
pub mod isa;
mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
mod peak;
mod portable;
mod rows;
mod vector;
pub mod winograd;

pub use gemm::Tile;
pub use isa::{Isa, Panel, Tiles};

use super::graph::{Binary, Unary};

/// All kernels of one instruction set.
#[derive(Debug)]
pub struct Kernels {
    pub isa: &'static Isa,
    /// The micro-kernel of each of its panels.
    pub gemm: &'static [unsafe fn(&Tile)],
    /// Those that work on bytes, where [`Isa::int8`] says that it has such.
    pub bytes: Option<bytes::Bytes>,
    /// Those that work on halves, where [`Isa::fp16`] says that it has such.
    pub halves: Option<halves::Halves>,
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
    /// `to[i] = e^(x[i] - max x)`, and their sum; `to` may be `x`.
    pub exponentials: unsafe fn(x: *const f32, to: *mut f32, count: usize) -> f32,
    /// For each of `rows` rows of `count` values, `row` apart: the sum of `weights[i]` times the softmax of `x[i]`.
    pub expectation: unsafe fn(
        x: *const f32,
        row: usize,
        weights: *const f32,
        count: usize,
        to: *mut f32,
        to_step: usize,
        rows: usize,
    ),
    /// `to[i] = (x[i] - mean) / √(variance + epsilon) · scale[i] + bias[i]`; `to` may be `x`.
    pub layer_norm:
        unsafe fn(x: *const f32, scale: *const f32, bias: *const f32, epsilon: f32, to: *mut f32, count: usize),
    /// `to[i]` is the sum of `rows[0][i]`, `rows[1][i]`, … each times its weight.
    pub blend: unsafe fn(rows: &[*const f32], weights: *const f32, to: *mut f32, count: usize),
    /// Results of a convolution in which every channel has a filter of its own.
    pub depthwise: unsafe fn(run: &depthwise::Run<'_>),
    /// The products of one tile of F(4×4, 3×3), `step` values from one to the next; `channels` are whole vectors of
    /// [`Isa::half`].
    pub winograd_input:
        unsafe fn(pixels: &[*const f32; winograd::PRODUCTS], to: *mut f32, step: usize, channels: usize),
    /// The results of one tile.
    pub winograd_output: unsafe fn(tile: &winograd::Output<'_>),
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

/// What tells two machines apart that round differently in these kernels, or two versions of this program: estimates of a
/// reciprocal are each vendor's own.
pub fn arithmetic(kernels: &Kernels) -> u32 {
    let mut values: Vec<f32> = (-128i16..128).map(|at| f32::from(at) / 11.0).collect();
    // SAFETY: whoever has the table of kernels has the CPU for them; so many values are there.
    unsafe { (kernels.unary)(Unary::Sigmoid, values.as_ptr(), values.as_mut_ptr(), values.len()) };
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(env!("CARGO_PKG_VERSION").as_bytes());
    values.iter().for_each(|value| checksum.update(&value.to_le_bytes()));
    checksum.finalize()
}

/// One row of an operand.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub values: *const f32,
    /// Whether the one value stands for the whole row.
    pub single: bool,
}

/// The tables that are built for this kind of CPU, best first, each with whether this very CPU has what it needs.
fn tables() -> Vec<(&'static Kernels, bool)> {
    #[cfg(target_arch = "x86_64")]
    return vec![
        (
            &avx512::KERNELS,
            is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
        ),
        (&avx2::KERNELS, is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")),
        (&portable::KERNELS, true),
        (&avx512::VNNI, avx512::has_vnni()),
        (&avx2::VNNI, avx2::has_vnni()),
    ];
    #[cfg(target_arch = "aarch64")]
    return vec![
        (&neon::KERNELS, true),
        (&portable::KERNELS, true),
        (&neon::DOT, std::arch::is_aarch64_feature_detected!("dotprod")),
        (&neon::FP16, std::arch::is_aarch64_feature_detected!("fp16")),
    ];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return vec![(&portable::KERNELS, true)];
}

/// The best kernels that this CPU can run.
pub fn native() -> &'static Kernels {
    tables().into_iter().find_map(|(table, here)| here.then_some(table)).expect("the portable one runs everywhere")
}

/// The best kernels on bytes that this CPU can run, if it has instructions for them: without, numbers are as fast.
pub fn int8() -> Option<&'static Kernels> {
    let fast = |table: &Kernels| table.bytes.is_some() && *table.isa != isa::PORTABLE;
    tables().into_iter().find_map(|(table, here)| (here && fast(table)).then_some(table))
}

/// The kernels on halves that this CPU can run, if it has instructions for them.
pub fn fp16() -> Option<&'static Kernels> {
    let fast = |table: &Kernels| table.halves.is_some() && *table.isa != isa::PORTABLE;
    tables().into_iter().find_map(|(table, here)| (here && fast(table)).then_some(table))
}

/// Those that any CPU can run.
pub fn portable() -> &'static Kernels {
    &portable::KERNELS
}

/// The kernels of that name, and whether this CPU can run them.
pub fn by_name(name: &str) -> Option<(&'static Kernels, bool)> {
    tables().into_iter().find(|(table, _)| table.isa.name == name)
}

/// A function that uses what the CPU must have, and is safe to call where it has that.
macro_rules! enabled {
    ([$($feature:meta)?] unsafe fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? { $($body:tt)* }) => {
        $(#[$feature])?
        unsafe fn $name($($argument: $type),*) $(-> $result)? {
            // SAFETY: the caller's promise.
            unsafe { $($body)* }
        }
    };
}
use enabled;

/// The table of an instruction set: its vector, the smaller one for what is no whole vector, what the CPU must have, its micro-kernel, and its tiles as pixels ×
/// vectors, from one vector upwards, with the channels of a step.
macro_rules! kernels {
    ($isa:ident, $vector:ty, $half:ty, $feature:tt, $multiply:path, [$(($pixels:literal, $vectors:literal, $unroll:literal)),*]) => {
        /// Those that work on numbers.
        const NUMBERS: super::Kernels = {
            use super::{Binary, Kernels, Row, Tile, Unary, depthwise, enabled, gemm, isa, rows, winograd};
            use $multiply as multiply;
            enabled! { $feature unsafe fn finish(tile: &Tile, sums: *const $vector, pixels: usize, vectors: usize) {
                gemm::finish::<$vector>(tile, sums, pixels, vectors)
            } }
            enabled! { $feature unsafe fn finish_half(tile: &Tile, sums: *const $half, pixels: usize, vectors: usize) {
                gemm::finish::<$half>(tile, sums, pixels, vectors)
            } }
            enabled! { $feature unsafe fn unary(op: Unary, x: *const f32, to: *mut f32, count: usize) { rows::unary::<$vector>(op, x, to, count) } }
            enabled! { $feature unsafe fn binary(op: Binary, a: Row, b: Row, to: *mut f32, count: usize) { rows::binary::<$vector>(op, a, b, to, count) } }
            enabled! { $feature unsafe fn max_rows(rows: &[*const f32], to: *mut f32, count: usize) { rows::max_rows::<$vector>(rows, to, count) } }
            enabled! { $feature unsafe fn sum_rows(rows: &[*const f32], scale: f32, to: *mut f32, count: usize) { rows::sum_rows::<$vector>(rows, scale, to, count) } }
            enabled! { $feature unsafe fn softmax(x: *const f32, to: *mut f32, count: usize) {
                rows::softmax::<$vector>(x, to, count)
            } }
            enabled! { $feature unsafe fn exponentials(x: *const f32, to: *mut f32, count: usize) -> f32 {
                rows::exponentials::<$vector>(x, to, count)
            } }
            enabled! { $feature unsafe fn expectation(
                x: *const f32, row: usize, weights: *const f32, count: usize, to: *mut f32, to_step: usize, rows: usize
            ) {
                rows::expectation::<$vector>(x, row, weights, count, to, to_step, rows)
            } }
            enabled! { $feature unsafe fn layer_norm(
                x: *const f32, scale: *const f32, bias: *const f32, epsilon: f32, to: *mut f32, count: usize
            ) {
                rows::layer_norm::<$vector>(x, scale, bias, epsilon, to, count)
            } }
            enabled! { $feature unsafe fn blend(rows: &[*const f32], weights: *const f32, to: *mut f32, count: usize) {
                rows::blend::<$vector>(rows, weights, to, count)
            } }
            enabled! { $feature unsafe fn depthwise(run: &depthwise::Run<'_>) {
                depthwise::run::<$vector>(run)
            } }
            enabled! { $feature unsafe fn winograd_input(
                pixels: &[*const f32; winograd::PRODUCTS], to: *mut f32, step: usize, channels: usize
            ) {
                if channels.is_multiple_of(isa::$isa.lanes) {
                    winograd::input::<$vector>(pixels, to, step, channels);
                } else {
                    winograd::input::<$half>(pixels, to, step, channels);
                }
            } }
            enabled! { $feature unsafe fn winograd_output(tile: &winograd::Output<'_>) {
                if tile.channels.is_multiple_of(isa::$isa.lanes) {
                    winograd::output::<$vector>(tile, finish);
                } else {
                    winograd::output::<$half>(tile, finish_half);
                }
            } }
            enabled! { $feature unsafe fn sum_row(x: *const f32, count: usize) -> f32 {
                rows::sum_row::<$vector>(x, count)
            } }
            enabled! { $feature unsafe fn max_row(x: *const f32, count: usize) -> f32 {
                rows::max_row::<$vector>(x, count)
            } }
            enabled! { $feature unsafe fn peak(rounds: usize) -> u64 { super::peak::peak::<$vector>(rounds) } }
            Kernels {
                isa: &isa::$isa,
                gemm: &[$({
                    // Weights are packed by the one table and multiplied by the other.
                    const {
                        assert!(isa::$isa.lanes == <$vector as Vector>::LANES && isa::$isa.pixels[$vectors - 1] == $pixels)
                    };
                    enabled! { $feature unsafe fn run(tile: &Tile) {
                        multiply::<$vector, $pixels, $vectors, $unroll>(tile, finish)
                    } }
                    run
                }),*],
                bytes: None,
                halves: None,
                unary,
                binary,
                max_rows,
                sum_rows,
                softmax,
                exponentials,
                layer_norm,
                expectation,
                blend,
                depthwise,
                winograd_input,
                winograd_output,
                sum_row,
                max_row,
                peak,
            }
        };
    };
}
use bytes::byte_kernels;
use halves::half_kernels;
use kernels;
