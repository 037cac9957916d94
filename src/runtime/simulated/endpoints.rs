//! Containers on networks: joining, leaving, addresses, and names.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};

use super::Version;
use super::http::{Refused, refuse};
use super::networks::{OWN, mask};
use super::state::{Container, Endpoint, Engine, Network, Subnet};
use super::text;

impl Engine {
    /// The older engine counts a container's short id and host name among its aliases.
    pub(super) fn add_own_names(&self, id: &str, endpoint: &mut Endpoint) {
        let container = &self.containers[id];
        let host_name = container.config.get("Hostname").and_then(Value::as_str).unwrap_or_default().to_owned();
        let aliases = endpoint.aliases.get_or_insert_default();
        for name in [id[..12].to_owned(), host_name] {
            if !aliases.contains(&name) {
                aliases.push(name);
            }
        }
    }

    /// Joins all networks of a container that is about to start.
    pub(super) fn join_networks(&mut self, id: &str) -> Result<(), Refused> {
        let container = &self.containers[id];
        let mode = container.network_mode().to_owned();
        let mut names: Vec<String> = container.endpoints.keys().cloned().collect();
        // The network of its creation comes first.
        names.sort_by_key(|name| (*name != mode && self.find_network(&mode).is_ok_and(|id| self.networks[&id].name != *name), name.clone()));
        let prefix = self.word("", "failed to set up container networking: ").to_owned();
        let mut found = Vec::new();
        for name in names {
            let endpoint = &self.containers[id].endpoints[&name];
            let own = OWN.contains(&name.as_str());
            let is_first = name == mode || self.networks.get(&mode).is_some_and(|network| network.name == name);
            let reference = if !own && !endpoint.network_id.is_empty() {
                endpoint.network_id.clone()
            } else if self.version == Version::V28_5 && is_first && !own {
                mode.clone()
            } else {
                name.clone()
            };
            let gone =
                self.version == Version::V28_5 && !own && mode.len() == 64 && !self.networks.contains_key(&mode) && self.containers[id].endpoints.len() == 1;
            let reference = if gone && endpoint.network_id.is_empty() { mode.clone() } else { reference };
            let network = self.find_network(&reference).map_err(|Refused(status, message)| refuse(status, format!("{prefix}{message}")))?;
            found.push((name, network));
        }
        self.tell_mounts_first(id);
        for (name, network) in found {
            if self.version == Version::V20_10 && !OWN.contains(&name.as_str()) {
                let mut endpoint = self.containers[id].endpoints[&name].clone();
                self.add_own_names(id, &mut endpoint);
                self.containers.get_mut(id).map(|container| container.endpoints.insert(name.clone(), endpoint));
            }
            self.join(id, &name, &network).map_err(|Refused(status, message)| refuse(status, format!("{prefix}{message}")))?;
        }
        Ok(())
    }

    /// Puts a running container, or one that is being started, on a network.
    pub(super) fn join(&mut self, id: &str, name: &str, network: &str) -> Result<(), Refused> {
        let (endpoint_id, wanted) = (self.id(), self.containers[id].endpoints.get(name).and_then(|endpoint| endpoint.asked_ip.clone()));
        let joined = self.networks.get(network).cloned();
        let Some(joined) = joined else { return Err(refuse(404, format!("network {network} not found"))) };
        let mut endpoint = self.containers[id].endpoints.get(name).cloned().unwrap_or_default();
        endpoint.network_id = network.to_owned();
        endpoint.id.clone_from(&endpoint_id);
        if let Some(subnet) = joined.subnets.first() {
            let address = free_address(&joined, subnet, wanted.as_deref())?;
            endpoint.ip = text::ip(address);
            endpoint.prefix = subnet.prefix;
            endpoint.gateway = text::ip(subnet.gateway);
            let bytes = address.to_be_bytes();
            endpoint.mac = match self.version {
                Version::V20_10 => format!("02:42:{:02x}:{:02x}:{:02x}:{:02x}", bytes[0], bytes[1], bytes[2], bytes[3]),
                Version::V28_5 => {
                    let text = self.id();
                    format!("{}2:{}:{}:{}:{}:{}", &text[..1], &text[2..4], &text[4..6], &text[6..8], &text[8..10], &text[10..12])
                }
            };
            if let Some(network) = self.networks.get_mut(network) {
                network.addresses.insert(address, id.to_owned());
            }
        }
        let ported = joined.driver == "bridge" && self.containers[id].ports.is_empty();
        if let Some(container) = self.containers.get_mut(id) {
            container.endpoints.insert(name.to_owned(), endpoint);
        }
        if ported {
            let ports = self.take_ports(id).map_err(|why| {
                let container = &self.containers[id].name;
                let ip = self.containers[id].endpoints[name].ip.clone();
                refuse(
                    500,
                    format!(
                        "driver failed programming external connectivity on endpoint {container} ({endpoint_id}): {}",
                        why.replace(":@:", &format!(":{ip}:"))
                    ),
                )
            })?;
            if let Some(container) = self.containers.get_mut(id) {
                container.ports = ports;
            }
        }
        self.tell_network(network, "connect", Some(id));
        Ok(())
    }

    /// Takes a container off all its networks; it keeps their names and ids.
    pub(super) fn leave_networks(&mut self, id: &str, tell: bool) {
        let Some(container) = self.containers.get_mut(id) else { return };
        container.ports.clear();
        let mut left = Vec::new();
        for endpoint in container.endpoints.values_mut().filter(|endpoint| !endpoint.id.is_empty()) {
            left.push(endpoint.network_id.clone());
            let (aliases, asked_ip, network_id) = (endpoint.aliases.take(), endpoint.asked_ip.take(), std::mem::take(&mut endpoint.network_id));
            *endpoint = Endpoint { aliases, asked_ip, network_id, ..Endpoint::default() };
        }
        for network in left {
            if let Some(network) = self.networks.get_mut(&network) {
                network.addresses.retain(|_, holder| holder != id);
            }
            if tell {
                self.tell_network(&network, "disconnect", Some(id));
            }
        }
    }

