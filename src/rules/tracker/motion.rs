//! Where a box will be: the Kalman filter of SORT and ByteTrack over its centre, aspect ratio and height.
//!
//! Position and speed of each of the four are seen and disturbed independently of the others, so the 8×8 matrices of the
//! reference are four filters of two numbers each; the results are the same.

/// Standard deviations as shares of the box's height: of a position, and of a speed per frame (the reference's weights).
const POSITION: f64 = 1.0 / 20.0;
const SPEED: f64 = 1.0 / 160.0;
/// Standard deviations of the aspect ratio: from frame to frame, as measured, and of its speed.
const ASPECT: f64 = 1e-2;
const ASPECT_MEASURED: f64 = 1e-1;
const ASPECT_SPEED: f64 = 1e-5;

/// Which of the four numbers of a box is its aspect ratio, and which its height.
const RATIO: usize = 2;
const HEIGHT: usize = 3;

/// One number with its speed per frame, and how uncertain both are.
#[derive(Clone, Copy, Debug, Default)]
struct Filter {
    value: f64,
    speed: f64,
    /// Variances of the value and of the speed, and their covariance.
    value_var: f64,
    speed_var: f64,
    cov: f64,
}

impl Filter {
    fn predict(&mut self, frames: f64, value_noise: f64, speed_noise: f64) {
        self.value += self.speed * frames;
        self.value_var += (2.0 * self.cov + self.speed_var * frames + value_noise * value_noise) * frames;
        self.cov += self.speed_var * frames;
        self.speed_var += speed_noise * speed_noise * frames;
    }

    fn update(&mut self, measured: f64, noise: f64) {
        let total = self.value_var + noise * noise;
        let (value_gain, speed_gain) = (self.value_var / total, self.cov / total);
        let surprise = measured - self.value;
        self.value += value_gain * surprise;
        self.speed += speed_gain * surprise;
        self.speed_var -= speed_gain * self.cov;
        self.cov -= value_gain * self.cov;
        self.value_var -= value_gain * self.value_var;
    }
}

/// A moving box.
#[derive(Clone, Copy, Debug, Default)]
pub struct Motion {
    /// Centre x, centre y, width over height, height.
    filters: [Filter; 4],
}

impl Motion {
    /// Of a box (left, top, right, bottom) that is seen for the first time.
    #[must_use]
    pub fn new(corners: [f64; 4]) -> Self {
        let measured = measured(corners);
        let height = measured[HEIGHT];
        let mut filters = [Filter::default(); 4];
        for (of, filter) in filters.iter_mut().enumerate() {
            let (value_noise, speed_noise) = match of {
                RATIO => (ASPECT, ASPECT_SPEED),
                _ => (2.0 * POSITION * height, 10.0 * SPEED * height),
            };
            filter.value = measured[of];
            filter.value_var = value_noise * value_noise;
            filter.speed_var = speed_noise * speed_noise;
        }
        Self { filters }
    }

    /// Moves it on by so many frames.
    pub fn predict(&mut self, frames: f64) {
        let height = self.filters[HEIGHT].value;
        for (of, filter) in self.filters.iter_mut().enumerate() {
            let (value_noise, speed_noise) = match of {
                RATIO => (ASPECT, ASPECT_SPEED),
                _ => (POSITION * height, SPEED * height),
            };
            filter.predict(frames, value_noise, speed_noise);
        }
    }

    /// Takes a box that is seen now into account.
    pub fn update(&mut self, corners: [f64; 4]) {
        let (measured, height) = (measured(corners), self.filters[HEIGHT].value);
        for (of, filter) in self.filters.iter_mut().enumerate() {
            filter.update(measured[of], if of == RATIO { ASPECT_MEASURED } else { POSITION * height });
        }
    }

    /// Lets it grow and shrink no more: what is not seen keeps its size.
    pub fn keep_height(&mut self) {
        self.filters[HEIGHT].speed = 0.0;
    }

    /// Left, top, right, bottom.
    #[must_use]
    pub fn corners(&self) -> [f64; 4] {
        let [x, y, ratio, height] = self.filters.map(|filter| filter.value);
        let (half_width, half_height) = (ratio * height / 2.0, height / 2.0);
        [x - half_width, y - half_height, x + half_width, y + half_height]
    }
}

/// Centre x, centre y, width over height, height.
fn measured([left, top, right, bottom]: [f64; 4]) -> [f64; 4] {
    let (width, height) = (right - left, bottom - top);
    [left + width / 2.0, top + height / 2.0, width / height, height]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_motion_is_learnt_and_gone_on_with() {
        let at = |frame: f64| [10.0 + 4.0 * frame, 20.0, 50.0 + 4.0 * frame, 60.0];
        let mut motion = Motion::new(at(0.0));
        for frame in 1..60 {
            motion.predict(1.0);
            motion.update(at(f64::from(frame)));
        }
        // Ten frames unseen, in one step or in ten.
        let mut steps = motion;
        motion.predict(10.0);
        (0..10).for_each(|_| steps.predict(1.0));
        for (found, expected) in motion.corners().into_iter().zip(at(69.0)) {
            assert!((found - expected).abs() < 0.5, "{:?}", motion.corners());
        }
        assert!(motion.corners().iter().zip(steps.corners()).all(|(one, ten)| (one - ten).abs() < 1e-9));
    }

    #[test]
    fn a_measurement_makes_it_surer_and_time_less_sure() {
        let mut motion = Motion::new([0.0, 0.0, 20.0, 40.0]);
        let sure = |motion: &Motion| motion.filters[0].value_var;
        let first = sure(&motion);
        motion.predict(1.0);
        let later = sure(&motion);
        motion.update([0.0, 0.0, 20.0, 40.0]);
        assert!(later > first && sure(&motion) < later && sure(&motion) > 0.0);
    }
}
