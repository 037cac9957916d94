//! What the engine is and can do: for the planner, and for `doctor`.

use std::path::Path;
use std::time::Duration;

use bollard::models::SystemInfo;
use jiff::{SignedDuration, Timestamp};

use super::connect::Client;
use super::error::within;
use crate::planner::Capabilities;
use crate::runtime::Error;

const CALL: Duration = Duration::from_secs(30);

/// An engine, for people.
#[derive(Clone, Debug)]
pub struct EngineFacts {
    /// Docker's version.
    pub version: String,
    /// The newest API version that it speaks.
    pub api: (u16, u16),
    /// Its id.
    pub id: String,
    /// Its host's name.
    pub name: String,
    /// Operating system and architecture: `linux/x86_64`.
    pub platform: String,
    /// Storage driver, with its backing file system: `overlay2 on extfs`.
    pub storage: String,
    /// Whether it enforces disk limits.
    pub disk_limit: bool,
    /// Where its data is.
    pub root: String,
    /// Free and all bytes of the file system of its data; `None` where that is another host's.
    pub disk: Option<(u64, u64)>,
    /// `v2 (systemd)`.
    pub cgroup: String,
    /// CPUs.
    pub cpus: i64,
    /// Bytes of memory.
    pub memory: i64,
    /// Its clock less ours.
    pub clock_skew: SignedDuration,
    /// Containers running, and all.
    pub containers: (i64, i64),
    /// What it warns of itself.
    pub warnings: Vec<String>,
}

impl Client {
    /// What the planner must know of an engine that said this of itself.
    pub fn capabilities(&self, info: &SystemInfo) -> Capabilities {
        Capabilities {
            api: self.api,
            nano_cpus: info.ncpu.unwrap_or_default().saturating_mul(1_000_000_000),
            local: self.local,
            disk_limit: self.disk_limit(info),
        }
    }

    /// What people want to know of the engine.
    pub async fn facts(&self) -> Result<EngineFacts, Error> {
        let version = within(CALL, self.docker.version()).await?;
        let asked = Timestamp::now();
        let info = within(CALL, self.docker.info()).await?;
        // Its clock was read at some time between question and answer.
        let ours = asked + Timestamp::now().duration_since(asked) / 2;
        let theirs = info.system_time.as_deref().and_then(|text| text.parse::<Timestamp>().ok()).unwrap_or(ours);
        let disk_limit = self.disk_limit(&info);
        let backing = backing(&info);
        let driver = info.driver.unwrap_or_default();
        let root = info.docker_root_dir.unwrap_or_default();
        let cgroup = |version: Option<String>, driver: Option<String>| format!("v{} ({})", version.unwrap_or_default(), driver.unwrap_or_default());
        Ok(EngineFacts {
            version: version.version.unwrap_or_default(),
            api: self.api,
            id: info.id.unwrap_or_default(),
            name: info.name.unwrap_or_default(),
            platform: format!("{}/{}", info.os_type.unwrap_or_default(), info.architecture.unwrap_or_default()),
            storage: if backing.is_empty() { driver } else { format!("{driver} on {backing}") },
            disk_limit,
            disk: self.local.then(|| space(&root)).flatten(),
            root,
            cgroup: cgroup(info.cgroup_version.map(|word| word.to_string()), info.cgroup_driver.map(|word| word.to_string())),
            cpus: info.ncpu.unwrap_or_default(),
            memory: info.mem_total.unwrap_or_default(),
            clock_skew: theirs.duration_since(ours),
            containers: (info.containers_running.unwrap_or_default(), info.containers.unwrap_or_default()),
            warnings: info.warnings.unwrap_or_default(),
        })
    }

    /// Whether the storage driver enforces a size for each container: some always do, overlay2 only over xfs that is mounted with project
    /// quotas, which is seen from here only on this host.
    fn disk_limit(&self, info: &SystemInfo) -> bool {
        match info.driver.as_deref() {
            Some("btrfs" | "zfs" | "devicemapper") => true,
            Some("overlay2") if self.local && backing(info) == "xfs" => {
                let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
                has_project_quota(&mounts, info.docker_root_dir.as_deref().unwrap_or_default())
            }
            Some(_) | None => false,
        }
    }
}

fn backing(info: &SystemInfo) -> String {
    let pairs = info.driver_status.iter().flatten();
    pairs.filter(|pair| pair.first().is_some_and(|key| key == "Backing Filesystem")).filter_map(|pair| pair.get(1).cloned()).next().unwrap_or_default()
}

/// Whether the file system of that directory is mounted with project quotas, by the table of mounts.
fn has_project_quota(mountinfo: &str, directory: &str) -> bool {
    let mounts = mountinfo.lines().filter_map(|line| {
        let point = line.split(' ').nth(4)?;
        Path::new(directory).starts_with(point).then_some((point.len(), line))
    });
    let options = mounts.max_by_key(|(length, _)| *length).and_then(|(_, line)| line.rsplit(' ').next());
    options.is_some_and(|options| options.split(',').any(|option| option == "prjquota" || option == "pquota"))
}

fn space(directory: &str) -> Option<(u64, u64)> {
    let stat = rustix::fs::statvfs(directory).ok()?;
    Some((stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn project_quotas_are_read_of_the_nearest_mount() {
        let table = "21 1 8:1 / / rw - ext4 /dev/a rw,prjquota\n30 21 8:2 / /var/lib/docker rw,noatime shared:1 - xfs /dev/b rw,attr2,prjquota\n";
        assert!(has_project_quota(table, "/var/lib/docker/overlay2"));
        assert!(!has_project_quota(&table.replace("attr2,prjquota", "attr2,noquota"), "/var/lib/docker"));
        assert!(has_project_quota(table, "/srv"));
    }
}
