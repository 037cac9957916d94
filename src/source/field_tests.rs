//! What is said of single fields that are not as they should be, without the places.

use std::path::Path;

use super::parse::parse_file;
use super::select::FileContext;
use super::tree::{Content, Node, Span};
use super::validate;
use crate::resource::Resource;
use crate::resource::workspace::RunningHours;

/// What is told of a text, each with its help.
fn told(relative: &str, text: &str) -> Vec<String> {
    let parsed = parse_file(text, &FileContext::new("specs", Path::new("/srv/specs"), relative, None));
    parsed.problems.into_iter().map(|problem| format!("{}; {}", problem.message, problem.help)).collect()
}

/// A document of a kind with this spec and further metadata.
fn document(kind: &str, metadata: &str, spec: &str) -> String {
    let lines: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!("apiVersion: dockmaster/v1\nkind: {kind}\nmetadata: {{name: shop{metadata}}}\nspec:\n{lines}")
}

/// What is told of a workspace with this spec.
fn faults(spec: &str) -> Vec<String> {
    told("root.yaml", &document("Workspace", "", spec))
}

#[test]
fn where_a_part_is_lost_nothing_is_said_about_the_meaning_of_the_rest() {
    const BAD_IMAGE: &str = "`spec.image` is `Acme/shop`; write the path of the image in lower case";
    const BAD_USER: &str = "`spec.user` must be text, not a list; write a single value";
    assert_eq!(faults("image: Acme/shop"), [BAD_IMAGE]);
    assert_eq!(faults("user: [a]\nimage: Acme/shop"), [BAD_USER]);
    // A list that can be read does not find again what was lost before it.
    assert_eq!(faults("user: [a]\ncommand: [x]\nimage: Acme/shop"), [BAD_USER]);
    assert_eq!(faults("command: [[a]]\nimage: Acme/shop"), ["`spec.command[0]` must be text, not a list; write a single value"]);
    // A single word is no part that others refer to.
    assert_eq!(faults("state: Runing\nimage: Acme/shop"), ["`spec.state` must be `Running` or `Stopped`, not `Runing`; did you mean `Running`?", BAD_IMAGE]);
}

#[test]
fn a_field_of_the_spec_that_stands_above_it_belongs_below_it() {
    let document = |metadata: &str, root: &str| told("root.yaml", &format!("{}{root}", document("Workspace", metadata, "image: nginx")));
    assert_eq!(document("", "ports: []\n"), ["unknown field `ports` in the document; `ports` belongs below `spec`"]);
    assert_eq!(document(", ports: []", ""), ["unknown field `ports` in `metadata`; `ports` belongs below `spec`"]);
    assert_eq!(document("", "zzzzzzzz: 1\n"), ["unknown field `zzzzzzzz` in the document; the fields here are apiVersion, kind, metadata, spec"]);
    for (spec, opening) in [
        ("zzzzzzzz: 1", "unknown field `zzzzzzzz` in `spec`; the fields here are "),
        ("resources: {ports: []}", "unknown field `ports` in `spec.resources`; the fields here are cpu, "),
        ("services: {db: {image: a, zzzzzzzz: 1}}", "unknown field `zzzzzzzz` in `spec.services.db`; the fields here are "),
    ] {
        assert!(faults(spec)[0].starts_with(opening), "{:?}", faults(spec));
    }
}

#[test]
fn only_always_to_start_again_is_refused_with_a_reason() {
    for (spec, opening) in [
        ("restart: always", "`spec.restart` may not be `always`; `always` would start a container again"),
        ("restart: sometimes", "`spec.restart` must be `unless-stopped`, `on-failure` or `no`, not `sometimes`; write "),
        ("state: always", "`spec.state` must be `Running` or `Stopped`, not `always`; write "),
    ] {
        assert!(faults(spec)[0].starts_with(opening), "{:?}", faults(spec));
    }
}

#[test]
fn a_label_has_a_name_without_spaces() {
    let labelled = |label: &str| told("root.yaml", &document("Workspace", &format!(", labels: {{\"{label}\": x}}"), "image: nginx"));
    for label in ["team", "example.org/team", "a_b-c"] {
        assert_eq!(labelled(label), [] as [&str; 0], "{label}");
    }
    for label in ["", "a b", "a\\tb", "a\\u0007b", "a\\u2003b"] {
        let told = labelled(label);
        assert!(matches!(told.as_slice(), [only] if only.contains("is no name of a label")), "{label:?}: {told:?}");
    }
}

#[test]
fn programs_are_named() {
    for (spec, expected) in [
        ("health: {test: [CMD, \"\"]}", "a health test of `CMD` names a program; write `[CMD, program, argument]`"),
        ("idle: {check: {exec: [\"\", a]}}", "`spec.idle.check.exec` begins with an empty word; name the program first"),
        ("idle: {warn: {exec: [\" \", a]}}", "`spec.idle.warn.exec` begins with an empty word; name the program first"),
        ("build: {context: \" \"}", "`build` has no `context`; name the directory with the Dockerfile"),
    ] {
        assert_eq!(faults(spec), [expected], "{spec}");
    }
    assert_eq!(faults("health: {test: [CMD, curl]}\nidle: {check: {exec: [a, \"\"]}}\nbuild: {context: .}"), [] as [&str; 0]);
}

/// The structure of a document lets only times through; hours that come otherwise are told at their field too.
#[test]
fn hours_that_are_no_times_are_told_at_their_field() {
    let parsed = parse_file(&document("Workspace", "", ""), &FileContext::new("specs", Path::new("/srv/specs"), "root.yaml", None));
    let Resource::Workspace(object) = &parsed.items[0].resource else { panic!() };
    let tree = Node { span: Span { start: 0, end: 0 }, content: Content::Map(Vec::new()) };
    for (from, to, field) in [("25:00", "19:00", "spec.runningHours.from"), ("08:00", "25:00", "spec.runningHours.to")] {
        let hours = RunningHours { days: None, from: from.into(), to: to.into(), time_zone: None };
        let mut object = object.clone();
        object.spec.running_hours = Some(hours);
        let findings = validate::check(&Resource::Workspace(object), &tree);
        assert_eq!(findings.iter().map(|finding| finding.path.to_string()).collect::<Vec<_>>(), [field]);
    }
}
