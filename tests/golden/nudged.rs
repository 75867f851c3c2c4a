//! tract with its input nudged by less than it rounds: what shows that an answer hangs on the last digits of floats.

use firstlight::engine::tract::Tract;
use firstlight::engine::{
    DeclaredInput, Engine, Error, InputShape, LoadOptions, Network, Session, TensorInfo, TensorView,
};
use firstlight::random::Random;

/// How far each value of an input is moved, relative: a few units in the last place of an f32.
pub const NUDGE: f32 = 1e-6;

#[derive(Debug)]
pub struct Nudged;

impl Engine for Nudged {
    fn name(&self) -> &'static str {
        "nudged tract"
    }

    fn version(&self) -> String {
        Tract.version()
    }

    fn probe(&self) -> Result<(), String> {
        Tract.probe()
    }

    fn load(&self, network: &Network<'_>, options: LoadOptions) -> Result<Box<dyn Session>, Error> {
        Ok(Box::new(NudgedSession { tract: Tract.load(network, options)?, random: Random::new(1) }))
    }
}

/// Nudges otherwise at each run.
#[derive(Debug)]
struct NudgedSession {
    tract: Box<dyn Session>,
    random: Random,
}

impl Session for NudgedSession {
    fn declared(&self) -> DeclaredInput {
        self.tract.declared()
    }

    fn input_shape(&self) -> InputShape {
        self.tract.input_shape()
    }

    fn outputs(&self) -> &[TensorInfo] {
        self.tract.outputs()
    }

    fn threads(&self) -> usize {
        self.tract.threads()
    }

    fn input_mut(&mut self) -> &mut [f32] {
        self.tract.input_mut()
    }

    fn run(&mut self) -> Result<(), Error> {
        self.tract.input_mut().iter_mut().for_each(|value| *value *= 1.0 + NUDGE * self.random.sign());
        self.tract.run()
    }

    fn output(&self, index: usize) -> TensorView<'_> {
        self.tract.output(index)
    }
}
