//! Hooks: commands in the main container after its creation, after each start and before each stop. At most ten minutes each.

use super::builder::Builder;
use super::{Action, Cause, Operation, Task, WaitKey};
use crate::desired::HookPoint;
use crate::observed::{Container, State, TaskKey, TaskResult, TaskState, World};
use crate::resource::ConditionType;
use crate::resource::quantity::Duration;
use crate::state::Fact;

const LIMIT: Duration = Duration::from_secs(600);

/// Plans the hooks that follow a start; true when all of them have run.
pub fn after_start(b: &mut Builder<'_>, container: &Container) -> bool {
    let started = container.details.as_ref().and_then(|details| details.started).map(|at| at.to_string()).unwrap_or_default();
    let created = run(b, container, HookPoint::PostCreate, String::new());
    // The second depends on what the first prepared.
    let done = created && run(b, container, HookPoint::PostStart, started);
    let failed: Vec<(String, String)> = b.input.facts.hooks_failed.iter().map(|(hook, message)| (hook.clone(), message.clone())).collect();
    for (hook, message) in failed {
        if b.desired.hooks.keys().any(|point| point.as_str() == hook) {
            b.report(ConditionType::HookFailed, format!("hooks.{hook} {message}; mend it and run `dockmaster restart`"));
        }
    }
    done
}

fn run(b: &mut Builder<'_>, container: &Container, point: HookPoint, start: String) -> bool {
    let Some(argv) = b.desired.hooks.get(&point).cloned() else { return true };
    let hook = point.as_str().to_owned();
    let done = (container.id.0.clone(), hook.clone(), start.clone());
    if b.input.facts.hooks_done.contains(&done) {
        return true;
    }
    let key = TaskKey::Hook(container.id.clone(), hook.clone());
    let outcome = match b.task(&key) {
        None => {
            b.push(
                Operation::Begin(key.clone(), Task::Exec { argv, limit: LIMIT }),
                Action::Wait,
                Cause::new(format!("hooks.{hook}"), "not run", "run"),
                Vec::new(),
            );
            None
        }
        Some(TaskState::Running { .. }) => None,
        Some(TaskState::Done { result: TaskResult::Exit { code: 0, .. }, .. }) => Some(String::new()),
        Some(TaskState::Done { result: TaskResult::Exit { code, .. }, .. }) => Some(format!("ended with exit code {code}")),
        Some(TaskState::Done { .. }) => Some(String::new()),
        Some(TaskState::Failed { error, .. }) => Some(format!("failed: {error}")),
    };
    let Some(message) = outcome else {
        b.wait(WaitKey::Task(key), None, format!("hooks.{hook} to end"));
        return false;
    };
    // A hook is run once for its occasion, whatever it said: a failure is shown until something changes.
    let cause = Cause::new(format!("hooks.{hook}"), "running", if message.is_empty() { "done" } else { "failed" });
    let recorded =
        b.push(Operation::Record(Fact::HookDone { container: container.id.0.clone(), hook: hook.clone(), start }), Action::None, cause.clone(), Vec::new());
    let recorded =
        if message.is_empty() { recorded } else { b.push(Operation::Record(Fact::HookFailed { hook, message }), Action::None, cause.clone(), vec![recorded]) };
    b.push(Operation::Forget(key), Action::None, cause, vec![recorded]);
    true
}

/// How the hook before a stop stands.
pub enum PreStop {
    /// There is none, or nothing to run it in.
    None,
    /// It is to be begun.
    Due(TaskKey, Task),
    /// It runs.
    Running(TaskKey),
    /// It ran, whatever it said.
    Done(TaskKey),
}

/// How the hook before the stop of that main container stands. A crash in between runs it again.
pub fn pre_stop(world: &World, container: &Container, argv: Option<&Vec<String>>, grace: Duration) -> PreStop {
    let Some(argv) = argv.filter(|_| matches!(container.state, State::Running(_))) else { return PreStop::None };
    let key = TaskKey::Hook(container.id.clone(), HookPoint::PreStop.as_str().to_owned());
    match world.tasks.get(&key) {
        Some(TaskState::Done { .. } | TaskState::Failed { .. }) => PreStop::Done(key),
        Some(TaskState::Running { .. }) => PreStop::Running(key),
        None => PreStop::Due(key, Task::Exec { argv: argv.clone(), limit: grace }),
    }
}

/// Plans the hook before a stop; true when the container may be stopped.
pub fn before_stop(b: &mut Builder<'_>, container: &Container, grace: Duration) -> bool {
    match pre_stop(b.input.world, container, b.desired.hooks.get(&HookPoint::PreStop), grace) {
        PreStop::None => true,
        PreStop::Done(key) => {
            b.push(Operation::Forget(key), Action::None, Cause::new("hooks.preStop", "running", "done"), Vec::new());
            true
        }
        PreStop::Running(key) => {
            b.wait(WaitKey::Task(key), None, "hooks.preStop to end");
            false
        }
        PreStop::Due(key, task) => {
            b.push(Operation::Begin(key.clone(), task), Action::Wait, Cause::new("hooks.preStop", "not run", "run"), Vec::new());
            b.wait(WaitKey::Task(key), None, "hooks.preStop to end");
            false
        }
    }
}
