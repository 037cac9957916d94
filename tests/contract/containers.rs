//! Containers: what a creation says to the engine, and every operation on what exists.

use std::collections::{BTreeMap, HashMap};
use std::net::TcpListener;

use dockmaster::desired::{HealthWant, Limits, MountSource, PortBinding};
use dockmaster::observed::{ContainerId, HealthState, State};
use dockmaster::planner::{Operation, Target};
use dockmaster::resource::workspace::{Protocol, RestartPolicy};
use dockmaster::resource::{Bytes, Cpu, Uid, quantity};
use dockmaster::runtime::console::ExecOptions;
use dockmaster::runtime::{ContainerRuntime, Outcome, Refusal};

use crate::fixture::{Fixture, SOON, adapter, attachment, is_transient, mount, refusal, subnet, words};
use crate::support::{self, until};

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn published(host: u16) -> PortBinding {
    PortBinding { name: "http".into(), container: 8080, host, ip: "127.0.0.1".into(), protocol: Protocol::Tcp }
}

fn health(test: &[&str]) -> HealthWant {
    HealthWant {
        test: words(test),
        interval: quantity::Duration::from_secs(1),
        timeout: quantity::Duration::from_secs(1),
        retries: 1,
        start_period: None,
        start_interval: quantity::Duration::from_secs(2),
    }
}

#[tokio::test]
async fn a_creation_says_all_of_the_spec_and_nothing_more() {
    let f = Fixture::new().await;
    f.ensure_volume().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut spec = f.spec();
    spec.env = BTreeMap::from([("A".into(), "b=c".into())]);
    spec.user = Some("65534:65534".into());
    spec.working_dir = Some("/tmp".into());
    spec.ports = vec![published(port)];
    spec.networks = vec![attachment(&f.ensure_network("alice", &subnet()).await.unwrap(), &["shop", "shop.alice"])];
    spec.mounts = vec![
        mount(MountSource::Volume(f.volume_name()), "/cache"),
        mount(MountSource::Tmpfs { size: Bytes(1 << 20), owner: Some((65534, 65534)) }, "/own"),
        mount(MountSource::Tmpfs { size: Bytes(1 << 20), owner: None }, "/all"),
    ];
    spec.mounts.push(dockmaster::desired::MountWant { read_only: true, ..mount(MountSource::Host(folder.path().display().to_string()), "/host") });
    spec.health = Some(health(&["CMD", "true"]));
    spec.stop_signal = Some("SIGINT".into());
    spec.security.read_only_root = true;
    spec.limits.cpu = Some(Cpu(500_000_000));
    let id = f.running(spec.clone()).await;

    let inspect = f.inspect(&id.0).await;
    let (host, config) = (inspect.host_config.unwrap(), inspect.config.unwrap());
    assert_eq!((host.memory, host.memory_swap), (Some(64 << 20), Some(64 << 20)));
    assert_eq!((host.nano_cpus, host.pids_limit, host.init), (Some(500_000_000), Some(64), Some(true)));
    assert_eq!(host.cap_drop, Some(words(&["NET_RAW"])));
    assert_eq!(host.security_opt, Some(words(&["no-new-privileges"])));
    assert_eq!((host.readonly_rootfs, host.privileged), (Some(true), Some(false)));
    let log = host.log_config.unwrap();
    assert_eq!(log.typ.as_deref(), Some("json-file"));
    assert_eq!(log.config.unwrap(), HashMap::from([("max-size".into(), "10m".into()), ("max-file".into(), "3".into())]));
    assert!(host.binds.unwrap_or_default().is_empty());
    assert_eq!((config.hostname.as_deref(), config.stop_signal.as_deref()), (Some("shop"), Some("SIGINT")));
    assert_eq!(config.labels.unwrap().into_iter().collect::<BTreeMap<_, _>>(), spec.labels);
    let health = config.healthcheck.unwrap();
    assert_eq!(health.interval, Some(1_000_000_000));
    assert_eq!(health.start_interval.unwrap_or_default() > 0, f.sandbox.client.api >= (1, 44));

    let seen = f.container(&id).await;
    assert!(seen.ports.contains(&("127.0.0.1".into(), port, 8080, Protocol::Tcp)), "{:?}", seen.ports);
    let details = seen.details.unwrap();
    assert!(details.env.contains(&"A=b=c".to_owned()) && details.command == words(&["sleep", "600"]));
    assert_eq!(details.aliases[&f.network_name()], words(&["shop", "shop.alice"]));
    assert!(details.volumes.contains(&f.volume_name()) && details.anonymous_volumes.is_empty());
    assert!(details.pid > 0 && details.started.is_some() && details.finished.is_none());

    let script = "touch /own/x /all/x && ! touch /host/x 2>/dev/null && ! touch /x 2>/dev/null && test $(id -u) = 65534 && test $PWD = /tmp && stat -c %a /own && df -k /own | tail -1";
    let (code, output) = run(&f, &id, script).await;
    assert!(code == 0 && output.starts_with("700") && output.contains("1024"), "{code} {output}");
}

