//! The peer of the outbox that is a broker: connects, tells what there is, publishes, and keeps the retained topics true.
//!
//! Our own outbox is the session: each connection begins anew with the oldest record that was not acknowledged.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mqtt_protocol_core::mqtt::Version;
use serde_json::Value;

use super::Rule;
use super::discovery::Catalogue;
use super::live::{Live, Rate, RuleState};
use super::packets::{Fate, Login, Message};
use super::topics::{Topics, objects};
use super::wire::{WINDOW, Wire};
use crate::config::{MqttAddress, MqttConfig, MqttVersion, seconds};
use crate::log;
use crate::sink::outbox::{Deliver, Delivered, Record, Refused};
use crate::sink::{Gauge, tls};

const ONLINE: &str = "online";
const OFFLINE: &str = "offline";
/// Least time between two answers to Home Assistant's own `online`.
const BIRTH_GAP: Duration = Duration::from_secs(5);

/// What is known of the device besides what a sink sees; a JSON object, or nothing yet.
pub type Report = Box<dyn Fn() -> Option<Value> + Send>;

pub struct Session {
    pub config: MqttConfig,
    pub address: MqttAddress,
    pub topics: Topics,
    pub rules: Vec<Rule>,
    pub classes: Vec<String>,
    pub live: Live,
    pub gauge: Arc<std::sync::OnceLock<Arc<Gauge>>>,
    pub report: Report,
    pub connected: Option<Connected>,
}

/// A connection, and what was told on it.
pub struct Connected {
    wire: Wire,
    rate: Rate,
    status_at: Instant,
    /// When it was last told what there is.
    told_at: Instant,
    /// As the rules' topics have it.
    rules: Option<Vec<RuleState>>,
    /// What the log has said last of messages that were refused.
    refusal: Option<String>,
}

impl Deliver for Session {
    fn batch_max(&self) -> usize {
        WINDOW
    }

    fn tend(&mut self) -> Result<(), Refused> {
        let mut connected = match self.connected.take() {
            Some(connected) => connected,
            None => self.connect().map_err(|why| self.refused(&why))?,
        };
        self.keep(&mut connected).map_err(|why| self.refused(&why))?;
        self.connected = Some(connected);
        Ok(())
    }

    fn deliver(&mut self, records: &[Record]) -> Result<Delivered, Refused> {
        let Some(connected) = &mut self.connected else { return Err(Refused::because("not connected")) };
        let known = records.iter().take_while(|record| record.kind().is_some());
        let messages: Vec<Message> = known.filter_map(|record| message(&self.topics, record)).collect();
        if messages.is_empty() {
            let refused = Some((1, "a record that no version of this program has written".to_owned()));
            return Ok(Delivered { delivered: 0, refused });
        }
        let (fates, published) = connected.wire.publish(&messages);
        if published.is_err() {
            self.connected = None;
        }
        let delivered = fates.iter().take_while(|fate| **fate == Some(Fate::Taken)).count();
        match fates.get(delivered).cloned().flatten() {
            Some(Fate::Never(why)) => Ok(Delivered { delivered, refused: Some((1, self.said(&why))) }),
            _ if delivered > 0 => Ok(Delivered { delivered, refused: None }),
            Some(Fate::Later(why)) => Err(self.refused(&format!("it refuses a message: {why}"))),
            _ => Err(self.refused(&published.err().unwrap_or_default())),
        }
    }

    fn close(&mut self) {
        if let Some(mut connected) = self.connected.take() {
            // Whoever does not hear it hears the last will.
            let _ = connected.wire.publish(&[retained(self.topics.availability(), OFFLINE)]);
            connected.wire.close();
        }
    }
}

impl Session {
    fn connect(&self) -> Result<Connected, String> {
        let config = &self.config;
        let tls = if self.address.tls {
            let identity = config.certificate.as_deref().zip(config.key.as_deref());
            Some(tls::client_config(config.ca.as_deref(), identity)?)
        } else {
            None
        };
        let version = match config.version {
            MqttVersion::V3 => Version::V3_1_1,
            MqttVersion::V5 => Version::V5_0,
        };
        let login = Login {
            client_id: config.client_id.clone().unwrap_or_else(|| format!("firstlight-{}", self.topics.device)),
            username: config.username.clone(),
            password: self.password()?,
            keep_alive_s: config.keep_alive_s,
            will: (self.topics.availability(), OFFLINE),
        };
        let mut wire = Wire::connect(&self.address, tls, version, &login)?;
        if !wire.terms.acknowledges {
            return Err("it does not acknowledge messages (QoS 1), so none could be called delivered".into());
        }
        if config.discovery {
            wire.subscribe(&Catalogue::birth(&config.discovery_prefix))?;
        }
        let now = Instant::now();
        let mut connected =
            Connected { wire, rate: Rate::default(), status_at: now, told_at: now, rules: None, refusal: None };
        self.tell(&mut connected)?;
        Ok(connected)
    }

