//! What sources say, taken into the store: admission, duplicates, disappearance, holds.
//!
//! **Invariant:** only a healthy source can delete, only what it showed before, and only as much at once as is believable or was confirmed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::store::{Entry, Missing, is_believable};
use super::{Announcement, Controller};
use crate::config::{deleted_setting, prune_setting};
use crate::desired::naming;
use crate::observed::{State, World};
use crate::planner::WaitKey;
use crate::resource::workspace::DeletionPolicy;
use crate::resource::{Condition, ConditionType, Kind, ObjectRef, Origin, Resource, Status, Uid};
use crate::source::select::FileContext;
use crate::source::{Item, SourceEvent};
use crate::state::{Admission, AdmittedAs, Consent, Document, Event, EventReason, EventType, Fact, LedgerError, Record, Tombstone, Trigger};

impl Controller {
    /// Loads what history knows, so that the last good version of every document is in force before any source speaks.
    pub(super) async fn load(&self) -> Result<(), LedgerError> {
        let statuses = self.parts.ledger.statuses().await?;
        for record in self.parts.ledger.records().await? {
            let status: Option<Status> = statuses.get(&record.object).and_then(|(value, _)| serde_json::from_value(value.clone()).ok());
            // A deletion that was held stays held, however small a part of its source it is by now.
            let hold = status.as_ref().and_then(|status| status.condition(ConditionType::PruneBlocked)).cloned();
            let item = if record.tombstone.is_none() { self.item_of(&record).map(Arc::new) } else { None };
            let entry = Entry {
                item,
                others: Vec::new(),
                admission: record.admission,
                hold: hold.filter(|_| record.tombstone.is_none()),
                tombstone: record.tombstone,
                status: status.map(Arc::new),
                failures: 0,
                port_failures: Vec::new(),
                not_before: None,
                lowered: None,
                settled: false,
                rest: None,
            };
            self.store().objects.insert(record.object, entry);
        }
        let ids = |status: &Status| {
            let services: Vec<String> = status.services.iter().filter_map(|service| service.id.clone()).collect();
            services.into_iter().chain(status.container.as_ref().map(|container| container.id.clone())).collect::<Vec<_>>()
        };
        let known = self.store().objects.values().filter_map(|entry| entry.status.as_deref()).flat_map(ids).collect();
        self.parts.runtime.recall(known);
        Ok(())
    }

    /// The last good document, read again from its kept text.
    fn item_of(&self, record: &Record) -> Option<Item> {
        let root = self.parts.settings.root_of(&record.origin);
        let path = root.map(|root| root.path.clone()).unwrap_or_default();
        // The namespace is in the key: the kept text need not say it.
        let pinned = root.and_then(|root| root.namespace.clone()).or_else(|| record.object.namespace.clone());
        let context = FileContext::new(&record.origin.source, &path, &record.origin.path, pinned.as_deref());
        let parsed = crate::source::parse::parse_file(&record.text, &context);
        let mut item = parsed.items.into_iter().find(|item| item.resource.reference() == record.object)?;
        item.origin = record.origin.clone();
        Some(item)
    }

    /// Takes in what a source says.
    pub(super) async fn intake(&self, source: &str, event: SourceEvent) -> Result<(), LedgerError> {
        self.revise();
        match event {
            SourceEvent::Init => {
                let mut store = self.store();
                let state = store.sources.entry(source.to_owned()).or_default();
                state.seen.clear();
                state.invalid.clear();
            }
            SourceEvent::InitApply(item) | SourceEvent::Apply(item) => self.apply(*item).await?,
            SourceEvent::InitDone => {
                {
                    let mut store = self.store();
                    let state = store.sources.entry(source.to_owned()).or_default();
                    state.listed = true;
                    state.unhealthy = None;
                }
                self.remember_root(source).await?;
            }
            SourceEvent::Reported { object, origin, status } => self.reported(&object, &origin, status.as_ref()),
            SourceEvent::Gone(gone) => self.gone(source, gone).await?,
            SourceEvent::Invalid { origin, shields, errors } => self.invalid(source, origin, shields, &errors).await,
            SourceEvent::Unhealthy(why) => self.source_health(source, Some(why)).await,
            SourceEvent::Healthy => {
                self.source_health(source, None).await;
                self.remember_root(source).await?;
            }
        }
        Ok(())
    }

