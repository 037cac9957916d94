//! The only reader of YAML: the text of a file to its documents, as trees that know their places, and from there to items.
//!
//! YAML 1.2 with merge keys. A syntax error ends its document and no other: reading goes on at the next `---`. Everything is bounded
//! before it is built: depth, nodes and text after aliases are followed, documents, and the file itself.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, Tag};

use super::Item;
use super::item;
use super::render::{Lines, Problem, bounded, quote};
use super::select::{FileContext, MAX_FILE_BYTES};
use super::tree::{Content, Entry, Node, Span};

/// The most mappings and lists inside each other.
const MAX_DEPTH: usize = 64;
/// The most values in a document, aliases followed.
const MAX_NODES: usize = 20_000;
/// The most text in the values of a document, aliases followed.
const MAX_TEXT: usize = 1 << 20;
/// The most documents in a file.
const MAX_DOCUMENTS: u32 = 1000;

/// What a file says.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// The good documents, in their order.
    pub items: Vec<Item>,
    /// What is wrong with the others, and warnings; sorted by place.
    pub problems: Vec<Problem>,
    /// For each item the place of its name, as a problem without a message: for who compares it with others.
    pub names: Vec<Problem>,
}

/// Reads the bytes of a file: refuses what is too long or not UTF-8, and parses the rest.
pub fn parse_bytes(bytes: &[u8], context: &FileContext) -> Parsed {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse_file(text, context),
        Err(_) if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) => refused(context, "the file is UTF-16, not UTF-8", "save it as UTF-8"),
        Err(error) => refused(context, &format!("the file is not UTF-8 text (byte {})", error.valid_up_to()), "save it as UTF-8"),
    }
}

/// Reads the text of a file: each document to an item, or to all that is wrong with it.
pub fn parse_file(text: &str, context: &FileContext) -> Parsed {
    if text.len() as u64 > MAX_FILE_BYTES {
        return refused(context, &format!("the file is longer than {} KiB", MAX_FILE_BYTES / 1024), "split it, or move what is not a spec elsewhere");
    }
    let lines = Lines::new(text.strip_prefix('\u{feff}').unwrap_or(text));
    let mut parsed = Parsed::default();
    for document in documents(lines.text, Builder::default) {
        match document.tree {
            Err(faults) => {
                let told = |Fault { span, message, help }| lines.problem(context, document.index, span, message, help);
                parsed.problems.extend(bounded(faults.into_iter().map(told).collect()));
            }
            Ok(tree) => match item::read(&tree, document.index, document.range, &lines, context) {
                item::Read::Empty => {}
                item::Read::Item(item, name) => {
                    parsed.items.push(*item);
                    parsed.names.push(*name);
                }
                item::Read::Problems(problems) => parsed.problems.extend(problems),
            },
        }
    }
    parsed
}

fn refused(context: &FileContext, message: &str, help: &str) -> Parsed {
    Parsed { problems: vec![Problem::of_file(context, message, help)], ..Parsed::default() }
}

/// Something that YAML or the bounds do not allow.
struct Fault {
    span: Span,
    message: String,
    help: String,
}

impl Fault {
    fn new(span: Span, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { span, message: message.into(), help: help.into() }
    }
}

/// A document of the stream.
struct Document {
    /// Its position, empty ones counted: the same count as the writer's.
    index: u32,
    /// Where its first byte is, its `---` and directives included; what is before the next document's belongs to it.
    start: usize,
    /// Its text, from behind `---` to before the next `---` or `...`.
    range: Range<usize>,
    tree: Result<Node, Vec<Fault>>,
}

/// The text cut into its documents, one behind the other and nothing left out, in the same count as `Origin::document`. A document that
/// cannot be read is one of them. Empty for a text without documents.
pub fn pieces(text: &str) -> Vec<Range<usize>> {
    let mark = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    // Where they lie does not depend on what they say.
    let documents = documents(text.get(mark..).unwrap_or(""), || Builder { full: true, ..Builder::default() });
    let mut starts: Vec<usize> = documents.iter().map(|document| document.start + mark).collect();
    if let Some(first) = starts.first_mut() {
        *first = 0;
    }
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts.iter().copied().zip(ends).map(|(start, end)| start..end.max(start)).collect()
}

