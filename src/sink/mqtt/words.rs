//! MQTT's reason codes in words that say what to do, where there is something.

/// Of version 5; those of 3.1.1 are a few of them.
pub fn words(code: u8) -> &'static str {
    match code {
        0x00 => "it ends the connection",
        0x80 => "an error that it does not name",
        0x81 => "a packet that it takes for malformed",
        0x82 => "a protocol error",
        0x83 => "an error of its own",
        0x84 => "it does not speak this version of MQTT: set mqtt.version to another",
        0x85 => "it does not like the client id: set mqtt.client_id",
        0x86 => "wrong user name or password: see mqtt.username and mqtt.password",
        0x87 => "not authorised: see mqtt.username and mqtt.password, and the broker's access list",
        0x88 => "it is not available now",
        0x89 => "it is busy",
        0x8A => "this client is banned",
        0x8B => "it shuts down",
        0x8C => "it wants another way of authentication",
        0x8D => "it has heard nothing for longer than mqtt.keep_alive_s",
        0x8E => "another client has connected with the same client id: mqtt.client_id must differ on every device",
        0x8F => "it does not like a topic filter",
        0x90 => "it does not like the topic",
        0x91 => "a packet id that is in use",
        0x93 => "more at once than it takes",
        0x94 => "a wrong topic alias",
        0x95 => "a packet larger than it takes",
        0x96 => "more messages than it takes",
        0x97 => "a quota is exceeded",
        0x98 => "somebody there has ended the connection",
        0x99 => "it does not like the payload",
        0x9A => "it keeps no retained messages",
        0x9B => "it does not acknowledge messages (QoS 1)",
        0x9C | 0x9D => "another broker is to be used: see mqtt.url",
        0x9F => "more connections than it takes",
        0xA0 => "the longest time of a connection is over",
        _ => "a reason that this version does not know",
    }
}

/// Whether the same publication will meet the same answer for ever.
pub fn permanent(code: u8) -> bool {
    matches!(code, 0x90 | 0x95 | 0x99)
}
