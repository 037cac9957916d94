//! One container over a small engine: limits that shrink, and volumes that only its image knows.

use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::tests::{intent, model, text, web};
use super::{Operation, Plan, WaitKey};
use crate::observed::{State, TaskKey, TaskState};
use crate::resource::{ConditionType, Reason, Truth};
use crate::state::Fact;

const MAIN: &str = "dm-ws-alice.shop";
const MOMENT: SignedDuration = SignedDuration::from_millis(1);

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

#[test]
fn a_container_that_is_being_removed_is_waited_for_and_looked_at_again() {
    let (mut m, want) = (model(), intent(web("web:1"), 1));
    m.settle(&want);
    m.meddle(MAIN, |c| c.state = State::Removing);
    let plan = m.plan(&want);
    assert!(plan.is_empty(), "{}", text(&m, &plan));
    let id = m.world.container_named(MAIN).unwrap().id.clone();
    let waits: Vec<_> = plan.waiting.iter().map(|waiting| (waiting.on.clone(), waiting.until)).collect();
    assert_eq!(waits, [(WaitKey::Container(id), Some(m.now + SignedDuration::from_secs(5)))]);
}

#[test]
fn a_measurement_of_memory_is_believed_for_five_minutes() {
    let mut m = model();
    m.settle(&intent(limited("512m"), 1));
    let want = intent(limited("256m"), 2);
    m.apply(&m.plan(&want), usize::MAX);
    m.finish_tasks();
    m.now += SignedDuration::from_mins(5) - MOMENT;
    assert!(text(&m, &m.plan(&want)).contains("update dm-ws-alice.shop (resources.memory: 512m -> 256m)"));
    m.now += MOMENT;
    assert!(is_measuring(&m.plan(&want)), "{}", text(&m, &m.plan(&want)));
}

#[test]
fn where_it_is_not_known_what_was_applied_only_the_image_can_be_told() {
    let with_variable = |mut spec: Value| {
        spec["env"] = json!([{"name": "A", "value": "1"}]);
        spec
    };
    let helper = || json!({"image": "dockmaster/helper"});
    for (from, to, expected) in [
        (web("web:1"), web("web:2"), &["image: web:1 -> web:2", "spec: unknown -> as declared"] as &[_]),
        (web("web:1"), with_variable(web("web:1")), &["spec: unknown -> as declared"]),
        // The engine has another name for it than the spec.
        (helper(), with_variable(helper()), &["spec: unknown -> as declared"]),
    ] {
        let mut m = model();
        m.settle(&intent(from, 1));
        if to["image"] == "dockmaster/helper" {
            m.meddle(MAIN, |c| c.image = "dockmaster/helper:1".to_owned());
        }
        m.facts.applied.clear();
        let changes: Vec<String> = m.plan(&intent(to, 2)).changes.iter().map(super::print::cause).collect();
        assert_eq!(changes, expected);
    }
}

#[test]
fn where_it_is_not_known_which_spec_was_in_force_a_new_generation_is_the_objects_own_change() {
    for (generation, at_once) in [(1, false), (2, true)] {
        let mut m = model();
        m.settle(&intent(web("web:1"), 1));
        m.facts.applied_digest = None;
        let plan = m.plan(&intent(web("web:2"), generation));
        let pending = plan.verdict.conditions.iter().any(|c| c.type_ == ConditionType::RestartPending);
        assert_eq!((plan.nodes.iter().any(|node| node.operation.is_mutating()), pending), (at_once, !at_once), "generation {generation}");
    }
}

