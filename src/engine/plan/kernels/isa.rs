//! What is to be known of an instruction set without having it: enough to pack weights for it on another machine.

/// An instruction set, as the baker and the loader see it.
#[derive(Debug, PartialEq, Eq)]
pub struct Isa {
    pub name: &'static str,
    /// Numbers of a vector.
    pub lanes: usize,
    /// Numbers of the smaller vector that some kernels fall back to, or as many.
    pub half: usize,
    /// Pixels of a tile whose panel has one vector, two, and so on.
    pub pixels: &'static [usize],
    /// Multiply-adds of a vector that all cores together could have done while one vector of weights comes from where weights
    /// wait: the memory of a board; the third cache of a large machine.
    pub weight_cost: usize,
    /// How it multiplies bytes, if it does.
    pub int8: Option<Int8>,
    /// How it multiplies halves, if it does.
    pub fp16: Option<Tiles>,
}

/// The tiles of a micro-kernel, by which its weights are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiles {
    /// Of a vector.
    pub lanes: usize,
    /// Pixels of a tile whose panel has one vector, two, and so on.
    pub pixels: &'static [usize],
}

/// What is said of a CPU, or of a target, without [`Isa::int8`].
pub const INT8_NEEDS: &str = "int8 plans need a CPU with AVX-512 VNNI, AVX-VNNI or the dot product of ARMv8.2";

/// What is said of a CPU, or of a target, without [`Isa::fp16`].
pub const FP16_NEEDS: &str = "fp16 plans need a CPU with the half-precision arithmetic of ARMv8.2 (asimdhp)";

/// How an instruction set multiplies bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Int8 {
    /// The least byte: that many below the 256 there are, they are signed.
    pub low: i32,
}

/// Two cores of a server do 20 multiply-adds in a ns and get 20 bytes of the third cache.
pub const AVX512: Isa =
    Isa { name: "avx512", lanes: 16, half: 8, pixels: &[26, 12, 8, 6], weight_cost: 64, int8: None, fp16: None };
/// As that, with vectors of half the length.
pub const AVX2: Isa =
    Isa { name: "avx2", lanes: 8, half: 8, pixels: &[12, 6], weight_cost: 32, int8: None, fp16: None };
/// A Raspberry Pi 5 is the one with the least memory for its arithmetic: four A76 of 2.4 GHz do 19 multiply-adds in a ns, and
/// 16 bytes at 9 GB/s take 1.8 ns. (A Pi 4, four A72 of 1.8 GHz with half the multiply-adds, and 4.5 GB/s: 25; a Jetson
/// Orin Nano, six A78 of 1.5 GHz and 50 GB/s: 6.) No second cache of these, 1 MB at most, holds a network's weights until
/// the next frame.
pub const NEON: Isa =
    Isa { name: "neon", lanes: 4, half: 4, pixels: &[14, 10, 7, 6], weight_cost: 34, int8: None, fp16: None };
/// Of a machine that is not known. In halves it computes what [`NEON_FP16`] computes, slowly: so that those plans can be
/// judged anywhere.
pub const PORTABLE: Isa = Isa {
    name: "portable",
    lanes: 4,
    half: 4,
    pixels: &[10, 5, 3, 2],
    weight_cost: 32,
    int8: Some(Int8 { low: 0 }),
    fp16: Some(HALVES),
};
/// Products of unsigned bytes with signed ones, four added up.
pub const AVX512_VNNI: Isa = Isa { name: "avx512-vnni", int8: Some(Int8 { low: 0 }), ..AVX512 };
pub const AVX_VNNI: Isa = Isa { name: "avx-vnni", int8: Some(Int8 { low: 0 }), ..AVX2 };
/// Products of signed bytes, four added up: ARMv8.2 with the dot product, from Cortex-A75 on.
pub const NEON_DOT: Isa = Isa { name: "neon-dot", int8: Some(Int8 { low: -128 }), ..NEON };
/// Products of halves: ARMv8.2 with half precision, from Cortex-A55 and A75 on.
pub const NEON_FP16: Isa = Isa { name: "neon-fp16", fp16: Some(HALVES), ..NEON };
/// Lanes of halves can only be taken from the lower 16 registers, so that one vector with 14 pixels would not do.
const HALVES: Tiles = Tiles { lanes: 8, pixels: &[12, 10, 7, 6] };

/// All that plans can be baked for.
pub const ALL: [&Isa; 8] = [&AVX512, &AVX2, &NEON, &PORTABLE, &AVX512_VNNI, &AVX_VNNI, &NEON_DOT, &NEON_FP16];

/// Some vectors of output channels that are computed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panel {
    /// Output channels.
    pub lanes: usize,
    /// Pixels of its tile.
    pub pixels: usize,
    /// Its micro-kernel in the table of them, such as [`super::Kernels::gemm`].
    pub kernel: usize,
}

impl Isa {
    fn numbers(&self) -> Tiles {
        Tiles { lanes: self.lanes, pixels: self.pixels }
    }

    /// Lanes and pixels of every panel, by which weights are packed: of numbers, then of halves.
    pub fn tiles(&self) -> Vec<[usize; 2]> {
        let of = |tiles: Tiles| {
            tiles.pixels.iter().enumerate().map(move |(index, &pixels)| [(index + 1) * tiles.lanes, pixels])
        };
        of(self.numbers()).chain(self.fp16.into_iter().flat_map(of)).collect()
    }

    /// The panels of numbers into which this many channels are cut; the last one may be wider than what is left.
    pub fn panels(&self, channels: usize) -> impl Iterator<Item = Panel> + use<> {
        self.numbers().panels(channels)
    }
}

impl Tiles {
    /// As [`Isa::panels`].
    pub fn panels(self, channels: usize) -> impl Iterator<Item = Panel> + use<> {
        let Self { lanes, pixels } = self;
        let widest = pixels.len();
        let mut left = channels.div_ceil(lanes);
        std::iter::from_fn(move || {
            // One vector alone makes poor use of the registers: five are three and two rather than four and one.
            let vectors = if left == widest + 1 { widest.div_ceil(2) + 1 } else { left.min(widest) };
            left -= vectors.min(left);
            (vectors > 0).then(|| Panel { lanes: vectors * lanes, pixels: pixels[vectors - 1], kernel: vectors - 1 })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_cover_all_channels_and_no_vector_more() {
        for isa in ALL {
            for channels in 1..300 {
                let lanes: usize = isa.panels(channels).map(|panel| panel.lanes).sum();
                assert_eq!(lanes, channels.next_multiple_of(isa.lanes), "{} {channels}", isa.name);
            }
        }
    }
}
