//! What the controller knows of each object and each source between two reconciles. Plain data; no IO.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::desired::{Intent, NetworkWant};
use crate::observed::{Look, TaskKey, World};
use crate::planner::{SourceStanding, WaitKey};
use crate::resource::status::Phase;
use crate::resource::workspace::DeclaredState;
use crate::resource::{Condition, Kind, ObjectRef, Origin, Resource, Status, TenantSpec, WorkspaceTypeSpec};
use crate::source::Item;
use crate::state::{Admission, Tombstone};
use crate::tenancy::Member;

/// How many objects an inherited change replaces at a time.
const AT_ONCE: usize = 2;

/// All of it.
#[derive(Default)]
pub struct Store {
    /// Objects, living and buried.
    pub objects: BTreeMap<ObjectRef, Entry>,
    /// Sources by name.
    pub sources: BTreeMap<String, SourceState>,
    /// Objects and namespaces of which something has changed in the engine, or may have, since they were looked at, and how far they are to be.
    pub stale: BTreeMap<ObjectRef, Look>,
    /// Who is planned again when something changes.
    waiters: BTreeMap<WaitKey, BTreeSet<ObjectRef>>,
    /// The same by who waits.
    waits: BTreeMap<ObjectRef, Vec<WaitKey>>,
    /// For whom a task works.
    pub task_owners: BTreeMap<TaskKey, BTreeSet<ObjectRef>>,
    /// Ports that could not be bound, and until when they are left alone.
    pub quarantine: BTreeMap<u16, Instant>,
    /// Objects that are being replaced: an inherited change waits while there are two.
    pub turns: BTreeSet<ObjectRef>,
    /// Since when the engine does not answer.
    pub engine_lost: Option<(Instant, String)>,
    /// Another engine answers than before: why nothing is changed.
    pub engine_changed: Option<String>,
    /// The network of each namespace with the subnet that it was granted, and at which epoch: all its objects ask for it.
    pub networks: BTreeMap<String, (u64, NetworkWant)>,
    /// Counts the changes of types, tenants and capabilities, on which every object may depend.
    pub epoch: u64,
}

/// One object.
#[derive(Clone)]
pub struct Entry {
    /// The document that counts; `None`: deleted.
    pub item: Option<Arc<Item>>,
    /// Further documents with the same key, in the order in which they were seen.
    pub others: Vec<Arc<Item>>,
    /// Which life, which version.
    pub admission: Admission,
    /// Its grave.
    pub tombstone: Option<Tombstone>,
    /// Why its deletion waits.
    pub hold: Option<Condition>,
    /// What was last found.
    pub status: Option<Arc<Status>>,
    /// Failures in a row.
    pub failures: u32,
    /// When ports could not be bound, in a row.
    pub port_failures: Vec<Instant>,
    /// After a failure: what happens in the engine, such as what the failure itself did there, does not make it due before.
    pub not_before: Option<Instant>,
    /// Whether the last plan had nothing left to do.
    pub settled: bool,
    /// How long its last plan stands, when that left nothing to do and nothing to wait for but time.
    pub rest: Option<Rest>,
    /// What it should be, for as long as neither its document nor what it depends on changes.
    pub lowered: Option<Lowered>,
}

/// A document lowered once: lowering and grants cost more than anything else in a pass over objects that are as they should be.
#[derive(Clone)]
pub struct Lowered {
    /// The definitions and leases that it was made from.
    pub epoch: u64,
    /// A preview's facts that it was made from: pinned, expired.
    pub facts: (bool, bool),
    /// The intent.
    pub intent: Arc<Intent>,
}

/// A plan that left nothing to do. Another one from the same is the same, so that a full pass leaves the object alone.
#[derive(Clone, Copy, Debug)]
pub struct Rest {
    /// The revision that it was made from.
    pub revision: u64,
    /// When it was made.
    pub since: Timestamp,
    /// When it is to be made again; `None`: not because of the time.
    pub until: Option<Timestamp>,
}

impl Rest {
    /// Whether the plan would be the same. The clock may have been set since.
    pub fn holds(&self, revision: u64, now: Timestamp) -> bool {
        self.revision == revision && self.since <= now && self.until.is_none_or(|until| now < until)
    }
}

