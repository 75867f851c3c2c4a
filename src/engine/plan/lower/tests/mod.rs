//! Whole models, lowered and fused, against tract; single operators are in [`operators`].

mod draft;
mod operators;

use prost::Message;
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::DimLike;

use super::*;
use crate::engine::plan::{fuse, reference};
use crate::random::Random;

/// A model as the engine reads it, at its own size or at this one.
fn load(bytes: &[u8], batch: usize, side: usize) -> TypedModel {
    let mut proto = tract_onnx::pb::ModelProto::decode(bytes).unwrap();
    crate::engine::tract::half::widen(&mut proto);
    let onnx = onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
    let mut model = onnx.parse(&proto, None).unwrap().model;
    let declared: Vec<Option<usize>> = {
        let fact = model.input_fact(0).unwrap();
        (0..4).map(|axis| fact.shape.dims().nth(axis)?.concretize()?.to_usize().ok()).collect()
    };
    let size = |axis: usize| declared[axis].unwrap_or(side);
    let shape = [declared[0].unwrap_or(batch), 3, size(2), size(3)];
    model.set_input_fact(0, InferenceFact::dt_shape(DatumType::F32, shape)).unwrap();
    simplify(model.into_typed().unwrap()).unwrap()
}

fn answers(model: TypedModel, picture: &[f32]) -> Vec<Vec<f32>> {
    let shape = model.input_fact(0).unwrap().shape.as_concrete().unwrap().to_vec();
    let input = Tensor::from_shape(&shape, picture).unwrap();
    let outputs = model.into_optimized().unwrap().into_runnable().unwrap().run(tvec!(input.into_tvalue())).unwrap();
    let singles = |output: &TValue| output.cast_to::<f32>().unwrap().into_owned();
    outputs
        .iter()
        .map(|output| singles(output).to_plain_array_view::<f32>().unwrap().iter().copied().collect())
        .collect()
}

/// The greatest difference: relative to a value above one, else to one, or to the greatest if all are below.
fn worst(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let floor = expected.iter().map(|value| value.abs()).fold(1e-6, f32::max).min(1.0);
    let error = |(a, b): (&f32, &f32)| if a == b { 0.0 } else { (a - b).abs() / b.abs().max(floor) };
    found.iter().zip(expected).map(error).fold(0.0, |a, b| if b.is_nan() { f32::INFINITY } else { a.max(b) })
}

fn picture(model: &TypedModel) -> Vec<f32> {
    let mut random = Random::new(1);
    let shape = model.input_fact(0).unwrap().shape.as_concrete().unwrap().to_vec();
    (0..shape.iter().product()).map(|_| random.uniform(0.0, 1.0)).collect()
}

#[test]
fn the_demo_is_lowered_and_fused_and_still_the_same_network() {
    let model = load(crate::demo::PARTS_ONNX, 1, 320);
    let mut graph = lower(&model).unwrap();
    let picture = picture(&model);
    let plain = reference::run(&graph, &picture);
    let expected = answers(model, &picture);
    assert!(worst(&plain[graph.outputs[0]], &expected[0]) < 1e-4);
    fuse(&mut graph);
    assert!(!graph.nodes.iter().any(|node| matches!(node.op, Op::Unary(Unary::Silu))), "every SiLU has a home");
    let fused = reference::run(&graph, &picture);
    assert!(worst(&fused[graph.outputs[0]], &expected[0]) < 1e-4);
    let kernels = crate::engine::plan::kernels::native();
    let baked = crate::engine::plan::bake::bake(&graph, kernels.isa).unwrap();
    baked.program.check(baked.weights.len(), kernels.isa).unwrap();
    let mut runner = crate::engine::plan::exec::Runner::new(baked.program, baked.weights, kernels, 2);
    runner.input_mut().copy_from_slice(&picture);
    runner.run();
    assert!(worst(runner.output(0), &fused[graph.outputs[0]]) < 1e-3);
}

/// Rows of detections come best first, and rows of nearly one score in either order: the greatest difference between
/// an expected row and the nearest one found. Of rows as good as the last one, others may have been taken.
fn worst_of_rows(found: &[f32], expected: &[f32], length: usize) -> f32 {
    const SCORE: usize = 4;
    let last = expected.chunks_exact(length).map(|row| row[SCORE]).fold(f32::INFINITY, f32::min);
    let nearest = |row: &[f32]| found.chunks_exact(length).map(|other| worst(other, row)).fold(f32::INFINITY, f32::min);
    expected.chunks_exact(length).filter(|row| row[SCORE] > last + 1e-4).map(nearest).fold(0.0, f32::max)
}

/// A picture as a detector sees it.
fn photograph(path: &std::path::Path, model: &TypedModel) -> Vec<f32> {
    let shape = model.input_fact(0).unwrap().shape.as_concrete().unwrap().to_vec();
    let size = |axis: usize| u32::try_from(shape[axis]).unwrap();
    let picture = image::open(path).unwrap().into_rgb8();
    let picture = image::imageops::resize(&picture, size(3), size(2), image::imageops::FilterType::Triangle);
    let plane = |channel: usize| picture.pixels().map(move |pixel| f32::from(pixel.0[channel]) / 255.0);
    (0..shape[0]).flat_map(|_| (0..3).flat_map(plane)).collect()
}

