//! Runs a laid-out graph (first version: one thread, buffers of their own, everything but convolutions by definition).

use super::graph::{Activation, Conv, Graph, Node, Op, Residual, ValueId, Window};
use super::kernels::{Tile, avx512};
use super::layout::{Layout, Place, c_order, lay_out, view};
use super::reference;

pub struct Runner {
    graph: Graph,
    layout: Layout,
    buffers: Vec<Vec<f32>>,
    packed: Vec<Option<Packed>>,
    scratch: Vec<f32>,
    pub times: Vec<f64>,
}

/// Weights of a convolution: panels of 64, 32 and 16 channels, `[panel][tap][channel][lane]`.
struct Packed {
    panels: Vec<Panel>,
    weights: Vec<f32>,
    bias: Vec<f32>,
}

struct Panel {
    first: usize,
    channels: usize,
    vectors: usize,
    weights: usize,
}

impl Runner {
    pub fn new(graph: Graph) -> Self {
        let layout = lay_out(&graph);
        let buffers = layout.buffers.iter().map(|&volume| vec![0.0; volume + 64]).collect();
        let packed = graph.nodes.iter().map(|node| pack(&graph, node)).collect();
        let times = vec![0.0; graph.nodes.len()];
        Self { graph, layout, buffers, packed, scratch: Vec::new(), times }
    }

    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    pub fn run(&mut self, picture: &[f32]) {
        let input = self.layout.places[self.graph.input].as_ref().unwrap().buffer;
        self.buffers[input][..picture.len()].copy_from_slice(picture);
        for index in 0..self.graph.nodes.len() {
            let started = std::time::Instant::now();
            self.node(index);
            self.times[index] += started.elapsed().as_secs_f64();
        }
    }

    /// A value in C order.
    pub fn read(&self, value: ValueId) -> Vec<f32> {
        let found = &self.graph.values[value];
        if let Some(constant) = &found.constant {
            return constant.clone();
        }
        let place = self.layout.places[value].as_ref().unwrap();
        let buffer = &self.buffers[place.buffer];
        reference::each(&found.shape, |at| buffer[place.offset + dot(at, &place.strides)])
    }

    fn node(&mut self, index: usize) {
        let node = self.graph.nodes[index].clone();
        let to = self.layout.places[node.output].clone().unwrap();
        if let (Op::Conv(conv), Some(_)) = (&node.op, &self.packed[index]) {
            return self.convolve(index, conv, &node, &to);
        }
        if matches!(node.op, Op::Slice { .. } | Op::Reshape | Op::Permute { .. }) {
            let (from, shape) = (&self.graph.values[node.inputs[0]].shape, &self.graph.values[node.output].shape);
            let seen = self.layout.places[node.inputs[0]].as_ref().and_then(|place| view(&node.op, place, from, shape));
            if seen.as_ref() == Some(&to) {
                return;
            }
        }
        if let Op::Concat { axis } = node.op {
            let mut at = to.offset;
            for &input in &node.inputs {
                let place = self.layout.places[input].as_ref();
                let shape = self.graph.values[input].shape.clone();
                if place.is_none_or(|place| (place.buffer, place.offset) != (to.buffer, at)) {
                    let values = self.read(input);
                    self.write(&values, &shape, &Place { offset: at, ..to.clone() });
                }
                at += shape[axis] * to.strides[axis];
            }
            return;
        }
        let values: Vec<Vec<f32>> = node.inputs.iter().map(|&input| self.read(input)).collect();
        let inputs: Vec<(&[f32], &[usize])> = values
            .iter()
            .zip(&node.inputs)
            .map(|(values, &input)| (values.as_slice(), self.graph.values[input].shape.as_slice()))
            .collect();
        let shape = self.graph.values[node.output].shape.clone();
        let result = reference::apply(&node.op, &inputs, &shape);
        self.write(&result, &shape, &to);
    }

    fn write(&mut self, values: &[f32], shape: &[usize], place: &Place) {
        let buffer = &mut self.buffers[place.buffer];
        let mut next = values.iter();
        reference::each(shape, |at| {
            buffer[place.offset + dot(at, &place.strides)] = *next.next().unwrap();
            0.0
        });
    }

