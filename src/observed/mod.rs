//! What is: containers, networks, volumes, images and tasks, as plain data.

pub mod table;

use std::collections::{BTreeMap, BTreeSet};

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::desired::Role;
use crate::resource::workspace::Protocol;
use crate::resource::{ObjectRef, Uid};
use table::{By, Indexed, Table};

/// Docker's id of a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContainerId(pub String);

impl ContainerId {
    /// The first twelve characters, as Docker shows them.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

/// Whose a container, network or volume is, read from its labels and confirmed by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The object.
    pub object: ObjectRef,
    /// Which life of it.
    pub uid: Uid,
    /// What it is for.
    pub role: Role,
    /// The service's name.
    pub service: Option<String>,
    /// The place that its name says.
    pub slot: Slot,
    /// `dockmaster.spec-hash`; empty for networks and volumes.
    pub hash: String,
    /// `dockmaster.generation` at its creation.
    pub generation: u64,
    /// `dockmaster.created`: when the object was admitted.
    pub created: Timestamp,
}

/// The place that a container's name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Slot {
    /// The final name.
    Current,
    /// `..._next`: a replacement that is not finished.
    Next,
    /// `..._copy`: the live pass of a volume copy.
    Copy,
    /// `..._delta`: the last pass of a volume copy, while the source is still.
    Delta,
}

/// One container.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// Docker's id.
    pub id: ContainerId,
    /// Docker's name, without the slash.
    pub name: String,
    /// Whose it is; `None`: not ours.
    pub owner: Option<Identity>,
    /// What it does.
    pub state: State,
    /// The image as it was asked for.
    pub image: String,
    /// The id of that image.
    pub image_id: String,
    /// Network name to network id, as the container holds it.
    pub networks: BTreeMap<String, String>,
    /// All labels.
    pub labels: BTreeMap<String, String>,
    /// Published ports: address, host port, container port, protocol. Only while it runs.
    pub ports: Vec<(String, u16, u16, Protocol)>,
    /// When it was made.
    pub created: Timestamp,
    /// What only an inspect says; read once per (id, last event), never per resync.
    pub details: Option<Arc<Details>>,
}

impl Container {
    /// Running, paused or restarting: it holds its ports and addresses.
    pub fn is_active(&self) -> bool {
        match self.state {
            State::Running(_) | State::Paused | State::Restarting => true,
            State::Created | State::Exited { .. } | State::Removing | State::Dead => false,
        }
    }

    /// Whether no start of it can succeed any more: an engine up to 22 that was killed in the middle of one left its shim, which it knows nothing of
    /// and does not take for its own, however often it is started again. The shim has no process: a container that has one is found by its engine.
    pub fn is_stranded(&self) -> bool {
        let error = self.details.as_ref().map_or("", |details| details.error.as_str());
        !self.is_active() && error.strip_prefix("task ").and_then(|rest| rest.strip_prefix(self.id.0.as_str())) == Some(": already exists")
    }

    /// Why the engine refused its last start. One that it gave up because nobody waited for it any more, as Docker 28 does when the operator
    /// dies in the middle of it, says nothing of the container, and is tried again.
    pub fn refused_start(&self) -> Option<&str> {
        let error = self.details.as_ref().map_or("", |details| details.error.as_str());
        (!error.is_empty() && !error.contains("context canceled")).then_some(error)
    }

    /// The slot, for one of ours.
    pub fn slot(&self) -> Option<Slot> {
        self.owner.as_ref().map(|owner| owner.slot)
    }
}

/// What a container does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Made and not started.
    Created,
    /// Running.
    Running(HealthState),
    /// Paused.
    Paused,
    /// Between two runs, by Docker's restart policy.
    Restarting,
    /// Ended.
    Exited {
        /// Its exit code.
        code: i64,
    },
    /// Going.
    Removing,
    /// Docker failed to remove it.
    Dead,
}

/// What Docker says of the health of a running container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HealthState {
    /// It has no check.
    None,
    /// Not known yet.
    Starting,
    /// Healthy.
    Healthy,
    /// Unhealthy.
    Unhealthy,
}

