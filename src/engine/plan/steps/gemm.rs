//! What all steps that multiply matrices share: pointers to rows, tile by tile, and panels run over them.

use crate::engine::plan::graph::{Finish, Residual};
use crate::engine::plan::kernels::{Isa, Kernels, Panel, Tile, halves};

/// Most rows of a tile.
pub const TILE_MAX: usize = 32;
/// Most lanes of a panel.
pub const LANES_MAX: usize = 64;
/// Values (4 bytes) of a pointer, at most.
pub const POINTER: usize = 2;

/// Rows that are transposed at once.
const SQUARE: usize = 16;

/// What a micro-kernel multiplies: numbers, or halves.
pub trait Factor: Copy {
    /// How many take the place of one number.
    const IN_NUMBER: usize;

    /// The panels of an instruction set that has such a micro-kernel.
    fn panels(isa: &Isa, channels: usize) -> impl Iterator<Item = Panel>;

    /// The micro-kernel of each panel.
    fn gemm(kernels: &Kernels) -> &[unsafe fn(&Tile<Self>)];
}

impl Factor for f32 {
    const IN_NUMBER: usize = 1;

    fn panels(isa: &Isa, channels: usize) -> impl Iterator<Item = Panel> {
        isa.panels(channels)
    }

    fn gemm(kernels: &Kernels) -> &[unsafe fn(&Tile)] {
        kernels.gemm
    }
}

impl Factor for u16 {
    const IN_NUMBER: usize = halves::IN_NUMBER;

    fn panels(isa: &Isa, channels: usize) -> impl Iterator<Item = Panel> {
        isa.fp16.into_iter().flat_map(move |tiles| tiles.panels(channels))
    }

    fn gemm(kernels: &Kernels) -> &[unsafe fn(&Tile<u16>)] {
        kernels.halves.as_ref().expect("check() has seen that there are such").gemm
    }
}

/// Pointers of the rows of an item, tile by tile; and a place for what may not be stored where it belongs.
#[derive(Clone, Copy, Debug)]
pub struct Rows<T = f32> {
    /// `[tile][tap][row of the tile]`.
    pub inputs: *mut *const T,
    /// `[tile][row of the tile]`.
    pub outputs: *mut *mut f32,
    /// As the outputs.
    pub residuals: *mut *const f32,
    /// As many values as a tile has results, twice.
    spill: *mut f32,
}

