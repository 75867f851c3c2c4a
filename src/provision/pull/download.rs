//! One file: its bytes in a partial file beside where it belongs, resumed where they end, checked, and only then given its
//! name.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use ureq::http::{HeaderMap, Response, StatusCode};
use url::Url;

use super::http::{Failure, Http, Part, shown};
use super::{Error, Watch};
use crate::cache::WEIGHTS_BYTES_MAX;
use crate::cache::digest::{hex, md5 as md5_of, of_file};
use crate::durable::{self, RealDisk};
use crate::provision::lock::{Lock, beside};

/// Files at once: a few connections fill any link, and are polite.
const AT_ONCE: usize = 4;
/// Read at once.
const PIECE_BYTES: usize = 128 << 10;
/// Left free beside what is pulled: manifests and links are small, and a full disk stops others.
const SPARE_BYTES: u64 = 16 << 20;

/// A file that is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// For people.
    pub name: String,
    pub url: Url,
    /// What is stated of its content: 32 lower-case hex digits.
    pub md5: Option<String>,
    pub target: PathBuf,
}

/// What the server says of a file before it is sent.
#[derive(Debug, Default)]
struct Facts {
    bytes: Option<u64>,
    /// Parts of it can be had.
    ranges: bool,
    /// A strong validator.
    etag: Option<String>,
    /// Of Google's storage, where Roboflow keeps its files.
    md5: Option<String>,
}

/// A wanted file with what is known of it.
struct Job<'a> {
    wanted: &'a Wanted,
    facts: Facts,
    partial: PathBuf,
    index: usize,
}

