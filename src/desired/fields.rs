//! A container as `field: value` lines, so that a change can be told field by field: what was applied against what is wanted.

use std::collections::{BTreeMap, BTreeSet};

use super::hash::sha256_hex;
use super::naming::LABEL_PREFIX;
use super::{ContainerSpec, MountSource};
use crate::state::FieldChange;

/// Words in the name of a variable whose value is not shown.
const SECRET_WORDS: [&str; 6] = ["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL"];

/// What a field that is not set reads as in a change.
pub const UNSET: &str = "(unset)";

/// Field path (`image`, `env.NODE_ENV`, `ports.http`, `mounts./data`, `resources.memory`) to value; values of variables that look secret are
/// `sha256:<8 hex>`, which tells only whether they differ.
pub fn fields(spec: &ContainerSpec) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    let mut put = |field: String, value: Option<String>| {
        if let Some(value) = value {
            fields.insert(field, value);
        }
    };
    let words = |words: &Vec<String>| serde_json::json!(words).to_string();
    put("image".to_owned(), Some(spec.image.as_str().to_owned()));
    put("entrypoint".to_owned(), spec.entrypoint.as_ref().map(words));
    put("command".to_owned(), spec.command.as_ref().map(words));
    put("workingDir".to_owned(), spec.working_dir.clone());
    put("user".to_owned(), spec.user.clone());
    put("hostname".to_owned(), Some(spec.hostname.clone()));
    put("init".to_owned(), Some(spec.init.to_string()));
    put("stopSignal".to_owned(), spec.stop_signal.clone());
    put("stopGracePeriod".to_owned(), Some(spec.stop_grace.to_string()));
    put("restart".to_owned(), Some(spec.limits.restart.as_str().to_owned()));
    put("resources.cpu".to_owned(), spec.limits.cpu.map(|cpu| cpu.to_string()));
    put("resources.memory".to_owned(), spec.limits.memory.map(|memory| memory.to_string()));
    put("resources.pids".to_owned(), Some(spec.limits.pids.to_string()));
    put("resources.disk".to_owned(), spec.storage_size.map(|size| size.to_string()));
    put("security.dropCapabilities".to_owned(), Some(spec.security.cap_drop.join(",")));
    put("security.readOnlyRoot".to_owned(), Some(spec.security.read_only_root.to_string()));
    for (name, value) in &spec.env {
        put(format!("env.{name}"), Some(shown(name, value)));
    }
    for (name, value) in spec.labels.iter().filter(|(name, _)| !name.starts_with(LABEL_PREFIX)) {
        put(format!("labels.{name}"), Some(value.clone()));
    }
    for port in &spec.ports {
        put(format!("ports.{}", port.name), Some(format!("{}:{}->{}/{}", port.ip, port.host, port.container, port.protocol.as_str())));
    }
    for mount in &spec.mounts {
        let source = match &mount.source {
            MountSource::Volume(name) => format!("volume {name}"),
            MountSource::Host(path) => format!("host {path}"),
            MountSource::Tmpfs { size, owner: Some((uid, gid)) } => format!("tmpfs {size} of {uid}:{gid}"),
            MountSource::Tmpfs { size, owner: None } => format!("tmpfs {size}"),
        };
        put(format!("mounts.{}", mount.path), Some(if mount.read_only { format!("{source}, read-only") } else { source }));
    }
    for attachment in &spec.networks {
        put(format!("networks.{}", attachment.network), Some(attachment.aliases.join(",")));
    }
    if let Some(health) = &spec.health {
        put("health.test".to_owned(), Some(words(&health.test)));
        put("health.interval".to_owned(), Some(health.interval.to_string()));
        put("health.timeout".to_owned(), Some(health.timeout.to_string()));
        put("health.retries".to_owned(), Some(health.retries.to_string()));
        put("health.startPeriod".to_owned(), health.start_period.map(|period| period.to_string()));
        put("health.startInterval".to_owned(), Some(health.start_interval.to_string()));
    }
    fields
}

/// The value of a variable as it may be shown.
pub fn shown(name: &str, value: &str) -> String {
    let upper = name.to_ascii_uppercase();
    let address_with_password = value.split_once("://").is_some_and(|(_, rest)| rest.contains('@'));
    if address_with_password || SECRET_WORDS.iter().any(|word| upper.contains(word)) {
        format!("sha256:{}", &sha256_hex(value.as_bytes())[..8])
    } else {
        value.to_owned()
    }
}

