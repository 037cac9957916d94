//! What an operator remembers of its engine, told to a command that would ask for all of it again.
//!
//! Both are on one host and use one socket, which is compared by what it is: one path may lead to two engines.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use bollard::models::SystemInfo;
use serde::{Deserialize, Serialize};

use super::DockerRuntime;
use super::connect::Address;
use super::helper_image::HelperImage;
use super::memory::{Memory, Seen};
use crate::observed::{ContainerId, Details};
use crate::runtime::Error;

/// What is told.
#[derive(Serialize)]
struct Told<'a> {
    /// Of dockmaster: another may mean something else by the same words.
    version: &'a str,
    host: &'a str,
    socket: (u64, u64),
    api: (u16, u16),
    info: &'a SystemInfo,
    details: Vec<(&'a ContainerId, &'a Seen, &'a Details)>,
}

/// The same as it is heard.
#[derive(Deserialize)]
struct Heard {
    version: String,
    host: String,
    socket: (u64, u64),
    api: (u16, u16),
    info: SystemInfo,
    details: Vec<(ContainerId, Seen, Details)>,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// File system and inode of a host's socket; `None`: it is at the end of a network, or cannot be seen.
fn socket(host: &str) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(host.strip_prefix("unix://")?).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

impl DockerRuntime {
    /// What still holds, as JSON; nothing where nothing does.
    pub(super) fn tell(&self) -> Option<Vec<u8>> {
        let (info, read) = self.memory().holding()?;
        let details = read.iter().map(|(id, seen, details)| (id, seen, details.as_ref())).collect();
        let told = Told { version: VERSION, host: &self.client.host, socket: socket(&self.client.host)?, api: self.client.api, info: &info, details };
        serde_json::to_vec(&told).ok()
    }

    /// The engine at `host`, or where [`connect`](super::connect::connect) finds one, as another process told it: it is not asked again. `None`: that
    /// process has another engine, knows nothing that holds, or is of another version.
    ///
    /// # Errors
    /// `Rejected` for an address that may not be used. Whether the engine answers shows at the first look.
    pub fn of(told: &[u8], host: Option<&str>, installation: &str, helper: HelperImage) -> Result<Option<Self>, Error> {
        let address = Address::of(host);
        let heard = serde_json::from_slice(told).ok();
        let of_this = |heard: &Heard| heard.version == VERSION && heard.host == address.host && Some(heard.socket) == socket(&address.host);
        let Some(Heard { api, info, details, .. }) = heard.filter(of_this) else { return Ok(None) };
        let runtime = Self::new(address.client(address.open()?, api, info), installation, helper);
        let details = details.into_iter().map(|(id, seen, details)| (id, seen, Arc::new(details))).collect();
        let memory = Memory::of(runtime.client.info.clone(), details);
        *runtime.memory() = memory;
        Ok(Some(runtime))
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::super::connect;
    use super::*;
    use crate::runtime::simulated::{Options, SimulatedEngine, Version};
    use crate::runtime::{Change, ContainerRuntime};
    use futures::StreamExt;

    fn helper() -> HelperImage {
        HelperImage::given("helper".to_owned())
    }

    #[tokio::test]
    async fn only_who_has_the_same_engine_and_version_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let host = |name: &str| format!("unix://{}", folder.path().join(name).display());
        let engine = SimulatedEngine::new(Options::new(Version::V28_5));
        let served: Vec<_> = ["one", "two"]
            .map(|name| {
                let (engine, listener) = (engine.clone(), tokio::net::UnixListener::bind(folder.path().join(name)).unwrap());
                tokio::spawn(async move { engine.serve(listener, CancellationToken::new()).await })
            })
            .into();
        let operator = DockerRuntime::new(connect::connect(Some(&host("one"))).await.unwrap(), "dm", helper());
        assert_eq!(operator.known(), None, "nothing holds without the stream");
        assert_eq!(operator.changes().next().await, Some(Change::Resync));
        let told = operator.known().unwrap();
        let believed = |told: &[u8], at: &str| DockerRuntime::of(told, Some(&host(at)), "dm", helper()).unwrap();
        let command = believed(&told, "one").unwrap();
        assert_eq!((command.client().engine(), command.client().api), (operator.client().engine(), operator.client().api));
        assert_eq!(command.observe().await.unwrap().engine, operator.client().engine());
        assert!(believed(&told, "two").is_none(), "another address");
        for other in ["", "null", "{}"] {
            assert!(believed(other.as_bytes(), "one").is_none(), "{other}");
        }
        let older = String::from_utf8(told.clone()).unwrap().replacen(VERSION, "0.0.1", 1);
        assert!(believed(older.as_bytes(), "one").is_none(), "another version");
        // Another engine in the place of the first.
        std::fs::rename(folder.path().join("two"), folder.path().join("one")).unwrap();
        assert!(believed(&told, "one").is_none(), "another socket");
        served.into_iter().for_each(|server| server.abort());
    }
}
