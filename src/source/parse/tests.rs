//! Tests of the reader: good documents, and the words for bad ones.

use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::resource::Kind;
use crate::source::render::Severity;
use crate::source::{schema, splice};

const GOOD: &str = include_str!("good.yaml");

fn context(relative: &str) -> FileContext {
    FileContext::new("specs", Path::new("/srv/specs"), relative, None)
}

pub(super) fn read(text: &str) -> Parsed {
    parse_file(text, &context("alice/shop.yaml"))
}

/// All problems of a text, as people see them.
pub(super) fn told(text: &str) -> String {
    read(text).problems.iter().map(Problem::rendered).collect::<Vec<_>>().join("\n")
}

/// A workspace with these lines in its spec.
pub(super) fn workspace(spec: &str) -> String {
    let lines: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!("apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {{name: shop}}\nspec:\n{lines}")
}

/// The first lines of what is told of a workspace with these lines in its spec.
pub(super) fn faults(spec: &str) -> Vec<String> {
    first_lines(&workspace(spec), "alice/shop.yaml")
}

pub(super) fn first_lines(text: &str, relative: &str) -> Vec<String> {
    let parsed = parse_file(text, &context(relative));
    parsed.problems.iter().map(|problem| format!("{}:{}: {}; {}", problem.line, problem.column, problem.message, problem.help)).collect()
}

#[test]
fn good_documents_are_items() {
    let parsed = parse_file(GOOD, &context("good.yaml"));
    assert_eq!(parsed.problems.iter().map(Problem::rendered).collect::<Vec<_>>(), Vec::<String>::new());
    let names: Vec<_> = parsed.items.iter().map(|item| (item.origin.document, item.resource.reference().to_string())).collect();
    let expected = [(0, "workspace/shop -n alice"), (2, "workspacetype/acme"), (3, "tenant/alice"), (4, "preview/demo -n default")];
    assert_eq!(names, expected.map(|(document, name)| (document, name.to_owned())));
    assert!(parsed.items.iter().all(|item| item.directory == Path::new("/srv/specs")));
}

/// Documents that cannot be read.
const BROKEN: [&str; 9] = ["a: [", "a: \"x\n", "a:\n\tb: 1\n", "- 1\n", "a: *x\n", "kind: Workspace\n", "a: 1\na: 2\n", "? [x]\n: 1\n", "a: !x 1\n"];

#[test]
fn a_bad_document_does_not_affect_its_neighbours() {
    let good = workspace("image: nginx");
    for bad in BROKEN {
        let parsed = read(&format!("{bad}\n---\n{good}---\n{bad}\n---\n# nothing\n---\n{good}"));
        assert_eq!(parsed.items.iter().map(|item| item.origin.document).collect::<Vec<_>>(), [1, 4], "{bad}");
        assert_eq!(parsed.problems.iter().map(|problem| problem.origin.document).collect::<Vec<_>>(), [0, 2], "{bad}");
    }
}

