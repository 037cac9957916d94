//! An exchange of one container for another, as the next plan finds it: finished, undone, or waited for.

use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::model::Model;
use super::tests::{intent, model, web};
use super::workload_tests::{acts, place};
use super::{Operation, Plan};
use crate::desired::{Intent, Role, naming};
use crate::observed::{ContainerId, HealthState, Slot, State, TaskKey};
use crate::resource::{Kind, ObjectRef, Reason, Uid};

const OLD: &str = "dm-ws-alice.shop";
const NEXT: &str = "dm-ws-alice.shop_next";

fn with_restart(image: &str, restart: &str) -> Value {
    let mut spec = web(image);
    spec["restart"] = json!(restart);
    spec
}

/// An exchange of which so many operations were done: 1 makes the new one, 2 stops the old one, 3 starts the new one.
fn exchange(steps: usize, restart: &str) -> (Model, Intent) {
    let mut m = model();
    m.settle(&intent(with_restart("web:1", restart), 1));
    let want = intent(with_restart("web:2", restart), 2);
    let plan = m.plan(&want);
    m.apply(&plan, steps);
    (m, want)
}

/// The next plan that does more than to read the last lines of what goes.
fn after_the_last_lines(m: &mut Model, want: &Intent) -> Plan {
    let plan = m.plan(want);
    if !plan.nodes.iter().any(|node| matches!(node.operation, Operation::Begin(TaskKey::Tail(_), _))) {
        return plan;
    }
    m.apply(&plan, usize::MAX);
    m.finish_tasks();
    m.plan(want)
}

#[test]
fn an_exchange_that_was_interrupted_goes_on() {
    let rows: [(usize, &[&str]); 2] = [(1, &["stop dm-ws-alice.shop", "start dm-ws-alice.shop_next"]), (2, &["start dm-ws-alice.shop_next"])];
    for (steps, rest) in rows {
        let (m, want) = exchange(steps, "unless-stopped");
        assert_eq!(acts(&m.plan(&want)), rest, "after {steps}");
    }
    // Somebody started the old one again.
    let (mut m, want) = exchange(3, "unless-stopped");
    m.meddle(OLD, |c| c.state = State::Running(HealthState::None));
    assert_eq!(acts(&m.plan(&want)), [format!("stop {OLD}")]);
}

#[test]
fn a_replacement_that_the_engine_is_removing_is_looked_at_again_in_two_seconds() {
    let (mut m, want) = exchange(3, "unless-stopped");
    m.meddle(NEXT, |c| c.state = State::Removing);
    let plan = m.plan(&want);
    assert_eq!((plan.is_empty(), plan.recheck), (true, Some(m.now + SignedDuration::from_secs(2))));
}

#[test]
fn a_replacement_whose_start_is_refused_is_taken_away_and_the_old_one_started_where_it_was_stopped() {
    for (steps, was_stopped) in [(1, false), (2, true)] {
        let (mut m, want) = exchange(steps, "unless-stopped");
        m.meddle(NEXT, |c| Arc::make_mut(c.details.as_mut().unwrap()).error = "the port is taken".to_owned());
        let plan = m.plan(&want);
        let mut expected = vec![format!("remove {NEXT}")];
        expected.extend(was_stopped.then(|| format!("start {OLD}")));
        assert_eq!(acts(&plan), expected);
        let removed = place(&plan, &format!("remove {NEXT}"));
        assert_eq!(plan.nodes[removed].depends_on, [place(&plan, "record update-failed")], "it is remembered first");
        if was_stopped {
            assert_eq!(plan.nodes[place(&plan, &format!("start {OLD}"))].depends_on, [removed]);
        }
        m.apply(&plan, usize::MAX);
        assert_eq!(m.facts.update_failed.as_ref().unwrap().1, "the replacement did not start: the port is taken");
    }
}

/// Found by `tests/e2e/crash.rs` on Docker 28.5.
#[test]
fn a_replacement_whose_start_was_given_up_with_its_client_is_started_again() {
    let (mut m, want) = exchange(2, "unless-stopped");
    m.meddle(NEXT, |c| Arc::make_mut(c.details.as_mut().unwrap()).error = "Canceled: context canceled".to_owned());
    assert_eq!(acts(&m.plan(&want)), [format!("start {NEXT}")]);
}