/// One source.
#[derive(Default)]
pub struct SourceState {
    /// Whether its first listing is complete.
    pub listed: bool,
    /// What the listing under way, or the last one, held.
    pub seen: BTreeSet<(ObjectRef, Origin)>,
    /// Files that cannot be used, with what they held.
    pub invalid: BTreeMap<Origin, Vec<ObjectRef>>,
    /// Why it cannot be trusted.
    pub unhealthy: Option<String>,
    /// How far it is decided what was missing from the first listing.
    pub missing: Missing,
}

/// What was in the ledger and is not in a first listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missing {
    /// Nobody asked yet.
    #[default]
    Open,
    /// It is being deleted or held.
    Deciding,
    /// Each is deleted or held.
    Decided,
}

impl Entry {
    /// The hold for which nothing at all is done to an object: that of a preview, whose end would be the end of its data.
    pub fn stands_still(&self, key: &ObjectRef) -> Option<&Condition> {
        self.hold.as_ref().filter(|_| key.kind == Kind::Preview)
    }
}

impl Store {
    /// Whether another plan of an object would be the last one again.
    pub fn is_at_rest(&self, key: &ObjectRef, revision: u64, now: Timestamp) -> bool {
        let rest = self.objects.get(key).and_then(|entry| entry.rest);
        !self.stale.contains_key(key) && rest.is_some_and(|rest| rest.holds(revision, now))
    }

    /// Forgets an object.
    pub fn forget(&mut self, key: &ObjectRef) -> Option<Entry> {
        self.stale.remove(key);
        self.objects.remove(key)
    }

    /// What is known of an object may not be so any more: it is looked at before anything is planned for it.
    pub fn becomes_stale(&mut self, key: &ObjectRef, look: Look) {
        if key.kind == Kind::Namespace || self.objects.contains_key(key) {
            let known = self.stale.entry(key.clone()).or_insert(look);
            *known = look.max(*known);
        }
    }

    /// The living objects whose document lies in a source.
    pub fn of_source<'a>(&'a self, source: &'a str) -> impl Iterator<Item = (&'a ObjectRef, &'a Arc<Item>)> {
        self.objects.iter().filter_map(move |(key, entry)| entry.item.as_ref().filter(|item| item.origin.source == source).map(|item| (key, item)))
    }

    /// The living objects of one kind in a namespace.
    pub fn in_namespace<'a>(&'a self, kind: Kind, namespace: &'a str) -> impl Iterator<Item = (&'a ObjectRef, &'a Entry)> {
        let first = ObjectRef::new(kind, namespace, "");
        self.objects.range(first..).take_while(move |(key, _)| key.kind == kind && key.ns() == namespace).filter(|(_, entry)| entry.item.is_some())
    }

    /// The declared types by name.
    pub fn types(&self) -> BTreeMap<String, WorkspaceTypeSpec> {
        let first = ObjectRef::new(Kind::WorkspaceType, "", "");
        self.objects
            .range(first..)
            .take_while(|(key, _)| key.kind == Kind::WorkspaceType)
            .filter_map(|(key, entry)| match entry.item.as_ref().map(|item| &item.resource) {
                Some(Resource::WorkspaceType(object)) => Some((key.name.clone(), object.spec.clone())),
                Some(Resource::Workspace(_) | Resource::Preview(_) | Resource::Tenant(_)) | None => None,
            })
            .collect()
    }

    /// A declared tenant.
    pub fn tenant(&self, name: &str) -> Option<TenantSpec> {
        match self.objects.get(&ObjectRef::new(Kind::Tenant, "", name))?.item.as_ref().map(|item| &item.resource)? {
            Resource::Tenant(object) => Some(object.spec.clone()),
            Resource::Workspace(_) | Resource::Preview(_) | Resource::WorkspaceType(_) => None,
        }
    }

    /// Remembers that an object waits for something.
    pub fn wait(&mut self, key: &ObjectRef, on: &WaitKey) {
        if self.waiters.entry(on.clone()).or_default().insert(key.clone()) {
            self.waits.entry(key.clone()).or_default().push(on.clone());
        }
    }

    /// Forgets what an object waits for.
    pub fn stop_waiting(&mut self, key: &ObjectRef) {
        for on in self.waits.remove(key).into_iter().flatten() {
            if self.waiters.get_mut(&on).is_some_and(|waiting| waiting.remove(key) && waiting.is_empty()) {
                self.waiters.remove(&on);
            }
        }
    }

    /// Whether an inherited change may replace an object now.
    pub fn has_turn(&self, key: &ObjectRef) -> bool {
        self.turns.contains(key) || self.turns.len() < AT_ONCE
    }

    /// How the workspace stands that this object copies.
    pub fn source_of(&self, intent: &Intent) -> SourceStanding {
        let Intent::Present(desired) = intent else { return SourceStanding::Declared };
        let Some(copy) = desired.preview.as_ref().and_then(|preview| preview.copy.as_ref()) else { return SourceStanding::Declared };
        let entry = self.objects.get(&copy.source).filter(|entry| entry.admission.uid == copy.source_uid);
        match entry.and_then(|entry| entry.item.as_ref()) {
            Some(item) if item.resource.metadata().is_suspended() => SourceStanding::Suspended,
            Some(_) => SourceStanding::Declared,
            None => SourceStanding::Gone,
        }
    }

    /// Who waits for that.
    pub fn waiting_for(&self, on: &WaitKey) -> Vec<ObjectRef> {
        self.waiters.get(on).into_iter().flatten().cloned().collect()
    }

    /// Whether the documents of a file, or of the whole source, may be missing without being gone.
    pub fn is_shielded(&self, source: &str, origin: &Origin) -> bool {
        let Some(state) = self.sources.get(source) else { return true };
        // What cannot be used is the file itself, or a directory above it.
        let covers = |invalid: &Origin| origin.path.strip_prefix(&invalid.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        state.unhealthy.is_some() || state.invalid.keys().any(covers)
    }
}

