//! The simulated engine as a lab uses it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dockmaster::runtime::Error;
use dockmaster::runtime::docker::connect::{self, Client};
use dockmaster::runtime::simulated::fault::{Call, Delivery as Told, EventTap, Interceptor, Verdict};
use dockmaster::runtime::simulated::state::{self, Remote, Status};
use dockmaster::runtime::simulated::{Latency, Options, SimulatedEngine, Version};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::fault::{Delivery, Fault};
use super::gate::Gate;
use super::line::Line;
use super::scenario::Human;
use super::view::{Container, Network, View, Volume};
use super::watcher::{self, Reaction, Watcher};

/// The image that stands for the helper.
pub const HELPER: &str = "dockmaster/helper:test";
/// Images that the engine has.
const IMAGES: [&str; 4] = ["app:1", "app:2", "db:1", "db:2"];

/// Which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    V20,
    V28,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::V20 => "20.10",
            Mode::V28 => "28.5",
        })
    }
}

impl FromStr for Mode {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "20.10" => Ok(Mode::V20),
            "28.5" => Ok(Mode::V28),
            _ => Err(format!("`{text}` is not an engine: 20.10 or 28.5")),
        }
    }
}

/// See the module.
#[derive(Clone)]
pub struct Engine {
    inner: SimulatedEngine,
    seeded: Arc<Mutex<BTreeSet<String>>>,
}

/// Between the engine and the watcher.
struct Post {
    engine: SimulatedEngine,
    watcher: Arc<Watcher>,
    /// Older states, newest last; kept only where a fault may ask for them.
    history: Mutex<VecDeque<Arc<state::Engine>>>,
    keeps: bool,
    /// What the engine held at which of its changes.
    seen: Mutex<(u64, Arc<View>)>,
}

/// How long the engine stands still: longer than anybody waits for a call.
const STANDSTILL: Duration = Duration::from_secs(90);

/// The oldest state that can be asked for.
const HISTORY: usize = 12;

impl Interceptor for Post {
    fn before(&self, call: &Call) -> Verdict {
        if call.path.ends_with(STRANGER) {
            return Verdict::Pass;
        }
        let view = {
            let state = self.engine.state();
            if self.keeps {
                let mut history = self.history.lock().unwrap();
                if history.back().is_none_or(|last| last.changes != state.changes) {
                    history.push_back(Arc::new(state.clone()));
                    if history.len() > HISTORY {
                        history.pop_front();
                    }
                }
            }
            let mut seen = self.seen.lock().unwrap();
            if seen.0 != state.changes {
                *seen = (state.changes, Arc::new(view(&state)));
            }
            seen.1.clone()
        };
        let (path, query) = call.path.split_once('?').unwrap_or((&call.path, ""));
        let told = watcher::Call { caller: call.caller, method: &call.method, path, query, body: &call.body, mutating: call.mutating };
        match self.watcher.before(&told, &view) {
            Reaction::Pass => Verdict::Pass,
            Reaction::Error { status, message } => Verdict::Error { status, message },
            Reaction::Abandon => Verdict::Abandon,
            Reaction::Silence { applied } => Verdict::Silence { applied },
            Reaction::Reset { applied } => Verdict::Reset { applied },
            Reaction::Truncate => Verdict::Truncate,
            Reaction::Suspend => {
                let (engine, watcher) = (self.engine.clone(), self.watcher.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(STANDSTILL).await;
                    watcher.goes_on();
                    engine.human().resume();
                });
                Verdict::Suspend
            }
            Reaction::Stale { age } => {
                let history = self.history.lock().unwrap();
                let back = usize::try_from(age).unwrap() + 1;
                history.len().checked_sub(back).and_then(|at| history.get(at)).map_or(Verdict::Pass, |state| Verdict::Stale(state.clone()))
            }
        }
    }
}

