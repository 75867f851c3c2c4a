//! Non-maximum suppression, as each of Roboflow's two engines does it.

mod argsort;
mod classic;
mod standard;

pub use classic::ClassicSuppressor;
pub use standard::StandardSuppressor;

/// A box that may become a detection, in network pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Left, top, right, bottom.
    pub corners: [f32; 4],
    /// What is reported, and what limits and orders candidates.
    pub confidence: f32,
    pub class_id: u32,
    /// Position in the network's output; decides between equal confidences.
    pub index: u32,
}
