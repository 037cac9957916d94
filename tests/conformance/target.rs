//! The engine under test: how it is spoken to, what is expected of its version, and which facts held.

use std::fmt::Debug;
use std::future::Future;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bollard::Docker;
use dockmaster::runtime::docker::connect::{Client, connect, connect_over};
use dockmaster::runtime::simulated::{self, SimulatedEngine};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;

use crate::support::{self, Sandbox};

/// A deadline for what takes an engine a moment.
pub const SOON: Duration = Duration::from_secs(60);
/// The label by which what has no name of its own is found again.
pub const LABEL: &str = "dockmaster.installation";

/// What the engines differ by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// As 20.10, API 1.41.
    Old,
    /// As 28.5, API 1.51.
    New,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// The way to an engine.
enum Way {
    Host(String),
    Memory(SimulatedEngine),
}

impl Way {
    async fn open(&self) -> Box<dyn Stream> {
        match self {
            Self::Host(host) => match host.strip_prefix("unix://") {
                Some(path) => Box::new(UnixStream::connect(path).await.expect("the engine's socket")),
                None => Box::new(TcpStream::connect(host.trim_start_matches("tcp://")).await.expect("the engine's address")),
            },
            Self::Memory(engine) => Box::new(engine.connect().expect("the engine is up")),
        }
    }
}

/// What an engine answered.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The body, as JSON or as a text.
    pub body: Value,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Reply {
    /// A field of the body, by its JSON pointer.
    pub fn at(&self, pointer: &str) -> Value {
        at(&self.body, pointer)
    }

    /// A text of the body.
    pub fn text(&self, pointer: &str) -> String {
        self.at(pointer).as_str().unwrap_or_default().to_owned()
    }

    /// The engine's words for a failure.
    pub fn message(&self) -> String {
        self.body.pointer("/message").and_then(Value::as_str).map_or_else(|| self.body.to_string(), str::to_owned)
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A reply that has begun.
pub struct Pending {
    what: String,
    response: hyper::Response<hyper::body::Incoming>,
    driver: JoinHandle<Result<(), hyper::Error>>,
}

impl Pending {
    /// Reads it to its end.
    pub async fn finish(self) -> Reply {
        let (head, body) = self.response.into_parts();
        let headers = head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap_or_default().to_owned())).collect();
        let bytes =
            tokio::time::timeout(SOON, body.collect()).await.unwrap_or_else(|_| panic!("{}: no end of the reply", self.what)).expect("the body").to_bytes();
        self.driver.abort();
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Reply { status: head.status.as_u16(), body, headers }
    }
}

/// A field of a value, by its JSON pointer; null when there is none.
pub fn at(value: &Value, pointer: &str) -> Value {
    value.pointer(pointer).cloned().unwrap_or(Value::Null)
}

/// One assertion: what is claimed of the engine, and what was seen instead.
pub struct Fact {
    /// The claim.
    pub name: String,
    /// What was seen, where it does not hold.
    pub wrong: Option<String>,
}

/// A real engine in a folder of its own.
struct Private(tempfile::TempDir);

impl Private {
    fn start() -> Self {
        let engine = Self(tempfile::tempdir().unwrap());
        engine.script("start");
        engine
    }

    fn directory(&self) -> std::path::PathBuf {
        self.0.path().join("engine")
    }

    fn script(&self, verb: &str) {
        let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engine");
        let output = std::process::Command::new(script).arg(verb).arg(self.directory()).output().unwrap();
        assert!(output.status.success(), "tests/engine {verb}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        self.script("stop");
    }
}

/// An engine under test.
pub struct Target {
    /// What it is called in the report.
    pub label: String,
    /// Which expectations hold for it.
    pub version: Version,
    /// A client of it.
    pub docker: Docker,
    client: Client,
    /// The id of the test image.
    pub image: String,
    /// What all names begin with, and the value of [`LABEL`].
    pub installation: String,
    /// Whether its containers are processes.
    pub real: bool,
    way: Way,
    facts: Mutex<Vec<Fact>>,
    subnets: AtomicU16,
    private: Option<Private>,
    _sandbox: Option<Sandbox>,
}

impl Target {
    /// The engine that the tests are given.
    pub async fn real() -> Self {
        let sandbox = Sandbox::new().await;
        let version = sandbox.client.docker.version().await.expect("the engine's version");
        Self {
            label: format!("Docker {} (API {})", version.version.unwrap_or_default(), version.api_version.unwrap_or_default()),
            version: if sandbox.client.api < (1, 44) { Version::Old } else { Version::New },
            docker: sandbox.client.docker.clone(),
            client: sandbox.client.clone(),
            image: sandbox.image.clone(),
            installation: sandbox.installation.clone(),
            real: true,
            way: Way::Host(support::docker_host()),
            facts: Mutex::default(),
            subnets: AtomicU16::new(rand::random()),
            private: None,
            _sandbox: Some(sandbox),
        }
    }

