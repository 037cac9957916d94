//! What happens on the engine, told as it happens, and the last 256 of it again to those who ask from when.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::json;

use super::fault::Delivery;
use super::filters::Filters;
use super::http::{Flow, Reply, Request, Served};
use super::state::Engine;

/// How many past events an engine remembers.
const RING: usize = 256;
/// How many a stream may be behind before it loses some.
const BEHIND: usize = 4096;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `container`, `network`, `volume` or `image`.
    pub kind: &'static str,
    /// `start`, `health_status: healthy`.
    pub action: String,
    /// Of what it happened to: an id, or a volume's name.
    pub id: String,
    /// Name, labels and what else is told.
    pub attributes: BTreeMap<String, String>,
    /// When.
    pub at: Timestamp,
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if matches!(self.kind, "container" | "image") {
            map.serialize_entry("status", &self.action)?;
            map.serialize_entry("id", &self.id)?;
        }
        if let (true, Some(image)) = (self.kind == "container", self.attributes.get("image")) {
            map.serialize_entry("from", image)?;
        }
        map.serialize_entry("Type", self.kind)?;
        map.serialize_entry("Action", &self.action)?;
        map.serialize_entry("Actor", &json!({"ID": self.id, "Attributes": self.attributes}))?;
        map.serialize_entry("scope", "local")?;
        map.serialize_entry("time", &self.at.as_second())?;
        map.serialize_entry("timeNano", &i64::try_from(self.at.as_nanosecond()).unwrap_or(i64::MAX))?;
        map.end()
    }
}

impl Engine {
    pub(super) fn tell(&mut self, kind: &'static str, action: impl Into<String>, id: &str, attributes: BTreeMap<String, String>) {
        let event = Event { kind, action: action.into(), id: id.to_owned(), attributes, at: self.now };
        let delivery = self.tap.as_ref().map_or(Delivery::Pass, |tap| tap.on(&event));
        match delivery {
            Delivery::Drop => return,
            Delivery::Hold => {
                let before = self.held.replace(event);
                self.log_event(before);
                return;
            }
            Delivery::Twice => self.log_event(Some(event.clone())),
            Delivery::Pass => {}
        }
        self.log_event(Some(event));
        let held = self.held.take();
        self.log_event(held);
    }

    fn log_event(&mut self, event: Option<Event>) {
        let Some(event) = event else { return };
        self.events.push_back((self.next_event, Arc::new(event)));
        self.next_event += 1;
        self.changes += 1;
        if self.events.len() > BEHIND {
            self.events.pop_front();
        }
    }

    /// An event of a container: its labels, its image and its name are always told.
    pub(super) fn tell_container(&mut self, id: &str, action: impl Into<String>, more: &[(&str, String)]) {
        let Some(container) = self.containers.get(id) else { return };
        let mut attributes = (*container.labels).clone();
        attributes.insert("image".to_owned(), container.image.clone());
        attributes.insert("name".to_owned(), container.name.clone());
        attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        self.tell("container", action, id, attributes);
    }
}

/// `GET /events`.
pub fn events(engine: &mut Engine, request: &Request) -> Served {
    let filters = Filters::of(engine, request, None)?;
    let since = request.query("since").and_then(instant);
    let until = request.query("until").and_then(instant);
    // Without a beginning only what is to come is told.
    let mut next = match since {
        Some(_) => engine.events.len().checked_sub(RING).and_then(|at| engine.events.get(at)).map_or(0, |(number, _)| *number),
        None => engine.next_event,
    };
    let wait = until.map(|until| until.duration_since(engine.now));
    if let Some(wait) = wait.and_then(|wait| std::time::Duration::try_from(wait).ok()) {
        engine.alarm(wait);
    }
    let end = wait.map(|wait| engine.elapsed + std::time::Duration::try_from(wait).unwrap_or_default());
    let live_from = engine.next_event;
    let source = move |engine: &mut Engine| {
        let mut text = Vec::new();
        let first = engine.events.front().map_or(engine.next_event, |(number, _)| *number);
        let skipped = usize::try_from(next.saturating_sub(first)).unwrap_or_default();
        for (number, event) in engine.events.iter().skip(skipped) {
            next = number + 1;
            let past = *number < live_from;
            let timely = !past || since.is_none_or(|since| event.at >= since);
            if timely && until.is_none_or(|until| event.at <= until) && filters.take_event(event) && serde_json::to_writer(&mut text, &**event).is_ok() {
                text.push(b'\n');
            }
        }
        if !text.is_empty() {
            return Flow::Data(Bytes::from(text));
        }
        if end.is_some_and(|end| engine.elapsed >= end) { Flow::End } else { Flow::Wait }
    };
    Ok(Reply::stream("application/json", source))
}

/// `1700000000`, `1700000000.5` or RFC 3339.
pub fn instant(text: &str) -> Option<Timestamp> {
    if text.is_empty() {
        return None;
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    match seconds.parse::<i64>() {
        Ok(seconds) => {
            let digits = format!("{fraction:0<9}");
            Timestamp::new(seconds, digits.get(..9)?.parse().ok()?).ok()
        }
        Err(_) => text.parse().ok(),
    }
}
