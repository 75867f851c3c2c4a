//! What the device and its worker say to each other: messages over a socket pair, and how the memory they share is laid out.
//!
//! Compiled into both programs. Each message is one packet of a `SOCK_SEQPACKET` socket: a head of two little-endian
//! numbers of 32 bits, the version of this protocol and the length of the body, and the body, JSON. Files travel beside the
//! packet as descriptors. Neither side trusts the other: a message that is too long, of another version or not understood
//! is an error, and every number is checked before it is used.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Goes up with every change: a worker of another build is refused.
pub const VERSION: u32 = 1;
/// Where the worker finds its end of the socket pair: its standard input.
pub const CONTROL_FD: RawFd = 0;
/// The longest message: the names and shapes of the widest network served take a few kilobytes.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Of version and length.
const HEAD_BYTES: usize = 8;
/// Most descriptors beside one message: both areas of shared memory.
pub const FILES_MAX: usize = 2;
/// Frames that may be on their way: one is filled while the other is computed.
pub const SLOTS: usize = 2;
/// Every tensor begins on a line of the widest cache, so that no two share one.
const ALIGN_BYTES: usize = 128;
/// Largest area of shared memory: a batch of 16 pictures of 2048 pixels a side is 0.8 GB.
const AREA_BYTES_MAX: usize = 1 << 30;

/// What runs a network inside a library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provider {
    TensorRt,
    Cuda,
    MiGraphX,
    OpenVino,
    Qnn,
    Acl,
    /// ONNX Runtime's own kernels.
    Cpu,
    /// TensorFlow Lite, with XNNPACK or a delegate.
    TfLite,
}

impl Provider {
    /// What ONNX Runtime calls it; `None` for what is not of ONNX Runtime.
    #[must_use]
    pub fn of_onnx_runtime(self) -> Option<&'static str> {
        match self {
            Self::TensorRt => Some("TensorrtExecutionProvider"),
            Self::Cuda => Some("CUDAExecutionProvider"),
            Self::MiGraphX => Some("MIGraphXExecutionProvider"),
            Self::OpenVino => Some("OpenVINOExecutionProvider"),
            Self::Qnn => Some("QNNExecutionProvider"),
            Self::Acl => Some("ACLExecutionProvider"),
            Self::Cpu => Some("CPUExecutionProvider"),
            Self::TfLite => None,
        }
    }
}

/// From the device to the worker; each is answered by one [`Reply`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Loads the library and looks what it can do here.
    Probe { provider: Provider, library: PathBuf },
    /// Makes a network ready; its file comes beside the message.
    Load(Load),
    /// Maps the shared memory: the inputs and the outputs come beside the message.
    Map,
    /// Computes what lies in a slot of the inputs.
    Run { slot: usize, sequence: u64 },
}

/// See [`Request::Load`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    pub provider: Provider,
    pub library: PathBuf,
    /// N C H W.
    pub shape: [usize; 4],
    pub threads: usize,
    /// Computes in halves where the provider can.
    pub fp16: bool,
    /// Where the provider keeps what it makes of a network: `None` where nothing may be kept.
    pub kept: Option<PathBuf>,
    /// A delegate of TensorFlow Lite, instead of XNNPACK.
    pub delegate: Option<PathBuf>,
}

/// From the worker to the device.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reply {
    Probed(Facts),
    Loaded {
        outputs: Vec<Output>,
    },
    Mapped,
    /// The outputs lie in the slot of the same number; their checksum.
    Done {
        sequence: u64,
        crc32: u32,
    },
    Failed {
        why: String,
    },
}

/// What a library is and can do on this machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The library's own version.
    pub version: String,
    /// ONNX Runtime's names of the execution providers it was built with.
    pub providers: Vec<String>,
    /// The first CUDA device, or why there is none; `None` where nothing asked for one.
    pub gpu: Option<Result<Gpu, String>>,
    /// TensorRT's version, or why it cannot be loaded.
    pub tensorrt: Option<Result<String, String>>,
    /// What the worker could not forbid itself.
    pub loose: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    pub name: String,
    /// Major and minor.
    pub compute_capability: (u32, u32),
    /// Of the kernel's driver, and the version of CUDA that it speaks.
    pub driver: String,
}

