//! What a core can do at most: the bar that steps are measured against.

use std::hint::black_box;

use super::vector::Vector;

/// Sums that do not wait for each other: more than the latency of the instruction times how many start at once (4 × 2 on
/// x86-64 and on Cortex-A76), few enough for 16 registers.
const SUMS: usize = 12;

/// `rounds` times one multiplication with addition in each of [`SUMS`] registers.
///
/// # Safety
/// The CPU has the instruction set.
#[inline(always)]
pub unsafe fn peak<V: Vector>(rounds: usize) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        // Towards a fixed point at 2: nothing overflows and nothing becomes subnormal, which would be slow.
        let (factor, term) = (V::splat(black_box(0.5)), V::splat(black_box(1.0)));
        let mut sums = [V::splat(black_box(0.0)); SUMS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = sum.mul_add(factor, term);
            }
        }
        let mut total = sums[0];
        for sum in &sums[1..] {
            total = total.add(*sum);
        }
        black_box(total.total());
        2 * (rounds * SUMS * V::LANES) as u64
    }
}
