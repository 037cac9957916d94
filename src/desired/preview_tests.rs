//! Tests of previews as they are lowered.

use super::*;
use crate::desired::DesiredState;
use crate::desired::lower::claims;
use crate::desired::lower::tests::grant_all;
use crate::desired::merge::resolve;
use crate::resource::TenantSpec;
use serde_json::json;

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn uid() -> Uid {
    Uid("01936f2e-7b7c-7000-8000-000000000001".to_owned())
}

fn source() -> ObjectRef {
    ObjectRef::new(Kind::Workspace, "alice", "shop")
}

/// The workspace that is copied, pinned.
fn pinned() -> Value {
    let spec: WorkspaceSpec = read(json!({
        "type": "static", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
        "ports": [{"name": "admin", "container": 9000, "publish": 9000}, {"name": "inner", "container": 9001}],
        "mounts": [{"volume": "data", "path": "/data"}, {"volume": "data", "path": "/again"}, {"host": "site", "path": "/workspace", "readOnly": true},
                   {"sharedVolume": "models", "path": "/models"}, {"tmpfs": "1m", "path": "/run"}],
        "services": {"db": {"image": "p", "volume": {"path": "/d"}}, "cache": {"image": "r"}},
        "idle": {"timeout": "30m"}, "maxLifetime": "8h", "runningHours": {"from": "08:00", "to": "18:00"}, "state": "Stopped",
        "hooks": {"postStart": ["warm-up"]}, "route": {"host": "x.example.com"}, "deletionPolicy": "Retain", "update": {"when": "OnRestart"},
    }));
    pin(&resolve(&spec, &BTreeMap::new(), Tenants { all: &BTreeMap::new(), namespace: "alice" }).spec, &source(), &uid(), "/specs/alice")
}

fn lowered(spec: Value, pinned: Option<&Value>, tenant: Value) -> DesiredState {
    let all: BTreeMap<String, TenantSpec> = read(json!({"alice": tenant}));
    let tenants = Tenants { all: &all, namespace: "alice" };
    let resource: Object<PreviewSpec> = read(json!({
        "apiVersion": "dockmaster/v1", "kind": "Preview", "metadata": {"name": "shop", "namespace": "alice", "labels": {"team": "blue"}}, "spec": spec,
    }));
    let resolved = resolve_preview(&resource.spec, pinned, tenants);
    let object = ObjectRef::new(Kind::Preview, "alice", "shop");
    let grants = grant_all(&claims("dm", &object, &resolved).unwrap_or_default());
    let admission = Admission { uid: uid(), generation: 1, created: "2026-01-02T00:00:00Z".parse().unwrap() };
    let intent = lower_preview(&PreviewInput {
        around: Surroundings { installation: "dm", host_paths: &[], links: &BTreeMap::new(), publish_address: "127.0.0.1", disk_limit: false, nano_cpus: 0 },
        resource: &resource,
        resolved: &resolved,
        pinned,
        tenants,
        admission: &admission,
        grants: &grants,
        directory: "/specs/elsewhere",
        own_digest: "digest",
        hash: "00112233445566778899aabbccddeeff",
    });
    let Intent::Present(state) = intent else { panic!("held") };
    *state
}

#[test]
fn a_copy_is_like_its_workspace_but_expires() {
    let pinned = pinned();
    let spec = json!({"workspace": "shop", "ttl": "2h", "env": [{"name": "B", "value": "3"}], "resources": {"memory": "1g"}});
    let state = lowered(spec, Some(&pinned), json!({"defaults": {"cpu": "1", "idleTimeout": "5m"}}));
    assert_eq!(state.fatal, []);
    assert_eq!(state.notices, [], "the route of the workspace is not the preview's");
    let main = state.main().unwrap();
    assert_eq!(main.name, "dm-pv-alice.shop");
    assert_eq!(main.env, BTreeMap::from([("A".to_owned(), "1".to_owned()), ("B".to_owned(), "3".to_owned())]));
    let ports: Vec<_> = main.ports.iter().map(|port| (port.name.as_str(), port.container, port.host)).collect();
    assert_eq!(ports, [("http", 8080, 10000), ("admin", 9000, 10001)], "what was published is, on ports of its own");
    assert_eq!((main.limits.memory.map(|m| m.to_string()), main.limits.cpu), (Some("1g".to_owned()), None), "defaults of today do not change what was pinned");
    assert_eq!((main.labels["team"].as_str(), main.labels[naming::EXPIRES].as_str()), ("blue", "2026-01-02T02:00:00Z"));
    assert_eq!(main.labels[naming::HASH], "00112233445566778899aabbccddeeff");
    let mounts: Vec<_> = main.mounts.iter().map(|m| (m.path.as_str(), serde_json::to_value(&m.source).unwrap(), m.read_only)).collect();
    assert_eq!(
        mounts,
        [
            ("/again", json!({"Volume": "dm-pvol-alice.shop.data"}), false),
            ("/data", json!({"Volume": "dm-pvol-alice.shop.data"}), false),
            ("/models", json!({"Volume": "dm-nsvol-alice.models"}), false),
            ("/run", json!({"Tmpfs": {"size": "1m", "owner": null}}), false),
            ("/workspace", json!({"Host": "/specs/alice/site"}), true),
        ]
    );
    assert_eq!(
        serde_json::to_value(&main.networks).unwrap(),
        json!([{"network": "dm-ns-alice", "aliases": ["shop.preview.alice"]}, {"network": "dm-pv-alice.shop", "aliases": ["shop"]}]),
        "in the namespace it does not answer for the workspace"
    );
    assert_eq!(state.run, crate::desired::RunPolicy { declared_running: true, idle: None, max_lifetime: None, hours: None });
    assert_eq!((state.deletion, state.update), (DeletionPolicy::Delete, None));
    assert_eq!(state.hooks.len(), 1);
    let preview = state.preview.unwrap();
    assert_eq!((preview.expires_at.to_string(), preview.ttl_after_expired.to_string()), ("2026-01-02T02:00:00Z".to_owned(), "7d".to_owned()));
    let copy = preview.copy.unwrap();
    assert_eq!((copy.source, copy.source_uid, copy.mode), (source(), uid(), CopyMode::Pause));
    let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    assert_eq!(copy.volumes, [pair("dm-vol-alice.shop.data", "dm-pvol-alice.shop.data"), pair("dm-svc-alice.shop.db", "dm-psvc-alice.shop.db")]);
}

