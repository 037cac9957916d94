//! Host ports: leased, kept, probed, fixed, used up, given back.

use std::collections::BTreeSet;
use std::net::TcpListener;

use serde_json::Value;

use crate::operator::{Operator, condition, message, sleeper};

const POOL: &str = "  ports: [{name: http, container: 8080, publish: Pool}]\n";

fn port(object: &Value) -> u16 {
    u16::try_from(object["status"]["ports"][0]["host"].as_u64().unwrap_or_else(|| panic!("{object:#}"))).unwrap()
}

/// Takes all ports of the operator's range but so many, as other programs of the host would.
fn occupy_all_but(operator: &Operator, free: u16) -> Vec<TcpListener> {
    let (first, last) = operator.ports();
    (first + free..=last).filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_at_once_get_ports_of_their_own_and_keep_them() {
    let mut operator = Operator::new().await;
    let names: Vec<String> = (0..20).map(|n| format!("w{n}")).collect();
    names.iter().for_each(|name| operator.write(&format!("alice/{name}.yaml"), &sleeper(name, POOL)));
    operator.start();
    let ports: Vec<u16> = names.iter().map(|name| port(&operator.until_ready("alice", name))).collect();
    let unique: BTreeSet<u16> = ports.iter().copied().collect();
    let (first, last) = operator.ports();
    assert_eq!(unique.len(), 20, "{ports:?}");
    assert!(unique.iter().all(|port| (first..=last).contains(port)), "{ports:?}");
    let main = operator.container("alice", "w7", None);
    assert_eq!(operator.inspect(&main, "{{(index (index .HostConfig.PortBindings \"8080/tcp\") 0).HostPort}}"), ports[7].to_string());

    // Over a replacement, a restart of the workspace, and one of the operator.
    let id = operator.inspect(&main, "{{.Id}}");
    operator.edit("alice/w7.yaml", "spec:\n", "spec:\n  env: [{name: A, value: b}]\n");
    operator.until("alice", "w7", "the second generation", |status| status["observedGeneration"] == 2);
    assert_eq!(port(&operator.until_ready("alice", "w7")), ports[7]);
    assert_ne!(operator.inspect(&main, "{{.Id}}"), id);
    operator.ok(&["stop", "w7", "-n", "alice"]);
    operator.until("alice", "w7", "the stop", |status| status["phase"] == "Stopped");
    operator.stop();
    operator.start();
    operator.until_running();
    operator.ok(&["start", "w7", "-n", "alice"]);
    let after: Vec<u16> = names.iter().map(|name| port(&operator.until_ready("alice", name))).collect();
    assert_eq!(after, ports);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_another_program_has_is_skipped_and_one_taken_meanwhile_is_changed() {
    let mut operator = Operator::new().await;
    let (first, last) = operator.ports();
    // Every port but the last; what cannot be bound is taken already.
    let mut strangers: Vec<TcpListener> = (first..last).filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).collect();
    operator.write("alice/shop.yaml", &sleeper("shop", POOL));
    operator.start();
    assert_eq!(port(&operator.until_ready("alice", "shop")), last);
    let main = operator.container("alice", "shop", None);
    let id = operator.inspect(&main, "{{.Id}}");
    operator.ok(&["stop", "shop", "-n", "alice"]);
    operator.until("alice", "shop", "the stop", |status| status["phase"] == "Stopped");
    assert_eq!(operator.inspect(&main, "{{.Id}} {{.State.Running}}"), format!("{id} false"));
    let _thief = operator.wait("the port to be free", || TcpListener::bind(("127.0.0.1", last)).ok());
    let freed = strangers.pop().unwrap().local_addr().unwrap().port();
    operator.ok(&["start", "shop", "-n", "alice"]);
    let after = operator.wait("another port", || operator.get("workspace", "alice", "shop").filter(|shop| shop["status"]["ports"][0]["host"] == freed));
    assert_eq!(port(&after), freed);
    assert_eq!(port(&operator.until_ready("alice", "shop")), freed);
    assert_ne!(operator.inspect(&main, "{{.Id}}"), id, "the container was replaced");
    assert!(operator.was_told("PortReleased"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_equal_fixed_ports_the_older_has_it_until_it_goes() {
    let mut operator = Operator::new().await;
    let fixed = operator.ports().0 + 5;
    let of = |name: &str| sleeper(name, &format!("  ports: [{{name: http, container: 8080, publish: {fixed}}}]\n"));
    operator.write("alice/older.yaml", &of("older"));
    operator.start();
    assert_eq!(port(&operator.until_ready("alice", "older")), fixed);
    operator.write("bob/younger.yaml", &of("younger"));
    let conflict = |status: &Value| condition(status, "PortConflict") == Some("True");
    let younger = operator.until("bob", "younger", "the conflict", conflict);
    let told = message(&younger["status"], "PortConflict");
    assert!(told.contains(&fixed.to_string()) && told.contains("workspace/older -n alice"), "{told}");
    assert_eq!(condition(&younger["status"], "Ready"), Some("False"));
    operator.remove("alice/older.yaml");
    assert_eq!(port(&operator.until_ready("bob", "younger")), fixed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_that_is_used_up_names_the_holders_and_serves_the_next_when_one_goes() {
    let mut operator = Operator::new().await;
    let _strangers = occupy_all_but(&operator, 2);
    operator.write("alice/a.yaml", &sleeper("a", POOL));
    operator.write("bob/b.yaml", &sleeper("b", POOL));
    operator.start();
    let freed = port(&operator.until_ready("alice", "a"));
    operator.until_ready("bob", "b");
    operator.write("carol/c.yaml", &sleeper("c", POOL));
    let c = operator.until("carol", "c", "no port to be left", |status| condition(status, "PortsExhausted") == Some("True"));
    let told = message(&c["status"], "PortsExhausted");
    assert!(told.contains("workspace/a -n alice") && told.contains("workspace/b -n bob"), "{told}");
    operator.remove("alice/a.yaml");
    assert_eq!(port(&operator.until_ready("carol", "c")), freed);
    assert!(condition(&operator.until_ready("carol", "c")["status"], "PortsExhausted").is_none());

    // What is stopped gives its port up to who waits for one.
    operator.write("dora/d.yaml", &sleeper("d", POOL));
    operator.until("dora", "d", "no port to be left", |status| condition(status, "PortsExhausted") == Some("True"));
    operator.ok(&["stop", "b", "-n", "bob"]);
    assert_ne!(port(&operator.until_ready("dora", "d")), freed);
    assert!(operator.was_told("PortReleased"));
    operator.until("bob", "b", "the stop", |status| status["phase"] == "Stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_address_is_warned_of() {
    let mut operator = Operator::new().await.with(&["--publish-address", "0.0.0.0"]);
    operator.write("alice/shop.yaml", &sleeper("shop", POOL));
    operator.start();
    let shop = operator.until_ready("alice", "shop");
    assert!(operator.log().contains("open to everyone"), "{}", operator.log());
    assert_eq!(shop["status"]["url"], format!("http://127.0.0.1:{}/", port(&shop)));
    let bound = operator.inspect(&operator.container("alice", "shop", None), "{{(index (index .HostConfig.PortBindings \"8080/tcp\") 0).HostIp}}");
    assert_eq!(bound, "0.0.0.0");
}
