//! The steps of a copy and of an expiry, each at its boundary: when it may begin, how long the workspace is kept still, and what goes when.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::preview_tests::{BOTH, Pair, spec};
use super::workload_tests::{acts, changed, place};
use super::{Operation, SourceStanding, WaitKey};
use crate::desired::{HookPoint, Intent, naming};
use crate::observed::{HealthState, State, TaskKey, TaskResult, TaskState};
use crate::resource::status::Phase;
use crate::resource::{ConditionType, Kind, ObjectRef, Reason};
use crate::state::Fact;

const SHOP: &str = "dm-ws-alice.shop";
const DB: &str = "dm-ws-alice.shop.db";
const DELTA: &str = "dm-pv-alice.demo_delta";

fn secs(secs: i64) -> SignedDuration {
    SignedDuration::from_secs(secs)
}

fn shop() -> ObjectRef {
    ObjectRef::new(Kind::Workspace, "alice", "shop")
}

/// The helper of the last pass is made and not started; and when it was made.
fn prepared(mode: &str) -> (Pair, Timestamp) {
    let mut pair = Pair::new(mode);
    while pair.m.world.container_named(DELTA).is_none() {
        pair.step_demo(usize::MAX);
        pair.go_on();
    }
    let made = pair.m.world.container_named(DELTA).unwrap().created;
    (pair, made)
}

/// Whether the preview begins its copy now.
fn begins(pair: &mut Pair) -> bool {
    acts(&pair.plan_demo()).contains(&"create dm-pv-alice.demo_copy".to_owned())
}

#[test]
fn over_quota_a_preview_that_is_not_there_waits_and_one_that_is_runs_on() {
    let mut pair = Pair::new("Pause");
    pair.m.standing.over_quota = Some("two at most".to_owned());
    let plan = pair.plan_demo();
    assert!(plan.is_empty(), "{plan:?}");
    assert_eq!((plan.verdict.phase, plan.verdict.reason, plan.verdict.message.as_str()), (Phase::Creating, Reason::QuotaExceeded, "two at most"));
    assert_eq!(plan.waiting[0].on, WaitKey::Roster("alice".to_owned()));
    pair.m.standing.over_quota = None;
    pair.settle();
    pair.m.standing.over_quota = Some("two at most".to_owned());
    assert_eq!(pair.plan_demo().verdict.reason, Reason::Running);
}

#[test]
fn where_there_is_nothing_to_copy_the_preview_is_made_at_once() {
    let mut pair = Pair::new("Pause");
    pair.demo = changed(pair.demo, |desired| desired.preview.as_mut().unwrap().copy.as_mut().unwrap().volumes.clear());
    assert!(acts(&pair.plan_demo()).contains(&"create dm-pv-alice.demo".to_owned()) && !begins(&mut pair));
}

#[test]
fn a_copy_begins_when_main_is_past_its_start() {
    let running = State::Running(HealthState::None);
    let starting = State::Running(HealthState::Starting);
    // The state of main, the exit code of the operator's own test, the hook that runs, and whether the copy begins.
    let rows = [
        (State::Created, None, None, false),
        (State::Dead, None, None, false),
        (State::Removing, None, None, false),
        (starting, None, None, false),
        (starting, Some(1), None, false),
        (starting, Some(0), None, true),
        (starting, Some(0), Some(HookPoint::PostStart), false),
        (running, None, None, true),
        (running, None, Some(HookPoint::PostCreate), false),
        (running, None, Some(HookPoint::PostStart), false),
        (running, None, Some(HookPoint::PreStop), true),
        (State::Running(HealthState::Healthy), None, None, true),
        (State::Running(HealthState::Unhealthy), None, None, true),
        (State::Paused, None, None, true),
        (State::Restarting, None, None, true),
        (State::Exited { code: 1 }, None, None, true),
    ];
    for row @ (state, tested, hook, expected) in rows {
        let mut pair = Pair::new("Pause");
        let (id, now) = (pair.m.world.container_named(SHOP).unwrap().id.clone(), pair.m.now);
        pair.m.meddle(SHOP, |c| c.state = state);
        if let Some(code) = tested {
            let result = TaskResult::Exit { code, output: String::new() };
            pair.m.world.tasks.insert(TaskKey::Probe(id.clone()), TaskState::Done { at: now, result });
        }
        if let Some(hook) = hook {
            let key = TaskKey::Hook(id, hook.as_str().to_owned());
            pair.m.world.tasks.insert(key.clone(), TaskState::Running { since: now, progress: String::new(), failed: None });
            assert_eq!(begins(&mut pair), expected, "{row:?}");
            let result = TaskResult::Exit { code: 0, output: String::new() };
            pair.m.world.tasks.insert(key, TaskState::Done { at: now, result });
            assert!(begins(&mut pair), "{row:?}, its hook has ended");
            continue;
        }
        assert_eq!(begins(&mut pair), expected, "{row:?}");
        if !expected {
            let waiting = pair.plan_demo().waiting;
            assert!(waiting[0].on == WaitKey::Object(shop()) && waiting[0].reason.ends_with("to run, or to have run"), "{waiting:?}");
        }
    }
}

