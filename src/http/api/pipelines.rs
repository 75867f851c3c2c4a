//! `/inference_pipelines/*`, in the words of Roboflow's manager of pipelines.
//!
//! What takes no time is answered at once, so that a pipeline can be ended while all workers load models.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use hyper::header;
use serde_json::{Map, Value, json};
use smol::Timer;
use uuid::Uuid;

use super::fault::{Fault, Place, Problem};
use super::table::Act;
use super::{Api, Call};
use crate::clock;
use crate::http::query;
use crate::http::reply::{Answer, NO_STORE, json as reply, with_type};
use crate::serving::pipeline::{Batch, Error, Order, Taken};

/// A start is smaller: workflows of hundreds of steps take a part of it.
const ORDER_BYTES_MAX: usize = 1 << 20;
/// Names of fields are all that a reader says.
const CONSUME_BYTES_MAX: usize = 64 << 10;
/// How long the end of a pipeline is waited for: a camera gives its last frame within a second. One that hangs is left
/// behind, and counts as a pipeline until it ends.
const END_TIME_MAX: Duration = Duration::from_secs(2);
const END_LOOK: Duration = Duration::from_millis(10);

/// The answer to a request about pipelines.
pub(super) async fn answer(api: &Arc<Api>, act: Act, call: Call) -> Answer {
    let call = match admitted(api, call).await {
        Ok(call) => call,
        Err(refused) => return *refused,
    };
    let pipelines = &api.pipelines;
    let answered = match act {
        Act::List => Ok(done(None, json!({"pipelines": pipelines.list()}))),
        Act::Initialise => return api.work(call, start).await,
        Act::Status(id) => pipelines.report(&id).map(|report| done(Some(&id), json!({"report": report}))),
        Act::Pause(id) => pipelines.pause(&id).map(|()| done(Some(&id), json!({}))),
        Act::Resume(id) => pipelines.resume(&id).map(|()| done(Some(&id), json!({}))),
        Act::Consume(id) => match excluded(&call) {
            Ok(excluded) => pipelines.consume(&id).map(|batch| consumed(&id, batch.as_ref(), &excluded)),
            Err(fault) => return fault.into_answer(),
        },
        Act::Terminate(id) => terminate(api, &id).await,
        Act::Snapshot(id) => return api.work(call, move |api, _| snapshot(api, &id)).await,
    };
    answered.unwrap_or_else(refused)
}

/// The call, once the key in its body has been judged where it needs one.
async fn admitted(api: &Api, call: Call) -> Result<Call, Box<Answer>> {
    if call.lock.is_none() {
        return Ok(call);
    }
    let judge = move || call.admit().map(|()| Call { lock: None, ..call });
    api.workers.run(judge).await.unwrap_or_else(|refused| Err(Box::new(Fault::from(refused).into_answer())))
}

fn start(api: &Api, call: &Call) -> Answer {
    if call.body().len() > ORDER_BYTES_MAX {
        return too_large(ORDER_BYTES_MAX).into_answer();
    }
    let started = Order::parse(call.body()).and_then(|order| api.pipelines.start(order));
    started.map_or_else(refused, |id| done(Some(&id), json!({})))
}

async fn terminate(api: &Api, id: &str) -> Result<Answer, Error> {
    let run = api.pipelines.terminate(id)?;
    let until = Instant::now() + END_TIME_MAX;
    while !run.over() && Instant::now() < until {
        Timer::after(END_LOOK).await;
    }
    Ok(done(Some(id), json!({})))
}

fn snapshot(api: &Api, id: &str) -> Answer {
    match api.pipelines.get(id).map(|run| run.picture()) {
        Ok(Some(jpeg)) => {
            let mut answer = with_type(StatusCode::OK, "image/jpeg", jpeg);
            answer.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
            answer
        }
        Ok(None) => {
            Fault::told(StatusCode::SERVICE_UNAVAILABLE, "no picture yet: no frame has been inferred").into_answer()
        }
        Err(error) => refused(error),
    }
}

