//! `POST /containers/create`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::http::{Refused, Reply, Request, Served, refuse};
use super::state::{Container, Endpoint, Engine, MountPoint, Object, Status};
use super::{Version, defaults};

/// The least memory that a container may be limited to.
const LEAST_MEMORY: i64 = 6 << 20;

/// The least time of a health test, in nanoseconds.
const LEAST_TIME: i64 = 1_000_000;
/// Where output may be kept.
const LOG_DRIVERS: [&str; 3] = ["json-file", "local", "none"];

/// `POST /containers/create`.
pub fn create(engine: &mut Engine, request: &Request) -> Served {
    if request.body.is_empty() {
        return Err(match engine.version {
            Version::V20_10 => refuse(500, "EOF"),
            Version::V28_5 => refuse(400, "invalid JSON: got EOF while reading request body"),
        });
    }
    let given = request.json(engine, ("runconfig.ContainerConfigWrapper", "container.CreateRequest"))?;
    let empty = |engine: &Engine| refuse(400, format!("{} cannot be empty in order to create a container", engine.word("Config", "config")));
    let Value::Object(given) = given else { return Err(empty(engine)) };
    if !given.keys().any(|key| key != "HostConfig" && key != "NetworkingConfig") {
        return Err(empty(engine));
    }
    let name = request.query("name").unwrap_or_default().trim_start_matches('/').to_owned();
    if !name.is_empty() && !is_name(&name) {
        return Err(invalid_name(&name));
    }
    let mut host = defaults::host(engine, given.get("HostConfig").and_then(Value::as_object));
    engine.check_host(&host)?;
    let networking = given.get("NetworkingConfig").and_then(|config| config.get("EndpointsConfig")).and_then(Value::as_object).cloned().unwrap_or_default();
    if engine.version == Version::V20_10 && networking.len() > 1 {
        let mut names: Vec<&str> = networking.keys().map(String::as_str).collect();
        names.sort_unstable();
        return Err(refuse(400, format!("Container cannot be connected to network endpoints: {}", names.join(", "))));
    }
    let reference = given.get("Image").and_then(Value::as_str).unwrap_or_default().to_owned();
    let image = engine.find_image(&reference)?;
    let from_image = engine.images[&image].config.clone();
    let mut config = defaults::config(&given);
    check_health(engine, &mut config)?;
    let argv = merge(&mut config, &from_image);
    if argv.is_empty() || argv[0].is_empty() {
        return Err(refuse(400, format!("{} command specified", engine.word("No", "no"))));
    }
    let id = engine.id();
    let name = if name.is_empty() { format!("simulated_{}", &id[..8]) } else { name };
    engine.reserve(&name, &id)?;
    if engine.disk_full {
        engine.names.remove(&name);
        return Err(refuse(500, format!("mkdir {}/overlay2/{}-init: no space left on device", engine.host.root, &id[..32])));
    }
    if config.get("Hostname").and_then(Value::as_str) == Some("") {
        let host_name = if host.get("NetworkMode").and_then(Value::as_str) == Some("host") { engine.host.name.clone() } else { id[..12].to_owned() };
        config.insert("Hostname".to_owned(), json!(host_name));
    }
    if host.get("NetworkMode").and_then(Value::as_str) == Some("default") && engine.version == Version::V28_5 {
        host.insert("NetworkMode".to_owned(), json!("bridge"));
    }
    let memory = host.get("Memory").and_then(Value::as_i64).unwrap_or_default();
    if memory > 0 && host.get("MemorySwap").and_then(Value::as_i64) == Some(0) {
        host.insert("MemorySwap".to_owned(), json!(memory * 2));
    }
    if host.get("PidsLimit").and_then(Value::as_i64).is_some_and(|limit| limit <= 0) {
        host.insert("PidsLimit".to_owned(), Value::Null);
    }
    let mounts = match engine.make_mounts(&host, &config) {
        Ok(mounts) => mounts,
        Err(refused) => {
            engine.names.remove(&name);
            return Err(refused);
        }
    };
    let endpoints = engine.asked_endpoints(&host, &networking);
    let labels = config.get("Labels").and_then(Value::as_object).into_iter().flatten();
    let labels: BTreeMap<String, String> = labels.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect();
    let container = Container {
        id: id.clone(),
        name,
        created: engine.now,
        image: reference,
        image_id: image,
        config: Arc::new(config),
        host: Arc::new(host),
        labels: Arc::new(labels),
        argv: Arc::new(argv),
        mounts: Arc::new(mounts),
        endpoints,
        status: Status::Created,
        exit_code: 0,
        error: String::new(),
        stranded: false,
        oom_killed: false,
        started: None,
        finished: None,
        restarts: 0,
        stopped_by_hand: false,
        stopping: false,
        run: 0,
        process: None,
        health: None,
        log: Vec::new(),
        files: BTreeMap::new(),
        ports: Vec::new(),
        traffic: (0, 0),
        backoff: Duration::ZERO,
        was_running: false,
        started_at: Duration::ZERO,
    };
    engine.add_container(container);
    engine.tell_container(&id, "create", &[]);
    Ok(Reply::json(201, &json!({"Id": id, "Warnings": []})))
}

