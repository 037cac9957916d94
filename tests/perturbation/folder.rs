//! A watched directory in memory: files that a scenario edits, the source that reads them, the sink that writes statuses into them.
//!
//! The texts are real: they are read by the product's parser and written by its splice. The protocol towards the controller is that of
//! the directory source: a listing, then changes; what is missing is gone when it stayed missing for the settling time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use dockmaster::controller::Clock;
use dockmaster::resource::{ObjectRef, Origin, Status};
use dockmaster::source::select::FileContext;
use dockmaster::source::{Edit, Item, SourceError, SourceEvent, SpecSource, parse, splice};
use dockmaster::status::{SinkError, StatusSink};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

use super::bugs::Bug;
use super::gate::Gate;
use super::lab::LabClock;

/// The name of the source.
pub const SOURCE: &str = "specs";
const SETTLE: Duration = Duration::from_secs(2);
const DEBOUNCE: Duration = Duration::from_millis(300);
const RESYNC: Duration = Duration::from_secs(60);

/// The directory; outlives every operator.
pub struct Folder {
    files: Mutex<Files>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Files {
    texts: BTreeMap<String, String>,
    /// How often each file was written: one that is as before may have been another in between.
    versions: BTreeMap<String, u64>,
    /// So many writes of statuses are undone as soon as they are made.
    undoes: u64,
    trouble: Option<String>,
    /// Objects whose last document said `deletionPolicy: Delete`.
    consents: BTreeSet<(String, String)>,
    /// What was refused or broken by a write of ours: bytes besides `status` that differ.
    harm: Vec<String>,
    writes: u64,
    /// How often the documents of an object went.
    departures: BTreeMap<ObjectRef, u64>,
    /// The instants and phases of the writes for each object.
    reports: BTreeMap<ObjectRef, Vec<(Instant, String)>>,
    /// The generation of each object that was told last, and how often its documents had gone by then.
    told: BTreeMap<ObjectRef, (u64, u64)>,
    /// Whether each object was ready when that was told last, by whose history, and by how often its documents had gone by then.
    ready: BTreeMap<(Teller, ObjectRef, u64), (Value, Timestamp)>,
}

impl Files {
    fn put(&mut self, path: &str, text: String) {
        self.texts.insert(path.to_owned(), text);
        *self.versions.entry(path.to_owned()).or_default() += 1;
    }

    /// Checks a status against the one before, and takes notice of it.
    fn check_status(&mut self, history: Teller, at: Timestamp, object: &ObjectRef, status: &Value) {
        let departures = self.departures.get(object).copied().unwrap_or_default();
        let generation = status["observedGeneration"].as_u64().unwrap_or_default();
        let told = self.told.insert(object.clone(), (generation, departures));
        if let Some((before, _)) = told.filter(|(before, then)| *then == departures && *before > generation) {
            self.harm.push(format!("I13: the generation of {object} fell from {before} to {generation}"));
        }
        // Of the one that is always there; of others it is not seen when they are gone for a moment.
        let ready = |status: &Value| status["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == "Ready").cloned();
        let Some(now) = ready(status) else { return };
        let since = |condition: &Value| condition["lastTransitionTime"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
        let Some((before, told)) = self.ready.insert((history, object.clone(), departures), (now.clone(), at)) else { return };
        // It may have been another since that was told.
        if before["status"] == now["status"] && since(&before) != since(&now) && since(&now).is_none_or(|since| since < told) {
            self.harm.push(format!("I13: {object} is {} since {:?}, and was since {:?}", now["status"], since(&now), since(&before)));
        }
    }
}

impl Folder {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { files: Mutex::default(), changed: watch::Sender::new(0) })
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap()
    }

