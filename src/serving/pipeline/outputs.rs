//! What a pipeline puts out of each frame, as JSON: fields with names of the client's choice.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::model::{Answer, Labels, Predictions, Task};

/// What Roboflow calls the picture of a pipeline's source: one of the input `image`.
fn parent(source: usize) -> String {
    format!("image.[{source}]")
}

/// The fields of a result.
#[derive(Clone, Debug)]
pub enum Outputs {
    /// Those of an answer to one picture, as `/infer/…` gives it.
    Answer,
    /// Those of a workflow: a name and what it shows.
    Selected(Vec<(String, Selected)>),
}

/// What a workflow's output shows of its model's step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selected {
    Predictions,
    InferenceId,
    ModelId,
    /// An object of all of them; the first version of a block has no `model_id`.
    All {
        with_model_id: bool,
    },
}

/// One result: name and JSON of each field.
pub type Rendered = Vec<(Arc<str>, String)>;

/// Makes results of predictions.
#[derive(Debug)]
pub struct Renderer {
    pub outputs: Outputs,
    pub labels: Arc<Labels>,
    pub model_id: String,
}

impl Renderer {
    /// The result of a frame of this source, from 0, that took `seconds`.
    #[must_use]
    pub fn render(&self, source: usize, predictions: &Predictions, seconds: f64) -> Rendered {
        let inference_id = Uuid::new_v4().to_string();
        let answer = self.answer(predictions);
        match &self.outputs {
            Outputs::Answer => {
                let mut fields = Map::new();
                fields.insert("inference_id".into(), json!(inference_id));
                fields.insert("time".into(), json!(seconds));
                fields.extend(answer);
                fields.into_iter().map(|(name, value)| (name.into(), value.to_string())).collect()
            }
            Outputs::Selected(outputs) => {
                let seen = Value::Object(self.of_workflow(answer, &parent(source), &inference_id, seconds));
                let field = |selected| match selected {
                    Selected::Predictions => seen.to_string(),
                    Selected::InferenceId => json!(inference_id).to_string(),
                    Selected::ModelId => json!(self.model_id).to_string(),
                    Selected::All { with_model_id } => {
                        let mut all = json!({"inference_id": inference_id, "predictions": seen});
                        if with_model_id {
                            all["model_id"] = json!(self.model_id);
                        }
                        all.to_string()
                    }
                };
                outputs.iter().map(|(name, selected)| (name.as_str().into(), field(*selected))).collect()
            }
        }
    }

    fn answer(&self, predictions: &Predictions) -> Map<String, Value> {
        let answer = Answer { predictions, labels: &self.labels, with_ids: true, tracks: &[] };
        match serde_json::to_value(answer) {
            Ok(Value::Object(fields)) => fields,
            // Numbers and text always serialise, to an object.
            _ => Map::new(),
        }
    }

    /// An answer as Roboflow's workflows write it.
    fn of_workflow(
        &self,
        mut answer: Map<String, Value>,
        parent: &str,
        inference_id: &str,
        seconds: f64,
    ) -> Map<String, Value> {
        match self.labels.task {
            Task::Classification | Task::MultiLabelClassification => {
                answer.insert("inference_id".into(), json!(inference_id));
                answer.insert("time".into(), json!(seconds));
                answer.insert("prediction_type".into(), json!("classification"));
                answer.insert("parent_id".into(), json!(parent));
                answer.insert("root_parent_id".into(), json!(parent));
            }
            _ => {
                let detections = answer.get_mut("predictions").and_then(Value::as_array_mut);
                for detection in detections.into_iter().flatten().filter_map(Value::as_object_mut) {
                    detection.remove("mask_format");
                    detection.insert("parent_id".into(), json!(parent));
                }
            }
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ClassScore, Detection, Shape};

    fn renderer(task: Task, outputs: Outputs) -> Renderer {
        let labels = Labels::new(task, vec!["cat".into(), "dog".into()]);
        Renderer { outputs, labels, model_id: "pets/1".into() }
    }

    fn one_dog() -> Predictions {
        let mut predictions = Predictions::default();
        let corners = [10.0, 20.0, 31.0, 40.0];
        predictions.detections.push(Detection { corners, confidence: 0.5, class_id: 1, shape: Shape::Box });
        predictions
    }

    fn field(rendered: &Rendered, name: &str) -> Value {
        let (_, json) = rendered.iter().find(|(field, _)| &**field == name).unwrap();
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_workflows_detections_have_the_recorded_fields() {
        let all = Selected::All { with_model_id: true };
        let outputs = vec![("seen".into(), Selected::Predictions), ("all".into(), all)];
        let rendered = renderer(Task::ObjectDetection, Outputs::Selected(outputs)).render(0, &one_dog(), 0.1);
        let seen = field(&rendered, "seen");
        let mut keys: Vec<&String> = seen["predictions"][0].as_object().unwrap().keys().collect();
        keys.sort();
        let recorded = ["class", "class_id", "confidence", "detection_id", "height", "parent_id", "width", "x", "y"];
        assert_eq!(keys, recorded);
        assert_eq!(seen["predictions"][0]["parent_id"], "image.[0]");
        let all = field(&rendered, "all");
        assert_eq!((&all["predictions"], &all["model_id"]), (&seen, &json!("pets/1")));
    }

    #[test]
    fn a_workflows_classes_say_whose_they_are() {
        let mut predictions = Predictions::default();
        predictions.classes.push(ClassScore { class_id: 0, score: 0.75, predicted: true });
        let outputs = Outputs::Selected(vec![("seen".into(), Selected::Predictions)]);
        let seen = field(&renderer(Task::Classification, outputs).render(0, &predictions, 0.1), "seen");
        assert_eq!((&seen["top"], &seen["prediction_type"]), (&json!("cat"), &json!("classification")));
        assert_eq!(seen["root_parent_id"], "image.[0]");
    }

    #[test]
    fn a_models_result_is_its_answer() {
        let rendered = renderer(Task::ObjectDetection, Outputs::Answer).render(0, &one_dog(), 0.25);
        assert_eq!(field(&rendered, "time"), json!(0.25));
        assert_eq!(field(&rendered, "predictions")[0]["class"], "dog");
        assert_eq!(field(&rendered, "image"), json!({"width": 0, "height": 0}));
    }
}
