//! What a status says of a workspace on a small engine.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::project::{Projection, definition, project, unknown};
use crate::desired::{DesiredState, Intent, PreviewWant, Role};
use crate::observed::{ContainerId, HealthState, Slot, State};
use crate::planner::model::{Model, intent};
use crate::planner::{Plan, Verdict, WaitKey, Waiting};
use crate::resource::status::{ActivityStatus, Next, NextAction, Phase, Status};
use crate::resource::{Condition, ConditionType, Duration, Reason, Truth, Uid};

const MAIN: &str = "dm-ws-alice.shop";

fn seconds(count: i64) -> SignedDuration {
    SignedDuration::from_secs(count)
}

fn millis(count: i64) -> SignedDuration {
    SignedDuration::from_millis(count)
}

fn spec() -> Value {
    json!({
        "image": "web:1",
        "ports": [{"name": "dns", "container": 53, "publish": 5353, "protocol": "udp"}, {"name": "http", "container": 8080, "publish": 8001}],
        "services": {"db": {"image": "db:1"}, "cache": {"image": "db:1"}},
    })
}

/// A workspace, what became of it, and what its status is made of.
struct Case {
    m: Model,
    desired: Option<DesiredState>,
    before: Option<Status>,
    address: IpAddr,
}

impl Case {
    /// It has run for a while, by a clock that shows parts of a second.
    fn running() -> Self {
        let mut m = Model::new("shop");
        m.now += millis(250);
        for image in ["web:1", "db:1"] {
            m.world.images.insert(image.to_owned(), format!("sha256:{image}"));
        }
        let Intent::Present(desired) = intent(spec(), 3) else { unreachable!() };
        m.settle(&Intent::Present(desired.clone()));
        m.facts.activity = None;
        m.now += seconds(600);
        Self { m, desired: Some(*desired), before: None, address: IpAddr::from([127, 0, 0, 1]) }
    }

    fn status(&self, plan: &Plan) -> Status {
        let p = Projection {
            object: &self.m.object,
            generation: 3,
            desired: self.desired.as_ref(),
            world: &self.m.world,
            facts: &self.m.facts,
            before: self.before.as_ref(),
            address: self.address,
            now: self.m.now,
        };
        project(&p, plan)
    }

    /// A second container, like that one but for this.
    fn beside(&mut self, name: &str, id: &str, change: impl FnOnce(&mut crate::observed::Container)) {
        let mut container = self.m.world.container_named(name).unwrap().clone();
        (container.id, container.name) = (ContainerId(id.to_owned()), format!("{name}-{id}"));
        change(&mut container);
        self.m.world.insert(container);
    }

    /// The names that the status shows for the services, with their states.
    fn services(&self) -> Vec<(String, String, bool, Option<String>)> {
        self.status(&ready()).services.into_iter().map(|s| (s.name, s.state, s.ready, s.id)).collect()
    }
}

fn ready() -> Plan {
    Plan::idle(Verdict::new(Phase::Running, Truth::True, Reason::Running, "it runs"))
}

fn not_ready(ready: Truth) -> Plan {
    Plan::idle(Verdict::new(Phase::Starting, ready, Reason::Starting, "it starts"))
}

fn wait(until: Option<Timestamp>, reason: &str) -> Waiting {
    Waiting { on: WaitKey::Time, until, reason: reason.to_owned() }
}

fn other_life() -> Uid {
    Uid("01936f2e-7b7c-7000-8000-00000000000f".to_owned())
}

fn short_id(case: &Case, name: &str) -> String {
    case.m.world.container_named(name).unwrap().id.short().to_owned()
}

