//! Rules: what of all that the model sees is worth an event. A class in a zone, a count, a line crossed.
//!
//! Called with every frame that was inferred, before the sinks. An event that lasts has a start and an end; a line crossed
//! is one record. An event of a source that is lost goes on until that is back: what nobody sees, nobody judges. It is then
//! over since the last frame that showed it. What lasts when the process ends has no end record; its id says of which
//! process it is.
//! May not know: sources, sinks, the loop.

mod check;
mod episode;
mod event;
mod geometry;
mod line;
#[cfg(test)]
mod tests;
mod tracker;

use std::sync::Arc;
use std::time::Instant;

use crate::clock::{self, Stamp};
use crate::config::{Direction, RuleConfig, RuleKind, TrackerConfig};
use crate::frame::Frame;
use crate::model::{ClassScore, Detection, Labels, Predictions, Task};
use check::{Rule, Watch};
use episode::{Change, Episode, Times};
use geometry::{Point, contains};
use line::Crossings;

pub use check::RULES_MAX;
pub use event::{Event, Phase};
pub use tracker::{TRACKS_MAX, Tracked, Tracker};

/// A live source that gives no frame for this long was lost, and what it showed before may be over: longer than any pause
/// of a camera that works, seconds.
const LOST_S: f64 = 5.0;

/// A value of the configuration that does not fit.
#[derive(Debug, thiserror::Error)]
#[error("{key} = {found}: expected {expected}")]
pub struct Error {
    pub key: String,
    pub found: String,
    pub expected: String,
}

/// What rules need to know of a source. Their order is that of `source_id`.
#[derive(Clone, Copy, Debug)]
pub struct Camera<'a> {
    /// Its id in the configuration, where it has one.
    pub id: Option<&'a str>,
    /// It has a clock: others count their frames.
    pub live: bool,
}

/// What was found out about one frame.
#[derive(Clone, Copy, Debug, Default)]
pub struct Observed<'a> {
    /// Track of each detection in their order, `None` for one that has none (yet); empty where nothing is tracked.
    pub tracks: &'a [Option<u64>],
    /// What began or ended.
    pub events: &'a [Event],
}

/// All rules, and what they remember of every source.
#[derive(Debug)]
pub struct Rules {
    rules: Vec<Rule>,
    views: Vec<View>,
    class_names: Vec<Arc<str>>,
    /// Frames a second of sources that have no clock.
    frame_rate: f64,
    ids: Ids,
    tracks: Vec<Option<u64>>,
    events: Vec<Event>,
}

/// What is remembered of one source.
#[derive(Debug)]
struct View {
    live: bool,
    /// When and which its first and last frames were.
    first_at: Option<Instant>,
    last: Option<(Moment, u64)>,
    tracker: Option<Tracker>,
    /// One a rule.
    memories: Vec<Memory>,
}

#[derive(Debug)]
enum Memory {
    /// The rule is about another source.
    Nothing,
    Episode(Episode),
    Crossings(Crossings),
}

/// When a frame was taken: in seconds from any beginning, for rules; on the clocks, for people.
#[derive(Clone, Copy, Debug)]
struct Moment {
    seconds: f64,
    stamp: Stamp,
}

/// Names of events that no other process, on this boot or another, gives.
#[derive(Debug)]
struct Ids {
    process: String,
    last: u64,
}

impl Ids {
    fn next(&mut self) -> Arc<str> {
        self.last += 1;
        format!("{}-{}", self.process, self.last).into()
    }
}

