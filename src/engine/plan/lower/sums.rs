//! Sums of products: convolutions forth and back, average pools, matrix products; and the one pool that is no sum.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::array::{Pad, PadMode};
use tract_onnx::tract_core::ops::cnn::conv::{Conv as TractConv, KernelFormat};
use tract_onnx::tract_core::ops::cnn::{Deconv, MaxPool, PoolSpec, SumPool};
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::nn::DataFormat;

use super::{Lowering, Unsupported, describe};
use crate::engine::plan::graph::{Binary, Conv, Finish, Op, ValueId, Window};

impl Lowering<'_> {
    /// The result of an operator of this room, if it is one.
    pub(super) fn summed(&mut self, node: &TypedNode, shape: &[usize]) -> Result<Option<ValueId>, Unsupported> {
        if let Some(conv) = node.op_as::<TractConv>() {
            return self.convolution(node, conv, shape).map(Some);
        }
        if let Some(conv) = node.op_as::<Deconv>() {
            return self.transposed(node, conv, shape).map(Some);
        }
        if let Some(product) = node.op_as::<EinSum>() {
            return self.product(node, product, shape).map(Some);
        }
        if let Some(pool) = node.op_as::<SumPool>() {
            return self.average(node, pool, shape).map(Some);
        }
        if let Some(pool) = node.op_as::<MaxPool>() {
            let x = self.first(node)?;
            let window = window(&pool.pool_spec, self.of(x))?;
            return Ok(Some(self.emit(&node.name, Op::MaxPool(window), &[x], shape)));
        }
        Ok(None)
    }

    fn convolution(&mut self, node: &TypedNode, conv: &TractConv, shape: &[usize]) -> Result<ValueId, Unsupported> {
        if conv.q_params.is_some() || conv.kernel_fmt != KernelFormat::OIHW {
            return Err("quantized, or filters in another order than OIHW".into());
        }
        let mut x = self.find(node.inputs[0])?;
        let mut window = window(&conv.pool_spec, self.of(x))?;
        if let Some((inner, [above, left])) = self.before_padding(node.inputs[0])? {
            x = inner;
            window.pad = [window.pad[0] + above, window.pad[1] + left];
        }
        let (filters, bias) = (self.find(node.inputs[1])?, self.find(node.inputs[2])?);
        let bias = self.bias(&node.name, bias, shape[1])?;
        if self.known(filters).is_none() {
            return Err("its filters depend on the picture".into());
        }
        let op = Op::Conv(Conv { window, groups: conv.group, finish: Finish::default() });
        Ok(self.emit(&node.name, op, &[x, filters, bias], shape))
    }

    /// What zeros were put around to make this value, and how many above and to the left.
    fn before_padding(&mut self, outlet: OutletId) -> Result<Option<(ValueId, [usize; 2])>, Unsupported> {
        let node = &self.model.nodes()[outlet.node];
        let Some(Pad { pads, mode: PadMode::Constant(value) }) = node.op_as::<Pad>() else { return Ok(None) };
        let [(0, 0), (0, 0), (above, _), (left, _)] = pads[..] else { return Ok(None) };
        if value.cast_to_scalar::<f32>().map_err(describe)? != 0.0 {
            return Ok(None);
        }
        Ok(Some((self.find(node.inputs[0])?, [above, left])))
    }

    /// A constant for each of `count` sums; tract writes one for all as a scalar.
    fn bias(&mut self, name: &str, bias: ValueId, count: usize) -> Result<ValueId, Unsupported> {
        let known = self.known(bias).ok_or("its bias depends on the picture")?;
        match known.len() {
            length if length == count && self.of(bias).len() == 1 => Ok(bias),
            length if length == count || length == 1 => {
                let data = known.iter().copied().cycle().take(count).collect();
                Ok(self.constant(name, &[count], data))
            }
            length => Err(format!("{length} biases for {count} sums")),
        }
    }

    /// As a depthwise convolution; where some windows hold fewer pixels than others and that counts, times a constant.
    fn average(&mut self, node: &TypedNode, pool: &SumPool, shape: &[usize]) -> Result<ValueId, Unsupported> {
        let (x, name) = (self.first(node)?, node.name.as_str());
        let window = window(&pool.pool_spec, self.of(x))?;
        let (from, [kh, kw]) = (self.of(x).to_vec(), window.kernel);
        let inside = |axis: usize, at: usize, size: usize| {
            let taps = (0..window.kernel[axis]).map(|tap| at * window.stride[axis] + tap * window.dilation[axis]);
            taps.filter(|place| (window.pad[axis]..window.pad[axis] + size).contains(place)).count()
        };
        let rows: Vec<usize> = (0..shape[2]).map(|row| inside(0, row, from[2])).collect();
        let columns: Vec<usize> = (0..shape[3]).map(|column| inside(1, column, from[3])).collect();
        let is_even = rows.iter().all(|&rows| rows == kh) && columns.iter().all(|&columns| columns == kw);
        #[expect(clippy::cast_precision_loss, reason = "no window is near 2^24 pixels")]
        let part = |pixels: usize| if pool.normalize { 1.0 / pixels.max(1) as f32 } else { 1.0 };
        let by_place = pool.normalize && !pool.count_include_pad && !is_even;
        let filters = vec![if by_place { 1.0 } else { part(kh * kw) }; from[1] * kh * kw];
        let filters = self.constant(name, &[from[1], 1, kh, kw], filters);
        let bias = self.constant(name, &[from[1]], vec![0.0; from[1]]);
        let op = Op::Conv(Conv { window, groups: from[1], finish: Finish::default() });
        let sums = self.emit(name, op, &[x, filters, bias], shape);
        if !by_place {
            return Ok(sums);
        }
        let parts = rows.iter().flat_map(|rows| columns.iter().map(move |columns| part(rows * columns))).collect();
        let parts = self.constant(name, &[1, 1, shape[2], shape[3]], parts);
        Ok(self.binary(name, Binary::Mul, sums, parts))
    }

    /// A transposed convolution is a plain one that makes, for each pixel, the `stride × stride` pixels of the result it
    /// becomes: all filters for them side by side, each with zeros where it has no tap.
    fn transposed(&mut self, node: &TypedNode, conv: &Deconv, shape: &[usize]) -> Result<ValueId, Unsupported> {
        let (name, pool) = (node.name.as_str(), &conv.pool_spec);
        let x = self.find(node.inputs[0])?;
        let from = self.of(x).to_vec();
        let plain = window(pool, &from)?;
        let (Window { kernel, stride, .. }, false) = (plain, conv.group != 1 || plain.dilation != [1, 1]) else {
            return Err("in groups, or with holes".into());
        };
        let (filters, bias) = (self.find(node.inputs[1])?, self.find(node.inputs[2])?);
        let (outputs, inputs) = (shape[1], from[1]);
        if conv.kernel_format != KernelFormat::OIHW || *self.of(filters) != [outputs, inputs, kernel[0], kernel[1]] {
            return Err(format!("filters of {:?}", self.of(filters)));
        }
        let details = pool.padding.compute_for_deconv(&from[2..], &kernel, &plain.dilation, &stride, &conv.adjustments);
        let details = details.map_err(describe)?;
        let pad = [details[0].pad_before, details[1].pad_before];
        // The result's pixel `q · stride + r` has tap `t` of the pixel `q + (r + pad - t) / stride`, where that is whole.
        let reach = |axis: usize| {
            let (kernel, stride) = (signed(kernel[axis])?, signed(stride[axis])?);
            let pad = signed(pad[axis])?;
            let first = (0..stride).filter_map(|r| taps(r, kernel, stride, pad).map(|(offset, _)| offset).min()).min();
            let last = (0..stride).filter_map(|r| taps(r, kernel, stride, pad).map(|(offset, _)| offset).max()).max();
            let (first, last) = (first.unwrap_or(0).min(0), last.unwrap_or(0).max(0));
            Ok::<_, Unsupported>((kernel, stride, pad, first, last))
        };
        let (rows, columns) = (reach(0)?, reach(1)?);
        let size = [length(rows.4 - rows.3)? + 1, length(columns.4 - columns.3)? + 1];
        let known = self.known(filters).ok_or("its filters depend on the picture")?;
        let mut wide = vec![0.0; stride[0] * stride[1] * outputs * inputs * size[0] * size[1]];
        for (row, column) in (0..stride[0]).flat_map(|row| (0..stride[1]).map(move |column| (row, column))) {
            for (dy, ty) in taps(signed(row)?, rows.0, rows.1, rows.2) {
                for (dx, tx) in taps(signed(column)?, columns.0, columns.1, columns.2) {
                    let (dy, dx) = (length(dy - rows.3)?, length(dx - columns.3)?);
                    let (ty, tx) = (length(ty)?, length(tx)?);
                    for (output, input) in (0..outputs).flat_map(|output| (0..inputs).map(move |input| (output, input)))
                    {
                        let to = ((row * stride[1] + column) * outputs + output) * inputs + input;
                        let from = (output * inputs + input) * kernel[0] + ty;
                        wide[(to * size[0] + dy) * size[1] + dx] = known[from * kernel[1] + tx];
                    }
                }
            }
        }
        let channels = stride[0] * stride[1] * outputs;
        let filters = self.constant(name, &[channels, inputs, size[0], size[1]], wide);
        let bias = self.bias(name, bias, outputs)?;
        let bias = self.known(bias).unwrap_or_default().iter().copied().cycle().take(channels).collect();
        let bias = self.constant(name, &[channels], bias);
        let pad = [length(-rows.3)?, length(-columns.3)?];
        let window = Window { kernel: size, pad, ..Window::POINT };
        let [height, width] = [shape[2].div_ceil(stride[0]), shape[3].div_ceil(stride[1])];
        let op = Op::Conv(Conv { window, groups: 1, finish: Finish::default() });
        let wide = self.emit(name, op, &[x, filters, bias], &[from[0], channels, height, width]);
        let wide = self.reshape(name, wide, &[from[0], stride[0], stride[1], outputs, height, width]);
        let wide = self.permute(name, wide, &[0, 3, 4, 1, 5, 2]);
        let wide = self.reshape(name, wide, &[from[0], outputs, height * stride[0], width * stride[1]]);
        let wide = self.slice(name, wide, 2, 0, shape[2]);
        Ok(self.slice(name, wide, 3, 0, shape[3]))
    }
}

