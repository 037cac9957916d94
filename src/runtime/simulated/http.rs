//! Connections, requests and replies: the Engine API's outside, with what a fault makes of a call.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE};
use hyper::upgrade::OnUpgrade;
use hyper::{Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::fault::{Call, Verdict};
use super::routes::{self, Route};
use super::signal::Waiter;
use super::state::Engine;
use super::{Shared, Version};

/// A request, read whole.
#[derive(Clone, Debug)]
pub struct Request {
    /// What names the object in the path.
    pub target: String,
    /// The version in the path, else the engine's newest.
    pub api: (u16, u16),
    /// The body.
    pub body: Bytes,
    /// Whether the connection is to be taken over.
    pub upgrade: bool,
    /// `X-Registry-Auth`.
    pub account: Option<String>,
    query: Vec<(String, String)>,
}

impl Request {
    /// The first value of that name.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All values of that name.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.query.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Docker's reading of a flag: anything but these is yes.
    pub fn flag(&self, name: &str) -> bool {
        self.query(name).is_some_and(|value| !matches!(value.trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none"))
    }

    /// The body as JSON; nothing reads as null.
    pub fn json(&self, engine: &Engine, what: (&str, &str)) -> Result<Value, Refused> {
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        let value = serde_json::from_slice(&self.body).map_err(|error| match engine.version {
            Version::V20_10 => refuse(400, error.to_string()),
            Version::V28_5 => refuse(400, format!("invalid JSON: {error}")),
        })?;
        let kind = match value {
            Value::Object(_) | Value::Null => return Ok(value),
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Number(_) => "number",
            Value::Bool(_) => "bool",
        };
        Err(match engine.version {
            Version::V20_10 => refuse(500, format!("json: cannot unmarshal {kind} into Go value of type {}", what.0)),
            Version::V28_5 => refuse(400, format!("invalid JSON: json: cannot unmarshal {kind} into Go value of type {}", what.1)),
        })
    }
}

/// What a handler gives.
pub type Served = Result<Reply, Refused>;
/// A refusal: status and message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub u16, pub String);

/// A refusal.
pub fn refuse(status: u16, message: impl Into<String>) -> Refused {
    Refused(status, message.into())
}

type Source = Box<dyn FnMut(&mut Engine) -> Flow + Send>;
type Ask = Box<dyn FnMut(&mut Engine) -> Option<Served> + Send>;
type Sink = Box<dyn FnMut(&mut Engine, Input) + Send>;

/// What is asked again after each change, until it has an answer.
pub type Later = Box<dyn FnMut(&mut Engine) -> Option<Served> + Send>;

/// A reply.
pub enum Reply {
    /// It is known.
    Done {
        /// The status.
        status: u16,
        /// The type of the body.
        content: &'static str,
        /// The body.
        body: Vec<u8>,
    },
    /// It comes later: asked again after each change until there is one.
    Later(Ask),
    /// A body that goes on; asked for more after each change.
    Stream {
        /// The type of the body.
        content: &'static str,
        /// Where it comes from.
        source: Source,
    },
    /// The connection is taken over.
    Upgrade {
        /// The type of what comes.
        content: &'static str,
        /// What the engine sends.
        source: Source,
        /// What it gets.
        sink: Sink,
    },
}

/// What a stream has to give.
pub enum Flow {
    /// More.
    Data(Bytes),
    /// Nothing yet.
    Wait,
    /// Nothing any more.
    End,
}

/// What comes in on a connection that was taken over.
pub enum Input {
    /// Bytes.
    Data(Bytes),
    /// The client sends no more.
    End,
    /// The connection is gone.
    Gone,
}

impl Reply {
    /// A status and nothing else.
    pub fn empty(status: u16) -> Self {
        Self::Done { status, content: "", body: Vec::new() }
    }

    /// JSON.
    pub fn json(status: u16, value: &impl Serialize) -> Self {
        let mut body = Vec::with_capacity(512);
        // Only maps with keys that are no strings cannot be written, and there are none.
        drop(serde_json::to_writer(&mut body, value));
        body.push(b'\n');
        Self::Done { status, content: "application/json", body }
    }

    /// A reply that comes later.
    pub fn later(ask: impl FnMut(&mut Engine) -> Option<Served> + Send + 'static) -> Self {
        Self::Later(Box::new(ask))
    }

    /// A body that goes on.
    pub fn stream(content: &'static str, source: impl FnMut(&mut Engine) -> Flow + Send + 'static) -> Self {
        Self::Stream { content, source: Box::new(source) }
    }
}

type Body = Either<Full<Bytes>, StreamBody<BoxStream<'static, Result<Frame<Bytes>, io::Error>>>>;

/// Serves one connection to its end.
pub async fn serve(shared: Arc<Shared>, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, caller: u64) {
    let mut cut = shared.cut.subscribe();
    let service = hyper::service::service_fn({
        let shared = shared.clone();
        move |request| {
            let shared = shared.clone();
            async move { answer(&shared, request, caller).await }
        }
    });
    let connection = hyper::server::conn::http1::Builder::new().auto_date_header(false).serve_connection(TokioIo::new(io), service).with_upgrades();
    drop(shared);
    // A client that goes away in the middle is no failure of the engine.
    tokio::select! { biased; _ = cut.changed() => {}, _ = connection => {} }
}

/// Breaks the connection.
fn reset() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the connection was reset")
}

/// A call that was read whole, and what is to become of it.
struct Arrived {
    call: Call,
    /// The version in the path.
    api: Option<(u16, u16)>,
    /// What serves it, and what names the object.
    found: Option<(&'static Route, String)>,
    uri: Uri,
    account: Option<String>,
    upgraded: Option<OnUpgrade>,
    verdict: Verdict,
}

async fn answer(shared: &Arc<Shared>, mut request: hyper::Request<Incoming>, caller: u64) -> Result<Response<Body>, io::Error> {
    let upgraded = request.headers().contains_key(hyper::header::UPGRADE).then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let (api, path) = routes::version(parts.uri.path());
    let found = routes::find(&parts.method, path);
    let call = Call {
        index: shared.calls.fetch_add(1, Ordering::Relaxed),
        caller,
        method: parts.method.to_string(),
        path: parts.uri.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}")),
        endpoint: found.as_ref().map(|(route, _)| format!("{} {}", route.method, route.path)).unwrap_or_default(),
        mutating: found.as_ref().is_some_and(|(route, _)| route.mutating),
        body,
    };
    let verdict = shared.interceptor().map_or(Verdict::Pass, |interceptor| interceptor.before(&call));
    if matches!(verdict, Verdict::Suspend) {
        shared.suspend();
    }
    let account = parts.headers.get("x-registry-auth").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let arrived = Arrived { call, api, found, uri: parts.uri, account, upgraded, verdict };
    if !shared.is_suspended() {
        return arrived.serve(shared).await;
    }
    // A process that stood still finds what was sent meanwhile, although who sent it may be gone by then: this future goes with the connection.
    let here = Arc::new(());
    let (shared, client) = (shared.clone(), Arc::downgrade(&here));
    let later = tokio::spawn(async move {
        let mut cut = shared.cut.subscribe();
        tokio::select! { biased; _ = cut.changed() => return Err(reset()), () = shared.awake() => {} }
        if client.strong_count() == 0 && arrived.give_up(&shared) { Err(reset()) } else { arrived.serve(&shared).await }
    });
    let reply = later.await.unwrap_or_else(|_| Err(reset()));
    drop(here);
    reply
}

impl Arrived {
    /// What the client's end means for a call: the newer engine gives a start up, and says so in the container's state. Whether it did.
    fn give_up(&self, shared: &Shared) -> bool {
        let start = self.found.as_ref().filter(|(route, _)| shared.version == Version::V28_5 && route.path == "/containers/{id}/start");
        if let Some((_, target)) = start {
            shared.change(|engine| engine.give_up_start(target));
        }
        start.is_some()
    }

    async fn serve(self, shared: &Arc<Shared>) -> Result<Response<Body>, io::Error> {
        if matches!(self.verdict, Verdict::Abandon) {
            self.give_up(shared);
        }
        let Self { call, api, found, uri, account, upgraded, verdict } = self;
        if let Verdict::Error { status, message } = verdict {
            return Ok(done(shared, status, "application/json", with_newline(&json!({"message": message}))));
        }
        if matches!(verdict, Verdict::Abandon | Verdict::Silence { applied: false }) {
            std::future::pending::<Infallible>().await;
        }
        if matches!(verdict, Verdict::Reset { applied: false }) {
            return Err(reset());
        }
        shared.latency(&call.endpoint).await;
        let newest = shared.version.api();
        let request = Request {
            target: found.as_ref().map(|(_, target)| target.clone()).unwrap_or_default(),
            api: api.unwrap_or(newest),
            body: call.body,
            upgrade: upgraded.is_some(),
            account,
            query: query(&uri),
        };
        let served = match (&found, api) {
            (_, Some(api)) if api > newest => {
                let newest = format!("Maximum supported API version is {}.{}", newest.0, newest.1);
                Err(refuse(400, format!("client version {}.{} is too new. {newest}", api.0, api.1)))
            }
            (_, Some(api)) if api < shared.version.oldest_api() => {
                let oldest = shared.version.oldest_api();
                let text = format!(
                    "client version {}.{} is too old. Minimum supported API version is {}.{}, please upgrade your client to a newer version",
                    api.0, api.1, oldest.0, oldest.1
                );
                Ok(Reply::Done { status: 400, content: "text/plain; charset=utf-8", body: text.into_bytes() })
            }
            (None, _) => Err(refuse(404, "page not found")),
            (Some((route, _)), _) => match &verdict {
                Verdict::Stale(past) if !route.mutating => (route.serve)(&mut Engine::clone(past), &request),
                Verdict::Pass
                | Verdict::Error { .. }
                | Verdict::Abandon
                | Verdict::Silence { .. }
                | Verdict::Reset { .. }
                | Verdict::Truncate
                | Verdict::Stale(_)
                | Verdict::Suspend => dispatch(shared, route, &request),
            },
        };
        let reply = settle(shared, served).await;
        if call.mutating {
            shared.tell_first().await;
        }
        match verdict {
            Verdict::Abandon | Verdict::Silence { .. } => {
                std::future::pending::<Infallible>().await;
            }
            Verdict::Reset { .. } => return Err(reset()),
            Verdict::Pass | Verdict::Error { .. } | Verdict::Truncate | Verdict::Stale(_) | Verdict::Suspend => {}
        }
        let cut = matches!(verdict, Verdict::Truncate);
        match reply {
            Reply::Done { body, .. } if cut && body.len() < 2 => Err(reset()),
            Reply::Done { status, content, body } if cut => Ok(truncated(status, content, &body)),
            Reply::Done { status, content, body } => Ok(done(shared, status, content, body)),
            Reply::Stream { content, source } => Ok(streaming(shared, content, source, cut)),
            Reply::Upgrade { content, source, sink } => match upgraded {
                Some(upgraded) => {
                    let ours = shared.clone();
                    tokio::spawn(async move {
                        if let Ok(upgraded) = upgraded.await {
                            take_over(ours, TokioIo::new(upgraded), source, sink).await;
                        }
                    });
                    let head = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS).header("connection", "Upgrade").header("upgrade", "tcp");
                    head.header(CONTENT_TYPE, content).body(Either::Left(Full::default())).map_err(io::Error::other)
                }
                // Without an upgrade the client only listens.
                None => Ok(streaming(shared, content, source, cut)),
            },
            // `settle` leaves none.
            Reply::Later(_) => Err(reset()),
        }
    }
}

fn dispatch(shared: &Arc<Shared>, route: &Route, request: &Request) -> Served {
    if route.mutating { shared.change(|engine| (route.serve)(engine, request)) } else { shared.look(|engine| (route.serve)(engine, request)) }
}

/// Waits for a reply that comes later.
async fn settle(shared: &Arc<Shared>, mut served: Served) -> Reply {
    loop {
        match served {
            Ok(Reply::Later(mut ask)) => {
                let mut changed = shared.changed.subscribe();
                served = loop {
                    shared.awake().await;
                    if let Some(served) = shared.look(&mut ask) {
                        break served;
                    }
                    // The sender lives in what is shared.
                    if !changed.changed().await {
                        std::future::pending::<Infallible>().await;
                    }
                };
            }
            Ok(reply) => return reply,
            Err(Refused(status, message)) if status == 304 || message.is_empty() => return Reply::empty(status),
            Err(Refused(status, message)) => return Reply::Done { status, content: "application/json", body: with_newline(&json!({"message": message})) },
        }
    }
}

fn with_newline(value: &Value) -> Vec<u8> {
    format!("{value}\n").into_bytes()
}

fn done(shared: &Shared, status: u16, content: &'static str, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(Bytes::from(body))));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    let (major, minor) = shared.version.api();
    let values = [("api-version", format!("{major}.{minor}")), ("docker-experimental", "false".to_owned()), ("ostype", "linux".to_owned())];
    for (name, value) in values.into_iter().chain([("server", format!("Docker/{} (linux)", shared.version.number()))]) {
        if let Ok(value) = value.parse() {
            headers.insert(name, value);
        }
    }
    if !content.is_empty() {
        headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content));
    }
    response
}

