//! A Docker small enough to reason about, for tests of the planner: it applies operations to a [`World`] as an engine would.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Capabilities, Operation, Plan, PlanInput, Standing, Target, Task, check, plan};
use crate::desired::lower::{LowerInput, Surroundings, claims, lower, namespace_claim};
use crate::desired::merge::{Tenants, resolve};
use crate::desired::{Intent, NetworkWant, naming};
use crate::observed::{Container, ContainerId, Details, HealthState, Network, State, TaskKey, TaskResult, TaskState, Volume, World};
use crate::resource::{Kind, ObjectRef, Uid};
use crate::state::{Admission, Claim, Fact, Facts, Grant};

/// The installation of all models.
pub const INSTALLATION: &str = "dm";

pub fn uid() -> Uid {
    Uid("01936f2e-7b7c-7000-8000-000000000001".to_owned())
}

/// A workspace `shop` of alice with this spec, every claim granted.
pub fn intent(spec: Value, generation: u64) -> Intent {
    let document = json!({"apiVersion": "dockmaster/v1", "kind": "Workspace", "metadata": {"name": "shop", "namespace": "alice"}, "spec": spec});
    let resource: crate::resource::Object<crate::resource::WorkspaceSpec> = serde_json::from_value(document).unwrap();
    let all = BTreeMap::new();
    let tenants = Tenants { all: &all, namespace: "alice" };
    let resolved = resolve(&resource.spec, &BTreeMap::new(), tenants);
    let object = ObjectRef::new(Kind::Workspace, "alice", "shop");
    let mut port = 10_000;
    let mut grant = |claim: &Claim| match claim {
        Claim::Port { name, fixed } => {
            port += 1;
            Grant::Port { name: name.clone(), host: fixed.unwrap_or(port) }
        }
        Claim::Subnet { network, .. } => Grant::Subnet { network: network.clone(), cidr: "10.213.1.0/28".to_owned() },
    };
    let grants: Vec<Grant> = claims(INSTALLATION, &object, &resolved).unwrap().iter().map(&mut grant).collect();
    let around = Surroundings {
        installation: INSTALLATION,
        host_paths: &[],
        links: &BTreeMap::new(),
        publish_address: "127.0.0.1",
        disk_limit: false,
        nano_cpus: 8_000_000_000,
    };
    let lowered = lower(&LowerInput {
        around,
        resource: &resource,
        resolved: &resolved,
        tenants,
        admission: &Admission { uid: uid(), generation, created: "2026-03-01T00:00:00Z".parse().unwrap() },
        grants: &grants,
        directory: "/specs/alice",
        own_digest: &format!("digest-{generation}"),
    });
    let Intent::Present(mut desired) = lowered else { panic!("{lowered:?}") };
    assert!(desired.fatal.is_empty(), "{:?}", desired.fatal);
    let Claim::Subnet { network: name, .. } = namespace_claim(INSTALLATION, "alice") else { unreachable!() };
    desired.networks.insert(0, NetworkWant { name, subnet: "10.213.0.0/26".to_owned(), labels: naming::namespace_labels(INSTALLATION, "alice") });
    Intent::Present(desired)
}

/// One object on a small engine.
pub struct Model {
    pub object: ObjectRef,
    pub world: World,
    pub facts: Facts,
    pub now: Timestamp,
    pub standing: Standing,
    pub capabilities: Capabilities,
    /// What every container uses.
    pub memory_used: u64,
    /// Containers made so far, for ids.
    made: usize,
    /// Every operation applied, by name and target.
    pub log: Vec<String>,
}

impl Model {
    pub fn new(name: &str) -> Self {
        let world = World { engine: "e".to_owned(), helper: Some("sha256:helper".to_owned()), ..World::default() };
        let capabilities = Capabilities { api: (1, 51), nano_cpus: 8_000_000_000, local: true, disk_limit: false };
        Self {
            object: ObjectRef::new(Kind::Workspace, "alice", name),
            world,
            facts: Facts::default(),
            now: "2026-03-02T10:00:00Z".parse().unwrap(),
            standing: Standing { inherited_turn: true, ..Standing::default() },
            capabilities,
            memory_used: 100 << 20,
            made: 0,
            log: Vec::new(),
        }
    }

