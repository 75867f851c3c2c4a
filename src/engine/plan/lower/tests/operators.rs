//! Every operator alone, on random shapes and numbers: lowered, and lowered and fused, it answers what tract's answers.

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::*;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_core::ops::cnn::conv::KernelFormat;
use tract_onnx::tract_core::ops::cnn::{Deconv, MaxPool, PaddingSpec, PoolSpec, SumPool};
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::logic::{CompGT, CompLT, Iff};
use tract_onnx::tract_core::ops::math::{self, PowConst};
use tract_onnx::tract_core::ops::nn::grid_sample::{GridSample, InterpolationMode, PaddingMode};
use tract_onnx::tract_core::ops::nn::resize::{CoordTransformer, Interpolator, Nearest, Resize};
use tract_onnx::tract_core::ops::nn::*;

use super::draft::*;
use super::{lower, simplify};
use crate::engine::plan::graph::{Activation, Finish, Residual};
use crate::random::Random;

#[test]
fn convolutions() {
    agrees(picture_of(6), |draft, x| {
        let groups = [1, 2, 3, 6][draft.up_to(4)];
        let outputs = groups * draft.size(3);
        let mut pool = pool(draft, [6, outputs], true);
        pool.dilations = Some(draft.sizes(2, 2).into());
        tvec!(conv(draft, x, outputs, groups, pool))
    });
}

#[test]
fn padded_convolutions() {
    let graphs = agrees(picture_of(3), |draft, x| {
        let pads: Vec<(usize, usize)> =
            (0..4).map(|axis| if axis < 2 { (0, 0) } else { (draft.up_to(3), draft.up_to(3)) }).collect();
        let padded = draft.wire(Pad::new(pads, PadMode::default()), &[x])[0];
        let pool = pool(draft, [3, 4], false);
        tvec!(conv(draft, padded, 4, 1, pool))
    });
    assert!(graphs.iter().all(|graph| graph.nodes.len() == 1), "the padding is the convolution's own");
}

#[test]
fn transposed_convolutions() {
    agrees(picture_of(3), |draft, x| {
        let outputs = draft.size(3);
        let mut pool = pool(draft, [3, outputs], true);
        if !matches!(pool.padding, PaddingSpec::Explicit(..)) {
            pool.padding = PaddingSpec::Valid;
        }
        if draft.random.chance(0.3) {
            pool.padding = PaddingSpec::Valid;
            pool.strides = Some(pool.kernel_shape.clone());
        }
        let strides = pool.strides().into_owned();
        let adjustments = (0..2).map(|axis| draft.up_to(strides[axis])).collect();
        let filters = [&[outputs, 3], &*pool.kernel_shape].concat();
        let (filters, bias) = (draft.weights(&filters), draft.weights(&[outputs]));
        draft.wire(Deconv::new(pool, KernelFormat::OIHW, adjustments, 1), &[x, filters, bias])
    });
}

#[test]
fn pools() {
    agrees(picture_of(3), |draft, x| {
        let mut pool = pool(draft, [3, 3], true);
        if let PaddingSpec::Explicit(before, after) = &pool.padding {
            pool.padding = PaddingSpec::ExplicitOnnxPool(before.clone(), after.clone(), draft.random.chance(0.5));
        }
        let most = draft.wire(MaxPool::new(pool.clone(), None), &[x])[0];
        let (counts, divides) = (draft.random.chance(0.5), draft.random.chance(0.7));
        let average = draft.wire(SumPool::new(pool, counts, divides), &[x])[0];
        tvec!(most, average)
    });
}

