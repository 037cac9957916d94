//! What should be: a resource, with its type, tenants, leases and identity, lowered to containers, networks and volumes.
//!
//! **Invariant:** pure. The same inputs give the same `Intent`, byte for byte, so that the hash in a label can be compared.

pub mod builtin;
pub mod copy;
pub mod fields;
pub mod hash;
pub mod lower;
pub mod merge;
pub mod mounts;
pub mod naming;
pub mod preview;
pub mod security;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::resource::quantity::{Bytes, Cpu, Duration};
use crate::resource::workspace::{DeletionPolicy, Protocol, RestartPolicy, UpdateWhen};
use crate::resource::{Condition, ObjectRef, Uid};
use crate::state::Tombstone;

/// What an object is to become.
#[derive(Clone, Debug, PartialEq)]
pub enum Intent {
    /// It is declared.
    Present(Box<DesiredState>),
    /// It is not declared any more: no container, no private network; the data by the tombstone.
    Absent(Tombstone),
    /// What it should be is not known, or it is suspended: touch nothing, say why.
    Hold(Condition),
    /// A namespace: its network is wanted by these objects, and goes when there are none.
    Shared {
        /// The network.
        network: NetworkWant,
        /// Who uses it.
        users: BTreeSet<ObjectRef>,
    },
}

/// Everything that one workspace or preview should be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DesiredState {
    /// Which life of the object.
    pub uid: Uid,
    /// Which version of its spec.
    pub generation: u64,
    /// When it was admitted.
    pub created: Timestamp,
    /// Whether and until when it runs.
    pub run: RunPolicy,
    /// The containers in the order of their start: services first, main last.
    pub containers: Vec<ContainerSpec>,
    /// The networks that must exist, besides the namespace's and those that exist by themselves.
    pub networks: Vec<NetworkWant>,
    /// The volumes that must exist.
    pub volumes: Vec<VolumeWant>,
    /// Commands at points of the main container's life.
    pub hooks: BTreeMap<HookPoint, Vec<String>>,
    /// When a replacement may interrupt; `None`: its own changes at once, inherited ones when idle.
    pub update: Option<UpdateWhen>,
    /// The digest of the object's own spec, to tell its own changes from inherited ones.
    pub own_digest: String,
    /// The value of the restart annotation.
    pub restart_token: Option<String>,
    /// Whether images are resolved anew at creation and restart.
    pub pull: crate::resource::workspace::PullPolicy,
    /// The disk limit, which the engine may or may not enforce.
    pub disk: Option<Bytes>,
    /// What becomes of the data.
    pub deletion: DeletionPolicy,
    /// A preview's own facts.
    pub preview: Option<PreviewWant>,
    /// Conditions that hold whatever the world looks like: `Unsupported`, `PortsExhausted`, ... Those in `fatal` stop all work.
    pub notices: Vec<Condition>,
    /// Reasons why nothing can be made of this spec now; what runs keeps running.
    pub fatal: Vec<Condition>,
}

impl DesiredState {
    /// The main container.
    pub fn main(&self) -> Option<&ContainerSpec> {
        self.containers.iter().find(|container| container.role == Role::Main)
    }
}

/// What a preview knows besides its containers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreviewWant {
    /// 128 random bits in hexadecimal.
    pub hash: String,
    /// When it expires.
    pub expires_at: Timestamp,
    /// How long the expired object stays.
    pub ttl_after_expired: Duration,
    /// What is copied, and how.
    pub copy: Option<CopyWant>,
}

/// A copy of volumes from a source that is kept still for the last part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CopyWant {
    /// The workspace that is copied.
    pub source: ObjectRef,
    /// Its uid at the time.
    pub source_uid: Uid,
    /// How it is kept still.
    pub mode: crate::resource::preview::CopyMode,
    /// From volume, to volume.
    pub volumes: Vec<(String, String)>,
}

/// Whether and until when an object runs; the planner weighs it with the facts and the clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunPolicy {
    /// `state: Running`.
    pub declared_running: bool,
    /// When idle.
    pub idle: Option<IdlePolicy>,
    /// The end of a run.
    pub max_lifetime: Option<Duration>,
    /// The hours.
    pub hours: Option<crate::resource::workspace::RunningHours>,
}

/// When a run ends for want of activity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IdlePolicy {
    /// After so long.
    pub timeout: Duration,
    /// Sent bytes between two samples that count.
    pub network: Bytes,
    /// Asked before.
    pub check: Option<Vec<String>>,
    /// Told before.
    pub warn: Option<Vec<String>>,
}

/// When a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HookPoint {
    /// Once for each container, after its first start.
    PostCreate,
    /// After each start.
    PostStart,
    /// Before each stop.
    PreStop,
}

impl HookPoint {
    /// The field of the spec.
    pub fn as_str(self) -> &'static str {
        match self {
            HookPoint::PostCreate => "postCreate",
            HookPoint::PostStart => "postStart",
            HookPoint::PreStop => "preStop",
        }
    }
}

