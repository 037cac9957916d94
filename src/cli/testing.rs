//! A desk for tests of the verbs: a ledger in memory, a source that remembers its edits, and, where asked, an operator on a real socket.

use std::path::Path;
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::args::{DoctorArgs, PlanArgs, RunArgs};
use super::*;
use crate::http::control::{self, ControlHandle, WatchFilter, WatchItem};
use crate::resource::{Kind, ObjectRef, Origin, Uid};
use crate::source::{Edit, SourceError, SourceEvent};
use crate::state::memory::MemoryLedger;
use crate::state::{Admission, Document};

/// What a verb gave: exit code, standard output, standard error.
pub type Given = (u8, String, String);

pub struct Desk {
    pub dir: tempfile::TempDir,
    pub ledger: Arc<MemoryLedger>,
    pub edits: Arc<Mutex<Vec<String>>>,
    /// What the next edits fail with.
    pub refuse: Mutex<Vec<SourceError>>,
    pub now: Timestamp,
    /// The standard output of the verb that runs.
    printed: Mutex<Sink>,
}

/// What was printed.
#[derive(Clone, Default)]
pub struct Sink(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Sink {
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

pub fn workspace(namespace: &str, name: &str) -> ObjectRef {
    ObjectRef::new(Kind::Workspace, namespace, name)
}

impl Desk {
    /// A state directory on which `run --specs ./my-specs` ran.
    pub async fn new() -> Self {
        let desk = Self {
            printed: Mutex::default(),
            dir: tempfile::tempdir().unwrap(),
            ledger: Arc::default(),
            edits: Arc::default(),
            refuse: Mutex::default(),
            now: Timestamp::now(),
        };
        let run = RunArgs { specs: vec!["./my-specs".into()], ..args::default_run() };
        let settings = run.settings(&Global::default()).unwrap();
        desk.ledger.set_setting(RUN_SETTING, Some(&json!(settings).to_string())).await.unwrap();
        desk
    }

    /// Admits a document, created three hours ago.
    pub async fn admit(&self, object: &ObjectRef, text: &str) {
        let path = format!("{}/{}.yaml", object.ns(), object.name);
        let origin = Origin { source: "./my-specs".into(), path, document: 0 };
        let document = Document { object: object.clone(), text: text.into(), digest: format!("digest of {}", object.name), origin };
        let number = self.ledger.records().await.unwrap().len();
        let uid = Uid(format!("0198f000-0000-7000-8000-{number:012}"));
        let fresh = Admission { uid, generation: 1, created: self.now - SignedDuration::from_hours(3) };
        self.ledger.admit(&document, fresh, None).await.unwrap();
    }

    pub async fn uid(&self, object: &ObjectRef) -> Uid {
        self.ledger.records().await.unwrap().into_iter().find(|record| record.object == *object).unwrap().admission.uid
    }

    pub async fn status(&self, object: &ObjectRef, status: Value) {
        self.ledger.save_status(object, &status, self.now - SignedDuration::from_mins(5)).await.unwrap();
    }

    /// Two workspaces of alice, one of bob, a preview and a tenant.
    pub async fn furnished() -> Self {
        let desk = Self::new().await;
        let shop = workspace("alice", "shop");
        desk.admit(&shop, "# the shop\napiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {name: shop, labels: {team: web}}\nspec:\n  image: shop:1\n")
            .await;
        desk.status(&shop, running(desk.now)).await;
        desk.admit(&workspace("alice", "blog"), "apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {name: blog}\nspec: {state: Stopped, type: static}\n")
            .await;
        desk.admit(&workspace("bob", "wiki"), "apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {name: wiki}\n").await;
        let demo = ObjectRef::new(Kind::Preview, "alice", "demo");
        desk.admit(&demo, "apiVersion: dockmaster/v1\nkind: Preview\nmetadata: {name: demo}\nspec: {workspace: shop, ttl: 4h}\n").await;
        let tenant = ObjectRef::new(Kind::Tenant, "", "alice");
        desk.admit(&tenant, "apiVersion: dockmaster/v1\nkind: Tenant\nmetadata: {name: alice}\nspec: {defaults: {memory: 1g}}\n").await;
        desk
    }

    /// Runs a command line; words are separated by spaces.
    pub async fn run(&self, line: &str) -> Given {
        let (out, err) = (Sink::default(), Sink::default());
        *self.printed.lock().unwrap() = out.clone();
        let mut sinks = Out::to(out.clone(), err.clone());
        let state_dir = self.dir.path().as_os_str().to_owned();
        let words = ["dockmaster".into(), "--state-dir".into(), state_dir].into_iter().chain(line.split_whitespace().map(OsString::from));
        let code = match parse(words, &mut sinks) {
            Ok(cli) => run(cli, self, &mut sinks).await,
            Err(code) => code,
        };
        (code, out.text(), err.text())
    }

    /// Waits until the verb that runs has printed that.
    pub async fn prints(&self, text: &str) {
        while !self.printed.lock().unwrap().text().contains(text) {
            tokio::task::yield_now().await;
        }
    }

    /// Starts an operator that tells watchers these items, and what it is nudged with.
    pub fn operator(&self, items: Vec<WatchItem>) -> Operator {
        let (nudges, nudged) = tokio::sync::mpsc::unbounded_channel();
        let (news, _) = tokio::sync::broadcast::channel(16);
        let stop = CancellationToken::new();
        let handle = Arc::new(Fake { items: Mutex::new(items), nudges, news });
        tokio::spawn(control::serve(control::bind(self.dir.path()).unwrap(), handle.clone(), stop.clone()));
        Operator { nudged, handle, stop }
    }
}

/// `status:` of a workspace that runs and will stop in half an hour.
pub fn running(now: Timestamp) -> Value {
    let half_past = now + SignedDuration::from_secs(30 * 60 + 30);
    json!({
        "observedGeneration": 1, "phase": "Running", "url": "http://127.0.0.1:10000/",
        "ports": [{"name": "http", "container": 8080, "host": 10000}],
        "container": {"id": "3f0c", "name": "dm-ws-alice.shop", "image": "sha256:1", "restarts": 0},
        "next": {"action": "Stop", "at": half_past, "why": "idle"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "Running", "message": "it runs"}],
    })
}

pub struct Operator {
    pub nudged: tokio::sync::mpsc::UnboundedReceiver<Option<ObjectRef>>,
    handle: Arc<Fake>,
    stop: CancellationToken,
}

impl Operator {
    /// Something changes, for those who watch and for those who come.
    pub fn tell(&self, item: &WatchItem) {
        let mut items = self.handle.items.lock().unwrap();
        items.push(item.clone());
        // Nobody may watch yet.
        drop(self.handle.news.send(item.clone()));
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Fake {
    items: Mutex<Vec<WatchItem>>,
    nudges: tokio::sync::mpsc::UnboundedSender<Option<ObjectRef>>,
    news: tokio::sync::broadcast::Sender<WatchItem>,
}

impl ControlHandle for Fake {
    fn ping(&self) -> Ping {
        Ping { version: "0".into(), pid: 1, since: Timestamp::UNIX_EPOCH }
    }
    fn engine(&self) -> Option<Vec<u8>> {
        None
    }
    fn nudge(&self, object: Option<ObjectRef>) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.nudges.send(object).unwrap_or_default() })
    }
    fn watch(&self, filter: WatchFilter) -> BoxStream<'static, WatchItem> {
        let items = self.items.lock().unwrap();
        let news = tokio_stream::wrappers::BroadcastStream::new(self.news.subscribe()).filter_map(|item| async { item.ok() });
        let wanted = move |item: &WatchItem| match item {
            WatchItem::Status { object, .. } | WatchItem::Deleted { object } => filter.matches(object),
            WatchItem::Event { .. } | WatchItem::Synced => true,
        };
        let items: Vec<WatchItem> = items.iter().filter(|item| wanted(item)).cloned().collect();
        futures::stream::iter(items).chain(futures::stream::iter([WatchItem::Synced])).chain(news).boxed()
    }
}

