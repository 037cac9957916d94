//! The verbs as users see them: output, notes, exit codes, edits and facts.

use jiff::SignedDuration;
use serde_json::json;

use super::testing::{Desk, running, workspace};
use crate::config::{RUN_SETTING, deleted_setting, prune_setting};
use crate::http::control::WatchItem;
use crate::resource::{Kind, ObjectRef, Origin, Uid};
use crate::source::SourceError;
use crate::state::*;

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

#[tokio::test]
async fn get_prints_columns_and_says_as_of_when_no_operator_runs() {
    let desk = Desk::furnished().await;
    let (code, out, err) = desk.run("get ws -n alice").await;
    assert_eq!(
        (code, lines(&out)),
        (
            0,
            vec![
                "NAME   PHASE     READY     URL                       NEXT          AGE",
                "blog   Pending   Unknown   -                         -             3h",
                "shop   Running   True      http://127.0.0.1:10000/   Stop in 30m   3h",
            ]
        )
    );
    assert!(err.starts_with("as of ") && err.contains("(5m ago): no operator runs on "), "{err}");

    let _operator = desk.operator(Vec::new());
    let (_, out, err) = desk.run("get all -A -o wide").await;
    assert_eq!(err, "", "an operator keeps it fresh");
    assert_eq!(
        lines(&out),
        [
            "NAMESPACE   NAME             PHASE      READY     URL                       NEXT          AGE   IMAGE    CONTAINER          REASON",
            "alice       workspace/blog   Pending    Unknown   -                         -             3h    -        -                  NotYetObserved",
            "alice       workspace/shop   Running    True      http://127.0.0.1:10000/   Stop in 30m   3h    shop:1   dm-ws-alice.shop   Running",
            "bob         workspace/wiki   Pending    Unknown   -                         -             3h    -        -                  NotYetObserved",
            "alice       preview/demo     Creating   Unknown   -                         -             3h    -        -                  NotYetObserved",
            "-           tenant/alice     -          Unknown   -                         -             3h    -        -                  NotYetObserved",
        ]
    );
    assert_eq!(desk.run("get ws -A -l team=web -o name").await.1, "workspace/shop\n");
}

#[tokio::test]
async fn get_prints_objects_as_they_are() {
    let desk = Desk::furnished().await;
    let (_, yaml, _) = desk.run("get tenants alice -o yaml").await;
    let expected = "apiVersion: dockmaster/v1\nkind: Tenant\nmetadata:\n  name: alice\n  uid: 0198f000-0000-7000-8000-000000000004\n  generation: 1\nspec:\n  defaults:\n    memory: 1g\n";
    assert_eq!(yaml, expected);
    let (_, json, _) = desk.run("get shop -n alice -o json").await;
    let object: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&object["metadata"]["namespace"], &object["spec"]["image"], &object["status"]["phase"]),
        (&json!("alice"), &json!("shop:1"), &json!("Running"))
    );
    let (_, json, _) = desk.run("get pv,tn -A -o json").await;
    let list: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&list["kind"], list["items"].as_array().unwrap().len()), (&json!("List"), 2));
    let (code, json, _) = desk.run("get wt -o json").await;
    assert_eq!((code, serde_json::from_str::<serde_json::Value>(&json).unwrap()["items"].clone()), (0, json!([])), "programs get an empty list");
    let (_, json, _) = desk.run("get shop -n alice -o json --resolved").await;
    let object: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&object["spec"]["resources"]["memory"], &object["origins"]["resources.memory"]), (&json!("1g"), &json!("tenant alice")));
}