#[test]
fn a_copy_begins_only_with_all_volumes_of_this_life_of_its_workspace() {
    let mut pair = Pair::new("Pause");
    let gone = pair.m.world.volumes.remove("dm-vol-alice.shop.data").unwrap();
    let plan = pair.plan_demo();
    assert!(!begins(&mut pair) && plan.verdict.phase == Phase::Creating, "it may come yet: {plan:?}");
    pair.m.world.volumes.insert(gone.name.clone(), gone);
    assert!(begins(&mut pair));
    for name in [SHOP, DB] {
        pair.m.meddle(name, |c| c.owner.as_mut().unwrap().uid.0.push('9'));
    }
    assert!(!begins(&mut pair), "its containers are those of another life");
}

#[test]
fn a_workspace_that_is_being_taken_down_is_waited_for() {
    let mut pair = Pair::new("Pause");
    pair.m.standing.source = SourceStanding::Gone;
    let waiting = pair.plan_demo().waiting;
    assert!(waiting.iter().any(|waiting| waiting.on == WaitKey::Object(shop()) && waiting.reason.ends_with("to be taken down")), "{waiting:?}");
    assert!(!begins(&mut pair));
    for name in [SHOP, DB] {
        let id = pair.m.world.container_named(name).unwrap().id.clone();
        pair.m.world.remove(&id);
    }
    assert!(begins(&mut pair));
}

#[test]
fn a_suspended_workspace_is_copied_only_where_it_has_run_and_needs_not_be_kept_still() {
    let (running, stopped) = (State::Running(HealthState::None), State::Exited { code: 0 });
    let rows = [
        ("Live", State::Created, true),
        ("Live", running, false),
        ("Pause", running, true),
        ("Stop", running, true),
        ("Pause", stopped, false),
        ("Stop", stopped, false),
    ];
    for (mode, state, waits) in rows {
        let mut pair = Pair::new(mode);
        pair.m.standing.source = SourceStanding::Suspended;
        for name in [SHOP, DB] {
            pair.m.meddle(name, |c| c.state = state);
        }
        assert_eq!(begins(&mut pair), !waits, "{mode}, {state:?}");
        let plan = pair.step_demo(usize::MAX);
        assert_eq!(plan.verdict.reason == Reason::WaitingOn, waits, "{mode}, {state:?}");
        if waits {
            // Its own volumes are made and remembered first.
            assert_eq!((plan.verdict.stalled, plan.verdict.reconciling), (false, true));
            pair.step_demo(usize::MAX);
            let plan = pair.plan_demo();
            assert_eq!((plan.is_empty(), plan.verdict.stalled, plan.verdict.reconciling), (true, true, false));
        }
    }
}

#[test]
fn a_copy_whose_helper_image_cannot_be_made_says_so() {
    let mut pair = Pair::new("Pause");
    pair.m.world.helper = None;
    let plan = pair.step_demo(usize::MAX);
    assert_eq!((plan.verdict.phase, plan.verdict.reason), (Phase::Creating, Reason::Copying));
    let failed = TaskState::Failed { at: pair.m.now, attempts: 1, error: "no space left".to_owned() };
    pair.m.world.tasks.insert(TaskKey::Helper, failed);
    pair.m.world.helper = None;
    let plan = pair.plan_demo();
    assert_eq!((plan.verdict.phase, plan.verdict.reason), (Phase::Creating, Reason::HelperUnavailable));
    assert!(plan.verdict.message.contains("no space left") && plan.verdict.reconciling, "{:?}", plan.verdict);
}

