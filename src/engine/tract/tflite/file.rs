//! A TensorFlow Lite file, read and checked: its tensors and operators as plain values, before anything is built from them.
//!
//! Bounds, so that a hostile file costs bounded time and memory: the flat buffer is verified (each offset and length lies
//! inside the file); at most [`OPERATORS_MAX`] operators and [`TENSORS_MAX`] tensors of [`ELEMENTS_MAX`] values together; a
//! constant has exactly the bytes that its shape says; and every index leads to what is there.

use tract_onnx::prelude::Tensor;
use tract_tflite::tflite::{self, BuiltinOperator, Operator, TensorType};

use crate::engine::DeclaredInput;

/// MoveNet has 285; wiring looks through all nodes for each new one.
const OPERATORS_MAX: usize = 10_000;
const TENSORS_MAX: usize = 50_000;
/// Values of all tensors together, 1 GiB in numbers of 32 bits: an upper bound of what a session takes, for many tensors may
/// share the bytes of one buffer. EfficientNet-Lite3 has a tenth of it.
const ELEMENTS_MAX: usize = 1 << 28;
const RANK_MAX: usize = 8;

/// In what a tensor is computed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Numbers of 32 bits: of floats, and of integers that stand for real numbers.
    Real,
    Int32,
    Int64,
    Bool,
}

/// How integers stand for real numbers: `(integer - zero) * scale`; one pair for all, or one for each entry of `axis`.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantization {
    scales: Vec<f32>,
    zeros: Vec<f32>,
    axis: usize,
}

/// The real numbers that a quantized tensor can hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    pub scale: f32,
    pub zero: f32,
    /// Least and largest integer.
    pub range: (f32, f32),
}

/// One tensor.
#[derive(Debug)]
pub struct Stored<'a> {
    pub name: &'a str,
    pub shape: Vec<usize>,
    pub kind: Kind,
    element: TensorType,
    quantization: Option<Quantization>,
    /// Of a constant.
    data: Option<&'a [u8]>,
}

/// One operator.
#[derive(Debug)]
pub struct Step<'a> {
    pub code: BuiltinOperator,
    /// Of an operator that is not TensorFlow Lite's own.
    pub custom: Option<&'a str>,
    /// `None` where an optional one is left out.
    pub inputs: Vec<Option<usize>>,
    pub outputs: Vec<usize>,
    pub options: Operator<'a>,
}

/// See the head of this file. Steps and outputs name tensors by their place in `tensors`.
#[derive(Debug)]
pub struct File<'a> {
    pub tensors: Vec<Stored<'a>>,
    pub steps: Vec<Step<'a>>,
    pub input: usize,
    pub outputs: Vec<usize>,
}

