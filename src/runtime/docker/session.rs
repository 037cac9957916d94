//! For the command line: a container's log as a stream, and a command in a container with its input, output, size and exit code.

use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, ResizeExecOptions, StartExecOptions, StartExecResults};
use bollard::query_parameters::LogsOptions;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt};

use super::DockerRuntime;
use super::connect::Client;
use super::error::{classify, within};
use crate::observed::ContainerId;
use crate::runtime::console::{Chunk, Console, ExecOptions, LogOptions, Session, SessionControl};
use crate::runtime::{Error, Refusal};

const CALL: std::time::Duration = std::time::Duration::from_secs(30);

fn chunk(output: LogOutput) -> Chunk {
    let stderr = matches!(output, LogOutput::StdErr { .. });
    Chunk { stderr, bytes: output.into_bytes() }
}

/// The handle of a command in a container.
#[derive(Clone, Debug)]
struct Handle {
    client: Client,
    id: String,
}

impl SessionControl for Handle {
    fn resize(&self, rows: u16, columns: u16) -> BoxFuture<'_, Result<(), Error>> {
        let options = ResizeExecOptions { width: columns, height: rows };
        Box::pin(within(CALL, self.client.docker.resize_exec(&self.id, options)))
    }

    fn exit_code(&self) -> BoxFuture<'_, Result<i64, Error>> {
        Box::pin(async {
            let inspect = within(CALL, self.client.docker.inspect_exec(&self.id)).await?;
            inspect.exit_code.filter(|_| inspect.running != Some(true)).ok_or_else(|| Error::Transient("the command has not ended".to_owned()))
        })
    }
}

impl Console for DockerRuntime {
    fn logs<'a>(&'a self, container: &'a ContainerId, options: LogOptions) -> BoxFuture<'a, Result<BoxStream<'static, Result<Chunk, Error>>, Error>> {
        Box::pin(async move { Ok(self.client().logs(&container.0, options)) })
    }

    fn exec<'a>(&'a self, container: &'a ContainerId, options: ExecOptions) -> BoxFuture<'a, Result<Session, Error>> {
        Box::pin(self.client().exec(&container.0, options))
    }
}

impl Client {
    /// The log of a container, by name or id.
    pub fn logs(&self, container: &str, options: LogOptions) -> BoxStream<'static, Result<Chunk, Error>> {
        let tail = options.tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
        let options = LogsOptions { follow: options.follow, stdout: true, stderr: true, tail, ..Default::default() };
        self.docker.logs(container, Some(options)).map(|output| output.map(chunk).map_err(classify)).boxed()
    }

    /// Runs a command in a running container. Its exit code is `Transient` while it runs.
    pub async fn exec(&self, container: &str, options: ExecOptions) -> Result<Session, Error> {
        let terminal = options.terminal;
        let id = self.create_exec(container, options).await?;
        self.start_exec(&id, terminal).await
    }

    /// Makes a command ready in a running container; gives its id. Until it is started, nothing happens.
    pub async fn create_exec(&self, container: &str, options: ExecOptions) -> Result<String, Error> {
        let create = CreateExecOptions {
            cmd: Some(options.argv),
            tty: Some(options.terminal.is_some()),
            attach_stdin: Some(options.stdin),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..Default::default()
        };
        Ok(within(CALL, self.docker.create_exec(container, create)).await?.id)
    }

    /// Starts such a command.
    pub async fn start_exec(&self, id: &str, terminal: Option<(u16, u16)>) -> Result<Session, Error> {
        let start = StartExecOptions { detach: false, tty: terminal.is_some(), output_capacity: None };
        match within(CALL, self.docker.start_exec(id, Some(start))).await? {
            StartExecResults::Attached { output, input } => {
                let control = Box::new(Handle { client: self.clone(), id: id.to_owned() });
                if let Some((rows, columns)) = terminal {
                    // It may have ended already.
                    drop(control.resize(rows, columns).await);
                }
                let output = output.map(|output| output.map(chunk).map_err(classify)).boxed();
                Ok(Session { input, output, control })
            }
            StartExecResults::Detached => Err(Error::Rejected { reason: Refusal::Other, message: "the engine did not attach to the command".to_owned() }),
        }
    }
}
