//! One run: an engine, a directory and a ledger that outlive every operator, and an operator that may be killed, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use dockmaster::config::prune_setting;
use dockmaster::controller::{Clock, Randomness};
use dockmaster::desired::naming;
use dockmaster::resource::{Kind, ObjectRef, Status, Truth};
use dockmaster::state::memory::MemoryLedger;
use dockmaster::state::{Fact, Ledger};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::bugs::Bug;
use super::engine::{Engine, Mode};
use super::fault::{Delivery, Fault};
use super::folder::{Folder, SOURCE, stripped};
use super::life::{LabHost, Life, Site};
use super::scenario::{Scenario, Step, Verb};
use super::view;
use super::watcher::{Strike, Watcher};

/// Nothing changes for so long: more than a full pass.
const CALM: Duration = Duration::from_secs(65);
/// The same where several answers may stay away, one after the other.
const CALM_AMONG_FAULTS: Duration = Duration::from_secs(190);
/// How long a run may take to be calm after a step.
const PATIENCE: Duration = Duration::from_secs(1200);
/// A run with more calls has gone astray; and one with a seeded defect is known to have one.
const MOST: u64 = 30_000;
const MOST_OF_A_BUG: u64 = 6_000;
/// How long an operator that died is away.
const AWAY: Duration = Duration::from_secs(1);

/// Virtual time as wall time, with jumps.
pub struct LabClock {
    begun: Instant,
    offset: AtomicI64,
    jumps: AtomicU64,
}

impl LabClock {
    fn new() -> Arc<Self> {
        Arc::new(Self { begun: Instant::now(), offset: AtomicI64::new(0), jumps: AtomicU64::new(0) })
    }

    /// How often it was set.
    pub fn jumps(&self) -> u64 {
        self.jumps.load(Ordering::SeqCst)
    }

    pub fn jump(&self, by: i64) {
        self.jumps.fetch_add(1, Ordering::SeqCst);
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

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub calls: u64,
    pub events: u64,
    /// The calls that listed containers.
    pub lists: BTreeSet<u64>,
    pub mutations: u64,
    pub lines: BTreeSet<String>,
    pub creates: BTreeMap<String, u64>,
    pub removes: BTreeMap<String, u64>,
    pub violations: Vec<String>,
    pub trace: Vec<String>,
    pub hash: u64,
    /// From the last fault or deed to the last change.
    pub converged: Duration,
    /// Containers and networks of objects that are not declared.
    pub leftovers: Vec<String>,
    /// Volumes that had data at some time.
    pub seeded: BTreeSet<String>,
}

/// See the module.
pub struct Lab {
    site: Site,
    strikes: mpsc::UnboundedReceiver<Strike>,
    faults: Vec<Fault>,
    /// By the number of their operator, from 1.
    ledgers: BTreeMap<u64, Arc<MemoryLedger>>,
    lives: BTreeMap<u64, Life>,
    /// How many lives there have been.
    born: usize,
}

/// The operator that the steps are about.
const FIRST: u64 = 1;

impl Lab {
    fn new(scenario: &Scenario, mode: Mode, seed: u64, faults: Vec<Fault>, bug: Option<Bug>) -> Self {
        let clock = LabClock::new();
        let folder = Folder::new();
        let (sender, strikes) = mpsc::unbounded_channel();
        let jumping = clock.clone();
        let watcher = Arc::new(Watcher::new(folder.clone(), faults.clone(), sender.clone(), Box::new(move |by| jumping.jump(by))));
        let telling = clock.clone();
        let engine = Engine::new(mode, seed, Arc::new(move || telling.now()), watcher.clone());
        let (randomness, host) = (Arc::new(Seeded::new(seed)), Arc::new(LabHost::default()));
        let own = |operator| if scenario.clones && operator != FIRST { Folder::new() } else { folder.clone() };
        let folders = (FIRST..=scenario.operators).map(|operator| (operator, own(operator))).collect();
        let site = Site { engine, folder, folders, clock, randomness, host, watcher, strikes: sender, bug, locks: scenario.operators > 1 };
        let ledgers = (FIRST..=scenario.operators).map(|operator| (operator, Arc::default())).collect();
        Self { site, strikes, faults, ledgers, lives: BTreeMap::new(), born: 0 }
    }

    /// Starts an operator.
    fn boot(&mut self, operator: u64) {
        let life = Life::begin(&self.site, operator, self.ledgers[&operator].clone());
        self.lives.insert(operator, life);
        self.born += 1;
    }

