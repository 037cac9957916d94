//! A small shell: enough of `sh -c` for the scripts of tests, hooks and health checks.
//!
//! Lists, `&&`, `||`, `!`, pipes, `if`, `while`, `until`, `for`, groups, quotes, variables, command substitution and redirection. A script
//! that is not understood fails as a real one would, with a syntax error.

use std::sync::Arc;

use bytes::Bytes;

use super::process::{End, Process, Surroundings, Wait};
use super::programs::{self, Effect};
use super::script::parse;

/// Part of a script.
#[derive(Clone, Debug)]
pub enum Node {
    /// A program with its arguments.
    Command(Vec<Word>, Vec<Redirect>),
    /// One after the other.
    List(Vec<Arc<Node>>),
    /// The second where the first succeeds, or where it does not.
    Then(Arc<Node>, bool, Arc<Node>),
    /// The opposite.
    Not(Arc<Node>),
    /// Each with the output of the one before.
    Pipe(Vec<Arc<Node>>),
    /// Condition, body, else.
    If(Arc<Node>, Arc<Node>, Option<Arc<Node>>),
    /// While the condition succeeds, or until it does.
    Loop(bool, Arc<Node>, Arc<Node>),
    /// For each word.
    For(String, Vec<Word>, Arc<Node>),
    /// Not waited for.
    Background(Arc<Node>),
    /// Not a script.
    Broken(String),
}

impl Node {
    /// A program.
    pub fn command(words: Vec<Word>) -> Self {
        Self::Command(words, Vec::new())
    }
}

/// A word before it is expanded.
#[derive(Clone, Debug, Default)]
pub struct Word(pub(super) Vec<Piece>);

/// Part of a word.
#[derive(Clone, Debug)]
pub enum Piece {
    /// As it stands.
    Text(String),
    /// A variable, and whether within quotes.
    Variable(String, bool),
    /// The output of a script, and whether within quotes.
    Output(String, bool),
}

impl Word {
    /// A word that stands for itself.
    pub fn literal(text: &str) -> Self {
        Self(vec![Piece::Text(text.to_owned())])
    }

    /// The word, where it stands for itself.
    pub fn plain(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }
}

/// Where output goes.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// Of standard error.
    pub stderr: bool,
    /// Behind what is there.
    pub append: bool,
    /// Where input comes from instead.
    pub input: bool,
    /// The file, or `&1`, `&2`.
    pub to: Word,
}

/// What is left to do.
#[derive(Clone, Debug)]
pub enum Frame {
    /// This.
    Run(Arc<Node>),
    /// The rest of a list.
    Rest(Arc<Node>, usize),
    /// That, by the status.
    Decide(bool, Arc<Node>),
    /// Turn the status round.
    Negate,
    /// Begin the body, by the status.
    Branch(Arc<Node>),
    /// Test a loop's condition.
    Test(Arc<Node>),
    /// A loop's body, by the status.
    Body(Arc<Node>),
    /// The next word of a `for`.
    Each(Arc<Node>, Vec<String>),
    /// Read the next command from the input.
    Talk,
}

/// A script to run.
pub fn script(text: &str) -> Frame {
    Frame::Run(Arc::new(parse(text)))
}

impl Process {
    /// Does one thing.
    pub(super) fn step(&mut self, frame: Frame, around: &mut Surroundings<'_>) -> Option<End> {
        match frame {
            Frame::Run(node) => return self.run(&node, around),
            Frame::Rest(list, at) => {
                if let Node::List(nodes) = &*list
                    && let Some(node) = nodes.get(at)
                {
                    self.frames.push(Frame::Rest(list.clone(), at + 1));
                    return self.run(node, around);
                }
            }
            Frame::Decide(on_success, node) if (self.status == 0) == on_success => return self.run(&node, around),
            Frame::Decide(..) => {}
            Frame::Negate => self.status = i64::from(self.status == 0),
            Frame::Branch(node) => {
                if let Node::If(_, body, otherwise) = &*node {
                    match (self.status, otherwise) {
                        (0, _) => return self.run(body, around),
                        (_, Some(otherwise)) => return self.run(otherwise, around),
                        (_, None) => self.status = 0,
                    }
                }
            }
            Frame::Test(node) => {
                if let Node::Loop(_, condition, _) = &*node {
                    self.frames.push(Frame::Body(node.clone()));
                    return self.run(condition, around);
                }
            }
            Frame::Body(node) => {
                if let Node::Loop(wanted, _, body) = &*node {
                    if (self.status == 0) == *wanted {
                        self.frames.push(Frame::Test(node.clone()));
                        return self.run(body, around);
                    }
                    self.status = 0;
                }
            }
            Frame::Each(node, mut words) => {
                if let Node::For(name, _, body) = &*node
                    && !words.is_empty()
                {
                    self.variables.insert(name.clone(), words.remove(0));
                    self.frames.push(Frame::Each(node.clone(), words));
                    return self.run(body, around);
                }
            }
            Frame::Talk => self.wait = Wait::Line,
        }
        None
    }

