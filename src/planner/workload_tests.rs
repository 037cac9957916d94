//! A workspace as a whole over a small engine: in which order it is started, stopped and restarted, what is remembered of it, and what its status says.

use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::model::Model;
use super::tests::{intent, model, text, web};
use super::{Operation, Plan, WaitKey};
use crate::desired::{DesiredState, Intent};
use crate::observed::{Container, HealthState, State, TaskKey, TaskResult, TaskState};
use crate::resource::status::Phase;
use crate::resource::{Condition, ConditionType, Reason};
use crate::state::{Fact, StopReason};

const SHOP: &str = "dm-ws-alice.shop";

/// What a plan changes in Docker, in its order.
pub(super) fn acts(plan: &Plan) -> Vec<String> {
    plan.nodes.iter().filter(|node| node.operation.is_mutating()).map(|node| line(&node.operation)).collect()
}

fn line(operation: &Operation) -> String {
    format!("{} {}", operation.name(), operation.target())
}

/// Where in a plan this is done.
pub(super) fn place(plan: &Plan, what: &str) -> usize {
    plan.nodes.iter().position(|node| line(&node.operation) == what).unwrap_or_else(|| panic!("no {what} in {plan:?}"))
}

/// The same object, with something of it changed.
pub(super) fn changed(intent: Intent, change: impl FnOnce(&mut DesiredState)) -> Intent {
    let Intent::Present(mut desired) = intent else { unreachable!() };
    change(&mut desired);
    Intent::Present(desired)
}

fn annotated(intent: Intent, token: &str) -> Intent {
    changed(intent, |desired| desired.restart_token = Some(token.to_owned()))
}

fn with(field: &str, value: Value) -> Value {
    let mut spec = web("web:1");
    spec[field] = value;
    spec
}

fn with_db(db: Value) -> Value {
    json!({"image": "web:1", "services": {"db": db}})
}

fn ended(code: i64, at: jiff::Timestamp) -> impl FnOnce(&mut Container) {
    move |container| {
        container.state = State::Exited { code };
        Arc::make_mut(container.details.as_mut().unwrap()).finished = Some(at);
    }
}

#[test]
fn a_spec_of_which_nothing_can_be_made_changes_nothing_and_waits_for_a_lease_that_it_lacks() {
    let rows = [
        (ConditionType::PortsExhausted, true),
        (ConditionType::PortConflict, true),
        (ConditionType::AddressesExhausted, true),
        (ConditionType::Unsupported, false),
    ];
    for (type_, waits) in rows {
        let fatal =
            |image: &str, generation| changed(intent(web(image), generation), |desired| desired.fatal.push(Condition::abnormal(type_, "it cannot be made")));
        let mut m = model();
        let plan = m.plan(&fatal("web:1", 1));
        assert!(plan.is_empty(), "{}", text(&m, &plan));
        assert_eq!((plan.verdict.phase, plan.verdict.reason, plan.verdict.stalled), (Phase::Pending, type_.reason(), true));
        assert_eq!(plan.waiting.iter().any(|waiting| waiting.on == WaitKey::Leases), waits, "{type_:?}");
        m.settle(&intent(web("web:1"), 1));
        let plan = m.plan(&fatal("web:2", 2));
        assert!(plan.is_empty(), "{}", text(&m, &plan));
        assert_eq!(plan.verdict.phase, Phase::Running, "what runs goes on running");
    }
}

#[test]
fn without_an_idle_timeout_an_inherited_change_waits_for_ten_minutes_without_activity() {
    let mut m = model();
    m.settle(&intent(web("web:1"), 1));
    let want = intent(web("web:2"), 1);
    let due = m.facts.run_begun.unwrap() + SignedDuration::from_mins(10);
    for before in [SignedDuration::from_mins(10), SignedDuration::from_secs(1)] {
        m.now = due - before;
        let plan = m.plan(&want);
        assert!(plan.is_empty(), "{plan:?}");
        assert_eq!(plan.recheck, Some(due));
    }
    m.now = due;
    let plan = m.plan(&want);
    assert!(matches!(plan.nodes.as_slice(), [only] if matches!(only.operation, Operation::Begin(TaskKey::Sample(_), _))), "{plan:?}");
}

#[test]
fn without_a_threshold_of_its_own_ten_kibibytes_are_no_activity_and_more_are() {
    for (sent, replaced) in [(10 << 10, true), ((10 << 10) + 1, false)] {
        let mut m = model();
        m.settle(&intent(web("web:1"), 1));
        m.now = m.facts.run_begun.unwrap() + SignedDuration::from_mins(10);
        let id = m.world.container_named(SHOP).unwrap().id.clone();
        let sample = TaskResult::Sample { sent, execs: Vec::new() };
        m.world.tasks.insert(TaskKey::Sample(id), TaskState::Done { at: m.now, result: sample });
        m.settle(&intent(web("web:2"), 1));
        assert_eq!(m.world.container_named(SHOP).unwrap().image_id == "sha256:web2", replaced, "{sent} bytes");
    }
}

