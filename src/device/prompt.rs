//! What a person types on the serial line. Enter opens a short prompt; a few words are all it knows.
//!
//! Pure: bytes in, echo and commands out. May not know: ports, processes.

use std::time::{Duration, Instant};

/// Longest line; a cable that makes noise must not make memory.
const LINE_BYTES_MAX: usize = 64;
/// Bytes of noise looked at in one go, so that echo cannot outgrow the port.
const FEED_BYTES_MAX: usize = 256;
/// An open prompt holds back the status lines; one that nobody types at closes by itself.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const PROMPT: &str = "firstlight> ";
/// Answer to `help` and to anything unknown.
pub const HELP: &str = "status, log, selftest, slot, reboot; exit goes back to the status lines";

/// A word of the prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Status,
    Log,
    Selftest,
    Slot,
    Reboot,
    Help,
    Unknown(String),
}

/// The state of one line.
#[derive(Debug, Default)]
pub struct Prompt {
    open: Option<Instant>,
    line: Vec<u8>,
    /// A line feed right after a carriage return is the same Enter.
    after_return: bool,
}

impl Prompt {
    /// Takes what was typed at `now`: what to send back, and the commands in it.
    pub fn feed(&mut self, bytes: &[u8], now: Instant) -> (Vec<u8>, Vec<Command>) {
        let (mut echo, mut commands) = (Vec::new(), Vec::new());
        for &byte in bytes.iter().take(FEED_BYTES_MAX) {
            let twice = byte == b'\n' && self.after_return;
            self.after_return = byte == b'\r';
            match byte {
                b'\n' if twice => {}
                b'\r' | b'\n' => self.enter(now, &mut echo, &mut commands),
                _ if self.open.is_none() => {}
                // Backspace and delete; Ctrl-C and Ctrl-D.
                0x08 | 0x7F if self.line.pop().is_some() => echo.extend_from_slice(b"\x08 \x08"),
                0x03 | 0x04 => self.close(),
                b' '..=b'~' if self.line.len() < LINE_BYTES_MAX => {
                    self.line.push(byte);
                    echo.push(byte);
                }
                _ => {}
            }
        }
        if self.open.is_some() {
            self.open = Some(now);
        }
        (echo, commands)
    }

    /// Whether somebody is typing, so that other lines should wait.
    pub fn is_open(&mut self, now: Instant) -> bool {
        if self.open.is_some_and(|last| now.saturating_duration_since(last) > SILENCE_MAX) {
            self.close();
        }
        self.open.is_some()
    }

    /// The prompt itself, to be shown after an answer while it is open.
    #[must_use]
    pub fn text(&self) -> &'static str {
        if self.open.is_some() { PROMPT } else { "" }
    }

    fn close(&mut self) {
        self.open = None;
        self.line.clear();
    }

    fn enter(&mut self, now: Instant, echo: &mut Vec<u8>, commands: &mut Vec<Command>) {
        echo.extend_from_slice(b"\r\n");
        let opened = self.open.replace(now).is_none();
        let line = String::from_utf8_lossy(&self.line).trim().to_lowercase();
        self.line.clear();
        let command = match line.as_str() {
            "" if opened => Command::Help,
            "" => {
                echo.extend_from_slice(PROMPT.as_bytes());
                return;
            }
            "status" => Command::Status,
            "log" | "logs" => Command::Log,
            "selftest" => Command::Selftest,
            "slot" => Command::Slot,
            "reboot" => Command::Reboot,
            "help" | "?" => Command::Help,
            "exit" | "quit" => return self.close(),
            _ => Command::Unknown(line),
        };
        commands.push(command);
    }
}

