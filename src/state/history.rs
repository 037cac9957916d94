//! What happened, for people: events, and the journal of reconciles. Nothing is decided by it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::resource::ObjectRef;
use crate::resource::condition::closed_set;
use crate::resource::status::Next;

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
