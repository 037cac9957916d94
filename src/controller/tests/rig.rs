//! A whole controller in virtual time: a small engine, a source that says what a test tells it, a ledger in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::{RunSettings, StatusMode};
use crate::controller::{Clock, Controller, Host, Parts, Permission, Randomness};
use crate::desired::naming;
use crate::observed::{Container, ContainerId, Glimpse, Images, Look, Networks, TaskKey, TaskState, World};
use crate::planner::model::{INSTALLATION, Model};
use crate::planner::{Capabilities, Operation, Target};
use crate::resource::quantity;
use crate::resource::{Condition, ConditionType, Kind, ObjectRef, Origin, Status, Truth};
use crate::runtime::{Change, ContainerRuntime, Error, Outcome, Refusal};
use crate::source::select::FileContext;
use crate::source::{Edit, Item, SourceError, SourceEvent, SpecSource, parse};
use crate::state::memory::MemoryLedger;
use crate::state::{Grant, LedgerError};
use crate::status::reporter::Reporter;
use crate::status::{SinkError, StatusSink};

/// The source of all rigs.
pub const SOURCE: &str = "specs";

/// Virtual time as wall time.
pub struct VirtualClock(Instant);

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let begin: Timestamp = "2026-03-02T10:00:00Z".parse().unwrap();
        begin + SignedDuration::try_from(self.0.elapsed()).unwrap()
    }
}

/// Bytes that are never the same and need no luck.
#[derive(Default)]
struct Counted(AtomicUsize);

impl Randomness for Counted {
    fn fill(&self, bytes: &mut [u8]) {
        let count = self.0.fetch_add(1, Ordering::SeqCst).to_be_bytes();
        bytes.iter_mut().rev().zip(count.iter().rev()).for_each(|(byte, of)| *byte = *of);
    }
}

struct FreeHost;

impl Host for FreeHost {
    fn is_port_free(&self, _: IpAddr, _: u16) -> bool {
        true
    }
    fn routes(&self) -> Vec<String> {
        Vec::new()
    }
    fn real_path(&self, path: &str) -> String {
        path.to_owned()
    }
}

/// An engine over the planner's model: applies operations, tells changes, and fails as told.
pub struct FakeEngine {
    clock: Arc<VirtualClock>,
    model: Mutex<Model>,
    changes: broadcast::Sender<Change>,
    /// What was asked, in its order: `list`, `look OBJECT`, `OPERATION TARGET`.
    pub calls: Mutex<Vec<String>>,
    /// It does not answer.
    pub away: AtomicBool,
    /// How long it takes for a full list.
    pub lists_in: Mutex<Duration>,
    /// Ports that another program has.
    pub taken: Mutex<BTreeSet<u16>>,
    /// The next container to be started is being removed by somebody.
    pub going: AtomicBool,
    /// It says that operations are done, and does nothing.
    pub idle: AtomicBool,
    /// An operation on a container whose name holds this breaks.
    pub breaks: Mutex<Option<&'static str>>,
    /// The same, and is never answered.
    pub hangs: Mutex<Option<&'static str>>,
}

