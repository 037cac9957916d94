//! The ledger in memory: for simulations, tests, and under the overlay.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use jiff::Timestamp;

use super::grant::{self, Claimant};
use super::*;

/// A ledger that ends with the process.
#[derive(Debug, Default)]
pub struct MemoryLedger(Mutex<Tables>);

#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) records: BTreeMap<ObjectRef, Record>,
    pub(super) leases: Vec<Lease>,
    pub(super) facts: BTreeMap<Uid, Facts>,
    pub(super) statuses: BTreeMap<ObjectRef, (serde_json::Value, Timestamp)>,
    pub(super) events: Vec<Event>,
    journal: BTreeMap<ObjectRef, Vec<JournalEntry>>,
    pub(super) settings: BTreeMap<String, Option<String>>,
}

impl MemoryLedger {
    /// The tables; nothing panics while it has them, so that a poisoned lock is as good as another.
    pub(super) fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last so many.
pub(super) fn latest<T: Clone>(all: &[T], limit: u32) -> Vec<T> {
    let skip = all.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
    all.iter().skip(skip).cloned().collect()
}

fn ready<T: Send + 'static>(value: T) -> BoxFuture<'static, Result<T>> {
    Box::pin(futures::future::ready(Ok(value)))
}

fn answer<T: Send + 'static>(value: Result<T>) -> BoxFuture<'static, Result<T>> {
    Box::pin(futures::future::ready(value))
}

impl Ledger for MemoryLedger {
    fn records(&self) -> BoxFuture<'_, Result<Vec<Record>>> {
        ready(self.tables().records.values().cloned().collect())
    }

    fn admit<'a>(&'a self, document: &'a Document, fresh: Admission, recovered: Option<Admission>) -> BoxFuture<'a, Result<Admitted>> {
        let mut tables = self.tables();
        let (admitted, record) = book::admit(tables.records.get(&document.object), document, fresh, recovered);
        let uid = &admitted.admission.uid;
        if tables.records.values().any(|other| other.admission.uid == *uid && other.object != document.object) {
            return answer(Err(LedgerError::Identity { object: document.object.clone(), uid: uid.clone() }));
        }
        tables.records.extend(record.map(|record| (record.object.clone(), record)));
        ready(admitted)
    }

    fn grant<'a>(&'a self, object: &'a ObjectRef, uid: &'a Uid, claims: &'a [Claim], held: &'a [Grant], pools: &'a Pools) -> BoxFuture<'a, Result<Granted>> {
        let mut tables = self.tables();
        let outcome = grant::grant(Claimant { object, uid }, claims, held, pools, &tables.leases);
        let displaced = |lease: &Lease| outcome.granted.displaced.iter().any(|lost| lost.uid == lease.uid && lost.grant == lease.grant);
        tables.leases.retain(|lease| lease.uid != *uid && !displaced(lease));
        tables.leases.extend(outcome.leases);
        ready(outcome.granted)
    }

    fn revoke<'a>(&'a self, uid: &'a Uid, port: u16) -> BoxFuture<'a, Result<()>> {
        let revoked = |lease: &Lease| lease.uid == *uid && matches!(lease.grant, Grant::Port { host, .. } if host == port);
        self.tables().leases.retain(|lease| !revoked(lease));
        ready(())
    }

    fn leases(&self) -> BoxFuture<'_, Result<Vec<Lease>>> {
        ready(self.tables().leases.clone())
    }

    fn facts<'a>(&'a self, uid: &'a Uid) -> BoxFuture<'a, Result<Facts>> {
        ready(self.tables().facts.get(uid).cloned().unwrap_or_default())
    }

    fn record<'a>(&'a self, uid: &'a Uid, facts: &'a [Fact]) -> BoxFuture<'a, Result<()>> {
        let mut tables = self.tables();
        let known = tables.facts.entry(uid.clone()).or_default();
        facts.iter().for_each(|fact| known.apply(fact));
        ready(())
    }

    fn bury<'a>(&'a self, object: &'a ObjectRef, tombstone: &'a Tombstone) -> BoxFuture<'a, Result<()>> {
        match self.tables().records.get_mut(object).filter(|record| record.admission.uid == tombstone.uid) {
            Some(record) => {
                record.tombstone = Some(tombstone.clone());
                ready(())
            }
            None => answer(Err(LedgerError::Unknown { object: object.clone(), uid: tombstone.uid.clone() })),
        }
    }

    fn release<'a>(&'a self, object: &'a ObjectRef) -> BoxFuture<'a, Result<()>> {
        let mut tables = self.tables();
        let mut uids: BTreeSet<Uid> = tables.leases.iter().filter(|lease| lease.object == *object).map(|lease| lease.uid.clone()).collect();
        uids.extend(tables.records.remove(object).map(|record| record.admission.uid));
        tables.leases.retain(|lease| !uids.contains(&lease.uid));
        tables.facts.retain(|uid, _| !uids.contains(uid));
        tables.statuses.remove(object);
        ready(())
    }

    fn save_status<'a>(&'a self, object: &'a ObjectRef, status: &'a serde_json::Value, at: Timestamp) -> BoxFuture<'a, Result<()>> {
        self.tables().statuses.insert(object.clone(), (status.clone(), at));
        ready(())
    }

    fn statuses(&self) -> BoxFuture<'_, Result<BTreeMap<ObjectRef, (serde_json::Value, Timestamp)>>> {
        ready(self.tables().statuses.clone())
    }

    fn event<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<()>> {
        let mut tables = self.tables();
        let position = tables.events.iter().rposition(|known| known.object == event.object);
        let repeated = position.and_then(|at| book::counted_up(&tables.events[at], event).map(|both| (at, both)));
        match repeated {
            Some((at, both)) => {
                tables.events.remove(at);
                tables.events.push(both);
            }
            None => tables.events.push(event.clone()),
        }
        let excess = tables.events.len().saturating_sub(EVENTS_KEPT as usize);
        tables.events.drain(..excess);
        ready(())
    }

    fn events<'a>(&'a self, object: Option<&'a ObjectRef>, limit: u32) -> BoxFuture<'a, Result<Vec<Event>>> {
        let tables = self.tables();
        let wanted: Vec<Event> = tables.events.iter().filter(|event| object.is_none() || event.object.as_ref() == object).cloned().collect();
        ready(latest(&wanted, limit))
    }

    fn journal<'a>(&'a self, entry: &'a JournalEntry) -> BoxFuture<'a, Result<()>> {
        let mut tables = self.tables();
        let entries = tables.journal.entry(entry.object.clone()).or_default();
        entries.push(entry.clone());
        let excess = entries.len().saturating_sub(JOURNAL_KEPT as usize);
        entries.drain(..excess);
        ready(())
    }

    fn journal_of<'a>(&'a self, object: &'a ObjectRef, limit: u32) -> BoxFuture<'a, Result<Vec<JournalEntry>>> {
        ready(self.tables().journal.get(object).map(|entries| latest(entries, limit)).unwrap_or_default())
    }

    fn setting<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<String>>> {
        ready(self.tables().settings.get(key).cloned().flatten())
    }

    fn set_setting<'a>(&'a self, key: &'a str, value: Option<&'a str>) -> BoxFuture<'a, Result<()>> {
        self.tables().settings.insert(key.to_owned(), value.map(str::to_owned));
        ready(())
    }
}
