//! Idle, lifetime, hours, start and extend.

use std::process::{Child, Command, Stdio};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::operator::{Operator, condition, reason};

/// A workspace that sleeps, with further lines of its spec.
fn sleeper(name: &str, spec: &str) -> String {
    let head = format!("apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {{name: {name}}}\nspec:\n  image: IMAGE\n  stopGracePeriod: 1s\n");
    let command = if spec.contains("command:") { "" } else { "  command: [sleep, '1000000']\n" };
    format!("{head}{command}{spec}")
}

fn is(reason_: &str) -> impl Fn(&Value) -> bool {
    move |status| reason(status) == reason_ && condition(status, "Ready") == Some("True")
}

fn next_at(object: &Value) -> Timestamp {
    object["status"]["next"]["at"].as_str().unwrap_or_else(|| panic!("no next in {object:#}")).parse().unwrap()
}

/// Something that goes on until it is dropped.
struct Ongoing(Child);

impl Drop for Ongoing {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn ongoing(command: &mut Command) -> Ongoing {
    Ongoing(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_activity_it_is_warned_stopped_and_woken_by_start() {
    let mut operator = Operator::new().await;
    let spec = "  idle: {timeout: 6s, warn: {exec: [sh, -c, 'echo soon >> /data/warned']}}
  health: {test: [CMD, 'true'], interval: 1s}
  mounts: [{volume: data, path: /data}]
";
    operator.write("alice/shop.yaml", &sleeper("shop", spec));
    operator.start();
    let shop = operator.until_ready("alice", "shop");
    assert_eq!(shop["status"]["next"]["action"], "Stop");
    let distance = next_at(&shop).duration_since(Timestamp::now()).as_secs();
    assert!((0..=6).contains(&distance), "a health test is no activity: {shop:#}");
    operator.until("alice", "shop", "the idle stop", is("Idle"));
    let container = operator.container("alice", "shop", None);
    assert_eq!(operator.inspect(&container, "{{.State.Status}}"), "exited", "stopped, not removed");
    let events = operator.ok(&["events", "-A"]);
    assert!(events.contains("StopSoon") && events.contains("IdleStopped"), "{events}");
    let id = operator.inspect(&container, "{{.Id}}");

    operator.ok(&["start", "shop", "-n", "alice"]);
    operator.until("alice", "shop", "the run after it was woken", is("Running"));
    assert_eq!(operator.inspect(&container, "{{.Id}}"), id, "woken, not made anew");
    assert_eq!(operator.docker(&["exec", &container, "cat", "/data/warned"]), "soon", "told inside, once");
    assert!(!operator.read("alice/shop.yaml").contains("state:"), "waking changes no spec");
    operator.until("alice", "shop", "the second idle stop", is("Idle"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_used_stays_up() {
    let mut operator = Operator::new().await;
    let web = "  command: [sh, -c, 'dd if=/dev/zero of=/tmp/index.html bs=1k count=100 2>/dev/null; exec httpd -f -p 8080 -h /tmp']
  ports: [{name: http, container: 8080, publish: Pool}]
  idle: {timeout: 8s}
";
    operator.write("alice/web.yaml", &sleeper("web", web));
    for name in ["shell", "verb", "touched", "unused"] {
        operator.write(&format!("alice/{name}.yaml"), &sleeper(name, "  idle: {timeout: 8s}\n"));
    }
    operator.start();
    let touch = operator.command(&["touch", "touched", "-n", "alice"]);
    let toucher = ongoing(Command::new("sh").args(["-c", "while :; do \"$@\"; sleep 0.5; done", "sh"]).arg(touch.get_program()).args(touch.get_args()));
    let url = operator.until_ready("alice", "web")["status"]["url"].as_str().unwrap().to_owned();
    let client = ongoing(Command::new("sh").args(["-c", &format!("while :; do curl -s -o /dev/null {url}; sleep 0.5; done")]));
    let shell =
        ongoing(Command::new("docker").args(["-H", &crate::support::docker_host(), "exec", &operator.container("alice", "shell", None), "sleep", "1000"]));
    operator.until_ready("alice", "verb");
    let mut exec = operator.command(&[]);
    exec.args(["exec", "-n", "alice", "verb", "--", "sleep", "1000"]);
    let verb = ongoing(&mut exec);
    let used = ["web", "shell", "verb", "touched"];
    let started = |name: &str| operator.inspect(&operator.container("alice", name, None), "{{.State.StartedAt}}");
    used.iter().for_each(|name| drop(operator.until_ready("alice", name)));
    let before: Vec<String> = used.iter().map(|name| started(name)).collect();
    for _ in 0..2 {
        operator.until("alice", "unused", "its idle stop", is("Idle"));
        operator.ok(&["start", "unused", "-n", "alice"]);
        operator.until("alice", "unused", "its next run", is("Running"));
    }
    for (name, before) in used.iter().zip(&before) {
        assert_eq!(operator.inspect(&operator.container("alice", name, None), "{{.State.Running}}"), "true", "{name} was in use\n{}", operator.log());
        assert_eq!(started(name), *before, "{name} was never stopped");
    }
    for (name, by) in [("web", "network"), ("shell", "exec"), ("verb", "exec"), ("touched", "touch")] {
        operator.until("alice", name, "what kept it up", |status| status["activity"]["by"] == by);
    }
    drop((client, shell, verb, toucher));
    // The command inside outlives its client, as Docker has it; it ends by hand.
    for name in ["shell", "verb"] {
        operator.docker(&["exec", &operator.container("alice", name, None), "killall", "-q", "sleep"]);
    }
    operator.until("alice", "web", "the stop after its last use", is("Idle"));
    operator.until("alice", "touched", "the stop after its last use", is("Idle"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_workspace_itself_is_asked_before_an_idle_stop() {
    let mut operator = Operator::new().await;
    let idle = |check: &str| format!("  idle: {{timeout: 3s, check: {{exec: [sh, -c, '{check}']}}}}\n");
    operator.write("alice/free.yaml", &sleeper("free", &idle("exit 0")));
    operator.write("alice/busy.yaml", &sleeper("busy", &idle("test -e /tmp/done")));
    operator.write("alice/broken.yaml", &sleeper("broken", &idle("exit 3")));
    operator.start();
    operator.until("alice", "free", "an agreed stop", is("Idle"));
    let broken = operator.until("alice", "broken", "a check that fails", |status| condition(status, "IdleCheckFailed") == Some("True"));
    assert_eq!(reason(&broken["status"]), "Running", "no answer counts as busy");
    let busy = operator.until("alice", "busy", "a busy answer", |status| status["activity"]["by"] == "check");
    assert_eq!(reason(&busy["status"]), "Running");
    operator.docker(&["exec", &operator.container("alice", "busy", None), "touch", "/tmp/done"]);
    operator.until("alice", "busy", "the stop once it is done", is("Idle"));
    assert_eq!(operator.inspect(&operator.container("alice", "broken", None), "{{.State.Running}}"), "true");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_with_its_lifetime_whatever_it_does() {
    let mut operator = Operator::new().await;
    operator.write("alice/shop.yaml", &sleeper("shop", "  maxLifetime: 8s\n"));
    operator.write("alice/job.yaml", &sleeper("job", "  command: [sh, -c, 'exit 0']\n  restart: 'no'\n"));
    operator.write("alice/task.yaml", &sleeper("task", "  command: [sh, -c, 'exit 0']\n  restart: on-failure\n"));
    operator.start();
    let shop = operator.until_ready("alice", "shop");
    assert_eq!(shop["status"]["next"]["action"], "Stop");
    let plan = String::from_utf8(operator.verb(&["plan", "--at", "2h"]).stdout).unwrap();
    assert!(plan.contains("workspace/shop -n alice") && plan.to_lowercase().contains("lifetime"), "{plan}");
    operator.wait("the end of its lifetime", || {
        operator.verb(&["touch", "shop", "-n", "alice"]);
        operator.get("workspace", "alice", "shop").filter(|object| is("Lifetime")(&object["status"]))
    });
    assert!(operator.ok(&["events", "-A"]).contains("LifetimeStopped"));
    // What a policy stopped stays so, over a new operator too.
    assert_eq!(operator.stop(), 0);
    operator.start();
    // Whoever has a newcomer running has looked at everything else.
    operator.write("alice/later.yaml", &sleeper("later", ""));
    operator.until("alice", "later", "a newcomer", is("Running"));
    operator.until("alice", "shop", "it to stay stopped", is("Lifetime"));
    assert_eq!(operator.inspect(&operator.container("alice", "shop", None), "{{.State.Running}}"), "false");
    operator.ok(&["start", "shop", "-n", "alice"]);
    operator.until("alice", "shop", "another run", is("Running"));
    for name in ["job", "task"] {
        let done = operator.until("alice", name, "a completed run", is("Completed"));
        assert_eq!(done["status"]["phase"], "Stopped");
    }
    let job = operator.container("alice", "job", None);
    let before = operator.inspect(&job, "{{.State.StartedAt}}");
    operator.ok(&["restart", "job", "-n", "alice"]);
    operator.wait("another run of the job", || (operator.inspect(&job, "{{.State.StartedAt}}") != before).then_some(()));
    operator.until("alice", "job", "its completion", is("Completed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_runs_in_its_hours_and_by_wish_a_little_outside_them() {
    let mut operator = Operator::new().await;
    // To the minute, somewhere where the clock shows another hour than here.
    let zone = jiff::tz::TimeZone::get("Asia/Kolkata").unwrap();
    let minute = Timestamp::from_second(Timestamp::now().as_second() / 60 * 60).unwrap();
    let at = |hours: i64| minute + SignedDuration::from_hours(hours);
    let clock = |at: Timestamp| at.to_zoned(zone.clone()).strftime("%H:%M").to_string();
    let hours = |from, to| format!("  runningHours: {{from: '{}', to: '{}', timeZone: Asia/Kolkata}}\n", clock(at(from)), clock(at(to)));
    operator.write("alice/day.yaml", &sleeper("day", &hours(-1, 1)));
    operator.write("alice/night.yaml", &sleeper("night", &hours(2, 3)));
    operator.start();
    let day = operator.until("alice", "day", "a run in its hours", is("Running"));
    assert_eq!((day["status"]["next"]["action"].as_str(), next_at(&day)), (Some("Stop"), at(1)));
    let night = operator.until("alice", "night", "a rest outside its hours", is("OutsideHours"));
    assert_eq!((night["status"]["next"]["action"].as_str(), next_at(&night)), (Some("Start"), at(2)));
    assert_eq!(night["status"]["phase"], "Stopped");

    operator.ok(&["start", "night", "-n", "alice"]);
    let night = operator.until("alice", "night", "a run by wish", is("Running"));
    let grace = next_at(&night).duration_since(Timestamp::now()).as_mins();
    assert!((58..=60).contains(&grace), "an hour where there is no idle timeout: {night:#}");
    // The hours are edited: that counts at once.
    operator.write("alice/day.yaml", &sleeper("day", &hours(-3, -2)));
    operator.until("alice", "day", "a stop outside its new hours", is("OutsideHours"));
    assert!(operator.ok(&["events", "-A"]).contains("HoursStopped"));
    operator.write("alice/day.yaml", &sleeper("day", &hours(-1, 1)));
    operator.until("alice", "day", "its hours to begin by themselves", is("Running"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_postponed_and_deadlines_follow_the_spec_and_a_new_operator() {
    let mut operator = Operator::new().await;
    operator.write("alice/kept.yaml", &sleeper("kept", "  idle: {timeout: 7s}\n"));
    operator.write("alice/short.yaml", &sleeper("short", "  idle: {timeout: 7s}\n"));
    operator.write("alice/long.yaml", &sleeper("long", "  idle: {timeout: 1h}\n"));
    operator.start();
    operator.until_ready("alice", "kept");
    operator.ok(&["extend", "kept", "2h", "-n", "alice"]);
    let kept = operator.until("alice", "kept", "the postponed stop", |status| {
        status["next"]["at"].as_str().is_some_and(|at| at.parse::<Timestamp>().unwrap() > Timestamp::now() + SignedDuration::from_mins(115))
    });
    assert_eq!(kept["status"]["next"]["action"], "Stop");
    assert_eq!(operator.stop(), 0);
    operator.start();
    operator.until("alice", "short", "its deadline, kept over two operators", is("Idle"));
    assert_eq!(operator.inspect(&operator.container("alice", "kept", None), "{{.State.Running}}"), "true");
    assert!(next_at(&operator.until_ready("alice", "kept")) > Timestamp::now() + SignedDuration::from_mins(115));
    operator.until("alice", "long", "its run", is("Running"));

    let long = operator.until_ready("alice", "long");
    assert!(next_at(&long) > Timestamp::now() + SignedDuration::from_mins(55));
    let at = String::from_utf8(operator.verb(&["plan", "--at", "3h"]).stdout).unwrap();
    assert!(at.contains("long") && at.contains("kept"), "both will have stopped by then:\n{at}");
    let id = operator.inspect(&operator.container("alice", "long", None), "{{.Id}}");
    operator.edit("alice/long.yaml", "timeout: 1h", "timeout: 3s");
    operator.until("alice", "long", "the new timeout to count", is("Idle"));
    assert_eq!(operator.inspect(&operator.container("alice", "long", None), "{{.Id}}"), id, "a deadline is no reason for another container");
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_and_start_edit_the_state_and_nothing_else() {
    let mut operator = Operator::new().await.with(&["--status", "none"]);
    let text = sleeper("shop", "  # mine\r\n  state:   Running   # for now\r\n  env: [{name: A, value: 'b'}]");
    operator.write("alice/shop.yaml", &text);
    operator.start();
    operator.until_ready("alice", "shop");
    let before = operator.read("alice/shop.yaml");
    operator.ok(&["stop", "shop", "-n", "alice"]);
    operator.until("alice", "shop", "the declared stop", is("Stopped"));
    assert_eq!(operator.read("alice/shop.yaml"), before.replace("Running ", "Stopped "));
    operator.ok(&["start", "shop", "-n", "alice"]);
    operator.until("alice", "shop", "the start", is("Running"));
    assert_eq!(operator.read("alice/shop.yaml"), before);
}
