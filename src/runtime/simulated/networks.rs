//! Networks: their API, their addresses, and who is on them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};

use super::Version;
use super::filters::Filters;
use super::http::{Refused, Reply, Request, Served, refuse};
use super::lifecycle::no_such;
use super::state::{Endpoint, Engine, Network, Object, Status, Subnet};
use super::text;

/// The networks that an engine makes by itself.
pub const OWN: [&str; 3] = ["bridge", "host", "none"];
/// Subnets that an engine chooses from: the first address, the prefix of the range, and that of each.
const POOLS: [(u32, u8, u8); 4] = [(0xac11_0000, 16, 16), (0xac12_0000, 15, 16), (0xac14_0000, 14, 16), (0xac18_0000, 13, 16)];
const LAST_POOL: (u32, u8, u8) = (0xc0a8_0000, 16, 20);

/// A network as it is told.
struct Shown<'a>(&'a Engine, &'a Network, bool);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(engine, network, with_containers) = *self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("Name", &network.name)?;
        map.serialize_entry("Id", &network.id)?;
        map.serialize_entry("Created", &text::instant(Some(network.created)))?;
        map.serialize_entry("Scope", "local")?;
        map.serialize_entry("Driver", &network.driver)?;
        if engine.version == Version::V28_5 {
            map.serialize_entry("EnableIPv4", &true)?;
        }
        map.serialize_entry("EnableIPv6", &false)?;
        let config: Vec<Value> = network
            .subnets
            .iter()
            .map(|subnet| {
                let range = format!("{}/{}", text::ip(subnet.base), subnet.prefix);
                if subnet.told { json!({"Subnet": range, "Gateway": text::ip(subnet.gateway)}) } else { json!({"Subnet": range}) }
            })
            .collect();
        let none = network.subnets.is_empty() && engine.version == Version::V28_5;
        map.serialize_entry("IPAM", &json!({"Driver": "default", "Options": null, "Config": if none { Value::Null } else { Value::Array(config) }}))?;
        map.serialize_entry("Internal", &network.internal)?;
        map.serialize_entry("Attachable", &network.attachable)?;
        map.serialize_entry("Ingress", &false)?;
        map.serialize_entry("ConfigFrom", &json!({"Network": ""}))?;
        map.serialize_entry("ConfigOnly", &false)?;
        let mut containers = Object::new();
        for container in engine.containers.values().take_while(|_| with_containers) {
            for endpoint in container.endpoints.values().filter(|endpoint| endpoint.network_id == network.id && !endpoint.id.is_empty()) {
                let address = if endpoint.ip.is_empty() { String::new() } else { format!("{}/{}", endpoint.ip, endpoint.prefix) };
                containers.insert(
                    container.id.clone(),
                    json!({"Name": container.name, "EndpointID": endpoint.id, "MacAddress": endpoint.mac, "IPv4Address": address, "IPv6Address": ""}),
                );
            }
        }
        map.serialize_entry("Containers", &containers)?;
        map.serialize_entry("Options", &network.options)?;
        map.serialize_entry("Labels", &network.labels)?;
        map.end()
    }
}

/// `GET /networks`.
pub fn list(engine: &mut Engine, request: &Request) -> Served {
    let filters = Filters::of(engine, request, Some(&["dangling", "driver", "id", "label", "name", "scope", "type"]))?;
    let shown: Vec<Shown<'_>> =
        engine.networks.values().filter(|network| engine.passes(&filters, network)).map(|network| Shown(engine, network, false)).collect();
    Ok(Reply::json(200, &shown))
}

/// `GET /networks/{id}`.
pub fn inspect(engine: &mut Engine, request: &Request) -> Served {
    let id = engine.find_network(&request.target)?;
    Ok(Reply::json(200, &Shown(engine, &engine.networks[&id], true)))
}

