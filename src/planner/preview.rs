//! A preview: its volumes copied once, then a workload like any other, until it expires. Expired, it never comes back by itself.
//!
//! The last pass of a copy runs while the source is still. Which containers were paused for it is told by the `..._delta` helper, which
//! exists before the pause and goes after the thaw, so that a crash at any point leaves enough to thaw them.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::builder::{Builder, target};
use super::{Action, Cause, Operation, Plan, PlanInput, SourceStanding, Target, Verdict, WaitKey, clock, hooks, image, network, volume, workload};
use crate::desired::{CopyWant, DesiredState, HookPoint, ImageWant, PreviewWant, Role, naming};
use crate::observed::{Container, ContainerId, HealthState, Identity, Slot, State, TaskKey, TaskResult, TaskState};
use crate::resource::preview::CopyMode;
use crate::resource::quantity::Duration;
use crate::resource::status::{Next, NextAction, Phase};
use crate::resource::{ConditionType, Kind, Reason, Truth};
use crate::state::{Consent, Fact};

/// The longest that a source is kept still.
const STILL: SignedDuration = SignedDuration::from_secs(30);

/// Plans a preview.
pub fn plan(input: &PlanInput<'_>, desired: &DesiredState) -> Plan {
    let Some(preview) = &desired.preview else { return workload::plan(input, desired) };
    if input.facts.expired.is_some() || input.now >= preview.expires_at {
        return expired(input, desired, preview);
    }
    let mut b = Builder::new(input, desired);
    b.next = Some(Next { action: NextAction::Expire, at: preview.expires_at, why: "the end of its lifetime".to_owned() });
    b.recheck_at(preview.expires_at);
    if !desired.fatal.is_empty() {
        return workload::stalled(b);
    }
    let exists = b.container(None, Slot::Current).is_some();
    if let Some(message) = input.standing.over_quota.as_ref().filter(|_| !exists) {
        b.report(ConditionType::QuotaExceeded, message);
        b.wait(WaitKey::Roster(input.object.ns().to_owned()), None, "room in the namespace's quota");
        return b.finish(Verdict::new(Phase::Creating, Truth::False, Reason::QuotaExceeded, message));
    }
    match preview.copy.as_ref().filter(|_| input.facts.copied.is_none()) {
        Some(copy) if !copy.volumes.is_empty() => copying(b, copy),
        Some(_) | None => {
            clear_helpers(&mut b);
            workload::converge(b, Vec::new())
        }
    }
}

/// Makes the volumes and fills them.
fn copying(mut b: Builder<'_>, copy: &CopyWant) -> Plan {
    let (input, desired) = (b.input, b.desired);
    if !network::ensure(&mut b, &desired.networks) || !volume::ensure(&mut b, &desired.volumes) {
        let first = b.conditions.last().map(|c| (c.reason, c.message.clone())).unwrap_or((Reason::Failed, String::new()));
        return workload::impossible(b, first.0, &first.1);
    }
    let helpers: BTreeMap<Slot, (&Container, &Identity)> = b.ours().filter(|(_, o)| o.role == Role::Helper).map(|(c, o)| (o.slot, (c, o))).collect();
    let (live, delta) = (helpers.get(&Slot::Copy).copied(), helpers.get(&Slot::Delta).copied());
    let is_gone = input.standing.source == SourceStanding::Gone;
    if is_gone && live.is_none() && !are_there(input, copy) {
        return lost(b, copy);
    }
    if input.standing.source == SourceStanding::Suspended && must_wait(input, copy, live, delta) {
        return rest(b, copy, delta);
    }
    let failed = match live {
        None if is_gone && !sources(input, copy).is_empty() => {
            b.wait(WaitKey::Object(copy.source.clone()), None, format!("{} to be taken down", copy.source.short()));
            None
        }
        // What is left of one that was deleted is at rest.
        None if !is_gone && !has_begun(input, copy) => {
            let why = format!("{} to run, or to have run", copy.source.short());
            b.wait(WaitKey::Object(copy.source.clone()), None, why);
            None
        }
        None => {
            make_helper(&mut b, copy, Slot::Copy, true);
            None
        }
        Some((container, owner)) => match container.state {
            State::Created => {
                b.push(Operation::Start(target(container, owner)), Action::Create, Cause::new("copy", "made", "running"), Vec::new());
                None
            }
            State::Exited { code: 0 } => last_pass(&mut b, copy, (container, owner), delta),
            State::Exited { code } => Some(format!("the copy of the volumes ended with exit code {code}")),
            State::Running(_) | State::Paused | State::Restarting | State::Removing | State::Dead => {
                b.wait(WaitKey::Container(container.id.clone()), None, "the volumes to be copied");
                None
            }
        },
    };
    match failed {
        Some(message) => {
            let message = format!("{message}; `dockmaster restart` tries again");
            if b.input.facts.restart_asked.is_some() {
                retry(&mut b, &helpers);
            }
            b.report(ConditionType::CopyFailed, message.clone());
            let mut verdict = Verdict::new(Phase::Error, Truth::False, Reason::CopyFailed, message);
            verdict.stalled = b.nodes.is_empty();
            b.finish(verdict)
        }
        None => {
            let message = b.waiting.last().map_or_else(|| "the volumes are being copied".to_owned(), |w| format!("waiting for {}", w.reason));
            let failed = b.conditions.iter().find(|c| c.type_ == ConditionType::HelperUnavailable).map(|c| c.message.clone());
            let mut verdict = match failed {
                Some(message) => Verdict::new(Phase::Creating, Truth::False, Reason::HelperUnavailable, message),
                None => Verdict::new(Phase::Creating, Truth::False, Reason::Copying, message),
            };
            verdict.reconciling = true;
            b.finish(verdict)
        }
    }
}

