//! The words for what is wrong, at the limits of what is right.

use super::tests::{faults, first_lines, read, told, workspace};
use super::*;

/// What is told of a field, without its place and what it says.
fn help(spec: &str) -> Vec<String> {
    faults(spec).into_iter().map(|fault| fault.rsplit_once("; ").map_or(String::new(), |(_, help)| help.to_owned())).collect()
}

#[test]
fn a_fault_of_an_alias_stands_where_the_alias_stands() {
    assert_eq!(faults("image: &i nginx\nstate: *i"), ["6:10: `spec.state` must be `Running` or `Stopped`, not `nginx`; write `Running` or `Stopped`"]);
}

#[test]
fn words_that_were_truths_in_yaml_once_are_told_which_they_mean() {
    for (words, expected) in [
        (&["yes", "Y", "on", "1", "\"true\"", "!!str true", "! true"][..], "write `true`, without quotes"),
        (&["no", "N", "off", "0", "'false'"], "write `false`, without quotes"),
        (&["maybe", "nope", "2"], "write `true` or `false`"),
    ] {
        for word in words {
            assert_eq!(help(&format!("init: {word}")), [expected], "{word}");
        }
    }
}

#[test]
fn whole_numbers_are_written_plainly() {
    const LEAST: &str = "write a whole number of at least 1";
    for (text, expected) in [
        ("1", None),
        ("100", None),
        ("!!int 5", None),
        ("\"5\"", Some("remove the quotes")),
        ("!!str 5", Some("remove the quotes")),
        ("! 5", Some("remove the quotes")),
        ("017", Some("remove the leading zeros")),
        ("-05", Some("remove the leading zeros")),
        ("0", Some(LEAST)),
        ("-1", Some(LEAST)),
        ("x", Some(LEAST)),
        ("abc", Some(LEAST)),
        ("1.5", Some(LEAST)),
        ("00x", Some(LEAST)),
        ("99999999999999999999", Some(LEAST)),
    ] {
        assert_eq!(help(&format!("resources: {{pids: {text}}}")), Vec::from_iter(expected), "{text}");
    }
    assert_eq!(faults("command: [!!str 1, ! 2, !!int 3]"), [""; 0]);
}

#[test]
fn what_is_no_list_is_told_how_to_be_one() {
    for (spec, expected) in [
        ("health: {test: a b}", "5:18: `spec.health.test` must be a list, not `a b`; write a list: `[a, b]`"),
        ("command: {a: b}", "5:12: `spec.command` must be a list, not a mapping; write a list; each entry opens with `- `"),
        ("command: npm run dev", "5:12: `spec.command` must be a list, not `npm run dev`; write a list: `[npm, run, dev]`"),
        ("idle: {check: {exec: ~}}", "5:24: `spec.idle.check.exec` must be a list, not nothing; write a list; each entry opens with `- `"),
    ] {
        let found = faults(spec);
        let [found] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(found.split_once(": ").unwrap().1, expected.split_once(": ").unwrap().1, "{spec}");
    }
}

#[test]
fn a_tag_without_a_meaning_is_told_and_yamls_own_are_not() {
    for tag in ["!!str", "!!int", "!!float", "!!bool", "!!null", "!!map", "!!seq", "!"] {
        let problems = told(&format!("a: {tag} x\n"));
        assert!(!problems.contains("has no meaning"), "{tag}: {problems}");
    }
    for tag in ["!custom", "!!binary", "!!set"] {
        assert!(told(&format!("a: {tag} x\n")).contains("has no meaning"), "{tag}");
    }
}

/// The messages of a text.
fn messages(text: &str) -> Vec<String> {
    read(text).problems.into_iter().map(|problem| problem.message).collect()
}

#[test]
fn a_tab_where_spaces_belong_and_a_line_without_a_colon_are_told_apart() {
    let tab = "YAML is indented with spaces; replace the tab";
    for (text, expected) in [
        ("a:\n\tb: 1\n", tab),
        ("a:\n\t b: 1\n", tab),
        ("a: >\n  b\n\tc\n", tab),
        ("a: >\n\tb\n", tab),
        ("a: 1\n\tb: 2\n", tab),
        ("a: 1\nb\nc: 2\n", "a key is followed by `:` and a space, a list entry opens with `- `"),
    ] {
        assert_eq!(read(text).problems.iter().map(|problem| problem.help.as_str()).collect::<Vec<_>>(), [expected], "{text:?}");
    }
}

