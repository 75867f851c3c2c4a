//! Programs made to harm, in sound files: refused, or harmless when they run.
//!
//! What is accepted runs between pages that nobody may touch, once with the items of each step in order and once in
//! another one. The same values both times say that no item reads what another one writes: that is what lets threads run
//! them at once.

use serde_json::{Value, json};

use super::guard::{CANARY, Guarded};
use super::*;
use crate::engine::plan::kernels::Kernels;
use crate::engine::plan::steps::{Context, Operand};

/// Values after the arena that a kernel may read (see exec.rs).
const SLACK: usize = 64;

/// Work that an accepted program may be of, so that a test ends: bytes are cheap, so is a program that takes an hour.
const ITEMS_MAX: usize = 20_000;
const ARENA_MAX: usize = 1 << 21;

/// A program with its memory.
struct Cage<'p> {
    kernels: &'static Kernels,
    program: &'p Program,
    weights: Guarded,
    scratch: Guarded,
}

impl<'p> Cage<'p> {
    fn new(plan: &'p Plan, kernels: &'static Kernels) -> Self {
        let from = plan.weights.as_ref();
        let mut weights = Guarded::new(from.len());
        weights.values().copy_from_slice(from);
        weights.protect();
        let steps = &plan.program.steps;
        let scratch = steps.iter().map(|named| named.step.work().scratch(kernels.isa)).max().unwrap_or(0);
        Self { kernels, program: &plan.program, weights, scratch: Guarded::new(scratch.next_multiple_of(16)) }
    }

    fn arena(&self) -> Guarded {
        let mut arena = Guarded::new(self.program.arena + SLACK);
        let mut random = Random::new(11);
        let (values, slack) = arena.values().split_at_mut(self.program.arena);
        values.iter_mut().for_each(|value| *value = random.uniform(-2.0, 2.0));
        slack.fill(f32::from_bits(CANARY));
        arena
    }

    fn step(&mut self, step: &Step, items: impl Iterator<Item = usize>, arena: &mut Guarded) {
        let (weights, scratch) = (self.weights.pointer().cast_const(), self.scratch.pointer());
        let context = Context { arena: arena.pointer(), weights, scratch, kernels: self.kernels };
        for item in items {
            // SAFETY: that is what is tested: check() found nothing wrong.
            unsafe { step.work().run(item, &context) };
        }
    }

    /// Runs all steps.
    fn run(mut self, random: &mut Random) {
        let (mut first, mut second) = (self.arena(), self.arena());
        for named in &self.program.steps {
            let items = named.step.work().items(self.kernels.isa);
            self.step(&named.step, 0..items, &mut first);
            // Backwards, from anywhere on.
            let start = random.below(items);
            self.step(&named.step, (0..items).map(|item| (start + items - item) % items), &mut second);
            if let Some(at) = (0..self.program.arena).find(|&at| first.bits()[at] != second.bits()[at]) {
                panic!("items of {:?} disturb each other at {at}", named.step);
            }
            for arena in [&mut first, &mut second] {
                let slack = self.program.arena;
                assert!(
                    arena.is_sound() && arena.bits()[slack..].iter().all(|&value| value == CANARY),
                    "{:?}",
                    named.step
                );
            }
            assert!(self.scratch.is_sound(), "{:?}", named.step);
        }
        let len = self.program.outputs.iter().map(|output| output.offset + output.volume()).max();
        assert!(len <= Some(self.program.arena));
    }
}

/// What a document says, without its structure.
fn leaves<'v>(value: &'v mut Value, found: &mut Vec<&'v mut Value>) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(|value| leaves(value, found)),
        Value::Object(map) => map.values_mut().for_each(|value| leaves(value, found)),
        _ => found.push(value),
    }
}

