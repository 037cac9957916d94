//! `describe`: all about objects, for people, with their latest events.

use super::args::NamesArgs;
use super::names::{self, Wanted};
use super::objects::{View, select};
use super::out::Failure;
use super::table::{age, ahead, columns, heading, instant};
use super::{Context, events};
use crate::resource::Status;
use crate::state::Facts;

/// So many of the latest events are shown.
const EVENTS: u32 = 10;

/// Prints each object.
pub async fn run(context: &mut Context<'_>, arguments: &NamesArgs) -> Result<(), Failure> {
    let wanted: Wanted = names::parse(&arguments.names, &arguments.namespace)?;
    let (ledger, views) = context.read().await?;
    let views = select(views, &wanted, Some(&arguments.namespace))?;
    if views.is_empty() {
        return Ok(context.out.note(format_args!("nothing found in namespace {}", arguments.namespace))?);
    }
    for (position, view) in views.iter().enumerate() {
        if position > 0 {
            context.out.line("")?;
        }
        let events = ledger.events(Some(view.object()), EVENTS).await?;
        context.out.text(head(context, view))?;
        if let Some(status) = view.typed_status() {
            let facts = ledger.facts(&view.record.admission.uid).await?;
            context.out.text(body(context, &status, &facts))?;
        }
        context.out.line(heading("Events:"))?;
        if events.is_empty() {
            context.out.line("  none")?;
        }
        let rows: Vec<Vec<String>> = events.iter().map(|event| events::columns(context.now, event)).collect();
        if !rows.is_empty() {
            context.out.text(indented(&columns(&events::HEADER, rows)))?;
        }
    }
    Ok(())
}

fn line(name: &str, value: impl std::fmt::Display) -> String {
    format!("{:<13} {value}\n", format!("{name}:"))
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// What was declared, and its identity.
fn head(context: &Context<'_>, view: &View) -> String {
    let object = view.object();
    let mut text = line("Name", &object.name) + &line("Kind", object.kind);
    if let Some(namespace) = &object.namespace {
        text += &line("Namespace", namespace);
    }
    for (name, field) in [("Labels", "labels"), ("Annotations", "annotations")] {
        let pairs = view.field(&["metadata", field]).and_then(|value| value.as_object().cloned()).unwrap_or_default();
        if !pairs.is_empty() {
            let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
            text += &line(name, pairs.join(", "));
        }
    }
    let admission = &view.record.admission;
    text += &line("Created", format_args!("{} ({} ago)", instant(admission.created), age(context.now, admission.created)));
    text += &line("Generation", admission.generation);
    text += &line("Uid", &admission.uid);
    text + &line("File", &view.record.origin)
}

/// What was found.
fn body(context: &Context<'_>, status: &Status, facts: &Facts) -> String {
    let mut text = line("Phase", status.phase);
    if let Some(url) = &status.url {
        text += &line("URL", url);
    }
    for port in &status.ports {
        let protocol = port.protocol.map_or("tcp", |protocol| protocol.as_str());
        text += &line("Port", format_args!("{} {}/{protocol} on host port {}", port.name, port.container, port.host));
    }
    if let Some(container) = &status.container {
        text += &line("Container", format_args!("{} ({})", container.name, container.id.chars().take(12).collect::<String>()));
        text += &line("Image", &container.image);
        if let Some(started) = container.started_at {
            text += &line("Started", format_args!("{} ({} ago), {} restarts", instant(started), age(context.now, started), container.restarts));
        }
        if let Some(code) = container.exit_code {
            text += &line("Exit code", code);
        }
    }
    for service in &status.services {
        text += &line("Service", format_args!("{}: {}{}", service.name, service.state, if service.ready { ", ready" } else { "" }));
    }
    let ids: Vec<&String> = status.container.iter().map(|container| &container.id).chain(status.services.iter().filter_map(|s| s.id.as_ref())).collect();
    for (name, unnamed) in facts.unnamed_volumes.iter().filter(|(_, unnamed)| ids.iter().any(|id| unnamed.container.starts_with(id.as_str()))) {
        let (what, advice) = (unnamed.paths.join(" and "), unnamed.advice());
        text += &line("Warning", format_args!("{name} keeps {what} in a volume without a name, which goes with the container; {advice}"));
    }
    if let Some(activity) = &status.activity {
        text += &line("Active", format_args!("{} ({} ago), by {}", instant(activity.last), age(context.now, activity.last), activity.by));
    }
    if let Some(expires) = status.expires_at {
        text += &line("Expires", format_args!("{} ({})", instant(expires), ahead(context.now, expires)));
    }
    if let Some(next) = &status.next {
        text += &line("Next", format_args!("{} {}, at {}: {}", next.action, ahead(context.now, next.at), instant(next.at), next.why));
    }
    let rows = status.conditions.iter().map(|condition| {
        let since = condition.last_transition_time.map(|at| age(context.now, at)).unwrap_or_default();
        vec![condition.type_.to_string(), condition.status.as_str().to_owned(), condition.reason.to_string(), since, condition.message.clone()]
    });
    let table = columns(&["TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"], rows.collect());
    text + &heading("Conditions:") + "\n" + &indented(&table)
}
