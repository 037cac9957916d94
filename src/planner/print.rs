//! One text for plans: `dockmaster plan`, the journal, `why` and the tests share it.

use jiff::Timestamp;

use super::{Action, Cause, Operation, Plan, PlanItem};
use crate::resource::ObjectRef;

/// An instant in RFC 3339, to the second.
pub fn instant(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// `field: old -> new`.
pub fn cause(cause: &Cause) -> String {
    format!("{}: {} -> {}", cause.field, cause.old, cause.new)
}

/// The lines of a plan, without bookkeeping: facts and forgotten tasks are left out, and dependencies go through them.
pub fn items(object: &ObjectRef, plan: &Plan) -> Vec<PlanItem> {
    let shown: Vec<usize> = (0..plan.nodes.len()).filter(|index| is_shown(&plan.nodes[*index].operation)).collect();
    shown
        .iter()
        .map(|index| {
            let node = &plan.nodes[*index];
            let mut through: Vec<usize> = Vec::new();
            visible(plan, &node.depends_on, &mut through);
            let mut depends_on: Vec<usize> = through.iter().filter_map(|on| shown.iter().position(|s| s == on)).collect();
            depends_on.sort_unstable();
            depends_on.dedup();
            PlanItem {
                object: object.clone(),
                action: node.action,
                operation: node.operation.name().to_owned(),
                target: node.operation.target(),
                cause: node.cause.clone(),
                depends_on,
            }
        })
        .collect()
}

/// Whether people want to see it.
fn is_shown(operation: &Operation) -> bool {
    operation.is_mutating() || matches!(operation, Operation::Release)
}

fn visible(plan: &Plan, on: &[usize], found: &mut Vec<usize>) {
    for index in on {
        if is_shown(&plan.nodes[*index].operation) {
            found.push(*index);
        } else {
            visible(plan, &plan.nodes[*index].depends_on, found);
        }
    }
}

/// The plan as text: one line per operation, aligned by nothing, so that it can be compared.
///
/// ```text
/// workspace/shop -n alice
///   1 create   create-volume dm-vol-alice.shop.cache   (volumes.cache: absent -> dm-vol-alice.shop.cache)
///   2 create   create dm-ws-alice.shop                 (container: absent -> dm-ws-alice.shop) after 1
/// ```
pub fn text(object: &ObjectRef, plan: &Plan) -> String {
    let items = items(object, plan);
    let mut out = String::new();
    if items.is_empty() && plan.waiting.is_empty() {
        return out;
    }
    out.push_str(&format!("{object}\n"));
    for (index, item) in items.iter().enumerate() {
        let after = if item.depends_on.is_empty() {
            String::new()
        } else {
            format!(" after {}", item.depends_on.iter().map(|d| (d + 1).to_string()).collect::<Vec<_>>().join(", "))
        };
        out.push_str(&format!("  {} {:<7} {} {} ({}){after}\n", index + 1, word(item.action), item.operation, item.target, cause(&item.cause)));
    }
    for waiting in &plan.waiting {
        out.push_str(&format!("  waits for {}\n", waiting.reason));
    }
    out
}

/// The action as one word.
pub fn word(action: Action) -> &'static str {
    match action {
        Action::Create => "create",
        Action::Update => "update",
        Action::Replace => "replace",
        Action::Start => "start",
        Action::Stop => "stop",
        Action::Delete => "delete",
        Action::Wait => "wait",
        Action::None => "none",
    }
}

/// The last line of a printed plan: how many operations, by what they mean.
pub fn count(items: &[PlanItem]) -> String {
    let of = |action: Action| items.iter().filter(|item| item.action == action).count();
    let all = [Action::Create, Action::Update, Action::Replace, Action::Start, Action::Stop, Action::Delete, Action::Wait];
    let counts: Vec<String> =
        all.into_iter().map(|action| (of(action), word(action))).filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} to {word}")).collect();
    if counts.is_empty() { "Plan: nothing now.".to_owned() } else { format!("Plan: {}.", counts.join(", ")) }
}
