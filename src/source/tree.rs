//! A document as a tree whose every part knows where it stands in the file. Made by `parse`; scalars keep their text as written, so
//! that `no`, `017` and `1.10` stay what they are until the schema says what they should be.

/// A range of bytes in the text of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Its first byte.
    pub start: usize,
    /// The byte behind it.
    pub end: usize,
}

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it stands. An empty value stands behind its key; a mapping or list in block style is as long as its first line.
    pub span: Span,
    /// What it is.
    pub content: Content,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A single value.
    Scalar {
        /// Its text, escapes processed.
        text: String,
        /// Whether it was written without quotes, so that it may be a number, a boolean or null.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the text, without duplicate keys.
    Map(Vec<Entry>),
}

/// One key of a mapping with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// The value.
    pub value: Node,
}

/// One step of the path to a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Into a mapping.
    Key(String),
    /// Into a list.
    Index(usize),
}

/// The path to a field from the root of its document.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Path(pub Vec<Step>);

impl Path {
    /// The path of a field of the mapping at this path.
    pub fn key(&self, key: &str) -> Path {
        self.with(Step::Key(key.to_owned()))
    }

    /// The path of an entry of the list at this path.
    pub fn index(&self, index: usize) -> Path {
        self.with(Step::Index(index))
    }

    /// Whether `other` is this field or lies within it.
    pub fn contains(&self, other: &Path) -> bool {
        other.0.starts_with(&self.0)
    }

    fn with(&self, step: Step) -> Path {
        let mut steps = self.0.clone();
        steps.push(step);
        Path(steps)
    }
}

/// `spec.ports[0].name`
impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if position == 0 => f.write_str(key)?,
                Step::Key(key) if key.contains('.') => write!(f, "[{key}]")?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

impl Node {
    /// The value of a key, where this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// A key with its value, where this is a mapping that has it.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.content {
            Content::Map(entries) => entries.iter().find(|entry| entry.key == key),
            Content::List(_) | Content::Scalar { .. } => None,
        }
    }

    /// Whether this is nothing: an empty value, `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The text of a scalar that is not null.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { text, .. } if !self.is_null() => Some(text),
            Content::Scalar { .. } | Content::List(_) | Content::Map(_) => None,
        }
    }

    /// What it is, in words for people.
    pub fn describe(&self) -> String {
        match &self.content {
            Content::Scalar { .. } if self.is_null() => "nothing".into(),
            Content::Scalar { text, .. } => super::render::quote(text),
            Content::List(_) => "a list".into(),
            Content::Map(_) => "a mapping".into(),
        }
    }

    /// Where the field at `path` stands: of a mapping's field its value, of one that is not there the nearest that holds it.
    pub fn locate(&self, path: &Path) -> Span {
        let (mut node, mut span) = (self, self.span);
        for step in &path.0 {
            let next = match (step, &node.content) {
                (Step::Key(key), Content::Map(_)) => node.entry(key).map(|entry| {
                    let scalar = matches!(entry.value.content, Content::Scalar { .. }) && !entry.value.is_null();
                    (&entry.value, if scalar { entry.value.span } else { entry.key_span })
                }),
                (Step::Index(index), Content::List(nodes)) => nodes.get(*index).map(|node| (node, node.span)),
                (Step::Key(_), Content::List(_)) | (Step::Index(_), Content::Map(_)) | (_, Content::Scalar { .. }) => None,
            };
            match next {
                Some((found, place)) => (node, span) = (found, place),
                None => break,
            }
        }
        span
    }

    /// Where the last key of `path` stands, or what is nearest to it.
    pub fn locate_key(&self, path: &Path) -> Span {
        let Some((Step::Key(key), parents)) = path.0.split_last() else { return self.locate(path) };
        let parent = parents.iter().try_fold(self, |node, step| match (step, &node.content) {
            (Step::Key(key), _) => node.get(key),
            (Step::Index(index), Content::List(nodes)) => nodes.get(*index),
            (Step::Index(_), Content::Map(_) | Content::Scalar { .. }) => None,
        });
        parent.and_then(|parent| parent.entry(key)).map_or_else(|| self.locate(path), |entry| entry.key_span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_like_a_field_and_a_key_with_a_dot_like_an_entry() {
        let root = Path::default();
        for (path, text) in [
            (root.key("spec").key("ports").index(0).key("name"), "spec.ports[0].name"),
            (root.key("metadata").key("labels").key("team"), "metadata.labels.team"),
            (root.key("metadata").key("labels").key("example.org/team").index(1), "metadata.labels[example.org/team][1]"),
            (root.key("a.b").key("c"), "a.b.c"),
        ] {
            assert_eq!(path.to_string(), text);
        }
    }

    #[test]
    fn nothing_has_no_text_and_words_for_nothing_in_quotes_have() {
        let node = |text: &str, plain: bool| Node { span: Span { start: 0, end: 0 }, content: Content::Scalar { text: text.into(), plain } };
        for text in ["", "~", "null", "Null", "NULL"] {
            assert_eq!((node(text, true).text(), node(text, false).text()), (None, Some(text)));
        }
        assert_eq!(node("nulL", true).text(), Some("nulL"));
        assert_eq!(Node { content: Content::List(vec![node("a", true)]), ..node("", true) }.text(), None);
    }
}
