//! Objects followed from frame to frame: ByteTrack (Zhang et al., 2022), as `supervision` has it.
//!
//! Confident detections are given to tracks first; what is left of the tracks may then take weak ones, so that an object half
//! hidden keeps its number. Time counts in frames but need not come in whole ones, so that dropped frames cost no track.
//! Everything has a size that is taken at the start.

mod assignment;
mod motion;
#[cfg(test)]
mod tests;

use crate::config::TrackerConfig;
use crate::model::Detection;
use assignment::Assignment;
use motion::Motion;

/// Most tracks at once, and most detections a frame that are followed, the strongest: as many as a crowd that a detector
/// still tells apart, and few enough that the worst frame costs milliseconds.
pub const TRACKS_MAX: usize = 256;

/// Weaker detections continue no track (the reference's).
const WEAK: f64 = 0.1;
/// What a detection must have beyond the threshold to begin a track (the reference's).
const BEGIN_EXTRA: f64 = 0.1;
/// Most that a weak detection may cost, and one for a track that has no number yet (the reference's).
const WEAK_COST_MAX: f64 = 0.5;
const UNCONFIRMED_COST_MAX: f64 = 0.7;
/// Most that the detection of a track may be away from it (the reference's).
const TOLD_COST_MAX: f64 = 0.5;
/// A lost track that lies on another to more than this is the same object (the reference's).
const SAME_IOU: f64 = 0.95;
/// Frames a second that `lost_track_buffer` is in.
const BUFFER_RATE: f64 = 30.0;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Free,
    /// Begun, and not seen often enough yet.
    Unconfirmed,
    Tracked,
    Lost,
}

#[derive(Clone, Copy, Debug, Default)]
struct Track {
    state: State,
    id: Option<u64>,
    class_id: u32,
    motion: Motion,
    /// When it was first and last seen, frames.
    begun_at: f64,
    seen_at: f64,
    /// Frames since it was begun or found again in which it was seen.
    hits: u32,
}

/// Which track a detection belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// Its place among the tracks, below [`TRACKS_MAX`], which another may take when it is gone.
    pub slot: usize,
    /// Its number, never given again; from 1.
    pub id: u64,
}

/// The tracks of one source.
#[derive(Debug)]
pub struct Tracker {
    config: TrackerConfig,
    /// How long a track may stay lost, frames.
    lost_max: f64,
    tracks: Vec<Track>,
    last_id: u64,
    /// The time of the last frame, frames; `None` before the first.
    now: Option<f64>,
    assignment: Assignment,
    /// Places of tracks and detections that are yet to be paired, and of those left over.
    pool: Vec<usize>,
    unconfirmed: Vec<usize>,
    strong: Vec<usize>,
    weak: Vec<usize>,
    left: Vec<usize>,
    tracked: Vec<Option<Tracked>>,
}

impl Tracker {
    #[must_use]
    pub fn new(config: &TrackerConfig) -> Self {
        let list = || Vec::with_capacity(TRACKS_MAX);
        Self {
            lost_max: (config.frame_rate / BUFFER_RATE * f64::from(config.lost_track_buffer)).floor(),
            config: config.clone(),
            tracks: vec![Track::default(); TRACKS_MAX],
            last_id: 0,
            now: None,
            assignment: Assignment::new(TRACKS_MAX),
            pool: list(),
            unconfirmed: list(),
            strong: list(),
            weak: list(),
            left: list(),
            tracked: Vec::with_capacity(TRACKS_MAX),
        }
    }

