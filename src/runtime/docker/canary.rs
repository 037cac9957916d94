//! A canary: a network, a volume and a container of the helper image, made, seen to run, and removed again.
//!
//! It shows that the engine can do what the operator will ask of it. Its names are no workspace's, and its labels say of no object that it is
//! theirs, so nothing else of dockmaster ever takes it for one of its own.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfig, Ipam, IpamConfig, Mount, MountType, NetworkCreateRequest, VolumeCreateRequest};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, InspectNetworkOptions, RemoveContainerOptionsBuilder, RemoveVolumeOptions, StartContainerOptions,
    StopContainerOptionsBuilder,
};

use super::connect::Client;
use super::error::{classify, status, within};
use super::helper_image::HelperImage;
use crate::desired::{Role, naming};
use crate::runtime::Error;

const CALL: Duration = Duration::from_secs(30);

/// A canary that failed: at which step, and what it left behind.
#[derive(Debug, thiserror::Error)]
#[error("to {step}: {error}{}", left_behind(.left))]
pub struct CanaryError {
    /// What was tried.
    pub step: &'static str,
    /// What the engine said.
    #[source]
    pub error: Error,
    /// What could not be removed.
    pub left: Vec<String>,
}

fn left_behind(what: &[String]) -> String {
    if what.is_empty() { String::new() } else { format!("; left behind: {}", what.join(", ")) }
}

/// The name of the canary's container, network and volume.
pub fn name(installation: &str) -> String {
    format!("{installation}-doctor")
}

/// Sends the canary, with a network of that subnet. What it made goes again, however it ends, unless the future is dropped; then the next one
/// removes it. One at a time.
///
/// # Errors
/// The first step that failed.
pub async fn send(client: &Client, installation: &str, helper: &HelperImage, subnet: &str, stop: impl Future) -> Result<(), CanaryError> {
    let name = name(installation);
    let failed = |step| move |error| CanaryError { step, error, left: Vec::new() };
    let canary = Canary { client, labels: labels(installation), name };
    canary.remove().await.map_err(failed("remove what an earlier test left"))?;
    let flown = tokio::select! {
        flown = canary.fly(helper, subnet) => flown,
        _ = stop => Err(CanaryError { step: "finish", error: Error::Transient("interrupted".to_owned()), left: Vec::new() }),
    };
    let gone = canary.remove().await;
    match (flown, gone) {
        (flown, Ok(())) => flown,
        (Ok(()), Err(error)) => Err(CanaryError { step: "remove it", error, left: vec![canary.name] }),
        (Err(first), Err(_)) => Err(CanaryError { left: vec![canary.name], ..first }),
    }
}

fn labels(installation: &str) -> HashMap<String, String> {
    [(naming::INSTALLATION, installation), (naming::ROLE, Role::Helper.as_str())].map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

struct Canary<'a> {
    client: &'a Client,
    labels: HashMap<String, String>,
    name: String,
}

