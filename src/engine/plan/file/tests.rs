//! Files that were damaged, that are of others, and that were made to harm.

mod guard;
mod hostile;

use std::fs::{File, read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use tempfile::TempDir;

use super::{
    Binding, Compared, Error, Golden, HEADER, Head, Header, Judged, Measure, Plan, Program, REMEMBERED_MAX, Referee,
    Refereed, Trust, VERSION, open, read_head, read_texts,
};
use crate::engine::Precision;
use crate::engine::plan::bake::{bake, bake_halves, bake_quantized};
use crate::engine::plan::graph::{
    Activation, Binary, Conv, Finish, Graph, Node, Op, Reduce, Residual, Unary, ValueId, Window,
};
use crate::engine::plan::int8::{Quantized, candidates};
use crate::engine::plan::kernels::{self, Isa};
use crate::engine::plan::steps::Step;
use crate::random::Random;

/// Kernels to bake for.
fn native() -> &'static Isa {
    kernels::native().isa
}

/// Graphs written by hand.
struct Builder {
    isa: &'static Isa,
    graph: Graph,
    random: Random,
}

impl Builder {
    fn new(isa: &'static Isa, shape: &[usize]) -> Self {
        let mut graph = Graph::default();
        graph.input = graph.value("images", shape, None);
        Self { isa, graph, random: Random::new(7) }
    }

    fn add(&mut self, op: Op, inputs: &[ValueId], shape: &[usize]) -> ValueId {
        let output = self.graph.value(&format!("node {}", self.graph.nodes.len()), shape, None);
        self.graph.nodes.push(Node { op, inputs: inputs.to_vec(), output });
        output
    }

    fn constant(&mut self, shape: &[usize]) -> ValueId {
        let values = (0..shape.iter().product()).map(|_| self.random.uniform(-0.5, 0.5)).collect();
        self.graph.value("constant", shape, Some(values))
    }

    fn shape(&self, value: ValueId) -> Vec<usize> {
        self.graph.values[value].shape.clone()
    }

    /// A square window, padded so that it is centred.
    fn conv(&mut self, from: ValueId, outputs: usize, kernel: usize, stride: usize, added: Option<ValueId>) -> ValueId {
        let [n, c, h, w] = self.shape(from)[..] else { panic!("no picture") };
        let window = Window { kernel: [kernel; 2], stride: [stride; 2], dilation: [1; 2], pad: [(kernel - 1) / 2; 2] };
        let residual = if added.is_some() { Residual::After } else { Residual::None };
        let op = Op::Conv(Conv { window, groups: 1, finish: Finish { activation: Activation::Silu, residual } });
        let (filters, bias) = (self.constant(&[outputs, c, kernel, kernel]), self.constant(&[outputs]));
        let inputs: Vec<ValueId> = [from, filters, bias].into_iter().chain(added).collect();
        self.add(op, &inputs, &[n, outputs, h / stride, w / stride])
    }

    fn baked(mut self, outputs: &[ValueId]) -> (Program, Vec<f32>) {
        self.graph.outputs = outputs.to_vec();
        let baked = bake(&self.graph, self.isa).unwrap();
        (baked.program, baked.weights)
    }
}

/// One convolution: a file of a few thousand bytes.
fn small(isa: &'static Isa) -> (Program, Vec<f32>) {
    let mut graph = Builder::new(isa, &[1, 3, 6, 6]);
    let out = graph.conv(graph.graph.input, 4, 3, 1, None);
    graph.baked(&[out])
}

