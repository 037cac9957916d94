//! The way to the engine. A connection that has nothing under way takes the next call.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bollard::BollardRequest;
use bollard::errors::Error;
use futures::FutureExt;
use futures::future::BoxFuture;
use hyper::Response;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use super::gate::Gate;

/// Connections with nothing under way, or with an answer that is still being read.
type Idle<B> = Arc<Mutex<Vec<SendRequest<B>>>>;

/// Takes calls over connections from `dial`, which are kept.
pub fn kept(
    dial: impl Fn() -> io::Result<Line> + Clone + Send + Sync + 'static,
) -> impl Fn(BollardRequest) -> BoxFuture<'static, Result<Response<Incoming>, Error>> + Send + Sync {
    let idle = Idle::default();
    move |mut request| {
        let (idle, dial) = (idle.clone(), dial.clone());
        async move {
            while let Some(mut sender) = take_ready(&idle) {
                match sender.try_send_request(request).await {
                    Ok(answer) => {
                        idle.lock().unwrap().push(sender);
                        return Ok(answer);
                    }
                    // The connection was closed meanwhile, and nothing was sent.
                    Err(mut failed) => request = failed.take_message().ok_or_else(|| failed.into_error())?,
                }
            }
            // What takes no connection is away, like a socket that is not there.
            let stream = dial().map_err(|error| Error::SocketNotFoundError(error.to_string()))?;
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection.with_upgrades());
            let answer = sender.send_request(request).await?;
            idle.lock().unwrap().push(sender);
            Ok(answer)
        }
        .boxed()
    }
}

fn take_ready<B>(idle: &Idle<B>) -> Option<SendRequest<B>> {
    let mut idle = idle.lock().unwrap();
    idle.retain(|sender| !sender.is_closed());
    let ready = idle.iter().rposition(SendRequest::is_ready)?;
    Some(idle.swap_remove(ready))
}

/// A connection of one life. When that is over, nothing more is sent, and no answer ever comes.
pub struct Line {
    pub stream: DuplexStream,
    pub gate: Gate,
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.gate.is_closed() {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.gate.is_closed() {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
