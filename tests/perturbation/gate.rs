//! The life of one operator. When it is over, whatever of it still runs never gets further than its next effect: that is how a process
//! that was killed ends, for all that can be seen from outside.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use dockmaster::resource::{ObjectRef, Uid};
use dockmaster::state::memory::MemoryLedger;
use dockmaster::state::{
    Admission, Admitted, Claim, Document, Event, Fact, Facts, Grant, Granted, JournalEntry, Lease, Ledger, Pools, Record, Result, Tombstone,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;

use super::bugs::Bug;
use super::watcher::Watcher;

/// Open while the operator lives.
#[derive(Clone, Default)]
pub struct Gate(Arc<AtomicBool>);

impl Gate {
    /// Ends the life.
    pub fn close(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub fn is_closed(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Goes on while the operator lives, else never.
    pub async fn pass(&self) {
        if self.is_closed() {
            std::future::pending::<()>().await;
        }
    }
}

/// The ledger of one life.
pub struct GatedLedger {
    pub inner: Arc<dyn Ledger>,
    pub gate: Gate,
    pub bug: Option<Bug>,
    pub watcher: Arc<Watcher>,
    /// The identities of [`Bug::AlwaysNew`] in this life.
    pub renamed: Mutex<BTreeMap<ObjectRef, Uid>>,
    /// How often facts were recorded in this life.
    records: AtomicU64,
}

/// A life that records facts more often does nothing else: between them no time passes.
const MOST_RECORDS: u64 = 10_000;

impl GatedLedger {
    pub fn new(inner: Arc<dyn Ledger>, gate: Gate, bug: Option<Bug>, watcher: Arc<Watcher>) -> Self {
        Self { inner, gate, bug, watcher, renamed: Mutex::default(), records: AtomicU64::new(0) }
    }
}

/// Passes a call on while the operator lives.
macro_rules! gated {
    ($self:ident, $call:expr) => {
        async move {
            $self.gate.pass().await;
            $call.await
        }
        .boxed()
    };
}

impl Ledger for GatedLedger {
    fn records(&self) -> BoxFuture<'_, Result<Vec<Record>>> {
        gated!(self, self.inner.records())
    }
    fn admit<'a>(&'a self, document: &'a Document, fresh: Admission, recovered: Option<Admission>) -> BoxFuture<'a, Result<Admitted>> {
        async move {
            self.gate.pass().await;
            let new = fresh.uid.clone();
            let mut admitted = self.inner.admit(document, fresh, recovered).await?;
            match self.bug {
                Some(Bug::GenerationStays) => admitted.admission.generation = 1,
                Some(Bug::AlwaysNew) => admitted.admission.uid = self.renamed.lock().unwrap().entry(document.object.clone()).or_insert(new).clone(),
                _ => {}
            }
            self.watcher.admitted(&admitted.admission.uid);
            Ok(admitted)
        }
        .boxed()
    }
    fn grant<'a>(&'a self, object: &'a ObjectRef, uid: &'a Uid, claims: &'a [Claim], held: &'a [Grant], pools: &'a Pools) -> BoxFuture<'a, Result<Granted>> {
        async move {
            self.gate.pass().await;
            match self.bug {
                Some(Bug::ForgetGrants) => {
                    MemoryLedger::default().grant(object, uid, claims, &[], &Pools { ports_taken: Default::default(), ..pools.clone() }).await
                }
                _ => self.inner.grant(object, uid, claims, held, pools).await,
            }
        }
        .boxed()
    }
    fn revoke<'a>(&'a self, uid: &'a Uid, port: u16) -> BoxFuture<'a, Result<()>> {
        gated!(self, self.inner.revoke(uid, port))
    }
    fn leases(&self) -> BoxFuture<'_, Result<Vec<Lease>>> {
        gated!(self, self.inner.leases())
    }
    fn facts<'a>(&'a self, uid: &'a Uid) -> BoxFuture<'a, Result<Facts>> {
        gated!(self, self.inner.facts(uid))
    }
    fn record<'a>(&'a self, uid: &'a Uid, facts: &'a [Fact]) -> BoxFuture<'a, Result<()>> {
        async move {
            self.gate.pass().await;
            if self.records.fetch_add(1, Ordering::SeqCst) >= MOST_RECORDS {
                self.gate.close();
                panic!("facts are recorded without end: {facts:?}");
            }
            if facts.iter().any(|fact| matches!(fact, Fact::Expired(_))) {
                self.watcher.expired(uid);
            }
            match self.bug {
                Some(Bug::ForgetFacts) => Ok(()),
                Some(Bug::ForgetStops) if facts.iter().any(|fact| matches!(fact, Fact::Stopped(_))) => Ok(()),
                _ => self.inner.record(uid, facts).await,
            }
        }
        .boxed()
    }
    fn bury<'a>(&'a self, object: &'a ObjectRef, tombstone: &'a Tombstone) -> BoxFuture<'a, Result<()>> {
        async move {
            self.gate.pass().await;
            self.watcher.buried(&tombstone.uid);
            if self.bug == Some(Bug::ForgetGraves) { Ok(()) } else { self.inner.bury(object, tombstone).await }
        }
        .boxed()
    }
    fn release<'a>(&'a self, object: &'a ObjectRef) -> BoxFuture<'a, Result<()>> {
        gated!(self, self.inner.release(object))
    }
    fn save_status<'a>(&'a self, object: &'a ObjectRef, status: &'a serde_json::Value, at: Timestamp) -> BoxFuture<'a, Result<()>> {
        gated!(self, self.inner.save_status(object, status, at))
    }
    fn statuses(&self) -> BoxFuture<'_, Result<BTreeMap<ObjectRef, (serde_json::Value, Timestamp)>>> {
        gated!(self, self.inner.statuses())
    }
    fn event<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<()>> {
        gated!(self, self.inner.event(event))
    }
    fn events<'a>(&'a self, object: Option<&'a ObjectRef>, limit: u32) -> BoxFuture<'a, Result<Vec<Event>>> {
        gated!(self, self.inner.events(object, limit))
    }
    fn journal<'a>(&'a self, entry: &'a JournalEntry) -> BoxFuture<'a, Result<()>> {
        gated!(self, self.inner.journal(entry))
    }
    fn journal_of<'a>(&'a self, object: &'a ObjectRef, limit: u32) -> BoxFuture<'a, Result<Vec<JournalEntry>>> {
        gated!(self, self.inner.journal_of(object, limit))
    }
    fn setting<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<String>>> {
        gated!(self, self.inner.setting(key))
    }
    fn set_setting<'a>(&'a self, key: &'a str, value: Option<&'a str>) -> BoxFuture<'a, Result<()>> {
        gated!(self, self.inner.set_setting(key, value))
    }
}