/// What networks are made of, large enough that most steps have several items.
fn large(isa: &'static Isa) -> (Program, Vec<f32>) {
    let mut graph = Builder::new(isa, &[1, 3, 48, 48]);
    let a = graph.conv(graph.graph.input, 16, 3, 2, None);
    let half = graph.add(Op::Slice { axis: 1, start: 8 }, &[a], &[1, 8, 24, 24]);
    let b = graph.conv(half, 8, 3, 1, Some(half));
    let c = graph.conv(b, 8, 1, 1, None);
    let joined = graph.add(Op::Concat { axis: 1 }, &[a, b, c], &[1, 32, 24, 24]);
    let window = Window { kernel: [5; 2], stride: [1; 2], dilation: [1; 2], pad: [2; 2] };
    let pooled = graph.add(Op::MaxPool(window), &[joined], &[1, 32, 24, 24]);
    let wide = graph.add(Op::Upsample { height: 2, width: 2 }, &[pooled], &[1, 32, 48, 48]);
    let d = graph.conv(wide, 19, 3, 2, None);
    let flat = graph.add(Op::Reshape, &[d], &[1, 19, 576]);
    let turned = graph.add(Op::Permute { order: vec![0, 2, 1] }, &[flat], &[1, 576, 19]);
    let shares = graph.add(Op::Softmax { axis: 2 }, &[turned], &[1, 576, 19]);
    let scale = graph.constant(&[1, 1, 19]);
    let scaled = graph.add(Op::Binary(Binary::Mul), &[shares, scale], &[1, 576, 19]);
    let sum = graph.add(Op::Binary(Binary::Add), &[scaled, turned], &[1, 576, 19]);
    let boxes = graph.add(Op::Unary(Unary::Sigmoid), &[sum], &[1, 576, 19]);
    graph.baked(&[boxes, pooled])
}

/// All other steps.
fn wide(isa: &'static Isa) -> (Program, Vec<f32>) {
    let mut graph = Builder::new(isa, &[1, 16, 24, 24]);
    let a = graph.conv(graph.graph.input, 16, 3, 1, None);
    let a = graph.conv(a, 32, 3, 1, None);
    let a = graph.conv(a, 32, 3, 1, Some(a));
    let shape = [1, 32, 24, 24];
    let window = Window { kernel: [3; 2], stride: [1; 2], dilation: [2; 2], pad: [2; 2] };
    let (filters, bias) = (graph.constant(&[32, 1, 3, 3]), graph.constant(&[32]));
    let b = graph.add(Op::Conv(Conv { window, groups: 32, finish: Finish::default() }), &[a, filters, bias], &shape);
    let mean = graph.add(Op::Reduce { reduce: Reduce::Mean, axes: vec![2, 3] }, &[b], &[1, 32, 1, 1]);
    let gate = graph.add(Op::Unary(Unary::Sigmoid), &[mean], &[1, 32, 1, 1]);
    let c = graph.add(Op::Binary(Binary::Mul), &[b, gate], &shape);
    let flat = graph.add(Op::Reshape, &[c], &[1, 32, 576]);
    let rows = graph.add(Op::Permute { order: vec![0, 2, 1] }, &[flat], &[1, 576, 32]);
    let (scale, shift) = (graph.constant(&[32]), graph.constant(&[32]));
    let rows = graph.add(Op::LayerNorm { epsilon: 1e-5 }, &[rows, scale, shift], &[1, 576, 32]);
    let (factors, bias) = (graph.constant(&[24, 32]), graph.constant(&[24]));
    let keys = graph.add(Op::Linear(Finish::default()), &[rows, factors, bias], &[1, 576, 24]);
    let turned = graph.add(Op::Permute { order: vec![0, 2, 1] }, &[keys], &[1, 24, 576]);
    let alike = graph.add(Op::MatMul { scale: 0.25 }, &[turned, keys], &[1, 24, 24]);
    let alike = graph.add(Op::Softmax { axis: 2 }, &[alike], &[1, 24, 24]);
    let best = graph.add(Op::Reduce { reduce: Reduce::Max, axes: vec![2] }, &[rows], &[1, 576, 1]);
    let best = graph.add(Op::Reshape, &[best], &[1, 576]);
    let top = graph.add(Op::Top { axis: 1, largest: true }, &[best], &[1, 100]);
    let top = graph.add(Op::Reshape, &[top], &[1, 100, 1]);
    let top = graph.add(Op::Broadcast, &[top], &[1, 100, 32]);
    let chosen = graph.add(Op::Gather { axis: 1 }, &[rows, top], &[1, 100, 32]);
    let places = (0..40).flat_map(|at| [at / 2, (at / 2 + 1).min(23)]).map(|at| at as f32).collect();
    let places = graph.graph.value("places", &[40, 2], Some(places));
    let weights = graph.constant(&[40, 2]);
    let taller = graph.add(Op::Resample { axis: 2 }, &[a, places, weights], &[1, 32, 40, 24]);
    let grid = graph.add(Op::Slice { axis: 2, start: 0 }, &[rows], &[1, 576, 2]);
    let grid = graph.add(Op::Reshape, &[grid], &[1, 24, 24, 2]);
    let read = graph.add(Op::GridSample { align_corners: false }, &[taller, grid], &shape);
    let (program, weights) = graph.baked(&[alike, chosen, read]);
    let kinds: std::collections::BTreeSet<String> = program.steps.iter().map(|named| kind(&named.step)).collect();
    for kind in [
        "Winograd",
        "Depthwise",
        "Reduce",
        "LayerNorm",
        "Conv",
        "MatMul",
        "Softmax",
        "Top",
        "Gather",
        "Resample",
        "GridSample",
    ] {
        assert!(kinds.contains(kind), "{kind} is not in {kinds:?}");
    }
    (program, weights)
}

