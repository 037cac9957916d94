//! The program inside the helper image: a static file server, volume copies, the one-writer lock and health probes.
//!
//! It is this same executable, called as `dockmaster helper VERB …`, so that the image can be made on any engine without a registry.
//! There is no shell and no other program beside it.

pub mod copy;
pub mod probe;
pub mod serve;

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage:
  helper static --root DIR --port N [--host 0.0.0.0]   serve the files below DIR over HTTP
  helper copy FROM TO [FROM TO]… [--delta]             make TO an exact copy of FROM; --delta trusts what an earlier run copied
  helper lock                                          print `locked`, and end with standard input
  helper probe URL | tcp:HOST:PORT                     exit 0 when it answers, 1 when not";

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
enum Verb {
    Static { root: PathBuf, host: String, port: u16 },
    Copy { pairs: Vec<(PathBuf, PathBuf)>, delta: bool },
    Lock,
    Probe(String),
}

/// Runs the arguments after `helper`. Exit codes: 0 done, 1 failed, 2 wrong usage. It starts a runtime of its own where it needs
/// one, so it must not be called from within another.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let verb = match parse(arguments) {
        Ok(verb) => verb,
        Err(problem) => {
            complain(&format!("{problem}\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    match run(verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            complain(&problem);
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<(), String> {
    match verb {
        Verb::Static { root, host, port } => serve::main(root, &host, port).map_err(|error| error.to_string()),
        Verb::Copy { pairs, delta } => copy_all(&pairs, delta),
        Verb::Lock => lock().map_err(|error| error.to_string()),
        Verb::Probe(target) => probe::probe(&target),
    }
}

/// Holds for as long as somebody keeps standard input open.
fn lock() -> io::Result<()> {
    say("locked")?;
    let mut buffer = [0; 512];
    let mut input = io::stdin().lock();
    while input.read(&mut buffer)? > 0 {}
    Ok(())
}

fn copy_all(pairs: &[(PathBuf, PathBuf)], delta: bool) -> Result<(), String> {
    let mut total = copy::Summary::default();
    for (from, to) in pairs {
        total.add(copy::copy(from, to, delta));
    }
    say(&total.to_string()).map_err(|error| error.to_string())?;
    if total.errors.is_empty() { Ok(()) } else { Err(total.errors.join("\n")) }
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Verb, String> {
    let mut arguments = arguments.into_iter();
    let verb = text(arguments.next().ok_or("a verb is missing")?)?;
    match verb.as_str() {
        "static" => {
            let (mut root, mut host, mut port) = (None, "0.0.0.0".to_owned(), None);
            while let Some(flag) = arguments.next() {
                let mut value = || arguments.next().ok_or(format!("{} needs a value", flag.display()));
                match flag.to_str() {
                    Some("--root") => root = Some(PathBuf::from(value()?)),
                    Some("--host") => host = text(value()?)?,
                    Some("--port") => port = Some(text(value()?)?.parse().map_err(|_| "--port needs a number from 0 to 65535")?),
                    Some(_) | None => return Err(format!("unknown argument `{}`", flag.display())),
                }
            }
            Ok(Verb::Static { root: root.ok_or("--root is missing")?, host, port: port.ok_or("--port is missing")? })
        }
        "copy" => {
            let (flags, paths): (Vec<_>, Vec<_>) = arguments.partition(|argument| argument == "--delta");
            if paths.is_empty() || paths.len() % 2 == 1 {
                return Err("copy needs pairs of FROM and TO".to_owned());
            }
            let pairs = paths.chunks(2).map(|pair| (PathBuf::from(&pair[0]), PathBuf::from(&pair[1]))).collect();
            Ok(Verb::Copy { pairs, delta: !flags.is_empty() })
        }
        "lock" => match arguments.next() {
            None => Ok(Verb::Lock),
            Some(more) => Err(format!("unknown argument `{}`", more.display())),
        },
        "probe" => match (arguments.next(), arguments.next()) {
            (Some(target), None) => Ok(Verb::Probe(text(target)?)),
            (None | Some(_), _) => Err("probe needs one target".to_owned()),
        },
        other => Err(format!("unknown verb `{other}`")),
    }
}

fn text(argument: OsString) -> Result<String, String> {
    argument.into_string().map_err(|argument| format!("`{}` is not UTF-8", argument.display()))
}

/// One line on standard output, at once.
fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// A line on standard error; when that is closed there is nobody to tell.
fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Verb, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn verbs_are_understood() {
        assert_eq!(parsed("static --root /workspace --port 8080"), Ok(Verb::Static { root: "/workspace".into(), host: "0.0.0.0".into(), port: 8080 }));
        assert_eq!(parsed("static --port 1 --host ::1 --root x"), Ok(Verb::Static { root: "x".into(), host: "::1".into(), port: 1 }));
        let pairs = vec![("a".into(), "b".into()), ("c".into(), "d".into())];
        assert_eq!(parsed("copy a b c d --delta"), Ok(Verb::Copy { pairs, delta: true }));
        assert_eq!(parsed("copy a b"), Ok(Verb::Copy { pairs: vec![("a".into(), "b".into())], delta: false }));
        assert_eq!(parsed("lock"), Ok(Verb::Lock));
        assert_eq!(parsed("probe tcp:db:5432"), Ok(Verb::Probe("tcp:db:5432".into())));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, problem) in [
            ("", "a verb is missing"),
            ("serve", "unknown verb `serve`"),
            ("static --port 80", "--root is missing"),
            ("static --root", "--root needs a value"),
            ("static --root . --port http", "--port needs a number from 0 to 65535"),
            ("static --root . --port 80 -v", "unknown argument `-v`"),
            ("copy a", "copy needs pairs of FROM and TO"),
            ("lock now", "unknown argument `now`"),
            ("probe", "probe needs one target"),
            ("probe a b", "probe needs one target"),
        ] {
            assert_eq!(parsed(line), Err(problem.to_owned()), "{line}");
        }
    }
}
