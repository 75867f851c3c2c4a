//! A JPEG every so often, and of each frame in which something begins.

use std::collections::HashMap;
use std::time::Instant;

use super::lane::{Shot, Wanted, begins};
use super::ring::Ring;
use super::{Keeper, Pen};
use crate::config::{PicturesConfig, seconds};
use crate::durable::write_durably;

/// Which frames are kept: the first of each interval of each source, and those in which something begins.
pub fn wanted(config: &PicturesConfig) -> Wanted {
    let every = (config.every_s > 0.0).then(|| seconds(config.every_s));
    let on_event = config.on_event;
    let mut due_at: HashMap<u32, Instant> = HashMap::new();
    Box::new(move |outcome| {
        let now = Instant::now();
        let due = every.is_some_and(|every| {
            let at = due_at.entry(outcome.frame.source_id).or_insert(now);
            let due = now >= *at;
            if due {
                *at = now + every;
            }
            due
        });
        (due || (on_event && begins(outcome.events))).then_some(0)
    })
}

/// Writes them.
pub struct Pictures {
    pen: Pen,
}

impl Pictures {
    pub fn new(pen: Pen) -> Self {
        Self { pen }
    }
}

impl Keeper for Pictures {
    fn keep(&mut self, ring: &mut Ring, shot: &mut Shot) -> Result<u64, String> {
        let name = ring.name(shot.stamp, shot.frame.source_id, shot.frame.id) + ".jpg";
        let jpeg = self.pen.jpeg(shot)?;
        write_durably(&ring.path(&name), jpeg).map_err(|error| error.to_string())?;
        ring.note(&name, jpeg.len() as u64)?;
        Ok(1)
    }
}