    fn touch(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Changes files as people do; any number of them at once.
    pub fn change(&self, change: impl FnOnce(&mut BTreeMap<String, String>)) {
        let mut files = self.lock();
        let objects = |texts: &BTreeMap<String, String>| -> BTreeSet<ObjectRef> {
            texts.iter().flat_map(|(path, text)| read(path, text).items.iter().map(|item| item.resource.reference()).collect::<Vec<_>>()).collect()
        };
        let before = files.texts.clone();
        change(&mut files.texts);
        let texts = files.texts.clone();
        texts.iter().filter(|(path, text)| before.get(*path) != Some(*text)).for_each(|(path, _)| *files.versions.entry(path.clone()).or_default() += 1);
        let before = objects(&before);
        before.difference(&objects(&texts)).for_each(|object| *files.departures.entry(object.clone()).or_default() += 1);
        for item in texts.iter().flat_map(|(path, text)| read(path, text).items.clone()) {
            let object = item.resource.reference();
            let key = (object.ns().to_owned(), object.name.clone());
            if item.text.contains("deletionPolicy: Delete") {
                files.consents.insert(key);
            } else {
                files.consents.remove(&key);
            }
        }
        drop(files);
        self.touch();
    }

    /// Whether the last document of an object consented to the loss of its data.
    pub fn consented(&self, namespace: &str, name: &str) -> bool {
        self.lock().consents.contains(&(namespace.to_owned(), name.to_owned()))
    }

    /// Makes the directory untrustworthy, or well again.
    pub fn trouble(&self, why: Option<&str>) {
        self.lock().trouble = why.map(str::to_owned);
        self.touch();
    }

    /// Whether it cannot be trusted.
    pub fn is_in_trouble(&self) -> bool {
        self.lock().trouble.is_some()
    }

    /// Whether a document of that name is there.
    pub fn declares(&self, namespace: &str, name: &str) -> bool {
        self.items().iter().map(|item| item.resource.reference()).any(|object| object.name == name && object.ns() == namespace)
    }

    pub fn texts(&self) -> BTreeMap<String, String> {
        self.lock().texts.clone()
    }

    /// The next so many writes of statuses are undone at once, as by an editor that saves what it read before.
    pub fn undo(&self, writes: u64) {
        self.lock().undoes = writes;
    }

    pub fn take_harm(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().harm)
    }

    /// How often a status was written.
    pub fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// The instants and phases of the writes for each object.
    pub fn reports(&self) -> BTreeMap<ObjectRef, Vec<(Instant, String)>> {
        self.lock().reports.clone()
    }

    /// The documents that can be read, with the statuses that they hold.
    pub fn items(&self) -> Vec<Item> {
        self.lock().texts.iter().flat_map(|(path, text)| read(path, text).items.clone()).collect()
    }
}

/// What a pure function said before: runs of one scenario begin alike, and read and write the same texts.
struct Memo<K, V>(Mutex<Option<HashMap<K, V>>>);

impl<K: Eq + Hash, V: Clone> Memo<K, V> {
    fn get(&self, key: K, say: impl FnOnce(&K) -> V) -> V {
        if let Some(known) = self.0.lock().unwrap().as_ref().and_then(|known| known.get(&key)).cloned() {
            return known;
        }
        let value = say(&key);
        let mut known = self.0.lock().unwrap();
        let known = known.get_or_insert_default();
        if known.len() > 40_000 {
            known.clear();
        }
        known.insert(key, value.clone());
        value
    }
}

type Spliced = Result<String, String>;

static READ: Memo<(String, String), Arc<parse::Parsed>> = Memo(Mutex::new(None));
static SPLICED: Memo<(String, u32, String), Spliced> = Memo(Mutex::new(None));

fn read(path: &str, text: &str) -> Arc<parse::Parsed> {
    let context = |path: &str| FileContext::new(SOURCE, Path::new("/specs"), path, None);
    READ.get((path.to_owned(), text.to_owned()), |(path, text)| Arc::new(parse::parse_file(text, &context(path))))
}

/// The text without its statuses, which stand in lines of their own.
pub fn stripped(text: &str) -> String {
    let mut is_status = false;
    let is_kept = |line: &&str| {
        is_status = line.starts_with("status:") || (is_status && line.starts_with(' '));
        !is_status
    };
    text.split_inclusive('\n').filter(is_kept).collect()
}

fn spliced(text: &str, document: u32, status: &Value) -> Spliced {
    SPLICED.get((text.to_owned(), document, status.to_string()), |(text, document, _)| {
        splice::set_status(text, *document, Some(status)).map_err(|error| error.to_string())
    })
}

type Place = (ObjectRef, Origin);

/// The directory as one operator sees it.
pub struct FolderSource {
    folder: Arc<Folder>,
    gate: Gate,
    bug: Option<Bug>,
    held: Arc<Mutex<BTreeSet<Place>>>,
    /// Is told when all of it was read.
    has_read: Arc<dyn Fn() + Send + Sync>,
}

impl FolderSource {
    pub fn new(folder: Arc<Folder>, gate: Gate, bug: Option<Bug>, has_read: Arc<dyn Fn() + Send + Sync>) -> Self {
        Self { folder, gate, bug, held: Arc::default(), has_read }
    }
}

impl SpecSource for FolderSource {
    fn name(&self) -> &str {
        SOURCE
    }

