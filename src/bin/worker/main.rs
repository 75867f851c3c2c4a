//! The worker: a small glibc program that loads what the vendors ship (ONNX Runtime, TensorRT, CUDA, TensorFlow Lite), runs a
//! network with it, and may crash. `firstlight` carries it, starts it and watches it.

mod network;
mod tflite;

fn main() {}
