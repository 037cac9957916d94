//! The bug bank: defects of an operator, each seeded at one of its ports, that the harness must find.
//!
//! Between the controller and its adapters stands one that is wrong in one way: an operation is altered, skipped or believed, a fact is
//! forgotten, a source says too much. A harness that does not find one of them would not find the same defect in the product.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::Mutex;

use bollard::query_parameters::{RemoveContainerOptions, RemoveVolumeOptions};
use dockmaster::desired::{MountSource, naming};
use dockmaster::observed::{Container, ContainerId, Glimpse, Look, TaskKey, TaskState, World};
use dockmaster::planner::{Capabilities, Operation, Target};
use dockmaster::resource::ObjectRef;
use dockmaster::runtime::docker::DockerRuntime;
use dockmaster::runtime::{Change, ContainerRuntime, Error, Outcome, Refusal};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};

/// Declares the bank: each bug with what it does.
macro_rules! bank {
    ($($(#[doc = $what:literal])+ $bug:ident,)+) => {
        /// One seeded defect.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug { $($(#[doc = $what])+ $bug,)+ }
        /// All of them, with what each does.
        pub const BANK: &[(Bug, &str)] = &[$((Bug::$bug, concat!($($what),+)),)+];
    };
}

bank! {
    /// Containers are made without the label of their uid.
    ForgetUid,
    /// Containers are made with a uid that was never written down.
    UnknownUid,
    /// Containers are made without the label of the installation.
    ForgetInstallation,
    /// Containers are made without the label of the generation.
    ForgetGeneration,
    /// Containers are made without the label of their leases.
    ForgetLeases,
    /// Containers are labelled with a hash that no spec has.
    WrongHash,
    /// The old container is not stopped before the new one starts.
    SkipStop,
    /// The old container is not removed after a replacement.
    SkipRemove,
    /// A replacement keeps its temporary name.
    SkipRename,
    /// A container is not started.
    SkipStart,
    /// Limits are not changed in place.
    SkipUpdate,
    /// Networks that nobody needs stay.
    SkipNetworkRemoval,
    /// Volumes stay though their end was consented to.
    SkipVolumeRemoval,
    /// A source that was paused for a copy stays paused.
    SkipUnpause,
    /// Containers are not connected to further networks.
    SkipConnect,
    /// An unknown outcome is taken for success.
    TrustTimeouts,
    /// A refusal is taken for success.
    TrustRefusals,
    /// A container is removed by its name instead of its id.
    RemoveByName,
    /// A network is removed by its name instead of its id.
    RemoveNetworkByName,
    /// Networks are made without labels.
    ForgetNetworkLabels,
    /// Containers keep the capability to forge packets.
    KeepCapabilities,
    /// Every volume is that of one workspace.
    SameVolume,
    /// A container goes with the volumes that have its name.
    RemoveVolumesToo,
    /// Every volume that is not in use goes when a container is removed.
    PruneVolumes,
    /// A container of a stranger that has our name is removed.
    RemoveStrangers,
    /// A volume of a stranger that has our name is removed.
    RemoveStrangersVolumes,
    /// A container is put on the engine's default bridge.
    DefaultBridge,
    /// All namespaces share one network.
    OneNetwork,
    /// Ports are open to everyone.
    PublishEverywhere,
    /// Every port is the first of the range.
    SamePort,
    /// Containers answer to no name.
    ForgetAliases,
    /// Containers answer to one name for all.
    OneAlias,
    /// Mounts are left out.
    ForgetMounts,
    /// The environment is left out.
    ForgetEnvironment,
    /// Limits of memory are left out.
    ForgetMemory,
    /// The user's labels are left out.
    ForgetUserLabels,
    /// Only containers that run are seen.
    SeeOnlyRunning,
    /// A start that the engine gave up, because who asked for it died, is taken for one that it refused.
    BelieveGivenUp,
    /// At the start, the engine is said to be empty without a look at it.
    LookLater,
    /// An operator that lost the lock goes on.
    KeepActing,
    /// What was seen at the start is believed for ever.
    SeeOnlyOnce,
    /// The engine's changes are not heard, and nothing is looked at again.
    HearNothing,
    /// What was once seen of an object is what is seen of it later.
    LookOnlyOnce,
    /// Every life gives every object a new identity.
    AlwaysNew,
    /// The generation never rises.
    GenerationStays,
    /// Facts are not kept.
    ForgetFacts,
    /// Stops by policy are not kept.
    ForgetStops,
    /// Graves are not kept.
    ForgetGraves,
    /// Leases are not kept, and are another's too.
    ForgetGrants,
    /// A status write loses the comments of the file.
    LoseComments,
    /// A status is written again and again.
    WriteAlways,
    /// Every other status speaks of the first generation.
    TellFirstGeneration,
    /// Each status says of every condition that it has just come to be so.
    AlwaysSinceNow,
    /// A status names an image that the container does not have.
    TellOtherImage,
    /// Everything is said to be ready.
    AlwaysReady,
    /// What a source in trouble had is gone.
    TroubleIsDeletion,
    /// What a broken file had is gone.
    BrokenIsDeletion,
    /// A status is told only where it is another than the one that was told before.
    TellOtherStatusesOnly,
    /// Deletions are told one by one, so that there are never many.
    OneByOne,
    /// What is gone is never told.
    NeverGone,
    /// A failure is tried again at once, many times.
    RetryStorm,
    /// A conflict is a panic.
    PanicOnConflict,
}

impl std::str::FromStr for Bug {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        BANK.iter().find(|(bug, _)| format!("{bug:?}") == text).map(|(bug, _)| *bug).ok_or(format!("`{text}` is not in the bank"))
    }
}

/// The engine through the hands of a buggy operator.
pub struct BuggyRuntime {
    pub inner: DockerRuntime,
    pub bug: Bug,
    pub first: Mutex<Option<World>>,
    pub looks: Mutex<BTreeMap<ObjectRef, Glimpse>>,
}

impl BuggyRuntime {
    pub fn new(inner: DockerRuntime, bug: Bug) -> Self {
        Self { inner, bug, first: Mutex::default(), looks: Mutex::default() }
    }

    /// Whether the operation is left out.
    fn skips(&self, operation: &Operation) -> bool {
        matches!(
            (self.bug, operation),
            (Bug::SkipStop, Operation::Stop { .. })
                | (Bug::SkipRemove, Operation::Remove(_))
                | (Bug::SkipRename, Operation::Rename { .. })
                | (Bug::SkipStart, Operation::Start(_))
                | (Bug::SkipUpdate, Operation::Update { .. })
                | (Bug::SkipNetworkRemoval, Operation::RemoveNetwork { .. })
                | (Bug::SkipVolumeRemoval, Operation::RemoveVolume { .. })
                | (Bug::SkipUnpause, Operation::Unpause(_))
                | (Bug::SkipConnect, Operation::Connect { .. })
        )
    }

    /// The operation as the bug makes it.
    fn altered(&self, operation: &Operation) -> Operation {
        let mut operation = operation.clone();
        match &mut operation {
            Operation::Create { spec, .. } => match self.bug {
                Bug::ForgetUid => drop(spec.labels.remove(naming::UID)),
                Bug::UnknownUid => drop(spec.labels.insert(naming::UID.to_owned(), "0199f0a0-0000-7000-8000-000000000000".to_owned())),
                Bug::ForgetInstallation => drop(spec.labels.remove(naming::INSTALLATION)),
                Bug::ForgetGeneration => drop(spec.labels.remove(naming::GENERATION)),
                Bug::ForgetLeases => drop(spec.labels.remove(naming::PORTS)),
                Bug::WrongHash => drop(spec.labels.insert(naming::SPEC_HASH.to_owned(), "v1:00".to_owned())),
                Bug::DefaultBridge => spec.networks.clear(),
                Bug::OneNetwork => spec.networks.iter_mut().for_each(|network| network.network = one(&network.network)),
                Bug::PublishEverywhere => spec.ports.iter_mut().for_each(|port| port.ip = "0.0.0.0".to_owned()),
                Bug::SamePort => spec.ports.iter_mut().for_each(|port| port.host = 10_000),
                Bug::ForgetAliases => spec.networks.iter_mut().for_each(|network| network.aliases.clear()),
                Bug::OneAlias => spec.networks.iter_mut().for_each(|network| network.aliases = vec!["db".to_owned()]),
                Bug::ForgetMounts => spec.mounts.clear(),
                Bug::KeepCapabilities => spec.security.cap_drop.clear(),
                Bug::SameVolume => spec.mounts.iter_mut().for_each(|mount| match &mut mount.source {
                    MountSource::Volume(name) => "dm-vol-alice.a.data".clone_into(name),
                    MountSource::Host(_) | MountSource::Tmpfs { .. } => {}
                }),
                Bug::ForgetEnvironment => spec.env.clear(),
                Bug::ForgetMemory => spec.limits.memory = None,
                Bug::ForgetUserLabels => spec.labels.retain(|label, _| label.starts_with(naming::LABEL_PREFIX)),
                _ => {}
            },
            Operation::EnsureNetwork { name, .. } if self.bug == Bug::OneNetwork => *name = one(name),
            Operation::EnsureNetwork { labels, .. } if self.bug == Bug::ForgetNetworkLabels => labels.clear(),
            _ => {}
        }
        operation
    }

    async fn act(&self, operation: &Operation, target: Option<&ContainerId>) -> Result<Outcome, Error> {
        let docker = &self.inner.client().docker;
        if self.skips(operation) {
            return Ok(Outcome::Done);
        }
        let forced = || Some(RemoveContainerOptions { force: true, v: true, ..Default::default() });
        if let (Bug::RemoveByName, Operation::Remove(Target::Existing { name, .. })) = (self.bug, operation) {
            return match docker.remove_container(name, forced()).await {
                Ok(()) => Ok(Outcome::Done),
                Err(error) => Err(Error::Transient(error.to_string())),
            };
        }
        if let (Bug::RemoveNetworkByName, Operation::RemoveNetwork { name, .. }) = (self.bug, operation) {
            drop(docker.remove_network(name).await);
            return Ok(Outcome::Done);
        }
        if let (Bug::PruneVolumes, Operation::Remove(_)) = (self.bug, operation) {
            drop(docker.prune_volumes(None::<bollard::query_parameters::PruneVolumesOptions>).await);
        }
        let result = self.inner.execute(&self.altered(operation), target).await;
        match (self.bug, operation, &result) {
            (Bug::RemoveVolumesToo, Operation::Remove(Target::Existing { name, .. }), Ok(_)) => {
                let volumes = docker.list_volumes(None::<bollard::query_parameters::ListVolumesOptions>).await.ok().and_then(|list| list.volumes);
                let ours = name.trim_start_matches("dm-ws-").to_owned();
                for volume in volumes.unwrap_or_default().into_iter().filter(|volume| volume.name.starts_with(&format!("dm-vol-{ours}."))) {
                    drop(docker.remove_volume(&volume.name, None::<RemoveVolumeOptions>).await);
                }
            }
            (Bug::RemoveStrangers, Operation::Create { name, .. }, Err(Error::Rejected { reason: Refusal::NameConflict, .. })) => {
                drop(docker.remove_container(name, forced()).await);
            }
            (Bug::RemoveStrangersVolumes, Operation::EnsureVolume { name, .. }, Err(_)) => {
                drop(docker.remove_volume(name, None::<RemoveVolumeOptions>).await);
            }
            (Bug::TrustTimeouts, _, Err(Error::Unknown(_))) if !matches!(operation, Operation::Create { .. }) => return Ok(Outcome::Done),
            (Bug::TrustRefusals, _, Err(Error::Rejected { .. })) if !matches!(operation, Operation::Create { .. }) => return Ok(Outcome::Done),
            (Bug::PanicOnConflict, _, Err(Error::Rejected { reason: Refusal::NameConflict | Refusal::VolumeConflict, message })) => panic!("{message}"),
            (Bug::RetryStorm, _, Err(_)) => {
                for _ in 0..50 {
                    drop(self.inner.execute(operation, target).await);
                }
            }
            _ => {}
        }
        result
    }
}

/// The one network of [`Bug::OneNetwork`].
fn one(network: &str) -> String {
    if network.starts_with("dm-ns-") { "dm-ns-alice".to_owned() } else { network.to_owned() }
}

/// What [`Bug::SeeOnlyRunning`] sees.
fn running(world: &mut World) {
    let idle: Vec<ContainerId> = world.containers.values().filter(|container| !container.is_active()).map(|container| container.id.clone()).collect();
    idle.iter().for_each(|id| world.remove(id));
}

/// What [`Bug::BelieveGivenUp`] makes of a container.
fn believe(container: &mut Container) {
    if let Some(details) = container.details.as_mut().filter(|details| details.error.contains("context canceled")) {
        Arc::make_mut(details).error = "refused".to_owned();
    }
}

impl ContainerRuntime for BuggyRuntime {
    fn recall(&self, known: BTreeSet<String>) {
        self.inner.recall(known);
    }

    fn observe(&self) -> BoxFuture<'_, Result<World, Error>> {
        async {
            if self.bug == Bug::LookLater && self.first.lock().unwrap().replace(World::default()).is_none() {
                return Ok(World::default());
            }
            let mut world = self.inner.observe().await?;
            match self.bug {
                Bug::SeeOnlyRunning => running(&mut world),
                Bug::BelieveGivenUp => world.containers.values_mut().for_each(believe),
                Bug::SeeOnlyOnce => return Ok(self.first.lock().unwrap().get_or_insert(world).clone()),
                _ => {}
            }
            Ok(world)
        }
        .boxed()
    }

    fn glimpse<'a>(&'a self, object: &'a ObjectRef, look: Look) -> BoxFuture<'a, Result<Glimpse, Error>> {
        async move {
            let mut glimpse = self.inner.glimpse(object, look).await?;
            match self.bug {
                Bug::SeeOnlyRunning => glimpse.containers.retain(|container| container.is_active()),
                Bug::BelieveGivenUp => glimpse.containers.iter_mut().for_each(believe),
                Bug::LookOnlyOnce => return Ok(self.looks.lock().unwrap().entry(object.clone()).or_insert(glimpse).clone()),
                _ => {}
            }
            Ok(glimpse)
        }
        .boxed()
    }

    fn execute<'a>(&'a self, operation: &'a Operation, target: Option<&'a ContainerId>) -> BoxFuture<'a, Result<Outcome, Error>> {
        self.act(operation, target).boxed()
    }

    fn changes(&self) -> BoxStream<'static, Change> {
        let changes = self.inner.changes();
        // The first look at everything is still told, or nothing would ever begin.
        if self.bug == Bug::HearNothing { changes.filter(|change| futures::future::ready(matches!(change, Change::Task(_)))).boxed() } else { changes }
    }

    fn tasks(&self) -> BTreeMap<TaskKey, TaskState> {
        self.inner.tasks()
    }

    fn capabilities(&self) -> BoxFuture<'_, Result<Capabilities, Error>> {
        self.inner.capabilities()
    }
}

/// The engine as this operator has it.
pub fn runtime(inner: DockerRuntime, bug: Option<Bug>) -> Arc<dyn ContainerRuntime> {
    match bug {
        Some(bug) => Arc::new(BuggyRuntime::new(inner, bug)),
        None => Arc::new(inner),
    }
}
