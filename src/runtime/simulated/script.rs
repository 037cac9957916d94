//! Reads a script of the small shell.

use std::sync::Arc;

use super::shell::{Node, Piece, Redirect, Word};

/// Reads a script.
pub fn parse(text: &str) -> Node {
    let tokens = match tokens(text) {
        Ok(tokens) => tokens,
        Err(problem) => return Node::Broken(problem),
    };
    let mut parser = Parser { tokens, at: 0 };
    match parser.list(&[]) {
        Ok(node) if parser.at == parser.tokens.len() => node,
        Ok(_) => Node::Broken(format!("unexpected `{}`", parser.tokens[parser.at].show())),
        Err(problem) => Node::Broken(problem),
    }
}

#[derive(Clone, Debug)]
enum Token {
    Word(Word),
    Operator(&'static str),
    Redirect(Redirect),
}

impl Token {
    fn show(&self) -> String {
        match self {
            Self::Word(word) => word.plain().unwrap_or("…").to_owned(),
            Self::Operator(operator) => (*operator).to_owned(),
            Self::Redirect(_) => ">".to_owned(),
        }
    }

    fn is(&self, word: &str) -> bool {
        match self {
            Self::Word(other) => other.plain() == Some(word),
            Self::Operator(other) => *other == word,
            Self::Redirect(_) => false,
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let letters: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < letters.len() {
        let rest = &letters[at..];
        let starts = |text: &str| text.chars().enumerate().all(|(index, letter)| rest.get(index) == Some(&letter));
        if rest[0] == '\n' {
            tokens.push(Token::Operator(";"));
            at += 1;
        } else if rest[0].is_whitespace() {
            at += 1;
        } else if rest[0] == '#' {
            at += rest.iter().position(|letter| *letter == '\n').unwrap_or(rest.len());
        } else if let Some((mark, stderr, append, input)) = [
            ("2>>", true, true, false),
            ("2>", true, false, false),
            ("1>", false, false, false),
            (">>", false, true, false),
            (">", false, false, false),
            ("<", false, false, true),
        ]
        .into_iter()
        .find(|(mark, ..)| starts(mark))
        {
            at += mark.len();
            while letters.get(at).is_some_and(|letter| *letter == ' ') {
                at += 1;
            }
            let to = if letters.get(at) == Some(&'&') {
                at += 2;
                Word::literal(&format!("&{}", letters.get(at - 1).copied().unwrap_or('1')))
            } else {
                word(&letters, &mut at)?
            };
            tokens.push(Token::Redirect(Redirect { stderr, append, input, to }));
        } else if let Some(operator) = ["&&", "||", ";;", ";", "|", "&", "(", ")"].into_iter().find(|operator| starts(operator)) {
            at += operator.len();
            tokens.push(Token::Operator(operator));
        } else {
            tokens.push(Token::Word(word(&letters, &mut at)?));
        }
    }
    Ok(tokens)
}

fn word(letters: &[char], at: &mut usize) -> Result<Word, String> {
    let mut pieces = Vec::new();
    let mut quote: Option<char> = None;
    let mut text: Option<String> = None;
    while let Some(letter) = letters.get(*at).copied() {
        *at += 1;
        match (quote, letter) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (Some('\''), _) => text.get_or_insert_default().push(letter),
            (None, '\'' | '"') => {
                quote = Some(letter);
                text.get_or_insert_default();
            }
            (_, '\\') => {
                let next = letters.get(*at).copied().unwrap_or('\\');
                *at += 1;
                if quote.is_some() && !matches!(next, '"' | '\\' | '$' | '`') {
                    text.get_or_insert_default().push('\\');
                }
                text.get_or_insert_default().push(next);
            }
            (_, '$') if letters.get(*at).is_some_and(|next| *next == '(') => {
                pieces.extend(text.take().map(Piece::Text));
                let from = *at + 1;
                let mut depth = 0;
                while let Some(letter) = letters.get(*at) {
                    depth += match letter {
                        '(' => 1,
                        ')' => -1,
                        _ => 0,
                    };
                    *at += 1;
                    if depth == 0 {
                        break;
                    }
                }
                if depth != 0 {
                    return Err("a substitution has no end".to_owned());
                }
                pieces.push(Piece::Output(letters[from..*at - 1].iter().collect(), quote.is_some()));
            }
            (_, '$') if letters.get(*at).is_some_and(|next| next.is_ascii_alphanumeric() || matches!(next, '_' | '{' | '?' | '$')) => {
                pieces.extend(text.take().map(Piece::Text));
                let mut name = String::new();
                if letters[*at] == '{' {
                    let inner = letters[*at + 1..].iter().take_while(|letter| **letter != '}');
                    name.extend(inner);
                    *at += name.chars().count() + 2;
                } else if matches!(letters[*at], '?' | '$') {
                    name.push(letters[*at]);
                    *at += 1;
                } else {
                    while let Some(next) = letters.get(*at).filter(|next| next.is_ascii_alphanumeric() || **next == '_') {
                        name.push(*next);
                        *at += 1;
                    }
                }
                pieces.push(Piece::Variable(name, quote.is_some()));
            }
            (None, ';' | '&' | '|' | '(' | ')' | '<' | '>') => {
                *at -= 1;
                break;
            }
            (None, letter) if letter.is_whitespace() => {
                *at -= 1;
                break;
            }
            (_, letter) => text.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        return Err("a quote has no end".to_owned());
    }
    pieces.extend(text.map(Piece::Text));
    Ok(Word(pieces))
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self, word: &str) -> bool {
        self.tokens.get(self.at).is_some_and(|token| token.is(word))
    }

    fn take(&mut self, word: &str) -> bool {
        let there = self.peek(word);
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, word: &str) -> Result<(), String> {
        if self.take(word) { Ok(()) } else { Err(format!("`{word}` is missing")) }
    }

    fn list(&mut self, ends: &[&str]) -> Result<Node, String> {
        let mut nodes = Vec::new();
        loop {
            while self.take(";") {}
            if self.at >= self.tokens.len() || ends.iter().any(|end| self.peek(end)) {
                break;
            }
            let node = Arc::new(self.chain()?);
            let background = self.take("&");
            nodes.push(if background { Arc::new(Node::Background(node)) } else { node });
            if !background && !self.peek(";") {
                break;
            }
        }
        Ok(Node::List(nodes))
    }

    fn chain(&mut self) -> Result<Node, String> {
        let mut node = self.pipe()?;
        loop {
            let on_success = if self.take("&&") {
                true
            } else if self.take("||") {
                false
            } else {
                return Ok(node);
            };
            while self.take(";") {}
            node = Node::Then(Arc::new(node), on_success, Arc::new(self.pipe()?));
        }
    }

    fn pipe(&mut self) -> Result<Node, String> {
        if self.take("!") {
            return Ok(Node::Not(Arc::new(self.pipe()?)));
        }
        let first = self.simple()?;
        if !self.peek("|") {
            return Ok(first);
        }
        let mut stages = vec![Arc::new(first)];
        while self.take("|") {
            stages.push(Arc::new(self.simple()?));
        }
        Ok(Node::Pipe(stages))
    }

    fn simple(&mut self) -> Result<Node, String> {
        if self.take("(") {
            let inner = self.list(&[")"])?;
            self.expect(")")?;
            return Ok(Node::Pipe(vec![Arc::new(inner)]));
        }
        if self.take("{") {
            let inner = self.list(&["}"])?;
            self.expect("}")?;
            return Ok(inner);
        }
        if self.take("if") {
            return self.condition();
        }
        for (word, wanted) in [("while", true), ("until", false)] {
            if self.take(word) {
                let condition = Arc::new(self.list(&["do"])?);
                self.expect("do")?;
                let body = Arc::new(self.list(&["done"])?);
                self.expect("done")?;
                return Ok(Node::Loop(wanted, condition, body));
            }
        }
        if self.take("for") {
            let Some(Token::Word(name)) = self.tokens.get(self.at).cloned() else { return Err("`for` needs a name".to_owned()) };
            self.at += 1;
            self.expect("in")?;
            let mut words = Vec::new();
            while let Some(Token::Word(word)) = self.tokens.get(self.at) {
                words.push(word.clone());
                self.at += 1;
            }
            while self.take(";") {}
            self.expect("do")?;
            let body = Arc::new(self.list(&["done"])?);
            self.expect("done")?;
            return Ok(Node::For(name.plain().unwrap_or_default().to_owned(), words, body));
        }
        let (mut words, mut redirects) = (Vec::new(), Vec::new());
        loop {
            match self.tokens.get(self.at) {
                Some(Token::Word(word)) => words.push(word.clone()),
                Some(Token::Redirect(redirect)) => redirects.push(redirect.clone()),
                Some(Token::Operator(_)) | None => break,
            }
            self.at += 1;
        }
        if words.is_empty() && redirects.is_empty() {
            return Err(format!("unexpected {}", self.tokens.get(self.at).map_or("end".to_owned(), |token| format!("`{}`", token.show()))));
        }
        Ok(Node::Command(words, redirects))
    }

    /// Behind `if` or `elif`.
    fn condition(&mut self) -> Result<Node, String> {
        let condition = Arc::new(self.list(&["then"])?);
        self.expect("then")?;
        let body = Arc::new(self.list(&["else", "elif", "fi"])?);
        if self.take("elif") {
            return Ok(Node::If(condition, body, Some(Arc::new(self.condition()?))));
        }
        let otherwise = if self.take("else") { Some(Arc::new(self.list(&["fi"])?)) } else { None };
        self.expect("fi")?;
        Ok(Node::If(condition, body, otherwise))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_script_is_said() {
        for (text, broken) in [
            ("echo a; echo b && ! false || true", false),
            ("while :; do sleep 0.1; done", false),
            ("if test -e x; then echo \"$(cat x)\"; else exit 1; fi", false),
            ("for i in 1 2; do echo ${i} >&2; done | wc -l", false),
            ("sleep 5 & wait", false),
            ("echo 'open", true),
            ("while true; do", true),
            ("a && | b", true),
            ("fi )", true),
        ] {
            assert_eq!(matches!(parse(text), Node::Broken(_)), broken, "{text}: {:?}", parse(text));
        }
    }
}