#[test]
fn products() {
    // Each letter is a dimension; what is upper case is constant.
    let products = [
        ("amk,KN->amn", 5),
        ("abmk,KN->abmn", 3),
        ("abmk,ABKN->abmn", 3),
        ("abmk,abkn->abmn", 3),
        ("mk,KN->mn", 6),
        ("MK,akn->amn", 4),
        ("mk,NK->nm", 6),
        ("abk,KCD->cabd", 4),
        ("bmk,bkn->bnm", 4),
        ("kab,KLB->al", 4),
        ("amk,NAK->nam", 4),
        ("bij,bkj->bik", 4),
    ];
    for (product, most) in products {
        let (a, rest) = product.split_once(',').unwrap();
        let (b, to) = rest.split_once("->").unwrap();
        agrees(
            |draft| {
                let sizes: Vec<usize> = draft.sizes(26, most);
                let of = if a.chars().all(char::is_uppercase) { b } else { a };
                of.bytes().map(|letter| sizes[usize::from(letter.to_ascii_lowercase() - b'a')]).collect()
            },
            |draft, x| {
                let mut again = Random::new(0);
                let shape = draft.shape(x);
                let (first, second) = if a.chars().all(char::is_uppercase) { (b, a) } else { (a, b) };
                let size = |letter: char| first.find(letter.to_ascii_lowercase()).map(|place| shape[place]);
                let other: Vec<usize> = second
                    .chars()
                    .map(|letter| size(letter).unwrap_or_else(|| 1 + usize::try_from(again.bits() % 4).unwrap()))
                    .collect();
                let is_constant = second.chars().all(char::is_uppercase);
                let weights = draft.weights(&other);
                let other = if is_constant {
                    weights
                } else {
                    // Something of the picture's: a number of it, times the weights.
                    let total = draft.wire(Reduce::new((0..shape.len()).collect(), Reducer::Max), &[x])[0];
                    let total =
                        draft.wire(AxisOp::Reshape(0, vec![1.to_dim(); shape.len()].into(), tvec!()), &[total])[0];
                    let total =
                        draft.wire(AxisOp::Reshape(0, tvec!(), vec![1.to_dim(); other.len()].into()), &[total])[0];
                    draft.binary(math::Mul, total, weights)
                };
                let inputs = if first == a { [x, other] } else { [other, x] };
                let axes: AxesMapping = format!("{},{}->{to}", a.to_lowercase(), b.to_lowercase()).parse().unwrap();
                draft.wire(EinSum::new(axes, f32::datum_type()), &inputs)
            },
        );
    }
}

#[test]
fn element_wise() {
    let ops: [fn(&mut Draft, OutletId) -> OutletId; 17] = [
        |draft, x| draft.unary(Sigmoid {}, x),
        |draft, x| draft.unary(Silu {}, x),
        |draft, x| draft.unary(HardSwish {}, x),
        |draft, x| draft.unary(GeluExact {}, x),
        |draft, x| draft.unary(math::Tanh {}, x),
        |draft, x| draft.unary(math::Erf {}, x),
        |draft, x| draft.unary(math::Exp {}, x),
        |draft, x| draft.unary(math::Neg {}, x),
        |draft, x| draft.unary(math::Abs {}, x),
        |draft, x| draft.unary(math::Floor {}, x),
        |draft, x| draft.unary(math::Sin {}, x),
        |draft, x| draft.unary(math::Cos {}, x),
        |draft, x| draft.unary(math::Square {}, x),
        |draft, x| draft.unary(LeakyRelu { alpha: 0.1 }, x),
        |draft, x| draft.unary(LeakyRelu { alpha: 1.7 }, x),
        |draft, x| {
            let above = draft.with(math::Add, x, 2.0);
            let (root, log) = (draft.unary(math::Rsqrt {}, above), draft.unary(math::Ln {}, above));
            draft.binary(math::Sub, root, log)
        },
        |draft, x| {
            let above = draft.with(math::Add, x, 2.0);
            let (root, power) = (draft.unary(math::Sqrt {}, above), draft.unary(PowConst { exponent: 1.7 }, above));
            draft.binary(math::Max, root, power)
        },
    ];
    for op in ops {
        agrees(any(3), |draft, x| tvec!(op(draft, x)));
    }
}

#[test]
fn binary_operators_broadcast() {
    agrees(any(4), |draft, x| {
        let shape: Vec<usize> =
            draft.shape(x).into_iter().map(|size| if draft.random.chance(0.5) { 1 } else { size }).collect();
        let c = draft.weights(&shape);
        let sum = draft.binary(math::Add, c, x);
        let product = draft.binary(math::Mul, x, c);
        let least = draft.binary(math::Min, sum, product);
        let most = draft.with(math::Max, least, 0.0);
        let divided = draft.with(math::Add, product, 4.0);
        tvec!(draft.binary(math::Sub, c, most), draft.binary(math::Div, x, divided))
    });
}

