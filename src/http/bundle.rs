//! Bundles of models over HTTP.
//!
//! A bundle is installed by a process of its own, which this one feeds: a network that takes all memory, or makes an engine
//! fall, must not take along what sees.

use std::io::{self, Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::StatusCode;
use serde_json::{Value, json};

use super::device::{Verdict, refuse};
use crate::config::BundleConfig;
use crate::error::Exit;
use crate::log;
use crate::provision::bundle::{Bundle, Store};

/// What is handed on at once.
const PIECE_BYTES: usize = 64 << 10;

/// Whose bundles are taken, and what comes after.
#[derive(Clone, Debug, Default)]
pub struct BundleAccess {
    pub trust: BundleConfig,
    /// Raised when the process is to start anew with another bundle; absent: it goes on as it is.
    pub restart: Option<Arc<AtomicBool>>,
}

impl BundleAccess {
    /// Has the process start anew; says whether it does.
    fn start_anew(&self) -> &'static str {
        match &self.restart {
            Some(restart) => {
                restart.store(true, Ordering::Relaxed);
                "the loop starts anew with it"
            }
            None => "this process was started with -c or --cache and goes on without bundles",
        }
    }
}

/// Hands a bundle on to who installs it.
pub(super) fn install(bundle: &mut dyn Read, access: &BundleAccess) -> Verdict {
    let (child, feeding) = match start(access) {
        Ok(mut child) => {
            let fed = feed(bundle, &mut child);
            (child, fed)
        }
        Err(error) => return refuse(StatusCode::CONFLICT, format!("no process to install it: {error}")),
    };
    let ended = match (feeding, child.wait_with_output()) {
        (Ok(()), Ok(ended)) => ended,
        (Err(error), _) => return refuse(StatusCode::BAD_REQUEST, format!("the bundle cannot be read: {error}")),
        (_, Err(error)) => return refuse(StatusCode::CONFLICT, format!("the installation: {error}")),
    };
    verdict(&ended, access)
}

fn start(access: &BundleAccess) -> io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.args(["bundle", "install", "-", "--accept", access.trust.accept.as_str(), "--key"]).arg(&access.trust.key);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
}

/// Writes all of a bundle to the process. Who has ended reads no more, and its verdict counts.
fn feed(bundle: &mut dyn Read, child: &mut Child) -> io::Result<()> {
    let Some(mut to) = child.stdin.take() else { return Ok(()) };
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = match bundle.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) => {
                // Before its input ends: an end that is missing must not look like one.
                let _ = child.kill();
                return Err(error);
            }
        };
        if to.write_all(&piece[..read]).is_err() {
            return Ok(());
        }
    }
}

fn verdict(ended: &Output, access: &BundleAccess) -> Verdict {
    let answer: Option<Value> = serde_json::from_slice(&ended.stdout).ok();
    if let (true, Some(mut answer)) = (ended.status.success(), answer) {
        let version = answer["version"].as_str().unwrap_or_default();
        log::say(&format!("bundle: version {version} is installed"));
        let already = answer["already"] == true;
        answer["message"] = if already { "it is the current one already" } else { access.start_anew() }.into();
        return (StatusCode::OK, answer);
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    let why = said
        .lines()
        .last()
        .map_or_else(|| ended.status.to_string(), |line| line.strip_prefix("firstlight: ").unwrap_or(line).to_owned());
    log::say(&format!("bundle: {why}"));
    let refused = ended.status.code() == Some(Exit::VerificationFailed as i32);
    refuse(if refused { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::CONFLICT }, why)
}

fn store() -> Result<Store, Verdict> {
    let state = crate::env::state_dir();
    state.map(|state| Store::of(&state)).ok_or_else(|| refuse(StatusCode::CONFLICT, "there is no state directory here"))
}

/// Which bundles lie here.
pub(super) fn describe() -> Verdict {
    let found = store().and_then(|store| {
        let failed = |error: crate::provision::bundle::Error| refuse(StatusCode::CONFLICT, error.to_string());
        Ok((store.state().map_err(failed)?, store.list().map_err(failed)?))
    });
    let (state, listed) = match found {
        Ok(found) => found,
        Err(refused) => return refused,
    };
    let bundles = listed.into_iter().map(|listed| match listed.bundle {
        Ok(Bundle { manifest, .. }) => {
            let models: Vec<&str> = manifest.models.iter().map(|model| model.id.as_str()).collect();
            json!({"root": listed.root, "role": listed.role, "version": manifest.version, "models": models})
        }
        Err(error) => json!({"root": listed.root, "role": listed.role, "problem": error.to_string()}),
    });
    let taken_back = state.taken_back.map(|of| json!({"root": of.root, "why": of.why}));
    (StatusCode::OK, json!({"bundles": bundles.collect::<Vec<_>>(), "taken_back": taken_back}))
}

/// Goes back to the bundle before.
pub(super) fn roll_back(access: &BundleAccess) -> Verdict {
    let store = match store() {
        Ok(store) => store,
        Err(refused) => return refused,
    };
    match store.roll_back() {
        Ok(state) => {
            log::say("bundle: back to the one before");
            let body = json!({
                "current": state.current, "previous": state.previous, "message": access.start_anew(),
            });
            (StatusCode::OK, body)
        }
        Err(error) => refuse(StatusCode::CONFLICT, error.to_string()),
    }
}
