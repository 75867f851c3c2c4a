//! Which ONNX files are let in: a check of the decoded protobuf before tract builds anything from it.
//!
//! Bounds, so that a hostile file costs bounded time and memory: the file is at most 2 GiB (the cache's limit); the
//! decoded message is a small multiple of it; at most [`NODES_MAX`] nodes in [`DEPTH_MAX`] levels of subgraphs; every
//! tensor's shape agrees with the bytes that are there; nothing may ask to be expanded beyond [`ELEMENTS_MAX`].

use std::collections::HashSet;

use prost::Message;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::type_proto::Value;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto, tensor_shape_proto::dimension};

use crate::engine::{DeclaredInput, Dim, InputShape};

/// RF-DETR large has under 3,000 nodes.
const NODES_MAX: usize = 50_000;
/// Roboflow's models have no subgraph at all; `If` and `Loop` exports have one or two levels.
const DEPTH_MAX: usize = 4;
/// Largest tensor a constant may ask for: 1 GiB of f32.
const ELEMENTS_MAX: u64 = 1 << 28;
/// Largest network input: 64 megapixels of RGB.
const INPUT_ELEMENTS_MAX: usize = 3 << 26;

/// Why a file is not let in.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("not a protobuf message ({0}); the file is damaged, truncated or no ONNX")]
    Decode(#[from] prost::DecodeError),
    #[error("the message holds no graph; the file is empty, damaged or no ONNX")]
    NoGraph,
    #[error("{found} {what}; at most {limit} are accepted")]
    TooMany { what: &'static str, found: usize, limit: usize },
    #[error("tensor `{name}`: {why}")]
    Tensor { name: String, why: String },
    #[error("node `{name}` ({op}): {why}")]
    Node { name: String, op: String, why: String },
    #[error("{0}")]
    Input(String),
    #[error("the graph output `{0}` is produced by no node")]
    Output(String),
}

/// A checked file.
#[derive(Debug)]
pub struct Admitted {
    pub proto: ModelProto,
    pub declared: DeclaredInput,
}

/// Decodes and checks a file.
pub fn admit(bytes: &[u8]) -> Result<Admitted, Refusal> {
    let proto = ModelProto::decode(bytes)?;
    let graph = proto.graph.as_ref().ok_or(Refusal::NoGraph)?;
    if graph.node.is_empty() {
        return Err(Refusal::NoGraph);
    }
    let mut nodes = 0;
    check_graph(graph, 0, &mut nodes, &HashSet::new())?;
    let declared = declared_input(graph)?;
    Ok(Admitted { proto, declared })
}

/// Whether a concrete shape fits the declared one and is of a sane size.
pub fn check_shape(declared: &DeclaredInput, shape: &InputShape) -> Result<(), String> {
    let fixed = [declared.batch, declared.channels, declared.height, declared.width];
    if fixed.iter().zip(shape.dims()).any(|(fixed, dim)| fixed.is_some_and(|fixed| fixed != dim) || dim == 0) {
        return Err(format!("the input is declared as {fixed:?} and cannot be {:?}", shape.dims()));
    }
    let volume = shape.dims().iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim));
    match volume {
        Some(volume) if volume <= INPUT_ELEMENTS_MAX => Ok(()),
        _ => Err(format!("an input of {:?} is larger than the {INPUT_ELEMENTS_MAX} values accepted", shape.dims())),
    }
}

fn check_graph(graph: &GraphProto, depth: usize, nodes: &mut usize, outer: &HashSet<&str>) -> Result<(), Refusal> {
    if depth > DEPTH_MAX {
        return Err(Refusal::TooMany { what: "levels of subgraphs", found: depth, limit: DEPTH_MAX });
    }
    *nodes += graph.node.len() + graph.initializer.len();
    if *nodes > NODES_MAX {
        return Err(Refusal::TooMany { what: "nodes and constants", found: *nodes, limit: NODES_MAX });
    }
    let mut known = outer.clone();
    known.extend(graph.input.iter().map(|input| input.name.as_str()));
    for tensor in &graph.initializer {
        check_tensor(tensor)?;
        known.insert(&tensor.name);
    }
    let bombs = oversized_shapes(graph);
    for node in &graph.node {
        known.extend(node.output.iter().map(String::as_str));
        check_node(node, &bombs)?;
        for attribute in &node.attribute {
            attribute.t.iter().chain(&attribute.tensors).try_for_each(check_tensor)?;
            for subgraph in attribute.g.iter().chain(&attribute.graphs) {
                check_graph(subgraph, depth + 1, nodes, &known)?;
            }
        }
    }
    match graph.output.iter().find(|output| !known.contains(output.name.as_str())) {
        Some(output) => Err(Refusal::Output(output.name.clone())),
        None => Ok(()),
    }
}

