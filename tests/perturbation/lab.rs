//! One run: an engine, a directory and a ledger that outlive every operator, and an operator that may be killed, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use dockmaster::config::{RunSettings, StatusMode, prune_setting};
use dockmaster::controller::{Clock, Controller, Host, Parts, Permission, Randomness};
use dockmaster::resource::{Kind, ObjectRef, Status, Truth, quantity};
use dockmaster::runtime::docker::DockerRuntime;
use dockmaster::runtime::docker::helper_image::HelperImage;
use dockmaster::source::directory::Root;
use dockmaster::state::memory::MemoryLedger;
use dockmaster::state::{Fact, Ledger, LedgerError};
use dockmaster::status::reporter::Reporter;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::bugs::{self, Bug};
use super::engine::{Engine, HELPER, Mode};
use super::fault::Fault;
use super::folder::{Folder, FolderSink, FolderSource, SOURCE, stripped};
use super::gate::{Gate, GatedLedger};
use super::scenario::{Scenario, Step, Verb};
use super::view::{self, INSTALLATION};
use super::watcher::{Strike, Watcher};

/// Nothing changes for so long: more than a full pass.
const CALM: Duration = Duration::from_secs(65);
/// How long a run may take to be calm after a step.
const PATIENCE: Duration = Duration::from_secs(1200);
/// How long an operator that died is away.
const AWAY: Duration = Duration::from_secs(1);

/// Virtual time as wall time, with jumps.
pub struct LabClock {
    begun: Instant,
    offset: AtomicI64,
}

impl LabClock {
    fn new() -> Arc<Self> {
        Arc::new(Self { begun: Instant::now(), offset: AtomicI64::new(0) })
    }

    pub fn jump(&self, by: i64) {
        self.offset.fetch_add(by, Ordering::SeqCst);
    }
}

impl Clock for LabClock {
    fn now(&self) -> Timestamp {
        let begin: Timestamp = "2026-03-02T10:00:00Z".parse().unwrap();
        begin + SignedDuration::try_from(self.begun.elapsed()).unwrap() + SignedDuration::from_secs(self.offset.load(Ordering::SeqCst))
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same everywhere.
pub struct Seeded(AtomicU64);

impl Seeded {
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    pub fn next(&self) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Randomness for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]));
    }
}

/// A host on which nothing else runs but what a scenario put there.
struct LabHost;

impl Host for LabHost {
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

/// An operator that runs.
struct Life {
    gate: Gate,
    controller: Arc<Controller>,
    running: JoinHandle<Result<(), LedgerError>>,
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub calls: u64,
    pub events: u64,
    pub mutations: u64,
    pub lines: BTreeSet<String>,
    pub creates: BTreeMap<String, u64>,
    pub removes: BTreeMap<String, u64>,
    pub violations: Vec<String>,
    pub trace: Vec<String>,
    pub hash: u64,
    /// From the last fault or deed to the last change.
    pub converged: Duration,
}

/// See the module.
pub struct Lab {
    pub engine: Engine,
    folder: Arc<Folder>,
    ledger: Arc<MemoryLedger>,
    clock: Arc<LabClock>,
    randomness: Arc<Seeded>,
    watcher: Arc<Watcher>,
    strikes: mpsc::UnboundedReceiver<Strike>,
    life: Option<Life>,
    bug: Option<Bug>,
}

impl Lab {
    fn new(mode: Mode, seed: u64, faults: Vec<Fault>, bug: Option<Bug>) -> Self {
        let clock = LabClock::new();
        let folder = Folder::new();
        let (sender, strikes) = mpsc::unbounded_channel();
        let jumping = clock.clone();
        let watcher = Arc::new(Watcher::new(folder.clone(), faults, sender, Box::new(move |by| jumping.jump(by))));
        let telling = clock.clone();
        let engine = Engine::new(mode, seed, Arc::new(move || telling.now()), watcher.clone());
        Self { engine, folder, ledger: Arc::new(MemoryLedger::default()), clock, randomness: Arc::new(Seeded::new(seed)), watcher, strikes, life: None, bug }
    }

