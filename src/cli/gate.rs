//! `firstlight gate`: the health gate for an updater that is not ours (RAUC, Mender, SWUpdate): waits until the running
//! service has proved itself, by the rule that our own slots are kept by.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde_json::{Value, json};

use super::{Error, find_config, listen_address, print_line};
use crate::config::{Config, TrialConfig};
use crate::device::gate::{Gate, Verdict};
use crate::http;

/// Between two questions: the gate's times are seconds.
const ASK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration of the service, for its address and `device.trial` [default: $FIRSTLIGHT_CONFIG]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of its HTTP port, or of its health alone, instead of the configured one
    #[arg(long, value_name = "ADDR")]
    address: Option<SocketAddr>,
    /// Inferences it must show [default: device.trial.inferences]
    #[arg(long, value_name = "N")]
    inferences: Option<u64>,
    /// Seconds of unbroken health it must show [default: device.trial.healthy_s]
    #[arg(long, value_name = "S", value_parser = seconds)]
    healthy_for: Option<f64>,
    /// Seconds by which it must have shown both [default: device.trial.deadline_s]
    #[arg(long, value_name = "S", value_parser = seconds)]
    within: Option<f64>,
}

fn seconds(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|s| (0.0..=86_400.0).contains(s)).ok_or_else(|| "expected 0 to 86400 seconds".into())
}

pub fn run(args: Args) -> Result<(), Error> {
    let config = find_config(args.config)?;
    let address = match args.address {
        Some(address) => address,
        None => reachable(configured(&config)?),
    };
    let trial = &config.device.trial;
    let mut gate = Gate::new(
        &TrialConfig {
            inferences: args.inferences.unwrap_or(trial.inferences),
            healthy_s: args.healthy_for.unwrap_or(trial.healthy_s),
            deadline_s: args.within.unwrap_or(trial.deadline_s),
        },
        Instant::now(),
    );
    loop {
        let (inferences, why) = look(address);
        match gate.observe(Instant::now(), inferences, why.is_empty(), &why) {
            Verdict::Wait => std::thread::sleep(ASK_EVERY),
            Verdict::Keep => return print_line(&json!({"healthy": true, "inferences": inferences}).to_string()),
            Verdict::Fail(why) => return Err(Error::Failed(format!("{address}: {why}"))),
        }
    }
}

/// Where the service answers for its health without asking for anything: health needs no token.
fn configured(config: &Config) -> Result<SocketAddr, Error> {
    if let Some(address) = config.http.health_address() {
        return Ok(address);
    }
    let needed = |why| Error::Usage(format!("{why}; give `http.health_listen` an address such as 127.0.0.1:9002"));
    match listen_address(None, config)? {
        None => Err(needed("the HTTP port is off, and a gate asks there")),
        Some(_) if config.http.tls.wanted() => Err(needed("the HTTP port speaks TLS, and a gate asks without it")),
        Some(address) => Ok(address),
    }
}

/// Inferences so far, and what is wrong: nothing while frames flow.
fn look(address: SocketAddr) -> (u64, String) {
    let answer = match http::get(address, "/healthz") {
        Ok(answer) => answer,
        Err(why) => return (0, why.to_string()),
    };
    let inferences = answer.headers().get(http::INFERENCES).and_then(|count| count.to_str().ok()?.parse().ok());
    let Some(inferences) = inferences else {
        return (0, format!("/healthz: {}, and no header {}: not a Firstlight", answer.status(), http::INFERENCES));
    };
    if answer.status() == StatusCode::OK {
        return (inferences, String::new());
    }
    let health: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    let why = health["reason"].as_str().unwrap_or("unhealthy, and does not say why");
    (inferences, why.to_owned())
}

/// Whoever listens on all addresses is reached on this machine's own.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { Ipv6Addr::LOCALHOST.into() });
    }
    address
}
