//! All that a simulated engine knows, as plain data: cheap enough to copy whole, open to be looked at by checks and changed by hand.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::events::Event;
use super::fault::EventTap;
use super::process::Process;
use super::{Options, Version};

/// A JSON object whose keys stay in the order of the engine.
pub type Object = Map<String, Value>;

/// The engine's whole state. What is behind an `Arc` is shared between copies until one of them changes it.
#[derive(Clone)]
pub struct Engine {
    /// Which engine it is.
    pub version: Version,
    /// Its host and its id.
    pub host: Host,
    /// By id.
    pub containers: BTreeMap<String, Container>,
    /// Containers by each of their labels, written `key=value`.
    labelled: BTreeMap<String, BTreeSet<String>>,
    /// Names that are taken, with the container that has them; a name is taken before its container exists.
    pub names: BTreeMap<String, String>,
    /// By id.
    pub networks: BTreeMap<String, Network>,
    /// By name.
    pub volumes: BTreeMap<String, Volume>,
    /// By id.
    pub images: BTreeMap<String, Image>,
    /// Commands in containers, by id.
    pub execs: BTreeMap<String, Exec>,
    /// What registries have, by reference with tag: `docker.io/library/busybox:1` is written `busybox:1`.
    pub registry: BTreeMap<String, Remote>,
    /// What is pulled under any reference that `registry` does not name; `None`: nothing is there.
    pub any_image: Option<Remote>,
    /// Host ports that other programs have: `(port, protocol)`.
    pub foreign_ports: BTreeSet<(u16, String)>,
    /// Directories that exist on the host; `None`: as on this machine.
    pub host_paths: Option<BTreeSet<String>>,
    /// Whether the disk of its data is full.
    pub disk_full: bool,
    /// Containers that are gone, the latest last, for those who wait for them or hear them still.
    pub gone: VecDeque<Gone>,
    /// How containers of that name or image behave.
    pub behaviours: BTreeMap<String, Behaviour>,
    /// What happened, oldest first: the last of them can be asked for again, and streams read from it.
    pub events: VecDeque<(u64, Arc<Event>)>,
    /// The number of the next event.
    pub next_event: u64,
    /// The wall clock at the last look.
    pub now: Timestamp,
    /// Time since the engine was made, which never jumps.
    pub elapsed: Duration,
    /// Counts every change.
    pub changes: u64,
    pub(super) seed: u64,
    pub(super) serial: u64,
    pub(super) next_pid: u32,
    pub(super) agenda: BTreeMap<(Duration, u64), super::clockwork::Due>,
    pub(super) tap: Option<Arc<dyn EventTap>>,
    pub(super) held: Option<Event>,
}

/// The machine that the engine says it runs on.
#[derive(Clone, Debug)]
pub struct Host {
    /// The engine's id.
    pub id: String,
    /// Host name.
    pub name: String,
    /// Kernel release.
    pub kernel: String,
    /// CPUs.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// Where its data is.
    pub root: String,
}

/// What a container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It never ran.
    Created,
    /// Its process runs.
    Running,
    /// Its process is frozen.
    Paused,
    /// Its process ended and will be started again by the engine.
    Restarting,
    /// It is being removed.
    Removing,
    /// Its process ended.
    Exited,
    /// It could not be removed.
    Dead,
}

impl Status {
    /// Docker's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }
}

