//! One object: facts, intent, plan, check, execute, record, status; again until there is nothing left to do now.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::effects::{Grant, ObjectEffects};
use super::intent::QUARANTINE;
use super::store::{Entry, Rest};
use super::{Announcement, Controller, history};
use crate::desired::{DesiredState, Intent, naming};
use crate::executor::{self, NodeResult, Report};
use crate::observed::{Look, TaskKey, TaskState};
use crate::planner::{self, Action, Operation, Plan, PlanInput, Standing, Verdict, WaitKey, check, image};
use crate::resource::status::{Next, NextAction, Phase, Status};
use crate::resource::{Condition, ConditionType, Kind, ObjectRef, Reason, Resource, Truth, Uid};
use crate::runtime::{Error, Refusal};
use crate::state::{Facts, LedgerError, Trigger};
use crate::status::project::{self, Projection};

/// Rounds of plan and execution in one turn; what has no end then is not to keep the engine busy.
const ROUNDS: usize = 12;
/// Rounds of a turn in which a container that goes meanwhile is no failure; after them it seems to stay.
const GOING_ROUNDS: usize = 2;
/// How long an engine may be away before statuses say so.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a turn ended.
enum Turn {
    /// Nothing is left to do now.
    Settled,
    /// Something failed: again after a while.
    Failed,
}

impl Controller {
    /// Works on one object until it is settled, waits, or fails; then says when it is due again.
    pub(super) async fn reconcile(&self, key: &ObjectRef, trigger: Trigger) {
        if self.engine_is_away(key).await || !self.may_plan() || self.is_cooling(key, trigger) {
            return;
        }
        let turn = match self.turn(key, trigger).await {
            Ok(turn) => turn,
            Err(error) => {
                tracing::error!(object = %key, error = &error as &dyn std::error::Error, "the ledger failed; nothing is done without it");
                Turn::Failed
            }
        };
        let pause = {
            let mut store = self.store();
            let mut entry = store.objects.get_mut(key);
            let failed = matches!(turn, Turn::Failed);
            let failures = entry.as_ref().map_or(3, |entry| if failed { entry.failures + 1 } else { 0 });
            let pause = failed.then(|| self.jittered(failures));
            if let Some(entry) = &mut entry {
                entry.settled = matches!(turn, Turn::Settled);
                entry.failures = failures;
                entry.not_before = pause.map(|pause| Instant::now() + pause);
            }
            if failed {
                store.becomes_stale(key, Look::Engine);
            }
            pause
        };
        match turn {
            Turn::Settled => {}
            Turn::Failed => self.queue.push_after(key.clone(), pause.unwrap_or_default()),
        }
    }

    /// After a failure, what the engine tells waits until it is tried again: the failure itself may have made it tell that.
    fn is_cooling(&self, key: &ObjectRef, trigger: Trigger) -> bool {
        let until_then = self.store().objects.get(key).and_then(|entry| entry.not_before).filter(|_| trigger == Trigger::Event);
        let left = until_then.map(|then| then.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero());
        if let Some(left) = left {
            self.queue.push_after(key.clone(), left);
        }
        left.is_some()
    }

    /// Without the permission to change things nothing is planned; that another engine answers is said all the same.
    fn may_plan(&self) -> bool {
        !self.parts.permission.is_revoked() || self.store().engine_changed.is_some()
    }

    /// While the engine is away nothing is planned; after a while statuses say that nothing is known.
    async fn engine_is_away(&self, key: &ObjectRef) -> bool {
        let Some((since, why)) = self.store().engine_lost.clone() else { return false };
        let left = PATIENCE.saturating_sub(since.elapsed());
        if !left.is_zero() {
            self.queue.push_after(key.clone(), left);
            return true;
        }
        let now = self.now();
        let entry = self.store().objects.get(key).cloned();
        if let Some((entry, before)) = entry.and_then(|e| e.status.clone().map(|status| (e, status))) {
            let message = format!("the engine does not answer: {why}; start it, or see `dockmaster doctor`");
            let status = project::unknown(&before, ConditionType::EngineUnavailable, &message, now);
            self.publish(key, &entry, status, now).await;
        }
        true
    }

