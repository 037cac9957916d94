//! `why`: the journal of an object: what brought each reconcile about, what it changed, what it left, and what comes next.

use clap::Args;
use serde_json::json;

use super::args::{NamesArgs, TextOrJson};
use super::objects::{View, find, list};
use super::out::Failure;
use super::{Context, names, table};
use crate::state::{JournalEntry, Trigger};

/// `why`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  dockmaster why workspace/shop
  dockmaster why shop -n alice -o json")]
pub struct WhyArgs {
    /// The object
    #[command(flatten)]
    pub names: NamesArgs,
    /// At most so many of the latest entries
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub tail: u32,
    /// The form of the output
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    pub output: TextOrJson,
}

/// Prints the journal of each object, oldest first.
pub async fn run(context: &mut Context<'_>, arguments: &WhyArgs) -> Result<(), Failure> {
    let objects = names::objects(&arguments.names.names, &arguments.names.namespace)?;
    let (ledger, views) = context.read().await?;
    let mut items = Vec::new();
    for object in &objects {
        let view = views.iter().find(|view| view.object() == object).map_or_else(|| find(&views, object), Ok)?;
        let entries = ledger.journal_of(object, arguments.tail).await?;
        match arguments.output {
            TextOrJson::Json => items.extend(entries.iter().map(|entry| json!(entry))),
            TextOrJson::Text => {
                context.out.line(table::heading(&object.to_string()))?;
                for entry in &entries {
                    context.out.text(story(context.now, entry))?;
                }
                if entries.is_empty() {
                    context.out.line("nothing was done yet")?;
                }
                context.out.text(present(context.now, view))?;
            }
        }
    }
    if arguments.output == TextOrJson::Json {
        context.out.line(format_args!("{:#}", list(items)))?;
    }
    Ok(())
}

/// One entry of the journal.
fn story(now: jiff::Timestamp, entry: &JournalEntry) -> String {
    let cause = match entry.trigger {
        Trigger::Spec => "the spec changed",
        Trigger::Event => "Docker reported something",
        Trigger::Resync => "of the regular pass",
        Trigger::Deadline => "its time had come",
        Trigger::Task => "a task ended",
        Trigger::Command => "of a command",
        Trigger::Start => "the operator started",
    };
    let mut text = format!("\n{} ({} ago), generation {}, because {cause}\n", table::instant(entry.time), table::age(now, entry.time), entry.generation);
    for change in &entry.changes {
        text += &format!("  changed  {}: {} -> {}\n", change.field, change.old, change.new);
    }
    for operation in &entry.operations {
        let cause = if operation.cause.is_empty() { String::new() } else { format!(" because of {}", operation.cause) };
        text += &format!("  {} {}{cause}: {} in {} ms\n", operation.op, operation.target, operation.result, operation.ms);
    }
    for skipped in &entry.skipped {
        text += &format!("  left     {}: {}\n", skipped.op, skipped.why);
    }
    if let Some(next) = &entry.next {
        text += &format!("  next     {} at {}: {}\n", next.action, table::instant(next.at), next.why);
    }
    text
}

/// How things stand.
fn present(now: jiff::Timestamp, view: &View) -> String {
    if let Some(tombstone) = &view.record.tombstone {
        return format!("\nDeleted {}; its data is kept until {}\n", table::instant(tombstone.at), table::instant(tombstone.until));
    }
    let Some(status) = view.typed_status() else { return "\nNow: not seen yet\n".to_owned() };
    let mut text = format!("\nNow: {}\n", status.phase);
    for condition in &status.conditions {
        text += &format!("  {}={} ({}): {}\n", condition.type_, condition.status.as_str(), condition.reason, condition.message);
    }
    if let Some(next) = &status.next {
        text += &format!("Next: {} {}, at {}: {}\n", next.action, table::ahead(now, next.at), table::instant(next.at), next.why);
    }
    text
}
