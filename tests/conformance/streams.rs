//! Logs and attached streams, and that what reads its input ends with whoever held it.

use bollard::container::{AttachContainerResults, LogOutput};
use bollard::query_parameters::{AttachContainerOptions, LogsOptions};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::Group;
use crate::target::Case;

pub fn groups() -> Vec<Group> {
    vec![group!(logs), group!(followed), group!(attached), group!(held)]
}

const SCRIPT: &str = "echo one; echo two >&2; echo three";

impl Case {
    /// Standard output and standard error of a log.
    async fn logs(&self, container: &str, options: LogsOptions) -> (String, String) {
        let mut stream = Box::pin(self.docker.logs(container, Some(options)));
        let (mut out, mut err) = (String::new(), String::new());
        while let Some(chunk) = stream.next().await {
            match chunk.expect("a log") {
                LogOutput::StdErr { message } => err.push_str(&String::from_utf8_lossy(&message)),
                other => out.push_str(&String::from_utf8_lossy(&other.into_bytes())),
            }
        }
        (out, err)
    }
}

fn both() -> LogsOptions {
    LogsOptions { stdout: true, stderr: true, ..Default::default() }
}

async fn logs(t: Case) {
    let id = t.create("a", json!({"Cmd": ["sh", "-c", SCRIPT]})).await;
    t.eq("log of what never ran: empty", t.logs(&id, both()).await, (String::new(), String::new()));
    t.start(&id).await;
    t.ended(&id).await;
    let whole = ("one\nthree\n".to_owned(), "two\n".to_owned());
    t.eq("log: outputs are kept apart", t.logs(&id, both()).await, whole.clone());
    t.eq("log: standard output alone", t.logs(&id, LogsOptions { stdout: true, ..Default::default() }).await, (whole.0.clone(), String::new()));
    t.eq("log: standard error alone", t.logs(&id, LogsOptions { stderr: true, ..Default::default() }).await, (String::new(), whole.1.clone()));
    let last = t.logs(&id, LogsOptions { tail: "1".into(), ..both() }).await;
    t.eq("log: the last line", last.0.len() + last.1.len(), last.0.lines().chain(last.1.lines()).map(|line| line.len() + 1).next().unwrap_or_default());
    t.eq("log: none of the lines", t.logs(&id, LogsOptions { tail: "0".into(), ..both() }).await, (String::new(), String::new()));
    let stamped = t.logs(&id, LogsOptions { timestamps: true, ..both() }).await;
    let instants: Vec<bool> = stamped.0.lines().map(|line| line.split_once(' ').is_some_and(|(at, _)| at.parse::<jiff::Timestamp>().is_ok())).collect();
    t.eq("log: with instants", instants, vec![true, true]);
    t.reply("log of neither output: 400", &t.get(&format!("/containers/{id}/logs")).await, 400, "you must choose at least one stream");
    t.reply("log of what is not there: 404", &t.get("/containers/dockmaster-nothing/logs?stdout=1").await, 404, "No such container: dockmaster-nothing");
    t.start(&id).await;
    t.ended(&id).await;
    t.eq("log: runs add up", t.logs(&id, both()).await.0, "one\nthree\none\nthree\n".to_owned());
    let past = t.logs(&id, LogsOptions { until: 1, ..both() }).await;
    t.eq("log: until long ago: empty", past, (String::new(), String::new()));
    let future = t.logs(&id, LogsOptions { since: i32::MAX, ..both() }).await;
    t.eq("log: since far ahead: empty", future, (String::new(), String::new()));
    let tty = t.run("tty", json!({"Cmd": ["sh", "-c", "echo one"], "Tty": true})).await;
    t.ended(&tty).await;
    let raw = t.get(&format!("/containers/{tty}/logs?stdout=1")).await;
    t.eq("log of a terminal: bare, lines end as there", raw.body, json!("one\r\n"));
}

async fn followed(t: Case) {
    let id = t.run("a", json!({"Cmd": ["sh", "-c", "echo one; sleep 1; echo two"]})).await;
    let log = t.logs(&id, LogsOptions { follow: true, ..both() }).await;
    t.eq("a followed log ends with its container", log.0, "one\ntwo\n".to_owned());
    t.field("a followed log has all of it", &t.ended(&id).await, "/State/ExitCode", 0);
}

async fn attached(t: Case) {
    let body = json!({"Cmd": ["cat"], "OpenStdin": true, "StdinOnce": true, "AttachStdin": true, "AttachStdout": true, "AttachStderr": true});
    let id = t.create("a", body).await;
    let options = AttachContainerOptions { stream: true, stdin: true, stdout: true, stderr: true, ..Default::default() };
    let AttachContainerResults { mut output, mut input } = t.docker.attach_container(&id, Some(options)).await.expect("an attach");
    t.eq("attach before the start", t.start(&id).await.status, 204);
    input.write_all(b"hello\n").await.unwrap();
    let first = output.next().await.and_then(Result::ok).map(|chunk| chunk.to_string());
    t.eq("attach: what is written is read", first.as_deref(), Some("hello\n"));
    input.shutdown().await.unwrap();
    drop(input);
    while output.next().await.is_some() {}
    t.field("attach: the end of the input ends `cat` well", &t.ended(&id).await, "/State/ExitCode", 0);
    t.eq("attach: its output is in the log", t.logs(&id, both()).await.0, "hello\n".to_owned());
    let missing = t.post("/containers/dockmaster-nothing/attach?stream=1&stdout=1", Value::Null).await;
    t.reply("attach to what is not there: 404", &missing, 404, "No such container: dockmaster-nothing");
    let logs = t.run("printer", json!({"Cmd": ["sh", "-c", "sleep 0.5; echo late"]})).await;
    let options = AttachContainerOptions { stream: true, stdout: true, ..Default::default() };
    let AttachContainerResults { mut output, .. } = t.docker.attach_container(&logs, Some(options)).await.expect("an attach");
    let mut text = String::new();
    while let Some(Ok(chunk)) = output.next().await {
        text.push_str(&chunk.to_string());
    }
    t.eq("attach to what runs: its output, to its end", text, "late\n".to_owned());
}

async fn held(t: Case) {
    let body = json!({
        "Cmd": ["cat"], "OpenStdin": true, "StdinOnce": true, "AttachStdin": true, "AttachStdout": true, "AttachStderr": true, "StopSignal": "SIGKILL",
        "HostConfig": {"AutoRemove": true},
    });
    let id = t.create("lock", body.clone()).await;
    let options = AttachContainerOptions { stream: true, stdin: true, stdout: true, stderr: true, ..Default::default() };
    let held = t.docker.attach_container(&id, Some(options.clone())).await.expect("an attach");
    t.start(&id).await;
    t.reply("a held lock: its name is taken", &t.try_create("lock", body.clone()).await, 409, "is already in use by container");
    t.field("a held lock: it runs", &t.inspect(&id).await, "/State/Status", "running");
    let waiting = t.begin("POST", &format!("/containers/{id}/wait?condition=removed"), None).await;
    drop(held);
    t.eq("the engine frees a lock whose holder has gone", waiting.finish().await.status, 200);
    t.eq("a freed lock: its name can be had", t.try_create("lock", body.clone()).await.status, 201);
    let id = t.create("killed", body).await;
    let AttachContainerResults { mut output, input } = t.docker.attach_container(&id, Some(options)).await.expect("an attach");
    t.start(&id).await;
    t.remove(&id).await;
    while output.next().await.is_some() {}
    t.holds("a lock that is removed by force: its holder is told", true, "");
    drop(input);
}
