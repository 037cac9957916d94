//! The engine restarted, killed, away for a while, pruned, exchanged: in the end everything is as declared.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use dockmaster::runtime::docker::connect::connect;

use crate::change::quiet;
use crate::operator::{Operator, condition, reason};
use crate::support;
use crate::support::limit::Finish;

/// An engine of a test's own.
pub struct Engine {
    directory: tempfile::TempDir,
}

impl Engine {
    /// A running one, with the test image.
    pub async fn new() -> Self {
        let engine = Self { directory: tempfile::tempdir().unwrap() };
        engine.script(&["start"]);
        engine.load().await;
        engine
    }

    /// A verb of `tests/engine`; what it printed.
    pub fn script(&self, verb: &[&str]) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engine");
        let output = Command::new(script).arg(verb[0]).arg(self.directory.path().join("engine")).args(&verb[1..]).finish();
        assert!(output.status.success(), "tests/engine {verb:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// SIGKILL, at this instant.
    fn kill_at_once(&self) {
        let pid = std::fs::read_to_string(self.directory.path().join("engine/docker.pid")).unwrap();
        let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        self.script(&["kill"]);
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("engine/dockerd.log")).unwrap()
    }

    async fn load(&self) {
        support::import(&connect(Some(&self.host())).await.unwrap(), support::IMAGE, &[]).await;
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("engine/docker.sock")
    }

    /// Where it is.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// A GET of a port that a container of this engine publishes.
    fn answers(&self, url: &str) -> bool {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engine");
        let mut command = Command::new(script);
        command.arg("exec").arg(self.directory.path().join("engine")).args(["curl", "-fsS", "-m", "5", url]);
        command.finish().status.success()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.script(&["stop"]);
    }
}

const SHOP: &str = "apiVersion: dockmaster/v1
kind: Workspace
metadata: {name: shop}
spec:
  image: IMAGE
  command: [sh, -c, 'exec httpd -f -p 8080 -h /data']
  ports: [{name: http, container: 8080, publish: Pool}]
  mounts: [{volume: data, path: /data}]
  services:
    db: {image: IMAGE, command: [sleep, '100000']}
";

#[tokio::test(flavor = "multi_thread")]
async fn restarted_killed_or_away_the_engine_finds_everything_in_the_end() {
    let engine = Engine::new().await;
    let mut operator = Operator::on(&engine.host()).await;
    operator.write("alice/shop.yaml", SHOP);
    operator.write("alice/rests.yaml", &quiet("rests", ""));
    operator.start();
    let url = operator.until_ready("alice", "shop")["status"]["url"].as_str().unwrap().to_owned();
    operator.until_ready("alice", "rests");
    operator.ok(&["stop", "rests", "-n", "alice"]);
    operator.until("alice", "rests", "a stop", |status| reason(status) == "Stopped");
    let (shop, db, rests) =
        (operator.container("alice", "shop", None), operator.container("alice", "shop", Some("db")), operator.container("alice", "rests", None));
    operator.docker(&["exec", &shop, "sh", "-c", "echo kept > /data/index.html"]);
    let id = operator.inspect(&shop, "{{.Id}}");
    let right = |what: &str| {
        operator.wait(&format!("all to be as declared after {what}"), || {
            let runs = |container: &str| operator.inspect(container, "{{.State.Running}}") == "true";
            (runs(&shop) && runs(&db) && operator.inspect(&rests, "{{.State.Running}}") == "false").then_some(())
        });
        operator.until_ready("alice", "shop");
        operator.wait("an answer", || engine.answers(&url).then_some(()));
        assert_eq!(operator.inspect(&shop, "{{.Id}}"), id, "{what}: the same container");
    };
    engine.script(&["restart"]);
    right("a restart");
    engine.script(&["kill"]);
    engine.script(&["start"]);
    right("a kill");
    // The lock is held again: what is done by hand is healed.
    operator.docker(&["rm", "-f", &db]);
    operator.wait("the service back", || (operator.inspect(&db, "{{.State.Running}}") == "true").then_some(()));

    // Away for long: nothing is known, and that is said.
    engine.script(&["kill"]);
    let away = operator.until("alice", "shop", "an engine that is away", |status| condition(status, "EngineUnavailable") == Some("True"));
    assert_eq!(condition(&away["status"], "Ready"), Some("Unknown"));
    operator.edit("alice/shop.yaml", "  mounts:", "  env: [{name: A, value: new}]\n  mounts:");
    engine.script(&["start"]);
    operator.wait("the change that was made meanwhile", || operator.inspect(&shop, "{{.Config.Env}}").contains("A=new").then_some(()));
    let back = operator.until("alice", "shop", "an engine that is back", |status| {
        condition(status, "EngineUnavailable").is_none() && condition(status, "Ready") == Some("True")
    });
    assert_eq!(back["status"]["url"], url.as_str());
    operator.wait("an answer", || engine.answers(&url).then_some(()));
    assert_eq!(operator.docker(&["exec", &shop, "cat", "/data/index.html"]), "kept");
    assert_eq!(operator.stop(), 0);
}