/// That one which ended with its engine counts as no failure was found by the perturbation harness: `duplicate-takes-over`, 20.10, `engine-kill@47`.
#[test]
fn a_replacement_that_ended_has_worked_or_failed_only_where_its_program_ended_by_itself() {
    let (works, fails, again) = (
        [format!("remove {OLD}"), format!("rename {NEXT} to {OLD}")].to_vec(),
        [format!("remove {NEXT}"), format!("start {OLD}")].to_vec(),
        [format!("start {NEXT}")].to_vec(),
    );
    let rows = [
        // The engine starts these again when they end by themselves.
        ("unless-stopped", 0, false, &again),
        ("unless-stopped", 1, false, &again),
        ("unless-stopped", 137, true, &again),
        ("on-failure", 0, false, &works),
        ("on-failure", 137, false, &again),
        ("no", 0, false, &works),
        ("no", 1, false, &fails),
        ("no", 137, false, &again),
        ("no", 143, false, &again),
        ("no", 137, true, &fails),
    ];
    for (restart, code, oom_killed, expected) in rows {
        let (mut m, want) = exchange(3, restart);
        m.meddle(NEXT, |c| {
            c.state = State::Exited { code };
            Arc::make_mut(c.details.as_mut().unwrap()).oom_killed = oom_killed;
        });
        let plan = after_the_last_lines(&mut m, &want);
        assert_eq!(acts(&plan), *expected, "{restart} {code} {oom_killed}");
        m.apply(&plan, usize::MAX);
        assert_eq!(m.facts.update_failed.is_some(), *expected == fails, "{restart} {code} {oom_killed}");
    }
}

#[test]
fn a_replacement_that_ended_and_cannot_start_again_is_made_anew_or_taken_away() {
    let ended = |error: fn(&str) -> String| {
        let (mut m, want) = exchange(3, "unless-stopped");
        m.meddle(NEXT, |c| {
            c.state = State::Exited { code: 137 };
            let error = error(&c.id.0);
            Arc::make_mut(c.details.as_mut().unwrap()).error = error;
        });
        acts(&after_the_last_lines(&mut m, &want))
    };
    assert_eq!(ended(|id| format!("task {id}: already exists")), [format!("remove {NEXT}")]);
    assert_eq!(ended(|_| "the port is taken".to_owned()), [format!("remove {NEXT}"), format!("start {OLD}")]);
}

#[test]
fn a_replacement_that_a_copy_keeps_still_is_thawed_a_minute_after_that_was_prepared() {
    let (mut m, want) = exchange(3, "unless-stopped");
    m.meddle(NEXT, |c| c.state = State::Paused);
    let made = m.now;
    let mut helper = m.world.container_named(OLD).unwrap().clone();
    (helper.id, helper.name, helper.created) = (ContainerId("helper".to_owned()), "dm-pv-alice.demo_delta".to_owned(), made);
    let owner = helper.owner.as_mut().unwrap();
    helper.labels.insert(naming::SOURCE.to_owned(), owner.uid.0.clone());
    (owner.object, owner.uid) = (ObjectRef::new(Kind::Preview, "alice", "demo"), Uid("01936f2e-7b7c-7000-8000-000000000002".to_owned()));
    (owner.role, owner.slot) = (Role::Helper, Slot::Delta);
    m.world.insert(helper);
    m.now = made + SignedDuration::from_secs(59);
    let plan = m.plan(&want);
    assert_eq!((plan.is_empty(), plan.recheck, plan.verdict.reason), (true, Some(made + SignedDuration::from_secs(60)), Reason::Copying));
    m.now = made + SignedDuration::from_secs(60);
    assert_eq!(acts(&m.plan(&want)), [format!("unpause {NEXT}")]);
}

#[test]
fn what_the_new_one_was_made_from_is_remembered_unless_it_is_outdated_by_now() {
    let (mut m, want) = exchange(3, "unless-stopped");
    let id = m.world.container_named(OLD).unwrap().id.clone();
    m.world.remove(&id);
    let plan = m.plan(&want);
    assert!(plan.nodes.iter().any(|node| node.operation.target() == "applied"), "{plan:?}");
    let outdated = m.plan(&intent(with_restart("web:1", "unless-stopped"), 3));
    assert_eq!(acts(&outdated), [format!("rename {NEXT} to {OLD}")]);
    assert!(!outdated.nodes.iter().any(|node| node.operation.target() == "applied"), "{outdated:?}");
    m.settle(&want);
    assert_eq!(m.facts.applied[OLD]["image"], "web:2");
}

#[test]
fn main_is_exchanged_after_its_hook_and_a_service_without_one() {
    let spec = |main: &str, db: &str| json!({"image": main, "hooks": {"preStop": ["save"]}, "services": {"db": {"image": db}}});
    let hooked = |plan: &Plan| plan.nodes.iter().filter(|node| matches!(node.operation, Operation::Begin(TaskKey::Hook(..), _))).count();
    let mut m = model();
    m.world.images.insert("db:2".to_owned(), "sha256:db2".to_owned());
    m.settle(&intent(spec("web:1", "db:1"), 1));
    let plan = m.plan(&intent(spec("web:1", "db:2"), 2));
    assert_eq!((acts(&plan)[0].as_str(), hooked(&plan)), ("create dm-ws-alice.shop.db_next", 0));
    let want = intent(spec("web:2", "db:1"), 2);
    let plan = m.plan(&want);
    assert_eq!((acts(&plan).len(), hooked(&plan)), (1, 1), "{plan:?}");
    m.apply(&plan, usize::MAX);
    assert!(acts(&m.plan(&want)).is_empty(), "it runs");
    m.finish_tasks();
    assert_eq!(acts(&m.plan(&want)), [format!("create {NEXT}"), format!("stop {OLD}"), format!("start {NEXT}")]);
}
