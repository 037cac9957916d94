//! The planner over a small engine: what it does, and that it ends right wherever it is interrupted.

use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::model::Model;
pub(super) use super::model::{intent, uid};
use super::{Operation, Plan, print};
use crate::desired::Intent;
use crate::observed::{HealthState, State, TaskKey, TaskResult, TaskState, Volume};
use crate::resource::status::Phase;
use crate::resource::{ConditionType, Reason, Truth};
use crate::state::{Consent, Fact, Farewell, Tombstone};

pub(super) fn model() -> Model {
    let mut model = Model::new("shop");
    model.world.images.insert("web:1".to_owned(), "sha256:web1".to_owned());
    model.world.images.insert("web:2".to_owned(), "sha256:web2".to_owned());
    model.world.images.insert("db:1".to_owned(), "sha256:db1".to_owned());
    model
}

pub(super) fn web(image: &str) -> Value {
    json!({"image": image, "ports": [{"name": "http", "container": 8080, "publish": "Pool"}], "mounts": [{"volume": "data", "path": "/data"}]})
}

fn with_services() -> Value {
    json!({"image": "web:1", "services": {"db": {"image": "db:1", "volume": {"path": "/var/lib/db"}}, "cache": {"image": "db:1", "dependsOn": ["db"]}}})
}

pub(super) fn text(model: &Model, plan: &Plan) -> String {
    print::text(&model.object, plan)
}

#[test]
fn a_new_workspace_is_made_in_one_plan_and_then_there_is_nothing_to_do() {
    let (mut m, want) = (model(), intent(web("web:1"), 1));
    let plan = m.plan(&want);
    assert_eq!(
        text(&m, &plan),
        "workspace/shop -n alice\n\
        \x20 1 create  create-network dm-ns-alice (network: absent -> dm-ns-alice)\n\
        \x20 2 create  create-volume dm-vol-alice.shop.data (volumes.data: absent -> dm-vol-alice.shop.data)\n\
        \x20 3 create  create dm-ws-alice.shop (container: absent -> dm-ws-alice.shop) after 1, 2\n\
        \x20 4 start   start dm-ws-alice.shop (container: absent -> dm-ws-alice.shop) after 3\n"
    );
    let last = m.settle(&want);
    assert_eq!((last.verdict.phase, last.verdict.ready, last.verdict.reason), (Phase::Running, Truth::True, Reason::Running));
    assert_eq!(m.states(), ["dm-ws-alice.shop running"]);
    m.now += SignedDuration::from_hours(100);
    assert!(m.plan(&want).is_empty());
}

#[test]
fn a_missing_image_is_pulled_first() {
    let (mut m, want) = (model(), intent(web("far:1"), 1));
    let plan = m.plan(&want);
    assert!(text(&m, &plan).contains("pull far:1"), "{}", text(&m, &plan));
    m.apply(&plan, usize::MAX);
    assert!(m.plan(&want).nodes.iter().all(|node| node.operation.name() != "pull"), "one pull at a time");
    m.settle(&want);
    assert_eq!(m.states(), ["dm-ws-alice.shop running"]);
}

#[test]
fn a_failed_pull_backs_off_and_the_old_container_runs_on() {
    let mut m = model();
    m.settle(&intent(web("web:1"), 1));
    let want = intent(web("far:1"), 2);
    let failed = TaskState::Failed { at: m.now, attempts: 3, error: "no such host".to_owned() };
    m.world.tasks.insert(TaskKey::Pull("far:1".to_owned()), failed);
    let plan = m.plan(&want);
    assert!(plan.is_empty(), "{}", text(&m, &plan));
    assert!(plan.verdict.conditions.iter().any(|c| c.type_ == ConditionType::ImagePullFailed && c.message.contains("no such host")));
    assert_eq!(plan.waiting[0].until, Some(m.now + SignedDuration::from_secs(20)));
    assert_eq!(m.states(), ["dm-ws-alice.shop running"]);
    // The next attempt says the same; the first says nothing.
    for (failed, says) in [(Some("no such host".to_owned()), true), (None, false)] {
        let again = TaskState::Running { since: m.now, progress: "34 %".to_owned(), failed };
        m.world.tasks.insert(TaskKey::Pull("far:1".to_owned()), again);
        let conditions = m.plan(&want).verdict.conditions;
        let same = conditions.iter().any(|c| c.type_ == ConditionType::ImagePullFailed && c.message.contains("no such host"));
        assert_eq!(same, says, "{conditions:?}");
    }
}

