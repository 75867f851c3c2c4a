//! PID 1: this binary as the whole userland of a board.
//!
//! | stage | root | does |
//! |---|---|---|
//! | 1 | the initramfs | mounts the kernel's file systems, loads the board's early modules, arms the watchdog, finds the disk and its slot, and executes stage 2 there |
//! | 2 | the slot's squashfs, read-only | starts the loop as a process of its own, then everything else beside it: modules, data partition, network |
//!
//! Nothing optional comes before the loop process, and nothing that may wait runs in the main loop. When anything here
//! fails for good, the machine restarts; after a trial boot that is the old slot.
//! May not know: models, engines, HTTP.

mod child;
mod console;
mod data;
mod device_log;
mod dhcp;
mod events;
mod modules;
mod mounts;
mod network;
mod power;
mod report;
mod restarts;
mod slots;
mod stick;
mod supervisor;

use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::fs;
use std::os::fd::{IntoRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::mount::MsFlags;

use self::console::Console;
use self::data::partition;
use self::events::{Part, Reporter};
use self::modules::Modules;
use self::power::End;
use self::slots::Booted;
use self::supervisor::{Parts, Supervisor};
use super::board_file::{BoardFile, Match};
use super::slot::{find_disk, running_slot};
use super::watchdog::Watchdog;
use crate::config::{self, Config};
use crate::pipeline::status::{DeviceFacts, text};
use crate::pipeline::telemetry::{Facts, HealthLimits, Telemetry};

pub use self::device_log::read as read_log;

/// Where PID 1 and the loop process meet, on tmpfs.
pub const DEVICE_DIR: &str = "/run/firstlight";
/// What PID 1 knows, for the loop process to show.
pub const FACTS_NAME: &str = "device.json";
/// The configuration in the read-only root.
pub const CONFIG_PATH: &str = "/etc/firstlight/config.toml";
/// Where stage 1 mounts the slot's root.
const NEW_ROOT: &str = "/slot";
/// What stage 1 executes there.
const NEXT: &str = "/sbin/init";
/// The watchdog's descriptor, from stage 1 to stage 2.
const WATCHDOG_FD: &str = "FIRSTLIGHT_WATCHDOG_FD";
/// How long the disk, or the watchdog's device, may take to appear after its module was loaded.
const DISK_MAX: Duration = Duration::from_secs(20);
const NODE_MAX: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(20);
/// How long the last words stay on the console before the machine restarts.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What ends the start.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Mount(#[from] mounts::Error),
    #[error("no disk of ours appeared in time: {0}")]
    Disk(super::slot::Error),
    #[error("the loader does not say which slot it started (`firstlight.slot=` on the kernel's command line)")]
    NoSlot,
    #[error("executing {NEXT}: {0}")]
    Execute(nix::Error),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// Whether this process is to be PID 1 of a machine: it is process 1, and called `init`. (A container's process 1 is
/// called by its own name.)
#[must_use]
pub fn invoked() -> bool {
    let name = std::env::args_os().next().unwrap_or_default();
    std::process::id() == 1 && Path::new(&name).file_name() == Some(OsStr::new("init"))
}

/// Runs the machine. Never returns.
pub fn main() -> ! {
    let started = std::panic::catch_unwind(|| if mounts::in_initramfs() { stage1() } else { stage2() });
    let why = match started {
        Ok(Ok(never)) => match never {},
        Ok(Err(error)) => error.to_string(),
        Err(_) => "an internal error".into(),
    };
    eprintln!("firstlight: PID 1 gives up: {why}; restarting in {} s", LAST_WORDS.as_secs());
    std::thread::sleep(LAST_WORDS);
    power::end(&End::Restart);
    // The kernel refused: the watchdog, which nobody feeds any more, is what is left.
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// From the initramfs to the slot's root.
fn stage1() -> Result<Infallible, Error> {
    mounts::mount_basics()?;
    let board = BoardFile::for_machine(Path::new("/")).file;
    say(&format!("firstlight {} on {}", env!("CARGO_PKG_VERSION"), board.name));
    load_modules(&board.modules.early, say);
    let mut watchdog = arm_watchdog(&board, None, say);
    let disk = wait_for_disk(&board, watchdog.as_mut())?;
    let running = running_slot(Path::new("/")).ok_or(Error::NoSlot)?;
    let root = partition(&disk, running.slot.root_partition().into());
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NODEV | MsFlags::MS_NOSUID;
    mounts::mount_one(&root.to_string_lossy(), Path::new(NEW_ROOT), "squashfs", flags, "")?;
    mounts::switch_root(Path::new(NEW_ROOT))?;
    let mut environment = Vec::new();
    if let Some(watchdog) = watchdog {
        environment.push(keep_open(watchdog)?);
    }
    let next = CString::new(NEXT).expect("no zero inside");
    nix::unistd::execve(&next, &[c"init"], &environment).map_err(Error::Execute)
}

/// The descriptor as a variable of the environment, and open beyond `exec`.
fn keep_open(watchdog: Watchdog) -> Result<CString, Error> {
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    let fd = watchdog.into_fd();
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::empty())).map_err(std::io::Error::from)?;
    // From here on it belongs to the program that is executed.
    Ok(CString::new(format!("{WATCHDOG_FD}={}", fd.into_raw_fd())).expect("no zero inside"))
}

