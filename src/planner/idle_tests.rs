//! Activity over a small engine: when it is sampled, what counts, when a stop is warned of, and what puts it off.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::model::Model;
use super::tests::{intent, model, text, web};
use super::{Operation, Plan, Task, WaitKey};
use crate::desired::Intent;
use crate::observed::{ContainerId, TaskKey, TaskResult, TaskState};
use crate::resource::ConditionType;
use crate::state::{Fact, Sample};

const MOMENT: SignedDuration = SignedDuration::from_millis(1);

/// A workspace that runs and was just sampled, and the instant at which it stops for want of activity.
struct Watched {
    m: Model,
    want: Intent,
    id: ContainerId,
    deadline: Timestamp,
}

impl Watched {
    fn new(idle: Value) -> Self {
        let mut spec = web("web:1");
        spec["idle"] = idle;
        let (mut m, want) = (model(), intent(spec, 1));
        let deadline = m.settle(&want).next.unwrap().at;
        let id = m.world.container_named("dm-ws-alice.shop").unwrap().id.clone();
        Self { m, want, id, deadline }
    }

    fn plan_at(&mut self, now: Timestamp) -> Plan {
        self.m.now = now;
        self.m.plan(&self.want)
    }

    /// Remembers a sample of that instant.
    fn sampled(&mut self, at: Timestamp, sent: u64, execs: BTreeMap<String, Timestamp>) {
        self.m.facts.sample = Some(Sample { at, container: self.id.0.clone(), sent, execs });
    }

    /// A task of the container has this outcome.
    fn outcome(&mut self, key: impl Fn(ContainerId) -> TaskKey, state: TaskState) {
        self.m.world.tasks.insert(key(self.id.clone()), state);
    }
}

fn samples(plan: &Plan) -> bool {
    plan.nodes.iter().any(|node| node.operation.name() == "sample")
}

fn stops(plan: &Plan) -> bool {
    plan.nodes.iter().any(|node| matches!(node.operation, Operation::Stop { .. }))
}

fn activity(plan: &Plan) -> Option<&str> {
    plan.nodes.iter().find_map(|node| if let Operation::Record(Fact::Activity { by, .. }) = &node.operation { Some(by.as_str()) } else { None })
}

#[test]
fn a_stop_is_warned_of_a_tenth_of_the_timeout_before_and_at_most_five_minutes() {
    for (timeout, notice) in [("10m", 60), ("30m", 180), ("50m", 300), ("2h", 300)] {
        let mut watched = Watched::new(json!({"timeout": timeout, "warn": {"exec": ["tell"]}}));
        let (deadline, warn_at) = (watched.deadline, watched.deadline - SignedDuration::from_secs(notice));
        let begins = |plan: &Plan| plan.nodes.iter().any(|node| node.operation.name() == "idle-warn");
        let remembers = |plan: &Plan| plan.nodes.iter().any(|node| node.operation == Operation::Record(Fact::Warned(deadline)));
        let plan = watched.plan_at(warn_at - MOMENT);
        assert_eq!((begins(&plan), remembers(&plan), plan.recheck), (false, false, Some(warn_at)), "{timeout}");
        for at in [warn_at, warn_at + MOMENT] {
            let plan = watched.plan_at(at);
            assert_eq!((begins(&plan), remembers(&plan)), (true, true), "{timeout}");
        }
        watched.m.record(Fact::Warned(deadline));
        assert!(!begins(&watched.plan_at(warn_at + MOMENT)), "once");
    }
}

#[test]
fn samples_are_a_sixth_of_the_timeout_apart_and_at_most_five_minutes() {
    for (timeout, interval) in [("12m", 120), ("30m", 300), ("2h", 300)] {
        let mut watched = Watched::new(json!({"timeout": timeout}));
        let (now, sampled) = (watched.m.now, watched.m.facts.sample.as_ref().unwrap().at);
        let due = sampled + SignedDuration::from_secs(interval);
        assert_eq!(watched.plan_at(now).recheck, Some(due), "{timeout}");
        assert!(!samples(&watched.plan_at(due - MOMENT)), "{timeout}");
        assert!(samples(&watched.plan_at(due)), "{timeout}");
    }
}

