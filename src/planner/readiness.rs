//! Whether a running container does what it should: its health check, or two seconds of running where there is none.

use jiff::{SignedDuration, Timestamp};

use super::builder::Builder;
use super::{Action, Cause, Operation, Task, WaitKey, clock};
use crate::desired::ContainerSpec;
use crate::observed::{Container, HealthState, State, TaskKey, TaskResult, TaskState};

/// How a container stands that should run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It runs, and is healthy where it has a check.
    Ready,
    /// It runs, and its check has not passed yet.
    Starting,
    /// Its check fails.
    Unhealthy,
    /// It does not run.
    Down,
}

/// How a container stands now. Where the engine has no start interval of its own, the operator runs the test itself while the engine
/// says `starting`, and believes what it sees.
pub fn of(b: &mut Builder<'_>, container: &Container, want: &ContainerSpec) -> Readiness {
    let State::Running(health) = container.state else { return Readiness::Down };
    match health {
        HealthState::None | HealthState::Healthy => Readiness::Ready,
        HealthState::Unhealthy => Readiness::Unhealthy,
        HealthState::Starting => probe(b, container, want),
    }
}

fn probe(b: &mut Builder<'_>, container: &Container, want: &ContainerSpec) -> Readiness {
    let key = TaskKey::Probe(container.id.clone());
    let native = b.input.capabilities.start_interval();
    let Some((health, argv)) = want.health.as_ref().and_then(|health| Some((health, command(&health.test)?))).filter(|_| !native) else {
        b.wait(WaitKey::Container(container.id.clone()), None, format!("{} to become healthy", container.name));
        return Readiness::Starting;
    };
    let begin = |b: &mut Builder<'_>| {
        let task = Task::Exec { argv: argv.clone(), limit: health.timeout };
        b.push(Operation::Begin(key.clone(), task), Action::Wait, Cause::new("health", "starting", "tested"), Vec::new());
    };
    let again = |at: Timestamp| at + health.start_interval.0;
    match b.task(&key) {
        Some(TaskState::Done { result: TaskResult::Exit { code: 0, .. }, .. }) => return Readiness::Ready,
        None => begin(b),
        Some(TaskState::Running { .. }) => {}
        Some(TaskState::Done { at, .. } | TaskState::Failed { at, .. }) => {
            if b.input.now >= again(*at) {
                begin(b);
            } else {
                b.recheck_at(again(*at));
            }
        }
    }
    b.wait(WaitKey::Container(container.id.clone()), None, format!("{} to become healthy", container.name));
    Readiness::Starting
}

/// The command of a health test, as an exec understands it.
pub fn command(test: &[String]) -> Option<Vec<String>> {
    match test.first().map(String::as_str) {
        Some("CMD") => Some(test[1..].to_vec()),
        Some("CMD-SHELL") => Some(vec!["/bin/sh".to_owned(), "-c".to_owned(), test.get(1)?.clone()]),
        Some(_) | None => None,
    }
}

/// Whether a replacement has shown that it works: ready, and two seconds old where nothing tests it.
pub fn has_settled(b: &mut Builder<'_>, container: &Container, want: &ContainerSpec) -> Readiness {
    let readiness = of(b, container, want);
    let untested = container.state == State::Running(HealthState::None);
    if readiness != Readiness::Ready || !untested {
        return readiness;
    }
    let started = container.details.as_ref().and_then(|details| details.started).unwrap_or(b.input.now);
    let settled = clock::end_of(started, SignedDuration::from_secs(2), b.input.now);
    if b.input.now >= settled {
        return Readiness::Ready;
    }
    b.wait(WaitKey::Time, Some(settled), format!("{} to run for two seconds", container.name));
    Readiness::Starting
}
