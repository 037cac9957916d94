//! Sees every call before it reaches the engine: counts it, checks the invariants on what all earlier calls have made, strikes as told.
//!
//! The numbers are those of the catalogue of invariants in `docs/reliability.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use dockmaster::desired::naming;
use dockmaster::resource::{Condition, ObjectRef, Status, Truth, Uid};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::fault::{Delivery, Fault};
use super::folder::Folder;
use super::gate::Gate;
use super::view::{Container, HOLDER, INSTALLATION, POOL, View};

/// One call, as the engine sees it.
pub struct Call<'a> {
    /// Which operator's.
    pub caller: u64,
    pub method: &'a str,
    /// Without version and query.
    pub path: &'a str,
    pub query: &'a str,
    pub body: &'a [u8],
    pub mutating: bool,
}

/// What becomes of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reaction {
    Pass,
    Error { status: u16, message: String },
    Abandon,
    Silence { applied: bool },
    Reset { applied: bool },
    Truncate,
    Stale { age: u64 },
    Suspend,
}

/// What the lab has to do because of a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strike {
    /// That operator is dead; with or without its state.
    Crash { operator: u64, lose_state: bool },
    /// The engine ends in order and starts again, or is killed, maybe in the middle of the start of that container.
    EngineRestart { killed: bool, starting: Option<String> },
}

/// See the module.
pub struct Watcher {
    seen: Mutex<Seen>,
    folder: Arc<Folder>,
    strikes: mpsc::UnboundedSender<Strike>,
    jump: Box<dyn Fn(i64) + Send + Sync>,
    begun: Instant,
}

/// What was seen so far.
#[derive(Default)]
pub struct Seen {
    pub calls: u64,
    pub mutations: u64,
    pub events: u64,
    pub faults: Vec<Fault>,
    /// Whether the operator that starts a container next dies as it does.
    pub dies_in_a_start: bool,
    /// Whether faults still strike; not in the calm at the end.
    pub armed: bool,
    /// The lives of the operators.
    gates: BTreeMap<u64, Gate>,
    /// What was checked last.
    checked: Option<Arc<View>>,
    /// The containers that were the lock.
    locks: BTreeSet<String>,
    /// What the lives have listed, and that of a directory, once they have read it.
    read: BTreeSet<(u64, String)>,
    pub last_mutation: Option<Instant>,
    /// The last fault, or the last thing that people did.
    pub last_cause: Option<Instant>,
    /// The calls that listed containers.
    pub lists: BTreeSet<u64>,
    pub creates: BTreeMap<String, u64>,
    pub removes: BTreeMap<String, u64>,
    pub violations: Vec<String>,
    pub trace: Vec<String>,
    hash: u64,
    uids: BTreeMap<String, String>,
    /// The identities that a ledger has.
    admitted: BTreeSet<String>,
    /// The identities that were buried and did not return, and those that expired.
    buried: BTreeSet<String>,
    expired: BTreeSet<String>,
    paused: BTreeMap<String, Instant>,
    /// When each container that runs no more was last seen to run, by its id.
    ran: BTreeMap<String, Instant>,
    /// Whether the engine was suspended and does not go on yet.
    stands_still: bool,
    /// Whether the state was lost, after which identities may come anew where nothing recorded them.
    pub state_lost: bool,
    /// The host port of each life's port; whether people took one.
    ports: BTreeMap<(String, u16), u16>,
    pub ports_may_move: bool,
    /// Containers that people paused.
    pub paused_by_people: BTreeSet<String>,
}

impl Seen {
    fn wrong(&mut self, what: String) {
        let call = self.calls;
        if self.violations.len() < 20 {
            self.violations.push(format!("{what} (before call {call})"));
        }
    }