impl State {
    /// Docker's word.
    pub fn as_str(&self) -> &'static str {
        match self {
            State::Created => "created",
            State::Running(_) => "running",
            State::Paused => "paused",
            State::Restarting => "restarting",
            State::Exited { .. } => "exited",
            State::Removing => "removing",
            State::Dead => "dead",
        }
    }
}

/// What only an inspect says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Details {
    /// When it was last started; `None`: never.
    pub started: Option<Timestamp>,
    /// When it last ended.
    pub finished: Option<Timestamp>,
    /// The exit code of the last run.
    pub exit_code: i64,
    /// Whether the kernel killed it for want of memory.
    pub oom_killed: bool,
    /// Docker's error of the last start.
    pub error: String,
    /// How often Docker restarted it.
    pub restarts: u64,
    /// Process id on the host, 0 when it does not run.
    pub pid: i64,
    /// Memory limit in bytes, 0 for none.
    pub memory: u64,
    /// Memory and swap together.
    pub memory_swap: i64,
    /// CPUs in billionths, 0 for none.
    pub nano_cpus: i64,
    /// Limit of processes; 0 or -1 for none.
    pub pids: i64,
    /// Docker's word for the restart policy.
    pub restart: String,
    /// Network name to aliases.
    pub aliases: BTreeMap<String, Vec<String>>,
    /// Environment as `NAME=value`.
    pub env: Vec<String>,
    /// Command.
    pub command: Vec<String>,
    /// Names of anonymous volumes and the paths at which an image declared them.
    pub anonymous_volumes: BTreeMap<String, String>,
    /// Names of all volumes mounted.
    pub volumes: BTreeSet<String>,
}

/// One network of a bridge kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Docker's id; names need not be unique.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whose it is; for a namespace's network the object is the Namespace.
    pub owner: Option<NetworkOwner>,
    /// Its subnets in CIDR notation.
    pub subnets: Vec<String>,
    /// Its driver.
    pub driver: String,
}

impl Indexed for Network {
    fn index(&self) -> Vec<By> {
        let owner = self.owner.as_ref().map(|owner| By::Owner(owner.object.clone()));
        owner.into_iter().chain([By::Name(self.name.clone())]).collect()
    }
}

/// Whose a network is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkOwner {
    /// The workspace, the preview or the namespace.
    pub object: ObjectRef,
    /// The uid; a namespace has none.
    pub uid: Option<Uid>,
}

/// One volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Whose it is; `None`: not ours.
    pub owner: Option<VolumeOwner>,
    /// Its driver.
    pub driver: String,
    /// Its options; ours have none.
    pub options: BTreeMap<String, String>,
}

impl Indexed for Volume {
    fn index(&self) -> Vec<By> {
        self.owner.iter().map(|owner| By::Owner(owner.object.clone())).collect()
    }
}

/// Whose a volume is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeOwner {
    /// The workspace or preview, or the namespace of a shared one.
    pub object: ObjectRef,
    /// The uid; a namespace has none.
    pub uid: Option<Uid>,
    /// The name in the spec.
    pub volume: String,
    /// `dockmaster.expired`: this empty volume keeps the tombstone of an expired preview.
    pub expired_marker: bool,
}

/// Work that outlives a reconcile is a fact of the world, like a container. A crash loses it, and it is begun again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TaskKey {
    /// A pull of this reference.
    Pull(String),
    /// The making of the helper image.
    Helper,
    /// A hook in a container, by its field name.
    Hook(ContainerId, String),
    /// The idle check in a container.
    IdleCheck(ContainerId),
    /// The idle warning in a container.
    IdleWarn(ContainerId),
    /// An activity sample of a container.
    Sample(ContainerId),
    /// The last lines of a container's log.
    Tail(ContainerId),
    /// A health test that the operator runs itself in the start period.
    Probe(ContainerId),
    /// A measurement of the disk that an object uses, by its main container.
    Disk(ContainerId),
    /// A measurement of the memory that a container uses.
    Memory(ContainerId),
}

