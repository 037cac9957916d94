//! Tasks on an engine: pull, run a command, sample, tail, and the sessions of the command line.

use bollard::query_parameters::RemoveImageOptions;
use dockmaster::desired::{MountSource, MountWant};
use dockmaster::observed::{ContainerId, Look, TaskKey, TaskResult, TaskState};
use dockmaster::planner::{Operation, Task};
use dockmaster::resource::quantity::Duration;
use dockmaster::runtime::console::{ExecOptions, LogOptions};
use dockmaster::runtime::{ContainerRuntime, Outcome};
use futures::StreamExt;
use tokio::io::AsyncWriteExt;

use crate::fixture::{Fixture, SOON, adapter, attachment, subnet, words};
use crate::registry::{ACCOUNT, Registry};
use crate::support::until;

/// Begins a task and waits for its end.
async fn ended(f: &Fixture, key: TaskKey, task: Task) -> TaskState {
    assert_eq!(f.execute(Operation::Begin(key.clone(), task)).await.unwrap(), Outcome::Began);
    let state = async || match f.runtime.tasks().remove(&key)? {
        TaskState::Running { .. } => None,
        state @ (TaskState::Done { .. } | TaskState::Failed { .. }) => Some(state),
    };
    until("the end of a task", SOON, state).await
}

fn done(state: TaskState) -> TaskResult {
    match state {
        TaskState::Done { result, .. } => result,
        other => panic!("not done: {other:?}"),
    }
}

fn hook(id: &ContainerId) -> TaskKey {
    TaskKey::Hook(id.clone(), "postStart".into())
}

fn exec(script: &str, limit: i64) -> Task {
    Task::Exec { argv: words(&["sh", "-c", script]), limit: Duration::from_secs(limit) }
}

#[tokio::test]
async fn a_command_gives_its_code_and_the_end_of_its_output() {
    let f = Fixture::new().await;
    let id = f.running(f.spec()).await;
    let result = done(ended(&f, hook(&id), exec("echo out; echo err >&2; exit 3", 10)).await);
    let TaskResult::Exit { code: 3, output } = result else { panic!("{result:?}") };
    assert!(output.contains("out\n") && output.contains("err\n"), "{output}");
    let result = done(ended(&f, hook(&id), exec("seq 1 5000", 10)).await);
    let TaskResult::Exit { code: 0, output } = result else { panic!("{result:?}") };
    assert!(output.len() == 4096 && output.ends_with("\n4999\n5000\n"), "{} bytes", output.len());
    let state = ended(&f, hook(&id), exec("sleep 60", 1)).await;
    assert!(matches!(state, TaskState::Failed { attempts: 1, .. }), "{state:?}");
    f.execute(Operation::Forget(hook(&id))).await.unwrap();
    assert!(f.world().await.tasks.is_empty());
    f.execute(Operation::Remove(f.target(&id))).await.unwrap();
    let state = ended(&f, hook(&id), exec("true", 10)).await;
    assert!(matches!(state, TaskState::Failed { .. }), "in a container that is gone: {state:?}");
}

#[tokio::test]
async fn the_helper_image_is_made_and_then_seen() {
    let f = Fixture::new().await;
    assert_eq!(done(ended(&f, TaskKey::Helper, Task::Helper).await), TaskResult::Done);
    let world = f.world().await;
    let helper = world.helper.clone().expect("the helper image");
    assert_eq!(world.images.get(&helper), Some(&helper));
    assert_eq!(f.runtime.glimpse(&f.object(), Look::Engine).await.unwrap().images.unwrap().helper, Some(helper));
}

#[tokio::test]
async fn a_sample_counts_what_is_sent_and_who_is_in_there() {
    for remote in [false, true] {
        let mut f = Fixture::new().await;
        if remote {
            f.sandbox.client.local = false;
            f.runtime = adapter(&f.sandbox);
        }
        let network = f.ensure_network("alice", &subnet()).await.unwrap();
        let mut spec = f.spec();
        spec.networks = vec![attachment(&network, &[])];
        let id = f.running(spec.clone()).await;
        spec.name.push_str("_next");
        spec.networks = vec![attachment(&network, &["sink"])];
        spec.command = Some(words(&["sh", "-c", "while true; do nc -l -p 9 >/dev/null; done"]));
        f.running(spec).await;
        let ignore = vec![words(&["CMD-SHELL", "sleep 501"])];
        let sample = async || match done(ended(&f, TaskKey::Sample(id.clone()), Task::Sample { ignore: ignore.clone() }).await) {
            TaskResult::Sample { sent, execs } => (sent, execs),
            other => panic!("{other:?}"),
        };
        let (before, execs) = sample().await;
        assert_eq!(execs, []);
        let send = "until dd if=/dev/zero bs=1000 count=30 2>/dev/null | nc -w 5 sink. 9; do true; done";
        // The sink may hang up early; what is sent adds up.
        let sent = async || {
            done(ended(&f, hook(&id), exec(send, 20)).await);
            (sample().await.0 >= before + 30_000).then_some(())
        };
        until("the bytes sent", SOON, sent).await;

        let open = async |argv: &[&str]| f.sandbox.client.exec(&id.0, ExecOptions { argv: words(argv), stdin: true, terminal: None }).await.unwrap();
        let _ignored = open(&["/bin/sh", "-c", "sleep 501"]).await;
        let _counted = open(&["sleep", "502"]).await;
        let (_, execs) = sample().await;
        assert_eq!(execs.into_iter().map(|(_, argv)| argv).collect::<Vec<_>>(), [words(&["sleep", "502"])]);
    }
}