impl FakeEngine {
    pub fn model(&self) -> MutexGuard<'_, Model> {
        let mut model = self.model.lock().unwrap();
        model.now = self.clock.now();
        model
    }

    pub fn tell(&self, change: Change) {
        drop(self.changes.send(change));
    }

    /// Changes a container as somebody else would, with its event.
    pub fn meddle(&self, object: &ObjectRef, change: impl FnOnce(&mut Container)) {
        self.model().meddle(&naming::container_name(INSTALLATION, object, None), change);
        self.tell(Change::Object(object.clone()));
    }

    /// Ends the pulls under way, and tells. Other tasks end at once.
    pub fn finish_tasks(&self) {
        self.model().finish_tasks();
        let keys: Vec<TaskKey> = self.model().world.tasks.keys().cloned().collect();
        keys.into_iter().for_each(|key| self.tell(Change::Task(key)));
    }

    pub fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    fn ask(&self, what: String) -> Result<(), Error> {
        self.calls.lock().unwrap().push(what);
        if self.away.load(Ordering::SeqCst) { Err(Error::Transient("connection refused".to_owned())) } else { Ok(()) }
    }

    fn apply(&self, operation: &Operation, made: Option<&ContainerId>) -> Result<Outcome, Error> {
        let text = format!("{} {}", operation.name(), operation.target());
        self.ask(text.clone())?;
        assert!(!self.breaks.lock().unwrap().is_some_and(|word| text.contains(word)), "as asked");
        if self.idle.load(Ordering::SeqCst) {
            return Ok(Outcome::Done);
        }
        let id = operation.container().and_then(|target| match target {
            Target::Existing { id, .. } => Some(id.clone()),
            Target::Made { .. } => made.cloned(),
        });
        let mut model = self.model();
        if let (Operation::Start(_), Some(id)) = (operation, &id) {
            if self.going.swap(false, Ordering::SeqCst) {
                model.world.remove(id);
                return Err(Error::Rejected { reason: Refusal::Going, message: "container is marked for removal and cannot be started".to_owned() });
            }
            let taken = self.taken.lock().unwrap();
            let ports = naming::grants_from_labels(&model.world.containers[id].labels);
            let refused = ports.iter().find_map(|grant| match grant {
                Grant::Port { host, .. } if taken.contains(host) => Some(*host),
                Grant::Port { .. } | Grant::Subnet { .. } | Grant::Refused { .. } => None,
            });
            if let Some(port) = refused {
                let message = format!("Bind for 127.0.0.1:{port} failed: port is already allocated");
                return Err(Error::Rejected { reason: Refusal::PortTaken, message });
            }
        }
        let owner = |world: &World, id: &ContainerId| world.containers.get(id).and_then(|c| c.owner.as_ref()).map(|owner| owner.object.clone());
        let before = id.as_ref().and_then(|id| owner(&model.world, id));
        let made = model.one(operation, id);
        let touched = made.as_ref().and_then(|id| owner(&model.world, id)).or(before);
        if let Operation::Begin(key, _) = operation
            && model.finish_tasks_where(|of| of == key && !matches!(of, TaskKey::Pull(_)))
        {
            self.tell(Change::Task(key.clone()));
        }
        drop(model);
        if let Some(object) = touched {
            self.tell(Change::Object(object));
        }
        Ok(made.map_or(Outcome::Done, Outcome::Made))
    }
}

impl ContainerRuntime for FakeEngine {
    fn recall(&self, _: BTreeSet<String>) {}

    fn observe(&self) -> BoxFuture<'_, Result<World, Error>> {
        let world = self.ask("list".to_owned()).map(|()| self.model().world.clone());
        let takes = *self.lists_in.lock().unwrap();
        Box::pin(async move {
            tokio::time::sleep(takes).await;
            world
        })
    }

    fn glimpse<'a>(&'a self, object: &'a ObjectRef, look: Look) -> BoxFuture<'a, Result<Glimpse, Error>> {
        let seen = self.ask(format!("look {object}")).map(|()| {
            let world = &self.model().world;
            let named = (look == Look::Object).then(|| naming::networks_of(INSTALLATION, object));
            let is_asked = |name: &str| named.as_ref().is_none_or(|names| names.contains(name));
            let mine = |volume: &&crate::observed::Volume| volume.owner.as_ref().is_some_and(|owner| owner.object == *object);
            Glimpse {
                containers: world.of(object).cloned().collect(),
                networks: Networks { seen: world.networks.clone().into_iter().filter(|(_, network)| is_asked(&network.name)).collect(), named: named.clone() },
                volumes: world.volumes.values().filter(mine).cloned().collect(),
                images: (look == Look::Engine).then(|| Images { ids: world.images.clone(), listed: world.images_listed, helper: world.helper.clone() }),
            }
        });
        Box::pin(async move { seen })
    }

    fn execute<'a>(&'a self, operation: &'a Operation, target: Option<&'a ContainerId>) -> BoxFuture<'a, Result<Outcome, Error>> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if self.hangs.lock().unwrap().is_some_and(|word| operation.target().contains(word)) {
                std::future::pending::<()>().await;
            }
            let outcome = self.apply(operation, target);
            // What an engine tells of a change comes before its reply.
            tokio::time::sleep(Duration::from_millis(1)).await;
            outcome
        })
    }

    fn changes(&self) -> BoxStream<'static, Change> {
        let next = |mut receiver: broadcast::Receiver<Change>| async move {
            match receiver.recv().await {
                Ok(change) => Some((change, receiver)),
                Err(broadcast::error::RecvError::Lagged(_)) => Some((Change::Resync, receiver)),
                Err(broadcast::error::RecvError::Closed) => None,
            }
        };
        stream::once(async { Change::Resync }).chain(stream::unfold(self.changes.subscribe(), next)).boxed()
    }

    fn tasks(&self) -> BTreeMap<TaskKey, TaskState> {
        self.model().world.tasks.clone()
    }

    fn capabilities(&self) -> BoxFuture<'_, Result<Capabilities, Error>> {
        let capabilities = self.model().capabilities.clone();
        Box::pin(async move { Ok(capabilities) })
    }
}

