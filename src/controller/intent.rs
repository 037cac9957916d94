//! What an object should be: facts, claims granted, the document lowered with its type and tenants.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Controller;
use super::store::{Entry, Lowered, Store};
use crate::desired::lower::{self, LowerInput, Surroundings};
use crate::desired::merge::{self, Resolved, Tenants};
use crate::desired::preview::{self as previews, PreviewInput};
use crate::desired::{DesiredState, Intent, NetworkWant, builtin, mounts, naming};
use crate::observed::World;
use crate::resource::{
    Condition, ConditionType, Kind, Object, ObjectRef, PreviewSpec, Reason, Resource, TenantSpec, Truth, Uid, WorkspaceSpec, WorkspaceTypeSpec,
};
use crate::source::Item;
use crate::state::grant::{Claimant, from_hash};
use crate::state::{Claim, Event, EventReason, EventType, Fact, Facts, Farewell, Grant, LedgerError, Pools, Trigger};

/// How long a port that could not be bound is left alone.
pub(super) const QUARANTINE: Duration = Duration::from_secs(600);

/// So many free ports are found for a new one: the first of them may be leased already, to objects whose containers were not made yet.
const FREE: usize = 8;

/// The definitions that apply to a namespace.
struct Definitions {
    types: BTreeMap<String, WorkspaceTypeSpec>,
    tenants: BTreeMap<String, TenantSpec>,
}

impl Controller {
    /// What one object should be now; lowered once for each version of its document, and kept.
    pub(super) async fn intent(&self, key: &ObjectRef, entry: &Entry, facts: &mut Facts) -> Result<Arc<Intent>, LedgerError> {
        let epoch = self.store().epoch;
        let of = |facts: &Facts| (facts.pinned.is_some(), facts.expired.is_some());
        let other = entry.tombstone.is_some() || entry.stands_still(key).is_some() || self.store().engine_changed.is_some();
        if let Some(lowered) = entry.lowered.as_ref().filter(|lowered| !other && lowered.epoch == epoch && lowered.facts == of(facts)) {
            return Ok(lowered.intent.clone());
        }
        let intent = Arc::new(self.lower(key, entry, facts).await?);
        // What could not be granted may be granted later.
        let lasts = matches!(intent.as_ref(), Intent::Present(desired) if desired.fatal.is_empty());
        let same = |known: &Entry| known.item.as_ref().zip(entry.item.as_ref()).is_some_and(|(known, lowered)| Arc::ptr_eq(known, lowered));
        // A newer document may have come meanwhile.
        if let Some(known) = self.store().objects.get_mut(key).filter(|known| same(known)) {
            known.lowered = lasts.then(|| Lowered { epoch, facts: of(facts), intent: intent.clone() });
        }
        Ok(intent)
    }

    /// Forgets what an object should be, and the network of its namespace: something that it depends on was given or taken.
    pub(super) fn lower_again(&self, key: &ObjectRef) {
        let mut store = self.store();
        store.networks.remove(key.ns());
        if let Some(entry) = store.objects.get_mut(key) {
            entry.lowered = None;
            // Its last plan was made from what it should have been.
            entry.rest = None;
        }
    }

    async fn lower(&self, key: &ObjectRef, entry: &Entry, facts: &mut Facts) -> Result<Intent, LedgerError> {
        if let Some(tombstone) = &entry.tombstone {
            return Ok(Intent::Absent(tombstone.clone()));
        }
        let Some(item) = entry.item.clone() else {
            return Ok(Intent::Hold(Condition::new(ConditionType::WaitingOn, Truth::True, Reason::NotYetObserved, "its document was not read yet")));
        };
        if item.resource.metadata().is_suspended() {
            let message = format!("{}: \"true\" is set; `dockmaster resume {}` ends it", crate::resource::SUSPEND, key.short());
            return Ok(Intent::Hold(Condition::abnormal(ConditionType::Suspended, message)));
        }
        if let Some(message) = self.store().engine_changed.clone() {
            return Ok(Intent::Hold(Condition::abnormal(ConditionType::EngineChanged, message)));
        }
        if let Some(hold) = entry.stands_still(key) {
            return Ok(Intent::Hold(hold.clone()));
        }
        let definitions = self.definitions(key.ns());
        match &item.resource {
            Resource::Workspace(object) => self.workspace(key, entry, &item, object, &definitions).await,
            Resource::Preview(object) => self.preview(key, entry, &item, object, &definitions, facts).await,
            Resource::WorkspaceType(_) | Resource::Tenant(_) => Ok(Intent::Shared { network: no_network(), users: BTreeSet::new() }),
        }
    }

