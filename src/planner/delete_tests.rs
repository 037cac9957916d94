//! The end of an object over a small engine: its hook, and what it let stand still.

use jiff::SignedDuration;
use serde_json::json;

use super::Operation;
use super::tests::{intent, model, text, uid, web};
use crate::desired::{Intent, naming};
use crate::observed::{HealthState, State, TaskKey, TaskState};
use crate::resource::{ObjectRef, Uid};
use crate::state::{Consent, Farewell, Tombstone};

#[test]
fn a_deletion_runs_the_hook_before_it_stops_anything() {
    let (mut m, want) = (model(), intent(web("web:1"), 1));
    m.settle(&want);
    let farewell = Farewell { grace: crate::resource::Duration::from_secs(3), pre_stop: Some(vec!["save".to_owned()]) };
    let gone =
        Intent::Absent(Tombstone { uid: uid(), at: m.now, until: m.now + SignedDuration::from_hours(168), consent: Consent::None, purge: false, farewell });
    let plan = m.plan(&gone);
    assert!(matches!(plan.nodes.as_slice(), [only] if matches!(only.operation, Operation::Begin(TaskKey::Hook(..), _))), "{}", text(&m, &plan));
    m.apply(&plan, usize::MAX);
    assert!(!m.plan(&gone).waiting.is_empty() && m.plan(&gone).is_empty(), "it waits for the hook");
    m.finish_tasks();
    // What was found out of what goes, and is of no use any more.
    let (id, at) = (m.world.container_named("dm-ws-alice.shop").unwrap().id.clone(), m.now);
    for key in [TaskKey::Sample(id.clone()), TaskKey::Tail(id)] {
        m.world.tasks.insert(key, TaskState::Failed { at, attempts: 1, error: "it is gone".to_owned() });
    }
    m.settle(&gone);
    assert!(m.states().is_empty());
    assert!(!m.world.tasks.keys().any(|key| matches!(key, TaskKey::Sample(_) | TaskKey::Tail(_))), "{:?}", m.world.tasks);
}

/// After every number of operations the operator is gone: the next one ends the deletion, and gives back what is still held.
#[test]
fn a_deletion_that_is_interrupted_at_any_step_gives_its_leases_back() {
    let start = || {
        let mut m = model();
        m.settle(&intent(web("web:1"), 1));
        let farewell = Farewell { pre_stop: Some(vec!["save".to_owned()]), ..Farewell::default() };
        let until = m.now + SignedDuration::from_hours(168);
        let stone = Tombstone { uid: uid(), at: m.now, until, consent: Consent::None, purge: false, farewell };
        (m, Intent::Absent(stone))
    };
    for rounds in 0..5 {
        for crash in 0..8 {
            let (mut m, gone) = start();
            for round in 0..=rounds {
                let plan = m.plan(&gone);
                m.apply(&plan, if round == rounds { crash } else { usize::MAX });
                m.finish_tasks();
            }
            m.world.tasks.clear();
            m.settle(&gone);
            assert!(m.states().is_empty(), "{:?}", m.log);
            let (last, released) = (|what: &str| m.log.iter().rposition(|line| line.starts_with(what)), "release-leases");
            assert!(last(released) > last("remove "), "round {rounds}, after {crash}: {:?}", m.log);
            assert!(m.plan(&gone).is_empty(), "and then nothing is left to do");
        }
    }
}

#[test]
fn a_preview_that_is_deleted_while_it_keeps_its_source_still_thaws_it() {
    let (mut m, want) = (model(), intent(web("web:1"), 1));
    m.settle(&want);
    let demo = ObjectRef::new(crate::resource::Kind::Preview, "alice", "demo");
    let of_demo = Uid("01936f2e-7b7c-7000-8000-000000000002".to_owned());
    let mut helper = m.world.of(&m.object).next().unwrap().clone();
    helper.id = crate::observed::ContainerId("helper".to_owned());
    helper.name = "dm-pv-alice.demo_delta".to_owned();
    helper.labels.insert(naming::SOURCE.to_owned(), uid().0);
    let owner = helper.owner.as_mut().unwrap();
    (owner.object, owner.uid, owner.role, owner.slot) = (demo.clone(), of_demo.clone(), crate::desired::Role::Helper, crate::observed::Slot::Delta);
    m.world.insert(helper);
    m.object = demo;
    let farewell = Farewell::default();
    let gone = Intent::Absent(Tombstone { uid: of_demo, at: m.now, until: m.now, consent: Consent::None, purge: false, farewell });
    // Before the pause was seen, and after.
    for state in [State::Running(HealthState::None), State::Paused] {
        m.meddle("dm-ws-alice.shop", |c| c.state = state);
        assert!(text(&m, &m.plan(&gone)).contains("unpause"), "{}", text(&m, &m.plan(&gone)));
    }
}

