//! `firstlight cache import`: a network in ONNX, or another cache, becomes packages of this one.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;

use serde::Serialize;

use super::{Engines, Error, Wanted, golden_frame, print_line, shelf, threads};
use crate::cache::{Cache, LayoutKind, Package, ResizeMode};
use crate::engine::{Backends, Format, Precision};
use crate::error::Exit;
use crate::model;
use crate::provision::import::{self, Copying, Draft, Outcome, Question, Recipe, Wishes};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// An ONNX file, or the root of a cache
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Id of the model [default: by the file's name, or what it says of itself]; of a cache the models to copy, of
    /// several one flag each [default: all]
    #[arg(long, value_name = "ID")]
    id: Vec<String>,
    /// What it is for, in Roboflow's word: object-detection, instance-segmentation, keypoint-detection, classification, …
    #[arg(long, value_name = "TASK")]
    task: Option<String>,
    /// Its family, as `firstlight models` lists them: yolov8, rfdetr, yolox, …
    #[arg(long = "type", alias = "family", value_name = "TYPE")]
    model_type: Option<String>,
    /// Names of its classes: a file with one a line, or a,b,c, or `coco`
    #[arg(long, value_name = "NAMES")]
    classes: Option<String>,
    /// Size of its input, where the file leaves that open: WIDTHxHEIGHT
    #[arg(long, value_name = "SIZE")]
    size: Option<String>,
    /// How pictures come to that size [default: as its family was trained]
    #[arg(long, value_name = "WAY")]
    resize: Option<Resize>,
    /// Layout of the package [default: packages, which says exactly how pictures are prepared, where the family has it]
    #[arg(long, value_name = "LAYOUT")]
    layout: Option<Layout>,
    /// Put it in the place of what has the id
    #[arg(long)]
    replace: bool,
    /// Do not ask anything
    #[arg(short, long)]
    yes: bool,
    /// One JSON object a model instead of words
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Resize {
    Stretch,
    Letterbox,
    CenterCrop,
    FitLongerEdge,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Layout {
    /// `{project}/{version}/`
    Classic,
    /// `models-cache/…/{package}/`
    Packages,
}

/// What was imported.
#[derive(Serialize)]
struct Report<'a> {
    id: &'a str,
    /// `imported`, `there` or `failed`.
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    bytes: u64,
    #[serde(flatten)]
    package: Option<OfPackage<'a>>,
}

/// Of a package that was made here.
#[derive(Serialize)]
struct OfPackage<'a> {
    task: &'a str,
    #[serde(rename = "type")]
    model_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'a str>,
    layout: LayoutKind,
    classes: usize,
    width: usize,
    height: usize,
    resize: &'static str,
    quantization: &'a str,
    sha256: &'a str,
    dir: String,
    notes: &'a [String],
}

/// What an error of an import is worth.
pub fn exit(error: &import::Error) -> Exit {
    use import::Error;
    match error {
        Error::Usage(_) | Error::Unclear(_) | Error::Exists { .. } => Exit::Usage,
        Error::File(_) | Error::Unsupported { .. } | Error::Cache(_) => Exit::ModelUnavailable,
        Error::Check(_) => Exit::VerificationFailed,
        Error::Store(_) | Error::Lock(_) => Exit::Failed,
    }
}

pub fn run(args: &Args, cache: &Cache) -> Result<(), Error> {
    if args.path.is_dir() { args.copy(cache) } else { args.import(cache) }
}

impl Args {
    fn copy(&self, cache: &Cache) -> Result<(), Error> {
        let of_onnx = [
            ("--task", self.task.is_some()),
            ("--type", self.model_type.is_some()),
            ("--classes", self.classes.is_some()),
            ("--size", self.size.is_some()),
            ("--resize", self.resize.is_some()),
            ("--layout", self.layout.is_some()),
        ];
        if let Some((flag, _)) = of_onnx.iter().find(|(_, given)| *given) {
            let path = self.path.display();
            return Err(Error::Usage(format!("{flag} says something of an ONNX file, and {path} is a folder")));
        }
        let from = Cache::at(&self.path);
        let mut printed = Ok(());
        let copied =
            import::copy(Copying { from: &from, ids: &self.id, replace: self.replace }, cache, &mut |copied| {
                let (outcome, reason) = match &copied.outcome {
                    Outcome::Copied => ("imported", None),
                    Outcome::There => ("there", None),
                    Outcome::Failed(why) => ("failed", Some(why.as_str())),
                };
                let report = Report { id: &copied.id, outcome, reason, bytes: copied.bytes, package: None };
                let line = if self.json {
                    serde_json::to_string(&report).map_err(|error| Error::Failed(error.to_string()))
                } else {
                    let reason = reason.map(|why| format!(": {why}")).unwrap_or_default();
                    Ok(format!("{outcome} {}, {:.1} MB{reason}", copied.id, copied.bytes as f64 / 1e6))
                };
                let now = line.and_then(|line| print_line(&line));
                if printed.is_ok() {
                    printed = now;
                }
            })?;
        printed?;
        match copied.iter().filter(|copied| matches!(copied.outcome, Outcome::Failed(_))).count() {
            0 => Ok(()),
            failed => Err(Error::Failed(format!("{failed} of {} models were not imported", copied.len()))),
        }
    }