#[test]
fn a_limit_may_be_all_the_cpus_that_the_host_has_and_no_more() {
    let want = intent(with("resources", json!({"cpu": "2"})), 1);
    for (host, possible) in [(2_000_000_000, true), (1_999_999_999, false)] {
        let mut m = model();
        m.capabilities.nano_cpus = host;
        let plan = m.plan(&want);
        assert_eq!(acts(&plan).contains(&format!("create {SHOP}")), possible, "{host}");
        if !possible {
            assert!(plan.is_empty());
            assert_eq!((plan.verdict.phase, plan.verdict.reason, plan.verdict.stalled), (Phase::Pending, Reason::Invalid, true));
            assert!(plan.verdict.message.contains("resources.cpu 2 is more than the host's"), "{}", plan.verdict.message);
        }
    }
}

#[test]
fn main_starts_in_one_plan_with_its_services_unless_they_have_a_check_of_their_own() {
    let start = format!("start {SHOP}");
    let m = model();
    let plan = m.plan(&intent(with_db(json!({"image": "db:1"})), 1));
    assert!(plan.nodes[place(&plan, &start)].depends_on.contains(&place(&plan, &format!("{start}.db"))), "{}", text(&m, &plan));

    let (mut m, want) = (model(), intent(with_db(json!({"image": "db:1", "health": {"test": ["CMD", "ready"]}})), 1));
    let plan = m.plan(&want);
    assert!(acts(&plan).contains(&format!("{start}.db")) && !acts(&plan).contains(&start), "{}", text(&m, &plan));
    m.apply(&plan, usize::MAX);
    m.meddle("dm-ws-alice.shop.db", |c| c.state = State::Running(HealthState::Starting));
    let plan = m.plan(&want);
    assert!(acts(&plan).is_empty(), "{}", text(&m, &plan));
    m.meddle("dm-ws-alice.shop.db", |c| c.state = State::Running(HealthState::Healthy));
    assert_eq!(acts(&m.plan(&want)), [start]);
}

#[test]
fn a_restart_of_what_is_stopped_is_its_start_and_is_done_when_main_has_started() {
    let (mut m, want) = (model(), intent(with_db(json!({"image": "db:1"})), 1));
    m.settle(&want);
    let end = m.now;
    m.meddle(SHOP, ended(0, end));
    m.meddle("dm-ws-alice.shop.db", ended(0, end));
    m.now += SignedDuration::from_secs(1);
    m.record(Fact::RestartAsked(m.now));
    let plan = m.plan(&want);
    assert_eq!(acts(&plan), ["start dm-ws-alice.shop.db", "start dm-ws-alice.shop"]);
    assert_eq!(plan.nodes[place(&plan, "record restart-done")].depends_on, [place(&plan, "start dm-ws-alice.shop")]);
    m.settle(&want);
    assert_eq!(m.facts.restart_asked, None);
}

#[test]
fn a_restart_and_a_change_at_once_are_one_exchange() {
    let mut m = model();
    m.settle(&intent(web("web:1"), 1));
    m.now += SignedDuration::from_secs(60);
    m.record(Fact::RestartAsked(m.now));
    let want = intent(web("web:2"), 2);
    let plan = m.plan(&want);
    assert_eq!(acts(&plan), ["create dm-ws-alice.shop_next", "stop dm-ws-alice.shop", "start dm-ws-alice.shop_next"]);
    assert_eq!(plan.nodes[place(&plan, "record restart-done")].depends_on, [place(&plan, "start dm-ws-alice.shop_next")]);
    m.settle(&want);
    assert_eq!((m.world.container_named(SHOP).unwrap().image_id.as_str(), m.facts.restart_asked), ("sha256:web2", None));
}

#[test]
fn a_restart_that_was_asked_for_is_done_once() {
    let (mut m, want) = (model(), intent(web("web:1"), 1));
    m.settle(&want);
    m.now += SignedDuration::from_secs(60);
    m.record(Fact::RestartAsked(m.now));
    let plan = m.plan(&want);
    let (stop, start) = (format!("stop {SHOP}"), format!("start {SHOP}"));
    assert_eq!(acts(&plan), [stop.clone(), start.clone()]);
    assert_eq!(plan.nodes[place(&plan, "record restart-done")].depends_on, [place(&plan, &start)]);
    // The operator is gone before it remembers that: what has started since is not stopped once more.
    m.apply(&plan, place(&plan, &start) + 1);
    let plan = m.plan(&want);
    assert!(acts(&plan).is_empty(), "{}", text(&m, &plan));
    m.settle(&want);
    assert_eq!(m.facts.restart_asked, None);
    // The annotation is another way to ask.
    let before = m.log.len();
    let asked = annotated(want, "again");
    assert_eq!(acts(&m.plan(&asked)), [stop.clone(), start]);
    m.settle(&asked);
    assert_eq!(m.facts.restart_seen.as_deref(), Some("again"));
    assert_eq!(m.log[before..].iter().filter(|line| **line == stop).count(), 1);
    assert!(m.plan(&asked).is_empty());
}

