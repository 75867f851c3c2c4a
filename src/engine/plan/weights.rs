//! Packed weights where they lie: in the mapping of a plan's file, or in memory when there is no file.

use memmap2::{Mmap, MmapMut};

use super::file::Mapped;

/// Weights in use. Both kinds begin at a page, so that no vector of them crosses a cache line.
#[derive(Debug)]
pub enum Weights {
    File(Mapped),
    Memory { map: Mmap, count: usize },
}

impl Weights {
    /// Copies weights into memory of their own.
    ///
    /// # Errors
    /// There is not enough.
    pub fn in_memory(values: &[f32]) -> std::io::Result<Self> {
        // An empty mapping is an error.
        let mut map = MmapMut::map_anon(size_of_val(values).max(1))?;
        for (to, value) in map.chunks_exact_mut(size_of::<f32>()).zip(values) {
            to.copy_from_slice(&value.to_ne_bytes());
        }
        Ok(Self::Memory { map: map.make_read_only()?, count: values.len() })
    }
}

impl AsRef<[f32]> for Weights {
    fn as_ref(&self) -> &[f32] {
        match self {
            Self::File(mapped) => mapped.as_ref(),
            // SAFETY: the mapping is aligned to a page, has this many values, and every pattern of bits is one.
            Self::Memory { map, count } => unsafe { std::slice::from_raw_parts(map.as_ptr().cast(), *count) },
        }
    }
}
