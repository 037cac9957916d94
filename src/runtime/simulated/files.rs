//! The files that a process in a container sees: the image's, its own, and those of what is mounted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::state::{Container, Engine, MountPoint, Volume};

/// A container's view of its files.
pub struct Files<'a> {
    own: &'a mut BTreeMap<String, Bytes>,
    volumes: &'a mut BTreeMap<String, Volume>,
    mounts: Arc<Vec<MountPoint>>,
    /// Paths in memory, each with its options.
    memory: Vec<(String, String)>,
    image: Option<Arc<BTreeSet<String>>>,
    read_only: bool,
}

/// Why a file cannot be reached, in the words of the C library.
pub type Problem = &'static str;
const ABSENT: Problem = "No such file or directory";
const READ_ONLY: Problem = "Read-only file system";

impl<'a> Files<'a> {
    /// Of a container; its image may be gone.
    pub fn of(container: &'a mut Container, volumes: &'a mut BTreeMap<String, Volume>, image: Option<Arc<BTreeSet<String>>>) -> Self {
        let memory = container.host.get("Tmpfs").and_then(serde_json::Value::as_object);
        let memory = memory.into_iter().flatten().map(|(path, options)| (path.clone(), options.as_str().unwrap_or_default().to_owned())).collect();
        let read_only = container.host_flag("ReadonlyRootfs");
        Self { mounts: container.mounts.clone(), own: &mut container.files, volumes, memory, image, read_only }
    }

    /// The mount that a path lies in, and the rest of the path.
    fn mount(&self, path: &str) -> Option<(&MountPoint, String)> {
        let inside = self.mounts.iter().filter_map(|mount| below(&mount.destination, path).map(|rest| (mount, rest)));
        inside.max_by_key(|(mount, _)| mount.destination.len())
    }

    /// The options of the path in memory that a path lies in.
    pub fn memory(&self, path: &str) -> Option<&str> {
        self.memory.iter().find(|(root, _)| below(root, path).is_some()).map(|(_, options)| options.as_str())
    }

    /// Whether there is a file or a directory.
    pub fn exists(&self, path: &str) -> bool {
        self.is_directory(path) || self.read(path).is_ok()
    }

    /// Whether there is a directory.
    pub fn is_directory(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        if matches!(folder.as_str(), "/" | "/tmp/" | "/etc/" | "/dev/" | "/proc/" | "/sys/" | "/run/" | "/var/" | "/var/run/") {
            return true;
        }
        let bare = folder.trim_end_matches('/');
        if self.mounts.iter().any(|mount| mount.destination.trim_end_matches('/') == bare)
            || self.memory.iter().any(|(root, _)| root.trim_end_matches('/') == bare)
        {
            return true;
        }
        if let Some((mount, rest)) = self.mount(path)
            && mount.kind == "volume"
        {
            let inner = format!("{rest}/");
            return self
                .volumes
                .get(&mount.name)
                .is_some_and(|volume| volume.files.range(inner.clone()..).next().is_some_and(|(name, _)| name.starts_with(&inner)));
        }
        let in_image = self.image.as_ref().is_some_and(|files| files.range(folder.clone()..).next().is_some_and(|name| name.starts_with(&folder)));
        in_image || self.own.range(folder.clone()..).next().is_some_and(|(name, _)| name.starts_with(&folder))
    }

    /// The content of a file.
    pub fn read(&self, path: &str) -> Result<Bytes, Problem> {
        if let Some((mount, rest)) = self.mount(path)
            && mount.kind == "volume"
        {
            return self.volumes.get(&mount.name).and_then(|volume| volume.files.get(&rest)).cloned().ok_or(ABSENT);
        }
        if let Some(content) = self.own.get(path) {
            return Ok(content.clone());
        }
        if path == "/dev/null" || self.image.as_ref().is_some_and(|files| files.contains(path)) { Ok(Bytes::new()) } else { Err(ABSENT) }
    }

    /// Writes a file.
    pub fn write(&mut self, path: &str, content: Bytes) -> Result<(), Problem> {
        if path.starts_with("/dev/") {
            return Ok(());
        }
        let parent = path.rsplit_once('/').map_or("/", |(parent, _)| parent);
        if !self.is_directory(parent) {
            return Err(ABSENT);
        }
        *self.slot(path)? = content;
        Ok(())
    }

