//! The inner loops: written once over [`vector::Vector`], made for each instruction set in a file of its own.

#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
#[cfg(test)]
mod check;
pub mod gemm;
#[cfg(target_arch = "aarch64")]
pub mod gemm_lanes;
pub mod math;
#[cfg(target_arch = "aarch64")]
pub mod neon;
#[cfg(target_arch = "aarch64")]
pub mod neon_fp16;
pub mod portable;
pub mod vector;