    /// What a plan depends on now.
    pub fn input<'a>(&'a self, intent: &'a Intent) -> PlanInput<'a> {
        PlanInput {
            object: &self.object,
            intent,
            world: &self.world,
            facts: &self.facts,
            standing: &self.standing,
            now: self.now,
            capabilities: &self.capabilities,
        }
    }

    /// The plan now; every plan is linted.
    pub fn plan(&self, intent: &Intent) -> Plan {
        let input = self.input(intent);
        let plan = plan(&input);
        check::check(&input, &plan).unwrap();
        plan
    }

    /// Plans and applies until a plan is empty, letting time pass where it only waits. Gives the last plan.
    pub fn settle(&mut self, intent: &Intent) -> Plan {
        for _ in 0..40 {
            let plan = self.plan(intent);
            if plan.is_empty() && plan.waiting.is_empty() {
                return plan;
            }
            self.apply(&plan, usize::MAX);
            if plan.is_empty() && self.finish_tasks() {
                self.now += SignedDuration::from_millis(1);
            } else if plan.is_empty() {
                let until = plan.waiting.iter().filter_map(|waiting| waiting.until).min();
                self.now = until.unwrap_or(self.now + SignedDuration::from_secs(1)).max(self.now + SignedDuration::from_millis(1));
            }
        }
        panic!("does not settle: {:?}", self.log);
    }

    /// Plans and applies until a hook runs.
    pub fn settle_until_hook(&mut self, intent: &Intent) {
        for _ in 0..40 {
            let plan = self.plan(intent);
            self.apply(&plan, usize::MAX);
            if self.world.tasks.iter().any(|(key, state)| matches!((key, state), (TaskKey::Hook(..), TaskState::Running { .. }))) {
                return;
            }
            self.finish_tasks();
        }
        panic!("no hook is run: {:?}", self.log);
    }

    /// Plans and applies until only somebody else can change what is waited for.
    pub fn settle_waiting(&mut self, intent: &Intent) -> Plan {
        for _ in 0..40 {
            let plan = self.plan(intent);
            self.apply(&plan, usize::MAX);
            if !self.finish_tasks() && plan.is_empty() {
                return plan;
            }
        }
        panic!("does not come to rest: {:?}", self.log);
    }

    /// Applies the first `limit` operations of a plan, in its order, which respects dependencies; then the operator is gone.
    pub fn apply(&mut self, plan: &Plan, limit: usize) {
        let mut ids: BTreeMap<usize, ContainerId> = BTreeMap::new();
        for (index, node) in plan.nodes.iter().enumerate().take(limit) {
            self.log.push(format!("{} {}", node.operation.name(), node.operation.target()));
            let target = node.operation.container().map(|target| match target {
                Target::Existing { id, .. } => id.clone(),
                Target::Made { node, .. } => ids[node].clone(),
            });
            if let Some(made) = self.one(&node.operation, target.clone()) {
                ids.insert(index, made);
            }
            if let (Operation::Start(_), Some(started)) = (&node.operation, target) {
                self.runs_alone(&started);
            }
        }
    }

    /// Ends every task that is under way, with success; false when none is.
    pub fn finish_tasks(&mut self) -> bool {
        self.finish_tasks_where(|_| true)
    }

    /// The same for some of them.
    pub fn finish_tasks_where(&mut self, these: impl Fn(&TaskKey) -> bool) -> bool {
        let mut finished = false;
        for (key, state) in &mut self.world.tasks {
            if matches!(state, TaskState::Running { .. }) && these(key) {
                let result = match key {
                    TaskKey::Pull(reference) => {
                        self.world.images.insert(reference.clone(), format!("sha256:{reference}"));
                        TaskResult::Done
                    }
                    TaskKey::Sample(_) => TaskResult::Sample { sent: 0, execs: Vec::new() },
                    TaskKey::Tail(id) => TaskResult::Tail(format!("last words of {}\n", self.world.containers.get(id).map_or("nobody", |c| c.name.as_str()))),
                    TaskKey::Disk(_) => TaskResult::Disk(1 << 20),
                    TaskKey::Memory(_) => TaskResult::Memory(self.memory_used),
                    TaskKey::Helper | TaskKey::Hook(..) | TaskKey::IdleCheck(_) | TaskKey::IdleWarn(_) | TaskKey::Probe(_) => {
                        TaskResult::Exit { code: 0, output: String::new() }
                    }
                };
                *state = TaskState::Done { at: self.now, result };
                finished = true;
            }
        }
        finished
    }

