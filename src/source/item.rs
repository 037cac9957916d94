//! From a document's tree to an item: which kind it is, its structure, its types, its meaning, whose it is, and what is kept of it.

use std::ops::Range;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::render::{Lines, Problem, Severity, alternatives, bounded, nearest, quote};
use super::select::{FileContext, NamespaceRule};
use super::structure::{self, Checked, Finding, title};
use super::tree::{Content, Node, Path};
use super::{Item, schema, splice, validate};
use crate::resource::{API_VERSION, Kind, Object, Origin, Resource, is_dns_label};

/// What a document turned out to be.
pub enum Read {
    /// Nothing, or comments only.
    Empty,
    /// A good document, and the place of its name.
    Item(Box<Item>, Box<Problem>),
    /// What is wrong with it; or that it is not ours, as a warning.
    Problems(Vec<Problem>),
}

/// Reads one document; `range` is its text in the file.
pub fn read(tree: &Node, index: u32, range: Range<usize>, lines: &Lines<'_>, context: &FileContext) -> Read {
    if tree.is_null() {
        return Read::Empty;
    }
    let told = |finding: &Finding| lines.problem(context, index, finding.span, &finding.message, &finding.help);
    let kind = match identify(tree) {
        Identity::Ours(kind) => kind,
        Identity::Foreign(finding) => {
            let mut warning = told(&finding);
            warning.severity = Severity::Warning;
            return Read::Problems(vec![warning]);
        }
        Identity::Wrong(findings) => return Read::Problems(findings.iter().map(told).collect()),
    };
    let Checked { value, mut findings } = structure::check(schema::schema(kind), tree);
    let (namespace, misplaced) = placement(kind, tree, &context.namespace);
    let mut resource = None;
    if let Some(mut value) = value {
        value["metadata"]["namespace"] = namespace.map_or(Value::Null, Value::from);
        match typed(kind, value) {
            Ok(found) => {
                // What follows only from something that was left out above it would mislead.
                let meaning = validate::check(&found, tree).into_iter().filter(|new| !findings.iter().any(|old| new.path.contains(&old.path)));
                let meaning: Vec<Finding> = meaning.collect();
                findings.extend(meaning);
                resource = Some(found);
            }
            Err(error) if findings.is_empty() => findings.push(finding(tree, Path::default(), format!("the document cannot be read: {error}"), "change it")),
            Err(_) => {}
        }
    }
    findings.extend(misplaced);
    match resource {
        Some(resource) if findings.is_empty() => {
            let name = told(&finding(tree, Path::default().key("metadata").key("name"), "", ""));
            let item = Item {
                digest: digest(&resource),
                resource,
                origin: Origin { source: context.source.clone(), path: context.path.clone(), document: index },
                text: without_status(lines.text, range, tree),
                directory: context.directory.clone(),
            };
            Read::Item(Box::new(item), Box::new(name))
        }
        Some(_) | None => Read::Problems(bounded(findings.iter().map(told).collect())),
    }
}

fn finding(tree: &Node, path: Path, message: impl Into<String>, help: impl Into<String>) -> Finding {
    Finding { span: tree.locate(&path), path, message: message.into(), help: help.into() }
}

enum Identity {
    Ours(Kind),
    Foreign(Finding),
    Wrong(Vec<Finding>),
}

/// Kinds of this API that this version does not have.
const FUTURE: [&str; 4] = ["Project", "Secret", "Snapshot", "SnapshotSchedule"];

/// Looks at `apiVersion` and `kind` before anything else.
fn identify(tree: &Node) -> Identity {
    let root = Path::default();
    let at = |name: &str, message: String, help: String| finding(tree, root.key(name), message, help);
    let kinds = || Kind::WRITTEN.into_iter().map(Kind::as_str);
    if !matches!(tree.content, Content::Map(_)) {
        let message = format!("a document must be a mapping with `apiVersion` and `kind`, not {}", tree.describe());
        return Identity::Wrong(vec![finding(tree, root, message, format!("open it with `apiVersion: {API_VERSION}`"))]);
    }
    let (version, kind) = (tree.get("apiVersion").and_then(Node::text), tree.get("kind").and_then(Node::text));
    match version {
        Some(API_VERSION) => {}
        Some(other) if other.split('/').next() == API_VERSION.split('/').next() => {
            let message = format!("this version of dockmaster does not know apiVersion {}", quote(other));
            return Identity::Wrong(vec![at("apiVersion", message, format!("did you mean `{API_VERSION}`?"))]);
        }
        Some(other) if nearest(other, [API_VERSION]).is_some() => {
            return Identity::Wrong(vec![at("apiVersion", format!("unknown apiVersion {}", quote(other)), format!("did you mean `{API_VERSION}`?"))]);
        }
        Some(other) => {
            let message = format!("apiVersion {} is not dockmaster's; the document is skipped", quote(other));
            return Identity::Foreign(at("apiVersion", message, format!("keep it elsewhere, or write `apiVersion: {API_VERSION}`")));
        }
        None => {
            let help = format!("open it with `apiVersion: {API_VERSION}`; a file whose name starts with `_` is skipped");
            return Identity::Wrong(vec![at("apiVersion", "the document has no `apiVersion`".into(), help)]);
        }
    }
    let Some(kind) = kind else {
        return Identity::Wrong(vec![at("kind", "the document has no `kind`".into(), format!("add `kind:` with {}", alternatives(kinds())))]);
    };
    if let Some(known) = Kind::WRITTEN.into_iter().find(|known| known.as_str() == kind) {
        return Identity::Ours(known);
    }
    let (message, help) = match (FUTURE.contains(&kind), nearest(kind, kinds())) {
        (true, _) => {
            (format!("this version of dockmaster does not know kind `{kind}` yet"), format!("remove the document; the kinds are {}", alternatives(kinds())))
        }
        (false, Some(name)) => (format!("unknown kind {}", quote(kind)), format!("did you mean `{name}`?")),
        (false, None) => (format!("unknown kind {}", quote(kind)), format!("write {}", alternatives(kinds()))),
    };
    Identity::Wrong(vec![at("kind", message, help)])
}

