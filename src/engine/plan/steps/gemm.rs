//! What all steps that multiply matrices share: pointers to rows, tile by tile, and panels run over them.

use crate::engine::plan::kernels::{Kernels, Panel, Tile};

/// Most rows of a tile.
pub const TILE_MAX: usize = 32;
/// Most lanes of a panel.
pub const LANES_MAX: usize = 64;
/// Values (4 bytes) of a pointer, at most.
pub const POINTER: usize = 2;

/// Pointers of the rows of an item, tile by tile; and a place for what may not be stored where it belongs.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// `[tile][tap][row of the tile]`.
    pub inputs: *mut *const f32,
    /// `[tile][row of the tile]`.
    pub outputs: *mut *mut f32,
    /// As the outputs.
    pub residuals: *mut *const f32,
    /// As many values as a tile has results, twice.
    spill: *mut f32,
}

impl Rows {
    /// Values of scratch for `rows` rows of `taps` taps.
    pub fn scratch(rows: usize, taps: usize) -> usize {
        (rows + TILE_MAX) * (taps + 2) * POINTER + 2 * TILE_MAX * LANES_MAX
    }

    /// # Safety
    /// `scratch` has [`Rows::scratch`] values, aligned to a cache line.
    pub unsafe fn new(scratch: *mut f32, rows: usize, taps: usize) -> Self {
        let column = (rows + TILE_MAX) * POINTER;
        // SAFETY: inside, says the caller.
        unsafe {
            Self {
                inputs: scratch.cast(),
                outputs: scratch.add(taps * column).cast(),
                residuals: scratch.add((taps + 1) * column).cast(),
                spill: scratch.add((taps + 2) * column),
            }
        }
    }

    /// Runs one panel over `count` rows, `channels` results of each. The pointers of `tile` are set here.
    ///
    /// # Safety
    /// As [`super::Work::run`]; all pointers have been set for tiles of the panel's rows, those beyond `count` too.
    pub unsafe fn run(&self, kernels: &Kernels, panel: Panel, mut tile: Tile, count: usize, channels: usize) {
        (tile.inputs, tile.outputs, tile.residuals) = (self.inputs, self.outputs, self.residuals);
        for first in (0..count).step_by(panel.pixels) {
            let rows = panel.pixels.min(count - first);
            // SAFETY: as the caller says.
            unsafe {
                if rows == panel.pixels && channels == panel.lanes {
                    kernels.gemm[panel.kernel](&tile);
                } else {
                    self.run_part(kernels, panel, &tile, rows, channels);
                }
                tile.inputs = tile.inputs.add(tile.taps * panel.pixels);
                tile.outputs = tile.outputs.add(panel.pixels);
                tile.residuals = tile.residuals.add(panel.pixels);
            }
        }
    }

    /// A tile of which not all is wanted, by way of the spill.
    ///
    /// # Safety
    /// As [`Rows::run`].
    unsafe fn run_part(&self, kernels: &Kernels, panel: Panel, tile: &Tile, rows: usize, channels: usize) {
        use crate::engine::plan::graph::Residual;
        let mut outputs = [std::ptr::null_mut::<f32>(); TILE_MAX];
        let mut residuals = [std::ptr::null::<f32>(); TILE_MAX];
        // SAFETY: a tile has at most TILE_MAX rows of LANES_MAX lanes; the spill holds two such.
        unsafe {
            let added = self.spill.add(TILE_MAX * LANES_MAX);
            for p in 0..panel.pixels {
                outputs[p] = self.spill.add(p * panel.lanes).wrapping_sub(tile.first);
                residuals[p] = added.add(p * panel.lanes).wrapping_sub(tile.first);
                if tile.finish.residual != Residual::None && p < rows {
                    let from = (*tile.residuals.add(p)).add(tile.first);
                    added.add(p * panel.lanes).copy_from_nonoverlapping(from, channels);
                }
            }
            kernels.gemm[panel.kernel](&Tile { outputs: outputs.as_ptr(), residuals: residuals.as_ptr(), ..*tile });
            for p in 0..rows {
                let to = (*tile.outputs.add(p)).add(tile.first);
                to.copy_from_nonoverlapping(self.spill.add(p * panel.lanes), channels);
            }
        }
    }
}