/// The sentence that says which quota keeps an object from running; `None`: none does.
pub fn over_quota(store: &Store, world: &World, key: &ObjectRef, tenants: &BTreeMap<String, TenantSpec>) -> Option<String> {
    // Without a quota nobody is over it, however many they are.
    if tenants.values().all(|tenant| tenant.quota.is_none()) {
        return None;
    }
    let members = [Kind::Workspace, Kind::Preview].into_iter().flat_map(|kind| store.in_namespace(kind, key.ns()));
    let roster: Vec<Member> = members.filter_map(|(object, entry)| member(world, object, entry, object == key)).collect();
    crate::tenancy::standing(&roster, tenants).remove(key).flatten()
}

fn member(world: &World, object: &ObjectRef, entry: &Entry, asking: bool) -> Option<Member> {
    let (declared, workspace) = match &entry.item.as_ref()?.resource {
        Resource::Workspace(object) => (object.spec.state != Some(DeclaredState::Stopped), None),
        Resource::Preview(object) => (true, object.spec.workspace.clone()),
        Resource::WorkspaceType(_) | Resource::Tenant(_) => return None,
    };
    let phase = entry.status.as_ref().map(|status| status.phase);
    let rests = matches!(phase, Some(Phase::Stopped | Phase::Expired));
    // What has expired is not a preview any more that counts.
    (phase != Some(Phase::Expired) || asking).then(|| Member {
        object: object.clone(),
        uid: entry.admission.uid.clone(),
        wants_run: declared && (asking || !rests),
        running: world.of(object).any(|c| c.is_active()),
        workspace,
    })
}

/// How many deletions noticed at once are believed: not all of a source, and at most three or a fifth of it. One alone always is.
pub fn is_believable(gone: usize, total: usize) -> bool {
    let all = gone >= 2 && gone >= total;
    !all && gone <= (total / 5).max(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_known_until_it_waits_no_more() {
        let [a, b] = ["a", "b"].map(|name| ObjectRef::new(Kind::Workspace, "alice", name));
        let mut store = Store::default();
        for (key, on) in [(&a, WaitKey::Turn), (&a, WaitKey::Turn), (&a, WaitKey::Leases), (&b, WaitKey::Turn)] {
            store.wait(key, &on);
        }
        assert_eq!((store.waiting_for(&WaitKey::Turn), store.waiting_for(&WaitKey::Leases)), (vec![a.clone(), b.clone()], vec![a.clone()]));
        store.stop_waiting(&a);
        assert_eq!((store.waiting_for(&WaitKey::Turn), store.waiting_for(&WaitKey::Leases)), (vec![b.clone()], vec![]));
        store.wait(&a, &WaitKey::Leases);
        store.stop_waiting(&b);
        assert_eq!((store.waiters.len(), store.waits.len()), (1, 1));
    }

    #[test]
    fn deletions_that_are_believed() {
        for (gone, total, believed) in
            [(1, 1, true), (2, 2, false), (3, 3, false), (3, 4, true), (4, 4, false), (4, 10, false), (3, 10, true), (20, 100, true), (21, 100, false)]
        {
            assert_eq!(is_believable(gone, total), believed, "{gone} of {total}");
        }
    }
}