struct Recorder {
    edits: Arc<Mutex<Vec<String>>>,
    refuse: Option<SourceError>,
}

impl SpecSource for Recorder {
    fn name(&self) -> &str {
        "./my-specs"
    }
    fn events(&self) -> BoxStream<'static, SourceEvent> {
        futures::stream::pending().boxed()
    }
    fn rescan(&self) {}
    fn edit<'a>(&'a self, object: &'a ObjectRef, at: Option<&'a Origin>, edit: Edit) -> BoxFuture<'a, Result<Origin, SourceError>> {
        let place = at.map_or("new".to_owned(), ToString::to_string);
        let what = match edit {
            Edit::Set { path, value: Some(value) } => format!("{} = {value}", path.join(".")),
            Edit::Set { path, value: None } => format!("{} removed", path.join(".")),
            Edit::Remove => "removed".to_owned(),
            Edit::Put(text) => format!("put {text:?}"),
            Edit::PutBack(text) => format!("put back {text:?}"),
        };
        let answer = match &self.refuse {
            Some(SourceError::Refused(why)) => Err(SourceError::Refused(why.clone())),
            Some(SourceError::Io { path, .. }) => {
                Err(SourceError::Io { doing: "write", path: path.clone(), source: std::io::ErrorKind::ReadOnlyFilesystem.into() })
            }
            None => {
                self.edits.lock().unwrap().push(format!("{object} at {place}: {what}"));
                Ok(at.cloned().unwrap_or(Origin { source: "./my-specs".into(), path: format!("{}/{}.yaml", object.ns(), object.name), document: 0 }))
            }
        };
        Box::pin(futures::future::ready(answer))
    }
    fn identity(&self) -> Option<String> {
        None
    }
    fn holds(&self, _: &ObjectRef, _: &Origin) -> bool {
        true
    }
}

