//! Decides what to do: `plan(&PlanInput) -> Plan`, pure. The executor has no choice left.
//!
//! **Invariant:** no IO, no clock, no randomness, no logging, no hash map. The same input gives the same plan.
//! **Invariant:** an empty plan means that nothing needs to be done now; `waiting` and `next` say what comes.

pub mod builder;
pub mod check;
#[cfg(test)]
mod check_tests;
pub mod clock;
pub mod container;
#[cfg(test)]
mod container_tests;
pub mod delete;
#[cfg(test)]
mod delete_tests;
pub mod disk;
#[cfg(test)]
mod disk_tests;
pub mod hooks;
#[cfg(test)]
mod hooks_tests;
pub mod hours;
pub mod idle;
#[cfg(test)]
mod idle_tests;
pub mod image;
#[cfg(test)]
mod image_tests;
pub mod last_lines;
#[cfg(test)]
mod last_lines_tests;
#[cfg(test)]
pub(crate) mod model;
pub mod network;
#[cfg(test)]
mod network_tests;
pub mod operation;
#[cfg(test)]
mod plan_tests;
pub mod preview;
#[cfg(test)]
mod preview_steps_tests;
#[cfg(test)]
mod preview_tests;
pub mod print;
#[cfg(test)]
mod print_tests;
pub mod readiness;
#[cfg(test)]
mod readiness_tests;
pub mod replace;
#[cfg(test)]
mod replace_tests;
pub mod run;
#[cfg(test)]
mod run_tests;
#[cfg(test)]
mod tests;
pub mod volume;
#[cfg(test)]
mod volume_tests;
pub mod workload;
#[cfg(test)]
mod workload_tests;

use jiff::Timestamp;

use crate::desired::Intent;
use crate::observed::{ContainerId, TaskKey, World};
use crate::resource::status::{Next, Phase};
use crate::resource::{Condition, ObjectRef, Reason, Truth};
use crate::state::Facts;

pub use operation::{Action, Cause, Operation, PlanItem, PlanNode, Skipped, Target, Task};

/// Everything that a plan depends on, as values.
#[derive(Clone, Copy, Debug)]
pub struct PlanInput<'a> {
    /// What is planned.
    pub object: &'a ObjectRef,
    /// What it should be.
    pub intent: &'a Intent,
    /// What is.
    pub world: &'a World,
    /// What only history knows.
    pub facts: &'a Facts,
    /// What the namespace's quota says of it.
    pub standing: &'a Standing,
    /// The instant for which the plan is made.
    pub now: Timestamp,
    /// What the engine can do.
    pub capabilities: &'a Capabilities,
}

/// What the set-wide rules say of one object; made once per change of the roster by `tenancy`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The sentence that says which quota stands in the way; `None`: it may run.
    pub over_quota: Option<String>,
    /// Whether an inherited change may replace it now (at most two at a time).
    pub inherited_turn: bool,
    /// How the workspace stands that a preview copies.
    pub source: SourceStanding,
}

/// How the workspace stands that a preview copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceStanding {
    /// It is declared.
    #[default]
    Declared,
    /// It is declared, and nothing may be done to it.
    Suspended,
    /// It is not declared any more, or another one has its name.
    Gone,
}

/// What the engine can do, as data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Its API version.
    pub api: (u16, u16),
    /// CPUs of the host in billionths; more cannot be asked for.
    pub nano_cpus: i64,
    /// Whether it runs on this host, so that `/proc` can be read and ports can be probed.
    pub local: bool,
    /// Whether the storage driver enforces a disk limit.
    pub disk_limit: bool,
}

impl Capabilities {
    /// Whether `HealthConfig.StartInterval` exists (API 1.44).
    pub fn start_interval(&self) -> bool {
        self.api >= (1, 44)
    }
}

/// What is to be done now, what it waits for, and what comes by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Operations as a graph: a node runs when all it depends on are done.
    pub nodes: Vec<PlanNode>,
    /// The fields that differ from what was applied, old and new.
    pub changes: Vec<Cause>,
    /// Operations that were considered and left, with the reason.
    pub skipped: Vec<Skipped>,
    /// Why nothing more can be done now.
    pub waiting: Vec<Waiting>,
    /// What the operator will do by itself.
    pub next: Option<Next>,
    /// The instant at which to plan again at the latest, besides `next`.
    pub recheck: Option<Timestamp>,
    /// What the status says if nothing else is found.
    pub verdict: Verdict,
}

impl Plan {
    /// A plan that does nothing, with that verdict.
    pub fn idle(verdict: Verdict) -> Self {
        Self { nodes: Vec::new(), changes: Vec::new(), skipped: Vec::new(), waiting: Vec::new(), next: None, recheck: None, verdict }
    }

    /// Whether there is nothing to do now.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// When to plan again at the latest.
    pub fn due(&self) -> Option<Timestamp> {
        let waiting = self.waiting.iter().filter_map(|waiting| waiting.until);
        waiting.chain(self.recheck).chain(self.next.as_ref().map(|next| next.at)).min()
    }

    /// Whether there is nothing to do and nothing under way.
    pub fn is_settled(&self) -> bool {
        self.nodes.is_empty() && self.waiting.is_empty()
    }
}

/// What the status says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The phase.
    pub phase: Phase,
    /// `Ready`.
    pub ready: Truth,
    /// The reason of `Ready`.
    pub reason: Reason,
    /// The message of `Ready`.
    pub message: String,
    /// Whether work is under way (`Reconciling`).
    pub reconciling: bool,
    /// Whether nothing will change until somebody changes something (`Stalled`).
    pub stalled: bool,
    /// Abnormal conditions.
    pub conditions: Vec<Condition>,
}

impl Verdict {
    /// A verdict without abnormal conditions.
    pub fn new(phase: Phase, ready: Truth, reason: Reason, message: impl Into<String>) -> Self {
        Self { phase, ready, reason, message: message.into(), reconciling: false, stalled: false, conditions: Vec::new() }
    }
}

/// Why nothing more can be done now. The controller indexes the keys and plans again when one changes, or at `until`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// For what.
    pub on: WaitKey,
    /// Until when at the latest.
    pub until: Option<Timestamp>,
    /// For people.
    pub reason: String,
}

/// What can be waited for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WaitKey {
    /// A task ends.
    Task(TaskKey),
    /// Another object changes.
    Object(ObjectRef),
    /// A container changes.
    Container(ContainerId),
    /// A port or a subnet is released.
    Leases,
    /// The set of objects of a namespace changes.
    Roster(String),
    /// An inherited change of another object is through.
    Turn,
    /// Only time passes.
    Time,
}

/// Makes the plan for one object.
pub fn plan(input: &PlanInput<'_>) -> Plan {
    match input.intent {
        Intent::Hold(condition) => run::hold(input, condition),
        Intent::Absent(tombstone) => delete::plan(input, tombstone),
        Intent::Shared { network, users } => network::plan_shared(input, network, users),
        Intent::Present(desired) if desired.preview.is_some() => preview::plan(input, desired),
        Intent::Present(desired) => workload::plan(input, desired),
    }
}
