//! The last lines of a log, read by a task and remembered before the container crashes over them or goes: for `logs --previous`.

use jiff::{SignedDuration, Timestamp};

use super::builder::Builder;
use super::{Action, Cause, Operation, Plan, PlanInput, PlanNode, Task, WaitKey, Waiting, clock};
use crate::observed::{Container, TaskKey, TaskResult, TaskState};
use crate::state::Fact;

/// How many lines are remembered.
const LINES: u32 = 50;
/// What was read of a container that runs counts for so long as its last lines.
const FRESH: SignedDuration = SignedDuration::from_secs(10);

/// Remembers the last lines of a container that ended, or is about to be ended. `None`: they are being read; else the nodes after
/// which they are remembered.
pub fn keep(b: &mut Builder<'_>, container: &Container) -> Option<Vec<usize>> {
    match step(b.input, container, ended(container), None) {
        Step::Done => Some(Vec::new()),
        Step::Record(node) => Some(vec![b.push(node.operation, node.action, node.cause, Vec::new())]),
        Step::Begin(node) => {
            b.push(node.operation, node.action, node.cause, Vec::new());
            b.wait(WaitKey::Task(TaskKey::Tail(container.id.clone())), None, "its last lines");
            None
        }
        Step::Running => {
            b.wait(WaitKey::Task(TaskKey::Tail(container.id.clone())), None, "its last lines");
            None
        }
    }
}

/// The same for a plan without a builder.
pub fn keep_in(plan: &mut Plan, input: &PlanInput<'_>, container: &Container) -> Option<Vec<usize>> {
    match step(input, container, ended(container), None) {
        Step::Done => return Some(Vec::new()),
        Step::Record(node) => {
            plan.nodes.push(node);
            return Some(vec![plan.nodes.len() - 1]);
        }
        Step::Begin(node) => plan.nodes.push(node),
        Step::Running => {}
    }
    plan.waiting.push(Waiting { on: WaitKey::Task(TaskKey::Tail(container.id.clone())), until: None, reason: "its last lines".to_owned() });
    None
}

/// Remembers what a container that the engine itself restarted wrote before its last end. Nothing waits for it.
pub fn keep_of_restart(b: &mut Builder<'_>, container: &Container) {
    let Some(end) = container.details.as_ref().and_then(|details| details.finished) else { return };
    match step(b.input, container, Some(end), Some(end)) {
        Step::Record(node) | Step::Begin(node) => {
            b.push(node.operation, node.action, node.cause, Vec::new());
        }
        Step::Done | Step::Running => {}
    }
}

enum Step {
    Begin(PlanNode),
    Running,
    Record(PlanNode),
    Done,
}

fn ended(container: &Container) -> Option<Timestamp> {
    container.details.as_ref().and_then(|details| details.finished).filter(|_| !container.is_active())
}

/// The next step. `end`: when it ended; `until`: what was written later does not count.
fn step(input: &PlanInput<'_>, container: &Container, end: Option<Timestamp>, until: Option<Timestamp>) -> Step {
    let never_ran = container.details.as_ref().is_some_and(|details| details.started.is_none());
    if never_ran {
        return Step::Done;
    }
    let key = TaskKey::Tail(container.id.clone());
    let node = |operation, action| PlanNode { operation, action, cause: Cause::new("log", "unread", "remembered"), depends_on: Vec::new() };
    let since = end.filter(|end| clock::is_of_this_clock(*end, input.now)).unwrap_or(input.now - FRESH);
    let fresh = |at: &Timestamp| *at >= since;
    match input.world.tasks.get(&key) {
        Some(TaskState::Running { .. }) => Step::Running,
        Some(TaskState::Done { at, result: TaskResult::Tail(text) }) if fresh(at) => {
            let known = text.is_empty() || input.facts.previous_log.as_ref() == Some(text);
            if known { Step::Done } else { Step::Record(node(Operation::Record(Fact::PreviousLog(text.clone())), Action::None)) }
        }
        // A log that cannot be read keeps nothing waiting.
        Some(TaskState::Done { at, .. } | TaskState::Failed { at, .. }) if fresh(at) => Step::Done,
        Some(TaskState::Done { .. } | TaskState::Failed { .. }) | None => {
            Step::Begin(node(Operation::Begin(key, Task::Tail { lines: LINES, until }), Action::Wait))
        }
    }
}