#[tokio::test]
async fn what_is_not_there_is_an_error_for_names_and_none_for_kinds() {
    let desk = Desk::furnished().await;
    let (code, out, err) = desk.run("get ws").await;
    assert_eq!((code, out.as_str()), (0, ""));
    assert!(err.contains("nothing found in namespace default; -A looks in all"), "{err}");
    let (code, _, err) = desk.run("get ws/shpo -n alice").await;
    assert_eq!(code, 1);
    assert!(err.contains("error: workspace/shpo not found in namespace alice; did you mean workspace/shop?"), "{err}");
    let (code, _, err) = desk.run("describe shop").await;
    assert_eq!(code, 1);
    assert!(err.contains("there is workspace/shop -n alice"), "{err}");
}

#[tokio::test]
async fn wrong_usage_and_missing_state_are_errors_that_say_what_to_do() {
    let desk = Desk::new().await;
    let (code, out, err) = desk.run("descirbe ws").await;
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("similar subcommand exists: 'describe'"), "{err}");
    let (code, out, _) = desk.run("get --help").await;
    assert!(code == 0 && out.contains("dockmaster get all -A -o wide"), "{out}");
    let (code, out, _) = desk.run("version").await;
    assert_eq!((code, out), (0, format!("dockmaster {}\n", env!("CARGO_PKG_VERSION"))));
    let (code, _, err) = desk.run("--installation other get ws").await;
    assert!(code == 1 && err.contains("belongs to installation dm, not other"), "{err}");
    desk.ledger.set_setting(RUN_SETTING, None).await.unwrap();
    let (code, _, err) = desk.run("get ws").await;
    assert!(code == 1 && err.contains("start one with `dockmaster run --specs DIR`"), "{err}");
}

#[tokio::test]
async fn describe_and_why_tell_the_whole_story() {
    let desk = Desk::furnished().await;
    let shop = workspace("alice", "shop");
    let event = Event {
        time: desk.now - SignedDuration::from_mins(10),
        type_: EventType::Normal,
        reason: EventReason::Started,
        object: Some(shop.clone()),
        message: "dm-ws-alice.shop started".into(),
        count: 2,
    };
    desk.ledger.event(&event).await.unwrap();
    let entry = JournalEntry {
        time: desk.now - SignedDuration::from_mins(10),
        object: shop.clone(),
        generation: 1,
        trigger: Trigger::Spec,
        changes: vec![FieldChange { field: "image".into(), old: "shop:0".into(), new: "shop:1".into() }],
        operations: vec![JournalOperation {
            op: "Start".into(),
            target: "dm-ws-alice.shop".into(),
            cause: "state: created -> running".into(),
            result: "done".into(),
            ms: 120,
        }],
        skipped: vec![JournalSkipped { op: "RemoveVolume".into(), why: "no consent".into() }],
        next: None,
    };
    desk.ledger.journal(&entry).await.unwrap();

    let (code, out, _) = desk.run("describe shop -n alice").await;
    assert_eq!(code, 0);
    for expected in [
        "Name:         shop\n",
        "Labels:       team=web\n",
        "File:         ./my-specs/alice/shop.yaml\n",
        "Port:         http 8080/tcp on host port 10000\n",
        "  Ready   True     Running   -       it runs\n",
        "  10m         Normal   Started   workspace/shop   dm-ws-alice.shop started (x2)\n",
    ] {
        assert!(out.contains(expected), "{expected}\n{out}");
    }
    let (code, out, _) = desk.run("why ws/shop -n alice").await;
    assert_eq!(code, 0);
    for expected in [
        "(10m ago), generation 1, because the spec changed\n",
        "  changed  image: shop:0 -> shop:1\n",
        "  Start dm-ws-alice.shop because of state: created -> running: done in 120 ms\n",
        "  left     RemoveVolume: no consent\n",
        "Now: Running\n  Ready=True (Running): it runs\n",
        "Next: Stop in 30m, at ",
    ] {
        assert!(out.contains(expected), "{expected}\n{out}");
    }
    let (_, out, _) = desk.run("why ws/shop -n alice -o json").await;
    let list: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(list["items"][0]["operations"][0]["ms"], 120);

    let (_, out, _) = desk.run("events -n alice").await;
    assert_eq!(
        lines(&out),
        ["LAST SEEN   TYPE     REASON    OBJECT           MESSAGE", "10m         Normal   Started   workspace/shop   dm-ws-alice.shop started (x2)"]
    );
    let (code, out, err) = desk.run("events").await;
    assert_eq!((code, out.as_str(), err.as_str()), (0, "", "no events in namespace default; -A looks in all\n"));
}

