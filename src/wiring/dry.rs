//! `plan`: what `run --once` would do, over a ledger that forgets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dockmaster::cli::args::{Global, PlanArgs, TextOrJson};
use dockmaster::cli::{Access, Adapters, Context, Failure, out};
use dockmaster::config::{RUN_SETTING, RunSettings};
use dockmaster::controller::dry::Listing;
use dockmaster::controller::{Clock, Controller, Parts, Permission};
use dockmaster::planner::{Plan, print};
use dockmaster::resource::ObjectRef;
use dockmaster::source::directory::{DirectorySource, Root};
use dockmaster::source::sink::Nowhere;
use dockmaster::source::{Item, SourceEvent, SpecSource};
use dockmaster::state::Ledger;
use dockmaster::state::memory::MemoryLedger;
use dockmaster::state::overlay::OverlayLedger;
use dockmaster::status::reporter::Reporter;
use futures::StreamExt;
use jiff::Timestamp;

use super::host::{FixedClock, SystemClock, SystemHost};

/// Plans, prints, and says by the exit code whether there is anything to do.
pub async fn plan(context: &mut Context<'_>, arguments: &PlanArgs) -> Result<u8, Failure> {
    let at = arguments.at.as_deref().map(|text| instant(text, context.now)).transpose()?;
    let (ledger, settings) = known(context.adapters, &context.state_dir.clone(), &context.global.clone()).await?;
    let (settings, chosen) = choose(settings, &arguments.paths)?;
    let now = planned(&settings, ledger.clone(), &chosen, Arc::new(SystemClock)).await?;
    let plans = match at {
        Some(at) => planned(&settings, ledger, &chosen, Arc::new(FixedClock(at))).await?,
        None => now.clone(),
    };
    let items: Vec<_> = plans.iter().flat_map(|(object, plan)| print::items(object, plan)).collect();
    if arguments.output == TextOrJson::Json {
        context.out.line(format_args!("{:#}", serde_json::to_value(&items)?))?;
        return Ok(if items.is_empty() { out::DONE } else { out::CHANGES });
    }
    for (object, plan) in &plans {
        context.out.text(print::text(object, plan))?;
    }
    let due = due(&now, at, &items);
    for line in &due {
        context.out.line(line)?;
    }
    if items.is_empty() && due.is_empty() {
        context.out.line("Nothing to do.")?;
        return Ok(out::DONE);
    }
    context.out.line(print::count(&items))?;
    Ok(out::CHANGES)
}

/// What comes by itself until then, of objects for which nothing else is planned.
fn due(now: &[(ObjectRef, Plan)], at: Option<Timestamp>, items: &[dockmaster::planner::PlanItem]) -> Vec<String> {
    let Some(at) = at else { return Vec::new() };
    now.iter()
        .filter(|(object, _)| !items.iter().any(|item| item.object == *object))
        .filter_map(|(object, plan)| plan.next.as_ref().filter(|next| next.at <= at).map(|next| (object, next)))
        .map(|(object, next)| format!("{object}\n  at {}: {} ({})", print::instant(next.at), next.action, next.why))
        .collect()
}

/// `2h` from now, or an instant.
fn instant(text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    if let Ok(after) = text.parse::<dockmaster::resource::Duration>() {
        return Ok(now + after.0);
    }
    text.parse().map_err(|_| Failure::new(format!("`{text}` is neither a time from now like `2h` nor an instant like 2030-01-31T18:00:00Z")))
}

/// What the last `run` left: its ledger and settings; without one, an empty ledger and the defaults.
async fn known(adapters: &dyn Adapters, state_dir: &Path, global: &Global) -> Result<(Arc<dyn Ledger>, RunSettings), Failure> {
    let ledger = adapters.ledger(state_dir, Access::Read).await.ok();
    let text = match &ledger {
        Some(ledger) => ledger.setting(RUN_SETTING).await?,
        None => None,
    };
    match (ledger, text) {
        (Some(ledger), Some(text)) => Ok((ledger, serde_json::from_str(&text)?)),
        (ledger, _) => {
            let mut settings = dockmaster::cli::args::default_run().settings(global)?;
            settings.roots.retain(|root| root.path.is_dir());
            Ok((ledger.unwrap_or_else(|| Arc::new(MemoryLedger::default())), settings))
        }
    }
}

