//! What this process has seen of the engine: whose is what, and the details of our containers.
//!
//! Nothing here is the truth; it spares inspects and gives events an object. An entry holds as long as no event and no operation touched its
//! container, the list says what it said, and the event stream is alive. An event may be lost all the same: in each tenth full pass what was read
//! longest ago is read again, all of few and a part of many.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bollard::models::SystemInfo;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::desired::naming;
use crate::observed::{Container, ContainerId, Details, HealthState, Identity, Network, State, Volume};
use crate::resource::ObjectRef;

/// Each so many full passes what was read longest ago is read again; in the others nothing is.
const PASSES: u64 = 10;
/// How many entries are read again at once: all of few, and this share of many, up to very many.
const FEW: usize = 64;
const SHARE: usize = 10;
const MOST: usize = 1000;

/// See the module.
#[derive(Debug, Default)]
pub struct Memory {
    /// What the engine said of itself at the last connection.
    pub info: Arc<SystemInfo>,
    /// Whether the event stream, of this process or of the one that told, is connected. Without it nothing is remembered.
    pub live: bool,
    /// When the engine last answered a list.
    pub answered: Option<Instant>,
    /// Short ids of containers that an earlier process knew as ours.
    pub known: BTreeSet<String>,
    identities: HashMap<ContainerId, Identity>,
    versions: HashMap<ContainerId, u64>,
    details: HashMap<ContainerId, Entry>,
    /// The full passes so far.
    passes: u64,
    networks: HashMap<String, ObjectRef>,
    volumes: HashMap<String, ObjectRef>,
}

#[derive(Debug)]
struct Entry {
    version: u64,
    /// The full pass of its reading.
    pass: u64,
    seen: Seen,
    details: Arc<Details>,
}

/// What a list said when the details were read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    name: String,
    state: State,
    networks: BTreeSet<String>,
}

/// The details of a container, with what a list said when they were read.
pub type Read = (ContainerId, Seen, Arc<Details>);

impl Seen {
    /// Of a container of a list.
    pub fn of(container: &Container) -> Self {
        let state = match container.state {
            // Its health changes, and an inspect is not needed to say so.
            State::Running(_) => State::Running(HealthState::None),
            state @ (State::Created | State::Paused | State::Restarting | State::Exited { .. } | State::Removing | State::Dead) => state,
        };
        Self { name: container.name.clone(), state, networks: container.networks.keys().cloned().collect() }
    }
}

impl Memory {
    /// Of an engine that said this of itself.
    pub fn new(info: Arc<SystemInfo>) -> Self {
        Self { info, ..Self::default() }
    }

    /// Whose a container is. One that was renamed by hand still is its object's, when it was seen under its own name before, by this process
    /// or an earlier one: an image or a copy of labels cannot make a container ours, and neither can it be taken from us by its name.
    pub fn identify(&mut self, installation: &str, container: &Container) -> Option<Identity> {
        let renamed = || self.known.contains(container.id.short()).then(|| naming::identity_of_renamed(installation, &container.labels)).flatten();
        let identity = naming::identity_from_labels(installation, &container.name, &container.labels)
            .or_else(|| self.identities.get(&container.id).cloned())
            .or_else(renamed)?;
        self.identities.insert(container.id.clone(), identity.clone());
        Some(identity)
    }

    /// Something happened to the container: its details are to be read again.
    pub fn touch(&mut self, id: &ContainerId) {
        *self.versions.entry(id.clone()).or_default() += 1;
    }

    /// How often the container was touched; taken before an inspect and given back with what it said.
    pub fn version(&self, id: &ContainerId) -> u64 {
        self.versions.get(id).copied().unwrap_or_default()
    }

    /// What is known of a container and still holds.
    pub fn details(&self, container: &Container) -> Option<&Arc<Details>> {
        let entry = self.details.get(&container.id)?;
        let holds = self.live && entry.version == self.version(&container.id) && entry.seen == Seen::of(container);
        (holds && agrees(container.state, &entry.details)).then_some(&entry.details)
    }

    /// How many containers the engine has: what it said at the last connection, or what was read since, where that is more.
    pub fn containers(&self) -> usize {
        let said = self.info.containers.and_then(|number| usize::try_from(number).ok());
        said.unwrap_or_default().max(self.details.len())
    }

    /// Whether the engine is still what it said of itself: no other can have come since the last connection, or there was no time for it.
    pub fn is_same_engine(&self) -> bool {
        self.live || self.passes <= 1
    }

    /// Remembers an inspect that began at that version.
    pub fn learn(&mut self, container: &Container, version: u64, details: Arc<Details>) {
        self.details.insert(container.id.clone(), Entry { version, pass: self.passes, seen: Seen::of(container), details });
    }

