//! `firstlight probe`: the board, which engine would run, its decoders of video, which package of a model, and whether it
//! has a plan; or what a camera offers.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};

use super::{Error, backends, explained, print_line, shelf};
use crate::cache::{Cache, Choice, Layout, LayoutKind, ModelId, Package};
use crate::engine::plan::{self, Found, NATIVE, Target};
use crate::engine::{Backends, Engine, Format, Precision, accel};
use crate::{device, engine, model, source};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON object instead of words
    #[arg(long)]
    json: bool,
    /// Show as well which package of this model would run, and why the others would not
    #[arg(long, value_name = "ID")]
    model: Option<String>,
    /// The layout that the package shall have, where the model has both [default: models-cache]
    #[arg(long, value_enum, requires = "model")]
    layout: Option<LayoutArg>,
    /// Show instead what the camera at this device offers: formats, sizes, rates and controls
    #[arg(long, value_name = "DEVICE", conflicts_with_all = ["model", "layout"])]
    camera: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum LayoutArg {
    Classic,
    ModelsCache,
    Tflite,
}

impl From<LayoutArg> for LayoutKind {
    fn from(layout: LayoutArg) -> Self {
        match layout {
            LayoutArg::Classic => LayoutKind::Classic,
            LayoutArg::ModelsCache => LayoutKind::ModelsCache,
            LayoutArg::Tflite => LayoutKind::Tflite,
        }
    }
}

pub fn run(args: &Args, cache: &Cache) -> Result<(), Error> {
    if let Some(device) = &args.camera {
        return print_camera(device, args.json);
    }
    let backends = backends(cache)?;
    let choice = match &args.model {
        Some(id) => {
            let id = ModelId::parse(id)?;
            let choice = cache.choose(&id, args.layout.map(LayoutKind::from), &super::host(&backends));
            Some(choice.map_err(|error| explained(cache, &id, error))?)
        }
        None => None,
    };
    let root = Path::new("/");
    let board = device::identify(root);
    let machine = device::BoardFile::for_machine(root);
    let differences = machine.file.differences(&board, root);
    let probed: Vec<Probed> =
        engine::engines(&backends, Precision::Fp32).iter().map(|engine| Probed::of(&**engine, &backends)).collect();
    let chosen = probed
        .iter()
        .find(|probed| probed.usable && !probed.by_name_only && probed.formats.contains(&Format::Onnx))
        .map(|probed| probed.name);
    let plans: Vec<Outlook> = match &choice {
        Some(choice) => Outlook::all(&choice.package, cache, Depth::Network),
        None => {
            let ready = cache.entries().into_iter().filter_map(|entry| entry.package.ok());
            let ready = ready.filter(|package| model::contract(package).is_ok());
            ready.flat_map(|package| Outlook::all(&package, cache, Depth::Files)).collect()
        }
    };
    let decoders = source::codec::decoders();
    if args.json {
        let mut document = json!({
            "board": {
                "name": board.name, "model": board.model, "architecture": board.architecture, "cores": board.cores,
                "cpu_features": board.cpu_features, "memory_mb": board.memory_mb,
                "file": machine.file.name, "matched_by": machine.by.to_string(), "soc": machine.file.soc,
                "differences": differences, "file_fault": machine.fault.map(|fault| fault.to_string()),
            },
            "engines": probed,
            "chosen": chosen,
            "plans": plans,
            "decoders": decoders,
        });
        if let Some(choice) = &choice {
            document["package"] = package(choice);
        }
        return print_line(&document.to_string());
    }
    let model = if board.model.is_empty() { String::new() } else { format!(" ({})", board.model) };
    print_line(&format!("board    {}{model}", board.name))?;
    print_line(&format!(
        "cpu      {} {}, {} cores, {} MB memory",
        board.architecture,
        board.cpu_features.join(" "),
        board.cores,
        board.memory_mb
    ))?;
    print_line(&format!("file     {} by {}; SoC {}", machine.file.name, machine.by, machine.file.soc))?;
    if let Some(fault) = &machine.fault {
        print_line(&format!("fault    {fault}"))?;
    }
    for difference in &differences {
        print_line(&format!("differs  {difference}"))?;
    }
    print_engines(&probed, chosen)?;
    for decoder in &decoders {
        print_line(&format!("decoder  {decoder}: H.264"))?;
    }
    for outlook in &plans {
        outlook.print()?;
    }
    choice.as_ref().map_or(Ok(()), print_choice)
}

/// What an engine says of this machine.
#[derive(Serialize)]
struct Probed {
    name: &'static str,
    version: String,
    usable: bool,
    why: Option<String>,
    /// Never chosen by itself.
    by_name_only: bool,
    /// The files it runs.
    formats: Vec<Format>,
}

