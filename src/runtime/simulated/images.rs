//! Images that the engine has, and those that are made by import.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::Version;
use super::filters::Filters;
use super::http::{Refused, Reply, Request, Served, refuse};
use super::state::{Engine, Image, Object};
use super::text;

/// `GET /images/json`.
pub fn list(engine: &mut Engine, request: &Request) -> Served {
    let filters = Filters::of(engine, request, Some(&["before", "dangling", "label", "reference", "since", "until"]))?;
    let mut images: Vec<&Image> = engine.images.values().filter(|image| engine.image_passes(&filters, image)).collect();
    images.sort_by(|left, right| right.created.cmp(&left.created).then_with(|| left.id.cmp(&right.id)));
    let shown: Vec<Value> = images.into_iter().map(|image| engine.show_image(image, false)).collect();
    Ok(Reply::json(200, &shown))
}

/// `GET /images/{name}/json`.
pub fn inspect(engine: &mut Engine, request: &Request) -> Served {
    let id = engine.find_image(&request.target).map_err(|Refused(status, message)| match engine.version {
        Version::V20_10 if status == 404 => refuse(404, format!("no such image: {}: {message}", request.target)),
        Version::V20_10 | Version::V28_5 => refuse(status, message),
    })?;
    let image = &engine.images[&id];
    let folder = format!("{}/overlay2/{}", engine.host.root, &image.layer[7..]);
    let data = json!({"MergedDir": format!("{folder}/merged"), "UpperDir": format!("{folder}/diff"), "WorkDir": format!("{folder}/work")});
    let mut shown = json!({
        "Id": image.id, "RepoTags": image.tags, "RepoDigests": image.digests, "Parent": "", "Comment": image.comment,
        "Created": text::instant(Some(image.created)), "DockerVersion": engine.version.number(), "Author": "", "Config": *image.config,
        "Architecture": "amd64", "Os": "linux", "Size": image.size, "VirtualSize": image.size, "GraphDriver": {"Data": data, "Name": "overlay2"},
        "RootFS": {"Type": "layers", "Layers": [image.layer]}, "Metadata": {"LastTagTime": text::instant(Some(image.created))},
    });
    if let (Version::V28_5, Some(shown)) = (engine.version, shown.as_object_mut()) {
        shown.remove("VirtualSize");
    }
    Ok(Reply::json(200, &shown))
}

/// `GET /images/{name}/history`.
pub fn history(engine: &mut Engine, request: &Request) -> Served {
    let image = &engine.images[&engine.find_image(&request.target)?];
    let layer =
        json!({"Comment": image.comment, "Created": image.created.as_second(), "CreatedBy": "", "Id": image.id, "Size": image.size, "Tags": image.tags});
    Ok(Reply::json(200, &[layer]))
}

/// `POST /images/create`: an import, or a pull.
pub fn create(engine: &mut Engine, request: &Request) -> Served {
    match request.query("fromSrc").filter(|source| !source.is_empty()) {
        Some(_) => import(engine, request),
        None => super::pull::pull(engine, request),
    }
}

fn import(engine: &mut Engine, request: &Request) -> Served {
    let bad = |error: &dyn std::fmt::Display| refuse(500, format!("archive/tar: {error}"));
    let mut files = BTreeSet::new();
    let mut size = 0;
    for entry in tar::Archive::new(&*request.body).entries().map_err(|error| bad(&error))? {
        let entry = entry.map_err(|error| bad(&error))?;
        let path = format!("/{}", entry.path().map_err(|error| bad(&error))?.display());
        let path = path.trim_start_matches("/./").trim_start_matches('/').trim_end_matches('/').to_owned();
        size += entry.size();
        let folder = entry.header().entry_type().is_dir();
        files.insert(if folder { format!("/{path}/") } else { format!("/{path}") });
    }
    let mut config = empty_config();
    for change in request.all("changes").flat_map(str::lines) {
        apply(&mut config, change).map_err(|problem| refuse(400, problem))?;
    }
    let (id, layer) = (format!("sha256:{}", engine.id()), format!("sha256:{}", engine.id()));
    let image = Image {
        id: id.clone(),
        created: engine.now,
        tags: BTreeSet::new(),
        digests: BTreeSet::new(),
        config: Arc::new(config),
        size,
        files: Some(Arc::new(files)),
        layer,
        comment: "Imported from -".to_owned(),
    };
    engine.images.insert(id.clone(), image);
    let repository = request.query("repo").unwrap_or_default();
    if !repository.is_empty() {
        let tag = request.query("tag").filter(|tag| !tag.is_empty()).unwrap_or("latest");
        let reference = familiar(&format!("{repository}:{tag}"));
        engine.tag(&id, &reference);
    }
    engine.tell_image(&id, "import", &id.clone());
    Ok(Reply::json(200, &json!({"status": id})))
}