/// Half of a body, then the end of the connection.
fn truncated(status: u16, content: &'static str, body: &[u8]) -> Response<Body> {
    let half = Bytes::copy_from_slice(&body[..body.len() / 2]);
    let frames = stream::iter([Ok(Frame::data(half)), Err(reset())]).boxed();
    let mut response = Response::new(Either::Right(StreamBody::new(frames)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content));
    response.headers_mut().insert(CONTENT_LENGTH, body.len().into());
    response
}

fn streaming(shared: &Arc<Shared>, content: &'static str, source: Source, cut: bool) -> Response<Body> {
    let state = (shared.clone(), shared.changed.subscribe(), source);
    let more = stream::unfold(state, |(shared, mut changed, mut source)| async move {
        let bytes = next(&shared, &mut changed, &mut source).await?;
        Some((Ok(Frame::data(bytes)), (shared, changed, source)))
    });
    let frames = if cut { more.take(1).chain(stream::iter([Err(reset())])).boxed() } else { more.boxed() };
    let mut response = Response::new(Either::Right(StreamBody::new(frames)));
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content));
    response
}

/// The next bytes of a stream; `None` at its end.
async fn next(shared: &Shared, changed: &mut Waiter, source: &mut Source) -> Option<Bytes> {
    loop {
        shared.awake().await;
        match shared.look(&mut *source) {
            Flow::Data(bytes) => return Some(bytes),
            Flow::End => return None,
            Flow::Wait => {
                if !changed.changed().await {
                    return None;
                }
            }
        }
    }
}

