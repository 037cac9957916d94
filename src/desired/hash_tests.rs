//! Tests of the hash: what it covers, and that it never changes by itself.

use super::*;
use crate::desired::{HealthWant, ImageWant, Limits, Role};
use crate::resource::quantity::{Bytes, Cpu, Duration};
use crate::resource::workspace::RestartPolicy;
use proptest::prelude::*;

/// A container as version 1 hashed it.
#[derive(serde::Deserialize)]
struct Fixture {
    about: String,
    hash: String,
    container: ContainerSpec,
}

fn fixtures() -> Vec<Fixture> {
    serde_json::from_str(include_str!("fixtures/hash-v1.json")).unwrap()
}

#[test]
fn hashes_of_version_1_never_change() {
    let fixtures = fixtures();
    assert_eq!(fixtures.len(), 4);
    for fixture in fixtures {
        assert_eq!(hash(&fixture.container), fixture.hash, "{}", fixture.about);
    }
}

/// The fixture with everything in it.
fn full() -> ContainerSpec {
    fixtures().into_iter().find(|fixture| fixture.about == "everything").map(|fixture| fixture.container).unwrap()
}

#[test]
fn every_field_that_is_fixed_at_creation_counts() {
    type Change = fn(&mut ContainerSpec);
    let changes: &[(&str, Change)] = &[
        ("image", |c| c.image = ImageWant::Helper),
        ("entrypoint", |c| c.entrypoint = None),
        ("empty entrypoint", |c| c.entrypoint = Some(vec![])),
        ("command", |c| c.command = Some(vec!["other".to_owned()])),
        ("command order", |c| c.command.as_mut().unwrap().reverse()),
        ("env value", |c| *c.env.get_mut("NODE_ENV").unwrap() = "test".to_owned()),
        ("env gone", |c| c.env.clear()),
        ("empty env", |c| c.env.insert("NEW".to_owned(), String::new()).map_or((), drop)),
        ("working directory", |c| c.working_dir = None),
        ("user", |c| c.user = Some("0".to_owned())),
        ("hostname", |c| c.hostname.push('x')),
        ("the user's label", |c| c.labels.insert("team".to_owned(), "red".to_owned()).map_or((), drop)),
        ("lease", |c| c.ports[0].host += 1),
        ("publish address", |c| c.ports[0].ip = "0.0.0.0".to_owned()),
        ("container port", |c| c.ports[0].container += 1),
        ("mount source", |c| c.mounts[0].source = MountSource::Host("/srv".to_owned())),
        ("mount path", |c| c.mounts[0].path.push('x')),
        ("mount mode", |c| c.mounts[0].read_only ^= true),
        ("tmpfs size", |c| c.mounts[2].source = MountSource::Tmpfs { size: Bytes(1), owner: Some((1000, 1000)) }),
        ("tmpfs owner", |c| c.mounts[2].source = MountSource::Tmpfs { size: Bytes(64 << 20), owner: None }),
        ("network", |c| c.networks[0].network.push('x')),
        ("alias", |c| c.networks[0].aliases.push("web".to_owned())),
        ("health", |c| c.health = None),
        ("health test", |c| c.health.as_mut().unwrap().test = vec!["NONE".to_owned()]),
        ("health interval", |c| c.health.as_mut().unwrap().interval = Duration::from_secs(99)),
        ("start interval", |c| c.health.as_mut().unwrap().start_interval = Duration::from_secs(99)),
        ("init", |c| c.init = false),
        ("stop signal", |c| c.stop_signal = None),
        ("grace", |c| c.stop_grace = Duration::from_secs(99)),
        ("capabilities", |c| c.security.cap_drop = vec!["ALL".to_owned()]),
        ("read-only root", |c| c.security.read_only_root = false),
        ("disk", |c| c.storage_size = None),
    ];
    let mut seen = std::collections::BTreeSet::from([hash(&full())]);
    for (name, change) in changes {
        let mut changed = full();
        change(&mut changed);
        assert!(seen.insert(hash(&changed)), "{name} does not count, or counts like another");
    }
}

#[test]
fn what_changes_in_place_or_only_says_who_does_not_count() {
    let mut changed = full();
    changed.limits = Limits { memory: Some(Bytes(1)), cpu: Some(Cpu(1)), pids: 1, restart: RestartPolicy::No };
    changed.name.push_str("_next");
    changed.role = Role::Service;
    changed.service = Some("db".to_owned());
    changed.depends_on.clear();
    changed.hash = "v1:other".to_owned();
    for label in ["dockmaster.generation", "dockmaster.created", "dockmaster.uid", "dockmaster.expires", "dockmaster.of-a-later-version"] {
        changed.labels.insert(label.to_owned(), "other".to_owned());
    }
    assert_eq!(hash(&changed), hash(&full()));
}

#[test]
fn the_order_of_lists_with_a_key_does_not_count() {
    let mut changed = full();
    changed.ports.reverse();
    changed.mounts.reverse();
    changed.networks.reverse();
    changed.networks.iter_mut().for_each(|attachment| attachment.aliases.reverse());
    assert_eq!(hash(&changed), hash(&full()));
}

#[test]
fn an_empty_command_is_not_no_command() {
    let health = |test: &[&str]| HealthWant { test: test.iter().map(|w| (*w).to_owned()).collect(), ..full().health.unwrap() };
    let (mut none, mut empty) = (full(), full());
    (none.command, empty.command) = (None, Some(vec![]));
    assert_ne!(hash(&none), hash(&empty));
    (none.health, empty.health) = (None, Some(health(&[])));
    (none.command, empty.command) = (None, None);
    assert_ne!(hash(&none), hash(&empty));
}

proptest! {
    #[test]
    fn the_order_of_maps_does_not_count(pairs in proptest::collection::vec(("[a-z]{1,8}", ".{0,8}"), 0..12).prop_shuffle()) {
        let object = |pairs: &[(String, String)]| {
            let mut last = BTreeMap::new();
            pairs.iter().for_each(|(key, value)| drop(last.insert(key.clone(), value.clone())));
            // Keeps the order of insertion, unlike the map above.
            let fields: serde_json::Map<String, Value> = pairs.iter().map(|(key, _)| (key.clone(), Value::from(last[key].clone()))).collect();
            sorted(json!({"labels": fields}))
        };
        let mut reversed = pairs.clone();
        let last: BTreeMap<String, String> = pairs.iter().cloned().collect();
        reversed.reverse();
        reversed.iter_mut().for_each(|(key, value)| value.clone_from(&last[key]));
        prop_assert_eq!(object(&pairs).to_string(), object(&reversed).to_string());
    }

    #[test]
    fn a_hash_has_its_version_and_is_hexadecimal(env in proptest::collection::btree_map(".*", ".*", 0..4)) {
        let text = hash(&ContainerSpec { env, ..full() });
        prop_assert!(text.strip_prefix("v1:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit())));
    }
}
