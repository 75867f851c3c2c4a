//! A rule of the configuration, judged against the model and the sources, and made ready to be applied.

use std::sync::Arc;

use super::geometry::{Point, crosses_itself, double_area};
use super::{Camera, Error};
use crate::config::{Anchor, Direction, HOLD_DEFAULT_S, RuleConfig, RuleKind, SourceName, Units};
use crate::error::nearest;
use crate::frame::Size;
use crate::model::{Detection, Labels, Predictions, Task};

/// Rules of one configuration: what a person still keeps apart.
pub const RULES_MAX: usize = 64;
/// Corners of a zone: more than the outline of anything that is drawn by hand.
const CORNERS_MAX: usize = 64;
/// Longest name of a rule, bytes: it is in every event and may be part of a topic.
const NAME_BYTES_MAX: usize = 64;
/// Smallest area of a zone and length of a line, by units: nothing that anybody could have meant.
const AREA_MIN: [f64; 2] = [1e-6, 1.0];
const LENGTH_MIN: [f64; 2] = [1e-3, 1.0];
/// Pixels of the largest picture.
const PIXELS_MAX: f64 = 65_535.0;

/// A rule that can be applied.
#[derive(Debug)]
pub struct Rule {
    pub name: Arc<str>,
    /// The only source it is about.
    pub source: Option<u32>,
    pub watch: Watch,
    /// Seconds.
    pub hold_s: f64,
    pub cooldown_s: f64,
    /// By class id, whether it counts.
    classes: Vec<bool>,
    min_confidence: f32,
    anchor: Anchor,
    units: Units,
}

/// What it looks for.
#[derive(Debug)]
pub enum Watch {
    /// More than so many objects, in the zone if there is one.
    Presence {
        zone: Option<Vec<Point>>,
        above: u32,
    },
    Line {
        ends: [Point; 2],
        direction: Option<Direction>,
    },
    /// A class of one label, the top; or any of many.
    Class {
        many: bool,
    },
}

