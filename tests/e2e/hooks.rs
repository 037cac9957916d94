//! Hooks.

use crate::operator::{Operator, condition, reason};

#[tokio::test(flavor = "multi_thread")]
async fn hooks_run_at_their_points_and_leave_their_marks() {
    let mut operator = Operator::new().await;
    operator.write(
        "alice/shop.yaml",
        "apiVersion: dockmaster/v1
kind: Workspace
metadata: {name: shop}
spec:
  image: IMAGE
  stopGracePeriod: 5s
  command: [sleep, '1000000']
  mounts: [{volume: data, path: /data}]
  env: [{name: ROUND, value: one}]
  hooks:
    postCreate: [sh, -c, 'echo created >> /data/log']
    postStart: [sh, -c, 'echo started >> /data/log']
    preStop: [sh, -c, 'echo stopping >> /data/log']
",
    );
    operator.start();
    let container = operator.container("alice", "shop", None);
    let log = || operator.docker(&["exec", &container, "cat", "/data/log"]);
    let until_log = |what: &str, lines: &str| {
        operator.wait(what, || (log() == lines).then_some(()));
    };
    operator.until_ready("alice", "shop");
    assert_eq!(log(), "created\nstarted", "ready means that the hooks have run");
    operator.ok(&["restart", "shop", "-n", "alice"]);
    until_log("the hooks of a restart", "created\nstarted\nstopping\nstarted");
    operator.until_ready("alice", "shop");
    operator.docker(&["kill", &container]);
    until_log("the hook of a start after a crash", "created\nstarted\nstopping\nstarted\nstarted");
    operator.until_ready("alice", "shop");
    operator.edit("alice/shop.yaml", "value: one", "value: two");
    until_log("the hooks of another container", "created\nstarted\nstopping\nstarted\nstarted\nstopping\ncreated\nstarted");
    operator.until_ready("alice", "shop");
    operator.ok(&["stop", "shop", "-n", "alice"]);
    operator.until("alice", "shop", "the stop", |status| reason(status) == "Stopped" && condition(status, "Ready") == Some("True"));
    operator.ok(&["start", "shop", "-n", "alice"]);
    until_log("the hooks of a stop and a start", "created\nstarted\nstopping\nstarted\nstarted\nstopping\ncreated\nstarted\nstopping\nstarted");
    let volume = format!("{}-vol-alice.shop.data", operator.installation());
    operator.until_ready("alice", "shop");
    operator.remove("alice/shop.yaml");
    operator.wait("the container to be gone", || operator.containers().is_empty().then_some(()));
    let image = crate::support::IMAGE;
    let last = operator.docker(&["run", "--rm", "-v", &format!("{volume}:/data"), image, "tail", "-n", "1", "/data/log"]);
    assert_eq!(last, "stopping", "a deletion is a stop too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_fails_is_shown_and_not_repeated() {
    let mut operator = Operator::new().await.with(&["--resync", "2s"]);
    operator.write(
        "alice/shop.yaml",
        "apiVersion: dockmaster/v1
kind: Workspace
metadata: {name: shop}
spec:
  image: IMAGE
  stopGracePeriod: 1s
  command: [sleep, '1000000']
  mounts: [{volume: data, path: /data}]
  hooks: {postStart: [sh, -c, 'echo ran >> /data/log; exit 7']}
",
    );
    operator.write("alice/other.yaml", "apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {name: other}\nspec: {image: IMAGE, command: [sleep, '1000000'], stopGracePeriod: 1s, idle: {timeout: 5s}}\n");
    operator.start();
    let shop = operator.until("alice", "shop", "the failure", |status| condition(status, "HookFailed") == Some("True"));
    assert_eq!((condition(&shop["status"], "Ready"), reason(&shop["status"])), (Some("False"), "HookFailed"));
    assert!(shop.to_string().contains("exit code 7"), "{shop:#}");
    // Several full passes go by meanwhile.
    operator.until("alice", "other", "its idle stop", |status| reason(status) == "Idle");
    let container = operator.container("alice", "shop", None);
    assert_eq!(operator.docker(&["exec", &container, "cat", "/data/log"]), "ran", "once for its start");
    operator.edit("alice/shop.yaml", "exit 7", "exit 0");
    let shop = operator.until("alice", "shop", "the mended hook", |status| reason(status) == "Running" && condition(status, "HookFailed").is_none());
    assert_eq!(condition(&shop["status"], "Ready"), Some("True"));
    assert_eq!(operator.docker(&["exec", &container, "cat", "/data/log"]), "ran\nran", "once more, in the same container");
    // A hook that fails before a stop does not keep it from stopping, and is told.
    operator.edit("alice/shop.yaml", "postStart:", "preStop:");
    operator.edit("alice/shop.yaml", "exit 0", "exit 9");
    operator.until_generation("alice", "shop", 3);
    operator.ok(&["stop", "shop", "-n", "alice"]);
    operator.until("alice", "shop", "the stop", |status| reason(status) == "Stopped");
    operator.wait("the event", || operator.events("alice").contains("hooks.preStop ended with exit code 9; it was stopped all the same").then_some(()));
}