    /// A document's `status` is another than before. What the operator wrote itself is no news; what somebody else wrote or removed is put right.
    fn reported(&self, key: &ObjectRef, origin: &Origin, seen: Option<&serde_json::Value>) {
        let status =
            self.store().objects.get(key).filter(|entry| entry.item.as_ref().is_some_and(|item| item.origin == *origin)).and_then(|e| e.status.clone());
        if let Some(status) = status {
            self.parts.reporter.saw(key, origin, seen);
            self.parts.reporter.offer(key, origin, &status);
        }
    }

    /// Keeps what tells the source's place from another, for the next run.
    async fn remember_root(&self, source: &str) -> Result<(), LedgerError> {
        let identity = self.parts.sources.iter().find(|known| known.name() == source).and_then(|known| known.identity());
        self.parts.ledger.set_setting(&root_setting(source), identity.as_deref()).await
    }

    pub(super) async fn apply(&self, mut item: Item) -> Result<(), LedgerError> {
        let key = item.resource.reference();
        let source = item.origin.source.clone();
        self.store().sources.entry(source.clone()).or_default().seen.insert((key.clone(), item.origin.clone()));
        if self.is_duplicate(&key, &item).await || self.is_being_purged(&key, &item) {
            return Ok(());
        }
        let recovered = recovered(&self.world(), &key, &item);
        let now = self.now();
        // What has nothing on the engine is known by its document alone when the state is lost.
        let fresh = Admission { uid: self.identity(now), generation: reported(&item).max(1), created: now };
        let document = Document { object: key.clone(), text: item.text.clone(), digest: item.digest.clone(), origin: item.origin.clone() };
        let admitted = self.parts.ledger.admit(&document, fresh, recovered).await?;
        let status = item.resource.status_mut().take();
        let says_expired = status.and_then(|status| Some(status.get("phase")?.as_str()? == "Expired")).unwrap_or_default();
        let item = Arc::new(item);
        {
            let mut store = self.store();
            let entry = store.objects.entry(key.clone()).or_insert_with(|| Entry {
                item: None,
                others: Vec::new(),
                admission: admitted.admission.clone(),
                tombstone: None,
                hold: None,
                status: None,
                failures: 0,
                port_failures: Vec::new(),
                not_before: None,
                lowered: None,
                settled: false,
                rest: None,
            });
            entry.others.retain(|other| other.origin != item.origin);
            entry.item = Some(item.clone());
            entry.admission = admitted.admission.clone();
            entry.tombstone = None;
            entry.hold = None;
            entry.settled = false;
            entry.lowered = None;
            entry.not_before = None;
            if admitted.how != AdmittedAs::Known {
                entry.failures = 0;
                entry.port_failures.clear();
            }
        }
        match admitted.how {
            AdmittedAs::Undeleted => {
                self.forget_removed(&admitted.admission.uid).await?;
                self.tell(event(now, EventType::Normal, EventReason::Undeleted, &key, "it came back, with its data")).await;
            }
            AdmittedAs::Recovered => self.recover(&key, &admitted.admission, now).await?,
            AdmittedAs::New | AdmittedAs::Known | AdmittedAs::Changed => {}
        }
        if key.kind == Kind::Preview && says_expired && matches!(admitted.how, AdmittedAs::New | AdmittedAs::Recovered) {
            self.parts.ledger.record(&admitted.admission.uid, &[Fact::Expired(now)]).await?;
        }
        if admitted.how != AdmittedAs::Known {
            self.parts.ledger.set_setting(&deleted_setting(&key), None).await?;
        }
        self.parts.reporter.forget(&key);
        self.enqueue_related(&key, Trigger::Spec);
        Ok(())
    }

