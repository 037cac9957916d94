//! What is wrong with a file, told to people: `path:line:column: message`, the line with a caret, and what to do.

use std::fmt::Write;

use super::select::FileContext;
use super::tree::Span;
use crate::resource::Origin;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The document cannot be used.
    Error,
    /// The document is not ours, or something in it deserves a look.
    Warning,
}

/// Something wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Which document of which file.
    pub origin: Origin,
    /// The path of the file as people know it.
    pub display: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do, with the nearest valid name where there is one.
    pub help: String,
    /// The line of the file; empty where there is none to show.
    pub(super) excerpt: String,
    /// How many characters before the caret, and how many carets.
    pub(super) caret: (usize, usize),
}

/// The most problems that are told of one document.
const MAX_PROBLEMS: usize = 20;
/// Longer lines are cut around the caret.
const MAX_EXCERPT: usize = 120;

impl Problem {
    /// A problem of a file as a whole: it cannot be read, or is not text.
    pub fn of_file(context: &FileContext, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            origin: Origin { source: context.source.clone(), path: context.path.clone(), document: 0 },
            display: context.display.clone(),
            line: 1,
            column: 1,
            message: message.into(),
            help: help.into(),
            excerpt: String::new(),
            caret: (0, 0),
        }
    }

    /// The text for people, without a final newline: `path:line:column: message`, the line, the caret, what to do.
    pub fn rendered(&self) -> String {
        let warning = match self.severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
        };
        let mut text = format!("{}:{}:{}: {warning}{}", self.display, self.line, self.column, self.message);
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        if !self.excerpt.is_empty() {
            let (before, width) = self.caret;
            let _ = write!(text, "\n {number} | {}\n {margin} | {}{}", self.excerpt, " ".repeat(before), "^".repeat(width));
        }
        if !self.help.is_empty() {
            let _ = write!(text, "\n {margin} = {}", self.help);
        }
        text
    }
}

/// The text of a file with the starts of its lines, to turn byte offsets into lines and columns.
pub struct Lines<'a> {
    /// The text, without a byte order mark.
    pub text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    /// Finds the lines of a text.
    pub fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(position, _)| position + 1)).collect();
        Self { text, starts }
    }

    /// A problem at a place of the text.
    pub fn problem(&self, context: &FileContext, document: u32, span: Span, message: impl Into<String>, help: impl Into<String>) -> Problem {
        let start = floor(self.text, span.start);
        let row = self.starts.partition_point(|line| *line <= start).saturating_sub(1);
        let from = self.starts.get(row).copied().unwrap_or(0);
        let line = self.text.get(from..).and_then(|rest| rest.lines().next()).unwrap_or("");
        let before = self.text.get(from..start).map_or(0, |text| text.chars().count());
        let until = floor(self.text, span.end.min(from + line.len()));
        let width = self.text.get(start..until).map_or(0, |text| text.chars().count()).max(1);
        let skipped = before.saturating_sub(MAX_EXCERPT / 2);
        let excerpt: String = line.chars().skip(skipped).take(MAX_EXCERPT).map(printable).collect();
        let caret = (before - skipped, width.min(MAX_EXCERPT.saturating_sub(before - skipped).max(1)));
        let origin = Origin { source: context.source.clone(), path: context.path.clone(), document };
        Problem {
            severity: Severity::Error,
            origin,
            display: context.display.clone(),
            line: row + 1,
            column: before + 1,
            message: message.into(),
            help: help.into(),
            excerpt,
            caret,
        }
    }
}

/// The problems of one document: sorted by place, without repetition, and not too many.
pub fn bounded(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by(|a, b| (a.line, a.column, &a.message).cmp(&(b.line, b.column, &b.message)));
    problems.dedup();
    let more = problems.len().saturating_sub(MAX_PROBLEMS);
    problems.truncate(MAX_PROBLEMS);
    if more > 0
        && let Some(last) = problems.last_mut()
    {
        last.help.push_str(&format!("; {more} more are wrong in this document, shown when these are right"));
    }
    problems
}

/// The nearest position at or before `position` that is not inside a character.
fn floor(text: &str, position: usize) -> usize {
    let mut position = position.min(text.len());
    while !text.is_char_boundary(position) {
        position -= 1;
    }
    position
}

/// What files hold may not reach a terminal as control sequences.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// A piece of the file in backquotes, cut where it is long, without control characters.
pub fn quote(text: &str) -> String {
    let cut: String = text.chars().take(60).map(printable).collect();
    if text.chars().count() > 60 { format!("`{cut}…`") } else { format!("`{cut}`") }
}

/// The candidate that is most like `text`, where one is like enough to be a slip of the pen; case does not count.
pub fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = text.chars().take(64).collect::<String>().to_lowercase();
    let limit = (lower.chars().count() / 3).clamp(1, 3);
    let candidates: Vec<&str> = candidates.into_iter().collect();
    let similar = candidates.iter().map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), *candidate));
    let nearest = similar.filter(|(distance, _)| *distance <= limit).min().map(|(_, candidate)| candidate);
    // `img`, `cmd`: an abbreviation of just one.
    let mut meant = candidates.iter().filter(|candidate| is_abbreviation(&lower, candidate));
    nearest.or_else(|| meant.next().filter(|_| meant.next().is_none()).copied())
}

/// Whether these letters, two or more, stand in the word in this order, beginning with its first.
fn is_abbreviation(letters: &str, word: &str) -> bool {
    let mut rest = word.chars().flat_map(char::to_lowercase);
    letters.chars().count() > 1 && letters.chars().next() == word.chars().next() && letters.chars().all(|letter| rest.any(|other| other == letter))
}

/// `a`, `b` or `c`, each in backquotes.
pub fn alternatives<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => String::new(),
    }
}
