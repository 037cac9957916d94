//! Activity: sampled while somebody wants to know, warned about before a stop, and asked for at the last moment.
//!
//! Sent bytes beyond a threshold and open exec sessions count; health tests, hooks and checks do not.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::builder::Builder;
use super::{Action, Cause, Operation, Task, WaitKey};
use crate::desired::{ContainerSpec, IdlePolicy};
use crate::observed::{Container, State, TaskKey, TaskResult, TaskState};
use crate::resource::ConditionType;
use crate::resource::quantity::Duration;
use crate::state::{Fact, Sample};

/// The longest that an open exec session counts as activity: a forgotten one must not keep a workspace up for ever.
const LONGEST_SESSION: SignedDuration = SignedDuration::from_hours(2);
/// The longest that the idle check may take.
const CHECK_LIMIT: Duration = Duration::from_secs(10);
/// How long a check that does not answer is believed to mean "busy".
const CHECK_PATIENCE: SignedDuration = SignedDuration::from_hours(24);

/// Plans samples and the warning for a running workspace.
pub fn watch(b: &mut Builder<'_>, main: &Container, want: &ContainerSpec, idle: &IdlePolicy, deadline: Timestamp) {
    if !matches!(main.state, State::Running(_)) {
        return;
    }
    sample(b, main, want, idle, None);
    if b.input.facts.idle_check_failing.is_some() {
        b.report(ConditionType::IdleCheckFailed, "idle.check gives no answer and counts as busy for a day; mend it");
    }
    let notice = (idle.timeout.0 / 10).min(SignedDuration::from_mins(5));
    let warn_at = deadline - notice;
    if b.input.facts.warned == Some(deadline) {
        return;
    }
    if b.input.now < warn_at {
        b.recheck_at(warn_at);
        return;
    }
    let cause = Cause::new("idle", "active", format!("stops at {}", super::print::instant(deadline)));
    let warned = b.push(Operation::Record(Fact::Warned(deadline)), Action::None, cause.clone(), Vec::new());
    if let Some(argv) = &idle.warn {
        let key = TaskKey::IdleWarn(main.id.clone());
        let forgotten = b.push(Operation::Forget(key.clone()), Action::None, cause.clone(), vec![warned]);
        b.push(Operation::Begin(key, Task::Exec { argv: argv.clone(), limit: CHECK_LIMIT }), Action::Wait, cause, vec![forgotten]);
    }
}

/// Whether an idle stop that is due may be made now: a sample as late as the deadline shows nothing, and the check agrees.
pub fn may_stop(b: &mut Builder<'_>, main: &Container, want: &ContainerSpec, idle: &IdlePolicy, deadline: Timestamp) -> bool {
    if !matches!(main.state, State::Running(_)) {
        return true;
    }
    if !sample(b, main, want, idle, Some(deadline)) {
        return false;
    }
    idle.check.as_ref().is_none_or(|argv| check(b, main, argv))
}

/// Takes what a sample found into the facts, and begins the next when it is due. True when one at least as late as `needed` was taken
/// before, and nothing new was found.
fn sample(b: &mut Builder<'_>, main: &Container, want: &ContainerSpec, idle: &IdlePolicy, needed: Option<Timestamp>) -> bool {
    let key = TaskKey::Sample(main.id.clone());
    let interval = (idle.timeout.0 / 6).min(SignedDuration::from_mins(5));
    let last = b.input.facts.sample.as_ref().filter(|sample| sample.container == main.id.0);
    let due = match (last, needed) {
        (Some(sample), Some(needed)) if sample.at < needed => b.input.now,
        (Some(sample), _) => sample.at + interval,
        (None, _) => b.input.now,
    };
    match b.task(&key) {
        Some(TaskState::Done { at, result: TaskResult::Sample { sent, execs } }) => {
            digest(b, main, idle, *at, *sent, execs);
            return false;
        }
        Some(TaskState::Running { .. }) => {
            b.wait(WaitKey::Task(key), None, "an activity sample");
            return false;
        }
        Some(TaskState::Failed { at, attempts, .. }) if b.input.now < *at + super::image::backoff(*attempts, 5) => {
            b.recheck_at(*at + super::image::backoff(*attempts, 5));
            return false;
        }
        Some(TaskState::Failed { .. } | TaskState::Done { .. }) | None => {}
    }
    if b.input.now < due {
        b.recheck_at(due);
        return true;
    }
    let task = Task::Sample { ignore: not_activity(b, want, idle) };
    b.push(Operation::Begin(key.clone(), task), Action::Wait, Cause::new("activity", "unknown", "sampled"), Vec::new());
    if needed.is_some() {
        b.wait(WaitKey::Task(key), None, "an activity sample");
    }
    false
}

