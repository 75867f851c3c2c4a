//! Stand-in until branch `file` lands: the same functions, nothing validated beyond what steps check.

use std::io::{Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::kernels::Kernels;
use super::program::Program;
use super::steps::Limits;

const MAGIC: &[u8; 8] = b"FLPLAN00";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    pub model_sha256: String,
    pub input: [usize; 4],
    pub isa: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    pub binding: Binding,
    pub declared: [Option<usize>; 4],
    pub made_by: String,
    pub referee: Referee,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Referee {
    pub bound: f32,
    pub outputs: Vec<Compared>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    pub name: String,
    pub error: f32,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

#[derive(Debug)]
pub struct Plan {
    pub head: Head,
    pub program: Program,
    pub weights: Mapped,
}

#[derive(Debug)]
pub struct Mapped {
    map: memmap2::Mmap,
    at: usize,
    count: usize,
}

impl AsRef<[f32]> for Mapped {
    fn as_ref(&self) -> &[f32] {
        // SAFETY: inside the mapping and aligned: checked in open().
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(self.at).cast(), self.count) }
    }
}

pub fn write(to: &mut impl Write, head: &Head, program: &Program, weights: &[f32]) -> std::io::Result<()> {
    let (head, program) = (serde_json::to_vec(head)?, serde_json::to_vec(program)?);
    let bytes: Vec<u8> = weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
    let crc = crc32fast::hash(&[&head[..], &program, &bytes].concat());
    let mut start = MAGIC.to_vec();
    for number in [head.len() as u64, program.len() as u64, weights.len() as u64, u64::from(crc)] {
        start.extend(number.to_le_bytes());
    }
    start.extend(head);
    start.extend(program);
    start.resize(start.len().next_multiple_of(64), 0);
    to.write_all(&start)?;
    to.write_all(&bytes)
}

fn numbers(start: &[u8]) -> Result<[usize; 4], Error> {
    if start.len() < 40 || &start[..8] != MAGIC {
        return Err(Error("not a plan, or truncated".into()));
    }
    let number = |index: usize| {
        let bytes: [u8; 8] = start[8 + 8 * index..16 + 8 * index].try_into().expect("eight");
        usize::try_from(u64::from_le_bytes(bytes)).unwrap_or(usize::MAX >> 8).min(usize::MAX >> 8)
    };
    Ok([number(0), number(1), number(2), number(3)])
}

pub fn open(path: &Path, expected: &Binding, kernels: &'static Kernels) -> Result<Plan, Error> {
    let io = |error: std::io::Error| Error(error.to_string());
    let file = std::fs::File::open(path).map_err(io)?;
    // SAFETY: plans are replaced by rename, never rewritten.
    let map = unsafe { memmap2::Mmap::map(&file) }.map_err(io)?;
    let [head, program, count, crc] = numbers(&map)?;
    let at = (40 + head + program).next_multiple_of(64);
    if map.len() != at + count * 4 {
        return Err(Error(format!("{} bytes; expected {}", map.len(), at + count * 4)));
    }
    let all = [&map[40..40 + head + program], &map[at..]].concat();
    if crc32fast::hash(&all) as usize != crc {
        return Err(Error("its checksum is wrong".into()));
    }
    let json = |error: serde_json::Error| Error(error.to_string());
    let parsed: Head = serde_json::from_slice(&map[40..40 + head]).map_err(json)?;
    if parsed.binding != *expected {
        return Err(Error(format!("is of {:?}, expected {expected:?}", parsed.binding)));
    }
    let program: Program = serde_json::from_slice(&map[40 + head..40 + head + program]).map_err(json)?;
    let limits = Limits { arena: program.arena, weights: count };
    for named in &program.steps {
        named.step.work().check(&limits, kernels).map_err(|why| Error(format!("{}: {why}", named.node)))?;
    }
    Ok(Plan { head: parsed, program, weights: Mapped { map, at, count } })
}

pub fn read_head(path: &Path) -> Result<Head, Error> {
    let io = |error: std::io::Error| Error(error.to_string());
    let mut file = std::fs::File::open(path).map_err(io)?;
    let mut start = [0; 40];
    file.read_exact(&mut start).map_err(io)?;
    let [length, ..] = numbers(&start)?;
    let mut head = Vec::new();
    file.take(length.min(1 << 20) as u64).read_to_end(&mut head).map_err(io)?;
    serde_json::from_slice(&head).map_err(|error| Error(error.to_string()))
}
