//! What holds for every head: any numbers are decoded without a panic into answers within bounds, and outputs of
//! another shape are refused by a message that names what was expected and what was found.

use super::*;
use crate::cache::{
    ColorMode, InferenceConfig, Layout, ModelsCache, NetworkInput, PostProcessing, Preprocessing, Recommended,
    ResizeMode, Skeleton,
};
use crate::frame::{CropPercent, Region, Size};
use crate::model::transform::Fit;
use crate::model::{Answer, Predictions, Threshold};
use crate::random::Random;

const CLASSES: usize = 3;
const POINTS: usize = 2;
const NETWORK: Size = Size { width: 64, height: 48 };
const INPUT: InputShape = InputShape { batch: 1, channels: 3, height: NETWORK.height, width: NETWORK.width };
const IMAGE: Size = Size { width: 90, height: 70 };

/// A contract and the outputs of a network that keeps it.
struct Example {
    task: Task,
    family: Family,
    outputs: Vec<Vec<usize>>,
}

fn examples() -> Vec<Example> {
    let example = |task, family, outputs: &[&[usize]]| Example {
        task,
        family,
        outputs: outputs.iter().map(|shape| shape.to_vec()).collect(),
    };
    let (boxes, masks, pose) = (Task::ObjectDetection, Task::InstanceSegmentation, Task::KeypointDetection);
    let protos: &[usize] = &[32, 12, 16];
    vec![
        example(boxes, Family::YoloV5, &[&[40, 8]]),
        example(boxes, Family::YoloV8, &[&[7, 40]]),
        example(boxes, Family::YoloV10, &[&[30, 6]]),
        example(boxes, Family::Yolo26, &[&[30, 6]]),
        example(boxes, Family::YoloNas, &[&[40, 4], &[40, 3]]),
        example(boxes, Family::YoloLite, &[&[40, 4], &[40, 1], &[40, 3]]),
        example(boxes, Family::RfDetr, &[&[20, 4], &[20, 3]]),
        example(boxes, Family::YoloX, &[&[62, 8]]),
        example(boxes, Family::RtDetr, &[&[30, 7]]),
        example(boxes, Family::RtDetr, &[&[30, 6]]),
        example(masks, Family::YoloV5, &[&[40, 40], protos]),
        example(masks, Family::YoloV7, &[&[40, 40], &[1], &[1], &[1], protos]),
        example(masks, Family::YoloV8, &[&[39, 40], protos]),
        example(masks, Family::Yolo26, &[&[30, 38], protos]),
        example(masks, Family::RfDetr, &[&[20, 4], &[20, 3], &[20, 12, 16]]),
        example(pose, Family::YoloV8, &[&[13, 40]]),
        example(pose, Family::Yolo26, &[&[30, 12]]),
        example(pose, Family::RfDetr, &[&[20, 4], &[20, 3], &[20, 6, 8]]),
        example(Task::Classification, Family::Vit, &[&[3]]),
        example(Task::MultiLabelClassification, Family::ResNet, &[&[3]]),
        example(Task::SemanticSegmentation, Family::DeepLab, &[&[3, 48, 64]]),
        example(Task::SemanticSegmentation, Family::Yolo26, &[&[3, 48, 64]]),
        example(Task::SemanticSegmentation, Family::RfDetr, &[&[3, 12, 16]]),
    ]
}

