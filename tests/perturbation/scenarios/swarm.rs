//! Swarms: up to twenty specs, and edits, people and restarts at random; all from a seed.

use std::collections::BTreeMap;

use super::super::lab::Seeded;
use super::super::scenario::{Human, Scenario, Step, pass, preview, tenant, workspace};

const NAMESPACES: [&str; 3] = ["alice", "bob", "carol"];
const SPECS: [&str; 8] = [
    "",
    "mounts: [{volume: data, path: /data}]",
    "ports: [{name: http, container: 80, publish: Pool}]",
    "services: {db: {image: \"db:1\", command: [sleep, \"1000000\"], volume: {path: /var/db}}}",
    "env: [{name: A, value: one}], resources: {memory: 64m}",
    "health: {test: [CMD, \"true\"], interval: 5s}",
    "deletionPolicy: Delete, mounts: [{volume: data, path: /data}]",
    "labels: {team: web}",
];

/// The scenario of a seed. Scenarios are made of texts that last, so that what is made here stays.
pub fn swarm(seed: u64) -> Scenario {
    let random = Seeded::new(seed);
    let below = |limit: usize| usize::try_from(random.next() % limit as u64).unwrap();
    let mut texts: BTreeMap<&'static str, String> = BTreeMap::new();
    for number in 0..1 + below(20) {
        let namespace = NAMESPACES[below(3)];
        let name = format!("w{number}");
        let text = if below(8) == 0 { preview(&name, "image: \"app:1\", ttl: 20h") } else { workspace(&name, SPECS[below(SPECS.len())]) };
        texts.insert(format!("{namespace}/{name}.yaml").leak(), text);
    }
    if below(4) == 0 {
        texts.insert("tenants.yaml", tenant("default", "defaults: {memory: 64m}"));
    }
    let mut steps = vec![Step::Checkout(texts.clone().into_iter().collect())];
    for _ in 0..1 + below(6) {
        let path = *texts.keys().nth(below(texts.len())).unwrap();
        let container = path.strip_suffix(".yaml").filter(|path| path.contains('/')).map(|path| &*format!("dm-ws-{}", path.replace('/', ".")).leak());
        let edits: [(&str, &str); 4] = [("1000000", "1000001"), ("1000001", "1000000"), ("app:1", "app:2"), ("{image:", "{state: Stopped, image:")];
        match (below(10), container) {
            (0..4, _) => {
                let (from, to) = edits[below(4)];
                let text = texts.get_mut(path).unwrap();
                // A second such field, or one of a service, would be an error; the way back is to take it away.
                // Nor does a preview have such a field.
                let from = if text.contains("kind: Preview") && from == "{image:" { "nothing" } else { from };
                *text = if text.contains("state: Stopped, ") { text.replace("state: Stopped, ", "") } else { text.replacen(from, to, 1) };
                steps.push(Step::Write(path, text.clone()));
            }
            (4, _) if texts.len() > 2 => {
                texts.remove(path);
                steps.push(Step::Remove(vec![path]));
            }
            (5, Some(container)) => steps.push(Step::Human(Human::Kill(container))),
            (6, Some(container)) => steps.push(Step::Human(Human::Remove(container))),
            (7, Some(container)) => steps.push(Step::Human(Human::Stop(container))),
            (8, _) => steps.push(Step::EngineRestart { in_order: below(2) == 0, seconds: 3 }),
            (9, _) => steps.extend([Step::AtOnce, Step::Crash]),
            _ => steps.push(pass(120)),
        }
    }
    // What waits for idleness or the end of a tombstone is over then.
    steps.push(pass(1200));
    Scenario::new("swarm", steps)
}
