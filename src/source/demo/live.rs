//! The scene as a [`Source`]: `demo:`, at a steady rate, or as fast as the loop takes it.

use std::time::{Duration, Instant};

use super::Conveyor;
use crate::frame::Frame;
use crate::source::{Error, Next, Source, options};

/// Frames a second of `demo:` unless `?fps=` says otherwise: what a camera gives.
const FPS_DEFAULT: f64 = 30.0;
const FPS_MAX: f64 = 1000.0;

/// The conveyor behind a clock.
#[derive(Debug)]
pub struct DemoSource {
    uri: String,
    conveyor: Conveyor,
    /// Time from frame to frame; `None` for a source that waits for the loop.
    period: Option<Duration>,
    due: Instant,
    /// Frames until it stops for ever, as a hung camera driver does: for whoever wants to see their watchdog bite.
    stall_after: Option<u64>,
}

impl DemoSource {
    /// Opens `demo:` with options `seed=N`, `fps=N` (`fps=0` is not live but as fast as frames are taken) and
    /// `stall_after=N`, which hangs after that many frames.
    ///
    /// # Errors
    /// An unknown option or a value out of range.
    pub fn open(uri: &str) -> Result<Self, Error> {
        let (mut seed, mut fps, mut stall_after) = (1, FPS_DEFAULT, None);
        for (option, value) in options(uri).1 {
            let fail = |option, expected| Error::Option { uri: uri.into(), option, found: value.into(), expected };
            match option {
                "seed" => seed = value.parse().map_err(|_| fail("seed", "a whole number"))?,
                "stall_after" => {
                    stall_after = Some(value.parse().map_err(|_| fail("stall_after", "a whole number of frames"))?);
                }
                "fps" => {
                    let parsed = value.parse().ok().filter(|fps| (0.0..=FPS_MAX).contains(fps));
                    fps = parsed.ok_or_else(|| fail("fps", "0 to 1000"))?;
                }
                _ => {
                    return Err(Error::UnknownOption {
                        uri: uri.into(),
                        option: option.into(),
                        valid: "seed, fps, stall_after",
                    });
                }
            }
        }
        let period = (fps > 0.0).then(|| Duration::from_secs_f64(1.0 / fps));
        Ok(Self { uri: uri.into(), conveyor: Conveyor::new(seed), period, due: Instant::now(), stall_after })
    }
}

impl Source for DemoSource {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn live(&self) -> bool {
        self.period.is_some()
    }

    fn next(&mut self, frame: &mut Frame, origin: &mut String) -> Result<Next, Error> {
        if let Some(left) = &mut self.stall_after {
            match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => loop {
                    std::thread::park();
                },
            }
        }
        if let Some(period) = self.period {
            let now = Instant::now();
            std::thread::sleep(self.due.saturating_duration_since(now));
            // A clock that fell behind does not catch up in a burst.
            self.due = (self.due + period).max(now);
        }
        self.conveyor.render(frame);
        if origin != &self.uri {
            origin.clone_from(&self.uri);
        }
        Ok(Next::Frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked() {
        assert!(DemoSource::open("demo:").unwrap().live());
        assert!(!DemoSource::open("demo:?fps=0&seed=7").unwrap().live());
        for (uri, word) in [
            ("demo:?fps=-1", "0 to 1000"),
            ("demo:?seed=x", "whole number"),
            ("demo:?speed=1", "seed, fps, stall_after"),
        ] {
            let message = DemoSource::open(uri).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }
}
