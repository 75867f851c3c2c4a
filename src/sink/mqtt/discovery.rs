//! Home Assistant's discovery: what is told so that a device, its rules and its counts appear there by themselves.
//!
//! May not know: the connection, or what is true now.

use serde_json::{Value, json};

use super::Rule;
use super::packets::Message;
use super::topics::{Topics, objects, plain};

/// Most classes that have a sensor each; of more only the total has one: eighty entities nobody asked for are no help.
const CLASSES_MAX: usize = 32;

/// How long Home Assistant shows what is over when it begins, seconds: long enough to be seen.
const MOMENT_S: u32 = 2;

/// What there is to tell of.
#[derive(Debug)]
pub struct Catalogue<'a> {
    /// First part of the topics where Home Assistant looks.
    pub prefix: &'a str,
    pub topics: &'a Topics,
    pub rules: &'a [Rule],
    pub classes: &'a [String],
    /// Version of this program.
    pub version: &'a str,
}

impl Catalogue<'_> {
    /// Where Home Assistant says `online` after its own start.
    pub fn birth(prefix: &str) -> String {
        format!("{prefix}/status")
    }

    /// A retained message for each entity.
    pub fn messages(&self) -> Vec<Message> {
        let status = self.topics.status();
        let sensor = |object: &str, name: &str, template: &str, icon: &str| {
            let own = json!({
                "name": name, "state_topic": status, "value_template": template, "state_class": "measurement", "icon": icon,
            });
            self.entity("sensor", object, own)
        };
        let mut messages = vec![
            sensor("count", "Objects", "{{ value_json.counts.total }}", "mdi:counter"),
            sensor("fps", "Frames a second", "{{ value_json.fps }}", "mdi:speedometer"),
        ];
        let classes = if self.classes.len() <= CLASSES_MAX { self.classes } else { &[] };
        for (object, class) in objects(classes.iter().map(String::as_str)).iter().zip(classes) {
            let quoted = class.replace('\\', "\\\\").replace('\'', "\\'");
            let template = format!("{{{{ value_json.counts.classes['{quoted}'] }}}}");
            messages.push(sensor(&format!("count_{object}"), &format!("Objects: {class}"), &template, "mdi:counter"));
        }
        for (object, rule) in objects(self.rules.iter().map(|rule| &*rule.name)).iter().zip(self.rules) {
            let mut own = json!({ "name": rule.name, "state_topic": self.topics.rule(object), "icon": "mdi:eye" });
            if rule.momentary {
                own["off_delay"] = MOMENT_S.into();
            }
            messages.push(self.entity("binary_sensor", &format!("rule_{object}"), own));
        }
        messages
    }

    fn entity(&self, component: &str, object: &str, own: Value) -> Message {
        let device = &self.topics.device;
        let node = format!("firstlight-{}", plain(device));
        let mut config = own;
        config["unique_id"] = format!("{node}_{object}").into();
        config["availability_topic"] = self.topics.availability().into();
        config["device"] = json!({
            "identifiers": [node], "name": device, "manufacturer": "Firstlight", "model": "Firstlight", "sw_version": self.version,
        });
        config["origin"] = json!({ "name": "Firstlight", "sw_version": self.version });
        let topic = format!("{}/{component}/{node}/{object}/config", self.prefix);
        Message { topic, payload: config.to_string().into_bytes(), retain: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entity_has_what_home_assistant_requires() {
        let topics = Topics::new("firstlight", "cam-1");
        let rules = [Rule::new("Nut on the left", false), Rule::new("Crossed", true)];
        let classes = ["M8 nut".to_owned(), "o'ring".to_owned()];
        let catalogue = Catalogue { prefix: "ha", topics: &topics, rules: &rules, classes: &classes, version: "1" };
        let messages = catalogue.messages();
        let names: Vec<&str> = messages.iter().map(|message| message.topic.as_str()).collect();
        assert_eq!(
            names,
            [
                "ha/sensor/firstlight-cam-1/count/config",
                "ha/sensor/firstlight-cam-1/fps/config",
                "ha/sensor/firstlight-cam-1/count_m8_nut/config",
                "ha/sensor/firstlight-cam-1/count_o_ring/config",
                "ha/binary_sensor/firstlight-cam-1/rule_nut_on_the_left/config",
                "ha/binary_sensor/firstlight-cam-1/rule_crossed/config",
            ]
        );
        for message in &messages {
            let config: Value = serde_json::from_slice(&message.payload).unwrap();
            for key in ["name", "unique_id", "state_topic", "availability_topic"] {
                assert!(config[key].is_string(), "{key} of {}", message.topic);
            }
            assert_eq!(config["device"]["identifiers"][0], "firstlight-cam-1");
            assert!(message.retain);
        }
        let config: Value = serde_json::from_slice(&messages[3].payload).unwrap();
        assert_eq!(config["value_template"], "{{ value_json.counts.classes['o\\'ring'] }}");
        let delays =
            [4, 5].map(|at| serde_json::from_slice::<Value>(&messages[at].payload).unwrap()["off_delay"].clone());
        assert_eq!(delays, [Value::Null, 2.into()]);
        let many: Vec<String> = (0..80).map(|n| format!("class {n}")).collect();
        assert_eq!(Catalogue { classes: &many, ..catalogue }.messages().len(), 4);
    }
}
