//! What only history knows: plain data, and the `Ledger` port that keeps it. sqlx lives in `sqlite.rs` alone.
//!
//! **Invariant:** losing the ledger loses history and harms nothing: identity, leases and hashes come back from labels.

pub mod backup;
mod book;
pub mod directory_lock;
pub mod grant;
pub mod memory;
pub mod overlay;
pub mod sqlite;
pub mod statedir;

#[cfg(test)]
mod contract;

mod facts;
mod history;

pub use facts::{Consent, Fact, Facts, FailedHook, Farewell, PolicyStop, Sample, StopReason, Tombstone, UnnamedVolumes};
pub use history::{Event, EventReason, EventType, FieldChange, JournalEntry, JournalOperation, JournalSkipped, Trigger};

use std::collections::{BTreeMap, BTreeSet};

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::resource::{ObjectRef, Origin, Uid};

/// Which life and which version of an object this is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// Which life.
    pub uid: Uid,
    /// Counts changes of the object's own spec, from 1.
    pub generation: u64,
    /// When it was admitted.
    pub created: Timestamp,
}

/// The last good document of an object, as the ledger keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its key.
    pub object: ObjectRef,
    /// Its identity.
    pub admission: Admission,
    /// The last good text, without `status`.
    pub text: String,
    /// The digest of that text's meaning.
    pub digest: String,
    /// Where it was read.
    pub origin: Origin,
    /// Set when it is deleted and its data is kept.
    pub tombstone: Option<Tombstone>,
}

/// What an object needs and cannot compute alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Claim {
    /// A port of the host.
    Port {
        /// Its name in the spec.
        name: String,
        /// A number that the spec fixes; `None`: from the range.
        fixed: Option<u16>,
    },
    /// A subnet for a network of this name; the prefix length in bits.
    Subnet {
        /// The network's Docker name.
        network: String,
        /// 26 for a namespace, 28 for a workspace.
        prefix: u8,
    },
}

/// What was granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grant {
    /// A port.
    Port {
        /// Its name in the spec.
        name: String,
        /// The host's port.
        host: u16,
    },
    /// A subnet.
    Subnet {
        /// The network's Docker name.
        network: String,
        /// CIDR.
        cidr: String,
    },
    /// Nothing is left, or the fixed port is another's.
    Refused {
        /// What was asked for.
        claim: Claim,
        /// Who has it.
        holders: Vec<ObjectRef>,
    },
}

/// What an object holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Whose.
    pub object: ObjectRef,
    /// Which life.
    pub uid: Uid,
    /// What; never `Refused`.
    pub grant: Grant,
    /// Whether the spec fixes the port.
    pub fixed: bool,
}

/// What cannot be granted, and from what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pools {
    /// The range of ports, inclusive.
    pub ports: (u16, u16),
    /// The pool of subnets: CIDR.
    pub network: String,
    /// Ports in quarantine, and ports that something else than the object's own containers uses: other programs, and containers of other objects
    /// whose leases are not in the ledger yet.
    pub ports_taken: BTreeSet<u16>,
    /// Subnets that others use, of any prefix length: CIDR.
    pub subnets_taken: BTreeSet<String>,
    /// Fixed ports of all objects: never leased from the range.
    pub ports_fixed: BTreeSet<u16>,
    /// Objects that are stopped, the longest stopped first: when the range is used up, these give up their leases, in this order.
    pub reclaimable: Vec<Uid>,
}

/// The answer to claims.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// One for each claim, in their order.
    pub grants: Vec<Grant>,
    /// The ports among them that the object did not have before, by the ledger or by its labels.
    pub leased: Vec<Grant>,
    /// What others had to give up for it; each of them needs a new grant.
    pub displaced: Vec<Displaced>,
}

/// A lease that was taken away for the sake of another object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Displaced {
    /// Who lost it.
    pub object: ObjectRef,
    /// Its uid.
    pub uid: Uid,
    /// What.
    pub grant: Grant,
}

/// The ledger failed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The store failed.
    #[error("the ledger could not {doing}")]
    Store {
        /// What it was doing.
        doing: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It was written by a newer version.
    #[error("the state directory was written by a newer version of dockmaster (schema {found}, this one knows {known}); use that version or restore a backup")]
    TooNew {
        /// The schema found.
        found: i64,
        /// The newest schema known.
        known: i64,
    },
    /// The file is not a ledger any more.
    #[error(
        "{path} is damaged ({why}); bring a backup back with `dockmaster state restore FILE`, or move {path} away: a new one is begun, and nothing but history is lost"
    )]
    Corrupt {
        /// The file.
        path: String,
        /// What was found.
        why: String,
    },
    /// There is no ledger.
    #[error("there is no ledger at {path}; start `dockmaster run` first, or name its state directory with --state-dir")]
    Absent {
        /// The file.
        path: String,
    },
    /// A life of an object that the ledger does not know.
    #[error("the ledger knows no {object} with uid {uid}")]
    Unknown {
        /// The object.
        object: ObjectRef,
        /// The uid.
        uid: Uid,
    },
    /// Two objects claim one identity.
    #[error("uid {uid} of {object} belongs to another object already; remove the container that carries it by mistake")]
    Identity {
        /// The object that came second.
        object: ObjectRef,
        /// The uid.
        uid: Uid,
    },
}

