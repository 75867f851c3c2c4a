//! From network pixels back to the pixels of the image, as Roboflow's two engines go (SPEC §2.8).

use super::transform::{Fit, Transform};
use crate::frame::{CropPercent, Size};

/// The classic engine's inverse of pre-processing: undo the resize, clip, round, add the crop's offset.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassicInverse {
    /// Subtracted first from boxes, network pixels.
    box_pad: (f64, f64),
    /// Subtracted first from points; the engine rounds the picture's size another way there.
    point_pad: (f64, f64),
    /// Multiplied (stretch) or divided (letterbox, whose inverse is not rounded the same).
    scale: Scale,
    /// Size of the (cropped) image that coordinates are clipped to.
    bounds: (f64, f64),
    /// Added last.
    shift: (f64, f64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Scale {
    Multiply(f64, f64),
    Divide(f64),
}

/// What the engine's arrays hold: 64-bit floats after its suppression, which makes lists of them, else 32-bit ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    Single,
    Double,
}

impl Precision {
    /// Rounds one result; of operands that were rounded, this is what 32-bit arithmetic would have given.
    #[expect(clippy::cast_possible_truncation, reason = "rounding to 32 bits is the purpose")]
    fn round(self, value: f64) -> f64 {
        match self {
            Precision::Single => f64::from(value as f32),
            Precision::Double => value,
        }
    }
}

impl ClassicInverse {
    /// For one image and a network whose coordinates are pixels of `transform.network`.
    #[must_use]
    pub fn new(transform: &Transform) -> Self {
        Self::between(transform, transform.network, transform.cropped)
    }

    /// For coordinates in pixels of `size`, which the engine takes for the network's; `cropped` says whether it
    /// believes that the static crop was applied.
    #[must_use]
    pub fn between(transform: &Transform, size: Size, cropped: bool) -> Self {
        let (image_w, image_h) = (to_f64(transform.image.width), to_f64(transform.image.height));
        let (network_w, network_h) = (to_f64(size.width), to_f64(size.height));
        let whole = CropPercent { x_min: 0.0, x_max: 100.0, y_min: 0.0, y_max: 100.0 };
        let crop = transform.crop_percent.filter(|_| cropped).unwrap_or(whole);
        let (x_min, x_max) = (crop.x_min / 100.0, crop.x_max / 100.0);
        let (y_min, y_max) = (crop.y_min / 100.0, crop.y_max / 100.0);
        let shift = ((x_min * image_w).round_ties_even(), (y_min * image_h).round_ties_even());
        let origin_w = (image_w * (x_max - x_min)).round_ties_even();
        let origin_h = (image_h * (y_max - y_min)).round_ties_even();
        let (box_pad, point_pad, scale) = match transform.fit {
            Fit::Stretch => ((0.0, 0.0), (0.0, 0.0), Scale::Multiply(origin_w / network_w, origin_h / network_h)),
            Fit::Letterbox | Fit::CenterCrop => {
                let scale = (network_h / origin_h).min(network_w / origin_w);
                let pad = |round: fn(f64) -> f64| {
                    ((network_w - round(origin_w * scale)) / 2.0, (network_h - round(origin_h * scale)) / 2.0)
                };
                (pad(f64::round_ties_even), pad(f64::trunc), Scale::Divide(scale))
            }
        };
        Self { box_pad, point_pad, scale, bounds: (origin_w, origin_h), shift }
    }

    /// Corners (left, top, right, bottom) in network pixels to whole pixels of the image.
    #[must_use]
    pub fn corners(&self, corners: [f32; 4], precision: Precision) -> [f64; 4] {
        let [left, top, right, bottom] = corners.map(f64::from);
        let [(left, top), (right, bottom)] = [(left, top), (right, bottom)].map(|(x, y)| {
            let (x, y) = self.unscale((x, y), self.box_pad, precision);
            self.place(x, y)
        });
        [left, top, right, bottom]
    }

    /// A key point in network pixels to whole pixels of the image.
    #[must_use]
    pub fn keypoint(&self, x: f32, y: f32, precision: Precision) -> (f64, f64) {
        let (x, y) = self.unscale((f64::from(x), f64::from(y)), self.point_pad, precision);
        self.place(x, y)
    }

    /// A corner of a polygon, neither clipped nor rounded to whole pixels. In 32-bit floats: the engine's outlines are
    /// arrays of these, whatever its boxes are.
    #[must_use]
    pub fn polygon_point(&self, x: f64, y: f64) -> [f64; 2] {
        let (x, y) = self.unscale((x, y), self.point_pad, Precision::Single);
        [x + self.shift.0, y + self.shift.1].map(|at| Precision::Single.round(at))
    }

    fn unscale(&self, (x, y): (f64, f64), pad: (f64, f64), precision: Precision) -> (f64, f64) {
        let round = |value| precision.round(value);
        match self.scale {
            Scale::Multiply(across, down) => (round(x * round(across)), round(y * round(down))),
            Scale::Divide(scale) => {
                let shifted = (round(x - round(pad.0)), round(y - round(pad.1)));
                (round(shifted.0 / round(scale)), round(shifted.1 / round(scale)))
            }
        }
    }

    /// Clip, round, shift.
    fn place(&self, x: f64, y: f64) -> (f64, f64) {
        let clip = |value: f64, bound: f64| value.clamp(0.0, bound).round_ties_even();
        (clip(x, self.bounds.0) + self.shift.0, clip(y, self.bounds.1) + self.shift.1)
    }
}

