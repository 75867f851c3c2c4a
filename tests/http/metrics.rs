//! `/metrics` read by a parser that knows the format and nothing of how we write it.

use std::collections::{HashMap, HashSet};

use firstlight::pipeline::telemetry::Stage;

use super::client::get;
use super::device::{Device, MODEL};

#[derive(Debug)]
struct Sample {
    name: String,
    labels: HashMap<String, String>,
    value: f64,
}

#[derive(Debug, Default)]
struct Exposition {
    kinds: HashMap<String, String>,
    samples: Vec<Sample>,
}

impl Exposition {
    /// Parses text format 0.0.4; panics at what Prometheus would refuse.
    fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line must end");
        let mut out = Self::default();
        let mut helped = HashSet::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, words) = help.split_once(' ').unwrap();
                assert!(helped.insert(name.to_owned()) && !words.is_empty(), "{line}");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert!(helped.contains(name), "no HELP: {line}");
                assert!(out.kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "twice: {line}");
            } else {
                let sample = sample(line);
                let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| sample.name.strip_suffix(end));
                let sums = |kind: &String| ["histogram", "summary"].contains(&kind.as_str());
                let whole = base.filter(|base| out.kinds.get(*base).is_some_and(sums));
                assert!(out.kinds.contains_key(whole.unwrap_or(&sample.name)), "no TYPE: {line}");
                out.samples.push(sample);
            }
        }
        out
    }

    fn all(&self, name: &str) -> Vec<&Sample> {
        self.samples.iter().filter(|sample| sample.name == name).collect()
    }

    fn one(&self, name: &str) -> f64 {
        let all = self.all(name);
        assert_eq!(all.len(), 1, "{name}");
        all[0].value
    }
}

fn sample(line: &str) -> Sample {
    let valid = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.is_empty();
    let name_end = line.find(['{', ' ']).unwrap();
    let name = line[..name_end].to_owned();
    assert!(valid(&name), "{line}");
    let mut labels = HashMap::new();
    let mut rest = &line[name_end..];
    if let Some(mut inside) = rest.strip_prefix('{') {
        loop {
            let (label, quoted) = inside.split_once("=\"").unwrap();
            assert!(valid(label), "{line}");
            let mut value = String::new();
            let mut chars = quoted.char_indices();
            let end = loop {
                match chars.next().expect("a closing quote") {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match chars.next().unwrap().1 {
                        'n' => '\n',
                        c @ ('"' | '\\') => c,
                        c => panic!("escape \\{c} in {line}"),
                    }),
                    (_, c) => value.push(c),
                }
            };
            assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
            match quoted[end + 1..].strip_prefix(',') {
                Some(more) => inside = more,
                None => {
                    rest = quoted[end + 1..].strip_prefix('}').expect(line);
                    break;
                }
            }
        }
    }
    let value = rest.strip_prefix(' ').unwrap().parse().unwrap_or_else(|e| panic!("{e}: {line}"));
    Sample { name, labels, value }
}

fn scrape(device: &Device) -> Exposition {
    let answer = get(device.server.local_addr(), "/metrics");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    Exposition::parse(answer.text())
}

#[test]
fn a_running_device() {
    let device = Device::running(40);
    device.telemetry.sources()[0].frames_dropped(1);
    device.telemetry.frame_failed();
    device.telemetry.stage_done(Stage::Infer, std::time::Duration::from_millis(1500));
    device.telemetry.set_board(Some(61.5), Some(false), 48 * 1024);
    let metrics = scrape(&device);
    let prefixes = ["firstlight_", "process_", "http_"];
    assert!(metrics.kinds.keys().all(|name| prefixes.iter().any(|prefix| name.starts_with(prefix))));
    assert_eq!(metrics.one("firstlight_frames_total"), 40.0);
    assert_eq!(metrics.one("firstlight_frames_dropped_total"), 1.0);
    assert_eq!(metrics.one("firstlight_frames_failed_total"), 1.0);
    assert_eq!(metrics.one("firstlight_temperature_celsius"), 61.5);
    assert_eq!(metrics.one("firstlight_throttled"), 0.0);
    assert_eq!(metrics.one("firstlight_process_resident_memory_bytes"), 48.0 * 1024.0 * 1024.0);
    assert!(metrics.one("firstlight_uptime_seconds") >= 0.0);
    assert_eq!(metrics.one("firstlight_clock_set"), 1.0);
    assert_eq!(metrics.one("firstlight_watchdog_armed"), 0.0, "nobody but our own PID 1 arms it");
    assert_eq!(metrics.one("firstlight_loop_restarts_total"), 0.0);
    assert!(metrics.one("firstlight_first_inference_seconds") >= 0.0);
    assert_eq!(metrics.all("firstlight_info")[0].labels["model"], MODEL);
    let states: Vec<_> = metrics.all("firstlight_state").iter().map(|s| (s.labels["state"].clone(), s.value)).collect();
    assert_eq!(states.iter().filter(|(_, value)| *value == 1.0).count(), 1);
    assert!(states.contains(&("running".to_owned(), 1.0)), "{states:?}");
    let stages = metrics.all("firstlight_stage_seconds_total");
    assert!(stages.iter().any(|s| s.labels["stage"] == "infer" && s.value == 1.5));
}

