//! `start`, `stop`, `restart`, `touch`, `extend`, `suspend`, `resume`: what a person wishes for one object.
//!
//! What should last is written into the spec (`spec.state`, `spec.ttl`, the suspend annotation); what is a moment is a fact in the ledger.

use clap::Args;
use serde_json::{Value, json};

use super::args::NamesArgs;
use super::edit::Editor;
use super::objects::{View, find};
use super::out::Failure;
use super::{Context, names, table};
use crate::resource::quantity::Duration;
use crate::resource::status::NextAction;
use crate::resource::{Kind, ObjectRef, SUSPEND};
use crate::source::Edit;
use crate::state::Fact;

/// `extend`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  dockmaster extend workspace/shop 2h
  dockmaster extend preview/demo 1d")]
pub struct ExtendArgs {
    /// KIND/NAME, or NAME of a workspace
    #[arg(value_name = "NAME")]
    pub name: String,
    /// By how much
    #[arg(value_name = "TIME")]
    pub by: Duration,
    /// The namespace
    #[arg(short, long, value_name = "NS", default_value = "default")]
    pub namespace: String,
}

/// Starts what is stopped: by the spec, by a policy, or because it is not known why.
pub async fn start(context: &mut Context<'_>, arguments: &NamesArgs) -> Result<(), Failure> {
    let (editor, views) = open(context, arguments, "started").await?;
    for view in &views {
        let stopped = view.field(&["spec", "state"]).is_some_and(|state| state == "Stopped");
        if !stopped && !editor.running {
            return Err(context.not_running("start"));
        }
        editor.ledger.record(&view.record.admission.uid, &[Fact::StartAsked(context.now)]).await?;
        if stopped {
            set(&editor, context, view, &["spec", "state"], Some(json!("Running"))).await?;
        }
        editor.nudge(context, Some(view.object())).await?;
        context.out.line(format_args!("{} start asked for", view.object().short()))?;
        suspended(context, view)?;
    }
    editor.later(context)
}

/// Stops it until it is started again.
pub async fn stop(context: &mut Context<'_>, arguments: &NamesArgs) -> Result<(), Failure> {
    let (editor, views) = open(context, arguments, "stopped").await?;
    if let Some(view) = views.iter().find(|view| view.object().kind == Kind::Preview) {
        return Err(Failure::new(format!("{0} cannot be stopped, only end: `dockmaster delete {1}`", view.object().short(), view.object())));
    }
    for view in &views {
        if view.field(&["spec", "state"]).is_some_and(|state| state == "Stopped") {
            context.out.line(format_args!("{} is stopped already", view.object().short()))?;
            continue;
        }
        set(&editor, context, view, &["spec", "state"], Some(json!("Stopped"))).await?;
        context.out.line(format_args!("{} stop asked for", view.object().short()))?;
        suspended(context, view)?;
    }
    editor.later(context)
}

/// Restarts it once.
pub async fn restart(context: &mut Context<'_>, arguments: &NamesArgs) -> Result<(), Failure> {
    let (editor, views) = open(context, arguments, "restarted").await?;
    for view in &views {
        editor.record(context, view, &[Fact::RestartAsked(context.now)]).await?;
        context.out.line(format_args!("{} restart asked for", view.object().short()))?;
        suspended(context, view)?;
    }
    editor.later(context)
}

/// Counts as activity now.
pub async fn touch(context: &mut Context<'_>, arguments: &NamesArgs) -> Result<(), Failure> {
    let (editor, views) = open(context, arguments, "touched").await?;
    if !editor.running {
        return Err(context.not_running("touch"));
    }
    for view in &views {
        editor.record(context, view, &[Fact::Activity { at: context.now, by: "touch".to_owned() }]).await?;
        context.out.line(format_args!("{} touched", view.object().short()))?;
    }
    Ok(())
}

