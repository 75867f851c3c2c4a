//! Clips of what rules report: the seconds before something begins and those after, with a note of what it was beside the
//! video. What happens meanwhile makes the same clip longer.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use serde::Serialize;

use super::film::Film;
use super::lane::{Shot, begins};
use super::ring::Ring;
use super::{Keeper, Pen};
use crate::clock::Stamp;
use crate::config::ClipsConfig;
use crate::durable::write_durably;
use crate::frame::Size;
use crate::rules::Event;

/// Most events of one note; a clip with more says how many there were.
const EVENTS_MAX: usize = 256;
/// A source that is silent for this long has ended its clip.
const SILENT_MAX_S: u64 = 3;

/// Writes them.
pub struct Clips {
    pen: Pen,
    times: Times,
    reels: HashMap<u32, Reel>,
}

/// Lengths in moments, and of memory in bytes.
#[derive(Clone, Copy)]
struct Times {
    fps: u32,
    before: u64,
    after: u64,
    longest: u64,
    bytes_max: usize,
}

/// The last seconds of one source, encoded.
#[derive(Default)]
struct Reel {
    /// Oldest first.
    pictures: VecDeque<Encoded>,
    /// Memory of pictures that were forgotten.
    spare: Vec<Vec<u8>>,
    bytes: usize,
    clip: Option<Clip>,
}

struct Encoded {
    moment: u64,
    size: Size,
    jpeg: Vec<u8>,
}

/// A clip that is being written.
struct Clip {
    film: Film,
    note: Note,
    /// Name of the note.
    name: String,
    /// Moment at which it ends, unless something happens before.
    until: u64,
    touched_at: Instant,
}

/// What lies beside the video.
#[derive(Serialize)]
struct Note {
    video: String,
    source_id: u32,
    fps: u32,
    /// From the beginning of the video to the frame that began it, seconds.
    before_s: f64,
    /// Of that frame.
    #[serde(flatten)]
    stamp: Stamp,
    /// How many there were; the first of them follow.
    event_count: usize,
    events: Vec<Event>,
}

impl Clips {
    pub fn new(config: &ClipsConfig, pen: Pen) -> Self {
        let moments = |seconds: u32| u64::from(seconds) * u64::from(config.fps);
        let times = Times {
            fps: config.fps,
            before: moments(config.before_s),
            after: moments(config.after_s),
            longest: moments(config.longest_s),
            bytes_max: config.memory_mb * 1_000_000,
        };
        Self { pen, times, reels: HashMap::new() }
    }
}

impl Reel {
    /// Keeps a picture, and forgets those that no clip will begin with.
    fn add(&mut self, moment: u64, size: Size, jpeg: &[u8], times: Times) {
        let mut memory = self.spare.pop().unwrap_or_default();
        memory.clear();
        memory.extend_from_slice(jpeg);
        self.bytes += memory.len();
        self.pictures.push_back(Encoded { moment, size, jpeg: memory });
        let useless = |reel: &Self| {
            let oldest = reel.pictures.front().filter(|_| reel.pictures.len() > 1);
            oldest.is_some_and(|oldest| oldest.moment + times.before < moment || reel.bytes > times.bytes_max)
        };
        while useless(self) {
            let forgotten = self.pictures.pop_front().expect("more than one");
            self.bytes -= forgotten.jpeg.len();
            if self.spare.len() < 2 {
                self.spare.push(forgotten.jpeg);
            }
        }
    }

    /// A clip that begins with what is kept; the newest picture is the one in which something begins.
    fn begin(&self, ring: &mut Ring, shot: &Shot, times: Times) -> Result<Clip, String> {
        let size = shot.frame.size();
        let same = self.pictures.iter().rev().take_while(|picture| picture.size == size).count();
        let pictures = || self.pictures.iter().skip(self.pictures.len() - same);
        let first = pictures().next().map_or(shot.moment, |picture| picture.moment);
        let stem = ring.name(shot.stamp, shot.frame.source_id, shot.frame.id);
        let (video, name) = (format!("{stem}.avi"), format!("{stem}.json"));
        let mut film = Film::create(ring, video.clone(), size, times.fps, first)?;
        for picture in pictures() {
            film.push(ring, picture.moment, &picture.jpeg)?;
        }
        #[expect(clippy::cast_precision_loss, reason = "moments of minutes")]
        let before_s = (shot.moment - first) as f64 / f64::from(times.fps);
        let note = Note {
            video,
            source_id: shot.frame.source_id,
            fps: times.fps,
            before_s,
            stamp: shot.stamp,
            event_count: 0,
            events: Vec::new(),
        };
        Ok(Clip { film, note, name, until: shot.moment + times.after, touched_at: Instant::now() })
    }
}

impl Clip {
    /// Adds what has begun or ended, and writes the note.
    fn tell(&mut self, ring: &mut Ring, events: &[Event]) -> Result<(), String> {
        self.note.event_count += events.len();
        let room = EVENTS_MAX - self.note.events.len();
        self.note.events.extend(events.iter().take(room).cloned());
        let mut bytes = serde_json::to_vec_pretty(&self.note).expect("numbers and text always serialise");
        bytes.push(b'\n');
        write_durably(&ring.path(&self.name), &bytes).map_err(|error| error.to_string())?;
        ring.note(&self.name, bytes.len() as u64)
    }
}

impl Keeper for Clips {
    fn keep(&mut self, ring: &mut Ring, shot: &mut Shot) -> Result<u64, String> {
        let (times, size) = (self.times, shot.frame.size());
        let jpeg = self.pen.jpeg(shot)?;
        let reel = self.reels.entry(shot.frame.source_id).or_default();
        if reel.pictures.back().is_none_or(|newest| newest.moment < shot.moment) {
            reel.add(shot.moment, size, jpeg, times);
        }
        let mut done = 0;
        if let Some(mut clip) = reel.clip.take() {
            let fits = clip.film.size() == size && shot.moment <= clip.until;
            if fits && clip.film.push(ring, shot.moment, jpeg)? {
                clip.touched_at = Instant::now();
                if !shot.events.is_empty() {
                    let longest = clip.film.first() + times.longest;
                    clip.until = clip.until.max((shot.moment + times.after).min(longest));
                    clip.tell(ring, &shot.events)?;
                }
                reel.clip = Some(clip);
                return Ok(0);
            }
            clip.film.close(ring)?;
            done = 1;
        }
        if begins(&shot.events) {
            let mut clip = reel.begin(ring, shot, times)?;
            clip.tell(ring, &shot.events)?;
            reel.clip = Some(clip);
        }
        Ok(done)
    }

    fn tick(&mut self, ring: &mut Ring, now: Instant) -> Result<u64, String> {
        let silent = |clip: &mut Clip| now.saturating_duration_since(clip.touched_at).as_secs() >= SILENT_MAX_S;
        self.close(ring, silent)
    }

    fn end(&mut self, ring: &mut Ring) -> Result<u64, String> {
        self.close(ring, |_| true)
    }

    fn forget(&mut self) {
        self.reels.clear();
    }
}

impl Clips {
    /// Ends the clips that are over, and returns how many those are.
    fn close(&mut self, ring: &mut Ring, over: impl Fn(&mut Clip) -> bool) -> Result<u64, String> {
        let mut done = 0;
        for clip in self.reels.values_mut().filter_map(|reel| reel.clip.take_if(|clip| over(clip))) {
            clip.film.close(ring)?;
            done += 1;
        }
        Ok(done)
    }
}
