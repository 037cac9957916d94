//! When a run begins, and so when it ends by itself.

use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::model::Model;
use super::run::Clock;
use super::tests::{intent, model};
use super::workload_tests::acts;
use crate::observed::{HealthState, State, TaskKey, TaskResult, TaskState};
use crate::resource::ConditionType;
use crate::resource::status::NextAction;
use crate::state::{Fact, Facts, StopReason};

fn limited(limit: &Value) -> Value {
    let mut spec = json!({"image": "far:1"});
    spec.as_object_mut().unwrap().extend(limit.as_object().unwrap().clone());
    spec
}

/// Two hours pass while the image is fetched.
fn after_a_long_pull(limit: &Value) -> (Model, crate::desired::Intent) {
    let (mut m, want) = (model(), intent(limited(limit), 1));
    let plan = m.plan(&want);
    m.apply(&plan, usize::MAX);
    m.now += SignedDuration::from_hours(2);
    let waiting = m.plan(&want);
    assert!(waiting.is_empty() && waiting.next.is_none(), "nothing is due before it ever ran: {waiting:?}");
    m.finish_tasks();
    (m, want)
}

#[test]
fn a_lifetime_and_idleness_begin_with_the_first_start() {
    for (limit, why) in [(json!({"idle": {"timeout": "1h"}}), StopReason::Idle), (json!({"maxLifetime": "1h"}), StopReason::Lifetime)] {
        let (mut m, want) = after_a_long_pull(&limit);
        let started = m.now;
        let plan = m.settle_waiting(&want);
        assert_eq!(m.states(), ["dm-ws-alice.shop running"], "{limit}");
        let next = plan.next.unwrap();
        assert_eq!((next.action, next.at), (NextAction::Stop, started + SignedDuration::from_hours(1)), "{limit}");
        m.now = next.at + SignedDuration::from_secs(1);
        m.settle_waiting(&want);
        assert_eq!((m.states(), m.facts.stopped.as_ref().map(|stop| stop.why)), (vec!["dm-ws-alice.shop exited".to_owned()], Some(why)));
    }
}

#[test]
fn a_later_start_of_the_same_run_begins_nothing_anew() {
    let (mut m, want) = after_a_long_pull(&json!({"maxLifetime": "1h"}));
    let began = m.now;
    m.settle(&want);
    m.now += SignedDuration::from_mins(30);
    let now = m.now;
    m.meddle("dm-ws-alice.shop", |c| {
        c.state = State::Exited { code: 1 };
        Arc::make_mut(c.details.as_mut().unwrap()).finished = Some(now);
    });
    let plan = m.settle(&want);
    assert_eq!(m.states(), ["dm-ws-alice.shop running"]);
    assert_eq!(plan.next.unwrap().at, began + SignedDuration::from_hours(1));
    // A person's start does.
    let asked = m.now;
    m.record(Fact::StartAsked(asked));
    assert_eq!(m.settle(&want).next.unwrap().at, asked + SignedDuration::from_hours(1));
}

#[test]
fn a_start_that_has_to_fetch_its_image_is_not_over_before_it_ran() {
    let (mut m, want) = after_a_long_pull(&json!({"idle": {"timeout": "1h"}}));
    m.settle_waiting(&want);
    m.now += SignedDuration::from_hours(2);
    m.settle_waiting(&want);
    assert_eq!(m.states(), ["dm-ws-alice.shop exited"]);
    m.world.images.remove("far:1");
    m.world.tasks.clear();
    let gone = m.world.container_named("dm-ws-alice.shop").unwrap().id.clone();
    m.world.remove(&gone);
    m.record(Fact::StartAsked(m.now));
    let plan = m.plan(&want);
    m.apply(&plan, usize::MAX);
    m.now += SignedDuration::from_hours(3);
    assert!(m.plan(&want).is_empty(), "it is still being fetched");
    let at = m.now;
    m.world.tasks.insert(TaskKey::Pull("far:1".to_owned()), TaskState::Done { at, result: TaskResult::Done });
    m.world.images.insert("far:1".to_owned(), "sha256:far".to_owned());
    m.settle_waiting(&want);
    assert_eq!(m.states(), ["dm-ws-alice.shop running"]);
}

#[test]
fn what_was_pulled_since_the_images_were_listed_is_waited_for() {
    let (mut m, want) = (model(), intent(json!({"image": "web:1", "pullPolicy": "Always"}), 1));
    m.settle(&want);
    let asked = m.now + SignedDuration::from_secs(60);
    m.now = asked;
    m.record(Fact::RestartAsked(asked));
    let key = TaskKey::Pull("web:1".to_owned());
    let done = std::collections::BTreeMap::from([(key.clone(), TaskState::Done { at: asked, result: TaskResult::Done })]);
    // The listing is older than the pull: a restart now would take the old image and be over.
    m.world.images_listed = Some(asked - SignedDuration::from_millis(1));
    m.world.take_tasks(done.clone(), asked);
    let plan = m.plan(&want);
    assert!(plan.nodes.iter().all(|node| !node.operation.is_mutating()) && !plan.waiting.is_empty(), "{plan:?}");
    m.world.images.insert("web:1".to_owned(), "sha256:newer".to_owned());
    m.world.images_listed = Some(asked);
    m.world.take_tasks(done.clone(), asked);
    m.settle(&want);
    assert_eq!(m.world.container_named("dm-ws-alice.shop").unwrap().image_id, "sha256:newer");
    // A clock that was set back since makes nobody wait for it.
    m.world.images_listed = Some(asked - SignedDuration::from_hours(24));
    m.world.take_tasks(done, asked - SignedDuration::from_hours(23));
    assert!(matches!(m.world.tasks[&key], TaskState::Done { .. }));
}

