//! What a configuration needs to be there: files it names, and peers on a network.

use std::path::{Path, PathBuf};

use super::Config;

/// One thing that is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// A file of this content, named by this key.
    File {
        key: String,
        path: PathBuf,
    },
    Folder {
        key: String,
        path: PathBuf,
    },
    /// A variable of the environment.
    Variable {
        key: String,
        name: String,
    },
    /// Somebody who answers over a network, and need not be there for the device to see.
    Peer {
        key: String,
        address: String,
    },
}

impl Config {
    /// All of them, in the order of the file. Models are none of them, nor is what the device makes itself.
    #[must_use]
    pub fn needs(&self) -> Vec<Need> {
        let mut needs = Vec::new();
        let tls = &self.http.tls;
        let engine = &self.engine;
        files(&mut needs, "http.tls.certificate", &tls.certificate);
        files(&mut needs, "http.tls.key", &tls.key);
        files(&mut needs, "http.tls.client_ca", &tls.client_ca);
        for (index, uri) in self.source.0.iter().enumerate().filter_map(|(i, source)| Some((i, source.uri.as_ref()?))) {
            needs.extend(of_source(&format!("source[{index}].uri"), uri));
        }
        files(&mut needs, "engine.onnxruntime", &engine.onnxruntime);
        files(&mut needs, "engine.tflite", &engine.tflite);
        files(&mut needs, "engine.delegate", &engine.delegate);
        files(&mut needs, "engine.loader", &engine.loader.first().map(PathBuf::from));
        if let Some(mqtt) = &self.mqtt {
            needs.push(Need::Peer { key: "mqtt.url".into(), address: mqtt.url.clone() });
            for (key, path) in [
                ("mqtt.password_file", &mqtt.password_file),
                ("mqtt.ca", &mqtt.ca),
                ("mqtt.certificate", &mqtt.certificate),
                ("mqtt.key", &mqtt.key),
            ] {
                files(&mut needs, key, path);
            }
        }
        for (index, webhook) in self.webhook.iter().enumerate() {
            let key = |name: &str| format!("webhook[{index}].{name}");
            needs.push(Need::Peer { key: key("url"), address: webhook.url.clone() });
            files(&mut needs, &key("token_file"), &webhook.token_file);
            files(&mut needs, &key("ca"), &webhook.ca);
            let variables =
                webhook.headers.iter().filter_map(|(name, value)| Some((name, value.strip_prefix("env:")?)));
            needs.extend(variables.map(|(header, name)| Need::Variable {
                key: key(&format!("headers.{header}")),
                name: name.to_owned(),
            }));
        }
        let folders = self.serving.images.dirs.iter();
        needs.extend(folders.map(|path| Need::Folder { key: "serving.images.dirs".into(), path: path.clone() }));
        needs
    }

    /// The models that the loop and its clients are promised, each once; none: the demo in the binary.
    #[must_use]
    pub fn models(&self) -> Vec<String> {
        let mut models: Vec<String> = self.model.iter().chain(&self.serving.preload).cloned().collect();
        models.extend(self.serving.pinned.iter().cloned());
        let mut seen = std::collections::HashSet::new();
        models.retain(|model| seen.insert(model.clone()));
        models
    }
}

fn files(needs: &mut Vec<Need>, key: &str, path: &Option<PathBuf>) {
    needs.extend(path.iter().map(|path| Need::File { key: key.into(), path: path.clone() }));
}

/// Of a camera nothing can be said where the device is not.
fn of_source(key: &str, uri: &str) -> Option<Need> {
    let (kind, rest) = uri.split_once(':')?;
    let key = key.to_owned();
    match kind {
        "file" => {
            let path = rest.split('?').next().unwrap_or_default();
            // A pattern is looked for when the device runs; its folder must be there.
            let is_pattern = |part: &str| part.contains(['*', '?', '[']);
            let fixed: PathBuf =
                Path::new(path).iter().take_while(|part| !is_pattern(&part.to_string_lossy())).collect();
            Some(Need::File { key, path: fixed })
        }
        "rtsp" | "rtsps" | "http" | "https" => Some(Need::Peer { key, address: uri.to_owned() }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_says_what_it_needs() {
        let config: Config = crate::config::text::read(
            "model = \"a/1\"\n[source]\nuri = \"file:/data/clips/*.mp4\"\n[serving]\npreload = [\"b/1\", \"a/1\"]\n\
             [[webhook]]\nurl = \"https://hub.example/\"\ntoken_file = \"/data/token\"\nheaders = { x = \"env:X\" }\n",
        )
        .unwrap();
        assert_eq!(config.models(), ["a/1", "b/1"]);
        assert_eq!(
            config.needs(),
            [
                Need::File { key: "source[0].uri".into(), path: "/data/clips".into() },
                Need::Peer { key: "webhook[0].url".into(), address: "https://hub.example/".into() },
                Need::File { key: "webhook[0].token_file".into(), path: "/data/token".into() },
                Need::Variable { key: "webhook[0].headers.x".into(), name: "X".into() },
            ]
        );
        assert_eq!(Config::default().needs(), []);
    }
}
