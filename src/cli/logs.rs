//! `logs`: what a container says, or said before its last crash or removal.

use clap::Args;
use futures::StreamExt;

use super::objects::{View, find};
use super::out::Failure;
use super::{Context, Engine, names};
use crate::observed::{Container, Look, Slot};
use crate::runtime::console::LogOptions;

/// `logs`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  dockmaster logs shop
  dockmaster logs -f --tail 20 shop -c db
  dockmaster logs --previous shop")]
pub struct LogsArgs {
    /// KIND/NAME, or NAME of a workspace
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Go on with what comes
    #[arg(short, long)]
    pub follow: bool,
    /// The last lines before the last crash or removal
    #[arg(short, long, conflicts_with_all = ["follow", "service"])]
    pub previous: bool,
    /// Only so many of the last lines
    #[arg(long, value_name = "N")]
    pub tail: Option<u64>,
    /// A service instead of the main container
    #[arg(short = 'c', long, value_name = "SERVICE")]
    pub service: Option<String>,
    /// The namespace
    #[arg(short, long, value_name = "NS", default_value = "default")]
    pub namespace: String,
}

/// Prints the log.
pub async fn run(context: &mut Context<'_>, arguments: &LogsArgs) -> Result<(), Failure> {
    let object = names::object(&arguments.name, &arguments.namespace)?;
    let (ledger, views) = context.read_quietly().await?;
    let view = find(&views, &object)?;
    if arguments.previous {
        return match ledger.facts(&view.record.admission.uid).await?.previous_log {
            Some(text) => {
                let lines: Vec<&str> = text.lines().collect();
                let skip = arguments.tail.and_then(|tail| usize::try_from(tail).ok()).map_or(0, |tail| lines.len().saturating_sub(tail));
                Ok(lines.iter().skip(skip).try_for_each(|line| context.out.line(line))?)
            }
            None => Err(Failure::new(format!("{} has no earlier log: it has neither crashed nor been replaced", object.short()))),
        };
    }
    let settings = context.settings(&*ledger).await?;
    let engine = context.adapters.engine(&settings).await?;
    let container = container(&*engine, view, arguments.service.as_deref()).await?;
    let mut log = engine.logs(&container.id, LogOptions { follow: arguments.follow, tail: arguments.tail }).await?;
    while let Some(chunk) = log.next().await {
        let chunk = chunk?;
        context.out.bytes(chunk.stderr, &chunk.bytes)?;
    }
    Ok(())
}

/// The container of an object: the main one, or a service's.
pub async fn container(engine: &dyn Engine, view: &View, service: Option<&str>) -> Result<Container, Failure> {
    let object = view.object();
    if object.kind.is_cluster() {
        return Err(Failure::new(format!("{} has no container; workspaces and previews have", object.short())));
    }
    let containers = engine.glimpse(object, Look::Object).await?.containers;
    let own = |container: &&Container| container.owner.as_ref().is_some_and(|owner| owner.service.as_deref() == service && owner.slot == Slot::Current);
    if let Some(container) = containers.iter().find(own) {
        return Ok(container.clone());
    }
    let services: Vec<&str> = containers.iter().filter_map(|container| container.owner.as_ref()?.service.as_deref()).collect();
    Err(Failure::new(match service {
        Some(service) if !services.is_empty() => match names::nearest(service, services.iter().copied()) {
            Some(name) => format!("{} has no service `{service}`; did you mean {name}?", object.short()),
            None => format!("{} has no service `{service}`; it has {}", object.short(), services.join(", ")),
        },
        Some(service) => format!("{} has no service `{service}`", object.short()),
        None => format!("{} has no container now; `dockmaster why {object}` says why, `dockmaster logs --previous` has the last lines", object.short()),
    }))
}