/// A source that says what it is told.
pub struct FakeSource {
    said: broadcast::Sender<SourceEvent>,
    first: Mutex<Option<(Vec<SourceEvent>, broadcast::Receiver<SourceEvent>)>>,
    holds: Mutex<BTreeSet<(ObjectRef, Origin)>>,
}

impl FakeSource {
    pub fn say(&self, event: SourceEvent) {
        let mut holds = self.holds.lock().unwrap();
        match &event {
            SourceEvent::Apply(item) => {
                holds.insert((item.resource.reference(), item.origin.clone()));
            }
            SourceEvent::Gone(gone) => holds.retain(|one| !gone.contains(one)),
            SourceEvent::Init
            | SourceEvent::InitApply(_)
            | SourceEvent::InitDone
            | SourceEvent::Invalid { .. }
            | SourceEvent::Unhealthy(_)
            | SourceEvent::Reported { .. }
            | SourceEvent::Healthy => {}
        }
        drop(holds);
        drop(self.said.send(event));
    }

    /// Says that these documents are gone, all at once.
    pub fn lose(&self, objects: &[ObjectRef]) {
        let gone = self.holds.lock().unwrap().iter().filter(|(object, _)| objects.contains(object)).cloned().collect();
        self.say(SourceEvent::Gone(gone));
    }
}

impl SpecSource for FakeSource {
    fn name(&self) -> &str {
        SOURCE
    }
    fn events(&self) -> BoxStream<'static, SourceEvent> {
        let (first, receiver) = self.first.lock().unwrap().take().unwrap();
        let next = |mut receiver: broadcast::Receiver<SourceEvent>| async move { receiver.recv().await.ok().map(|event| (event, receiver)) };
        stream::iter(first).chain(stream::unfold(receiver, next)).boxed()
    }
    fn rescan(&self) {}
    fn identity(&self) -> Option<String> {
        Some("1:2".to_owned())
    }
    fn holds(&self, object: &ObjectRef, origin: &Origin) -> bool {
        self.holds.lock().unwrap().contains(&(object.clone(), origin.clone()))
    }
    fn edit<'a>(&'a self, _: &'a ObjectRef, _: Option<&'a Origin>, _: Edit) -> BoxFuture<'a, Result<Origin, SourceError>> {
        Box::pin(async { Err(SourceError::Refused("not here".to_owned())) })
    }
}

/// Counts writes.
#[derive(Default)]
pub struct CountingSink(pub AtomicUsize);

impl StatusSink for CountingSink {
    fn write<'a>(&'a self, _: &'a ObjectRef, _: &'a Origin, _: &'a Status) -> BoxFuture<'a, Result<bool, SinkError>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Ok(true) })
    }
}

/// All of it, running.
pub struct Rig {
    pub engine: Arc<FakeEngine>,
    pub source: Arc<FakeSource>,
    pub ledger: Arc<MemoryLedger>,
    pub sink: Arc<CountingSink>,
    pub permission: Permission,
    pub controller: Arc<Controller>,
    stop: CancellationToken,
    running: JoinHandle<Result<(), LedgerError>>,
}

/// The documents of a text, as if read from `alice/NAME.yaml`.
pub fn items(file: &str, text: &str) -> Vec<Item> {
    let context = FileContext::new(SOURCE, Path::new("/specs"), &format!("alice/{file}.yaml"), None);
    let parsed = parse::parse_file(text, &context);
    assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
    parsed.items
}

