//! The floor: a client that makes the same calls with nothing around them, as many in flight as the operator has.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::{ContainerCreateBody, ContainerInspectResponse, HostConfig, Ipam, IpamConfig, NetworkCreateRequest, NetworkingConfig, PortBinding};
use bollard::query_parameters::{
    CreateContainerOptions, EventsOptions, ListContainersOptions, RemoveContainerOptions, RenameContainerOptions, StartContainerOptions, StopContainerOptions,
};
use futures::{StreamExt, TryStreamExt, stream};

/// Containers as those of the operator, under names of their own.
pub struct Floor {
    docker: Docker,
    prefix: String,
    subnet: String,
    port: u16,
    body: ContainerCreateBody,
    in_flight: usize,
}

impl Floor {
    /// They are made like this container, but for the operator's labels, its network and its port.
    pub fn like(docker: Docker, prefix: String, subnet: String, port: u16, in_flight: usize, container: &ContainerInspectResponse) -> Self {
        let mut body: ContainerCreateBody = serde_json::from_value(serde_json::to_value(&container.config).unwrap()).unwrap();
        let renamed = |label: String| label.replace("dockmaster.", "floor.");
        body.labels = body.labels.map(|labels| labels.into_iter().map(|(name, value)| (renamed(name), value)).collect());
        body.hostname = None;
        body.host_config.clone_from(&container.host_config);
        Self { docker, prefix, subnet, port, body, in_flight }
    }

    /// The name of a container.
    pub fn name(&self, number: usize) -> String {
        format!("{}-w{number}", self.prefix)
    }

    /// Makes a network, and that many containers that run.
    pub async fn create(&self, count: usize) {
        let config = vec![IpamConfig { subnet: Some(self.subnet.clone()), ..Default::default() }];
        let ipam = Some(Ipam { config: Some(config), ..Default::default() });
        self.docker.create_network(NetworkCreateRequest { name: self.prefix.clone(), ipam, ..Default::default() }).await.unwrap();
        stream::iter(0..count).for_each_concurrent(self.in_flight, |number| self.create_one(number)).await;
    }

    /// Makes one and starts it.
    pub async fn create_one(&self, number: usize) {
        let name = self.name(number);
        self.make(number, &name).await;
        self.docker.start_container(&name, None::<StartContainerOptions>).await.unwrap();
    }

    async fn make(&self, number: usize, name: &str) {
        let port = (self.port + u16::try_from(number).unwrap()).to_string();
        let binding = PortBinding { host_ip: Some("127.0.0.1".to_owned()), host_port: Some(port) };
        let host = self.body.host_config.clone().unwrap_or_default();
        let host_config =
            HostConfig { port_bindings: Some([("8080/tcp".to_owned(), Some(vec![binding]))].into()), network_mode: Some(self.prefix.clone()), ..host };
        let networking_config = Some(NetworkingConfig { endpoints_config: Some([(self.prefix.clone(), Default::default())].into()) });
        let body = ContainerCreateBody { host_config: Some(host_config), networking_config, ..self.body.clone() };
        let options = CreateContainerOptions { name: Some(name.to_owned()), ..Default::default() };
        self.docker.create_container(Some(options), body).await.unwrap();
    }

    /// Starts another in the place of one; what can be done beforehand is.
    pub async fn replace(&self, number: usize) {
        let next = format!("{}-next", self.name(number));
        self.make(number, &next).await;
        self.docker.stop_container(&self.name(number), None::<StopContainerOptions>).await.unwrap();
        self.docker.start_container(&next, None::<StartContainerOptions>).await.unwrap();
    }

    /// Gives the name of the one that was replaced to the other.
    pub async fn replaced(&self, number: usize) {
        let (name, next) = (self.name(number), format!("{}-next", self.name(number)));
        self.remove(&name).await;
        self.docker.rename_container(&next, RenameContainerOptions { name }).await.unwrap();
    }

    async fn remove(&self, name: &str) {
        let options = RemoveContainerOptions { v: true, force: true, ..Default::default() };
        self.docker.remove_container(name, Some(options)).await.unwrap();
    }

    /// Stops and removes them all, then the network.
    pub async fn delete(&self, count: usize) {
        stream::iter(0..count)
            .for_each_concurrent(self.in_flight, |number| async move {
                let name = self.name(number);
                self.docker.stop_container(&name, None::<StopContainerOptions>).await.unwrap();
                self.remove(&name).await;
            })
            .await;
        self.docker.remove_network(&self.prefix).await.unwrap();
    }

    /// Lists them, as one has to who wants to know whether something changed.
    pub async fn list(&self) {
        self.docker.list_containers(Some(ListContainersOptions { all: true, ..Default::default() })).await.unwrap();
    }

    /// Starts again what ends, and makes anew what is removed, until it is dropped.
    pub async fn heal(&self) {
        let mut events = Box::pin(self.docker.events(None::<EventsOptions>));
        while let Some(event) = events.try_next().await.unwrap() {
            let (action, actor) = (event.action.unwrap_or_default(), event.actor.unwrap_or_default());
            let name = actor.attributes.unwrap_or_default().remove("name").unwrap_or_default();
            let Some(number) = name.strip_prefix(&format!("{}-w", self.prefix)).and_then(|number| number.parse().ok()) else { continue };
            match action.as_str() {
                // What is being removed cannot be started, and is made anew in a moment.
                "die" => drop(self.docker.start_container(&name, None::<StartContainerOptions>).await),
                "destroy" => self.create_one(number).await,
                _ => {}
            }
        }
    }
}

/// Makes one call and looks at no byte of the reply; gives the time of a core that it took.
pub fn bytes_only(socket: &Path, path: &str) -> Duration {
    let before = own_time();
    read(call(socket, path));
    own_time() - before
}

/// How long it takes to read a byte of a page of memory that nobody touched for two seconds. A hypervisor may take such pages away.
pub fn rested_page() -> Duration {
    const PAGE: usize = 4096;
    const PAGES: u32 = 400;
    let memory = vec![1_u8; PAGE * PAGES as usize];
    std::thread::sleep(Duration::from_secs(2));
    let begun = Instant::now();
    let read: usize = memory.chunks(PAGE).map(|page| usize::from(std::hint::black_box(page)[0])).sum();
    let took = begun.elapsed();
    assert_eq!(read, PAGES as usize);
    took / PAGES
}

/// Waits for the events of the engine and makes one call whenever it hears of some, without a runtime around it; until it is dropped.
pub struct Listener {
    events: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Begins to listen.
    pub fn new(socket: &Path) -> Self {
        let events = call(socket, "/events");
        let (mut heard, socket) = (events.try_clone().unwrap(), socket.to_owned());
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while heard.read(&mut buffer).unwrap() > 0 {
                read(call(&socket, "/containers/json?limit=1"));
            }
        });
        Self { events, thread: Some(thread) }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        drop(self.events.shutdown(Shutdown::Both));
        drop(self.thread.take().map(JoinHandle::join));
    }
}

fn call(socket: &Path, path: &str) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    stream
}

fn read(mut stream: UnixStream) {
    let mut buffer = vec![0; 64 << 10];
    while stream.read(&mut buffer).unwrap() > 0 {}
}

/// How long this thread has kept a core busy.
fn own_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}
