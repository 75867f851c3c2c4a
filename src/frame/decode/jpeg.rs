//! The pixels of a JPEG, bit-equal to those of libjpeg-turbo and so of OpenCV.
//!
//! The library reports an error by unwinding through its own frames, which is caught here; it prints nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mozjpeg::{ColorSpace, Decompress};

/// Fills `pixels`, interleaved 8-bit RGB of the size that the header declares.
///
/// # Errors
/// Why not, or that the colours are of a kind (CMYK) that libjpeg leaves to its caller.
pub fn read_rgb(bytes: &[u8], pixels: &mut [u8]) -> Result<(), Refused> {
    let read = || -> std::io::Result<bool> {
        let header = Decompress::new_mem(bytes)?;
        if matches!(header.color_space(), ColorSpace::JCS_CMYK | ColorSpace::JCS_YCCK) {
            return Ok(false);
        }
        let mut rows = header.rgb()?;
        rows.read_scanlines_into(pixels)?;
        Ok(true)
    };
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(Refused::Cmyk),
        Ok(Err(error)) => Err(Refused::Damaged(error.to_string())),
        Err(payload) => {
            let why = payload.downcast_ref::<String>().cloned();
            Err(Refused::Damaged(why.unwrap_or_else(|| "the decoder gave up".into())))
        }
    }
}

/// Why there are no pixels.
#[derive(Debug)]
pub enum Refused {
    Cmyk,
    Damaged(String),
}