impl EventTap for Post {
    fn on(&self, event: &dockmaster::runtime::simulated::events::Event) -> Told {
        match self.watcher.event(&format!("{} {} {}", event.kind, event.action, event.attributes.get("name").unwrap_or(&event.id))) {
            None => Told::Pass,
            Some(Delivery::Lost) => Told::Drop,
            Some(Delivery::Twice) => Told::Twice,
            Some(Delivery::Late) => Told::Hold,
        }
    }
}

impl Engine {
    pub fn new(mode: Mode, seed: u64, now: Arc<dyn Fn() -> Timestamp + Send + Sync>, watcher: Arc<Watcher>) -> Self {
        let version = match mode {
            Mode::V20 => Version::V20_10,
            Mode::V28 => Version::V28_5,
        };
        let inner = SimulatedEngine::new(Options { seed, latency: Latency::Typical, clock: now, ..Options::new(version) });
        let remote = Remote { time: Duration::from_secs(3), size: 1 << 20, ..Remote::default() };
        let entrypoint = json!({"Entrypoint": ["/dockmaster", "helper"]}).as_object().cloned().unwrap();
        let images = IMAGES.into_iter().map(|image| (image, remote.clone())).chain([(HELPER, Remote { config: entrypoint, ..remote.clone() })]);
        for (image, remote) in images {
            inner.human().add_image(image, &remote);
            // What is pruned can be fetched again.
            inner.state().registry.insert(image.to_owned(), remote);
        }
        inner.state().registry.insert("registry.test/app:1".to_owned(), remote);
        let keeps = watcher.seen().faults.iter().any(|fault| matches!(fault, Fault::Stale { .. }));
        let post = Arc::new(Post { engine: inner.clone(), watcher, history: Mutex::default(), keeps, seen: Mutex::new((u64::MAX, Arc::default())) });
        inner.intercept(Some(post.clone()));
        inner.tap_events(Some(post));
        Self { inner, seeded: Arc::default() }
    }

    /// A connection of one operator, by its number; when its life is over, its calls go nowhere.
    pub async fn client(&self, gate: &Gate, operator: u64) -> Result<Client, Error> {
        let (engine, gate) = (self.inner.clone(), gate.clone());
        let dial = move || std::future::ready(engine.connect_as(operator).map(|stream| Line { stream, gate: gate.clone() }));
        // On this host, so that its routes and ports count.
        let docker = connect::over(dial).unwrap();
        connect::meet(docker, &connect::Address::named("simulated")).await.map(|client| Client { local: true, ..client })
    }

    /// Nobody watches any more: the watcher knows the engine and is known by it, and neither would ever be freed.
    pub fn end(&self) {
        self.inner.intercept(None);
        self.inner.tap_events(None);
    }

    pub fn view(&self) -> View {
        view(&self.inner.state())
    }

    /// Puts something into every volume when it is first seen, so that its loss shows.
    pub fn seed_volumes(&self) {
        let mut seeded = self.seeded.lock().unwrap();
        for volume in self.inner.state().volumes.values_mut() {
            let new = seeded.insert(volume.name.clone());
            if new && volume.files.is_empty() {
                volume.files.insert("seed".to_owned(), bytes::Bytes::from_static(b"precious"));
            }
        }
    }

    /// Volumes that were ever seen.
    pub fn seeded(&self) -> BTreeSet<String> {
        self.seeded.lock().unwrap().clone()
    }

    /// It ends in order, or is killed.
    pub fn down(&self, in_order: bool) {
        self.inner.human().down(in_order);
    }

    /// It was killed in the middle of the start of a container.
    pub fn strand(&self, container: &str) {
        self.inner.human().strand(container);
    }

    pub fn up(&self) {
        self.inner.human().up();
    }

    /// Whether it stands still.
    pub fn is_suspended(&self) -> bool {
        self.inner.is_suspended()
    }

