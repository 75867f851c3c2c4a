//! Sums and what follows them: constants that move into weights, activations, residuals, attention.

use super::Fusion;
use crate::engine::plan::graph::{Activation, Binary, Conv, Finish, Node, Op, Residual, ValueId, Window};

impl Fusion {
    /// A constant for each channel, after sums or a norm.
    pub(super) fn constant_into_weights(&mut self, index: usize) -> Option<()> {
        let (&Op::Binary(binary), &[x, constant]) = self.node(index) else { return None };
        let maker = self.sole(x)?;
        let axis = self.channel_axis(maker)?;
        let (op, inputs) = (maker.0.clone(), maker.1.to_vec());
        let is_plain = Self::has_plain_sums(&op) || matches!(op, Op::LayerNorm { .. });
        if !is_plain || self.shape(x) != self.result(index) {
            return None;
        }
        let channels = self.shape(x)[axis];
        let constants = self.per_channel(constant, axis, channels)?;
        let (mut weights, mut bias) = (self.known(inputs[1])?.to_vec(), self.known(inputs[2])?.to_vec());
        let row = weights.len() / channels;
        let factor = |channel: usize| match binary {
            Binary::Div => constants[channel].recip(),
            _ => constants[channel],
        };
        match binary {
            Binary::Add => bias.iter_mut().zip(&constants).for_each(|(bias, constant)| *bias += constant),
            Binary::Sub => bias.iter_mut().zip(&constants).for_each(|(bias, constant)| *bias -= constant),
            Binary::Mul | Binary::Div => {
                weights.iter_mut().enumerate().for_each(|(at, weight)| *weight *= factor(at / row));
                bias.iter_mut().enumerate().for_each(|(at, bias)| *bias *= factor(at));
            }
            Binary::Max | Binary::Min | Binary::Pow => return None,
        }
        let shape = self.shape(inputs[1]).to_vec();
        let weights = self.constant(&shape, weights, inputs[1]);
        let bias = self.constant(&[channels], bias, inputs[2]);
        self.replace(index, op, vec![inputs[0], weights, bias]);
        Some(())
    }

    /// A constant for all, after views of sums.
    pub(super) fn scalar_into_weights(&mut self, index: usize) -> Option<()> {
        let (&Op::Binary(binary), &[x, constant]) = self.node(index) else { return None };
        let (constant, mut value) = (self.scalar(constant)?, x);
        let is_output = self.graph.outputs.contains(&self.graph.nodes[index].output);
        if is_output || self.shape(x) != self.result(index) {
            return None;
        }
        while let Some((_, inputs)) = self.sole(value).filter(|(op, _)| op.is_view()) {
            value = inputs[0];
        }
        let (op, inputs) = self.sole(value)?;
        let (&[picture, weights, bias], true) = (inputs, Self::has_plain_sums(op)) else { return None };
        let (op, maker) = (op.clone(), self.makers[value]?);
        let change = |data: &[f32], of: fn(f32, f32) -> f32| data.iter().map(|&value| of(value, constant)).collect();
        let (old_weights, old_bias) = (self.known(weights)?, self.known(bias)?);
        let (new_weights, new_bias): (Vec<f32>, Vec<f32>) = match binary {
            Binary::Add => (old_weights.to_vec(), change(old_bias, |value, constant| value + constant)),
            Binary::Sub => (old_weights.to_vec(), change(old_bias, |value, constant| value - constant)),
            Binary::Mul => {
                let times = |value: f32, constant: f32| value * constant;
                (change(old_weights, times), change(old_bias, times))
            }
            Binary::Div => {
                let by = |value: f32, constant: f32| value / constant;
                (change(old_weights, by), change(old_bias, by))
            }
            Binary::Max | Binary::Min | Binary::Pow => return None,
        };
        let (shape, channels) = (self.shape(weights).to_vec(), new_bias.len());
        let weights = self.constant(&shape, new_weights, weights);
        let bias = self.constant(&[channels], new_bias, bias);
        self.replace(maker, op, vec![picture, weights, bias]);
        self.forward(index, x)
    }

    /// A factor on an input of a matrix product, before or after the input was looked at differently.
    pub(super) fn scaled_product(&mut self, index: usize) -> Option<()> {
        let (&Op::MatMul { scale }, &[a, b]) = self.node(index) else { return None };
        for (slot, mut value) in [(0, a), (1, b)] {
            let (mut reader, mut slot) = (index, slot);
            while let Some(maker) = self.makers[value].filter(|_| self.readers[value] == 1) {
                if let Some((x, factor)) = self.scaled(self.node(maker)) {
                    if self.shape(x) != self.result(maker) {
                        break;
                    }
                    let Node { op, mut inputs, .. } = self.graph.nodes[reader].clone();
                    inputs[slot] = x;
                    self.replace(reader, op, inputs);
                    self.graph.nodes[index].op = Op::MatMul { scale: scale * factor };
                    return Some(());
                }
                if !self.graph.nodes[maker].op.is_view() {
                    break;
                }
                (reader, slot, value) = (maker, 0, self.graph.nodes[maker].inputs[0]);
            }
        }
        None
    }