#[test]
fn views_and_copies() {
    agrees(any(4), |draft, x| {
        let shape = draft.shape(x);
        let axis = draft.up_to(4);
        let start = draft.up_to(shape[axis]);
        let end = start + 1 + draft.up_to(shape[axis] - start);
        let slice = draft.wire(Slice::new(axis, start, end), &[x])[0];
        let both = draft.wire(TypedConcat::new(axis), &[x, slice, x])[0];
        let (from, to) = (draft.up_to(4), draft.up_to(4));
        let moved = draft.wire(AxisOp::Move(from, to), &[both])[0];
        let flat: usize = draft.shape(moved)[1..3].iter().product();
        let dims = draft.shape(moved)[1..3].iter().map(|size| size.to_dim()).collect();
        let merged = draft.wire(AxisOp::Reshape(1, dims, tvec!(flat.to_dim())), &[moved])[0];
        let times = draft.sizes(3, 3).into_iter().map(|size| size.to_dim()).collect();
        let tiled = draft.wire(Tile::new(times), &[merged])[0];
        let added = draft.wire(AxisOp::Add(1), &[merged])[0];
        let mut wide = draft.shape(added);
        wide[1] = 3;
        let broadcast =
            draft.wire(MultiBroadcastTo::new(ShapeFact::from_dims(wide.iter().map(|size| size.to_dim()))), &[added])[0];
        tvec!(tiled, broadcast)
    });
}

#[test]
fn strided_slices() {
    agrees(any(3), |draft, x| {
        let steps: Vec<i64> = (0..3).map(|_| [1, 2, -1, -2][draft.up_to(4)]).collect();
        let begin: Vec<i64> = steps.iter().map(|&step| if step > 0 { 0 } else { -1 }).collect();
        let end: Vec<i64> = steps.iter().map(|&step| if step > 0 { i64::MAX } else { i64::MIN }).collect();
        let op = StridedSlice {
            optional_axes_input: Some(3),
            optional_steps_input: Some(4),
            begin_mask: 0,
            end_mask: 0,
            shrink_axis_mask: 0,
        };
        let inputs = [tensor1(&begin), tensor1(&end), tensor1(&[0i64, -2, 2]), tensor1(&steps)]
            .map(|tensor| draft.constant(tensor));
        draft.wire(op, &[&[x], &inputs[..]].concat())
    });
}

#[test]
fn paddings() {
    agrees(any(3), |draft, x| {
        let sizes = draft.shape(x);
        let pads: Vec<(usize, usize)> = sizes.iter().map(|&size| (draft.up_to(size), draft.up_to(size))).collect();
        let modes = [PadMode::Edge, PadMode::Reflect, PadMode::Constant(Arc::new(tensor0(-2.5f32)))];
        modes.into_iter().map(|mode| draft.wire(Pad::new(pads.clone(), mode), &[x])[0]).collect()
    });
}

#[test]
fn resizes() {
    let modes = [
        CoordTransformer::HalfPixel,
        CoordTransformer::AlignCorners,
        CoordTransformer::Asymmetric,
        CoordTransformer::PytorchHalfPixel,
    ];
    for coord_transformer in modes {
        for interpolator in [Interpolator::Linear, Interpolator::Nearest, Interpolator::Cubic] {
            agrees(picture_of(2), |draft, x| {
                let mut sizes: Vec<i64> = draft.shape(x).iter().map(|&size| i64::try_from(size).unwrap()).collect();
                sizes[2..].iter_mut().for_each(|size| *size = i64::try_from(2 + draft.up_to(16)).unwrap());
                let sizes = draft.constant(tensor1(&sizes));
                let op = Resize {
                    coord_transformer: coord_transformer.clone(),
                    interpolator: interpolator.clone(),
                    nearest: Nearest::Floor,
                    optional_scales_input: None,
                    optional_sizes_input: Some(1),
                };
                draft.wire(op, &[x, sizes])
            });
        }
    }
    agrees(picture_of(2), |draft, x| {
        let scales = tvec!(1, 1, 1 + draft.up_to(3), 1 + draft.up_to(3));
        draft.wire(NearestUpsample { scales }, &[x])
    });
}

#[test]
fn along_axes() {
    agrees(any(4), |draft, x| {
        let axis = draft.up_to(4);
        let softmax =
            draft.wire(Softmax { axes: tvec!(axis), quant_output_dt: None, kind: SoftmaxKind::Softmax }, &[x])[0];
        let axes: TVec<usize> = (0..4).filter(|_| draft.random.chance(0.5)).collect();
        let reduced = [Reducer::Max, Reducer::Min, Reducer::Sum, Reducer::MeanOfSquares]
            .map(|reducer| draft.wire(Reduce::new(axes.clone(), reducer), &[x])[0]);
        let best = draft.wire(Reduce::new(tvec!(axis), Reducer::ArgMax(false)), &[x])[0];
        [&[softmax, best], &reduced[..]].concat().into()
    });
}