    /// What the engine said of itself and what was read of its containers, as far as it holds; `None`: nothing does.
    pub fn holding(&self) -> Option<(Arc<SystemInfo>, Vec<Read>)> {
        let holding = self.details.iter().filter(|(id, entry)| entry.version == self.version(id));
        self.live.then(|| (self.info.clone(), holding.map(|(id, entry)| (id.clone(), entry.seen.clone(), entry.details.clone())).collect()))
    }

    /// Of an engine of which another process knows this by now.
    pub fn of(info: Arc<SystemInfo>, read: Vec<Read>) -> Self {
        let entry = |(id, seen, details)| (id, Entry { version: 0, pass: 0, seen, details });
        Self { info, live: true, details: read.into_iter().map(entry).collect(), ..Self::default() }
    }

    /// Another full pass begins: now and then the oldest entries are forgotten.
    pub fn begin_pass(&mut self) {
        self.passes += 1;
        if !self.passes.is_multiple_of(PASSES) {
            return;
        }
        let mut old: Vec<(u64, &ContainerId)> = self.details.iter().map(|(id, entry)| (entry.pass, id)).collect();
        let most = (old.len() / SHARE).clamp(FEW, MOST);
        if old.len() > most {
            old.select_nth_unstable(most);
            old.truncate(most);
        }
        let old: Vec<ContainerId> = old.into_iter().map(|(_, id)| id.clone()).collect();
        for id in old {
            self.details.remove(&id);
        }
    }

    /// The stream was away: everything is to be read again.
    pub fn forget_details(&mut self) {
        self.details.clear();
    }

    /// Keeps only what a full listing showed, and learns whose networks and volumes are.
    pub fn keep(&mut self, containers: &[Container], networks: &BTreeMap<String, Network>, volumes: &[Volume]) {
        let ids: BTreeSet<&ContainerId> = containers.iter().map(|container| &container.id).collect();
        self.identities.retain(|id, _| ids.contains(id));
        self.versions.retain(|id, _| ids.contains(id));
        self.details.retain(|id, _| ids.contains(id));
        self.networks.clear();
        self.volumes.clear();
        self.note(networks, volumes);
    }

    /// Learns whose networks and volumes are; a network answers to its id and to its name.
    pub fn note(&mut self, networks: &BTreeMap<String, Network>, volumes: &[Volume]) {
        for network in networks.values() {
            if let Some(owner) = &network.owner {
                self.networks.insert(network.id.clone(), owner.object.clone());
                self.networks.insert(network.name.clone(), owner.object.clone());
            }
        }
        for volume in volumes {
            if let Some(owner) = &volume.owner {
                self.volumes.insert(volume.name.clone(), owner.object.clone());
            }
        }
    }

    /// The object of a container, by what an event says of it.
    pub fn of_container(&mut self, installation: &str, id: &ContainerId, attributes: &BTreeMap<String, String>) -> Option<ObjectRef> {
        if let Some(identity) = attributes.get("name").and_then(|name| naming::identity_from_labels(installation, name, attributes)) {
            self.identities.insert(id.clone(), identity);
        }
        self.identities.get(id).map(|identity| identity.object.clone())
    }

    /// The object of a network, by id or name.
    pub fn of_network(&self, id_or_name: &str) -> Option<ObjectRef> {
        self.networks.get(id_or_name).cloned()
    }

    /// The object of a volume.
    pub fn of_volume(&self, name: &str) -> Option<ObjectRef> {
        self.volumes.get(name).cloned()
    }
}

