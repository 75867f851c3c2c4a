//! What may be done to the device over HTTP: restart it, send it an update or a bundle of models, try or revert a slot, go
//! back to the bundle before. Local and authenticated: only from addresses of the same network, only with the configured
//! token.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes};
use hyper::{Method, Request, StatusCode, header};
use serde_json::{Value, json};
use smol::channel::{Receiver, Sender};
use smol::{Timer, future};

use super::access;
use super::bundle::{self, BundleAccess};
use crate::cache::digest;
use crate::device::notify::{self, Ask};
use crate::device::slot::{self, Access, Disk, Firmware, Reverted};
use crate::device::update;

/// Pieces of an update between the network and the card: the card is the slow one, and hyper's pieces are small.
const PIECES_MAX: usize = 16;
/// An update whose next piece does not come for this long has ended.
const PIECE_WAIT_MAX: Duration = Duration::from_secs(30);
/// And so has one that is not whole after this long: 200 MB at 60 kB/s, the worst link that anybody updates over.
const UPDATE_TIME_MAX: Duration = Duration::from_secs(3600);
/// The key in the read-only root that updates are signed with.
const UPDATE_KEY: &str = "/etc/firstlight/update.pub";
const PREFIX: &str = "/device/";

/// Who may, and with what.
#[derive(Clone, Debug, Default)]
pub struct DeviceAccess {
    /// SHA-256 of the token, hex; without one nobody may.
    pub token_sha256: Option<String>,
    pub bundles: BundleAccess,
}

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Reboot,
    Update,
    Slot,
    Try,
    Revert,
    Bundle,
    InstallBundle,
    RollBackBundle,
}

/// Status and body of an answer.
pub(super) type Verdict = (StatusCode, Value);

pub(super) fn refuse(status: StatusCode, message: impl Into<String>) -> Verdict {
    (status, json!({"message": message.into()}))
}

/// What the device has said: PID 1's log where that is ours, else this process's.
pub(super) fn log_text() -> String {
    match crate::env::DEVICE_DIR.get() {
        Some(dir) => crate::device::init::read_log(Path::new(&dir)),
        None => crate::log::text(),
    }
}

/// Whether a path is answered here.
pub(super) fn is_ours(path: &str) -> bool {
    path.starts_with(PREFIX)
}

/// Answers a request below `/device/`.
pub(super) async fn answer<B>(rights: &DeviceAccess, peer: SocketAddr, request: Request<B>) -> Verdict
where
    B: Body<Data = Bytes> + Unpin,
{
    let action = match request.uri().path() {
        "/device/reboot" => Action::Reboot,
        "/device/update" => Action::Update,
        "/device/slot" => Action::Slot,
        "/device/slot/try" => Action::Try,
        "/device/slot/revert" => Action::Revert,
        "/device/bundle" if *request.method() == Method::GET => Action::Bundle,
        "/device/bundle" => Action::InstallBundle,
        "/device/bundle/rollback" => Action::RollBackBundle,
        _ => return refuse(StatusCode::NOT_FOUND, "no such thing can be done to a device"),
    };
    let wanted = match action {
        Action::Slot | Action::Bundle => Method::GET,
        Action::InstallBundle => Method::PUT,
        _ => Method::POST,
    };
    if *request.method() != wanted {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, format!("expected {wanted}"));
    }
    if let Err(refused) = permit(rights, peer.ip(), request.headers().get(header::AUTHORIZATION)) {
        return refused;
    }
    match action {
        Action::Reboot => ask(Ask::Reboot, "restarting"),
        Action::Slot => blocking(describe).await,
        Action::Try => ask(Ask::TrySlot, "restarting into the other slot, on trial"),
        Action::Revert => blocking(revert).await,
        Action::Update => receive(request.into_body(), install).await,
        Action::Bundle => blocking(bundle::describe).await,
        Action::InstallBundle => {
            let access = rights.bundles.clone();
            receive(request.into_body(), move |pieces| bundle::install(&mut Pieces::of(pieces), &access)).await
        }
        Action::RollBackBundle => {
            let access = rights.bundles.clone();
            blocking(move || bundle::roll_back(&access)).await
        }
    }
}

fn permit(rights: &DeviceAccess, peer: IpAddr, header: Option<&header::HeaderValue>) -> Result<(), Verdict> {
    if !is_local(peer) {
        return Err(refuse(StatusCode::FORBIDDEN, format!("{peer} is not of a local network")));
    }
    let Some(expected) = rights.token_sha256.as_ref().map(|digest| digest.to_lowercase()) else {
        return Err(refuse(StatusCode::FORBIDDEN, "no token is configured: set device.token_sha256"));
    };
    let token = access::bearer(header).unwrap_or_default();
    if access::same(&digest::sha256(token.as_bytes()), &expected) {
        return Ok(());
    }
    Err(refuse(StatusCode::UNAUTHORIZED, "expected `Authorization: Bearer TOKEN` with this device's token"))
}

/// Loopback, private and link-local addresses (RFC 1918, 3927, 4193, 4291).
fn is_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

fn ask(ask: Ask, done: &str) -> Verdict {
    match notify::ask(ask) {
        Ok(()) => (StatusCode::ACCEPTED, json!({"message": done})),
        Err(error) => refuse(StatusCode::NOT_IMPLEMENTED, error.to_string()),
    }
}

/// The disk of the running slot.
fn open(access: Access) -> Result<(Disk, slot::Running), slot::Error> {
    let root = Path::new("/");
    let disk = Disk::open(&slot::find_disk(root, &[])?, access)?;
    let running = slot::running_slot(root);
    Ok((disk, running.ok_or(slot::Error::NotByUs { mechanism: "none" })?))
}