#[test]
fn sorted_and_gathered() {
    agrees(any(3), |draft, x| {
        let (axis, largest) = (draft.up_to(3), draft.random.chance(0.5));
        let shape = draft.shape(x);
        let count = draft.size(shape[axis]);
        let k = draft.constant(tensor1(&[i64::try_from(count).unwrap()]));
        let sorted = draft.wire(Topk::new(axis, largest, count.to_dim()), &[x, k]);
        let (values, places) = (sorted[0], sorted[1]);
        let along = draft.wire(GatherElements::new(axis), &[x, places])[0];
        let chosen: Vec<i64> = (0..3)
            .map(|_| {
                i64::try_from(draft.up_to(shape[axis])).unwrap()
                    - i64::try_from(shape[axis]).unwrap() * i64::try_from(draft.up_to(2)).unwrap()
            })
            .collect();
        let chosen = draft.constant(tensor1(&chosen).into_shape(&[3, 1]).unwrap());
        let constant = draft.wire(Gather::new(axis), &[x, chosen])[0];
        // Whole rows at places of the picture's, as ONNX's `Gather` has them: a result dimension for each of theirs.
        let total = draft.wire(Reduce::new((0..3).filter(|&other| other != axis).collect(), Reducer::Max), &[x])[0];
        let best = draft.wire(Reduce::new(tvec!(axis), Reducer::ArgMax(false)), &[total])[0];
        let flat = draft.wire(AxisOp::Rm(2), &[best])[0];
        let rows = draft.wire(Gather::new(axis), &[x, flat])[0];
        tvec!(values, places, along, constant, rows)
    });
}

#[test]
fn whole_numbers() {
    agrees(
        |draft| vec![1, 6 + draft.up_to(40)],
        |draft, x| {
            let k = draft.constant(tensor1(&[5i64]));
            let places = draft.wire(Topk::new(1, true, 5.to_dim()), &[x, k])[1];
            let classes = draft.constant(tensor2(&[[3i64]]));
            let zero = draft.constant(tensor2(&[[0i64]]));
            let quotient = draft.binary(math::Div, places, classes);
            let rest = draft.binary(math::Rem, places, classes);
            // What the exporter writes for a remainder that takes the sign of the divisor.
            let is_below = draft.wire(TypedBinOp(Box::new(CompGT), None), &[zero, rest])[0];
            let adjusted = draft.binary(math::Add, rest, classes);
            let signed = draft.wire(Iff, &[is_below, adjusted, rest])[0];
            let is_small = draft.wire(TypedBinOp(Box::new(CompLT), None), &[places, classes])[0];
            let chosen = draft.wire(Iff, &[is_small, quotient, signed])[0];
            let outputs = [places, quotient, rest, signed, chosen];
            outputs.into_iter().map(|whole| draft.wire(cast(f32::datum_type()), &[whole])[0]).collect()
        },
    );
}

#[test]
fn constant_choices() {
    agrees(any(3), |draft, x| {
        let shape = draft.shape(x);
        let mask: Vec<bool> = (0..shape[1]).map(|_| draft.random.chance(0.5)).collect();
        let mask = draft.constant(tensor1(&mask).into_shape(&[1, shape[1], 1]).unwrap());
        let other = draft.weights(&[1, 1, shape[2]]);
        tvec!(draft.wire(Iff, &[mask, x, other])[0], draft.wire(Iff, &[mask, other, x])[0])
    });
}

#[test]
fn grid_samples() {
    agrees(picture_of(3), |draft, x| {
        let images = draft.shape(x)[0];
        let sizes = draft.sizes(2, 5);
        let grid = draft.weights(&[images, sizes[0], sizes[1], 2]);
        let align_corners = draft.random.chance(0.5);
        let op = GridSample { mode: InterpolationMode::Bilinear, padding_mode: PaddingMode::Zeros, align_corners };
        draft.wire(op, &[x, grid])
    });
}

/// A constant for each channel of a picture.
fn by_channel(draft: &mut Draft, channels: usize) -> OutletId {
    draft.weights(&[1, channels, 1, 1])
}

