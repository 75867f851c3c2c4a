//! The inner loops of the resize, once a row: scalar code that says what is computed, and the same for AVX2 and NEON.
//!
//! May not know: frames, placements. Everything works on one row, and every kernel gives the same bits as
//! [`scalar`]. Horizontal loops split interleaved RGB bytes into three planes; vertical loops blend two such rows.

#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

use super::taps::Columns;

/// The three colour planes of one horizontally resized row.
pub type Planes<'a, T> = [&'a mut [T]; 3];

/// Which instruction set the loops use. Only those the processor has can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

/// Calls the same function of the module that belongs to a kernel.
macro_rules! dispatch {
    ($kernel:expr, $function:ident($($argument:expr),*)) => {
        match $kernel.0 {
            Kind::Scalar => scalar::$function($($argument),*),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Kind::Avx2` is only made by `Kernel::detect`, after it found AVX2 and FMA.
            Kind::Avx2 => unsafe { x86::$function($($argument),*) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: `Kind::Neon` is only made by `Kernel::detect`, after it found NEON.
            Kind::Neon => unsafe { neon::$function($($argument),*) },
        }
    };
}

impl Kernel {
    /// Plain Rust, on every processor.
    pub const SCALAR: Self = Self(Kind::Scalar);

    /// The fastest kernel of this processor.
    #[must_use]
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            return Self(Kind::Avx2);
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            return Self(Kind::Neon);
        }
        Self::SCALAR
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => "neon",
        }
    }

    /// Blends columns in fixed point: `(left * weight + right * weight) >> 4`, 0 to 32640 (128 a grey level).
    ///
    /// # Panics
    /// When `row` or `planes` do not have the lengths that `columns` were built for.
    pub fn columns_fixed(self, row: &[u8], columns: &Columns, planes: Planes<'_, i16>) {
        check_lengths(row, columns, &planes);
        dispatch!(self, columns_fixed(row, columns, planes));
    }

    /// Blends columns in floats: `left + fraction * (right - left)`, rounded once, in grey levels.
    ///
    /// # Panics
    /// When `row` or `planes` do not have the lengths that `columns` were built for.
    pub fn columns_float(self, row: &[u8], columns: &Columns, planes: Planes<'_, f32>) {
        check_lengths(row, columns, &planes);
        dispatch!(self, columns_float(row, columns, planes));
    }

    /// Blends two rows of [`Kernel::columns_fixed`], rounds to grey levels, and divides them by 255.
    ///
    /// # Panics
    /// When the slices differ in length.
    pub fn rows_fixed(self, rows: [&[i16]; 2], weights: [i16; 2], out: &mut [f32]) {
        assert!(rows.iter().all(|row| row.len() == out.len()), "rows and output of one length");
        dispatch!(self, rows_fixed(rows, weights, out));
    }

    /// As [`Kernel::rows_fixed`], to grey levels of 0 to 255.
    ///
    /// # Panics
    /// When the slices differ in length.
    pub fn rows_bytes(self, rows: [&[i16]; 2], weights: [i16; 2], out: &mut [u8]) {
        assert!(rows.iter().all(|row| row.len() == out.len()), "rows and output of one length");
        dispatch!(self, rows_bytes(rows, weights, out));
    }

    /// Blends two rows of [`Kernel::columns_float`], and divides by 255 what comes out, unrounded.
    ///
    /// # Panics
    /// When the slices differ in length.
    pub fn rows_float(self, rows: [&[f32]; 2], fraction: f32, out: &mut [f32]) {
        assert!(rows.iter().all(|row| row.len() == out.len()), "rows and output of one length");
        dispatch!(self, rows_float(rows, fraction, out));
    }

    /// `from + fraction * (to - from)` with one rounding after the difference, each value by its own fraction.
    ///
    /// # Panics
    /// When the slices differ in length.
    pub fn blend_each(self, ends: [&[f32]; 2], fractions: &[f32], out: &mut [f32]) {
        assert!(ends.iter().all(|end| end.len() == out.len()), "ends and output of one length");
        assert_eq!(fractions.len(), out.len(), "one fraction a value");
        dispatch!(self, blend_each(ends, fractions, out));
    }

    /// As [`Kernel::blend_each`], with one fraction for all.
    ///
    /// # Panics
    /// When the slices differ in length.
    pub fn blend_all(self, ends: [&[f32]; 2], fraction: f32, out: &mut [f32]) {
        assert!(ends.iter().all(|end| end.len() == out.len()), "ends and output of one length");
        dispatch!(self, blend_all(ends, fraction, out));
    }
}

/// What the vector loads rely on; checked once a row, so it costs nothing.
fn check_lengths<T>(row: &[u8], columns: &Columns, planes: &Planes<'_, T>) {
    assert_eq!(row.len(), columns.last + 3, "bytes of the source row");
    assert!(planes.iter().all(|plane| plane.len() == columns.len()), "one value a column");
    assert!(columns.wide <= columns.len(), "wide columns are columns");
}

#[cfg(test)]
mod tests {
    use super::super::taps::{Arithmetic, Columns};
    use super::*;
    use crate::random::Random;

    struct Noise(Random);

    impl Noise {
        fn below(&mut self, limit: u16) -> u16 {
            u16::try_from(self.0.bits() % u64::from(limit)).unwrap()
        }

        fn row(&mut self, pixels: usize) -> Vec<u8> {
            (0..pixels * 3).map(|_| self.0.bits().to_le_bytes()[3]).collect()
        }
    }

    fn split<T: Clone + Default, R>(len: usize, fill: impl FnOnce(Planes<'_, T>) -> R) -> [Vec<T>; 3] {
        let mut planes = [vec![T::default(); len], vec![T::default(); len], vec![T::default(); len]];
        fill(planes.each_mut().map(Vec::as_mut_slice));
        planes
    }

    const SIZES: [(usize, usize); 12] = [
        (1, 1),
        (1, 40),
        (2, 9),
        (3, 3),
        (5, 64),
        (16, 8),
        (17, 100),
        (37, 320),
        (640, 333),
        (1280, 640),
        (1920, 640),
        (641, 1023),
    ];

    #[test]
    fn columns_are_those_of_the_scalar_code() {
        let mut noise = Noise(Random::new(1));
        let kernel = Kernel::detect();
        println!("comparing {} with scalar", kernel.name());
        for (source, result) in SIZES {
            for arithmetic in [Arithmetic::Integer, Arithmetic::Float] {
                let mut columns = Columns::default();
                columns.rebuild(source, result, arithmetic);
                let row = noise.row(source);
                let fixed = |k: Kernel| split(result, |p| k.columns_fixed(&row, &columns, p));
                assert_eq!(fixed(kernel), fixed(Kernel::SCALAR), "fixed {source} to {result}");
                let float = |k: Kernel| split(result, |p| k.columns_float(&row, &columns, p));
                assert_eq!(float(kernel), float(Kernel::SCALAR), "float {source} to {result}");
            }
        }
    }

    #[test]
    fn rows_are_those_of_the_scalar_code() {
        let mut noise = Noise(Random::new(2));
        let kernel = Kernel::detect();
        for len in [1, 7, 8, 15, 16, 17, 31, 33, 640, 1001] {
            for _ in 0..50 {
                let fixed: [Vec<i16>; 2] =
                    [0, 1].map(|_| (0..len).map(|_| i16::try_from(noise.below(32641)).unwrap()).collect());
                let lower = i16::try_from(noise.below(2049)).unwrap();
                let (rows, weights) = ([&fixed[0][..], &fixed[1][..]], [2048 - lower, lower]);
                let mut units = [vec![0.0; len], vec![0.0; len]];
                kernel.rows_fixed(rows, weights, &mut units[0]);
                Kernel::SCALAR.rows_fixed(rows, weights, &mut units[1]);
                assert_eq!(units[0], units[1]);
                let mut bytes = [vec![0; len], vec![0; len]];
                kernel.rows_bytes(rows, weights, &mut bytes[0]);
                Kernel::SCALAR.rows_bytes(rows, weights, &mut bytes[1]);
                assert_eq!(bytes[0], bytes[1]);
                let float =
                    fixed.each_ref().map(|row| row.iter().map(|&v| f32::from(v) / 128.37).collect::<Vec<f32>>());
                let (rows, fraction) = ([&float[0][..], &float[1][..]], f32::from(lower) / 2049.0);
                kernel.rows_float(rows, fraction, &mut units[0]);
                Kernel::SCALAR.rows_float(rows, fraction, &mut units[1]);
                assert_eq!(units[0], units[1]);
                kernel.blend_all(rows, fraction, &mut units[0]);
                Kernel::SCALAR.blend_all(rows, fraction, &mut units[1]);
                assert_eq!(units[0], units[1]);
                let fractions: Vec<f32> = (0..len).map(|_| f32::from(noise.below(2049)) / 2049.0).collect();
                kernel.blend_each(rows, &fractions, &mut units[0]);
                Kernel::SCALAR.blend_each(rows, &fractions, &mut units[1]);
                assert_eq!(units[0], units[1]);
            }
        }
    }

    #[test]
    fn every_grey_level_is_divided_by_255_exactly() {
        let rows: Vec<i16> = (0..256).map(|level| level * 127 + level).collect();
        let expected: Vec<f32> = (0..=255u8).map(|level| f32::from(level) / 255.0).collect();
        for kernel in [Kernel::SCALAR, Kernel::detect()] {
            let mut out = vec![0.0; 256];
            kernel.rows_fixed([&rows, &rows], [2048, 0], &mut out);
            assert_eq!(out, expected, "{}", kernel.name());
        }
    }

    #[test]
    fn the_extremes_of_the_fixed_point_do_not_overflow() {
        let mut columns = Columns::default();
        columns.rebuild(40, 64, Arithmetic::Integer);
        for kernel in [Kernel::SCALAR, Kernel::detect()] {
            for (value, expected) in [(0, 0), (255, 32640)] {
                let planes = split(64, |p| kernel.columns_fixed(&[value; 120], &columns, p));
                assert!(planes.iter().flatten().all(|&blended| blended == expected));
                let mut out = vec![1; 64];
                kernel.rows_bytes([&planes[0], &planes[1]], [1024, 1024], &mut out);
                assert!(out.iter().all(|&byte| byte == value));
            }
        }
    }
}
