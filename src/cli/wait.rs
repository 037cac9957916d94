//! `wait`: until an object is in a state, as the running operator reports it.

use clap::Args;
use futures::StreamExt;

use super::args::NamesArgs;
use super::objects::all;
use super::out::Failure;
use super::{Access, Context, names};
use crate::http::control::{WatchFilter, WatchItem};
use crate::resource::quantity::Duration;
use crate::resource::status::Phase;
use crate::resource::{ConditionType, ObjectRef, Reason, Status, Truth};
use crate::state::Ledger;

/// `wait`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  dockmaster wait workspace/shop --for condition=Ready --timeout 2m
  dockmaster wait shop --for phase=Stopped
  dockmaster wait preview/demo --for delete

Exit code 1 when the time is over, 3 when no operator runs.")]
pub struct WaitArgs {
    /// The objects
    #[command(flatten)]
    pub names: NamesArgs,
    /// condition=TYPE[=True|False|Unknown], phase=PHASE, or delete
    #[arg(long = "for", value_name = "WHAT")]
    pub what: String,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub timeout: Duration,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Goal {
    Condition(ConditionType, Truth),
    Phase(Phase),
    Delete,
}

impl std::str::FromStr for Goal {
    type Err = Failure;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "delete" {
            return Ok(Goal::Delete);
        }
        let (what, value) = text.split_once('=').unwrap_or((text, ""));
        match what {
            "condition" => {
                let (type_, truth) = value.split_once('=').unwrap_or((value, "True"));
                let truth = [Truth::True, Truth::False, Truth::Unknown].into_iter().find(|known| known.as_str().eq_ignore_ascii_case(truth));
                let truth = truth.ok_or_else(|| Failure::new(format!("a condition is True, False or Unknown, not what `{text}` says")))?;
                Ok(Goal::Condition(member("condition", type_, ConditionType::ALL, ConditionType::as_str)?, truth))
            }
            "phase" => Ok(Goal::Phase(member("phase", value, Phase::ALL, Phase::as_str)?)),
            _ => Err(Failure::new(format!("`--for {text}` is not understood; write condition=Ready, phase=Stopped or delete"))),
        }
    }
}

/// The member of a closed set of that name, in any case.
fn member<T: Copy>(set: &str, text: &str, all: &[T], name: impl Fn(T) -> &'static str) -> Result<T, Failure> {
    all.iter().copied().find(|one| name(*one).eq_ignore_ascii_case(text)).ok_or_else(|| {
        let hint = names::nearest(text, all.iter().map(|one| name(*one))).map(|name| format!("; did you mean {name}?")).unwrap_or_default();
        Failure::new(format!("there is no {set} `{text}`{hint}"))
    })
}

impl Goal {
    /// Whether a status of the present generation fulfils it. An abnormal condition that is absent is False.
    fn is_met(&self, status: &Status) -> bool {
        match self {
            Goal::Condition(type_, truth) => status.condition(*type_).map_or(*truth == Truth::False, |condition| condition.status == *truth),
            Goal::Phase(phase) => status.phase == *phase,
            Goal::Delete => is_gone(status),
        }
    }
}

/// Whether it is deleted as far as it goes at once: nothing of it runs, its data waits in its grave.
fn is_gone(status: &Status) -> bool {
    is_deleted(status) && status.container.is_none() && status.services.is_empty() && !status.is_true(ConditionType::Reconciling)
}

/// Whether the status is that of a deleted object.
pub fn is_deleted(status: &Status) -> bool {
    status.condition(ConditionType::Ready).is_some_and(|ready| ready.reason == Reason::Deleting)
}

/// Waits for each object.
pub async fn run(context: &mut Context<'_>, arguments: &WaitArgs) -> Result<(), Failure> {
    let goal: Goal = arguments.what.parse()?;
    let objects = names::objects(&arguments.names.names, &arguments.names.namespace)?;
    if context.operator().await?.is_none() {
        return Err(context.not_running("wait"));
    }
    let ledger = context.ledger(Access::Read).await?;
    context.settings(&*ledger).await?;
    context.client().nudge(None).await?;
    let length = std::time::Duration::try_from(arguments.timeout.0)?;
    let end = tokio::time::Instant::now() + length;
    for object in &objects {
        let mut seen = None;
        match tokio::time::timeout_at(end, one(context, object, &goal, &mut seen)).await {
            Ok(met) => met?,
            Err(_) => return Err(late(&*ledger, arguments, object, seen).await?),
        }
        context.out.line(format_args!("{} {}", object.short(), arguments.what.trim_start_matches("condition=").trim_start_matches("phase=")))?;
    }
    Ok(())
}

