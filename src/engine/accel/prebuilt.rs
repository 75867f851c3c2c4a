//! Engines of TensorRT that were built elsewhere, as ONNX Runtime takes them: a network of one node, `EPContext`, whose
//! inputs and outputs are those of the real network and which carries the engine as an attribute.
//!
//! ONNX Runtime's TensorRT provider hands the attribute to TensorRT and asks it for tensors by name (its
//! `onnx_ctx_model_helper.cc`); it refuses engines in files elsewhere than beside the network, so the engine is embedded.

use std::fs::File;

use memmap2::{Mmap, MmapMut};
use nix::sys::memfd::{MFdFlags, memfd_create};
use prost::Message;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::type_proto::{Tensor, Value};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorShapeProto, TypeProto, ValueInfoProto,
};

use super::protocol::Provider;
use crate::engine::{DeclaredInput, InputShape, Network, Prebuilt, Precision, TensorInfo};

/// Of the file format: ONNX Runtime reads it from 1.11 on.
const IR_VERSION: i64 = 8;
/// Of ONNX's own operators, of which there is none in it; ONNX Runtime reads them from 1.12 on.
const OPSET: i64 = 17;
/// Of the node, and of what follows from ONNX Runtime's schema of it.
const DOMAIN: &str = "com.microsoft";
const DOMAIN_OPSET: i64 = 1;
const NODE: &str = "EPContext";

/// What is read of a network's file: the rest is passed over, above all the weights.
#[derive(Clone, PartialEq, Message)]
struct Outline {
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphOutline>,
}

#[derive(Clone, PartialEq, Message)]
struct GraphOutline {
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<Named>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfoProto>,
}

#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "8")]
    name: String,
}

/// In what an engine would be used for a network; or why it is not.
///
/// # Errors
/// It takes other batches, or the network is none that an engine can stand for.
pub fn fit(network: &Network<'_>, prebuilt: &Prebuilt<'_>) -> Result<Precision, String> {
    let (input, _) = interface(network.bytes)?;
    fits(prebuilt, (network.shape)(&declared(&input)).batch)
}

/// As [`fit`], for a batch that is known.
pub fn fits(prebuilt: &Prebuilt<'_>, batch: usize) -> Result<Precision, String> {
    let precision = prebuilt.precision.unwrap_or(Precision::Fp32);
    if !Provider::TensorRt.computes(precision) {
        return Err(format!("the engine does not compute in {precision}"));
    }
    let (first, last) = (prebuilt.batch.start(), prebuilt.batch.end());
    match prebuilt.batch.contains(&batch) {
        true => Ok(precision),
        false if first == last => Err(format!("it takes {first} images at once, the network in ONNX {batch}")),
        false => Err(format!("it takes {first} to {last} images at once, the network in ONNX {batch}")),
    }
}

/// An engine and the network that it stands for.
#[derive(Debug)]
pub struct Wrapper {
    /// Of the engine's file.
    pub sha256: String,
    engine: File,
    input: ValueInfoProto,
    outputs: Vec<ValueInfoProto>,
}

impl Wrapper {
    /// For a network at a shape, with the outputs that another engine says it has.
    ///
    /// # Errors
    /// The engine's file cannot be opened, or has changed since it was read; the network has not one input.
    pub fn new(
        prebuilt: &Prebuilt<'_>,
        sha256: String,
        network: &Network<'_>,
        shape: &InputShape,
        outputs: &[TensorInfo],
    ) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", prebuilt.origin.display());
        let engine = File::open(prebuilt.origin).map_err(failed)?;
        let bytes = engine.metadata().map_err(failed)?.len();
        if bytes != prebuilt.bytes.len() as u64 {
            return Err(format!("{}: {bytes} bytes now, {} before", prebuilt.origin.display(), prebuilt.bytes.len()));
        }
        let (input, declared) = interface(network.bytes)?;
        let found = |name: &str| outputs.iter().find(|output| output.name == name);
        let outputs = declared.into_iter().map(|output| match found(&output.name) {
            Some(TensorInfo { shape, .. }) => shaped(output, shape),
            None => output,
        });
        let outputs = outputs.collect();
        Ok(Self { sha256, engine, input: shaped(input, &shape.dims()), outputs })
    }

    /// The network of one node in memory that ends with the file.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn file(&self) -> std::io::Result<File> {
        // SAFETY: a package's file, which nobody rewrites while it is in use.
        let engine = unsafe { Mmap::map(&self.engine) }?;
        let network = network(self.input.clone(), self.outputs.clone(), engine.to_vec());
        let file = File::from(memfd_create("firstlight-engine", MFdFlags::MFD_CLOEXEC)?);
        file.set_len(network.encoded_len() as u64)?;
        // SAFETY: nobody else knows the file.
        let mut into = unsafe { MmapMut::map_mut(&file) }?;
        network.encode(&mut &mut into[..]).map_err(std::io::Error::other)?;
        Ok(file)
    }
}

