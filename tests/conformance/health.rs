//! Health tests: what they make of a container, and in which words a list says it.

use serde_json::{Value, json};

use crate::Group;
use crate::target::{Case, at};

pub fn groups() -> Vec<Group> {
    vec![group!(turns), group!(grace_of_the_start), group!(without)]
}

const SECOND: i64 = 1_000_000_000;

fn checked(test: &[&str], interval: i64, retries: i64) -> Value {
    json!({"Cmd": ["sleep", "600"], "HostConfig": {"Init": true}, "Healthcheck": {"Test": test, "Interval": interval * SECOND, "Timeout": 5 * SECOND, "Retries": retries}})
}

fn ends_with(listed: &Value, tail: &str) -> bool {
    at(listed, "/Status").as_str().is_some_and(|text| text.starts_with("Up ") && text.ends_with(tail))
}

async fn turns(t: Case) {
    let id = t.create("a", checked(&["CMD", "test", "-e", "/tmp/well"], 1, 2)).await;
    t.field("health before the start", &t.inspect(&id).await, "/State/Health", t.by(Value::Null, Value::Null));
    t.start(&id).await;
    let first = t.inspect(&id).await;
    t.field("health begins as starting", &first, "/State/Health/Status", "starting");
    let listed = t.listed(&id).await;
    t.holds("list: the text of starting health", ends_with(&listed, " (health: starting)"), &listed["Status"]);
    t.field("list: health is no state", &listed, "/State", "running");
    let ill = t.until(&id, "/State/Health/Status", "unhealthy").await;
    t.holds("unhealthy after that many failures", at(&ill, "/State/Health/FailingStreak").as_i64() >= Some(2), &ill["State"]);
    t.field("unhealthy: the log has exit codes", &ill, "/State/Health/Log/0/ExitCode", 1);
    t.field("unhealthy runs on", &ill, "/State/Status", "running");
    t.holds("list: the text of unhealthy", ends_with(&t.listed(&id).await, " (unhealthy)"), &t.listed(&id).await["Status"]);
    t.eq("list: the filter of health finds the unhealthy", t.list(json!({"health": ["unhealthy"], "name": [t.name("a")]})).await.len(), 1);
    let exec = t.post(&format!("/containers/{id}/exec"), json!({"Cmd": ["touch", "/tmp/well"]})).await;
    t.post(&format!("/exec/{}/start", exec.text("/Id")), json!({"Detach": true})).await;
    let well = t.until(&id, "/State/Health/Status", "healthy").await;
    t.field("one success makes it healthy", &well, "/State/Health/FailingStreak", 0);
    t.holds("list: the text of healthy", ends_with(&t.listed(&id).await, " (healthy)"), &t.listed(&id).await["Status"]);
    t.eq("list: the filter of health finds the healthy", t.list(json!({"health": ["healthy"], "name": [t.name("a")]})).await.len(), 1);
    t.pause(&id).await;
    t.holds("list: paused hides health", ends_with(&t.listed(&id).await, " (Paused)"), &t.listed(&id).await["Status"]);
    t.act(&id, "unpause").await;
    t.stop(&id).await;
    let stopped = t.inspect(&id).await;
    t.field("stopped: unhealthy", &stopped, "/State/Health/Status", "unhealthy");
    t.holds(
        "list: health is not in the text of the stopped",
        at(&t.listed(&id).await, "/Status").as_str().is_some_and(|text| text.starts_with("Exited (")),
        &t.listed(&id).await["Status"],
    );
    t.start(&id).await;
    t.field("started again: starting again", &t.inspect(&id).await, "/State/Health/Status", "starting");
    t.field("started again: no failures yet", &t.inspect(&id).await, "/State/Health/FailingStreak", 0);
}

async fn grace_of_the_start(t: Case) {
    let mut patient = checked(&["CMD", "false"], 1, 1);
    patient["Healthcheck"]["StartPeriod"] = json!(600 * SECOND);
    let patient = t.run("patient", patient).await;
    let mut quick = checked(&["CMD", "true"], 600, 1);
    quick["Healthcheck"]["StartPeriod"] = json!(600 * SECOND);
    quick["Healthcheck"]["StartInterval"] = json!(SECOND);
    let quick = t.run("quick", quick).await;
    let slow = t.run("slow", checked(&["CMD", "true"], 600, 1)).await;
    let tested = t.wait("two tests that failed", || async {
        Some(t.inspect(&patient).await).filter(|inspect| at(inspect, "/State/Health/Log").as_array().is_some_and(|log| log.len() >= 2))
    });
    let tested = tested.await;
    t.field("failures during the start period do not count", &tested, "/State/Health/FailingStreak", 0);
    t.field("failures during the start period leave it starting", &tested, "/State/Health/Status", "starting");
    if t.by(false, true) {
        t.until(&quick, "/State/Health/Status", "healthy").await;
    }
    t.field("an interval of its own during the start: since API 1.44", &t.inspect(&quick).await, "/State/Health/Status", t.by("starting", "healthy"));
    t.field("the first test is one interval after the start", &t.inspect(&slow).await, "/State/Health/Status", "starting");
}

async fn without(t: Case) {
    let id = t.sleeper("none").await;
    t.field("without a test there is no health", &t.inspect(&id).await, "/State/Health", Value::Null);
    let text = at(&t.listed(&id).await, "/Status");
    t.holds("list: without a test nothing is said of health", text.as_str().is_some_and(|text| text.starts_with("Up ") && !text.contains('(')), text);
    t.eq("list: the filter of health finds those without", t.list(json!({"health": ["none"], "name": [t.name("none")]})).await.len(), 1);
    let off = t.run("off", checked(&["NONE"], 1, 1)).await;
    t.field("a test of NONE is none", &t.inspect(&off).await, "/State/Health", Value::Null);
    let shell = t.run("shell", checked(&["CMD-SHELL", "exit 0"], 1, 1)).await;
    let inspect = t.until(&shell, "/State/Health/Status", "healthy").await;
    t.field("a test by the shell", &inspect, "/State/Health/Log/0/ExitCode", 0);
}
