//! For the command line: a container's log as a stream, and a command in a container with its input, output, size and exit code.

use std::pin::Pin;

use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, ResizeExecOptions, StartExecOptions, StartExecResults};
use bollard::query_parameters::LogsOptions;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use tokio::io::AsyncWrite;

use super::connect::Client;
use super::error::{classify, within};
use crate::runtime::{Error, Refusal};

const CALL: std::time::Duration = std::time::Duration::from_secs(30);

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Whether it came from standard error; with a terminal all is one stream.
    pub stderr: bool,
    /// What.
    pub bytes: Bytes,
}

impl From<LogOutput> for Chunk {
    fn from(output: LogOutput) -> Self {
        let stderr = matches!(output, LogOutput::StdErr { .. });
        Self { stderr, bytes: output.into_bytes() }
    }
}

/// A command that runs in a container.
pub struct Session {
    /// Its standard input; closing it is its end of file.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
    /// Its output, to its end.
    pub output: BoxStream<'static, Result<Chunk, Error>>,
    /// Its terminal's size and its exit code.
    pub exit: Handle,
}

/// The handle of a command in a container.
#[derive(Clone, Debug)]
pub struct Handle {
    client: Client,
    id: String,
}

impl Handle {
    /// Tells the terminal's new size.
    pub async fn resize(&self, width: u16, height: u16) -> Result<(), Error> {
        within(CALL, self.client.docker.resize_exec(&self.id, ResizeExecOptions { width, height })).await
    }

    /// The exit code, once the output has ended.
    ///
    /// # Errors
    /// `Transient` while it still runs.
    pub async fn code(&self) -> Result<i64, Error> {
        let inspect = within(CALL, self.client.docker.inspect_exec(&self.id)).await?;
        inspect.exit_code.filter(|_| inspect.running != Some(true)).ok_or_else(|| Error::Transient("the command has not ended".to_owned()))
    }
}

impl Client {
    /// The log of a container, by name or id: the last `tail` lines, or all; with `follow` also what comes.
    pub fn logs(&self, container: &str, follow: bool, tail: Option<u32>) -> BoxStream<'static, Result<Chunk, Error>> {
        let tail = tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
        let options = LogsOptions { follow, stdout: true, stderr: true, tail, ..Default::default() };
        self.docker.logs(container, Some(options)).map(|chunk| chunk.map(Chunk::from).map_err(classify)).boxed()
    }

    /// Runs a command in a running container, with a terminal or without, and with or without standard input.
    pub async fn exec(&self, container: &str, argv: Vec<String>, tty: bool, stdin: bool) -> Result<Session, Error> {
        let options = CreateExecOptions {
            cmd: Some(argv),
            tty: Some(tty),
            attach_stdin: Some(stdin),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..Default::default()
        };
        let id = within(CALL, self.docker.create_exec(container, options)).await?.id;
        let start = StartExecOptions { detach: false, tty, output_capacity: None };
        match within(CALL, self.docker.start_exec(&id, Some(start))).await? {
            StartExecResults::Attached { output, input } => {
                let output = output.map(|chunk| chunk.map(Chunk::from).map_err(classify)).boxed();
                Ok(Session { input, output, exit: Handle { client: self.clone(), id } })
            }
            StartExecResults::Detached => Err(Error::Rejected { reason: Refusal::Other, message: "the engine did not attach to the command".to_owned() }),
        }
    }
}
