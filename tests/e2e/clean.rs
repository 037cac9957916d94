//! What goes with a spec and what stays: containers, networks, ports, data; undoing it; orphans; what is not ours.

use serde_json::Value;

use crate::operator::{Operator, condition, sleeper};
use crate::support;

const DATA: &str = "  ports: [{name: http, container: 8080, publish: Pool}]\n  mounts: [{volume: data, path: /data}]\n";

fn uid(object: &Value) -> String {
    object["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// Waits until nothing of the installation runs or lies about but its volumes.
fn until_bare(operator: &Operator) {
    operator.wait("containers and networks to be gone", || (operator.containers().is_empty() && operator.all_networks().is_empty()).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spec_that_goes_takes_all_but_its_data_and_brings_all_back() {
    let mut operator = Operator::new().await;
    let text = sleeper("shop", &format!("{DATA}  services:\n    db: {{image: IMAGE, command: [sleep, \"100000\"], volume: {{path: /db}}}}\n"));
    let text = format!("# my shop\n{text}");
    operator.write("alice/web/shop.yaml", &text);
    operator.start();
    let before = operator.until_ready("alice", "shop");
    let main = operator.container("alice", "shop", None);
    let db = operator.container("alice", "shop", Some("db"));
    operator.docker(&["exec", &main, "sh", "-c", "echo mine > /data/x"]);
    operator.docker(&["exec", &db, "sh", "-c", "echo rows > /db/x"]);
    let volumes = operator.volumes();
    assert_eq!(volumes.len(), 2, "{volumes:?}");
    assert_eq!(operator.all_networks().len(), 2);

    // The file goes; `undelete` writes it again where it was.
    operator.remove("alice/web/shop.yaml");
    until_bare(&operator);
    assert_eq!(operator.volumes(), volumes, "data stays");
    assert!(operator.get("workspace", "alice", "shop").is_none());
    assert!(operator.was_told("Tombstoned"));
    operator.ok(&["undelete", "shop", "-n", "alice"]);
    let after = operator.until_ready("alice", "shop");
    assert!(operator.read("alice/web/shop.yaml").starts_with("# my shop\napiVersion"), "{}", operator.read("alice/web/shop.yaml"));
    assert_eq!(uid(&after), uid(&before));
    assert_eq!(after["status"]["url"], before["status"]["url"], "the same port");
    assert_eq!(operator.docker(&["exec", &main, "cat", "/data/x"]), "mine");
    assert_eq!(operator.docker(&["exec", &db, "cat", "/db/x"]), "rows");
    let alias = operator.inspect(&main, "{{json .NetworkSettings.Networks}}");
    assert!(alias.contains("\"shop\"") && alias.contains("\"shop.alice\""), "{alias}");
    assert!(operator.was_told("Undeleted"));
    assert!(!operator.was_told("Healed"), "what a deletion removed was removed by nobody else");

    // The file's own return does the same.
    operator.remove("alice/web/shop.yaml");
    until_bare(&operator);
    operator.write("alice/web/shop.yaml", &text);
    let again = operator.until_ready("alice", "shop");
    assert_eq!(uid(&again), uid(&before));
    assert_eq!(again["status"]["url"], before["status"]["url"]);
    assert_eq!(operator.docker(&["exec", &main, "cat", "/data/x"]), "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_tombstone_removes_data_only_where_the_spec_says_so() {
    let mut operator = Operator::new().await.with(&["--tombstone", "2s"]);
    let of = |name: &str, policy: &str| sleeper(name, &format!("  mounts: [{{volume: data, path: /data}}]\n{policy}"));
    let all = [of("gone", "  deletionPolicy: Delete\n"), of("kept", "  deletionPolicy: Retain\n"), of("plain", "")];
    operator.write("alice/all.yaml", &all.join("---\n"));
    operator.start();
    ["gone", "kept", "plain"].iter().for_each(|name| _ = operator.until_ready("alice", name));
    let volume = |name: &str| format!("{}-vol-alice.{name}.data", operator.installation());

    // All of a source by the verb: a person's word counts at once and is not held.
    operator.ok(&["delete", "gone", "kept", "plain", "-n", "alice"]);
    assert!(!operator.specs().join("alice/all.yaml").exists(), "the file goes with its last document");
    until_bare(&operator);
    operator.wait("the volume to be removed", || (operator.volumes() == [volume("kept"), volume("plain")]).then_some(()));
    assert!(operator.was_told("Purged"));
    let orphans = operator.wait("the tombstones to end", || {
        let orphans = operator.ok(&["orphans"]);
        (orphans.contains("data; `docker volume rm`") && !orphans.contains("tombstone")).then_some(orphans)
    });
    assert!(orphans.contains(&volume("kept")) && orphans.contains(&volume("plain")), "{orphans}");
    operator.ok(&["orphans", "--remove"]);
    assert_eq!(operator.volumes(), [volume("kept"), volume("plain")], "volumes are data");
    assert_eq!(operator.verb(&["undelete", "gone", "-n", "alice"]).status.code(), Some(1), "there is nothing left of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn purge_ends_a_tombstone_and_is_the_way_to_start_afresh() {
    let mut operator = Operator::new().await;
    let text = sleeper("shop", &format!("{DATA}  deletionPolicy: Delete\n"));
    operator.write("alice/shop.yaml", &text);
    operator.start();
    let before = operator.until_ready("alice", "shop");
    assert_eq!(operator.verb(&["purge", "shop", "-n", "alice", "--yes"]).status.code(), Some(1), "what lives is not purged");
    operator.ok(&["delete", "shop", "-n", "alice"]);
    until_bare(&operator);
    assert_eq!(operator.volumes().len(), 1);
    operator.ok(&["purge", "shop", "-n", "alice", "--yes"]);
    operator.wait("the volume to be removed", || operator.volumes().is_empty().then_some(()));
    operator.wait("the record to go", || (!operator.verb(&["undelete", "shop", "-n", "alice"]).status.success()).then_some(()));
    operator.write("alice/shop.yaml", &text);
    let after = operator.until_ready("alice", "shop");
    assert_ne!(uid(&after), uid(&before));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_network_of_a_namespace_goes_with_its_last_object() {
    let mut operator = Operator::new().await;
    ["one", "two"].iter().for_each(|name| operator.write(&format!("alice/{name}.yaml"), &sleeper(name, "")));
    operator.write("bob/three.yaml", &sleeper("three", ""));
    operator.start();
    [("alice", "one"), ("alice", "two"), ("bob", "three")].iter().for_each(|(namespace, name)| _ = operator.until_ready(namespace, name));
    let network = |namespace: &str| format!("{}-ns-{namespace}", operator.installation());
    assert_eq!(operator.all_networks(), [network("alice"), network("bob")]);
    let two = operator.inspect(&operator.container("alice", "two", None), "{{.Id}}");
    operator.remove("alice/one.yaml");
    operator.wait("one to be gone", || (operator.containers().len() == 2).then_some(()));
    operator.remove("alice/two.yaml");
    operator.wait("alice's network to be gone", || (operator.all_networks() == [network("bob")]).then_some(()));
    assert_eq!(operator.containers(), [operator.container("bob", "three", None)]);
    assert!(!operator.docker(&["inspect", &two]).contains(&format!("\"Id\": \"{two}\"")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_ours_is_never_touched() {
    let mut operator = Operator::new().await.with(&["--resync", "1s", "--tombstone", "1s"]);
    operator.write("alice/shop.yaml", &sleeper("shop", "  mounts: [{volume: data, path: /data}]\n  deletionPolicy: Delete\n"));
    operator.start();
    operator.until_ready("alice", "shop");
    let main = operator.container("alice", "shop", None);
    let labels: Vec<String> = serde_json::from_str::<serde_json::Map<String, Value>>(&operator.inspect(&main, "{{json .Config.Labels}}"))
        .unwrap()
        .into_iter()
        .flat_map(|(key, value)| ["--label".to_owned(), format!("{key}={}", value.as_str().unwrap())])
        .collect();
    let inst = operator.installation().to_owned();
    let image = format!("{inst}-labelled:1");
    let label = format!("LABEL dockmaster.installation={inst}");
    support::import(&operator.sandbox.client, &image, &[&label, "LABEL dockmaster.kind=workspace"]).await;
    let run = |name: &str, extra: &[&str], image: &str| {
        let name = format!("{inst}-{name}");
        operator.docker(&[&["run", "-d", "--init", "--name", &name][..], extra, &[image, "sleep", "100000"]].concat())
    };
    let copied: Vec<&str> = labels.iter().map(String::as_str).collect();
    let containers = [
        // A name like ours without labels; our labels under another name; our label from an image.
        run("ws-alice.cart", &[], support::IMAGE),
        run("ws-alice.shop-copy", &copied, support::IMAGE),
        run("labelled", &[], &image),
        run("ws-alice.labelled", &[], &image),
    ];
    assert!(containers.iter().all(|id| id.len() == 64), "{containers:?}");
    let network = operator.docker(&["network", "create", "--internal", &format!("{inst}-ws-alice.shop")]);
    assert_eq!(network.len(), 64, "{network}");
    let volume = operator.docker(&["volume", "create", &format!("{inst}-vol-alice.shop.other")]);
    let labelled = operator.docker(&["volume", "create", "--label", &format!("dockmaster.installation={inst}"), &format!("{inst}-vol-alice.shop.labelled")]);

    operator.remove("alice/shop.yaml");
    operator.wait("shop to be gone", || (!operator.containers().contains(&main)).then_some(()));
    let own = format!("{inst}-vol-alice.shop.data");
    operator.wait("its volume to be gone", || (!operator.volumes().contains(&own)).then_some(()));
    operator.ok(&["orphans", "--remove"]);
    for id in &containers {
        assert_eq!(operator.inspect(id, "{{.State.Running}}"), "true");
    }
    assert_eq!(operator.docker(&["network", "inspect", "--format", "{{.Id}}", &network]), network);
    for volume in [&volume, &labelled] {
        assert_eq!(&operator.docker(&["volume", "inspect", "--format", "{{.Name}}", volume]), volume);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_of_this_state_go_and_unknown_ones_go_only_when_asked() {
    let mut operator = Operator::new().await.with(&["--resync", "1s"]);
    operator.write("alice/shop.yaml", &sleeper("shop", DATA));
    operator.write("alice/stays.yaml", &sleeper("stays", ""));
    operator.start();
    operator.until_ready("alice", "shop");
    operator.until_ready("alice", "stays");
    let main = operator.container("alice", "shop", None);
    let labels: Vec<String> = serde_json::from_str::<serde_json::Map<String, Value>>(&operator.inspect(&main, "{{json .Config.Labels}}"))
        .unwrap()
        .into_iter()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap()))
        .collect();
    let run = |name: &str, labels: &[String]| {
        let labels = labels.iter().flat_map(|label| ["--label", label.as_str()]);
        let arguments: Vec<&str> = ["run", "-d", "--init", "--name", name].into_iter().chain(labels).chain([support::IMAGE, "sleep", "100000"]).collect();
        // One that is removed before it was started had an id too.
        let said = operator.docker(&arguments);
        let id: String = said.chars().take(64).collect();
        assert!(id.len() == 64 && id.chars().all(|c| c.is_ascii_hexdigit()), "{said}");
        id
    };
    operator.remove("alice/shop.yaml");
    operator.wait("shop to be gone", || (!operator.containers().contains(&main)).then_some(()));

    // A container of the life that this state buried, as a restored engine would have it: it is planned away.
    let known = run(&main, &labels);
    operator.wait("the orphan to be gone", || operator.docker(&["ps", "-aq", "--no-trunc", "--filter", &format!("id={known}")]).is_empty().then_some(()));

    // One of a life that this state never saw: listed, and left alone.
    let ghost = operator.container("alice", "ghost", None);
    let strange: Vec<String> = labels
        .iter()
        .map(|label| match label.split_once('=').unwrap() {
            ("dockmaster.name", _) => "dockmaster.name=ghost".to_owned(),
            ("dockmaster.uid", _) => "dockmaster.uid=01980000-0000-7000-8000-000000000001".to_owned(),
            _ => label.clone(),
        })
        .collect();
    let unknown = run(&ghost, &strange);
    let volume = format!("{}-vol-alice.ghost.data", operator.installation());
    let volume_labels: Vec<&String> = strange
        .iter()
        .filter(|label| ["installation", "kind", "namespace", "name", "uid"].iter().any(|key| label.starts_with(&format!("dockmaster.{key}="))))
        .collect();
    let mut create = vec!["volume", "create", "--label", "dockmaster.volume=data"];
    volume_labels.iter().for_each(|label| create.extend(["--label", label.as_str()]));
    create.push(&volume);
    assert_eq!(operator.docker(&create), volume);
    let listed = operator.ok(&["orphans"]);
    let line = listed.lines().find(|line| line.contains(&ghost)).unwrap_or_else(|| panic!("{listed}"));
    assert!(line.contains("Orphaned (unknown to this state)") && line.contains("workspace/ghost -n alice"), "{line}");
    assert!(!listed.contains("stays"), "{listed}");
    // Two full passes later it is still there.
    for value in ["a", "b"] {
        operator.write("alice/stays.yaml", &sleeper("stays", &format!("  env: [{{name: PASS, value: {value}}}]\n")));
        operator.wait("the change", || {
            operator.inspect(&operator.container("alice", "stays", None), "{{.Config.Env}}").contains(&format!("PASS={value}")).then_some(())
        });
        operator.until_ready("alice", "stays");
    }
    assert_eq!(operator.inspect(&unknown, "{{.State.Running}}"), "true");
    let removed = operator.ok(&["orphans", "--remove"]);
    assert!(removed.lines().any(|line| line.contains(&ghost) && line.contains("removed")), "{removed}");
    assert_eq!(operator.containers(), [operator.container("alice", "stays", None)]);
    assert!(operator.volumes().contains(&volume), "volumes are data");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_moves_within_its_namespace_changes_nothing() {
    let mut operator = Operator::new().await;
    operator.write("alice/shop.yaml", &sleeper("shop", DATA));
    operator.write("alice/other.yaml", &sleeper("other", ""));
    operator.start();
    let before = operator.until_ready("alice", "shop");
    operator.until_ready("alice", "other");
    let main = operator.container("alice", "shop", None);
    let life = operator.inspect(&main, "{{.Id}} {{.State.StartedAt}}");
    std::fs::create_dir_all(operator.specs().join("alice/team")).unwrap();
    std::fs::rename(operator.specs().join("alice/shop.yaml"), operator.specs().join("alice/team/store.yaml")).unwrap();
    // Another document's change, seen after it, shows that it was noticed; the settling time passes before the object's own status says more.
    operator.edit("alice/other.yaml", "spec:\n", "spec:\n  env: [{name: A, value: b}]\n");
    operator.until("alice", "other", "the next change", |status| status["observedGeneration"] == 2);
    operator.until_ready("alice", "other");
    operator.docker(&["kill", &operator.container("alice", "other", None)]);
    operator.until("alice", "other", "the change after it", |status| status["container"]["exitCode"].is_null());
    let after = operator.until_ready("alice", "shop");
    assert_eq!((uid(&after), &after["metadata"]["generation"]), (uid(&before), &before["metadata"]["generation"]));
    assert_eq!(operator.inspect(&main, "{{.Id}} {{.State.StartedAt}}"), life, "nothing happened to it");
    assert!(!operator.was_told("Tombstoned"));
    operator.ok(&["stop", "shop", "-n", "alice"]);
    assert!(operator.read("alice/team/store.yaml").contains("state: Stopped"), "it is followed to its new place");
    operator.until("alice", "shop", "the stop", |status| status["phase"] == "Stopped");
    operator.ok(&["start", "shop", "-n", "alice"]);
    operator.until_ready("alice", "shop");

    // Across namespaces it is a deletion and a creation, and no data follows.
    std::fs::create_dir_all(operator.specs().join("bob")).unwrap();
    std::fs::rename(operator.specs().join("alice/team/store.yaml"), operator.specs().join("bob/shop.yaml")).unwrap();
    let bob = operator.until_ready("bob", "shop");
    operator.wait("alice's to be gone", || (!operator.containers().contains(&main)).then_some(()));
    assert_ne!(uid(&bob), uid(&before));
    assert_eq!(operator.volumes().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_document_with_the_same_key_waits_for_the_first_to_go() {
    let mut operator = Operator::new().await;
    let of = |value: &str| sleeper("shop", &format!("  env: [{{name: FROM, value: {value}}}]\n"));
    operator.write("alice/m.yaml", &of("first"));
    operator.start();
    let before = operator.until_ready("alice", "shop");
    let main = operator.container("alice", "shop", None);
    let id = operator.inspect(&main, "{{.Id}}");
    // It sorts before the first, which counts all the same, also after a restart.
    operator.write("alice/a.yaml", &of("second"));
    let duplicate = |status: &Value| condition(status, "DuplicateObject") == Some("True");
    let shop = operator.until("alice", "shop", "the duplicate to be told", duplicate);
    let told =
        shop["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "DuplicateObject").unwrap()["message"].as_str().unwrap().to_owned();
    assert!(told.contains("alice/a.yaml"), "{told}");
    operator.stop();
    operator.start();
    operator.wait("the restarted operator to tell it", || operator.log().matches("the first one counts").nth(1).map(|_| ()));
    operator.until("alice", "shop", "the duplicate to be told again", duplicate);
    assert_eq!(operator.inspect(&main, "{{.Id}}"), id);
    operator.remove("alice/m.yaml");
    operator.wait("the second to take over", || operator.inspect(&main, "{{.Config.Env}}").contains("FROM=second").then_some(()));
    let after = operator.until_ready("alice", "shop");
    assert_eq!(uid(&after), uid(&before));
    operator.until("alice", "shop", "the condition to go", |status| condition(status, "DuplicateObject").is_none());
    assert!(!operator.was_told("Tombstoned"));
}