impl<T: Factor> Rows<T> {
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
    pub unsafe fn run(&self, kernels: &Kernels, panel: Panel, mut tile: Tile<T>, count: usize, channels: usize) {
        (tile.inputs, tile.outputs, tile.residuals) = (self.inputs, self.outputs, self.residuals);
        for first in (0..count).step_by(panel.pixels) {
            let rows = panel.pixels.min(count - first);
            // SAFETY: as the caller says.
            unsafe {
                if rows == panel.pixels && channels == panel.lanes {
                    T::gemm(kernels)[panel.kernel](&tile);
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
    unsafe fn run_part(&self, kernels: &Kernels, panel: Panel, tile: &Tile<T>, rows: usize, channels: usize) {
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
            T::gemm(kernels)[panel.kernel](&Tile { outputs: outputs.as_ptr(), residuals: residuals.as_ptr(), ..*tile });
            for p in 0..rows {
                let to = (*tile.outputs.add(p)).add(tile.first);
                to.copy_from_nonoverlapping(self.spill.add(p * panel.lanes), channels);
            }
        }
    }
}

/// A matrix wherever it lies.
#[derive(Clone, Copy, Debug)]
pub struct Matrix {
    pub values: *const f32,
    /// From one row to the next, and from one column to the next.
    pub row: usize,
    pub column: usize,
}

/// A product of matrices: how deep, and how wide its result.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    pub depth: usize,
    pub columns: usize,
}

impl Product {
    /// Values of the second matrix when it is packed.
    pub fn packed(&self, isa: &Isa) -> usize {
        self.depth * isa.panels(self.columns).map(|panel| panel.lanes).sum::<usize>()
    }

    /// Values of scratch to multiply up to `rows` rows.
    pub fn scratch(rows: usize) -> usize {
        Rows::<f32>::scratch(rows, 1) + LANES_MAX
    }

    /// The second matrix times `scale`, as the micro-kernel wants its weights.
    ///
    /// # Safety
    /// `b` has `depth` rows of `columns`, `to` room for [`Product::packed`].
    pub unsafe fn pack(&self, b: Matrix, scale: f32, to: *mut f32, isa: &Isa) {
        let (mut first, mut to) = (0, to);
        for panel in isa.panels(self.columns) {
            let lanes = panel.lanes.min(self.columns - first);
            // SAFETY: inside, says the caller.
            unsafe {
                let from = b.values.add(first * b.column);
                if b.column == 1 {
                    for k in 0..self.depth {
                        let (from, to) = (from.add(k * b.row), to.add(k * panel.lanes));
                        (0..lanes).for_each(|lane| *to.add(lane) = scale * *from.add(lane));
                    }
                } else {
                    // Along what lies together, and few rows at once: whole cache lines on both sides.
                    for first in (0..self.depth).step_by(SQUARE) {
                        let rows = first..(first + SQUARE).min(self.depth);
                        for lane in 0..lanes {
                            let from = from.add(lane * b.column);
                            rows.clone().for_each(|k| *to.add(k * panel.lanes + lane) = scale * *from.add(k * b.row));
                        }
                    }
                }
                if lanes < panel.lanes {
                    let end = |k: usize| to.add(k * panel.lanes + lanes);
                    (0..self.depth).for_each(|k| end(k).write_bytes(0, panel.lanes - lanes));
                }
                to = to.add(self.depth * panel.lanes);
            }
            first += panel.lanes;
        }
    }

    /// Some rows of the product. `a` and the result are contiguous along their rows, which are `a_row` and `to_row` apart.
    ///
    /// # Safety
    /// All is there; `scratch` has [`Product::scratch`] values for so many rows.
    pub unsafe fn multiply(
        &self,
        rows: usize,
        (a, a_row): (*const f32, usize),
        packed: *const f32,
        (to, to_row): (*mut f32, usize),
        scratch: *mut f32,
        kernels: &Kernels,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let pointers = Rows::<f32>::new(scratch, rows, 1);
            let bias = scratch.add(Rows::<f32>::scratch(rows, 1));
            bias.write_bytes(0, LANES_MAX);
            let (mut first, mut gathered, mut packed) = (0, 0, packed);
            for panel in kernels.isa.panels(self.columns) {
                if gathered != panel.pixels {
                    for index in 0..rows.next_multiple_of(panel.pixels) {
                        let row = index.min(rows - 1);
                        *pointers.inputs.add(index) = a.add(row * a_row);
                        *pointers.outputs.add(index) = to.add(row * to_row);
                    }
                    gathered = panel.pixels;
                }
                let channels = panel.lanes.min(self.columns - first);
                let tile = Tile::new(1, self.depth, packed, bias, first, Finish::default());
                pointers.run(kernels, panel, tile, rows, channels);
                packed = packed.add(self.depth * panel.lanes);
                first += panel.lanes;
            }
        }
    }
}

/// Items into which `rows` rows of each of `batch` products are cut: enough for threads to share them evenly, few enough
/// that it pays back that each packs the other matrix.
pub fn blocks(batch: usize, rows: usize) -> usize {
    /// Items that there should be.
    const ITEMS: usize = 8;
    /// Rows of an item, at least and at most: the pointers of the most stay in the first cache.
    const ROWS: [usize; 2] = [64, 1024];
    ITEMS.div_ceil(batch).min(rows.div_ceil(ROWS[0])).max(rows.div_ceil(ROWS[1]))
}