/// Another number: near or far.
fn number(from: u64, arena: usize, random: &mut Random) -> Value {
    match random.below(13) {
        0 => json!(0),
        1 => json!(1),
        2 | 3 => json!(from.wrapping_add(1)),
        4 => json!(from.saturating_sub(1)),
        5 => json!(from / 2),
        6 => json!(from.wrapping_mul(2)),
        7 => json!(from.wrapping_add(1 + random.below(64) as u64)),
        8 => json!(from.saturating_sub(1 + random.below(64) as u64)),
        9 => json!(random.below(2 * arena)),
        10 => json!(
            [u64::MAX, 1 << 63, 1 << 48, 1 << 32, u64::from(u32::MAX), 1 << 31, 1 << 28, 1 << 24][random.below(8)]
        ),
        11 => json!(u64::MAX - random.below(arena) as u64),
        _ => [json!(-1), json!(0.5), json!(1e300), json!(null)][random.below(4)].clone(),
    }
}

/// Changes up to three leaves; half of the times to what stands elsewhere in the document.
fn deface(document: &mut Value, arena: usize, random: &mut Random) {
    let mut found = Vec::new();
    leaves(document, &mut found);
    for _ in 0..1 + random.below(3) {
        let at = random.below(found.len());
        let other = match &*found[at] {
            Value::Number(from) if random.below(4) > 0 => number(from.as_u64().unwrap_or(0), arena, random),
            Value::Bool(is) => json!(!is),
            like => {
                let alike = std::mem::discriminant(like);
                let others: Vec<&&mut Value> =
                    found.iter().filter(|other| std::mem::discriminant(&***other) == alike).collect();
                (*others[random.below(others.len())]).clone()
            }
        };
        *found[at] = other;
    }
}

/// The best kernels of this CPU, and those that any CPU can run.
fn tables() -> [&'static Kernels; 2] {
    [kernels::native(), kernels::by_name("portable").expect("it is always there").0]
}

#[test]
fn programs_that_are_accepted_are_harmless() {
    let rounds = if std::env::var_os("FIRSTLIGHT_FULL").is_some() { 20_000 } else { 400 };
    for kernels in tables() {
        for (seed, of) in [small, large, wide].into_iter().enumerate() {
            strike(Written::of(kernels.isa, of(kernels.isa)), kernels, rounds, &mut Random::new(seed as u64));
        }
    }
}

#[test]
fn programs_of_bytes_that_are_accepted_are_harmless() {
    let rounds = if std::env::var_os("FIRSTLIGHT_FULL").is_some() { 20_000 } else { 400 };
    for kernels in kernels::int8().into_iter().chain([tables()[1]]) {
        strike(Written::of(kernels.isa, bytes(kernels.isa)), kernels, rounds, &mut Random::new(5));
    }
}

#[test]
fn programs_of_halves_that_are_accepted_are_harmless() {
    let rounds = if std::env::var_os("FIRSTLIGHT_FULL").is_some() { 20_000 } else { 400 };
    for kernels in kernels::fp16().into_iter().chain([kernels::portable()]) {
        strike(Written::of(kernels.isa, halves(kernels.isa)), kernels, rounds, &mut Random::new(6));
    }
}

#[test]
fn halves_are_refused_where_there_are_no_products_of_them_and_in_other_plans() {
    let portable = kernels::portable().isa;
    let written = Written::of(portable, halves(portable));
    assert!(written.open().is_ok());
    let without = Isa { fp16: None, ..kernels::isa::PORTABLE };
    let mut head = written.head();
    let reopen = |head: &Head, precision: Precision, isa: &Isa| {
        let program = serde_json::to_vec(&written.program).unwrap();
        written.reassemble(VERSION, &serde_json::to_vec(head).unwrap(), &program, &written.weights);
        open(&written.path(), &written.binding(), precision, isa).unwrap_err().to_string()
    };
    head.tiles = without.tiles();
    assert!(reopen(&head, Precision::Fp16, &without).contains("fp16 plans need"));
    head.tiles = portable.tiles();
    head.trust = Trust::Int8(judged());
    assert!(reopen(&head, Precision::Int8, portable).contains("fp16 steps in a plan of int8"));
    head.trust = Trust::Fp32(Referee::default());
    assert!(reopen(&head, Precision::Fp32, portable).contains("fp16 steps in a plan of fp32"));
    // Two weights lie where one does: of what both need no value is too much.
    let program = Program { steps: written.program.steps.clone(), ..written.program.clone() };
    let cut = &written.weights[..written.weights.len() - 64];
    written.reassemble(
        VERSION,
        &serde_json::to_vec(&written.head()).unwrap(),
        &serde_json::to_vec(&program).unwrap(),
        cut,
    );
    assert!(written.open().unwrap_err().to_string().contains("its weights leave"));
}