#[test]
fn a_stop_needs_a_sample_as_late_as_its_deadline() {
    for (before, may_stop) in [(SignedDuration::from_mins(1), false), (MOMENT, false), (SignedDuration::ZERO, true)] {
        let mut watched = Watched::new(json!({"timeout": "30m"}));
        let deadline = watched.deadline;
        watched.sampled(deadline - before, 0, BTreeMap::new());
        let plan = watched.plan_at(deadline);
        assert_eq!((stops(&plan), samples(&plan)), (may_stop, !may_stop), "{before} before: {}", text(&watched.m, &plan));
        let waits = plan.waiting.iter().any(|waiting| waiting.on == WaitKey::Task(TaskKey::Sample(watched.id.clone())));
        assert_eq!(waits, !may_stop);
    }
}

#[test]
fn a_sample_that_failed_is_taken_again_later_and_nothing_is_stopped_meanwhile() {
    // Five seconds, doubled with each failure.
    for (attempts, seconds) in [(1, 5), (2, 10), (4, 40)] {
        let mut watched = Watched::new(json!({"timeout": "30m"}));
        let deadline = watched.deadline;
        let retry = deadline + SignedDuration::from_secs(seconds);
        watched.outcome(TaskKey::Sample, TaskState::Failed { at: deadline, attempts, error: "refused".to_owned() });
        for now in [deadline, retry - MOMENT] {
            let plan = watched.plan_at(now);
            assert_eq!((samples(&plan), stops(&plan), plan.recheck), (false, false, Some(retry)), "{attempts} failures, at {now}");
        }
        let plan = watched.plan_at(retry);
        assert_eq!((samples(&plan), stops(&plan)), (true, false), "{attempts} failures");
    }
}

#[test]
fn bytes_count_beyond_the_threshold_since_the_sample_before() {
    for (sent, by) in [(1000, None), (1000 + 2048, None), (1000 + 2049, Some("network")), (999, None)] {
        let mut watched = Watched::new(json!({"timeout": "30m", "network": "2k"}));
        let now = watched.m.now + SignedDuration::from_secs(10);
        watched.sampled(now - MOMENT, 1000, BTreeMap::new());
        watched.outcome(TaskKey::Sample, TaskState::Done { at: now, result: TaskResult::Sample { sent, execs: Vec::new() } });
        let plan = watched.plan_at(now);
        assert_eq!(activity(&plan), by, "{sent} bytes");
        let taken = Sample { at: now, container: watched.id.0.clone(), sent, execs: BTreeMap::new() };
        assert!(plan.nodes.iter().any(|node| node.operation == Operation::Record(Fact::Sampled(taken.clone()))));
    }
}

#[test]
fn an_open_session_counts_for_two_hours() {
    let two_hours = SignedDuration::from_hours(2);
    for (age, by) in [
        (None, Some("exec")),
        (Some(SignedDuration::from_secs(1)), Some("exec")),
        (Some(two_hours - MOMENT), Some("exec")),
        (Some(two_hours), None),
        (Some(two_hours + MOMENT), None),
    ] {
        let mut watched = Watched::new(json!({"timeout": "8h"}));
        let now = watched.m.now + SignedDuration::from_hours(3);
        let seen: BTreeMap<String, Timestamp> = age.into_iter().map(|age| ("one".to_owned(), now - age)).collect();
        watched.sampled(now - SignedDuration::from_mins(5), 0, seen);
        let execs = vec![("one".to_owned(), vec!["sh".to_owned()])];
        watched.outcome(TaskKey::Sample, TaskState::Done { at: now, result: TaskResult::Sample { sent: 0, execs } });
        let plan = watched.plan_at(now);
        assert_eq!(activity(&plan), by, "open for {age:?}");
        // Since when it is open is carried on.
        let since = plan
            .nodes
            .iter()
            .find_map(|node| if let Operation::Record(Fact::Sampled(sample)) = &node.operation { sample.execs.get("one").copied() } else { None });
        assert_eq!(since, Some(now - age.unwrap_or_default()));
    }
}

