//! What is computed with bytes: which buffers are held as bytes, as numbers or as both, and the steps that work on them.
//!
//! Every buffer of the layout that a quantized convolution reads has a twin of bytes, in which its values lie as they do
//! in the buffer, all of one scale: whatever the layout made a view stays one. Who writes numbers into such a buffer is
//! followed by a step that quantizes them; quantized convolutions write whichever of the two somebody reads; and what
//! only picks values out (pooling, upsampling) does so with bytes where nobody wants its numbers.

use super::strided::merged;
use super::{Baked, Baker};
use crate::engine::plan::arena;
use crate::engine::plan::graph::{Conv, Graph, Node, Op, Residual, ValueId, Window};
use crate::engine::plan::int8::Quantized;
use crate::engine::plan::kernels::Isa;
use crate::engine::plan::kernels::bytes::{QUAD, Scale};
use crate::engine::plan::kernels::isa::INT8_NEEDS;
use crate::engine::plan::layout::{Layout, Place, lay_out};
use crate::engine::plan::steps::{Added, BytePicture, Picture, Quantize, QuantizedConv, QuantizedPool, Step};

/// Bytes of a value.
const BYTES: usize = size_of::<f32>();

/// Most a quantized weight is, either way.
const WEIGHT_MAX: f32 = 127.0;

/// What is done with bytes, node by node and buffer by buffer.
#[derive(Clone, Debug, Default)]
pub(super) struct BytePlan {
    /// Nodes that work on bytes.
    nodes: Vec<bool>,
    /// What the bytes of each buffer mean, if it has some.
    pub scales: Vec<Option<Scale>>,
    /// Buffers whose numbers somebody reads: all who write into them write numbers too.
    read: Vec<bool>,
    /// Buffers whose numbers somebody writes or reads.
    numbers: Vec<bool>,
}

/// A buffer of bytes beside that of the numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Twin {
    buffer: usize,
    scale: Scale,
}

/// A value as rows of values that lie together, if it is such; offset and strides as in its place.
fn rows(place: &Place, shape: &[usize]) -> Option<Picture> {
    let (dims, strides) = merged(shape, [&place.strides]);
    let picture = |height, width, channels, row, pixel| {
        Some(Picture { offset: place.offset, height, width, channels, row, pixel })
    };
    match (&dims[..], &strides[0][..]) {
        (&[c], &[1]) => picture(1, 1, c, c, c),
        (&[h, c], &[row, 1]) => picture(h, 1, c, row, c),
        (&[h, w, c], &[row, pixel, 1]) => picture(h, w, c, row, pixel),
        _ => None,
    }
}

/// Whether the channels of pictures lie together.
fn channels_together(graph: &Graph, layout: &Layout, value: ValueId) -> bool {
    let shape = &graph.values[value].shape;
    layout.places[value].as_ref().is_some_and(|place| shape.len() == 4 && (place.strides[1] == 1 || shape[1] == 1))
}

/// Whether a value can be copied in fours.
fn in_fours(graph: &Graph, layout: &Layout, value: ValueId) -> bool {
    channels_together(graph, layout, value)
        && layout.places[value].as_ref().is_some_and(|place| {
            let shape = &graph.values[value].shape;
            let strides = place.strides.iter().enumerate().filter(|(axis, _)| *axis != 1);
            shape[1].is_multiple_of(QUAD)
                && place.offset.is_multiple_of(QUAD)
                && strides.into_iter().all(|(_, stride)| stride.is_multiple_of(QUAD))
        })
}

impl BytePlan {
    /// Which nodes and buffers work with bytes, so that all that `wanted` names does where the layout allows it. A node
    /// that `is_view` does nothing.
    pub(super) fn new(
        graph: &Graph,
        layout: &Layout,
        isa: &Isa,
        wanted: &Quantized,
        is_view: &[bool],
    ) -> Result<Self, String> {
        let int8 = isa.int8.ok_or_else(|| format!("{INT8_NEEDS}; {} has none of them", isa.name))?;
        let buffer = |value: ValueId| layout.places[value].as_ref().map(|place| place.buffer);
        let mut banned = vec![false; layout.buffers.len()];
        banned[buffer(graph.input).expect("the input has a place")] = true;
        let plan = loop {
            let plan = Self::attempt(graph, layout, wanted, is_view, &banned);
            let stuck = graph.nodes.iter().enumerate().filter(|&(at, _)| !is_view[at] && !plan.nodes[at]).find_map(
                |(_, node)| {
                    let place = layout.places[node.output].as_ref()?;
                    let fits = rows(place, &graph.values[node.output].shape).is_some();
                    (plan.scales[place.buffer].is_some() && !fits).then_some(place.buffer)
                },
            );
            match stuck {
                Some(buffer) => banned[buffer] = true,
                None => break plan,
            }
        };
        Ok(plan.scaled(graph, layout, wanted, is_view, int8.low))
    }

