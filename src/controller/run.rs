//! The loops: sources, the engine's changes, the timer of the full pass, and the workers.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::Controller;
use super::store::Missing;
use crate::observed::{Look, TaskKey, TaskState, World};
use crate::resource::{ConditionType, Kind, ObjectRef};
use crate::runtime::Change;
use crate::source::SourceEvent;
use crate::state::{Event, EventReason, EventType, LedgerError, Trigger};

/// The ledger setting that remembers the engine.
pub const ENGINE_SETTING: &str = "engine";

/// Each so many full passes everything is planned anew, also what cannot have changed.
const THOROUGH: u64 = 10;

/// How a run with an end ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnceOutcome {
    /// Everything is as declared, or stopped as it should be.
    Settled,
    /// Not all is; each with the reason.
    Unsettled {
        /// Objects.
        objects: Vec<(ObjectRef, String)>,
        /// Sources that cannot be read whole, by name.
        sources: Vec<(String, String)>,
    },
}

impl Controller {
    /// Runs until told to stop; what is under way is finished, containers stay as they are.
    pub async fn run(self: &Arc<Self>, stop: CancellationToken) -> Result<(), LedgerError> {
        self.load().await?;
        let mut tasks = JoinSet::new();
        let (changes, mut engine) = tokio::sync::mpsc::channel(256);
        let mut stream = self.parts.runtime.changes();
        tasks.spawn(async move {
            while let Some(change) = stream.next().await {
                if changes.send(change).await.is_err() {
                    return;
                }
            }
        });
        // Subscribed first, listed then: what changes in between is not missed. Each connection is told as a `Resync`.
        let mut connected = false;
        loop {
            tokio::select! { biased;
                () = stop.cancelled() => return Ok(()),
                Some(change) = engine.recv() => match change {
                    Change::Resync => connected = true,
                    Change::Object(_) | Change::Task(_) | Change::Lost(_) => {
                        self.changed(change).await?;
                        continue;
                    }
                },
                () = tokio::time::sleep(Duration::from_secs(1)), if connected => {}
            }
            if self.observe(Trigger::Start).await? {
                break;
            }
        }
        let written = CancellationToken::new();
        let scribe = tokio::spawn(self.parts.reporter.clone().run(written.clone()));
        let (sender, mut sources) = tokio::sync::mpsc::channel(256);
        for source in &self.parts.sources {
            let (name, mut events, sender) = (source.name().to_owned(), source.events(), sender.clone());
            self.store().sources.entry(name.clone()).or_default();
            tasks.spawn(async move {
                while let Some(event) = events.next().await {
                    if sender.send((name.clone(), event)).await.is_err() {
                        return;
                    }
                }
            });
        }
        let mut workers: Option<JoinSet<()>> = None;
        let mut resync = tokio::time::interval(Duration::try_from(self.parts.settings.resync.0).unwrap_or(Duration::from_secs(60)));
        // Where a pass took longer than the time between two, the next one comes that time after it, and not at once.
        resync.set_missed_tick_behavior(MissedTickBehavior::Delay);
        resync.tick().await;
        loop {
            if workers.is_none() && self.is_listed() {
                self.begin();
                workers = Some(self.spawn_workers(&stop));
            }
            tokio::select! { biased;
                () = stop.cancelled() => break,
                Some((source, event)) = sources.recv() => {
                    // Trouble after the listing puts the decision off until it is over.
                    let listed = match &event {
                        SourceEvent::InitDone | SourceEvent::Healthy => true,
                        SourceEvent::Invalid { errors, .. } => errors.is_empty(),
                        SourceEvent::Init
                        | SourceEvent::InitApply(_)
                        | SourceEvent::Apply(_)
                        | SourceEvent::Reported { .. }
                        | SourceEvent::Gone(_)
                        | SourceEvent::Unhealthy(_) => false,
                    };
                    self.intake(&source, event).await?;
                    if listed {
                        self.decide_later(source);
                    }
                }
                Some(change) = engine.recv() => self.changed(change).await?,
                _ = resync.tick() => {
                    self.observe(Trigger::Resync).await?;
                    self.confirmed().await?;
                }
            }
        }
        drop(sources);
        if let Some(mut workers) = workers {
            while workers.join_next().await.is_some() {}
        }
        written.cancel();
        drop(scribe.await);
        Ok(())
    }

    /// Whether every source was listed, or cannot be.
    fn is_listed(&self) -> bool {
        let store = self.store();
        store.sources.values().all(|state| state.listed || state.unhealthy.is_some())
    }

    /// Everything that is known is due.
    fn begin(&self) {
        let keys = self.everything();
        keys.into_iter().for_each(|key| self.queue.push(key, Trigger::Start));
    }

    fn everything(&self) -> Vec<ObjectRef> {
        let mut keys: Vec<ObjectRef> = self.store().objects.keys().cloned().collect();
        let namespaces: std::collections::BTreeSet<ObjectRef> =
            self.world().networks.values().filter_map(|n| n.owner.as_ref()).map(|o| o.object.clone()).filter(|o| o.kind == Kind::Namespace).collect();
        keys.extend(namespaces);
        keys
    }