    /// A second document with the key of a living object waits for the first to go; a document that moved takes its place.
    async fn is_duplicate(&self, key: &ObjectRef, item: &Item) -> bool {
        let (first, known) = {
            let mut store = self.store();
            let Some(entry) = store.objects.get_mut(key) else { return false };
            let Some(first) = entry.item.clone().filter(|first| first.origin != item.origin) else { return false };
            let holder = self.parts.sources.iter().find(|source| source.name() == first.origin.source);
            if !holder.is_some_and(|source| source.holds(key, &first.origin)) {
                return false;
            }
            let before = entry.others.len();
            entry.others.retain(|other| other.origin != item.origin);
            let known = entry.others.len() < before;
            entry.others.push(Arc::new(item.clone()));
            (first, known)
        };
        if !known {
            tracing::warn!(object = %key, first = %first.origin, second = %item.origin, "two documents have the same kind, namespace and name; the first one counts");
            let message = format!("{} has the same kind, namespace and name as {}, which came first; rename or remove one", item.origin, first.origin);
            self.tell(event(self.now(), EventType::Warning, EventReason::SourceInvalid, key, &message)).await;
        }
        self.queue.push(key.clone(), Trigger::Spec);
        true
    }

    /// A purge is carried out to its end before a document begins the next life.
    fn is_being_purged(&self, key: &ObjectRef, item: &Item) -> bool {
        let mut store = self.store();
        let Some(entry) = store.objects.get_mut(key).filter(|entry| entry.tombstone.as_ref().is_some_and(|tombstone| tombstone.purge)) else { return false };
        entry.others.retain(|other| other.origin != item.origin);
        entry.others.push(Arc::new(item.clone()));
        drop(store);
        self.queue.push(key.clone(), Trigger::Spec);
        true
    }

    /// The containers that went with a deletion were removed by nobody else: that they are missing is not healed, and not told as that.
    async fn forget_removed(&self, uid: &Uid) -> Result<(), LedgerError> {
        let applied = self.parts.ledger.facts(uid).await?.applied;
        let facts: Vec<Fact> = {
            let world = self.world();
            let removed = applied.into_keys().filter(|name| world.container_named(name).is_none());
            removed.map(|name| Fact::Applied { name, fields: BTreeMap::new() }).collect()
        };
        self.parts.ledger.record(uid, &facts).await
    }

    /// The ledger did not know the object, but its containers or volumes did: what can be told from them is written down.
    async fn recover(&self, key: &ObjectRef, admission: &Admission, now: Timestamp) -> Result<(), LedgerError> {
        let facts = facts_of(&self.world(), key, &admission.uid, now);
        self.parts.ledger.record(&admission.uid, &facts).await?;
        let message = "the state directory did not know it; identity, leases and hashes come from its labels";
        self.tell(event(now, EventType::Warning, EventReason::StateRecovered, key, message)).await;
        let adopted: Vec<String> = {
            let world = self.world();
            let mine = world.of(key).filter(|container| container.owner.as_ref().is_some_and(|owner| owner.uid == admission.uid));
            mine.map(|container| format!("{}, which is {}: it goes on as it is", container.name, container.state.as_str())).collect()
        };
        for message in adopted {
            self.tell(event(now, EventType::Normal, EventReason::Adopted, key, &message)).await;
        }
        Ok(())
    }

    async fn invalid(&self, source: &str, origin: Origin, shields: Vec<ObjectRef>, errors: &[String]) {
        if errors.is_empty() {
            let mut store = self.store();
            let state = store.sources.entry(source.to_owned()).or_default();
            state.invalid.remove(&origin);
            // What it shielded may be gone.
            state.missing = Missing::Open;
            return;
        }
        self.shield(source, origin.clone(), shields);
        for error in errors {
            tracing::warn!(origin = %origin, "a document cannot be used; the last good version stays in force\n{error}");
        }
        let first = errors.first().and_then(|text| text.lines().next()).unwrap_or_default();
        let event =
            Event { time: self.now(), type_: EventType::Warning, reason: EventReason::SourceInvalid, object: None, message: first.to_owned(), count: 1 };
        self.tell(event).await;
    }

    /// What cannot be used keeps in force what it said when it was last good.
    pub(super) fn shield(&self, source: &str, origin: Origin, shields: Vec<ObjectRef>) {
        self.store().sources.entry(source.to_owned()).or_default().invalid.insert(origin, shields);
    }

