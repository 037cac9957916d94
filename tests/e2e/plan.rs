//! What plan prints is what run does, and printing it changes nothing.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::converge::sleeper;
use crate::operator::Operator;
use crate::recorder::Recorder;
use crate::support::docker_host;
use crate::support::limit::Finish;

/// `plan` on its own arguments: the exit code, and what it printed to both streams.
fn plan(operator: &Operator, arguments: &[&str]) -> (i32, String, String) {
    let output = operator.verb(&[&["plan"], arguments].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn items(operator: &Operator, arguments: &[&str]) -> Vec<Value> {
    let (code, out, err) = plan(operator, &[arguments, &["-o", "json"]].concat());
    let items: Vec<Value> = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{code} {out}{err}"));
    assert_eq!(code, if items.is_empty() { 0 } else { 2 });
    items
}

/// The operations of one object in the order of the plan.
fn operations(items: &[Value], name: &str) -> Vec<(String, String)> {
    let of = items.iter().filter(|item| item["object"]["name"] == name);
    of.map(|item| (item["operation"].as_str().unwrap().to_owned(), item["target"].as_str().unwrap().to_owned())).collect()
}

/// What the journal says was done to an object, in the order in which it was done.
fn journal(operator: &Operator, name: &str) -> Vec<(String, String)> {
    let out = operator.ok(&["why", name, "-n", "alice", "-o", "json"]);
    let entries: Value = serde_json::from_str(&out).unwrap();
    let entries = entries["items"].as_array().unwrap_or_else(|| panic!("{entries:#}"));
    let mut entries: Vec<&Value> = entries.iter().collect();
    entries.sort_by_key(|entry| entry["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap());
    let operations = entries.into_iter().flat_map(|entry| entry["operations"].as_array().unwrap());
    operations.map(|operation| (operation["op"].as_str().unwrap().to_owned(), operation["target"].as_str().unwrap().to_owned())).collect()
}

/// All files below a directory with their content.
fn files(directory: &Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).unwrap_or_default());
        }
    }
    found
}

