//! One mask on its way from the network's grid to a binary picture: the part of its values that is not zero, and the
//! resize that compares the result with a limit without keeping it.

use super::real::Real;
use super::taps::{Kernel, Taps};
use super::window::Window;
use crate::engine::TensorView;
use crate::frame::Size;
use crate::frame::contour::Bitmap;

/// A set of prototype masks or of whole masks: `[planes, height, width]`.
#[derive(Clone, Copy, Debug)]
pub struct Planes<'a> {
    pub size: Size,
    data: &'a [f32],
}

impl<'a> Planes<'a> {
    /// `None` when the tensor has another shape.
    pub fn new(tensor: TensorView<'a>) -> Option<Self> {
        let [_, height, width] = *tensor.shape else { return None };
        let data = tensor.data;
        let fits = tensor.shape.iter().product::<usize>() == data.len() && !data.is_empty();
        fits.then_some(Self { size: Size::new(width, height), data })
    }

    pub fn count(&self) -> usize {
        self.data.len() / (self.size.width * self.size.height)
    }

    pub fn row(&self, plane: usize, y: usize) -> &'a [f32] {
        &self.data[(plane * self.size.height + y) * self.size.width..][..self.size.width]
    }
}

/// What a mask's values are.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// Prototypes, each times its coefficient, added up; through the sigmoid when `probability`.
    Product { coefficients: &'a [f32], probability: bool },
    /// One of the planes as it is.
    Plane(usize),
}

/// A part of one mask, and the tables of the resize that all masks of an image share.
#[derive(Debug)]
pub struct Sheet<T> {
    /// In cells of the source; outside of it the mask is 0, or is not looked at.
    window: Window,
    values: Vec<T>,
    across: Taps<T>,
    down: Taps<T>,
    /// Rows of the source, resized across.
    rows: Vec<T>,
    sum: Vec<T>,
}

impl<T> Default for Sheet<T> {
    fn default() -> Self {
        Self {
            window: Window::default(),
            values: Vec::new(),
            across: Taps::default(),
            down: Taps::default(),
            rows: Vec::new(),
            sum: Vec::new(),
        }
    }
}

impl<T: Real> Sheet<T> {
    /// For masks of `source` cells that are brought to `result` cells.
    pub fn prepare(&mut self, source: Size, result: Size, kernel: Kernel) {
        self.across.rebuild(source.width, result.width, kernel);
        self.down.rebuild(source.height, result.height, kernel);
    }

    /// The cells of the source that some cells of the result are made of.
    pub fn sources(&self, result: &Window) -> Window {
        Window { x: self.across.sources(&result.x), y: self.down.sources(&result.y) }
    }

    /// Computes the values of `window`, cells of the source; `origin` is where the source's first cell lies in the
    /// planes, and the window must lie within them.
    pub fn fill(&mut self, planes: Planes<'_>, content: Content<'_>, window: Window, origin: (i64, i64)) {
        let inner = window.shifted(origin, planes.size);
        self.values.clear();
        self.values.resize(window.x.len() * window.y.len(), T::default());
        self.window = window;
        if inner.x.is_empty() {
            return;
        }
        for (y, values) in inner.y.clone().zip(self.values.chunks_exact_mut(inner.x.len())) {
            match content {
                Content::Plane(plane) => {
                    for (value, &cell) in values.iter_mut().zip(&planes.row(plane, y)[inner.x.clone()]) {
                        *value = T::of(cell);
                    }
                }
                Content::Product { coefficients, probability } => {
                    for (plane, &coefficient) in coefficients.iter().enumerate() {
                        let factor = T::of(coefficient);
                        for (value, &cell) in values.iter_mut().zip(&planes.row(plane, y)[inner.x.clone()]) {
                            *value = *value + factor * T::of(cell);
                        }
                    }
                    if probability {
                        values.iter_mut().for_each(|value| *value = value.sigmoid());
                    }
                }
            }
        }
    }

    /// Resizes, and sets the pixels of the result that are above `limit` and lie in `within`. `bitmap` covers them,
    /// its own corner moved by `offset`.
    pub fn draw(&mut self, limit: T, within: &Window, offset: (usize, usize), bitmap: &mut Bitmap) {
        let reached = self.active(limit).map(|active| {
            let reached = Window { x: self.across.reach(&active.x), y: self.down.reach(&active.y) };
            reached.intersect(within)
        });
        let Some(result) = reached.and_then(Window::filled) else {
            bitmap.reset(Window::default().region(offset));
            return;
        };
        bitmap.reset(result.region(offset));
        let width = result.x.len();
        let sources = self.sources(&result).intersect(&self.window);
        self.resize_across(&result, &sources);
        self.sum.resize(width, T::default());
        for (line, y) in result.y.clone().enumerate() {
            let sum = &mut self.sum[..width];
            sum.fill(T::default());
            let (range, weights) = self.down.get(y);
            for (source, &weight) in range.zip(weights) {
                if !sources.y.contains(&source) {
                    continue;
                }
                let row = &self.rows[(source - sources.y.start) * width..][..width];
                for (sum, &value) in sum.iter_mut().zip(row) {
                    *sum = sum.plus_product(weight, value);
                }
            }
            for (pixel, &sum) in bitmap.row_mut(line).iter_mut().zip(&*sum) {
                *pixel = i8::from(sum > limit);
            }
        }
    }