/// The status document in a few lines for people.
#[must_use]
pub fn summary(document: &str) -> Vec<String> {
    let Ok(status) = serde_json::from_str::<serde_json::Value>(document) else {
        return vec!["no status yet".into()];
    };
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => "-".into(),
        other => other.to_string(),
    };
    let (flow, boot, board) = (&status["loop"], &status["boot"], &status["board"]);
    let mut lines = vec![format!("state    {}", text(&status["state"]))];
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    lines.extend(list(&status["reasons"]).iter().map(|reason| format!("         {}", text(reason))));
    let sources: Vec<String> = list(&status["sources"]).iter().map(|source| text(&source["uri"])).collect();
    lines.extend([
        format!("model    {} on {}", text(&status["model"]["id"]), text(&status["engine"]["name"])),
        format!("source   {}", sources.join(", ")),
        format!(
            "frames   {} at {} a second, {} dropped, {} failed; p50 {} ms, p99 {} ms",
            text(&flow["frames"]),
            text(&flow["fps"]),
            text(&flow["dropped"]),
            text(&flow["failed"]),
            text(&flow["latency_ms"]["p50"]),
            text(&flow["latency_ms"]["p99"])
        ),
        format!("slot     {}  {}", text(&boot["slot"]), text(&boot["trial"])),
        format!("watchdog {}", text(&boot["watchdog"])),
        format!(
            "board    {}, {} °C, {} MB",
            text(&board["name"]),
            text(&board["temperature_c"]),
            text(&board["memory_rss_mb"])
        ),
    ]);
    lines.extend(list(&boot["resets"]).iter().map(|reset| format!("reset    {}", text(reset))));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(prompt: &mut Prompt, text: &str) -> (String, Vec<Command>) {
        let (echo, commands) = prompt.feed(text.as_bytes(), Instant::now());
        (String::from_utf8(echo).unwrap(), commands)
    }

    #[test]
    fn enter_opens_and_words_are_understood() {
        let mut prompt = Prompt::default();
        assert_eq!(typed(&mut prompt, "status"), (String::new(), vec![]), "nothing before Enter");
        assert_eq!(typed(&mut prompt, "\r\n").1, [Command::Help]);
        assert_eq!(prompt.text(), PROMPT);
        assert_eq!(typed(&mut prompt, "Status\r"), ("Status\r\n".into(), vec![Command::Status]));
        assert_eq!(typed(&mut prompt, "\nlox\x08g\n").1, [Command::Log]);
        assert_eq!(typed(&mut prompt, "rm -rf\nreboot\n").1, [Command::Unknown("rm -rf".into()), Command::Reboot]);
        assert_eq!(typed(&mut prompt, "\n").0, format!("\r\n{PROMPT}"));
        assert!(prompt.is_open(Instant::now()));
        assert_eq!(typed(&mut prompt, "exit\r").1, []);
        assert!(!prompt.is_open(Instant::now()));
    }

    #[test]
    fn a_silent_prompt_closes() {
        let mut prompt = Prompt::default();
        let now = Instant::now();
        prompt.feed(b"\r", now);
        assert!(prompt.is_open(now + SILENCE_MAX));
        assert!(!prompt.is_open(now + SILENCE_MAX + Duration::from_secs(1)));
    }

    #[test]
    fn noise_neither_grows_nor_speaks() {
        let mut prompt = Prompt::default();
        let noise: Vec<u8> = (0..10_000_u32).map(|n| (n * 7).to_le_bytes()[0]).collect();
        prompt.feed(b"\r", Instant::now());
        for chunk in noise.chunks(100) {
            let (echo, _) = prompt.feed(chunk, Instant::now());
            assert!(echo.len() <= 4 * FEED_BYTES_MAX);
            assert!(prompt.line.len() <= LINE_BYTES_MAX);
        }
    }

    #[test]
    fn the_summary_says_what_is_wrong() {
        let lines = summary(r#"{"state":"degraded","reasons":["camera: lost"],"boot":{"resets":["watchdog"]}}"#);
        assert_eq!(lines[..2], ["state    degraded", "         camera: lost"]);
        assert!(lines.iter().any(|line| line == "reset    watchdog"));
        assert_eq!(summary("{"), ["no status yet"]);
    }
}
