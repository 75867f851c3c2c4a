//! One line of JSON a frame, to every target that is named: stdout, a file, a serial device, a socket.
//!
//! Stdout is written by the delivering thread: who reads a pipe slowly means to hold up a file, and costs a camera only
//! answers. Everything else has a queue and a thread of its own.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::sync::Arc;

use super::line::Lines;
use super::outlet::{Outlet, Place};
use super::{Error, Gauge, Outcome, Sink};
use crate::error::nearest;
use crate::model::Labels;

/// Targets of one configuration: each has a thread and its queue.
const TARGETS_MAX: usize = 16;
/// Most bytes of a UDP datagram over IPv4.
const DATAGRAM_BYTES_MAX: usize = 65_507;
/// Kinds that stand before a colon.
const KINDS: [&str; 2] = ["unix", "udp"];

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    name: String,
    /// `None`: stdout.
    place: Option<Place>,
}

impl Target {
    /// Targets as the configuration and `--json` have them; `none` is none. `baud` is the speed of serial devices.
    ///
    /// # Errors
    /// One is of an unknown kind, incomplete, or there twice, or there are too many.
    pub fn parse_all(names: &[String], baud: u32) -> Result<Vec<Self>, Error> {
        let targets: Result<Vec<Option<Self>>, Error> = names.iter().map(|name| Self::parse(name, baud)).collect();
        let targets: Vec<Self> = targets?.into_iter().flatten().collect();
        if targets.len() > TARGETS_MAX {
            let found = format!("{} targets", targets.len());
            return Err(Error::Target { found, expected: format!("at most {TARGETS_MAX}") });
        }
        if let Some(twice) = targets.iter().enumerate().find(|(at, target)| targets[..*at].contains(target)) {
            let found = format!("`{}` twice", twice.1.name);
            return Err(Error::Target { found, expected: "each target once".into() });
        }
        Ok(targets)
    }

    fn parse(name: &str, baud: u32) -> Result<Option<Self>, Error> {
        let fail = |expected: String| Err(Error::Target { found: format!("`{name}`"), expected });
        let is_word = |kind: &str| !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let place = match (name, name.split_once(':')) {
            ("none", _) => return Ok(None),
            ("stdout", _) => None,
            ("", _) => return fail("stdout, none, unix:PATH, udp:HOST:PORT or a path".into()),
            (_, Some(("unix", path))) if !path.is_empty() => Some(Place::Unix(path.into())),
            (_, Some(("udp", address))) if is_address(address) => Some(Place::Udp(address.into())),
            (_, Some((kind, _))) if KINDS.contains(&kind) => return fail("unix:PATH or udp:HOST:PORT".into()),
            (_, Some((kind, _))) if is_word(kind) => {
                let hint = match nearest(kind, KINDS, 1).first() {
                    Some(near) => format!("did you mean `{near}:`?"),
                    None => format!("for the file write `./{name}`"),
                };
                return fail(format!("stdout, none, unix:PATH, udp:HOST:PORT or a path; {hint}"));
            }
            _ => Some(Place::Path { path: PathBuf::from(name), baud }),
        };
        Ok(Some(Self { name: name.into(), place }))
    }
}

fn is_address(address: &str) -> bool {
    let parts = address.rsplit_once(':');
    parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Writes lines; the buffer is kept, so a line costs no allocation once the longest was seen.
#[derive(Debug)]
pub struct JsonLines {
    target: String,
    way: Way,
    /// Whether frames can wait for room.
    patient: bool,
    lines: Lines,
    line: Vec<u8>,
}

#[derive(Debug)]
enum Way {
    Stdout,
    Lines(Outlet),
    Datagrams(Outlet),
}

impl JsonLines {
    /// To a target, which need not be there yet. `patient`: the source is one that can wait until there is room.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn open(target: &Target, labels: Arc<Labels>, patient: bool) -> Result<Self, Error> {
        let start = |place: &Place| {
            Outlet::start(place.clone()).map_err(|cause| Error::Open { target: target.name.clone(), cause })
        };
        let way = match &target.place {
            None => Way::Stdout,
            Some(place @ Place::Udp(_)) => Way::Datagrams(start(place)?),
            Some(place) => Way::Lines(start(place)?),
        };
        Ok(Self { target: target.name.clone(), way, patient, lines: Lines { labels }, line: Vec::new() })
    }
}

impl Sink for JsonLines {
    fn name(&self) -> &str {
        &self.target
    }

    fn deliver(&mut self, outcome: &Outcome<'_>) -> Result<(), Error> {
        let trouble = match &self.way {
            Way::Stdout => {
                self.lines.render(outcome, &mut self.line);
                let mut stdout = std::io::stdout().lock();
                let written = stdout.write_all(&self.line).and_then(|()| stdout.flush());
                return written.map_err(|cause| match cause.kind() {
                    ErrorKind::BrokenPipe => Error::Closed { target: self.target.clone() },
                    _ => Error::Write { target: self.target.clone(), cause },
                });
            }
            Way::Lines(outlet) => {
                self.lines.render(outcome, &mut self.line);
                outlet.push(&self.line, self.patient)
            }
            Way::Datagrams(outlet) => match self.lines.render_datagram(outcome, &mut self.line) {
                false => None,
                true if self.line.len() > DATAGRAM_BYTES_MAX => {
                    outlet.give_up();
                    let bytes = self.line.len();
                    Some(format!(
                        "an answer of {bytes} bytes, and a datagram holds {DATAGRAM_BYTES_MAX}; `inference.max_detections` \
                         makes it smaller"
                    ))
                }
                true => outlet.push(&self.line, self.patient),
            },
        };
        trouble.map_or(Ok(()), |why| Err(Error::Held { target: self.target.clone(), why }))
    }

    fn gauge(&self) -> Option<Arc<Gauge>> {
        match &self.way {
            Way::Stdout => None,
            Way::Lines(outlet) | Way::Datagrams(outlet) => Some(outlet.gauge()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(names: &[&str]) -> Result<Vec<Target>, String> {
        let names: Vec<String> = names.iter().map(|name| (*name).into()).collect();
        Target::parse_all(&names, 9600).map_err(|error| error.to_string())
    }

    #[test]
    fn targets_are_told_apart() {
        let places = parse(&["stdout", "none", "/dev/ttyS0", "./a:b", "unix:/run/x", "udp:[::1]:9000"]).unwrap();
        let path = |path: &str| Some(Place::Path { path: path.into(), baud: 9600 });
        let expected = [
            None,
            path("/dev/ttyS0"),
            path("./a:b"),
            Some(Place::Unix("/run/x".into())),
            Some(Place::Udp("[::1]:9000".into())),
        ];
        assert_eq!(places.into_iter().map(|target| target.place).collect::<Vec<_>>(), expected);
        for (names, words) in [
            (&["unx:/run/lines"][..], "did you mean `unix:`?"),
            (&["http://x/y"], "for the file write `./http://x/y`"),
            (&["udp:9000"], "expected unix:PATH or udp:HOST:PORT"),
            (&["udp:host:0"], "expected unix:PATH or udp:HOST:PORT"),
            (&["unix:"], "expected unix:PATH"),
            (&[""], "expected stdout, none"),
            (&["a", "b", "a"], "`a` twice"),
            (&["stdout", "stdout"], "`stdout` twice"),
        ] {
            let message = parse(names).unwrap_err();
            assert!(message.contains(words), "{message}");
        }
    }
}
