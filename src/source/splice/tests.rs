//! Hand-made traps of YAML, and random ones.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const HEAD: &str = "apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {name: shop}\n";

fn first_status() -> Value {
    json!({"observedGeneration": 1, "phase": "Running", "url": "http://127.0.0.1:10000/", "ports": [{"name": "http", "container": 80}],
        "conditions": [{"type": "Ready", "status": "True", "reason": "Running", "message": "it runs: # yes", "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
}

fn second_status() -> Value {
    json!({"observedGeneration": 2, "phase": "Stopped", "conditions": [{"type": "Ready", "status": "False", "message": "no\nway"}], "empty": [], "none": {}})
}

/// Every trap: the text, and which of its documents gets the status.
fn corpus() -> Vec<(&'static str, String, u32)> {
    let one = |name, text: &str| (name, text.to_owned(), 0);
    let headed = |name, text: &str| (name, format!("{HEAD}{text}"), 0);
    vec![
        one("one key", "a: 1\n"),
        one("no final newline", "a: 1"),
        one("final newlines", "a: 1\n\n\n"),
        one("final spaces", "a: 1\n  \n"),
        headed("a plain spec", "spec:\n  image: busybox\n"),
        headed("comments everywhere", "# before\nspec: # after the key\n  # inside\n  image: busybox # at the end\n  # last inside\n# at the very end\n"),
        headed("a comment as last line without newline", "spec:\n  image: busybox\n# the end"),
        one("a comment first", "# head\n\n# more\na: 1\n"),
        headed("anchor and alias", "spec:\n  env: &env\n    - {name: A, value: b}\n  services:\n    db: {image: x, env: *env}\n"),
        headed("merge key", "x: &base {cpu: \"1\"}\nspec:\n  resources:\n    <<: *base\n    memory: 1g\n"),
        headed("an anchor on the root value", "spec: &s\n  image: x\ncopy: *s\n"),
        ("CRLF", HEAD.replace('\n', "\r\n") + "spec:\r\n  image: x\r\n", 0),
        ("CRLF without final newline", HEAD.replace('\n', "\r\n") + "spec:\r\n  image: x", 0),
        ("CRLF with a literal", HEAD.replace('\n', "\r\n") + "spec:\r\n  text: |\r\n    a\r\n    b\r\n", 0),
        one("BOM", "\u{feff}a: 1\nb: 2\n"),
        one("BOM and marker", "\u{feff}---\na: 1\n"),
        one("a marker", "---\na: 1\n"),
        one("a marker with a comment", "--- # here\na: 1\n"),
        one("an end marker", "a: 1\n...\n"),
        one("an end marker without newline", "a: 1\n..."),
        one("directive", "%YAML 1.2\n---\na: 1\n"),
        one("directive, comment and end", "%YAML 1.2\n# c\n---\na: 1\n...\n# after\n"),
        ("the first of two", "a: 1\n---\nb: 2\n".into(), 0),
        ("the second of two", "a: 1\n---\nb: 2\n".into(), 1),
        ("the second of two without newline", "a: 1\n---\nb: 2".into(), 1),
        ("the middle of three, commented", "# one\na: 1\n# end of one\n---\n# two\nb: 2 # x\n\n# end of two\n---\nc: 3\n".into(), 1),
        ("between end markers", "a: 1\n...\n---\nb: 2\n...\n---\nc: 3\n...\n".into(), 1),
        ("after an empty document", "---\n---\nb: 2\n".into(), 1),
        ("after a comment-only document", "---\n# nothing\n---\nb: 2\n".into(), 1),
        ("before a broken neighbour", "a: 1\n---\nb: {\n".into(), 0),
        ("before a literal neighbour", "a: 1\n---\nb: |\n  x\n".into(), 0),
        one("flow root", "{a: 1, b: [2, 3]}\n"),
        one("flow root without newline", "{a: 1}"),
        one("flow root on lines", "{\n  a: 1,\n  b: 2\n}\n"),
        one("flow root with trailing comma", "{\n  a: 1,\n  b: 2,\n}\n"),
        one("JSON", "{\"a\": 1, \"b\": {\"c\": [1, 2]}}\n"),
        headed("a literal at the end", "spec:\n  script: |\n    echo one\n    echo two\n"),
        headed("a literal at the end without newline", "spec:\n  script: |\n    echo one\n    echo two"),
        headed("a folded one at the end without newline", "spec:\n  script: >\n    echo one\n    echo two"),
        headed("a stripped literal without newline", "spec:\n  script: |-\n    echo one"),
        headed("a kept literal with newlines", "spec:\n  script: |+\n    echo one\n\n"),
        headed("a literal with comment-like text", "spec:\n  script: |\n    # not a comment\n    status: no\n"),
        headed("quoted keys", "\"spec\":\n  'image': \"x: y # z\"\n"),
        headed("an explicit key", "? spec\n: {image: x}\n"),
        headed("a multi-line plain scalar", "spec:\n  text: one\n    two\n    three\n"),
        headed("a multi-line quoted scalar", "spec:\n  text: \"one\n    two \\\n    three\"\n"),
        headed("tags", "spec:\n  a: !!str 1\n  b: !custom x\n"),
        headed("deep four-space indents", "spec:\n    env:\n        -   name: A\n            value: b\n"),
        headed("sequences at the key's column", "spec:\n  env:\n  - name: A\n  - name: B\n"),
        headed("text of other scripts", "spec:\n  text: \"ünï çödé 日本語 🚀\"\n"),
        headed("a status inside the spec", "spec:\n  status: mine\n  items: [status]\n"),
        headed("yes, no and numbers as text", "spec: {a: yes, b: 'no', c: 017, d: 1.10, e: ~}\n"),
        headed("an empty spec", "spec:\n"),
        headed("long lines", &format!("spec:\n  text: {}\n", "word ".repeat(300).trim_end())),
        one("status is there", "a: 1\nstatus:\n  phase: Old\nb: 2\n"),
        one("status is there and last", "a: 1\nstatus:\n  phase: Old\n"),
        one("status is there without newline", "a: 1\nstatus:\n  phase: Old"),
        one("status is empty", "a: 1\nstatus:\nb: 2\n"),
        one("status is braces", "a: 1\nstatus: {}\n# end\n"),
        one("status is a scalar", "a: 1\nstatus: nothing\nb: 2\n"),
        one("status is first", "status: {phase: Old}\na: 1\n"),
        one("status before a comment", "a: 1\nstatus:\n  phase: Old\n# about b\nb: 2\n"),
        one("status in quotes", "a: 1\n\"status\":\n  phase: Old\n"),
        ("status in the first of two", "a: 1\nstatus:\n  phase: Old\n---\nb: 1\n".into(), 0),
    ]
}

/// What a text says outside `status` of that document, and the bytes before and after it.
fn outside(text: &str, document: u32) -> (String, Vec<Option<Value>>) {
    let file = YamlFile::parse(text).tree();
    let range = file.documents().nth(document as usize).and_then(|d| d.as_mapping()).map_or(0..0, |m| replaceable(&m, "status"));
    let values = documents(text)
        .into_iter()
        .enumerate()
        .map(|(index, piece)| piece.value.map(|v| if index == document as usize { without(&v, &["status".to_owned()]) } else { v }))
        .collect();
    // An empty value ends before its line break, a block after it.
    (format!("{}{}", &text[..range.start], text[range.end..].trim_start_matches(['\r', '\n'])), values)
}

fn check(name: &str, text: &str, document: u32) {
    let had = documents(text)[document as usize].value.as_ref().expect(name).get("status").is_some();
    let a = set_status(text, document, Some(&first_status())).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(documents(&a)[document as usize].value.as_ref().unwrap()["status"], first_status(), "{name}");
    if had {
        assert_eq!(outside(text, document), outside(&a, document), "{name}");
    } else {
        assert!(replaced_bytes(text, &a).is_empty(), "{name}: not a pure insertion:\n{a}");
        assert_eq!(outside(text, document).1, outside(&a, document).1, "{name}");
    }
    assert_eq!(set_status(&a, document, Some(&first_status())).unwrap(), a, "{name}: the same again");
    let b = set_status(&a, document, Some(&second_status())).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(documents(&b)[document as usize].value.as_ref().unwrap()["status"], second_status(), "{name}");
    assert_eq!(outside(&a, document), outside(&b, document), "{name}");
    assert_eq!(set_status(&b, document, Some(&first_status())).unwrap(), a, "{name}: there and back");
    if text.contains("\r\n") {
        assert_eq!(b.matches('\n').count(), b.matches("\r\n").count(), "{name}: mixed line ends");
    }
}

#[test]
fn a_status_changes_nothing_else() {
    let corpus = corpus();
    assert!(corpus.len() >= 40);
    for (name, text, document) in corpus {
        check(name, &text, document);
    }
}

#[test]
fn a_status_is_written_as_people_write() {
    let text =
        set_status("kind: Workspace # mine\n", 0, Some(&json!({"phase": "Running", "a": "yes", "b": "017", "c": true, "ports": [{"name": "x", "host": 1}]})))
            .unwrap();
    let expected = "kind: Workspace # mine\nstatus:\n  phase: Running\n  a: \"yes\"\n  b: \"017\"\n  c: true\n  ports:\n  - name: x\n    host: 1\n";
    assert_eq!(text, expected);
}

#[test]
fn what_would_be_harmed_is_refused_with_the_edit_to_make() {
    let refused = |text: &str, path: &[&str], value: Option<Value>| {
        let path: Vec<_> = path.iter().map(|key| (*key).to_owned()).collect();
        set_value(text, 0, &path, value.as_ref()).expect_err(text).to_string()
    };
    assert!(refused("spec: &s {state: Running}\ncopy: *s\n", &["spec", "state"], Some(json!("Stopped"))).contains("spec:\n  state: Stopped"));
    assert!(refused("base: &s {state: Running}\nspec: *s\n", &["spec", "state"], Some(json!("Stopped"))).contains("by hand"));
    assert!(refused("- a\n- b\n", &["status"], Some(json!({}))).contains("by hand"));
    assert!(refused("", &["status"], Some(json!({}))).contains("no such document"));
    assert!(refused("a: {\n", &["status"], Some(json!({}))).contains("cannot be read"));
    assert!(refused("a: 1\na: 2\n", &["status"], Some(json!({}))).contains("cannot be read"));
    assert!(refused("spec: text\n", &["spec", "state"], Some(json!("Stopped"))).contains("by hand"));
    assert!(refused("status: nothing # my note\na: 1\n", &["status"], Some(json!({"phase": "Running"}))).contains("by hand"));
}

#[test]
fn one_value_is_set_and_the_rest_stays() {
    let set = |text: &str, path: &str, value: Option<Value>| {
        let path: Vec<_> = path.split(' ').map(str::to_owned).collect();
        set_value(text, 0, &path, value.as_ref()).unwrap_or_else(|e| panic!("{text}: {e}"))
    };
    assert_eq!(set("a: 1\nstatus: x\n\n", "status", None), "a: 1\n\n");
    assert_eq!(set("a: 1\n\n\n", "a", None), "{}\n");
    let stopped = Some(json!("Stopped"));
    assert_eq!(set("spec:\n  state: Running # why\n  image: x\n", "spec state", stopped.clone()), "spec:\n  state: Stopped # why\n  image: x\n");
    assert_eq!(set("spec:\n  image: x # i\n# end\n", "spec state", stopped.clone()), "spec:\n  image: x # i\n  state: Stopped\n# end\n");
    assert_eq!(set("spec: {image: x}\n", "spec state", stopped.clone()), "spec: {image: x, state: Stopped}\n");
    assert_eq!(set("spec:\n    image: x\n", "spec state", stopped.clone()), "spec:\n    image: x\n    state: Stopped\n");
    assert_eq!(set("a: 1\n", "spec state", stopped.clone()), "a: 1\nspec:\n  state: Stopped\n");
    assert_eq!(set("spec:\na: 1\n", "spec state", stopped.clone()), "spec:\n  state: Stopped\na: 1\n");
    assert_eq!(
        set("metadata: {name: a}\n", "metadata annotations dockmaster/suspend", Some(json!("true"))),
        "metadata: {name: a, annotations: {dockmaster/suspend: \"true\"}}\n"
    );
    assert_eq!(
        set("metadata:\n  name: a\n  annotations: {x: y}\n", "metadata annotations dockmaster/restart", Some(json!("2026-01-01T00:00:00Z"))),
        "metadata:\n  name: a\n  annotations: {x: y, dockmaster/restart: \"2026-01-01T00:00:00Z\"}\n"
    );
    assert_eq!(set("spec:\n  a: 1\n  state: x\n  # c\n  b: 2\n", "spec state", None), "spec:\n  a: 1\n  # c\n  b: 2\n");
    assert_eq!(set("a: 1\n", "spec state", None), "a: 1\n", "removing what is not there");
    assert_eq!(set("a: 1\nstatus:\n  phase: x\n", "status", None), "a: 1\n");
    assert_eq!(set("status: x\na: 1\n", "status", None), "a: 1\n");
    assert_eq!(set("status: x # why\na: 1\n", "status", None), "a: 1\n");
    assert_eq!(set("spec:\n  state: x\n  b: 2\n", "spec state", None), "spec:\n  b: 2\n");
    assert_eq!(set("metadata:\n  annotations:\n    only: x\n  name: a\n", "metadata annotations only", None).matches("only").count(), 0);
}

#[test]
fn the_bytes_that_were_replaced_are_the_fewest_that_can_be() {
    for (old, new, replaced) in [
        ("", "a", 0..0),
        ("abc", "abc", 3..3),
        ("abc", "axc", 1..2),
        ("abc", "ac", 1..2),
        ("aa", "a", 1..2),
        ("a", "aa", 1..1),
        ("aaa", "aa", 2..3),
        ("ab", "", 0..2),
    ] {
        assert_eq!(replaced_bytes(old, new), replaced, "{old:?} to {new:?}");
    }
}

#[test]
fn documents_come_and_go_alone() {
    let three = "# one\na: 1\n---\n# two\nb: 2\n---\nc: 3\n";
    assert_eq!(remove_document(three, 1).unwrap().unwrap(), "# one\na: 1\n---\nc: 3\n");
    assert_eq!(remove_document(three, 2).unwrap().unwrap(), "# one\na: 1\n---\n# two\nb: 2\n");
    assert_eq!(documents(&remove_document(three, 0).unwrap().unwrap()).len(), 2);
    assert_eq!(remove_document("a: 1\n# end\n", 0).unwrap(), None);
    assert_eq!(remove_document("---\n# nothing\n---\na: 1\n", 1).unwrap(), None, "comments alone are no document");
    assert!(remove_document(three, 3).is_err());
    assert!(remove_document("%YAML 1.2\n---\na: 1\n...\n---\nb: 2\n", 0).unwrap().unwrap().contains("b: 2"));
    assert_eq!(put_document(three, 1, "x: 1\n").unwrap(), "# one\na: 1\n---\nx: 1\n---\nc: 3\n");
    assert_eq!(put_document("a: 1\r\n---\r\nb: 2\r\n", 1, "---\nx: 1").unwrap(), "a: 1\r\n---\r\nx: 1\r\n");
    assert_eq!(put_document("\u{feff}a: 1\n...\n", 0, "x: 1\n").unwrap(), "\u{feff}x: 1\n...\n");
    assert!(put_document(three, 1, "x: 1\n---\ny: 1\n").is_err());
    assert!(put_document(three, 1, "x: {\n").is_err());
    for (new, why) in [
        ("x: 1\n---\ny: 1\n", "is not exactly one document"),
        ("x: {\n", "is empty or cannot be read"),
        ("", "is empty or cannot be read"),
        ("# c\n", ""),
        ("x: 1\n---\n", "is not exactly one document"),
        ("x: 1\n---\n# c\n", "is not exactly one document"),
    ] {
        assert!(put_document(three, 1, new).unwrap_err().to_string().contains(why), "{new:?}");
        assert!(append_document(three, new).unwrap_err().to_string().contains(why), "{new:?}");
    }
    // Directives go with the document that they belong to.
    for directives in ["%YAML 1.2\n", "%YAML 1.2\n# mine\n", "%YAML 1.2\n\n"] {
        let text = format!("a: 1\n...\n{directives}---\nb: 2\n...\n---\nc: 3\n");
        assert_eq!(remove_document(&text, 1).unwrap().as_deref(), Some("a: 1\n...\n---\nc: 3\n"), "{directives:?}");
    }
    assert_eq!(append_document(three, "d: 4\n").unwrap(), (format!("{three}---\nd: 4\n"), 3));
    assert_eq!(append_document("a: 1", "d: 4").unwrap(), ("a: 1\n---\nd: 4\n".into(), 1));
    assert_eq!(append_document("", "d: 4").unwrap(), ("d: 4\n".into(), 0));
    assert_eq!(append_document("a: 1\n...\n", "d: 4").unwrap(), ("a: 1\n...\n---\nd: 4\n".into(), 1));
}

#[test]
fn a_text_without_status_reads_the_same_as_before() {
    for (name, text, document) in corpus() {
        let piece = &documents(&text)[document as usize];
        let alone = &text[piece.range.clone()];
        let with = set_status(alone, 0, Some(&first_status())).unwrap_or_else(|e| panic!("{name}: {e}"));
        let value = documents(&without_status(&with)).remove(0).value.unwrap();
        assert_eq!(value, without(piece.value.as_ref().unwrap(), &["status".to_owned()]), "{name}");
    }
}

/// Random documents: nested values, written in block or flow style, with comments and blank lines put between top-level entries.
fn any_document() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[ -~äß🚀\n]{0,20}".prop_map(Value::from),
        Just(Value::Null),
        prop::sample::select(vec!["yes", "017", "~", "# x", "a: b", "- x", "status:", "---", "..."]).prop_map(Value::from),
    ];
    let value = scalar.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,6}", inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    let entry = ("[a-r]{1,8}", value, any::<bool>(), prop::sample::select(vec!["", "\n", "# note\n", "# status: no\n\n"]));
    prop::collection::vec(entry, 1..5).prop_map(|entries| {
        let mut seen = std::collections::BTreeSet::new();
        let mut text = String::new();
        for (key, value, flow, gap) in entries {
            if seen.insert(key.clone()) {
                let block = render(&Value::Object([(key.clone(), value.clone())].into_iter().collect()));
                text += &if flow { format!("{key}: {value}\n") } else { block };
                text += gap;
            }
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn bytes_outside_status_are_identical(texts in prop::collection::vec(any_document(), 1..4), pick in any::<prop::sample::Index>(), crlf: bool, chop: bool) {
        let mut text = texts.join("---\n");
        if crlf { text = text.replace('\n', "\r\n"); }
        if chop { text.truncate(text.trim_end().len()); }
        let document = pick.index(texts.len()) as u32;
        let before = documents(&text);
        prop_assume!(before.len() == texts.len() && before[document as usize].value.is_some());
        // A refusal harms nothing; what is written must be right.
        if let Ok(a) = set_status(&text, document, Some(&first_status())) {
            prop_assert!(replaced_bytes(&text, &a).is_empty(), "{text:?}\n{a:?}");
            prop_assert_eq!(outside(&text, document).1, outside(&a, document).1);
            let b = set_status(&a, document, Some(&second_status())).unwrap();
            prop_assert_eq!(set_status(&b, document, Some(&first_status())).unwrap(), a);
        } else {
            prop_assert!(false, "refused: {text:?} {document}");
        }
    }
}

#[test]
fn a_broken_neighbour_does_not_move_the_edit() {
    // The quote that is not closed could be read as reaching into the third document.
    let text = "a: \"x\n---\nb: 1\n---\nc: \"y\n---\nd: 2\n";
    let status = serde_json::json!({"phase": "Running"});
    assert_eq!(set_status(text, 1, Some(&status)).unwrap(), text.replace("b: 1\n", "b: 1\nstatus:\n  phase: Running\n"));
    assert_eq!(set_status(text, 3, Some(&status)).unwrap(), format!("{text}status:\n  phase: Running\n"));
    assert!(set_status(text, 0, Some(&status)).is_err());
}

#[test]
fn a_document_that_cannot_be_read_is_not_taken_away_in_part() {
    // The syntax tree of the second ends before `t`, which would be left to the first and break it.
    let text = "a: {b: }\n---\n: \nt";
    assert_eq!(documents(text)[1].value, None);
    assert!(remove_document(text, 1).is_err());
    assert!(put_document(text, 1, "c: 1\n").is_err());
}
