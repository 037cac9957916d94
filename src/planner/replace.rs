//! Exchanges a container for another: make `..._next`, stop the old, start the new, see that it works, remove the old, rename.
//!
//! Every step can be told from names, labels and hashes, so that a crash anywhere is finished or undone by the next plan.
//!
//! **Invariant:** at most one of the two runs. The old is removed only when the new was seen to work.

use super::builder::{Builder, target};
use super::container::{Progress, fetching, push_create, record_applied, taken};
use super::readiness::{self, Readiness};
use super::{Action, Cause, Operation, Target, hooks, image, last_lines};
use crate::desired::{ContainerSpec, Role};
use crate::observed::{Container, Identity, State, TaskKey};
use crate::resource::Reason;
use crate::resource::workspace::RestartPolicy;
use crate::state::Fact;

/// The suffix of a replacement that is not finished; an underscore is in no DNS label.
pub const NEXT: &str = "_next";

/// Begins an exchange. While the image is fetched, the old container runs on.
pub fn begin(b: &mut Builder<'_>, want: &ContainerSpec, old: (&Container, &Identity), cause: Cause, gate: &[usize], may_start: bool) -> Progress {
    let name = format!("{}{NEXT}", want.name);
    if let Some(conflict) = taken(b, &name) {
        return conflict;
    }
    let Some(image_id) = image::resolve(b, &want.image) else { return fetching(b) };
    if old.0.is_active() && !before_stop(b, want, old.0) {
        return Progress::Working(Reason::Progressing, format!("{} is about to be replaced", want.name), None);
    }
    let mut kept = Vec::new();
    if !old.0.is_active() {
        match last_words(b, want, old.0) {
            Some(nodes) => kept = nodes,
            None => return Progress::Working(Reason::Progressing, format!("{} is about to be replaced", want.name), None),
        }
    }
    let made = push_create(b, want, &name, image_id, cause.clone());
    b.nodes[made].action = Action::Replace;
    let new = || Target::Made { node: made, name: name.clone() };
    if !old.0.is_active() {
        kept.push(made);
        let removed = b.push(Operation::Remove(target(old.0, old.1)), Action::Replace, cause.clone(), kept);
        forget(b, old.0, &cause, removed);
        let renamed = b.push(Operation::Rename { target: new(), to: want.name.clone() }, Action::Replace, cause.clone(), vec![removed]);
        let recorded = record_replaced(b, want, &cause, renamed);
        let mut after = gate.to_vec();
        after.push(recorded);
        let started = may_start.then(|| b.push(Operation::Start(new()), Action::Start, cause, after));
        return Progress::Working(Reason::Progressing, format!("replacing {}", want.name), started);
    }
    let stopped = push_stop(b, want, old, &cause, vec![made]);
    let mut after = gate.to_vec();
    after.push(stopped);
    let started = b.push(Operation::Start(new()), Action::Replace, cause, after);
    Progress::Working(Reason::Progressing, format!("replacing {}", want.name), Some(started))
}