/// A tensor must hold exactly the bytes its shape says, inside the file.
fn check_tensor(tensor: &TensorProto) -> Result<(), Refusal> {
    let fail = |why: String| Err(Refusal::Tensor { name: tensor.name.chars().take(80).collect(), why });
    if tensor.data_location == Some(DataLocation::External as i32) {
        return fail("keeps its data in another file; Roboflow's packages have one file".into());
    }
    let Some(elements) = elements(&tensor.dims) else {
        return fail(format!("the shape {:?} is negative or too large", tensor.dims));
    };
    let Ok(data_type) = DataType::try_from(tensor.data_type) else {
        return fail(format!("unknown data type {}", tensor.data_type));
    };
    let bytes_each = match data_type {
        DataType::Bool | DataType::Int8 | DataType::Uint8 => 1,
        DataType::Float16 | DataType::Bfloat16 | DataType::Int16 | DataType::Uint16 => 2,
        DataType::Float | DataType::Int32 | DataType::Uint32 => 4,
        DataType::Double | DataType::Int64 | DataType::Uint64 => 8,
        DataType::String => {
            let found = tensor.string_data.len() as u64;
            return if found == elements { Ok(()) } else { fail(format!("{found} strings, expected {elements}")) };
        }
        other => return fail(format!("data type {other:?} is not supported")),
    };
    if !tensor.raw_data.is_empty() {
        let (found, expected) = (tensor.raw_data.len() as u64, elements * bytes_each);
        return if found == expected { Ok(()) } else { fail(format!("{found} bytes of data, expected {expected}")) };
    }
    let found = tensor.float_data.len().max(tensor.int32_data.len()).max(tensor.int64_data.len());
    let found = found.max(tensor.double_data.len()).max(tensor.uint64_data.len()) as u64;
    if found == elements { Ok(()) } else { fail(format!("{found} values, expected {elements}")) }
}

/// Names of the constants that, read as a shape, ask for more than [`ELEMENTS_MAX`] elements.
fn oversized_shapes(graph: &GraphProto) -> HashSet<&str> {
    let initializers =
        graph.initializer.iter().filter(|tensor| asks_for_too_much(tensor)).map(|tensor| tensor.name.as_str());
    let constants = graph.node.iter().filter(|node| {
        node.op_type == "Constant" && node.attribute.iter().any(|a| a.t.as_ref().is_some_and(asks_for_too_much))
    });
    initializers.chain(constants.flat_map(|node| node.output.iter().map(String::as_str))).collect()
}

/// An operator whose output size is given by the value of an input must not be given too large a one.
fn check_node(node: &NodeProto, bombs: &HashSet<&str>) -> Result<(), Refusal> {
    const EXPANDING: &[&str] = &["ConstantOfShape", "Expand", "Tile", "Range", "Resize", "Upsample", "Pad"];
    let expands = EXPANDING.contains(&node.op_type.as_str());
    if expands && node.input.iter().any(|input| bombs.contains(input.as_str())) {
        return Err(Refusal::Node {
            name: node.name.chars().take(80).collect(),
            op: node.op_type.clone(),
            why: format!("asks for a tensor of more than {ELEMENTS_MAX} elements"),
        });
    }
    Ok(())
}

/// Whether a tensor, read as a shape, names more than [`ELEMENTS_MAX`] elements. Only asked of what an
/// expanding operator reads: the ends of a slice are larger, and harmless.
fn asks_for_too_much(tensor: &TensorProto) -> bool {
    /// A longer tensor is data, not a shape.
    const RANK_MAX: usize = 8;
    if tensor.data_type != DataType::Int64 as i32 {
        return false;
    }
    let values: Vec<i64> = if tensor.raw_data.is_empty() {
        tensor.int64_data.clone()
    } else {
        tensor.raw_data.chunks_exact(8).map(|bytes| i64::from_le_bytes(bytes.try_into().expect("8 bytes"))).collect()
    };
    let is_shape =
        (2..=RANK_MAX).contains(&values.len()) && values.iter().all(|&value| (-1..i64::MAX / 2).contains(&value));
    is_shape && elements(&values.iter().map(|&value| value.max(1)).collect::<Vec<_>>()).is_none()
}

/// Product of dimensions, when none is negative and there are at most [`ELEMENTS_MAX`] elements.
fn elements(dims: &[i64]) -> Option<u64> {
    let product = dims.iter().try_fold(1_u64, |product, &dim| product.checked_mul(u64::try_from(dim).ok()?));
    product.filter(|&product| product <= ELEMENTS_MAX)
}

/// The one image input: the first graph input that is no initializer.
fn declared_input(graph: &GraphProto) -> Result<DeclaredInput, Refusal> {
    let constants: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let mut inputs = graph.input.iter().filter(|input| !constants.contains(input.name.as_str()));
    let input = inputs.next().ok_or_else(|| Refusal::Input("the graph has no input".into()))?;
    if let Some(second) = inputs.next() {
        return Err(Refusal::Input(format!("a second input `{}`; expected one image", second.name)));
    }
    let shape = input.r#type.as_ref().and_then(|kind| kind.value.as_ref()).and_then(|value| {
        let Value::TensorType(tensor) = value;
        tensor.shape.as_ref()
    });
    let shape = shape.ok_or_else(|| Refusal::Input(format!("the input `{}` has no shape", input.name)))?;
    let dims: Vec<Dim> = shape
        .dim
        .iter()
        .map(|dim| match dim.value {
            // Exporters write 0 or -1 for a dimension that is left open.
            Some(dimension::Value::DimValue(value)) => usize::try_from(value).ok().filter(|&value| value > 0),
            _ => None,
        })
        .collect();
    let [batch, channels, height, width] = dims[..] else {
        return Err(Refusal::Input(format!(
            "the input `{}` has {} dimensions; expected N C H W",
            input.name,
            dims.len()
        )));
    };
    Ok(DeclaredInput { batch, channels, height, width })
}