    fn settings() -> RunSettings {
        RunSettings {
            installation: INSTALLATION.to_owned(),
            docker_host: None,
            roots: vec![Root { name: SOURCE.to_owned(), path: PathBuf::from("/specs"), namespace: None }],
            publish_address: "127.0.0.1".parse().unwrap(),
            port_range: format!("{}-{}", view::POOL.start(), view::POOL.end()).parse().unwrap(),
            network_pool: "10.213.0.0/16".to_owned(),
            host_paths: Vec::new(),
            resync: quantity::Duration::from_secs(60),
            settle: quantity::Duration::from_secs(2),
            tombstone: quantity::Duration::from_secs(600),
            status: StatusMode::Inline,
            helper_image: Some(HELPER.to_owned()),
        }
    }

    /// Starts an operator, as soon as the engine answers.
    async fn boot(&mut self) {
        let gate = Gate::default();
        self.watcher.note("operator begins");
        self.watcher.seen().next_life(gate.clone());
        let client = loop {
            match self.engine.client(&gate).await {
                Ok(client) => break client,
                Err(_) => {
                    tokio::time::sleep(Duration::from_secs(2)).await;
                    if self.is_struck().await {
                        return;
                    }
                }
            }
        };
        let clock = self.clock.clone();
        let runtime = DockerRuntime::at(client, INSTALLATION, HelperImage::given(HELPER.to_owned()), Arc::new(move || clock.now()));
        let ledger = Arc::new(GatedLedger::new(self.ledger.clone(), gate.clone(), self.bug));
        let controller = Controller::new(Parts {
            settings: Self::settings(),
            runtime: bugs::runtime(runtime, self.bug),
            ledger,
            sources: vec![Arc::new(FolderSource::new(self.folder.clone(), gate.clone(), self.bug))],
            reporter: Arc::new(Reporter::new(Arc::new(FolderSink { folder: self.folder.clone(), gate: gate.clone(), bug: self.bug }))),
            clock: self.clock.clone(),
            randomness: self.randomness.clone(),
            host: Arc::new(LabHost),
            concurrency: 4,
            accept_engine: false,
            permission: Permission::default(),
        });
        let running = tokio::spawn({
            let controller = controller.clone();
            async move { controller.run(CancellationToken::new()).await }
        });
        self.life = Some(Life { gate, controller, running });
    }

    /// Kills the operator.
    fn kill(&mut self) {
        if let Some(life) = self.life.take() {
            life.gate.close();
            life.running.abort();
        }
    }

    /// Whether a strike killed the operator while it began; another begins.
    async fn is_struck(&mut self) -> bool {
        let mut struck = false;
        while let Ok(strike) = self.strikes.try_recv() {
            struck |= matches!(strike, Strike::Crash { .. });
            Box::pin(self.suffer(strike)).await;
        }
        struck
    }

    /// What a fault leads to.
    async fn suffer(&mut self, strike: Strike) {
        match strike {
            Strike::Crash { lose_state } => {
                self.watcher.note(if lose_state { "operator dies, and its state is gone" } else { "operator dies" });
                self.kill();
                if lose_state {
                    self.lose_state();
                }
                tokio::time::sleep(AWAY).await;
                Box::pin(self.boot()).await;
            }
            Strike::EngineRestart => {
                self.watcher.note("engine restarts");
                self.engine.down();
                tokio::time::sleep(Duration::from_secs(3)).await;
                self.engine.up();
            }
        }
    }

    fn lose_state(&mut self) {
        self.ledger = Arc::new(MemoryLedger::default());
        self.watcher.seen().state_lost = true;
    }

    /// Waits until nothing changes any more. False: it does not come to rest.
    async fn calm(&mut self) -> bool {
        let begun = Instant::now();
        let mut since = (Instant::now(), self.marks());
        while begun.elapsed() < PATIENCE {
            tokio::select! { biased;
                Some(strike) = self.strikes.recv() => self.suffer(strike).await,
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
            self.engine.seed_volumes();
            let marks = self.marks();
            if marks != since.1 {
                since = (Instant::now(), marks);
            } else if since.0.elapsed() >= CALM {
                return true;
            }
        }
        false
    }

    /// What changes as long as something is done.
    fn marks(&self) -> (u64, u64) {
        (self.watcher.seen().mutations, self.folder.writes())
    }

    async fn pass(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            tokio::select! { biased;
                Some(strike) = self.strikes.recv() => self.suffer(strike).await,
                () = tokio::time::sleep_until(end) => {}
            }
        }
    }

