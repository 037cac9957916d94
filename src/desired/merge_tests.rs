//! Tests of merging: what wins over what.

use super::*;
use serde_json::json;

fn read<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn types(declared: Value) -> BTreeMap<String, WorkspaceTypeSpec> {
    read(declared)
}

fn tenants(tenants: Value) -> BTreeMap<String, TenantSpec> {
    read(tenants)
}

static NONE: BTreeMap<String, TenantSpec> = BTreeMap::new();
const NOBODY: Tenants<'_> = Tenants { all: &NONE, namespace: "alice" };

fn layers() -> (WorkspaceSpec, BTreeMap<String, WorkspaceTypeSpec>, BTreeMap<String, TenantSpec>) {
    let spec = read(json!({
        "type": "shop",
        "env": [{"name": "NODE_ENV", "value": "test"}, {"name": "EXTRA", "value": "1"}],
        "ports": [{"name": "http", "container": 4000}],
        "mounts": [{"host": "data", "path": "/data", "readOnly": true}],
        "services": {"db": {"image": "", "env": [{"name": "POSTGRES_PASSWORD", "value": "x"}]}},
        "health": {"interval": "5s"},
    }));
    let types = types(json!({
        "shop": {
            "base": "node", "displayName": "Shop", "command": ["npm", "run", "dev"],
            "services": {"db": {"image": "postgres:16", "env": [{"name": "PGDATA", "value": "/data"}]}},
            "mounts": [{"volume": "data", "path": "/data/"}, {"volume": "cache", "path": "/cache"}],
            "health": {"test": ["CMD", "true"], "retries": 5},
        },
    }));
    let tenants = tenants(json!({
        "alice": {"defaults": {"memory": "1g", "maxLifetime": "8h"}},
        "default": {"defaults": {"cpu": "1", "memory": "2g", "idleTimeout": "30m"}},
    }));
    (spec, types, tenants)
}

#[test]
fn every_layer_has_its_say_and_is_named() {
    let (spec, types, all) = layers();
    let resolved = resolve(&spec, &types, Tenants { all: &all, namespace: "alice" });
    assert_eq!((resolved.fatal, resolved.notices), (vec![], vec![]));
    assert_eq!(
        plain(&resolved.spec),
        json!({
            "type": "shop",
            "state": "Running",
            "image": "node:22",
            "pullPolicy": "IfNotPresent",
            "command": ["npm", "run", "dev"],
            "workingDir": "/workspace",
            "env": [{"name": "NODE_ENV", "value": "test"}, {"name": "EXTRA", "value": "1"}],
            "ports": [{"name": "http", "container": 4000, "publish": "Pool"}],
            "resources": {"cpu": "1", "memory": "1g", "pids": 512},
            "idle": {"timeout": "30m", "network": "10k"},
            "maxLifetime": "8h",
            "mounts": [{"host": "data", "path": "/data", "readOnly": true}, {"volume": "cache", "path": "/cache"}],
            "services": {"db": {"image": "postgres:16", "env": [{"name": "PGDATA", "value": "/data"}, {"name": "POSTGRES_PASSWORD", "value": "x"}]}},
            "health": {"test": ["CMD", "true"], "interval": "5s", "timeout": "10s", "retries": 5, "startInterval": "2s"},
            "restart": "unless-stopped",
            "init": true,
            "stopGracePeriod": "10s",
            "deletionPolicy": "Snapshot",
        })
    );
    for (path, origin) in [
        ("type", "workspace"),
        ("image", "type node"),
        ("command", "type shop"),
        ("env.NODE_ENV", "workspace"),
        ("ports.http.container", "workspace"),
        ("ports.http.publish", "type node"),
        ("mounts./data", "workspace"),
        ("mounts./cache", "type shop"),
        ("services.db.image", "type shop"),
        ("services.db.env.POSTGRES_PASSWORD", "workspace"),
        ("health.interval", "workspace"),
        ("health.retries", "type shop"),
        ("health.timeout", "built in"),
        ("resources.memory", "tenant alice"),
        ("resources.cpu", "tenant default"),
        ("resources.pids", "built in"),
        ("idle.timeout", "tenant default"),
        ("maxLifetime", "tenant alice"),
        ("restart", "built in"),
    ] {
        assert_eq!(resolved.origins.get(path).map(String::as_str), Some(origin), "{path}");
    }
}

