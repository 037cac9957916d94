//! One container that should run: made, mended, changed in place, exchanged or started, whichever is the smallest step.

use jiff::{SignedDuration, Timestamp};

use super::builder::{Builder, target};
use super::readiness::{self, Readiness};
use super::{Action, Cause, Operation, Task, WaitKey, clock, image, last_lines, network, replace};
use crate::desired::{ContainerSpec, Limits, MountSource, Role};
use crate::observed::{Container, Details, Identity, Slot, State, TaskKey, TaskResult, TaskState};
use crate::resource::workspace::{PullPolicy, RestartPolicy, UpdateWhen};
use crate::resource::{ConditionType, Reason};
use crate::state::{Fact, UnnamedVolumes};

/// Restarts by the engine that make a crash loop.
const LOOP: u64 = 3;
/// How long the engine lets a process run before it takes it for one that works; so do we.
const PROOF: SignedDuration = SignedDuration::from_secs(10);

/// How long a measurement of memory in use is believed.
const FRESH: SignedDuration = SignedDuration::from_mins(5);

/// How one container stands after planning.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// It does what it should.
    Ready,
    /// It ended with success, and may.
    Completed,
    /// It runs, and is not ready yet.
    Starting(String),
    /// It is being made, changed or started by this plan; the node after which it runs, when this plan starts it.
    Working(Reason, String, Option<usize>),
    /// It cannot be so now.
    Failed(Reason, String),
}

/// Plans one container. `gate` are nodes that its start must follow; `may_start` is false while something that it depends on is not ready.
pub fn converge(b: &mut Builder<'_>, want: &ContainerSpec, gate: &[usize], may_start: bool) -> Progress {
    let service = want.service.as_deref();
    let current = b.container(service, Slot::Current);
    if let Some((next, owner)) = b.container(service, Slot::Next) {
        return replace::proceed(b, want, current, (next, owner), gate);
    }
    match current {
        None => create(b, want, gate, may_start),
        Some((container, owner)) => keep(b, want, container, owner, gate, may_start),
    }
}

fn create(b: &mut Builder<'_>, want: &ContainerSpec, gate: &[usize], may_start: bool) -> Progress {
    if let Some(conflict) = taken(b, &want.name) {
        return conflict;
    }
    let Some(image_id) = image::resolve(b, &want.image) else { return fetching(b) };
    let known = b.input.facts.applied.contains_key(&want.name);
    let cause = Cause::new("container", if known { "removed" } else { "absent" }, &want.name);
    let made = push_create(b, want, &want.name, image_id, cause.clone());
    let recorded = record_applied(b, want, &cause, vec![made]);
    if !may_start {
        return Progress::Working(Reason::Progressing, format!("{} waits for what it depends on", want.name), None);
    }
    let mut after = gate.to_vec();
    after.extend([made, recorded]);
    let start = b.push(Operation::Start(super::Target::Made { node: made, name: want.name.clone() }), Action::Start, cause, after);
    Progress::Working(Reason::Progressing, format!("making {}", want.name), Some(start))
}

/// What stands in the way of giving a container that name, which none of this object's has.
pub fn taken(b: &mut Builder<'_>, name: &str) -> Option<Progress> {
    let foreign = b.input.world.container_named(name)?;
    let message = format!("container {name} ({}) has the name and is not this object's; rename or remove it", foreign.id.short());
    b.report(ConditionType::NameConflict, message.clone());
    b.wait(WaitKey::Container(foreign.id.clone()), None, format!("the name {name}"));
    Some(Progress::Failed(Reason::NameConflict, message))
}

/// Adds the creation of a container, after the networks and volumes that this plan makes for it.
pub fn push_create(b: &mut Builder<'_>, want: &ContainerSpec, name: &str, image_id: String, cause: Cause) -> usize {
    let networks = want.networks.iter().map(|attachment| attachment.network.as_str());
    let volumes = want.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Volume(name) => Some(name.as_str()),
        MountSource::Host(_) | MountSource::Tmpfs { .. } => None,
    });
    let after = b.makers(networks.chain(volumes));
    let operation = Operation::Create { spec: Box::new(want.clone()), name: name.to_owned(), image_id };
    let made = b.push(operation, Action::Create, cause.clone(), after);
    let pull = TaskKey::Pull(want.image.as_str().to_owned());
    if b.desired.pull == PullPolicy::Always && b.task(&pull).is_some() {
        // The next one is resolved anew.
        b.push(Operation::Forget(pull), Action::None, cause, vec![made]);
    }
    made
}

