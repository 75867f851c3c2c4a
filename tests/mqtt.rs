//! `firstlight run` and a real broker: absent, stopped, frozen, and the device killed in between.
//!
//! `FIRSTLIGHT_FULL=1` runs the whole counts; else a small sample of them, seeded.

#[path = "support/broker.rs"]
mod broker;
mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use broker::{Broker, Heard, Listener, distinct};
use firstlight::random::Random;
use nix::sys::signal::Signal;
use serde_json::Value;
use support::{Running, firstlight, get, poll};

/// Longer than the longest pause between two tries to connect, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn full() -> bool {
    std::env::var_os("FIRSTLIGHT_FULL").is_some()
}

/// A device whose rules see something all the time; `mqtt`: what its section says besides.
fn config(dir: &Path, broker: &Broker, mqtt: &str) -> String {
    let path = dir.join("device.toml");
    let rules = "[[rules]]\nname = \"Passing\"\nkind = \"line\"\nline = [[0.5, 0.0], [0.5, 1.0]]\n\
                 [[rules]]\nname = \"Left\"\nkind = \"zone\"\nzone = [[0.0, 0.0], [0.3, 0.0], [0.3, 1.0], [0.0, 1.0]]\nhold_s = 0.0\n";
    let port = broker.port;
    let text = format!(
        "[output]\njson = \"none\"\n[mqtt]\nurl = \"mqtt://127.0.0.1:{port}\"\ndevice = \"cam-1\"\nanswers_per_s = 1000.0\n\
         status_interval_s = 1.0\nspool_interval_s = 0.1\n{mqtt}\n{rules}"
    );
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn run(config: &str) -> Running {
    firstlight(&["run", "--source", "demo:?fps=20", "--listen", "127.0.0.1:0", "-c", config]).start()
}

fn json(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

/// What the status says of the sink.
fn sink(status: &Value) -> Value {
    let sinks = status["sinks"].as_array().cloned().unwrap_or_default();
    sinks.into_iter().find(|sink| sink["name"] == "mqtt").unwrap_or(Value::Null)
}

/// Waits until the figures of the sink fit.
fn wait_sink(address: &str, fits: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let sink = sink(&json(&get(address, "/status").1));
        if fits(&sink) {
            return sink;
        }
        assert!(Instant::now() < deadline, "the sink stays {sink}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn problem(sink: &Value, words: &str) -> bool {
    sink["problem"].as_str().is_some_and(|problem| problem.contains(words))
}

/// Events and answers, in the order in which they were heard.
fn records(listener: &Listener) -> Vec<Heard> {
    let heard = listener.heard().into_iter();
    heard.filter(|heard| heard.topic.ends_with("/event") || heard.topic.ends_with("/answer")).collect()
}

/// What the cursor and the segments of a spool say: the last number that was acknowledged, and the last there is.
fn numbers(spool: &Path) -> (u64, u64) {
    let cursor = std::fs::read_to_string(spool.join("cursor.json")).unwrap();
    let acknowledged = json(cursor.as_bytes())["acknowledged"].as_u64().unwrap();
    let last = firstlight::sink::spool::reader::segments(spool).unwrap().filter_map(|segment| segment.contents.ok());
    (acknowledged, last.map(|contents| contents.last).max().unwrap_or(0))
}

#[test]
fn no_committed_record_is_lost_or_out_of_order_when_broker_and_device_end() {
    for (version, seed) in [("3.1.1", 1), ("5", 2)] {
        let dir = tempfile::tempdir().unwrap();
        let spool = dir.path().join("spool");
        let mut broker = Broker::new();
        broker.start();
        let listener = broker.listen();
        let config = config(dir.path(), &broker, &format!("version = {version:?}\nspool = {spool:?}"));
        let mut random = Random::new(seed);
        let mut up = true;
        for _ in 0..if full() { 40 } else { 4 } {
            let mut running = run(&config);
            let address = running.address();
            wait_sink(&address, |sink| {
                sink["delivered"].as_u64().is_some_and(|n| n > 0) || sink["waiting"].as_u64().is_some_and(|n| n > 10)
            });
            for _ in 0..random.below(3) {
                std::thread::sleep(Duration::from_millis(random.bits() % 700));
                if up {
                    broker.stop()
                } else {
                    broker.start()
                }
                up = !up;
            }
            std::thread::sleep(Duration::from_millis(random.bits() % 700));
            running.signal(Signal::SIGKILL);
            assert_eq!(running.exit(), None, "killed");
        }
        if !up {
            broker.start();
        }
        let (_, committed) = numbers(&spool);
        let mut running = run(&config);
        wait_sink(&running.address(), |sink| {
            sink["delivered"].as_u64().is_some_and(|n| n > 0) && sink["waiting"].as_u64().is_some_and(|n| n < 20)
        });
        running.signal(Signal::SIGTERM);
        assert_eq!(running.exit(), Some(0));
        let (acknowledged, _) = numbers(&spool);
        assert!(
            acknowledged >= committed,
            "{committed} were committed before the end; {acknowledged} are acknowledged"
        );
        listener.wait("", "the last one", |_| distinct(&records(&listener)).len() as u64 >= acknowledged);
        let heard = records(&listener);
        let distinct = distinct(&heard);
        let numbers: Vec<u64> = distinct.iter().map(|record| record["number"].as_u64().unwrap()).collect();
        let last = *numbers.last().unwrap();
        assert_eq!(numbers, (1..=last).collect::<Vec<_>>(), "of one stream, without a gap");
        assert!(distinct.iter().any(|record| record["kind"] == "event" && record["rule"] == "Left"));
        assert!(distinct.iter().any(|record| record["kind"] == "answer" && record["predictions"].is_array()));
    }
}

#[test]
fn a_killed_device_is_offline_and_home_assistant_knows_its_entities() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Broker::new();
    let running = run(&config(dir.path(), &broker, "version = \"5\""));
    let address = running.address();
    wait_sink(&address, |sink| problem(sink, "refused"));
    let status = json(&get(&address, "/status").1);
    assert_eq!(status["state"], "degraded", "{status}");
    broker.start();
    let listener = broker.listen();
    wait_sink(&address, |sink| sink["delivered"].as_u64().is_some_and(|n| n > 0) && sink["problem"].is_null());
    let told = listener.wait("/config", "told", |heard| heard.len() >= 7);
    let names: Vec<&str> = told.iter().map(|heard| heard.topic.as_str()).collect();
    for name in
        ["sensor/firstlight-cam-1/fps", "sensor/firstlight-cam-1/count", "binary_sensor/firstlight-cam-1/rule_left"]
    {
        assert!(names.contains(&&*format!("homeassistant/{name}/config")), "{names:?}");
    }
    for entity in told.iter().map(Heard::json) {
        let whole =
            ["name", "unique_id", "state_topic", "availability_topic"].iter().all(|key| entity[key].is_string());
        assert!(whole && entity["device"]["identifiers"].is_array(), "{entity}");
    }
    let status = listener.wait("cam-1/status", "frames", |heard| {
        heard.last().is_some_and(|heard| heard.json()["fps"].as_f64() > Some(0.0))
    });
    assert_eq!(status.last().unwrap().json()["device"]["model"]["task"], "object-detection");
    let crossed = |heard: &Heard| heard.json()["rule"] == "Passing" && heard.json()["phase"] == "once";
    listener.wait("/event", "a crossing", |heard| heard.iter().any(crossed));
    listener.wait("/rule/passing", "ON", |heard| heard.iter().any(|heard| heard.payload == "ON"));
    listener.wait("/rule/left", "ON", |heard| heard.iter().any(|heard| heard.payload == "ON"));
    let availability =
        |word: &'static str| move |heard: &[Heard]| heard.last().is_some_and(|heard| heard.payload == word);
    listener.wait("/availability", "online", availability("online"));
    running.signal(Signal::SIGKILL);
    listener.wait("/availability", "offline", availability("offline"));
}

#[test]
fn a_frozen_broker_stops_no_frame_and_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Broker::new();
    broker.start();
    let listener = broker.listen();
    let running = run(&config(dir.path(), &broker, ""));
    let address = running.address();
    wait_sink(&address, |sink| sink["delivered"].as_u64().is_some_and(|n| n > 0));
    broker.signal(Signal::SIGSTOP);
    wait_sink(&address, |sink| problem(sink, "within 10 s"));
    let frames = |status: &Value| status["loop"]["frames"].as_u64().unwrap();
    let before = frames(&json(&get(&address, "/status").1));
    poll(&address, "/status", |_, body| frames(&json(body)) > before + 20);
    assert_eq!(get(&address, "/healthz").0, 200);
    broker.signal(Signal::SIGCONT);
    let after =
        wait_sink(&address, |sink| sink["problem"].is_null() && sink["waiting"].as_u64().is_some_and(|n| n < 20));
    let delivered = usize::try_from(after["delivered"].as_u64().unwrap()).unwrap();
    listener.wait("", "all", |_| distinct(&records(&listener)).len() >= delivered);
    // In memory, and less than it holds: nothing is missing.
    let heard = records(&listener);
    let numbers: Vec<u64> = distinct(&heard).iter().map(|record| record["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
}

#[test]
fn a_wrong_password_is_said_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Broker::with_user("cam", "secret");
    broker.start();
    let file = dir.path().join("password");
    std::fs::write(&file, "hunter2\n").unwrap();
    let config = config(dir.path(), &broker, &format!("username = \"cam\"\npassword_file = {file:?}"));
    let mut running = run(&config);
    let address = running.address();
    wait_sink(&address, |sink| problem(sink, "refuses the connection") && problem(sink, "mqtt.password"));
    let shown = String::from_utf8(get(&address, "/status").1).unwrap();
    std::fs::write(&file, "secret\n").unwrap();
    wait_sink(&address, |sink| sink["problem"].is_null() && sink["delivered"].as_u64().is_some_and(|n| n > 0));
    running.signal(Signal::SIGTERM);
    assert_eq!(running.exit(), Some(0));
    let log: Vec<String> = running.stderr.try_iter().collect();
    assert!(!shown.contains("hunter2") && !log.concat().contains("hunter2"), "{shown} {log:?}");
}

#[test]
fn a_mistake_in_the_section_is_said_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("device.toml");
    for (text, words) in [
        ("[mqtt]\nurl = \"mqtt://a\"\nqos = 2\n", "line 3: unknown key `qos`"),
        ("[mqtt]\nurl = \"mqtt://a\"\nversion = \"3\"\n", "3.1.1"),
        ("[mqtt]\nurl = \"http://a\"\n", "mqtt.url = http://a: expected mqtt://HOST:PORT"),
        ("[[webhook]]\nurl = \"http://a/\"\nbatch = 0\n", "webhook.batch = 0: expected 1 to 100"),
    ] {
        std::fs::write(&path, text).unwrap();
        let run = firstlight(&["run", "-c", path.to_str().unwrap()]).run();
        assert_eq!(run.exit, Some(2), "{}", run.stderr);
        assert!(run.stderr.contains(words), "{}", run.stderr);
    }
}

#[test]
fn the_disk_is_bounded_and_the_oldest_give_way() {
    if !full() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    let mut broker = Broker::new();
    let running = run(&config(dir.path(), &broker, &format!("spool = {spool:?}\nspool_mb = 1")));
    let address = running.address();
    let deadline = Instant::now() + Duration::from_secs(300);
    while sink(&json(&get(&address, "/status").1))["dropped"].as_u64().unwrap_or(0) < 200 {
        assert!(Instant::now() < deadline, "nothing gives way");
        std::thread::sleep(Duration::from_millis(100));
        let sizes = std::fs::read_dir(&spool).into_iter().flatten().filter_map(|entry| entry.ok()?.metadata().ok());
        // One that is being written comes on top.
        assert!(sizes.map(|found| found.len()).sum::<u64>() <= 1_300_000);
    }
    broker.start();
    let listener = broker.listen();
    wait_sink(&address, |sink| sink["problem"].is_null() && sink["waiting"].as_u64().is_some_and(|n| n < 20));
    let distinct = distinct(&records(&listener));
    assert!(distinct[0]["number"].as_u64().unwrap() > 100, "the oldest have given way");
}