/// A workspace of alice.
pub fn workspace(name: &str, spec: &str) -> Item {
    let text = format!("apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {{name: {name}}}\nspec: {spec}\n");
    items(name, &text).remove(0)
}

pub fn key(name: &str) -> ObjectRef {
    ObjectRef::new(Kind::Workspace, "alice", name)
}

impl Rig {
    /// An operator over these documents.
    pub fn start(documents: Vec<Item>) -> Self {
        let clock = Arc::new(VirtualClock(Instant::now()));
        let mut model = Model::new("unused");
        model.world.images.insert("web:1".to_owned(), "sha256:web1".to_owned());
        let engine = Arc::new(FakeEngine {
            clock: clock.clone(),
            model: Mutex::new(model),
            changes: broadcast::channel(1024).0,
            calls: Mutex::default(),
            away: AtomicBool::new(false),
            lists_in: Mutex::default(),
            taken: Mutex::default(),
            going: AtomicBool::default(),
            idle: AtomicBool::default(),
            breaks: Mutex::default(),
            hangs: Mutex::default(),
        });
        let holds = documents.iter().map(|item| (item.resource.reference(), item.origin.clone())).collect();
        let listed = documents.into_iter().map(|item| SourceEvent::InitApply(Box::new(item)));
        let first = std::iter::once(SourceEvent::Init).chain(listed).chain([SourceEvent::InitDone]).collect();
        let (said, heard) = broadcast::channel(1024);
        let source = Arc::new(FakeSource { said, first: Mutex::new(Some((first, heard))), holds: Mutex::new(holds) });
        let (ledger, sink, permission) = (Arc::new(MemoryLedger::default()), Arc::new(CountingSink::default()), Permission::default());
        let controller = Controller::new(Parts {
            settings: RunSettings {
                installation: INSTALLATION.to_owned(),
                docker_host: None,
                roots: Vec::new(),
                publish_address: "127.0.0.1".parse().unwrap(),
                port_range: "10000-10009".parse().unwrap(),
                network_pool: "10.213.0.0/16".to_owned(),
                host_paths: Vec::new(),
                resync: quantity::Duration::from_secs(60),
                settle: quantity::Duration::from_secs(2),
                tombstone: quantity::Duration::from_secs(3600),
                status: StatusMode::Inline,
                helper_image: None,
            },
            runtime: engine.clone(),
            ledger: ledger.clone(),
            sources: vec![source.clone()],
            reporter: Arc::new(Reporter::new(sink.clone())),
            clock,
            randomness: Arc::new(Counted::default()),
            host: Arc::new(FreeHost),
            concurrency: 4,
            accept_engine: false,
            permission: permission.clone(),
        });
        let stop = CancellationToken::new();
        let running = tokio::spawn({
            let (controller, stop) = (controller.clone(), stop.clone());
            async move { controller.run(stop).await }
        });
        Self { engine, source, ledger, sink, permission, controller, stop, running }
    }

    /// Lets virtual time pass.
    pub async fn pass(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    /// Lets virtual time pass until that is so; gives how much.
    pub async fn until(&self, what: &str, so: impl Fn(&Self) -> bool) -> Duration {
        let begun = Instant::now();
        while !so(self) {
            assert!(begun.elapsed() < Duration::from_secs(5000), "{what} did not come; calls: {:#?}", self.engine.calls.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        begun.elapsed()
    }

    pub fn status(&self, object: &ObjectRef) -> Option<Arc<Status>> {
        self.controller.statuses().into_iter().find(|(key, ..)| key == object).map(|(_, _, status)| status)
    }

    pub fn condition(&self, object: &ObjectRef, type_: ConditionType) -> Option<Condition> {
        self.status(object)?.condition(type_).cloned()
    }

    pub fn is_ready(&self, object: &ObjectRef) -> bool {
        self.condition(object, ConditionType::Ready).is_some_and(|ready| ready.status == Truth::True)
    }

    pub fn states(&self) -> Vec<String> {
        self.engine.model().states()
    }

    /// Ends the operator, which must end well.
    pub async fn end(self) {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
    }
}
