//! The worker of accelerators, through the binary and with the real ONNX Runtime: what it answers, and what becomes of the
//! device when it is killed, stopped, starved or has its memory spoilt.
//!
//! `scripts/test` names the library; without it the tests say so and do nothing.

mod support;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use support::{Firstlight, Running, firstlight};

/// Nothing of this takes longer on the slowest machine.
const LIMIT: Duration = Duration::from_secs(60);

/// The binary with ONNX Runtime at hand; `None`, said aloud, where there is no library.
fn with_library(args: &[&str]) -> Option<Firstlight> {
    let Some(library) = support::onnxruntime() else {
        eprintln!("NOT TESTED: {}", support::NO_LIBRARY);
        return None;
    };
    let mut firstlight = firstlight(args);
    firstlight.command.env("FIRSTLIGHT_ONNXRUNTIME", library);
    Some(firstlight)
}

fn predictions(stdout: &str) -> Value {
    serde_json::from_str::<Value>(stdout.lines().next().expect("a line")).expect("JSON")["predictions"].clone()
}

#[test]
fn the_worker_answers_as_the_cpu_does() {
    let args = ["infer", "--model", "parts/1", "src/demo/golden.png", "--engine"];
    let Some(worker) = with_library(&[&args[..], &["onnxruntime"]].concat()) else { return };
    let (worker, tract) = (worker.run(), firstlight(&[&args[..], &["tract"]].concat()).run());
    assert_eq!(worker.exit, Some(0), "{}", worker.stderr);
    assert!(worker.stderr.contains("engine onnxruntime 1."), "{}", worker.stderr);
    let (worker, tract) = (predictions(&worker.stdout), predictions(&tract.stdout));
    let (worker, tract) = (worker.as_array().unwrap(), tract.as_array().unwrap());
    assert_eq!((worker.len(), tract.len()), (8, 8));
    for (a, b) in worker.iter().zip(tract) {
        assert_eq!((&a["class"], &a["x"], &a["y"]), (&b["class"], &b["x"], &b["y"]));
        assert!((a["confidence"].as_f64().unwrap() - b["confidence"].as_f64().unwrap()).abs() < 1e-4);
    }
}

#[test]
fn what_is_missing_is_the_reason_and_the_cpu_serves() {
    let probe = |library: &str| {
        let mut probe = firstlight(&["probe", "--json"]);
        probe.command.env("FIRSTLIGHT_ONNXRUNTIME", library);
        serde_json::from_str::<Value>(&probe.run().stdout).expect("JSON")
    };
    let why = |probe: &Value, name: &str| {
        let engines = probe["engines"].as_array().unwrap();
        engines.iter().find(|engine| engine["name"] == name).unwrap()["why"].as_str().unwrap_or_default().to_owned()
    };
    let missing = probe("/nowhere/libonnxruntime.so");
    assert_eq!(why(&missing, "tensorrt"), "engine.onnxruntime = /nowhere/libonnxruntime.so: no such file");
    assert_eq!(missing["chosen"], "plan");
    let Some(library) = support::onnxruntime() else { return eprintln!("NOT TESTED: {}", support::NO_LIBRARY) };
    let no_library = probe("README.md");
    assert!(why(&no_library, "cuda").contains("README.md"), "{}", why(&no_library, "cuda"));
    let real = probe(library.to_str().unwrap());
    assert!(why(&real, "cuda").contains("was built without it; it has "), "{}", why(&real, "cuda"));
    let names: Vec<&str> = real["engines"].as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap()).collect();
    assert_eq!((names[0], names[1], names.last()), ("tensorrt", "cuda", Some(&"tract")));
    assert_eq!(real["chosen"], "plan", "ONNX Runtime on the CPU is asked for by name");
}

#[test]
fn a_device_whose_engine_is_missing_sees_all_the_same_and_says_so() {
    let mut device = firstlight(&["run", "--engine", "cuda", "--frames", "5", "--listen", "off"]);
    device.command.env("FIRSTLIGHT_ONNXRUNTIME", "/nowhere/libonnxruntime.so");
    let device = device.run();
    assert_eq!((device.exit, device.stdout.lines().count()), (Some(0), 5), "{}", device.stderr);
    assert!(device.stderr.contains("plan instead of cuda: engine.onnxruntime = /nowhere/"), "{}", device.stderr);
}

