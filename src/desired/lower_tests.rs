//! Tests of lowering: from a spec to what should be.

use super::*;
use crate::desired::merge::resolve;
use crate::desired::{DesiredState, MountSource, VolumeScope};
use crate::resource::{TenantSpec, Uid};
use proptest::prelude::*;
use serde_json::{Value, json};

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn admission() -> Admission {
    Admission { uid: Uid("01936f2e-7b7c-7000-8000-000000000001".to_owned()), generation: 2, created: "2026-01-02T03:04:05Z".parse().unwrap() }
}

/// Lowers a workspace `shop` of alice, with every claim granted: ports from 10000 up, one subnet.
struct Case {
    metadata: Value,
    spec: Value,
    tenant: TenantSpec,
    host_paths: Vec<String>,
    disk_limit: bool,
    grants: Option<Vec<Grant>>,
}

impl Case {
    fn new(spec: Value) -> Self {
        let metadata = json!({"name": "shop", "namespace": "alice"});
        Case { metadata, spec, tenant: TenantSpec::default(), host_paths: vec![], disk_limit: false, grants: None }
    }

    fn tenant(mut self, tenant: Value) -> Self {
        self.tenant = read(tenant);
        self
    }

    fn intent(&self) -> Intent {
        let resource: Object<WorkspaceSpec> = read(json!({"apiVersion": "dockmaster/v1", "kind": "Workspace", "metadata": self.metadata, "spec": self.spec}));
        let all = BTreeMap::from([("alice".to_owned(), self.tenant.clone())]);
        let tenants = Tenants { all: &all, namespace: "alice" };
        let resolved = resolve(&resource.spec, &BTreeMap::new(), tenants);
        let object = ObjectRef::new(Kind::Workspace, "alice", "shop");
        let grants = self.grants.clone().unwrap_or_else(|| grant_all(&claims("dm", &object, &resolved).unwrap_or_default()));
        let links = BTreeMap::from([("/srv/escape".to_owned(), "/etc".to_owned()), ("/srv/within".to_owned(), "/srv/sets".to_owned())]);
        lower(&LowerInput {
            around: Surroundings {
                installation: "dm",
                host_paths: &self.host_paths,
                links: &links,
                publish_address: "127.0.0.1",
                disk_limit: self.disk_limit,
                nano_cpus: 2_000_000_000,
            },
            resource: &resource,
            resolved: &resolved,
            tenants,
            admission: &admission(),
            grants: &grants,
            directory: "/specs/alice",
            own_digest: "digest",
        })
    }

    fn state(&self) -> DesiredState {
        let Intent::Present(state) = self.intent() else { panic!("held") };
        *state
    }

    fn sound(&self) -> DesiredState {
        let state = self.state();
        assert_eq!(state.fatal, []);
        state
    }

    /// The only reason against it.
    fn refused(&self) -> (ConditionType, String) {
        let fatal = self.state().fatal;
        assert_eq!(fatal.len(), 1, "{fatal:?}");
        (fatal[0].type_, fatal[0].message.clone())
    }
}

pub(in crate::desired) fn grant_all(claims: &[Claim]) -> Vec<Grant> {
    let grant = |(index, claim): (usize, &Claim)| match claim {
        Claim::Port { name, fixed } => Grant::Port { name: name.clone(), host: fixed.unwrap_or(10000 + index as u16) },
        Claim::Subnet { network, .. } => Grant::Subnet { network: network.clone(), cidr: "10.213.0.64/28".to_owned() },
    };
    claims.iter().enumerate().map(grant).collect()
}

