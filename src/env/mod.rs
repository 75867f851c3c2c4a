//! The one list of environment variables this program reads. `firstlight env` prints it.

pub mod roboflow;

/// One environment variable.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    pub name: &'static str,
    /// What holds when it is unset; empty when nothing does.
    pub default: &'static str,
    pub doc: &'static str,
}

impl Variable {
    /// The value, when set and not empty.
    #[must_use]
    pub fn get(&self) -> Option<String> {
        std::env::var(self.name).ok().filter(|value| !value.is_empty())
    }
}

pub const MODEL_CACHE_DIR: Variable = Variable {
    name: "MODEL_CACHE_DIR",
    default: "/tmp/cache",
    doc: "Root of the model cache, as Roboflow Inference writes it. `--cache` comes first, an installed bundle and `cache` in the config after.",
};
pub const CONFIG: Variable = Variable {
    name: "FIRSTLIGHT_CONFIG",
    default: "",
    doc: "Configuration file of `run` when `-c` is not given. That of an installed bundle goes before it, but for what is the machine's own.",
};
pub const INFERENCE_HOME: Variable = Variable {
    name: "INFERENCE_HOME",
    default: "",
    doc: "Root of the model cache where MODEL_CACHE_DIR names none, as in Roboflow's default engine.",
};
pub const OFFLINE_MODE: Variable = Variable {
    name: "OFFLINE_MODE",
    default: "false",
    doc: "Roboflow's: with `true`, `cache pull` refuses to go online. Nothing else ever does, whatever it says.",
};
pub const ROBOFLOW_API_KEY: Variable = Variable {
    name: "ROBOFLOW_API_KEY",
    default: "",
    doc: "Roboflow's: the key that `cache pull` fetches weights with. `--api-key-file` comes first.",
};
pub const API_KEY: Variable =
    Variable { name: "API_KEY", default: "", doc: "Roboflow's older name of ROBOFLOW_API_KEY, which comes first." };
pub const ROBOFLOW_API_HOST: Variable = Variable {
    name: "ROBOFLOW_API_HOST",
    default: "https://api.roboflow.com",
    doc: "Roboflow's: server of the weights API, for `cache pull`.",
};
pub const API_BASE_URL: Variable = Variable {
    name: "API_BASE_URL",
    default: "https://api.roboflow.com",
    doc: "Roboflow's: server of the older API, for `cache pull --layout classic`.",
};
pub const SSL_CERT_FILE: Variable = Variable {
    name: "SSL_CERT_FILE",
    default: "the web's",
    doc: "PEM file of the roots that `cache pull` trusts, instead of the web's.",
};
pub const HTTPS_PROXY: Variable = Variable {
    name: "HTTPS_PROXY",
    default: "",
    doc: "Proxy of `cache pull`, as are ALL_PROXY, HTTP_PROXY and their names in lower case; NO_PROXY names exceptions.",
};
pub const LISTEN: Variable = Variable {
    name: "FIRSTLIGHT_LISTEN",
    default: "127.0.0.1:9001",
    doc: "Address of the HTTP port, or `off`. `--listen` comes first, `listen` in the config after.",
};
pub const THREADS: Variable = Variable {
    name: "FIRSTLIGHT_THREADS",
    default: "one a core",
    doc: "Threads of the CPU engines. `--threads` comes first, `engine.threads` in the config after.",
};
pub const ONNXRUNTIME: Variable = Variable {
    name: "FIRSTLIGHT_ONNXRUNTIME",
    default: "where libraries lie",
    doc: "ONNX Runtime's library, libonnxruntime.so. `engine.onnxruntime` in the config comes after.",
};
pub const TFLITE: Variable = Variable {
    name: "FIRSTLIGHT_TFLITE",
    default: "where libraries lie",
    doc: "TensorFlow Lite's library with its C API. `engine.tflite` in the config comes after.",
};
pub const WORKER_LOADER: Variable = Variable {
    name: "FIRSTLIGHT_WORKER_LOADER",
    default: "the system's",
    doc: "Program and arguments that load the worker of accelerators, such as another glibc's ld.so. `engine.loader` in the config comes after.",
};
pub const STATE_DIR: Variable = Variable {
    name: "FIRSTLIGHT_STATE_DIR",
    default: "$STATE_DIRECTORY, $XDG_STATE_HOME/firstlight, ~/.local/state/firstlight",
    doc: "Where plans, engines and the certificate are kept that were made here, and bundles, or `off`; our own PID 1 says /data/state.",
};
pub const STATE_DIRECTORY: Variable = Variable {
    name: "STATE_DIRECTORY",
    default: "",
    doc: "State directory of the service; set by systemd with StateDirectory=.",
};

/// The root of the model cache, where the environment names one.
#[must_use]
pub fn cache_root() -> Option<std::path::PathBuf> {
    MODEL_CACHE_DIR.get().or_else(|| INFERENCE_HOME.get()).map(Into::into)
}

/// Where what was made here is kept: plans, the certificate, bundles; `None`: nowhere.
#[must_use]
pub fn state_dir() -> Option<std::path::PathBuf> {
    let of_user = |name: &str, below: &str| {
        let base = std::path::PathBuf::from(std::env::var_os(name)?);
        // The XDG specification has relative paths ignored.
        base.is_absolute().then(|| base.join(below))
    };
    match STATE_DIR.get().as_deref() {
        Some("off") => None,
        Some(dir) => Some(dir.into()),
        None => {
            let service = STATE_DIRECTORY.get().and_then(|dirs| dirs.split(':').next().map(Into::into));
            service
                .or_else(|| of_user("XDG_STATE_HOME", "firstlight"))
                .or_else(|| of_user("HOME", ".local/state/firstlight"))
        }
    }
}

pub const NOTIFY_SOCKET: Variable = Variable {
    name: "NOTIFY_SOCKET",
    default: "",
    doc: "Socket of the supervisor, for READY, WATCHDOG and STATUS; set by systemd and by our own PID 1.",
};
pub const WATCHDOG_USEC: Variable = Variable {
    name: "WATCHDOG_USEC",
    default: "",
    doc: "Microseconds within which the supervisor wants a sign of life; set by systemd with WatchdogSec=.",
};
pub const DEVICE_DIR: Variable = Variable {
    name: "FIRSTLIGHT_DEVICE_DIR",
    default: "",
    doc: "Where our own PID 1 says what it knows of the machine; set by it for the loop it starts.",
};

/// Every variable the program reads, in the order they are printed.
pub const VARIABLES: &[Variable] = &[
    MODEL_CACHE_DIR,
    INFERENCE_HOME,
    OFFLINE_MODE,
    ROBOFLOW_API_KEY,
    API_KEY,
    ROBOFLOW_API_HOST,
    API_BASE_URL,
    SSL_CERT_FILE,
    HTTPS_PROXY,
    CONFIG,
    LISTEN,
    THREADS,
    ONNXRUNTIME,
    TFLITE,
    WORKER_LOADER,
    STATE_DIR,
    STATE_DIRECTORY,
    NOTIFY_SOCKET,
    WATCHDOG_USEC,
    DEVICE_DIR,
];
