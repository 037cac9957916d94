//! The verbs as a user meets them: exit codes, what goes to which stream, and commands that reach into containers.

use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};

use crate::operator::Operator;
use crate::support::limit::{Finish, Limit, finished};

const SHOP: &str = "# the shop
apiVersion: dockmaster/v1
kind: Workspace
metadata: {name: shop}
spec:
  image: IMAGE
  pullPolicy: Never
  stopGracePeriod: 1s
  command: [sh, -c, 'echo said; echo cried >&2; exec sleep 1000000']
  services:
    db: {image: IMAGE, command: [sh, -c, 'echo db here; exec sleep 1000000']}
";

/// The verb behind the options of every verb, so that it may end in `-- COMMAND`.
fn command(operator: &Operator, arguments: &[&str]) -> Command {
    let mut command = operator.command(&[]);
    command.args(arguments);
    command
}

fn given(output: Output) -> (i32, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn run(operator: &Operator, arguments: &[&str]) -> (i32, String, String) {
    given(command(operator, arguments).finish())
}

#[tokio::test]
async fn exit_codes_say_what_went_wrong() {
    let operator = Operator::new().await;
    let (code, out, err) = run(&operator, &["get", "ws"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("start `dockmaster run` first"), "{err}");
    assert_eq!(run(&operator, &["stop", "shop"]).0, 1);
    assert!(!operator.state().exists(), "a verb makes no state");
    let (code, _, err) = run(&operator, &["wait", "shop", "--for", "delete"]);
    assert!(code == 3 && err.contains("needs a running operator"), "{code} {err}");
    let (code, _, err) = run(&operator, &["gett"]);
    assert!(code == 1 && err.contains("'get'"), "wrong usage: {code} {err}");
    assert_eq!(run(&operator, &["version"]), (0, format!("dockmaster {}\n", env!("CARGO_PKG_VERSION")), String::new()));
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_error() {
    let operator = Operator::new().await;
    let mut child = command(&operator, &["completion", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut err = String::new();
    let _limit = Limit::of(&child);
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn logs_and_exec_reach_into_containers() {
    let mut operator = Operator::new().await;
    operator.write("alice/shop.yaml", SHOP);
    operator.start();
    operator.until_ready("alice", "shop");

    operator.wait("the whole log", || (run(&operator, &["logs", "shop", "-n", "alice"]) == (0, "said\n".into(), "cried\n".into())).then_some(()));
    operator.wait("the service's log", || (run(&operator, &["logs", "-n", "alice", "-c", "db", "ws/shop"]).1 == "db here\n").then_some(()));
    let (code, _, err) = run(&operator, &["logs", "-n", "alice", "-c", "dv", "shop"]);
    assert!(code == 1 && err.contains("did you mean db?"), "{err}");

    let (code, out, err) = run(&operator, &["exec", "shop", "-n", "alice", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((code, out.as_str(), err.as_str()), (7, "out\n", "err\n"));
    let mut cat = command(&operator, &["exec", "-i", "-n", "alice", "-c", "db", "shop", "--", "cat"]);
    let mut child = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"to and fro").unwrap();
    assert_eq!(given(finished(child)), (0, "to and fro".into(), String::new()));
    let (code, _, err) = run(&operator, &["exec", "-it", "shop", "-n", "alice", "--", "sh"]);
    assert!(code == 1 && err.contains("needs a terminal"), "{err}");

    let mut follow = command(&operator, &["logs", "-f", "shop", "-n", "alice"]).stdout(Stdio::piped()).spawn().unwrap();
    let _limit = Limit::of(&follow);
    let mut said = [0; 5];
    follow.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_child(&follow), rustix::process::Signal::INT).unwrap();
    assert_eq!(follow.wait().unwrap().code(), Some(130), "interrupted");
}

#[tokio::test]
async fn a_workspace_is_applied_stopped_started_deleted_and_brought_back() {
    let mut operator = Operator::new().await;
    operator.start();
    let draft = operator.specs().with_file_name("draft.yaml");
    operator.write("../draft.yaml", SHOP);
    operator.wait("the control socket", || (run(&operator, &["wait", "none", "--for", "delete"]).0 == 0).then_some(()));

    let apply = ["apply", "-n", "alice", "-f", draft.to_str().unwrap()];
    assert_eq!(run(&operator, &apply).1, "workspace/shop created\n");
    assert_eq!(run(&operator, &apply).1, "workspace/shop unchanged\n");
    // What `get` prints is a spec file as `apply` reads it, identity and status included.
    operator.write("../other.yaml", &SHOP.replace("shop", "other"));
    let other = operator.home().join("other.yaml");
    assert_eq!(run(&operator, &["apply", "-n", "alice", "-f", other.to_str().unwrap()]).1, "workspace/other created\n");
    operator.until_ready("alice", "other");
    std::fs::write(&other, operator.ok(&["get", "ws", "-n", "alice", "-o", "yaml"])).unwrap();
    let (code, out, err) = run(&operator, &["apply", "-f", other.to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (0, "workspace/other unchanged\nworkspace/shop unchanged\n"), "{err}");
    // What is watched stands under the columns of what was printed before.
    let log = operator.home().join("watched");
    let mut watch = operator.command(&["events", "-n", "alice", "-w"]);
    let mut watcher = watch.stdout(std::fs::File::create(&log).unwrap()).spawn().unwrap();
    let watched = || std::fs::read_to_string(&log).unwrap();
    operator.wait("the past events", || watched().contains("workspace/other").then_some(()));
    operator.ok(&["delete", "other", "-n", "alice"]);
    operator.wait("the watched events", || watched().lines().any(|line| line.contains("Removed") && line.contains("workspace/other")).then_some(()));
    watcher.kill().unwrap();
    watcher.wait().unwrap();
    let text = watched();
    let at = text.lines().next().unwrap().find("OBJECT").expect("a header");
    for line in text.lines().skip(1) {
        assert!(line.find("workspace/").is_some_and(|place| (at..at + 8).contains(&place)), "{line} is not in its columns:\n{text}");
    }
    operator.ok(&["wait", "other", "-n", "alice", "--for", "delete"]);
    let waited = |what: &str| operator.ok(&["wait", "shop", "-n", "alice", "--for", what]);
    waited("condition=Ready");
    waited("phase=Running");
    // No state of before is taken for the one waited for: each verb returns when the operator has read its edit.
    operator.ok(&["stop", "shop", "-n", "alice"]);
    waited("condition=Ready");
    assert_eq!(operator.get("ws", "alice", "shop").unwrap()["status"]["phase"], "Stopped");
    operator.ok(&["start", "shop", "-n", "alice"]);
    waited("phase=Running");
    waited("condition=Ready");

    operator.ok(&["delete", "shop", "-n", "alice"]);
    assert_eq!(run(&operator, &apply).1, "workspace/shop created\n", "what is going is applied anew, not taken for unchanged");
    operator.remove("alice/shop.yaml");
    assert_eq!(run(&operator, &apply).1, "workspace/shop created\n");
    waited("condition=Ready");
    let before = operator.get("ws", "alice", "shop").unwrap()["metadata"]["uid"].clone();
    operator.ok(&["delete", "shop", "-n", "alice"]);
    waited("delete");
    assert_eq!(operator.docker(&["ps", "-aq", "--filter", &format!("name={}-ws-", operator.installation())]), "");
    assert!(!operator.specs().join("alice/shop.yaml").exists());
    let (code, _, err) = run(&operator, &["get", "shop", "-n", "alice"]);
    assert!(code == 1 && err.contains("dockmaster undelete workspace/shop -n alice"), "{err}");
    assert!(operator.ok(&["undelete", "shop", "-n", "alice"]).contains("alice/shop.yaml"));
    waited("condition=Ready");
    assert_eq!(operator.get("ws", "alice", "shop").unwrap()["metadata"]["uid"], before, "the same life");
    assert!(operator.read("alice/shop.yaml").starts_with("# the shop\n"), "its comments are back");

    assert_eq!(operator.stop(), 0);
    let (code, out, err) = run(&operator, &["get", "ws", "-n", "alice"]);
    assert!(code == 0 && out.contains("shop") && err.contains("as of "), "{out}{err}");
    let (code, _, err) = run(&operator, &["touch", "shop", "-n", "alice"]);
    assert!(code == 3 && err.contains("needs a running operator"), "{err}");
}
