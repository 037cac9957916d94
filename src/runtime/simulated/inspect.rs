//! `GET /containers/{id}/json`.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::{Value, json};

use super::Version;
use super::endpoints::ShownEndpoint;
use super::http::{Reply, Request, Served};
use super::lifecycle::no_such;
use super::state::{Container, Engine, Object, Status};
use super::text;

/// `GET /containers/{id}/json`.
pub fn inspect(engine: &mut Engine, request: &Request) -> Served {
    let id = engine.container_id(&request.target).ok_or_else(|| no_such(&request.target))?;
    Ok(Reply::json(200, &Shown { engine, container: &engine.containers[&id], size: request.flag("size") }))
}

struct Shown<'a> {
    engine: &'a Engine,
    container: &'a Container,
    size: bool,
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { engine, container, size } = self;
        let mut map = serializer.serialize_map(None)?;
        let file = |name: &str| {
            if container.started.is_none() && container.error.is_empty() {
                String::new()
            } else {
                format!("{}/containers/{}/{name}", engine.host.root, container.id)
            }
        };
        let log = if container.started.is_none() { String::new() } else { file(&format!("{}-json.log", container.id)) };
        let (path, arguments) = container.argv.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
        map.serialize_entry("Id", &container.id)?;
        map.serialize_entry("Created", &text::instant(Some(container.created)))?;
        map.serialize_entry("Path", path)?;
        map.serialize_entry("Args", arguments)?;
        map.serialize_entry("State", &state(container))?;
        map.serialize_entry("Image", &container.image_id)?;
        map.serialize_entry("ResolvConfPath", &file("resolv.conf"))?;
        map.serialize_entry("HostnamePath", &file("hostname"))?;
        map.serialize_entry("HostsPath", &file("hosts"))?;
        map.serialize_entry("LogPath", &log)?;
        map.serialize_entry("Name", &format!("/{}", container.name))?;
        map.serialize_entry("RestartCount", &container.restarts)?;
        map.serialize_entry("Driver", "overlay2")?;
        map.serialize_entry("Platform", "linux")?;
        map.serialize_entry("MountLabel", "")?;
        map.serialize_entry("ProcessLabel", "")?;
        map.serialize_entry("AppArmorProfile", "")?;
        let execs: Vec<&String> = engine.execs.values().filter(|exec| exec.container == container.id && exec.process.is_some()).map(|exec| &exec.id).collect();
        map.serialize_entry("ExecIDs", &(!execs.is_empty()).then_some(execs))?;
        map.serialize_entry("HostConfig", &*container.host)?;
        let folder = format!("{}/overlay2/{}", engine.host.root, container.id);
        let data = json!({"MergedDir": format!("{folder}/merged"), "UpperDir": format!("{folder}/diff"), "WorkDir": format!("{folder}/work")});
        map.serialize_entry("GraphDriver", &json!({"Data": data, "Name": "overlay2"}))?;
        if *size {
            let own: usize = container.files.values().map(bytes::Bytes::len).sum();
            let whole = engine.images.get(&container.image_id).map_or(0, |image| image.size);
            map.serialize_entry("SizeRw", &own)?;
            map.serialize_entry("SizeRootFs", &(own as u64 + whole))?;
        }
        map.serialize_entry("Mounts", &*container.mounts)?;
        map.serialize_entry("Config", &*container.config)?;
        map.serialize_entry("NetworkSettings", &Settings { engine, container })?;
        map.end()
    }
}