    /// A line of the trace; all of them make the hash.
    pub fn note(&mut self, line: String) {
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.trace.push(line);
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Another life of an operator begins.
    pub fn next_life(&mut self, operator: u64, gate: Gate) {
        self.gates.insert(operator, gate);
        self.read.retain(|(of, _)| *of != operator);
    }
}

impl Watcher {
    pub fn new(folder: Arc<Folder>, faults: Vec<Fault>, strikes: mpsc::UnboundedSender<Strike>, jump: Box<dyn Fn(i64) + Send + Sync>) -> Self {
        let seen = Seen { faults, armed: true, hash: 0xcbf2_9ce4_8422_2325, ..Seen::default() };
        Self { seen: Mutex::new(seen), folder, strikes, jump, begun: Instant::now() }
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    fn elapsed(&self) -> String {
        format!("{:9.3}", self.begun.elapsed().as_secs_f64())
    }

    /// Takes notice of a call; `view` is what the engine holds now.
    pub fn before(&self, call: &Call<'_>, view: &Arc<View>) -> Reaction {
        let mut seen = self.seen();
        seen.calls += 1;
        let number = seen.calls;
        if seen.checked.as_ref().is_none_or(|checked| !Arc::ptr_eq(checked, view)) {
            self.check_state(&mut seen, view);
            let before = seen.checked.replace(view.clone()).unwrap_or_default();
            let runs: BTreeSet<&str> = view.running().collect();
            seen.ran.extend(before.running().filter(|id| !runs.contains(id)).map(|id| (id.to_owned(), Instant::now())));
        }
        // While the engine stands still, nothing can be done about it.
        if !seen.stands_still {
            check_pauses(&mut seen, view);
        }
        if call.mutating {
            seen.mutations += 1;
            seen.last_mutation = Some(Instant::now());
            self.check_mutation(&mut seen, call, view);
        }
        if call.path == LISTS[0] {
            seen.lists.insert(number);
        }
        let reaction = self.strike(&mut seen, number, call);
        let answered = matches!(reaction, Reaction::Pass | Reaction::Stale { .. } | Reaction::Suspend);
        if answered && call.method == "GET" && LISTS.contains(&call.path) && !call.query.contains("filters") {
            seen.read.insert((call.caller, call.path.to_owned()));
        }
        let told = if reaction == Reaction::Pass { String::new() } else { format!("  <- {reaction:?}") };
        let query = if call.query.is_empty() || call.path == "/events" { String::new() } else { format!("?{}", call.query) };
        seen.note(format!("{} #{number} {} {}{query}{told}", self.elapsed(), call.method, short(call.path)));
        reaction
    }

    /// Takes notice of something else.
    pub fn note(&self, what: &str) {
        let line = format!("{} {what}", self.elapsed());
        self.seen().note(line);
    }

    /// The engine stood still, and does no longer.
    pub fn goes_on(&self) {
        self.note("engine goes on");
        let mut seen = self.seen();
        seen.last_cause = Some(Instant::now());
        seen.stands_still = false;
        seen.paused.clear();
    }

    /// A status that is told: what is said to run must run, or have run when it was last looked at.
    pub fn check_told(&self, object: &ObjectRef, status: &Status) {
        let runs = |condition: &Condition| condition.type_.as_str() == "Ready" && condition.status == Truth::True && condition.reason.as_str() == "Running";
        let Some(told) = status.container.as_ref().filter(|_| status.conditions.iter().any(runs)) else { return };
        let mut seen = self.seen();
        let is_it = |id: &str| id.starts_with(&told.id);
        let last = seen.ran.iter().filter(|(id, _)| is_it(id)).map(|(_, at)| *at).max();
        let runs = seen.checked.as_ref().is_some_and(|view| view.running().any(is_it));
        if !runs && last.is_none_or(|last| last.elapsed() > OUTDATED) {
            let ago = last.map_or("never".to_owned(), |last| format!("{} s ago", last.elapsed().as_secs()));
            seen.wrong(format!("I12: {object} is told to be ready, and its container was last running {ago}"));
        }
    }

    /// That operator has read the directory whole.
    pub fn has_read(&self, operator: u64) {
        self.seen().read.insert((operator, DIRECTORY.to_owned()));
    }

    /// That identity is in a ledger.
    pub fn admitted(&self, uid: &Uid) {
        let mut seen = self.seen();
        seen.admitted.insert(uid.0.clone());
        seen.buried.remove(&uid.0);
    }

    /// That identity has a grave.
    pub fn buried(&self, uid: &Uid) {
        self.seen().buried.insert(uid.0.clone());
    }

    /// That preview expired.
    pub fn expired(&self, uid: &Uid) {
        self.seen().expired.insert(uid.0.clone());
    }

    /// What becomes of the next event.
    pub fn event(&self, what: &str) -> Option<Delivery> {
        let mut seen = self.seen();
        seen.events += 1;
        let index = seen.events;
        let how = seen.faults.iter().find_map(|fault| match fault {
            Fault::Event { index: at, how } if *at == index && seen.armed => Some(*how),
            _ => None,
        });
        let line = format!("{} !{index} {what}{}", self.elapsed(), how.map_or(String::new(), |how| format!("  <- {how:?}")));
        seen.note(line);
        how
    }

    fn strike(&self, seen: &mut Seen, number: u64, call: &Call<'_>) -> Reaction {
        let gate = seen.gates.get(&call.caller).cloned();
        let crash = |lose_state: bool| {
            gate.iter().for_each(Gate::close);
            let _over = self.strikes.send(Strike::Crash { operator: call.caller, lose_state });
        };
        let mut reaction = Reaction::Pass;
        if seen.dies_in_a_start && call.path.ends_with("/start") {
            seen.dies_in_a_start = false;
            seen.last_cause = Some(Instant::now());
            crash(false);
            reaction = Reaction::Abandon;
        }
        if !seen.armed {
            return reaction;
        }
        for fault in seen.faults.clone().into_iter().filter(|fault| fault.at() == Some(number)) {
            seen.last_cause = Some(Instant::now());
            reaction = match fault {
                Fault::Crash { applied, .. } => {
                    crash(false);
                    if applied { Reaction::Silence { applied } } else { Reaction::Abandon }
                }
                Fault::LoseState { .. } => {
                    crash(true);
                    Reaction::Silence { applied: true }
                }
                Fault::Refuse { class, .. } => {
                    let (status, message) = class.reply();
                    Reaction::Error { status, message: message.to_owned() }
                }
                Fault::Silence { applied, .. } => Reaction::Silence { applied },
                Fault::Reset { applied, .. } => Reaction::Reset { applied },
                Fault::Truncate { .. } => Reaction::Truncate,
                // A run that another fault disturbed before may make another call here.
                Fault::Stale { .. } if call.path != "/containers/json" => Reaction::Pass,
                Fault::Stale { age, .. } => Reaction::Stale { age },
                Fault::EngineRestart { killed, .. } => {
                    let starting = call.path.strip_suffix("/start").and_then(|path| path.strip_prefix("/containers/")).filter(|_| killed).map(str::to_owned);
                    let applied = killed && starting.is_none();
                    let _over = self.strikes.send(Strike::EngineRestart { killed, starting });
                    Reaction::Reset { applied }
                }
                Fault::Suspend { .. } => {
                    seen.stands_still = true;
                    Reaction::Suspend
                }
                Fault::Jump { seconds, .. } => {
                    (self.jump)(seconds);
                    Reaction::Pass
                }
                Fault::Event { .. } => reaction,
            };
        }
        reaction
    }

    /// What must hold at every moment.
    fn check_state(&self, seen: &mut Seen, view: &View) {
        let mut active: BTreeMap<_, Vec<&Container>> = BTreeMap::new();
        let mut existing: BTreeMap<_, Vec<&Container>> = BTreeMap::new();
        let mut ports: BTreeMap<(String, u16), &str> = BTreeMap::new();
        // What was renamed by hand is known by its labels; after a loss of the state only by its name, since labels may be a copy.
        let ours = |container: &&Container| container.is_ours() || (!seen.state_lost && container.label(naming::INSTALLATION) == INSTALLATION);
        let all: Vec<&Container> = view.containers.iter().filter(ours).filter(|container| !container.label(naming::UID).is_empty()).collect();
        for container in all {
            existing.entry(container.place()).or_default().push(container);
            if container.is_active() {
                active.entry(container.place()).or_default().push(container);
                for (ip, host, _) in &container.ports {
                    if ip != "127.0.0.1" {
                        seen.wrong(format!("I5: {} is published on {ip}", container.name));
                    }
                    if let Some(other) = ports.insert((ip.clone(), *host), &container.name) {
                        seen.wrong(format!("I5: {} and {other} have port {host}", container.name));
                    }
                }
            }
            self.check_container(seen, view, container);
        }
        let mut called: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
        for container in view.ours().filter(|container| container.is_active()) {
            for (network, (_, aliases)) in &container.networks {
                for alias in aliases {
                    called.entry((network, alias)).or_default().insert(container.label(naming::UID));
                }
            }
        }
        for ((network, alias), uids) in called.iter().filter(|(_, uids)| uids.len() > 1) {
            seen.wrong(format!("I29: {alias} on {network} is of {uids:?}"));
        }
        for (place, containers) in active.iter().filter(|(_, containers)| containers.len() > 1) {
            let names: Vec<&str> = containers.iter().map(|container| container.name.as_str()).collect();
            seen.wrong(format!("I1: {names:?} run at once for {place:?}"));
        }
        for (place, containers) in existing.iter().filter(|(_, containers)| containers.len() > 2) {
            seen.wrong(format!("I1: {} containers exist for {place:?}", containers.len()));
        }
    }

    fn check_container(&self, seen: &mut Seen, view: &View, container: &Container) {
        let (name, uid, namespace) = (&container.name, container.label(naming::UID), container.label(naming::NAMESPACE));
        for label in [naming::UID, naming::GENERATION, naming::ROLE, naming::KIND, naming::NAME] {
            if container.label(label).is_empty() {
                seen.wrong(format!("I21: {name} has no label {label}"));
            }
        }
        let object = format!("{}/{namespace}/{}", container.label(naming::KIND), container.label(naming::NAME));
        match seen.uids.insert(object.clone(), uid.to_owned()) {
            Some(before) if before != uid && !is_stale_life(view, &before) => seen.wrong(format!("I8: {object} was {before} and is {uid}")),
            Some(_) | None => {}
        }
        for (_, host, inner) in container.ports.iter().filter(|(_, host, _)| POOL.contains(host)) {
            let before = *seen.ports.entry((uid.to_owned(), *inner)).or_insert(*host);
            // What was renamed by hand is not recognised after a loss of the state: its labels might be a copy.
            let renamed = seen.state_lost && view.containers.iter().any(|other| other.label(naming::UID) == uid && !other.is_ours());
            if before != *host && !seen.ports_may_move && !renamed {
                seen.wrong(format!("I5: port {inner} of {object} was {before} and is {host}"));
            }
        }
        if !container.excess.is_empty() {
            seen.wrong(format!("I6: {name} has {:?}", container.excess));
        }
        for network in container.networks.keys() {
            if network == "bridge" || network == "host" {
                seen.wrong(format!("I28: {name} is on {network}"));
            }
            let own = || {
                let of_object = ["dm-ws", "dm-pv"].map(|kind| format!("{kind}-{namespace}.{}", container.label(naming::NAME)));
                of_object.contains(network) || *network == format!("dm-ns-{namespace}")
            };
            if network.starts_with("dm-") && !own() {
                seen.wrong(format!("I7: {name} of {namespace} is on {network}"));
            }
        }
        for (volume, _) in &container.mounts {
            let Some(known) = view.volumes.get(volume).filter(|known| !known.anonymous) else { continue };
            let of = known.labels.get(naming::UID).map_or("", String::as_str);
            let shared = volume.starts_with(&format!("dm-nsvol-{namespace}."));
            // A copy reads the source's.
            if of != uid && !shared && container.label(naming::ROLE) != "helper" {
                seen.wrong(format!("I4: {name} of {uid} has volume {volume} of {of}"));
            }
        }
    }

    /// What must hold of a call that changes something.
    fn check_mutation(&self, seen: &mut Seen, call: &Call<'_>, view: &View) {
        let parts: Vec<&str> = call.path.trim_matches('/').split('/').collect();
        if call.path.ends_with("/prune") {
            seen.wrong(format!("I3: {} was called", call.path));
        }
        let lock = naming::lock_container(INSTALLATION);
        let held = view.by_name(&lock);
        seen.locks.extend(held.map(|held| held.id.clone()));
        let of_lock = query(call.query, "name") == lock || parts.iter().any(|part| seen.locks.contains(*part));
        // What is known of a directory that cannot be read is still kept running.
        let directory = Some(DIRECTORY).filter(|_| !self.folder.is_in_trouble());
        let unread: Vec<&str> = LISTS.into_iter().chain(directory).filter(|what| !seen.read.contains(&(call.caller, (*what).to_owned()))).collect();
        if !unread.is_empty() && !call.path.starts_with("/images") && !of_lock {
            seen.wrong(format!("I25: {} {} before {unread:?} was read", call.method, call.path));
        }
        if let Some(held) = held.filter(|held| held.state == "running" && !of_lock && held.label(HOLDER) != call.caller.to_string()) {
            seen.wrong(format!("I14: {} {} by operator {}, while operator {} holds the lock", call.method, call.path, call.caller, held.label(HOLDER)));
        }
        match (call.method, parts.as_slice()) {
            ("POST", ["containers", "create"]) => {
                let name = query(call.query, "name");
                let body: serde_json::Value = serde_json::from_slice(call.body).unwrap_or_default();
                if body["Labels"][naming::INSTALLATION] != INSTALLATION {
                    seen.wrong(format!("I21: {name} is made without labels"));
                }
                if let Some(uid) = body["Labels"][naming::UID].as_str().filter(|uid| !of_lock && !seen.admitted.contains(*uid)) {
                    seen.wrong(format!("I27: {name} is made for {uid}, which no ledger has"));
                }
                *seen.creates.entry(name).or_default() += 1;
            }
            ("DELETE", ["volumes", name]) => self.check_volume_removal(seen, name, view),
            ("POST", [kind @ ("volumes" | "networks"), "create"]) => {
                let body: serde_json::Value = serde_json::from_slice(call.body).unwrap_or_default();
                if body["Labels"][naming::INSTALLATION] != INSTALLATION {
                    seen.wrong(format!("I21: {} of {kind} is made without labels", body["Name"]));
                }
            }
            ("POST", ["networks", id, "connect" | "disconnect"]) => {
                let body: serde_json::Value = serde_json::from_slice(call.body).unwrap_or_default();
                self.check_target(seen, call, body["Container"].as_str().unwrap_or_default(), view);
                check_network(seen, call, id, view);
            }
            ("DELETE", ["networks", id]) => check_network(seen, call, id, view),
            (method, ["containers", id, ..]) => {
                self.check_target(seen, call, id, view);
                if method == "DELETE"
                    && let Some(container) = view.by_id(id)
                {
                    *seen.removes.entry(container.name.clone()).or_default() += 1;
                    if self.folder.is_in_trouble() && !self.folder.declares(container.label(naming::NAMESPACE), container.label(naming::NAME)) {
                        seen.wrong(format!("I22: {} is removed although nobody can say what is declared", container.name));
                    }
                }
            }
            _ => {}
        }
    }

    fn check_target(&self, seen: &mut Seen, call: &Call<'_>, id: &str, view: &View) {
        match view.by_id(id) {
            Some(container) if container.label(naming::INSTALLATION) != INSTALLATION => {
                seen.wrong(format!("I2: {} {} acts on {}, which is not ours", call.method, call.path, container.name))
            }
            Some(container) if container.id != id => seen.wrong(format!("I2: {} {} acts by name", call.method, call.path)),
            Some(_) | None => {}
        }
    }

    fn check_volume_removal(&self, seen: &mut Seen, name: &str, view: &View) {
        let Some(volume) = view.volumes.get(name) else { return };
        let label = |label: &str| volume.labels.get(label).map_or("", String::as_str);
        if label(naming::INSTALLATION) != INSTALLATION {
            return seen.wrong(format!("I2: volume {name} is not ours"));
        }
        if label(naming::KIND) == "preview" {
            let uid = label(naming::UID);
            if !seen.buried.contains(uid) && !seen.expired.contains(uid) {
                seen.wrong(format!("I3: volume {name} is removed, and its preview neither was deleted nor expired"));
            }
            return;
        }
        let declared = self.folder.declares(label(naming::NAMESPACE), label(naming::NAME));
        let consent = self.folder.consented(label(naming::NAMESPACE), label(naming::NAME));
        if declared || !consent {
            seen.wrong(format!("I3: volume {name} is removed, declared: {declared}, consent: {consent}"));
        }
    }
}

/// How old may be what a status says of a container: three full passes, for one of them may be told what was before.
const OUTDATED: std::time::Duration = std::time::Duration::from_secs(190);

/// What is read whole before anything is changed.
const LISTS: [&str; 3] = ["/containers/json", "/networks", "/volumes"];
const DIRECTORY: &str = "the directory";

fn check_pauses(seen: &mut Seen, view: &View) {
    let now = Instant::now();
    for container in view.ours() {
        if container.state != "paused" || seen.paused_by_people.contains(&container.name) {
            seen.paused.remove(&container.id);
        } else if now.duration_since(*seen.paused.entry(container.id.clone()).or_insert(now)).as_secs() > 60 {
            seen.wrong(format!("I32: {} has been paused for more than a minute", container.name));
        }
    }
}

fn check_network(seen: &mut Seen, call: &Call<'_>, id: &str, view: &View) {
    match view.networks.iter().find(|network| network.id == id || network.name == id) {
        Some(network) if network.id != id => seen.wrong(format!("I2: {} {} acts by name", call.method, call.path)),
        Some(network) if network.labels.get(naming::INSTALLATION).map(String::as_str) != Some(INSTALLATION) => {
            seen.wrong(format!("I2: {} {} acts on {}, which is not ours", call.method, call.path, network.name))
        }
        Some(_) | None => {}
    }
}

/// Whether nothing is left of a life, so that another may follow.
fn is_stale_life(view: &View, uid: &str) -> bool {
    !view.ours().any(|container| container.label(naming::UID) == uid && container.is_active())
}

/// A path with its ids cut short: ids differ between engines, and their beginnings suffice.
fn short(path: &str) -> String {
    path.split('/').map(|part| if part.len() == 64 { &part[..12] } else { part }).collect::<Vec<_>>().join("/")
}

fn query(query: &str, name: &str) -> String {
    query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}="))).unwrap_or_default().to_owned()
}
