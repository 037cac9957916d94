//! Events and the journal: what was done, told for people, from a plan and the report of its execution.

use jiff::Timestamp;

use crate::executor::{NodeResult, Report};
use crate::observed::TaskKey;
use crate::planner::{Action, Operation, Plan, PlanNode, print};
use crate::resource::ObjectRef;
use crate::state::{Event, EventReason, EventType, Fact, FieldChange, JournalEntry, JournalOperation, JournalSkipped, StopReason, Trigger};

/// The journal entry of one executed plan; `None` when nothing was done that people want to read of.
pub fn journal(object: &ObjectRef, generation: u64, trigger: Trigger, plan: &Plan, report: &Report, now: Timestamp) -> Option<JournalEntry> {
    // A test that the operator runs every second or two changes nothing, and would push out what did.
    let changes_something = |operation: &Operation| operation.is_mutating() && !matches!(operation, Operation::Begin(TaskKey::Probe(_), _));
    let told = |node: &PlanNode, result: &NodeResult| changes_something(&node.operation) || matches!(result, NodeResult::Failed(_));
    let operations: Vec<JournalOperation> = plan
        .nodes
        .iter()
        .zip(&report.nodes)
        .filter(|(node, (result, _))| told(node, result))
        .map(|(node, (result, took))| JournalOperation {
            op: node.operation.name().to_owned(),
            target: node.operation.target(),
            cause: print::cause(&node.cause),
            result: match result {
                NodeResult::Done(_) => "done".to_owned(),
                NodeResult::Failed(error) => error.to_string(),
                NodeResult::NotRun => "not run".to_owned(),
            },
            ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        })
        .collect();
    if operations.is_empty() {
        return None;
    }
    let changes = plan.changes.iter().map(|c| FieldChange { field: c.field.clone(), old: c.old.clone(), new: c.new.clone() }).collect();
    let skipped = plan.skipped.iter().map(|s| JournalSkipped { op: s.op.clone(), why: s.why.clone() }).collect();
    Some(JournalEntry { time: now, object: object.clone(), generation, trigger, changes, operations, skipped, next: plan.next.clone() })
}

/// The events of one executed plan.
pub fn events(object: &ObjectRef, plan: &Plan, report: &Report, now: Timestamp) -> Vec<Event> {
    let tell = |node: &PlanNode, result: &NodeResult| match result {
        NodeResult::NotRun => None,
        NodeResult::Failed(error) => Some((EventType::Warning, EventReason::Failed, format!("{} {}: {error}", node.operation.name(), node.operation.target()))),
        NodeResult::Done(_) => done(node),
    };
    let event = |(type_, reason, message)| Event { time: now, type_, reason, object: Some(object.clone()), message, count: 1 };
    plan.nodes.iter().zip(&report.nodes).filter_map(|(node, (result, _))| tell(node, result)).map(event).collect()
}

type Told = Option<(EventType, EventReason, String)>;

fn normal(reason: EventReason, message: impl Into<String>) -> Told {
    Some((EventType::Normal, reason, message.into()))
}

fn warning(reason: EventReason, message: impl Into<String>) -> Told {
    Some((EventType::Warning, reason, message.into()))
}