    fn import(&self, cache: &Cache) -> Result<(), Error> {
        let attended = !self.yes && std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        let ask = |question: &Question| if attended { asked(question) } else { None };
        let draft = Draft::new(&self.path, &self.wishes()?, &ask)?;
        if !self.json {
            eprintln!("{}: {}", draft.id.as_str(), told(&draft.recipe));
            draft.recipe.notes.iter().for_each(|note| eprintln!("note: {note}"));
        }
        if attended && !matches!(line("Import it? [Y/n] ").as_deref(), Some("" | "y" | "Y" | "yes")) {
            return Err(Error::Failed("nothing was imported".into()));
        }
        let options = threads(None, None)?;
        // The referee of all others. Plans are made for the machine that runs it, by `cache bake` or its first start.
        let engines = Engines::choose(Wanted::Only("tract"), &[Precision::Fp32], &Backends::cpu_only(shelf(cache)))?;
        let check = |package: &Package| {
            let ran = engines.first(Format::of(package.weights.bytes()), |engine| {
                Ok(model::verify(package, engine, options, Some(&golden_frame))?)
            });
            ran.map(drop).map_err(|error: Error| error.to_string())
        };
        let imported = draft.import(cache, self.replace, &check)?;
        if !self.json {
            return print_line(&format!("imported {} into {}", draft.id.as_str(), imported.dir.display()));
        }
        let recipe = &draft.recipe;
        let report = Report {
            id: draft.id.as_str(),
            outcome: "imported",
            reason: None,
            bytes: imported.bytes,
            package: Some(OfPackage {
                task: &recipe.kind.task,
                model_type: &recipe.kind.model_type,
                variant: recipe.variant.as_deref(),
                layout: recipe.layout,
                classes: recipe.class_names.len(),
                width: recipe.size.width,
                height: recipe.size.height,
                resize: recipe.preparation.resize.as_str(),
                quantization: recipe.quantization,
                sha256: &imported.sha256,
                dir: imported.dir.display().to_string(),
                notes: &recipe.notes,
            }),
        };
        print_line(&serde_json::to_string(&report).map_err(|error| Error::Failed(error.to_string()))?)
    }

    fn wishes(&self) -> Result<Wishes, Error> {
        if let [_, second, ..] = &self.id[..] {
            return Err(Error::Usage(format!("--id {second}: an ONNX file becomes one model")));
        }
        Ok(Wishes {
            id: self.id.first().cloned(),
            task: self.task.clone(),
            model_type: self.model_type.clone(),
            classes: self.classes.as_deref().map(import::classes).transpose()?,
            size: self.size.as_deref().map(import::parse_size).transpose()?,
            resize: self.resize.map(|resize| match resize {
                Resize::Stretch => ResizeMode::Stretch,
                Resize::Letterbox => ResizeMode::Letterbox,
                Resize::CenterCrop => ResizeMode::CenterCrop,
                Resize::FitLongerEdge => ResizeMode::FitLongerEdge,
            }),
            layout: self.layout.map(|layout| match layout {
                Layout::Classic => LayoutKind::Classic,
                Layout::Packages => LayoutKind::ModelsCache,
            }),
        })
    }
}

fn told(recipe: &Recipe) -> String {
    format!(
        "{} {}, {} classes, {}x{} pixels, {}, {}",
        recipe.kind.task,
        recipe.variant.as_deref().unwrap_or(&recipe.kind.model_type),
        recipe.class_names.len(),
        recipe.size.width,
        recipe.size.height,
        recipe.preparation.resize.as_str(),
        recipe.quantization
    )
}

/// What whoever sits at the terminal says to a question; `None` when nothing.
fn asked(question: &Question) -> Option<String> {
    eprintln!("it is not clear {}; found: {}", question.what, question.found);
    line(&format!("{} ({}): ", question.flag, question.choices.join(", "))).filter(|answer| !answer.is_empty())
}

fn line(prompt: &str) -> Option<String> {
    eprint!("{prompt}");
    std::io::stderr().flush().ok()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).ok().filter(|read| *read > 0)?;
    Some(answer.trim().to_owned())
}