#[test]
fn a_changed_image_replaces_and_keeps_volume_port_and_alias() {
    let mut m = model();
    m.settle(&intent(web("web:1"), 1));
    let want = intent(web("web:2"), 2);
    let plan = m.plan(&want);
    assert_eq!(
        text(&m, &plan),
        "workspace/shop -n alice\n\
        \x20 1 replace create dm-ws-alice.shop_next (image: web:1 -> web:2)\n\
        \x20 2 replace stop dm-ws-alice.shop (image: web:1 -> web:2) after 1\n\
        \x20 3 replace start dm-ws-alice.shop_next (image: web:1 -> web:2) after 2\n"
    );
    m.settle(&want);
    assert_eq!(m.states(), ["dm-ws-alice.shop running"]);
    assert_eq!(m.world.container_named("dm-ws-alice.shop").unwrap().image_id, "sha256:web2");
    assert_eq!(m.world.volumes.len(), 1);
}

#[test]
fn limits_change_in_place_and_their_removal_replaces() {
    let mut m = model();
    let limited = |memory: Option<&str>| {
        let mut spec = web("web:1");
        if let Some(memory) = memory {
            spec["resources"] = json!({"memory": memory});
        }
        spec
    };
    m.settle(&intent(limited(Some("512m")), 1));
    let plan = m.plan(&intent(limited(Some("1g")), 2));
    assert_eq!(text(&m, &plan), "workspace/shop -n alice\n  1 update  update dm-ws-alice.shop (resources.memory: 512m -> 1g)\n");
    m.settle(&intent(limited(Some("1g")), 2));
    let plan = m.plan(&intent(limited(None), 3));
    assert!(text(&m, &plan).contains("replace create dm-ws-alice.shop_next"), "{}", text(&m, &plan));
}

#[test]
fn services_start_in_their_order_and_main_last() {
    let (mut m, want) = (model(), intent(with_services(), 1));
    m.settle(&want);
    let starts: Vec<&String> = m.log.iter().filter(|line| line.starts_with("start ")).collect();
    assert_eq!(starts, ["start dm-ws-alice.shop.db", "start dm-ws-alice.shop.cache", "start dm-ws-alice.shop"]);
    // Taking one away removes only it.
    let mut spec = with_services();
    spec["services"].as_object_mut().unwrap().remove("cache");
    m.settle(&intent(spec, 2));
    assert_eq!(m.states(), ["dm-ws-alice.shop running", "dm-ws-alice.shop.db running"]);
}

#[test]
fn what_people_do_to_it_is_mended() {
    let (mut m, want) = (model(), intent(with_services(), 1));
    m.settle(&want);
    let before = m.states();
    let id = m.world.container_named("dm-ws-alice.shop.db").unwrap().id.clone();
    m.world.remove(&id);
    m.settle(&want);
    assert_eq!(m.states(), before, "removed");
    let now = m.now;
    m.meddle("dm-ws-alice.shop", |c| {
        c.state = State::Exited { code: 137 };
        Arc::make_mut(c.details.as_mut().unwrap()).finished = Some(now);
    });
    m.settle(&want);
    assert_eq!(m.states(), before, "killed");
    m.meddle("dm-ws-alice.shop", |c| c.networks.clear());
    m.settle(&want);
    assert_eq!(m.world.container_named("dm-ws-alice.shop").unwrap().networks.len(), 2, "disconnected");
    m.world.networks.clear();
    m.settle(&want);
    assert_eq!(m.states(), before, "networks removed");
}

