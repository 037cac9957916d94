//! Containers: their list, and what is done to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};

use super::create::is_name;
use super::filters::Filters;
use super::http::{Refused, Reply, Request, Served, refuse};
use super::inspect::Networks;
use super::lifecycle::no_such;
use super::process::signal;
use super::state::{Container, Engine, Object, Status};
use super::text;
use super::{Version, events};

const FILTERS: [&str; 16] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "label!",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

/// `GET /containers/json`.
pub fn list(engine: &mut Engine, request: &Request) -> Served {
    let filters = Filters::of(engine, request, Some(&FILTERS))?;
    let bad = |value: &String| !["created", "running", "paused", "restarting", "removing", "exited", "dead"].contains(&value.as_str());
    if let Some(bad) = filters.values("status").iter().find(|value| bad(value)) {
        return Err(match engine.version {
            Version::V20_10 => refuse(400, format!("Invalid filter 'status={bad}'")),
            Version::V28_5 => {
                let known = "must be one of created, running, paused, restarting, removing, exited, dead";
                refuse(400, format!("invalid filter 'status={bad}': invalid value for state ({bad}): {known}"))
            }
        });
    }
    let limit = request.query("limit").and_then(|text| text.parse::<usize>().ok()).filter(|limit| *limit > 0);
    let all = request.flag("all") || limit.is_some() || filters.has("status") || filters.has("exited");
    let mut containers: Vec<&Container> =
        engine.with_labels(filters.values("label")).filter(|container| (all || container.is_running()) && engine.listed(&filters, container)).collect();
    containers.sort_by(|left, right| right.created.cmp(&left.created).then_with(|| left.id.cmp(&right.id)));
    containers.truncate(limit.unwrap_or(usize::MAX));
    let size = request.flag("size");
    let shown: Vec<Shown<'_>> = containers.into_iter().map(|container| Shown { engine, container, size }).collect();
    Ok(Reply::json(200, &shown))
}

/// A container of a list.
pub(super) struct Shown<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// The container.
    pub container: &'a Container,
    /// With the bytes that it takes.
    pub size: bool,
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { engine, container, size } = self;
        let image = engine.images.get(&container.image_id);
        // An image that was named otherwise since shows by its id.
        let named = engine.find_image(&container.image).is_ok_and(|id| id == container.image_id);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("Id", &container.id)?;
        map.serialize_entry("Names", &[format!("/{}", container.name)])?;
        map.serialize_entry("Image", if named { &container.image } else { &container.image_id })?;
        map.serialize_entry("ImageID", &container.image_id)?;
        map.serialize_entry("Command", &text::command(&container.argv))?;
        map.serialize_entry("Created", &container.created.as_second())?;
        map.serialize_entry("Ports", &engine.listed_ports(container))?;
        if *size {
            map.serialize_entry("SizeRootFs", &image.map_or(0, |image| image.size))?;
        }
        map.serialize_entry("Labels", &*container.labels)?;
        map.serialize_entry("State", container.status.word())?;
        map.serialize_entry("Status", &engine.status_text(container))?;
        map.serialize_entry("HostConfig", &json!({"NetworkMode": container.network_mode()}))?;
        struct Settings<'a>(Networks<'a>);
        impl Serialize for Settings<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("Networks", &self.0)?;
                map.end()
            }
        }
        map.serialize_entry("NetworkSettings", &Settings(Networks { engine, container, whole: false }))?;
        map.serialize_entry("Mounts", &*container.mounts)?;
        map.end()
    }
}

impl Engine {
    /// `Up 5 minutes (healthy)`.
    pub(super) fn status_text(&self, container: &Container) -> String {
        let since = |at: Option<jiff::Timestamp>| {
            let time = at.map(|at| self.now.duration_since(at));
            text::about(time.and_then(|time| Duration::try_from(time).ok()).unwrap_or_default())
        };
        let (code, finished) = (container.exit_code, since(container.finished).clone());
        match container.status {
            Status::Created => "Created".to_owned(),
            Status::Paused => format!("Up {} (Paused)", since(container.started)),
            Status::Running => match container.health.as_ref().map(|health| health.status.as_str()) {
                None => format!("Up {}", since(container.started)),
                Some("starting") => format!("Up {} (health: starting)", since(container.started)),
                Some(health) => format!("Up {} ({health})", since(container.started)),
            },
            Status::Restarting => format!("Restarting ({code}) {finished} ago"),
            Status::Removing => "Removal In Progress".to_owned(),
            Status::Exited if container.finished.is_none() => "Created".to_owned(),
            Status::Exited => format!("Exited ({code}) {finished} ago"),
            Status::Dead => "Dead".to_owned(),
        }
    }