#[tokio::test]
async fn start_and_stop_edit_the_spec_and_leave_facts() {
    let desk = Desk::furnished().await;
    let (code, out, err) = desk.run("start blog -n alice").await;
    assert_eq!((code, out.as_str()), (0, "workspace/blog start asked for\n"));
    assert!(err.contains("this takes effect when one does"), "{err}");
    let facts = desk.ledger.facts(&desk.uid(&workspace("alice", "blog")).await).await.unwrap();
    assert!(facts.start_asked.is_some());
    let (code, _, err) = desk.run("start shop -n alice").await;
    assert!(code == 3 && err.contains("start needs a running operator"), "waking what a policy stopped: {err}");
    assert_eq!(desk.run("stop shop -n alice").await.0, 0);
    let (code, out, _) = desk.run("stop blog -n alice").await;
    assert_eq!((code, out.as_str()), (0, "workspace/blog is stopped already\n"));
    assert_eq!(desk.run("stop pv/demo -n alice").await.0, 1, "a preview has no state");
    assert_eq!(desk.run("suspend shop -n alice").await.1, "workspace/shop suspended\n");
    assert_eq!(desk.run("resume shop -n alice").await.1, "workspace/shop is resumed already\n");
    assert_eq!(desk.run("restart tenant/alice").await.0, 1);
    assert_eq!(
        *desk.edits.lock().unwrap(),
        [
            "workspace/blog -n alice at ./my-specs/alice/blog.yaml: spec.state = \"Running\"",
            "workspace/shop -n alice at ./my-specs/alice/shop.yaml: spec.state = \"Stopped\"",
            "workspace/shop -n alice at ./my-specs/alice/shop.yaml: metadata.annotations.dockmaster/suspend = \"true\"",
        ]
    );
}

#[tokio::test]
async fn a_file_that_cannot_be_written_gets_its_edit_in_words() {
    let desk = Desk::furnished().await;
    let source = std::io::ErrorKind::ReadOnlyFilesystem.into();
    desk.refuse.lock().unwrap().push(SourceError::Io { doing: "write", path: "shop.yaml".into(), source });
    let (code, _, err) = desk.run("stop shop -n alice").await;
    assert_eq!(code, 1);
    assert!(err.contains("cannot write shop.yaml") && err.contains("make the change by hand: set spec.state to \"Stopped\""), "{err}");
}

#[tokio::test]
async fn restart_touch_and_extend_leave_facts_and_nudge() {
    let desk = Desk::furnished().await;
    let shop = workspace("alice", "shop");
    let uid = desk.uid(&shop).await;
    let (code, _, err) = desk.run("touch shop -n alice").await;
    assert!(code == 3 && err.contains("touch needs a running operator"), "{err}");

    let mut operator = desk.operator(Vec::new());
    for line in ["restart shop -n alice", "touch shop -n alice", "extend shop 2h -n alice"] {
        let (code, _, err) = desk.run(line).await;
        assert_eq!((code, err.as_str()), (0, ""), "{line}");
        assert_eq!(operator.nudged.recv().await.unwrap(), Some(shop.clone()), "{line}");
    }
    let facts = desk.ledger.facts(&uid).await.unwrap();
    assert!(facts.restart_asked.is_some());
    assert_eq!(facts.activity.unwrap().1, "touch");
    let next = desk.now + SignedDuration::from_secs(30 * 60 + 30);
    assert_eq!(facts.extended_until.unwrap(), next + SignedDuration::from_hours(2), "counted from the stop that was coming");
}

