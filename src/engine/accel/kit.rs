//! All that it takes to make a network ready in a worker and to trust it, kept so that it can be done again when a worker is
//! lost.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use memmap2::Mmap;

use super::kept::Kept;
use super::prebuilt::Wrapper;
use super::process::{Failure, Process};
use super::protocol::{Load, Provider, Reply, Request};
use super::remote::{Facts, Remote};
use super::settings::Settings;
use crate::engine::plan::{self, Referee};
use crate::engine::{DeclaredInput, InputShape, Network, Precision, Session};
use crate::log;

/// A library reads and prepares the largest network served in seconds, on a board's card in a minute.
const LOAD_MAX: Duration = Duration::from_secs(180);
/// TensorRT tries thousands of kernels: nine and a half minutes were seen for one detector on an Orin.
const BUILD_MAX: Duration = Duration::from_secs(45 * 60);
/// The first inference on a GPU loads kernels.
const FIRST_MAX: Duration = Duration::from_secs(120);
/// How much longer than when it was tried an inference may take: the machine may be busy, but not dead.
const SLOWER_MAX: u32 = 10;
/// A shorter time may pass on any machine without anything being wrong.
const DEADLINE_MIN: Duration = Duration::from_secs(1);
/// Inferences by which the time of one is known: the first loads and allocates.
const TRIED: usize = 3;

/// Why a network is not ready in a worker.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// It may go well another time.
    Lost(String),
    /// It will not: the library refuses the network, or answers wrongly.
    Rejected(String),
}

impl Refusal {
    pub fn why(&self) -> &str {
        match self {
            Self::Lost(why) | Self::Rejected(why) => why,
        }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(why) => Self::Rejected(why),
            Failure::Lost(why) => Self::Lost(why),
        }
    }
}

/// See the head of this file.
#[derive(Debug)]
pub struct Kit {
    pub provider: Provider,
    pub precision: Precision,
    pub settings: Arc<Settings>,
    pub library: PathBuf,
    /// The network's file, or memory with what is in it.
    pub model: File,
    /// What the library gets instead of the network.
    pub prebuilt: Option<Wrapper>,
    /// Named in errors.
    pub origin: PathBuf,
    pub declared: DeclaredInput,
    pub shape: InputShape,
    pub threads: usize,
    /// The golden frame as the network's input, or noise where nothing is known of it.
    pub golden: Vec<f32>,
    /// Whether [`Kit::golden`] is a picture.
    pub is_picture: bool,
    /// Where what the library makes of the network is kept.
    pub kept: Option<Kept>,
}

impl Kit {
    /// Whether the library has to build an engine, which takes minutes.
    #[must_use]
    pub fn must_build(&self) -> bool {
        self.provider == Provider::TensorRt && self.prebuilt.is_none() && !self.has_engine()
    }

    /// Whether something is kept of the network.
    #[must_use]
    pub fn has_engine(&self) -> bool {
        self.kept.as_ref().is_some_and(Kept::has_engine)
    }