/// Whether an inspect is of the state that a listing shows. Either may be older than the other: then another inspect is asked for.
fn agrees(state: State, details: &Details) -> bool {
    match state {
        State::Running(_) | State::Paused => details.pid > 0,
        State::Created | State::Exited { .. } | State::Dead => details.pid == 0,
        State::Restarting | State::Removing => true,
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::{ContainerInspectResponse, ContainerState, ContainerSummary, ContainerSummaryStateEnum};

    use super::super::convert;
    use super::*;

    fn listed(state: ContainerSummaryStateEnum) -> Container {
        let summary = ContainerSummary { id: Some("1".to_owned()), names: Some(vec!["/a".to_owned()]), state: Some(state), ..Default::default() };
        convert::container(summary).unwrap()
    }

    fn inspected(pid: i64) -> Arc<Details> {
        Arc::new(convert::details(ContainerInspectResponse { state: Some(ContainerState { pid: Some(pid), ..Default::default() }), ..Default::default() }))
    }

    /// Found by `tests/e2e/machine.rs`.
    #[test]
    fn renamed_while_nobody_ran_it_is_recognised_where_it_was_known() {
        let labels = [
            (naming::INSTALLATION, "dm"),
            (naming::KIND, "workspace"),
            (naming::NAMESPACE, "alice"),
            (naming::NAME, "shop"),
            (naming::UID, "0199f0a0-0000-7000-8000-000000000000"),
            (naming::ROLE, "main"),
            (naming::GENERATION, "1"),
            (naming::CREATED, "2026-01-01T00:00:00Z"),
        ];
        let labels = labels.map(|(label, value)| (label.to_owned(), value.to_owned())).into();
        let id = format!("{:0>64}", "1a");
        let renamed = Container { id: ContainerId(id), name: "other".to_owned(), labels, ..listed(ContainerSummaryStateEnum::RUNNING) };
        let identified = |known: &[&str]| {
            let mut memory = Memory { known: known.iter().map(|id| (*id).to_owned()).collect(), ..Memory::default() };
            memory.identify("dm", &renamed).map(|identity| identity.object)
        };
        assert_eq!(identified(&[]), None, "the labels might be a copy");
        assert_eq!(identified(&[renamed.id.short()]), Some(ObjectRef::new(crate::resource::Kind::Workspace, "alice", "shop")));
        assert_eq!(identified(&["another"]), None);
    }

    #[test]
    fn the_number_of_containers_is_what_the_engine_said_or_what_was_read_since() {
        let said = |containers| Memory::new(Arc::new(SystemInfo { containers: Some(containers), ..Default::default() }));
        assert_eq!(said(3).containers(), 3);
        let mut memory = said(0);
        memory.learn(&listed(ContainerSummaryStateEnum::RUNNING), 0, inspected(7));
        assert_eq!(memory.containers(), 1);
    }

    /// Found by the harness: `limited-by-hand` with a lost event.
    #[test]
    fn in_each_tenth_pass_what_is_known_is_read_again() {
        let running = listed(ContainerSummaryStateEnum::RUNNING);
        let mut memory = Memory { live: true, ..Memory::default() };
        for pass in 1..=3 * PASSES {
            memory.begin_pass();
            assert_eq!(memory.details(&running).is_none(), pass == 1 || pass % PASSES == 0, "{pass}");
            memory.learn(&running, 0, inspected(7));
        }
    }

    #[test]
    fn of_many_those_are_read_again_that_were_read_longest_ago() {
        let numbered = |number: usize| Container { id: ContainerId(format!("{number:06}")), ..listed(ContainerSummaryStateEnum::RUNNING) };
        for (objects, read) in [(FEW + 2, FEW), (FEW * SHARE * 2, FEW * 2), (MOST * SHARE + 100, MOST)] {
            let mut memory = Memory { live: true, ..Memory::default() };
            (0..objects).for_each(|number| memory.learn(&numbered(number), 0, inspected(7)));
            (0..PASSES).for_each(|_| memory.begin_pass());
            let kept: Vec<usize> = (0..objects).filter(|number| memory.details(&numbered(*number)).is_some()).collect();
            assert_eq!(kept, (read..objects).collect::<Vec<_>>(), "of {objects}");
        }
    }

    #[test]
    fn another_process_is_told_what_holds() {
        let numbered = |number: usize| Container { id: ContainerId(format!("{number:04}")), ..listed(ContainerSummaryStateEnum::RUNNING) };
        let mut memory = Memory::new(Arc::new(SystemInfo { id: Some("engine".to_owned()), ..Default::default() }));
        (0..3).for_each(|number| memory.learn(&numbered(number), 0, inspected(7)));
        assert!(memory.holding().is_none(), "without the stream nothing holds");
        memory.live = true;
        memory.touch(&numbered(1).id);
        let (info, read) = memory.holding().unwrap();
        let other = Memory::of(info, read);
        assert_eq!(other.info.id.as_deref(), Some("engine"));
        let known: Vec<usize> = (0..3).filter(|number| other.details(&numbered(*number)).is_some()).collect();
        assert_eq!(known, [0, 2]);
        assert_eq!(other.details(&numbered(0)), memory.details(&numbered(0)));
        let stopped = Container { state: State::Exited { code: 1 }, ..numbered(0) };
        assert!(other.details(&stopped).is_none(), "what a list says otherwise is asked for");
    }

    /// Found by the harness: `change-image` with an inspect of before the start, after which no replacement was ever finished.
    #[test]
    fn an_inspect_that_contradicts_the_listing_does_not_hold() {
        let mut memory = Memory { live: true, ..Memory::default() };
        for (state, pid, holds) in [
            (ContainerSummaryStateEnum::RUNNING, 7, true),
            (ContainerSummaryStateEnum::RUNNING, 0, false),
            (ContainerSummaryStateEnum::EXITED, 0, true),
            (ContainerSummaryStateEnum::EXITED, 7, false),
            (ContainerSummaryStateEnum::RESTARTING, 0, true),
        ] {
            let container = listed(state);
            memory.learn(&container, 0, inspected(pid));
            assert_eq!(memory.details(&container).is_some(), holds, "{state:?} {pid}");
        }
    }
}
