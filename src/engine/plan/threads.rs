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

/// The items of one step. The run they belong to stands beside the next item, so that a late worker takes none of another
/// run.
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
        let threads = (1..workers)
            .filter_map(|worker| {
                let board = Arc::clone(&board);
                let thread = std::thread::Builder::new().name(format!("plan-{worker}"));
                // Without it the others do its work.
                thread.spawn(move || board.serve(worker)).ok()
            })
            .collect();
        Self { board, threads }
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
