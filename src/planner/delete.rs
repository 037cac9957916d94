//! What becomes of an object that is not declared any more: containers, private network and leases go; the data waits in its tombstone.
//!
//! **Invariant:** a volume is removed only at the end of a tombstone, and only when the last good spec said so.

use super::builder::target;
use super::hooks::{self, PreStop};
use super::{Action, Cause, Operation, Plan, PlanInput, PlanNode, Verdict, WaitKey, Waiting, last_lines};
use crate::desired::{Role, naming};
use crate::observed::{Container, Identity, Slot, State, TaskKey};
use crate::resource::quantity::Duration;
use crate::resource::status::{Next, NextAction, Phase};
use crate::resource::{Reason, Truth};
use crate::state::{Consent, Fact, Tombstone};

/// Plans the end of an object.
pub fn plan(input: &PlanInput<'_>, tombstone: &Tombstone) -> Plan {
    let mut plan = Plan::idle(Verdict::new(Phase::Deleting, Truth::False, Reason::Deleting, "it is being deleted; its data is kept"));
    let cause = Cause::new("document", "declared", "gone");
    let containers: Vec<(&Container, &Identity)> =
        input.world.of(input.object).filter_map(|c| c.owner.as_ref().filter(|o| o.uid == tombstone.uid).map(|o| (c, o))).collect();
    if !hook(input, tombstone, &containers, &mut plan) {
        plan.verdict.reconciling = true;
        return plan;
    }
    for (container, _) in containers.iter().filter(|(container, owner)| owner.role == Role::Main && container.state != State::Removing) {
        if last_lines::keep_in(&mut plan, input, container).is_none() {
            plan.verdict.reconciling = true;
            return plan;
        }
    }
    thaw(input, &containers, &mut plan, &cause);
    let removed = remove_containers(&mut plan, &containers, tombstone.farewell.grace, &cause);
    let mut cleared = removed.clone();
    for network in input.world.networks.of(input.object).filter(|n| n.owner.as_ref().is_some_and(|o| o.uid.as_ref() == Some(&tombstone.uid))) {
        let operation = Operation::RemoveNetwork { id: network.id.clone(), name: network.name.clone() };
        cleared.push(push(&mut plan, operation, Action::Delete, &cause, removed.clone()));
    }
    // Remembered, so that a crash in between does not keep them: what still goes holds its port.
    let released = input.facts.leases_released == Some(tombstone.at);
    if !cleared.is_empty() || (!released && plan.waiting.is_empty()) {
        let given_back = push(&mut plan, Operation::ReleaseLeases, Action::None, &cause, cleared);
        push(&mut plan, Operation::Record(Fact::LeasesReleased(tombstone.at)), Action::None, &cause, vec![given_back]);
        plan.verdict.reconciling = true;
        return plan;
    }
    if tombstone.purge || input.now >= tombstone.until {
        end(input, tombstone, &mut plan);
    } else {
        let why = match tombstone.consent {
            Consent::DeleteInSpec => "the tombstone ends and the data goes (deletionPolicy: Delete)",
            Consent::None | Consent::PreviewCopy => "the tombstone ends; the volumes stay and are listed by `dockmaster orphans`",
        };
        plan.next = Some(Next { action: NextAction::Purge, at: tombstone.until, why: why.to_owned() });
        plan.recheck = Some(tombstone.until);
        plan.verdict.message = "deleted; `dockmaster undelete` brings it back with its data".to_owned();
    }
    plan
}

/// A deletion is a stop too, with its hook; true when that has run.
fn hook(input: &PlanInput<'_>, tombstone: &Tombstone, containers: &[(&Container, &Identity)], plan: &mut Plan) -> bool {
    let farewell = &tombstone.farewell;
    for (container, _) in containers.iter().filter(|(_, owner)| owner.role == Role::Main) {
        let (key, begin) = match hooks::pre_stop(input.world, container, farewell.pre_stop.as_ref(), farewell.grace) {
            PreStop::None => continue,
            PreStop::Done(steps) => {
                for step in steps {
                    push(plan, step, Action::None, &Cause::new("hooks.preStop", "running", "done"), Vec::new());
                }
                continue;
            }
            PreStop::Running(key) => (key, None),
            PreStop::Due(key, task) => (key.clone(), Some(Operation::Begin(key, task))),
        };
        if let Some(begin) = begin {
            push(plan, begin, Action::Wait, &Cause::new("hooks.preStop", "not run", "run"), Vec::new());
        }
        plan.waiting.push(Waiting { on: WaitKey::Task(key), until: None, reason: "hooks.preStop to end".to_owned() });
        return false;
    }
    true
}