/// Remembers what was applied, so that the next change can name old and new.
pub fn record_applied(b: &mut Builder<'_>, want: &ContainerSpec, cause: &Cause, after: Vec<usize>) -> usize {
    let fields = crate::desired::fields::fields(want);
    b.push(Operation::Record(Fact::Applied { name: want.name.clone(), fields }), Action::None, cause.clone(), after)
}

/// What to say while an image is fetched or cannot be had.
pub fn fetching(b: &Builder<'_>) -> Progress {
    let failed = b.conditions.iter().find(|c| matches!(c.type_, ConditionType::ImagePullFailed | ConditionType::HelperUnavailable));
    match (failed, b.waiting.last()) {
        (Some(condition), _) => Progress::Failed(condition.reason, condition.message.clone()),
        (None, Some(waiting)) => Progress::Working(Reason::Pulling, waiting.reason.clone(), None),
        (None, None) => Progress::Working(Reason::Pulling, "looking for the image".to_owned(), None),
    }
}

fn keep(b: &mut Builder<'_>, want: &ContainerSpec, container: &Container, owner: &Identity, gate: &[usize], may_start: bool) -> Progress {
    match container.state {
        State::Removing => {
            b.wait(WaitKey::Container(container.id.clone()), Some(b.input.now + SignedDuration::from_secs(5)), format!("{} to be gone", container.name));
            return Progress::Working(Reason::Progressing, format!("{} is being removed", container.name), None);
        }
        State::Dead => {
            b.push(Operation::Remove(target(container, owner)), Action::Delete, Cause::new("state", "dead", "absent"), Vec::new());
            return Progress::Working(Reason::Progressing, format!("{} is dead and is made anew", container.name), None);
        }
        State::Created | State::Running(_) | State::Paused | State::Restarting | State::Exited { .. } => {}
    }
    if container.name != want.name {
        let operation = Operation::Rename { target: target(container, owner), to: want.name.clone() };
        b.push(operation, Action::Update, Cause::new("name", &container.name, &want.name), Vec::new());
    }
    unnamed_volumes(b, want, container);
    let lowering = lowering(b, want, container);
    let difference = difference(b, want, container, owner).or(match &lowering {
        Lowering::Replace(cause) => Some(vec![cause.clone()]),
        Lowering::None | Lowering::Unknown => None,
    });
    if let Some(causes) = difference {
        let cause = causes.first().cloned().unwrap_or_else(|| Cause::new("spec", "unknown", "changed"));
        b.changes.extend(causes.iter().cloned());
        match replacement_allowed(b, want, container, owner, &causes) {
            Ok(()) => return replace::begin(b, want, (container, owner), cause, gate, may_start),
            Err((type_, message)) => {
                b.skipped.push(super::Skipped { op: format!("replace {}", container.name), why: message.clone() });
                b.report(type_, message);
            }
        }
    } else {
        if image::has_moved(b, want, container) {
            let message = format!(
                "{} names another image by now than the one that {} was made from; with `pullPolicy: Always`, `dockmaster restart` takes it",
                want.image.as_str(),
                container.name
            );
            b.report(ConditionType::ImageOutdated, message);
        }
        if lowering == Lowering::Unknown {
            measure(b, container);
            return Progress::Working(Reason::Progressing, format!("how much memory {} uses is being measured", container.name), None);
        }
        limits(b, want, container, owner);
        network::attach(b, container, owner, want);
    }
    run(b, want, container, owner, gate, may_start)
}

/// The fields whose change needs another container; `None`: this one will do.
fn difference(b: &Builder<'_>, want: &ContainerSpec, container: &Container, owner: &Identity) -> Option<Vec<Cause>> {
    if owner.hash != want.hash {
        return Some(causes(b, want, container));
    }
    if container.is_stranded() {
        return Some(vec![Cause::new("start", "killed in the middle of it", "made anew")]);
    }
    if network::holds_dead_network(b, container, want) && !container.is_active() {
        return Some(vec![Cause::new("networks", "removed", "made anew")]);
    }
    if container.is_active() && network::holds_dead_network(b, container, want) {
        return Some(vec![Cause::new("networks", "removed under the running container", "made anew")]);
    }
    if want.role == crate::desired::Role::Main && super::workload::restart_pending(b) && image::restart_takes_another(b, want, container) {
        let new = b.input.world.image(want.image.as_str()).cloned().unwrap_or_default();
        return Some(vec![Cause::new("image", short(&container.image_id), short(&new))]);
    }
    let details = container.details.as_ref()?;
    removed_limits(want, details)
}

