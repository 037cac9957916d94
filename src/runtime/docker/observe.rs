//! Listing the engine: one call per kind of Docker object, side by side, and inspects only where the remembered ones do not hold.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bollard::models::{ImageSummary, SystemInfo};
use bollard::query_parameters::{ListContainersOptions, ListImagesOptions, ListNetworksOptions, ListVolumesOptions};
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::time::Instant;

use super::error::{status, within};
use super::{DockerRuntime, convert};
use crate::desired::naming;
use crate::observed::{Container, ContainerId, Details, Glimpse, Images, Look, Network, Networks, Volume, World};
use crate::resource::ObjectRef;
use crate::runtime::Error;

/// The limit of a list of an engine that has nothing.
const LIST: Duration = Duration::from_secs(10);
/// What each container adds to it.
const LIST_EACH: Duration = Duration::from_millis(2);
/// The limit of an inspect.
const INSPECT: Duration = Duration::from_secs(30);
/// Inspects in flight.
const INSPECTS: usize = 8;

impl DockerRuntime {
    /// Everything that the engine has.
    pub(super) async fn list(&self) -> Result<World, Error> {
        self.memory().begin_pass();
        let (info, containers, networks, volumes, images) =
            futures::try_join!(self.info(), self.containers(None), self.networks(None), self.volumes(None), self.images())?;
        let containers = self.complete(containers, &networks).await?;
        self.memory().keep(&containers, &networks, &volumes);
        let mut world = World {
            engine: info.id.clone().unwrap_or_default(),
            listed: Some((self.now)()),
            volumes: volumes.into_iter().map(|volume| (volume.name.clone(), volume)).collect(),
            networks: networks.into_iter().collect(),
            images: images.ids,
            images_listed: images.listed,
            helper: images.helper,
            tasks: self.tasks.states(),
            ..World::default()
        };
        for container in containers {
            world.insert(container);
        }
        Ok(world)
    }

    /// What the engine has of one object, and what else is asked for.
    pub(super) async fn look_at(&self, object: &ObjectRef, look: Look) -> Result<Glimpse, Error> {
        let mut labels = vec![
            format!("{}={}", naming::INSTALLATION, self.installation),
            format!("{}={}", naming::KIND, object.kind.singular()),
            format!("{}={}", naming::NAME, object.name),
        ];
        labels.extend(object.namespace.as_ref().map(|namespace| format!("{}={namespace}", naming::NAMESPACE)));
        let named = (look == Look::Object).then(|| naming::networks_of(&self.installation, object));
        let images = async {
            match look {
                Look::Object => Ok(None),
                Look::Engine => self.images().await.map(Some),
            }
        };
        let (containers, networks, volumes, images) =
            futures::try_join!(self.containers(Some(labels.clone())), self.networks(named.as_ref()), self.volumes(Some(labels)), images)?;
        let mut containers = self.complete(containers, &networks).await?;
        containers.retain(|container| container.owner.as_ref().is_some_and(|owner| owner.object == *object));
        let mut volumes = volumes;
        volumes.retain(|volume| volume.owner.as_ref().is_some_and(|owner| owner.object == *object));
        self.memory().note(&networks, &volumes);
        Ok(Glimpse { containers, networks: Networks { named, seen: networks }, volumes, images })
    }

    /// What the engine says of itself. The event stream asks for it at each connection; without a stream it is asked for here.
    pub(super) async fn info(&self) -> Result<Arc<SystemInfo>, Error> {
        let known = {
            let memory = self.memory();
            memory.is_same_engine().then(|| memory.info.clone())
        };
        match known {
            Some(info) => Ok(info),
            None => Ok(Arc::new(within(INSPECT, self.client.docker.info()).await?)),
        }
    }

    /// The limit of a list. It is given whole once all of it is made, so a short one would take an engine with very many for one that hangs,
    /// for ever.
    fn list_limit(&self) -> Duration {
        LIST + LIST_EACH * u32::try_from(self.memory().containers()).unwrap_or(u32::MAX)
    }

    /// The containers, each with the id of the network of its creation.
    async fn containers(&self, labels: Option<Vec<String>>) -> Result<Vec<(Container, Option<String>)>, Error> {
        let filters = labels.map(|labels| convert::filters([("label", labels)]));
        let options = ListContainersOptions { all: true, filters, ..Default::default() };
        let list = within(self.list_limit(), self.client.docker.list_containers(Some(options))).await?;
        let with_mode = list.into_iter().map(|mut summary| {
            let mode = summary.host_config.take().and_then(|config| config.network_mode);
            (convert::container(summary), mode)
        });
        Ok(with_mode.filter_map(|(container, mode)| Some((container?, mode))).collect())
    }

    /// The networks of a name, by id.
    pub(super) async fn networks_named(&self, name: &str) -> Result<BTreeMap<String, Network>, Error> {
        self.networks(Some(&[name.to_owned()].into())).await
    }

