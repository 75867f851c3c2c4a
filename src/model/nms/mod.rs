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

/// Greedy suppression of what is sorted by falling confidence: each that is still there is kept, and what it
/// suppresses of those after it goes.
fn keep_strongest<T: Copy>(sorted: &mut [T], suppresses: impl Fn(&T, &T) -> bool, mut keep: impl FnMut(&T)) {
    let mut rest = 0..sorted.len();
    while let Some(first) = rest.next() {
        let strongest = sorted[first];
        keep(&strongest);
        let mut write = first + 1;
        for read in rest.clone() {
            let other = sorted[read];
            if !suppresses(&strongest, &other) {
                sorted[write] = other;
                write += 1;
            }
        }
        rest.end = write;
    }
}