/// `POST /networks/create`.
pub fn create(engine: &mut Engine, request: &Request) -> Served {
    let given = request.json(engine, ("types.NetworkCreateRequest", "network.CreateRequest"))?;
    let text = |key: &str| given.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let flag = |key: &str| given.get(key).and_then(Value::as_bool).unwrap_or_default();
    let name = text("Name");
    let others: Vec<String> = engine.networks.values().filter(|network| network.name == name).map(|network| network.id.clone()).collect();
    if name.is_empty() {
        return Err(match engine.version {
            Version::V20_10 => refuse(500, "invalid name: "),
            Version::V28_5 => refuse(400, "invalid name: name is empty"),
        });
    }
    if OWN.contains(&name.as_str()) || name == "default" {
        return Err(refuse(403, format!("operation is not permitted on predefined {name} network ")));
    }
    let mut warning = String::new();
    if let Some(other) = others.first() {
        if engine.version == Version::V28_5 || flag("CheckDuplicate") {
            return Err(refuse(409, format!("network with name {name} already exists")));
        }
        warning = format!("Network with name {name} (id : {other}) already exists");
    }
    let driver = if text("Driver").is_empty() { "bridge".to_owned() } else { text("Driver") };
    if !matches!(driver.as_str(), "bridge" | "macvlan" | "ipvlan" | "overlay" | "host" | "null") {
        return Err(refuse(404, format!("plugin \"{driver}\" not found")));
    }
    if matches!(driver.as_str(), "host" | "null") {
        return Err(refuse(403, format!("only one instance of \"{driver}\" network is allowed")));
    }
    let mut subnets = Vec::new();
    for config in given.get("IPAM").and_then(|ipam| ipam.get("Config")).and_then(Value::as_array).into_iter().flatten() {
        let value = |key: &str| config.get(key).and_then(Value::as_str).unwrap_or_default();
        let Some((base, prefix)) = range(value("Subnet")) else {
            let bad = value("Subnet");
            return Err(match engine.version {
                Version::V20_10 => refuse(500, format!("Invalid subnet {bad} : invalid CIDR address: {bad}")),
                Version::V28_5 => refuse(400, format!("invalid network config:\ninvalid subnet {bad}: invalid CIDR block notation")),
            });
        };
        let gateway = value("Gateway").parse::<Ipv4Addr>().ok().map(u32::from);
        subnets.push(Subnet { base, prefix, gateway: gateway.unwrap_or(base + 1), told: gateway.is_some() });
    }
    if subnets.iter().any(|subnet| engine.overlaps(subnet.base, subnet.prefix)) {
        return Err(refuse(403, format!("{}Pool overlaps with other one on this address space", engine.word("", "invalid pool request: "))));
    }
    if subnets.is_empty() {
        subnets.push(engine.choose_subnet()?);
    }
    let pairs = |key: &str| {
        let object = given.get(key).and_then(Value::as_object);
        object.into_iter().flatten().map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect::<BTreeMap<_, _>>()
    };
    let options: Object = pairs("Options").into_iter().map(|(key, value)| (key, Value::String(value))).collect();
    let id = engine.id();
    let network = Network {
        id: id.clone(),
        name,
        created: engine.now,
        driver,
        subnets,
        internal: flag("Internal"),
        attachable: flag("Attachable"),
        options,
        labels: pairs("Labels"),
        addresses: BTreeMap::new(),
    };
    engine.networks.insert(id.clone(), network);
    engine.tell_network(&id, "create", None);
    Ok(Reply::json(201, &json!({"Id": id, "Warning": warning})))
}

/// `DELETE /networks/{id}`.
pub fn delete(engine: &mut Engine, request: &Request) -> Served {
    let id = engine.find_network(&request.target)?;
    let network = &engine.networks[&id];
    if OWN.contains(&network.name.as_str()) {
        return Err(refuse(403, format!("{} is a pre-defined network and cannot be removed", network.name)));
    }
    let users: Vec<String> = engine
        .containers
        .values()
        .flat_map(|container| container.endpoints.values().map(move |endpoint| (container, endpoint)))
        .filter(|(_, endpoint)| endpoint.network_id == id && !endpoint.id.is_empty())
        .map(|(container, endpoint)| format!("name:\"{}\" id:\"{}\"", container.name, &endpoint.id[..12]))
        .collect();
    if !users.is_empty() {
        let what = match engine.version {
            Version::V20_10 => format!("network {} id {id} has active endpoints", network.name),
            Version::V28_5 => format!("network {} has active endpoints ({})", network.name, users.join(", ")),
        };
        return Err(refuse(403, format!("error while removing network: {what}")));
    }
    engine.remove_network(&id);
    Ok(Reply::empty(204))
}