    fn attempt(graph: &Graph, layout: &Layout, wanted: &Quantized, is_view: &[bool], banned: &[bool]) -> Self {
        let buffer = |value: ValueId| layout.places[value].as_ref().map(|place| place.buffer);
        let is_conv = |at: usize, node: &Node| {
            let Op::Conv(conv) = &node.op else { return false };
            let (input, filters) = (node.inputs[0], &graph.values[node.inputs[1]]);
            let added = conv.finish.residual == Residual::None || channels_together(graph, layout, node.inputs[3]);
            wanted.nodes[at]
                && added
                && conv.groups == 1
                && filters.shape[1].is_multiple_of(QUAD)
                && channels_together(graph, layout, input)
                && channels_together(graph, layout, node.output)
                && buffer(input).is_some_and(|buffer| !banned[buffer])
        };
        let picks = |node: &Node| match node.op {
            Op::MaxPool(_) => {
                channels_together(graph, layout, node.inputs[0]) && channels_together(graph, layout, node.output)
            }
            Op::Upsample { .. } => in_fours(graph, layout, node.inputs[0]) && in_fours(graph, layout, node.output),
            _ => false,
        };
        let picked = |node: &Node| buffer(node.inputs[0]).zip(buffer(node.output));
        let convs: Vec<bool> = graph.nodes.iter().enumerate().map(|(at, node)| is_conv(at, node)).collect();
        let mut on: Vec<bool> =
            graph.nodes.iter().map(|node| picks(node) && picked(node).is_some_and(|(from, _)| !banned[from])).collect();
        let none = vec![false; layout.buffers.len()];
        loop {
            let (mut bytes, mut read, mut numbers) = (none.clone(), none.clone(), none.clone());
            // Backwards: whose bytes are wanted wants those it picks from.
            for (at, node) in graph.nodes.iter().enumerate().rev() {
                if let Some((from, to)) = picked(node) {
                    bytes[from] |= convs[at] || on[at] && bytes[to];
                }
            }
            graph.outputs.iter().filter_map(|&output| buffer(output)).for_each(|buffer| read[buffer] = true);
            for (at, node) in graph.nodes.iter().enumerate().filter(|&(at, _)| !is_view[at]) {
                if convs[at] {
                    node.inputs
                        .get(3)
                        .and_then(|&value| buffer(value))
                        .into_iter()
                        .for_each(|from| read[from] |= !bytes[from]);
                } else if !on[at] {
                    node.inputs.iter().filter_map(|&input| buffer(input)).for_each(|from| read[from] = true);
                    if let Some(to) = buffer(node.output) {
                        numbers[to] = true;
                        // What is joined in part by copying is quantized as a whole.
                        read[to] |= matches!(node.op, Op::Concat { .. });
                    }
                }
            }
            let mut changed = false;
            for (at, node) in graph.nodes.iter().enumerate().filter(|&(at, _)| on[at]).collect::<Vec<_>>() {
                if picked(node).is_none_or(|(_, to)| !bytes[to] || read[to]) {
                    on[at] = false;
                    changed = true;
                }
            }
            if !changed {
                let nodes = convs.iter().zip(&on).map(|(conv, on)| *conv || *on).collect();
                let scale = |bytes: bool| bytes.then_some(Scale { step: 1.0, zero: 0 });
                if let Some(input) = buffer(graph.input) {
                    numbers[input] = true;
                }
                numbers.iter_mut().zip(&read).for_each(|(numbers, read)| *numbers |= read);
                return Self { nodes, scales: bytes.into_iter().map(scale).collect(), read, numbers };
            }
        }
    }

    /// With what the bytes mean: all buffers between which bytes are only picked share a scale.
    fn scaled(mut self, graph: &Graph, layout: &Layout, wanted: &Quantized, is_view: &[bool], low: i32) -> Self {
        let buffer = |value: ValueId| layout.places[value].as_ref().map(|place| place.buffer);
        let mut of: Vec<usize> = (0..layout.buffers.len()).collect();
        for (at, node) in graph.nodes.iter().enumerate() {
            let picks = self.nodes[at] && !matches!(node.op, Op::Conv(_));
            if let (true, Some(from), Some(to)) = (picks, buffer(node.inputs[0]), buffer(node.output)) {
                let (old, new) = (of[from], of[to]);
                of.iter_mut().filter(|group| **group == old).for_each(|group| *group = new);
            }
        }
        let mut ranges = vec![[0.0_f32; 2]; layout.buffers.len()];
        for (at, node) in graph.nodes.iter().enumerate() {
            if let (false, Some(to), Some([least, most])) =
                (is_view[at], buffer(node.output), wanted.ranges[node.output])
            {
                let range = &mut ranges[of[to]];
                *range = [range[0].min(least), range[1].max(most)];
            }
        }
        for (scale, group) in self.scales.iter_mut().zip(&of) {
            *scale = scale.map(|_| scale_of(ranges[*group], low));
        }
        self
    }