    fn listed_ports(&self, container: &Container) -> Vec<Value> {
        let mut ports: Vec<Value> =
            container.ports.iter().map(|port| json!({"IP": port.ip, "PrivatePort": port.private, "PublicPort": port.public, "Type": port.protocol})).collect();
        if container.is_running() && container.status != Status::Restarting {
            for exposed in container.config.get("ExposedPorts").and_then(Value::as_object).into_iter().flat_map(Object::keys) {
                let (private, protocol) = exposed.split_once('/').unwrap_or((exposed, "tcp"));
                let private: u16 = private.parse().unwrap_or_default();
                if !container.ports.iter().any(|port| port.private == private && port.protocol == protocol) {
                    ports.push(json!({"PrivatePort": private, "Type": protocol}));
                }
            }
        }
        ports
    }

    fn listed(&self, filters: &Filters, container: &Container) -> bool {
        let image = |wanted: &str| self.find_image(wanted).is_ok_and(|id| id == container.image_id) || container.image == wanted;
        let network = |wanted: &str| {
            container
                .endpoints
                .iter()
                .any(|(name, endpoint)| name == wanted || endpoint.network_id.starts_with(wanted) && !wanted.is_empty() && !endpoint.network_id.is_empty())
        };
        let volume = |wanted: &str| container.mounts.iter().any(|mount| mount.name == wanted || mount.destination == wanted || mount.source == wanted);
        let health = container.health.as_ref().map_or("none", |health| health.status.as_str());
        let when = |key: &str| filters.values(key).first().and_then(|reference| self.container_id(reference)).map(|id| self.containers[&id].created);
        filters.labels(&container.labels)
            && filters.name(&container.name)
            && filters.any("id", |id| container.id.starts_with(id))
            && filters.exact("status", container.status.word())
            && filters.any("exited", |code| container.status == Status::Exited && container.exit_code.to_string() == code)
            && filters.any("ancestor", image)
            && filters.any("network", network)
            && filters.any("volume", volume)
            && filters.exact("health", health)
            && when("before").is_none_or(|at| container.created < at)
            && when("since").is_none_or(|at| container.created > at)
    }

    fn the(&self, request: &Request) -> Result<String, Refused> {
        self.container_id(&request.target).ok_or_else(|| no_such(&request.target))
    }

    fn not_running(&self, id: &str) -> Refused {
        refuse(409, format!("{} {id} is not running", self.word("Container", "container")))
    }
}

/// `POST /containers/{id}/start`.
pub fn start(engine: &mut Engine, request: &Request) -> Served {
    let id = engine.the(request)?;
    engine.start(&id).map(|()| Reply::empty(204))
}

/// `POST /containers/{id}/stop`.
pub fn stop(engine: &mut Engine, request: &Request) -> Served {
    let id = engine.the(request)?;
    if !engine.containers[&id].is_running() {
        return Err(refuse(304, ""));
    }
    let grace = request.query("t").and_then(|text| text.parse().ok());
    let (run, was) = (engine.containers[&id].run, engine.containers[&id].status);
    engine.stop(&id, grace);
    Ok(Reply::later(move |engine| {
        if engine.containers.get(&id).is_some_and(|container| container.run == run && container.is_running()) {
            return None;
        }
        engine.tell_stopped(&id, was);
        Some(Ok(Reply::empty(204)))
    }))
}

/// `POST /containers/{id}/restart`.
pub fn restart(engine: &mut Engine, request: &Request) -> Served {
    let id = engine.the(request)?;
    let grace = request.query("t").and_then(|text| text.parse().ok());
    let run = engine.containers[&id].run;
    let (running, was) = (engine.containers[&id].is_running(), engine.containers[&id].status);
    if running {
        engine.stop(&id, grace);
    }
    Ok(Reply::later(move |engine| {
        let container = engine.containers.get(&id)?;
        if running && container.run == run && container.is_running() {
            return None;
        }
        if running {
            engine.tell_stopped(&id, was);
        }
        let name = container_name(engine, &id);
        let cannot = engine.word("Cannot", "cannot");
        let started = match engine.start(&id) {
            Err(Refused(304, _)) | Ok(()) => Ok(Reply::empty(204)),
            Err(Refused(status, message)) => {
                Err(refuse(if engine.version == Version::V20_10 { 500 } else { status }, format!("{cannot} restart container {name}: {message}")))
            }
        };
        if started.is_ok() {
            engine.tell_container(&id, "restart", &[]);
        }
        engine.changes += 1;
        Some(started)
    }))
}