    /// A real engine that nobody else uses, with the test image; it goes with the target.
    pub async fn private() -> Self {
        let engine = Private::start();
        let host = format!("unix://{}", engine.directory().join("docker.sock").display());
        let client = connect(Some(&host)).await.expect("the engine that was started");
        let image = support::import(&client, support::IMAGE, &[]).await;
        let version = client.docker.version().await.expect("the engine's version");
        Self {
            label: format!("Docker {} over restarts", version.version.unwrap_or_default()),
            version: if client.api < (1, 44) { Version::Old } else { Version::New },
            docker: client.docker.clone(),
            client,
            image,
            installation: "private".to_owned(),
            real: true,
            way: Way::Host(host),
            facts: Mutex::default(),
            subnets: AtomicU16::new(0),
            private: Some(engine),
            _sandbox: None,
        }
    }

    /// Ends the engine, in order or at once, and starts it again.
    pub fn restart(&self, in_order: bool) {
        match (&self.way, &self.private) {
            (Way::Memory(engine), _) => {
                engine.human().down(in_order);
                engine.human().up();
            }
            (Way::Host(_), Some(private)) if in_order => private.script("restart"),
            (Way::Host(_), Some(private)) => {
                private.script("kill");
                private.script("start");
            }
            (Way::Host(_), None) => panic!("this engine is not ours to restart"),
        }
    }

    /// Lets the engine stand still, and go on.
    pub fn suspend(&self, suspended: bool) {
        match (&self.way, &self.private) {
            (Way::Memory(engine), _) if suspended => engine.human().suspend(),
            (Way::Memory(engine), _) => engine.human().resume(),
            (Way::Host(_), Some(private)) => {
                let text = std::fs::read_to_string(private.directory().join("docker.pid")).expect("the engine's process");
                let process = Pid::from_raw(text.trim().parse().unwrap()).unwrap();
                kill_process(process, if suspended { Signal::STOP } else { Signal::CONT }).unwrap();
            }
            (Way::Host(_), None) => panic!("this engine is not ours to suspend"),
        }
    }

    /// An engine in memory, with the test image.
    pub async fn simulated(version: Version) -> Self {
        let (simulated, number) = match version {
            Version::Old => (simulated::Version::V20_10, "20.10"),
            Version::New => (simulated::Version::V28_5, "28.5"),
        };
        let engine = SimulatedEngine::new(simulated::Options::new(simulated));
        let dialled = engine.clone();
        let client = connect_over("simulated", move || dialled.connect()).await.expect("a client");
        let image = support::import(&client, support::IMAGE, &[]).await;
        Self {
            label: format!("the simulated {number}"),
            version,
            docker: client.docker.clone(),
            client,
            image,
            installation: "simulated".to_owned(),
            real: false,
            way: Way::Memory(engine),
            facts: Mutex::default(),
            subnets: AtomicU16::new(0),
            private: None,
            _sandbox: None,
        }
    }

    /// The expectation of this version.
    pub fn by<T>(&self, old: T, new: T) -> T {
        match self.version {
            Version::Old => old,
            Version::New => new,
        }
    }

    fn record(&self, name: &str, wrong: Option<String>) {
        self.facts.lock().unwrap().push(Fact { name: name.to_owned(), wrong });
    }

    /// What was recorded so far.
    pub fn take_facts(&self) -> Vec<Fact> {
        std::mem::take(&mut *self.facts.lock().unwrap())
    }

    /// Fact: the two are equal.
    pub fn eq<A: PartialEq<E> + Debug, E: Debug>(&self, fact: &str, actual: A, expected: E) {
        let wrong = (actual != expected).then(|| format!("{actual:?} instead of {expected:?}"));
        self.record(fact, wrong);
    }