#[test]
fn health_tests_hooks_the_check_and_the_warning_are_no_activity() {
    let mut spec = web("web:1");
    spec["health"] = json!({"test": ["CMD", "healthy", "-q"]});
    spec["hooks"] = json!({"postStart": ["started"], "preStop": ["save"]});
    spec["idle"] = json!({"timeout": "30m", "check": {"exec": ["busy"]}, "warn": {"exec": ["tell", "all"]}});
    let (mut m, want) = (model(), intent(spec, 1));
    m.settle(&want);
    m.facts.sample = None;
    let plan = m.plan(&want);
    let ignored =
        plan.nodes.iter().find_map(|node| if let Operation::Begin(_, Task::Sample { ignore }) = &node.operation { Some(ignore.clone()) } else { None });
    let mut ignored = ignored.unwrap();
    ignored.sort();
    let mut expected = [vec!["healthy", "-q"], vec!["started"], vec!["save"], vec!["busy"], vec!["tell", "all"]];
    expected.sort();
    assert_eq!(ignored, expected);
}

#[test]
fn a_check_that_gives_no_answer_is_ignored_after_a_day() {
    let day = SignedDuration::from_hours(24);
    let silent = |at| TaskState::Done { at, result: TaskResult::Done };
    let broken = |at| TaskState::Done { at, result: TaskResult::Exit { code: 7, output: String::new() } };
    let failed = |at| TaskState::Failed { at, attempts: 1, error: "refused".to_owned() };
    let outcomes: [(&dyn Fn(Timestamp) -> TaskState, &str); 3] =
        [(&silent, "gave no answer"), (&broken, "exit code 7"), (&failed, "could not be run: refused")];
    for (outcome, problem) in outcomes {
        for (failing, may_stop) in [(None, false), (Some(day - MOMENT), false), (Some(day), false), (Some(day + MOMENT), true)] {
            let mut watched = Watched::new(json!({"timeout": "30m", "check": {"exec": ["busy"]}}));
            let deadline = watched.deadline;
            watched.sampled(deadline, 0, BTreeMap::new());
            watched.outcome(TaskKey::IdleCheck, outcome(deadline));
            watched.m.facts.idle_check_failing = failing.map(|failing| deadline - failing);
            let plan = watched.plan_at(deadline);
            assert_eq!((stops(&plan), activity(&plan)), (may_stop, (!may_stop).then_some("check")), "{problem}, failing for {failing:?}");
            assert!(plan.skipped.iter().any(|skipped| skipped.why.contains(problem)), "{:?}", plan.skipped);
        }
    }
}

#[test]
fn a_check_that_does_not_answer_is_told_until_it_does() {
    let mut watched = Watched::new(json!({"timeout": "30m", "check": {"exec": ["busy"]}}));
    let (deadline, now) = (watched.deadline, watched.m.now);
    let told = |plan: &Plan| plan.verdict.conditions.iter().any(|c| c.type_ == ConditionType::IdleCheckFailed);
    assert!(!told(&watched.plan_at(now)));
    watched.m.record(Fact::IdleCheckFailing(Some(now)));
    assert!(told(&watched.plan_at(now)));
    watched.sampled(deadline, 0, BTreeMap::new());
    watched.outcome(TaskKey::IdleCheck, TaskState::Done { at: deadline, result: TaskResult::Exit { code: 1, output: String::new() } });
    let plan = watched.plan_at(deadline);
    watched.m.apply(&plan, usize::MAX);
    assert!(!stops(&plan) && !told(&watched.plan_at(deadline)));
}