/// An image's id as Docker shows it.
fn short(image: &str) -> &str {
    let digits = image.strip_prefix("sha256:").unwrap_or(image);
    digits.get(..12).unwrap_or(digits)
}

/// The engine accepts 0 for "no limit" and ignores it, so that taking a limit away needs another container.
fn removed_limits(want: &ContainerSpec, details: &Details) -> Option<Vec<Cause>> {
    let mut causes = Vec::new();
    if want.limits.memory.is_none() && details.memory > 0 {
        causes.push(Cause::new("resources.memory", crate::resource::Bytes(details.memory).to_string(), "unlimited"));
    }
    if want.limits.cpu.is_none() && details.nano_cpus > 0 {
        causes.push(Cause::new("resources.cpu", crate::resource::Cpu(details.nano_cpus).to_string(), "unlimited"));
    }
    (!causes.is_empty()).then_some(causes)
}

/// What less memory than before means for a container that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Lowering {
    /// It is not lowered, or can be in place.
    None,
    /// So much is in use that its process might be killed: another container takes its place.
    Replace(Cause),
    /// How much is in use is not known.
    Unknown,
}

/// Memory is taken away in place only where a quarter more than what is in use is left.
fn lowering(b: &Builder<'_>, want: &ContainerSpec, container: &Container) -> Lowering {
    let Some((memory, details)) = want.limits.memory.zip(container.details.as_ref()) else { return Lowering::None };
    let lowered = details.memory == 0 || memory.0 < details.memory;
    if !lowered || !container.is_active() {
        return Lowering::None;
    }
    let enough = |used: u64| memory.0 >= used.saturating_add(used / 4);
    match b.task(&TaskKey::Memory(container.id.clone())) {
        Some(TaskState::Done { at, result: TaskResult::Memory(used) }) if b.input.now < *at + FRESH && enough(*used) => Lowering::None,
        Some(TaskState::Done { at, .. }) if b.input.now >= *at + FRESH => Lowering::Unknown,
        // What cannot be measured is not risked.
        Some(TaskState::Done { .. } | TaskState::Failed { .. }) => {
            let old = if details.memory == 0 { "unlimited".to_owned() } else { crate::resource::Bytes(details.memory).to_string() };
            Lowering::Replace(Cause::new("resources.memory", old, memory.to_string()))
        }
        Some(TaskState::Running { .. }) | None => Lowering::Unknown,
    }
}

/// Asks how much memory is in use, and waits for the answer.
fn measure(b: &mut Builder<'_>, container: &Container) {
    let key = TaskKey::Memory(container.id.clone());
    if !matches!(b.task(&key), Some(TaskState::Running { .. })) {
        b.push(Operation::Begin(key.clone(), Task::Memory), Action::Wait, Cause::new("resources.memory", "in use", "measured"), Vec::new());
    }
    b.wait(WaitKey::Task(key), None, format!("the memory that {} uses to be measured", container.name));
}

/// Remembers, once for each container, what its image puts into volumes that have no name.
fn unnamed_volumes(b: &mut Builder<'_>, want: &ContainerSpec, container: &Container) {
    // A preview keeps nothing.
    let Some(details) = container.details.as_ref().filter(|_| b.desired.preview.is_none()) else { return };
    let mut paths: Vec<String> = details.anonymous_volumes.values().cloned().collect();
    paths.sort();
    let known = b.input.facts.unnamed_volumes.get(&want.name);
    if known.map_or(paths.is_empty(), |known| known.container == container.id.0) {
        return;
    }
    let cause = Cause::new("volumes", "declared by the image", paths.join(", "));
    let found = UnnamedVolumes { container: container.id.0.clone(), service: want.service.clone(), paths };
    b.push(Operation::Record(Fact::UnnamedVolumes { name: want.name.clone(), found }), Action::None, cause, Vec::new());
}

/// Field by field what differs from what was applied; where that is not known, from what an inspect tells.
pub fn causes(b: &Builder<'_>, want: &ContainerSpec, container: &Container) -> Vec<Cause> {
    let new = crate::desired::fields::fields(want);
    let Some(old) = b.input.facts.applied.get(&want.name) else {
        let mut causes = Vec::new();
        if container.image != want.image.as_str() && !want.image.as_str().starts_with("helper/") {
            causes.push(Cause::new("image", &container.image, want.image.as_str()));
        }
        causes.push(Cause::new("spec", "unknown", "as declared"));
        return causes;
    };
    crate::desired::fields::diff_fields(old, &new).into_iter().map(|change| Cause::new(change.field, change.old, change.new)).collect()
}

