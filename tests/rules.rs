//! Tracks, rules and the targets of lines, through the binary, on a scene whose truth is known.

mod support;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::os::unix::net::UnixListener;

use firstlight::frame::Frame;
use firstlight::source::demo::{Conveyor, STEP_PX, Truth};
use serde_json::Value;
use support::{PATIENCE, firstlight, poll};

const SEED: u64 = 7;
const CLASSES: [&str; 3] = ["bolt", "nut", "washer"];

/// What is on the belt in each of the first frames.
fn truth(frames: usize) -> Vec<Vec<Truth>> {
    let (mut conveyor, mut frame) = (Conveyor::new(SEED), Frame::empty());
    let mut render = || {
        conveyor.render(&mut frame);
        conveyor.truth().iter().filter(|part| part.is_target()).copied().collect()
    };
    (0..frames).map(|_| render()).collect()
}

/// Where a part's middle is, pixels from the left.
fn middle(part: &Truth) -> f64 {
    f64::midpoint(part.left.into(), part.right.into())
}

/// Runs the first frames of the scene with a configuration and returns their lines.
fn run(config: &str, frames: usize, more: &[&str]) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("device.toml");
    std::fs::write(&file, config).unwrap();
    let (source, frames) = (format!("demo:?fps=0&seed={SEED}"), frames.to_string());
    let mut args =
        vec!["run", "-c", file.to_str().unwrap(), "--listen", "off", "--source", &source, "--frames", &frames];
    args.extend(more);
    let run = firstlight(&args).run();
    assert_eq!(run.exit, Some(0), "{}", run.stderr);
    run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn events(lines: &[Value]) -> Vec<&Value> {
    lines.iter().filter_map(|line| line["events"].as_array()).flatten().collect()
}

#[test]
fn every_part_that_crosses_the_line_is_counted_once_and_has_one_number() {
    let all = truth(600);
    // An end at which no part is about to cross, so that a box a pixel off changes no count.
    let is_clear = |frame: &Vec<Truth>| frame.iter().all(|part| (middle(part) - 320.0).abs() > 15.0);
    let frames = (400..600).find(|&frames| is_clear(&all[frames - 1])).expect("a moment when no part is near the line");
    let all = &all[..frames];
    let step = f64::from(STEP_PX);
    let crossings = all[1..].iter().flatten().filter(|part| (320.0..320.0 + step).contains(&middle(part)));
    let mut expected = BTreeMap::new();
    crossings.for_each(|part| *expected.entry(CLASSES[part.class_id]).or_insert(0) += 1);
    assert!(expected.values().sum::<u32>() > 15, "{expected:?}");

    let lines = run(
        "[[rules]]\nname = 'passed'\nkind = 'line'\nline = [[0.5, 0.0], [0.5, 1.0]]\n\
         [[rules]]\nname = 'back'\nkind = 'line'\nline = [[0.5, 0.0], [0.5, 1.0]]\ndirection = 'out'\n",
        frames,
        &[],
    );
    assert_eq!(lines.len(), frames);
    let (mut counted, mut tracks) = (BTreeMap::new(), HashSet::new());
    for event in events(&lines) {
        assert_eq!(
            (&event["rule"], &event["direction"], &event["phase"]),
            (&"passed".into(), &"in".into(), &"once".into())
        );
        assert!(tracks.insert(event["track_id"].as_u64().unwrap()), "counted twice: {event}");
        let class = CLASSES.iter().find(|class| event["class"] == **class).unwrap();
        *counted.entry(*class).or_insert(0) += 1;
    }
    assert_eq!(counted, expected);

    each_part_has_one_number(&lines, all);
}

/// Parts lie still on the belt, so that where one would have been in the first frame names it.
fn each_part_has_one_number(lines: &[Value], truth: &[Vec<Truth>]) {
    let mut numbers: HashMap<(usize, i32, u16, u16), HashSet<u64>> = HashMap::new();
    for (frame, (line, parts)) in (0..).zip(lines.iter().zip(truth)) {
        for part in parts.iter().filter(|part| part.left > 0 && part.right < 640) {
            let name = (part.class_id, i32::from(part.left) - STEP_PX * frame, part.top, part.bottom);
            let seen = line["predictions"].as_array().unwrap().iter().filter(|seen| is_at(seen, part));
            numbers.entry(name).or_default().extend(seen.filter_map(|seen| seen["tracker_id"].as_u64()));
        }
    }
    // One that only just comes in, or is only just there at the end, has no number yet.
    let numbered: Vec<&HashSet<u64>> = numbers.values().filter(|numbers| !numbers.is_empty()).collect();
    assert!(numbered.len() > 30 && numbered.len() + 3 >= numbers.len(), "{} of {}", numbered.len(), numbers.len());
    assert!(numbered.iter().all(|numbers| numbers.len() == 1), "{numbers:?}");
    let all: HashSet<u64> = numbered.iter().flat_map(|numbers| numbers.iter().copied()).collect();
    assert_eq!(all.len(), numbered.len(), "no two parts have the same");
}

