//! Which of a model's packages runs on this board, and why the others do not.
//!
//! The order is that of Roboflow's auto-loader (`rank_model_packages`) among what runs here. Two things differ. On a
//! CPU the auto-loader takes no fp16 package unless asked to, and an int8 one never: both run here, so they come last
//! instead of not at all. And bf16, which it takes last, cannot be read by tract.

use std::cmp::Reverse;
use std::sync::{Arc, LazyLock};

use super::LayoutKind;
use super::manifest::Manifest;
use super::record::{RecordedPackage, Requirements};

/// Roboflow's name of the backend whose packages hold an engine of TensorRT.
pub(super) const TENSORRT: &str = "trt";

/// Quantizations of engines that are used: they are judged by answers in numbers, and nothing says how far one in bytes may
/// be off.
const ENGINE_QUANTIZATIONS: [&str; 3] = ["fp32", "fp16", "unknown"];

/// The machine, as far as it decides which packages run on it.
#[derive(Clone, Debug)]
pub struct Host {
    /// Roboflow's names (`onnx`, `trt`, …) of the backends that run, best first.
    pub backends: Vec<String>,
    /// Release of a Jetson's Linux for Tegra, such as `36.3`.
    pub l4t_version: Option<String>,
    pub cuda: Lazily<Cuda>,
}

/// What is looked at only where a package asks for it: a GPU takes seconds to wake.
pub type Lazily<T> = Arc<LazyLock<T, Box<dyn FnOnce() -> T + Send>>>;

/// What NVIDIA's libraries say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cuda {
    /// Name, as Roboflow writes it (see [`Cuda::device_name`]), and compute capability, such as `8.7`.
    pub devices: Vec<(String, String)>,
    /// Version of a TensorRT that engines of packages can be given to, such as `10.3.0`.
    pub tensorrt: Option<String>,
}

impl Cuda {
    /// A device's name as Roboflow records it: `NVIDIA A10G` is `nvidia-a10g`.
    #[must_use]
    pub fn device_name(name: &str) -> String {
        name.replace(' ', "-").to_lowercase()
    }
}