impl Rule {
    /// # Errors
    /// A value does not fit the rule's kind, the model or the sources.
    pub fn new(config: &RuleConfig, labels: &Labels, cameras: &[Camera<'_>]) -> Result<Self, Error> {
        let fail = |key: &str, found: String, expected: String| {
            Err(Error { key: format!("rules.{}: {key}", config.name), found, expected })
        };
        if config.name.is_empty() || config.name.len() > NAME_BYTES_MAX || config.name.chars().any(char::is_control) {
            return fail("name", format!("{:?}", config.name), format!("1 to {NAME_BYTES_MAX} bytes of text"));
        }
        if let Some((expected, task)) = misfit(config.kind, labels.task) {
            return fail(
                "kind",
                config.kind.as_str().into(),
                format!("{expected}, because the model's task is {task}"),
            );
        }
        if let Some(key) = strange_key(config) {
            return fail(key, "a value".into(), format!("none with kind = \"{}\"", config.kind.as_str()));
        }
        for (key, seconds, max) in
            [("hold_s", config.hold_s.unwrap_or_default(), 3600.0), ("cooldown_s", config.cooldown_s, 86_400.0)]
        {
            if !(0.0..=max).contains(&seconds) {
                return fail(key, seconds.to_string(), format!("0 to {max} seconds"));
            }
        }
        if !(0.0..=1.0).contains(&config.min_confidence) {
            return fail("min_confidence", config.min_confidence.to_string(), "0 to 1".into());
        }
        let classes = match wanted(&config.classes, &labels.class_names) {
            Ok(classes) => classes,
            Err((found, expected)) => return fail("classes", found, expected),
        };
        let source = match config.source.as_ref().map(|source| number(source, cameras)).transpose() {
            Ok(source) => source,
            Err((found, expected)) => return fail("source", found, expected),
        };
        let watch = match watch(config, labels.task) {
            Ok(watch) => watch,
            Err((key, found, expected)) => return fail(key, found, expected),
        };
        #[expect(clippy::cast_possible_truncation, reason = "0 to 1; the network's confidences are of this width")]
        let min_confidence = config.min_confidence as f32;
        Ok(Self {
            name: config.name.as_str().into(),
            source,
            watch,
            hold_s: config.hold_s.unwrap_or(HOLD_DEFAULT_S),
            cooldown_s: config.cooldown_s,
            classes,
            min_confidence,
            anchor: config.anchor,
            units: config.units,
        })
    }

    /// Whether a detection or a score is one that the rule is about.
    pub fn counts(&self, class_id: u32, confidence: f32) -> bool {
        self.classes.get(class_id as usize).copied().unwrap_or(false) && confidence >= self.min_confidence
    }

    /// The point of an object that counts, pixels of the image.
    pub fn anchor(&self, detection: &Detection, predictions: &Predictions) -> Point {
        let [left, top, right, bottom] = detection.corners;
        let (x, y) = (f64::midpoint(left, right), f64::midpoint(top, bottom));
        let point = match self.anchor {
            Anchor::Center => [x, y],
            Anchor::BottomCenter => [x, bottom],
            Anchor::TopCenter => [x, top],
            Anchor::LeftCenter => [left, y],
            Anchor::RightCenter => [right, y],
            Anchor::TopLeft => [left, top],
            Anchor::TopRight => [right, top],
            Anchor::BottomLeft => [left, bottom],
            Anchor::BottomRight => [right, bottom],
        };
        let [width, height] = grid_scale(predictions);
        [point[0] * width, point[1] * height]
    }

    /// Width and height of an object, pixels of the image.
    pub fn size(&self, detection: &Detection, predictions: &Predictions) -> Point {
        let ([left, top, right, bottom], [width, height]) = (detection.corners, grid_scale(predictions));
        [(right - left) * width, (bottom - top) * height]
    }

    /// Pixels of the image that its units are worth.
    pub fn unit_px(&self, image: Size) -> Point {
        match self.units {
            Units::Relative => [image.width as f64, image.height as f64],
            Units::Pixels => [1.0, 1.0],
        }
    }
}

/// Pixels of the image that a unit of boxes is worth: more than one where masks were asked for in a smaller grid.
fn grid_scale(predictions: &Predictions) -> Point {
    let Some(grid) = predictions.mask_grid else { return [1.0, 1.0] };
    let share = |image: usize, grid: usize| image as f64 / grid.max(1) as f64;
    [share(predictions.image.width, grid.width), share(predictions.image.height, grid.height)]
}

/// What is expected instead of a kind that the model's answers say nothing about.
fn misfit(kind: RuleKind, task: Task) -> Option<(&'static str, &'static str)> {
    let fits = match task {
        Task::ObjectDetection | Task::InstanceSegmentation | Task::KeypointDetection => kind != RuleKind::Class,
        Task::Classification | Task::MultiLabelClassification => kind == RuleKind::Class,
        Task::SemanticSegmentation | Task::Raw => false,
    };
    let expected = match task {
        Task::SemanticSegmentation | Task::Raw => "no rule",
        Task::Classification | Task::MultiLabelClassification => "\"class\"",
        _ => "\"zone\", \"count\" or \"line\"",
    };
    (!fits).then(|| (expected, task.as_str()))
}

/// A key that is given and means nothing to the rule's kind.
fn strange_key(config: &RuleConfig) -> Option<&'static str> {
    use RuleKind::{Count, Line, Zone};
    let uses: [(&str, bool, &[RuleKind]); 7] = [
        ("zone", config.zone.is_some(), &[Zone, Count]),
        ("above", config.above.is_some(), &[Count]),
        ("line", config.line.is_some(), &[Line]),
        ("direction", config.direction.is_some(), &[Line]),
        // A crossing is over in a moment.
        ("hold_s", config.hold_s.is_some(), &[Zone, Count, RuleKind::Class]),
        ("anchor", config.anchor != Anchor::default(), &[Zone, Count, Line]),
        ("units", config.units != Units::default(), &[Zone, Count, Line]),
    ];
    uses.iter().find(|(_, given, kinds)| *given && !kinds.contains(&config.kind)).map(|(key, ..)| *key)
}