    fn definitions(&self, namespace: &str) -> Definitions {
        let store = self.store();
        let tenant = |name: &str| store.tenant(name).map(|spec| (name.to_owned(), spec));
        let tenants = [crate::tenancy::DEFAULT, namespace].into_iter().filter_map(tenant).collect();
        Definitions { types: store.types(), tenants }
    }

    async fn workspace(
        &self,
        key: &ObjectRef,
        entry: &Entry,
        item: &Item,
        object: &Object<WorkspaceSpec>,
        definitions: &Definitions,
    ) -> Result<Intent, LedgerError> {
        let tenants = Tenants { namespace: key.ns(), all: &definitions.tenants };
        let resolved = merge::resolve(&object.spec, &definitions.types, tenants);
        let grants = match lower::claims(&self.parts.settings.installation, key, &resolved) {
            Some(claims) => self.grants(key, &entry.admission.uid, &claims).await?,
            None => Vec::new(),
        };
        let around = self.around(&resolved, &item.directory.to_string_lossy());
        let intent = lower::lower(&LowerInput {
            around: around.borrow(),
            resource: object,
            resolved: &resolved,
            tenants,
            admission: &entry.admission,
            grants: &grants,
            directory: &item.directory.to_string_lossy(),
            own_digest: &item.digest,
        });
        self.with_namespace_network(key, intent).await
    }

    async fn preview(
        &self,
        key: &ObjectRef,
        entry: &Entry,
        item: &Item,
        object: &Object<PreviewSpec>,
        definitions: &Definitions,
        facts: &mut Facts,
    ) -> Result<Intent, LedgerError> {
        let tenants = Tenants { namespace: key.ns(), all: &definitions.tenants };
        let expires_at = previews::expires_at(&object.spec, entry.admission.created, tenants);
        if let Some(waiting) = self.pin(key, entry, object, definitions, facts).await?
            && self.now() < expires_at
        {
            return Ok(Intent::Hold(waiting));
        }
        let hash = facts.preview_hash.clone().unwrap_or_default();
        let resolved: Resolved = previews::resolve_preview(&object.spec, facts.pinned.as_ref(), tenants);
        let claims = if facts.expired.is_some() { Some(Vec::new()) } else { lower::claims(&self.parts.settings.installation, key, &resolved) };
        let grants = match claims {
            Some(claims) => self.grants(key, &entry.admission.uid, &claims).await?,
            None => Vec::new(),
        };
        let own = item.directory.to_string_lossy();
        let pinned = facts.pinned.as_ref().and_then(|pinned| pinned["directory"].as_str());
        let around = self.around(&resolved, pinned.unwrap_or(&own));
        let intent = previews::lower_preview(&PreviewInput {
            around: around.borrow(),
            resource: object,
            resolved: &resolved,
            pinned: facts.pinned.as_ref(),
            tenants,
            admission: &entry.admission,
            grants: &grants,
            directory: &item.directory.to_string_lossy(),
            own_digest: &item.digest,
            hash: &hash,
        });
        if facts.expired.is_some() {
            return Ok(intent);
        }
        self.with_namespace_network(key, intent).await
    }

