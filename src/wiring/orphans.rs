//! `orphans`: what this installation has on the engine without a spec.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dockmaster::cli::{Failure, Orphan};
use dockmaster::config::{HELPER_SETTING, RunSettings};
use dockmaster::observed::World;
use dockmaster::planner::{Operation, Target};
use dockmaster::resource::{Kind, ObjectRef, Uid};
use dockmaster::runtime::ContainerRuntime;
use dockmaster::state::{Ledger, Record};

const KEPT: &str = "kept by its tombstone; `dockmaster purge` ends it";

/// An orphan with what removes it; a stop comes before the removal of a container.
struct Found {
    orphan: Orphan,
    operations: Vec<Operation>,
}

/// Lists them; with `remove`, removes the containers and networks that this state directory knows nothing of. Volumes are data: they stay.
pub async fn list(ledger: Arc<dyn Ledger>, settings: &RunSettings, remove: bool) -> Result<Vec<Orphan>, Failure> {
    let declared = if remove { declared(settings).await? } else { BTreeSet::new() };
    let runtime = super::runtime(settings, ledger.setting(HELPER_SETTING).await?.as_deref(), &[]).await?;
    let records: BTreeMap<ObjectRef, Record> = ledger.records().await?.into_iter().map(|record| (record.object.clone(), record)).collect();
    let world = runtime.observe().await?;
    let mut orphans = Vec::new();
    for found in orphaned(&world, &records) {
        let mut orphan = found.orphan;
        if remove && !found.operations.is_empty() && !declared.contains(&orphan.object) {
            for operation in &found.operations {
                runtime.execute(operation, None).await?;
            }
            orphan.plan = "removed".to_owned();
        }
        orphans.push(orphan);
    }
    Ok(orphans)
}

/// All that the watched specs declare, whatever this state directory knows of it yet. What cannot be read may declare anything: then nothing is removed.
async fn declared(settings: &RunSettings) -> Result<BTreeSet<ObjectRef>, Failure> {
    let mut declared = BTreeSet::new();
    for root in &settings.roots {
        let listed = super::dry::list(settings, root).await;
        let unread = |why: &str| Failure::new(format!("nothing is removed, for what cannot be read may declare it\n{why}"));
        let listed = listed.map_err(|failure| unread(&failure.message))?;
        if let Some(invalid) = listed.invalid.first() {
            return Err(unread(&invalid.errors.join("\n")));
        }
        declared.extend(listed.items.iter().map(|item| item.resource.reference()));
    }
    Ok(declared)
}

fn orphaned(world: &World, records: &BTreeMap<ObjectRef, Record>) -> Vec<Found> {
    let living = |object: &ObjectRef| records.get(object).is_some_and(|record| record.tombstone.is_none());
    let known = |object: &ObjectRef, uid: Option<&Uid>| records.get(object).is_some_and(|record| Some(&record.admission.uid) == uid);
    let plan = |object: &ObjectRef, uid: Option<&Uid>| {
        if known(object, uid) { KEPT } else { "Orphaned (unknown to this state); `dockmaster orphans --remove` removes it" }
    };
    let mut found = Vec::new();
    for container in world.containers.values() {
        let Some(owner) = container.owner.as_ref().filter(|owner| !living(&owner.object) || !known(&owner.object, Some(&owner.uid))) else { continue };
        let target = Target::Existing { id: container.id.clone(), uid: owner.uid.clone(), name: container.name.clone() };
        let stop = Operation::Stop { target: target.clone(), grace: dockmaster::resource::Duration::from_secs(10) };
        let mut operations = vec![stop, Operation::Remove(target)];
        if known(&owner.object, Some(&owner.uid)) {
            operations.clear();
        }
        let orphan = Orphan {
            type_: "container",
            name: container.name.clone(),
            id: container.id.short().to_owned(),
            object: owner.object.clone(),
            since: Some(container.created),
            plan: plan(&owner.object, Some(&owner.uid)).to_owned(),
        };
        found.push(Found { orphan, operations });
    }
    for network in world.networks.values() {
        let Some(owner) = network.owner.as_ref().filter(|owner| owner.object.kind != Kind::Namespace && !known(&owner.object, owner.uid.as_ref())) else {
            continue;
        };
        let orphan = Orphan {
            type_: "network",
            name: network.name.clone(),
            id: network.id.chars().take(12).collect(),
            object: owner.object.clone(),
            since: None,
            plan: plan(&owner.object, owner.uid.as_ref()).to_owned(),
        };
        found.push(Found { orphan, operations: vec![Operation::RemoveNetwork { id: network.id.clone(), name: network.name.clone() }] });
    }
    found.extend(world.volumes.values().filter_map(|volume| {
        let owner = volume.owner.as_ref().filter(|owner| owner.object.kind != Kind::Namespace && !living(&owner.object))?;
        let kept = known(&owner.object, owner.uid.as_ref());
        let plan = if kept { KEPT } else { "kept: it is data; `docker volume rm` removes it" };
        let (name, id) = (volume.name.clone(), volume.name.clone());
        let orphan = Orphan { type_: "volume", name, id, object: owner.object.clone(), since: None, plan: plan.to_owned() };
        Some(Found { orphan, operations: Vec::new() })
    }));
    found
}
