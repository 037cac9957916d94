//! One operator per engine and installation, held by the engine itself.
//!
//! The lock is the container `<installation>-lock`: its name is the mutex, since Docker gives a name to one container only. It reads
//! standard input, which its holder keeps open by an attached connection. When the holder ends, however it ends, the engine closes
//! that input, the container exits and removes itself, and whoever waits gets the name.
//!
//! **Invariant:** a holder that loses its connection learns it, by [`Lock::lost`], and must not change anything from then on.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use bollard::container::{AttachContainerResults, LogOutput};
use bollard::models::{ContainerCreateBody, ContainerInspectResponse, HostConfig};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, InspectContainerOptions, RemoveContainerOptionsBuilder, StartContainerOptions,
    WaitContainerOptionsBuilder,
};
use futures::StreamExt;
use tokio::io::AsyncWrite;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::connect::Client;
use super::error::{classify, status, within};
use super::helper_image::HelperImage;
use crate::desired::{Role, naming};
use crate::runtime::{Error, Refusal};

const HOST: &str = "dockmaster.host";
const PID: &str = "dockmaster.pid";
const STARTED: &str = "dockmaster.started";
const STATE: &str = "dockmaster.state-dir";

const CALL: Duration = Duration::from_secs(30);
/// How long the container may take from its start to saying that it holds.
const HELD: Duration = Duration::from_secs(30);
/// A container that does not run for so long belongs to nobody: between creation and start a holder needs far less.
const LEFT_OVER: Duration = Duration::from_secs(5);
/// How often a lock that is neither held nor free is looked at.
const SETTLING: Duration = Duration::from_millis(100);
/// How often a held one is looked at, besides being told of its end.
const LOOK: Duration = Duration::from_secs(30);

/// Who holds the lock, for those who wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The host's name.
    pub host: String,
    /// The process on that host.
    pub pid: u32,
    /// When the process started, RFC 3339.
    pub started: String,
    /// Its state directory.
    pub state_dir: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Holder { host, pid, started, state_dir } = self;
        write!(f, "process {pid} on host {host}, started {started}, with state directory {state_dir}")
    }
}

impl Holder {
    fn labels(&self, installation: &str) -> HashMap<String, String> {
        let pairs = [
            (naming::INSTALLATION, installation.to_owned()),
            (naming::ROLE, Role::Helper.as_str().to_owned()),
            (HOST, self.host.clone()),
            (PID, self.pid.to_string()),
            (STARTED, self.started.clone()),
            (STATE, self.state_dir.clone()),
        ];
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// Whoever made a container; `None`: it is no lock of this installation.
    fn of(container: &ContainerInspectResponse, installation: &str) -> Option<Self> {
        let labels = container.config.as_ref()?.labels.as_ref()?;
        let label = |key: &str| labels.get(key).cloned();
        (label(naming::INSTALLATION)? == installation && label(naming::ROLE)? == Role::Helper.as_str()).then_some(())?;
        Some(Self { host: label(HOST)?, pid: label(PID)?.parse().ok()?, started: label(STARTED)?, state_dir: label(STATE)? })
    }
}

/// The right to change things on an engine for an installation. Dropping it gives it up.
pub struct Lock {
    client: Client,
    container: String,
    lost: CancellationToken,
    watch: JoinHandle<()>,
    /// While this is open, the container runs.
    _input: Pin<Box<dyn AsyncWrite + Send>>,
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("container", &self.container).field("lost", &self.lost.is_cancelled()).finish_non_exhaustive()
    }
}

impl Lock {
    /// Takes the lock, waiting for as long as another holds it; `on_wait` is told who, once for each that is waited for.
    /// Dropping the future gives up; what it left is cleaned up by whoever takes the lock next.
    ///
    /// # Errors
    /// `NameConflict` when the container of that name is not a lock; else what the engine says.
    pub async fn acquire(client: &Client, installation: &str, helper: &HelperImage, own: &Holder, on_wait: impl Fn(&Holder)) -> Result<Self, Error> {
        let name = naming::lock_container(installation);
        let mut waiting_for = None;
        let mut idle: Option<(String, Instant)> = None;
        loop {
            match look(client, &name).await? {
                None => match Self::take(client, installation, helper, own).await {
                    Ok(Some(lock)) => return Ok(lock),
                    Ok(None) => tokio::time::sleep(SETTLING).await,
                    Err(error) => return Err(error),
                },
                Some(there) => {
                    let id = there.id.clone().unwrap_or_default();
                    let holder = Holder::of(&there, installation).ok_or_else(|| conflict(&name))?;
                    if there.state.as_ref().and_then(|state| state.running) == Some(true) {
                        idle = None;
                        if waiting_for.as_ref() != Some(&id) {
                            on_wait(&holder);
                            waiting_for = Some(id.clone());
                        }
                        ended(client, &id, LOOK).await;
                        continue;
                    }
                    match &idle {
                        Some((known, since)) if *known == id && since.elapsed() > LEFT_OVER => remove(client, &id).await?,
                        Some((known, _)) if *known == id => {}
                        Some(_) | None => idle = Some((id, Instant::now())),
                    }
                    tokio::time::sleep(SETTLING).await;
                }
            }
        }
    }