/// `POST /networks/{id}/connect`.
pub fn connect(engine: &mut Engine, request: &Request) -> Served {
    let given = request.json(engine, ("types.NetworkConnect", "network.ConnectOptions"))?;
    let reference = given.get("Container").and_then(Value::as_str).unwrap_or_default();
    let network = engine.find_network(&request.target)?;
    let id = engine.container_id(reference).ok_or_else(|| no_such(reference))?;
    let config = given.get("EndpointConfig");
    let aliases = config.and_then(|config| config.get("Aliases")).and_then(Value::as_array);
    let aliases: Option<Vec<String>> = aliases.map(|words| words.iter().filter_map(Value::as_str).map(str::to_owned).collect());
    let asked_ip = config.and_then(|config| config.get("IPAMConfig")).and_then(|config| config.get("IPv4Address")).and_then(Value::as_str).map(str::to_owned);
    let (name, container) = (engine.networks[&network].name.clone(), &engine.containers[&id]);
    if matches!(container.status, Status::Removing | Status::Dead) {
        return Err(refuse(409, "container is marked for removal and cannot be connected or disconnected to the network"));
    }
    if name == "host" {
        return Err(refuse(
            400,
            engine.word(
                "container cannot be disconnected from host network or connected to host network",
                "cannot connect container to host network - container must be created in host network mode",
            ),
        ));
    }
    if OWN.contains(&name.as_str()) && aliases.as_ref().is_some_and(|aliases| !aliases.is_empty()) {
        let text = "network-scoped alias is supported only for containers in user defined networks";
        return Err(refuse(400, format!("{}{text}", engine.word("", "invalid endpoint settings:\n"))));
    }
    let running = container.is_running();
    if running && container.endpoints.contains_key(&name) {
        return Err(refuse(403, format!("endpoint with name {} already exists in network {name}", container.name)));
    }
    if container.endpoints.contains_key("none") {
        return Err(refuse(400, "container cannot be connected to multiple networks with one of the networks in private (none) mode"));
    }
    let mut endpoint = Endpoint { aliases, asked_ip, ..Endpoint::default() };
    if !OWN.contains(&name.as_str()) && engine.version == Version::V20_10 {
        engine.add_own_names(&id, &mut endpoint);
    }
    if let Some(container) = engine.containers.get_mut(&id) {
        container.endpoints.insert(name.clone(), endpoint);
    }
    if running {
        let joined = engine.join(&id, &name, &network);
        if let Err(refused) = joined {
            engine.containers.get_mut(&id).map(|container| container.endpoints.remove(&name));
            return Err(refused);
        }
    }
    Ok(Reply::empty(200))
}

/// `POST /networks/{id}/disconnect`.
pub fn disconnect(engine: &mut Engine, request: &Request) -> Served {
    let given = request.json(engine, ("types.NetworkDisconnect", "network.DisconnectOptions"))?;
    let reference = given.get("Container").and_then(Value::as_str).unwrap_or_default();
    let network = engine.find_network(&request.target)?;
    let id = engine.container_id(reference).ok_or_else(|| no_such(reference))?;
    engine.disconnect(&id, &network)?;
    Ok(Reply::empty(200))
}

/// `POST /networks/prune`.
pub fn prune(engine: &mut Engine, request: &Request) -> Served {
    let filters = Filters::of(engine, request, None)?;
    let unused: Vec<(String, String)> =
        unused(engine).into_iter().filter(|id| filters.labels(&engine.networks[id].labels)).map(|id| (id.clone(), engine.networks[&id].name.clone())).collect();
    for (id, _) in &unused {
        engine.remove_network(id);
    }
    engine.tell("network", "prune", "", BTreeMap::from([("reclaimed".to_owned(), "0".to_owned())]));
    let names: Vec<String> = unused.into_iter().map(|(_, name)| name).collect();
    Ok(Reply::json(200, &json!({"NetworksDeleted": if names.is_empty() { Value::Null } else { json!(names) }})))
}

/// Whether no container is on a network, and it is not the engine's own.
pub fn is_free(engine: &Engine, id: &str) -> bool {
    engine.networks.get(id).is_some_and(|network| !OWN.contains(&network.name.as_str())) && unused(engine).iter().any(|unused| unused == id)
}

/// Networks without running containers; those that the engine made itself left out.
pub fn unused(engine: &Engine) -> Vec<String> {
    let endpoints = engine.containers.values().flat_map(|container| container.endpoints.values());
    let used: BTreeSet<&String> = endpoints.filter(|endpoint| !endpoint.id.is_empty()).map(|endpoint| &endpoint.network_id).collect();
    let unused = engine.networks.values().filter(|network| !OWN.contains(&network.name.as_str()) && !used.contains(&network.id));
    unused.map(|network| network.id.clone()).collect()
}

/// `10.0.0.0/24` as number and length.
fn range(text: &str) -> Option<(u32, u8)> {
    let (ip, prefix) = text.split_once('/')?;
    let prefix: u8 = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
    let ip = u32::from(ip.parse::<Ipv4Addr>().ok()?);
    Some((ip & mask(prefix), prefix))
}

