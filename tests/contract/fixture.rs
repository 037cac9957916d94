//! An adapter on a sandbox, and containers, networks and volumes as the operator would ask for them.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use dockmaster::desired::{Attachment, ContainerSpec, ImageWant, Limits, MountSource, MountWant, Role, SecurityWant, naming};
use dockmaster::observed::{Container, ContainerId, World};
use dockmaster::planner::{Operation, Target};
use dockmaster::resource::quantity;
use dockmaster::resource::workspace::RestartPolicy;
use dockmaster::resource::{Bytes, Kind, ObjectRef, Uid};
use dockmaster::runtime::docker::DockerRuntime;
use dockmaster::runtime::docker::helper_image::HelperImage;
use dockmaster::runtime::{ContainerRuntime, Error, Outcome, Refusal};
use dockmaster::state::{Admission, Consent};

use crate::support::Sandbox;

/// A sandbox with an adapter on it.
pub struct Fixture {
    /// The adapter.
    pub runtime: DockerRuntime,
    /// The sandbox.
    pub sandbox: Sandbox,
    /// The uid of its one object.
    pub uid: Uid,
}

/// A deadline for what takes an engine a moment.
pub const SOON: Duration = Duration::from_secs(30);

impl Fixture {
    pub async fn new() -> Self {
        let sandbox = Sandbox::new().await;
        let runtime = adapter(&sandbox);
        Self { runtime, sandbox, uid: Uid(uuid::Uuid::now_v7().to_string()) }
    }

    pub fn docker(&self) -> &bollard::Docker {
        &self.sandbox.client.docker
    }

    pub fn object(&self) -> ObjectRef {
        ObjectRef::new(Kind::Workspace, "alice", "shop")
    }

    pub fn name(&self) -> String {
        naming::container_name(&self.sandbox.installation, &self.object(), None)
    }

    pub fn network_name(&self) -> String {
        naming::namespace_network(&self.sandbox.installation, "alice")
    }

    pub fn volume_name(&self) -> String {
        naming::volume_name(&self.sandbox.installation, &self.object(), "cache")
    }

    pub fn volume_labels(&self, uid: &Uid) -> BTreeMap<String, String> {
        naming::volume_labels(&self.sandbox.installation, &self.object(), uid, "cache", None)
    }

    /// A container that sleeps, without a network.
    pub fn spec(&self) -> ContainerSpec {
        let admission = Admission { uid: self.uid.clone(), generation: 3, created: "2026-01-02T03:04:05Z".parse().unwrap() };
        let mut labels = naming::container_labels(&self.sandbox.installation, &self.object(), &admission, Role::Main, None);
        labels.insert(naming::SPEC_HASH.to_owned(), "v1:aa".to_owned());
        ContainerSpec {
            name: self.name(),
            role: Role::Main,
            service: None,
            depends_on: Vec::new(),
            image: ImageWant::Reference(crate::support::IMAGE.to_owned()),
            entrypoint: None,
            command: Some(words(&["sleep", "600"])),
            env: BTreeMap::new(),
            working_dir: None,
            user: None,
            hostname: "shop".to_owned(),
            labels,
            ports: Vec::new(),
            mounts: Vec::new(),
            networks: Vec::new(),
            health: None,
            init: true,
            stop_signal: None,
            stop_grace: quantity::Duration::from_secs(5),
            security: SecurityWant { cap_drop: words(&["NET_RAW"]), read_only_root: false },
            storage_size: None,
            limits: Limits { memory: Some(Bytes(64 << 20)), cpu: None, pids: 64, restart: RestartPolicy::No },
            hash: "v1:aa".to_owned(),
        }
    }

    pub async fn execute(&self, operation: Operation) -> Result<Outcome, Error> {
        self.runtime.execute(&operation, None).await
    }

    /// Does it twice; the second time must find it done.
    pub async fn twice(&self, operation: Operation) -> Outcome {
        let first = self.execute(operation.clone()).await.unwrap_or_else(|error| panic!("{operation:?}: {error}"));
        let second = self.execute(operation.clone()).await.unwrap_or_else(|error| panic!("again, {operation:?}: {error}"));
        assert_eq!(first, second, "{operation:?}");
        first
    }

    pub async fn try_create(&self, spec: ContainerSpec) -> Result<ContainerId, Error> {
        let name = spec.name.clone();
        match self.execute(Operation::Create { spec: Box::new(spec), name, image_id: self.sandbox.image.clone() }).await? {
            Outcome::Made(id) => Ok(id),
            other => panic!("a creation gave {other:?}"),
        }
    }

    pub async fn create(&self, spec: ContainerSpec) -> ContainerId {
        self.try_create(spec).await.unwrap_or_else(|error| panic!("create: {error}"))
    }

    /// A running container.
    pub async fn running(&self, spec: ContainerSpec) -> ContainerId {
        let id = self.create(spec).await;
        self.execute(Operation::Start(self.target(&id))).await.unwrap_or_else(|error| panic!("start: {error}"));
        id
    }

    pub fn target(&self, id: &ContainerId) -> Target {
        Target::Existing { id: id.clone(), uid: self.uid.clone(), name: self.name() }
    }

    pub async fn ensure_network(&self, namespace: &str, subnet: &str) -> Result<String, Error> {
        let name = naming::namespace_network(&self.sandbox.installation, namespace);
        let labels = naming::namespace_labels(&self.sandbox.installation, namespace);
        self.execute(Operation::EnsureNetwork { name: name.clone(), subnet: subnet.to_owned(), labels }).await?;
        Ok(name)
    }

    pub async fn ensure_volume(&self) -> Result<Outcome, Error> {
        self.execute(Operation::EnsureVolume { name: self.volume_name(), labels: self.volume_labels(&self.uid) }).await
    }

    pub fn remove_volume(&self) -> Operation {
        Operation::RemoveVolume { name: self.volume_name(), uid: self.uid.clone(), consent: Consent::DeleteInSpec }
    }

    pub async fn world(&self) -> World {
        self.runtime.observe().await.unwrap_or_else(|error| panic!("observe: {error}"))
    }

    pub async fn container(&self, id: &ContainerId) -> Container {
        self.world().await.containers.remove(id).expect("the container is listed")
    }

    pub async fn inspect(&self, id: &str) -> bollard::models::ContainerInspectResponse {
        self.docker().inspect_container(id, None).await.expect("the container is there")
    }
}

/// Another adapter of the same installation.
pub fn adapter(sandbox: &Sandbox) -> DockerRuntime {
    static HELPER: LazyLock<HelperImage> = LazyLock::new(|| HelperImage::from_executable(env!("CARGO_BIN_EXE_dockmaster").into()));
    DockerRuntime::new(sandbox.client.clone(), &sandbox.installation, HELPER.clone())
}

pub fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

pub fn attachment(network: &str, aliases: &[&str]) -> Attachment {
    Attachment { network: network.to_owned(), aliases: words(aliases) }
}

pub fn mount(source: MountSource, path: &str) -> MountWant {
    MountWant { source, path: path.to_owned(), read_only: false }
}

/// The refusal's reason; anything else fails.
pub fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> Refusal {
    match result {
        Err(Error::Rejected { reason, .. }) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

pub fn is_transient<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Transient(_)))
}

/// A subnet of four bits of hosts that no test of this process has had.
pub fn subnet() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Where in 10.220.0.0/14 a process begins is random: suites run side by side.
    static BASE: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    let base = *BASE.get_or_init(|| u32::from(rand::random::<u8>()));
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("10.{}.{base}.{}/28", 220 + n / 16, n % 16 * 16)
}