#[test]
fn a_document_may_be_as_big_as_the_bounds_and_no_bigger() {
    let whole = "a document must be a mapping with `apiVersion` and `kind`, not a list";
    let entries = |count: usize| "- 1\n".repeat(count);
    assert_eq!(messages(&entries(MAX_NODES - 1)), [whole], "the list is a value too");
    assert_eq!(messages(&entries(MAX_NODES)), ["the document has more than 20000 values, aliases followed"]);
    // A text, the same in a list, and as often as there is room.
    let text = "x".repeat(MAX_TEXT / 8);
    for first in
        [format!("- &a {text}\n"), format!("- &a [{text}]\n"), format!("- &a [{}, {}]\n", &text[1..], &text[..1]), format!("- &a {{k: {}}}\n", &text[1..])]
    {
        let full = format!("{first}{}", "- *a\n".repeat(7));
        assert_eq!(messages(&full), [whole]);
        assert_eq!(messages(&format!("{full}- x\n")), ["the document has more than 1024 KiB of text, aliases followed"]);
    }
    let nested = |depth: usize| format!("{}1{}\n", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(messages(&nested(MAX_DEPTH)), [whole]);
    assert_eq!(messages(&nested(MAX_DEPTH + 1)), ["more than 64 mappings and lists inside each other"]);
    // A list of 32 with a name, again inside of 30 others and the whole; its text counts too.
    let again = |around: usize| format!("- &a {}- {}*a{}\n", nested(32), "[".repeat(around), "]".repeat(around));
    assert_eq!(messages(&again(30)), [whole]);
    assert_eq!(messages(&again(31)), ["more than 64 mappings and lists inside each other"]);
    assert_eq!(messages(&"#".repeat(MAX_FILE_BYTES as usize)), [""; 0]);
    assert_eq!(messages(&"#".repeat(MAX_FILE_BYTES as usize + 1)), ["the file is longer than 256 KiB"]);
}

#[test]
fn limits_of_meaning_are_where_they_are_said_to_be() {
    let text = |length: usize| format!("env: [{{name: A, value: {}}}]", "x".repeat(length));
    let memory = |size: &str| format!("resources: {{memory: {size}}}");
    for (spec, is_right) in [
        (text(32 * 1024), true),
        (text(32 * 1024 + 1), false),
        (memory("6m"), true),
        (memory("6291455"), false),
        ("health: {test: [CMD, x]}".to_owned(), true),
        ("health: {test: [CMD, \"\"]}".to_owned(), false),
        ("health: {test: [CMD-SHELL, a]}".to_owned(), true),
        ("health: {test: [CMD-SHELL, a, b]}".to_owned(), false),
        ("health: {test: [NONE, a]}".to_owned(), false),
        ("idle: {timeout: 1h, check: {exec: [a]}}".to_owned(), true),
        ("idle: {timeout: 1h, check: {exec: [\"\"]}}".to_owned(), false),
        ("idle: {timeout: 1h, warn: {exec: [\" \", a]}}".to_owned(), false),
        ("build: {context: .}".to_owned(), true),
        ("build: {context: \" \"}".to_owned(), false),
        ("env: [{name: _A.b-1, value: x}]".to_owned(), true),
        ("env: [{name: 1A, value: x}]".to_owned(), false),
        ("env: [{name: A b, value: x}]".to_owned(), false),
        ("env: [{name: \"\", value: x}]".to_owned(), false),
        ("runningHours: {from: \"00:00\", to: \"23:59\"}".to_owned(), true),
        ("runningHours: {from: \"00:00\", to: \"24:00\"}".to_owned(), false),
        ("runningHours: {from: \"00:60\", to: \"23:00\"}".to_owned(), false),
    ] {
        let found = faults(&spec);
        assert_eq!(found.len(), usize::from(!is_right), "{}: {found:?}", &spec[..spec.len().min(60)]);
    }
}

#[test]
fn a_tenant_is_checked() {
    for (spec, place) in [
        ("policy: {hostPaths: [/srv/a]}", None),
        ("policy: {hostPaths: [/srv/a, srv/b]}", Some("`spec.policy.hostPaths[1]` is `srv/b`")),
        ("defaults: {memory: 6m}", None),
        ("defaults: {memory: 512}", Some("`512` of memory is less")),
        ("quota: {memory: 6m}", None),
        ("quota: {memory: 512}", Some("`512` of memory is less")),
        ("defaults: {workspace: A_b}", Some("`spec.defaults.workspace` is `A_b`")),
    ] {
        let text = format!("apiVersion: dockmaster/v1\nkind: Tenant\nmetadata: {{name: t}}\nspec: {{{spec}}}\n");
        let found = first_lines(&text, "t.yaml");
        assert_eq!(found.len(), usize::from(place.is_some()), "{spec}: {found:?}");
        assert!(found.iter().all(|fault| place.is_some_and(|place| fault.contains(place))), "{spec}: {found:?}");
    }
}

#[test]
fn advice_about_a_namespace_names_a_directory_that_can_be() {
    for (namespace, advice) in [("bob", "move the file to a directory `bob`"), ("Bob", "move the file to a directory `of that name`")] {
        let text = workspace("image: a").replace("{name: shop}", &format!("{{name: shop, namespace: {namespace}}}"));
        let found = first_lines(&text, "alice/shop.yaml");
        assert!(found.iter().any(|fault| fault.ends_with(advice)), "{found:?}");
    }
}

#[test]
fn a_version_or_kind_without_a_value_is_not_there() {
    for (text, message) in [
        ("apiVersion: ~\nkind: Workspace\n", "the document has no `apiVersion`"),
        ("apiVersion:\nkind: Workspace\n", "the document has no `apiVersion`"),
        ("apiVersion: dockmaster/v1\nkind: null\n", "the document has no `kind`"),
        ("apiVersion: dockmaster/v1\nkind: \"null\"\n", "unknown kind `null`"),
    ] {
        assert_eq!(messages(text), [message], "{text}");
    }
}