#[test]
fn what_is_made_with_the_annotation_needs_no_restart_for_it() {
    let mut m = model();
    m.settle(&intent(web("web:1"), 1));
    assert!(!m.log.iter().any(|line| line == "record restart-annotation"), "there is none to remember: {:?}", m.log);
    let (mut m, want) = (model(), annotated(intent(web("web:1"), 1), "first"));
    m.settle(&want);
    assert_eq!(m.facts.restart_seen.as_deref(), Some("first"));
    assert!(!m.log.iter().any(|line| line.starts_with("stop ")), "{:?}", m.log);
}

#[test]
fn a_restart_whose_image_is_still_being_fetched_is_not_forgotten_with_the_change_that_asks_for_it() {
    let always = || with("pullPolicy", json!("Always"));
    let mut m = model();
    m.settle(&intent(always(), 1));
    assert_eq!(m.facts.applied_digest.as_deref(), Some("digest-1"));
    m.now += SignedDuration::from_secs(60);
    let want = annotated(intent(always(), 2), "again");
    for _ in 0..2 {
        let plan = m.plan(&want);
        m.apply(&plan, usize::MAX);
    }
    assert!(matches!(m.world.tasks[&TaskKey::Pull("web:1".to_owned())], TaskState::Running { .. }));
    assert_eq!((m.facts.applied_digest.as_deref(), m.facts.restart_seen.as_deref()), (Some("digest-2"), None));
    m.settle(&want);
    assert_eq!((m.world.container_named(SHOP).unwrap().image_id.as_str(), m.facts.restart_seen.as_deref()), ("sha256:web:1", Some("again")));
}

#[test]
fn a_stop_is_warned_of_three_minutes_before_it_and_one_that_was_put_off_at_its_own_time() {
    let mins = SignedDuration::from_mins;
    // Put off until so many minutes after its begin; due after so many.
    for (until, due) in [(None, 30), (Some(10), 30), (Some(45), 45)] {
        let (mut m, want) = (model(), intent(with("idle", json!({"timeout": "30m"})), 1));
        m.settle(&want);
        let begun = m.facts.run_begun.unwrap();
        if let Some(until) = until {
            m.record(Fact::ExtendedUntil(begun + mins(until)));
        }
        let due = begun + mins(due);
        m.now = due - mins(3) - SignedDuration::from_secs(1);
        m.settle(&want);
        assert_eq!(m.facts.warned, None, "put off until {until:?}");
        m.now = due - mins(3);
        m.settle(&want);
        assert_eq!(m.facts.warned, Some(due), "put off until {until:?}");
    }
}

#[test]
fn a_stop_for_want_of_activity_needs_a_sample_as_late_as_its_deadline() {
    let (mut m, want) = (model(), intent(with("idle", json!({"timeout": "30m"})), 1));
    m.settle(&want);
    let begun = m.facts.run_begun.unwrap();
    m.now = begun + SignedDuration::from_mins(29);
    m.settle(&want);
    assert!(m.facts.sample.as_ref().unwrap().at > begun, "one of a minute ago");
    m.now = begun + SignedDuration::from_mins(30);
    let plan = m.plan(&want);
    assert!(matches!(plan.nodes.as_slice(), [only] if matches!(only.operation, Operation::Begin(TaskKey::Sample(_), _))), "{plan:?}");
    assert_eq!((plan.verdict.phase, plan.verdict.reason), (Phase::Running, Reason::Running));
    m.settle(&want);
    assert_eq!(m.facts.stopped.as_ref().map(|stop| stop.why), Some(StopReason::Idle));
}

#[test]
fn the_spec_that_is_in_force_is_remembered() {
    let mut m = model();
    for generation in 1..3 {
        m.settle(&intent(web("web:1"), generation));
        assert_eq!(m.facts.applied_digest, Some(format!("digest-{generation}")));
    }
}

