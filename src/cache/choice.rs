//! Which of a model's packages runs on this board, and why the others do not.
//!
//! The order is that of Roboflow's auto-loader (`rank_model_packages`) among what runs here. Two things differ. On a
//! CPU the auto-loader takes no fp16 package unless asked to, and an int8 one never: both run here, so they come last
//! instead of not at all. And bf16, which it takes last, cannot be read by tract.

use std::cmp::Reverse;

use super::LayoutKind;
use super::manifest::Manifest;
use super::record::{RecordedPackage, Requirements};

/// The machine, as far as it decides which packages run on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Roboflow's names (`onnx`, `trt`, …) of the backends that run, best first.
    pub backends: Vec<String>,
    /// Release of a Jetson's Linux for Tegra, such as `36.3`.
    pub l4t_version: Option<String>,
    /// CUDA devices: name and compute capability, such as `8.7`.
    pub cuda_devices: Vec<(String, String)>,
}

impl Default for Host {
    /// A CPU that runs ONNX.
    fn default() -> Self {
        Self { backends: vec!["onnx".into()], l4t_version: None, cuda_devices: Vec::new() }
    }
}

/// A package that was not chosen.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PassedOver {
    pub layout: LayoutKind,
    /// Empty in the classic layout.
    pub package_id: String,
    pub backend: String,
    pub quantization: String,
    pub why: String,
}

/// Why a package cannot run on a host; `None` when it can.
pub(super) fn obstacle(manifest: &Manifest, recorded: Option<&RecordedPackage>, host: &Host) -> Option<String> {
    let needs = recorded.and_then(|recorded| recorded.requirements.as_ref());
    if !host.backends.contains(&manifest.backend) {
        let built = needs.map(|needs| format!("; it was built for {}", described(needs))).unwrap_or_default();
        let have = host.backends.join(", ");
        return Some(format!("its backend is {}, this binary runs {have} here{built}", manifest.backend));
    }
    if manifest.quantization == "bf16" && manifest.backend == "onnx" {
        return Some("its weights are bf16, which tract does not read".into());
    }
    // Roboflow, too, asks for a matching machine only where the weights were compiled for one.
    needs.filter(|_| manifest.backend != "onnx").and_then(|needs| mismatch(needs, host))
}

/// Sorts before another package's when it is to be preferred.
pub(super) fn rank(
    manifest: &Manifest,
    recorded: Option<&RecordedPackage>,
    package_id: &str,
    host: &Host,
) -> impl Ord + use<> {
    let backend = host.backends.iter().position(|backend| *backend == manifest.backend);
    let quantization = ["fp32", "unknown", "fp16", "int8"].iter().position(|known| *known == manifest.quantization);
    (
        // Thresholds fixed at export are not those of a request; the auto-loader passes such packages over.
        manifest.nms_fused,
        backend.unwrap_or(usize::MAX),
        quantization.unwrap_or(usize::MAX),
        !manifest.trusted,
        !manifest.dynamic_batch,
        // A larger batch is padded with images that nobody asked for.
        manifest.static_batch.unwrap_or(0),
        Reverse(recorded.and_then(|recorded| recorded.opset)),
        Reverse(package_id.to_owned()),
    )
}

fn mismatch(needs: &Requirements, host: &Host) -> Option<String> {
    let major_minor = |version: &str| version.split('.').take(2).map(str::to_owned).collect::<Vec<_>>();
    let same_l4t = match (&needs.l4t_version, &host.l4t_version) {
        (Some(wanted), Some(found)) => major_minor(wanted) == major_minor(found),
        (Some(_), None) => false,
        (None, _) => true,
    };
    let same_device = host.cuda_devices.iter().any(|(name, capability)| match needs.same_capability {
        true => needs.compute_capability.as_ref() == Some(capability),
        false => needs.device_name.as_ref() == Some(name),
    });
    (!same_l4t || !same_device).then(|| {
        let devices: Vec<String> =
            host.cuda_devices.iter().map(|(name, capability)| format!("{name} ({capability})")).collect();
        let devices = if devices.is_empty() { "no CUDA device".into() } else { devices.join(", ") };
        let l4t = host.l4t_version.as_deref().unwrap_or("none");
        format!("it was built for {}; this board has {devices}, L4T {l4t}", described(needs))
    })
}

