//! Operators that compute: convolutions and products, pools, reductions, and what is made of several of tract's.

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_core::ops::cnn::{Conv, KernelFormat, MaxPool, PaddingSpec, PoolSpec, SumPool};
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::math;
use tract_onnx::tract_core::ops::nn::{
    CoordTransformer, DataFormat, Interpolator, Nearest, Reduce, Reducer, Resize, Softmax,
};
use tract_tflite::tflite::{ActivationFunctionType as Activation, BuiltinOperator as Code, Padding};

use super::{After, COMPUTED, Wired, Wiring, axis_of, datum_type};
use crate::engine::tract::tflite::file::{Kind, Step};

/// Window, strides and dilations, across the two axes of a picture.
struct Window {
    kernel: [usize; 2],
    strides: [i32; 2],
    dilations: [i32; 2],
    padding: Padding,
}

impl Window {
    fn pool_spec(&self, input_channels: usize, output_channels: usize) -> TractResult<PoolSpec> {
        let positive = |sizes: [i32; 2]| -> TractResult<TVec<usize>> {
            let sizes: TVec<usize> = sizes.into_iter().map(usize::try_from).collect::<Result<_, _>>()?;
            ensure!(sizes.iter().all(|&size| size > 0), "strides or dilations {sizes:?}");
            Ok(sizes)
        };
        ensure!(self.kernel.iter().all(|&side| side > 0), "a window of {:?}", self.kernel);
        Ok(PoolSpec {
            data_format: DataFormat::NHWC,
            kernel_shape: self.kernel.as_slice().into(),
            padding: match self.padding {
                Padding::SAME => PaddingSpec::SameUpper,
                Padding::VALID => PaddingSpec::Valid,
                other => bail!("padding {other:?}"),
            },
            strides: Some(positive(self.strides)?),
            dilations: Some(positive(self.dilations)?),
            input_channels,
            output_channels,
        })
    }
}

