//! The only YAML writer: changes one value, or one document, of a file that a person wrote, and leaves every other byte alone.
//!
//! The edit itself is made on a lossless syntax tree. Because no editor of YAML is right about all of YAML, each result is read again
//! by the parser that the operator reads specs with, and refused if anything but the asked-for value is different.
//!
//! **Invariant:** a text that is returned differs from the old one only in the value or document that was asked for.

use std::ops::Range;

use serde_json::Value;
use yaml_edit::{Document, Mapping, YamlFile, YamlNode};

use super::SourceError;
use super::parse::pieces;

/// One document of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// Its bytes, with its `---`, its `...` and the comments that follow it.
    pub range: Range<usize>,
    /// What it says; `None` if it is empty or cannot be read.
    pub value: Option<Value>,
}

/// The documents of a text in order, empty ones counted; what `Origin::document` counts.
pub fn documents(text: &str) -> Vec<Piece> {
    // Each is looked at alone: a broken one may seem to swallow those behind it.
    let piece = |slice: Range<usize>| {
        let found = YamlFile::parse(&text[slice.clone()]).tree().documents().next().map(|document: Document| document.byte_range());
        let range = found.map_or_else(|| slice.clone(), |range| slice.start + range.start as usize..slice.start + range.end as usize);
        // All of it: what the syntax tree leaves out may be what breaks it.
        let value = read_all(&text[slice]).into_iter().next().flatten();
        Piece { range, value }
    };
    pieces(text).into_iter().map(piece).collect()
}

/// Sets `status:` of one document, or removes it with `None`. The same status again gives identical bytes.
pub fn set_status(text: &str, document: u32, status: Option<&Value>) -> Result<String, SourceError> {
    set_value(text, document, &["status".to_owned()], status)
}

/// Sets the value at `path` in one document, making missing mappings on the way; `None` removes the key.
/// Comments, anchors, line ends and the order of everything else stay byte for byte.
pub fn set_value(text: &str, document: u32, path: &[String], value: Option<&Value>) -> Result<String, SourceError> {
    let refuse = |why: &str| Err(SourceError::Refused(by_hand(document, path, value, why)));
    let Some(slice) = pieces(text).into_iter().nth(document as usize) else { return refuse("there is no such document") };
    let (before, own, after) = (&text[..slice.start], &text[slice.clone()], &text[slice.end..]);
    match set_alone(own, path, value) {
        Ok(new) if after.is_empty() || new.ends_with('\n') || new == own => Ok(format!("{before}{new}{after}")),
        Ok(_) => refuse("the documents of the file would run into each other"),
        Err(why) => refuse(why),
    }
}

/// Sets the value at `path` in a text of one document.
fn set_alone(text: &str, path: &[String], value: Option<&Value>) -> Result<String, &'static str> {
    let [Some(old)] = &read_all(text)[..] else { return Err("the document is empty or cannot be read") };
    if at(old, path) == value {
        return Ok(text.to_owned());
    }
    let mut why = "this way of writing it is not supported";
    // A value that ends the file without a line break would gain one if something followed it: then the key goes before it.
    for slot in [Slot::Last, Slot::BeforeLast] {
        let Some((new, replaced)) = edit(text, path, value, slot) else { continue };
        match changes_only((text, old), &new, path, value, replaced) {
            Ok(()) => return Ok(new),
            Err(harm) => why = harm,
        }
    }
    Err(why)
}

/// Removes one document; `None` if none with content is left, so that the file should go.
pub fn remove_document(text: &str, document: u32) -> Result<Option<String>, SourceError> {
    let refuse = || SourceError::Refused(format!("document {document} cannot be removed without harming the file; delete it by hand"));
    let range = documents(text).into_iter().nth(document as usize).ok_or_else(refuse)?.range;
    let (before, after) = (&text[..range.start], &text[range.end..]);
    let mut kept: Vec<_> = documents(text).into_iter().map(|piece| piece.value).collect();
    kept.remove(document as usize);
    if kept.iter().all(Option::is_none) {
        return Ok(None);
    }
    // Directives before a document belong to it; a document that opens the file needs no marker.
    let directives = before.rfind("%YAML").filter(|at| before[*at..].lines().all(|line| line.starts_with(['%', '#']) || line.is_empty()));
    let before = directives.map_or(before, |at| &before[..at]);
    let new = format!("{before}{after}");
    let values: Vec<_> = documents(&new).into_iter().map(|piece| piece.value).collect();
    if values == kept { Ok(Some(new)) } else { Err(refuse()) }
}

