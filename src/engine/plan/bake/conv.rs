//! Convolutions and pooling: pictures as steps want them, and packed weights.

use super::Baker;
use crate::engine::plan::graph::{Conv, Node, Residual, Window};
use crate::engine::plan::kernels::winograd::{self, PRODUCTS, RESULTS};
use crate::engine::plan::layout::Place;
use crate::engine::plan::steps::{self, Depthwise, GridSample, Operand, Picture, Pool, Step, Winograd};

/// Up to this many values under one row of the window, taps that lie side by side are taken as one tap of more channels:
/// loops over three channels would spend their time on pointers.
const MERGED_DEPTH_MAX: usize = 24;
/// Up to this many channels that is so however wide the window is: the patches of a transformer are 14 or 16 of 3.
const MERGED_CHANNELS_MAX: usize = 4;

/// What Winograd's way costs beside its products, in multiply-adds: for each vector of channels of a tile, to make products
/// of pixels; and for each vector of results, to store products, load them, and make results of them. Instructions of the
/// NEON kernels, counted (`benches/README.md`), by 1.2, which a multiply-add of the micro-kernel takes with its loads.
const WINOGRAD_INPUT: usize = 300;
const WINOGRAD_OUTPUT: usize = 600;

/// A value [N, C, H, W] of which one picture is meant.
#[derive(Clone, Debug)]
struct Pictures {
    place: Place,
    shape: [usize; 4],
}

impl Pictures {
    /// Some channels of one picture.
    fn picture(&self, baker: &Baker<'_>, image: usize, channels: std::ops::Range<usize>) -> Picture {
        let [n, c, row, pixel] = self.place.strides[..] else { unreachable!("pictures have four dimensions") };
        Picture {
            offset: baker.offset(&self.place) + image * n + channels.start * c,
            height: self.shape[2],
            width: self.shape[3],
            channels: channels.len(),
            row,
            pixel,
        }
    }

    fn channels_together(&self) -> bool {
        self.place.strides[1] == 1 || self.shape[1] == 1
    }
}