#[test]
fn a_running_workspace_in_full() {
    let mut case = Case::running();
    case.m.facts.activity = Some((case.m.now - millis(60_100), "exec".to_owned()));
    let restarted = |c: &mut crate::observed::Container| Arc::make_mut(c.details.as_mut().unwrap()).restarts = 2;
    case.m.meddle(MAIN, restarted);
    let mut plan = ready();
    plan.next = Some(Next { action: NextAction::Stop, at: case.m.now + seconds(3600), why: "idle".to_owned() });
    let started = case.m.world.container_named(MAIN).unwrap().details.as_ref().unwrap().started.unwrap();
    let whole = Timestamp::from_second(started.as_second()).unwrap();
    assert_ne!(started, whole, "the clock shows parts of a second");
    let now = Timestamp::from_second(case.m.now.as_second()).unwrap();
    assert_eq!(
        serde_json::to_value(case.status(&plan)).unwrap(),
        json!({
            "observedGeneration": 3,
            "phase": "Running",
            "url": "http://127.0.0.1:8001/",
            "ports": [{"name": "dns", "container": 53, "host": 5353, "protocol": "udp"}, {"name": "http", "container": 8080, "host": 8001}],
            "container": {"id": short_id(&case, MAIN), "name": MAIN, "image": "sha256:web:1", "startedAt": whole, "restarts": 2},
            "services": [
                {"name": "cache", "state": "running", "ready": true, "id": short_id(&case, "dm-ws-alice.shop.cache")},
                {"name": "db", "state": "running", "ready": true, "id": short_id(&case, "dm-ws-alice.shop.db")},
            ],
            "activity": {"last": now - seconds(60), "by": "exec"},
            "next": {"action": "Stop", "at": now + seconds(3600), "why": "idle"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "Running", "message": "it runs", "lastTransitionTime": now}],
        })
    );
}

#[test]
fn what_is_not_wanted_in_docker_has_a_verdict_only() {
    let mut case = Case::running();
    case.desired = None;
    let status = case.status(&ready());
    let now = Timestamp::from_second(case.m.now.as_second()).unwrap();
    let ready = json!({"type": "Ready", "status": "True", "reason": "Running", "message": "it runs", "lastTransitionTime": now});
    assert_eq!(serde_json::to_value(status).unwrap(), json!({"observedGeneration": 3, "phase": "Running", "conditions": [ready]}));
}

#[test]
fn a_preview_tells_its_hash_and_its_end() {
    let mut case = Case::running();
    let end = case.m.now + seconds(7200);
    let preview = PreviewWant { hash: "00ff".to_owned(), expires_at: end, ttl_after_expired: Duration::from_secs(60), copy: None };
    case.desired.as_mut().unwrap().preview = Some(preview);
    let status = case.status(&ready());
    assert_eq!((status.hash.as_deref(), status.expires_at), (Some("00ff"), Timestamp::from_second(end.as_second()).ok()));
}

#[test]
fn the_url_is_of_the_port_named_http_else_of_the_first_and_where_it_can_be_reached() {
    let both: &[&str] = &["dns", "http"];
    for (address, ports, url) in [
        ("127.0.0.1", both, Some("http://127.0.0.1:8001/")),
        ("10.1.2.3", both, Some("http://10.1.2.3:8001/")),
        ("0.0.0.0", both, Some("http://127.0.0.1:8001/")),
        ("::", both, Some("http://[::1]:8001/")),
        ("fd00::5", both, Some("http://[fd00::5]:8001/")),
        ("127.0.0.1", &["web", "admin"], Some("http://127.0.0.1:5353/")),
        ("127.0.0.1", &["http", "admin"], Some("http://127.0.0.1:5353/")),
        ("127.0.0.1", &["web"], Some("http://127.0.0.1:5353/")),
        ("127.0.0.1", &[], None),
    ] {
        let mut case = Case::running();
        case.address = address.parse().unwrap();
        let main = case.desired.as_mut().unwrap().containers.iter_mut().find(|c| c.role == Role::Main).unwrap();
        main.ports.truncate(ports.len());
        for (port, name) in main.ports.iter_mut().zip(ports) {
            port.name = (*name).to_owned();
        }
        let status = case.status(&ready());
        assert_eq!(status.url.as_deref(), url, "{address} {ports:?}");
        assert_eq!(status.ports.len(), ports.len());
    }
}

#[test]
fn only_what_is_up_can_be_reached() {
    for (state, is_up, exit_code) in [
        (State::Created, false, None),
        (State::Running(HealthState::Unhealthy), true, None),
        (State::Paused, true, None),
        (State::Restarting, true, None),
        (State::Exited { code: 137 }, false, Some(137)),
        (State::Exited { code: 0 }, false, Some(0)),
        (State::Removing, false, None),
        (State::Dead, false, None),
    ] {
        let mut case = Case::running();
        case.m.meddle(MAIN, |c| c.state = state);
        let status = case.status(&ready());
        assert_eq!(status.url.is_some(), is_up, "{state:?}");
        assert_eq!(status.container.unwrap().exit_code, exit_code, "{state:?}");
        assert_eq!(status.ports.len(), 2, "what is leased is told all the same");
    }
}