/// Puts a whole document in the place of another; the old one's comments go, its `---` and `...` stay.
pub fn put_document(text: &str, document: u32, new: &str) -> Result<String, SourceError> {
    let refuse = |why: &str| SourceError::Refused(format!("document {document} cannot be replaced: {why}; edit it by hand:\n\n{new}"));
    let pieces = documents(text);
    let range = pieces.get(document as usize).ok_or_else(|| refuse("there is no such document"))?.range.clone();
    let value = only_value(new).map_err(refuse)?;
    let eol = line_end(text);
    let old = &text[range.clone()];
    let opening = if old.trim_start_matches('\u{feff}').starts_with("---") { format!("---{eol}") } else { String::new() };
    let mark = if old.starts_with('\u{feff}') { "\u{feff}" } else { "" };
    let closing = if old.lines().any(|line| line.trim_end() == "...") { format!("...{eol}") } else { String::new() };
    let body = body(new, eol);
    let result = format!("{}{mark}{opening}{body}{closing}{}", &text[..range.start], &text[range.end..]);
    let mut expected: Vec<_> = pieces.into_iter().map(|piece| piece.value).collect();
    expected[document as usize] = Some(value);
    let values: Vec<_> = documents(&result).into_iter().map(|piece| piece.value).collect();
    if values == expected { Ok(result) } else { Err(refuse("it would harm its neighbours")) }
}

/// Adds a document at the end; also says which position it has.
pub fn append_document(text: &str, new: &str) -> Result<(String, u32), SourceError> {
    let refuse = |why: &str| SourceError::Refused(format!("a document cannot be added to this file: {why}; add it by hand:\n\n---\n{new}"));
    let value = only_value(new).map_err(refuse)?;
    let eol = line_end(text);
    let mut expected: Vec<_> = documents(text).into_iter().map(|piece| piece.value).collect();
    let gap = if text.is_empty() || text.ends_with('\n') { "" } else { eol };
    let marker = if expected.is_empty() { String::new() } else { format!("---{eol}") };
    let result = format!("{text}{gap}{marker}{}", body(new, eol));
    expected.push(Some(value));
    let values: Vec<_> = documents(&result).into_iter().map(|piece| piece.value).collect();
    let position = (expected.len() - 1) as u32;
    if values == expected { Ok((result, position)) } else { Err(refuse("it would harm what is there")) }
}

/// The text of one document without its `status`; unchanged where that cannot be taken out.
pub fn without_status(document: &str) -> String {
    set_status(document, 0, None).unwrap_or_else(|_| document.to_owned())
}

/// A value as a block of YAML: two-space indents, keys in the order given, strings that look like something else quoted.
pub fn render(value: &Value) -> String {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    serde_saphyr::to_string_with_options(value, options).unwrap_or_else(|_| format!("{value}\n"))
}

/// Where a key that is new goes.
#[derive(Clone, Copy, PartialEq)]
enum Slot {
    Last,
    BeforeLast,
}

/// Makes the edit; the result, and which bytes of the old text it may replace (none: it may only insert).
fn edit(text: &str, path: &[String], value: Option<&Value>, slot: Slot) -> Option<(String, Range<usize>)> {
    let file = YamlFile::parse(text).tree();
    let mut mapping = file.documents().next()?.as_mapping()?;
    let (last, parents) = path.split_last()?;
    for (depth, key) in parents.iter().enumerate() {
        match mapping.get(key.as_str()) {
            Some(YamlNode::Mapping(inner)) => mapping = inner,
            // Anything else that is there (an alias, a scalar) is replaced only if it says nothing.
            found => {
                let value = value?;
                let empty = found.is_none_or(|node| node.as_scalar().is_some_and(|scalar| matches!(scalar.to_string().trim(), "" | "~" | "null")));
                let wrapped = path[depth + 1..].iter().rev().fold(value.clone(), |inner, key| Value::Object([(key.clone(), inner)].into_iter().collect()));
                let replaced = replaceable(&mapping, key);
                return empty.then(|| put(&mapping, key, &wrapped, slot)).flatten().map(|()| (file.to_string(), replaced));
            }
        }
    }
    let replaced = match value {
        Some(value) => {
            let replaced = replaceable(&mapping, last);
            put(&mapping, last, value, slot)?;
            replaced
        }
        None => {
            let whole = mapping.entries().find(|entry| entry.key_matches(last.as_str()))?.byte_range();
            mapping.remove(last.as_str());
            line_around(text, whole.start as usize..whole.end as usize)
        }
    };
    Some((file.to_string(), replaced))
}

/// What setting this key may replace: from the end of the key to the end of its value; nothing if the key is new.
fn replaceable(mapping: &Mapping, key: &str) -> Range<usize> {
    let Some(entry) = mapping.entries().find(|entry| entry.key_matches(key)) else { return 0..0 };
    let start = entry.key_node().map_or(0, |node| node.byte_range().end);
    let end = entry.value_node().map_or(start, |node| node.byte_range().end);
    start as usize..end as usize
}