#[tokio::test]
async fn extending_a_preview_raises_its_ttl() {
    let desk = Desk::furnished().await;
    let (code, _, err) = desk.run("extend pv/demo 1h30m -n alice").await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(*desk.edits.lock().unwrap(), ["preview/demo -n alice at ./my-specs/alice/demo.yaml: spec.ttl = \"5h30m\""]);
}

#[tokio::test]
async fn delete_leaves_a_word_and_undelete_brings_the_text_back() {
    let desk = Desk::furnished().await;
    let shop = workspace("alice", "shop");
    let (code, out, err) = desk.run("delete ws shop blog -n alice").await;
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("workspace/shop deleted\n") && err.contains("its data is kept for 7d: `dockmaster undelete workspace/shop -n alice` brings it back"),
        "{out}{err}"
    );
    assert!(desk.ledger.setting(&deleted_setting(&shop)).await.unwrap().is_some());
    assert_eq!(desk.edits.lock().unwrap().len(), 2);

    assert_eq!(desk.run("undelete shop -n alice").await.0, 0, "what nobody has noticed yet is only put back");
    assert_eq!(desk.ledger.setting(&deleted_setting(&shop)).await.unwrap(), None, "the word is taken back");
    let (code, _, err) = desk.run("undelete shop -n alice").await;
    assert!(code == 1 && err.contains("is not deleted"), "{err}");
    let tombstone = Tombstone {
        uid: desk.uid(&shop).await,
        at: desk.now,
        until: desk.now + SignedDuration::from_hours(168),
        consent: Consent::None,
        purge: false,
        farewell: Farewell::default(),
    };
    desk.ledger.bury(&shop, &tombstone).await.unwrap();
    let (code, _, err) = desk.run("get shop -n alice").await;
    assert!(code == 1 && err.contains("was deleted; its data is kept until") && err.contains("dockmaster undelete workspace/shop -n alice"), "{err}");
    assert!(!desk.run("get ws -n alice").await.1.contains("shop"));
    assert!(desk.run("why shop -n alice").await.1.contains("Deleted "));
    let (code, out, err) = desk.run("undelete shop -n alice").await;
    assert_eq!((code, out.as_str()), (0, "workspace/shop written back to ./my-specs/alice/shop.yaml\n"), "{err}");
    assert!(desk.edits.lock().unwrap()[3].contains("put back \"# the shop\\napiVersion"));

    let (code, _, err) = desk.run("undelete shpo -n alice").await;
    assert!(code == 1 && err.contains("did you mean shop?"), "{err}");
    let (code, out, _) = desk.run("purge shop -n alice --yes").await;
    assert_eq!((code, out.as_str()), (0, "workspace/shop purged\n"));
    let record = desk.ledger.records().await.unwrap().into_iter().find(|record| record.object == shop).unwrap();
    assert!(record.tombstone.unwrap().purge);
}

#[tokio::test]
async fn an_edit_that_fails_leaves_no_word_of_deletion() {
    let desk = Desk::furnished().await;
    desk.refuse.lock().unwrap().push(SourceError::Refused("no".into()));
    assert_eq!(desk.run("delete shop -n alice").await.0, 1);
    assert_eq!(desk.ledger.setting(&deleted_setting(&workspace("alice", "shop"))).await.unwrap(), None);
}