#[test]
fn a_block_of_resnet_is_two_convolutions() {
    let graphs = agrees(picture_of(4), |draft, x| {
        let pool = |kernel: usize, pad: usize| {
            let padding = PaddingSpec::Explicit(tvec!(pad, pad), tvec!(pad, pad));
            PoolSpec::new(DataFormat::NCHW, tvec!(kernel, kernel), padding, None, None, 4, 4)
        };
        let first = conv(draft, x, 4, 1, pool(3, 1));
        let (slope, shift) = (by_channel(draft, 4), by_channel(draft, 4));
        let normal = draft.binary(math::Mul, slope, first);
        let normal = draft.binary(math::Add, shift, normal);
        let hidden = draft.with(math::Max, normal, 0.0);
        let second = conv(draft, hidden, 4, 1, pool(1, 0));
        let sum = draft.binary(math::Add, x, second);
        tvec!(draft.with(math::Max, sum, 0.0))
    });
    for graph in graphs {
        let finishes: Vec<_> = graph.nodes.iter().map(|node| node.op.finish().unwrap()).collect();
        let relu = |residual| Finish { activation: Activation::Relu, residual };
        assert_eq!(finishes, [relu(Residual::None), relu(Residual::Before)]);
    }
}

#[test]
fn a_block_of_repvgg_is_one_convolution() {
    let graphs = agrees(picture_of(4), |draft, x| {
        let groups = [1, 2, 4][draft.up_to(3)];
        let pool = |kernel: usize, pad: usize| {
            let padding = PaddingSpec::Explicit(tvec!(pad, pad), tvec!(pad, pad));
            PoolSpec::new(DataFormat::NCHW, tvec!(kernel, kernel), padding, None, None, 4, 4)
        };
        let (wide, narrow) = (conv(draft, x, 4, groups, pool(3, 1)), conv(draft, x, 4, groups, pool(1, 0)));
        let (slope, shift) = (by_channel(draft, 4), by_channel(draft, 4));
        let narrow = draft.binary(math::Mul, narrow, slope);
        let sum = draft.binary(math::Add, narrow, wide);
        let sum = draft.binary(math::Add, sum, x);
        let sum = draft.binary(math::Sub, sum, shift);
        tvec!(draft.with(math::Max, sum, 0.0))
    });
    assert!(graphs.iter().all(|graph| graph.nodes.len() == 1), "{:?}", kinds(&graphs[0]));
}

#[test]
fn a_block_of_a_transformer_is_what_it_means() {
    let graphs = agrees(
        |draft| vec![2, 5 + draft.up_to(4), 8],
        |draft, x| {
            let count = draft.constant(tensor0(8f32).broadcast_into_rank(3).unwrap());
            let sum = draft.wire(Reduce::new(tvec!(2), Reducer::Sum), &[x])[0];
            let mean = draft.binary(math::Div, sum, count);
            let centred = draft.binary(math::Sub, x, mean);
            let squares = draft.unary(math::Square {}, centred);
            let squares = draft.wire(Reduce::new(tvec!(2), Reducer::Sum), &[squares])[0];
            let variance = draft.binary(math::Div, squares, count);
            let variance = draft.with(math::Add, variance, 1e-5);
            let inverse = draft.unary(math::Rsqrt {}, variance);
            let normal = draft.binary(math::Mul, centred, inverse);
            let (scale, shift) = (draft.weights(&[1, 1, 8]), draft.weights(&[1, 1, 8]));
            let normal = draft.binary(math::Mul, normal, scale);
            let normal = draft.binary(math::Add, normal, shift);
            let linear = |draft: &mut Draft, x: OutletId, inputs: usize, outputs: usize| {
                let (weights, bias) = (draft.weights(&[inputs, outputs]), draft.weights(&[1, 1, outputs]));
                let product =
                    draft.wire(EinSum::new("amk,kn->amn".parse().unwrap(), f32::datum_type()), &[x, weights])[0];
                draft.binary(math::Add, bias, product)
            };
            let heads = |draft: &mut Draft, x: OutletId| {
                let cut = draft.wire(AxisOp::Reshape(2, tvec!(8.to_dim()), tvec!(2.to_dim(), 4.to_dim())), &[x])[0];
                draft.wire(AxisOp::Move(2, 1), &[cut])[0]
            };
            let [q, k, v] = [0; 3].map(|_| {
                let x = linear(draft, normal, 8, 8);
                heads(draft, x)
            });
            let q = draft.with(math::Mul, q, 0.5);
            let scores = draft.wire(EinSum::new("bhmk,bhnk->bhmn".parse().unwrap(), f32::datum_type()), &[q, k])[0];
            let scores =
                draft.wire(Softmax { axes: tvec!(3), quant_output_dt: None, kind: SoftmaxKind::Softmax }, &[scores])[0];
            let mixed = draft.wire(EinSum::new("bhmk,bhkn->bhmn".parse().unwrap(), f32::datum_type()), &[scores, v])[0];
            let mixed = draft.wire(AxisOp::Move(1, 2), &[mixed])[0];
            let mixed = draft.wire(AxisOp::Reshape(2, tvec!(2.to_dim(), 4.to_dim()), tvec!(8.to_dim())), &[mixed])[0];
            let mixed = linear(draft, mixed, 8, 8);
            let layer_scale = draft.weights(&[1, 1, 8]);
            let mixed = draft.binary(math::Mul, mixed, layer_scale);
            let x = draft.binary(math::Add, x, mixed);
            let hidden = linear(draft, x, 8, 16);
            let part = draft.with(math::Div, hidden, std::f32::consts::SQRT_2);
            let error = draft.unary(math::Erf {}, part);
            let error = draft.with(math::Add, error, 1.0);
            let hidden = draft.binary(math::Mul, hidden, error);
            let hidden = draft.with(math::Mul, hidden, 0.5);
            let out = linear(draft, hidden, 16, 8);
            tvec!(draft.binary(math::Add, out, x))
        },
    );
    for graph in graphs {
        let count = |wanted: &str| kinds(&graph).iter().filter(|kind| kind.starts_with(wanted)).count();
        assert_eq!((count("LayerNorm"), count("Linear"), count("Attention")), (1, 6, 1));
        assert_eq!((count("MatMul"), count("Softmax")), (0, 0), "{:?}", kinds(&graph));
        assert_eq!((count("Binary"), count("Unary"), count("Reduce")), (0, 0, 0), "{:?}", kinds(&graph));
    }
}

