//! What the kernels of every instruction set are held against: plain loops in `f64`, on memory that ends where the
//! kernel's reading must.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a test's own small numbers, and rounding that is meant"
)]

use super::gemm::Tile;
use super::math;
use super::vector::Vector;
use crate::engine::plan::graph::{Activation, Finish, Residual};

/// Most lanes of a vector.
const LANES_MAX: usize = 16;

/// xorshift64*: the same numbers on every machine.
pub(super) struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32
    }
    pub fn below(&mut self, end: usize) -> usize {
        self.next() as usize % end
    }
    /// From -1 to 1.
    pub fn number(&mut self) -> f32 {
        self.next() as f32 / (1u64 << 31) as f32 - 1.0
    }
}

/// Numbers that end where a page begins that nobody may touch: who reads one too many is killed.
pub(super) struct Guarded {
    pages: *mut f32,
    page_bytes: usize,
    bytes: usize,
}

impl Guarded {
    pub fn new(most: usize) -> Self {
        // SAFETY: asks for fresh memory, and gives up access to the last page of it.
        unsafe {
            let page_bytes = libc::sysconf(libc::_SC_PAGESIZE) as usize;
            let bytes = (most * size_of::<f32>()).next_multiple_of(page_bytes);
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let pages = libc::mmap(std::ptr::null_mut(), bytes + page_bytes, access, flags, -1, 0);
            assert_ne!(pages, libc::MAP_FAILED);
            assert_eq!(libc::mprotect(pages.byte_add(bytes), page_bytes, libc::PROT_NONE), 0);
            Self { pages: pages.cast(), page_bytes, bytes }
        }
    }

