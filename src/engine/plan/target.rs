//! What people call the machines that plans are made for.

use super::kernels::isa::{self, FP16_NEEDS, INT8_NEEDS};
use super::kernels::{self, Isa, Kernels};
use crate::engine::Precision;
use crate::error::did_you_mean;

/// This machine.
pub const NATIVE: &str = "native";

/// Names of levels and CPUs, as compilers have them, and the instruction set of each.
const TARGETS: &[(&str, &str)] = &[
    ("x86-64-v4", "avx512"),
    ("skylake-avx512", "avx512"),
    ("cascadelake", "avx512"),
    ("icelake-server", "avx512"),
    ("sapphirerapids", "avx512"),
    ("znver4", "avx512"),
    ("znver5", "avx512"),
    ("x86-64-v3", "avx2"),
    ("haswell", "avx2"),
    ("alderlake", "avx2"),
    ("znver2", "avx2"),
    ("znver3", "avx2"),
    ("aarch64", "neon"),
    ("cortex-a53", "neon"),
    ("cortex-a55", "neon"),
    ("cortex-a57", "neon"),
    ("cortex-a72", "neon"),
    ("cortex-a75", "neon"),
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

/// The same, where the CPU has half-precision arithmetic.
const TARGETS_FP16: &[(&str, &str)] = &[
    ("cortex-a55", "neon-fp16"),
    ("cortex-a75", "neon-fp16"),
    ("cortex-a76", "neon-fp16"),
    ("cortex-a78ae", "neon-fp16"),
    ("carmel", "neon-fp16"),
];

/// What a precision needs of a CPU.
struct Needs {
    targets: &'static [(&'static str, &'static str)],
    has: fn(&Isa) -> bool,
    words: &'static str,
}

fn needs(precision: Precision) -> Needs {
    match precision {
        Precision::Fp32 => Needs { targets: TARGETS, has: |_| true, words: "" },
        Precision::Fp16 => Needs { targets: TARGETS_FP16, has: |isa| isa.fp16.is_some(), words: FP16_NEEDS },
        Precision::Int8 => Needs { targets: TARGETS_INT8, has: |isa| isa.int8.is_some(), words: INT8_NEEDS },
    }
}

/// The best kernels of this CPU for a precision.
///
/// # Errors
/// It has no instructions for it.
pub fn best(precision: Precision) -> Result<&'static Kernels, String> {
    let best = match precision {
        Precision::Fp32 => Some(kernels::native()),
        Precision::Fp16 => kernels::fp16(),
        Precision::Int8 => kernels::int8(),
    };
    best.ok_or_else(|| format!("{}; this one has none of that", needs(precision).words))
}

/// What a plan is made for.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub isa: &'static Isa,
    /// Where this CPU has it.
    pub kernels: Option<&'static Kernels>,
    /// Whether this very machine is meant, not one of a name, of which it may be one.
    pub here: bool,
}

/// The best that this CPU has.
#[must_use]
pub fn native() -> Target {
    kernels::native().into()
}

impl From<&'static Kernels> for Target {
    fn from(kernels: &'static Kernels) -> Self {
        Self { isa: kernels.isa, kernels: Some(kernels), here: true }
    }
}

impl Target {
    /// An instruction set by its name, by that of a CPU that has it, or [`NATIVE`].
    ///
    /// # Errors
    /// It is not known, or has no instructions for the precision.
    pub fn parse(target: &str, precision: Precision) -> Result<Self, String> {
        if target == NATIVE {
            return best(precision).map(Into::into);
        }
        let Needs { targets, has, words } = needs(precision);
        let word = target.to_lowercase();
        let name = targets.iter().find(|(name, _)| *name == word).map_or(word.as_str(), |(_, isa)| isa);
        match isa::ALL.into_iter().find(|isa| isa.name == name) {
            Some(isa) if has(isa) => {
                let kernels = kernels::by_name(name).and_then(|(kernels, here)| here.then_some(kernels));
                Ok(Self { isa, kernels, here: false })
            }
            // One that is known, but not for this, is refused for what it lacks.
            _ if Self::known().any(|known| known == word) => Err(format!("`{target}`: {words}")),
            _ => Err(Self::unknown(target)),
        }
    }

    /// All names.
    fn known() -> impl Iterator<Item = &'static str> {
        isa::ALL.into_iter().map(|isa| isa.name).chain([NATIVE]).chain(TARGETS.iter().map(|(name, _)| *name))
    }

    fn unknown(target: &str) -> String {
        let word = target.to_lowercase();
        let known: Vec<&str> = Self::known().collect();
        let hint = did_you_mean(&word, known.iter().copied());
        format!("no target `{target}`; there are {}{hint}", known.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_have_instruction_sets() {
        let found = |target: &str| {
            Target::parse(target, Precision::Fp32).map(|target| (target.isa.name, target.kernels.is_some()))
        };
        assert_eq!(found(NATIVE), Ok((kernels::native().isa.name, true)));
        assert_eq!(found("generic"), Ok(("portable", true)));
        for cpu in ["cortex-a72", "cortex-a76", "neon"] {
            assert_eq!(found(cpu), Ok(("neon", cfg!(target_arch = "aarch64"))));
        }
        assert!(found("Cortex-A73").unwrap_err().contains("did you mean `cortex-a"));
        assert!(TARGETS.iter().all(|(_, name)| isa::ALL.iter().any(|isa| isa.name == *name)));
    }

    #[test]
    fn each_precision_is_for_cpus_that_have_it() {
        for (precision, lack, words) in [
            (Precision::Int8, ["cortex-a72", "haswell", "neon"], "int8 plans need"),
            (Precision::Fp16, ["cortex-a72", "znver5", "neon-dot"], "fp16 plans need"),
        ] {
            let Needs { targets, has, .. } = needs(precision);
            for (cpu, name) in targets {
                let isa = Target::parse(cpu, precision).unwrap().isa;
                assert!(isa.name == *name && has(isa) && Target::parse(cpu, Precision::Fp32).is_ok());
            }
            assert_eq!(Target::parse("portable", precision).unwrap().isa.name, "portable");
            for cpu in lack {
                let why = Target::parse(cpu, precision).unwrap_err();
                assert!(why.contains(cpu) && why.contains(words), "{why}");
            }
            assert!(Target::parse("cortex-a77777", precision).unwrap_err().contains("no target"));
            assert_eq!(Target::parse(NATIVE, precision).is_ok(), best(precision).is_ok());
        }
    }
}