    /// The networks of these names, or all of them, by id.
    async fn networks(&self, named: Option<&BTreeSet<String>>) -> Result<BTreeMap<String, Network>, Error> {
        let filters = named.map(|names| convert::filters([("name", names.iter().cloned().collect())]));
        let list = within(self.list_limit(), self.client.docker.list_networks(Some(ListNetworksOptions { filters }))).await?;
        // The filter finds parts of names too.
        let exact = |network: &Network| named.is_none_or(|names| names.contains(&network.name));
        let networks = list.into_iter().filter_map(|network| convert::network(&self.installation, network)).filter(exact);
        Ok(networks.map(|network| (network.id.clone(), network)).collect())
    }

    async fn volumes(&self, labels: Option<Vec<String>>) -> Result<Vec<Volume>, Error> {
        let filters = labels.map(|labels| convert::filters([("label", labels)]));
        let list = within(self.list_limit(), self.client.docker.list_volumes(Some(ListVolumesOptions { filters }))).await?;
        Ok(list.volumes.unwrap_or_default().into_iter().map(|volume| convert::volume(&self.installation, volume)).collect())
    }

    async fn images(&self) -> Result<Images, Error> {
        let listed = Some((self.now)());
        let images = within(self.list_limit(), self.client.docker.list_images(None::<ListImagesOptions>)).await?;
        Ok(Images { helper: self.helper_among(&images).await, ids: convert::images(images), listed })
    }

    /// The helper image; without it, what needs it asks for its making, which then says what is wrong.
    async fn helper_among(&self, images: &[ImageSummary]) -> Option<String> {
        self.helper.among(images).await.unwrap_or_else(|error| {
            tracing::debug!(error = %error, "cannot tell which image is the helper");
            None
        })
    }

    /// Adds owner, networks and details; containers that went away meanwhile are left out.
    async fn complete(&self, list: Vec<(Container, Option<String>)>, networks: &BTreeMap<String, Network>) -> Result<Vec<Container>, Error> {
        let mut unread = Vec::new();
        let mut containers = Vec::new();
        {
            let mut memory = self.memory();
            memory.answered = Some(Instant::now());
            for (mut container, mode) in list {
                convert::resolve_networks(&mut container, mode.as_deref(), networks);
                container.owner = memory.identify(&self.installation, &container);
                container.details = memory.details(&container).cloned();
                if container.owner.is_some() && container.details.is_none() {
                    unread.push((container.id.clone(), memory.version(&container.id)));
                }
                containers.push(container);
            }
        }
        let read = unread.into_iter().map(|(id, version)| async move { Ok::<_, Error>((id.clone(), (self.inspect(&id).await?, version))) });
        let mut read: HashMap<ContainerId, (Inspected, u64)> = stream::iter(read).buffer_unordered(INSPECTS).try_collect().await?;
        let mut memory = self.memory();
        containers.retain_mut(|container| match read.remove(&container.id) {
            Some((Inspected::Read(details), version)) => {
                memory.learn(container, version, details.clone());
                container.details = Some(details);
                true
            }
            Some((Inspected::Gone, _)) => false,
            Some((Inspected::Unreadable, _)) | None => true,
        });
        Ok(containers)
    }

    async fn inspect(&self, id: &ContainerId) -> Result<Inspected, Error> {
        let call = async {
            match self.client.docker.inspect_container(&id.0, None).await {
                Err(error) if status(&error) == Some(404) => Ok(Inspected::Gone),
                Err(bollard::errors::Error::JsonDataError { message, .. }) => {
                    tracing::warn!(container = %id.0, error = %message, "cannot read what the engine says of a container");
                    Ok(Inspected::Unreadable)
                }
                result => result.map(|inspect| Inspected::Read(Arc::new(convert::details(inspect)))),
            }
        };
        within(INSPECT, call).await
    }
}

/// What an inspect gave. One that cannot be read leaves the details out and harms no other.
enum Inspected {
    Read(Arc<Details>),
    Gone,
    Unreadable,
}

#[cfg(test)]
mod tests {
    use super::super::{HelperImage, connect};
    use super::*;
    use crate::runtime::simulated::{Options, SimulatedEngine, Version};

    /// Found by the benchmark: with 100,000 objects each list took longer than its limit, and the engine was said not to answer.
    #[tokio::test(start_paused = true)]
    async fn a_list_of_very_many_containers_may_take_longer() {
        for (containers, seconds, answers) in [(12, 9, true), (12, 11, false), (10_000, 29, true), (10_000, 31, false)] {
            let engine = SimulatedEngine::new(Options::new(Version::V28_5));
            let dialled = engine.clone();
            let mut client = connect::connect_over("memory", move || dialled.connect()).await.unwrap();
            client.info = Arc::new(SystemInfo { containers: Some(containers), ..(*client.info).clone() });
            let runtime = DockerRuntime::new(client, "dm", HelperImage::given("helper".to_owned()));
            engine.human().suspend();
            let resumed = async {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                engine.human().resume();
            };
            let (listed, ()) = tokio::join!(runtime.list(), resumed);
            assert_eq!(listed.is_ok(), answers, "{containers} containers in {seconds} s: {:?}", listed.err());
        }
    }
}