/// Names of the outputs that a reader does not want: of the query, and of the body, which may come with a GET.
fn excluded(call: &Call) -> Result<Vec<String>, Fault> {
    const FIELD: &str = "excluded_fields";
    let named = query::pairs(&call.query).filter(|(name, _)| name == FIELD);
    let mut excluded: Vec<String> = named.map(|(_, value)| value).collect();
    let body = call.body();
    if body.len() > CONSUME_BYTES_MAX {
        return Err(too_large(CONSUME_BYTES_MAX));
    }
    if body.is_empty() {
        return Ok(excluded);
    }
    let wrong = |kind, place: &[&'static str], message: &str| {
        let way = ["body"].iter().chain(place).map(|name| Place::Name(name)).collect();
        Fault::Invalid(vec![Problem::new(kind, way, message)])
    };
    let body: Value = serde_json::from_slice(body)
        .map_err(|error| wrong("json_invalid", &[], &format!("JSON decode error: {error}")))?;
    let fields = match &body {
        Value::Object(fields) => fields.get(FIELD).unwrap_or(&Value::Null),
        _ => return Err(wrong("model_attributes_type", &[], "Input should be a valid dictionary")),
    };
    let names = match fields {
        Value::Null => return Ok(excluded),
        Value::Array(names) => names,
        _ => return Err(wrong("list_type", &[FIELD], "Input should be a valid list")),
    };
    for name in names {
        let name = name.as_str().ok_or_else(|| wrong("string_type", &[FIELD], "Input should be a valid string"))?;
        excluded.push(name.to_owned());
    }
    Ok(excluded)
}

fn too_large(limit: usize) -> Fault {
    Fault::told(StatusCode::PAYLOAD_TOO_LARGE, format!("this request has at most {limit} bytes"))
}

fn context(id: Option<&str>) -> Value {
    json!({"request_id": Uuid::new_v4(), "pipeline_id": id})
}

/// What went well, with what `more` says.
fn done(id: Option<&str>, more: Value) -> Answer {
    let mut body = Map::new();
    body.insert("status".into(), "success".into());
    body.insert("context".into(), context(id));
    if let Value::Object(more) = more {
        body.extend(more);
    }
    reply(StatusCode::OK, Value::Object(body).to_string())
}

/// Results, whose fields are JSON already, each in the place of its source; empty lists where there are none.
fn consumed(id: &str, batch: Option<&Batch>, excluded: &[String]) -> Answer {
    let places = batch.map(Vec::as_slice).unwrap_or_default();
    let output = |taken: &Option<Taken>| taken.as_ref().map_or("null".into(), |taken| taken.json(excluded));
    let outputs: Vec<String> = places.iter().map(output).collect();
    let frames = places.iter().enumerate().map(|(source_id, taken)| {
        let taken = taken.as_ref()?;
        let frame_timestamp = clock::iso(taken.frame_at);
        Some(json!({"frame_timestamp": frame_timestamp, "frame_id": taken.frame_id, "source_id": source_id}))
    });
    let (context, outputs, frames) = (context(Some(id)), outputs.join(","), json!(frames.collect::<Vec<_>>()));
    let body =
        format!(r#"{{"status":"success","context":{context},"outputs":[{outputs}],"frames_metadata":{frames}}}"#);
    reply(StatusCode::OK, body)
}

/// What did not go well, as Roboflow's manager puts it.
fn refused(error: Error) -> Answer {
    let (status, word, kind) = match error {
        Error::Field { path, kind, message } => {
            let way = ["body"].into_iter().chain(path).map(Place::Name).collect();
            return Fault::Invalid(vec![Problem::new(kind, way, message)]).into_answer();
        }
        Error::NotYet(message) => {
            let body = json!({"message": message, "error_type": "NotImplementedError", "inner_error_type": null});
            return reply(StatusCode::NOT_IMPLEMENTED, body.to_string());
        }
        Error::Serving(error) => return Fault::from(error).into_answer(),
        Error::Invalid(_) | Error::Source(_) => {
            (StatusCode::BAD_REQUEST, "invalid_payload", "ProcessesManagerInvalidPayload")
        }
        Error::Unknown(_) => (StatusCode::NOT_FOUND, "not_found", "ProcessesManagerNotFoundError"),
        Error::Ended => (StatusCode::BAD_REQUEST, "operation_error", "ProcessesManagerOperationError"),
        Error::Full(_) | Error::Threads(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "operation_error", "ProcessesManagerOperationError")
        }
    };
    let message = format!(
        "Error with command handling raised by InferencePipeline Manager. Error type: {word}. Details: {error}"
    );
    reply(status, json!({"message": message, "error_type": kind, "inner_error_type": null}).to_string())
}

#[cfg(test)]
mod tests;