impl Baker<'_> {
    fn pictures(&self, value: usize) -> Result<Pictures, String> {
        let shape: [usize; 4] = self.shape(value).try_into().map_err(|_| "not a picture of N, C, H, W")?;
        if self.graph.values[value].constant.is_some() {
            return Err("a picture that is constant".into());
        }
        Ok(Pictures { place: self.place(value), shape })
    }

    /// A temporary place for pictures, channels last.
    fn channels_last(&mut self, shape: [usize; 4]) -> Pictures {
        let [n, c, h, w] = shape;
        let buffer = self.temporary(n * c * h * w);
        Pictures { place: Place { buffer, offset: 0, strides: vec![c * h * w, 1, c * w, c] }, shape }
    }

    /// The pictures as they are, or a copy whose channels lie together.
    fn readable(&mut self, value: usize) -> Result<Pictures, String> {
        let found = self.pictures(value)?;
        if found.channels_together() {
            return Ok(found);
        }
        let copy = self.channels_last(found.shape);
        self.copy(&found.shape, &found.place, &copy.place)?;
        Ok(copy)
    }

    /// Where to write, and from where it must be copied if channels do not lie together there.
    fn writable(&mut self, value: usize) -> Result<(Pictures, Option<Pictures>), String> {
        let found = self.pictures(value)?;
        if found.channels_together() {
            return Ok((found, None));
        }
        Ok((self.channels_last(found.shape), Some(found)))
    }

    pub(super) fn conv(&mut self, node: &Node, conv: &Conv) -> Result<(), String> {
        let filters = self.graph.values[node.inputs[1]].constant.as_ref().ok_or("filters that are not constant")?;
        let bias = self.graph.values[node.inputs[2]].constant.as_ref().ok_or("a bias that is not constant")?;
        let [outputs, depth, kh, kw] = self.shape(node.inputs[1])[..] else { return Err("filters of other than OIHW".into()) };
        let bias = |output: usize| if bias.len() == 1 { bias[0] } else { bias[output] };
        let weight = |output: usize, channel: usize, tap: usize| filters[(output * depth + channel) * kh * kw + tap];
        let (to, copied) = self.writable(node.output)?;
        let adds = conv.finish.residual != Residual::None;
        let residual = adds.then(|| self.readable(node.inputs[3])).transpose()?;
        let is_winograd = conv.groups == 1 && self.takes_winograd(conv, depth, outputs, [to.shape[2], to.shape[3]]);
        let is_narrow = depth * kw <= MERGED_DEPTH_MAX || depth <= MERGED_CHANNELS_MAX;
        let is_narrow = is_narrow && kw > 1 && conv.window.dilation[1] == 1;
        let merged = is_narrow && conv.groups == 1 && !is_winograd;
        let (input, window) = if merged {
            self.rows_of_taps(node.inputs[0], conv.window, to.shape[3])?
        } else {
            (self.readable(node.inputs[0])?, conv.window)
        };
        if conv.groups > 1 && depth == 1 && outputs == conv.groups {
            self.depthwise(conv, &input, &to, residual.as_ref(), weight, bias);
            return copied.map_or(Ok(()), |place| self.copy(&to.shape, &to.place, &place.place));
        }
        if is_winograd {
            let (weights, bias) = self.pack_winograd(outputs, depth, weight, bias);
            for image in 0..to.shape[0] {
                let step = Winograd {
                    input: input.picture(self, image, 0..depth),
                    output: to.picture(self, image, 0..outputs),
                    residual: residual.as_ref().map(|from| from.picture(self, image, 0..outputs)),
                    pad: conv.window.pad,
                    finish: conv.finish,
                    weights,
                    bias,
                };
                self.push(Step::Winograd(step));
            }
            return copied.map_or(Ok(()), |place| self.copy(&to.shape, &to.place, &place.place));
        }
        let each = outputs / conv.groups;
        for group in 0..conv.groups {
            let first = group * each;
            let (packed, sums) = if merged {
                self.pack(each, depth * kw, kh, |output, channel, ky| weight(first + output, channel % depth, ky * kw + channel / depth), |output| bias(first + output))
            } else {
                self.pack(each, depth, kh * kw, |output, channel, tap| weight(first + output, channel, tap), |output| bias(first + output))
            };
            let channels = if merged { 0..depth * kw } else { group * depth..(group + 1) * depth };
            for image in 0..to.shape[0] {
                let step = steps::Conv {
                    input: input.picture(self, image, channels.clone()),
                    output: to.picture(self, image, first..first + each),
                    residual: residual.as_ref().map(|from| from.picture(self, image, first..first + each)),
                    window,
                    finish: conv.finish,
                    weights: packed,
                    bias: sums,
                };
                self.push(Step::Conv(step));
            }
        }
        match copied {
            Some(place) => self.copy(&to.shape, &to.place, &place.place),
            None => Ok(()),
        }
    }

    /// Every channel by itself.
    fn depthwise(
        &mut self,
        conv: &Conv,
        input: &Pictures,
        to: &Pictures,
        residual: Option<&Pictures>,
        weight: impl Fn(usize, usize, usize) -> f32,
        bias: impl Fn(usize) -> f32,
    ) {
        let taps = conv.window.kernel[0] * conv.window.kernel[1];
        let weights = (0..taps).flat_map(|tap| (0..conv.groups).map(move |channel| (tap, channel)));
        let packed: Vec<f32> = weights.map(|(tap, channel)| weight(channel, 0, tap)).collect();
        let weights = self.add_weights(packed);
        let bias = self.add_weights((0..conv.groups).map(bias));
        for image in 0..to.shape[0] {
            let step = Depthwise {
                input: input.picture(self, image, 0..conv.groups),
                output: to.picture(self, image, 0..conv.groups),
                residual: residual.map(|from| from.picture(self, image, 0..conv.groups)),
                window: conv.window,
                finish: conv.finish,
                weights,
                bias,
            };
            self.push(Step::Depthwise(step));
        }
    }

    pub(super) fn grid_sample(&mut self, node: &Node, align_corners: bool) -> Result<(), String> {
        let (to, copied) = self.writable(node.output)?;
        let from = self.readable(node.inputs[0])?;
        if self.graph.values[node.inputs[1]].constant.is_some() {
            return Err("a grid that is constant".into());
        }
        let grid = self.place(node.inputs[1]);
        for image in 0..to.shape[0] {
            let step = GridSample {
                input: from.picture(self, image, 0..from.shape[1]),
                output: to.picture(self, image, 0..to.shape[1]),
                grid: Operand {
                    constant: false,
                    offset: self.offset(&grid) + image * grid.strides[0],
                    strides: grid.strides[1..].to_vec(),
                },
                align_corners,
            };
            self.push(Step::GridSample(step));
        }
        match copied {
            Some(place) => self.copy(&to.shape, &to.place, &place.place),
            None => Ok(()),
        }
    }

    /// The input, channels last, with its columns of padding, and a window of one column whose taps hold all that lies
    /// under a row of the window.
    fn rows_of_taps(&mut self, value: usize, window: Window, columns: usize) -> Result<(Pictures, Window), String> {
        let from = self.pictures(value)?;
        let [n, c, h, w] = from.shape;
        let (left, kw, stride) = (window.pad[1], window.kernel[1], window.stride[1]);
        let wide = ((columns - 1) * stride + kw).max(left + w);
        let all = self.channels_last([n, c, h, wide]);
        let zero = self.add_weights([0.0]);
        for (first, width) in [(0, left), (left + w, wide - left - w)] {
            if width > 0 {
                let place = Place { offset: first * c, ..all.place.clone() };
                let zeros = Operand { constant: true, offset: zero, strides: vec![0; 4] };
                self.copy_operand(&[n, c, h, width], zeros, &place)?;
            }
        }
        let middle = Place { offset: left * c, ..all.place.clone() };
        self.copy(&from.shape, &from.place, &middle)?;
        let mut strides = all.place.strides.clone();
        strides[3] = stride * c;
        let seen = Pictures { place: Place { strides, ..all.place }, shape: [n, c * kw, h, columns] };
        let window = Window {
            kernel: [window.kernel[0], 1],
            stride: [window.stride[0], 1],
            dilation: [window.dilation[0], 1],
            pad: [window.pad[0], 0],
        };
        Ok((seen, window))
    }

    /// Packs weights for the micro-kernel: for each panel `[tap][channel][lane]`, and the bias of all lanes.
    pub(super) fn pack(
        &mut self,
        outputs: usize,
        depth: usize,
        taps: usize,
        weight: impl Fn(usize, usize, usize) -> f32,
        bias: impl Fn(usize) -> f32,
    ) -> (usize, usize) {
        let (mut weights, mut sums) = (Vec::new(), Vec::new());
        let mut first = 0;
        for panel in self.isa.panels(outputs) {
            let lanes = first..first + panel.lanes;
            for tap in 0..taps {
                for channel in 0..depth {
                    weights.extend(lanes.clone().map(|o| if o < outputs { weight(o, channel, tap) } else { 0.0 }));
                }
            }
            sums.extend(lanes.map(|o| if o < outputs { bias(o) } else { 0.0 }));
            first += panel.lanes;
        }
        (self.add_weights(weights), self.add_weights(sums))
    }

    /// Whether Winograd's way is the faster one. It needs 36 products for 16 results instead of 144; and to make them of
    /// pixels, and results of them, and four times the weights. In multiply-adds of one vector, which is what a CPU that is
    /// busy counts its time in.
    fn takes_winograd(&self, conv: &Conv, depth: usize, outputs: usize, size: [usize; 2]) -> bool {
        let Window { kernel, stride, dilation, .. } = conv.window;
        let lanes = self.isa.half;
        let fits = (kernel, stride, dilation) == ([3, 3], [1, 1], [1, 1]) && depth % lanes == 0 && outputs % lanes == 0;
        if !fits {
            return false;
        }
        let vectors = outputs.div_ceil(self.isa.lanes);
        let tiles = size[0].div_ceil(RESULTS) * size[1].div_ceil(RESULTS);
        let direct = size[0] * size[1] * 9 * depth * vectors;
        let products = tiles * PRODUCTS * depth * vectors;
        let around = tiles * (WINOGRAD_INPUT * depth.div_ceil(self.isa.lanes) + WINOGRAD_OUTPUT * vectors);
        let weights = (PRODUCTS - 9) * depth * vectors * self.isa.weight_cost;
        products + around + weights < direct
    }

    fn pack_winograd(
        &mut self,
        outputs: usize,
        depth: usize,
        weight: impl Fn(usize, usize, usize) -> f32,
        bias: impl Fn(usize) -> f32,
    ) -> (usize, usize) {
        let factors: Vec<[f32; PRODUCTS]> = (0..outputs * depth)
            .map(|index| {
                let tap = |row: usize, column: usize| weight(index / depth, index % depth, row * 3 + column);
                winograd::filter([0, 1, 2].map(|row| [0, 1, 2].map(|column| tap(row, column))))
            })
            .collect();
        self.pack(outputs, depth, PRODUCTS, |output, channel, product| factors[output * depth + channel][product], bias)
    }

    pub(super) fn pool(&mut self, node: &Node, window: Window) -> Result<(), String> {
        let (to, copied) = self.writable(node.output)?;
        let from = self.readable(node.inputs[0])?;
        for image in 0..to.shape[0] {
            let (input, output) = (from.picture(self, image, 0..from.shape[1]), to.picture(self, image, 0..to.shape[1]));
            self.push(Step::Pool(Pool { input, output, window }));
        }
        match copied {
            Some(place) => self.copy(&to.shape, &to.place, &place.place),
            None => Ok(()),
        }
    }
}
