//! The status port from outside: a real server on a free port, plain sockets as clients, telemetry driven by hand.

#[path = "../support/mod.rs"]
mod support;

mod access;
mod api;
mod browser;
mod client;
mod device;
mod limits;
mod metrics;
mod page;
mod routes;
mod stream;
mod tls;
