//! A real broker for tests: `mosquitto` on a free port, with its configuration and its memory in a temporary directory;
//! and `mosquitto_sub` as whoever listens.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker; ended when dropped.
pub struct Broker {
    dir: tempfile::TempDir,
    pub port: u16,
    child: Option<Child>,
    /// What a client needs besides host and port.
    client: Vec<String>,
}

/// One message as a listener had it.
#[derive(Clone, Debug)]
pub struct Heard {
    pub retained: bool,
    pub topic: String,
    pub payload: String,
}

impl Heard {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.payload).unwrap_or_else(|error| panic!("{error}: {}", self.payload))
    }
}

/// Whoever listens, also over restarts of the broker; ended when dropped.
pub struct Listener {
    child: Child,
    heard: Arc<Mutex<Vec<Heard>>>,
}

fn tool(name: &str) -> Command {
    let path = ["/usr/sbin", "/usr/bin", "/usr/local/bin", "/usr/local/sbin"]
        .map(|dir| Path::new(dir).join(name))
        .into_iter()
        .find(|path| path.exists());
    let packages = "install the Debian packages mosquitto and mosquitto-clients (tests/packages.sh does)";
    Command::new(path.unwrap_or_else(|| panic!("{name} is missing: {packages}")))
}

impl Broker {
    /// One that takes everybody, not started yet.
    pub fn new() -> Self {
        Self::with(|_| "allow_anonymous true\n".into(), &[])
    }

    /// One that knows only this user, who may do everything.
    pub fn with_user(name: &str, password: &str) -> Self {
        let users = |dir: &Path| {
            let file = dir.join("users");
            let made = tool("mosquitto_passwd").args(["-b", "-c"]).arg(&file).args([name, password]).status().unwrap();
            assert!(made.success());
            format!("allow_anonymous false\npassword_file {}\n", file.display())
        };
        Self::with(users, &["-u", name, "-P", password])
    }

    /// One that speaks TLS and wants a certificate; `ca.pem`, `client.pem` and `client.key` are in its directory.
    pub fn with_tls() -> Self {
        let configure = |dir: &Path| {
            make_certificates(dir);
            let file = |name: &str| dir.join(name).display().to_string();
            format!(
                "allow_anonymous true\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n",
                file("ca.pem"),
                file("server.pem"),
                file("server.key")
            )
        };
        let mut broker = Self::with(configure, &[]);
        let file = |name: &str| broker.file(name).display().to_string();
        broker.client = ["--cafile", &file("ca.pem"), "--cert", &file("client.pem"), "--key", &file("client.key")]
            .map(str::to_owned)
            .to_vec();
        broker
    }

    fn with(configure: impl FnOnce(&Path) -> String, client: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let own = configure(dir.path());
        let memory = dir.path().display();
        let text = format!(
            "user root\nlistener {port} 127.0.0.1\n{own}persistence true\npersistence_location {memory}/\n\
             max_queued_messages 0\nmax_queued_bytes 0\n"
        );
        std::fs::write(dir.path().join("mosquitto.conf"), text).unwrap();
        Self { dir, port, child: None, client: client.iter().map(|&word| word.to_owned()).collect() }
    }

    /// A file of its directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts it and waits until it listens.
    pub fn start(&mut self) {
        let log = std::fs::File::create(self.file("log")).unwrap();
        let config = self.file("mosquitto.conf");
        let mut command = tool("mosquitto");
        command.arg("-c").arg(config).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut child = command.spawn().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = child.try_wait().unwrap();
            let log = || std::fs::read_to_string(self.file("log")).unwrap_or_default();
            assert!(ended.is_none() && Instant::now() < deadline, "the broker does not start: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.child = Some(child);
    }

    /// Ends it; it remembers its sessions.
    pub fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        self.child.take().unwrap().wait().unwrap();
    }

