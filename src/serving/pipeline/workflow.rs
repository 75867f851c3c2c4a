//! The workflows that a pipeline runs: those of one model block, whose answer is put out. What else a specification
//! says is refused by its name, never left out silently.

use serde_json::{Map, Value, json};

use super::Error;
use super::fields::Fields;
use super::outputs::{Outputs, Selected};
use crate::model::{Request, Task};

/// What becomes of each frame.
#[derive(Clone, Debug)]
pub struct Work {
    pub model_id: String,
    pub request: Request,
    pub outputs: Outputs,
    /// The tasks that a model may have; `None`: any.
    pub tasks: Option<&'static [Task]>,
}

/// A kind of model block.
#[derive(Debug)]
struct Block {
    /// Its type without the version.
    name: &'static str,
    /// Other names of its first version.
    aliases: &'static [&'static str],
    tasks: &'static [Task],
    /// Whether it takes the parameters of detectors.
    detects: bool,
}

const DETECTORS: &[Task] = &[Task::ObjectDetection, Task::InstanceSegmentation, Task::KeypointDetection];

const BLOCKS: &[Block] = &[
    Block {
        name: "roboflow_core/roboflow_object_detection_model",
        aliases: &["RoboflowObjectDetectionModel", "ObjectDetectionModel"],
        tasks: DETECTORS,
        detects: true,
    },
    Block {
        name: "roboflow_core/roboflow_instance_segmentation_model",
        aliases: &["RoboflowInstanceSegmentationModel", "InstanceSegmentationModel"],
        tasks: DETECTORS,
        detects: true,
    },
    Block {
        name: "roboflow_core/roboflow_keypoint_detection_model",
        aliases: &["RoboflowKeypointDetectionModel", "KeypointsDetectionModel"],
        tasks: DETECTORS,
        detects: true,
    },
    Block {
        name: "roboflow_core/roboflow_classification_model",
        aliases: &["RoboflowClassificationModel", "ClassificationModel"],
        tasks: &[Task::Classification],
        detects: false,
    },
    Block {
        name: "roboflow_core/roboflow_multi_label_classification_model",
        aliases: &["RoboflowMultiLabelClassificationModel", "MultiLabelClassificationModel"],
        tasks: &[Task::MultiLabelClassification],
        detects: false,
    },
];

/// Fields that every step of a model has besides its parameters.
const FRAME: &[&str] = &["type", "name", "images", "model_id"];
/// Parameters of detectors, as the request has them.
const OF_DETECTORS: &[&str] = &[
    "class_filter",
    "iou_threshold",
    "max_detections",
    "class_agnostic_nms",
    "max_candidates",
    "mask_decode_mode",
    "tradeoff_factor",
    "enforce_dense_masks_in_inference_models",
    "keypoint_confidence",
];
/// Parameters of every model, which are about Roboflow's cloud.
const OF_ALL: &[&str] = &["disable_active_learning", "active_learning_target_dataset"];
/// The version of a block from which `confidence_mode` takes the place of `confidence`.
const MODES_SINCE: u32 = 3;
/// What a block looks for where a step does not say.
const CONFIDENCE: f64 = 0.4;

/// What a specification asks for, with the values of its parameters.
///
/// # Errors
/// It is no specification, or says something that does not run here.
pub fn read(specification: &Fields<'_>, image_input: &str, parameters: &Map<String, Value>) -> Result<Work, Error> {
    let version = specification.text("version")?.unwrap_or("1.0");
    if version.split('.').next() != Some("1") {
        return Err(Error::NotYet(format!("workflows of version {version} do not run here; those of version 1 do")));
    }
    let dynamic = specification.get("dynamic_blocks_definitions").and_then(Value::as_array);
    if dynamic.is_some_and(|blocks| !blocks.is_empty()) {
        return Err(Error::NotYet("dynamic_blocks_definitions: blocks of Python code do not run here".into()));
    }
    let inputs = Inputs::read(list(specification, "inputs")?, image_input, parameters)?;
    let steps = list(specification, "steps")?;
    let [only] = steps else { return Err(not_one(steps)) };
    let step = Step::read(only)?;
    inputs.check_image(&step)?;
    let model_id = match inputs.resolve(&step, "model_id", step.field("model_id")?)? {
        Value::String(id) => id,
        other => return Err(Error::Invalid(format!("step `{}`: model_id is {other}; it must be text", step.name))),
    };
    let outputs = list(specification, "outputs")?.iter().map(|output| step.output(output)).collect::<Result<_, _>>()?;
    Ok(Work {
        model_id,
        request: step.request(&inputs)?,
        outputs: Outputs::Selected(outputs),
        tasks: Some(step.block.tasks),
    })
}

