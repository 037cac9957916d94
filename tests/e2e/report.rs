//! `status:` in the user's own file: only that, only what is new, and never in anybody's way.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::Value;

use crate::operator::{Operator, condition, sleeper};

/// The text without the blocks that begin with `status:` at the margin.
fn without_status(text: &str) -> String {
    let mut inside = false;
    let keeps = |line: &&str| {
        let blank = line.trim().is_empty();
        inside = if inside { line.starts_with([' ', '-']) && !line.starts_with("---") && !blank } else { line.starts_with("status:") };
        !inside
    };
    text.split_inclusive('\n').filter(keeps).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_byte_of_a_file_changes() {
    let mut operator = Operator::new().await.with(&["--resync", "1s"]);
    let head = |name: &str| format!("apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {{name: {name}}}\n");
    let spec = "spec:\n  image: IMAGE\n  command: [sleep, \"100000\"]\n";
    let files = [
        ("comments", format!("# a\n\n{}  # odd\n{spec}  # indented\n\n\n# the end\n", head("comments")), vec!["comments"]),
        ("crlf", format!("{}{spec}  env: [{{name: A, value: b}}] # c\n", head("crlf")).replace('\n', "\r\n"), vec!["crlf"]),
        ("open", format!("{}{}", head("open"), spec.trim_end()), vec!["open"]),
        (
            "anchors",
            format!("{}spec:\n  command: &c [sleep, \"100000\"]\n  image: IMAGE\n  services:\n    db: {{image: IMAGE, command: *c}}\n", head("anchors")),
            vec!["anchors"],
        ),
        ("multi", format!("---\n{}{spec}---\n# second\n{}{spec}...\n", head("first"), head("second")), vec!["first", "second"]),
    ];
    let image = |text: &str| text.replace("IMAGE", crate::support::IMAGE);
    for (name, text, _) in &files {
        operator.write(&format!("alice/{name}.yaml"), text);
    }
    let flow = "{apiVersion: dockmaster/v1, kind: Workspace, metadata: {name: flow}, spec: {image: IMAGE, command: [sleep, '100000']}} # flow\n";
    operator.write("alice/flow.yaml", flow);
    operator.start();
    for (name, text, objects) in &files {
        let path = format!("alice/{name}.yaml");
        objects.iter().for_each(|object| _ = operator.until_ready("alice", object));
        let written = operator.wait(&format!("the status of {name}"), || {
            let now = operator.read(&path);
            (now.matches("phase: Running").count() == objects.len()).then_some(now)
        });
        let expected = image(text);
        let rest = without_status(&written);
        assert!(rest == expected || rest == format!("{expected}\n"), "{name}: {rest:?}\n{expected:?}");
        assert_eq!(rest.contains("\r\n"), *name == "crlf");
        if *name == "crlf" {
            assert_eq!(written.matches('\n').count(), written.matches("\r\n").count(), "{written:?}");
        }
    }
    operator.until_ready("alice", "flow");
    let written = operator.wait("the status in flow style", || Some(operator.read("alice/flow.yaml")).filter(|text| text.contains("Running")));
    let original = image(flow);
    let (start, end) = original.rsplit_once('}').unwrap();
    assert!(written.starts_with(start) && written.ends_with(&format!("}}{end}")), "{written}");
    // What was written reads as what is.
    operator.ok(&["validate", operator.specs().to_str().unwrap()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_is_written_causes_nothing() {
    let mut operator = Operator::new().await.with(&["--resync", "1s"]);
    operator.write("alice/shop.yaml", &sleeper("shop", ""));
    operator.write("alice/clock.yaml", &sleeper("clock", ""));
    operator.start();
    let shop = operator.until_ready("alice", "shop");
    operator.until_ready("alice", "clock");
    assert_eq!(shop["status"]["observedGeneration"], shop["metadata"]["generation"]);
    let file = operator.specs().join("alice/shop.yaml");
    operator.wait("the status in the file", || operator.read("alice/shop.yaml").contains("reason: Running").then_some(()));
    let seen = || {
        let metadata = fs::metadata(&file).unwrap();
        let journal: Value = serde_json::from_str(&operator.ok(&["why", "shop", "-n", "alice", "-o", "json"])).unwrap();
        let events = operator.ok(&["events", "shop", "-n", "alice", "-o", "json"]);
        (metadata.ino(), metadata.mtime_nsec(), journal.to_string(), events)
    };
    let before = seen();
    // Several full passes and changes beside it later, all is as it was.
    for value in ["a", "b"] {
        operator.write("alice/clock.yaml", &sleeper("clock", &format!("  env: [{{name: PASS, value: {value}}}]\n")));
        let main = operator.container("alice", "clock", None);
        operator.wait("the change", || operator.inspect(&main, "{{.Config.Env}}").contains(&format!("PASS={value}")).then_some(()));
        operator.until_ready("alice", "clock");
    }
    assert_eq!(seen(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_somebody_removes_or_changes_comes_back() {
    let mut operator = Operator::new().await;
    let text = sleeper("shop", "");
    operator.write("alice/shop.yaml", &text);
    operator.start();
    operator.until_ready("alice", "shop");
    let complete = || operator.read("alice/shop.yaml").contains("reason: Running").then_some(());
    operator.wait("the status in the file", complete);
    operator.write("alice/shop.yaml", &text);
    operator.wait("the status to come back", complete);
    operator.edit("alice/shop.yaml", "phase: Running", "phase: Stopped");
    operator.wait("the truth to come back", || operator.read("alice/shop.yaml").contains("phase: Running").then_some(()));
    assert_eq!(operator.until_ready("alice", "shop")["metadata"]["generation"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_edit_is_lost_while_status_is_written() {
    let mut operator = Operator::new().await;
    operator.write("alice/shop.yaml", &format!("# edit 0\n{}", sleeper("shop", "")));
    operator.start();
    operator.until_ready("alice", "shop");
    let file = operator.specs().join("alice/shop.yaml");
    let main = operator.container("alice", "shop", None);
    for edit in 1..=40 {
        let (from, to) = (format!("# edit {}\n", edit - 1), format!("# edit {edit}\n"));
        // An edit of the instant in which a status is put into place is put back right after it.
        let there = || fs::read_to_string(&file).ok().filter(|text| text.starts_with(&from));
        let old = operator.wait(&format!("edit {} to be there", edit - 1), there);
        // An editor that knows nothing of the status takes it away, which has it written again; others keep what they read.
        let new = if edit % 2 == 0 { old.replace(&from, &to) } else { format!("{to}{}", sleeper("shop", "").replace("IMAGE", crate::support::IMAGE)) };
        if edit % 3 == 0 {
            fs::write(&file, new).unwrap();
        } else {
            let temporary = file.with_extension("new~");
            fs::write(&temporary, new).unwrap();
            fs::rename(temporary, &file).unwrap();
        }
        if edit % 10 == 5 {
            operator.docker(&["kill", &main]);
        }
        // Until the operator has written, or half a second for it to be about to.
        let deadline = std::time::Instant::now() + std::time::Duration::from_millis(40 * (edit % 13));
        while std::time::Instant::now() < deadline && !fs::read_to_string(&file).unwrap().contains("status:") {
            std::thread::park_timeout(std::time::Duration::from_millis(5));
        }
    }
    operator.until_ready("alice", "shop");
    operator.wait("the status in the file", || operator.read("alice/shop.yaml").contains("phase: Running").then_some(()));
    assert!(operator.read("alice/shop.yaml").starts_with("# edit 40\n"));
    // The displaced file is looked at once more before it goes.
    let rest = || fs::read_dir(operator.specs().join("alice")).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    operator.wait("nothing to be left behind", || (rest() == ["shop.yaml"]).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_or_nothing_where_that_is_asked_for() {
    for mode in ["sidecar", "none"] {
        let mut operator = Operator::new().await.with(&["--status", mode]);
        let text = [sleeper("one", ""), sleeper("two", "")].join("---\n");
        operator.write("alice/both.yaml", &text);
        let original = operator.read("alice/both.yaml");
        operator.start();
        operator.until_ready("alice", "one");
        operator.until_ready("alice", "two");
        let beside = operator.specs().join("alice/both.yaml.status.yaml");
        if mode == "sidecar" {
            let whole = || fs::read_to_string(&beside).ok().filter(|text| text.matches("phase: Running").count() == 2);
            operator.wait("the sidecar", whole);
            fs::remove_file(&beside).unwrap();
            operator.wait("the sidecar that was removed", whole);
        }
        assert_eq!(operator.stop(), 0);
        assert_eq!(operator.read("alice/both.yaml"), original);
        assert_eq!(beside.exists(), mode == "sidecar");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_is_only_said_of_what_was_seen() {
    let mut operator = Operator::new().await;
    let health = "  health: {test: [CMD-SHELL, \"test -f /tmp/ok\"], interval: 1s, startPeriod: 120s, startInterval: 1s}\n";
    operator.write("alice/shop.yaml", &sleeper("shop", health));
    let mut watch = operator.command(&["get", "ws", "shop", "-n", "alice", "-w", "-o", "json"]);
    operator.start();
    let starting = operator.until("alice", "shop", "it to be starting", |status| status["phase"] == "Starting" && status["container"]["startedAt"].is_string());
    assert_eq!(condition(&starting["status"], "Ready"), Some("False"));
    let log = operator.home().join("watched");
    let mut watcher = watch.stdout(fs::File::create(&log).unwrap()).spawn().unwrap();
    operator.wait("the watch", || (!fs::read_to_string(&log).unwrap().is_empty()).then_some(()));
    let main = operator.container("alice", "shop", None);
    operator.wait("a failed test", || (operator.inspect(&main, "{{.State.Health.Status}}") == "starting").then_some(()));
    assert!(!operator.read("alice/shop.yaml").contains("reason: Running"));
    operator.docker(&["exec", &main, "touch", "/tmp/ok"]);
    operator.until_ready("alice", "shop");
    // Where the engine tests only by its interval, the operator's own test came before it.
    operator.wait("the engine to say so too", || (operator.inspect(&main, "{{.State.Health.Status}}") == "healthy").then_some(()));
    // A change is not ready before what it led to was seen, whatever was ready before.
    operator.edit("alice/shop.yaml", "spec:\n", "spec:\n  env: [{name: A, value: b}]\n");
    let second = operator.until("alice", "shop", "the second generation", |status| status["observedGeneration"] == 2);
    assert_eq!(condition(&second["status"], "Ready"), Some("False"), "{second:#}");
    let next = format!("{main}_next");
    operator.wait("the replacement to be tested", || operator.inspect(&next, "{{.Config.Env}} {{.State.Running}}").ends_with("A=b] true").then_some(()));
    assert_eq!(condition(&operator.get("workspace", "alice", "shop").unwrap()["status"], "Ready"), Some("False"));
    watcher.kill().unwrap();
    watcher.wait().unwrap();
    for line in fs::read_to_string(&log).unwrap().lines() {
        let Ok(object) = serde_json::from_str::<Value>(line) else { continue };
        let ready = condition(&object["status"], "Ready") == Some("True");
        assert!(!(ready && object["status"]["observedGeneration"] == 2), "{line}");
    }
}
