//! The rights that dockmaster needs on an engine: every endpoint that it calls, and a call of each that does no harm.
//!
//! A proxy before the engine's socket, or an authorization plugin, may refuse some of them. Each probe names something that does not exist,
//! or asks for what cannot be, so the engine itself answers that it has no such thing; only a refusal means that the right is missing.

use std::pin::pin;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error as Failure;
use bollard::exec::StartExecOptions;
use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, ExecConfig, NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest, VolumeCreateRequest,
};
use bollard::query_parameters::{
    AttachContainerOptions, CreateContainerOptions, CreateImageOptionsBuilder, EventsOptionsBuilder, InspectContainerOptions, InspectNetworkOptions,
    ListContainersOptionsBuilder, ListImagesOptions, ListNetworksOptions, ListVolumesOptions, LogsOptionsBuilder, RemoveContainerOptions, RemoveImageOptions,
    RemoveVolumeOptions, RenameContainerOptionsBuilder, ResizeExecOptionsBuilder, StartContainerOptions, StatsOptionsBuilder, StopContainerOptions,
    TagImageOptionsBuilder, WaitContainerOptions,
};
use futures::future::BoxFuture;
use futures::{Stream, TryStreamExt};

use super::connect::Client;
use super::error::{classify, status};
use super::usage;

const CALL: Duration = Duration::from_secs(10);
/// The name of nothing.
const NOTHING: &str = "dockmaster-probe";
/// An image of nobody: the top-level domain `invalid` is kept free for ever.
const NO_IMAGE: &str = "dockmaster.invalid/probe:none";

/// Endpoints that not every operator calls, and when they are called.
const RARE: &[(&str, &str)] = &[
    ("GET /_ping", "where its events stay away for long"),
    ("GET /system/df", "where a soft disk limit is measured and the engine's directory cannot be read"),
    ("GET /containers/{id}/stats", "where the engine is on another host, or its /proc cannot be read, or where less memory is asked for"),
    ("POST /exec/{id}/resize", "for `dockmaster exec -t`"),
    ("POST /containers/{id}/wait", "where another operator holds the engine, or a replaced lock ends"),
    ("POST /networks/{id}/disconnect", "where a network was connected by hand, or an alias was lost"),
    ("POST /images/{name}/tag", "where the helper image is not on the engine yet"),
    ("DELETE /images/{name}", "where an older helper image is on the engine"),
];

/// An endpoint of the Engine API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// What it is needed for.
    pub group: &'static str,
    /// `POST`.
    pub method: &'static str,
    /// Without the version, with what names an object replaced: `/containers/{id}/start`.
    pub path: &'static str,
}

impl Endpoint {
    /// When it is called, where not every operator does.
    pub fn only(&self) -> Option<&'static str> {
        let name = self.to_string();
        RARE.iter().find(|(rare, _)| *rare == name).map(|(_, when)| *when)
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// Whether an endpoint may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Right {
    /// It was answered by the engine.
    Granted,
    /// It was refused, in these words.
    Denied(String),
    /// There was no answer.
    Unknown(String),
}

type Call<'a> = BoxFuture<'a, Result<(), Failure>>;

impl Client {
    /// Tries every endpoint that dockmaster calls, and changes nothing.
    pub async fn rights(&self) -> Vec<(Endpoint, Right)> {
        let mut rights = Vec::new();
        for (endpoint, call) in probes(&self.docker) {
            let right = match tokio::time::timeout(CALL, call).await {
                Ok(Ok(())) => Right::Granted,
                Ok(Err(error)) => match status(&error) {
                    Some(401 | 403 | 405 | 407) => Right::Denied(classify(error).to_string()),
                    Some(_) => Right::Granted,
                    None => Right::Unknown(classify(error).to_string()),
                },
                Err(_) => Right::Unknown(format!("no reply within {} s", CALL.as_secs())),
            };
            rights.push((endpoint, right));
        }
        rights
    }
}

