//! Tenants: defaults, quotas, policy; and types.

use serde_json::Value;

use crate::operator::{Operator, condition, reason};

fn workspace(name: &str, spec: &str) -> String {
    let image = if spec.contains("type:") || spec.contains("image:") { "" } else { "  image: IMAGE\n" };
    format!(
        "apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {{name: {name}}}\nspec:\n{image}  stopGracePeriod: 1s\n  command: [sleep, '1000000']\n{spec}"
    )
}

fn tenant(name: &str, spec: &str) -> String {
    format!("apiVersion: dockmaster/v1\nkind: Tenant\nmetadata: {{name: {name}}}\nspec:\n{spec}")
}

fn runs(status: &Value) -> bool {
    reason(status) == "Running" && condition(status, "Ready") == Some("True")
}

fn is_over(status: &Value) -> bool {
    condition(status, "QuotaExceeded") == Some("True") && status["phase"] == "Pending"
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_are_within_the_quota_and_freeing_one_starts_the_next() {
    let mut operator = Operator::new().await;
    operator.write("default.yaml", &tenant("default", "  quota: {maxWorkspaces: 2}\n"));
    operator.write("bob.yaml", &tenant("bob", "  quota: {maxWorkspaces: 9, maxRunning: 1}\n"));
    operator.write("alice/first.yaml", &workspace("first", ""));
    operator.start();
    operator.until_ready("alice", "first");
    operator.write("alice/second.yaml", &workspace("second", ""));
    operator.until_ready("alice", "second");
    operator.write("alice/third.yaml", &workspace("third", ""));
    let third = operator.until("alice", "third", "the verdict", is_over);
    let message = third.to_string();
    assert!(message.contains("maxWorkspaces") && message.contains("workspace/first") && message.contains("workspace/second"), "{third:#}");
    assert_eq!(operator.containers().len(), 2);
    operator.remove("alice/first.yaml");
    operator.until("alice", "third", "room", runs);

    // What runs is bounded too, and a stop makes room.
    operator.write("bob/one.yaml", &workspace("one", ""));
    operator.until_ready("bob", "one");
    operator.write("bob/two.yaml", &workspace("two", ""));
    let two = operator.until("bob", "two", "the verdict", is_over);
    assert!(two.to_string().contains("maxRunning"), "{two:#}");
    operator.ok(&["stop", "one", "-n", "bob"]);
    operator.until("bob", "two", "room", runs);
    // A higher quota counts at once, without a touch of the workspace.
    operator.ok(&["start", "one", "-n", "bob"]);
    operator.until("bob", "one", "its turn to wait", is_over);
    operator.edit("bob.yaml", "maxRunning: 1", "maxRunning: 2");
    operator.until("bob", "one", "the higher quota", runs);
}

#[tokio::test(flavor = "multi_thread")]
async fn defaults_reach_workspaces_and_their_edits_are_inherited_changes() {
    let mut operator = Operator::new().await;
    operator.write("default.yaml", &tenant("default", "  defaults: {memory: 64m, cpu: '0.5', idleTimeout: 1h}\n  quota: {memory: 96m}\n"));
    operator.write("alice.yaml", &tenant("alice", "  defaults: {memory: 48m}\n"));
    operator.write("alice/shop.yaml", &workspace("shop", ""));
    operator.write("bob/shop.yaml", &workspace("shop", ""));
    operator.write("bob/big.yaml", &workspace("big", "  resources: {memory: 1g}\n"));
    operator.start();
    let shop = operator.until_ready("alice", "shop");
    assert!(shop["status"]["next"]["why"].as_str().unwrap().contains("1h"), "{shop:#}");
    operator.until_ready("bob", "shop");
    operator.until_ready("bob", "big");
    let limits = |namespace: &str, name: &str| operator.inspect(&operator.container(namespace, name, None), "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}");
    let mb = |count: u64| format!("{} 500000000", count << 20);
    assert_eq!(limits("alice", "shop"), mb(48), "the own tenant's word before the default one's");
    assert_eq!(limits("bob", "shop"), mb(64));
    assert_eq!(limits("bob", "big"), mb(96), "capped");
    let id = operator.inspect(&operator.container("bob", "shop", None), "{{.Id}}");
    let resolved = operator.ok(&["get", "ws", "shop", "-n", "alice", "-o", "yaml", "--resolved"]);
    assert!(resolved.contains("48m") && resolved.contains("alice"), "{resolved}");

    operator.edit("default.yaml", "memory: 64m", "memory: 80m");
    operator.wait("the inherited limit", || (limits("bob", "shop") == mb(80)).then_some(()));
    assert_eq!(operator.inspect(&operator.container("bob", "shop", None), "{{.Id}}"), id, "changed in place");
    assert_eq!(limits("alice", "shop"), mb(48));
    // A shorter default counts at once.
    operator.edit("default.yaml", "idleTimeout: 1h", "idleTimeout: 3s");
    operator.until("bob", "shop", "the inherited timeout", |status| reason(status) == "Idle");
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_refuses_with_the_reason() {
    let mut operator = Operator::new().await;
    operator.write("alice.yaml", &tenant("alice", "  policy: {images: ['ours/*'], profile: Baseline}\n"));
    operator.write("alice/shop.yaml", &workspace("shop", ""));
    operator.write("bob/net.yaml", &workspace("net", "  networks: [host-db]\n"));
    operator.start();
    let shop = operator.until("alice", "shop", "the refusal", |status| condition(status, "Stalled") == Some("True"));
    assert!(shop.to_string().contains("policy.images"), "{shop:#}");
    let net = operator.until("bob", "net", "the refusal", |status| condition(status, "Stalled") == Some("True"));
    assert!(net.to_string().contains("policy.networks"), "{net:#}");
    assert_eq!(operator.containers(), [""; 0]);
    operator.edit("alice.yaml", "'ours/*'", "'ours/*', 'dockmaster-test/*'");
    operator.until("alice", "shop", "the permission", runs);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_is_used_mended_and_edited_later() {
    let mut operator = Operator::new().await;
    let type_ = |flavour: &str| {
        format!(
            "apiVersion: dockmaster/v1\nkind: WorkspaceType\nmetadata: {{name: sleepy}}\nspec:\n  image: IMAGE\n  restart: 'no'\n  env: [{{name: FLAVOUR, value: {flavour}}}, {{name: KIND, value: type}}]\n"
        )
    };
    operator.write("sleepy.yaml", &type_("mild"));
    operator.write("alice/shop.yaml", &workspace("shop", "  type: sleepy\n  env: [{name: KIND, value: own}]\n  idle: {timeout: 1h}\n"));
    operator.write("alice/lost.yaml", &workspace("lost", "  type: sleepi\n"));
    operator.write("alice/shown.yaml", "apiVersion: dockmaster/v1\nkind: Preview\nmetadata: {name: shown}\nspec: {workspace: lost, ttl: 1h}\n");
    operator.start();
    operator.until_ready("alice", "shop");
    let container = operator.container("alice", "shop", None);
    let env = || operator.inspect(&container, "{{.Config.Env}}");
    assert!(env().contains("FLAVOUR=mild") && env().contains("KIND=own") && !env().contains("KIND=type"), "{}", env());
    let lost = operator.until("alice", "lost", "the unknown type", |status| condition(status, "Stalled") == Some("True"));
    assert!(lost.to_string().contains("sleepi") && lost.to_string().contains("sleepy"), "it names the nearest: {lost:#}");

    operator.write("sleepy.yaml", &type_("hot"));
    let shop = operator.until("alice", "shop", "the inherited change to wait", |status| condition(status, "RestartPending") == Some("True"));
    assert!(shop.to_string().contains("FLAVOUR") && shop.to_string().contains("hot"), "{shop:#}");
    assert!(env().contains("FLAVOUR=mild"));
    operator.ok(&["restart", "shop", "-n", "alice"]);
    operator.wait("the restart to bring the change", || env().contains("FLAVOUR=hot").then_some(()));
    operator.until("alice", "shop", "the end of the wait", |status| runs(status) && condition(status, "RestartPending").is_none());

    operator.write("sleepi.yaml", &type_("odd").replace("sleepy", "sleepi"));
    operator.until("alice", "lost", "its type", runs);
    operator.until_kind("preview", "alice", "shown", "the preview of it", runs);
}
