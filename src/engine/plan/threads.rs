//! A fixed team of threads that share out the items of a program's steps.
//!
//! Work is counted, not workers: a step is over when all its items are done, whoever did them. A worker that the system
//! keeps from running holds up at most the one item it has in hand, and finds its way when it is back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// How often a worker looks again before it lets others run: the items of a step end within microseconds of each other.
const SPINS: u32 = 2_000;
/// How often it lets others run before it sleeps; only between two inferences does it wait so long.
const YIELDS: u32 = 50;

/// What is done for one item: worker, step, item.
type Task<'t> = dyn Fn(usize, usize, usize) + Sync + 't;

/// The items of one step. The run they belong to stands beside the next item and is exchanged together with it, so that
/// a late worker takes none of another run: not even of the one whose number is the same again 2^32 runs later, unless it
/// was kept from running for all of them.
#[derive(Debug, Default)]
struct Progress {
    /// Run (upper half) and next item (lower half).
    next: AtomicU64,
    done: AtomicU32,
}

#[derive(Debug)]
struct Board {
    items: Vec<u32>,
    steps: Vec<Progress>,
    /// Number of the run; workers wait for the next one.
    run: AtomicU32,
    /// The task of this run, valid until all its items are done.
    task: Mutex<Option<TaskPointer>>,
    woken: Condvar,
    stop: AtomicBool,
    failed: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
struct TaskPointer(*const Task<'static>);

// SAFETY: the task itself is Sync; it is called only while the caller of run() waits for it.
unsafe impl Send for TaskPointer {}

/// The team. The thread that calls [`Team::run`] is worker 0.
#[derive(Debug)]
pub struct Team {
    board: Arc<Board>,
    threads: Vec<JoinHandle<()>>,
}

impl Team {
    /// `workers` threads in all, for steps of so many items.
    pub fn new(workers: usize, items: Vec<usize>) -> Self {
        let items: Vec<u32> = items.into_iter().map(|items| u32::try_from(items).expect("checked")).collect();
        let board = Arc::new(Board {
            steps: items.iter().map(|_| Progress::default()).collect(),
            items,
            run: AtomicU32::new(0),
            task: Mutex::new(None),
            woken: Condvar::new(),
            stop: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        });
        // Where the system has no more threads, those there are do the work; their numbers have no gap.
        let threads = (1..workers)
            .map_while(|worker| {
                let board = Arc::clone(&board);
                crate::thread::spawn(format!("plan-{worker}"), move || board.serve(worker)).ok()
            })
            .collect();
        Self { board, threads }
    }

    /// Workers, this thread among them: as many as were wanted, unless the system had no more.
    pub fn workers(&self) -> usize {
        self.threads.len() + 1
    }

    /// Runs all items of all steps, step by step.
    ///
    /// # Panics
    /// When an item did.
    pub fn run(&mut self, task: &Task<'_>) {
        let board = &*self.board;
        // SAFETY: only the lifetime changes. Workers call the task only for items they have taken, and this function
        // returns when all items are done.
        let pointer = TaskPointer(unsafe { std::mem::transmute::<*const Task<'_>, *const Task<'static>>(task) });
        let run = board.run.load(Relaxed).wrapping_add(1);
        for progress in &board.steps {
            progress.done.store(0, Relaxed);
            progress.next.store(u64::from(run) << 32, Release);
        }
        *lock(&board.task) = Some(pointer);
        board.run.store(run, Release);
        if !self.threads.is_empty() {
            drop(lock(&board.task));
            board.woken.notify_all();
        }
        board.work(0, run, pointer);
        *lock(&board.task) = None;
        assert!(!board.failed.swap(false, Relaxed), "a step of the plan panicked");
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.board.stop.store(true, Release);
        drop(lock(&self.board.task));
        self.board.woken.notify_all();
        for thread in self.threads.drain(..) {
            // It ends by itself; what it panicked with was reported by run().
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    /// A worker's life.
    fn serve(&self, worker: usize) {
        let mut seen = 0;
        while let Some((run, task)) = self.await_run(seen) {
            seen = run;
            if let Some(task) = task {
                self.work(worker, run, task);
            }
        }
    }

    /// Waits for a run after `seen`; `None` when the team ends.
    fn await_run(&self, seen: u32) -> Option<(u32, Option<TaskPointer>)> {
        for turn in 0..SPINS + YIELDS {
            if self.run.load(Acquire) != seen || self.stop.load(Relaxed) {
                break;
            }
            relax(turn);
        }
        let mut task = lock(&self.task);
        while self.run.load(Acquire) == seen && !self.stop.load(Acquire) {
            task = self.woken.wait(task).unwrap_or_else(PoisonError::into_inner);
        }
        (!self.stop.load(Acquire)).then(|| (self.run.load(Acquire), *task))
    }

    fn work(&self, worker: usize, run: u32, task: TaskPointer) {
        for (step, progress) in self.steps.iter().enumerate() {
            let items = self.items[step];
            while let Some(item) = progress.take(run, items) {
                // SAFETY: an item of this run was taken and is not done, so the run is not over and its task is valid.
                let task = unsafe { &*task.0 };
                // One that panics must not leave the others waiting.
                if catch_unwind(AssertUnwindSafe(|| task(worker, step, item as usize))).is_err() {
                    self.failed.store(true, Relaxed);
                }
                progress.done.fetch_add(1, Release);
            }
            let mut turn = 0;
            while progress.done.load(Acquire) < items {
                // A new run says that this one is over.
                if progress.next.load(Relaxed) >> 32 != u64::from(run) {
                    return;
                }
                relax(turn);
                turn = turn.saturating_add(1);
            }
        }
    }
}

/// A pause that grows with the number of turns.
fn relax(turn: u32) {
    if turn < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
}

impl Progress {
    /// The next item of a run, if one is left.
    fn take(&self, run: u32, items: u32) -> Option<u32> {
        let mut next = self.next.load(Acquire);
        loop {
            // The lower half.
            let item = u32::try_from(next & u64::from(u32::MAX)).expect("32 bits");
            if next >> 32 != u64::from(run) || item >= items {
                return None;
            }
            match self.next.compare_exchange_weak(next, next + 1, Acquire, Acquire) {
                Ok(_) => return Some(item),
                Err(found) => next = found,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicI32;
    use std::sync::atomic::Ordering::SeqCst;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::random::Random;

    /// Counts what is done to each item; a step's items find all items of the steps before it done.
    struct Ledger {
        done: Vec<Vec<AtomicU32>>,
    }

    impl Ledger {
        fn new(items: &[usize]) -> Self {
            Self { done: items.iter().map(|&items| (0..items).map(|_| AtomicU32::new(0)).collect()).collect() }
        }

        /// Relaxed: that what one step did is seen by the next is the team's matter.
        fn note(&self, run: u32, step: usize, item: usize) {
            if let Some(before) = step.checked_sub(1) {
                assert!(self.done[before].iter().all(|done| done.load(Relaxed) == run), "step {before} is not over");
            }
            assert_eq!(self.done[step][item].fetch_add(1, Relaxed), run - 1, "item {item} of step {step}");
        }

        fn check(&self, run: u32) {
            assert!(self.done.iter().flatten().all(|done| done.load(Relaxed) == run));
        }
    }

    /// Long enough that a test which hangs is known to, on a machine that has much else to do.
    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn each_item_is_done_once_and_in_its_step() {
        for workers in 1..=8 {
            let mut random = Random::new(workers as u64);
            let items: Vec<usize> = [1, 4, 101, 4, 1, 101].map(|most| random.below(most)).to_vec();
            let ledger = Ledger::new(&items);
            let mut team = Team::new(workers, items);
            assert_eq!(team.workers(), workers);
            for run in 1..=250 {
                team.run(&|worker, step, item| {
                    assert!(worker < workers);
                    // So that others come between whatever can be between.
                    if (run as usize + item) % 7 == worker % 7 {
                        std::thread::yield_now();
                    }
                    ledger.note(run, step, item);
                });
                ledger.check(run);
                // Now and then so long that workers fall asleep, or half asleep.
                if random.chance(0.02) {
                    std::thread::sleep(Duration::from_micros(random.below(300) as u64));
                }
            }
        }
    }

    /// What a run works on is its caller's, and gone when it is over: a worker that comes late must not touch it.
    #[test]
    fn late_workers_take_nothing_of_a_run_that_is_over() {
        let mut team = Team::new(4, vec![1, 2, 1]);
        for run in 0..3000_usize {
            let mut mine = vec![run; 4];
            let place = AtomicI32::new(0);
            let values = mine.as_mut_ptr() as usize;
            team.run(&|_, step, item| {
                // SAFETY: each item of each step has its own value of four.
                unsafe { *(values as *mut usize).add([0, 1, 3][step] + item) += 1 };
                place.fetch_add(1, SeqCst);
            });
            assert_eq!((mine.iter().sum::<usize>(), place.into_inner()), (4 * run + 4, 4));
            drop(mine);
        }
    }

    #[test]
    fn runs_are_told_apart_when_their_number_begins_anew() {
        let mut team = Team::new(3, vec![5, 0, 7]);
        // As if there had been so many; the workers sleep or wait for another number than 0.
        team.board.run.store(u32::MAX - 50, SeqCst);
        let ledger = Ledger::new(&[5, 0, 7]);
        for run in 1..=100 {
            team.run(&|_, step, item| {
                if step != 2 {
                    ledger.note(run, step, item);
                } else {
                    ledger.done[2][item].fetch_add(1, Relaxed);
                }
            });
            ledger.check(run);
        }
    }

    #[test]
    fn an_item_that_panics_is_reported_and_the_team_goes_on() {
        for workers in [1, 3] {
            let items = vec![20, 20];
            let mut team = Team::new(workers, items.clone());
            for round in 0..3 {
                let ledger = Ledger::new(&items);
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    team.run(&|_, step, item| {
                        ledger.done[step][item].fetch_add(1, Relaxed);
                        // Without a message on the console.
                        if (step, item) == (0, 7 + round) {
                            std::panic::resume_unwind(Box::new("an item"));
                        }
                    });
                }));
                let message = outcome.unwrap_err();
                assert_eq!(message.downcast_ref(), Some(&"a step of the plan panicked"));
                ledger.check(1);
                let ledger = Ledger::new(&items);
                team.run(&|_, step, item| ledger.note(1, step, item));
                ledger.check(1);
            }
        }
    }

    /// The system's numbers of a team's threads, each of which takes one item and waits for the others.
    fn numbers(team: &mut Team) -> Vec<i32> {
        let numbers: Vec<AtomicI32> = (0..team.workers()).map(|_| AtomicI32::new(0)).collect();
        let started = Instant::now();
        team.run(&|worker, _, _| {
            numbers[worker].store(nix::unistd::gettid().as_raw(), SeqCst);
            while numbers.iter().any(|number| number.load(SeqCst) == 0) {
                assert!(started.elapsed() < PATIENCE, "a worker does not come");
                std::thread::yield_now();
            }
        });
        numbers.into_iter().map(AtomicI32::into_inner).collect()
    }

    /// Nanoseconds that a thread has run; `None` when it has ended.
    fn time_of(thread: i32) -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
        Some(text.split_whitespace().next()?.parse().unwrap())
    }

    #[test]
    fn every_worker_wakes_up_again_and_again() {
        let mut team = Team::new(4, vec![4]);
        let first = numbers(&mut team);
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(2));
            assert_eq!(numbers(&mut team), first);
        }
    }

    #[test]
    fn a_team_that_has_nothing_to_do_takes_no_time_and_ends_when_it_is_dropped() {
        let mut team = Team::new(3, vec![3]);
        let threads = numbers(&mut team)[1..].to_vec();
        let times = || threads.iter().map(|&thread| time_of(thread)).collect::<Vec<_>>();
        let wait_until = |what: &str, is_so: &dyn Fn() -> bool| {
            let started = Instant::now();
            while !is_so() {
                assert!(started.elapsed() < PATIENCE, "they never {what}");
            }
        };
        wait_until("sleep", &|| {
            let before = times();
            std::thread::sleep(Duration::from_millis(50));
            times() == before
        });
        drop(team);
        // They have ended, but it takes the system a moment to forget them.
        wait_until("end", &|| times() == [None, None]);
    }

    #[test]
    fn a_team_may_end_at_any_moment() {
        for round in 0..200_u64 {
            let mut team = Team::new(4, vec![3, 1]);
            if round % 3 > 0 {
                team.run(&|_, _, _| {});
            }
            if round % 2 > 0 {
                std::thread::sleep(Duration::from_micros(round * 5));
            }
        }
    }

    #[test]
    fn nobody_is_a_team_of_one() {
        let mut team = Team::new(0, vec![2]);
        let count = AtomicU32::new(0);
        team.run(&|worker, _, _| {
            assert_eq!(worker, 0);
            count.fetch_add(1, SeqCst);
        });
        assert_eq!((team.workers(), count.into_inner()), (1, 2));
    }
}