/// The workspace was deleted, and what was to be copied is gone too.
fn lost(mut b: Builder<'_>, copy: &CopyWant) -> Plan {
    b.nodes.clear();
    let source = copy.source.short();
    let message = format!("{source} was deleted before its volumes were copied; bring it back with `dockmaster undelete {source}`, or delete this preview");
    b.report(ConditionType::CopyFailed, message.clone());
    b.wait(WaitKey::Object(copy.source.clone()), None, format!("{source} to come back"));
    let mut verdict = Verdict::new(Phase::Error, Truth::False, Reason::CopyFailed, message);
    verdict.stalled = true;
    b.finish(verdict)
}

/// Whether a suspended workspace keeps the copy from going on: it would be paused or stopped for it, or has not run yet.
fn must_wait(input: &PlanInput<'_>, copy: &CopyWant, live: Option<(&Container, &Identity)>, delta: Option<(&Container, &Identity)>) -> bool {
    let is_active = sources(input, copy).iter().any(|(container, _)| container.is_active());
    let state = |helper: Option<(&Container, &Identity)>| helper.map(|(container, _)| container.state);
    match (state(live), state(delta)) {
        (None, _) => !has_begun(input, copy) || (is_active && copy.mode != CopyMode::Live),
        (Some(State::Exited { code: 0 }), None | Some(State::Created)) => is_active && copy.mode != CopyMode::Live,
        (Some(_), _) => false,
    }
}

/// Waits for a suspended workspace. What was paused for a pass that has not begun is thawed.
fn rest(mut b: Builder<'_>, copy: &CopyWant, delta: Option<(&Container, &Identity)>) -> Plan {
    if let Some((container, owner)) = delta {
        let cause = Cause::new("copy", "prepared", "its workspace is suspended");
        let paused: Vec<_> = sources(b.input, copy).into_iter().filter(|(source, _)| source.state == State::Paused).collect();
        let thawed = thaw(&mut b, &paused, &cause);
        b.push(Operation::Remove(target(container, owner)), Action::Delete, cause, thawed);
    }
    let source = copy.source.short();
    let message =
        format!("{source} is suspended, and is not touched for a copy; `dockmaster resume {source}` lets it go on, `copyMode: Live` copies without a pause");
    b.report(ConditionType::WaitingOn, message.clone());
    b.wait(WaitKey::Object(copy.source.clone()), None, format!("{source} to be resumed"));
    let mut verdict = Verdict::new(Phase::Creating, Truth::False, Reason::WaitingOn, message);
    verdict.stalled = b.nodes.is_empty();
    verdict.reconciling = !verdict.stalled;
    b.finish(verdict)
}

/// Makes the helper of one pass, after the volumes that it fills.
fn make_helper(b: &mut Builder<'_>, copy: &CopyWant, slot: Slot, start: bool) {
    let Some(main) = b.desired.main() else { return };
    let spec = crate::desired::copy::container(main, copy, slot);
    let Some(image_id) = image::resolve(b, &ImageWant::Helper) else { return };
    let after = b.makers(copy.volumes.iter().map(|(_, to)| to.as_str()));
    let name = spec.name.clone();
    let cause = Cause::new("copy", "not copied", copy.source.short());
    let operation = Operation::Create { spec: Box::new(spec), name: name.clone(), image_id };
    let made = b.push(operation, Action::Create, cause.clone(), after);
    if start {
        b.push(Operation::Start(Target::Made { node: made, name }), Action::Create, cause, vec![made]);
    }
}

