//! Firstlight: one static binary that turns a cached Roboflow model into a device that sees.
//!
//! The house has floors, and imports point downwards only:
//!
//! | floor | rooms | what lives there |
//! |---|---|---|
//! | 6 | [`cli`] | one file a subcommand: parse, call, print |
//! | 5 | [`http`], [`device`] | the status port; board facts, the serial line |
//! | 4 | [`pipeline`] | the inference loop, its buffer, health and the status snapshot |
//! | 3 | [`source`], [`sink`] | one file a kind of camera or file; one a kind of output |
//! | 2 | [`model`] | a package made runnable: pre-processing, decoders, NMS, geometry, predictions |
//! | 1 | [`engine`], [`cache`] | what runs a network; where its weights lie |
//! | 0 | [`frame`], [`config`], [`error`], [`env`] | pixels; settings; what a failure is worth; the environment |
//!
//! A frame goes one way: `source → frame → model.preprocess → engine.run → model.decode → predictions → sinks`.

pub mod frame;
pub mod http;
pub mod pipeline;
