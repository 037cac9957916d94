//! What is in use: the disk of a container and its volumes, and the memory of a container.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::{InspectContainerOptions, ListVolumesOptions, StatsOptions};
use futures::stream::StreamExt;

use super::connect::Client;
use super::error::{classify, within};
use crate::observed::{ContainerId, TaskResult};

/// The limit of a quick call.
const CALL: Duration = Duration::from_secs(30);
/// The limit of a measurement of disk use.
const MEASURE: Duration = Duration::from_secs(120);
/// The newest version of the Engine API in which the figures of volumes have the form that older ones have too.
const FORM: (u16, u16) = (1, 44);

/// The container's writable layer, as the engine counts it, and the named volumes: measured where their directories can be read from here,
/// else as the engine counts them, which walks all volumes that it has.
pub async fn disk(client: &Client, id: &ContainerId, volumes: &[String]) -> Result<TaskResult, String> {
    let options = InspectContainerOptions { size: true };
    let inspect = within(MEASURE, client.docker.inspect_container(&id.0, Some(options))).await.map_err(|error| error.to_string())?;
    let mut used = inspect.size_rw.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default();
    let mut hidden = Vec::new();
    for name in volumes {
        match measured(client, name).await? {
            Some(bytes) => used += bytes,
            None => hidden.push(name),
        }
    }
    if !hidden.is_empty() {
        let told = of_volumes(client).await?;
        for name in hidden {
            used += told.get(name).ok_or_else(|| format!("the engine has no figure for volume {name}"))?;
        }
    }
    Ok(TaskResult::Disk(used))
}

/// What a volume has on disk; `None`: its directory cannot be read from here.
async fn measured(client: &Client, name: &str) -> Result<Option<u64>, String> {
    if !client.local {
        return Ok(None);
    }
    let volume = within(CALL, client.docker.inspect_volume(name)).await.map_err(|error| error.to_string())?;
    let walk = tokio::task::spawn_blocking(move || allocated(Path::new(&volume.mountpoint)));
    walk.await.map_err(|error| error.to_string())
}

/// The bytes that a tree has on disk; what cannot be read in it counts nothing, links are not followed, other file systems not entered.
/// `None`: the tree itself cannot be read.
fn allocated(root: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    let device = std::fs::symlink_metadata(root).ok()?.dev();
    std::fs::read_dir(root).ok()?;
    let (mut todo, mut seen, mut bytes) = (vec![root.to_owned()], std::collections::BTreeSet::new(), 0);
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.dev() != device {
                continue;
            }
            // A file with several names is one.
            if metadata.nlink() == 1 || metadata.is_dir() || seen.insert(metadata.ino()) {
                bytes += metadata.blocks() * 512;
            }
            if metadata.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    Some(bytes)
}

/// What the engine says that its volumes use, by name.
async fn of_volumes(client: &Client) -> Result<BTreeMap<String, u64>, String> {
    let version = client.api.min(FORM);
    let docker = asking_for_use(&client.docker, &format!("/v{}.{}", version.0, version.1), "volume");
    let reply = within(MEASURE, docker.list_volumes(None::<ListVolumesOptions>)).await.map_err(|error| error.to_string())?;
    let used = |volume: bollard::models::Volume| Some((volume.name, u64::try_from(volume.usage_data?.size).ok()?));
    Ok(reply.volumes.unwrap_or_default().into_iter().filter_map(used).collect())
}

/// A connection whose listing of volumes is one with what they use: `GET /system/df` in the form that all engines know, which bollard does not.
pub fn asking_for_use(docker: &Docker, version: &str, kind: &str) -> Docker {
    let path = format!("{version}/system/df?type={kind}");
    docker.clone().with_request_modifier(move |mut request| {
        let base: String = request.uri().to_string().split('/').take(3).collect::<Vec<_>>().join("/");
        if let Ok(uri) = format!("{base}{path}").parse() {
            *request.uri_mut() = uri;
        }
        request
    })
}

/// The memory in use, without what the kernel can drop at any time.
pub async fn memory(client: &Client, id: &ContainerId) -> Result<TaskResult, String> {
    let stats = stats(client, id).await?.memory_stats.unwrap_or_default();
    let files = stats.stats.unwrap_or_default();
    // By the first name where the kernel has control groups of version 1.
    let droppable = files.get("total_inactive_file").or_else(|| files.get("inactive_file")).copied().unwrap_or_default();
    Ok(TaskResult::Memory(stats.usage.unwrap_or_default().saturating_sub(droppable)))
}

/// The engine's statistics of a container, taken once.
pub async fn stats(client: &Client, id: &ContainerId) -> Result<bollard::models::ContainerStatsResponse, String> {
    let options = StatsOptions { stream: false, one_shot: true };
    let mut stats = Box::pin(client.docker.stats(&id.0, Some(options)));
    let reply = tokio::time::timeout(CALL, stats.next()).await.map_err(|_| "the engine gave no statistics".to_owned())?;
    reply.ok_or("the engine gave no statistics")?.map_err(|error| classify(error).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_measured_by_what_it_has_on_disk() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir(tree.path().join("sub")).unwrap();
        std::fs::write(tree.path().join("sub/a"), vec![1; 1 << 20]).unwrap();
        std::fs::hard_link(tree.path().join("sub/a"), tree.path().join("b")).unwrap();
        let bytes = allocated(tree.path()).unwrap();
        assert!(((1 << 20)..(1 << 20) + 65_536).contains(&bytes), "{bytes}");
        assert_eq!(allocated(&tree.path().join("absent")), None, "the engine is asked then");
    }
}