/// The pass that copies what changed meanwhile, with the source kept still. Says why when it failed.
fn last_pass(b: &mut Builder<'_>, copy: &CopyWant, live: (&Container, &Identity), delta: Option<(&Container, &Identity)>) -> Option<String> {
    let sources: Vec<(&Container, &Identity)> = sources(b.input, copy);
    let running: Vec<_> = sources.iter().filter(|(c, _)| matches!(c.state, State::Running(_))).copied().collect();
    let paused: Vec<_> = sources.iter().filter(|(c, _)| c.state == State::Paused).copied().collect();
    let cause = Cause::new("copy", "copied once", "copied");
    let Some((container, owner)) = delta else {
        if copy.mode == CopyMode::Live || (running.is_empty() && paused.is_empty()) {
            copied(b, &[live], Vec::new());
        } else {
            make_helper(b, copy, Slot::Delta, false);
        }
        return None;
    };
    match container.state {
        // Begun before a crash: the source is not kept still for what begins only now.
        State::Created if b.input.now >= clock::end_of(container.created, STILL, b.input.now) => {
            let thawed = thaw(b, &paused, &cause);
            b.push(Operation::Remove(target(container, owner)), Action::Delete, cause, thawed);
            None
        }
        State::Created => {
            let still = running.iter().map(|(c, o)| quiet(b, copy.mode, c, o, &cause)).collect();
            b.push(Operation::Start(target(container, owner)), Action::Create, cause, still);
            None
        }
        State::Running(_) => {
            let limit = clock::end_of(container.details.as_ref().and_then(|d| d.started).unwrap_or(b.input.now), STILL, b.input.now);
            if b.input.now < limit {
                b.wait(WaitKey::Container(container.id.clone()), Some(limit), "the last part of the volumes to be copied");
            } else {
                // Its exit code is not 0, so that the next plan thaws the source and reports it.
                b.push(
                    Operation::Stop { target: target(container, owner), grace: Duration::from_secs(1) },
                    Action::Stop,
                    Cause::new("copy", "running", "over 30 s"),
                    Vec::new(),
                );
            }
            None
        }
        // Without this helper nobody could tell any more for what they were paused.
        State::Exited { .. } if sources.is_empty() && b.input.standing.source != SourceStanding::Gone && has_just_ended(container, b.input.now) => {
            b.recheck_at(b.input.now + SignedDuration::from_secs(1));
            None
        }
        State::Exited { code } => {
            // A pause of a moment ago may not have been seen yet. To thaw what is not paused does nothing.
            let still = if code == 0 && copy.mode == CopyMode::Pause { [running, paused].concat() } else { paused };
            let mut after = thaw(b, &still, &cause);
            if copy.mode == CopyMode::Stop {
                let by_us = |c: &Container| c.details.as_ref().and_then(|d| d.finished).is_some_and(|at| at >= container.created);
                let stopped: Vec<_> = sources.iter().filter(|(c, _)| matches!(c.state, State::Exited { .. }) && by_us(c)).copied().collect();
                after.extend(stopped.iter().map(|(c, o)| b.push(Operation::Start(target(c, o)), Action::Start, cause.clone(), Vec::new())));
            }
            if code == 0 {
                copied(b, &[(container, owner), live], after);
                return None;
            }
            (after.is_empty()).then(|| format!("the last part of the copy took over 30 s or failed (exit code {code})")).or_else(|| {
                b.recheck_at(b.input.now + SignedDuration::from_secs(1));
                None
            })
        }
        State::Paused | State::Restarting | State::Removing | State::Dead => Some(format!("the helper of the copy is {}", container.state.as_str())),
    }
}

/// Whether what is to be seen after its end may not be seen yet.
fn has_just_ended(container: &Container, now: Timestamp) -> bool {
    container.details.as_ref().and_then(|details| details.finished).is_some_and(|at| now < clock::end_of(at, STILL, now))
}

fn thaw(b: &mut Builder<'_>, paused: &[(&Container, &Identity)], cause: &Cause) -> Vec<usize> {
    paused.iter().map(|(c, o)| b.push(Operation::Unpause(target(c, o)), Action::Start, cause.clone(), Vec::new())).collect()
}

