//! Firstlight: one static binary that turns a cached Roboflow model into a device that sees.
//!
//! The house has floors, and imports point downwards only:
//!
//! | floor | rooms | what lives there |
//! |---|---|---|
//! | 6 | [`cli`] | one file a subcommand: parse, call, print |
//! | 5 | [`http`], [`device`] | the status port; PID 1, watchdog, slots, serial line, board facts |
//! | 4 | [`serving`], [`pipeline`], [`provision`] | models on demand for clients; the inference loop, its buffer, health and the status snapshot; what fills and clears a cache, and brings it onto a device |
//! | 3 | [`source`], [`sink`] | one file a kind of camera or file; one a kind of output |
//! | 2 | [`rules`] | what of all that is seen is worth an event: tracks, zones, lines, counts |
//! | 2 | [`model`] | a package made runnable: pre-processing, decoders, NMS, geometry, predictions |
//! | 1 | [`engine`], [`cache`] | what runs a network; where its weights lie |
//! | 0 | [`frame`], [`config`], [`durable`], [`error`], [`env`], [`log`], [`clock`], [`priority`], [`random`], [`thread`], [`tty`], [`demo`] | pixels; settings; files that outlive a power cut; what a failure is worth; the environment; what was said; time; who gives way; seeded numbers; threads that end or hang; serial ports; the bytes of the demo model |
//!
//! A frame goes one way: `source → frame → model.preprocess → engine.run → model.decode → predictions → sinks`.

// The worker (`src/bin/worker`) is built without the device, and uses none of it.
#![cfg(feature = "device")]

pub mod cache;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod device;
pub mod durable;
pub mod engine;
pub mod env;
pub mod error;
pub mod frame;
pub mod http;
pub mod isolation;
pub mod log;
pub mod model;
pub mod pipeline;
pub mod priority;
pub mod provision;
pub mod public_key;
pub mod random;
pub mod rules;
pub mod serving;
pub mod sink;
pub mod source;
pub mod thread;
pub mod tty;
