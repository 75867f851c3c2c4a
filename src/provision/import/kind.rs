//! Which task and type a network is: from its metadata where its exporter wrote some, else from the shapes of its outputs.

use super::facts::{Dim, Facts};

/// Ultralytics' words for tasks, and Roboflow's.
const TASKS: [(&str, &str); 5] = [
    ("detect", "object-detection"),
    ("segment", "instance-segmentation"),
    ("pose", "keypoint-detection"),
    ("classify", "classification"),
    ("semantic", "semantic-segmentation"),
];
/// Pixels that one anchor stands for, by level.
const STRIDES: [usize; 3] = [8, 16, 32];
/// Anchors of a place in YOLOv5 and YOLOv7.
const ANCHORS: usize = 3;
/// Mask coefficients of Ultralytics' segmentation heads.
const COEFFICIENTS: usize = 32;

/// Task and type, as far as they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kind {
    pub task: Option<String>,
    /// Roboflow's architecture, such as `yolov8`.
    pub model_type: Option<String>,
    /// Of which size it is, such as `yolov8n-seg`; for people.
    pub variant: Option<String>,
}

impl Kind {
    fn new(task: &str, model_type: &str) -> Self {
        Self { task: Some(task.into()), model_type: Some(model_type.into()), variant: None }
    }

    /// Of a network; what it does not say stays open.
    ///
    /// # Errors
    /// It says to be something that is not run here.
    pub fn of(facts: &Facts) -> Result<Self, String> {
        match facts.metadata.get("task") {
            Some(task) => ultralytics(facts, task),
            None => Ok(by_shape(facts).unwrap_or_default()),
        }
    }
}

fn ultralytics(facts: &Facts, word: &str) -> Result<Kind, String> {
    let known = TASKS.iter().find(|(theirs, _)| *theirs == word).map(|(_, ours)| *ours);
    let task = known.ok_or_else(|| {
        let known: Vec<&str> = TASKS.iter().map(|(theirs, _)| *theirs).collect();
        format!("its task is `{word}`, which is not run here; known are {}; --task and --type decide", known.join(", "))
    })?;
    let name = pretty_name(facts);
    if name.starts_with("rtdetr") || facts.metadata.get("head").is_some_and(|head| head == "RTDETRDecoder") {
        return Ok(Kind { variant: Some(name), ..Kind::new(task, "rtdetr") });
    }
    let (series, size) = series(&name);
    let model_type = match (task, ranked(facts, task), series) {
        ("classification", _, 11) => "yolov11",
        ("classification", ..) => "yolov8",
        ("semantic-segmentation", ..) => "yolo26",
        ("object-detection", true, 10) => "yolov10",
        // Rows that need no suppression have one form, whichever network or node made them.
        (_, true, _) => "yolo26",
        ("object-detection", _, 9) => "yolov9",
        ("object-detection", _, 12) => "yolov12",
        (_, _, 11) => "yolov11",
        // Ultralytics' YOLOv3, v5u and v6 answer as YOLOv8 does, and so does YOLO26 without its own head.
        _ => "yolov8",
    };
    let suffix = match word {
        "segment" => "-seg",
        "pose" => "-pose",
        "classify" => "-cls",
        "semantic" => "-sem",
        _ => "",
    };
    // Only where the type is of the series that the network is of: `yolov8` may stand for another.
    let of_series = model_type.ends_with(&series.to_string());
    let variant = size.filter(|_| of_series).map(|size| format!("{model_type}{size}{suffix}"));
    Ok(Kind { variant, ..Kind::new(task, model_type) })
}

/// `yolov8n-seg` of `Ultralytics YOLOv8n-seg model trained on coco.yaml`; empty where it says none.
pub(super) fn pretty_name(facts: &Facts) -> String {
    let description = facts.metadata.get("description").map(String::as_str).unwrap_or_default();
    let rest = description.strip_prefix("Ultralytics ").unwrap_or_default();
    rest.split(' ').next().unwrap_or_default().to_lowercase()
}

/// Number and letter of a name such as `yolov8n-seg`, `yolo11x` or `yolov9t`.
fn series(name: &str) -> (u32, Option<char>) {
    let rest = name.strip_prefix("yolo").unwrap_or_default();
    let rest = rest.strip_prefix('v').unwrap_or(rest);
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let size = rest[digits..].chars().next().filter(char::is_ascii_lowercase);
    (rest[..digits].parse().unwrap_or(0), size)
}

