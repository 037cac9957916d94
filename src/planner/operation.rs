//! The operations: each is one call of the runtime port, or one durable fact written.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::desired::{ContainerSpec, Limits};
use crate::observed::{ContainerId, TaskKey};
use crate::resource::quantity::Duration;
use crate::resource::{ObjectRef, Uid};
pub use crate::state::Consent;
use crate::state::Fact;

/// A container that exists, or that an earlier node makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// It exists.
    Existing {
        /// Its id.
        id: ContainerId,
        /// The uid in its labels; the adapter looks before it acts.
        uid: Uid,
        /// Its name, for people.
        name: String,
    },
    /// The node at this index makes it; the executor fills in the id.
    Made {
        /// Index into the plan's nodes.
        node: usize,
        /// Its name, for people.
        name: String,
    },
}

impl Target {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Target::Existing { name, .. } | Target::Made { name, .. } => name,
        }
    }
}

/// One thing done. Idempotent: what is done already is `Ok`.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// Makes a bridge network, unless one of ours of that name exists.
    EnsureNetwork {
        /// Docker's name.
        name: String,
        /// CIDR.
        subnet: String,
        /// Labels.
        labels: BTreeMap<String, String>,
    },
    /// Removes a network by id.
    RemoveNetwork {
        /// Docker's id.
        id: String,
        /// Its name, for people.
        name: String,
    },
    /// Makes a volume; one of that name that is not the object's is an error, and never used.
    EnsureVolume {
        /// Docker's name.
        name: String,
        /// Labels.
        labels: BTreeMap<String, String>,
    },
    /// Removes a volume.
    RemoveVolume {
        /// Docker's name.
        name: String,
        /// Whose it must be.
        uid: Uid,
        /// By whose word.
        consent: Consent,
    },
    /// Makes a container.
    Create {
        /// All of it.
        spec: Box<ContainerSpec>,
        /// The name to make it under: `spec.name`, or a temporary one.
        name: String,
        /// The image by id.
        image_id: String,
    },
    /// Starts a container.
    Start(Target),
    /// Asks a container to stop, and kills it after the grace.
    Stop {
        /// Which.
        target: Target,
        /// The grace.
        grace: Duration,
    },
    /// Removes a container and its anonymous volumes.
    Remove(Target),
    /// Gives a container its final name.
    Rename {
        /// Which.
        target: Target,
        /// The name.
        to: String,
    },
    /// Changes the limits in place.
    Update {
        /// Which.
        target: Target,
        /// To what.
        limits: Limits,
    },
    /// Connects a container to a network.
    Connect {
        /// Which.
        target: Target,
        /// The network's name.
        network: String,
        /// The names under which it answers there.
        aliases: Vec<String>,
    },
    /// Disconnects a container from a network.
    Disconnect {
        /// Which.
        target: Target,
        /// The network's id.
        network: String,
    },
    /// Freezes a container.
    Pause(Target),
    /// Thaws a container.
    Unpause(Target),
    /// Begins long work; returns at once.
    Begin(TaskKey, Task),
    /// Forgets the outcome of long work.
    Forget(TaskKey),
    /// Writes a durable fact about the object into the ledger.
    Record(Fact),
    /// Gives back ports and subnets: the containers are gone.
    ReleaseLeases,
    /// Forgets the object and all its facts: its tombstone has ended.
    Release,
}

/// Long work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Pull an image.
    Pull {
        /// The reference.
        reference: String,
    },
    /// Make the helper image.
    Helper,
    /// Run a command in a container.
    Exec {
        /// Program and arguments.
        argv: Vec<String>,
        /// The longest that it may take.
        limit: Duration,
    },
    /// Take an activity sample.
    Sample {
        /// Commands of exec sessions that do not count: health tests, hooks, checks.
        ignore: Vec<Vec<String>>,
    },
    /// Measure the disk that the container's own layer and these volumes use.
    Disk {
        /// The volumes by name.
        volumes: Vec<String>,
    },
    /// Measure the memory that the container uses.
    Memory,
    /// Read the last lines of the log.
    Tail {
        /// How many.
        lines: u32,
        /// Only what was written up to then.
        until: Option<Timestamp>,
    },
}

/// Why: the field that differs, old and new. For a container that is not there, the field is `container`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// The field of the spec, or of the world.
    pub field: String,
    /// What it was.
    pub old: String,
    /// What it is to be.
    pub new: String,
}

impl Cause {
    /// A cause.
    pub fn new(field: impl Into<String>, old: impl Into<String>, new: impl Into<String>) -> Self {
        Self { field: field.into(), old: old.into(), new: new.into() }
    }
}

/// What a node means for its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Something new is made.
    Create,
    /// Something is changed in place.
    Update,
    /// Something is exchanged.
    Replace,
    /// It is started.
    Start,
    /// It is stopped.
    Stop,
    /// It goes.
    Delete,
    /// Something is waited for or found out.
    Wait,
    /// Nothing in Docker changes: a fact is written.
    None,
}

/// One operation in a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanNode {
    /// What.
    pub operation: Operation,
    /// What it means.
    pub action: Action,
    /// Why.
    pub cause: Cause,
    /// Indices of the nodes that must be done before.
    pub depends_on: Vec<usize>,
}

/// An operation that was considered and left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// What.
    pub op: String,
    /// Why.
    pub why: String,
}

