//! One connection to a broker: packets over a link, acknowledgements, and signs of life.
//!
//! May not know: what is published, or when to connect again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mqtt_protocol_core::mqtt::common::Cursor;
use mqtt_protocol_core::mqtt::connection::{ConnectionOptions, Event, TimerKind};
use mqtt_protocol_core::mqtt::packet::{GenericPacketTrait, Packet};
use mqtt_protocol_core::mqtt::result_code::MqttError;
use mqtt_protocol_core::mqtt::{Connection, Version, role};
use rustls::ClientConfig;

use super::link::Link;
use super::packets::{self, Fate, Heard, Login, Message, Terms, understand};
use crate::config::MqttAddress;

/// How long a broker may take to answer: as for the bytes themselves.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Publications that may wait for their acknowledgement: at a tenth of a second to and fro, 160 a second.
pub const WINDOW: usize = 16;
/// Largest packet taken: we hear acknowledgements and `online`.
const PACKET_BYTES_MAX: u32 = 16 * 1024;
/// Messages that were heard and not looked at; more are passed over.
const HEARD_MAX: usize = 64;

pub struct Wire {
    link: Link,
    mqtt: Connection<role::Client>,
    version: Version,
    pub terms: Terms,
    /// When to give a sign of life, and until when one must have come.
    ping_at: Option<Instant>,
    pong_by: Option<Instant>,
    out: Vec<u8>,
    heard: VecDeque<Heard>,
}

impl Wire {
    /// Connects and introduces itself.
    ///
    /// # Errors
    /// In words.
    pub fn connect(
        address: &MqttAddress,
        tls: Option<Arc<ClientConfig>>,
        version: Version,
        login: &Login,
    ) -> Result<Self, String> {
        let link = Link::connect(address, tls)?;
        let options = ConnectionOptions::new().maximum_packet_size_recv(PACKET_BYTES_MAX);
        let mut mqtt = Connection::with_options(version, options);
        mqtt.set_auto_pub_response(true);
        mqtt.set_pingresp_recv_timeout(u64::try_from(ANSWER_MAX.as_millis()).expect("ten thousand"));
        let terms = Terms { retains: true, acknowledges: true };
        let (out, heard) = (Vec::new(), VecDeque::new());
        let mut wire = Self { link, mqtt, version, terms, ping_at: None, pong_by: None, out, heard };
        let packet = packets::connect(version, login).map_err(|error| format!("no CONNECT can be made: {error}"))?;
        wire.send(packet)?.map_err(|error| format!("no CONNECT can be sent: {error}"))?;
        wire.flush()?;
        match wire.wait_for(|heard| matches!(heard, Heard::Accepted(_) | Heard::Rejected(_)))? {
            Heard::Accepted(terms) => wire.terms = terms,
            Heard::Rejected(why) => return Err(format!("it refuses the connection: {why}")),
            _ => unreachable!("only these were waited for"),
        }
        Ok(wire)
    }

    /// Publishes messages in order and waits until the broker has said of each what became of it. Those of which it has
    /// not, when the connection fails, have no fate.
    pub fn publish(&mut self, messages: &[Message]) -> (Vec<Option<Fate>>, Result<(), String>) {
        let mut fates = vec![None; messages.len()];
        let mut waiting = Vec::with_capacity(WINDOW);
        let mut next = 0;
        let mut deadline = Instant::now() + ANSWER_MAX;
        loop {
            while next < messages.len() && waiting.len() < WINDOW && self.has_room() {
                match self.publish_one(&messages[next]) {
                    Ok(Ok(id)) => waiting.push((id, next)),
                    Ok(Err(MqttError::PacketTooLarge)) => {
                        let bytes = messages[next].payload.len();
                        fates[next] = Some(Fate::Never(format!("{bytes} bytes are more than the broker takes")));
                    }
                    Ok(Err(error)) => return (fates, Err(format!("a message cannot be sent: {error}"))),
                    Err(why) => return (fates, Err(why)),
                }
                next += 1;
            }
            if waiting.is_empty() && next == messages.len() {
                break;
            }
            if let Err(why) = self.flush().and_then(|()| self.pump(deadline.saturating_duration_since(Instant::now())))
            {
                return (fates, Err(why));
            }
            let progress = self.settle(&mut waiting, &mut fates);
            if progress {
                deadline = Instant::now() + ANSWER_MAX;
            } else if Instant::now() >= deadline {
                return (fates, Err(format!("no acknowledgement within {} s", ANSWER_MAX.as_secs())));
            }
        }
        (fates, Ok(()))
    }

    /// Subscribes; what comes is heard by [`Wire::message`].
    ///
    /// # Errors
    /// In words.
    pub fn subscribe(&mut self, topic: &str) -> Result<(), String> {
        let id = self.mqtt.acquire_packet_id().map_err(|error| error.to_string())?;
        let packet = packets::subscribe(self.version, topic, id).map_err(|error| format!("{topic}: {error}"))?;
        self.send(packet)?.map_err(|error| format!("{topic}: {error}"))?;
        self.flush()
    }

    /// Looks at what has come, gives signs of life.
    ///
    /// # Errors
    /// The connection is lost, for this reason.
    pub fn look(&mut self) -> Result<(), String> {
        self.pump(Duration::ZERO)
    }