#[test]
fn a_last_pass_that_was_not_begun_within_thirty_seconds_is_prepared_anew() {
    let (mut pair, made) = prepared("Pause");
    pair.m.now = made + secs(29);
    assert_eq!(acts(&pair.plan_demo()), [format!("pause {DB}"), format!("pause {SHOP}"), format!("start {DELTA}")]);
    pair.m.now = made + secs(30);
    assert_eq!(acts(&pair.plan_demo()), [format!("remove {DELTA}")]);
    // What a crash left paused is thawed before.
    pair.m.meddle(SHOP, |c| c.state = State::Paused);
    let plan = pair.plan_demo();
    assert_eq!(acts(&plan), [format!("unpause {SHOP}"), format!("remove {DELTA}")]);
    assert_eq!(plan.nodes[place(&plan, &format!("remove {DELTA}"))].depends_on, [place(&plan, &format!("unpause {SHOP}"))]);
    pair.settle();
    assert_eq!(pair.m.states(), BOTH);
}

/// Found by the harness: `preview-expires-and-source-goes` with a stale listing, after which the workspace stayed paused.
#[test]
fn a_last_pass_does_not_end_while_its_source_is_not_seen() {
    for code in [0, 1] {
        let (mut pair, _) = prepared("Pause");
        pair.step_demo(usize::MAX);
        pair.go_on();
        pair.m.meddle(DELTA, |c| c.state = State::Exited { code });
        let seen = pair.m.world.clone();
        for name in [SHOP, DB] {
            let id = pair.m.world.container_named(name).unwrap().id.clone();
            pair.m.world.remove(&id);
        }
        let plan = pair.plan_demo();
        assert_eq!((acts(&plan).len(), plan.recheck, plan.verdict.reason), (0, Some(pair.m.now + secs(1)), Reason::Copying));
        // It may be gone for good.
        let (now, ended) = (pair.m.now, pair.m.world.container_named(DELTA).unwrap().details.as_ref().unwrap().finished.unwrap());
        pair.m.now = ended + secs(29);
        assert_eq!(pair.plan_demo().recheck, Some(ended + secs(30)));
        pair.m.now = ended + secs(30);
        assert_eq!((acts(&pair.plan_demo()).is_empty(), pair.plan_demo().verdict.reason == Reason::CopyFailed), (code != 0, code != 0));
        pair.m.standing.source = SourceStanding::Gone;
        pair.m.now = now;
        assert_eq!(acts(&pair.plan_demo()).is_empty(), code != 0);
        pair.m.standing.source = SourceStanding::Declared;
        pair.m.world = seen;
        assert!(acts(&pair.plan_demo()).contains(&format!("unpause {SHOP}")));
    }
}

#[test]
fn a_last_pass_that_takes_thirty_seconds_is_ended_and_tried_again_when_somebody_asks() {
    let (mut pair, _) = prepared("Pause");
    pair.step_demo(usize::MAX);
    let limit = pair.m.now + secs(30);
    pair.m.now = limit - secs(1);
    let plan = pair.plan_demo();
    assert_eq!((acts(&plan).len(), plan.waiting[0].until), (0, Some(limit)));
    pair.m.now = limit;
    assert_eq!(acts(&pair.step_demo(usize::MAX)), [format!("stop {DELTA}")]);
    // The workspace goes on first.
    let plan = pair.step_demo(usize::MAX);
    assert_eq!(acts(&plan), [format!("unpause {DB}"), format!("unpause {SHOP}")]);
    assert_eq!((plan.recheck, plan.verdict.reason), (Some(pair.m.now + secs(1)), Reason::Copying));
    let plan = pair.plan_demo();
    assert_eq!((plan.is_empty(), plan.verdict.phase, plan.verdict.reason, plan.verdict.stalled), (true, Phase::Error, Reason::CopyFailed, true));
    assert!(plan.verdict.message.contains("took over 30 s or failed (exit code 143); `dockmaster restart` tries again"), "{}", plan.verdict.message);
    assert!(plan.verdict.conditions.iter().any(|c| c.type_ == ConditionType::CopyFailed));
    pair.other.1.apply(&Fact::RestartAsked(pair.m.now));
    let plan = pair.plan_demo();
    let removed = ["remove dm-pv-alice.demo_copy".to_owned(), format!("remove {DELTA}")];
    assert_eq!((acts(&plan), plan.verdict.stalled), (removed.to_vec(), false));
    assert_eq!(plan.nodes[place(&plan, "record restart-done")].depends_on, removed.map(|removed| place(&plan, &removed)));
    pair.settle();
    assert_eq!((pair.m.states(), pair.other.1.restart_asked), (BOTH.map(str::to_owned).to_vec(), None));
}

