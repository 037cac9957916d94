//! The one way out: what verbs print, what they note beside it, and how they fail.

use std::fmt::{self, Display};
use std::io::{self, Write};

use anstream::{AutoStream, ColorChoice};

use crate::http::control::ControlError;

/// Done.
pub const DONE: u8 = 0;
/// An error, wrong usage, not found, out of time.
pub const ERROR: u8 = 1;
/// `plan` found something to do.
pub const CHANGES: u8 = 2;
/// The operator or the engine does not answer.
pub const UNREACHABLE: u8 = 3;
/// Interrupted by the user.
pub const INTERRUPTED: u8 = 130;

/// Standard output and standard error of a verb. Results go to the first, words about them to the second, so that pipes get results alone.
/// Colours are taken out where nobody would see them (`NO_COLOR`, not a terminal).
pub struct Out {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    colours: bool,
    err_colours: bool,
}

impl Out {
    /// Those of the process.
    pub fn of_process() -> Self {
        let colours = AutoStream::choice(&io::stdout()) != ColorChoice::Never;
        let err_colours = AutoStream::choice(&io::stderr()) != ColorChoice::Never;
        Self { out: Box::new(io::stdout()), err: Box::new(io::stderr()), colours, err_colours }
    }

    /// Others, without colours.
    pub fn to(out: impl Write + Send + 'static, err: impl Write + Send + 'static) -> Self {
        Self { out: Box::new(out), err: Box::new(err), colours: false, err_colours: false }
    }

    /// Prints a line of the result.
    pub fn line(&mut self, text: impl Display) -> io::Result<()> {
        self.text(format_args!("{text}\n"))
    }

    /// Prints a part of the result.
    pub fn text(&mut self, text: impl Display) -> io::Result<()> {
        write_text(&mut self.out, self.colours, text)
    }

    /// Prints a line about the result.
    pub fn note(&mut self, text: impl Display) -> io::Result<()> {
        write_text(&mut self.err, self.err_colours, format_args!("{text}\n"))
    }

    /// Passes on bytes as they are.
    pub fn bytes(&mut self, stderr: bool, bytes: &[u8]) -> io::Result<()> {
        let to = if stderr { &mut self.err } else { &mut self.out };
        to.write_all(bytes)?;
        to.flush()
    }
}

fn write_text(to: &mut dyn Write, colours: bool, text: impl Display) -> io::Result<()> {
    let text = text.to_string();
    if colours {
        to.write_all(text.as_bytes())?;
    } else {
        write!(to, "{}", anstream::adapter::strip_str(&text))?;
    }
    to.flush()
}

/// A verb that ended early: with which exit code, and what is printed.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// For people; empty: nothing is printed.
    pub message: String,
}

impl Failure {
    /// An error.
    pub fn new(message: impl Display) -> Self {
        Self { code: ERROR, message: message.to_string() }
    }

    /// The operator or the engine does not answer.
    pub fn unreachable(message: impl Display) -> Self {
        Self { code: UNREACHABLE, message: message.to_string() }
    }

    /// An end without words.
    pub fn silent(code: u8) -> Self {
        Self { code, message: String::new() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Any error: its words and those of its causes. Two are more than that: a reader that went away is no error, and nobody on the control
/// socket is an exit code of its own.
impl<E: std::error::Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let any: &(dyn std::error::Error + 'static) = &error;
        if any.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            return Self::silent(DONE);
        }
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(next) = cause {
            message = format!("{message}: {next}");
            cause = next.source();
        }
        let code = if matches!(any.downcast_ref(), Some(ControlError::NotRunning)) { UNREACHABLE } else { ERROR };
        Self { code, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_their_causes_and_a_closed_pipe_is_none() {
        let error = ControlError::Io { path: "/x".into(), source: io::Error::other("bad luck") };
        let failure = Failure::from(error);
        assert_eq!((failure.code, failure.message.as_str()), (ERROR, "the control socket /x cannot be used: bad luck"));
        assert_eq!(Failure::from(ControlError::NotRunning).code, UNREACHABLE);
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).code, DONE);
    }
}
