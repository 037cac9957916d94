//! Previews: copied, expiring, gone.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::operator::{Operator, condition, message, reason};
use crate::support::limit::Limit;

/// A workspace with files of several sorts, and a service with a volume of its own.
const SHOP: &str = "apiVersion: dockmaster/v1
kind: Workspace
metadata: {name: shop}
spec:
  image: IMAGE
  stopGracePeriod: 1s
  command:
    - sh
    - -c
    - |
      cd /data; echo \"shop of $WHO\" > index.html; ln -f index.html twin; ln -sf index.html link
      mkdir -p deep; echo x > deep/owned; chown 1000:1001 deep/owned; chmod 640 deep/owned
      exec httpd -f -p 8080 -h /data
  env: [{name: WHO, value: alice}]
  ports: [{name: http, container: 8080, publish: Pool}]
  mounts: [{volume: data, path: /data}]
  services:
    db: {image: IMAGE, command: [sh, -c, '[ -e /db/rows ] || echo rows > /db/rows; exec sleep 1000000'], volume: {path: /db}}
";

fn preview(name: &str, spec: &str) -> String {
    format!("apiVersion: dockmaster/v1\nkind: Preview\nmetadata: {{name: {name}}}\nspec:\n{spec}")
}

fn runs(status: &Value) -> bool {
    reason(status) == "Running" && condition(status, "Ready") == Some("True")
}

fn is_expired(status: &Value) -> bool {
    status["phase"] == "Expired" && reason(status) == "Expired"
}

fn container(operator: &Operator, name: &str) -> String {
    format!("{}-pv-alice.{name}", operator.installation())
}

fn volumes(operator: &Operator, prefix: &str) -> Vec<String> {
    let all = operator.docker(&["volume", "ls", "-q", "--filter", &format!("name={}-", operator.installation())]);
    let mut names: Vec<String> = all.lines().filter(|name| name.contains(prefix)).map(str::to_owned).collect();
    names.sort();
    names
}