    /// A factor on a matrix product.
    pub(super) fn product_scaled(&mut self, index: usize) -> Option<()> {
        let (product, factor) = self.scaled(self.node(index))?;
        let (&Op::MatMul { scale }, inputs) = self.sole(product)? else { return None };
        if self.shape(product) != self.result(index) {
            return None;
        }
        let inputs = inputs.to_vec();
        self.replace(index, Op::MatMul { scale: scale * factor }, inputs);
        Some(())
    }

    /// The sum of two convolutions of one picture is one convolution, where one window holds the other.
    pub(super) fn side_by_side(&mut self, index: usize) -> Option<()> {
        let (Op::Binary(Binary::Add), &[a, b]) = self.node(index) else { return None };
        let conv_of = |value: ValueId| match self.sole(value) {
            Some((&Op::Conv(conv), &[x, filters, bias])) if Self::has_plain_sums(&Op::Conv(conv)) => {
                Some((conv, x, filters, bias))
            }
            _ => None,
        };
        let (first, second) = (conv_of(a)?, conv_of(b)?);
        let larger = |conv: &Conv| conv.window.kernel.iter().product::<usize>();
        let (outer, inner) = if larger(&first.0) >= larger(&second.0) { (first, second) } else { (second, first) };
        if outer.1 != inner.1 || outer.0.groups != inner.0.groups || outer.0.window.stride != inner.0.window.stride {
            return None;
        }
        let filters = self.held(&outer.0.window, outer.2, &inner.0.window, self.known(inner.2)?)?;
        let bias = self.known(outer.3)?.iter().zip(self.known(inner.3)?).map(|(a, b)| a + b).collect();
        self.merged(index, outer.0, outer.1, [outer.2, outer.3], filters, bias)
    }

    /// The sum of a convolution and its own picture is a convolution.
    pub(super) fn identity(&mut self, index: usize) -> Option<()> {
        let (Op::Binary(Binary::Add), &[a, b]) = self.node(index) else { return None };
        for (sum, x) in [(a, b), (b, a)] {
            let Some((&Op::Conv(conv), &[picture, filters, bias])) = self.sole(sum) else { continue };
            let is_plain = Self::has_plain_sums(&Op::Conv(conv)) && conv.window.stride == [1, 1];
            if picture != x || !is_plain || self.shape(sum) != self.shape(x) {
                continue;
            }
            let (channels, depth) = (self.shape(filters)[0], self.shape(filters)[1]);
            // In a group, channel `c` of the result is channel `c % depth` of the group's own.
            let mut one = vec![0.0; channels * depth];
            (0..channels).for_each(|channel| one[channel * depth + channel % depth] = 1.0);
            let filters_data = self.held(&conv.window, filters, &Window::POINT, &one)?;
            let bias_data = self.known(bias)?.to_vec();
            return self.merged(index, conv, picture, [filters, bias], filters_data, bias_data);
        }
        None
    }

    /// The filters of an outer window with those of an inner one added where it lies.
    fn held(&self, outer: &Window, filters: ValueId, inner: &Window, added: &[f32]) -> Option<Vec<f32>> {
        let mut data = self.known(filters)?.to_vec();
        let place = |axis: usize, tap: usize| {
            // Distance from where the outer window begins, in pixels and then in taps.
            let pixels = (tap * inner.dilation[axis] + outer.pad[axis]).checked_sub(inner.pad[axis])?;
            let tap = pixels / outer.dilation[axis];
            (pixels % outer.dilation[axis] == 0 && tap < outer.kernel[axis]).then_some(tap)
        };
        let ([kh, kw], [inner_kh, inner_kw]) = (outer.kernel, inner.kernel);
        for (at, &weight) in added.iter().enumerate() {
            let (plane, tap) = (at / (inner_kh * inner_kw), at % (inner_kh * inner_kw));
            let (ky, kx) = (place(0, tap / inner_kw)?, place(1, tap % inner_kw)?);
            data[(plane * kh + ky) * kw + kx] += weight;
        }
        Some(data)
    }

