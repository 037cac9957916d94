//! Settings: what `run` was told, kept in the ledger so that the other verbs act on the same engine and the same files.
//!
//! Command-line text becomes these types in `cli`; nothing here reads the environment or arguments.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::desired::naming::is_installation_id;
use crate::resource::quantity::Duration;
use crate::resource::{ObjectRef, Origin};
use crate::source::directory::Root;

/// The ledger setting under which [`RunSettings`] are kept, as JSON.
pub const RUN_SETTING: &str = "run";

/// The ledger setting with what the last operator knew of the executable that the helper image is made from.
pub const HELPER_SETTING: &str = "helper";

/// The ledger setting that tells the operator that a person deleted this object: the instant, as text. Such a deletion counts at once and is
/// never held.
pub fn deleted_setting(object: &ObjectRef) -> String {
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
    pub roots: Vec<Root>,
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
    pub fn root_of(&self, origin: &Origin) -> Option<&Root> {
        self.roots.iter().find(|root| root.name == origin.source)
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
    if is_installation_id(text) { Ok(text.to_owned()) } else { Err(SettingError::Installation(text.to_owned())) }
}

/// A pool of subnets, checked: IPv4, and room for one namespace at least.
pub fn network_pool(text: &str) -> Result<String, SettingError> {
    let parsed = text.split_once('/').and_then(|(address, prefix)| Some((address.parse::<Ipv4Addr>().ok()?, prefix.parse::<u8>().ok()?)));
    match parsed {
        Some((_, 1..=26)) => Ok(text.to_owned()),
        Some(_) | None => Err(SettingError::Pool(text.to_owned())),
    }
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// Not a range of ports.
    #[error("`{0}` is not a range of ports; write it like `10000-10100`")]
    Ports(String),
    /// Not a pool of subnets.
    #[error("`{0}` is not a pool of IPv4 networks with room for a /26; write it like `10.213.0.0/16`")]
    Pool(String),
    /// Not an installation id.
    #[error("`{0}` is not an installation id; use 1 to 16 lower-case letters and digits, like `dm`")]
    Installation(String),
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
    fn pools_have_room_for_a_namespace() {
        for good in ["10.213.0.0/16", "192.168.7.64/26"] {
            assert_eq!(network_pool(good).unwrap(), good);
        }
        for bad in ["10.213.0.0", "10.213.0.0/33", "10.213.0.0/27", "10.213.0.0/0", "10.213/16", "fd00::/16", "x"] {
            assert!(network_pool(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn installations_are_short_and_plain() {
        assert!(installation("dm").is_ok());
        for bad in ["", "DM", "a-b", "abcdefghijklmnopq"] {
            assert!(installation(bad).is_err(), "{bad}");
        }
    }
}