/// Which documents: all of a root, or those below a path.
struct Chosen {
    root: Root,
    /// Below which the objects lie that are planned; `None`: all, and what is missing is gone.
    below: Option<PathBuf>,
}

/// The roots that are read and what of them is planned. A path in no root is a root of its own.
fn choose(mut settings: RunSettings, paths: &[PathBuf]) -> Result<(RunSettings, Vec<Chosen>), Failure> {
    let mut chosen: Vec<Chosen> = Vec::new();
    for path in paths {
        let path = std::path::absolute(path)?;
        if !path.exists() {
            return Err(Failure::new(format!("{} does not exist", path.display())));
        }
        match settings.roots.iter().find(|root| path.starts_with(&root.path)) {
            Some(root) if root.path == path => chosen.push(Chosen { root: root.clone(), below: None }),
            Some(root) => chosen.push(Chosen { root: root.clone(), below: Some(path) }),
            None => {
                let directory = if path.is_dir() { path.clone() } else { path.parent().map(Path::to_owned).unwrap_or_default() };
                let root = Root::parse(&directory.to_string_lossy())?;
                settings.roots.push(root.clone());
                chosen.push(Chosen { root, below: (!path.is_dir()).then_some(path) });
            }
        }
    }
    if paths.is_empty() {
        chosen = settings.roots.iter().map(|root| Chosen { root: root.clone(), below: None }).collect();
    }
    Ok((settings, chosen))
}

async fn planned(settings: &RunSettings, ledger: Arc<dyn Ledger>, chosen: &[Chosen], clock: Arc<dyn Clock>) -> Result<Vec<(ObjectRef, Plan)>, Failure> {
    let ledger: Arc<dyn Ledger> = Arc::new(OverlayLedger::new(ledger));
    let mut listings: BTreeMap<String, Listing> = BTreeMap::new();
    let mut sources: Vec<Arc<dyn SpecSource>> = Vec::new();
    let mut wanted: Vec<ObjectRef> = Vec::new();
    for choice in chosen {
        let (source, items) = list(settings, &choice.root).await?;
        let below = |item: &Item| choice.below.as_ref().is_none_or(|below| choice.root.path.join(&item.origin.path).starts_with(below));
        wanted.extend(items.iter().filter(|item| below(item)).map(|item| item.resource.reference()));
        let complete = choice.below.is_none();
        listings.entry(choice.root.name.clone()).or_insert(Listing { source: choice.root.name.clone(), items, complete }).complete |= complete;
        sources.push(source);
    }
    let partial = chosen.iter().all(|choice| choice.below.is_some());
    let controller = Controller::new(Parts {
        runtime: Arc::new(super::runtime(settings).await?),
        ledger,
        sources,
        reporter: Arc::new(Reporter::new(Arc::new(Nowhere))),
        clock,
        host: Arc::new(SystemHost),
        concurrency: 1,
        accept_engine: false,
        permission: Permission::default(),
        settings: settings.clone(),
    });
    let plans = controller.dry(listings.into_values().collect()).await?.ok_or_else(|| Failure::unreachable("the engine does not answer"))?;
    Ok(plans.into_iter().filter(|(object, _)| !partial || wanted.contains(object)).collect())
}

/// All good documents of a root, as a running operator would take them in.
pub(super) async fn list(settings: &RunSettings, root: &Root) -> Result<(Arc<dyn SpecSource>, Vec<Item>), Failure> {
    let source: Arc<dyn SpecSource> = Arc::new(DirectorySource::new(root.clone(), super::options(Some(settings), None)));
    let mut events = source.events();
    let mut items = Vec::new();
    let mut problems = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            SourceEvent::InitApply(item) | SourceEvent::Apply(item) => items.push(*item),
            SourceEvent::Invalid { errors, .. } => problems.extend(errors),
            SourceEvent::InitDone => break,
            SourceEvent::Unhealthy(why) => return Err(Failure::new(format!("{}: {why}", root.name))),
            SourceEvent::Init | SourceEvent::Reported { .. } | SourceEvent::Gone(_) | SourceEvent::Healthy => {}
        }
    }
    if !problems.is_empty() {
        return Err(Failure::new(problems.join("\n")));
    }
    Ok((source, items))
}