/// An engine up to 22 never starts such a container again.
#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_a_start_the_engine_runs_the_workspace_in_the_end() {
    let engine = Engine::new().await;
    let mut operator = Operator::on(&engine.host()).await;
    operator.write("alice/shop.yaml", &quiet("shop", "  mounts: [{volume: data, path: /data}]\n"));
    operator.start();
    operator.until_ready("alice", "shop");
    let shop = operator.container("alice", "shop", None);
    operator.docker(&["exec", &shop, "sh", "-c", "echo kept > /data/mark"]);
    let major: u32 = operator.docker(&["version", "--format", "{{.Server.Version}}"]).split('.').next().unwrap().parse().unwrap();
    // A later one clears it away; there the first round shows that it starts.
    let rounds = if major < 23 { 20 } else { 1 };
    let stranded = (0..rounds).any(|_| {
        operator.ok(&["stop", "shop", "-n", "alice"]);
        operator.until("alice", "shop", "a stop", |status| reason(status) == "Stopped");
        let id = operator.inspect(&shop, "{{.Id}}");
        let begun = Instant::now();
        let mut start = operator.command(&["start", "shop", "-n", "alice"]).spawn().unwrap();
        while !has_shim(&id) {
            assert!(begun.elapsed() < Duration::from_secs(30), "it is not started");
        }
        engine.kill_at_once();
        assert!(start.wait().unwrap().success());
        engine.script(&["start"]);
        operator.wait("it to run", || (operator.inspect(&shop, "{{.State.Running}}") == "true").then_some(()));
        operator.until_ready("alice", "shop");
        assert_eq!(operator.docker(&["exec", &shop, "cat", "/data/mark"]), "kept");
        let stranded = engine.log().contains(&format!("task {id}: already exists"));
        assert_eq!(stranded, operator.inspect(&shop, "{{.Id}}") != id, "it is made anew only where it must be");
        stranded
    });
    assert_eq!(stranded, major < 23, "what is tested has to happen");
    assert_eq!(operator.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_killed_in_the_middle_of_a_replacement_makes_no_failed_update_of_it() {
    let engine = Engine::new().await;
    let mut operator = Operator::on(&engine.host()).await;
    operator.write("alice/shop.yaml", &quiet("shop", "  env: [{name: GREETING, value: old}]\n"));
    operator.start();
    operator.until_ready("alice", "shop");
    let shop = operator.container("alice", "shop", None);
    operator.write("alice/shop.yaml", &quiet("shop", "  env: [{name: GREETING, value: new}]\n"));
    // It has to run for two seconds before its predecessor is removed.
    operator.wait("the replacement", || (operator.inspect(&format!("{shop}_next"), "{{.State.Running}}") == "true").then_some(()));
    engine.kill_at_once();
    engine.script(&["start"]);
    operator.wait("what is declared", || {
        let seen = operator.inspect(&shop, "{{.State.Running}} {{.Config.Env}}");
        (seen.starts_with("true ") && seen.contains("GREETING=new")).then_some(())
    });
    let status = operator.until_ready("alice", "shop");
    assert!(!status.to_string().contains("UpdateFailed"), "{status}");
    assert_eq!(operator.stop(), 0);
}

/// Whether the start of the container has come to its shim.
fn has_shim(container: &str) -> bool {
    let mut processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok());
    processes.any(|line| {
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        let has = |word: &str| words.contains(&word.as_bytes());
        words[0].ends_with(b"containerd-shim-runc-v2") && has(container) && !has("start") && !has("delete")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_takes_nothing_that_is_not_made_anew() {
    let engine = Engine::new().await;
    let mut operator = Operator::on(&engine.host()).await;
    operator.write("alice/shop.yaml", SHOP);
    operator.write("bob/rests.yaml", &quiet("rests", "  mounts: [{volume: data, path: /data}]\n").replace("IMAGE", "rests:1"));
    let load = async || support::import(&connect(Some(&engine.host())).await.unwrap(), "rests:1", &["LABEL another=image"]).await;
    load().await;
    operator.start();
    operator.until_ready("bob", "rests");
    operator.until_ready("alice", "shop");
    operator.ok(&["stop", "rests", "-n", "bob"]);
    operator.until("bob", "rests", "a stop", |status| reason(status) == "Stopped");
    let (shop, rests) = (operator.container("alice", "shop", None), operator.container("bob", "rests", None));
    let id = operator.inspect(&shop, "{{.Id}} {{.State.StartedAt}}");
    let pruned = operator.docker(&["system", "prune", "-af", "--volumes"]);
    assert!(pruned.contains("Deleted Containers") && pruned.contains("Deleted Networks"), "{pruned}");
    // Since 23.0 this spares named volumes, and an older command line knows no `volume prune --all`.
    for volume in operator.docker(&["volume", "ls", "-q", "--filter", "dangling=true"]).lines() {
        operator.docker(&["volume", "rm", volume]);
    }
    assert_eq!(operator.volumes(), [format!("{}-vol-alice.shop.data", operator.installation())]);
    assert_eq!(operator.containers(), [shop.clone(), operator.container("alice", "shop", Some("db"))]);
    assert_eq!(operator.inspect(&shop, "{{.Id}} {{.State.StartedAt}}"), id, "what runs was not touched");
    operator.ok(&["start", "rests", "-n", "bob"]);
    operator.until("bob", "rests", "a failed pull", |status| condition(status, "ImagePullFailed") == Some("True"));
    load().await;
    operator.wait("it to run", || (operator.inspect(&rests, "{{.State.Running}}") == "true").then_some(()));
    operator.until("bob", "rests", "lost data", |status| condition(status, "DataLost") == Some("True") && condition(status, "Ready") == Some("True"));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_engine_behind_the_same_address_is_left_alone() {
    let (first, second) = (Engine::new().await, Engine::new().await);
    let address = first.directory.path().join("docker.sock");
    let point = |to: &Engine| {
        let temporary = first.directory.path().join("new");
        std::os::unix::fs::symlink(to.socket(), &temporary).unwrap();
        std::fs::rename(&temporary, &address).unwrap();
    };
    point(&first);
    let mut operator = Operator::on(&format!("unix://{}", address.display())).await;
    operator.write("alice/shop.yaml", &quiet("shop", ""));
    operator.start();
    operator.until_ready("alice", "shop");
    let shop = operator.container("alice", "shop", None);
    point(&second);
    first.script(&["kill"]);
    operator.until("alice", "shop", "another engine", |status| condition(status, "EngineChanged") == Some("True"));
    operator.edit("alice/shop.yaml", "spec:\n", "spec:\n  env: [{name: A, value: new}]\n");
    operator.wait("the change to be seen", || {
        let object = operator.get("workspace", "alice", "shop")?;
        (object["metadata"]["generation"] == 2).then_some(())
    });
    operator.until("alice", "shop", "another engine still", |status| condition(status, "EngineChanged") == Some("True"));
    assert_eq!(operator.docker(&["ps", "-aq"]), "", "nothing is made on it");
    // Nor by an operator that starts over it.
    assert_eq!(operator.stop(), 0);
    operator.start();
    operator.wait("it to be found again", || (operator.log().matches("another engine answers than before").count() >= 2).then_some(()));
    assert_eq!(operator.docker(&["ps", "-aq"]) + &operator.docker(&["images", "-q", "dockmaster/helper"]), "");
    first.script(&["start"]);
    point(&first);
    second.script(&["kill"]);
    operator.wait("the change on the first", || operator.inspect(&shop, "{{.Config.Env}}").contains("A=new").then_some(()));
    operator.until_ready("alice", "shop");
}
