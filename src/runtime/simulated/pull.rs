//! Pulls from registries that are simulated too.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use bytes::Bytes;
use serde_json::{Value, json};

use super::http::{Flow, Reply, Request, Served, refuse};
use super::images::{check, familiar, with_tag};
use super::state::{Engine, Image, Object, Remote};

/// `POST /images/create?fromImage=…`.
pub fn pull(engine: &mut Engine, request: &Request) -> Served {
    let from = request.query("fromImage").unwrap_or_default();
    check(engine, from)?;
    let named = match request.query("tag").filter(|tag| !tag.is_empty()) {
        Some(digest) if digest.starts_with("sha256:") => format!("{from}@{digest}"),
        Some(tag) => format!("{from}:{tag}"),
        None => with_tag(from),
    };
    let reference = familiar(&named);
    let (repository, tag) = match reference.split_once('@') {
        Some((name, digest)) => (name.to_owned(), digest.to_owned()),
        None => reference.rsplit_once(':').map_or((reference.clone(), String::new()), |(name, tag)| (name.to_owned(), tag.to_owned())),
    };
    let by_digest = || {
        let of_repository = |key: &str| key.rsplit_once(':').is_some_and(|(name, _)| name == repository.split(':').next().unwrap_or_default());
        engine.registry.iter().find(|(key, remote)| of_repository(key) && remote.digest == tag).map(|(_, remote)| remote.clone())
    };
    let remote = engine.registry.get(&reference).cloned().or_else(by_digest).or_else(|| engine.any_image.clone());
    let known = engine.registry.keys().any(|key| key.rsplit_once(':').is_some_and(|(name, _)| name == repository));
    let Some(remote) = remote else {
        return Err(if known {
            refuse(404, format!("manifest for {named} not found: manifest unknown: manifest unknown"))
        } else {
            let denied = "repository does not exist or may require 'docker login': denied: requested access to the resource is denied";
            refuse(404, format!("pull access denied for {repository}, {denied}"))
        });
    };
    if let Some(account) = &remote.account
        && account_of(request).as_ref() != Some(account)
    {
        return Err(refuse(500, format!("Head \"https://{repository}/manifests/{tag}\": no basic auth credentials")));
    }
    if let Some((status, message)) = remote.refuses {
        return Err(refuse(status, message));
    }
    if engine.disk_full {
        let line = json!({"errorDetail": {"message": "write: no space left on device"}, "error": "write: no space left on device"});
        let mut lines = Some(Bytes::from(format!("{line}\r\n")));
        return Ok(Reply::stream("application/json", move |_| lines.take().map_or(Flow::End, Flow::Data)));
    }
    Ok(progress(engine, reference, repository, tag, remote))
}

/// The account that comes with a request, as `name:password`.
fn account_of(request: &Request) -> Option<String> {
    let text = request.account.as_ref()?;
    let bytes = URL_SAFE.decode(text).or_else(|_| STANDARD.decode(text)).ok()?;
    let account: Value = serde_json::from_slice(&bytes).ok()?;
    let field = |key: &str| account.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(format!("{}:{}", field("username"), field("password")))
}

/// Tells how far it is, at the beginning, halfway and at the end, when the image is there.
fn progress(engine: &mut Engine, reference: String, repository: String, tag: String, remote: Remote) -> Reply {
    let layer = engine.id()[..12].to_owned();
    let begun = engine.elapsed;
    engine.alarm(remote.time / 2);
    engine.alarm(remote.time);
    let mut step = 0;
    let source = move |engine: &mut Engine| {
        let past = engine.elapsed.saturating_sub(begun);
        let size = remote.size.max(1);
        let lines = match step {
            0 => vec![
                json!({"status": format!("Pulling from {}", path(&repository)), "id": tag}),
                json!({"status": "Pulling fs layer", "progressDetail": {}, "id": layer}),
            ],
            1 if past >= remote.time / 2 => vec![json!({"status": "Downloading", "progressDetail": {"current": size / 2, "total": size}, "id": layer})],
            2 if past >= remote.time => {
                let fresh = !engine.images.values().any(|image| image.tags.contains(&reference));
                let digest = engine.arrive(&reference, &repository, &remote);
                let status = if fresh { "Downloaded newer image for" } else { "Image is up to date for" };
                vec![
                    json!({"status": "Download complete", "progressDetail": {}, "id": layer}),
                    json!({"status": "Pull complete", "progressDetail": {}, "id": layer}),
                    json!({"status": format!("Digest: {digest}")}),
                    json!({"status": format!("Status: {status} {reference}")}),
                ]
            }
            3 => return Flow::End,
            _ => return Flow::Wait,
        };
        step += 1;
        Flow::Data(Bytes::from(lines.into_iter().map(|line| format!("{line}\r\n")).collect::<String>()))
    };
    Reply::stream("application/json", source)
}

/// The path of a repository at its registry.
fn path(repository: &str) -> String {
    match repository.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => path.to_owned(),
        Some(_) => repository.to_owned(),
        None => format!("library/{repository}"),
    }
}

/// 64 digits that depend on a text alone.
fn digest_of(text: &str) -> String {
    let mut number: u64 = 0xcbf2_9ce4_8422_2325;
    let mut digits = String::new();
    for round in 0..4_u8 {
        for byte in text.bytes().chain([round]) {
            number = (number ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        digits.push_str(&format!("{number:016x}"));
    }
    format!("sha256:{digits}")
}

impl Engine {
    /// What a registry has under a reference comes to the engine; its digest.
    pub(super) fn arrive(&mut self, reference: &str, repository: &str, remote: &Remote) -> String {
        let digest = if remote.digest.is_empty() { digest_of(reference) } else { remote.digest.clone() };
        let id = digest_of(&digest);
        let mut config: Object = remote.config.clone();
        if !config.contains_key("Cmd") && !config.contains_key("Entrypoint") {
            config.insert("Cmd".to_owned(), json!(["serve"]));
        }
        let created = self.now;
        let image = self.images.entry(id.clone()).or_insert_with(|| Image {
            id: id.clone(),
            created,
            tags: BTreeSet::new(),
            digests: BTreeSet::new(),
            config: Arc::new(config),
            size: remote.size,
            files: None,
            layer: digest_of(&id),
            comment: String::new(),
        });
        image.digests.insert(format!("{}@{digest}", repository.split('@').next().unwrap_or(repository)));
        if !reference.contains('@') {
            for image in self.images.values_mut() {
                image.tags.remove(reference);
            }
            if let Some(image) = self.images.get_mut(&id) {
                image.tags.insert(reference.to_owned());
            }
        }
        self.tell_image(&id, "pull", reference);
        self.changes += 1;
        digest
    }

    /// Puts an image on the engine as if it had been pulled; its id.
    pub fn add_image(&mut self, reference: &str, remote: &Remote) -> String {
        let reference = familiar(&with_tag(reference));
        let repository = reference.rsplit_once(':').map_or(reference.clone(), |(name, _)| name.to_owned());
        let digest = self.arrive(&reference, &repository, remote);
        digest_of(&digest)
    }
}