#[test]
fn bytes_are_refused_where_there_are_no_products_of_them() {
    let portable = tables()[1].isa;
    let written = Written::of(portable, bytes(portable));
    let without = Isa { int8: None, ..kernels::isa::PORTABLE };
    let error = open(&written.path(), &written.binding(), Precision::Int8, &without).unwrap_err();
    assert!(matches!(&error, Error::Invalid { fault, .. } if fault.contains("int8 plans need")), "{error}");
}

#[test]
fn what_a_head_says_of_its_precision_is_checked() {
    let portable = tables()[1].isa;
    let written = Written::of(portable, bytes(portable));
    let program = serde_json::to_vec(&written.program).unwrap();
    let open_as = |trust: Value, precision: Precision| {
        let mut document = serde_json::to_value(written.head()).unwrap();
        document["trust"] = trust;
        written.reassemble(VERSION, &serde_json::to_vec(&document).unwrap(), &program, &written.weights);
        open(&written.path(), &written.binding(), precision, portable)
    };
    let told = serde_json::to_value(written.head().trust).unwrap();
    assert!(open_as(told.clone(), Precision::Int8).is_ok());
    let error = open_as(told.clone(), Precision::Fp32).unwrap_err();
    assert!(matches!(error, Error::OtherPrecision { .. }), "{error}");
    // Bytes that pass for numbers.
    let error = open_as(json!({"fp32": {"bound": 1e-3, "outputs": []}}), Precision::Fp32).unwrap_err();
    assert!(error.to_string().contains("int8 steps in a plan of fp32"), "{error}");
    let long = vec![0.5; REMEMBERED_MAX + 1];
    for (key, value) in [
        ("error", json!(0.051)),
        ("error", json!(-0.001)),
        ("error", json!(null)),
        ("error_max", json!(1.5)),
        ("error_max", json!(1e308)),
        ("images", json!(0)),
        ("images", json!(-1)),
        ("measure", json!("mAP")),
        ("golden", json!({"arithmetic": 1, "answers": [long]})),
        ("golden", json!({"arithmetic": 1, "answers": [[1e300]]})),
        ("golden", json!({"arithmetic": 1_u64 << 40, "answers": []})),
        ("other", json!(1)),
    ] {
        let mut changed = told.clone();
        changed["int8"][key] = value.clone();
        let error = open_as(changed, Precision::Int8).expect_err(key);
        assert!(matches!(error, Error::Invalid { .. }), "{key} {value}: {error}");
    }
    for trust in [json!({}), json!(null), json!("int8"), json!({"int4": {}}), json!({"fp32": told["int8"]})] {
        assert!(matches!(open_as(trust.clone(), Precision::Int8), Err(Error::Invalid { .. })), "{trust}");
    }
}

