//! `firstlight update`: a signed update into the slot that does not run; a bundle of models goes to the others.

use std::fs::File;
use std::io::{Cursor, IsTerminal, Read, Write, stderr, stdin};
use std::path::PathBuf;

use serde_json::json;

use super::slot::{Target, armed};
use super::{Error, bundle, print_line};
use crate::device::slot::Access;
use crate::device::update;
use crate::provision;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The bundle, or `-` for standard input
    #[arg(value_name = "FILE|-")]
    bundle: PathBuf,
    #[command(flatten)]
    target: Target,
    /// minisign public key that must have signed the bundle
    #[arg(long, value_name = "FILE", default_value = "/etc/firstlight/update.pub")]
    key: PathBuf,
    /// Board that the bundle must be for [default: that of this system's /etc/firstlight/release]
    #[arg(long, value_name = "NAME")]
    board: Option<String>,
    /// Arm the new slot as well: the next reboot starts it, once
    #[arg(long = "try")]
    try_it: bool,
}

pub fn run(args: &Args) -> Result<(), Error> {
    let mut from: Box<dyn Read> = if args.bundle.as_os_str() == "-" {
        Box::new(stdin().lock())
    } else {
        let failed = |cause| Error::Io { what: args.bundle.display().to_string(), cause };
        Box::new(File::open(&args.bundle).map_err(failed)?)
    };
    let begun = provision::bundle::begins_as_bundle(&mut *from);
    let (is_models, begun) = begun.map_err(|cause| Error::Io { what: args.bundle.display().to_string(), cause })?;
    let mut bundle = Cursor::new(begun).chain(from);
    if is_models {
        return bundle::install_with(&mut bundle, &args.key, args.board.as_ref());
    }
    let board = match &args.board {
        Some(board) => board.clone(),
        None => update::own_board()
            .map_err(|error| Error::Usage(format!("{error}; name the bundle's board with --board")))?,
    };
    let key = update::load_key(&args.key)?;
    let opened = args.target.open(Access::Change)?;
    if args.try_it {
        // Found out now and not after minutes of writing.
        opened.firmware().follow(opened.disk.state()?.committed)?;
    }
    let mut bar = Bar { shown: stderr().is_terminal(), percent: None };
    let mut progress = |done, total| bar.show(done, total);
    let installed = update::install(&mut bundle, &opened.disk, &board, &key, opened.running.slot, &mut progress);
    bar.end();
    let installed = installed?;
    let argument = if args.try_it { opened.try_slot(installed.slot)? } else { None };
    let (slot, version) = (installed.slot, &installed.version);
    eprintln!("version {version} is in slot {slot}, read back and verified");
    if args.try_it {
        eprintln!("{}", armed(slot, argument));
    }
    let line = json!({
        "slot": slot, "version": version, "bytes": installed.bytes, "armed": args.try_it, "reboot_argument": argument,
    });
    print_line(&line.to_string())
}

/// A line of per cent that is written over, for a person who watches.
#[derive(Debug)]
struct Bar {
    shown: bool,
    percent: Option<u64>,
}

impl Bar {
    fn show(&mut self, done: u64, total: u64) {
        let percent = done * 100 / total.max(1);
        if self.shown && self.percent != Some(percent) {
            self.percent = Some(percent);
            let _ = write!(stderr(), "\rwriting and reading back: {percent:3} %");
        }
    }

    fn end(&self) {
        if self.percent.is_some() {
            let _ = writeln!(stderr());
        }
    }
}
