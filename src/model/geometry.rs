//! From network pixels back to the pixels of the image, as Roboflow's classic engine goes (SPEC §2.8).

use crate::cache::{Preprocessing, ResizeFormat};
use crate::frame::{CropPercent, Size};

/// The inverse of pre-processing for boxes: undo the resize, clip, round, add the crop's offset.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoxInverse {
    /// Subtracted first, network pixels.
    pad: (f64, f64),
    /// Multiplied (stretch) or divided (letterbox, whose inverse is not rounded the same).
    scale: Scale,
    /// Size of the (cropped) image that boxes are clipped to.
    bounds: (f64, f64),
    /// Added last.
    shift: (f64, f64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Scale {
    Multiply(f64, f64),
    Divide(f64),
}

impl BoxInverse {
    /// For an image of size `image` that was brought to `network` by `preprocessing`; `crop` says whether its static
    /// crop was applied.
    #[must_use]
    pub fn new(preprocessing: &Preprocessing, crop: bool, image: Size, network: Size) -> Self {
        let (image_w, image_h) = (to_f64(image.width), to_f64(image.height));
        let (network_w, network_h) = (to_f64(network.width), to_f64(network.height));
        let whole = CropPercent { x_min: 0.0, x_max: 100.0, y_min: 0.0, y_max: 100.0 };
        let crop = preprocessing.static_crop.filter(|_| crop).unwrap_or(whole);
        let (x_min, x_max) = (crop.x_min / 100.0, crop.x_max / 100.0);
        let (y_min, y_max) = (crop.y_min / 100.0, crop.y_max / 100.0);
        let shift = ((x_min * image_w).round_ties_even(), (y_min * image_h).round_ties_even());
        let origin_w = (image_w * (x_max - x_min)).round_ties_even();
        let origin_h = (image_h * (y_max - y_min)).round_ties_even();
        let (pad, scale) = match preprocessing.resize.format {
            ResizeFormat::Stretch => ((0.0, 0.0), Scale::Multiply(origin_w / network_w, origin_h / network_h)),
            ResizeFormat::Fit { .. } => {
                let scale = (network_h / origin_h).min(network_w / origin_w);
                let inner_w = (origin_w * scale).round_ties_even();
                let inner_h = (origin_h * scale).round_ties_even();
                (((network_w - inner_w) / 2.0, (network_h - inner_h) / 2.0), Scale::Divide(scale))
            }
        };
        Self { pad, scale, bounds: (origin_w, origin_h), shift }
    }

    /// Corners (left, top, right, bottom) in network pixels to whole pixels of the image.
    #[must_use]
    pub fn apply(&self, corners: [f32; 4]) -> [f64; 4] {
        let [left, top, right, bottom] = corners.map(f64::from);
        [self.x(left), self.y(top), self.x(right), self.y(bottom)]
    }

    fn x(&self, x: f64) -> f64 {
        let x = x - self.pad.0;
        let x = match self.scale {
            Scale::Multiply(x_scale, _) => x * x_scale,
            Scale::Divide(scale) => x / scale,
        };
        x.clamp(0.0, self.bounds.0).round_ties_even() + self.shift.0
    }

    fn y(&self, y: f64) -> f64 {
        let y = y - self.pad.1;
        let y = match self.scale {
            Scale::Multiply(_, y_scale) => y * y_scale,
            Scale::Divide(scale) => y / scale,
        };
        y.clamp(0.0, self.bounds.1).round_ties_even() + self.shift.1
    }
}

#[expect(clippy::cast_precision_loss, reason = "sides of images are far below 2^53")]
fn to_f64(side: usize) -> f64 {
    side as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Resize;

    fn with(format: ResizeFormat, static_crop: Option<CropPercent>) -> Preprocessing {
        Preprocessing { static_crop, resize: Resize { format, ..Resize::default() }, ..Preprocessing::default() }
    }

    #[test]
    fn stretch_scales_each_axis() {
        let inverse = BoxInverse::new(
            &with(ResizeFormat::Stretch, None),
            true,
            Size { width: 640, height: 480 },
            Size { width: 320, height: 320 },
        );
        assert_eq!(inverse.apply([10.0, 10.0, 400.0, 20.3]), [20.0, 15.0, 640.0, 30.0]);
    }

    #[test]
    fn letterbox_keeps_the_half_pixel_of_an_odd_pad() {
        // 333×200 into 320×320: scale 0.96096, inner height round(192.19) = 192, pad 64.
        let inverse = BoxInverse::new(
            &with(ResizeFormat::Fit { fill: 0 }, None),
            true,
            Size { width: 333, height: 200 },
            Size { width: 320, height: 320 },
        );
        assert_eq!(inverse.apply([0.0, 64.0, 320.0, 256.0]), [0.0, 0.0, 333.0, 200.0]);
        let odd = BoxInverse::new(
            &with(ResizeFormat::Fit { fill: 0 }, None),
            true,
            Size { width: 320, height: 191 },
            Size { width: 320, height: 320 },
        );
        assert!((odd.pad.1 - 64.5).abs() < 1e-12);
    }

    #[test]
    fn crops_clip_to_the_crop_and_shift_last() {
        let crop = CropPercent { x_min: 25.0, x_max: 75.0, y_min: 10.0, y_max: 60.0 };
        let preprocessing = with(ResizeFormat::Stretch, Some(crop));
        let (image, network) = (Size { width: 400, height: 200 }, Size { width: 200, height: 100 });
        let inverse = BoxInverse::new(&preprocessing, true, image, network);
        assert_eq!(inverse.apply([-5.0, 0.0, 900.0, 50.0]), [100.0, 20.0, 300.0, 70.0]);
        let ignored = BoxInverse::new(&preprocessing, false, image, network);
        assert_eq!(ignored.apply([0.0, 0.0, 200.0, 100.0]), [0.0, 0.0, 400.0, 200.0]);
    }
}