#[test]
fn a_small_workspace_in_full() {
    let state = Case::new(json!({"type": "static", "mounts": [{"host": "site", "path": "/workspace", "readOnly": true}]})).sound();
    let hash = state.containers[0].hash.clone();
    assert_eq!(
        serde_json::to_value(&state).unwrap(),
        json!({
            "uid": "01936f2e-7b7c-7000-8000-000000000001",
            "generation": 2,
            "created": "2026-01-02T03:04:05Z",
            "run": {"declared_running": true, "idle": null, "max_lifetime": null, "hours": null},
            "containers": [{
                "name": "dm-ws-alice.shop",
                "role": "Main",
                "service": null,
                "depends_on": [],
                "image": "Helper",
                "entrypoint": null,
                "command": ["static", "--root", "/workspace", "--port", "8080"],
                "env": {},
                "working_dir": "/workspace",
                "user": null,
                "hostname": "shop",
                "labels": {
                    "dockmaster.created": "2026-01-02T03:04:05Z",
                    "dockmaster.generation": "2",
                    "dockmaster.installation": "dm",
                    "dockmaster.kind": "workspace",
                    "dockmaster.name": "shop",
                    "dockmaster.namespace": "alice",
                    "dockmaster.ports": "{\"http\":10000}",
                    "dockmaster.role": "main",
                    "dockmaster.spec-hash": hash,
                    "dockmaster.uid": "01936f2e-7b7c-7000-8000-000000000001",
                },
                "ports": [{"name": "http", "container": 8080, "host": 10000, "ip": "127.0.0.1", "protocol": "tcp"}],
                "mounts": [{"source": {"Host": "/specs/alice/site"}, "path": "/workspace", "read_only": true}],
                "networks": [{"network": "dm-ns-alice", "aliases": ["shop", "shop.alice"]}],
                "health": {
                    "test": ["CMD", "/dockmaster", "helper", "probe", "http://127.0.0.1:8080/"],
                    "interval": "30s", "timeout": "10s", "retries": 3, "start_period": null, "start_interval": "2s",
                },
                "init": true,
                "stop_signal": null,
                "stop_grace": "10s",
                "security": {"cap_drop": ["NET_RAW"], "read_only_root": false},
                "storage_size": null,
                "limits": {"memory": null, "cpu": null, "pids": 512, "restart": "unless-stopped"},
                "hash": hash,
            }],
            "networks": [],
            "volumes": [],
            "hooks": {},
            "update": null,
            "own_digest": "digest",
            "restart_token": null,
            "pull": "IfNotPresent",
            "disk": null,
            "deletion": "Snapshot",
            "preview": null,
            "notices": [],
            "fatal": [],
        })
    );
}

fn with_services() -> Value {
    json!({
        "image": "app:1",
        "services": {
            "cache": {"image": "redis:7"},
            "worker": {"image": "app:1", "dependsOn": ["db", "cache"]},
            "db": {"image": "postgres:16", "volume": {"path": "/var/lib/postgresql/data"}, "resources": {"memory": "256m"}},
            "api": {"image": "app:1", "dependsOn": ["worker"]},
        },
        "mounts": [{"volume": "cache", "path": "/cache"}, {"sharedVolume": "models", "path": "/a-models", "readOnly": true}, {"tmpfs": "64m", "path": "/run"}],
        "user": "1000",
    })
}

#[test]
fn services_start_in_order_on_a_private_network() {
    let state = Case::new(with_services()).sound();
    let names: Vec<&str> = state.containers.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["dm-ws-alice.shop.cache", "dm-ws-alice.shop.db", "dm-ws-alice.shop.worker", "dm-ws-alice.shop.api", "dm-ws-alice.shop"]);
    assert_eq!(state.networks.len(), 1);
    assert_eq!((state.networks[0].name.as_str(), state.networks[0].subnet.as_str()), ("dm-ws-alice.shop", "10.213.0.64/28"));
    let networks = |index: usize| serde_json::to_value(&state.containers[index].networks).unwrap();
    assert_eq!(networks(1), json!([{"network": "dm-ws-alice.shop", "aliases": ["db"]}]), "a service is on no network of the namespace");
    let main = json!([{"network": "dm-ns-alice", "aliases": ["shop", "shop.alice"]}, {"network": "dm-ws-alice.shop", "aliases": ["shop"]}]);
    assert_eq!(networks(4), main);
    let main = state.main().unwrap();
    assert_eq!(main.depends_on, ["api", "cache", "db", "worker"]);
    let db = &state.containers[1];
    assert_eq!((db.hostname.as_str(), db.limits.memory.map(|m| m.0), db.limits.pids), ("db", Some(256 << 20), 512));
    assert!(state.containers.iter().all(|c| c.labels[naming::SPEC_HASH] == c.hash && c.hash.starts_with("v1:")));
}