fn quiet(b: &mut Builder<'_>, mode: CopyMode, container: &Container, owner: &Identity, cause: &Cause) -> usize {
    let operation = match mode {
        CopyMode::Pause | CopyMode::Live => Operation::Pause(target(container, owner)),
        CopyMode::Stop => Operation::Stop { target: target(container, owner), grace: Duration::from_secs(10) },
    };
    b.push(operation, Action::Stop, cause.clone(), Vec::new())
}

/// Remembers the copy, then removes its helpers.
fn copied(b: &mut Builder<'_>, helpers: &[(&Container, &Identity)], after: Vec<usize>) {
    let cause = Cause::new("copy", "running", "copied");
    let recorded = b.push(Operation::Record(Fact::Copied(b.input.now)), Action::None, cause.clone(), after);
    for (container, owner) in helpers {
        b.push(Operation::Remove(target(container, owner)), Action::Delete, cause.clone(), vec![recorded]);
    }
}

fn retry(b: &mut Builder<'_>, helpers: &BTreeMap<Slot, (&Container, &Identity)>) {
    let cause = Cause::new("restart", "asked", "copied again");
    let removed = helpers.values().map(|(c, o)| b.push(Operation::Remove(target(c, o)), Action::Delete, cause.clone(), Vec::new())).collect();
    b.push(Operation::Record(Fact::RestartDone), Action::None, cause, removed);
}

/// Helpers that a crash between "copied" and their removal left.
fn clear_helpers(b: &mut Builder<'_>) {
    let left: Vec<_> = b.ours().filter(|(_, owner)| owner.role == Role::Helper).collect();
    for (container, owner) in left {
        workload::remove(b, container, owner, Duration::from_secs(1), &Cause::new("copy", "copied", "helper not needed"), Vec::new());
    }
}

/// The containers of the source.
fn sources<'a>(input: &PlanInput<'a>, copy: &'a CopyWant) -> Vec<(&'a Container, &'a Identity)> {
    input.world.of(&copy.source).filter_map(|c| c.owner.as_ref().filter(|o| o.uid == copy.source_uid && o.role != Role::Helper).map(|o| (c, o))).collect()
}

/// Whether the source has what can be copied: its volumes, and a main container that is past its start.
fn has_begun(input: &PlanInput<'_>, copy: &CopyWant) -> bool {
    let task = |key: TaskKey| input.world.tasks.get(&key);
    // What the operator tested itself, before the engine does.
    let tested = |id: &ContainerId| matches!(task(TaskKey::Probe(id.clone())), Some(TaskState::Done { result: TaskResult::Exit { code: 0, .. }, .. }));
    let hooked = |id: &ContainerId| {
        let hook = |point: HookPoint| task(TaskKey::Hook(id.clone(), point.as_str().to_owned()));
        [HookPoint::PostCreate, HookPoint::PostStart].into_iter().any(|point| matches!(hook(point), Some(TaskState::Running { .. })))
    };
    let is_past_start = |container: &Container| match container.state {
        State::Created | State::Removing | State::Dead => false,
        State::Running(HealthState::Starting) => tested(&container.id) && !hooked(&container.id),
        State::Running(HealthState::None | HealthState::Healthy | HealthState::Unhealthy) => !hooked(&container.id),
        State::Paused | State::Restarting | State::Exited { .. } => true,
    };
    let mains = sources(input, copy).into_iter().filter(|(_, owner)| owner.role == Role::Main);
    are_there(input, copy) && mains.map(|(container, _)| container).any(is_past_start)
}

/// Whether all volumes are there that are to be copied.
fn are_there(input: &PlanInput<'_>, copy: &CopyWant) -> bool {
    let is_there = |name: &String| input.world.volumes.get(name).and_then(|v| v.owner.as_ref()).is_some_and(|o| o.uid.as_ref() == Some(&copy.source_uid));
    copy.volumes.iter().all(|(from, _)| is_there(from))
}

/// Until when a copy may keep this container still, or could have: twice its limit after it was prepared. `None`: no copy does.
pub fn copied_until(b: &Builder<'_>, container: &Container) -> Option<Timestamp> {
    let uid = container.owner.as_ref().map(|owner| &owner.uid)?;
    helpers_of(b.input, uid).map(|helper| clock::end_of(helper.created, STILL * 2, b.input.now)).max()
}

/// Whether a copy that is under way wants this container to stay stopped.
pub fn is_held_still(b: &Builder<'_>, container: &Container) -> bool {
    let Some(uid) = container.owner.as_ref().map(|owner| &owner.uid) else { return false };
    let is_young = |helper: &Container| b.input.now < clock::end_of(helper.created, STILL * 2, b.input.now);
    helpers_of(b.input, uid).any(|helper| is_young(helper) && matches!(helper.state, State::Created | State::Running(_)))
}

