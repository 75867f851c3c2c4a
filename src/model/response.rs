//! Roboflow's response objects (SPEC §3.3): every field, in Roboflow's order, left out where Roboflow leaves it out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};
use uuid::Uuid;

use super::family::rounded;
use super::labels::Labels;
use super::predictions::{ClassScore, Detection, Keypoint, Predictions, Shape};
use super::registry::Task;
use crate::engine::TensorInfo;
use crate::frame::Size;

/// The part of a response that says what was seen: `image`, `predictions` and what a task adds.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    pub predictions: &'a Predictions,
    pub labels: &'a Labels,
    /// Ids are for answers to a client; the loop's lines do without.
    pub with_ids: bool,
    /// Track of each detection in their order, `None` for one that has none; empty where nothing is tracked.
    pub tracks: &'a [Option<u64>],
}

impl Serialize for Answer<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Answer { predictions, labels, .. } = *self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("image", &predictions.mask_grid.unwrap_or(predictions.image))?;
        match labels.task {
            Task::ObjectDetection | Task::InstanceSegmentation | Task::KeypointDetection => {
                map.serialize_entry(
                    "predictions",
                    &Sequence(|| {
                        let tracks = self.tracks.iter().copied().chain(std::iter::repeat(None));
                        let entry = |(detection, track)| DetectionEntry { detection, track, answer: self };
                        predictions.detections.iter().zip(tracks).map(entry)
                    }),
                )?;
                if let Some(grid) = predictions.mask_grid {
                    map.serialize_entry("original_image", &predictions.image)?;
                    map.serialize_entry("mask_metadata", &MaskMetadata::new(grid, predictions.image))?;
                }
            }
            Task::Classification => {
                map.serialize_entry(
                    "predictions",
                    &sequence(&predictions.classes, |class| ClassEntry {
                        class: labels.class_name(class.class_id).unwrap_or_default(),
                        class_id: class.class_id,
                        confidence: rounded(class.score),
                    }),
                )?;
                let top = predictions.classes.first();
                let name = top.and_then(|top| labels.class_name(top.class_id)).unwrap_or_default();
                map.serialize_entry("top", name)?;
                map.serialize_entry("confidence", &top.map_or(0.0, |top| rounded(top.score)))?;
            }
            Task::MultiLabelClassification => {
                map.serialize_entry("predictions", &LabelMap(self))?;
                let predicted = || predictions.classes.iter().filter(|class| class.predicted);
                map.serialize_entry(
                    "predicted_classes",
                    &Sequence(|| predicted().map(|class| labels.class_name(class.class_id).unwrap_or_default())),
                )?;
            }
            Task::SemanticSegmentation => map.serialize_entry("predictions", &SemanticEntry::new(self))?,
            Task::Raw => map.serialize_entry("predictions", &Sequence(|| OutputEntry::all(self)))?,
        }
        map.end()
    }
}

/// Serialises what an iterator yields, without a list in between.
struct Sequence<F>(F);

impl<I: Iterator<Item: Serialize>, F: Fn() -> I> Serialize for Sequence<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for entry in self.0() {
            list.serialize_element(&entry)?;
        }
        list.end()
    }
}

/// Every entry of a list in another form.
fn sequence<'a, T, E: Serialize>(entries: &'a [T], form: impl Fn(&'a T) -> E + Copy + 'a) -> impl Serialize + 'a {
    Sequence(move || entries.iter().map(form))
}

struct DetectionEntry<'a> {
    detection: &'a Detection,
    track: Option<u64>,
    answer: &'a Answer<'a>,
}

impl Serialize for DetectionEntry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Answer { predictions, labels, with_ids, .. } = *self.answer;
        let [x, y, width, height] = self.detection.center_and_size();
        let class_id = self.detection.class_id;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("x", &x)?;
        map.serialize_entry("y", &y)?;
        map.serialize_entry("width", &width)?;
        map.serialize_entry("height", &height)?;
        // Widened, not rounded: Roboflow's confidences are f32 that Python prints as f64.
        map.serialize_entry("confidence", &f64::from(self.detection.confidence))?;
        match labels.class_name(class_id) {
            Some(name) => map.serialize_entry("class", name)?,
            None => map.serialize_entry("class", &format_args!("{class_id}"))?,
        }
        map.serialize_entry("class_id", &class_id)?;
        if with_ids {
            map.serialize_entry("detection_id", &Uuid::new_v4())?;
        }
        if let Some(track) = self.track {
            map.serialize_entry("tracker_id", &track)?;
        }
        match self.detection.shape {
            Shape::Box => {}
            Shape::Polygon(span) => {
                let points = &predictions.points[span.range()];
                map.serialize_entry("points", &sequence(points, |&[x, y]| Point { x, y }))?;
                map.serialize_entry("mask_format", "polygon")?;
            }
            Shape::Mask(span) => {
                let Size { width, height } = predictions.mask_grid.unwrap_or(predictions.image);
                let counts = &predictions.rle[span.range()];
                map.serialize_entry("rle", &RunLengths { size: [height, width], counts })?;
                map.serialize_entry("mask_format", "rle")?;
            }
            Shape::Keypoints(span) => {
                let names = labels.skeleton(class_id).map_or(&[][..], |skeleton| &skeleton.names);
                let points = &predictions.keypoints[span.range()];
                map.serialize_entry("keypoints", &sequence(points, |point| KeypointEntry::new(point, names)))?;
            }
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Point {
    x: f64,
    y: f64,
}

#[derive(Serialize)]
struct RunLengths<'a> {
    /// Height, width.
    size: [usize; 2],
    counts: &'a str,
}