/// A container.
#[derive(Clone, Debug)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Without the slash.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// The image as it was asked for.
    pub image: String,
    /// The image's id.
    pub image_id: String,
    /// `Config` of an inspect.
    pub config: Arc<Object>,
    /// `HostConfig` of an inspect.
    pub host: Arc<Object>,
    /// Its labels, the image's included.
    pub labels: Arc<BTreeMap<String, String>>,
    /// The command with its arguments.
    pub argv: Arc<Vec<String>>,
    /// What is mounted.
    pub mounts: Arc<Vec<MountPoint>>,
    /// By the name of the network.
    pub endpoints: BTreeMap<String, Endpoint>,
    /// What it is doing.
    pub status: Status,
    /// Of the last end.
    pub exit_code: i64,
    /// Why the last start failed.
    pub error: String,
    /// Whether a start was cut off by the end of the engine, and left a shim.
    pub stranded: bool,
    /// Whether the kernel killed it for its memory.
    pub oom_killed: bool,
    /// The last start.
    pub started: Option<Timestamp>,
    /// The last end.
    pub finished: Option<Timestamp>,
    /// How often the engine started it again.
    pub restarts: u32,
    /// Whether a human, or an operator, stopped it.
    pub stopped_by_hand: bool,
    /// Whether it is to be stopped at the moment.
    pub stopping: bool,
    /// Counts its starts, so that a late alarm finds out that it is another's.
    pub run: u64,
    /// Its main process while it runs.
    pub process: Option<Process>,
    /// The state of its health test.
    pub health: Option<Health>,
    /// What it wrote.
    pub log: Vec<Arc<Line>>,
    /// Its own files, which go with it, by absolute path.
    pub files: BTreeMap<String, Bytes>,
    /// Ports of the host that it has now.
    pub ports: Vec<Port>,
    /// Bytes sent and received.
    pub traffic: (u64, u64),
    pub(super) backoff: Duration,
    pub(super) was_running: bool,
    pub(super) started_at: Duration,
}

impl Container {
    /// Whether it runs, frozen or between two starts by the engine included.
    pub fn is_running(&self) -> bool {
        matches!(self.status, Status::Running | Status::Paused | Status::Restarting)
    }

    /// A text of its configuration on the host.
    pub fn host_text(&self, key: &str) -> &str {
        self.host.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// A number of its configuration on the host.
    pub fn host_number(&self, key: &str) -> i64 {
        self.host.get(key).and_then(Value::as_i64).unwrap_or_default()
    }

    /// Whether a flag of its configuration on the host is set.
    pub fn host_flag(&self, key: &str) -> bool {
        self.host.get(key).and_then(Value::as_bool).unwrap_or_default()
    }

    /// Its restart policy and the most tries.
    pub fn restart_policy(&self) -> (&str, i64) {
        let policy = self.host.get("RestartPolicy");
        let name = policy.and_then(|policy| policy.get("Name")).and_then(Value::as_str).unwrap_or_default();
        (name, policy.and_then(|policy| policy.get("MaximumRetryCount")).and_then(Value::as_i64).unwrap_or_default())
    }

    /// The path of the network namespace that it shares, or the network of its creation.
    pub fn network_mode(&self) -> &str {
        self.host_text("NetworkMode")
    }
}

/// What is left of a container that is gone.
#[derive(Clone, Debug)]
pub struct Gone {
    /// Its id.
    pub id: String,
    /// The code of its last end.
    pub code: i64,
    /// What it wrote.
    pub log: Vec<Arc<Line>>,
}

/// A line of a log, or what came of one.
#[derive(Clone, Debug)]
pub struct Line {
    /// When it was written.
    pub at: Timestamp,
    /// To standard error.
    pub stderr: bool,
    /// Its bytes, with the end of the line where there was one.
    pub bytes: Bytes,
}

/// A mount.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct MountPoint {
    /// `volume`, `bind` or `tmpfs`.
    #[serde(rename = "Type")]
    pub kind: &'static str,
    /// The volume's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The directory on the host.
    pub source: String,
    /// The path in the container.
    pub destination: String,
    /// The volume's driver.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// `z` for volumes given as mounts.
    pub mode: String,
    /// Whether it can be written.
    #[serde(rename = "RW")]
    pub writable: bool,
    /// `rprivate` for directories.
    pub propagation: String,
}

/// A container's place on a network.
#[derive(Clone, Debug, Default)]
pub struct Endpoint {
    /// What was asked for.
    pub aliases: Option<Vec<String>>,
    /// The network, known from the first start on.
    pub network_id: String,
    /// Set while the container runs.
    pub id: String,
    /// The address, set while the container runs.
    pub ip: String,
    /// The length of the network's prefix, set while the container runs.
    pub prefix: u8,
    /// The network's gateway.
    pub gateway: String,
    /// The hardware address.
    pub mac: String,
    /// The address that was asked for.
    pub asked_ip: Option<String>,
}

/// A port of the host that leads to one of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The address on the host.
    pub ip: String,
    /// On the host.
    pub public: u16,
    /// In the container.
    pub private: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
}

