//! Observing: what a pass costs, and what it remembers.

use std::sync::{Arc, Mutex};

use dockmaster::observed::{Look, World};
use dockmaster::planner::Operation;
use dockmaster::resource::quantity;
use dockmaster::runtime::{Change, ContainerRuntime};
use futures::StreamExt;

use crate::fixture::{Fixture, SOON, adapter, attachment, subnet};
use crate::support::{IMAGE, until};

/// A fixture whose adapter's requests are written down as `METHOD /path`.
async fn recorded() -> (Fixture, Arc<Mutex<Vec<String>>>) {
    let mut f = Fixture::new().await;
    let calls = Arc::new(Mutex::new(Vec::new()));
    let log = calls.clone();
    f.sandbox.client.docker = f.sandbox.client.docker.clone().with_request_modifier(move |request| {
        log.lock().unwrap().push(format!("{} {}", request.method(), request.uri().path()));
        request
    });
    f.runtime = adapter(&f.sandbox);
    (f, calls)
}

fn take(calls: &Mutex<Vec<String>>) -> Vec<String> {
    std::mem::take(&mut *calls.lock().unwrap())
}

fn is_inspect(call: &str) -> bool {
    call.starts_with("GET /containers/") && call != "GET /containers/json"
}

#[tokio::test]
async fn a_quiet_pass_is_one_list_for_each_kind_and_no_inspect() {
    let (f, calls) = recorded().await;
    let id = f.running(f.spec()).await;
    let mut changes = f.runtime.changes();
    assert_eq!(tokio::time::timeout(SOON, changes.next()).await.unwrap(), Some(Change::Resync));
    take(&calls);
    f.world().await;
    assert!(take(&calls).contains(&format!("GET /containers/{}/json", id.0)), "first sight");
    f.world().await;
    let mut quiet = take(&calls);
    quiet.sort();
    assert_eq!(quiet, ["GET /containers/json", "GET /images/json", "GET /networks", "GET /volumes"]);
    for (look, of_engine) in [(Look::Object, false), (Look::Engine, true)] {
        let glimpse = f.runtime.glimpse(&f.object(), look).await.unwrap();
        let calls = take(&calls);
        assert!(!calls.iter().any(|call| is_inspect(call)));
        assert_eq!((glimpse.images.is_some(), calls.contains(&"GET /images/json".to_owned())), (of_engine, of_engine));
        // The engine has some of its own.
        assert_eq!((glimpse.networks.named.is_none(), glimpse.networks.seen.values().any(|network| network.name == "bridge")), (of_engine, of_engine));
    }

    f.execute(Operation::Stop { target: f.target(&id), grace: quantity::Duration::from_secs(1) }).await.unwrap();
    take(&calls);
    assert!(f.container(&id).await.details.unwrap().finished.is_some());
    assert!(take(&calls).iter().any(|call| is_inspect(call)), "after an operation of its own");
}

#[tokio::test]
async fn a_change_by_hand_is_read_again() {
    let (f, _) = recorded().await;
    let id = f.running(f.spec()).await;
    let mut changes = f.runtime.changes();
    changes.next().await;
    assert_eq!(f.container(&id).await.details.unwrap().memory, 64 << 20);
    let body = bollard::models::ContainerUpdateBody { memory: Some(80 << 20), memory_swap: Some(80 << 20), ..Default::default() };
    f.docker().update_container(&id.0, body).await.unwrap();
    let read = async || (f.container(&id).await.details.unwrap().memory == 80 << 20).then_some(());
    until("the new limit", SOON, read).await;
}

#[tokio::test]
async fn without_a_stream_nothing_is_remembered() {
    let (f, calls) = recorded().await;
    f.running(f.spec()).await;
    f.world().await;
    take(&calls);
    f.world().await;
    assert!(take(&calls).iter().any(|call| is_inspect(call)));
}

#[tokio::test]
async fn a_glimpse_says_of_an_object_what_a_listing_says() {
    let f = Fixture::new().await;
    let network = f.ensure_network("alice", &subnet()).await.unwrap();
    f.ensure_volume().await.unwrap();
    let mut spec = f.spec();
    spec.networks = vec![attachment(&network, &["shop"])];
    f.running(spec).await;
    let world = f.world().await;
    assert_eq!(world.engine, f.sandbox.client.engine());
    assert!(world.listed.is_some());
    assert_eq!(world.image(IMAGE), Some(&f.sandbox.image));
    for look in [Look::Object, Look::Engine] {
        let mut merged = World::default();
        merged.merge(&f.object(), f.runtime.glimpse(&f.object(), look).await.unwrap());
        assert_eq!(merged.of, [(f.object(), world.of[&f.object()].clone())].into());
        for (id, container) in &merged.containers {
            // Others' containers come and go; of the networks only ours is compared.
            assert_eq!(container, &world.containers[id]);
        }
        assert_eq!(merged.volumes[&f.volume_name()], world.volumes[&f.volume_name()]);
        assert!(merged.networks.named(&network).eq(world.networks.named(&network)) && merged.networks.named(&network).count() == 1);
    }
}

#[tokio::test]
async fn the_engine_says_what_it_can() {
    let f = Fixture::new().await;
    let capabilities = f.runtime.capabilities().await.unwrap();
    assert!(capabilities.nano_cpus >= 1_000_000_000 && capabilities.api >= (1, 41));
    assert_eq!(capabilities.start_interval(), capabilities.api >= (1, 44));
    let facts = f.sandbox.client.facts().await.unwrap();
    assert_eq!((facts.id.as_str(), facts.disk_limit), (f.sandbox.client.engine(), capabilities.disk_limit));
    assert!(facts.clock_skew.abs() < jiff::SignedDuration::from_secs(60) && !facts.storage.is_empty() && !facts.version.is_empty());
    assert_eq!(facts.disk.is_some(), capabilities.local);
}