    pub fn conv_is_quantized(&self, at: usize) -> bool {
        self.nodes[at]
    }
}

/// The scale by which bytes from `low` on cover a range that holds zero; zero is one of them.
#[expect(clippy::cast_possible_truncation, reason = "a byte")]
pub(super) fn scale_of([least, most]: [f32; 2], low: i32) -> Scale {
    let step = ((most - least) / 255.0).max(f32::MIN_POSITIVE * 1e6);
    Scale { step, zero: low + (-least / step).round().clamp(0.0, 255.0) as i32 }
}

impl Baker<'_> {
    /// Gives buffers their twins, and takes from them what nobody wants.
    pub(super) fn with_bytes(mut self, plan: &BytePlan) -> Self {
        for (buffer, scale) in plan.scales.iter().enumerate() {
            let Some(scale) = *scale else {
                self.twins.push(None);
                continue;
            };
            let mut span = self.spans[buffer];
            span.volume = span.volume.div_ceil(BYTES);
            self.twins.push(Some(Twin { buffer: self.spans.len(), scale }));
            self.layout.buffers.push(span.volume);
            self.spans.push(span);
        }
        for (buffer, wanted) in plan.numbers.iter().enumerate() {
            if !wanted && plan.scales[buffer].is_some() {
                self.spans[buffer].volume = 0;
            }
        }
        self.bytes = Some(plan.clone());
        self
    }

    /// Whether the node that is being baked works on bytes.
    pub(super) fn is_quantized(&self) -> bool {
        self.bytes.as_ref().is_some_and(|plan| plan.nodes[self.at])
    }

    fn twin(&self, value: ValueId) -> Option<(Twin, Place)> {
        let place = self.place(value);
        let twin = (*self.twins.get(place.buffer)?)?;
        Some((twin, place))
    }

    /// Where a byte of a twin lies in the arena.
    fn byte_offset(&self, twin: Twin, offset: usize) -> usize {
        self.offsets.get(twin.buffer).copied().unwrap_or(0) * BYTES + offset
    }

    /// One picture of a value [N, C, H, W] as bytes.
    fn byte_picture(&self, value: ValueId, image: usize) -> Option<BytePicture> {
        let (twin, place) = self.twin(value)?;
        let offset = self.byte_offset(twin, place.offset + image * place.strides[0]);
        Some(BytePicture { at: self.picture_at(value, offset), scale: twin.scale })
    }

    /// One picture of a value [N, C, H, W] as numbers.
    fn number_picture(&self, value: ValueId, image: usize) -> Picture {
        let place = self.place(value);
        self.picture_at(value, self.offset(&place) + image * place.strides[0])
    }

    fn picture_at(&self, value: ValueId, offset: usize) -> Picture {
        let ([_, channels, height, width], [_, _, row, pixel]) = (self.shape(value), &self.place(value).strides[..])
        else {
            unreachable!("pictures have four dimensions")
        };
        Picture { offset, height: *height, width: *width, channels: *channels, row: *row, pixel: *pixel }
    }

    /// What a node has written as numbers, as bytes too, if somebody wants them.
    pub(super) fn quantize_output(&mut self, node: &Node) {
        if self.graph.values[node.output].constant.is_some() {
            return;
        }
        let Some((twin, place)) = self.twin(node.output) else { return };
        let at = rows(&place, self.shape(node.output)).expect("or it would have no bytes");
        let input = Picture { offset: self.offset(&place), ..at };
        let output =
            BytePicture { at: Picture { offset: self.byte_offset(twin, place.offset), ..at }, scale: twin.scale };
        self.push(Step::Quantize(Quantize { input, output }));
    }

    pub(super) fn quantized_conv(&mut self, node: &Node, conv: &Conv) -> Result<(), String> {
        let zero = self.twin(node.inputs[0]).ok_or("an input without bytes")?.0.scale;
        let packed = self.pack_bytes(node, zero)?;
        let plan = self.bytes.as_ref().ok_or("no plan of bytes")?;
        let reads = |value: ValueId| plan.read[self.place(value).buffer];
        let numbers = reads(node.output);
        let added = (conv.finish.residual != Residual::None).then(|| (node.inputs[3], reads(node.inputs[3])));
        for image in 0..self.shape(node.output)[0] {
            let residual = match added {
                None => None,
                Some((value, true)) => Some(Added::Numbers(self.number_picture(value, image))),
                Some((value, false)) => Some(Added::Bytes(self.byte_picture(value, image).ok_or("nothing is added")?)),
            };
            let step = QuantizedConv {
                input: self.byte_picture(node.inputs[0], image).ok_or("an input without bytes")?,
                bytes: self.byte_picture(node.output, image),
                numbers: (numbers || self.twin(node.output).is_none()).then(|| self.number_picture(node.output, image)),
                residual,
                window: conv.window,
                finish: conv.finish,
                weights: packed[0],
                scale: packed[1],
                bias: packed[2],
            };
            self.push(Step::QuantizedConv(step));
        }
        Ok(())
    }

    /// Weights for each panel `[tap][quad][lane][channel of the quad]`, the factors of their sums and the bias.
    #[expect(clippy::cast_possible_truncation, reason = "bytes")]
    pub(super) fn pack_bytes(&mut self, node: &Node, input: Scale) -> Result<[usize; 3], String> {
        let graph = self.graph;
        let filters = graph.values[node.inputs[1]].constant.as_ref().ok_or("filters that are not constant")?;
        let bias = graph.values[node.inputs[2]].constant.as_ref().ok_or("a bias that is not constant")?;
        let [outputs, depth, kh, kw] = self.shape(node.inputs[1])[..] else {
            return Err("filters of other than OIHW".into());
        };
        let (each, taps) = (depth * kh * kw, kh * kw);
        let steps: Vec<f32> = filters
            .chunks(each)
            .map(|filter| {
                (filter.iter().fold(0.0_f32, |most, weight| most.max(weight.abs())) / WEIGHT_MAX).max(f32::MIN_POSITIVE)
            })
            .collect();
        let quantized: Vec<i8> = filters
            .iter()
            .enumerate()
            .map(|(at, weight)| (weight / steps[at / each]).round().clamp(-WEIGHT_MAX, WEIGHT_MAX) as i8)
            .collect();
        let (mut weights, mut scales, mut sums) = (Vec::new(), Vec::new(), Vec::new());
        let mut first = 0;
        for panel in self.isa.panels(outputs) {
            let lanes = first..first + panel.lanes;
            for tap in 0..taps {
                for quad in 0..depth / QUAD {
                    weights.extend(lanes.clone().map(|output| {
                        let of = |channel: usize| quantized[output * each + (quad * QUAD + channel) * taps + tap];
                        let bytes = if output < outputs { [0, 1, 2, 3].map(of) } else { [0; QUAD] };
                        f32::from_bits(u32::from_le_bytes(bytes.map(i8::cast_unsigned)))
                    }));
                }
            }
            for output in lanes {
                let is_there = output < outputs;
                let scale = if is_there { steps[output] * input.step } else { 0.0 };
                let total: i32 = if is_there {
                    quantized[output * each..(output + 1) * each].iter().map(|&w| i32::from(w)).sum()
                } else {
                    0
                };
                let own = if !is_there {
                    0.0
                } else if bias.len() == 1 {
                    bias[0]
                } else {
                    bias[output]
                };
                scales.push(scale);
                sums.push((f64::from(own) - f64::from(scale) * f64::from(input.zero) * f64::from(total)) as f32);
            }
            first += panel.lanes;
        }
        Ok([self.add_weights(weights), self.add_weights(scales), self.add_weights(sums)])
    }

    pub(super) fn quantized_pool(&mut self, node: &Node, window: Window) -> Result<(), String> {
        for image in 0..self.shape(node.output)[0] {
            let [input, output] = [node.inputs[0], node.output].map(|value| self.byte_picture(value, image));
            let (input, output) = input.zip(output).ok_or("a pool without bytes")?;
            self.push(Step::QuantizedPool(QuantizedPool { input: input.at, output: output.at, window }));
        }
        Ok(())
    }

    /// Four bytes are copied as one value.
    pub(super) fn quantized_upsample(&mut self, node: &Node, factors: [usize; 2]) -> Result<(), String> {
        let fours = |value: ValueId| {
            let (twin, place) = self.twin(value)?;
            let strides =
                place.strides.iter().enumerate().map(|(axis, &stride)| if axis == 1 { 1 } else { stride / QUAD });
            Some(Place { buffer: twin.buffer, offset: place.offset / QUAD, strides: strides.collect() })
        };
        let (from, to) = fours(node.inputs[0]).zip(fours(node.output)).ok_or("an upsampling without bytes")?;
        let [n, c, h, w] = self.shape(node.inputs[0])[..] else { return Err("not a picture of N, C, H, W".into()) };
        self.upsample_places(&from, &to, [n, c / QUAD, h, w], factors)
    }
}

