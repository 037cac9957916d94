//! `apply`: writes specs into the watched directory, each where its object lives, or as a new file.

use std::path::PathBuf;

use clap::Args;

use super::edit::Editor;
use super::out::Failure;
use super::{Context, specs};
use crate::config::deleted_setting;
use crate::resource::ObjectRef;
use crate::source::{Edit, Item, splice};

/// `apply`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  dockmaster apply -f shop.yaml
  dockmaster apply -f ./drafts
  cat shop.yaml | dockmaster apply -f -

Everything is checked before anything is written. An object that exists is changed where it lives, a new one becomes NAMESPACE/NAME.yaml.")]
pub struct ApplyArgs {
    /// A file, a directory, or - for standard input; may be repeated
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// The namespace of documents that say none [default: default, or the directory below DIR]
    #[arg(short, long, value_name = "NS")]
    pub namespace: Option<String>,
}

/// Checks everything, then writes what is new or different.
pub async fn run(context: &mut Context<'_>, arguments: &ApplyArgs) -> Result<(), Failure> {
    let report = specs::read(&arguments.files)?;
    if specs::tell(context, &report)? > 0 {
        return Err(Failure::new("nothing was written"));
    }
    if report.items.is_empty() {
        let files: Vec<String> = arguments.files.iter().map(|file| file.display().to_string()).collect();
        return Err(Failure::new(format!("nothing to apply: no document of dockmaster's in {}", files.join(", "))));
    }
    let documents = report.items.iter().map(|item| Ok((target(item, arguments.namespace.as_deref())?, item))).collect::<Result<Vec<_>, Failure>>()?;
    let editor = Editor::open(context).await?;
    for (object, item) in documents {
        let known = editor.views.iter().map(|view| &view.record).find(|record| record.object == object && record.tombstone.is_none());
        // What was removed a moment ago, and not yet noticed, is made again: what the ledger says of it is over.
        let deleted = deleted_setting(&object);
        let is_going = match known {
            Some(record) => editor.ledger.setting(&deleted).await?.is_some() || editor.is_removed(record),
            None => false,
        };
        let put = Edit::Put(item.text.clone());
        let done = match known {
            Some(record) if is_going => {
                editor.edit(context, &object, Some(&record.origin), Edit::PutBack(item.text.clone())).await?;
                editor.ledger.set_setting(&deleted, None).await?;
                "created"
            }
            Some(record) if record.digest == item.digest => "unchanged",
            Some(record) => {
                editor.edit(context, &object, Some(&record.origin), put).await?;
                "configured"
            }
            None => {
                editor.edit(context, &object, None, put).await?;
                "created"
            }
        };
        context.out.line(format_args!("{} {done}", object.short()))?;
    }
    editor.later(context)
}

/// Which object a document is: its own namespace, else the one asked for, else that of its place.
fn target(item: &Item, asked: Option<&str>) -> Result<ObjectRef, Failure> {
    let object = item.resource.reference();
    let Some(asked) = asked.filter(|_| !object.kind.is_cluster()) else { return Ok(object) };
    let document = splice::documents(&item.text).into_iter().find_map(|piece| piece.value).unwrap_or_default();
    match document.pointer("/metadata/namespace").and_then(|namespace| namespace.as_str()) {
        Some(own) if own != asked => Err(Failure::new(format!("{} says namespace {own}, not {asked}", object.short()))),
        Some(_) | None => Ok(ObjectRef::new(object.kind, asked, &object.name)),
    }
}
