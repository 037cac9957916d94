//! A command in a container, run to its end: a hook, a health test, an idle check. It goes on in the container whatever becomes of the connection,
//! so that a call that breaks is no answer: what became of the command is then asked of the engine.

use std::time::Duration;

use futures::stream::StreamExt;

use super::connect::Client;
use super::error::within;
use crate::observed::{ContainerId, TaskResult};
use crate::runtime::Error;
use crate::runtime::console::ExecOptions;

/// How much of the output is kept.
const OUTPUT: usize = 4096;
/// The limit of a quick call.
const CALL: Duration = Duration::from_secs(30);
/// Between two questions for the same.
const AGAIN: Duration = Duration::from_secs(1);
/// How often a command is tried that the engine did not begin.
const ATTEMPTS: u32 = 5;

/// Runs it; its exit code and the end of its output.
///
/// # Errors
/// In words: the engine refuses it, does not begin it, or it does not end within the limit.
pub async fn run(client: &Client, id: &ContainerId, argv: Vec<String>, limit: Duration) -> Result<TaskResult, String> {
    let mut output = Vec::new();
    match tokio::time::timeout(limit, ended(client, id, argv, &mut output)).await {
        // Docker has no call that ends a command: it goes on in the container until it ends itself.
        Err(_) => Err(format!("no end within {} s; it may still run in the container", limit.as_secs())),
        Ok(code) => Ok(TaskResult::Exit { code: code?, output: String::from_utf8_lossy(&output).into_owned() }),
    }
}

/// Makes it, starts it, and waits for its end.
async fn ended(client: &Client, id: &ContainerId, argv: Vec<String>, output: &mut Vec<u8>) -> Result<i64, String> {
    let mut attempts = Attempts::default();
    let command = loop {
        // One that was made and never started does nothing, so that a lost reply costs nothing.
        match client.create_exec(&id.0, ExecOptions { argv: argv.clone(), ..ExecOptions::default() }).await {
            Ok(command) => break command,
            Err(error) => attempts.another(error).await?,
        }
    };
    loop {
        let failed = match client.start_exec(&command, None).await {
            Ok(mut session) => {
                while let Some(Ok(chunk)) = session.output.next().await {
                    output.extend_from_slice(&chunk.bytes);
                    output.drain(..output.len().saturating_sub(OUTPUT));
                }
                None
            }
            Err(error) => Some(error),
        };
        match (outcome(client, &command).await?, failed) {
            // A program that is not there: the engine's words say more than the code that it gives.
            (Some(_), Some(error @ Error::Rejected { .. })) => return Err(error.to_string()),
            (Some(code), _) => return Ok(code),
            (None, failed) => attempts.another(failed.unwrap_or_else(|| Error::Transient("the engine did not begin the command".to_owned()))).await?,
        }
    }
}

/// The exit code, when it has ended; `None`: it was never started.
async fn outcome(client: &Client, command: &str) -> Result<Option<i64>, String> {
    let mut attempts = Attempts::default();
    loop {
        match within(CALL, client.docker.inspect_exec(command)).await {
            Ok(inspect) if inspect.running == Some(true) => {}
            Ok(inspect) => return Ok(inspect.exit_code),
            // What it came to is known to the engine all the same.
            Err(error @ Error::Rejected { .. }) => attempts.another(error).await?,
            Err(error) if is_over(&error) => return Err(error.to_string()),
            Err(_) => {}
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Whether the container does not run any more, or is gone, and its commands with it.
fn is_over(error: &Error) -> bool {
    let text = error.to_string().to_ascii_lowercase();
    ["is not running", "no such container", "no such exec"].into_iter().any(|words| text.contains(words))
}

/// Counts what was tried in vain.
#[derive(Default)]
struct Attempts(u32);

impl Attempts {
    /// Waits for the next one; an error where there is none.
    async fn another(&mut self, error: Error) -> Result<(), String> {
        self.0 += 1;
        if self.0 >= ATTEMPTS || is_over(&error) {
            return Err(error.to_string());
        }
        tokio::time::sleep(AGAIN).await;
        Ok(())
    }
}
