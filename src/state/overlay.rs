//! A ledger over another one: it reads what is there and keeps every write to itself. `plan` runs the whole reconcile path over it.

use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::OnceCell;

use super::memory::{MemoryLedger, latest};
use super::*;

/// What is read from the base is copied into memory at its first use; from then on the copy is the ledger.
pub struct OverlayLedger {
    base: Arc<dyn Ledger>,
    own: MemoryLedger,
    tables: OnceCell<()>,
    events: OnceCell<()>,
    /// Uids whose facts have been copied, or forgotten here.
    facts: Mutex<BTreeSet<Uid>>,
}

impl OverlayLedger {
    /// Over this one, which it never writes to.
    pub fn new(base: Arc<dyn Ledger>) -> Self {
        Self { base, own: MemoryLedger::default(), tables: OnceCell::new(), events: OnceCell::new(), facts: Mutex::default() }
    }

    /// The ledger in memory, with records, leases and statuses of the base.
    async fn copied(&self) -> Result<&MemoryLedger> {
        let copy = || async {
            let (records, leases, statuses) = (self.base.records().await?, self.base.leases().await?, self.base.statuses().await?);
            let mut tables = self.own.tables();
            tables.records = records.into_iter().map(|record| (record.object.clone(), record)).collect();
            tables.leases = leases;
            tables.statuses = statuses;
            Ok(())
        };
        self.tables.get_or_try_init(copy).await?;
        Ok(&self.own)
    }

    /// The same, with the facts of this life.
    async fn with_facts(&self, uid: &Uid) -> Result<&MemoryLedger> {
        let copied = || self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        if !copied().contains(uid) {
            let facts = self.base.facts(uid).await?;
            // Whoever comes second must not undo what the first wrote meanwhile.
            let mut copied = copied();
            if copied.insert(uid.clone()) {
                self.own.tables().facts.insert(uid.clone(), facts);
            }
        }
        Ok(&self.own)
    }

    /// The same, with the events.
    async fn with_events(&self) -> Result<&MemoryLedger> {
        let copy = || async {
            let events = self.base.events(None, EVENTS_KEPT).await?;
            self.own.tables().events = events;
            Ok(())
        };
        self.events.get_or_try_init(copy).await?;
        Ok(&self.own)
    }
}

impl Ledger for OverlayLedger {
    fn records(&self) -> BoxFuture<'_, Result<Vec<Record>>> {
        Box::pin(async move { self.copied().await?.records().await })
    }

    fn admit<'a>(&'a self, document: &'a Document, fresh: Admission, recovered: Option<Admission>) -> BoxFuture<'a, Result<Admitted>> {
        Box::pin(async move { self.copied().await?.admit(document, fresh, recovered).await })
    }

    fn grant<'a>(&'a self, object: &'a ObjectRef, uid: &'a Uid, claims: &'a [Claim], held: &'a [Grant], pools: &'a Pools) -> BoxFuture<'a, Result<Granted>> {
        Box::pin(async move { self.copied().await?.grant(object, uid, claims, held, pools).await })
    }

    fn revoke<'a>(&'a self, uid: &'a Uid, port: u16) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.copied().await?.revoke(uid, port).await })
    }

    fn leases(&self) -> BoxFuture<'_, Result<Vec<Lease>>> {
        Box::pin(async move { self.copied().await?.leases().await })
    }

    fn facts<'a>(&'a self, uid: &'a Uid) -> BoxFuture<'a, Result<Facts>> {
        Box::pin(async move { self.with_facts(uid).await?.facts(uid).await })
    }

    fn record<'a>(&'a self, uid: &'a Uid, facts: &'a [Fact]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.with_facts(uid).await?.record(uid, facts).await })
    }

    fn bury<'a>(&'a self, object: &'a ObjectRef, tombstone: &'a Tombstone) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.copied().await?.bury(object, tombstone).await })
    }

    fn release<'a>(&'a self, object: &'a ObjectRef) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let own = self.copied().await?;
            let record = own.tables().records.get(object).map(|record| record.admission.uid.clone());
            let leases: Vec<Uid> = own.tables().leases.iter().filter(|lease| lease.object == *object).map(|lease| lease.uid.clone()).collect();
            for uid in leases.iter().chain(&record) {
                self.with_facts(uid).await?;
            }
            own.release(object).await
        })
    }

    fn save_status<'a>(&'a self, object: &'a ObjectRef, status: &'a serde_json::Value, at: Timestamp) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.copied().await?.save_status(object, status, at).await })
    }

    fn statuses(&self) -> BoxFuture<'_, Result<BTreeMap<ObjectRef, (serde_json::Value, Timestamp)>>> {
        Box::pin(async move { self.copied().await?.statuses().await })
    }

    fn event<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.with_events().await?.event(event).await })
    }

    fn events<'a>(&'a self, object: Option<&'a ObjectRef>, limit: u32) -> BoxFuture<'a, Result<Vec<Event>>> {
        Box::pin(async move { self.with_events().await?.events(object, limit).await })
    }

    fn journal<'a>(&'a self, entry: &'a JournalEntry) -> BoxFuture<'a, Result<()>> {
        self.own.journal(entry)
    }

    fn journal_of<'a>(&'a self, object: &'a ObjectRef, limit: u32) -> BoxFuture<'a, Result<Vec<JournalEntry>>> {
        Box::pin(async move {
            let mut entries = self.base.journal_of(object, JOURNAL_KEPT).await?;
            entries.extend(self.own.journal_of(object, JOURNAL_KEPT).await?);
            Ok(latest(&entries, limit.min(JOURNAL_KEPT)))
        })
    }

    fn setting<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<String>>> {
        Box::pin(async move {
            let own = self.own.tables().settings.get(key).cloned();
            match own {
                Some(value) => Ok(value),
                None => self.base.setting(key).await,
            }
        })
    }

    fn set_setting<'a>(&'a self, key: &'a str, value: Option<&'a str>) -> BoxFuture<'a, Result<()>> {
        self.own.set_setting(key, value)
    }
}
