//! The image: made from nothing, found again, and every verb of its program run in it.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use bollard::models::{ContainerCreateBody, HealthConfig, HealthStatusEnum, HostConfig};
use bollard::query_parameters::*;
use dockmaster::runtime::docker::connect::Client;
use dockmaster::runtime::docker::helper_image::{HelperImage, LABEL};
use futures::StreamExt;

use crate::support::client as engine;
use crate::{executable, helper, unique};

/// A container that goes with the test.
struct Container {
    client: Client,
    id: String,
}

impl Container {
    async fn start(client: &Client, image: &str, command: &[&str], binds: &[(&Path, &str)], health: Option<&[&str]>) -> Self {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            cmd: Some(words(command)),
            healthcheck: health.map(|test| HealthConfig { test: Some(words(test)), interval: Some(200_000_000), ..HealthConfig::default() }),
            host_config: Some(HostConfig {
                binds: Some(binds.iter().map(|(host, path)| format!("{}:{path}", host.display())).collect()),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptionsBuilder::default().name(&unique()).build();
        let id = client.docker.create_container(Some(options), body).await.unwrap().id;
        client.docker.start_container(&id, None::<StartContainerOptions>).await.unwrap();
        Self { client: client.clone(), id }
    }

    async fn exit_code(&self) -> i64 {
        let mut ended = self.client.docker.wait_container(&self.id, None::<WaitContainerOptions>).boxed();
        match ended.next().await.unwrap() {
            Ok(ended) => ended.status_code,
            Err(bollard::errors::Error::DockerContainerWaitError { code, .. }) => code,
            Err(error) => panic!("{error}"),
        }
    }

    async fn output(&self) -> String {
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).build();
        self.client.docker.logs(&self.id, Some(options)).map(|line| line.unwrap().to_string()).collect::<Vec<_>>().await.concat()
    }

    async fn exec(&self, command: &[&str]) -> i64 {
        let config = bollard::models::ExecConfig { cmd: Some(command.iter().map(|word| (*word).to_owned()).collect()), ..Default::default() };
        let exec = self.client.docker.create_exec(&self.id, config).await.unwrap().id;
        self.client.docker.start_exec(&exec, Some(bollard::exec::StartExecOptions { detach: true, ..Default::default() })).await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(code) = self.client.docker.inspect_exec(&exec).await.unwrap().exit_code {
                return code;
            }
            assert!(Instant::now() < deadline, "{command:?} goes on");
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let (client, id) = (self.client.clone(), self.id.clone());
        let remove = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
            let _ = runtime.block_on(client.docker.remove_container(&id, Some(options)));
        });
        let _ = remove.join();
    }
}

#[tokio::test]
async fn it_serves_a_directory_says_that_it_is_well_and_stops_at_once() {
    let client = engine().await;
    let image = helper().ensure(&client).await.unwrap();
    let site = tempfile::tempdir().unwrap();
    fs::write(site.path().join("index.html"), "hello from the helper").unwrap();
    let command = ["static", "--root", "/workspace", "--port", "8080"];
    let probe = ["CMD", "/dockmaster", "helper", "probe", "http://127.0.0.1:8080/"];
    let container = Container::start(&client, &image, &command, &[(site.path(), "/workspace")], Some(&probe)).await;

    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let state = client.docker.inspect_container(&container.id, None::<InspectContainerOptions>).await.unwrap().state.unwrap();
        if state.health.and_then(|health| health.status) == Some(HealthStatusEnum::HEALTHY) {
            break;
        }
        assert!(Instant::now() < deadline && state.running == Some(true), "never healthy: {}", container.output().await);
    }
    assert_eq!(container.exec(&["/dockmaster", "helper", "probe", "tcp:localhost:8080"]).await, 0, "names are resolved in the image");
    assert_eq!(container.exec(&["/dockmaster", "helper", "probe", "http://127.0.0.1:8080/none"]).await, 1);
    assert_eq!(container.exec(&["/dockmaster", "helper", "probe", "tcp:127.0.0.1:81"]).await, 1);

    let begun = Instant::now();
    client.docker.stop_container(&container.id, Some(StopContainerOptionsBuilder::default().t(10).build())).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "it hears SIGTERM as process 1");
    assert_eq!(container.exit_code().await, 0);
    let output = container.output().await;
    assert!(output.contains("serving /workspace on 0.0.0.0:8080") && output.contains("GET / 200 "), "{output}");
}