/// The state of a health test.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// `starting`, `healthy` or `unhealthy`.
    pub status: String,
    /// Failures in a row.
    pub failing: u32,
    /// The last five.
    pub log: VecDeque<Probe>,
}

/// A run of a health test.
#[derive(Clone, Debug)]
pub struct Probe {
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// Its code.
    pub code: i64,
    /// What it wrote.
    pub output: String,
}

/// A network.
#[derive(Clone, Debug)]
pub struct Network {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its name, which another may have too on 20.10.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// `bridge`, `host` or `null`.
    pub driver: String,
    /// Subnets, each with its gateway, and whether the gateway was asked for.
    pub subnets: Vec<Subnet>,
    /// `Internal`.
    pub internal: bool,
    /// `Attachable`.
    pub attachable: bool,
    /// Options of the driver.
    pub options: Object,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Addresses in use, with the endpoint's container.
    pub addresses: BTreeMap<u32, String>,
}

/// A range of addresses of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// The first address.
    pub base: u32,
    /// The length of the prefix.
    pub prefix: u8,
    /// The gateway's address.
    pub gateway: u32,
    /// Whether the gateway is told: when it was asked for, or the engine chose the subnet.
    pub told: bool,
}

/// A volume.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// Labels; `None` where none were given.
    pub labels: Option<BTreeMap<String, String>>,
    /// Options of the driver.
    pub options: Option<BTreeMap<String, String>>,
    /// Whether the engine chose the name.
    pub anonymous: bool,
    /// What it holds, by path below its root.
    pub files: BTreeMap<String, Bytes>,
}

/// An image.
#[derive(Clone, Debug)]
pub struct Image {
    /// `sha256:` and 64 hexadecimal digits.
    pub id: String,
    /// When it was made.
    pub created: Timestamp,
    /// `name:tag`.
    pub tags: BTreeSet<String>,
    /// `name@sha256:…`.
    pub digests: BTreeSet<String>,
    /// The configuration of containers made from it.
    pub config: Arc<Object>,
    /// Bytes.
    pub size: u64,
    /// Its programs and other files, by absolute path; `None`: it has whatever is asked for.
    pub files: Option<Arc<BTreeSet<String>>>,
    /// The digest of its one layer.
    pub layer: String,
    /// Where it came from.
    pub comment: String,
}

/// What a registry has under a reference.
#[derive(Clone, Debug, Default)]
pub struct Remote {
    /// Its digest; empty: made from the reference.
    pub digest: String,
    /// The configuration of containers made from it.
    pub config: Object,
    /// Bytes.
    pub size: u64,
    /// How long the pull takes.
    pub time: Duration,
    /// The account that may pull, as `name:password`.
    pub account: Option<String>,
    /// The registry's answer in place of the image.
    pub refuses: Option<(u16, String)>,
}

/// A command in a container.
#[derive(Clone, Debug)]
pub struct Exec {
    /// 64 hexadecimal digits.
    pub id: String,
    /// The container.
    pub container: String,
    /// The command.
    pub argv: Vec<String>,
    /// `Tty`.
    pub tty: bool,
    /// Which of standard input, output and error are attached.
    pub attached: (bool, bool, bool),
    /// `User`.
    pub user: String,
    /// `Env`.
    pub env: Vec<String>,
    /// `WorkingDir`.
    pub directory: String,
    /// Its process while it runs.
    pub process: Option<Process>,
    /// Whether it was started.
    pub started: bool,
    /// Its code, once it ended.
    pub exit_code: Option<i64>,
    /// What it wrote.
    pub output: Vec<Arc<Line>>,
}

/// How a container behaves, where it is not by its command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// It ends by itself after so long, with that code.
    pub exits: Option<(Duration, i64)>,
    /// The kernel kills it for its memory after so long.
    pub oom: Option<Duration>,
    /// It hears no signal but KILL.
    pub needs_kill: bool,
    /// What its health test always says.
    pub health: Option<bool>,
    /// How long its health test takes.
    pub probe: Duration,
}

