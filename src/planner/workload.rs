//! A workspace, whole: run or not, networks, volumes, services in their order, main last, restarts, activity.

use super::builder::{Builder, target};
use super::container::{self, Progress};
use super::run::{self, Clock, Decision};
use super::{Action, Cause, Operation, Plan, PlanInput, Verdict, WaitKey, disk, hooks, idle, image, network, volume};
use crate::desired::{ContainerSpec, DesiredState, IdlePolicy, Role};
use crate::observed::{Container, Identity, Slot, State};
use crate::resource::quantity::{Bytes, Duration};
use crate::resource::status::Phase;
use crate::resource::{ConditionType, Reason, Truth};
use crate::state::{Fact, PolicyStop, StopReason};

/// How long without activity counts as idle for a pending change, where no idle timeout says so.
const PENDING_IDLE: Duration = Duration::from_secs(600);

/// Plans a workspace.
pub fn plan(input: &PlanInput<'_>, desired: &DesiredState) -> Plan {
    let mut b = Builder::new(input, desired);
    let main = b.container(None, Slot::Current).or_else(|| b.container(None, Slot::Next));
    let decision = run::decide(&desired.run, input.facts, main.map(|(c, _)| c), input.standing.over_quota.as_deref(), input.now);
    match decision {
        Decision::Unknown => unknown(b),
        Decision::Stop { why, message, next } => {
            run::schedule(&mut b, next);
            stop(b, main, why, &message)
        }
        Decision::Run { .. } if !desired.fatal.is_empty() => stalled(b),
        Decision::Run { next, begins } => {
            run::schedule(&mut b, next);
            let gate = begin(&mut b, begins);
            if input.facts.state_lost && main.is_none_or(|(c, _)| c.is_active()) {
                // It runs, so that nothing is unknown about whether it may.
                b.push(Operation::Record(Fact::StateLost(false)), Action::None, Cause::new("state", "lost", "recovered"), Vec::new());
            }
            converge(b, gate)
        }
    }
}

/// Whether a restart was asked for and not done.
pub fn restart_pending(b: &Builder<'_>) -> bool {
    let facts = b.input.facts;
    facts.restart_asked.is_some() || (facts.applied_digest.is_some() && facts.restart_seen != b.desired.restart_token)
}

/// Whether it has had no activity for its idle timeout, or ten minutes. While a change waits for that, activity is sampled.
pub fn is_idle(b: &mut Builder<'_>) -> bool {
    let Some(((main, _), want)) = b.container(None, Slot::Current).zip(b.desired.main()) else { return true };
    let timeout = b.desired.run.idle.as_ref().map_or(PENDING_IDLE, |idle| idle.timeout);
    let policy = b.desired.run.idle.clone().unwrap_or(IdlePolicy { timeout, network: Bytes(10 << 10), check: None, warn: None });
    let Some(last) = Clock::new(b.input.facts, Some(main)).activity else { return true };
    let since = last + timeout.0;
    if b.input.now < since {
        b.recheck_at(since);
        return false;
    }
    idle::may_stop(b, main, want, &policy, since)
}

/// Remembers that a run begins, before anything is started.
fn begin(b: &mut Builder<'_>, begins: Option<&'static str>) -> Vec<usize> {
    let Some(by) = begins else { return Vec::new() };
    let now = b.input.now;
    let cause = Cause::new("state", "not running", format!("to run, by its {by}"));
    let mut nodes = vec![
        b.push(Operation::Record(Fact::RunSince(now)), Action::None, cause.clone(), Vec::new()),
        b.push(Operation::Record(Fact::Activity { at: now, by: "start".to_owned() }), Action::None, cause.clone(), Vec::new()),
    ];
    if b.input.facts.stopped.is_some() {
        nodes.push(b.push(Operation::Record(Fact::Unstopped), Action::None, cause, Vec::new()));
    }
    nodes
}

