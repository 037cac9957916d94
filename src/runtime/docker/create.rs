//! Making a container: the body of the request, built from our own fields and nothing else, and what follows it.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{
    ContainerCreateBody, EndpointSettings, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountType, NetworkingConfig, PortBinding as HostPort,
    RestartPolicy as DockerRestartPolicy, RestartPolicyNameEnum,
};

use crate::desired::{Attachment, ContainerSpec, HealthWant, MountSource, MountWant};
use crate::resource::quantity::Duration;
use crate::resource::workspace::RestartPolicy;

/// A network by its id, and the names under which the container answers there.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The network's name.
    pub name: String,
    /// Docker's id of the network.
    pub id: String,
    /// The names.
    pub aliases: Vec<String>,
}

impl Endpoint {
    /// An attachment whose network has that id.
    pub fn new(attachment: &Attachment, id: String) -> Self {
        Self { name: attachment.network.clone(), id, aliases: attachment.aliases.clone() }
    }

    /// What the engine is told of it.
    pub fn settings(&self) -> EndpointSettings {
        EndpointSettings { aliases: Some(self.aliases.clone()), ..Default::default() }
    }
}

/// The body of the request. The first network is part of it: 20.10 takes no more than one; without any the container has none, never
/// the engine's default bridge.
pub fn body(spec: &ContainerSpec, image_id: &str, first: Option<&Endpoint>, api: (u16, u16)) -> ContainerCreateBody {
    ContainerCreateBody {
        hostname: Some(spec.hostname.clone()),
        user: spec.user.clone(),
        image: Some(image_id.to_owned()),
        // One empty word takes the image's away, and with it the image's command, as `docker run --entrypoint ''` does.
        entrypoint: spec.entrypoint.clone().map(|words| if words.is_empty() { vec![String::new()] } else { words }),
        cmd: spec.command.clone(),
        env: Some(spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        working_dir: spec.working_dir.clone(),
        labels: Some(hashed(&spec.labels)),
        exposed_ports: Some(spec.ports.iter().map(|port| format!("{}/{}", port.container, port.protocol.as_str())).collect()),
        healthcheck: spec.health.as_ref().filter(|health| !health.test.is_empty()).map(|health| health_config(health, api)),
        stop_signal: spec.stop_signal.clone(),
        stop_timeout: Some(seconds(spec.stop_grace)),
        host_config: Some(host_config(spec, first)),
        networking_config: first.map(|endpoint| NetworkingConfig { endpoints_config: Some(HashMap::from([(endpoint.id.clone(), endpoint.settings())])) }),
        ..Default::default()
    }
}

fn host_config(spec: &ContainerSpec, first: Option<&Endpoint>) -> HostConfig {
    let memory = spec.limits.memory.map(|bytes| i64::try_from(bytes.0).unwrap_or(i64::MAX));
    HostConfig {
        network_mode: Some(first.map_or_else(|| "none".to_owned(), |endpoint| endpoint.id.clone())),
        port_bindings: Some(port_bindings(spec)),
        mounts: Some(spec.mounts.iter().filter_map(mount).collect()),
        tmpfs: Some(spec.mounts.iter().filter_map(tmpfs).collect()),
        memory,
        // As much as memory: no swap.
        memory_swap: memory,
        nano_cpus: spec.limits.cpu.map(|cpu| cpu.0),
        pids_limit: Some(spec.limits.pids),
        restart_policy: Some(restart_policy(spec.limits.restart)),
        init: Some(spec.init),
        cap_drop: Some(spec.security.cap_drop.clone()),
        readonly_rootfs: Some(spec.security.read_only_root),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        storage_opt: spec.storage_size.map(|size| HashMap::from([("size".to_owned(), size.0.to_string())])),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(HashMap::from([("max-size".to_owned(), "10m".to_owned()), ("max-file".to_owned(), "3".to_owned())])),
        }),
        ..Default::default()
    }
}

fn port_bindings(spec: &ContainerSpec) -> HashMap<String, Option<Vec<HostPort>>> {
    let mut bindings: HashMap<String, Option<Vec<HostPort>>> = HashMap::new();
    for port in &spec.ports {
        let inside = format!("{}/{}", port.container, port.protocol.as_str());
        let binding = HostPort { host_ip: Some(port.ip.clone()), host_port: Some(port.host.to_string()) };
        bindings.entry(inside).or_default().get_or_insert_default().push(binding);
    }
    bindings
}

/// Volumes and directories. As mounts, not as binds: the engine refuses a directory that is not there instead of making it.
fn mount(want: &MountWant) -> Option<Mount> {
    let (typ, source) = match &want.source {
        MountSource::Volume(name) => (MountType::VOLUME, name),
        MountSource::Host(path) => (MountType::BIND, path),
        MountSource::Tmpfs { .. } => return None,
    };
    let read_only = Some(want.read_only);
    Some(Mount { typ: Some(typ), source: Some(source.clone()), target: Some(want.path.clone()), read_only, ..Default::default() })
}

/// Memory; owners exist only in this older form, which all engines take.
fn tmpfs(want: &MountWant) -> Option<(String, String)> {
    let (size, owner) = match &want.source {
        MountSource::Tmpfs { size, owner } => (size, owner),
        MountSource::Volume(_) | MountSource::Host(_) => return None,
    };
    let rights = match owner {
        Some((uid, gid)) => format!("uid={uid},gid={gid},mode=0700"),
        None => "mode=1777".to_owned(),
    };
    let access = if want.read_only { "ro" } else { "rw" };
    Some((want.path.clone(), format!("{access},nosuid,nodev,size={},{rights}", size.0)))
}

fn health_config(health: &HealthWant, api: (u16, u16)) -> HealthConfig {
    HealthConfig {
        test: Some(health.test.clone()),
        interval: Some(nanoseconds(health.interval)),
        timeout: Some(nanoseconds(health.timeout)),
        retries: Some(i64::from(health.retries)),
        start_period: health.start_period.map(nanoseconds),
        start_interval: Some(nanoseconds(health.start_interval)).filter(|_| api >= (1, 44)),
    }
}

/// Docker's form of a restart policy.
pub fn restart_policy(policy: RestartPolicy) -> DockerRestartPolicy {
    let name = match policy {
        RestartPolicy::UnlessStopped => RestartPolicyNameEnum::UNLESS_STOPPED,
        RestartPolicy::OnFailure => RestartPolicyNameEnum::ON_FAILURE,
        RestartPolicy::No => RestartPolicyNameEnum::NO,
    };
    DockerRestartPolicy { name: Some(name), maximum_retry_count: None }
}

/// A map as bollard takes it.
pub fn hashed(map: &BTreeMap<String, String>) -> HashMap<String, String> {
    map.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Whole seconds, rounded up, so that a limit is never shorter than asked.
pub fn seconds(duration: Duration) -> i64 {
    duration.0.as_secs() + i64::from(duration.0.subsec_nanos() > 0)
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.0.as_nanos()).unwrap_or(i64::MAX)
}
