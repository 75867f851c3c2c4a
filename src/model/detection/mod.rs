//! Detection decoders: one file a family.

pub mod yolov8;