    /// Ends every helper that runs, with success.
    pub fn finish_helpers(&mut self) {
        let is_helper = |c: &&Container| c.is_active() && c.owner.as_ref().is_some_and(|owner| owner.role == crate::desired::Role::Helper);
        let helpers: Vec<String> = self.world.containers.values().filter(is_helper).map(|c| c.name.clone()).collect();
        let now = self.now;
        for name in helpers {
            self.meddle(&name, |c| {
                c.state = State::Exited { code: 0 };
                Arc::make_mut(c.details.as_mut().unwrap()).finished = Some(now);
            });
        }
    }

    /// Changes a container behind the operator's back.
    pub fn meddle(&mut self, name: &str, change: impl FnOnce(&mut Container)) {
        let mut container = self.world.container_named(name).cloned().unwrap();
        change(&mut container);
        self.world.insert(container);
    }

    pub fn states(&self) -> Vec<String> {
        let mut states: Vec<String> = self.world.containers.values().map(|c| format!("{} {}", c.name, c.state.as_str())).collect();
        states.sort();
        states
    }

    fn runs_alone(&self, started: &ContainerId) {
        let place = |c: &Container| c.owner.as_ref().map(|owner| (owner.object.clone(), owner.service.clone(), owner.role));
        let started = place(&self.world.containers[started]);
        let beside = self.world.containers.values().filter(|c| c.is_active() && place(c) == started);
        assert!(beside.count() == 1, "two run: {:?}", self.states());
    }

    /// Applies one operation; gives the container that it made.
    pub fn one(&mut self, operation: &Operation, target: Option<ContainerId>) -> Option<ContainerId> {
        match operation {
            Operation::EnsureNetwork { name, subnet, labels } => {
                let owner = naming::network_owner(INSTALLATION, name, labels);
                let network =
                    Network { id: format!("net-{name}-{}", self.made), name: name.clone(), owner, subnets: vec![subnet.clone()], driver: "bridge".to_owned() };
                self.made += 1;
                self.world.networks.insert(network.id.clone(), network);
            }
            Operation::RemoveNetwork { id, .. } => {
                assert!(!self.world.containers.values().any(|c| c.is_active() && c.networks.values().any(|n| n == id)), "network in use");
                self.world.networks.remove(id);
            }
            Operation::EnsureVolume { name, labels } => {
                let owner = naming::volume_owner(INSTALLATION, name, labels);
                let volume = Volume { name: name.clone(), owner, driver: "local".to_owned(), options: BTreeMap::new() };
                self.world.volumes.insert(name.clone(), volume);
            }
            Operation::RemoveVolume { name, .. } => {
                self.world.volumes.remove(name);
            }
            Operation::Create { spec, name, image_id } => return Some(self.create(spec, name, image_id)),
            Operation::Begin(key, task) => {
                let running = TaskState::Running { since: self.now, progress: String::new(), failed: None };
                self.world.tasks.insert(key.clone(), running);
                if let Task::Helper = task {
                    self.world.helper = Some("sha256:helper".to_owned());
                }
            }
            Operation::Forget(key) => {
                self.world.tasks.remove(key);
            }
            Operation::Record(fact) => self.facts.apply(fact),
            Operation::ReleaseLeases | Operation::Release => {}
            Operation::Remove(_) => {
                self.world.remove(&target.unwrap());
            }
            Operation::Start(_)
            | Operation::Stop { .. }
            | Operation::Rename { .. }
            | Operation::Update { .. }
            | Operation::Connect { .. }
            | Operation::Disconnect { .. }
            | Operation::Pause(_)
            | Operation::Unpause(_) => self.change(operation, &target.unwrap()),
        }
        None
    }

