//! Convolutions and pooling: pictures as steps want them, and packed weights.

use std::ops::Range;

use super::Baker;
use crate::engine::plan::graph::{Conv, Finish, Node, Residual, ValueId, Window};
use crate::engine::plan::kernels::Panel;
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
    fn picture(&self, baker: &Baker<'_>, image: usize, channels: Range<usize>) -> Picture {
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

/// The filters of a convolution, and what each begins its sums with.
#[derive(Clone, Copy, Debug)]
struct Filters<'g> {
    /// [O, I, H, W].
    weights: &'g [f32],
    bias: &'g [f32],
    groups: usize,
    outputs: usize,
    /// Channels of a group.
    depth: usize,
    kernel: [usize; 2],
}

impl Filters<'_> {
    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    fn weight(&self, output: usize, channel: usize, tap: usize) -> f32 {
        self.weights[(output * self.depth + channel) * self.taps() + tap]
    }

    fn bias(&self, output: usize) -> f32 {
        if self.bias.len() == 1 { self.bias[0] } else { self.bias[output] }
    }
}

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Every channel by itself.
    Depthwise,
    Winograd,
    /// A row of the window as one tap.
    Rows,
    Taps,
    /// As taps, of halves.
    Halves,
}

/// What a convolution reads and writes, as its steps want it.
#[derive(Clone, Debug)]
struct Made {
    from: Pictures,
    to: Pictures,
    residual: Option<Pictures>,
    window: Window,
    finish: Finish,
}

impl<'g> Baker<'g> {
    fn pictures(&mut self, value: ValueId) -> Result<Pictures, String> {
        let shape: [usize; 4] = self.shape(value).try_into().map_err(|_| "not a picture of N, C, H, W")?;
        Ok(Pictures { place: self.in_arena(value)?, shape })
    }

    /// A temporary place for pictures, channels last.
    fn channels_last(&mut self, shape: [usize; 4]) -> Pictures {
        let [n, c, h, w] = shape;
        let buffer = self.temporary(n * c * h * w);
        Pictures { place: Place { buffer, offset: 0, strides: vec![c * h * w, 1, c * w, c] }, shape }
    }

    /// The pictures as they are, or a copy whose channels lie together.
    fn readable(&mut self, value: ValueId) -> Result<Pictures, String> {
        let found = self.pictures(value)?;
        if found.channels_together() {
            return Ok(found);
        }
        let copy = self.channels_last(found.shape);
        self.copy(&found.shape, &found.place, &copy.place)?;
        Ok(copy)
    }

    /// Where to write, and from where it must be copied if channels do not lie together there.
    fn writable(&mut self, value: ValueId) -> Result<(Pictures, Option<Pictures>), String> {
        let found = self.pictures(value)?;
        if found.channels_together() {
            return Ok((found, None));
        }
        Ok((self.channels_last(found.shape), Some(found)))
    }

    pub(super) fn conv(&mut self, node: &Node, conv: &Conv) -> Result<(), String> {
        let filters = self.filters(node, conv.groups)?;
        let (to, copied) = self.writable(node.output)?;
        let adds = conv.finish.residual != Residual::None;
        let residual = adds.then(|| self.readable(node.inputs[3])).transpose()?;
        let way = self.way(node.inputs[0], conv, &filters, &to);
        let (from, window) = match way {
            Way::Rows => self.rows_of_taps(node.inputs[0], conv.window, to.shape[3])?,
            _ => (self.readable(node.inputs[0])?, conv.window),
        };
        let made = Made { from, to, residual, window, finish: conv.finish };
        match way {
            Way::Depthwise => self.depthwise(&made, &filters),
            Way::Winograd => self.winograd(&made, &filters),
            Way::Rows | Way::Taps | Way::Halves => self.products(&made, &filters, way),
        }
        self.unload(&made.to, copied)
    }

