//! What a model saw in one image, and its shape as Roboflow's response (SPEC §3.3).

use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};
use uuid::Uuid;

use crate::frame::Size;

/// One detected object, in pixels of the image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    /// Left, top, right, bottom: whole numbers.
    pub corners: [f64; 4],
    pub confidence: f32,
    pub class_id: u32,
}

impl Detection {
    /// Centre x, centre y, width, height, as responses have it.
    #[must_use]
    pub fn center_and_size(&self) -> [f64; 4] {
        let [left, top, right, bottom] = self.corners;
        [f64::midpoint(left, right), f64::midpoint(top, bottom), right - left, bottom - top]
    }
}

/// All detections of one image, strongest first. Reused from frame to frame.
#[derive(Clone, Debug)]
pub struct Predictions {
    /// Of the image, after EXIF orientation and before any crop.
    pub image: Size,
    pub detections: Vec<Detection>,
}

impl Predictions {
    /// Copies another's detections, reusing this one's buffer.
    pub fn copy_from(&mut self, other: &Predictions) {
        self.image = other.image;
        self.detections.clone_from(&other.detections);
    }
}

impl Default for Predictions {
    fn default() -> Self {
        Self { image: Size { width: 0, height: 0 }, detections: Vec::new() }
    }
}

/// Serialises as the list under `predictions`; ids are for answers to a client, the loop's lines do without.
#[derive(Clone, Copy, Debug)]
pub struct DetectionList<'a> {
    pub detections: &'a [Detection],
    pub class_names: &'a [String],
    pub with_ids: bool,
}

impl Serialize for DetectionList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.detections.len()))?;
        for detection in self.detections {
            list.serialize_element(&DetectionEntry { detection, list: self })?;
        }
        list.end()
    }
}

struct DetectionEntry<'a> {
    detection: &'a Detection,
    list: &'a DetectionList<'a>,
}

impl Serialize for DetectionEntry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let [x, y, width, height] = self.detection.center_and_size();
        let class_id = self.detection.class_id;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("x", &x)?;
        map.serialize_entry("y", &y)?;
        map.serialize_entry("width", &width)?;
        map.serialize_entry("height", &height)?;
        // Widened, not rounded: Roboflow's confidences are f32 that Python prints as f64.
        map.serialize_entry("confidence", &f64::from(self.detection.confidence))?;
        map.serialize_entry("class", class_name(self.list.class_names, class_id))?;
        map.serialize_entry("class_id", &class_id)?;
        if self.list.with_ids {
            map.serialize_entry("detection_id", &Uuid::new_v4())?;
        }
        map.end()
    }
}

/// The name of a class; empty for an index without one, which a verified model does not have.
#[must_use]
pub fn class_name(names: &[String], class_id: u32) -> &str {
    names.get(class_id as usize).map_or("", String::as_str)
}

/// Roboflow's response to one image: what `infer` prints.
#[derive(Debug, Serialize)]
pub struct Response<'a> {
    pub inference_id: Uuid,
    /// Seconds from the decoded image to the predictions.
    pub time: f64,
    pub resolved_model: ResolvedModel<'a>,
    pub image: Size,
    pub predictions: DetectionList<'a>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct ResolvedModel<'a> {
    pub model_id: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_the_fields_of_a_roboflow_detection_in_their_order() {
        let detections = [Detection { corners: [10.0, 20.0, 31.0, 40.0], confidence: 0.4, class_id: 1 }];
        let names = ["cat".to_owned(), "dog".to_owned()];
        let list = DetectionList { detections: &detections, class_names: &names, with_ids: false };
        assert_eq!(
            serde_json::to_string(&list).unwrap(),
            r#"[{"x":20.5,"y":30.0,"width":21.0,"height":20.0,"confidence":0.4000000059604645,"class":"dog","class_id":1}]"#
        );
        let with_ids = serde_json::to_value(DetectionList { with_ids: true, ..list }).unwrap();
        assert_eq!(with_ids[0]["detection_id"].as_str().unwrap().len(), 36);
    }
}
