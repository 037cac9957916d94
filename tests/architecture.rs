//! Who may name whom: the rules of docs/architecture.md, read from the source text.
//!
//! A file is read as tokens; every path in it, in a `use` or in line, counts. Parts that are only compiled for tests are exempt.

#![expect(clippy::unwrap_used, reason = "in a test a surprise is to be loud")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Each module with those that it may name besides itself.
const MODULES: &[(&str, &[&str])] = &[
    ("resource", &[]),
    ("tenancy", &["resource"]),
    ("state", &["resource"]),
    ("observed", &["resource", "desired"]),
    ("desired", &["resource", "observed", "state", "tenancy"]),
    ("planner", &["resource", "desired", "observed", "state"]),
    ("status", &["resource", "desired", "observed", "planner", "state"]),
    ("source", &["resource", "status"]),
    ("config", &["resource", "desired", "source"]),
    ("runtime", &["resource", "desired", "observed", "planner"]),
    ("executor", &["resource", "observed", "planner", "runtime"]),
    ("helper", &[]),
    ("controller", &["resource", "tenancy", "state", "observed", "desired", "planner", "status", "source", "config", "runtime", "executor"]),
    ("http", &["resource", "state", "controller"]),
    ("cli", &["resource", "state", "observed", "desired", "planner", "source", "config", "runtime", "http"]),
    ("main", &["cli", "helper", "wiring"]),
    ("wiring", &["resource", "state", "observed", "planner", "status", "source", "config", "runtime", "controller", "http", "cli"]),
];

/// Adapters: named by `wiring` and inside their own module alone.
const ADAPTERS: &[&str] = &["runtime::docker", "runtime::simulated", "state::sqlite", "state::memory", "state::overlay", "source::sink"];

/// Modules without IO, clock, randomness, concurrency or logging: the same input gives the same answer.
const PURE: &[&str] = &["resource", "desired", "observed", "planner", "tenancy"];

/// What a pure module may not name, as the end of a path or the whole of a word.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::env",
    "std::io",
    "std::process",
    "std::thread",
    "std::sync::Mutex",
    "std::sync::RwLock",
    "std::sync::atomic",
    "std::sync::mpsc",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "Timestamp::now",
    "Zoned::now",
    "Uuid::now_v7",
    "Uuid::new_v4",
    "HashMap",
    "HashSet",
    "async",
    "await",
];

/// Crates that any module may use: values and errors.
const VALUES: &[&str] = &["serde", "serde_json", "thiserror", "jiff"];

/// Every other dependency with the places that may name it; a place is the beginning of a path below `src/`.
const OWNERS: &[(&str, &[&str])] = &[
    // The engine's API, and what only its adapter needs.
    ("bollard", &["runtime/docker/"]),
    ("tar", &["runtime/docker/", "runtime/simulated/"]),
    ("base64", &["runtime/docker/", "runtime/simulated/"]),
    // YAML: one reader, one writer.
    ("granit_parser", &["source/parse.rs"]),
    ("serde_saphyr", &["source/splice.rs"]),
    ("yaml_edit", &["source/splice.rs"]),
    ("notify", &["source/directory/"]),
    ("sqlx", &["state/sqlite.rs"]),
    ("tempfile", &["state/backup.rs", "wiring/"]),
    // People.
    ("clap", &["cli/"]),
    ("clap_complete", &["cli/"]),
    ("comfy_table", &["cli/"]),
    ("anstream", &["cli/"]),
    ("owo_colors", &["cli/"]),
    ("tracing_subscriber", &["wiring/"]),
    // HTTP: the control socket, the helper's file server, the way to an engine in memory, and that engine.
    ("axum", &["http/", "helper/"]),
    ("hyper", &["http/", "helper/", "runtime/"]),
    ("hyper_util", &["http/", "helper/", "runtime/"]),
    ("http_body_util", &["http/", "helper/", "runtime/simulated/"]),
    ("tower_http", &["helper/"]),
    ("percent_encoding", &["helper/"]),
    ("bytes", &["cli/", "http/", "runtime/"]),
    // Values of one purpose.
    ("schemars", &["resource/", "source/"]),
    ("humantime", &["resource/"]),
    ("uuid", &["resource/", "controller/"]),
    ("sha2", &["desired/", "source/", "state/", "runtime/docker/"]),
    ("strsim", &["desired/", "source/"]),
    // Doing.
    ("tokio", &["cli/", "controller/", "executor/", "helper/", "http/", "runtime/", "source/", "state/", "status/", "wiring/", "main.rs"]),
    ("tokio_util", &["cli/", "controller/", "http/", "runtime/", "status/", "wiring/"]),
    ("tokio_stream", &["cli/", "http/", "runtime/", "source/"]),
    ("futures", &["cli/", "controller/", "executor/", "http/", "runtime/", "source/", "state/", "status/", "wiring/"]),
    ("tracing", &["controller/", "runtime/", "source/", "status/", "wiring/"]),
    ("rand", &["source/directory/", "wiring/"]),
    ("rustix", &["cli/", "helper/", "runtime/docker/", "source/", "state/", "wiring/"]),
];