impl<'a> File<'a> {
    /// # Errors
    /// What is wrong with the file, in words.
    pub fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let model = tflite::root_as_model(bytes).map_err(|error| {
            let error = error.to_string();
            format!("not a TensorFlow Lite file ({}); it is damaged or truncated", super::super::one_line(&error))
        })?;
        let graphs = model.subgraphs().filter(|graphs| !graphs.is_empty()).ok_or("the file holds no graph")?;
        if graphs.len() > 1 {
            return Err(format!(
                "{} graphs: loops and branches run with the TensorFlow Lite library only",
                graphs.len()
            ));
        }
        let graph = graphs.get(0);
        let stored = graph.tensors().ok_or("the graph has no tensors")?;
        let operators = graph.operators().filter(|list| !list.is_empty()).ok_or("the graph has no operators")?;
        if stored.len() > TENSORS_MAX || operators.len() > OPERATORS_MAX {
            return Err(format!(
                "{} tensors and {} operators; at most {TENSORS_MAX} and {OPERATORS_MAX} are accepted",
                stored.len(),
                operators.len()
            ));
        }
        let tensors: Vec<Stored<'a>> = stored.iter().map(|flat| tensor(&model, flat)).collect::<Result<_, _>>()?;
        let elements: usize = tensors.iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
        if elements > ELEMENTS_MAX {
            return Err(format!("tensors of {elements} values; at most {ELEMENTS_MAX} are accepted"));
        }
        let index = |index: i32| usize::try_from(index).ok().filter(|&index| index < tensors.len());
        let known = |at: i32| index(at).ok_or_else(|| format!("tensor {at} of {}", tensors.len()));
        let mut inputs = graph.inputs().map(|inputs| inputs.iter().map(known)).into_iter().flatten();
        let (Some(input), None) = (inputs.next().transpose()?, inputs.next()) else {
            return Err("expected one input, which is the image".into());
        };
        let outputs: Vec<usize> = graph.outputs().into_iter().flatten().map(known).collect::<Result<_, _>>()?;
        if outputs.is_empty() {
            return Err("the graph has no outputs".into());
        }
        let codes = model.operator_codes().ok_or("the file names no operators")?;
        let steps = operators.iter().map(|options| {
            let at = options.opcode_index() as usize;
            if at >= codes.len() {
                return Err(format!("operator {at} of {}", codes.len()));
            }
            let flat = codes.get(at);
            // Old files have the code in a byte, newer ones in both, and what does not fit there only in the new place.
            let code = flat.builtin_code().0.max(i32::from(flat.deprecated_builtin_code()));
            let optional = |at: i32| if at == -1 { Ok(None) } else { known(at).map(Some) };
            Ok(Step {
                code: BuiltinOperator(code),
                custom: flat.custom_code(),
                inputs: options.inputs().into_iter().flatten().map(optional).collect::<Result<_, _>>()?,
                outputs: options.outputs().into_iter().flatten().map(known).collect::<Result<_, _>>()?,
                options,
            })
        });
        let steps = steps.collect::<Result<_, String>>()?;
        Ok(Self { steps, input, outputs, tensors })
    }

    /// The image input, in the order of this program; the file's is batch, height, width, channels.
    ///
    /// # Errors
    /// It is no image, or not of a type that images come in.
    pub fn declared(&self) -> Result<DeclaredInput, String> {
        let input = &self.tensors[self.input];
        let &[batch, height, width, channels] = &input.shape[..] else {
            return Err(format!("the input `{}` is {:?}; expected N H W C", input.name, input.shape));
        };
        if input.kind != Kind::Real || input.data.is_some() {
            return Err(format!("the input `{}` is {:?}; expected floats or bytes", input.name, input.element));
        }
        let [batch, channels, height, width] = [batch, channels, height, width].map(Some);
        Ok(DeclaredInput { batch, channels, height, width })
    }
}

impl File<'_> {
    /// Memory of all constants in numbers of 32 bits.
    pub fn constant_bytes(&self) -> u64 {
        let constants = self.tensors.iter().filter(|tensor| tensor.data.is_some());
        constants.map(|tensor| 4 * tensor.shape.iter().product::<usize>() as u64).sum()
    }
}

