//! The threads that work for clients: a fixed number, behind a queue of a fixed length, and of low priority, so that the
//! camera loop goes first whatever the clients ask.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use smol::channel::{Receiver, Sender, TrySendError};

use crate::priority::give_way;

/// Jobs that may wait. Twice the connections that a server has: a client waits for its answer before it asks again, so
/// that a longer queue would never fill.
pub const QUEUE_MAX: usize = 512;
/// How far threads that work for clients give way. Of 19: the kernel gives such a thread a thirtieth of the time of a
/// normal one where both want a core, which slows clients and does not starve them.
pub const CLIENTS_NICE: i32 = 15;
/// How far the thread gives way that only carries bytes and health: a quarter of a core remains to it, so that a monitor is
/// answered by a device whose cores are all busy, and a flood of connections takes little from the loop.
pub const PORT_NICE: i32 = 5;

type Job = Box<dyn FnOnce() + Send>;

/// Why a job was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("{QUEUE_MAX} requests are waiting already")]
    Full,
    #[error("an internal error ended the work")]
    Died,
}

/// The threads. They end when this is dropped, each after the job in hand.
#[derive(Debug)]
pub struct Workers {
    queue: Sender<Job>,
    threads: usize,
}

impl Workers {
    /// # Errors
    /// The system gives no thread.
    pub fn start(threads: usize) -> io::Result<Arc<Self>> {
        let (queue, jobs) = smol::channel::bounded(QUEUE_MAX);
        for number in 0..threads {
            let jobs = jobs.clone();
            crate::thread::spawn(format!("api-{number}"), move || work(&jobs))?;
        }
        Ok(Arc::new(Self { queue, threads }))
    }

    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Has a job done and waits for what it returns, without blocking the caller's thread. A job whose caller has gone
    /// before its turn is not done.
    ///
    /// # Errors
    /// The queue is full, or the job panicked.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, Refused> {
        let (done, result) = smol::channel::bounded(1);
        let job = Box::new(move || {
            if !done.is_closed() {
                let _ = done.try_send(job());
            }
        });
        self.queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => Refused::Full,
            TrySendError::Closed(_) => Refused::Died,
        })?;
        result.recv().await.map_err(|_| Refused::Died)
    }
}

fn work(jobs: &Receiver<Job>) {
    give_way(CLIENTS_NICE);
    while let Ok(job) = jobs.recv_blocking() {
        // Its caller hears of a panic by the result that never comes.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_done_and_a_panic_ends_no_thread() {
        let workers = Workers::start(1).unwrap();
        let died: Result<(), Refused> = smol::block_on(workers.run(|| panic!("on purpose")));
        assert_eq!(died, Err(Refused::Died));
        assert_eq!(smol::block_on(workers.run(|| 6 * 7)), Ok(42));
    }

    #[test]
    fn a_full_queue_refuses_at_once() {
        let workers = Workers::start(1).unwrap();
        let (release, gate) = smol::channel::bounded::<()>(1);
        let mut waiting = Vec::new();
        // The first poll queues a job. The thread takes one of them off the queue, sooner or later.
        let full = loop {
            let gate = gate.clone();
            let mut job = Box::pin(workers.run(move || gate.recv_blocking().is_err()));
            match smol::block_on(smol::future::poll_once(&mut job)) {
                Some(refused) => break refused,
                None => waiting.push(job),
            }
        };
        assert_eq!(full, Err(Refused::Full));
        assert!((QUEUE_MAX..=QUEUE_MAX + 1).contains(&waiting.len()), "{} jobs were queued", waiting.len());
        drop(release);
    }

    #[test]
    fn workers_give_way_to_the_loop() {
        let workers = Workers::start(1).unwrap();
        // SAFETY: no pointers; process 0 is the calling thread.
        let nice = smol::block_on(workers.run(|| unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) })).unwrap();
        assert_eq!(nice, CLIENTS_NICE);
    }
}
