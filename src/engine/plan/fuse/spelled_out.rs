//! Operators that exporters spell out in many become one again: ReLU, SiLU, GELU, means, layer norms.

use super::Fusion;
use crate::engine::plan::graph::{Binary, Op, Reduce, Unary, ValueId};

impl Fusion {
    /// `max(x, 0)`.
    pub(super) fn relu(&mut self, index: usize) -> Option<()> {
        let (Op::Binary(Binary::Max), &[x, zero]) = self.node(index) else { return None };
        if self.scalar(zero)? != 0.0 {
            return None;
        }
        self.replace(index, Op::Unary(Unary::Relu), vec![x]);
        Some(())
    }

    /// `x · (1 / y)`.
    pub(super) fn division(&mut self, index: usize) -> Option<()> {
        let (Op::Binary(Binary::Mul), &[a, b]) = self.node(index) else { return None };
        for (x, inverse) in [(a, b), (b, a)] {
            if let Some((Op::Unary(Unary::Reciprocal), &[y])) = self.made(inverse) {
                self.replace(index, Op::Binary(Binary::Div), vec![x, y]);
                return Some(());
            }
        }
        None
    }

    /// A sum over `n` values, divided by `n`.
    pub(super) fn mean(&mut self, index: usize) -> Option<()> {
        let (sum, factor) = self.scaled(self.node(index))?;
        let (Op::Reduce { reduce: Reduce::Sum, axes }, &[x]) = self.made(sum)? else { return None };
        #[expect(clippy::cast_precision_loss, reason = "beyond 2^24 values the factor is no nearer")]
        let count = axes.iter().map(|&axis| self.shape(x)[axis]).product::<usize>() as f32;
        if (factor * count - 1.0).abs() > 1e-6 {
            return None;
        }
        let axes = axes.clone();
        self.replace(index, Op::Reduce { reduce: Reduce::Mean, axes }, vec![x]);
        Some(())
    }

    /// `x · sigmoid(x)`.
    pub(super) fn silu(&mut self, index: usize) -> Option<()> {
        let (Op::Binary(Binary::Mul), &[a, b]) = self.node(index) else { return None };
        for (x, gate) in [(a, b), (b, a)] {
            if self.sole(gate) == Some((&Op::Unary(Unary::Sigmoid), &[x])) {
                self.replace(index, Op::Unary(Unary::Silu), vec![x]);
                return Some(());
            }
        }
        None
    }

    /// The factors of a product, and the constant one.
    fn factors(&self, (op, inputs): (&Op, &[ValueId]), factors: &mut Vec<ValueId>) -> f32 {
        if let Some((x, constant)) = self.scaled((op, inputs)) {
            return constant * self.factors_of(x, factors);
        }
        inputs.iter().map(|&input| self.factors_of(input, factors)).product()
    }

    fn factors_of(&self, value: ValueId, factors: &mut Vec<ValueId>) -> f32 {
        match self.sole(value).filter(|(op, _)| matches!(op, Op::Binary(Binary::Mul))) {
            Some(product) => self.factors(product, factors),
            None => match self.sole(value).and_then(|made| self.scaled(made)) {
                Some((x, constant)) => constant * self.factors_of(x, factors),
                None => {
                    factors.push(value);
                    1.0
                }
            },
        }
    }

    /// `x · (1 + erf(x / √2)) / 2`, in whichever order.
    pub(super) fn gelu(&mut self, index: usize) -> Option<()> {
        let (op, inputs) = self.node(index);
        if !matches!(op, Op::Binary(Binary::Mul | Binary::Div)) {
            return None;
        }
        let mut factors = Vec::new();
        let half = self.factors((op, inputs), &mut factors);
        let &[a, b] = factors.as_slice() else { return None };
        let is_near = |value: f32, wanted: f32| (value / wanted - 1.0).abs() < 1e-6;
        let source = |gate: ValueId| {
            let (Op::Binary(Binary::Add), &[error, one]) = self.sole(gate)? else { return None };
            let (Op::Unary(Unary::Erf), &[inner]) = self.sole(error)? else { return None };
            let (x, factor) = self.scaled(self.sole(inner)?)?;
            (self.scalar(one) == Some(1.0) && is_near(factor, std::f32::consts::FRAC_1_SQRT_2)).then_some(x)
        };
        let x = source(b).filter(|&x| x == a).or_else(|| source(a).filter(|&x| x == b))?;
        if !is_near(half, 0.5) || self.shape(x) != self.result(index) {
            return None;
        }
        self.replace(index, Op::Unary(Unary::Gelu), vec![x]);
        Some(())
    }

    /// `(x - mean) / sqrt(mean of (x - mean)² + ε)` over the last dimension.
    pub(super) fn layer_norm(&mut self, index: usize) -> Option<()> {
        let (Op::Binary(Binary::Div), &[difference, deviation]) = self.node(index) else { return None };
        let (Op::Binary(Binary::Sub), &[x, mean]) = self.made(difference)? else { return None };
        let (Op::Unary(Unary::Sqrt), &[sum]) = self.made(deviation)? else { return None };
        let (Op::Binary(Binary::Add), &[variance, epsilon]) = self.made(sum)? else { return None };
        let epsilon = self.scalar(epsilon)?;
        let mean_of = |value: ValueId| match self.made(value) {
            Some((Op::Reduce { reduce: Reduce::Mean, axes }, &[of])) => {
                (axes[..] == [self.shape(of).len() - 1]).then_some(of)
            }
            _ => None,
        };
        let is_square = match self.made(mean_of(variance)?)? {
            (Op::Binary(Binary::Mul), inputs) => inputs == [difference, difference],
            (Op::Binary(Binary::Pow), &[of, power]) => of == difference && self.scalar(power) == Some(2.0),
            _ => false,
        };
        if mean_of(mean)? != x || !is_square {
            return None;
        }
        let channels = *self.shape(x).last()?;
        let scale = self.constant(&[channels], vec![1.0; channels], x);
        let shift = self.constant(&[channels], vec![0.0; channels], x);
        self.replace(index, Op::LayerNorm { epsilon }, vec![x, scale, shift]);
        Some(())
    }
}