/// The one input of a network, and its outputs.
fn interface(bytes: &[u8]) -> Result<(ValueInfoProto, Vec<ValueInfoProto>), String> {
    let outline = Outline::decode(bytes).map_err(|error| format!("the network: {error}"))?;
    let graph = outline.graph.ok_or("the network's file holds no graph")?;
    let is_constant = |input: &ValueInfoProto| graph.initializer.iter().any(|of| of.name == input.name);
    let mut inputs: Vec<ValueInfoProto> = graph.input.iter().filter(|input| !is_constant(input)).cloned().collect();
    match (inputs.pop(), inputs.len()) {
        (Some(input), 0) => Ok((input, graph.output)),
        (_, more) => Err(format!("the network has {} inputs; expected one", if more == 0 { 0 } else { more + 1 })),
    }
}

fn declared(input: &ValueInfoProto) -> DeclaredInput {
    let Some(Value::TensorType(tensor)) = input.r#type.as_ref().and_then(|kind| kind.value.as_ref()) else {
        return DeclaredInput { batch: None, channels: None, height: None, width: None };
    };
    let dim = |index: usize| match tensor.shape.as_ref()?.dim.get(index)?.value.as_ref()? {
        dimension::Value::DimValue(dim) => usize::try_from(*dim).ok().filter(|&dim| dim > 0),
        dimension::Value::DimParam(_) => None,
    };
    DeclaredInput { batch: dim(0), channels: dim(1), height: dim(2), width: dim(3) }
}

