//! The sink against a real broker, with events that the test makes up.

use std::path::Path;
use std::time::{Duration, Instant};

use mqtt_protocol_core::mqtt::common::Cursor;
use mqtt_protocol_core::mqtt::{Connection, Version, role};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Device, Rule, start};
use crate::clock::Stamp;
use crate::config::{MqttConfig, MqttVersion, Secret};
use crate::frame::Frame;
use crate::model::Predictions;
use crate::random::Random;
use crate::rules::{Event, Phase};
use crate::sink::forward::Forward;
use crate::sink::spool::tests::labels;
use crate::sink::{Outcome, Sink};

#[path = "../../../tests/support/broker.rs"]
mod broker;

use broker::{Broker, Heard, distinct};

const RULE: &str = "Nut on the left";
const LINE: &str = "Crossed";

fn config(broker: &Broker, spool: Option<&Path>) -> MqttConfig {
    MqttConfig {
        url: format!("mqtt://127.0.0.1:{}", broker.port),
        device: Some("cam-1".into()),
        answers_per_s: 0.0,
        status_interval_s: 1.0,
        spool: spool.map(Into::into),
        spool_interval_s: 0.1,
        ..MqttConfig::default()
    }
}

fn open(config: &MqttConfig) -> Forward {
    let report = Box::new(|| Some(serde_json::json!({ "state": "running" })));
    let device = Device {
        name: "host",
        boot_id: "b00".into(),
        rules: vec![Rule::new(RULE, false), Rule::new(LINE, true)],
        report,
    };
    start(config, device, labels()).unwrap()
}

/// Delivers a frame with which event `n` begins or ends; what the sink says.
fn deliver(sink: &mut Forward, n: u64, phase: Phase) -> Result<(), String> {
    let now = Stamp::now();
    let event = Event {
        event_id: format!("b00-{n}").into(),
        rule: if phase == Phase::Once { LINE } else { RULE }.into(),
        phase,
        source_id: 0,
        frame_id: n,
        started: now,
        ended: (phase == Phase::End).then_some(now),
        count: 1,
        track_id: None,
        class: None,
        direction: None,
    };
    let (frame, predictions) = (Frame::empty(), Predictions::default());
    let outcome = Outcome { events: &[event], ..Outcome::new(&frame, "test:", Ok(&predictions), Duration::ZERO) };
    let before = Instant::now();
    let said = sink.deliver(&outcome).map_err(|error| error.to_string());
    assert!(before.elapsed() < Duration::from_secs(5), "the loop waits for the broker");
    said
}

fn events(heard: &[Heard]) -> Vec<u64> {
    distinct(heard).iter().map(|event| event["frame_id"].as_u64().unwrap()).collect()
}

