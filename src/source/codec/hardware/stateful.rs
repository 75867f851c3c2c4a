//! The order of calls that Linux's "Memory-to-Memory Stateful Video Decoder Interface" asks for: coded data in, pictures
//! in the order of presentation out, through changes of size, the end of the stream and jumps in it.
//!
//! May not know: what the data is coded with; devices, which a test may play. Every wait has a bound, and every error here
//! means that the device is of no use for this stream any more.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::source::codec::Picture;

/// How long a device may take to announce the size of a stream; one that was told the right size by us need not.
const ANNOUNCE_MAX: Duration = Duration::from_millis(200);
/// How long the last pictures of the old size may take after a new one was announced. Not every driver flags the last.
const RESIZE_MAX: Duration = Duration::from_millis(300);
/// Most access units without a sign of life: 16 pictures that wait for their turn, as two fields each, and as many again
/// in a deep pipeline.
const UNANSWERED_MAX: u32 = 64;
/// Most pictures taken at once: twice all buffers that a queue may have, so that no driver holds the loop for ever.
const TAKEN_MAX: usize = 64;

/// What a device gave back.
#[derive(Debug, Default)]
pub struct Taken {
    /// That of the access unit.
    pub id: u64,
    /// None: damaged, or nothing but a flag.
    pub picture: Option<Picture>,
    pub damaged: bool,
    /// No other comes before the pictures are set up again, or the device is started.
    pub last: bool,
}

/// A device, call by call. None of them waits but [`Port::wait`]; errors say what failed.
pub trait Port: Send {
    /// Waits until there is something to take, or time has passed; `false` where nothing can come.
    fn wait(&mut self, bound: Duration) -> Result<bool, String>;
    /// Copies an access unit into a free buffer, which the device then has; `false` where none is free.
    fn give(&mut self, unit: &[u8], id: u64) -> Result<bool, String>;
    /// Whether it has announced a size that is not the one set up.
    fn resized(&mut self) -> Result<bool, String>;
    /// Makes room for pictures of the size that it announced, instead of what room there was.
    fn set_up(&mut self) -> Result<(), String>;
    /// The next picture, if there is one.
    fn take(&mut self) -> Result<Option<Taken>, String>;
    /// Decode all that was given, and flag the last picture.
    fn stop(&mut self) -> Result<(), String>;
    /// Go on after a stop.
    fn start(&mut self) -> Result<(), String>;
    /// Forget all that was given.
    fn restart(&mut self) -> Result<(), String>;
}

/// A device at work on a stream.
pub struct Stateful {
    port: Box<dyn Port>,
    /// There is room for pictures.
    set_up: bool,
    /// When a new size, which was announced, is taken over even without the last picture of the old.
    resizes_at: Option<Instant>,
    draining: bool,
    /// Access units since the last sign of life.
    unanswered: u32,
    taken: VecDeque<Taken>,
}

impl Stateful {
    pub fn new(port: Box<dyn Port>) -> Self {
        Self { port, set_up: false, resizes_at: None, draining: false, unanswered: 0, taken: VecDeque::new() }
    }

    /// Gives the device an access unit; what it has decoded is had from [`Self::take`].
    pub fn send(&mut self, unit: &[u8], id: u64, deadline: Instant) -> Result<(), String> {
        self.collect()?;
        while !self.port.give(unit, id)? {
            self.wait(deadline, "it takes no access unit")?;
        }
        self.unanswered += 1;
        if self.unanswered > UNANSWERED_MAX {
            return Err(format!("it gives no picture for {UNANSWERED_MAX} access units"));
        }
        if self.set_up {
            return self.collect();
        }
        let announced_by = deadline.min(Instant::now() + ANNOUNCE_MAX);
        while !self.set_up && self.pause(announced_by)? {}
        if self.set_up { Ok(()) } else { self.make_room() }
    }

    /// What came back, oldest first.
    pub fn take(&mut self) -> Option<Taken> {
        self.taken.pop_front()
    }

    /// Waits for something to come back; `false` where nothing does until then.
    pub fn pause(&mut self, until: Instant) -> Result<bool, String> {
        let left = until.saturating_duration_since(Instant::now());
        let bound = self.resizes_at.map_or(left, |at| left.min(at.saturating_duration_since(Instant::now())));
        let may_come = !left.is_zero() && self.port.wait(bound)?;
        self.collect()?;
        Ok(may_come)
    }

    /// Has all pictures decoded that were given, after which another stream may begin.
    pub fn drain(&mut self, deadline: Instant) -> Result<(), String> {
        if !self.set_up {
            return Ok(());
        }
        self.port.stop()?;
        self.draining = true;
        while self.draining {
            self.wait(deadline, "it does not come to the end of the stream")?;
        }
        self.unanswered = 0;
        self.port.start()
    }

    /// Forgets all pictures.
    pub fn restart(&mut self) -> Result<(), String> {
        (self.resizes_at, self.unanswered) = (None, 0);
        self.taken.clear();
        self.port.restart()
    }

    /// As [`Self::pause`], for what must come.
    fn wait(&mut self, deadline: Instant, why: &str) -> Result<(), String> {
        let resizing = self.resizes_at.is_some();
        if self.pause(deadline)? || resizing && Instant::now() < deadline { Ok(()) } else { Err(why.into()) }
    }

    /// Takes what is there, without waiting.
    pub fn collect(&mut self) -> Result<(), String> {
        if self.port.resized()? {
            if self.set_up {
                self.resizes_at.get_or_insert(Instant::now() + RESIZE_MAX);
            } else {
                self.make_room()?;
            }
        }
        for _ in 0..TAKEN_MAX {
            if !self.set_up {
                break;
            }
            let Some(taken) = self.port.take()? else { break };
            self.unanswered = 0;
            let last = taken.last;
            if taken.picture.is_some() || taken.damaged {
                self.taken.push_back(taken);
            }
            if last {
                let resized = self.port.resized()? || self.resizes_at.is_some();
                if self.draining && !resized {
                    self.draining = false;
                    break;
                }
                self.make_room()?;
            }
        }
        if self.resizes_at.is_some_and(|at| Instant::now() >= at) { self.make_room() } else { Ok(()) }
    }

    fn make_room(&mut self) -> Result<(), String> {
        self.resizes_at = None;
        self.set_up = true;
        self.port.set_up()
    }
}
