//! Memory that is shared with the device: the inputs, which the worker may only read, and the outputs.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// A mapped area of whole values.
pub struct Area {
    start: NonNull<f32>,
    bytes: usize,
}

impl Area {
    /// An area that is only read.
    pub fn read(file: &impl AsFd, bytes: usize) -> io::Result<Self> {
        Self::map(file, bytes, ProtFlags::PROT_READ)
    }

    /// An area that is written as well.
    pub fn write(file: &impl AsFd, bytes: usize) -> io::Result<Self> {
        Self::map(file, bytes, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)
    }

    fn map(file: &impl AsFd, bytes: usize, protection: ProtFlags) -> io::Result<Self> {
        let there = nix::sys::stat::fstat(file)?.st_size;
        let wrong = || io::Error::other(format!("shared memory of {there} bytes; expected {bytes}"));
        let length = NonZeroUsize::new(bytes).filter(|_| usize::try_from(there) == Ok(bytes)).ok_or_else(wrong)?;
        // SAFETY: a new mapping, at a place of the kernel's choice, touches nothing that is there; its file is sealed
        // against shrinking by who made it.
        let start = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Self { start: start.cast(), bytes })
    }

    /// Values from a place; `at` is in bytes.
    pub fn values(&self, at: usize, len: usize) -> &[f32] {
        self.check(at, len);
        // SAFETY: checked to lie within the mapping, which lives as long as `self`; any bits are a number.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().byte_add(at), len) }
    }

    /// Values from several places, each in bytes and with its length; they may not overlap.
    pub fn values_mut(&mut self, places: &[(usize, usize)]) -> Vec<&mut [f32]> {
        let mut free = 0;
        let mut values = Vec::with_capacity(places.len());
        for &(at, len) in places {
            assert!(at >= free, "places in the order of their bytes");
            self.check(at, len);
            free = at + len * size_of::<f32>();
            // SAFETY: within the mapping as above, which is borrowed as long, and behind all places before it.
            values.push(unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().byte_add(at), len) });
        }
        values
    }

    fn check(&self, at: usize, len: usize) {
        let end = len.checked_mul(size_of::<f32>()).and_then(|bytes| bytes.checked_add(at));
        assert!(at.is_multiple_of(align_of::<f32>()) && end.is_some_and(|end| end <= self.bytes), "within the area");
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: what was mapped in `map`, and no borrow outlives `self`.
        let _ = unsafe { munmap(self.start.cast(), self.bytes) };
    }
}

/// The bytes of a file while a library reads them.
pub struct Bytes {
    start: NonNull<u8>,
    len: usize,
}

/// Maps a network's file.
pub fn model_bytes(file: &File) -> io::Result<Bytes> {
    let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let length = NonZeroUsize::new(len).ok_or_else(|| io::Error::other("it is empty"))?;
    // SAFETY: as in `Area::map`; a package's weights are not rewritten while they are in use.
    let start = unsafe { mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE, file, 0) }?;
    Ok(Bytes { start: start.cast(), len })
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping has as many bytes, and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        // SAFETY: what was mapped in `model_bytes`.
        let _ = unsafe { munmap(self.start.cast(), self.len) };
    }
}
