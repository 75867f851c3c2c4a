//! `firstlight run` and a server that records are posted to, which refuses, stalls, cuts and comes back.

mod support;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use firstlight::random::Random;
use nix::sys::signal::Signal;
use serde_json::Value;
use support::{Running, firstlight, get};

/// Longer than the longest pause between two tries, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the server does with a request.
#[derive(Clone, Debug)]
enum Act {
    /// Answers with a status and this more of a head.
    Answer(u16, &'static str),
    /// Closes the connection when it has half of the body.
    Cut,
    /// Says 200 and closes in the middle of its own body.
    CutAnswer,
    /// Says nothing for longer than the device waits.
    Stall,
}

/// A request that came as a whole.
#[derive(Clone, Debug)]
struct Posted {
    key: String,
    authorization: String,
    custom: String,
    body: Value,
    /// Whether the server has said that it has it.
    taken: bool,
}

/// A server on a free port, for as long as the test runs.
#[derive(Clone)]
struct Server {
    port: u16,
    /// What it does with the next requests.
    acts: Arc<Mutex<VecDeque<Act>>>,
    /// What it does with those after them; `None`: it takes everything.
    mood: Arc<Mutex<Option<Act>>>,
    posted: Arc<Mutex<Vec<Posted>>>,
    at: Arc<Mutex<Vec<Instant>>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server =
            Self { port, acts: Arc::default(), mood: Arc::default(), posted: Arc::default(), at: Arc::default() };
        let serving = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let serving = serving.clone();
                std::thread::spawn(move || while serving.serve(&stream).is_some() {});
            }
        });
        server
    }

    fn next(&self, acts: &[Act]) {
        self.acts.lock().unwrap().extend(acts.iter().cloned());
    }

    /// One request; `None`: the connection is over.
    fn serve(&self, mut stream: &TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream);
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|&count| count > 0)?;
            if line == "\r\n" {
                break;
            }
            head.push(line.trim_end().to_owned());
        }
        let header = |name: &str| {
            let found =
                head.iter().find_map(|line| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)));
            found.map(|(_, value)| value.to_owned()).unwrap_or_default()
        };
        let length: usize = header("content-length").parse().ok()?;
        self.at.lock().unwrap().push(Instant::now());
        let act = self.acts.lock().unwrap().pop_front();
        let act = act.or_else(|| self.mood.lock().unwrap().clone());
        if let Some(Act::Cut) = act {
            let _ = reader.read_exact(&mut vec![0; length / 2]);
            return None;
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let (status, more) = match &act {
            Some(Act::Answer(status, more)) => (*status, *more),
            _ => (200, ""),
        };
        let posted = Posted {
            key: header("idempotency-key"),
            authorization: header("authorization"),
            custom: header("x-site"),
            body: serde_json::from_slice(&body).unwrap(),
            taken: (200..300).contains(&status) && !matches!(act, Some(Act::Stall)),
        };
        self.posted.lock().unwrap().push(posted);
        match act {
            Some(Act::Stall) => {
                std::thread::sleep(Duration::from_secs(3));
                None
            }
            Some(Act::CutAnswer) => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
                None
            }
            _ => {
                let why = if status < 300 { "" } else { "not\nthis" };
                let answer = format!("HTTP/1.1 {status} X\r\n{more}content-length: {}\r\n\r\n{why}", why.len());
                stream.write_all(answer.as_bytes()).ok()
            }
        }
    }

    fn posted(&self) -> Vec<Posted> {
        self.posted.lock().unwrap().clone()
    }

    /// Records in the order in which they came first, once each; panics where one id names two, or a number comes late.
    fn distinct(&self) -> Vec<Value> {
        let mut seen = std::collections::BTreeMap::new();
        let mut records = Vec::new();
        let mut last = 0;
        for posted in self.posted() {
            let all = match posted.body {
                Value::Array(all) => all,
                one => vec![one],
            };
            for record in all {
                let id = record["id"].as_str().unwrap().to_owned();
                match seen.get(&id) {
                    Some(before) => assert_eq!(before, &record),
                    None => {
                        let number = record["number"].as_u64().unwrap();
                        assert!(number > last, "{number} came after {last}");
                        last = number;
                        seen.insert(id, record.clone());
                        records.push(record);
                    }
                }
            }
        }
        records
    }
}