    /// A second, doubled with each failure, at most five minutes, and up to a quarter more, so that many do not come back at once.
    fn jittered(&self, failures: u32) -> Duration {
        let base = Duration::try_from(image::backoff(failures, 1)).unwrap_or(Duration::from_secs(1));
        let mut byte = [0];
        self.parts.randomness.fill(&mut byte);
        base + base.mul_f64(f64::from(byte[0]) / 1024.0)
    }

    async fn turn(&self, key: &ObjectRef, trigger: Trigger) -> Result<Turn, LedgerError> {
        if key.kind == Kind::Namespace {
            return self.namespace(key).await;
        }
        let grant = self.parts.permission.grant();
        let (revision, now) = (self.revision(), self.now());
        {
            let mut store = self.store();
            // What was told was seen by the look that followed an operation of its own.
            if trigger == Trigger::Event && store.is_at_rest(key, revision, now) {
                return Ok(Turn::Settled);
            }
            if let Some(entry) = store.objects.get_mut(key) {
                entry.rest = None;
            }
        }
        let mut look = matches!(trigger, Trigger::Deadline | Trigger::Command).then_some(Look::Engine);
        for round in 0..ROUNDS {
            let Some(entry) = self.store().objects.get(key).cloned() else { return Ok(Turn::Settled) };
            if let Some(Resource::Tenant(_) | Resource::WorkspaceType(_)) = entry.item.as_ref().map(|item| &item.resource) {
                let now = self.now();
                let mut status = project::definition(entry.admission.generation, entry.status.as_deref(), now);
                status.conditions.extend(entry.hold.clone());
                let revision = self.revision();
                self.publish(key, &entry, status, now).await;
                self.rests(key, Rest { revision, since: now, until: None });
                return Ok(Turn::Settled);
            }
            let stale = self.store().stale.get(key).copied();
            if let Some(look) = look.max(stale) {
                match self.look(key, look).await {
                    Ok(true) => {
                        // Only now can those who wait for this object see what became of it.
                        let waiting = self.store().waiting_for(&WaitKey::Object(key.clone()));
                        waiting.into_iter().for_each(|waiter| self.queue.push(waiter, Trigger::Event));
                    }
                    Ok(false) => {}
                    Err(_) => return Ok(Turn::Failed),
                }
            }
            let (revision, since) = (self.revision(), self.now());
            let mut facts = self.parts.ledger.facts(&entry.admission.uid).await?;
            let intent = self.intent(key, &entry, &mut facts).await?;
            let (plan, checked) = self.plan(key, &intent, &facts);
            if let Err(broken) = checked {
                tracing::error!(object = %key, broken, "the plan breaks a promise and is not run");
                self.report(key, &entry, &intent, &facts, &failed(plan, &broken)).await;
                return Ok(Turn::Failed);
            }
            if plan.is_empty() {
                self.report(key, &entry, &intent, &facts, &plan).await;
                self.schedule(key, &plan);
                // What could not be granted may be granted later, and what was put off may be right by then without anything having changed.
                let is_final = plan.is_settled() && plan.skipped.is_empty() && plan.verdict.conditions.is_empty();
                if is_final && matches!(intent.as_ref(), Intent::Present(desired) if desired.fatal.is_empty()) {
                    self.rests(key, Rest { revision, since, until: plan.due() });
                }
                return Ok(Turn::Settled);
            }
            let report = self.execute(key, &entry, trigger, &grant, &plan).await?;
            if let Some(error) = report.first_error() {
                self.lower_again(key);
                if self.look(key, Look::Engine).await.is_err() {
                    return Ok(Turn::Failed);
                }
                // What somebody removes meanwhile is no failure: it is planned over what is left.
                let is_going = matches!(error, Error::Rejected { reason: Refusal::Going, .. }) && round < GOING_ROUNDS;
                if is_going || self.other_port(key, &entry, &intent, error).await? {
                    look = None;
                    continue;
                }
                self.report(key, &entry, &intent, &facts, &failed(plan, &explained(error))).await;
                return Ok(Turn::Failed);
            }
            if !entry.port_failures.is_empty()
                && let Some(entry) = self.store().objects.get_mut(key)
            {
                entry.port_failures.clear();
            }
            if round + 1 == ROUNDS {
                let done: Vec<String> = plan.nodes.iter().map(|node| format!("{} {}", node.operation.name(), node.operation.target())).collect();
                let done = done.join(", ");
                let message = format!("after {ROUNDS} rounds of changes the last does not show ({done}); `dockmaster why {key}` tells of all");
                self.report(key, &entry, &intent, &facts, &failed(plan, &message)).await;
                break;
            }
            // Only what changed Docker needs another look; a fact or a task begun does not.
            let changes_docker = |operation: &Operation| !matches!(operation, Operation::Record(_) | Operation::Begin(..) | Operation::Forget(_));
            look = plan.nodes.iter().any(|node| changes_docker(&node.operation)).then_some(Look::Object);
            let shares = plan.nodes.iter().any(|node| makes_shared_volume(&node.operation));
            if shares && self.look(&naming::namespace_ref(key.ns()), Look::Object).await.is_err() {
                return Ok(Turn::Failed);
            }
        }
        Ok(Turn::Failed)
    }

