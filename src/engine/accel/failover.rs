//! The session of an accelerator: a worker computes while it can, and an engine of the CPU when it cannot.
//!
//! A worker that is lost costs the frame in flight its time and not its answer: the input is still here, and the CPU answers
//! it. Another worker is made ready beside that, and takes over between two frames.

use std::time::Instant;

use super::keeper::{Fresh, Keeper, State};
use super::remote::Remote;
use crate::engine::{DeclaredInput, Error, Footprint, InputShape, Session, Standing, TensorInfo, TensorView};
use crate::log;

/// Who is to say what.
#[derive(Clone, Debug)]
pub struct Names {
    /// The accelerator's engine.
    pub engine: &'static str,
    pub version: String,
    /// The engine of the CPU.
    pub standby: &'static str,
    pub standby_version: String,
    /// What was refused before an engine had to be built, beginning with a semicolon; empty where nothing was.
    pub refused: String,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Failover {
    names: Names,
    remote: Option<Remote>,
    standby: Box<dyn Session>,
    keeper: Keeper,
    standing: Standing,
    /// Whether an inference was begun in the worker.
    begun: bool,
    /// Whether the last answer is the standby's.
    answered_by_standby: bool,
    /// One that was lost while its last answer is still of use.
    left: Option<Remote>,
    sha256: String,
}

impl Failover {
    /// With a worker that is ready, or none yet.
    #[must_use]
    pub fn new(
        names: Names,
        remote: Option<Remote>,
        standby: Box<dyn Session>,
        keeper: Keeper,
        sha256: String,
    ) -> Self {
        let standing = Standing { changes: 0, engine: names.engine, version: names.version.clone(), trouble: None };
        let mut session = Self {
            names,
            answered_by_standby: remote.is_none(),
            remote,
            standby,
            keeper,
            standing,
            begun: false,
            left: None,
            sha256,
        };
        session.stand();
        session
    }

    /// Takes a worker that has become ready. What was filled in so far goes with it.
    fn adopt(&mut self) {
        if self.remote.is_some() || self.begun {
            return;
        }
        if let Some(Fresh { mut remote, told }) = self.keeper.fresh() {
            remote.input_mut().copy_from_slice(self.standby.input_mut());
            log::say(&format!("engine {} {} takes over: {told}", self.names.engine, self.names.version));
            self.remote = Some(remote);
        }
        self.stand();
    }

    /// Writes down who answers, when that has changed.
    fn stand(&mut self) {
        let trouble = match (&self.remote, self.keeper.state()) {
            (Some(_), _) => None,
            (None, State::Ready) => Some("a worker is ready and not yet taken".to_owned()),
            (None, State::Building(since)) => Some(building(since) + &self.names.refused),
            (None, State::Lost(why)) => Some(format!("{why}; another is being started")),
            (None, State::Rejected(why)) => Some(format!("rejected: {why}")),
        };
        let (engine, version) = match self.remote {
            Some(_) => (self.names.engine, &self.names.version),
            None => (self.names.standby, &self.names.standby_version),
        };
        let trouble =
            trouble.map(|why| format!("{} answers instead of {}: {why}", self.names.standby, self.names.engine));
        if self.standing.engine != engine || self.standing.trouble != trouble {
            self.standing = Standing { changes: self.standing.changes + 1, engine, version: version.clone(), trouble };
        }
    }

    /// Gives a worker up, and lets the standby answer what it was computing.
    fn fall_back(&mut self, why: &str) -> Result<(), Error> {
        let Some(remote) = self.remote.take() else { return self.by_standby() };
        self.begun = false;
        log::say(&format!("engine {}: {why}; {} answers", self.names.engine, self.names.standby));
        self.keeper.lost(why);
        self.stand();
        self.standby.input_mut().copy_from_slice(remote.input_computed().unwrap_or_else(|| remote.input_filled()));
        let ran = self.by_standby();
        // The next frame, which may be filled in already.
        self.standby.input_mut().copy_from_slice(remote.input_filled());
        ran
    }

    fn by_standby(&mut self) -> Result<(), Error> {
        self.answered_by_standby = true;
        self.left = None;
        self.standby.run()
    }

    fn answering(&self) -> &dyn Session {
        match self.remote.as_ref().or(self.left.as_ref()) {
            Some(remote) if !self.answered_by_standby => remote,
            _ => &*self.standby,
        }
    }
}

/// Words that change once a minute, so that whoever watches sees it goes on, and nobody is told every frame.
fn building(since: Instant) -> String {
    match since.elapsed().as_secs() / 60 {
        0 => "its engine is being built, which takes minutes".into(),
        minutes => format!("its engine is being built for {minutes} min; some take ten"),
    }
}

impl Session for Failover {
    fn declared(&self) -> DeclaredInput {
        self.standby.declared()
    }

    fn input_shape(&self) -> InputShape {
        self.standby.input_shape()
    }

    fn outputs(&self) -> &[TensorInfo] {
        self.standby.outputs()
    }

    fn threads(&self) -> usize {
        self.standby.threads()
    }

    fn input_mut(&mut self) -> &mut [f32] {
        self.adopt();
        match &mut self.remote {
            Some(remote) => remote.input_mut(),
            None => self.standby.input_mut(),
        }
    }

    fn run(&mut self) -> Result<(), Error> {
        let Some(remote) = &mut self.remote else {
            self.stand();
            return self.by_standby();
        };
        match remote.run() {
            Ok(()) => {
                self.answered_by_standby = false;
                Ok(())
            }
            Err(Error::Run { why, .. }) => self.fall_back(&why),
            Err(error) => Err(error),
        }
    }

    fn begin(&mut self) -> Result<bool, Error> {
        self.adopt();
        let Some(remote) = &mut self.remote else { return Ok(false) };
        match remote.begin() {
            Ok(()) => {
                self.begun = true;
                Ok(true)
            }
            Err(failure) => {
                let why = failure.to_string();
                log::say(&format!("engine {}: {why}; {} answers", self.names.engine, self.names.standby));
                self.standby.input_mut().copy_from_slice(remote.input_filled());
                self.left = self.remote.take();
                self.keeper.lost(&why);
                self.stand();
                Ok(false)
            }
        }
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.begun = false;
        let Some(remote) = &mut self.remote else { return self.by_standby() };
        match remote.finish() {
            Ok(()) => {
                self.answered_by_standby = false;
                Ok(())
            }
            Err(failure) => self.fall_back(&failure.to_string()),
        }
    }

    fn output(&self, index: usize) -> TensorView<'_> {
        self.answering().output(index)
    }

    fn footprint(&self) -> Footprint {
        let standby = self.standby.footprint();
        let own = self.remote.as_ref().map_or(0, |remote| remote.footprint().own);
        Footprint { own: standby.own + own, ..standby }
    }

    fn sha256(&self) -> Option<&str> {
        Some(&self.sha256)
    }

    fn standing(&self) -> Option<&Standing> {
        Some(&self.standing)
    }
}
