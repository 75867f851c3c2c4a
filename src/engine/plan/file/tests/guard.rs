//! Memory that ends at a page nobody may touch.

use std::ptr::NonNull;

const PAGE: usize = 4096;

/// What lies before the values, in their first page, and after them where that is asked for.
pub const CANARY: u32 = 0x7fa5_c3e1;

/// Values between two pages of which any touch ends the process.
pub struct Guarded {
    map: NonNull<u8>,
    bytes: usize,
    first: usize,
    volume: usize,
}

impl Guarded {
    /// All are zero; they begin at a multiple of 64 bytes if there is a multiple of 16 of them.
    pub fn new(volume: usize) -> Self {
        let inner = (volume * size_of::<f32>()).next_multiple_of(PAGE).max(PAGE);
        let bytes = inner + 2 * PAGE;
        // SAFETY: a new mapping; then the protection of its inner pages.
        let map = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            let map = libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0);
            assert_ne!(map, libc::MAP_FAILED);
            assert_eq!(libc::mprotect(map.add(PAGE), inner, libc::PROT_READ | libc::PROT_WRITE), 0);
            NonNull::new(map.cast::<u8>()).unwrap()
        };
        let first = PAGE + inner - volume * size_of::<f32>();
        let mut guarded = Self { map, bytes, first, volume };
        guarded.before().fill(CANARY);
        guarded
    }

    fn before(&mut self) -> &mut [u32] {
        // SAFETY: inside the readable and writable pages.
        unsafe { std::slice::from_raw_parts_mut(self.map.as_ptr().add(PAGE).cast(), (self.first - PAGE) / 4) }
    }

    pub fn pointer(&mut self) -> *mut f32 {
        // SAFETY: inside the mapping, or one past the readable part.
        unsafe { self.map.as_ptr().add(self.first).cast() }
    }

    pub fn values(&mut self) -> &mut [f32] {
        // SAFETY: as many values are readable and writable.
        unsafe { std::slice::from_raw_parts_mut(self.pointer(), self.volume) }
    }

    pub fn bits(&mut self) -> &[u32] {
        // SAFETY: as above, and any bits are a u32.
        unsafe { std::slice::from_raw_parts(self.pointer().cast(), self.volume) }
    }

    /// Whether nothing was written before the values.
    pub fn is_sound(&mut self) -> bool {
        self.before().iter().all(|&value| value == CANARY)
    }

    /// From now on every write ends the process.
    pub fn protect(&self) {
        // SAFETY: the pages of this mapping.
        unsafe {
            let inner = self.map.as_ptr().add(PAGE).cast();
            assert_eq!(libc::mprotect(inner, self.bytes - 2 * PAGE, libc::PROT_READ), 0);
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: mapped with this length.
        unsafe { libc::munmap(self.map.as_ptr().cast(), self.bytes) };
    }
}
