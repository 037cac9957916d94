//! Specs: any bytes are read to items or to problems, the same each time; what was read reads the same once more, from the text that is
//! kept of it and from the object as it is shown; and the writer finds the documents where the reader does.

use std::path::Path;

use dockmaster::resource::Resource;
use dockmaster::source::directory::Root;
use dockmaster::source::parse::{Parsed, parse_bytes, parse_file};
use dockmaster::source::render::Severity;
use dockmaster::source::select::FileContext;
use dockmaster::source::splice;
use serde_json::Value;

use crate::run::{Outcome, outcome};

const PATH: &str = "alice/a.yaml";

/// Where the input is said to lie.
pub fn context() -> FileContext {
    FileContext::new("specs", Path::new("/specs"), PATH, None)
}

pub fn check(input: &[u8]) -> Outcome {
    let parsed = parse_bytes(input, &context());
    let again = parse_bytes(input, &context());
    assert_eq!((&parsed.items, told(&parsed)), (&again.items, told(&again)), "read twice");
    for problem in told(&parsed) {
        assert!(problem.starts_with("specs/alice/a.yaml:"), "{problem}");
    }
    let root = Root::new("/specs", None).unwrap();
    let pieces = std::str::from_utf8(input).map(splice::documents).unwrap_or_default();
    for item in &parsed.items {
        let kept = parse_file(&item.text, &context());
        let [one] = &kept.items[..] else { panic!("the text that is kept reads as {:?} {:?}:\n{}", kept.items.len(), told(&kept), item.text) };
        assert_eq!((&one.digest, one.resource.metadata()), (&item.digest, item.resource.metadata()), "the text that is kept:\n{}", item.text);
        assert_eq!(one.resource.status(), None, "the text that is kept has a status:\n{}", item.text);
        let shown = splice::render(&shown(&item.resource));
        let kept = parse_file(&shown, &context());
        let [one] = &kept.items[..] else { panic!("as it is shown it reads as {} {:?}:\n{shown}", kept.items.len(), told(&kept)) };
        assert_eq!(&one.digest, &item.digest, "as it is shown:\n{shown}");
        let piece = pieces.get(item.origin.document as usize).expect("the writer knows fewer documents");
        if let Some(value) = &piece.value {
            assert_eq!(root.identify(PATH, value), Some(item.resource.reference()), "what the writer takes the document for");
        }
    }
    let kinds: Vec<_> = parsed.problems.iter().map(|problem| (problem.severity == Severity::Error, shape(&problem.message))).collect();
    outcome((parsed.items.iter().map(|item| item.resource.kind()).collect::<Vec<_>>(), kinds))
}

/// An object as `get -o yaml` shows it.
pub fn shown(resource: &Resource) -> Value {
    let shown = match resource {
        Resource::Workspace(object) => serde_json::to_value(object),
        Resource::Preview(object) => serde_json::to_value(object),
        Resource::WorkspaceType(object) => serde_json::to_value(object),
        Resource::Tenant(object) => serde_json::to_value(object),
    };
    shown.unwrap()
}

fn told(parsed: &Parsed) -> Vec<String> {
    parsed.problems.iter().map(|problem| problem.rendered()).collect()
}

/// A message without what it quotes.
pub fn shape(message: &str) -> String {
    message.split('`').step_by(2).flat_map(|part| part.chars().filter(|c| !c.is_ascii_digit())).collect()
}