/// Plans everything of an object that should run. `gate` are nodes that every start must follow.
pub fn converge(mut b: Builder<'_>, gate: Vec<usize>) -> Plan {
    let desired = b.desired;
    let networks = network::ensure(&mut b, &desired.networks);
    let volumes = volume::ensure(&mut b, &desired.volumes);
    let too_much_cpu = desired.containers.iter().filter_map(|c| c.limits.cpu).find(|cpu| cpu.0 > b.input.capabilities.nano_cpus);
    if let Some(cpu) = too_much_cpu {
        let message = format!("resources.cpu {cpu} is more than the host's {}; ask for less", crate::resource::Cpu(b.input.capabilities.nano_cpus));
        return impossible(b, Reason::Invalid, &message);
    }
    if !networks || !volumes {
        let message = b.conditions.last().map(|c| (c.reason, c.message.clone())).unwrap_or((Reason::Failed, String::new()));
        return impossible(b, message.0, &message.1);
    }
    remove_undeclared(&mut b);
    restart(&mut b);
    let mut progress: Vec<(&ContainerSpec, Progress)> = Vec::new();
    for want in &desired.containers {
        let mut gate = gate.clone();
        let ready = dependencies(&b, want, &progress, &mut gate);
        let one = container::converge(&mut b, want, &gate, ready);
        progress.push((want, one));
    }
    let main_starts = progress.iter().find_map(|(want, progress)| match progress {
        Progress::Working(_, _, start) if want.role == Role::Main => *start,
        Progress::Ready | Progress::Completed | Progress::Starting(_) | Progress::Working(..) | Progress::Failed(..) => None,
    });
    if let Some(start) = main_starts.filter(|_| restart_pending(&b)) {
        restarted(&mut b, vec![start]);
    }
    after_start(&mut b, &progress);
    settle_facts(&mut b, &progress);
    let verdict = verdict(&b, &progress);
    b.finish(verdict)
}

/// Whether what a container depends on is ready; starts of this plan that need no check are added to the gate.
fn dependencies(b: &Builder<'_>, want: &ContainerSpec, progress: &[(&ContainerSpec, Progress)], gate: &mut Vec<usize>) -> bool {
    let needs = |spec: &ContainerSpec| match want.role {
        Role::Main => true,
        Role::Service | Role::Helper => spec.service.as_ref().is_some_and(|service| want.depends_on.contains(service)),
    };
    // A container that runs is not stopped for its dependencies' sake.
    if b.container(want.service.as_deref(), Slot::Current).is_some_and(|(c, _)| c.is_active()) {
        return true;
    }
    progress.iter().filter(|(spec, _)| needs(spec)).all(|(spec, progress)| match progress {
        Progress::Ready | Progress::Completed => true,
        Progress::Working(_, _, Some(start)) if spec.health.is_none() => {
            gate.push(*start);
            true
        }
        Progress::Working(..) | Progress::Starting(_) | Progress::Failed(..) => false,
    })
}

/// Stops and removes services that are not declared any more.
fn remove_undeclared(b: &mut Builder<'_>) {
    let declared = |owner: &Identity| b.desired.containers.iter().any(|want| want.service == owner.service && want.role == owner.role);
    let superfluous: Vec<_> = b.ours().filter(|(_, owner)| owner.role == Role::Service && !declared(owner)).collect();
    for (container, owner) in superfluous {
        let field = format!("services.{}", owner.service.as_deref().unwrap_or_default());
        remove(b, container, owner, Duration::from_secs(10), &Cause::new(field, "declared", "not declared"), Vec::new());
    }
}

/// Stops where needed, and removes. Gives the last node.
pub fn remove(b: &mut Builder<'_>, container: &Container, owner: &Identity, grace: Duration, cause: &Cause, mut after: Vec<usize>) -> usize {
    if container.is_active() {
        after = vec![push_stop(b, container, owner, grace, Action::Delete, cause, after)];
    }
    b.push(Operation::Remove(target(container, owner)), Action::Delete, cause.clone(), after)
}

/// A stop; a paused container is thawed first, because it cannot hear the signal.
pub fn push_stop(b: &mut Builder<'_>, container: &Container, owner: &Identity, grace: Duration, action: Action, cause: &Cause, mut after: Vec<usize>) -> usize {
    if container.state == State::Paused {
        after = vec![b.push(Operation::Unpause(target(container, owner)), action, cause.clone(), after)];
    }
    b.push(Operation::Stop { target: target(container, owner), grace }, action, cause.clone(), after)
}

