//! Rounding to what a quantized tensor can hold, so that computing in real numbers gives the answers of computing in
//! integers, to about one step.

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::element_wise::{ElementWiseMiniOp, ElementWiseOp};

use super::file::Grid;

/// Each value becomes the nearest that the grid has.
#[derive(Clone, Debug, PartialEq)]
struct Steps(Grid);

// Of finite numbers, as `File::read` checks.
impl Eq for Steps {}

/// The operator for a grid.
pub fn steps(grid: Grid) -> ElementWiseOp {
    ElementWiseOp(Box::new(Steps(grid)), None)
}

impl ElementWiseMiniOp for Steps {
    fn name(&self) -> String {
        "Steps".into()
    }

    fn eval_in_place(&self, tensor: &mut Tensor, _: Option<DatumType>) -> TractResult<()> {
        let mut plain = tensor.try_as_plain_ram_mut()?;
        snap(self.0, plain.as_slice_mut::<f32>()?);
        Ok(())
    }
}

fn snap(Grid { scale, zero, range: (low, high) }: Grid, values: &mut [f32]) {
    /// Added and taken off again, it leaves a whole number, the nearest: at 1.5 * 2^23 a step of an f32 is 1.
    const WHOLE: f32 = 12_582_912.0;
    let steps_a_unit = 1.0 / scale;
    for value in values {
        let steps = (*value * steps_a_unit).clamp(low - zero, high - zero);
        *value = ((steps + WHOLE) - WHOLE) * scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_to_the_nearest_step_within_the_range() {
        let grid = Grid { scale: 0.5, zero: -128.0, range: (-128.0, 127.0) };
        let mut values = [-1.0, 0.0, 0.2, 0.3, 1.9, 127.4, 200.0];
        snap(grid, &mut values);
        assert_eq!(values, [0.0, 0.0, 0.0, 0.5, 2.0, 127.5, 127.5]);
        let bytes = Grid { scale: 1.0, zero: 0.0, range: (0.0, 255.0) };
        let mut values = [-3.0, 127.6, 300.0];
        snap(bytes, &mut values);
        assert_eq!(values, [0.0, 128.0, 255.0]);
    }
}