    /// The last `count` numbers.
    pub fn last(&mut self, count: usize) -> &mut [f32] {
        assert!(count * size_of::<f32>() <= self.bytes);
        // SAFETY: within what was mapped, which is zero or was written since.
        unsafe { std::slice::from_raw_parts_mut(self.pages.byte_add(self.bytes).sub(count), count) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and borrowed by nobody any more.
        unsafe {
            libc::munmap(self.pages.cast(), self.bytes + self.page_bytes);
        }
    }
}

/// Holds every tile of an instruction set against a plain loop: 1 to 9 taps, 1 to 70 channels, every activation, without a
/// residual and with one on either side. Inputs, weights, bias and residuals end at a page that cannot be read, and what
/// lies between the outputs must stay as it was.
///
/// # Safety
/// The CPU has the instruction set.
pub unsafe fn gemm(kernels: &super::Kernels) {
    const TAPS_MAX: usize = 9;
    const DEPTH_MAX: usize = 70;
    const ROWS: usize = 12;
    /// For the error in parts of the sum of the products' sizes.
    const BOUND: f64 = 1e-6;
    const RESIDUALS: [Residual; 3] = [Residual::None, Residual::Before, Residual::After];
    let untouched = -12344.0;

    let mut random = Random(5);
    let mut x = Guarded::new(ROWS * DEPTH_MAX);
    let mut w = Guarded::new(TAPS_MAX * DEPTH_MAX * 4 * LANES_MAX);
    let mut b = Guarded::new(4 * LANES_MAX);
    let mut r = Guarded::new(ROWS * 4 * LANES_MAX);
    let (mut case, mut worst) = (0, 0f64);
    for ([width, pixels], run) in kernels.isa.tiles().into_iter().zip(kernels.gemm) {
        for (taps, depth) in (1..=TAPS_MAX).flat_map(|taps| (1..=DEPTH_MAX).map(move |depth| (taps, depth))) {
            let finish = Finish { activation: Activation::ALL[case % 6], residual: RESIDUALS[case / 6 % 3] };
            // Odd to the number of finishes, so that each comes with each depth modulo eight.
            case += if depth == DEPTH_MAX { 2 } else { 1 };

            let (x, w, b, r) =
                (x.last(ROWS * depth), w.last(taps * depth * width), b.last(width), r.last(ROWS * width));
            b.fill_with(|| random.number());
            for number in x.iter_mut().chain(w.iter_mut()).chain(r.iter_mut()) {
                *number = random.number();
            }
            let rows: Vec<usize> =
                (0..taps * pixels).map(|_| if random.below(3) == 0 { ROWS - 1 } else { random.below(ROWS) }).collect();
            let inputs: Vec<*const f32> = rows.iter().map(|row| x[row * depth..].as_ptr()).collect();
            let residual_rows: Vec<usize> = (0..pixels).map(|_| random.below(ROWS)).collect();
            let residuals: Vec<*const f32> = residual_rows.iter().map(|row| r[row * width..].as_ptr()).collect();
            let stride = width + 1;
            let mut y = vec![untouched; pixels * stride];
            let outputs: Vec<*mut f32> = (0..pixels).map(|p| y[p * stride..].as_mut_ptr()).collect();
            let tile = Tile {
                inputs: inputs.as_ptr(),
                outputs: outputs.as_ptr(),
                residuals: if finish.residual == Residual::None { std::ptr::null() } else { residuals.as_ptr() },
                ..Tile::new(taps, depth, w.as_ptr(), b.as_ptr(), 0, finish)
            };
            // SAFETY: the caller's promise; the tile has what it says.
            unsafe { run(&tile) };

            for p in 0..pixels {
                assert_eq!(y[p * stride + width], untouched, "wrote past the channels of pixel {p}");
                for lane in 0..width {
                    let (mut sum, mut size) = (f64::from(b[lane]), f64::from(b[lane].abs()));
                    for tap in 0..taps {
                        for channel in 0..depth {
                            let product = f64::from(x[rows[tap * pixels + p] * depth + channel])
                                * f64::from(w[(tap * depth + channel) * width + lane]);
                            sum += product;
                            size += product.abs();
                        }
                    }
                    let added = f64::from(r[residual_rows[p] * width + lane]);
                    let wanted = finished(finish, sum, added);
                    let found = f64::from(y[p * stride + lane]);
                    let error = (found - wanted).abs() / (size + 1.0);
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
}

/// Holds every tile of bytes against a plain loop: as [`gemm`], with 4 to 72 channels, results as numbers, as bytes or as
/// both, residuals of either kind.
///
/// # Safety
/// The CPU has the instruction set.
pub unsafe fn byte_gemm(kernels: &super::Kernels) {
    use super::bytes::{ByteTile, QUAD, Scale};
    const TAPS_MAX: usize = 9;
    const QUADS_MAX: usize = 18;
    const ROWS: usize = 12;
    const ACTIVATIONS: [Activation; 3] = [Activation::Silu, Activation::Relu, Activation::None];
    const RESIDUALS: [Residual; 3] = [Residual::None, Residual::Before, Residual::After];
    let (untouched, untouched_byte) = (-12344.0, 99);
    let (bytes, int8) = (kernels.bytes.as_ref().expect("it is asked for"), kernels.isa.int8.expect("as the table"));
    // What a byte in memory is.
    let number = |byte: u8| if int8.low < 0 { i32::from(byte.cast_signed()) } else { i32::from(byte) };

    let mut random = Random(9);
    let mut x = Guarded::new(ROWS * QUADS_MAX);
    let mut w = Guarded::new(TAPS_MAX * QUADS_MAX * 4 * LANES_MAX);
    let (mut s, mut b) = (Guarded::new(4 * LANES_MAX), Guarded::new(4 * LANES_MAX));
    let mut r = Guarded::new(ROWS * 4 * LANES_MAX);
    let mut case = 0;
    for ([width, pixels], run) in kernels.isa.tiles().into_iter().zip(bytes.gemm) {
        for (taps, quads) in (1..=TAPS_MAX).flat_map(|taps| (1..=QUADS_MAX).map(move |quads| (taps, quads))) {
            let finish = Finish { activation: ACTIVATIONS[case % 3], residual: RESIDUALS[case / 3 % 3] };
            let wants = [[true, false], [false, true], [true, true]][case / 9 % 3];
            let scale = |random: &mut Random| Scale {
                step: 0.01 + random.below(100) as f32 * 1e-3,
                zero: int8.low + random.below(256) as i32,
            };
            let (bytes_scale, of_residual) = (scale(&mut random), scale(&mut random));
            let residual_scale = (case / 27 % 2 == 0).then_some(of_residual);
            case += 1;

            let x = as_bytes(x.last(ROWS * quads));
            let w = as_bytes(w.last(taps * quads * width));
            let (s, b) = (s.last(width), b.last(width));
            let r = as_bytes(r.last(if residual_scale.is_some() { ROWS * width / 4 } else { ROWS * width }));
            x.iter_mut().chain(w.iter_mut()).for_each(|byte| *byte = random.next() as u8);
            s.fill_with(|| 1e-6 + 1e-4 * random.below(100) as f32 / quads as f32);
            b.fill_with(|| random.number());
            if residual_scale.is_some() {
                r.iter_mut().for_each(|byte| *byte = random.next() as u8);
            } else {
                r.chunks_exact_mut(4).for_each(|value| value.copy_from_slice(&random.number().to_ne_bytes()));
            }
            let residual_width = if residual_scale.is_some() { 1 } else { 4 };
            let rows: Vec<usize> = (0..taps * pixels).map(|_| random.below(ROWS)).collect();
            let inputs: Vec<*const u8> = rows.iter().map(|row| x[row * quads * QUAD..].as_ptr()).collect();
            let residual_rows: Vec<usize> = (0..pixels).map(|_| random.below(ROWS)).collect();
            let residuals: Vec<*const u8> =
                residual_rows.iter().map(|row| r[row * width * residual_width..].as_ptr()).collect();
            let stride = width + 1;
            let (mut y, mut z) = (vec![untouched; pixels * stride], vec![untouched_byte; pixels * stride]);
            let numbers: Vec<*mut f32> = (0..pixels).map(|p| y[p * stride..].as_mut_ptr()).collect();
            let to_bytes: Vec<*mut u8> = (0..pixels).map(|p| z[p * stride..].as_mut_ptr()).collect();
            let tile = ByteTile {
                inputs: inputs.as_ptr(),
                taps,
                quads,
                weights: w.as_ptr().cast(),
                scale: s.as_ptr(),
                bias: b.as_ptr(),
                numbers: if wants[0] { numbers.as_ptr() } else { std::ptr::null() },
                bytes: if wants[1] { to_bytes.as_ptr() } else { std::ptr::null() },
                bytes_scale,
                residuals: residuals.as_ptr(),
                residual_scale,
                first: 0,
                finish,
            };
            // SAFETY: the caller's promise; the tile has what it says.
            unsafe { run(&tile) };

            for p in 0..pixels {
                assert_eq!(
                    (y[p * stride + width], z[p * stride + width]),
                    (untouched, untouched_byte),
                    "past pixel {p}"
                );
                for lane in 0..width {
                    let mut sum = 0_i32;
                    for tap in 0..taps {
                        for channel in 0..quads * QUAD {
                            let weight = w[((tap * quads + channel / QUAD) * width + lane) * QUAD + channel % QUAD]
                                .cast_signed();
                            sum += number(x[rows[tap * pixels + p] * quads * QUAD + channel]) * i32::from(weight);
                        }
                    }
                    let sum = f64::from(sum) * f64::from(s[lane]) + f64::from(b[lane]);
                    let at = residual_rows[p] * width + lane;
                    let added = match residual_scale {
                        Some(scale) => f64::from(number(r[at]) - scale.zero) * f64::from(scale.step),
                        None => f64::from(f32::from_ne_bytes(r[4 * at..4 * at + 4].try_into().unwrap())),
                    };
                    let wanted = finished(finish, sum, added);
                    let what = || {
                        format!(
                            "{pixels} pixels × {width} lanes, {taps} taps × {quads} quads, {finish:?}: pixel {p} channel {lane}"
                        )
                    };
                    let found = y[p * stride + lane];
                    if wants[0] {
                        assert!(
                            (f64::from(found) - wanted).abs() <= 2e-6 * (wanted.abs() + sum.abs() + added.abs() + 1.0),
                            "{}: {found}, not {wanted}",
                            what()
                        );
                    } else {
                        assert_eq!(found, untouched);
                    }
                    let byte = z[p * stride + lane];
                    if wants[1] {
                        let exact = (wanted / f64::from(bytes_scale.step) + f64::from(bytes_scale.zero))
                            .clamp(f64::from(int8.low), f64::from(int8.low + 255));
                        // Rounding may go either way where it is close.
                        let rough = 4e-4 * activated(finish.activation, sum).abs() / f64::from(bytes_scale.step);
                        assert!(
                            (f64::from(number(byte)) - exact).abs() <= 0.51 + rough,
                            "{}: {byte}, not {exact}",
                            what()
                        );
                    } else {
                        assert_eq!(byte, untouched_byte);
                    }
                }
            }
        }
    }
}

/// The same memory.
fn as_bytes(numbers: &mut [f32]) -> &mut [u8] {
    // SAFETY: four bytes are a number, and any bytes are bytes.
    unsafe { std::slice::from_raw_parts_mut(numbers.as_mut_ptr().cast(), size_of_val(numbers)) }
}

/// Holds the other functions on bytes against plain loops.
///
/// # Safety
/// The CPU has the instruction set.
pub unsafe fn byte_rows(kernels: &super::Kernels) {
    use super::bytes::Scale;
    let (bytes, int8) = (kernels.bytes.as_ref().expect("it is asked for"), kernels.isa.int8.expect("as the table"));
    let number = |byte: u8| if int8.low < 0 { i32::from(byte.cast_signed()) } else { i32::from(byte) };
    let mut random = Random(3);
    let mut guarded = Guarded::new(200);
    for count in 1..200 {
        let x = guarded.last(count);
        x.fill_with(|| random.number() * 4.0);
        x[0] = [f32::INFINITY, -1e30, 1e30, f32::NEG_INFINITY][count % 4];
        let scale = Scale { step: 0.02, zero: int8.low + 100 };
        let mut to = vec![77; count + 1];
        // SAFETY: the caller's promise.
        unsafe { (bytes.quantize)(x.as_ptr(), scale, to.as_mut_ptr(), count) };
        assert_eq!(to[count], 77);
        for (x, byte) in x.iter().zip(&to) {
            let exact = (x / scale.step + scale.zero as f32).clamp(int8.low as f32, (int8.low + 255) as f32);
            assert!((number(*byte) as f32 - exact).abs() <= 0.51, "{x}: {byte}, not {exact}");
        }
        let rows: Vec<Vec<u8>> =
            (0..1 + count % 5).map(|_| (0..count).map(|_| random.next() as u8).collect()).collect();
        let pointers: Vec<*const u8> = rows.iter().map(|row| row.as_ptr()).collect();
        // SAFETY: the caller's promise.
        unsafe { (bytes.max_rows)(&pointers, to.as_mut_ptr(), count) };
        assert_eq!(to[count], 77);
        for at in 0..count {
            assert_eq!(number(to[at]), rows.iter().map(|row| number(row[at])).max().unwrap());
        }
    }
}

/// A sum with its residual and activation, in `f64`.
pub(super) fn finished(Finish { activation, residual }: Finish, sum: f64, added: f64) -> f64 {
    match residual {
        Residual::None => activated(activation, sum),
        Residual::Before => activated(activation, sum + added),
        Residual::After => activated(activation, sum) + added,
    }
}

/// An activation in `f64`. The error function by its power series, which converges everywhere.
pub(super) fn activated(activation: Activation, x: f64) -> f64 {
    let sigmoid = 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::None => x,
        Activation::Relu => x.max(0.0),
        Activation::Silu => x * sigmoid,
        Activation::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::Gelu => x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)) / 2.0,
        Activation::Sigmoid => sigmoid,
    }
}

fn erf(x: f64) -> f64 {
    if x.abs() > 5.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        let n = f64::from(n);
        term *= -x * x / n;
        sum += term / (2.0 * n + 1.0);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

/// One function of a vector on as many numbers as it has lanes.
#[inline(always)]
unsafe fn on<V: Vector>(x: &[f32], function: impl Fn(V) -> V) -> [f32; LANES_MAX] {
    let mut y = [0.0; LANES_MAX];
    // SAFETY: the caller has the instruction set and gives as many numbers as lanes.
    unsafe { function(V::load(x.as_ptr())).store(y.as_mut_ptr()) };
    y
}

/// Holds the operations of a vector type, and the functions made of them, against the standard library and `f64`.
///
/// # Safety
/// The CPU has the instruction set.
#[inline(always)]
pub unsafe fn functions<V: Vector>() {
    let mut random = Random(7);
    let lanes = V::LANES;
    let special = [0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 1e-40, -1e-40, 3.0e6, -3.0e6, 1e-6, -1e-6, 126.0, -126.0, 1.0];
    for round in 0..1000 {
        let take = |random: &mut Random| -> [f32; LANES_MAX] {
            std::array::from_fn(|_| {
                if random.below(4) == 0 { special[random.below(special.len())] } else { random.number() * 100.0 }
            })
        };
        let (a, b, c) = (take(&mut random), take(&mut random), take(&mut random));
        // SAFETY: the caller's promise; arrays hold as many numbers as any vector.
        unsafe {
            let (vb, vc) = (V::load(b.as_ptr()), V::load(c.as_ptr()));
            let whole = |x: f32| x.round_ties_even().clamp(-126.0, 127.0);
            let exponents: [f32; LANES_MAX] = b.map(whole);
            let found: [(&str, [f32; LANES_MAX], [f32; LANES_MAX]); 10] = [
                ("splat", on::<V>(&a, |_| V::splat(a[0])), [a[0]; LANES_MAX]),
                ("add", on::<V>(&a, |a| a.add(vb)), std::array::from_fn(|i| a[i] + b[i])),
                ("sub", on::<V>(&a, |a| a.sub(vb)), std::array::from_fn(|i| a[i] - b[i])),
                ("mul", on::<V>(&a, |a| a.mul(vb)), std::array::from_fn(|i| a[i] * b[i])),
                ("div", on::<V>(&a, |a| a.div(vb)), std::array::from_fn(|i| a[i] / b[i])),
                ("min", on::<V>(&a, |a| a.min(vb)), std::array::from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })),
                ("max", on::<V>(&a, |a| a.max(vb)), std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })),
                ("sqrt", on::<V>(&a, |a| a.sqrt()), a.map(f32::sqrt)),
                ("round", on::<V>(&a, |a| a.round()), a.map(f32::round_ties_even)),
                (
                    "scale",
                    on::<V>(&a, |a| a.scale(V::load(exponents.as_ptr()))),
                    std::array::from_fn(|i| (f64::from(a[i]) * f64::from(exponents[i]).exp2()) as f32),
                ),
            ];
            for (name, found, wanted) in found {
                for lane in 0..lanes {
                    let (found, wanted) = (found[lane], wanted[lane]);
                    // Zeros of either sign are one, and no number is any other that is none.
                    let same = found == wanted || found.is_nan() && wanted.is_nan();
                    assert!(same, "{name} of {} and {}: {found}, should be {wanted} ({round})", a[lane], b[lane]);
                }
            }
            let found = on::<V>(&a, |a| a.mul_add(vb, vc));
            for lane in 0..lanes {
                let product = f64::from(a[lane]) * f64::from(b[lane]);
                let bound = 1.3e-7 * (product.abs() + f64::from(c[lane].abs()));
                assert!((f64::from(found[lane]) - (product + f64::from(c[lane]))).abs() <= bound + 1e-38, "mul_add");
            }
        }
    }

    // SAFETY: the caller's promise.
    unsafe {
        // Relative bounds, in units of 2^-23.
        along::<V>("exp", -87.0, 88.0, 2.0, |x| math::exp(x), f64::exp);
        for (from, to, bound) in [(-16.0, 16.0, 8.0), (-86.0, 1000.0, 48.0)] {
            along::<V>("sigmoid", from, to, bound, |x| math::sigmoid(x), |x| activated(Activation::Sigmoid, x));
            along::<V>("silu", from, to, bound, |x| math::silu(x), |x| activated(Activation::Silu, x));
        }
        along::<V>("erf", -5.0, 5.0, 8.0, |x| math::erf(x), erf);
        // Beyond its range `exp` stays at the ends of it: finite, and never zero.
        for (x, end) in [(-1e9, -87.0f64), (f32::NEG_INFINITY, -87.0), (1e9, 88.0), (f32::INFINITY, 88.0)] {
            let found = f64::from(on::<V>(&[x; LANES_MAX], |x| math::exp(x))[0]);
            assert!((found / end.exp() - 1.0).abs() < 1e-6, "exp of {x}: {found}");
        }
        assert_eq!(on::<V>(&[-0.5; LANES_MAX], |x| math::activate(Activation::Relu, x))[0], 0.0);
        assert_eq!(on::<V>(&[0.5; LANES_MAX], |x| math::activate(Activation::Relu, x))[0], 0.5);
    }
}

/// A function over a range against the same in `f64`.
#[inline(always)]
unsafe fn along<V: Vector>(
    name: &str,
    from: f32,
    to: f32,
    bound: f64,
    function: impl Fn(V) -> V + Copy,
    exact: impl Fn(f64) -> f64,
) {
    const STEPS: usize = 200_000;
    let mut worst = (0.0, 0.0);
    for step in (0..STEPS).step_by(V::LANES) {
        let x: [f32; LANES_MAX] =
            std::array::from_fn(|lane| from + (to - from) * ((step + lane).min(STEPS) as f32 / STEPS as f32));
        // SAFETY: the caller's promise.
        let y = unsafe { on(&x, function) };
        for lane in 0..V::LANES {
            let wanted = exact(f64::from(x[lane]));
            let error = (f64::from(y[lane]) - wanted).abs() / wanted.abs().max(f64::MIN_POSITIVE) * 8_388_608.0;
            if error > worst.0 {
                worst = (error, x[lane]);
            }
        }
    }
    println!("{name}: off by at most {:.2} units of 2^-23, at {}", worst.0, worst.1);
    assert!(worst.0 <= bound, "{name} of {} is off by {} units of 2^-23", worst.1, worst.0);
}
