//! From a spec to what runs: containers with everything that the spec says, networks, volumes, services.

use crate::operator::Operator;

#[tokio::test(flavor = "multi_thread")]
async fn a_spec_becomes_a_container_that_answers() {
    let mut operator = Operator::new().await;
    operator.write(
        "alice/shop.yaml",
        "apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {name: shop}\nspec:\n  image: IMAGE\n  command: [sh, -c, 'echo hello > /tmp/index.html; exec httpd -f -p 8080 -h /tmp']\n  ports: [{name: http, container: 8080, publish: Pool}]\n  env: [{name: GREETING, value: good day}]\n  resources: {memory: 64m, cpu: \"0.5\"}\n",
    );
    operator.start();
    let shop = operator.until_ready("alice", "shop");
    let url = shop["status"]["url"].as_str().unwrap().to_owned();
    assert_eq!(operator.wait("an answer", || operator.http(&url)).trim(), "hello");
    let container = operator.container("alice", "shop", None);
    assert_eq!(operator.inspect(&container, "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}"), "67108864 500000000");
    assert!(operator.inspect(&container, "{{.Config.Env}}").contains("GREETING=good day"));
    assert!(operator.read("alice/shop.yaml").contains("phase: Running"));
    assert_eq!(operator.stop(), 0);
    assert_eq!(operator.inspect(&container, "{{.State.Running}}"), "true", "a drained operator leaves containers running");
}