    /// The next message that was heard: topic and payload.
    pub fn message(&mut self) -> Option<(String, Vec<u8>)> {
        while let Some(heard) = self.heard.pop_front() {
            if let Heard::Message { topic, payload } = heard {
                return Some((topic, payload));
            }
        }
        None
    }

    /// Says goodbye: no will is published.
    pub fn close(mut self) {
        if let Ok(packet) = packets::disconnect(self.version) {
            // Whoever does not hear it will miss us all the same.
            let _ = self.send(packet).and_then(|_| self.flush());
        }
    }

    /// Whether the broker takes another publication now.
    fn has_room(&self) -> bool {
        self.mqtt.get_receive_maximum_vacancy_for_send().is_none_or(|vacancy| vacancy > 0)
    }

    fn publish_one(&mut self, message: &Message) -> Result<Result<u16, MqttError>, String> {
        let id = self.mqtt.acquire_packet_id().map_err(|error| error.to_string())?;
        let sent = match packets::publish(self.version, message, id) {
            Ok(packet) => self.send(packet)?,
            Err(error) => Err(error),
        };
        if sent.is_err() {
            let _ = self.mqtt.release_packet_id(id);
        }
        Ok(sent.map(|()| id))
    }

    /// Sorts the acknowledgements that were heard; whether there was one.
    fn settle(&mut self, waiting: &mut Vec<(u16, usize)>, fates: &mut [Option<Fate>]) -> bool {
        let before = waiting.len();
        self.heard.retain(|heard| {
            let Heard::Acknowledged(id, fate) = heard else { return true };
            if let Some(at) = waiting.iter().position(|(waits, _)| waits == id) {
                fates[waiting.remove(at).1] = Some(fate.clone());
            }
            false
        });
        waiting.len() < before
    }

    fn wait_for(&mut self, fits: impl Fn(&Heard) -> bool) -> Result<Heard, String> {
        let deadline = Instant::now() + ANSWER_MAX;
        loop {
            while let Some(heard) = self.heard.pop_front() {
                if fits(&heard) {
                    return Ok(heard);
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("no answer within {} s", ANSWER_MAX.as_secs()));
            }
            self.pump(left)?;
        }
    }

    fn send(&mut self, packet: Packet) -> Result<Result<(), MqttError>, String> {
        let events = self.mqtt.send(packet);
        self.act(events)
    }

    fn flush(&mut self) -> Result<(), String> {
        let sent = if self.out.is_empty() { Ok(()) } else { self.link.write(&self.out) };
        self.out.clear();
        sent
    }

    /// Reads what has come, waiting at most `wait` for it, and gives signs of life.
    fn pump(&mut self, wait: Duration) -> Result<(), String> {
        let now = Instant::now();
        if self.pong_by.is_some_and(|by| by <= now) {
            return Err(format!("no sign of life within {} s", ANSWER_MAX.as_secs()));
        }
        if self.ping_at.take_if(|at| *at <= now).is_some() {
            let events = self.mqtt.notify_timer_fired(TimerKind::PingreqSend);
            self.act(events)?.map_err(|error| error.to_string())?;
        }
        self.flush()?;
        let mut bytes = [0; 4096];
        let count = self.link.read(&mut bytes, wait)?;
        let mut rest = Cursor::new(&bytes[..count]);
        while usize::try_from(rest.position()).is_ok_and(|position| position < count) {
            let events = self.mqtt.recv(&mut rest);
            self.act(events)?.map_err(|error| format!("it does not speak MQTT as we do: {error}"))?;
        }
        self.flush()
    }

    /// Does what the protocol asks for. The inner error is of the packet that was to be sent, or of one that came.
    fn act(&mut self, events: Vec<Event>) -> Result<Result<(), MqttError>, String> {
        let mut outcome = Ok(());
        let mut close = false;
        for event in events {
            match event {
                Event::RequestSendPacket { packet, .. } => self.out.extend_from_slice(&packet.to_continuous_buffer()),
                Event::NotifyPacketReceived(packet) => match understand(&packet) {
                    Heard::Left(why) => return Err(format!("it has left: {why}")),
                    Heard::Other => {}
                    heard if self.heard.len() < HEARD_MAX || matches!(heard, Heard::Acknowledged(..)) => {
                        self.heard.push_back(heard);
                    }
                    _ => {}
                },
                Event::RequestTimerReset { kind, duration_ms } => {
                    let at = Instant::now().checked_add(Duration::from_millis(duration_ms));
                    *self.timer(kind) = at;
                }
                Event::RequestTimerCancel(kind) => *self.timer(kind) = None,
                Event::NotifyError(error) => outcome = Err(error),
                Event::RequestClose => close = true,
                Event::NotifyPacketIdReleased(_) => {}
            }
        }
        match (close, &outcome) {
            (true, Ok(())) => Err("the connection is over".into()),
            _ => Ok(outcome),
        }
    }

    fn timer(&mut self, kind: TimerKind) -> &mut Option<Instant> {
        match kind {
            TimerKind::PingreqSend => &mut self.ping_at,
            TimerKind::PingreqRecv | TimerKind::PingrespRecv => &mut self.pong_by,
        }
    }
}
