//! A resolved workspace, with its identity and its grants, lowered to what should be in Docker.
//!
//! What cannot be given is never half given: a spec that needs it gets a `fatal` condition that says what to do, and what runs keeps
//! running. Only what the workload can do without (a route) is a notice.

use std::collections::{BTreeMap, BTreeSet};

use super::merge::{Resolved, Tenants, invalid, nearest};
use super::{
    Attachment, ContainerSpec, DesiredState, HealthWant, HookPoint, IdlePolicy, ImageWant, Intent, Limits, NetworkWant, PortBinding, Role, RunPolicy,
    VolumeWant, builtin, hash, naming, security,
};
use crate::resource::condition::{Condition, ConditionType};
use crate::resource::quantity::Cpu;
use crate::resource::tenant::Policy;
use crate::resource::workspace::{
    DeclaredState, DeletionPolicy, EnvVar, Health, Hooks, Port, Protocol, Publish, PullPolicy, Resources, RestartPolicy, SecurityProfile, Service, UpdateOrder,
};
use crate::resource::{Kind, Metadata, Object, ObjectRef, RESTART, WorkspaceSpec};
use crate::state::{Admission, Claim, Grant};
use crate::tenancy::policy;

/// The prefix length of a namespace's subnet: 61 containers.
pub const NAMESPACE_PREFIX: u8 = 26;
/// The prefix length of a private subnet.
pub const PRIVATE_PREFIX: u8 = 28;
/// The longest hostname that every engine passes on: Linux takes 64 bytes (`sethostname(2)`).
const LONGEST_HOSTNAME: usize = 63;
/// The containers that fit into a private subnet, beside its gateway.
const PRIVATE_CONTAINERS: usize = 13;

/// What the operator and its engine are, as far as lowering depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The installation's id.
    pub installation: &'a str,
    /// Absolute directories of the host below which specs may mount: `--host-path`.
    pub host_paths: &'a [String],
    /// Cleaned paths of the host that are or go through links, and where they lead.
    pub links: &'a BTreeMap<String, String>,
    /// The host's address on which ports are published.
    pub publish_address: &'a str,
    /// Whether the storage driver enforces a disk limit.
    pub disk_limit: bool,
    /// CPUs of the host in billionths; 0 is not known.
    pub nano_cpus: i64,
}

/// Everything that lowering a workspace depends on.
#[derive(Clone, Copy, Debug)]
pub struct LowerInput<'a> {
    /// The operator and its engine.
    pub around: Surroundings<'a>,
    /// The document; its namespace must have been filled in by the source.
    pub resource: &'a Object<WorkspaceSpec>,
    /// Its spec as [`resolve`](super::merge::resolve) made it.
    pub resolved: &'a Resolved,
    /// The tenants that speak for its namespace.
    pub tenants: Tenants<'a>,
    /// Which life and version.
    pub admission: &'a Admission,
    /// The answers to its [`claims`].
    pub grants: &'a [Grant],
    /// The absolute directory of the document's file.
    pub directory: &'a str,
    /// The digest of the document's own spec.
    pub own_digest: &'a str,
}

/// What a workspace or preview with this resolved spec needs from others: its ports in the order of the spec, its private subnet.
/// `None` when the spec could not be resolved: what the object holds stays its own until it can.
pub fn claims(installation: &str, object: &ObjectRef, resolved: &Resolved) -> Option<Vec<Claim>> {
    if !resolved.fatal.is_empty() {
        return None;
    }
    let mut claims: Vec<Claim> = resolved.spec.ports.iter().filter_map(port_claim).collect();
    if !resolved.spec.services.is_empty() {
        claims.push(Claim::Subnet { network: naming::private_network(installation, object), prefix: PRIVATE_PREFIX });
    }
    Some(claims)
}

fn port_claim(port: &Port) -> Option<Claim> {
    match port.publish? {
        Publish::None => None,
        Publish::Pool => Some(Claim::Port { name: port.name.clone(), fixed: None }),
        Publish::Fixed(number) => Some(Claim::Port { name: port.name.clone(), fixed: Some(number) }),
    }
}

/// What a namespace needs: the subnet of its network.
pub fn namespace_claim(installation: &str, namespace: &str) -> Claim {
    Claim::Subnet { network: naming::namespace_network(installation, namespace), prefix: NAMESPACE_PREFIX }
}

