//! Mounts and the volumes behind them: whose a volume is, and which directories of the host may be seen.
//!
//! Paths are compared after they were cleaned of `.` and `..` and, where the operator sees the engine's host, of links; what is mounted is
//! where they lead. Whoever can exchange a directory between that look and the mount can still show another, so `--host-path` should name
//! directories that only trusted users write.

use std::collections::BTreeSet;

use super::lower::Workload;
use super::merge::invalid;
use super::{MountSource, MountWant, VolumeScope, VolumeWant, naming, security};
use crate::resource::quantity::Bytes;
use crate::resource::workspace::{Mount, ServiceVolume};
use crate::tenancy::policy;

/// The size of the `/tmp` in memory under a read-only root file system.
const TMP_SIZE: Bytes = Bytes(256 << 20);

impl Workload<'_> {
    /// The mounts of the main container by path; volumes and complaints are kept.
    pub(super) fn main_mounts(&mut self, user: Option<&str>, read_only_root: bool) -> Vec<MountWant> {
        let spec = self.spec;
        let mut mounts: Vec<MountWant> = spec.mounts.iter().filter_map(|mount| self.mount(mount, user)).collect();
        add_tmp(&mut mounts, user, read_only_root);
        mounts.sort_by(|a, b| a.path.cmp(&b.path));
        mounts
    }

    /// The mounts of a service: its volume.
    pub(super) fn service_mounts(&mut self, service: &str, volume: Option<&ServiceVolume>, user: Option<&str>, read_only_root: bool) -> Vec<MountWant> {
        let mut mounts = Vec::new();
        if let Some(volume) = volume {
            let name = naming::service_volume_name(self.around.installation, &self.object, service);
            let labels = naming::volume_labels(self.around.installation, &self.object, &self.admission.uid, service, Some(service));
            self.volumes.insert(VolumeWant { name: name.clone(), volume: service.to_owned(), scope: VolumeScope::Private, labels });
            mounts.push(MountWant { source: MountSource::Volume(name), path: volume.path.clone(), read_only: false });
        }
        add_tmp(&mut mounts, user, read_only_root);
        mounts.sort_by(|a, b| a.path.cmp(&b.path));
        mounts
    }

    fn mount(&mut self, mount: &Mount, user: Option<&str>) -> Option<MountWant> {
        let installation = self.around.installation;
        let kinds = [mount.volume.is_some(), mount.shared_volume.is_some(), mount.external_volume.is_some(), mount.host.is_some(), mount.tmpfs.is_some()];
        let path = &mount.path;
        if kinds.into_iter().filter(|set| *set).count() != 1 {
            self.fatal
                .push(invalid(format!("the mount at {path} needs exactly one of volume, sharedVolume, externalVolume, host and tmpfs; write one of them")));
            return None;
        }
        let mut read_only = mount.read_only;
        let source = if let Some(volume) = &mount.volume {
            let name = naming::volume_name(installation, &self.object, volume);
            let labels = naming::volume_labels(installation, &self.object, &self.admission.uid, volume, None);
            self.volumes.insert(VolumeWant { name: name.clone(), volume: volume.clone(), scope: VolumeScope::Private, labels });
            MountSource::Volume(name)
        } else if let Some(volume) = &mount.shared_volume {
            let name = naming::shared_volume_name(installation, self.object.ns(), volume);
            let labels = naming::shared_volume_labels(installation, self.object.ns(), volume);
            self.volumes.insert(VolumeWant { name: name.clone(), volume: volume.clone(), scope: VolumeScope::Namespace, labels });
            MountSource::Volume(name)
        } else if let Some(volume) = &mount.external_volume {
            self.external(volume, path)?
        } else if let Some(host) = &mount.host {
            read_only |= self.copies;
            MountSource::Host(self.host_path(host, path, read_only)?)
        } else {
            MountSource::Tmpfs { size: mount.tmpfs?, owner: user.and_then(security::numeric_owner) }
        };
        Some(MountWant { source, path: path.clone(), read_only })
    }

    /// A volume that exists already: by the tenant's policy, and never one that this installation made for somebody.
    fn external(&mut self, volume: &str, path: &str) -> Option<MountSource> {
        if volume.starts_with(&format!("{}-", self.around.installation)) {
            self.fatal.push(invalid(format!(
                "the external volume {volume} at {path} has a name of this operator's own; use volume or sharedVolume to mount what it manages"
            )));
            return None;
        }
        if let Err(why) = policy::external_volume(&self.policy, volume) {
            self.fatal.push(invalid(why));
            return None;
        }
        self.volumes.insert(VolumeWant { name: volume.to_owned(), volume: volume.to_owned(), scope: VolumeScope::External, labels: Default::default() });
        Some(MountSource::Volume(volume.to_owned()))
    }

    /// Where a cleaned path leads.
    fn real(&self, path: &str) -> String {
        self.around.links.get(path).cloned().unwrap_or_else(|| path.to_owned())
    }

    /// The absolute path of a directory of the host, when it may be mounted.
    fn host_path(&mut self, host: &str, path: &str, read_only: bool) -> Option<String> {
        let named = absolute(host, self.directory);
        let (own, wanted) = (self.real(&clean(self.directory)), self.real(&named));
        let shown = if wanted == named { wanted.clone() } else { format!("{named}, which leads to {wanted},") };
        if self.around.host_paths.iter().any(|root| is_below(&wanted, &self.real(&clean(root)))) {
            match policy::host_path(&self.policy, &wanted) {
                Ok(()) => return Some(wanted),
                Err(why) if !is_below(&wanted, &own) => {
                    self.fatal.push(invalid(why));
                    return None;
                }
                Err(_) => {}
            }
        }
        if !is_below(&wanted, &own) {
            self.fatal.push(invalid(format!(
                "the host directory {shown} at {path} may not be mounted; start the operator with `--host-path {wanted}`, or use a volume"
            )));
            return None;
        }
        if !read_only {
            self.fatal.push(invalid(format!(
                "the host directory {shown} at {path} lies beside the spec, where it can only be read; add `readOnly: true`, or start the operator with `--host-path {wanted}`"
            )));
            return None;
        }
        Some(wanted)
    }
}

