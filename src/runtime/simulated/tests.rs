//! The engine through the real adapter, over pipes and on paused time: what callers of this module rely on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfig, RestartPolicy, RestartPolicyNameEnum};
use bollard::query_parameters::{CreateContainerOptions, EventsOptions, InspectContainerOptions, ListContainersOptions, StopContainerOptions};
use futures::StreamExt;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;

use super::events::Event;
use super::fault::{Call, Delivery, EventTap, Interceptor, Verdict};
use super::state::{Behaviour, Remote, Status};
use super::{Options, SimulatedEngine, Version};
use crate::observed::{ContainerId, TaskResult};
use crate::runtime::docker::connect::{Client, connect_over};
use crate::runtime::docker::helper_image::HelperImage;
use crate::runtime::docker::lock::{Holder, Lock};
use crate::runtime::docker::{DockerRuntime, command};
use crate::runtime::{Change, ContainerRuntime};

const BOTH: [Version; 2] = [Version::V20_10, Version::V28_5];

fn engine(version: Version) -> SimulatedEngine {
    let begun = tokio::time::Instant::now();
    let epoch: jiff::Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
    let clock = Arc::new(move || epoch + jiff::SignedDuration::try_from(begun.elapsed()).unwrap());
    let engine = SimulatedEngine::new(Options { clock, seed: 7, ..Options::new(version) });
    engine.human().add_image("busybox:1", &Remote::default());
    engine
}

async fn client(engine: &SimulatedEngine) -> Client {
    let engine = engine.clone();
    connect_over("simulated", move || engine.connect()).await.unwrap()
}

fn body(command: &[&str]) -> ContainerCreateBody {
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    ContainerCreateBody { image: Some("busybox:1".into()), cmd: Some(command), ..Default::default() }
}

async fn create(client: &Client, name: &str, body: ContainerCreateBody) -> Result<String, bollard::errors::Error> {
    let options = CreateContainerOptions { name: Some(name.to_owned()), ..Default::default() };
    Ok(client.docker.create_container(Some(options), body).await?.id)
}

async fn running(client: &Client, name: &str, command: &[&str]) -> String {
    let id = create(client, name, body(command)).await.unwrap();
    client.docker.start_container(&id, None).await.unwrap();
    id
}

/// A request over a connection of its own, and the reply whole.
async fn raw(engine: &SimulatedEngine, method: &str, path: &str, body: &str) -> String {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(engine.connect().unwrap())).await.unwrap();
    tokio::spawn(connection);
    let request = hyper::Request::builder().method(method).uri(path).header("host", "x").body(Full::new(bytes::Bytes::from(body.to_owned()))).unwrap();
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    format!("{:?} {:?} {:?}", head.status, head.headers, body.collect().await.unwrap().to_bytes())
}

