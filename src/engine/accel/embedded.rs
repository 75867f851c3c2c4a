//! The worker that this binary carries, unpacked into memory that nothing can change any more.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use flate2::write::ZlibDecoder;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Packed by `build.rs`; empty in a build without `scripts/worker`.
static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/worker.zlib"));

/// The program, to be started as often as need be.
///
/// # Errors
/// This build has none, or there is not the memory for it.
pub fn program() -> Result<BorrowedFd<'static>, String> {
    static PROGRAM: OnceLock<Result<OwnedFd, String>> = OnceLock::new();
    if PACKED.is_empty() {
        return Err("this build has no worker: scripts/worker builds one for the next build".into());
    }
    let unpacked = PROGRAM.get_or_init(|| unpack().map_err(|error| format!("the worker in memory: {error}")));
    unpacked.as_ref().map(AsFd::as_fd).map_err(Clone::clone)
}

fn unpack() -> io::Result<OwnedFd> {
    let file = memfd_create("firstlight-worker", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut decoder = ZlibDecoder::new(File::from(file));
    decoder.write_all(PACKED)?;
    let file = decoder.finish()?;
    let sealed = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(sealed))?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn the_program_is_whole_and_sealed() {
        let Ok(program) = program() else {
            assert!(PACKED.is_empty(), "a worker that is there can be unpacked");
            return;
        };
        let mut file = File::options()
            .read(true)
            .open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&program)))
            .unwrap();
        let mut head = [0; 4];
        file.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"\x7fELF");
        assert!(nix::unistd::write(program, b"x").is_err());
        assert!(nix::unistd::ftruncate(program, 0).is_err());
    }
}
