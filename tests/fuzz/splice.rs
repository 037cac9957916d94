//! Statuses and edits in a person's file: what is written into any text is found there by the reader, and nothing else is different.
//!
//! Where a status stands is found out here on its own, from the events of the parser, so that the writer is not judged by itself.

use std::ops::Range;

use dockmaster::resource::Resource;
use dockmaster::source::parse::{parse_file, pieces};
use dockmaster::source::{Item, splice};
use granit_parser::{Event, Parser};
use serde_json::{Value, json};

use crate::parse::{context, shape, shown};
use crate::run::{Outcome, outcome};

/// Only so many documents of a file are written into.
const DOCUMENTS: usize = 3;

pub fn check(input: &[u8]) -> Outcome {
    let Ok(text) = std::str::from_utf8(input) else { return 0 };
    let cut = pieces(text);
    assert_eq!(cut.iter().map(|piece| &text[piece.clone()]).collect::<String>(), if cut.is_empty() { "" } else { text }, "the pieces are not the whole");
    let documents = splice::documents(text);
    assert_eq!(documents.len(), cut.len(), "the writer counts other documents than the reader");
    let before = read(text);
    let mut came_to = Vec::new();
    for (number, piece) in documents.iter().enumerate().take(DOCUMENTS) {
        came_to.push(statuses(text, number as u32, &before));
        came_to.push(edits(text, number as u32, &before));
        came_to.push(whole(text, number as u32, &before, piece.value.is_some()));
    }
    let appended = splice::append_document(text, "apiVersion: dockmaster/v1\nkind: Tenant\nmetadata: {name: new}\n");
    came_to.push(match appended {
        Ok((new, at)) => {
            assert!(new.starts_with(text), "what was there is not there");
            assert_eq!(others(&read(&new), at), others(&before, at), "a document was added to {text:?}");
            "added".to_owned()
        }
        Err(error) => shape(&error.to_string()),
    });
    outcome(came_to)
}

fn one() -> Value {
    json!({"observedGeneration": 1, "phase": "Running", "conditions": [{"type": "Ready", "status": "True", "message": "it runs: # yes\nway"}], "ports": []})
}

fn two() -> Value {
    json!({"phase": "Stopped", "container": {"id": "017", "name": "- x"}})
}

fn statuses(text: &str, document: u32, before: &[Item]) -> String {
    let first = match splice::set_status(text, document, Some(&one())) {
        Ok(first) => first,
        Err(error) => return shape(error.to_string().lines().next().unwrap_or_default()),
    };
    only_the_status(text, &first, document);
    assert_eq!(told(&read(&first), document), told(before, document), "{text:?}\n{first:?}");
    assert_eq!(status(&first, document), Some(one()), "{text:?}\n{first:?}");
    assert_eq!(splice::set_status(&first, document, Some(&one())).unwrap(), first, "the same again");
    // What was written once can be written again, and gives what a first writing gives.
    let second = splice::set_status(&first, document, Some(&two())).unwrap();
    only_the_status(&first, &second, document);
    assert_eq!(status(&second, document), Some(two()));
    assert_eq!(splice::set_status(&second, document, Some(&one())).unwrap(), first, "there and back");
    match splice::set_status(&first, document, None) {
        Ok(none) => {
            assert_eq!(told(&read(&none), document), told(before, document), "without a status");
            assert_eq!(status(&none, document), None);
            "removed".to_owned()
        }
        Err(error) => shape(error.to_string().lines().next().unwrap_or_default()),
    }
}

/// Nothing but the value of `status` is another: before it, and behind it, stand the same bytes.
fn only_the_status(old: &str, new: &str, document: u32) {
    let piece = pieces(old)[document as usize].clone();
    // What the reader cannot read is no item.
    let Some(found) = status_block(&old[piece.clone()]) else { return };
    let Some(block) = found else {
        let prefix = old.bytes().zip(new.bytes()).take_while(|(a, b)| a == b).count();
        let rest = &old.as_bytes()[prefix..];
        assert!(new.len() > old.len() && new.as_bytes().ends_with(rest), "not only added to: {old:?}\n{new:?}");
        return;
    };
    let (from, to) = (piece.start + block.start, piece.start + block.end);
    let after = old[to..].trim_start_matches(['\r', '\n']);
    assert!(new.starts_with(&old[..from]), "before the status: {old:?}\n{new:?}");
    assert!(new.ends_with(after), "after the status: {old:?}\n{new:?}");
}

/// From behind the key `status` of a document to the end of its value, if it has one; `None`: the document cannot be read.
fn status_block(text: &str) -> Option<Option<Range<usize>>> {
    let (mut depth, mut is_key, mut found, mut end) = (0, true, None, 0);
    for event in Parser::new_from_str(text) {
        let (event, span) = event.ok()?;
        let (from, to) = (span.start.byte_offset()?, span.end.byte_offset()?);
        let own = depth == 1;
        match &event {
            Event::Scalar(value, ..) if own && is_key && value.as_ref() == "status" => {
                // An empty value ends behind the colon.
                (found, end) = (Some(to), to + text[to..].find(':').map_or(0, |colon| colon + 1));
                is_key = false;
                continue;
            }
            Event::MappingStart(..) | Event::SequenceStart(..) => depth += 1,
            Event::MappingEnd | Event::SequenceEnd => depth -= 1,
            Event::Scalar(..) | Event::Alias(..) => {}
            _ => continue,
        }
        let ends = matches!(event, Event::Scalar(..) | Event::Alias(..)) || matches!(event, Event::MappingEnd | Event::SequenceEnd);
        if found.is_some() && from < to {
            end = to;
        }
        if depth == 0 {
            break;
        }
        if depth == 1 && ends && (own || matches!(event, Event::MappingEnd | Event::SequenceEnd)) {
            if found.is_some() {
                break;
            }
            is_key = !is_key;
        }
    }
    Some(found.map(|start| start..end))
}

