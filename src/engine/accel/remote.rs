//! A network in a worker, as a session: inputs and outputs in memory that both share, one of two frames computed while the
//! other is filled.
//!
//! What the worker may do to it: inputs are sealed, so that it can only read them; outputs it writes, and nothing that
//! reads them takes their values for more than numbers. An answer counts when its checksum is that of what lies there.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use memmap2::{Mmap, MmapMut};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::process::{Failure, Process};
use super::protocol::{self, Layout, Output, Reply, Request, SLOTS};
use crate::engine::{DeclaredInput, Error, Footprint, InputShape, Session, TensorInfo, TensorView};

/// Mapping memory is a matter of microseconds, on a machine that is busy of seconds.
const MAP_MAX: Duration = Duration::from_secs(10);

/// What is known of a network before it is in a worker.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The engine, for errors.
    pub engine: &'static str,
    pub declared: DeclaredInput,
    pub shape: InputShape,
    pub threads: usize,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Remote {
    process: Process,
    facts: Facts,
    infos: Vec<TensorInfo>,
    layout: Layout,
    inputs: MmapMut,
    outputs: Mmap,
    /// The slot that is filled.
    filled: usize,
    /// The slot that is computed, the number of the request, and when it is too late.
    computed: Option<(usize, u64, Instant)>,
    /// The slot of the last answer.
    answered: Option<usize>,
    sequence: u64,
    /// How long an inference may take.
    limit: Duration,
}

impl Remote {
    /// For a worker that has loaded a network with these outputs.
    ///
    /// # Errors
    /// There is not the memory, or the worker does not take it.
    pub fn new(mut process: Process, facts: Facts, outputs: &[Output], limit: Duration) -> Result<Self, Failure> {
        let refused = |error: std::io::Error| Failure::Refused(format!("shared memory: {error}"));
        let layout = Layout::new(facts.shape.dims(), outputs).map_err(Failure::Refused)?;
        let (input_file, inputs) = input_memory(layout.inputs_bytes()).map_err(refused)?;
        let (output_file, output_map) = output_memory(layout.outputs_bytes()).map_err(refused)?;
        match process.ask(&Request::Map, &[input_file.as_fd(), output_file.as_fd()], MAP_MAX)? {
            Reply::Mapped => {}
            other => return Err(process.lost(&format!("it answered {other:?} to memory"))),
        }
        let info = |output: &Output| TensorInfo { name: output.name.clone(), shape: output.shape.clone() };
        Ok(Self {
            process,
            facts,
            infos: outputs.iter().map(info).collect(),
            layout,
            inputs,
            outputs: output_map,
            filled: 0,
            computed: None,
            answered: None,
            sequence: 0,
            limit,
        })
    }

    /// From now on an inference may take this long.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Begins the inference of what was filled in, and gives the other slot to fill.
    ///
    /// # Errors
    /// The worker is lost.
    pub fn begin(&mut self) -> Result<(), Failure> {
        self.sequence += 1;
        let slot = self.filled;
        self.process.tell(&Request::Run { slot, sequence: self.sequence }, &[])?;
        self.computed = Some((slot, self.sequence, Instant::now() + self.limit));
        self.filled = (slot + 1) % SLOTS;
        Ok(())
    }

    /// Waits for the answer to what was begun.
    ///
    /// # Errors
    /// The worker refuses, or is lost.
    pub fn finish(&mut self) -> Result<(), Failure> {
        let Some((slot, sequence, deadline)) = self.computed else {
            return Err(Failure::Refused("no inference was begun".into()));
        };
        let reply = self.process.answer(deadline)?;
        let Reply::Done { sequence: of, crc32 } = reply else {
            return Err(self.process.lost(&format!("it answered {reply:?} to an inference")));
        };
        if of != sequence {
            return Err(self.process.lost(&format!("it answered request {of} instead of {sequence}")));
        }
        let found = protocol::crc32((0..self.infos.len()).map(|output| self.values(slot, output)));
        if found != crc32 {
            return Err(self.process.lost(&format!(
                "what lies in the shared memory (checksum {found:08x}) is not what it answered ({crc32:08x})"
            )));
        }
        self.computed = None;
        self.answered = Some(slot);
        Ok(())
    }