/// Whether a prediction is of this part: within a few pixels, on every side.
fn is_at(seen: &Value, part: &Truth) -> bool {
    let number = |key: &str| seen[key].as_f64().unwrap();
    let sides = [
        (number("x") - number("width") / 2.0, part.left),
        (number("y") - number("height") / 2.0, part.top),
        (number("x") + number("width") / 2.0, part.right),
        (number("y") + number("height") / 2.0, part.bottom),
    ];
    sides.iter().all(|&(seen, side)| (seen - f64::from(side)).abs() < 8.0)
}

#[test]
fn a_zone_is_told_when_it_fills_and_when_it_empties() {
    let frames = 400;
    let config = "[[rules]]\nname = 'washer'\nkind = 'zone'\nclasses = ['washer']\nhold_s = 0.1\n\
                  zone = [[0.45, 0.0], [0.55, 0.0], [0.55, 1.0], [0.45, 1.0]]\n";
    let (lines, truth) = (run(config, frames, &[]), truth(frames));
    let events = events(&lines);
    assert!(events.len() >= 6, "{} events", events.len());
    let washers = |frame: usize, slack: f64| {
        let inside = |part: &&Truth| part.class_id == 2 && (middle(part) - 320.0).abs() < 32.0 + slack;
        truth[frame].iter().filter(inside).count()
    };
    for (at, pair) in events.chunks(2).enumerate() {
        let [start, rest @ ..] = pair else { unreachable!() };
        assert_eq!(start["phase"], "start", "{at}");
        let frame = |event: &Value| usize::try_from(event["frame_id"].as_u64().unwrap()).unwrap();
        assert!(washers(frame(start), 6.0) > 0, "{start}");
        let Some(end) = rest.first() else { continue };
        assert_eq!((&end["phase"], &end["event_id"]), (&"end".into(), &start["event_id"]));
        assert!(washers(frame(end), -6.0) == 0, "{end}");
        assert!(end["ended"]["monotonic_s"].as_f64() >= start["started"]["monotonic_s"].as_f64());
    }
    let ids: HashSet<&str> = events.iter().map(|event| event["event_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), events.len().div_ceil(2));
    // Another process has other ids for the same events.
    let again = run(config, 200, &[]);
    let again = self::events(&again);
    assert!(!again.is_empty() && again.iter().all(|event| !ids.contains(event["event_id"].as_str().unwrap())));
}

#[test]
fn nothing_is_tracked_unless_it_is_asked_for() {
    let plain = run("", 5, &[]);
    assert!(plain.iter().all(|line| line.get("events").is_none()));
    let tracked = |lines: &[Value]| {
        let predictions = lines.iter().flat_map(|line| line["predictions"].as_array().unwrap());
        predictions.filter(|seen| seen.get("tracker_id").is_some()).count()
    };
    assert_eq!(tracked(&plain), 0);
    assert!(tracked(&run("[tracker]\n", 5, &[])) > 10);
}

#[test]
fn a_rule_that_does_not_fit_the_model_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("device.toml");
    for (rule, words) in [
        (
            "kind = 'count'\nabove = 1\nclasses = ['blot']",
            "rules.r: classes = `blot`: expected a class of the model; did you mean `bolt`?",
        ),
        ("kind = 'class'\nclasses = ['bolt']", "because the model's task is object-detection"),
        ("kind = 'zone'\nzone = [[0,0],[1,1]]", "expected 3 to 64 points"),
        ("kind = 'zome'", "line 1"),
    ] {
        std::fs::write(&file, format!("[[rules]]\nname = 'r'\n{rule}\n")).unwrap();
        let run = firstlight(&["run", "-c", file.to_str().unwrap(), "--listen", "off", "--frames", "1"]).run();
        assert_eq!((run.exit, run.stderr.contains(words)), (Some(2), true), "{}", run.stderr);
    }
}

#[test]
fn lines_go_to_every_target_and_datagrams_have_roboflows_form() {
    let dir = tempfile::tempdir().unwrap();
    let (file, socket) = (dir.path().join("lines"), dir.path().join("socket"));
    let listener = UnixListener::bind(&socket).unwrap();
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let (unix, udp) = (format!("unix:{}", socket.display()), format!("udp:{}", receiver.local_addr().unwrap()));
    let targets = ["--json", "stdout", "--json", file.to_str().unwrap(), "--json", &unix, "--json", &udp];
    let reader = std::thread::spawn(move || {
        BufReader::new(listener.accept().unwrap().0).lines().collect::<Result<Vec<String>, _>>().unwrap()
    });
    let lines = run("[tracker]\n", 20, &targets);
    assert_eq!(lines.len(), 20);
    let frame_ids = |text: &str| -> Vec<u64> {
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|line| line["frame_id"].as_u64().unwrap()).collect()
    };
    let expected: Vec<u64> = (0..20).collect();
    assert_eq!(frame_ids(&std::fs::read_to_string(&file).unwrap()), expected);
    assert_eq!(frame_ids(&reader.join().unwrap().join("\n")), expected);

    let mut bytes = vec![0; 65_536];
    for line in &lines {
        let length = receiver.recv(&mut bytes).unwrap();
        let datagram: Value = serde_json::from_slice(&bytes[..length]).unwrap();
        assert_eq!((&datagram["image"], &datagram["predictions"]), (&line["image"], &line["predictions"]));
        let metadata = datagram["inference_metadata"].as_object().unwrap();
        assert_eq!(
            metadata.keys().collect::<Vec<_>>(),
            ["source_id", "frame_id", "frame_decoding_time", "emission_time"]
        );
        assert_eq!(metadata["frame_id"].as_u64().unwrap(), line["frame_id"].as_u64().unwrap() + 1);
        let time = |key: &str| metadata[key].as_str().unwrap().to_owned();
        assert!(time("frame_decoding_time") <= time("emission_time") && time("emission_time").len() == 26);
    }
}

