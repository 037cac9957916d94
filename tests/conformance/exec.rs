//! Commands in containers: their codes, what is said of them while they run, and that they outlive whoever began them.

use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::Group;
use crate::target::{Case, at};

pub fn groups() -> Vec<Group> {
    vec![group!(codes), group!(refusals), group!(sessions)]
}

impl Case {
    /// Makes an exec; gives its id.
    async fn exec(&self, container: &str, words: &[&str]) -> String {
        let reply = self.post(&format!("/containers/{container}/exec"), json!({"Cmd": words, "AttachStdout": true, "AttachStderr": true})).await;
        assert_eq!(reply.status, 201, "{}", reply.message());
        reply.text("/Id")
    }

    /// What it writes, to standard output and to standard error.
    async fn output(&self, exec: &str) -> (String, String) {
        let started = self.docker.start_exec(exec, None::<StartExecOptions>).await.expect("a start");
        let StartExecResults::Attached { mut output, .. } = started else { panic!("not attached") };
        let (mut out, mut err) = (String::new(), String::new());
        while let Some(chunk) = output.next().await {
            match chunk.expect("output") {
                LogOutput::StdErr { message } => err.push_str(&String::from_utf8_lossy(&message)),
                other => out.push_str(&String::from_utf8_lossy(&other.into_bytes())),
            }
        }
        (out, err)
    }

    async fn exec_inspect(&self, exec: &str) -> Value {
        serde_json::to_value(self.docker.inspect_exec(exec).await.expect("an inspect")).unwrap()
    }
}

async fn codes(t: Case) {
    let id = t.sleeper("a").await;
    let exec = t.exec(&id, &["sh", "-c", "echo out; echo err >&2; exit 3"]).await;
    let before = t.exec_inspect(&exec).await;
    t.field("exec before its start: does not run", &before, "/Running", false);
    t.field("exec before its start: no code", &before, "/ExitCode", Value::Null);
    t.field("exec: its container", &before, "/ContainerID", id.clone());
    t.field("exec: its command", &before, "/ProcessConfig/entrypoint", "sh");
    t.field("exec: its arguments", &before, "/ProcessConfig/arguments", json!(["-c", "echo out; echo err >&2; exit 3"]));
    t.eq("exec: outputs are kept apart", t.output(&exec).await, ("out\n".to_owned(), "err\n".to_owned()));
    let after = t.exec_inspect(&exec).await;
    t.field("exec: its code", &after, "/ExitCode", 3);
    t.field("exec: does not run any more", &after, "/Running", false);
    t.reply("exec: a second start: 409", &t.post(&format!("/exec/{exec}/start"), json!({"Detach": true})).await, t.by(409, 409), "has already run");
    let zero = t.exec(&id, &["true"]).await;
    t.output(&zero).await;
    t.field("exec: the code of success", &t.exec_inspect(&zero).await, "/ExitCode", 0);
    let started = t.post(&format!("/exec/{}/start", t.exec(&id, &["true"]).await), json!({"Detach": true})).await;
    t.eq("exec: a detached start", started.status, 200);
    let environment =
        t.post(&format!("/containers/{id}/exec"), json!({"Cmd": ["sh", "-c", "echo $A"], "Env": ["A=b"], "AttachStdout": true})).await.text("/Id");
    t.eq("exec: an environment of its own", t.output(&environment).await.0, "b\n");
    t.field("exec changes nothing of its container", &t.inspect(&id).await, "/State/Status", "running");
}

