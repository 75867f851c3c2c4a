//! What is computed with halves: which products, and the steps of them. Everything else stays in numbers, so that each
//! input is made halves where it is multiplied, and there is nothing to plan ahead.

use super::Baker;
use super::conv::packed;
use crate::engine::plan::graph::ValueId;
use crate::engine::plan::kernels::Tiles;
use crate::engine::plan::kernels::halves::{HALF_MAX, IN_NUMBER, to_half};
use crate::engine::plan::steps::{Conv, HalfConv, Narrow, Picture, Step};

/// How much larger than what was seen an input may become before a product leaves the range of halves: what is seen are
/// a few pictures.
const HEADROOM: f32 = 8.0;

/// What a product of halves costs of one of numbers of the same width, as a fraction: sums are moved after every 64th,
/// which is an eighth of the work.
const PRODUCT: [usize; 2] = [8, 7];

/// What it costs to make a half, in multiply-adds of a vector: five instructions for eight, and they wait for memory.
const NARROW: usize = 1;

impl Baker<'_> {
    /// Whether the products of a value with weights, so many rows of them, are sooner in halves and stay in their range.
    /// `pixels` are those of the value, and those of the result.
    pub(super) fn takes_halves(&self, input: ValueId, pixels: [usize; 2], weights: &[f32], outputs: usize) -> bool {
        let (Some(largest), Some(_)) = (self.halves, self.isa.fp16) else { return false };
        let each = weights.len() / outputs;
        let gain = |weights: &[f32]| weights.iter().map(|weight| weight.abs()).sum::<f32>();
        let gain = weights.chunks_exact(each).map(gain).fold(1.0, f32::max);
        // Not a number is within no range.
        let fits = largest[input] * HEADROOM * gain <= HALF_MAX;
        let numbers = pixels[1] * each * outputs.div_ceil(self.isa.lanes);
        let channels = self.graph.values[input].shape.iter().product::<usize>() / pixels[0];
        fits && self.halves_cost(pixels[1] * each, outputs) + pixels[0] * channels * NARROW < numbers
    }

    /// What products of halves cost, in multiply-adds of a vector of numbers: so many for each output.
    pub(super) fn halves_cost(&self, products: usize, outputs: usize) -> usize {
        products * outputs.div_ceil(self.half_tiles().lanes) * PRODUCT[0] / PRODUCT[1]
    }

    fn half_tiles(&self) -> Tiles {
        self.isa.fp16.expect("nothing takes halves where there are no products of them")
    }

    /// As [`Baker::pack`], two weights in the place of one.
    pub(super) fn pack_halves(
        &mut self,
        outputs: usize,
        depth: usize,
        taps: usize,
        weight: &dyn Fn(usize, usize, usize) -> f32,
        bias: &dyn Fn(usize) -> f32,
    ) -> (usize, usize) {
        let (weights, sums) = packed(self.half_tiles().panels(outputs), outputs, [depth, taps], weight, bias);
        let (pairs, rest) = weights.as_chunks::<IN_NUMBER>();
        assert!(rest.is_empty(), "panels are whole vectors");
        let pairs = pairs.iter().map(|pair| {
            let [low, high] = pair.map(|weight| u32::from(to_half(weight)));
            f32::from_bits(low | high << 16)
        });
        (self.add_weights(pairs), self.add_weights(sums))
    }

    /// The steps of a convolution whose weights are halves.
    pub(super) fn push_halves(&mut self, step: Conv) {
        let Picture { height, width, channels, .. } = step.input;
        let buffer = self.temporary((height * width * channels).div_ceil(IN_NUMBER));
        let offset = self.offsets.get(buffer).copied().unwrap_or(0) * IN_NUMBER;
        let halves = Picture { offset, height, width, channels, row: width * channels, pixel: channels };
        self.push(Step::Narrow(Narrow { input: step.input, output: halves }));
        self.push(Step::HalfConv(HalfConv(Conv { input: halves, ..step })));
    }
}
