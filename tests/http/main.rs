//! The status port from outside: a real server on a free port, plain sockets as clients, telemetry driven by hand.

mod access;
mod api;
mod client;
mod device;
mod limits;
mod metrics;
mod page;
mod routes;
mod tls;