fn done(node: &PlanNode) -> Told {
    let target = node.operation.target();
    let cause = print::cause(&node.cause);
    let removed = node.cause.old.starts_with("removed");
    let exited = node.cause.old.starts_with("exited");
    match &node.operation {
        Operation::Create { .. } if node.action == Action::Replace => normal(EventReason::Replaced, format!("{target}: {cause}")),
        Operation::Create { .. } | Operation::EnsureNetwork { .. } | Operation::EnsureVolume { .. } if removed => {
            warning(EventReason::Healed, format!("made {target} anew: it was removed by somebody"))
        }
        Operation::Create { .. } => normal(EventReason::Created, target),
        Operation::Start(_) if exited => {
            warning(EventReason::Healed, format!("started {target} again: it had {}; `dockmaster stop` stops it for good", node.cause.old))
        }
        Operation::Start(_) => normal(EventReason::Started, target),
        Operation::Connect { .. } => warning(EventReason::Healed, format!("connected {target} again: {cause}")),
        Operation::Stop { .. } if node.action == Action::Stop => normal(EventReason::Stopped, format!("{target}: {}", node.cause.new)),
        Operation::Remove(_) if node.action == Action::Delete => normal(EventReason::Removed, target),
        Operation::RemoveNetwork { .. } | Operation::RemoveVolume { .. } => normal(EventReason::Removed, target),
        Operation::Rename { .. } if node.action == Action::Update => warning(EventReason::Healed, format!("renamed {target}: {cause}")),
        Operation::Update { .. } => normal(EventReason::Updated, format!("{target}: {cause}")),
        Operation::Begin(TaskKey::Pull(reference), _) => normal(EventReason::Pulling, reference.clone()),
        Operation::Release => normal(EventReason::Purged, "its tombstone ended"),
        Operation::Record(fact) => recorded(fact),
        Operation::EnsureNetwork { .. }
        | Operation::EnsureVolume { .. }
        | Operation::Stop { .. }
        | Operation::Remove(_)
        | Operation::Rename { .. }
        | Operation::Disconnect { .. }
        | Operation::Pause(_)
        | Operation::Unpause(_)
        | Operation::Begin(..)
        | Operation::Forget(_)
        | Operation::ReleaseLeases => None,
    }
}

fn recorded(fact: &Fact) -> Told {
    match fact {
        Fact::Stopped(stop) => match stop.why {
            StopReason::Idle => normal(EventReason::IdleStopped, "no activity for its idle timeout; `dockmaster start` wakes it"),
            StopReason::Lifetime => normal(EventReason::LifetimeStopped, "its maximum lifetime has passed; `dockmaster start` begins another"),
            StopReason::OutsideHours => normal(EventReason::HoursStopped, "its running hours have ended"),
            StopReason::Declared | StopReason::Quota | StopReason::Expired => None,
        },
        Fact::Warned(at) => warning(EventReason::StopSoon, format!("stops at {} for want of activity; `dockmaster touch` keeps it up", print::instant(*at))),
        Fact::Copied(_) => normal(EventReason::Copied, "the volumes were copied"),
        Fact::Expired(_) => normal(EventReason::Expired, "the end of its lifetime"),
        Fact::VolumeLost { name, .. } => warning(EventReason::Healed, format!("volume {name} was removed by somebody; it is made anew, empty")),
        Fact::UpdateFailed(Some((_, message))) => warning(EventReason::Failed, format!("{message}; going back to the old container")),
        Fact::HookFailed { hook, failed } => warning(EventReason::Failed, format!("hooks.{hook} {}", failed.message)),
        Fact::Looping { message, .. } => warning(EventReason::BackOff, message.clone()),
        Fact::UnnamedVolumes { name, found } if !found.paths.is_empty() => {
            let what = found.paths.join(" and ");
            warning(EventReason::Created, format!("{name} keeps {what} in a volume without a name, which goes with the container; {}", found.advice()))
        }
        Fact::Exited(_) => warning(EventReason::BackOff, "its process ended"),
        Fact::Activity { .. }
        | Fact::RunSince(_)
        | Fact::RunBegun(_)
        | Fact::StartAsked(_)
        | Fact::ExtendedUntil(_)
        | Fact::Unstopped
        | Fact::RestartSeen(_)
        | Fact::RestartAsked(_)
        | Fact::RestartDone
        | Fact::HookBegun { .. }
        | Fact::HookDone { .. }
        | Fact::Sampled(_)
        | Fact::IdleCheckFailing(_)
        | Fact::Applied { .. }
        | Fact::AppliedDigest(_)
        | Fact::UpdateFailed(None)
        | Fact::ExitsForgotten
        | Fact::PreviousLog(_)
        | Fact::Pinned(_)
        | Fact::PreviewHash(_)
        | Fact::LeasesReleased(_)
        | Fact::VolumeMade(_)
        | Fact::UnnamedVolumes { .. }
        | Fact::Disk { .. }
        | Fact::StateLost(_)
        | Fact::Failures(_) => None,
    }
}