#[tokio::test]
async fn it_copies_volumes_and_fails_aloud() {
    let client = engine().await;
    let image = helper().ensure(&client).await.unwrap();
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(from.path().join("folder")).unwrap();
    fs::write(from.path().join("folder/file"), "content").unwrap();
    let binds = [(from.path(), "/from"), (to.path(), "/to")];
    let copy = Container::start(&client, &image, &["copy", "/from", "/to"], &binds, None).await;
    assert_eq!(copy.exit_code().await, 0, "{}", copy.output().await);
    assert_eq!(fs::read_to_string(to.path().join("folder/file")).unwrap(), "content");
    assert!(copy.output().await.starts_with("copied 2 (7 bytes), unchanged 1, removed 0, failed 0"), "{}", copy.output().await);

    fs::remove_file(from.path().join("folder/file")).unwrap();
    let delta = Container::start(&client, &image, &["copy", "/from", "/to", "--delta"], &binds, None).await;
    assert_eq!(delta.exit_code().await, 0, "{}", delta.output().await);
    assert!(!to.path().join("folder/file").exists());

    let failing = Container::start(&client, &image, &["copy", "/from", "/to", "/missing", "/to/below"], &binds, None).await;
    assert_eq!(failing.exit_code().await, 1);
    assert!(failing.output().await.contains("/missing: "), "{}", failing.output().await);
    let wrong = Container::start(&client, &image, &["sh"], &[], None).await;
    assert_eq!(wrong.exit_code().await, 2, "there is no shell, and no other program");
}

#[tokio::test]
async fn it_is_found_again_and_made_again_when_it_was_pruned() {
    let client = engine().await;
    // Another build, so that no other test misses it.
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::copy(executable(), file.path()).unwrap();
    fs::OpenOptions::new().append(true).open(file.path()).unwrap().write_all(unique().as_bytes()).unwrap();
    let ensure = || async { HelperImage::from_executable(file.path().to_owned()).ensure(&client).await.unwrap() };
    let inspect = |id: String| async move { engine().await.docker.inspect_image(&id).await.unwrap() };

    let first = ensure().await;
    let made = inspect(first.clone()).await;
    let config = made.config.unwrap();
    assert_eq!(config.entrypoint.unwrap(), ["/dockmaster", "helper"]);
    assert_eq!(config.labels.unwrap()[LABEL].len(), 64);
    assert!(made.repo_tags.unwrap().iter().any(|tag| tag.starts_with("dockmaster/helper:")));
    assert_eq!(ensure().await, first, "it is not made twice");

    let force = || Some(RemoveImageOptionsBuilder::default().force(true).build());
    client.docker.remove_image(&first, force(), None).await.unwrap();
    let again = ensure().await;
    inspect(again.clone()).await;
    client.docker.remove_image(&again, force(), None).await.unwrap();

    // The tag for people went with it, and comes back.
    let version = format!("dockmaster/helper:{}", env!("CARGO_PKG_VERSION"));
    helper().ensure(&client).await.unwrap();
    assert!(inspect(version).await.id.is_some());
}

#[tokio::test]
async fn a_given_image_is_used_and_never_made() {
    let client = engine().await;
    let id = helper().ensure(&client).await.unwrap();
    assert_eq!(HelperImage::given(id.clone()).ensure(&client).await.unwrap(), id);
    let error = HelperImage::given("dockmaster/none:1".to_owned()).ensure(&client).await.unwrap_err().to_string();
    assert!(error.contains("dockmaster/none:1") && error.contains("--helper-image"), "{error}");
}