fn container_name(engine: &Engine, id: &str) -> String {
    engine.containers.get(id).map(|container| container.name.clone()).unwrap_or_default()
}

/// `POST /containers/{id}/kill`.
pub fn kill(engine: &mut Engine, request: &Request) -> Served {
    let id = engine.the(request)?;
    let word = request.query("signal").filter(|word| !word.is_empty()).unwrap_or("KILL");
    let cannot = format!("{} container: {}: ", engine.word("Cannot kill", "cannot kill"), request.target);
    let Some(number) = signal(word) else {
        return Err(match engine.version {
            Version::V20_10 => refuse(400, format!("Invalid signal: {word}")),
            Version::V28_5 => refuse(400, format!("{cannot}invalid signal: {word}")),
        });
    };
    if !engine.containers[&id].is_running() || engine.containers[&id].status == Status::Restarting {
        let Refused(status, message) = engine.not_running(&id);
        return Err(refuse(status, format!("{cannot}{message}")));
    }
    if let Some(container) = engine.containers.get_mut(&id) {
        // A signal that is meant to end it ends its restarts too; without one of its own, any may be.
        let own = container.config.get("StopSignal").and_then(Value::as_str).and_then(signal);
        container.stopped_by_hand |= number == 9 || own.is_none_or(|own| own == number);
    }
    engine.signal(&id, number);
    Ok(Reply::empty(204))
}

/// `POST /containers/{id}/pause`.
pub fn pause(engine: &mut Engine, request: &Request) -> Served {
    let id = engine.the(request)?;
    match engine.containers[&id].status {
        Status::Running => {}
        Status::Paused => return Err(refuse(409, format!("Container {id} is already paused"))),
        Status::Restarting => {
            let container = engine.word("Container", "container");
            return Err(refuse(409, format!("{container} {id} is restarting, wait until the container is running")));
        }
        Status::Created | Status::Removing | Status::Exited | Status::Dead => return Err(engine.not_running(&id)),
    }
    engine.freeze(&id, true);
    Ok(Reply::empty(204))
}

/// `POST /containers/{id}/unpause`.
pub fn unpause(engine: &mut Engine, request: &Request) -> Served {
    let id = engine.the(request)?;
    if engine.containers[&id].status != Status::Paused {
        return Err(refuse(500, format!("Container {id} is not paused")));
    }
    engine.freeze(&id, false);
    Ok(Reply::empty(204))
}

/// `POST /containers/{id}/rename`.
pub fn rename(engine: &mut Engine, request: &Request) -> Served {
    let new = request.query("name").unwrap_or_default().trim_start_matches('/').to_owned();
    let id = engine.the(request)?;
    if new.is_empty() {
        return Err(refuse(400, "Neither old nor new names may be empty"));
    }
    engine.rename(&id, &new).map(|()| Reply::empty(204))
}

/// `DELETE /containers/{id}`.
pub fn delete(engine: &mut Engine, request: &Request) -> Served {
    let id = engine.the(request)?;
    let status = engine.containers[&id].status;
    if engine.containers[&id].is_running() && !request.flag("force") {
        let (word, paused) = (status.word(), status == Status::Paused);
        let first = if paused { "Unpause and then stop" } else { "Stop" };
        let why = if paused { "paused and must be unpaused first".to_owned() } else { format!("{word}: stop the container before removing or force remove") };
        return Err(match engine.version {
            Version::V20_10 => {
                refuse(409, format!("You cannot remove a {word} container {id}. {first} the container before attempting removal or force remove"))
            }
            Version::V28_5 => refuse(409, format!("cannot remove container \"{}\": container is {why}", request.target)),
        });
    }
    if status == Status::Removing {
        return Err(refuse(409, format!("removal of container {} is already in progress", request.target)));
    }
    engine.remove(&id, request.flag("v"));
    Ok(Reply::empty(204))
}

