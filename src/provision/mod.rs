//! What is done to a cache and to the state directory besides running what lies there: how models come onto a device.
//!
//! Whatever writes to a cache root is in here. May not know: HTTP, PID 1, the command line.

pub mod bundle;
