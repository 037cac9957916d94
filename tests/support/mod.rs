//! What suites on a real engine share: the engine, a test image, an installation of their own, and its removal.
//!
//! The engine is the one that `DOCKMASTER_TEST_DOCKER_HOST` names, else the default socket. Where none answers, every test fails.
//! `simulated:20.10` and `simulated:28.5` are engines in memory, one for each process of tests.
#![allow(dead_code, reason = "each suite uses a part")]
#![allow(clippy::unwrap_used, reason = "in a test a surprise is to be loud")]

pub mod limit;
pub mod simulated;

use std::future::Future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::query_parameters::{
    CreateImageOptions, ListContainersOptions, ListImagesOptions, ListNetworksOptions, ListVolumesOptions, RemoveContainerOptions, RemoveVolumeOptions,
};
use dockmaster::runtime::docker::connect::{Client, DEFAULT_HOST, connect};
use futures::StreamExt;
use tokio::sync::OnceCell;

/// The image of the tests: busybox with the links of its applets, nothing else.
pub const IMAGE: &str = "dockmaster-test/busybox:1";
/// What installations of tests begin with; then the second of their making and four random digits.
const PREFIX: &str = "tst";
/// What stands before the installation in the names of things that are not the operator's.
const EXTERNAL: &str = "ext-";
/// What tests left that were killed is removed when it is so old.
const STALE: u64 = 3600;

/// Where the engine is.
pub fn docker_host() -> String {
    let named = std::env::var("DOCKMASTER_TEST_DOCKER_HOST").ok().filter(|host| !host.is_empty()).unwrap_or_else(|| DEFAULT_HOST.to_owned());
    simulated::engine().map_or(named, |(_, host)| host.to_owned())
}

/// The engine.
pub async fn client() -> Client {
    connect(Some(&docker_host())).await.unwrap_or_else(|error| panic!("these tests need a Docker engine: {error}"))
}

/// The id of the test image, which is made where it is not there. It stays: other suites use it too.
pub async fn busybox_image(client: &Client) -> String {
    static ID: OnceCell<String> = OnceCell::const_new();
    ID.get_or_init(|| async {
        match image_id(client, IMAGE).await {
            Some(id) => id,
            None => import(client, IMAGE, &[]).await,
        }
    })
    .await
    .clone()
}

/// Imports the test image under another name, with changes such as `LABEL a=b`; gives its id.
pub async fn import(client: &Client, reference: &str, changes: &[&str]) -> String {
    let (repo, tag) = reference.rsplit_once(':').expect("a tag");
    let options = CreateImageOptions {
        from_src: Some("-".into()),
        repo: Some(repo.into()),
        tag: Some(tag.into()),
        changes: changes.iter().map(|change| (*change).to_owned()).collect(),
        ..Default::default()
    };
    let mut stream = Box::pin(client.docker.create_image(Some(options), Some(bollard::body_full(busybox_tar().into())), None));
    while let Some(step) = stream.next().await {
        step.expect("the import of the test image");
    }
    image_id(client, reference).await.expect("the imported image")
}

/// The id of an image.
pub async fn image_id(client: &Client, reference: &str) -> Option<String> {
    let filters = Some([("reference".to_owned(), vec![reference.to_owned()])].into());
    let images = client.docker.list_images(Some(ListImagesOptions { filters, ..Default::default() })).await.expect("the images");
    images.into_iter().next().map(|image| image.id)
}

fn busybox_tar() -> Vec<u8> {
    let program = std::fs::read("/bin/busybox").expect("/bin/busybox is needed: apt-get install busybox-static");
    let list = std::process::Command::new("/bin/busybox").arg("--list").output().expect("busybox runs").stdout;
    let mut tar = tar::Builder::new(Vec::new());
    let header = |kind, mode, size| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header
    };
    for folder in ["bin/", "tmp/", "etc/"] {
        let mode = if folder == "tmp/" { 0o1777 } else { 0o755 };
        tar.append_data(&mut header(tar::EntryType::Directory, mode, 0), folder, std::io::empty()).unwrap();
    }
    let passwd = b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n";
    tar.append_data(&mut header(tar::EntryType::Regular, 0o644, passwd.len() as u64), "etc/passwd", &passwd[..]).unwrap();
    tar.append_data(&mut header(tar::EntryType::Regular, 0o755, program.len() as u64), "bin/busybox", &program[..]).unwrap();
    for applet in String::from_utf8(list).unwrap().lines().filter(|applet| !applet.is_empty() && *applet != "busybox") {
        tar.append_link(&mut header(tar::EntryType::Symlink, 0o777, 0), format!("bin/{applet}"), "busybox").unwrap();
    }
    tar.into_inner().unwrap()
}

