//! The inner loops: written once over [`vector::Vector`], made for each instruction set in a file of its own.

#[cfg(target_arch = "x86_64")]
pub mod avx512;
pub mod gemm;
pub mod math;
pub mod vector;
