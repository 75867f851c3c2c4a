//! The part of the configuration that is about models served to clients over the API.

use std::path::PathBuf;

use serde::Deserialize;

/// Models for clients, beside the one of the loop.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServingConfig {
    /// Memory that all loaded models may take together, MB of 10⁶ bytes, 16 to 1048576; absent: a quarter of the machine's.
    pub memory_mb: Option<u64>,
    /// Ids of models that are loaded at the start; `/readiness` waits for them.
    pub preload: Vec<String>,
    /// Ids of models that are loaded at the start and never make room for others.
    pub pinned: Vec<String>,
    /// Inferences of one model that may run at once, 1 to 16; each takes memory of its own.
    pub sessions: usize,
    /// Threads of one inference; absent: as `engine.threads`.
    pub threads: Option<usize>,
    /// Pipelines of `/inference_pipelines` at once, 0 to 64.
    pub pipelines_max: usize,
    /// Streams that a client may have a pipeline read, as `rtsp://camera.local` or `http://10.0.0.7:8080`, of any path; a
    /// `*` as the host is any. None: this device opens no connection because a client says so.
    pub streams: Vec<String>,
    pub images: ImagesConfig,
}

/// Where images may come from besides the request itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImagesConfig {
    /// Directories of this machine from which a request may name files, absolute; none: it may not.
    pub dirs: Vec<PathBuf>,
}

impl Default for ServingConfig {
    fn default() -> Self {
        // Two sessions: one prepares and reads out a picture while the network of the other has the cores. Eight
        // pipelines, as Roboflow's server has.
        Self {
            memory_mb: None,
            preload: Vec::new(),
            pinned: Vec::new(),
            sessions: 2,
            threads: None,
            pipelines_max: 8,
            streams: Vec::new(),
            images: ImagesConfig::default(),
        }
    }
}

impl ServingConfig {
    /// The first value that is out of range: its key, what was found, what is expected.
    pub(super) fn fault(&self) -> Option<(&'static str, String, &'static str)> {
        if let Some(found) = self.memory_mb.filter(|mb| !(16..=1_048_576).contains(mb)) {
            return Some(("serving.memory_mb", found.to_string(), "16 to 1048576"));
        }
        if !(1..=16).contains(&self.sessions) {
            return Some(("serving.sessions", self.sessions.to_string(), "1 to 16"));
        }
        if let Some(found) = self.threads.filter(|threads| !(1..=64).contains(threads)) {
            return Some(("serving.threads", found.to_string(), "1 to 64"));
        }
        if self.pipelines_max > 64 {
            return Some(("serving.pipelines_max", self.pipelines_max.to_string(), "0 to 64"));
        }
        let names_a_host = |stream: &&String| {
            stream.split_once("://").is_some_and(|(kind, host)| {
                ["rtsp", "http", "https"].contains(&kind) && !host.is_empty() && !host.contains(['/', '@', '?', '#'])
            })
        };
        if let Some(found) = self.streams.iter().find(|stream| !names_a_host(stream)) {
            return Some(("serving.streams", found.clone(), "such as `rtsp://camera.local`, without path or password"));
        }
        let relative = self.images.dirs.iter().find(|dir| !dir.is_absolute());
        relative.map(|dir| ("serving.images.dirs", dir.display().to_string(), "absolute directories"))
    }
}