#[tokio::test(start_paused = true)]
async fn one_seed_and_the_same_requests_give_the_same_replies() {
    for version in BOTH {
        let mut runs = Vec::new();
        for _ in 0..2 {
            let engine = engine(version);
            let mut replies = Vec::new();
            for (method, path, body) in [
                ("GET", "/info", ""),
                ("POST", "/networks/create", r#"{"Name": "n"}"#),
                ("POST", "/volumes/create", r#"{"Name": "data"}"#),
                ("POST", "/containers/create?name=aa", r#"{"Image": "busybox:1", "Cmd": ["sleep", "5"], "HostConfig": {"NetworkMode": "n"}}"#),
                ("POST", "/containers/aa/start", ""),
                ("POST", "/containers/aa/wait", ""),
                ("GET", "/containers/aa/json", ""),
                ("GET", "/containers/json?all=1", ""),
                ("GET", "/networks", ""),
                ("GET", "/events?since=1&until=1767323100", ""),
                ("DELETE", "/containers/aa", ""),
            ] {
                replies.push(raw(&engine, method, path, body).await);
            }
            runs.push(replies);
        }
        assert_eq!(runs[0], runs[1]);
        assert!(runs[0][6].contains("exited") && !runs[0][9].contains("destroy"), "{:#?}", runs[0]);
    }
}

struct Once(Mutex<Option<(&'static str, Verdict)>>);

impl Interceptor for Once {
    fn before(&self, call: &Call) -> Verdict {
        let mut planned = self.0.lock().unwrap();
        match planned.take() {
            Some((endpoint, verdict)) if call.endpoint == endpoint => verdict,
            other => {
                *planned = other;
                Verdict::Pass
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn faults_make_of_a_call_what_they_say() {
    let engine = engine(Version::V28_5);
    let client = client(&engine).await;
    let plan = |verdict| engine.intercept(Some(Arc::new(Once(Mutex::new(Some(("POST /containers/create", verdict)))))));
    let made = |name: &str| engine.state().names.contains_key(name);

    plan(Verdict::Error { status: 500, message: "boom".into() });
    let refused = create(&client, "error", body(&["true"])).await.unwrap_err();
    assert!(refused.to_string().contains("boom") && !made("error"), "{refused}");

    for (verdict, name, applied) in
        [(Verdict::Reset { applied: true }, "reset-after", true), (Verdict::Reset { applied: false }, "reset-before", false), (Verdict::Truncate, "cut", true)]
    {
        plan(verdict);
        assert!(create(&client, name, body(&["true"])).await.is_err(), "{name}");
        assert_eq!(made(name), applied, "{name}");
    }
    for (verdict, name, applied) in [(Verdict::Silence { applied: true }, "silent-after", true), (Verdict::Silence { applied: false }, "silent-before", false)]
    {
        plan(verdict);
        let begun = tokio::time::Instant::now();
        assert!(tokio::time::timeout(Duration::from_secs(30), create(&client, name, body(&["true"]))).await.is_err(), "{name}");
        assert_eq!((made(name), begun.elapsed().as_secs()), (applied, 30), "{name}");
    }
    let past = engine.snapshot();
    create(&client, "later", body(&["true"])).await.unwrap();
    let list = async || client.docker.list_containers(Some(ListContainersOptions { all: true, ..Default::default() })).await.unwrap().len();
    engine.intercept(Some(Arc::new(Once(Mutex::new(Some(("GET /containers/json", Verdict::Stale(past))))))));
    let (then, now) = (list().await, list().await);
    assert_eq!(then + 1, now);
}

struct Tap;

impl EventTap for Tap {
    fn on(&self, event: &Event) -> Delivery {
        match event.action.as_str() {
            "create" => Delivery::Drop,
            "start" => Delivery::Hold,
            "pause" => Delivery::Twice,
            _ => Delivery::Pass,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn events_are_lost_held_back_and_doubled() {
    let engine = engine(Version::V28_5);
    let client = client(&engine).await;
    engine.tap_events(Some(Arc::new(Tap)));
    let filters = Some([("type".to_owned(), vec!["container".to_owned()])].into());
    let mut events = client.docker.events(Some(EventsOptions { since: Some("1".into()), filters, ..Default::default() })).boxed();
    running(&client, "aa", &["sleep", "600"]).await;
    client.docker.pause_container("aa").await.unwrap();
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(events.next().await.unwrap().unwrap().action.unwrap());
    }
    assert_eq!(told, ["pause", "pause", "start"]);
}

#[tokio::test(start_paused = true)]
async fn time_passes_as_it_is_waited_for() {
    for version in BOTH {
        let engine = engine(version);
        let client = client(&engine).await;
        let inspect = async |id: &str| client.docker.inspect_container(id, None::<InspectContainerOptions>).await.unwrap().state.unwrap();
        let begun = tokio::time::Instant::now();
        // As the first process it does not hear, so the grace is waited for.
        let id = running(&client, "deaf", &["sleep", "600"]).await;
        client.docker.stop_container(&id, None::<StopContainerOptions>).await.unwrap();
        assert_eq!((begun.elapsed().as_secs(), inspect(&id).await.exit_code), (10, Some(137)));
        let handled = running(&client, "handled", &["sh", "-c", "trap 'exit 7' TERM; while true; do sleep 0.1; done"]).await;
        client.docker.stop_container(&handled, None::<StopContainerOptions>).await.unwrap();
        assert!(begun.elapsed().as_secs() < 12);
        assert_eq!(inspect(&handled).await.exit_code, Some(7));

        let policy = RestartPolicy { name: Some(RestartPolicyNameEnum::ALWAYS), maximum_retry_count: None };
        let host = HostConfig { restart_policy: Some(policy), ..Default::default() };
        let crashing = create(&client, "crashing", ContainerCreateBody { host_config: Some(host), ..body(&["false"]) }).await.unwrap();
        client.docker.start_container(&crashing, None).await.unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
        // After 0.1, 0.2, 0.4 s and so on.
        assert_eq!(engine.state().containers[&crashing].restarts, 7);
    }
}

#[tokio::test(start_paused = true)]
async fn behaviour_can_be_told() {
    let engine = engine(Version::V28_5);
    let client = client(&engine).await;
    let told = Behaviour { exits: Some((Duration::from_secs(3), 4)), ..Behaviour::default() };
    engine.state().behaviours.insert("told".to_owned(), told);
    let id = running(&client, "told", &["serve"]).await;
    let labelled = ContainerCreateBody { labels: Some([("simulated.oom".to_owned(), "2".to_owned())].into()), ..body(&["serve"]) };
    let other = create(&client, "labelled", labelled).await.unwrap();
    client.docker.start_container(&other, None).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(engine.state().containers.values().all(|container| container.status == Status::Running));
    tokio::time::sleep(Duration::from_secs(3)).await;
    let state = engine.state();
    assert_eq!((state.containers[&id].exit_code, state.containers[&other].oom_killed), (4, true));
}

/// Counts the calls of an endpoint.
struct Count(&'static str, AtomicUsize);

impl Interceptor for Count {
    fn before(&self, call: &Call) -> Verdict {
        self.1.fetch_add(usize::from(call.endpoint == self.0), Ordering::SeqCst);
        Verdict::Pass
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_asked_all_the_time_is_not_asked_whether_it_is_there() {
    let engine = engine(Version::V28_5);
    let runtime = DockerRuntime::new(client(&engine).await, "dm", HelperImage::given("helper:1".to_owned()));
    let pings = Arc::new(Count("GET /_ping", AtomicUsize::new(0)));
    engine.intercept(Some(pings.clone()));
    let mut changes = runtime.changes();
    assert_eq!(changes.next().await, Some(Change::Resync));
    for _ in 0..9 {
        tokio::time::sleep(Duration::from_secs(20)).await;
        runtime.observe().await.unwrap();
    }
    assert_eq!(pings.1.load(Ordering::SeqCst), 0);
    tokio::time::sleep(Duration::from_secs(95)).await;
    assert_eq!(pings.1.load(Ordering::SeqCst), 3);
}

fn holder(pid: u32) -> Holder {
    Holder { host: "h".into(), pid, started: "now".into(), state_dir: "/s".into() }
}

#[tokio::test(start_paused = true)]
async fn the_lock_is_held_by_an_open_connection() {
    for version in BOTH {
        let engine = engine(version);
        let client = client(&engine).await;
        let entrypoint = serde_json::json!({"Entrypoint": ["/dockmaster", "helper"]});
        engine.human().add_image("helper:1", &Remote { config: entrypoint.as_object().unwrap().clone(), ..Remote::default() });
        let helper = HelperImage::given("helper:1".to_owned());
        let lock = Lock::acquire(&client, "dm", &helper, &holder(1), |_| panic!("nobody holds it")).await.unwrap();
        assert_eq!(Lock::holder(&client, "dm").await.unwrap(), Some(holder(1)));
        let waiting = tokio::spawn({
            let (client, helper) = (client.clone(), helper.clone());
            async move { Lock::acquire(&client, "dm", &helper, &holder(2), |_| ()).await.unwrap() }
        });
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert!(!waiting.is_finished());
        drop(lock);
        let second = tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap();
        engine.human().remove("dm-lock", true);
        tokio::time::timeout(Duration::from_secs(1), second.lost()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_goes_down_comes_back_with_what_its_policies_say() {
    let engine = engine(Version::V28_5);
    let client = client(&engine).await;
    for (name, policy) in [("always", RestartPolicyNameEnum::ALWAYS), ("unless", RestartPolicyNameEnum::UNLESS_STOPPED), ("no", RestartPolicyNameEnum::NO)] {
        for stopped in [false, true] {
            let policy = RestartPolicy { name: Some(policy), maximum_retry_count: None };
            let host = HostConfig { restart_policy: Some(policy), init: Some(true), ..Default::default() };
            let id = create(&client, &format!("{name}-{stopped}"), ContainerCreateBody { host_config: Some(host), ..body(&["sleep", "600"]) }).await.unwrap();
            client.docker.start_container(&id, None).await.unwrap();
            if stopped {
                client.docker.stop_container(&id, None::<StopContainerOptions>).await.unwrap();
            }
        }
    }
    let mut events = client.docker.events(None::<EventsOptions>).boxed();
    engine.human().down(true);
    assert!(client.docker.ping().await.is_err());
    while let Some(Ok(_)) = events.next().await {}
    engine.human().up();
    client.docker.ping().await.unwrap();
    let running: Vec<String> = engine.state().containers.values().filter(|container| container.is_running()).map(|container| container.name.clone()).collect();
    let running: std::collections::BTreeSet<String> = running.into_iter().collect();
    assert_eq!(running.into_iter().collect::<Vec<_>>(), ["always-false", "always-true", "unless-false"]);
}

/// Found by the harness: `change-hooks` with a lost reply, after which a hook that had run counted as failed.
#[tokio::test(start_paused = true)]
async fn a_command_runs_once_whatever_becomes_of_its_calls() {
    for version in BOTH {
        let engine = engine(version);
        let client = client(&engine).await;
        let id = ContainerId(running(&client, "aa", &["sleep", "1000000"]).await);
        let run = async |script: &str| {
            let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
            command::run(&client, &id, argv, Duration::from_secs(600)).await
        };
        let unavailable = || Verdict::Error { status: 503, message: "starting".into() };
        let (create, start, inspect) = ("POST /containers/{id}/exec", "POST /exec/{id}/start", "GET /exec/{id}/json");
        let faults = [
            (create, Verdict::Reset { applied: true }),
            (create, unavailable()),
            (start, Verdict::Reset { applied: true }),
            (start, Verdict::Reset { applied: false }),
            (start, Verdict::Silence { applied: true }),
            (start, unavailable()),
            (inspect, Verdict::Truncate),
            (inspect, unavailable()),
            (inspect, Verdict::Error { status: 500, message: "something failed".into() }),
        ];
        let count = faults.len();
        for (number, (endpoint, verdict)) in faults.into_iter().enumerate() {
            engine.intercept(Some(Arc::new(Once(Mutex::new(Some((endpoint, verdict)))))));
            let ended = run(&format!("echo {number} >> /log; exit 3")).await.unwrap();
            assert!(matches!(ended, TaskResult::Exit { code: 3, .. }), "{number}: {ended:?}");
        }
        let TaskResult::Exit { output, .. } = run("cat /log").await.unwrap() else { panic!("no exit") };
        assert_eq!(output.lines().map(|line| line.parse::<usize>().unwrap()).collect::<Vec<_>>(), (0..count).collect::<Vec<_>>());
    }
}
