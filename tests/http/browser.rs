//! A Chromium without a screen, driven over its DevTools protocol: JSON with a zero byte after each message, through two
//! pipes. So a test can press keys and choose files as a person would, and needs no driver beside the browser.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use nix::sys::stat::Mode;
use serde_json::{Value, json};

use super::client::PATIENCE;

/// Between two looks at a page that is to become something.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Chromium reads commands from descriptor 3 and answers to 4, here from and to named pipes in its own folder.
const START: &str = r#"exec chromium "$@" 3<"$0/commands" 4>"$0/answers""#;
/// No window, no neighbour, nothing that would call home.
const ARGUMENTS: [&str; 8] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
];

pub struct Browser {
    process: Child,
    commands: File,
    answers: Receiver<Value>,
    session: Option<String>,
    number: u64,
    /// What the page did wrong by its own console: exceptions, and what its policy forbade.
    pub faults: Vec<String>,
    _folder: tempfile::TempDir,
}

impl Browser {
    /// A browser with one empty page.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for pipe in ["commands", "answers"] {
            nix::unistd::mkfifo(&folder.path().join(pipe), Mode::S_IRWXU).unwrap();
        }
        let process = Command::new("sh")
            .args(["-c", START, folder.path().to_str().unwrap()])
            .args(ARGUMENTS)
            .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // In the shell's order: opening a named pipe waits for its other end.
        let commands = File::options().write(true).open(folder.path().join("commands")).unwrap();
        let answers = messages(File::open(folder.path().join("answers")).unwrap());
        let mut browser =
            Self { process, commands, answers, session: None, number: 0, faults: Vec::new(), _folder: folder };
        let page = browser.command("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": page["targetId"], "flatten": true});
        let session = browser.command("Target.attachToTarget", attach);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "DOM"] {
            browser.command(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// One command of the protocol and its result.
    pub fn command(&mut self, method: &str, parameters: Value) -> Value {
        self.number += 1;
        let mut message = json!({"id": self.number, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        // A browser that is not there closes its end at once; the next line says so.
        let _ = self.commands.write_all(format!("{message}\0").as_bytes());
        loop {
            let answer = self.answers.recv_timeout(PATIENCE).unwrap_or_else(|error| {
                panic!("THE PAGE WAS NOT CHECKED: no answer of chromium ({error}); is it installed (Debian: apt install chromium)?")
            });
            if answer["id"] == self.number {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            self.note(&answer);
        }
    }

    fn note(&mut self, event: &Value) {
        let entry = &event["params"]["entry"];
        if event["method"] == "Runtime.exceptionThrown" || entry["source"] == "security" {
            self.faults.push(event["params"].to_string());
        }
    }

    /// Opens a page and waits until it is there.
    pub fn open(&mut self, url: &str) {
        self.command("Page.navigate", json!({"url": url}));
        self.wait_until(&format!("document.readyState === 'complete' && location.href === {url:?}"));
    }

    /// The value of an expression in the page.
    pub fn value(&mut self, expression: &str) -> Value {
        let ask = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let found = self.command("Runtime.evaluate", ask);
        assert!(found["exceptionDetails"].is_null(), "{expression}: {}", found["exceptionDetails"]);
        found["result"]["value"].clone()
    }

    /// The text of the element with this id, empty while there is none.
    pub fn text(&mut self, id: &str) -> String {
        let text = self.value(&format!("document.getElementById({id:?})?.textContent ?? ''"));
        text.as_str().unwrap().to_owned()
    }

    /// Waits until an expression in the page is true.
    pub fn wait_until(&mut self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.value(&format!("Boolean({expression})")) != json!(true) {
            assert!(
                Instant::now() < deadline,
                "never true: {expression}; page: {}",
                self.value("document.body.innerText")
            );
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// A screen of this width, and what its owner prefers: `light` or `dark`.
    pub fn screen(&mut self, width: u32, height: u32, scheme: &str) {
        let phone = width < 500;
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone});
        self.command("Emulation.setDeviceMetricsOverride", size);
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.command("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    /// Presses and releases a key by its name and its old number.
    pub fn press(&mut self, key: &str, number: u32) {
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": number});
            if key == "Enter" {
                event["text"] = json!("\r");
            }
            self.command("Input.dispatchKeyEvent", event);
        }
    }

    /// Writes into what has the focus.
    pub fn write(&mut self, text: &str) {
        self.command("Input.insertText", json!({"text": text}));
    }

    /// Gives a file to an input, as its dialogue would.
    pub fn choose_file(&mut self, selector: &str, file: &Path) {
        let document = self.command("DOM.getDocument", json!({}));
        let find = json!({"nodeId": document["root"]["nodeId"], "selector": selector});
        let node = self.command("DOM.querySelector", find)["nodeId"].clone();
        self.command("DOM.setFileInputFiles", json!({"files": [file.canonicalize().unwrap()], "nodeId": node}));
    }

    /// Keeps a picture of the whole page as `NAME.png` in the folder that `FIRSTLIGHT_PAGE_SHOTS` names, if it does.
    pub fn shoot(&mut self, name: &str) {
        let Some(folder) = std::env::var_os("FIRSTLIGHT_PAGE_SHOTS") else { return };
        let size = self.command("Page.getLayoutMetrics", json!({}))["cssContentSize"].clone();
        let clip = json!({"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1});
        let shot = self.command("Page.captureScreenshot", json!({"captureBeyondViewport": true, "clip": clip}));
        let png = BASE64_STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
        std::fs::write(Path::new(&folder).join(format!("{name}.png")), png).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn messages(pipe: File) -> Receiver<Value> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for message in BufReader::new(pipe).split(0).map_while(Result::ok) {
            let Ok(message) = serde_json::from_slice(&message) else { return };
            if sender.send(message).is_err() {
                return;
            }
        }
    });
    receiver
}