#[test]
fn an_image_gets_the_tenants_defaults_and_no_copy() {
    let spec = json!({"image": "app:7", "ports": [{"name": "http", "container": 80}]});
    let state = lowered(spec, None, json!({"defaults": {"cpu": "1", "idleTimeout": "5m", "previewTtl": "3h"}}));
    assert_eq!(state.fatal, []);
    let main = state.main().unwrap();
    assert_eq!((main.image.as_str(), main.limits.cpu.map(|c| c.to_string())), ("app:7", Some("1".to_owned())));
    assert_eq!(main.ports[0].host, 10000, "a preview publishes what it names");
    assert_eq!(state.run.idle, None);
    let preview = state.preview.unwrap();
    assert_eq!((preview.expires_at.to_string(), preview.copy), ("2026-01-02T03:00:00Z".to_owned(), None));
}

#[test]
fn nothing_is_copied_when_nothing_is_asked_or_there() {
    let pinned = pinned();
    assert_eq!(lowered(json!({"workspace": "shop", "copy": "None"}), Some(&pinned), json!({})).preview.unwrap().copy, None);
    let bare = pin(&WorkspaceSpec { image: Some("i".to_owned()), ..WorkspaceSpec::default() }, &source(), &uid(), "/");
    assert_eq!(lowered(json!({"workspace": "shop"}), Some(&bare), json!({})).preview.unwrap().copy, None);
}

#[test]
fn raising_the_ttl_restarts_nothing() {
    let pinned = pinned();
    let hashes = |ttl: &str| -> Vec<String> {
        lowered(json!({"workspace": "shop", "ttl": ttl}), Some(&pinned), json!({})).containers.iter().map(|c| c.hash.clone()).collect()
    };
    assert_eq!(hashes("1h"), hashes("9h"));
}

#[test]
fn what_cannot_be_a_preview_says_why() {
    let pinned = pinned();
    for (spec, pinned, type_, expected) in [
        (json!({"workspace": "shop"}), None, ConditionType::WaitingOn, "the workspace shop is not there to be copied"),
        (json!({"workspace": "blog"}), Some(&pinned), ConditionType::Stalled, "it was made from the workspace shop and cannot become a copy of blog"),
        (json!({"workspace": "shop"}), Some(&json!({"v": 2})), ConditionType::Stalled, "the configuration kept for this preview cannot be read"),
        (json!({"workspace": "shop", "image": "i"}), Some(&pinned), ConditionType::Stalled, "a preview needs exactly one of"),
        (json!({"image": "i", "ttl": "1h", "expiresAt": "2026-02-01T00:00:00Z"}), None, ConditionType::Stalled, "spec.ttl and spec.expiresAt contradict"),
        (json!({"image": "i", "password": {"hash": "x"}}), None, ConditionType::Unsupported, "spec.password is not supported by this version, and without it"),
    ] {
        let state = lowered(spec.clone(), pinned, json!({}));
        let found: Vec<_> = state.fatal.iter().map(|c| (c.type_, c.message.as_str())).collect();
        assert!(matches!(found.as_slice(), [(t, message)] if *t == type_ && message.starts_with(expected)), "{spec}: {found:?}");
    }
}

#[test]
fn an_instant_of_expiry_is_taken_as_it_is() {
    let state = lowered(json!({"image": "i", "expiresAt": "2026-02-01T00:00:00Z", "ttlAfterExpired": "1h"}), None, json!({}));
    let preview = state.preview.unwrap();
    assert_eq!((preview.expires_at.to_string(), preview.ttl_after_expired.to_string()), ("2026-02-01T00:00:00Z".to_owned(), "1h".to_owned()));
}
