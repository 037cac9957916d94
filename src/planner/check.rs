//! Lints every plan before it is executed: a plan that breaks a promise is a defect, and is not run.
//!
//! **Invariant:** no plan removes a volume without consent, acts on what is not the object's, or starts a second container beside one
//! that runs.

use std::collections::BTreeSet;

use super::{Operation, Plan, PlanInput, Target};
use crate::desired::Role;
use crate::observed::ContainerId;
use crate::state::Consent;

/// The first promise that the plan breaks, in words.
pub fn check(input: &PlanInput<'_>, plan: &Plan) -> Result<(), String> {
    for (index, node) in plan.nodes.iter().enumerate() {
        if let Some(later) = node.depends_on.iter().find(|on| **on >= index) {
            return Err(format!("node {index} depends on node {later}, which comes after it"));
        }
        if let Some(Target::Existing { id, name, .. }) = node.operation.container() {
            existing(input, id, name)?;
        }
        consent(input, &node.operation)?;
    }
    one_runs(input, plan)
}

fn existing(input: &PlanInput<'_>, id: &ContainerId, name: &str) -> Result<(), String> {
    let Some(container) = input.world.containers.get(id) else {
        return Err(format!("{name} was not seen in this pass"));
    };
    let Some(owner) = &container.owner else { return Err(format!("{name} is not ours")) };
    // A preview keeps its source still while it copies: the one case of acting on another object's containers.
    let related = owner.object == *input.object || (input.object.kind == crate::resource::Kind::Preview && owner.object.namespace == input.object.namespace);
    if related { Ok(()) } else { Err(format!("{name} belongs to {}", owner.object)) }
}

fn consent(input: &PlanInput<'_>, operation: &Operation) -> Result<(), String> {
    let Operation::RemoveVolume { name, uid, consent } = operation else { return Ok(()) };
    if *consent == Consent::None {
        return Err(format!("volume {name} would be removed without consent"));
    }
    let owner = input.world.volumes.get(name).and_then(|volume| volume.owner.as_ref());
    match owner {
        Some(owner) if owner.object == *input.object && owner.uid.as_ref() == Some(uid) => Ok(()),
        Some(owner) => Err(format!("volume {name} belongs to {}", owner.object)),
        None => Err(format!("volume {name} is not ours")),
    }
}

/// For each main container and service: whatever is started, everything else of the same role and service that runs is stopped before.
fn one_runs(input: &PlanInput<'_>, plan: &Plan) -> Result<(), String> {
    for (index, node) in plan.nodes.iter().enumerate() {
        let Operation::Start(started) = &node.operation else { continue };
        let Some((role, service)) = place(input, plan, started) else { continue };
        if role == Role::Helper {
            continue;
        }
        let before = ancestors(plan, index);
        for other in input.world.of(input.object).filter(|c| c.is_active()) {
            let Some(owner) = &other.owner else { continue };
            let itself = matches!(started, Target::Existing { id, .. } if *id == other.id);
            let stopped =
                before.iter().any(|b| matches!(&plan.nodes[*b].operation, Operation::Stop { target: Target::Existing { id, .. }, .. } if *id == other.id));
            if !itself && !stopped && owner.role == role && owner.service == service {
                return Err(format!("{} would run beside {}", started.name(), other.name));
            }
        }
    }
    Ok(())
}

fn place(input: &PlanInput<'_>, plan: &Plan, target: &Target) -> Option<(Role, Option<String>)> {
    match target {
        Target::Existing { id, .. } => input.world.containers.get(id)?.owner.as_ref().map(|o| (o.role, o.service.clone())),
        Target::Made { node, .. } => {
            let Operation::Create { spec, .. } = &plan.nodes.get(*node)?.operation else { return None };
            Some((spec.role, spec.service.clone()))
        }
    }
}

fn ancestors(plan: &Plan, index: usize) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut todo = plan.nodes[index].depends_on.clone();
    while let Some(next) = todo.pop() {
        if found.insert(next) {
            todo.extend(plan.nodes[next].depends_on.iter());
        }
    }
    found
}
