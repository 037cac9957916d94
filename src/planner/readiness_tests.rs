//! When a container is believed to work.

use jiff::SignedDuration;
use serde_json::json;

use super::readiness::command;
use super::tests::{intent, model, web};
use super::{Operation, Plan, Task};
use crate::observed::{HealthState, State, TaskKey, TaskResult, TaskState};
use crate::resource::{Duration, Reason};

const SHOP: &str = "dm-ws-alice.shop";

#[test]
fn a_health_test_is_run_as_the_engine_would_run_it() {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let rows: [(&[&str], Option<&[&str]>); 6] = [
        (&["CMD", "curl", "-f", "localhost"], Some(&["curl", "-f", "localhost"])),
        (&["CMD-SHELL", "curl -f localhost"], Some(&["/bin/sh", "-c", "curl -f localhost"])),
        (&["CMD-SHELL"], None),
        (&["NONE"], None),
        (&["curl"], None),
        (&[], None),
    ];
    for (test, expected) in rows {
        assert_eq!(command(&words(test)), expected.map(words), "{test:?}");
    }
}

fn probe(plan: &Plan) -> Option<&Task> {
    plan.nodes.iter().find_map(|node| if let Operation::Begin(TaskKey::Probe(_), task) = &node.operation { Some(task) } else { None })
}

#[test]
fn what_the_engine_does_not_test_soon_enough_the_operator_tests_at_the_start_interval() {
    let mut spec = web("web:1");
    spec["health"] = json!({"test": ["CMD-SHELL", "ready"], "startInterval": "3s", "timeout": "7s"});
    let (mut m, want) = (model(), intent(spec, 1));
    m.settle(&want);
    m.meddle(SHOP, |c| c.state = State::Running(HealthState::Starting));
    let plan = m.plan(&want);
    assert!(plan.is_empty() && plan.verdict.reason == Reason::Starting, "this one has a start interval of its own");
    m.capabilities.api = (1, 43);
    let argv = ["/bin/sh", "-c", "ready"].map(str::to_owned).to_vec();
    assert_eq!(probe(&m.plan(&want)), Some(&Task::Exec { argv, limit: Duration::from_secs(7) }));
    let key = TaskKey::Probe(m.world.container_named(SHOP).unwrap().id.clone());
    let at = m.now;
    let again = at + SignedDuration::from_secs(3);
    let unready = TaskState::Done { at, result: TaskResult::Exit { code: 1, output: String::new() } };
    for outcome in [unready, TaskState::Failed { at, attempts: 1, error: "no such program".to_owned() }] {
        m.world.tasks.insert(key.clone(), outcome);
        m.now = again - SignedDuration::from_millis(1);
        let plan = m.plan(&want);
        assert_eq!((probe(&plan), plan.recheck, plan.verdict.reason), (None, Some(again), Reason::Starting));
        m.now = again;
        assert!(probe(&m.plan(&want)).is_some());
    }
}

#[test]
fn a_replacement_has_to_run_for_two_seconds_or_to_pass_its_check() {
    // Its health, how many milliseconds it has run, and whether it is believed to work.
    for (health, millis, believed) in [
        (HealthState::None, 0, false),
        (HealthState::None, 1999, false),
        (HealthState::None, 2000, true),
        (HealthState::Healthy, 0, true),
        (HealthState::Starting, 5000, false),
    ] {
        let mut m = model();
        m.settle(&intent(web("web:1"), 1));
        let want = intent(web("web:2"), 2);
        let plan = m.plan(&want);
        m.apply(&plan, usize::MAX);
        let started = m.now;
        m.meddle("dm-ws-alice.shop_next", |c| c.state = State::Running(health));
        m.now += SignedDuration::from_millis(millis);
        let plan = m.plan(&want);
        assert_eq!((plan.is_empty(), plan.verdict.reason == Reason::Starting), (!believed, !believed), "{health:?} after {millis} ms: {plan:?}");
        if health == HealthState::None && !believed {
            assert_eq!(plan.waiting[0].until, Some(started + SignedDuration::from_secs(2)));
        }
    }
}