/// A restart that was asked for, of a container that runs and stays. What is exchanged or started anyway has its restart by that.
fn restart(b: &mut Builder<'_>) {
    if !restart_pending(b) {
        return;
    }
    let Some(((main, owner), want)) = b.container(None, Slot::Current).zip(b.desired.main()) else { return };
    if !main.is_active() || owner.hash != want.hash {
        return;
    }
    let started = main.details.as_ref().and_then(|d| d.started);
    if b.input.facts.restart_asked.is_some_and(|at| started.is_some_and(|started| started >= at)) {
        restarted(b, Vec::new());
        return;
    }
    // Another image is taken by an exchange, which is the restart; until it is known, nothing is interrupted.
    let exchanging = b.container(None, Slot::Next).is_some();
    if !exchanging && image::moved_at_restart(b, want, main) == Some(false) && hooks::before_stop(b, main, want.stop_grace) {
        let cause = restart_cause(b);
        let stopped = push_stop(b, main, owner, want.stop_grace, Action::Stop, &cause, Vec::new());
        let started = b.push(Operation::Start(target(main, owner)), Action::Start, cause, vec![stopped]);
        restarted(b, vec![started]);
    }
}

fn restart_cause(b: &Builder<'_>) -> Cause {
    match b.input.facts.restart_asked {
        Some(at) => Cause::new("restart", "not asked", format!("asked at {}", super::print::instant(at))),
        None => Cause::new(
            format!("metadata.annotations.{}", crate::resource::RESTART),
            b.input.facts.restart_seen.clone().unwrap_or_default(),
            b.desired.restart_token.clone().unwrap_or_default(),
        ),
    }
}

/// Remembers that the restart that was asked for was done by those nodes.
pub fn restarted(b: &mut Builder<'_>, mut after: Vec<usize>) {
    let cause = restart_cause(b);
    if b.input.facts.restart_asked.is_some() {
        after = vec![b.push(Operation::Record(Fact::RestartDone), Action::None, cause.clone(), after)];
    }
    if b.input.facts.restart_seen != b.desired.restart_token {
        b.push(Operation::Record(Fact::RestartSeen(b.desired.restart_token.clone())), Action::None, cause, after);
    }
}

/// Hooks of the start, and the watch over activity, once main runs.
fn after_start(b: &mut Builder<'_>, progress: &[(&ContainerSpec, Progress)]) {
    let Some((want, Progress::Ready | Progress::Starting(_))) = progress.iter().find(|(want, _)| want.role == Role::Main).map(|(w, p)| (*w, p)) else { return };
    let Some((main, _)) = b.container(None, Slot::Current) else { return };
    if matches!(main.state, State::Running(_)) {
        run::remember_begin(b, main);
        hooks::after_start(b, main);
        disk::watch(b, main);
        if let Some((idle, last)) = b.desired.run.idle.as_ref().zip(Clock::new(b.input.facts, Some(main)).activity) {
            // What was postponed is warned of at its own time.
            let due = b.input.facts.extended_until.map_or(last + idle.timeout.0, |until| until.max(last + idle.timeout.0));
            idle::watch(b, main, want, idle, due);
        }
    }
}

/// Remembers, once everything is as declared, which spec is in force.
fn settle_facts(b: &mut Builder<'_>, progress: &[(&ContainerSpec, Progress)]) {
    let as_declared = progress.iter().all(|(want, _)| b.container(want.service.as_deref(), Slot::Current).is_some_and(|(_, owner)| owner.hash == want.hash));
    let working = progress.iter().any(|(_, progress)| matches!(progress, Progress::Working(..)));
    let facts = b.input.facts;
    if !as_declared || working || b.nodes.iter().any(|node| node.operation.is_mutating()) {
        return;
    }
    let cause = Cause::new("spec", "declared", "in force");
    if facts.applied_digest.as_deref() != Some(b.desired.own_digest.as_str()) {
        b.push(Operation::Record(Fact::AppliedDigest(b.desired.own_digest.clone())), Action::None, cause.clone(), Vec::new());
        if facts.applied_digest.is_none() && facts.restart_seen != b.desired.restart_token {
            b.push(Operation::Record(Fact::RestartSeen(b.desired.restart_token.clone())), Action::None, cause.clone(), Vec::new());
        }
    }
    for (want, _) in progress {
        if !facts.applied.contains_key(&want.name) {
            container::record_applied(b, want, &cause, Vec::new());
        }
    }
}

