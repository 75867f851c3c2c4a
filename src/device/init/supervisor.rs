//! The main loop of PID 1. It waits for nothing but its next turn: whatever may take time is done by threads that
//! report, and by the loop process that it supervises.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command as Process;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::child::{self, Child};
use super::console::Console;
use super::data::DATA;
use super::device_log::DeviceLog;
use super::events::{Event, Events, Part, Reporter};
use super::power::End;
use super::restarts::{Next, Restarts};
use super::slots::Booted;
use super::{CONFIG_PATH, DEVICE_DIR};
use crate::config::{Config, PowerButton};
use crate::device::gate::{Gate, Verdict};
use crate::device::notify::{Ask, MESSAGE_BYTES_MAX, Message};
use crate::device::slot::BootVerdict;
use crate::device::watchdog::Watchdog;
use crate::env;
use crate::pipeline::Telemetry;
use crate::pipeline::status::{DEVICE_REASONS_MAX, DeviceFacts, DeviceReport, State, text};

/// One turn: well within every bound that is looked at in a turn.
const TURN_MS: u16 = 250;
/// A loop that gives no sign of life this long has none; its messages come twice a second.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// How often the watchdog is fed; its timeouts are whole seconds, from two.
const FEED_EVERY: Duration = Duration::from_millis(500);
/// How long a self-test may take on the slowest board, beside the loop.
const SELFTEST_MAX: Duration = Duration::from_secs(180);
/// The console shows at most one answer in this time: a person reads it. A machine names a port of its own in
/// `output.json`, and gets them all.
const ANSWER_EVERY: Duration = Duration::from_secs(1);
/// Kernel messages taken in one turn, and those that are kept: warnings and worse.
const KERNEL_MESSAGES_MAX: usize = 64;
const KERNEL_LEVEL_MAX: u32 = 4;

/// The machine as PID 1 sees it.
pub struct Supervisor {
    pub(super) config: Config,
    pub(super) booted: Option<Booted>,
    pub(super) boot_id: String,
    pub(super) console: Console,
    pub(super) log: DeviceLog,
    pub(super) watchdog: Option<Watchdog>,
    fed_at: Instant,
    socket: UnixDatagram,
    signals: SignalFd,
    kernel_log: Option<File>,
    events: Events,
    pub(super) reporter: Reporter,
    pub(super) child: Option<Child>,
    /// When the loop is to be started (again).
    start_at: Option<Instant>,
    pub(super) selftest: Option<Child>,
    restarts: Restarts,
    gate: Option<Gate>,
    problems: BTreeMap<Part, String>,
    pub(super) facts: DeviceFacts,
    /// What the loop was told last.
    published: Option<DeviceReport>,
    /// Speaks for the loop while there is none.
    pub(super) stand_in: Arc<Telemetry>,
    pub(super) shown: Option<State>,
    pub(super) status_due: Instant,
    answer_due: Instant,
    /// How and why the machine is about to end.
    ending: Option<(End, String)>,
    /// The machine ends: the loop is not started again.
    pub(super) finishing: bool,
    pub(super) on_trial: bool,
}

/// What a supervisor is made of.
pub struct Parts {
    pub config: Config,
    pub booted: Option<Booted>,
    pub boot_id: String,
    pub console: Console,
    pub watchdog: Option<Watchdog>,
    pub facts: DeviceFacts,
    pub stand_in: Arc<Telemetry>,
    pub events: Events,
    pub reporter: Reporter,
}