    /// Fact: that holds; else `seen` says what was there.
    pub fn holds(&self, fact: &str, holds: bool, seen: impl Debug) {
        self.record(fact, (!holds).then(|| format!("{seen:?}")));
    }

    /// Fact: a field has that value.
    pub fn field(&self, fact: &str, value: &Value, pointer: &str, expected: impl Into<Value>) {
        self.eq(fact, at(value, pointer), expected.into());
    }

    /// Fact: the reply has that status, and says that.
    pub fn reply(&self, fact: &str, reply: &Reply, status: u16, says: &str) {
        let holds = reply.status == status && (says.is_empty() || reply.message().contains(says));
        self.record(fact, (!holds).then(|| format!("{} {} instead of {status} {says:?}", reply.status, reply.message())));
    }

    /// A subnet of 14 hosts that is nobody else's.
    pub fn subnet(&self) -> String {
        let [high, low] = self.subnets.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        format!("10.{}.{low}.{}/28", 176 + high / 16, (high % 16) * 16)
    }

    /// Sends a request; the path may begin with a version of the API.
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Reply {
        self.begin(method, path, body).await.finish().await
    }

    /// Sends a request, to the first part of the reply.
    pub async fn begin(&self, method: &str, path: &str, body: Option<Value>) -> Pending {
        let what = format!("{method} {path}");
        let call = async {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(self.way.open().await)).await.expect("a connection");
            let driver = tokio::spawn(connection);
            let bytes = body.map(|body| if let Value::String(text) = body { text.into_bytes() } else { body.to_string().into_bytes() });
            let request = hyper::Request::builder().method(method).uri(path).header("host", "engine").header("content-type", "application/json");
            let response = sender.send_request(request.body(Full::new(bytes::Bytes::from(bytes.unwrap_or_default()))).unwrap()).await.expect("a reply");
            (response, driver)
        };
        let (response, driver) = tokio::time::timeout(SOON, call).await.unwrap_or_else(|_| panic!("{what}: no reply"));
        Pending { what, response, driver }
    }

    /// Imports the test image under a reference, with changes; gives its id.
    pub async fn import(&self, reference: &str, changes: &[&str]) -> String {
        support::import(&self.client, reference, changes).await
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> Reply {
        self.call("GET", path, None).await
    }

    /// `POST`, with a body or with null.
    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.call("POST", path, Some(body).filter(|body| !body.is_null())).await
    }

    /// `DELETE`.
    pub async fn delete(&self, path: &str) -> Reply {
        self.call("DELETE", path, None).await
    }
}

/// A query parameter `filters`, ready for a path.
pub fn filters(filters: Value) -> String {
    format!("filters={}", encode(&filters.to_string()))
}

/// A text as part of a query.
pub fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// Part of the suite, with names of its own on the target.
#[derive(Clone)]
pub struct Case {
    target: Arc<Target>,
    group: &'static str,
}

impl std::ops::Deref for Case {
    type Target = Target;

    fn deref(&self) -> &Target {
        &self.target
    }
}

impl Case {
    /// That part on that target.
    pub fn new(target: Arc<Target>, group: &'static str) -> Self {
        Self { target, group }
    }

    /// A name of this part.
    pub fn name(&self, name: &str) -> String {
        format!("{}-{}-{name}", self.installation, self.group)
    }

    /// The body of a creation: the test image, the label of the suite, no network, and what is given.
    pub fn body(&self, given: Value) -> Value {
        let mut body = json!({"Image": self.image, "Labels": {LABEL: self.installation}, "HostConfig": {"NetworkMode": "none"}});
        merge(&mut body, given);
        body
    }

    /// Asks for a container.
    pub async fn try_create(&self, name: &str, given: Value) -> Reply {
        self.post(&format!("/containers/create?name={}", self.name(name)), self.body(given)).await
    }

    /// Makes a container; gives its id.
    pub async fn create(&self, name: &str, given: Value) -> String {
        let reply = self.try_create(name, given).await;
        assert_eq!(reply.status, 201, "{}", reply.message());
        reply.text("/Id")
    }

