//! Deletion, holds, tombstones, branches that come and go, and a state that is lost.

use super::super::scenario::{Human, Scenario, Step, Verb, edit, human, pass, port_taken_between, preview, remove, workspace, write};

const SHOP: &str = "alice/shop.yaml";
const DATA: &str = "mounts: [{volume: data, path: /data}]";

fn three(more: usize) -> Vec<Step> {
    let mut steps = vec![
        write("alice/a.yaml", workspace("a", DATA)),
        Step::AtOnce,
        write("alice/b.yaml", workspace("b", DATA)),
        Step::AtOnce,
        write("alice/c.yaml", workspace("c", DATA)),
    ];
    if more > 0 {
        steps.extend([Step::AtOnce, write("alice/d.yaml", workspace("d", DATA))]);
    }
    steps
}

pub fn all() -> Vec<Scenario> {
    let one = || write(SHOP, workspace("shop", DATA));
    let gone = &["container dm-ws-alice.shop"];
    let kept = &["volume dm-vol-alice.shop.data seeded"];
    let rich = "mounts: [{volume: data, path: /data}], ports: [{name: http, container: 80, publish: Pool}], \
                services: {db: {image: \"db:1\", command: [sleep, \"1000000\"], volume: {path: /var/db}}}";
    vec![
        Scenario::new("delete-one-of-one", vec![one(), remove(&[SHOP])]).must(kept).must_not(gone),
        Scenario::new("delete-rich", vec![write(SHOP, workspace("shop", rich)), remove(&[SHOP])])
            .must(&["volume dm-vol-alice.shop.data seeded", "volume dm-svc-alice.shop.db seeded"])
            .must_not(&["container dm-ws-alice.shop", "network dm-ws-alice.shop", "network dm-ns-alice"]),
        Scenario::new("delete-three-of-three-is-held", [three(0), vec![remove(&["alice/a.yaml", "alice/b.yaml", "alice/c.yaml"])]].concat()).must(&[
            "container dm-ws-alice.a running",
            "container dm-ws-alice.b running",
            "container dm-ws-alice.c running",
        ]),
        // Its end would be the end of its data.
        Scenario::new(
            "held-preview",
            vec![
                write(SHOP, workspace("shop", DATA)),
                write("alice/demo.yaml", preview("demo", "workspace: shop, ttl: 20m")),
                remove(&[SHOP, "alice/demo.yaml"]),
                pass(1300),
            ],
        )
        .must(&["container dm-ws-alice.shop running", "container dm-pv-alice.demo running", "volume dm-pvol-alice.demo.data "])
        .ends_with_the_engine(),
        Scenario::new(
            "held-and-killed",
            [three(0), vec![remove(&["alice/a.yaml", "alice/b.yaml", "alice/c.yaml"]), human(Human::Kill("dm-ws-alice.a"))]].concat(),
        )
        .must(&["container dm-ws-alice.a running", "container dm-ws-alice.b running", "container dm-ws-alice.c running"]),
        Scenario::new("delete-three-of-four", [three(1), vec![remove(&["alice/a.yaml", "alice/b.yaml", "alice/c.yaml"])]].concat())
            .must(&["container dm-ws-alice.d running", "volume dm-vol-alice.a.data seeded"])
            .must_not(&["container dm-ws-alice.a", "container dm-ws-alice.b", "container dm-ws-alice.c"]),
        Scenario::new("held-then-confirmed", [three(0), vec![remove(&["alice/a.yaml", "alice/b.yaml", "alice/c.yaml"]), Step::Verb(Verb::Prune)]].concat())
            .must(&["volume dm-vol-alice.a.data seeded"])
            .must_not(&["container dm-ws-alice.a", "container dm-ws-alice.b", "container dm-ws-alice.c"]),
        Scenario::new(
            "held-then-back",
            [
                three(0),
                vec![
                    Step::Checkout(vec![("alice/x.yaml", workspace("x", ""))]),
                    Step::Checkout(vec![
                        ("alice/a.yaml", workspace("a", DATA)),
                        ("alice/b.yaml", workspace("b", DATA)),
                        ("alice/c.yaml", workspace("c", DATA)),
                    ]),
                ],
            ]
            .concat(),
        )
        .must(&["container dm-ws-alice.a running", "container dm-ws-alice.b running", "container dm-ws-alice.c running"]),
        Scenario::new(
            "branch-away-and-back",
            vec![
                one(),
                Step::AtOnce,
                write("alice/other.yaml", workspace("other", "")),
                Step::Checkout(vec![("alice/other.yaml", workspace("other", ""))]),
                Step::Checkout(vec![("alice/other.yaml", workspace("other", "")), (SHOP, workspace("shop", DATA))]),
            ],
        )
        .must(&["container dm-ws-alice.shop running", "volume dm-vol-alice.shop.data seeded"]),
        Scenario::new("undeleted-within-the-tombstone", vec![one(), remove(&[SHOP]), pass(120), one()])
            .must(&["container dm-ws-alice.shop running", "volume dm-vol-alice.shop.data seeded"]),
        Scenario::new("returns-after-the-tombstone", vec![one(), remove(&[SHOP]), pass(900), one()]).must(&["volume dm-vol-alice.shop.data seeded"]),
        Scenario::new(
            "delete-policy",
            vec![write(SHOP, workspace("shop", "deletionPolicy: Delete, mounts: [{volume: data, path: /data}]")), remove(&[SHOP]), pass(900)],
        )
        .must_not(&["container dm-ws-alice.shop", "volume dm-vol-alice.shop.data"]),
        Scenario::new(
            "delete-policy-and-a-crash",
            vec![write(SHOP, workspace("shop", "deletionPolicy: Delete, mounts: [{volume: data, path: /data}]")), remove(&[SHOP]), Step::Crash, pass(900)],
        )
        .must_not(&["container dm-ws-alice.shop", "volume dm-vol-alice.shop.data"]),
        Scenario::new(
            "retain-policy",
            vec![write(SHOP, workspace("shop", "deletionPolicy: Retain, mounts: [{volume: data, path: /data}]")), remove(&[SHOP]), pass(900)],
        )
        .must(kept)
        .must_not(gone),
        Scenario::new(
            "delete-policy-and-back",
            vec![
                write(SHOP, workspace("shop", "deletionPolicy: Delete, mounts: [{volume: data, path: /data}]")),
                remove(&[SHOP]),
                write(SHOP, workspace("shop", "deletionPolicy: Delete, mounts: [{volume: data, path: /data}]")),
                pass(900),
            ],
        )
        .must(&["container dm-ws-alice.shop running", "volume dm-vol-alice.shop.data seeded"]),
        Scenario::new("trouble-is-no-deletion", vec![one(), Step::Trouble, Step::AtOnce, remove(&[SHOP]), pass(120)])
            .must(&["container dm-ws-alice.shop running"]),
        Scenario::new("trouble-and-well", vec![one(), Step::Trouble, edit(SHOP, "1000000", "1000001"), Step::Well])
            .must(&["container dm-ws-alice.shop running"]),
        Scenario::new("broken-file-shields", vec![one(), Step::Write(SHOP, "apiVersion: [".to_owned()), pass(120)])
            .must(&["container dm-ws-alice.shop running"]),
        Scenario::new("deleted-while-the-engine-is-down", vec![one(), Step::EngineDown, remove(&[SHOP]), Step::EngineUp]).must(kept).must_not(gone),
        Scenario::new("deleted-while-the-operator-is-down", vec![one(), Step::OperatorDown, remove(&[SHOP]), Step::OperatorUp]).must(kept).must_not(gone),
        Scenario::new("state-lost", vec![write(SHOP, workspace("shop", rich)), Step::OperatorDown, Step::LoseState, Step::OperatorUp]).must(&[
            "container dm-ws-alice.shop running",
            "container dm-ws-alice.shop.db running",
            "volume dm-vol-alice.shop.data seeded",
        ]),
        // It had to take another port than its own name leads to, which only its container tells.
        Scenario::new(
            "state-lost-with-another-port",
            [port_taken_between(SHOP), vec![human(Human::FreePorts), Step::OperatorDown, Step::LoseState, Step::OperatorUp]].concat(),
        )
        .must(&["container dm-ws-alice.shop running"])
        .may_differ(&["ports ", "port "]),
        Scenario::new(
            "state-lost-then-changed",
            vec![write(SHOP, workspace("shop", rich)), Step::OperatorDown, Step::LoseState, Step::OperatorUp, edit(SHOP, "1000000\"]", "1000001\"]")],
        )
        .must(&["container dm-ws-alice.shop running", "volume dm-vol-alice.shop.data seeded"]),
        Scenario::new("state-lost-while-deleted", vec![one(), Step::OperatorDown, Step::LoseState, remove(&[SHOP]), Step::OperatorUp, pass(120)])
            // Nobody says that it should run.
            .ends_with_the_engine()
            .must(&["container dm-ws-alice.shop running", "volume dm-vol-alice.shop.data seeded"]),
        Scenario::new(
            "state-lost-of-an-expired-preview",
            vec![
                write("alice/demo.yaml", preview("demo", "image: \"app:1\", ttl: 10m")),
                pass(700),
                Step::OperatorDown,
                Step::LoseState,
                Step::OperatorUp,
                pass(60),
            ],
        )
        .must_not(&["container dm-pv-alice.demo"]),
        Scenario::new(
            "state-lost-while-idle",
            vec![write(SHOP, workspace("shop", "idle: {timeout: 30m}")), pass(2400), Step::OperatorDown, Step::LoseState, Step::OperatorUp],
        )
        .must(&["workspace/alice/shop StateLost"])
        .must_not(&["container dm-ws-alice.shop running"]),
    ]
}