impl Canary<'_> {
    async fn fly(&self, helper: &HelperImage, subnet: &str) -> Result<(), CanaryError> {
        let failed = |step| move |error| CanaryError { step, error, left: Vec::new() };
        let docker = &self.client.docker;
        let image = helper.ensure(self.client).await.map_err(failed("make the helper image"))?;
        within(CALL, docker.create_network(self.network(subnet))).await.map_err(failed("create a network"))?;
        let volume = VolumeCreateRequest { name: Some(self.name.clone()), labels: Some(self.labels.clone()), ..VolumeCreateRequest::default() };
        let volume = within(CALL, docker.create_volume(volume)).await.map_err(failed("create a volume"))?;
        if volume.labels != self.labels {
            // The engine gives the one that is there.
            return Err(failed("create a volume")(Error::Transient(format!("{} exists and is not of dockmaster's making", self.name))));
        }
        let options = CreateContainerOptionsBuilder::default().name(&self.name).build();
        within(CALL, docker.create_container(Some(options), self.container(image))).await.map_err(failed("create a container"))?;
        within(CALL, docker.start_container(&self.name, None::<StartContainerOptions>)).await.map_err(failed("start a container"))?;
        let seen = within(CALL, docker.inspect_container(&self.name, None::<InspectContainerOptions>)).await.map_err(failed("look at a container"))?;
        if seen.state.as_ref().and_then(|state| state.running) != Some(true) {
            let why = seen.state.and_then(|state| state.error).filter(|text| !text.is_empty()).unwrap_or_else(|| "it ended at once".to_owned());
            return Err(failed("keep a container running")(Error::Transient(why)));
        }
        let on_network = seen.network_settings.and_then(|settings| settings.networks).is_some_and(|networks| networks.contains_key(&self.name));
        let mounted = seen.mounts.unwrap_or_default().iter().any(|mount| mount.name.as_ref() == Some(&self.name));
        if !on_network || !mounted {
            return Err(failed("see a container with its network and volume")(Error::Transient("one of them is missing".to_owned())));
        }
        let options = StopContainerOptionsBuilder::default().t(1).build();
        within(CALL, docker.stop_container(&self.name, Some(options))).await.map_err(failed("stop a container"))
    }

    fn network(&self, subnet: &str) -> NetworkCreateRequest {
        let ipam = IpamConfig { subnet: Some(subnet.to_owned()), ..IpamConfig::default() };
        NetworkCreateRequest {
            name: self.name.clone(),
            driver: Some("bridge".to_owned()),
            ipam: Some(Ipam { config: Some(vec![ipam]), ..Ipam::default() }),
            labels: Some(self.labels.clone()),
            ..NetworkCreateRequest::default()
        }
    }

    fn container(&self, image: String) -> ContainerCreateBody {
        let text = |text: &str| text.to_owned();
        let volume = Mount { target: Some(text("/canary")), source: Some(self.name.clone()), typ: Some(MountType::VOLUME), ..Mount::default() };
        ContainerCreateBody {
            image: Some(image),
            cmd: Some(["static", "--root", "/canary", "--port", "8080"].map(text).into()),
            labels: Some(self.labels.clone()),
            user: Some(text("65534:65534")),
            host_config: Some(HostConfig {
                network_mode: Some(self.name.clone()),
                mounts: Some(vec![volume]),
                init: Some(true),
                readonly_rootfs: Some(true),
                cap_drop: Some(vec![text("ALL")]),
                security_opt: Some(vec![text("no-new-privileges")]),
                memory: Some(64 << 20),
                pids_limit: Some(64),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        }
    }

    /// Removes what has the canary's name and labels; what is not there is gone.
    async fn remove(&self) -> Result<(), Error> {
        let docker = &self.client.docker;
        let mine = |labels: Option<HashMap<String, String>>| labels.is_some_and(|labels| self.labels.iter().all(|(key, value)| labels.get(key) == Some(value)));
        if let Some(container) = there(docker.inspect_container(&self.name, None::<InspectContainerOptions>)).await?
            && mine(container.config.and_then(|config| config.labels))
        {
            let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
            there(docker.remove_container(&self.name, Some(options))).await?;
        }
        if let Some(network) = there(docker.inspect_network(&self.name, None::<InspectNetworkOptions>)).await?
            && mine(network.labels)
        {
            there(docker.remove_network(&network.id.unwrap_or_default())).await?;
        }
        if let Some(volume) = there(docker.inspect_volume(&self.name)).await?
            && mine(Some(volume.labels))
        {
            there(docker.remove_volume(&self.name, None::<RemoveVolumeOptions>)).await?;
        }
        Ok(())
    }
}

/// The answer, or none where there is no such thing.
async fn there<T>(call: impl Future<Output = Result<T, bollard::errors::Error>>) -> Result<Option<T>, Error> {
    match tokio::time::timeout(CALL, call).await {
        Ok(Ok(answer)) => Ok(Some(answer)),
        Ok(Err(error)) if status(&error) == Some(404) => Ok(None),
        Ok(Err(error)) => Err(classify(error)),
        Err(_) => Err(Error::Unknown(format!("no reply within {} s", CALL.as_secs()))),
    }
}