impl Probed {
    fn of(engine: &dyn Engine, backends: &Backends) -> Self {
        let forbidden = backends.forbids(engine.name()).then(|| "forbidden by engine.forbid".to_owned());
        let why = forbidden.or_else(|| engine.probe().err());
        let version = if why.is_none() { engine.version() } else { String::new() };
        let formats = [Format::Onnx, Format::Tflite].into_iter().filter(|&format| engine.takes(format)).collect();
        let (name, by_name_only) = (engine.name(), engine.by_name_only());
        Self { name, version, usable: why.is_none(), why, by_name_only, formats }
    }
}

/// A line each; those that nobody expects share one for each reason.
fn print_engines(probed: &[Probed], chosen: Option<&str>) -> Result<(), Error> {
    for (index, Probed { name, version, why, by_name_only, formats, .. }) in probed.iter().enumerate() {
        let Some(why) = why else {
            let verdict = match (Some(*name) == chosen, by_name_only) {
                (true, _) => "chosen",
                (false, true) => "usable, when it is asked for",
                (false, false) if !formats.contains(&Format::Onnx) => "usable, for .tflite files",
                (false, false) => "usable",
            };
            print_line(&format!("engine   {name} {version}: {verdict}"))?;
            continue;
        };
        let same = |other: &&Probed| other.why.as_ref() == Some(why);
        if !probed[..index].iter().any(|other| same(&other)) {
            let names: Vec<&str> = probed.iter().filter(same).map(|other| other.name).collect();
            print_line(&format!("engine   {}: not usable: {why}", names.join(", ")))?;
        }
    }
    Ok(())
}

/// What a camera offers.
fn print_camera(device: &Path, json: bool) -> Result<(), Error> {
    let camera = source::describe_camera(device).map_err(Error::Failed)?;
    if json {
        return print_line(&serde_json::json!(camera).to_string());
    }
    print_line(&format!("camera   {} (driver {})", camera.card, camera.driver))?;
    for format in &camera.formats {
        let taken = format.name.map_or_else(|| "not taken".into(), |name| format!("format={name}"));
        print_line(&format!("format   {} {taken}", format.fourcc))?;
        for size in &format.sizes {
            print_line(&format!("size     {} {} at {}", format.fourcc, size.pixels, size.frames_per_second))?;
        }
    }
    for control in &camera.controls {
        let now = control.value.map(|value| format!(", now {value}")).unwrap_or_default();
        let fixed = control.fixed.map(|why| format!("; {why}")).unwrap_or_default();
        print_line(&format!(
            "control  {}: {}, default {}{now}{fixed}",
            control.name,
            control.range(),
            control.default
        ))?;
    }
    Ok(())
}

/// How far is looked for the plan of a model.
#[derive(Clone, Copy, PartialEq)]
enum Depth {
    /// To what is kept.
    Files,
    /// Into the network itself, which takes as long as loading it.
    Network,
}

/// Whether a model has a plan here.
#[derive(Serialize)]
struct Outlook {
    id: String,
    precision: Precision,
    /// Whether it runs by a plan; none where only baking would tell.
    usable: Option<bool>,
    /// The plan's file, when it is there and in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
    /// Instruction set and error of the plan, why there is none, what is wrong with its file.
    words: String,
}

impl Outlook {
    /// In fp32; and in fp16 and int8, where somebody baked that.
    fn all(package: &Package, cache: &Cache, depth: Depth) -> Vec<Self> {
        let less =
            [Precision::Fp16, Precision::Int8].into_iter().filter_map(|less| Self::in_less(package, cache, less));
        [Self::of(package, cache, depth)].into_iter().chain(less).collect()
    }

    fn in_less(package: &Package, cache: &Cache, precision: Precision) -> Option<Self> {
        let isa = Target::parse(NATIVE, precision).ok()?.isa;
        let shelf = shelf(cache);
        let sha256 = shelf.sha256(package.weights.path(), package.weights.bytes());
        let mut damaged = None;
        let complain = &mut |why: String| damaged = Some(format!("not usable: {why}"));
        let find = |network: &engine::Network<'_>| shelf.find(&sha256, isa, precision, network.shape, complain);
        let found = model::with_network(package, None, find).ok()?;
        let outlook = |usable, path, words| Self { id: package.id.clone(), precision, usable, path, words };
        match found {
            Found::Plan(plan, path) => {
                let words = format!("{}, {}", plan::told(&plan.head), path.display());
                Some(outlook(Some(true), Some(path), words))
            }
            Found::Refused(_) | Found::Nothing => damaged.map(|why| outlook(Some(false), None, why)),
        }
    }