/// An installation of its own on the engine; all that bears its name or its label goes with it.
pub struct Sandbox {
    /// The engine.
    pub client: Client,
    /// The id of the installation; containers, networks and volumes of a test begin with it and a hyphen.
    pub installation: String,
    /// The id of the test image.
    pub image: String,
}

impl Sandbox {
    /// A fresh installation. What killed tests left an hour ago goes first.
    pub async fn new() -> Self {
        static SWEPT: OnceCell<()> = OnceCell::const_new();
        let client = client().await;
        SWEPT.get_or_init(|| remove_all(&client, is_stale)).await;
        let image = busybox_image(&client).await;
        let installation = format!("{PREFIX}{:08x}{:04x}", seconds(), rand::random::<u16>());
        Self { client, installation, image }
    }

    /// A name of this sandbox for something that is not the operator's.
    pub fn foreign(&self, name: &str) -> String {
        format!("{}-{name}", self.installation)
    }

    /// The same where the name may not look like one of the operator's own.
    pub fn external(&self, name: &str) -> String {
        format!("{EXTERNAL}{}-{name}", self.installation)
    }
}

/// Removes it all, in a thread with a runtime of its own: the test's may be gone.
impl Drop for Sandbox {
    fn drop(&mut self) {
        let installation = self.installation.clone();
        let sweep = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { remove_all(&client().await, |owner| owner == installation).await });
        });
        sweep.join().expect("the sandbox is removed");
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Whether that is an installation of a test that was made long ago.
fn is_stale(installation: &str) -> bool {
    let made = installation.strip_prefix(PREFIX).and_then(|rest| rest.get(..8)).and_then(|hex| u64::from_str_radix(hex, 16).ok());
    made.is_some_and(|made| made + STALE < seconds())
}

/// Removes what belongs to the installations that `of` picks, by the beginning of the name or by label.
async fn remove_all(client: &Client, of: impl Fn(&str) -> bool) {
    let docker = &client.docker;
    let by_name = |name: &str| name.trim_start_matches('/').trim_start_matches(EXTERNAL).split_once('-').is_some_and(|(installation, _)| of(installation));
    let by_label = |label: Option<&String>| label.is_some_and(|installation| of(installation));
    let label = "dockmaster.installation";
    let containers = docker.list_containers(Some(ListContainersOptions { all: true, ..Default::default() })).await.unwrap_or_default();
    for container in containers {
        let named = container.names.iter().flatten().any(|name| by_name(name));
        if named || by_label(container.labels.as_ref().and_then(|labels| labels.get(label))) {
            let options = RemoveContainerOptions { force: true, v: true, ..Default::default() };
            drop(docker.remove_container(&container.id.unwrap_or_default(), Some(options)).await);
        }
    }
    for network in docker.list_networks(None::<ListNetworksOptions>).await.unwrap_or_default() {
        if by_name(network.name.as_deref().unwrap_or_default()) {
            drop(docker.remove_network(&network.id.unwrap_or_default()).await);
        }
    }
    let volumes = docker.list_volumes(None::<ListVolumesOptions>).await.ok().and_then(|list| list.volumes).unwrap_or_default();
    for volume in volumes {
        if by_name(&volume.name) {
            drop(docker.remove_volume(&volume.name, None::<RemoveVolumeOptions>).await);
        }
    }
    for image in docker.list_images(None::<ListImagesOptions>).await.unwrap_or_default() {
        for tag in image.repo_tags.iter().filter(|tag| by_name(tag)) {
            drop(docker.remove_image(tag, None::<bollard::query_parameters::RemoveImageOptions>, None).await);
        }
    }
}

/// A port of the host that another program has.
pub struct PortHolder {
    /// The port.
    pub port: u16,
    _listener: std::net::TcpListener,
}

impl PortHolder {
    /// Takes a free one.
    pub fn new() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        if let Some((engine, _)) = simulated::engine() {
            engine.state().foreign_ports.insert((port, "tcp".to_owned()));
        }
        Self { port, _listener: listener }
    }
}

impl Drop for PortHolder {
    fn drop(&mut self) {
        if let Some((engine, _)) = simulated::engine() {
            engine.state().foreign_ports.remove(&(self.port, "tcp".to_owned()));
        }
    }
}

/// Asks again until there is an answer; fails loudly when none comes in time.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, limit: Duration, mut ask: impl FnMut() -> F) -> T {
    let answered = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(limit, answered).await.unwrap_or_else(|_| panic!("{what}: not within {} s", limit.as_secs()))
}