/// Follows one object until it is there. A stream ends with the operator, and also when its reader fell behind: it is asked for again.
async fn one(context: &mut Context<'_>, object: &ObjectRef, goal: &Goal, seen: &mut Option<Status>) -> Result<(), Failure> {
    let mut told = false;
    while context.operator().await?.is_some() {
        let mut stream = context.client().watch(&WatchFilter::of(object)).await?;
        *seen = None;
        let mut exists = false;
        // A line that was cut off is the end of the stream, too.
        while let Some(Ok(item)) = stream.next().await {
            match item {
                WatchItem::Status { object: of, generation, status } if of == *object => {
                    exists = true;
                    let Ok(status) = serde_json::from_value::<Status>(status) else { continue };
                    let met = status.observed_generation >= generation && goal.is_met(&status);
                    *seen = Some(status);
                    if met {
                        return Ok(());
                    }
                }
                WatchItem::Deleted { object: of } if of == *object => {
                    (exists, *seen) = (false, None);
                    if *goal == Goal::Delete {
                        return Ok(());
                    }
                }
                WatchItem::Synced if !exists && *goal == Goal::Delete => return Ok(()),
                WatchItem::Synced if !exists && !told => {
                    context.out.note(format_args!("{} does not exist yet; waiting for it", object.short()))?;
                    told = true;
                }
                WatchItem::Status { .. } | WatchItem::Deleted { .. } | WatchItem::Event { .. } | WatchItem::Synced => {}
            }
        }
    }
    Err(Failure::unreachable("the operator ended"))
}

/// The time is over: what was seen last, and where to look.
async fn late(ledger: &dyn Ledger, arguments: &WaitArgs, object: &ObjectRef, seen: Option<Status>) -> Result<Failure, Failure> {
    let late = format!("{} did not come within {}: {}", arguments.what, arguments.timeout, object.short());
    let Some(status) = seen else {
        let views = all(ledger).await?;
        let living: Vec<_> = views.iter().filter(|view| view.record.tombstone.is_none()).map(|view| view.object()).collect();
        if living.contains(&object) {
            return Ok(Failure::new(format!("{late} was not seen yet; `dockmaster why {object}` says more")));
        }
        return Ok(Failure::new(format!("{late} does not exist: {}", names::not_found(object, living))));
    };
    let ready = status.condition(ConditionType::Ready).map(|ready| format!(", Ready={} ({}): {}", ready.status.as_str(), ready.reason, ready.message));
    Ok(Failure::new(format!("{late} is {}{}; `dockmaster why {object}` says more", status.phase, ready.unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_read() {
        assert_eq!("delete".parse::<Goal>().unwrap(), Goal::Delete);
        assert_eq!("condition=Ready".parse::<Goal>().unwrap(), Goal::Condition(ConditionType::Ready, Truth::True));
        assert_eq!("condition=ready=false".parse::<Goal>().unwrap(), Goal::Condition(ConditionType::Ready, Truth::False));
        assert_eq!("phase=Stopped".parse::<Goal>().unwrap(), Goal::Phase(Phase::Stopped));
        for (bad, words) in [
            ("phase=Stoped", "there is no phase `Stoped`; did you mean Stopped?"),
            ("condition=Raedy", "there is no condition `Raedy`; did you mean Ready?"),
            ("condition=Ready=Maybe", "a condition is True, False or Unknown, not what `condition=Ready=Maybe` says"),
            ("ready", "`--for ready` is not understood; write condition=Ready, phase=Stopped or delete"),
        ] {
            assert_eq!(bad.parse::<Goal>().unwrap_err().message, words);
        }
    }
}
