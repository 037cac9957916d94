//! `doctor`, with and without a running operator, and on hosts where something is wrong.

use serde_json::Value;

use crate::operator::Operator;

const SHOP: &str = "apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {name: shop}\nspec: {image: IMAGE, command: [sleep, '1000000'], ports: [{name: http, container: 80, publish: Pool}]}\n";

fn examined(operator: &Operator) -> (i32, Vec<Value>) {
    examined_on(operator, &crate::support::docker_host())
}

fn examined_on(operator: &Operator, host: &str) -> (i32, Vec<Value>) {
    let output = operator.verb(&["doctor", "-o", "json", "--docker-host", host]);
    let text = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), report["checks"].as_array().unwrap().clone())
}

/// Results and messages of one check.
fn told<'a>(checks: &'a [Value], check: &str) -> Vec<(&'a str, &'a str)> {
    let of = |entry: &'a Value| (entry["result"].as_str().unwrap(), entry["message"].as_str().unwrap());
    checks.iter().filter(|entry| entry["check"] == check).map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_installation_is_found_sound_and_nothing_is_left_behind() {
    let mut operator = Operator::new().await;
    operator.write("alice/shop.yaml", SHOP);
    operator.start();
    operator.until_ready("alice", "shop");
    let running = operator.containers();
    let source = format!("source {}", operator.specs().display());
    let (code, checks) = examined(&operator);
    assert_eq!(code, 0, "{checks:#?}");
    for check in ["engine", "storage", "cgroup", "clock", "rights", "ports", "operator", "state", &source, "helper image", "canary"] {
        assert!(told(&checks, check).iter().any(|(result, _)| *result == "ok"), "{check}: {checks:#?}");
    }
    assert!(told(&checks, "ports")[0].1.contains("23 of 24 free") && told(&checks, "ports")[0].1.contains("1 leased"), "{checks:#?}");
    assert!(told(&checks, "operator")[0].1.contains(&operator.pid().to_string()), "{checks:#?}");
    let name = format!("{}-doctor", operator.installation());
    for kind in ["container", "network", "volume"] {
        assert!(!operator.docker(&[kind, "inspect", "--format", "{{json .}}", &name]).starts_with('{'), "{kind} {name} is left");
    }
    assert_eq!(operator.containers(), running);

    assert_eq!(operator.stop(), 0);
    let (code, checks) = examined(&operator);
    assert_eq!((code, told(&checks, "operator")[0].0), (0, "ok"), "{checks:#?}");
    assert!(told(&checks, "operator")[0].1.contains("none runs"), "{checks:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_named_with_what_to_do() {
    let operator = Operator::new().await;
    operator.write("alice/shop.yaml", SHOP);
    assert_eq!(operator.once(), 0, "{}", operator.log());
    operator.write("alice/bad.yaml", "apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {name: bad}\nspec: {imag: x}\n");
    let source = format!("source {}", operator.specs().display());
    let (code, checks) = examined(&operator);
    assert_eq!((code, told(&checks, &source)[0].0), (1, "fail"), "{checks:#?}");
    assert!(told(&checks, &source)[0].1.contains("bad.yaml:4:"), "{checks:#?}");
    operator.remove("alice/bad.yaml");

    // A canary that a killed doctor left is no obstacle.
    let name = format!("{}-doctor", operator.installation());
    let label = format!("dockmaster.installation={}", operator.installation());
    operator.docker(&["volume", "create", "--label", &label, "--label", "dockmaster.role=helper", &name]);
    assert_eq!(told(&examined(&operator).1, "canary")[0].0, "ok");
    // What only has the name is not touched.
    operator.docker(&["volume", "create", &name]);
    let (code, checks) = examined(&operator);
    assert_eq!((code, told(&checks, "canary")[0].0), (1, "fail"), "{checks:#?}");
    assert_eq!(operator.docker(&["volume", "inspect", "--format", "{{.Name}}", &name]), name);

    let (code, checks) = examined_on(&operator, "unix:///nonexistent/docker.sock");
    assert_eq!((code, told(&checks, "engine")[0].0), (3, "fail"));
    assert!(checks.iter().all(|check| check["result"] == "ok" || check["next"].is_string()), "{checks:#?}");

    std::fs::rename(operator.specs(), operator.home().join("moved")).unwrap();
    let (code, checks) = examined(&operator);
    assert_eq!((code, told(&checks, &source)[0].0), (1, "fail"), "{checks:#?}");
}
