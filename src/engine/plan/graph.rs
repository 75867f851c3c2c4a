//! The plan's own picture of a network: few operators, every shape known, constants where they are used.
//!
//! Every value is f32. Whole numbers (places that a sort finds, and what is reckoned with them) are carried as f32 too,
//! which is exact below 2^24; lowering refuses what could exceed that. Dimensions are those of the ONNX file (N, C, H, W
//! for pictures); how a value lies in memory is decided later, in [`layout`](super::layout). May not know: tract,
//! kernels, files.

/// A value: an index into [`Graph::values`].
pub type ValueId = usize;

/// Most dimensions of a value. Attention over windows has five, deformable attention six.
pub const RANK_MAX: usize = 6;

/// Most rows or columns of a window, its stride and its padding.
const SIZE_MAX: usize = 4096;

/// Up to here every whole number is an f32.
pub const WHOLE_MAX: i64 = 1 << 24;

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

/// What a node computes. Filters, weights, biases, scales, shifts and resampling tables are constants.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Op {
    /// Inputs: picture [N, C, H, W], filters [O, C/groups, KH, KW], bias [O], and what is added, of the result's shape.
    Conv(Conv),
    /// A 1×1 convolution over whatever is before the last dimension. Inputs: [.., C], weights [O, C], bias [O], and what
    /// is added; the result is [.., O].
    Linear(Finish),
    MaxPool(Window),
    /// Nearest neighbour by whole factors of H and W.
    Upsample {
        height: usize,
        width: usize,
    },
    /// Along one axis every result is a sum of `t` weighted inputs. Inputs: any value, places [n, t], weights [n, t],
    /// where `n` is the length of the result along the axis. Places are whole and inside. All resizing but the plain one.
    Resample {
        axis: usize,
    },
    Unary(Unary),
    /// Of two values of equal rank whose dimensions are equal or 1.
    Binary(Binary),
    /// Dimensions of 1 become those of the result.
    Broadcast,
    Concat {
        axis: usize,
    },
    /// As many steps as the result has, from `start`.
    Slice {
        axis: usize,
        start: usize,
    },
    /// The same values in C order.
    Reshape,
    /// Dimension `i` of the result is dimension `order[i]` of the input.
    Permute {
        order: Vec<usize>,
    },
    Softmax {
        axis: usize,
    },
    /// The mean of some weights under a softmax: `Σ softmax(x)·w` along an axis, which stays as a dimension of 1. Inputs:
    /// any value, weights [n] (the distances of a distribution focal loss head).
    Expectation {
        axis: usize,
    },
    /// Over the last dimension: `(x - mean) / sqrt(variance + epsilon) · scale + shift`. Inputs: [.., C], scale [C],
    /// shift [C].
    LayerNorm {
        epsilon: f32,
    },
    /// `scale · a · b` of the last two dimensions, batched over the others, which are equal or 1.
    MatMul {
        scale: f32,
    },
    /// `softmax(scale · q · k) · v`, the softmax over the last dimension. Inputs: q [.., M, C], k [.., C, N], v [.., N, D], all
    /// of one batch; the result is [.., M, D].
    Attention {
        scale: f32,
    },
    /// Over these axes, which stay as dimensions of 1.
    Reduce {
        reduce: Reduce,
        axes: Vec<usize>,
    },
    /// The places of the greatest (or least) values along an axis, best first, of equals the one nearest the front;
    /// as many as the result has. What is no number is last.
    Top {
        axis: usize,
        largest: bool,
    },
    /// Inputs: values and places, of equal rank. Every result is the value at its own coordinates, but along the axis
    /// at its place. The axis of the result is as long as that of the places; the other dimensions of both inputs are
    /// equal or 1. A place outside is moved to the nearest inside.
    Gather {
        axis: usize,
    },
    /// Bilinear, zero outside. Inputs: picture [N, C, H, W] and a grid [N, h, w, 2] of x and y from -1 to 1; the result
    /// is [N, C, h, w].
    GridSample {
        /// Whether -1 and 1 are the centres of the outermost pixels, not their outer edges.
        align_corners: bool,
    },
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Conv {
    pub window: Window,
    pub groups: usize,
    pub finish: Finish,
}

/// What happens to a sum with its bias while it is still in registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Finish {
    pub activation: Activation,
    /// Whether a last input of the result's shape is added, and on which side of the activation.
    pub residual: Residual,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Residual {
    #[default]
    None,
    /// `activation(sum + other)`, as in ResNet.
    Before,
    /// `activation(sum) + other`, as in YOLO and transformers.
    After,
}

/// What may follow a sum at no cost of memory traffic. Each is the unary operator of the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Activation {
    #[default]
    None,
    Relu,
    Silu,
    HardSwish,
    Gelu,
    Sigmoid,
}