/// The lines that a removed entry lies on.
fn line_around(text: &str, entry: Range<usize>) -> Range<usize> {
    let start = text[..entry.start].trim_end_matches([' ', '\t', '\r', '\n', ',']).len();
    let end = text[entry.end..].find('\n').map_or(text.len(), |at| entry.end + at + 1);
    start..end
}

/// Sets a key of a mapping to a value, in the style of the mapping.
fn put(mapping: &Mapping, key: &str, value: &Value, slot: Slot) -> Option<()> {
    let rendered = YamlFile::parse(&render(&Value::Object([("value".to_owned(), value.clone())].into_iter().collect()))).tree();
    let node = rendered.documents().next()?.as_mapping()?.get("value")?;
    let before = match slot {
        Slot::Last => None,
        Slot::BeforeLast => Some(mapping.keys().last().filter(|_| !mapping.contains_key(key))?),
    };
    match before {
        None => mapping.set(key, node),
        Some(last) => _ = mapping.insert_before(last, key, node),
    }
    Some(())
}

/// The guard for a text of one document: nothing but the value at `path` is different, and that value is the one asked for.
fn changes_only((old, before): (&str, &Value), new: &str, path: &[String], value: Option<&Value>, may_replace: Range<usize>) -> Result<(), &'static str> {
    let replaced = replaced_bytes(old, new);
    let allowed = replaced.is_empty() || (may_replace.start <= replaced.start && replaced.end <= may_replace.end);
    if !allowed {
        return Err("other lines of the file would change too");
    }
    let (1, [Some(after)]) = (pieces(new).len(), &read_all(new)[..]) else { return Err("the document would become several") };
    let same = at(after, path) == value && without(before, path) == without(after, path);
    if same { Ok(()) } else { Err("other values of the file would change too (a shared anchor, or a last line without a line break)") }
}

/// The bytes of `old` that `new` does not have, as the smallest contiguous range.
fn replaced_bytes(old: &str, new: &str) -> Range<usize> {
    let prefix = old.bytes().zip(new.bytes()).take_while(|(a, b)| a == b).count();
    let most = old.len().min(new.len()) - prefix;
    let suffix = old.bytes().rev().zip(new.bytes().rev()).take(most).take_while(|(a, b)| a == b).count();
    prefix..old.len() - suffix
}

/// The value at a path.
fn at<'a>(root: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(root, |value, key| value.get(key))
}

/// A document without the value at a path, and without the mappings that only led to it.
fn without(root: &Value, path: &[String]) -> Value {
    let Some((key, rest)) = path.split_first() else { return Value::Null };
    let mut root = root.clone();
    if let Some(object) = root.as_object_mut()
        && let Some(inner) = object.get(key)
    {
        let left = without(inner, rest);
        let nothing = left.is_null() || left.as_object().is_some_and(serde_json::Map::is_empty);
        if nothing { _ = object.shift_remove(key) } else { _ = object.insert(key.clone(), left) }
    }
    root
}

/// Every document with content, in order; `None` for one that cannot be read. What follows a syntax error is not read.
fn read_all(text: &str) -> Vec<Option<Value>> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: 50_000, max_reader_input_bytes: Some(1 << 20) },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 10_000 },
        strict_booleans: true,
    };
    let mut reader = text.as_bytes();
    serde_saphyr::read_with_options::<_, Value>(&mut reader, options).map(Result::ok).collect()
}

/// The one value of a text that must be exactly one document.
fn only_value(text: &str) -> Result<Value, &'static str> {
    match read_all(text).as_slice() {
        [Some(value)] if documents(text).len() == 1 => Ok(value.clone()),
        [] | [None] => Err("the new text is empty or cannot be read"),
        _ => Err("the new text is not exactly one document"),
    }
}

/// A document without its markers, ending in a line break, with the given line ends.
fn body(text: &str, eol: &str) -> String {
    let text = text.trim_start_matches('\u{feff}');
    let text = text.strip_prefix("---\n").or_else(|| text.strip_prefix("---\r\n")).unwrap_or(text);
    text.lines().filter(|line| line.trim_end() != "...").flat_map(|line| [line, eol]).collect()
}

fn line_end(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

/// The refusal, with the edit to make by hand.
fn by_hand(document: u32, path: &[String], value: Option<&Value>, why: &str) -> String {
    let field = path.join(".");
    match value {
        None => format!("`{field}` of document {document} cannot be removed: {why}; remove it by hand"),
        Some(value) => {
            let wrapped = path.iter().rev().fold(value.clone(), |inner, key| Value::Object([(key.clone(), inner)].into_iter().collect()));
            format!("`{field}` of document {document} cannot be set: {why}; set it by hand:\n\n{}", render(&wrapped))
        }
    }
}

#[cfg(test)]
mod tests;
