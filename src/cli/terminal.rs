//! The user's terminal: questions, its size, and raw input for `exec -it`.

use std::io::{self, IsTerminal};

use rustix::termios::{self, OptionalActions, Termios};

use super::Context;
use super::out::Failure;

/// Whether standard input is a terminal.
pub fn is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Asks a question that only `y` or `yes` affirms; where nobody can be asked, says to use --yes.
pub async fn confirm(context: &mut Context<'_>, question: &str) -> Result<bool, Failure> {
    if !is_terminal() {
        return Err(Failure::new(format!("{question} Nobody can be asked here; say --yes")));
    }
    context.out.note(format_args!("{question} [y/N]"))?;
    let (sender, receiver) = tokio::sync::oneshot::channel();
    // A thread of its own, so that an interrupt ends the question.
    std::thread::spawn(move || {
        let mut answer = String::new();
        let read = io::stdin().read_line(&mut answer).map(|_| answer);
        // Nobody waits any more after an interrupt.
        drop(sender.send(read));
    });
    let answer = receiver.await??;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Rows and columns; 24 and 80 where they are not known.
pub fn size() -> (u16, u16) {
    match termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row, size.ws_col),
        Ok(_) | Err(_) => (24, 80),
    }
}

/// Standard input as a stream of bytes.
///
/// A thread reads it, because reading a terminal cannot be taken back; it ends with the process.
pub fn input() -> impl tokio::io::AsyncRead + Unpin {
    let (sender, receiver) = tokio::sync::mpsc::channel::<io::Result<bytes::Bytes>>(1);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            let read = match io::Read::read(&mut io::stdin(), &mut buffer) {
                Ok(0) => return,
                Ok(length) => Ok(bytes::Bytes::copy_from_slice(&buffer[..length])),
                Err(error) => Err(error),
            };
            if sender.blocking_send(read).is_err() {
                return;
            }
        }
    });
    tokio_util::io::StreamReader::new(tokio_stream::wrappers::ReceiverStream::new(receiver))
}

/// The terminal passes on every key as it is, Ctrl-C too, until this is dropped.
pub struct Raw(Termios);

impl Raw {
    /// Makes it raw.
    pub fn enter() -> io::Result<Self> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no care.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}