#[test]
fn a_restart_is_the_time_for_a_change_that_waits() {
    for when in ["OnRestart", "WhenIdle"] {
        let updated = |image: &str| {
            let mut spec = web(image);
            spec["update"] = json!({"when": when});
            spec
        };
        let mut m = model();
        m.settle(&intent(updated("web:1"), 1));
        let want = intent(updated("web:2"), 2);
        let plan = m.plan(&want);
        assert!(!plan.nodes.iter().any(|node| node.operation.is_mutating()), "{when}: {}", text(&m, &plan));
        assert!(plan.verdict.conditions.iter().any(|c| c.type_ == ConditionType::RestartPending), "{when}");
        m.record(Fact::RestartAsked(m.now));
        let plan = m.plan(&want);
        assert!(text(&m, &plan).contains("replace create dm-ws-alice.shop_next (image: web:1 -> web:2)"), "{when}: {}", text(&m, &plan));
    }
}

/// Found by the harness: `paused-by-hand` with an engine that stands still while the start is asked for.
#[test]
fn a_pause_by_hand_is_left_and_ended_by_a_start_that_was_asked_for_since() {
    // Asked for before the pause, and after it; how long ago that was does not matter.
    for (before, after, thaws) in [(false, false, false), (true, false, false), (false, true, true), (true, true, true)] {
        let (mut m, want) = (model(), intent(web("web:1"), 1));
        m.settle(&want);
        if before {
            m.record(Fact::StartAsked(m.now));
            m.settle(&want);
        }
        m.meddle(MAIN, |c| c.state = State::Paused);
        if after {
            m.record(Fact::StartAsked(m.now));
        }
        m.now += SignedDuration::from_hours(1);
        let plan = m.plan(&want);
        assert_eq!(text(&m, &plan).contains("unpause dm-ws-alice.shop"), thaws, "{before} {after}: {}", text(&m, &plan));
        assert_eq!(plan.verdict.reason, if thaws { Reason::Progressing } else { Reason::Paused }, "{before} {after}");
    }
}

/// A service that is paused keeps the wish open although the main container runs.
#[test]
fn a_start_thaws_a_service_too() {
    let (mut m, want) = (model(), intent(json!({"image": "web:1", "services": {"db": {"image": "db:1"}}}), 1));
    m.settle(&want);
    m.meddle("dm-ws-alice.shop.db", |c| c.state = State::Paused);
    m.record(Fact::StartAsked(m.now));
    let plan = m.plan(&want);
    assert!(text(&m, &plan).contains("unpause dm-ws-alice.shop.db") && !text(&m, &plan).contains("run-begun"), "{}", text(&m, &plan));
    m.settle(&want);
    assert!(m.facts.run_begun.is_some());
}

/// A preview that has prepared the last pass of its copy of the workspace, now.
fn prepare_a_copy(m: &mut super::model::Model) {
    let mut helper = m.world.container_named(MAIN).unwrap().clone();
    (helper.id, helper.name) = (crate::observed::ContainerId("helper".to_owned()), "dm-pv-alice.demo_delta".to_owned());
    (helper.state, helper.created) = (State::Created, m.now);
    helper.labels.insert(crate::desired::naming::SOURCE.to_owned(), super::tests::uid().0);
    let owner = helper.owner.as_mut().unwrap();
    owner.object = crate::resource::ObjectRef::new(crate::resource::Kind::Preview, "alice", "demo");
    (owner.role, owner.slot) = (crate::desired::Role::Helper, crate::observed::Slot::Delta);
    m.world.insert(helper);
}

#[test]
fn a_pause_for_a_copy_is_left_for_a_minute_and_then_ended() {
    let (mut m, want) = (model(), intent(web("web:1"), 1));
    m.settle(&want);
    prepare_a_copy(&mut m);
    m.meddle(MAIN, |c| c.state = State::Paused);
    let until = m.now + SignedDuration::from_mins(1);
    for now in [m.now, until - MOMENT] {
        m.now = now;
        let plan = m.plan(&want);
        assert!(plan.is_empty(), "{}", text(&m, &plan));
        assert_eq!((plan.verdict.reason, plan.recheck), (Reason::Copying, Some(until)));
    }
    for now in [until, until + MOMENT] {
        m.now = now;
        let plan = m.plan(&want);
        assert!(text(&m, &plan).contains("unpause dm-ws-alice.shop"), "{}", text(&m, &plan));
    }
}