    /// Kills an operator.
    fn kill(&mut self, operator: u64) {
        if let Some(life) = self.lives.remove(&operator) {
            life.kill();
        }
    }

    /// What a fault leads to.
    async fn suffer(&mut self, strike: Strike) {
        match strike {
            Strike::Crash { operator, lose_state } => {
                self.site.watcher.note(if lose_state { "operator dies, and its state is gone" } else { "operator dies" });
                self.kill(operator);
                if lose_state {
                    self.lose_state(operator);
                }
                tokio::time::sleep(AWAY).await;
                self.boot(operator);
            }
            Strike::EngineRestart { killed, starting } => {
                self.site.watcher.note(if killed { "engine is killed" } else { "engine restarts" });
                self.site.engine.down(!killed);
                tokio::time::sleep(Duration::from_secs(3)).await;
                self.site.engine.up();
                starting.iter().for_each(|container| self.site.engine.strand(container));
            }
        }
    }

    fn lose_state(&mut self, operator: u64) {
        self.ledgers.insert(operator, Arc::default());
        self.site.watcher.seen().state_lost = true;
    }

    /// Waits until nothing changes any more; `struck` faults were over before. False: it does not come to rest.
    async fn calm(&mut self, struck: usize) -> bool {
        let begun = Instant::now();
        let mut since = (Instant::now(), self.marks());
        let most = if self.site.bug.is_some() { MOST_OF_A_BUG } else { MOST };
        while begun.elapsed() < PATIENCE && self.site.watcher.seen().calls < most {
            if self.is_exposed() {
                return true;
            }
            tokio::select! { biased;
                Some(strike) = self.strikes.recv() => self.suffer(strike).await,
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
            self.site.engine.seed_volumes();
            let marks = self.marks();
            if marks != since.1 || self.site.engine.is_suspended() {
                since = (Instant::now(), marks);
            } else if since.0.elapsed() >= if self.faults.len() > 1 && self.struck() > struck { CALM_AMONG_FAULTS } else { CALM } {
                return true;
            }
        }
        false
    }

    /// How many faults were there already.
    fn struck(&self) -> usize {
        let seen = self.site.watcher.seen();
        let was = |fault: &&Fault| match **fault {
            Fault::Event { index, .. } => index <= seen.events,
            fault => fault.at().is_some_and(|at| at <= seen.calls),
        };
        self.faults.iter().filter(was).count()
    }

    /// What changes as long as something is done.
    fn marks(&self) -> (u64, u64) {
        (self.site.watcher.seen().mutations, self.site.folders.values().map(|folder| folder.writes()).sum())
    }

    /// Whether a seeded defect has shown: the first sign is enough.
    fn is_exposed(&self) -> bool {
        self.site.bug.is_some() && !self.site.watcher.seen().violations.is_empty()
    }

    async fn pass(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end && !self.is_exposed() {
            tokio::select! { biased;
                Some(strike) = self.strikes.recv() => self.suffer(strike).await,
                () = tokio::time::sleep_until(end) => {}
            }
        }
    }

    async fn step(&mut self, step: &Step) {
        self.site.watcher.note(&format!("step {step:?}").replace('\n', " "));
        match step {
            Step::Write(..) | Step::Edit(..) | Step::Remove(_) | Step::Move(..) | Step::Checkout(_) => {
                self.site.folder.change(|files| step.change(files));
            }
            Step::Human(human) => {
                if let super::scenario::Human::Pause(name) = human {
                    self.site.watcher.seen().paused_by_people.insert((*name).to_owned());
                }
                if let super::scenario::Human::TakePort(_) = human {
                    self.site.watcher.seen().ports_may_move = true;
                }
                self.site.engine.human(human).await;
            }
            Step::EngineRestart { in_order, seconds } => {
                self.site.engine.down(*in_order);
                self.pass(Duration::from_secs(*seconds)).await;
                self.site.engine.up();
            }
            Step::EngineDown => self.site.engine.down(true),
            Step::EngineUp => self.site.engine.up(),
            Step::Pass(time) => self.pass(*time).await,
            Step::Jump(by) => self.site.clock.jump(by.as_secs()),
            Step::Verb(verb) => self.verb(verb).await,
            Step::Crash => self.suffer(Strike::Crash { operator: FIRST, lose_state: false }).await,
            Step::CrashInStart => self.site.watcher.seen().dies_in_a_start = true,
            Step::OperatorDown => self.kill(FIRST),
            Step::OperatorUp => self.boot(FIRST),
            Step::LoseState => self.lose_state(FIRST),
            Step::Route(route) => self.site.host.routes.lock().unwrap().push((*route).to_owned()),
            Step::Trouble => self.site.folder.trouble(Some("the directory is not mounted")),
            Step::Pull => {
                let declared: BTreeMap<_, _> = self.site.folder.texts().into_iter().map(|(path, text)| (path, stripped(&text))).collect();
                self.site.folders.values().skip(1).for_each(|clone| clone.change(|files| files.clone_from(&declared)));
            }
            Step::UndoStatuses(writes) => self.site.folder.undo(*writes),
            Step::Well => self.site.folder.trouble(None),
            Step::AtOnce => {}
        }
    }

    async fn verb(&mut self, verb: &Verb) {
        let now = self.site.clock.now();
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
                self.ledgers[&FIRST].set_setting(&prune_setting(SOURCE), Some(&now.to_string())).await.unwrap();
                return self.nudge(None).await;
            }
        };
        let object = ObjectRef::new(Kind::Workspace, "alice", name);
        let ledger = &self.ledgers[&FIRST];
        let records = ledger.records().await.unwrap();
        let uid = records.into_iter().find(|record| record.object == object).map(|record| record.admission.uid);
        let Some(uid) = uid else { return };
        ledger.record(&uid, &[fact]).await.unwrap();
        self.nudge(Some(object)).await;
    }