fn wait_for_disk(board: &BoardFile, mut watchdog: Option<&mut Watchdog>) -> Result<PathBuf, Error> {
    let deadline = Instant::now() + DISK_MAX;
    loop {
        match find_disk(Path::new("/"), &board.storage.disks) {
            Ok(disk) => return Ok(disk),
            Err(error) if Instant::now() > deadline => return Err(Error::Disk(error)),
            Err(_) => {
                let _ = watchdog.as_mut().map(|watchdog| watchdog.feed());
                std::thread::sleep(LOOK);
            }
        }
    }
}

/// The slot's userland.
fn stage2() -> Result<Infallible, Error> {
    mounts::mount_basics()?;
    fs::create_dir_all(DEVICE_DIR)?;
    let Match { file: board, by, fault } = BoardFile::for_machine(Path::new("/"));
    let (config, config_problem) = read_config();
    let mut said = Vec::new();
    let watchdog = arm_watchdog(&board, config.device.watchdog.timeout_s, |line| said.push(line.to_owned()));
    let (console, console_problem) = Console::open(Path::new(&board.console.device), board.console.baud);
    let hostname = config.device.hostname.clone().unwrap_or_else(|| board.name.clone());
    let _ = nix::unistd::sethostname(&hostname);
    // The HTTP port may be bound to it, and it takes no time.
    let loopback = network::loopback();
    // Ctrl-Alt-Delete becomes SIGINT to us instead of an end without a sync.
    let _ = nix::sys::reboot::set_cad_enabled(false);

    let running = running_slot(Path::new("/"));
    let disk = find_disk(Path::new("/"), &board.storage.disks);
    let booted = running.zip(disk.as_ref().ok().cloned()).map(|(running, disk)| Booted { disk, running });
    let boot_id = super::boot_id();
    let flags = watchdog.as_ref().map(Watchdog::boot_status).unwrap_or_default();
    let (reporter, events) = events::channel().map_err(std::io::Error::from)?;
    let mut supervisor = Supervisor::new(Parts {
        facts: DeviceFacts {
            slot: running.map(|running| text(running.slot.as_str())),
            watchdog: text(if watchdog.is_some() { "armed" } else { "off" }),
            resets: flags.iter().take(1).map(|flag| text(flag)).collect(),
            ..DeviceFacts::default()
        },
        stand_in: stand_in(&config, &board, &boot_id),
        config,
        booted,
        boot_id,
        console,
        watchdog,
        events,
        reporter: reporter.clone(),
    })?;
    supervisor.say(&format!("board {} by {by}", board.name));
    said.into_iter()
        .chain(console_problem)
        .chain(fault.map(|fault| fault.to_string()))
        .for_each(|line| supervisor.say(&line));
    supervisor.set_problem(Part::Config, config_problem);
    match mounts::root_is_read_only() {
        Ok(error) => supervisor.say(&format!("the root is read-only: {error}")),
        Err(problem) => supervisor.set_problem(Part::Root, Some(problem)),
    }
    supervisor.set_problem(Part::Network, loopback.err().map(|error| error.to_string()));
    // The first turn starts the loop process; everything else comes beside it.
    supervisor.turn();
    start_helpers(&supervisor, &reporter, &board, disk.ok(), &hostname, flags);
    let (end, why) = supervisor.run();
    supervisor.finish(&end, &why);
    power::end(&end);
    Err(std::io::Error::other("the kernel does not end the machine").into())
}

