//! The engine's events, as changes of our objects.
//!
//! One stream for containers, networks and volumes with an explicit list of events; a label filter would drop those of networks and
//! volumes, so events are matched against what is known to be ours. Events are hints: after each connection everything is to be looked
//! at again. The reader never waits for a consumer, because an engine waits for a reader that does not read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bollard::models::{EventMessage, EventMessageTypeEnum as Type};
use bollard::query_parameters::EventsOptions;
use futures::stream::StreamExt;
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::connect::Client;
use super::error::{classify, within};
use super::memory::Memory;
use super::{DockerRuntime, convert, lock};
use crate::observed::ContainerId;
use crate::runtime::{Change, Error};

/// What is asked for. The engine compares beginnings as soon as `health_status` is among them; none of these begins an `exec_` event.
const EVENTS: [&str; 12] = ["create", "start", "die", "oom", "destroy", "rename", "update", "pause", "unpause", "health_status", "connect", "disconnect"];
/// A stream that is quiet for so long is doubted: the engine must answer.
const QUIET: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_secs(10);
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// What the reader needs; it holds nothing that would keep the runtime alive.
pub struct Reader {
    client: Client,
    installation: String,
    memory: Arc<Mutex<Memory>>,
    changes: broadcast::Sender<Change>,
}

impl DockerRuntime {
    pub(super) fn reader(&self) -> Reader {
        Reader { client: self.client.clone(), installation: self.installation.clone(), memory: self.memory.clone(), changes: self.changes.clone() }
    }
}

/// Reads until it is dropped: `Lost` while the engine is away, `Resync` after each connection.
pub async fn read(reader: Reader) {
    let mut retry = FIRST_RETRY;
    let mut away = false;
    loop {
        let ended = reader.follow(&mut retry, &mut away).await;
        lock(&reader.memory).live = false;
        if !away {
            away = true;
            tracing::warn!(host = %reader.client.host, error = %ended, "the engine's event stream ended");
            reader.tell(Change::Lost(ended.to_string()));
        }
        tokio::time::sleep(retry).await;
        retry = (retry * 2).min(LAST_RETRY);
    }
}

impl Reader {
    /// Connects and reads to the end of the stream; says why it ended.
    async fn follow(&self, retry: &mut Duration, away: &mut bool) -> Error {
        // The stream begins at the engine's present, so that nothing falls between it and the listing that follows.
        let info = match within(ANSWER, self.client.docker.info()).await {
            Ok(info) => info,
            Err(error) => return error,
        };
        let filters = convert::filters([
            ("type", vec!["container".to_owned(), "network".to_owned(), "volume".to_owned()]),
            ("event", EVENTS.iter().map(|event| (*event).to_owned()).collect()),
        ]);
        let since = info.system_time.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let since = since.map(|instant| format!("{}.{:09}", instant.as_second(), instant.subsec_nanosecond()));
        let mut events = Box::pin(self.client.docker.events(Some(EventsOptions { since, filters: Some(filters), ..Default::default() })));
        {
            let mut memory = lock(&self.memory);
            memory.info = Arc::new(info);
            memory.live = true;
            memory.forget_details();
        }
        *retry = FIRST_RETRY;
        *away = false;
        self.tell(Change::Resync);
        let mut heard = Instant::now();
        loop {
            match tokio::time::timeout_at(heard + QUIET, events.next()).await {
                Ok(Some(Ok(event))) => self.take(event),
                Ok(Some(Err(error))) => return classify(error),
                Ok(None) => return Error::Transient("the engine closed the event stream".to_owned()),
                Err(_) => {
                    // The answer to a list is as good a sign of life as an event.
                    if let Some(answered) = lock(&self.memory).answered.filter(|answered| *answered > heard) {
                        heard = answered;
                        continue;
                    }
                    if let Err(error) = within(ANSWER, self.client.docker.ping()).await {
                        return error;
                    }
                }
            }
            heard = Instant::now();
        }
    }

    fn take(&self, event: EventMessage) {
        let (Some(kind), Some(actor)) = (event.typ, event.actor) else { return };
        let Some(id) = actor.id else { return };
        let attributes: BTreeMap<String, String> = actor.attributes.unwrap_or_default().into_iter().collect();
        let object = {
            let mut memory = lock(&self.memory);
            if kind == Type::CONTAINER {
                let id = ContainerId(id);
                memory.touch(&id);
                memory.of_container(&self.installation, &id, &attributes)
            } else if kind == Type::NETWORK {
                let container = attributes.get("container").map(|id| ContainerId(id.clone()));
                let joined = container.and_then(|container| {
                    memory.touch(&container);
                    memory.of_container(&self.installation, &container, &BTreeMap::new())
                });
                // Which of our containers are on a network is theirs to tell; another's may keep it from going.
                joined.or_else(|| memory.of_network(&id)).or_else(|| memory.of_network(attributes.get("name")?))
            } else if kind == Type::VOLUME {
                memory.of_volume(&id)
            } else {
                None
            }
        };
        if let Some(object) = object {
            self.tell(Change::Object(object));
        }
    }

    fn tell(&self, change: Change) {
        // Nobody listening is no failure.
        drop(self.changes.send(change));
    }
}