    async fn source_health(&self, source: &str, unhealthy: Option<String>) {
        let keys: Vec<ObjectRef> = {
            let mut store = self.store();
            let state = store.sources.entry(source.to_owned()).or_default();
            if state.unhealthy == unhealthy {
                return;
            }
            state.unhealthy = unhealthy.clone();
            store.of_source(source).map(|(key, _)| key.clone()).collect()
        };
        if let Some(why) = unhealthy {
            tracing::warn!(source, why, "the source cannot be trusted now; nothing of it is deleted");
            let message = format!("{source}: {why}");
            let event = Event { time: self.now(), type_: EventType::Warning, reason: EventReason::SourceUnhealthy, object: None, message, count: 1 };
            self.tell(event).await;
        }
        for key in keys {
            self.queue.push(key, Trigger::Spec);
        }
    }

    /// What was in the ledger and not in a first listing that was complete, is gone too, and so is what a file shielded that can be used again;
    /// asked some time after that.
    pub(super) async fn decide_missing(&self, source: &str) -> Result<(), LedgerError> {
        let gone: Vec<(ObjectRef, Origin)> = {
            let mut store = self.store();
            let shielded = |origin: &Origin| store.is_shielded(source, origin);
            let Some(state) = store.sources.get(source).filter(|state| state.listed && state.missing == Missing::Open) else { return Ok(()) };
            if state.unhealthy.is_some() {
                return Ok(());
            }
            let seen: BTreeSet<&ObjectRef> = state.seen.iter().map(|(key, _)| key).collect();
            let missing = store
                .of_source(source)
                .filter(|(key, item)| !seen.contains(key) && !shielded(&item.origin))
                .map(|(key, item)| (key.clone(), item.origin.clone()))
                .collect();
            if let Some(state) = store.sources.get_mut(source) {
                state.missing = Missing::Deciding;
            }
            missing
        };
        self.gone(source, gone).await?;
        // Only now is it known what is held, which a run with an end has to tell.
        if let Some(state) = self.store().sources.get_mut(source) {
            state.missing = Missing::Decided;
        }
        self.confirmed().await
    }

    async fn gone(&self, source: &str, gone: Vec<(ObjectRef, Origin)>) -> Result<(), LedgerError> {
        let mut deleted = Vec::new();
        for (key, origin) in gone {
            let next = {
                let mut store = self.store();
                if let Some(state) = store.sources.get_mut(source) {
                    state.seen.remove(&(key.clone(), origin.clone()));
                }
                let Some(entry) = store.objects.get_mut(&key) else { continue };
                entry.others.retain(|other| other.origin != origin);
                // What is held already waits for its document or for a person.
                if entry.hold.is_some() || entry.item.as_ref().is_none_or(|item| item.origin != origin) {
                    continue;
                }
                if entry.others.is_empty() { None } else { entry.item.take().and(Some(entry.others.remove(0))) }
            };
            match next {
                Some(other) => self.apply((*other).clone()).await?,
                None => deleted.push(key),
            }
        }
        let total = self.store().of_source(source).count();
        let mut unconfirmed = Vec::new();
        for key in deleted {
            if self.parts.ledger.setting(&deleted_setting(&key)).await?.is_some() {
                self.parts.ledger.set_setting(&deleted_setting(&key), None).await?;
                self.bury(&key).await?;
            } else {
                unconfirmed.push(key);
            }
        }
        if is_believable(unconfirmed.len(), total) {
            for key in unconfirmed {
                self.bury(&key).await?;
            }
            return Ok(());
        }
        self.block(source, &unconfirmed, total).await;
        Ok(())
    }

    /// Holds deletions that are too many at once.
    async fn block(&self, source: &str, keys: &[ObjectRef], total: usize) {
        let message =
            format!("{} of {total} documents of {source} disappeared at once; nothing is deleted until they return or `dockmaster prune` confirms", keys.len());
        tracing::warn!(source, gone = keys.len(), total, "too many documents disappeared at once; their deletion waits for `dockmaster prune`");
        self.revise();
        for key in keys {
            let held = self.store().objects.get_mut(key).map(|entry| {
                entry.hold = Some(Condition::abnormal(ConditionType::PruneBlocked, message.clone()));
                entry.clone()
            });
            // Kept at once: whoever comes after a crash is not to judge a part of them as if it were all.
            if let Some(entry) = held
                && let Some(before) = &entry.status
            {
                let (mut status, now) = (Status::clone(before), self.now());
                self.add_source_condition(&mut status, &entry, now);
                self.publish(key, &entry, status, now).await;
            }
            self.queue.push(key.clone(), Trigger::Spec);
        }
        let event = Event { time: self.now(), type_: EventType::Warning, reason: EventReason::PruneBlocked, object: None, message, count: 1 };
        self.tell(event).await;
    }

