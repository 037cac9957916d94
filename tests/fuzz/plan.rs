//! Plans from arbitrary states: each line of an input is a step, which changes what is wanted, what is seen or what is remembered, or carries out
//! a plan as far as it gets. Whatever the steps made, a plan is the same twice, keeps its promises, and comes to rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use dockmaster::desired::{Intent, naming};
use dockmaster::observed::{Container, ContainerId, HealthState, State, TaskKey, TaskState, Volume};
use dockmaster::planner::{Operation, Plan, Target, print};
use dockmaster::resource::{Condition, ConditionType};
use dockmaster::state::{Consent, Fact, Facts, Farewell, Tombstone};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::planner::model::{Model, intent, uid};
use crate::run::{Outcome, outcome};

/// What inputs are made of.
#[rustfmt::skip]
pub const WORDS: &[&str] = &[
    "want", " web2", " far", " port", " fixed", " data", " db", " cache", " health", " idle", " check", " life", " hours", " hooks", " stopped",
    " on-failure", " memory", " more", " cpu", " disk", " always", " delete", " when-idle", " inherited", "want web2 data db\n", "want data port\n",
    "want stopped\n", "want hooks port data\n", "want idle check\n", "gone\n", "gone consent\n", "gone consent purge\n", "hold\n", "settle\n",
    "apply 1\n", "apply 2\n", "apply 3\n", "apply 5\n", "tick 1\n", "tick 60\n", "tick 700\n", "tick 100000\n", "tick 700000\n", "tick -90000\n",
    "tasks\n", "fail\n", "forget\n", "lose\n", "start\n", "restart\n", "extend 3600\n", "exit 0 0\n", "exit 0 1\n", "exit 1 137\n", "pause 0\n",
    "removing 0\n", "dead 0\n", "restarting 0\n", "unhealthy 0\n", "starting 0\n", "run 0\n", "run 1\n", "remove 0\n", "remove 1\n", "disconnect 0\n",
    "next 0\n", "strip 0\n", "uid 0\n", "generation 0\n", "hash 0\n", "limits 0\n", "blind 0\n", "networks\n", "network-again\n", "volumes\n",
    "foreign-volumes\n", "images\n", "quota\n", "no-turn\n", "old-engine\n", "memory-used 0\n", "foreign dm-ws-alice.shop\n",
    "foreign dm-ws-alice.shop_next\n", "foreign dm-ws-alice.shop.db\n", "helper\n",
];

/// Only so many steps are taken.
const STEPS: usize = 40;
/// So many plans that do something are enough to come to rest from anywhere.
const ROUNDS: usize = 150;

pub fn check(input: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(input);
    let mut scene = Scene::new();
    for line in text.lines().filter(|line| !line.starts_with('#')).take(STEPS) {
        let mut words = line.split_whitespace();
        if let Some(step) = words.next() {
            scene.step(step, &words.collect::<Vec<_>>());
        }
    }
    let last = scene.rest();
    let done: std::collections::BTreeSet<&str> = scene.model.log.iter().filter_map(|line| line.split(' ').next()).collect();
    outcome((done, format!("{:?} {:?}", last.verdict.phase, last.verdict.reason), scene.model.world.containers.len()))
}

struct Scene {
    model: Model,
    intent: Intent,
    spec: Value,
    generation: u64,
}

impl Scene {
    fn new() -> Self {
        let mut model = Model::new("shop");
        for (reference, id) in [("web:1", "sha256:web1"), ("web:2", "sha256:web2"), ("db:1", "sha256:db1")] {
            model.world.images.insert(reference.to_owned(), id.to_owned());
        }
        let spec = json!({"image": "web:1"});
        Self { model, intent: intent(spec.clone(), 1), spec, generation: 1 }
    }