/// One value is set, and nothing else of what the file means is different.
fn edits(text: &str, document: u32, before: &[Item]) -> String {
    let Some(item) = before.iter().find(|item| item.origin.document == document) else { return String::new() };
    let path = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
    let mut came_to = String::new();
    for (keys, value) in [
        (path(&["spec", "state"]), Some(json!("Stopped"))),
        (path(&["metadata", "annotations", "dockmaster/restart"]), Some(json!("2026-01-01T00:00:00Z"))),
        (path(&["metadata", "annotations", "note"]), None),
    ] {
        if keys[0] == "spec" && !matches!(item.resource, Resource::Workspace(_)) {
            continue;
        }
        match splice::set_value(text, document, &keys, value.as_ref()) {
            Err(error) => came_to += &shape(error.to_string().lines().next().unwrap_or_default()),
            Ok(new) => {
                let after = read(&new);
                assert_eq!(others(&after, document), others(before, document), "{keys:?}: {text:?}\n{new:?}");
                let now = after.iter().find(|item| item.origin.document == document).unwrap_or_else(|| panic!("{keys:?}: not read any more: {new:?}"));
                let mut wanted = shown(&item.resource);
                put(&mut wanted, &keys, value.clone());
                assert_eq!(shown(&now.resource), wanted, "{keys:?}: {text:?}\n{new:?}");
            }
        }
    }
    came_to
}

fn put(root: &mut Value, keys: &[String], value: Option<Value>) {
    let (last, parents) = keys.split_last().unwrap();
    if value.is_none() && root.pointer(&format!("/{}", parents.join("/"))).is_none() {
        return;
    }
    let at = parents.iter().fold(&mut *root, |at, key| at.as_object_mut().unwrap().entry(key).or_insert_with(|| json!({})));
    let object = at.as_object_mut().unwrap();
    match value {
        Some(value) => _ = object.insert(last.clone(), value),
        None => _ = object.shift_remove(last),
    }
    // None are not shown.
    if root["metadata"]["annotations"].as_object().is_some_and(serde_json::Map::is_empty) {
        root["metadata"].as_object_mut().unwrap().shift_remove("annotations");
    }
}

/// A document goes, or is replaced; its neighbours stay.
fn whole(text: &str, document: u32, before: &[Item], is_read: bool) -> String {
    let mut came_to = String::new();
    match splice::remove_document(text, document) {
        Ok(Some(new)) => {
            let after = read(&new);
            let mut rest = others(before, document);
            rest.iter_mut().filter(|(number, ..)| *number > document).for_each(|(number, ..)| *number -= 1);
            let after = told(&after, u32::MAX);
            // What a broken one in front kept from being read may be read now.
            assert!(rest.iter().all(|item| after.contains(item)), "document {document} was removed: {text:?}\n{new:?}");
        }
        Ok(None) => assert_eq!(others(before, document), [], "documents are left: {text:?}"),
        Err(error) => came_to += &shape(&error.to_string()),
    }
    match splice::put_document(text, document, "# new\napiVersion: dockmaster/v1\nkind: Tenant\nmetadata: {name: new}\n") {
        Ok(new) => {
            let after = told(&read(&new), u32::MAX);
            assert!(others(before, document).iter().all(|item| after.contains(item)), "document {document} was replaced: {text:?}\n{new:?}");
        }
        Err(error) => came_to += &shape(error.to_string().lines().next().unwrap_or_default()),
    }
    format!("{is_read}{came_to}")
}

fn read(text: &str) -> Vec<Item> {
    parse_file(text, &context()).items
}

/// The status of an item, as the reader finds it; for what is no item, as the writer does.
fn status(text: &str, document: u32) -> Option<Value> {
    match read(text).into_iter().find(|item| item.origin.document == document) {
        Some(item) => item.resource.status().cloned(),
        None => splice::documents(text)[document as usize].value.as_ref().and_then(|value| value.get("status")).cloned(),
    }
}

/// What is read of a document: its place, its meaning, its status, and its text but for the line breaks at its end.
type Told = (u32, String, Option<Value>, String);

/// All items; of the given one only what it means counts, and neither its status nor its text.
fn told(items: &[Item], document: u32) -> Vec<Told> {
    let one = |item: &Item| {
        let own = item.origin.document == document;
        let status = item.resource.status().filter(|_| !own).cloned();
        let text = if own { "" } else { item.text.trim_end() };
        (item.origin.document, item.digest.clone(), status, text.to_owned())
    };
    items.iter().map(one).collect()
}

/// The items of all other documents.
fn others(items: &[Item], document: u32) -> Vec<Told> {
    told(items, u32::MAX).into_iter().filter(|(number, ..)| *number != document).collect()
}