/// What works on bytes.
fn bytes(isa: &'static Isa) -> (Program, Vec<f32>) {
    let mut graph = Builder::new(isa, &[1, 3, 48, 48]);
    let a = graph.conv(graph.graph.input, 16, 3, 2, None);
    let half = graph.add(Op::Slice { axis: 1, start: 8 }, &[a], &[1, 8, 24, 24]);
    let b = graph.conv(half, 8, 3, 1, None);
    let c = graph.conv(b, 8, 1, 1, Some(b));
    let joined = graph.add(Op::Concat { axis: 1 }, &[a, b, c], &[1, 32, 24, 24]);
    let d = graph.conv(joined, 20, 3, 2, None);
    let window = Window { kernel: [5; 2], stride: [1; 2], dilation: [1; 2], pad: [2; 2] };
    let pooled = graph.add(Op::MaxPool(window), &[d], &[1, 20, 12, 12]);
    let both = graph.add(Op::Concat { axis: 1 }, &[d, pooled], &[1, 40, 12, 12]);
    let e = graph.conv(both, 20, 1, 1, None);
    let wide = graph.add(Op::Upsample { height: 2, width: 2 }, &[e], &[1, 20, 24, 24]);
    let f = graph.conv(wide, 20, 3, 1, None);
    let g = graph.conv(f, 20, 1, 1, Some(f));
    let scaled = graph.add(Op::Unary(Unary::Sigmoid), &[joined], &[1, 32, 24, 24]);
    let h = graph.conv(scaled, 20, 3, 1, Some(g));
    let last = graph.add(Op::Unary(Unary::Sigmoid), &[h], &[1, 20, 24, 24]);
    graph.graph.outputs = vec![last];
    let mut nodes = candidates(&graph.graph);
    nodes[graph.graph.nodes.len() - 2] = true;
    let quantized = Quantized { nodes, ranges: vec![Some([-1.0, 3.0]); graph.graph.values.len()] };
    let baked = bake_quantized(&graph.graph, isa, &quantized).unwrap();
    let kinds: Vec<String> = baked.program.steps.iter().map(|named| kind(&named.step)).collect();
    for (kind, least) in [("Quantize", 2), ("QuantizedConv", 6), ("QuantizedPool", 1), ("Copy", 1)] {
        assert!(kinds.iter().filter(|found| *found == kind).count() >= least, "{kind} in {kinds:?}");
    }
    (baked.program, baked.weights)
}