#[test]
fn volumes_have_their_owners() {
    let state = Case::new(with_services()).sound();
    let volumes: Vec<_> = state.volumes.iter().map(|v| (v.name.as_str(), v.volume.as_str(), v.scope)).collect();
    assert_eq!(
        volumes,
        [
            ("dm-nsvol-alice.models", "models", VolumeScope::Namespace),
            ("dm-svc-alice.shop.db", "db", VolumeScope::Private),
            ("dm-vol-alice.shop.cache", "cache", VolumeScope::Private),
        ]
    );
    for volume in &state.volumes {
        assert!(naming::volume_owner("dm", &volume.name, &volume.labels).is_some(), "{}", volume.name);
    }
    let mounts: Vec<_> = state.main().unwrap().mounts.iter().map(|m| (m.path.as_str(), m.source.clone(), m.read_only)).collect();
    assert_eq!(
        mounts,
        [
            ("/a-models", MountSource::Volume("dm-nsvol-alice.models".to_owned()), true),
            ("/cache", MountSource::Volume("dm-vol-alice.shop.cache".to_owned()), false),
            ("/run", MountSource::Tmpfs { size: crate::resource::Bytes(64 << 20), owner: Some((1000, 1000)) }, false),
        ]
    );
}

#[test]
fn claims_follow_the_spec() {
    let spec = read(json!({
        "ports": [{"name": "web", "container": 80, "publish": "Pool"}, {"name": "x", "container": 81}, {"name": "y", "container": 82, "publish": "None"},
                  {"name": "a", "container": 83, "publish": 8083}],
        "services": {"db": {"image": "i"}},
    }));
    let mut resolved = Resolved { spec, ..Resolved::default() };
    let object = ObjectRef::new(Kind::Workspace, "alice", "shop");
    assert_eq!(
        claims("dm", &object, &resolved).unwrap(),
        [
            Claim::Port { name: "web".to_owned(), fixed: None },
            Claim::Port { name: "a".to_owned(), fixed: Some(8083) },
            Claim::Subnet { network: "dm-ws-alice.shop".to_owned(), prefix: 28 },
        ]
    );
    resolved.fatal.push(invalid("a type is missing"));
    assert_eq!(claims("dm", &object, &resolved), None, "what is held is not given back because a type is missing for a while");
    assert_eq!(namespace_claim("dm", "alice"), Claim::Subnet { network: "dm-ns-alice".to_owned(), prefix: 26 });
}

#[test]
fn the_users_labels_never_become_ours() {
    let mut case = Case::new(json!({"image": "i"}));
    case.metadata["labels"] = json!({"traefik.enable": "true", "dockmaster.uid": "forged", "dockmaster.expired": "x"});
    let labels = case.sound().containers[0].labels.clone();
    assert_eq!(labels["traefik.enable"], "true");
    assert_eq!(labels[naming::UID], admission().uid.0);
    assert!(!labels.contains_key(naming::EXPIRED));
}

#[test]
fn policies_of_running_are_carried_over() {
    let state = Case::new(json!({
        "image": "i", "state": "Stopped", "maxLifetime": "8h", "idle": {"timeout": "30m", "check": {"exec": ["true"]}},
        "runningHours": {"from": "08:00", "to": "18:00"}, "update": {"when": "OnRestart"}, "deletionPolicy": "Delete", "pullPolicy": "Always",
        "hooks": {"preStop": ["sync"], "postCreate": ["make"]}, "stopSignal": "SIGINT", "stopGracePeriod": "30s", "init": false, "restart": "no",
    }))
    .sound();
    assert!(!state.run.declared_running && state.run.hours.is_some());
    let idle = state.run.idle.clone().unwrap();
    assert_eq!(
        (idle.timeout.to_string(), idle.network.to_string(), idle.check, idle.warn),
        ("30m".to_owned(), "10k".to_owned(), Some(vec!["true".to_owned()]), None)
    );
    assert_eq!(state.hooks.keys().copied().collect::<Vec<_>>(), [HookPoint::PostCreate, HookPoint::PreStop]);
    assert_eq!((state.deletion, state.pull), (DeletionPolicy::Delete, PullPolicy::Always));
    let main = state.main().unwrap();
    assert_eq!((main.init, main.stop_signal.as_deref(), main.stop_grace.as_secs(), main.limits.restart), (false, Some("SIGINT"), 30, RestartPolicy::No));
}