    fn resize_across(&mut self, result: &Window, sources: &Window) {
        let stride = self.window.x.len();
        self.rows.clear();
        for y in sources.y.clone() {
            let values = &self.values[(y - self.window.y.start) * stride..][..stride];
            for x in result.x.clone() {
                let (range, weights) = self.across.get(x);
                let mut sum = T::default();
                for (source, &weight) in range.zip(weights) {
                    if sources.x.contains(&source) {
                        sum = sum.plus_product(weight, values[source - self.window.x.start]);
                    }
                }
                self.rows.push(sum);
            }
        }
    }

    /// Bounds of the values that can bring a mean above the limit: where there are none, nothing needs resizing.
    fn active(&self, limit: T) -> Option<Window> {
        // Weights may add up to a little more than one.
        let floor = limit * T::of(0.999);
        let stride = self.window.x.len();
        if stride == 0 {
            return None;
        }
        let mut bounds: Option<[usize; 4]> = None;
        for (y, row) in self.values.chunks_exact(stride).enumerate() {
            let Some(first) = row.iter().position(|&value| value > floor) else { continue };
            let last = row.iter().rposition(|&value| value > floor).unwrap_or(first);
            let [left, top, right, _] = bounds.unwrap_or([first, y, last, y]);
            bounds = Some([left.min(first), top, right.max(last), y]);
        }
        bounds.map(|[left, top, right, bottom]| {
            let (x, y) = (self.window.x.start, self.window.y.start);
            Window { x: x + left..x + right + 1, y: y + top..y + bottom + 1 }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Size = Size::new(4, 3);

    fn drawn(data: &[f32], content: Content<'_>, result: Size, within: &Window) -> Vec<String> {
        let shape = [data.len() / 12, 3, 4];
        let planes = Planes::new(TensorView { shape: &shape, data }).unwrap();
        let mut sheet = Sheet::<f32>::default();
        sheet.prepare(FULL, result, Kernel::OpenCv);
        sheet.fill(planes, content, Window::all(FULL), (0, 0));
        let mut bitmap = Bitmap::default();
        sheet.draw(0.0, within, (0, 0), &mut bitmap);
        let window = bitmap.window();
        (0..result.height)
            .map(|y| {
                (0..result.width)
                    .map(|x| {
                        let inside = (window.left..window.left + window.width).contains(&x)
                            && (window.top..window.top + window.height).contains(&y);
                        if inside && bitmap.get(x - window.left, y - window.top) { '#' } else { '.' }
                    })
                    .collect()
            })
            .collect()
    }

    #[test]
    fn a_product_of_prototypes_is_their_weighted_sum() {
        let mut data = [0.0; 24];
        (data[5], data[12 + 5], data[12 + 6]) = (1.0, 3.0, 3.0);
        let content = Content::Product { coefficients: &[2.0, -0.5], probability: false };
        assert_eq!(drawn(&data, content, FULL, &Window::all(FULL)), ["....", ".#..", "...."]);
        let content = Content::Product { coefficients: &[2.0, 0.5], probability: false };
        assert_eq!(drawn(&data, content, FULL, &Window::all(FULL)), ["....", ".##.", "...."]);
    }

    #[test]
    fn only_pixels_within_are_set() {
        let mut data = [0.0; 12];
        data[5] = 1.0;
        let twice = Size::new(8, 6);
        let all = drawn(&data, Content::Plane(0), twice, &Window::all(twice));
        assert_eq!(all, ["........", ".####...", ".####...", ".####...", ".####...", "........"]);
        let part = drawn(&data, Content::Plane(0), twice, &Window { x: 3..8, y: 0..2 });
        assert_eq!(part, ["........", "...##...", "........", "........", "........", "........"]);
    }

    #[test]
    fn not_a_number_sets_nothing() {
        let data = [f32::NAN; 12];
        assert!(drawn(&data, Content::Plane(0), FULL, &Window::all(FULL)).iter().all(|row| row == "...."));
    }
}
