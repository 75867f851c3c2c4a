//! `firstlight gate`: the health gate for an updater that is not ours (RAUC, Mender, SWUpdate): waits until the running
//! service has proved itself, by the rule that our own slots are kept by.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde_json::{Value, json};

use super::{Error, find_config, listen_address, print_line};
use crate::config::TrialConfig;
use crate::device::gate::{Gate, Verdict};
use crate::http;

/// Between two questions: the gate's times are seconds.
const ASK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration of the service, for its address and `device.trial` [default: $FIRSTLIGHT_CONFIG]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of its HTTP port, instead of the configured one
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
        None => reachable(listen_address(None, &config)?.ok_or_else(|| {
            Error::Usage("the HTTP port is off, and a gate asks there; give `listen` an address".into())
        })?),
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

/// Inferences so far, and what is wrong: nothing while frames flow.
fn look(address: SocketAddr) -> (u64, String) {
    let document = |path| -> Result<(StatusCode, Value), String> {
        let (status, body) = http::get(address, path).map_err(|error| error.to_string())?;
        let value = serde_json::from_slice(&body).map_err(|error| format!("{path}: {error}"))?;
        Ok((status, value))
    };
    let looked = document("/status").and_then(|(_, status)| Ok((status, document("/healthz")?)));
    let (status, (code, health)) = match looked {
        Ok(looked) => looked,
        Err(why) => return (0, why),
    };
    let inferences = status["loop"]["frames"].as_u64().unwrap_or(0);
    if code == StatusCode::OK {
        return (inferences, String::new());
    }
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