#[derive(Serialize)]
struct KeypointEntry<'a> {
    x: f64,
    y: f64,
    confidence: f64,
    class_id: u32,
    class: &'a str,
}

impl<'a> KeypointEntry<'a> {
    fn new(point: &Keypoint, names: &'a [String]) -> Self {
        let class = names.get(point.id as usize).map_or("", String::as_str);
        Self { x: point.x, y: point.y, confidence: f64::from(point.confidence), class_id: point.id, class }
    }
}

/// How coordinates on a mask grid become those of the image.
#[derive(Serialize)]
struct MaskMetadata {
    coordinate_system: &'static str,
    width: usize,
    height: usize,
    scale_x: f64,
    scale_y: f64,
}

impl MaskMetadata {
    fn new(grid: Size, image: Size) -> Self {
        let scale = |image: usize, grid: usize| image as f64 / grid as f64;
        Self {
            coordinate_system: "mask_grid",
            width: grid.width,
            height: grid.height,
            scale_x: scale(image.width, grid.width),
            scale_y: scale(image.height, grid.height),
        }
    }
}

#[derive(Serialize)]
struct ClassEntry<'a> {
    class: &'a str,
    class_id: u32,
    confidence: f64,
}

/// Every class of a classifier of many labels, under its name.
struct LabelMap<'a>(&'a Answer<'a>);

impl Serialize for LabelMap<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Entry {
            confidence: f64,
            class_id: u32,
        }
        let Answer { predictions, labels, .. } = *self.0;
        let mut map = serializer.serialize_map(Some(predictions.classes.len()))?;
        for &ClassScore { class_id, score, .. } in &predictions.classes {
            let name = labels.class_name(class_id).unwrap_or_default();
            map.serialize_entry(name, &Entry { confidence: f64::from(score), class_id })?;
        }
        map.end()
    }
}

/// One output as it is, in C order.
#[derive(Serialize)]
struct OutputEntry<'a> {
    name: &'a str,
    shape: &'a [usize],
    values: &'a [f32],
}

impl<'a> OutputEntry<'a> {
    fn all(answer: &Answer<'a>) -> impl Iterator<Item = Self> {
        let mut rest = answer.predictions.values.as_slice();
        answer.labels.outputs.iter().map(move |TensorInfo { name, shape }| {
            let (values, after) = rest.split_at(shape.iter().product::<usize>().min(rest.len()));
            rest = after;
            Self { name, shape, values }
        })
    }
}

/// A semantic map: two grey PNGs, and what their levels mean.
#[derive(Serialize)]
struct SemanticEntry<'a> {
    segmentation_mask: String,
    class_map: ClassMapEntry<'a>,
    confidence_mask: String,
    present_class_ids: Vec<u8>,
}

impl<'a> SemanticEntry<'a> {
    fn new(answer: &Answer<'a>) -> Self {
        let map = &answer.predictions.class_map;
        let mut present = [false; 256];
        map.class_ids.iter().for_each(|&class| present[usize::from(class)] = true);
        Self {
            segmentation_mask: png_base64(&map.class_ids, map.size),
            class_map: ClassMapEntry(answer.labels),
            confidence_mask: png_base64(&map.confidence, map.size),
            present_class_ids: (0..=u8::MAX).filter(|&class| present[usize::from(class)]).collect(),
        }
    }
}

/// Class names by id.
struct ClassMapEntry<'a>(&'a Labels);

impl Serialize for ClassMapEntry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.class_names.iter().enumerate().map(|(id, name)| (id.to_string(), name)))
    }
}

/// Levels of a picture of `size` as a grey PNG in base64; empty where there are not as many.
fn png_base64(levels: &[u8], size: Size) -> String {
    let mut png = Vec::new();
    let [width, height] = [size.width, size.height].map(|side| u32::try_from(side).unwrap_or(0));
    match PngEncoder::new(&mut png).write_image(levels, width, height, ExtendedColorType::L8) {
        Ok(()) => STANDARD.encode(png),
        Err(_) => String::new(),
    }
}

/// Roboflow's response to one image: what `infer` prints.
#[derive(Debug, Serialize)]
pub struct Response<'a> {
    pub inference_id: Uuid,
    /// Seconds from the decoded image to the predictions.
    pub time: f64,
    pub resolved_model: &'a ResolvedModel,
    #[serde(flatten)]
    pub answer: Answer<'a>,
}

/// Which package answered; the classic layout has ids only.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ResolvedModel {
    pub model_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_package_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantization: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::predictions::Shape;
    use crate::model::registry::Task;

    #[test]
    fn an_entry_has_the_fields_of_a_roboflow_detection_in_their_order() {
        let labels = Labels::new(Task::ObjectDetection, vec!["cat".into(), "dog".into()]);
        let mut predictions = Predictions::default();
        let corners = [10.0, 20.0, 31.0, 40.0];
        predictions.detections.push(Detection { corners, confidence: 0.4, class_id: 1, shape: Shape::Box });
        let answer = Answer { predictions: &predictions, labels: &labels, with_ids: false, tracks: &[] };
        assert_eq!(
            serde_json::to_string(&answer).unwrap(),
            r#"{"image":{"width":0,"height":0},"predictions":[{"x":20.5,"y":30.0,"width":21.0,"height":20.0,"confidence":0.4000000059604645,"class":"dog","class_id":1}]}"#
        );
        let with_ids = serde_json::to_value(Answer { with_ids: true, ..answer }).unwrap();
        assert_eq!(with_ids["predictions"][0]["detection_id"].as_str().unwrap().len(), 36);
    }
}