    /// The last plan stands for as long as nothing changes that it was made from.
    fn rests(&self, key: &ObjectRef, rest: Rest) {
        if let Some(entry) = self.store().objects.get_mut(key) {
            entry.rest = Some(rest);
        }
    }

    /// Makes the plan of one object over what is known now.
    pub(super) fn plan(&self, key: &ObjectRef, intent: &Intent, facts: &Facts) -> (Plan, Result<(), String>) {
        self.plan_over(key, intent, facts, self.parts.runtime.tasks())
    }

    /// The same, with these tasks begun or done.
    pub(super) fn plan_over(&self, key: &ObjectRef, intent: &Intent, facts: &Facts, tasks: BTreeMap<TaskKey, TaskState>) -> (Plan, Result<(), String>) {
        let over_quota = self.over_quota(key);
        let capabilities = self.capabilities();
        let now = self.now();
        // Held until the turn is taken, so that no two take the same.
        let mut world = self.world();
        world.take_tasks(tasks, now);
        let standing = {
            let store = self.store();
            Standing { over_quota, inherited_turn: store.has_turn(key), source: store.source_of(intent) }
        };
        let input = PlanInput { object: key, intent, world: &world, facts, standing: &standing, now, capabilities: &capabilities };
        let plan = planner::plan(&input);
        let checked = check::check(&input, &plan);
        self.take_turn(key, &plan);
        (plan, checked)
    }

    /// Remembers who is being replaced, so that an inherited change goes through a few at a time, and wakes the next when one is through.
    fn take_turn(&self, key: &ObjectRef, plan: &Plan) {
        let mut store = self.store();
        if plan.nodes.iter().any(|node| node.action == Action::Replace) {
            store.turns.insert(key.clone());
        } else if plan.is_empty() && !plan.verdict.reconciling && store.turns.remove(key) {
            let waiting = store.waiting_for(&WaitKey::Turn);
            drop(store);
            self.revise();
            waiting.into_iter().for_each(|waiter| self.queue.push(waiter, Trigger::Event));
        }
    }