fn describe() -> Verdict {
    let state = open(Access::Read).and_then(|(disk, running)| Ok((disk.state()?, running)));
    match state {
        Ok((state, running)) => (
            StatusCode::OK,
            json!({
                "running": running.slot.as_str(), "committed": state.committed.as_str(),
                "trial": state.trial.map(slot::SlotName::as_str), "a": state.a.to_string(), "b": state.b.to_string(),
                "why": state.why,
            }),
        ),
        Err(error) => refuse(StatusCode::CONFLICT, error.to_string()),
    }
}

fn revert() -> Verdict {
    let reverted = open(Access::Change).and_then(|(disk, running)| {
        slot::revert(&disk, running.slot, &Firmware { mechanism: running.mechanism, autoboot: None })
    });
    match reverted {
        Ok(Reverted::Nothing) => (StatusCode::OK, json!({"message": "nothing was armed"})),
        Ok(Reverted::Disarmed(_)) => (StatusCode::OK, json!({"message": "the armed trial is forgotten"})),
        Ok(Reverted::Reboot(_)) => ask(Ask::Reboot, "restarting into the committed slot"),
        Err(error) => refuse(StatusCode::CONFLICT, error.to_string()),
    }
}

/// Runs what may wait for a disk away from the thread that serves everybody.
async fn blocking(work: impl FnOnce() -> Verdict + Send + 'static) -> Verdict {
    smol::unblock(work).await
}

/// Streams a body to whoever installs it. After an early verdict the rest is read and thrown away: a client that sends all
/// before it listens would see a reset connection instead of the reason.
async fn receive<B, F>(mut body: B, install: F) -> Verdict
where
    B: Body<Data = Bytes> + Unpin,
    F: FnOnce(Receiver<io::Result<Bytes>>) -> Verdict + Send + 'static,
{
    let (sender, pieces) = smol::channel::bounded(PIECES_MAX);
    let installing = smol::unblock(move || install(pieces));
    let feeding = async {
        // Closed only when all came: an end that is missing must not look like one.
        if let Err(error) = feed(&mut body, &sender).await {
            let _ = sender.send(Err(error)).await;
        }
        drop(sender);
    };
    future::zip(installing, feeding).await.0
}

async fn feed<B>(body: &mut B, sender: &Sender<io::Result<Bytes>>) -> io::Result<()>
where
    B: Body<Data = Bytes> + Unpin,
{
    let end = Instant::now() + UPDATE_TIME_MAX;
    loop {
        let late = async {
            Timer::at(end.min(Instant::now() + PIECE_WAIT_MAX)).await;
            Err(io::Error::from(io::ErrorKind::TimedOut))
        };
        let next = async { Ok(body.frame().await) };
        match future::or(next, late).await? {
            None => return Ok(()),
            Some(Ok(frame)) => {
                if let Ok(piece) = frame.into_data() {
                    // Refused once the verdict is there.
                    let _ = sender.send(Ok(piece)).await;
                }
            }
            Some(Err(_)) => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

fn install(pieces: Receiver<io::Result<Bytes>>) -> Verdict {
    let installed = (|| {
        let (board, key) = (update::own_board()?, update::load_key(Path::new(UPDATE_KEY))?);
        let (disk, running) = open(Access::Change)?;
        update::install(&mut Pieces::of(pieces), &disk, &board, &key, running.slot, &mut |_, _| {})
    })();
    match installed {
        Ok(installed) => {
            let slot = installed.slot.as_str();
            crate::log::say(&format!("update: version {} lies in slot {slot}", installed.version));
            (StatusCode::OK, json!({"slot": slot, "version": installed.version, "bytes": installed.bytes}))
        }
        Err(error) => {
            crate::log::say(&format!("update: {error}"));
            let status = if error.is_verification() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::CONFLICT };
            refuse(status, error.to_string())
        }
    }
}

/// The pieces of a body as one stream.
struct Pieces {
    pieces: Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Pieces {
    fn of(pieces: Receiver<io::Result<Bytes>>) -> Self {
        Self { pieces, piece: Bytes::new() }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.recv_blocking() {
                Ok(piece) => self.piece = piece?,
                Err(_) => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(token: Option<&str>, peer: &str, header: Option<&str>) -> Option<u16> {
        let token_sha256 = token.map(|token| digest::sha256(token.as_bytes()));
        let access = DeviceAccess { token_sha256, ..DeviceAccess::default() };
        let header = header.map(|text| header::HeaderValue::from_str(text).unwrap());
        permit(&access, peer.parse().unwrap(), header.as_ref()).err().map(|(status, _)| status.as_u16())
    }

    #[test]
    fn only_a_local_peer_with_the_token_may() {
        assert_eq!(verdict(Some("secret"), "192.168.1.7", Some("Bearer secret")), None);
        assert_eq!(verdict(Some("secret"), "::ffff:10.0.2.2", Some("Bearer secret")), None);
        assert_eq!(verdict(Some("secret"), "fe80::1", Some("Bearer secre")), Some(401));
        assert_eq!(verdict(Some("secret"), "127.0.0.1", None), Some(401));
        assert_eq!(verdict(Some("secret"), "127.0.0.1", Some("Basic secret")), Some(401));
        assert_eq!(verdict(Some("secret"), "8.8.8.8", Some("Bearer secret")), Some(403));
        assert_eq!(verdict(Some("secret"), "2001:db8::1", Some("Bearer secret")), Some(403));
        assert_eq!(verdict(None, "127.0.0.1", Some("Bearer ")), Some(403), "without a token nobody may");
    }
}
