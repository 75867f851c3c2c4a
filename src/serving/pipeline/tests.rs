//! Pipelines of the demo model on the demo scene and on files.

use std::path::Path;
use std::time::Instant;

use serde_json::json;

use super::*;
use crate::cache::{Cache, Host};
use crate::config::ImagesConfig;
use crate::engine::{Backends, LoadOptions, Precision};
use crate::frame::{Frame, encode_jpeg};
use crate::serving::{Engines, Loader, Wanted};
use crate::source::demo::Conveyor;

/// Longer than anything here takes on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

fn pipelines(dirs: &[&Path], pipelines_max: usize) -> Arc<Pipelines> {
    let loader = Loader {
        cache: Cache::at("/nowhere"),
        host: Host::default(),
        engines: Engines::choose(Wanted::Best, &[Precision::Fp32], &Backends::default()).unwrap(),
        options: LoadOptions { threads: 1 },
        semantics: None,
    };
    let images = ImagesConfig { dirs: dirs.iter().map(|dir| dir.to_path_buf()).collect() };
    let config = ServingConfig { images, pipelines_max, ..ServingConfig::default() };
    Pipelines::new(Models::new(loader, &config).unwrap(), &config, 80)
}

fn order(reference: impl Into<Value>, change: impl FnOnce(&mut Value)) -> Order {
    let mut body = json!({
        "video_configuration": {"type": "VideoConfiguration", "video_reference": reference.into()},
        "processing_configuration": {"type": "ModelConfiguration", "model_id": "parts/1"},
    });
    change(&mut body);
    Order::parse(body.to_string().as_bytes()).unwrap()
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn state(pipelines: &Pipelines, id: &str) -> String {
    pipelines.report(id).unwrap()["sources_metadata"][0]["state"].as_str().unwrap().to_owned()
}

/// The answer of a pipeline's one source.
fn only(batch: Batch) -> Taken {
    assert_eq!(batch.len(), 1);
    batch.into_iter().flatten().next().unwrap()
}

/// Pictures of the demo scene, and a file that is none.
fn pictures(dir: &Path, count: usize) {
    let mut conveyor = Conveyor::new(9);
    for number in 0..count {
        let (mut frame, mut jpeg) = (Frame::empty(), Vec::new());
        conveyor.render(&mut frame);
        encode_jpeg(&frame, 90, &mut jpeg).unwrap();
        std::fs::write(dir.join(format!("{number}.jpg")), jpeg).unwrap();
    }
    std::fs::write(dir.join("broken.jpg"), b"not a picture").unwrap();
}

#[test]
fn every_picture_of_a_directory_has_a_result_which_is_kept_after_the_end() {
    let dir = tempfile::tempdir().unwrap();
    pictures(dir.path(), 5);
    let pipelines = pipelines(&[dir.path()], 2);
    let reference = dir.path().to_str().unwrap();
    // What the client libraries ask for: of files it loses none all the same.
    let id = pipelines
        .start(order(reference, |it| {
            it["video_configuration"]["source_buffer_filling_strategy"] = json!("DROP_OLDEST")
        }))
        .unwrap();
    let run = pipelines.get(&id).unwrap();
    wait_for("the end of five pictures", || run.over().then_some(()));
    assert_eq!(state(&pipelines, &id), "ENDED");
    let taken: Vec<Taken> = std::iter::from_fn(|| pipelines.consume(&id).unwrap()).map(only).collect();
    assert_eq!(taken.iter().map(|taken| taken.frame_id).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let (_, seen) = taken[0].fields.iter().find(|(name, _)| &**name == "predictions").unwrap();
    assert!(seen.contains("washer") || seen.contains("bolt"), "{seen}");
    let report = pipelines.report(&id).unwrap();
    let source = &report["sources_metadata"][0];
    assert_eq!(
        (&source["source_properties"]["width"], &source["buffer_filling_strategy"]),
        (&json!(640), &json!("DROP_OLDEST"))
    );
    assert_eq!(report["completion_statistics"]["sources"][0]["completed_frames"], 5);
    let events = report["video_source_status_updates"].to_string();
    assert!(events.contains("broken.jpg") && events.contains("INFERENCE_THREAD_FINISHED"), "{events}");
    assert!(run.picture().unwrap().starts_with(&[0xff, 0xd8]));
    assert!(matches!(pipelines.pause(&id), Err(Error::Ended)));
}

#[test]
fn two_sources_are_answered_side_by_side_and_the_shorter_one_is_not_waited_for() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    pictures(dirs[0].path(), 3);
    pictures(dirs[1].path(), 6);
    let pipelines = pipelines(&[dirs[0].path(), dirs[1].path()], 1);
    let references: Vec<_> = dirs.iter().map(|dir| dir.path().to_str().unwrap()).collect();
    let id = pipelines.start(order(json!(references), |_| {})).unwrap();
    let run = pipelines.get(&id).unwrap();
    wait_for("the end of nine pictures", || run.over().then_some(()));
    let mut seen = [Vec::new(), Vec::new()];
    while let Some(batch) = pipelines.consume(&id).unwrap() {
        assert_eq!(batch.len(), 2);
        for (source, taken) in batch.into_iter().enumerate() {
            seen[source].extend(taken.map(|taken| taken.frame_id));
        }
    }
    assert_eq!(seen, [vec![1, 2, 3], vec![1, 2, 3, 4, 5, 6]]);
    let report = pipelines.report(&id).unwrap();
    for (source, frames) in [(0, 3), (1, 6)] {
        let metadata = &report["sources_metadata"][source];
        assert_eq!((&metadata["source_id"], &metadata["state"]), (&json!(source), &json!("ENDED")));
        assert_eq!(metadata["source_reference"], references[source]);
        assert_eq!(metadata["source_properties"]["total_frames"], frames + 1, "and one that is no picture");
        assert_eq!(report["completion_statistics"]["sources"][source]["completed_frames"], frames);
        assert_eq!(report["latency_reports"][source]["source_id"], source);
    }
    let pace = &pipelines.paces()[0];
    assert!(!pace.active && pace.latency.is_some() && pace.source == references.join(", "), "{pace:?}");
}

#[test]
fn a_stream_is_paused_resumed_and_terminated() {
    let pipelines = pipelines(&[], 1);
    let id = pipelines
        .start(order("demo:", |it| {
            it["sink_configuration"] = json!({"type": "MemorySinkConfiguration", "results_buffer_size": 2})
        }))
        .unwrap();
    assert_eq!(pipelines.list(), std::slice::from_ref(&id));
    assert!(matches!(pipelines.start(order("demo:", |_| {})), Err(Error::Full(1))));
    let first = only(wait_for("a result", || pipelines.consume(&id).unwrap()));
    pipelines.pause(&id).unwrap();
    assert_eq!(state(&pipelines, &id), "MUTED");
    pipelines.resume(&id).unwrap();
    assert_eq!(state(&pipelines, &id), "RUNNING");
    let next = only(wait_for("a result after the pause", || pipelines.consume(&id).unwrap()));
    assert!(next.frame_id > first.frame_id);
    let run = pipelines.terminate(&id).unwrap();
    assert!(pipelines.list().is_empty());
    assert!(matches!(pipelines.report(&id), Err(Error::Unknown(_))));
    wait_for("the end", || run.over().then_some(()));
    assert_eq!(run.report()["sources_metadata"][0]["state"], "ENDED");
    // Its place is free again.
    pipelines.start(order("demo:", |_| {})).unwrap();
}

#[test]
fn its_threads_give_way_to_the_loop() {
    let pipelines = pipelines(&[], 1);
    let id =
        std::thread::scope(|scope| scope.spawn(|| pipelines.start(order("demo:", |_| {})).unwrap()).join().unwrap());
    wait_for("a result", || pipelines.consume(&id).unwrap());
    let mut nice = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default();
        if let Some((name, rest)) = stat.rsplit_once(')').filter(|(name, _)| name.ends_with("(infer")) {
            nice.push((name.to_owned(), rest.split_whitespace().nth(16).unwrap().to_owned()));
        }
    }
    assert!(!nice.is_empty() && nice.iter().all(|(_, nice)| nice == "15"), "{nice:?}");
}