    fn filters(&self, node: &Node, groups: usize) -> Result<Filters<'g>, String> {
        let graph = self.graph;
        let known = |input: usize| graph.values[node.inputs[input]].constant.as_ref();
        let weights = known(1).ok_or("filters that are not constant")?;
        let bias = known(2).ok_or("a bias that is not constant")?;
        let &[outputs, depth, height, width] = self.shape(node.inputs[1]) else {
            return Err("filters of other than OIHW".into());
        };
        Ok(Filters { weights, bias, groups, outputs, depth, kernel: [height, width] })
    }

    fn way(&self, input: ValueId, conv: &Conv, filters: &Filters<'_>, to: &Pictures) -> Way {
        let Filters { groups, outputs, depth, kernel: [_, width], .. } = *filters;
        if groups > 1 {
            return if depth == 1 && outputs == groups { Way::Depthwise } else { Way::Taps };
        }
        let pixels = [self.shape(input), &to.shape].map(|shape| shape[0] * shape[2] * shape[3]);
        let halves = self.takes_halves(input, pixels, filters.weights, outputs);
        if self.takes_winograd(conv, depth, outputs, [to.shape[2], to.shape[3]], halves) {
            return Way::Winograd;
        }
        let is_narrow = depth * width <= MERGED_DEPTH_MAX || depth <= MERGED_CHANNELS_MAX;
        if is_narrow && width > 1 && conv.window.dilation[1] == 1 {
            Way::Rows
        } else if halves {
            Way::Halves
        } else {
            Way::Taps
        }
    }

    /// A step for each picture of some channels.
    fn each(
        &mut self,
        made: &Made,
        inputs: Range<usize>,
        outputs: Range<usize>,
        push: impl Fn(&mut Self, Picture, Picture, Option<Picture>),
    ) {
        for image in 0..made.to.shape[0] {
            let input = made.from.picture(self, image, inputs.clone());
            let output = made.to.picture(self, image, outputs.clone());
            let residual = made.residual.as_ref().map(|residual| residual.picture(self, image, outputs.clone()));
            push(self, input, output, residual);
        }
    }

    /// Every channel by itself.
    fn depthwise(&mut self, made: &Made, filters: &Filters<'_>) {
        let (groups, taps) = (filters.groups, filters.taps());
        let packed = (0..taps).flat_map(|tap| (0..groups).map(move |channel| filters.weight(channel, 0, tap)));
        let weights = self.add_weights(packed);
        let bias = self.add_weights((0..groups).map(|channel| filters.bias(channel)));
        let Made { window, finish, .. } = *made;
        self.each(made, 0..groups, 0..groups, |baker, input, output, residual| {
            baker.push(Step::Depthwise(Depthwise { input, output, residual, window, finish, weights, bias }));
        });
    }

    fn winograd(&mut self, made: &Made, filters: &Filters<'_>) {
        let Filters { outputs, depth, .. } = *filters;
        let factors: Vec<[f32; PRODUCTS]> = (0..outputs * depth)
            .map(|index| {
                let tap = |row: usize, column: usize| filters.weight(index / depth, index % depth, row * 3 + column);
                winograd::filter([0, 1, 2].map(|row| [0, 1, 2].map(|column| tap(row, column))))
            })
            .collect();
        let factor = |output: usize, channel: usize, product: usize| factors[output * depth + channel][product];
        let (weights, bias) = self.pack(outputs, depth, PRODUCTS, &factor, &|output| filters.bias(output));
        let Made { window: Window { pad, .. }, finish, .. } = *made;
        self.each(made, 0..depth, 0..outputs, |baker, input, output, residual| {
            baker.push(Step::Winograd(Winograd { input, output, residual, pad, finish, weights, bias }));
        });
    }

    /// Group by group, pixels under the window times weights.
    fn products(&mut self, made: &Made, filters: &Filters<'_>, way: Way) {
        let Filters { depth, kernel: [height, width], .. } = *filters;
        let each = filters.outputs / filters.groups;
        for group in 0..filters.groups {
            let outputs = group * each..(group + 1) * each;
            let bias = |output: usize| filters.bias(outputs.start + output);
            let (channels, (weights, bias)) = if way == Way::Rows {
                let weight = |output: usize, channel: usize, row: usize| {
                    filters.weight(outputs.start + output, channel % depth, row * width + channel / depth)
                };
                (0..depth * width, self.pack(each, depth * width, height, &weight, &bias))
            } else {
                let weight =
                    |output: usize, channel: usize, tap: usize| filters.weight(outputs.start + output, channel, tap);
                let pack = if way == Way::Halves { Self::pack_halves } else { Self::pack };
                (group * depth..(group + 1) * depth, pack(self, each, depth, filters.taps(), &weight, &bias))
            };
            let Made { window, finish, .. } = *made;
            self.each(made, channels, outputs, |baker, input, output, residual| {
                let step = steps::Conv { input, output, residual, window, finish, weights, bias };
                if way == Way::Halves { baker.push_halves(step) } else { baker.push(Step::Conv(step)) }
            });
        }
    }

    /// Copies pictures to their place from where they were made, if that is another.
    fn unload(&mut self, made: &Pictures, place: Option<Pictures>) -> Result<(), String> {
        place.map_or(Ok(()), |place| self.copy(&made.shape, &made.place, &place.place))
    }

    pub(super) fn grid_sample(&mut self, node: &Node, align_corners: bool) -> Result<(), String> {
        let (to, copied) = self.writable(node.output)?;
        let from = self.readable(node.inputs[0])?;
        let of_grid = self.shape(node.inputs[1]).to_vec();
        let grid = self.seen_as(node.inputs[1], &of_grid);
        for image in 0..to.shape[0] {
            let step = GridSample {
                input: from.picture(self, image, 0..from.shape[1]),
                output: to.picture(self, image, 0..to.shape[1]),
                grid: Operand {
                    constant: grid.constant,
                    offset: grid.offset + image * grid.strides[0],
                    strides: grid.strides[1..].to_vec(),
                },
                align_corners,
            };
            self.push(Step::GridSample(step));
        }
        self.unload(&to, copied)
    }

    /// The input, channels last, with its columns of padding, and a window of one column whose taps hold all that lies
    /// under a row of the window.
    fn rows_of_taps(&mut self, value: ValueId, window: Window, columns: usize) -> Result<(Pictures, Window), String> {
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
        weight: &dyn Fn(usize, usize, usize) -> f32,
        bias: &dyn Fn(usize) -> f32,
    ) -> (usize, usize) {
        let (weights, sums) = packed(self.isa.panels(outputs), outputs, [depth, taps], weight, bias);
        (self.add_weights(weights), self.add_weights(sums))
    }

    /// Whether Winograd's way is the faster one. It needs 36 products for 16 results instead of 144; and to make them of
    /// pixels, and results of them, and four times the weights. In multiply-adds of one vector, which is what a CPU that is
    /// busy counts its time in. Against products of halves it saves less.
    fn takes_winograd(&self, conv: &Conv, depth: usize, outputs: usize, size: [usize; 2], halves: bool) -> bool {
        let Window { kernel, stride, dilation, pad } = conv.window;
        let lanes = self.isa.half;
        let fits = (kernel, stride, dilation) == ([3, 3], [1, 1], [1, 1])
            && depth <= Winograd::CHANNELS_MAX
            && pad.iter().all(|&pad| pad <= winograd::PIXELS)
            && depth.is_multiple_of(lanes)
            && outputs.is_multiple_of(lanes);
        if !fits {
            return false;
        }
        if let Some(&Some(chosen)) = self.ways.get(self.at) {
            return chosen;
        }
        let vectors = outputs.div_ceil(self.isa.lanes);
        let tiles = size[0].div_ceil(RESULTS) * size[1].div_ceil(RESULTS);
        let direct = size[0] * size[1] * 9 * depth;
        let direct = if halves { self.halves_cost(direct, outputs) } else { direct * vectors };
        let products = tiles * PRODUCTS * depth * vectors;
        let around = tiles * (WINOGRAD_INPUT * depth.div_ceil(self.isa.lanes) + WINOGRAD_OUTPUT * vectors);
        let weights = (PRODUCTS - 9) * depth * vectors * self.isa.weight_cost;
        products + around + weights < direct
    }

    pub(super) fn pool(&mut self, node: &Node, window: Window) -> Result<(), String> {
        let (to, copied) = self.writable(node.output)?;
        let from = self.readable(node.inputs[0])?;
        for image in 0..to.shape[0] {
            let (input, output) =
                (from.picture(self, image, 0..from.shape[1]), to.picture(self, image, 0..to.shape[1]));
            self.push(Step::Pool(Pool { input, output, window }));
        }
        self.unload(&to, copied)
    }
}

/// Weights of all panels, each `[tap][channel][lane]`, and the bias of all their lanes.
pub(super) fn packed(
    panels: impl Iterator<Item = Panel>,
    outputs: usize,
    [depth, taps]: [usize; 2],
    weight: &dyn Fn(usize, usize, usize) -> f32,
    bias: &dyn Fn(usize) -> f32,
) -> (Vec<f32>, Vec<f32>) {
    let (mut weights, mut sums) = (Vec::new(), Vec::new());
    let mut first = 0;
    for panel in panels {
        let lanes = first..first + panel.lanes;
        for tap in 0..taps {
            for channel in 0..depth {
                weights.extend(lanes.clone().map(|o| if o < outputs { weight(o, channel, tap) } else { 0.0 }));
            }
        }
        sums.extend(lanes.map(|o| if o < outputs { bias(o) } else { 0.0 }));
        first += panel.lanes;
    }
    (weights, sums)
}
