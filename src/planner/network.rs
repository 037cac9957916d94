//! Networks: made where they are wanted, removed where nobody uses them, and containers kept on exactly theirs.

use std::collections::BTreeSet;

use super::builder::{Builder, target};
use super::{Action, Cause, Operation, Plan, PlanInput, Verdict};
use crate::desired::{ContainerSpec, NetworkWant};
use crate::observed::{Container, Identity, Network};
use crate::resource::status::Phase;
use crate::resource::{Condition, ConditionType, ObjectRef, Reason, Truth};

/// Plans the networks that an object wants; false when one cannot be had.
pub fn ensure(b: &mut Builder<'_>, wants: &[NetworkWant]) -> bool {
    let mut possible = true;
    for want in wants {
        match find(b.input, &want.name) {
            Found::Ours(_) => {}
            Found::Foreign => {
                b.report(ConditionType::NameConflict, format!("network {} exists and is not ours; remove or rename it", want.name));
                possible = false;
            }
            Found::None => {
                let operation = Operation::EnsureNetwork { name: want.name.clone(), subnet: want.subnet.clone(), labels: want.labels.clone() };
                b.push_made(&want.name, operation, Cause::new("network", "absent", &want.name));
            }
        }
    }
    possible
}

/// A namespace's network: made by the first object that needs it, removed when there is no object any more.
pub fn plan_shared(input: &PlanInput<'_>, want: &NetworkWant, users: &BTreeSet<ObjectRef>) -> Plan {
    let found = find(input, &want.name);
    let mut plan = Plan::idle(Verdict::new(Phase::Active, Truth::True, Reason::Accepted, "the network is as its users need it"));
    let mut push = |operation, action, cause| {
        plan.nodes.push(super::PlanNode { operation, action, cause, depends_on: Vec::new() });
    };
    match (found, users.is_empty()) {
        (Found::Ours(networks), true) => {
            // Containers of ours that are about to go still hold it; the engine would refuse.
            let held = |id: &str| input.world.containers.values().any(|c| c.networks.values().any(|n| n == id));
            for network in networks.into_iter().filter(|n| !held(&n.id)) {
                push(Operation::RemoveNetwork { id: network.id.clone(), name: network.name.clone() }, Action::Delete, Cause::new("users", "some", "none"));
            }
            if plan.nodes.is_empty() {
                plan.recheck = Some(input.now + jiff::SignedDuration::from_mins(1));
            } else {
                plan.nodes.push(super::PlanNode {
                    operation: Operation::ReleaseLeases,
                    action: Action::None,
                    cause: Cause::new("users", "some", "none"),
                    depends_on: (0..plan.nodes.len()).collect(),
                });
            }
        }
        (Found::Foreign, false) => plan
            .verdict
            .conditions
            .push(Condition::abnormal(ConditionType::NameConflict, format!("network {} exists and is not ours; remove or rename it", want.name))),
        (Found::Ours(_) | Found::None, false) | (Found::None | Found::Foreign, true) => {}
    }
    plan
}

/// What the engine has under a network's name.
enum Found<'a> {
    /// Ours, one or (a race on old engines) several.
    Ours(Vec<&'a Network>),
    /// Only somebody else's.
    Foreign,
    /// Nothing.
    None,
}

fn find<'a>(input: &PlanInput<'a>, name: &'a str) -> Found<'a> {
    let (ours, foreign): (Vec<_>, Vec<_>) = input.world.networks.named(name).partition(|network| network.owner.is_some());
    match (ours.is_empty(), foreign.is_empty()) {
        (false, _) => Found::Ours(ours),
        (true, false) => Found::Foreign,
        (true, true) => Found::None,
    }
}

/// Whether a container holds the id of a network that is not there any more: it cannot start again, and is exchanged.
pub fn holds_dead_network(b: &Builder<'_>, container: &Container, want: &ContainerSpec) -> bool {
    want.networks
        .iter()
        .any(|attachment| container.networks.get(&attachment.network).is_some_and(|id| !id.is_empty() && !b.input.world.networks.contains_key(id)))
}

/// Connects what was disconnected, with its aliases, and disconnects from networks of ours that are not wanted.
/// Networks that somebody else added are left alone.
pub fn attach(b: &mut Builder<'_>, container: &Container, owner: &Identity, want: &ContainerSpec) {
    for attachment in &want.networks {
        let connected = container.networks.get(&attachment.network);
        let aliases_lost = container.details.as_ref().is_some_and(|details| {
            let present = details.aliases.get(&attachment.network);
            attachment.aliases.iter().any(|alias| !present.is_some_and(|p| p.contains(alias)))
        });
        let mut after = b.makers(std::iter::once(attachment.network.as_str()));
        match connected {
            None => {}
            Some(id) if aliases_lost && container.is_active() => {
                let operation = Operation::Disconnect { target: target(container, owner), network: id.clone() };
                after.push(b.push(
                    operation,
                    Action::Update,
                    Cause::new(format!("networks.{}.aliases", attachment.network), "lost", attachment.aliases.join(",")),
                    Vec::new(),
                ));
            }
            Some(_) => continue,
        }
        let operation = Operation::Connect { target: target(container, owner), network: attachment.network.clone(), aliases: attachment.aliases.clone() };
        b.push(operation, Action::Update, Cause::new(format!("networks.{}", attachment.network), "disconnected", "connected"), after);
    }
    for (name, id) in &container.networks {
        let ours = b.input.world.networks.get(id).is_some_and(|network| network.owner.is_some());
        if ours && !want.networks.iter().any(|attachment| attachment.network == *name) {
            let operation = Operation::Disconnect { target: target(container, owner), network: id.clone() };
            b.push(operation, Action::Update, Cause::new(format!("networks.{name}"), "connected", "not declared"), Vec::new());
        }
    }
}
