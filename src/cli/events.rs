//! `events`: what happened, oldest first; goes on with what happens.

use clap::Args;
use futures::StreamExt;
use serde_json::json;

use super::args::TextOrJson;
use super::out::Failure;
use super::{Access, Context, names, table};
use crate::http::control::{WatchFilter, WatchItem};
use crate::resource::ObjectRef;
use crate::state::{Event, EventType};

/// `events`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  dockmaster events
  dockmaster events -A -w
  dockmaster events workspace/shop -n alice")]
pub struct EventsArgs {
    /// Only of these objects
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// The namespace
    #[arg(short, long, value_name = "NS", default_value = "default")]
    pub namespace: String,
    /// All namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// At most so many of the latest
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub tail: u32,
    /// Go on with what happens; needs a running operator
    #[arg(short, long)]
    pub watch: bool,
    /// The form of the output
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    pub output: TextOrJson,
}

impl EventsArgs {
    /// Whether the event is one of those asked for. Events of sources belong to no namespace.
    fn wants(&self, objects: &[ObjectRef], event: &Event) -> bool {
        match &event.object {
            Some(object) if !objects.is_empty() => objects.contains(object),
            Some(object) => self.all_namespaces || object.kind.is_cluster() || object.ns() == self.namespace,
            None => objects.is_empty(),
        }
    }
}

/// Prints the events.
pub async fn run(context: &mut Context<'_>, arguments: &EventsArgs) -> Result<(), Failure> {
    let objects = if arguments.names.is_empty() { Vec::new() } else { names::objects(&arguments.names, &arguments.namespace)? };
    let running = context.operator().await?.is_some();
    if arguments.watch && !running {
        return Err(context.not_running("events --watch"));
    }
    // Subscribed before the past is read, so that nothing falls between.
    let news = if arguments.watch { Some(context.client().watch(&WatchFilter::default()).await?) } else { None };
    let ledger = context.ledger(Access::Read).await?;
    context.settings(&*ledger).await?;
    let mut events = Vec::new();
    if objects.is_empty() {
        events = ledger.events(None, EVERYTHING).await?;
    } else {
        for object in &objects {
            events.extend(ledger.events(Some(object), arguments.tail).await?);
        }
        events.sort_by_key(|event| event.time);
    }
    events.retain(|event| arguments.wants(&objects, event));
    events.drain(..events.len().saturating_sub(usize::try_from(arguments.tail).unwrap_or(usize::MAX)));
    if events.is_empty() && !arguments.watch {
        let place = if arguments.all_namespaces { String::new() } else { format!(" in namespace {}; -A looks in all", arguments.namespace) };
        return Ok(context.out.note(format_args!("no events{place}"))?);
    }
    match arguments.output {
        TextOrJson::Text => {
            let rows = rows(context, arguments, &events);
            context.out.text(rows)?;
        }
        TextOrJson::Json => events.iter().try_for_each(|event| context.out.line(json!(event)))?,
    }
    let Some(mut news) = news else { return Ok(()) };
    while let Some(item) = news.next().await {
        match item? {
            WatchItem::Event { event } if arguments.wants(&objects, &event) => match arguments.output {
                TextOrJson::Text => {
                    context.now = jiff::Timestamp::now();
                    // Under the columns of those before it; the header was printed with the past.
                    events.drain(..events.len().saturating_sub(ALIGNED));
                    events.push(event);
                    let rows = rows(context, arguments, &events);
                    context.out.line(rows.lines().last().unwrap_or_default())?;
                }
                TextOrJson::Json => context.out.line(json!(event))?,
            },
            WatchItem::Event { .. } | WatchItem::Status { .. } | WatchItem::Deleted { .. } | WatchItem::Synced => {}
        }
    }
    Err(Failure::unreachable("the operator ended, or told more than could be printed; watch again"))
}

/// With so many before it a row of `-w` is brought into columns.
const ALIGNED: usize = 20;

/// More than the ledger keeps.
const EVERYTHING: u32 = 1_000_000;

fn rows(context: &Context<'_>, arguments: &EventsArgs, events: &[Event]) -> String {
    let row = |event: &Event| {
        let mut row = columns(context.now, event);
        if arguments.all_namespaces {
            row.insert(0, event.object.as_ref().map(|object| object.ns().to_owned()).unwrap_or_default());
        }
        row
    };
    let mut header = HEADER.to_vec();
    if arguments.all_namespaces {
        header.insert(0, "NAMESPACE");
    }
    table::columns(&header, events.iter().map(row).collect())
}

/// The columns of an event.
pub const HEADER: [&str; 5] = ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"];

/// An event in those columns.
pub fn columns(now: jiff::Timestamp, event: &Event) -> Vec<String> {
    let type_ = match event.type_ {
        EventType::Normal => "Normal",
        EventType::Warning => "Warning",
    };
    let message = if event.count > 1 { format!("{} (x{})", event.message, event.count) } else { event.message.clone() };
    let object = event.object.as_ref().map(ObjectRef::short).unwrap_or_default();
    vec![table::age(now, event.time), type_.to_owned(), event.reason.to_string(), object, message]
}
