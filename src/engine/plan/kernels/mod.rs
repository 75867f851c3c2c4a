//! The inner loops, one file an instruction set.

#[cfg(target_arch = "x86_64")]
pub mod avx512;

use super::graph::Activation;

/// One call of a micro-kernel: `pixels` sums over all taps, for one panel of output channels.
#[derive(Clone, Copy, Debug)]
pub struct Tile {
    /// Pointers to the first channel under each tap for each pixel: `[tap][pixel]`.
    pub inputs: *const *const f32,
    pub taps: usize,
    /// Input channels, which lie one after the other.
    pub depth: usize,
    /// `[tap][channel][panel]`.
    pub weights: *const f32,
    pub bias: *const f32,
    /// One for each pixel.
    pub outputs: *const *mut f32,
    /// One for each pixel, or null.
    pub residuals: *const *const f32,
    pub activation: Activation,
}