impl Rules {
    /// The rules of a configuration; `None` where there is neither a rule nor a tracker.
    ///
    /// # Errors
    /// A rule does not fit the model or the sources, or says what cannot be.
    pub fn new(
        tracker: Option<&TrackerConfig>,
        rules: &[RuleConfig],
        labels: &Labels,
        cameras: &[Camera<'_>],
        boot_id: &str,
    ) -> Result<Option<Self>, Error> {
        if tracker.is_none() && rules.is_empty() {
            return Ok(None);
        }
        let finds_objects = [Task::ObjectDetection, Task::InstanceSegmentation, Task::KeypointDetection];
        if tracker.is_some() && !finds_objects.contains(&labels.task) {
            let expected = "none: the model finds no objects".into();
            return Err(Error { key: "[tracker]".into(), found: labels.task.as_str().into(), expected });
        }
        if rules.len() > RULES_MAX {
            let (found, expected) = (format!("{} rules", rules.len()), format!("at most {RULES_MAX}"));
            return Err(Error { key: "[[rules]]".into(), found, expected });
        }
        for (at, rule) in rules.iter().enumerate() {
            if rules[..at].iter().any(|other| other.name == rule.name) {
                let (found, expected) = (format!("`{}` twice", rule.name), "a name that no other rule has".into());
                return Err(Error { key: "[[rules]]: name".into(), found, expected });
            }
        }
        let needed = tracker.is_some() || rules.iter().any(|rule| rule.kind == RuleKind::Line);
        let tracker = tracker.cloned().unwrap_or_default();
        let frame_rate = tracker.frame_rate;
        let rules: Vec<Rule> = rules.iter().map(|rule| Rule::new(rule, labels, cameras)).collect::<Result<_, _>>()?;
        let view = |(number, camera): (usize, &Camera<'_>)| View {
            live: camera.live,
            first_at: None,
            last: None,
            tracker: needed.then(|| Tracker::new(&tracker)),
            memories: rules.iter().map(|rule| Memory::of(rule, number)).collect(),
        };
        let views = cameras.iter().enumerate().map(view).collect();
        // No two processes of a boot have both the same number and the same microsecond of their start.
        let process = format!("{boot_id}-{:x}-{:x}", std::process::id(), clock::since_boot().as_micros());
        Ok(Some(Self {
            views,
            rules,
            class_names: labels.class_names.iter().map(|name| name.as_str().into()).collect(),
            frame_rate,
            ids: Ids { process, last: 0 },
            tracks: Vec::with_capacity(TRACKS_MAX),
            events: Vec::new(),
        }))
    }

    /// Judges a frame: follows its objects and applies every rule about its source. Allocates only for events.
    pub fn judge(&mut self, frame: &Frame, predictions: &Predictions) -> Observed<'_> {
        self.tracks.clear();
        self.events.clear();
        let view = usize::try_from(frame.source_id).ok().and_then(|number| self.views.get_mut(number));
        let Some(view) = view else { return Observed::default() };
        let frames = view.frames(frame, self.frame_rate);
        let moment = Moment { seconds: frames / self.frame_rate, stamp: Stamp::at(frame.captured_at) };
        let gap = view.gap(frame, moment);
        let tracked = match &mut view.tracker {
            Some(tracker) => tracker.update(&predictions.detections, frames),
            None => &[],
        };
        self.tracks.extend(tracked.iter().map(|tracked| tracked.map(|tracked| tracked.id)));
        let scene = Scene { predictions, tracked, moment, gap };
        let mut records = Records { frame, names: &self.class_names, ids: &mut self.ids, events: &mut self.events };
        for (rule, memory) in self.rules.iter().zip(&mut view.memories) {
            match (memory, &rule.watch) {
                (Memory::Episode(episode), _) => scene.watch(rule, episode, &mut records),
                (Memory::Crossings(crossings), Watch::Line { ends, direction }) => {
                    scene.cross(rule, *ends, *direction, crossings, &mut records);
                }
                _ => {}
            }
        }
        Observed { tracks: &self.tracks, events: &self.events }
    }
}

impl Memory {
    fn of(rule: &Rule, view: usize) -> Self {
        if rule.source.is_some_and(|source| usize::try_from(source) != Ok(view)) {
            return Memory::Nothing;
        }
        match rule.watch {
            Watch::Line { .. } => Memory::Crossings(Crossings::new()),
            _ => Memory::Episode(Episode::default()),
        }
    }
}

impl View {
    /// When a frame was taken, in frames from the first.
    fn frames(&mut self, frame: &Frame, rate: f64) -> f64 {
        if !self.live {
            return frame.id as f64;
        }
        let first_at = *self.first_at.get_or_insert(frame.captured_at);
        frame.captured_at.saturating_duration_since(first_at).as_secs_f64() * rate
    }

    /// The pause before this frame, if the source was lost meanwhile: a loop that is slow skips frames, and has their numbers.
    fn gap(&mut self, frame: &Frame, moment: Moment) -> Option<Gap> {
        let (last, id) = self.last.replace((moment, frame.id))?;
        let gap = Gap { seconds: moment.seconds - last.seconds, last: last.stamp };
        let captured = frame.id.saturating_sub(id).max(1) as f64;
        (self.live && gap.seconds / captured > LOST_S).then_some(gap)
    }
}

/// A pause of a source.
#[derive(Clone, Copy, Debug)]
struct Gap {
    seconds: f64,
    /// When the last frame before it was taken.
    last: Stamp,
}

