//! Decides when: what changed is enqueued, what is due is reconciled, and nothing else.
//!
//! ```text
//!  SpecSource ──► intake ─┐                       ┌─► intent ─► planner ─► executor ─► effects (runtime, ledger)
//!  runtime.changes ───────┼─► queue ─► reconcile ─┤                           │
//!  resync, deadlines ─────┘                       └─◄────── glimpse ◄─────────┘──► status, events, journal
//! ```
//!
//! **Invariant:** nothing is changed before every source was listed, or found unhealthy, and the engine was listed once in full.
//! **Invariant:** the reason for a reconcile reaches the journal, never the plan.

pub mod dry;
pub mod effects;
pub mod history;
pub mod intake;
pub mod intent;
pub mod queue;
pub mod reconcile;
pub mod run;
pub mod store;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use jiff::Timestamp;
use tokio::sync::broadcast;

use crate::config::RunSettings;
use crate::observed::{Look, Networks, World};
use crate::planner::Capabilities;
use crate::resource::{ObjectRef, Status, Uid};
use crate::runtime::{self, ContainerRuntime};
use crate::source::SpecSource;
use crate::state::{Event, Ledger};
use crate::status::reporter::Reporter;

pub use effects::Permission;

/// The clock at the edge, so that a run can be replayed at any time.
pub trait Clock: Send + Sync {
    /// The wall clock.
    fn now(&self) -> Timestamp;
}

/// Randomness at the edge, so that a run can be replayed from a seed.
pub trait Randomness: Send + Sync {
    /// Fills the bytes; what comes out cannot be guessed where it makes hashes and identities.
    fn fill(&self, bytes: &mut [u8]);
}

/// What the operator asks of the host that it runs on.
pub trait Host: Send + Sync {
    /// Whether a port of that address can be bound now.
    fn is_port_free(&self, address: IpAddr, port: u16) -> bool;
    /// The subnets that the host routes, in CIDR notation: networks of ours must not overlap them.
    fn routes(&self) -> Vec<String>;
    /// Where an absolute path leads, through all links; what does not exist leads where its nearest directory does.
    fn real_path(&self, path: &str) -> String;
}

/// What the controller is made of.
pub struct Parts {
    /// What `run` was told.
    pub settings: RunSettings,
    /// The engine.
    pub runtime: Arc<dyn ContainerRuntime>,
    /// History.
    pub ledger: Arc<dyn Ledger>,
    /// Where specs live, in the order given.
    pub sources: Vec<Arc<dyn SpecSource>>,
    /// Where statuses go.
    pub reporter: Arc<Reporter>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub randomness: Arc<dyn Randomness>,
    /// The host.
    pub host: Arc<dyn Host>,
    /// How many objects are worked on at once.
    pub concurrency: usize,
    /// Whether another engine than the one remembered is accepted.
    pub accept_engine: bool,
    /// Held while the lock on the engine is.
    pub permission: Permission,
}

/// What changed, for those who watch.
#[derive(Clone, Debug)]
pub enum Announcement {
    /// A status.
    Status(ObjectRef, Arc<Status>),
    /// An event.
    Event(Event),
    /// An object is gone, and so is its data or its tombstone.
    Deleted(ObjectRef),
}

/// What was looked at when, so that what was seen earlier does not undo what was seen later.
#[derive(Default)]
struct Looks {
    /// Looks and listings that were begun or taken in.
    count: u64,
    /// For each object the latest look that was taken in since the last listing.
    latest: BTreeMap<ObjectRef, u64>,
    /// When the look or listing was begun whose networks are known. A container on a network that is not known would be exchanged.
    networks: u64,
    /// The same for the networks of a name that were looked at since.
    named: BTreeMap<String, u64>,
    /// Full passes so far.
    passes: u64,
    /// The revision at which the last full pass began.
    revision: u64,
}

impl Looks {
    /// Of networks that a look begun then saw, what is newer than what is known; the rest as it is known.
    fn take_networks(&mut self, begun: u64, networks: Networks, known: &World) -> Networks {
        let Networks { named, mut seen } = networks;
        let of_all = self.networks;
        if let Some(mut names) = named {
            names.retain(|name| begun >= self.named.get(name).map_or(of_all, |of_name| of_all.max(*of_name)));
            seen.retain(|_, network| names.contains(&network.name));
            self.named.extend(names.iter().map(|name| (name.clone(), begun)));
            return Networks { named: Some(names), seen };
        }
        if begun < of_all {
            return Networks { named: Some(BTreeSet::new()), seen: BTreeMap::new() };
        }
        self.networks = begun;
        self.named.retain(|_, of_name| *of_name > begun);
        seen.retain(|_, network| !self.named.contains_key(&network.name));
        let newer = known.networks.values().filter(|network| self.named.contains_key(&network.name));
        seen.extend(newer.map(|network| (network.id.clone(), network.clone())));
        Networks { named: None, seen }
    }
}

/// What was given out last, so that identities are ordered as they were given out.
#[derive(Default)]
struct Identities {
    millisecond: u64,
    count: u16,
}

/// The controller.
pub struct Controller {
    parts: Parts,
    store: Mutex<store::Store>,
    world: Mutex<World>,
    looks: Mutex<Looks>,
    capabilities: RwLock<Capabilities>,
    /// Counts the changes of what plans are made from: what was seen of the engine, documents, statuses, whose turn it is.
    revision: AtomicU64,
    queue: queue::Queue,
    identities: Mutex<Identities>,
    announcements: broadcast::Sender<Announcement>,
}