/// Whether a replacement may interrupt now.
fn replacement_allowed(
    b: &mut Builder<'_>,
    want: &ContainerSpec,
    container: &Container,
    owner: &Identity,
    causes: &[Cause],
) -> Result<(), (ConditionType, String)> {
    // It is no old container that runs on.
    if container.is_stranded() {
        return Ok(());
    }
    if let Some((hash, message)) = &b.input.facts.update_failed
        && *hash == want.hash
        && b.input.facts.restart_asked.is_none()
    {
        return Err((ConditionType::UpdateFailed, format!("{message}; the old container runs on; change the spec, or try again with `dockmaster restart`")));
    }
    if !container.is_active() {
        return Ok(());
    }
    let own = match &b.input.facts.applied_digest {
        Some(digest) => *digest != b.desired.own_digest,
        None => owner.generation != b.desired.generation,
    };
    // What somebody changed by hand is not a change of the spec: it is taken back at once, like everything of that kind.
    let by_hand = owner.hash == want.hash && b.input.facts.applied.get(&want.name) == Some(&crate::desired::fields::fields(want));
    // A container that lost its network does not do its work any more: there is nothing to interrupt.
    if causes.iter().any(|cause| cause.field == "networks") {
        return Ok(());
    }
    let fields: Vec<String> = causes.iter().map(|cause| format!("{}: {} -> {}", cause.field, cause.old, cause.new)).collect();
    let pending = |what: &str| (ConditionType::RestartPending, format!("{} {what}", fields.join(", ")));
    match b.desired.update.unwrap_or(if own || by_hand { UpdateWhen::Immediately } else { UpdateWhen::WhenIdle }) {
        UpdateWhen::Immediately => Ok(()),
        UpdateWhen::OnRestart if super::workload::restart_pending(b) => Ok(()),
        UpdateWhen::OnRestart => Err(pending("waits for a restart; `dockmaster restart` does it now")),
        UpdateWhen::WhenIdle if super::workload::restart_pending(b) => Ok(()),
        UpdateWhen::WhenIdle => {
            if !super::workload::is_idle(b) {
                return Err(pending("waits until the workspace is idle; `dockmaster restart` does it now"));
            }
            if !own && !b.input.standing.inherited_turn {
                b.wait(WaitKey::Turn, None, "its turn");
                return Err(pending("waits for its turn: two at a time"));
            }
            Ok(())
        }
    }
}

/// Changes in place what the engine can change in place.
fn limits(b: &mut Builder<'_>, want: &ContainerSpec, container: &Container, owner: &Identity) {
    let Some(details) = &container.details else { return };
    let causes = changed_limits(&want.limits, details);
    let Some(cause) = causes.first().cloned() else { return };
    b.changes.extend(causes);
    let operation = Operation::Update { target: target(container, owner), limits: want.limits.clone() };
    let updated = b.push(operation, Action::Update, cause.clone(), Vec::new());
    let measured = TaskKey::Memory(container.id.clone());
    if b.task(&measured).is_some() {
        b.push(Operation::Forget(measured), Action::None, cause.clone(), vec![updated]);
    }
    record_applied(b, want, &cause, vec![updated]);
}

fn changed_limits(want: &Limits, details: &Details) -> Vec<Cause> {
    let mut causes = Vec::new();
    if let Some(memory) = want.memory.filter(|m| m.0 != details.memory) {
        causes.push(Cause::new("resources.memory", crate::resource::Bytes(details.memory).to_string(), memory.to_string()));
    }
    if let Some(cpu) = want.cpu.filter(|c| c.0 != details.nano_cpus) {
        causes.push(Cause::new("resources.cpu", crate::resource::Cpu(details.nano_cpus).to_string(), cpu.to_string()));
    }
    if want.pids != details.pids {
        causes.push(Cause::new("resources.pids", details.pids.to_string(), want.pids.to_string()));
    }
    if want.restart.as_str() != details.restart {
        causes.push(Cause::new("restart", &details.restart, want.restart.as_str()));
    }
    causes
}