/// Delivers nothing, and asks again until the sink says what fits.
fn wait_said(sink: &mut Forward, fits: impl Fn(Option<&str>) -> bool) {
    let (frame, predictions) = (Frame::empty(), Predictions::default());
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let said = sink.deliver(&Outcome::new(&frame, "test:", Ok(&predictions), Duration::ZERO));
        let said = said.err().map(|error| error.to_string());
        if fits(said.as_deref()) {
            return;
        }
        assert!(Instant::now() < deadline, "it says {said:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn events_arrive_in_order_and_the_device_appears_by_itself() {
    for version in [MqttVersion::V3, MqttVersion::V5] {
        let mut broker = Broker::new();
        broker.start();
        let listener = broker.listen();
        let mut sink = open(&MqttConfig { version, ..config(&broker, None) });
        listener.wait("firstlight/cam-1/availability", "online", |heard| heard.iter().any(|h| h.payload == "online"));
        for n in 0..200 {
            let _ = deliver(&mut sink, n, if n % 2 == 0 { Phase::Start } else { Phase::End });
        }
        let heard = listener.wait("firstlight/cam-1/event", "all", |heard| heard.len() >= 200);
        assert_eq!(events(&heard), (0..200).collect::<Vec<_>>());
        assert!(
            heard
                .iter()
                .all(|heard| !heard.retained && heard.json()["kind"] == "event" && heard.json()["rule"] == RULE)
        );
        assert_eq!(heard[1].json()["phase"], "end");

        let _ = deliver(&mut sink, 200, Phase::Start);
        let rule = "firstlight/cam-1/rule/nut_on_the_left";
        listener.wait(rule, "ON", |heard| heard.last().is_some_and(|heard| heard.payload == "ON"));
        let _ = deliver(&mut sink, 200, Phase::End);
        listener.wait(rule, "OFF", |heard| heard.last().is_some_and(|heard| heard.payload == "OFF"));
        let _ = deliver(&mut sink, 201, Phase::Once);
        let line = listener.wait("firstlight/cam-1/rule/crossed", "ON", |heard| {
            heard.last().is_some_and(|heard| heard.payload == "ON")
        });
        assert_eq!(line.len(), 2, "it was OFF");
        let status = listener.wait("firstlight/cam-1/status", "counted", |heard| {
            heard.last().is_some_and(|heard| heard.json()["records"]["delivered"] == 203)
        });
        let status = status.last().unwrap().json();
        assert_eq!(status["device"]["state"], "running");
        assert!(status["counts"]["total"].is_u64() && status["fps"].is_f64());

        let told = listener.on("/config");
        assert_eq!(told.len(), 4 + labels().class_names.len());
        for entity in told.iter().map(Heard::json) {
            assert_eq!(entity["availability_topic"], "firstlight/cam-1/availability");
            assert!(["unique_id", "state_topic", "name"].iter().all(|key| entity[key].is_string()), "{entity}");
        }
        // Home Assistant starts anew.
        std::thread::sleep(Duration::from_secs(5));
        broker.publish("homeassistant/status", "online");
        listener.wait("/config", "told again", |heard| heard.len() == 2 * told.len());
        drop(sink);
        listener.wait("/availability", "offline", |heard| heard.last().is_some_and(|heard| heard.payload == "offline"));
        // Retained: whoever comes later hears how things are.
        drop(listener);
        let late = broker.listen();
        let kept = late.wait("/status", "retained", |heard| !heard.is_empty());
        assert!(kept[0].retained);
    }
}

#[test]
fn a_broker_that_comes_late_leaves_and_freezes_misses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Broker::new();
    let mut sink = open(&config(&broker, Some(dir.path())));
    wait_said(&mut sink, |said| {
        said.is_some_and(|said| said.starts_with("mqtt: broker 127.0.0.1:") && said.contains("refused"))
    });
    broker.start();
    let listener = broker.listen();
    let mut next = 0;
    let mut some = |sink: &mut Forward| {
        for _ in 0..40 {
            let _ = deliver(sink, next, Phase::Start);
            next += 1;
        }
        next
    };
    let all = |count: u64| move |heard: &[Heard]| events(heard).len() as u64 == count;
    let count = some(&mut sink);
    listener.wait("/event", "the first", all(count));
    wait_said(&mut sink, |said| said.is_none());
    broker.stop();
    some(&mut sink);
    wait_said(&mut sink, |said| said.is_some());
    broker.start();
    let count = some(&mut sink);
    listener.wait("/event", "all after the broker was away", all(count));
    broker.signal(Signal::SIGSTOP);
    some(&mut sink);
    wait_said(&mut sink, |said| said.is_some_and(|said| said.contains("within 10 s")));
    broker.signal(Signal::SIGCONT);
    let count = some(&mut sink);
    let heard = listener.wait("/event", "all after the broker stood still", all(count));
    assert_eq!(events(&heard), (0..count).collect::<Vec<_>>());
    wait_said(&mut sink, |said| said.is_none());
    let gauge = sink.gauge().unwrap();
    use std::sync::atomic::Ordering::Relaxed;
    assert_eq!(
        (gauge.delivered.load(Relaxed), gauge.waiting.load(Relaxed), gauge.dropped.load(Relaxed)),
        (count, 0, 0)
    );
}

