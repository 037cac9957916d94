//! The control socket: how the command line talks to the operator that runs on a state directory.
//!
//! HTTP/1.1 over `<state-dir>/control.sock`, mode 0600: whoever may open the socket may do what its owner may. Four calls:
//! `GET /v1/ping`, `GET /v1/engine`, `POST /v1/nudge` and `GET /v1/watch?kind=&namespace=&name=`, the last an endless body of one JSON value a line.
//! Facts and edits do not travel here: the command line writes them to the ledger and to the files, then nudges.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::resource::{Kind, ObjectRef};
use crate::state::Event;

/// The name of the socket in the state directory.
pub const SOCKET: &str = "control.sock";

/// What the operator answers through the socket; the controller implements it.
pub trait ControlHandle: Send + Sync + 'static {
    /// Who answers.
    fn ping(&self) -> Ping;
    /// What it remembers of the engine, for the adapter of a command; `None` where nothing of it holds.
    fn engine(&self) -> Option<Vec<u8>>;
    /// Looks at the sources again and reconciles this object, or all. Returns when that is enqueued, not when it is done.
    fn nudge(&self, object: Option<ObjectRef>) -> BoxFuture<'_, ()>;
    /// The present status of everything that matches, then `Synced`, then what changes, until the reader goes. A reader that is too slow is
    /// cut off: the stream ends.
    fn watch(&self, filter: WatchFilter) -> BoxStream<'static, WatchItem>;
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// The version of dockmaster.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Since when it runs.
    pub since: Timestamp,
}

/// Which objects a watcher wants; an absent part matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchFilter {
    /// Of this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// In this namespace; cluster kinds are in none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Of this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl WatchFilter {
    /// Exactly this object.
    pub fn of(object: &ObjectRef) -> Self {
        Self { kind: Some(object.kind), namespace: object.namespace.clone(), name: Some(object.name.clone()) }
    }

    /// Whether the object is one of those.
    pub fn matches(&self, object: &ObjectRef) -> bool {
        self.kind.is_none_or(|kind| kind == object.kind)
            && self.namespace.as_deref().is_none_or(|namespace| namespace == object.ns())
            && self.name.as_deref().is_none_or(|name| name == object.name)
    }

    fn query(&self) -> String {
        let kind = self.kind.map(|kind| format!("kind={kind}"));
        let namespace = self.namespace.as_ref().map(|namespace| format!("namespace={namespace}"));
        let name = self.name.as_ref().map(|name| format!("name={name}"));
        [kind, namespace, name].into_iter().flatten().collect::<Vec<_>>().join("&")
    }
}

/// One line of a watch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum WatchItem {
    /// The status of an object, present or new.
    Status {
        /// Which.
        object: ObjectRef,
        /// The generation of the spec that the operator has; a status whose `observedGeneration` is lower speaks of an older one.
        generation: u64,
        /// Its `status:`.
        status: serde_json::Value,
    },
    /// Something happened.
    Event {
        /// What.
        event: Event,
    },
    /// The object is gone: its spec, and its containers.
    Deleted {
        /// Which.
        object: ObjectRef,
    },
    /// All that is was said; what follows is news.
    Synced,
}

/// The socket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens.
    #[error("no operator runs on this state directory")]
    NotRunning,
    /// It could not be opened, made or read.
    #[error("the control socket {path} cannot be used")]
    Io {
        /// The socket.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The operator answered something else than expected.
    #[error("the operator answered {0}")]
    Answer(String),
}

