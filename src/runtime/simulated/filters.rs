//! The filters of lists, prunes and event streams, as Docker reads them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Version;
use super::events::Event;
use super::http::{Refused, Request, refuse};
use super::state::Engine;

/// Filters: values by key.
#[derive(Clone, Debug, Default)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// The filters of a request; with a list of keys, any other is refused.
    pub fn of(engine: &Engine, request: &Request, keys: Option<&[&str]>) -> Result<Self, Refused> {
        let Some(text) = request.query("filters").filter(|text| !text.is_empty()) else { return Ok(Self::default()) };
        let broken = || match engine.version {
            Version::V20_10 => {
                let first = text.chars().next().unwrap_or(' ');
                refuse(500, format!("invalid character '{first}' looking for beginning of value"))
            }
            Version::V28_5 => refuse(400, "invalid filter"),
        };
        let Ok(Value::Object(object)) = serde_json::from_str::<Value>(text) else { return Err(broken()) };
        let mut filters = BTreeMap::new();
        for (key, values) in object {
            let values = match values {
                Value::Array(values) => values.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                // An older form, which the command line still writes.
                Value::Object(values) => values.into_iter().filter(|(_, on)| on.as_bool() == Some(true)).map(|(value, _)| value).collect(),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return Err(broken()),
            };
            if keys.is_some_and(|keys| !keys.contains(&key.as_str())) {
                let invalid = engine.word("Invalid", "invalid");
                return Err(refuse(400, format!("{invalid} filter '{key}'")));
            }
            filters.insert(key, values);
        }
        Ok(Self(filters))
    }

    /// The values of a key; empty where it is not filtered by.
    pub fn values(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether there is such a filter.
    pub fn has(&self, key: &str) -> bool {
        !self.values(key).is_empty()
    }

    /// Whether it is one of the values, or not filtered by.
    pub fn exact(&self, key: &str, value: &str) -> bool {
        let values = self.values(key);
        values.is_empty() || values.iter().any(|wanted| wanted == value)
    }

    /// Whether any value passes, or there is none.
    pub fn any(&self, key: &str, pass: impl Fn(&str) -> bool) -> bool {
        let values = self.values(key);
        values.is_empty() || values.iter().any(|value| pass(value))
    }

    /// Whether all wanted labels are there, and none that is not wanted.
    pub fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|there| there == value),
            None => labels.contains_key(wanted),
        };
        self.values("label").iter().all(has) && (!self.has("label!") || !self.values("label!").iter().all(has))
    }

    /// Docker's reading of names: a value is found anywhere in the name, or matches it as a regular expression.
    pub fn name(&self, name: &str) -> bool {
        self.any("name", |wanted| matches_name(wanted, name))
    }

    /// A flag such as `dangling`; `None` where it is not filtered by.
    pub fn flag(&self, key: &str) -> Option<bool> {
        let value = self.values(key).first()?;
        Some(matches!(value.as_str(), "1" | "true" | "True" | "TRUE" | "t"))
    }

    /// Whether an event is wanted.
    pub fn take_event(&self, event: &Event) -> bool {
        let about = |key: &str, kind: &str| {
            self.any(key, |wanted| {
                let name = event.attributes.get("name").map_or("", String::as_str);
                event.kind == kind && (event.id.starts_with(wanted) || name == wanted)
            })
        };
        // With one of these all are compared by their beginning.
        let values = self.values("event");
        let by_beginning = values.iter().any(|value| matches!(value.as_str(), "health_status" | "exec_create" | "exec_start"));
        let action = self.any("event", |wanted| if by_beginning { event.action.starts_with(wanted) } else { event.action == wanted });
        let image = self.any("image", |wanted| {
            let name = if event.kind == "image" { event.attributes.get("name") } else { event.attributes.get("image") };
            let bare = |name: &str| name.split_once(':').map_or(name.to_owned(), |(name, _)| name.to_owned());
            (event.kind == "image" && event.id == wanted) || name.is_some_and(|name| name == wanted || bare(name) == *wanted)
        });
        action
            && self.exact("type", event.kind)
            && self.exact("scope", "local")
            && about("container", "container")
            && about("network", "network")
            && about("volume", "volume")
            && image
            && self.labels(&event.attributes)
    }
}

/// Whether a name is meant by a filter. Of regular expressions only anchors, dots, alternatives, groups and repetition of one
/// character are known; a slash at the beginning, as names are told, is left out.
fn matches_name(wanted: &str, name: &str) -> bool {
    if name.contains(wanted) {
        return true;
    }
    let starts = wanted.starts_with('^');
    let bare = wanted.trim_start_matches('^');
    let ends = bare.ends_with('$');
    let bare = bare.trim_end_matches('$');
    let bare = bare.strip_prefix("/?").unwrap_or(bare).trim_start_matches('/');
    let inner = bare.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(bare);
    inner.split('|').any(|branch| {
        let pattern: Vec<char> = branch.chars().collect();
        let text: Vec<char> = name.chars().collect();
        let from = if starts { 0..=0 } else { 0..=text.len() };
        from.into_iter().any(|at| here(&pattern, &text[at..], ends))
    })
}

/// Whether the text begins with the pattern; to its end where `whole`.
fn here(pattern: &[char], text: &[char], whole: bool) -> bool {
    let Some((first, rest)) = pattern.split_first() else { return !whole || text.is_empty() };
    if *first == '\\' && !rest.is_empty() {
        return text.first() == rest.first() && here(&rest[1..], &text[1..], whole);
    }
    let one = |letter: &char| *first == '.' || letter == first;
    match rest.first() {
        Some('*') => (0..=text.iter().take_while(|letter| one(letter)).count()).rev().any(|count| here(&rest[1..], &text[count..], whole)),
        Some('+') => (1..=text.iter().take_while(|letter| one(letter)).count()).rev().any(|count| here(&rest[1..], &text[count..], whole)),
        Some(_) | None => text.first().is_some_and(one) && here(rest, &text[1..], whole),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_part_and_by_pattern() {
        for (wanted, name, found) in [
            ("sho", "shop", true),
            ("^shop$", "shop", true),
            ("^/shop$", "shop", true),
            ("^/?shop$", "shop", true),
            ("^sho$", "shop", false),
            ("^s.*p$", "shop", true),
            ("a|shop", "shop", true),
            ("^(a|b)$", "b", true),
            ("x", "shop", false),
            ("dm-ws\\.a", "dm-ws.a", true),
        ] {
            assert_eq!(matches_name(wanted, name), found, "{wanted} {name}");
        }
    }
}