#[test]
fn suspended_is_held() {
    let mut case = Case::new(json!({"image": "i"}));
    case.metadata["annotations"] = json!({"dockmaster/suspend": "true"});
    let Intent::Hold(condition) = case.intent() else { panic!("not held") };
    assert_eq!(condition.type_, ConditionType::Suspended);
    assert!(condition.message.contains("dockmaster resume workspace/shop -n alice"), "{}", condition.message);
}

#[test]
fn what_cannot_be_done_is_said_and_nothing_is_half_done() {
    use ConditionType::{PortConflict, Stalled, Unsupported};
    let secret = json!({"name": "s", "key": "k"});
    for (spec, type_, expected) in [
        (json!({"image": "i", "project": "p"}), Unsupported, "spec.project is not supported by this version; mount"),
        (json!({"build": {"context": "."}}), Unsupported, "spec.build is not supported by this version; build the image elsewhere"),
        (json!({"image": "i", "engine": "e"}), Unsupported, "spec.engine is not"),
        (json!({"image": "i", "update": {"order": "StartFirst"}}), Unsupported, "spec.update.order StartFirst is not"),
        (json!({"image": "i", "update": {"keepRootFileSystem": true}}), Unsupported, "spec.update.keepRootFileSystem is not"),
        (json!({"image": "i", "files": [{"path": "/x", "secret": secret}]}), Unsupported, "spec.files is not"),
        (
            json!({"image": "i", "env": [{"name": "A", "secret": secret}]}),
            Unsupported,
            "spec.env.A.secret is not supported by this version; give the variable a value",
        ),
        (json!({"image": "i", "services": {"db": {"image": "p", "env": [{"name": "A", "secret": secret}]}}}), Unsupported, "spec.services.db.env.A.secret is"),
        (json!({}), Stalled, "nothing says which image to run; set spec.image, or spec.type"),
        (
            json!({"type": "nodde", "ports": [{"name": "web", "container": 80, "publish": "Pool"}], "services": {"db": {"image": "p"}}}),
            Stalled,
            "there is no WorkspaceType nodde; did you mean node?",
        ),
        (json!({"image": "i", "resources": {"cpu": "8"}}), Stalled, "spec.resources.cpu 8 is more than the 2 CPUs of this host"),
        (json!({"image": "i", "networks": ["db-net"]}), Stalled, "network `db-net` is not allowed here; policy.networks of the tenant"),
        (json!({"image": "i", "networks": ["bridge"]}), Stalled, "spec.networks names bridge, which no workspace may join"),
        (json!({"image": "i", "networks": ["dm-ns-bob"]}), Stalled, "spec.networks names dm-ns-bob"),
        (json!({"image": "i", "mounts": [{"externalVolume": "data", "path": "/d"}]}), Stalled, "volume `data` is not allowed here; policy.externalVolumes"),
        (
            json!({"image": "i", "mounts": [{"externalVolume": "dm-vol-bob.x.y", "path": "/d"}]}),
            Stalled,
            "the external volume dm-vol-bob.x.y at /d has a name of this",
        ),
        (json!({"image": "i", "mounts": [{"path": "/d"}]}), Stalled, "the mount at /d needs exactly one of"),
        (json!({"image": "i", "mounts": [{"volume": "a", "host": "b", "path": "/d"}]}), Stalled, "the mount at /d needs exactly one of"),
        (json!({"image": "i", "services": {"db": {"image": ""}}}), Stalled, "spec.services.db has no image"),
        (
            json!({"image": "i", "services": {"db": {"image": "p", "dependsOn": ["cash"]}, "cache": {"image": "r"}}}),
            Stalled,
            "spec.services.db.dependsOn names cash, which is no service; did you mean cache?",
        ),
        (
            json!({"image": "i", "services": {"a": {"image": "p", "dependsOn": ["b"]}, "b": {"image": "r", "dependsOn": ["a"]}}}),
            Stalled,
            "the services a, b wait for each other",
        ),
        (
            json!({"image": "i", "runningHours": {"from": "08:00", "to": "18:00", "timeZone": "Mars/Base"}}),
            Stalled,
            "spec.runningHours: `Mars/Base` is no time zone",
        ),
    ] {
        let (found, message) = Case::new(spec.clone()).refused();
        assert!(found == type_ && message.starts_with(expected), "{spec}: {found} {message}");
    }
    let mut case = Case::new(json!({"image": "i", "ports": [{"name": "web", "container": 80, "publish": 8080}]}));
    case.grants = Some(vec![Grant::Port { name: "web".to_owned(), host: 9999 }]);
    assert_eq!(case.refused().0, ConditionType::WaitingOn, "a grant of another port is not the fixed one");
    let holder = ObjectRef::new(Kind::Workspace, "bob", "blog");
    let claim = |fixed| Claim::Port { name: "web".to_owned(), fixed };
    case.grants = Some(vec![Grant::Refused { claim: claim(Some(8080)), holders: vec![holder.clone()] }]);
    assert_eq!(case.refused(), (PortConflict, "port 8080 for web is held by workspace/blog -n bob; choose another, or `publish: Pool`".to_owned()));
    case.spec["ports"][0]["publish"] = json!("Pool");
    case.grants = Some(vec![Grant::Refused { claim: claim(None), holders: vec![holder] }]);
    let (type_, message) = case.refused();
    assert!(type_ == ConditionType::PortsExhausted && message.contains("held by workspace/blog -n bob"), "{message}");
    let mut case = Case::new(json!({"image": "i", "services": {"db": {"image": "p"}}}));
    case.grants = Some(vec![Grant::Refused { claim: Claim::Subnet { network: "dm-ws-alice.shop".to_owned(), prefix: 28 }, holders: vec![] }]);
    assert_eq!(case.refused().0, ConditionType::AddressesExhausted);
}