/// The longest file, and the longest of tests.
const LINES: usize = 600;
const TEST_LINES: usize = 700;

#[test]
fn every_module_names_only_what_it_may() {
    let dependencies = dependencies();
    let mut found = Vec::new();
    for (path, text) in sources() {
        found.extend(violations(&path, &text, &dependencies));
    }
    assert!(found.is_empty(), "{} broken rules:\n{}\nSee docs/architecture.md.", found.len(), found.join("\n"));
}

#[test]
fn every_module_and_every_dependency_is_in_the_tables() {
    let tops: BTreeSet<String> = sources().keys().map(|path| top(path).to_owned()).filter(|top| top != "lib").collect();
    let listed: BTreeSet<String> = MODULES.iter().map(|(module, _)| (*module).to_owned()).collect();
    assert_eq!(tops, listed, "modules, and the table of modules");
    let owned: BTreeSet<String> = OWNERS.iter().map(|(name, _)| *name).chain(VALUES.iter().copied()).map(str::to_owned).collect();
    assert_eq!(dependencies(), owned, "dependencies of Cargo.toml, and the tables of who may use them");
    let text: String = sources().into_values().collect();
    for name in owned {
        assert!(text.contains(&format!("{name}::")), "the dependency {name} is not used");
    }
}

#[test]
fn the_documentation_has_the_same_table() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md")).unwrap();
    let row = |module: &str| text.lines().find(|line| line.starts_with(&format!("| `{module}`"))).unwrap_or_else(|| panic!("docs/architecture.md: {module}"));
    for (module, allowed) in MODULES.iter().filter(|(module, _)| !["main", "wiring"].contains(module)) {
        let wanted = if allowed.is_empty() { "nothing".to_owned() } else { allowed.join(", ") };
        assert!(row(module).ends_with(&format!("| {wanted} |")), "docs/architecture.md says of `{module}`: {}; the rule is: {wanted}", row(module));
    }
    for adapter in ADAPTERS {
        assert!(text.contains(&format!("`{adapter}`")), "docs/architecture.md does not name the adapter {adapter}");
    }
}