fn verdict(b: &Builder<'_>, progress: &[(&ContainerSpec, Progress)]) -> Verdict {
    let mutating = b.nodes.iter().any(|node| node.operation.is_mutating());
    let main = progress.iter().find(|(want, _)| want.role == Role::Main).map(|(_, p)| p);
    let failed = progress.iter().find_map(|(want, p)| match p {
        Progress::Failed(reason, message) => Some((want.role, *reason, message.clone())),
        Progress::Ready | Progress::Completed | Progress::Starting(_) | Progress::Working(..) => None,
    });
    let unfinished = progress.iter().find_map(|(_, p)| match p {
        Progress::Working(reason, message, _) => Some((Phase::Pending, *reason, message.clone())),
        Progress::Starting(message) => Some((Phase::Starting, Reason::Starting, message.clone())),
        Progress::Ready | Progress::Completed | Progress::Failed(..) => None,
    });
    let hook_failed = b.conditions.iter().find(|c| c.type_ == ConditionType::HookFailed).map(|c| c.message.clone());
    let hook_running = b.waiting.iter().find(|w| matches!(&w.on, WaitKey::Task(crate::observed::TaskKey::Hook(..)))).map(|w| w.reason.clone());
    let main_runs = b.container(None, Slot::Current).is_some_and(|(c, _)| matches!(c.state, State::Running(_)));
    if let Some((_, reason, message)) = failed {
        let phase = if reason == Reason::Unhealthy || reason == Reason::Paused {
            Phase::Running
        } else if matches!(reason, Reason::ImagePullFailed | Reason::HelperUnavailable | Reason::NameConflict) && !main_runs {
            Phase::Pending
        } else {
            Phase::Error
        };
        let mut verdict = Verdict::new(phase, Truth::False, reason, message);
        verdict.stalled = matches!(reason, Reason::NameConflict) || (b.waiting.is_empty() && b.recheck.is_none() && !mutating && reason == Reason::Failed);
        verdict.reconciling = matches!(reason, Reason::CrashLoop | Reason::ImagePullFailed | Reason::HelperUnavailable);
        verdict
    } else if let Some((phase, reason, message)) = unfinished {
        let phase = match (phase, main_runs, reason) {
            (Phase::Pending, true, _) => Phase::Running,
            (Phase::Pending, false, Reason::Progressing) => Phase::Starting,
            (phase, ..) => phase,
        };
        let mut verdict = Verdict::new(phase, Truth::False, reason, message);
        verdict.reconciling = true;
        verdict
    } else if let Some(message) = hook_failed {
        Verdict::new(Phase::Running, Truth::False, Reason::HookFailed, message)
    } else if let Some(message) = hook_running {
        let mut verdict = Verdict::new(Phase::Starting, Truth::False, Reason::Starting, message);
        verdict.reconciling = true;
        verdict
    } else if mutating {
        let mut verdict = Verdict::new(if main_runs { Phase::Running } else { Phase::Starting }, Truth::False, Reason::Progressing, "operations are under way");
        verdict.reconciling = true;
        verdict
    } else if main == Some(&Progress::Completed) {
        Verdict::new(Phase::Stopped, Truth::True, Reason::Completed, "the process ended with success; `dockmaster restart` runs it again")
    } else {
        Verdict::new(Phase::Running, Truth::True, Reason::Running, "it runs as declared")
    }
}