fn instant(value: &Value) -> Timestamp {
    value.as_str().unwrap_or_else(|| panic!("{value} is no instant")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_of_an_image_lives_for_its_time_and_never_returns() {
    let mut operator = Operator::new().await;
    let spec = "  image: IMAGE\n  command: [sh, -c, 'echo seen > /tmp/index.html; exec httpd -f -p 8080 -h /tmp']\n  ports: [{name: http, container: 8080}]\n  ttl: 2h\n";
    operator.write("alice/demo.yaml", &preview("demo", spec));
    operator.start();
    let demo = operator.until_kind("preview", "alice", "demo", "the preview", runs);
    let status = &demo["status"];
    let hash = status["hash"].as_str().unwrap().to_owned();
    assert!(hash.len() == 32 && hash.bytes().all(|b| b.is_ascii_hexdigit()), "{hash}");
    let (url, expires) = (status["url"].as_str().unwrap().to_owned(), instant(&status["expiresAt"]));
    assert!((SignedDuration::from_mins(118)..=SignedDuration::from_hours(2)).contains(&expires.duration_since(Timestamp::now())));
    assert_eq!((&status["next"]["action"], instant(&status["next"]["at"])), (&Value::from("Expire"), expires));
    assert_eq!(operator.wait("an answer", || operator.http(&url)).trim(), "seen");
    let id = operator.inspect(&container(&operator, "demo"), "{{.Id}} {{.State.StartedAt}}");

    operator.edit("alice/demo.yaml", "ttl: 2h", "ttl: 5h");
    let later =
        |hours: i64| move |status: &Value| instant(&status["expiresAt"]) > Timestamp::now() + SignedDuration::from_mins(hours * 60 - 10) && runs(status);
    operator.until_kind("preview", "alice", "demo", "the longer life", later(5));
    operator.ok(&["extend", "preview/demo", "1h", "-n", "alice"]);
    let demo = operator.until_kind("preview", "alice", "demo", "the extension", later(6));
    assert!(operator.read("alice/demo.yaml").contains("ttl: 6h"), "{}", operator.read("alice/demo.yaml"));
    assert_eq!(demo["status"]["hash"], Value::from(hash), "the hash is made once");
    assert_eq!(operator.inspect(&container(&operator, "demo"), "{{.Id}} {{.State.StartedAt}}"), id, "a longer life restarts nothing");
    assert_eq!(instant(&demo["status"]["next"]["at"]), instant(&demo["status"]["expiresAt"]));
    let plan = operator.verb(&["plan", "--at", "7h"]);
    assert_eq!(plan.status.code(), Some(2));
    assert!(String::from_utf8(plan.stdout).unwrap().contains("preview/demo -n alice"));

    operator.edit("alice/demo.yaml", "ttl: 6h", "ttl: 1s");
    let demo = operator.until_kind("preview", "alice", "demo", "its end", is_expired);
    assert!(demo["status"]["url"].is_null() && demo["status"]["ports"].as_array().is_none_or(Vec::is_empty), "{demo:#}");
    assert_eq!(operator.containers(), [""; 0]);
    assert!(operator.http(&url).is_none(), "its port is closed");
    let marker = volumes(&operator, ".expired");
    assert_eq!(marker.len(), 1, "the marker of its end");
    operator.wait("the file to tell it", || operator.read("alice/demo.yaml").contains("phase: Expired").then_some(()));
    assert!(operator.ok(&["events", "-A"]).contains("Expired"));

    // Neither a longer life nor a lost state brings it back.
    operator.edit("alice/demo.yaml", "ttl: 1s", "ttl: 9h");
    operator.wait("the edit to be read", || (operator.get("preview", "alice", "demo")?["spec"]["ttl"] == "9h").then_some(()));
    operator.until_kind("preview", "alice", "demo", "it to stay expired", is_expired);
    assert_eq!(operator.stop(), 0);
    std::fs::remove_dir_all(operator.state()).unwrap();
    operator.start();
    operator.until_kind("preview", "alice", "demo", "it to stay expired over a lost state", is_expired);
    // The marker alone tells it too.
    assert_eq!(operator.stop(), 0);
    std::fs::remove_dir_all(operator.state()).unwrap();
    operator.write("alice/demo.yaml", &preview("demo", spec));
    operator.start();
    operator.until_kind("preview", "alice", "demo", "the marker to tell it", is_expired);
    assert_eq!(operator.containers(), [""; 0]);

    operator.edit("alice/demo.yaml", "ttl: 2h", "ttl: 2h\n  ttlAfterExpired: 1s");
    operator.wait("the marker to go in its time", || volumes(&operator, ".expired").is_empty().then_some(()));
    operator.until_kind("preview", "alice", "demo", "it to stay expired without its marker", is_expired);
    assert_eq!(operator.containers(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_is_a_copy_that_outlives_its_workspace() {
    let mut operator = Operator::new().await;
    // Both at once: what is copied is a workspace that has begun its work.
    operator.write("alice/shop.yaml", SHOP);
    operator.write("alice/demo.yaml", &preview("demo", "  workspace: shop\n  ttl: 1h\n  env: [{name: MINE, value: yes}]\n"));
    let begun = Timestamp::now();
    operator.start();
    let shop = operator.until_ready("alice", "shop");
    let demo = operator.until_kind("preview", "alice", "demo", "the copy", runs);
    assert_ne!(shop["status"]["ports"][0]["host"], demo["status"]["ports"][0]["host"], "a port of its own");
    let url = demo["status"]["url"].as_str().unwrap().to_owned();
    assert_eq!(operator.wait("an answer", || operator.http(&url)).trim(), "shop of alice");

    let main = container(&operator, "demo");
    let inside = |command: &str| operator.docker(&["exec", &main, "sh", "-c", command]);
    assert_eq!(inside("stat -c '%u:%g %a' /data/deep/owned"), "1000:1001 640");
    assert_eq!(inside("stat -c '%h %i' /data/index.html"), inside("stat -c '%h %i' /data/twin"), "hard links stay together");
    assert_eq!(inside("readlink /data/link"), "index.html");
    assert!(operator.inspect(&main, "{{.Config.Env}}").contains("MINE=yes"));
    assert_eq!(operator.docker(&["exec", &format!("{main}.db"), "cat", "/db/rows"]), "rows");
    assert_eq!(demo["status"]["services"][0]["name"], "db");
    // The two do not share anything.
    inside("echo changed > /data/index.html");
    let source = operator.container("alice", "shop", None);
    assert_eq!(operator.docker(&["exec", &source, "cat", "/data/index.html"]), "shop of alice");
    assert_eq!(operator.inspect(&source, "{{.State.Paused}} {{.RestartCount}}"), "false 0");
    let since = begun.as_second().to_string();
    let until = Timestamp::now().as_second().to_string();
    // By its id: the engine takes a name for the beginning of a name.
    let source_id = operator.inspect(&source, "{{.Id}}");
    let events = |action: &str| {
        let filters = ["events", "--since", &since, "--until", &until, "--filter", &format!("container={source_id}"), "--filter", &format!("event={action}")];
        operator.docker(&filters).lines().count()
    };
    assert_eq!((events("pause"), events("unpause")), (1, 1), "paused once, and thawed");
    assert!(!operator.containers().iter().any(|name| name.contains("_copy") || name.contains("_delta")), "{:?}", operator.containers());

    let id = operator.inspect(&main, "{{.Id}}");
    operator.remove("alice/shop.yaml");
    operator.wait("the workspace to be gone", || (!operator.containers().contains(&source)).then_some(()));
    operator.until_kind("preview", "alice", "demo", "its life without its source", runs);
    assert_eq!(operator.inspect(&main, "{{.Id}} {{.State.Running}}"), format!("{id} true"));
    assert_eq!(operator.stop(), 0);
    operator.start();
    operator.write("alice/later.yaml", SHOP.replace("name: shop", "name: later").as_str());
    operator.until_ready("alice", "later");
    operator.until_kind("preview", "alice", "demo", "its life over a new operator", runs);
    assert_eq!(operator.inspect(&main, "{{.Id}} {{.State.Running}}"), format!("{id} true"));

    operator.edit("alice/demo.yaml", "ttl: 1h", "ttl: 1s");
    operator.until_kind("preview", "alice", "demo", "its end", is_expired);
    assert!(!operator.containers().iter().any(|name| name.contains("demo")), "{:?}", operator.containers());
    let left = volumes(&operator, "");
    assert!(left.iter().any(|name| name.contains("-vol-alice.shop.data")), "the workspace's data waits in its tombstone: {left:?}");
    assert_eq!(left.iter().filter(|name| name.contains("demo")).count(), 1, "only the marker is left of the preview: {left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_waits_for_its_workspace_and_copies_as_it_says() {
    let mut operator = Operator::new().await;
    let of = |name: &str, more: &str| preview(name, &format!("  workspace: shop\n  ttl: 1h\n{more}"));
    operator.write("alice/empty.yaml", &of("empty", "  copy: None\n  command: [sleep, '1000000']\n"));
    operator.start();
    let waiting = operator.until_kind("preview", "alice", "empty", "it to wait", |status| condition(status, "WaitingOn") == Some("True"));
    assert!(waiting.to_string().contains("workspace shop"), "{waiting:#}");
    operator.write("alice/shop.yaml", SHOP);
    operator.until_kind("preview", "alice", "empty", "the workspace to wake it", runs);
    let empty = container(&operator, "empty");
    assert_eq!(operator.docker(&["exec", &empty, "ls", "/data"]), "");
    operator.until_ready("alice", "shop");
    let source = operator.container("alice", "shop", None);
    let started = || operator.inspect(&source, "{{.State.StartedAt}}");

    let before = started();
    operator.write("alice/live.yaml", &of("live", "  copyMode: Live\n"));
    operator.until_kind("preview", "alice", "live", "the live copy", runs);
    assert_eq!(operator.docker(&["exec", &container(&operator, "live"), "cat", "/data/index.html"]), "shop of alice");
    assert_eq!(started(), before);
    operator.write("alice/still.yaml", &of("still", "  copyMode: Stop\n"));
    operator.until_kind("preview", "alice", "still", "the copy of a stopped source", runs);
    assert_ne!(started(), before, "it was stopped and started");
    operator.until("alice", "shop", "the source to run again", runs);
    let rows = format!("{}.db", container(&operator, "still"));
    assert_eq!(operator.docker(&["exec", &rows, "cat", "/db/rows"]), "rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_a_killed_operator_left_paused_is_thawed() {
    let mut operator = Operator::new().await;
    // So many files that the last pass takes a moment.
    let many = SHOP.replace("exec httpd", "i=0; while [ $i -lt 6000 ]; do echo > deep/$i; i=$((i+1)); done; touch /data/filled; exec httpd");
    operator.write("alice/shop.yaml", &many);
    operator.start();
    operator.until_ready("alice", "shop");
    let source = operator.container("alice", "shop", None);
    operator.wait("the files", || operator.docker(&["exec", &source, "ls", "/data/filled"]).starts_with("/data").then_some(()));
    // What happens before it listens is told too.
    let since = jiff::Timestamp::now().as_second().to_string();
    let mut events = Command::new("docker")
        .args([
            "-H",
            &crate::support::docker_host(),
            "events",
            "--since",
            &since,
            "--format",
            "{{.Action}}",
            "--filter",
            "event=pause",
            "--filter",
            &format!("container={source}"),
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    operator.write("alice/demo.yaml", &preview("demo", "  workspace: shop\n  ttl: 1h\n"));
    let _limit = Limit::of(&events);
    let mut line = String::new();
    BufReader::new(events.stdout.take().unwrap()).read_line(&mut line).unwrap();
    operator.kill();
    drop(events.kill());
    drop(events.wait());
    assert_eq!(line.trim(), "pause");
    operator.start();
    operator.wait("the source to be thawed", || (operator.inspect(&source, "{{.State.Paused}}") == "false").then_some(()));
    operator.until_kind("preview", "alice", "demo", "the copy, taken up again", runs);
    let count = operator.docker(&["exec", &container(&operator, "demo"), "sh", "-c", "ls /data/deep | wc -l"]);
    assert_eq!(count, "6001");
    assert_eq!(operator.inspect(&source, "{{.State.Paused}} {{.State.Running}}"), "false true");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_so_is_refused_and_told() {
    let mut operator = Operator::new().await;
    let of = |name: &str, more: &str| preview(name, &format!("  image: IMAGE\n  command: [sleep, '1000000']\n{more}"));
    let soon = Timestamp::now() + SignedDuration::from_secs(3600);
    let soon = soon.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    operator.write("alice/dated.yaml", &of("dated", &format!("  expiresAt: {soon}\n")));
    operator.write("alice/both.yaml", &of("both", &format!("  ttl: 1h\n  expiresAt: {soon}\n")));
    operator.write("alice/locked.yaml", &of("locked", "  password: {hash: '$2b$12$abcdefghijklmnopqrstuuX1x1x1x1x1x1x1x1x1x1x1x1x1x1x1x'}\n"));
    operator.write("alice/linked.yaml", &of("linked", "  links: [{name: boss}]\n"));
    operator.write("alice/guarded.yaml", &of("guarded", "  links: [{name: boss, password: {secret: {name: pw, key: boss}}}]\n"));
    operator.write("alice/routed.yaml", &of("routed", "  route: {host: demo.example.com}\n"));
    operator.start();
    let dated = operator.until_kind("preview", "alice", "dated", "the preview", runs);
    assert_eq!(instant(&dated["status"]["expiresAt"]), soon.parse().unwrap());
    let validated = operator.verb(&["validate", operator.specs().to_str().unwrap()]);
    let said = String::from_utf8_lossy(&validated.stdout).into_owned() + &String::from_utf8_lossy(&validated.stderr);
    assert!(!validated.status.success() && said.contains("both.yaml") && said.contains("expiresAt"), "{said}");
    for name in ["locked", "guarded"] {
        let refused = operator.until_kind("preview", "alice", name, "the refusal", |status| condition(status, "Unsupported") == Some("True"));
        assert_eq!(condition(&refused["status"], "Ready"), Some("False"), "{name} would be open to everyone");
    }
    for name in ["linked", "routed"] {
        operator.until_kind("preview", "alice", name, "the note", |status| condition(status, "Unsupported") == Some("True") && runs(status));
    }
    let mut running: Vec<String> = ["dated", "linked", "routed"].iter().map(|name| container(&operator, name)).collect();
    running.sort();
    assert_eq!(operator.containers(), running);
}

#[tokio::test(flavor = "multi_thread")]
async fn previews_of_a_workspace_are_counted_until_they_expire() {
    let mut operator = Operator::new().await;
    operator.write(
        "default.yaml",
        "apiVersion: dockmaster/v1\nkind: Tenant\nmetadata: {name: default}\nspec: {quota: {maxPreviewsPerWorkspace: 1}, defaults: {previewTtl: 3h}}\n",
    );
    operator.write(
        "alice/shop.yaml",
        "apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {name: shop}\nspec: {image: IMAGE, command: [sleep, '1000000'], stopGracePeriod: 1s}\n",
    );
    operator.write("alice/one.yaml", &preview("one", "  workspace: shop\n"));
    operator.start();
    let one = operator.until_kind("preview", "alice", "one", "the first", runs);
    let left = instant(&one["status"]["expiresAt"]).duration_since(Timestamp::now()).as_mins();
    assert!((175..=180).contains(&left), "the tenant's default lifetime: {one:#}");
    operator.write("alice/two.yaml", &preview("two", "  workspace: shop\n"));
    let two = operator.until_kind("preview", "alice", "two", "the verdict", |status| condition(status, "QuotaExceeded") == Some("True"));
    assert!(two.to_string().contains("preview/one"), "{two:#}");
    operator.edit("alice/one.yaml", "  workspace: shop\n", "  workspace: shop\n  ttl: 1s\n");
    operator.until_kind("preview", "alice", "one", "its end", is_expired);
    operator.until_kind("preview", "alice", "two", "room", runs);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_whose_source_is_gone_expires_in_its_time_even_over_a_lost_state() {
    let mut operator = Operator::new().await.with(&["--resync", "2s"]);
    operator.write("alice/shop.yaml", SHOP);
    operator.write("alice/demo.yaml", &preview("demo", "  workspace: shop\n  ttl: 1h\n"));
    operator.write("alice/never.yaml", &preview("never", "  workspace: nobody\n  ttl: 1s\n"));
    operator.start();
    let demo = operator.until_kind("preview", "alice", "demo", "the copy", runs);
    operator.until_kind("preview", "alice", "never", "the end of one that never was", is_expired);
    let id = operator.inspect(&container(&operator, "demo"), "{{.Id}}");
    operator.remove("alice/shop.yaml");
    let source = operator.container("alice", "shop", None);
    operator.wait("the workspace to be gone", || (!operator.containers().contains(&source)).then_some(()));
    assert_eq!(operator.stop(), 0);
    std::fs::remove_dir_all(operator.state()).unwrap();
    operator.start();
    let again = operator.until_kind("preview", "alice", "demo", "the preview to be known again", |status| status["phase"] == "Running");
    assert_eq!(operator.inspect(&container(&operator, "demo"), "{{.Id}} {{.State.Running}}"), format!("{id} true"));
    assert_eq!(again["metadata"]["uid"], demo["metadata"]["uid"]);
    operator.edit("alice/demo.yaml", "ttl: 1h", "ttl: 1s");
    operator.until_kind("preview", "alice", "demo", "its end", is_expired);
    assert_eq!(operator.containers(), [""; 0]);
    let left: Vec<String> = volumes(&operator, "demo").into_iter().filter(|name| !name.contains(".expired")).collect();
    assert_eq!((left.as_slice(), volumes(&operator, "demo").len()), (&[] as &[String], 1), "its copies are gone, its marker stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_workspace_is_not_paused_for_its_preview() {
    let mut operator = Operator::new().await;
    operator.write("alice/shop.yaml", SHOP);
    operator.start();
    operator.until_ready("alice", "shop");
    operator.ok(&["suspend", "shop", "-n", "alice"]);
    operator.until("alice", "shop", "the suspension", |status| condition(status, "Suspended") == Some("True"));
    let begun = operator.inspect(&operator.container("alice", "shop", None), "{{.Id}} {{.State.StartedAt}}");
    operator.write("alice/demo.yaml", &preview("demo", "  workspace: shop\n  ttl: 2h\n"));
    operator.write("alice/live.yaml", &preview("live", "  workspace: shop\n  copyMode: Live\n  ttl: 2h\n"));
    let demo = operator.until_kind("preview", "alice", "demo", "to be told", |status| condition(status, "WaitingOn") == Some("True"));
    assert!(message(&demo["status"], "Stalled").contains("dockmaster resume workspace/shop"), "{demo:#}");
    operator.until_kind("preview", "alice", "live", "the live copy", runs);
    let paused = operator.docker(&["events", "--since", "10m", "--until", "0s", "--filter", "event=pause", "--format", "{{.Actor.Attributes.name}}"]);
    assert!(!paused.contains(&operator.container("alice", "shop", None)), "{paused}");
    operator.ok(&["resume", "shop", "-n", "alice"]);
    operator.until_kind("preview", "alice", "demo", "the copy", runs);
    assert_eq!(operator.inspect(&operator.container("alice", "shop", None), "{{.Id}} {{.State.StartedAt}}"), begun);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_that_is_deleted_before_its_copy_is_copied_from_what_it_left() {
    let mut operator = Operator::new().await;
    operator.write("alice/shop.yaml", SHOP);
    operator.start();
    operator.until_ready("alice", "shop");
    // It is pinned, and waits; then its workspace goes.
    operator.ok(&["suspend", "shop", "-n", "alice"]);
    operator.until("alice", "shop", "the suspension", |status| condition(status, "Suspended") == Some("True"));
    operator.write("alice/demo.yaml", &preview("demo", "  workspace: shop\n  ttl: 2h\n"));
    operator.until_kind("preview", "alice", "demo", "to be told", |status| condition(status, "WaitingOn") == Some("True"));
    operator.ok(&["delete", "shop", "-n", "alice"]);
    let demo = operator.until_kind("preview", "alice", "demo", "the copy", runs);
    let url = demo["status"]["url"].as_str().unwrap().to_owned();
    assert_eq!(operator.wait("an answer", || operator.http(&url)).trim(), "shop of alice");
    // One of which nothing is left says so.
    operator.write("alice/blog.yaml", &SHOP.replace("{name: shop}", "{name: blog}").replace("spec:\n", "spec:\n  state: Stopped\n"));
    operator.until("alice", "blog", "the stopped one", |status| status["phase"] == "Stopped");
    operator.write("alice/late.yaml", &preview("late", "  workspace: blog\n  ttl: 2h\n"));
    operator.until_kind("preview", "alice", "late", "to wait", |status| condition(status, "WaitingOn") == Some("True"));
    operator.ok(&["delete", "blog", "-n", "alice"]);
    let late = operator.until_kind("preview", "alice", "late", "to be told", |status| reason(status) == "CopyFailed");
    assert_eq!(condition(&late["status"], "Stalled"), Some("True"));
    assert!(message(&late["status"], "CopyFailed").contains("dockmaster undelete workspace/blog"), "{late:#}");
}