/// All documents of a text, each with a builder of its own.
fn documents(text: &str, fresh: fn() -> Builder) -> Vec<Document> {
    let options = granit_parser::options! { emit_comments: false, flow_nesting_limit: MAX_DEPTH, block_nesting_limit: MAX_DEPTH };
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut documents: Vec<Document> = Vec::new();
    let mut builder = fresh();
    // Where the text of the current document starts, where its marker does, and where the last one ended.
    let (mut start, mut marker, mut free) = (None, None, 0);
    while let Some(event) = parser.next_event() {
        let index = documents.len() as u32;
        match event {
            Ok((Event::DocumentStart(explicit, _), span)) => {
                // What stands before an implicit start are comments that belong to it.
                start = Some(if explicit { place(span).end } else { free });
                marker = Some(if explicit { directives(text, free, place(span).start) } else { free });
                builder = fresh();
                if index >= MAX_DOCUMENTS {
                    let fault = Fault::new(place(span), format!("the file has more than {MAX_DOCUMENTS} documents"), "split it into several files");
                    documents.push(Document { index, start: place(span).start, range: 0..0, tree: Err(vec![fault]) });
                    break;
                }
            }
            Ok((Event::DocumentEnd, span)) => {
                let Span { start: end, end: after } = place(span);
                free = after;
                let range = start.take().unwrap_or(end)..end;
                documents.push(Document { index, start: marker.take().unwrap_or(end), range, tree: std::mem::take(&mut builder).finish() });
            }
            Ok((event, span)) => builder.take(event, place(span)),
            Err(error) => {
                let at = offset(error.marker());
                let mut faults = std::mem::take(&mut builder).faults;
                faults.push(syntax(&error, at, text));
                let range = start.take().unwrap_or(at).min(at)..at;
                documents.push(Document { index, start: marker.take().unwrap_or(free), range, tree: Err(faults) });
                free = at;
                if !parser.proceed_next_document().unwrap_or(false) {
                    break;
                }
            }
        }
    }
    documents
}

/// Where the directives before a marker start; the marker itself where there are none.
fn directives(text: &str, free: usize, marker: usize) -> usize {
    let between = text.get(free..marker).unwrap_or("");
    let lines = between.split_inclusive('\n').scan(free, |at, line| Some((std::mem::replace(at, *at + line.len()), line)));
    lines.into_iter().find(|(_, line)| line.starts_with('%')).map_or(marker, |(at, _)| at)
}

fn offset(marker: &Marker) -> usize {
    marker.byte_offset().unwrap_or(0)
}

fn place(span: granit_parser::Span) -> Span {
    Span { start: offset(&span.start), end: offset(&span.end) }
}

/// A syntax error in words for people.
#[expect(clippy::wildcard_enum_match_arm, reason = "a foreign set of some hundred kinds, of which the usual ones get a hint")]
fn syntax(error: &ScanError, at: usize, text: &str) -> Fault {
    // A tab is found when it is passed.
    let start = if text.get(..at).is_some_and(|before| before.ends_with('\t')) { at - 1 } else { at };
    let span = Span { start, end: at };
    let here = text.get(start..).unwrap_or("");
    let help = match error.kind() {
        ErrorKind::TabNotAllowed | ErrorKind::TabInBlockIndentation | ErrorKind::TabInPlainScalar | ErrorKind::TabAtBlockScalarStart => {
            "YAML is indented with spaces; replace the tab"
        }
        ErrorKind::MappingValueNotAllowed => "put a value that contains `: ` in quotes, or check the indentation of this line",
        ErrorKind::SimpleKeyExpected => "a key is followed by `:` and a space, a list entry opens with `- `",
        ErrorKind::UnknownAnchor => "define it before with `&name`, or put text that opens with `*` in quotes",
        ErrorKind::UnexpectedCharacter { .. } => "put text that opens with this character in quotes",
        ErrorKind::RecursionLimitExceeded => return Fault::new(span, too_deep(), "make it simpler"),
        _ if here.starts_with('\t') => "YAML is indented with spaces; replace the tab",
        _ => "check indentation, quotes and brackets here and in the lines before",
    };
    // The text of the error ends with a position of its own.
    let full = error.to_string();
    let message = full.rfind(" at char ").and_then(|end| full.get(..end)).unwrap_or(&full);
    Fault::new(span, format!("not valid YAML: {message}"), help)
}

fn too_deep() -> String {
    format!("more than {MAX_DEPTH} mappings and lists inside each other")
}

/// How much a value is, aliases followed.
#[derive(Clone, Copy, Default)]
struct Size {
    nodes: usize,
    text: usize,
    depth: usize,
}

fn measure(node: &Node) -> Size {
    let (own, children): (usize, Vec<Size>) = match &node.content {
        Content::Scalar { text, .. } => (text.len(), Vec::new()),
        Content::List(nodes) => (0, nodes.iter().map(measure).collect()),
        Content::Map(entries) => (entries.iter().map(|entry| entry.key.len()).sum(), entries.iter().map(|entry| measure(&entry.value)).collect()),
    };
    children.iter().fold(Size { nodes: 1, text: own, depth: 1 }, |sum, child| Size {
        nodes: sum.nodes + child.nodes,
        text: sum.text + child.text,
        depth: sum.depth.max(child.depth + 1),
    })
}

/// A mapping or list that is being read.
struct Open {
    span: Span,
    anchor: usize,
    content: Content,
    /// The key whose value comes next.
    key: Option<(String, Span)>,
    keys: HashSet<String>,
    /// What `<<` brings, behind the mapping's own keys.
    merged: Vec<Entry>,
}

/// Builds the tree of one document from events, within bounds.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    anchors: HashMap<usize, (Node, Size)>,
    nodes: usize,
    text: usize,
    faults: Vec<Fault>,
    /// Nothing more is built: a bound was crossed, or nobody asks for the tree.
    full: bool,
}