/// How a task is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// Under way.
    Running {
        /// Since when.
        since: Timestamp,
        /// For people: `pulling 34 %`.
        progress: String,
        /// Why the attempt before it failed.
        failed: Option<String>,
    },
    /// Finished.
    Done {
        /// When.
        at: Timestamp,
        /// What it found.
        result: TaskResult,
    },
    /// Failed.
    Failed {
        /// When.
        at: Timestamp,
        /// How often in a row.
        attempts: u32,
        /// Why.
        error: String,
    },
}

/// What a task found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskResult {
    /// Nothing to report.
    Done,
    /// A command ended with this code and these last lines.
    Exit {
        /// Exit code.
        code: i64,
        /// The end of its output.
        output: String,
    },
    /// An activity sample.
    Sample {
        /// Bytes sent since the container started.
        sent: u64,
        /// Commands of open exec sessions that are not ours: `(id, command)`.
        execs: Vec<(String, Vec<String>)>,
    },
    /// Log lines.
    Tail(String),
    /// Bytes of disk.
    Disk(u64),
    /// Bytes of memory.
    Memory(u64),
}

/// Everything seen of one engine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    /// The engine's id; empty: nothing was listed yet.
    pub engine: String,
    /// When it was last listed in full.
    pub listed: Option<Timestamp>,
    /// All containers of this engine, others' too (their names and ports matter).
    pub containers: BTreeMap<ContainerId, Container>,
    /// Container names to ids.
    pub names: BTreeMap<String, ContainerId>,
    /// Our containers by object.
    pub of: BTreeMap<ObjectRef, BTreeSet<ContainerId>>,
    /// All networks by id.
    pub networks: Table<Network>,
    /// All volumes by name.
    pub volumes: Table<Volume>,
    /// Image references to ids; the id itself is a key too.
    pub images: BTreeMap<String, String>,
    /// When the listing of these images began.
    pub images_listed: Option<Timestamp>,
    /// The id of the helper image, when it exists.
    pub helper: Option<String>,
    /// Long work.
    pub tasks: BTreeMap<TaskKey, TaskState>,
}

impl World {
    /// The containers of one object, by id.
    pub fn of(&self, object: &ObjectRef) -> impl Iterator<Item = &Container> {
        self.of.get(object).into_iter().flatten().filter_map(|id| self.containers.get(id))
    }

    /// Adds or exchanges one container and keeps the index right.
    pub fn insert(&mut self, container: Container) {
        self.remove(&container.id);
        if let Some(owner) = &container.owner {
            self.of.entry(owner.object.clone()).or_default().insert(container.id.clone());
        }
        self.names.insert(container.name.clone(), container.id.clone());
        self.containers.insert(container.id.clone(), container);
    }

    /// Forgets one container.
    pub fn remove(&mut self, id: &ContainerId) {
        let Some(gone) = self.containers.remove(id) else { return };
        if self.names.get(&gone.name) == Some(id) {
            self.names.remove(&gone.name);
        }
        if let Some(owner) = gone.owner
            && let Some(ids) = self.of.get_mut(&owner.object)
        {
            ids.remove(id);
            if ids.is_empty() {
                self.of.remove(&owner.object);
            }
        }
    }

    /// The container of that name.
    pub fn container_named(&self, name: &str) -> Option<&Container> {
        self.names.get(name).and_then(|id| self.containers.get(id))
    }

    /// The id of an image, by reference (`:latest` implied, and beside a digest the tag says nothing) or id.
    pub fn image(&self, reference: &str) -> Option<&String> {
        if let Some((tagged, digest)) = reference.split_once('@') {
            let name = match tagged.rsplit_once(':') {
                Some((name, tag)) if !tag.contains('/') => name,
                Some(_) | None => tagged,
            };
            return self.images.get(&format!("{name}@{digest}"));
        }
        self.images.get(reference).or_else(|| self.images.get(&format!("{reference}:latest")))
    }
}

/// How far a look at one object goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Look {
    /// The object's containers and volumes, and the networks that are its.
    Object,
    /// All networks and images of the engine as well. One with many takes long to list them, and what happens to containers does not change them.
    Engine,
}