fn empty_config() -> Object {
    let config = json!({
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": false, "AttachStderr": false, "Tty": false,
        "OpenStdin": false, "StdinOnce": false, "Env": null, "Cmd": null, "Image": "", "Volumes": null, "WorkingDir": "", "Entrypoint": null,
        "OnBuild": null, "Labels": null,
    });
    config.as_object().cloned().unwrap_or_default()
}

/// A line of a Dockerfile, of those that an import takes.
fn apply(config: &mut Object, change: &str) -> Result<(), String> {
    let (word, rest) = change.trim().split_once(' ').unwrap_or((change.trim(), ""));
    let rest = rest.trim();
    let words = || -> Value { serde_json::from_str::<Vec<String>>(rest).map_or_else(|_| json!(["/bin/sh", "-c", rest]), |words| json!(words)) };
    let listed = || serde_json::from_str::<Vec<String>>(rest).unwrap_or_else(|_| rest.split_whitespace().map(str::to_owned).collect());
    let mut insert = |key: &str, values: Vec<(String, Value)>| {
        let mut object = config.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
        object.extend(values);
        config.insert(key.to_owned(), Value::Object(object));
    };
    match word.to_ascii_uppercase().as_str() {
        "LABEL" => insert("Labels", pairs(rest).into_iter().map(|(key, value)| (key, json!(value))).collect()),
        "VOLUME" => insert("Volumes", listed().into_iter().map(|path| (path, json!({}))).collect()),
        "EXPOSE" => {
            let port = |port: String| if port.contains('/') { port } else { format!("{port}/tcp") };
            insert("ExposedPorts", listed().into_iter().map(|name| (port(name), json!({}))).collect());
        }
        "ENTRYPOINT" => drop(config.insert("Entrypoint".to_owned(), words())),
        "CMD" => drop(config.insert("Cmd".to_owned(), words())),
        "USER" => drop(config.insert("User".to_owned(), json!(rest))),
        "WORKDIR" => drop(config.insert("WorkingDir".to_owned(), json!(rest))),
        "STOPSIGNAL" => drop(config.insert("StopSignal".to_owned(), json!(rest))),
        "HEALTHCHECK" => {
            let command = rest.split_once("CMD ").map_or("", |(_, command)| command);
            let test = serde_json::from_str::<Vec<String>>(command)
                .map_or_else(|_| vec!["CMD-SHELL".to_owned(), command.to_owned()], |words| ["CMD".to_owned()].into_iter().chain(words).collect());
            config.insert("Healthcheck".to_owned(), json!({"Test": test}));
        }
        "ENV" => {
            let mut env = config.get("Env").and_then(Value::as_array).cloned().unwrap_or_default();
            env.extend(pairs(rest).into_iter().map(|(key, value)| json!(format!("{key}={value}"))));
            config.insert("Env".to_owned(), Value::Array(env));
        }
        other => return Err(format!("{} is not a valid change command", other.to_ascii_lowercase())),
    }
    Ok(())
}