#[test]
fn after_a_lost_state_what_runs_is_healed_and_what_rests_is_left() {
    let mut spec = web("web:1");
    spec["idle"] = json!({"timeout": "30m"});
    let (mut m, want) = (model(), intent(spec, 1));
    m.settle(&want);
    m.facts = crate::state::Facts::default();
    m.record(Fact::StateLost(true));
    m.settle(&want);
    assert!(!m.facts.state_lost, "it was seen to run");
    m.facts = crate::state::Facts::default();
    m.record(Fact::StateLost(true));
    m.meddle("dm-ws-alice.shop", |c| c.state = State::Exited { code: 143 });
    let plan = m.settle(&want);
    assert_eq!(m.states(), ["dm-ws-alice.shop exited"]);
    assert!(plan.verdict.conditions.iter().any(|c| c.type_ == ConditionType::StateLost));
    m.record(Fact::StartAsked(m.now));
    m.settle(&want);
    assert_eq!(m.states(), ["dm-ws-alice.shop running"]);
}

#[test]
fn a_soft_disk_limit_is_measured_by_the_hour_and_told() {
    let mut spec = web("web:1");
    spec["resources"] = json!({"disk": "512k"});
    let (mut m, want) = (model(), intent(spec, 1));
    let plan = m.settle(&want);
    assert_eq!(plan.verdict.ready, Truth::True);
    m.finish_tasks();
    let plan = m.settle(&want);
    let over = plan.verdict.conditions.iter().find(|c| c.type_ == ConditionType::DiskOverLimit).unwrap();
    assert!(over.message.contains("1m of 512k (soft)"), "{}", over.message);
    assert_eq!(plan.verdict.ready, Truth::True, "it fails nothing");
    let measured = m.log.iter().filter(|line| line.starts_with("measure-disk")).count();
    m.now += SignedDuration::from_mins(61);
    m.settle(&want);
    assert_eq!((measured, m.log.iter().filter(|line| line.starts_with("measure-disk")).count()), (1, 2));
}

#[test]
fn a_crash_loop_backs_off() {
    let (mut m, want) = (model(), intent(web("web:1"), 1));
    m.settle(&want);
    let mut waits = Vec::new();
    for _ in 0..6 {
        m.now += SignedDuration::from_secs(1);
        let now = m.now;
        m.meddle("dm-ws-alice.shop", |c| {
            c.state = State::Exited { code: 1 };
            Arc::make_mut(c.details.as_mut().unwrap()).finished = Some(now);
        });
        m.settle(&want);
        waits.push((m.now - now).get_seconds());
    }
    assert_eq!(waits, [0, 0, 1, 2, 4, 8]);
    m.now += SignedDuration::from_secs(70);
    m.settle(&want);
    assert!(m.facts.exits.is_empty(), "a minute's run ends the loop");
}

#[test]
fn the_last_lines_are_remembered_before_they_go() {
    let (mut m, want) = (model(), intent(web("web:1"), 1));
    m.settle(&want);
    let now = m.now;
    m.meddle("dm-ws-alice.shop", |c| {
        c.state = State::Exited { code: 1 };
        Arc::make_mut(c.details.as_mut().unwrap()).finished = Some(now);
    });
    m.settle(&want);
    assert_eq!(m.facts.previous_log.take().as_deref(), Some("last words of dm-ws-alice.shop\n"), "a crash");
    m.meddle("dm-ws-alice.shop", |c| {
        let details = Arc::make_mut(c.details.as_mut().unwrap());
        (details.restarts, details.finished) = (1, Some(now + SignedDuration::from_secs(5)));
    });
    m.now += SignedDuration::from_secs(6);
    m.settle_waiting(&want);
    assert!(m.facts.previous_log.take().is_some(), "a crash after which the engine started it");
    m.now += SignedDuration::from_secs(60);
    m.settle(&intent(web("web:2"), 2));
    assert!(m.facts.previous_log.take().is_some(), "a replacement");
    let removed = m.log.iter().rposition(|line| line.starts_with("remove ")).unwrap();
    assert!(m.log[..removed].iter().any(|line| line == "record previous-log"), "{:?}", m.log);
    let stone = Tombstone {
        uid: uid(),
        at: m.now,
        until: m.now + SignedDuration::from_hours(168),
        consent: Consent::None,
        purge: false,
        farewell: Farewell::default(),
    };
    m.now += SignedDuration::from_secs(60);
    m.settle(&Intent::Absent(stone));
    assert!(m.facts.previous_log.is_some() && m.states().is_empty(), "a deletion");
}