    async fn execute(&self, key: &ObjectRef, entry: &Entry, trigger: Trigger, grant: &Grant, plan: &Plan) -> Result<Report, LedgerError> {
        {
            let mut store = self.store();
            for node in &plan.nodes {
                if let Operation::Begin(task, _) = &node.operation {
                    store.task_owners.entry(task.clone()).or_default().insert(key.clone());
                }
            }
        }
        let runtime = self.parts.runtime.as_ref();
        let effects = ObjectEffects { runtime, ledger: self.parts.ledger.as_ref(), object: key, uid: &entry.admission.uid, permission: grant };
        let report = executor::run(&effects, plan).await;
        self.revise();
        let now = self.now();
        for event in history::events(key, plan, &report, now) {
            self.tell(event).await;
        }
        if let Some(journal) = history::journal(key, entry.admission.generation, trigger, plan, &report, now) {
            tracing::info!(object = %key, operations = journal.operations.len(), failed = !report.is_success(), "reconciled");
            if let Err(error) = self.parts.ledger.journal(&journal).await {
                tracing::warn!(object = %key, error = &error as &dyn std::error::Error, "the journal was not kept");
            }
        }
        let is_released = is_done(plan, &report, |operation| matches!(operation, Operation::Release));
        if is_released || is_done(plan, &report, |operation| matches!(operation, Operation::ReleaseLeases)) {
            // Who waits for what was given back is not to find it in the world still.
            drop(self.look(key, Look::Object).await);
        }
        self.after_execution(key, plan, &report);
        if is_released {
            self.released(key).await?;
        }
        Ok(report)
    }

    /// An object is forgotten; the next of its name may wait already.
    async fn released(&self, key: &ObjectRef) -> Result<(), LedgerError> {
        let entry = self.store().forget(key);
        drop(self.announcements.send(Announcement::Deleted(key.clone())));
        for next in entry.into_iter().flat_map(|entry| entry.item.into_iter().chain(entry.others)) {
            self.apply((*next).clone()).await?;
        }
        Ok(())
    }

    /// Wakes those who waited for what was just given back.
    fn after_execution(&self, key: &ObjectRef, plan: &Plan, report: &Report) {
        let done = |wanted: fn(&Operation) -> bool| is_done(plan, report, wanted);
        if done(|operation| matches!(operation, Operation::ReleaseLeases | Operation::Release)) {
            let waiting = self.store().waiting_for(&WaitKey::Leases);
            waiting.into_iter().for_each(|waiter| self.queue.push(waiter, Trigger::Event));
        }
        if done(|operation| matches!(operation, Operation::Remove(_) | Operation::Stop { .. } | Operation::Release)) && key.kind != Kind::Namespace {
            self.enqueue_waiters(key);
        }
    }

    fn enqueue_waiters(&self, key: &ObjectRef) {
        let waiting: Vec<ObjectRef> = {
            let store = self.store();
            let mut waiting = store.waiting_for(&WaitKey::Object(key.clone()));
            waiting.extend(store.waiting_for(&WaitKey::Roster(key.ns().to_owned())));
            waiting.push(naming::namespace_ref(key.ns()));
            waiting
        };
        waiting.into_iter().for_each(|waiter| self.queue.push(waiter, Trigger::Event));
    }

    /// A port that could not be bound is left alone and another is leased, three times at most for as long as such ports are left alone; a
    /// fixed one is a conflict.
    async fn other_port(&self, key: &ObjectRef, entry: &Entry, intent: &Intent, error: &Error) -> Result<bool, LedgerError> {
        let (Error::Rejected { reason: Refusal::PortTaken, message }, Intent::Present(desired)) = (error, intent) else { return Ok(false) };
        let recent = entry.port_failures.iter().filter(|at| at.elapsed() < QUARANTINE).count();
        if recent >= 3 || !self.revoke_ports(key, &entry.admission.uid, desired, message).await? {
            return Ok(false);
        }
        if let Some(entry) = self.store().objects.get_mut(key) {
            entry.port_failures.retain(|at| at.elapsed() < QUARANTINE);
            entry.port_failures.push(Instant::now());
        }
        Ok(true)
    }