/// Fetches the files that are not there yet, a few at once.
///
/// # Errors
/// The first that one of them had; the others end first. What came of a file stays for the next time, unless it is wrong.
pub fn fetch(http: &Http, root: &Path, wanted: &[Wanted], watch: &dyn Watch) -> Result<(), Error> {
    let mut missing = Vec::new();
    for wanted in wanted {
        if !is_there(wanted)? {
            missing.push(wanted);
        }
    }
    let mut jobs = Vec::new();
    for (index, wanted) in missing.into_iter().enumerate() {
        let facts = probe(http, &wanted.url)?;
        let partial = partial(wanted, &facts);
        jobs.push(Job { wanted, facts, partial, index });
    }
    has_room(root, &jobs)?;
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    let work = || {
        while failed.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
            if let Err(error) = job.fetch(http, watch) {
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(jobs.len()) {
            scope.spawn(work);
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// Whether a file is there, with the content that is stated. One that is damaged is removed.
fn is_there(wanted: &Wanted) -> Result<bool, Error> {
    let failed = Error::io(&wanted.target);
    match (wanted.target.is_file(), &wanted.md5) {
        (false, _) => Ok(false),
        (true, None) => Ok(true),
        (true, Some(expected)) => {
            let (found, _) = of_file(&wanted.target).map_err(failed)?;
            if found == *expected {
                return Ok(true);
            }
            crate::log::say(&format!("{}: its content is damaged: it is fetched again", wanted.target.display()));
            std::fs::remove_file(&wanted.target).map_err(Error::io(&wanted.target))?;
            Ok(false)
        }
    }
}

/// Where the bytes go until they are whole: of another version of the file another name.
fn partial(wanted: &Wanted, facts: &Facts) -> PathBuf {
    let name = wanted.target.file_name().unwrap_or_default().to_string_lossy();
    let version = match (&wanted.md5, &facts.etag) {
        (Some(_), _) | (None, None) => String::new(),
        (None, Some(etag)) => format!(".{}", &md5_of(etag.as_bytes())[..16]),
    };
    wanted.target.with_file_name(format!(".{name}{version}.part"))
}

/// Asks for the first byte: signed addresses answer no HEAD.
fn probe(http: &Http, url: &Url) -> Result<Facts, Error> {
    http.patiently(
        url,
        || 0,
        || {
            let part = Part { start: 0, last: Some(0), if_range: None };
            let answer = http.get(url, false, Some(part))?;
            let (status, headers) = (answer.status(), answer.headers());
            let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
            let (bytes, ranges) = match status {
                StatusCode::PARTIAL_CONTENT => (header("content-range").and_then(total), true),
                StatusCode::OK => (header("content-length").and_then(|length| length.parse().ok()), false),
                // Of nothing there is no first byte.
                StatusCode::RANGE_NOT_SATISFIABLE => (header("content-range").and_then(total), false),
                status => {
                    let why = format!("it answers {status}; its address may have expired: pull again");
                    return Err(Error::Transfer { url: shown(url), why }.into());
                }
            };
            if let Some(bytes) = bytes.filter(|bytes| *bytes > WEIGHTS_BYTES_MAX) {
                let why = format!("{bytes} bytes; at most {WEIGHTS_BYTES_MAX} are fetched");
                return Err(Error::Transfer { url: shown(url), why }.into());
            }
            let etag = header("etag").filter(|etag| !etag.starts_with("W/")).map(str::to_owned);
            Ok(Facts { bytes, ranges, etag, md5: stated_md5(headers) })
        },
    )
}

/// The size of the whole, of `bytes 0-0/1234`.
fn total(range: &str) -> Option<u64> {
    range.rsplit_once('/')?.1.parse().ok()
}

/// `x-goog-hash: crc32c=…,md5=BASE64`, in one header or several.
fn stated_md5(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all("x-goog-hash").iter().filter_map(|value| value.to_str().ok());
    let mut parts = values.flat_map(|value| value.split(','));
    let encoded = parts.find_map(|part| part.trim().strip_prefix("md5="))?;
    STANDARD.decode(encoded).ok().filter(|digest| digest.len() == 16).map(|digest| hex(&digest))
}

/// Refuses before anything is fetched.
fn has_room(root: &Path, jobs: &[Job<'_>]) -> Result<(), Error> {
    let had = |job: &Job<'_>| std::fs::metadata(&job.partial).map_or(0, |metadata| metadata.len());
    let needed: u64 = jobs.iter().map(|job| job.facts.bytes.unwrap_or(0).saturating_sub(had(job))).sum();
    if needed == 0 {
        return Ok(());
    }
    let disk = nix::sys::statvfs::statvfs(root).map_err(|error| Error::io(root)(error.into()))?;
    let free = disk.blocks_available().saturating_mul(disk.fragment_size());
    let needed = needed + SPARE_BYTES;
    let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
    if needed > free {
        let (needed_mb, free_mb) = (megabytes(needed), free / 1_000_000);
        return Err(Error::Space { path: root.into(), needed_mb, free_mb });
    }
    Ok(())
}

/// A file that is being written, and the digest of what is in it.
struct Draft {
    file: File,
    path: PathBuf,
    bytes: u64,
    digest: Md5,
}

impl Draft {
    /// With what an earlier try left.
    fn open(path: &Path, bytes_max: Option<u64>) -> Result<Self, Error> {
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = opened.map_err(Error::io(path))?;
        let mut draft = Self { file, path: path.into(), bytes: 0, digest: Md5::new() };
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            match draft.file.read(&mut buffer).map_err(Error::io(path))? {
                0 => break,
                count => draft.count(&buffer[..count]),
            }
        }
        if bytes_max.is_some_and(|limit| draft.bytes > limit) {
            draft.restart()?;
        }
        Ok(draft)
    }

    fn count(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    fn restart(&mut self) -> Result<(), Error> {
        (self.bytes, self.digest) = (0, Md5::new());
        self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0))).map_err(Error::io(&self.path))?;
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(Error::io(&self.path))?;
        self.count(bytes);
        Ok(())
    }
}

impl Job<'_> {
    fn fetch(&self, http: &Http, watch: &dyn Watch) -> Result<(), Error> {
        let grown = || std::fs::metadata(&self.partial).map_or(0, |metadata| metadata.len());
        let _lock = Lock::acquire(&beside(&self.wanted.target), &grown)?;
        // Another process may have fetched it while this one waited.
        if self.wanted.target.is_file() {
            return Ok(());
        }
        let mut draft = Draft::open(&self.partial, self.facts.bytes)?;
        let resumed = draft.bytes > 0;
        watch.begun(self.index, &self.wanted.name, self.facts.bytes, draft.bytes);
        let mut fetched = self.receive(http, &mut draft, watch).and_then(|()| self.check(&draft));
        if resumed && matches!(fetched, Err(Error::Digest { .. })) {
            // A power cut may have spoilt what was there: once more, from the start.
            draft.restart()?;
            fetched = self.receive(http, &mut draft, watch).and_then(|()| self.check(&draft));
        }
        if let Err(error) = fetched {
            if matches!(error, Error::Digest { .. }) {
                std::fs::remove_file(&self.partial).map_err(Error::io(&self.partial))?;
            }
            return Err(error);
        }
        draft.file.sync_all().map_err(Error::io(&self.partial))?;
        std::fs::rename(&self.partial, &self.wanted.target).map_err(Error::io(&self.wanted.target))?;
        if let Some(folder) = self.wanted.target.parent() {
            durable::sync_directory(&RealDisk, folder)?;
        }
        watch.ended(self.index);
        Ok(())
    }

    /// All that is missing of the file.
    fn receive(&self, http: &Http, draft: &mut Draft, watch: &dyn Watch) -> Result<(), Error> {
        let url = &self.wanted.url;
        if self.facts.bytes == Some(draft.bytes) {
            return Ok(());
        }
        let reached = std::cell::Cell::new(draft.bytes);
        http.patiently(
            url,
            || reached.get(),
            || {
                if draft.bytes > 0 && !self.facts.ranges {
                    draft.restart()?;
                }
                let part = Part { start: draft.bytes, last: None, if_range: self.facts.etag.as_deref() };
                let answer = http.get(url, false, (draft.bytes > 0).then_some(part))?;
                self.accept(&answer, draft)?;
                let received = self.append(http, answer, draft, watch);
                // Only what can be continued is progress.
                reached.set(if self.facts.ranges { draft.bytes } else { 0 });
                received
            },
        )
    }

    /// Whether the answer continues what is there, or begins anew.
    fn accept(&self, answer: &Response<ureq::Body>, draft: &mut Draft) -> Result<(), Failure> {
        let start = || {
            let range = answer.headers().get("content-range")?.to_str().ok()?;
            range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
        };
        match answer.status() {
            StatusCode::PARTIAL_CONTENT if start() == Some(draft.bytes) => Ok(()),
            StatusCode::OK => Ok(draft.restart()?),
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                draft.restart()?;
                Err(Failure::Again { why: "it gives another part than was asked for".into(), after: None })
            }
            status => {
                let why = format!("it answers {status}; its address may have expired: pull again");
                Err(Error::Transfer { url: shown(&self.wanted.url), why }.into())
            }
        }
    }

    fn append(
        &self,
        http: &Http,
        answer: Response<ureq::Body>,
        draft: &mut Draft,
        watch: &dyn Watch,
    ) -> Result<(), Failure> {
        let limit = self.facts.bytes.unwrap_or(WEIGHTS_BYTES_MAX);
        let mut body = answer.into_body().into_reader();
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            let count = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(cause) => return Err(http.failure(&self.wanted.url, &ureq::Error::from(cause))),
            };
            if draft.bytes + count as u64 > limit {
                let why = format!("it sends more than the {limit} bytes it stated");
                return Err(Error::Transfer { url: shown(&self.wanted.url), why }.into());
            }
            draft.append(&buffer[..count])?;
            watch.moved(self.index, draft.bytes);
        }
        match self.facts.bytes {
            Some(bytes) if draft.bytes < bytes => {
                Err(Failure::Again { why: format!("it ended after {} of {bytes} bytes", draft.bytes), after: None })
            }
            _ => Ok(()),
        }
    }

    fn check(&self, draft: &Draft) -> Result<(), Error> {
        let found = hex(&draft.digest.clone().finalize());
        let stated = [(&self.wanted.md5, "the weights API"), (&self.facts.md5, "its server")];
        for (expected, stated) in stated {
            if let Some(expected) = expected.clone().filter(|expected| *expected != found) {
                return Err(Error::Digest { url: shown(&self.wanted.url), stated, expected, found });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_from_googles_header() {
        let mut headers = HeaderMap::new();
        headers.append("x-goog-hash", "crc32c=n03x6A==".parse().unwrap());
        headers.append("x-goog-hash", "md5=1B2M2Y8AsgTpgAmY7PhCfg==".parse().unwrap());
        assert_eq!(stated_md5(&headers).unwrap(), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!((total("bytes 0-0/123"), total("bytes */0"), total("x")), (Some(123), Some(0), None));
    }
}