/// A frame with all that is known of it.
#[derive(Clone, Copy)]
struct Scene<'a> {
    predictions: &'a Predictions,
    tracked: &'a [Option<Tracked>],
    moment: Moment,
    gap: Option<Gap>,
}

impl Scene<'_> {
    fn watch(&self, rule: &Rule, episode: &mut Episode, records: &mut Records<'_>) {
        if let Some(gap) = self.gap.filter(|gap| gap.seconds > rule.hold_s)
            && let Some(change) = episode.interrupt(gap.last)
        {
            records.change(rule, change, 0);
        }
        let count = self.count(rule);
        let holds = match rule.watch {
            Watch::Presence { above, .. } => count > above,
            _ => count > 0,
        };
        let times = Times { hold_s: rule.hold_s, cooldown_s: rule.cooldown_s };
        if let Some(change) = episode.step(holds, self.moment, times, || records.ids.next()) {
            records.change(rule, change, count);
        }
    }

    /// Objects or classes that a rule is about.
    fn count(&self, rule: &Rule) -> u32 {
        let count = match &rule.watch {
            Watch::Presence { zone, .. } => {
                let [width, height] = rule.unit_px(self.predictions.image);
                let inside = |zone: &Vec<Point>, [x, y]: Point| contains(zone, [x / width, y / height]);
                let counts = |detection: &&Detection| {
                    rule.counts(detection.class_id, detection.confidence)
                        && zone.as_ref().is_none_or(|zone| inside(zone, rule.anchor(detection, self.predictions)))
                };
                self.predictions.detections.iter().filter(counts).count()
            }
            // Of one label the top; of many, which list all, those that reached the model's threshold.
            Watch::Class { many } => {
                let said = self.predictions.classes.iter().take(if *many { usize::MAX } else { 1 });
                let counts = |class: &&ClassScore| class.predicted && rule.counts(class.class_id, class.score);
                said.filter(counts).count()
            }
            Watch::Line { .. } => 0,
        };
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    fn cross(
        &self,
        rule: &Rule,
        ends: [Point; 2],
        wanted: Option<Direction>,
        crossings: &mut Crossings,
        records: &mut Records<'_>,
    ) {
        let unit = rule.unit_px(self.predictions.image);
        let line = ends.map(|[x, y]| [x * unit[0], y * unit[1]]);
        for (detection, tracked) in self.predictions.detections.iter().zip(self.tracked) {
            let Some(tracked) = tracked else { continue };
            if !rule.counts(detection.class_id, detection.confidence) {
                continue;
            }
            let [width, height] = rule.size(detection, self.predictions);
            let near = Crossings::NEAR * width.min(height);
            let at = rule.anchor(detection, self.predictions);
            let Some(direction) = crossings.step(*tracked, at, line, near) else { continue };
            let now = self.moment.seconds;
            if wanted.is_none_or(|wanted| wanted == direction) && crossings.may_tell(now, rule.cooldown_s) {
                records.crossed(rule, tracked.id, detection.class_id, direction, self.moment.stamp);
            }
        }
    }
}

/// Writes down what begins and ends.
struct Records<'a> {
    frame: &'a Frame,
    names: &'a [Arc<str>],
    ids: &'a mut Ids,
    events: &'a mut Vec<Event>,
}

impl Records<'_> {
    fn change(&mut self, rule: &Rule, change: Change, count: u32) {
        let phase = if change.ended.is_some() { Phase::End } else { Phase::Start };
        self.events.push(Event {
            event_id: change.id,
            rule: Arc::clone(&rule.name),
            phase,
            source_id: self.frame.source_id,
            frame_id: self.frame.id,
            started: change.started,
            ended: change.ended,
            count,
            track_id: None,
            class: None,
            direction: None,
        });
    }

    fn crossed(&mut self, rule: &Rule, track: u64, class_id: u32, direction: Direction, stamp: Stamp) {
        let class = usize::try_from(class_id).ok().and_then(|class| self.names.get(class));
        self.events.push(Event {
            event_id: self.ids.next(),
            rule: Arc::clone(&rule.name),
            phase: Phase::Once,
            source_id: self.frame.source_id,
            frame_id: self.frame.id,
            started: stamp,
            ended: Some(stamp),
            count: 1,
            track_id: Some(track),
            class: class.cloned(),
            direction: Some(direction.as_str()),
        });
    }
}