/// A preview that goes while it keeps its source still lets go of it first: the helper that tells so goes with it. A pause of a moment
/// ago may not have been seen yet; to thaw what is not paused does nothing.
fn thaw(input: &PlanInput<'_>, containers: &[(&Container, &Identity)], plan: &mut Plan, cause: &Cause) {
    let helpers = containers.iter().filter(|(_, owner)| owner.slot == Slot::Delta);
    let sources: Vec<&String> = helpers.filter_map(|(helper, _)| helper.labels.get(naming::SOURCE)).collect();
    for container in input.world.containers.values().filter(|container| container.is_active()) {
        let Some(owner) = container.owner.as_ref().filter(|owner| sources.contains(&&owner.uid.0)) else { continue };
        push(plan, Operation::Unpause(target(container, owner)), Action::Start, cause, Vec::new());
    }
}

/// Main first, then services; helpers too. Gives the nodes after which all are gone.
fn remove_containers(plan: &mut Plan, containers: &[(&Container, &Identity)], grace: Duration, cause: &Cause) -> Vec<usize> {
    let mut mains = Vec::new();
    let mut removed = Vec::new();
    let (main, others): (Vec<_>, Vec<_>) = containers.iter().partition(|(_, owner)| owner.role == Role::Main);
    for (container, owner) in main.into_iter().chain(others) {
        if container.state == State::Removing {
            plan.waiting.push(Waiting { on: WaitKey::Container(container.id.clone()), until: None, reason: format!("{} to be gone", container.name) });
            continue;
        }
        let mut after = if owner.role == Role::Main { Vec::new() } else { mains.clone() };
        if container.state == State::Paused {
            after = vec![push(plan, Operation::Unpause(target(container, owner)), Action::Delete, cause, after)];
        }
        if container.is_active() {
            after = vec![push(plan, Operation::Stop { target: target(container, owner), grace }, Action::Delete, cause, after)];
            if owner.role == Role::Main {
                mains.extend(after.clone());
            }
        }
        removed.push(push(plan, Operation::Remove(target(container, owner)), Action::Delete, cause, after));
        plan.nodes.extend(forget_tasks(container, cause));
    }
    removed
}

/// Outcomes of tasks in a container that goes are of no use any more.
fn forget_tasks(container: &Container, cause: &Cause) -> impl Iterator<Item = PlanNode> {
    let tasks = [TaskKey::Sample(container.id.clone()), TaskKey::Tail(container.id.clone())];
    tasks.into_iter().map(|task| PlanNode { operation: Operation::Forget(task), action: Action::None, cause: cause.clone(), depends_on: Vec::new() })
}

/// The tombstone has ended: volumes by the owner's word, then the record itself.
fn end(input: &PlanInput<'_>, tombstone: &Tombstone, plan: &mut Plan) {
    let cause = Cause::new("tombstone", "kept", if tombstone.purge { "purged" } else { "ended" });
    let mut after = Vec::new();
    for volume in input.world.volumes.of(input.object).filter(|v| v.owner.as_ref().is_some_and(|o| o.uid.as_ref() == Some(&tombstone.uid))) {
        let copy = input.object.kind == crate::resource::Kind::Preview;
        let consent = if copy { Consent::PreviewCopy } else { tombstone.consent };
        match consent {
            Consent::DeleteInSpec | Consent::PreviewCopy => {
                let operation = Operation::RemoveVolume { name: volume.name.clone(), uid: tombstone.uid.clone(), consent };
                after.push(push(plan, operation, Action::Delete, &cause, Vec::new()));
            }
            Consent::None => {
                plan.skipped.push(super::Skipped {
                    op: format!("remove-volume {}", volume.name),
                    why: "no consent in the spec: it stays, and `dockmaster orphans` lists it".to_owned(),
                });
            }
        }
    }
    push(plan, Operation::Release, Action::Delete, &cause, after);
}

fn push(plan: &mut Plan, operation: Operation, action: Action, cause: &Cause, depends_on: Vec<usize>) -> usize {
    plan.nodes.push(PlanNode { operation, action, cause: cause.clone(), depends_on });
    plan.nodes.len() - 1
}