/// Makes the socket, with mode 0600 from its first moment under its name, in place of one that a dead operator left.
pub fn bind(state_dir: &Path) -> Result<UnixListener, ControlError> {
    let socket = state_dir.join(SOCKET);
    let failed = |source| ControlError::Io { path: socket.display().to_string(), source };
    let temporary = format!("{SOCKET}.{}", std::process::id());
    let (short, _open) = short_path(state_dir, &temporary).map_err(failed)?;
    match std::fs::remove_file(&short) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let listener = UnixListener::bind(&short).map_err(failed)?;
    std::fs::set_permissions(&short, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    std::fs::rename(&short, &socket).map_err(failed)?;
    Ok(listener)
}

/// Answers on the socket until the token is cancelled; watches end then.
pub async fn serve(listener: UnixListener, handle: Arc<dyn ControlHandle>, shutdown: CancellationToken) -> io::Result<()> {
    let state = Shared { handle, shutdown: shutdown.clone() };
    let router = axum::Router::new()
        .route("/v1/ping", get(ping))
        .route("/v1/engine", get(engine))
        .route("/v1/nudge", post(nudge))
        .route("/v1/watch", get(watch))
        .with_state(state);
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

#[derive(Clone)]
struct Shared {
    handle: Arc<dyn ControlHandle>,
    shutdown: CancellationToken,
}

#[derive(Serialize, Deserialize)]
struct Nudge {
    object: Option<ObjectRef>,
}

async fn ping(State(shared): State<Shared>) -> Json<Ping> {
    Json(shared.handle.ping())
}

async fn engine(State(shared): State<Shared>) -> Bytes {
    shared.handle.engine().unwrap_or_default().into()
}

async fn nudge(State(shared): State<Shared>, Json(request): Json<Nudge>) -> StatusCode {
    shared.handle.nudge(request.object).await;
    StatusCode::NO_CONTENT
}

async fn watch(State(shared): State<Shared>, Query(filter): Query<WatchFilter>) -> Body {
    let lines = shared.handle.watch(filter).take_until(shared.shutdown.cancelled_owned()).map(|item| {
        let mut line = serde_json::to_vec(&item)?;
        line.push(b'\n');
        Ok::<_, serde_json::Error>(Bytes::from(line))
    });
    Body::from_stream(lines)
}

/// The command line's end of the socket. Each call is a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    state_dir: PathBuf,
}

impl Client {
    /// A client of the operator that runs on this state directory.
    pub fn new(state_dir: &Path) -> Self {
        Self { state_dir: state_dir.to_owned() }
    }

    /// Who answers; [`ControlError::NotRunning`] where nobody does.
    pub async fn ping(&self) -> Result<Ping, ControlError> {
        serde_json::from_slice(&self.get("/v1/ping").await?).map_err(|error| ControlError::Answer(error.to_string()))
    }

    /// What it remembers of the engine, for the adapter; empty where nothing of it holds.
    pub async fn engine(&self) -> Result<Bytes, ControlError> {
        self.get("/v1/engine").await
    }

    /// Asks it to look at the sources and at this object, or at all, now.
    pub async fn nudge(&self, object: Option<&ObjectRef>) -> Result<(), ControlError> {
        let request = serde_json::json!({ "object": object }).to_string();
        self.send("POST", "/v1/nudge", Bytes::from(request)).await.map(drop)
    }

    /// What is, then what changes; ends when the operator does.
    pub async fn watch(&self, filter: &WatchFilter) -> Result<BoxStream<'static, Result<WatchItem, ControlError>>, ControlError> {
        let body = self.send("GET", &format!("/v1/watch?{}", filter.query()), Bytes::new()).await?;
        let reader = tokio_util::io::StreamReader::new(body.into_data_stream().map_err(io::Error::other));
        let lines = tokio_util::codec::FramedRead::new(reader, tokio_util::codec::LinesCodec::new());
        let parse = |line: Result<String, _>| {
            let line = line.map_err(|error| ControlError::Answer(format!("{error}")))?;
            serde_json::from_str(&line).map_err(|error| ControlError::Answer(format!("`{line}`: {error}")))
        };
        Ok(lines.map(parse).boxed())
    }

    async fn get(&self, path: &str) -> Result<Bytes, ControlError> {
        let body = self.send("GET", path, Bytes::new()).await?;
        Ok(body.collect().await.map_err(|error| ControlError::Answer(error.to_string()))?.to_bytes())
    }

    async fn send(&self, method: &str, path: &str, body: Bytes) -> Result<hyper::body::Incoming, ControlError> {
        let failed = |source| ControlError::Io { path: self.state_dir.join(SOCKET).display().to_string(), source };
        let stream = self.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(io::Error::other(error)))?;
        // The connection lives as long as the answer's body; its failure is seen there.
        tokio::spawn(connection);
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "dockmaster")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| failed(io::Error::other(error)))?;
        let answer = sender.send_request(request).await.map_err(|error| failed(io::Error::other(error)))?;
        if answer.status().is_success() { Ok(answer.into_body()) } else { Err(ControlError::Answer(answer.status().to_string())) }
    }

    async fn connect(&self) -> Result<UnixStream, ControlError> {
        let failed = |source: io::Error| {
            if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
                return ControlError::NotRunning;
            }
            ControlError::Io { path: self.state_dir.join(SOCKET).display().to_string(), source }
        };
        let (path, _open) = short_path(&self.state_dir, SOCKET).map_err(failed)?;
        UnixStream::connect(path).await.map_err(failed)
    }
}

