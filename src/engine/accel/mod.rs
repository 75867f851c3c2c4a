//! Accelerators: what the vendors' libraries can do, in a process of their own that may crash.
//!
//! A static binary cannot load a library of glibc's world, and a library that fails must not take the device with it. So
//! the binary carries a small program, the worker, and starts it from memory ([`process`]); the two share the memory of
//! inputs and outputs ([`remote`]), and speak by [`protocol`]. An engine of a worker is trusted as far as it agrees with
//! tract ([`kit`]), and a CPU engine stands by for when it does not answer ([`failover`]).
//!
//! May not know: images, model families, what the board is.

mod embedded;
mod engine;
mod failover;
mod keeper;
mod kept;
mod kit;
mod library;
mod nursery;
mod prebuilt;
mod process;
pub mod protocol;
mod provider;
mod remote;
mod settings;

pub use engine::{Accelerator, Baking};
pub use prebuilt::fit;
pub use protocol::{Gpu, Provider};
pub use provider::ALL as PROVIDERS;
pub use settings::{Options, Settings};
