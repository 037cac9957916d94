//! One container over a small engine: limits that shrink, and volumes that only its image knows.

use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::tests::{intent, model, text, web};
use super::{Operation, Plan};
use crate::observed::{State, TaskKey, TaskState};
use crate::resource::{ConditionType, Reason, Truth};

fn limited(memory: &str) -> Value {
    let mut spec = web("web:1");
    spec["resources"] = json!({"memory": memory});
    spec
}

/// The plan asks how much memory is used, and does nothing else.
fn is_measuring(plan: &Plan) -> bool {
    matches!(plan.nodes.as_slice(), [only] if matches!(only.operation, Operation::Begin(TaskKey::Memory(_), _)))
}

#[test]
fn memory_shrinks_in_place_only_where_a_quarter_more_than_what_is_used_is_left() {
    // 100 MiB are in use.
    for (memory, replaces) in [("125m", false), ("124m", true), ("80m", true)] {
        let mut m = model();
        m.settle(&intent(limited("512m"), 1));
        let want = intent(limited(memory), 2);
        let plan = m.plan(&want);
        let id = m.world.container_named("dm-ws-alice.shop").unwrap().id.clone();
        assert!(is_measuring(&plan), "{}", text(&m, &plan));
        m.apply(&plan, usize::MAX);
        let waiting = m.plan(&want);
        assert!(waiting.is_empty() && !waiting.waiting.is_empty());
        assert_eq!((waiting.verdict.ready, waiting.verdict.reason), (Truth::False, Reason::Progressing), "not as declared yet");
        m.finish_tasks();
        let plan = m.plan(&want);
        let name = if replaces { "replace create dm-ws-alice.shop_next" } else { "update  update dm-ws-alice.shop" };
        assert!(text(&m, &plan).contains(&format!("{name} (resources.memory: 512m -> {memory})")), "{}", text(&m, &plan));
        m.settle(&want);
        let container = m.world.container_named("dm-ws-alice.shop").unwrap();
        assert_eq!(container.id == id, !replaces);
        assert_eq!(crate::resource::Bytes(container.details.as_ref().unwrap().memory).to_string(), memory);
        assert!(m.world.tasks.keys().all(|key| !matches!(key, TaskKey::Memory(_))), "what was measured is forgotten");
        let measured = m.log.iter().filter(|line| line.starts_with("measure-memory")).count();
        m.now += SignedDuration::from_hours(10);
        m.settle(&want);
        assert_eq!((measured, m.log.iter().filter(|line| line.starts_with("measure-memory")).count()), (1, 1), "never without need");
    }
}

#[test]
fn memory_that_cannot_be_measured_is_not_risked_and_what_is_stopped_needs_no_measure() {
    let mut m = model();
    m.settle(&intent(limited("512m"), 1));
    let want = intent(limited("256m"), 2);
    let id = m.world.container_named("dm-ws-alice.shop").unwrap().id.clone();
    m.world.tasks.insert(TaskKey::Memory(id), TaskState::Failed { at: m.now, attempts: 1, error: "refused".to_owned() });
    assert!(text(&m, &m.plan(&want)).contains("replace create dm-ws-alice.shop_next"));
    // A limit where there was none is less too.
    let mut m = model();
    m.settle(&intent(web("web:1"), 1));
    assert!(is_measuring(&m.plan(&intent(limited("256m"), 2))));
    m.meddle("dm-ws-alice.shop", |c| c.state = State::Exited { code: 1 });
    assert!(text(&m, &m.plan(&intent(limited("256m"), 2))).contains("update dm-ws-alice.shop (resources.memory: 0 -> 256m)"));
}

#[test]
fn a_limit_that_somebody_set_is_taken_back_at_once_and_one_that_is_inherited_waits() {
    let mut m = model();
    m.settle(&intent(web("web:1"), 1));
    m.meddle("dm-ws-alice.shop", |c| Arc::make_mut(c.details.as_mut().unwrap()).memory = 64 << 20);
    let plan = m.plan(&intent(web("web:1"), 1));
    assert!(text(&m, &plan).contains("replace create dm-ws-alice.shop_next (resources.memory: 64m -> unlimited)"), "{}", text(&m, &plan));
    // A tenant's default that goes away is nobody's own change, and interrupts nobody.
    let mut m = model();
    m.settle(&intent(limited("512m"), 1));
    let plan = m.plan(&intent(web("web:1"), 1));
    assert!(!plan.nodes.iter().any(|node| node.operation.is_mutating()), "{}", text(&m, &plan));
    assert!(plan.verdict.conditions.iter().any(|c| c.type_ == ConditionType::RestartPending));
    // Who said when it may be interrupted is asked first.
    let mut m = model();
    let mut spec = web("web:1");
    spec["update"] = json!({"when": "OnRestart"});
    m.settle(&intent(spec.clone(), 1));
    m.meddle("dm-ws-alice.shop", |c| Arc::make_mut(c.details.as_mut().unwrap()).memory = 64 << 20);
    assert!(!m.plan(&intent(spec, 1)).nodes.iter().any(|node| node.operation.is_mutating()));
}