    fn change(&mut self, operation: &Operation, id: &ContainerId) {
        let mut container = self.world.containers[id].clone();
        let now = self.now;
        let network = |world: &World, name: &str| world.networks.named(name).next().map(|n| n.id.clone()).unwrap();
        let details = Arc::make_mut(container.details.as_mut().unwrap());
        match operation {
            Operation::Start(_) => {
                container.state = State::Running(HealthState::None);
                details.started = Some(now);
            }
            Operation::Stop { .. } => {
                container.state = State::Exited { code: 143 };
                details.finished = Some(now);
            }
            Operation::Rename { to, .. } => {
                assert!(self.world.container_named(to).is_none(), "{to} exists");
                container.name.clone_from(to);
            }
            Operation::Update { limits, .. } => {
                details.memory = limits.memory.map_or(0, |m| m.0);
                details.nano_cpus = limits.cpu.map_or(0, |c| c.0);
                details.pids = limits.pids;
                details.restart = limits.restart.as_str().to_owned();
            }
            Operation::Connect { network: name, aliases, .. } => {
                details.aliases.insert(name.clone(), aliases.clone());
                container.networks.insert(name.clone(), network(&self.world, name));
            }
            Operation::Disconnect { network: id, .. } => container.networks.retain(|_, of| of != id),
            Operation::Pause(_) => container.state = State::Paused,
            Operation::Unpause(_) => container.state = State::Running(HealthState::None),
            Operation::EnsureNetwork { .. }
            | Operation::RemoveNetwork { .. }
            | Operation::EnsureVolume { .. }
            | Operation::RemoveVolume { .. }
            | Operation::Create { .. }
            | Operation::Remove(_)
            | Operation::Begin(..)
            | Operation::Forget(_)
            | Operation::Record(_)
            | Operation::ReleaseLeases
            | Operation::Release => unreachable!("{}", operation.name()),
        }
        self.identify(&mut container);
        self.world.insert(container);
    }

    fn create(&mut self, spec: &crate::desired::ContainerSpec, name: &str, image_id: &str) -> ContainerId {
        assert!(self.world.container_named(name).is_none(), "{name} exists");
        self.made += 1;
        let id = ContainerId(format!("{:064x}", self.made));
        let networks =
            spec.networks.iter().map(|a| (a.network.clone(), self.world.networks.named(&a.network).next().expect("no network").id.clone())).collect();
        let details = Details {
            started: None,
            finished: None,
            exit_code: 0,
            oom_killed: false,
            error: String::new(),
            restarts: 0,
            pid: 0,
            memory: spec.limits.memory.map_or(0, |m| m.0),
            memory_swap: 0,
            nano_cpus: spec.limits.cpu.map_or(0, |c| c.0),
            pids: spec.limits.pids,
            restart: spec.limits.restart.as_str().to_owned(),
            aliases: spec.networks.iter().map(|a| (a.network.clone(), a.aliases.clone())).collect(),
            env: Vec::new(),
            command: Vec::new(),
            anonymous_volumes: BTreeMap::new(),
            volumes: std::collections::BTreeSet::new(),
        };
        let mut container = Container {
            id: id.clone(),
            name: name.to_owned(),
            owner: None,
            state: State::Created,
            image: spec.image.as_str().to_owned(),
            image_id: image_id.to_owned(),
            networks,
            labels: spec.labels.clone(),
            ports: Vec::new(),
            created: self.now,
            details: Some(Arc::new(details)),
        };
        self.identify(&mut container);
        assert!(container.owner.is_some(), "{name} is not recognised as ours: {:?}", spec.labels);
        self.world.insert(container);
        id
    }

    fn identify(&self, container: &mut Container) {
        container.owner = naming::identity_from_labels(INSTALLATION, &container.name, &container.labels);
    }

    /// Writes a fact, as a command would.
    pub fn record(&mut self, fact: Fact) {
        self.facts.apply(&fact);
    }
}
