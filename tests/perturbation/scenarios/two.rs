//! Two operators of one installation on one engine, on one directory or each on a clone of its own: the lock lets one of them act.

use super::super::scenario::{Human, Scenario, Step, edit, human, pass, remove, workspace, write};

const SHOP: &str = "alice/shop.yaml";
const BLOG: &str = "alice/blog.yaml";
const RICH: &str = "mounts: [{volume: data, path: /data}], ports: [{name: http, container: 80, publish: Pool}], \
                    services: {db: {image: \"db:1\", command: [sleep, \"1000000\"], volume: {path: /var/db}}}";

pub fn all() -> Vec<Scenario> {
    let runs = &["container dm-ws-alice.shop running", "container dm-ws-alice.shop.db running", "container dm-lock running"];
    let one = || write(SHOP, workspace("shop", RICH));
    let other = || edit(SHOP, "1000000\"]", "1000001\"]");
    let blog = || write(BLOG, workspace("blog", "mounts: [{volume: data, path: /data}]"));
    // Whichever of two clones acts: what the other declares keeps its data, and is not deleted for its absence from this one.
    let kept = &["volume dm-vol-alice.shop.data seeded", "volume dm-vol-alice.blog.data seeded", "container dm-ws-alice.shop running"];
    let clones = |name, steps: Vec<Step>| Scenario::new(name, steps).of_two_clones().must(kept);
    vec![
        Scenario::new("two-operators", vec![one(), other()]).of_two().must(runs),
        // The other one knows nothing but what the engine tells: a change that it does not know as one waits for idleness.
        Scenario::new("two-operators-one-ends", vec![one(), Step::OperatorDown, other(), pass(60)]).of_two().must(runs),
        Scenario::new("two-operators-one-ends-amid", vec![one(), other(), Step::AtOnce, Step::Crash, pass(900)]).of_two().must(runs),
        Scenario::new("two-operators-one-deletes", vec![one(), Step::Crash, remove(&[SHOP])]).of_two().must(&["volume dm-vol-alice.shop.data seeded"]),
        Scenario::new("lock-removed", vec![one(), human(Human::Remove("dm-lock")), other()]).of_two().must(runs),
        Scenario::new("lock-stopped-amid", vec![one(), other(), Step::AtOnce, human(Human::Kill("dm-lock")), pass(900)]).of_two().must(runs),
        Scenario::new("lock-and-engine-restart", vec![one(), Step::EngineRestart { in_order: true, seconds: 5 }, other()]).of_two().must(runs),
        clones("clones-one-behind", vec![one(), blog(), Step::Pull, other(), Step::OperatorDown, pass(900)]),
        clones("clones-one-lacks", vec![one(), Step::Pull, blog(), Step::OperatorDown, pass(900)]).must(&["container dm-ws-alice.blog running"]),
        clones("clones-one-deletes", vec![one(), blog(), Step::Pull, remove(&[BLOG]), Step::OperatorDown, pass(900)])
            .must(&["container dm-ws-alice.blog running"]),
    ]
}