/// By class id, whether it is named; all of them when none is.
fn wanted(named: &[String], of_model: &[String]) -> Result<Vec<bool>, (String, String)> {
    let known = || of_model.iter().map(String::as_str);
    for name in named {
        if !of_model.contains(name) {
            let expected = match nearest(name, known(), 1).first() {
                Some(near) => format!("a class of the model; did you mean `{near}`?"),
                None => format!("a class of the model: {}", listed(known())),
            };
            return Err((format!("`{name}`"), expected));
        }
    }
    Ok(of_model.iter().map(|class| named.is_empty() || named.contains(class)).collect())
}

/// The number of a source.
fn number(source: &SourceName, cameras: &[Camera<'_>]) -> Result<u32, (String, String)> {
    let ids = || cameras.iter().filter_map(|camera| camera.id);
    let place = match source {
        SourceName::Number(number) => usize::try_from(*number).ok().filter(|place| *place < cameras.len()),
        SourceName::Id(id) => cameras.iter().position(|camera| camera.id == Some(id)),
    };
    place.and_then(|place| u32::try_from(place).ok()).ok_or_else(|| match source {
        SourceName::Number(number) => (number.to_string(), format!("0 to {}", cameras.len().saturating_sub(1))),
        SourceName::Id(id) => {
            let known = if ids().next().is_none() { "none has one".into() } else { listed(ids()) };
            (format!("`{id}`"), format!("the id of a source: {known}"))
        }
    })
}

/// The first of many words, or all of a few.
fn listed<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let mut words: Vec<&str> = words.take(11).collect();
    if words.len() > 10 {
        words[10] = "…";
    }
    words.join(", ")
}

/// Key, found, expected.
type Fault = (&'static str, String, String);

fn watch(config: &RuleConfig, task: Task) -> Result<Watch, Fault> {
    let missing = |key, expected: &str| (key, "nothing".to_owned(), expected.to_owned());
    let zone = config.zone.as_ref().map(|corners| zone(corners, config.units)).transpose()?;
    match config.kind {
        RuleKind::Zone if zone.is_none() => Err(missing("zone", "a polygon such as [[0, 0], [0.5, 0], [0.5, 1]]")),
        RuleKind::Zone => Ok(Watch::Presence { zone, above: 0 }),
        RuleKind::Count => {
            let above = config.above.ok_or_else(|| missing("above", "a number of objects"))?;
            Ok(Watch::Presence { zone, above })
        }
        RuleKind::Line => {
            let ends = config.line.ok_or_else(|| missing("line", "two points such as [[0.5, 0], [0.5, 1]]"))?;
            in_picture("line", &ends, config.units)?;
            let [a, b] = ends;
            if f64::hypot(b[0] - a[0], b[1] - a[1]) < LENGTH_MIN[config.units as usize] {
                return Err(("line", format!("{ends:?}"), "two points apart from each other".into()));
            }
            Ok(Watch::Line { ends, direction: config.direction })
        }
        RuleKind::Class if config.classes.is_empty() => Err(missing("classes", "at least one class of the model")),
        RuleKind::Class => Ok(Watch::Class { many: task == Task::MultiLabelClassification }),
    }
}

fn zone(corners: &[Point], units: Units) -> Result<Vec<Point>, Fault> {
    let fault = |expected: String| Err(("zone", format!("{corners:?}"), expected));
    if !(3..=CORNERS_MAX).contains(&corners.len()) {
        return Err(("zone", format!("{} points", corners.len()), format!("3 to {CORNERS_MAX} points")));
    }
    in_picture("zone", corners, units)?;
    if double_area(corners) < 2.0 * AREA_MIN[units as usize] {
        return fault("points that enclose an area".into());
    }
    if crosses_itself(corners) {
        return fault("points in their order round the zone, so that its outline does not cross itself".into());
    }
    Ok(corners.to_vec())
}

fn in_picture(key: &'static str, points: &[Point], units: Units) -> Result<(), Fault> {
    let max = match units {
        Units::Relative => 1.0,
        Units::Pixels => PIXELS_MAX,
    };
    // NaN is in no range.
    let Some(outside) = points.iter().find(|point| !point.iter().all(|value| (0.0..=max).contains(value))) else {
        return Ok(());
    };
    let hint = match units {
        Units::Relative => "shares of the picture, 0 to 1; for pixels say units = \"pixels\"".into(),
        Units::Pixels => format!("pixels, 0 to {PIXELS_MAX}"),
    };
    Err((key, format!("{outside:?}"), hint))
}