impl LedgerError {
    /// The store failed in doing this.
    pub(crate) fn store(doing: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        LedgerError::Store { doing, source: source.into() }
    }
}

/// So many events are kept in all.
pub const EVENTS_KEPT: u32 = 10_000;
/// So many entries of the journal are kept for each object.
pub const JOURNAL_KEPT: u32 = 200;

/// The result of ledger calls.
pub type Result<T> = std::result::Result<T, LedgerError>;

/// Where what only history knows is kept.
pub trait Ledger: Send + Sync {
    /// All objects, living and buried.
    fn records(&self) -> BoxFuture<'_, Result<Vec<Record>>>;
    /// Admits a document: its uid and generation, from the ledger, else from `recovered`, else new (uid given, generation 1). A new digest raises
    /// the generation, and a higher one of the same life in `recovered` lifts it: it never falls. A tombstone of the key ends: the object is the
    /// old one. What is known and unchanged is not written.
    fn admit<'a>(&'a self, document: &'a Document, fresh: Admission, recovered: Option<Admission>) -> BoxFuture<'a, Result<Admitted>>;
    /// Grants claims in one transaction; what is held already is kept, what is not claimed any more is given back. `held` is what labels in Docker
    /// say that the object has: it counts where the ledger knows nothing. What shares no life with a document (a namespace) claims under a
    /// uid of its own making, such as `namespace/alice`. See `grant.rs` for the rules.
    fn grant<'a>(&'a self, object: &'a ObjectRef, uid: &'a Uid, claims: &'a [Claim], held: &'a [Grant], pools: &'a Pools) -> BoxFuture<'a, Result<Granted>>;
    /// Takes a port away from an object, so that the next grant gives another.
    fn revoke<'a>(&'a self, uid: &'a Uid, port: u16) -> BoxFuture<'a, Result<()>>;
    /// All leases.
    fn leases(&self) -> BoxFuture<'_, Result<Vec<Lease>>>;
    /// The facts of one object.
    fn facts<'a>(&'a self, uid: &'a Uid) -> BoxFuture<'a, Result<Facts>>;
    /// Writes facts, in order, in one transaction.
    fn record<'a>(&'a self, uid: &'a Uid, facts: &'a [Fact]) -> BoxFuture<'a, Result<()>>;
    /// Sets or changes the tombstone of an object; another life of it than the tombstone's is `Unknown`.
    fn bury<'a>(&'a self, object: &'a ObjectRef, tombstone: &'a Tombstone) -> BoxFuture<'a, Result<()>>;
    /// Forgets an object, its leases, facts and status; its events and journal stay.
    fn release<'a>(&'a self, object: &'a ObjectRef) -> BoxFuture<'a, Result<()>>;
    /// Keeps the status for readers without a running operator.
    fn save_status<'a>(&'a self, object: &'a ObjectRef, status: &'a serde_json::Value, at: Timestamp) -> BoxFuture<'a, Result<()>>;
    /// All statuses, with the instant of their writing.
    fn statuses(&self) -> BoxFuture<'_, Result<BTreeMap<ObjectRef, (serde_json::Value, Timestamp)>>>;
    /// Adds an event; an equal one (object, reason, message) that is the object's latest is counted up.
    fn event<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<()>>;
    /// Events, oldest first, of one object or all, at most so many of the latest.
    fn events<'a>(&'a self, object: Option<&'a ObjectRef>, limit: u32) -> BoxFuture<'a, Result<Vec<Event>>>;
    /// Adds to the journal.
    fn journal<'a>(&'a self, entry: &'a JournalEntry) -> BoxFuture<'a, Result<()>>;
    /// The journal of one object, oldest first, at most so many of the latest.
    fn journal_of<'a>(&'a self, object: &'a ObjectRef, limit: u32) -> BoxFuture<'a, Result<Vec<JournalEntry>>>;
    /// A setting of the installation: engine id, root inode, confirmed prunes, run settings.
    fn setting<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<String>>>;
    /// Writes a setting; `None` removes it.
    fn set_setting<'a>(&'a self, key: &'a str, value: Option<&'a str>) -> BoxFuture<'a, Result<()>>;
}

/// A document as the ledger admits it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its key.
    pub object: ObjectRef,
    /// Its text, without `status`.
    pub text: String,
    /// The digest of its spec.
    pub digest: String,
    /// Where it was read.
    pub origin: Origin,
}

/// The answer to an admission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Identity and version.
    pub admission: Admission,
    /// How it came about.
    pub how: AdmittedAs,
}

/// How an admission came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdmittedAs {
    /// Never seen before.
    New,
    /// Known, and unchanged.
    Known,
    /// Known, and its spec changed.
    Changed,
    /// It came back from its tombstone.
    Undeleted,
    /// Unknown here, but labels in Docker knew it.
    Recovered,
}