#[test]
fn after_the_last_pass_what_stood_still_for_it_goes_on_and_nothing_else() {
    // How main and its service are, and when they ended last: so many seconds after the pass was prepared.
    type Source = (State, Option<i64>);
    let going_on = |mode: &str, code: i64, main: Source, db: Source| {
        let (mut pair, made) = prepared(mode);
        for (name, (state, finished)) in [(SHOP, main), (DB, db)] {
            pair.m.meddle(name, |c| {
                c.state = state;
                Arc::make_mut(c.details.as_mut().unwrap()).finished = finished.map(|after| made + secs(after));
            });
        }
        pair.m.meddle(DELTA, |c| c.state = State::Exited { code });
        let all = acts(&pair.plan_demo());
        all.into_iter().filter(|line| line.starts_with("unpause ") || line.starts_with("start ")).collect::<Vec<_>>()
    };
    let running = (State::Running(HealthState::None), None);
    let paused = (State::Paused, None);
    let ended = |after: i64| (State::Exited { code: 143 }, Some(after));
    let (thaw, start) = (|name: &str| format!("unpause {name}"), |name: &str| format!("start {name}"));
    // A pause may not have been seen yet.
    assert_eq!(going_on("Pause", 0, running, paused), [thaw(SHOP), thaw(DB)]);
    assert_eq!(going_on("Pause", 1, running, paused), [thaw(DB)]);
    assert_eq!(going_on("Pause", 0, ended(0), paused), [thaw(DB)]);
    assert_eq!(going_on("Stop", 0, running, paused), [thaw(DB)]);
    // What ended before the pass was prepared was not stopped for it.
    assert_eq!(going_on("Stop", 0, ended(0), ended(-1)), [start(SHOP)]);
    assert_eq!(going_on("Stop", 1, ended(-1), ended(0)), [start(DB)]);
    assert!(going_on("Stop", 0, (running.0, Some(1)), ended(-1)).is_empty());
}

#[test]
fn a_pause_is_taken_for_the_copys_for_a_minute_after_it_was_prepared() {
    let (mut pair, made) = prepared("Pause");
    pair.m.meddle(SHOP, |c| c.state = State::Paused);
    pair.m.now = made + secs(59);
    let plan = pair.m.plan(&pair.shop);
    assert_eq!((plan.is_empty(), plan.recheck, plan.verdict.reason), (true, Some(made + secs(60)), Reason::Copying));
    pair.m.now = made + secs(60);
    assert_eq!(acts(&pair.m.plan(&pair.shop)), [format!("unpause {SHOP}")]);
    // No copy, so that it is a person's: that of another namespace is none of it.
    let helper = pair.m.world.container_named(DELTA).unwrap().id.clone();
    pair.m.meddle(DELTA, |c| c.owner.as_mut().unwrap().object.namespace = Some("bob".to_owned()));
    let plan = pair.m.plan(&pair.shop);
    assert_eq!((plan.is_empty(), plan.verdict.reason), (true, Reason::Paused));
    pair.m.world.remove(&helper);
    let plan = pair.m.plan(&pair.shop);
    assert_eq!((plan.is_empty(), plan.verdict.reason), (true, Reason::Paused));
}