fn config(dir: &Path, server: &Server, webhook: &str) -> String {
    let path = dir.join("device.toml");
    let text = format!(
        "[output]\njson = \"none\"\n[[webhook]]\nurl = \"http://127.0.0.1:{}/hook\"\ndevice = \"cam-1\"\ntimeout_s = 1.0\n\
         answers_per_s = 20.0\nspool_interval_s = 0.1\n{webhook}\n",
        server.port
    );
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn run(config: &str) -> Running {
    let mut run = firstlight(&["run", "--source", "demo:?fps=20", "--listen", "127.0.0.1:0", "-c", config]);
    run.command.env("SITE_OF_TEST", "north");
    run.start()
}

fn sink(address: &str) -> Value {
    let status: Value = serde_json::from_slice(&get(address, "/status").1).unwrap();
    let sinks = status["sinks"].as_array().cloned().unwrap_or_default();
    sinks
        .into_iter()
        .find(|sink| sink["name"].as_str().is_some_and(|name| name.starts_with("webhook 127.")))
        .unwrap_or(Value::Null)
}

fn wait_sink(address: &str, fits: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let sink = sink(address);
        if fits(&sink) {
            return sink;
        }
        assert!(Instant::now() < deadline, "the sink stays {sink}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn problem(sink: &Value, words: &str) -> bool {
    sink["problem"].as_str().is_some_and(|problem| problem.contains(words))
}

#[test]
fn what_a_server_refuses_stalls_or_cuts_comes_again_and_poison_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start();
    let token = dir.path().join("token");
    std::fs::write(&token, "t0ken\n").unwrap();
    let moods = [
        (Act::Answer(500, ""), "it answers 500"),
        (Act::Answer(503, ""), "it answers 503"),
        (Act::Answer(429, "retry-after: 1\r\n"), "it answers 429"),
        (Act::Answer(408, ""), "it answers 408"),
        (Act::Answer(401, ""), "it answers 401"),
        (Act::Answer(307, "location: http://127.0.0.1:1/\r\n"), "redirections are not followed"),
        (Act::Cut, "127.0.0.1"),
        (Act::Stall, "no answer within 1 s"),
        (Act::Answer(400, ""), "1 records were dropped: 127.0.0.1"),
    ];
    let more = format!("token_file = {token:?}\nheaders = {{ X-Site = \"env:SITE_OF_TEST\" }}");
    let running = run(&config(dir.path(), &server, &more));
    let address = running.address();
    for (mood, words) in moods {
        wait_sink(&address, |sink| sink["problem"].is_null() && sink["delivered"].as_u64().is_some_and(|n| n > 0));
        *server.mood.lock().unwrap() = Some(mood);
        wait_sink(&address, |sink| problem(sink, words));
        *server.mood.lock().unwrap() = None;
    }
    server.next(&[Act::CutAnswer]);
    let after =
        wait_sink(&address, |sink| sink["problem"].is_null() && sink["waiting"].as_u64().is_some_and(|n| n < 5));
    let dropped = after["dropped"].as_u64().unwrap();
    drop(running);
    let posted = server.posted();
    let records = server.distinct();
    let numbers: Vec<u64> = records.iter().map(|record| record["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "each came, in order");
    assert!(posted.iter().all(|posted| posted.key == posted.body["id"].as_str().unwrap()));
    assert!(posted.iter().all(|posted| posted.authorization == "Bearer t0ken" && posted.custom == "north"));
    // Those that were refused for ever came once; those that were refused for now came until they were taken.
    let of = |id: &Value| posted.iter().filter(|posted| posted.body["id"] == *id).cloned().collect::<Vec<_>>();
    let untaken: Vec<Vec<Posted>> =
        records.iter().map(|record| of(&record["id"])).filter(|all| all.iter().all(|one| !one.taken)).collect();
    // The last one may have been on its way when the device was ended.
    assert!(
        dropped >= 1 && (untaken.len() as u64).abs_diff(dropped) <= 1,
        "{dropped} dropped, {} untaken",
        untaken.len()
    );
    assert!(untaken.iter().all(|all| all.len() == 1));
}

#[test]
fn the_pause_that_a_server_asks_for_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start();
    server.next(&[Act::Answer(429, "retry-after: 3\r\n")]);
    let running = run(&config(dir.path(), &server, ""));
    wait_sink(&running.address(), |sink| sink["delivered"].as_u64().is_some_and(|n| n > 0));
    let at = server.at.lock().unwrap();
    assert!(at[1] - at[0] >= Duration::from_secs(3), "{:?}", at[1] - at[0]);
}

#[test]
fn batches_are_arrays_and_a_killed_device_loses_nothing_that_was_committed() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    let server = Server::start();
    let config = config(dir.path(), &server, &format!("spool = {spool:?}\nbatch = 10"));
    let mut random = Random::new(5);
    for _ in 0..if std::env::var_os("FIRSTLIGHT_FULL").is_some() { 40 } else { 4 } {
        let mut running = run(&config);
        let before = server.distinct().len();
        for _ in 0..random.below(4) {
            server.next(&[[Act::Answer(500, ""), Act::Cut, Act::Stall, Act::CutAnswer][random.below(4)].clone()]);
        }
        let deadline = Instant::now() + PATIENCE;
        while server.distinct().len() <= before {
            assert!(Instant::now() < deadline, "nothing comes");
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(random.bits() % 700));
        running.signal(Signal::SIGKILL);
        assert_eq!(running.exit(), None, "killed");
    }
    server.acts.lock().unwrap().clear();
    let running = run(&config);
    wait_sink(&running.address(), |sink| {
        sink["problem"].is_null()
            && sink["delivered"].as_u64().is_some_and(|n| n > 20)
            && sink["waiting"].as_u64().is_some_and(|n| n < 10)
    });
    drop(running);
    let numbers: Vec<u64> = server.distinct().iter().map(|record| record["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "without a gap");
    assert!(server.posted().iter().all(|posted| posted.body.is_array()));
    assert!(
        server.posted().iter().any(|posted| posted.body.as_array().unwrap().len() > 1 && posted.key.contains(".."))
    );
}