#[test]
fn a_container_that_was_not_looked_into_is_told_without_its_start() {
    let mut case = Case::running();
    case.m.meddle(MAIN, |c| c.details = None);
    let container = case.status(&ready()).container.unwrap();
    assert_eq!((container.name.as_str(), container.started_at, container.restarts), (MAIN, None, 0));
}

#[test]
fn the_container_told_is_the_one_that_serves() {
    const RUNS: State = State::Running(HealthState::None);
    const DONE: State = State::Exited { code: 143 };
    for (current, next, told) in [
        (Some(RUNS), None, Some("current")),
        (Some(DONE), None, Some("current")),
        (None, Some(RUNS), Some("next")),
        (None, Some(State::Created), Some("next")),
        (None, None, None),
        // A replacement on trial serves, one that was not started yet does not.
        (Some(DONE), Some(RUNS), Some("next")),
        (Some(RUNS), Some(RUNS), Some("next")),
        (Some(RUNS), Some(State::Created), Some("current")),
        (Some(DONE), Some(State::Created), Some("current")),
    ] {
        // Whichever of the two comes first.
        for (first, second) in [("current", "next"), ("next", "current")] {
            let mut case = Case::running();
            for id in [first, second] {
                let (slot, state) = if id == "current" { (Slot::Current, current) } else { (Slot::Next, next) };
                let Some(state) = state else { continue };
                let id = if id == first { format!("0-{id}") } else { format!("1-{id}") };
                case.beside(MAIN, &id, |c| {
                    c.owner.as_mut().unwrap().slot = slot;
                    c.state = state;
                });
            }
            let original = case.m.world.container_named(MAIN).unwrap().id.clone();
            case.m.world.remove(&original);
            let found = case.status(&ready()).container.map(|c| c.id[2..].to_owned());
            assert_eq!(found.as_deref(), told, "current {current:?}, next {next:?}");
        }
    }
}

#[test]
fn neither_a_helper_nor_another_life_of_it_is_told_as_its_container() {
    let mut case = Case::running();
    let own = short_id(&case, MAIN);
    // Before all others in order.
    case.beside(MAIN, "-helper", |c| c.owner.as_mut().unwrap().role = Role::Helper);
    case.beside(MAIN, "-former", |c| c.owner.as_mut().unwrap().uid = other_life());
    assert_eq!(case.status(&ready()).container.unwrap().id, own);
    let id = case.m.world.container_named(MAIN).unwrap().id.clone();
    case.m.world.remove(&id);
    let status = case.status(&ready());
    assert_eq!((status.container, status.url), (None, None));
}

#[test]
fn a_service_is_told_with_dockers_word_and_is_ready_when_it_runs_and_is_not_ill() {
    for (state, word, is_ready) in [
        (State::Created, "created", false),
        (State::Running(HealthState::None), "running", true),
        (State::Running(HealthState::Healthy), "running", true),
        (State::Running(HealthState::Starting), "running", false),
        (State::Running(HealthState::Unhealthy), "running", false),
        (State::Paused, "paused", false),
        (State::Restarting, "restarting", false),
        (State::Exited { code: 0 }, "exited", false),
        (State::Removing, "removing", false),
        (State::Dead, "dead", false),
    ] {
        for name in ["cache", "db"] {
            let mut case = Case::running();
            let container = format!("dm-ws-alice.shop.{name}");
            case.m.meddle(&container, |c| c.state = state);
            let own = (name.to_owned(), word.to_owned(), is_ready, Some(short_id(&case, &container)));
            let other = if name == "db" { "cache" } else { "db" };
            let runs = (other.to_owned(), "running".to_owned(), true, Some(short_id(&case, &format!("dm-ws-alice.shop.{other}"))));
            let mut expected = [own, runs];
            expected.sort();
            assert_eq!(case.services(), expected, "{state:?}");
        }
    }
}