#[cfg(test)]
impl Activation {
    pub const ALL: [Self; 6] = [Self::None, Self::Relu, Self::Silu, Self::HardSwish, Self::Gelu, Self::Sigmoid];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Unary {
    Relu,
    /// `x · sigmoid(x)`.
    Silu,
    /// `x · min(max(x + 3, 0), 6) / 6`.
    HardSwish,
    /// `x · (1 + erf(x / √2)) / 2`.
    Gelu,
    Sigmoid,
    Tanh,
    Erf,
    Exp,
    Log,
    Sqrt,
    Reciprocal,
    Neg,
    Abs,
    Floor,
    Sin,
    Cos,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
    /// `a^b`.
    Pow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Reduce {
    Max,
    Min,
    Sum,
    Mean,
}

/// A network at one concrete shape. Nodes stand in an order in which they can run.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Graph {
    pub values: Vec<Value>,
    pub nodes: Vec<Node>,
    pub input: ValueId,
    pub outputs: Vec<ValueId>,
}

impl Activation {
    /// The activation that a unary operator is, if it is one.
    #[must_use]
    pub fn of(unary: Unary) -> Option<Self> {
        Some(match unary {
            Unary::Relu => Self::Relu,
            Unary::Silu => Self::Silu,
            Unary::HardSwish => Self::HardSwish,
            Unary::Gelu => Self::Gelu,
            Unary::Sigmoid => Self::Sigmoid,
            _ => return None,
        })
    }

    /// The unary operator that an activation is, if it does anything.
    #[must_use]
    pub fn unary(self) -> Option<Unary> {
        Some(match self {
            Self::None => return None,
            Self::Relu => Unary::Relu,
            Self::Silu => Unary::Silu,
            Self::HardSwish => Unary::HardSwish,
            Self::Gelu => Unary::Gelu,
            Self::Sigmoid => Unary::Sigmoid,
        })
    }
}

impl Window {
    /// One pixel wide, one pixel a step.
    pub const POINT: Self = Self { kernel: [1, 1], stride: [1, 1], dilation: [1, 1], pad: [0, 0] };

    /// Whether its sizes are such that nothing overflows.
    ///
    /// # Errors
    /// One of them is out of range.
    pub fn check(&self) -> Result<(), String> {
        let sizes = [self.kernel, self.stride, self.dilation];
        if sizes.as_flattened().iter().any(|&size| !(1..=SIZE_MAX).contains(&size))
            || self.pad.iter().any(|&pad| pad > SIZE_MAX)
        {
            return Err(format!("{self:?}: a window has 1 to {SIZE_MAX} of each"));
        }
        Ok(())
    }
}

impl Op {
    /// What happens to the sums of an operator that makes such.
    #[must_use]
    pub fn finish(&self) -> Option<Finish> {
        match self {
            Self::Conv(Conv { finish, .. }) | Self::Linear(finish) => Some(*finish),
            _ => None,
        }
    }

    /// The same, to change it.
    pub fn finish_mut(&mut self) -> Option<&mut Finish> {
        match self {
            Self::Conv(Conv { finish, .. }) | Self::Linear(finish) => Some(finish),
            _ => None,
        }
    }

    /// Whether an operator computes nothing and only looks at its input differently.
    #[must_use]
    pub fn is_view(&self) -> bool {
        matches!(self, Self::Slice { .. } | Self::Reshape | Self::Permute { .. })
    }
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

    /// Drops the nodes whose results nobody reads, and the values that nothing names any more.
    pub fn sweep(&mut self) {
        let mut read = vec![false; self.values.len()];
        read[self.input] = true;
        self.outputs.iter().for_each(|&output| read[output] = true);
        let mut keep = vec![false; self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate().rev() {
            keep[index] = read[node.output];
            if keep[index] {
                node.inputs.iter().for_each(|&input| read[input] = true);
            }
        }
        let mut keep = keep.into_iter();
        self.nodes.retain(|_| keep.next() == Some(true));
        let mut next = 0;
        let ids = read.iter().map(|&read| {
            next += usize::from(read);
            next.saturating_sub(1)
        });
        let ids: Vec<ValueId> = ids.collect();
        let mut read = read.into_iter();
        self.values.retain(|_| read.next() == Some(true));
        for node in &mut self.nodes {
            node.inputs.iter_mut().chain([&mut node.output]).for_each(|value| *value = ids[*value]);
        }
        self.outputs.iter_mut().chain([&mut self.input]).for_each(|value| *value = ids[*value]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_reads_is_swept_out() {
        let mut graph = Graph::default();
        graph.value("unused", &[1], Some(vec![1.0]));
        graph.input = graph.value("input", &[2], None);
        let [dead, alive] = ["dead", "alive"].map(|name| graph.value(name, &[2], None));
        let node = |op, output| Node { op: Op::Unary(op), inputs: vec![1], output };
        graph.nodes = vec![node(Unary::Exp, dead), node(Unary::Neg, alive)];
        graph.outputs = vec![alive];
        graph.sweep();
        let names: Vec<&str> = graph.values.iter().map(|value| value.name.as_str()).collect();
        assert_eq!(names, ["input", "alive"]);
        assert_eq!(graph.nodes, [Node { op: Op::Unary(Unary::Neg), inputs: vec![0], output: 1 }]);
        assert_eq!((graph.input, &graph.outputs[..]), (0, &[1][..]));
    }
}