    /// Starts a worker, loads the network, and finds out whether its answers are right. What is kept of it and is not
    /// right, or cannot be loaded, is removed.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn start(&self) -> Result<(Remote, Referee), Refusal> {
        let started = Instant::now();
        let wrapped = self.prebuilt.as_ref().map(Wrapper::file).transpose();
        let wrapped = wrapped.map_err(|error| Refusal::Lost(format!("memory for its engine: {error}")))?;
        let mut process = Process::start(&self.settings.start()).map_err(Refusal::Lost)?;
        let load = Load {
            provider: self.provider,
            library: self.library.clone(),
            shape: self.shape.dims(),
            threads: self.threads,
            fp16: self.precision == Precision::Fp16,
            // Of an engine that was built elsewhere nothing is kept but what was found out about it.
            kept: self.kept.as_ref().filter(|_| wrapped.is_none()).map(Kept::place),
            delegate: self.settings.options.delegate.clone(),
        };
        let limit = if self.must_build() { BUILD_MAX } else { LOAD_MAX };
        let outputs = match process.ask(&Request::Load(load), &[wrapped.as_ref().unwrap_or(&self.model).as_fd()], limit)
        {
            Ok(Reply::Loaded { outputs }) => outputs,
            Ok(other) => return Err(process.lost(&format!("it answered {other:?} to a network")).into()),
            Err(failure) => {
                // What is kept may be what it cannot load: without it the next one builds anew.
                self.discard(&failure.to_string());
                return Err(failure.into());
            }
        };
        drop(wrapped);
        process.forget_words();
        let name = self.provider.name();
        let facts = Facts { engine: name, declared: self.declared, shape: self.shape, threads: self.threads };
        let mut remote = Remote::new(process, facts, &outputs, FIRST_MAX)?;
        let deadline = self.try_out(&mut remote)?;
        remote.set_limit(self.settings.options.deadline.unwrap_or(deadline));
        let referee = self.judge(&mut remote, started)?;
        Ok((remote, referee))
    }

    /// How long an inference may take from now on.
    fn try_out(&self, remote: &mut Remote) -> Result<Duration, Refusal> {
        remote.input_mut().copy_from_slice(&self.golden);
        let mut longest = Duration::ZERO;
        for tried in 0..TRIED {
            let started = Instant::now();
            remote.begin()?;
            remote.finish()?;
            // Each goes into its own slot.
            remote.input_mut().copy_from_slice(&self.golden);
            if tried > 0 {
                longest = longest.max(started.elapsed());
            }
        }
        Ok((longest * SLOWER_MAX).clamp(DEADLINE_MIN, FIRST_MAX))
    }

    /// Whether its answers are those it was found right with, or else tract's.
    fn judge(&self, remote: &mut Remote, started: Instant) -> Result<Referee, Refusal> {
        let record = self.kept.as_ref().and_then(Kept::record);
        let known =
            record.and_then(|record| plan::recognize(remote, &self.golden, &record.answers).ok().map(|_| record));
        if let Some(record) = known {
            return Ok(record.referee);
        }
        let seconds = started.elapsed().as_secs_f64();
        let referee = self.compare(remote).inspect_err(|refusal| self.discard(refusal.why()))?;
        if let Some(kept) = &self.kept {
            let answers = plan::remember(remote, &self.golden).map_err(Refusal::Lost)?;
            if let Err(why) = kept.accept(referee.clone(), answers, seconds) {
                log::say(&format!("engine {}: it is not kept: {why}", self.provider.name()));
            }
        }
        Ok(referee)
    }

    fn compare(&self, remote: &mut Remote) -> Result<Referee, Refusal> {
        // SAFETY: the file is a package's weights, which nobody rewrites while they are in use, or sealed memory.
        let bytes = unsafe { Mmap::map(&self.model) }.map_err(|error| Refusal::Lost(error.to_string()))?;
        let golden = |_: &DeclaredInput, shape: &InputShape, into: &mut [f32]| {
            if shape.volume() != self.golden.len() {
                return Err("the golden frame is of another shape".to_owned());
            }
            into.copy_from_slice(&self.golden);
            Ok(())
        };
        let network = Network {
            bytes: &bytes,
            origin: self.origin.clone(),
            shape: &|_| self.shape,
            picture: if self.is_picture { Some(&golden) } else { None },
            prebuilt: &[],
        };
        plan::compare(remote, &network, self.threads, self.precision).map_err(|failure| match failure {
            plan::Failure::Refused(why) => Refusal::Rejected(format!("its answers are wrong: {why}")),
            // Nobody can say whether it is right: then it is not trusted.
            plan::Failure::Engine(error) => Refusal::Rejected(format!("tract cannot judge it: {error}")),
        })
    }

    fn discard(&self, why: &str) {
        let Some(kept) = self.kept.as_ref().filter(|kept| kept.has_engine()) else { return };
        let (name, folder) = (self.provider.name(), kept.folder().display());
        log::say(&format!("engine {name}: what was kept in {folder} is removed: {why}"));
        kept.reject();
    }
}