/// Why a network of one operator is not lowered.
fn refusal(shape: &[usize], build: impl Fn(&mut Draft, OutletId) -> TVec<OutletId>) -> String {
    let mut draft = Draft { model: TypedModel::default(), random: Random::new(1), next: 0 };
    let input = draft.model.add_source("input", f32::fact(shape)).unwrap();
    let outputs = build(&mut draft, input);
    draft.model.select_output_outlets(&outputs).unwrap();
    lower(&simplify(draft.model).unwrap()).unwrap_err()
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let places = |draft: &mut Draft, x: OutletId| draft.wire(Reduce::new(tvec!(1), Reducer::ArgMax(false)), &[x])[0];
    let whole = refusal(&[1, 8], |draft, x| draft.wire(cast(i64::datum_type()), &[x]));
    assert_eq!(whole, "node 1 (Cast): a number of the picture becomes a whole one");
    let product = refusal(&[1, 8], |draft, x| draft.wire(Reduce::new(tvec!(1), Reducer::Prod), &[x]));
    assert_eq!(product, "node 1 (Reduce<Prod>): Prod is not known");
    let tangent = refusal(&[1, 8], |draft, x| tvec!(draft.unary(math::Tan {}, x)));
    assert_eq!(tangent, "node 1 (Tan): Tan is not known");
    let large = refusal(&[1, 9], |draft, x| {
        let (places, times) = (places(draft, x), draft.constant(tensor2(&[[3_000_000i64]])));
        tvec!(draft.binary(math::Mul, places, times))
    });
    assert_eq!(large, "node 3 (Mul): whole numbers of 0 to 24000000; up to 16777216 are exact");
    let outside = refusal(&[1, 9], |draft, x| {
        let (places, few) = (places(draft, x), draft.weights(&[4]));
        draft.wire(Gather::new(0), &[few, places])
    });
    assert_eq!(outside, "node 3 (Gather): places of 0 to 8 in 4");
    let choice = refusal(&[1, 9], |draft, x| {
        let (places, zero) = (places(draft, x), draft.constant(tensor2(&[[0i64]])));
        let is_later = draft.wire(TypedBinOp(Box::new(CompLT), None), &[zero, places])[0];
        let twice = draft.with(math::Mul, x, 2.0);
        draft.wire(Iff, &[is_later, x, twice])
    });
    assert_eq!(choice, "node 6 (Iff): what is chosen depends on the picture");
    let deep = refusal(&[1, 2, 3, 1, 2, 3], |draft, x| draft.wire(AxisOp::Add(0), &[x]));
    assert_eq!(deep, "node 1 has 7 dimensions; at most 6 are known");
}
