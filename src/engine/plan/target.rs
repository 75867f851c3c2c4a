//! What people call the machines that plans are made for.

use super::kernels::{self, Kernels};
use crate::error::nearest;

/// This machine.
pub const NATIVE: &str = "native";

/// Names of levels and CPUs, as compilers have them, and the instruction set of each.
const TARGETS: &[(&str, &str)] = &[
    ("x86-64-v4", "avx512"),
    ("skylake-avx512", "avx512"),
    ("znver4", "avx512"),
    ("znver5", "avx512"),
    ("x86-64-v3", "avx2"),
    ("haswell", "avx2"),
    ("alderlake", "avx2"),
    ("znver2", "avx2"),
    ("znver3", "avx2"),
    ("aarch64", "neon"),
    ("cortex-a53", "neon"),
    ("cortex-a57", "neon"),
    ("cortex-a72", "neon"),
    ("cortex-a76", "neon"),
    ("cortex-a78ae", "neon"),
    ("carmel", "neon"),
    ("x86-64", "portable"),
    ("x86-64-v2", "portable"),
    ("generic", "portable"),
];

/// The kernels of a target, an instruction set, one of its names or [`NATIVE`]; and whether they run on this CPU.
///
/// # Errors
/// It is not known, or this binary has none for it.
pub fn kernels_of(target: &str) -> Result<(&'static Kernels, bool), String> {
    if target == NATIVE {
        return Ok((kernels::native(), true));
    }
    let word = target.to_lowercase();
    let isa = TARGETS.iter().find(|(name, _)| *name == word).map_or(word.as_str(), |(_, isa)| isa);
    if let Some(found) = kernels::by_name(isa) {
        return Ok(found);
    }
    if isa != word {
        return Err(format!("{target} is {isa}, for which this binary has no kernels"));
    }
    let isas = TARGETS.iter().map(|(_, isa)| *isa);
    let mut known: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).chain(isas).chain([NATIVE]).collect();
    known.sort_unstable();
    known.dedup();
    let near = nearest(&word, known.iter().copied(), 1);
    let hint = near.first().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    Err(format!("no target `{target}`; there are {}{hint}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_have_instruction_sets() {
        assert_eq!(kernels_of(NATIVE).unwrap().0.name, kernels::native().name);
        assert_eq!(kernels_of("generic").map(|(kernels, here)| (kernels.name, here)), Ok(("portable", true)));
        for cpu in ["cortex-a72", "cortex-a76", "neon"] {
            assert_eq!(kernels_of(cpu).map(|(kernels, here)| (kernels.name, here)), Ok(("neon", cfg!(target_arch = "aarch64"))));
        }
        assert!(kernels_of("Cortex-A73").unwrap_err().contains("did you mean `cortex-a7"));
    }
}
