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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn problem(text: &str, start: usize, end: usize) -> Problem {
        Lines::new(text).problem(&FileContext::new("specs", Path::new("/srv/specs"), "a.yaml", None), 0, Span { start, end }, "wrong", "right")
    }

    #[test]
    fn a_long_line_is_cut_around_the_caret() {
        let line: String = (0..300).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
        let text = format!("first: 1\n{line}\nlast: 1\n");
        // Where the field begins and ends in the line; how much of the line is cut in front, and where the carets are.
        for (start, end, cut, caret) in [
            (0, 10, 0, (0, 10)),
            (60, 70, 0, (60, 10)),
            (61, 71, 1, (60, 10)),
            (100, 110, 40, (60, 10)),
            (100, 160, 40, (60, 60)),
            (100, 161, 40, (60, 60)),
            (0, 300, 0, (0, 120)),
            (50, 300, 0, (50, 70)),
            (295, 305, 235, (60, 5)),
        ] {
            let problem = problem(&text, 9 + start, 9 + end);
            assert_eq!((problem.line, problem.column, problem.caret), (2, start + 1, caret), "{start}..{end}");
            assert_eq!(problem.excerpt, line[cut..(cut + MAX_EXCERPT).min(300)], "{start}..{end}");
        }
    }

    #[test]
    fn columns_are_counted_in_characters() {
        let problem = problem("é: ü\n", 4, 6);
        assert_eq!((problem.line, problem.column, problem.caret, problem.excerpt.as_str()), (1, 4, (3, 1), "é: ü"));
    }

    #[test]
    fn a_place_inside_a_character_is_the_place_of_the_character() {
        for (position, expected) in [(0, 0), (1, 1), (2, 1), (3, 3), (4, 3), (5, 3), (6, 3), (7, 7), (8, 7)] {
            assert_eq!(floor("aé\u{1F600}", position), expected, "{position}");
        }
    }

    #[test]
    fn up_to_sixty_characters_are_quoted_and_of_more_the_first_sixty() {
        for letter in ["a", "é"] {
            for (length, cut) in [(0, false), (59, false), (60, false), (61, true), (62, true), (200, true)] {
                let shown = letter.repeat(length.min(60));
                let expected = if cut { format!("`{shown}…`") } else { format!("`{shown}`") };
                assert_eq!(quote(&letter.repeat(length)), expected, "{length}");
            }
        }
        assert_eq!(quote(&"\u{7}".repeat(61)), format!("`{}…`", "\u{fffd}".repeat(60)));
    }

    #[test]
    fn a_third_of_the_letters_may_be_wrong_but_one_always_and_never_more_than_three() {
        for (text, candidate, is_like) in [
            ("imagr", "image", true),
            ("imxxe", "image", false),
            ("imgaes", "image", true),
            ("ixgxed", "image", false),
            ("workspxyz", "workspace", true),
            ("workspacxxxx", "workspaceabc", false),
            ("xy", "ab", false),
            ("ax", "ab", true),
        ] {
            assert_eq!(nearest(text, [candidate]), is_like.then_some(candidate), "{text}");
        }
    }

    #[test]
    fn an_abbreviation_has_two_letters_or_more_and_means_one_word() {
        let words = ["image", "command", "idle"];
        assert_eq!(nearest("im", words), Some("image"));
        assert_eq!(nearest("cmd", words), Some("command"));
        assert_eq!(nearest("c", ["command"]), None);
        assert_eq!(nearest("mg", words), None, "it begins with the first letter");
        assert_eq!(nearest("ie", words), None, "two words begin and end like that");
    }
}