/// One output: its name and concrete shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    pub name: String,
    pub shape: Vec<usize>,
}

/// Where each tensor lies: bytes from the start of its area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Values of the input.
    pub input_len: usize,
    /// Offset in its slot and values of each output.
    pub outputs: Vec<(usize, usize)>,
    input_slot_bytes: usize,
    output_slot_bytes: usize,
}

impl Layout {
    /// # Errors
    /// The tensors are larger than any network's that is served.
    pub fn new(shape: [usize; 4], outputs: &[Output]) -> Result<Self, String> {
        let too_large =
            || format!("an input of {shape:?} and outputs {outputs:?} take more than {AREA_BYTES_MAX} bytes");
        let volume = |dims: &[usize]| dims.iter().try_fold(1, |all: usize, &dim| all.checked_mul(dim));
        let aligned = |len: usize| len.checked_mul(size_of::<f32>())?.checked_next_multiple_of(ALIGN_BYTES);
        let input_len = volume(&shape).ok_or_else(too_large)?;
        let input_slot_bytes = aligned(input_len).ok_or_else(too_large)?;
        let mut end = 0_usize;
        let mut places = Vec::with_capacity(outputs.len());
        for output in outputs {
            let len = volume(&output.shape).ok_or_else(too_large)?;
            places.push((end, len));
            end = aligned(len).and_then(|bytes| end.checked_add(bytes)).ok_or_else(too_large)?;
        }
        let layout = Self { input_len, outputs: places, input_slot_bytes, output_slot_bytes: end };
        let fits = |slot: usize| slot.checked_mul(SLOTS).is_some_and(|area| area <= AREA_BYTES_MAX);
        if fits(layout.input_slot_bytes) && fits(layout.output_slot_bytes) { Ok(layout) } else { Err(too_large()) }
    }

    #[must_use]
    pub fn inputs_bytes(&self) -> usize {
        self.input_slot_bytes * SLOTS
    }

    #[must_use]
    pub fn outputs_bytes(&self) -> usize {
        self.output_slot_bytes * SLOTS
    }

    /// Where the input of a slot begins.
    #[must_use]
    pub fn input_at(&self, slot: usize) -> usize {
        self.input_slot_bytes * slot
    }

    /// Where an output of a slot begins, and how many values it has.
    #[must_use]
    pub fn output_at(&self, slot: usize, output: usize) -> (usize, usize) {
        let (offset, len) = self.outputs[output];
        (self.output_slot_bytes * slot + offset, len)
    }
}

/// Checksum of outputs, one after the other.
pub fn crc32<'a>(outputs: impl Iterator<Item = &'a [f32]>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for output in outputs {
        // SAFETY: any bytes of numbers are bytes, as many as the slice has.
        hasher.update(unsafe { std::slice::from_raw_parts(output.as_ptr().cast::<u8>(), size_of_val(output)) });
    }
    hasher.finalize()
}

/// Room for one message, made once.
#[derive(Debug)]
pub struct Channel {
    buffer: Vec<u8>,
}

impl Default for Channel {
    fn default() -> Self {
        Self { buffer: vec![0; MESSAGE_BYTES_MAX] }
    }
}