fn run(b: &mut Builder<'_>, want: &ContainerSpec, container: &Container, owner: &Identity, gate: &[usize], may_start: bool) -> Progress {
    match container.state {
        State::Running(_) => {
            forget_exits(b, want, container);
            if let Some(progress) = restarted(b, want, container) {
                return progress;
            }
            match readiness::of(b, container, want) {
                Readiness::Ready => Progress::Ready,
                Readiness::Starting | Readiness::Down => Progress::Starting(format!("{} is not healthy yet", container.name)),
                Readiness::Unhealthy => {
                    let message = format!("the health check of {} fails; see `dockmaster logs`", container.name);
                    b.report(ConditionType::Unhealthy, message.clone());
                    Progress::Failed(Reason::Unhealthy, message)
                }
            }
        }
        State::Paused => paused(b, container, owner),
        State::Restarting => {
            b.wait(WaitKey::Container(container.id.clone()), None, format!("the engine restarts {}", container.name));
            restarted(b, want, container).unwrap_or_else(|| Progress::Starting(format!("the engine restarts {}", container.name)))
        }
        State::Created => start(b, want, container, owner, gate, may_start, Cause::new("state", "created", "running")),
        State::Exited { code } => exited(b, want, container, owner, code, gate, may_start),
        State::Removing | State::Dead => Progress::Working(Reason::Progressing, format!("{} is going", container.name), None),
    }
}

/// A process that the engine itself starts again and again: it is believed to run when it has run for a while.
fn restarted(b: &mut Builder<'_>, want: &ContainerSpec, container: &Container) -> Option<Progress> {
    let details = container.details.as_ref().filter(|details| details.restarts > 0)?;
    if want.role == Role::Main {
        last_lines::keep_of_restart(b, container);
    }
    let proven = details.started.filter(|_| container.state != State::Restarting).map(|at| clock::end_of(at, PROOF, b.input.now));
    if proven.is_some_and(|proven| b.input.now >= proven) {
        return None;
    }
    if let Some(proven) = proven {
        b.recheck_at(proven);
    }
    let restarts = details.restarts;
    if restarts < LOOP {
        return Some(Progress::Starting(format!("{} ended and was started again by the engine ({restarts} times)", container.name)));
    }
    let message = format!(
        "{} exits again and again, last with code {} ({restarts} restarts): {}",
        container.name,
        details.exit_code,
        why_it_exits(b, details.oom_killed)
    );
    let told = Some((container.id.0.clone(), restarts));
    if want.role == Role::Main && b.input.facts.looping != told {
        let looping = Fact::Looping { container: container.id.0.clone(), restarts, message: message.clone() };
        b.push(Operation::Record(looping), Action::None, Cause::new("restarts", "fewer", restarts.to_string()), Vec::new());
    }
    b.report(ConditionType::CrashLoop, message.clone());
    Some(Progress::Failed(Reason::CrashLoop, message))
}

/// A pause by hand is a person's; `start` ends it. Our own, for a copy, ends by itself.
fn paused(b: &mut Builder<'_>, container: &Container, owner: &Identity) -> Progress {
    // Until the run that was asked for has begun, however long the engine was away: a pause after that is another matter.
    let asked = b.input.facts.start_asked.is_some() && b.input.facts.run_begun.is_none();
    let copied = super::preview::copied_until(b, container);
    if let Some(until) = copied.filter(|until| b.input.now < *until) {
        b.recheck_at(until);
        return Progress::Working(Reason::Copying, format!("{} is paused while a preview copies its volumes", container.name), None);
    }
    if asked || copied.is_some() {
        b.push(Operation::Unpause(target(container, owner)), Action::Start, Cause::new("state", "paused", "running"), Vec::new());
        return Progress::Working(Reason::Progressing, format!("{} is thawed", container.name), None);
    }
    Progress::Failed(Reason::Paused, format!("{} was paused by hand; `dockmaster start` or `docker unpause` ends that", container.name))
}

fn start(b: &mut Builder<'_>, want: &ContainerSpec, container: &Container, owner: &Identity, gate: &[usize], may_start: bool, cause: Cause) -> Progress {
    if !may_start {
        return Progress::Working(Reason::Progressing, format!("{} waits for what it depends on", want.name), None);
    }
    // Connections planned for this container must be there when it starts.
    let id = &container.id;
    let mut after = gate.to_vec();
    let connects = |operation: &Operation| matches!(operation, Operation::Connect { target: super::Target::Existing { id: of, .. }, .. } if of == id);
    after.extend(b.nodes.iter().enumerate().filter(|(_, node)| connects(&node.operation)).map(|(index, _)| index));
    let node = b.push(Operation::Start(target(container, owner)), Action::Start, cause, after);
    Progress::Working(Reason::Progressing, format!("starting {}", want.name), Some(node))
}