    /// Who holds the lock now, if anybody.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn holder(client: &Client, installation: &str) -> Result<Option<Holder>, Error> {
        let there = look(client, &naming::lock_container(installation)).await?;
        let held = there.filter(|container| container.state.as_ref().and_then(|state| state.running) == Some(true));
        Ok(held.and_then(|container| Holder::of(&container, installation)))
    }

    /// Tries once; `None`: another was faster.
    async fn take(client: &Client, installation: &str, helper: &HelperImage, own: &Holder) -> Result<Option<Self>, Error> {
        let image = helper.ensure(client).await?;
        let name = naming::lock_container(installation);
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        let container = match within(CALL, client.docker.create_container(Some(options), body(image, own.labels(installation)))).await {
            Ok(created) => created.id,
            Err(Error::Rejected { reason: Refusal::NameConflict, .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        match Self::hold(client, &container).await {
            Ok(lock) => Ok(Some(lock)),
            Err(error) => {
                remove(client, &container).await?;
                Err(error)
            }
        }
    }

    /// Attaches to the container that this process just made, starts it, and waits until it says that it reads.
    async fn hold(client: &Client, container: &str) -> Result<Self, Error> {
        let options = AttachContainerOptionsBuilder::default().stream(true).stdin(true).stdout(true).stderr(true).build();
        let AttachContainerResults { mut output, input } = within(CALL, client.docker.attach_container(container, Some(options))).await?;
        within(CALL, client.docker.start_container(container, None::<StartContainerOptions>)).await?;
        let mut said = String::new();
        let locked = async {
            while let Some(Ok(LogOutput::StdOut { message } | LogOutput::StdErr { message } | LogOutput::Console { message })) = output.next().await {
                said.push_str(&String::from_utf8_lossy(&message));
                if said.lines().any(|line| line == "locked") {
                    return true;
                }
            }
            false
        };
        if tokio::time::timeout(HELD, locked).await != Ok(true) {
            return Err(Error::Transient(format!("the lock's container {container} did not hold: {}", said.trim())));
        }
        let lost = CancellationToken::new();
        let watch = tokio::spawn({
            let lost = lost.clone();
            async move {
                while let Some(Ok(_)) = output.next().await {}
                lost.cancel();
            }
        });
        Ok(Self { client: client.clone(), container: container.to_owned(), lost, watch, _input: input })
    }

    /// Ready once the lock is not held any more: the container ended, or the connection to the engine did.
    pub fn lost(&self) -> WaitForCancellationFutureOwned {
        self.lost.clone().cancelled_owned()
    }

    /// Gives the lock up, and waits up to 5 s until another can have it.
    pub async fn release(self) {
        let (client, container) = (self.client.clone(), self.container.clone());
        drop(self);
        ended(&client, &container, LEFT_OVER).await;
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // With the reader and the input gone the connection closes, and the engine ends the container.
        self.watch.abort();
    }
}

fn body(image: String, labels: HashMap<String, String>) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(image),
        cmd: Some(vec!["lock".to_owned()]),
        labels: Some(labels),
        user: Some("65534:65534".to_owned()),
        open_stdin: Some(true),
        stdin_once: Some(true),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        // It has nothing to finish, and as process 1 it would not hear SIGTERM.
        stop_signal: Some("SIGKILL".to_owned()),
        host_config: Some(HostConfig {
            auto_remove: Some(true),
            network_mode: Some("none".to_owned()),
            readonly_rootfs: Some(true),
            cap_drop: Some(vec!["ALL".to_owned()]),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            pids_limit: Some(16),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

async fn look(client: &Client, name: &str) -> Result<Option<ContainerInspectResponse>, Error> {
    let looked = async {
        match client.docker.inspect_container(name, None::<InspectContainerOptions>).await {
            Ok(container) => Ok(Some(container)),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    };
    within(CALL, looked).await
}

/// Waits until a container is gone, or for so long; the caller looks again in any case.
async fn ended(client: &Client, container: &str, limit: Duration) {
    let options = WaitContainerOptionsBuilder::default().condition("removed").build();
    let mut gone = client.docker.wait_container(container, Some(options)).boxed();
    let wait = async { while let Some(Ok(_)) = gone.next().await {} };
    if tokio::time::timeout(limit, wait).await.is_err() {
        tracing::debug!(%container, "the lock is still held");
    }
}

async fn remove(client: &Client, container: &str) -> Result<(), Error> {
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    match tokio::time::timeout(CALL, client.docker.remove_container(container, Some(options))).await {
        Ok(Ok(())) => Ok(()),
        // Gone, or going.
        Ok(Err(error)) if matches!(status(&error), Some(404 | 409)) => Ok(()),
        Ok(Err(error)) => Err(classify(error)),
        Err(_) => Err(Error::Unknown(format!("the removal of {container} took too long"))),
    }
}

fn conflict(name: &str) -> Error {
    Error::Rejected {
        reason: Refusal::NameConflict,
        message: format!("the container {name} is not a lock of dockmaster's: rename or remove it, or choose another --installation"),
    }
}
