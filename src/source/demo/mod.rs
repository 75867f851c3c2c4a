//! The source `demo:`: an endless conveyor of bolts, nuts and washers, drawn as it goes, with the truth beside it.
//!
//! It is the scene that the embedded model ([`crate::demo`]) was trained on, described in `src/demo/SCENE.md`, with the
//! demo values of that page. The belt moves right by [`STEP_PX`] pixels a frame; parts are let in beyond the left
//! edge and out beyond the right, so it never ends and never grows. Frame `n` depends on the seed and on `n` alone.
//!
//! May not know: models and engines. [`Score`] compares plain boxes.
//!
//! ```
//! use firstlight::{frame::Frame, source::demo::Conveyor};
//!
//! let mut conveyor = Conveyor::new(1);
//! let mut frame = Frame::empty();
//! conveyor.render(&mut frame);
//! assert_eq!((frame.width(), frame.height(), frame.id), (640, 480, 0));
//! assert!(conveyor.truth().iter().all(|part| part.right <= 640 && part.bottom <= 480));
//! ```

mod accuracy;
mod belt;
mod clutter;
mod live;
mod part;
mod sprite;
mod stencil;
mod truth;

use std::time::Instant;

pub use accuracy::{Detected, Score};
pub use live::DemoSource;
pub use truth::{MIN_VISIBLE, Truth};

use self::{
    belt::Belt,
    part::Part,
    sprite::{Sprite, Texel},
    stencil::Stencil,
    truth::Silhouette,
};
use crate::frame::Frame;
use crate::random::Random;

/// Width of every frame, pixels.
pub const WIDTH: usize = 640;

/// Height of every frame, pixels.
pub const HEIGHT: usize = 480;

/// How far the belt moves right from frame to frame, pixels: a part takes about seven seconds at 25 frames a second.
pub const STEP_PX: i32 = 4;

/// Most parts and discs alive at once: they come at least 52 pixels of belt apart and live for less than 900.
const PARTS_MAX: usize = 18;

/// Most seams, scratches and blobs of dirt alive at once, counted likewise: 2, 6 and 5.
const MARKS_MAX: usize = 13;

/// Blank pixels around a part in its sprite: room for the shadow.
const MARGIN: i32 = 6;

/// Where a part's shadow falls, pixels, and how dark it is.
const SHADOW: (i32, i32) = (4, 3);
const SHADOW_DEPTH: f32 = 0.42;

/// Frames that pass before the first one that is seen, so that it shows a full belt.
const WARM_UP_FRAMES: u32 = 280;

/// Tries to place a part before it is left out.
const TRIES: u32 = 20;

/// Most of the smaller of two boxes that may lie in the other. Less than in training: a person should see parts apart.
const OVERLAP_MAX: f32 = 0.08;

/// The moving belt and everything on it.
#[derive(Clone)]
pub struct Conveyor {
    seed: u64,
    /// Frames rendered so far, which is the number of the next one.
    frames: u64,
    /// What comes next onto the belt.
    random: Random,
    belt: Belt,
    seams: Feed,
    scratches: Feed,
    dirt: Feed,
    arrivals: Feed,
    /// On the belt in the order in which they came, which is the order of drawing.
    marks: Vec<Placed>,
    parts: Vec<Item>,
    truth: Vec<Truth>,
    /// What has left the belt, kept for its buffers.
    spare_marks: Vec<Placed>,
    spare_parts: Vec<Item>,
    stencil: Stencil,
}

/// A sprite and the place of its top-left corner in the frame, pixels.
#[derive(Clone, Default)]
struct Placed {
    left: i32,
    top: i32,
    sprite: Sprite,
}

/// A part or disc on the belt.
#[derive(Clone)]
struct Item {
    placed: Placed,
    silhouette: Silhouette,
    part: Part,
    /// Centre of the part from the sprite's top-left corner, pixels.
    centre: (f32, f32),
}

/// Says when the next thing of its sort comes onto the belt.
#[derive(Clone, Copy)]
struct Feed {
    wait_px: i32,
    /// Least and greatest length of belt from one to the next, pixels; the least is above [`STEP_PX`].
    gap_px: (f32, f32),
}

impl Feed {
    fn new(least: f32, greatest: f32) -> Self {
        Self { wait_px: 0, gap_px: (least, greatest) }
    }

    /// Moves the belt one step; whether something is due.
    fn step(&mut self, random: &mut Random) -> bool {
        self.wait_px -= STEP_PX;
        let is_due = self.wait_px <= 0;
        if is_due {
            self.wait_px += floor(random.uniform(self.gap_px.0, self.gap_px.1));
        }
        is_due
    }
}