    async fn nudge(&self, object: Option<ObjectRef>) {
        if let Some(controller) = self.lives.get(&FIRST).and_then(Life::controller) {
            controller.nudge(object).await;
        }
    }

    /// What the operator reads that may act: of two clones that of the lock's holder.
    fn acting(&self) -> &Folder {
        let view = self.site.engine.view();
        let holder = view.by_name(&naming::lock_container(view::INSTALLATION)).and_then(|lock| lock.label(view::HOLDER).parse().ok());
        holder.and_then(|operator: u64| self.site.folders.get(&operator)).unwrap_or(&self.site.folder)
    }

    /// The statuses in the files.
    fn statuses(&self) -> Vec<(ObjectRef, Status)> {
        let status = |item: dockmaster::source::Item| Some((item.resource.reference(), serde_json::from_value(item.resource.status()?.clone()).ok()?));
        self.acting().items().into_iter().filter_map(status).collect()
    }

    /// The abstract state: engine, files, statuses.
    fn lines(&self) -> BTreeSet<String> {
        let mut lines = self.site.engine.view().lines();
        for (path, text) in self.site.folder.texts() {
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

    /// Containers of objects that are not declared, and networks that neither anything declared nor a container needs.
    fn leftovers(&self) -> Vec<String> {
        let view = self.site.engine.view();
        let declared: BTreeSet<(String, String)> =
            self.site.folder.items().iter().map(|item| item.resource.reference()).map(|object| (object.ns().to_owned(), object.name)).collect();
        let is_declared = |labels: &BTreeMap<String, String>| {
            let (namespace, name) = (labels.get(naming::NAMESPACE), labels.get(naming::NAME));
            // What a namespace shares bears its name, and is in none.
            declared.iter().any(|(of, called)| if namespace.is_none() { name == Some(of) } else { namespace == Some(of) && name == Some(called) })
        };
        let containers = view.ours().filter(|container| !container.label(naming::UID).is_empty() && !is_declared(&container.labels));
        let is_used = |name: &String| view.ours().any(|container| container.networks.contains_key(name));
        let ours = |labels: &BTreeMap<String, String>| labels.get(naming::INSTALLATION).is_some_and(|installation| installation == view::INSTALLATION);
        let networks = view.networks.iter().filter(|network| ours(&network.labels) && !is_used(&network.name) && !is_declared(&network.labels));
        let containers = containers.map(|container| format!("container {}", container.name));
        containers.chain(networks.map(|network| format!("network {}", network.name))).collect()
    }

    /// The faults are over: the end must be reached.
    async fn settle(&mut self) -> Option<String> {
        // A lost event shows when its container is read again, in each tenth pass; after a loss of the state a change counts as inherited, which
        // waits for idleness.
        let minutes = |fault: &Fault| match fault {
            Fault::Event { how: Delivery::Lost | Delivery::Late, .. } => 11,
            Fault::LoseState { .. } => 12,
            _ => 0,
        };
        // A status that is written often without another phase is written only each ten minutes.
        let repeats = |phases: &[(Instant, String)]| phases.windows(2).filter(|two| two[0].1 == two[1].1).count();
        let often = self.site.folder.reports().values().any(|phases| repeats(phases) >= 6);
        let longest = self.faults.iter().map(minutes).chain(often.then_some(10)).max().unwrap_or_default();
        self.pass(Duration::from_secs(longest * 60)).await;
        (!self.calm(0).await).then(|| "L1: no rest after the faults were over".to_owned())
    }

    /// It must stay as it is.
    async fn rest(&mut self) -> Option<String> {
        let before = self.marks();
        self.pass(Duration::from_secs(10 * 61)).await;
        let after = self.marks();
        let (changes, writes) = (after.0 - before.0, after.1 - before.1);
        (before != after).then(|| format!("L3: {changes} changes and {writes} status writes in ten quiet passes"))
    }

    /// Whether what is said of objects is so.
    fn check_truth(&self) {
        let view = self.site.engine.view();
        let mut seen = self.site.watcher.seen();
        for (object, status) in self.statuses() {
            let ready = status.conditions.iter().find(|condition| condition.type_.as_str() == "Ready");
            let runs = ready.is_some_and(|ready| ready.status == Truth::True && ready.reason.as_str() == "Running");
            let told = status.container.as_ref();
            let container = told.and_then(|told| view.ours().find(|container| container.id.starts_with(&told.id)));
            let is = container.is_some_and(|container| container.state == "running");
            if let Some((told, container)) = told.zip(container).filter(|(told, container)| told.image != container.image_id) {
                seen.violations.push(format!("I23: {object} is told to be made from {}, and is from {}", told.image, container.image_id));
            }
            if runs && !is {
                seen.violations.push(format!("I12: {object} is told to be ready, and its container does not run"));
            }
        }
        // Each life tries again from the shortest wait on.
        let most = 12 * self.born;
        for (object, writes) in self.site.folders.values().flat_map(|folder| folder.reports()) {
            for window in writes.windows(most + 1).filter(|window| window[most].0.duration_since(window[0].0) < Duration::from_secs(3600)) {
                if window.iter().all(|(_, phase)| *phase == window[0].1) {
                    seen.violations.push(format!("I33: more than {most} writes in an hour for {object} without a change of phase"));
                    break;
                }
            }
        }
        seen.violations.extend(self.site.folders.values().flat_map(|folder| folder.take_harm()));
    }
}

/// Runs a scenario with faults to its end.
pub async fn run(scenario: &Scenario, mode: Mode, seed: u64, faults: &[Fault], bug: Option<Bug>) -> Outcome {
    let mut lab = Lab::new(scenario, mode, seed, faults.to_vec(), bug);
    (FIRST..=scenario.operators).for_each(|operator| lab.boot(operator));
    let mut restless = None;
    for (index, step) in scenario.steps.iter().enumerate() {
        lab.site.watcher.seen().last_cause = Some(Instant::now());
        let struck = lab.struck();
        lab.step(step).await;
        lab.site.watcher.seen().last_cause = Some(Instant::now());
        let at_once = matches!(step, Step::AtOnce) || matches!(scenario.steps.get(index + 1), Some(Step::AtOnce));
        let absent = lab.lives.is_empty() && lab.strikes.is_empty();
        if !at_once && !absent && !lab.calm(struck).await {
            restless = Some(format!("L2: no rest after step {index} within {} s or {} calls", PATIENCE.as_secs(), lab.site.watcher.seen().calls));
            break;
        }
        if lab.is_exposed() {
            break;
        }
    }
    let (calls, events) = {
        let mut seen = lab.site.watcher.seen();
        seen.armed = false;
        (seen.calls, seen.events)
    };
    // What does not come to rest has nothing more to show.
    if restless.is_none() && !lab.is_exposed() {
        restless = lab.settle().await;
    }
    let (lines, leftovers) = (lab.lines(), lab.leftovers());
    if restless.is_none() && !lab.is_exposed() {
        restless = lab.rest().await;
    }
    lab.check_truth();
    lab.site.engine.end();
    let seen = lab.site.watcher.seen();
    let mut violations = seen.violations.clone();
    violations.extend(seen.dies_in_a_start.then(|| "nothing was started where the operator was to die in a start".to_owned()));
    violations.extend(restless);
    let converged = seen.last_mutation.zip(seen.last_cause).map_or(Duration::ZERO, |(change, cause)| change.saturating_duration_since(cause));
    Outcome {
        calls,
        events,
        lists: seen.lists.clone(),
        mutations: seen.mutations,
        lines,
        creates: seen.creates.clone(),
        removes: seen.removes.clone(),
        violations,
        trace: seen.trace.clone(),
        hash: seen.hash(),
        converged,
        leftovers,
        seeded: lab.site.engine.seeded(),
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
