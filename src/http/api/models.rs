//! What is loaded and what is in the cache: `/model/…`, `/models`, `/start/…`. Unloading frees memory; no file is touched.

use hyper::StatusCode;
use serde::Serialize;

use super::fault::Fault;
use super::fields::members;
use super::lax::{Null, Reader};
use super::{Api, Call, head};
use crate::cache::aliases;
use crate::http::reply::{Answer, json};
use crate::model::Task;
use crate::serving::{CachedState, Description};

/// A model of the registry, in Roboflow's words and order.
#[derive(Debug, Serialize)]
struct Entry<'a> {
    model_id: &'a str,
    task_type: &'static str,
    batch_size: usize,
    input_height: usize,
    input_width: usize,
    vram_bytes: Option<u64>,
    request_aliases: &'a [String],
    request_paths: &'a [String],
}

impl<'a> Entry<'a> {
    fn of(model: &'a Description) -> Self {
        Self {
            model_id: &model.model_id,
            task_type: task_type(model.task),
            batch_size: model.batch,
            input_height: model.height,
            input_width: model.width,
            vram_bytes: None,
            request_aliases: &model.aliases,
            request_paths: &model.paths,
        }
    }
}

/// Roboflow's registry. Figures of a graphics card are null where there is none.
#[derive(Debug, Serialize)]
struct Registry<'a> {
    models: Vec<Entry<'a>>,
    total_vram_bytes: Option<u64>,
    gpu_memory_used: Option<u64>,
    gpu_memory_total: Option<u64>,
    torch_cuda_allocated: Option<u64>,
    torch_cuda_reserved: Option<u64>,
    torch_cuda_allocator_cache: Option<u64>,
    non_torch_gpu_memory: Option<u64>,
}

/// What Roboflow's client finds a route by; it knows none for classifiers of many labels, which its server answers on
/// the route of the others.
fn task_type(task: Task) -> &'static str {
    match task {
        Task::MultiLabelClassification => Task::Classification.as_str(),
        task => task.as_str(),
    }
}

/// `/model/registry`.
pub(super) fn registry(api: &Api) -> Answer {
    let loaded = api.models.list();
    let registry = Registry {
        models: loaded.iter().map(Entry::of).collect(),
        total_vram_bytes: None,
        gpu_memory_used: None,
        gpu_memory_total: None,
        torch_cuda_allocated: None,
        torch_cuda_reserved: None,
        torch_cuda_allocator_cache: None,
        non_torch_gpu_memory: None,
    };
    serialized(&registry)
}

fn serialized(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => json(StatusCode::OK, body),
        Err(error) => Fault::internal(error).into_answer(),
    }
}

/// The `model_id` of a body; the other fields are checked and mean nothing here.
fn model_id(call: &Call) -> Result<String, Fault> {
    const FIELDS: [&str; 3] = ["model_id", "model_type", "api_key"];
    let members = members(call.content_type.as_deref(), call.body(), &|name| FIELDS.contains(&name))?;
    let mut reader = Reader::new(members, "body");
    let id = reader.required_text("model_id").map(std::borrow::Cow::into_owned);
    for name in ["model_type", "api_key"] {
        reader.text(name, Null::Allowed);
    }
    match id {
        Some(id) if reader.problems.is_empty() => Ok(id),
        _ => Err(Fault::Invalid(reader.problems)),
    }
}

/// `/model/add`.
pub(super) fn add(api: &Api, call: &Call) -> Answer {
    match model_id(call) {
        Ok(id) => load(api, call, &id, registry),
        Err(fault) => fault.into_answer(),
    }
}

/// `/start/…`.
pub(super) fn start(api: &Api, call: &Call, id: &str) -> Answer {
    load(api, call, id, |_| {
        json(StatusCode::OK, r#"{"status":200,"message":"inference session started from local memory."}"#)
    })
}

fn load(api: &Api, call: &Call, id: &str, done: impl FnOnce(&Api) -> Answer) -> Answer {
    let loaded_in = api.lease(id, &call.path, call.by).map(|lease| lease.loaded_in());
    let (mut answer, loaded_in) = match loaded_in {
        Ok(loaded_in) => (done(api), loaded_in),
        Err(fault) => (fault.into_answer(), None),
    };
    head::name_model(&mut answer, aliases::resolve(id), loaded_in);
    answer
}

/// `/model/remove`.
pub(super) fn remove(api: &Api, call: &Call) -> Answer {
    match model_id(call) {
        Ok(id) => {
            api.models.remove(&id);
            registry(api)
        }
        Err(fault) => fault.into_answer(),
    }
}

/// `/model/clear`.
pub(super) fn clear(api: &Api) -> Answer {
    api.models.clear();
    registry(api)
}

/// `/clear_cache`, which in Roboflow's server clears memory too.
pub(super) fn clear_cache(api: &Api) -> Answer {
    api.models.clear();
    json(StatusCode::OK, r#""Cache Cleared""#)
}

/// `/models`: everything in the cache and what became of it.
pub(super) fn cached(api: &Api) -> Answer {
    #[derive(Serialize)]
    struct Cached {
        id: String,
        task: Option<String>,
        state: &'static str,
        pinned: bool,
        /// Memory, 0 while not loaded.
        bytes: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    }
    let models = api.models.cached().into_iter().map(|cached| {
        let (state, why) = match cached.state {
            CachedState::Loaded => ("loaded", None),
            CachedState::Cached => ("cached", None),
            CachedState::Broken(why) => ("broken", Some(why)),
        };
        Cached { id: cached.id, task: cached.task, state, pinned: cached.pinned, bytes: cached.bytes, why }
    });
    serialized(&models.collect::<Vec<_>>())
}