/// What should be in Docker for a workspace.
pub fn lower(input: &LowerInput<'_>) -> Intent {
    let metadata = &input.resource.metadata;
    let object = object_of(Kind::Workspace, metadata);
    if metadata.is_suspended() {
        return Intent::Hold(suspended(&object));
    }
    let mut workload = Workload {
        around: input.around,
        object,
        admission: input.admission,
        spec: &input.resolved.spec,
        labels: &metadata.labels,
        own_labels: BTreeMap::new(),
        aliases: Vec::new(),
        policy: input.tenants.resolved().policy.unwrap_or_default(),
        grants: input.grants,
        directory: input.directory,
        copies: false,
        volumes: BTreeSet::new(),
        notices: input.resolved.notices.clone(),
        fatal: input.resolved.fatal.clone(),
    };
    let mut state = workload.lower(input.own_digest);
    state.run = run_policy(&input.resolved.spec);
    state.restart_token = metadata.annotations.get(RESTART).cloned();
    Intent::Present(Box::new(state))
}

/// The key of a document.
pub(super) fn object_of(kind: Kind, metadata: &Metadata) -> ObjectRef {
    ObjectRef::new(kind, metadata.namespace.as_deref().unwrap_or("default"), &metadata.name)
}

/// Hands off.
pub(super) fn suspended(object: &ObjectRef) -> Condition {
    Condition::abnormal(ConditionType::Suspended, format!("nothing is changed while it is suspended; `dockmaster resume {object}` ends that"))
}

fn run_policy(spec: &WorkspaceSpec) -> RunPolicy {
    let idle = spec.idle.as_ref().and_then(|idle| {
        Some(IdlePolicy {
            timeout: idle.timeout?,
            network: idle.network.unwrap_or(builtin::IDLE_NETWORK),
            check: idle.check.as_ref().map(|check| check.exec.clone()),
            warn: idle.warn.as_ref().map(|warn| warn.exec.clone()),
        })
    });
    RunPolicy { declared_running: spec.state != Some(DeclaredState::Stopped), idle, max_lifetime: spec.max_lifetime, hours: spec.running_hours.clone() }
}

/// The subnet granted for a network.
fn subnet(grants: &[Grant], wanted: &str) -> Result<String, Box<Condition>> {
    for grant in grants {
        match grant {
            Grant::Subnet { network, cidr } if network == wanted => return Ok(cidr.clone()),
            Grant::Refused { claim: Claim::Subnet { network, .. }, .. } if network == wanted => {
                return Err(Box::new(Condition::abnormal(
                    ConditionType::AddressesExhausted,
                    format!("no subnet is left for the network {wanted}; start the operator with a larger `--network-pool`, or delete what is not needed"),
                )));
            }
            Grant::Subnet { .. } | Grant::Port { .. } | Grant::Refused { .. } => {}
        }
    }
    Err(Box::new(Condition::abnormal(ConditionType::WaitingOn, format!("no subnet was granted yet for the network {wanted}"))))
}

/// A resolved spec on its way into containers; the same for workspaces and previews.
pub(super) struct Workload<'a> {
    pub around: Surroundings<'a>,
    pub object: ObjectRef,
    pub admission: &'a Admission,
    pub spec: &'a WorkspaceSpec,
    /// The user's labels, for the main container.
    pub labels: &'a BTreeMap<String, String>,
    /// Labels of ours besides those of every container.
    pub own_labels: BTreeMap<String, String>,
    /// Names besides its own under which the main container answers on the private network.
    pub aliases: Vec<String>,
    pub policy: Policy,
    pub grants: &'a [Grant],
    pub directory: &'a str,
    /// A copy sees directories of the host read-only.
    pub copies: bool,
    pub volumes: BTreeSet<VolumeWant>,
    pub notices: Vec<Condition>,
    pub fatal: Vec<Condition>,
}