#[tokio::test]
async fn of_many_files_those_that_could_be_edited_are_told() {
    let desk = Desk::furnished().await;
    let names: Vec<String> = (0..40).map(|number| format!("w{number}")).collect();
    for name in &names {
        desk.admit(&workspace("alice", name), "apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {name: w}\n").await;
    }
    let (code, out, err) = desk.run(&format!("delete {} -n alice", names.join(" "))).await;
    assert_eq!((code, out.lines().count(), desk.edits.lock().unwrap().len()), (0, 40, 40), "{err}");
    desk.refuse.lock().unwrap().push(SourceError::Refused("no".into()));
    let (code, out, err) = desk.run("delete shop blog -n alice").await;
    let mut words = 0;
    for name in ["shop", "blog"] {
        words += usize::from(desk.ledger.setting(&deleted_setting(&workspace("alice", name))).await.unwrap().is_some());
    }
    assert_eq!((code, words), (1, out.lines().count()), "what is said to be deleted has the word: {out}{err}");
    assert!(err.contains("no"), "{err}");
    desk.refuse.lock().unwrap().extend(["one", "two"].map(|why| SourceError::Refused(format!("not this {why}"))));
    let (code, out, err) = desk.run("delete w1 w2 w3 -n alice").await;
    assert!(code == 1 && err.contains("not this one") && err.contains("not this two") && out.ends_with(" deleted\n"), "{out}{err}");
}

#[tokio::test]
async fn prune_confirms_one_source_or_all() {
    let desk = Desk::furnished().await;
    let (code, _, err) = desk.run("prune --source elsewhere").await;
    assert!(code == 1 && err.contains("the sources are ./my-specs"), "{err}");
    let (code, _, err) = desk.run("prune").await;
    assert!(code == 1 && err.contains("nothing of ./my-specs was held when the operator last ran"), "a word that waits would take whatever comes: {err}");
    assert_eq!(desk.ledger.setting(&prune_setting("./my-specs")).await.unwrap(), None);
    let mut held = running(desk.now);
    held["conditions"].as_array_mut().unwrap().push(json!({"type": "PruneBlocked", "status": "True", "reason": "PruneBlocked", "message": "gone"}));
    desk.status(&workspace("alice", "shop"), held).await;
    let (_, out, _) = desk.run("get ws shop -n alice -o wide").await;
    assert!(out.contains("PruneBlocked"), "{out}");
    assert_eq!(desk.run("prune --source ./my-specs/").await.0, 0);
    assert!(desk.ledger.setting(&prune_setting("./my-specs")).await.unwrap().is_some());

    let desk = Desk::furnished().await;
    let _operator = desk.operator(Vec::new());
    assert_eq!(desk.run("prune").await.0, 0, "an operator knows best what it holds");
}

#[tokio::test]
async fn what_was_deleted_a_moment_ago_is_applied_anew() {
    let desk = Desk::new().await;
    let page = workspace("alice", "page");
    let text = "apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {name: page, namespace: alice}\nspec: {type: static}\n";
    let draft = desk.dir.path().join("page.yaml");
    std::fs::write(&draft, text).unwrap();
    let digest = crate::source::report::validate_paths(std::slice::from_ref(&draft)).items[0].digest.clone();
    let origin = Origin { source: "./my-specs".into(), path: "alice/page.yaml".into(), document: 0 };
    let document = Document { object: page.clone(), text: text.into(), digest, origin };
    let fresh = Admission { uid: Uid("0198f000-0000-7000-8000-000000000001".into()), generation: 1, created: desk.now };
    desk.ledger.admit(&document, fresh, None).await.unwrap();
    let apply = format!("apply -f {}", draft.display());
    assert_eq!(desk.run(&apply).await.1, "workspace/page unchanged\n");
    assert_eq!(desk.run("delete page -n alice").await.0, 0);
    let (code, out, err) = desk.run(&apply).await;
    assert_eq!((code, out.as_str()), (0, "workspace/page created\n"), "{err}");
    assert!(desk.edits.lock().unwrap()[1].contains("put back"), "{:?}", desk.edits.lock().unwrap());
    assert_eq!(desk.ledger.setting(&deleted_setting(&page)).await.unwrap(), None, "it is not deleted any more");
}

#[tokio::test]
async fn nothing_to_apply_is_an_error() {
    let desk = Desk::furnished().await;
    let (code, out, err) = desk.run("apply -f /dev/null").await;
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("nothing to apply: no document of dockmaster's in /dev/null"), "{err}");
}

