//! Bundles through the real binary: made, signed, installed, run, taken back; and refused, killed and cut off at seeded places.
#![cfg(feature = "workbench")]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use firstlight::provision::bundle::{Bundle, Content, Manifest, Model, Store, make, read_key};
use nix::sys::signal::Signal;
use serde_json::Value;

use support::damage::Random;
use support::{PATIENCE, Run, at_a_terminal, firstlight, get, parts_cache, poll, wait_for};

/// Of the token `a token`.
const TOKEN: &str = "a token";

/// A workbench with a key, a device with its state directory, and bundles of two models.
struct Ground {
    dir: tempfile::TempDir,
}

impl Ground {
    fn new() -> Self {
        let ground = Self { dir: tempfile::tempdir().unwrap() };
        let made = firstlight(&["cache", "keygen", "--no-password", "-o", ground.at("key")]).run();
        assert_eq!(made.exit, Some(0), "{}", made.stderr);
        ground
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn at(&self, name: &str) -> &'static str {
        // Arguments of a process are short, and a test has few of them.
        self.path(name).to_str().unwrap().to_owned().leak()
    }

    /// A cache with the demo model under another id.
    fn cache(&self, id: &str) -> &'static str {
        let cache = self.path(&id.replace('/', "-"));
        let to = cache.join(id);
        if !to.exists() {
            support::copy_package(&parts_cache().path().join("parts/1"), &to);
            let path = to.join("model_type.json");
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains("parts/1"));
            fs::write(&path, text.replace("parts/1", id)).unwrap();
        }
        cache.to_str().unwrap().to_owned().leak()
    }

    /// A bundle of one model, with its configuration.
    fn bundle(&self, id: &str, more: &[&str]) -> PathBuf {
        let name = id.replace('/', "-");
        let (output, config) = (self.path(&format!("{name}.flb")), self.path(&format!("{name}.toml")));
        fs::write(&config, format!("model = {id:?}\nsource.uri = \"demo:\"\noutput.json = \"none\"\n")).unwrap();
        let (cache, output_text) = (self.cache(id), self.at(&format!("{name}.flb")));
        let args = ["cache", "--cache", cache, "bundle", id, "-o", output_text, "--config", config.to_str().unwrap()];
        let made = firstlight(&[&args, more].concat()).run();
        assert_eq!(made.exit, Some(0), "{}", made.stderr);
        output
    }

    fn signed(&self, id: &str) -> PathBuf {
        self.bundle(id, &["--sign", self.at("key.key"), "--release", id.rsplit('/').next().unwrap()])
    }

    /// The binary on the device.
    fn device(&self, args: &[&str]) -> support::Firstlight {
        let mut firstlight = firstlight(args);
        firstlight.command.env("FIRSTLIGHT_STATE_DIR", self.path("state"));
        firstlight
    }

    fn install(&self, bundle: &Path, more: &[&str]) -> Run {
        let key = if more.contains(&"--key") { &[] } else { &["--key", self.at("key.pub")][..] };
        self.device(&[&["bundle", "install", bundle.to_str().unwrap()], key, more].concat()).run()
    }

    fn store(&self) -> Store {
        Store::of(&self.path("state"))
    }

    /// The current bundle, whole.
    fn current(&self) -> Option<Bundle> {
        let root = self.store().state().unwrap().current?;
        Some(Bundle::verify(&self.store().path_of(&root), &root).unwrap())
    }

    fn current_id(&self) -> Option<String> {
        Some(self.current()?.manifest.models[0].id.clone())
    }

    /// Everything that lies in the store.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.store().dir()).into_iter().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A running device; with a token, so that it may be told things.
    fn run(&self, more: &[&str]) -> support::Running {
        let machine = self.path("machine.toml");
        let token = firstlight_sha256(TOKEN);
        let key = self.path("key.pub");
        let text = format!("listen = \"127.0.0.1:0\"\n[device]\ntoken_sha256 = {token:?}\n[bundle]\nkey = {key:?}\n");
        fs::write(&machine, text).unwrap();
        let mut firstlight = self.device(&[&["run", "--json", "none"], more].concat());
        firstlight.command.env("FIRSTLIGHT_CONFIG", machine);
        firstlight.start()
    }
}