    /// Fixes what a preview is made from and its hash, once; a condition while its source is not there.
    async fn pin(
        &self,
        key: &ObjectRef,
        entry: &Entry,
        object: &Object<PreviewSpec>,
        definitions: &Definitions,
        facts: &mut Facts,
    ) -> Result<Option<Condition>, LedgerError> {
        let mut new = Vec::new();
        if facts.preview_hash.is_none() {
            new.push(Fact::PreviewHash(self.random_hash()));
        }
        if let (Some(name), None, None) = (&object.spec.workspace, &facts.pinned, facts.expired) {
            let source = ObjectRef::new(Kind::Workspace, key.ns(), name);
            let found = self.store().objects.get(&source).cloned().filter(|source| source.item.is_some());
            let Some((source_entry, source_item)) = found.and_then(|e| e.item.clone().map(|item| (e, item))) else {
                let message = format!("workspace {name} does not exist in namespace {}; declare it, or name another in spec.workspace", key.ns());
                return Ok(Some(Condition::abnormal(ConditionType::WaitingOn, message)));
            };
            if let Resource::Workspace(workspace) = &source_item.resource {
                let tenants = Tenants { namespace: key.ns(), all: &definitions.tenants };
                let resolved = merge::resolve(&workspace.spec, &definitions.types, tenants);
                if let Some(problem) = resolved.fatal.first() {
                    return Ok(Some(problem.clone()));
                }
                new.push(Fact::Pinned(previews::pin(&resolved.spec, &source, &source_entry.admission.uid, &source_item.directory.to_string_lossy())));
            }
        }
        if !new.is_empty() {
            self.parts.ledger.record(&entry.admission.uid, &new).await?;
            new.iter().for_each(|fact| facts.apply(fact));
        }
        Ok(None)
    }

    /// How an object that is deleted stops, by its last good spec.
    pub(super) async fn farewell(&self, key: &ObjectRef, item: &Item, uid: &Uid) -> Result<Farewell, LedgerError> {
        let definitions = self.definitions(key.ns());
        let tenants = Tenants { namespace: key.ns(), all: &definitions.tenants };
        let spec = match &item.resource {
            Resource::Workspace(object) => merge::resolve(&object.spec, &definitions.types, tenants).spec,
            Resource::Preview(object) => {
                let facts = self.parts.ledger.facts(uid).await?;
                previews::resolve_preview(&object.spec, facts.pinned.as_ref(), tenants).spec
            }
            Resource::WorkspaceType(_) | Resource::Tenant(_) => return Ok(Farewell::default()),
        };
        let grace = spec.stop_grace_period.unwrap_or(builtin::STOP_GRACE);
        Ok(Farewell { grace, pre_stop: spec.hooks.and_then(|hooks| hooks.pre_stop) })
    }

    /// Adds the namespace's network, which every object of the namespace is on.
    async fn with_namespace_network(&self, key: &ObjectRef, intent: Intent) -> Result<Intent, LedgerError> {
        let Intent::Present(mut desired) = intent else { return Ok(intent) };
        match self.namespace_network(key.ns()).await? {
            Ok(network) => desired.networks.insert(0, network),
            Err(condition) => desired.fatal.push(condition),
        }
        Ok(Intent::Present(desired))
    }

    /// The network of a namespace, with the subnet that it holds.
    pub(super) async fn namespace_network(&self, namespace: &str) -> Result<Result<NetworkWant, Condition>, LedgerError> {
        let (epoch, known) = {
            let store = self.store();
            (store.epoch, store.networks.get(namespace).cloned())
        };
        // Where the network is not there any more, its addresses may be another's.
        let is_there =
            |network: &NetworkWant| self.world().networks.named(&network.name).any(|seen| seen.owner.is_some() && seen.subnets.contains(&network.subnet));
        if let Some((_, network)) = known.filter(|(of, network)| *of == epoch && is_there(network)) {
            return Ok(Ok(network));
        }
        let installation = &self.parts.settings.installation;
        let key = naming::namespace_ref(namespace);
        let claim = lower::namespace_claim(installation, namespace);
        let grants = self.grants(&key, &Uid(format!("namespace/{namespace}")), std::slice::from_ref(&claim)).await?;
        let name = naming::namespace_network(installation, namespace);
        Ok(match grants.into_iter().next() {
            Some(Grant::Subnet { cidr, .. }) => {
                let network = NetworkWant { name, subnet: cidr, labels: naming::namespace_labels(installation, namespace) };
                self.store().networks.insert(namespace.to_owned(), (epoch, network.clone()));
                Ok(network)
            }
            Some(Grant::Port { .. } | Grant::Refused { .. }) | None => Err(Condition::abnormal(
                ConditionType::AddressesExhausted,
                format!("no free subnet is left in {} for the namespace {namespace}; give `run` a larger --network-pool", self.parts.settings.network_pool),
            )),
        })
    }

