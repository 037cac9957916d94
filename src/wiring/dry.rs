//! `plan`: what `run --once` would do, over a ledger that forgets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dockmaster::cli::args::{Global, PlanArgs, TextOrJson};
use dockmaster::cli::{Access, Context, Failure, out};
use dockmaster::config::{HELPER_SETTING, RUN_SETTING, RunSettings};
use dockmaster::controller::dry::Listing;
use dockmaster::controller::{Clock, Controller, Parts, Permission};
use dockmaster::http::control::Client;
use dockmaster::planner::{Action, Cause, Plan, PlanItem, print};
use dockmaster::resource::status::{Next, NextAction};
use dockmaster::resource::{ObjectRef, Origin};
use dockmaster::source::directory::{DirectorySource, Root};
use dockmaster::source::sink::Nowhere;
use dockmaster::source::{Item, SourceEvent, SpecSource};
use dockmaster::state::Ledger;
use dockmaster::state::memory::MemoryLedger;
use dockmaster::state::overlay::OverlayLedger;
use dockmaster::status::reporter::Reporter;
use futures::StreamExt;
use jiff::Timestamp;

use super::host::{FixedClock, SystemClock, SystemHost, SystemRandomness};

/// How long an operator may take to say what it knows; one that takes longer is not needed.
const ANSWER: Duration = Duration::from_secs(1);

/// Plans, prints, and says by the exit code whether there is anything to do.
pub async fn plan(context: &mut Context<'_>, arguments: &PlanArgs) -> Result<u8, Failure> {
    let at = arguments.at.as_deref().map(|text| instant(text, context.now)).transpose()?;
    let (adapters, state_dir) = (context.adapters, context.state_dir.clone());
    let ledger = adapters.ledger(&state_dir, Access::Read).await.ok();
    let remembered = match &ledger {
        Some(ledger) => ledger.setting(RUN_SETTING).await?,
        None => None,
    };
    let settings = match remembered {
        Some(text) => context.remembered(&text)?,
        None => first(&context.global, &arguments.paths)?,
    };
    let ledger = ledger.unwrap_or_else(|| Arc::new(MemoryLedger::default()));
    let (settings, chosen) = choose(settings, &arguments.paths)?;
    let operator = context.client();
    let Planned { plans: now, problems } = planned(&settings, ledger.clone(), &chosen, Arc::new(SystemClock), &operator).await?;
    let plans = match at {
        Some(at) => planned(&settings, ledger, &chosen, Arc::new(FixedClock(at)), &operator).await?.plans,
        None => now.clone(),
    };
    let mut items: Vec<_> = plans.iter().flat_map(|(object, plan)| print::items(object, plan)).collect();
    let due = due(&now, at, &items);
    let is_empty = items.is_empty() && due.is_empty();
    if arguments.output == TextOrJson::Json {
        items.extend(due.iter().map(|(object, next)| coming(object, next, context.now)));
        context.out.line(format_args!("{:#}", serde_json::to_value(&items)?))?;
    } else {
        for (object, plan) in plans.iter().filter(|(object, _)| !due.iter().any(|(due, _)| *due == object)) {
            context.out.text(print::text(object, plan))?;
        }
        for (object, next) in &due {
            context.out.line(format_args!("{object}\n  at {}: {} ({})", print::instant(next.at), next.action, next.why))?;
        }
        context.out.line(if is_empty { "Nothing to do.".to_owned() } else { print::count(&items) })?;
    }
    // One bad document affects no other: what the good ones lead to is printed all the same.
    match problems.is_empty() {
        true => Ok(if is_empty { out::DONE } else { out::CHANGES }),
        false => Err(Failure::new(problems.join("\n"))),
    }
}

/// What comes by itself until then, of objects for which nothing else is planned.
fn due<'a>(now: &'a [(ObjectRef, Plan)], at: Option<Timestamp>, items: &[PlanItem]) -> Vec<(&'a ObjectRef, &'a Next)> {
    let Some(at) = at else { return Vec::new() };
    now.iter()
        .filter(|(object, _)| !items.iter().any(|item| item.object == *object))
        .filter_map(|(object, plan)| plan.next.as_ref().filter(|next| next.at <= at).map(|next| (object, next)))
        .collect()
}

/// The same for programs.
fn coming(object: &ObjectRef, next: &Next, now: Timestamp) -> PlanItem {
    let (action, operation) = match next.action {
        NextAction::Stop => (Action::Stop, "stop"),
        NextAction::Start => (Action::Start, "start"),
        NextAction::Expire => (Action::Delete, "expire"),
        NextAction::Purge => (Action::Delete, "purge"),
        NextAction::Retry => (Action::Wait, "retry"),
    };
    let cause = Cause::new("time", print::instant(now), format!("{}: {}", print::instant(next.at), next.why));
    PlanItem { object: object.clone(), action, operation: operation.to_owned(), target: object.short(), cause, depends_on: Vec::new() }
}