fn list<'a>(fields: &Fields<'a>, name: &'static str) -> Result<&'a [Value], Error> {
    let value = fields.need(name)?;
    value.as_array().map(Vec::as_slice).ok_or_else(|| fields.fault(name, "list_type", "Input should be a valid list"))
}

/// Of steps that are not one: the first that does not run here.
fn not_one(steps: &[Value]) -> Error {
    let strange = steps.iter().find_map(|step| Step::read(step).err());
    strange.unwrap_or_else(|| match steps {
        [_, second, ..] => {
            let name = second["name"].as_str().unwrap_or_default();
            Error::NotYet(format!("step `{name}`: a second model does not run here yet; a pipeline runs one"))
        }
        _ => Error::Invalid("the workflow has no steps".into()),
    })
}

/// What a specification's selectors of inputs mean.
#[derive(Debug)]
struct Inputs<'a> {
    /// The picture that the pipeline fills.
    image: &'a str,
    images: Vec<&'a str>,
    /// Name and value of each parameter; no value where neither the client nor the specification gives one.
    parameters: Vec<(&'a str, Option<&'a Value>)>,
}

impl<'a> Inputs<'a> {
    fn read(inputs: &'a [Value], image: &'a str, given: &'a Map<String, Value>) -> Result<Self, Error> {
        let mut read = Self { image, images: Vec::new(), parameters: Vec::new() };
        for input in inputs {
            let (Some(kind), Some(name)) = (input["type"].as_str(), input["name"].as_str()) else {
                return Err(Error::Invalid("each of the workflow's inputs needs a type and a name, both text".into()));
            };
            match kind {
                "WorkflowImage" | "InferenceImage" => read.images.push(name),
                "WorkflowParameter" | "InferenceParameter" => {
                    let default = input.get("default_value").filter(|value| !value.is_null());
                    read.parameters.push((name, given.get(name).or(default)));
                }
                // Filled by the pipeline; whether a step uses it shows there.
                "WorkflowVideoMetadata" => {}
                _ => return Err(Error::NotYet(format!("input `{name}`: inputs of type {kind} do not run here yet"))),
            }
        }
        Ok(read)
    }

    /// That a step sees the pictures of the pipeline.
    fn check_image(&self, step: &Step<'_>) -> Result<(), Error> {
        let images = step.field("images")?;
        let selected = images.as_str().and_then(|selector| selector.strip_prefix("$inputs."));
        match selected {
            Some(name) if name == self.image && self.images.contains(&name) => Ok(()),
            Some(name) if self.images.contains(&name) => Err(Error::Invalid(format!(
                "step `{}` takes the picture `{name}`, but image_input_name is `{}`",
                step.name, self.image
            ))),
            _ => Err(Error::Invalid(format!(
                "step `{}`: images is {images}; it must be \"$inputs.{}\", which must be among the inputs",
                step.name, self.image
            ))),
        }
    }

    /// A value as it stands, or that of the parameter it names.
    fn resolve(&self, step: &Step<'_>, field: &str, value: &Value) -> Result<Value, Error> {
        let Some(selector) = value.as_str().filter(|text| text.starts_with('$')) else { return Ok(value.clone()) };
        let known = selector
            .strip_prefix("$inputs.")
            .and_then(|name| self.parameters.iter().find(|(parameter, _)| *parameter == name));
        match known {
            Some((_, Some(value))) => Ok((*value).clone()),
            Some((name, None)) => Err(Error::Invalid(format!(
                "step `{}`: {field} takes the input `{name}`, which has neither a value in workflows_parameters nor a \
                 default_value",
                step.name
            ))),
            None => {
                Err(Error::Invalid(format!("step `{}`: {field} takes {selector}, which is no parameter", step.name)))
            }
        }
    }
}

/// The step of a model.
#[derive(Debug)]
struct Step<'a> {
    map: &'a Map<String, Value>,
    name: &'a str,
    block: &'static Block,
    version: u32,
}

impl<'a> Step<'a> {
    fn read(step: &'a Value) -> Result<Self, Error> {
        let (Some(map), Some(kind), Some(name)) = (step.as_object(), step["type"].as_str(), step["name"].as_str())
        else {
            return Err(Error::Invalid("each of the workflow's steps needs a type and a name, both text".into()));
        };
        let (base, version) = kind.split_once("@v").unwrap_or((kind, "1"));
        let block = BLOCKS.iter().find(|block| block.name == base || (base == kind && block.aliases.contains(&kind)));
        let (Some(block), Ok(version)) = (block, version.parse()) else {
            return Err(Error::NotYet(format!(
                "step `{name}`: the block {kind} does not run here yet; a pipeline runs one block of a model"
            )));
        };
        Ok(Self { map, name, block, version })
    }

