//! Rules over scenes that are written down, and configurations that cannot be.

use std::time::Duration;

use super::*;
use crate::config::text;
use crate::frame::Size;
use crate::model::Shape;

#[derive(serde::Deserialize)]
struct Document {
    tracker: Option<TrackerConfig>,
    #[serde(default)]
    rules: Vec<RuleConfig>,
}

fn labels(task: Task) -> Arc<Labels> {
    Labels::new(task, ["bolt", "nut", "washer"].map(str::to_owned).to_vec())
}

fn open(document: &str, task: Task, cameras: &[Camera<'_>]) -> Result<Option<Rules>, String> {
    let document: Document = text::read(document)?;
    let rules = Rules::new(document.tracker.as_ref(), &document.rules, &labels(task), cameras, "boot");
    rules.map_err(|error| error.to_string())
}

const FILE: Camera<'static> = Camera { id: Some("dock"), live: false };
const LIVE: Camera<'static> = Camera { id: None, live: true };

fn rules(document: &str) -> Rules {
    open(document, Task::ObjectDetection, &[FILE, LIVE]).unwrap().unwrap()
}

/// Classes and centres of objects of 20 pixels in a picture of 100.
fn scene(objects: &[(u32, f64, f64)]) -> Predictions {
    let mut predictions = Predictions::default();
    predictions.clear(Size { width: 100, height: 100 });
    predictions.detections.extend(objects.iter().map(|&(class_id, x, y)| Detection {
        corners: [x - 10.0, y - 10.0, x + 10.0, y + 10.0],
        confidence: 0.8,
        class_id,
        shape: Shape::Box,
    }));
    predictions
}

fn frame(source_id: u32, id: u64, captured_at: Instant) -> Frame {
    let mut frame = Frame::empty();
    (frame.source_id, frame.id, frame.captured_at) = (source_id, id, captured_at);
    frame
}

/// Rule, phase, count and frame of every event over the frames of a file.
fn told(rules: &mut Rules, scenes: &[Predictions]) -> Vec<(String, Phase, u32, u64)> {
    let mut told = Vec::new();
    for (id, scene) in (0..).zip(scenes) {
        let observed = rules.judge(&frame(0, id, Instant::now()), scene);
        told.extend(observed.events.iter().map(|event| {
            assert_eq!((event.source_id, event.frame_id), (0, id));
            (event.rule.to_string(), event.phase, event.count, id)
        }));
    }
    told
}

#[test]
fn nothing_asked_for_is_nothing_made() {
    assert!(open("", Task::Classification, &[FILE]).unwrap().is_none());
}

#[test]
fn a_class_in_a_zone_begins_and_ends() {
    let mut rules = rules(
        "[[rules]]\nname = 'left'\nkind = 'zone'\nclasses = ['nut']\nhold_s = 0\nzone = [[0,0],[0.5,0],[0.5,1],[0,1]]\n\
         [[rules]]\nname = 'feet'\nkind = 'zone'\nhold_s = 0\nanchor = 'bottom-center'\nunits = 'pixels'\n\
         zone = [[0,55],[100,55],[100,100],[0,100]]",
    );
    let scenes = [
        scene(&[(0, 20.0, 20.0), (1, 80.0, 20.0)]),
        scene(&[(1, 30.0, 20.0), (1, 20.0, 30.0)]),
        scene(&[(1, 30.0, 50.0)]),
        scene(&[(1, 51.0, 50.0)]),
        scene(&[]),
    ];
    let expected = [
        ("left", Phase::Start, 2, 1),
        ("feet", Phase::Start, 1, 2),
        ("left", Phase::End, 0, 3),
        ("feet", Phase::End, 0, 4),
    ];
    assert_eq!(told(&mut rules, &scenes), expected.map(|(rule, phase, count, id)| (rule.into(), phase, count, id)));
}

#[test]
fn a_count_is_more_than_the_number_and_holds_by_the_time_of_the_file() {
    let mut rules =
        rules("[tracker]\nframe_rate = 10\n[[rules]]\nname = 'many'\nkind = 'count'\nabove = 1\nhold_s = 0.3");
    let (two, one) = (scene(&[(0, 20.0, 20.0), (1, 80.0, 20.0)]), scene(&[(0, 20.0, 20.0)]));
    let scenes: Vec<Predictions> =
        "2212222211121111".chars().map(|c| if c == '2' { two.clone() } else { one.clone() }).collect();
    let many = |phase, count, id| ("many".to_owned(), phase, count, id);
    assert_eq!(told(&mut rules, &scenes), [many(Phase::Start, 2, 6), many(Phase::End, 1, 15)]);
}

#[test]
fn a_line_tells_who_crossed_it_and_which_way() {
    let mut rules = rules(
        "[[rules]]\nname = 'both'\nkind = 'line'\nline = [[0.5, 0], [0.5, 1]]\n\
         [[rules]]\nname = 'out'\nkind = 'line'\ndirection = 'out'\nline = [[0.5, 0], [0.5, 1]]\n\
         [[rules]]\nname = 'nuts'\nkind = 'line'\nclasses = ['nut']\nline = [[0.5, 0], [0.5, 1]]",
    );
    let mut events = Vec::new();
    for id in 0..40_u32 {
        let along = 2.0 * f64::from(id);
        // A bolt goes right, a nut left.
        let scene = scene(&[(0, 10.0 + along, 20.0), (1, 90.0 - along, 80.0)]);
        let observed = rules.judge(&frame(0, u64::from(id), Instant::now()), &scene);
        assert_eq!(observed.tracks, [Some(1), Some(2)]);
        events.extend(observed.events.iter().cloned());
    }
    let told: Vec<_> = events
        .iter()
        .map(|event| (&*event.rule, event.class.as_deref(), event.track_id, event.direction, event.phase))
        .collect();
    let (bolt, nut) =
        ((Some("bolt"), Some(1), Some("in"), Phase::Once), (Some("nut"), Some(2), Some("out"), Phase::Once));
    let of = |rule, (class, track, direction, phase)| (rule, class, track, direction, phase);
    // On the line is not yet across it to the left: the nut is there first.
    assert_eq!(told, [of("both", nut), of("out", nut), of("nuts", nut), of("both", bolt)]);
    let mut ids: Vec<&str> = events.iter().map(|event| &*event.event_id).collect();
    ids.dedup();
    assert_eq!(ids.len(), 4);
    assert!(ids.iter().all(|id| id.starts_with("boot-")), "{ids:?}");
}

#[test]
fn of_a_source_that_was_lost_what_lasted_is_over_since_its_last_frame() {
    let mut rules = rules("[[rules]]\nname = 'any'\nkind = 'count'\nabove = 0\nhold_s = 0");
    let start = Instant::now().checked_sub(Duration::from_secs(100)).expect("the machine has been up for a while");
    let busy = scene(&[(0, 20.0, 20.0)]);
    let mut at = |id, seconds| {
        let frame = frame(1, id, start + Duration::from_secs_f64(seconds));
        rules.judge(&frame, &busy).events.to_vec()
    };
    let id = at(0, 0.0)[0].event_id.clone();
    assert!(at(1, 0.1).is_empty());
    // A slow loop that skips 600 frames has not lost anything.
    assert!(at(601, 20.1).is_empty());
    let after = at(602, 80.1);
    assert_eq!((after[0].phase, after[1].phase, after.len()), (Phase::End, Phase::Start, 2));
    assert!(after[0].event_id == id && after[1].event_id != id);
    let lasted = after[0].ended.unwrap().monotonic_s - after[0].started.monotonic_s;
    assert!((lasted - 20.1).abs() < 0.01, "{lasted}");
}

#[test]
fn a_rule_about_one_source_heeds_no_other() {
    let any = "[[rules]]\nname = 'any'\nkind = 'count'\nabove = 0\nhold_s = 0\n";
    for (source, heeded) in [("", [1, 1]), ("source = 1", [0, 1]), ("source = 'dock'", [1, 0])] {
        let mut rules = rules(&format!("{any}{source}"));
        let busy = scene(&[(0, 20.0, 20.0)]);
        let told = [0, 1].map(|source| rules.judge(&frame(source, 0, Instant::now()), &busy).events.len());
        assert_eq!(told, heeded, "{source}");
        assert!(rules.judge(&frame(7, 0, Instant::now()), &busy).events.is_empty());
    }
}

#[test]
fn a_classifier_has_its_own_kind() {
    let rule = "[[rules]]\nname = 'scrap'\nkind = 'class'\nclasses = ['nut']\nmin_confidence = 0.6\nhold_s = 0";
    let score = |class_id, score, predicted| ClassScore { class_id, score, predicted };
    for (task, scores, told) in [
        (Task::Classification, [score(1, 0.7, true), score(0, 0.3, true)], 1),
        (Task::Classification, [score(0, 0.6, true), score(1, 0.6, true)], 0),
        (Task::Classification, [score(1, 0.5, true), score(0, 0.3, true)], 0),
        (Task::MultiLabelClassification, [score(0, 0.9, true), score(1, 0.7, true)], 1),
        (Task::MultiLabelClassification, [score(0, 0.9, true), score(1, 0.7, false)], 0),
    ] {
        let mut rules = open(rule, task, &[FILE]).unwrap().unwrap();
        let mut predictions = scene(&[]);
        predictions.classes.extend(scores);
        assert_eq!(rules.judge(&frame(0, 0, Instant::now()), &predictions).events.len(), told, "{task:?} {scores:?}");
    }
}

#[test]
fn boxes_in_the_grid_of_their_masks_are_judged_in_the_picture() {
    let mut rules = rules(
        "[[rules]]\nname = 'right'\nkind = 'zone'\nhold_s = 0\nunits = 'pixels'\nzone = [[60,0],[100,0],[100,100],[60,100]]",
    );
    let mut small = scene(&[(0, 40.0, 25.0)]);
    small.mask_grid = Some(Size { width: 50, height: 50 });
    assert_eq!(rules.judge(&frame(0, 0, Instant::now()), &small).events.len(), 1);
}

#[test]
fn what_cannot_be_is_refused_with_what_could() {
    let object = Task::ObjectDetection;
    let zone = "zone = [[0,0],[1,0],[1,1]]";
    for (task, rule, words) in [
        (object, "kind = 'zone'", "rules.r: zone = nothing: expected a polygon"),
        (object, "kind = 'zone'\nzone = [[0,0],[1,1]]", "2 points: expected 3 to 64 points"),
        (object, "kind = 'zone'\nzone = [[0,0],[0.5,0.5],[1,1]]", "enclose an area"),
        (object, "kind = 'zone'\nzone = [[0,0],[1,0.9],[1,0],[0,1]]", "does not cross itself"),
        (object, "kind = 'zone'\nzone = [[0,0],[640,0],[640,480]]", "for pixels say units = \"pixels\""),
        (object, "kind = 'zone'\nzone = [[0,0],[nan,0],[1,1]]", "[NaN, 0.0]: expected shares of the picture"),
        (object, "kind = 'zone'\nunits = 'pixels'\nzone = [[0,0],[-1,0],[1,1]]", "pixels, 0 to 65535"),
        (object, "kind = 'line'", "line = nothing: expected two points"),
        (object, "kind = 'line'\nline = [[0.5,0.5],[0.5,0.5]]", "two points apart from each other"),
        (object, "kind = 'line'\nline = [[0.5,inf],[0.5,0.5]]", "shares of the picture"),
        (
            object,
            "kind = 'line'\nline = [[0,0],[1,1]]\nhold_s = 1",
            "hold_s = a value: expected none with kind = \"line\"",
        ),
        (object, "kind = 'line'\nline = [[0,0],[1,1]]\nabove = 1", "above"),
        (object, "kind = 'count'", "above = nothing: expected a number"),
        (object, "kind = 'count'\nabove = 1\ndirection = 'in'", "direction"),
        (
            object,
            "kind = 'count'\nabove = 1\nclasses = ['bot']",
            "`bot`: expected a class of the model; did you mean `bolt`?",
        ),
        (object, "kind = 'count'\nabove = 1\nclasses = ['zzz']", "a class of the model: bolt, nut, washer"),
        (object, "kind = 'count'\nabove = 1\nmin_confidence = 1.5", "min_confidence = 1.5: expected 0 to 1"),
        (object, "kind = 'count'\nabove = 1\nhold_s = nan", "hold_s = NaN: expected 0 to 3600 seconds"),
        (object, "kind = 'count'\nabove = 1\ncooldown_s = -1", "cooldown_s = -1: expected 0 to 86400 seconds"),
        (object, "kind = 'count'\nabove = 1\nsource = 2", "source = 2: expected 0 to 1"),
        (object, "kind = 'count'\nabove = 1\nsource = 'yard'", "source = `yard`: expected the id of a source: dock"),
        (object, "kind = 'count'\nabove = 1\nzoen = []", "unknown key `zoen`; did you mean `zone`?"),
        (object, "kind = 'crowd'", "unknown variant `crowd`"),
        (
            object,
            "kind = 'class'\nclasses = ['nut']",
            "kind = class: expected \"zone\", \"count\" or \"line\", because",
        ),
        (Task::Classification, "kind = 'class'", "classes = nothing: expected at least one class"),
        (Task::Classification, "kind = 'count'\nabove = 1", "expected \"class\", because the model's task is"),
        (Task::SemanticSegmentation, "kind = 'count'\nabove = 1", "expected no rule, because"),
    ] {
        let message = open(&format!("[[rules]]\nname = 'r'\n{rule}"), task, &[FILE, LIVE]).unwrap_err();
        assert!(message.contains(words), "{message}");
    }
    let twice = format!("[[rules]]\nname = 'a'\nkind = 'zone'\n{zone}\n").repeat(2);
    assert!(open(&twice, object, &[FILE]).unwrap_err().contains("`a` twice"));
    let many: String = (0..65).map(|n| format!("[[rules]]\nname = '{n}'\nkind = 'zone'\n{zone}\n")).collect();
    assert!(open(&many, object, &[FILE]).unwrap_err().contains("at most 64"));
    assert!(open("[tracker]", Task::Classification, &[FILE]).unwrap_err().contains("finds no objects"));
    assert!(open("[[rules]]\nname = ''\nkind = 'zone'", object, &[FILE]).unwrap_err().contains("1 to 64 bytes"));
}