impl Channel {
    /// Sends a message, with files beside it.
    ///
    /// # Errors
    /// The other side has gone, or the message is too long.
    pub fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        message: &impl Serialize,
        files: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let room = self.buffer.len();
        let mut rest = &mut self.buffer[HEAD_BYTES..];
        serde_json::to_writer(&mut rest, message)?;
        let used = room - rest.len();
        let body = u32::try_from(used - HEAD_BYTES).map_err(io::Error::other)?;
        self.buffer[..4].copy_from_slice(&VERSION.to_le_bytes());
        self.buffer[4..HEAD_BYTES].copy_from_slice(&body.to_le_bytes());
        let raw: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
        let beside = [ControlMessage::ScmRights(&raw)];
        let beside = if files.is_empty() { &[][..] } else { &beside[..] };
        let sent = sendmsg::<()>(
            socket.as_raw_fd(),
            &[IoSlice::new(&self.buffer[..used])],
            beside,
            MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT,
            None,
        )?;
        if sent == used { Ok(()) } else { Err(io::Error::other("a message was sent in part")) }
    }

    /// Receives a message and the files beside it; waits for it.
    ///
    /// # Errors
    /// The other side has gone, or what it said is no message.
    pub fn receive<T: DeserializeOwned>(&mut self, socket: BorrowedFd<'_>) -> io::Result<(T, Vec<OwnedFd>)> {
        let mut space = cmsg_space!([RawFd; FILES_MAX]);
        let mut into = [IoSliceMut::new(&mut self.buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(socket.as_raw_fd(), &mut into, Some(&mut space), flags)?;
        let (bytes, flags) = (message.bytes, message.flags);
        let mut files = Vec::new();
        for beside in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = beside {
                // SAFETY: the kernel has just made these descriptors for this process, and nothing else knows them.
                files.extend(raw.into_iter().map(|file| unsafe { OwnedFd::from_raw_fd(file) }));
            }
        }
        if bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
        if flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) || bytes < HEAD_BYTES {
            return Err(wrong(format!(
                "a message of {bytes} bytes or more; expected {HEAD_BYTES} to {MESSAGE_BYTES_MAX}"
            )));
        }
        let number = |at: usize| self.buffer[at..at + 4].iter().rev().fold(0, |all, &byte| all << 8 | u32::from(byte));
        if number(0) != VERSION {
            return Err(wrong(format!("a message of protocol {}; this is {VERSION}", number(0))));
        }
        if number(4) as usize != bytes - HEAD_BYTES {
            return Err(wrong(format!("a message of {} bytes that says {}", bytes - HEAD_BYTES, number(4))));
        }
        Ok((serde_json::from_slice(&self.buffer[HEAD_BYTES..bytes])?, files))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap()
    }

    #[test]
    fn a_message_and_its_files_arrive_whole() {
        let (ours, theirs) = pair();
        let mut channel = Channel::default();
        let (read, _write) = io::pipe().unwrap();
        channel.send(ours.as_fd(), &Request::Run { slot: 1, sequence: 7 }, &[read.as_fd()]).unwrap();
        let (message, files) = channel.receive::<Request>(theirs.as_fd()).unwrap();
        assert!(matches!(message, Request::Run { slot: 1, sequence: 7 }));
        assert_eq!(files.len(), 1);
        drop(ours);
        let gone = channel.receive::<Request>(theirs.as_fd()).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let (ours, theirs) = pair();
        let mut channel = Channel::default();
        let packet = |version: u32, length: u32, body: &[u8]| {
            [&version.to_le_bytes()[..], &length.to_le_bytes()[..], body].concat()
        };
        let too_long = vec![b' '; MESSAGE_BYTES_MAX + 1];
        for (packet, why) in [
            (packet(VERSION + 1, 5, b"\"map\""), "protocol 2"),
            (packet(VERSION, 6, b"\"map\""), "that says 6"),
            (packet(VERSION, 5, b"\"mop\""), "unknown variant"),
            (packet(VERSION, 40, br#"{"run":{"slot":-1,"sequence":1,"more":1}}"#)[..48].to_vec(), "invalid value"),
            (vec![1, 0, 0], "of 3 bytes"),
            (too_long, "expected 8 to 65536"),
        ] {
            nix::unistd::write(&ours, &packet).unwrap();
            let error = channel.receive::<Request>(theirs.as_fd()).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        let long = Reply::Failed { why: "x".repeat(MESSAGE_BYTES_MAX) };
        assert!(channel.send(ours.as_fd(), &long, &[]).is_err());
    }

    #[test]
    fn tensors_lie_apart_and_within_bounds() {
        let outputs = [vec![1, 84, 100], vec![1, 3]].map(|shape| Output { name: String::new(), shape });
        let layout = Layout::new([1, 3, 64, 64], &outputs).unwrap();
        assert_eq!(layout.inputs_bytes(), 2 * 3 * 64 * 64 * 4);
        let (at, len) = layout.output_at(1, 1);
        assert_eq!((at % ALIGN_BYTES, len), (0, 3));
        assert!(at + len * 4 <= layout.outputs_bytes());
        assert!(layout.output_at(1, 0).0 >= layout.output_at(0, 1).0 + 12);
        assert!(Layout::new([usize::MAX, 3, 64, 64], &outputs).is_err());
        assert!(Layout::new([1, 3, 1 << 15, 1 << 15], &outputs).is_err());
    }
}