impl Workload<'_> {
    /// The whole state, apart from the run policy and what only one kind has.
    pub(super) fn lower(&mut self, own_digest: &str) -> DesiredState {
        let spec = self.spec;
        self.refuse_unsupported();
        let services = self.start_order();
        let private = (!spec.services.is_empty()).then(|| naming::private_network(self.around.installation, &self.object));
        let mut networks = Vec::new();
        if let Some(name) = &private {
            match subnet(self.grants, name) {
                Ok(subnet) => {
                    let labels = naming::object_labels(self.around.installation, &self.object, &self.admission.uid);
                    networks.push(NetworkWant { name: name.clone(), subnet, labels });
                }
                Err(condition) => self.ungranted(*condition),
            }
        }
        let mut containers: Vec<ContainerSpec> = Vec::new();
        if let Some(network) = &private {
            for name in &services {
                if let Some(service) = spec.services.get(name) {
                    containers.push(self.service(name, service, network));
                }
            }
        }
        containers.push(self.main(private.as_deref()));
        for container in &mut containers {
            container.hash = hash::hash(container);
            container.labels.insert(naming::SPEC_HASH.to_owned(), container.hash.clone());
        }
        let disk = spec.resources.as_ref().and_then(|resources| resources.disk);
        if let Some(disk) = disk.filter(|_| !self.around.disk_limit) {
            let message = format!("the storage driver of this engine does not enforce disk limits; use is measured against {disk} instead");
            self.notices.push(Condition::abnormal(ConditionType::DiskNotEnforced, message));
        }
        DesiredState {
            uid: self.admission.uid.clone(),
            generation: self.admission.generation,
            created: self.admission.created,
            run: RunPolicy { declared_running: true, idle: None, max_lifetime: None, hours: None },
            containers,
            networks,
            volumes: self.volumes.iter().cloned().collect(),
            hooks: spec.hooks.as_ref().map(hooks).unwrap_or_default(),
            update: spec.update.as_ref().and_then(|update| update.when),
            own_digest: own_digest.to_owned(),
            restart_token: None,
            pull: spec.pull_policy.unwrap_or(PullPolicy::IfNotPresent),
            disk,
            deletion: spec.deletion_policy.unwrap_or(DeletionPolicy::Snapshot),
            preview: None,
            notices: std::mem::take(&mut self.notices),
            fatal: std::mem::take(&mut self.fatal),
        }
    }

    fn refuse_unsupported(&mut self) {
        let spec = self.spec;
        let mut refused = |field: &str, instead: &str| {
            let message = format!("spec.{field} is not supported by this version; {instead}");
            self.fatal.push(Condition::abnormal(ConditionType::Unsupported, message));
        };
        if spec.project.is_some() {
            refused("project", "mount a volume or a host directory at /workspace instead, and remove the field");
        }
        if spec.build.is_some() {
            refused("build", "build the image elsewhere and name it in spec.image");
        }
        if spec.engine.is_some() {
            refused("engine", "remove it to run on the engine of this operator");
        }
        let update = spec.update.clone().unwrap_or_default();
        if update.order == Some(UpdateOrder::StartFirst) {
            refused("update.order StartFirst", "remove it: the old container stops before the new one starts");
        }
        if update.keep_root_file_system == Some(true) {
            refused("update.keepRootFileSystem", "keep what should last in a volume, and remove the field");
        }
        if !spec.files.is_empty() {
            refused("files", "mount the files from a volume or a host directory instead");
        }
        for variable in spec.env.iter().filter(|variable| variable.secret.is_some()) {
            refused(&format!("env.{}.secret", variable.name), "give the variable a value, or remove it");
        }
        for (name, service) in &spec.services {
            for variable in service.env.iter().filter(|variable| variable.secret.is_some()) {
                refused(&format!("services.{name}.env.{}.secret", variable.name), "give the variable a value, or remove it");
            }
        }
        if spec.route.is_some() {
            let message = "spec.route is not supported by this version and does nothing; reach the workload through a published port";
            self.notices.push(Condition::abnormal(ConditionType::Unsupported, message));
        }
        if let Some(Err(error)) = spec.running_hours.as_ref().map(|hours| hours.read()) {
            self.fatal.push(invalid(format!("spec.runningHours: {error}")));
        }
    }

    /// The services, each after those that it depends on, else by name.
    fn start_order(&mut self) -> Vec<String> {
        let services = &self.spec.services;
        if services.len() >= PRIVATE_CONTAINERS {
            self.fatal.push(invalid(format!(
                "{} services are more than the {} that fit beside the main container on a private network; remove some",
                services.len(),
                PRIVATE_CONTAINERS - 1
            )));
        }
        let mut left: BTreeMap<&str, BTreeSet<&str>> =
            services.iter().map(|(name, service)| (name.as_str(), service.depends_on.iter().map(String::as_str).collect())).collect();
        for (name, needs) in &mut left {
            for need in needs.iter().filter(|need| !services.contains_key(**need)) {
                let hint = nearest(need, services.keys().map(String::as_str), "the services are");
                self.fatal.push(invalid(format!("spec.services.{name}.dependsOn names {need}, which is no service; {hint}")));
            }
            needs.retain(|need| services.contains_key(*need));
        }
        let mut order = Vec::new();
        while let Some(name) = left.iter().find(|(_, needs)| needs.is_empty()).map(|(name, _)| *name) {
            left.remove(name);
            left.values_mut().for_each(|needs| {
                needs.remove(name);
            });
            order.push(name.to_owned());
        }
        if !left.is_empty() {
            let names: Vec<&str> = left.keys().copied().collect();
            self.fatal.push(invalid(format!("the services {} wait for each other; remove one of their dependsOn", names.join(", "))));
            order.extend(names.into_iter().map(str::to_owned));
        }
        order
    }

    fn main(&mut self, private: Option<&str>) -> ContainerSpec {
        let spec = self.spec;
        let installation = self.around.installation;
        let image = spec.image.clone().unwrap_or_default();
        if image.is_empty() && self.fatal.is_empty() {
            self.fatal.push(invalid("nothing says which image to run; set spec.image, or spec.type to one of the workspace types"));
        }
        let profile = security::profile(self.policy.profile, spec.security.as_ref());
        let user = self.user(spec.user.as_deref(), profile, "spec.user");
        let security = security::lower(profile, spec.security.as_ref());
        let ports = self.ports();
        let mut labels: BTreeMap<String, String> =
            self.labels.iter().filter(|(key, _)| !key.starts_with(naming::LABEL_PREFIX)).map(|(key, value)| (key.clone(), value.clone())).collect();
        labels.extend(naming::container_labels(installation, &self.object, self.admission, Role::Main, None));
        labels.extend(self.own_labels.clone());
        if !ports.is_empty() {
            let leases = ports.iter().map(|port| (port.name.clone(), port.host)).collect();
            labels.insert(naming::PORTS.to_owned(), naming::ports_label(&leases));
        }
        let resources = spec.resources.clone().unwrap_or_default();
        ContainerSpec {
            name: naming::container_name(installation, &self.object, None),
            role: Role::Main,
            service: None,
            depends_on: spec.services.keys().cloned().collect(),
            image: self.image(image),
            entrypoint: spec.entrypoint.clone(),
            command: spec.command.clone(),
            env: env(&spec.env),
            working_dir: spec.working_dir.clone(),
            hostname: self.hostname(),
            labels,
            ports,
            mounts: self.main_mounts(user.as_deref(), security.read_only_root),
            user,
            networks: self.attachments(private),
            health: spec.health.as_ref().map(health),
            init: spec.init.unwrap_or(true),
            stop_signal: spec.stop_signal.clone(),
            stop_grace: spec.stop_grace_period.unwrap_or(builtin::STOP_GRACE),
            security,
            storage_size: resources.disk.filter(|_| self.around.disk_limit),
            limits: self.limits(&resources, spec.restart.unwrap_or(RestartPolicy::UnlessStopped), "resources"),
            hash: String::new(),
        }
    }

    fn service(&mut self, name: &str, service: &Service, private: &str) -> ContainerSpec {
        let installation = self.around.installation;
        if service.image.is_empty() {
            self.fatal.push(invalid(format!("spec.services.{name} has no image; name one")));
        }
        let profile = self.policy.profile.unwrap_or(SecurityProfile::Baseline);
        let user = self.user(service.user.as_deref(), profile, &format!("spec.services.{name}.user"));
        let security = security::lower(profile, None);
        let resources = service.resources.clone().unwrap_or_default();
        ContainerSpec {
            name: naming::container_name(installation, &self.object, Some(name)),
            role: Role::Service,
            service: Some(name.to_owned()),
            depends_on: service.depends_on.clone(),
            image: self.image(service.image.clone()),
            entrypoint: service.entrypoint.clone(),
            command: service.command.clone(),
            env: env(&service.env),
            working_dir: service.working_dir.clone(),
            hostname: name.to_owned(),
            labels: naming::container_labels(installation, &self.object, self.admission, Role::Service, Some(name)),
            ports: Vec::new(),
            mounts: self.service_mounts(name, service.volume.as_ref(), user.as_deref(), security.read_only_root),
            user,
            networks: vec![Attachment { network: private.to_owned(), aliases: vec![name.to_owned()] }],
            health: service.health.as_ref().map(health),
            init: true,
            stop_signal: None,
            stop_grace: builtin::STOP_GRACE,
            security,
            storage_size: resources.disk.filter(|_| self.around.disk_limit),
            limits: self.limits(&resources, RestartPolicy::UnlessStopped, &format!("services.{name}.resources")),
            hash: String::new(),
        }
    }

    /// The image, when the policy allows it; our own always.
    fn image(&mut self, image: String) -> ImageWant {
        if image == ImageWant::HELPER {
            return ImageWant::Helper;
        }
        if !image.is_empty()
            && let Err(why) = policy::image(&self.policy, &image)
        {
            self.fatal.push(invalid(why));
        }
        ImageWant::Reference(image)
    }

    /// The user; never root under `Restricted`.
    fn user(&mut self, user: Option<&str>, profile: SecurityProfile, field: &str) -> Option<String> {
        match (profile, user) {
            (SecurityProfile::Baseline, user) => user.map(str::to_owned),
            (SecurityProfile::Restricted, None) => Some(security::ORDINARY_USER.to_owned()),
            (SecurityProfile::Restricted, Some(user)) => {
                if security::is_root(user) {
                    self.fatal.push(invalid(format!("{field} is {user}, which the security profile Restricted does not allow; name another user")));
                }
                Some(user.to_owned())
            }
        }
    }

    /// Published ports, as far as they were granted.
    fn ports(&mut self) -> Vec<PortBinding> {
        let mut bindings = Vec::new();
        for port in &self.spec.ports {
            let Some(Claim::Port { name, fixed }) = port_claim(port) else { continue };
            let mut answer = Err(Condition::abnormal(ConditionType::WaitingOn, format!("no port of the host was granted yet for the port {name}")));
            for grant in self.grants {
                match grant {
                    Grant::Port { name: granted, host } if *granted == name && fixed.is_none_or(|fixed| fixed == *host) => answer = Ok(*host),
                    Grant::Refused { claim: Claim::Port { name: refused, .. }, holders } if *refused == name => {
                        answer = Err(port_refused(&name, fixed, holders));
                    }
                    Grant::Port { .. } | Grant::Subnet { .. } | Grant::Refused { .. } => {}
                }
            }
            match answer {
                Ok(host) => {
                    let protocol = port.protocol.unwrap_or(Protocol::Tcp);
                    bindings.push(PortBinding { name, container: port.container, host, ip: self.around.publish_address.to_owned(), protocol });
                }
                Err(condition) => self.ungranted(condition),
            }
        }
        bindings
    }

    /// Why a claim has no grant. Where something else is wrong already, nothing was claimed, and that is no news.
    fn ungranted(&mut self, condition: Condition) {
        if condition.type_ != ConditionType::WaitingOn || self.fatal.is_empty() {
            self.fatal.push(condition);
        }
    }

    /// Its name in full: what it answers to beyond its namespace. A preview may have a workspace's name.
    fn full_name(&self) -> String {
        let (name, namespace) = (&self.object.name, self.object.ns());
        if self.object.kind == Kind::Preview { format!("{name}.preview.{namespace}") } else { format!("{name}.{namespace}") }
    }

    /// The engine lets a container answer to its hostname on each of its networks. So the short name is only for a workspace that is on networks
    /// of its own namespace alone; who could answer in another's stead has its full name, or its uid where that is longer than a hostname may be.
    fn hostname(&self) -> String {
        if self.object.kind == Kind::Workspace && self.spec.networks.is_empty() {
            return self.object.name.clone();
        }
        Some(self.full_name()).filter(|full| full.len() <= LONGEST_HOSTNAME).unwrap_or_else(|| self.admission.uid.to_string())
    }

    /// The namespace's network first, then the private one, then those that the policy lets it join.
    fn attachments(&mut self, private: Option<&str>) -> Vec<Attachment> {
        let (installation, namespace, name) = (self.around.installation, self.object.ns(), self.object.name.as_str());
        let full = self.full_name();
        let shared = if self.object.kind == Kind::Preview { vec![full.clone()] } else { vec![name.to_owned(), full.clone()] };
        let mut attachments = vec![Attachment { network: naming::namespace_network(installation, namespace), aliases: shared }];
        if let Some(private) = private {
            let mut aliases = vec![name.to_owned()];
            aliases.extend(self.aliases.iter().cloned());
            aliases.retain(|alias| !self.spec.services.contains_key(alias));
            aliases.dedup();
            attachments.push(Attachment { network: private.to_owned(), aliases });
        }
        for network in self.spec.networks.iter().collect::<BTreeSet<_>>() {
            let reserved = matches!(network.as_str(), "bridge" | "host" | "none" | "default") || network.starts_with(&format!("{installation}-"));
            if reserved {
                self.fatal.push(invalid(format!("spec.networks names {network}, which no workspace may join; remove it")));
                continue;
            }
            match policy::network(&self.policy, network) {
                Ok(()) => attachments.push(Attachment { network: network.clone(), aliases: vec![full.clone()] }),
                Err(why) => self.fatal.push(invalid(why)),
            }
        }
        attachments
    }

    fn limits(&mut self, resources: &Resources, restart: RestartPolicy, field: &str) -> Limits {
        if let Some(cpu) = resources.cpu
            && self.around.nano_cpus > 0
            && cpu.0 > self.around.nano_cpus
        {
            let host = Cpu(self.around.nano_cpus);
            self.fatal.push(invalid(format!("spec.{field}.cpu {cpu} is more than the {host} CPUs of this host; ask for {host} or less")));
        }
        Limits { memory: resources.memory, cpu: resources.cpu, pids: resources.pids.unwrap_or(builtin::PIDS), restart }
    }
}

