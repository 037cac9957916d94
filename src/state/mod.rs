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

use std::collections::{BTreeMap, BTreeSet};

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::resource::condition::closed_set;
use crate::resource::status::Next;
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

/// What only history knows of an object. Each field says what stands in for it when the ledger is lost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// The last activity and its kind; lost: the container's start.
    pub activity: Option<(Timestamp, String)>,
    /// Since when it runs by somebody's wish; lost: the container's start.
    pub run_since: Option<Timestamp>,
    /// When `start` was last asked for; lost: never.
    pub start_asked: Option<Timestamp>,
    /// No stop by policy before this instant (`extend`); lost: none.
    pub extended_until: Option<Timestamp>,
    /// Why it was stopped by policy; lost: unknown, it stays stopped (`StateLost`).
    pub stopped: Option<PolicyStop>,
    /// The value of the restart annotation that was acted on; lost: the present one.
    pub restart_seen: Option<String>,
    /// A restart asked for on the command line and not done yet.
    pub restart_asked: Option<Timestamp>,
    /// Hooks done: (container, hook, start instant or empty); lost: done.
    pub hooks_done: BTreeSet<(String, String, String)>,
    /// Hooks that failed: (container, hook) to the message.
    pub hooks_failed: BTreeMap<String, String>,
    /// The last sample; lost: taken anew.
    pub sample: Option<Sample>,
    /// When the idle check last failed to answer, first of the row.
    pub idle_check_failing: Option<Timestamp>,
    /// The stop that was warned of.
    pub warned: Option<Timestamp>,
    /// The configuration that was applied, by container name, as `(field, value)`, redacted.
    pub applied: BTreeMap<String, BTreeMap<String, String>>,
    /// The own digest of the spec that was applied; lost: the present one.
    pub applied_digest: Option<String>,
    /// A replacement that failed: the hash and the message.
    pub update_failed: Option<(String, String)>,
    /// Exits seen, for the crash loop: instants, the latest last, at most twelve; lost: none.
    pub exits: Vec<Timestamp>,
    /// Failed attempts of operations in a row, and when the next may be.
    pub failures: u32,
    /// The last lines of the log before the last removal or crash.
    pub previous_log: Option<String>,
    /// A preview: the resolved configuration, pinned at its creation; lost: made anew from the source, else held.
    pub pinned: Option<serde_json::Value>,
    /// A preview: its hash; lost: from labels.
    pub preview_hash: Option<String>,
    /// A preview: the volumes were copied.
    pub copied: Option<Timestamp>,
    /// A preview: it has expired.
    pub expired: Option<Timestamp>,
    /// Data volumes that were made once: a missing one is `DataLost`.
    pub volumes_made: BTreeSet<String>,
    /// Volumes that were found gone: name to the generation at which that was seen.
    pub data_lost: BTreeMap<String, u64>,
    /// The state was recovered from labels after a loss, and no `start` was asked for since.
    pub state_lost: bool,
}

/// A stop by policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyStop {
    /// When.
    pub at: Timestamp,
    /// Which policy.
    pub why: StopReason,
}

closed_set! {
    /// Why a running object was stopped.
    StopReason {
        /// No activity.
        Idle,
        /// The end of its lifetime.
        Lifetime,
        /// Outside its hours.
        OutsideHours,
        /// The spec says `Stopped`.
        Declared,
        /// Quota.
        Quota,
        /// The preview expired.
        Expired,
    }
}

/// One activity sample.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// When.
    pub at: Timestamp,
    /// The container.
    pub container: String,
    /// Bytes that it had sent.
    pub sent: u64,
    /// Open exec sessions and since when they have been seen.
    pub execs: BTreeMap<String, Timestamp>,
}

/// The grave of a deleted object, in which its data waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// Which life it ends.
    pub uid: Uid,
    /// When it was deleted.
    pub at: Timestamp,
    /// When it ends.
    pub until: Timestamp,
    /// Whether the data goes then.
    pub consent: Consent,
    /// Set by `purge`: it ends now.
    pub purge: bool,
}

/// By whose word a volume may be removed. There is no third way to lose one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Consent {
    /// By nobody's.
    None,
    /// `deletionPolicy: Delete` in the last good spec.
    DeleteInSpec,
    /// It is the copy of a preview: it goes with it.
    PreviewCopy,
}