/// Runs a script in a container.
async fn run(f: &Fixture, id: &ContainerId, script: &str) -> (i64, String) {
    use futures::StreamExt;
    let mut session = f.sandbox.client.exec(&id.0, ExecOptions { argv: words(&["sh", "-c", script]), ..ExecOptions::default() }).await.unwrap();
    let mut output = Vec::new();
    while let Some(chunk) = session.output.next().await {
        output.extend_from_slice(&chunk.unwrap().bytes);
    }
    (session.control.exit_code().await.unwrap(), String::from_utf8(output).unwrap())
}

#[tokio::test]
async fn without_networks_there_is_none_and_never_the_default_bridge() {
    let f = Fixture::new().await;
    let id = f.running(f.spec()).await;
    assert_eq!(f.container(&id).await.networks.into_keys().collect::<Vec<_>>(), ["none"]);
    let mut spec = f.spec();
    spec.networks = vec![attachment("bridge", &[])];
    assert_eq!(refusal(f.try_create(spec).await), Refusal::Other);
}

#[tokio::test]
async fn all_networks_are_there_before_the_start_and_aliases_answer() {
    let f = Fixture::new().await;
    let first = f.ensure_network("alice", &subnet()).await.unwrap();
    let second = f.ensure_network("bob", &subnet()).await.unwrap();
    let mut spec = f.spec();
    spec.networks = vec![attachment(&first, &["one"]), attachment(&second, &["two"])];
    let id = f.create(spec).await;
    let world = f.world().await;
    let expected: BTreeMap<_, _> = [&first, &second].into_iter().map(|name| (name.clone(), world.networks.named(name).next().unwrap().id.clone())).collect();
    assert_eq!(world.containers[&id].networks, expected, "before the start");
    f.twice(Operation::Start(f.target(&id))).await;
    let seen = f.container(&id).await;
    assert_eq!(seen.networks, expected, "after the start");
    let aliases = seen.details.unwrap().aliases.clone();
    assert_eq!((&aliases[&first], &aliases[&second]), (&words(&["one"]), &words(&["two"])));
    let (code, output) = run(&f, &id, "nslookup one. && nslookup two.").await;
    assert_eq!(code, 0, "{output}");
}

#[tokio::test]
async fn a_creation_may_be_repeated_and_finishes_what_an_earlier_one_began() {
    let f = Fixture::new().await;
    let first = f.ensure_network("alice", &subnet()).await.unwrap();
    let second = f.ensure_network("bob", &subnet()).await.unwrap();
    let mut half = f.spec();
    half.networks = vec![attachment(&first, &["one"])];
    let id = f.create(half.clone()).await;
    let mut whole = half;
    whole.networks.push(attachment(&second, &["two"]));
    assert_eq!(f.create(whole.clone()).await, id);
    assert_eq!(f.create(whole.clone()).await, id);
    assert_eq!(f.container(&id).await.networks.into_keys().collect::<Vec<_>>(), [first, second]);

    let mut other = whole.clone();
    other.labels.insert("dockmaster.spec-hash".into(), "v1:bb".into());
    assert!(is_transient(&f.try_create(other).await), "an older container of ours under the name");
    let mut reborn = whole;
    reborn.labels.insert("dockmaster.uid".into(), uuid::Uuid::now_v7().to_string());
    assert!(is_transient(&f.try_create(reborn).await), "an earlier life under the name");
}