#[test]
fn engines_can_be_forbidden_and_unknown_ones_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    let run = |text: &str| {
        fs::write(&config, text).unwrap();
        firstlight(&["run", "-c", config.to_str().unwrap(), "--frames", "2", "--listen", "off"]).run()
    };
    let without_plan = run("[engine]\nforbid = [\"plan\"]\n");
    assert!(without_plan.stderr.contains("engine tract"), "{}", without_plan.stderr);
    let unknown = run("[engine]\nforbid = [\"tensort\"]\n");
    assert_eq!(unknown.exit, Some(2));
    assert!(unknown.stderr.contains("did you mean `tensorrt`?"), "{}", unknown.stderr);
}

/// The file of an engine that is kept below a state directory.
fn kept_engine(state: &Path) -> PathBuf {
    let folders = fs::read_dir(state.join("engines")).expect("engines are kept");
    let folder = folders.filter_map(Result::ok).next().expect("one engine").path();
    folder.join("optimised.onnx")
}

#[test]
fn a_wrong_engine_is_rejected_by_the_golden_frame() {
    let state = tempfile::tempdir().unwrap();
    let infer = || {
        let mut infer =
            with_library(&["infer", "--model", "parts/1", "src/demo/golden.png", "--engine", "onnxruntime"])?;
        infer.command.env("FIRSTLIGHT_STATE_DIR", state.path());
        Some(infer.run())
    };
    let Some(first) = infer() else { return };
    assert_eq!(first.exit, Some(0), "{}", first.stderr);
    let engine = kept_engine(state.path());
    let second = infer().unwrap();
    assert!(!second.stderr.contains("removed"), "{}", second.stderr);

    // Weights a little off, all else in order: only its answers tell.
    let mut wrong = fs::read(&engine).unwrap();
    let numbers = wrong.len() / 2..wrong.len() / 2 + 8192;
    wrong[numbers].chunks_exact_mut(4).for_each(|number| {
        let value = f32::from_le_bytes([number[0], number[1], number[2], number[3]]);
        if value.is_normal() && value.abs() < 100.0 {
            number.copy_from_slice(&(value * 1.5).to_le_bytes());
        }
    });
    fs::write(&engine, &wrong).unwrap();
    let rejected = infer().unwrap();
    assert!(rejected.stderr.contains("is removed: its answers are wrong: on "), "{}", rejected.stderr);
    assert!(rejected.stderr.contains("at most 1e-3 is trusted"), "{}", rejected.stderr);
    assert_eq!(predictions(&rejected.stdout).as_array().unwrap().len(), 8);
    assert!(fs::read(&engine).unwrap() != wrong, "made anew");

    // Garbage is none that it could load.
    fs::write(&engine, b"garbage").unwrap();
    let garbage = infer().unwrap();
    assert!(garbage.stderr.contains("is removed: "), "{}", garbage.stderr);
    assert_eq!(garbage.exit, Some(0), "{}", garbage.stderr);
}

#[test]
fn an_engine_that_cannot_be_kept_serves_all_the_same() {
    let state = tempfile::tempdir().unwrap();
    let infer = || {
        let mut infer =
            with_library(&["infer", "--model", "parts/1", "src/demo/golden.png", "--engine", "onnxruntime"])?;
        infer.command.env("FIRSTLIGHT_STATE_DIR", state.path());
        Some(infer.run())
    };
    let Some(first) = infer() else { return };
    assert_eq!(first.exit, Some(0), "{}", first.stderr);
    let engine = kept_engine(state.path());
    // Where it is written first stands what cannot be replaced, as the root user's disk refuses nothing else.
    let draft = engine.with_extension("draft");
    fs::remove_file(&engine).unwrap();
    fs::create_dir_all(draft.join("occupied")).unwrap();
    let second = infer().unwrap();
    assert_eq!(second.exit, Some(0), "{}", second.stderr);
    assert!(second.stderr.contains("engine onnxruntime"), "{}", second.stderr);
    assert_eq!(predictions(&second.stdout).as_array().unwrap().len(), 8);
    assert!(!engine.exists());
}

/// A loop with ONNX Runtime.
struct Device {
    running: Running,
    address: String,
    next_frame: u64,
}

