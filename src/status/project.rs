//! From what was planned over a seen world to `status:`. Pure.
//!
//! Instants that creep (the last activity, the next stop) move in a status only by five minutes or more, so that a file is not rewritten
//! for every sample.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};

use crate::desired::{ContainerSpec, DesiredState, Role};
use crate::observed::{Container, HealthState, Identity, Slot, State, World};
use crate::planner::{Plan, Verdict};
use crate::resource::status::{ActivityStatus, ContainerStatus, Next, NextAction, Phase, PortStatus, ServiceStatus, Status};
use crate::resource::workspace::Protocol;
use crate::resource::{Condition, ConditionType, ObjectRef, Truth};
use crate::state::Facts;

/// What a status is made of.
#[derive(Clone, Copy, Debug)]
pub struct Projection<'a> {
    /// Of what.
    pub object: &'a ObjectRef,
    /// The generation that was planned.
    pub generation: u64,
    /// What it should be; `None` where nothing of it belongs in Docker.
    pub desired: Option<&'a DesiredState>,
    /// What was seen.
    pub world: &'a World,
    /// What only history knows.
    pub facts: &'a Facts,
    /// The status before.
    pub before: Option<&'a Status>,
    /// The address on which ports are published.
    pub address: IpAddr,
    /// Now.
    pub now: Timestamp,
}

/// The status that a plan means.
pub fn project(p: &Projection<'_>, plan: &Plan) -> Status {
    let verdict = &plan.verdict;
    let main = p.desired.and_then(|desired| serving(p, desired, Role::Main, None));
    let ports = p.desired.and_then(DesiredState::main).map(ports).unwrap_or_default();
    let up = main.is_some_and(Container::is_active);
    Status {
        observed_generation: p.generation,
        phase: verdict.phase,
        url: if up { url(p.address, &ports) } else { None },
        ports,
        container: main.map(container),
        services: p.desired.map(|desired| services(p, desired)).unwrap_or_default(),
        activity: activity(p),
        hash: p.desired.and_then(|desired| desired.preview.as_ref()).map(|preview| preview.hash.clone()),
        expires_at: p.desired.and_then(|desired| desired.preview.as_ref()).map(|preview| to_the_second(preview.expires_at)),
        next: next(p, plan),
        conditions: conditions(p, verdict, plan),
    }
}

/// The status of an object that the engine does not tell about now: what was known stays, and `Ready` becomes `Unknown`.
pub fn unknown(before: &Status, reason: ConditionType, message: &str, now: Timestamp) -> Status {
    let mut status = before.clone();
    let mut conditions = vec![Condition::new(ConditionType::Ready, Truth::Unknown, reason.reason(), message), Condition::abnormal(reason, message)];
    date(&mut conditions, Some(before), now);
    status.conditions.retain(|c| !matches!(c.type_, ConditionType::Ready | ConditionType::Reconciling) && c.type_ != reason);
    conditions.append(&mut status.conditions);
    status.conditions = conditions;
    status
}

/// The container of a role, of a service also by its name.
fn serving<'a>(p: &Projection<'a>, desired: &DesiredState, role: Role, service: Option<&str>) -> Option<&'a Container> {
    let is = |owner: &Identity, slot| owner.uid == desired.uid && owner.role == role && owner.service.as_deref() == service && owner.slot == slot;
    let of = |slot| p.world.of(p.object).find(|c| c.owner.as_ref().is_some_and(|owner| is(owner, slot)));
    // While a replacement is on trial it is the one that serves.
    of(Slot::Next).filter(|c| c.is_active()).or_else(|| of(Slot::Current)).or_else(|| of(Slot::Next))
}

fn ports(main: &ContainerSpec) -> Vec<PortStatus> {
    let protocol = |protocol| (protocol != Protocol::Tcp).then_some(protocol);
    main.ports
        .iter()
        .map(|port| PortStatus { name: port.name.clone(), container: port.container, host: port.host, protocol: protocol(port.protocol) })
        .collect()
}

/// The host port of `http`, else of the first published port.
fn url(address: IpAddr, ports: &[PortStatus]) -> Option<String> {
    let port = ports.iter().find(|port| port.name == "http").or_else(|| ports.first())?;
    let host = match address {
        IpAddr::V4(v4) if v4.is_unspecified() => "127.0.0.1".to_owned(),
        IpAddr::V6(v6) if v6.is_unspecified() => "[::1]".to_owned(),
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    };
    Some(format!("http://{host}:{}/", port.host))
}