    async fn step(&mut self, step: &Step) {
        self.watcher.note(&format!("step {step:?}").replace('\n', " "));
        match step {
            Step::Write(path, text) => self.folder.change(|files| drop(files.insert((*path).to_owned(), text.clone()))),
            Step::Edit(path, from, to) => self.folder.change(|files| {
                let text = files.get_mut(*path).expect("a file to edit");
                assert!(text.contains(from), "{from} is not in {path}:\n{text}");
                *text = text.replacen(from, to, 1);
            }),
            Step::Remove(paths) => self.folder.change(|files| paths.iter().for_each(|path| drop(files.remove(*path).expect("a file to remove")))),
            Step::Move(from, to) => self.folder.change(|files| {
                let text = files.remove(*from).expect("a file to move");
                files.insert((*to).to_owned(), text);
            }),
            Step::Checkout(all) => self.folder.change(|files| {
                files.clear();
                files.extend(all.iter().map(|(path, text)| ((*path).to_owned(), text.clone())));
            }),
            Step::Human(human) => {
                if let super::scenario::Human::Pause(name) = human {
                    self.watcher.seen().paused_by_people.insert((*name).to_owned());
                }
                if let super::scenario::Human::TakePort(_) = human {
                    self.watcher.seen().ports_may_move = true;
                }
                self.engine.human(human).await;
            }
            Step::EngineRestart(seconds) => {
                self.engine.down();
                self.pass(Duration::from_secs(*seconds)).await;
                self.engine.up();
            }
            Step::EngineDown => self.engine.down(),
            Step::EngineUp => self.engine.up(),
            Step::Pass(time) => self.pass(*time).await,
            Step::Jump(by) => self.clock.jump(by.as_secs()),
            Step::Verb(verb) => self.verb(verb).await,
            Step::Crash => self.suffer(Strike::Crash { lose_state: false }).await,
            Step::OperatorDown => self.kill(),
            Step::OperatorUp => self.boot().await,
            Step::LoseState => self.lose_state(),
            Step::Trouble => self.folder.trouble(Some("the directory is not mounted")),
            Step::Well => self.folder.trouble(None),
            Step::AtOnce => {}
        }
    }

    async fn verb(&mut self, verb: &Verb) {
        let now = self.clock.now();
        let (name, fact) = match verb {
            Verb::Start(name) => (*name, Fact::StartAsked(now)),
            Verb::Touch(name) => (*name, Fact::Activity { at: now, by: "touch".to_owned() }),
            Verb::Restart(name) => (*name, Fact::RestartAsked(now)),
            Verb::Extend(name, seconds) => {
                let next = self.statuses().into_iter().find(|(object, _)| object.name == *name).and_then(|(_, status)| status.next);
                let from = next.map_or(now, |next| next.at.max(now));
                (*name, Fact::ExtendedUntil(from + SignedDuration::from_secs(i64::try_from(*seconds).unwrap())))
            }
            Verb::Prune => {
                self.ledger.set_setting(&prune_setting(SOURCE), Some(&now.to_string())).await.unwrap();
                if let Some(life) = &self.life {
                    life.controller.nudge(None).await;
                }
                return;
            }
        };
        let object = ObjectRef::new(Kind::Workspace, "alice", name);
        let records = self.ledger.records().await.unwrap();
        let uid = records.into_iter().find(|record| record.object == object).map(|record| record.admission.uid);
        let Some(uid) = uid else { return };
        self.ledger.record(&uid, &[fact]).await.unwrap();
        if let Some(life) = &self.life {
            life.controller.nudge(Some(object)).await;
        }
    }

    /// The statuses in the files.
    fn statuses(&self) -> Vec<(ObjectRef, Status)> {
        let status = |item: dockmaster::source::Item| Some((item.resource.reference(), serde_json::from_value(item.resource.status()?.clone()).ok()?));
        self.folder.items().into_iter().filter_map(status).collect()
    }

    /// The abstract state: engine, files, statuses.
    fn lines(&self) -> BTreeSet<String> {
        let mut lines = self.engine.view().lines();
        for (path, text) in self.folder.texts() {
            lines.insert(format!("file {path} {:?}", stripped(&text)));
        }
        for (object, status) in self.statuses() {
            let object = format!("{}/{}/{}", object.kind.singular(), object.ns(), object.name);
            lines.insert(format!("{object} phase {}", status.phase));
            lines.insert(format!("{object} generation {}", status.observed_generation));
            for condition in &status.conditions {
                lines.insert(format!("{object} {} {:?} {}", condition.type_, condition.status, condition.reason));
            }
            lines.extend(status.ports.iter().map(|port| format!("port {} of {object}: {:?}", port.name, view::port(port.host))));
        }
        lines
    }