/// Whether the network answers the best so many candidates, a row each, and not one column an anchor.
fn ranked(facts: &Facts, task: &str) -> bool {
    let Some(&[_, _, columns]) = facts.outputs.first().map(|output| output.dims.as_slice()) else { return false };
    let points = facts
        .literal("kpt_shape")
        .ok()
        .flatten()
        .and_then(|shape| shape.list()?.iter().map(super::literal::Literal::count).product::<Option<usize>>());
    let extra = match task {
        "instance-segmentation" => COEFFICIENTS,
        "keypoint-detection" => points.unwrap_or_default(),
        _ => 0,
    };
    columns == Some(6 + extra)
}

/// Of networks without metadata: RF-DETR, YOLOX, YOLO-NAS, YOLOv5 and what else has a form of its own.
fn by_shape(facts: &Facts) -> Option<Kind> {
    let named = |name: &str| facts.outputs.iter().any(|output| output.name == name);
    if named("dets") && named("labels") {
        let task = match (named("masks"), named("keypoints"), facts.outputs.len()) {
            (true, ..) => "instance-segmentation",
            (_, true, _) => "keypoint-detection",
            (.., 2) => "object-detection",
            _ => return None,
        };
        return Some(Kind::new(task, "rfdetr"));
    }
    let outputs: Vec<&[Dim]> = facts.outputs.iter().map(|output| output.dims.as_slice()).collect();
    match outputs[..] {
        [&[_, rows, Some(4)], &[_, others, classes]] if rows == others && classes != Some(4) => {
            Some(Kind::new("object-detection", "yolonas"))
        }
        [&[_, _, _], &[_, _, _]] if named("pred_bboxes") && named("pred_scores") => {
            Some(Kind::new("object-detection", "yolonas"))
        }
        [&[_, Some(rows), Some(columns)]] => of_rows(rows, columns, places(facts)),
        [&[_, Some(rows), Some(columns)], &[_, Some(COEFFICIENTS), _, _]] => {
            let places = places(facts)?;
            match () {
                () if rows == ANCHORS * places => Some(Kind::new("instance-segmentation", "yolov5")),
                () if columns == places => Some(Kind::new("instance-segmentation", "yolov8")),
                () if columns == 6 + COEFFICIENTS => Some(Kind::new("instance-segmentation", "yolo26")),
                () => None,
            }
        }
        // Which of the classifiers it is decides how levels are normalised, and no shape tells.
        [&[_, _]] => Some(Kind { task: Some("classification".into()), ..Kind::default() }),
        _ => None,
    }
}

fn of_rows(rows: usize, columns: usize, places: Option<usize>) -> Option<Kind> {
    let places = places.unwrap_or_default();
    match (rows, columns) {
        (_, 6) if rows != places && rows != ANCHORS * places => Some(Kind::new("object-detection", "yolov10")),
        _ if places == 0 => None,
        (_, columns) if columns == places => Some(Kind::new("object-detection", "yolov8")),
        (rows, _) if rows == places => Some(Kind::new("object-detection", "yolox")),
        (rows, _) if rows == ANCHORS * places => Some(Kind::new("object-detection", "yolov5")),
        _ => None,
    }
}

/// Places of a picture at which something is looked for, where the input has a size.
fn places(facts: &Facts) -> Option<usize> {
    let [_, _, Some(height), Some(width)] = facts.input else { return None };
    Some(STRIDES.iter().map(|stride| (height / stride) * (width / stride)).sum())
}

#[cfg(test)]
mod tests {
    use super::super::facts::Output;
    use super::*;

    fn facts(outputs: &[(&str, &[usize])], metadata: &[(&str, &str)]) -> Facts {
        let output = |(name, dims): &(&str, &[usize])| Output {
            name: (*name).into(),
            dims: dims.iter().map(|&dim| Some(dim).filter(|&dim| dim > 0)).collect(),
        };
        Facts {
            metadata: metadata.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
            input: [Some(1), Some(3), Some(320), Some(320)],
            outputs: outputs.iter().map(output).collect(),
            ..Facts::default()
        }
    }

    fn told(facts: &Facts) -> (String, String, String) {
        let Kind { task, model_type, variant } = Kind::of(facts).unwrap();
        (task.unwrap_or_default(), model_type.unwrap_or_default(), variant.unwrap_or_default())
    }