    /// The input that is computed, or was when the worker was lost.
    pub fn input_computed(&self) -> Option<&[f32]> {
        self.computed.map(|(slot, ..)| self.input(slot))
    }

    /// The input that is filled.
    pub fn input_filled(&self) -> &[f32] {
        self.input(self.filled)
    }

    fn input(&self, slot: usize) -> &[f32] {
        let (at, len) = (self.layout.input_at(slot), self.layout.input_len);
        numbers(&self.inputs[at..at + len * size_of::<f32>()])
    }

    fn values(&self, slot: usize, output: usize) -> &[f32] {
        let (at, len) = self.layout.output_at(slot, output);
        numbers(&self.outputs[at..at + len * size_of::<f32>()])
    }

    fn error(&self, failure: &Failure) -> Error {
        Error::Run { engine: self.facts.engine, why: failure.to_string() }
    }
}

impl Session for Remote {
    fn declared(&self) -> DeclaredInput {
        self.facts.declared
    }

    fn input_shape(&self) -> InputShape {
        self.facts.shape
    }

    fn outputs(&self) -> &[TensorInfo] {
        &self.infos
    }

    fn threads(&self) -> usize {
        self.facts.threads
    }

    fn input_mut(&mut self) -> &mut [f32] {
        let (at, len) = (self.layout.input_at(self.filled), self.layout.input_len);
        numbers_mut(&mut self.inputs[at..at + len * size_of::<f32>()])
    }

    /// As one step, in the slot that stays.
    fn run(&mut self) -> Result<(), Error> {
        let slot = self.filled;
        let ran = Remote::begin(self).and_then(|()| Remote::finish(self));
        self.filled = slot;
        ran.map_err(|failure| self.error(&failure))
    }

    fn output(&self, index: usize) -> TensorView<'_> {
        match (self.infos.get(index), self.answered) {
            (Some(info), Some(slot)) => TensorView { shape: &info.shape, data: self.values(slot, index) },
            _ => TensorView { shape: &[], data: &[] },
        }
    }

    fn footprint(&self) -> Footprint {
        Footprint { shared: 0, own: (self.inputs.len() + self.outputs.len()) as u64 }
    }
}

/// Memory that is written here and only read there.
fn input_memory(bytes: usize) -> std::io::Result<(OwnedFd, MmapMut)> {
    let file = memory("firstlight-inputs", bytes)?;
    // SAFETY: nobody but this process can change it: once it is mapped here, it is sealed against new writers.
    let map = unsafe { MmapMut::map_mut(&file) }?;
    let sizes = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    let readers_only = SealFlag::from_bits_retain(libc::F_SEAL_FUTURE_WRITE) | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(sizes))?;
    // Linux has it since 5.1; before, a worker that runs wild can spoil the frame in flight.
    let _ = fcntl(&file, FcntlArg::F_ADD_SEALS(readers_only));
    Ok((file.into(), map))
}

/// Memory that is written there and only read here.
fn output_memory(bytes: usize) -> std::io::Result<(OwnedFd, Mmap)> {
    let file = memory("firstlight-outputs", bytes)?;
    let sizes = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(sizes))?;
    // SAFETY: it keeps its size. The worker writes to it between a request and its answer, when nobody reads here; one that
    // runs wild writes at other times too, and then numbers are wrong: no value of it is taken for a length or a place
    // without being checked against what is known here.
    let map = unsafe { Mmap::map(&file) }?;
    Ok((file.into(), map))
}

fn memory(name: &str, bytes: usize) -> std::io::Result<File> {
    let file = File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?);
    file.set_len(bytes as u64)?;
    Ok(file)
}

/// Bytes of shared memory as numbers.
fn numbers(bytes: &[u8]) -> &[f32] {
    // SAFETY: any bits are a number.
    let (head, numbers, tail) = unsafe { bytes.align_to::<f32>() };
    assert!(head.is_empty() && tail.is_empty(), "tensors are laid out by the line");
    numbers
}

fn numbers_mut(bytes: &mut [u8]) -> &mut [f32] {
    // SAFETY: any bits are a number.
    let (head, numbers, tail) = unsafe { bytes.align_to_mut::<f32>() };
    assert!(head.is_empty() && tail.is_empty(), "tensors are laid out by the line");
    numbers
}
