//! A soft disk limit over a small engine: when it is measured, what, and what is told.

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::model::Model;
use super::tests::{intent, model, web};
use super::{Operation, Plan, Task};
use crate::desired::Intent;
use crate::observed::{TaskKey, TaskResult, TaskState};
use crate::resource::ConditionType;

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const MOMENT: SignedDuration = SignedDuration::from_millis(1);

fn limited() -> Value {
    let mut spec = web("web:1");
    spec["resources"] = json!({"disk": "512m"});
    spec
}

/// One that runs, and was never measured.
fn unmeasured(spec: Value) -> (Model, Intent, TaskKey) {
    let (mut m, want) = (model(), intent(spec, 1));
    m.settle(&want);
    let key = TaskKey::Disk(m.world.container_named("dm-ws-alice.shop").unwrap().id.clone());
    m.facts.disk = None;
    m.world.tasks.remove(&key);
    (m, want, key)
}

/// The volumes that the plan measures, if it measures.
fn measured(plan: &Plan) -> Option<Vec<String>> {
    plan.nodes.iter().find_map(|node| if let Operation::Begin(_, Task::Disk { volumes }) = &node.operation { Some(volumes.clone()) } else { None })
}

#[test]
fn a_disk_that_is_full_to_the_byte_is_not_over_its_limit() {
    let (mut m, want, _) = unmeasured(limited());
    for (used, over) in [((512 << 20) - 1, false), (512 << 20, false), ((512 << 20) + 1, true)] {
        m.facts.disk = Some((m.now, used));
        let plan = m.plan(&want);
        assert_eq!(plan.verdict.conditions.iter().any(|c| c.type_ == ConditionType::DiskOverLimit), over, "{used}");
    }
}

#[test]
fn a_limit_that_the_engine_enforces_is_not_measured() {
    for enforced in [false, true] {
        let (mut m, want, _) = unmeasured(limited());
        m.facts.disk = Some((m.now, 513 << 20));
        m.now += HOUR;
        m.capabilities.disk_limit = enforced;
        let plan = m.plan(&want);
        let told = plan.verdict.conditions.iter().any(|c| c.type_ == ConditionType::DiskOverLimit);
        assert_eq!((measured(&plan).is_some(), told), (!enforced, !enforced));
    }
    let (m, want, _) = unmeasured(web("web:1"));
    assert_eq!(measured(&m.plan(&want)), None, "without a limit nothing is measured either");
}

#[test]
fn a_measurement_that_failed_or_found_nothing_is_tried_again_after_an_hour() {
    let at = model().now + SignedDuration::from_mins(10);
    let failed = TaskState::Failed { at, attempts: 1, error: "refused".to_owned() };
    let silent = TaskState::Done { at, result: TaskResult::Done };
    for outcome in [failed, silent] {
        let (mut m, want, key) = unmeasured(limited());
        m.world.tasks.insert(key, outcome);
        for (now, begins) in [(at, false), (at + HOUR - MOMENT, false), (at + HOUR, true), (at + HOUR + MOMENT, true)] {
            m.now = now;
            let plan = m.plan(&want);
            assert_eq!(measured(&plan).is_some(), begins, "{now}");
            assert!(begins || plan.recheck == Some(at + HOUR), "it is due by itself: {:?}", plan.recheck);
        }
    }
}

#[test]
fn the_next_measurement_is_an_hour_after_the_last() {
    let (mut m, want, _) = unmeasured(limited());
    let at = m.now;
    m.facts.disk = Some((at, 1 << 20));
    m.now = at + HOUR - MOMENT;
    let plan = m.plan(&want);
    assert_eq!((measured(&plan), plan.recheck), (None, Some(at + HOUR)));
    m.now = at + HOUR;
    assert!(measured(&m.plan(&want)).is_some());
}

#[test]
fn what_the_namespace_shares_counts_for_nobodys_disk() {
    let mut spec = limited();
    spec["mounts"] = json!([{"volume": "data", "path": "/data"}, {"volume": "cache", "path": "/cache"}, {"sharedVolume": "models", "path": "/models"}]);
    let (m, want, _) = unmeasured(spec);
    let mut volumes = measured(&m.plan(&want)).unwrap();
    volumes.sort();
    assert_eq!(volumes, ["dm-vol-alice.shop.cache", "dm-vol-alice.shop.data"]);
}
