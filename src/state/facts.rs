//! What only history knows of one object: single facts, and what they add up to.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::resource::condition::closed_set;
use crate::resource::{Duration, Uid};

/// What only history knows of an object. Each field says what stands in for it when the ledger is lost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// The last activity and its kind; lost: the container's start.
    pub activity: Option<(Timestamp, String)>,
    /// Since when it runs by somebody's wish; lost: the container's start.
    pub run_since: Option<Timestamp>,
    /// When this run first started; lost: the container's start.
    pub run_begun: Option<Timestamp>,
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
    /// What was begun last of each hook; lost: what the spec says.
    pub hooks_begun: BTreeMap<String, Vec<String>>,
    /// Hooks that failed, and were not changed since; lost: none.
    pub failed_hooks: BTreeMap<String, FailedHook>,
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
    /// The crash loop of the engine's that was told: the container and its restarts; lost: told once more.
    pub looping: Option<(String, u64)>,
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
    /// Which deletion, by its instant, has given the leases back; lost: given back once more.
    pub leases_released: Option<Timestamp>,
    /// Data volumes that were made once: a missing one is `DataLost`.
    pub volumes_made: BTreeSet<String>,
    /// Volumes that were found gone: name to the generation at which that was seen.
    pub data_lost: BTreeMap<String, u64>,
    /// Volumes without a name, by container name; lost: found again, and told once more.
    pub unnamed_volumes: BTreeMap<String, UnnamedVolumes>,
    /// The disk that it used, and when that was measured; lost: measured anew.
    pub disk: Option<(Timestamp, u64)>,
    /// The state was recovered from labels after a loss, and no `start` was asked for since.
    pub state_lost: bool,
}

/// A hook that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedHook {
    /// What was run.
    pub argv: Vec<String>,
    /// Why it failed.
    pub message: String,
}

/// What an image puts into volumes that the spec does not name: they go with the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnnamedVolumes {
    /// The container's id.
    pub container: String,
    /// The service; `None`: main.
    pub service: Option<String>,
    /// Where they are mounted.
    pub paths: Vec<String>,
}

impl UnnamedVolumes {
    /// What to write into the spec so that they stay.
    pub fn advice(&self) -> String {
        match &self.service {
            None => {
                let mounts: Vec<String> = self.paths.iter().map(|path| format!("`{{volume: {}, path: {path}}}`", volume_for(path))).collect();
                format!("add {} to spec.mounts to keep it", mounts.join(" and "))
            }
            Some(service) => {
                let path = self.paths.first().map(String::as_str).unwrap_or_default();
                format!("write `volume: {{path: {path}}}` into spec.services.{service} to keep it")
            }
        }
    }
}

/// A name for the volume of a path: its last part.
fn volume_for(path: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let last: String = path.rsplit('/').find(|part| !part.is_empty()).unwrap_or_default().chars().map(plain).collect();
    let name = last.trim_matches('-');
    if name.is_empty() { "data".to_owned() } else { name.to_owned() }
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
    /// How its containers are stopped.
    #[serde(default)]
    pub farewell: Farewell,
}

/// How the containers of a deleted object are stopped, by its last good spec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Farewell {
    /// How long the main container may take to end.
    pub grace: Duration,
    /// The hook before its stop.
    pub pre_stop: Option<Vec<String>>,
}

