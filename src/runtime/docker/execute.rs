//! Doing one operation: look first, act by id, sort the engine's answer. Done already is done.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use bollard::errors::Error as Bollard;
use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum as Word, ContainerUpdateBody, Ipam, IpamConfig, NetworkConnectRequest, NetworkCreateRequest,
    NetworkDisconnectRequest, VolumeCreateRequest,
};
use bollard::query_parameters::{CreateContainerOptions, RemoveContainerOptions, RemoveVolumeOptions, RenameContainerOptions, StopContainerOptions};

use super::create::{self, Endpoint};
use super::error::{status, within};
use super::{DockerRuntime, convert};
use crate::desired::{Attachment, ContainerSpec, Limits, MountSource, naming};
use crate::observed::{ContainerId, Network, NetworkOwner};
use crate::planner::operation::Consent;
use crate::planner::{Operation, Target};
use crate::resource::Uid;
use crate::resource::quantity;
use crate::runtime::{Error, Outcome, Refusal};

const CREATE: Duration = Duration::from_secs(60);
const CALL: Duration = Duration::from_secs(30);
/// How long a stop may take beyond its grace.
const STOP_MARGIN: Duration = Duration::from_secs(10);
/// The networks that an engine makes by itself; nothing of ours is ever on one.
const ENGINE_NETWORKS: [&str; 3] = ["bridge", "host", "none"];

impl DockerRuntime {
    pub(super) async fn apply(&self, operation: &Operation, made: Option<&ContainerId>) -> Result<Outcome, Error> {
        match operation {
            Operation::EnsureNetwork { name, subnet, labels } => self.ensure_network(name, subnet, labels).await,
            Operation::RemoveNetwork { id, name } => self.remove_network(id, name).await,
            Operation::EnsureVolume { name, labels } => self.ensure_volume(name, labels).await,
            Operation::RemoveVolume { name, consent: Consent::None, .. } => {
                Err(refuse(Refusal::Other, format!("nobody consented to the removal of volume {name}")))
            }
            Operation::RemoveVolume { name, uid, consent: Consent::DeleteInSpec | Consent::PreviewCopy } => self.remove_volume(name, uid).await,
            Operation::Create { spec, name, image_id } => self.create(spec, name, image_id).await.map(Outcome::Made),
            Operation::Start(target) => self.start(target, made).await,
            Operation::Stop { target, grace } => self.stop(target, made, *grace).await,
            Operation::Remove(target) => self.remove(target, made).await,
            Operation::Rename { target, to } => self.rename(target, made, to).await,
            Operation::Update { target, limits } => self.update(target, made, limits).await,
            Operation::Connect { target, network, aliases } => self.connect(target, made, network, aliases).await,
            Operation::Disconnect { target, network } => self.disconnect(target, made, network).await,
            Operation::Pause(target) => self.pause(target, made).await,
            Operation::Unpause(target) => self.unpause(target, made).await,
            Operation::Begin(key, task) => {
                self.tasks.begin(key, task);
                Ok(Outcome::Began)
            }
            Operation::Forget(key) => {
                self.tasks.forget(key);
                Ok(Outcome::Done)
            }
            Operation::Record(_) | Operation::ReleaseLeases | Operation::Release => Err(refuse(Refusal::Other, "an engine keeps no facts".to_owned())),
        }
    }

    // Networks