impl Wiring<'_> {
    pub(super) fn activation(&mut self, step: &Step<'_>, activation: Activation) -> Wired {
        Ok((tvec!(self.operand(step, 0)?), After::Computed(activation)))
    }

    /// Weights are output channels, height, width, input channels; of a depth-wise one: 1, height, width, channels.
    pub(super) fn convolution(&mut self, step: &Step<'_>) -> Wired {
        let depthwise = step.code == Code::DEPTHWISE_CONV_2D;
        let (strides, dilations, padding, activation) = if depthwise {
            let options = options!(step, builtin_options_as_depthwise_conv_2_doptions);
            (
                [options.stride_h(), options.stride_w()],
                [options.dilation_h_factor(), options.dilation_w_factor()],
                options.padding(),
                options.fused_activation_function(),
            )
        } else {
            let options = options!(step, builtin_options_as_conv_2_doptions);
            (
                [options.stride_h(), options.stride_w()],
                [options.dilation_h_factor(), options.dilation_w_factor()],
                options.padding(),
                options.fused_activation_function(),
            )
        };
        let picture = self.operand(step, 0)?;
        let weights = self.value(step, 1)?;
        let (&[_, _, _, channels], &[outer, height, width, inner]) = (&self.shape(picture)?[..], weights.shape())
        else {
            bail!("weights {:?} for {:?}", weights.shape(), self.shape(picture)?);
        };
        // As tract has them everywhere else: output channels, input channels of a group, height, width.
        let (order, outputs, of_group) =
            if depthwise { ([3, 0, 1, 2], inner, outer) } else { ([0, 3, 1, 2], outer, inner) };
        ensure!(
            of_group > 0 && channels.is_multiple_of(of_group),
            "weights {:?} for {channels} channels",
            weights.shape()
        );
        let group = channels / of_group;
        ensure!(!depthwise || of_group == 1, "depth-wise weights {:?}", weights.shape());
        ensure!(group > 0 && outputs.is_multiple_of(group), "{outputs} channels out of {group} groups");
        let weights = weights.into_tensor().permute_axes(&order)?;
        let weights = self.constant("weights", weights)?;
        let bias = self.bias(step, outputs)?;
        let window = Window { kernel: [height, width], strides, dilations, padding };
        let pool_spec = window.pool_spec(channels, outputs)?;
        let conv = Conv { pool_spec, kernel_fmt: KernelFormat::OIHW, group, q_params: None };
        Ok((tvec!(self.node("conv", conv, &[picture, weights, bias])?), After::Computed(activation)))
    }

    /// Input 2, or zeros.
    fn bias(&mut self, step: &Step<'_>, outputs: usize) -> TractResult<OutletId> {
        if step.inputs.get(2).copied().flatten().is_none() {
            return self.constant("bias", Tensor::zero::<f32>(&[outputs])?);
        }
        let bias = self.operand(step, 2)?;
        let fact = self.target.outlet_fact(bias)?;
        ensure!(fact.datum_type == DatumType::F32, "a bias without a scale");
        ensure!(self.shape(bias)?[..] == [outputs], "a bias of {:?} for {outputs} channels", self.shape(bias)?);
        Ok(bias)
    }

    pub(super) fn pool(&mut self, step: &Step<'_>) -> Wired {
        let options = options!(step, builtin_options_as_pool_2_doptions);
        let window = Window {
            kernel: [usize::try_from(options.filter_height())?, usize::try_from(options.filter_width())?],
            strides: [options.stride_h(), options.stride_w()],
            dilations: [1, 1],
            padding: options.padding(),
        };
        let picture = self.operand(step, 0)?;
        let &[_, height, width, channels] = &self.shape(picture)?[..] else { bail!("a pool of no picture") };
        ensure!(window.kernel[0] <= 2 * height && window.kernel[1] <= 2 * width, "a window of {:?}", window.kernel);
        let pool_spec = window.pool_spec(channels, channels)?;
        let wire = if step.code == Code::MAX_POOL_2D {
            self.node("pool", MaxPool { pool_spec, with_index_outputs: None }, &[picture])?
        } else {
            self.node("pool", SumPool { pool_spec, normalize: true, count_include_pad: false }, &[picture])?
        };
        Ok((tvec!(wire), After::Computed(options.fused_activation_function())))
    }

    pub(super) fn fully_connected(&mut self, step: &Step<'_>) -> Wired {
        let options = options!(step, builtin_options_as_fully_connected_options);
        ensure!(options.weights_format().0 == 0, "shuffled weights run with the TensorFlow Lite library only");
        let weights = self.operand(step, 1)?;
        let &[outputs, inputs] = &self.shape(weights)?[..] else { bail!("weights {:?}", self.shape(weights)?) };
        let values = self.operand(step, 0)?;
        let volume: usize = self.shape(values)?.iter().product();
        ensure!(inputs > 0 && volume.is_multiple_of(inputs), "{volume} values for weights of {inputs}");
        let rows = self.reshaped(values, &[volume / inputs, inputs])?;
        let axes = "BI,OI->BO".parse()?;
        let product = EinSum { axes, q_params: None, operating_dt: DatumType::F32 };
        let product = self.node("product", product, &[rows, weights])?;
        let bias = self.bias(step, outputs)?;
        let sum = self.binary(math::add(), &[product, bias])?;
        let stated = self.stated(step, 0)?.to_vec();
        Ok((tvec!(self.reshaped(sum, &stated)?), After::Computed(options.fused_activation_function())))
    }

    fn axes(&mut self, step: &Step<'_>, rank: usize) -> TractResult<TVec<usize>> {
        let axes = self.integers(step, 1)?;
        let mut axes: Vec<usize> = axes.into_iter().map(|axis| axis_of(axis, rank)).collect::<TractResult<_>>()?;
        axes.sort_unstable();
        axes.dedup();
        Ok(axes.into())
    }

    pub(super) fn reduced(&mut self, step: &Step<'_>) -> Wired {
        let values = self.operand(step, 0)?;
        let shape = self.shape(values)?;
        let axes = self.axes(step, shape.len())?;
        let count: usize = axes.iter().map(|&axis| shape[axis]).product();
        ensure!(count > 0, "nothing to reduce");
        let reducer = match step.code {
            Code::REDUCE_MAX => Reducer::Max,
            Code::REDUCE_MIN => Reducer::Min,
            _ => Reducer::Sum,
        };
        let mut wire = self.node("reduce", Reduce::new(axes, reducer), &[values])?;
        if step.code == Code::MEAN {
            #[expect(clippy::cast_precision_loss, reason = "a number of values is far below 2^24")]
            let share = self.constant("share", tensor0(1.0 / count as f32))?;
            wire = self.binary(math::mul(), &[wire, share])?;
        }
        let stated = self.stated(step, 0)?.to_vec();
        Ok((tvec!(self.reshaped(wire, &stated)?), COMPUTED))
    }

    pub(super) fn arg_max(&mut self, step: &Step<'_>) -> Wired {
        let values = self.operand(step, 0)?;
        let rank = self.shape(values)?.len();
        let axes = self.axes(step, rank)?;
        ensure!(axes.len() == 1, "{} axes; expected one", axes.len());
        let places = self.node("places", Reduce::new(axes, Reducer::ArgMax(false)), &[values])?;
        let stated = self.stated(step, 0)?.to_vec();
        let places = self.reshaped(places, &stated)?;
        self.cast_to_stated(step, places)
    }

    pub(super) fn resized(&mut self, step: &Step<'_>) -> Wired {
        let bilinear = step.code == Code::RESIZE_BILINEAR;
        let (align_corners, half_pixels) = if bilinear {
            let options = options!(step, builtin_options_as_resize_bilinear_options);
            (options.align_corners(), options.half_pixel_centers())
        } else {
            let options = options!(step, builtin_options_as_resize_nearest_neighbor_options);
            (options.align_corners(), options.half_pixel_centers())
        };
        let coord_transformer = match (align_corners, half_pixels) {
            (true, _) => CoordTransformer::AlignCorners,
            (_, true) if bilinear => CoordTransformer::HalfPixel,
            (_, true) => CoordTransformer::TfHalfPixelForNn,
            _ => CoordTransformer::Asymmetric,
        };
        let picture = self.operand(step, 0)?;
        let (from, to) = (self.shape(picture)?, self.stated(step, 0)?.to_vec());
        ensure!(from.len() == 4 && to.len() == 4 && from[0] == to[0] && from[3] == to[3], "{from:?} to {to:?}");
        let sizes: Vec<TDim> = to.iter().map(|dim| dim.to_dim()).collect();
        let sizes = self.constant("sizes", tensor1(&sizes))?;
        let resize = Resize {
            coord_transformer,
            interpolator: if bilinear { Interpolator::Linear } else { Interpolator::Nearest },
            nearest: if align_corners { Nearest::RoundPreferCeil } else { Nearest::Floor },
            optional_scales_input: None,
            optional_sizes_input: Some(1),
        };
        Ok((tvec!(self.node("resize", resize, &[picture, sizes])?), COMPUTED))
    }

    pub(super) fn softmax(&mut self, step: &Step<'_>) -> Wired {
        let beta = options!(step, builtin_options_as_softmax_options).beta();
        let mut wire = self.operand(step, 0)?;
        if beta != 1.0 {
            let beta = self.constant("beta", tensor0(beta))?;
            wire = self.binary(math::mul(), &[wire, beta])?;
        }
        let rank = self.shape(wire)?.len();
        let softmax = Softmax { axes: tvec!(axis_of(-1, rank)?), quant_output_dt: None, ..Softmax::default() };
        Ok((tvec!(self.node("softmax", softmax, &[wire])?), COMPUTED))
    }

    pub(super) fn parametric_relu(&mut self, step: &Step<'_>) -> Wired {
        let (values, slopes) = (self.operand(step, 0)?, self.operand(step, 1)?);
        let (above, below) = (self.bounded(values, Some(0.0), None)?, self.bounded(values, None, Some(0.0))?);
        let below = self.binary(math::mul(), &[below, slopes])?;
        Ok((tvec!(self.binary(math::add(), &[above, below])?), COMPUTED))
    }

    pub(super) fn squared_difference(&mut self, step: &Step<'_>) -> Wired {
        let operands = tvec!(self.operand(step, 0)?, self.operand(step, 1)?);
        let difference = self.binary(math::sub(), &operands)?;
        Ok((tvec!(self.node("square", math::square(), &[difference])?), COMPUTED))
    }

    /// Rounded down; whole numbers on the way through numbers of 64 bits, which hold all of 32 exactly.
    pub(super) fn floor_div(&mut self, step: &Step<'_>) -> Wired {
        let operands = tvec!(self.operand(step, 0)?, self.operand(step, 1)?);
        let wide: TractResult<TVec<OutletId>> =
            operands.iter().map(|&operand| self.node("wide", cast(DatumType::F64), &[operand])).collect();
        let quotient = self.binary(math::div(), &wide?)?;
        let floor = self.node("floor", math::floor(), &[quotient])?;
        self.cast_to_stated(step, floor)
    }

    pub(super) fn cast(&mut self, step: &Step<'_>) -> Wired {
        let operand = self.operand(step, 0)?;
        self.cast_to_stated(step, operand)
    }

    /// As the type that the file states for the result.
    fn cast_to_stated(&mut self, step: &Step<'_>, wire: OutletId) -> Wired {
        let &output = step.outputs.first().context("an output is missing")?;
        let kind: Kind = self.file.tensors[output].kind;
        Ok((tvec!(self.node("cast", cast(datum_type(kind)), &[wire])?), COMPUTED))
    }
}