/// A durable fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    /// Something was done in it.
    Activity {
        /// When.
        at: Timestamp,
        /// What.
        by: String,
    },
    /// It began to run by somebody's wish.
    RunSince(Timestamp),
    /// A person asked for a start.
    StartAsked(Timestamp),
    /// A person postponed the next stop.
    ExtendedUntil(Timestamp),
    /// A policy stops it.
    Stopped(PolicyStop),
    /// Nothing keeps it stopped any more.
    Unstopped,
    /// The restart annotation was acted on.
    RestartSeen(Option<String>),
    /// A person asked for a restart.
    RestartAsked(Timestamp),
    /// That restart was done.
    RestartDone,
    /// A hook ran.
    HookDone {
        /// The container.
        container: String,
        /// The hook.
        hook: String,
        /// The start of the container, for hooks of each start; else empty.
        start: String,
    },
    /// A hook failed.
    HookFailed {
        /// The hook.
        hook: String,
        /// Why; empty takes the failure back.
        message: String,
    },
    /// A sample was taken.
    Sampled(Sample),
    /// The idle check did not answer; `None`: it did.
    IdleCheckFailing(Option<Timestamp>),
    /// The stop at this instant was warned of.
    Warned(Timestamp),
    /// A container was made with this configuration.
    Applied {
        /// Its name.
        name: String,
        /// `(field, value)`, redacted; empty: it is gone.
        fields: BTreeMap<String, String>,
    },
    /// The own spec of this digest is in force.
    AppliedDigest(String),
    /// A replacement failed; `None`: forgotten.
    UpdateFailed(Option<(String, String)>),
    /// The process ended by itself.
    Exited(Timestamp),
    /// The exits are forgotten.
    ExitsForgotten,
    /// The last lines of the log.
    PreviousLog(String),
    /// A preview's configuration.
    Pinned(serde_json::Value),
    /// A preview's hash.
    PreviewHash(String),
    /// A preview's volumes were copied.
    Copied(Timestamp),
    /// A preview has expired.
    Expired(Timestamp),
    /// A data volume was made.
    VolumeMade(String),
    /// A data volume was found gone.
    VolumeLost {
        /// Its name.
        name: String,
        /// The object's generation.
        generation: u64,
    },
    /// The state was lost and recovered.
    StateLost(bool),
    /// Operations failed so many times in a row.
    Failures(u32),
}

impl Fact {
    /// Its name in plans and the journal.
    pub fn name(&self) -> &'static str {
        match self {
            Fact::Activity { .. } => "activity",
            Fact::RunSince(_) => "run-since",
            Fact::StartAsked(_) => "start-asked",
            Fact::ExtendedUntil(_) => "extended",
            Fact::Stopped(_) => "stopped-by-policy",
            Fact::Unstopped => "may-run",
            Fact::RestartSeen(_) => "restart-annotation",
            Fact::RestartAsked(_) => "restart-asked",
            Fact::RestartDone => "restart-done",
            Fact::HookDone { .. } => "hook-done",
            Fact::HookFailed { .. } => "hook-failed",
            Fact::Sampled(_) => "sample",
            Fact::IdleCheckFailing(_) => "idle-check",
            Fact::Warned(_) => "warned",
            Fact::Applied { .. } => "applied",
            Fact::AppliedDigest(_) => "applied-spec",
            Fact::UpdateFailed(_) => "update-failed",
            Fact::Exited(_) => "exited",
            Fact::ExitsForgotten => "exits-forgotten",
            Fact::PreviousLog(_) => "previous-log",
            Fact::Pinned(_) => "pinned",
            Fact::PreviewHash(_) => "preview-hash",
            Fact::Copied(_) => "copied",
            Fact::Expired(_) => "expired",
            Fact::VolumeMade(_) => "volume-made",
            Fact::VolumeLost { .. } => "volume-lost",
            Fact::StateLost(_) => "state-lost",
            Fact::Failures(_) => "failures",
        }
    }
}

impl Facts {
    /// Applies one fact. The one place that says what a fact means.
    pub fn apply(&mut self, fact: &Fact) {
        match fact.clone() {
            Fact::Activity { at, by } => {
                if self.activity.as_ref().is_none_or(|(last, _)| *last <= at) {
                    self.activity = Some((at, by));
                }
                self.warned = None;
            }
            Fact::RunSince(at) => self.run_since = Some(at),
            Fact::StartAsked(at) => {
                self.start_asked = Some(at);
                self.run_since = Some(at);
                self.activity = Some((at, "start".to_owned()));
                self.stopped = None;
                self.warned = None;
                self.extended_until = None;
                self.state_lost = false;
                self.exits.clear();
            }
            Fact::ExtendedUntil(at) => {
                self.extended_until = Some(at);
                self.warned = None;
            }
            Fact::Stopped(stop) => self.stopped = Some(stop),
            Fact::Unstopped => self.stopped = None,
            Fact::RestartSeen(token) => self.restart_seen = token,
            Fact::RestartAsked(at) => self.restart_asked = Some(at),
            Fact::RestartDone => self.restart_asked = None,
            Fact::HookDone { container, hook, start } => {
                self.hooks_failed.remove(&hook);
                self.hooks_done.retain(|(done, ..)| *done == container);
                self.hooks_done.insert((container, hook, start));
            }
            Fact::HookFailed { hook, message } => {
                if message.is_empty() {
                    self.hooks_failed.remove(&hook);
                } else {
                    self.hooks_failed.insert(hook, message);
                }
            }
            Fact::Sampled(sample) => self.sample = Some(sample),
            Fact::IdleCheckFailing(since) => self.idle_check_failing = since.and(self.idle_check_failing.or(since)),
            Fact::Warned(at) => self.warned = Some(at),
            Fact::Applied { name, fields } => {
                if fields.is_empty() {
                    self.applied.remove(&name);
                } else {
                    self.applied.insert(name, fields);
                }
            }
            Fact::AppliedDigest(digest) => self.applied_digest = Some(digest),
            Fact::UpdateFailed(failed) => self.update_failed = failed,
            Fact::Exited(at) => {
                if self.exits.last().is_none_or(|last| *last < at) {
                    self.exits.push(at);
                }
                let excess = self.exits.len().saturating_sub(12);
                self.exits.drain(..excess);
            }
            Fact::ExitsForgotten => self.exits.clear(),
            Fact::PreviousLog(text) => self.previous_log = Some(text),
            Fact::Pinned(spec) => self.pinned = Some(spec),
            Fact::PreviewHash(hash) => self.preview_hash = Some(hash),
            Fact::Copied(at) => self.copied = Some(at),
            Fact::Expired(at) => self.expired = Some(at),
            Fact::VolumeMade(name) => {
                self.volumes_made.insert(name);
            }
            Fact::VolumeLost { name, generation } => {
                self.volumes_made.remove(&name);
                self.data_lost.insert(name, generation);
            }
            Fact::StateLost(lost) => self.state_lost = lost,
            Fact::Failures(count) => self.failures = count,
        }
    }
}

