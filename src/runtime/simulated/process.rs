//! A process in a container: what it does next, what it hears, and what comes in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::files::Files;
use super::shell::{Frame, Node};

/// The signals that Docker knows by name and the simulation by number.
const SIGNALS: [(&str, i32); 14] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ABRT", 6),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("CONT", 18),
    ("STOP", 19),
    ("WINCH", 28),
];
/// Of the signals above, what a process without a handler does not mind.
const HARMLESS: [i32; 2] = [18, 28];

/// A signal's number, from its name, with or without `SIG`, or its number.
pub fn signal(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name).to_owned();
    SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// What a process is waiting for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Nothing: it goes on.
    None,
    /// Its own time.
    Until(Duration),
    /// Input, which it copies to its output, or to that file.
    Input(Option<String>),
    /// A line of input, which is then run: a shell that talks.
    Line,
    /// A signal.
    Forever,
    /// A signal that it has a handler for, in `wait`.
    Background,
}

/// Standard input.
#[derive(Clone, Debug, Default)]
pub struct Stdin {
    /// What came and was not read.
    pub buffer: Vec<u8>,
    /// Whether no more comes.
    pub ended: bool,
    /// How many connections feed it.
    pub attached: u32,
}

/// A process.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its number on the host.
    pub pid: u32,
    /// Its command.
    pub argv: Arc<Vec<String>>,
    /// What comes in.
    pub stdin: Stdin,
    /// What it waits for.
    pub wait: Wait,
    /// Whether it hears no signal but KILL, whatever it is.
    pub deaf: bool,
    /// Whether it is the first process of its container, which hears only what it has a handler for.
    pub first: bool,
    /// The size of its terminal.
    pub terminal: Option<(u16, u16)>,
    pub(super) frames: Vec<Frame>,
    pub(super) status: i64,
    pub(super) variables: BTreeMap<String, String>,
    pub(super) traps: BTreeMap<i32, String>,
    pub(super) pending: Vec<i32>,
    /// Within a pipe or a substitution nothing waits.
    pub(super) hurried: bool,
}

/// What a process has around it.
pub struct Surroundings<'a> {
    /// Time since the engine was made.
    pub elapsed: Duration,
    /// Its files.
    pub files: Files<'a>,
    /// `uid:gid`.
    pub user: String,
    /// Names of containers that it can reach, each with its address.
    pub neighbours: BTreeMap<String, String>,
    /// The limit of its memory; 0: none.
    pub memory: i64,
    /// Its host name.
    pub host_name: String,
    /// Bytes that it sent to others.
    pub sent: u64,
    /// What it wrote: to standard error or not.
    pub output: Vec<(bool, Bytes)>,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself or a signal.
    Code(i64),
    /// By the kernel, for its memory.
    OutOfMemory,
}

