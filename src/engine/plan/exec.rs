//! Runs a program: its arena, its threads.

use memmap2::{MmapMut, MmapRaw};

use super::kernels::Kernels;
use super::program::Program;
use super::steps::Context;
use super::threads::Team;

/// Values past the end of the arena that a kernel may read, never use: the rest of a vector.
const SLACK: usize = 64;

/// A program with the memory it works in.
#[derive(Debug)]
pub struct Runner<W> {
    program: Program,
    weights: W,
    kernels: &'static Kernels,
    arena: Arena,
    scratch: Vec<Arena>,
    team: Team,
}

/// Zeroed memory that several threads work in. It is mapped, not allocated: an allocator that must align writes the zeros
/// itself, which for the memory of a detector takes longer than all else that a start does.
#[derive(Debug)]
struct Arena(MmapRaw);

impl Arena {
    fn new(volume: usize) -> Self {
        let memory = MmapMut::map_anon(volume.max(1) * size_of::<f32>());
        let memory = memory.unwrap_or_else(|error| panic!("no memory for {volume} values: {error}"));
        // A frame walks through all of it: in pages of 4 kB, translating addresses would be part of the work. A kernel without
        // large pages refuses, and all is as before.
        #[cfg(target_os = "linux")]
        let _ = memory.advise(memmap2::Advice::HugePage);
        Self(memory.into())
    }

    fn pointer(&self) -> *mut f32 {
        self.0.as_mut_ptr().cast()
    }
}

impl<W: AsRef<[f32]>> Runner<W> {
    /// # Panics
    /// The program is not one for these weights and kernels: nothing that runs it asks again.
    pub fn new(program: Program, weights: W, kernels: &'static Kernels, threads: usize) -> Self {
        if let Err(invalid) = program.check(weights.as_ref().len(), kernels.isa) {
            panic!("a program that was not checked: {}: {}", invalid.part, invalid.fault);
        }
        let scratch = program.steps.iter().map(|named| named.step.work().scratch(kernels.isa)).max().unwrap_or(0);
        let items = program.steps.iter().map(|named| named.step.work().items(kernels.isa)).collect();
        let arena = Arena::new(program.arena + SLACK);
        let team = Team::new(threads, items);
        let scratch = (0..team.workers()).map(|_| Arena::new(scratch)).collect();
        Self { program, weights, kernels, arena, scratch, team }
    }

    pub fn weights(&self) -> &W {
        &self.weights
    }

    /// Bytes of all that it works in.
    pub fn work_bytes(&self) -> usize {
        self.arena.0.len() + self.scratch.iter().map(|scratch| scratch.0.len()).sum::<usize>()
    }

    pub fn into_weights(self) -> W {
        self.weights
    }

    pub fn program(&self) -> &Program {
        &self.program
    }

    pub fn input_mut(&mut self) -> &mut [f32] {
        let (offset, volume) = (self.program.input.offset, self.program.input.volume());
        // SAFETY: the input lies inside the arena.
        unsafe { std::slice::from_raw_parts_mut(self.arena.pointer().add(offset), volume) }
    }

    /// All that it works in, for who bakes and wants to see values between.
    pub fn arena(&self) -> &[f32] {
        // SAFETY: so large it was made.
        unsafe { std::slice::from_raw_parts(self.arena.pointer(), self.program.arena) }
    }

    pub fn output(&self, index: usize) -> &[f32] {
        let output = &self.program.outputs[index];
        // SAFETY: the output lies inside the arena.
        unsafe { std::slice::from_raw_parts(self.arena.pointer().add(output.offset), output.volume()) }
    }

    pub fn run(&mut self) {
        let Self { program, weights, kernels, arena, scratch, team } = self;
        let (steps, weights) = (&program.steps, weights.as_ref());
        team.run(&|worker, step, item| {
            let scratch = scratch[worker].pointer();
            let context = Context { arena: arena.pointer(), weights: weights.as_ptr(), scratch, kernels };
            // SAFETY: the program was checked when it was loaded; the team gives each item to one worker, and goes to
            // the next step when all items of one are done.
            unsafe { steps[step].step.work().run(item, &context) };
        });
    }

    /// As [`Runner::run`], on one thread, with the seconds of each step added to `times`.
    pub fn profile(&mut self, times: &mut [f64]) {
        let context = Context {
            arena: self.arena.pointer(),
            weights: self.weights.as_ref().as_ptr(),
            scratch: self.scratch[0].pointer(),
            kernels: self.kernels,
        };
        for (named, time) in self.program.steps.iter().zip(times) {
            let started = std::time::Instant::now();
            let work = named.step.work();
            for item in 0..work.items(self.kernels.isa) {
                // SAFETY: as in run(); this is the only thread.
                unsafe { work.run(item, &context) };
            }
            *time += started.elapsed().as_secs_f64();
        }
    }
}