/// Pushes the next stop of a workspace, or the end of a preview.
pub async fn extend(context: &mut Context<'_>, arguments: &ExtendArgs) -> Result<(), Failure> {
    let object = names::object(&arguments.name, &arguments.namespace)?;
    let editor = Editor::open(context).await?;
    let view = find(&editor.views, &object)?;
    let by = arguments.by.0;
    let until = match object.kind {
        Kind::Workspace => {
            let next = view.typed_status().and_then(|status| status.next).filter(|next| next.action == NextAction::Stop);
            let until = next.map_or(context.now, |next| next.at.max(context.now)) + by;
            editor.record(context, view, &[Fact::ExtendedUntil(until)]).await?;
            until
        }
        Kind::Preview => {
            let created = view.record.admission.created;
            let declared = |field: &str| view.field(&["spec", field]).and_then(|value| value.as_str().map(str::to_owned));
            let end = view.typed_status().and_then(|status| status.expires_at);
            let fixed = declared("expiresAt").and_then(|text| text.parse::<jiff::Timestamp>().ok());
            let ttl = declared("ttl").and_then(|text| text.parse::<Duration>().ok()).map(|ttl| created + ttl.0);
            let Some(end) = fixed.or(ttl).or(end) else {
                return Err(Failure::new(format!("when {} expires is not known yet; try again when it runs", object.short())));
            };
            let until = end + by;
            let (field, value) = if fixed.is_some() { ("expiresAt", until.to_string()) } else { ("ttl", Duration(until.duration_since(created)).to_string()) };
            set(&editor, context, view, &["spec", field], Some(json!(value))).await?;
            until
        }
        Kind::WorkspaceType | Kind::Tenant | Kind::Namespace => return Err(does_not_run(&object, "extended")),
    };
    context.out.line(format_args!("{} extended until {}", object.short(), table::instant(until)))?;
    editor.later(context)
}

/// Takes the operator's hands off.
pub async fn suspend(context: &mut Context<'_>, arguments: &NamesArgs) -> Result<(), Failure> {
    annotate(context, arguments, "suspended", Some(json!("true"))).await
}

/// Gives it back.
pub async fn resume(context: &mut Context<'_>, arguments: &NamesArgs) -> Result<(), Failure> {
    annotate(context, arguments, "resumed", None).await
}

async fn annotate(context: &mut Context<'_>, arguments: &NamesArgs, done: &str, value: Option<Value>) -> Result<(), Failure> {
    let (editor, views) = open(context, arguments, done).await?;
    for view in &views {
        if view.field(&["metadata", "annotations", SUSPEND]) == value {
            context.out.line(format_args!("{} is {done} already", view.object().short()))?;
            continue;
        }
        set(&editor, context, view, &["metadata", "annotations", SUSPEND], value.clone()).await?;
        context.out.line(format_args!("{} {done}", view.object().short()))?;
    }
    editor.later(context)
}

/// The named objects, all of which must run at times.
async fn open(context: &Context<'_>, arguments: &NamesArgs, done: &str) -> Result<(Editor, Vec<View>), Failure> {
    let objects = names::objects(&arguments.names, &arguments.namespace)?;
    let editor = Editor::open(context).await?;
    let views = objects.iter().map(|object| find(&editor.views, object).cloned()).collect::<Result<Vec<_>, _>>()?;
    match objects.iter().find(|object| object.kind.is_cluster()) {
        Some(object) => Err(does_not_run(object, done)),
        None => Ok((editor, views)),
    }
}

fn does_not_run(object: &ObjectRef, done: &str) -> Failure {
    Failure::new(format!("{} does not run and cannot be {done}; workspaces and previews can", object.short()))
}

async fn set(editor: &Editor, context: &Context<'_>, view: &View, path: &[&str], value: Option<Value>) -> Result<(), Failure> {
    let edit = Edit::Set { path: path.iter().map(|&key| key.to_owned()).collect(), value };
    editor.edit(context, view.object(), Some(&view.record.origin), edit).await.map(drop)
}

/// Says that a wish will not come true while the operator's hands are off.
fn suspended(context: &mut Context<'_>, view: &View) -> Result<(), Failure> {
    if view.field(&["metadata", "annotations", SUSPEND]).is_some_and(|value| value == "true") {
        context.out.note(format_args!("{} is suspended; nothing happens before `dockmaster resume {}`", view.object().short(), view.object()))?;
    }
    Ok(())
}
