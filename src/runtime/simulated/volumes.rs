//! Volumes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Version;
use super::filters::Filters;
use super::http::{Refused, Reply, Request, Served, refuse};
use super::state::{Engine, Volume};
use super::text;

/// The label of volumes whose name the engine chose.
const ANONYMOUS: &str = "com.docker.volume.anonymous";
/// Options of the one driver.
const OPTIONS: [&str; 4] = ["type", "o", "device", "size"];

/// `GET /volumes`.
pub fn list(engine: &mut Engine, request: &Request) -> Served {
    let filters = Filters::of(engine, request, Some(&["dangling", "name", "driver", "label"]))?;
    let users = |volume: &Volume| !engine.volume_users(&volume.name).is_empty();
    let passes = |volume: &&Volume| {
        filters.any("name", |name| volume.name.contains(name))
            && filters.exact("driver", "local")
            && filters.flag("dangling").is_none_or(|dangling| dangling != users(volume))
            && filters.labels(volume.labels.as_ref().unwrap_or(&BTreeMap::new()))
    };
    let volumes: Vec<Value> = engine.volumes.values().filter(passes).map(|volume| engine.show_volume(volume)).collect();
    Ok(Reply::json(200, &json!({"Volumes": volumes, "Warnings": null})))
}

/// `GET /volumes/{name}`.
pub fn inspect(engine: &mut Engine, request: &Request) -> Served {
    let volume = engine.volumes.get(&request.target).ok_or_else(|| absent(&request.target))?;
    Ok(Reply::json(200, &engine.show_volume(volume)))
}

/// `POST /volumes/create`.
pub fn create(engine: &mut Engine, request: &Request) -> Served {
    let given = request.json(engine, ("volume.VolumeCreateBody", "volume.CreateOptions"))?;
    let text = |key: &str| given.get(key).and_then(Value::as_str).unwrap_or_default();
    let pairs = |key: &str| {
        let object = given.get(key).and_then(Value::as_object)?;
        Some(object.iter().map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect::<BTreeMap<_, _>>())
    };
    let name = text("Name").to_owned();
    if !matches!(text("Driver"), "" | "local") {
        let driver = text("Driver");
        return Err(refuse(404, format!("create {name}: error looking up volume plugin {driver}: plugin \"{driver}\" not found")));
    }
    // One that is there is given, whoever made it.
    if let Some(volume) = engine.volumes.get(&name) {
        let reply = Reply::json(201, &engine.show_volume(volume));
        if engine.version == Version::V20_10 {
            engine.tell_volume(&name, "create");
        }
        return Ok(reply);
    }
    let (labels, options) = (pairs("Labels"), pairs("DriverOpts"));
    let name = if name.is_empty() { engine.make_anonymous() } else { engine.make_volume(&name)? };
    if let Some(bad) = options.iter().flat_map(BTreeMap::keys).find(|key| !OPTIONS.contains(&key.as_str())) {
        engine.volumes.remove(&name);
        return Err(refuse(400, format!("create {name}: invalid option: \"{bad}\"")));
    }
    if let Some(volume) = engine.volumes.get_mut(&name) {
        match (&mut volume.labels, labels) {
            (Some(there), Some(labels)) => there.extend(labels),
            (there, labels) => *there = labels.or(there.take()),
        }
        volume.options = options.filter(|options| !options.is_empty());
    }
    engine.tell_volume(&name, "create");
    Ok(Reply::json(201, &engine.show_volume(&engine.volumes[&name])))
}

/// `DELETE /volumes/{name}`.
pub fn delete(engine: &mut Engine, request: &Request) -> Served {
    let name = request.target.clone();
    if !engine.volumes.contains_key(&name) {
        return if request.flag("force") { Ok(Reply::empty(204)) } else { Err(absent(&name)) };
    }
    let users = engine.volume_users(&name);
    if !users.is_empty() {
        return Err(refuse(409, format!("remove {name}: volume is in use - [{}]", users.join(", "))));
    }
    engine.volumes.remove(&name);
    engine.tell_volume(&name, "destroy");
    Ok(Reply::empty(204))
}