impl Operation {
    /// The operation's name in plans, the journal and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Operation::EnsureNetwork { .. } => "create-network",
            Operation::RemoveNetwork { .. } => "remove-network",
            Operation::EnsureVolume { .. } => "create-volume",
            Operation::RemoveVolume { .. } => "remove-volume",
            Operation::Create { .. } => "create",
            Operation::Start(_) => "start",
            Operation::Stop { .. } => "stop",
            Operation::Remove(_) => "remove",
            Operation::Rename { .. } => "rename",
            Operation::Update { .. } => "update",
            Operation::Connect { .. } => "connect",
            Operation::Disconnect { .. } => "disconnect",
            Operation::Pause(_) => "pause",
            Operation::Unpause(_) => "unpause",
            Operation::Begin(key, _) => match key {
                TaskKey::Pull(_) => "pull",
                TaskKey::Helper => "build-helper",
                TaskKey::Hook(..) => "hook",
                TaskKey::IdleCheck(_) => "idle-check",
                TaskKey::IdleWarn(_) => "idle-warn",
                TaskKey::Sample(_) => "sample",
                TaskKey::Tail(_) => "read-log",
                TaskKey::Probe(_) => "probe",
                TaskKey::Disk(_) => "measure-disk",
                TaskKey::Memory(_) => "measure-memory",
            },
            Operation::Forget(_) => "forget",
            Operation::Record(_) => "record",
            Operation::ReleaseLeases => "release-leases",
            Operation::Release => "release",
        }
    }

    /// What it acts on, by name.
    pub fn target(&self) -> String {
        match self {
            Operation::EnsureNetwork { name, .. } | Operation::RemoveNetwork { name, .. } => name.clone(),
            Operation::EnsureVolume { name, .. } | Operation::RemoveVolume { name, .. } | Operation::Create { name, .. } => name.clone(),
            Operation::Start(target) | Operation::Remove(target) | Operation::Pause(target) | Operation::Unpause(target) => target.name().to_owned(),
            Operation::Stop { target, .. } | Operation::Update { target, .. } => target.name().to_owned(),
            Operation::Rename { target, to } => format!("{} to {to}", target.name()),
            Operation::Connect { target, network, .. } | Operation::Disconnect { target, network } => format!("{} and {network}", target.name()),
            Operation::Begin(key, _) | Operation::Forget(key) => match key {
                TaskKey::Pull(reference) => reference.clone(),
                TaskKey::Helper => "dockmaster/helper".to_owned(),
                TaskKey::Hook(id, hook) => format!("{} {hook}", id.short()),
                TaskKey::IdleCheck(id) | TaskKey::IdleWarn(id) | TaskKey::Sample(id) | TaskKey::Tail(id) => id.short().to_owned(),
                TaskKey::Probe(id) | TaskKey::Disk(id) | TaskKey::Memory(id) => id.short().to_owned(),
            },
            Operation::Record(fact) => fact.name().to_owned(),
            Operation::ReleaseLeases => "ports and subnets".to_owned(),
            Operation::Release => "facts".to_owned(),
        }
    }

    /// The container that it acts on, if it acts on one that exists or is made by an earlier node.
    pub fn container(&self) -> Option<&Target> {
        match self {
            Operation::Start(target) | Operation::Remove(target) | Operation::Pause(target) | Operation::Unpause(target) => Some(target),
            Operation::Stop { target, .. }
            | Operation::Rename { target, .. }
            | Operation::Update { target, .. }
            | Operation::Connect { target, .. }
            | Operation::Disconnect { target, .. } => Some(target),
            Operation::EnsureNetwork { .. }
            | Operation::RemoveNetwork { .. }
            | Operation::EnsureVolume { .. }
            | Operation::RemoveVolume { .. }
            | Operation::Create { .. }
            | Operation::Begin(..)
            | Operation::Forget(_)
            | Operation::Record(_)
            | Operation::ReleaseLeases
            | Operation::Release => None,
        }
    }

    /// Whether it changes anything in Docker.
    pub fn is_mutating(&self) -> bool {
        match self {
            // A probe is the engine's own health test, run sooner.
            Operation::Begin(TaskKey::Sample(_) | TaskKey::Tail(_) | TaskKey::Disk(_) | TaskKey::Memory(_) | TaskKey::Probe(_), _)
            | Operation::Forget(_)
            | Operation::Record(_)
            | Operation::ReleaseLeases
            | Operation::Release => false,
            Operation::Begin(..)
            | Operation::EnsureNetwork { .. }
            | Operation::RemoveNetwork { .. }
            | Operation::EnsureVolume { .. }
            | Operation::RemoveVolume { .. }
            | Operation::Create { .. }
            | Operation::Start(_)
            | Operation::Stop { .. }
            | Operation::Remove(_)
            | Operation::Rename { .. }
            | Operation::Update { .. }
            | Operation::Connect { .. }
            | Operation::Disconnect { .. }
            | Operation::Pause(_)
            | Operation::Unpause(_) => true,
        }
    }
}

/// A line of `dockmaster plan`, of the journal and of `why`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanItem {
    /// The object.
    pub object: ObjectRef,
    /// What it means.
    pub action: Action,
    /// The operation's name.
    pub operation: String,
    /// What it acts on.
    pub target: String,
    /// Why.
    pub cause: Cause,
    /// Indices, within the object's items, of those that come before.
    pub depends_on: Vec<usize>,
}