/// Compares a new sample with the one before.
fn digest(b: &mut Builder<'_>, main: &Container, idle: &IdlePolicy, at: Timestamp, sent: u64, open: &[(String, Vec<String>)]) {
    let before = b.input.facts.sample.as_ref().filter(|sample| sample.container == main.id.0);
    let started = main.details.as_ref().and_then(|details| details.started);
    // A restart begins the count anew.
    let base = before.filter(|sample| started.is_none_or(|started| sample.at >= started)).map_or(0, |sample| sample.sent);
    let execs: BTreeMap<String, Timestamp> =
        open.iter().map(|(id, _)| (id.clone(), before.and_then(|sample| sample.execs.get(id).copied()).unwrap_or(at))).collect();
    let by = if sent.saturating_sub(base) > idle.network.0 {
        Some("network")
    } else if execs.values().any(|since| at.duration_since(*since) < LONGEST_SESSION) {
        Some("exec")
    } else {
        None
    };
    let cause = Cause::new("activity", "sampled", by.unwrap_or("none"));
    let mut done = Vec::new();
    if let Some(by) = by {
        done.push(b.push(Operation::Record(Fact::Activity { at, by: by.to_owned() }), Action::None, cause.clone(), Vec::new()));
    }
    let sample = Sample { at, container: main.id.0.clone(), sent, execs };
    let recorded = b.push(Operation::Record(Fact::Sampled(sample)), Action::None, cause.clone(), done);
    b.push(Operation::Forget(TaskKey::Sample(main.id.clone())), Action::None, cause, vec![recorded]);
}

/// Commands of exec sessions that are ours.
fn not_activity(b: &Builder<'_>, want: &ContainerSpec, idle: &IdlePolicy) -> Vec<Vec<String>> {
    let health = want.health.as_ref().and_then(|health| super::readiness::command(&health.test));
    let hooks = b.desired.hooks.values().cloned();
    health.into_iter().chain(hooks).chain(idle.check.clone()).chain(idle.warn.clone()).collect()
}

/// Asks the workspace itself. 0: it may stop. 1: it is busy. Anything else: busy, reported, and ignored after a day.
fn check(b: &mut Builder<'_>, main: &Container, argv: &[String]) -> bool {
    let key = TaskKey::IdleCheck(main.id.clone());
    let now = b.input.now;
    let failing = b.input.facts.idle_check_failing;
    let (at, broken) = match b.task(&key) {
        None => {
            let task = Task::Exec { argv: argv.to_vec(), limit: CHECK_LIMIT };
            b.push(Operation::Begin(key.clone(), task), Action::Wait, Cause::new("idle.check", "not asked", "asked"), Vec::new());
            b.wait(WaitKey::Task(key), None, "idle.check to answer");
            return false;
        }
        Some(TaskState::Running { .. }) => {
            b.wait(WaitKey::Task(key), None, "idle.check to answer");
            return false;
        }
        // Exec tasks always end with an exit code; an answer of another shape is none.
        Some(TaskState::Done { at, result: TaskResult::Exit { code, .. } }) => (
            *at,
            match code {
                0 => {
                    b.push(Operation::Forget(key), Action::None, Cause::new("idle.check", "asked", "may stop"), Vec::new());
                    return true;
                }
                1 => None,
                other => Some(format!("ended with exit code {other}, which is neither 0 (may stop) nor 1 (busy)")),
            },
        ),
        Some(TaskState::Done { at, .. }) => (*at, Some("gave no answer".to_owned())),
        Some(TaskState::Failed { at, error, .. }) => (*at, Some(format!("could not be run: {error}"))),
    };
    if let Some(problem) = broken {
        b.skipped.push(super::Skipped { op: "stop".to_owned(), why: format!("idle.check {problem}; it counts as busy for a day") });
        if failing.is_some_and(|since| now.duration_since(since) > CHECK_PATIENCE) {
            b.push(Operation::Forget(key), Action::None, Cause::new("idle.check", "asked", "ignored"), Vec::new());
            return true;
        }
        b.push(Operation::Record(Fact::IdleCheckFailing(Some(at))), Action::None, Cause::new("idle.check", "asked", "no answer"), Vec::new());
    } else if failing.is_some() {
        b.push(Operation::Record(Fact::IdleCheckFailing(None)), Action::None, Cause::new("idle.check", "no answer", "busy"), Vec::new());
    }
    let busy = b.push(Operation::Record(Fact::Activity { at, by: "check".to_owned() }), Action::None, Cause::new("idle.check", "asked", "busy"), Vec::new());
    b.push(Operation::Forget(key), Action::None, Cause::new("idle.check", "asked", "busy"), vec![busy]);
    false
}
