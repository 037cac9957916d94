//! Whether it runs: declared, and not idle, and within its lifetime, its hours and its quota; all from facts, on each pass.
//!
//! **Invariant:** a deadline is never stored. It is computed from the spec and the facts, so that a change of either counts at once.

use jiff::{SignedDuration, Timestamp};

use super::builder::Builder;
use super::{Action, Cause, Operation, Plan, PlanInput, Verdict};
use crate::desired::RunPolicy;
use crate::observed::{Container, State};
use crate::planner::hours;
use crate::resource::status::{Next, NextAction, Phase};
use crate::resource::{Condition, Truth};
use crate::state::{Fact, Facts, StopReason};

/// What is decided.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// It should run.
    Run {
        /// The next stop by policy, if one comes.
        next: Option<Next>,
        /// It was not running by somebody's wish, and begins a new run now.
        begins: Option<&'static str>,
    },
    /// It should not run.
    Stop {
        /// Why.
        why: StopReason,
        /// For people.
        message: String,
        /// When it will run again by itself.
        next: Option<Next>,
    },
    /// Whether it may run is not known, because the state was lost: it stays as it is.
    Unknown,
}

/// The instants that decide, with what stands in for a fact that is lost. Both are absent before its run has begun with a first start: the time that
/// its image takes to be fetched is nobody's idleness.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Since when it runs.
    pub begun: Option<Timestamp>,
    /// The last activity.
    pub activity: Option<Timestamp>,
}

impl Clock {
    /// From the facts, else from the container.
    pub fn new(facts: &Facts, main: Option<&Container>) -> Self {
        let begun = facts.run_begun.or_else(|| first_start(facts, main));
        let activity = begun.map(|begun| facts.activity.as_ref().map_or(begun, |(at, _)| begun.max(*at)));
        Self { begun, activity }
    }
}

/// The start of the container, when it belongs to the run that somebody wished for.
fn first_start(facts: &Facts, main: Option<&Container>) -> Option<Timestamp> {
    let main = main?;
    let started = main.details.as_ref().and_then(|details| details.started)?;
    let Some(wish) = facts.run_since else { return Some(started) };
    (started >= wish || matches!(main.state, State::Running(_) | State::Paused | State::Restarting)).then(|| started.max(wish))
}

/// Remembers the first start of a run, so that later ones do not begin it anew. While something of it is paused, it has not begun.
pub fn remember_begin(b: &mut Builder<'_>, main: &Container) {
    let is_paused = b.input.world.of(b.input.object).any(|container| container.state == State::Paused);
    if b.input.facts.run_begun.is_some() || b.input.facts.run_since.is_none() || is_paused {
        return;
    }
    if let Some(begun) = first_start(b.input.facts, Some(main)) {
        b.push(Operation::Record(Fact::RunBegun(begun)), Action::None, Cause::new("state", "started", "running"), Vec::new());
    }
}

/// Decides for one workspace.
pub fn decide(policy: &RunPolicy, facts: &Facts, main: Option<&Container>, over_quota: Option<&str>, now: Timestamp) -> Decision {
    let running = main.is_some_and(|c| matches!(c.state, State::Running(_) | State::Paused | State::Restarting));
    if !policy.declared_running {
        return Decision::Stop { why: StopReason::Declared, message: "the spec says `state: Stopped`; `dockmaster start` changes that".to_owned(), next: None };
    }
    let may_have_been_stopped = policy.idle.is_some() || policy.max_lifetime.is_some() || policy.hours.is_some();
    if facts.state_lost && main.is_some() && !running && may_have_been_stopped {
        return Decision::Unknown;
    }
    if let Some(stop) = sticky(facts) {
        return stop;
    }
    // What a stop that is over interrupted does not go on: a new run begins.
    let clock = if facts.stopped.is_some() { Clock { begun: None, activity: None } } else { Clock::new(facts, main) };
    let stops = stops(policy, facts, clock, now);
    let extended = facts.extended_until.filter(|until| *until > now);
    let due = stops.iter().filter(|(at, ..)| *at <= now).min_by_key(|(at, ..)| *at);
    if let (Some((_, why, message)), None) = (due, extended) {
        let next = (*why == StopReason::OutsideHours).then(|| opening(policy, now)).flatten();
        return Decision::Stop { why: *why, message: message.clone(), next };
    }
    if let Some(message) = over_quota.filter(|_| !running) {
        return Decision::Stop { why: StopReason::Quota, message: message.to_owned(), next: None };
    }
    let next = stops
        .iter()
        .map(|(at, _, message)| (extended.map_or(*at, |until| until.max(*at)), message))
        .min_by_key(|(at, _)| *at)
        .map(|(at, message)| Next { action: NextAction::Stop, at, why: message.clone() });
    let begins = match facts.stopped.as_ref().map(|stop| stop.why) {
        Some(StopReason::OutsideHours) => Some("hours"),
        Some(StopReason::Declared) => Some("spec"),
        Some(StopReason::Quota) => Some("quota"),
        Some(StopReason::Idle | StopReason::Lifetime | StopReason::Expired) | None => None,
    };
    let wished = facts.stopped.is_some() || facts.run_since.is_some() || clock.begun.is_some();
    Decision::Run { next, begins: begins.or_else(|| (!wished).then_some("spec")) }
}