/// Both directions of a connection that was taken over.
async fn take_over(shared: Arc<Shared>, io: impl AsyncRead + AsyncWrite + Unpin + Send, mut source: Source, mut sink: Sink) {
    let mut changed = shared.changed.subscribe();
    let mut cut = shared.cut.subscribe();
    let (mut reader, mut writer) = tokio::io::split(io);
    let incoming = async {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let read = reader.read(&mut buffer).await;
            shared.awake().await;
            match read {
                Ok(0) => {
                    shared.change(|engine| sink(engine, Input::End));
                    return;
                }
                Ok(read) => shared.change(|engine| sink(engine, Input::Data(Bytes::copy_from_slice(&buffer[..read])))),
                Err(_) => return,
            }
        }
    };
    let outgoing = async {
        while let Some(bytes) = next(&shared, &mut changed, &mut source).await {
            if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
                return;
            }
        }
        // The client learns of the end by the end of the connection.
        drop(writer.shutdown().await);
    };
    let both = async {
        // The end of the input is not the end of the output, but a broken connection is the end of both.
        tokio::pin!(outgoing, incoming);
        tokio::select! { biased; () = &mut outgoing => {}, () = &mut incoming => outgoing.await }
    };
    tokio::select! { biased; _ = cut.changed() => {}, () = both => {} }
    shared.change(|engine| sink(engine, Input::Gone));
}

/// The pairs of a query, decoded.
fn query(uri: &Uri) -> Vec<(String, String)> {
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(key, value)| (decoded(key), decoded(value))).collect()
}

/// `%2F` and `+` undone.
pub fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = after
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (escaped, first) {
            (Some(byte), _) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (None, b'+') => {
                bytes.push(b' ');
                rest = after;
            }
            (None, byte) => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