    /// Says that we are there, and what there is.
    fn tell(&self, connected: &mut Connected) -> Result<(), String> {
        let mut messages = vec![retained(self.topics.availability(), ONLINE)];
        if self.config.discovery {
            let catalogue = Catalogue {
                prefix: &self.config.discovery_prefix,
                topics: &self.topics,
                rules: &self.rules,
                classes: &self.classes,
                version: env!("CARGO_PKG_VERSION"),
            };
            messages.extend(catalogue.messages());
        }
        self.publish(connected, messages)?;
        connected.told_at = Instant::now();
        connected.rules = None;
        Ok(())
    }

    /// Hears what has come, and tells what has changed.
    fn keep(&self, connected: &mut Connected) -> Result<(), String> {
        connected.wire.look()?;
        let mut born = false;
        while let Some((topic, payload)) = connected.wire.message() {
            born |= topic == Catalogue::birth(&self.config.discovery_prefix) && payload == ONLINE.as_bytes();
        }
        if born && connected.told_at.elapsed() >= BIRTH_GAP {
            self.tell(connected)?;
        }
        let mut messages = Vec::new();
        let states = self.live.rules();
        for (index, object) in objects(self.rules.iter().map(|rule| &*rule.name)).iter().enumerate() {
            let told = connected.rules.as_ref().map(|told| told[index]);
            if let Some((text, retain)) = change(self.rules[index].momentary, told, states[index]) {
                messages.push(Message { retain, ..retained(self.topics.rule(object), text) });
            }
        }
        connected.rules = Some(states);
        if Instant::now() >= connected.status_at {
            connected.status_at = Instant::now() + seconds(self.config.status_interval_s);
            let none = Gauge::default();
            let gauge = self.gauge.get().map_or(&none, |gauge| gauge);
            let payload = self.live.status(&mut connected.rate, gauge, (self.report)());
            messages.push(Message { topic: self.topics.status(), payload, retain: true });
        }
        self.publish(connected, messages)
    }

    /// Publishes what is no record; what the broker refuses of it is only logged.
    fn publish(&self, connected: &mut Connected, mut messages: Vec<Message>) -> Result<(), String> {
        for message in &mut messages {
            message.retain &= connected.wire.terms.retains;
        }
        let (fates, published) = connected.wire.publish(&messages);
        published?;
        for (fate, message) in fates.iter().zip(&messages) {
            let Some(Fate::Never(why) | Fate::Later(why)) = fate else { continue };
            let said = self.said(&format!("it refuses {}: {why}", message.topic));
            if connected.refusal.as_ref() != Some(&said) {
                log::say(&said);
                connected.refusal = Some(said);
            }
            break;
        }
        Ok(())
    }

    fn password(&self) -> Result<Option<String>, String> {
        let Some(path) = &self.config.password_file else {
            return Ok(self.config.password.as_ref().map(|password| password.reveal().to_owned()));
        };
        let text = String::from_utf8(tls::read(path)?).map_err(|_| format!("{}: is no UTF-8 text", path.display()))?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        Ok(Some(line.strip_suffix('\r').unwrap_or(line).to_owned()))
    }

    fn said(&self, why: &str) -> String {
        format!("broker {}:{}: {why}", self.address.host, self.address.port)
    }

    fn refused(&self, why: &str) -> Refused {
        Refused::because(self.said(why))
    }
}

fn message(topics: &Topics, record: &Record) -> Option<Message> {
    let topic = topics.record(record.kind()?);
    Some(Message { topic, payload: record.payload(&topics.device), retain: false })
}

/// What a rule's topic has to say when it was told one state and now has another; and whether the broker keeps it.
fn change(momentary: bool, told: Option<RuleState>, now: RuleState) -> Option<(&'static str, bool)> {
    match told {
        None => Some((if now.lasting > 0 { "ON" } else { "OFF" }, true)),
        Some(told) if momentary => (told.moments != now.moments).then_some(("ON", false)),
        Some(told) if (told.lasting > 0) == (now.lasting > 0) => None,
        Some(_) => Some((if now.lasting > 0 { "ON" } else { "OFF" }, true)),
    }
}

fn retained(topic: String, text: &str) -> Message {
    Message { topic, payload: text.into(), retain: true }
}