    /// Grants claims, tells of what was leased, and wakes those who lost something.
    async fn grants(&self, key: &ObjectRef, uid: &Uid, claims: &[Claim]) -> Result<Vec<Grant>, LedgerError> {
        let (held, pools) = self.pools(key, uid, claims);
        let granted = self.parts.ledger.grant(key, uid, claims, &held, &pools).await?;
        for displaced in &granted.displaced {
            let message = format!("{:?} went to {key}: all were in use, and this one had been stopped the longest", displaced.grant);
            let event = Event {
                time: self.now(),
                type_: EventType::Warning,
                reason: EventReason::PortReleased,
                object: Some(displaced.object.clone()),
                message,
                count: 1,
            };
            self.tell(event).await;
            self.lower_again(&displaced.object);
            self.queue.push(displaced.object.clone(), Trigger::Event);
        }
        for leased in &granted.leased {
            if let Grant::Port { name, host } = leased {
                let message = format!("host port {host} for {name}");
                let (type_, reason) = (EventType::Normal, EventReason::PortLeased);
                self.tell(Event { time: self.now(), type_, reason, object: Some(key.clone()), message, count: 1 }).await;
            }
        }
        Ok(granted.grants)
    }

    /// What is held according to Docker, and what cannot be granted. Others are looked at only for what is claimed.
    pub(super) fn pools(&self, key: &ObjectRef, uid: &Uid, claims: &[Claim]) -> (Vec<Grant>, Pools) {
        let settings = &self.parts.settings;
        let world = self.world();
        let mut store = self.store();
        let held = held(&world, key, uid);
        let mut pools = Pools { ports: (settings.port_range.first, settings.port_range.last), network: settings.network_pool.clone(), ..Pools::default() };
        if claims.iter().any(|claim| matches!(claim, Claim::Port { .. })) {
            store.quarantine.retain(|_, until| *until > Instant::now());
            pools.ports_fixed = fixed_ports(&store);
            pools.reclaimable = reclaimable(&store, &world);
            pools.ports_taken = self.ports_taken(Claimant { object: key, uid }, claims, &held, &store, &world, &pools.reclaimable);
        }
        let networks: BTreeSet<&str> = claims
            .iter()
            .filter_map(|claim| match claim {
                Claim::Subnet { network, .. } => Some(network.as_str()),
                Claim::Port { .. } => None,
            })
            .collect();
        if !networks.is_empty() {
            let others = world.networks.values().filter(|n| n.owner.is_none() || !networks.contains(n.name.as_str()));
            pools.subnets_taken = others.flat_map(|n| n.subnets.iter().cloned()).collect();
            if self.capabilities().local {
                let ours: BTreeSet<&String> = world.networks.values().filter(|n| n.owner.is_some()).flat_map(|n| &n.subnets).collect();
                pools.subnets_taken.extend(self.parts.host.routes().into_iter().filter(|route| !ours.contains(route)));
            }
        }
        (held, pools)
    }