fn state(container: &Container) -> Value {
    let running = container.is_running();
    let alive = matches!(container.status, Status::Running | Status::Paused);
    let mut state = Object::new();
    let pid = container.process.as_ref().filter(|_| alive).map_or(0, |process| process.pid);
    for (key, value) in [
        ("Status", json!(container.status.word())),
        ("Running", json!(running)),
        ("Paused", json!(container.status == Status::Paused)),
        ("Restarting", json!(container.status == Status::Restarting)),
        ("OOMKilled", json!(container.oom_killed)),
        ("Dead", json!(container.status == Status::Dead)),
        ("Pid", json!(pid)),
        ("ExitCode", json!(container.exit_code)),
        ("Error", json!(container.error)),
        ("StartedAt", json!(text::instant(container.started))),
        ("FinishedAt", json!(text::instant(container.finished))),
    ] {
        state.insert(key.to_owned(), value);
    }
    if let Some(health) = &container.health {
        let runs = health
            .log
            .iter()
            .map(|run| json!({"Start": text::instant(Some(run.start)), "End": text::instant(Some(run.end)), "ExitCode": run.code, "Output": run.output}));
        let runs: Vec<Value> = runs.collect();
        let log = if runs.is_empty() { Value::Null } else { json!(runs) };
        state.insert("Health".to_owned(), json!({"Status": health.status, "FailingStreak": health.failing, "Log": log}));
    }
    Value::Object(state)
}

struct Settings<'a> {
    engine: &'a Engine,
    container: &'a Container,
}

impl Serialize for Settings<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { engine, container } = *self;
        let alive = container.is_running();
        let sandbox = if alive { container.id.chars().rev().collect::<String>() } else { String::new() };
        let key = if alive { format!("/var/run/docker/netns/{}", &sandbox[..12]) } else { String::new() };
        let ports = if alive { ports(container) } else { Object::new() };
        // Of the default bridge the engine tells the older fields too.
        let bridge = container.endpoints.get("bridge").cloned().unwrap_or_default();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("Bridge", "")?;
        map.serialize_entry("SandboxID", &sandbox)?;
        if engine.version == Version::V28_5 {
            map.serialize_entry("SandboxKey", &key)?;
            map.serialize_entry("Ports", &ports)?;
        }
        map.serialize_entry("HairpinMode", &false)?;
        map.serialize_entry("LinkLocalIPv6Address", "")?;
        map.serialize_entry("LinkLocalIPv6PrefixLen", &0)?;
        if engine.version == Version::V20_10 {
            map.serialize_entry("Ports", &ports)?;
            map.serialize_entry("SandboxKey", &key)?;
        }
        map.serialize_entry("SecondaryIPAddresses", &Value::Null)?;
        map.serialize_entry("SecondaryIPv6Addresses", &Value::Null)?;
        map.serialize_entry("EndpointID", &bridge.id)?;
        map.serialize_entry("Gateway", &bridge.gateway)?;
        map.serialize_entry("GlobalIPv6Address", "")?;
        map.serialize_entry("GlobalIPv6PrefixLen", &0)?;
        map.serialize_entry("IPAddress", &bridge.ip)?;
        map.serialize_entry("IPPrefixLen", &bridge.prefix)?;
        map.serialize_entry("IPv6Gateway", "")?;
        map.serialize_entry("MacAddress", &bridge.mac)?;
        let networks = Networks { engine, container, whole: true };
        map.serialize_entry("Networks", &networks)?;
        map.end()
    }
}

/// The endpoints of a container by the names of their networks.
pub struct Networks<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// The container.
    pub container: &'a Container,
    /// With aliases.
    pub whole: bool,
}

impl Serialize for Networks<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, endpoint) in &self.container.endpoints {
            map.serialize_entry(name, &ShownEndpoint(self.engine, self.container, name, endpoint, self.whole))?;
        }
        map.end()
    }
}

/// Ports of a running container, those that are only exposed included.
fn ports(container: &Container) -> Object {
    let mut ports = Object::new();
    for exposed in container.config.get("ExposedPorts").and_then(Value::as_object).into_iter().flat_map(Object::keys) {
        ports.insert(exposed.clone(), Value::Null);
    }
    for port in &container.ports {
        let entry = ports.entry(format!("{}/{}", port.private, port.protocol)).or_insert(Value::Null);
        if entry.is_null() {
            *entry = json!([]);
        }
        if let Some(list) = entry.as_array_mut() {
            list.push(json!({"HostIp": port.ip, "HostPort": port.public.to_string()}));
        }
    }
    ports
}