#[test]
fn an_inherited_change_waits_for_idleness_and_its_turn() {
    let mut m = model();
    m.settle(&intent(web("web:1"), 1));
    // The object's own spec is as it was.
    let want = intent(web("web:2"), 1);
    let pending = |plan: &Plan| plan.verdict.conditions.iter().find(|c| c.type_ == ConditionType::RestartPending).map(|c| c.message.clone());
    let plan = m.plan(&want);
    assert_eq!(pending(&plan).unwrap(), "image: web:1 -> web:2 waits until the workspace is idle; `dockmaster restart` does it now");
    assert!(!plan.nodes.iter().any(|node| node.operation.is_mutating()));
    m.now += SignedDuration::from_mins(11);
    m.standing.inherited_turn = false;
    let plan = m.settle_waiting(&want);
    assert_eq!(pending(&plan).unwrap(), "image: web:1 -> web:2 waits for its turn: two at a time");
    m.standing.inherited_turn = true;
    m.settle(&want);
    assert_eq!(m.world.container_named("dm-ws-alice.shop").unwrap().image_id, "sha256:web2");
}

#[test]
fn a_process_that_may_end_is_completed() {
    let mut spec = web("web:1");
    spec["restart"] = json!("on-failure");
    let (mut m, want) = (model(), intent(spec, 1));
    m.settle(&want);
    let now = m.now;
    m.meddle("dm-ws-alice.shop", |c| {
        c.state = State::Exited { code: 0 };
        Arc::make_mut(c.details.as_mut().unwrap()).finished = Some(now + SignedDuration::from_secs(1));
    });
    m.now += SignedDuration::from_secs(2);
    let plan = m.settle(&want);
    assert_eq!((plan.verdict.phase, plan.verdict.reason), (Phase::Stopped, Reason::Completed));
    m.record(Fact::RestartAsked(m.now));
    m.settle(&want);
    assert_eq!(m.states(), ["dm-ws-alice.shop running"]);
}

#[test]
fn idleness_is_sampled_warned_of_and_stops() {
    let mut spec = web("web:1");
    spec["idle"] = json!({"timeout": "30m"});
    let (mut m, want) = (model(), intent(spec, 1));
    m.settle(&want);
    let begun = m.facts.activity.clone().unwrap().0;
    let plan = m.plan(&want);
    assert_eq!(plan.next.as_ref().unwrap().at, begun + SignedDuration::from_mins(30));
    m.now = begun + SignedDuration::from_mins(28);
    m.settle(&want);
    assert!(m.log.iter().any(|line| line == "record warned"), "{:?}", m.log);
    m.now = begun + SignedDuration::from_mins(31);
    let plan = m.settle(&want);
    assert_eq!((plan.verdict.phase, plan.verdict.reason, plan.verdict.ready), (Phase::Stopped, Reason::Idle, Truth::True));
    assert_eq!(m.states(), ["dm-ws-alice.shop exited"]);
    m.now += SignedDuration::from_hours(5);
    assert!(m.plan(&want).is_empty(), "it stays stopped");
    m.record(Fact::StartAsked(m.now));
    m.settle(&want);
    assert_eq!(m.states(), ["dm-ws-alice.shop running"]);
}