/// What a container is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// The workspace or preview itself.
    Main,
    /// A sidecar.
    Service,
    /// Our own program: a copy, the lock.
    Helper,
}

impl Role {
    /// The value of the label `dockmaster.role`.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Main => "main",
            Role::Service => "service",
            Role::Helper => "helper",
        }
    }
}

/// One container, with everything that its creation needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The final name.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// The service's name.
    pub service: Option<String>,
    /// Services that must be ready before it starts.
    pub depends_on: Vec<String>,
    /// What it is made from.
    pub image: ImageWant,
    /// Replaces ENTRYPOINT.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces CMD.
    pub command: Option<Vec<String>>,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// Working directory.
    pub working_dir: Option<String>,
    /// User.
    pub user: Option<String>,
    /// Host name.
    pub hostname: String,
    /// All labels: the user's and ours, the hash included.
    pub labels: BTreeMap<String, String>,
    /// Published ports.
    pub ports: Vec<PortBinding>,
    /// Mounts by their path.
    pub mounts: Vec<MountWant>,
    /// Networks: the first at creation, the others connected before the start.
    pub networks: Vec<Attachment>,
    /// The health check; an empty test keeps the image's.
    pub health: Option<HealthWant>,
    /// Init as process 1.
    pub init: bool,
    /// Stop signal.
    pub stop_signal: Option<String>,
    /// Time between the stop signal and SIGKILL.
    pub stop_grace: Duration,
    /// The security profile, resolved.
    pub security: SecurityWant,
    /// The disk limit, where the engine enforces one.
    pub storage_size: Option<Bytes>,
    /// What can be changed in place; not part of the hash.
    pub limits: Limits,
    /// `v1:<hex>` over the fields above that are fixed at creation.
    pub hash: String,
}

/// What a container is made from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ImageWant {
    /// An image by reference.
    Reference(String),
    /// Our own helper image; hashed as the symbol `helper/v1`, so that an upgrade recreates nothing.
    Helper,
}

impl ImageWant {
    /// The text of a spec that asks for the helper image.
    pub const HELPER: &'static str = "dockmaster/helper";

    /// The reference as text; for the helper its symbol.
    pub fn as_str(&self) -> &str {
        match self {
            ImageWant::Reference(reference) => reference,
            ImageWant::Helper => "helper/v1",
        }
    }
}

/// What Docker can change in a container that exists; compared by value with an inspect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory; `None` is unlimited. Swap is never added.
    pub memory: Option<Bytes>,
    /// CPUs.
    pub cpu: Option<Cpu>,
    /// Processes and threads.
    pub pids: i64,
    /// Restart policy.
    pub restart: RestartPolicy,
}

/// One published port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortBinding {
    /// Its name in the spec.
    pub name: String,
    /// Inside the container.
    pub container: u16,
    /// On the host.
    pub host: u16,
    /// The address of the host.
    pub ip: String,
    /// tcp or udp.
    pub protocol: Protocol,
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountWant {
    /// What.
    pub source: MountSource,
    /// Where.
    pub path: String,
    /// Whether the container may not write.
    pub read_only: bool,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A volume by its final Docker name.
    Volume(String),
    /// A directory of the host, absolute.
    Host(String),
    /// Memory of this size, owned by the container's user.
    Tmpfs {
        /// Its size.
        size: Bytes,
        /// `uid` and `gid`, where the user is numeric.
        owner: Option<(u32, u32)>,
    },
}

/// One network of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The network's Docker name.
    pub network: String,
    /// The names under which the container answers there.
    pub aliases: Vec<String>,
}

/// A health check with every value resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthWant {
    /// `[CMD, ...]`, `[CMD-SHELL, ...]` or `[NONE]`.
    pub test: Vec<String>,
    /// Time between two tests.
    pub interval: Duration,
    /// Limit of one test.
    pub timeout: Duration,
    /// Failures that count.
    pub retries: u32,
    /// Grace after the start.
    pub start_period: Option<Duration>,
    /// Time between two tests in that grace; native from API 1.44.
    pub start_interval: Duration,
}

/// The security profile, resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityWant {
    /// Capabilities to drop.
    pub cap_drop: Vec<String>,
    /// Whether the root file system is read-only.
    pub read_only_root: bool,
}

/// A network that must exist.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NetworkWant {
    /// Its Docker name.
    pub name: String,
    /// Its subnet in CIDR notation.
    pub subnet: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A volume that must exist.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VolumeWant {
    /// Its Docker name.
    pub name: String,
    /// The name in the spec.
    pub volume: String,
    /// Whose it is.
    pub scope: VolumeScope,
    /// Its labels; empty for an external volume, which is never created.
    pub labels: BTreeMap<String, String>,
}

/// Whose a volume is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum VolumeScope {
    /// This object's own.
    Private,
    /// The namespace's.
    Namespace,
    /// Somebody else's; it must exist.
    External,
}
