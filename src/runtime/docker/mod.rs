//! The Docker adapter: the only place that knows bollard.

pub mod canary;
pub mod changes;
pub mod command;
pub mod connect;
mod connections;
pub mod convert;
pub mod create;
pub mod error;
pub mod execute;
pub mod facts;
pub mod helper_image;
mod known;
pub mod lock;
pub mod memory;
pub mod observe;
pub mod registry;
pub mod rights;
pub mod session;
pub mod usage;
pub mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::task::AbortOnDropHandle;

use super::tasks::Tasks;
use super::{Change, ContainerRuntime, Error, Now, Outcome};
use crate::observed::{ContainerId, Glimpse, Look, TaskKey, TaskState, World};
use crate::planner::{Capabilities, Operation};
use crate::resource::ObjectRef;
use connect::Client;
use helper_image::HelperImage;
use memory::Memory;
use work::DockerWork;

/// Changes that a slow reader may be behind; more is a [`Change::Resync`].
const BUFFER: usize = 1024;

/// An engine, as the operator of one installation uses it. Cheap to clone.
#[derive(Clone)]
pub struct DockerRuntime {
    client: Client,
    installation: String,
    helper: HelperImage,
    now: Now,
    memory: Arc<Mutex<Memory>>,
    tasks: Tasks,
    changes: broadcast::Sender<Change>,
    /// Held while a network is made.
    networking: Arc<tokio::sync::Mutex<()>>,
    /// The reader of the engine's events, from the first subscription on.
    reader: Arc<Mutex<Option<AbortOnDropHandle<()>>>>,
}

impl DockerRuntime {
    /// The engine behind a connection, for one installation that comes by its helper image that way.
    pub fn new(client: Client, installation: &str, helper: HelperImage) -> Self {
        Self::at(client, installation, helper, Arc::new(jiff::Timestamp::now))
    }

    /// The same with a clock of its own.
    pub fn at(client: Client, installation: &str, helper: HelperImage, now: Now) -> Self {
        let (changes, _) = broadcast::channel(BUFFER);
        let work = Arc::new(DockerWork { client: client.clone(), helper: helper.clone(), now: now.clone() });
        let told = changes.clone();
        // Nobody listening is no failure.
        let notify = Arc::new(move |key: TaskKey| drop(told.send(Change::Task(key))));
        Self {
            memory: Arc::new(Mutex::new(Memory::new(client.info.clone()))),
            client,
            installation: installation.to_owned(),
            helper,
            now,
            networking: Arc::default(),
            tasks: Tasks::new(work, notify),
            changes,
            reader: Arc::default(),
        }
    }

    /// The connection.
    pub fn client(&self) -> &Client {
        &self.client
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        lock(&self.memory)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ContainerRuntime for DockerRuntime {
    fn recall(&self, known: BTreeSet<String>) {
        lock(&self.memory).known = known;
    }

    fn observe(&self) -> BoxFuture<'_, Result<World, Error>> {
        Box::pin(self.list())
    }

    fn glimpse<'a>(&'a self, object: &'a ObjectRef, look: Look) -> BoxFuture<'a, Result<Glimpse, Error>> {
        Box::pin(self.look_at(object, look))
    }

    fn execute<'a>(&'a self, operation: &'a Operation, target: Option<&'a ContainerId>) -> BoxFuture<'a, Result<Outcome, Error>> {
        Box::pin(self.apply(operation, target))
    }

    fn changes(&self) -> BoxStream<'static, Change> {
        let stream = BroadcastStream::new(self.changes.subscribe());
        lock(&self.reader).get_or_insert_with(|| AbortOnDropHandle::new(tokio::spawn(changes::read(self.reader()))));
        // Lagging means that changes were dropped; which ones does not matter.
        stream.map(|change| change.unwrap_or(Change::Resync)).boxed()
    }

    fn tasks(&self) -> BTreeMap<TaskKey, TaskState> {
        self.tasks.states()
    }

    fn known(&self) -> Option<Vec<u8>> {
        self.tell()
    }

    fn capabilities(&self) -> BoxFuture<'_, Result<Capabilities, Error>> {
        Box::pin(async { Ok(self.client.capabilities(&*self.info().await?)) })
    }
}
