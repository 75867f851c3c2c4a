//! An engine for tests of the loop: it needs no time, allocates nothing, and always sees the same.

use firstlight::cache::Package;
use firstlight::demo;
use firstlight::engine::{
    self, DeclaredInput, Engine, InputShape, LoadOptions, Network, Session, TensorInfo, TensorView,
};

/// The demo model, whose contract the engine below keeps.
pub fn demo_package() -> Package {
    let (kind, environment, names) = (demo::MODEL_TYPE_JSON, demo::ENVIRONMENT_JSON, demo::CLASS_NAMES);
    Package::embedded(demo::MODEL_ID, kind, environment, names, demo::PARTS_ONNX).unwrap()
}

/// An engine whose network always sees the same two parts and never allocates.
#[derive(Debug)]
pub struct Still;

#[derive(Debug)]
struct StillSession {
    input: Vec<f32>,
    output: Vec<f32>,
    infos: Vec<TensorInfo>,
}

const OUTPUT: [usize; 3] = [1, 7, 2100];

impl Engine for Still {
    fn name(&self) -> &'static str {
        "still"
    }

    fn version(&self) -> String {
        "0".into()
    }

    fn probe(&self) -> Result<(), String> {
        Ok(())
    }

    fn load(&self, _: &Network<'_>, _: LoadOptions) -> Result<Box<dyn Session>, engine::Error> {
        let mut output = vec![0.0; OUTPUT.iter().product()];
        for (anchor, class) in [(10, 0), (500, 2)] {
            for (row, value) in [160.0, 160.0, 40.0, 40.0].into_iter().enumerate() {
                output[row * OUTPUT[2] + anchor] = value;
            }
            output[(4 + class) * OUTPUT[2] + anchor] = 0.9;
        }
        let infos = vec![TensorInfo { name: "output0".into(), shape: OUTPUT.to_vec() }];
        Ok(Box::new(StillSession { input: vec![0.0; 3 * 320 * 320], output, infos }))
    }
}

impl Session for StillSession {
    fn declared(&self) -> DeclaredInput {
        DeclaredInput { batch: Some(1), channels: Some(3), height: Some(320), width: Some(320) }
    }

    fn input_shape(&self) -> InputShape {
        InputShape { batch: 1, channels: 3, height: 320, width: 320 }
    }

    fn outputs(&self) -> &[TensorInfo] {
        &self.infos
    }

    fn threads(&self) -> usize {
        1
    }

    fn input_mut(&mut self) -> &mut [f32] {
        &mut self.input
    }

    fn run(&mut self) -> Result<(), engine::Error> {
        Ok(())
    }

    fn output(&self, _: usize) -> TensorView<'_> {
        TensorView { shape: &OUTPUT, data: &self.output }
    }
}
