//! Networks that take several images at once, or leave their batch open, answer each image as a network of one does.

mod support;

use std::path::Path;

use firstlight::cache::{Cache, ModelId};
use firstlight::engine::{LoadOptions, by_name};
use firstlight::frame::{self, Frame, Limits};
use firstlight::model::{Answer, Model, Predictions, Request};
use prost::Message;
use serde_json::Value;
use support::recorded;
use tract_onnx::pb::{ModelProto, tensor_shape_proto::dimension, type_proto};

/// A recorded classifier whose network really looks at its input.
const ID: &str = "g-vit-single/1";
const IMAGES: [&str; 3] = ["synth_a.png", "synth_b.png", "astronaut.png"];

/// The same network, with another first dimension of its input and output.
fn with_batch(network: &[u8], batch: &dimension::Value) -> Vec<u8> {
    let mut model = ModelProto::decode(network).expect("a network");
    let graph = model.graph.as_mut().expect("a graph");
    for info in graph.input.iter_mut().chain(&mut graph.output) {
        let Some(type_proto::Value::TensorType(tensor)) = info.r#type.as_mut().and_then(|t| t.value.as_mut()) else {
            panic!("{} is no tensor", info.name)
        };
        tensor.shape.as_mut().expect("a shape").dim[0].value = Some(batch.clone());
    }
    model.encode_to_vec()
}

fn load(root: &Path, batch: Option<dimension::Value>) -> Model {
    let weights = recorded::lay_out_classic(root, ID).unwrap().join("best.onnx");
    if let Some(batch) = batch {
        let network = std::fs::read(&weights).unwrap();
        std::fs::write(weights, with_batch(&network, &batch)).unwrap();
    }
    let package = Cache::at(root).open(&ModelId::parse(ID).unwrap()).unwrap();
    Model::load(&package, &*by_name("tract").unwrap(), LoadOptions { threads: 1 }).unwrap()
}

fn answers(model: &mut Model, frames: &[&Frame]) -> Vec<Value> {
    let mut predictions = vec![Predictions::default(); frames.len()];
    model.infer_batch(frames, &Request::default(), &mut predictions).unwrap();
    let answer = |predictions| Answer { predictions, labels: model.labels(), with_ids: false, tracks: &[] };
    predictions.iter().map(|predictions| serde_json::to_value(answer(predictions)).unwrap()).collect()
}

#[test]
fn a_batch_is_answered_image_by_image() {
    let frames: Vec<Frame> = IMAGES
        .iter()
        .map(|name| {
            frame::decode(&recorded::image(name).unwrap(), frame::Orientation::Apply, Limits::default()).unwrap()
        })
        .collect();
    let frames: Vec<&Frame> = frames.iter().collect();
    let root = tempfile::tempdir().unwrap();
    let mut one = load(&root.path().join("one"), None);
    assert_eq!(one.batch(), 1);
    let expected = answers(&mut one, &frames);
    assert!(expected.windows(2).all(|pair| pair[0] != pair[1]), "the images do not differ: {expected:?}");
    let singly: Vec<Value> = frames.iter().flat_map(|frame| answers(&mut one, &[frame])).collect();
    assert_eq!(singly, expected);

    let mut two = load(&root.path().join("two"), Some(dimension::Value::DimValue(2)));
    assert_eq!(two.batch(), 2);
    assert_eq!(answers(&mut two, &frames), expected, "two at a time, and one beside a black picture");

    let mut open = load(&root.path().join("open"), Some(dimension::Value::DimParam("batch".into())));
    assert_eq!(open.batch(), 1);
    assert_eq!(answers(&mut open, &frames), expected);
}