fn package(semantics: Semantics) -> Package {
    let kind = r#"{"project_task_type": "object-detection", "model_type": "yolov8n"}"#;
    let mut package = Package::embedded("a/1", kind, r#"{"PREPROCESSING": {}}"#, "background\nb\nc\n", &[0]).unwrap();
    let names = |count: usize| (0..count).map(|point| format!("p{point}")).collect();
    package.keypoints =
        (0..CLASSES).map(|class_id| Skeleton { class_id, names: names(POINTS), edges: vec![(0, 1)] }).collect();
    package.layout = match semantics {
        Semantics::Classic => Layout::Classic { preprocessing: Preprocessing::default(), multiclass: false },
        Semantics::Default => Layout::ModelsCache(Box::new(ModelsCache {
            package_id: "p".into(),
            backend: "onnx".into(),
            quantization: "fp32".into(),
            config: InferenceConfig {
                static_crop: None,
                contrast: None,
                grayscale: false,
                network_input: NetworkInput {
                    size: Some(NETWORK),
                    dataset_size: None,
                    color: ColorMode::Rgb,
                    resize: ResizeMode::Letterbox,
                    padding: 0.0,
                    scaling: Some(255.0),
                    normalization: None,
                },
                static_batch: Some(1),
                post_processing: PostProcessing::default(),
                removed_classes: Vec::new(),
            },
            recommended: Recommended::default(),
        })),
    };
    package
}

/// Numbers of which many are none: picked from the strange and the plausible.
struct Noise(Random);

impl Noise {
    fn value(&mut self) -> f32 {
        const STRANGE: [f32; 12] = [
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            f32::MIN,
            -0.0,
            1e-45,
            1e20,
            -1e20,
            0.4,
            1.0,
            4_294_967_296.0,
        ];
        let roll = self.0.bits();
        match roll % 8 {
            0 => STRANGE[(roll >> 8) as usize % STRANGE.len()],
            1..=3 => (roll >> 40) as f32 / (1 << 24) as f32,
            _ => ((roll >> 40) as f32 / (1 << 24) as f32) * 150.0 - 40.0,
        }
    }
}

fn transforms() -> Vec<Transform> {
    let whole = Region { left: 0, top: 0, width: IMAGE.width, height: IMAGE.height };
    let crop = Region { left: 9, top: 7, width: 45, height: 35 };
    let percent = CropPercent { x_min: 10.0, x_max: 60.0, y_min: 10.0, y_max: 60.0 };
    let transform = |fit, crop, percent: Option<CropPercent>, pad, scale| Transform {
        image: IMAGE,
        crop,
        crop_percent: percent,
        cropped: percent.is_some(),
        fit,
        network: NETWORK,
        pad,
        scale,
    };
    vec![
        transform(Fit::Stretch, whole, None, [0; 4], (64.0 / 90.0, 48.0 / 70.0)),
        transform(Fit::Letterbox, whole, None, [1, 0, 2, 0], (48.0 / 70.0, 48.0 / 70.0)),
        transform(Fit::Letterbox, crop, Some(percent), [1, 0, 2, 0], (48.0 / 35.0, 48.0 / 35.0)),
        transform(Fit::CenterCrop, whole, None, [-13, -11, -13, -11], (1.0, 1.0)),
    ]
}

fn requests() -> Vec<Request> {
    let parse = |text: &str| Request::parse(text).unwrap();
    vec![
        parse("{}"),
        parse(r#"{"confidence": 0.0, "iou_threshold": 1.0, "max_detections": 7}"#),
        parse(r#"{"confidence": -1.0, "class_agnostic_nms": true, "mask_decode_mode": "fast"}"#),
        parse(r#"{"confidence": 0.01, "mask_decode_mode": "tradeoff", "tradeoff_factor": 0.3, "max_detections": 0}"#),
        parse(
            r#"{"confidence": 0.01, "response_mask_format": "rle", "allow_reduced_mask_resolution": true,
                  "mask_decode_mode": "tradeoff", "tradeoff_factor": 0.7, "class_filter": ["b"]}"#,
        ),
    ]
}

#[test]
fn any_numbers_are_decoded_into_answers_within_bounds() {
    let mut noise = Noise(Random::new(1));
    let mut decoded = 0;
    for (example, semantics) in
        examples().iter().flat_map(|example| [(example, Semantics::Classic), (example, Semantics::Default)])
    {
        let package = package(semantics);
        let contract = Contract { task: example.task, family: example.family };
        let labels = Labels::of(&package, contract);
        let setup =
            Setup { contract, semantics, package: &package, labels: &labels, input: INPUT, outputs: &example.outputs };
        let mut head = head(&setup).unwrap_or_else(|error| panic!("{contract:?} {semantics:?}: {error}"));
        for (transform, request) in transforms().iter().flat_map(|t| requests().into_iter().map(move |r| (*t, r))) {
            let data: Vec<Vec<f32>> = example
                .outputs
                .iter()
                .map(|shape| (0..shape.iter().product()).map(|_| noise.value()).collect())
                .collect();
            let outputs: Vec<TensorView<'_>> =
                example.outputs.iter().zip(&data).map(|(shape, data)| TensorView { shape, data }).collect();
            let threshold = Threshold::uniform(match request.confidence {
                Some(crate::model::Confidence::Number(limit)) => limit,
                _ => 0.4,
            });
            let mut predictions = Predictions::default();
            predictions.clear(IMAGE);
            let job = Job { outputs: &outputs, transform: &transform, request: &request, threshold, labels: &labels };
            head.decode(&job, &mut predictions).unwrap();
            check(&predictions, &labels, &format!("{contract:?} {semantics:?} {transform:?} {request:?}"));
            decoded += predictions.detections.len() + predictions.classes.len() + predictions.class_map.class_ids.len();
        }
    }
    assert!(decoded > 1_000, "only {decoded} things were decoded");
}

fn check(predictions: &Predictions, labels: &Labels, what: &str) {
    let grid = predictions.mask_grid.unwrap_or(predictions.image);
    let (width, height) = (grid.width as f64, grid.height as f64);
    for detection in &predictions.detections {
        let [left, top, right, bottom] = detection.corners;
        assert!((0.0..=width).contains(&left) && (0.0..=width).contains(&right), "{what}: {detection:?}");
        assert!((0.0..=height).contains(&top) && (0.0..=height).contains(&bottom), "{what}: {detection:?}");
        assert!(detection.confidence.is_finite(), "{what}: {detection:?}");
    }
    assert!(predictions.points.iter().flatten().all(|side| side.is_finite()), "{what}");
    assert!(predictions.keypoints.iter().all(|point| point.x.is_finite() && point.y.is_finite()), "{what}");
    if labels.task == Task::SemanticSegmentation {
        assert_eq!(predictions.class_map.class_ids.len(), IMAGE.width * IMAGE.height, "{what}");
    }
    let text = serde_json::to_string(&Answer { predictions, labels, with_ids: true, tracks: &[] }).unwrap();
    let classes = matches!(labels.task, Task::Classification | Task::MultiLabelClassification);
    assert!(classes || !text.contains("null"), "{what}: {text}");
}

#[test]
fn other_shapes_are_refused_by_name() {
    for (example, semantics) in
        examples().iter().flat_map(|example| [(example, Semantics::Classic), (example, Semantics::Default)])
    {
        let package = package(semantics);
        let contract = Contract { task: example.task, family: example.family };
        let labels = Labels::of(&package, contract);
        let message = |outputs: &[Vec<usize>]| {
            let setup = Setup { contract, semantics, package: &package, labels: &labels, input: INPUT, outputs };
            head(&setup).err().unwrap_or_else(|| panic!("{contract:?} {semantics:?} takes {outputs:?}")).to_string()
        };
        let none = message(&[]);
        assert!(none.contains("expected") && none.contains("[]"), "{none}");
        let scalar = message(&[vec![]]);
        assert!(scalar.contains("expected") || scalar.contains("classes"), "{scalar}");
        for axis in 0..example.outputs[0].len() {
            let mut deeper = example.outputs.clone();
            deeper[0].insert(axis, 5);
            let found = message(&deeper);
            assert!(found.contains(&format!("{:?}", deeper[0])), "{found}");
        }
        // One class or coefficient more than there are names.
        let mut wider = example.outputs.clone();
        let (scores, axis) = match example.family {
            // Networks of these may know more classes than are named, or fewer.
            Family::RfDetr | Family::DeepLab => continue,
            _ if example.task == Task::SemanticSegmentation => continue,
            Family::RtDetr if wider[0][1] == 6 => continue,
            Family::YoloNas => (1, 1),
            Family::YoloLite => (2, 1),
            Family::YoloV8 if !matches!(example.task, Task::Classification) => (0, 0),
            _ => (0, wider[0].len() - 1),
        };
        wider[scores][axis] += 2;
        let found = message(&wider);
        assert!(found.contains("expected") || found.contains("names"), "{found}");
    }
}

#[test]
fn an_axis_of_no_length_is_refused_or_sees_nothing() {
    for (example, semantics) in
        examples().iter().flat_map(|example| [(example, Semantics::Classic), (example, Semantics::Default)])
    {
        let package = package(semantics);
        let contract = Contract { task: example.task, family: example.family };
        let labels = Labels::of(&package, contract);
        for (output, axis) in example
            .outputs
            .iter()
            .enumerate()
            .flat_map(|(output, shape)| (0..shape.len()).map(move |axis| (output, axis)))
        {
            let mut shapes = example.outputs.clone();
            shapes[output][axis] = 0;
            let setup =
                Setup { contract, semantics, package: &package, labels: &labels, input: INPUT, outputs: &shapes };
            let Ok(mut head) = head(&setup) else { continue };
            let data: Vec<Vec<f32>> = shapes.iter().map(|shape| vec![0.9; shape.iter().product()]).collect();
            let outputs: Vec<TensorView<'_>> =
                shapes.iter().zip(&data).map(|(shape, data)| TensorView { shape, data }).collect();
            let (transform, request) = (transforms()[0], Request::default());
            let threshold = Threshold::uniform(0.4);
            let mut predictions = Predictions::default();
            predictions.clear(IMAGE);
            let job = Job { outputs: &outputs, transform: &transform, request: &request, threshold, labels: &labels };
            // An output that nothing is read from may be empty; what matters is that nothing is made up, or panics.
            if head.decode(&job, &mut predictions).is_ok() && !predictions.detections.is_empty() {
                assert!(output > 0, "{contract:?} {semantics:?} {shapes:?}: {:?}", predictions.detections);
            }
        }
    }
}