impl Controller {
    /// A controller that has seen nothing yet.
    pub fn new(parts: Parts) -> Arc<Self> {
        let capabilities = Capabilities { api: (0, 0), nano_cpus: 0, local: false, disk_limit: false };
        Arc::new(Self {
            parts,
            store: Mutex::default(),
            world: Mutex::default(),
            looks: Mutex::default(),
            capabilities: RwLock::new(capabilities),
            revision: AtomicU64::default(),
            queue: queue::Queue::default(),
            identities: Mutex::default(),
            announcements: broadcast::channel(1024).0,
        })
    }

    /// What changes from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Announcement> {
        self.announcements.subscribe()
    }

    /// What is remembered of the engine and still holds, for a command that would ask for it again.
    pub fn known_engine(&self) -> Option<Vec<u8>> {
        self.parts.runtime.known()
    }

    /// The objects that have a status, with the generation of their spec.
    pub fn statuses(&self) -> Vec<(ObjectRef, u64, Arc<Status>)> {
        let store = self.store();
        let with_status = store.objects.iter().filter_map(|(key, entry)| entry.status.as_ref().map(|status| (key, entry, status)));
        with_status.map(|(key, entry, status)| (key.clone(), entry.admission.generation, status.clone())).collect()
    }

    /// The generation of an object's spec.
    pub fn generation(&self, key: &ObjectRef) -> Option<u64> {
        self.store().objects.get(key).map(|entry| entry.admission.generation)
    }

    fn store(&self) -> MutexGuard<'_, store::Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn looks(&self) -> MutexGuard<'_, Looks> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers a look or a listing that begins.
    fn begin_look(&self) -> u64 {
        let mut looks = self.looks();
        looks.count += 1;
        looks.count
    }

    /// Looks at one object, that far or as far as what was told of it asks for, and keeps what was seen; whether that was news.
    async fn look(&self, key: &ObjectRef, look: Look) -> Result<bool, runtime::Error> {
        let begun = self.begin_look();
        // What is told from here on is looked at again.
        let told = self.store().stale.remove(key);
        let look = told.map_or(look, |told| told.max(look));
        let mut glimpse = self.parts.runtime.glimpse(key, look).await.inspect_err(|error| {
            tracing::warn!(object = %key, error = error as &dyn std::error::Error, "the engine could not be asked");
            self.store().becomes_stale(key, look);
        })?;
        let mut looks = self.looks();
        looks.count += 1;
        let count = looks.count;
        looks.latest.insert(key.clone(), count);
        let mut world = self.world();
        glimpse.networks = looks.take_networks(begun, glimpse.networks, &world);
        let is_news = world.merge(key, glimpse);
        if is_news {
            self.revise();
        }
        Ok(is_news)
    }

    /// Puts a listing in the place of what was known; objects that were looked at while it was made keep what was seen of them.
    fn take_over(&self, mut listing: World, begun: u64) {
        let mut looks = self.looks();
        let mut world = self.world();
        let networks = looks.take_networks(begun, Networks { named: None, seen: std::mem::take(&mut listing.networks).into_iter().collect() }, &world);
        listing.networks = if networks.named.is_none() { networks.seen.into_iter().collect() } else { world.networks.clone() };
        let known = std::mem::replace(&mut *world, listing);
        for (key, _) in std::mem::take(&mut looks.latest).into_iter().filter(|(_, count)| *count > begun) {
            world.keep(&key, &known);
        }
        if !world.shows_the_same(&known) {
            self.revise();
        }
    }

    /// How often what plans are made from has changed.
    fn revision(&self) -> u64 {
        self.revision.load(Ordering::SeqCst)
    }

    /// What plans are made from has changed: no plan of before stands.
    fn revise(&self) {
        self.revision.fetch_add(1, Ordering::SeqCst);
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    /// A new identity: a UUIDv7 (RFC 9562), whose first twelve bits after the time count within a millisecond.
    fn identity(&self, now: Timestamp) -> Uid {
        let mut bytes = [0; 10];
        self.parts.randomness.fill(&mut bytes);
        let millisecond = u64::try_from(now.as_millisecond()).unwrap_or_default();
        let mut last = self.identities.lock().unwrap_or_else(PoisonError::into_inner);
        last.count = if last.millisecond == millisecond { last.count.wrapping_add(1) } else { 0 };
        last.millisecond = millisecond;
        bytes[..2].copy_from_slice(&last.count.to_be_bytes());
        Uid(uuid::Builder::from_unix_timestamp_millis(millisecond, &bytes).into_uuid().to_string())
    }

    /// 128 random bits in hexadecimal: the hash of a preview.
    fn random_hash(&self) -> String {
        let mut bytes = [0; 16];
        self.parts.randomness.fill(&mut bytes);
        format!("{:032x}", u128::from_be_bytes(bytes))
    }

    /// Writes an event and tells those who watch. History that cannot be written stops nothing.
    async fn tell(&self, event: Event) {
        if let Err(error) = self.parts.ledger.event(&event).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "an event was not kept");
        }
        drop(self.announcements.send(Announcement::Event(event)));
    }
}
