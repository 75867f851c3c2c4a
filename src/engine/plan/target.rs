//! What people call the machines that plans are made for.

use super::kernels::isa::{self, INT8_NEEDS};
use super::kernels::{self, Isa, Kernels};
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

/// The same, where the CPU multiplies bytes; those that are not here do so no faster than numbers.
const TARGETS_INT8: &[(&str, &str)] = &[
    ("cascadelake", "avx512-vnni"),
    ("icelake-server", "avx512-vnni"),
    ("sapphirerapids", "avx512-vnni"),
    ("znver4", "avx512-vnni"),
    ("znver5", "avx512-vnni"),
    ("alderlake", "avx-vnni"),
    ("cortex-a55", "neon-dot"),
    ("cortex-a76", "neon-dot"),
    ("cortex-a78ae", "neon-dot"),
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
        Err(Self::unknown(target, &known))
    }

    /// As [`Target::parse`], for a plan in int8.
    ///
    /// # Errors
    /// It is not known, or its CPU does not multiply bytes.
    pub fn parse_int8(target: &str) -> Result<Self, String> {
        if target == NATIVE {
            return kernels::int8().map(Into::into).ok_or_else(|| format!("{INT8_NEEDS}; this one has none of them"));
        }
        let word = target.to_lowercase();
        let name = TARGETS_INT8.iter().find(|(name, _)| *name == word).map_or(word.as_str(), |(_, isa)| isa);
        if let Some(isa) = isa::ALL.into_iter().find(|isa| isa.name == name && isa.int8.is_some()) {
            let kernels = kernels::by_name(name).and_then(|(kernels, here)| here.then_some(kernels));
            return Ok(Self { isa, kernels });
        }
        // One that is known, but not for this, is refused for what it lacks.
        Self::parse(target)?;
        Err(format!("`{target}`: {INT8_NEEDS}"))
    }

    fn unknown(target: &str, known: &[&str]) -> String {
        let word = target.to_lowercase();
        let near = nearest(&word, known.iter().copied(), 1);
        let hint = near.first().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        format!("no target `{target}`; there are {}{hint}", known.join(", "))
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

    #[test]
    fn int8_is_for_cpus_that_multiply_bytes() {
        for (cpu, name) in TARGETS_INT8 {
            let isa = Target::parse_int8(cpu).unwrap().isa;
            assert!(isa.name == *name && isa.int8.is_some());
        }
        assert_eq!(Target::parse_int8("portable").unwrap().isa.name, "portable");
        for cpu in ["cortex-a72", "haswell", "neon"] {
            let why = Target::parse_int8(cpu).unwrap_err();
            assert!(why.contains(cpu) && why.contains("int8 plans need"), "{why}");
        }
        assert!(Target::parse_int8("cortex-a77777").unwrap_err().contains("no target"));
        assert_eq!(Target::parse_int8(NATIVE).is_ok(), kernels::int8().is_some());
    }
}