    fn slot(&mut self, path: &str) -> Result<&mut Bytes, Problem> {
        let mount = self.mount(path).map(|(mount, rest)| (mount.clone(), rest));
        match mount {
            Some((mount, _)) if !mount.writable => Err(READ_ONLY),
            Some((mount, rest)) if mount.kind == "volume" => {
                let volume = self.volumes.get_mut(&mount.name).ok_or(ABSENT)?;
                Ok(volume.files.entry(rest).or_default())
            }
            Some(_) => Ok(self.own.entry(path.to_owned()).or_default()),
            None if self.read_only && self.memory(path).is_none() => Err(READ_ONLY),
            None => Ok(self.own.entry(path.to_owned()).or_default()),
        }
    }

    /// Makes a directory.
    pub fn make_directory(&mut self, path: &str) -> Result<(), Problem> {
        *self.slot(&format!("{}/", path.trim_end_matches('/')))? = Bytes::new();
        Ok(())
    }

    /// Removes a file, or a directory with all in it.
    pub fn remove(&mut self, path: &str) -> Result<(), Problem> {
        if !self.exists(path) {
            return Err(ABSENT);
        }
        let folder = format!("{}/", path.trim_end_matches('/'));
        let mount = self.mount(path).map(|(mount, rest)| (mount.clone(), rest));
        match mount {
            Some((mount, _)) if !mount.writable => return Err(READ_ONLY),
            Some((mount, rest)) if mount.kind == "volume" => {
                if let Some(volume) = self.volumes.get_mut(&mount.name) {
                    let folder = format!("{rest}/");
                    volume.files.retain(|name, _| *name != rest && !name.starts_with(&folder));
                }
            }
            Some(_) | None => self.own.retain(|name, _| name != path && !name.starts_with(&folder)),
        }
        Ok(())
    }

    /// The names in a directory.
    pub fn list(&self, path: &str) -> Vec<String> {
        let folder = format!("{}/", path.trim_end_matches('/'));
        let mut names = BTreeSet::new();
        let mut take = |rest: &str| {
            names.extend(rest.split('/').next().filter(|name| !name.is_empty()).map(str::to_owned));
        };
        match self.mount(path) {
            Some((mount, rest)) if mount.kind == "volume" => {
                let inner = if rest.is_empty() { String::new() } else { format!("{rest}/") };
                let volume = self.volumes.get(&mount.name);
                volume.into_iter().flat_map(|volume| volume.files.keys()).filter_map(|name| name.strip_prefix(&inner)).for_each(&mut take);
            }
            Some(_) | None => {
                self.image.iter().flat_map(|files| files.iter()).filter_map(|name| name.strip_prefix(&folder)).for_each(&mut take);
                self.own.keys().filter_map(|name| name.strip_prefix(&folder)).for_each(&mut take);
            }
        }
        names.into_iter().collect()
    }

    /// The volume mounted at exactly that path.
    pub fn volume_at(&self, path: &str) -> Option<String> {
        let path = path.trim_end_matches('/');
        self.mounts.iter().find(|mount| mount.kind == "volume" && mount.destination.trim_end_matches('/') == path).map(|mount| mount.name.clone())
    }

    /// The volumes, to be copied whole.
    pub fn volumes(&mut self) -> &mut BTreeMap<String, Volume> {
        self.volumes
    }

    /// Whether a program can be run; one without a slash is looked for where programs are.
    pub fn has_program(&self, name: &str) -> bool {
        let Some(files) = &self.image else { return true };
        if name.contains('/') {
            return files.contains(name) || self.own.contains_key(name);
        }
        ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|folder| files.contains(&format!("{folder}/{name}")))
    }
}

/// The rest of a path below a root, without the slash between; `None`: it lies elsewhere.
fn below(root: &str, path: &str) -> Option<String> {
    let root = root.trim_end_matches('/');
    let rest = path.strip_prefix(root)?;
    if rest.is_empty() { Some(String::new()) } else { rest.strip_prefix('/').map(str::to_owned) }
}

impl Engine {
    /// The files of the image that a container was made from, whether it is still there or not.
    pub(super) fn image_files(&self, container: &str) -> Option<Arc<BTreeSet<String>>> {
        let image = &self.containers.get(container)?.image_id;
        self.images.get(image)?.files.clone()
    }
}