/// Whether Docker takes it as a name.
pub fn is_name(name: &str) -> bool {
    let mut letters = name.chars();
    let first = letters.next().is_some_and(|letter| letter.is_ascii_alphanumeric());
    first && name.len() > 1 && letters.all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '-'))
}

fn invalid_name(name: &str) -> Refused {
    refuse(400, format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"))
}

/// Refuses times that are too short to be meant, and drops what the older engine does not know.
fn check_health(engine: &Engine, config: &mut Object) -> Result<(), Refused> {
    let Some(health) = config.get_mut("Healthcheck").and_then(Value::as_object_mut) else { return Ok(()) };
    for key in ["Interval", "Timeout", "StartPeriod"] {
        let time = health.get(key).and_then(Value::as_i64).unwrap_or_default();
        if time != 0 && time < LEAST_TIME {
            return Err(refuse(400, format!("{key} in Healthcheck cannot be less than 1ms")));
        }
    }
    if engine.version == Version::V20_10 {
        health.remove("StartInterval");
    }
    Ok(())
}

/// Fills in what the image says; gives the command with its arguments.
fn merge(config: &mut Object, image: &Object) -> Vec<String> {
    let texts = |value: Option<&Value>| -> Vec<String> {
        match value {
            Some(Value::String(text)) => vec![text.clone()],
            Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => Vec::new(),
        }
    };
    for key in ["User", "WorkingDir"] {
        if config.get(key).and_then(Value::as_str) == Some("")
            && let Some(value) = image.get(key)
        {
            config.insert(key.to_owned(), value.clone());
        }
    }
    for key in ["StopSignal", "Healthcheck"] {
        if let (None, Some(value)) = (config.get(key), image.get(key).filter(|value| !value.is_null())) {
            config.insert(key.to_owned(), value.clone());
        }
    }
    for key in ["ExposedPorts", "Volumes", "Labels"] {
        let mut merged = image.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
        merged.extend(config.get(key).and_then(Value::as_object).cloned().unwrap_or_default());
        if !merged.is_empty() {
            let sorted: BTreeMap<String, Value> = merged.into_iter().collect();
            config.insert(key.to_owned(), json!(sorted));
        }
    }
    let mut env = texts(config.get("Env"));
    for pair in texts(image.get("Env")) {
        let name = pair.split('=').next().unwrap_or_default().to_owned();
        if !env.iter().any(|given| given.split('=').next() == Some(&name)) {
            env.push(pair);
        }
    }
    if !env.is_empty() {
        config.insert("Env".to_owned(), json!(env));
    }
    let (mut entrypoint, mut command) = (texts(config.get("Entrypoint")), texts(config.get("Cmd")));
    // An empty list is one of its own, without a word; only none at all is the image's.
    let own = config.get("Entrypoint").is_some_and(Value::is_array) && entrypoint.is_empty();
    if entrypoint.is_empty() {
        if command.is_empty() {
            command = texts(image.get("Cmd"));
        }
        if !own {
            entrypoint = texts(image.get("Entrypoint"));
        }
    } else if entrypoint == [""] {
        // One empty word takes the image's away.
        entrypoint.clear();
    }
    let or_null = |words: &Vec<String>| if words.is_empty() { Value::Null } else { json!(words) };
    config.insert("Entrypoint".to_owned(), if own { json!([]) } else { or_null(&entrypoint) });
    config.insert("Cmd".to_owned(), or_null(&command));
    entrypoint.into_iter().chain(command).collect()
}

impl Engine {
    /// Takes a name for a container that may not exist yet.
    pub(super) fn reserve(&mut self, name: &str, id: &str) -> Result<(), Refused> {
        if let Some(holder) = self.names.get(name) {
            return Err(refuse(
                409,
                format!(
                    "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to remove (or rename) that container to be able to reuse that name."
                ),
            ));
        }
        self.names.insert(name.to_owned(), id.to_owned());
        Ok(())
    }

    /// What of a host configuration is refused at once.
    pub(super) fn check_host(&self, host: &Object) -> Result<(), Refused> {
        let number = |key: &str| host.get(key).and_then(Value::as_i64).unwrap_or_default();
        let policy = host.get("RestartPolicy");
        let name = policy.and_then(|policy| policy.get("Name")).and_then(Value::as_str).unwrap_or_default();
        self.check_policy(name, policy.and_then(|policy| policy.get("MaximumRetryCount")).and_then(Value::as_i64).unwrap_or_default())?;
        if host.get("AutoRemove").and_then(Value::as_bool) == Some(true) && !matches!(name, "" | "no") {
            return Err(refuse(400, "can't create 'AutoRemove' container with restart policy"));
        }
        self.check_limits(number("Memory"), number("MemorySwap"), number("NanoCpus"))?;
        for (key, name) in [("CpuPeriod", "Period"), ("CpuQuota", "Quota")] {
            if number("NanoCpus") > 0 && number(key) > 0 {
                return Err(refuse(400, format!("Conflicting options: Nano CPUs and CPU {name} cannot both be set")));
            }
        }
        let log = host.get("LogConfig").and_then(|log| log.get("Type")).and_then(Value::as_str).filter(|log| !log.is_empty());
        if let Some(log) = log.filter(|log| !LOG_DRIVERS.contains(log)) {
            return Err(refuse(400, format!("error looking up logging plugin {log}: plugin \"{log}\" not found")));
        }
        let mut targets = BTreeSet::new();
        for mount in host.get("Mounts").and_then(Value::as_array).into_iter().flatten() {
            let text = |key: &str| mount.get(key).and_then(Value::as_str).unwrap_or_default();
            if text("Target").is_empty() {
                return Err(refuse(400, format!("invalid mount config for type \"{}\": field Target must not be empty", text("Type"))));
            }
            if !text("Target").starts_with('/') {
                let (kind, target) = (text("Type"), text("Target"));
                return Err(refuse(400, format!("invalid mount config for type \"{kind}\": invalid mount path: '{target}' mount path must be absolute")));
            }
            if !targets.insert(text("Target")) {
                return Err(refuse(400, format!("Duplicate mount point: {}", text("Target"))));
            }
            if text("Type") == "bind" && !self.host_has(text("Source")) {
                return Err(refuse(400, format!("invalid mount config for type \"bind\": bind source path does not exist: {}", text("Source"))));
            }
        }
        Ok(())
    }

    pub(super) fn check_policy(&self, name: &str, count: i64) -> Result<(), Refused> {
        if !matches!(name, "" | "no" | "always" | "on-failure" | "unless-stopped") {
            return Err(refuse(
                400,
                match self.version {
                    Version::V20_10 => format!("invalid restart policy '{name}'"),
                    Version::V28_5 => {
                        format!("invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'")
                    }
                },
            ));
        }
        if count != 0 && name != "on-failure" {
            return Err(refuse(
                400,
                match self.version {
                    Version::V20_10 => format!("maximum retry count cannot be used with restart policy '{name}'"),
                    Version::V28_5 => "invalid restart policy: maximum retry count can only be used with 'on-failure'".to_owned(),
                },
            ));
        }
        Ok(())
    }

    pub(super) fn check_limits(&self, memory: i64, swap: i64, nano_cpus: i64) -> Result<(), Refused> {
        if memory != 0 && memory < LEAST_MEMORY {
            return Err(refuse(400, "Minimum memory limit allowed is 6MB"));
        }
        if memory > 0 && swap > 0 && swap < memory {
            return Err(refuse(400, "Minimum memoryswap limit should be larger than memory limit, see usage"));
        }
        if nano_cpus < 0 || nano_cpus > i64::from(self.host.cpus) * 1_000_000_000 {
            let (range, cpus) = (self.word("Range", "range"), self.host.cpus);
            return Err(refuse(400, format!("{range} of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available")));
        }
        Ok(())
    }

    /// Whether there is such a path on the host.
    pub(super) fn host_has(&self, path: &str) -> bool {
        match &self.host_paths {
            Some(paths) => paths.contains(path),
            None => std::path::Path::new(path).exists(),
        }
    }

    /// Makes the volumes that are not there, and says what is mounted where.
    fn make_mounts(&mut self, host: &Object, config: &Object) -> Result<Vec<MountPoint>, Refused> {
        let mut mounts: Vec<MountPoint> = Vec::new();
        let volume = |engine: &Self, name: &str, target: &str, mode: &str, writable: bool| MountPoint {
            kind: "volume",
            name: name.to_owned(),
            source: engine.mountpoint(name),
            destination: target.to_owned(),
            driver: "local".to_owned(),
            mode: mode.to_owned(),
            writable,
            propagation: String::new(),
        };
        let bind = |source: &str, target: &str, mode: &str, writable: bool| MountPoint {
            kind: "bind",
            name: String::new(),
            source: source.to_owned(),
            destination: target.to_owned(),
            driver: String::new(),
            mode: mode.to_owned(),
            writable,
            propagation: "rprivate".to_owned(),
        };
        for text in host.get("Binds").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            let parts: Vec<&str> = text.split(':').collect();
            let (source, target, mode) = match parts.as_slice() {
                [source, target] => (*source, *target, ""),
                [source, target, mode] => (*source, *target, *mode),
                _ => return Err(refuse(400, format!("invalid volume specification: '{text}'"))),
            };
            let writable = !mode.split(',').any(|word| word == "ro");
            if source.starts_with('/') {
                mounts.push(bind(source, target, mode, writable));
            } else {
                self.used_volume(source)?;
                mounts.push(volume(self, source, target, if mode.is_empty() { "z" } else { mode }, writable));
            }
        }
        for mount in host.get("Mounts").and_then(Value::as_array).into_iter().flatten() {
            let text = |key: &str| mount.get(key).and_then(Value::as_str).unwrap_or_default();
            let writable = mount.get("ReadOnly").and_then(Value::as_bool) != Some(true);
            match text("Type") {
                "volume" => {
                    let name = if text("Source").is_empty() { self.new_anonymous() } else { text("Source").to_owned() };
                    if !text("Source").is_empty() {
                        self.used_volume(&name)?;
                    }
                    mounts.push(volume(self, &name, text("Target"), "z", writable));
                }
                "bind" => mounts.push(bind(text("Source"), text("Target"), "", writable)),
                "tmpfs" => mounts.push(MountPoint { kind: "tmpfs", propagation: String::new(), ..bind("", text("Target"), "", writable) }),
                other => return Err(refuse(400, format!("invalid mount config for type \"{other}\": mount type unknown"))),
            }
        }
        let tmpfs: Vec<&String> = host.get("Tmpfs").and_then(Value::as_object).into_iter().flat_map(Object::keys).collect();
        for target in config.get("Volumes").and_then(Value::as_object).into_iter().flat_map(Object::keys) {
            if mounts.iter().any(|mount| mount.destination == *target) || tmpfs.contains(&target) {
                continue;
            }
            let name = self.new_anonymous();
            mounts.push(volume(self, &name, target, "", true));
        }
        Ok(mounts)
    }

    /// The networks that a creation asks for.
    fn asked_endpoints(&mut self, host: &Object, networking: &Object) -> BTreeMap<String, Endpoint> {
        let mode = host.get("NetworkMode").and_then(Value::as_str).unwrap_or_default();
        let first = match mode {
            "default" | "bridge" => "bridge",
            other => other,
        };
        let mut endpoints = BTreeMap::new();
        if mode.starts_with("container:") {
            return endpoints;
        }
        let settings = |value: Option<&Value>| {
            let aliases = value.and_then(|value| value.get("Aliases")).and_then(Value::as_array);
            let aliases = aliases.map(|words| words.iter().filter_map(Value::as_str).map(str::to_owned).collect());
            let asked_ip = value.and_then(|value| value.get("IPAMConfig")).and_then(|config| config.get("IPv4Address")).and_then(Value::as_str);
            Endpoint { aliases, asked_ip: asked_ip.filter(|ip| !ip.is_empty()).map(str::to_owned), ..Endpoint::default() }
        };
        let known = |engine: &Self, reference: &str| engine.find_network(reference).map(|id| engine.networks[&id].name.clone());
        let first_name = known(self, first).unwrap_or_else(|_| first.to_owned());
        endpoints.insert(first_name.clone(), settings(None));
        for (key, value) in networking {
            let name =
                if key == first || (key == "default" && first == "bridge") { first_name.clone() } else { known(self, key).unwrap_or_else(|_| key.clone()) };
            endpoints.insert(name, settings(Some(value)));
        }
        endpoints
    }
}
