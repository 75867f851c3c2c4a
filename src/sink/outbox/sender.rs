//! The thread of an outbox that sends: the oldest records first, again and again until the peer has them.
//!
//! May not know: what the peer speaks.

use std::time::{Duration, Instant};

use super::reader::Reader;
use super::record::Record;
use crate::log;
use crate::random::Random;

/// First and longest pause before another try: soon for a broker that is restarted, and seldom enough for one that a
/// thousand devices have lost at once.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LONGEST: Duration = Duration::from_secs(30);
/// Longest pause that a peer may ask for.
const AFTER_MAX: Duration = Duration::from_secs(300);
/// How often a peer that nothing is sent to is looked after.
const LOOK: Duration = Duration::from_millis(250);
/// How long the end goes on delivering what waits; a hand-over that is under way may take longer.
const STOP_MAX: Duration = Duration::from_secs(1);
/// Between two lines of the log about refused records.
const SAY_GAP: Duration = Duration::from_secs(10);

/// Whoever hands records to a peer. On a thread of its own; each call has a bound.
pub trait Deliver: Send {
    /// Most records that are handed over at once, at least 1.
    fn batch_max(&self) -> usize;

    /// Brings the connection up, if the peer has one, and keeps it so.
    ///
    /// # Errors
    /// There is none now.
    fn tend(&mut self) -> Result<(), Refused> {
        Ok(())
    }

    /// Hands over records, the oldest first.
    ///
    /// # Errors
    /// None of them has come to its end.
    fn deliver(&mut self, records: &[Record]) -> Result<Delivered, Refused>;

    /// Says goodbye.
    fn close(&mut self) {}
}

/// How far a batch has come.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// The first so many records are with the peer.
    pub delivered: usize,
    /// The next so many will never be taken, for this reason.
    pub refused: Option<(usize, String)>,
}

/// Why nothing could be delivered; it is tried again.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// In words.
    pub why: String,
    /// When to come again, if the peer has said so.
    pub after: Option<Duration>,
}

impl Refused {
    pub fn because(why: impl Into<String>) -> Self {
        Self { why: why.into(), after: None }
    }
}

pub fn run(mut reader: Reader, mut peer: Box<dyn Deliver>) {
    let mut pauses = Pauses::new();
    let mut said_at: Option<Instant> = None;
    let mut stop_at: Option<Instant> = None;
    // What was refused is told until something is delivered.
    let mut refusal: Option<String> = None;
    loop {
        let stopping = reader.shared.lock().stop;
        if stopping && Instant::now() >= *stop_at.get_or_insert_with(|| Instant::now() + STOP_MAX) {
            break;
        }
        let tended = peer.tend();
        let handed = tended.and_then(|()| {
            let records = reader.peek(peer.batch_max(), LOOK);
            if records.is_empty() { Ok(Delivered::default()) } else { peer.deliver(records) }
        });
        match handed {
            Ok(Delivered { delivered, refused }) => {
                let refused_count = refused.as_ref().map_or(0, |(count, _)| *count);
                let idle = delivered + refused_count == 0;
                reader.acknowledge(delivered + refused_count);
                reader.shared.deliver_records(delivered as u64);
                reader.shared.drop_records(refused_count as u64);
                if delivered > 0 {
                    refusal = None;
                }
                if let Some((count, why)) = refused {
                    let said = format!("{count} records were dropped: {why}");
                    if said_at.is_none_or(|at| at.elapsed() >= SAY_GAP) {
                        said_at = Some(Instant::now());
                        log::say(&said);
                    }
                    refusal = Some(said);
                }
                pauses.reset();
                reader.shared.lock().peer_trouble.clone_from(&refusal);
                // What is not committed yet is sent after the next start.
                if stopping && idle {
                    break;
                }
            }
            Err(Refused { why, after }) => {
                reader.shared.lock().peer_trouble = Some(why);
                if stopping {
                    break;
                }
                reader.shared.wait_for_stop(pauses.next(after));
            }
        }
    }
    peer.close();
}

/// Pauses that grow and scatter, so that a thousand devices do not come back in the same moment.
struct Pauses {
    random: Random,
    longest: Duration,
}

impl Pauses {
    fn new() -> Self {
        Self { random: Random::new(uuid::Uuid::new_v4().as_u64_pair().0), longest: RETRY_FIRST }
    }

    fn reset(&mut self) {
        self.longest = RETRY_FIRST;
    }

    /// From half of the longest to all of it; at least what the peer has asked for, within its bound.
    fn next(&mut self, after: Option<Duration>) -> Duration {
        let pause = self.longest.mul_f32(self.random.uniform(0.5, 1.0));
        self.longest = (self.longest * 2).min(RETRY_LONGEST);
        pause.max(after.unwrap_or_default().min(AFTER_MAX))
    }
}