/// Goes on with an exchange that was begun, by this plan's predecessor or before a crash.
pub fn proceed(b: &mut Builder<'_>, want: &ContainerSpec, old: Option<(&Container, &Identity)>, new: (&Container, &Identity), gate: &[usize]) -> Progress {
    let working = |what: &str| Progress::Working(Reason::Progressing, format!("{what} {}", want.name), None);
    let known = old.and_then(|(container, _)| super::container::causes(b, want, container).into_iter().next());
    let cause = known.unwrap_or_else(|| Cause::new("spec-hash", old.map_or("none", |(_, owner)| owner.hash.as_str()), &new.1.hash));
    if matches!(new.0.state, State::Removing) {
        b.recheck_at(b.input.now + jiff::SignedDuration::from_secs(2));
        return working("clearing the replacement of");
    }
    let Some(old) = old else {
        if let Some(conflict) = taken(b, &want.name) {
            return conflict;
        }
        // The old one is gone already: what is left is the name. Should it be out of date, the next plan says so.
        finish(b, want, None, new, &cause);
        return working("renaming the replacement of");
    };
    if new.1.hash != want.hash {
        discard(b, want, new, &Cause::new("spec-hash", &new.1.hash, &want.hash), Vec::new());
        return working("taking back an outdated replacement of");
    }
    let refused = new.0.refused_start();
    match new.0.state {
        State::Created | State::Exited { .. } if new.0.is_stranded() => {
            // That says nothing of the spec.
            discard(b, want, new, &Cause::new("replacement", "killed in the middle of its start", "made anew"), Vec::new());
            working("clearing the replacement of")
        }
        State::Created | State::Exited { .. } if refused.is_some() => {
            undo(b, want, old, new, &format!("the replacement did not start: {}", refused.unwrap_or_default()));
            working("going back to the old")
        }
        State::Exited { code: 0 } if want.limits.restart != RestartPolicy::UnlessStopped => {
            finish(b, want, Some(old), new, &cause);
            working("removing the old")
        }
        State::Exited { code } if ended_by_itself(want, new.0, code) => {
            undo(b, want, old, new, &format!("the replacement ended at once with exit code {code}"));
            working("going back to the old")
        }
        // What ended with its engine, or was stopped by somebody, says nothing of the spec either.
        State::Created | State::Exited { .. } => {
            let mut after = gate.to_vec();
            if old.0.is_active() {
                if !before_stop(b, want, old.0) {
                    return working("about to replace");
                }
                after.push(push_stop(b, want, old, &cause, Vec::new()));
            }
            b.push(Operation::Start(target(new.0, new.1)), Action::Replace, cause, after);
            working("replacing")
        }
        State::Running(_) if old.0.is_active() => {
            // Somebody started the old one meanwhile: one of two must go, and the new one is what is declared.
            push_stop(b, want, old, &cause, Vec::new());
            working("stopping the old")
        }
        State::Running(_) => match readiness::has_settled(b, new.0, want) {
            Readiness::Ready => {
                finish(b, want, Some(old), new, &cause);
                working("removing the old")
            }
            Readiness::Starting => Progress::Starting(format!("the replacement of {} is not ready yet", want.name)),
            Readiness::Unhealthy => {
                undo(b, want, old, new, "the replacement's health check fails");
                working("going back to the old")
            }
            Readiness::Down => working("looking at"),
        },
        State::Restarting | State::Dead => {
            undo(b, want, old, new, "the replacement ends again and again");
            working("going back to the old")
        }
        State::Paused => thaw(b, want, new, &cause),
        State::Removing => working("waiting for the replacement of"),
    }
}

/// Whether it was the program that failed. What the engine starts again whenever it ends is there as ended only when somebody stopped it, or when the
/// engine was killed.
fn ended_by_itself(want: &ContainerSpec, container: &Container, code: i64) -> bool {
    let by_signal = matches!(code, 137 | 143) && !container.details.as_ref().is_some_and(|details| details.oom_killed);
    match want.limits.restart {
        RestartPolicy::UnlessStopped | RestartPolicy::OnFailure => false,
        RestartPolicy::No => !by_signal,
    }
}

/// A copy keeps it still for a moment. What stands still for longer would never be seen to work, and the exchange never end.
fn thaw(b: &mut Builder<'_>, want: &ContainerSpec, new: (&Container, &Identity), cause: &Cause) -> Progress {
    if let Some(until) = super::preview::copied_until(b, new.0).filter(|until| b.input.now < *until) {
        b.recheck_at(until);
        return Progress::Working(Reason::Copying, format!("the replacement of {} is paused while a preview copies its volumes", want.name), None);
    }
    b.push(Operation::Unpause(target(new.0, new.1)), Action::Replace, cause.clone(), Vec::new());
    Progress::Working(Reason::Progressing, format!("the replacement of {} is thawed", want.name), None)
}