    fn step(&mut self, step: &str, words: &[&str]) {
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<i64>().ok()).unwrap_or(0);
        let now = self.model.now;
        match step {
            "want" => {
                self.spec = spec(words);
                self.generation += u64::from(!words.contains(&"inherited"));
                self.intent = intent(self.spec.clone(), self.generation);
            }
            "gone" => {
                let consent = if words.contains(&"consent") { Consent::DeleteInSpec } else { Consent::None };
                let farewell = Farewell { pre_stop: words.contains(&"hooks").then(|| vec!["c".to_owned()]), ..Farewell::default() };
                let until = now + SignedDuration::from_hours(168);
                self.intent = Intent::Absent(Tombstone { uid: uid(), at: now, until, consent, purge: words.contains(&"purge"), farewell });
            }
            "hold" => self.intent = Intent::Hold(Condition::abnormal(ConditionType::Suspended, "held")),
            "settle" => drop(self.rest()),
            "apply" => {
                let plan = self.plan();
                self.model.apply(&plan, usize::try_from(number(0)).unwrap_or(0));
            }
            // Within a few years; and a clock may be set back.
            "tick" => self.model.now += SignedDuration::from_secs(number(0).clamp(-100_000, 10_000_000)),
            "tasks" => _ = self.model.finish_tasks(),
            "fail" => {
                for state in self.model.world.tasks.values_mut().filter(|state| matches!(state, TaskState::Running { .. })) {
                    *state = TaskState::Failed { at: now, attempts: 2, error: "no".to_owned() };
                }
            }
            "forget" => self.model.world.tasks.clear(),
            "lose" => {
                self.model.facts = Facts::default();
                self.model.record(Fact::StateLost(true));
            }
            "start" => self.model.record(Fact::StartAsked(now)),
            "restart" => self.model.record(Fact::RestartAsked(now)),
            "extend" => self.model.record(Fact::ExtendedUntil(now + SignedDuration::from_secs(number(0).clamp(0, 1_000_000)))),
            "networks" => self.model.world.networks.clear(),
            "network-again" => {
                for (id, mut network) in std::mem::take(&mut self.model.world.networks) {
                    network.id = format!("{id}x");
                    self.model.world.networks.insert(network.id.clone(), network);
                }
            }
            "volumes" => self.model.world.volumes.clear(),
            "foreign-volumes" => {
                let volumes = std::mem::take(&mut self.model.world.volumes).into_iter();
                self.model.world.volumes = volumes.map(|(name, volume)| (name, Volume { owner: None, ..volume })).collect();
            }
            "images" => self.model.world.images.clear(),
            "quota" => self.model.standing.over_quota = Some("two at most".to_owned()),
            "no-turn" => self.model.standing.inherited_turn = false,
            "old-engine" => self.model.capabilities.api = (1, 41),
            "memory-used" => self.model.memory_used = u64::try_from(number(0)).unwrap_or(0).min(1 << 40),
            "helper" => self.model.world.helper = None,
            "foreign" => self.foreign(words.first().copied().unwrap_or_default()),
            _ => self.meddle(step, usize::try_from(number(0)).unwrap_or(0), number(1)),
        }
    }

    /// Somebody else's container, which runs under that name.
    fn foreign(&mut self, name: &str) {
        let Some(mut container) = self.model.world.containers.values().next().cloned() else { return };
        if name.is_empty() || self.model.world.container_named(name).is_some() {
            return;
        }
        container.id = ContainerId(format!("foreign-{name}"));
        container.name = name.to_owned();
        container.labels = BTreeMap::from([(naming::INSTALLATION.to_owned(), "other".to_owned())]);
        container.owner = None;
        container.state = State::Running(HealthState::None);
        container.networks.clear();
        self.model.world.insert(container);
    }

    /// Does something to the container of that number, behind the operator's back.
    fn meddle(&mut self, step: &str, which: usize, code: i64) {
        let mut names: Vec<String> = self.model.world.containers.values().map(|c| c.name.clone()).collect();
        names.sort();
        let Some(name) = names.get(which).cloned() else { return };
        let Some(mut container) = self.model.world.container_named(&name).cloned() else { return };
        let now = self.model.now;
        let mut details = Arc::unwrap_or_clone(container.details.clone().unwrap());
        match step {
            "exit" if container.is_active() => {
                container.state = State::Exited { code };
                (details.exit_code, details.finished) = (code, Some(now));
            }
            "pause" if container.is_active() => container.state = State::Paused,
            "removing" => container.state = State::Removing,
            "dead" => container.state = State::Dead,
            "restarting" if container.is_active() => (container.state, details.restarts) = (State::Restarting, details.restarts + 1),
            "unhealthy" if container.is_active() => container.state = State::Running(HealthState::Unhealthy),
            "starting" if container.is_active() => container.state = State::Running(HealthState::Starting),
            "run" => {
                container.state = State::Running(HealthState::None);
                details.started = Some(now);
            }
            "remove" => return self.model.world.remove(&container.id),
            "disconnect" => container.networks.clear(),
            "next" if self.model.world.container_named(&format!("{name}_next")).is_none() => container.name = format!("{name}_next"),
            "strip" => container.labels.clear(),
            "uid" => _ = container.labels.insert(naming::UID.to_owned(), "01936f2e-7b7c-7000-8000-00000000000f".to_owned()),
            "generation" => _ = container.labels.insert(naming::GENERATION.to_owned(), code.unsigned_abs().to_string()),
            "hash" => _ = container.labels.insert(naming::SPEC_HASH.to_owned(), "v1:0".to_owned()),
            "limits" => (details.memory, details.nano_cpus, details.pids) = (1 << 20, 1, 7),
            "blind" => {
                // A plan of a moment in which it was not inspected yet; carried out as far as it goes.
                container.details = None;
                self.model.world.insert(container.clone());
                let plan = self.plan();
                container.details = Some(Arc::new(details));
                self.model.world.insert(container);
                return self.model.apply(&plan, usize::MAX);
            }
            _ => return,
        }
        container.details = Some(Arc::new(details));
        container.owner = naming::identity_from_labels("dm", &container.name, &container.labels);
        self.model.world.insert(container);
    }

    /// The plan now, which is the same twice and keeps its promises.
    fn plan(&self) -> Plan {
        let plan = self.model.plan(&self.intent);
        let again = self.model.plan(&self.intent);
        assert_eq!(plan, again, "planned twice");
        assert_eq!(print::text(&self.model.object, &plan), print::text(&self.model.object, &again));
        for node in &plan.nodes {
            self.promise(&node.operation);
        }
        plan
    }

    /// What no operation of any plan may be; said once more, apart from the planner's own lint.
    fn promise(&self, operation: &Operation) {
        let (model, what) = (&self.model, format!("{} {}", operation.name(), operation.target()));
        let held = matches!(self.intent, Intent::Hold(_));
        if let Some(Target::Existing { id, uid, .. }) = operation.container() {
            let owner = model.world.containers[id].owner.as_ref().unwrap_or_else(|| panic!("{what}: it is not ours"));
            assert_eq!((&owner.object, &owner.uid), (&model.object, uid), "{what}: it is another's");
        }
        match operation {
            Operation::RemoveVolume { name, uid: of, .. } => {
                let Intent::Absent(stone) = &self.intent else { panic!("{what}: of an object that is not gone") };
                assert_eq!(stone.consent, Consent::DeleteInSpec, "{what}: without consent");
                assert!(stone.purge || model.now >= stone.until, "{what}: before its time");
                let owner = model.world.volumes[name].owner.as_ref().unwrap_or_else(|| panic!("{what}: it is not ours"));
                assert_eq!((owner.uid.as_ref(), &owner.object), (Some(of), &model.object), "{what}: it is another's");
            }
            Operation::RemoveNetwork { id, .. } => {
                let owner = model.world.networks[id].owner.as_ref().unwrap_or_else(|| panic!("{what}: it is not ours"));
                assert_eq!(owner.object, model.object, "{what}: it is another's");
            }
            Operation::Create { spec, .. } => {
                for mount in &spec.mounts {
                    let dockmaster::desired::MountSource::Volume(volume) = &mount.source else { continue };
                    assert!(model.world.volumes.get(volume).is_none_or(|found| found.owner.is_some()), "{what}: with a volume that is not ours");
                }
            }
            _ => {}
        }
        assert!(!(held && operation.is_mutating()), "{what}: while it is held");
        let gone = matches!(self.intent, Intent::Absent(_));
        assert!(!(gone && matches!(operation, Operation::Create { .. } | Operation::Start(_) | Operation::EnsureVolume { .. })), "{what}: of what is gone");
    }

    /// Plans and carries out until nothing is left to do but to wait for somebody; then nothing is.
    fn rest(&mut self) -> Plan {
        let mut trail = Vec::new();
        for _ in 0..ROUNDS {
            let plan = self.plan();
            let busy = plan.nodes.iter().any(|node| node.operation.is_mutating());
            trail.push(print::text(&self.model.object, &plan));
            self.model.apply(&plan, usize::MAX);
            // Nothing is known of it any more.
            if plan.nodes.iter().any(|node| node.operation == Operation::Release) {
                return plan;
            }
            let moved = self.engine_goes_on();
            if !busy && !moved && plan.is_empty() {
                let Some(until) = plan.waiting.iter().filter_map(|waiting| waiting.until).min() else {
                    assert!(self.plan().is_empty());
                    return plan;
                };
                self.model.now = until.max(self.model.now + SignedDuration::from_millis(1));
            }
        }
        panic!("it does not come to rest; the last plans:\n{}", trail[trail.len() - 6..].concat());
    }

    /// What an engine does by itself: it ends work and removals, and starts again what it restarts. Whether anything has changed.
    fn engine_goes_on(&mut self) -> bool {
        let mut moved = self.model.finish_tasks_where(|key| !matches!(key, TaskKey::Sample(_)));
        for container in self.model.world.containers.values().cloned().collect::<Vec<Container>>() {
            let mut next = container.clone();
            match container.state {
                State::Removing => {
                    self.model.world.remove(&container.id);
                    moved = true;
                    continue;
                }
                State::Restarting | State::Running(HealthState::Starting) => next.state = State::Running(HealthState::Healthy),
                State::Created | State::Running(_) | State::Paused | State::Exited { .. } | State::Dead => continue,
            }
            self.model.world.insert(next);
            moved = true;
        }
        moved
    }
}

