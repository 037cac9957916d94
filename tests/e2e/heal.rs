//! What people and Docker do to it is mended; what was meant to rest stays at rest, and what others added stays.

use crate::change::quiet;
use crate::operator::{Operator, condition, message, reason};

const STACK: &str = "  mounts: [{volume: data, path: /data}]
  resources: {memory: 64m}
  services:
    db: {image: IMAGE, command: [sleep, '100000']}
";

impl Operator {
    fn until_runs(&self, name: &str) {
        self.wait(&format!("{name} to run"), || (self.inspect(&self.container("alice", name, None), "{{.State.Running}}") == "true").then_some(()));
        self.until_ready("alice", name);
    }

    fn until_event(&self, what: &str) {
        self.wait(&format!("an event: {what}"), || self.events("alice").contains(what).then_some(()));
    }

    /// The networks of a container, by name, without the installation.
    fn networks(&self, container: &str) -> Vec<String> {
        let names = self.inspect(container, "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}");
        names.split_whitespace().map(|name| name.trim_start_matches(self.installation()).to_owned()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_brought_back_whatever_is_done_to_it() {
    let mut operator = Operator::new().await;
    operator.write("alice/shop.yaml", &quiet("shop", STACK));
    operator.write("alice/peer.yaml", &quiet("peer", ""));
    operator.start();
    operator.until_ready("alice", "peer");
    operator.until_ready("alice", "shop");
    let (shop, db, peer) =
        (operator.container("alice", "shop", None), operator.container("alice", "shop", Some("db")), operator.container("alice", "peer", None));
    let id = |container: &str| operator.inspect(container, "{{.Id}}");
    let started = |container: &str| operator.inspect(container, "{{.State.StartedAt}}");
    let restarted = |container: &str, before: &str| {
        operator.wait("another start", || (operator.inspect(container, "{{.State.Running}}") == "true" && started(container) != before).then_some(()));
        operator.until_ready("alice", "shop");
    };
    operator.docker(&["exec", &shop, "sh", "-c", "echo kept > /data/file"]);

    for verb in [["kill", &shop], ["stop", &shop]] {
        let (same, before) = (id(&shop), started(&shop));
        operator.docker(&verb);
        restarted(&shop, &before);
        assert_eq!(id(&shop), same, "{verb:?}");
    }
    operator.until_event("`dockmaster stop` stops it for good");
    let before = started(&db);
    operator.docker(&["kill", &db]);
    restarted(&db, &before);

    for container in [&shop, &db] {
        let before = started(container);
        operator.docker(&["rm", "-f", container]);
        restarted(container, &before);
        operator.until_event(&format!("made {container} anew: it was removed by somebody"));
    }
    assert_eq!(operator.docker(&["exec", &shop, "cat", "/data/file"]), "kept");

    let same = id(&shop);
    operator.docker(&["rename", &shop, &operator.sandbox.foreign("other")]);
    operator.wait("its name back", || (id(&shop) == same).then_some(()));
    operator.until_event("renamed");

    let namespace = format!("{}-ns-alice", operator.installation());
    operator.docker(&["network", "disconnect", &namespace, &shop]);
    operator.wait("the network back", || operator.networks(&shop).contains(&"-ns-alice".to_owned()).then_some(()));
    let address = operator.inspect(&shop, &format!("{{{{(index .NetworkSettings.Networks \"{namespace}\").IPAddress}}}}"));
    operator.wait("the alias back", || operator.docker(&["exec", &peer, "nslookup", "shop", "127.0.0.11"]).contains(&address).then_some(()));
    // Connected again by hand, without the alias: it would answer to nobody.
    operator.docker(&["network", "disconnect", &namespace, &shop]);
    operator.docker(&["network", "connect", &namespace, &shop]);
    operator.wait("the alias back", || {
        let address = operator.inspect(&shop, &format!("{{{{(index .NetworkSettings.Networks \"{namespace}\").IPAddress}}}}"));
        (!address.is_empty() && operator.docker(&["exec", &peer, "nslookup", "shop", "127.0.0.11"]).contains(&address)).then_some(())
    });

    operator.docker(&["update", "--memory", "128m", "--memory-swap", "128m", "--restart", "no", &shop]);
    operator.wait("the limits back", || {
        (operator.inspect(&shop, "{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}}") == "67108864 unless-stopped").then_some(())
    });
    // What the engine cannot take back in place takes another container, at once and not when nobody works in it.
    let before = id(&peer);
    operator.docker(&["update", "--cpus", "0.5", &peer]);
    operator.wait("another peer without a limit", || (operator.inspect(&peer, "{{.HostConfig.NanoCpus}}") == "0" && id(&peer) != before).then_some(()));
    operator.until_ready("alice", "peer");
    operator.docker(&["pause", &peer]);
    operator.until("alice", "peer", "a pause", |status| reason(status) == "Paused");
    operator.ok(&["start", "peer", "-n", "alice"]);
    operator.until_runs("peer");
    assert_eq!(id(&shop), same, "all of that without another container");

    // Renamed while nobody was there to see it.
    operator.kill();
    operator.docker(&["rename", &shop, &operator.sandbox.foreign("other")]);
    operator.start();
    operator.wait("its name back", || (operator.inspect(&shop, "{{.Id}}") == same).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_at_the_next_start_is_made_anew() {
    let mut operator = Operator::new().await;
    operator.write("alice/shop.yaml", &quiet("shop", STACK));
    operator.start();
    operator.until_ready("alice", "shop");
    let shop = operator.container("alice", "shop", None);
    let stop = || {
        operator.ok(&["stop", "shop", "-n", "alice"]);
        operator.until("alice", "shop", "a stop", |status| status["phase"] == "Stopped" && condition(status, "Reconciling").is_none());
    };
    let start = || {
        operator.ok(&["start", "shop", "-n", "alice"]);
        operator.until_runs("shop");
    };

    // Networks removed under stopped containers, which cannot start any more.
    stop();
    for network in ["ns-alice", "ws-alice.shop"] {
        let name = format!("{}-{network}", operator.installation());
        assert_eq!(operator.docker(&["network", "rm", &name]), name);
    }
    start();
    assert_eq!(operator.networks(&shop), ["-ns-alice", "-ws-alice.shop"]);

    // And under running ones.
    let db = operator.container("alice", "shop", Some("db"));
    let name = format!("{}-ws-alice.shop", operator.installation());
    for container in [&shop, &db] {
        operator.docker(&["network", "disconnect", &name, container]);
    }
    operator.docker(&["network", "rm", &name]);
    operator.wait("the private network back", || {
        (operator.networks(&shop).len() == 2
            && operator.networks(&db) == ["-ws-alice.shop"]
            && operator.docker(&["exec", &shop, "nslookup", "db", "127.0.0.11"]).contains("Address"))
        .then_some(())
    });
    operator.until_ready("alice", "shop");

    // The data: nothing brings it back, and that is said.
    operator.docker(&["exec", &shop, "sh", "-c", "echo gone > /data/file"]);
    stop();
    operator.docker(&["rm", &shop]);
    let volume = format!("{}-vol-alice.shop.data", operator.installation());
    assert_eq!(operator.docker(&["volume", "rm", &volume]), volume);
    start();
    let lost = operator.until("alice", "shop", "lost data", |status| condition(status, "DataLost") == Some("True"));
    assert!(message(&lost["status"], "DataLost").contains(&volume), "{lost}");
    operator.until_event(&format!("volume {volume} was removed by somebody"));
    assert_eq!(operator.docker(&["exec", &shop, "ls", "/data"]), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_added_stays_and_what_rests_rests() {
    let mut operator = Operator::new().await;
    operator.write("alice/shop.yaml", &quiet("shop", ""));
    operator.write("alice/rests.yaml", &quiet("rests", "  state: Stopped\n"));
    operator.write("alice/idles.yaml", &quiet("idles", "  idle: {timeout: 2s}\n"));
    operator.start();
    operator.until_ready("alice", "shop");
    operator.until("alice", "rests", "rest", |status| reason(status) == "Stopped");
    let (shop, foreign, network) = (operator.container("alice", "shop", None), operator.sandbox.foreign("guest"), operator.sandbox.foreign("theirs"));
    let namespace = format!("{}-ns-alice", operator.installation());
    operator.docker(&["network", "create", &network]);
    operator.docker(&["network", "connect", &network, &shop]);
    operator.docker(&["run", "-d", "--init", "--name", &foreign, "--network", &namespace, crate::support::IMAGE, "sleep", "100000"]);
    let guest = operator.inspect(&foreign, "{{.Id}} {{.State.StartedAt}} {{.NetworkSettings.Networks}}");

    // One that idleness stopped: a start by hand is no start, and neither is another operator.
    operator.until("alice", "idles", "an idle stop", |status| reason(status) == "Idle");
    let idles = operator.container("alice", "idles", None);
    operator.docker(&["start", &idles]);
    operator.wait("it to rest again", || {
        let finished = operator.inspect(&idles, "{{.State.FinishedAt}}") > operator.inspect(&idles, "{{.State.StartedAt}}");
        (operator.inspect(&idles, "{{.State.Running}}") == "false" && finished).then_some(())
    });
    operator.until("alice", "idles", "idle still", |status| reason(status) == "Idle");
    operator.stop();
    operator.start();
    // A change of another that went through shows that the pass went over all.
    let started = operator.inspect(&shop, "{{.State.StartedAt}}");
    operator.docker(&["kill", &shop]);
    operator.wait("another start", || (operator.inspect(&shop, "{{.State.StartedAt}}") != started).then_some(()));
    operator.until_runs("shop");
    assert_eq!(operator.inspect(&idles, "{{.State.Running}}"), "false");
    assert_eq!(operator.containers(), [idles, shop.clone()], "what is declared stopped has no container");
    assert_eq!(operator.networks(&shop), ["-ns-alice", "-theirs"], "somebody's network stays connected");
    assert_eq!(operator.inspect(&foreign, "{{.Id}} {{.State.StartedAt}} {{.NetworkSettings.Networks}}"), guest, "the guest was not touched");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loop_backs_off_and_its_last_lines_are_kept() {
    let mut operator = Operator::new().await;
    operator.write("alice/shop.yaml", &quiet("shop", "").replace("[sleep, '100000']", "[sh, -c, 'echo the reason; exit 3']"));
    // By the operator's own starts: nothing else restarts it after a kill by hand.
    operator.write("alice/victim.yaml", &quiet("victim", ""));
    operator.start();
    let shop = operator.until("alice", "shop", "a crash loop", |status| reason(status) == "CrashLoop");
    assert_eq!(condition(&shop["status"], "Ready"), Some("False"));
    assert!(message(&shop["status"], "CrashLoop").contains("code 3"), "{shop}");
    assert!(message(&shop["status"], "CrashLoop").contains("`dockmaster logs workspace/shop -n alice --previous`"), "{shop}");
    let events = operator.events("alice");
    assert!(events.lines().any(|line| line.contains("BackOff") && line.contains("exits again and again, last with code 3")), "{events}");
    operator.wait("its last lines", || operator.verb(&["logs", "--previous", "shop", "-n", "alice"]).stdout.starts_with(b"the reason\n").then_some(()));
    assert!(!operator.read("alice/shop.yaml").contains("the reason\n"), "output is not written into spec files");

    operator.until_ready("alice", "victim");
    let victim = operator.container("alice", "victim", None);
    let mut kills = 0;
    let looping = operator.wait("a crash loop by hand", || {
        if operator.inspect(&victim, "{{.State.Running}}") == "true" {
            kills += 1;
            operator.docker(&["kill", &victim]);
        }
        operator.get("workspace", "alice", "victim").filter(|object| condition(&object["status"], "CrashLoop") == Some("True"))
    });
    assert!(kills >= 3, "after {kills} exits");
    assert!(looping["status"]["next"]["action"] == "Retry" || condition(&looping["status"], "Ready") == Some("False"), "{looping}");
    // Another spec begins anew.
    operator.edit("alice/shop.yaml", "[sh, -c, 'echo the reason; exit 3']", "[sleep, '100000']");
    operator.until_ready("alice", "shop");
    operator.until("alice", "shop", "no crash loop", |status| condition(status, "CrashLoop").is_none());
}