    /// The network that a namespace shares; it goes with the last object.
    async fn namespace(&self, key: &ObjectRef) -> Result<Turn, LedgerError> {
        let users = self.users(&key.name);
        if !users.is_empty() {
            let stale = self.store().stale.contains_key(key);
            let is_news = if stale { self.look(key, Look::Object).await } else { Ok(false) };
            if matches!(is_news, Ok(true)) {
                // What it has is held by every object of the namespace.
                users.into_iter().for_each(|user| self.queue.push(user, Trigger::Event));
            }
            return Ok(if is_news.is_ok() { Turn::Settled } else { Turn::Failed });
        }
        let name = naming::namespace_network(&self.parts.settings.installation, &key.name);
        if self.look(key, Look::Object).await.is_err() {
            return Ok(Turn::Failed);
        }
        if self.world().networks.named(&name).next().is_none() {
            return Ok(Turn::Settled);
        }
        let network = crate::desired::NetworkWant { name, subnet: String::new(), labels: std::collections::BTreeMap::new() };
        let intent = Intent::Shared { network, users };
        let (plan, checked) = self.plan(key, &intent, &Facts::default());
        if plan.is_empty() || checked.is_err() {
            self.schedule(key, &plan);
            return Ok(Turn::Settled);
        }
        let uid = Uid(format!("namespace/{}", key.name));
        let effects = ObjectEffects {
            runtime: self.parts.runtime.as_ref(),
            ledger: self.parts.ledger.as_ref(),
            object: key,
            uid: &uid,
            permission: &self.parts.permission.grant(),
        };
        let report = executor::run(&effects, &plan).await;
        // Until the next look the network seems to be there, and its addresses may be another's by then.
        self.store().networks.remove(&key.name);
        self.after_execution(key, &plan, &report);
        Ok(if report.is_success() { Turn::Settled } else { Turn::Failed })
    }

    /// Projects and publishes the status that a plan means.
    async fn report(&self, key: &ObjectRef, entry: &Entry, intent: &Intent, facts: &Facts, plan: &Plan) {
        let now = self.now();
        let desired: Option<&DesiredState> = match intent {
            Intent::Present(desired) => Some(desired),
            Intent::Absent(_) | Intent::Hold(_) | Intent::Shared { .. } => None,
        };
        let mut status = {
            let world = self.world();
            let address = self.parts.settings.publish_address;
            let generation = entry.admission.generation;
            project::project(&Projection { object: key, generation, desired, world: &world, facts, before: entry.status.as_deref(), address, now }, plan)
        };
        if desired.is_none()
            && let (Some(before), Intent::Hold(_)) = (&entry.status, intent)
        {
            status = Status { phase: before.phase, conditions: status.conditions, ..Status::clone(before) };
        }
        self.add_source_condition(&mut status, entry, now);
        self.publish(key, entry, status, now).await;
    }

    /// What stands between an object and its source: an unhealthy source, a deletion that is not believed, or further documents with its key. What
    /// is known of it is kept running all the same.
    pub(super) fn add_source_condition(&self, status: &mut Status, entry: &Entry, now: Timestamp) {
        let Some(item) = &entry.item else { return };
        let mut conditions = Vec::new();
        if let Some(why) = self.store().sources.get(&item.origin.source).and_then(|state| state.unhealthy.clone()) {
            conditions.push(Condition::abnormal(ConditionType::SourceUnhealthy, why));
        }
        conditions.extend(entry.hold.clone());
        if let Some(other) = entry.others.first() {
            let message = format!("{} has the same kind, namespace and name; rename or remove it", other.origin);
            conditions.push(Condition::abnormal(ConditionType::DuplicateObject, message));
        }
        for condition in &mut conditions {
            let known = entry.status.as_ref().and_then(|status| status.condition(condition.type_)).and_then(|known| known.last_transition_time);
            condition.last_transition_time = known.or(Timestamp::from_second(now.as_second()).ok());
        }
        status.conditions.retain(|known| conditions.iter().all(|condition| condition.type_ != known.type_));
        status.conditions.extend(conditions);
    }

