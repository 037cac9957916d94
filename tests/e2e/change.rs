//! Each change of a spec is the smallest step: nothing, in place, or a replacement that keeps data, ports and alias and never runs two.

use crate::operator::{Operator, condition, message};
use crate::watch::Watch;

const SHOP: &str = "apiVersion: dockmaster/v1
kind: Workspace
metadata:
  name: shop
  labels: {team: blue}
spec:
  image: IMAGE
  command: [sh, -c, 'exec httpd -f -p 8080 -h /data']
  ports: [{name: http, container: 8080, publish: Pool}]
  mounts: [{volume: data, path: /data}]
  env: [{name: GREETING, value: hello}]
  resources: {memory: 64m}
";

/// A workspace that only exists.
pub fn quiet(name: &str, spec: &str) -> String {
    format!("apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {{name: {name}}}\nspec:\n  image: IMAGE\n  command: [sleep, '100000']\n{spec}")
}

impl Operator {
    fn id(&self, name: &str) -> String {
        self.inspect(&self.container("alice", name, None), "{{.Id}}")
    }

    fn last_activity(&self, name: &str) -> String {
        self.get("workspace", "alice", name).unwrap()["status"]["activity"]["last"].as_str().unwrap().to_owned()
    }

    /// Waits until a template of the finished container reads so, and the workspace is ready; gives the container's id.
    fn until_reads(&self, name: &str, template: &str, value: &str) -> String {
        let container = self.container("alice", name, None);
        self.wait(&format!("{template} to be {value}"), || (self.inspect(&container, template) == value).then_some(()));
        self.until_ready("alice", name);
        self.wait("one container", || (self.containers().iter().filter(|one| one.starts_with(&container)).count() == 1).then_some(()));
        self.id(name)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_the_smallest_step_and_a_replacement_keeps_what_others_rely_on() {
    let mut operator = Operator::new().await;
    operator.write("alice/shop.yaml", SHOP);
    operator.write("alice/peer.yaml", &quiet("peer", ""));
    let watch = Watch::start(&operator);
    operator.start();
    let shop = operator.until_ready("alice", "shop");
    operator.until_ready("alice", "peer");
    let url = shop["status"]["url"].as_str().unwrap().to_owned();
    let (container, peer) = (operator.container("alice", "shop", None), operator.container("alice", "peer", None));
    operator.docker(&["exec", &container, "sh", "-c", "echo kept > /data/index.html"]);
    let first = operator.id("shop");

    // A comment is no change, a limit is changed in place.
    operator.edit("alice/shop.yaml", "kind: Workspace", "kind: Workspace # a shop");
    operator.edit("alice/shop.yaml", "memory: 64m", "memory: 96m");
    assert_eq!(operator.until_reads("shop", "{{.HostConfig.Memory}}", "100663296"), first);
    assert_eq!(operator.changes("alice", "workspace/shop"), ["resources.memory: 64m -> 96m"]);
    let operations: Vec<String> = operator.journal("alice", "workspace/shop").iter().skip(1).map(|entry| entry["operations"].to_string()).collect();
    assert_eq!(operations.len(), 1, "nothing but the update came after the creation: {operations:?}");
    assert!(operations[0].contains(r#""op":"update""#), "{operations:?}");
    assert!(operator.read("alice/shop.yaml").contains("# a shop"));

    // A variable cannot be changed in a container that exists.
    operator.edit("alice/shop.yaml", "value: hello", "value: bye");
    let second = operator.until_reads("shop", "{{index .Config.Env 0}}", "GREETING=bye");
    assert_ne!(second, first);
    assert_eq!(operator.changes("alice", "workspace/shop"), ["env.GREETING: hello -> bye"]);
    assert_eq!(operator.get("workspace", "alice", "shop").unwrap()["status"]["url"], url.as_str(), "the port is kept");
    assert_eq!(operator.wait("an answer", || operator.http(&url)).trim(), "kept", "the data is kept");
    let address = operator.inspect(&container, "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}");
    let resolved = operator.docker(&["exec", &peer, "nslookup", "shop", "127.0.0.11"]);
    assert!(resolved.contains(&address), "the alias is kept: {address} in {resolved}");

    // Docker cannot change labels either.
    operator.edit("alice/shop.yaml", "team: blue", "team: red");
    let third = operator.until_reads("shop", "{{index .Config.Labels \"team\"}}", "red");
    assert_ne!(third, second);
    assert_eq!(operator.changes("alice", "workspace/shop"), ["labels.team: blue -> red"]);

    // Nor take a limit away.
    operator.edit("alice/shop.yaml", "  resources: {memory: 96m}\n", "");
    let fourth = operator.until_reads("shop", "{{.HostConfig.Memory}}", "0");
    assert_ne!(fourth, third);
    assert_eq!(operator.changes("alice", "workspace/shop"), ["resources.memory: 96m -> unlimited"]);
    assert_eq!(operator.wait("an answer", || operator.http(&url)).trim(), "kept");
    assert_eq!(watch.doubles(), [""; 0]);
    assert_eq!(watch.replacements(), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_waits_as_the_spec_says_and_restart_does_it_now() {
    let mut operator = Operator::new().await;
    operator.write("alice/later.yaml", &quiet("later", "  update: {when: OnRestart}\n  env: [{name: A, value: one}, {name: B, value: one}]\n"));
    operator.write("alice/calm.yaml", &quiet("calm", "  update: {when: WhenIdle}\n  env: [{name: A, value: one}]\n  idle: {timeout: 20s}\n"));
    operator.start();
    operator.until_ready("alice", "calm");
    // What would be stopped for want of activity is replaced without a stop when the stop is put off.
    operator.ok(&["extend", "calm", "10m", "-n", "alice"]);
    operator.edit("alice/calm.yaml", "value: one", "value: two");
    let calm = operator.container("alice", "calm", None);
    let (calm_first, calm_active) = (operator.id("calm"), operator.last_activity("calm"));

    operator.until_ready("alice", "later");
    let first = operator.id("later");
    operator.edit("alice/later.yaml", "value: one", "value: two");
    let later = operator.until("alice", "later", "a pending change", |status| condition(status, "RestartPending") == Some("True"));
    let pending = message(&later["status"], "RestartPending");
    assert!(pending.starts_with("env.A: one -> two, env.B: one -> two"), "{pending}");
    assert_eq!(condition(&later["status"], "Ready"), Some("True"), "it runs on");
    assert_eq!(operator.id("later"), first);
    operator.ok(&["restart", "later", "-n", "alice"]);
    let second = operator.until_reads("later", "{{index .Config.Env 0}}", "A=two");
    assert_ne!(second, first);
    let later = operator.until("alice", "later", "nothing pending", |status| condition(status, "RestartPending").is_none());
    assert_eq!(condition(&later["status"], "Ready"), Some("True"));

    // A restart without a change, by command and by annotation: the same container.
    let container = operator.container("alice", "later", None);
    let started = || operator.inspect(&container, "{{.State.StartedAt}}");
    let before = started();
    operator.ok(&["restart", "later", "-n", "alice"]);
    operator.wait("a restart by command", || (started() != before && operator.inspect(&container, "{{.State.Running}}") == "true").then_some(()));
    operator.until_ready("alice", "later");
    let before = started();
    operator.edit("alice/later.yaml", "metadata: {name: later}", "metadata: {name: later, annotations: {dockmaster/restart: 'now'}}");
    operator.wait("a restart by annotation", || (started() != before && operator.inspect(&container, "{{.State.Running}}") == "true").then_some(()));
    operator.until_ready("alice", "later");
    assert_eq!(operator.id("later"), second);

    assert_ne!(operator.until_reads("calm", "{{index .Config.Env 0}}", "A=two"), calm_first);
    let waited = seconds_between(&calm_active, &operator.inspect(&calm, "{{.Created}}"));
    assert!(waited >= 20.0, "replaced after {waited} s, before it was idle");
}

fn seconds_between(from: &str, to: &str) -> f64 {
    let instant = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
    instant(to).duration_since(instant(from)).as_secs_f64()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inherited_change_waits_for_idleness_two_at_a_time() {
    let mut operator = Operator::new().await;
    operator.write(
        "types.yaml",
        "apiVersion: dockmaster/v1\nkind: WorkspaceType\nmetadata: {name: basic}\nspec:\n  image: IMAGE\n  command: [sleep, '100000']\n  env: [{name: A, value: one}]\n",
    );
    let names = ["a", "b", "c", "d", "e"];
    // One whose own tenant says when it stops, and one that is stopped.
    operator.write("alice/rests.yaml", "apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {name: rests}\nspec: {type: basic}\n");
    let watch = Watch::start(&operator);
    operator.start();
    let mut active = Vec::new();
    // One after another: none is to stop before it is extended.
    for name in names {
        let spec = format!("apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {{name: {name}}}\nspec: {{type: basic, idle: {{timeout: 20s}}}}\n");
        operator.write(&format!("alice/{name}.yaml"), &spec);
        operator.until_ready("alice", name);
        operator.ok(&["extend", name, "10m", "-n", "alice"]);
        active.push(operator.last_activity(name));
    }
    operator.until_ready("alice", "rests");
    operator.ok(&["stop", "rests", "-n", "alice"]);
    operator.until("alice", "rests", "a stop", |status| status["phase"] == "Stopped");
    let rests = operator.id("rests");
    operator.edit("types.yaml", "value: one", "value: two");
    for (name, active) in names.iter().zip(active) {
        operator.until_reads(name, "{{index .Config.Env 0}}", "A=two");
        let waited = seconds_between(&active, &operator.inspect(&operator.container("alice", name, None), "{{.Created}}"));
        assert!(waited >= 20.0, "{name} was replaced after {waited} s, before it was idle");
    }
    assert_eq!(operator.changes("alice", "workspace/a"), ["env.A: one -> two"]);
    assert_eq!(watch.replacements(), (5, 2), "two at a time");
    assert_eq!(watch.doubles(), [""; 0]);
    // What is stopped is left alone until it starts.
    assert_eq!(operator.id("rests"), rests);
    operator.ok(&["start", "rests", "-n", "alice"]);
    assert_ne!(operator.until_reads("rests", "{{index .Config.Env 0}}", "A=two"), rests);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_default_is_inherited_too() {
    let mut operator = Operator::new().await;
    operator.write("tenant.yaml", "apiVersion: dockmaster/v1\nkind: Tenant\nmetadata: {name: default}\nspec: {defaults: {memory: 64m}}\n");
    operator.write("alice/shop.yaml", &quiet("shop", ""));
    operator.start();
    operator.until_ready("alice", "shop");
    let first = operator.id("shop");
    let memory = |value: &str| operator.until_reads("shop", "{{.HostConfig.Memory}}", value);
    assert_eq!(memory("67108864"), first);
    operator.edit("tenant.yaml", "64m", "96m");
    assert_eq!(memory("100663296"), first, "a limit is changed in place, whoever asks");
    operator.edit("tenant.yaml", "{defaults: {memory: 96m}}", "{}");
    let shop = operator.until("alice", "shop", "a pending change", |status| condition(status, "RestartPending") == Some("True"));
    assert!(message(&shop["status"], "RestartPending").starts_with("resources.memory: 96m -> unlimited"), "{shop}");
    assert_eq!(operator.id("shop"), first);
    operator.ok(&["restart", "shop", "-n", "alice"]);
    assert_ne!(memory("0"), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_that_fails_is_undone_and_the_old_runs_on() {
    let mut operator = Operator::new().await;
    operator.write("alice/shop.yaml", SHOP);
    let watch = Watch::start(&operator);
    operator.start();
    let url = operator.until_ready("alice", "shop")["status"]["url"].as_str().unwrap().to_owned();
    let container = operator.container("alice", "shop", None);
    operator.docker(&["exec", &container, "sh", "-c", "echo kept > /data/index.html"]);
    let first = operator.id("shop");
    let good = "command: [sh, -c, 'exec httpd -f -p 8080 -h /data']";
    operator.edit("alice/shop.yaml", good, "command: [sh, -c, 'echo cannot go on; exit 3']");
    let shop = operator
        .until("alice", "shop", "an undone update", |status| condition(status, "UpdateFailed") == Some("True") && condition(status, "Ready") == Some("True"));
    assert!(message(&shop["status"], "UpdateFailed").contains("the old container runs on"), "{shop}");
    assert_eq!(operator.id("shop"), first);
    assert_eq!(operator.containers(), std::slice::from_ref(&container));
    assert_eq!(operator.wait("an answer", || operator.http(&url)).trim(), "kept");
    let last = operator.ok(&["logs", "--previous", "shop", "-n", "alice"]);
    assert!(!last.is_empty() && last.lines().all(|line| line == "cannot go on"), "{last}");

    // An image that cannot be had interrupts nothing.
    operator.edit("alice/shop.yaml", "command: [sh, -c, 'echo cannot go on; exit 3']", good);
    operator.until("alice", "shop", "no failed update", |status| condition(status, "UpdateFailed").is_none());
    let image = format!("image: {}", crate::support::IMAGE);
    operator.edit("alice/shop.yaml", &image, "image: localhost:1/none:1");
    operator.until("alice", "shop", "a failed pull", |status| condition(status, "ImagePullFailed") == Some("True"));
    assert_eq!(operator.id("shop"), first);
    assert_eq!(operator.wait("an answer", || operator.http(&url)).trim(), "kept");

    operator.edit("alice/shop.yaml", "image: localhost:1/none:1", &image);
    operator.edit("alice/shop.yaml", "value: hello", "value: bye");
    assert_ne!(operator.until_reads("shop", "{{index .Config.Env 0}}", "GREETING=bye"), first);
    let shop = operator.until("alice", "shop", "nothing wrong", |status| status["conditions"].as_array().is_some_and(|all| all.len() == 1));
    assert_eq!(condition(&shop["status"], "Ready"), Some("True"));
    assert_eq!(watch.doubles(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_not_taken_from_a_process_that_uses_it() {
    let mut operator = Operator::new().await;
    // What lies in shared memory is in use, and cannot be dropped.
    let spec = "apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {name: shop}\nspec:\n  image: IMAGE\n  command: [sh, -c, 'dd if=/dev/zero of=/dev/shm/x bs=1M count=30 2>/dev/null; exec sleep 100000']\n  stopGracePeriod: 1s\n  resources: {memory: 256m}\n";
    operator.write("alice/shop.yaml", spec);
    operator.start();
    operator.until_ready("alice", "shop");
    let container = operator.container("alice", "shop", None);
    operator.wait("the memory to be used", || operator.docker(&["exec", &container, "stat", "-c", "%s", "/dev/shm/x"]).contains("31457280").then_some(()));
    let first = operator.id("shop");
    operator.edit("alice/shop.yaml", "memory: 256m", "memory: 128m");
    assert_eq!(operator.until_reads("shop", "{{.HostConfig.Memory}}", "134217728"), first, "enough is left: in place");
    operator.edit("alice/shop.yaml", "memory: 128m", "memory: 35m");
    assert_ne!(operator.until_reads("shop", "{{.HostConfig.Memory}}", "36700160"), first, "less than a quarter more: replaced");
    assert_eq!(operator.changes("alice", "workspace/shop"), ["resources.memory: 128m -> 35m"]);
}