/// A path of the socket that fits into the 108 bytes of `sockaddr_un` however deep the state directory lies: by way of the open directory.
fn short_path(state_dir: &Path, name: &str) -> io::Result<(PathBuf, std::fs::File)> {
    let open = std::fs::File::open(state_dir)?;
    Ok((PathBuf::from(format!("/proc/self/fd/{}/{name}", open.as_raw_fd())), open))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{EventReason, EventType};

    struct Fake {
        nudged: tokio::sync::mpsc::UnboundedSender<Option<ObjectRef>>,
    }

    fn shop() -> ObjectRef {
        ObjectRef::new(Kind::Workspace, "alice", "shop")
    }

    fn items() -> Vec<WatchItem> {
        let event = Event {
            time: Timestamp::UNIX_EPOCH,
            type_: EventType::Normal,
            reason: EventReason::Started,
            object: Some(shop()),
            message: "started".into(),
            count: 1,
        };
        vec![
            WatchItem::Status { object: shop(), generation: 2, status: serde_json::json!({"phase": "Running"}) },
            WatchItem::Synced,
            WatchItem::Event { event },
            WatchItem::Deleted { object: shop() },
        ]
    }

    impl ControlHandle for Fake {
        fn ping(&self) -> Ping {
            Ping { version: "1".into(), pid: 7, since: Timestamp::UNIX_EPOCH }
        }
        fn engine(&self) -> Option<Vec<u8>> {
            Some(b"what is known".to_vec())
        }
        fn nudge(&self, object: Option<ObjectRef>) -> BoxFuture<'_, ()> {
            Box::pin(async move { self.nudged.send(object).unwrap() })
        }
        fn watch(&self, filter: WatchFilter) -> BoxStream<'static, WatchItem> {
            assert_eq!(filter, WatchFilter::of(&shop()));
            futures::stream::iter(items()).chain(futures::stream::pending()).boxed()
        }
    }

    #[tokio::test]
    async fn the_client_and_the_server_speak_to_each_other_even_from_a_deep_directory() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("d".repeat(100)).join("e".repeat(100));
        std::fs::create_dir_all(&dir).unwrap();
        let client = Client::new(&dir);
        assert!(matches!(client.ping().await, Err(ControlError::NotRunning)), "no socket yet");

        drop(std::os::unix::net::UnixListener::bind(short_path(&dir, SOCKET).unwrap().0).unwrap());
        assert!(matches!(client.ping().await, Err(ControlError::NotRunning)), "a dead operator's socket");

        let (sender, mut nudged) = tokio::sync::mpsc::unbounded_channel();
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(serve(bind(&dir).unwrap(), Arc::new(Fake { nudged: sender }), shutdown.clone()));
        let mode = std::fs::metadata(dir.join(SOCKET)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(client.ping().await.unwrap().pid, 7);
        assert_eq!(client.engine().await.unwrap().as_ref(), b"what is known");

        client.nudge(Some(&shop())).await.unwrap();
        client.nudge(None).await.unwrap();
        assert_eq!(nudged.recv().await.unwrap(), Some(shop()));
        assert_eq!(nudged.recv().await.unwrap(), None);

        let mut stream = client.watch(&WatchFilter::of(&shop())).await.unwrap();
        for expected in items() {
            assert_eq!(stream.next().await.unwrap().unwrap(), expected);
        }
        shutdown.cancel();
        assert!(stream.next().await.is_none(), "a watch ends with the operator");
        server.await.unwrap().unwrap();
    }

    #[test]
    fn a_filter_matches_by_each_of_its_parts() {
        assert!(WatchFilter::default().matches(&shop()));
        assert!(WatchFilter::of(&shop()).matches(&shop()));
        assert!(!WatchFilter::of(&shop()).matches(&ObjectRef::new(Kind::Workspace, "bob", "shop")));
        assert!(!WatchFilter { kind: Some(Kind::Preview), ..WatchFilter::default() }.matches(&shop()));
        assert!(!WatchFilter { namespace: Some("alice".into()), ..WatchFilter::default() }.matches(&ObjectRef::new(Kind::Tenant, "", "alice")));
    }
}