impl Conveyor {
    /// A belt already full of parts. Seeds differ in parts, clutter, mottle and noise.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut conveyor = Self {
            seed,
            frames: 0,
            belt: Belt::new(&mut random),
            random,
            seams: Feed::new(600.0, 1500.0),
            scratches: Feed::new(160.0, 520.0),
            dirt: Feed::new(180.0, 560.0),
            arrivals: Feed::new(52.0, 118.0),
            marks: Vec::with_capacity(MARKS_MAX),
            parts: Vec::with_capacity(PARTS_MAX),
            truth: Vec::with_capacity(PARTS_MAX),
            spare_marks: Vec::with_capacity(MARKS_MAX),
            spare_parts: Vec::with_capacity(PARTS_MAX),
            stencil: Stencil::empty(),
        };
        for _ in 0..WARM_UP_FRAMES {
            conveyor.advance();
        }
        conveyor
    }

    /// Moves the belt one step and draws it into `into`, which becomes 640×480 and gets its number and its time.
    pub fn render(&mut self, into: &mut Frame) {
        self.advance();
        self.compose(into);
        into.id = self.frames;
        into.captured_at = Instant::now();
        self.frames += 1;
    }

    /// The parts in the frame that was rendered last, those barely visible included; at most 18, in the order they came.
    #[must_use]
    pub fn truth(&self) -> &[Truth] {
        &self.truth
    }

    /// Moves the belt one step, with the truth of how it then lies.
    fn advance(&mut self) {
        for mark in &mut self.marks {
            mark.left += STEP_PX;
        }
        for item in &mut self.parts {
            item.placed.left += STEP_PX;
        }
        retire(&mut self.marks, &mut self.spare_marks, |mark| mark);
        retire(&mut self.parts, &mut self.spare_parts, |item| &item.placed);
        if self.seams.step(&mut self.random) {
            self.add_mark(clutter::seam);
        }
        if self.scratches.step(&mut self.random) {
            self.add_mark(clutter::scratch);
        }
        if self.dirt.step(&mut self.random) {
            self.add_mark(clutter::dirt);
        }
        if self.arrivals.step(&mut self.random) {
            self.add_part();
        }
        self.truth.clear();
        self.truth.extend(self.parts.iter().filter_map(Item::truth));
    }

    fn add_mark(&mut self, paint: fn(&mut Random, &mut Stencil, &mut Sprite)) {
        if self.marks.len() == MARKS_MAX {
            return;
        }
        let mut mark = self.spare_marks.pop().unwrap_or_default();
        paint(&mut self.random, &mut self.stencil, &mut mark.sprite);
        let (width, height) = (self.stencil.width(), self.stencil.height());
        mark.left = -width;
        // A seam fills the height and has no choice; anything else may hang over the belt's edge by half.
        let slack = HEIGHT as f32 - height as f32;
        mark.top = if slack > 0.0 { floor(self.random.uniform(0.0, HEIGHT as f32)) - height / 2 } else { 0 };
        self.marks.push(mark);
    }

    fn add_part(&mut self) {
        if self.parts.len() == PARTS_MAX {
            return;
        }
        let part = Part::random(&mut self.random);
        let Some((x, y)) = self.place(&part) else { return };
        let (half_width, half_height) = part.half_extent();
        let (left, top) = (floor(x - half_width) - MARGIN, floor(y - half_height) - MARGIN);
        let centre = (x - left as f32, y - top as f32);
        let mut item = match self.spare_parts.pop() {
            Some(spare) => Item { part, centre, ..spare },
            None => Item { placed: Placed::default(), silhouette: Silhouette::default(), part, centre },
        };
        self.stencil.reset(floor(2.0 * half_width) + 2 * MARGIN + 2, floor(2.0 * half_height) + 2 * MARGIN + 2);
        part.outline(centre, &mut self.stencil);
        item.silhouette.trace(&self.stencil);
        item.placed.left = left;
        item.placed.top = top;
        paint(&mut item.placed.sprite, &part, centre, &self.stencil);
        for earlier in &mut self.parts {
            let (dx, dy) = (left - earlier.placed.left, top - earlier.placed.top);
            earlier.silhouette.hide_behind(&item.silhouette, dx, dy);
        }
        self.parts.push(item);
    }

    /// A centre beyond the left edge where the part does not lie on another, or none.
    fn place(&mut self, part: &Part) -> Option<(f32, f32)> {
        let (half_width, half_height) = part.half_extent();
        let edge = half_height + MARGIN as f32;
        for _ in 0..TRIES {
            let x = self.random.uniform(-80.0, 0.0) - half_width - 2.0 * MARGIN as f32;
            let y = self.random.uniform(edge, HEIGHT as f32 - edge);
            let wanted = [x - half_width, y - half_height, x + half_width, y + half_height];
            if self.parts.iter().all(|item| overlap(wanted, item.extent()) <= OVERLAP_MAX) {
                return Some((x, y));
            }
        }
        None
    }

    /// Draws the belt as it lies, row by row so that a row is in the nearest cache while it is worked on.
    fn compose(&self, into: &mut Frame) {
        into.reshape(WIDTH, HEIGHT);
        let mut noise = Random::new(self.seed ^ self.frames.wrapping_mul(0xd134_2543_de82_ef95));
        let travelled = belt::travelled(self.frames);
        for (y, line) in (0_i32..).zip(0..HEIGHT) {
            let row = into.row_mut(line);
            self.belt.lay(line, travelled, row);
            let parts = self.parts.iter().map(|item| &item.placed);
            for Placed { left, top, sprite } in self.marks.iter().chain(parts) {
                sprite.blend_row(y - top, *left, row);
            }
            self.belt.light(line, &mut noise, row);
        }
    }
}