    /// SIGSTOP freezes it, SIGCONT lets it go on.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.as_ref().unwrap().id().try_into().unwrap()), signal).unwrap();
    }

    fn client(&self, name: &str) -> Command {
        let mut command = tool(name);
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]).args(&self.client);
        command
    }

    pub fn publish(&self, topic: &str, payload: &str) {
        let sent = self.client("mosquitto_pub").args(["-q", "1", "-t", topic, "-m", payload]).status().unwrap();
        assert!(sent.success());
    }

    /// Listens to everything from now on; the broker keeps what comes while it restarts.
    pub fn listen(&self) -> Listener {
        let mut command = self.client("mosquitto_sub");
        command.args(["-q", "1", "-c", "-i", "listener", "-t", "#", "-F", "%r %t %p"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let heard: Arc<Mutex<Vec<Heard>>> = Arc::default();
        let (lines, keep) = (BufReader::new(child.stdout.take().unwrap()).lines(), Arc::clone(&heard));
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut words = line.splitn(3, ' ').map(str::to_owned);
                let retained = words.next().is_some_and(|word| word == "1");
                let (topic, payload) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
                keep.lock().unwrap().push(Heard { retained, topic, payload });
            }
        });
        let listener = Listener { child, heard };
        // What was subscribed to is heard from now on.
        let mark = format!("test/{}", std::process::id());
        let deadline = Instant::now() + PATIENCE;
        while !listener.heard().iter().any(|heard| heard.topic == mark) {
            assert!(Instant::now() < deadline, "nothing is heard");
            self.publish(&mark, "mark");
        }
        listener
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Listener {
    /// Everything so far.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// Everything so far on topics that end so.
    pub fn on(&self, end: &str) -> Vec<Heard> {
        self.heard().into_iter().filter(|heard| heard.topic.ends_with(end)).collect()
    }

    /// Waits until what was heard on topics that end so fits, and returns it.
    pub fn wait(&self, end: &str, what: &str, fits: impl Fn(&[Heard]) -> bool) -> Vec<Heard> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let heard = self.on(end);
            if fits(&heard) {
                return heard;
            }
            let last = heard.last();
            assert!(Instant::now() < deadline, "never {what} on {end}: {} messages, the last {last:?}", heard.len());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Records in the order in which they were first heard, once each; panics where one id names two records, or where one
/// comes before another of its stream with a smaller number.
pub fn distinct(heard: &[Heard]) -> Vec<Value> {
    let mut seen = std::collections::BTreeMap::new();
    let mut last = std::collections::BTreeMap::new();
    let mut records = Vec::new();
    for record in heard.iter().map(Heard::json) {
        let id = record["id"].as_str().expect("an id").to_owned();
        match seen.get(&id) {
            Some(before) => assert_eq!(before, &record, "one id, two records"),
            None => {
                let number = record["number"].as_u64().expect("a number");
                let stream = id.rsplit_once('-').expect("device, stream and number").0.to_owned();
                let before = last.insert(stream, number).unwrap_or(0);
                assert!(before < number, "{id} came after number {before}");
                seen.insert(id, record.clone());
                records.push(record);
            }
        }
    }
    records
}

/// An authority, and certificates by it of the broker and a client.
fn make_certificates(dir: &Path) {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let write = |name: &str, text: String| std::fs::write(dir.join(name), text).unwrap();
    let named = |name: &str, hosts: &[&str]| {
        let mut params = CertificateParams::new(hosts.iter().map(|&host| host.to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    };
    let key = KeyPair::generate().unwrap();
    let mut params = named("test authority", &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap();
    write("ca.pem", pem("CERTIFICATE", certificate.der()));
    let issuer = Issuer::from_params(&params, &key);
    for (file, name, hosts) in
        [("server", "broker", &["localhost", "127.0.0.1"][..]), ("client", "device", &["device"])]
    {
        let key = KeyPair::generate().unwrap();
        let certificate = named(name, hosts).signed_by(&key, &issuer).unwrap();
        write(&format!("{file}.pem"), pem("CERTIFICATE", certificate.der()));
        write(&format!("{file}.key"), pem("PRIVATE KEY", &key.serialize_der()));
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
