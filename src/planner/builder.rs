//! A plan while it is made.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Action, Cause, Operation, Plan, PlanInput, PlanNode, Skipped, Target, Verdict, WaitKey, Waiting};
use crate::desired::DesiredState;
use crate::observed::{Container, Identity, Slot, TaskKey, TaskState};
use crate::resource::status::Next;
use crate::resource::{Condition, ConditionType};

/// Collects nodes, waits and conditions for one object.
pub struct Builder<'a> {
    /// What the plan depends on.
    pub input: &'a PlanInput<'a>,
    /// What the object should be.
    pub desired: &'a DesiredState,
    /// Nodes so far.
    pub nodes: Vec<PlanNode>,
    /// Fields that differ.
    pub changes: Vec<Cause>,
    /// What was left.
    pub skipped: Vec<Skipped>,
    /// What is waited for.
    pub waiting: Vec<Waiting>,
    /// What comes by itself.
    pub next: Option<Next>,
    /// When to look again at the latest.
    pub recheck: Option<Timestamp>,
    /// Abnormal conditions.
    pub conditions: Vec<Condition>,
    /// Nodes that make things containers need: name of a network or volume to the node.
    made: BTreeMap<String, usize>,
}

impl<'a> Builder<'a> {
    /// An empty plan.
    pub fn new(input: &'a PlanInput<'a>, desired: &'a DesiredState) -> Self {
        Self {
            input,
            desired,
            nodes: Vec::new(),
            changes: Vec::new(),
            skipped: Vec::new(),
            waiting: Vec::new(),
            next: None,
            recheck: None,
            conditions: desired.notices.clone(),
            made: BTreeMap::new(),
        }
    }

    /// Adds an operation; gives its index.
    pub fn push(&mut self, operation: Operation, action: Action, cause: Cause, depends_on: Vec<usize>) -> usize {
        self.nodes.push(PlanNode { operation, action, cause, depends_on });
        self.nodes.len() - 1
    }

    /// Adds an operation that makes a network or volume, so that containers can depend on it.
    pub fn push_made(&mut self, name: &str, operation: Operation, cause: Cause) {
        let node = self.push(operation, Action::Create, cause, Vec::new());
        self.made.insert(name.to_owned(), node);
    }

    /// The nodes that make those networks and volumes, if this plan makes any.
    pub fn makers<'n>(&self, names: impl Iterator<Item = &'n str>) -> Vec<usize> {
        let mut nodes: Vec<usize> = names.filter_map(|name| self.made.get(name).copied()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// Waits for something.
    pub fn wait(&mut self, on: WaitKey, until: Option<Timestamp>, reason: impl Into<String>) {
        self.waiting.push(Waiting { on, until, reason: reason.into() });
    }

    /// Looks again at that instant at the latest.
    pub fn recheck_at(&mut self, at: Timestamp) {
        self.recheck = Some(self.recheck.map_or(at, |known| known.min(at)));
    }

    /// Reports an abnormal condition.
    pub fn report(&mut self, type_: ConditionType, message: impl Into<String>) {
        self.conditions.push(Condition::abnormal(type_, message));
    }

    /// How a task is.
    pub fn task(&self, key: &TaskKey) -> Option<&'a TaskState> {
        self.input.world.tasks.get(key)
    }

    /// A container of this object by service (`None`: main) and slot.
    pub fn container(&self, service: Option<&str>, slot: Slot) -> Option<(&'a Container, &'a Identity)> {
        self.ours().find(|(_, owner)| owner.service.as_deref() == service && owner.slot == slot && owner.role != crate::desired::Role::Helper)
    }

    /// All containers of this life of the object.
    pub fn ours(&self) -> impl Iterator<Item = (&'a Container, &'a Identity)> + use<'a> {
        let uid = &self.desired.uid;
        self.input.world.of(self.input.object).filter_map(move |c| c.owner.as_ref().filter(|o| o.uid == *uid).map(|o| (c, o)))
    }

    /// The finished plan.
    pub fn finish(self, mut verdict: Verdict) -> Plan {
        verdict.conditions.extend(self.conditions);
        verdict.conditions.sort_by(|a, b| (a.type_, &a.message).cmp(&(b.type_, &b.message)));
        verdict.conditions.dedup_by(|b, a| a.type_ == b.type_ && a.message == b.message);
        verdict.conditions.dedup_by(|b, a| {
            let is_same = a.type_ == b.type_;
            if is_same {
                a.message = format!("{}; {}", a.message, b.message);
            }
            is_same
        });
        Plan { nodes: self.nodes, changes: self.changes, skipped: self.skipped, waiting: self.waiting, next: self.next, recheck: self.recheck, verdict }
    }
}

/// An existing container as a target.
pub fn target(container: &Container, owner: &Identity) -> Target {
    Target::Existing { id: container.id.clone(), uid: owner.uid.clone(), name: container.name.clone() }
}
