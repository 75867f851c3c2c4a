//! For which instruction sets plans are made, which of them run here, and what people call the machines that have them.

use super::kernels::{self, Kernels};

/// One instruction set.
struct Isa {
    name: &'static str,
    /// `None`: this binary can neither run nor pack for it.
    kernels: Option<&'static Kernels>,
    /// Whether this CPU has it.
    here: fn() -> bool,
    /// CPUs and levels that have it, as compilers call them.
    also: &'static [&'static str],
}

/// All of them, best first.
static ISAS: &[Isa] = &[
    Isa {
        name: "avx512",
        #[cfg(target_arch = "x86_64")]
        kernels: Some(&kernels::avx512::KERNELS),
        #[cfg(not(target_arch = "x86_64"))]
        kernels: None,
        #[cfg(target_arch = "x86_64")]
        here: || std::arch::is_x86_feature_detected!("avx512f"),
        #[cfg(not(target_arch = "x86_64"))]
        here: || false,
        also: &["x86-64-v4", "skylake-avx512", "znver4", "znver5"],
    },
    Isa { name: "avx2", kernels: None, here: || false, also: &["x86-64-v3", "haswell", "znver2", "znver3", "alderlake"] },
    Isa {
        name: "neon",
        kernels: None,
        here: || false,
        also: &["cortex-a53", "cortex-a57", "cortex-a72", "cortex-a76", "cortex-a78ae", "carmel", "aarch64"],
    },
    Isa { name: "portable", kernels: None, here: || false, also: &["generic", "x86-64", "x86-64-v2"] },
];

/// This machine, as `--target` calls it.
pub const NATIVE: &str = "native";

/// The best kernels that run here.
///
/// # Errors
/// None do.
pub fn native() -> Result<&'static Kernels, String> {
    let usable = ISAS.iter().filter(|isa| (isa.here)()).find_map(|isa| isa.kernels);
    usable.ok_or_else(|| format!("there are no kernels for this CPU; there are for {}", names()))
}

/// The kernels of a target: an instruction set, a CPU, or [`NATIVE`].
///
/// # Errors
/// It is not known, or this binary has none for it.
pub fn kernels_of(target: &str) -> Result<&'static Kernels, String> {
    if target == NATIVE {
        return native();
    }
    let word = target.to_lowercase();
    let isa = ISAS.iter().find(|isa| isa.name == word || isa.also.contains(&word.as_str()));
    let Some(isa) = isa else {
        let known: Vec<&str> = ISAS.iter().flat_map(|isa| [isa.name].into_iter().chain(isa.also.iter().copied())).collect();
        let near = crate::error::nearest(&word, known.iter().copied(), 1);
        let hint = near.first().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        return Err(format!("no target `{target}`; there are {NATIVE}, {}{hint}", known.join(", ")));
    };
    isa.kernels.ok_or_else(|| format!("{target} is {}, for which this binary has no kernels; it has {}", isa.name, names()))
}

/// Whether kernels run on this CPU.
pub fn runs_here(kernels: &Kernels) -> bool {
    ISAS.iter().any(|isa| isa.name == kernels.name && (isa.here)())
}

fn names() -> String {
    let names: Vec<&str> = ISAS.iter().filter(|isa| isa.kernels.is_some()).map(|isa| isa.name).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_cpus_are_instruction_sets() {
        assert!(kernels_of("Cortex-A99").unwrap_err().contains("did you mean `cortex-a"));
        for isa in ISAS {
            if let Some(kernels) = isa.kernels {
                assert_eq!(kernels.name, isa.name);
                assert!(isa.also.iter().chain([&isa.name]).all(|name| kernels_of(name).is_ok_and(|k| k.name == isa.name)));
            }
        }
    }
}