impl Default for Host {
    /// A CPU that runs ONNX.
    fn default() -> Self {
        let cuda: Box<dyn FnOnce() -> Cuda + Send> = Box::new(Cuda::default);
        Self { backends: vec!["onnx".into()], l4t_version: None, cuda: Arc::new(LazyLock::new(cuda)) }
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
    let is_engine = manifest.backend == TENSORRT;
    let runs = host.backends.contains(&manifest.backend) || is_engine && host.cuda.tensorrt.is_some();
    if !runs {
        let built = needs.map(|needs| format!("; it was built for {}", described(needs))).unwrap_or_default();
        let have = host.backends.join(", ");
        return Some(format!("its backend is {}, this binary runs {have} here{built}", manifest.backend));
    }
    if manifest.quantization == "bf16" && manifest.backend == "onnx" {
        return Some("its weights are bf16, which tract does not read".into());
    }
    if is_engine && !ENGINE_QUANTIZATIONS.contains(&manifest.quantization.as_str()) {
        let used = ENGINE_QUANTIZATIONS.join(", ");
        return Some(format!("its engine is {}; those that are {used} are used", manifest.quantization));
    }
    // Roboflow, too, asks for a matching machine only where the weights were compiled for one.
    match needs {
        None if is_engine => Some("nothing is recorded of the machine that it was built for".into()),
        Some(needs) if manifest.backend != "onnx" => mismatch(needs, host),
        _ => None,
    }
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
    let same_device = host.cuda.devices.iter().any(|(name, capability)| match needs.same_capability {
        true => needs.compute_capability.as_ref() == Some(capability),
        false => needs.device_name.as_ref() == Some(name),
    });
    // A package's version may have a fourth number, of the build, which the library does not say of itself.
    let release =
        |version: &str| version.split('.').take(3).map(|part| part.parse().ok()).collect::<Vec<Option<u32>>>();
    let same_tensorrt = match (&needs.tensorrt_version, &host.cuda.tensorrt) {
        (Some(wanted), Some(found)) if needs.forward_compatible => release(wanted) <= release(found),
        (Some(wanted), Some(found)) => release(wanted) == release(found),
        (Some(_), None) => false,
        (None, _) => true,
    };
    (!same_l4t || !same_device || !same_tensorrt).then(|| {
        let devices: Vec<String> =
            host.cuda.devices.iter().map(|(name, capability)| format!("{name} ({capability})")).collect();
        let devices = if devices.is_empty() { "no CUDA device".into() } else { devices.join(", ") };
        let l4t = host.l4t_version.as_deref().unwrap_or("none");
        let tensorrt = host.cuda.tensorrt.as_deref().unwrap_or("none");
        format!("it was built for {}; this board has {devices}, L4T {l4t}, TensorRT {tensorrt}", described(needs))
    })
}

fn described(needs: &Requirements) -> String {
    let known = |what: &str, value: &Option<String>| value.as_ref().map(|value| format!(", {what} {value}"));
    let parts = [
        known("device", &needs.device_name),
        known("compute capability", &needs.compute_capability),
        known("L4T", &needs.l4t_version),
        known("TensorRT", &needs.tensorrt_version),
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
        let recorded = built_for_an_orin();
        let trt = manifest("trt", "fp16", false, Some(1));
        let why = obstacle(&trt, Some(&recorded), &host).unwrap();
        assert_eq!(
            why,
            "its backend is trt, this binary runs onnx here; it was built for jetson, device orin, compute capability \
             8.7, L4T 36.3, TensorRT 10.3.0.30"
        );
        // A requirement on portable weights is not looked at, as in the auto-loader.
        assert_eq!(obstacle(&manifest("onnx", "fp32", true, None), Some(&recorded), &host), None);
    }

    fn built_for_an_orin() -> RecordedPackage {
        let requirements = Requirements {
            kind: "jetson".into(),
            l4t_version: Some("36.3".into()),
            device_name: Some("orin".into()),
            compute_capability: Some("8.7".into()),
            tensorrt_version: Some("10.3.0.30".into()),
            ..Requirements::default()
        };
        RecordedPackage { requirements: Some(requirements), ..RecordedPackage::default() }
    }

    fn host(l4t: &str, device: (&str, &str), tensorrt: &str) -> Host {
        let (name, capability) = device;
        let cuda =
            Cuda { devices: vec![(Cuda::device_name(name), capability.into())], tensorrt: Some(tensorrt.into()) };
        let cuda: Box<dyn FnOnce() -> Cuda + Send> = Box::new(|| cuda);
        Host { l4t_version: Some(l4t.into()), cuda: Arc::new(LazyLock::new(cuda)), ..Host::default() }
    }

    #[test]
    fn an_engine_runs_only_on_the_machine_it_was_built_for() {
        let trt = manifest("trt", "fp16", false, Some(1));
        let mut recorded = built_for_an_orin();
        let orin = || host("36.3.0", ("Orin", "8.7"), "10.3.0");
        let why = |recorded: &RecordedPackage, host: &Host| obstacle(&trt, Some(recorded), host).unwrap_or_default();
        assert_eq!(why(&recorded, &orin()), "");
        assert!(why(&recorded, &host("35.4", ("Orin", "8.7"), "10.3.0")).contains("L4T 35.4"));
        assert!(why(&recorded, &host("36.3", ("xavier", "7.2"), "10.3.0")).contains("has xavier (7.2)"));
        assert!(why(&recorded, &host("36.3", ("Orin", "8.7"), "10.7.0")).ends_with("TensorRT 10.7.0"));
        let needs = recorded.requirements.as_mut().unwrap();
        needs.forward_compatible = true;
        assert_eq!(why(&recorded, &host("36.3", ("Orin", "8.7"), "10.7.0")), "");
        assert!(why(&recorded, &host("36.3", ("Orin", "8.7"), "8.6.2")).ends_with("TensorRT 8.6.2"));
        recorded.requirements.as_mut().unwrap().same_capability = true;
        assert_eq!(why(&recorded, &host("36.3", ("another", "8.7"), "10.3.0")), "");
        assert!(why(&recorded, &host("36.3", ("Orin", "8.6"), "10.3.0")).contains("orin (8.6)"));
        assert!(why(&RecordedPackage::default(), &orin()).contains("nothing is recorded"));
        let int8 = manifest("trt", "int8", false, Some(1));
        assert!(obstacle(&int8, Some(&recorded), &orin()).unwrap().contains("its engine is int8"));
    }

    #[test]
    fn a_gpu_is_not_woken_where_no_package_asks() {
        let cuda: Box<dyn FnOnce() -> Cuda + Send> = Box::new(|| unreachable!("nobody asked"));
        let host = Host { cuda: Arc::new(LazyLock::new(cuda)), ..Host::default() };
        assert_eq!(obstacle(&manifest("onnx", "fp32", true, None), Some(&built_for_an_orin()), &host), None);
        assert!(obstacle(&manifest("torch", "fp32", true, None), None, &host).is_some());
    }
}