#[test]
fn a_route_is_told_and_harms_nothing() {
    let state = Case::new(json!({"image": "i", "route": {"host": "shop.example.com"}})).sound();
    let notices: Vec<_> = state.notices.iter().map(|c| c.type_).collect();
    assert_eq!(notices, [ConditionType::Unsupported]);
}

#[test]
fn too_many_services_do_not_fit() {
    let services: BTreeMap<String, Value> = (0..13).map(|n| (format!("s{n}"), json!({"image": "i"}))).collect();
    let (_, message) = Case::new(json!({"image": "i", "services": services})).refused();
    assert!(message.starts_with("13 services are more than the 12"), "{message}");
}

#[test]
fn host_directories_need_permission() {
    /// host, readOnly, --host-path, policy, the path or the complaint
    type Row<'a> = (&'a str, bool, &'a [&'a str], Option<&'a [&'a str]>, Result<&'a str, &'a str>);
    let rows: &[Row] = &[
        ("data", true, &[], None, Ok("/specs/alice/data")),
        (".", true, &[], None, Ok("/specs/alice")),
        ("data", false, &[], None, Err("the host directory /specs/alice/data at /d lies beside the spec, where it can only be read; add `readOnly: true`")),
        ("data", false, &["/specs"], None, Ok("/specs/alice/data")),
        (
            "../bob/data",
            true,
            &[],
            None,
            Err("the host directory /specs/bob/data at /d may not be mounted; start the operator with `--host-path /specs/bob/data`"),
        ),
        ("/etc", true, &["/srv"], None, Err("the host directory /etc at /d may not be mounted")),
        ("/srv/escape", true, &["/srv"], None, Err("the host directory /srv/escape, which leads to /etc, at /d may not be mounted")),
        ("/srv/within", false, &["/srv"], None, Ok("/srv/sets")),
        ("/srv/../etc", true, &["/srv"], None, Err("the host directory /etc at /d may not be mounted")),
        ("/srv2", true, &["/srv"], None, Err("the host directory /srv2 at /d may not be mounted")),
        ("/srv/sets", false, &["/srv/"], None, Ok("/srv/sets")),
        ("/srv/sets", false, &["/srv"], Some(&["/srv/alice"]), Err("host path `/srv/sets` is not allowed here; policy.hostPaths")),
        ("/srv/alice/x", false, &["/srv"], Some(&["/srv/alice"]), Ok("/srv/alice/x")),
        ("data", true, &["/specs"], Some(&[]), Ok("/specs/alice/data")),
    ];
    for (host, read_only, roots, policy, expected) in rows {
        let mut case = Case::new(json!({"image": "i", "mounts": [{"host": host, "path": "/d", "readOnly": read_only}]}));
        case.host_paths = roots.iter().map(|root| (*root).to_owned()).collect();
        case.tenant = read(json!({"policy": {"hostPaths": policy}}));
        match expected {
            Ok(path) => assert_eq!(case.sound().containers[0].mounts[0].source, MountSource::Host((*path).to_owned()), "{host}"),
            Err(complaint) => {
                let (_, message) = case.refused();
                assert!(message.starts_with(complaint), "{host}: {message}");
            }
        }
    }
}

