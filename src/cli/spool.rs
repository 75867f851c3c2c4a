//! `firstlight spool`: what the answers' ring on the data partition holds.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::{Error, print_table};
use crate::sink::spool::reader::{Contents, Segment, segments};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// One line a segment; exits 4 when one is damaged or records are missing between two
    Ls {
        /// Directory of the spool, such as /data/spool
        dir: PathBuf,
    },
    /// Every record of the whole segments, a line each, in order; exits 4 as `ls`
    Cat {
        /// Directory of the spool, such as /data/spool
        dir: PathBuf,
    },
}

pub fn run(command: &Command) -> Result<(), Error> {
    match command {
        Command::Ls { dir } => list(dir),
        Command::Cat { dir } => print(dir),
    }
}

fn list(dir: &Path) -> Result<(), Error> {
    let mut faults = Vec::new();
    let rows: Vec<Vec<String>> = segments(dir)?
        .map(|segment| {
            let fault = segment.fault();
            let row = row(&segment, fault.as_deref());
            faults.extend(fault);
            row
        })
        .collect();
    if rows.is_empty() {
        eprintln!("no segment in {}", dir.display());
        return Ok(());
    }
    print_table(&["FIRST", "LAST", "RECORDS", "BYTES", "STATE"], rows.into_iter())?;
    conclude(dir, &faults)
}

fn row(segment: &Segment, fault: Option<&str>) -> Vec<String> {
    let unknown = || ("-".to_owned(), "-".to_owned());
    let counts = |found: &Contents| (found.last.to_string(), (found.last + 1 - segment.first).to_string());
    let (last, records) = segment.contents.as_ref().map_or_else(|_| unknown(), counts);
    vec![segment.first.to_string(), last, records, segment.bytes.to_string(), fault.unwrap_or("whole").to_owned()]
}

fn print(dir: &Path) -> Result<(), Error> {
    let mut faults = Vec::new();
    let mut stdout = std::io::stdout().lock();
    for segment in segments(dir)? {
        faults.extend(segment.fault());
        let Ok(contents) = &segment.contents else { continue };
        match stdout.write_all(&contents.records) {
            // A reader that has gone has seen what it wanted.
            Err(cause) if cause.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written.map_err(|cause| Error::Io { what: "stdout".into(), cause })?,
        }
    }
    drop(stdout);
    conclude(dir, &faults)
}

fn conclude(dir: &Path, faults: &[String]) -> Result<(), Error> {
    match faults {
        [] => Ok(()),
        faults => Err(Error::Verification(format!("{}: {}", dir.display(), faults.join("; ")))),
    }
}
