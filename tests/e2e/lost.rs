//! The state directory is lost, or kept in a backup: history goes and comes, nothing else.

use std::fs;

use serde_json::Value;

use crate::operator::{Operator, condition, sleeper};

const POOL: &str = "  ports: [{name: http, container: 8080, publish: Pool}]\n";

/// The id and the instant of the start of every container.
fn lives(operator: &Operator) -> Vec<String> {
    operator.containers().iter().map(|name| operator.inspect(name, "{{.Name}} {{.Id}} {{.State.StartedAt}} {{.State.FinishedAt}}")).collect()
}

fn lose(operator: &Operator) {
    fs::remove_dir_all(operator.state()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_state_directory_harms_nothing() {
    let mut operator = Operator::new().await;
    let text = format!(
        "{POOL}  mounts: [{{volume: data, path: /data}}]\n  services:\n    db: {{image: IMAGE, command: [sleep, \"100000\"], volume: {{path: /db}}}}\n"
    );
    operator.write("alice/shop.yaml", &sleeper("shop", &text));
    operator.write("alice/other.yaml", &sleeper("other", &format!("{POOL}  state: Stopped\n")));
    operator.write("alice/demo.yaml", "apiVersion: dockmaster/v1\nkind: Preview\nmetadata: {name: demo}\nspec:\n  image: IMAGE\n  command: [sleep, \"100000\"]\n  ports: [{name: http, container: 8080, publish: Pool}]\n  ttl: 2h\n");
    operator.start();
    operator.until_ready("alice", "shop");
    operator.edit("alice/shop.yaml", "spec:\n", "spec:\n  env: [{name: A, value: b}]\n");
    operator.until("alice", "shop", "the second generation", |status| status["observedGeneration"] == 2);
    let shop = operator.until_ready("alice", "shop");
    let running = |status: &Value| status["phase"] == "Running" && condition(status, "Ready") == Some("True");
    let demo = operator.until_kind("preview", "alice", "demo", "the preview", running);
    let stopped = |status: &Value| status["phase"] == "Stopped";
    operator.until("alice", "other", "the stopped one", stopped);
    assert_eq!(operator.stop(), 0);
    let (before, volumes, networks) = (lives(&operator), operator.volumes(), operator.all_networks());
    let same = |operator: &Operator| {
        assert_eq!(lives(operator), before, "no container was touched");
        assert_eq!((operator.volumes(), operator.all_networks()), (volumes.clone(), networks.clone()));
        let now = operator.until_ready("alice", "shop");
        for field in ["uid", "generation"] {
            assert_eq!(now["metadata"][field], shop["metadata"][field], "{field}");
        }
        for field in ["ports", "url", "container", "phase", "observedGeneration"] {
            assert_eq!(now["status"][field], shop["status"][field], "{field}");
        }
        let preview = operator.until_kind("preview", "alice", "demo", "the preview", running);
        assert_eq!(preview["metadata"]["uid"], demo["metadata"]["uid"]);
        for field in ["ports", "url", "hash", "expiresAt"] {
            assert!(!demo["status"][field].is_null(), "{demo:#}");
            assert_eq!(preview["status"][field], demo["status"][field], "{field}");
        }
        operator.until("alice", "other", "the stopped one", stopped);
        let orphans = operator.ok(&["orphans"]);
        assert!(orphans.trim().is_empty(), "{orphans}");
    };

    // Between two runs.
    lose(&operator);
    operator.start();
    same(&operator);
    assert!(operator.was_told("StateRecovered") && operator.was_told("Adopted"));
    assert!(condition(&operator.until_ready("alice", "shop")["status"], "StateLost").is_none(), "what is seen to run is known again");
    // Under a running operator, which is killed then.
    lose(&operator);
    operator.kill();
    operator.start();
    same(&operator);
    // What comes after goes on counting, and healing works.
    operator.edit("alice/shop.yaml", "value: b", "value: c");
    let shop = operator.until("alice", "shop", "the third generation", |status| status["observedGeneration"] == 3);
    assert_eq!(operator.until_ready("alice", "shop")["status"]["url"], shop["status"]["url"]);
    operator.docker(&["rm", "-f", &operator.container("alice", "shop", None)]);
    operator.wait("healing", || (operator.inspect(&operator.container("alice", "shop", None), "{{.State.Running}}") == "true").then_some(()));
    assert_eq!(operator.until_ready("alice", "shop")["status"]["ports"], shop["status"]["ports"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_generation_goes_on_from_what_the_status_says() {
    let mut operator = Operator::new().await;
    operator.write("alice/shop.yaml", &sleeper("shop", "  state: Stopped\n"));
    operator.start();
    operator.until("alice", "shop", "the stop", |status| status["observedGeneration"] == 1);
    operator.edit("alice/shop.yaml", "state: Stopped", "state: Running");
    operator.until("alice", "shop", "the second generation", |status| status["observedGeneration"] == 2);
    operator.until_ready("alice", "shop");
    // Changes that replace nothing are not in the labels.
    for (generation, (from, to)) in [("state: Running", "state: Running\n  idle: {timeout: 10h}"), ("10h", "11h")].into_iter().enumerate() {
        operator.edit("alice/shop.yaml", from, to);
        operator.until("alice", "shop", "the change", |status| status["observedGeneration"] == generation + 3);
    }
    operator.wait("the status in the file", || operator.read("alice/shop.yaml").contains("observedGeneration: 4").then_some(()));
    operator.stop();
    let before = lives(&operator);
    lose(&operator);
    operator.start();
    assert_eq!(operator.until_ready("alice", "shop")["metadata"]["generation"], 4);
    assert_eq!(lives(&operator), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_idleness_may_have_stopped_stays_stopped_until_it_is_started() {
    let mut operator = Operator::new().await;
    operator.write("alice/idle.yaml", &sleeper("idle", "  idle: {timeout: 4s}\n"));
    operator.write("alice/busy.yaml", &sleeper("busy", ""));
    operator.start();
    operator.until_ready("alice", "busy");
    operator.until("alice", "idle", "idleness", |status| status["phase"] == "Stopped" && condition(status, "Ready") == Some("True"));
    operator.stop();
    let idle = operator.container("alice", "idle", None);
    let before = operator.inspect(&idle, "{{.Id}} {{.State.FinishedAt}}");
    operator.docker(&["stop", "-t", "0", &operator.container("alice", "busy", None)]);
    lose(&operator);
    operator.start();
    // One without a policy that may have stopped it is healed.
    operator.until_ready("alice", "busy");
    operator.until("alice", "idle", "the loss to be told", |status| condition(status, "StateLost") == Some("True"));
    assert_eq!(operator.inspect(&idle, "{{.Id}} {{.State.FinishedAt}}"), before);
    operator.stop();
    operator.start();
    operator.until_running();
    operator.until("alice", "idle", "the loss to be told again", |status| condition(status, "StateLost") == Some("True"));
    assert_eq!(operator.inspect(&idle, "{{.Id}} {{.State.FinishedAt}}"), before);
    operator.ok(&["start", "idle", "-n", "alice"]);
    operator.until("alice", "idle", "it to run", |status| status["phase"] == "Running" && condition(status, "StateLost").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_brings_history_back() {
    let mut operator = Operator::new().await;
    operator.write("alice/shop.yaml", &sleeper("shop", &format!("{POOL}  mounts: [{{volume: data, path: /data}}]\n")));
    operator.write("alice/stays.yaml", &sleeper("stays", POOL));
    operator.start();
    let before = operator.until_ready("alice", "shop");
    let stays = operator.until_ready("alice", "stays");
    operator.docker(&["exec", &operator.container("alice", "shop", None), "sh", "-c", "echo mine > /data/x"]);
    operator.ok(&["delete", "shop", "-n", "alice"]);
    operator.wait("it to go", || (operator.containers().len() == 1).then_some(()));
    let file = operator.home().join("backup");
    let path = file.to_str().unwrap();
    operator.ok(&["state", "backup", path]);
    let again = operator.verb(&["state", "backup", path]);
    let told = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(!again.status.success() && told.contains("--overwrite"), "{told}");
    operator.ok(&["state", "backup", path, "--overwrite"]);
    assert_ne!(operator.verb(&["state", "restore", path, "--yes"]).status.code(), Some(0), "not under a running operator");
    operator.stop();
    let lives_before = lives(&operator);
    lose(&operator);
    operator.ok(&["state", "restore", path, "--yes"]);
    operator.start();
    assert_eq!(operator.until_ready("alice", "stays")["metadata"]["uid"], stays["metadata"]["uid"]);
    assert_eq!(lives(&operator), lives_before);
    operator.ok(&["undelete", "shop", "-n", "alice"]);
    let after = operator.until_ready("alice", "shop");
    assert_eq!((&after["metadata"]["uid"], &after["status"]["url"]), (&before["metadata"]["uid"], &before["status"]["url"]));
    assert_eq!(operator.docker(&["exec", &operator.container("alice", "shop", None), "cat", "/data/x"]), "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_whose_state_directory_goes_ends_and_the_next_one_finds_everything() {
    let mut operator = Operator::new().await;
    operator.write("alice/shop.yaml", &sleeper("shop", POOL));
    operator.start();
    let shop = operator.until_ready("alice", "shop");
    let before = lives(&operator);
    // While it ends it may still write into what is being removed.
    operator.wait("the state directory to go", || fs::remove_dir_all(operator.state()).ok());
    assert_eq!(operator.ended(), 1, "{}", operator.log());
    assert!(operator.log().contains("was removed or replaced while the operator ran, so nothing is changed any more"), "{}", operator.log());
    operator.start();
    let again = operator.until_ready("alice", "shop");
    assert_eq!((lives(&operator), &again["metadata"]["uid"], &again["status"]["ports"]), (before, &shop["metadata"]["uid"], &shop["status"]["ports"]));
}
