//! Where frames come from: one file or folder a kind of source.

pub mod demo;