    /// Carries out held deletions that a person has confirmed meanwhile.
    pub(super) async fn confirmed(&self) -> Result<(), LedgerError> {
        let names: Vec<String> = self.store().sources.keys().cloned().collect();
        for source in names {
            if self.parts.ledger.setting(&prune_setting(&source)).await?.is_none() {
                continue;
            }
            self.parts.ledger.set_setting(&prune_setting(&source), None).await?;
            self.parts.sources.iter().filter(|known| known.name() == source).for_each(|known| known.accept());
            let held: Vec<ObjectRef> = {
                let store = self.store();
                let blocked = |key: &ObjectRef| store.objects.get(key).and_then(|e| e.hold.as_ref()).is_some_and(|c| c.type_ == ConditionType::PruneBlocked);
                store.of_source(&source).map(|(key, _)| key.clone()).filter(|key| blocked(key)).collect()
            };
            let message = format!("{source}: {} deletions", held.len());
            self.tell(Event { time: self.now(), type_: EventType::Normal, reason: EventReason::PruneConfirmed, object: None, message, count: 1 }).await;
            for key in held {
                self.bury(&key).await?;
            }
        }
        Ok(())
    }

    /// Puts an object into its grave: what it is made of goes, its data waits.
    async fn bury(&self, key: &ObjectRef) -> Result<(), LedgerError> {
        let Some(entry) = self.store().objects.get(key).cloned() else { return Ok(()) };
        let Some(item) = entry.item else { return Ok(()) };
        let consent = match &item.resource {
            Resource::Workspace(object) => match object.spec.deletion_policy {
                Some(DeletionPolicy::Delete) => Consent::DeleteInSpec,
                Some(DeletionPolicy::Snapshot | DeletionPolicy::Retain) | None => Consent::None,
            },
            Resource::Preview(_) => Consent::PreviewCopy,
            Resource::WorkspaceType(_) | Resource::Tenant(_) => {
                self.parts.ledger.release(key).await?;
                self.store().forget(key);
                drop(self.announcements.send(Announcement::Deleted(key.clone())));
                self.enqueue_related(key, Trigger::Spec);
                return Ok(());
            }
        };
        let now = self.now();
        let until = now + self.parts.settings.tombstone.0;
        let farewell = self.farewell(key, &item, &entry.admission.uid).await?;
        let tombstone = Tombstone { uid: entry.admission.uid, at: now, until, consent, purge: false, farewell };
        self.parts.ledger.bury(key, &tombstone).await?;
        if let Some(entry) = self.store().objects.get_mut(key) {
            entry.item = None;
            entry.hold = None;
            entry.tombstone = Some(tombstone.clone());
        }
        self.parts.reporter.forget(key);
        let until = tombstone.until.round(jiff::Unit::Second).unwrap_or(tombstone.until);
        let message = format!("deleted; its data is kept until {until}, and `dockmaster undelete {key}` brings it back");
        self.tell(event(now, EventType::Normal, EventReason::Tombstoned, key, &message)).await;
        self.enqueue_related(key, Trigger::Spec);
        Ok(())
    }

    /// Reads an object's tombstone anew: a command may have changed it.
    pub(super) async fn reload(&self, key: &ObjectRef) -> Result<(), LedgerError> {
        let Some(record) = self.parts.ledger.records().await?.into_iter().find(|record| record.object == *key) else { return Ok(()) };
        if let Some(entry) = self.store().objects.get_mut(key)
            && record.tombstone.is_some()
        {
            entry.item = None;
            entry.tombstone = record.tombstone;
        }
        Ok(())
    }