    /// Follows the objects of a frame to this one, `now` frames from any beginning. The answer has one entry a detection, in
    /// their order.
    pub fn update(&mut self, detections: &[Detection], now: f64) -> &[Option<Tracked>] {
        let before = self.now;
        let now = before.map_or(now, |before| now.max(before));
        let passed = before.map(|before| now - before);
        self.now = Some(now);
        self.tracked.clear();
        self.tracked.resize(detections.len(), None);
        self.sort_out(detections, passed.unwrap_or_default(), now);

        let Self { strong, weak, unconfirmed, .. } = self;
        let (strong, weak, unconfirmed) = (std::mem::take(strong), std::mem::take(weak), std::mem::take(unconfirmed));
        let mut pool = std::mem::take(&mut self.pool);
        let mut left = std::mem::take(&mut self.left);
        left.clone_from(&strong);
        self.pair(&mut pool, &mut left, detections, Cost::Fused(self.config.minimum_matching_threshold), now);
        let mut weak_left = weak;
        pool.retain(|&track| self.tracks[track].state == State::Tracked);
        self.pair(&mut pool, &mut weak_left, detections, Cost::Iou(WEAK_COST_MAX), now);
        for &track in &pool {
            self.tracks[track].state = State::Lost;
        }
        let mut new = unconfirmed;
        self.pair(&mut new, &mut left, detections, Cost::Fused(UNCONFIRMED_COST_MAX), now);
        for &track in &new {
            self.tracks[track].state = State::Free;
        }
        for &detection in &left {
            self.begin(&detections[detection], passed.is_none(), now);
        }
        (self.strong, self.weak, self.unconfirmed, self.pool, self.left) = (strong, weak_left, new, pool, left);
        self.forget_twins();
        self.tell(detections);
        &self.tracked
    }

    /// Moves every track on to this frame, forgets those lost for too long, and lists who is to be paired with what.
    fn sort_out(&mut self, detections: &[Detection], passed: f64, now: f64) {
        self.pool.clear();
        self.unconfirmed.clear();
        for (place, track) in self.tracks.iter_mut().enumerate() {
            if now - track.seen_at > self.lost_max + 1.0 {
                track.state = State::Free;
            }
            match track.state {
                State::Free => continue,
                State::Unconfirmed => {
                    self.unconfirmed.push(place);
                    continue;
                }
                State::Tracked => {}
                State::Lost => track.motion.keep_height(),
            }
            track.motion.predict(passed);
            self.pool.push(place);
        }
        self.strong.clear();
        self.weak.clear();
        for (place, detection) in detections.iter().enumerate().take(TRACKS_MAX) {
            let [left, top, right, bottom] = detection.corners;
            let confidence = f64::from(detection.confidence);
            let measurable = detection.corners.iter().all(|corner| corner.is_finite()) && right > left && bottom > top;
            if measurable && confidence >= self.config.track_activation_threshold {
                self.strong.push(place);
            } else if measurable && confidence > WEAK {
                self.weak.push(place);
            }
        }
    }

    /// Gives detections to tracks and takes both off their lists.
    fn pair(&mut self, tracks: &mut Vec<usize>, detections: &mut Vec<usize>, all: &[Detection], cost: Cost, now: f64) {
        let class_aware = self.config.class_aware;
        let of = &self.tracks;
        let pairs = self.assignment.solve(tracks.len(), detections.len(), cost.limit(), |row, column| {
            let (track, detection) = (&of[tracks[row]], &all[detections[column]]);
            if class_aware && track.class_id != detection.class_id {
                return f64::INFINITY;
            }
            cost.of(track, detection)
        });
        for &(row, column) in pairs {
            let (place, detection) = (tracks[row], detections[column]);
            let track = &mut self.tracks[place];
            track.take(&all[detection], now);
            if track.hits == self.config.minimum_consecutive_frames {
                track.state = State::Tracked;
                track.number(&mut self.last_id);
            }
            (tracks[row], detections[column]) = (usize::MAX, usize::MAX);
        }
        tracks.retain(|&place| place != usize::MAX);
        detections.retain(|&place| place != usize::MAX);
    }

    /// Begins a track with a detection that none has taken. Those of a source's first frame need not prove themselves.
    fn begin(&mut self, detection: &Detection, first: bool, now: f64) {
        if f64::from(detection.confidence) < self.config.track_activation_threshold + BEGIN_EXTRA {
            return;
        }
        let Some(slot) = self.room() else { return };
        let track = &mut self.tracks[slot];
        *track = Track {
            state: if first { State::Tracked } else { State::Unconfirmed },
            id: None,
            class_id: detection.class_id,
            motion: Motion::new(detection.corners),
            begun_at: now,
            seen_at: now,
            hits: 0,
        };
        if first && self.config.minimum_consecutive_frames == 1 {
            track.number(&mut self.last_id);
        }
    }