    /// Some time after a first listing, with another look at the source in between, what is still missing is gone.
    fn decide_later(self: &Arc<Self>, source: String) {
        let controller = self.clone();
        let settle = Duration::try_from(self.parts.settings.settle.0).unwrap_or(Duration::from_secs(2));
        tokio::spawn(async move {
            tokio::time::sleep(settle).await;
            controller.parts.sources.iter().filter(|s| s.name() == source).for_each(|s| s.rescan());
            tokio::time::sleep(settle).await;
            if let Err(error) = controller.decide_missing(&source).await {
                tracing::error!(error = &error as &dyn std::error::Error, "the ledger failed; nothing is deleted without it");
            }
        });
    }

    fn spawn_workers(self: &Arc<Self>, stop: &CancellationToken) -> JoinSet<()> {
        let (controller, stop) = (self.clone(), stop.clone());
        let mut workers = JoinSet::new();
        workers.spawn(async move {
            let permits = Arc::new(Semaphore::new(controller.parts.concurrency));
            let mut running = JoinSet::new();
            loop {
                let Ok(permit) = permits.clone().acquire_owned().await else { break };
                let (key, trigger) = tokio::select! { biased; () = stop.cancelled() => break, taken = controller.queue.take() => taken };
                let controller = controller.clone();
                running.spawn(async move {
                    let work = tokio::spawn({
                        let (controller, key) = (controller.clone(), key.clone());
                        async move { controller.reconcile(&key, trigger).await }
                    });
                    if let Err(panic) = work.await {
                        tracing::error!(object = %key, %panic, "a reconcile broke; it is tried again");
                        controller.queue.push_after(key.clone(), Duration::from_secs(30));
                    }
                    controller.queue.done(&key);
                    drop(permit);
                });
                while running.try_join_next().is_some() {}
            }
            while running.join_next().await.is_some() {}
        });
        workers
    }

    /// Lists the engine in full, after which everything is due. False when it does not answer.
    pub(super) async fn observe(&self, trigger: Trigger) -> Result<bool, LedgerError> {
        let begun = self.begin_look();
        let (world, capabilities) = match futures::try_join!(self.parts.runtime.observe(), self.parts.runtime.capabilities()) {
            Ok(seen) => seen,
            Err(error) => {
                self.lost(&error.to_string());
                return Ok(false);
            }
        };
        // One lock after the other: elsewhere the capabilities are read while the store is held.
        let changed = self.capabilities() != capabilities;
        *self.capabilities.write().unwrap_or_else(std::sync::PoisonError::into_inner) = capabilities;
        if changed {
            self.store().epoch += 1;
            self.revise();
        }
        self.same_engine(&world).await?;
        self.take_over(world, begun);
        if self.store().engine_lost.take().is_some() {
            self.revise();
        }
        if trigger != Trigger::Start {
            self.unrested().into_iter().for_each(|key| self.queue.push(key, trigger));
        }
        Ok(true)
    }

    /// Everything whose plan may be another than its last one; now and then all of it, because a promise that rests on nothing but that every
    /// change was counted is none.
    pub(super) fn unrested(&self) -> Vec<ObjectRef> {
        let (revision, now) = (self.revision(), self.now());
        let (all, moved) = {
            let mut looks = self.looks();
            looks.passes += 1;
            (looks.passes.is_multiple_of(THOROUGH), std::mem::replace(&mut looks.revision, revision) != revision)
        };
        let mut keys = self.everything();
        let store = self.store();
        keys.retain(|key| all || if store.objects.contains_key(key) { !store.is_at_rest(key, revision, now) } else { moved });
        keys
    }

    /// Another engine behind the same address knows nothing of what was made: nothing is changed until somebody says that this is meant.
    async fn same_engine(&self, world: &World) -> Result<(), LedgerError> {
        let known = self.parts.ledger.setting(ENGINE_SETTING).await?;
        let changed = known.as_ref().is_some_and(|known| *known != world.engine) && !self.parts.accept_engine;
        if changed {
            let message = format!(
                "engine {} answers, and {} did before; nothing is changed until the old one is back or `run --accept-engine` takes the new one",
                world.engine,
                known.unwrap_or_default()
            );
            if self.store().engine_changed.replace(message).is_none() {
                self.revise();
                tracing::error!(engine = %world.engine, "another engine answers than before; nothing is changed");
            }
        } else {
            if self.store().engine_changed.take().is_some() {
                self.revise();
            }
            if known.as_deref() != Some(world.engine.as_str()) {
                self.parts.ledger.set_setting(ENGINE_SETTING, Some(&world.engine)).await?;
            }
        }
        Ok(())
    }

    fn lost(&self, why: &str) {
        let first = {
            let mut store = self.store();
            let first = store.engine_lost.is_none();
            store.engine_lost.get_or_insert((Instant::now(), why.to_owned()));
            first
        };
        if first {
            tracing::warn!(why, "the engine does not answer");
            self.everything().into_iter().for_each(|key| self.queue.push(key, Trigger::Event));
        }
    }