#[test]
fn files_say_what_they_are_for_and_stay_readable() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in ["src", "tests", "benches"] {
        for path in files(&root.join(folder)) {
            let text = fs::read_to_string(&path).unwrap();
            let limit = if folder == "tests" || is_test(&path) { TEST_LINES } else { LINES };
            found.extend(shape(&path.strip_prefix(root).unwrap().display().to_string(), &text, limit));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_broken_rule_is_noticed() {
    let dependencies = dependencies();
    let check = |path: &str, text: &str, expect: &str| {
        let found = violations(path, text, &dependencies);
        assert!(found.iter().any(|violation| violation.contains(expect)), "{path}: {text}: {found:?} has no {expect}");
    };
    check("planner/run.rs", "use crate::source::Item;", "`planner` names `source`");
    check("planner/run.rs", "fn f() { let x: crate::controller::Controller; }", "`planner` names `controller`");
    check("planner/run.rs", "use super::super::runtime::Error;", "`planner` names `runtime`");
    check("resource/mod.rs", "use crate::{desired::{self, DesiredState}};", "`resource` names `desired`");
    check("cli/get.rs", "fn f() { vec![crate::status::project()] }", "`cli` names `status`");
    check("controller/run.rs", "use crate::state::{Ledger, sqlite::SqliteLedger};", "`controller` names the adapter `state::sqlite`");
    check("cli/get.rs", "fn f() { crate::runtime::docker::connect::connect(None) }", "names the adapter `runtime::docker`");
    check("wiring/host.rs", "use dockmaster::executor::walk;", "`wiring` names `executor`");
    check("controller/run.rs", "use bollard::Docker;", "`bollard` does not belong");
    check("source/validate.rs", "fn f() { serde_saphyr::from_str(text) }", "`serde_saphyr` does not belong");
    check("status/project.rs", "use clap::Parser;", "`clap` does not belong");
    check("planner/hours.rs", "fn f() { jiff::Timestamp::now() }", "`planner` is pure and names `Timestamp::now`");
    check("desired/lower.rs", "use std::{collections::HashMap, fmt};", "names `HashMap`");
    check("tenancy/mod.rs", "use std::{fmt, fs::File};", "names `std::fs`");
    check("observed/mod.rs", "async fn f() {}", "names `async`");
    check("planner/idle.rs", "fn f() { tracing::info!(\"x\") }", "`tracing` does not belong");
    assert!(shape("src/x.rs", "use a;\n", 600).unwrap().contains("opens"));
    assert!(shape("src/x.rs", &"//! x\n".repeat(601), 600).unwrap().contains("601 lines"));
}

#[test]
fn what_is_allowed_is_not_complained_of() {
    let dependencies = dependencies();
    for (path, text) in [
        ("planner/run.rs", "use crate::desired::DesiredState; use super::operation::Operation; use std::net::IpAddr; use std::time::Duration;"),
        ("planner/run.rs", "// crate::source\n/// `crate::source::Item`\nfn f() { \"crate::source\" }"),
        ("planner/run.rs", "#[cfg(test)] mod tests { use crate::source::Item; use std::fs; } use crate::resource::Kind;"),
        ("cli/mod.rs", "#[cfg(test)] mod testing; use crate::source::directory::Root; use crate::state::{Ledger, statedir};"),
        ("wiring/dry.rs", "use dockmaster::state::overlay::OverlayLedger; use super::host::SystemHost;"),
        ("resource/mod.rs", "pub use condition::Condition; use serde::Serialize;"),
    ] {
        assert_eq!(violations(path, text, &dependencies), Vec::<String>::new(), "{path}: {text}");
    }
}

/// What a file, by its path below `src/`, names that it may not.
fn violations(path: &str, text: &str, dependencies: &BTreeSet<String>) -> Vec<String> {
    let module = top(path);
    let allowed = MODULES.iter().find(|(name, _)| *name == module).map_or(&[][..], |(_, allowed)| *allowed);
    let mut found = BTreeSet::new();
    let mut say = |what: String| found.extend([format!("src/{path}: {what}")]);
    for named in paths(path, text) {
        if let [root, rest @ ..] = named.as_slice()
            && (root == "crate" || root == "dockmaster")
        {
            let inner = rest.join("::");
            let Some(other) = rest.first().filter(|other| MODULES.iter().any(|(name, _)| name == other)) else { continue };
            if module != "lib" && other != module && !allowed.contains(&other.as_str()) {
                say(format!("`{module}` names `{other}` ({inner})"));
            }
            let adapter = ADAPTERS.iter().find(|adapter| inner == **adapter || inner.starts_with(&format!("{adapter}::")));
            if let Some(adapter) = adapter
                && module != "wiring"
                && other != module
            {
                say(format!("`{module}` names the adapter `{adapter}` ({inner})"));
            }
            continue;
        }
        let whole = named.join("::");
        if dependencies.contains(&named[0]) && named.len() > 1 {
            let owner = OWNERS.iter().find(|(name, _)| *name == named[0]);
            if owner.is_some_and(|(_, places)| !places.iter().any(|place| path.starts_with(place))) {
                say(format!("`{}` does not belong here ({whole})", named[0]));
            }
        }
        if PURE.contains(&module) {
            let is = |impure: &&&str| whole == **impure || whole.starts_with(&format!("{impure}::")) || whole.ends_with(&format!("::{impure}"));
            if let Some(impure) = IMPURE.iter().find(is) {
                say(format!("`{module}` is pure and names `{impure}` ({whole})"));
            }
        }
    }
    found.into_iter().collect()
}

/// What is wrong with the form of a file.
fn shape(path: &str, text: &str, limit: usize) -> Option<String> {
    let lines = text.lines().count();
    if !text.starts_with("//!") {
        return Some(format!("{path} opens with no `//!` line that says what it is for"));
    }
    (lines > limit).then(|| format!("{path} has {lines} lines, more than {limit}"))
}

/// The module right below the crate: `planner` of `planner/run.rs`, `config` of `config.rs`.
fn top(path: &str) -> &str {
    path.split('/').next().unwrap().trim_end_matches(".rs")
}

/// All paths in a file but in parts for tests; those that begin with `super` from the root.
fn paths(path: &str, text: &str) -> BTreeSet<Vec<String>> {
    let mut module: Vec<String> = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| last == "mod" || last == "main" || last == "lib") {
        module.pop();
    }
    let mut found = BTreeSet::new();
    walk(text.parse().unwrap_or_else(|error| panic!("{path}: {error}")), &[], &mut found);
    found.into_iter().map(|named| absolute(&module, named)).collect()
}

fn absolute(module: &[String], named: Vec<String>) -> Vec<String> {
    let up = named.iter().take_while(|word| *word == "super").count();
    if up == 0 {
        return named;
    }
    let above = module.iter().take(module.len().saturating_sub(up));
    ["crate".to_owned()].into_iter().chain(above.cloned()).chain(named.iter().skip(up).cloned()).collect()
}

/// Collects paths: words joined by `::`, and the groups of a `use` with what is before them.
fn walk(tokens: TokenStream, before: &[String], found: &mut BTreeSet<Vec<String>>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    let mut path: Vec<String> = before.to_vec();
    let mut joined = true;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Punct(hash) if hash.as_char() == '#' && is_test_attribute(tokens.get(at + 1)) => {
                at = end_of_item(&tokens, at + 2);
                continue;
            }
            TokenTree::Ident(word) => {
                if !joined {
                    end(&mut path, before, found);
                }
                // `use a::{self, b}` names `a`.
                if word != "self" || path.is_empty() {
                    path.push(word.to_string());
                }
                joined = false;
            }
            TokenTree::Punct(_) if is_join(&tokens, at) => {
                joined = true;
                at += 1;
            }
            TokenTree::Group(group) => {
                let continues = joined && !path.is_empty() && group.delimiter() == Delimiter::Brace && at > 0;
                walk(group.stream(), if continues { &path } else { &[] }, found);
                end(&mut path, before, found);
                joined = true;
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {
                end(&mut path, before, found);
                joined = true;
            }
        }
        at += 1;
    }
    end(&mut path, before, found);
}