    #[test]
    fn ultralytics_metadata_says_task_and_series() {
        for (description, task, dims, expected) in [
            ("Ultralytics YOLOv8n model ", "detect", &[1, 84, 2100][..], ["object-detection", "yolov8", "yolov8n"]),
            (
                "Ultralytics YOLO11s model trained on a.yaml",
                "detect",
                &[1, 5, 2100],
                ["object-detection", "yolov11", "yolov11s"],
            ),
            ("Ultralytics YOLOv10n model ", "detect", &[1, 300, 6], ["object-detection", "yolov10", "yolov10n"]),
            ("Ultralytics YOLO26n model ", "detect", &[1, 300, 6], ["object-detection", "yolo26", "yolo26n"]),
            ("Ultralytics YOLO26n model ", "detect", &[1, 84, 2100], ["object-detection", "yolov8", ""]),
            ("Ultralytics YOLOv5n model ", "detect", &[1, 84, 2100], ["object-detection", "yolov8", ""]),
            ("Ultralytics YOLO12n model ", "detect", &[1, 84, 2100], ["object-detection", "yolov12", "yolov12n"]),
            ("Ultralytics YOLOv9t model ", "detect", &[1, 84, 2100], ["object-detection", "yolov9", "yolov9t"]),
            (
                "Ultralytics YOLOv8n-seg model ",
                "segment",
                &[1, 116, 2100],
                ["instance-segmentation", "yolov8", "yolov8n-seg"],
            ),
            (
                "Ultralytics YOLO26n-seg model ",
                "segment",
                &[1, 300, 38],
                ["instance-segmentation", "yolo26", "yolo26n-seg"],
            ),
            (
                "Ultralytics YOLO11n-pose model ",
                "pose",
                &[1, 56, 2100],
                ["keypoint-detection", "yolov11", "yolov11n-pose"],
            ),
            ("Ultralytics YOLOv8n-cls model ", "classify", &[1, 1000], ["classification", "yolov8", "yolov8n-cls"]),
            ("Ultralytics rtdetr-l model ", "detect", &[1, 300, 6], ["object-detection", "rtdetr", "rtdetr-l"]),
            ("a name of somebody's own", "detect", &[1, 84, 2100], ["object-detection", "yolov8", ""]),
        ] {
            let facts = facts(&[("output0", dims)], &[("description", description), ("task", task)]);
            let (task, model_type, variant) = told(&facts);
            assert_eq!([task.as_str(), &model_type, &variant], expected, "{description}");
        }
        let pose = facts(&[("output0", &[1, 300, 57])], &[("task", "pose"), ("kpt_shape", "[17, 3]")]);
        assert_eq!(told(&pose).1, "yolo26");
        assert!(Kind::of(&facts(&[], &[("task", "obb")])).unwrap_err().contains("`obb`"));
    }

    #[test]
    fn shapes_tell_what_has_no_metadata() {
        for (outputs, expected) in [
            (&[("dets", &[1, 300, 4][..]), ("labels", &[1, 300, 91])][..], ("object-detection", "rfdetr")),
            (
                &[("dets", &[0, 0, 0]), ("labels", &[0, 0, 91]), ("masks", &[0, 0, 0, 0])],
                ("instance-segmentation", "rfdetr"),
            ),
            (&[("pred_bboxes", &[0, 0, 0]), ("pred_scores", &[0, 0, 0])], ("object-detection", "yolonas")),
            (&[("a", &[1, 2100, 4]), ("b", &[1, 2100, 3])], ("object-detection", "yolonas")),
            (&[("output", &[1, 2100, 85])], ("object-detection", "yolox")),
            (&[("output", &[1, 6300, 85])], ("object-detection", "yolov5")),
            (&[("output", &[1, 84, 2100])], ("object-detection", "yolov8")),
            (&[("output", &[1, 300, 6])], ("object-detection", "yolov10")),
            (&[("output", &[1, 6300, 6])], ("object-detection", "yolov5")),
            (&[("output", &[1, 116, 2100]), ("masks", &[1, 32, 80, 80])], ("instance-segmentation", "yolov8")),
            (&[("output", &[1, 10])], ("classification", "")),
            (&[("output", &[1, 7, 7, 7])], ("", "")),
        ] {
            let (task, model_type, _) = told(&facts(outputs, &[]));
            assert_eq!((task.as_str(), model_type.as_str()), expected, "{outputs:?}");
        }
    }
}
