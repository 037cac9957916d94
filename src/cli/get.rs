//! `get`: lists objects, or prints them whole; goes on with what changes.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use futures::StreamExt;

use super::names::{self, Selector, Wanted};
use super::objects::{self, View, find, list, select};
use super::out::Failure;
use super::table::Columns;
use super::{Context, resolved};
use crate::desired::builtin;
use crate::http::control::{WatchFilter, WatchItem};
use crate::resource::{Kind, ObjectRef};
use crate::source::splice;
use crate::state::Ledger;

/// `get`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  dockmaster get workspaces
  dockmaster get all -A -o wide
  dockmaster get workspace/shop -n alice -o yaml
  dockmaster get ws -l team=web -o name
  dockmaster get ws shop -o yaml --resolved
  dockmaster get ws -w

Kinds: workspace (ws), preview (pv), workspacetype (wt), tenant (tn), all.")]
pub struct GetArgs {
    /// KIND [NAME…], KIND/NAME…, or all
    #[arg(value_name = "KIND", required = true)]
    pub names: Vec<String>,
    /// The namespace
    #[arg(short, long, value_name = "NS", default_value = "default")]
    pub namespace: String,
    /// All namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// The form of the output
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    pub output: Form,
    /// Only objects with these labels: KEY=VALUE, KEY!=VALUE, KEY, !KEY, with commas between
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub selector: Option<String>,
    /// Every value that is in force, with where it comes from; as YAML, or JSON with -o json
    #[arg(long)]
    pub resolved: bool,
    /// Go on with what changes; needs a running operator
    #[arg(short, long, conflicts_with = "resolved")]
    pub watch: bool,
}

/// `-o` of `get`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Columns
    Table,
    /// More columns
    Wide,
    /// The object as YAML
    Yaml,
    /// The object as JSON
    Json,
    /// KIND/NAME
    Name,
}

/// Prints what was asked for.
pub async fn run(context: &mut Context<'_>, arguments: &GetArgs) -> Result<(), Failure> {
    let wanted = names::parse(&arguments.names, &arguments.namespace)?;
    let selector: Selector = arguments.selector.as_deref().map_or_else(|| Ok(Selector::default()), str::parse)?;
    let namespace = (!arguments.all_namespaces).then_some(arguments.namespace.as_str());
    let output = match arguments.output {
        Form::Table if arguments.resolved => Form::Yaml,
        Form::Wide | Form::Name if arguments.resolved => return Err(Failure::new("--resolved prints whole objects; say -o yaml or -o json")),
        Form::Table | Form::Wide | Form::Yaml | Form::Json | Form::Name => arguments.output,
    };
    if arguments.watch {
        return watch(context, arguments, &wanted, &selector, namespace).await;
    }
    let (ledger, all) = context.read().await?;
    let mut views = select(all.clone(), &wanted, namespace)?;
    views.retain(|view| selector.matches(view.field(&["metadata", "labels"]).as_ref()));
    if views.is_empty() && matches!(output, Form::Table | Form::Wide | Form::Name) {
        return Ok(context.out.note(nothing(arguments, &wanted, namespace))?);
    }
    let columns = columns(context, arguments, &wanted);
    match output {
        Form::Table | Form::Wide => context.out.text(columns.table(&views))?,
        Form::Name => {
            for view in &views {
                context.out.line(view.object().short())?;
            }
        }
        Form::Yaml | Form::Json => {
            let mut values = Vec::new();
            for view in &views {
                values.push(if arguments.resolved { resolved::whole(&*ledger, &all, view).await? } else { view.whole() });
            }
            let named_one = matches!(&wanted, Wanted::Objects(objects) if objects.len() == 1);
            if output == Form::Yaml {
                // As a spec file is written, so that `apply` takes it.
                let documents: Vec<String> = values.iter().map(splice::render).collect();
                context.out.text(documents.join("---\n"))?;
            } else {
                let value = values.pop_if(|_| named_one).unwrap_or_else(|| list(values));
                context.out.line(format_args!("{value:#}"))?;
            }
        }
    }
    Ok(())
}

fn columns(context: &Context<'_>, arguments: &GetArgs, wanted: &Wanted) -> Columns {
    let kinds = match wanted {
        Wanted::Kinds(kinds) => kinds.len() > 1,
        Wanted::Objects(objects) => objects.iter().any(|object| object.kind != objects[0].kind),
    };
    Columns { namespaces: arguments.all_namespaces, kinds, wide: arguments.output == Form::Wide, now: context.now }
}