#[test]
fn traffic_and_a_busy_answer_put_the_stop_off() {
    let mut spec = web("web:1");
    spec["idle"] = json!({"timeout": "30m", "check": {"exec": ["busy"]}});
    let (mut m, want) = (model(), intent(spec, 1));
    m.settle(&want);
    let id = m.world.container_named("dm-ws-alice.shop").unwrap().id.clone();
    m.now += SignedDuration::from_mins(31);
    let sample = TaskResult::Sample { sent: 1 << 20, execs: Vec::new() };
    m.world.tasks.insert(TaskKey::Sample(id.clone()), TaskState::Done { at: m.now, result: sample });
    m.settle(&want);
    assert_eq!(m.facts.activity.as_ref().unwrap().1, "network");
    m.now += SignedDuration::from_mins(31);
    let busy = TaskResult::Exit { code: 1, output: String::new() };
    m.world.tasks.insert(TaskKey::IdleCheck(id), TaskState::Done { at: m.now, result: busy });
    let same = TaskResult::Sample { sent: 1 << 20, execs: Vec::new() };
    let sample = TaskKey::Sample(m.world.container_named("dm-ws-alice.shop").unwrap().id.clone());
    m.world.tasks.insert(sample, TaskState::Done { at: m.now, result: same });
    m.settle(&want);
    assert_eq!(m.facts.activity.as_ref().unwrap().1, "check");
    assert_eq!(m.states(), ["dm-ws-alice.shop running"]);
}

#[test]
fn lifetime_hours_and_a_persons_stop() {
    let mut spec = web("web:1");
    spec["maxLifetime"] = json!("2h");
    let (mut m, want) = (model(), intent(spec.clone(), 1));
    m.settle(&want);
    m.now += SignedDuration::from_hours(3);
    assert_eq!(m.settle(&want).verdict.reason, Reason::Lifetime);
    spec["state"] = json!("Stopped");
    assert_eq!(m.settle(&intent(spec.clone(), 2)).verdict.reason, Reason::Stopped);
    spec["state"] = json!("Running");
    assert_eq!(m.settle(&intent(spec, 3)).verdict.reason, Reason::Running, "declared again after a declared stop");

    let mut m = model();
    let mut spec = web("web:1");
    spec["runningHours"] = json!({"days": "Mon-Fri", "from": "08:00", "to": "19:00"});
    let want = intent(spec, 1);
    m.settle(&want);
    assert_eq!(m.states(), ["dm-ws-alice.shop running"]);
    m.now = "2026-03-02T19:00:01Z".parse().unwrap();
    let plan = m.settle(&want);
    assert_eq!(plan.verdict.reason, Reason::OutsideHours);
    assert_eq!(plan.next.unwrap().at.to_string(), "2026-03-03T08:00:00Z");
    m.record(Fact::StartAsked(m.now));
    m.settle(&want);
    assert_eq!(m.states(), ["dm-ws-alice.shop running"], "a start outside the hours gives an hour");
    m.now += SignedDuration::from_mins(61);
    m.settle(&want);
    assert_eq!(m.states(), ["dm-ws-alice.shop exited"]);
    m.now = "2026-03-03T08:00:00Z".parse().unwrap();
    m.settle(&want);
    assert_eq!(m.states(), ["dm-ws-alice.shop running"], "and it comes up by itself");
}

#[test]
fn a_replacement_that_fails_is_undone_and_not_tried_again() {
    let mut m = model();
    m.settle(&intent(web("web:1"), 1));
    let want = intent(web("web:2"), 2);
    let plan = m.plan(&want);
    m.apply(&plan, usize::MAX);
    let now = m.now;
    m.meddle("dm-ws-alice.shop_next", |c| {
        c.state = State::Restarting;
        Arc::make_mut(c.details.as_mut().unwrap()).finished = Some(now);
    });
    let plan = m.settle(&want);
    assert_eq!(m.states(), ["dm-ws-alice.shop running"]);
    assert_eq!(m.world.container_named("dm-ws-alice.shop").unwrap().image_id, "sha256:web1");
    assert!(plan.verdict.conditions.iter().any(|c| c.type_ == ConditionType::UpdateFailed), "{:?}", plan.verdict);
    m.settle(&intent(web("web:1"), 3));
    assert!(m.plan(&intent(web("web:1"), 3)).is_empty());
}