    fn run(&mut self, node: &Arc<Node>, around: &mut Surroundings<'_>) -> Option<End> {
        match &**node {
            Node::Command(words, redirects) => return self.command(words, redirects, around),
            Node::List(_) => self.frames.push(Frame::Rest(node.clone(), 0)),
            Node::Then(first, on_success, second) => {
                self.frames.push(Frame::Decide(*on_success, second.clone()));
                self.frames.push(Frame::Run(first.clone()));
            }
            Node::Not(inner) => {
                self.frames.push(Frame::Negate);
                self.frames.push(Frame::Run(inner.clone()));
            }
            Node::Pipe(stages) => {
                let mut input = std::mem::take(&mut self.stdin.buffer);
                for (at, stage) in stages.iter().enumerate() {
                    let (output, status) = self.apart(Frame::Run(stage.clone()), input, around);
                    self.status = status;
                    input = Vec::new();
                    for (stderr, bytes) in output {
                        if stderr || at + 1 == stages.len() { around.output.push((stderr, bytes)) } else { input.extend_from_slice(&bytes) }
                    }
                }
            }
            Node::If(condition, ..) => {
                self.frames.push(Frame::Branch(node.clone()));
                self.frames.push(Frame::Run(condition.clone()));
            }
            Node::Loop(..) => self.frames.push(Frame::Test(node.clone())),
            Node::For(_, words, _) => {
                let words = words.iter().flat_map(|word| self.expand(word, around)).collect();
                self.frames.push(Frame::Each(node.clone(), words));
            }
            // What goes on in the background is not followed.
            Node::Background(_) => self.status = 0,
            Node::Broken(problem) => {
                around.output.push((true, Bytes::from(format!("sh: syntax error: {problem}\n"))));
                self.frames.clear();
                self.status = 2;
            }
        }
        None
    }

    /// Runs something beside, with that input, and to its end.
    fn apart(&mut self, frame: Frame, input: Vec<u8>, around: &mut Surroundings<'_>) -> (Vec<(bool, Bytes)>, i64) {
        let mut beside = self.clone();
        beside.frames = vec![frame];
        beside.stdin.buffer = input;
        beside.stdin.ended = true;
        beside.hurried = true;
        beside.pending.clear();
        let before = std::mem::take(&mut around.output);
        let end = beside.go_on(around);
        let output = std::mem::replace(&mut around.output, before);
        let status = match end {
            Some(End::Code(code)) => code,
            Some(End::OutOfMemory) => 137,
            None => 0,
        };
        (output, status)
    }