/// The bits of an address that are a network's.
pub fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl Engine {
    pub(super) fn make_own_networks(&mut self) {
        let bridge: Vec<(&str, &str)> = vec![
            ("com.docker.network.bridge.default_bridge", "true"),
            ("com.docker.network.bridge.enable_icc", "true"),
            ("com.docker.network.bridge.enable_ip_masquerade", "true"),
            ("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0"),
            ("com.docker.network.bridge.name", "docker0"),
            ("com.docker.network.driver.mtu", "1500"),
        ];
        let told = self.version == Version::V28_5;
        let subnet = Subnet { base: POOLS[0].0, prefix: 16, gateway: POOLS[0].0 + 1, told };
        for (name, driver, subnets, options) in [("bridge", "bridge", vec![subnet], bridge), ("host", "host", vec![], vec![]), ("none", "null", vec![], vec![])]
        {
            let id = self.id();
            let network = Network {
                id: id.clone(),
                name: name.to_owned(),
                created: self.now,
                driver: driver.to_owned(),
                subnets,
                internal: false,
                attachable: false,
                options: options.into_iter().map(|(key, value)| (key.to_owned(), json!(value))).collect(),
                labels: BTreeMap::new(),
                addresses: BTreeMap::new(),
            };
            self.networks.insert(id, network);
        }
    }

    /// The id behind an id, a name, or the beginning of an id.
    pub(super) fn find_network(&self, reference: &str) -> Result<String, Refused> {
        if self.networks.contains_key(reference) {
            return Ok(reference.to_owned());
        }
        let named: Vec<&String> = self.networks.values().filter(|network| network.name == reference).map(|network| &network.id).collect();
        let begins: Vec<&String> = if reference.is_empty() {
            Vec::new()
        } else {
            self.networks.range(reference.to_owned()..).map(|(id, _)| id).take_while(|id| id.starts_with(reference)).collect()
        };
        match (named.as_slice(), begins.as_slice()) {
            ([id], _) | ([], [id]) => Ok((*id).clone()),
            ([], []) => Err(refuse(404, format!("network {reference} not found"))),
            ([], many) => Err(refuse(400, format!("network {reference} is ambiguous ({} matches found based on ID prefix)", many.len()))),
            (many, _) => Err(refuse(400, format!("network {reference} is ambiguous ({} matches found on name)", many.len()))),
        }
    }

    fn passes(&self, filters: &Filters, network: &Network) -> bool {
        let own = OWN.contains(&network.name.as_str());
        let kind = filters.any("type", |kind| (kind == "builtin") == own);
        let used = || {
            self.containers.values().any(|container| container.endpoints.values().any(|endpoint| endpoint.network_id == network.id && !endpoint.id.is_empty()))
        };
        filters.any("name", |name| network.name.contains(name))
            && filters.any("id", |id| network.id.contains(id))
            && filters.exact("driver", &network.driver)
            && filters.exact("scope", "local")
            && kind
            && filters.flag("dangling").is_none_or(|dangling| dangling != (own || used()))
            && filters.labels(&network.labels)
    }

    fn overlaps(&self, base: u32, prefix: u8) -> bool {
        self.networks.values().flat_map(|network| &network.subnets).any(|other| {
            let common = mask(prefix.min(other.prefix));
            base & common == other.base & common
        })
    }

    fn choose_subnet(&self) -> Result<Subnet, Refused> {
        for (base, whole, prefix) in POOLS.into_iter().chain([LAST_POOL]) {
            for at in 0..1u32 << (prefix - whole) {
                let base = base + (at << (32 - prefix));
                if !self.overlaps(base, prefix) {
                    return Ok(Subnet { base, prefix, gateway: base + 1, told: true });
                }
            }
        }
        Err(match self.version {
            Version::V20_10 => refuse(404, "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network"),
            Version::V28_5 => refuse(400, "all predefined address pools have been fully subnetted"),
        })
    }

    pub(super) fn remove_network(&mut self, id: &str) {
        self.tell_network(id, "destroy", None);
        self.networks.remove(id);
        self.changes += 1;
    }

    pub(super) fn tell_network(&mut self, id: &str, action: &str, container: Option<&str>) {
        let Some(network) = self.networks.get(id) else { return };
        let mut attributes = BTreeMap::from([("name".to_owned(), network.name.clone()), ("type".to_owned(), network.driver.clone())]);
        attributes.extend(container.map(|container| ("container".to_owned(), container.to_owned())));
        self.tell("network", action, id, attributes);
    }
}