    /// Makes an object due, and those whose plan depends on it.
    pub(super) fn enqueue_related(&self, key: &ObjectRef, trigger: Trigger) {
        let mut keys = vec![key.clone()];
        if matches!(key.kind, Kind::WorkspaceType | Kind::Tenant) {
            self.store().epoch += 1;
        }
        {
            let store = self.store();
            keys.extend(store.waiting_for(&WaitKey::Object(key.clone())));
            keys.extend(store.waiting_for(&WaitKey::Roster(key.ns().to_owned())));
            match key.kind {
                // Previews too: one may wait for a workspace whose type was missing.
                Kind::WorkspaceType => keys.extend(store.objects.keys().filter(|k| !k.kind.is_cluster()).cloned()),
                Kind::Tenant => {
                    let everyone = key.name == "default";
                    keys.extend(store.objects.keys().filter(|k| !k.kind.is_cluster() && (everyone || k.ns() == key.name)).cloned());
                }
                Kind::Workspace => {
                    keys.extend(store.in_namespace(Kind::Preview, key.ns()).filter(|(_, entry)| is_made_from(entry, &key.name)).map(|(k, _)| k.clone()));
                    keys.push(naming::namespace_ref(key.ns()));
                }
                Kind::Preview => keys.push(naming::namespace_ref(key.ns())),
                Kind::Namespace => {}
            }
        }
        for key in keys {
            self.queue.push(key, trigger);
        }
    }
}

/// Whether that is a preview of the workspace of this name.
fn is_made_from(entry: &Entry, workspace: &str) -> bool {
    match entry.item.as_ref().map(|item| &item.resource) {
        Some(Resource::Preview(object)) => object.spec.workspace.as_deref() == Some(workspace),
        Some(Resource::Workspace(_) | Resource::WorkspaceType(_) | Resource::Tenant(_)) | None => false,
    }
}

/// The ledger setting that remembers which directory a source was.
pub fn root_setting(source: &str) -> String {
    format!("root/{source}")
}

fn event(time: Timestamp, type_: EventType, reason: EventReason, key: &ObjectRef, message: &str) -> Event {
    Event { time, type_, reason, object: Some(key.clone()), message: message.to_owned(), count: 1 }
}

/// The generation that the document's own status speaks of; 0 where it has none.
fn reported(item: &Item) -> u64 {
    item.resource.status().and_then(|status| status.get("observedGeneration")).and_then(serde_json::Value::as_u64).unwrap_or(0)
}

/// The identity that labels in Docker tell of an object; generation goes on from what the document's own status says.
fn recovered(world: &World, key: &ObjectRef, item: &Item) -> Option<Admission> {
    let reported = reported(item);
    let of_container = world.of(key).filter_map(|c| c.owner.as_ref()).max_by_key(|owner| (owner.generation, owner.uid.clone()));
    if let Some(owner) = of_container {
        return Some(Admission { uid: owner.uid.clone(), generation: owner.generation.max(reported).max(1), created: owner.created });
    }
    let uid = world.volumes.of(key).next().and_then(|volume| volume.owner.as_ref()?.uid.clone())?;
    let created = uuid::Uuid::parse_str(&uid.0).ok().and_then(|id| id.get_timestamp()).map(|time| time.to_unix())?;
    let created = Timestamp::new(i64::try_from(created.0).ok()?, i32::try_from(created.1).ok()?).ok()?;
    Some(Admission { uid, generation: reported.max(1), created })
}

/// What the world tells of facts that were lost.
fn facts_of(world: &World, key: &ObjectRef, uid: &Uid, now: Timestamp) -> Vec<Fact> {
    let mut facts = vec![Fact::StateLost(true)];
    for container in world.of(key) {
        let Some(owner) = container.owner.as_ref().filter(|owner| owner.uid == *uid && owner.service.is_none()) else { continue };
        if owner.role == crate::desired::Role::Main {
            let start = container.details.as_ref().and_then(|d| d.started).map(|at| at.to_string()).unwrap_or_default();
            facts.push(Fact::HookDone { container: container.id.0.clone(), hook: "postCreate".to_owned(), start: String::new() });
            if matches!(container.state, State::Running(_)) {
                facts.push(Fact::HookDone { container: container.id.0.clone(), hook: "postStart".to_owned(), start });
            }
            if key.kind == Kind::Preview {
                facts.push(Fact::Copied(container.created));
            }
        }
        if let Some(hash) = container.labels.get(naming::HASH) {
            facts.push(Fact::PreviewHash(hash.clone()));
        }
    }
    let marked = world.volumes.of(key).any(|volume| volume.owner.as_ref().is_some_and(|owner| owner.expired_marker));
    if marked {
        facts.push(Fact::Expired(now));
    }
    facts
}
