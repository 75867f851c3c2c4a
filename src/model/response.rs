//! Roboflow's response objects (SPEC §3.3): every field, in Roboflow's order, left out where Roboflow leaves it out.

use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};
use uuid::Uuid;

use super::labels::Labels;
use super::predictions::{Detection, Predictions};

/// The part of a response that says what was seen: `image`, `predictions` and what a task adds.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    pub predictions: &'a Predictions,
    pub labels: &'a Labels,
    /// Ids are for answers to a client; the loop's lines do without.
    pub with_ids: bool,
}

impl Serialize for Answer<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("image", &self.predictions.image)?;
        map.serialize_entry("predictions", &DetectionList(self))?;
        map.end()
    }
}

struct DetectionList<'a>(&'a Answer<'a>);

impl Serialize for DetectionList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let detections = &self.0.predictions.detections;
        let mut list = serializer.serialize_seq(Some(detections.len()))?;
        for detection in detections {
            list.serialize_element(&DetectionEntry { detection, answer: self.0 })?;
        }
        list.end()
    }
}

struct DetectionEntry<'a> {
    detection: &'a Detection,
    answer: &'a Answer<'a>,
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
        match self.answer.labels.class_name(class_id) {
            Some(name) => map.serialize_entry("class", name)?,
            None => map.serialize_entry("class", &format_args!("{class_id}"))?,
        }
        map.serialize_entry("class_id", &class_id)?;
        if self.answer.with_ids {
            map.serialize_entry("detection_id", &Uuid::new_v4())?;
        }
        map.end()
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
        let answer = Answer { predictions: &predictions, labels: &labels, with_ids: false };
        assert_eq!(
            serde_json::to_string(&answer).unwrap(),
            r#"{"image":{"width":0,"height":0},"predictions":[{"x":20.5,"y":30.0,"width":21.0,"height":20.0,"confidence":0.4000000059604645,"class":"dog","class_id":1}]}"#
        );
        let with_ids = serde_json::to_value(Answer { with_ids: true, ..answer }).unwrap();
        assert_eq!(with_ids["predictions"][0]["detection_id"].as_str().unwrap().len(), 36);
    }
}