/// The fields that differ, by path; what is missing on a side reads [`UNSET`].
pub fn diff_fields(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<FieldChange> {
    let paths: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let value = |side: &BTreeMap<String, String>, path: &String| side.get(path).cloned().unwrap_or_else(|| UNSET.to_owned());
    paths
        .into_iter()
        .filter(|path| old.get(*path) != new.get(*path))
        .map(|path| FieldChange { field: path.clone(), old: value(old, path), new: value(new, path) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The container with everything in it, of the hash's fixtures.
    fn full() -> ContainerSpec {
        let fixtures: Vec<serde_json::Value> = serde_json::from_str(include_str!("fixtures/hash-v1.json")).unwrap();
        serde_json::from_value(fixtures[3]["container"].clone()).unwrap()
    }

    #[test]
    fn a_container_reads_like_its_spec() {
        let fields = fields(&full());
        for (path, value) in [
            ("image", "ghcr.io/acme/shop:1"),
            ("command", r#"["npm","run dev"]"#),
            ("env.NODE_ENV", "development"),
            ("env.EMPTY", ""),
            ("labels.team", "blue"),
            ("ports.http", "127.0.0.1:10001->3000/tcp"),
            ("mounts./cache", "volume dm-vol-alice.shop.cache"),
            ("mounts./data", "host /srv/data, read-only"),
            ("mounts./run", "tmpfs 64m of 1000:1000"),
            ("networks.dm-ns-alice", "shop,shop.alice"),
            ("health.interval", "5s"),
            ("resources.memory", "2g"),
            ("restart", "on-failure"),
            ("security.dropCapabilities", "CHOWN,NET_RAW"),
        ] {
            assert_eq!(fields.get(path).map(String::as_str), Some(value), "{path}");
        }
        assert!(!fields.keys().any(|path| path.contains("dockmaster.")), "our own labels are nobody's change");
    }

    #[test]
    fn a_change_names_field_old_and_new() {
        let mut new = full();
        new.env.insert("NODE_ENV".to_owned(), "test".to_owned());
        new.env.remove("EMPTY");
        new.limits.memory = None;
        new.ports[0].host = 10009;
        let changes: Vec<String> = diff_fields(&fields(&full()), &fields(&new)).into_iter().map(|c| format!("{}: {} -> {}", c.field, c.old, c.new)).collect();
        assert_eq!(
            changes,
            [
                "env.EMPTY:  -> (unset)",
                "env.NODE_ENV: development -> test",
                "ports.http: 127.0.0.1:10001->3000/tcp -> 127.0.0.1:10009->3000/tcp",
                "resources.memory: 2g -> (unset)",
            ]
        );
        assert_eq!(diff_fields(&fields(&full()), &fields(&full())), []);
    }

    #[test]
    fn every_change_of_the_hash_is_a_change_of_a_field() {
        let mut changed = full();
        changed.health.as_mut().unwrap().start_interval = crate::resource::Duration::from_secs(9);
        changed.security.read_only_root = false;
        changed.stop_grace = crate::resource::Duration::from_secs(9);
        let paths: Vec<String> = diff_fields(&fields(&full()), &fields(&changed)).into_iter().map(|change| change.field).collect();
        assert_eq!(paths, ["health.startInterval", "security.readOnlyRoot", "stopGracePeriod"]);
    }

    #[test]
    fn what_looks_secret_is_not_shown() {
        for (name, value, expected) in [
            ("NODE_ENV", "test", "test"),
            ("API_KEY", "hunter2", "sha256:f52fbd32"),
            ("db_password", "hunter2", "sha256:f52fbd32"),
            ("GITHUB_TOKEN", "", "sha256:e3b0c442"),
            ("DATABASE_URL", "postgres://me:hunter2@db/shop", "sha256:"),
            ("HOMEPAGE", "https://example.com/@me", "sha256:"),
            ("SITE", "https://example.com/", "https://example.com/"),
        ] {
            let found = shown(name, value);
            assert!(if expected == "sha256:" { found.starts_with(expected) } else { found == expected }, "{name}: {found}");
        }
    }
}
