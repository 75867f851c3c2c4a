//! The plan's own picture of a network: few operators, every shape known, constants where they are used.
//!
//! Dimensions are those of the ONNX file (N, C, H, W for pictures); how a value lies in memory is decided later, in
//! [`layout`](super::layout). May not know: tract, kernels, files.

/// A value: an index into [`Graph::values`].
pub type ValueId = usize;

/// Most dimensions of a value. Attention over windows has five, deformable attention six.
pub const RANK_MAX: usize = 6;

/// Most rows or columns of a window, its stride and its padding.
const SIZE_MAX: usize = 4096;

/// A value of the network.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Value {
    /// For people, and for the report of the referee.
    pub name: String,
    pub shape: Vec<usize>,
    /// C order; present for what is known before the first picture.
    pub constant: Option<Vec<f32>>,
}

/// One operator with its single result.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Node {
    pub op: Op,
    pub inputs: Vec<ValueId>,
    pub output: ValueId,
}

/// What a node computes.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Op {
    /// Inputs: picture [1, C, H, W], filters [O, C/groups, KH, KW], bias [O].
    Conv(Conv),
    MaxPool(Window),
    /// Nearest neighbour by whole factors of H and W.
    Upsample { height: usize, width: usize },
    Unary(Unary),
    /// Of two values of equal rank whose dimensions are equal or 1.
    Binary(Binary),
    Concat { axis: usize },
    Slice { axis: usize, start: usize },
    Reshape,
    /// Dimension `i` of the result is dimension `order[i]` of the input.
    Permute { order: Vec<usize> },
    Softmax { axis: usize },
    /// Of the last two dimensions, batched over the others, which are equal or 1.
    MatMul,
}

/// A window that moves over H and W.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Window {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    /// Rows above and columns to the left; what is needed below and to the right follows from the shapes.
    pub pad: [usize; 2],
}

impl Window {
    /// Whether its sizes are such that nothing overflows.
    ///
    /// # Errors
    /// One of them is out of range.
    pub fn check(&self) -> Result<(), String> {
        let sizes = [self.kernel, self.stride, self.dilation];
        if sizes.as_flattened().iter().any(|&size| !(1..=SIZE_MAX).contains(&size)) || self.pad.iter().any(|&pad| pad > SIZE_MAX) {
            return Err(format!("{self:?}: a window has 1 to {SIZE_MAX} of each"));
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Conv {
    pub window: Window,
    pub groups: usize,
    /// Applied to the sum with the bias.
    pub activation: Activation,
    /// A third input is added after the activation.
    pub residual: bool,
}

/// What may follow a sum at no cost of memory traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Activation {
    #[default]
    None,
    Relu,
    Silu,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Unary {
    Sigmoid,
    Silu,
    Relu,
    Exp,
    Sqrt,
    Reciprocal,
    Neg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
}

/// A network at one concrete shape. Nodes stand in an order in which they can run.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Graph {
    pub values: Vec<Value>,
    pub nodes: Vec<Node>,
    pub input: ValueId,
    pub outputs: Vec<ValueId>,
}

impl Graph {
    /// Adds a value.
    pub fn value(&mut self, name: &str, shape: &[usize], constant: Option<Vec<f32>>) -> ValueId {
        self.values.push(Value { name: name.to_owned(), shape: shape.to_vec(), constant });
        self.values.len() - 1
    }

    /// Number of nodes that read each value; outputs of the network count as read once more.
    #[must_use]
    pub fn readers(&self) -> Vec<usize> {
        let mut readers = vec![0; self.values.len()];
        for &input in self.nodes.iter().flat_map(|node| &node.inputs).chain(&self.outputs) {
            readers[input] += 1;
        }
        readers
    }
}