async fn refusals(t: Case) {
    let id = t.create("stopped", json!({"Cmd": ["true"]})).await;
    let create = async |container: &str, body: Value| t.post(&format!("/containers/{container}/exec"), body).await;
    t.reply("exec in what does not run: 409", &create(&id, json!({"Cmd": ["true"]})).await, 409, "is not running");
    t.reply("exec in what is not there: 404", &create("dockmaster-nothing", json!({"Cmd": ["true"]})).await, 404, "No such container: dockmaster-nothing");
    t.reply("exec without a command: 400", &create(&id, json!({})).await, 400, t.by("No exec command specified", "o exec command specified"));
    t.reply("inspect of an exec that is not there: 404", &t.get("/exec/dockmaster-nothing/json").await, 404, "No such exec instance: dockmaster-nothing");
    t.reply(
        "start of an exec that is not there: 404",
        &t.post("/exec/dockmaster-nothing/start", json!({"Detach": true})).await,
        404,
        "No such exec instance: dockmaster-nothing",
    );
    let id = t.sleeper("running").await;
    let absent = t.exec(&id, &["/nowhere"]).await;
    let started = t.docker.start_exec(&absent, None::<StartExecOptions>).await;
    let seen = match started {
        Ok(StartExecResults::Attached { mut output, .. }) => {
            let mut text = String::new();
            while let Some(Ok(chunk)) = output.next().await {
                text.push_str(&chunk.to_string());
            }
            text
        }
        Ok(StartExecResults::Detached) => "detached".to_owned(),
        Err(error) => error.to_string(),
    };
    t.holds("exec of a command that is not there says so", seen.contains("/nowhere") && seen.contains("no such file or directory"), &seen);
    t.field("exec of a command that is not there: code 127", &t.exec_inspect(&absent).await, "/ExitCode", t.by(126, 127));
    t.stop(&id).await;
    let gone = t.exec_inspect(&absent).await;
    t.field("an exec of a container that ended does not run", &gone, "/Running", false);
    t.remove(&id).await;
    t.eq("an exec goes with its container", t.get(&format!("/exec/{absent}/json")).await.status, 404);
}

async fn sessions(t: Case) {
    let id = t.sleeper("a").await;
    let exec = t
        .docker
        .create_exec(&id, CreateExecOptions { cmd: Some(vec!["cat".to_owned()]), attach_stdin: Some(true), attach_stdout: Some(true), ..Default::default() });
    let exec = exec.await.expect("an exec").id;
    let Ok(StartExecResults::Attached { mut output, mut input }) = t.docker.start_exec(&exec, None::<StartExecOptions>).await else { panic!("not attached") };
    input.write_all(b"hello\n").await.unwrap();
    let first = output.next().await.and_then(Result::ok).map(|chunk| chunk.to_string());
    t.eq("exec: what is written is read", first.as_deref(), Some("hello\n"));
    let running = t.exec_inspect(&exec).await;
    t.field("a running exec: runs", &running, "/Running", true);
    t.field("a running exec: no code", &running, "/ExitCode", Value::Null);
    let pid = t.wait("its process", || async { at(&t.exec_inspect(&exec).await, "/Pid").as_i64().filter(|pid| *pid > 0) }).await;
    t.holds("a running exec: a process", pid > 0, pid);
    t.field("a running exec is among its container's", &t.inspect(&id).await, "/ExecIDs", json!([exec]));
    input.shutdown().await.unwrap();
    drop(input);
    while output.next().await.is_some() {}
    t.field("exec: the end of its input ends `cat` well", &t.exec_inspect(&exec).await, "/ExitCode", 0);
    let long = t.exec(&id, &["sleep", "600"]).await;
    let Ok(StartExecResults::Attached { output, input }) = t.docker.start_exec(&long, None::<StartExecOptions>).await else { panic!("not attached") };
    drop((output, input));
    let other = t.exec(&id, &["sleep", "1"]).await;
    t.output(&other).await;
    t.field("M18: an exec goes on when its client has gone", &t.exec_inspect(&long).await, "/Running", true);
    t.stop(&id).await;
    let ended = t.wait("its end", || async { Some(t.exec_inspect(&long).await).filter(|exec| exec["Running"] == false) }).await;
    t.field("an exec ends with its container", &ended, "/Running", false);
    t.field("a container that does not run has no execs", &t.inspect(&id).await, "/ExecIDs", Value::Null);
}