/// Stops what runs: main first, then services; the reason is remembered before anything is stopped.
fn stop(mut b: Builder<'_>, main: Option<(&Container, &Identity)>, why: StopReason, message: &str) -> Plan {
    let desired = b.desired;
    let cause = Cause::new("state", "running", format!("stopped ({why})"));
    let active: Vec<_> = b.ours().filter(|(c, owner)| c.is_active() && owner.role != Role::Helper).collect();
    let remembered = b.input.facts.stopped.as_ref().is_some_and(|stop| stop.why == why);
    let want_main = desired.main();
    if let (StopReason::Idle, Some((container, _)), Some(want), Some(policy)) = (why, main, want_main, desired.run.idle.as_ref())
        && !active.is_empty()
        && !remembered
    {
        let deadline = Clock::new(b.input.facts, Some(container)).activity.map_or(b.input.now, |at| at + policy.timeout.0);
        if !idle::may_stop(&mut b, container, want, policy, deadline) {
            let verdict = Verdict::new(Phase::Running, Truth::True, Reason::Running, "it runs as declared; whether it is idle is being found out");
            return b.finish(verdict);
        }
    }
    let mut after = Vec::new();
    if !remembered && why != StopReason::Quota && (!active.is_empty() || main.is_some()) {
        let fact = Fact::Stopped(PolicyStop { at: b.input.now, why });
        after.push(b.push(Operation::Record(fact), Action::None, cause.clone(), Vec::new()));
    }
    if !active.is_empty() {
        let grace = want_main.map_or(Duration::from_secs(10), |want| want.stop_grace);
        let hooked = active.iter().filter(|(_, owner)| owner.role == Role::Main).all(|(c, _)| hooks::before_stop(&mut b, c, grace));
        let (mains, services): (Vec<_>, Vec<_>) = active.into_iter().partition(|(_, owner)| owner.role == Role::Main);
        if hooked {
            let mut stopped: Vec<usize> = mains.into_iter().map(|(c, owner)| push_stop(&mut b, c, owner, grace, Action::Stop, &cause, after.clone())).collect();
            stopped.extend(after);
            for (container, owner) in services {
                push_stop(&mut b, container, owner, Duration::from_secs(10), Action::Stop, &cause, stopped.clone());
            }
        }
        let mut verdict = Verdict::new(Phase::Stopping, Truth::False, Reason::Progressing, format!("it is being stopped: {message}"));
        verdict.reconciling = true;
        return b.finish(verdict);
    }
    clear_restart(&mut b);
    let verdict = match why {
        StopReason::Quota => {
            b.report(ConditionType::QuotaExceeded, message);
            b.wait(WaitKey::Roster(b.input.object.ns().to_owned()), None, "room in the namespace's quota");
            Verdict::new(Phase::Pending, Truth::False, Reason::QuotaExceeded, message)
        }
        StopReason::Declared => Verdict::new(Phase::Stopped, Truth::True, Reason::Stopped, message),
        StopReason::Idle => Verdict::new(Phase::Stopped, Truth::True, Reason::Idle, message),
        StopReason::Lifetime => Verdict::new(Phase::Stopped, Truth::True, Reason::Lifetime, message),
        StopReason::OutsideHours => Verdict::new(Phase::Stopped, Truth::True, Reason::OutsideHours, message),
        StopReason::Expired => Verdict::new(Phase::Expired, Truth::True, Reason::Expired, message),
    };
    b.finish(verdict)
}

/// A stopped object needs no restart: its next start is one.
fn clear_restart(b: &mut Builder<'_>) {
    if b.input.facts.restart_asked.is_some() {
        b.push(Operation::Record(Fact::RestartDone), Action::None, Cause::new("restart", "asked", "not needed: it is stopped"), Vec::new());
    }
}

/// The state was lost: nobody knows whether it was stopped by policy.
fn unknown(mut b: Builder<'_>) -> Plan {
    let message = "the state directory was lost, and this workspace may have been stopped by policy; `dockmaster start` starts it";
    b.report(ConditionType::StateLost, message);
    b.finish(Verdict::new(Phase::Stopped, Truth::True, Reason::Stopped, message))
}

/// Nothing can be made of the spec now; what runs goes on running.
pub fn stalled(mut b: Builder<'_>) -> Plan {
    let fatal = b.desired.fatal.clone();
    b.conditions.extend(fatal.iter().cloned());
    let first = fatal.first().map(|c| (c.reason, c.message.clone())).unwrap_or((Reason::Invalid, String::new()));
    if fatal.iter().any(|c| matches!(c.type_, ConditionType::PortsExhausted | ConditionType::PortConflict | ConditionType::AddressesExhausted)) {
        b.wait(WaitKey::Leases, None, "a port or an address to become free");
    }
    impossible(b, first.0, &first.1)
}

/// Nothing is done, and nothing that was planned on the way is kept.
pub fn impossible(mut b: Builder<'_>, reason: Reason, message: &str) -> Plan {
    b.nodes.clear();
    let runs = b.container(None, Slot::Current).is_some_and(|(c, _)| c.is_active());
    let mut verdict = Verdict::new(if runs { Phase::Running } else { Phase::Pending }, Truth::False, reason, message);
    verdict.stalled = true;
    b.finish(verdict)
}