    fn field(&self, name: &str) -> Result<&'a Value, Error> {
        let missing = || Error::Invalid(format!("step `{}` needs the field {name}", self.name));
        self.map.get(name).filter(|value| !value.is_null()).ok_or_else(missing)
    }

    fn has_modes(&self) -> bool {
        self.version >= MODES_SINCE
    }

    fn takes(&self, field: &str) -> bool {
        FRAME.contains(&field)
            || OF_ALL.contains(&field)
            || (self.block.detects && OF_DETECTORS.contains(&field))
            || match field {
                "confidence" => !self.has_modes(),
                "confidence_mode" | "custom_confidence" => self.has_modes(),
                _ => false,
            }
    }

    /// The request that its parameters make.
    fn request(&self, inputs: &Inputs<'_>) -> Result<Request, Error> {
        let mut fields = Map::new();
        for (field, value) in self.map {
            if !self.takes(field) {
                let kind = self.map["type"].as_str().unwrap_or_default();
                return Err(Error::NotYet(format!(
                    "step `{}`: the field {field} of {kind} does not run here",
                    self.name
                )));
            }
            if !FRAME.contains(&field.as_str()) && !value.is_null() {
                fields.insert(field.clone(), inputs.resolve(self, field, value)?);
            }
        }
        let mode = fields.remove("confidence_mode");
        let custom = fields.remove("custom_confidence").unwrap_or(json!(CONFIDENCE));
        if self.has_modes() {
            let confidence = match mode.as_ref().map_or(Some("best"), Value::as_str) {
                Some("custom") => custom,
                Some(word @ ("best" | "default")) => json!(word),
                _ => {
                    let name = self.name;
                    return Err(Error::Invalid(format!(
                        "step `{name}`: confidence_mode is {}; it must be best, default or custom",
                        mode.unwrap_or_default()
                    )));
                }
            };
            fields.insert("confidence".into(), confidence);
        } else {
            fields.entry("confidence").or_insert(json!(CONFIDENCE));
        }
        let parsed = Request::parse(&Value::Object(fields).to_string());
        parsed.map_err(|error| Error::Invalid(format!("step `{}`: {error}", self.name)))
    }

    /// What an output shows of this step.
    fn output(&self, output: &Value) -> Result<(String, Selected), Error> {
        let (kind, name, selector) = (&output["type"], &output["name"], &output["selector"]);
        let (Some(kind), Some(name), Some(selector)) = (kind.as_str(), name.as_str(), selector.as_str()) else {
            let needs = "each of the workflow's outputs needs a type, a name and a selector, all text";
            return Err(Error::Invalid(needs.into()));
        };
        if kind != "JsonField" {
            return Err(Error::NotYet(format!("output `{name}`: outputs of type {kind} do not run here")));
        }
        let property = selector
            .strip_prefix("$steps.")
            .and_then(|rest| rest.strip_prefix(self.name))
            .and_then(|rest| rest.strip_prefix('.'));
        let with_model_id = self.version > 1;
        let selected = match property {
            Some("predictions") => Selected::Predictions,
            Some("inference_id") => Selected::InferenceId,
            Some("model_id") if with_model_id => Selected::ModelId,
            Some("*") => Selected::All { with_model_id },
            _ => {
                return Err(Error::NotYet(format!(
                    "output `{name}`: the selector {selector} does not run here; those of `$steps.{}` do",
                    self.name
                )));
            }
        };
        Ok((name.into(), selected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Confidence, ConfidenceWord};

    fn specification() -> Value {
        json!({
            "version": "1.0",
            "inputs": [
                {"type": "WorkflowImage", "name": "image"},
                {"type": "WorkflowParameter", "name": "conf", "default_value": 0.2},
                {"type": "WorkflowParameter", "name": "open"},
            ],
            "steps": [{
                "type": "roboflow_core/roboflow_object_detection_model@v2", "name": "m", "images": "$inputs.image",
                "model_id": "my-project/3", "confidence": "$inputs.conf", "class_filter": ["bolt"],
                "max_candidates": 3000, "iou_threshold": null
            }],
            "outputs": [
                {"type": "JsonField", "name": "predictions", "selector": "$steps.m.predictions"},
                {"type": "JsonField", "name": "all", "selector": "$steps.m.*", "coordinates_system": "own"},
            ]
        })
    }

    fn read_with(specification: &Value, parameters: &Value) -> Result<Work, Error> {
        read(&Fields::of_body(specification)?, "image", parameters.as_object().unwrap())
    }

    fn refusal(change: impl FnOnce(&mut Value)) -> Error {
        let mut specification = specification();
        change(&mut specification);
        read_with(&specification, &json!({})).unwrap_err()
    }

    #[test]
    fn a_step_becomes_a_request_with_the_values_of_its_parameters() {
        let work = read_with(&specification(), &json!({})).unwrap();
        assert_eq!(work.model_id, "my-project/3");
        assert_eq!(work.request.confidence, Some(Confidence::Number(0.2)));
        assert_eq!(work.request.class_filter.as_deref(), Some(&["bolt".to_owned()][..]));
        let given = read_with(&specification(), &json!({"conf": 0.7})).unwrap();
        assert_eq!(given.request.confidence, Some(Confidence::Number(0.7)));
    }

    #[test]
    fn confidence_is_a_mode_from_the_third_version_on() {
        let with = |kind: &str, field: &str, value: Value| {
            let mut specification = specification();
            specification["steps"][0]["type"] = json!(kind);
            specification["steps"][0].as_object_mut().unwrap().remove("confidence");
            specification["steps"][0][field] = value;
            read_with(&specification, &json!({})).map(|work| work.request.confidence)
        };
        let third = "roboflow_core/roboflow_object_detection_model@v3";
        let word = |word| Some(Confidence::Word(word));
        assert_eq!(with(third, "confidence_mode", json!("default")).unwrap(), word(ConfidenceWord::Default));
        assert_eq!(with(third, "custom_confidence", json!(0.5)).unwrap(), word(ConfidenceWord::Best));
        assert_eq!(with(third, "confidence_mode", json!("custom")).unwrap(), Some(Confidence::Number(0.4)));
        assert!(matches!(with(third, "confidence_mode", json!("high")), Err(Error::Invalid(_))));
        assert!(matches!(with(third, "confidence", json!(0.5)), Err(Error::NotYet(_))));
        assert_eq!(with("ObjectDetectionModel", "max_detections", json!(3)).unwrap(), Some(Confidence::Number(0.4)));
    }

    #[test]
    fn what_does_not_run_is_named() {
        let property = json!({"type": "roboflow_core/property_definition@v1", "name": "cnt"});
        for (error, word) in [
            (refusal(|it| it["steps"].as_array_mut().unwrap().push(property)), "property_definition@v1"),
            (refusal(|it| it["steps"][0]["type"] = json!("roboflow_core/ocr_model@v1")), "ocr_model"),
            (refusal(|it| it["steps"][0]["tracker"] = json!(1)), "tracker"),
            (refusal(|it| it["inputs"][1]["type"] = json!("WorkflowBatchInput")), "WorkflowBatchInput"),
            (refusal(|it| it["outputs"][0]["selector"] = json!("$steps.cnt.output")), "$steps.cnt.output"),
            (refusal(|it| it["outputs"][0]["selector"] = json!("$inputs.image")), "$inputs.image"),
            (refusal(|it| it["version"] = json!("2.0")), "2.0"),
            (refusal(|it| it["dynamic_blocks_definitions"] = json!([{}])), "dynamic_blocks_definitions"),
        ] {
            assert!(matches!(&error, Error::NotYet(said) if said.contains(word)), "{error}");
        }
    }

    #[test]
    fn what_is_no_workflow_is_invalid() {
        for (error, word) in [
            (refusal(|it| it["steps"][0]["confidence"] = json!("$inputs.other")), "$inputs.other"),
            (refusal(|it| it["steps"][0]["confidence"] = json!("$inputs.open")), "default_value"),
            (refusal(|it| it["steps"][0]["confidence"] = json!(["x"])), "step `m`"),
            (refusal(|it| it["steps"][0]["images"] = json!("$steps.crop.crops")), "images"),
            (refusal(|it| it["steps"][0]["model_id"] = json!(3)), "model_id"),
            (refusal(|it| it["steps"] = json!([])), "no steps"),
            (refusal(|it| it["outputs"][0]["name"] = json!(1)), "outputs"),
        ] {
            assert!(matches!(&error, Error::Invalid(said) if said.contains(word)), "{error}");
        }
        assert!(matches!(refusal(|it| it["steps"] = json!("m")), Error::Field { .. }));
    }
}
