//! sd_notify: how the loop tells its supervisor that it lives (`man 3 sd_notify`), be that systemd or our own PID 1.
//!
//! One thread says `READY=1` after the first inference, `WATCHDOG=1` as long as frames flow, and `STATUS=` in words.
//! Our own PID 1 also gets the whole status document, in variables of the `X_` space that the protocol leaves to
//! applications. Sending never waits: a supervisor that does not read loses messages, not frames.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::env;
use crate::pipeline::Telemetry;
use crate::pipeline::status::{RENDERED_BYTES_MAX, State};

/// How often a message is sent when the supervisor does not ask for more: half a second is well within any timeout of
/// a watchdog, which are whole seconds.
const INTERVAL: Duration = Duration::from_millis(500);
/// How much longer than now systemd is to wait for a start that makes a plan, said anew with each message.
const EXTENDED: Duration = Duration::from_secs(10);
/// Largest message: the document with the other variables.
pub const MESSAGE_BYTES_MAX: usize = RENDERED_BYTES_MAX + 1024;

/// Something that only the supervisor can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Reboot,
    /// Restart into the other slot, once.
    TrySlot,
}

impl Ask {
    const ALL: [Ask; 2] = [Ask::Reboot, Ask::TrySlot];

    fn as_str(self) -> &'static str {
        match self {
            Ask::Reboot => "reboot",
            Ask::TrySlot => "try-slot",
        }
    }
}

/// Where to send to.
#[derive(Debug)]
pub struct Supervisor {
    socket: UnixDatagram,
    address: SocketAddr,
    /// Our own PID 1, which understands more than systemd.
    ours: bool,
}

impl Supervisor {
    /// The supervisor that the environment names, if it names one.
    ///
    /// # Errors
    /// It names one that cannot be addressed.
    pub fn from_environment() -> std::io::Result<Option<Self>> {
        let Some(name) = env::NOTIFY_SOCKET.get() else { return Ok(None) };
        let address = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Some(Self { socket, address, ours: env::DEVICE_DIR.get().is_some() }))
    }

    fn send(&self, message: &str) -> std::io::Result<()> {
        self.socket.send_to_addr(message.as_bytes(), &self.address).map(drop)
    }
}

/// Asks the supervisor for something that only our own PID 1 does: a program that is one of many on a machine may not
/// restart it.
///
/// # Errors
/// There is no supervisor, it is another program, or it takes no message.
pub fn ask(ask: Ask) -> std::io::Result<()> {
    let supervisor = Supervisor::from_environment()?;
    let supervisor = supervisor.ok_or_else(|| std::io::Error::other("this process has no supervisor"))?;
    if !supervisor.ours {
        return Err(std::io::Error::other("this process does not run under Firstlight's own PID 1"));
    }
    supervisor.send(&format!("X_FIRSTLIGHT_ASK={}\n", ask.as_str()))
}

/// The thread that says how it is; ends when dropped, with `STOPPING=1`.
#[derive(Debug)]
pub struct Notifier {
    stop: Option<mpsc::SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Notifier {
    /// Starts telling `supervisor`; frames flow while the last one is younger than `frame_age_max`.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(supervisor: Supervisor, telemetry: Arc<Telemetry>, frame_age_max: Duration) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::sync_channel(1);
        // systemd says how long it waits at most; a quarter leaves room for two lost messages.
        let asked = env::WATCHDOG_USEC.get().and_then(|text| text.parse().ok()).map(Duration::from_micros);
        let interval = asked.map_or(INTERVAL, |limit| (limit / 4).clamp(Duration::from_millis(10), INTERVAL));
        let thread = crate::thread::spawn("notify", move || {
            let mut ready = false;
            loop {
                // Lost messages are the supervisor's affair: there is nobody else to tell.
                let _ = supervisor.send(&message(&telemetry, frame_age_max, supervisor.ours, &mut ready));
                if stopped.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
                    let _ = supervisor.send("STOPPING=1\n");
                    return;
                }
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // Ends at once: it waits for nothing but the closed channel.
            let _ = thread.join();
        }
    }
}

fn message(telemetry: &Telemetry, frame_age_max: Duration, ours: bool, ready: &mut bool) -> String {
    let status = telemetry.status();
    let mut text = String::with_capacity(256);
    if !*ready && status.flow.frames > 0 {
        *ready = true;
        text.push_str("READY=1\n");
    }
    if telemetry.alive(frame_age_max) {
        text.push_str("WATCHDOG=1\n");
        if !*ready && telemetry.makes_plan() {
            text.push_str(&format!("EXTEND_TIMEOUT_USEC={}\n", EXTENDED.as_micros()));
        }
    }
    let words = match status.reasons.first() {
        Some(reason) => format!("{}: {reason}", status.state.as_str()),
        None => format!("{}: {} fps, {} frames", status.state.as_str(), status.flow.fps, status.flow.frames),
    };
    text.push_str(&format!("STATUS={words}\n"));
    if ours {
        let mut buffer = [0; RENDERED_BYTES_MAX];
        let document = String::from_utf8_lossy(status.render(&mut buffer));
        let (state, frames) = (status.state.as_str(), status.flow.frames);
        let flowing = u8::from(telemetry.health().flowing);
        text.push_str(&format!("X_FIRSTLIGHT_STATE={state}\nX_FIRSTLIGHT_FRAMES={frames}\n"));
        text.push_str(&format!("X_FIRSTLIGHT_FLOWING={flowing}\nX_FIRSTLIGHT_DOCUMENT={document}\n"));
    }
    text
}

/// A message as the supervisor reads it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Frames flow.
    pub alive: bool,
    pub state: Option<State>,
    /// Neither source nor engine is in trouble, and the loop is not late.
    pub flowing: bool,
    pub frames: Option<u64>,
    /// The status document, one line of JSON.
    pub document: Option<String>,
    pub ask: Option<Ask>,
}

