//! The screen of a device: the live picture with what was seen in it, the state, and what is wrong in large letters.
//!
//! A thread of low priority looks at what the loop leaves for viewers, at a bounded rate, and draws what has changed. A
//! screen that is absent, unplugged or taken degrades the device and is tried again for ever; the loop waits for none.

mod fb;
mod kms;
mod layout;
mod pixels;
mod png;
mod screen;
mod target;
mod text;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use target::{Kind, Target, parse};

use crate::frame::{Frame, Size};
use crate::log;
use crate::pipeline::Telemetry;
use crate::pipeline::telemetry::{Health, Part};
use crate::priority::{VIEWER_NICE, give_way};
use crate::sink::{Glance, Snapshot};
use crate::thread::wait_for_end;
use pixels::Rotation;
use screen::Screen;

/// The figures change without a new picture: the uptime, the age of the last frame.
const REFRESH: Duration = Duration::from_secs(1);
/// First and longest pause before an absent screen is looked for again: soon for a cable that is being plugged in, rarely
/// enough to cost nothing where there never is one.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(10);
/// How long the end waits for the screen to be given back.
const STOP_MAX: Duration = Duration::from_secs(2);

/// What can be wrong with the setting.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("display `{name}`: {why}")]
    Target { name: String, why: String },
    #[error("display: the system gives no thread: {0}")]
    Thread(std::io::Error),
}

/// Something that shows pictures.
trait Surface {
    /// Of the screen itself, before the picture is turned.
    fn size(&self) -> Size;

    /// Shows a picture that fills the screen once it is turned.
    ///
    /// # Errors
    /// Words for what is wrong; the surface must be opened again.
    fn show(&mut self, frame: &Frame) -> Result<(), String>;

    /// Least time between two pictures.
    fn pause(&self) -> Duration {
        Duration::ZERO
    }
}

/// The thread that draws; ends when dropped, and gives the screen back.
#[derive(Debug)]
pub struct Display {
    stop: Option<mpsc::SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Display {
    /// Starts drawing at most `fps` pictures a second. The screen need not be there yet.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(target: Target, fps: f64, telemetry: Arc<Telemetry>, snapshot: &Snapshot) -> Result<Self, Error> {
        let (stop, stopped) = mpsc::sync_channel(1);
        let period = Duration::from_secs_f64(1.0 / fps);
        let glance = snapshot.glance();
        let viewer =
            Viewer { target, telemetry, snapshot: snapshot.clone(), glance, shown: None, due_at: Instant::now() };
        let thread = crate::thread::spawn("display", move || {
            give_way(VIEWER_NICE);
            let telemetry = Arc::clone(&viewer.telemetry);
            if catch_unwind(AssertUnwindSafe(|| viewer.run(period, &stopped))).is_err() {
                telemetry.set_problem(Part::Display, Some("its thread died of an internal error".into()));
            }
        });
        Ok(Self { stop: Some(stop), thread: Some(thread.map_err(Error::Thread)?) })
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.stop.take();
        let Some(thread) = self.thread.take() else { return };
        // Not joined when it hangs in a driver: the screen is the driver's then.
        wait_for_end(&thread, STOP_MAX);
    }
}

struct Viewer {
    target: Target,
    telemetry: Arc<Telemetry>,
    snapshot: Snapshot,
    glance: Glance,
    /// State and reasons on the screen.
    shown: Option<Health>,
    /// When it is drawn again without a change.
    due_at: Instant,
}

impl Viewer {
    fn run(mut self, period: Duration, stopped: &Receiver<()>) {
        let (mut retry, mut said) = (RETRY_FIRST, String::new());
        loop {
            // A screen that is open lives within `session`: what ends it is told, and the next begins.
            let ended = open(&self.target).and_then(|surface| {
                retry = RETRY_FIRST;
                self.session(surface, period, stopped)
            });
            let Err(why) = ended else { return };
            let problem = format!("{}: {why}", self.target.name);
            if problem != said {
                log::say(&format!("display: {problem}"));
                said.clone_from(&problem);
            }
            self.telemetry.set_problem(Part::Display, Some(problem));
            if stopped.recv_timeout(retry) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            retry = (retry * 2).min(RETRY_LONGEST);
        }
    }

    /// Draws until it is asked to stop, or the screen fails.
    fn session(
        &mut self,
        mut surface: Box<dyn Surface>,
        period: Duration,
        stopped: &Receiver<()>,
    ) -> Result<(), String> {
        let mut screen = Screen::new(self.target.rotation.picture(surface.size()));
        let period = period.max(surface.pause());
        self.shown = None;
        let mut next_at = Instant::now();
        loop {
            self.draw(&mut screen, &mut *surface)?;
            self.telemetry.set_problem(Part::Display, None);
            next_at = (next_at + period).max(Instant::now());
            let wait = next_at.saturating_duration_since(Instant::now());
            if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                return Ok(());
            }
        }
    }

    /// Draws what has changed, if anything has.
    fn draw(&mut self, screen: &mut Screen, surface: &mut dyn Surface) -> Result<(), String> {
        let health = self.telemetry.health();
        let said = |shown: &Health| {
            (shown.state, shown.flowing, &shown.reasons) == (health.state, health.flowing, &health.reasons)
        };
        let changed = self.snapshot.look(&mut self.glance) | !self.shown.as_ref().is_some_and(said);
        let now = Instant::now();
        if !changed && now < self.due_at {
            return Ok(());
        }
        self.due_at = now + REFRESH;
        surface.show(screen.draw(&self.telemetry.status(), health.flowing, &mut self.glance))?;
        self.shown = Some(health);
        Ok(())
    }
}

fn open(target: &Target) -> Result<Box<dyn Surface>, String> {
    let rotation: Rotation = target.rotation;
    Ok(match &target.kind {
        Kind::Framebuffer { device } => Box::new(fb::Framebuffer::open(device, rotation)?),
        Kind::Drm { device, connector, mode } => {
            Box::new(kms::Output::open(device, connector.as_deref(), *mode, rotation)?)
        }
        Kind::Png { path, size } => Box::new(png::Picture::new(path, *size, rotation)),
    })
}