    /// Makes and starts a container; gives its id.
    pub async fn run(&self, name: &str, given: Value) -> String {
        let id = self.create(name, given).await;
        let reply = self.start(&id).await;
        assert_eq!(reply.status, 204, "{}", reply.message());
        id
    }

    /// A container that sleeps.
    pub async fn sleeper(&self, name: &str) -> String {
        self.run(name, json!({"Cmd": ["sleep", "600"], "HostConfig": {"Init": true}})).await
    }

    /// `start`, `stop?t=0`, `pause`, `kill`, … on a container.
    pub async fn act(&self, container: &str, verb: &str) -> Reply {
        self.post(&format!("/containers/{container}/{verb}"), Value::Null).await
    }

    /// Starts a container.
    pub async fn start(&self, container: &str) -> Reply {
        self.act(container, "start").await
    }

    /// Stops a container without grace.
    pub async fn stop(&self, container: &str) -> Reply {
        self.act(container, "stop?t=0").await
    }

    /// Pauses a container. A busy kernel may fail to freeze its processes; then it is to be tried again.
    pub async fn pause(&self, container: &str) -> u16 {
        self.wait("a pause", || async {
            let reply = self.act(container, "pause").await;
            (!reply.message().contains("unable to freeze")).then_some(reply.status)
        })
        .await
    }

    /// Removes a container, whatever it does, with its anonymous volumes.
    pub async fn remove(&self, container: &str) -> Reply {
        self.delete(&format!("/containers/{container}?force=1&v=1")).await
    }

    /// What the engine says of a container, as bollard reads it.
    pub async fn inspect(&self, container: &str) -> Value {
        serde_json::to_value(self.docker.inspect_container(container, None).await.expect("an inspect")).unwrap()
    }

    /// The listed containers of these filters, running or not, as bollard reads them.
    pub async fn list(&self, filters: Value) -> Vec<Value> {
        let filters = serde_json::from_value(filters).unwrap();
        let options = bollard::query_parameters::ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
        let list = self.docker.list_containers(Some(options)).await.expect("a list");
        list.into_iter().map(|container| serde_json::to_value(container).unwrap()).collect()
    }

    /// One listed container.
    pub async fn listed(&self, id: &str) -> Value {
        self.list(json!({"id": [id]})).await.into_iter().next().unwrap_or_default()
    }

    /// Waits until a container's inspect has that value there; gives the inspect.
    pub async fn until(&self, container: &str, pointer: &str, value: impl Into<Value>) -> Value {
        let value = value.into();
        support::until(&format!("{pointer} of {container} is {value}"), SOON, || async {
            Some(self.inspect(container).await).filter(|inspect| at(inspect, pointer) == value)
        })
        .await
    }

    /// Waits until a container has ended.
    pub async fn ended(&self, container: &str) -> Value {
        self.until(container, "/State/Status", "exited").await
    }

    /// Makes a network of that subnet, labelled; gives its id.
    pub async fn network(&self, name: &str, subnet: &str) -> String {
        let reply = self.try_network(name, subnet, json!({})).await;
        assert_eq!(reply.status, 201, "{}", reply.message());
        reply.text("/Id")
    }

    /// Asks for a network.
    pub async fn try_network(&self, name: &str, subnet: &str, given: Value) -> Reply {
        let mut body = json!({"Name": self.name(name), "Driver": "bridge", "IPAM": {"Config": [{"Subnet": subnet}]}, "Labels": {LABEL: self.installation}});
        merge(&mut body, given);
        self.post("/networks/create", body).await
    }

    /// Makes a volume; gives the reply.
    pub async fn volume(&self, name: &str, labels: Value) -> Reply {
        let mut body = json!({"Name": self.name(name), "Driver": "local", "Labels": {LABEL: self.installation}});
        merge(&mut body, json!({"Labels": labels}));
        self.post("/volumes/create", body).await
    }

    /// Asks until there is an answer.
    pub async fn wait<T, F: Future<Output = Option<T>>>(&self, what: &str, ask: impl FnMut() -> F) -> T {
        support::until(what, SOON, ask).await
    }
}

/// Puts `given` over `base`, key by key.
fn merge(base: &mut Value, given: Value) {
    match (base, given) {
        (Value::Object(base), Value::Object(given)) => {
            for (key, value) in given {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, given) => *base = given,
    }
}