/// The spec that the words ask for.
fn spec(words: &[&str]) -> Value {
    let has = |word: &str| words.contains(&word);
    let mut spec = json!({"image": if has("web2") { "web:2" } else if has("far") { "far:1" } else { "web:1" }});
    let mut put = |word: &str, field: &str, value: Value| {
        if has(word) {
            spec[field] = value;
        }
    };
    put("port", "ports", json!([{"name": "http", "container": 8080, "publish": "Pool"}]));
    put("fixed", "ports", json!([{"name": "http", "container": 8080, "publish": 9090}]));
    put("data", "mounts", json!([{"volume": "data", "path": "/data"}]));
    put("db", "services", json!({"db": {"image": "db:1", "volume": {"path": "/var/lib/db"}}}));
    put("cache", "services", json!({"cache": {"image": "db:1"}}));
    put("health", "health", json!({"test": ["CMD", "true"]}));
    put("idle", "idle", json!({"timeout": "30m"}));
    put("check", "idle", json!({"timeout": "30m", "check": {"exec": ["busy"]}, "warn": {"exec": ["warn"]}}));
    put("life", "maxLifetime", json!("2h"));
    put("hours", "runningHours", json!({"days": "Mon-Fri", "from": "08:00", "to": "19:00"}));
    put("hooks", "hooks", json!({"postCreate": ["a"], "postStart": ["b"], "preStop": ["c"]}));
    put("stopped", "state", json!("Stopped"));
    put("on-failure", "restart", json!("on-failure"));
    put("memory", "resources", json!({"memory": "512m"}));
    put("more", "resources", json!({"memory": "1g", "pids": 100}));
    put("cpu", "resources", json!({"cpu": "2"}));
    put("disk", "resources", json!({"disk": "512k"}));
    put("always", "pullPolicy", json!("Always"));
    put("delete", "deletionPolicy", json!("Delete"));
    put("when-idle", "update", json!({"when": "WhenIdle"}));
    if has("db") && has("cache") {
        spec["services"] = json!({"db": {"image": "db:1", "volume": {"path": "/db"}}, "cache": {"image": "db:1", "dependsOn": ["db"]}});
    }
    spec
}