#[test]
fn a_stop_takes_main_first_and_then_its_services() {
    let stopped = |generation| {
        let mut spec = with_db(json!({"image": "db:1"}));
        spec["state"] = json!("Stopped");
        intent(spec, generation)
    };
    let mut m = model();
    assert!(m.plan(&stopped(1)).is_empty(), "nothing is remembered of a stop where nothing was to stop");
    m.settle(&intent(with_db(json!({"image": "db:1"})), 2));
    let plan = m.plan(&stopped(3));
    assert_eq!(acts(&plan), ["stop dm-ws-alice.shop", "stop dm-ws-alice.shop.db"]);
    let (fact, main, db) = (place(&plan, "record stopped-by-policy"), place(&plan, "stop dm-ws-alice.shop"), place(&plan, "stop dm-ws-alice.shop.db"));
    assert_eq!(plan.nodes[main].depends_on, [fact]);
    assert_eq!(plan.nodes[db].depends_on, [main, fact]);
    // What is left of it when somebody removed main is stopped too.
    let id = m.world.container_named(SHOP).unwrap().id.clone();
    m.world.remove(&id);
    let plan = m.plan(&stopped(3));
    assert_eq!(acts(&plan), ["stop dm-ws-alice.shop.db"]);
    assert_eq!(plan.nodes[place(&plan, "stop dm-ws-alice.shop.db")].depends_on, [place(&plan, "record stopped-by-policy")]);
}

#[test]
fn what_is_paused_is_thawed_before_it_is_stopped() {
    let mut m = model();
    m.settle(&intent(web("web:1"), 1));
    let stop = intent(with("state", json!("Stopped")), 2);
    assert_eq!(acts(&m.plan(&stop)), ["stop dm-ws-alice.shop"]);
    m.meddle(SHOP, |c| c.state = State::Paused);
    let plan = m.plan(&stop);
    assert_eq!(acts(&plan), ["unpause dm-ws-alice.shop", "stop dm-ws-alice.shop"]);
    assert_eq!(plan.nodes[place(&plan, "stop dm-ws-alice.shop")].depends_on, [place(&plan, "unpause dm-ws-alice.shop")]);
}

#[test]
fn what_is_stopped_needs_no_restart() {
    let (mut m, stop) = (model(), intent(with("state", json!("Stopped")), 2));
    m.settle(&intent(web("web:1"), 1));
    m.settle(&stop);
    m.record(Fact::RestartAsked(m.now));
    m.settle(&stop);
    assert_eq!((m.facts.restart_asked, m.states()), (None, vec!["dm-ws-alice.shop exited".to_owned()]));
}

/// A running workspace of this spec.
fn running(spec: Value) -> (Model, Intent) {
    let (mut m, want) = (model(), intent(spec, 1));
    m.settle(&want);
    (m, want)
}

#[test]
fn what_stands_in_the_way_decides_the_phase_and_whether_time_alone_changes_anything() {
    let failed = |m: &Model| TaskState::Failed { at: m.now, attempts: 1, error: "no such host".to_owned() };
    let check = |(m, want): &(Model, Intent), phase, reason, stalled, reconciling| {
        let verdict = m.plan(want).verdict;
        assert_eq!((verdict.phase, verdict.reason, verdict.stalled, verdict.reconciling), (phase, reason, stalled, reconciling), "{verdict:?}");
    };
    let mut unhealthy = running(web("web:1"));
    unhealthy.0.meddle(SHOP, |c| c.state = State::Running(HealthState::Unhealthy));
    check(&unhealthy, Phase::Running, Reason::Unhealthy, false, false);
    let mut paused = running(web("web:1"));
    paused.0.meddle(SHOP, |c| c.state = State::Paused);
    check(&paused, Phase::Running, Reason::Paused, false, false);
    let mut over = running(with("restart", json!("no")));
    let end = over.0.now + SignedDuration::from_secs(1);
    over.0.meddle(SHOP, ended(1, end));
    check(&over, Phase::Error, Reason::Failed, true, false);
    let mut limited = with("restart", json!("no"));
    limited["maxLifetime"] = json!("1h");
    let mut limited = running(limited);
    limited.0.meddle(SHOP, ended(1, end));
    check(&limited, Phase::Error, Reason::Failed, false, false);
    let mut looping = running(web("web:1"));
    looping.0.meddle(SHOP, |c| {
        let details = Arc::make_mut(c.details.as_mut().unwrap());
        (details.restarts, details.started) = (3, Some(end));
    });
    check(&looping, Phase::Error, Reason::CrashLoop, false, true);
    let mut absent = (model(), intent(web("far:1"), 1));
    let task = failed(&absent.0);
    absent.0.world.tasks.insert(TaskKey::Pull("far:1".to_owned()), task.clone());
    check(&absent, Phase::Pending, Reason::ImagePullFailed, false, true);
    let (mut outdated, _) = running(web("web:1"));
    outdated.world.tasks.insert(TaskKey::Pull("far:1".to_owned()), task);
    check(&(outdated, intent(web("far:1"), 2)), Phase::Error, Reason::ImagePullFailed, false, true);
    let mut conflict = running(web("web:1"));
    conflict.0.meddle(SHOP, |c| {
        c.owner = None;
        c.labels.clear();
    });
    check(&conflict, Phase::Pending, Reason::NameConflict, true, false);
}