impl Adapters for Desk {
    fn ledger<'a>(&'a self, _: &'a Path, _: Access) -> BoxFuture<'a, Result<Arc<dyn Ledger>, Failure>> {
        Box::pin(futures::future::ready(Ok(self.ledger.clone() as Arc<dyn Ledger>)))
    }
    fn source(&self, root: &Root) -> Result<Arc<dyn SpecSource>, Failure> {
        assert_eq!(root.name, "./my-specs");
        Ok(Arc::new(Recorder { edits: self.edits.clone(), refuse: self.refuse.lock().unwrap().pop() }))
    }
    fn engine<'a>(&'a self, _: &'a RunSettings) -> BoxFuture<'a, Result<Arc<dyn Engine>, Failure>> {
        Box::pin(futures::future::ready(Err(Failure::unreachable("no engine here"))))
    }
    fn run<'a>(&'a self, _: &'a mut Context<'_>, _: &'a RunArgs) -> BoxFuture<'a, Result<u8, Failure>> {
        Box::pin(futures::future::ready(Ok(out::DONE)))
    }
    fn plan<'a>(&'a self, _: &'a mut Context<'_>, _: &'a PlanArgs) -> BoxFuture<'a, Result<u8, Failure>> {
        Box::pin(futures::future::ready(Ok(2)))
    }
    fn orphans<'a>(&'a self, _: Arc<dyn Ledger>, _: &'a RunSettings, remove: bool) -> BoxFuture<'a, Result<Vec<Orphan>, Failure>> {
        let plan = if remove { "removed" } else { "goes with --remove" }.to_owned();
        let orphan = Orphan { type_: "volume", name: "dm-vol-alice.old.data".into(), id: "x".into(), object: workspace("alice", "old"), since: None, plan };
        Box::pin(futures::future::ready(Ok(vec![orphan])))
    }
    fn doctor<'a>(&'a self, _: &'a mut Context<'_>, _: &'a DoctorArgs) -> BoxFuture<'a, Result<u8, Failure>> {
        Box::pin(futures::future::ready(Ok(out::DONE)))
    }
    fn simulate<'a>(&'a self, _: &'a mut Context<'_>, _: &'a args::SimulateArgs) -> BoxFuture<'a, Result<u8, Failure>> {
        Box::pin(futures::future::ready(Ok(out::DONE)))
    }
}
