//! What people call the machines that plans are made for.

use super::kernels::{self, Isa, Kernels, isa};
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

/// What a plan is made for.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub isa: &'static Isa,
    /// Where this CPU has it.
    pub kernels: Option<&'static Kernels>,
}

/// The best that this CPU has.
#[must_use]
pub fn native() -> Target {
    kernels::native().into()
}

impl From<&'static Kernels> for Target {
    fn from(kernels: &'static Kernels) -> Self {
        Self { isa: kernels.isa, kernels: Some(kernels) }
    }
}

impl Target {
    /// An instruction set by its name, by that of a CPU that has it, or [`NATIVE`].
    ///
    /// # Errors
    /// It is not known.
    pub fn parse(target: &str) -> Result<Self, String> {
        if target == NATIVE {
            return Ok(native());
        }
        let word = target.to_lowercase();
        let name = TARGETS.iter().find(|(name, _)| *name == word).map_or(word.as_str(), |(_, isa)| isa);
        if let Some(isa) = isa::ALL.into_iter().find(|isa| isa.name == name) {
            let kernels = kernels::by_name(name).and_then(|(kernels, here)| here.then_some(kernels));
            return Ok(Self { isa, kernels });
        }
        let names = isa::ALL.into_iter().map(|isa| isa.name).chain([NATIVE]);
        let known: Vec<&str> = names.chain(TARGETS.iter().map(|(name, _)| *name)).collect();
        let near = nearest(&word, known.iter().copied(), 1);
        let hint = near.first().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        Err(format!("no target `{target}`; there are {}{hint}", known.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_have_instruction_sets() {
        let found = |target: &str| Target::parse(target).map(|target| (target.isa.name, target.kernels.is_some()));
        assert_eq!(found(NATIVE), Ok((kernels::native().isa.name, true)));
        assert_eq!(found("generic"), Ok(("portable", true)));
        for cpu in ["cortex-a72", "cortex-a76", "neon"] {
            assert_eq!(found(cpu), Ok(("neon", cfg!(target_arch = "aarch64"))));
        }
        assert!(found("Cortex-A73").unwrap_err().contains("did you mean `cortex-a"));
        assert!(TARGETS.iter().all(|(_, name)| isa::ALL.iter().any(|isa| isa.name == *name)));
    }
}