impl Stored<'_> {
    /// The values of a constant; `None` of what is computed.
    ///
    /// # Errors
    /// tract's; the data was found to fit the shape.
    pub fn constant(&self) -> Option<Result<Tensor, String>> {
        let data = self.data?;
        let words = |error: tract_onnx::prelude::TractError| error.to_string();
        Some(match self.kind {
            Kind::Real => Tensor::from_shape(&self.shape, &self.reals(data)).map_err(words),
            Kind::Int32 => Tensor::from_shape(&self.shape, &each(data, i32::from_le_bytes)).map_err(words),
            Kind::Int64 => Tensor::from_shape(&self.shape, &each(data, i64::from_le_bytes)).map_err(words),
            Kind::Bool => Tensor::from_shape(&self.shape, &each(data, |[byte]| byte != 0)).map_err(words),
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "sums of products of bytes; a bias of 2^24 steps loses half a step")]
    fn reals(&self, data: &[u8]) -> Vec<f32> {
        let mut values: Vec<f32> = match self.element {
            TensorType::FLOAT32 => each(data, f32::from_le_bytes),
            TensorType::FLOAT16 => each(data, |bytes| tract_onnx::prelude::f16::from_le_bytes(bytes).to_f32()),
            TensorType::INT8 => each(data, |bytes| f32::from(i8::from_le_bytes(bytes))),
            TensorType::UINT8 => each(data, |bytes| f32::from(u8::from_le_bytes(bytes))),
            TensorType::INT16 => each(data, |bytes| f32::from(i16::from_le_bytes(bytes))),
            _ => each(data, |bytes| i32::from_le_bytes(bytes) as f32),
        };
        if let Some(Quantization { scales, zeros, axis }) = &self.quantization {
            let piece = match scales.len() {
                1 => values.len(),
                _ => self.shape.iter().skip(axis + 1).product(),
            };
            for (piece, (scale, zero)) in values.chunks_mut(piece.max(1)).zip(scales.iter().zip(zeros).cycle()) {
                piece.iter_mut().for_each(|value| *value = (*value - zero) * scale);
            }
        }
        values
    }

    /// What a computed tensor can hold, where it is not any real number.
    ///
    /// # Errors
    /// It has one scale a channel, which only constants have.
    pub fn grid(&self) -> Result<Option<Grid>, String> {
        let range = match self.element {
            TensorType::INT8 => (-128.0, 127.0),
            TensorType::UINT8 => (0.0, 255.0),
            TensorType::INT16 => (-32768.0, 32767.0),
            _ => return Ok(None),
        };
        match &self.quantization {
            None => Ok(Some(Grid { scale: 1.0, zero: 0.0, range })),
            Some(quantization) => match (&quantization.scales[..], &quantization.zeros[..]) {
                (&[scale], &[zero]) => Ok(Some(Grid { scale, zero, range })),
                (scales, _) => Err(format!("tensor `{}`: {} scales; expected one", self.name, scales.len())),
            },
        }
    }
}

/// Values of `N` bytes.
fn each<T, const N: usize>(data: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    data.as_chunks().0.iter().map(|&bytes| read(bytes)).collect()
}

/// Reads and checks one tensor.
fn tensor<'a>(model: &tflite::Model<'a>, flat: tflite::Tensor<'a>) -> Result<Stored<'a>, String> {
    let name = flat.name().unwrap_or_default();
    let fail = |why: String| format!("tensor `{}`: {why}", name.chars().take(80).collect::<String>());
    let dims: Vec<i32> = flat.shape().into_iter().flatten().collect();
    let shape: Option<Vec<usize>> = dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
    let volume = |shape: &[usize]| shape.iter().try_fold(1_usize, |volume, &dim| volume.checked_mul(dim));
    let elements = shape.as_ref().filter(|shape| shape.len() <= RANK_MAX).and_then(|shape| volume(shape));
    let (Some(shape), Some(elements)) = (shape, elements.filter(|&elements| elements <= ELEMENTS_MAX)) else {
        return Err(fail(format!("the shape {dims:?} is negative or too large")));
    };
    // The first dimension is the batch, of which there is one unless the file says otherwise.
    if flat.shape_signature().is_some_and(|signature| signature.iter().skip(1).any(|dim| dim < 0)) {
        return Err(fail("a size is left open; export the network with a fixed size".into()));
    }
    if flat.sparsity().is_some() {
        return Err(fail("it is sparse, which runs with the TensorFlow Lite library only".into()));
    }
    let element = flat.type_();
    let quantization = quantization(&flat, &shape).map_err(&fail)?;
    let (kind, bytes_each) = match element {
        TensorType::FLOAT32 => (Kind::Real, 4),
        TensorType::FLOAT16 | TensorType::INT16 => (Kind::Real, 2),
        TensorType::INT8 | TensorType::UINT8 => (Kind::Real, 1),
        TensorType::INT32 if quantization.is_some() => (Kind::Real, 4),
        TensorType::INT32 => (Kind::Int32, 4),
        TensorType::INT64 => (Kind::Int64, 8),
        TensorType::BOOL => (Kind::Bool, 1),
        other => return Err(fail(format!("type {other:?}, which runs with the TensorFlow Lite library only"))),
    };
    let buffers = model.buffers().ok_or("the file has no buffers")?;
    // Buffer 0 is empty by convention, and stands for none.
    let data = match flat.buffer() as usize {
        0 => None,
        at if at < buffers.len() => buffers.get(at).data().map(|data| data.bytes()),
        at => return Err(fail(format!("buffer {at} of {}", buffers.len()))),
    };
    let data = data.filter(|data| !data.is_empty());
    match data {
        Some(data) if data.len() != elements * bytes_each => {
            Err(fail(format!("{} bytes of data, expected {}", data.len(), elements * bytes_each)))
        }
        _ => Ok(Stored { name, shape, kind, element, quantization, data }),
    }
}