/// `POST /volumes/prune`: asked in an older API, it takes those with names too.
pub fn prune(engine: &mut Engine, request: &Request) -> Served {
    let known = ["label", "label!", "all"];
    let filters = Filters::of(engine, request, Some(if engine.version == Version::V20_10 { &known[..2] } else { &known }))?;
    let all = request.api < (1, 42) || filters.flag("all") == Some(true);
    let unused = engine.volumes.values().filter(|volume| {
        let none = BTreeMap::new();
        let labels = volume.labels.as_ref().unwrap_or(&none);
        (all || labels.contains_key(ANONYMOUS)) && filters.labels(labels) && volume.options.is_none() && engine.volume_users(&volume.name).is_empty()
    });
    let names: Vec<String> = unused.map(|volume| volume.name.clone()).collect();
    let bytes: usize = names.iter().filter_map(|name| engine.volumes.get(name)).flat_map(|volume| volume.files.values()).map(bytes::Bytes::len).sum();
    for name in &names {
        engine.volumes.remove(name);
        engine.tell_volume(name, "destroy");
    }
    engine.tell("volume", "prune", "", BTreeMap::from([("reclaimed".to_owned(), bytes.to_string())]));
    Ok(Reply::json(200, &json!({"VolumesDeleted": names, "SpaceReclaimed": bytes})))
}

fn absent(name: &str) -> Refused {
    refuse(404, format!("get {name}: no such volume"))
}

impl Engine {
    /// Where a volume is on the host.
    pub(super) fn mountpoint(&self, name: &str) -> String {
        format!("{}/volumes/{name}/_data", self.host.root)
    }

    pub(super) fn show_volume(&self, volume: &Volume) -> Value {
        json!({
            "CreatedAt": text::instant(jiff::Timestamp::from_second(volume.created.as_second()).ok()),
            "Driver": "local",
            "Labels": volume.labels,
            "Mountpoint": self.mountpoint(&volume.name),
            "Name": volume.name,
            "Options": volume.options,
            "Scope": "local",
        })
    }

    /// The containers that mount a volume.
    pub(super) fn volume_users(&self, name: &str) -> Vec<String> {
        let uses = |container: &&super::state::Container| container.mounts.iter().any(|mount| mount.kind == "volume" && mount.name == name);
        self.containers.values().filter(uses).map(|container| container.id.clone()).collect()
    }

    fn make_volume(&mut self, name: &str) -> Result<String, Refused> {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '-');
        if name.len() < 2 {
            return Err(refuse(400, format!("create {name}: volume name is too short, names should be at least two alphanumeric characters")));
        }
        if !name.starts_with(|letter: char| letter.is_ascii_alphanumeric()) || !name.chars().all(plain) {
            let rest = "includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path";
            return Err(refuse(400, format!("create {name}: \"{name}\" {rest}")));
        }
        let volume = Volume { name: name.to_owned(), created: self.now, labels: None, options: None, anonymous: false, files: BTreeMap::new() };
        self.volumes.insert(name.to_owned(), volume);
        Ok(name.to_owned())
    }

    /// A volume whose name the engine chooses.
    pub(super) fn make_anonymous(&mut self) -> String {
        let name = self.id();
        let labels = (self.version == Version::V28_5).then(|| BTreeMap::from([(ANONYMOUS.to_owned(), String::new())]));
        let volume = Volume { name: name.clone(), created: self.now, labels, options: None, anonymous: true, files: BTreeMap::new() };
        self.volumes.insert(name.clone(), volume);
        name
    }

    /// The same for a container, told to those who listen.
    pub(super) fn new_anonymous(&mut self) -> String {
        let name = self.make_anonymous();
        self.tell_volume(&name, "create");
        name
    }

    /// A volume that a container names: made where it is not there.
    pub(super) fn used_volume(&mut self, name: &str) -> Result<(), Refused> {
        let there = self.volumes.contains_key(name);
        if !there {
            self.make_volume(name)?;
        }
        if !there || self.version == Version::V20_10 {
            self.tell_volume(name, "create");
        }
        Ok(())
    }

    pub(super) fn tell_volume(&mut self, name: &str, action: &str) {
        self.tell("volume", action, name, BTreeMap::from([("driver".to_owned(), "local".to_owned())]));
    }
}