/// The taps that pixel `r` of each `stride` has, and how many pixels on they read.
fn taps(r: i64, kernel: i64, stride: i64, pad: i64) -> impl Iterator<Item = (i64, i64)> {
    (0..kernel)
        .filter(move |t| (r + pad - t).rem_euclid(stride) == 0)
        .map(move |t| ((r + pad - t).div_euclid(stride), t))
}

fn signed(length: usize) -> Result<i64, Unsupported> {
    i64::try_from(length).map_err(describe)
}

fn length(number: i64) -> Result<usize, Unsupported> {
    usize::try_from(number).map_err(describe)
}

fn window(pool: &PoolSpec, input: &[usize]) -> Result<Window, Unsupported> {
    if pool.data_format != DataFormat::NCHW || input.len() != 4 {
        return Err(format!("over {input:?}: only pictures of N, C, H, W are known"));
    }
    let pair = |values: &[usize]| <[usize; 2]>::try_from(values).map_err(|_| "not two dimensions".to_owned());
    let padding = pool.computed_padding(&input[2..]);
    let pad = [padding[0].pad_before, padding[1].pad_before];
    let (stride, dilation) = (pair(&pool.strides())?, pair(&pool.dilations())?);
    Ok(Window { kernel: pair(&pool.kernel_shape)?, stride, dilation, pad })
}