    async fn ensure_network(&self, name: &str, subnet: &str, labels: &BTreeMap<String, String>) -> Result<Outcome, Error> {
        let Some(owner) = naming::network_owner(&self.installation, name, labels) else {
            return Err(refuse(Refusal::NotOurs, format!("the labels of network {name} do not say that it is ours")));
        };
        // Objects of one namespace want its network at the same moment: the first makes it, the others find it.
        let _alone = self.networking.lock().await;
        let ours = |networks: &BTreeMap<String, Network>| networks.values().any(|network| network.owner.as_ref() == Some(&owner));
        let mut present = self.networks_named(name).await?;
        if !present.is_empty() && !ours(&present) {
            return Err(refuse(Refusal::NameConflict, format!("a network {name} exists and is not ours: remove it, or use another --installation")));
        }
        if present.is_empty() {
            let request = NetworkCreateRequest {
                name: name.to_owned(),
                driver: Some("bridge".to_owned()),
                ipam: Some(Ipam { config: Some(vec![IpamConfig { subnet: Some(subnet.to_owned()), ..Default::default() }]), ..Default::default() }),
                labels: Some(create::hashed(labels)),
                ..Default::default()
            };
            let created = within(CALL, no_conflict(self.client.docker.create_network(request))).await?;
            present = self.networks_named(name).await?;
            if created.is_none() && !ours(&present) {
                return Err(refuse(Refusal::NameConflict, format!("a network {name} appeared and is not ours: remove it, or use another --installation")));
            }
        }
        self.single_network(name, &owner, &present).await?;
        Ok(Outcome::Done)
    }

    /// 20.10 makes a second network of one name without a word. The oldest stays, by id where they are of one age; all who race here
    /// choose the same.
    async fn single_network(&self, name: &str, owner: &NetworkOwner, networks: &BTreeMap<String, Network>) -> Result<(), Error> {
        let ours: Vec<_> = networks.values().filter(|network| network.owner.as_ref() == Some(owner)).collect();
        let mut ages = Vec::new();
        if ours.len() > 1 {
            for network in &ours {
                if let Some(inspect) = within(CALL, absent(self.client.docker.inspect_network(&network.id, None))).await? {
                    let made = inspect.created.and_then(|text| text.parse::<jiff::Timestamp>().ok()).unwrap_or_default();
                    ages.push((inspect.containers.is_none_or(|containers| containers.is_empty()), made, network.id.clone()));
                }
            }
        }
        // One that is in use goes before one that is not.
        ages.sort();
        for (_, _, id) in ages.into_iter().skip(1) {
            if let Err(error) = within(CALL, absent(self.client.docker.remove_network(&id))).await {
                tracing::warn!(network = %name, id, error = %error, "cannot remove a second network of one name");
            }
        }
        self.memory().note(networks, &[]);
        Ok(())
    }

    async fn remove_network(&self, id: &str, name: &str) -> Result<Outcome, Error> {
        let Some(inspect) = within(CALL, absent(self.client.docker.inspect_network(id, None))).await? else { return Ok(Outcome::Done) };
        let labels = inspect.labels.unwrap_or_default().into_iter().collect();
        if naming::network_owner(&self.installation, inspect.name.as_deref().unwrap_or_default(), &labels).is_none() {
            return Err(refuse(Refusal::NotOurs, format!("network {name} is not ours any more")));
        }
        let call = async {
            match self.client.docker.remove_network(id).await {
                Err(error) if status(&error) == Some(404) => Ok(Ok(())),
                // In use: those who use it are on their way out, or are somebody else's.
                Err(Bollard::DockerResponseServerError { status_code: 403, message }) => Ok(Err(Error::Transient(message))),
                result => result.map(Ok),
            }
        };
        within(CALL, call).await??;
        Ok(Outcome::Done)
    }

    /// The id of a network by name: ours, else the one that exists.
    async fn network_id(&self, name: &str) -> Result<String, Error> {
        if ENGINE_NETWORKS.contains(&name) {
            return Err(refuse(Refusal::Other, format!("the engine's own network `{name}` joins everything on it: name another")));
        }
        let mut networks = self.networks_named(name).await?;
        if networks.len() > 1 && networks.values().any(|network| network.owner.is_some()) {
            networks.retain(|_, network| network.owner.is_some());
        }
        match networks.into_keys().collect::<Vec<_>>().as_slice() {
            [] => Err(refuse(Refusal::NoNetwork, format!("there is no network {name}"))),
            [id] => Ok(id.clone()),
            ids @ [_, _, ..] => Err(refuse(Refusal::NoNetwork, format!("there are {} networks {name}: remove all but one", ids.len()))),
        }
    }

