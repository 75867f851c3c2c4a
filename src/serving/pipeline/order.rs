//! What a client asks of a new pipeline: the body of `/inference_pipelines/initialise`, each field honoured or refused by
//! its name.

use std::time::Duration;

use serde_json::{Map, Value};

use super::Error;
use super::fields::Fields;
use super::outputs::Outputs;
use super::reference::Reference;
use super::workflow::{self, Work};
use crate::config::{BufferPolicy, Consumption};
use crate::model::Request;

/// Results that may be asked to be kept; Roboflow's default is 64.
const RESULTS: (usize, usize) = (1, 1024);
const RESULTS_DEFAULT: usize = 64;
/// Lengths that Roboflow's queues may be asked to have.
const QUEUE: (usize, usize) = (1, 4096);
const DECODED_DEFAULT: usize = 64;
/// Frames that wait for the network whatever is asked: more only add age to a live picture, and memory. Those of a file
/// wait on the disk.
const FRAMES_WAIT_MAX: usize = 2;
/// Slowest and fastest rate that can be asked for, frames a second.
const FPS_MIN: f64 = 0.001;
const FPS_MAX: f64 = 1000.0;
/// Longest time without a reader that can be asked for: a month.
const TIMEOUT_S_MAX: f64 = 31.0 * 86_400.0;

/// A whole order.
#[derive(Clone, Debug)]
pub struct Order {
    /// At least one.
    pub references: Vec<Reference>,
    /// Frames a second at most.
    pub fps_max: Option<f64>,
    pub policy: BufferPolicy,
    pub consumption: Consumption,
    pub frames_waiting: usize,
    pub work: Work,
    pub results_max: usize,
    /// The pipeline ends when nobody takes a result for so long.
    pub consumption_timeout: Option<Duration>,
}

impl Order {
    /// Reads a body.
    ///
    /// # Errors
    /// No JSON, a field of the wrong type or value, or one that asks for what does not run here.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        let body: Value = serde_json::from_slice(body).map_err(|error| Error::Field {
            path: Vec::new(),
            kind: "json_invalid",
            message: format!("JSON decode error: {error}"),
        })?;
        let body = Fields::of_body(&body)?;
        let video = body.need_object("video_configuration")?;
        video.need_type(&["VideoConfiguration"])?;
        let consumption = match video.word("source_buffer_consumption_strategy", &["LAZY", "EAGER"])? {
            None => Consumption::Auto,
            Some("LAZY") => Consumption::Lazy,
            Some(_) => Consumption::Eager,
        };
        // Answers to the frames of several sources wait for each other less than any time that could be asked for.
        video.number("batch_collection_timeout")?;
        let fps_max = within(&video, "max_fps", FPS_MIN, FPS_MAX)?;
        let results_max = match body.object("sink_configuration")? {
            None => RESULTS_DEFAULT,
            Some(sink) => {
                sink.need_type(&["MemorySinkConfiguration"])?;
                sink.count("results_buffer_size", RESULTS)?.unwrap_or(RESULTS_DEFAULT)
            }
        };
        body.count("predictions_queue_size", QUEUE)?;
        let decoded = body.count("decoding_buffer_size", QUEUE)?.unwrap_or(DECODED_DEFAULT);
        let timeout = within(&body, "consumption_timeout", 0.001, TIMEOUT_S_MAX)?;
        let work = work(&body.need_object("processing_configuration")?)?;
        Ok(Self {
            references: Reference::read(&video)?,
            fps_max,
            policy: policy(&video)?,
            consumption,
            frames_waiting: decoded.min(FRAMES_WAIT_MAX),
            work,
            results_max,
            consumption_timeout: timeout.map(Duration::from_secs_f64),
        })
    }
}

fn policy(video: &Fields<'_>) -> Result<BufferPolicy, Error> {
    const WORDS: &[&str] = &["WAIT", "DROP_OLDEST", "ADAPTIVE_DROP_OLDEST", "DROP_LATEST", "ADAPTIVE_DROP_LATEST"];
    Ok(match video.word("source_buffer_filling_strategy", WORDS)? {
        None => BufferPolicy::Auto,
        Some("WAIT") => BufferPolicy::Wait,
        Some("DROP_OLDEST") => BufferPolicy::DropOldest,
        Some("DROP_LATEST") => BufferPolicy::DropLatest,
        Some("ADAPTIVE_DROP_LATEST") => BufferPolicy::AdaptiveDropLatest,
        Some(_) => BufferPolicy::AdaptiveDropOldest,
    })
}

/// A number between two others, both included.
fn within(fields: &Fields<'_>, name: &'static str, least: f64, most: f64) -> Result<Option<f64>, Error> {
    let Some(number) = fields.number(name)? else { return Ok(None) };
    if (least..=most).contains(&number) {
        Ok(Some(number))
    } else {
        Err(Error::Invalid(format!("{name} is {number}; it must be from {least} to {most}")))
    }
}