fn firstlight_sha256(text: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The sample, or the whole count.
fn count(sample: usize, full: usize) -> usize {
    if std::env::var_os("FIRSTLIGHT_FULL").is_some() { full } else { sample }
}

/// What runs, once it does.
fn running(address: &str) -> Value {
    let fits = |_, body: &[u8]| {
        let status: Value = serde_json::from_slice(body).unwrap();
        status["loop"]["frames"].as_u64().is_some_and(|frames| frames > 0)
    };
    serde_json::from_slice(&poll(address, "/status", fits)).unwrap()
}

fn ask(address: &str, method: &str, path: &str, token: &str, body: &[u8]) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).unwrap();
    // An installation gives way to whatever else the machine does.
    stream.set_read_timeout(Some(6 * PATIENCE)).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let text = String::from_utf8(answer).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
}

#[test]
fn a_bundle_is_made_installed_run_and_taken_back() {
    let ground = Ground::new();
    let (first, second) = (ground.signed("belt/7"), ground.signed("belt/8"));
    // Copied, as by hand.
    let copied = ground.path("copied.flb");
    fs::copy(&first, &copied).unwrap();
    let installed = ground.install(&copied, &[]);
    assert_eq!(installed.exit, Some(0), "{}", installed.stderr);
    let told: Value = serde_json::from_str(&installed.stdout).unwrap();
    assert_eq!(
        (&told["models"][0], &told["version"], &told["already"]),
        (&"belt/7".into(), &"7".into(), &false.into())
    );
    let mut device = ground.run(&[]);
    let status = running(&device.address());
    assert_eq!((&status["model"]["id"], &status["state"]), (&"belt/7".into(), &"running".into()), "{status}");
    device.signal(Signal::SIGTERM);
    assert_eq!(device.exit(), Some(0));
    assert_eq!(ground.store().state().unwrap().starts, None, "it has proved itself");

    // By `update`, from standard input.
    let mut update = ground.device(&["update", "-", "--key", ground.at("key.pub")]);
    let mut child = update.command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&fs::read(&second).unwrap()).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let device = ground.run(&[]);
    assert_eq!(running(&device.address())["model"]["id"], "belt/8");
    drop(device);
    let listed = ground.device(&["bundle", "ls", "--json"]).run();
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!((&listed[0]["role"], &listed[0]["version"]), (&"current".into(), &"8".into()));
    assert_eq!((&listed[1]["role"], &listed[1]["version"]), (&"previous".into(), &"7".into()));

    assert_eq!(ground.device(&["bundle", "rollback"]).run().exit, Some(0));
    let device = ground.run(&[]);
    assert_eq!(running(&device.address())["model"]["id"], "belt/7");
    drop(device);
    // The page that is signed is about what runs.
    let page = ground.device(&["verify-offline"]).run();
    assert_eq!(page.exit, Some(0), "{}{}", page.stdout, page.stderr);
    for line in [format!("ready   bundle {}", ground.current().unwrap().manifest.root), "ready   model belt/7".into()] {
        assert!(page.stdout.contains(&line), "no `{line}` in {}", page.stdout);
    }
    // Only two are kept.
    let third = ground.signed("belt/9");
    assert_eq!(ground.install(&third, &[]).exit, Some(0));
    assert_eq!(ground.names().len(), 4, "two bundles, the state and the lock: {:?}", ground.names());
    // Explicit words go first.
    let device = ground.run(&["--cache", ground.cache("belt/7"), "--model", "belt/7"]);
    assert_eq!(running(&device.address())["model"]["id"], "belt/7");
}