#[test]
fn a_stop_for_a_copy_is_left_and_looked_at_again_soon() {
    let (mut m, want) = (model(), intent(web("web:1"), 1));
    m.settle(&want);
    prepare_a_copy(&mut m);
    m.now += SignedDuration::from_secs(10);
    m.meddle(MAIN, |c| c.state = State::Exited { code: 143 });
    let plan = m.plan(&want);
    assert!(plan.is_empty(), "{}", text(&m, &plan));
    assert_eq!((plan.verdict.reason, plan.recheck), (Reason::Copying, Some(m.now + SignedDuration::from_secs(2))));
}

/// The main process ends now with this code.
fn end(m: &mut super::model::Model, code: i64) {
    let now = m.now;
    m.meddle(MAIN, |c| {
        c.state = State::Exited { code };
        Arc::make_mut(c.details.as_mut().unwrap()).finished = Some(now);
    });
}

#[test]
fn an_end_while_a_restart_is_asked_for_is_a_part_of_it() {
    for asked in [true, false] {
        let (mut m, want) = (model(), intent(web("web:1"), 1));
        m.settle(&want);
        m.now += SignedDuration::from_secs(10);
        if asked {
            m.record(Fact::RestartAsked(m.now));
        }
        m.now += SignedDuration::from_secs(1);
        end(&mut m, 1);
        let plan = m.plan(&want);
        assert_eq!(text(&m, &plan).contains("start   start dm-ws-alice.shop (state: stopped -> running)"), asked, "{}", text(&m, &plan));
        assert_eq!(plan.nodes.iter().any(|node| node.operation.name() == "read-log"), !asked, "a crash is looked into first");
        m.settle(&want);
        assert_eq!((m.facts.exits.is_empty(), m.facts.restart_asked), (asked, None));
    }
}

#[test]
fn what_may_end_is_not_started_again_before_somebody_wishes_it() {
    for (policy, code, expected) in [
        ("no", 0, Reason::Completed),
        ("no", 3, Reason::Failed),
        ("on-failure", 0, Reason::Completed),
        ("on-failure", 3, Reason::Running),
        ("unless-stopped", 0, Reason::Running),
    ] {
        let mut spec = web("web:1");
        spec["restart"] = json!(policy);
        let (mut m, want) = (model(), intent(spec, 1));
        m.settle(&want);
        m.now += SignedDuration::from_secs(1);
        end(&mut m, code);
        let last = m.settle(&want);
        assert_eq!(last.verdict.reason, expected, "{policy} and code {code}");
        if expected == Reason::Failed {
            assert!(last.verdict.message.contains("ended with exit code 3, and its restart policy is `no`"), "{}", last.verdict.message);
        }
        m.now += SignedDuration::from_secs(1);
        m.record(Fact::StartAsked(m.now));
        assert_eq!(m.settle(&want).verdict.reason, Reason::Running, "{policy} and code {code}, and then a start");
    }
}

#[test]
fn after_three_exits_the_next_start_comes_a_second_later_to_the_instant() {
    let (mut m, want) = (model(), intent(web("web:1"), 1));
    m.settle(&want);
    for _ in 0..3 {
        m.now += SignedDuration::from_secs(1);
        m.record(Fact::Exited(m.now));
    }
    end(&mut m, 1);
    let until = m.now + SignedDuration::from_secs(1);
    m.now = until - MOMENT;
    let plan = m.plan(&want);
    assert_eq!((plan.is_empty(), plan.waiting.iter().map(|waiting| waiting.until).collect::<Vec<_>>()), (true, vec![Some(until)]));
    m.now = until;
    let plan = m.plan(&want);
    assert!(text(&m, &plan).contains("start   start dm-ws-alice.shop (state: exited (1) -> running)"), "{}", text(&m, &plan));
    assert!(plan.waiting.is_empty());
}