/// The holders are named, so that somebody can be asked.
fn port_refused(name: &str, fixed: Option<u16>, holders: &[ObjectRef]) -> Condition {
    let names: Vec<String> = holders.iter().map(ToString::to_string).collect();
    match fixed {
        Some(port) => {
            let holder = if names.is_empty() { "another program".to_owned() } else { names.join(", ") };
            let message = format!("port {port} for {name} is held by {holder}; choose another, or `publish: Pool`");
            Condition::abnormal(ConditionType::PortConflict, message)
        }
        None => {
            let holders = if names.is_empty() { "other programs".to_owned() } else { names.join(", ") };
            let message =
                format!("no port is left for {name}, all are held by {holders}; delete one of them, or start the operator with a larger `--port-range`");
            Condition::abnormal(ConditionType::PortsExhausted, message)
        }
    }
}

fn env(variables: &[EnvVar]) -> BTreeMap<String, String> {
    variables.iter().map(|variable| (variable.name.clone(), variable.value.clone().unwrap_or_default())).collect()
}

/// A check with every value; an empty test keeps the image's, `[NONE]` switches it off.
fn health(health: &Health) -> HealthWant {
    HealthWant {
        test: health.test.clone(),
        interval: health.interval.unwrap_or(builtin::HEALTH_INTERVAL),
        timeout: health.timeout.unwrap_or(builtin::HEALTH_TIMEOUT),
        retries: health.retries.unwrap_or(builtin::HEALTH_RETRIES),
        start_period: health.start_period,
        start_interval: health.start_interval.unwrap_or(builtin::HEALTH_START_INTERVAL),
    }
}

fn hooks(hooks: &Hooks) -> BTreeMap<HookPoint, Vec<String>> {
    [(HookPoint::PostCreate, &hooks.post_create), (HookPoint::PostStart, &hooks.post_start), (HookPoint::PreStop, &hooks.pre_stop)]
        .into_iter()
        .filter_map(|(point, command)| Some((point, command.clone()?)))
        .collect()
}

#[cfg(test)]
#[path = "lower_tests.rs"]
pub(super) mod tests;