/// Every endpoint with its harmless call, by group.
fn probes<'a>(docker: &'a Docker) -> Vec<(Endpoint, Call<'a>)> {
    let mut all = Vec::new();
    let mut group = |name, calls: Vec<(&'static str, &'static str, Call<'a>)>| {
        all.extend(calls.into_iter().map(|(method, path, call)| (Endpoint { group: name, method, path }, call)));
    };
    group(
        "What the engine is, and what happens on it",
        vec![
            ("GET", "/_ping", one(docker.ping())),
            ("GET", "/version", one(docker.version())),
            ("GET", "/info", one(docker.info())),
            // Of nothing: newer engines refuse that without a look at the disk.
            ("GET", "/system/df", one(async move { usage::asking_for_use(docker, "", NOTHING).list_volumes(None::<ListVolumesOptions>).await })),
            ("GET", "/events", first(docker.events(Some(EventsOptionsBuilder::default().since("1").until("1").build())))),
        ],
    );
    group(
        "Containers",
        vec![
            ("GET", "/containers/json", one(docker.list_containers(Some(ListContainersOptionsBuilder::default().limit(1).build())))),
            ("GET", "/containers/{id}/json", one(docker.inspect_container(NOTHING, None::<InspectContainerOptions>))),
            ("GET", "/containers/{id}/stats", first(docker.stats(NOTHING, Some(StatsOptionsBuilder::default().stream(false).build())))),
            ("GET", "/containers/{id}/logs", first(docker.logs(NOTHING, Some(LogsOptionsBuilder::default().stdout(true).build())))),
            ("POST", "/containers/create", one(docker.create_container(None::<CreateContainerOptions>, no_container()))),
            ("POST", "/containers/{id}/start", one(docker.start_container(NOTHING, None::<StartContainerOptions>))),
            ("POST", "/containers/{id}/stop", one(docker.stop_container(NOTHING, None::<StopContainerOptions>))),
            ("POST", "/containers/{id}/pause", one(docker.pause_container(NOTHING))),
            ("POST", "/containers/{id}/unpause", one(docker.unpause_container(NOTHING))),
            ("POST", "/containers/{id}/rename", one(docker.rename_container(NOTHING, RenameContainerOptionsBuilder::default().name(NOTHING).build()))),
            ("POST", "/containers/{id}/update", one(docker.update_container(NOTHING, ContainerUpdateBody::default()))),
            ("POST", "/containers/{id}/wait", first(docker.wait_container(NOTHING, None::<WaitContainerOptions>))),
            ("POST", "/containers/{id}/attach", one(docker.attach_container(NOTHING, None::<AttachContainerOptions>))),
            ("DELETE", "/containers/{id}", one(docker.remove_container(NOTHING, None::<RemoveContainerOptions>))),
        ],
    );
    let size = || ResizeExecOptionsBuilder::default().h(24).w(80).build();
    group(
        "Commands in containers: hooks, idle checks, `dockmaster exec`",
        vec![
            ("POST", "/containers/{id}/exec", one(docker.create_exec(NOTHING, ExecConfig { cmd: Some(vec!["true".to_owned()]), ..ExecConfig::default() }))),
            ("POST", "/exec/{id}/start", one(docker.start_exec(NOTHING, Some(StartExecOptions { detach: true, ..StartExecOptions::default() })))),
            ("POST", "/exec/{id}/resize", one(docker.resize_exec(NOTHING, size()))),
            ("GET", "/exec/{id}/json", one(docker.inspect_exec(NOTHING))),
        ],
    );
    let container = || NOTHING.to_owned();
    group(
        "Networks",
        vec![
            ("GET", "/networks", one(docker.list_networks(None::<ListNetworksOptions>))),
            ("GET", "/networks/{id}", one(docker.inspect_network(NOTHING, None::<InspectNetworkOptions>))),
            // Without a name.
            ("POST", "/networks/create", one(docker.create_network(NetworkCreateRequest::default()))),
            (
                "POST",
                "/networks/{id}/connect",
                one(docker.connect_network(NOTHING, NetworkConnectRequest { container: container(), ..NetworkConnectRequest::default() })),
            ),
            (
                "POST",
                "/networks/{id}/disconnect",
                one(docker.disconnect_network(NOTHING, NetworkDisconnectRequest { container: container(), ..NetworkDisconnectRequest::default() })),
            ),
            ("DELETE", "/networks/{id}", one(docker.remove_network(NOTHING))),
        ],
    );
    let slash = || VolumeCreateRequest { name: Some("/".to_owned()), ..VolumeCreateRequest::default() };
    group(
        "Volumes",
        vec![
            ("GET", "/volumes", one(docker.list_volumes(None::<ListVolumesOptions>))),
            ("GET", "/volumes/{name}", one(docker.inspect_volume(NOTHING))),
            ("POST", "/volumes/create", one(docker.create_volume(slash()))),
            ("DELETE", "/volumes/{name}", one(docker.remove_volume(NOTHING, None::<RemoveVolumeOptions>))),
        ],
    );
    // Not a reference: names of images have no capitals.
    let pull = || CreateImageOptionsBuilder::default().from_image("INVALID").build();
    let tag = || TagImageOptionsBuilder::default().repo("dockmaster.invalid/probe").tag("other").build();
    group(
        "Images: pulls, and the helper image",
        vec![
            ("GET", "/images/json", one(docker.list_images(None::<ListImagesOptions>))),
            ("POST", "/images/create", first(docker.create_image(Some(pull()), None, None))),
            ("POST", "/images/{name}/tag", one(docker.tag_image(NO_IMAGE, Some(tag())))),
            ("DELETE", "/images/{name}", one(docker.remove_image(NO_IMAGE, None::<RemoveImageOptions>, None))),
        ],
    );
    all
}

