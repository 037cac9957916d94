//! The end of an object over a small engine: its hook, and what it let stand still.

use jiff::SignedDuration;

use super::Operation;
use super::tests::{intent, model, text, uid, web};
use crate::desired::{Intent, naming};
use crate::observed::{HealthState, State, TaskKey};
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
    m.settle(&gone);
    assert!(m.states().is_empty());
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
