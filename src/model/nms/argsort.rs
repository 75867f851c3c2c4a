//! `np.argsort` of `float64` keys, down to the order in which it leaves exact ties.
//!
//! On a machine with AVX-512, `NumPy` 2.2 answers `np.argsort(keys)` with x86-simd-sort, an unstable
//! quicksort over sorting networks. Which of two equal keys comes first depends on every comparison it
//! makes, so this module makes the same comparisons in the same order, one pair at a time.
//!
//! Followed, in our own words: x86-simd-sort (Intel, BSD-3-Clause), `xss-common-argsort.h`,
//! `xss-network-keyvaluesort.hpp` and `avx512-64bit-common.h`.
//!
//! Why it is worth the room: Roboflow's classic engine sorts so, and which of two equal boxes comes first decides
//! which one its suppression keeps.

use std::hint::select_unpredictable;

/// Longest run that is sorted by one network.
const NETWORK: usize = 256;
/// Keys in one AVX-512 register.
const LANES: usize = 8;
/// Keys that a partition loads at a time: four registers.
const BLOCK: usize = 4 * LANES;

/// Fills `order` with the permutation that `np.argsort(keys)` returns: `NumPy` 2.2, x86-64 with AVX-512.
///
/// Keys are not `NaN`. Exact up to 256 keys, where other versions of `NumPy` and machines with AVX2 only agree; and
/// beyond, but for arrays of mostly equal keys, for which the original turns to another algorithm in the end: there
/// equal keys keep their order.
pub fn argsort(keys: &[f64], order: &mut Vec<u32>) {
    order.clear();
    order.extend((0..).take(keys.len()));
    quicksort(keys, order, 2 * keys.len().checked_ilog2().unwrap_or(0));
}

/// The key that the index `i` stands for.
fn key(keys: &[f64], i: u32) -> f64 {
    keys[i as usize]
}

/// Sorts a run of indices: by the network when it is short, else by parting it around a pivot.
fn quicksort(keys: &[f64], run: &mut [u32], rounds: u32) {
    if run.len() < 2 {
        return;
    }
    if rounds == 0 {
        return run.sort_by(|&a, &b| key(keys, a).total_cmp(&key(keys, b)));
    }
    if run.len() <= NETWORK {
        return network(keys, run);
    }
    let step = (run.len() - 1) / LANES;
    let mut sample: [f64; LANES] = std::array::from_fn(|i| key(keys, run[(i + 1) * step]));
    sample.sort_by(f64::total_cmp);
    let pivot = sample[LANES / 2];
    let cut = partition(keys, run, pivot);
    let (below, rest) = run.split_at_mut(cut);
    quicksort(keys, below, rounds - 1);
    if rest.iter().any(|&i| key(keys, i) > pivot) {
        quicksort(keys, rest, rounds - 1);
    }
}

/// Sorts at most [`NETWORK`] indices with a bitonic network whose comparators all put the lesser key at
/// the lower place.
///
/// The original pads the run to whole registers with infinities. Those fill the top places, where no
/// comparator moves them, so here the comparators that would touch them are left out.
fn network(keys: &[f64], run: &mut [u32]) {
    let mut pairs = [(0.0, 0); NETWORK];
    let pairs = &mut pairs[..run.len()];
    for (pair, &i) in pairs.iter_mut().zip(&*run) {
        *pair = (key(keys, i), i);
    }
    let mut width = 2;
    while width < 2 * pairs.len() {
        // Merge two sorted halves: first against the mirrored second, then pairs ever closer together.
        for chunk in pairs.chunks_mut(width) {
            let (low, high) = chunk.split_at_mut(chunk.len().min(width / 2));
            low.iter_mut().rev().zip(high).for_each(exchange);
        }
        let mut apart = width / 4;
        while apart > 0 {
            for chunk in pairs.chunks_mut(2 * apart) {
                let (low, high) = chunk.split_at_mut(chunk.len().min(apart));
                low.iter_mut().zip(high).for_each(exchange);
            }
            apart /= 2;
        }
        width *= 2;
    }
    for (slot, pair) in run.iter_mut().zip(pairs) {
        *slot = pair.1;
    }
}

