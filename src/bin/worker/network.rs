//! A network that a library has made ready: what the worker knows of it, whichever library it is.

pub use crate::protocol::Output;

/// See the head of this file.
pub trait Network {
    /// In the order of the file. Shapes are concrete, and stay.
    fn outputs(&self) -> &[Output];

    /// One inference. `input` is N C H W in numbers of 32 bits, whatever the file takes; each of `outputs` is as long as its
    /// shape says, and is written whole, in numbers of 32 bits likewise. Both may be of memory shared with another process.
    ///
    /// # Errors
    /// What the library says.
    fn run(&mut self, input: &[f32], outputs: &mut [&mut [f32]]) -> Result<(), String>;
}