#[test]
fn a_replacement_that_stands_still_is_thawed() {
    let mut m = model();
    m.settle(&intent(web("web:1"), 1));
    let want = intent(web("web:2"), 2);
    let plan = m.plan(&want);
    m.apply(&plan, usize::MAX);
    m.meddle("dm-ws-alice.shop_next", |c| c.state = State::Paused);
    m.settle(&want);
    assert_eq!(m.states(), ["dm-ws-alice.shop running"]);
    assert_eq!(m.world.container_named("dm-ws-alice.shop").unwrap().image_id, "sha256:web2");
}

#[test]
fn a_clock_that_is_set_back_delays_no_replacement_and_no_restart() {
    let mut m = model();
    m.settle(&intent(web("web:1"), 1));
    let want = intent(web("web:2"), 2);
    let plan = m.plan(&want);
    m.apply(&plan, usize::MAX);
    m.now -= SignedDuration::from_hours(24);
    let back = m.now;
    m.settle(&want);
    assert_eq!(m.world.container_named("dm-ws-alice.shop").unwrap().image_id, "sha256:web2");
    // A loop before that does not count, one after it does.
    m.record(Fact::Exited(m.now + SignedDuration::from_hours(24)));
    let mut waits = Vec::new();
    for _ in 0..5 {
        m.now += SignedDuration::from_secs(1);
        let now = m.now;
        m.meddle("dm-ws-alice.shop", |c| {
            c.state = State::Exited { code: 1 };
            Arc::make_mut(c.details.as_mut().unwrap()).finished = Some(now);
        });
        m.settle(&want);
        waits.push((m.now - now).get_seconds());
    }
    assert_eq!(waits, [0, 0, 1, 2, 4]);
    assert!(m.now < back + SignedDuration::from_mins(2));
}

#[test]
fn an_unhealthy_workspace_is_not_ready() {
    let mut spec = web("web:1");
    spec["health"] = json!({"test": ["CMD", "true"]});
    let (mut m, want) = (model(), intent(spec, 1));
    m.settle(&want);
    m.meddle("dm-ws-alice.shop", |c| c.state = State::Running(HealthState::Unhealthy));
    let plan = m.plan(&want);
    assert_eq!((plan.verdict.ready, plan.verdict.reason), (Truth::False, Reason::Unhealthy));
    // Without a start interval of the engine's own, the operator asks itself.
    m.capabilities.api = (1, 41);
    m.meddle("dm-ws-alice.shop", |c| c.state = State::Running(HealthState::Starting));
    let plan = m.plan(&want);
    assert!(plan.nodes.iter().any(|node| matches!(node.operation, Operation::Begin(TaskKey::Probe(_), _))), "{}", text(&m, &plan));
    m.apply(&plan, usize::MAX);
    m.finish_tasks();
    assert_eq!(m.plan(&want).verdict.ready, Truth::True);
}

#[test]
fn deletion_keeps_data_until_the_tombstone_ends_and_then_only_goes_with_consent() {
    let (mut m, want) = (model(), intent(with_services(), 1));
    m.settle(&want);
    let mut stone = Tombstone {
        uid: uid(),
        at: m.now,
        until: m.now + SignedDuration::from_hours(168),
        consent: Consent::None,
        purge: false,
        farewell: Farewell::default(),
    };
    m.settle(&Intent::Absent(stone.clone()));
    assert!(m.states().is_empty());
    assert_eq!(m.world.networks.len(), 1, "the namespace's stays");
    assert!(m.plan(&Intent::Absent(stone.clone())).is_empty());
    m.now = stone.until;
    let names = |plan: &Plan| plan.nodes.iter().map(|n| n.operation.name()).collect::<Vec<_>>();
    assert_eq!(names(&m.plan(&Intent::Absent(stone.clone()))), ["release"]);
    stone.consent = Consent::DeleteInSpec;
    assert_eq!(names(&m.plan(&Intent::Absent(stone))), ["remove-volume", "release"]);
}