    /// Ports in quarantine, of other objects' containers, and of other programs.
    fn ports_taken(&self, who: Claimant<'_>, claims: &[Claim], held: &[Grant], store: &Store, world: &World, reclaimable: &[Uid]) -> BTreeSet<u16> {
        let settings = &self.parts.settings;
        let mut taken: BTreeSet<u16> = store.quarantine.keys().copied().collect();
        let mine = |container: &crate::observed::Container| container.owner.as_ref().is_some_and(|owner| owner.object == *who.object);
        let others = || world.containers.values().filter(|c| !mine(c));
        taken.extend(others().flat_map(|c| c.ports.iter().map(|(_, host, ..)| *host)));
        // What another object's stopped container will bind again; the ledger may have forgotten it. Who may have to give it up leases another then.
        let keeps = |c: &&crate::observed::Container| c.owner.as_ref().is_some_and(|owner| !reclaimable.contains(&owner.uid));
        let leased = others().filter(keeps).flat_map(|c| naming::grants_from_labels(&c.labels));
        taken.extend(leased.filter_map(|grant| match grant {
            Grant::Port { host, .. } => Some(host),
            Grant::Subnet { .. } | Grant::Refused { .. } => None,
        }));
        if self.capabilities().local {
            let own: BTreeSet<u16> = world.of(who.object).flat_map(|c| c.ports.iter().map(|(_, host, ..)| *host)).collect();
            let is_free = |port: u16| own.contains(&port) || self.parts.host.is_port_free(settings.publish_address, port);
            let wanted = claims.iter().filter_map(|claim| match claim {
                Claim::Port { name, fixed: None } if !holds_port(held, name, &taken) => Some(name),
                Claim::Port { .. } | Claim::Subnet { .. } => None,
            });
            let mut busy = Vec::new();
            for name in wanted {
                let mut free = 0;
                for port in from_hash(who.uid, name, settings.port_range.first, settings.port_range.last).filter(|port| !taken.contains(port)) {
                    if !is_free(port) {
                        busy.push(port);
                        continue;
                    }
                    free += 1;
                    if free == FREE {
                        break;
                    }
                }
            }
            taken.extend(busy);
        }
        taken
    }

    /// Takes ports away that could not be bound; true when others may be had instead.
    pub(super) async fn revoke_ports(&self, key: &ObjectRef, uid: &Uid, desired: &DesiredState, message: &str) -> Result<bool, LedgerError> {
        let until = Instant::now() + QUARANTINE;
        let fixed: BTreeSet<u16> = fixed_ports(&self.store());
        let ours: Vec<u16> = desired.main().into_iter().flat_map(|main| &main.ports).map(|port| port.host).filter(|port| !fixed.contains(port)).collect();
        let blamed: Vec<u16> = ours
            .into_iter()
            .filter(|port| message.contains(&format!(":{port} ")) || message.contains(&format!(":{port}:")) || message.ends_with(&format!(":{port}")))
            .collect();
        for port in &blamed {
            self.store().quarantine.insert(*port, until);
            self.parts.ledger.revoke(uid, *port).await?;
            self.lower_again(key);
            let text = format!("port {port} is used by another program; another is leased");
            let event =
                Event { time: self.now(), type_: EventType::Warning, reason: EventReason::PortReleased, object: Some(key.clone()), message: text, count: 1 };
            self.tell(event).await;
        }
        Ok(!blamed.is_empty())
    }

    /// What the namespace's quota says of an object.
    pub(super) fn over_quota(&self, key: &ObjectRef) -> Option<String> {
        let definitions = self.definitions(key.ns());
        let world = self.world();
        let store = self.store();
        super::store::over_quota(&store, &world, key, &definitions.tenants)
    }

    fn around(&self, resolved: &Resolved, directory: &str) -> Around {
        let capabilities = self.capabilities();
        let host_paths: Vec<String> = self.parts.settings.host_paths.iter().map(|path| path.to_string_lossy().into_owned()).collect();
        let mut paths = mounts::host_paths(&resolved.spec.mounts, directory);
        if !paths.is_empty() {
            paths.extend(host_paths.iter().map(|path| mounts::clean(path)));
        }
        // Links of this host say nothing of another's.
        let real = |path: String| (path.clone(), self.parts.host.real_path(&path));
        let links = paths.into_iter().filter(|_| capabilities.local).map(real).filter(|(path, real)| path != real).collect();
        Around {
            installation: self.parts.settings.installation.clone(),
            host_paths,
            links,
            publish_address: self.parts.settings.publish_address.to_string(),
            disk_limit: capabilities.disk_limit,
            nano_cpus: capabilities.nano_cpus,
        }
    }

