//! Whose a container is: labels alone make nothing ours, and a name alone takes nothing away.

use std::collections::BTreeMap;

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{CreateContainerOptions, RenameContainerOptions};
use dockmaster::desired::naming;
use dockmaster::observed::{ContainerId, Look, Slot};
use dockmaster::planner::Operation;
use dockmaster::runtime::ContainerRuntime;

use crate::fixture::{Fixture, adapter, words};
use crate::support;

async fn by_hand(f: &Fixture, name: &str, image: &str, labels: &BTreeMap<String, String>) -> ContainerId {
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        cmd: Some(words(&["true"])),
        labels: Some(labels.clone().into_iter().collect()),
        ..Default::default()
    };
    let options = CreateContainerOptions { name: Some(name.to_owned()), ..Default::default() };
    ContainerId(f.docker().create_container(Some(options), body).await.unwrap().id)
}

#[tokio::test]
async fn labels_of_an_image_or_a_copy_make_nothing_ours() {
    let f = Fixture::new().await;
    let labels = f.spec().labels;
    let changes: Vec<String> = labels.iter().map(|(key, value)| format!("LABEL {key}=\"{value}\"")).collect();
    let changes: Vec<&str> = changes.iter().map(String::as_str).collect();
    let image = support::import(&f.sandbox.client, &format!("{}:1", f.sandbox.foreign("spoof")), &changes).await;
    let from_image = by_hand(&f, &f.sandbox.foreign("from-image"), &image, &BTreeMap::new()).await;
    let copied = by_hand(&f, &f.sandbox.foreign("copied"), &f.sandbox.image, &labels).await;
    let world = f.world().await;
    for id in [&from_image, &copied] {
        assert_eq!(world.containers[id].labels[naming::UID], f.uid.0);
        assert_eq!(world.containers[id].owner, None);
    }
    assert!(f.runtime.glimpse(&f.object(), Look::Object).await.unwrap().containers.is_empty());
}

#[tokio::test]
async fn broken_labels_harm_no_listing() {
    let f = Fixture::new().await;
    let ours = f.create(f.spec()).await;
    for (n, (label, value)) in
        [(naming::UID, "not-a-uid"), (naming::GENERATION, "many"), (naming::CREATED, "yesterday"), (naming::KIND, "pod"), (naming::ROLE, "")]
            .into_iter()
            .enumerate()
    {
        let object = dockmaster::resource::ObjectRef::new(dockmaster::resource::Kind::Workspace, "alice", &format!("broken{n}"));
        let mut labels = f.spec().labels;
        labels.insert(naming::NAME.into(), object.name.clone());
        labels.insert(label.into(), value.into());
        labels.insert(naming::PORTS.into(), "{".into());
        let id = by_hand(&f, &naming::container_name(&f.sandbox.installation, &object, None), &f.sandbox.image, &labels).await;
        assert_eq!(f.world().await.containers[&id].owner, None, "{label}={value}");
    }
    let mut spec = f.spec();
    spec.name.push_str("_next");
    spec.labels.insert("dockmaster.from-the-future".into(), "{".into());
    spec.labels.insert(naming::PORTS.into(), "{".into());
    let future = f.create(spec).await;
    let world = f.world().await;
    assert_eq!(world.of[&f.object()], [ours, future.clone()].into());
    assert_eq!(world.containers[&future].slot(), Some(Slot::Next));
}

#[tokio::test]
async fn the_identity_is_read_whole() {
    let f = Fixture::new().await;
    let id = f.create(f.spec()).await;
    let owner = f.container(&id).await.owner.unwrap();
    assert_eq!((owner.object, owner.uid, owner.slot), (f.object(), f.uid.clone(), Slot::Current));
    assert_eq!((owner.hash.as_str(), owner.generation, owner.service), ("v1:aa", 3, None));
    assert_eq!(owner.created.to_string(), "2026-01-02T03:04:05Z");
}

#[tokio::test]
async fn a_container_renamed_by_hand_stays_ours_where_it_was_known() {
    let f = Fixture::new().await;
    let id = f.create(f.spec()).await;
    f.world().await;
    let mine = f.sandbox.foreign("mine-now");
    f.docker().rename_container(&id.0, RenameContainerOptions { name: mine.clone() }).await.unwrap();
    let seen = f.container(&id).await;
    assert_eq!((seen.name.as_str(), seen.owner.map(|owner| owner.object)), (mine.as_str(), Some(f.object())));
    let glimpse = f.runtime.glimpse(&f.object(), Look::Object).await.unwrap();
    assert_eq!(glimpse.containers.iter().map(|container| &container.id).collect::<Vec<_>>(), [&id]);
    // A process that never saw it under its own name cannot tell it from a copy of its labels.
    assert_eq!(adapter(&f.sandbox).observe().await.unwrap().containers[&id].owner, None);
    f.twice(Operation::Rename { target: f.target(&id), to: f.name() }).await;
    assert_eq!(f.container(&id).await.name, f.name());
}

#[tokio::test]
async fn another_installation_sees_nothing_of_it() {
    let f = Fixture::new().await;
    let other = Fixture::new().await;
    let id = f.create(f.spec()).await;
    assert_eq!(other.container(&id).await.owner, None);
    assert!(other.runtime.glimpse(&f.object(), Look::Object).await.unwrap().containers.is_empty());
}