/// A network whose values all stay where they are, so that they can be looked at after a run.
pub struct Kept {
    pub baked: Baked,
    /// Where values lie in the arena.
    pub places: Vec<Option<Place>>,
    /// Of nodes that were computed a second time, alone with bytes: where those results lie.
    pub probes: Vec<(usize, Place)>,
}

/// Bakes a network so that all its values can be looked at; with `probed`, each of the nodes that it names is computed
/// once more with bytes, from and to numbers.
///
/// # Errors
/// As [`super::bake`].
pub fn bake_kept(graph: &Graph, isa: &Isa, probed: Option<&Quantized>) -> Result<Kept, String> {
    let layout = lay_out(graph);
    let plan = match probed {
        Some(wanted) => Some(BytePlan::new(graph, &layout, isa, wanted, &views(graph, &layout, isa)?)?),
        None => None,
    };
    let make = |offsets: Vec<usize>| {
        let mut baker = Baker::new(graph, layout.clone(), isa, offsets);
        baker.probed.clone_from(&plan);
        baker.steps()
    };
    let mut sketch = make(Vec::new())?;
    sketch.spans.iter_mut().for_each(|span| (span.first, span.last) = (0, graph.nodes.len()));
    let (offsets, arena) = arena::plan(&sketch.spans);
    let mut baker = make(offsets)?;
    let probes = std::mem::take(&mut baker.probes);
    let absolute = |place: Place| Place { offset: baker.offset(&place), ..place };
    let places = layout.places.iter().map(|place| place.clone().map(absolute)).collect();
    let probes = probes.into_iter().map(|(at, place)| (at, absolute(place))).collect();
    Ok(Kept { baked: baker.baked(arena)?, places, probes })
}