    /// Keeps a status, tells those who watch, and writes it where it lives; all only when it says something new.
    pub(super) async fn publish(&self, key: &ObjectRef, entry: &Entry, status: Status, now: Timestamp) {
        let status = Arc::new(status);
        if entry.status.as_ref() != Some(&status) {
            self.revise();
            if let Some(known) = self.store().objects.get_mut(key) {
                known.status = Some(status.clone());
            }
            let value = serde_json::to_value(status.as_ref()).unwrap_or_default();
            if let Err(error) = self.parts.ledger.save_status(key, &value, now).await {
                tracing::warn!(object = %key, error = &error as &dyn std::error::Error, "a status was not kept");
            }
            drop(self.announcements.send(Announcement::Status(key.clone(), status.clone())));
            if entry.status.as_ref().map(|before| before.phase) != Some(status.phase) {
                self.enqueue_waiters(key);
                if status.phase == Phase::Stopped {
                    // It may give its port up now.
                    let waiting = self.store().waiting_for(&WaitKey::Leases);
                    waiting.into_iter().for_each(|waiter| self.queue.push(waiter, Trigger::Event));
                }
            }
        }
        let Some(item) = &entry.item else { return };
        self.parts.reporter.offer(key, &item.origin, &status);
    }

    /// Says when an object is due again, and for what it waits.
    fn schedule(&self, key: &ObjectRef, plan: &Plan) {
        let now = self.now();
        {
            let mut store = self.store();
            store.stop_waiting(key);
            let tasks = self.parts.runtime.tasks();
            for waiting in &plan.waiting {
                match &waiting.on {
                    WaitKey::Task(task) => {
                        store.task_owners.entry(task.clone()).or_default().insert(key.clone());
                        // It may have ended since the plan was made, when nobody knew yet who waits for it.
                        if !matches!(tasks.get(task), Some(TaskState::Running { .. })) {
                            self.queue.push(key.clone(), Trigger::Task);
                        }
                    }
                    WaitKey::Object(_) | WaitKey::Container(_) | WaitKey::Leases | WaitKey::Roster(_) | WaitKey::Turn | WaitKey::Time => {
                        store.wait(key, &waiting.on);
                    }
                }
            }
        }
        if let Some(at) = plan.due() {
            self.queue.push_after(key.clone(), until(now, at));
        }
    }
}

/// Whether it makes a volume of the namespace, which is not seen by a look at the object.
fn makes_shared_volume(operation: &Operation) -> bool {
    let Operation::EnsureVolume { labels, .. } = operation else { return false };
    labels.get(naming::KIND).is_some_and(|kind| kind == Kind::Namespace.singular())
}

/// Whether an operation of that sort was carried out.
fn is_done(plan: &Plan, report: &Report, wanted: fn(&Operation) -> bool) -> bool {
    plan.nodes.iter().zip(&report.nodes).any(|(node, (result, _))| wanted(&node.operation) && matches!(result, NodeResult::Done(_)))
}

/// The time from one instant to another, at least a little, so that a deadline has passed when it is looked at.
fn until(now: Timestamp, at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO) + Duration::from_millis(10)
}

/// The plan as it stands after its execution failed: not ready, and why.
fn failed(mut plan: Plan, message: &str) -> Plan {
    let phase = if plan.verdict.phase == Phase::Running { Phase::Running } else { Phase::Error };
    let conditions = std::mem::take(&mut plan.verdict.conditions);
    plan.verdict = Verdict::new(phase, Truth::False, Reason::Failed, message);
    plan.verdict.reconciling = true;
    plan.verdict.conditions = conditions;
    if let Some(next) = &mut plan.next
        && next.action == NextAction::Retry
    {
        *next = Next { action: NextAction::Retry, at: next.at, why: message.to_owned() };
    }
    plan
}

/// An engine's refusal with what to do about it.
fn explained(error: &Error) -> String {
    match error {
        Error::Rejected { reason: Refusal::PortTaken, message } => format!("{message}; free the port, or choose another in the spec"),
        Error::Rejected { reason: Refusal::NetworkFull, message } => {
            format!("{message}; a namespace's network has 61 addresses, a private one of services 13: declare some of them in another namespace")
        }
        Error::Rejected { reason: Refusal::DiskFull, message } => format!("{message}; free space on the engine's disk"),
        Error::Rejected { .. } | Error::Transient(_) | Error::Unknown(_) => error.to_string(),
    }
}