#[test]
fn a_command_replaces_and_an_empty_one_too() {
    let declared = types(json!({"t": {"image": "i", "command": ["a", "b"], "entrypoint": ["e"]}}));
    let spec: WorkspaceSpec = read(json!({"type": "t", "command": []}));
    let resolved = resolve(&spec, &declared, NOBODY).spec;
    assert_eq!((resolved.command, resolved.entrypoint), (Some(vec![]), Some(vec!["e".to_owned()])));
}

#[test]
fn nothing_said_gets_neither_a_health_check_nor_an_idle_policy() {
    let resolved = resolve(&read(json!({"image": "busybox"})), &BTreeMap::new(), NOBODY).spec;
    assert_eq!((resolved.health, resolved.idle, resolved.max_lifetime), (None, None, None));
}

#[test]
fn a_declared_type_replaces_the_built_in_one_and_may_build_on_it() {
    let spec: WorkspaceSpec = read(json!({"type": "node"}));
    let replaced = resolve(&spec, &types(json!({"node": {"image": "mine"}})), NOBODY).spec;
    assert_eq!((replaced.image.as_deref(), replaced.command), (Some("mine"), None));
    let extended = resolve(&spec, &types(json!({"node": {"base": "node", "image": "mine"}})), NOBODY);
    assert_eq!(extended.fatal, []);
    assert_eq!((extended.spec.image.as_deref(), extended.spec.command.is_some()), (Some("mine"), true));
}

#[test]
fn wrong_types_say_what_to_do() {
    let declared = types(json!({"a": {"base": "b"}, "b": {"base": "a"}, "c": {"base": "nod"}}));
    for (name, expected) in [
        ("a", "the types build on each other in a circle (a > b > a); change `base` in one of them"),
        ("pyton", "there is no WorkspaceType pyton; did you mean python?"),
        ("c", "there is no WorkspaceType nod that type c builds on; did you mean node?"),
        ("mainframe", "there is no WorkspaceType mainframe; declare it, or use one of a, b, c, code-server, go, node, php, python, ruby, static"),
    ] {
        let resolved = resolve(&read(json!({"type": name, "image": "own"})), &declared, NOBODY);
        let messages: Vec<_> = resolved.fatal.iter().map(|c| (c.type_, c.reason, c.message.as_str())).collect();
        assert_eq!(messages, [(ConditionType::Stalled, Reason::Invalid, expected)]);
    }
}

#[test]
fn limits_of_the_tenant_cap_and_fill() {
    let all = tenants(json!({"alice": {"quota": {"memory": "1g"}}, "default": {"quota": {"memory": "8g", "cpu": "2"}}}));
    let tenants = Tenants { all: &all, namespace: "alice" };
    let spec: WorkspaceSpec = read(json!({"image": "i", "resources": {"memory": "4g"}, "services": {"db": {"image": "p", "resources": {"cpu": "3"}}}}));
    let resolved = resolve(&spec, &BTreeMap::new(), tenants);
    assert_eq!(plain(&resolved.spec.resources), json!({"cpu": "2", "memory": "1g", "pids": 512}));
    assert_eq!(plain(&resolved.spec.services["db"].resources), json!({"cpu": "2", "memory": "1g"}));
    assert_eq!(resolved.origins["resources.memory"], "tenant alice (quota)");
    assert_eq!(resolved.origins["resources.cpu"], "tenant default (quota)");
    let notices: Vec<_> = resolved.notices.iter().map(|c| c.message.as_str()).collect();
    assert_eq!(notices.len(), 2, "{notices:?}");
    assert!(notices[0].starts_with("resources.memory: 4g is more than the quota allows, 1g is used"), "{notices:?}");
    assert!(notices[1].starts_with("services.db.resources.cpu: 3 is more than the quota allows, 2 is used"), "{notices:?}");
    assert!(resolved.fatal.is_empty());
}