/// A stop for want of activity, or at the end of a lifetime, lasts until somebody starts it again, whatever the spec's limits become.
fn sticky(facts: &Facts) -> Option<Decision> {
    let stop = facts.stopped.as_ref()?;
    let message = match stop.why {
        StopReason::Idle => "stopped for want of activity; `dockmaster start` wakes it",
        StopReason::Lifetime => "stopped at the end of its maximum lifetime; `dockmaster start` begins another",
        StopReason::Declared | StopReason::OutsideHours | StopReason::Quota | StopReason::Expired => return None,
    };
    Some(Decision::Stop { why: stop.why, message: message.to_owned(), next: None })
}

/// The instants at which policies stop it.
fn stops(policy: &RunPolicy, facts: &Facts, clock: Clock, now: Timestamp) -> Vec<(Timestamp, StopReason, String)> {
    let mut stops = Vec::new();
    if let Some((idle, last)) = policy.idle.as_ref().zip(clock.activity) {
        stops.push((last + idle.timeout.0, StopReason::Idle, format!("no activity for {}", idle.timeout)));
    }
    if let Some((lifetime, since)) = policy.max_lifetime.zip(clock.begun) {
        stops.push((since + lifetime.0, StopReason::Lifetime, format!("the maximum lifetime of {lifetime}")));
    }
    if let Some((hours, window)) = policy.hours.as_ref().and_then(|hours| Some((hours, hours::window(hours, now).ok()?))) {
        let message = format!("outside its running hours ({} to {})", hours.from, hours.to);
        if !window.inside {
            stops.push((grace_outside(policy, facts, hours).filter(|at| *at > now).unwrap_or(now), StopReason::OutsideHours, message));
        } else if let Some(closes) = window.next_change {
            stops.push((closes, StopReason::OutsideHours, message));
        }
    }
    stops
}

/// A start asked for outside the hours gives one idle timeout, or an hour.
fn grace_outside(policy: &RunPolicy, facts: &Facts, hours: &crate::resource::workspace::RunningHours) -> Option<Timestamp> {
    let asked = facts.start_asked.filter(|at| hours::window(hours, *at).is_ok_and(|window| !window.inside))?;
    Some(asked + policy.idle.as_ref().map_or(SignedDuration::from_hours(1), |idle| idle.timeout.0))
}

fn opening(policy: &RunPolicy, now: Timestamp) -> Option<Next> {
    let hours = policy.hours.as_ref()?;
    let window = hours::window(hours, now).ok().filter(|window| !window.inside)?;
    Some(Next { action: NextAction::Start, at: window.next_change?, why: format!("its running hours begin ({} to {})", hours.from, hours.to) })
}

/// Touches nothing, and says why.
pub fn hold(input: &PlanInput<'_>, condition: &Condition) -> Plan {
    let active = input.world.of(input.object).any(Container::is_active);
    let phase = match (active, input.object.kind) {
        (true, _) => Phase::Running,
        (false, crate::resource::Kind::Preview) => Phase::Creating,
        (false, _) => Phase::Pending,
    };
    let mut verdict = Verdict::new(phase, Truth::Unknown, condition.reason, condition.message.clone());
    verdict.conditions.push(condition.clone());
    Plan::idle(verdict)
}

/// Puts a decision's next instant into the plan.
pub fn schedule(b: &mut Builder<'_>, next: Option<Next>) {
    if let Some(next) = &next {
        b.recheck_at(next.at);
    }
    b.next = next;
}
