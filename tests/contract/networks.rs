//! Networks: one of each name, ours or none, and no overlap.

use std::collections::BTreeMap;

use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest};
use dockmaster::desired::naming;
use dockmaster::planner::Operation;
use dockmaster::runtime::Refusal;

use crate::fixture::{Fixture, attachment, is_transient, refusal, subnet};

fn request(name: &str, subnet: &str, labels: &BTreeMap<String, String>) -> NetworkCreateRequest {
    NetworkCreateRequest {
        name: name.to_owned(),
        ipam: Some(Ipam { config: Some(vec![IpamConfig { subnet: Some(subnet.to_owned()), ..Default::default() }]), ..Default::default() }),
        labels: Some(labels.clone().into_iter().collect()),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_network_is_made_once_with_its_subnet_and_removed_once() {
    let f = Fixture::new().await;
    let range = subnet();
    let name = f.ensure_network("alice", &range).await.unwrap();
    f.ensure_network("alice", &range).await.unwrap();
    let world = f.world().await;
    let networks: Vec<_> = world.networks.named(&name).collect();
    assert_eq!(networks.len(), 1);
    assert_eq!((networks[0].subnets.as_slice(), networks[0].driver.as_str()), (&[range][..], "bridge"));
    assert_eq!(networks[0].owner.as_ref().map(|owner| owner.object.clone()), Some(naming::namespace_ref("alice")));
    f.twice(Operation::RemoveNetwork { id: networks[0].id.clone(), name: name.clone() }).await;
    assert_eq!(f.world().await.networks.named(&name).count(), 0);
}

#[tokio::test]
async fn a_race_for_a_name_ends_with_one_network() {
    let f = Fixture::new().await;
    // Different subnets, so that 20.10 would make them all.
    let ranges: Vec<String> = (0..4).map(|_| subnet()).collect();
    let name = futures::future::try_join_all(ranges.iter().map(|range| f.ensure_network("alice", range))).await.unwrap().remove(0);
    // The last to look sees what all have made.
    f.ensure_network("alice", &ranges[0]).await.unwrap();
    assert_eq!(f.world().await.networks.named(&name).count(), 1);
}

#[tokio::test]
async fn two_that_want_the_same_network_at_once_both_get_it() {
    let f = Fixture::new().await;
    let range = subnet();
    futures::future::try_join_all((0..4).map(|_| f.ensure_network("alice", &range))).await.unwrap();
}

#[tokio::test]
async fn the_duplicate_that_is_in_use_stays() {
    let f = Fixture::new().await;
    let name = f.ensure_network("alice", &subnet()).await.unwrap();
    let labels = naming::namespace_labels(&f.sandbox.installation, "alice");
    let second = f.docker().create_network(request(&name, &subnet(), &labels)).await;
    // A current engine refuses the second one by itself.
    assert_eq!(second.is_err(), f.sandbox.client.api >= (1, 44), "{second:?}");
    if let Ok(second) = second {
        let mut spec = f.spec();
        spec.networks = vec![attachment(&name, &[])];
        assert_eq!(refusal(f.try_create(spec.clone()).await), Refusal::NoNetwork, "which of the two?");
        f.ensure_network("alice", &subnet()).await.unwrap();
        let world = f.world().await;
        let left: Vec<_> = world.networks.named(&name).collect();
        assert!(left.len() == 1 && left[0].id != second.id, "the older one stays");
        f.running(spec).await;
    }
    f.ensure_network("alice", &subnet()).await.unwrap();
    assert_eq!(f.world().await.networks.named(&name).count(), 1);
}

#[tokio::test]
async fn an_overlapping_subnet_is_refused_as_such() {
    let f = Fixture::new().await;
    let range = subnet();
    f.ensure_network("alice", &range).await.unwrap();
    assert_eq!(refusal(f.ensure_network("bob", &range).await), Refusal::SubnetTaken);
}

#[tokio::test]
async fn a_strangers_network_of_the_name_is_a_conflict_and_stays() {
    let f = Fixture::new().await;
    let stranger = f.docker().create_network(request(&f.network_name(), &subnet(), &BTreeMap::new())).await.unwrap().id;
    assert_eq!(refusal(f.ensure_network("alice", &subnet()).await), Refusal::NameConflict);
    assert_eq!(refusal(f.execute(Operation::RemoveNetwork { id: stranger.clone(), name: f.network_name() }).await), Refusal::NotOurs);
    let world = f.world().await;
    assert!(world.networks.get(&stranger).is_some_and(|network| network.owner.is_none()));
    // It can be joined where a spec asks for it by name.
    let mut spec = f.spec();
    spec.networks = vec![attachment(&f.network_name(), &[])];
    let id = f.running(spec).await;
    assert_eq!(f.container(&id).await.networks[&f.network_name()], stranger);
}

#[tokio::test]
async fn labels_that_do_not_fit_the_name_are_refused() {
    let f = Fixture::new().await;
    let labels = naming::namespace_labels(&f.sandbox.installation, "bob");
    let operation = Operation::EnsureNetwork { name: f.network_name(), subnet: subnet(), labels };
    assert_eq!(refusal(f.execute(operation).await), Refusal::NotOurs);
}

#[tokio::test]
async fn a_network_in_use_is_for_later() {
    let f = Fixture::new().await;
    let name = f.ensure_network("alice", &subnet()).await.unwrap();
    let mut spec = f.spec();
    spec.networks = vec![attachment(&name, &[])];
    let id = f.running(spec).await;
    let network = f.container(&id).await.networks[&name].clone();
    assert!(is_transient(&f.execute(Operation::RemoveNetwork { id: network, name }).await));
}