#[test]
fn a_run_begins_with_the_start_that_was_wished_for() {
    let (mut m, want) = (model(), intent(json!({"image": "web:1"}), 1));
    m.settle(&want);
    let wish = m.now;
    let facts = Facts { run_since: Some(wish), ..Facts::default() };
    let main = |state: State, started: i64| {
        let mut container = m.world.container_named("dm-ws-alice.shop").unwrap().clone();
        container.state = state;
        Arc::make_mut(container.details.as_mut().unwrap()).started = Some(wish + SignedDuration::from_secs(started));
        container
    };
    let (running, ended) = (State::Running(HealthState::None), State::Exited { code: 1 });
    // How it is, when it was started after the wish, and when its run began.
    let rows = [
        (ended, 5, Some(5)),
        (ended, 0, Some(0)),
        (ended, -1, None),
        (State::Created, -1, None),
        (running, 5, Some(5)),
        (running, -1, Some(0)),
        (State::Paused, -1, Some(0)),
        (State::Restarting, -1, Some(0)),
    ];
    for (state, started, begun) in rows {
        let expected = begun.map(|begun| wish + SignedDuration::from_secs(begun));
        let clock = Clock::new(&facts, Some(&main(state, started)));
        assert_eq!((clock.begun, clock.activity), (expected, expected), "{state:?}, started {started} s after the wish");
    }
    let early = Clock::new(&Facts::default(), Some(&main(ended, -1)));
    assert_eq!(early.begun, Some(wish - SignedDuration::from_secs(1)), "without a wish, with its start");
}

#[test]
fn the_begin_of_a_run_is_remembered_where_it_was_wished_for_and_nothing_of_it_is_paused() {
    let (mut m, want) = (model(), intent(json!({"image": "web:1", "services": {"db": {"image": "db:1"}}}), 1));
    m.settle(&want);
    let (wish, begun) = (m.facts.run_since, m.facts.run_begun);
    for (run_since, run_begun, is_paused, is_remembered) in
        [(wish, None, false, true), (wish, None, true, false), (wish, begun, false, false), (None, None, false, false), (None, None, true, false)]
    {
        (m.facts.run_since, m.facts.run_begun) = (run_since, run_begun);
        m.meddle("dm-ws-alice.shop.db", |c| c.state = if is_paused { State::Paused } else { State::Running(HealthState::None) });
        let plan = m.plan(&want);
        let remembered = plan.nodes.iter().any(|node| matches!(node.operation, super::Operation::Record(Fact::RunBegun(_))));
        assert_eq!(remembered, is_remembered, "{run_since:?}, {run_begun:?}, paused: {is_paused}");
    }
}

#[test]
fn after_a_lost_state_what_a_policy_may_have_stopped_is_left() {
    let rows = [
        (json!({}), false),
        (json!({"idle": {"timeout": "1h"}}), true),
        (json!({"maxLifetime": "1h"}), true),
        (json!({"runningHours": {"days": "Mon-Sun", "from": "00:00", "to": "23:00"}}), true),
    ];
    for (limit, left) in rows {
        let mut spec = limited(&limit);
        spec["image"] = json!("web:1");
        let (mut m, want) = (model(), intent(spec, 1));
        m.settle(&want);
        m.facts = Facts::default();
        m.record(Fact::StateLost(true));
        m.meddle("dm-ws-alice.shop", |c| c.state = State::Exited { code: 143 });
        let plan = m.plan(&want);
        assert_eq!((acts(&plan).is_empty(), plan.verdict.conditions.iter().any(|c| c.type_ == ConditionType::StateLost)), (left, left), "{limit}");
    }
}

#[test]
fn a_stop_that_was_put_off_comes_at_the_very_instant() {
    let (mut m, want) = (model(), intent(json!({"image": "web:1", "maxLifetime": "1h"}), 1));
    m.settle(&want);
    let until = m.facts.run_begun.unwrap() + SignedDuration::from_mins(90);
    m.record(Fact::ExtendedUntil(until));
    m.now = until - SignedDuration::from_secs(1);
    let plan = m.plan(&want);
    assert_eq!((acts(&plan).len(), plan.next.map(|next| next.at)), (0, Some(until)));
    for after in [0, 1] {
        m.now = until + SignedDuration::from_secs(after);
        assert_eq!(acts(&m.plan(&want)), ["stop dm-ws-alice.shop"], "after {after} s");
    }
}