#[test]
fn the_same_content_is_the_same_bundle_with_plans_and_workflows() {
    let ground = Ground::new();
    let workflow = ground.path("count.json");
    fs::write(&workflow, r#"{"version": "1.0", "inputs": [], "steps": [], "outputs": []}"#).unwrap();
    let more = ["--board", "generic-x86_64", "--board", "raspberry-pi-5", "--workflow", workflow.to_str().unwrap()];
    let first = fs::read(ground.bundle("belt/7", &more)).unwrap();
    let second = fs::read(ground.bundle("belt/7", &more)).unwrap();
    assert!(first == second, "the same input, other bytes");
    // Any tar lists it.
    let listed = std::process::Command::new("tar").arg("tf").arg(ground.path("belt-7.flb")).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let names: Vec<&str> = listed.lines().collect();
    assert_eq!(names[0], "manifest.json");
    let plans = names.iter().filter(|name| name.ends_with(".plan"));
    assert_eq!(plans.count(), 4, "three of x86, one of ARM: {names:?}");
    assert!(
        names.iter().any(|name| name.starts_with("cache/workflow/local/"))
            && names.contains(&"cache/belt/7/weights.onnx")
    );
    let refused = ground.install(&ground.path("belt-7.flb"), &["--accept", "any", "--board", "jetson-orin-nano"]);
    assert_eq!(refused.exit, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("is for generic-x86_64, raspberry-pi-5"), "{}", refused.stderr);
    let installed = ground.install(&ground.path("belt-7.flb"), &["--accept", "any", "--board", "generic-x86_64"]);
    assert_eq!(installed.exit, Some(0), "{}", installed.stderr);
    // Its plan is used: none is made.
    let device = ground.run(&["--engine", "plan"]);
    assert_eq!(running(&device.address())["engine"]["name"], "plan");
    let made = fs::read_dir(ground.path("state/plans")).into_iter().flatten().flatten();
    assert!(made.into_iter().all(|entry| !entry.file_name().to_string_lossy().ends_with(".plan")), "a plan was made");
}

#[test]
fn who_did_not_sign_is_refused() {
    let ground = Ground::new();
    let signed = ground.signed("belt/7");
    let other = firstlight(&["cache", "keygen", "--no-password", "-o", ground.at("other")]).run();
    assert_eq!(other.exit, Some(0));
    let again = firstlight(&["cache", "keygen", "--no-password", "-o", ground.at("other")]).run();
    assert!(again.exit == Some(2) && again.stderr.contains("not written over"), "{}", again.stderr);
    let args = ["bundle", "install", signed.to_str().unwrap(), "--key"];
    let wrong = ground.device(&[&args[..], &[ground.at("other.pub")]].concat()).run();
    assert!(wrong.exit == Some(4) && wrong.stderr.contains("not signed by this device's key"), "{}", wrong.stderr);
    let none = ground.device(&[&args[..], &["/nowhere.pub"]].concat()).run();
    assert!(none.exit == Some(2) && none.stderr.contains("/nowhere.pub"), "{}", none.stderr);
    let unsigned = ground.bundle("belt/8", &[]);
    let refused = ground.install(&unsigned, &[]);
    assert!(refused.exit == Some(4) && refused.stderr.contains("not signed"), "{}", refused.stderr);
    assert!(ground.current().is_none());
    assert_eq!(ground.install(&unsigned, &["--accept", "any"]).exit, Some(0));
    // A system's update is none.
    let update = ["manifest.json", "manifest.json.minisig"];
    let mut tar = tar::Builder::new(Vec::new());
    for name in update {
        let path = format!("{}/src/device/update/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
        tar.append_path_with_name(path, name).unwrap();
    }
    let path = ground.path("update.flb");
    fs::write(&path, tar.into_inner().unwrap()).unwrap();
    assert_eq!(ground.install(&path, &["--accept", "any"]).exit, Some(4));
}

#[test]
fn a_key_may_have_a_password() {
    let ground = Ground::new();
    let make = ["cache", "keygen", "-o", ground.at("locked")];
    let (exit, said) = at_a_terminal(&make, "one\nanother\n");
    assert!(exit == Some(2) && said.contains("differ") && !ground.path("locked.key").exists(), "{said}");
    let (exit, said) = at_a_terminal(&make, "open sesame\nopen sesame\n");
    assert_eq!(exit, Some(0), "{said}");
    let (cache, key) = (ground.cache("belt/7"), ground.at("locked.key"));
    let sign = |output, typed| {
        at_a_terminal(&["cache", "--cache", cache, "bundle", "belt/7", "-o", output, "--sign", key], typed)
    };
    let (exit, said) = sign(ground.at("no.flb"), "sesame\n");
    assert!(exit == Some(2) && said.contains("Wrong password") && !ground.path("no.flb").exists(), "{said}");
    let (exit, said) = sign(ground.at("yes.flb"), "open sesame\n");
    assert_eq!(exit, Some(0), "{said}");
    let installed = ground.install(&ground.path("yes.flb"), &["--key", ground.at("locked.pub")]);
    assert_eq!(installed.exit, Some(0), "{}", installed.stderr);
    // Nobody can be asked, and nothing waits.
    let sign = ["cache", "--cache", cache, "bundle", "belt/7", "-o", ground.at("x.flb"), "--sign", key];
    let mut refused = firstlight(&sign);
    // SAFETY: setsid is async-signal-safe and touches nothing of the parent.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(&mut refused.command, || Ok(nix::unistd::setsid().map(|_| ())?))
    };
    let refused = refused.run();
    assert!(refused.exit == Some(2) && refused.stderr.contains("cannot be asked for here"), "{}", refused.stderr);
}

#[test]
fn keys_of_minisign_sign_as_well() {
    let ground = Ground::new();
    let (public, secret) = (ground.at("theirs.pub"), ground.at("theirs.key"));
    // Its keys without a password have no checksum.
    let made = std::process::Command::new("minisign").args(["-G", "-W", "-p", public, "-s", secret]).output();
    let made = made.expect("minisign is there (Debian: apt install minisign)");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let bundle = ground.bundle("belt/7", &["--sign", secret]);
    let installed = ground.install(&bundle, &["--key", public]);
    assert_eq!(installed.exit, Some(0), "{}", installed.stderr);
}

#[test]
fn what_is_the_machines_is_not_in_a_bundle() {
    let ground = Ground::new();
    let config = ground.path("config.toml");
    let make = |text: &str| {
        fs::write(&config, text).unwrap();
        let cache = ground.cache("belt/7");
        let args = ["cache", "--cache", cache, "bundle", "belt/7", "-o", ground.at("x.flb"), "--config"];
        firstlight(&[&args[..], &[config.to_str().unwrap()]].concat()).run()
    };
    let refused = make("model = \"belt/7\"\n[device]\nhostname = \"a\"\n");
    assert!(refused.exit == Some(4) && refused.stderr.contains("the machine's own"), "{}", refused.stderr);
    let refused = make("model = \"belt/8\"\n");
    assert!(refused.exit == Some(4) && refused.stderr.contains("is not in the bundle"), "{}", refused.stderr);
    assert!(!ground.path("x.flb").exists());
    let cache = ground.cache("belt/7");
    let missing = firstlight(&["cache", "--cache", cache, "bundle", "belt/8", "-o", ground.at("x.flb")]).run();
    assert_eq!(missing.exit, Some(3), "{}", missing.stderr);
    let board =
        firstlight(&["cache", "--cache", cache, "bundle", "belt/7", "-o", ground.at("x.flb"), "--board", "qemu"]).run();
    assert!(board.exit == Some(2) && board.stderr.contains("qemu-virt"), "{}", board.stderr);
}

#[test]
fn a_flipped_bit_is_refused_wherever_it_is() {
    let ground = Ground::new();
    assert_eq!(ground.install(&ground.signed("belt/7"), &[]).exit, Some(0));
    let (before, bytes) = (ground.names(), fs::read(ground.signed("belt/8")).unwrap());
    let mut random = Random::new(1);
    let path = ground.path("flipped.flb");
    for round in 0..count(60, 1000) {
        // Half of them where there is more than weights: the manifest, its signature, headers and the end.
        let at = match round % 4 {
            0 => random.below(6000),
            1 => bytes.len() - 1 - random.below(4000),
            _ => random.below(bytes.len()),
        };
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << random.below(8);
        fs::write(&path, flipped).unwrap();
        let refused = ground.install(&path, &[]);
        assert_eq!(refused.exit, Some(4), "byte {at}: {}", refused.stderr);
    }
    assert_eq!((ground.names(), ground.current_id().as_deref()), (before, Some("belt/7")));
}

#[test]
fn a_bundle_that_was_cut_off_is_refused() {
    let ground = Ground::new();
    assert_eq!(ground.install(&ground.signed("belt/7"), &[]).exit, Some(0));
    let (before, bytes) = (ground.names(), fs::read(ground.signed("belt/8")).unwrap());
    let mut random = Random::new(2);
    let path = ground.path("cut.flb");
    let lengths = [0, 1, 511, 512, bytes.len() - 1, bytes.len() - 512, bytes.len() - 1024];
    for length in lengths.into_iter().chain((0..count(10, 200)).map(|_| random.below(bytes.len()))) {
        fs::write(&path, &bytes[..length]).unwrap();
        let refused = ground.install(&path, &[]);
        assert_eq!(refused.exit, Some(4), "{length} bytes: {}", refused.stderr);
    }
    assert_eq!((ground.names(), ground.current_id().as_deref()), (before, Some("belt/7")));
}

#[test]
fn a_killed_installation_leaves_the_old_or_the_new() {
    let ground = Ground::new();
    let bundles = [ground.signed("belt/7"), ground.signed("belt/8")];
    let started = Instant::now();
    assert_eq!(ground.install(&bundles[0], &[]).exit, Some(0));
    let whole = started.elapsed();
    let mut random = Random::new(3);
    let (mut old, mut new) = (0, 0);
    for round in 0..count(8, 100) {
        let before = ground.current_id().unwrap();
        let next = usize::from(before == "belt/7");
        let args = ["bundle", "install", bundles[next].to_str().unwrap(), "--key", ground.at("key.pub")];
        let mut running = ground.device(&args).start();
        // A quarter of them near the end, where it is switched.
        let share = if round % 4 == 0 {
            0.8 + f64::from(random.uniform(0.0, 0.4))
        } else {
            f64::from(random.uniform(0.0, 1.0))
        };
        std::thread::sleep(whole.mul_f64(share));
        let _ = running.child.kill();
        running.child.wait().unwrap();
        // `current` verifies every byte of what is current.
        match ground.current_id().unwrap() {
            now if now == before => old += 1,
            _ => new += 1,
        }
        let again = ground.install(&bundles[next], &[]);
        assert_eq!(again.exit, Some(0), "round {round}: {}", again.stderr);
        assert_eq!(ground.current_id().unwrap(), ["belt/7", "belt/8"][next]);
        assert!(!ground.names().contains(&".incoming".to_owned()), "{:?}", ground.names());
    }
    eprintln!("killed {} times: {old} the old one, {new} the new one", old + new);
    assert!(old > 0, "no installation was interrupted");
}

#[test]
fn one_installation_at_a_time() {
    let ground = Ground::new();
    let bundle = ground.signed("belt/7");
    let mut first = ground.device(&["bundle", "install", "-", "--key", ground.at("key.pub")]);
    let mut child = first.command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut to = child.stdin.take().unwrap();
    let bytes = fs::read(&bundle).unwrap();
    to.write_all(&bytes[..bytes.len() / 2]).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !ground.names().contains(&".incoming".to_owned()) {
        assert!(Instant::now() < deadline, "it does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    let second = ground.install(&bundle, &[]);
    assert!(second.exit == Some(1) && second.stderr.contains("another installation"), "{}", second.stderr);
    to.write_all(&bytes[bytes.len() / 2..]).unwrap();
    drop(to);
    assert!(child.wait().unwrap().success());
    assert_eq!(ground.current_id().as_deref(), Some("belt/7"));
}

/// The model of a bundle that was made.
fn model_of(bundle: &Path) -> Model {
    let mut archive = tar::Archive::new(fs::File::open(bundle).unwrap());
    let mut json = Vec::new();
    archive.entries().unwrap().next().unwrap().unwrap().read_to_end(&mut json).unwrap();
    Manifest::parse(&json).unwrap().models[0].clone()
}

/// A signed bundle of belt/8 as nobody would make it.
fn odd(ground: &Ground, change: impl FnOnce(&mut Content, &Path)) -> PathBuf {
    // As it was before the last change.
    let _ = fs::remove_dir_all(ground.path("belt-8"));
    let model = model_of(&ground.signed("belt/8"));
    let package = PathBuf::from(ground.cache("belt/8")).join("belt/8");
    let mut content = Content { version: "odd".into(), models: vec![model], ..Content::default() };
    for entry in fs::read_dir(&package).unwrap() {
        let path = entry.unwrap().path();
        content.files.push((format!("cache/belt/8/{}", path.file_name().unwrap().to_str().unwrap()), path));
    }
    change(&mut content, &package);
    let output = ground.path("odd.flb");
    make(content, Some(&read_key(&ground.path("key.key")).unwrap()), &output, &mut |_, _| {}).unwrap();
    output
}

#[test]
fn a_model_that_does_not_do_what_it_did_is_refused() {
    let ground = Ground::new();
    assert_eq!(ground.install(&ground.signed("belt/7"), &[]).exit, Some(0));
    let refused = |bundle: &Path, why: &str| {
        let refused = ground.install(bundle, &[]);
        assert!(refused.exit == Some(4) && refused.stderr.contains(why), "{:?} {}", refused.exit, refused.stderr);
        assert_eq!(ground.current_id().as_deref(), Some("belt/7"));
        assert!(!ground.names().contains(&".incoming".to_owned()));
    };
    refused(&odd(&ground, |content, _| content.models[0].golden[0].rms *= 1.1), "output 0 of the golden frame");
    refused(&odd(&ground, |content, _| content.models[0].golden.clear()), "outputs, and had 0");
    refused(&odd(&ground, |content, _| content.models[0].sha256 = "0".repeat(64)), "its weights have sha256");
    let names = odd(&ground, |_, package| fs::write(package.join("class_names.txt"), "one\n").unwrap());
    refused(&names, "belt/8");
    let weights = odd(&ground, |_, package| fs::write(package.join("weights.onnx"), "no network").unwrap());
    refused(&weights, "belt/8");
    let absent = odd(&ground, |content, _| content.files.retain(|(path, _)| !path.ends_with("environment.json")));
    refused(&absent, "environment.json");
}

#[test]
fn a_bundle_that_is_damaged_at_start_is_taken_back() {
    let ground = Ground::new();
    assert_eq!(ground.install(&ground.signed("belt/7"), &[]).exit, Some(0));
    assert_eq!(ground.install(&ground.signed("belt/8"), &[]).exit, Some(0));
    let weights = ground.current().unwrap().dir.join("cache/belt/8/weights.onnx");
    let mut bytes = fs::read(&weights).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&weights, bytes).unwrap();
    let device = ground.run(&[]);
    let status = running(&device.address());
    assert_eq!((&status["model"]["id"], &status["state"]), (&"belt/7".into(), &"degraded".into()), "{status}");
    let reason = status["reasons"][0].as_str().unwrap();
    assert!(reason.starts_with("bundle: ") && reason.contains("was taken back"), "{reason}");
    drop(device);
    // The last one as well: the demo model is what is left.
    fs::remove_file(ground.current().unwrap().dir.join("cache/belt/7/class_names.txt")).unwrap();
    let device = ground.run(&[]);
    let status = running(&device.address());
    assert_eq!((&status["model"]["id"], &status["state"]), (&"parts/1".into(), &"degraded".into()), "{status}");
    drop(device);
    // The next one that is installed sets it right.
    assert_eq!(ground.install(&ground.signed("belt/9"), &[]).exit, Some(0));
    let device = ground.run(&[]);
    let status = running(&device.address());
    assert_eq!((&status["model"]["id"], &status["state"]), (&"belt/9".into(), &"running".into()), "{status}");
}

#[test]
fn a_bundle_that_never_comes_up_is_taken_back() {
    let ground = Ground::new();
    assert_eq!(ground.install(&ground.signed("belt/7"), &[]).exit, Some(0));
    // Its source is none.
    let config = ground.path("bad.toml");
    fs::write(&config, "model = \"belt/8\"\nsource.uri = \"nothing:\"\n").unwrap();
    let args = ["cache", "--cache", ground.cache("belt/8"), "bundle", "belt/8", "-o", ground.at("bad.flb"), "--config"];
    let made = firstlight(&[&args[..], &[config.to_str().unwrap(), "--sign", ground.at("key.key")]].concat()).run();
    assert_eq!(made.exit, Some(0), "{}", made.stderr);
    assert_eq!(ground.install(&ground.path("bad.flb"), &[]).exit, Some(0));
    for _ in 0..3 {
        let mut device = ground.run(&[]);
        assert_ne!(device.exit(), Some(0));
        assert_eq!(ground.current_id().as_deref(), Some("belt/8"));
    }
    let device = ground.run(&[]);
    assert_eq!(running(&device.address())["model"]["id"], "belt/7");
}

#[test]
fn a_bundle_comes_over_http() {
    let ground = Ground::new();
    let (first, second) = (fs::read(ground.signed("belt/7")).unwrap(), fs::read(ground.signed("belt/8")).unwrap());
    let device = ground.run(&[]);
    let address = device.address();
    assert_eq!(running(&address)["model"]["id"], "parts/1");
    assert_eq!(ask(&address, "PUT", "/device/bundle", "another", b"x").0, 401);
    assert_eq!(ask(&address, "POST", "/device/bundle", TOKEN, b"x").0, 405);
    let mut flipped = first.clone();
    flipped[first.len() / 2] ^= 1;
    let (status, why) = ask(&address, "PUT", "/device/bundle", TOKEN, &flipped);
    assert_eq!(status, 422, "{why}");
    assert!(why["message"].as_str().unwrap().contains("damaged on its way"), "{why}");
    let (status, why) = ask(&address, "PUT", "/device/bundle", TOKEN, &first[..first.len() / 2]);
    assert_eq!(status, 422, "{why}");
    assert_eq!(ask(&address, "POST", "/device/bundle/rollback", TOKEN, b"").0, 409);
    assert_eq!(running(&address)["model"]["id"], "parts/1", "nothing has changed");

    let (status, told) = ask(&address, "PUT", "/device/bundle", TOKEN, &first);
    assert_eq!((status, &told["models"][0]), (200, &"belt/7".into()), "{told}");
    // The same process, started anew, says where its port is now.
    let address = device.address();
    assert_eq!(running(&address)["model"]["id"], "belt/7");
    let (status, told) = ask(&address, "PUT", "/device/bundle", TOKEN, &first);
    assert_eq!((status, &told["already"]), (200, &true.into()), "{told}");
    assert_eq!(ask(&address, "PUT", "/device/bundle", TOKEN, &second).0, 200);
    let address = device.address();
    assert_eq!(running(&address)["model"]["id"], "belt/8");
    let (status, told) = ask(&address, "GET", "/device/bundle", TOKEN, b"");
    assert_eq!((status, &told["bundles"][0]["models"][0]), (200, &"belt/8".into()), "{told}");
    assert_eq!(ask(&address, "POST", "/device/bundle/rollback", TOKEN, b"").0, 200);
    let address = device.address();
    assert_eq!(running(&address)["model"]["id"], "belt/7");
    assert_eq!(get(&address, "/healthz").0, 200);
}

#[test]
fn a_client_that_leaves_changes_nothing() {
    let ground = Ground::new();
    let bytes = fs::read(ground.signed("belt/7")).unwrap();
    let device = ground.run(&[]);
    let address = device.address();
    let mut stream = TcpStream::connect(&address).unwrap();
    let head = format!(
        "PUT /device/bundle HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: {}\r\n\r\n",
        bytes.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&bytes[..bytes.len() - 700]).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !ground.names().contains(&".incoming".to_owned()) {
        assert!(Instant::now() < deadline, "it does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(stream);
    // The next one finds the way free, and nothing is current before.
    assert!(ground.current().is_none());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (status, told) = ask(&address, "PUT", "/device/bundle", TOKEN, &bytes);
        if status == 200 {
            break;
        }
        assert!(status == 409 && Instant::now() < deadline, "{status} {told}");
        std::thread::sleep(Duration::from_millis(50));
    }
    wait_for(&device.stderr, |line| line.contains("see http://"));
}

#[test]
fn a_disk_that_is_too_small_is_not_begun_with() {
    let ground = Ground::new();
    let bundle = ground.signed("belt/7");
    let state = ground.path("state");
    fs::create_dir(&state).unwrap();
    let kind = nix::mount::MsFlags::MS_NOSUID;
    if let Err(error) = nix::mount::mount(Some("tmpfs"), &state, Some("tmpfs"), kind, Some("size=1m")) {
        eprintln!("SKIPPED: no tmpfs of one megabyte: {error}");
        return;
    }
    let refused = ground.install(&bundle, &[]);
    let names = ground.names();
    nix::mount::umount(&state).unwrap();
    assert!(refused.exit == Some(1) && refused.stderr.contains("nothing was written"), "{}", refused.stderr);
    assert_eq!(names, ["lock"]);
}