#[tokio::test]
async fn resolved_values_are_shown_without_asking_for_a_form() {
    let desk = Desk::furnished().await;
    let (code, yaml, _) = desk.run("get shop -n alice --resolved").await;
    assert!(code == 0 && yaml.contains("\norigins:\n") && yaml.contains("resources.memory: tenant alice"), "{yaml}");
    let (code, _, err) = desk.run("get shop -n alice --resolved -o wide").await;
    assert!(code == 1 && err.contains("say -o yaml or -o json"), "{err}");
}

#[tokio::test]
async fn types_are_of_no_namespace_and_some_are_built_in() {
    let desk = Desk::furnished().await;
    let (code, _, err) = desk.run("get wt").await;
    assert!(code == 0 && err.contains("nothing found; built in are static, node,"), "{err}");
    let (code, _, err) = desk.run("get wt/node").await;
    assert!(code == 1 && err.contains("workspacetype/node is built in and has no document"), "{err}");
}

#[tokio::test]
async fn orphans_are_listed_and_removed() {
    let desk = Desk::furnished().await;
    let (_, out, _) = desk.run("orphans").await;
    assert_eq!(
        lines(&out),
        [
            "TYPE     NAME                    OBJECT                   AGE   PLAN",
            "volume   dm-vol-alice.old.data   workspace/old -n alice   -     goes with --remove"
        ]
    );
    assert!(desk.run("orphans --remove -o json").await.1.contains("\"plan\": \"removed\""));
}

#[tokio::test]
async fn wait_sees_the_generation_the_condition_and_the_end() {
    let desk = Desk::furnished().await;
    let (code, _, err) = desk.run("wait shop -n alice --for condition=Ready").await;
    assert!(code == 3 && err.contains("start one with `dockmaster run`"), "{err}");

    let shop = workspace("alice", "shop");
    let status = |generation| WatchItem::Status { object: shop.clone(), generation, status: running(desk.now) };
    let operator = desk.operator(vec![status(2)]);
    let (code, _, err) = desk.run("wait shop -n alice --for condition=Ready --timeout 1s").await;
    assert!(
        code == 1 && err.contains("condition=Ready did not come within 1s: workspace/shop is Running, Ready=True"),
        "the status speaks of an older spec: {err}"
    );
    operator.tell(&status(1));
    let given = desk.run("wait shop -n alice --for phase=Running").await;
    assert_eq!((given.0, given.1.as_str()), (0, "workspace/shop Running\n"), "{}", given.2);

    assert_eq!(desk.run("wait wiki -n bob --for delete").await.0, 0, "what is not there is deleted");
    let deleting = |container: bool| {
        let ready = json!([{"type": "Ready", "status": "False", "reason": "Deleting", "message": "deleted"}]);
        let mut status = json!({"observedGeneration": 1, "phase": "Deleting", "conditions": ready});
        if container {
            status["container"] = running(desk.now)["container"].clone();
        }
        WatchItem::Status { object: shop.clone(), generation: 1, status }
    };
    operator.tell(&deleting(true));
    assert_eq!(desk.run("wait shop -n alice --for delete --timeout 1s").await.0, 1, "its container is still there");
    operator.tell(&deleting(false));
    assert_eq!(desk.run("wait shop -n alice --for delete").await.0, 0);
    let (code, _, err) = desk.run("wait shpo -n alice --for condition=Ready --timeout 1s").await;
    assert!(code == 1 && err.contains("did you mean workspace/shop?"), "{err}");
}

