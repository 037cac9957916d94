//! Connections to an engine that are kept: one with nothing under way takes the next call. To open one takes longer than most calls do.

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bollard::BollardRequest;
use bollard::errors::Error;
use futures::FutureExt;
use futures::future::BoxFuture;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{HOST, HeaderValue};
use hyper::{Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// What an engine's client waits for.
pub type Answer = BoxFuture<'static, Result<Response<Incoming>, Error>>;

/// The most connections that are kept; more only while they are needed.
const KEPT: usize = 8;

/// Connections with nothing under way, or with an answer that is still being read; that of the last call is the last.
struct Idle<B>(Mutex<Vec<SendRequest<B>>>);

impl<B: Body + 'static> Idle<B> {
    /// One that a call can be sent on.
    fn take(&self) -> Option<SendRequest<B>> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|sender| !sender.is_closed());
        let ready = idle.iter().rposition(SendRequest::is_ready)?;
        Some(idle.remove(ready))
    }

    fn put(&self, sender: SendRequest<B>) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(sender);
        if idle.len() > KEPT {
            idle.remove(0);
        }
    }
}

/// Sends each call over a connection from `dial`, and keeps that for the next ones.
///
/// A call is sent once: another connection is tried only where nothing of it was sent.
pub fn kept<S, D>(dial: impl Fn() -> D + Clone + Send + Sync + 'static) -> impl Fn(BollardRequest) -> Answer + Send + Sync
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    D: Future<Output = io::Result<S>> + Send + 'static,
{
    let idle = Arc::new(Idle(Mutex::default()));
    move |mut request| {
        let (idle, dial) = (idle.clone(), dial.clone());
        // As on the wire: no more than the path, and a host, which HTTP/1.1 asks for.
        if let Some(path) = request.uri().path_and_query() {
            *request.uri_mut() = Uri::from(path.clone());
        }
        request.headers_mut().entry(HOST).or_insert(HeaderValue::from_static("docker"));
        async move {
            while let Some(mut sender) = idle.take() {
                match sender.try_send_request(request).await {
                    Ok(answer) => {
                        idle.put(sender);
                        return Ok(answer);
                    }
                    // The connection was closed meanwhile.
                    Err(mut failed) => request = failed.take_message().ok_or_else(|| failed.into_error())?,
                }
            }
            // What takes no connection is away, like a socket that is not there.
            let stream = dial().await.map_err(|error| Error::SocketNotFoundError(error.to_string()))?;
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection.with_upgrades());
            let answer = sender.send_request(request).await?;
            idle.put(sender);
            Ok(answer)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bollard::{API_DEFAULT_VERSION, Docker};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    /// Answers so many calls on a connection, each some time after it came, and closes it.
    async fn serve(mut line: DuplexStream, calls: usize) {
        for _ in 0..calls {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = line.read_u8().await else { return };
                head.push(byte);
            }
            let head = String::from_utf8(head).unwrap();
            assert!(head.starts_with("GET /_ping HTTP/1.1\r\n") && head.contains("\r\nhost: docker\r\n"), "{head}");
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            line.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK").await.unwrap();
        }
    }

    /// A client of an engine that closes a connection after so many calls, and how often it connected.
    fn client(calls: usize) -> (Docker, Arc<AtomicUsize>) {
        let dialled = Arc::<AtomicUsize>::default();
        let count = dialled.clone();
        let dial = move || {
            count.fetch_add(1, Ordering::SeqCst);
            let (near, far) = tokio::io::duplex(1 << 10);
            tokio::spawn(serve(far, calls));
            std::future::ready(Ok(near))
        };
        (Docker::connect_with_custom_transport(kept(dial), Some("http://engine"), 10, API_DEFAULT_VERSION).unwrap(), dialled)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_serves_call_after_call_and_another_one_follows_where_it_was_closed() {
        let (docker, dialled) = client(3);
        for (call, connections) in [1, 1, 1, 2, 2, 2, 3].into_iter().enumerate() {
            docker.ping().await.unwrap();
            assert_eq!(dialled.load(Ordering::SeqCst), connections, "call {call}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn calls_at_once_have_a_connection_each_and_some_of_these_are_kept() {
        let (docker, dialled) = client(usize::MAX);
        for connections in [12, 12 + 12 - KEPT] {
            futures::future::try_join_all((0..12).map(|_| docker.ping())).await.unwrap();
            assert_eq!(dialled.load(Ordering::SeqCst), connections);
        }
    }
}