/// What is to become of each frame.
fn work(fields: &Fields<'_>) -> Result<Work, Error> {
    if fields.need_type(&["WorkflowConfiguration", "ModelConfiguration"])? == "ModelConfiguration" {
        return model(fields);
    }
    let Some(specification) = fields.object("workflow_specification")? else {
        return Err(match fields.text("workflow_id")? {
            Some(name) => Error::NotYet(format!(
                "workflow_id `{name}`: named workflows do not run here yet; send a workflow_specification"
            )),
            None => Error::Invalid(
                "processing_configuration needs a workflow_specification (or, of type ModelConfiguration, a model_id)"
                    .into(),
            ),
        });
    };
    let image_input = fields.text("image_input_name")?.unwrap_or("image");
    let none = Map::new();
    let parameters = fields.object("workflows_parameters")?;
    workflow::read(&specification, image_input, parameters.as_ref().map_or(&none, Fields::map))
}

/// Of a model and any fields of a request to it.
fn model(fields: &Fields<'_>) -> Result<Work, Error> {
    fields.need("model_id")?;
    let model_id = fields.text("model_id")?.unwrap_or_default().to_owned();
    let mut request = fields.map().clone();
    request.retain(|name, _| name != "type");
    let request = Request::parse(&Value::Object(request).to_string())
        .map_err(|error| Error::Invalid(format!("processing_configuration: {error}")))?;
    Ok(Work { model_id, request, outputs: Outputs::Answer, tasks: None })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Confidence;

    fn body() -> Value {
        json!({
            "api_key": "key",
            "video_configuration": {
                "type": "VideoConfiguration", "video_reference": "demo:", "max_fps": 10,
                "source_buffer_filling_strategy": "DROP_OLDEST", "source_buffer_consumption_strategy": "EAGER",
                "video_source_properties": null, "batch_collection_timeout": null
            },
            "processing_configuration": {"type": "ModelConfiguration", "model_id": "parts/1", "confidence": 0.3},
            "sink_configuration": {"type": "MemorySinkConfiguration", "results_buffer_size": 8}
        })
    }

    fn refusal(change: impl FnOnce(&mut Value)) -> Error {
        let mut body = body();
        change(&mut body);
        Order::parse(body.to_string().as_bytes()).unwrap_err()
    }

    #[test]
    fn an_order_has_the_values_of_its_body() {
        let order = Order::parse(body().to_string().as_bytes()).unwrap();
        assert_eq!((order.fps_max, order.results_max, order.frames_waiting), (Some(10.0), 8, 2));
        assert_eq!((order.policy, order.consumption), (BufferPolicy::DropOldest, Consumption::Eager));
        assert_eq!(order.work.request.confidence, Some(Confidence::Number(0.3)));
        assert_eq!(order.consumption_timeout, None);
    }

    #[test]
    fn what_may_be_left_out_has_roboflows_values() {
        let mut body = body();
        body.as_object_mut().unwrap().remove("sink_configuration");
        let video = json!({"type": "VideoConfiguration", "video_reference": 0});
        body["video_configuration"] = video;
        let order = Order::parse(body.to_string().as_bytes()).unwrap();
        assert_eq!((order.results_max, order.policy, order.fps_max), (64, BufferPolicy::Auto, None));
    }

    #[test]
    fn each_field_is_judged() {
        for (error, word) in [
            (refusal(|it| it["video_configuration"]["max_fps"] = json!(0)), "max_fps"),
            (refusal(|it| it["sink_configuration"]["results_buffer_size"] = json!(1025)), "results_buffer_size"),
            (refusal(|it| it["sink_configuration"]["results_buffer_size"] = json!(0)), "results_buffer_size"),
            (refusal(|it| it["decoding_buffer_size"] = json!(-1)), "decoding_buffer_size"),
            (refusal(|it| it["predictions_queue_size"] = json!(1e9)), "predictions_queue_size"),
            (refusal(|it| it["consumption_timeout"] = json!(0)), "consumption_timeout"),
            (refusal(|it| it["processing_configuration"]["confidense"] = json!(0.1)), "did you mean `confidence`"),
            (refusal(|it| it["processing_configuration"] = json!({"type": "WorkflowConfiguration"})), "model_id"),
        ] {
            assert!(matches!(&error, Error::Invalid(said) if said.contains(word)), "{error}");
        }
        let named = json!({"type": "WorkflowConfiguration", "workspace_name": "w", "workflow_id": "count-parts"});
        let error = refusal(|it| it["processing_configuration"] = named);
        assert!(matches!(&error, Error::NotYet(said) if said.contains("count-parts")), "{error}");
    }

    #[test]
    fn what_fastapi_refuses_is_refused_with_the_way_to_the_field() {
        for (error, at) in [
            (refusal(|it| *it = json!(3)), ""),
            (refusal(|it| it["video_configuration"] = json!(null)), "video_configuration"),
            (refusal(|it| it["video_configuration"]["type"] = json!("X")), "video_configuration.type"),
            (refusal(|it| it["video_configuration"]["max_fps"] = json!("fast")), "video_configuration.max_fps"),
            (refusal(|it| it["processing_configuration"]["type"] = json!(null)), "processing_configuration.type"),
            (refusal(|it| it["processing_configuration"]["model_id"] = json!(7)), "processing_configuration.model_id"),
        ] {
            assert!(matches!(&error, Error::Field { path, .. } if path.join(".") == at), "{error}");
        }
        assert!(matches!(Order::parse(b"{"), Err(Error::Field { kind: "json_invalid", .. })));
    }
}