/// Removes the old, gives the new its name, and remembers what it was made from.
fn finish(b: &mut Builder<'_>, want: &ContainerSpec, old: Option<(&Container, &Identity)>, new: (&Container, &Identity), cause: &Cause) {
    let mut after = Vec::new();
    if let Some(old) = old {
        if old.0.is_active() {
            push_stop(b, want, old, cause, Vec::new());
            return;
        }
        let Some(kept) = last_words(b, want, old.0) else { return };
        after = vec![b.push(Operation::Remove(target(old.0, old.1)), Action::Replace, cause.clone(), kept)];
        forget(b, old.0, cause, after[0]);
    }
    let renamed = b.push(Operation::Rename { target: target(new.0, new.1), to: want.name.clone() }, Action::Replace, cause.clone(), after);
    if new.1.hash == want.hash {
        record_replaced(b, want, cause, renamed);
    }
}

/// Remembers what the new one was made from, and that no update stands that failed.
fn record_replaced(b: &mut Builder<'_>, want: &ContainerSpec, cause: &Cause, renamed: usize) -> usize {
    let recorded = record_applied(b, want, cause, vec![renamed]);
    if b.input.facts.update_failed.is_some() {
        b.push(Operation::Record(Fact::UpdateFailed(None)), Action::None, cause.clone(), vec![recorded]);
    }
    recorded
}

/// Takes the new away and starts the old again; the failure is remembered first, so that it is not tried for ever.
fn undo(b: &mut Builder<'_>, want: &ContainerSpec, old: (&Container, &Identity), new: (&Container, &Identity), why: &str) {
    let Some(mut after) = last_words(b, want, new.0) else { return };
    let cause = Cause::new("replacement", "started", why);
    let fact = Fact::UpdateFailed(Some((want.hash.clone(), why.to_owned())));
    let recorded = b.push(Operation::Record(fact), Action::None, cause.clone(), Vec::new());
    after.push(recorded);
    if b.input.facts.restart_asked.is_some() {
        // It was tried; asked for still, it would be tried for ever.
        b.push(Operation::Record(Fact::RestartDone), Action::None, cause.clone(), vec![recorded]);
    }
    let removed = discard(b, want, new, &cause, after);
    if !old.0.is_active() {
        b.push(Operation::Start(target(old.0, old.1)), Action::Start, cause, vec![removed]);
    }
}

fn discard(b: &mut Builder<'_>, want: &ContainerSpec, new: (&Container, &Identity), cause: &Cause, mut after: Vec<usize>) -> usize {
    if new.0.is_active() {
        after = vec![push_stop(b, want, new, cause, after)];
    }
    let removed = b.push(Operation::Remove(target(new.0, new.1)), Action::Replace, cause.clone(), after);
    forget(b, new.0, cause, removed);
    removed
}

/// What main wrote last is remembered before it goes; `None`: it is being read.
fn last_words(b: &mut Builder<'_>, want: &ContainerSpec, container: &Container) -> Option<Vec<usize>> {
    if want.role == Role::Main { last_lines::keep(b, container) } else { Some(Vec::new()) }
}

fn forget(b: &mut Builder<'_>, container: &Container, cause: &Cause, removed: usize) {
    for task in [TaskKey::Tail(container.id.clone()), TaskKey::Memory(container.id.clone())] {
        if b.task(&task).is_some() {
            b.push(Operation::Forget(task), Action::None, cause.clone(), vec![removed]);
        }
    }
}

fn push_stop(b: &mut Builder<'_>, want: &ContainerSpec, (container, owner): (&Container, &Identity), cause: &Cause, mut after: Vec<usize>) -> usize {
    if container.state == State::Paused {
        after = vec![b.push(Operation::Unpause(target(container, owner)), Action::Replace, cause.clone(), after)];
    }
    b.push(Operation::Stop { target: target(container, owner), grace: want.stop_grace }, Action::Replace, cause.clone(), after)
}

fn before_stop(b: &mut Builder<'_>, want: &ContainerSpec, old: &Container) -> bool {
    want.role != Role::Main || hooks::before_stop(b, old, want.stop_grace)
}
