//! Connections to an engine that are kept: one with nothing under way takes the next read. To open one takes longer than most reads do.

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bollard::BollardRequest;
use bollard::errors::Error;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{HOST, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// What an engine's client waits for.
pub type Answer = BoxFuture<'static, Result<Response<Incoming>, Error>>;

/// The most connections that are kept; more only while they are needed.
const KEPT: usize = 8;

/// Connections with nothing under way, or with an answer that is still being read; that of the last read is the last.
struct Idle<B>(Mutex<Vec<SendRequest<B>>>);

impl<B: Body + 'static> Idle<B> {
    /// One that a read can be sent on.
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

/// Sends reads over connections that are kept, and each change over one of its own from `dial`.
///
/// An engine that went away may have left a kept connection behind, and what was sent on that is lost: a read is sent again, on a new one, but a
/// change might be made twice. And an engine may answer a change before it has read all of what was sent with it, which then stands before the next call.
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
            let reads = matches!(*request.method(), Method::GET | Method::HEAD);
            if let Some(mut sender) = reads.then(|| idle.take()).flatten() {
                let again = copy(&request);
                if let Ok(answer) = sender.send_request(request).await {
                    idle.put(sender);
                    return Ok(answer);
                }
                request = again;
            }
            // What takes no connection is away, like a socket that is not there.
            let stream = dial().await.map_err(|error| Error::SocketNotFoundError(error.to_string()))?;
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection.with_upgrades());
            let answer = sender.send_request(request).await?;
            if reads {
                idle.put(sender);
            }
            Ok(answer)
        }
        .boxed()
    }
}

/// The same read once more.
fn copy(request: &BollardRequest) -> BollardRequest {
    let mut copy = Request::new(bollard::body_full(Bytes::new()));
    (*copy.method_mut(), *copy.uri_mut(), *copy.headers_mut()) = (request.method().clone(), request.uri().clone(), request.headers().clone());
    copy
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bollard::{API_DEFAULT_VERSION, Docker};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    /// Answers so many calls on a connection, each some time after it came; the next one breaks it.
    async fn serve(mut line: DuplexStream, calls: usize) {
        for call in 0..=calls {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = line.read_u8().await else { return };
                head.push(byte);
            }
            let head = String::from_utf8(head).unwrap();
            assert!(head.contains(" /") && head.contains(" HTTP/1.1\r\n") && head.contains("\r\nhost: docker\r\n"), "{head}");
            if call == calls {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            line.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK").await.unwrap();
        }
    }

    /// A client of an engine that breaks a connection when so many calls were answered on it, and how often it connected.
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
    async fn a_connection_serves_read_after_read_and_another_one_follows_where_it_breaks() {
        let (docker, dialled) = client(3);
        for (call, connections) in [1, 1, 1, 2, 2, 2, 3].into_iter().enumerate() {
            docker.ping().await.unwrap();
            assert_eq!(dialled.load(Ordering::SeqCst), connections, "call {call}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_sent_once_on_a_connection_of_its_own() {
        let (docker, dialled) = client(1);
        let pause = async || docker.pause_container("x").await;
        docker.ping().await.unwrap();
        for connections in 2..4 {
            pause().await.unwrap();
            assert_eq!(dialled.load(Ordering::SeqCst), connections);
        }
        let (docker, dialled) = client(0);
        let broken = docker.pause_container("x").await.unwrap_err();
        assert!(matches!(broken, Error::HyperResponseError { .. }), "{broken}");
        assert_eq!(dialled.load(Ordering::SeqCst), 1);
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