    fn events(&self) -> BoxStream<'static, SourceEvent> {
        let (sender, receiver) = mpsc::channel(64);
        let watcher = Watcher {
            folder: self.folder.clone(),
            gate: self.gate.clone(),
            bug: self.bug,
            held: self.held.clone(),
            has_read: self.has_read.clone(),
            said: BTreeMap::new(),
            wrong: BTreeMap::new(),
            missing: BTreeSet::new(),
            since: Instant::now(),
            trouble: None,
        };
        tokio::spawn(watcher.run(sender));
        ReceiverStream::new(receiver).boxed()
    }

    fn rescan(&self) {
        self.folder.touch();
    }

    fn identity(&self) -> Option<String> {
        Some("1:2".to_owned())
    }

    fn holds(&self, object: &ObjectRef, origin: &Origin) -> bool {
        self.held.lock().unwrap().contains(&(object.clone(), origin.clone()))
    }

    fn edit<'a>(&'a self, _: &'a ObjectRef, _: Option<&'a Origin>, _: Edit) -> BoxFuture<'a, Result<Origin, SourceError>> {
        async { Err(SourceError::Refused("people edit the files of a scenario".to_owned())) }.boxed()
    }
}

struct Watcher {
    folder: Arc<Folder>,
    gate: Gate,
    bug: Option<Bug>,
    held: Arc<Mutex<BTreeSet<Place>>>,
    has_read: Arc<dyn Fn() + Send + Sync>,
    /// Each document's digest, the version of its file, and, for a bug of the bank, the status in it.
    said: BTreeMap<Place, (String, u64, Option<Value>)>,
    wrong: BTreeMap<String, Vec<String>>,
    missing: BTreeSet<Place>,
    since: Instant,
    trouble: Option<String>,
}

impl Watcher {
    async fn run(mut self, sender: mpsc::Sender<SourceEvent>) {
        let mut changed = self.folder.changed.subscribe();
        let mut first = true;
        if sender.send(SourceEvent::Init).await.is_err() {
            return;
        }
        loop {
            let events = self.look(first);
            first &= self.trouble.is_some();
            for event in events {
                self.gate.pass().await;
                if matches!(event, SourceEvent::InitDone) {
                    (self.has_read)();
                }
                if sender.send(event).await.is_err() {
                    return;
                }
            }
            let due = if self.missing.is_empty() { RESYNC } else { SETTLE };
            tokio::select! { biased;
                () = sender.closed() => return,
                news = changed.changed() => {
                    if news.is_err() {
                        return;
                    }
                    tokio::time::sleep(DEBOUNCE).await;
                    changed.mark_unchanged();
                }
                () = tokio::time::sleep(due) => {}
            }
        }
    }