/// A deletion of the workspace of [`uid`] whose data goes with it at once.
fn purged(m: &super::model::Model) -> Intent {
    Intent::Absent(Tombstone { uid: uid(), at: m.now, until: m.now, consent: Consent::DeleteInSpec, purge: true, farewell: Farewell::default() })
}

#[test]
fn a_workspace_goes_before_its_services_and_what_stands_still_is_thawed_first() {
    let mut m = model();
    m.settle(&intent(json!({"image": "web:1", "services": {"db": {"image": "db:1"}}}), 1));
    let gone = purged(&m);
    let plan = m.plan(&gone);
    m.apply(&plan, usize::MAX);
    m.finish_tasks();
    let order = |m: &super::model::Model| text(m, &m.plan(&gone)).replace(" (document: declared -> gone)", "");
    let network = m.world.networks.named("dm-ws-alice.shop").next().is_some();
    assert!(network);
    assert_eq!(
        order(&m),
        "workspace/shop -n alice\n\
        \x20 1 delete  stop dm-ws-alice.shop\n\
        \x20 2 delete  remove dm-ws-alice.shop after 1\n\
        \x20 3 delete  stop dm-ws-alice.shop.db after 1\n\
        \x20 4 delete  remove dm-ws-alice.shop.db after 3\n\
        \x20 5 delete  remove-network dm-ws-alice.shop after 2, 4\n"
    );
    for (main, db) in [(State::Paused, State::Exited { code: 0 }), (State::Exited { code: 0 }, State::Paused)] {
        m.meddle("dm-ws-alice.shop", |c| c.state = main);
        m.meddle("dm-ws-alice.shop.db", |c| c.state = db);
        let (paused, other) = if main == State::Paused { ("dm-ws-alice.shop", "dm-ws-alice.shop.db") } else { ("dm-ws-alice.shop.db", "dm-ws-alice.shop") };
        let text = order(&m);
        assert!(text.contains(&format!("unpause {paused}\n")) && text.contains(&format!("stop {paused} after ")), "{text}");
        assert!(!text.contains(&format!("unpause {other}\n")) && !text.contains(&format!("stop {other}\n")), "{text}");
    }
}

#[test]
fn what_another_life_of_the_object_left_is_not_touched() {
    let another_life = Uid("01936f2e-7b7c-7000-8000-000000000009".to_owned());
    let mut spec = web("web:1");
    spec["services"] = json!({"db": {"image": "db:1"}});
    let mut m = model();
    m.settle(&intent(spec, 1));
    let mut network = m.world.networks.named("dm-ws-alice.shop").next().unwrap().clone();
    network.id = "earlier".to_owned();
    network.owner.as_mut().unwrap().uid = Some(another_life.clone());
    m.world.networks.insert(network.id.clone(), network);
    let mut volume = m.world.volumes["dm-vol-alice.shop.data"].clone();
    volume.name = "dm-vol-alice.shop.earlier".to_owned();
    volume.owner.as_mut().unwrap().uid = Some(another_life);
    m.world.volumes.insert(volume.name.clone(), volume);
    let gone = purged(&m);
    for _ in 0..8 {
        let plan = m.plan(&gone);
        m.apply(&plan, usize::MAX);
        m.finish_tasks();
    }
    assert!(m.log.iter().any(|line| line == "release facts"), "{:?}", m.log);
    let left = |names: Vec<&String>| names.into_iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    assert_eq!(left(m.world.volumes.keys().collect()), "dm-vol-alice.shop.earlier");
    assert!(m.world.networks.contains_key("earlier") && m.world.networks.named("dm-ws-alice.shop").count() == 1);
}