#[test]
fn the_tenants_policy_opens_and_closes() {
    let spec = json!({"image": "ghcr.io/acme/app:1", "networks": ["db-net"], "mounts": [{"externalVolume": "sets-eu", "path": "/d"}]});
    let open = json!({"policy": {"images": ["ghcr.io/acme/*"], "networks": ["db-net"], "externalVolumes": ["sets-*"]}});
    let state = Case::new(spec.clone()).tenant(open).sound();
    assert_eq!(state.containers[0].networks[1].network, "db-net");
    assert_eq!(state.volumes[0].scope, VolumeScope::External);
    assert!(state.volumes[0].labels.is_empty());
    let (_, message) = Case::new(json!({"image": "evil/app"})).tenant(json!({"policy": {"images": ["ghcr.io/acme/*"]}})).refused();
    assert!(message.starts_with("image `evil/app` is not allowed here"), "{message}");
    Case::new(json!({"type": "static"})).tenant(json!({"policy": {"images": []}})).sound();
}

#[test]
fn restricted_takes_root_and_gives_a_tmp() {
    let restricted = json!({"policy": {"profile": "Restricted"}});
    let state = Case::new(json!({"image": "i", "services": {"db": {"image": "p", "user": "999"}}})).tenant(restricted.clone()).sound();
    for container in &state.containers {
        assert_eq!(container.security.cap_drop, ["ALL"]);
        assert!(container.security.read_only_root && container.mounts.iter().any(|m| m.path == "/tmp"), "{}", container.name);
    }
    assert_eq!(state.main().unwrap().user.as_deref(), Some("1000:1000"));
    let (_, message) = Case::new(json!({"image": "i", "user": "root"})).tenant(restricted).refused();
    assert!(message.starts_with("spec.user is root, which the security profile Restricted does not allow"), "{message}");
}

#[test]
fn disk_limits_are_given_or_admitted_to_be_soft() {
    let mut case = Case::new(json!({"image": "i", "resources": {"disk": "10g"}}));
    let soft = case.sound();
    assert_eq!((soft.containers[0].storage_size, soft.disk.map(|d| d.to_string())), (None, Some("10g".to_owned())));
    assert_eq!(soft.notices[0].type_, ConditionType::DiskNotEnforced);
    case.disk_limit = true;
    let hard = case.sound();
    assert_eq!((hard.containers[0].storage_size, hard.notices.len()), (hard.disk, 0));
}

proptest! {
    #[test]
    fn lowering_never_panics_and_repeats_itself(image in ".{0,12}", host in ".{0,20}", path in ".{0,12}", user in proptest::option::of(".{0,8}"), needs in ".{0,4}") {
        let case = Case::new(json!({
            "image": image, "user": user, "mounts": [{"host": host, "path": path}], "services": {"a": {"image": "i", "dependsOn": [needs]}},
        }));
        prop_assert_eq!(case.intent(), case.intent());
    }
}
