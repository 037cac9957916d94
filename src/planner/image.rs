//! Images: found on the engine, or pulled by a task that any number of objects wait for.

use jiff::{SignedDuration, Timestamp};

use super::builder::Builder;
use super::{Action, Cause, Operation, Task, WaitKey, clock};
use crate::desired::{ContainerSpec, ImageWant};
use crate::observed::{Container, TaskKey, TaskState};
use crate::resource::ConditionType;
use crate::resource::workspace::PullPolicy;

/// The id of the image to make a container from now; `None`: it is being fetched, or cannot be had, and the builder says so.
pub fn resolve(b: &mut Builder<'_>, want: &ImageWant) -> Option<String> {
    match want {
        ImageWant::Helper => helper(b),
        ImageWant::Reference(reference) => referenced(b, reference),
    }
}

fn helper(b: &mut Builder<'_>) -> Option<String> {
    if let Some(id) = &b.input.world.helper {
        return Some(id.clone());
    }
    fetch(b, TaskKey::Helper, Task::Helper, ConditionType::HelperUnavailable, "the helper image");
    None
}

fn referenced(b: &mut Builder<'_>, reference: &str) -> Option<String> {
    let key = TaskKey::Pull(reference.to_owned());
    let present = b.input.world.image(reference).cloned();
    let pulled = matches!(b.task(&key), Some(TaskState::Done { .. }));
    match (b.desired.pull, present) {
        (PullPolicy::IfNotPresent | PullPolicy::Never, Some(id)) => Some(id),
        (PullPolicy::Always, Some(id)) if pulled => Some(id),
        (PullPolicy::Never, None) => {
            b.report(ConditionType::ImagePullFailed, format!("image {reference} is not on the engine and pullPolicy is Never; load it, or allow the pull"));
            None
        }
        (PullPolicy::Always | PullPolicy::IfNotPresent, _) => {
            if pulled {
                // Pulled and gone again, or the listing is older than the pull: look again.
                b.push(Operation::Forget(key), Action::Wait, Cause::new("image", "pulled", "not found"), Vec::new());
            } else {
                fetch(b, key, Task::Pull { reference: reference.to_owned() }, ConditionType::ImagePullFailed, reference);
            }
            None
        }
    }
}

/// Whether a restart finds another image than the container's: with `Always` the reference is resolved anew, once since the restart was
/// asked for. `None`: it is being fetched, or cannot be had, and the builder says so; the container runs on.
pub fn moved_at_restart(b: &mut Builder<'_>, want: &ContainerSpec, container: &Container) -> Option<bool> {
    let ImageWant::Reference(reference) = &want.image else { return Some(false) };
    if b.desired.pull != PullPolicy::Always {
        return Some(false);
    }
    if is_fetched_for_restart(b, reference, container) {
        return Some(has_moved(b, want, container));
    }
    fetch(b, TaskKey::Pull(reference.clone()), Task::Pull { reference: reference.clone() }, ConditionType::ImagePullFailed, reference);
    None
}

/// Whether the restart of what has ended waits until its reference is resolved anew. What cannot be had does not keep it down.
pub fn is_awaited_by_restart(b: &mut Builder<'_>, want: &ContainerSpec, container: &Container) -> bool {
    let ImageWant::Reference(reference) = &want.image else { return false };
    let since = asked_since(b, container);
    let failed = |at: Timestamp| since.is_none_or(|since| at >= since);
    let is_in_vain = matches!(b.task(&TaskKey::Pull(reference.clone())), Some(TaskState::Failed { at, .. }) if failed(*at));
    !is_in_vain && moved_at_restart(b, want, container).is_none()
}

/// Whether the restart that is asked for takes another image.
pub fn restart_takes_another(b: &Builder<'_>, want: &ContainerSpec, container: &Container) -> bool {
    let ImageWant::Reference(reference) = &want.image else { return false };
    b.desired.pull == PullPolicy::Always && is_fetched_for_restart(b, reference, container) && has_moved(b, want, container)
}

fn is_fetched_for_restart(b: &Builder<'_>, reference: &str, container: &Container) -> bool {
    let since = asked_since(b, container);
    matches!(b.task(&TaskKey::Pull(reference.to_owned())), Some(TaskState::Done { at, .. }) if since.is_none_or(|since| *at >= since))
}

/// Since when a restart may be asked for, by this clock.
fn asked_since(b: &Builder<'_>, container: &Container) -> Option<Timestamp> {
    let started = container.details.as_ref().and_then(|details| details.started);
    b.input.facts.restart_asked.or(started).filter(|since| clock::is_of_this_clock(*since, b.input.now))
}

/// Whether the reference names another image by now than the one that the container was made from.
pub fn has_moved(b: &Builder<'_>, want: &ContainerSpec, container: &Container) -> bool {
    let ImageWant::Reference(reference) = &want.image else { return false };
    b.input.world.image(reference).is_some_and(|id| *id != container.image_id)
}

/// Begins a fetch, waits for it, or waits for the next attempt.
fn fetch(b: &mut Builder<'_>, key: TaskKey, task: Task, failure: ConditionType, what: &str) {
    let begin = |b: &mut Builder<'_>| {
        b.push(Operation::Begin(key.clone(), task), Action::Wait, Cause::new("image", "absent", what), Vec::new());
    };
    match b.task(&key) {
        None | Some(TaskState::Done { .. }) => {
            begin(b);
            b.wait(WaitKey::Task(key), None, format!("pulling {what}"));
        }
        Some(TaskState::Running { progress, failed, .. }) => {
            // What failed has failed until it is there: its condition is not to come and go with each attempt.
            if let Some(error) = failed {
                b.report(failure, format!("{what}: {error}"));
            }
            let reason = if progress.is_empty() { format!("pulling {what}") } else { format!("pulling {what}: {progress}") };
            b.wait(WaitKey::Task(key), None, reason);
        }
        Some(TaskState::Failed { at, attempts, error }) => {
            let retry = *at + backoff(*attempts, 5);
            b.report(failure, format!("{what}: {error}"));
            if b.input.now >= retry {
                begin(b);
                b.wait(WaitKey::Task(key), None, format!("pulling {what}"));
            } else {
                b.wait(WaitKey::Time, Some(retry), format!("pulling {what} again later"));
            }
        }
    }
}

/// `first` seconds, doubled with each attempt, at most five minutes.
pub fn backoff(attempts: u32, first: i64) -> SignedDuration {
    let seconds = first.saturating_mul(1_i64 << attempts.saturating_sub(1).min(10));
    SignedDuration::from_secs(seconds.min(300))
}