    /// Looks at all files; what is to be said of them.
    fn look(&mut self, first: bool) -> Vec<SourceEvent> {
        let (texts, versions, trouble) = {
            let files = self.folder.lock();
            (files.texts.clone(), files.versions.clone(), files.trouble.clone())
        };
        let (texts, trouble) = match (self.bug, trouble) {
            (Some(Bug::TroubleIsDeletion), Some(_)) => (BTreeMap::new(), None),
            (_, trouble) => (texts, trouble),
        };
        let was_in_trouble = self.trouble.is_some();
        let changed = trouble != self.trouble;
        self.trouble = trouble.clone();
        if let Some(why) = trouble {
            self.since = Instant::now();
            return if changed { vec![SourceEvent::Unhealthy(why)] } else { Vec::new() };
        }
        let mut events = Vec::new();
        let (mut found, mut arrived, mut wrong) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        for (path, text) in &texts {
            let parsed = read(path, text);
            if !parsed.problems.is_empty() && self.bug != Some(Bug::BrokenIsDeletion) {
                wrong.insert(path.clone(), parsed.problems.iter().map(|problem| format!("{problem:?}")).collect::<Vec<_>>());
            }
            let version = versions.get(path).copied().unwrap_or_default();
            for item in parsed.items.iter().cloned() {
                self.said_anew((item, version), first, &mut found, &mut arrived, &mut events);
            }
        }
        let lost = self.said.keys().filter(|place| !found.contains(*place)).cloned();
        let missing: BTreeSet<Place> = lost.filter(|(_, origin)| !wrong.contains_key(&origin.path)).collect();
        let (moved, missing): (BTreeSet<Place>, BTreeSet<Place>) = missing.into_iter().partition(|(object, _)| arrived.contains(object));
        self.said.retain(|place, _| !moved.contains(place));
        events.extend(self.wrongs(wrong));
        let now = Instant::now();
        if !missing.is_subset(&self.missing) || was_in_trouble {
            self.since = now;
        }
        self.missing = missing;
        *self.held.lock().unwrap() = self.said.keys().filter(|place| !self.missing.contains(*place)).cloned().collect();
        if first {
            events.push(SourceEvent::InitDone);
        }
        if was_in_trouble && !first {
            events.push(SourceEvent::Healthy);
        }
        if !first && !self.missing.is_empty() && now.duration_since(self.since) >= SETTLE {
            let gone: Vec<Place> = std::mem::take(&mut self.missing).into_iter().collect();
            gone.iter().for_each(|place| drop(self.said.remove(place)));
            match self.bug {
                Some(Bug::OneByOne) => events.extend(gone.into_iter().map(|place| SourceEvent::Gone(vec![place]))),
                Some(Bug::NeverGone) => {}
                _ => events.push(SourceEvent::Gone(gone)),
            }
        }
        events
    }

    fn said_anew(
        &mut self,
        (item, version): (Item, u64),
        first: bool,
        found: &mut BTreeSet<Place>,
        arrived: &mut BTreeSet<ObjectRef>,
        events: &mut Vec<SourceEvent>,
    ) {
        let place = (item.resource.reference(), item.origin.clone());
        found.insert(place.clone());
        let status = item.resource.status().cloned();
        match self.said.insert(place.clone(), (item.digest.clone(), version, status.clone())) {
            Some((digest, of, known)) if digest == item.digest => {
                let is_news = if self.bug == Some(Bug::TellOtherStatusesOnly) { known != status } else { of != version };
                if is_news {
                    events.push(SourceEvent::Reported { object: place.0, origin: place.1, status });
                }
            }
            before => {
                if before.is_none() {
                    arrived.insert(place.0);
                }
                let item = Box::new(item);
                events.push(if first { SourceEvent::InitApply(item) } else { SourceEvent::Apply(item) });
            }
        }
    }