impl Engine {
    pub(super) fn new(options: &Options, now: Timestamp) -> Self {
        let mut engine = Self {
            version: options.version,
            host: Host {
                id: String::new(),
                name: options.host_name.clone(),
                kernel: options.kernel.clone(),
                cpus: options.cpus,
                memory: options.memory,
                root: "/var/lib/docker".to_owned(),
            },
            containers: BTreeMap::new(),
            names: BTreeMap::new(),
            networks: BTreeMap::new(),
            labelled: BTreeMap::new(),
            volumes: BTreeMap::new(),
            images: BTreeMap::new(),
            execs: BTreeMap::new(),
            registry: BTreeMap::new(),
            any_image: None,
            foreign_ports: BTreeSet::new(),
            host_paths: None,
            disk_full: false,
            gone: VecDeque::new(),
            behaviours: BTreeMap::new(),
            events: VecDeque::new(),
            next_event: 0,
            now,
            elapsed: Duration::ZERO,
            changes: 0,
            seed: options.seed,
            serial: 0,
            next_pid: 1000,
            agenda: BTreeMap::new(),
            tap: None,
            held: None,
        };
        engine.host.id = match engine.version {
            Version::V20_10 => {
                let text = engine.id().to_uppercase();
                (0..12).map(|at| text[at * 4..at * 4 + 4].to_owned()).collect::<Vec<_>>().join(":")
            }
            Version::V28_5 => {
                let text = engine.id();
                format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..32])
            }
        };
        engine.make_own_networks();
        engine
    }

    /// 64 hexadecimal digits that no other object has: from the seed and a counter.
    pub(super) fn id(&mut self) -> String {
        use std::fmt::Write;
        let mut text = String::with_capacity(64);
        for _ in 0..4 {
            self.serial += 1;
            // A step of splitmix64: it spreads a counter over all numbers.
            let mut number = self.seed.wrapping_add(self.serial.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            // Writing into a string cannot fail.
            let _ = write!(text, "{:016x}", number ^ (number >> 31));
        }
        // Docker takes no id that reads as a number, since a short one may become a host name.
        if text.as_bytes()[..12].iter().all(u8::is_ascii_digit) { self.id() } else { text }
    }

    pub(super) fn pid(&mut self) -> u32 {
        self.next_pid += 7;
        self.next_pid
    }

    /// Adds a container, which is found by its labels then.
    pub(super) fn add_container(&mut self, container: Container) {
        for (key, value) in container.labels.iter() {
            self.labelled.entry(format!("{key}={value}")).or_default().insert(container.id.clone());
        }
        self.containers.insert(container.id.clone(), container);
    }

    /// Takes a container away.
    pub(super) fn take_container(&mut self, id: &str) {
        let Some(container) = self.containers.remove(id) else { return };
        for (key, value) in container.labels.iter() {
            let label = format!("{key}={value}");
            if self.labelled.get_mut(&label).is_some_and(|labelled| labelled.remove(id) && labelled.is_empty()) {
                self.labelled.remove(&label);
            }
        }
    }

    /// Containers among which are all that have these labels, `key=value` or `key`: of many containers not each is looked at for each list.
    pub(super) fn with_labels<'a>(&'a self, labels: &[String]) -> Box<dyn Iterator<Item = &'a Container> + 'a> {
        let rarest = labels.iter().filter(|label| label.contains('=')).min_by_key(|label| self.labelled.get(*label).map_or(0, BTreeSet::len));
        match rarest {
            Some(label) => Box::new(self.labelled.get(label).into_iter().flatten().filter_map(|id| self.containers.get(id))),
            None => Box::new(self.containers.values()),
        }
    }

    /// The container behind a full id, a name, or the beginning of an id.
    pub fn container_id(&self, reference: &str) -> Option<String> {
        if self.containers.contains_key(reference) {
            return Some(reference.to_owned());
        }
        let name = reference.strip_prefix('/').unwrap_or(reference);
        if let Some(id) = self.names.get(name).filter(|id| self.containers.contains_key(*id)) {
            return Some(id.clone());
        }
        let mut beginning = self.containers.range(reference.to_owned()..).map(|(id, _)| id).take_while(|id| id.starts_with(reference));
        let only = beginning.next().filter(|_| !reference.is_empty() && beginning.next().is_none());
        only.cloned()
    }
}