impl Process {
    /// A process of that command.
    pub fn new(pid: u32, argv: Arc<Vec<String>>, environment: impl IntoIterator<Item = String>, directory: &str) -> Self {
        let pairs = environment.into_iter().filter_map(|pair| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())));
        let mut variables: BTreeMap<String, String> = pairs.collect();
        variables.entry("PATH".to_owned()).or_insert_with(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
        variables.insert("PWD".to_owned(), if directory.is_empty() { "/".to_owned() } else { directory.to_owned() });
        let words = argv.iter().map(|word| super::shell::Word::literal(word)).collect();
        let frames = vec![Frame::Run(Arc::new(Node::command(words)))];
        Self {
            pid,
            argv,
            stdin: Stdin::default(),
            wait: Wait::None,
            deaf: false,
            first: false,
            terminal: None,
            frames,
            status: 0,
            variables,
            traps: BTreeMap::new(),
            pending: Vec::new(),
            hurried: false,
        }
    }

    /// Gives it a signal; its code where that ends it.
    pub fn hear(&mut self, signal: i32) -> Option<i64> {
        if signal == 9 {
            return Some(137);
        }
        if self.deaf {
            return None;
        }
        match self.traps.get(&signal) {
            Some(handler) if handler.is_empty() => None,
            Some(_) => {
                self.pending.push(signal);
                // A shell hears while it waits, and not while a command of its runs.
                if self.wait == Wait::Background {
                    self.wait = Wait::None;
                    self.status = 128 + i64::from(signal);
                }
                None
            }
            None if HARMLESS.contains(&signal) => None,
            None if self.first && !self.handles(signal) => None,
            None => Some(if self.handles(signal) { 0 } else { 128 + i64::from(signal) }),
        }
    }

    /// Whether the program has a handler of its own, and ends in order.
    fn handles(&self, signal: i32) -> bool {
        let name = self.argv.first().map_or("", |word| word.rsplit('/').next().unwrap_or(word));
        let serves_files = self.argv.get(1..3).is_some_and(|words| words == ["helper", "static"]);
        matches!(signal, 2 | 15) && (serves_files || matches!(name, "nginx" | "postgres" | "redis-server"))
    }

    /// When it goes on by itself.
    pub fn due(&self) -> Option<Duration> {
        match self.wait {
            Wait::Until(due) => Some(due),
            Wait::None | Wait::Input(_) | Wait::Line | Wait::Forever | Wait::Background => None,
        }
    }

    /// Goes on as far as it can; how it ended, if it did.
    pub fn go_on(&mut self, around: &mut Surroundings<'_>) -> Option<End> {
        // A loop that never waits must not stop the simulation: it is taken for one that works.
        for _ in 0..100_000 {
            match &self.wait {
                Wait::None => {}
                Wait::Until(due) if around.elapsed >= *due || self.hurried => {
                    self.wait = Wait::None;
                    self.status = 0;
                }
                Wait::Input(target) => {
                    let bytes = std::mem::take(&mut self.stdin.buffer);
                    if !bytes.is_empty() {
                        match target {
                            None => around.output.push((false, Bytes::from(bytes))),
                            Some(path) => {
                                let mut content = around.files.read(path).unwrap_or_default().to_vec();
                                content.extend_from_slice(&bytes);
                                // The file was made when it was opened.
                                let _ = around.files.write(path, Bytes::from(content));
                            }
                        }
                    }
                    if !self.stdin.ended && !self.hurried {
                        return None;
                    }
                    self.wait = Wait::None;
                    self.status = 0;
                }
                Wait::Line => match self.line(around) {
                    Some(line) => {
                        self.wait = Wait::None;
                        self.frames.push(Frame::Talk);
                        self.frames.push(super::shell::script(&line));
                    }
                    None if self.stdin.ended || self.hurried => self.wait = Wait::None,
                    None => return None,
                },
                Wait::Forever | Wait::Background if self.hurried => self.wait = Wait::None,
                Wait::Until(_) | Wait::Forever | Wait::Background => return None,
            }
            if let Some(signal) = self.pending.pop() {
                let handler = self.traps.get(&signal).cloned().unwrap_or_default();
                self.frames.push(super::shell::script(&handler));
            }
            let Some(frame) = self.frames.pop() else { return Some(End::Code(self.status)) };
            if let Some(end) = self.step(frame, around) {
                return Some(end);
            }
        }
        self.wait = Wait::Forever;
        None
    }

    /// The next line of input; a terminal shows what is typed.
    fn line(&mut self, around: &mut Surroundings<'_>) -> Option<String> {
        let end = self.stdin.buffer.iter().position(|byte| matches!(byte, b'\n' | b'\r')).or_else(|| {
            let rest = self.stdin.ended && !self.stdin.buffer.is_empty();
            rest.then(|| self.stdin.buffer.len() - 1)
        })?;
        let line: Vec<u8> = self.stdin.buffer.drain(..=end).collect();
        if self.terminal.is_some() {
            let shown = String::from_utf8_lossy(&line).trim_end().to_owned();
            around.output.push((false, Bytes::from(format!("{shown}\r\n"))));
        }
        Some(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        assert_eq!((signal("SIGTERM"), signal("kill"), signal("2"), signal("BOGUS"), signal("99")), (Some(15), Some(9), Some(2), None, None));
    }
}