#[test]
fn what_is_wrong_is_told_with_place_caret_and_help() {
    let text = workspace(concat!(
        "imgae: nginx\nports:\n  - {name: HTTP, container: 99999, publish: pool}\ncommand: npm run dev\nenv: {A: b}\nrestart: always\n",
        "init: yes\nmaxLifetime: 500ms\nstate: Runing\nservices:\n  db: {volume: {path: /data}}\nidle: 30m\n"
    ));
    insta::assert_snapshot!(told(&text), @r#"
specs/alice/shop.yaml:5:3: unknown field `imgae` in `spec`
 5 |   imgae: nginx
   |   ^^^^^
   = did you mean `image`?
specs/alice/shop.yaml:7:14: `spec.ports[0].name` is `HTTP`, which is not a DNS label: at most 63 lower-case letters, digits and `-`, with a letter or digit at both ends
 7 |     - {name: HTTP, container: 99999, publish: pool}
   |              ^^^^
   = did you mean `http`?
specs/alice/shop.yaml:7:31: `spec.ports[0].container` must be a whole number from 1 to 65535, not `99999`
 7 |     - {name: HTTP, container: 99999, publish: pool}
   |                               ^^^^^
   = write a whole number from 1 to 65535
specs/alice/shop.yaml:7:47: `spec.ports[0].publish` must be `None` or `Pool`, not `pool`
 7 |     - {name: HTTP, container: 99999, publish: pool}
   |                                               ^^^^
   = did you mean `Pool`?
specs/alice/shop.yaml:8:12: `spec.command` must be a list, not `npm run dev`
 8 |   command: npm run dev
   |            ^^^^^^^^^^^
   = write a list: `[npm, run, dev]`
specs/alice/shop.yaml:9:8: `spec.env` must be a list, not a mapping
 9 |   env: {A: b}
   |        ^^^^^^
   = write a list; each entry opens with `- `: `- {name: …, value: …}`
specs/alice/shop.yaml:10:12: `spec.restart` may not be `always`
 10 |   restart: always
    |            ^^^^^^
    = `always` would start a container again that a person or a policy stopped, whenever the engine starts; use `unless-stopped`, which does the same otherwise
specs/alice/shop.yaml:11:9: `spec.init` must be `true` or `false`, not `yes`
 11 |   init: yes
    |         ^^^
    = write `true`, without quotes
specs/alice/shop.yaml:12:16: `spec.maxLifetime`: `500ms` is not a duration of one second or more
 12 |   maxLifetime: 500ms
    |                ^^^^^
    = write it like `90s`, `30m`, `1h30m` or `7d`
specs/alice/shop.yaml:13:10: `spec.state` must be `Running` or `Stopped`, not `Runing`
 13 |   state: Runing
    |          ^^^^^^
    = did you mean `Running`?
specs/alice/shop.yaml:15:10: `spec.services.db` has no `image`
 15 |     db: {volume: {path: /data}}
    |          ^^^^^^
    = add `image`: the image
specs/alice/shop.yaml:16:9: `spec.idle` must be a mapping, not `30m`
 16 |   idle: 30m
    |         ^^^
    = write fields below it, such as `timeout`, `network` or `check`
"#);
}

#[test]
fn syntax_errors_say_what_to_do() {
    insta::assert_snapshot!(told("apiVersion: dockmaster/v1\nspec:\n\timage: nginx\n---\ncommand: echo: hello\n---\nname: @shop\n---\nenv: [a, b\nports: []\n---\nuse: *nothing\n"), @r#"
specs/alice/shop.yaml:3:1: not valid YAML: tabs disallowed within this context (block indentation)
 3 |  image: nginx
   | ^
   = YAML is indented with spaces; replace the tab
specs/alice/shop.yaml:5:14: not valid YAML: mapping values are not allowed in this context
 5 | command: echo: hello
   |              ^
   = put a value that contains `: ` in quotes, or check the indentation of this line
specs/alice/shop.yaml:7:7: not valid YAML: unexpected character: `@'
 7 | name: @shop
   |       ^
   = put text that opens with this character in quotes
specs/alice/shop.yaml:10:6: not valid YAML: illegal placement of ':' indicator
 10 | ports: []
    |      ^
    = check indentation, quotes and brackets here and in the lines before
specs/alice/shop.yaml:12:6: not valid YAML: while parsing node, found unknown anchor
 12 | use: *nothing
    |      ^
    = define it before with `&name`, or put text that opens with `*` in quotes
"#);
    insta::assert_snapshot!(told("a: 1\na: 2\n---\na: !custom x\n---\n? [a]\n: b\n---\n<<: 1\n"), @r#"
specs/alice/shop.yaml:2:1: the key `a` stands here twice
 2 | a: 2
   | ^
   = remove one of them
specs/alice/shop.yaml:4:12: the tag `!custom` has no meaning here
 4 | a: !custom x
   |            ^
   = remove the tag
specs/alice/shop.yaml:6:3: a list cannot be a key
 6 | ? [a]
   |   ^^^
   = keys are single words or texts
specs/alice/shop.yaml:9:1: `<<` merges mappings, and this is none
 9 | <<: 1
   | ^^
   = name the anchor of a mapping: `<<: *name`
"#);
}

#[test]
fn the_envelope_is_looked_at_first() {
    insta::assert_snapshot!(told(concat!(
        "apiVersion: v1\nkind: ConfigMap\n---\nkind: Workspace\n---\napiVersion: dockmaster/v2\nkind: Workspace\n---\napiVersion: dockmastr/v1\n---\n",
        "apiVersion: dockmaster/v1\nkind: Worksapce\n---\napiVersion: dockmaster/v1\nkind: Secret\n---\napiVersion: dockmaster/v1\n---\nhello\n---\n",
        "apiVersion: dockmaster/v1\nkind: Workspace\n---\napiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {name: a}\nimage: nginx\n"
    )), @r#"
specs/alice/shop.yaml:1:13: warning: apiVersion `v1` is not dockmaster's; the document is skipped
 1 | apiVersion: v1
   |             ^^
   = keep it elsewhere, or write `apiVersion: dockmaster/v1`
specs/alice/shop.yaml:4:1: the document has no `apiVersion`
 4 | kind: Workspace
   | ^
   = open it with `apiVersion: dockmaster/v1`; a file whose name starts with `_` is skipped
specs/alice/shop.yaml:6:13: this version of dockmaster does not know apiVersion `dockmaster/v2`
 6 | apiVersion: dockmaster/v2
   |             ^^^^^^^^^^^^^
   = did you mean `dockmaster/v1`?
specs/alice/shop.yaml:9:13: unknown apiVersion `dockmastr/v1`
 9 | apiVersion: dockmastr/v1
   |             ^^^^^^^^^^^^
   = did you mean `dockmaster/v1`?
specs/alice/shop.yaml:12:7: unknown kind `Worksapce`
 12 | kind: Worksapce
    |       ^^^^^^^^^
    = did you mean `Workspace`?
specs/alice/shop.yaml:15:7: this version of dockmaster does not know kind `Secret` yet
 15 | kind: Secret
    |       ^^^^^^
    = remove the document; the kinds are `Workspace`, `Preview`, `WorkspaceType` or `Tenant`
specs/alice/shop.yaml:17:1: the document has no `kind`
 17 | apiVersion: dockmaster/v1
    | ^
    = add `kind:` with `Workspace`, `Preview`, `WorkspaceType` or `Tenant`
specs/alice/shop.yaml:19:1: a document must be a mapping with `apiVersion` and `kind`, not `hello`
 19 | hello
    | ^^^^^
    = open it with `apiVersion: dockmaster/v1`
specs/alice/shop.yaml:21:1: the document has no `metadata`
 21 | apiVersion: dockmaster/v1
    | ^^^^^^^^^^
    = add `metadata`: name, namespace, labels and annotations
specs/alice/shop.yaml:27:1: unknown field `image` in the document
 27 | image: nginx
    | ^^^^^
    = `image` belongs below `spec`
"#);
    let severities: Vec<_> = read("apiVersion: v1\n---\nkind: x\n").problems.into_iter().map(|problem| problem.severity).collect();
    assert_eq!(severities, [Severity::Warning, Severity::Error]);
}

#[test]
fn scalars_are_what_the_schema_asks_for() {
    let parsed = read(&workspace("command: [no, off, 017, 1.10, true, 0x1F, \"\"]\nresources: {cpu: 0.5, memory: 512Mi, pids: 100}\ninit: TRUE\nenv:"));
    let crate::resource::Resource::Workspace(object) = &parsed.items[0].resource else { panic!() };
    let value = serde_json::to_value(&object.spec);
    assert_eq!(
        value.unwrap(),
        serde_json::json!({
            "command": ["no", "off", "017", "1.10", "true", "0x1F", ""],
            "resources": {"cpu": "0.5", "memory": "512m", "pids": 100}, "init": true,
        })
    );
    assert_eq!(
        faults("command: [~]\nresources: {pids: 017}"),
        [
            "5:13: `spec.command[0]` must be text, not nothing; give it a value, or remove the field",
            "6:21: `spec.resources.pids` must be a whole number of at least 1, not `017`; remove the leading zeros",
        ]
    );
}

#[test]
fn anchors_aliases_and_merge_keys_work() {
    let text = "apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {name: shop}\nspec:\n  resources: &small {cpu: 1, memory: 1g}\n  services:\n    db: &base {image: postgres, resources: *small}\n    cache:\n      <<: *base\n      image: redis\n    more: {<<: [{user: a}, *base]}\n";
    let parsed = read(text);
    let crate::resource::Resource::Workspace(object) = &parsed.items[0].resource else { panic!() };
    let images: Vec<_> =
        object.spec.services.iter().map(|(name, service)| (name.as_str(), service.image.as_str(), service.resources == object.spec.resources)).collect();
    assert_eq!(images, [("cache", "redis", true), ("db", "postgres", true), ("more", "postgres", true)]);
}

#[test]
fn marks_line_ends_and_encodings() {
    let text = workspace("image: nginx");
    let plain = read(&text);
    for other in [format!("\u{feff}{text}"), text.replace('\n', "\r\n"), text.trim_end().to_owned(), format!("%YAML 1.2\n---\n{text}...\n")] {
        let parsed = read(&other);
        assert_eq!(parsed.items[0].digest, plain.items[0].digest, "{other:?}");
    }
    let wrong = read(&format!("\u{feff}{}", text.replace("image", "imgae")).replace('\n', "\r\n"));
    assert_eq!((wrong.problems[0].line, wrong.problems[0].column), (5, 3));
    assert!(!wrong.problems[0].rendered().contains('\r'));
    let utf16: Vec<u8> = [0xff, 0xfe, b'a', 0].into();
    for (bytes, message) in [(utf16, "the file is UTF-16, not UTF-8"), (vec![b'a', 0xff], "the file is not UTF-8 text (byte 1)")] {
        assert_eq!(parse_bytes(&bytes, &context("a.yaml")).problems[0].message, message);
    }
    let long = "#".repeat(MAX_FILE_BYTES as usize + 1);
    assert_eq!(parse_bytes(long.as_bytes(), &context("a.yaml")).problems[0].message, "the file is longer than 256 KiB");
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let text = told("apiVersion: \"dockmaster/v1\"\nkind: \"\\e[31mred\u{9b}\"\n");
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
}

#[test]
fn bombs_are_refused_before_they_go_off() {
    let level = |n: usize| format!("l{n}: &l{n} [{}]\n", vec![format!("*l{}", n - 1); 9].join(","));
    let aliases = format!("l0: &l0 [x]\n{}", (1..10).map(level).collect::<String>());
    let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(30_000), vec!["*a"; 100].join(","));
    let merges = format!("a: &a {{{}}}\nb: {{<<: [{}]}}\n", (0..200).map(|n| format!("k{n}: 1")).collect::<Vec<_>>().join(", "), vec!["*a"; 200].join(","));
    let deep = format!("a: &a {}1{}\nb: {}*a{}\n", "[".repeat(50), "]".repeat(50), "[".repeat(50), "]".repeat(50));
    for (bomb, message) in [
        (aliases, "the document has more than 20000 values, aliases followed"),
        (merges, "the document has more than 20000 values, aliases followed"),
        (text, "the document has more than 1024 KiB of text, aliases followed"),
        (deep, "more than 64 mappings and lists inside each other"),
        ("[".repeat(100_000), "more than 64 mappings and lists inside each other"),
        ("- ".repeat(1000), "more than 64 mappings and lists inside each other"),
        ("a: &a [*a]\n".into(), "this alias is inside of what it names"),
        ("---\n".repeat(1001), "the file has more than 1000 documents"),
    ] {
        let problems = read(&bomb).problems;
        assert_eq!(problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>(), [message]);
    }
}

#[test]
fn at_most_twenty_problems_are_told_of_a_document() {
    let fields: String = (10..40).map(|n| format!("zzzzzzzz{n}: 1\n")).collect();
    assert_eq!(read(&"a: 1\n".repeat(100)).problems.len(), 20);
    let problems = read(&workspace(&fields)).problems;
    assert_eq!(problems.len(), 20);
    assert_eq!(problems.iter().map(|problem| problem.line).collect::<Vec<_>>(), (5..25).collect::<Vec<_>>());
    assert!(problems[19].help.ends_with("; 10 more are wrong in this document, shown when these are right"));
}

#[test]
fn what_a_type_cannot_say_is_checked() {
    for (spec, expected) in [
        (
            "mounts: [{path: /a}]",
            "5:12: the mount of `/a` does not say what is mounted; add exactly one of `volume`, `sharedVolume`, `externalVolume`, `host` and `tmpfs`",
        ),
        (
            "mounts: [{volume: a, tmpfs: 1m, path: /a}]",
            "5:12: the mount of `/a` names several things; keep exactly one of `volume`, `sharedVolume`, `externalVolume`, `host` and `tmpfs`",
        ),
        ("mounts: [{volume: a, path: a}]", "5:30: `spec.mounts[0].path` is `a`; write an absolute path: it begins with `/`"),
        ("mounts: [{volume: a, path: /a/../b}]", "5:30: `spec.mounts[0].path` is `/a/../b`; write it without `.`, `..`, `//` and without `/` at its end"),
        ("mounts: [{volume: a, path: /proc/x}]", "5:30: `spec.mounts[0].path` is `/proc/x`; mount elsewhere: the system itself lives here"),
        ("mounts: [{volume: a, path: /a}, {volume: b, path: /a}]", "5:53: two mounts have the path `/a`; change or remove one of them"),
        (
            "mounts: [{volume: A_b, path: /a}]",
            "5:21: `spec.mounts[0].volume` is `A_b`; write a DNS label: at most 63 lower-case letters, digits and `-`, with a letter or digit at both ends",
        ),
        ("mounts: [{tmpfs: 0, path: /a}]", "5:20: a memory file system needs a size; write one such as `64m`"),
        ("mounts: [{host: \"\", path: /a}]", "5:19: `spec.mounts[0].host` is no path; name a directory, absolute or relative to this file"),
        ("ports: [{name: a, container: 1}, {name: a, container: 2}]", "5:43: the port name `a` stands here twice; change or remove one of them"),
        (
            "ports: [{name: a, container: 1}, {name: b, container: 1, protocol: tcp}]",
            "5:57: the container port 1/tcp stands here twice; change or remove one of them",
        ),
        (
            "ports: [{name: a, container: 1, publish: 80}, {name: b, container: 2, publish: 80}]",
            "5:82: the host port 80/tcp stands here twice; change or remove one of them",
        ),
        ("env: [{name: A, value: a}, {name: A, value: b}]", "5:37: the variable `A` stands here twice; change or remove one of them"),
        ("env: [{name: A}]", "5:9: the variable `A` has no value; add `value: \"\"` for an empty one"),
        ("env: [{name: A, value: a, secret: {name: a, key: b}}]", "5:9: the variable `A` has a `value` and a `secret`; remove one of them"),
        (
            "runningHours: {days: Mon-Fry, from: \"08:00\", to: \"19:00\"}",
            "5:24: `spec.runningHours.days`: `Mon-Fry` is no list of days; write it like `Mon-Fri`, `Sat,Sun` or `Mon-Wed,Fri`",
        ),
        (
            "runningHours: {from: \"8:00\", to: \"19:00\"}",
            "5:24: `spec.runningHours.from` is `8:00`, which is not a time of day such as `\"08:00\"` or `\"23:30\"`; change it",
        ),
        (
            "runningHours: {from: 08:00, to: 19:00, timeZone: Europe/Berln}",
            "5:52: `spec.runningHours.timeZone`: `Europe/Berln` is no time zone; write a name of the IANA database such as `Europe/Berlin` or `UTC`",
        ),
        ("health: {test: [curl, x]}", "5:19: a health test begins with `CMD`, `CMD-SHELL` or `NONE`, not `curl`; write `[CMD, curl, x]`"),
        ("health: {test: [CMD]}", "5:12: a health test of `CMD` names a program; write `[CMD, program, argument]`"),
        ("img: a", "5:3: unknown field `img` in `spec`; did you mean `image`?"),
        ("services: {db: {image: a, dependsOn: [bd]}}", "5:41: there is no service named `bd`; did you mean `db`?"),
        (
            "services: {a: {image: a, dependsOn: [b]}, b: {image: b, dependsOn: [a]}}",
            "5:28: services wait for each other in a circle: a → b → a; remove one of these dependencies",
        ),
        ("services: {shop: {image: a}}", "5:14: the service `shop` has the name of its workspace; rename it: both are found by their names on one network"),
        (
            "services: {Db: {image: a}}",
            "5:14: `spec.services.Db` is `Db`; write a DNS label: at most 63 lower-case letters, digits and `-`, with a letter or digit at both ends",
        ),
        ("services: {db: {}}", "5:18: `spec.services.db` has no `image`; add `image`: the image"),
        ("ports: [{name: http, container: 1}]\nroute: {port: htpp}", "6:17: there is no port named `htpp`; did you mean `http`?"),
        ("user: \"a b\"", "5:9: `spec.user` is `a b`; write `name`, `uid`, `name:group` or `uid:gid`"),
        ("stopSignal: SIGTREM", "5:15: unknown signal `SIGTREM`; did you mean `SIGTERM`?"),
        ("workingDir: app", "5:15: `spec.workingDir` is `app`; write an absolute path: it begins with `/`"),
        ("image: Acme/shop", "5:10: `spec.image` is `Acme/shop`; write the path of the image in lower case"),
        ("image: https://acme/shop", "5:10: `spec.image` is `https://acme/shop`; remove the scheme: `host/path:tag`"),
        ("command: [\"\", a]", "5:13: `spec.command` begins with an empty word; name the program first"),
        ("command: [\"a\\0b\"]", "5:13: `spec.command[0]` contains a NUL character; remove it"),
        ("resources: {memory: 512}", "5:23: `512` of memory is less than Docker accepts; give at least `6m`; a unit may be missing, as in `512m`"),
        ("networks: [host]", "5:14: `spec.networks[0]` is `host`; name a network of its own: the engine's built-in ones are not isolated"),
        ("security: {dropCapabilities: [CAP_CHOWN]}", "5:33: `spec.security.dropCapabilities[0]` is `CAP_CHOWN`; write it without `CAP_`"),
        ("hooks: {preStop: []}", "5:11: the hook `preStop` is empty; write `[program, argument]`, or remove it"),
        ("idle: {check: {exec: []}}", "5:24: `spec.idle.check.exec` may not be empty; add an entry, or remove the field"),
    ] {
        assert_eq!(faults(spec), [expected], "{spec}");
    }
    let long = format!("env: [{{name: A, value: {}}}]", "x".repeat(33_000));
    assert!(faults(&long)[0].starts_with("5:26: `spec.env[0].value` is longer than 32 KiB"));
}

#[test]
fn metadata_previews_and_types_are_checked() {
    let preview = |spec: &str| format!("apiVersion: dockmaster/v1\nkind: Preview\nmetadata: {{name: p}}\nspec: {{{spec}}}\n");
    let labelled = |metadata: &str| format!("apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {{name: a, {metadata}}}\n");
    let type_ = "apiVersion: dockmaster/v1\nkind: WorkspaceType\nmetadata: {name: t}\nspec: {base: t}\n".to_owned();
    for (text, expected) in [
        (preview(""), "4:1: a Preview needs a `workspace` or an `image`; name the workspace that it copies: `workspace: <name>`"),
        (preview("workspace: a, image: b"), "4:29: a Preview is of a workspace or of an image, not of both; remove `workspace` or `image`"),
        (preview("workspace: a, ttl: 1h, expiresAt: 2030-01-01T00:00:00Z"), "4:42: `ttl` and `expiresAt` cannot stand together; remove one of them"),
        (
            preview("workspace: a, expiresAt: tomorrow"),
            "4:33: `spec.expiresAt` must be an instant, not `tomorrow`; write it as RFC 3339, such as `2027-01-31T18:00:00Z`",
        ),
        (preview("image: a, copy: Volume"), "4:24: a Preview of an image has no volumes to copy; remove `copy`"),
        (
            labelled("labels: {dockmaster.uid: x}"),
            "3:30: the label `dockmaster.uid` is the operator's own; choose a name that does not begin with `dockmaster.`",
        ),
        (
            labelled("annotations: {dockmaster/suspend: yes}"),
            "3:55: `dockmaster/suspend` must be `\"true\"` or `\"false\"`, not `yes`; write `\"true\"` to take the operator's hands off",
        ),
        (labelled("annotations: {dockmaster/suspnd: x}"), "3:35: unknown annotation `dockmaster/suspnd`; did you mean `dockmaster/suspend`?"),
        (type_, "4:14: the type `t` builds on itself; name another type, or rename this one"),
    ] {
        assert_eq!(first_lines(&text, "root.yaml"), [expected], "{text}");
    }
}

#[test]
fn the_place_of_a_file_decides_the_namespace() {
    let of = |relative: &str, pinned: Option<&str>, kind: &str, namespace: &str| {
        let text = format!("apiVersion: dockmaster/v1\nkind: {kind}\nmetadata: {{name: a{namespace}}}\n");
        let parsed = parse_file(&text, &FileContext::new("specs", Path::new("/srv/specs"), relative, pinned));
        let found = parsed.items.first().map(|item| item.resource.reference().to_string());
        found.unwrap_or_else(|| parsed.problems.iter().map(|problem| format!("{}: {}", problem.line, problem.message)).collect::<Vec<_>>().join("\n"))
    };
    assert_eq!(of("a.yaml", None, "Workspace", ""), "workspace/a -n default");
    assert_eq!(of("a.yaml", None, "Workspace", ", namespace: bob"), "workspace/a -n bob");
    assert_eq!(of("alice/x/a.yaml", None, "Workspace", ""), "workspace/a -n alice");
    assert_eq!(of("alice/a.yaml", Some("bob"), "Workspace", ""), "workspace/a -n bob");
    assert_eq!(of("alice/a.yaml", None, "Workspace", ", namespace: bob"), "3: namespace `bob` differs from `alice`, which its directory says");
    assert!(of("Alice/a.yaml", None, "Workspace", "").starts_with("3: `Alice` cannot be a namespace"));
    assert_eq!(of("a.yaml", None, "Tenant", ""), "tenant/a");
    assert_eq!(of("a.yaml", None, "Tenant", ", namespace: bob"), "3: a Tenant belongs to no namespace");
    assert_eq!(of("alice/a.yaml", None, "WorkspaceType", ""), "2: a WorkspaceType belongs to no namespace, but this file belongs to namespace `alice`");
    assert_eq!(of("a.yaml", Some("bob"), "Tenant", ""), "2: a Tenant belongs to no namespace, but this file belongs to namespace `bob`");
}

#[test]
fn errors_of_meaning_are_told_beside_errors_of_structure() {
    assert_eq!(faults("state: Runing\nuser: \"a b\"").len(), 2);
    // That a mount says nothing only follows from the misspelt field.
    assert_eq!(faults("mounts: [{volum: a, path: /a}]").len(), 1);
}

#[test]
fn the_digest_is_of_what_is_asked_for() {
    let digest = |text: &str| read(text).items[0].digest.clone();
    let text = workspace("image: nginx\nenv: [{name: A, value: a}]\nresources: {cpu: 1, memory: 1g}");
    let same = "# c\nkind: Workspace\nspec: {resources: {memory: 1024m, cpu: \"1\"}, env: [{value: a, name: A}], image: nginx}\nmetadata: {name: shop, namespace: alice}\napiVersion: dockmaster/v1\nstatus: {phase: Running}\n";
    assert_eq!(digest(&text), digest(same));
    assert_ne!(digest(&text), digest(&text.replace("nginx", "caddy")));
    assert_ne!(digest(&text), digest(&text.replace("{name: shop}", "{name: shop, labels: {a: b}}")));
}

#[test]
fn the_text_is_the_document_without_status() {
    let spec = "# mine\napiVersion: dockmaster/v1\nkind: Workspace # yes\nmetadata: {name: shop}\n";
    for (text, expected) in [
        (spec.to_owned(), spec.to_owned()),
        (format!("{spec}status:\n  phase: Running\n"), spec.to_owned()),
        (format!("--- # x\n{spec}status:\n  phase: Running\n---\n"), format!("# x\n{spec}")),
    ] {
        assert_eq!(read(&text).items[0].text, expected);
        assert_eq!(read(&expected).items[0].digest, read(&text).items[0].digest);
    }
}

#[test]
fn documents_are_counted_as_the_writer_counts_them() {
    for text in [
        "",
        "# c\n",
        "---\n# c\n---\na: 1\n",
        "# head\na: 1\n",
        "# head\n---\na: 1\n",
        "a: 1\n---\n",
        "a: 1\n---\n---\nb: 2\n",
        "a: 1\n...\n",
        "a: 1\n...\n---\nb: 1\n",
        "%YAML 1.2\n---\na: 1\n...\n# x\n---\nb: 1\n# t\n",
        "a: 1\n---\n# x\n",
        "\u{feff}a: 1\n",
        "---\n---\n---\n",
        "...\na: 1\n",
        "a: 1\n---\n~\n---\nb: 1",
        "a: 1\n...\n...\nb: 1\n",
        "--- # x\na: 1\n---\n\n\n---\nb: 1\n",
        "a: 1\n...\n# c\n",
        "a: |\n  x\n---\nb: 1",
        "--- a\n--- b\n",
    ] {
        let ours: Vec<bool> = documents(text.strip_prefix('\u{feff}').unwrap_or(text), Builder::default)
            .iter()
            .map(|document| document.tree.as_ref().is_ok_and(|tree| !tree.is_null()))
            .collect();
        let theirs: Vec<bool> = splice::documents(text).iter().map(|piece| piece.value.as_ref().is_some_and(|value| !value.is_null())).collect();
        assert_eq!(ours, theirs, "{text:?}");
    }
}

/// The writer finds a good document behind broken ones at the same position, so that it never edits another one.
#[test]
fn broken_documents_are_counted_as_the_writer_counts_them() {
    for bad in BROKEN {
        let text = format!("{bad}\n---\ngood: 1\n---\n{bad}\n---\n# nothing\n---\ngood: 2\n");
        let ours: Vec<usize> = documents(&text, Builder::default)
            .iter()
            .enumerate()
            .filter(|(_, document)| document.tree.as_ref().is_ok_and(|tree| tree.get("good").is_some()))
            .map(|(index, _)| index)
            .collect();
        let theirs: Vec<usize> = splice::documents(&text)
            .iter()
            .enumerate()
            .filter(|(_, piece)| piece.value.as_ref().is_some_and(|value| value.get("good").is_some()))
            .map(|(index, _)| index)
            .collect();
        assert_eq!(ours, theirs, "{bad}");
        assert_eq!(ours, [1, 4], "{bad}");
        assert_eq!(pieces(&text).into_iter().map(|range| &text[range]).collect::<String>(), text);
    }
}

/// What a general validator says of the value that the tree stands for. A status is never an input, whatever it holds.
fn is_valid(kind: Kind, value: &serde_json::Value) -> bool {
    static VALIDATORS: LazyLock<Vec<(Kind, jsonschema::Validator)>> =
        LazyLock::new(|| Kind::WRITTEN.iter().map(|kind| (*kind, jsonschema::validator_for(schema::schema(*kind)).unwrap())).collect());
    let mut value = value.clone();
    value.as_object_mut().unwrap().remove("status");
    VALIDATORS.iter().find(|(known, _)| *known == kind).unwrap().1.is_valid(&value)
}

#[test]
fn the_schema_in_files_accepts_what_is_accepted() {
    for document in documents(GOOD, Builder::default) {
        let Some(tree) = document.tree.ok().filter(|tree| !tree.is_null()) else { continue };
        let kind: Kind = tree.get("kind").unwrap().text().unwrap().parse().unwrap();
        let value = crate::source::structure::check(schema::schema(kind), &tree).value.unwrap();
        assert!(is_valid(kind, &value), "{value}");
        // As an editor sees it: scalars by YAML's own rules.
        assert!(is_valid(kind, &crate::source::structure::untyped(&tree)), "{value}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in "([-a-z:{}\\[\\]#&*!|>'\"%@`,? \t\r\n\\u{feff}\\u{1F600}0-9]|---\n|\\.\\.\\.\n|: |- ){0,80}") {
        for problem in read(&text).problems {
            problem.rendered();
        }
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        parse_bytes(&bytes, &context("a.yaml"));
    }

    /// A good file with a piece replaced never panics, and what is still accepted satisfies the schema in files and the types.
    #[test]
    fn no_mutation_panics(at in any::<prop::sample::Index>(), length in 0usize..30, piece in prop_oneof![
        Just("---\n"), Just("null"), Just("[]"), Just("{}"), Just(": "), Just("\n"), Just("- "), Just("&a "), Just("*a"), Just("\t"), Just("99999999999999999999"),
        Just("é"), Just("'"), Just("\""), Just("<<: "), Just("!!str "), Just("~"), Just("-1"), Just("0.5"), Just("x"), Just("")
    ]) {
        let characters: Vec<char> = GOOD.chars().collect();
        let from = at.index(characters.len());
        let until = (from + length).min(characters.len());
        let text: String = characters[..from].iter().copied().chain(piece.chars()).chain(characters[until..].iter().copied()).collect();
        let parsed = parse_file(&text, &context("good.yaml"));
        for problem in &parsed.problems {
            let opening = format!("specs/good.yaml:{}:{}: ", problem.line, problem.column);
            prop_assert!(problem.rendered().starts_with(&opening));
            prop_assert!(!problem.message.contains("cannot be read"), "the structure let through what the types refuse: {}", problem.rendered());
        }
        for document in documents(&text, Builder::default) {
            let Some(tree) = document.tree.ok().filter(|tree| !tree.is_null()) else { continue };
            let Some(kind) = tree.get("kind").and_then(Node::text).and_then(|kind| kind.parse::<Kind>().ok()).filter(|kind| Kind::WRITTEN.contains(kind)) else { continue };
            let checked = crate::source::structure::check(schema::schema(kind), &tree);
            if let Some(value) = checked.value.filter(|_| checked.findings.is_empty()) {
                prop_assert!(is_valid(kind, &value), "{}", value);
            }
        }
    }
}