    /// The objects of a namespace that use its network.
    pub(super) fn users(&self, namespace: &str) -> BTreeSet<ObjectRef> {
        let world = self.world();
        let store = self.store();
        let expired = |entry: &Entry| entry.status.as_ref().is_some_and(|status| status.phase == crate::resource::status::Phase::Expired);
        let declared = [Kind::Workspace, Kind::Preview]
            .into_iter()
            .flat_map(|kind| store.in_namespace(kind, namespace))
            .filter(|(_, entry)| !expired(entry))
            .map(|(key, _)| key.clone());
        let seen = [Kind::Workspace, Kind::Preview].into_iter().flat_map(|kind| {
            let of_namespace = move |key: &&ObjectRef| key.kind == kind && key.ns() == namespace;
            world.of.range(ObjectRef::new(kind, namespace, "")..).map(|(key, _)| key).take_while(of_namespace)
        });
        declared.chain(seen.cloned()).collect()
    }
}

/// Owned surroundings, lent to the lowering.
struct Around {
    installation: String,
    host_paths: Vec<String>,
    links: BTreeMap<String, String>,
    publish_address: String,
    disk_limit: bool,
    nano_cpus: i64,
}

impl Around {
    fn borrow(&self) -> Surroundings<'_> {
        Surroundings {
            installation: &self.installation,
            host_paths: &self.host_paths,
            links: &self.links,
            publish_address: &self.publish_address,
            disk_limit: self.disk_limit,
            nano_cpus: self.nano_cpus,
        }
    }
}

fn no_network() -> NetworkWant {
    NetworkWant { name: String::new(), subnet: String::new(), labels: BTreeMap::new() }
}

/// Whether it has a port of that name that it can go on with.
fn holds_port(held: &[Grant], name: &str, taken: &BTreeSet<u16>) -> bool {
    held.iter().any(|grant| matches!(grant, Grant::Port { name: of, host } if of == name && !taken.contains(host)))
}

/// What an object's containers and networks in Docker say that it holds.
fn held(world: &World, key: &ObjectRef, uid: &Uid) -> Vec<Grant> {
    let of_labels = world.of(key).filter(|c| c.owner.as_ref().is_some_and(|o| o.uid == *uid)).flat_map(|c| naming::grants_from_labels(&c.labels));
    let is_mine = |owner: &crate::observed::NetworkOwner| owner.uid.as_ref().is_none_or(|of| of == uid);
    let networks = world.networks.of(key).filter(|n| n.owner.as_ref().is_some_and(is_mine));
    let subnets = networks.filter_map(|n| n.subnets.first().map(|cidr| Grant::Subnet { network: n.name.clone(), cidr: cidr.clone() }));
    of_labels.chain(subnets).collect()
}

/// Fixed ports of all living objects.
fn fixed_ports(store: &Store) -> BTreeSet<u16> {
    let of = |resource: &Resource| -> Vec<crate::resource::workspace::Port> {
        match resource {
            Resource::Workspace(object) => object.spec.ports.clone(),
            Resource::Preview(object) => object.spec.ports.clone(),
            Resource::WorkspaceType(object) => object.spec.ports.clone(),
            Resource::Tenant(_) => Vec::new(),
        }
    };
    let fixed = |port: crate::resource::workspace::Port| match port.publish {
        Some(crate::resource::workspace::Publish::Fixed(number)) => Some(number),
        Some(crate::resource::workspace::Publish::None | crate::resource::workspace::Publish::Pool) | None => None,
    };
    store.objects.values().filter_map(|entry| entry.item.as_ref()).flat_map(|item| of(&item.resource)).filter_map(fixed).collect()
}

/// Objects that hold leases and do not run, the longest stopped first.
fn reclaimable(store: &Store, world: &World) -> Vec<Uid> {
    let mut stopped: Vec<(Timestamp, Uid)> = store
        .objects
        .iter()
        .filter(|(key, entry)| {
            entry.status.as_ref().is_some_and(|s| s.phase == crate::resource::status::Phase::Stopped) && !world.of(key).any(|c| c.is_active())
        })
        .map(|(key, entry)| {
            let finished = world.of(key).filter_map(|c| c.details.as_ref().and_then(|details| details.finished)).max();
            (finished.unwrap_or(entry.admission.created), entry.admission.uid.clone())
        })
        .collect();
    stopped.sort();
    stopped.into_iter().map(|(_, uid)| uid).collect()
}
