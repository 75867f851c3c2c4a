//! What a plan for NEON is packed by where there is no NEON: the same vectors, panels and tiles, in plain arithmetic.

use super::kernels;
use super::portable::Lanes;
use super::vector::Vector;

kernels!("neon", Lanes, [], super::gemm::multiply, [(14, 1, 4), (10, 2, 4), (7, 3, 4), (6, 4, 4)]);