/// A path has ended; another begins.
fn end(path: &mut Vec<String>, before: &[String], found: &mut BTreeSet<Vec<String>>) {
    if path.len() > before.len() || (!before.is_empty() && path.len() == before.len()) {
        found.insert(path.clone());
    }
    *path = before.to_vec();
}

fn is_join(tokens: &[TokenTree], at: usize) -> bool {
    let colon = |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    colon(tokens.get(at)) && colon(tokens.get(at + 1))
}

fn is_test_attribute(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Group(group)) if group.stream().to_string().replace(' ', "") == "cfg(test)")
}

/// Behind the item that begins there: its `;`, or its braces.
fn end_of_item(tokens: &[TokenTree], from: usize) -> usize {
    let ends = |token: &TokenTree| match token {
        TokenTree::Punct(punct) => punct.as_char() == ';',
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Ident(_) | TokenTree::Literal(_) => false,
    };
    tokens[from..].iter().position(ends).map_or(tokens.len(), |offset| from + offset + 1)
}

/// The files below `src/` that are compiled outside tests, by their path there.
fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let kept = files(&root).into_iter().filter(|path| !is_test(path));
    kept.map(|path| (path.strip_prefix(&root).unwrap().display().to_string(), fs::read_to_string(&path).unwrap())).collect()
}

/// Whether a file's module is declared only for tests, in the file above it, or lies in a folder `tests`, which holds the modules of one.
fn is_test(path: &Path) -> bool {
    if path.parent().is_some_and(|folder| folder.ends_with("tests")) {
        return true;
    }
    let name = path.file_name().unwrap().to_str().unwrap();
    let folder = path.parent().unwrap();
    let above = [folder.join("mod.rs"), folder.join("lib.rs"), folder.with_extension("rs")].into_iter().chain(files_beside(folder));
    above.filter(|other| other != path).filter_map(|other| fs::read_to_string(other).ok()).any(|text| {
        let plain = format!("#[cfg(test)]\nmod {};", name.trim_end_matches(".rs"));
        text.contains(&plain) || text.contains(&format!("#[cfg(test)]\n#[path = \"{name}\"]"))
    })
}

fn files_beside(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|end| end == "rs")).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The names of `[dependencies]`, as code writes them.
fn dependencies() -> BTreeSet<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let lines = text.lines().skip_while(|line| *line != "[dependencies]").skip(1).take_while(|line| !line.starts_with('['));
    lines.filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = ")).map(|(name, _)| name.replace('-', "_")).collect()
}