    pub(super) fn disconnect(&mut self, id: &str, network: &str) -> Result<(), Refused> {
        let name = self.networks.get(network).map(|network| network.name.clone()).unwrap_or_default();
        let container = &self.containers[id];
        if container.network_mode() == "host" && name == "host" {
            return Err(refuse(
                if self.version == Version::V20_10 { 403 } else { 400 },
                self.word(
                    "container cannot be disconnected from host network or connected to host network",
                    "cannot disconnect container from host network - container was created in host network mode",
                ),
            ));
        }
        let Some(endpoint) = container.endpoints.get(&name).filter(|endpoint| endpoint.network_id.is_empty() || endpoint.network_id == network) else {
            let the = self.word("the network", "network");
            return Err(refuse(500, format!("container {id} is not connected to {the} {name}")));
        };
        let joined = !endpoint.id.is_empty();
        if let Some(container) = self.containers.get_mut(id) {
            container.endpoints.remove(&name);
            if container.endpoints.is_empty() {
                container.ports.clear();
            }
        }
        if let Some(network) = self.networks.get_mut(network) {
            network.addresses.retain(|_, holder| holder != id);
        }
        if joined || self.version == Version::V20_10 && self.containers[id].is_running() {
            self.tell_network(network, "disconnect", Some(id));
        }
        Ok(())
    }

    /// The names that a container can reach others by, each with an address.
    pub(super) fn neighbours(&self, id: &str) -> BTreeMap<String, String> {
        let mut names = BTreeMap::new();
        let Some(container) = self.containers.get(id) else { return names };
        let mine = container.endpoints.iter().filter(|(name, endpoint)| !endpoint.id.is_empty() && !OWN.contains(&name.as_str()));
        for endpoint in mine.map(|(_, endpoint)| endpoint) {
            let Some(network) = self.networks.get(&endpoint.network_id) else { continue };
            for other in network.addresses.values().filter_map(|other| self.containers.get(other)) {
                if let Some(there) = other.endpoints.values().find(|there| there.network_id == network.id && !there.id.is_empty()) {
                    let aliases = there.aliases.iter().flatten().cloned();
                    names.extend([other.name.clone(), other.id[..12].to_owned()].into_iter().chain(aliases).map(|name| (name, there.ip.clone())));
                }
            }
        }
        names
    }
}

/// The address that was asked for, or the first free one after the gateway.
fn free_address(network: &Network, subnet: &Subnet, wanted: Option<&str>) -> Result<u32, Refused> {
    let last = subnet.base | !mask(subnet.prefix);
    let free = |address: &u32| *address != subnet.gateway && !network.addresses.contains_key(address);
    if let Some(wanted) = wanted.and_then(|text| text.parse::<Ipv4Addr>().ok()).map(u32::from) {
        return if free(&wanted) { Ok(wanted) } else { Err(refuse(403, "Address already in use")) };
    }
    let none = || refuse(500, format!("no available IPv4 addresses on this network's address pools: {} ({})", network.name, network.id));
    (subnet.base + 1..last).find(free).ok_or_else(none)
}

/// An endpoint as it is told, in a list or of one container.
pub struct ShownEndpoint<'a>(pub &'a Engine, pub &'a Container, pub &'a str, pub &'a Endpoint, pub bool);

impl Serialize for ShownEndpoint<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(engine, container, name, endpoint, whole) = *self;
        let mut map = serializer.serialize_map(None)?;
        let config = endpoint.asked_ip.as_ref().map(|ip| json!({"IPv4Address": ip}));
        map.serialize_entry("IPAMConfig", &config)?;
        map.serialize_entry("Links", &Value::Null)?;
        map.serialize_entry("Aliases", &endpoint.aliases.as_ref().filter(|_| whole))?;
        let new = engine.version == Version::V28_5;
        if new {
            map.serialize_entry("MacAddress", &endpoint.mac)?;
            map.serialize_entry("DriverOpts", &Value::Null)?;
            map.serialize_entry("GwPriority", &0)?;
        }
        map.serialize_entry("NetworkID", &endpoint.network_id)?;
        map.serialize_entry("EndpointID", &endpoint.id)?;
        map.serialize_entry("Gateway", &endpoint.gateway)?;
        map.serialize_entry("IPAddress", &endpoint.ip)?;
        map.serialize_entry("IPPrefixLen", &endpoint.prefix)?;
        map.serialize_entry("IPv6Gateway", "")?;
        map.serialize_entry("GlobalIPv6Address", "")?;
        map.serialize_entry("GlobalIPv6PrefixLen", &0)?;
        if new {
            let known = whole && !endpoint.network_id.is_empty() && !OWN.contains(&name);
            let names = known.then(|| {
                let mut names = vec![container.name.clone()];
                let host_name = container.config.get("Hostname").and_then(Value::as_str).unwrap_or_default().to_owned();
                for name in endpoint.aliases.iter().flatten().cloned().chain([container.id[..12].to_owned(), host_name]) {
                    if !name.is_empty() && !names.contains(&name) {
                        names.push(name);
                    }
                }
                names
            });
            map.serialize_entry("DNSNames", &names)?;
        } else {
            map.serialize_entry("MacAddress", &endpoint.mac)?;
            map.serialize_entry("DriverOpts", &Value::Null)?;
        }
        map.end()
    }
}