#[test]
fn a_service_that_is_replaced_is_told_by_the_container_that_serves() {
    for (next, is_told) in [(State::Created, false), (State::Running(HealthState::Starting), true), (State::Exited { code: 1 }, false)] {
        // The first by its id, and the last.
        for id in ["0", "z"] {
            let mut case = Case::running();
            let (current, new) = (short_id(&case, "dm-ws-alice.shop.db"), id.repeat(64));
            case.beside("dm-ws-alice.shop.db", &new, |c| {
                c.state = next;
                c.owner.as_mut().unwrap().slot = Slot::Next;
            });
            let told = case.services().pop().unwrap().3.unwrap();
            assert_eq!(told, if is_told { id.repeat(12) } else { current }, "{next:?}");
        }
    }
}

#[test]
fn a_service_without_a_container_of_this_life_is_absent() {
    let mut case = Case::running();
    let cache = ("cache".to_owned(), "running".to_owned(), true, Some(short_id(&case, "dm-ws-alice.shop.cache")));
    case.m.meddle("dm-ws-alice.shop.db", |c| c.owner.as_mut().unwrap().uid = other_life());
    let absent = ("db".to_owned(), "absent".to_owned(), false, None);
    assert_eq!(case.services(), [cache, absent.clone()]);
    let id = case.m.world.container_named("dm-ws-alice.shop.db").unwrap().id.clone();
    case.m.world.remove(&id);
    assert_eq!(case.services()[1], absent);
}

#[test]
fn the_last_activity_moves_by_five_minutes_or_with_its_kind() {
    const FIVE: i64 = 300_000;
    for (moved, by, is_written) in [
        (0, "network", false),
        (1_000, "network", false),
        (FIVE - 1, "network", false),
        (FIVE, "network", true),
        (FIVE + 1_000, "network", true),
        (-FIVE + 1, "network", false),
        (-FIVE, "network", true),
        (1_000, "exec", true),
        (FIVE + 1_000, "exec", true),
    ] {
        let mut case = Case::running();
        let known: Timestamp = "2026-03-02T09:00:00Z".parse().unwrap();
        let mut before = definition(3, None, case.m.now);
        before.activity = Some(ActivityStatus { last: known, by: "network".to_owned() });
        case.before = Some(before);
        case.m.facts.activity = Some((known + millis(moved), by.to_owned()));
        let told = case.status(&ready()).activity.unwrap();
        let expected = if is_written { known + seconds(moved / 1000) } else { known };
        assert_eq!((told.last, told.by.as_str()), (expected, by), "{moved} ms later");
    }
}

#[test]
fn an_activity_that_was_not_told_before_is_told_and_none_is_none() {
    let mut case = Case::running();
    case.before = Some(definition(3, None, case.m.now));
    let last = case.m.now - seconds(5);
    case.m.facts.activity = Some((last, "touch".to_owned()));
    let expected = ActivityStatus { last: Timestamp::from_second(last.as_second()).unwrap(), by: "touch".to_owned() };
    assert_eq!(case.status(&ready()).activity, Some(expected.clone()));
    case.before.as_mut().unwrap().activity = Some(expected);
    case.m.facts.activity = None;
    assert_eq!(case.status(&ready()).activity, None);
}

#[test]
fn what_comes_next_moves_by_five_minutes_or_with_what_it_is_and_never_stays_in_the_past() {
    let now: Timestamp = "2026-03-02T12:00:00Z".parse().unwrap();
    let stop = |at: i64, why: &str| Next { action: NextAction::Stop, at: now + seconds(at), why: why.to_owned() };
    let start = |at: i64, why: &str| Next { action: NextAction::Start, ..stop(at, why) };
    for (known, fresh, is_written) in [
        (stop(3600, "idle"), stop(3600, "idle"), false),
        (stop(3600, "idle"), stop(3601, "idle"), false),
        (stop(3600, "idle"), stop(3899, "idle"), false),
        (stop(3600, "idle"), stop(3900, "idle"), true),
        (stop(3600, "idle"), stop(3901, "idle"), true),
        (stop(3600, "idle"), stop(3301, "idle"), false),
        (stop(3600, "idle"), stop(3300, "idle"), true),
        (stop(3600, "idle"), start(3601, "idle"), true),
        (stop(3600, "idle"), stop(3601, "its lifetime ends"), true),
        (stop(3600, "idle"), start(3601, "its hours begin"), true),
        (stop(1, "idle"), stop(10, "idle"), false),
        (stop(0, "idle"), stop(10, "idle"), true),
        (stop(-1, "idle"), stop(10, "idle"), true),
        (stop(-1, "idle"), start(10, "idle"), true),
    ] {
        let mut case = Case::running();
        case.m.now = now;
        let mut before = definition(3, None, now);
        before.next = Some(known.clone());
        case.before = Some(before);
        let mut plan = ready();
        plan.next = Some(fresh.clone());
        let expected = if is_written { &fresh } else { &known };
        assert_eq!(case.status(&plan).next.as_ref(), Some(expected), "{known:?}, then {fresh:?}");
    }
}