    fn command(&mut self, words: &[Word], redirects: &[Redirect], around: &mut Surroundings<'_>) -> Option<End> {
        let mut words = words;
        while let Some((name, value)) = words.first().and_then(|word| self.assignment(word, around)) {
            self.variables.insert(name, value);
            words = &words[1..];
            self.status = 0;
        }
        let argv: Vec<String> = words.iter().flat_map(|word| self.expand(word, around)).collect();
        let mut targets: [Option<String>; 2] = [None, None];
        let mut swapped = false;
        let mut joined = false;
        for redirect in redirects {
            let to = self.expand(&redirect.to, around).join(" ");
            if redirect.input {
                self.stdin.buffer = around.files.read(&self.path(&to)).unwrap_or_default().to_vec();
                continue;
            }
            match (to.as_str(), redirect.stderr) {
                ("&1", true) => joined = true,
                ("&2", false) => swapped = true,
                _ => {
                    let path = self.path(&to);
                    let made = if redirect.append {
                        around.files.read(&path).map(drop).or_else(|_| around.files.write(&path, Bytes::new()))
                    } else {
                        around.files.write(&path, Bytes::new())
                    };
                    if let Err(problem) = made {
                        around.output.push((true, Bytes::from(format!("sh: can't create {to}: {problem}\n"))));
                        self.status = 1;
                        return None;
                    }
                    targets[usize::from(redirect.stderr)] = Some(path);
                }
            }
        }
        if argv.is_empty() {
            return None;
        }
        let before = std::mem::take(&mut around.output);
        let effect = programs::run(self, &argv, around);
        let output = std::mem::replace(&mut around.output, before);
        for (stderr, bytes) in output {
            let stderr = (stderr && !joined) || (!stderr && swapped);
            match &targets[usize::from(stderr)] {
                Some(path) => {
                    let mut content = around.files.read(path).unwrap_or_default().to_vec();
                    content.extend_from_slice(&bytes);
                    // It was made just now.
                    let _ = around.files.write(path, Bytes::from(content));
                }
                None => around.output.push((stderr, bytes)),
            }
        }
        match effect {
            Effect::Done(code) => self.status = code,
            Effect::Exit(code) => {
                self.frames.clear();
                self.status = code;
            }
            Effect::Sleep(time) => self.wait = Wait::Until(around.elapsed + time),
            Effect::Forever => self.wait = Wait::Forever,
            Effect::Background => self.wait = Wait::Background,
            Effect::Input => self.wait = Wait::Input(targets[0].take()),
            Effect::Script(text) => self.frames.push(script(&text)),
            Effect::Talk => self.frames.push(Frame::Talk),
            Effect::Break => {
                while let Some(frame) = self.frames.pop() {
                    if matches!(frame, Frame::Test(_) | Frame::Each(..)) {
                        break;
                    }
                }
                self.status = 0;
            }
            Effect::Out => return Some(End::OutOfMemory),
        }
        None
    }

    /// An absolute path.
    pub(super) fn path(&self, path: &str) -> String {
        if path.starts_with('/') {
            return path.to_owned();
        }
        let directory = self.variables.get("PWD").map_or("/", String::as_str);
        format!("{}/{}", directory.trim_end_matches('/'), path.trim_start_matches("./"))
    }

    fn assignment(&mut self, word: &Word, around: &mut Surroundings<'_>) -> Option<(String, String)> {
        let Some(Piece::Text(text)) = word.0.first() else { return None };
        let (name, value) = text.split_once('=')?;
        let is_name = !name.is_empty()
            && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
            && !name.starts_with(|letter: char| letter.is_ascii_digit());
        if !is_name || self.frames.is_empty() && self.argv.first().is_some_and(|first| first == text) {
            return None;
        }
        let mut rest = word.clone();
        rest.0[0] = Piece::Text(value.to_owned());
        Some((name.to_owned(), self.expand(&rest, around).join(" ")))
    }

    /// The words that a word stands for.
    fn expand(&mut self, word: &Word, around: &mut Surroundings<'_>) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        let mut open: Option<String> = None;
        for piece in &word.0 {
            let (text, quoted) = match piece {
                Piece::Text(text) => (text.clone(), true),
                Piece::Variable(name, quoted) => (self.variable(name), *quoted),
                Piece::Output(command, quoted) => {
                    let (output, status) = self.apart(script(command), Vec::new(), around);
                    self.status = status;
                    let bytes: Vec<u8> = output.iter().filter(|(stderr, _)| !stderr).flat_map(|(_, bytes)| bytes.to_vec()).collect();
                    (String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned(), *quoted)
                }
            };
            if quoted {
                open.get_or_insert_default().push_str(&text);
                continue;
            }
            let mut parts = text.split_whitespace();
            if let Some(first) = parts.next() {
                open.get_or_insert_default().push_str(first);
            }
            for part in parts {
                words.extend(open.replace(part.to_owned()));
            }
        }
        words.extend(open);
        words
    }

    fn variable(&self, name: &str) -> String {
        match name {
            "?" => self.status.to_string(),
            "$" => "1".to_owned(),
            _ => self.variables.get(name).cloned().unwrap_or_default(),
        }
    }
}