fn quantization(flat: &tflite::Tensor<'_>, shape: &[usize]) -> Result<Option<Quantization>, String> {
    let Some(flat) = flat.quantization() else { return Ok(None) };
    let scales: Vec<f32> = flat.scale().into_iter().flatten().collect();
    if scales.is_empty() {
        return Ok(None);
    }
    // No zero points: all are 0.
    #[expect(clippy::cast_precision_loss, reason = "a value of the tensor's type, of at most 32 bits")]
    let mut zeros: Vec<f32> = flat.zero_point().into_iter().flatten().map(|zero| zero as f32).collect();
    zeros.resize(if zeros.is_empty() { scales.len() } else { zeros.len() }, 0.0);
    let axis = usize::try_from(flat.quantized_dimension()).unwrap_or(usize::MAX);
    if scales.len() != zeros.len() || (scales.len() > 1 && shape.get(axis) != Some(&scales.len())) {
        let axis = flat.quantized_dimension();
        let (scales, zeros) = (scales.len(), zeros.len());
        return Err(format!("{scales} scales and {zeros} zero points along axis {axis} of the shape {shape:?}"));
    }
    match scales.iter().find(|scale| !(scale.is_finite() && **scale > 0.0)) {
        Some(scale) => Err(format!("a scale of {scale}")),
        None => Ok(Some(Quantization { scales, zeros, axis })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DETECTOR: &[u8] = include_bytes!("../../../../tests/tflite/detector.tflite");

    fn stored(
        element: TensorType,
        shape: &[usize],
        quantization: Option<Quantization>,
        data: &'static [u8],
    ) -> Vec<f32> {
        let (name, shape, kind) = ("", shape.to_vec(), Kind::Real);
        let stored = Stored { name, shape, kind, element, quantization, data: Some(data) };
        let tensor = stored.constant().unwrap().unwrap();
        tensor.to_plain_array_view::<f32>().unwrap().iter().copied().collect()
    }

    #[test]
    fn integers_become_the_numbers_that_they_stand_for() {
        let one = Quantization { scales: vec![0.5], zeros: vec![2.0], axis: 0 };
        assert_eq!(stored(TensorType::UINT8, &[3], Some(one), &[2, 4, 255]), [0.0, 1.0, 126.5]);
        let rows = Quantization { scales: vec![1.0, 10.0], zeros: vec![0.0, 1.0], axis: 0 };
        assert_eq!(stored(TensorType::INT8, &[2, 2], Some(rows.clone()), &[1, 0xFF, 1, 2]), [1.0, -1.0, 0.0, 10.0]);
        let columns = Quantization { axis: 1, ..rows };
        assert_eq!(stored(TensorType::INT8, &[2, 2], Some(columns), &[1, 0xFF, 1, 2]), [1.0, -20.0, 1.0, 10.0]);
        assert_eq!(stored(TensorType::FLOAT16, &[1], None, &[0, 0x3C]), [1.0]);
    }

    #[test]
    fn a_file_says_what_it_takes_and_answers() {
        let file = File::read(DETECTOR).unwrap();
        let declared = file.declared().unwrap();
        let sizes = [declared.batch, declared.channels, declared.height, declared.width];
        assert_eq!(sizes, [1, 3, 2, 3].map(Some));
        assert_eq!(file.outputs.len(), 4);
        assert_eq!(file.steps.last().unwrap().custom, Some("TFLite_Detection_PostProcess"));
    }

    /// Each byte of the file's structure in turn.
    #[test]
    fn damage_is_found_or_harmless() {
        let mut refused = 0;
        for at in 0..DETECTOR.len() {
            let mut damaged = DETECTOR.to_vec();
            damaged[at] ^= 0xFF;
            refused += usize::from(File::read(&damaged).and_then(|file| file.declared().map(drop)).is_err());
        }
        assert!(refused > 100, "only {refused} were refused");
    }
}