#[tokio::test]
async fn the_end_of_a_log_and_a_log_that_goes_on() {
    let f = Fixture::new().await;
    let mut spec = f.spec();
    spec.command = Some(words(&["sh", "-c", "seq 1 5; echo err >&2; sleep 600"]));
    let id = f.running(spec).await;
    let mut follow = f.sandbox.client.logs(&id.0, LogOptions { follow: true, tail: None });
    let mut text = String::new();
    while !(text.contains("5\n") && text.contains("err\n")) {
        let chunk = tokio::time::timeout(SOON, follow.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(chunk.stderr, &chunk.bytes[..] == b"err\n");
        text.push_str(std::str::from_utf8(&chunk.bytes).unwrap());
    }
    let result = done(ended(&f, TaskKey::Tail(id.clone()), Task::Tail { lines: 3, until: None }).await);
    let TaskResult::Tail(tail) = result else { panic!("{result:?}") };
    // Which of the two streams comes last is the engine's choice.
    assert!(tail.lines().count() == 3 && tail.contains("4\n"), "{tail}");
}

#[tokio::test]
async fn a_session_has_input_output_size_and_code() {
    let f = Fixture::new().await;
    let id = f.running(f.spec()).await;
    let mut session = f.sandbox.client.exec(&id.0, ExecOptions { argv: words(&["sh", "-c", "cat; exit 7"]), stdin: true, terminal: None }).await.unwrap();
    session.input.write_all(b"hello").await.unwrap();
    session.input.shutdown().await.unwrap();
    let mut output = Vec::new();
    while let Some(chunk) = session.output.next().await {
        output.extend_from_slice(&chunk.unwrap().bytes);
    }
    assert_eq!((output.as_slice(), session.control.exit_code().await), (&b"hello"[..], Ok(7)));

    let mut session = f.sandbox.client.exec(&id.0, ExecOptions { argv: words(&["sh"]), stdin: true, terminal: Some((24, 80)) }).await.unwrap();
    session.control.resize(45, 123).await.unwrap();
    session.input.write_all(b"stty size; exit 5\n").await.unwrap();
    let mut output = Vec::new();
    while let Some(chunk) = session.output.next().await {
        output.extend_from_slice(&chunk.unwrap().bytes);
    }
    assert!(String::from_utf8_lossy(&output).contains("45 123"), "{}", String::from_utf8_lossy(&output));
    assert_eq!(session.control.exit_code().await, Ok(5));
}

#[tokio::test]
async fn a_pull_uses_the_usual_logins_and_counts_its_failures() {
    let mut f = Fixture::new().await;
    let registry = Registry::new(&f.sandbox.installation).await;
    let reference = format!("{}/dev:1", registry.host);
    let pull = || (TaskKey::Pull(reference.clone()), Task::Pull { reference: reference.clone() });
    let folder = tempfile::tempdir().unwrap();
    f.sandbox.client.config = Some(folder.path().to_owned());
    f.runtime = adapter(&f.sandbox);
    for round in 1..=2 {
        let (key, task) = pull();
        let state = ended(&f, key, task).await;
        assert!(matches!(state, TaskState::Failed { attempts, .. } if attempts == round), "{state:?}");
    }
    assert!(registry.has_refused());
    use base64::Engine;
    let auth = base64::engine::general_purpose::STANDARD.encode(ACCOUNT);
    let config = serde_json::json!({"auths": {&registry.host: {"auth": auth}}});
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let (key, task) = pull();
    assert_eq!(done(ended(&f, key.clone(), task).await), TaskResult::Done);
    let world = f.world().await;
    let id = world.image(&reference).expect("the image");
    // By its digest too, with a tag beside it or without.
    let digested = world.images.iter().find(|(name, image)| *image == id && name.contains("/dev@")).expect("a digest").0.clone();
    assert_eq!(world.image(&digested), Some(id));
    assert_eq!(world.image(&digested.replace("/dev@", "/dev:1@")), Some(id));
    f.docker().remove_image(&reference, None::<RemoveImageOptions>, None).await.unwrap();

    let absent = format!("{}/dev:2", registry.host);
    let state = ended(&f, TaskKey::Pull(absent.clone()), Task::Pull { reference: absent }).await;
    assert!(matches!(state, TaskState::Failed { attempts: 1, ref error, .. } if error.contains("manifest")), "{state:?}");
}

#[tokio::test]
async fn the_disk_of_volumes_and_the_memory_of_a_container() {
    for remote in [false, true] {
        let mut f = Fixture::new().await;
        if remote {
            f.sandbox.client.local = false;
            f.runtime = adapter(&f.sandbox);
        }
        let volume = f.volume_name();
        f.execute(Operation::EnsureVolume { name: volume.clone(), labels: f.volume_labels(&f.uid) }).await.unwrap();
        let mut spec = f.spec();
        spec.mounts = vec![MountWant { source: MountSource::Volume(volume.clone()), path: "/data".into(), read_only: false }];
        let id = f.running(spec).await;
        let measure = async || done(ended(&f, TaskKey::Disk(id.clone()), Task::Disk { volumes: vec![volume.clone()] }).await);
        let TaskResult::Disk(before) = measure().await else { panic!("no disk") };
        done(
            ended(
                &f,
                hook(&id),
                exec("dd if=/dev/zero of=/data/x bs=1M count=3 2>/dev/null; dd if=/dev/zero of=/dev/shm/x bs=1M count=8 2>/dev/null; sync", 30),
            )
            .await,
        );
        let TaskResult::Disk(after) = measure().await else { panic!("no disk") };
        assert!((3 << 20..4 << 20).contains(&(after - before)), "remote: {remote}: {before} {after}");
        let TaskResult::Memory(used) = done(ended(&f, TaskKey::Memory(id.clone()), Task::Memory).await) else { panic!("no memory") };
        assert!((8 << 20..200 << 20).contains(&used), "{used}");
    }
}