fn nothing(arguments: &GetArgs, wanted: &Wanted, namespace: Option<&str>) -> String {
    let selected = if arguments.selector.is_some() { " with these labels" } else { "" };
    let is_only = |kind: Kind| matches!(wanted, Wanted::Kinds(kinds) if *kinds == [kind]);
    if is_only(Kind::WorkspaceType) {
        return format!("nothing found{selected}; built in are {}", builtin::TYPES.join(", "));
    }
    match namespace.filter(|_| !is_only(Kind::Tenant)) {
        Some(namespace) => format!("nothing found{selected} in namespace {namespace}; -A looks in all"),
        None => format!("nothing found{selected}"),
    }
}

/// What is, then every change, until interrupted.
async fn watch(context: &mut Context<'_>, arguments: &GetArgs, wanted: &Wanted, selector: &Selector, namespace: Option<&str>) -> Result<(), Failure> {
    if context.operator().await?.is_none() {
        return Err(context.not_running("get --watch"));
    }
    let ledger = context.ledger(super::Access::Read).await?;
    context.settings(&*ledger).await?;
    let filter = match wanted {
        Wanted::Objects(objects) if objects.len() == 1 => WatchFilter::of(&objects[0]),
        Wanted::Objects(_) => WatchFilter::default(),
        Wanted::Kinds(kinds) => WatchFilter { kind: kinds.first().copied().filter(|_| kinds.len() == 1), ..WatchFilter::default() },
    };
    let mut stream = context.client().watch(&filter).await?;
    let mut shown: BTreeMap<ObjectRef, View> = BTreeMap::new();
    if let Wanted::Objects(objects) = wanted {
        let views = objects::all(&*ledger).await?;
        for object in objects {
            find(&views, object)?;
        }
    }
    let is_wanted = |object: &ObjectRef| match wanted {
        Wanted::Objects(objects) => objects.contains(object),
        Wanted::Kinds(kinds) => kinds.contains(&object.kind) && (object.kind.is_cluster() || namespace.is_none_or(|namespace| namespace == object.ns())),
    };
    let mut synced = false;
    while let Some(item) = stream.next().await {
        match item? {
            WatchItem::Status { object, generation: _, status } if is_wanted(&object) => {
                let view = match fresh(&*ledger, &object).await? {
                    Some(view) => View { status: Some((status, jiff::Timestamp::now())), ..view },
                    None => continue,
                };
                if !selector.matches(view.field(&["metadata", "labels"]).as_ref()) {
                    continue;
                }
                shown.insert(object.clone(), view);
                if synced {
                    print_change(context, arguments, wanted, &shown, &object)?;
                }
            }
            WatchItem::Deleted { object } => {
                if shown.remove(&object).is_some() {
                    context.out.note(format_args!("{} deleted", object.short()))?;
                }
            }
            WatchItem::Synced => {
                synced = true;
                print_all(context, arguments, wanted, &shown)?;
            }
            WatchItem::Status { .. } | WatchItem::Event { .. } => {}
        }
    }
    Err(Failure::unreachable("the operator ended, or told more than could be printed; watch again"))
}

/// The object's record of this moment.
async fn fresh(ledger: &dyn Ledger, object: &ObjectRef) -> Result<Option<View>, Failure> {
    let record = ledger.records().await?.into_iter().find(|record| record.object == *object && record.tombstone.is_none());
    Ok(record.map(|record| View { record, status: None }))
}

fn print_all(context: &mut Context<'_>, arguments: &GetArgs, wanted: &Wanted, shown: &BTreeMap<ObjectRef, View>) -> Result<(), Failure> {
    match arguments.output {
        Form::Table | Form::Wide => {
            let views: Vec<View> = shown.values().cloned().collect();
            let text = columns(context, arguments, wanted).table(&views);
            Ok(context.out.text(text)?)
        }
        Form::Yaml | Form::Json | Form::Name => shown.keys().try_for_each(|object| print_change(context, arguments, wanted, shown, object)),
    }
}

/// One object that changed: a row under those before, or the object on a line.
fn print_change(context: &mut Context<'_>, arguments: &GetArgs, wanted: &Wanted, shown: &BTreeMap<ObjectRef, View>, object: &ObjectRef) -> Result<(), Failure> {
    let Some(view) = shown.get(object) else { return Ok(()) };
    match arguments.output {
        Form::Table | Form::Wide => {
            let columns = Columns { now: jiff::Timestamp::now(), ..columns(context, arguments, wanted) };
            let views: Vec<View> = shown.values().cloned().collect();
            let row = shown.keys().position(|key| key == object).unwrap_or_default();
            let table = columns.table(&views);
            context.out.line(table.lines().nth(row + 1).unwrap_or_default())?;
        }
        Form::Name => context.out.line(object.short())?,
        Form::Json => context.out.line(view.whole())?,
        Form::Yaml => context.out.text(format_args!("---\n{}", splice::render(&view.whole())))?,
    }
    Ok(())
}
