//! As check.rs, for the kernels on halves.

use super::Tile;
use super::check::{Guarded, Random, finished};
use super::halves::{HALF_MAX, LANES, from_half, to_half};
use crate::engine::plan::graph::{Activation, Finish, Residual};

const ROWS: usize = 12;
/// Lanes of the widest panel.
const WIDTH_MAX: usize = 4 * LANES;

/// Holds every tile against a plain loop: 1 to 9 taps, 1 to 80 channels, activations, residuals on either side. Inputs
/// and weights end at a page that cannot be read, and what lies between the outputs must stay as it was.
///
/// # Safety
/// The CPU has the instruction set.
pub unsafe fn gemm(kernels: &super::Kernels) {
    const TAPS: [usize; 3] = [1, 2, 9];
    const DEPTH_MAX: usize = 80;
    /// For the error in parts of the sum of the products' sizes, of 200,000 sums: those of halves have 11 bits.
    const BOUND: f64 = 2e-3;
    let untouched = -12344.0;
    let (halves, tiles) = (kernels.halves.as_ref().expect("it is asked for"), kernels.isa.fp16.expect("as the table"));

    let mut random = Random(17);
    let mut x = Guarded::new(ROWS * DEPTH_MAX);
    let mut w = Guarded::new(9 * DEPTH_MAX * WIDTH_MAX);
    let (mut b, mut r) = (Guarded::new(WIDTH_MAX), Guarded::new(ROWS * WIDTH_MAX));
    let (mut case, mut worst) = (0, 0f64);
    for ((index, &pixels), run) in tiles.pixels.iter().enumerate().zip(halves.gemm) {
        let width = (index + 1) * LANES;
        for (taps, depth) in TAPS.into_iter().flat_map(|taps| (1..=DEPTH_MAX).map(move |depth| (taps, depth))) {
            let finish = Finish {
                activation: [Activation::Silu, Activation::Relu, Activation::None, Activation::Gelu][case % 4],
                residual: [Residual::None, Residual::Before, Residual::After][case / 4 % 3],
            };
            case += 1;
            let x = as_halves(x.last((ROWS * depth).div_ceil(2)), ROWS * depth);
            let w = as_halves(w.last(taps * depth * width / 2), taps * depth * width);
            let (b, r) = (b.last(width), r.last(ROWS * width));
            x.iter_mut().chain(w.iter_mut()).for_each(|half| *half = to_half(random.number()));
            b.iter_mut().chain(r.iter_mut()).for_each(|number| *number = random.number());
            let mut rows = |count: usize| -> Vec<usize> { (0..count).map(|_| random.below(ROWS)).collect() };
            let (rows, residual_rows) = (rows(taps * pixels), rows(pixels));
            let inputs: Vec<*const u16> = rows.iter().map(|row| x[row * depth..].as_ptr()).collect();
            let residuals: Vec<*const f32> = residual_rows.iter().map(|row| r[row * width..].as_ptr()).collect();
            let stride = width + 1;
            let mut y = vec![untouched; pixels * stride];
            let outputs: Vec<*mut f32> = (0..pixels).map(|p| y[p * stride..].as_mut_ptr()).collect();
            let tile = Tile {
                inputs: inputs.as_ptr(),
                outputs: outputs.as_ptr(),
                residuals: residuals.as_ptr(),
                ..Tile::new(taps, depth, w.as_ptr(), b.as_ptr(), 0, finish)
            };
            // SAFETY: the caller's promise; the tile has what it says.
            unsafe { run(&tile) };
            for p in 0..pixels {
                assert_eq!(y[p * stride + width], untouched, "wrote past the channels of pixel {p}");
                for lane in 0..width {
                    let (mut sum, mut size) = (f64::from(b[lane]), 1.0);
                    for (tap, channel) in (0..taps).flat_map(|tap| (0..depth).map(move |channel| (tap, channel))) {
                        let product = f64::from(from_half(x[rows[tap * pixels + p] * depth + channel]))
                            * f64::from(from_half(w[(tap * depth + channel) * width + lane]));
                        sum += product;
                        size += product.abs();
                    }
                    let added = f64::from(r[residual_rows[p] * width + lane]);
                    let wanted = finished(finish, sum, added);
                    let found = y[p * stride + lane];
                    let error = (f64::from(found) - wanted).abs() / size;
                    worst = error.max(worst);
                    assert!(
                        error <= BOUND,
                        "{pixels} pixels × {width} lanes, {taps} taps × {depth} channels, {finish:?}: pixel {p} channel \
                         {lane} is {found}, should be {wanted}"
                    );
                }
            }
        }
    }
    println!("off by at most {worst:.2e} of the sum of the products' sizes");
    // SAFETY: the caller's promise.
    unsafe { long_and_large(kernels) };
}

/// Sums of halves end where ones no longer count, at 2048, and those of single precision do not; beyond the largest half
/// a sum is infinite, not something else.
///
/// # Safety
/// As [`gemm`].
unsafe fn long_and_large(kernels: &super::Kernels) {
    const DEPTH: usize = 5003;
    let (halves, tiles) = (kernels.halves.as_ref().expect("it is asked for"), kernels.isa.fp16.expect("as the table"));
    for (factor, wanted) in [(1.0, DEPTH as f32), (256.0, f32::INFINITY)] {
        for ((index, &pixels), run) in tiles.pixels.iter().enumerate().zip(halves.gemm) {
            let width = (index + 1) * LANES;
            let (x, w) = (vec![to_half(factor); DEPTH], vec![to_half(factor); DEPTH * width]);
            let (b, mut y) = (vec![0.0; width], vec![0.0; pixels * width]);
            let inputs = vec![x.as_ptr(); pixels];
            let outputs: Vec<*mut f32> = (0..pixels).map(|p| y[p * width..].as_mut_ptr()).collect();
            let tile = Tile::new(1, DEPTH, w.as_ptr(), b.as_ptr(), 0, Finish::default());
            // SAFETY: the caller's promise; the tile has what it says.
            unsafe { run(&Tile { inputs: inputs.as_ptr(), outputs: outputs.as_ptr(), ..tile }) };
            assert_eq!(y, vec![wanted; pixels * width]);
        }
    }
}

/// Holds the narrowing against the conversion of single numbers.
///
/// # Safety
/// The CPU has the instruction set.
pub unsafe fn narrow(kernels: &super::Kernels) {
    let halves = kernels.halves.as_ref().expect("it is asked for");
    let mut random = Random(3);
    let mut guarded = Guarded::new(100);
    for count in 1..100 {
        let x = guarded.last(count);
        x.fill_with(|| random.number() * 10.0_f32.powi(8 - i32::try_from(random.below(16)).unwrap_or(0)));
        x[0] = [HALF_MAX, 65520.0, -1e-8, f32::NEG_INFINITY][count % 4];
        let mut to = vec![7; count + 1];
        // SAFETY: the caller's promise.
        unsafe { (halves.narrow)(x.as_ptr(), to.as_mut_ptr(), count) };
        assert_eq!(to.pop(), Some(7));
        assert_eq!(to, x.iter().map(|&x| to_half(x)).collect::<Vec<u16>>());
    }
}

/// The last `count` halves of the same memory.
fn as_halves(numbers: &mut [f32], count: usize) -> &mut [u16] {
    let all = 2 * numbers.len();
    // SAFETY: two halves are a number, and any bits are a half.
    let halves = unsafe { std::slice::from_raw_parts_mut(numbers.as_mut_ptr().cast::<u16>(), all) };
    &mut halves[all - count..]
}