/// The value with a concrete shape, in the type that the file says.
fn shaped(value: ValueInfoProto, shape: &[usize]) -> ValueInfoProto {
    let declared = value.r#type.and_then(|kind| kind.value);
    let elem_type = declared.map_or(DataType::Float as i32, |Value::TensorType(tensor)| tensor.elem_type);
    let dim = |&dim: &usize| Dimension {
        value: Some(dimension::Value::DimValue(i64::try_from(dim).unwrap_or(i64::MAX))),
        ..Dimension::default()
    };
    let shape = TensorShapeProto { dim: shape.iter().map(dim).collect() };
    let tensor = Tensor { elem_type, shape: Some(shape) };
    let kind = TypeProto { value: Some(Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: value.name, r#type: Some(kind), ..ValueInfoProto::default() }
}

fn network(input: ValueInfoProto, outputs: Vec<ValueInfoProto>, engine: Vec<u8>) -> ModelProto {
    let number = |name: &str, i: i64| AttributeProto {
        name: name.into(),
        r#type: AttributeType::Int as i32,
        i,
        ..AttributeProto::default()
    };
    let text = |name: &str, s: Vec<u8>| AttributeProto {
        name: name.into(),
        r#type: AttributeType::String as i32,
        s,
        ..AttributeProto::default()
    };
    let source = Provider::TensorRt.of_onnx_runtime().unwrap_or_default();
    let node = NodeProto {
        name: NODE.into(),
        op_type: NODE.into(),
        domain: DOMAIN.into(),
        input: vec![input.name.clone()],
        output: outputs.iter().map(|output| output.name.clone()).collect(),
        attribute: vec![
            number("main_context", 1),
            number("embed_mode", 1),
            text("source", source.into()),
            text("ep_cache_context", engine),
        ],
        ..NodeProto::default()
    };
    let graph = GraphProto {
        name: "prebuilt".into(),
        node: vec![node],
        input: vec![input],
        output: outputs,
        ..GraphProto::default()
    };
    let opset = |domain: &str, version| OperatorSetIdProto { domain: domain.into(), version };
    ModelProto {
        ir_version: IR_VERSION,
        producer_name: "firstlight".into(),
        opset_import: vec![opset("", OPSET), opset(DOMAIN, DOMAIN_OPSET)],
        graph: Some(graph),
        ..ModelProto::default()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::demo;

    fn prebuilt<'a>(origin: &'a Path, bytes: &'a [u8]) -> Prebuilt<'a> {
        Prebuilt { name: "trt1", origin, bytes, precision: None, batch: 1..=4 }
    }

    fn with_demo<T>(then: impl FnOnce(&Network<'_>) -> T) -> T {
        let shape = |declared: &DeclaredInput| InputShape {
            batch: declared.batch.unwrap_or(1),
            channels: 3,
            height: declared.height.unwrap_or(64),
            width: declared.width.unwrap_or(64),
        };
        let origin = "parts.onnx".into();
        then(&Network { bytes: demo::PARTS_ONNX, origin, shape: &shape, picture: None, prebuilt: &[] })
    }

    fn dims(value: &ValueInfoProto) -> Vec<i64> {
        let Some(Value::TensorType(tensor)) = value.r#type.clone().unwrap().value else { unreachable!() };
        assert_eq!(tensor.elem_type, DataType::Float as i32);
        let number = |dim: Dimension| match dim.value {
            Some(dimension::Value::DimValue(dim)) => dim,
            other => unreachable!("{other:?}"),
        };
        tensor.shape.unwrap().dim.into_iter().map(number).collect()
    }

    #[test]
    fn an_engine_becomes_a_network_of_one_node_with_the_real_networks_tensors() {
        let engine: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &engine).unwrap();
        let shape = InputShape { batch: 2, channels: 3, height: 96, width: 64 };
        let whole = ModelProto::decode(demo::PARTS_ONNX).unwrap().graph.unwrap();
        let outputs: Vec<TensorInfo> =
            whole.output.iter().map(|of| TensorInfo { name: of.name.clone(), shape: vec![2, 7, 84] }).collect();
        let wrapper = with_demo(|network| {
            Wrapper::new(&prebuilt(file.path(), &engine), "ab".into(), network, &shape, &outputs).unwrap()
        });
        let file = wrapper.file().unwrap();
        // SAFETY: nobody else knows the file.
        let bytes = unsafe { Mmap::map(&file) }.unwrap();
        let model = ModelProto::decode(&bytes[..]).unwrap();
        let opsets: Vec<(&str, i64)> = model.opset_import.iter().map(|of| (of.domain.as_str(), of.version)).collect();
        assert_eq!((model.ir_version, opsets), (8, vec![("", 17), ("com.microsoft", 1)]));
        let graph = model.graph.unwrap();
        assert_eq!((graph.input.len(), graph.initializer.len()), (1, 0));
        assert_eq!(dims(&graph.input[0]), [2, 3, 96, 64]);
        assert!(graph.output.iter().all(|output| dims(output) == [2, 7, 84]));
        let names = |values: &[ValueInfoProto]| values.iter().map(|value| value.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&graph.output), names(&whole.output));
        let [node] = &graph.node[..] else { panic!("{} nodes", graph.node.len()) };
        assert_eq!((node.op_type.as_str(), node.domain.as_str()), ("EPContext", "com.microsoft"));
        assert_eq!((&node.input, &node.output), (&names(&whole.input), &names(&whole.output)));
        let attribute = |name: &str| node.attribute.iter().find(|of| of.name == name).unwrap();
        assert_eq!((attribute("main_context").i, attribute("embed_mode").i), (1, 1));
        assert_eq!(attribute("source").s, b"TensorrtExecutionProvider");
        assert!(attribute("ep_cache_context").s == engine, "the engine is not the file's");
        assert_eq!(attribute("ep_cache_context").r#type, AttributeType::String as i32);
    }

    #[test]
    fn an_engine_is_used_for_its_batches_and_in_its_precision() {
        let offered = prebuilt(Path::new("engine.plan"), &[]);
        let fixed = Prebuilt { batch: 8..=8, ..offered.clone() };
        let halves = Prebuilt { precision: Some(Precision::Fp16), ..offered.clone() };
        assert_eq!(fits(&offered, 4), Ok(Precision::Fp32));
        assert_eq!(fits(&halves, 1), Ok(Precision::Fp16));
        assert_eq!(fits(&offered, 5).unwrap_err(), "it takes 1 to 4 images at once, the network in ONNX 5");
        assert_eq!(fits(&fixed, 1).unwrap_err(), "it takes 8 images at once, the network in ONNX 1");
        assert!(fits(&Prebuilt { precision: Some(Precision::Int8), ..offered.clone() }, 1).is_err());
        assert_eq!(with_demo(|network| fit(network, &halves)), Ok(Precision::Fp16));
        assert!(with_demo(|network| fit(network, &fixed)).is_err());
    }

    #[test]
    fn what_has_changed_or_is_no_network_is_refused() {
        let shape = InputShape { batch: 1, channels: 3, height: 64, width: 64 };
        let wrap = |prebuilt: &Prebuilt<'_>| {
            with_demo(|network| Wrapper::new(prebuilt, String::new(), network, &shape, &[]).map(drop)).unwrap_err()
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(wrap(&prebuilt(file.path(), b"engine")).contains("0 bytes now, 6 before"));
        assert!(wrap(&prebuilt(Path::new("/nowhere/engine.plan"), b"engine")).contains("/nowhere/engine.plan: "));
        assert!(interface(b"no network").is_err() && interface(b"").unwrap_err().contains("no graph"));
        let empty = ModelProto { graph: Some(GraphProto::default()), ..ModelProto::default() };
        assert_eq!(interface(&empty.encode_to_vec()).unwrap_err(), "the network has 0 inputs; expected one");
    }
}
