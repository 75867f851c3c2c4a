//! Which (task, type) pairs of a package this binary can run, and as what.

use super::Error;
use crate::cache::PackageKind;

/// A family of networks that share input and output contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// One output `[1, 4 + classes, anchors]`: YOLOv8, 9, 11 and 12 detection.
    YoloV8Detection,
}

/// Types of `object-detection` packages by the prefix of their name, as in Roboflow's registry (SPEC Appendix B).
const DETECTION: &[(&str, Family)] = &[
    ("yolov8", Family::YoloV8Detection),
    ("yolov9", Family::YoloV8Detection),
    ("yolov11", Family::YoloV8Detection),
    ("yolov12", Family::YoloV8Detection),
];

/// Sizes that follow a prefix in Roboflow's registry (`yolov8n`, `yolov11b`).
const SIZES: &[&str] = &["", "n", "s", "m", "b", "l", "x"];

/// The family of a package.
///
/// # Errors
/// The pair is none this binary can run; the message lists those it can.
pub fn family(id: &str, kind: &PackageKind) -> Result<Family, Error> {
    let found = DETECTION.iter().find(|(prefix, _)| {
        kind.task == "object-detection"
            && kind.model_type.strip_prefix(prefix).is_some_and(|size| SIZES.contains(&size))
    });
    found.map(|(_, family)| *family).ok_or_else(|| Error::Unsupported {
        id: id.into(),
        task: kind.task.clone(),
        model_type: kind.model_type.clone(),
        supported: DETECTION.iter().map(|(prefix, _)| *prefix).collect::<Vec<_>>().join(", "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_part_of_the_type_and_other_families_are_refused() {
        let kind = |task: &str, model_type: &str| PackageKind { task: task.into(), model_type: model_type.into() };
        for model_type in ["yolov8", "yolov8n", "yolov9", "yolov11x", "yolov12s"] {
            assert!(family("a/1", &kind("object-detection", model_type)).is_ok(), "{model_type}");
        }
        for (task, model_type) in
            [("object-detection", "yolov10n"), ("object-detection", "yolov8n-seg"), ("classification", "yolov8n")]
        {
            let message = family("a/1", &kind(task, model_type)).unwrap_err().to_string();
            assert!(message.contains(task) && message.contains(model_type), "{message}");
        }
    }
}