fn no_container() -> ContainerCreateBody {
    ContainerCreateBody { image: Some(NO_IMAGE.to_owned()), ..ContainerCreateBody::default() }
}

fn one<'a, T>(call: impl Future<Output = Result<T, Failure>> + Send + 'a) -> Call<'a> {
    Box::pin(async move { call.await.map(drop) })
}

fn first<'a, T>(replies: impl Stream<Item = Result<T, Failure>> + Send + 'a) -> Call<'a> {
    Box::pin(async move { pin!(replies).try_next().await.map(drop) })
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::path::Path;

    use super::*;

    fn endpoints() -> Vec<Endpoint> {
        // Nothing is called.
        let docker = Docker::connect_with_http("tcp://127.0.0.1:1", 1, bollard::API_DEFAULT_VERSION).unwrap();
        probes(&docker).into_iter().map(|(endpoint, _)| endpoint).collect()
    }

    /// Compares a file with what is made here, and makes it anew where that is asked for.
    fn fresh(file: &str, wanted: impl Fn(&str) -> String) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let found = std::fs::read_to_string(&path).unwrap();
        let wanted = wanted(&found);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &wanted).unwrap();
        } else {
            assert!(found == wanted, "{file} is stale; make it anew with `UPDATE=1 cargo test --lib rights`");
        }
    }

    #[test]
    fn the_list_of_endpoints_is_fresh() {
        fresh("deploy/endpoints.txt", |_| {
            let mut text = String::from(
                "# The endpoints of the Engine API that dockmaster calls, and nothing more: method and path, without the version.\n\
                 # A proxy that passes only these keeps dockmaster from swarm, plugins, builds, files of containers and all that it does not need. It\n\
                 # is no sandbox: whoever may create containers can become root on the host. Generated; `UPDATE=1 cargo test --lib rights` makes it anew.\n",
            );
            let mut group = "";
            for endpoint in endpoints() {
                if endpoint.group != group {
                    group = endpoint.group;
                    write!(text, "\n# {group}\n").unwrap();
                }
                let remark = endpoint.only().map(|when| format!("  # only {when}")).unwrap_or_default();
                writeln!(text, "{endpoint}{remark}").unwrap();
            }
            text
        });
    }

    #[test]
    fn the_proxy_passes_exactly_these() {
        const BEGIN: &str = "    # Generated from endpoints.txt.\n";
        const END: &str = "    http-request deny deny_status 403\n";
        fresh("deploy/haproxy.cfg", |found| {
            let (before, rest) = found.split_once(BEGIN).unwrap();
            let (_, after) = rest.split_once(END).unwrap();
            let mut rules = String::new();
            for Endpoint { method, path, .. } in endpoints() {
                // The name of an image may hold slashes.
                let name = if path.starts_with("/images/") { ".+" } else { "[^/]+" };
                let path = path.replace("{id}", name).replace("{name}", name);
                writeln!(rules, "    http-request allow if {{ method {method} }} {{ path_reg ^(/v1[.][0-9]+)?{path}$ }}").unwrap();
            }
            format!("{before}{BEGIN}{rules}{END}{after}")
        });
    }

    #[tokio::test]
    async fn a_refusal_is_told_from_an_answer_and_from_silence() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("proxy.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let proxy = tokio::spawn(async move {
            while let Ok((mut caller, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let read = caller.read(&mut request).await.unwrap();
                let reply = match std::str::from_utf8(&request[..read]).unwrap() {
                    head if head.starts_with("DELETE") => "403 Forbidden\r\ncontent-type: text/html",
                    head if head.starts_with("POST") => "404 Not Found",
                    _ => continue,
                };
                let reply = format!("HTTP/1.1 {reply}\r\ncontent-length: 4\r\nconnection: close\r\n\r\nsaid");
                caller.write_all(reply.as_bytes()).await.unwrap();
            }
        });
        let docker = Docker::connect_with_unix(&socket.display().to_string(), 5, bollard::API_DEFAULT_VERSION).unwrap();
        let client = Client { docker, host: String::new(), info: std::sync::Arc::default(), api: (1, 41), local: false, config: None };
        for (endpoint, right) in client.rights().await {
            match endpoint.method {
                "DELETE" => assert!(matches!(&right, Right::Denied(_)), "{endpoint}: {right:?}"),
                "POST" => assert_eq!(right, Right::Granted, "{endpoint}"),
                _ => assert!(matches!(&right, Right::Unknown(_)), "{endpoint}: {right:?}"),
            }
        }
        proxy.abort();
    }
}