#[test]
fn a_limit_that_is_taken_away_replaces() {
    for (limit, value) in [("memory", "512m"), ("cpu", "1")] {
        let mut m = model();
        let mut spec = web("web:1");
        spec["resources"] = json!({limit: value});
        m.settle(&intent(spec, 1));
        let plan = m.plan(&intent(web("web:1"), 2));
        let expected = format!("replace create dm-ws-alice.shop_next (resources.{limit}: {value} -> unlimited)");
        assert!(text(&m, &plan).contains(&expected), "{}", text(&m, &plan));
    }
}

#[test]
fn volumes_that_only_the_image_declares_are_told_once_for_each_container() {
    let mut m = model();
    let want = intent(web("web:1"), 1);
    m.settle(&want);
    let declare = |m: &mut super::model::Model| {
        m.meddle("dm-ws-alice.shop", |c| {
            Arc::make_mut(c.details.as_mut().unwrap()).anonymous_volumes.insert("f".repeat(64), "/var/lib/Cache_1".to_owned());
        });
    };
    let told = |m: &super::model::Model| m.log.iter().filter(|line| *line == "record unnamed-volumes").count();
    declare(&mut m);
    m.settle(&want);
    m.settle(&want);
    assert_eq!(told(&m), 1);
    let found = m.facts.unnamed_volumes["dm-ws-alice.shop"].clone();
    assert_eq!(
        (found.paths.as_slice(), found.advice().as_str()),
        (&["/var/lib/Cache_1".to_owned()][..], "add `{volume: cache-1, path: /var/lib/Cache_1}` to spec.mounts to keep it")
    );
    // Another container of the same image has them too; one of another image none, and then nothing is said of them any more.
    let changed = intent(web("web:2"), 2);
    m.settle(&changed);
    assert!(m.facts.unnamed_volumes.is_empty());
    declare(&mut m);
    m.settle(&changed);
    assert_eq!(told(&m), 3);
}

#[test]
fn a_process_that_the_engine_restarts_is_believed_after_a_while() {
    let (mut m, want) = (model(), intent(web("web:1"), 1));
    m.settle(&want);
    let now = m.now;
    let restarted = |restarts: u64| {
        move |c: &mut crate::observed::Container| {
            let details = Arc::make_mut(c.details.as_mut().unwrap());
            (details.restarts, details.started) = (restarts, Some(now));
        }
    };
    m.meddle("dm-ws-alice.shop", restarted(1));
    let plan = m.plan(&want);
    assert_eq!((plan.verdict.reason, plan.recheck), (Reason::Starting, Some(now + SignedDuration::from_secs(10))));
    m.meddle("dm-ws-alice.shop", restarted(3));
    let plan = m.plan(&want);
    assert_eq!(plan.verdict.reason, Reason::CrashLoop);
    assert!(plan.verdict.message.contains("`dockmaster logs workspace/shop -n alice --previous`"), "{}", plan.verdict.message);
    m.settle_waiting(&want);
    assert_eq!(m.log.iter().filter(|line| *line == "record crash-loop").count(), 1, "each restart is told once");
    m.now += SignedDuration::from_secs(10);
    assert_eq!(m.plan(&want).verdict.reason, Reason::Running);
}

/// Found by `tests/e2e/machine.rs`.
#[test]
fn what_no_start_can_succeed_of_is_made_anew_also_where_an_update_failed() {
    let mut m = model();
    let want = intent(web("web:1"), 1);
    m.settle(&want);
    let id = m.world.container_named("dm-ws-alice.shop").unwrap().id.clone();
    let strand = |container: &mut crate::observed::Container| {
        container.state = State::Created;
        let details = Arc::make_mut(container.details.as_mut().unwrap());
        details.pid = 0;
        details.error = format!("task {}: already exists", container.id.0);
    };
    m.meddle("dm-ws-alice.shop", |container| {
        strand(container);
        Arc::make_mut(container.details.as_mut().unwrap()).error = "task of another: already exists".to_owned();
    });
    assert!(!text(&m, &m.plan(&want)).contains("create dm-ws"), "{}", text(&m, &m.plan(&want)));
    let crate::desired::Intent::Present(desired) = &want else { unreachable!() };
    m.record(crate::state::Fact::UpdateFailed(Some((desired.main().unwrap().hash.clone(), "it did not start".to_owned()))));
    m.meddle("dm-ws-alice.shop", strand);
    // What it wrote last is read before it goes.
    let plan = m.plan(&want);
    m.apply(&plan, usize::MAX);
    m.finish_tasks();
    let plan = m.plan(&want);
    assert!(text(&m, &plan).contains("create dm-ws-alice.shop_next (start: killed in the middle of it -> made anew)"), "{}", text(&m, &plan));
    // The same may happen to the one that takes its place: that is no failure of the spec.
    let made = plan.nodes.iter().position(|node| matches!(node.operation, Operation::Create { .. })).unwrap();
    m.apply(&plan, made + 1);
    m.meddle("dm-ws-alice.shop_next", strand);
    m.settle(&want);
    let healed = m.world.container_named("dm-ws-alice.shop").unwrap();
    assert!(healed.id != id && healed.is_active());
    assert_eq!(m.facts.update_failed, None);
    assert_eq!(m.states().len(), 1, "{:?}", m.states());
}