/// What works on halves.
fn halves(isa: &'static Isa) -> (Program, Vec<f32>) {
    let mut graph = Builder::new(isa, &[1, 3, 48, 48]);
    let a = graph.conv(graph.graph.input, 16, 3, 2, None);
    let b = graph.conv(a, 20, 3, 2, None);
    let c = graph.conv(b, 40, 1, 1, None);
    let c = graph.conv(c, 40, 1, 1, Some(c));
    let flat = graph.add(Op::Reshape, &[c], &[1, 40, 144]);
    let rows = graph.add(Op::Permute { order: vec![0, 2, 1] }, &[flat], &[1, 144, 40]);
    let (factors, bias) = (graph.constant(&[33, 40]), graph.constant(&[33]));
    let last = graph.add(Op::Linear(Finish::default()), &[rows, factors, bias], &[1, 144, 33]);
    graph.graph.outputs = vec![last];
    let largest = vec![2.0; graph.graph.values.len()];
    let baked = bake_halves(&graph.graph, isa, &largest).unwrap();
    let kinds: Vec<String> = baked.program.steps.iter().map(|named| kind(&named.step)).collect();
    for kind in ["Narrow", "HalfConv"] {
        assert_eq!(kinds.iter().filter(|found| *found == kind).count(), 4, "{kind} in {kinds:?}");
    }
    (baked.program, baked.weights)
}

fn kind(step: &Step) -> String {
    format!("{step:?}").split('(').next().unwrap().to_owned()
}

fn binding(program: &Program, isa: &Isa) -> Binding {
    let input = program.input.shape.clone().try_into().expect("a picture");
    Binding { model_sha256: "5a".repeat(32), input, isa: isa.name.into() }
}

fn head(program: &Program, isa: &Isa) -> Head {
    let outputs = program.outputs.iter().map(|output| Compared { name: output.name.clone(), error: 1.25e-6 }).collect();
    let less = program.steps.iter().map(|named| named.step.precision()).find(|&precision| precision != Precision::Fp32);
    let referee = Referee { bound: 1e-3, outputs };
    let trust = match less.unwrap_or_default() {
        Precision::Fp32 => Trust::Fp32(referee),
        Precision::Fp16 => Trust::Fp16(Refereed { referee, judged: Some(Judged { golden: None, ..judged() }) }),
        Precision::Int8 => Trust::Int8(judged()),
    };
    Head::new(binding(program, isa), [None, Some(3), None, None], isa, trust)
}

fn judged() -> Judged {
    let golden = Some(Golden { arithmetic: 7, answers: vec![vec![0.5, -1.25]] });
    Judged { measure: Measure::Detections, error: 0.0125, error_max: 0.05, images: 3, golden }
}

/// A file in a folder that goes with it.
struct Written {
    isa: &'static Isa,
    folder: TempDir,
    program: Program,
    weights: Vec<f32>,
}

impl Written {
    fn new((program, weights): (Program, Vec<f32>)) -> Self {
        Self::of(native(), (program, weights))
    }

    fn of(isa: &'static Isa, (program, weights): (Program, Vec<f32>)) -> Self {
        let written = Self { isa, folder: TempDir::new().unwrap(), program, weights };
        let mut file = File::create(written.path()).unwrap();
        super::write(&mut file, &written.head(), &written.program, &written.weights).unwrap();
        written
    }

    fn binding(&self) -> Binding {
        binding(&self.program, self.isa)
    }

    fn head(&self) -> Head {
        head(&self.program, self.isa)
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("a.plan")
    }

    fn open(&self) -> Result<Plan, Error> {
        open(&self.path(), &self.binding(), self.head().trust.precision(), self.isa)
    }

    fn bytes(&self) -> Vec<u8> {
        read(self.path()).unwrap()
    }

    fn replace(&self, bytes: &[u8]) {
        std::fs::write(self.path(), bytes).unwrap();
    }

    /// The same plan in a sound frame that says something else.
    fn reassemble(&self, version: u32, head: &[u8], program: &[u8], weights: &[f32]) {
        super::assemble(&mut File::create(self.path()).unwrap(), version, head, program, weights).unwrap();
    }
}

fn sections(bytes: &[u8]) -> Header {
    Header::decode(bytes[..HEADER].try_into().unwrap(), VERSION).unwrap()
}

