//! `delete`, `undelete`, `purge`, `prune`: how objects and their data go, and how they come back.

use clap::Args;
use futures::future::join_all;

use super::args::NamesArgs;
use super::edit::Editor;
use super::objects::{View, find};
use super::out::Failure;
use super::{Context, names, table, terminal};
use crate::config::{deleted_setting, prune_setting};
use crate::resource::{ConditionType, ObjectRef, Status};
use crate::source::Edit;
use crate::state::{Consent, Record, Tombstone};

/// So many files are edited at once: after each, others that write into it are given a moment.
const AT_ONCE: usize = 16;

/// `purge`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:
  dockmaster purge workspace/shop --yes

Data goes only where the spec said `deletionPolicy: Delete`; otherwise it stays and is listed.")]
pub struct PurgeArgs {
    /// The deleted objects
    #[command(flatten)]
    pub names: NamesArgs,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// `prune`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  dockmaster prune
  dockmaster prune --source ./my-specs

Many documents that vanish at once are held and not deleted, until they return or are confirmed here.")]
pub struct PruneArgs {
    /// Only this directory of specs, as given to `run`
    #[arg(long, value_name = "S")]
    pub source: Option<String>,
}

/// Removes the documents. A person's word counts at once: it is left in the ledger, so that the operator does not hold it.
pub async fn delete(context: &mut Context<'_>, arguments: &NamesArgs) -> Result<(), Failure> {
    let objects = names::objects(&arguments.names, &arguments.namespace)?;
    let editor = Editor::open(context).await?;
    for object in &objects {
        find(&editor.views, object)?;
    }
    // Documents of one file move up when one before them goes: the last is removed first.
    let mut views = objects.iter().map(|object| find(&editor.views, object)).collect::<Result<Vec<_>, _>>()?;
    views.sort_by(|a, b| b.record.origin.cmp(&a.record.origin));
    let file = |view: &View| (view.record.origin.source.clone(), view.record.origin.path.clone());
    let files: Vec<&[&View]> = views.chunk_by(|a, b| file(a) == file(b)).collect();
    let (mut failures, mut any) = (Vec::new(), false);
    for some in files.chunks(AT_ONCE) {
        let removed = join_all(some.iter().map(|views| remove(&editor, context, views))).await;
        for (objects, result) in removed {
            any |= !objects.is_empty();
            for object in objects {
                context.out.line(format_args!("{} deleted", object.short()))?;
                if !object.kind.is_cluster() {
                    let kept = editor.settings.tombstone;
                    context.out.note(format_args!("its data is kept for {kept}: `dockmaster undelete {object}` brings it back"))?;
                }
            }
            failures.extend(result.err());
        }
    }
    if any {
        editor.later(context)?;
    }
    match failures.first() {
        None => Ok(()),
        Some(Failure { code, .. }) => {
            let messages: Vec<&str> = failures.iter().map(|failure| failure.message.as_str()).collect();
            Err(Failure { code: *code, message: messages.join("\n") })
        }
    }
}

/// Removes documents of one file, one after the other; which of them, and how it ended.
async fn remove<'a>(editor: &Editor, context: &Context<'_>, views: &[&'a View]) -> (Vec<&'a ObjectRef>, Result<(), Failure>) {
    let mut removed = Vec::new();
    for view in views {
        let word = deleted_setting(view.object());
        let edited = async {
            editor.ledger.set_setting(&word, Some(&context.now.to_string())).await?;
            if let Err(failure) = editor.edit(context, view.object(), Some(&view.record.origin), Edit::Remove).await {
                editor.ledger.set_setting(&word, None).await?;
                return Err(failure);
            }
            Ok(())
        };
        match edited.await {
            Ok(()) => removed.push(view.object()),
            Err(failure) => return (removed, Err(failure)),
        }
    }
    (removed, Ok(()))
}

/// The tombstone of a deleted object.
fn buried<'a>(editor: &'a Editor, object: &ObjectRef) -> Result<(&'a Record, &'a Tombstone), Failure> {
    let record = editor.views.iter().map(|view| &view.record).find(|record| record.object == *object);
    match record.map(|record| (record, record.tombstone.as_ref())).filter(|(_, tombstone)| !tombstone.is_some_and(|tombstone| tombstone.purge)) {
        Some((record, Some(tombstone))) => Ok((record, tombstone)),
        Some((_, None)) => Err(Failure::new(format!("{} is not deleted; `dockmaster delete {object}` deletes it", object.short()))),
        None => {
            let graves: Vec<_> =
                editor.views.iter().filter(|view| view.record.tombstone.as_ref().is_some_and(|tombstone| !tombstone.purge)).map(|view| view.object()).collect();
            let hint = match names::nearest(&object.name, graves.iter().map(|grave| grave.name.as_str())) {
                Some(name) => format!("did you mean {name}?"),
                None if graves.is_empty() => "nothing is".to_owned(),
                None => format!("deleted are: {}", graves.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
            };
            Err(Failure::new(format!("no deleted {object} is kept; {hint}")))
        }
    }
}

/// Writes the stored documents back where they were.
pub async fn undelete(context: &mut Context<'_>, arguments: &NamesArgs) -> Result<(), Failure> {
    let objects = names::objects(&arguments.names, &arguments.namespace)?;
    let editor = Editor::open(context).await?;
    for object in &objects {
        // What was deleted a moment ago, and not yet noticed, is only put back.
        let asked = editor.ledger.setting(&deleted_setting(object)).await?.is_some();
        let record = match editor.views.iter().map(|view| &view.record).find(|record| record.object == *object) {
            Some(record) if asked => record,
            Some(_) | None => buried(&editor, object)?.0,
        };
        let origin = editor.edit(context, object, Some(&record.origin), Edit::PutBack(record.text.clone())).await?;
        editor.ledger.set_setting(&deleted_setting(object), None).await?;
        context.out.line(format_args!("{} written back to {origin}", object.short()))?;
    }
    editor.later(context)
}

/// Ends tombstones now.
pub async fn purge(context: &mut Context<'_>, arguments: &PurgeArgs) -> Result<(), Failure> {
    let objects = names::objects(&arguments.names.names, &arguments.names.namespace)?;
    let editor = Editor::open(context).await?;
    for object in &objects {
        let (_, tombstone) = buried(&editor, object)?;
        let fate = match tombstone.consent {
            Consent::None => "its volumes stay and are listed by `dockmaster orphans`, its ports and history go",
            Consent::DeleteInSpec | Consent::PreviewCopy => "its data is removed for good",
        };
        if !arguments.yes && !terminal::confirm(context, &format!("Purge {object}? After that it cannot be undeleted: {fate}.")).await? {
            return Err(Failure::new(format!("{} is kept until {}", object.short(), table::instant(tombstone.until))));
        }
        editor.ledger.bury(object, &Tombstone { purge: true, ..tombstone.clone() }).await?;
        editor.nudge(context, Some(object)).await?;
        context.out.line(format_args!("{} purged", object.short()))?;
    }
    editor.later(context)
}

/// Confirms held deletions.
pub async fn prune(context: &mut Context<'_>, arguments: &PruneArgs) -> Result<(), Failure> {
    let editor = Editor::open(context).await?;
    let sources: Vec<&str> = editor.settings.roots.iter().map(|root| root.name.as_str()).collect();
    let chosen = match &arguments.source {
        None => sources,
        Some(wanted) => {
            let plain = wanted.trim_end_matches('/');
            let chosen: Vec<&str> = sources.iter().copied().filter(|source| source.trim_end_matches('/') == plain).collect();
            if chosen.is_empty() {
                return Err(Failure::new(format!("`{wanted}` is not watched; the sources are {}", sources.join(", "))));
            }
            chosen
        }
    };
    for source in chosen {
        if !editor.running && !editor.views.iter().any(|view| is_held(view, source)) {
            // A confirmation that waits would take whatever is held one day.
            return Err(Failure::new(format!("nothing of {source} was held when the operator last ran; start it, and confirm what it holds then")));
        }
        editor.ledger.set_setting(&prune_setting(source), Some(&context.now.to_string())).await?;
        context.out.line(format_args!("what is held of {source} is confirmed"))?;
    }
    editor.nudge(context, None).await?;
    editor.later(context)
}

/// Whether its deletion, or all of its source, waits for a person's word.
fn is_held(view: &View, source: &str) -> bool {
    let waits = |status: Status| status.is_true(ConditionType::PruneBlocked) || status.is_true(ConditionType::SourceUnhealthy);
    view.record.tombstone.is_none() && view.record.origin.source == source && view.typed_status().is_some_and(waits)
}