/// Nodes that nothing is to be done for.
pub(super) fn views(graph: &Graph, layout: &Layout, isa: &Isa) -> Result<Vec<bool>, String> {
    let sketch = Baker::new(graph, layout.clone(), isa, Vec::new()).steps()?;
    let mut is_view = vec![true; graph.nodes.len()];
    sketch.of.iter().for_each(|&at| is_view[at] = false);
    Ok(is_view)
}

impl Baker<'_> {
    /// The node that is being baked once more, alone with bytes.
    pub(super) fn probe(&mut self, node: &Node, conv: &Conv, plan: &BytePlan) -> Result<(), String> {
        let Some(scale) = plan.scales[self.place(node.inputs[0]).buffer] else { return Ok(()) };
        let packed = self.pack_bytes(node, scale)?;
        let [n, c, h, w] = self.shape(node.inputs[0])[..] else { return Err("not a picture of N, C, H, W".into()) };
        let [_, outputs, rows, columns] = self.shape(node.output)[..] else { return Err("not a picture".into()) };
        let bytes = self.temporary((n * c * h * w).div_ceil(BYTES));
        let results = self.temporary(n * outputs * rows * columns);
        let start = |buffer: usize, baker: &Self| baker.offsets.get(buffer).copied().unwrap_or(0);
        for image in 0..n {
            let input = self.number_picture(node.inputs[0], image);
            let at = Picture { offset: start(bytes, self) * BYTES + image * c * h * w, row: w * c, pixel: c, ..input };
            let picture = BytePicture { at, scale };
            self.push(Step::Quantize(Quantize { input, output: picture }));
            let step = QuantizedConv {
                input: picture,
                bytes: None,
                numbers: Some(Picture {
                    offset: start(results, self) + image * outputs * rows * columns,
                    height: rows,
                    width: columns,
                    channels: outputs,
                    row: columns * outputs,
                    pixel: outputs,
                }),
                residual: (conv.finish.residual != Residual::None)
                    .then(|| Added::Numbers(self.number_picture(node.inputs[3], image))),
                window: conv.window,
                finish: conv.finish,
                weights: packed[0],
                scale: packed[1],
                bias: packed[2],
            };
            self.push(Step::QuantizedConv(step));
        }
        let strides = vec![outputs * rows * columns, 1, columns * outputs, outputs];
        self.probes.push((self.at, Place { buffer: results, offset: 0, strides }));
        Ok(())
    }
}