    // Volumes

    async fn ensure_volume(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<Outcome, Error> {
        let volume = match within(CALL, absent(self.client.docker.inspect_volume(name))).await? {
            Some(volume) => volume,
            None => {
                let request = VolumeCreateRequest {
                    name: Some(name.to_owned()),
                    driver: Some("local".to_owned()),
                    labels: Some(create::hashed(labels)),
                    ..Default::default()
                };
                within(CALL, self.client.docker.create_volume(request)).await?
            }
        };
        // The engine answers a request for a name that exists with what it has, whoever made it.
        let found: BTreeMap<String, String> = volume.labels.clone().into_iter().collect();
        let wanted = naming::volume_owner(&self.installation, name, labels);
        let volume = convert::volume(&self.installation, volume);
        if wanted.is_none() || volume.owner != wanted {
            let whose = found.get(naming::UID).map_or_else(|| "without an owner".to_owned(), |uid| format!("of uid {uid}"));
            return Err(refuse(Refusal::VolumeConflict, format!("a volume {name} exists, {whose}: look into it, then remove or rename it")));
        }
        self.memory().note(&BTreeMap::new(), &[volume]);
        Ok(Outcome::Done)
    }

    async fn remove_volume(&self, name: &str, uid: &Uid) -> Result<Outcome, Error> {
        let Some(volume) = within(CALL, absent(self.client.docker.inspect_volume(name))).await? else { return Ok(Outcome::Done) };
        let owner = convert::volume(&self.installation, volume).owner;
        if owner.and_then(|owner| owner.uid).as_ref() != Some(uid) {
            return Err(refuse(Refusal::NotOurs, format!("volume {name} is not of uid {uid}")));
        }
        within(CALL, absent(self.client.docker.remove_volume(name, None::<RemoveVolumeOptions>))).await?;
        Ok(Outcome::Done)
    }

    // Containers

    async fn create(&self, spec: &ContainerSpec, name: &str, image_id: &str) -> Result<ContainerId, Error> {
        let mut endpoints = Vec::new();
        for attachment in &spec.networks {
            endpoints.push(Endpoint::new(attachment, self.network_id(&attachment.network).await?));
        }
        self.volumes_exist(spec).await?;
        let body = create::body(spec, image_id, endpoints.first(), self.client.api);
        let options = CreateContainerOptions { name: Some(name.to_owned()), ..Default::default() };
        match within(CREATE, self.client.docker.create_container(Some(options), body)).await {
            Ok(created) => {
                let id = ContainerId(created.id);
                for endpoint in endpoints.iter().skip(1) {
                    if let Err(error) = self.attach(&id, endpoint).await {
                        self.discard(&id).await;
                        return Err(error);
                    }
                }
                Ok(id)
            }
            Err(Error::Rejected { reason: Refusal::NameConflict, message }) => self.adopt(spec, name, &endpoints, message).await,
            Err(error) => Err(error),
        }
    }

    /// The name is taken: by what an earlier try made, which is then finished, or by another.
    async fn adopt(&self, spec: &ContainerSpec, name: &str, endpoints: &[Endpoint], message: String) -> Result<ContainerId, Error> {
        let Some(found) = within(CALL, absent(self.client.docker.inspect_container(name, None))).await? else {
            return Err(Error::Transient(format!("the name {name} is just being given up")));
        };
        let same = |label: &str| label_of(&found, label) == spec.labels.get(label).map(String::as_str);
        if !(same(naming::INSTALLATION) && same(naming::KIND) && same(naming::NAMESPACE) && same(naming::NAME)) {
            return Err(refuse(Refusal::NameConflict, message));
        }
        if !(same(naming::UID) && same(naming::SPEC_HASH)) {
            return Err(Error::Transient(format!("an older container is still named {name}")));
        }
        let id = ContainerId(found.id.clone().unwrap_or_default());
        for endpoint in endpoints.iter().filter(|endpoint| !holds_network(&found, endpoint)) {
            self.attach(&id, endpoint).await?;
        }
        self.memory().touch(&id);
        Ok(id)
    }

    /// An engine would make a volume that is missing, without labels, and it could never be told from somebody else's.
    async fn volumes_exist(&self, spec: &ContainerSpec) -> Result<(), Error> {
        for mount in &spec.mounts {
            match &mount.source {
                MountSource::Volume(name) => {
                    if within(CALL, absent(self.client.docker.inspect_volume(name))).await?.is_none() {
                        return Err(Error::Transient(format!("there is no volume {name}")));
                    }
                }
                MountSource::Host(_) | MountSource::Tmpfs { .. } => {}
            }
        }
        Ok(())
    }

    async fn attach(&self, id: &ContainerId, endpoint: &Endpoint) -> Result<(), Error> {
        let request = NetworkConnectRequest { container: id.0.clone(), endpoint_config: Some(endpoint.settings()) };
        let call = async {
            match self.client.docker.connect_network(&endpoint.id, request).await {
                Err(Bollard::DockerResponseServerError { status_code: 403, message }) if message.contains("already exists in network") => Ok(()),
                result => result,
            }
        };
        within(CALL, call).await
    }

    /// A container that was made and cannot be finished must not stay under its name.
    async fn discard(&self, id: &ContainerId) {
        let options = RemoveContainerOptions { force: true, v: true, ..Default::default() };
        if let Err(error) = within(CALL, absent(self.client.docker.remove_container(&id.0, Some(options)))).await {
            tracing::warn!(container = %id.0, error = %error, "cannot remove a container that was not finished");
        }
    }

    async fn start(&self, target: &Target, made: Option<&ContainerId>) -> Result<Outcome, Error> {
        let found = self.find(target, made).await?;
        if is(&found, Word::RUNNING) {
            return Ok(Outcome::Done);
        }
        self.acting(&found, CREATE, |id| async move { self.client.docker.start_container(&id, None).await }).await
    }

    async fn stop(&self, target: &Target, made: Option<&ContainerId>, grace: quantity::Duration) -> Result<Outcome, Error> {
        let Some(found) = self.look(target, made).await? else { return Ok(Outcome::Done) };
        if is(&found, Word::EXITED) || is(&found, Word::CREATED) || is(&found, Word::DEAD) || is(&found, Word::REMOVING) {
            return Ok(Outcome::Done);
        }
        let seconds = create::seconds(grace);
        let limit = Duration::from_secs(seconds.unsigned_abs()) + STOP_MARGIN;
        let docker = self.client.docker.clone().with_timeout(limit);
        let options = StopContainerOptions { t: Some(i32::try_from(seconds).unwrap_or(i32::MAX)), ..Default::default() };
        self.acting(&found, limit, |id| async move { absent(docker.stop_container(&id, Some(options))).await.map(drop) }).await
    }

    async fn remove(&self, target: &Target, made: Option<&ContainerId>) -> Result<Outcome, Error> {
        let Some(found) = self.look(target, made).await? else { return Ok(Outcome::Done) };
        let options = RemoveContainerOptions { force: true, v: true, ..Default::default() };
        self.acting(&found, CALL, |id| async move { absent(self.client.docker.remove_container(&id, Some(options))).await.map(drop) }).await
    }

    async fn rename(&self, target: &Target, made: Option<&ContainerId>, to: &str) -> Result<Outcome, Error> {
        let found = self.find(target, made).await?;
        if found.name.as_deref().and_then(|name| name.strip_prefix('/')) == Some(to) {
            return Ok(Outcome::Done);
        }
        let options = RenameContainerOptions { name: to.to_owned() };
        let renamed = self.acting(&found, CALL, |id| async move { self.client.docker.rename_container(&id, options).await }).await;
        match renamed {
            Err(Error::Rejected { reason: Refusal::NameConflict, message }) => {
                let holder = within(CALL, absent(self.client.docker.inspect_container(to, None))).await?;
                let ours = holder.is_none_or(|holder| label_of(&holder, naming::INSTALLATION) == Some(&self.installation));
                if ours { Err(Error::Transient(message)) } else { Err(refuse(Refusal::NameConflict, message)) }
            }
            result => result,
        }
    }

    /// The engine accepts some limits without applying them: what it then says counts.
    async fn update(&self, target: &Target, made: Option<&ContainerId>, limits: &Limits) -> Result<Outcome, Error> {
        let found = self.find(target, made).await?;
        if obeys(&found, limits, true) {
            return Ok(Outcome::Done);
        }
        let memory = limits.memory.map(|bytes| i64::try_from(bytes.0).unwrap_or(i64::MAX));
        let body = ContainerUpdateBody {
            memory,
            memory_swap: memory,
            nano_cpus: limits.cpu.map(|cpu| cpu.0),
            pids_limit: Some(limits.pids),
            restart_policy: Some(create::restart_policy(limits.restart)),
            ..Default::default()
        };
        self.acting(&found, CALL, |id| async move { self.client.docker.update_container(&id, body).await }).await?;
        let after = self.find(target, made).await?;
        if obeys(&after, limits, false) {
            return Ok(Outcome::Done);
        }
        Err(refuse(Refusal::Other, format!("the engine took the new limits of {} without applying them: replace the container", target.name())))
    }

    async fn connect(&self, target: &Target, made: Option<&ContainerId>, network: &str, aliases: &[String]) -> Result<Outcome, Error> {
        let found = self.find(target, made).await?;
        let attachment = Attachment { network: network.to_owned(), aliases: aliases.to_vec() };
        let endpoint = Endpoint::new(&attachment, self.network_id(network).await?);
        if holds_network(&found, &endpoint) {
            return Ok(Outcome::Done);
        }
        let id = id_of(&found);
        let connected = self.attach(&id, &endpoint).await;
        self.memory().touch(&id);
        connected.map(|()| Outcome::Done)
    }

    async fn disconnect(&self, target: &Target, made: Option<&ContainerId>, network: &str) -> Result<Outcome, Error> {
        let Some(found) = self.look(target, made).await? else { return Ok(Outcome::Done) };
        let request = NetworkDisconnectRequest { container: id_of(&found).0, force: Some(false) };
        self.acting(&found, CALL, |_| async move {
            match self.client.docker.disconnect_network(network, request).await {
                Err(Bollard::DockerResponseServerError { status_code, message }) if status_code == 404 || message.contains("is not connected to") => Ok(()),
                result => result,
            }
        })
        .await
    }

    async fn pause(&self, target: &Target, made: Option<&ContainerId>) -> Result<Outcome, Error> {
        let found = self.find(target, made).await?;
        if is(&found, Word::PAUSED) {
            return Ok(Outcome::Done);
        }
        self.acting(&found, CALL, |id| async move { self.client.docker.pause_container(&id).await }).await
    }

    async fn unpause(&self, target: &Target, made: Option<&ContainerId>) -> Result<Outcome, Error> {
        let Some(found) = self.look(target, made).await? else { return Ok(Outcome::Done) };
        if !is(&found, Word::PAUSED) {
            return Ok(Outcome::Done);
        }
        self.acting(&found, CALL, |id| async move { self.client.docker.unpause_container(&id).await }).await
    }

    // Looking

    /// The target, which must be ours and of its uid; `None` when it is gone.
    async fn look(&self, target: &Target, made: Option<&ContainerId>) -> Result<Option<ContainerInspectResponse>, Error> {
        let (id, uid) = match target {
            Target::Existing { id, uid, .. } => (id, Some(uid)),
            Target::Made { .. } => match made {
                Some(id) => (id, None),
                None => return Err(refuse(Refusal::Other, format!("{} was not made", target.name()))),
            },
        };
        let Some(found) = within(CALL, absent(self.client.docker.inspect_container(&id.0, None))).await? else { return Ok(None) };
        let ours = label_of(&found, naming::INSTALLATION) == Some(&self.installation);
        let same = uid.is_none_or(|uid| label_of(&found, naming::UID) == Some(&uid.0));
        if ours && same {
            return Ok(Some(found));
        }
        Err(refuse(Refusal::NotOurs, format!("container {} ({}) is not the one that was seen", target.name(), id.short())))
    }

    /// The target, which must exist.
    async fn find(&self, target: &Target, made: Option<&ContainerId>) -> Result<ContainerInspectResponse, Error> {
        self.look(target, made).await?.ok_or_else(|| refuse(Refusal::Going, format!("container {} is gone", target.name())))
    }

    /// Acts on a container by its id; whatever comes of it, what was remembered of it does not hold any more.
    async fn acting<F, R>(&self, found: &ContainerInspectResponse, limit: Duration, act: F) -> Result<Outcome, Error>
    where
        F: FnOnce(String) -> R,
        R: Future<Output = Result<(), Bollard>>,
    {
        let id = id_of(found);
        let result = within(limit, act(id.0.clone())).await;
        self.memory().touch(&id);
        result.map(|()| Outcome::Done)
    }
}

/// A 404 as nothing.
async fn absent<T>(call: impl Future<Output = Result<T, Bollard>>) -> Result<Option<T>, Bollard> {
    match call.await {
        Err(error) if status(&error) == Some(404) => Ok(None),
        result => result.map(Some),
    }
}

/// A 409 as nothing.
async fn no_conflict<T>(call: impl Future<Output = Result<T, Bollard>>) -> Result<Option<T>, Bollard> {
    match call.await {
        Err(error) if status(&error) == Some(409) => Ok(None),
        result => result.map(Some),
    }
}

fn refuse(reason: Refusal, message: String) -> Error {
    Error::Rejected { reason, message }
}

fn id_of(found: &ContainerInspectResponse) -> ContainerId {
    ContainerId(found.id.clone().unwrap_or_default())
}

fn label_of<'a>(found: &'a ContainerInspectResponse, label: &str) -> Option<&'a str> {
    found.config.as_ref()?.labels.as_ref()?.get(label).map(String::as_str)
}

fn is(found: &ContainerInspectResponse, word: Word) -> bool {
    found.state.as_ref().and_then(|state| state.status) == Some(word)
}

/// Whether the container is on that network. Before its first start the engine tells no ids of networks, only names.
fn holds_network(found: &ContainerInspectResponse, endpoint: &Endpoint) -> bool {
    let networks = found.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    networks.into_iter().flatten().any(|(name, held)| match held.network_id.as_deref() {
        Some(id) if !id.is_empty() => id == endpoint.id,
        Some(_) | None => *name == endpoint.name,
    })
}

/// Whether the limits are in force. On a kernel that does not account swap the engine says -1 for it, whatever was asked.
fn obeys(found: &ContainerInspectResponse, limits: &Limits, with_swap: bool) -> bool {
    let details = convert::details(found.clone());
    let swap = |bytes: u64| i64::try_from(bytes) == Ok(details.memory_swap) || (!with_swap && details.memory_swap == -1);
    let memory = limits.memory.is_none_or(|bytes| details.memory == bytes.0 && swap(bytes.0));
    let cpu = limits.cpu.is_none_or(|cpu| details.nano_cpus == cpu.0);
    memory && cpu && details.pids == limits.pids && details.restart == limits.restart.as_str()
}