    fn convolve(&mut self, index: usize, conv: &Conv, node: &Node, to: &Place) {
        let packed = self.packed[index].as_ref().unwrap();
        let from_shape = self.graph.values[node.inputs[0]].shape.clone();
        let mut from = self.layout.places[node.inputs[0]].clone().unwrap();
        let mut base = self.buffers[from.buffer].as_ptr();
        if from.strides[1] != 1 {
            // The picture itself comes in planes.
            let values = self.read(node.inputs[0]);
            let strides = vec![0, 1, from_shape[3] * from_shape[1], from_shape[1]];
            self.scratch.resize(values.len(), 0.0);
            let plain = c_order(&from_shape);
            let scratch = &mut self.scratch;
            reference::each(&from_shape, |at| {
                scratch[dot(at, &strides)] = values[dot(at, &plain)];
                0.0
            });
            base = self.scratch.as_ptr();
            from = Place { buffer: usize::MAX, offset: 0, strides };
        }
        let residual = (conv.finish.residual == Residual::After).then(|| self.layout.places[node.inputs[3]].clone().unwrap());
        let shape = &self.graph.values[node.output].shape;
        let (height, width) = (shape[2], shape[3]);
        let zeros = vec![0.0f32; from_shape[1]];
        let taps = conv.window.kernel[0] * conv.window.kernel[1];
        let mut inputs = vec![std::ptr::null::<f32>(); taps * 24];
        let mut spill = vec![0.0f32; 24 * 64];
        let out = self.buffers[to.buffer].as_mut_ptr();
        let rows = (32_768 / (width * from_shape[1] * conv.window.stride[0])).clamp(1, height);
        for top in (0..height).step_by(rows) {
            let pixels = top * width..(top + rows).min(height) * width;
            for panel in &packed.panels {
                let tile_pixels = avx512::PIXELS[panel.vectors];
                for first in pixels.clone().step_by(tile_pixels) {
                    let at = |p: usize| {
                        let p = (first + p).min(pixels.end - 1);
                        (p / width, p % width)
                    };
                    gather(&mut inputs, tile_pixels, &conv.window, &from, &from_shape, base, zeros.as_ptr(), at);
                    let mut outputs = [std::ptr::null_mut::<f32>(); 24];
                    let mut residuals = [std::ptr::null::<f32>(); 24];
                    let partial = panel.channels < 16 * panel.vectors;
                    for p in 0..tile_pixels {
                        let (y, x) = at(p);
                        let offset = to.offset + y * to.strides[2] + x * to.strides[3] + panel.first;
                        // SAFETY: inside the output's place.
                        outputs[p] = unsafe { out.add(offset) };
                        if partial || first + p >= pixels.end {
                            outputs[p] = spill[p * 64..].as_mut_ptr();
                        }
                        if let Some(place) = &residual {
                            let offset = place.offset + y * place.strides[2] + x * place.strides[3] + panel.first;
                            // SAFETY: inside the residual's place, with 64 values to spare.
                            residuals[p] = unsafe { self.buffers[place.buffer].as_ptr().add(offset) };
                        }
                    }
                    let tile = Tile {
                        inputs: inputs.as_ptr(),
                        taps,
                        depth: from_shape[1],
                        weights: packed.weights[panel.weights..].as_ptr(),
                        bias: packed.bias[panel.first..].as_ptr(),
                        outputs: outputs.as_ptr(),
                        residuals: if residual.is_some() { residuals.as_ptr() } else { std::ptr::null() },
                        activation: conv.finish.activation,
                    };
                    // SAFETY: the pointers were made from places inside their buffers; the CPU was asked in new().
                    unsafe { avx512::run(&tile, panel.vectors) };
                    if partial {
                        for p in (0..tile_pixels).take_while(|p| first + p < pixels.end) {
                            let (y, x) = at(p);
                            let offset = to.offset + y * to.strides[2] + x * to.strides[3] + panel.first;
                            for channel in 0..panel.channels {
                                // SAFETY: inside the output's place.
                                unsafe { *out.add(offset + channel * to.strides[1]) = spill[p * 64 + channel] };
                            }
                        }
                    }
                }
            }
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "first version")]
fn gather(
    inputs: &mut [*const f32],
    tile_pixels: usize,
    window: &Window,
    from: &Place,
    shape: &[usize],
    base: *const f32,
    zeros: *const f32,
    at: impl Fn(usize) -> (usize, usize),
) {
    for p in 0..tile_pixels {
        let (row, column) = at(p);
        for ky in 0..window.kernel[0] {
            let y = (row * window.stride[0] + ky * window.dilation[0]).wrapping_sub(window.pad[0]);
            for kx in 0..window.kernel[1] {
                let x = (column * window.stride[1] + kx * window.dilation[1]).wrapping_sub(window.pad[1]);
                let inside = y < shape[2] && x < shape[3];
                // SAFETY: inside the input's place.
                let pointer = unsafe { base.add(from.offset + y.wrapping_mul(from.strides[2]).wrapping_add(x.wrapping_mul(from.strides[3])) * usize::from(inside)) };
                inputs[(ky * window.kernel[1] + kx) * tile_pixels + p] = if inside { pointer } else { zeros };
            }
        }
    }
}

fn dot(at: &[usize], strides: &[usize]) -> usize {
    at.iter().zip(strides).map(|(at, stride)| at * stride).sum()
}

fn pack(graph: &Graph, node: &Node) -> Option<Packed> {
    let Op::Conv(conv) = &node.op else { return None };
    let is_known = matches!(conv.finish.activation, Activation::None | Activation::Relu | Activation::Silu);
    if conv.groups != 1 || !is_known || conv.finish.residual == Residual::Before || graph.values[node.output].shape[0] != 1 {
        return None;
    }
    let (filters, bias) = (graph.values[node.inputs[1]].constant.as_ref()?, graph.values[node.inputs[2]].constant.as_ref()?);
    let &[outputs, depth, kh, kw] = graph.values[node.inputs[1]].shape.as_slice() else { return None };
    let mut packed = Packed { panels: Vec::new(), weights: Vec::new(), bias: vec![0.0; outputs + 64] };
    for channel in 0..outputs {
        packed.bias[channel] = if bias.len() == 1 { bias[0] } else { bias[channel] };
    }
    let mut first = 0;
    while first < outputs {
        let left = outputs - first;
        let vectors = if left >= 64 { 4 } else if left >= 32 { 2 } else { 1 };
        let channels = left.min(16 * vectors);
        packed.panels.push(Panel { first, channels, vectors, weights: packed.weights.len() });
        for tap in 0..kh * kw {
            for channel in 0..depth {
                for lane in 0..16 * vectors {
                    let out = first + lane;
                    let weight = if lane < channels { filters[(out * depth + channel) * kh * kw + tap] } else { 0.0 };
                    packed.weights.push(weight);
                }
            }
        }
        first += channels;
    }
    Some(packed)
}
