//! The lock: one holder, quick succession, and holders that end badly.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::*;
use dockmaster::runtime::docker::connect::{Client, connect};
use dockmaster::runtime::docker::lock::{Holder, Lock};
use dockmaster::runtime::{Error, Refusal};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::recorder::Recorder;
use crate::support::client as engine;
use crate::{helper, unique};

const LIMIT: Duration = Duration::from_secs(60);

fn holder(pid: u32) -> Holder {
    Holder { host: "box".to_owned(), pid, started: "2026-11-21T06:00:00Z".to_owned(), state_dir: "/srv/state".to_owned() }
}

async fn take(client: &Client, installation: &str, pid: u32) -> Lock {
    timeout(LIMIT, Lock::acquire(client, installation, &helper(), &holder(pid), |_| {})).await.unwrap().unwrap()
}

/// Somebody who waits, and whom they were told that they wait for.
struct Waiter {
    told: Arc<Mutex<Vec<Holder>>>,
    lock: JoinHandle<Lock>,
}

impl Waiter {
    async fn start(installation: &str, pid: u32) -> Self {
        let told = Arc::<Mutex<Vec<Holder>>>::default();
        let (telling, client, installation) = (told.clone(), engine().await, installation.to_owned());
        let lock = tokio::spawn(async move {
            Lock::acquire(&client, &installation, &helper(), &holder(pid), |holder| telling.lock().unwrap().push(holder.clone())).await.unwrap()
        });
        Self { told, lock }
    }

    async fn waits_for(&self, pid: u32) {
        let waiting = async {
            while !self.told.lock().unwrap().contains(&holder(pid)) {
                tokio::task::yield_now().await;
            }
        };
        timeout(LIMIT, waiting).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_operator_waits_is_told_for_whom_and_follows_at_once() {
    let (client, installation) = (engine().await, unique());
    let first = take(&client, &installation, 1).await;
    let second = Waiter::start(&installation, 2).await;
    second.waits_for(1).await;
    assert!(!second.lock.is_finished());
    let begun = Instant::now();
    drop(first);
    let second = timeout(LIMIT, second.lock).await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    second.release().await;
    let name = format!("{installation}-lock");
    assert!(client.docker.inspect_container(&name, None::<InspectContainerOptions>).await.is_err(), "nothing is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_one_holds() {
    let installation = unique();
    let mut waiters = Vec::new();
    for pid in 0..5 {
        waiters.push(Waiter::start(&installation, pid).await);
    }
    for left in (0..5).rev() {
        let locks = futures::future::select_all(waiters.iter_mut().map(|waiter| &mut waiter.lock));
        let (lock, index, _) = timeout(LIMIT, locks).await.unwrap();
        waiters.remove(index);
        assert_eq!(waiters.iter().filter(|waiter| waiter.lock.is_finished()).count(), 0, "{left} wait");
        lock.unwrap().release().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_whose_connection_breaks_learns_it_and_another_follows() {
    let installation = unique();
    let direct = engine().await;
    let proxy = Recorder::start(Path::new(direct.host.trim_start_matches("unix://"))).unwrap();
    let through = connect(Some(&proxy.host())).await.unwrap();
    let first = take(&through, &installation, 1).await;
    let second = Waiter::start(&installation, 2).await;
    second.waits_for(1).await;
    drop(proxy);
    timeout(Duration::from_secs(5), first.lost()).await.unwrap();
    timeout(LIMIT, second.lock).await.unwrap().unwrap().release().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_removed_by_hand_is_lost() {
    let (client, installation) = (engine().await, unique());
    let lock = take(&client, &installation, 1).await;
    assert!(timeout(Duration::ZERO, lock.lost()).await.is_err());
    let options = RemoveContainerOptionsBuilder::default().force(true).build();
    client.docker.remove_container(&format!("{installation}-lock"), Some(options)).await.unwrap();
    timeout(Duration::from_secs(5), lock.lost()).await.unwrap();
    take(&client, &installation, 1).await.release().await;
}

/// A container of the lock's name that was made and never started.
async fn leave(client: &Client, installation: &str, labels: &[(&str, &str)]) -> String {
    let image = helper().ensure(client).await.unwrap();
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let options = CreateContainerOptionsBuilder::default().name(&format!("{installation}-lock")).build();
    let body = ContainerCreateBody { image: Some(image), cmd: Some(vec!["lock".to_owned()]), labels: Some(labels), ..Default::default() };
    client.docker.create_container(Some(options), body).await.unwrap().id
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_half_made_is_removed() {
    let (client, installation) = (engine().await, unique());
    let labels = [
        ("dockmaster.installation", installation.as_str()),
        ("dockmaster.role", "helper"),
        ("dockmaster.host", "box"),
        ("dockmaster.pid", "7"),
        ("dockmaster.started", "2026-11-21T06:00:00Z"),
        ("dockmaster.state-dir", "/srv/state"),
    ];
    leave(&client, &installation, &labels).await;
    take(&client, &installation, 1).await.release().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_container_of_that_name_is_left_alone() {
    let (client, installation) = (engine().await, unique());
    let foreign = leave(&client, &installation, &[("dockmaster.installation", installation.as_str())]).await;
    let error = Lock::acquire(&client, &installation, &helper(), &holder(1), |_| {}).await.unwrap_err();
    assert!(matches!(error, Error::Rejected { reason: Refusal::NameConflict, ref message } if message.contains("--installation")), "{error}");
    client.docker.remove_container(&foreign, None::<RemoveContainerOptions>).await.unwrap();
}
