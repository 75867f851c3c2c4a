//! The status port: how the device is, for people, scripts and Prometheus, over HTTP/1.1.
//!
//! One OS thread serves everything, and of the loop it only ever reads the lock-free cells of
//! [`Telemetry`](crate::pipeline::telemetry::Telemetry), so no client can slow the inference loop by asking how it is.
//! Models are asked for by Roboflow's [`Api`], whose work is done by threads that give way to the loop.
//! Who may ask is said by [`Access`]; what may be done to the device (restart, update, slots) needs a token of its own,
//! see [`DeviceAccess`]. A [`Door`] is an address that is listened on, plain or TLS.
//! May not know: engines, sources, sinks. The last picture comes through the [`Snapshot`] trait.

mod access;
mod api;
mod bundle;
mod client;
mod connection;
mod device;
mod door;
mod exposition;
mod metrics;
mod page;
mod payload;
mod query;
mod reply;
mod routes;
mod server;
mod snapshot;
mod stream;
pub mod tls;
mod traffic;

pub use hyper::body::Bytes;

pub use access::{Access, SHUT};
pub use api::{Api, IMAGES_MAX, REQUEST_BYTES_MAX, REQUESTS_BYTES_MAX, TURN_TIME_MAX};
pub use bundle::BundleAccess;
pub use client::get;
pub use device::DeviceAccess;
pub use door::{Door, Kind};

pub use connection::{BODY_BYTES_MAX, CONNECTIONS_MAX, HEAD_BYTES_MAX, HEAD_TIME_MAX, IDLE_TIME_MAX, WRITE_TIME_MAX};
pub use routes::{INFERENCES, Routes, ServerFacts};
pub use server::Server;
pub use snapshot::{ENCODE_TIME_MAX, PICTURE_AGE_MIN, Snapshot};
pub use stream::VIEWERS_MAX;

use std::io;
use std::net::SocketAddr;

/// Why the status port could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("http: cannot listen on {address}: {source}{}", advice(.source))]
    Bind { address: SocketAddr, source: io::Error },
    #[error("http: cannot start its thread: {0}")]
    Thread(io::Error),
}

/// What to do about an address that cannot be bound, for the errors that have a usual cause.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program holds this port: stop it, or give another with --listen (port 0 takes any free one)"
        }
        io::ErrorKind::AddrNotAvailable => {
            "; no interface has this address: 0.0.0.0 listens on all of them, 127.0.0.1 on this machine only"
        }
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need root or CAP_NET_BIND_SERVICE: take a higher one, 9001 is usual"
        }
        _ => "",
    }
}
