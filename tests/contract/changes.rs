//! Changes: what happens to ours by hand is told, others' noise is not, and a lost stream is neither silent nor final.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dockmaster::desired::naming;
use dockmaster::observed::{ContainerId, TaskKey};
use dockmaster::planner::{Operation, Task};
use dockmaster::runtime::console::ExecOptions;
use dockmaster::runtime::{Change, ContainerRuntime};
use futures::stream::{BoxStream, StreamExt};
use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use crate::fixture::{Fixture, SOON, adapter, attachment, subnet, words};

/// Waits for a change; those before it are dropped.
async fn wait(changes: &mut BoxStream<'static, Change>, what: &str, is: impl Fn(&Change) -> bool) {
    let found = async { while !is(&changes.next().await.expect("the stream goes on")) {} };
    tokio::time::timeout(SOON, found).await.unwrap_or_else(|_| panic!("{what} was not told"));
}

/// Drops what has come so far.
async fn drain(changes: &mut BoxStream<'static, Change>) {
    while let Ok(Some(_)) = tokio::time::timeout(std::time::Duration::from_millis(300), changes.next()).await {}
}

#[tokio::test]
async fn what_happens_to_ours_by_hand_is_told() {
    let f = Fixture::new().await;
    let mut changes = f.runtime.changes();
    wait(&mut changes, "the connection", |change| *change == Change::Resync).await;
    let network = f.ensure_network("alice", &subnet()).await.unwrap();
    f.ensure_volume().await.unwrap();
    let mut spec = f.spec();
    spec.networks = vec![attachment(&network, &[])];
    spec.health = Some(dockmaster::desired::HealthWant {
        test: words(&["CMD", "test", "-e", "/tmp/well"]),
        interval: dockmaster::resource::Duration::from_secs(1),
        timeout: dockmaster::resource::Duration::from_secs(1),
        retries: 1,
        start_period: None,
        start_interval: dockmaster::resource::Duration::from_secs(1),
    });
    let id = f.running(spec).await;
    let (object, namespace) = (Change::Object(f.object()), Change::Object(naming::namespace_ref("alice")));
    wait(&mut changes, "an unhealthy container", |change| *change == object).await;
    drain(&mut changes).await;

    let docker = f.docker();
    docker.pause_container(&id.0).await.unwrap();
    wait(&mut changes, "pause", |change| *change == object).await;
    docker.unpause_container(&id.0).await.unwrap();
    wait(&mut changes, "unpause", |change| *change == object).await;
    let rename = bollard::query_parameters::RenameContainerOptions { name: f.sandbox.foreign("x") };
    docker.rename_container(&id.0, rename).await.unwrap();
    wait(&mut changes, "rename", |change| *change == object).await;
    let disconnect = bollard::models::NetworkDisconnectRequest { container: id.0.clone(), force: Some(true) };
    docker.disconnect_network(&network, disconnect).await.unwrap();
    let told = tokio::time::timeout(SOON, changes.next()).await.unwrap().unwrap();
    assert_eq!(told, object, "which containers are on a network is no change of the namespace");
    docker.remove_container(&id.0, Some(bollard::query_parameters::RemoveContainerOptions { force: true, ..Default::default() })).await.unwrap();
    wait(&mut changes, "death", |change| *change == object).await;
    drain(&mut changes).await;
    let other = Fixture::new().await;
    let mut spec = other.spec();
    spec.networks = vec![attachment(&other.ensure_network("alice", &subnet()).await.unwrap(), &[])];
    let theirs = other.running(spec).await;
    let connect = bollard::models::NetworkConnectRequest { container: theirs.0.clone(), endpoint_config: None };
    docker.connect_network(&network, connect).await.unwrap();
    wait(&mut changes, "another's container on our network", |change| *change == namespace).await;
    other.execute(Operation::Remove(other.target(&theirs))).await.unwrap();
    wait(&mut changes, "its going", |change| *change == namespace).await;
    drain(&mut changes).await;
    docker.remove_network(&network).await.unwrap();
    wait(&mut changes, "the removal of a network", |change| *change == namespace).await;
    docker.remove_volume(&f.volume_name(), None::<bollard::query_parameters::RemoveVolumeOptions>).await.unwrap();
    wait(&mut changes, "the removal of a volume", |change| *change == object).await;
}

#[tokio::test]
async fn a_command_in_a_container_and_others_containers_are_no_change() {
    let f = Fixture::new().await;
    let other = Fixture::new().await;
    let id = f.running(f.spec()).await;
    let mut changes = f.runtime.changes();
    wait(&mut changes, "the connection", |change| *change == Change::Resync).await;
    f.world().await;
    let session = f.sandbox.client.exec(&id.0, ExecOptions { argv: words(&["true"]), ..ExecOptions::default() }).await.unwrap();
    session.output.collect::<Vec<_>>().await;
    let theirs = other.running(other.spec()).await;
    other.execute(Operation::Remove(other.target(&theirs))).await.unwrap();
    // What follows is told after them.
    f.docker().pause_container(&id.0).await.unwrap();
    let told = tokio::time::timeout(SOON, changes.next()).await.unwrap();
    assert_eq!(told, Some(Change::Object(f.object())));
    f.docker().unpause_container(&id.0).await.unwrap();
    assert_eq!(tokio::time::timeout(SOON, changes.next()).await.unwrap(), Some(Change::Object(f.object())));
}

