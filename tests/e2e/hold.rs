//! What is not a deletion: sources in trouble, files that cannot be read, too much at once.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::operator::{Operator, condition, sleeper};
use crate::support::limit::Finish;

fn held(status: &Value) -> bool {
    condition(status, "PruneBlocked") == Some("True")
}

fn unhealthy(status: &Value) -> bool {
    condition(status, "SourceUnhealthy") == Some("True")
}

/// Writes and awaits so many workspaces of a namespace; gives their containers' ids.
fn made(operator: &mut Operator, count: usize) -> Vec<String> {
    (0..count).for_each(|n| operator.write(&format!("alice/w{n}.yaml"), &sleeper(&format!("w{n}"), "")));
    operator.start();
    (0..count).for_each(|n| _ = operator.until_ready("alice", &format!("w{n}")));
    ids(operator)
}

/// The ids of all containers, by name.
fn ids(operator: &Operator) -> Vec<String> {
    operator.containers().iter().map(|name| operator.inspect(name, "{{.Id}} {{.State.StartedAt}}")).collect()
}

fn git(operator: &Operator, arguments: &[&str]) {
    let mut git = Command::new("git");
    git.current_dir(operator.specs()).args(["-c", "user.name=t", "-c", "user.email=t@t.invalid", "-c", "init.defaultBranch=main"]).args(arguments);
    let output = git.finish();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_one_and_three_of_four_are_believed() {
    let mut operator = Operator::new().await;
    made(&mut operator, 4);
    (0..3).for_each(|n| operator.remove(&format!("alice/w{n}.yaml")));
    operator.wait("three of four to go", || (operator.containers() == [operator.container("alice", "w3", None)]).then_some(()));
    operator.remove("alice/w3.yaml");
    operator.wait("the last one to go", || operator.containers().is_empty().then_some(()));
    assert!(!operator.was_told("PruneBlocked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_a_source_at_once_is_held_until_it_returns_or_is_confirmed() {
    let mut operator = Operator::new().await;
    let before = made(&mut operator, 3);
    let texts: Vec<String> = (0..3).map(|n| operator.read(&format!("alice/w{n}.yaml"))).collect();
    fs::remove_dir_all(operator.specs().join("alice")).unwrap();
    (0..3).for_each(|n| _ = operator.until("alice", &format!("w{n}"), "the hold", held));
    assert!(operator.was_told("PruneBlocked"));
    let got = operator.ok(&["get", "ws", "-A", "-o", "wide"]);
    assert!(got.contains("PruneBlocked") && got.contains("Delete held"), "{got}");
    assert_eq!(ids(&operator), before);
    // Its deletion waits; what it declared is kept running.
    operator.docker(&["kill", &operator.container("alice", "w2", None)]);
    operator.wait("its healing", || (operator.inspect(&operator.container("alice", "w2", None), "{{.State.Running}}") == "true").then_some(()));
    operator.until("alice", "w2", "the hold", held);
    let before = ids(&operator);

    // Neither a restart nor a run with an end lets it go; the latter says so by its exit code.
    operator.stop();
    assert_eq!(operator.once(), 1);
    operator.start();
    operator.until_running();
    operator.ok(&["wait", "workspace/w0", "-n", "alice", "--for", "condition=PruneBlocked"]);
    assert_eq!(ids(&operator), before);

    // Many new documents do not make the old ones a small part.
    (10..22).for_each(|n| operator.write(&format!("bob/w{n}.yaml"), &sleeper(&format!("w{n}"), "  state: Stopped\n")));
    operator.until("bob", "w21", "the new ones", |status| status["phase"] == "Stopped");
    operator.stop();
    assert_eq!(operator.once(), 1);
    assert_eq!(ids(&operator), before);
    operator.start();

    // One returns.
    operator.write("alice/w1.yaml", &texts[1]);
    operator.until("alice", "w1", "the end of its hold", |status| !held(status) && condition(status, "Ready") == Some("True"));
    operator.until("alice", "w0", "the other's hold", held);
    assert_eq!(ids(&operator), before);
    operator.ok(&["prune"]);
    operator.wait("the others to go", || (operator.containers() == [operator.container("alice", "w1", None)]).then_some(()));
    assert!(operator.was_told("PruneConfirmed"));
    operator.ok(&["undelete", "w0", "-n", "alice"]);
    operator.until_ready("alice", "w0");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_two_that_went_while_nobody_looked_are_held_and_one_of_two_goes() {
    let mut operator = Operator::new().await;
    let before = made(&mut operator, 3);
    operator.stop();
    operator.remove("alice/w2.yaml");
    operator.start();
    operator.wait("the one to go", || (operator.containers().len() == 2).then_some(()));
    operator.stop();
    operator.remove("alice/w0.yaml");
    operator.remove("alice/w1.yaml");
    assert_eq!(operator.once(), 1);
    operator.start();
    operator.until("alice", "w0", "the hold", held);
    operator.until("alice", "w1", "the hold", held);
    assert_eq!(ids(&operator), before[..2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_in_trouble_is_no_deletion() {
    let mut operator = Operator::new().await;
    let before = made(&mut operator, 1);
    let (specs, away) = (operator.specs(), operator.home().join("away"));
    let healthy = |status: &Value| !unhealthy(status) && condition(status, "Ready") == Some("True");

    // Renamed away.
    fs::rename(&specs, &away).unwrap();
    operator.until("alice", "w0", "the trouble to be told", unhealthy);
    assert!(operator.was_told("SourceUnhealthy"));
    // An empty directory in its place, as an unmounted file system leaves it.
    fs::create_dir(&specs).unwrap();
    operator.wait("the exchange to be noticed", || operator.log().contains("was exchanged").then_some(()));
    operator.until("alice", "w0", "the trouble to be told", unhealthy);
    // The same over a restart, and by the exit code.
    operator.stop();
    assert_eq!(operator.once(), 1);
    operator.start();
    operator.until("alice", "w0", "the trouble to be told", unhealthy);
    // Healing goes on meanwhile.
    fs::remove_dir(&specs).unwrap();
    fs::rename(&away, &specs).unwrap();
    operator.until("alice", "w0", "the trouble to end", healthy);
    // Something that cannot be listed.
    fs::rename(&specs, &away).unwrap();
    fs::write(&specs, "").unwrap();
    operator.until("alice", "w0", "the trouble to be told", unhealthy);
    fs::remove_file(&specs).unwrap();
    fs::rename(&away, &specs).unwrap();
    operator.until("alice", "w0", "the trouble to end", healthy);
    assert_eq!(ids(&operator), before);
    assert!(!operator.was_told("Tombstoned"));
    // Then a deletion is one again.
    operator.remove("alice/w0.yaml");
    operator.wait("it to go", || operator.containers().is_empty().then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_directory_in_the_place_of_the_root_is_accepted_by_prune() {
    let mut operator = Operator::new().await;
    made(&mut operator, 1);
    let (specs, away) = (operator.specs(), operator.home().join("away"));
    fs::rename(&specs, &away).unwrap();
    fs::create_dir(&specs).unwrap();
    operator.until("alice", "w0", "the trouble to be told", unhealthy);
    operator.ok(&["prune", "--source", specs.to_str().unwrap()]);
    operator.wait("it to go", || operator.containers().is_empty().then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_used_keeps_its_last_good_version_in_force() {
    let mut operator = Operator::new().await;
    operator.write("alice/two.yaml", &[sleeper("one", "  env: [{name: V, value: a}]\n"), sleeper("two", "")].join("---\n"));
    operator.write("alice/w.yaml", &sleeper("w", ""));
    operator.start();
    ["one", "two", "w"].iter().for_each(|name| _ = operator.until_ready("alice", name));
    let before = ids(&operator);
    let good = operator.read("alice/two.yaml");
    operator.write("alice/two.yaml", "a: [unclosed\n");
    operator.wait("the error to be told", || operator.was_told("SourceInvalid").then_some(()));
    // Others are served meanwhile.
    operator.edit("alice/w.yaml", "spec:\n", "spec:\n  env: [{name: A, value: b}]\n");
    operator.until("alice", "w", "another document's change", |status| status["observedGeneration"] == 2);
    operator.until_ready("alice", "w");
    // A restart knows the last good version, and heals it.
    operator.stop();
    operator.docker(&["rm", "-f", &operator.container("alice", "one", None)]);
    operator.start();
    operator.wait("the lost container to be healed", || {
        (operator.inspect(&operator.container("alice", "one", None), "{{.State.Running}}") == "true").then_some(())
    });
    assert!(operator.inspect(&operator.container("alice", "one", None), "{{.Config.Env}}").contains("V=a"));
    operator.until_ready("alice", "one");
    assert_eq!(ids(&operator)[1], before[1]);
    assert_eq!(operator.read("alice/two.yaml"), "a: [unclosed\n", "what cannot be read is not written");
    // One bad document does not take the other with it.
    operator.write("alice/two.yaml", &good.replace("name: two}", "name: two, labels: 5}").replace("value: a", "value: c"));
    operator
        .wait("the good document's change", || operator.inspect(&operator.container("alice", "one", None), "{{.Config.Env}}").contains("V=c").then_some(()));
    assert_eq!(ids(&operator)[1], before[1]);
    assert!(!operator.was_told("Tombstoned"));
    // The whole file gone is a deletion again.
    operator.remove("alice/two.yaml");
    operator.wait("both to go", || (operator.containers() == [operator.container("alice", "w", None)]).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn git_at_work_is_no_deletion() {
    let mut operator = Operator::new().await.with(&["--status", "none"]);
    let _ = fs::remove_dir(operator.specs().join("none"));
    git(&operator, &["init", "-q"]);
    git(&operator, &["commit", "-q", "--allow-empty", "-m", "nothing"]);
    git(&operator, &["branch", "empty"]);
    let before = made(&mut operator, 2);
    git(&operator, &["add", "."]);
    git(&operator, &["commit", "-q", "-m", "two"]);

    // A checkout that takes its time.
    let lock = operator.specs().join(".git/index.lock");
    fs::write(&lock, "").unwrap();
    operator.remove("alice/w0.yaml");
    operator.until("alice", "w0", "git to be noticed", unhealthy);
    assert_eq!(ids(&operator), before);
    fs::remove_file(&lock).unwrap();
    git(&operator, &["checkout", "-q", "alice/w0.yaml"]);
    operator.until("alice", "w0", "the trouble to end", |status| !unhealthy(status));

    // A branch without any, and back.
    git(&operator, &["checkout", "-q", "empty"]);
    operator.until("alice", "w0", "the hold", held);
    operator.until("alice", "w1", "the hold", held);
    git(&operator, &["checkout", "-q", "main"]);
    ["w0", "w1"]
        .iter()
        .for_each(|name| _ = operator.until("alice", name, "the end of the hold", |status| !held(status) && condition(status, "Ready") == Some("True")));
    assert_eq!(ids(&operator), before);
    assert!(!operator.was_told("Tombstoned"));

    // The revert of a deletion brings all back.
    git(&operator, &["rm", "-q", "alice/w0.yaml"]);
    git(&operator, &["commit", "-q", "-m", "one less"]);
    operator.wait("it to go", || (operator.containers().len() == 1).then_some(()));
    git(&operator, &["revert", "--no-edit", "HEAD"]);
    operator.until_ready("alice", "w0");
    assert!(operator.was_told("Undeleted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_ledger_and_an_unreadable_file_delete_nothing() {
    let mut operator = Operator::new().await;
    let before = made(&mut operator, 3);
    let uid = operator.until_ready("alice", "w0")["metadata"]["uid"].clone();
    let good = operator.read("alice/w0.yaml");
    operator.stop();
    fs::remove_dir_all(operator.state()).unwrap();
    operator.write("alice/w0.yaml", "a: [unclosed\n");
    operator.start();
    operator.until_ready("alice", "w1");
    operator.until_ready("alice", "w2");
    // What nobody declares now might be declared in the file that cannot be read.
    let refused = operator.verb(&["orphans", "--remove"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("alice/w0.yaml"), "{told}");
    assert!(operator.ok(&["orphans"]).contains(&operator.container("alice", "w0", None)));
    assert_eq!(ids(&operator), before);
    operator.write("alice/w0.yaml", &good);
    assert_eq!(operator.until_ready("alice", "w0")["metadata"]["uid"], uid);
    assert_eq!(ids(&operator), before);
}
