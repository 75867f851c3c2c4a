//! The part of the configuration that is about an MQTT broker.

use std::path::PathBuf;

use serde::Deserialize;

use super::Secret;

/// MQTT's longest text, which a topic is.
const TEXT_BYTES_MAX: usize = 65_535;

/// A broker that is told what is seen.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MqttConfig {
    /// `mqtt://HOST[:PORT]`, or `mqtts://` with TLS; the ports are 1883 and 8883 where none is named.
    pub url: String,
    /// `3.1.1` or `5`.
    pub version: MqttVersion,
    /// Name of this device in topics, letters, digits, `-` and `_`; absent: its host name.
    pub device: Option<String>,
    /// Absent: `firstlight-` and the name of the device.
    pub client_id: Option<String>,
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// File with the password, read at every connect; a line feed at its end does not count.
    pub password_file: Option<PathBuf>,
    /// PEM file of the authorities that may vouch for the broker; absent: those that browsers trust.
    pub ca: Option<PathBuf>,
    /// PEM file of the certificate of this client, and what leads from it to an authority.
    pub certificate: Option<PathBuf>,
    /// PEM file of its private key, without a password.
    pub key: Option<PathBuf>,
    /// First part of every topic.
    pub prefix: String,
    /// Whether the events of rules are published.
    pub events: bool,
    /// Most answers published a second, 0 to 1000: the first of each such interval; 0: none.
    pub answers_per_s: f64,
    /// Seconds between two status messages, 1 to 3600.
    pub status_interval_s: f64,
    /// Whether Home Assistant is told what there is.
    pub discovery: bool,
    /// First part of the topics where it looks.
    pub discovery_prefix: String,
    /// Directory on the data partition where records wait for the broker; absent: in memory. It is made if only its last
    /// part is missing.
    pub spool: Option<PathBuf>,
    /// Size of the spool, MB of 10⁶ bytes, 1 to 1024; the oldest records give way.
    pub spool_mb: u64,
    /// Longest time until an answer is safe from a power cut, seconds, 0.1 to 3600; an event is at once.
    pub spool_interval_s: f64,
    /// Longest silence on the connection, seconds, 5 to 3600.
    pub keep_alive_s: u16,
}

/// Of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum MqttVersion {
    #[default]
    #[serde(rename = "3.1.1")]
    V3,
    #[serde(rename = "5")]
    V5,
}

/// Where the broker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MqttAddress {
    pub host: String,
    pub port: u16,
    pub tls: bool,
}

impl Default for MqttConfig {
    fn default() -> Self {
        // Version 3.1.1: every broker speaks it. One answer a second: what a person or a dashboard follows. Ten seconds:
        // counts in Home Assistant that are of use, at 8,640 messages a day. Sixteen MB: some 30,000 answers, or 4,000
        // events of their own block each. Thirty seconds: below the idle time of any address translation on the way.
        Self {
            url: String::new(),
            version: MqttVersion::default(),
            device: None,
            client_id: None,
            username: None,
            password: None,
            password_file: None,
            ca: None,
            certificate: None,
            key: None,
            prefix: "firstlight".into(),
            events: true,
            answers_per_s: 1.0,
            status_interval_s: 10.0,
            discovery: true,
            discovery_prefix: "homeassistant".into(),
            spool: None,
            spool_mb: 16,
            spool_interval_s: 1.0,
            keep_alive_s: 30,
        }
    }
}

impl MqttConfig {
    /// Where the broker listens; `None` when the URL says nothing that is understood.
    #[must_use]
    pub fn address(&self) -> Option<MqttAddress> {
        let (scheme, rest) = self.url.split_once("://")?;
        let tls = match scheme {
            "mqtt" | "tcp" => false,
            "mqtts" | "ssl" => true,
            _ => return None,
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match authority.strip_prefix('[') {
            Some(bracketed) => {
                let (host, port) = bracketed.split_once(']')?;
                (host, port)
            }
            None => authority.find(':').map_or((authority, ""), |at| authority.split_at(at)),
        };
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|&port| port > 0)?,
            None if port.is_empty() => {
                if tls {
                    8883
                } else {
                    1883
                }
            }
            None => return None,
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:%".contains(c);
        let named = !host.is_empty() && host.chars().all(plain);
        named.then(|| MqttAddress { host: host.into(), port, tls })
    }

