//! What deployment asks of the engine, and that its files are of one piece with the program.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::operator::{Operator, condition};
use crate::recorder::Recorder;
use crate::support::docker_host;
use crate::support::limit::Finish;

const SPECS: &str = "apiVersion: dockmaster/v1
kind: Workspace
metadata: {name: shop}
spec:
  image: IMAGE
  command: [sh, -c, 'echo hello; exec sleep 1000000']
  stopGracePeriod: 1s
  ports: [{name: http, container: 8080, publish: Pool}]
  mounts: [{volume: data, path: /data}]
  resources: {memory: 64m}
  env: [{name: ROUND, value: one}]
  idle: {timeout: 1h}
  deletionPolicy: Delete
  hooks: {postStart: [\"true\"]}
  services:
    db: {image: IMAGE, command: [sleep, '1000000'], volume: {path: /db}}
---
apiVersion: dockmaster/v1
kind: Workspace
metadata: {name: absent}
spec: {image: '127.0.0.1:1/nobody/nothing:1'}
";

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap()
}

/// The endpoints of the list: all, and those that some deployments never call.
fn listed() -> (BTreeSet<String>, BTreeSet<String>) {
    let text = read("deploy/endpoints.txt");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let parts: Vec<(&str, bool)> = lines.map(|line| line.split_once("  # ").map_or((line, false), |(endpoint, _)| (endpoint, true))).collect();
    let of = |only_rare: bool| parts.iter().filter(|(_, rare)| *rare || !only_rare).map(|(endpoint, _)| (*endpoint).to_owned()).collect();
    (of(false), of(true))
}

fn socket() -> PathBuf {
    let host = docker_host();
    PathBuf::from(host.strip_prefix("unix://").unwrap_or_else(|| panic!("this test records a unix socket, and {host} is none")))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoints_that_are_called_are_those_listed() {
    let recorder = Recorder::start(&socket()).unwrap();
    let mut operator = Operator::on(&recorder.host()).await.with(&["--tombstone", "1s"]);
    operator.write("alice/shop.yaml", SPECS);
    operator.start();
    operator.until_ready("alice", "shop");
    operator.until("alice", "absent", "the pull that fails", |status| condition(status, "ImagePullFailed") == Some("True"));
    let inside = operator.command(&["exec", "shop", "-n", "alice"]).args(["--", "echo", "inside"]).finish();
    assert_eq!(inside.stdout, b"inside\n");
    assert!(operator.ok(&["logs", "shop", "-n", "alice"]).contains("hello"));
    let as_declared = |generation: u64| {
        let is = move |status: &Value| status["observedGeneration"] == generation && condition(status, "Ready") == Some("True");
        operator.until("alice", "shop", &format!("generation {generation}"), is);
    };
    operator.edit("alice/shop.yaml", "memory: 64m", "memory: 72m");
    as_declared(2);
    operator.edit("alice/shop.yaml", "value: one", "value: two");
    as_declared(3);
    operator.write("alice/demo.yaml", "apiVersion: dockmaster/v1\nkind: Preview\nmetadata: {name: demo}\nspec: {workspace: shop, ttl: 1h}\n");
    operator.until_kind("preview", "alice", "demo", "the copy", |status| condition(status, "Ready") == Some("True"));
    operator.ok(&["restart", "shop", "-n", "alice"]);
    operator.until_ready("alice", "shop");
    // The network of a service that is no longer there is left, then removed.
    let text = operator.read("alice/shop.yaml");
    let (before, rest) = text.split_once("  services:\n").unwrap();
    operator.write("alice/shop.yaml", &format!("{before}{}", rest.split_once('\n').unwrap().1));
    as_declared(4);
    operator.ok(&["delete", "shop", "absent", "-n", "alice"]);
    operator.ok(&["delete", "preview/demo", "-n", "alice"]);
    operator.wait("all to be gone", || operator.get("workspace", "alice", "shop").is_none().then_some(()));
    operator.wait("the volumes to go", || recorder.calls().contains("DELETE /volumes/{name}").then_some(()));
    assert_eq!(operator.stop(), 0);

    let (all, rare) = listed();
    let called = recorder.calls();
    let unlisted: Vec<_> = called.difference(&all).collect();
    assert!(unlisted.is_empty(), "called, and not in deploy/endpoints.txt: {unlisted:?}");
    let idle: Vec<_> = all.difference(&called).filter(|endpoint| !rare.contains(*endpoint)).collect();
    assert!(idle.is_empty(), "in deploy/endpoints.txt without a remark, and never called: {idle:?}");

    // Of these rights doctor asks, each and no other.
    let recorder = Recorder::start(&socket()).unwrap();
    let output = operator.verb(&["doctor", "--docker-host", &recorder.host(), "-o", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["checks"].as_array().unwrap().iter().any(|check| check["check"] == "rights" && check["result"] == "ok"), "{report}");
    assert_eq!(recorder.calls(), all);
}

#[test]
fn the_image_is_built_from_files_that_are_there() {
    let text = read("deploy/Dockerfile");
    let copied: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "))
        .filter(|rest| !rest.starts_with("--from"))
        .flat_map(|rest| rest.rsplit_once(' ').unwrap().0.split(' '))
        .collect();
    for source in &copied {
        assert!(repository().join(source).exists(), "deploy/Dockerfile copies {source}, which is not there");
    }
    for needed in ["Cargo.toml", "Cargo.lock", "src", "migrations"] {
        assert!(copied.contains(&needed), "deploy/Dockerfile does not copy {needed}, without which nothing is built");
    }
    // They are all that cargo needs to begin.
    let folder = tempfile::tempdir().unwrap();
    for source in &copied {
        let target = folder.path().join(source);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        let copy = std::process::Command::new("cp").arg("-r").arg(repository().join(source)).arg(&target).finish();
        assert!(copy.status.success(), "{copy:?}");
    }
    let metadata = ["metadata", "--no-deps", "--offline", "--locked", "--format-version", "1"];
    let cargo = std::process::Command::new(env!("CARGO")).args(metadata).current_dir(folder.path()).finish();
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    let version = read("Cargo.toml").lines().find_map(|line| line.strip_prefix("rust-version = ").map(|v| v.trim_matches('"').to_owned())).unwrap();
    assert!(text.contains(&format!("FROM rust:{version}-")), "the image is built by the Rust that Cargo.toml asks for, {version}");
}

/// The arguments behind the program's name are ones that it takes.
fn accepted(arguments: &[&str]) {
    let mut out = dockmaster::cli::Out::of_process();
    let words = std::iter::once("dockmaster").chain(arguments.iter().copied()).map(Into::into);
    assert!(dockmaster::cli::parse(words, &mut out).is_ok(), "{arguments:?}");
}

#[test]
fn compose_the_unit_and_the_image_call_the_program_as_it_is() {
    let compose: Value = serde_saphyr::from_str(&read("deploy/compose.yaml")).unwrap();
    let operator = &compose["services"]["dockmaster"];
    let words: Vec<&str> = operator["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    accepted(&words);
    let build = &operator["build"];
    assert!(repository().join("deploy").join(build["context"].as_str().unwrap()).join(build["dockerfile"].as_str().unwrap()).exists());
    let mounts = compose["services"]["proxy"]["volumes"].as_array().unwrap();
    for mount in mounts.iter().filter_map(|mount| mount.as_str()?.strip_prefix("./")) {
        assert!(repository().join("deploy").join(mount.split(':').next().unwrap()).exists(), "{mount}");
    }
    let unit = read("deploy/dockmaster.service");
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/dockmaster ")).unwrap();
    accepted(&start.split(' ').collect::<Vec<_>>());
    let image = read("deploy/Dockerfile");
    let command: Vec<String> = serde_json::from_str(image.lines().find_map(|line| line.strip_prefix("CMD ")).unwrap()).unwrap();
    accepted(&command.iter().map(String::as_str).collect::<Vec<_>>());
}