    /// Whether what is said of objects is so.
    fn check_truth(&self) {
        let view = self.engine.view();
        let mut seen = self.watcher.seen();
        for (object, status) in self.statuses() {
            let ready = status.conditions.iter().find(|condition| condition.type_.as_str() == "Ready");
            let runs = ready.is_some_and(|ready| ready.status == Truth::True && ready.reason.as_str() == "Running");
            let is =
                status.container.as_ref().is_some_and(|told| view.ours().any(|container| container.id.starts_with(&told.id) && container.state == "running"));
            if runs && !is {
                seen.violations.push(format!("I12: {object} is told to be ready, and its container does not run"));
            }
        }
        for (object, writes) in self.folder.reports() {
            for window in writes.windows(13).filter(|window| window[12].0.duration_since(window[0].0) < Duration::from_secs(3600)) {
                if window.iter().all(|(_, phase)| *phase == window[0].1) {
                    seen.violations.push(format!("I33: more than 12 writes in an hour for {object} without a change of phase"));
                    break;
                }
            }
        }
        seen.violations.extend(self.folder.take_harm());
    }
}

/// Runs a scenario with faults to its end.
pub async fn run(scenario: &Scenario, mode: Mode, seed: u64, faults: &[Fault], bug: Option<Bug>) -> Outcome {
    let mut lab = Lab::new(mode, seed, faults.to_vec(), bug);
    lab.boot().await;
    let mut restless = Vec::new();
    for (index, step) in scenario.steps.iter().enumerate() {
        lab.watcher.seen().last_cause = Some(Instant::now());
        lab.step(step).await;
        lab.watcher.seen().last_cause = Some(Instant::now());
        let at_once = matches!(step, Step::AtOnce) || matches!(scenario.steps.get(index + 1), Some(Step::AtOnce));
        let absent = lab.life.is_none() && lab.strikes.is_empty();
        if !at_once && !absent && !lab.calm().await {
            restless.push(format!("L2: no rest within {} s after step {index}", PATIENCE.as_secs()));
        }
    }
    // The faults are over: the end must be reached, and stay.
    let (calls, events) = {
        let mut seen = lab.watcher.seen();
        seen.armed = false;
        (seen.calls, seen.events)
    };
    for fault in faults {
        // A lost event shows when its container is read again; after a loss of the state a change counts as inherited, which waits for idleness.
        match fault {
            Fault::Event { .. } => lab.pass(Duration::from_secs(4 * 60)).await,
            Fault::LoseState { .. } => lab.pass(Duration::from_secs(12 * 60)).await,
            _ => {}
        }
    }
    if !lab.calm().await {
        restless.push("L1: no rest after the faults were over".to_owned());
    }
    let lines = lab.lines();
    let before = lab.marks();
    lab.pass(Duration::from_secs(10 * 61)).await;
    let after = lab.marks();
    if before != after && restless.is_empty() {
        restless.push(format!("L3: {} changes and {} status writes in ten quiet passes", after.0 - before.0, after.1 - before.1));
    }
    lab.check_truth();
    let seen = lab.watcher.seen();
    let mut violations = seen.violations.clone();
    violations.extend(restless);
    let converged = seen.last_mutation.zip(seen.last_cause).map_or(Duration::ZERO, |(change, cause)| change.saturating_duration_since(cause));
    Outcome {
        calls,
        events,
        mutations: seen.mutations,
        lines,
        creates: seen.creates.clone(),
        removes: seen.removes.clone(),
        violations,
        trace: seen.trace.clone(),
        hash: seen.hash(),
        converged,
    }
}

/// The same on a fresh runtime whose time is virtual; what panics in it is a violation.
pub fn run_alone(scenario: &Scenario, mode: Mode, seed: u64, faults: &[Fault], bug: Option<Bug>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    PANICS.with_borrow_mut(Vec::clear);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(run(scenario, mode, seed, faults, bug))));
    runtime.shutdown_background();
    let mut outcome = outcome.unwrap_or_default();
    outcome.violations.extend(PANICS.with_borrow(|panics| panics.iter().map(|panic| format!("panic: {panic}")).collect::<Vec<_>>()));
    outcome
}

thread_local! {
    /// What panicked on this thread.
    pub static PANICS: std::cell::RefCell<Vec<String>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Keeps what panics for [`run_alone`].
pub fn catch_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.to_string();
        // A thread that ends has no such list any more.
        let _gone = PANICS.try_with(|panics| panics.borrow_mut().push(text));
    }));
}
