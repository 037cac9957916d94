//! `plan`: the same path as a reconcile, over a ledger that forgets, up to the check; nothing is executed.

use std::collections::BTreeSet;

use super::Controller;
use super::store::Entry;
use crate::desired::Intent;
use crate::observed::{Network, NetworkOwner, TaskKey, TaskResult, TaskState};
use crate::planner::{Operation, Plan};
use crate::resource::{ConditionType, Kind, ObjectRef, Origin};
use crate::source::{Item, SourceEvent};
use crate::state::{Facts, LedgerError, Trigger};

/// What is planned.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The source's name.
    pub source: String,
    /// Its documents.
    pub items: Vec<Item>,
    /// Files and documents that cannot be used, each with what it shields from deletion.
    pub invalid: Vec<(Origin, Vec<ObjectRef>)>,
    /// Whether these are all of the source, so that what is missing is gone.
    pub complete: bool,
}

impl Controller {
    /// Plans every object of these listings, over what the engine has now; with complete listings also what has disappeared from them.
    /// `None`: the engine does not answer.
    pub async fn dry(&self, listings: Vec<Listing>) -> Result<Option<Vec<(ObjectRef, Plan)>>, LedgerError> {
        self.load().await?;
        if !self.observe(Trigger::Start).await? {
            return Ok(None);
        }
        let mut wanted: BTreeSet<ObjectRef> = BTreeSet::new();
        for listing in listings {
            self.intake(&listing.source, SourceEvent::Init).await?;
            for item in listing.items {
                wanted.insert(item.resource.reference());
                self.intake(&listing.source, SourceEvent::InitApply(Box::new(item))).await?;
            }
            for (origin, shields) in listing.invalid {
                self.shield(&listing.source, origin, shields);
            }
            self.intake(&listing.source, SourceEvent::InitDone).await?;
            if listing.complete {
                let before: BTreeSet<ObjectRef> = self.store().of_source(&listing.source).map(|(key, _)| key.clone()).collect();
                self.decide_missing(&listing.source).await?;
                wanted.extend(before);
                wanted.extend(self.store().objects.iter().filter(|(_, entry)| entry.tombstone.is_some()).map(|(key, _)| key.clone()));
            }
        }
        let mut plans = Vec::new();
        for key in wanted.into_iter().filter(|key| matches!(key.kind, Kind::Workspace | Kind::Preview)) {
            let Some(entry) = self.store().objects.get(&key).cloned() else { continue };
            let mut facts = self.parts.ledger.facts(&entry.admission.uid).await?;
            let intent = self.intent(&key, &entry, &mut facts).await?;
            let plan = self.foresee(&key, &entry, &intent, &facts);
            self.assume_networks(&plan);
            plans.push((key, plan));
        }
        Ok(Some(plans))
    }

    /// Plans one object. The last lines of a log, which are read before a container goes, count as read: a plan shows what follows. What the operator
    /// found to be ready passes the health test that it ran itself.
    fn foresee(&self, key: &ObjectRef, entry: &Entry, intent: &Intent, facts: &Facts) -> Plan {
        let ready = entry.status.as_ref().is_some_and(|status| status.is_true(ConditionType::Ready));
        let mut tasks = self.parts.runtime.tasks();
        loop {
            let (plan, _) = self.plan_over(key, intent, facts, tasks.clone());
            let known: Vec<_> = plan.nodes.iter().filter_map(|node| foreseen(&node.operation, ready)).filter(|(task, _)| !tasks.contains_key(task)).collect();
            if known.is_empty() {
                return plan;
            }
            tasks.extend(known.into_iter().map(|(task, result)| (task, TaskState::Done { at: self.now(), result })));
        }
    }

    /// What one plan makes for a whole namespace, the next does not make again.
    fn assume_networks(&self, plan: &Plan) {
        let mut world = self.world();
        for node in &plan.nodes {
            if let Operation::EnsureNetwork { name, subnet, labels } = &node.operation
                && let Some(NetworkOwner { object, uid }) = crate::desired::naming::network_owner(&self.parts.settings.installation, name, labels)
            {
                let network = Network {
                    id: format!("planned {name}"),
                    name: name.clone(),
                    owner: Some(NetworkOwner { object, uid }),
                    subnets: vec![subnet.clone()],
                    driver: "bridge".to_owned(),
                };
                world.networks.insert(network.id.clone(), network);
            }
        }
    }
}

/// The task that an operation begins, and its result, where that is known before.
fn foreseen(operation: &Operation, ready: bool) -> Option<(TaskKey, TaskResult)> {
    let Operation::Begin(key, _) = operation else { return None };
    let result = match key {
        TaskKey::Tail(_) => TaskResult::Tail(String::new()),
        TaskKey::Probe(_) if ready => TaskResult::Exit { code: 0, output: String::new() },
        TaskKey::Probe(_)
        | TaskKey::Pull(_)
        | TaskKey::Helper
        | TaskKey::Hook(..)
        | TaskKey::Sample(_)
        | TaskKey::IdleCheck(_)
        | TaskKey::IdleWarn(_)
        | TaskKey::Disk(_)
        | TaskKey::Memory(_) => return None,
    };
    Some((key.clone(), result))
}
