//! What an engine holds, as plain data that checks read, whatever the engine is made of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dockmaster::desired::naming;

/// The installation of all scenarios.
pub const INSTALLATION: &str = "dm";

/// The label of the lock's container with the number of the operator that has it.
pub const HOLDER: &str = "dockmaster.pid";

/// The host ports that are leased.
pub const POOL: std::ops::RangeInclusive<u16> = 10_000..=10_009;

/// One container.
#[derive(Clone, Debug, Default)]
pub struct Container {
    pub id: String,
    pub name: String,
    pub state: String,
    pub image: String,
    pub image_id: String,
    pub labels: Arc<BTreeMap<String, String>>,
    pub env: Vec<String>,
    pub command: Arc<Vec<String>>,
    /// Volume or host path, and where it is mounted.
    pub mounts: Vec<(String, String)>,
    /// Network name, id and aliases.
    pub networks: BTreeMap<String, (String, BTreeSet<String>)>,
    /// Address, host port, container port; of a container that does not run, what it will bind.
    pub ports: BTreeSet<(String, u16, u16)>,
    pub memory: u64,
    pub nano_cpus: i64,
    pub pids: i64,
    pub restart: String,
    /// What of it is more than our policy lets a container have.
    pub excess: Vec<&'static str>,
}

impl Container {
    pub fn is_active(&self) -> bool {
        ["running", "paused", "restarting"].contains(&self.state.as_str())
    }

    pub fn is_ours(&self) -> bool {
        self.label(naming::INSTALLATION) == INSTALLATION && self.name.starts_with("dm-")
    }

    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// What only one may run of: an object's main container, or one of its services, or one of its helpers.
    pub fn place(&self) -> (String, String, String, String) {
        let text = |label| self.label(label).to_owned();
        (text(naming::UID), text(naming::ROLE), text(naming::SERVICE), if self.label(naming::ROLE) == "helper" { self.name.clone() } else { String::new() })
    }
}

/// One volume.
#[derive(Clone, Debug, Default)]
pub struct Volume {
    pub labels: BTreeMap<String, String>,
    pub seeded: bool,
    pub anonymous: bool,
}

/// One network.
#[derive(Clone, Debug, Default)]
pub struct Network {
    pub id: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub subnets: Vec<String>,
}

/// A host port as it is compared: which one of the pool it is depends on the uid, which a crash before it was written exchanges. That a life keeps its
/// port is an invariant.
pub fn port(host: u16) -> String {
    if POOL.contains(&host) { "pool".to_owned() } else { host.to_string() }
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub containers: Vec<Container>,
    pub volumes: BTreeMap<String, Volume>,
    pub networks: Vec<Network>,
}

impl View {
    pub fn by_name(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.name == name)
    }

    pub fn by_id(&self, id_or_name: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.id == id_or_name || container.name == id_or_name)
    }

    /// The ids of what runs.
    pub fn running(&self) -> impl Iterator<Item = &str> {
        self.containers.iter().filter(|container| container.state == "running").map(|container| container.id.as_str())
    }

    pub fn ours(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(|container| container.is_ours())
    }

    /// The abstract state: a line for each fact that two runs with the same outcome agree on. Ids, uids and instants are left out.
    pub fn lines(&self) -> BTreeSet<String> {
        let mut lines = BTreeSet::new();
        for container in &self.containers {
            let name = &container.name;
            if !container.is_ours() {
                lines.insert(format!("foreign {name} {}", container.state));
                continue;
            }
            lines.insert(format!("container {name} {}", container.state));
            lines.insert(format!("image {} of {name}", container.image));
            lines.insert(format!("command {:?} of {name}", container.command));
            lines.extend(container.env.iter().map(|env| format!("env {env} of {name}")));
            lines.extend(container.mounts.iter().map(|(from, to)| format!("mount {from} at {to} of {name}")));
            lines.extend(container.networks.iter().map(|(network, (_, aliases))| format!("joined {network} as {aliases:?} by {name}")));
            lines.extend(container.ports.iter().map(|(ip, host, inner)| format!("ports {ip}:{} to {inner} of {name}", port(*host))));
            // As it was given: an older engine leaves an empty one empty.
            let restart = if container.restart.is_empty() { "no" } else { &container.restart };
            lines.insert(format!("memory {} cpus {} pids {} restart {restart} of {name}", container.memory, container.nano_cpus, container.pids));
            // The hash covers the ports, which are compared by themselves.
            let untold = [naming::UID, naming::CREATED, naming::HASH, naming::EXPIRES, naming::GENERATION, naming::SPEC_HASH, naming::PORTS, HOLDER];
            let told = |label: &str| !untold.contains(&label);
            lines.extend(container.labels.iter().filter(|(label, _)| told(label)).map(|(label, value)| format!("label {label}={value} of {name}")));
        }
        for (name, volume) in self.volumes.iter().filter(|(_, volume)| !volume.anonymous) {
            lines.insert(format!("volume {name} {}", if volume.seeded { "seeded" } else { "empty" }));
        }
        lines.extend(self.networks.iter().map(|network| format!("network {} {:?}", network.name, network.subnets)));
        lines
    }
}