#[test]
fn what_waits_for_a_time_and_is_not_ready_tells_when_it_is_tried_again() {
    let case = Case::running();
    let now = Timestamp::from_second(case.m.now.as_second()).unwrap();
    let waiting = [wait(None, "a port"), wait(Some(now + seconds(40)), "the image"), wait(Some(now + seconds(20)), "the hook"), wait(None, "a turn")];
    let retry = Next { action: NextAction::Retry, at: now + seconds(20), why: "the hook".to_owned() };
    let stop = Next { action: NextAction::Stop, at: now + seconds(3600), why: "idle".to_owned() };
    for (ready, planned, waiting, next) in [
        (Truth::False, None, &waiting[..], Some(&retry)),
        (Truth::Unknown, None, &waiting[..], Some(&retry)),
        (Truth::True, None, &waiting[..], None),
        (Truth::False, Some(&stop), &waiting[..], Some(&stop)),
        (Truth::False, None, &waiting[..1], None),
        (Truth::False, None, &[], None),
    ] {
        let mut plan = not_ready(ready);
        plan.next = planned.cloned();
        plan.waiting = waiting.to_vec();
        assert_eq!(case.status(&plan).next.as_ref(), next, "{ready:?} {planned:?}");
    }
}

/// Types, truths, reasons and messages.
fn told(status: &Status) -> Vec<(ConditionType, Truth, Reason, &str)> {
    status.conditions.iter().map(|c| (c.type_, c.status, c.reason, c.message.as_str())).collect()
}

#[test]
fn work_under_way_and_work_that_stands_still_have_conditions_of_the_same_reason() {
    let case = Case::running();
    for (reconciling, stalled) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut plan = not_ready(Truth::False);
        (plan.verdict.reconciling, plan.verdict.stalled) = (reconciling, stalled);
        let says = |type_, truth| (type_, truth, Reason::Starting, "it starts");
        let mut expected = vec![says(ConditionType::Ready, Truth::False)];
        expected.extend(reconciling.then_some(says(ConditionType::Reconciling, Truth::True)));
        expected.extend(stalled.then_some(says(ConditionType::Stalled, Truth::True)));
        assert_eq!(told(&case.status(&plan)), expected);
    }
}

#[test]
fn a_stall_that_the_plan_explains_is_not_explained_twice() {
    let case = Case::running();
    let mut plan = not_ready(Truth::False);
    plan.verdict.stalled = true;
    plan.verdict.conditions = vec![Condition::abnormal(ConditionType::Unsupported, "no such thing")];
    let ready = (ConditionType::Ready, Truth::False, Reason::Starting, "it starts");
    let unsupported = (ConditionType::Unsupported, Truth::True, Reason::Unsupported, "no such thing");
    let stalled = (ConditionType::Stalled, Truth::True, Reason::Starting, "it starts");
    assert_eq!(told(&case.status(&plan)), [ready, stalled, unsupported]);
    let own = Condition::new(ConditionType::Stalled, Truth::True, Reason::Invalid, "all that is wrong");
    plan.verdict.conditions.insert(0, own);
    assert_eq!(told(&case.status(&plan)), [ready, (ConditionType::Stalled, Truth::True, Reason::Invalid, "all that is wrong"), unsupported]);
}

#[test]
fn what_is_waited_for_is_told_in_short_where_it_explains_what_is_not_ready() {
    let case = Case::running();
    for (ready, stalled, is_told) in
        [(Truth::False, false, true), (Truth::False, true, false), (Truth::True, false, false), (Truth::True, true, false), (Truth::Unknown, false, false)]
    {
        let mut plan = not_ready(ready);
        plan.verdict.stalled = stalled;
        plan.waiting = vec![wait(None, "pulling web:1: 34 %"), wait(None, "a port")];
        let status = case.status(&plan);
        let expected = is_told.then_some("pulling web");
        assert_eq!(status.condition(ConditionType::WaitingOn).map(|c| c.message.as_str()), expected, "{ready:?}, stalled: {stalled}");
    }
    assert_eq!(case.status(&not_ready(Truth::False)).condition(ConditionType::WaitingOn), None);
}

