//! The port to a container engine: observe, execute, changes. Adapters live below; `docker/` is the only place that knows bollard.

pub mod console;
pub mod docker;
pub mod simulated;
pub mod tasks;

use std::collections::{BTreeMap, BTreeSet};

use futures::future::BoxFuture;
use futures::stream::BoxStream;

use crate::observed::{ContainerId, Glimpse, Look, TaskKey, World};
use crate::planner::{Capabilities, Operation};
use crate::resource::ObjectRef;

/// Where instants come from, so that a run can be replayed at any time.
pub type Now = std::sync::Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;

/// Something changed in the engine; only ever a reason to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Something of this object.
    Object(ObjectRef),
    /// A task made progress or ended.
    Task(TaskKey),
    /// Anything may have changed: the stream was lost, or its reader was too slow.
    Resync,
    /// The engine does not answer.
    Lost(String),
}

/// What an operation gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done, now or before.
    Done,
    /// A container was made, or one with this uid, name and hash existed.
    Made(ContainerId),
    /// Long work was begun, or was under way.
    Began,
}

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Trying again later may help: the engine is busy, full, or away.
    #[error("{0}")]
    Transient(String),
    /// The engine understood and refused.
    #[error("{message}")]
    Rejected {
        /// Which refusal, from a closed set.
        reason: Refusal,
        /// The engine's words.
        message: String,
    },
    /// The call timed out or broke: it may have been applied. Look again, never assume.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
}

/// The refusals that somebody acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A container of that name exists and is not the object's.
    NameConflict,
    /// A volume of that name exists and is not the object's.
    VolumeConflict,
    /// A host port is taken.
    PortTaken,
    /// The subnet overlaps another.
    SubnetTaken,
    /// The network has no free address.
    NetworkFull,
    /// The image is not there.
    NoImage,
    /// The network is not there.
    NoNetwork,
    /// The object behind the id is not ours any more.
    NotOurs,
    /// The disk is full.
    DiskFull,
    /// The container is gone, or is being removed.
    Going,
    /// Anything else.
    Other,
}

/// A container engine.
///
/// `execute` is idempotent: done already is `Ok`. It looks before it acts on something that exists: id and uid must match.
pub trait ContainerRuntime: Send + Sync {
    /// Tells of containers that were ours before this process began, by their short ids: whatever name they have by now, they are ours.
    fn recall(&self, known: BTreeSet<String>);
    /// Lists everything: one call per kind of Docker object, and an inspect only where the cached one is out of date.
    fn observe(&self) -> BoxFuture<'_, Result<World, Error>>;
    /// Looks at one object, that far.
    fn glimpse<'a>(&'a self, object: &'a ObjectRef, look: Look) -> BoxFuture<'a, Result<Glimpse, Error>>;
    /// Does one operation. `target` is the container that `Target::Made` names.
    fn execute<'a>(&'a self, operation: &'a Operation, target: Option<&'a ContainerId>) -> BoxFuture<'a, Result<Outcome, Error>>;
    /// What changes, as it changes. Its reader never blocks; each connection is told as `Resync`, and so is overflow.
    fn changes(&self) -> BoxStream<'static, Change>;
    /// The state of long work, for the world.
    fn tasks(&self) -> BTreeMap<TaskKey, crate::observed::TaskState>;
    /// What is remembered of the engine and still holds, for the adapter of another process, which would ask for it again; `None` where nothing does.
    fn known(&self) -> Option<Vec<u8>> {
        None
    }
    /// What the engine can do; asked again after a reconnect.
    fn capabilities(&self) -> BoxFuture<'_, Result<Capabilities, Error>>;
}
