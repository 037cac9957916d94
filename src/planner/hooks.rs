//! Hooks: commands in the main container after its creation, after each start and before each stop. At most ten minutes each.

use super::builder::Builder;
use super::{Action, Cause, Operation, Task, WaitKey};
use crate::desired::HookPoint;
use crate::observed::{Container, State, TaskKey, TaskResult, TaskState, World};
use crate::resource::ConditionType;
use crate::resource::quantity::Duration;
use crate::state::{Fact, FailedHook};

const LIMIT: Duration = Duration::from_secs(600);

/// Plans the hooks that follow a start; true when all of them have run.
pub fn after_start(b: &mut Builder<'_>, container: &Container) -> bool {
    let started = container.details.as_ref().and_then(|details| details.started).map(|at| at.to_string()).unwrap_or_default();
    let created = run(b, container, HookPoint::PostCreate, String::new());
    // The second depends on what the first prepared.
    let done = created && run(b, container, HookPoint::PostStart, started);
    for point in [HookPoint::PostCreate, HookPoint::PostStart] {
        if let Some(failed) = b.input.facts.failed_hooks.get(point.as_str()).filter(|_| b.desired.hooks.contains_key(&point)) {
            let message = format!("hooks.{} {}; change it, or try again with `dockmaster restart {}`", point.as_str(), failed.message, b.input.object);
            b.report(ConditionType::HookFailed, message);
        }
    }
    done
}

fn run(b: &mut Builder<'_>, container: &Container, point: HookPoint, start: String) -> bool {
    let Some(argv) = b.desired.hooks.get(&point).cloned() else { return true };
    let hook = point.as_str().to_owned();
    let done = (container.id.0.clone(), hook.clone(), start.clone());
    let failed = b.input.facts.failed_hooks.get(&hook);
    if b.input.facts.hooks_done.contains(&done) && failed.is_none_or(|failed| failed.argv == argv) {
        return true;
    }
    let key = TaskKey::Hook(container.id.clone(), hook.clone());
    let outcome = match b.task(&key) {
        None => {
            let cause = Cause::new(format!("hooks.{hook}"), "not run", "run");
            let begun = Operation::Record(Fact::HookBegun { hook: hook.clone(), argv: argv.clone() });
            let begun = b.push(begun, Action::None, cause.clone(), Vec::new());
            b.push(Operation::Begin(key.clone(), Task::Exec { argv: argv.clone(), limit: LIMIT }), Action::Wait, cause, vec![begun]);
            None
        }
        Some(TaskState::Running { .. }) => None,
        Some(ended @ (TaskState::Done { .. } | TaskState::Failed { .. })) => Some(failure(ended)),
    };
    let Some(failure) = outcome else {
        b.wait(WaitKey::Task(key), None, format!("hooks.{hook} to end"));
        return false;
    };
    // A hook is run once for its occasion, whatever it said: a failure is shown until it, or what it runs in, changes.
    let cause = Cause::new(format!("hooks.{hook}"), "running", if failure.is_none() { "done" } else { "failed" });
    let mut recorded =
        b.push(Operation::Record(Fact::HookDone { container: container.id.0.clone(), hook: hook.clone(), start }), Action::None, cause.clone(), Vec::new());
    if let Some(message) = failure {
        // Its line in the spec may have been changed since it was begun.
        let argv = b.input.facts.hooks_begun.get(&hook).cloned().unwrap_or(argv);
        let failed = Fact::HookFailed { hook, failed: FailedHook { argv, message } };
        recorded = b.push(Operation::Record(failed), Action::None, cause.clone(), vec![recorded]);
    }
    b.push(Operation::Forget(key), Action::None, cause, vec![recorded]);
    true
}

/// Why a hook that ended failed, if it did.
fn failure(ended: &TaskState) -> Option<String> {
    match ended {
        TaskState::Done { result: TaskResult::Exit { code, .. }, .. } if *code != 0 => Some(format!("ended with exit code {code}")),
        TaskState::Failed { error, .. } => Some(format!("failed: {error}")),
        TaskState::Done { .. } | TaskState::Running { .. } => None,
    }
}

/// How the hook before a stop stands.
pub enum PreStop {
    /// There is none, or nothing to run it in.
    None,
    /// It is to be begun.
    Due(TaskKey, Task),
    /// It runs.
    Running(TaskKey),
    /// It ran; the steps that end it. A failure is told, and the stop goes on.
    Done(Vec<Operation>),
}

/// How the hook before the stop of that main container stands. A crash in between runs it again.
pub fn pre_stop(world: &World, container: &Container, argv: Option<&Vec<String>>, grace: Duration) -> PreStop {
    let Some(argv) = argv.filter(|_| matches!(container.state, State::Running(_))) else { return PreStop::None };
    let key = TaskKey::Hook(container.id.clone(), HookPoint::PreStop.as_str().to_owned());
    match world.tasks.get(&key) {
        Some(ended @ (TaskState::Done { .. } | TaskState::Failed { .. })) => {
            let told = failure(ended).map(|message| {
                let failed = FailedHook { argv: argv.clone(), message: format!("{message}; it was stopped all the same") };
                Operation::Record(Fact::HookFailed { hook: HookPoint::PreStop.as_str().to_owned(), failed })
            });
            PreStop::Done(told.into_iter().chain([Operation::Forget(key)]).collect())
        }
        Some(TaskState::Running { .. }) => PreStop::Running(key),
        None => PreStop::Due(key, Task::Exec { argv: argv.clone(), limit: grace }),
    }
}

/// Plans the hook before a stop; true when the container may be stopped.
pub fn before_stop(b: &mut Builder<'_>, container: &Container, grace: Duration) -> bool {
    match pre_stop(b.input.world, container, b.desired.hooks.get(&HookPoint::PreStop), grace) {
        PreStop::None => true,
        PreStop::Done(steps) => {
            for step in steps {
                b.push(step, Action::None, Cause::new("hooks.preStop", "running", "done"), Vec::new());
            }
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