/// One comparator: swaps the pairs when the first has the greater key, never on a tie.
fn exchange((low, high): (&mut (f64, u32), &mut (f64, u32))) {
    let (a, b) = (*low, *high);
    let swap = a.0 > b.0;
    *low = select_unpredictable(swap, b, a);
    *high = select_unpredictable(swap, a, b);
}

/// Moves the indices of keys below `pivot` to the front of a run longer than [`NETWORK`]; returns how
/// many there are.
fn partition(keys: &[f64], run: &mut [u32], pivot: f64) -> usize {
    // What exceeds whole blocks goes one by one.
    let (mut left, mut right) = (0, run.len());
    for _ in 0..run.len() % BLOCK {
        if key(keys, run[left]) < pivot {
            left += 1;
        } else {
            right -= 1;
            run.swap(left, right);
        }
    }
    // The outer blocks are held back to make room; `run[low..left]` and `run[right..high]` are free.
    let load = |run: &[u32], at: usize| -> [u32; BLOCK] { std::array::from_fn(|i| run[at + i]) };
    let (first, last) = (load(run, left), load(run, right - BLOCK));
    let (mut low, mut high) = (left, right);
    (left, right) = (left + BLOCK, right - BLOCK);
    let mut held = [first, last].into_iter();
    loop {
        let block = if left == right {
            let Some(block) = held.next() else { return low };
            block
        } else if high - right < left - low {
            right -= BLOCK;
            load(run, right)
        } else {
            left += BLOCK;
            load(run, left - BLOCK)
        };
        // Each register keeps its order: its lesser keys fill up from `low`, the others end at `high`.
        for lanes in block.chunks_exact(LANES) {
            high -= lanes.iter().filter(|&&i| key(keys, i) >= pivot).count();
            let mut upper = high;
            for &i in lanes {
                let below = key(keys, i) < pivot;
                run[if below { low } else { upper }] = i;
                low += usize::from(below);
                upper += usize::from(!below);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::argsort;

    /// `n` keys out of `q` values by a congruential generator; with `q` zero, mostly the least value.
    fn keys(n: usize, q: u32) -> Vec<f64> {
        let mut state = u32::try_from(n).unwrap();
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let key = (state >> 16) % if q == 0 { 40 } else { q };
            f64::from(if q == 0 && key >= 8 { 0 } else { key }) / 8.0
        };
        (0..n).map(|_| next()).collect()
    }

    fn sorted(keys: &[f64]) -> Vec<u32> {
        let mut order = vec![7];
        argsort(keys, &mut order);
        order
    }

    /// FNV-1a over whole indices.
    fn hash(order: &[u32]) -> u32 {
        let mix = |hash: u32, &i: &u32| (hash ^ i).wrapping_mul(0x0100_0193);
        order.iter().fold(0x811c_9dc5, mix)
    }

    /// What `np.argsort` of `NumPy` 2.2.6 returned: (`q`, permutation).
    #[rustfmt::skip]
    const RECORDED: [(u32, &[u32]); 10] = [
        (2, &[3, 2, 5, 4, 6, 7, 8, 0, 1]),
        (4, &[13, 14, 10, 8, 0, 1, 2, 7, 12, 6, 5, 11, 15, 3, 4, 9]),
        (
            4,
            &[5, 4, 12, 9, 15, 16, 6, 3, 7, 0, 1, 11, 13, 2, 10, 8, 14],
        ),
        (
            5,
            &[
                2, 5, 6, 8, 9, 15, 25, 21, 27, 24, 10, 26, 1, 14, 0, 7, 4, 16, 13, 3, 20, 11, 18,
                17, 22, 23, 12, 19,
            ],
        ),
        (
            6,
            &[
                2, 6, 14, 9, 16, 32, 15, 8, 31, 18, 17, 10, 13, 4, 34, 26, 24, 19, 20, 11, 29, 35,
                12, 27, 30, 25, 22, 23, 33, 5, 0, 7, 28, 21, 1, 3,
            ],
        ),
        (
            9,
            &[
                5, 4, 12, 15, 27, 59, 41, 45, 58, 14, 47, 33, 11, 46, 24, 8, 32, 36, 54, 34, 39,
                26, 9, 63, 20, 52, 53, 10, 31, 22, 2, 0, 50, 35, 17, 43, 42, 60, 51, 48, 23, 28, 6,
                16, 1, 3, 29, 21, 62, 49, 61, 30, 19, 18, 38, 7, 25, 13, 37, 40, 44, 55, 56, 57,
            ],
        ),
        (
            12,
            &[
                20, 29, 18, 39, 83, 92, 69, 71, 97, 82, 70, 77, 30, 46, 40, 12, 98, 34, 41, 13, 28,
                85, 87, 37, 17, 32, 45, 47, 35, 38, 22, 27, 76, 81, 68, 21, 14, 51, 61, 63, 57, 80,
                23, 53, 8, 90, 99, 79, 84, 16, 31, 7, 6, 44, 50, 54, 88, 95, 86, 72, 64, 10, 73,
                19, 52, 96, 65, 60, 1, 4, 15, 5, 42, 25, 94, 2, 75, 49, 56, 62, 93, 33, 0, 11, 59,
                91, 67, 48, 36, 78, 43, 55, 9, 3, 26, 24, 58, 89, 66, 74,
            ],
        ),
        (
            20,
            &[
                1, 2, 3, 23, 102, 104, 110, 68, 9, 56, 50, 89, 58, 42, 29, 5, 84, 88, 64, 99, 14,
                40, 97, 43, 41, 10, 32, 11, 59, 57, 37, 39, 17, 78, 83, 90, 95, 65, 33, 53, 13, 25,
                7, 105, 51, 35, 48, 80, 30, 47, 28, 8, 73, 77, 18, 55, 87, 19, 26, 27, 52, 16, 21,
                60, 74, 101, 86, 0, 38, 15, 36, 71, 96, 91, 67, 76, 109, 45, 46, 4, 49, 82, 103,
                93, 69, 72, 20, 79, 24, 22, 6, 54, 34, 61, 31, 100, 106, 66, 85, 98, 92, 63, 62,
                12, 107, 44, 75, 81, 94, 70, 108,
            ],
        ),
        (
            30,
            &[
                0, 1, 15, 34, 126, 146, 108, 29, 157, 197, 41, 12, 88, 42, 25, 99, 30, 65, 70, 51,
                46, 72, 110, 22, 150, 154, 152, 151, 132, 13, 97, 82, 11, 9, 14, 133, 160, 141,
                145, 140, 48, 5, 158, 167, 47, 115, 111, 175, 130, 49, 64, 36, 89, 84, 45, 92, 156,
                148, 174, 177, 118, 101, 86, 81, 186, 18, 163, 134, 17, 75, 96, 106, 104, 55, 57,
                56, 3, 195, 184, 190, 79, 125, 87, 114, 142, 77, 120, 188, 61, 63, 52, 124, 100,
                62, 20, 68, 143, 149, 168, 93, 35, 164, 181, 180, 187, 176, 135, 71, 59, 95, 113,
                109, 189, 169, 138, 147, 153, 183, 192, 136, 26, 170, 28, 44, 60, 27, 74, 112, 144,
                139, 131, 16, 103, 33, 98, 191, 53, 105, 4, 123, 102, 69, 122, 107, 193, 137, 94,
                10, 24, 161, 73, 129, 78, 199, 21, 32, 121, 19, 80, 127, 196, 178, 38, 66, 31, 23,
                43, 58, 166, 119, 173, 194, 185, 165, 67, 117, 2, 128, 162, 179, 54, 85, 171, 198,
                8, 50, 40, 37, 159, 7, 90, 83, 172, 39, 182, 6, 116, 91, 76, 155,
            ],
        ),
        (
            40,
            &[
                3, 14, 30, 20, 46, 111, 96, 69, 85, 7, 247, 131, 201, 225, 103, 101, 123, 114, 133,
                202, 42, 253, 251, 246, 168, 180, 11, 18, 78, 195, 112, 35, 237, 242, 176, 132,
                215, 1, 43, 119, 209, 182, 248, 135, 59, 70, 175, 208, 55, 39, 115, 125, 252, 92,
                104, 255, 58, 6, 110, 29, 200, 169, 140, 41, 156, 235, 151, 158, 79, 197, 52, 124,
                230, 157, 165, 211, 160, 146, 19, 100, 159, 219, 177, 189, 139, 245, 243, 234, 15,
                36, 97, 74, 254, 91, 217, 190, 10, 56, 61, 95, 51, 222, 27, 63, 167, 226, 136, 129,
                249, 0, 77, 120, 57, 113, 166, 128, 179, 181, 162, 198, 138, 153, 64, 82, 224, 62,
                67, 53, 60, 240, 183, 105, 185, 174, 193, 216, 89, 116, 22, 21, 66, 75, 73, 147,
                244, 130, 144, 232, 16, 4, 87, 17, 121, 107, 106, 24, 149, 241, 227, 154, 238, 171,
                145, 212, 8, 28, 80, 109, 206, 93, 40, 44, 68, 172, 72, 94, 127, 71, 205, 5, 192,
                155, 161, 184, 210, 207, 137, 32, 250, 25, 218, 164, 213, 31, 170, 229, 178, 126,
                231, 163, 37, 83, 81, 98, 233, 199, 204, 236, 88, 2, 76, 186, 196, 118, 13, 47,
                214, 26, 65, 86, 191, 148, 9, 49, 143, 194, 187, 23, 33, 220, 188, 228, 90, 84,
                203, 150, 134, 34, 102, 122, 141, 223, 45, 152, 117, 38, 12, 54, 99, 108, 48, 50,
                173, 142, 221, 239,
            ],
        ),
    ];

    /// The same for more than one network: (`n`, `q`, hash).
    const RECORDED_LARGE: [(usize, u32, u32); 5] = [
        (257, 40, 0x5c1a_4a5b),
        (300, 12, 0xa90e_a81f),
        (1000, 200, 0xe6d1_49bd),
        (3000, 700, 0x3c3f_6495),
        (8400, 900, 0x805c_d1c7),
    ];

    #[test]
    fn orders_ties_as_numpy_does() {
        for (q, want) in RECORDED {
            assert_eq!(sorted(&keys(want.len(), q)), want, "{} keys", want.len());
        }
    }

    #[test]
    fn orders_ties_of_long_arrays_as_numpy_does() {
        for (n, q, want) in RECORDED_LARGE {
            assert_eq!(hash(&sorted(&keys(n, q))), want, "{n} keys out of {q}");
        }
    }

    #[test]
    fn returns_a_sorting_permutation() {
        let odd = [f64::INFINITY, 0.0, f64::NEG_INFINITY, -0.0, f64::MAX, f64::MIN_POSITIVE];
        for n in (0..600).chain([1023, 1024, 1025, 5000]) {
            for q in [0, 1, 2, 7, 100, 60_000] {
                let mut keys = keys(n, q);
                for (key, odd) in keys.iter_mut().step_by(5).zip(odd.into_iter().cycle()) {
                    *key = odd;
                }
                let order = sorted(&keys);
                assert!(order.is_sorted_by_key(|&i| keys[i as usize]), "{n} keys out of {q}");
                let mut seen = order;
                seen.sort_unstable();
                assert!(seen.into_iter().eq((0..).take(n)), "{n} keys out of {q}");
            }
        }
    }
}