#[test]
fn the_latency_histogram_is_cumulative_and_adds_up() {
    let metrics = scrape(&Device::running(40));
    let buckets = metrics.all("firstlight_latency_seconds_bucket");
    let bounds: Vec<f64> = buckets.iter().map(|bucket| bucket.labels["le"].parse().unwrap()).collect();
    assert!(bounds.is_sorted() && bounds.last() == Some(&f64::INFINITY), "{bounds:?}");
    assert!(bounds.contains(&0.035) && bounds.contains(&1.0), "seconds: {bounds:?}");
    let counts: Vec<f64> = buckets.iter().map(|bucket| bucket.value).collect();
    assert!(counts.is_sorted() && counts[0] == 0.0, "{counts:?}");
    assert_eq!(*counts.last().unwrap(), metrics.one("firstlight_latency_seconds_count"));
    assert_eq!(metrics.one("firstlight_latency_seconds_count"), 40.0);
    assert!(metrics.one("firstlight_latency_seconds_sum") >= 40.0 * 0.02);
}

#[test]
fn what_is_unknown_is_absent() {
    let metrics = scrape(&Device::start());
    for name in ["temperature_celsius", "throttled", "first_inference_seconds", "last_frame_age_seconds"] {
        assert!(metrics.all(&format!("firstlight_{name}")).is_empty(), "{name}");
    }
    assert_eq!(metrics.one("firstlight_frames_total"), 0.0);
}

#[test]
fn requests_are_counted_by_handler_and_unknown_paths_together() {
    let device = Device::running(1);
    let address = device.server.local_addr();
    let readiness = get(address, "/readiness").body.len();
    get(address, "/readiness");
    for path in ["/nothing", "/of/this", "/is/there/at/all"] {
        assert_eq!(get(address, path).status, 404);
    }
    let metrics = scrape(&device);
    let of = |name: &str, handler: &str| {
        let all = metrics.all(name);
        all.into_iter().filter(|sample| sample.labels["handler"] == handler).collect::<Vec<_>>()
    };
    let [ready] = of("http_requests_total", "/readiness")[..] else { panic!("{metrics:?}") };
    assert_eq!((ready.labels["method"].as_str(), ready.labels["status"].as_str(), ready.value), ("GET", "2xx", 2.0));
    let [none] = of("http_requests_total", "none")[..] else { panic!("{metrics:?}") };
    assert_eq!((none.labels["status"].as_str(), none.value), ("4xx", 3.0));
    assert_eq!(of("http_response_size_bytes_sum", "/readiness")[0].value, 2.0 * readiness as f64);
    assert_eq!(of("http_request_size_bytes_count", "/readiness")[0].value, 2.0);
    assert_eq!(of("http_request_duration_seconds_count", "none")[0].value, 3.0);
    assert_eq!(metrics.one("http_request_duration_highr_seconds_count"), 5.0);
    assert_eq!(scrape(&device).one("http_request_duration_highr_seconds_count"), 6.0, "the look before counts");
}

#[test]
fn the_process_is_told_under_the_names_of_prometheus() {
    let metrics = scrape(&Device::running(1));
    assert!(metrics.one("process_virtual_memory_bytes") > metrics.one("process_resident_memory_bytes"));
    assert!(metrics.one("process_cpu_seconds_total") >= 0.0);
    assert!(
        metrics.one("process_open_fds") >= 3.0 && metrics.one("process_max_fds") >= metrics.one("process_open_fds")
    );
    assert_eq!(metrics.kinds["process_cpu_seconds_total"], "counter");
}