/// Compares a file's network, lowered and fused, with tract; answers the greatest difference of any output.
fn compare(path: &std::path::Path, photo: &std::path::Path) -> f32 {
    let model = load(&std::fs::read(path).unwrap(), 1, 160);
    let mut graph = lower(&model).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    fuse(&mut graph);
    let picture = photograph(photo, &model);
    let found = reference::run(&graph, &picture);
    let compared = graph.outputs.iter().zip(answers(model, &picture)).map(|(&output, expected)| {
        match graph.values[output].shape[..] {
            [1, 300, length @ 6..64] => worst_of_rows(&found[output], &expected, length),
            _ => worst(&found[output], &expected),
        }
    });
    compared.fold(0.0, f32::max)
}

fn shared() -> std::path::PathBuf {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    std::env::var_os("FIRSTLIGHT_SHARED").map_or_else(|| root.join("../shared"), Into::into)
}

fn models_under(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let named = files.map(|path| if path.is_dir() { path.join("model.onnx") } else { path });
    let is_model = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "onnx") && path.exists();
    let mut models: Vec<_> =
        named.filter(is_model).filter(|path| !path.to_string_lossy().contains("skeleton")).collect();
    models.sort();
    models
}

#[test]
fn golden_models_answer_what_tract_answers() {
    let golden = shared().join("golden");
    let models = models_under(&golden.join("models"));
    if models.is_empty() {
        eprintln!("skipped: no golden models in {}; FIRSTLIGHT_SHARED names the shared folder", golden.display());
    }
    for model in models {
        let worst = compare(&model, &golden.join("images/synth_a.png"));
        println!("{}: {worst:.1e}", model.display());
        assert!(worst < 1e-4, "{}: {worst}", model.display());
    }
}

/// Exports with random weights amplify the last bit of every sum: there ONNX Runtime and tract differ by 1e-2.
#[test]
#[ignore = "takes minutes: RF-DETR, YOLO-NAS and other large models"]
fn fetched_and_exported_models_answer_what_tract_answers() {
    let target = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let folder = std::env::var_os("FIRSTLIGHT_MODELS").map_or(target, Into::into);
    let models = [models_under(&folder.join("fetched")), models_under(&folder.join("exports"))].concat();
    if models.is_empty() {
        eprintln!("skipped: no models in {}; scripts/export_models makes them", folder.display());
    }
    for model in models {
        let worst = compare(&model, &shared().join("golden/images/synth_a.png"));
        println!("{}: {worst:.1e}", model.display());
        assert!(worst < 1e-2, "{}: {worst}", model.display());
    }
}

/// `MODELS="a.onnx b.onnx" SIDE=640 BATCH=1`: what each becomes; with `CHECK=1` compared with tract on noise or on
/// `INPUT=raw.f32`; with `DUMP=folder` the graph, the picture, tract's answers and the reference's written there.
#[test]
#[ignore = "looks at the models it is given"]
fn survey() {
    let side = std::env::var("SIDE").map_or(640, |side| side.parse().unwrap());
    let batch = std::env::var("BATCH").map_or(1, |batch| batch.parse().unwrap());
    for path in std::env::var("MODELS").unwrap().split_whitespace() {
        let model = load(&std::fs::read(path).unwrap(), batch, side);
        let started = std::time::Instant::now();
        let mut graph = match lower(&model) {
            Ok(graph) => graph,
            Err(why) => {
                println!("{path}: REFUSED: {why}");
                continue;
            }
        };
        let before = graph.nodes.len();
        if std::env::var("PLAIN").is_err() {
            fuse(&mut graph);
        }
        println!("{path}: {before} nodes, fused {}, in {:.1?}", graph.nodes.len(), started.elapsed());
        let mut counts = std::collections::BTreeMap::new();
        for node in &graph.nodes {
            let name = format!("{:?}", node.op);
            let name = name.split([' ', '(']).next().unwrap().to_owned();
            let name = match &node.op {
                Op::Unary(_) | Op::Binary(_) | Op::Reduce { .. } => format!("{:?}", node.op),
                _ => name,
            };
            *counts.entry(name).or_insert(0) += 1;
        }
        println!("    {counts:?}");
        let picture = match std::env::var("INPUT") {
            Ok(path) => {
                std::fs::read(path).unwrap().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
            }
            Err(_) => picture(&model),
        };
        let name = std::env::var("NAME").unwrap_or_else(|_| path.rsplit('/').next().unwrap().replace(".onnx", ""));
        let dump = std::env::var("DUMP").ok();
        if let Some(folder) = &dump {
            std::fs::write(format!("{folder}/{name}.graph.json"), serde_json::to_vec(&graph).unwrap()).unwrap();
            write_singles(&format!("{folder}/{name}.input.f32"), &picture);
        }
        if std::env::var("CHECK").is_ok() || dump.is_some() {
            let expected = answers(model, &picture);
            if let Some(folder) = &dump {
                for (index, output) in expected.iter().enumerate() {
                    write_singles(&format!("{folder}/{name}.out{index}.f32"), output);
                }
            }
            let started = std::time::Instant::now();
            let found = reference::run(&graph, &picture);
            for (index, expected) in expected.iter().enumerate() {
                let found = &found[graph.outputs[index]];
                if let Some(folder) = &dump {
                    write_singles(&format!("{folder}/{name}.ref{index}.f32"), found);
                }
                println!("    output {index}: worst {:.2e}, {:.1?}", worst(found, expected), started.elapsed());
            }
        }
    }
}

fn write_singles(path: &str, values: &[f32]) {
    std::fs::write(path, values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
}