    /// The first value that is out of range: its key, what was found, what is expected.
    pub(super) fn fault(&self) -> Option<(&'static str, String, &'static str)> {
        let Some(address) = self.address() else {
            // What stands before an `@` may be a password.
            let shown = self.url.rsplit_once('@').map_or(self.url.clone(), |(_, host)| format!("…@{host}"));
            return Some((
                "mqtt.url",
                shown,
                "mqtt://HOST:PORT or mqtts://HOST:PORT; user name and password have keys of their own",
            ));
        };
        let files = [("mqtt.ca", &self.ca), ("mqtt.certificate", &self.certificate), ("mqtt.key", &self.key)];
        if let Some((key, Some(path))) = files.into_iter().find(|(_, path)| !address.tls && path.is_some()) {
            return Some((key, path.display().to_string(), "none with mqtt://; mqtts:// is encrypted"));
        }
        if self.certificate.is_some() != self.key.is_some() {
            return Some(("mqtt.certificate", "one of certificate and key".into(), "both or none"));
        }
        if self.password.is_some() && self.password_file.is_some() {
            return Some(("mqtt.password_file", "a password too".into(), "one of password and password_file"));
        }
        if (self.password.is_some() || self.password_file.is_some()) && self.username.is_none() {
            return Some(("mqtt.username", "none".into(), "a user name with the password"));
        }
        for (key, topic) in [("mqtt.prefix", &self.prefix), ("mqtt.discovery_prefix", &self.discovery_prefix)] {
            if topic.is_empty()
                || topic.len() > TEXT_BYTES_MAX / 2
                || topic.contains(['+', '#', '\0'])
                || topic.starts_with('$')
            {
                return Some((key, topic.clone(), "the first part of a topic, without + and #"));
            }
        }
        let named = |name: &&String| !name.is_empty() && name.len() <= 64;
        let plain = |name: &&String| named(name) && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
        if let Some(device) = self.device.as_ref().filter(|name| !plain(name)) {
            return Some(("mqtt.device", device.clone(), "1 to 64 letters, digits, - and _"));
        }
        if let Some(id) = self.client_id.as_ref().filter(|id| id.is_empty() || id.len() > 256) {
            return Some(("mqtt.client_id", id.clone(), "1 to 256 bytes"));
        }
        if !(1.0..=3600.0).contains(&self.status_interval_s) {
            return Some(("mqtt.status_interval_s", self.status_interval_s.to_string(), "1 to 3600 seconds"));
        }
        if !(5..=3600).contains(&self.keep_alive_s) {
            return Some(("mqtt.keep_alive_s", self.keep_alive_s.to_string(), "5 to 3600 seconds"));
        }
        if !(0.0..=1000.0).contains(&self.answers_per_s) {
            return Some(("mqtt.answers_per_s", self.answers_per_s.to_string(), "0 to 1000 a second"));
        }
        if !(1..=1024).contains(&self.spool_mb) {
            return Some(("mqtt.spool_mb", self.spool_mb.to_string(), "1 to 1024"));
        }
        if !(0.1..=3600.0).contains(&self.spool_interval_s) {
            return Some(("mqtt.spool_interval_s", self.spool_interval_s.to_string(), "0.1 to 3600 seconds"));
        }
        let nameless = self.spool.as_ref().is_some_and(|dir| dir.as_os_str().is_empty());
        nameless.then(|| ("mqtt.spool", "\"\"".into(), "a directory such as /data/mqtt"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Option<MqttAddress> {
        MqttConfig { url: url.into(), ..MqttConfig::default() }.address()
    }

    #[test]
    fn urls_name_host_port_and_whether_it_is_secret() {
        let address = |host: &str, port, tls| Some(MqttAddress { host: host.into(), port, tls });
        assert_eq!(of("mqtt://broker"), address("broker", 1883, false));
        assert_eq!(of("mqtts://broker.example/"), address("broker.example", 8883, true));
        assert_eq!(of("mqtt://10.0.0.1:1884"), address("10.0.0.1", 1884, false));
        assert_eq!(of("mqtts://[fe80::1%eth0]:99"), address("fe80::1%eth0", 99, true));
        for wrong in [
            "",
            "broker",
            "http://broker",
            "mqtt://",
            "mqtt://a:b",
            "mqtt://a:0",
            "mqtt://a:70000",
            "mqtt://u:p@a",
            "mqtt://[::1",
            "mqtt://[::1]x",
            "mqtt://a/b",
            "mqtt://a:",
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn faults_name_their_key_and_no_secret() {
        let parse = |text: &str| toml::from_str::<MqttConfig>(&format!("url = \"mqtt://a\"\n{text}")).unwrap();
        assert_eq!(parse("").fault(), None);
        for (text, key) in [
            ("password = \"x\"", "mqtt.username"),
            ("certificate = \"c.pem\"", "mqtt.certificate"),
            ("prefix = \"a/#\"", "mqtt.prefix"),
            ("discovery_prefix = \"\"", "mqtt.discovery_prefix"),
            ("device = \"a b\"", "mqtt.device"),
            ("keep_alive_s = 1", "mqtt.keep_alive_s"),
            ("answers_per_s = nan", "mqtt.answers_per_s"),
            ("status_interval_s = 0.0", "mqtt.status_interval_s"),
            ("spool_mb = 0", "mqtt.spool_mb"),
            ("spool_interval_s = inf", "mqtt.spool_interval_s"),
            ("spool = \"\"", "mqtt.spool"),
        ] {
            assert_eq!(parse(text).fault().map(|fault| fault.0), Some(key), "{text}");
        }
        let secret = parse("username = \"u\"\npassword = \"hunter2\"");
        assert!(!format!("{secret:?}").contains("hunter2"));
        let inside = MqttConfig { url: "mqtt://u:hunter2@a".into(), ..MqttConfig::default() };
        assert!(!inside.fault().unwrap().1.contains("hunter2"));
    }
}
