//! `orphans`: what this installation has on the engine without a spec; `--remove` removes it.

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::args::TextOrJson;
use super::objects::list;
use super::out::Failure;
use super::{Access, Context, table};
use crate::resource::ObjectRef;

/// `orphans`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  dockmaster orphans
  dockmaster orphans --remove")]
pub struct OrphansArgs {
    /// Remove them
    #[arg(long)]
    pub remove: bool,
    /// The form of the output
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    pub output: TextOrJson,
}

/// Something of ours on the engine whose object is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Orphan {
    /// `container`, `network` or `volume`.
    #[serde(rename = "type")]
    pub type_: &'static str,
    /// Docker's name.
    pub name: String,
    /// Docker's id; of volumes, the name.
    pub id: String,
    /// Whose it was, by its labels.
    pub object: ObjectRef,
    /// Since when it exists, where Docker says so.
    pub since: Option<Timestamp>,
    /// What becomes of it, for people: removed by the operator, by `--remove`, or kept.
    pub plan: String,
}

/// Prints them, or removes and prints them.
pub async fn run(context: &mut Context<'_>, arguments: &OrphansArgs) -> Result<(), Failure> {
    let access = if arguments.remove { Access::Write } else { Access::Read };
    let ledger = context.ledger(access).await?;
    let settings = context.settings(&*ledger).await?;
    let orphans = context.adapters.orphans(ledger, &settings, arguments.remove).await?;
    if arguments.output == TextOrJson::Json {
        return Ok(context.out.line(format_args!("{:#}", list(orphans.iter().map(|orphan| json!(orphan)).collect())))?);
    }
    if orphans.is_empty() {
        return Ok(context.out.note(format_args!("no orphans of installation {}", settings.installation))?);
    }
    let row = |orphan: &Orphan| {
        let age = orphan.since.map(|since| table::age(context.now, since)).unwrap_or_default();
        vec![orphan.type_.to_owned(), orphan.name.clone(), orphan.object.to_string(), age, orphan.plan.clone()]
    };
    let text = table::columns(&["TYPE", "NAME", "OBJECT", "AGE", "PLAN"], orphans.iter().map(row).collect());
    Ok(context.out.text(text)?)
}
