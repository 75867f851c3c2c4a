//! Whole numbers and choices: places that a sort has found, what is reckoned with them, and constants that choose.
//!
//! Of every value that is a whole number its range is known, from the constants and lengths it comes from. So what
//! cannot exceed 2^24 is carried as an f32 without a doubt, what can be one number only is a constant, and most of the
//! comparisons that exporters write around a remainder disappear.

use tract_onnx::prelude::TypedNode;

use super::{Lowering, Range, Unsupported, fits};
use crate::engine::plan::graph::{Binary, Unary, ValueId};

impl Lowering<'_> {
    /// The range of a value that must be a whole number.
    pub(super) fn range(&self, value: ValueId) -> Result<Range, Unsupported> {
        self.ranges.get(&value).copied().ok_or_else(|| "a number of the picture is taken for a whole one".into())
    }

    /// Notes what a whole number may be. If that is one number, it is a constant.
    pub(super) fn ranged(&mut self, value: ValueId, range: Range) -> Result<ValueId, Unsupported> {
        // Of a constant the range is what it holds.
        #[expect(clippy::cast_possible_truncation, reason = "whole, and below 2^24")]
        let held = self.known(value).filter(|data| !data.is_empty()).map(|data| {
            data.iter().fold((i64::MAX, i64::MIN), |(least, most), &number| {
                (least.min(number as i64), most.max(number as i64))
            })
        });
        let range = held.unwrap_or(range);
        fits(range)?;
        let value = if range.0 == range.1 && self.known(value).is_none() {
            let (name, shape) = (self.graph.values[value].name.clone(), self.of(value).to_vec());
            #[expect(clippy::cast_precision_loss, reason = "below 2^24")]
            let data = vec![range.0 as f32; shape.iter().product()];
            self.constant(&name, &shape, data)
        } else {
            value
        };
        self.ranges.insert(value, range);
        Ok(value)
    }

    /// Gives a result that was only moved the range of what it was made of.
    pub(super) fn moved_range(&mut self, result: ValueId, from: &[ValueId]) -> Result<ValueId, Unsupported> {
        let ranges: Option<Vec<Range>> = from.iter().map(|value| self.ranges.get(value).copied()).collect();
        let union = ranges.and_then(|ranges| ranges.into_iter().reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))));
        match union {
            Some(range) => self.ranged(result, range),
            None => Ok(result),
        }
    }

    /// Arithmetic and comparisons of whole numbers; yes is 1 and no is 0.
    pub(super) fn reckoned(&mut self, name: &str, op: &str, a: ValueId, b: ValueId) -> Result<ValueId, Unsupported> {
        let ((a_least, a_most), (b_least, b_most)) = (self.range(a)?, self.range(b)?);
        let corners = |of: fn(i64, i64) -> i64| {
            let all = [of(a_least, b_least), of(a_least, b_most), of(a_most, b_least), of(a_most, b_most)];
            (all.into_iter().min().unwrap_or(0), all.into_iter().max().unwrap_or(0))
        };
        let (result, range) = match op {
            "Add" => (self.binary(name, Binary::Add, a, b), corners(|a, b| a + b)),
            "Sub" => (self.binary(name, Binary::Sub, a, b), corners(|a, b| a - b)),
            "Mul" => (self.binary(name, Binary::Mul, a, b), corners(|a, b| a * b)),
            "Max" | "Or" => (self.binary(name, Binary::Max, a, b), corners(i64::max)),
            "Min" | "And" => (self.binary(name, Binary::Min, a, b), corners(i64::min)),
            "Div" | "Rem" => {
                if a_least < 0 || b_least < 1 {
                    return Err(format!(
                        "{a_least} to {a_most} by {b_least} to {b_most}: only positive numbers are known"
                    ));
                }
                // A quotient of whole numbers below 2^24 is never rounded up to the next whole one.
                let quotient = self.binary(name, Binary::Div, a, b);
                let quotient = self.unary(name, Unary::Floor, quotient);
                if op == "Div" {
                    (quotient, (a_least / b_most, a_most / b_least))
                } else {
                    let times = self.binary(name, Binary::Mul, quotient, b);
                    (self.binary(name, Binary::Sub, a, times), (0, a_most.min(b_most - 1)))
                }
            }
            // Of yes and no.
            "Xor" => {
                let difference = self.binary(name, Binary::Sub, a, b);
                (self.unary(name, Unary::Abs, difference), (0, 1))
            }
            "Eq" => return self.equal(name, a, b),
            "NE" => {
                let equal = self.equal(name, a, b)?;
                return self.not(name, equal);
            }
            "LT" => return self.less(name, a, b, 0),
            "GT" => return self.less(name, b, a, 0),
            "LTE" => return self.less(name, a, b, 1),
            "GTE" => return self.less(name, b, a, 1),
            other => return Err(format!("{other} of whole numbers is not known")),
        };
        self.ranged(result, range)
    }

    /// Whether `a < b + more`: their difference, between 0 and 1.
    fn less(&mut self, name: &str, a: ValueId, b: ValueId, more: i64) -> Result<ValueId, Unsupported> {
        let (a_range, b_range) = (self.range(a)?, self.range(b)?);
        let difference = self.binary(name, Binary::Sub, b, a);
        #[expect(clippy::cast_precision_loss, reason = "0 or 1")]
        let difference = self.with(name, Binary::Add, difference, more as f32);
        let above = self.with(name, Binary::Max, difference, 0.0);
        let result = self.with(name, Binary::Min, above, 1.0);
        let is = |yes: bool| i64::from(yes);
        self.ranged(result, (is(a_range.1 < b_range.0 + more), is(a_range.0 < b_range.1 + more)))
    }

    /// 1 less their distance, if that is below 1.
    fn equal(&mut self, name: &str, a: ValueId, b: ValueId) -> Result<ValueId, Unsupported> {
        let ((a_least, a_most), (b_least, b_most)) = (self.range(a)?, self.range(b)?);
        let distance = self.binary(name, Binary::Sub, a, b);
        let distance = self.unary(name, Unary::Abs, distance);
        let differs = self.with(name, Binary::Min, distance, 1.0);
        let must = a_least == a_most && b_least == b_most && a_least == b_least;
        let may = a_least <= b_most && b_least <= a_most;
        let differs = self.ranged(differs, (i64::from(!may), i64::from(!must)))?;
        self.not(name, differs)
    }

    /// 1 less a yes or a no.
    pub(super) fn not(&mut self, name: &str, x: ValueId) -> Result<ValueId, Unsupported> {
        let (least, most) = self.range(x)?;
        let one = self.scalar(name, self.of(x).len(), 1.0);
        let result = self.binary(name, Binary::Sub, one, x);
        self.ranged(result, (1 - most, 1 - least))
    }

    /// One value or the other, as a third one says.
    pub(super) fn choice(&mut self, node: &TypedNode, shape: &[usize]) -> Result<ValueId, Unsupported> {
        let [condition, yes, no] = self.inputs(node)?[..] else { return Err("not three inputs".into()) };
        let name = node.name.as_str();
        match self.range(condition)? {
            (0, 0) => return self.broadcast(name, no, shape),
            (1, 1) => return self.broadcast(name, yes, shape),
            _ => {}
        }
        if let (Ok((yes_least, yes_most)), Ok((no_least, no_most))) = (self.range(yes), self.range(no)) {
            let difference = self.binary(name, Binary::Sub, yes, no);
            let part = self.binary(name, Binary::Mul, difference, condition);
            let result = self.binary(name, Binary::Add, no, part);
            let result = self.broadcast(name, result, shape)?;
            return self.ranged(result, (yes_least.min(no_least), yes_most.max(no_most)));
        }
        // Between a value and a constant a constant chooses by two bounds that coincide or are nowhere.
        let Some(chooses) = self.known(condition).map(<[f32]>::to_vec) else {
            return Err("what is chosen depends on the picture".into());
        };
        let (value, constant, when) = match (self.known(yes), self.known(no)) {
            (Some(_), _) => (no, yes, 1.0),
            (_, Some(_)) => (yes, no, 0.0),
            _ => return Err("between two values of the picture".into()),
        };
        let (constant, condition) = (self.broadcast(name, constant, shape)?, self.of(condition).to_vec());
        let bound = |lowering: &mut Self, nowhere: f32| {
            let open = chooses.iter().map(|&chosen| if chosen == when { 0.0 } else { nowhere }).collect();
            let open = lowering.constant(name, &condition, open);
            lowering.binary(name, Binary::Add, constant, open)
        };
        let (above, below) = (bound(self, f32::INFINITY), bound(self, f32::NEG_INFINITY));
        let value = self.binary(name, Binary::Min, value, above);
        Ok(self.binary(name, Binary::Max, value, below))
    }
}