    fn wrongs(&mut self, wrong: BTreeMap<String, Vec<String>>) -> Vec<SourceEvent> {
        let before = std::mem::replace(&mut self.wrong, wrong);
        let event = |path: &String, errors: Vec<String>| {
            let shields = self.said.keys().filter(|(_, origin)| origin.path == *path).map(|(object, _)| object.clone()).collect();
            SourceEvent::Invalid { origin: Origin { source: SOURCE.to_owned(), path: path.clone(), document: 0 }, shields, errors }
        };
        let bad = self.wrong.iter().filter(|(path, errors)| before.get(*path) != Some(*errors)).map(|(path, errors)| event(path, errors.clone()));
        let good = before.keys().filter(|path| !self.wrong.contains_key(*path)).map(|path| event(path, Vec::new()));
        bad.chain(good).collect()
    }
}

/// Writes statuses into the files.
pub struct FolderSink {
    folder: Arc<Folder>,
    gate: Gate,
    bug: Option<Bug>,
    watcher: Arc<super::watcher::Watcher>,
    clock: Arc<LabClock>,
    /// Whose it is: after a loss of the state another's.
    history: usize,
}

/// Whose history tells, by a clock that was set so often.
type Teller = (usize, u64);

impl FolderSink {
    pub fn new(folder: Arc<Folder>, gate: Gate, bug: Option<Bug>, watcher: Arc<super::watcher::Watcher>, clock: Arc<LabClock>, history: usize) -> Self {
        Self { folder, gate, bug, watcher, clock, history }
    }
}

impl StatusSink for FolderSink {
    fn write<'a>(&'a self, object: &'a ObjectRef, at: &'a Origin, status: &'a Status) -> BoxFuture<'a, Result<bool, SinkError>> {
        async move {
            self.gate.pass().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.gate.pass().await;
            let mut value = serde_json::to_value(status).unwrap();
            match self.bug {
                Some(Bug::WriteAlways) => value["again"] = self.folder.writes().into(),
                Some(Bug::TellFirstGeneration) if self.folder.writes().is_multiple_of(2) => value["observedGeneration"] = 1.into(),
                Some(Bug::AlwaysSinceNow) => {
                    let conditions = value["conditions"].as_array_mut().into_iter().flatten();
                    conditions.for_each(|condition| condition["lastTransitionTime"] = format!("2026-01-01T00:00:{:02}Z", self.folder.writes() % 60).into());
                }
                Some(Bug::TellOtherImage) if value["container"].is_object() => value["container"]["image"] = "sha256:0".into(),
                Some(Bug::AlwaysReady) => {
                    let conditions = value["conditions"].as_array_mut().into_iter().flatten();
                    conditions.filter(|condition| condition["type"] == "Ready").for_each(|condition| {
                        condition["status"] = "True".into();
                        condition["reason"] = "Running".into();
                    });
                }
                _ => {}
            }
            let mut files = self.folder.lock();
            let Some(text) = files.texts.get(&at.path).cloned() else { return Err(SinkError::Moved(at.clone())) };
            let holds = |item: &&Item| item.resource.reference() == *object;
            let Some(item) = read(&at.path, &text).items.iter().find(holds).cloned() else { return Err(SinkError::Moved(at.clone())) };
            let new = match spliced(&text, item.origin.document, &value) {
                Ok(new) if self.bug == Some(Bug::LoseComments) => new.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect(),
                Ok(new) => new,
                Err(error) => return Err(SinkError::Refused { origin: at.clone(), why: error }),
            };
            if new == text {
                return Ok(false);
            }
            if stripped(&new) != stripped(&text) {
                files.harm.push(format!("I9: a status write changed more than the status of {}:\n{text}\n---\n{new}", at.path));
            }
            files.check_status((self.history, self.clock.jumps()), self.clock.now(), object, &value);
            self.watcher.check_told(object, status);
            files.put(&at.path, new);
            if files.undoes > 0 {
                files.undoes -= 1;
                files.put(&at.path, text);
            }
            files.writes += 1;
            files.reports.entry(object.clone()).or_default().push((Instant::now(), status.phase.as_str().to_owned()));
            drop(files);
            self.folder.touch();
            Ok(true)
        }
        .boxed()
    }
}