/// The configuration, or its defaults with what is wrong with it: the loop process says the same and gives up, and a
/// trial that brought a bad one is taken back.
fn read_config() -> (Config, Option<String>) {
    let path = Path::new(CONFIG_PATH);
    if !path.exists() {
        return (Config::default(), None);
    }
    match Config::read(path) {
        Ok(config) => (config, None),
        Err(error) => (Config::default(), Some(error.to_string())),
    }
}

/// Telemetry without a loop: what PID 1 shows until the loop process speaks for itself.
fn stand_in(config: &Config, board: &BoardFile, boot_id: &str) -> Arc<Telemetry> {
    let limits = HealthLimits {
        frame_age_max: config::seconds(config.health.frame_age_max_s),
        start_grace: config::seconds(config.health.start_grace_s),
    };
    let telemetry = Telemetry::new(Instant::now(), limits);
    telemetry.set_facts(Facts { board_name: text(&board.name), boot_id: text(boot_id), ..Facts::default() });
    Arc::new(telemetry)
}

/// What is brought up beside the loop, each on a thread of its own.
fn start_helpers(
    supervisor: &Supervisor,
    reporter: &Reporter,
    board: &BoardFile,
    disk: Option<PathBuf>,
    hostname: &str,
    flags: Vec<&'static str>,
) {
    let device = supervisor.config.device.clone();
    let late: Vec<String> = board.modules.late.iter().chain(&device.modules).cloned().collect();
    let (network, hostname) = (device.network, hostname.to_owned());
    let (boot_id, data) = (supervisor.boot_id.clone(), device.data);
    let own = disk.map(|disk| partition(&disk, data::PARTITION));
    reporter.spawn("modules", Part::Modules, move |reporter| {
        let mut problems = Vec::new();
        load_modules(&late, |problem| problems.push(problem.to_owned()));
        reporter.problem(Part::Modules, (!problems.is_empty()).then(|| problems.join("; ")));
        // Only now may the file system be known, and the interface be there.
        if let Some(partition) = data.partition.clone().or(own) {
            reporter.spawn("data", Part::Data, move |reporter| {
                data::keep(reporter, &data, &partition, |reporter| {
                    data::resets::begin(reporter, &boot_id, &flags);
                    reporter.spawn("stick", Part::Data, stick::watch);
                });
            });
        }
        network::keep(reporter, &network, &hostname);
    });
    if let Some(booted) = supervisor.booted.clone() {
        reporter.spawn("slots", Part::Slots, move |reporter| booted.judge(reporter));
    }
    reporter.spawn("buttons", Part::Modules, power::watch_buttons);
}

/// Loads what can be loaded; a driver whose hardware is absent is said, and is no reason to stop.
fn load_modules(names: &[String], mut say: impl FnMut(&str)) {
    match Modules::of_running_kernel() {
        Ok(modules) => {
            names.iter().filter_map(|name| modules.load(name).err()).for_each(|error| say(&error.to_string()))
        }
        Err(error) => say(&error.to_string()),
    }
}

/// Takes over the watchdog of stage 1, or opens the board's.
fn arm_watchdog(board: &BoardFile, timeout_s: Option<u32>, mut say: impl FnMut(&str)) -> Option<Watchdog> {
    if board.watchdog.device.is_empty() {
        return None;
    }
    let (device, timeout_s) = (Path::new(&board.watchdog.device), timeout_s.unwrap_or(board.watchdog.timeout_s));
    let inherited = std::env::var(WATCHDOG_FD).ok().and_then(|text| text.parse::<RawFd>().ok());
    if let Some(fd) = inherited {
        // SAFETY: stage 1 left this descriptor open for us and named it; it is taken once, before any thread starts.
        let watchdog = unsafe { Watchdog::inherit(fd, device, timeout_s) };
        say(&watchdog.description());
        return Some(watchdog);
    }
    let deadline = Instant::now() + NODE_MAX;
    while !device.exists() && Instant::now() < deadline {
        std::thread::sleep(LOOK);
    }
    match Watchdog::open(device, timeout_s) {
        Ok(watchdog) => Some(watchdog),
        Err(error) => {
            say(&error.to_string());
            None
        }
    }
}

/// A line of stage 1, which has no console of its own yet but the kernel's.
fn say(line: &str) {
    eprintln!("firstlight: {line}");
}