    fn merged(
        &mut self,
        index: usize,
        conv: Conv,
        x: ValueId,
        like: [ValueId; 2],
        filters: Vec<f32>,
        bias: Vec<f32>,
    ) -> Option<()> {
        let (shape, channels) = (self.shape(like[0]).to_vec(), bias.len());
        let filters = self.constant(&shape, filters, like[0]);
        let bias = self.constant(&[channels], bias, like[1]);
        self.replace(index, Op::Conv(conv), vec![x, filters, bias]);
        Some(())
    }

    /// An activation of sums that only it reads.
    pub(super) fn activation(&mut self, index: usize) -> Option<()> {
        let (&Op::Unary(unary), &[x]) = self.node(index) else { return None };
        let activation = Activation::of(unary)?;
        let (op, inputs) = self.sole(x)?;
        let (mut op, inputs) = (op.clone(), inputs.to_vec());
        let finish = op.finish_mut().filter(|finish| finish.activation == Activation::None)?;
        finish.activation = activation;
        if finish.residual == Residual::After {
            finish.residual = Residual::Before;
        }
        self.replace(index, op, inputs);
        Some(())
    }

    /// The one weighted sum over what a softmax shares out.
    pub(super) fn expectation(&mut self, index: usize) -> Option<()> {
        let (&Op::Conv(Conv { window: Window::POINT, groups: 1, finish }), &[shares, filters, bias]) = self.node(index)
        else {
            return None;
        };
        let is_plain = finish == Finish::default() && self.known(bias)?.iter().all(|&bias| bias == 0.0);
        if !is_plain || self.shape(filters)[0] != 1 {
            return None;
        }
        let (&Op::Softmax { axis: 1 }, &[x]) = self.sole(shares)? else { return None };
        let weights = self.known(filters)?.to_vec();
        let weights = self.constant(&[weights.len()], weights, filters);
        self.replace(index, Op::Expectation { axis: 1 }, vec![x, weights]);
        Some(())
    }

    /// Two products with a softmax between them, the second one as it is or turned: `v·sᵀ` is `(s·vᵀ)ᵀ`.
    pub(super) fn attention(&mut self, index: usize) -> Option<()> {
        let (&Op::MatMul { scale: 1.0 }, &[a, b]) = self.node(index) else { return None };
        let rank = self.shape(a).len();
        let turned: Vec<usize> = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
        let shares_turned = match self.sole(b) {
            Some((Op::Permute { order }, &[shares])) if *order == turned => Some(shares),
            _ => None,
        };
        let (shares, v) = shares_turned.map_or((a, b), |shares| (shares, a));
        let (&Op::Softmax { axis }, &[scores]) = self.sole(shares)? else { return None };
        let (&Op::MatMul { scale }, &[q, k]) = self.sole(scores)? else { return None };
        let batch = |value: ValueId| &self.shape(value)[..rank - 2];
        let is_known = [q, k, v].iter().any(|&value| self.known(value).is_some());
        if axis != rank - 1 || is_known || [k, v].iter().any(|&other| batch(other) != batch(q)) {
            return None;
        }
        if shares_turned.is_none() {
            self.replace(index, Op::Attention { scale }, vec![q, k, v]);
            return Some(());
        }
        let swapped = |shape: &[usize]| turned.iter().map(|&axis| shape[axis]).collect::<Vec<_>>();
        let (of_v, of_result) = (swapped(self.shape(v)), swapped(self.result(index)));
        let v = self.insert(index, Op::Permute { order: turned.clone() }, vec![v], &of_v);
        let result = self.insert(index + 1, Op::Attention { scale }, vec![q, k, v], &of_result);
        self.replace(index + 2, Op::Permute { order: turned }, vec![result]);
        Some(())
    }

    /// What is added to sums that only the addition reads. Of two sums the later one takes the other.
    pub(super) fn residual(&mut self, index: usize) -> Option<()> {
        let (Op::Binary(Binary::Add), &[a, b]) = self.node(index) else { return None };
        if self.shape(a) != self.shape(b) || self.known(b).is_some() {
            return None;
        }
        let mut sides = [(a, b), (b, a)];
        sides.sort_by_key(|(sum, _)| std::cmp::Reverse(self.makers[*sum]));
        for (sum, other) in sides {
            let Some((op, inputs)) = self.sole(sum) else { continue };
            let (mut op, mut inputs) = (op.clone(), inputs.to_vec());
            if let Some(finish) = op.finish_mut().filter(|finish| finish.residual == Residual::None) {
                finish.residual = Residual::After;
                inputs.push(other);
                self.replace(index, op, inputs);
                return Some(());
            }
        }
        None
    }
}
