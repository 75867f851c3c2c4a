//! The worker: a small glibc program that loads what the vendors ship (ONNX Runtime, TensorRT, CUDA, TensorFlow Lite), runs
//! one network with it, and may crash. `firstlight` carries it, starts it with one end of a socket pair, and watches it.
//!
//! It answers one request after the other and ends with its socket. It knows nothing of models, cameras or settings.

mod cuda;
mod fence;
mod memory;
mod network;
mod onnx_runtime;
#[path = "../../engine/accel/protocol.rs"]
mod protocol;
mod tflite;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::process::ExitCode;

use memory::{Area, model_bytes};
use network::Network;
use protocol::{CONTROL_FD, Channel, Facts, Layout, Load, Provider, Reply, Request};

/// What was loaded, and where its tensors lie.
struct Ready {
    network: Box<dyn Network>,
    shape: [usize; 4],
    /// Once it is mapped.
    shared: Option<Shared>,
}

struct Shared {
    layout: Layout,
    inputs: Area,
    outputs: Area,
}

fn main() -> ExitCode {
    let loose = fence::raise();
    // SAFETY: who starts this program puts a socket there and tells nobody else in it; see `protocol::CONTROL_FD`.
    let socket = unsafe { OwnedFd::from_raw_fd(CONTROL_FD) };
    let mut channel = Channel::default();
    let mut ready = None;
    loop {
        let (request, files) = match channel.receive::<Request>(socket.as_fd()) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return ExitCode::SUCCESS,
            Err(error) => return failed(&error),
        };
        let reply =
            answer(request, files, &mut ready, &loose).unwrap_or_else(|why| Reply::Failed { why: bounded(why) });
        if let Err(error) = channel.send(socket.as_fd(), &reply, &[]) {
            return failed(&error);
        }
    }
}

/// What the system says of a library that cannot be loaded: which file is missing, which symbol.
fn loading(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

fn failed(error: &io::Error) -> ExitCode {
    eprintln!("worker: {error}");
    ExitCode::FAILURE
}

/// A vendor's message may be a page of stack; its beginning says what is wrong.
fn bounded(mut why: String) -> String {
    const WHY_BYTES_MAX: usize = 2000;
    if why.len() > WHY_BYTES_MAX {
        let end = (0..=WHY_BYTES_MAX).rev().find(|&end| why.is_char_boundary(end)).unwrap_or(0);
        why.truncate(end);
    }
    why
}

fn answer(request: Request, files: Vec<OwnedFd>, ready: &mut Option<Ready>, loose: &[String]) -> Result<Reply, String> {
    match request {
        Request::Probe { provider, library } => {
            let facts = match provider {
                Provider::TfLite => Facts { version: tflite::version(&library)?, ..Facts::default() },
                _ => onnx_runtime::probe(&library)?,
            };
            Ok(Reply::Probed(Facts { loose: loose.to_vec(), ..facts }))
        }
        Request::Load(load) => {
            let [file] = <[OwnedFd; 1]>::try_from(files).map_err(|_| "no file beside the network")?;
            let network = open(&load, File::from(file))?;
            let outputs = network.outputs().to_vec();
            *ready = Some(Ready { network, shape: load.shape, shared: None });
            Ok(Reply::Loaded { outputs })
        }
        Request::Map => {
            let ready = ready.as_mut().ok_or("nothing is loaded")?;
            let [inputs, outputs] = <[OwnedFd; 2]>::try_from(files).map_err(|_| "no memory beside the message")?;
            let layout = Layout::new(ready.shape, ready.network.outputs())?;
            let inputs = Area::read(&inputs, layout.inputs_bytes()).map_err(|error| format!("inputs: {error}"))?;
            let outputs = Area::write(&outputs, layout.outputs_bytes()).map_err(|error| format!("outputs: {error}"))?;
            ready.shared = Some(Shared { layout, inputs, outputs });
            Ok(Reply::Mapped)
        }
        Request::Run { slot, sequence } => {
            let ready = ready.as_mut().ok_or("nothing is loaded")?;
            let shared = ready.shared.as_mut().ok_or("no memory is mapped")?;
            let crc32 = shared.run(&mut *ready.network, slot)?;
            Ok(Reply::Done { sequence, crc32 })
        }
    }
}

fn open(load: &Load, file: File) -> Result<Box<dyn Network>, String> {
    let bytes = model_bytes(&file).map_err(|error| format!("the network's file: {error}"))?;
    match load.provider {
        Provider::TfLite => tflite::load(&load.library, bytes.to_vec(), load.threads, load.delegate.as_deref()),
        _ => onnx_runtime::load(load, &bytes),
    }
}

impl Shared {
    /// Computes a slot; the checksum of what came of it.
    fn run(&mut self, network: &mut dyn Network, slot: usize) -> Result<u32, String> {
        if slot >= protocol::SLOTS {
            return Err(format!("slot {slot}; there are {}", protocol::SLOTS));
        }
        let input = self.inputs.values(self.layout.input_at(slot), self.layout.input_len);
        let places: Vec<(usize, usize)> =
            (0..self.layout.outputs.len()).map(|output| self.layout.output_at(slot, output)).collect();
        let mut outputs = self.outputs.values_mut(&places);
        network.run(input, &mut outputs)?;
        Ok(protocol::crc32(outputs.iter().map(|output| &**output)))
    }
}