fn strike(written: Written, kernels: &'static Kernels, rounds: usize, random: &mut Random) {
    let text = serde_json::to_vec(&written.head()).unwrap();
    let document = serde_json::to_value(&written.program).unwrap();
    Cage::new(&written.open().unwrap(), kernels).run(random);
    let (mut ran, mut refused, mut too_long) = (0, 0, 0);
    for _ in 0..rounds {
        let mut document = document.clone();
        deface(&mut document, written.program.arena, random);
        let program = serde_json::to_vec(&document).unwrap();
        written.reassemble(VERSION, &text, &program, &written.weights);
        match written.open() {
            Ok(plan) if plan.program == written.program => {}
            Ok(plan) => {
                let items = plan.program.steps.iter().map(|named| named.step.work().items(kernels.isa));
                if plan.program.arena > ARENA_MAX || items.sum::<usize>() > ITEMS_MAX {
                    too_long += 1;
                    continue;
                }
                Cage::new(&plan, kernels).run(random);
                ran += 1;
            }
            Err(Error::Invalid { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    println!("{}: {ran} ran, {refused} refused, {too_long} not run because they are long", kernels.isa.name);
    assert!(ran > rounds / 20 && refused > rounds / 5 && too_long < rounds / 50, "the damage should be of both kinds");
}

/// A program of which one thing was changed.
fn changed(change: impl Fn(&mut Program)) -> Error {
    let written = Written::new(large(native()));
    let mut program = written.program.clone();
    change(&mut program);
    let text = serde_json::to_vec(&written.head()).unwrap();
    written.reassemble(VERSION, &text, &serde_json::to_vec(&program).unwrap(), &written.weights);
    written.open().expect_err("a program that must be refused")
}

/// Makes a program one that must be refused.
type Spoil = Box<dyn Fn(&mut Program)>;

#[test]
fn each_danger_is_named() {
    macro_rules! first {
        ($program:expr, $kind:ident) => {
            $program
                .steps
                .iter_mut()
                .find_map(|named| if let Step::$kind(step) = &mut named.step { Some(step) } else { None })
                .unwrap()
        };
    }
    let refused: [(&str, Spoil); 24] = [
        ("an arena larger than memory", Box::new(|p| p.arena = usize::MAX)),
        ("an arena of 2 GiB", Box::new(|p| p.arena = 1 << 29)),
        ("an arena without values", Box::new(|p| p.arena = 0)),
        ("an input outside", Box::new(|p| p.input.offset = p.arena - 1)),
        ("an input whose end overflows", Box::new(|p| p.input.offset = usize::MAX)),
        ("an output whose volume overflows", Box::new(|p| p.outputs[0].shape = vec![1 << 32, 1 << 32])),
        ("an output of no values", Box::new(|p| p.outputs[0].shape = vec![0])),
        ("an output of many dimensions", Box::new(|p| p.outputs[0].shape = vec![1; 100_000])),
        ("no outputs", Box::new(|p| p.outputs.clear())),
        ("many outputs", Box::new(|p| p.outputs = vec![p.outputs[0].clone(); 100])),
        ("a name as long as a book", Box::new(|p| p.steps[0].node = "n".repeat(1 << 20))),
        ("steps without end", Box::new(|p| p.steps = vec![p.steps[0].clone(); (1 << 16) + 1])),
        (
            "a convolution in place",
            Box::new(|p| {
                let c = first!(p, Conv);
                c.input.offset = c.output.offset
            }),
        ),
        (
            "a sum of nothing",
            Box::new(|p| {
                let c = first!(p, Conv);
                c.finish.residual = Residual::After
            }),
        ),
        ("weights that overflow", Box::new(|p| first!(p, Conv).weights = usize::MAX)),
        ("a bias that overflows", Box::new(|p| first!(p, Conv).bias = usize::MAX - 1)),
        ("a window of no rows", Box::new(|p| first!(p, Conv).window.kernel[0] = 0)),
        ("a window of many rows", Box::new(|p| first!(p, Conv).window.kernel[0] = 4096)),
        (
            "a picture that never ends",
            Box::new(|p| {
                let c = first!(p, Conv);
                (c.input.height, c.input.row) = (usize::MAX, 0)
            }),
        ),
        (
            "a pool in place",
            Box::new(|p| {
                let c = first!(p, Pool);
                c.input = c.output
            }),
        ),
        (
            "a copy onto its neighbour",
            Box::new(|p| {
                let c = first!(p, Copy);
                c.input.constant = false;
                c.input.strides = c.output.strides.clone();
                c.input.offset = c.output.offset + 1
            }),
        ),
        (
            "a map onto its neighbour",
            Box::new(|p| {
                let c = first!(p, Unary);
                c.input = Operand { constant: false, offset: c.output.offset + 1, strides: c.output.strides.clone() }
            }),
        ),
        (
            "a map onto its neighbour's neighbour",
            Box::new(|p| {
                let c = first!(p, Binary);
                c.inputs[1] =
                    Operand { constant: false, offset: c.output.offset + 1, strides: c.output.strides.clone() }
            }),
        ),
        (
            "values written twice",
            Box::new(|p| {
                let c = first!(p, Conv);
                c.output.pixel = c.output.channels - 1
            }),
        ),
    ];
    for (what, change) in refused {
        let error = changed(change);
        assert!(matches!(error, Error::Invalid { .. }), "{what}: {error}");
        assert!(error.to_string().len() < 10_000, "{what}");
        println!("{what}: {error}");
    }
}
