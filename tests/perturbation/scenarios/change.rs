//! Transitions of the declared state: every field that makes a container, what many objects share, and the ways in which files change.

use super::super::engine::HELPER;
use super::super::scenario::{Human, Scenario, Step, edit, human, pass, preview, remove, tenant, workspace, workspace_type, write};

const SHOP: &str = "alice/shop.yaml";
const DATA: &str = "mounts: [{volume: data, path: /data}]";

/// One workspace, one change of one field.
fn field(name: &'static str, before: &'static str, from: &'static str, to: &'static str) -> Scenario {
    Scenario::new(name, vec![write(SHOP, workspace("shop", before)), edit(SHOP, from, to)]).must(&["container dm-ws-alice.shop running"])
}

/// A hundred workspaces, in two namespaces that are nearly full, and what they share.
fn hundred() -> Vec<(&'static str, String)> {
    let one = |n: u32| {
        let path: &'static str = format!("{}/w{n}.yaml", ["alice", "bob"][(n % 2) as usize]).leak();
        (path, workspace(&format!("w{n}"), ""))
    };
    std::iter::once(("tenants.yaml", tenant("default", "defaults: {memory: 64m}"))).chain((0..100).map(one)).collect()
}

pub fn all() -> Vec<Scenario> {
    let rich = "mounts: [{volume: data, path: /data}], ports: [{name: http, container: 80, publish: Pool}], \
                services: {db: {image: \"db:1\", command: [sleep, \"1000000\"], volume: {path: /var/db}}}, env: [{name: A, value: one}]";
    vec![
        Scenario::new("create", vec![write(SHOP, workspace("shop", ""))]).must(&["container dm-ws-alice.shop running"]),
        Scenario::new("create-rich", vec![write(SHOP, workspace("shop", rich))]).must(&[
            "container dm-ws-alice.shop running",
            "container dm-ws-alice.shop.db running",
            "volume dm-vol-alice.shop.data",
            "volume dm-svc-alice.shop.db",
        ]),
        Scenario::new(
            "create-many",
            vec![
                write("alice/a.yaml", workspace("a", DATA)),
                Step::AtOnce,
                write("alice/b.yaml", workspace("b", DATA)),
                Step::AtOnce,
                write("bob/c.yaml", workspace("c", DATA)),
            ],
        )
        .must(&["container dm-ws-alice.a running", "container dm-ws-alice.b running", "container dm-ws-bob.c running"]),
        Scenario::new("change-rich", vec![write(SHOP, workspace("shop", rich)), edit(SHOP, "value: one", "value: two")])
            .must(&["container dm-ws-alice.shop running", "A=two"]),
        field("change-image", "", "app:1", "app:2").must(&["image app:2"]),
        field("change-command", "", "1000000", "1000001"),
        field("change-env", "env: [{name: A, value: one}]", "one", "two").must(&["A=two"]),
        field("add-port", "env: []", "env: []", "ports: [{name: http, container: 80, publish: Pool}]").must(&["ports 127.0.0.1:"]),
        field("fix-port", "ports: [{name: http, container: 80, publish: Pool}]", "Pool", "15080").must(&["ports 127.0.0.1:15080"]),
        field("drop-port", "ports: [{name: http, container: 80, publish: Pool}]", "ports: [{name: http, container: 80, publish: Pool}]", "env: []"),
        field("add-volume", "env: []", "env: []", DATA).must(&["volume dm-vol-alice.shop.data"]),
        field("drop-volume", DATA, DATA, "env: []").must(&["volume dm-vol-alice.shop.data"]),
        field("move-volume", DATA, "/data", "/srv"),
        field("add-service", "env: []", "env: []", "services: {db: {image: \"db:1\", command: [sleep, \"1000000\"]}}")
            .must(&["container dm-ws-alice.shop.db running"]),
        field(
            "drop-service",
            "services: {db: {image: \"db:1\", command: [sleep, \"1000000\"]}}",
            "services: {db: {image: \"db:1\", command: [sleep, \"1000000\"]}}",
            "env: []",
        )
        .must_not(&["dm-ws-alice.shop.db"]),
        field("change-service", "services: {db: {image: \"db:1\", command: [sleep, \"1000000\"], volume: {path: /db}}}", "db:1", "db:2")
            .must(&["image db:2", "volume dm-svc-alice.shop.db"]),
        field("raise-memory", "resources: {memory: 64m}", "64m", "128m").must(&["memory 134217728"]),
        field("drop-memory", "resources: {memory: 64m}", "resources: {memory: 64m}", "env: []"),
        field("change-cpu-and-env", "resources: {cpu: \"0.5\"}, env: [{name: A, value: one}]", "one", "two"),
        field("change-restart", "restart: unless-stopped", "unless-stopped", "on-failure"),
        field("change-user-workdir", "workingDir: /tmp, user: \"1000\"", "/tmp", "/srv"),
        field("change-health", "health: {test: [CMD, \"true\"], interval: 2s, retries: 2}", "interval: 2s", "interval: 3s"),
        field("change-stop", "stopGracePeriod: 2s", "2s", "3s"),
        field("change-hooks", "hooks: {postCreate: [\"true\"], postStart: [\"true\"]}", "postCreate: [\"true\"]", "postCreate: [echo, again]"),
        field("change-tmpfs", "mounts: [{tmpfs: 16m, path: /run}]", "16m", "32m"),
        field("change-shared-volume", "mounts: [{sharedVolume: models, path: /models}]", "/models", "/m").must(&["volume dm-nsvol-alice.models"]),
        Scenario::new("change-labels", vec![write(SHOP, workspace("shop", DATA)), edit(SHOP, "{name: shop}", "{name: shop, labels: {tier: gold}}")])
            .must(&["tier=gold"]),
        Scenario::new(
            "change-twice",
            vec![write(SHOP, workspace("shop", "env: [{name: A, value: one}]")), edit(SHOP, "one", "two"), Step::AtOnce, edit(SHOP, "two", "three")],
        )
        .must(&["A=three"]),
        Scenario::new(
            "change-and-back",
            vec![write(SHOP, workspace("shop", "env: [{name: A, value: one}]")), edit(SHOP, "one", "two"), edit(SHOP, "two", "one")],
        )
        .must(&["A=one"]),
        Scenario::new(
            "stop-and-start",
            vec![write(SHOP, workspace("shop", rich)), edit(SHOP, "{image:", "{state: Stopped, image:"), edit(SHOP, "state: Stopped, ", "")],
        )
        .must(&["container dm-ws-alice.shop running"]),
        Scenario::new(
            "change-while-stopped",
            vec![
                write(SHOP, workspace("shop", "state: Stopped, env: [{name: A, value: one}]")),
                edit(SHOP, "one", "two"),
                edit(SHOP, "state: Stopped", "state: Running"),
            ],
        )
        .must(&["A=two"]),
        Scenario::new("bad-and-good-again", vec![write(SHOP, workspace("shop", "")), edit(SHOP, "image:", "imag:"), edit(SHOP, "imag:", "image:")])
            .must(&["container dm-ws-alice.shop running"]),
        Scenario::new(
            "broken-update",
            vec![write(SHOP, workspace("shop", "env: [{name: A, value: one}]")), edit(SHOP, "app:1", "absent:9"), edit(SHOP, "absent:9", "app:2")],
        )
        .must(&["image app:2"]),
        Scenario::new("moved-file", vec![write(SHOP, workspace("shop", DATA)), Step::Move(SHOP, "alice/web/store.yaml")])
            .must(&["container dm-ws-alice.shop running"]),
        Scenario::new("moved-namespace", vec![write(SHOP, workspace("shop", DATA)), Step::Move(SHOP, "bob/shop.yaml")])
            .must(&["container dm-ws-bob.shop running", "volume dm-vol-alice.shop.data"])
            .must_not(&["container dm-ws-alice.shop"]),
        Scenario::new(
            "duplicate",
            vec![
                write(SHOP, workspace("shop", "")),
                write("alice/copy.yaml", workspace("shop", "env: [{name: A, value: other}]")),
                remove(&["alice/copy.yaml"]),
            ],
        )
        .must(&["container dm-ws-alice.shop running"])
        .must_not(&["A=other"]),
        Scenario::new(
            "duplicate-takes-over",
            vec![write(SHOP, workspace("shop", "")), write("alice/copy.yaml", workspace("shop", "env: [{name: A, value: other}]")), remove(&[SHOP])],
        )
        .must(&["A=other"]),
        Scenario::new(
            "tenant-default",
            vec![
                write("tenants.yaml", tenant("default", "defaults: {memory: 64m}")),
                write("alice/a.yaml", workspace("a", "")),
                write("alice/b.yaml", workspace("b", "")),
                edit("tenants.yaml", "64m", "96m"),
            ],
        )
        .must(&["memory 100663296"]),
        Scenario::new("tenant-default-of-a-hundred", vec![Step::Checkout(hundred()), edit("tenants.yaml", "64m", "96m")])
            .must(&["memory 100663296"])
            .must_not(&["memory 67108864"])
            .stride(200),
        Scenario::new(
            "tenant-quota",
            vec![
                write("tenants.yaml", tenant("default", "quota: {maxWorkspaces: 1}")),
                write("alice/a.yaml", workspace("a", "")),
                write("alice/b.yaml", workspace("b", "")),
                remove(&["alice/a.yaml"]),
            ],
        )
        .must(&["container dm-ws-alice.b running"]),
        Scenario::new(
            "type-edited",
            vec![
                write("types.yaml", workspace_type("own", "env: [{name: T, value: one}]")),
                write(SHOP, workspace("shop", "type: own")),
                edit("types.yaml", "one", "two"),
                pass(400),
            ],
        ),
        Scenario::new(
            "preview-of-image",
            vec![write("alice/demo.yaml", preview("demo", "image: \"app:1\", ttl: 20m, ports: [{name: http, container: 80, publish: Pool}]")), pass(1300)],
        )
        .must(&["preview/alice/demo phase Expired"])
        .must_not(&["container dm-pv-alice.demo"])
        .may_differ(&["port "]),
        Scenario::new(
            "preview-of-workspace",
            vec![write(SHOP, workspace("shop", DATA)), write("alice/demo.yaml", preview("demo", "workspace: shop, ttl: 2h"))],
        )
        .must(&["container dm-pv-alice.demo running"]),
        Scenario::new(
            "helper-pruned",
            vec![
                write(SHOP, workspace("shop", DATA)),
                human(Human::RemoveImage(HELPER)),
                write("alice/demo.yaml", preview("demo", "workspace: shop, ttl: 2h")),
                human(Human::AddImage(HELPER)),
                pass(600),
            ],
        )
        .must(&["container dm-pv-alice.demo running"])
        .may_differ(&["preview/alice/demo "])
        .reports_late(),
        Scenario::new(
            "preview-expires-and-source-goes",
            vec![write(SHOP, workspace("shop", DATA)), write("alice/demo.yaml", preview("demo", "workspace: shop, ttl: 20m")), remove(&[SHOP]), pass(1300)],
        )
        .must(&["preview/alice/demo phase Expired"])
        .must_not(&["container dm-pv-alice.demo"]),
        Scenario::new(
            "preview-extended",
            vec![write("alice/demo.yaml", preview("demo", "image: \"app:1\", ttl: 20m")), edit("alice/demo.yaml", "20m", "60m"), pass(1300)],
        )
        .must(&["container dm-pv-alice.demo running"]),
        Scenario::new(
            "fixed-port-conflict",
            vec![
                write("alice/a.yaml", workspace("a", "ports: [{name: http, container: 80, publish: 15081}]")),
                write("alice/b.yaml", workspace("b", "ports: [{name: http, container: 80, publish: 15081}]")),
                remove(&["alice/a.yaml"]),
            ],
        )
        // The second of the two then counts as the older: each waits for the port of the other, and says so.
        .restless_when_set_back()
        .must(&["container dm-ws-alice.b running"]),
        Scenario::new("image-pulled", vec![write(SHOP, workspace("shop", "env: []").replace("app:1", "registry.test/app:1"))])
            .must(&["container dm-ws-alice.shop running"]),
        Scenario::new(
            "tag-moves-always",
            vec![
                write(SHOP, workspace("shop", "pullPolicy: Always").replace("app:1", "registry.test/app:1")),
                human(Human::MoveTag("registry.test/app:1")),
                Step::Verb(super::super::scenario::Verb::Restart("shop")),
            ],
        )
        .must(&["container dm-ws-alice.shop running"]),
    ]
}