impl Builder {
    fn finish(self) -> Result<Node, Vec<Fault>> {
        match self.root {
            Some(root) if self.faults.is_empty() => Ok(root),
            Some(_) | None => Err(self.faults),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign set; the rest of it carries no values")]
    fn take(&mut self, event: Event<'_>, span: Span) {
        if self.full {
            return;
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && !self.is_text(tag.as_deref(), span);
                // An empty value is reported as `~`.
                let text = if span.start == span.end && plain { String::new() } else { text.into_owned() };
                if self.count(Size { nodes: 1, text: text.len(), depth: 0 }, span) {
                    self.add(Node { span, content: Content::Scalar { text, plain } }, anchor);
                }
            }
            Event::SequenceStart(_, anchor, tag) => self.begin(span, anchor, tag.as_deref(), Content::List(Vec::new())),
            Event::MappingStart(_, anchor, tag) => self.begin(span, anchor, tag.as_deref(), Content::Map(Vec::new())),
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            Event::Alias(id) => match self.anchors.get(&id).map(|(node, size)| (node.clone(), *size)) {
                Some((node, size)) => {
                    if self.count(size, span) {
                        self.add(Node { span, ..node }, 0);
                    }
                }
                None => self.faults.push(Fault::new(span, "this alias is inside of what it names", "an anchor cannot contain itself")),
            },
            _ => {}
        }
    }

    /// Whether the tag says that a plain scalar is text; tags of other meanings than YAML's own are refused.
    fn is_text(&mut self, tag: Option<&Tag>, span: Span) -> bool {
        let Some(tag) = tag else { return false };
        let is = |name: &str| tag.is_yaml_core_schema_tag(name);
        if !["str", "int", "float", "bool", "null", "map", "seq"].into_iter().any(is) && tag.original() != "!" {
            self.faults.push(Fault::new(span, format!("the tag {} has no meaning here", quote(&tag.original())), "remove the tag"));
        }
        is("str") || tag.original() == "!"
    }

    /// Counts a value against the bounds.
    fn count(&mut self, size: Size, span: Span) -> bool {
        self.nodes += size.nodes;
        self.text += size.text;
        let message = if self.nodes > MAX_NODES {
            format!("the document has more than {MAX_NODES} values, aliases followed")
        } else if self.text > MAX_TEXT {
            format!("the document has more than {} KiB of text, aliases followed", MAX_TEXT / 1024)
        } else if self.open.len() + size.depth > MAX_DEPTH {
            too_deep()
        } else {
            return true;
        };
        self.faults.push(Fault::new(span, message, "make it simpler, or use fewer aliases"));
        self.full = true;
        false
    }

    fn begin(&mut self, span: Span, anchor: usize, tag: Option<&Tag>, content: Content) {
        self.is_text(tag, span);
        if self.count(Size { nodes: 1, text: 0, depth: 1 }, span) {
            self.open.push(Open { span, anchor, content, key: None, keys: HashSet::new(), merged: Vec::new() });
        }
    }

    fn end(&mut self, end: Span) {
        let Some(Open { mut span, anchor, mut content, mut keys, merged, .. }) = self.open.pop() else { return };
        if let Content::Map(entries) = &mut content {
            entries.extend(merged.into_iter().filter(|entry| keys.insert(entry.key.clone())));
        }
        // Only brackets have an end of their own; that of a block is somewhere behind it.
        span.end = if end.start < end.end { end.end } else { span.end };
        self.add(Node { span, content }, anchor);
    }

    /// Puts a value where it belongs.
    fn add(&mut self, node: Node, anchor: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), measure(&node)));
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        let fault = match (&mut open.content, open.key.take()) {
            (Content::List(nodes), _) => {
                nodes.push(node);
                None
            }
            (Content::Map(_), None) => {
                open.key = Some((key_text(&node).unwrap_or_default(), node.span));
                key_text(&node).is_none().then(|| Fault::new(node.span, format!("{} cannot be a key", node.describe()), "keys are single words or texts"))
            }
            (Content::Map(_), Some((key, span))) if key == "<<" => {
                let sources = match node.content {
                    Content::List(nodes) => nodes,
                    Content::Map(_) | Content::Scalar { .. } => vec![node],
                };
                sources.into_iter().find_map(|source| match source.content {
                    Content::Map(entries) => {
                        open.merged.extend(entries);
                        None
                    }
                    Content::List(_) | Content::Scalar { .. } => {
                        Some(Fault::new(span, "`<<` merges mappings, and this is none", "name the anchor of a mapping: `<<: *name`"))
                    }
                })
            }
            (Content::Map(entries), Some((key, key_span))) => {
                let duplicate = !open.keys.insert(key.clone());
                let fault = duplicate.then(|| Fault::new(key_span, format!("the key {} stands here twice", quote(&key)), "remove one of them"));
                entries.push(Entry { key, key_span, value: node });
                fault
            }
            (Content::Scalar { .. }, _) => None,
        };
        self.faults.extend(fault);
    }
}

fn key_text(node: &Node) -> Option<String> {
    match &node.content {
        Content::Scalar { text, .. } => Some(text.clone()),
        Content::List(_) | Content::Map(_) => None,
    }
}

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;