/// An exit that nobody wished for: started again, at once at first, then ever later.
fn exited(b: &mut Builder<'_>, want: &ContainerSpec, container: &Container, owner: &Identity, code: i64, gate: &[usize], may_start: bool) -> Progress {
    if super::preview::is_held_still(b, container) {
        b.recheck_at(b.input.now + SignedDuration::from_secs(2));
        return Progress::Working(Reason::Copying, format!("{} is stopped while a preview copies its volumes", container.name), None);
    }
    let finished = container.details.as_ref().and_then(|d| d.finished);
    let (facts, now) = (b.input.facts, b.input.now);
    let wishes = facts.run_since.into_iter().chain(facts.start_asked).chain(facts.restart_asked);
    let wished_since = wishes.filter(|wish| clock::is_of_this_clock(*wish, now)).max();
    // While a restart is asked for, its end is a part of that.
    let restarts = want.role == Role::Main && super::workload::restart_pending(b);
    let after_wish = !restarts && finished.is_some_and(|at| wished_since.is_none_or(|wish| at >= wish));
    match want.limits.restart {
        RestartPolicy::No | RestartPolicy::OnFailure if code == 0 && after_wish => return Progress::Completed,
        RestartPolicy::No if after_wish => {
            let message = format!("{} ended with exit code {code}, and its restart policy is `no`; `dockmaster restart` runs it again", container.name);
            return Progress::Failed(Reason::Failed, message);
        }
        RestartPolicy::No | RestartPolicy::OnFailure | RestartPolicy::UnlessStopped => {}
    }
    if restarts && image::is_awaited_by_restart(b, want, container) {
        return fetching(b);
    }
    let mut exits = facts.exits.clone();
    // An end before the wish to run was wished for too.
    let cause = Cause::new("state", if after_wish { format!("exited ({code})") } else { "stopped".to_owned() }, "running");
    let mut gate = gate.to_vec();
    let mut forgotten = Vec::new();
    if exits.last().is_some_and(|last| !clock::is_of_this_clock(*last, now)) {
        exits.clear();
        forgotten.push(b.push(Operation::Record(Fact::ExitsForgotten), Action::None, Cause::new("clock", "as before", "set back"), Vec::new()));
    }
    if let Some(at) = finished.filter(|at| after_wish && exits.last().is_none_or(|last| last < at)) {
        if want.role == Role::Main {
            let Some(kept) = last_lines::keep(b, container) else {
                return Progress::Working(Reason::Progressing, format!("{} ended with code {code}", container.name), None);
            };
            gate.extend(kept);
        }
        exits.push(at);
        gate.push(b.push(Operation::Record(Fact::Exited(at)), Action::None, cause.clone(), forgotten));
    }
    if let Some(until) = crash_backoff(&exits) {
        let oom = container.details.as_ref().is_some_and(|d| d.oom_killed);
        let message = format!("{} exits again and again, last with code {code}: {}", container.name, why_it_exits(b, oom));
        b.report(ConditionType::CrashLoop, message.clone());
        if b.input.now < until {
            b.wait(WaitKey::Time, Some(until), format!("the next start of {}", container.name));
            return Progress::Failed(Reason::CrashLoop, message);
        }
    }
    start(b, want, container, owner, &gate, may_start, cause)
}

/// What a crash loop is explained with.
fn why_it_exits(b: &Builder<'_>, out_of_memory: bool) -> String {
    if out_of_memory { "it ran out of memory".to_owned() } else { format!("see `dockmaster logs {} --previous`", b.input.object) }
}

/// After three exits without a minute's run between them: a second, doubled with each exit, at most five minutes.
fn crash_backoff(exits: &[Timestamp]) -> Option<Timestamp> {
    let excess = u32::try_from(exits.len()).unwrap_or(u32::MAX).checked_sub(2).filter(|excess| *excess > 0)?;
    exits.last().map(|last| *last + image::backoff(excess, 1))
}

/// A run of a minute ends a crash loop.
fn forget_exits(b: &mut Builder<'_>, want: &ContainerSpec, container: &Container) {
    let Some(started) = container.details.as_ref().and_then(|d| d.started) else { return };
    if b.input.facts.exits.is_empty() || want.role != Role::Main {
        return;
    }
    let stable = clock::end_of(started, SignedDuration::from_mins(1), b.input.now);
    if b.input.now >= stable {
        b.push(Operation::Record(Fact::ExitsForgotten), Action::None, Cause::new("exits", "some", "none"), Vec::new());
    } else {
        b.recheck_at(stable);
    }
}
