//! Services beside a workspace: their order, their names, their data, and who is replaced when one of them changes.

use serde_json::Value;

use crate::operator::{Operator, condition, message};

/// A web server that says so.
fn says(text: &str) -> String {
    format!("[sh, -c, 'echo {text} > /tmp/index.html; exec httpd -f -p 80 -h /tmp']")
}

fn workspace(name: &str, services: &str) -> String {
    format!(
        "apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {{name: {name}}}\nspec:\n  image: IMAGE\n  command: [sleep, \"1000000\"]\n  stopGracePeriod: 1s\n  services:\n{services}"
    )
}

fn started(operator: &Operator, container: &str) -> jiff::Timestamp {
    operator.inspect(container, "{{.State.StartedAt}}").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn they_start_in_their_order_and_main_comes_last() {
    let mut operator = Operator::new().await;
    // `a` needs `b`, `b` needs `c`, and `c` is healthy only when a file appears.
    let services = format!(
        "    a: {{image: IMAGE, command: {}, dependsOn: [b]}}\n    b: {{image: IMAGE, command: {}, dependsOn: [c]}}\n    c: {{image: IMAGE, command: {}, health: {{test: [CMD, test, -f, /tmp/ok], interval: 1s, retries: 2, startPeriod: 10m}}}}\n",
        says("a"),
        says("b"),
        says("c")
    );
    operator.write("alice/shop.yaml", &workspace("shop", &services));
    operator.start();
    let [a, b, c] = ["a", "b", "c"].map(|service| operator.container("alice", "shop", Some(service)));
    let main = operator.container("alice", "shop", None);
    let waiting = operator.until("alice", "shop", "main to wait for c", |status| {
        message(status, "Ready").contains("shop.c is not healthy yet") || message(status, "WaitingOn").contains("shop.c")
    });
    assert_eq!(condition(&waiting["status"], "Ready"), Some("False"), "Ready needs all");
    let running = |container: &str| operator.inspect(container, "{{.State.Running}}") == "true";
    assert!(running(&c) && !running(&b) && !running(&a) && !running(&main));
    operator.docker(&["exec", &c, "touch", "/tmp/ok"]);
    let shop = operator.until_ready("alice", "shop");
    let times = [&c, &b, &a, &main].map(|container| started(&operator, container));
    assert!(times.is_sorted(), "{times:?}");
    let services = shop["status"]["services"].as_array().unwrap();
    let told: Vec<(&Value, &Value, &Value)> = services.iter().map(|service| (&service["name"], &service["state"], &service["ready"])).collect();
    assert_eq!(told.len(), 3);
    for ((name, state, ready), expected) in told.into_iter().zip(["a", "b", "c"]) {
        assert_eq!((name, state, ready), (&Value::from(expected), &Value::from("running"), &Value::from(true)));
    }
    // One that is not well makes the workspace not ready, and it is told which.
    operator.docker(&["exec", &c, "rm", "/tmp/ok"]);
    let unwell = operator.until("alice", "shop", "c to be unwell", |status| condition(status, "Unhealthy") == Some("True"));
    assert_eq!(condition(&unwell["status"], "Ready"), Some("False"));
    assert!(message(&unwell["status"], "Unhealthy").contains("shop.c"), "{unwell:#}");
    let services = unwell["status"]["services"].clone();
    assert_eq!((&services[2]["name"], &services[2]["ready"]), (&Value::from("c"), &Value::from(false)));
    // Main goes first when all of it stops.
    operator.docker(&["exec", &c, "touch", "/tmp/ok"]);
    operator.until_ready("alice", "shop");
    operator.ok(&["stop", "shop", "-n", "alice"]);
    operator.until("alice", "shop", "the stop", |status| status["phase"] == "Stopped");
    let ended = |container: &str| operator.inspect(container, "{{.State.FinishedAt}}").parse::<jiff::Timestamp>().unwrap();
    assert!([&a, &b, &c].into_iter().all(|service| ended(service) >= ended(&main)));
    assert!(![&a, &b, &c, &main].into_iter().any(|container| running(container)));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_workspace_has_a_db_of_its_own() {
    let mut operator = Operator::new().await;
    for name in ["one", "two"] {
        let db = format!("    db: {{image: IMAGE, command: {}}}\n", says(&format!("the db of {name}")));
        operator.write(&format!("alice/{name}.yaml"), &workspace(name, &db));
    }
    operator.write("alice/plain.yaml", &crate::converge::sleeper("plain", ""));
    operator.start();
    for name in ["one", "two", "plain"] {
        operator.until_ready("alice", name);
    }
    for name in ["one", "two"] {
        let main = operator.container("alice", name, None);
        let answer = operator.wait("an answer", || Some(operator.fetch(&main, "db", "80")).filter(|answer| answer.contains("db")));
        assert_eq!(answer, format!("the db of {name}"));
        // However often it is asked.
        for _ in 0..5 {
            assert_eq!(operator.fetch(&main, "db", "80"), format!("the db of {name}"));
        }
        let db = operator.container("alice", name, Some("db"));
        let networks = operator.inspected(&db)["NetworkSettings"]["Networks"].clone();
        assert_eq!(networks.as_object().unwrap().keys().collect::<Vec<_>>(), [&format!("{}-ws-alice.{name}", operator.installation())]);
    }
    let neighbour = operator.container("alice", "plain", None);
    assert!(!operator.fetch(&neighbour, "db", "80").contains("the db"), "a service is its workspace's own");
    let address = operator.inspect(&operator.container("alice", "one", Some("db")), "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}");
    assert_eq!(operator.fetch(&operator.container("alice", "one", None), &address, "80"), "the db of one");
    operator.until_out_of_reach(&neighbour, &address, "80", "the db");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_service_replaces_only_itself_and_keeps_its_data() {
    let mut operator = Operator::new().await;
    let services =
        format!("    db: {{image: IMAGE, command: {}, volume: {{path: /data}}}}\n    cache: {{image: IMAGE, command: {}}}\n", says("first"), says("cache"));
    operator.write("alice/shop.yaml", &workspace("shop", &services));
    operator.start();
    operator.until_ready("alice", "shop");
    let [db, cache] = ["db", "cache"].map(|service| operator.container("alice", "shop", Some(service)));
    let main = operator.container("alice", "shop", None);
    let id = |container: &str| operator.inspect(container, "{{.Id}} {{.State.StartedAt}}");
    let before = [&db, &cache, &main].map(|container| id(container));
    operator.docker(&["exec", &db, "sh", "-c", "echo kept > /data/rows"]);
    let volume = format!("{}-svc-alice.shop.db", operator.installation());
    assert_eq!(operator.inspect(&db, "{{range .Mounts}}{{.Name}} {{.Destination}}{{end}}"), format!("{volume} /data"));

    operator.edit("alice/shop.yaml", "echo first", "echo second");
    operator.until_generation("alice", "shop", 2);
    assert_ne!(id(&db), before[0]);
    assert_eq!([id(&cache), id(&main)], [before[1].clone(), before[2].clone()], "the others were left alone");
    assert_eq!(operator.docker(&["exec", &db, "cat", "/data/rows"]), "kept");
    let answer = operator.wait("the new one", || Some(operator.fetch(&main, "db", "80")).filter(|answer| !answer.is_empty()));
    assert_eq!(answer, "second");

    // One that is not declared any more goes; its data stays.
    let text = operator.read("alice/shop.yaml");
    let line = text.lines().find(|line| line.trim_start().starts_with("db:")).unwrap().to_owned() + "\n";
    operator.edit("alice/shop.yaml", &line, "");
    operator.wait("db to go", || operator.inspect(&db, "{{.Id}}").contains("No such").then_some(()));
    let shop = operator.until_generation("alice", "shop", 3);
    assert_eq!(shop["status"]["services"].as_array().unwrap().len(), 1);
    assert_eq!(operator.docker(&["volume", "inspect", "-f", "{{.Name}}", &volume]), volume);
    assert_eq!([id(&cache), id(&main)], [before[1].clone(), before[2].clone()]);
    // And is there when it comes back.
    let text = operator.read("alice/shop.yaml");
    let services = text.find("    cache:").unwrap();
    operator.edit("alice/shop.yaml", &text, &format!("{}{line}{}", &text[..services], &text[services..]));
    operator.until_generation("alice", "shop", 4);
    operator.wait("its data", || (operator.docker(&["exec", &db, "cat", "/data/rows"]) == "kept").then_some(()));
}