    fn of(package: &Package, cache: &Cache, depth: Depth) -> Self {
        let outlook =
            |usable, path, words| Self { id: package.id.clone(), precision: Precision::Fp32, usable, path, words };
        let isa = plan::native().isa;
        let shelf = shelf(cache);
        let sha256 = shelf.sha256(package.weights.path(), package.weights.bytes());
        let mut damaged = String::new();
        let looked = model::with_network(package, None, |network| {
            let complain = &mut |why: String| damaged += &format!("; not usable: {why}");
            match shelf.find(&sha256, isa, Precision::Fp32, network.shape, complain) {
                Found::Nothing if depth == Depth::Network => Err(plan::outlook(network)),
                found => Ok(found),
            }
        });
        match looked {
            Err(error) => outlook(Some(false), None, error.to_string()),
            Ok(Ok(Found::Plan(plan, path))) => {
                let words = format!("{}, {}{damaged}", plan::told(&plan.head), path.display());
                outlook(Some(true), Some(path), words)
            }
            Ok(Ok(Found::Refused(why)) | Err(Err(plan::Failure::Refused(why)))) => {
                outlook(Some(false), None, why + &damaged)
            }
            Ok(Err(Err(plan::Failure::Engine(error)))) => outlook(Some(false), None, error.to_string() + &damaged),
            Ok(Err(Ok(()))) => outlook(Some(true), None, format!("{}, not baked yet{damaged}", isa.name)),
            Ok(Ok(Found::Nothing)) => outlook(None, None, format!("not baked yet{damaged}")),
        }
    }

    fn print(&self) -> Result<(), Error> {
        let verdict = match self.usable {
            Some(true) => "yes: ",
            Some(false) => "no: ",
            None => "",
        };
        print_line(&format!("plan     {}: {verdict}{}", self.id, self.words))
    }
}

/// The chosen package and the others, for `--json`.
fn package(choice: &Choice) -> Value {
    let package = &choice.package;
    let (package_id, backend, quantization) = identity(package);
    json!({
        "model_id": package.id, "layout": package.layout_kind(), "package_id": package_id, "backend": backend,
        "quantization": quantization, "dir": package.dir, "passed_over": choice.passed_over,
        "prebuilt": Beside::all(package),
    })
}

fn print_choice(choice: &Choice) -> Result<(), Error> {
    let package = &choice.package;
    let (package_id, backend, quantization) = identity(package);
    let described = |layout: LayoutKind, package_id: &str, backend: &str, quantization: &str| {
        let words = [layout.as_str(), package_id, backend, quantization];
        words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    };
    let chosen = described(package.layout_kind(), package_id, backend, quantization);
    print_line(&format!("package  {} {chosen}: chosen, {}", package.id, package.dir.display()))?;
    for engine in Beside::all(package) {
        print_line(&format!(
            "package  {} {}: {}",
            package.id,
            described(LayoutKind::ModelsCache, engine.package_id, "trt", engine.quantization),
            engine.words()
        ))?;
    }
    for passed in &choice.passed_over {
        let other = described(passed.layout, &passed.package_id, &passed.backend, &passed.quantization);
        print_line(&format!("package  {} {other}: passed over: {}", package.id, passed.why))?;
    }
    Ok(())
}

/// An engine of TensorRT that lies beside the chosen package.
#[derive(Serialize)]
struct Beside<'a> {
    package_id: &'a str,
    quantization: &'a str,
    /// The `engine.precision` with which it is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    precision: Option<Precision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<String>,
}

impl<'a> Beside<'a> {
    fn all(package: &'a Package) -> Vec<Self> {
        let fits = |network: &engine::Network<'_>| network.prebuilt.iter().map(|of| accel::fit(network, of)).collect();
        let fits: Vec<Result<Precision, String>> = model::with_network(package, None, fits).unwrap_or_default();
        let all = package.prebuilt.iter().zip(fits);
        let beside = all.map(|(of, fits)| Self {
            package_id: &of.package_id,
            quantization: &of.quantization,
            precision: fits.as_ref().ok().copied(),
            why_not: fits.err(),
        });
        beside.collect()
    }

    fn words(&self) -> String {
        match (&self.why_not, self.precision) {
            (Some(why), _) => format!("not used: {why}"),
            (None, precision) => format!(
                "engine tensorrt takes it in {} instead of building one, if its answers are tract's",
                precision.unwrap_or_default()
            ),
        }
    }
}

/// Package id, backend and quantization; empty where the layout does not say.
fn identity(package: &Package) -> (&str, &str, &str) {
    match &package.layout {
        Layout::Classic { .. } => ("", "onnx", ""),
        Layout::Tflite(_) => ("", "tflite", ""),
        Layout::ModelsCache(layout) => (&layout.package_id, &layout.backend, &layout.quantization),
    }
}