#[test]
fn what_was_written_is_read() {
    for parts in [small(native()), large(native()), wide(native())] {
        let written = Written::new(parts);
        let plan = written.open().unwrap();
        assert_eq!(plan.head, written.head());
        assert_eq!(plan.program, written.program);
        assert_eq!(plan.weights.as_ref(), written.weights);
        assert!(plan.weights.as_ref().as_ptr().addr().is_multiple_of(64));
        assert_eq!(read_head(&written.path()).unwrap(), plan.head);
        assert_eq!(read_texts(&written.path()).unwrap(), (plan.head, plan.program));
    }
}

#[test]
fn numbers_that_text_cannot_hold_are_not_written() {
    let (program, weights) = small(native());
    let mut head = head(&program, native());
    let compared = Compared { name: "a".into(), error: f32::NAN };
    for trust in [
        Trust::Fp32(Referee { bound: 1e-3, outputs: vec![compared] }),
        Trust::Int8(Judged { error: f64::NAN, ..judged() }),
        Trust::Int8(Judged { golden: Some(Golden { arithmetic: 1, answers: vec![vec![f32::INFINITY]] }), ..judged() }),
    ] {
        head.trust = trust;
        assert!(super::write(&mut Vec::new(), &head, &program, &weights).is_err());
    }
}