fn described(needs: &Requirements) -> String {
    let known = |what: &str, value: &Option<String>| value.as_ref().map(|value| format!(", {what} {value}"));
    let parts = [
        known("device", &needs.device_name),
        known("compute capability", &needs.compute_capability),
        known("L4T", &needs.l4t_version),
    ];
    format!("{}{}", needs.kind, parts.into_iter().flatten().collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(backend: &str, quantization: &str, dynamic_batch: bool, static_batch: Option<usize>) -> Manifest {
        let (backend, quantization) = (backend.into(), quantization.into());
        Manifest { backend, quantization, dynamic_batch, static_batch, trusted: true, ..Manifest::default() }
    }

    #[test]
    fn packages_are_ranked_as_the_auto_loader_does_on_a_cpu() {
        let host = Host::default();
        let fused = Manifest { nms_fused: true, ..manifest("onnx", "fp32", true, None) };
        let best_first = [
            ("dyn", manifest("onnx", "fp32", true, None)),
            ("st1", manifest("onnx", "fp32", false, Some(1))),
            ("st4", manifest("onnx", "fp32", false, Some(4))),
            ("unknown", manifest("onnx", "unknown", true, None)),
            ("fp16", manifest("onnx", "fp16", true, None)),
            ("int8", manifest("onnx", "int8", true, None)),
            ("fused", fused),
        ];
        for pair in best_first.windows(2) {
            let [(a, first), (b, second)] = pair else { unreachable!() };
            assert!(rank(first, None, a, &host) < rank(second, None, b, &host), "{a} before {b}");
        }
        let opset = |opset| RecordedPackage { opset: Some(opset), ..RecordedPackage::default() };
        let package = &best_first[0].1;
        assert!(rank(package, Some(&opset(19)), "a", &host) < rank(package, Some(&opset(17)), "b", &host));
        assert!(rank(package, None, "b", &host) < rank(package, None, "a", &host));
    }

    #[test]
    fn obstacles_say_what_is_missing() {
        let host = Host::default();
        assert_eq!(obstacle(&manifest("onnx", "fp16", false, Some(8)), None, &host), None);
        assert!(obstacle(&manifest("onnx", "bf16", true, None), None, &host).unwrap().contains("bf16"));
        let recorded = RecordedPackage {
            requirements: Some(Requirements {
                kind: "jetson".into(),
                l4t_version: Some("36.3".into()),
                device_name: Some("orin".into()),
                compute_capability: Some("8.7".into()),
                same_capability: false,
            }),
            ..RecordedPackage::default()
        };
        let trt = manifest("trt", "fp16", false, Some(1));
        let why = obstacle(&trt, Some(&recorded), &host).unwrap();
        assert_eq!(
            why,
            "its backend is trt, this binary runs onnx here; it was built for jetson, device orin, compute capability \
             8.7, L4T 36.3"
        );
        let orin = Host {
            backends: vec!["trt".into(), "onnx".into()],
            l4t_version: Some("36.3.0".into()),
            cuda_devices: vec![("orin".into(), "8.7".into())],
        };
        assert_eq!(obstacle(&trt, Some(&recorded), &orin), None);
        let older = Host { l4t_version: Some("35.4".into()), ..orin.clone() };
        assert!(obstacle(&trt, Some(&recorded), &older).unwrap().contains("L4T 35.4"));
        let other = Host { cuda_devices: vec![("xavier".into(), "7.2".into())], ..orin };
        assert!(obstacle(&trt, Some(&recorded), &other).unwrap().contains("xavier (7.2)"));
        // A requirement on portable weights is not looked at, as in the auto-loader.
        assert_eq!(obstacle(&manifest("onnx", "fp32", true, None), Some(&recorded), &host), None);
    }
}
