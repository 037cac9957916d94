//! Columns, ages and colours of what is printed for people.

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use jiff::Timestamp;
use owo_colors::OwoColorize;

use super::objects::{View, ready};
use crate::resource::status::Phase;
use crate::resource::{ConditionType, Kind, Truth};

/// Rows under a header, in columns three spaces apart; ends with a line break.
pub fn columns(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).force_no_tty().enforce_styling();
    table.set_header(header.iter().copied());
    for row in rows {
        table.add_row(row.into_iter().zip(header).map(|(text, title)| {
            let colour = if COLOURED.contains(title) { colour(&text) } else { None };
            let cell = Cell::new(if text.is_empty() { "-" } else { &text });
            if let Some(colour) = colour { cell.fg(colour) } else { cell }
        }));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// The columns whose words have colours.
const COLOURED: [&str; 4] = ["PHASE", "READY", "TYPE", "STATUS"];

/// What a word in a column says at a glance.
fn colour(text: &str) -> Option<Color> {
    match text {
        "Running" | "True" => Some(Color::Green),
        "Error" | "False" | "Warning" => Some(Color::Red),
        "Pending" | "Creating" | "Starting" | "Stopping" | "Deleting" | "Unknown" => Some(Color::Yellow),
        _ => None,
    }
}

/// A heading of `describe` and `why`.
pub fn heading(text: &str) -> String {
    text.bold().to_string()
}

/// An instant in whole seconds, RFC 3339.
pub fn instant(at: Timestamp) -> String {
    at.round(jiff::Unit::Second).unwrap_or(at).to_string()
}

/// How long it was or will be, in its largest unit: `45s`, `12m`, `3h`, `9d`.
fn span(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.duration_since(from).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// How long ago.
pub fn age(now: Timestamp, then: Timestamp) -> String {
    span(then, now)
}

/// In how long: `in 5m`, or `now`.
pub fn ahead(now: Timestamp, then: Timestamp) -> String {
    if then <= now { "now".to_owned() } else { format!("in {}", span(now, then)) }
}

/// What a table of objects shows.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    /// Whether the namespace is a column.
    pub namespaces: bool,
    /// Whether names are written with their kind.
    pub kinds: bool,
    /// Whether there are more columns.
    pub wide: bool,
    /// Now.
    pub now: Timestamp,
}

impl Columns {
    /// The table of these objects.
    pub fn table(&self, views: &[View]) -> String {
        let mut header = vec!["NAME", "PHASE", "READY", "URL", "NEXT", "AGE"];
        if self.namespaces {
            header.insert(0, "NAMESPACE");
        }
        if self.wide {
            header.extend(["IMAGE", "CONTAINER", "REASON"]);
        }
        columns(&header, views.iter().map(|view| self.row(view)).collect())
    }

    fn row(&self, view: &View) -> Vec<String> {
        let status = view.typed_status();
        let object = view.object();
        let name = if self.kinds { object.short() } else { object.name.clone() };
        let unseen = match object.kind {
            Kind::Workspace => Phase::Pending.as_str(),
            Kind::Preview => Phase::Creating.as_str(),
            Kind::WorkspaceType | Kind::Tenant | Kind::Namespace => "",
        };
        let phase = status.as_ref().map_or(unseen, |status| status.phase.as_str());
        let held = status.as_ref().is_some_and(|status| status.is_true(ConditionType::PruneBlocked));
        let (truth, reason) = ready(status.as_ref());
        let reason = if held && truth == Truth::True.as_str() { ConditionType::PruneBlocked.as_str() } else { reason };
        let url = status.as_ref().and_then(|status| status.url.clone()).unwrap_or_default();
        let next = status.as_ref().and_then(|status| status.next.as_ref()).map(|next| format!("{} {}", next.action, ahead(self.now, next.at)));
        let next = next.or(held.then(|| "Delete held".to_owned()));
        let age = age(self.now, view.record.admission.created);
        let mut row = vec![name, phase.to_owned(), truth.to_owned(), url, next.unwrap_or_default(), age];
        if self.namespaces {
            row.insert(0, object.ns().to_owned());
        }
        if self.wide {
            let container = status.as_ref().and_then(|status| status.container.as_ref());
            let declared = view.field(&["spec", "image"]).and_then(|image| image.as_str().map(str::to_owned));
            let image = declared.or_else(|| container.map(|container| container.image.chars().take(19).collect()));
            row.extend([image.unwrap_or_default(), container.map(|container| container.name.clone()).unwrap_or_default(), reason.to_owned()]);
        }
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        for (seconds, text) in [(0, "0s"), (119, "119s"), (120, "2m"), (7_199, "119m"), (7_200, "2h"), (172_799, "47h"), (172_800, "2d")] {
            assert_eq!(age(at(seconds), at(0)), text);
        }
        assert_eq!(age(at(0), at(5)), "0s", "a clock that went back");
        assert_eq!(ahead(at(0), at(1800)), "in 30m");
        assert_eq!(ahead(at(5), at(5)), "now");
    }
}
