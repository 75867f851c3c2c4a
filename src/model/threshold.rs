//! The confidence a class must reach.

use super::registry::{Family, Task};
use super::request::{Confidence, ConfidenceWord, Request};
use crate::cache::{Layout, Package};

/// Roboflow's default (SPEC §2.4).
const CONFIDENCE: f64 = 0.4;
/// What both engines take for a word in a request to a classifier of one label, and the default engine for `default`
/// with `DeepLabV3+` and `DINOv3`.
const CONFIDENCE_HALF: f64 = 0.5;
/// What the default engine takes for `default` with YOLO26, whatever the task, and with `YOLOLite` (SPEC
/// Appendix C).
const CONFIDENCE_QUARTER: f64 = 0.25;

/// One limit for all classes, or one each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold<'a> {
    pub uniform: f64,
    /// By class id; classes beyond its end have the uniform one.
    pub per_class: &'a [f32],
}

impl Threshold<'_> {
    /// The same for every class.
    #[must_use]
    pub fn uniform(limit: f64) -> Self {
        Self { uniform: limit, per_class: &[] }
    }

    /// The limit of a class as engines compare it: in 32-bit floats.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the engines' arrays hold 32-bit floats")]
    pub fn of(&self, class_id: u32) -> f32 {
        self.per_class.get(class_id as usize).copied().unwrap_or(self.uniform as f32)
    }
}

/// Whether a confidence that equals its limit passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    AtLeast,
    Above,
}

impl Bound {
    /// A confidence that is no number does not pass.
    #[must_use]
    pub fn passes(self, confidence: f32, limit: f32) -> bool {
        match self {
            Bound::AtLeast => confidence >= limit,
            Bound::Above => confidence > limit,
        }
    }
}

/// What a request's `confidence` means for one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds {
    /// Without a `confidence`.
    absent: f64,
    /// For the word `default`.
    default: f64,
    /// For the word `best`: for all classes, and for each where the package recommends so.
    best: f64,
    best_per_class: Vec<f32>,
}

impl Thresholds {
    /// For a package whose classes are named so.
    #[must_use]
    pub fn new(package: &Package, task: Task, family: Family, class_names: &[String]) -> Self {
        let Layout::ModelsCache(cached) = &package.layout else {
            // The classic engine takes a word for its default.
            let word = match task {
                Task::Classification | Task::MultiLabelClassification => CONFIDENCE_HALF,
                _ => CONFIDENCE,
            };
            return Self { absent: CONFIDENCE, default: word, best: word, best_per_class: Vec::new() };
        };
        let default = match (task, family) {
            (Task::Classification, _) | (_, Family::DeepLab | Family::DinoV3) => CONFIDENCE_HALF,
            (_, Family::Yolo26 | Family::YoloLite) => CONFIDENCE_QUARTER,
            _ => CONFIDENCE,
        };
        // Recommendations are not for classifiers of one label, and those for single classes count only beside one
        // for all.
        let recommended = cached.recommended.confidence.filter(|_| task != Task::Classification);
        let best = recommended.unwrap_or(default);
        #[expect(clippy::cast_possible_truncation, reason = "compared with 32-bit floats")]
        let limit = |name: &String| cached.recommended.per_class.get(name).copied().unwrap_or(best) as f32;
        let each = recommended.is_some() && !cached.recommended.per_class.is_empty();
        let best_per_class = if each { class_names.iter().map(limit).collect() } else { Vec::new() };
        Self { absent: CONFIDENCE, default, best, best_per_class }
    }

    /// The limits that a request asks for.
    #[must_use]
    pub fn of(&self, request: &Request) -> Threshold<'_> {
        match request.confidence {
            None => Threshold::uniform(self.absent),
            Some(Confidence::Number(limit)) => Threshold::uniform(limit),
            Some(Confidence::Word(ConfidenceWord::Default)) => Threshold::uniform(self.default),
            Some(Confidence::Word(ConfidenceWord::Best)) => {
                Threshold { uniform: self.best, per_class: &self.best_per_class }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Semantics;

    #[test]
    fn the_word_default_is_each_familys_own_limit_of_the_default_engine() {
        let limits = |task: Task, family, semantics: Semantics| {
            let kind = r#"{"project_task_type": "object-detection", "model_type": "yolov8n"}"#;
            let preprocessing = r#"{"PREPROCESSING": {}}"#;
            let package = Package::embedded("a/1", kind, preprocessing, "a\n", &[0]).unwrap();
            let thresholds = Thresholds::new(&semantics.read(package).unwrap(), task, family, &["a".into()]);
            let limit = |text: &str| thresholds.of(&Request::parse(text).unwrap()).of(0);
            [limit("{}"), limit(r#"{"confidence": "default"}"#), limit(r#"{"confidence": "best"}"#)]
        };
        let (boxes, map) = (Task::ObjectDetection, Task::SemanticSegmentation);
        assert_eq!(limits(boxes, Family::YoloV8, Semantics::Default), [0.4; 3]);
        for (task, family) in [(boxes, Family::Yolo26), (map, Family::Yolo26), (boxes, Family::YoloLite)] {
            assert_eq!(limits(task, family, Semantics::Default), [0.4, 0.25, 0.25]);
        }
        assert_eq!(limits(map, Family::DeepLab, Semantics::Default), [0.4, 0.5, 0.5]);
        assert_eq!(limits(map, Family::RfDetr, Semantics::Default), [0.4; 3]);
        assert_eq!(limits(boxes, Family::Yolo26, Semantics::Classic), [0.4; 3]);
    }
}