    /// A free place, or that of the track that has been lost for longest.
    fn room(&self) -> Option<usize> {
        let places = || self.tracks.iter().enumerate();
        let free = places().find(|(_, track)| track.state == State::Free);
        let lost = || places().filter(|(_, track)| track.state == State::Lost);
        let oldest = || lost().min_by(|(_, a), (_, b)| a.seen_at.total_cmp(&b.seen_at));
        free.or_else(oldest).map(|(place, _)| place)
    }

    /// Says which track each detection belongs to: as in the reference, the one where the track now is, which need not be
    /// the one that moved it there.
    fn tell(&mut self, detections: &[Detection]) {
        list(&mut self.pool, &self.tracks, State::Tracked);
        let (tracks, pool) = (&self.tracks, &self.pool);
        let seen = detections.len().min(TRACKS_MAX);
        let pairs = self.assignment.solve(seen, pool.len(), TOLD_COST_MAX, |detection, track| {
            1.0 - iou(detections[detection].corners, tracks[pool[track]].motion.corners())
        });
        for &(detection, track) in pairs {
            let slot = pool[track];
            self.tracked[detection] = tracks[slot].id.map(|id| Tracked { slot, id });
        }
    }

    /// Of a tracked and a lost track that lie on each other, forgets the shorter lived.
    fn forget_twins(&mut self) {
        let Self { tracks, pool, left: lost, .. } = self;
        list(pool, tracks, State::Tracked);
        list(lost, tracks, State::Lost);
        for &a in &*pool {
            for &b in &*lost {
                let (one, other) = (&tracks[a], &tracks[b]);
                let there = one.state == State::Tracked && other.state == State::Lost;
                if there && iou(one.motion.corners(), other.motion.corners()) > SAME_IOU {
                    let forgotten = if one.age() > other.age() { b } else { a };
                    tracks[forgotten].state = State::Free;
                }
            }
        }
    }
}

impl Track {
    fn age(&self) -> f64 {
        self.seen_at - self.begun_at
    }

    fn number(&mut self, last_id: &mut u64) {
        if self.id.is_none() {
            *last_id += 1;
            self.id = Some(*last_id);
        }
    }

    fn take(&mut self, detection: &Detection, now: f64) {
        self.motion.update(detection.corners);
        self.class_id = detection.class_id;
        self.seen_at = now;
        if self.state == State::Lost {
            (self.state, self.hits) = (State::Tracked, 0);
        } else {
            self.hits = self.hits.saturating_add(1);
        }
    }
}

/// What a pair costs, and the most it may.
#[derive(Clone, Copy, Debug)]
enum Cost {
    Iou(f64),
    /// With the detection's confidence.
    Fused(f64),
}

impl Cost {
    fn limit(self) -> f64 {
        match self {
            Cost::Iou(limit) | Cost::Fused(limit) => limit,
        }
    }

    fn of(self, track: &Track, detection: &Detection) -> f64 {
        let iou = iou(track.motion.corners(), detection.corners);
        match self {
            Cost::Iou(_) => 1.0 - iou,
            Cost::Fused(_) => 1.0 - iou * f64::from(detection.confidence),
        }
    }
}

/// Fills a list with the places of the tracks in a state.
fn list(places: &mut Vec<usize>, tracks: &[Track], state: State) {
    places.clear();
    places.extend((0..tracks.len()).filter(|&place| tracks[place].state == state));
}

/// Common area of two boxes (left, top, right, bottom) over that of both together.
fn iou(a: [f64; 4], b: [f64; 4]) -> f64 {
    let (width, height) = (a[2].min(b[2]) - a[0].max(b[0]), a[3].min(b[3]) - a[1].max(b[1]));
    if width <= 0.0 || height <= 0.0 {
        return 0.0;
    }
    let area = |of: [f64; 4]| (of[2] - of[0]) * (of[3] - of[1]);
    width * height / (area(a) + area(b) - width * height)
}