fn container(container: &Container) -> ContainerStatus {
    let details = container.details.as_ref();
    ContainerStatus {
        id: container.id.short().to_owned(),
        name: container.name.clone(),
        image: container.image_id.clone(),
        started_at: details.and_then(|d| d.started).map(to_the_second),
        restarts: details.map_or(0, |d| d.restarts),
        exit_code: match container.state {
            State::Exited { code } => Some(code),
            State::Created | State::Running(_) | State::Paused | State::Restarting | State::Removing | State::Dead => None,
        },
    }
}

fn services(p: &Projection<'_>, desired: &DesiredState) -> Vec<ServiceStatus> {
    let mut services: Vec<ServiceStatus> = desired
        .containers
        .iter()
        .filter_map(|want| want.service.as_ref())
        .map(|name| {
            let seen = serving(p, desired, Role::Service, Some(name));
            ServiceStatus {
                name: name.clone(),
                state: seen.map_or("absent", |c| c.state.as_str()).to_owned(),
                ready: seen.is_some_and(|c| matches!(c.state, State::Running(HealthState::None | HealthState::Healthy))),
                id: seen.map(|c| c.id.short().to_owned()),
            }
        })
        .collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    services
}

/// How far a creeping instant must move before it is written again.
const CREEP: SignedDuration = SignedDuration::from_mins(5);

fn activity(p: &Projection<'_>) -> Option<ActivityStatus> {
    let (last, by) = p.facts.activity.clone()?;
    let fresh = ActivityStatus { last: to_the_second(last), by };
    match p.before.and_then(|before| before.activity.as_ref()) {
        Some(known) if known.by == fresh.by && last.duration_since(known.last).abs() < CREEP => Some(known.clone()),
        Some(_) | None => Some(fresh),
    }
}

fn next(p: &Projection<'_>, plan: &Plan) -> Option<Next> {
    let retry = || {
        let at = plan.waiting.iter().filter_map(|w| w.until).min().filter(|_| plan.verdict.ready != Truth::True)?;
        let why = plan.waiting.iter().find(|w| w.until == Some(at))?.reason.clone();
        Some(Next { action: NextAction::Retry, at, why })
    };
    let mut fresh = plan.next.clone().or_else(retry)?;
    fresh.at = to_the_second(fresh.at);
    match p.before.and_then(|before| before.next.as_ref()) {
        // An instant that has passed is no next one.
        Some(known) if known.action == fresh.action && known.why == fresh.why && known.at > p.now && fresh.at.duration_since(known.at).abs() < CREEP => {
            Some(known.clone())
        }
        Some(_) | None => Some(fresh),
    }
}

fn conditions(p: &Projection<'_>, verdict: &Verdict, plan: &Plan) -> Vec<Condition> {
    let mut conditions = vec![Condition::new(ConditionType::Ready, verdict.ready, verdict.reason, &verdict.message)];
    if verdict.reconciling {
        conditions.push(Condition::new(ConditionType::Reconciling, Truth::True, verdict.reason, &verdict.message));
    }
    // A spec that is wrong brings its own, with all that is wrong.
    if verdict.stalled && !verdict.conditions.iter().any(|condition| condition.type_ == ConditionType::Stalled) {
        conditions.push(Condition::new(ConditionType::Stalled, Truth::True, verdict.reason, &verdict.message));
    }
    // What is waited for is said where it explains why it is not ready; a task under way beside a ready workspace is no news.
    if let Some(waiting) = plan.waiting.first().filter(|_| verdict.ready == Truth::False && !verdict.stalled) {
        conditions.push(Condition::abnormal(ConditionType::WaitingOn, waiting.reason.split(':').next().unwrap_or_default()));
    }
    conditions.extend(verdict.conditions.iter().cloned());
    date(&mut conditions, p.before, p.now);
    conditions
}

/// Keeps the instant of a condition whose status did not change.
fn date(conditions: &mut [Condition], before: Option<&Status>, now: Timestamp) {
    for condition in conditions {
        let known = before.and_then(|before| before.condition(condition.type_)).filter(|known| known.status == condition.status);
        condition.last_transition_time = known.and_then(|known| known.last_transition_time).or(Some(to_the_second(now)));
    }
}

/// Statuses speak in seconds.
fn to_the_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// The status of a type or a tenant, which has nothing in Docker.
pub fn definition(generation: u64, before: Option<&Status>, now: Timestamp) -> Status {
    let mut conditions = vec![Condition::new(ConditionType::Ready, Truth::True, crate::resource::Reason::Accepted, "its definition is in force")];
    date(&mut conditions, before, now);
    Status {
        observed_generation: generation,
        phase: Phase::Active,
        url: None,
        ports: Vec::new(),
        container: None,
        services: Vec::new(),
        activity: None,
        hash: None,
        expires_at: None,
        next: None,
        conditions,
    }
}
