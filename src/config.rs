//! Settings: what `run` was told, kept in the ledger so that the other verbs act on the same engine and the same files.
//!
//! Command-line text becomes these types in `cli`; nothing here reads the environment or arguments.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::resource::quantity::Duration;
use crate::resource::{Origin, is_dns_label};

/// The ledger setting under which [`RunSettings`] are kept, as JSON.
pub const RUN_SETTING: &str = "run";

/// The name of the state directory that is looked for.
pub const STATE_DIR: &str = ".dockmaster";

/// The ledger setting that tells the operator that a person deleted this object: the instant, as text. Such a deletion counts at once and is
/// never held.
pub fn deleted_setting(object: &crate::resource::ObjectRef) -> String {
    format!("deleted/{}/{}/{}", object.kind.singular(), object.ns(), object.name)
}

/// The ledger setting by which a person confirmed the held deletions of a source: the instant, as text.
pub fn prune_setting(source: &str) -> String {
    format!("prune-confirmed/{source}")
}

/// What `run` was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunSettings {
    /// Whose objects on the engine these are: `[a-z0-9]{1,16}`.
    pub installation: String,
    /// The engine: `unix://` or `tcp://`; `None`: what the Docker command line would use.
    pub docker_host: Option<String>,
    /// The directories of specs, in the order given.
    pub roots: Vec<SpecRoot>,
    /// The address on which ports are published.
    pub publish_address: IpAddr,
    /// The ports that are leased.
    pub port_range: PortRange,
    /// The pool of subnets: CIDR.
    pub network_pool: String,
    /// Directories of the host below which specs may mount.
    pub host_paths: Vec<PathBuf>,
    /// Time between two full passes.
    pub resync: Duration,
    /// How long a disappearance must last before it counts.
    pub settle: Duration,
    /// How long the data of deleted objects is kept.
    pub tombstone: Duration,
    /// Where status is written.
    pub status: StatusMode,
    /// An image to use instead of the helper that the operator makes.
    pub helper_image: Option<String>,
}

impl RunSettings {
    /// The root in which a document was read.
    pub fn root_of(&self, origin: &Origin) -> Option<&SpecRoot> {
        self.roots.iter().find(|root| root.name == origin.source)
    }
}

/// One directory of specs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecRoot {
    /// As given; the name of the source, and what `Origin::source` says.
    pub name: String,
    /// Absolute.
    pub path: PathBuf,
    /// `--specs PATH=NAMESPACE`: everything below belongs to this namespace.
    pub namespace: Option<String>,
}

impl SpecRoot {
    /// Reads `PATH` or `PATH=NAMESPACE`, relative to a directory.
    pub fn parse(text: &str, base: &Path) -> Result<Self, SettingError> {
        let (name, namespace) = match text.rsplit_once('=') {
            Some((name, namespace)) if is_dns_label(namespace) => (name, Some(namespace.to_owned())),
            Some((_, namespace)) if !namespace.contains('/') => return Err(SettingError::Namespace(namespace.to_owned())),
            Some(_) | None => (text, None),
        };
        Ok(Self { name: name.to_owned(), path: base.join(name), namespace })
    }
}

/// Host ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl FromStr for PortRange {
    type Err = SettingError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || SettingError::Ports(text.to_owned());
        let (first, last) = text.split_once('-').ok_or_else(error)?;
        let range = Self { first: first.parse().map_err(|_| error())?, last: last.parse().map_err(|_| error())? };
        if range.first == 0 || range.first > range.last { Err(error()) } else { Ok(range) }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl TryFrom<String> for PortRange {
    type Error = SettingError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> Self {
        range.to_string()
    }
}

/// Where status is written for its user; the ledger always has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StatusMode {
    /// Into the spec's own document.
    Inline,
    /// Into `<file>.status.yaml` beside it.
    Sidecar,
    /// Nowhere.
    None,
}

/// The text of an installation's id, checked.
pub fn installation(text: &str) -> Result<String, SettingError> {
    let valid = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if valid { Ok(text.to_owned()) } else { Err(SettingError::Installation(text.to_owned())) }
}

/// The state directory: as given, else `.dockmaster` in `from` or the nearest directory above it that has one, else `.dockmaster` in `from`.
pub fn state_dir(given: Option<&Path>, from: &Path) -> PathBuf {
    match given {
        Some(given) => from.join(given),
        None => from.ancestors().map(|dir| dir.join(STATE_DIR)).find(|dir| dir.is_dir()).unwrap_or_else(|| from.join(STATE_DIR)),
    }
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// Not a range of ports.
    #[error("`{0}` is not a range of ports; write it like `10000-10100`")]
    Ports(String),
    /// Not an installation id.
    #[error("`{0}` is not an installation id; use 1 to 16 lower-case letters and digits, like `dm`")]
    Installation(String),
    /// Not a namespace.
    #[error("`{0}` is not a namespace; use lower-case letters, digits and `-`, as in `--specs ./alice=alice`")]
    Namespace(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_ports() {
        assert_eq!("10000-10100".parse::<PortRange>().unwrap(), PortRange { first: 10000, last: 10100 });
        for bad in ["10000", "2-1", "0-5", "a-b", "1-65536"] {
            assert!(bad.parse::<PortRange>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_root_may_pin_its_namespace() {
        let base = Path::new("/home/me");
        let root = SpecRoot::parse("specs=alice", base).unwrap();
        assert_eq!((root.name.as_str(), root.path.as_path(), root.namespace.as_deref()), ("specs", Path::new("/home/me/specs"), Some("alice")));
        assert_eq!(SpecRoot::parse("/srv/a=b/specs", base).unwrap().namespace, None, "an equals sign in a directory's name");
        assert_eq!(SpecRoot::parse("specs=Alice", base), Err(SettingError::Namespace("Alice".into())));
    }

    #[test]
    fn installations_are_short_and_plain() {
        assert!(installation("dm").is_ok());
        for bad in ["", "DM", "a-b", "abcdefghijklmnopq"] {
            assert!(installation(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_state_directory_is_looked_for_upward() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        assert_eq!(state_dir(None, &deep), deep.join(STATE_DIR));
        std::fs::create_dir(root.path().join(STATE_DIR)).unwrap();
        assert_eq!(state_dir(None, &deep), root.path().join(STATE_DIR));
        assert_eq!(state_dir(Some(Path::new("x")), &deep), deep.join("x"));
    }
}