#[test]
fn what_a_copy_stopped_is_left_so_for_a_minute_while_its_last_pass_is_under_way() {
    let running = State::Running(HealthState::None);
    let rows = [(State::Created, 59, true), (State::Created, 60, false), (running, 59, true), (running, 60, false), (State::Exited { code: 0 }, 59, false)];
    for (state, after, held) in rows {
        let (mut pair, made) = prepared("Stop");
        pair.m.meddle(DELTA, |c| c.state = state);
        pair.m.meddle(SHOP, |c| {
            c.state = State::Exited { code: 143 };
            Arc::make_mut(c.details.as_mut().unwrap()).finished = Some(made);
        });
        pair.m.now = made + secs(after);
        let plan = pair.m.plan(&pair.shop);
        assert_eq!(plan.verdict.reason == Reason::Copying, held, "{state:?} after {after} s: {plan:?}");
        if held {
            assert_eq!((plan.is_empty(), plan.recheck), (true, Some(pair.m.now + secs(2))));
        }
    }
}

fn expires_at(pair: &Pair) -> Timestamp {
    let Intent::Present(desired) = &pair.demo else { unreachable!() };
    desired.preview.as_ref().unwrap().expires_at
}

#[test]
fn an_expired_preview_leaves_a_marker_for_a_week_and_touches_nothing_of_its_workspace() {
    let mut pair = Pair::new("Pause");
    pair.settle();
    let (expires, week) = (expires_at(&pair), SignedDuration::from_hours(7 * 24));
    let marker = "dm-pv-alice.demo.expired";
    pair.m.now = expires - secs(1);
    let plan = pair.plan_demo();
    assert_eq!((plan.is_empty(), plan.verdict.phase, plan.recheck), (true, Phase::Running, Some(expires)));
    pair.m.now = expires;
    let plan = pair.plan_demo();
    let all = acts(&plan);
    assert_eq!((all[0].as_str(), plan.recheck), (format!("create-volume {marker}").as_str(), Some(expires + week)));
    assert!(all.contains(&"remove dm-pv-alice.demo".to_owned()) && all.iter().all(|line| line.contains("alice.demo")), "{all:?}");
    pair.settle();
    assert_eq!(pair.m.states(), BOTH[2..]);
    // Until the last second it is made again when somebody removes it.
    let over = pair.other.1.expired.unwrap() + week;
    pair.m.now = over - secs(1);
    let plan = pair.plan_demo();
    assert_eq!((plan.is_empty(), plan.verdict.phase, plan.recheck), (true, Phase::Expired, Some(over)));
    let kept = pair.m.world.volumes.remove(marker).unwrap();
    assert_eq!(acts(&pair.plan_demo()), [format!("create-volume {marker}")]);
    pair.m.now = over;
    let plan = pair.plan_demo();
    assert_eq!((plan.is_empty(), plan.recheck), (true, None), "{plan:?}");
    pair.m.world.volumes.insert(marker.to_owned(), kept);
    assert_eq!(acts(&pair.plan_demo()), [format!("remove-volume {marker}")]);
}

#[test]
fn a_preview_that_expires_runs_the_hook_of_its_main_container_first() {
    let mut hooked = spec();
    hooked["hooks"] = json!({"preStop": ["save"]});
    let mut pair = Pair::of(hooked, "Live");
    pair.settle();
    pair.m.now = expires_at(&pair);
    let plan = pair.plan_demo();
    let main = pair.m.world.container_named(&naming::container_name("dm", &ObjectRef::new(Kind::Preview, "alice", "demo"), None)).unwrap();
    let hooks: Vec<_> =
        plan.nodes.iter().filter_map(|node| if let Operation::Begin(TaskKey::Hook(id, _), _) = &node.operation { Some(id) } else { None }).collect();
    assert_eq!(hooks, [&main.id]);
    assert!(acts(&plan).iter().all(|line| !line.starts_with("stop ") && !line.starts_with("remove ")), "{:?}", acts(&plan));
    pair.step_demo(usize::MAX);
    pair.settle();
    assert_eq!(pair.m.states(), BOTH[2..]);
}