#[tokio::test]
async fn a_reader_that_is_too_slow_gets_a_resync() {
    let f = Fixture::new().await;
    let mut changes = f.runtime.changes();
    wait(&mut changes, "the connection", |change| *change == Change::Resync).await;
    let mut beside = f.runtime.changes();
    let absent: Vec<ContainerId> = (0..1100).map(|n| ContainerId(format!("absent{n}"))).collect();
    for id in &absent {
        f.execute(Operation::Begin(TaskKey::Tail(id.clone()), Task::Tail { lines: 1, until: None })).await.unwrap();
    }
    let mut ended = 0;
    while ended < absent.len() {
        let change = tokio::time::timeout(SOON, beside.next()).await.expect("the tasks end").unwrap();
        ended += usize::from(matches!(change, Change::Task(_)));
    }
    assert_eq!(changes.next().await, Some(Change::Resync));
}

/// A socket in front of the engine that can be cut and restored.
struct Proxy {
    socket: PathBuf,
    engine: PathBuf,
    /// Whether replies are cut off before their first byte.
    mute: Arc<AtomicBool>,
    serving: JoinSet<()>,
}

impl Proxy {
    fn new(folder: &Path, engine: &Path) -> Self {
        let mut proxy = Self { socket: folder.join("engine.sock"), engine: engine.to_owned(), mute: Arc::default(), serving: JoinSet::new() };
        proxy.restore();
        proxy
    }

    fn restore(&mut self) {
        drop(std::fs::remove_file(&self.socket));
        let listener = UnixListener::bind(&self.socket).unwrap();
        let (engine, mute) = (self.engine.clone(), self.mute.clone());
        self.serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let (engine, mute) = (engine.clone(), mute.clone());
                connections.spawn(async move {
                    let mut far = UnixStream::connect(engine).await.unwrap();
                    if mute.load(Ordering::SeqCst) {
                        let (mut reply, mut request) = far.split();
                        tokio::select! {
                            _ = tokio::io::copy(&mut near, &mut request) => {}
                            _ = reply.read_u8() => {}
                        }
                        return;
                    }
                    drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
                });
            }
        });
    }

    /// Breaks all connections, the event stream's too, and takes no more.
    async fn cut(&mut self) {
        self.serving.shutdown().await;
    }
}

#[tokio::test]
async fn a_lost_engine_is_told_and_looked_for_until_it_is_back() {
    let f = Fixture::new().await;
    let Some(socket) = f.sandbox.client.host.strip_prefix("unix://") else { panic!("this test needs an engine behind a unix socket") };
    let folder = tempfile::tempdir().unwrap();
    let mut proxy = Proxy::new(folder.path(), Path::new(socket));
    let mut sandbox = crate::support::Sandbox::new().await;
    sandbox.client = dockmaster::runtime::docker::connect::connect(Some(&format!("unix://{}", proxy.socket.display()))).await.unwrap();
    let runtime = Arc::new(adapter(&sandbox));
    let mut changes = runtime.changes();
    wait(&mut changes, "the connection", |change| *change == Change::Resync).await;
    proxy.cut().await;
    wait(&mut changes, "the loss", |change| matches!(change, Change::Lost(_))).await;
    assert!(matches!(runtime.observe().await, Err(dockmaster::runtime::Error::Transient(_))), "nothing answers");
    proxy.restore();
    wait(&mut changes, "the return", |change| *change == Change::Resync).await;
    assert_eq!(runtime.observe().await.unwrap().engine, f.sandbox.client.engine());
}

#[tokio::test]
async fn a_reply_that_is_lost_leaves_the_outcome_unknown_and_the_next_try_finds_it() {
    let mut f = Fixture::new().await;
    let host = f.sandbox.client.host.clone();
    let Some(socket) = host.strip_prefix("unix://") else { panic!("this test needs an engine behind a unix socket") };
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::new(folder.path(), Path::new(socket));
    let direct = f.runtime.clone();
    f.sandbox.client = dockmaster::runtime::docker::connect::connect(Some(&format!("unix://{}", proxy.socket.display()))).await.unwrap();
    f.runtime = adapter(&f.sandbox);
    proxy.mute.store(true, Ordering::SeqCst);
    let lost = f.try_create(f.spec()).await;
    assert!(matches!(lost, Err(dockmaster::runtime::Error::Unknown(_))), "{lost:?}");
    let made = direct.observe().await.unwrap().container_named(&f.name()).expect("it was made").id.clone();
    proxy.mute.store(false, Ordering::SeqCst);
    assert_eq!(f.create(f.spec()).await, made);
}