#[test]
fn over_quota_it_waits_and_what_runs_is_left() {
    let (mut m, want) = (model(), intent(web("web:1"), 1));
    m.standing.over_quota = Some("two at most".to_owned());
    let plan = m.plan(&want);
    assert!(plan.is_empty());
    assert_eq!((plan.verdict.phase, plan.verdict.reason), (Phase::Pending, Reason::QuotaExceeded));
    m.standing.over_quota = None;
    m.settle(&want);
    m.standing.over_quota = Some("two at most".to_owned());
    assert_eq!(m.plan(&want).verdict.reason, Reason::Running);
}

#[test]
fn foreign_things_are_never_touched() {
    let (mut m, want) = (model(), intent(web("web:1"), 1));
    m.settle(&want);
    let mut foreign = m.world.container_named("dm-ws-alice.shop").unwrap().clone();
    let mut other = model();
    foreign.owner = None;
    foreign.labels.clear();
    other.world.insert(foreign);
    let plan = other.plan(&want);
    assert!(plan.nodes.iter().all(|node| node.operation.name() != "create"), "{}", text(&other, &plan));
    assert_eq!(plan.verdict.reason, Reason::NameConflict);
    // Nor is what has the name that a replacement would have for a while.
    let mut replaced = model();
    replaced.settle(&want);
    let mut foreign = other.world.container_named("dm-ws-alice.shop").unwrap().clone();
    (foreign.id, foreign.name) = (crate::observed::ContainerId("other".to_owned()), "dm-ws-alice.shop_next".to_owned());
    replaced.world.insert(foreign.clone());
    let plan = replaced.plan(&intent(web("web:2"), 2));
    assert!(plan.nodes.iter().all(|node| !node.operation.is_mutating()), "{}", text(&replaced, &plan));
    assert_eq!(plan.verdict.reason, Reason::NameConflict);
    assert!(plan.verdict.message.contains("dm-ws-alice.shop_next"), "{}", plan.verdict.message);
    replaced.world.remove(&foreign.id);
    replaced.settle(&intent(web("web:2"), 2));
    other.world.volumes = m.world.volumes.clone().into_iter().map(|(name, volume)| (name, Volume { owner: None, ..volume })).collect();
    assert_eq!(other.plan(&want).verdict.reason, Reason::VolumeConflict);
}

/// Every transition, interrupted after every number of operations, ends where it would have ended.
#[test]
fn a_crash_at_every_step_ends_right() {
    let mut hooked = web("web:1");
    hooked["hooks"] = json!({"postCreate": ["a"], "postStart": ["b"], "preStop": ["c"]});
    let mut stopped = web("web:1");
    stopped["state"] = json!("Stopped");
    let transitions = [
        (None, web("web:1")),
        (Some(web("web:1")), web("web:2")),
        (Some(web("web:1")), stopped.clone()),
        (Some(stopped), web("web:2")),
        (None, with_services()),
        (Some(with_services()), web("web:1")),
        (Some(web("web:1")), with_services()),
        (Some(hooked.clone()), web("web:2")),
        (Some(web("far:1")), hooked),
    ];
    for (index, (from, to)) in transitions.into_iter().enumerate() {
        let start = || {
            let mut m = model();
            if let Some(from) = &from {
                m.settle(&intent(from.clone(), 1));
            }
            m
        };
        let want = intent(to, 2);
        let mut reference = start();
        reference.settle(&want);
        for first in 0..12 {
            for crash in 0..14 {
                let mut m = start();
                for round in 0..=first {
                    let plan = m.plan(&want);
                    m.apply(&plan, if round == first { crash } else { usize::MAX });
                    m.finish_tasks();
                    m.now += SignedDuration::from_secs(1);
                }
                // A crash loses long work.
                m.world.tasks.clear();
                m.settle(&want);
                assert_eq!(m.states(), reference.states(), "transition {index}, crash in round {first} after {crash} operations: {:?}", m.log);
                assert_eq!(m.world.volumes.len(), reference.world.volumes.len());
                assert!(m.plan(&want).nodes.iter().all(|node| !node.operation.is_mutating()));
            }
        }
    }
}