#[tokio::test]
async fn a_creation_that_cannot_be_finished_leaves_nothing_under_the_name() {
    let mut f = Fixture::new().await;
    let first = f.ensure_network("alice", &subnet()).await.unwrap();
    let second = f.ensure_network("bob", &subnet()).await.unwrap();
    // The engine refuses the second network: here because it is the host's.
    let docker = f.docker().clone().with_request_modifier(|mut request| {
        if request.uri().path().ends_with("/connect") {
            let refused = request.uri().to_string().replacen(request.uri().path(), "/networks/host/connect", 1);
            *request.uri_mut() = refused.parse().unwrap();
        }
        request
    });
    f.sandbox.client.docker = docker;
    f.runtime = adapter(&f.sandbox);
    let mut spec = f.spec();
    spec.networks = vec![attachment(&first, &[]), attachment(&second, &[])];
    assert_eq!(refusal(f.try_create(spec).await), Refusal::Other);
    assert!(f.world().await.container_named(&f.name()).is_none());
}

#[tokio::test]
async fn a_name_that_a_stranger_has_is_a_conflict() {
    let f = Fixture::new().await;
    let body = bollard::models::ContainerCreateBody { image: Some(f.sandbox.image.clone()), cmd: Some(words(&["true"])), ..Default::default() };
    let options = bollard::query_parameters::CreateContainerOptions { name: Some(f.name()), ..Default::default() };
    let stranger = f.docker().create_container(Some(options), body).await.unwrap().id;
    assert_eq!(refusal(f.try_create(f.spec()).await), Refusal::NameConflict);
    assert_eq!(f.inspect(&f.name()).await.id, Some(stranger.clone()));

    let mut next = f.spec();
    next.name = format!("{}_next", f.name());
    let id = f.create(next).await;
    assert_eq!(refusal(f.execute(Operation::Rename { target: f.target(&id), to: f.name() }).await), Refusal::NameConflict);
    let target = Target::Existing { id: ContainerId(stranger), uid: f.uid.clone(), name: f.name() };
    for operation in [
        Operation::Start(target.clone()),
        Operation::Stop { target: target.clone(), grace: quantity::Duration::from_secs(1) },
        Operation::Remove(target.clone()),
        Operation::Pause(target.clone()),
        Operation::Unpause(target.clone()),
        Operation::Rename { target: target.clone(), to: f.sandbox.foreign("x") },
        Operation::Update { target: target.clone(), limits: f.spec().limits },
        Operation::Connect { target: target.clone(), network: "x".into(), aliases: Vec::new() },
        Operation::Disconnect { target, network: "x".into() },
    ] {
        assert_eq!(refusal(f.execute(operation.clone()).await), Refusal::NotOurs, "{operation:?}");
    }
}

#[tokio::test]
async fn what_a_creation_needs_and_is_not_there_is_said_and_leaves_nothing() {
    let f = Fixture::new().await;
    let image_id = format!("sha256:{}", "0".repeat(64));
    let create = Operation::Create { spec: Box::new(f.spec()), name: f.name(), image_id };
    assert_eq!(refusal(f.execute(create).await), Refusal::NoImage);

    let mut spec = f.spec();
    spec.networks = vec![attachment(&f.sandbox.foreign("absent"), &[])];
    assert_eq!(refusal(f.try_create(spec).await), Refusal::NoNetwork);

    let mut spec = f.spec();
    spec.mounts = vec![mount(MountSource::Host("/nonexistent/folder".into()), "/data")];
    assert_eq!(refusal(f.try_create(spec).await), Refusal::Other);
    assert!(!std::path::Path::new("/nonexistent").exists(), "the engine made the folder");

    let mut spec = f.spec();
    spec.mounts = vec![mount(MountSource::Volume(f.volume_name()), "/cache")];
    assert!(is_transient(&f.try_create(spec).await));
    let world = f.world().await;
    assert!(!world.volumes.contains_key(&f.volume_name()), "the engine made the volume, without labels");
    assert!(world.container_named(&f.name()).is_none());
}