/// `a=b c="d e"`, or `a b`.
fn pairs(text: &str) -> Vec<(String, String)> {
    let mut words: Vec<String> = vec![String::new()];
    let (mut quoted, mut escaped) = (false, false);
    for letter in text.chars() {
        let last = words.len() - 1;
        match letter {
            _ if escaped => {
                words[last].push(letter);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            letter => words[last].push(letter),
        }
    }
    words.retain(|word| !word.is_empty());
    if let [key, value] = words.as_slice()
        && !key.contains('=')
    {
        return vec![(key.clone(), value.clone())];
    }
    words.into_iter().map(|word| word.split_once('=').map_or((word.clone(), String::new()), |(key, value)| (key.to_owned(), value.to_owned()))).collect()
}

/// `POST /images/{name}/tag`.
pub fn tag(engine: &mut Engine, request: &Request) -> Served {
    let id = engine.find_image(&request.target)?;
    let repository = request.query("repo").unwrap_or_default();
    check(engine, repository)?;
    let tag = request.query("tag").filter(|tag| !tag.is_empty()).unwrap_or("latest");
    let reference = if repository.rsplit('/').next().is_some_and(|name| name.contains(':')) { repository.to_owned() } else { format!("{repository}:{tag}") };
    engine.tag(&id, &familiar(&reference));
    Ok(Reply::empty(201))
}

/// `DELETE /images/{name}`.
pub fn delete(engine: &mut Engine, request: &Request) -> Served {
    let id = engine.find_image(&request.target)?;
    let force = request.flag("force");
    let image = &engine.images[&id];
    let reference = familiar(&with_tag(&request.target));
    let by_name = image.tags.contains(&reference) || image.digests.contains(&reference);
    let short = &id[7..19];
    let users: Vec<&super::state::Container> = engine.containers.values().filter(|container| container.image_id == id).collect();
    let mut gone = Vec::new();
    if by_name {
        let last = image.tags.len() == 1 && image.tags.contains(&reference);
        if let Some(user) = users.first().filter(|_| last && !force) {
            let user = &user.id[..12];
            return Err(refuse(
                409,
                format!(
                    "conflict: unable to remove repository reference \"{}\" (must force) - container {user} is using its referenced image {short}",
                    request.target
                ),
            ));
        }
        gone.push(json!({"Untagged": reference}));
        let unused = users.is_empty();
        let mut untagged = Vec::new();
        if let Some(image) = engine.images.get_mut(&id) {
            image.tags.remove(&reference);
            image.digests.remove(&reference);
            if image.tags.is_empty() {
                untagged.extend(std::mem::take(&mut image.digests));
            }
        }
        engine.tell_image(&id, "untag", &id.clone());
        gone.extend(untagged.into_iter().map(|digest| json!({"Untagged": digest})));
        if !unused || !engine.images[&id].tags.is_empty() {
            return Ok(Reply::json(200, &gone));
        }
    } else {
        if let Some(user) = users.iter().find(|container| container.is_running()) {
            let user = &user.id[..12];
            return Err(refuse(409, format!("conflict: unable to delete {short} (cannot be forced) - image is being used by running container {user}")));
        }
        if let Some(user) = users.first().filter(|_| !force) {
            let user = &user.id[..12];
            return Err(refuse(409, format!("conflict: unable to delete {short} (must be forced) - image is being used by stopped container {user}")));
        }
        if image.tags.len() > 1 && !force {
            return Err(refuse(409, format!("conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories")));
        }
        gone.extend(image.tags.iter().chain(&image.digests).map(|name| json!({"Untagged": name})));
        engine.tell_image(&id, "untag", &id.clone());
    }
    engine.tell_image(&id, "delete", &id.clone());
    let layer = engine.images.remove(&id).map(|image| image.layer).unwrap_or_default();
    gone.push(json!({"Deleted": id}));
    gone.push(json!({"Deleted": layer}));
    Ok(Reply::json(200, &gone))
}

/// `POST /images/prune`.
pub fn prune(engine: &mut Engine, request: &Request) -> Served {
    let filters = Filters::of(engine, request, None)?;
    let all = filters.flag("dangling") == Some(false);
    let used: BTreeSet<&String> = engine.containers.values().map(|container| &container.image_id).collect();
    let labels = |image: &Image| labels(image);
    let unused = engine.images.values().filter(|image| !used.contains(&image.id) && (all || image.tags.is_empty()) && filters.labels(&labels(image)));
    let unused: Vec<String> = unused.map(|image| image.id.clone()).collect();
    let (mut gone, mut bytes) = (Vec::new(), 0);
    for id in unused {
        engine.tell_image(&id, "delete", &id.clone());
        if let Some(image) = engine.images.remove(&id) {
            gone.extend(image.tags.iter().map(|tag| json!({"Untagged": tag})));
            gone.push(json!({"Deleted": id}));
            bytes += image.size;
        }
    }
    engine.tell("image", "prune", "", BTreeMap::from([("reclaimed".to_owned(), bytes.to_string())]));
    Ok(Reply::json(200, &json!({"ImagesDeleted": if gone.is_empty() { Value::Null } else { json!(gone) }, "SpaceReclaimed": bytes})))
}

fn labels(image: &Image) -> BTreeMap<String, String> {
    let labels = image.config.get("Labels").and_then(Value::as_object).into_iter().flatten();
    labels.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

/// Refuses what is no reference.
pub fn check(engine: &Engine, reference: &str) -> Result<(), Refused> {
    let name = reference.rsplit_once('@').map_or(reference, |(name, _)| name);
    let (host, path) = match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (Some(host), path),
        Some(_) | None => (None, name),
    };
    let bare = path.rsplit_once(':').map_or(path, |(bare, _)| bare);
    if bare.is_empty() || bare.chars().any(|letter| !letter.is_ascii_alphanumeric() && !matches!(letter, '/' | '-' | '_' | '.')) {
        return Err(refuse(400, "invalid reference format"));
    }
    if bare.chars().any(|letter| letter.is_ascii_uppercase()) {
        let full = if host.is_none() && !bare.contains('/') { format!("library/{bare}") } else { bare.to_owned() };
        return Err(refuse(
            400,
            match engine.version {
                Version::V20_10 => "invalid reference format: repository name must be lowercase".to_owned(),
                Version::V28_5 => format!("invalid reference format: repository name ({full}) must be lowercase"),
            },
        ));
    }
    Ok(())
}

/// The reference with a tag.
pub fn with_tag(reference: &str) -> String {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    if name.contains(':') || name.contains('@') { reference.to_owned() } else { format!("{reference}:latest") }
}

/// Without what stands for Docker's own registry.
pub fn familiar(reference: &str) -> String {
    let rest = reference.strip_prefix("docker.io/").or_else(|| reference.strip_prefix("index.docker.io/"));
    let rest = rest.unwrap_or(reference);
    rest.strip_prefix("library/").unwrap_or(rest).to_owned()
}

impl Engine {
    /// The id behind a reference, a digest, an id or its beginning.
    pub(super) fn find_image(&self, reference: &str) -> Result<String, Refused> {
        if self.images.contains_key(reference) {
            return Ok(reference.to_owned());
        }
        if reference.starts_with("sha256:") && reference.len() == 71 {
            return Err(refuse(404, format!("No such image: {reference}")));
        }
        let bare = reference.strip_prefix("sha256:").unwrap_or(reference);
        let is_hex = !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
        let named = familiar(&with_tag(reference));
        // A digest counts whatever tag is written before it.
        let digest = named.split_once('@').map(|(name, digest)| {
            let plain = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(name, |(plain, _)| plain);
            format!("{plain}@{digest}")
        });
        let names = |image: &&Image| image.tags.contains(&named) || digest.as_ref().is_some_and(|digest| image.digests.contains(digest));
        if let Some(image) = self.images.values().find(names) {
            return Ok(image.id.clone());
        }
        if is_hex {
            let mut begins = self.images.keys().filter(|id| id[7..].starts_with(bare));
            if let (Some(id), None) = (begins.next(), begins.next()) {
                return Ok(id.clone());
            }
        }
        check(self, reference)?;
        Err(refuse(404, format!("No such image: {}", with_tag(reference))))
    }

    pub(super) fn tag(&mut self, id: &str, reference: &str) {
        for image in self.images.values_mut() {
            image.tags.remove(reference);
        }
        if let Some(image) = self.images.get_mut(id) {
            image.tags.insert(reference.to_owned());
        }
        self.tell_image(id, "tag", reference);
    }

    pub(super) fn tell_image(&mut self, id: &str, action: &str, name: &str) {
        let Some(image) = self.images.get(id) else { return };
        let mut attributes = labels(image);
        attributes.insert("name".to_owned(), name.to_owned());
        self.tell("image", action, id, attributes);
    }

    fn image_passes(&self, filters: &Filters, image: &Image) -> bool {
        let by_name = |wanted: &str| {
            let wanted = familiar(wanted);
            image.tags.iter().chain(&image.digests).any(|name| {
                let bare = name.split_once('@').map_or(name.as_str(), |(name, _)| name);
                let bare = if bare == name { name.rsplit_once(':').map_or(name.as_str(), |(bare, _)| bare) } else { bare };
                matches(&wanted, name) || matches(&wanted, bare)
            })
        };
        let when = |key: &str| filters.values(key).first().and_then(|reference| self.find_image(reference).ok()).map(|id| self.images[&id].created);
        let until = filters.values("until").first().and_then(|text| super::events::instant(text));
        filters.any("reference", by_name)
            && filters.labels(&labels(image))
            && filters.flag("dangling").is_none_or(|dangling| dangling == image.tags.is_empty())
            && when("before").is_none_or(|at| image.created < at)
            && when("since").is_none_or(|at| image.created > at)
            && until.is_none_or(|until| image.created < until)
    }

    pub(super) fn show_image(&self, image: &Image, counted: bool) -> Value {
        let users = self.containers.values().filter(|container| container.image_id == image.id).count();
        let users = if counted || self.version == Version::V28_5 { i64::try_from(users).unwrap_or(i64::MAX) } else { -1 };
        let none = vec!["<none>:<none>".to_owned()];
        let tags: Vec<String> = image.tags.iter().cloned().collect();
        let tags = if tags.is_empty() && self.version == Version::V20_10 { none } else { tags };
        let digests = if image.digests.is_empty() && self.version == Version::V20_10 { Value::Null } else { json!(image.digests) };
        let mut shown = json!({
            "Containers": users, "Created": image.created.as_second(), "Id": image.id, "Labels": image.config.get("Labels"), "ParentId": "",
            "RepoDigests": digests, "RepoTags": tags, "SharedSize": if counted { 0 } else { -1 }, "Size": image.size, "VirtualSize": image.size,
        });
        if let (Version::V28_5, Some(shown)) = (self.version, shown.as_object_mut()) {
            shown.remove("VirtualSize");
        }
        shown
    }
}

/// Shell patterns: `*` is anything but a slash.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == text };
    let Some(rest) = text.strip_prefix(before) else { return false };
    (0..=rest.len()).filter(|at| rest.is_char_boundary(*at) && !rest[..*at].contains('/')).any(|at| matches(after, &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read_as_a_dockerfile_is() {
        let mut config = empty_config();
        for change in ["LABEL a=\"b c\" d=e", "ENTRYPOINT [\"/x\",\"y\"]", "CMD run it", "ENV A=1", "VOLUME /data", "EXPOSE 80"] {
            apply(&mut config, change).unwrap();
        }
        assert_eq!(config["Labels"], json!({"a": "b c", "d": "e"}));
        assert_eq!((&config["Entrypoint"], &config["Cmd"]), (&json!(["/x", "y"]), &json!(["/bin/sh", "-c", "run it"])));
        assert_eq!((&config["Env"], &config["Volumes"], &config["ExposedPorts"]), (&json!(["A=1"]), &json!({"/data": {}}), &json!({"80/tcp": {}})));
        assert!(apply(&mut config, "RUN x").is_err());
    }

    #[test]
    fn references_have_one_familiar_form() {
        assert_eq!(familiar("docker.io/library/busybox:1"), "busybox:1");
        assert_eq!((with_tag("localhost:5000/x"), with_tag("x@sha256:0")), ("localhost:5000/x:latest".to_owned(), "x@sha256:0".to_owned()));
        assert!(matches("dm/*", "dm/helper") && !matches("dm/*", "dm/a/b"));
    }
}