/// The cleaned paths of the host that a spec's mounts depend on: those that it names, and its own directory.
pub fn host_paths(mounts: &[Mount], directory: &str) -> BTreeSet<String> {
    let named = mounts.iter().filter_map(|mount| mount.host.as_deref()).map(|host| absolute(host, directory));
    let own = clean(directory);
    let mut paths: BTreeSet<String> = named.collect();
    if !paths.is_empty() {
        paths.insert(own);
    }
    paths
}

/// A path of a spec, which may be relative to its own directory.
fn absolute(host: &str, directory: &str) -> String {
    if host.starts_with('/') { clean(host) } else { clean(&format!("{directory}/{host}")) }
}

/// A read-only root file system still needs a place for temporary files.
fn add_tmp(mounts: &mut Vec<MountWant>, user: Option<&str>, read_only_root: bool) {
    if read_only_root && !mounts.iter().any(|mount| mount.path.trim_end_matches('/') == "/tmp") {
        let source = MountSource::Tmpfs { size: TMP_SIZE, owner: user.and_then(security::numeric_owner) };
        mounts.push(MountWant { source, path: "/tmp".to_owned(), read_only: false });
    }
}

/// An absolute path without `.`, `..`, doubled or final slashes.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn is_below(path: &str, root: &str) -> bool {
    root == "/" || path == root || path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_before_they_are_compared() {
        for (path, cleaned) in [("/a/./b//c/", "/a/b/c"), ("/a/../../b", "/b"), ("/", "/"), ("/srv/data/../../etc", "/etc")] {
            assert_eq!(clean(path), cleaned);
        }
        assert!(is_below("/srv/data", "/srv") && is_below("/srv", "/srv") && is_below("/x", "/"));
        assert!(!is_below("/srv2", "/srv") && !is_below("/", "/srv"));
    }
}