#[test]
fn a_file_cut_anywhere_is_recognised() {
    let written = Written::new(small(native()));
    let whole = written.bytes();
    let header = sections(&whole);
    let borders = header.sections.iter().flat_map(|section| [section.offset, section.offset + section.length]);
    let mut random = Random::new(1);
    let mut lengths: Vec<usize> = borders.map(|border| usize::try_from(border).unwrap()).collect();
    lengths.extend([0, 1, 7, 8, 12, 16, 24, 96, whole.len() - 1]);
    lengths.extend((0..200).map(|_| random.below(whole.len())));
    for length in lengths.into_iter().filter(|&length| length < whole.len()) {
        written.replace(&whole[..length]);
        let error = written.open().unwrap_err();
        assert!(matches!(error, Error::Truncated { found, .. } if found == length as u64), "{length}: {error}");
        assert!(length >= HEADER || read_head(&written.path()).is_err());
    }
    for more in [1, 63, 64, 5000] {
        written.replace(&[whole.as_slice(), &vec![0; more]].concat());
        let error = written.open().unwrap_err();
        assert!(matches!(error, Error::Damaged { part: "length", .. }), "{more}: {error}");
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let written = Written::new(small(native()));
    let whole = written.bytes();
    let file = File::options().write(true).open(written.path()).unwrap();
    let mut random = Random::new(2);
    let flip = |places: &[(usize, u8)]| {
        let mut struck = whole.clone();
        places.iter().for_each(|&(at, mask)| struck[at] ^= mask);
        let bytes = places.iter().map(|&(at, _)| at);
        bytes.clone().for_each(|at| file.write_all_at(&struck[at..=at], at as u64).unwrap());
        let found = written.open();
        bytes.for_each(|at| file.write_all_at(&whole[at..=at], at as u64).unwrap());
        // Wounds of two bits at one place heal.
        if struck == whole {
            return;
        }
        let error = found.map(|_| format!("{places:?} changed nothing")).unwrap_err();
        let known = matches!(error, Error::NotAPlan { .. } | Error::Version { .. } | Error::Damaged { .. });
        assert!(known, "{places:?}: {error}");
    };
    // Every bit of the header, then bits everywhere.
    (0..HEADER * 8).for_each(|bit| flip(&[(bit / 8, 1 << (bit % 8))]));
    for round in 0..10_000 {
        let count = if round % 2 == 0 { 1 } else { 2 + random.below(30) };
        let places: Vec<_> = (0..count).map(|_| (random.below(whole.len()), 1 << random.below(8))).collect();
        flip(&places);
    }
    assert!(written.open().is_ok());
}

#[test]
fn plans_for_others_are_refused() {
    let written = Written::new(small(native()));
    let right = written.binding();
    let open_in = |binding: &Binding, precision| open(&written.path(), binding, precision, written.isa).unwrap_err();
    let open = |binding: Binding| open_in(&binding, Precision::Fp32);
    let error = open(Binding { model_sha256: "5b".repeat(32), ..right.clone() });
    assert!(matches!(error, Error::OtherModel { .. }), "{error}");
    let error = open(Binding { input: [1, 3, 8, 6], ..right.clone() });
    assert!(matches!(error, Error::OtherShape { expected: [1, 3, 8, 6], found: [1, 3, 6, 6], .. }), "{error}");
    let foreign = if native().name == "neon" { "avx2" } else { "neon" };
    let error = open(Binding { isa: foreign.into(), ..right.clone() });
    assert!(matches!(error, Error::OtherIsa { .. }), "{error}");
    let text = error.to_string();
    for part in [written.path().to_str().unwrap(), foreign, native().name, "firstlight cache bake"] {
        assert!(text.contains(part), "{text}");
    }

    let error = open_in(&right, Precision::Int8);
    assert!(
        matches!(error, Error::OtherPrecision { expected: Precision::Int8, found: Precision::Fp32, .. }),
        "{error}"
    );

    // The same instruction set, whose tiles were other ones.
    let program = serde_json::to_vec(&written.program).unwrap();
    let mut other = written.head();
    other.tiles[0][1] += 1;
    written.reassemble(VERSION, &serde_json::to_vec(&other).unwrap(), &program, &written.weights);
    let error = open(right.clone());
    assert!(matches!(error, Error::OtherIsa { .. }), "{error}");

    let text = serde_json::to_vec(&written.head()).unwrap();
    for (version, age) in [(VERSION + 1, "newer"), (VERSION - 1, "older"), (u32::MAX, "newer")] {
        written.reassemble(version, &text, &program, &written.weights);
        let error = open(right.clone());
        assert!(matches!(error, Error::Version { found, .. } if found == version), "{error}");
        assert!(error.to_string().contains(age) && read_head(&written.path()).is_err(), "{error}");
    }

    // A program for another shape than its head says.
    let mut other = written.program.clone();
    other.input.shape = vec![1, 3, 4, 9];
    written.reassemble(VERSION, &text, &serde_json::to_vec(&other).unwrap(), &written.weights);
    assert!(matches!(open(right), Error::Invalid { .. }));
}

#[test]
fn what_is_no_file_of_ours_is_refused() {
    let written = Written::new(small(native()));
    for bytes in [&b"ONNX, or anything else"[..], &[0; 4096], b"\x89PNG\r\n\x1a\n"] {
        written.replace(bytes);
        assert!(matches!(written.open(), Err(Error::NotAPlan { .. })));
    }
    let missing = Path::new("/nonexistent/a.plan");
    assert!(matches!(read_head(missing), Err(Error::Io { .. })));
    assert!(matches!(read_head(written.folder.path()), Err(Error::Io { .. })));
    let pipe = written.folder.path().join("pipe");
    let name = std::ffi::CString::new(pipe.to_str().unwrap()).unwrap();
    // SAFETY: the name ends with a zero.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    assert!(matches!(read_head(&pipe), Err(Error::Io { .. })));
}

#[test]
fn texts_are_bounded() {
    let written = Written::new(small(native()));
    let (head, program) = (serde_json::to_vec(&written.head()).unwrap(), serde_json::to_vec(&written.program).unwrap());
    let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
    let long = [br#"{"arena":1,"input":{"name":"#.as_slice(), &vec![b' '; 33 << 20]].concat();
    for text in [deep.as_slice(), b"", b"null", b"\xff\xfe", &head] {
        written.reassemble(VERSION, &head, text, &written.weights);
        assert!(matches!(written.open(), Err(Error::Invalid { .. })));
    }
    written.reassemble(VERSION, &program, &program, &written.weights);
    assert!(matches!(written.open(), Err(Error::Invalid { .. })));
    assert!(super::assemble(&mut Vec::new(), VERSION, &head, &long, &[]).is_err());
    // A header whose text is longer than it may be, in a file that is as long as it says.
    let header = Header::of([8, 40 << 20, 0], [0; 3]).unwrap();
    written.replace(&header.encode(VERSION));
    File::options().write(true).open(written.path()).unwrap().set_len(header.length).unwrap();
    assert!(read_texts(&written.path()).is_err());
}