#[tokio::test]
async fn watching_prints_what_is_and_what_changes_until_the_operator_ends() {
    let desk = Desk::furnished().await;
    assert_eq!(desk.run("get ws -A -w").await.0, 3);
    assert_eq!(desk.run("events -w").await.0, 3);
    let (shop, wiki) = (workspace("alice", "shop"), workspace("bob", "wiki"));
    let operator = desk.operator(vec![WatchItem::Status { object: shop.clone(), generation: 1, status: running(desk.now) }]);
    let talk = async {
        desk.prints("shop").await;
        let status = json!({"observedGeneration": 1, "phase": "Error", "conditions": []});
        operator.tell(&WatchItem::Deleted { object: shop });
        operator.tell(&WatchItem::Status { object: wiki, generation: 1, status });
        desk.prints("Error").await;
        drop(operator);
    };
    let ((code, out, err), ()) = tokio::join!(desk.run("get ws -A -w"), talk);
    assert_eq!(code, 3, "{err}");
    let out = lines(&out);
    assert!(out[1].starts_with("alice       shop   Running") && out[2].starts_with("bob         wiki   Error"), "{out:?}");
    assert!(err.contains("workspace/shop deleted") && err.contains("the operator ended"), "{err}");
}

#[tokio::test]
async fn validate_and_apply_check_before_they_write() {
    let desk = Desk::furnished().await;
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = (dir.path().join("good.yaml"), dir.path().join("bad.yaml"));
    std::fs::write(&good, "apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {name: new}\nspec: {image: a}\n---\napiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {name: shop, namespace: alice}\nspec: {image: b}\n").unwrap();
    std::fs::write(&bad, "apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {name: bad}\nspec: {imgae: a}\n").unwrap();
    let (code, _, err) = desk.run(&format!("validate {}", dir.path().display())).await;
    assert!(code == 1 && err.contains("bad.yaml:4:8:") && err.contains("1 error"), "{err}");
    let (code, _, err) = desk.run(&format!("apply -f {} -f {}", good.display(), bad.display())).await;
    assert!(code == 1 && err.contains("nothing was written") && desk.edits.lock().unwrap().is_empty(), "{err}");
    let (code, out, err) = desk.run(&format!("apply -f {}", good.display())).await;
    assert_eq!((code, out.as_str()), (0, "workspace/new created\nworkspace/shop configured\n"), "{err}");
    let edits = desk.edits.lock().unwrap().clone();
    assert!(
        edits[0].starts_with("workspace/new -n default at new: put") && edits[1].starts_with("workspace/shop -n alice at ./my-specs/alice/shop.yaml: put"),
        "{edits:?}"
    );
    let (code, _, err) = desk.run(&format!("apply -n bob -f {}", good.display())).await;
    assert!(code == 1 && err.contains("says namespace alice, not bob"), "{err}");
}

#[tokio::test]
async fn schema_explain_and_completion_need_nothing() {
    let desk = Desk::new().await;
    let (code, out, _) = desk.run("schema ws").await;
    assert_eq!((code, serde_json::from_str::<serde_json::Value>(&out).unwrap()["title"].clone()), (0, json!("Workspace")));
    assert!(desk.run("explain workspace.spec.idle").await.1.contains("timeout"));
    assert_eq!(desk.run("explain workspace.spec.idel").await.0, 1);
    for shell in ["bash", "zsh", "fish"] {
        assert!(desk.run(&format!("completion {shell}")).await.1.contains("undelete"), "{shell}");
    }
}

#[tokio::test]
async fn previous_logs_come_from_the_ledger_and_others_from_the_engine() {
    let desk = Desk::furnished().await;
    let shop = workspace("alice", "shop");
    assert_eq!(desk.run("logs --previous shop -n alice").await.0, 1);
    desk.ledger.record(&desk.uid(&shop).await, &[Fact::PreviousLog("one\ntwo\nthree\n".into())]).await.unwrap();
    assert_eq!(desk.run("logs --previous --tail 2 shop -n alice").await.1, "two\nthree\n");
    let (code, _, err) = desk.run("logs shop -n alice").await;
    assert!(code == 3 && err.contains("no engine here"), "{err}");
    assert_eq!(desk.run("exec shop -n alice -- true").await.0, 3);
    assert_eq!(ObjectRef::new(Kind::Preview, "alice", "demo").short(), "preview/demo");
}
