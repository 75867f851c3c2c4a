//! What an ONNX file says of itself: its metadata, the names and shapes of its input and outputs, the numbers it is made of.

use std::collections::{BTreeMap, HashSet};

use prost::Message;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::type_proto::Value;
use tract_onnx::pb::{GraphProto, ModelProto, TensorProto, ValueInfoProto, tensor_shape_proto::dimension};

use super::literal::Literal;

/// Nodes and constants whose names a refusal gives; more help nobody.
const SHOWN_MAX: usize = 3;

/// A side of a shape; `None` where the file leaves it open.
pub type Dim = Option<usize>;

/// The facts of one file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// `metadata_props`.
    pub metadata: BTreeMap<String, String>,
    /// Of the one image input: N C H W.
    pub input: [Dim; 4],
    pub outputs: Vec<Output>,
    /// `fp32`, `fp16` or `int8`: what most of the weights' bytes are.
    pub quantization: &'static str,
    /// Of ONNX's own operators.
    pub opset: i64,
}

/// One output.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    pub name: String,
    pub dims: Vec<Dim>,
}

impl Facts {
    /// Reads them from a file's bytes.
    ///
    /// # Errors
    /// It is no ONNX, keeps weights in other files, or takes something else than one image; in words.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let proto = ModelProto::decode(bytes)
            .map_err(|error| format!("not a protobuf message ({error}); the file is damaged, truncated or no ONNX"))?;
        let graph = proto.graph.as_ref().filter(|graph| !graph.node.is_empty());
        let graph = graph.ok_or("the message holds no graph; the file is empty, damaged or no ONNX")?;
        refuse_external(graph)?;
        let mut opsets = proto.opset_import.iter().filter(|set| set.domain.is_empty() || set.domain == "ai.onnx");
        Ok(Self {
            input: input(graph)?,
            outputs: graph
                .output
                .iter()
                .map(|output| Output { name: output.name.clone(), dims: dims(output) })
                .collect(),
            quantization: quantization(graph),
            opset: opsets.next().map_or(0, |set| set.version),
            metadata: proto.metadata_props.into_iter().map(|entry| (entry.key, entry.value)).collect(),
        })
    }

    /// An entry of the metadata as the Python literal that it is; `None` where there is none.
    ///
    /// # Errors
    /// It is no literal.
    pub fn literal(&self, key: &str) -> Result<Option<Literal>, String> {
        let Some(text) = self.metadata.get(key) else { return Ok(None) };
        Literal::parse(text).map(Some).map_err(|why| format!("metadata `{key}`: {why}"))
    }

    /// In words, for who is asked what it is.
    #[must_use]
    pub fn told(&self) -> String {
        let side = |dim: &Dim| dim.map_or("?".into(), |side| side.to_string());
        let shape = |dims: &[Dim]| format!("[{}]", dims.iter().map(side).collect::<Vec<_>>().join(", "));
        let outputs = self.outputs.iter().map(|output| format!("{} {}", output.name, shape(&output.dims)));
        let keys: Vec<&str> = self.metadata.keys().map(String::as_str).collect();
        let metadata = if keys.is_empty() { "no metadata".into() } else { format!("metadata {}", keys.join(", ")) };
        format!("input {}, outputs {}, {metadata}", shape(&self.input), outputs.collect::<Vec<_>>().join(", "))
    }
}

fn refuse_external(graph: &GraphProto) -> Result<(), String> {
    let external = |tensor: &&TensorProto| tensor.data_location == Some(DataLocation::External as i32);
    let mut names: Vec<&str> = graph.initializer.iter().filter(external).map(|tensor| tensor.name.as_str()).collect();
    let found = names.len();
    names.truncate(SHOWN_MAX);
    match found {
        0 => Ok(()),
        _ => Err(format!(
            "{found} of its tensors (such as {}) lie in another file; Roboflow's packages have one file, so export it \
             without external data",
            names.join(", ")
        )),
    }
}

/// The first graph input that is no constant; there must be no second.
fn input(graph: &GraphProto) -> Result<[Dim; 4], String> {
    let constants: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let inputs: Vec<&ValueInfoProto> =
        graph.input.iter().filter(|input| !constants.contains(input.name.as_str())).collect();
    let [input] = inputs[..] else {
        return Err(format!("the network has {} inputs; expected one image", inputs.len()));
    };
    let found = dims(input);
    match <[Dim; 4]>::try_from(found) {
        Ok(input @ [_, channels, ..]) if channels.is_none_or(|channels| channels == 3) => Ok(input),
        Ok([_, channels, ..]) => {
            Err(format!("the input `{}` has {} channels; expected 3", input.name, channels.unwrap_or_default()))
        }
        Err(found) => Err(format!("the input `{}` has {} dimensions; expected N C H W", input.name, found.len())),
    }
}

fn dims(value: &ValueInfoProto) -> Vec<Dim> {
    let shape = value.r#type.as_ref().and_then(|kind| kind.value.as_ref()).and_then(|value| {
        let Value::TensorType(tensor) = value;
        tensor.shape.as_ref()
    });
    let dims = shape.map(|shape| shape.dim.as_slice()).unwrap_or_default().iter();
    let side = |value: &Option<dimension::Value>| match value {
        // Exporters write 0 or -1 for a dimension that is left open.
        Some(dimension::Value::DimValue(value)) => usize::try_from(*value).ok().filter(|&value| value > 0),
        _ => None,
    };
    dims.map(|dim| side(&dim.value)).collect()
}

fn quantization(graph: &GraphProto) -> &'static str {
    let mut bytes = [0_u64; 3];
    for tensor in &graph.initializer {
        let elements: u64 = tensor.dims.iter().map(|&dim| u64::try_from(dim).unwrap_or(0)).fold(1, u64::saturating_mul);
        let (kind, size) = match DataType::try_from(tensor.data_type) {
            Ok(DataType::Float) => (0, 4),
            Ok(DataType::Float16) => (1, 2),
            Ok(DataType::Int8 | DataType::Uint8) => (2, 1),
            _ => continue,
        };
        bytes[kind] = bytes[kind].saturating_add(elements.saturating_mul(size));
    }
    let most = (0..bytes.len()).max_by_key(|&kind| (bytes[kind], std::cmp::Reverse(kind)));
    ["fp32", "fp16", "int8"][most.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_network_is_read() {
        let facts = Facts::read(crate::demo::PARTS_ONNX).unwrap();
        assert_eq!((facts.quantization, facts.input[1]), ("fp32", Some(3)));
        assert!(!facts.outputs.is_empty() && facts.opset > 8, "{facts:?}");
        assert!(facts.told().contains("outputs"));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for bytes in [&b""[..], b"not a network", &crate::demo::PARTS_ONNX[..1000]] {
            assert!(Facts::read(bytes).is_err());
        }
    }
}