impl Message {
    /// Reads a datagram; what is not known or not understood is passed over, as the protocol wants.
    #[must_use]
    pub fn parse(datagram: &[u8]) -> Self {
        let mut message = Self::default();
        for (name, value) in String::from_utf8_lossy(datagram).lines().filter_map(|line| line.split_once('=')) {
            match name {
                "WATCHDOG" => message.alive = value == "1",
                "X_FIRSTLIGHT_STATE" => message.state = State::ALL.into_iter().find(|state| state.as_str() == value),
                "X_FIRSTLIGHT_FLOWING" => message.flowing = value == "1",
                "X_FIRSTLIGHT_FRAMES" => message.frames = value.parse().ok(),
                "X_FIRSTLIGHT_DOCUMENT" => message.document = Some(value.to_owned()),
                "X_FIRSTLIGHT_ASK" => message.ask = Ask::ALL.into_iter().find(|ask| ask.as_str() == value),
                _ => {}
            }
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::engine::plan::Making;
    use crate::pipeline::telemetry::HealthLimits;

    fn telemetry(start_grace: Duration) -> Telemetry {
        Telemetry::new(Instant::now(), HealthLimits { frame_age_max: Duration::from_secs(3), start_grace })
    }

    #[test]
    fn a_message_is_read_as_it_was_meant() {
        let telemetry = telemetry(Duration::from_secs(60));
        let mut ready = false;
        let first = message(&telemetry, Duration::from_secs(10), true, &mut ready);
        assert!(!first.contains("READY=1"), "not ready before the first inference: {first}");
        telemetry.frame_done(Instant::now());
        let second = message(&telemetry, Duration::from_secs(10), true, &mut ready);
        assert!(second.starts_with("READY=1\nWATCHDOG=1\nSTATUS=running: "), "{second}");
        let read = Message::parse(second.as_bytes());
        assert_eq!((read.alive, read.state, read.frames), (true, Some(State::Running), Some(1)));
        let document: serde_json::Value = serde_json::from_str(&read.document.unwrap()).unwrap();
        assert_eq!(document["state"], "running");
        assert!(!message(&telemetry, Duration::from_secs(10), true, &mut ready).contains("READY"));
    }

    #[test]
    fn without_frames_there_is_no_sign_of_life() {
        let telemetry = telemetry(Duration::ZERO);
        std::thread::sleep(Duration::from_millis(2));
        let mut ready = false;
        assert!(!message(&telemetry, Duration::from_secs(10), false, &mut ready).contains("WATCHDOG=1"));
        telemetry.frame_done(Instant::now());
        std::thread::sleep(Duration::from_millis(2));
        assert!(!message(&telemetry, Duration::from_millis(1), false, &mut ready).contains("WATCHDOG=1"));
        assert!(!message(&telemetry, Duration::from_secs(10), false, &mut ready).contains("X_FIRSTLIGHT"));
    }

    #[test]
    fn a_start_that_makes_a_plan_is_given_more_time() {
        let (telemetry, making) = (telemetry(Duration::ZERO), Making::default());
        telemetry.set_making(making.clone());
        std::thread::sleep(Duration::from_millis(2));
        let mut ready = false;
        let mut said = || message(&telemetry, Duration::from_secs(10), false, &mut ready);
        assert!(!said().contains("WATCHDOG=1"));
        making.begin();
        assert!(said().starts_with("WATCHDOG=1\nEXTEND_TIMEOUT_USEC=10000000\nSTATUS=starting"), "{}", said());
        telemetry.frame_done(Instant::now());
        assert!(!said().contains("EXTEND"));
    }

    #[test]
    fn odd_datagrams_say_nothing() {
        for odd in [&b""[..], b"\xFF\xFE=\xFD", b"WATCHDOG", b"X_FIRSTLIGHT_ASK=explode\nX_FIRSTLIGHT_FRAMES=-1"] {
            assert_eq!(Message::parse(odd), Message::default());
        }
        assert_eq!(Message::parse(b"X_FIRSTLIGHT_ASK=reboot").ask, Some(Ask::Reboot));
    }
}
