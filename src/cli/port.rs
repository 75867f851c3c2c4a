//! The HTTP port of `run`: its addresses, TLS, and who may ask.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::run::Settings;
use crate::http::tls::{self, Tls};
use crate::http::{self, Access, Api, BundleAccess, DeviceAccess, Door, Kind, Routes, Server, ServerFacts};
use crate::log;
use crate::pipeline::Telemetry;
use crate::pipeline::telemetry::Part;
use crate::sink::Snapshot;

/// How long the files of TLS may take to appear under our own PID 1, which mounts the data partition beside the start
/// of the loop: longer than it lets a slow card take.
const FILES_APPEAR: Duration = Duration::from_secs(20);
/// The HTTP port, open while this is kept.
pub(super) struct Port {
    _server: Server,
    /// Where a person finds the page.
    pub url: Option<String>,
}

/// A port that cannot be opened degrades the device; it does not stop it from seeing. Nor does the one keep the other
/// from being opened: that of health says what is wrong with the main one.
pub(super) fn open(
    settings: &Settings,
    telemetry: &Arc<Telemetry>,
    snapshot: &Snapshot,
    api: Arc<Api>,
    restart: Option<Arc<AtomicBool>>,
) -> Option<Port> {
    let http = &settings.config.http;
    let main = settings.listen.map(|listen| main_door(settings, listen, telemetry));
    let health = http.health_address().map(|listen| Door::open(listen, Kind::Health).map_err(|why| why.to_string()));
    let (mut doors, mut problems) = (Vec::new(), Vec::new());
    for opened in [main, health].into_iter().flatten() {
        match opened {
            Ok(door) => doors.push(door),
            Err(why) => problems.push(why),
        }
    }
    problems.iter().for_each(|why| log::say(why));
    let problem = (!problems.is_empty()).then(|| problems.join("; "));
    if doors.is_empty() {
        telemetry.set_problem(Part::Http, problem);
        return None;
    }
    let url = doors.iter().find_map(Door::url);
    match Server::serve(doors, routes(settings, telemetry, snapshot, restart).with_api(api), problem) {
        Ok(server) => Some(Port { _server: server, url }),
        Err(error) => {
            log::say(&error.to_string());
            telemetry.set_problem(Part::Http, Some(error.to_string()));
            None
        }
    }
}

/// The address where everything is answered.
fn main_door(settings: &Settings, listen: SocketAddr, telemetry: &Arc<Telemetry>) -> Result<Door, String> {
    let config = settings.config.http.tls.clone();
    if !config.wanted() {
        return Door::open(listen, Kind::Plain).map_err(|why| why.to_string());
    }
    let appears = crate::env::DEVICE_DIR.get().map_or(Duration::ZERO, |_| FILES_APPEAR);
    let origin = tls::Origin { config, state: crate::env::state_dir(), appears };
    // Never without encryption instead: a port that was to be secret stays shut.
    let tls = Tls::start(origin, telemetry).map_err(|why| format!("tls: {why}"))?;
    Door::open(listen, Kind::Tls(tls)).map_err(|why| why.to_string())
}

fn routes(
    settings: &Settings,
    telemetry: &Arc<Telemetry>,
    snapshot: &Snapshot,
    restart: Option<Arc<AtomicBool>>,
) -> Routes {
    let facts = ServerFacts {
        version: env!("CARGO_PKG_VERSION").into(),
        uuid: uuid::Uuid::new_v4().simple().to_string()[..6].into(),
    };
    let routes = Routes::new(Arc::clone(telemetry), Arc::new(snapshot.clone()), facts);
    let token_sha256 = settings.config.device.token_sha256.clone();
    let Some(listen) = settings.listen else { return routes };
    let lock = Access::new(&settings.config.http, token_sha256.as_deref(), listen);
    if lock.is_shut() {
        log::say(&format!("http: {}", http::SHUT));
    }
    let bundles = BundleAccess { trust: settings.config.bundle.clone(), restart };
    routes.with_access(DeviceAccess { token_sha256, bundles }).with_lock(lock)
}