/// The axes of a product by what they are for: of both inputs and the result, of the first and the result, of the
/// second and the result, of both inputs only. Each as its places in the first, the second and the result.
#[derive(Default)]
struct Axes {
    batch: Vec<[usize; 3]>,
    rows: Vec<[usize; 3]>,
    columns: Vec<[usize; 3]>,
    sums: Vec<[usize; 3]>,
}

impl Lowering<'_> {
    fn product(&mut self, node: &TypedNode, product: &EinSum, shape: &[usize]) -> Result<ValueId, Unsupported> {
        let inputs = self.inputs(node)?;
        let ([a, b], None) = (&inputs[..], product.q_params) else { return Err("not of two inputs".into()) };
        let mut axes = Axes::default();
        for axis in product.axes.iter_all_axes() {
            let place = |places: &[usize]| match places {
                [] => Ok(None),
                [place] => Ok(Some(*place)),
                _ => Err("a diagonal".to_owned()),
            };
            let places = (place(&axis.inputs[0])?, place(&axis.inputs[1])?, place(&axis.outputs[0])?);
            match places {
                (Some(a), Some(b), Some(to)) => axes.batch.push([a, b, to]),
                (Some(a), None, Some(to)) => axes.rows.push([a, 0, to]),
                (None, Some(b), Some(to)) => axes.columns.push([0, b, to]),
                (Some(a), Some(b), None) => axes.sums.push([a, b, 0]),
                _ => return Err(format!("sums one input alone: {}", product.axes)),
            }
        }
        let (mut a, mut b) = (*a, *b);
        if self.known(a).is_some() {
            (a, b) = (b, a);
            std::mem::swap(&mut axes.rows, &mut axes.columns);
            [&mut axes.batch, &mut axes.rows, &mut axes.columns, &mut axes.sums]
                .into_iter()
                .flatten()
                .for_each(|axis| axis.swap(0, 1));
        }
        if axes.sums.iter().any(|axis| self.of(a)[axis[0]] != self.of(b)[axis[1]]) {
            return Err(format!("of {:?} and {:?}: {}", self.of(a), self.of(b), product.axes));
        }
        [&mut axes.batch, &mut axes.rows, &mut axes.columns]
            .into_iter()
            .for_each(|axes| axes.sort_by_key(|axis| axis[2]));
        let is_one_matrix = axes.batch.iter().all(|axis| self.of(b)[axis[1]] == 1);
        if self.known(b).is_some() && is_one_matrix {
            return Ok(self.weighted(&node.name, a, b, axes, shape));
        }
        Ok(self.multiplied(&node.name, a, b, &axes, shape))
    }

    /// With constant weights: `[.., rows, sums] · [columns, sums]ᵀ`.
    fn weighted(&mut self, name: &str, a: ValueId, b: ValueId, mut axes: Axes, shape: &[usize]) -> ValueId {
        axes.rows.append(&mut axes.batch);
        // As the input has them, and only the result is put in order.
        axes.rows.sort_by_key(|axis| axis[0]);
        let sizes =
            |of: &[usize], axes: &[[usize; 3]], side: usize| axes.iter().map(|axis| of[axis[side]]).collect::<Vec<_>>();
        let order =
            |axes: [&[[usize; 3]]; 2], side: usize| axes.concat().iter().map(|axis| axis[side]).collect::<Vec<_>>();
        let (mut rows, columns) = (sizes(self.of(a), &axes.rows, 0), sizes(self.of(b), &axes.columns, 1));
        let depth: usize = sizes(self.of(a), &axes.sums, 0).iter().product();
        let count: usize = columns.iter().product();
        // Batch dimensions of the weights, all 1, come first.
        let mut weight_order = order([&axes.columns, &axes.sums], 1);
        let ones: Vec<usize> = (0..self.of(b).len()).filter(|axis| !weight_order.contains(axis)).collect();
        weight_order.splice(0..0, ones);
        let weights = self.permute(name, b, &weight_order);
        let weights = self.reshape(name, weights, &[count, depth]);
        let bias = self.constant(name, &[count], vec![0.0; count]);
        let x = self.permute(name, a, &order([&axes.rows, &axes.sums], 0));
        let x = self.reshape(name, x, &[&rows[..], &[depth]].concat());
        let result =
            self.emit(name, Op::Linear(Finish::default()), &[x, weights, bias], &[&rows[..], &[count]].concat());
        rows.extend(columns);
        let result = self.reshape(name, result, &rows);
        self.ordered(name, result, &[axes.rows, axes.columns].concat(), shape)
    }

    fn multiplied(&mut self, name: &str, a: ValueId, b: ValueId, axes: &Axes, shape: &[usize]) -> ValueId {
        let mut matrix = |value: ValueId, side: usize, [first, second]: [&[[usize; 3]]; 2]| {
            let order: Vec<usize> = [&axes.batch[..], first, second].concat().iter().map(|axis| axis[side]).collect();
            let of = self.of(value).to_vec();
            let sizes = |axes: &[[usize; 3]]| axes.iter().map(|axis| of[axis[side]]).collect::<Vec<_>>();
            let (batch, first, second) = (sizes(&axes.batch), sizes(first), sizes(second));
            let value = self.permute(name, value, &order);
            let matrix = [first.iter().product(), second.iter().product()];
            (self.reshape(name, value, &[&batch[..], &matrix].concat()), batch, matrix)
        };
        let (a, a_batch, [rows, _]) = matrix(a, 0, [&axes.rows, &axes.sums]);
        let (b, b_batch, [_, columns]) = matrix(b, 1, [&axes.sums, &axes.columns]);
        let mut to: Vec<usize> = a_batch.iter().zip(&b_batch).map(|(&a, &b)| a.max(b)).collect();
        let batch = to.len();
        to.extend([rows, columns]);
        let result = self.emit(name, Op::MatMul { scale: 1.0 }, &[a, b], &to);
        to.truncate(batch);
        to.extend(axes.rows.iter().chain(&axes.columns).map(|axis| shape[axis[2]]));
        let result = self.reshape(name, result, &to);
        self.ordered(name, result, &[&axes.batch[..], &axes.rows, &axes.columns].concat(), shape)
    }

    /// Dimensions that stand for these axes, in the order of the result.
    fn ordered(&mut self, name: &str, value: ValueId, axes: &[[usize; 3]], shape: &[usize]) -> ValueId {
        let find = |place: usize| axes.iter().position(|axis| axis[2] == place).unwrap_or(0);
        let order: Vec<usize> = (0..shape.len()).map(find).collect();
        self.permute(name, value, &order)
    }
}