#[tokio::test]
async fn every_operation_may_be_repeated() {
    let f = Fixture::new().await;
    let network = f.ensure_network("alice", &subnet()).await.unwrap();
    let mut spec = f.spec();
    spec.networks = vec![attachment(&network, &["shop"])];
    let id = f.create(spec).await;
    let target = f.target(&id);
    let state = async || f.container(&id).await.state;

    assert_eq!(state().await, State::Created);
    f.twice(Operation::Start(target.clone())).await;
    assert_eq!(state().await, State::Running(HealthState::None));
    f.twice(Operation::Pause(target.clone())).await;
    assert_eq!(state().await, State::Paused);
    f.twice(Operation::Unpause(target.clone())).await;
    assert_eq!(state().await, State::Running(HealthState::None));

    let other = f.ensure_network("bob", &subnet()).await.unwrap();
    f.twice(Operation::Connect { target: target.clone(), network: other.clone(), aliases: words(&["late"]) }).await;
    let seen = f.container(&id).await;
    assert_eq!(seen.details.unwrap().aliases[&other], words(&["late"]));
    f.twice(Operation::Disconnect { target: target.clone(), network: seen.networks[&other].clone() }).await;
    assert!(!f.container(&id).await.networks.contains_key(&other));

    f.twice(Operation::Rename { target: target.clone(), to: format!("{}_next", f.name()) }).await;
    assert_eq!(f.container(&id).await.name, format!("{}_next", f.name()));

    f.twice(Operation::Stop { target: target.clone(), grace: quantity::Duration::from_secs(2) }).await;
    assert!(matches!(state().await, State::Exited { .. }));
    assert!(f.container(&id).await.details.unwrap().finished.is_some());
    f.twice(Operation::Remove(target.clone())).await;
    assert!(!f.world().await.containers.contains_key(&id));
    assert_eq!(refusal(f.execute(Operation::Start(target.clone())).await), Refusal::Going, "what is gone cannot be started");
    f.twice(Operation::Stop { target, grace: quantity::Duration::from_secs(1) }).await;
}

#[tokio::test]
async fn an_operation_on_what_another_node_made_finds_it_by_id() {
    let f = Fixture::new().await;
    let id = f.create(f.spec()).await;
    let start = Operation::Start(Target::Made { node: 0, name: f.name() });
    assert_eq!(f.runtime.execute(&start, Some(&id)).await, Ok(Outcome::Done));
    assert!(f.container(&id).await.is_active());
    assert_eq!(refusal(f.runtime.execute(&start, None).await), Refusal::Other);
}

#[tokio::test]
async fn another_life_of_the_object_is_not_touched() {
    let f = Fixture::new().await;
    let id = f.running(f.spec()).await;
    let target = Target::Existing { id: id.clone(), uid: Uid(uuid::Uuid::now_v7().to_string()), name: f.name() };
    assert_eq!(refusal(f.execute(Operation::Remove(target)).await), Refusal::NotOurs);
    assert!(f.container(&id).await.is_active());
}

#[tokio::test]
async fn limits_change_in_place_and_are_verified() {
    let f = Fixture::new().await;
    let id = f.running(f.spec()).await;
    let limits = Limits { memory: Some(Bytes(96 << 20)), cpu: Some(Cpu(250_000_000)), pids: 100, restart: RestartPolicy::UnlessStopped };
    f.twice(Operation::Update { target: f.target(&id), limits }).await;
    let details = f.container(&id).await.details.unwrap();
    assert_eq!((details.memory, details.memory_swap, details.nano_cpus, details.pids), (96 << 20, 96 << 20, 250_000_000, 100));
    assert_eq!(details.restart, "unless-stopped");

    let too_many = Limits { cpu: Some(Cpu(4_000_000_000_000)), ..f.spec().limits };
    assert_eq!(refusal(f.execute(Operation::Update { target: f.target(&id), limits: too_many }).await), Refusal::Other);
}

#[tokio::test]
async fn a_taken_port_is_told_from_other_failures_and_the_start_may_be_tried_again() {
    let f = Fixture::new().await;
    let network = f.ensure_network("alice", &subnet()).await.unwrap();
    let holder = support::PortHolder::new();
    let mut spec = f.spec();
    spec.networks = vec![attachment(&network, &[])];
    spec.ports = vec![published(holder.port)];
    let id = f.create(spec.clone()).await;
    let start = Operation::Start(f.target(&id));
    assert_eq!(refusal(f.execute(start.clone()).await), Refusal::PortTaken, "by another program");
    drop(holder);
    f.execute(start).await.unwrap();

    spec.name.push_str("_next");
    let rival = f.create(spec).await;
    assert_eq!(refusal(f.execute(Operation::Start(f.target(&rival))).await), Refusal::PortTaken, "by another container");
}

