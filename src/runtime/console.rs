//! The port to what people do inside a container: read what it says, run a command in it. The engine's adapter implements it.

use std::pin::Pin;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::io::AsyncWrite;

use super::Error;
use crate::observed::ContainerId;

/// Reads and runs inside containers. Nothing here changes what is reconciled.
pub trait Console: Send + Sync {
    /// The log of a container; ends at its end, or never with `follow`.
    fn logs<'a>(&'a self, container: &'a ContainerId, options: LogOptions) -> BoxFuture<'a, Result<BoxStream<'static, Result<Chunk, Error>>, Error>>;
    /// Runs a command in a running container.
    fn exec<'a>(&'a self, container: &'a ContainerId, options: ExecOptions) -> BoxFuture<'a, Result<Session, Error>>;
}

/// Which part of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Whether to go on with what comes.
    pub follow: bool,
    /// Only so many of the last lines.
    pub tail: Option<u64>,
}

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Whether it was written to standard error; with a terminal there is only one stream.
    pub stderr: bool,
    /// What.
    pub bytes: Bytes,
}

/// What to run, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOptions {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Whether its standard input is connected.
    pub stdin: bool,
    /// Rows and columns of the terminal that it gets; `None`: no terminal.
    pub terminal: Option<(u16, u16)>,
}

/// A command under way.
pub struct Session {
    /// What it writes; ends when it ends.
    pub output: BoxStream<'static, Result<Chunk, Error>>,
    /// Its standard input; shutting it down is its end of file.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
    /// The rest.
    pub control: Box<dyn SessionControl>,
}

/// What can be done to a command under way, besides talking to it.
pub trait SessionControl: Send + Sync {
    /// Its terminal has other rows and columns now.
    fn resize(&self, rows: u16, columns: u16) -> BoxFuture<'_, Result<(), Error>>;
    /// Its exit code; to be asked for when `output` has ended.
    fn exit_code(&self) -> BoxFuture<'_, Result<i64, Error>>;
}
