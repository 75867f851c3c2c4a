//! Networks with f16 numbers, made f32 before tract sees them.
//!
//! tract can compute in f16, but where the processor does not help (a Cortex-A72 does not, nor most of x86-64) that is
//! a hundred times slower than f32, and because sums are kept in f16 as well its answers are far from anyone else's.
//! Some f16 networks it cannot build at all. Widening costs the memory of the weights once more; the answers are those
//! of exact arithmetic with the file's weights.

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::type_proto::Value;
use tract_onnx::pb::{GraphProto, ModelProto, TensorProto, ValueInfoProto};
use tract_onnx::prelude::f16;

const HALF: i32 = DataType::Float16 as i32;
const SINGLE: i32 = DataType::Float as i32;

/// Makes every f16 number of an admitted file f32; whether its first input is declared f16.
pub fn widen(proto: &mut ModelProto) -> bool {
    let Some(graph) = &mut proto.graph else { return false };
    let input_is_half = graph.input.iter().any(|input| element_type(input) == Some(HALF));
    widen_graph(graph);
    input_is_half
}

/// Makes every value the nearest one that f16 has.
pub fn round(values: &mut [f32]) {
    values.iter_mut().for_each(|value| *value = f16::from_f32(*value).to_f32());
}

fn widen_graph(graph: &mut GraphProto) {
    graph.initializer.iter_mut().for_each(widen_tensor);
    for value in graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info) {
        if element_type(value) == Some(HALF)
            && let Some(Value::TensorType(tensor)) = value.r#type.as_mut().and_then(|kind| kind.value.as_mut())
        {
            tensor.elem_type = SINGLE;
        }
    }
    for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
        attribute.t.iter_mut().chain(&mut attribute.tensors).for_each(widen_tensor);
        attribute.g.iter_mut().chain(&mut attribute.graphs).for_each(widen_graph);
        // `Cast` names its target type `to`; operators that make numbers name it `dtype`.
        if matches!(&*attribute.name, "to" | "dtype") && attribute.i == i64::from(HALF) {
            attribute.i = i64::from(SINGLE);
        }
    }
}

fn element_type(value: &ValueInfoProto) -> Option<i32> {
    let Value::TensorType(tensor) = value.r#type.as_ref()?.value.as_ref()?;
    Some(tensor.elem_type)
}

/// The bits of an f16 lie in `raw_data`, or one by one in `int32_data`.
fn widen_tensor(tensor: &mut TensorProto) {
    if tensor.data_type != HALF {
        return;
    }
    let raw = tensor.raw_data.chunks_exact(2).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "ONNX keeps an f16 in the low 16 bits")]
    let listed = tensor.int32_data.iter().map(|&bits| bits as u16);
    tensor.raw_data = raw.chain(listed).flat_map(|bits| f16::from_bits(bits).to_f32().to_le_bytes()).collect();
    tensor.int32_data.clear();
    tensor.data_type = SINGLE;
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::{AttributeProto, NodeProto, TypeProto, type_proto};

    fn value(elem_type: i32) -> ValueInfoProto {
        let tensor = type_proto::Tensor { elem_type, ..Default::default() };
        let kind = TypeProto { value: Some(Value::TensorType(tensor)), ..Default::default() };
        ValueInfoProto { r#type: Some(kind), ..Default::default() }
    }

    #[test]
    fn every_half_becomes_a_single() {
        let bits: Vec<u16> = [1.5, -0.25, 65504.0].into_iter().map(|value| f16::from_f32(value).to_bits()).collect();
        let raw = TensorProto {
            data_type: HALF,
            dims: vec![3],
            raw_data: bits.iter().flat_map(|bits| bits.to_le_bytes()).collect(),
            ..Default::default()
        };
        let listed =
            TensorProto { raw_data: vec![], int32_data: bits.iter().map(|&b| i32::from(b)).collect(), ..raw.clone() };
        let to = AttributeProto { name: "to".into(), i: HALF.into(), t: Some(raw.clone()), ..Default::default() };
        let inner = GraphProto { initializer: vec![raw.clone()], ..Default::default() };
        let body = AttributeProto { name: "body".into(), g: Some(inner), ..Default::default() };
        let graph = GraphProto {
            input: vec![value(HALF)],
            output: vec![value(DataType::Int64 as i32)],
            initializer: vec![raw, listed],
            node: vec![NodeProto { attribute: vec![to, body], ..Default::default() }],
            ..Default::default()
        };
        let mut proto = ModelProto { graph: Some(graph), ..Default::default() };
        assert!(widen(&mut proto));
        assert!(!widen(&mut proto), "nothing is left to widen");
        let graph = proto.graph.unwrap();
        let singles: Vec<u8> = [1.5_f32, -0.25, 65504.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let attributes = &graph.node[0].attribute;
        let inner = &attributes[1].g.as_ref().unwrap().initializer;
        for tensor in graph.initializer.iter().chain(inner).chain(&attributes[0].t) {
            assert_eq!((tensor.data_type, &tensor.raw_data), (SINGLE, &singles));
        }
        assert_eq!(attributes[0].i, i64::from(SINGLE));
        assert_eq!(element_type(&graph.output[0]), Some(DataType::Int64 as i32));
    }
}