#[tokio::test]
async fn a_network_that_was_made_anew_under_a_stopped_container_is_said() {
    let f = Fixture::new().await;
    let (network, range) = (f.network_name(), subnet());
    f.ensure_network("alice", &range).await.unwrap();
    let mut spec = f.spec();
    spec.networks = vec![attachment(&network, &[])];
    let id = f.running(spec.clone()).await;
    f.execute(Operation::Stop { target: f.target(&id), grace: quantity::Duration::from_secs(1) }).await.unwrap();
    spec.name.push_str("_next");
    let never_started = f.create(spec).await;
    f.docker().remove_network(&network).await.unwrap();
    f.ensure_network("alice", &range).await.unwrap();
    let world = f.world().await;
    let now = world.networks.named(&network).next().unwrap();
    for id in [&id, &never_started] {
        assert_ne!(world.containers[id].networks.get(&network), Some(&now.id));
    }
    assert_eq!(refusal(f.execute(Operation::Start(f.target(&id))).await), Refusal::NoNetwork);
    // Docker 20.10 looks the network of a container that never started up by its name.
    if f.sandbox.client.api >= (1, 44) {
        assert_eq!(refusal(f.execute(Operation::Start(f.target(&never_started))).await), Refusal::NoNetwork);
    }
}

#[tokio::test]
async fn health_is_read_from_the_list() {
    let f = Fixture::new().await;
    for (test, expect) in [(&["CMD-SHELL", "true"][..], HealthState::Healthy), (&["CMD", "false"], HealthState::Unhealthy), (&["NONE"], HealthState::None)] {
        let mut spec = f.spec();
        spec.health = Some(health(test));
        let id = f.running(spec).await;
        let reached = async || f.container(&id).await.state == State::Running(expect);
        until("the health", SOON, async || reached().await.then_some(())).await;
        f.execute(Operation::Remove(f.target(&id))).await.unwrap();
    }
    let mut spec = f.spec();
    spec.health = Some(HealthWant { interval: quantity::Duration::from_secs(60), ..health(&["CMD", "true"]) });
    let id = f.running(spec).await;
    assert_eq!(f.container(&id).await.state, State::Running(HealthState::Starting));
}

#[tokio::test]
async fn exits_and_kills_are_seen() {
    let f = Fixture::new().await;
    let mut spec = f.spec();
    spec.command = Some(words(&["sh", "-c", "exit 3"]));
    let id = f.running(spec).await;
    let exited = async || (f.container(&id).await.state == State::Exited { code: 3 }).then_some(());
    until("the exit", SOON, exited).await;
    assert_eq!(f.container(&id).await.details.unwrap().exit_code, 3);
    f.execute(Operation::Remove(f.target(&id))).await.unwrap();

    let mut spec = f.spec();
    spec.command = Some(words(&["sh", "-c", "exit 1"]));
    spec.limits.restart = RestartPolicy::UnlessStopped;
    let id = f.running(spec).await;
    let restarted = async || f.container(&id).await.details.filter(|details| details.restarts > 0).map(drop);
    until("a restart by the engine", SOON, restarted).await;
    f.twice(Operation::Stop { target: f.target(&id), grace: quantity::Duration::from_secs(1) }).await;
    assert!(!f.container(&id).await.is_active());
}

#[tokio::test]
async fn anonymous_volumes_are_seen_and_go_with_their_container() {
    let f = Fixture::new().await;
    let reference = format!("{}:1", f.sandbox.foreign("declares"));
    let image_id = support::import(&f.sandbox.client, &reference, &["VOLUME /data"]).await;
    let create = Operation::Create { spec: Box::new(f.spec()), name: f.name(), image_id };
    let Outcome::Made(id) = f.execute(create).await.unwrap() else { panic!("not made") };
    let details = f.container(&id).await.details.unwrap();
    let (volume, path) = details.anonymous_volumes.first_key_value().expect("the image's volume");
    assert_eq!(path, "/data");
    f.execute(Operation::Remove(f.target(&id))).await.unwrap();
    assert!(!f.world().await.volumes.contains_key(volume));
    assert_eq!(support::image_id(&f.sandbox.client, &reference).await.is_some(), f.world().await.image(&reference).is_some());
}