/// The default engine's inverse of pre-processing, in 32-bit floats: take off the padding, undo the scale, add the
/// crop's offset, clip to the whole image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DefaultInverse {
    pad: [f32; 2],
    scale: [f32; 2],
    offset: [f32; 2],
    bounds: [f32; 2],
}

impl DefaultInverse {
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the engine holds these in 32-bit floats")]
    pub fn new(transform: &Transform) -> Self {
        let narrow = |value: usize| to_f64(value) as f32;
        Self {
            pad: [transform.pad[0] as f32, transform.pad[1] as f32],
            scale: [transform.scale.0 as f32, transform.scale.1 as f32],
            offset: [narrow(transform.crop.left), narrow(transform.crop.top)],
            bounds: [narrow(transform.image.width), narrow(transform.image.height)],
        }
    }

    /// Corners (left, top, right, bottom) in network pixels to pixels of the image, clipped to it, not rounded.
    #[must_use]
    pub fn corners(&self, [left, top, right, bottom]: [f32; 4]) -> [f32; 4] {
        let [left, top] = self.clip(self.point([left, top]));
        let [right, bottom] = self.clip(self.point([right, bottom]));
        [left, top, right, bottom]
    }

    /// Corners as detections have them: whole pixels.
    #[must_use]
    pub fn whole_corners(&self, corners: [f32; 4]) -> [f64; 4] {
        self.corners(corners).map(|corner| f64::from(corner.round_ties_even()))
    }

    /// A point in network pixels to pixels of the image.
    #[must_use]
    pub fn point(&self, point: [f32; 2]) -> [f32; 2] {
        std::array::from_fn(|axis| (point[axis] - self.pad[axis]) / self.scale[axis] + self.offset[axis])
    }

    /// Brings a point into the image.
    #[must_use]
    pub fn clip(&self, point: [f32; 2]) -> [f32; 2] {
        std::array::from_fn(|axis| point[axis].clamp(0.0, self.bounds[axis]))
    }
}

#[expect(clippy::cast_precision_loss, reason = "sides of images are far below 2^53")]
fn to_f64(side: usize) -> f64 {
    side as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Region;

    fn transform(fit: Fit, crop: Option<CropPercent>, image: Size, network: Size) -> Transform {
        Transform {
            image,
            crop: Region { left: 0, top: 0, width: image.width, height: image.height },
            crop_percent: crop,
            cropped: crop.is_some(),
            fit,
            network,
            pad: [0; 4],
            scale: (1.0, 1.0),
        }
    }

    #[test]
    fn stretch_scales_each_axis() {
        let inverse = ClassicInverse::new(&transform(Fit::Stretch, None, Size::new(640, 480), Size::new(320, 320)));
        assert_eq!(inverse.corners([10.0, 10.0, 400.0, 20.3], Precision::Double), [20.0, 15.0, 640.0, 30.0]);
    }

    #[test]
    fn letterbox_keeps_the_half_pixel_of_an_odd_pad() {
        // 333×200 into 320×320: scale 0.96096, inner height round(192.19) = 192, pad 64.
        let inverse = ClassicInverse::new(&transform(Fit::Letterbox, None, Size::new(333, 200), Size::new(320, 320)));
        assert_eq!(inverse.corners([0.0, 64.0, 320.0, 256.0], Precision::Double), [0.0, 0.0, 333.0, 200.0]);
        let odd = ClassicInverse::new(&transform(Fit::Letterbox, None, Size::new(320, 191), Size::new(320, 320)));
        assert!((odd.box_pad.1 - 64.5).abs() < 1e-12);
    }

    #[test]
    fn points_are_padded_by_the_truncated_size() {
        // 300×201 into 320×320: scale 1.0667, inner height 214.4; 301×207: 220.07.
        let inverse = ClassicInverse::new(&transform(Fit::Letterbox, None, Size::new(304, 201), Size::new(320, 320)));
        // 201 * 320 / 304 = 211.58: boxes count 212, points 211.
        assert_eq!((inverse.box_pad.1, inverse.point_pad.1), (54.0, 54.5));
    }

    #[test]
    fn crops_clip_to_the_crop_and_shift_last() {
        let crop = CropPercent { x_min: 25.0, x_max: 75.0, y_min: 10.0, y_max: 60.0 };
        let (image, network) = (Size::new(400, 200), Size::new(200, 100));
        let cropped = transform(Fit::Stretch, Some(crop), image, network);
        let corners = ClassicInverse::new(&cropped).corners([-5.0, 0.0, 900.0, 50.0], Precision::Double);
        assert_eq!(corners, [100.0, 20.0, 300.0, 70.0]);
        let ignored = ClassicInverse::new(&Transform { cropped: false, ..cropped });
        assert_eq!(ignored.corners([0.0, 0.0, 200.0, 100.0], Precision::Double), [0.0, 0.0, 400.0, 200.0]);
    }

    #[test]
    fn the_default_engine_clips_to_the_whole_image() {
        let crop = Region { left: 100, top: 20, width: 200, height: 100 };
        let mut transform = transform(Fit::Letterbox, None, Size::new(400, 200), Size::new(100, 100));
        (transform.crop, transform.scale, transform.pad) = (crop, (0.5, 0.5), [0, 25, 0, 25]);
        let inverse = DefaultInverse::new(&transform);
        assert_eq!(inverse.whole_corners([-60.0, 25.0, 120.0, 75.2]), [0.0, 20.0, 340.0, 120.0]);
    }
}