    /// Does what a person does.
    pub async fn human(&self, act: &Human) {
        let human = self.inner.human();
        match act {
            Human::Kill(name) => human.kill(name),
            Human::Strand(name) => self.strand(name),
            Human::Remove(name) => human.remove(name, true),
            Human::Stop(name) => human.stop(name),
            Human::Pause(name) => human.pause(name),
            Human::Rename(name, to) => human.rename(name, to).unwrap().unwrap(),
            Human::LoseAlias(name, network) => {
                human.disconnect(network, name).unwrap().unwrap();
                self.ask(&format!("/networks/{network}/connect?"), &json!({"Container": name})).await;
            }
            Human::Disconnect(name, network) => human.disconnect(network, name).unwrap().unwrap(),
            Human::RemoveNetwork(name) => assert!(human.remove_network(name)),
            Human::RemoveVolume(name) => assert!(human.remove_volume(name)),
            Human::Prune => human.prune(),
            Human::OldVolumePrune => human.prune_volumes(),
            Human::RemoveImage(name) => human.remove_image(name),
            Human::AddImage(name) => {
                let remote = self.inner.state().registry.get(*name).expect("a reference of the registry").clone();
                drop(human.add_image(name, &remote));
            }
            Human::TakePort(port) => {
                let of = |view: View| view.by_name("dm-ws-alice.shop").and_then(|container| container.ports.first().map(|(_, host, _)| *host));
                let port = if *port == 0 { of(self.view()).expect("a port to take") } else { *port };
                human.change(|state| state.foreign_ports.insert((port, "tcp".to_owned())));
            }
            Human::FreePorts => human.change(|state| state.foreign_ports.clear()),
            Human::MoveTag(reference) => human.change(|state| {
                let remote = state.registry.get_mut(*reference).expect("a reference of the registry");
                remote.digest = format!("sha256:{:064x}", 7);
            }),
            Human::Foreign(name) => {
                self.stranger(name, &json!({"Image": "app:1", "Cmd": ["sleep", "1000000"], "HostConfig": {"RestartPolicy": {"Name": "always"}}})).await
            }
            Human::Join(network) => {
                self.stranger(
                    "joined",
                    &json!({"Image": "app:1", "Cmd": ["sleep", "1000000"], "HostConfig": {"NetworkMode": network, "RestartPolicy": {"Name": "always"}}}),
                )
                .await
            }
            Human::ForeignVolume(name) => self.ask("/volumes/create?", &json!({"Name": name})).await,
            Human::ForeignNetwork(name, subnet) => {
                self.ask("/networks/create?", &json!({"Name": name, "IPAM": {"Config": [{"Subnet": subnet}]}})).await;
            }
            Human::Limit(name) => self.ask(&format!("/containers/{name}/update?"), &json!({"Memory": 1 << 27, "MemorySwap": 1 << 27})).await,
        }
    }

    async fn stranger(&self, name: &str, body: &Value) {
        self.ask(&format!("/containers/create?name={name}&"), body).await;
        self.ask(&format!("/containers/{name}/start?"), &Value::Null).await;
    }

    /// A call of somebody else, which no fault strikes.
    async fn ask(&self, path: &str, body: &Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = format!(
            "POST {path}{STRANGER} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = self.inner.connect().expect("the engine is up");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 2"), "{path}: {reply}");
    }
}

/// Marks the calls of strangers.
const STRANGER: &str = "stranger=1";

fn view(state: &state::Engine) -> View {
    let volumes = state.volumes.values().map(|volume| {
        let seen = Volume { labels: volume.labels.clone().unwrap_or_default(), seeded: volume.files.contains_key("seed"), anonymous: volume.anonymous };
        (volume.name.clone(), seen)
    });
    let network = |network: &state::Network| Network {
        id: network.id.clone(),
        name: network.name.clone(),
        labels: network.labels.clone(),
        subnets: network.subnets.iter().map(|subnet| format!("{}/{}", std::net::Ipv4Addr::from(subnet.base), subnet.prefix)).collect(),
    };
    let networks = state.networks.values().filter(|network| !["bridge", "host", "none"].contains(&network.name.as_str())).map(network).collect();
    View { containers: state.containers.values().map(|one| container(one, &state.images)).collect(), volumes: volumes.collect(), networks }
}