impl Device {
    fn start(deadline_ms: u64, fault: Option<Fault>) -> Option<(Self, tempfile::TempDir)> {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.toml");
        let more = if matches!(fault, Some(Fault::Starve)) { with_glutton(folder.path()) } else { String::new() };
        fs::write(
            &config,
            format!("[engine]\nname = \"onnxruntime\"\nthreads = 1\ndeadline_ms = {deadline_ms}\n{more}"),
        )
        .unwrap();
        let mut device = with_library(&["run", "-c", config.to_str().unwrap(), "--listen", "127.0.0.1:0"])?;
        device.command.env("FIRSTLIGHT_STATE_DIR", folder.path());
        let running = device.start();
        let address = running.address();
        Some((Self { running, address, next_frame: 0 }, folder))
    }

    /// One more answer, which is of the next frame.
    fn frame(&mut self) -> Value {
        let line = self.running.stdout.recv_timeout(LIMIT).expect("frames go on");
        let line: Value = serde_json::from_str(&line).expect("JSON");
        let id = line["frame_id"].as_u64().expect("a frame id");
        assert!(id >= self.next_frame, "frame {id} after {}", self.next_frame);
        self.next_frame = id + 1;
        line
    }

    fn status(&self) -> Value {
        serde_json::from_slice(&support::get(&self.address, "/status").1).expect("JSON")
    }

    /// Takes frames until the status is as wanted.
    fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + LIMIT;
        loop {
            let line = self.frame();
            assert_eq!(line.get("error"), None, "no frame fails: {line}");
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "{what}: {status}");
        }
    }

    fn until_worker(&mut self) -> u32 {
        self.until("a worker answers", |status| {
            status["engine"]["name"] == "onnxruntime" && status["state"] == "running"
        });
        workers(self.running.child.id()).into_iter().next().expect("a worker")
    }
}

/// Processes whose parent is this one.
fn workers(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let child = |process: &u32| {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let is = |key: &str, value: &str| {
            status.lines().any(|line| line.strip_prefix(key).is_some_and(|found| found.trim() == value))
        };
        is("PPid:", &parent.to_string()) && is("Name:", "fl-worker") && !is("State:", "Z (zombie)")
    };
    processes.filter(child).collect()
}

/// What happens to a worker.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    Stop,
    Starve,
    Spoil,
}

impl Fault {
    fn befall(self, worker: u32, random: &mut u64) {
        let pid = Pid::from_raw(i32::try_from(worker).unwrap());
        match self {
            Self::Kill => kill(pid, Signal::SIGKILL).unwrap(),
            Self::Stop => kill(pid, Signal::SIGSTOP).unwrap(),
            Self::Starve => kill(pid, Signal::SIGUSR1).unwrap(),
            Self::Spoil => spoil(worker, random),
        }
    }
}

/// A library that eats memory when it is told to, and then does what those of C++ do: it ends the process.
const GLUTTON: &str = r#"
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static volatile sig_atomic_t hungry;
static void wake(int signal) { hungry = 1; }
static void *eat(void *unused) {
    for (;;) {
        if (!hungry) { usleep(1000); continue; }
        char *meal = malloc(1 << 20);
        if (!meal) abort();
        memset(meal, 1, 1 << 20);
    }
}
__attribute__((constructor)) static void start(void) {
    pthread_t thread;
    if (getenv("GLUTTON")) { signal(SIGUSR1, wake); pthread_create(&thread, 0, eat, 0); }
}
"#;

/// How a worker is started with that library: `engine.loader`.
fn with_glutton(folder: &Path) -> String {
    let (source, library) = (folder.join("glutton.c"), folder.join("glutton.so"));
    fs::write(&source, GLUTTON).unwrap();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-pthread", "-o"]).args([&library, &source]).status();
    assert!(built.expect("a C compiler").success());
    format!("loader = [\"/usr/bin/env\", \"GLUTTON=1\", \"LD_PRELOAD={}\"]\nmemory_mb = 512\n", library.display())
}