/// The images of an engine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Images {
    /// References to ids; the id itself is a key too.
    pub ids: BTreeMap<String, String>,
    /// When the listing of them began.
    pub listed: Option<Timestamp>,
    /// The id of the helper image, when it exists.
    pub helper: Option<String>,
}

/// What was seen of one object, to be merged into a [`World`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Glimpse {
    /// The object's containers, all of them; those missing are gone.
    pub containers: Vec<Container>,
    /// The networks that were asked for; those missing are gone.
    pub networks: Networks,
    /// The object's volumes, all of them; those missing are gone.
    pub volumes: Vec<Volume>,
    /// All images of the engine; `None`: they were not asked for.
    pub images: Option<Images>,
}

/// Networks that were seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Networks {
    /// Those of these names were asked for; `None`: all of the engine.
    pub named: Option<BTreeSet<String>>,
    /// What there is, by id.
    pub seen: BTreeMap<String, Network>,
}

impl World {
    /// Keeps of one object the containers and volumes that another world knows.
    pub fn keep(&mut self, object: &ObjectRef, known: &World) {
        let glimpse = Glimpse {
            containers: known.of(object).cloned().collect(),
            networks: Networks { named: Some(BTreeSet::new()), seen: BTreeMap::new() },
            volumes: known.volumes.of(object).cloned().collect(),
            images: None,
        };
        self.merge(object, glimpse);
    }

    /// Whether everything was seen in the other as it was in this one; tasks and the times of listings are nothing that was seen.
    pub fn shows_the_same(&self, other: &Self) -> bool {
        self.engine == other.engine
            && self.containers == other.containers
            && self.networks == other.networks
            && self.volumes == other.volumes
            && self.images == other.images
            && self.helper == other.helper
    }

    /// Puts what was just seen of one object in the place of what was known of it; whether that was another.
    pub fn merge(&mut self, object: &ObjectRef, glimpse: Glimpse) -> bool {
        let Networks { named, seen } = glimpse.networks;
        let known: Vec<ContainerId> = self.of.get(object).into_iter().flatten().cloned().collect();
        let volumes: Vec<String> = self.volumes.of(object).map(|volume| volume.name.clone()).collect();
        let networks: Vec<String> = match &named {
            Some(names) => names.iter().flat_map(|name| self.networks.named(name)).map(|network| network.id.clone()).collect(),
            None => self.networks.keys().cloned().collect(),
        };
        let same = known.len() == glimpse.containers.len()
            && glimpse.containers.iter().all(|container| self.containers.get(&container.id) == Some(container))
            && volumes.len() == glimpse.volumes.len()
            && glimpse.volumes.iter().all(|volume| self.volumes.get(&volume.name) == Some(volume))
            && networks.len() == seen.len()
            && seen.iter().all(|(id, network)| self.networks.get(id) == Some(network))
            && glimpse.images.as_ref().is_none_or(|images| self.images == images.ids && self.helper == images.helper);
        for id in known {
            self.remove(&id);
        }
        for container in glimpse.containers {
            self.insert(container);
        }
        for id in networks {
            self.networks.remove(&id);
        }
        self.networks.extend(seen);
        for name in volumes {
            self.volumes.remove(&name);
        }
        self.volumes.extend(glimpse.volumes.into_iter().map(|volume| (volume.name.clone(), volume)));
        if let Some(images) = glimpse.images {
            self.images = images.ids;
            self.images_listed = images.listed;
            self.helper = images.helper;
        }
        !same
    }

    /// Takes in how tasks stand. What was fetched since the images were listed is not among them yet: its task counts as under way until they are
    /// listed again, which its end leads to. An end that the clock has yet to reach was recorded before it was set back, and counts.
    pub fn take_tasks(&mut self, tasks: BTreeMap<TaskKey, TaskState>, now: Timestamp) {
        self.tasks = tasks;
        let Some(listed) = self.images_listed else { return };
        for (key, state) in &mut self.tasks {
            if let (TaskKey::Pull(_) | TaskKey::Helper, TaskState::Done { at, .. }) = (key, &*state)
                && *at > listed
                && *at <= now
            {
                *state = TaskState::Running { since: *at, progress: String::new(), failed: None };
            }
        }
    }
}
