//! What values look like: the network in numbers over pictures of those it will see.

use super::histogram::Histogram;
use crate::engine::plan::bake::bake_kept;
use crate::engine::plan::exec::Runner;
use crate::engine::plan::graph::{Graph, ValueId};
use crate::engine::plan::kernels;
use crate::engine::plan::layout::Place;

/// Histograms of all values of a network.
#[derive(Debug)]
pub struct Calibration {
    runner: Runner<Vec<f32>>,
    places: Vec<Option<Place>>,
    shapes: Vec<Vec<usize>>,
    histograms: Vec<Histogram>,
    observed: usize,
}

/// How much of what was seen bytes shall tell apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// All of it.
    Whole,
    /// This share of it, of either side.
    Percentile(f64),
    /// As much as tells most of the distribution.
    Entropy,
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole => f.write_str("whole"),
            Self::Percentile(share) => write!(f, "percentile {:.3}", share * 100.0),
            Self::Entropy => f.write_str("entropy"),
        }
    }
}

/// The values of a place in C order.
pub(super) fn values(arena: &[f32], place: &Place, shape: &[usize], to: &mut Vec<f32>) {
    to.clear();
    let (mut at, volume) = (vec![0; shape.len()], shape.iter().product::<usize>());
    let mut offset = place.offset;
    for _ in 0..volume {
        to.push(arena[offset]);
        for axis in (0..shape.len()).rev() {
            at[axis] += 1;
            offset += place.strides[axis];
            if at[axis] < shape[axis] {
                break;
            }
            offset -= shape[axis] * place.strides[axis];
            at[axis] = 0;
        }
    }
}

impl Calibration {
    /// # Errors
    /// The network cannot be baked.
    pub fn new(graph: &Graph, threads: usize) -> Result<Self, String> {
        let kernels = kernels::native();
        let kept = bake_kept(graph, kernels.isa, None)?;
        Ok(Self {
            runner: Runner::new(kept.baked.program, kept.baked.weights, kernels, threads),
            places: kept.places,
            shapes: graph.values.iter().map(|value| value.shape.clone()).collect(),
            histograms: vec![Histogram::default(); graph.values.len()],
            observed: 0,
        })
    }

    /// Adds one input.
    ///
    /// # Panics
    /// It is not of the network's shape.
    pub fn observe(&mut self, input: &[f32]) {
        self.runner.input_mut().copy_from_slice(input);
        self.runner.run();
        self.observed += 1;
        let mut seen = Vec::new();
        for (value, place) in self.places.iter().enumerate() {
            if let Some(place) = place {
                values(self.runner.arena(), place, &self.shapes[value], &mut seen);
                self.histograms[value].add(&seen);
            }
        }
    }

    /// Inputs that were observed.
    pub fn observed(&self) -> usize {
        self.observed
    }

    /// The least and the most that each value's bytes shall tell apart.
    pub fn ranges(&self, method: Method) -> Vec<Option<[f32; 2]>> {
        let range = |value: ValueId| {
            let histogram = &self.histograms[value];
            self.places[value].as_ref().map(|_| match method {
                Method::Whole => histogram.whole(),
                Method::Percentile(share) => histogram.percentile(share),
                Method::Entropy => histogram.entropy(),
            })
        };
        (0..self.places.len()).map(range).collect()
    }
}