fn container(container: &state::Container, images: &BTreeMap<String, state::Image>) -> Container {
    let tags = images.get(&container.image).map(|image| image.tags.iter().cloned().collect::<Vec<_>>().join(" "));
    let bindings = container.host.get("PortBindings").and_then(serde_json::Value::as_object);
    let ports = bindings.into_iter().flatten().flat_map(|(inner, bindings)| {
        let inner: u16 = inner.split('/').next().unwrap().parse().unwrap();
        bindings.as_array().into_iter().flatten().map(move |binding| {
            let text = |key: &str| binding[key].as_str().unwrap_or_default().to_owned();
            (text("HostIp"), text("HostPort").parse().unwrap_or_default(), inner)
        })
    });
    let env = container.config.get("Env").and_then(serde_json::Value::as_array);
    let endpoint = |(name, endpoint): (&String, &state::Endpoint)| {
        let aliases = endpoint.aliases.iter().flatten().filter(|alias| Some(alias.as_str()) != container.id.get(..12)).cloned().collect();
        (name.clone(), (endpoint.network_id.clone(), aliases))
    };
    Container {
        id: container.id.clone(),
        name: container.name.clone(),
        state: if container.status == Status::Exited { "exited".to_owned() } else { container.status.word().to_owned() },
        image: tags.filter(|tags| !tags.is_empty()).unwrap_or_else(|| container.image.clone()),
        image_id: container.image.clone(),
        labels: container.labels.clone(),
        env: env.into_iter().flatten().filter_map(|env| env.as_str().map(str::to_owned)).collect(),
        command: container.argv.clone(),
        mounts: container
            .mounts
            .iter()
            .map(|mount| (if mount.name.is_empty() { mount.source.clone() } else { mount.name.clone() }, mount.destination.clone()))
            .collect(),
        networks: container.endpoints.iter().map(endpoint).collect(),
        ports: ports.collect(),
        memory: u64::try_from(container.host_number("Memory")).unwrap_or_default(),
        nano_cpus: container.host_number("NanoCpus"),
        excess: excess(container),
        pids: container.host_number("PidsLimit"),
        restart: container.restart_policy().0.to_owned(),
    }
}

/// What a container has that leads from it to the host, or more rights than it needs. None of ours has any of it.
fn excess(container: &state::Container) -> Vec<&'static str> {
    let is_filled = |key: &&str| match container.host.get(*key) {
        Some(Value::Array(values)) => !values.is_empty(),
        Some(Value::Object(values)) => !values.is_empty(),
        Some(Value::String(text)) => !text.is_empty(),
        _ => false,
    };
    let has = |key: &str, value: &str| container.host.get(key).and_then(Value::as_array).is_some_and(|values| values.iter().any(|known| known == value));
    let lists = ["CapAdd", "Devices", "DeviceRequests", "DeviceCgroupRules", "Sysctls", "Binds", "CgroupParent", "VolumesFrom", "ExtraHosts"];
    let shared = ["NetworkMode", "PidMode", "IpcMode", "UTSMode", "UsernsMode"];
    let mut excess: Vec<&'static str> = lists.into_iter().filter(is_filled).collect();
    excess.extend(shared.into_iter().filter(|key| container.host_text(key) == "host"));
    excess.extend(["Privileged"].into_iter().filter(|key| container.host_flag(key)));
    excess.extend((!has("SecurityOpt", "no-new-privileges")).then_some("new privileges"));
    excess.extend((!["NET_RAW", "ALL"].iter().any(|dropped| has("CapDrop", dropped))).then_some("NET_RAW"));
    excess.extend(container.mounts.iter().any(|mount| mount.kind == "bind").then_some("a directory of the host"));
    excess
}