#[test]
fn a_condition_keeps_its_instant_until_it_turns() {
    let mut case = Case::running();
    let now = Timestamp::from_second(case.m.now.as_second()).unwrap();
    let then = now - seconds(3600);
    for (known, expected) in [
        (None, now),
        (Some((ConditionType::Ready, Truth::True, Some(then))), then),
        (Some((ConditionType::Ready, Truth::False, Some(then))), now),
        (Some((ConditionType::Ready, Truth::Unknown, Some(then))), now),
        (Some((ConditionType::Ready, Truth::True, None)), now),
        (Some((ConditionType::Reconciling, Truth::True, Some(then))), now),
    ] {
        let mut before = definition(3, None, then);
        let condition = |(type_, truth, at): (_, _, Option<Timestamp>)| Condition {
            last_transition_time: at,
            // Another reason and another message are no turn.
            ..Condition::new(type_, truth, Reason::Completed, "it ended")
        };
        before.conditions = known.map(condition).into_iter().collect();
        case.before = Some(before);
        assert_eq!(case.status(&ready()).conditions[0].last_transition_time, Some(expected), "{known:?}");
    }
}

#[test]
fn what_the_engine_does_not_tell_leaves_all_as_it_was_but_its_readiness() {
    let case = Case::running();
    let mut plan = not_ready(Truth::False);
    plan.verdict.reconciling = true;
    plan.verdict.conditions = vec![Condition::abnormal(ConditionType::ImageOutdated, "pull it"), Condition::abnormal(ConditionType::CrashLoop, "it ends")];
    let before = case.status(&plan);
    let (first, second) = (case.m.now + seconds(10), case.m.now + seconds(70));
    let whole = |at: Timestamp| Timestamp::from_second(at.as_second()).unwrap();
    let status = unknown(&before, ConditionType::EngineUnavailable, "no answer", first);
    assert_eq!(
        told(&status),
        [
            (ConditionType::Ready, Truth::Unknown, Reason::EngineUnavailable, "no answer"),
            (ConditionType::EngineUnavailable, Truth::True, Reason::EngineUnavailable, "no answer"),
            (ConditionType::ImageOutdated, Truth::True, Reason::ImageOutdated, "pull it"),
            (ConditionType::CrashLoop, Truth::True, Reason::CrashLoop, "it ends"),
        ]
    );
    let times = |status: &Status| status.conditions.iter().map(|c| c.last_transition_time.unwrap()).collect::<Vec<_>>();
    assert_eq!(times(&status), [whole(first), whole(first), whole(case.m.now), whole(case.m.now)]);
    assert_eq!(Status { conditions: before.conditions.clone(), ..status.clone() }, before);
    // Said again, with other words, it is said once and has lasted since then.
    let again = unknown(&status, ConditionType::EngineUnavailable, "still no answer", second);
    assert_eq!(again.conditions.len(), 4);
    assert_eq!(again.conditions[1].message, "still no answer");
    assert_eq!(times(&again), times(&status));
    // For another reason, both are told.
    let changed = unknown(&status, ConditionType::EngineChanged, "another engine", second);
    let types: Vec<_> = changed.conditions.iter().map(|c| c.type_).collect();
    let others = [ConditionType::EngineUnavailable, ConditionType::ImageOutdated, ConditionType::CrashLoop];
    assert_eq!(types, [&[ConditionType::Ready, ConditionType::EngineChanged][..], &others].concat());
}

#[test]
fn a_definition_is_in_force_since_it_was_accepted() {
    let at: Timestamp = "2026-03-02T12:00:00.75Z".parse().unwrap();
    let status = definition(4, None, at);
    let ready =
        json!({"type": "Ready", "status": "True", "reason": "Accepted", "message": "its definition is in force", "lastTransitionTime": "2026-03-02T12:00:00Z"});
    assert_eq!(serde_json::to_value(&status).unwrap(), json!({"observedGeneration": 4, "phase": "Active", "conditions": [ready]}));
    let later = definition(5, Some(&status), at + seconds(60));
    assert_eq!((later.observed_generation, later.conditions), (5, status.conditions));
}