#[test]
fn a_wrong_password_is_said_in_words_and_a_right_one_opens() {
    let mut broker = Broker::with_user("cam", "secret");
    broker.start();
    let listener = broker.listen();
    let file = broker.file("password");
    for version in [MqttVersion::V3, MqttVersion::V5] {
        std::fs::write(&file, "wrong\n").unwrap();
        let plain = MqttConfig { version, username: Some("cam".into()), ..config(&broker, None) };
        let mut wrong = open(&MqttConfig { password: Some(Secret::from("nonsense".to_owned())), ..plain.clone() });
        wait_said(&mut wrong, |said| {
            said.is_some_and(|said| {
                said.contains("refuses the connection") && said.contains("mqtt.password") && !said.contains("nonsense")
            })
        });
        let mut from_file = open(&MqttConfig { password_file: Some(file.clone()), ..plain });
        wait_said(&mut from_file, |said| said.is_some_and(|said| said.contains("mqtt.password")));
        std::fs::write(&file, "secret\n").unwrap();
        wait_said(&mut from_file, |said| said.is_none());
        let before = listener.on("/event").len();
        let _ = deliver(&mut from_file, 1, Phase::Start);
        listener.wait("/event", "one more", |heard| heard.len() > before);
    }
}

#[test]
fn tls_takes_the_right_authority_and_brings_a_certificate() {
    let mut broker = Broker::with_tls();
    broker.start();
    let listener = broker.listen();
    let url = format!("mqtts://127.0.0.1:{}", broker.port);
    let plain = MqttConfig { url, ..config(&broker, None) };
    // The authorities of browsers do not know this one.
    let mut unknown = open(&plain);
    wait_said(&mut unknown, |said| said.is_some_and(|said| said.contains("no TLS") && said.contains("UnknownIssuer")));
    let known = MqttConfig { ca: Some(broker.file("ca.pem")), ..plain };
    let mut nobody = open(&known);
    wait_said(&mut nobody, |said| said.is_some());
    let (certificate, key) = (Some(broker.file("client.pem")), Some(broker.file("client.key")));
    let mut sink = open(&MqttConfig { version: MqttVersion::V5, certificate, key, ..known.clone() });
    for n in 0..50 {
        let _ = deliver(&mut sink, n, Phase::Start);
    }
    listener.wait("/event", "all", |heard| events(heard) == (0..50).collect::<Vec<_>>());
    let mut missing = open(&MqttConfig { ca: Some(broker.file("none.pem")), ..known });
    wait_said(&mut missing, |said| said.is_some_and(|said| said.contains("none.pem: no such file")));
}

#[test]
fn no_bytes_of_a_broker_make_it_panic() {
    for seed in 0..20_000 {
        let mut random = Random::new(seed);
        let version = if random.chance(0.5) { Version::V3_1_1 } else { Version::V5_0 };
        let mut mqtt = Connection::<role::Client>::new(version);
        let will = ("a/b".to_owned(), "offline");
        let login =
            super::packets::Login { client_id: "c".into(), username: None, password: None, keep_alive_s: 30, will };
        mqtt.send(super::packets::connect(version, &login).unwrap());
        let mut bytes = vec![0x20, 2, 0, 0];
        if version == Version::V5_0 {
            bytes = vec![0x20, 6, 0, 0, 3, 0x21, 0, 20];
        }
        for _ in 0..random.below(40) {
            bytes.push(u8::try_from(random.below(256)).unwrap());
        }
        for _ in 0..random.below(4) {
            let at = random.below(bytes.len());
            bytes[at] = u8::try_from(random.below(256)).unwrap();
        }
        let mut rest = Cursor::new(&bytes[..]);
        let mut before = u64::MAX;
        while rest.position() < bytes.len() as u64 && rest.position() != before {
            before = rest.position();
            for event in mqtt.recv(&mut rest) {
                if let mqtt_protocol_core::mqtt::connection::Event::NotifyPacketReceived(packet) = event {
                    let _ = super::packets::understand(&packet);
                }
            }
        }
    }
}

#[test]
fn a_status_is_json() {
    let live = super::live::Live::new(labels(), &[]);
    let text = live.status(&mut super::live::Rate::default(), &crate::sink::Gauge::default(), None);
    let status: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(status["counts"]["total"], 0);
}
