//! A proxy before the engine's socket that writes down which endpoints are called and when, and that can cut every connection.
//!
//! Each connection carries one request: the proxy adds `Connection: close`, so that its head is all that needs to be read, and
//! everything after it (bodies, hijacked streams) passes as it is.

#![allow(dead_code, reason = "each suite uses a part")]

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// A running proxy; dropping it cuts all connections.
pub struct Recorder {
    socket: PathBuf,
    calls: Arc<Mutex<Vec<(Instant, String)>>>,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Recorder {
    /// Forwards to the engine's unix socket.
    pub fn start(engine: &Path) -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let socket = dir.path().join("docker.sock");
        let listener = UnixListener::bind(&socket)?;
        let (calls, stop, engine) = (Arc::<Mutex<Vec<_>>>::default(), CancellationToken::new(), engine.to_owned());
        let (record, stopped) = (calls.clone(), stop.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (record, engine) = (record.clone(), engine.clone());
                // An error is one side's end, and the other sees it.
                tokio::spawn(stopped.clone().run_until_cancelled_owned(async move { forward(client, &engine, &record).await }));
            }
        }));
        Ok(Self { socket, calls, stop, _dir: dir })
    }

    /// The address to give to a client.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// What was called so far: `METHOD /path/{id}`, sorted, once each.
    pub fn calls(&self) -> BTreeSet<String> {
        self.calls.lock().unwrap().iter().map(|(_, call)| call.clone()).collect()
    }

    /// Every call so far, in order.
    pub fn log(&self) -> Vec<(Instant, String)> {
        self.calls.lock().unwrap().clone()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn forward(mut client: UnixStream, engine: &Path, record: &Mutex<Vec<(Instant, String)>>) -> io::Result<()> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if client.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let line = head.lines().next().unwrap_or_default();
    let mut words = line.split(' ');
    let call = format!("{} {}", words.next().unwrap_or_default(), pattern(words.next().unwrap_or_default()));
    record.lock().unwrap().push((Instant::now(), call));
    let is = |header: &str, name: &str| header.split(':').next().is_some_and(|key| key.eq_ignore_ascii_case(name));
    let upgrade = head.lines().any(|header| is(header, "upgrade"));
    let mut sent: Vec<&str> = head.lines().filter(|header| upgrade || !is(header, "connection")).collect();
    if !upgrade {
        sent.push("Connection: close");
    }
    let mut server = UnixStream::connect(engine).await?;
    server.write_all(format!("{}\r\n\r\n", sent.join("\r\n")).as_bytes()).await?;
    server.write_all(&bytes[end + 4..]).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// The endpoint of a request target, with what names an object replaced: `/v1.41/containers/3f0c/json?size=1` is `/containers/{id}/json`.
pub fn pattern(target: &str) -> String {
    let path = target.split('?').next().unwrap_or_default();
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.first().is_some_and(|part| part.starts_with("v1.")) {
        parts.remove(0);
    }
    let fixed = ["json", "create", "prune", "search", "load", "get"];
    let with = |name: &str, rest: &[&str]| [&[parts[0], name], rest].concat().join("/");
    let pattern = match parts.as_slice() {
        ["containers" | "networks" | "exec", id, rest @ ..] if !fixed.contains(id) => with("{id}", rest),
        ["volumes", name, rest @ ..] if !fixed.contains(name) => with("{name}", rest),
        // The name of an image may hold slashes.
        ["images" | "distribution", one] if fixed.contains(one) => parts.join("/"),
        ["images" | "distribution", .., last @ ("json" | "tag" | "push" | "history" | "get")] => with("{name}", &[last]),
        ["images" | "distribution", ..] => with("{name}", &[]),
        _ => parts.join("/"),
    };
    format!("/{pattern}")
}