const FULL: &str = "mounts: [{volume: cache, path: /cache}]\n  ports: [{name: http, container: 8080, publish: Pool}]\n  services: {db: {image: IMAGE, command: [sleep, \"1000000\"]}}";

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_without_any_operator_is_what_the_first_run_does() {
    // Nothing remembers an engine yet, so it is named.
    let operator = Operator::new().await.with_env("DOCKER_HOST", &docker_host());
    operator.write("alice/shop.yaml", &sleeper("shop", FULL));
    operator.write("alice/blog.yaml", &sleeper("blog", ""));
    let specs = operator.specs().display().to_string();
    let (code, text, err) = plan(&operator, &[&specs]);
    assert_eq!(code, 2, "{text}{err}");
    assert!(!operator.state().exists(), "a plan makes no state");
    assert_eq!(operator.containers(), Vec::<String>::new());
    let (main, volume) = (operator.container("alice", "shop", None), format!("{}-vol-alice.shop.cache", operator.installation()));
    assert!(text.contains("workspace/shop -n alice\n"), "{text}");
    assert!(text.contains(&format!("create  create-volume {volume} (volumes.cache: absent -> {volume})")), "{text}");
    assert!(text.lines().any(|line| line.contains(&format!("create  create {main} (container: absent -> {main}) after "))), "{text}");
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("Plan: ") && last.contains(" to create") && last.contains("3 to start"), "{text}");

    let planned = items(&operator, &[&specs]);
    for item in &planned {
        let keys: Vec<&String> = item.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["object", "action", "operation", "target", "cause", "dependsOn"]);
        assert!(["create", "update", "replace", "start", "stop", "delete", "wait", "none"].contains(&item["action"].as_str().unwrap()), "{item}");
        let cause: Vec<&String> = item["cause"].as_object().unwrap().keys().collect();
        assert_eq!(cause, ["field", "old", "new"]);
    }
    assert_eq!(operator.once(), 0, "{}", operator.log());
    // The network of the namespace is made by whichever comes first.
    let without_namespace = |operations: Vec<(String, String)>| -> Vec<(String, String)> {
        let mut rest: Vec<_> = operations.into_iter().filter(|(_, target)| !target.ends_with("-ns-alice")).collect();
        rest.sort();
        rest
    };
    for name in ["shop", "blog"] {
        assert_eq!(without_namespace(journal(&operator, name)), without_namespace(operations(&planned, name)), "{name}");
    }
    let before = files(&operator.specs());
    let (code, text, _) = plan(&operator, &[]);
    assert_eq!((code, text.as_str()), (0, "Nothing to do.\n"));
    assert_eq!(items(&operator, &[]), Vec::<Value>::new());
    assert_eq!(files(&operator.specs()), before, "a plan writes into no spec");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_planned_and_then_done_as_planned() {
    let operator = Operator::new().await;
    operator.write("alice/shop.yaml", &sleeper("shop", FULL));
    operator.write("alice/small.yaml", &sleeper("small", "resources: {memory: 32m}"));
    assert_eq!(operator.once(), 0, "{}", operator.log());
    let done = journal(&operator, "shop").len();
    operator.edit("alice/shop.yaml", "path: /cache", "path: /other");
    operator.edit("alice/small.yaml", "32m", "64m");
    let state = files(&operator.state());
    let (code, text, _) = plan(&operator, &[]);
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("update  update") && text.contains("(resources.memory: 32m -> 64m)"), "{text}");
    assert!(text.contains("mounts"), "the field is named: {text}");
    let planned = operations(&items(&operator, &[]), "shop");
    let databases = |files: &BTreeMap<std::path::PathBuf, Vec<u8>>| -> Vec<Vec<u8>> { files.values().cloned().collect() };
    assert_eq!(databases(&files(&operator.state())), databases(&state), "the state was not touched");
    assert_eq!(operator.once(), 0, "{}", operator.log());
    let after: Vec<(String, String)> = journal(&operator, "shop").split_off(done);
    // A plan speaks of now: what is done when the new container has shown itself follows from what is seen then.
    assert_eq!(after[..planned.len()], planned, "{after:?}");
    assert_eq!(plan(&operator, &[]).0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn deletions_are_planned_of_a_whole_root_and_never_of_one_path() {
    let operator = Operator::new().await;
    for name in ["one", "two", "three"] {
        operator.write(&format!("alice/{name}.yaml"), &sleeper(name, ""));
    }
    assert_eq!(operator.once(), 0, "{}", operator.log());
    operator.remove("alice/one.yaml");
    operator.edit("alice/two.yaml", "spec:", "spec:\n  env: [{name: A, value: b}]");
    operator.edit("alice/three.yaml", "spec:", "spec:\n  env: [{name: A, value: b}]");
    let path = |name: &str| operator.specs().join(name).display().to_string();
    let names = |items: Vec<Value>| {
        let mut names: Vec<String> = items.iter().map(|item| item["object"]["name"].as_str().unwrap().to_owned()).collect();
        names.dedup();
        names
    };
    assert_eq!(names(items(&operator, &[&path("alice/two.yaml")])), ["two"]);
    assert_eq!(names(items(&operator, &[&path("alice")])), ["three", "two"], "a part of a root shows no deletions");
    for whole in [vec![], vec![path("")]] {
        let arguments: Vec<&str> = whole.iter().map(String::as_str).collect();
        let all = items(&operator, &arguments);
        assert_eq!(names(all.clone()), ["one", "three", "two"]);
        let of_one: Vec<&Value> = all.iter().filter(|item| item["object"]["name"] == "one").collect();
        assert!(of_one.iter().any(|item| item["action"] == "delete" && item["operation"] == "remove"), "{of_one:?}");
        assert!(of_one.iter().all(|item| item["operation"] != "remove-volume"));
    }
    let (code, out, err) = plan(&operator, &[&path("alice/none.yaml")]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("alice/none.yaml does not exist"), "{err}");
    operator.write("alice/bad.yaml", "apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {name: bad}\nspec: {imagee: x}\n");
    let (code, _, err) = plan(&operator, &[]);
    assert!(code == 1 && err.contains("bad.yaml:4:8") && err.contains("image"), "{code} {err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_time_shows_what_comes_by_then() {
    let operator = Operator::new().await;
    operator.write("alice/shop.yaml", &sleeper("shop", "idle: {timeout: 1h}"));
    operator.write("alice/fixed.yaml", &sleeper("fixed", "maxLifetime: 3h"));
    operator.write("alice/ever.yaml", &sleeper("ever", ""));
    assert_eq!(operator.once(), 0, "{}", operator.log());
    assert_eq!(plan(&operator, &["--at", "30m"]), (0, "Nothing to do.\n".to_owned(), String::new()));
    let (code, text, _) = plan(&operator, &["--at", "2h"]);
    assert!(code == 2 && text.contains("workspace/shop -n alice") && !text.contains("fixed") && !text.contains("ever"), "{text}");
    let (code, text, _) = plan(&operator, &["--at", "4h"]);
    assert!(code == 2 && text.contains("workspace/fixed -n alice") && text.contains("stop") && !text.contains("ever"), "{text}");
    let then = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(4)).to_string();
    assert!(plan(&operator, &["--at", &then]).1.contains("workspace/fixed -n alice"));
    let (code, _, err) = plan(&operator, &["--at", "tomorrow"]);
    assert!(code == 1 && err.contains("tomorrow") && err.contains("2h"), "{err}");
    assert!(operator.inspect(&operator.container("alice", "shop", None), "{{.State.Running}}") == "true");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_document_hides_no_plan_of_the_good_ones() {
    let operator = Operator::new().await;
    operator.write("alice/good.yaml", &sleeper("good", ""));
    operator.write("alice/kept.yaml", &sleeper("kept", ""));
    assert_eq!(operator.once(), 0, "{}", operator.log());
    operator.edit("alice/good.yaml", "spec:", "spec:\n  env: [{name: A, value: b}]");
    operator.edit("alice/kept.yaml", "spec:", "spce:");
    let (code, out, err) = plan(&operator, &[]);
    assert!(code == 1 && err.contains("kept.yaml:4:1"), "{code} {err}");
    assert!(out.contains("workspace/good -n alice") && out.contains("env.A"), "{out}");
    assert!(!out.contains("kept"), "what a bad file last said stays in force: {out}");
    let good = operator.specs().join("alice/good.yaml").display().to_string();
    let (code, out, err) = plan(&operator, &[&good]);
    assert!(code == 2 && out.contains("env.A") && err.is_empty(), "the errors of other files are not asked for: {code} {out}{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_by_then_is_told_to_programs_too() {
    let operator = Operator::new().await;
    operator.write("alice/fixed.yaml", &sleeper("fixed", "idle: {timeout: 1h}"));
    assert_eq!(operator.once(), 0, "{}", operator.log());
    let planned = items(&operator, &["--at", "2h"]);
    assert!(planned.iter().any(|item| item["action"] == "stop" && item["object"]["name"] == "fixed"), "{planned:?}");
    let (_, text, _) = plan(&operator, &["--at", "2h"]);
    assert_eq!(text.matches("workspace/fixed -n alice").count(), 1, "{text}");
}

#[test]
fn without_specs_there_is_nothing_to_plan() {
    let home = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_dockmaster"));
    let output = command.arg("plan").current_dir(home.path()).env_remove("DOCKMASTER_STATE_DIR").finish();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no directory `specs` here") && said.contains("dockmaster plan DIR"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_running_operator_a_plan_asks_for_lists_alone() {
    let recorder = Recorder::start(Path::new(docker_host().trim_start_matches("unix://"))).unwrap();
    let mut operator = Operator::on(&recorder.host()).await.with(&["--resync", "1h"]);
    for name in ["one", "two"] {
        operator.write(&format!("alice/{name}.yaml"), &sleeper(name, "resources: {memory: 32m}"));
    }
    assert_eq!(operator.once(), 0, "{}", operator.log());
    let asked = |operator: &Operator| -> BTreeMap<String, usize> {
        let before = recorder.log().len();
        assert_eq!(plan(operator, &[]).1, "Nothing to do.\n");
        let calls = recorder.log().split_off(before).into_iter().map(|(_, call)| call);
        calls.filter(|call| call != "GET /_ping").fold(BTreeMap::new(), |mut counted, call| {
            *counted.entry(call).or_default() += 1;
            counted
        })
    };
    let alone = asked(&operator);
    assert_eq!((alone.get("GET /info"), alone.get("GET /containers/{id}/json")), (Some(&1), Some(&2)), "{alone:?}");
    operator.start();
    operator.until_running();
    let lists = BTreeMap::from(["GET /containers/json", "GET /images/json", "GET /networks", "GET /volumes"].map(|list| (list.to_owned(), 1)));
    operator.wait("what it knows", || (asked(&operator) == lists).then_some(()));
    operator.stop();
    assert_eq!(asked(&operator), alone);
}