impl Supervisor {
    /// Gets ready; nothing is started yet.
    ///
    /// # Errors
    /// The system gives no socket or no descriptor for signals.
    pub fn new(parts: Parts) -> std::io::Result<Self> {
        let Parts { config, booted, boot_id, console, watchdog, facts, stand_in, events, reporter } = parts;
        let now = Instant::now();
        let path = Path::new(DEVICE_DIR).join("notify");
        let socket = UnixDatagram::bind(&path)?;
        socket.set_nonblocking(true)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGPWR] {
            mask.add(signal);
        }
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let kernel_log = File::options().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg").ok();
        Ok(Self {
            restarts: Restarts::new(&config.device.restarts),
            config,
            booted,
            boot_id,
            console,
            log: DeviceLog::new(Path::new(DEVICE_DIR)),
            watchdog,
            fed_at: now,
            socket,
            signals,
            kernel_log,
            events,
            reporter,
            child: None,
            start_at: Some(now),
            selftest: None,
            gate: None,
            problems: BTreeMap::new(),
            facts,
            published: None,
            stand_in,
            shown: None,
            status_due: now,
            answer_due: now,
            ending: None,
            finishing: false,
            on_trial: false,
        })
    }

    /// Starts the loop process and tends it until the machine is to end; says how, and why.
    pub fn run(&mut self) -> (End, String) {
        loop {
            self.turn();
            if let Some(ending) = self.ending.take() {
                return ending;
            }
        }
    }

    /// One turn of the loop: look at everything, then wait for something to happen.
    pub(super) fn turn(&mut self) {
        self.hear();
        self.handle_events();
        self.reap();
        self.read_pipes();
        self.read_kernel_log();
        self.answer_console();
        let now = Instant::now();
        self.tend_loop(now);
        self.feed(now);
        self.judge_trial(now);
        self.publish();
        self.show_status(now);
        self.wait();
    }

    /// Starts the loop process when it is due.
    fn tend_loop(&mut self, now: Instant) {
        if self.child.is_some() || self.finishing || self.start_at.is_none_or(|at| now < at) {
            return;
        }
        self.publish();
        let mut command = Process::new("/proc/self/exe");
        command.arg("run").process_group(0);
        if Path::new(CONFIG_PATH).exists() {
            // Not as an argument: those are somebody's explicit wish, and go before an installed bundle.
            command.env(env::CONFIG.name, CONFIG_PATH);
        }
        command.env(env::NOTIFY_SOCKET.name, Path::new(DEVICE_DIR).join("notify"));
        command.env(env::DEVICE_DIR.name, DEVICE_DIR);
        command.env(env::STATE_DIR.name, Path::new(DATA).join("state"));
        match Child::start(&mut command) {
            Ok(child) => self.child = Some(child),
            Err(error) => self.loop_ended(now, Duration::ZERO, &format!("cannot be started: {error}")),
        }
    }

    fn loop_ended(&mut self, now: Instant, ran: Duration, how: &str) {
        if self.finishing {
            return;
        }
        match self.restarts.ended(now, ran) {
            Next::StartAfter(pause) => {
                self.start_at = Some(now + pause);
                self.say(&format!("loop: {how}; again in {:.2} s", pause.as_secs_f64()));
                self.set_problem(Part::Loop, Some(how.to_owned()));
            }
            Next::GiveUp => {
                let ends = self.restarts.total();
                self.end(End::Restart, format!("the loop ended {ends} times, the last time it {how}"));
            }
        }
        self.facts.loop_restarts = self.restarts.total();
    }

    /// Feeds the watchdog, if frames flow.
    fn feed(&mut self, now: Instant) {
        if now.saturating_duration_since(self.fed_at) < FEED_EVERY || self.watchdog.is_none() {
            return;
        }
        let silent = self.child.as_ref().map(|child| child.silent_for(now)).filter(|silent| *silent > SILENCE_MAX);
        let word = match silent {
            None => "armed".to_owned(),
            Some(silent) => format!("not fed: the loop gives no sign of life for {:.0} s", silent.as_secs_f64()),
        };
        let was_fed = self.facts.watchdog == "armed";
        if was_fed != silent.is_none() {
            self.say(&format!("watchdog: {word}"));
            self.note_ending(silent.is_some().then(|| self.why_silent()).as_deref());
        }
        self.facts.watchdog = text(&word);
        if silent.is_some() {
            return;
        }
        self.fed_at = now;
        let Some(Err(error)) = self.watchdog.as_mut().map(Watchdog::feed) else { return };
        self.say(&error.to_string());
        self.facts.watchdog = text(&error.to_string());
    }

    /// What the next boot shall know of a watchdog that is not fed.
    fn why_silent(&self) -> String {
        let document = self.child.as_ref().and_then(|child| child.message.document.as_deref());
        let status: Option<serde_json::Value> = document.and_then(|text| serde_json::from_str(text).ok());
        let reasons: Vec<String> = status
            .and_then(|status| status["reasons"].as_array().cloned())
            .unwrap_or_default()
            .iter()
            .filter_map(|reason| Some(reason.as_str()?.to_owned()))
            .collect();
        if reasons.is_empty() { "the loop process hung".into() } else { reasons.join("; ") }
    }

    fn judge_trial(&mut self, now: Instant) {
        let Some(gate) = &mut self.gate else { return };
        // Frames count, and not what else may be degraded: a device without a cable must still take its updates.
        let child = self.child.as_ref().filter(|child| child.silent_for(now) <= SILENCE_MAX);
        let inferences = child.and_then(|child| child.message.frames).unwrap_or(0);
        let healthy = inferences > 0 && child.is_some_and(|child| child.message.flowing);
        let why: Vec<String> = self.problems.iter().map(|(part, why)| format!("{}: {why}", part.as_str())).collect();
        match gate.observe(now, inferences, healthy, &why.join("; ")) {
            Verdict::Wait => self.facts.trial = Some(text(&gate.progress(now))),
            Verdict::Keep => {
                self.gate = None;
                let Some(booted) = self.booted.clone() else { return };
                self.reporter.spawn("commit", Part::Slots, move |reporter| booted.commit(reporter));
            }
            Verdict::Fail(why) => {
                self.gate = None;
                self.end(End::Restart, format!("the trial failed: {why}"));
            }
        }
    }

    /// Tells the loop process what it cannot know.
    fn publish(&mut self) {
        let reason = |(part, why): (&Part, &String)| text(&format!("{}: {why}", part.as_str()));
        let reasons = self.problems.iter().take(DEVICE_REASONS_MAX).map(reason).collect();
        let report = DeviceReport { facts: self.facts.clone(), reasons };
        if self.published.as_ref() == Some(&report) {
            return;
        }
        self.stand_in.set_device(report.clone());
        let path = Path::new(DEVICE_DIR).join(super::FACTS_NAME);
        // On tmpfs, so no sync: the rename is what keeps a reader from half a file. A full tmpfs is tried again.
        let temporary = path.with_extension("new");
        let written = serde_json::to_vec(&report).map_err(std::io::Error::from);
        let written =
            written.and_then(|bytes| fs::write(&temporary, bytes)).and_then(|()| fs::rename(&temporary, path));
        if written.is_ok() {
            self.published = Some(report);
        }
    }

    fn hear(&mut self) {
        let mut datagram = [0; MESSAGE_BYTES_MAX];
        while let Ok(read) = self.socket.recv(&mut datagram) {
            let message = Message::parse(&datagram[..read]);
            match message.ask {
                Some(Ask::Reboot) => self.end(End::Restart, "asked over HTTP".into()),
                Some(Ask::TrySlot) => self.try_other_slot(),
                None => {}
            }
            let now = Instant::now();
            let inferring = message.flowing && message.frames.is_some_and(|frames| frames > 0);
            if let Some(child) = &mut self.child {
                child.heard(message, now);
                if inferring && self.problems.contains_key(&Part::Loop) {
                    self.set_problem(Part::Loop, None);
                }
            }
        }
    }

    fn try_other_slot(&mut self) {
        match self.booted.as_ref().map(Booted::arm) {
            Some(Ok(end)) => self.end(end, "a trial of the other slot was asked for".into()),
            Some(Err(error)) => self.say(&format!("slots: {error}")),
            None => self.say("slots: this machine was not started from a slot"),
        }
    }

    fn handle_events(&mut self) {
        for event in self.events.take() {
            match event {
                Event::Log(line) => self.say(&line),
                Event::Problem(part, problem) => self.set_problem(part, problem),
                Event::Resets(resets) => {
                    if let Some(latest) = resets.first() {
                        self.say(&format!("the last restart: {latest}"));
                    }
                    self.facts.resets = resets.iter().take(self.facts.resets.capacity()).map(|why| text(why)).collect();
                }
                Event::Booted(verdict) => self.started_in(&verdict),
                Event::Committed(content) => {
                    self.on_trial = false;
                    self.facts.trial = Some(text(&format!("committed: {content}")));
                    self.say(&format!("slots: the trial is committed ({content})"));
                }
                Event::PowerButton => {
                    let end = match self.config.device.power_button {
                        PowerButton::Reboot => End::Restart,
                        PowerButton::PowerOff => End::PowerOff,
                    };
                    self.end(end, "the power button".into());
                }
            }
        }
    }

    fn started_in(&mut self, verdict: &BootVerdict) {
        let (line, trial) = match verdict {
            BootVerdict::Committed => return,
            BootVerdict::OnTrial { slot } => {
                self.on_trial = true;
                self.gate = Some(Gate::new(&self.config.device.trial, Instant::now()));
                (format!("slots: {slot} runs on trial"), "on trial".to_owned())
            }
            BootVerdict::TrialFailed { slot, why } => {
                (format!("slots: the trial of {slot} failed: {why}"), format!("{slot} failed: {why}"))
            }
            BootVerdict::TrialNeverStarted { slot } => {
                (format!("slots: the trial of {slot} was never started"), format!("{slot} was never started"))
            }
            BootVerdict::Unexpected { slot, .. } => {
                let line = format!("slots: {slot} runs, which is neither committed nor on trial");
                self.set_problem(Part::Slots, Some(line.clone()));
                (line, format!("{slot} was not expected to run"))
            }
        };
        self.say(&line);
        self.facts.trial = Some(text(&trial));
    }

    /// Takes leave of every process that has ended, ours and orphans.
    fn reap(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            self.signalled(signal.ssi_signo);
        }
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let Some(pid) = status.pid().filter(|_| status != WaitStatus::StillAlive) else { return };
            let now = Instant::now();
            if self.child.as_ref().is_some_and(|child| child.pid == pid) {
                self.read_pipes();
                let Some(child) = self.child.take() else { return };
                let words = if child.last_words.is_empty() { String::new() } else { format!(": {}", child.last_words) };
                let how = format!("{}{words}", child::ending(status));
                self.loop_ended(now, now.saturating_duration_since(child.started_at), &how);
            } else if self.selftest.as_ref().is_some_and(|child| child.pid == pid) {
                self.read_pipes();
                self.selftest = None;
                self.console.push(&format!("selftest {}", child::ending(status)));
                self.console.show_prompt();
            }
        }
    }

    fn signalled(&mut self, number: u32) {
        match i32::try_from(number).map(Signal::try_from) {
            Ok(Ok(Signal::SIGTERM)) => self.end(End::Restart, "SIGTERM".into()),
            Ok(Ok(Signal::SIGINT)) => self.end(End::Restart, "Ctrl-Alt-Delete".into()),
            Ok(Ok(Signal::SIGPWR)) => self.end(End::PowerOff, "the power is failing".into()),
            _ => {}
        }
    }

    fn read_pipes(&mut self) {
        let now = Instant::now();
        let Some(child) = &mut self.child else { return self.read_selftest(now) };
        let (answers, words) = (child.stdout.read(), child.stderr.read());
        if let Some(last) = words.last() {
            child.last_words = child::plain(last).to_owned();
        }
        for line in words {
            self.say(child::plain(&line));
        }
        if let Some(answer) = answers.last().filter(|_| now >= self.answer_due) {
            self.answer_due = now + ANSWER_EVERY;
            self.console.say(answer, now);
        }
        self.read_selftest(now);
    }

    fn read_selftest(&mut self, now: Instant) {
        let Some(selftest) = &mut self.selftest else { return };
        for line in selftest.stdout.read().iter().chain(&selftest.stderr.read()) {
            self.console.push(line);
        }
        if now.saturating_duration_since(selftest.started_at) > SELFTEST_MAX {
            selftest.signal(Signal::SIGKILL);
        }
    }

    fn read_kernel_log(&mut self) {
        let mut record = [0; 2048];
        for _ in 0..KERNEL_MESSAGES_MAX {
            let Some(Ok(read)) = self.kernel_log.as_mut().map(|log| log.read(&mut record)) else { return };
            let text = String::from_utf8_lossy(&record[..read]);
            // `LEVEL,SEQUENCE,TIME,FLAGS;message`
            let Some((head, message)) = text.split_once(';') else { continue };
            let level = head.split(',').next().and_then(|level| level.parse::<u32>().ok()).unwrap_or(u32::MAX);
            if level & 7 <= KERNEL_LEVEL_MAX {
                self.log.push(&format!("kernel: {}", message.lines().next().unwrap_or_default()));
            }
        }
    }

    /// Says a line to people: on the console, and in the log.
    pub(super) fn say(&mut self, line: &str) {
        let line = self.log.push(line);
        self.console.say(&line, Instant::now());
    }

    pub(super) fn set_problem(&mut self, part: Part, problem: Option<String>) {
        match problem {
            Some(problem) => {
                if self.problems.get(&part) != Some(&problem) {
                    self.log.push(&format!("{}: {problem}", part.as_str()));
                    self.problems.insert(part, problem);
                }
            }
            None => drop(self.problems.remove(&part)),
        }
    }

    /// Lets the machine end after this turn; the first reason counts.
    pub(super) fn end(&mut self, end: End, why: String) {
        self.ending.get_or_insert((end, why));
    }

    fn wait(&self) {
        let mut fds: Vec<PollFd<'_>> = vec![
            PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.events.fd(), PollFlags::POLLIN),
        ];
        if let Some((console, writing)) = self.console.fd() {
            let flags = if writing { PollFlags::POLLIN | PollFlags::POLLOUT } else { PollFlags::POLLIN };
            fds.push(PollFd::new(console, flags));
        }
        let children = self.child.iter().chain(&self.selftest);
        let pipes: Vec<BorrowedFd<'_>> =
            children.flat_map(|child| [child.stdout.fd(), child.stderr.fd()]).flatten().collect();
        fds.extend(pipes.into_iter().map(|pipe| PollFd::new(pipe, PollFlags::POLLIN)));
        // Interrupted or not, the next turn looks at everything.
        let _ = poll(&mut fds, PollTimeout::from(TURN_MS));
    }

    /// The disk's slot, if this machine was started from one.
    pub(super) fn slot_words(&self) -> String {
        self.booted.as_ref().map_or_else(|| "this machine was not started from a slot".into(), Booted::describe)
    }
}