/// `2h` from now, or an instant.
fn instant(text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    if let Ok(after) = text.parse::<dockmaster::resource::Duration>() {
        return Ok(now + after.0);
    }
    text.parse().map_err(|_| Failure::new(format!("`{text}` is neither a time from now like `2h` nor an instant like 2030-01-31T18:00:00Z")))
}

/// The settings of a first `run`.
fn first(global: &Global, paths: &[PathBuf]) -> Result<RunSettings, Failure> {
    let mut settings = dockmaster::cli::args::default_run().settings(global)?;
    settings.roots.retain(|root| root.path.is_dir());
    if settings.roots.is_empty() && paths.is_empty() {
        return Err(Failure::new("there is no directory `specs` here, and no operator has run yet; name the specs: `dockmaster plan DIR`"));
    }
    Ok(settings)
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

/// The plans of the good documents, and what is wrong with the others.
struct Planned {
    plans: Vec<(ObjectRef, Plan)>,
    problems: Vec<String>,
}

async fn planned(settings: &RunSettings, ledger: Arc<dyn Ledger>, chosen: &[Chosen], clock: Arc<dyn Clock>, operator: &Client) -> Result<Planned, Failure> {
    let remembered = ledger.setting(HELPER_SETTING).await?;
    let ledger: Arc<dyn Ledger> = Arc::new(OverlayLedger::new(ledger));
    let lists = async {
        let mut lists = Vec::new();
        for choice in chosen {
            lists.push(list(settings, &choice.root).await?);
        }
        Ok(lists)
    };
    // The specs are read while the engine says what it is, or an operator that runs, which knows what would be asked once more for each object.
    let runtime = async {
        let known = tokio::time::timeout(ANSWER, operator.engine()).await;
        super::runtime(settings, remembered.as_deref(), &known.ok().and_then(Result::ok).unwrap_or_default()).await
    };
    let (runtime, lists) = futures::try_join!(runtime, lists)?;
    let mut listings: BTreeMap<String, Listing> = BTreeMap::new();
    let mut sources: Vec<Arc<dyn SpecSource>> = Vec::new();
    let mut wanted: Vec<ObjectRef> = Vec::new();
    let mut problems: Vec<String> = Vec::new();
    for (choice, Listed { source, items, invalid }) in chosen.iter().zip(lists) {
        let below = |origin: &Origin| choice.below.as_ref().is_none_or(|below| choice.root.path.join(&origin.path).starts_with(below));
        wanted.extend(items.iter().filter(|item| below(&item.origin)).map(|item| item.resource.reference()));
        problems.extend(invalid.iter().filter(|invalid| below(&invalid.origin)).flat_map(|invalid| invalid.errors.clone()));
        let complete = choice.below.is_none();
        let invalid = invalid.into_iter().map(|invalid| (invalid.origin, invalid.shields)).collect();
        let listing = Listing { source: choice.root.name.clone(), items, invalid, complete };
        listings.entry(choice.root.name.clone()).or_insert(listing).complete |= complete;
        sources.push(source);
    }
    let partial = chosen.iter().all(|choice| choice.below.is_some());
    let controller = Controller::new(Parts {
        randomness: Arc::new(SystemRandomness),
        runtime: Arc::new(runtime),
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
    Ok(Planned { plans: plans.into_iter().filter(|(object, _)| !partial || wanted.contains(object)).collect(), problems })
}

/// What a root says.
pub(super) struct Listed {
    source: Arc<dyn SpecSource>,
    /// The good documents.
    pub items: Vec<Item>,
    /// The others.
    pub invalid: Vec<Unusable>,
}

/// A file or document that cannot be used.
pub(super) struct Unusable {
    origin: Origin,
    shields: Vec<ObjectRef>,
    /// What is wrong with it, rendered.
    pub errors: Vec<String>,
}

/// All documents of a root, as a running operator would take them in.
pub(super) async fn list(settings: &RunSettings, root: &Root) -> Result<Listed, Failure> {
    let source: Arc<dyn SpecSource> = Arc::new(DirectorySource::new(root.clone(), super::options(Some(settings), None)));
    let mut events = source.events();
    let mut items = Vec::new();
    let mut invalid = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            SourceEvent::InitApply(item) | SourceEvent::Apply(item) => items.push(*item),
            SourceEvent::Invalid { origin, shields, errors } => invalid.push(Unusable { origin, shields, errors }),
            SourceEvent::InitDone => break,
            SourceEvent::Unhealthy(why) => return Err(Failure::new(format!("{}: {why}", root.name))),
            SourceEvent::Init | SourceEvent::Reported { .. } | SourceEvent::Gone(_) | SourceEvent::Healthy => {}
        }
    }
    Ok(Listed { source, items, invalid })
}
