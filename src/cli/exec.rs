//! `exec`: runs a command in a container, with the user's terminal where asked.

use clap::Args;
use futures::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::signal::unix::{SignalKind, signal};

use super::logs::container;
use super::objects::find;
use super::out::Failure;
use super::terminal::{self, Raw};
use super::{Context, names, out};
use crate::runtime::console::{ExecOptions, Session};

/// `exec`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  dockmaster exec shop -- ls -l
  dockmaster exec -it shop -- sh
  dockmaster exec -c db shop -- psql -c 'select 1'

The exit code is the command's own.")]
pub struct ExecArgs {
    /// KIND/NAME, or NAME of a workspace
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Connect standard input
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// Give it a terminal
    #[arg(short = 't', long)]
    pub tty: bool,
    /// A service instead of the main container
    #[arg(short = 'c', long, value_name = "SERVICE")]
    pub service: Option<String>,
    /// The namespace
    #[arg(short, long, value_name = "NS", default_value = "default")]
    pub namespace: String,
    /// The command and its arguments, behind --
    #[arg(value_name = "CMD", last = true, required = true)]
    pub command: Vec<String>,
}

/// Runs it; the exit code is the command's own.
pub async fn run(context: &mut Context<'_>, arguments: &ExecArgs) -> Result<u8, Failure> {
    let object = names::object(&arguments.name, &arguments.namespace)?;
    let (ledger, views) = context.read_quietly().await?;
    let view = find(&views, &object)?;
    let settings = context.settings(&*ledger).await?;
    let engine = context.adapters.engine(&settings).await?;
    let container = container(&*engine, view, arguments.service.as_deref()).await?;
    if !container.is_active() {
        return Err(Failure::new(format!("{} does not run; `dockmaster start {object}` starts it", object.short())));
    }
    if arguments.tty && arguments.stdin && !terminal::is_terminal() {
        return Err(Failure::new("-t needs a terminal, and standard input is none; leave -t away"));
    }
    let size = arguments.tty.then(terminal::size);
    let options = ExecOptions { argv: arguments.command.clone(), stdin: arguments.stdin, terminal: size };
    let session = engine.exec(&container.id, options).await?;
    // Taken back when it is dropped, whatever happens.
    let raw = if arguments.tty && arguments.stdin { Some(Raw::enter()?) } else { None };
    let code = talk(context, arguments, session).await;
    drop(raw);
    code
}

/// Passes on what is typed and what is said, until the command ends.
async fn talk(context: &mut Context<'_>, arguments: &ExecArgs, session: Session) -> Result<u8, Failure> {
    let Session { mut output, mut input, control } = session;
    let typing = arguments.stdin;
    let typist = tokio::spawn(async move {
        if typing {
            // Either end may close first; neither is an error.
            drop(tokio::io::copy(&mut terminal::input(), &mut input).await);
        }
        drop(input.shutdown().await);
        // The command goes on without input: the connection stays.
        futures::future::pending::<()>().await;
    });
    let mut resized = signal(SignalKind::window_change())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let code = loop {
        tokio::select! {
            chunk = output.next() => match chunk {
                Some(Ok(chunk)) => context.out.bytes(chunk.stderr, &chunk.bytes)?,
                Some(Err(error)) => break Err(error.into()),
                None => break Ok(control.exit_code().await?),
            },
            Some(()) = resized.recv(), if arguments.tty => {
                let (rows, columns) = terminal::size();
                // The command may have just ended.
                drop(control.resize(rows, columns).await);
            }
            Some(()) = interrupted.recv() => break Err(Failure::silent(out::INTERRUPTED)),
        }
    };
    typist.abort();
    // Exit codes of processes are bytes; anything else is the engine's word that it never ran.
    code.map(|code| u8::try_from(code).unwrap_or(out::ERROR))
}
