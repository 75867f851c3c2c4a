//! Rules: what of all that the model sees is worth an event. A class in a zone, a count, a line crossed.
//!
//! May not know: sources, sinks, the loop.

mod event;

pub use event::{Event, Phase};
