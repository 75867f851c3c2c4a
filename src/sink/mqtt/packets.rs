//! The packets of MQTT 3.1.1 and 5 that a publisher sends and hears, so that nobody else needs to tell the two apart.
//!
//! May not know: sockets, or what is published.

use mqtt_protocol_core::mqtt::Version;
use mqtt_protocol_core::mqtt::packet::{Packet, Property, Qos, SessionExpiryInterval, SubEntry, SubOpts, v3_1_1, v5_0};
use mqtt_protocol_core::mqtt::result_code::{ConnectReturnCode, MqttError};

use super::words::{permanent, words};

/// Who connects, and what the broker says when that ends without a goodbye.
#[derive(Debug)]
pub struct Login {
    pub client_id: String,
    pub username: Option<String>,
    pub password: Option<String>,
    pub keep_alive_s: u16,
    /// Topic and text of the last will, retained.
    pub will: (String, &'static str),
}

/// One publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub retain: bool,
}

/// What a broker has said.
#[derive(Debug)]
pub enum Heard {
    /// The connection stands.
    Accepted(Terms),
    /// It will not.
    Rejected(String),
    /// Of a publication: what became of it.
    Acknowledged(u16, Fate),
    /// Something that was subscribed to.
    Message { topic: String, payload: Vec<u8> },
    /// The broker ends the connection.
    Left(String),
    /// Nothing that matters here.
    Other,
}

/// What became of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The broker has it.
    Taken,
    /// It never will.
    Never(String),
    /// Not this time.
    Later(String),
}

/// What a broker does not offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Whether it keeps retained messages.
    pub retains: bool,
    /// Whether it acknowledges.
    pub acknowledges: bool,
}

/// The session is our own outbox: the broker is to keep none.
pub fn connect(version: Version, login: &Login) -> Result<Packet, MqttError> {
    // The two builders share their methods, but no trait.
    macro_rules! build {
        ($builder:expr) => {{
            let (topic, text) = (login.will.0.as_str(), login.will.1);
            let mut builder = $builder
                .client_id(login.client_id.as_str())?
                .clean_start(true)
                .keep_alive(login.keep_alive_s)
                .will_message(topic, text, Qos::AtLeastOnce, true)?;
            if let Some(username) = &login.username {
                builder = builder.user_name(username.as_str())?;
            }
            if let Some(password) = &login.password {
                builder = builder.password(password.as_str())?;
            }
            builder
        }};
    }
    Ok(match version {
        Version::V5_0 => {
            let expiry = Property::SessionExpiryInterval(SessionExpiryInterval::new(0)?);
            build!(v5_0::Connect::builder()).props(vec![expiry]).build()?.into()
        }
        _ => build!(v3_1_1::Connect::builder()).build()?.into(),
    })
}

/// To be acknowledged under this id.
pub fn publish(version: Version, message: &Message, id: u16) -> Result<Packet, MqttError> {
    macro_rules! build {
        ($builder:expr) => {
            $builder
                .topic_name(message.topic.as_str())?
                .payload(message.payload.as_slice())
                .retain(message.retain)
                .qos(Qos::AtLeastOnce)
                .packet_id(id)
                .build()?
                .into()
        };
    }
    Ok(match version {
        Version::V5_0 => build!(v5_0::Publish::builder()),
        _ => build!(v3_1_1::Publish::builder()),
    })
}

pub fn subscribe(version: Version, topic: &str, id: u16) -> Result<Packet, MqttError> {
    let entries = vec![SubEntry::new(topic, SubOpts::new())?];
    Ok(match version {
        Version::V5_0 => v5_0::Subscribe::builder().packet_id(id).entries(entries).build()?.into(),
        _ => v3_1_1::Subscribe::builder().packet_id(id).entries(entries).build()?.into(),
    })
}

pub fn disconnect(version: Version) -> Result<Packet, MqttError> {
    Ok(match version {
        Version::V5_0 => v5_0::Disconnect::builder().build()?.into(),
        _ => v3_1_1::Disconnect::builder().build()?.into(),
    })
}

/// What a packet of the broker says.
pub fn understand(packet: &Packet) -> Heard {
    match packet {
        Packet::V3_1_1Connack(connack) => {
            let rejected = |code| Heard::Rejected(words(code).into());
            match connack.return_code() {
                ConnectReturnCode::Accepted => Heard::Accepted(Terms { retains: true, acknowledges: true }),
                ConnectReturnCode::UnacceptableProtocolVersion => rejected(0x84),
                ConnectReturnCode::IdentifierRejected => rejected(0x85),
                ConnectReturnCode::ServerUnavailable => rejected(0x88),
                ConnectReturnCode::BadUserNameOrPassword => rejected(0x86),
                ConnectReturnCode::NotAuthorized => rejected(0x87),
            }
        }
        Packet::V5_0Connack(connack) => match connack.reason_code() as u8 {
            0 => {
                let mut terms = Terms { retains: true, acknowledges: true };
                for property in connack.props() {
                    match property {
                        Property::RetainAvailable(available) => terms.retains = available.val() != 0,
                        Property::MaximumQos(most) => terms.acknowledges = most.val() != 0,
                        _ => {}
                    }
                }
                Heard::Accepted(terms)
            }
            code => Heard::Rejected(told(code, connack.props())),
        },
        Packet::V3_1_1Puback(puback) => Heard::Acknowledged(puback.packet_id(), Fate::Taken),
        Packet::V5_0Puback(puback) => {
            let code = puback.reason_code().map_or(0, |code| code as u8);
            let why = || told(code, puback.props().as_deref().unwrap_or_default());
            let fate = match code {
                0..0x80 => Fate::Taken,
                _ if permanent(code) => Fate::Never(why()),
                _ => Fate::Later(why()),
            };
            Heard::Acknowledged(puback.packet_id(), fate)
        }
        Packet::V3_1_1Publish(publish) => {
            Heard::Message { topic: publish.topic_name().into(), payload: publish.payload().as_slice().to_vec() }
        }
        Packet::V5_0Publish(publish) => {
            Heard::Message { topic: publish.topic_name().into(), payload: publish.payload().as_slice().to_vec() }
        }
        Packet::V5_0Disconnect(disconnect) => {
            let code = disconnect.reason_code().map_or(0, |code| code as u8);
            Heard::Left(told(code, disconnect.props().as_deref().unwrap_or_default()))
        }
        _ => Heard::Other,
    }
}

/// A reason code in words, with those of the broker where it has any.
fn told(code: u8, properties: &[Property]) -> String {
    let own = properties.iter().find_map(|property| match property {
        Property::ReasonString(text) => Some(text.val()),
        _ => None,
    });
    own.map_or(words(code).into(), |own| format!("{} ({own})", words(code)))
}