impl Item {
    /// Left, top, right and bottom of the part's extent in the frame, pixels.
    fn extent(&self) -> [f32; 4] {
        let (x, y) = (self.placed.left as f32 + self.centre.0, self.placed.top as f32 + self.centre.1);
        let (half_width, half_height) = self.part.half_extent();
        [x - half_width, y - half_height, x + half_width, y + half_height]
    }

    /// What there is to see of it, or none for a disc and for what is not in the frame.
    fn truth(&self) -> Option<Truth> {
        let class_id = self.part.class_id()?;
        let ([left, top, right, bottom], visible) = self.silhouette.seen_at(self.placed.left, self.placed.top)?;
        Some(Truth { class_id, left, top, right, bottom, visible })
    }
}

impl std::fmt::Debug for Conveyor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (seed, frames) = (self.seed, self.frames);
        write!(f, "Conveyor(seed {seed}, {frames} frames, {} parts, {} marks)", self.parts.len(), self.marks.len())
    }
}

/// Moves what has left the frame on the right from `live` to `spare`, keeping the order of the rest.
fn retire<T>(live: &mut Vec<T>, spare: &mut Vec<T>, place: impl Fn(&T) -> &Placed) {
    let width = i32::try_from(WIDTH).expect("a frame's width");
    spare.extend(live.extract_if(.., |item| place(item).left >= width));
}

/// Paints a part with its shadow beneath it.
fn paint(sprite: &mut Sprite, part: &Part, centre: (f32, f32), stencil: &Stencil) {
    sprite.paint(stencil.width(), stencil.height(), |x, y| {
        let body = stencil.coverage(x, y);
        let shadow = SHADOW_DEPTH * stencil.coverage(x - SHADOW.0, y - SHADOW.1);
        if body == 0.0 {
            return Texel::new(1.0 - shadow, [0.0; 3]);
        }
        let (dx, dy) = (x as f32 - centre.0, y as f32 - centre.1);
        // Four samples a pixel keep threads and rims from flickering into steps.
        let samples = [(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)];
        let colors = samples.map(|(sx, sy)| part.color_at(dx + sx, dy + sy));
        let color = [0, 1, 2].map(|channel| colors.iter().map(|color| color[channel]).sum::<f32>() / 4.0);
        Texel::new((1.0 - shadow) * (1.0 - body), color.map(|levels| levels * body))
    });
}

/// Common area of two boxes (left, top, right, bottom) over the area of the smaller.
fn overlap(a: [f32; 4], b: [f32; 4]) -> f32 {
    let (width, height) = (a[2].min(b[2]) - a[0].max(b[0]), a[3].min(b[3]) - a[1].max(b[1]));
    let area = |of: [f32; 4]| (of[2] - of[0]) * (of[3] - of[1]);
    width.max(0.0) * height.max(0.0) / area(a).min(area(b))
}

/// The whole pixel at or before a position.
#[expect(clippy::cast_possible_truncation, reason = "`as` saturates, and positions lie near the frame")]
fn floor(position: f32) -> i32 {
    position.floor() as i32
}

#[cfg(test)]
mod tests;