impl Default for Farewell {
    fn default() -> Self {
        Self { grace: Duration::from_secs(10), pre_stop: None }
    }
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
    /// That run has started.
    RunBegun(Timestamp),
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
    /// A hook is run.
    HookBegun {
        /// The hook.
        hook: String,
        /// What is run.
        argv: Vec<String>,
    },
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
        /// What was run, and why it failed.
        failed: FailedHook,
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
    /// The engine starts it again and again.
    Looping {
        /// The container.
        container: String,
        /// How often it did so.
        restarts: u64,
        /// For people.
        message: String,
    },
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
    /// The deletion of this instant has given the leases back.
    LeasesReleased(Timestamp),
    /// A data volume was made.
    VolumeMade(String),
    /// A data volume was found gone.
    VolumeLost {
        /// Its name.
        name: String,
        /// The object's generation.
        generation: u64,
    },
    /// A container has volumes without a name, or has none any more.
    UnnamedVolumes {
        /// The container's name.
        name: String,
        /// What was found in it.
        found: UnnamedVolumes,
    },
    /// Its disk use was measured.
    Disk {
        /// When.
        at: Timestamp,
        /// Bytes.
        used: u64,
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
            Fact::RunBegun(_) => "run-begun",
            Fact::StartAsked(_) => "start-asked",
            Fact::ExtendedUntil(_) => "extended",
            Fact::Stopped(_) => "stopped-by-policy",
            Fact::Unstopped => "may-run",
            Fact::RestartSeen(_) => "restart-annotation",
            Fact::RestartAsked(_) => "restart-asked",
            Fact::RestartDone => "restart-done",
            Fact::HookBegun { .. } => "hook-begun",
            Fact::HookDone { .. } => "hook-done",
            Fact::HookFailed { .. } => "hook-failed",
            Fact::Sampled(_) => "sample",
            Fact::IdleCheckFailing(_) => "idle-check",
            Fact::Warned(_) => "warned",
            Fact::Applied { .. } => "applied",
            Fact::AppliedDigest(_) => "applied-spec",
            Fact::UpdateFailed(_) => "update-failed",
            Fact::Exited(_) => "exited",
            Fact::Looping { .. } => "crash-loop",
            Fact::ExitsForgotten => "exits-forgotten",
            Fact::PreviousLog(_) => "previous-log",
            Fact::Pinned(_) => "pinned",
            Fact::PreviewHash(_) => "preview-hash",
            Fact::Copied(_) => "copied",
            Fact::Expired(_) => "expired",
            Fact::LeasesReleased(_) => "leases-released",
            Fact::VolumeMade(_) => "volume-made",
            Fact::VolumeLost { .. } => "volume-lost",
            Fact::UnnamedVolumes { .. } => "unnamed-volumes",
            Fact::Disk { .. } => "disk-use",
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
            Fact::RunSince(at) => {
                self.run_since = Some(at);
                self.run_begun = None;
            }
            Fact::RunBegun(at) => self.run_begun = Some(at),
            Fact::StartAsked(at) => {
                self.start_asked = Some(at);
                self.run_since = Some(at);
                self.run_begun = None;
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
            Fact::HookBegun { hook, argv } => {
                self.hooks_begun.insert(hook, argv);
            }
            Fact::HookDone { container, hook, start } => {
                self.failed_hooks.remove(&hook);
                // Of each hook only the latest occasion is asked for again.
                self.hooks_done.retain(|(done, of, _)| *done == container && *of != hook);
                self.hooks_done.insert((container, hook, start));
            }
            Fact::HookFailed { hook, failed } => {
                self.failed_hooks.insert(hook, failed);
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
            Fact::Looping { container, restarts, .. } => self.looping = Some((container, restarts)),
            Fact::ExitsForgotten => self.exits.clear(),
            Fact::PreviousLog(text) => self.previous_log = Some(text),
            Fact::Pinned(spec) => self.pinned = Some(spec),
            Fact::PreviewHash(hash) => self.preview_hash = Some(hash),
            Fact::Copied(at) => self.copied = Some(at),
            Fact::Expired(at) => self.expired = Some(at),
            Fact::LeasesReleased(deletion) => self.leases_released = Some(deletion),
            Fact::VolumeMade(name) => {
                self.volumes_made.insert(name);
            }
            Fact::VolumeLost { name, generation } => {
                self.volumes_made.remove(&name);
                self.data_lost.insert(name, generation);
            }
            Fact::UnnamedVolumes { name, found } => {
                if found.paths.is_empty() {
                    self.unnamed_volumes.remove(&name);
                } else {
                    self.unnamed_volumes.insert(name, found);
                }
            }
            Fact::Disk { at, used } => self.disk = Some((at, used)),
            Fact::StateLost(lost) => self.state_lost = lost,
            Fact::Failures(count) => self.failures = count,
        }
    }
}