/// Writes noise all over what a worker answers, as one that runs wild would, for a moment.
fn spoil(worker: u32, random: &mut u64) {
    let maps = fs::read_to_string(format!("/proc/{worker}/maps")).unwrap();
    let place = maps.lines().find(|line| line.contains("firstlight-outputs")).expect("outputs are shared");
    let (from, to) = place.split_whitespace().next().unwrap().split_once('-').unwrap();
    let (from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
    let memory = File::options().write(true).open(format!("/proc/{worker}/mem")).unwrap();
    let end = Instant::now() + Duration::from_millis(100);
    while Instant::now() < end {
        let noise: Vec<u8> = (0..4096).map(|_| next(random).to_le_bytes()[3]).collect();
        let at = from + next(random) % (to - from - 4096);
        // It may be killed for it meanwhile.
        if memory.write_all_at(&noise, at).is_err() {
            return;
        }
    }
}

/// A seeded sequence of numbers (xorshift64).
fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}

/// A fault at seeded moments, again and again: 25 of each kind in the full run, 2 in a short one.
fn survives(fault: Fault, deadline_ms: u64) {
    let Some((mut device, _folder)) = Device::start(deadline_ms, Some(fault)) else { return };
    let count = if std::env::var_os("FIRSTLIGHT_FULL").is_some() { 25 } else { 2 };
    let mut random = 0x5eed_0000 + fault as u64;
    let mut fell_back = 0;
    for _ in 0..count {
        let worker = device.until_worker();
        // Long enough that it counts as a good one, which is started again at once.
        let good = Instant::now() + Duration::from_millis(10_000 + next(&mut random) % 500);
        while Instant::now() < good {
            assert_eq!(device.frame().get("error"), None);
        }
        fault.befall(worker, &mut random);
        let before = device.next_frame;
        match fault {
            // What it computes anew meanwhile is right again: it may take no harm.
            Fault::Spoil => {
                let until = Instant::now() + Duration::from_secs(3);
                while Instant::now() < until {
                    assert_eq!(device.frame().get("error"), None);
                }
                fell_back += usize::from(workers(device.running.child.id()) != [worker]);
            }
            Fault::Kill | Fault::Stop | Fault::Starve => {
                device.until("the CPU answers", |status| status["engine"]["name"] == "plan");
                let status = device.status();
                if status["engine"]["name"] == "plan" {
                    assert_eq!(status["state"], "degraded", "{status}");
                    let reason = status["reasons"][0].as_str().unwrap();
                    assert!(reason.starts_with("accelerator: plan answers instead of onnxruntime: "), "{reason}");
                }
                fell_back += 1;
            }
        }
        assert!(device.next_frame > before, "frames go on");
    }
    device.until_worker();
    eprintln!("{fault:?}: {count} times, {fell_back} of them a new worker; {} frames, none failed", device.next_frame);
    assert_eq!(workers(device.running.child.id()).len(), 1, "none is left behind");
}

#[test]
fn a_worker_that_is_killed_costs_nothing_but_time() {
    survives(Fault::Kill, 1000);
}

#[test]
fn a_worker_that_hangs_costs_nothing_but_time() {
    survives(Fault::Stop, 500);
}

#[test]
fn a_worker_without_memory_costs_nothing_but_time() {
    survives(Fault::Starve, 1000);
}

#[test]
fn a_worker_whose_memory_is_spoilt_costs_nothing_but_time() {
    survives(Fault::Spoil, 1000);
}

#[test]
fn a_worker_dies_with_the_device() {
    let Some((mut device, _folder)) = Device::start(1000, None) else { return };
    let worker = device.until_worker();
    device.running.child.kill().unwrap();
    device.running.child.wait().unwrap();
    let deadline = Instant::now() + LIMIT;
    while Path::new(&format!("/proc/{worker}")).exists() {
        assert!(Instant::now() < deadline, "worker {worker} has outlived the device");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_worker_has_no_network_and_cannot_start_programs() {
    let Some((mut device, _folder)) = Device::start(1000, None) else { return };
    let worker = device.until_worker();
    let status = fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
    assert!(status.contains("Seccomp:\t2"), "{status}");
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    let limits = fs::read_to_string(format!("/proc/{worker}/limits")).unwrap();
    assert!(limits.lines().any(|line| line.starts_with("Max data size") && line.contains("3221225472")), "{limits}");
    let score = fs::read_to_string(format!("/proc/{worker}/oom_score_adj")).unwrap();
    assert_eq!(score.trim(), "1000");
}
