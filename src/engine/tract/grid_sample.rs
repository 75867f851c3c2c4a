//! `GridSample` as deformable attention uses it (RF-DETR, RT-DETR): bilinear, zeros outside, two spatial dimensions.
//!
//! tract's own works for every mode and rank, and allocates several times for every value: it took two thirds of an
//! RT-DETR inference and a sixth of an RF-DETR one. Here where and how much to read is found once for all channels.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::nn::grid_sample::{GridSample, InterpolationMode, PaddingMode};

/// Input `[N, C, H, W]`, grid `[N, h, w, 2]` of x and y from -1 to 1, output `[N, C, h, w]`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bilinear {
    /// Whether -1 and 1 are the centres of the outermost pixels, not their outer edges.
    align_corners: bool,
}

/// The four pixels around a place, as positions in a channel's plane, and their weights. A pixel outside has none.
struct Taps {
    positions: [usize; 4],
    weights: [f32; 4],
}

/// Puts the faster operator where it does the same.
pub fn replace(model: &mut TypedModel) {
    for node in model.nodes_mut() {
        let Some(op) = node.op_as::<GridSample>() else { continue };
        let fact = &node.outputs[0].fact;
        let bilinear = op.mode == InterpolationMode::Bilinear && op.padding_mode == PaddingMode::Zeros;
        if bilinear && fact.rank() == 4 && fact.datum_type == DatumType::F32 {
            node.op = Box::new(Bilinear { align_corners: op.align_corners });
        }
    }
}

impl Bilinear {
    #[expect(clippy::cast_precision_loss, reason = "no side of a feature map is near 2^24")]
    #[expect(clippy::cast_possible_truncation, reason = "`as` saturates, and what saturates is outside")]
    fn taps(&self, [x, y]: [f32; 2], [height, width]: [usize; 2]) -> Taps {
        let place = |coordinate: f32, size: usize| match self.align_corners {
            true => (coordinate + 1.0) / 2.0 * (size as f32 - 1.0),
            false => ((coordinate + 1.0) * size as f32 - 1.0) / 2.0,
        };
        let (x, y) = (place(x, width), place(y, height));
        let (left, top) = (x.floor(), y.floor());
        let (right_part, lower_part) = (x - left, y - top);
        let inside = |at: f32, step: i64, size: usize| {
            usize::try_from((at as i64).saturating_add(step)).ok().filter(|&index| index < size)
        };
        let columns = [(inside(left, 0, width), 1.0 - right_part), (inside(left, 1, width), right_part)];
        let rows = [(inside(top, 0, height), 1.0 - lower_part), (inside(top, 1, height), lower_part)];
        let mut taps = Taps { positions: [0; 4], weights: [0.0; 4] };
        for (index, ((row, row_part), (column, column_part))) in
            rows.into_iter().flat_map(|row| columns.map(|column| (row, column))).enumerate()
        {
            if let (Some(row), Some(column)) = (row, column) {
                taps.positions[index] = row * width + column;
                taps.weights[index] = row_part * column_part;
            }
        }
        taps
    }
}

impl Op for Bilinear {
    fn name(&self) -> StaticName {
        "BilinearGridSample".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Bilinear {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (input, grid) = args_2!(inputs);
        let (&[images, channels, height, width], &[_, out_height, out_width, 2]) = (input.shape(), grid.shape()) else {
            bail!("an input of {:?} and a grid of {:?}", input.shape(), grid.shape());
        };
        let (plane, places) = (height * width, out_height * out_width);
        let mut output = Tensor::zero::<f32>(&[images, channels, out_height, out_width])?;
        if plane > 0 && places > 0 {
            let input = input.to_plain_array_view::<f32>()?;
            let grid = grid.to_plain_array_view::<f32>()?;
            let (input, grid) = (input.as_slice().context("C order")?, grid.as_slice().context("C order")?);
            let mut output = output.to_plain_array_view_mut::<f32>()?;
            let output = output.as_slice_mut().context("C order")?;
            for image in 0..images {
                let grid = grid[image * places * 2..(image + 1) * places * 2].chunks_exact(2);
                let taps: Vec<Taps> = grid.map(|xy| self.taps([xy[0], xy[1]], [height, width])).collect();
                let of_image = image * channels * plane..(image + 1) * channels * plane;
                let to_image = image * channels * places..(image + 1) * channels * places;
                let planes = input[of_image].chunks_exact(plane).zip(output[to_image].chunks_exact_mut(places));
                for (plane, output) in planes {
                    for (value, taps) in output.iter_mut().zip(&taps) {
                        *value = (0..4).map(|tap| taps.weights[tap] * plane[taps.positions[tap]]).sum();
                    }
                }
            }
        }
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for Bilinear {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let (input, grid) = (&inputs[0].shape, &inputs[1].shape);
        let dims = [&input[0], &input[1], &grid[1], &grid[2]].map(Clone::clone);
        Ok(tvec!(inputs[0].datum_type.fact(dims)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A network of tract's operator alone.
    fn network(align_corners: bool) -> TypedModel {
        let mut model = TypedModel::default();
        let input = model.add_source("input", f32::fact([2, 3, 5, 7])).unwrap();
        let grid = model.add_source("grid", f32::fact([2, 4, 6, 2])).unwrap();
        let (mode, padding_mode) = (InterpolationMode::Bilinear, PaddingMode::Zeros);
        let op = GridSample { mode, padding_mode, align_corners };
        let output = model.wire_node("sample", op, &[input, grid]).unwrap();
        model.select_output_outlets(&output).unwrap();
        model
    }

    /// Numbers of -1.4 to 1.4, so that some places lie outside.
    fn noise(shape: &[usize]) -> TValue {
        let mut state = 7_u32;
        let values = (0..shape.iter().product()).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from(state.to_be_bytes()[0]) / 255.0 * 2.8 - 1.4
        });
        Tensor::from_shape(shape, &values.collect::<Vec<f32>>()).unwrap().into_tvalue()
    }

    #[test]
    fn it_answers_what_tracts_own_answers() {
        for align_corners in [false, true] {
            let inputs = tvec![noise(&[2, 3, 5, 7]), noise(&[2, 4, 6, 2])];
            let slow = network(align_corners).into_runnable().unwrap().run(inputs.clone()).unwrap();
            let mut model = network(align_corners);
            replace(&mut model);
            assert!(model.nodes().iter().any(|node| node.op_is::<Bilinear>()));
            let fast = model.into_runnable().unwrap().run(inputs).unwrap();
            fast[0].close_enough(&slow[0], Approximation::Close).unwrap();
        }
    }

    #[test]
    fn no_place_is_too_odd_to_sample() {
        let op = Bilinear { align_corners: false };
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN] {
            for place in [[odd, 0.0], [0.0, odd], [odd, odd]] {
                assert!(op.taps(place, [5, 7]).positions.iter().all(|&position| position < 35));
            }
        }
    }
}
