//! The hash of what is fixed at a container's creation: `v1:<hex>`, SHA-256 over canonical JSON.
//!
//! **Invariant:** a hash of version 1 never changes. Every container of every user carries one, and another value would replace them all.
//! So the canonical form is written out here and not derived; keys are sorted; a value that says nothing is left out, so that a
//! field to come, absent from older specs, leaves their hashes alone. Order counts only where Docker lets it count.
//!
//! Left out: limits and restart policy, which change in place; names, which follow from the object; our own labels, which say who and
//! when; the image's id, so that a moved tag replaces nothing; the subnet.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::naming::LABEL_PREFIX;
use super::{ContainerSpec, MountSource};

/// `v1:<hex>` of a container.
pub fn hash(spec: &ContainerSpec) -> String {
    format!("v1:{}", sha256_hex(canonical(spec).to_string().as_bytes()))
}

/// SHA-256 in lower-case hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is hashed.
fn canonical(spec: &ContainerSpec) -> Value {
    let labels: BTreeMap<&String, &String> = spec.labels.iter().filter(|(key, _)| !key.starts_with(LABEL_PREFIX)).collect();
    let ports: BTreeMap<&String, Value> = spec
        .ports
        .iter()
        .map(|port| (&port.name, json!({"container": port.container, "host": port.host, "ip": port.ip, "protocol": port.protocol.as_str()})))
        .collect();
    let mounts: BTreeMap<&String, Value> = spec
        .mounts
        .iter()
        .map(|mount| {
            let source = match &mount.source {
                MountSource::Volume(name) => json!({"volume": name}),
                MountSource::Host(path) => json!({"host": path}),
                MountSource::Tmpfs { size, owner } => json!({"tmpfs": size.0, "owner": owner}),
            };
            (&mount.path, json!({"source": source, "readOnly": mount.read_only}))
        })
        .collect();
    let networks: BTreeMap<&String, Vec<&String>> = spec
        .networks
        .iter()
        .map(|attachment| {
            let mut aliases: Vec<&String> = attachment.aliases.iter().collect();
            aliases.sort_unstable();
            (&attachment.network, aliases)
        })
        .collect();
    let health = spec.health.as_ref().map(|health| {
        json!({
            "test": health.test,
            "interval": health.interval.0.as_millis(),
            "timeout": health.timeout.0.as_millis(),
            "retries": health.retries,
            "startPeriod": health.start_period.map(|period| period.0.as_millis()),
            "startInterval": health.start_interval.0.as_millis(),
        })
    });
    sorted(json!({
        "image": spec.image.as_str(),
        "entrypoint": spec.entrypoint.as_ref().map(|words| json!({"words": words})),
        "command": spec.command.as_ref().map(|words| json!({"words": words})),
        "env": spec.env,
        "workingDir": spec.working_dir,
        "user": spec.user,
        "hostname": spec.hostname,
        "labels": labels,
        "ports": ports,
        "mounts": mounts,
        "networks": networks,
        "health": health,
        "init": spec.init,
        "stopSignal": spec.stop_signal,
        "stopGrace": spec.stop_grace.0.as_millis(),
        "capDrop": spec.security.cap_drop,
        "readOnlyRoot": spec.security.read_only_root,
        "storage": spec.storage_size.map(|size| size.0),
    }))
}

/// Keys sorted at every depth; null, false and empty maps left out. An empty list or text means something and stays.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<String, Value> = fields.into_iter().map(|(key, value)| (key, sorted(value))).filter(|(_, value)| !is_silent(value)).collect();
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => other,
    }
}

fn is_silent(value: &Value) -> bool {
    value.is_null() || value == &Value::Bool(false) || value.as_object().is_some_and(serde_json::Map::is_empty)
}

#[cfg(test)]
#[path = "hash_tests.rs"]
mod tests;
