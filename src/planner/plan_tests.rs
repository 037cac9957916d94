//! What a plan says of itself: what it found, when it is due again, and whether anything is under way.

use jiff::SignedDuration;
use serde_json::json;

use super::builder::Builder;
use super::tests::{intent, model, web};
use super::{Action, Cause, Operation, Plan, PlanNode, Verdict, WaitKey, Waiting};
use crate::desired::Intent;
use crate::observed::{HealthState, State};
use crate::resource::status::{Next, NextAction, Phase};
use crate::resource::{ConditionType, Reason, Truth};

fn verdict() -> Verdict {
    Verdict::new(Phase::Running, Truth::True, Reason::Running, "it runs as declared")
}

#[test]
fn conditions_of_one_type_become_one_that_says_each_thing_once() {
    let (m, want) = (model(), intent(web("web:1"), 1));
    let Intent::Present(desired) = &want else { unreachable!() };
    let input = m.input(&want);
    let mut b = Builder::new(&input, desired);
    for (type_, message) in [
        (ConditionType::VolumeConflict, "the second"),
        (ConditionType::NameConflict, "the name"),
        (ConditionType::VolumeConflict, "a first"),
        (ConditionType::VolumeConflict, "the second"),
        (ConditionType::NameConflict, "the name"),
    ] {
        b.report(type_, message);
    }
    let mut found: Vec<_> = b.finish(verdict()).verdict.conditions.into_iter().map(|c| (c.type_, c.message)).collect();
    found.sort();
    let mut expected = vec![(ConditionType::NameConflict, "the name".to_owned()), (ConditionType::VolumeConflict, "a first; the second".to_owned())];
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn a_plan_is_due_at_the_first_instant_that_it_names() {
    let now = model().now;
    let at = |seconds: Option<i64>| seconds.map(|seconds| now + SignedDuration::from_secs(seconds));
    for (waits, recheck, next, due) in [
        (vec![], None, None, None),
        (vec![None], None, None, None),
        (vec![Some(5)], None, None, Some(5)),
        (vec![None, Some(5), Some(3)], Some(4), Some(6), Some(3)),
        (vec![Some(5)], Some(4), Some(6), Some(4)),
        (vec![Some(8)], Some(7), Some(6), Some(6)),
    ] {
        let mut plan = Plan::idle(verdict());
        plan.waiting = waits.into_iter().map(|until| Waiting { on: WaitKey::Time, until: at(until), reason: "time".to_owned() }).collect();
        plan.recheck = at(recheck);
        plan.next = at(next).map(|at| Next { action: NextAction::Stop, at, why: "no activity".to_owned() });
        assert_eq!(plan.due(), at(due));
    }
}

#[test]
fn a_plan_is_settled_only_where_it_neither_does_nor_waits_for_anything() {
    let node = PlanNode { operation: Operation::ReleaseLeases, action: Action::None, cause: Cause::new("users", "some", "none"), depends_on: Vec::new() };
    let waiting = Waiting { on: WaitKey::Turn, until: None, reason: "its turn".to_owned() };
    for (nodes, waits, settled) in [(false, false, true), (true, false, false), (false, true, false), (true, true, false)] {
        let mut plan = Plan::idle(verdict());
        plan.nodes.extend(nodes.then(|| node.clone()));
        plan.waiting.extend(waits.then(|| waiting.clone()));
        assert_eq!((plan.is_empty(), plan.is_settled()), (!nodes, settled));
    }
}

#[test]
fn the_operator_tests_health_itself_only_where_the_engine_has_no_start_interval() {
    let mut spec = web("web:1");
    spec["health"] = json!({"test": ["CMD", "true"]});
    for (api, probes) in [((1, 43), true), ((1, 44), false), ((1, 51), false), ((2, 0), false)] {
        let (mut m, want) = (model(), intent(spec.clone(), 1));
        m.settle(&want);
        m.capabilities.api = api;
        m.meddle("dm-ws-alice.shop", |c| c.state = State::Running(HealthState::Starting));
        let plan = m.plan(&want);
        assert_eq!(plan.nodes.iter().any(|node| node.operation.name() == "probe"), probes, "{api:?}");
        assert!(plan.waiting.iter().any(|waiting| matches!(waiting.on, WaitKey::Container(_))), "{api:?}");
    }
}