#[test]
fn what_nobody_reads_is_ended_after_its_time() {
    let pipelines = pipelines(&[], 1);
    pipelines.start(order("demo:?fps=5", |it| it["consumption_timeout"] = json!(0.01))).unwrap();
    wait_for("the end of a pipeline without a reader", || pipelines.list().is_empty().then_some(()));
}

#[test]
fn what_cannot_start_takes_no_place() {
    let pipelines = pipelines(&[], 1);
    for (order, word) in [
        (order("demo:", |it| it["processing_configuration"]["model_id"] = json!("no-such/1")), "no-such/1"),
        (order("demo:?speed=1", |_| {}), "speed"),
        (order("/etc/*.png", |_| {}), "serving.images.dirs"),
        (order("/dev/video987", |_| {}), "/dev/video987"),
    ] {
        let message = pipelines.start(order).unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    }
    let classes = json!({
        "type": "WorkflowConfiguration",
        "workflow_specification": {
            "version": "1.0",
            "inputs": [{"type": "WorkflowImage", "name": "image"}],
            "steps": [{"type": "ClassificationModel", "name": "m", "images": "$inputs.image", "model_id": "parts/1"}],
            "outputs": [],
        },
    });
    let wrong_task = order("demo:", |it| it["processing_configuration"] = classes);
    assert!(pipelines.start(wrong_task).unwrap_err().to_string().contains("object-detection"));
    pipelines.start(order("demo:", |_| {})).unwrap();
}

#[test]
fn none_may_run_where_the_configuration_says_so() {
    assert!(matches!(pipelines(&[], 0).start(order("demo:", |_| {})), Err(Error::Full(0))));
}