/// The namespace of a document, and what is wrong with where it lies.
fn placement(kind: Kind, tree: &Node, rule: &NamespaceRule) -> (Option<String>, Vec<Finding>) {
    let path = Path::default().key("metadata").key("namespace");
    let given = tree.get("metadata").and_then(|metadata| metadata.get("namespace")).and_then(Node::text);
    let mut findings = Vec::new();
    let mut wrong = |path: Path, message: String, help: String| findings.push(finding(tree, path, message, help));
    if kind.is_cluster() {
        if let Some(dictated) = rule.dictated() {
            let message = format!("a {kind} belongs to no namespace, but this file belongs to namespace {}", quote(dictated));
            wrong(Path::default().key("kind"), message, "move it to a file in the root of the directory of specs".into());
        }
        if given.is_some() {
            wrong(path, format!("a {kind} belongs to no namespace"), "remove `namespace`".into());
        }
        return (None, findings);
    }
    if let Some(dictated) = rule.dictated() {
        let whence = match rule {
            NamespaceRule::Directory(_) => "its directory",
            NamespaceRule::Pinned(_) | NamespaceRule::Root => "the source",
        };
        if !is_dns_label(dictated) {
            let message = format!("{} cannot be a namespace: a DNS label is at most 63 lower-case letters, digits and `-`", quote(dictated));
            wrong(Path::default().key("metadata"), message, format!("rename the directory; {whence} names the namespace of the files in it"));
        } else if let Some(other) = given.filter(|given| *given != dictated) {
            let message = format!("namespace {} differs from {}, which {whence} says", quote(other), quote(dictated));
            wrong(path, message, format!("remove `namespace`, or move the file to a directory `{}`", slugless(other)));
        }
    }
    (Some(rule.dictated().or(given).unwrap_or("default").to_owned()), findings)
}

/// A namespace that can be named in advice.
fn slugless(text: &str) -> &str {
    if is_dns_label(text) { text } else { "of that name" }
}

fn typed(kind: Kind, value: Value) -> Result<Resource, String> {
    fn object<S: serde::de::DeserializeOwned + Default>(value: Value) -> Result<Object<S>, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }
    match kind {
        Kind::Workspace => object(value).map(Resource::Workspace),
        Kind::Preview => object(value).map(Resource::Preview),
        Kind::WorkspaceType => object(value).map(Resource::WorkspaceType),
        Kind::Tenant => object(value).map(Resource::Tenant),
        Kind::Namespace => Err(format!("{} is internal", title(&Path::default().key("kind")))),
    }
}

/// SHA-256 over what the document asks for, in canonical form: order, comments and `status` do not count.
pub fn digest(resource: &Resource) -> String {
    let spec = match resource {
        Resource::Workspace(object) => serde_json::to_value(&object.spec),
        Resource::Preview(object) => serde_json::to_value(&object.spec),
        Resource::WorkspaceType(object) => serde_json::to_value(&object.spec),
        Resource::Tenant(object) => serde_json::to_value(&object.spec),
    };
    let metadata = resource.metadata();
    let mut canonical = json!({
        "kind": resource.kind(), "labels": metadata.labels, "annotations": metadata.annotations,
        // A spec is strings, numbers, lists and mappings with text keys: it always has a JSON form.
        "spec": spec.unwrap_or_default(),
    });
    canonical.sort_all_objects();
    Sha256::digest(canonical.to_string()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The text of a document without its `status`, comments and all.
fn without_status(text: &str, range: Range<usize>, tree: &Node) -> String {
    // Behind `---` the line goes on with nothing, a comment, or the document itself.
    let text = text.get(range).unwrap_or("").trim_start();
    if tree.get("status").is_some() { splice::without_status(text) } else { text.to_owned() }
}