fn helpers_of<'a>(input: &PlanInput<'a>, source: &crate::resource::Uid) -> impl Iterator<Item = &'a Container> {
    input
        .world
        .of
        .iter()
        .filter(|(object, _)| object.kind == Kind::Preview && object.namespace == input.object.namespace)
        .flat_map(|(_, ids)| ids)
        .filter_map(|id| input.world.containers.get(id))
        .filter(move |c| {
            c.owner.as_ref().is_some_and(|o| o.role == Role::Helper && o.slot == Slot::Delta) && c.labels.get(naming::SOURCE).is_some_and(|of| *of == source.0)
        })
}

/// Everything goes but the marker, which goes at the end of its own time.
fn expired(input: &PlanInput<'_>, desired: &DesiredState, preview: &PreviewWant) -> Plan {
    let mut b = Builder::new(input, desired);
    let cause = Cause::new("expiresAt", super::print::instant(preview.expires_at), "passed");
    let mut recorded = Vec::new();
    if input.facts.expired.is_none() {
        recorded.push(b.push(Operation::Record(Fact::Expired(input.now)), Action::None, cause.clone(), Vec::new()));
    }
    let at = input.facts.expired.unwrap_or(input.now);
    let over = at + preview.ttl_after_expired.0;
    let installation = desired.main().and_then(|main| main.labels.get(naming::INSTALLATION)).cloned().unwrap_or_default();
    let marker = naming::expired_marker(&installation, input.object);
    let marked = input.world.volumes.contains_key(&marker);
    if !marked && input.now < over {
        let labels = naming::expired_marker_labels(&installation, input.object, &desired.uid, at);
        recorded.push(b.push(Operation::EnsureVolume { name: marker.clone(), labels }, Action::Create, cause.clone(), recorded.clone()));
    }
    if let Some(copy) = &preview.copy {
        let helped = b.ours().any(|(_, owner)| owner.slot == Slot::Delta);
        for (container, owner) in sources(input, copy).into_iter().filter(|(c, _)| helped && c.is_active()) {
            recorded.push(b.push(Operation::Unpause(target(container, owner)), Action::Start, cause.clone(), Vec::new()));
        }
    }
    let grace = desired.main().map_or(Duration::from_secs(10), |main| main.stop_grace);
    let containers: Vec<_> = b.ours().collect();
    let mut mains = containers.iter().filter(|(_, owner)| owner.role == Role::Main);
    if !mains.all(|(main, _)| hooks::before_stop(&mut b, main, grace)) {
        let mut verdict = Verdict::new(Phase::Stopping, Truth::False, Reason::Progressing, "expired, and being taken down");
        verdict.reconciling = true;
        return b.finish(verdict);
    }
    let gone: Vec<usize> = containers.into_iter().map(|(c, o)| workload::remove(&mut b, c, o, grace, &cause, recorded.clone())).collect();
    let mine = |owner: Option<&crate::resource::Uid>| owner == Some(&desired.uid);
    for network in input.world.networks.of(input.object).filter(|n| n.owner.as_ref().is_some_and(|o| mine(o.uid.as_ref()))) {
        b.push(Operation::RemoveNetwork { id: network.id.clone(), name: network.name.clone() }, Action::Delete, cause.clone(), gone.clone());
    }
    for volume in input.world.volumes.of(input.object) {
        let Some(owner) = volume.owner.as_ref().filter(|o| mine(o.uid.as_ref())) else { continue };
        if !owner.expired_marker || input.now >= over {
            let operation = Operation::RemoveVolume { name: volume.name.clone(), uid: desired.uid.clone(), consent: Consent::PreviewCopy };
            b.push(operation, Action::Delete, cause.clone(), gone.clone());
        }
    }
    if !gone.is_empty() {
        let all = (0..b.nodes.len()).collect();
        b.push(Operation::ReleaseLeases, Action::None, cause, all);
    }
    if input.now < over {
        b.recheck_at(over);
    }
    let mut verdict = Verdict::new(Phase::Expired, Truth::True, Reason::Expired, "expired; its container, its copied data and its port are gone");
    if !b.nodes.is_empty() {
        verdict = Verdict::new(Phase::Stopping, Truth::False, Reason::Progressing, "expired, and being taken down");
        verdict.reconciling = true;
    }
    b.finish(verdict)
}