    pub(super) async fn changed(&self, change: Change) -> Result<(), LedgerError> {
        match change {
            Change::Object(key) => {
                self.store().becomes_stale(&key, Look::Object);
                self.queue.push(key, Trigger::Event);
            }
            Change::Task(task) => self.task_changed(&task).await,
            Change::Resync => {
                // The engine is there anew: what failed before may go now.
                for entry in self.store().objects.values_mut() {
                    entry.failures = 0;
                    entry.not_before = None;
                }
                self.revise();
                self.observe(Trigger::Resync).await?;
            }
            Change::Lost(why) => self.lost(&why),
        }
        Ok(())
    }

    async fn task_changed(&self, task: &TaskKey) {
        let state = self.parts.runtime.tasks().remove(task);
        // What was pulled or made is known from another look only; other tasks change nothing in the engine.
        let fetched = matches!(task, TaskKey::Pull(_) | TaskKey::Helper) && matches!(state, Some(TaskState::Done { .. }));
        let owners = {
            let mut store = self.store();
            let owners = match state {
                Some(TaskState::Running { .. }) => store.task_owners.get(task).cloned(),
                Some(TaskState::Done { .. } | TaskState::Failed { .. }) | None => store.task_owners.remove(task),
            };
            owners.unwrap_or_default()
        };
        for key in owners {
            if fetched {
                self.store().becomes_stale(&key, Look::Engine);
            }
            if let (TaskKey::Pull(reference), true) = (task, fetched) {
                let (type_, reason) = (EventType::Normal, EventReason::Pulled);
                self.tell(Event { time: self.now(), type_, reason, object: Some(key.clone()), message: reference.clone(), count: 1 }).await;
            }
            self.queue.push(key, Trigger::Task);
        }
    }

    /// The permission to change things is back: what happened meanwhile is looked at, and everything is due.
    pub async fn resume(&self) -> Result<(), LedgerError> {
        self.revise();
        self.observe(Trigger::Resync).await.map(drop)
    }

    /// A command changed a file or a fact: look at the sources, and at one object or all.
    pub async fn nudge(&self, object: Option<ObjectRef>) {
        self.parts.sources.iter().for_each(|source| source.rescan());
        if let Err(error) = self.confirmed().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "confirmed deletions could not be read");
        }
        let keys = match object {
            Some(key) => {
                drop(self.reload(&key).await);
                vec![key]
            }
            None => self.everything(),
        };
        keys.into_iter().for_each(|key| self.queue.push(key, Trigger::Command));
    }

    /// Waits until nothing is under way any more, for a run with an end.
    pub async fn settled(&self, limit: Duration) -> OnceOutcome {
        let mut changes = self.subscribe();
        let deadline = Instant::now() + limit;
        loop {
            if self.is_quiet() {
                return self.outcome();
            }
            let looked = Instant::now();
            tokio::select! { biased;
                () = tokio::time::sleep_until(deadline) => return self.outcome(),
                _ = changes.recv() => {}
                () = tokio::time::sleep_until(looked + Duration::from_millis(100)) => {}
            }
            // Of many objects each tells its change, and each look is at all of them.
            tokio::time::sleep_until(looked + Duration::from_millis(10)).await;
            changes = self.subscribe();
        }
    }

    /// Everything was decided on, nothing is due, and every object's last turn left nothing to wait for but time to come.
    fn is_quiet(&self) -> bool {
        // Asked for each status that is told: while there is work, not all objects are looked at.
        if !self.queue.is_quiet() {
            return false;
        }
        let decided = {
            let store = self.store();
            !store.sources.is_empty()
                && store.sources.values().all(|state| state.unhealthy.is_some() || (state.listed && state.missing == Missing::Decided))
                && store.objects.values().all(|entry| entry.settled && !is_working(entry))
        };
        decided && self.queue.is_quiet()
    }

    fn outcome(&self) -> OnceOutcome {
        let store = self.store();
        let mut unsettled: Vec<(ObjectRef, String)> = Vec::new();
        for (key, entry) in &store.objects {
            let Some(status) = &entry.status else {
                unsettled.push((key.clone(), "nothing was seen of it yet".to_owned()));
                continue;
            };
            let bad = [ConditionType::Reconciling, ConditionType::Stalled, ConditionType::PruneBlocked];
            let stands = bad.into_iter().find(|type_| status.is_true(*type_));
            let buried = entry.tombstone.is_some() && entry.settled;
            if let Some(condition) = stands.and_then(|type_| status.condition(type_)).filter(|_| !buried) {
                unsettled.push((key.clone(), condition.message.clone()));
            }
        }
        let unreadable: Vec<(String, String)> = store.sources.iter().filter_map(|(name, state)| Some((name.clone(), state.unhealthy.clone()?))).collect();
        if unsettled.is_empty() && unreadable.is_empty() { OnceOutcome::Settled } else { OnceOutcome::Unsettled { objects: unsettled, sources: unreadable } }
    }
}

/// Whether the operator is still at work on it, as opposed to waiting for somebody.
fn is_working(entry: &super::store::Entry) -> bool {
    entry.tombstone.is_none() && entry.status.as_ref().is_none_or(|status| status.is_true(ConditionType::Reconciling))
}
