//! One register of numbers, whatever the instruction set: what every kernel is written in.

/// As many numbers as one register of an instruction set holds.
///
/// # Safety
/// All functions need a CPU that has the instruction set; pointers must lead to [`Self::LANES`] values.
pub trait Vector: Copy {
    const LANES: usize;
    /// How many registers there are.
    const REGISTERS: usize;

    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// The first `count` values, fewer than all; the other lanes are `neutral`.
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize, neutral: f32) -> Self {
        let mut lanes = [neutral; LANES_MAX];
        // SAFETY: the caller has `count` values.
        unsafe {
            lanes.as_mut_ptr().copy_from_nonoverlapping(from, count);
            Self::load(lanes.as_ptr())
        }
    }
    /// Its first `count` lanes, fewer than all.
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        // SAFETY: the caller has room for `count` values.
        unsafe { to.copy_from_nonoverlapping(self.lanes().as_ptr(), count) }
    }
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    unsafe fn min(self, other: Self) -> Self;
    unsafe fn max(self, other: Self) -> Self;
    unsafe fn sqrt(self) -> Self;
    /// `1 / self`, to a few units in the last place.
    #[inline(always)]
    unsafe fn reciprocal(self) -> Self {
        // SAFETY: the caller has the instruction set.
        unsafe { Self::splat(1.0).div(self) }
    }
    /// `self · factor + term`, rounded once where the instruction set can.
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self;
    /// To the nearest whole number.
    unsafe fn round(self) -> Self;
    /// `self · 2^exponent` for whole exponents from -126 to 127.
    unsafe fn scale(self, exponent: Self) -> Self;

    /// Has the cache line fetched that holds a value, if there is one: any address will do.
    #[inline(always)]
    unsafe fn prefetch(_from: *const f32) {}

    /// The lanes, and zeros up to the widest vector there is.
    #[inline(always)]
    unsafe fn lanes(self) -> [f32; LANES_MAX] {
        let mut lanes = [0.0; LANES_MAX];
        // SAFETY: the caller has the instruction set.
        unsafe { self.store(lanes.as_mut_ptr()) };
        lanes
    }

    /// The sum of all lanes.
    #[inline(always)]
    unsafe fn total(self) -> f32 {
        // SAFETY: the caller has the instruction set.
        let mut lanes = unsafe { self.lanes() };
        fold(&mut lanes, Self::LANES, |a, b| a + b)
    }

    /// The largest lane.
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        // SAFETY: the caller has the instruction set.
        let mut lanes = unsafe { self.lanes() };
        fold(&mut lanes, Self::LANES, f32::max)
    }
}

/// Most lanes of a vector.
pub const LANES_MAX: usize = 16;

/// Halves onto halves, which the compiler makes vectors of.
#[inline(always)]
fn fold(lanes: &mut [f32; LANES_MAX], count: usize, f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = count / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = f(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}
