//! From a spec to what runs: containers with everything that the spec says, networks, volumes, and what is refused.

use serde_json::{Value, json};

use crate::operator::{Operator, condition, message, reason};

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
    operator.wait("the status in the file", || operator.read("alice/shop.yaml").contains("phase: Running").then_some(()));
    assert_eq!(operator.stop(), 0);
    assert_eq!(operator.inspect(&container, "{{.State.Running}}"), "true", "a drained operator leaves containers running");
}

/// Everything that a spec can say of a container is what the engine says of it.
#[tokio::test(flavor = "multi_thread")]
async fn each_field_of_a_spec_is_what_the_engine_shows() {
    let operator = Operator::new().await;
    let data = operator.home().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("set"), "a data set").unwrap();
    let mut operator = operator.with(&["--host-path", data.to_str().unwrap()]);
    let (network, volume) = (operator.sandbox.external("shared-db"), operator.sandbox.external("archive"));
    operator.docker(&["network", "create", "--subnet", &operator.subnet(15), &network]);
    operator.docker(&["volume", "create", &volume]);
    let fixed = operator.ports().1;
    operator.write(
        "tenants.yaml",
        &format!(
            "apiVersion: dockmaster/v1\nkind: Tenant\nmetadata: {{name: alice}}\nspec: {{policy: {{networks: [{network}], externalVolumes: [{volume}]}}}}\n"
        ),
    );
    std::fs::create_dir_all(operator.specs().join("alice/site")).unwrap();
    operator.write(
        "alice/all.yaml",
        &format!(
            r#"apiVersion: dockmaster/v1
kind: Workspace
metadata: {{name: all, labels: {{team: web, traefik.enable: "true"}}}}
spec:
  image: IMAGE
  entrypoint: [sh, -c]
  command: ["trap 'exit 0' USR1; touch /tmp/up; while :; do sleep 1 & wait $!; done"]
  workingDir: /srv/app
  user: "1000:1000"
  env: [{{name: A, value: one two}}, {{name: EMPTY, value: ""}}]
  ports:
    - {{name: http, container: 8080, publish: Pool}}
    - {{name: dns, container: 5353, publish: Pool, protocol: udp}}
    - {{name: inner, container: 9000}}
    - {{name: fixed, container: 7000, publish: {fixed}}}
  resources: {{cpu: "0.25", memory: 48m, pids: 100}}
  mounts:
    - {{volume: cache, path: /cache}}
    - {{sharedVolume: models, path: /models, readOnly: true}}
    - {{externalVolume: {volume}, path: /archive}}
    - {{host: {data}, path: /data, readOnly: true}}
    - {{host: ./site, path: /site, readOnly: true}}
    - {{tmpfs: 8m, path: /scratch}}
  networks: [{network}]
  services:
    db: {{image: IMAGE, command: [sleep, "1000000"]}}
  health: {{test: [CMD, test, -f, /tmp/up], interval: 5s, timeout: 3s, retries: 4, startPeriod: 10s, startInterval: 1s}}
  restart: on-failure
  init: false
  stopSignal: SIGUSR1
  stopGracePeriod: 7s
  hooks: {{postCreate: [sh, -c, "echo once > /scratch/created"]}}
  security: {{dropCapabilities: [CHOWN], readOnlyRoot: true}}
"#,
            data = data.display()
        ),
    );
    operator.start();
    let all = operator.until_ready("alice", "all");
    let container = operator.container("alice", "all", None);
    let seen = operator.inspected(&container);
    let installation = operator.installation().to_owned();

    let config = &seen["Config"];
    assert_eq!(config["Image"], json!(operator.sandbox.image));
    assert_eq!(config["Entrypoint"], json!(["sh", "-c"]));
    assert_eq!(config["Cmd"], json!(["trap 'exit 0' USR1; touch /tmp/up; while :; do sleep 1 & wait $!; done"]));
    assert_eq!((&config["WorkingDir"], &config["User"], &config["Hostname"]), (&json!("/srv/app"), &json!("1000:1000"), &json!("all.alice")));
    let env = config["Env"].as_array().unwrap();
    assert!(env.contains(&json!("A=one two")) && env.contains(&json!("EMPTY=")), "{env:?}");
    assert_eq!((&config["StopSignal"], &config["StopTimeout"]), (&json!("SIGUSR1"), &json!(7)));
    let health = &config["Healthcheck"];
    assert_eq!(health["Test"], json!(["CMD", "test", "-f", "/tmp/up"]));
    let times = [&health["Interval"], &health["Timeout"], &health["StartPeriod"]].map(|time| time.as_i64().unwrap() / 1_000_000_000);
    assert_eq!((times, &health["Retries"]), ([5, 3, 10], &json!(4)));
    let labels = &config["Labels"];
    assert_eq!((&labels["team"], &labels["traefik.enable"]), (&json!("web"), &json!("true")));
    assert_eq!((&labels["dockmaster.uid"], &labels["dockmaster.role"]), (&all["metadata"]["uid"], &json!("main")));

    let host = &seen["HostConfig"];
    assert_eq!((&host["Memory"], &host["MemorySwap"]), (&json!(48 << 20), &json!(48 << 20)));
    assert_eq!((&host["NanoCpus"], &host["PidsLimit"]), (&json!(250_000_000), &json!(100)));
    assert_eq!(host["RestartPolicy"]["Name"], "on-failure");
    assert_eq!((&host["Init"], &host["ReadonlyRootfs"], &host["Privileged"]), (&json!(false), &json!(true), &json!(false)));
    assert_eq!((&host["CapDrop"], &host["CapAdd"]), (&json!(["CHOWN", "NET_RAW"]), &Value::Null));
    assert_eq!(host["SecurityOpt"], json!(["no-new-privileges"]));
    assert_eq!(host["LogConfig"], json!({"Type": "json-file", "Config": {"max-file": "3", "max-size": "10m"}}));

    let ports = &all["status"]["ports"];
    let leased = |name: &str| ports.as_array().unwrap().iter().find(|port| port["name"] == name).unwrap()["host"].as_u64().unwrap();
    let bound = |inside: &str| host["PortBindings"][inside][0].clone();
    assert_eq!(bound("8080/tcp"), json!({"HostIp": "127.0.0.1", "HostPort": leased("http").to_string()}));
    assert_eq!(bound("5353/udp"), json!({"HostIp": "127.0.0.1", "HostPort": leased("dns").to_string()}));
    assert_eq!(bound("7000/tcp"), json!({"HostIp": "127.0.0.1", "HostPort": fixed.to_string()}));
    assert_eq!(bound("9000/tcp"), Value::Null, "it is not published");
    let range = u64::from(operator.ports().0)..=u64::from(operator.ports().1);
    assert!(range.contains(&leased("http")) && range.contains(&leased("dns")), "{ports}");
    assert_eq!(all["status"]["url"], format!("http://127.0.0.1:{}/", leased("http")));

    let mut mounts: Vec<(String, String, bool)> = seen["Mounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| {
            let source = if mount["Type"] == "volume" { &mount["Name"] } else { &mount["Source"] };
            (mount["Destination"].as_str().unwrap().to_owned(), source.as_str().unwrap().to_owned(), mount["RW"].as_bool().unwrap())
        })
        .collect();
    mounts.sort();
    let expected = [
        ("/archive", volume.clone(), true),
        ("/cache", format!("{installation}-vol-alice.all.cache"), true),
        ("/data", data.display().to_string(), false),
        ("/models", format!("{installation}-nsvol-alice.models"), false),
        ("/site", operator.specs().join("alice/site").display().to_string(), false),
    ];
    assert_eq!(mounts, expected.map(|(path, source, writable)| (path.to_owned(), source, writable)));
    let scratch = host["Tmpfs"]["/scratch"].as_str().unwrap();
    assert!(scratch.contains("size=8388608") && scratch.contains("uid=1000,gid=1000"), "{scratch}");

    let mut networks: Vec<&String> = seen["NetworkSettings"]["Networks"].as_object().unwrap().keys().collect();
    networks.sort();
    let namespace = format!("{installation}-ns-alice");
    let private = format!("{installation}-ws-alice.all");
    assert_eq!(networks, [&network, &namespace, &private]);
    let aliases = |of: &str| seen["NetworkSettings"]["Networks"][of]["Aliases"].to_string();
    assert!(aliases(&namespace).contains("\"all\"") && aliases(&namespace).contains("\"all.alice\""), "{}", aliases(&namespace));
    assert!(aliases(&network).contains("\"all.alice\"") && !aliases(&network).contains("[\"all\""), "{}", aliases(&network));

    // And what all of that is for, from within.
    let inside = |script: &str| operator.docker(&["exec", &container, "sh", "-c", script]);
    assert_eq!(inside("id -u; id -g; pwd; cat /data/set; cat /scratch/created"), "1000\n1000\n/srv/app\na data setonce");
    assert!(inside("touch /data/x").contains("Read-only") && inside("touch /models/x").contains("Read-only") && inside("touch /x").contains("Read-only"));
    assert_eq!(inside("touch /tmp/x /scratch/x && echo written"), "written");
    assert_eq!(inside("cat /proc/1/comm"), "sh", "no init");
    let plan = operator.verb(&["plan"]);
    assert_eq!(plan.status.code(), Some(0), "{plan:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_word_the_baseline_holds_and_a_tenant_may_ask_for_more() {
    let mut operator = Operator::new().await;
    operator.write("tenants.yaml", "apiVersion: dockmaster/v1\nkind: Tenant\nmetadata: {name: carol}\nspec: {policy: {profile: Restricted}}\n");
    operator.write("alice/plain.yaml", &sleeper("plain", ""));
    operator.write("carol/plain.yaml", &sleeper("plain", ""));
    operator.write("carol/root.yaml", &sleeper("root", "user: root"));
    operator.start();
    operator.until_ready("alice", "plain");
    operator.until_ready("carol", "plain");

    let baseline = operator.container("alice", "plain", None);
    let host = operator.inspected(&baseline)["HostConfig"].clone();
    assert_eq!((&host["CapDrop"], &host["SecurityOpt"]), (&json!(["NET_RAW"]), &json!(["no-new-privileges"])));
    assert_eq!((&host["PidsLimit"], &host["Init"], &host["RestartPolicy"]["Name"]), (&json!(512), &json!(true), &json!("unless-stopped")));
    assert_eq!((&host["ReadonlyRootfs"], &host["Privileged"], &host["Memory"]), (&json!(false), &json!(false), &json!(0)));
    assert_eq!(host["LogConfig"], json!({"Type": "json-file", "Config": {"max-file": "3", "max-size": "10m"}}));
    for namespace in ["PidMode", "UTSMode", "UsernsMode"] {
        assert_eq!(host[namespace], "", "{namespace}");
    }
    assert_ne!(host["IpcMode"], "host");
    let status = operator.docker(&["exec", &baseline, "cat", "/proc/self/status"]);
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    let capabilities = |text: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap().to_owned();
        u64::from_str_radix(&line, 16).unwrap()
    };
    let net_raw = 1 << 13;
    assert_eq!(capabilities(&status) & net_raw, 0, "raw sockets");
    assert_ne!(capabilities(&status), 0);

    let restricted = operator.container("carol", "plain", None);
    let seen = operator.inspected(&restricted);
    assert_eq!((&seen["HostConfig"]["CapDrop"], &seen["HostConfig"]["ReadonlyRootfs"]), (&json!(["ALL"]), &json!(true)));
    assert_eq!(seen["Config"]["User"], "1000:1000");
    let inside = operator.docker(&["exec", &restricted, "sh", "-c", "cat /proc/self/status; touch /tmp/x && touch /x"]);
    assert_eq!(capabilities(&inside), 0, "{inside}");
    assert!(inside.contains("/x: Read-only"), "{inside}");
    let refused = operator.until("carol", "root", "root to be refused", |status| condition(status, "Stalled") == Some("True"));
    assert!(message(&refused["status"], "Ready").contains("Restricted does not allow"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn host_directories_outside_the_allowed_ones_are_refused() {
    let operator = Operator::new().await;
    let home = operator.home().to_owned();
    for directory in ["data/inner", "data2", "secret"] {
        std::fs::create_dir_all(home.join(directory)).unwrap();
    }
    std::os::unix::fs::symlink(home.join("secret"), home.join("data/escape")).unwrap();
    std::os::unix::fs::symlink(home.join("data/inner"), home.join("data/within")).unwrap();
    let mut operator = operator.with(&["--host-path", home.join("data").to_str().unwrap()]);
    let data = home.join("data").display().to_string();
    let mount = |host: &str, more: &str| format!("mounts: [{{host: {host}, path: /data{more}}}]");
    let refused = [
        ("outside", mount("/etc", ", readOnly: true"), "/etc"),
        ("sibling", mount(&format!("{data}2"), ""), "data2"),
        ("dots", mount(&format!("{data}/../secret"), ""), "secret"),
        ("link", mount(&format!("{data}/escape"), ""), "secret"),
        ("up", mount("../../secret", ", readOnly: true"), "secret"),
        ("own", mount("./site", ""), "readOnly"),
        ("missing", mount(&format!("{data}/missing"), ""), "data/missing"),
    ];
    for (name, more, _) in &refused {
        operator.write(&format!("alice/{name}.yaml"), &sleeper(name, more));
    }
    operator.write("alice/inner.yaml", &sleeper("inner", &mount(&format!("{data}/inner"), "")));
    operator.write("alice/within.yaml", &sleeper("within", &mount(&format!("{data}/within"), "")));
    operator.start();
    operator.until_ready("alice", "inner");
    operator.until_ready("alice", "within");
    for (name, _, word) in &refused {
        let object = operator.until("alice", name, &format!("{name} to be refused"), |status| {
            condition(status, "Ready") == Some("False") && !matches!(reason(status), "Progressing" | "Starting" | "Pulling")
        });
        let told = message(&object["status"], "Ready");
        assert!(told.contains(word), "{name}: {told}");
        assert_ne!(operator.inspect(&operator.container("alice", name, None), "{{.State.Running}}"), "true", "{name}");
    }
}

/// Sleeps, and stops at once when it is asked to.
pub fn sleeper(name: &str, more: &str) -> String {
    format!("apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {{name: {name}}}\nspec:\n  image: IMAGE\n  command: [sleep, \"1000000\"]\n  {more}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_cannot_reach_each_other_and_neighbours_can_by_name() {
    let mut operator = Operator::new().await;
    let server = |name: &str, more: &str| {
        format!(
            "apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {{name: {name}}}\nspec:\n  image: IMAGE\n  command: [sh, -c, 'echo I am {name} > /tmp/index.html; exec httpd -f -p 8080 -h /tmp']\n  health: {{test: [CMD, test, -f, /tmp/index.html], interval: 1s}}\n  ports: [{{name: http, container: 8080, publish: Pool}}]\n  {more}\n"
        )
    };
    operator.write("alice/one.yaml", &server("one", ""));
    operator.write("alice/two.yaml", &server("two", "services: {db: {image: IMAGE, command: [sleep, \"1000000\"]}}"));
    operator.write("bob/one.yaml", &server("other", ""));
    operator.start();
    for (namespace, name) in [("alice", "one"), ("alice", "two"), ("bob", "other")] {
        operator.until_ready(namespace, name);
    }
    let installation = operator.installation().to_owned();
    let from = |namespace: &str, name: &str, host: &str, port: &str| operator.fetch(&operator.container(namespace, name, None), host, port);
    operator.wait("an answer", || (from("alice", "two", "one", "8080") == "I am one").then_some(()));
    assert_eq!(from("alice", "two", "one.alice", "8080"), "I am one");
    operator.wait("an answer", || (from("alice", "one", "two", "8080") == "I am two").then_some(()));

    let address = |namespace: &str, name: &str| {
        let template = format!("{{{{(index .NetworkSettings.Networks \"{installation}-ns-{namespace}\").IPAddress}}}}");
        operator.inspect(&operator.container(namespace, name, None), &template)
    };
    let one = address("alice", "one");
    assert_eq!(from("alice", "two", &one, "8080"), "I am one", "the address is right");
    for target in ["one", "one.alice", &one, &operator.container("alice", "one", None)] {
        operator.until_out_of_reach(&operator.container("bob", "other", None), target, "8080", "I am");
    }
    // Nor through the host: what is published there is on the loopback.
    let published = operator.get("ws", "alice", "one").unwrap()["status"]["ports"][0]["host"].clone();
    let gateway = operator.docker(&["network", "inspect", &format!("{installation}-ns-bob"), "-f", "{{(index .IPAM.Config 0).Gateway}}"]);
    let answer = from("bob", "other", &gateway, &published.to_string());
    assert!(!answer.contains("I am"), "{answer}");

    // Small subnets out of the pool, and none of it on the default bridge.
    let subnet = |network: &str| operator.docker(&["network", "inspect", &format!("{installation}-{network}"), "-f", "{{(index .IPAM.Config 0).Subnet}}"]);
    let prefix = operator.pool().rsplit_once('.').unwrap().0.rsplit_once('.').unwrap().0.to_owned();
    for (network, bits) in [("ns-alice", "/26"), ("ns-bob", "/26"), ("ws-alice.two", "/28")] {
        let subnet = subnet(network);
        assert!(subnet.starts_with(&prefix) && subnet.ends_with(bits), "{network}: {subnet} of {}", operator.pool());
    }
    let needless = operator.docker(&["network", "inspect", &format!("{installation}-ws-alice.one")]);
    assert!(!needless.contains("Subnet"), "a private network without services: {needless}");
    let bridge = operator.docker(&["network", "inspect", "bridge", "-f", "{{range .Containers}}{{.Name}} {{end}}"]);
    assert!(!bridge.contains(&installation), "{bridge}");
    for container in operator.containers() {
        let networks = operator.inspected(&container)["NetworkSettings"]["Networks"].clone();
        assert!(!networks.as_object().unwrap().contains_key("bridge"), "{container}: {networks}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_answers_in_anothers_stead() {
    let mut operator = Operator::new().await;
    let network = operator.sandbox.external("meeting");
    operator.docker(&["network", "create", "--subnet", &operator.subnet(15), &network]);
    for namespace in ["alice", "bob"] {
        let tenant = format!("apiVersion: dockmaster/v1\nkind: Tenant\nmetadata: {{name: {namespace}}}\nspec: {{policy: {{networks: [{network}]}}}}\n");
        operator.write(&format!("{namespace}.yaml"), &tenant);
        operator.write(&format!("{namespace}/shop.yaml"), &sleeper("shop", &format!("networks: [{network}]")));
    }
    operator.write("alice/peer.yaml", &sleeper("peer", ""));
    operator.write(
        "alice/preview.yaml",
        "apiVersion: dockmaster/v1\nkind: Preview\nmetadata: {name: peer}\nspec:\n  image: IMAGE\n  command: [sleep, \"100000\"]\n  ttl: 2h\n",
    );
    operator.start();
    let (alice, bob) = (operator.container("alice", "shop", None), operator.container("bob", "shop", None));
    operator.until_ready("alice", "shop");
    operator.until_ready("bob", "shop");
    operator.until_ready("alice", "peer");
    let preview = operator.until_kind("preview", "alice", "peer", "the preview", |status| status["phase"] == "Running");
    let address = |container: &str, network: &str| {
        let address = operator.inspect(container, &format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}"));
        assert!(!address.is_empty(), "{container} is not on {network}");
        address
    };
    let answers = |from: &str, name: &str| operator.docker(&["exec", from, "nslookup", name, "127.0.0.11"]);
    let says = |text: &str, address: &str| text.lines().any(|line| line.trim_end().ends_with(&format!(": {address}")));
    for (container, name) in [(&alice, "shop.alice"), (&bob, "shop.bob")] {
        let there = address(container, &network);
        operator.wait(name, || says(&answers(&alice, name), &there).then_some(()));
    }
    let (mine, other) = (address(&alice, &format!("{}-ns-alice", operator.installation())), address(&bob, &network));
    let short = answers(&alice, "shop");
    assert!(says(&short, &mine) && !says(&short, &other), "bob's shop answers for alice's: {short}");
    // A preview of a workspace's name is not that workspace.
    let namespace = format!("{}-ns-alice", operator.installation());
    let workspace = address(&operator.container("alice", "peer", None), &namespace);
    let copy = address(preview["status"]["container"]["name"].as_str().unwrap(), &namespace);
    let short = answers(&alice, "peer");
    assert!(says(&short, &workspace) && !says(&short, &copy), "the preview answers for the workspace: {short}");
    operator.wait("the preview by its own name", || says(&answers(&alice, "peer.preview.alice"), &copy).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_has_is_left_to_them() {
    let mut operator = Operator::new().await.with(&["--resync", "3s"]);
    let volume = format!("{}-vol-alice.theirs.cache", operator.installation());
    let container = operator.container("alice", "taken", None);
    let network = format!("{}-ns-carol", operator.installation());
    operator.docker(&["volume", "create", &volume]);
    operator.docker(&["create", "--name", &container, crate::support::IMAGE, "sleep", "1"]);
    operator.docker(&["network", "create", "--subnet", &operator.subnet(15), &network]);
    let ungranted = operator.sandbox.external("ungranted");
    operator.docker(&["volume", "create", &ungranted]);
    operator.write("alice/theirs.yaml", &sleeper("theirs", "mounts: [{volume: cache, path: /cache}]"));
    operator.write("alice/taken.yaml", &sleeper("taken", ""));
    operator.write("alice/closed.yaml", &sleeper("closed", &format!("mounts: [{{externalVolume: {ungranted}, path: /x}}]")));
    operator.write("carol/shop.yaml", &sleeper("shop", ""));
    operator.write("alice/fine.yaml", &sleeper("fine", ""));
    operator.start();
    operator.until_ready("alice", "fine");
    for (namespace, name, type_, word) in [
        ("alice", "theirs", "VolumeConflict", volume.as_str()),
        ("alice", "taken", "NameConflict", container.as_str()),
        ("carol", "shop", "NameConflict", network.as_str()),
        ("alice", "closed", "Stalled", "policy.externalVolumes"),
    ] {
        let object = operator.until(namespace, name, &format!("{type_} of {name}"), |status| condition(status, type_) == Some("True"));
        assert!(message(&object["status"], type_).contains(word), "{name}: {object:#}");
        assert_eq!(condition(&object["status"], "Ready"), Some("False"));
        assert_eq!(condition(&object["status"], "Stalled"), Some("True"), "{name}: somebody has to do something");
        let types: Vec<&Value> = object["status"]["conditions"].as_array().unwrap().iter().map(|condition| &condition["type"]).collect();
        assert!(types.iter().all(|type_| types.iter().filter(|other| *other == type_).count() == 1), "{name}: {types:?}");
    }
    assert_eq!(operator.inspect(&container, "{{.State.Status}}"), "created", "it was not touched");
    // When they go, it goes on.
    operator.docker(&["rm", &container]);
    operator.docker(&["volume", "rm", &volume]);
    operator.docker(&["network", "rm", &network]);
    operator.until_ready("alice", "taken");
    operator.until_ready("alice", "theirs");
    operator.until_ready("carol", "shop");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_had_is_told_and_harms_no_neighbour() {
    let mut operator = Operator::new().await;
    let secret = "secret: {name: s, key: k}";
    let unsupported = [
        ("project", "project: shop".to_owned(), "spec.project"),
        ("env", format!("env: [{{name: TOKEN, {secret}}}]"), "spec.env.TOKEN.secret"),
        ("files", format!("files: [{{path: /run/x, {secret}}}]"), "spec.files"),
        ("build", "build: {context: .}".to_owned(), "spec.build"),
        ("engine", "engine: second".to_owned(), "spec.engine"),
        ("first", "update: {order: StartFirst}".to_owned(), "spec.update.order"),
        ("root", "update: {keepRootFileSystem: true}".to_owned(), "spec.update.keepRootFileSystem"),
    ];
    for (name, more, _) in &unsupported {
        operator.write(&format!("alice/{name}.yaml"), &sleeper(name, more));
    }
    operator.write("alice/route.yaml", &sleeper("route", "route: {host: shop.example.com}"));
    operator.write("alice/cpu.yaml", &sleeper("cpu", "resources: {cpu: \"4096\"}"));
    // One broken document between two good ones, and a file that is no YAML.
    let broken = "apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {name: broken}\nspec: {imag: IMAGE}\n";
    operator.write("alice/many.yaml", &format!("{}---\n{broken}---\n{}", sleeper("before", ""), sleeper("after", "")));
    operator.write("alice/nonsense.yaml", "a: [\n");
    operator.start();
    for name in ["before", "after", "route"] {
        operator.until_ready("alice", name);
    }
    for (name, _, field) in &unsupported {
        let object = operator.until("alice", name, &format!("{name} to be unsupported"), |status| condition(status, "Unsupported") == Some("True"));
        let told = message(&object["status"], "Unsupported");
        assert!(told.contains(field) && told.contains("not supported by this version; "), "{name}: {told}");
        assert_eq!((condition(&object["status"], "Ready"), condition(&object["status"], "Stalled")), (Some("False"), Some("True")), "{name}");
        assert_eq!(reason(&object["status"]), "Unsupported");
    }
    let route = operator.get("ws", "alice", "route").unwrap();
    assert!(message(&route["status"], "Unsupported").contains("spec.route"), "{route:#}");
    let cpu = operator.until("alice", "cpu", "too much cpu", |status| condition(status, "Stalled") == Some("True"));
    assert!(message(&cpu["status"], "Ready").contains("4096"), "{cpu:#}");
    let running: Vec<String> = ["after", "before", "route"].map(|name| operator.container("alice", name, None)).to_vec();
    assert_eq!(operator.containers(), running);
    let events = operator.ok(&["events", "-A"]);
    assert!(events.contains("SourceInvalid") && events.contains("imag") && events.contains("nonsense.yaml"), "{events}");
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_workspaces_converge_side_by_side() {
    let mut operator = Operator::new().await;
    for number in 0..20 {
        operator.write(&format!("team{}/w{number}.yaml", number % 2), &sleeper(&format!("w{number}"), "stopGracePeriod: 1s"));
    }
    operator.start();
    for number in 0..20 {
        operator.until_ready(&format!("team{}", number % 2), &format!("w{number}"));
    }
    assert_eq!(operator.containers().len(), 20);
    assert!(operator.ok(&["plan"]).contains("Nothing to do."));
    assert_eq!(operator.stop(), 0);
    assert_eq!(operator.once(), 0, "{}", operator.log());
}