#[test]
fn targets_that_are_absent_or_full_degrade_and_hold_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let absent = format!("unix:{}", dir.path().join("nobody").display());
    for (target, words) in [(absent.as_str(), "No such file"), ("/dev/full", "No space left")] {
        let mut running = firstlight(&["run", "--listen", "127.0.0.1:0", "--json", "stdout", "--json", target]).start();
        let address = running.address();
        let status =
            poll(&address, "/status", |status, body| status == 200 && String::from_utf8_lossy(body).contains(words));
        let status: Value = serde_json::from_slice(&status).unwrap();
        assert_eq!(status["state"], "degraded");
        assert!(status["reasons"][0].as_str().unwrap().starts_with(&format!("sink: {target}: ")), "{status}");
        for _ in 0..10 {
            running.stdout.recv_timeout(PATIENCE).unwrap();
        }
        running.signal(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(running.exit(), Some(0));
    }
    let run = firstlight(&["run", "--listen", "off", "--frames", "1", "--json", "tcp:1.2.3.4:5"]).run();
    assert_eq!((run.exit, run.stderr.contains("did you mean `udp:`?")), (Some(2), true), "{}", run.stderr);
}

/// On a file system of 96 kB that somebody makes room on later.
#[test]
fn a_disk_that_was_full_has_whole_lines_again() {
    let script = r#"
        set -e
        mount -t tmpfs -o size=96k none "$1"
        head -c 49152 /dev/zero >"$1/filler"
        "$2" run --listen off --json "$1/lines" >&2 &
        size() { stat -c %s "$1/lines" 2>/dev/null || echo 0; }
        for _ in $(seq 200); do
            before=$(size "$1"); sleep 0.5
            if [ "$before" = "$(size "$1")" ] && [ "$before" -gt 40000 ]; then break; fi
        done
        rm "$1/filler"
        for _ in $(seq 200); do [ "$(size "$1")" -gt 60000 ] && break; sleep 0.1; done
        kill -TERM $! && wait $!
        cat "$1/lines"
    "#;
    let dir = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new("unshare");
    command.args(["-rm", "sh", "-c", script, "sh"]).arg(dir.path()).arg(env!("CARGO_BIN_EXE_firstlight"));
    let output = command.env("FIRSTLIGHT_STATE_DIR", "off").output().expect("unshare is part of util-linux");
    let (lines, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && lines.len() > 60_000, "{:?}: {} bytes, {said}", output.status, lines.len());
    let whole = lines.rsplit_once('\n').expect("a line").0;
    let frames: Vec<u64> = whole
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a whole line")["frame_id"].as_u64().unwrap())
        .collect();
    assert!(frames.windows(2).all(|pair| pair[0] < pair[1]), "{frames:?}");
}