/// `POST /containers/{id}/update`: what is 0 is left as it is.
pub fn update(engine: &mut Engine, request: &Request) -> Served {
    let id = engine.the(request)?;
    let given = request.json(engine, ("container.UpdateConfig", "container.UpdateConfig"))?;
    let number = |key: &str| given.get(key).and_then(Value::as_i64).unwrap_or_default();
    let policy = given.get("RestartPolicy").filter(|policy| !policy.is_null());
    let policy = policy.map(|policy| {
        let name = policy.get("Name").and_then(Value::as_str).unwrap_or_default().to_owned();
        (name, policy.get("MaximumRetryCount").and_then(Value::as_i64).unwrap_or_default())
    });
    if let Some((name, count)) = &policy {
        engine.check_policy(name, *count)?;
    }
    engine.check_limits(number("Memory"), number("MemorySwap"), number("NanoCpus"))?;
    let container = &engine.containers[&id];
    let (memory, swap) = (number("Memory"), number("MemorySwap"));
    let old_swap = container.host_number("MemorySwap");
    if memory > 0 && swap == 0 && old_swap > 0 && memory > old_swap {
        let why = "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time";
        return Err(refuse(409, format!("Cannot update container {id}: {why}")));
    }
    if container.host_flag("AutoRemove") && policy.as_ref().is_some_and(|(name, _)| !matches!(name.as_str(), "" | "no")) {
        return Err(refuse(409, format!("Cannot update container {id}: Restart policy cannot be updated because AutoRemove is enabled for the container")));
    }
    if let Some(container) = engine.containers.get_mut(&id) {
        let host = Arc::make_mut(&mut container.host);
        for key in ["Memory", "MemorySwap", "MemoryReservation", "NanoCpus", "CpuShares", "CpuPeriod", "CpuQuota", "BlkioWeight"] {
            if number(key) != 0 {
                host.insert(key.to_owned(), json!(number(key)));
            }
        }
        for key in ["CpusetCpus", "CpusetMems"] {
            if let Some(text) = given.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()) {
                host.insert(key.to_owned(), json!(text));
            }
        }
        if let Some(limit) = given.get("PidsLimit").and_then(Value::as_i64) {
            host.insert("PidsLimit".to_owned(), json!(limit.max(0)));
        }
        if let Some((name, count)) = policy.filter(|(name, _)| !name.is_empty()) {
            host.insert("RestartPolicy".to_owned(), json!({"Name": name, "MaximumRetryCount": count}));
        }
    }
    engine.tell_container(&id, "update", &[]);
    Ok(Reply::json(200, &json!({"Warnings": null})))
}

/// `POST /containers/prune`.
pub fn prune(engine: &mut Engine, request: &Request) -> Served {
    let filters = Filters::of(engine, request, None)?;
    let until = filters.values("until").first().and_then(|text| events::instant(text));
    let idle = engine
        .containers
        .values()
        .filter(|container| !container.is_running() && filters.labels(&container.labels) && until.is_none_or(|until| container.created < until));
    let idle: Vec<String> = idle.map(|container| container.id.clone()).collect();
    let bytes: usize = idle.iter().filter_map(|id| engine.containers.get(id)).flat_map(|container| container.files.values()).map(bytes::Bytes::len).sum();
    for id in &idle {
        engine.remove(id, false);
    }
    engine.tell("container", "prune", "", BTreeMap::from([("reclaimed".to_owned(), bytes.to_string())]));
    Ok(Reply::json(200, &json!({"ContainersDeleted": if idle.is_empty() { Value::Null } else { json!(idle) }, "SpaceReclaimed": bytes})))
}

impl Engine {
    /// Freezes what runs, or thaws it.
    pub(super) fn freeze(&mut self, id: &str, frozen: bool) {
        if let Some(container) = self.containers.get_mut(id) {
            container.status = if frozen { Status::Paused } else { Status::Running };
        }
        self.tell_container(id, if frozen { "pause" } else { "unpause" }, &[]);
        if !frozen {
            self.go_on(id);
        }
    }

    /// Gives a container another name.
    pub(super) fn rename(&mut self, id: &str, new: &str) -> Result<(), Refused> {
        let old = self.containers[id].name.clone();
        if old == new {
            return Err(refuse(400, "Renaming a container with the same name as its current name"));
        }
        let failed = |message: String| format!("Error when allocating new name: {message}");
        if !is_name(new) {
            return Err(refuse(400, failed(format!("Invalid container name (/{new}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"))));
        }
        self.reserve(new, id).map_err(|Refused(status, message)| refuse(status, failed(message)))?;
        self.names.remove(&old);
        if let Some(container) = self.containers.get_mut(id) {
            new.clone_into(&mut container.name);
        }
        self.tell_container(id, "rename", &[("oldName", format!("/{old}"))]);
        Ok(())
    }

    /// Ends and removes a container.
    pub(super) fn remove(&mut self, id: &str, with_volumes: bool) {
        if let Some(container) = self.containers.get_mut(id) {
            container.stopped_by_hand = true;
            if container.is_running() {
                self.signal(id, 9);
            }
        }
        self.take_away(id, with_volumes);
    }
}
