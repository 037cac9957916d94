//! A disk limit that the engine does not enforce is measured, once an hour while it runs.

use jiff::SignedDuration;

use super::builder::Builder;
use super::{Action, Cause, Operation, Task};
use crate::desired::VolumeScope;
use crate::observed::{Container, State, TaskKey, TaskResult, TaskState};
use crate::resource::{Bytes, ConditionType};
use crate::state::Fact;

/// Time between two measurements: the engine walks all files for one.
const INTERVAL: SignedDuration = SignedDuration::from_hours(1);

/// Plans the measurement, and reports what was found.
pub fn watch(b: &mut Builder<'_>, main: &Container) {
    let Some(limit) = b.desired.disk.filter(|_| !b.input.capabilities.disk_limit && matches!(main.state, State::Running(_))) else { return };
    if let Some((_, used)) = b.input.facts.disk.filter(|(_, used)| *used > limit.0) {
        let rounded = Bytes(used >> 20 << 20);
        b.report(ConditionType::DiskOverLimit, format!("it uses {rounded} of {limit} (soft); remove files, or ask for more in resources.disk"));
    }
    let key = TaskKey::Disk(main.id.clone());
    match b.task(&key) {
        Some(TaskState::Running { .. }) => return,
        Some(TaskState::Done { at, result: TaskResult::Disk(used) }) => {
            let cause = Cause::new("disk", "unknown", "measured");
            let recorded = b.push(Operation::Record(Fact::Disk { at: *at, used: *used }), Action::None, cause.clone(), Vec::new());
            b.push(Operation::Forget(key), Action::None, cause, vec![recorded]);
            return;
        }
        Some(TaskState::Done { at, .. } | TaskState::Failed { at, .. }) if b.input.now < *at + INTERVAL => {
            b.recheck_at(*at + INTERVAL);
            return;
        }
        Some(TaskState::Done { .. } | TaskState::Failed { .. }) | None => {}
    }
    let due = b.input.facts.disk.map_or(b.input.now, |(at, _)| at + INTERVAL);
    if b.input.now < due {
        b.recheck_at(due);
        return;
    }
    let volumes = b.desired.volumes.iter().filter(|v| v.scope == VolumeScope::Private).map(|v| v.name.clone()).collect();
    b.push(Operation::Begin(key, Task::Disk { volumes }), Action::Wait, Cause::new("disk", "unknown", "measured"), Vec::new());
}