closed_set! {
    /// The reasons of events.
    EventReason {
        /// A container was made.
        Created,
        /// It was started.
        Started,
        /// It was stopped.
        Stopped,
        /// It was removed.
        Removed,
        /// It was replaced.
        Replaced,
        /// It was changed in place.
        Updated,
        /// Drift was mended.
        Healed,
        /// An image is being pulled.
        Pulling,
        /// An image was pulled.
        Pulled,
        /// A volume was copied.
        Copied,
        /// It will be stopped soon.
        StopSoon,
        /// It was stopped for want of activity.
        IdleStopped,
        /// It was stopped at the end of its lifetime.
        LifetimeStopped,
        /// It was stopped because of its hours.
        HoursStopped,
        /// The preview expired.
        Expired,
        /// It was deleted, and its data is kept.
        Tombstoned,
        /// It came back.
        Undeleted,
        /// Its tombstone ended.
        Purged,
        /// A port was leased.
        PortLeased,
        /// A port was given back.
        PortReleased,
        /// A container of ours was found and taken on.
        Adopted,
        /// What the ledger had lost came back from labels.
        StateRecovered,
        /// A document cannot be used.
        SourceInvalid,
        /// A directory of specs cannot be trusted.
        SourceUnhealthy,
        /// Deletions wait for `dockmaster prune`.
        PruneBlocked,
        /// They were confirmed.
        PruneConfirmed,
        /// Something failed.
        Failed,
        /// It is tried again later.
        BackOff,
    }
}

/// Whether an event needs attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventType {
    /// It does not.
    Normal,
    /// It may.
    Warning,
}

/// One line of `events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When it last happened.
    pub time: Timestamp,
    /// Normal or Warning.
    #[serde(rename = "type")]
    pub type_: EventType,
    /// Which.
    pub reason: EventReason,
    /// To what; absent for events of a source.
    pub object: Option<ObjectRef>,
    /// For people.
    pub message: String,
    /// How often in a row.
    pub count: u32,
}

/// One reconcile that did something: a line of `why`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// When.
    pub time: Timestamp,
    /// Of what.
    pub object: ObjectRef,
    /// At which generation.
    pub generation: u64,
    /// What brought it about.
    pub trigger: Trigger,
    /// The fields that differed.
    pub changes: Vec<FieldChange>,
    /// What was done.
    pub operations: Vec<JournalOperation>,
    /// What was left, and why.
    pub skipped: Vec<JournalSkipped>,
    /// What comes by itself.
    pub next: Option<Next>,
}

closed_set! {
    /// What brought a reconcile about; for the journal, never an input.
    Trigger {
        /// The spec changed.
        Spec,
        /// Docker reported something.
        Event,
        /// The full pass on a timer.
        Resync,
        /// An instant came.
        Deadline,
        /// A task ended.
        Task,
        /// A command.
        Command,
        /// The operator started.
        Start,
    }
}

/// One field that differed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// Its path.
    pub field: String,
    /// What it was.
    pub old: String,
    /// What it is.
    pub new: String,
}

/// One operation that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalOperation {
    /// Its name.
    pub op: String,
    /// What it acted on.
    pub target: String,
    /// `field: old -> new`.
    pub cause: String,
    /// `done`, or the error.
    pub result: String,
    /// How long it took.
    pub ms: u64,
}

/// One operation that was left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalSkipped {
    /// Its name.
    pub op: String,
    /// Why.
    pub why: String,
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
