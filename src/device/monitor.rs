//! Reads the board's sensors, and what our own PID 1 knows, once a second into the telemetry, and now and then how much room
//! is left on the disks; on a thread of its own: a sensor that hangs (some do, on a dying I2C bus) must not hold up anybody
//! else.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::board::{Sensors, rss_kb};
use super::board_file::BoardFile;
use super::init::FACTS_NAME;
use super::room::Room;
use crate::env;
use crate::pipeline::Telemetry;
use crate::pipeline::telemetry::Part;

/// Temperatures move in seconds; memory is read for people.
const INTERVAL: Duration = Duration::from_secs(1);
/// Readings of the sensors for one look at the disks: a recording of 10 MB a second fills the default mark in ten.
const ROOM_EVERY: u32 = 10;

/// The thread; ends when dropped.
#[derive(Debug)]
pub struct Monitor {
    stop: Option<mpsc::SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Monitor {
    /// Starts reading the sensors of this machine. The first reading is done before this returns, but for the room on disks:
    /// a network's may hang.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(telemetry: Arc<Telemetry>, mut room: Room) -> std::io::Result<Self> {
        let root = Path::new("/");
        let sensors = Sensors::find(root, &BoardFile::for_machine(root).file.sensors);
        let report = env::DEVICE_DIR.get().map(|dir| PathBuf::from(dir).join(FACTS_NAME));
        read(&sensors, report.as_deref(), &telemetry);
        let (stop, stopped) = mpsc::sync_channel(1);
        let thread = crate::thread::spawn("monitor", move || {
            let mut readings = 0_u32;
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                read(&sensors, report.as_deref(), &telemetry);
                if readings.is_multiple_of(ROOM_EVERY) {
                    telemetry.set_problem(Part::Disk, room.problem());
                }
                readings = readings.wrapping_add(1);
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

fn read(sensors: &Sensors, report: Option<&Path>, telemetry: &Telemetry) {
    // PID 1 replaces the file as a whole, so what is there is whole.
    let bytes = report.and_then(|path| std::fs::read(path).ok());
    if let Some(report) = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
        telemetry.set_device(report);
    }
    telemetry.set_board(sensors.temperature_c(), sensors.throttled(), rss_kb());
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.stop.take();
        // Not joined when it hangs in a sensor: it holds nothing but its own files.
        if let Some(thread) = self.thread.take().filter(JoinHandle::is_finished) {
            let _ = thread.join();
        }
    }
}
