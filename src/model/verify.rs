//! Does a package really run here? Every step that `run` will take, once, on a made-up image.

use super::{Draw, Error, Model, Predictions, Request};
use crate::cache::Package;
use crate::engine::{Engine, LoadOptions};
use crate::frame::Frame;
use crate::random::Random;

/// Side of the test image: what Roboflow's engine validates with (SPEC §1.2, "Loading").
const SIDE: usize = 1024;

/// Loads the package's network and infers one image of noise.
///
/// # Errors
/// As [`Model::load`] and [`Model::infer`]: the network does not parse, its classes are not those of the package, or
/// inference fails.
pub fn verify(
    package: &Package,
    engine: &dyn Engine,
    options: LoadOptions,
    picture: Option<Draw<'_>>,
) -> Result<(), Error> {
    let mut model = Model::load_with(package, engine, options, picture)?;
    let mut frame = Frame::new(SIDE, SIDE);
    // Any picture that is not flat does, and this one is the same every time.
    let mut random = Random::new(1);
    frame.pixels_mut().fill_with(|| random.bits().to_le_bytes()[0]);
    model.infer(&frame, &Request::default(), &mut Predictions::default())?;
    Ok(())
}
