//! The first look at a document as a whole: its tree against the JSON Schema of its kind. Finds everything that is wrong, each at its
//! place, and makes the JSON value that the types are read from.
//!
//! The schema decides what a scalar is: where it asks for text, `no`, `017` and `1.10` are text.

use serde_json::{Map, Value};

use super::render::{alternatives, nearest, quote};
use super::tree::{Content, Node, Path, Span};
use crate::resource::{Bytes, Cpu, Duration, is_dns_label};

/// Something wrong at a place.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The field.
    pub path: Path,
    /// Where it stands.
    pub span: Span,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

/// What the tree says, and what is wrong with it.
pub struct Checked {
    /// The value, without what is wrong in it; `None` where so little is left that a look at its meaning would mislead.
    pub value: Option<Value>,
    /// All that is wrong.
    pub findings: Vec<Finding>,
}

/// Checks a document against the schema of its kind.
pub fn check(schema: &Value, tree: &Node) -> Checked {
    let mut walker = Walker { root: schema, findings: Vec::new(), lost: false };
    let value = walker.walk(schema, tree, &Path::default());
    Checked { value: value.filter(|_| !walker.lost), findings: walker.findings }
}

/// A pattern of the schema, whether a text is like it, and words for it.
type Pattern = (&'static str, fn(&str) -> bool, &'static str);

/// All patterns of fields that people write as text.
const PATTERNS: [Pattern; 3] = [
    (r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", is_dns_label, "a DNS label: at most 63 lower-case letters, digits and `-`, with a letter or digit at both ends"),
    (r"^[A-Za-z_][A-Za-z0-9_.-]*$", is_variable, "the name of a variable: letters, digits, `_`, `.` and `-`, and no digit first"),
    (r"^([01][0-9]|2[0-3]):[0-5][0-9]$", is_clock, "a time of day such as `\"08:00\"` or `\"23:30\"`"),
];

fn is_variable(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn is_clock(text: &str) -> bool {
    let Some((hours, minutes)) = text.split_once(':') else { return false };
    let within = |part: &str, limit: u8| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit()) && part.parse::<u8>().is_ok_and(|n| n < limit);
    within(hours, 24) && within(minutes, 60)
}

/// Values that are refused with a reason of their own: type, value, why.
const REFUSED: [(&str, &str, &str); 1] = [(
    "RestartPolicy",
    "always",
    "`always` would start a container again that a person or a policy stopped, whenever the engine starts; use `unless-stopped`, which does the same otherwise",
)];

struct Walker<'a> {
    root: &'a Value,
    findings: Vec<Finding>,
    /// A part that others may refer to could not be read.
    lost: bool,
}

impl<'a> Walker<'a> {
    fn find(&mut self, path: &Path, span: Span, message: impl Into<String>, help: impl Into<String>) -> Option<Value> {
        self.findings.push(Finding { path: path.clone(), span, message: message.into(), help: help.into() });
        None
    }

    /// Follows `$ref`, and says the name of the last.
    fn resolve(&self, mut schema: &'a Value) -> (&'a Value, &'a str) {
        let mut name = "";
        while let Some(target) = schema.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix("#/$defs/")) {
            (schema, name) = (self.root.get("$defs").and_then(|all| all.get(target)).unwrap_or(&Value::Null), target);
        }
        (schema, name)
    }

    fn walk(&mut self, schema: &'a Value, node: &Node, path: &Path) -> Option<Value> {
        if schema.get("readOnly").is_some() {
            return Some(untyped(node));
        }
        let (schema, name) = self.resolve(schema);
        let type_ = schema.get("type").and_then(Value::as_str);
        if let Some(choices) = schema.get("anyOf").and_then(Value::as_array) {
            return self.any(choices, node, path);
        }
        if let Some(words) = words(schema) {
            return self.word(&words, name, node, path);
        }
        match (name, type_) {
            ("Bytes", _) => self.quantity(node, path, |text| text.parse::<Bytes>().map(drop).map_err(|e| e.to_string())),
            ("Cpu", _) => self.quantity(node, path, |text| text.parse::<Cpu>().map(drop).map_err(|e| e.to_string())),
            ("Duration", _) => self.quantity(node, path, |text| text.parse::<Duration>().map(drop).map_err(|e| e.to_string())),
            (_, Some("object")) => self.object(schema, node, path),
            (_, Some("array")) => self.array(schema, node, path),
            (_, Some("boolean")) => self.boolean(node, path),
            (_, Some("integer")) => self.integer(schema, node, path),
            (_, Some("string")) => self.string(schema, node, path),
            // Anything goes where the schema says nothing.
            (_, Some(_) | None) => Some(untyped(node)),
        }
    }

    fn object(&mut self, schema: &'a Value, node: &Node, path: &Path) -> Option<Value> {
        let properties = schema.get("properties").and_then(Value::as_object);
        let Content::Map(entries) = &node.content else {
            self.lost = true;
            let names = properties.into_iter().flatten().map(|(name, _)| name.as_str()).take(3);
            let help = match properties {
                Some(_) => format!("write fields below it, such as {}", alternatives(names)),
                None => "write `key: value` lines below it".into(),
            };
            return self.find(path, node.span, format!("{} must be a mapping, not {}", title(path), node.describe()), help);
        };
        let required = schema.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let required: Vec<&str> = required.iter().filter_map(Value::as_str).collect();
        let mut object = Map::new();
        for entry in entries {
            let field = path.key(&entry.key);
            match (properties.and_then(|all| all.get(&entry.key)), schema.get("additionalProperties")) {
                (Some(_), _) if entry.value.is_null() && !required.contains(&entry.key.as_str()) => {}
                (Some(property), _) | (None, Some(property @ Value::Object(_))) => {
                    if let Some(value) = self.walk(property, &entry.value, &field) {
                        object.insert(entry.key.clone(), value);
                    } else if !matches!(entry.value.content, Content::Scalar { .. }) || required.contains(&entry.key.as_str()) {
                        self.lost = true;
                    }
                }
                (None, _) => {
                    self.unknown(properties, entry.key_span, &entry.key, path);
                }
            }
        }
        let missing: Vec<&str> = required.into_iter().filter(|name| !entries.iter().any(|entry| entry.key == *name)).collect();
        for name in &missing {
            self.lost = true;
            let about = properties.and_then(|all| all.get(*name)).and_then(|property| property.get("description")).and_then(Value::as_str).unwrap_or("");
            self.find(
                path,
                entries.first().map_or(node.span, |entry| entry.key_span),
                format!("{} has no `{name}`", title(path)),
                format!("add `{name}`: {}", lower(about)),
            );
        }
        missing.is_empty().then_some(Value::Object(object))
    }

    fn unknown(&mut self, properties: Option<&Map<String, Value>>, span: Span, key: &str, path: &Path) {
        let names = || properties.into_iter().flatten().map(|(name, _)| name.as_str()).filter(|name| *name != "status");
        let spec = self.root.get("properties").and_then(|all| all.get("spec")).map(|spec| self.resolve(spec).0);
        let in_spec = spec.and_then(|spec| spec.get("properties")).is_some_and(|fields| fields.get(key).is_some());
        let help = if let Some(name) = nearest(key, names()) {
            format!("did you mean `{name}`?")
        } else if path.0.len() < 2 && in_spec {
            format!("`{key}` belongs below `spec`")
        } else {
            let mut sorted: Vec<&str> = names().collect();
            sorted.sort_unstable();
            format!("the fields here are {}", sorted.join(", "))
        };
        self.find(&path.key(key), span, format!("unknown field {} in {}", quote(key), title(path)), help);
    }

    fn array(&mut self, schema: &'a Value, node: &Node, path: &Path) -> Option<Value> {
        let items = schema.get("items").unwrap_or(&Value::Null);
        let Content::List(nodes) = &node.content else {
            self.lost = true;
            let (item, _) = self.resolve(items);
            let help = match (&node.content, item.get("properties")) {
                (Content::Scalar { text, .. }, None) if !node.is_null() => {
                    let words: Vec<&str> = text.split_whitespace().take(6).collect();
                    format!("write a list: `[{}]`", words.join(", "))
                }
                (_, Some(Value::Object(fields))) => {
                    let names: Vec<String> = fields.keys().take(2).map(|name| format!("{name}: …")).collect();
                    format!("write a list; each entry opens with `- `: `- {{{}}}`", names.join(", "))
                }
                (_, _) => "write a list; each entry opens with `- `".into(),
            };
            return self.find(path, node.span, format!("{} must be a list, not {}", title(path), node.describe()), help);
        };
        let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0);
        if (nodes.len() as u64) < least {
            self.find(path, node.span, format!("{} may not be empty", title(path)), "add an entry, or remove the field");
        }
        let values: Vec<Option<Value>> = nodes.iter().enumerate().map(|(index, node)| self.walk(items, node, &path.index(index))).collect();
        let all: Option<Vec<Value>> = values.into_iter().collect();
        self.lost |= all.is_none();
        all.map(Value::Array)
    }

    fn scalar<'n>(&mut self, node: &'n Node, path: &Path, what: &str) -> Option<(&'n str, bool)> {
        match &node.content {
            Content::Scalar { text, plain } if !node.is_null() => Some((text, *plain)),
            Content::Scalar { .. } | Content::List(_) | Content::Map(_) => {
                let help = if node.is_null() { "give it a value, or remove the field" } else { "write a single value" };
                self.find(path, node.span, format!("{} must be {what}, not {}", title(path), node.describe()), help);
                None
            }
        }
    }

    fn boolean(&mut self, node: &Node, path: &Path) -> Option<Value> {
        let (text, plain) = self.scalar(node, path, "`true` or `false`")?;
        match (text, plain) {
            ("true" | "True" | "TRUE", true) => Some(Value::Bool(true)),
            ("false" | "False" | "FALSE", true) => Some(Value::Bool(false)),
            (_, _) => {
                let help = match text.to_ascii_lowercase().as_str() {
                    "yes" | "y" | "on" | "1" | "true" => "write `true`, without quotes",
                    "no" | "n" | "off" | "0" | "false" => "write `false`, without quotes",
                    _ => "write `true` or `false`",
                };
                self.find(path, node.span, format!("{} must be `true` or `false`, not {}", title(path), quote(text)), help)
            }
        }
    }

    fn integer(&mut self, schema: &Value, node: &Node, path: &Path) -> Option<Value> {
        let bound = |name: &str| schema.get(name).and_then(Value::as_i64);
        let least = bound("minimum").unwrap_or(i64::MIN);
        let most = bound("maximum").unwrap_or(if schema.get("format").is_some_and(|format| format == "uint32") { i64::from(u32::MAX) } else { i64::MAX });
        let what = match (least, most) {
            (i64::MIN, _) => "a whole number".into(),
            (least, i64::MAX) => format!("a whole number of at least {least}"),
            (least, most) => format!("a whole number from {least} to {most}"),
        };
        let (text, plain) = self.scalar(node, path, &what)?;
        match number(text).filter(|_| plain) {
            Some(value) if (least..=most).contains(&value) => Some(Value::from(value)),
            found => {
                let help = match found {
                    Some(_) => format!("write {what}"),
                    None if number(text).is_some() => "remove the quotes".into(),
                    None if text.trim_start_matches('0').parse::<i64>().is_ok() => "remove the leading zeros".into(),
                    None => format!("write {what}"),
                };
                self.find(path, node.span, format!("{} must be {what}, not {}", title(path), quote(text)), help)
            }
        }
    }

    fn string(&mut self, schema: &Value, node: &Node, path: &Path) -> Option<Value> {
        let (text, _) = self.scalar(node, path, "text")?;
        if schema.get("format").is_some_and(|format| format == "date-time") && text.parse::<jiff::Timestamp>().is_err() {
            let message = format!("{} must be an instant, not {}", title(path), quote(text));
            return self.find(path, node.span, message, "write it as RFC 3339, such as `2027-01-31T18:00:00Z`");
        }
        let pattern = schema.get("pattern").and_then(Value::as_str);
        if let Some((_, is, words)) = PATTERNS.iter().find(|(known, ..)| Some(*known) == pattern)
            && !is(text)
        {
            let slug = slug(text);
            let help = if pattern == Some(PATTERNS[0].0) && is_dns_label(&slug) { format!("did you mean `{slug}`?") } else { "change it".into() };
            return self.find(path, node.span, format!("{} is {}, which is not {words}", title(path), quote(text)), help);
        }
        Some(Value::from(text))
    }

    fn quantity(&mut self, node: &Node, path: &Path, parse: impl Fn(&str) -> Result<(), String>) -> Option<Value> {
        let (text, _) = self.scalar(node, path, "a quantity")?;
        match parse(text) {
            Ok(()) => Some(Value::from(text)),
            Err(error) => {
                let (what, how) = error.split_once("; ").unwrap_or((&error, "change it"));
                self.find(path, node.span, format!("{}: {what}", title(path)), how)
            }
        }
    }

    fn word(&mut self, words: &[&'a str], name: &str, node: &Node, path: &Path) -> Option<Value> {
        let what = alternatives(words.iter().copied());
        let (text, _) = self.scalar(node, path, &what)?;
        if words.contains(&text) {
            return Some(Value::from(text));
        }
        if let Some((.., why)) = REFUSED.iter().find(|(type_, value, _)| *type_ == name && *value == text) {
            return self.find(path, node.span, format!("{} may not be {}", title(path), quote(text)), *why);
        }
        let help = nearest(text, words.iter().copied()).map_or_else(|| format!("write {what}"), |word| format!("did you mean `{word}`?"));
        self.find(path, node.span, format!("{} must be {what}, not {}", title(path), quote(text)), help)
    }

    /// One of several schemas: words, or a number.
    fn any(&mut self, choices: &'a [Value], node: &Node, path: &Path) -> Option<Value> {
        let is_number = matches!(&node.content, Content::Scalar { text, plain: true } if number(text).is_some());
        let wanted = if is_number { "integer" } else { "string" };
        let chosen = choices.iter().find(|choice| choice.get("type").is_some_and(|type_| type_ == wanted)).or(choices.first())?;
        let before = self.findings.len();
        let value = self.walk(chosen, node, path);
        if value.is_none()
            && let Some(finding) = self.findings.get_mut(before)
            && !finding.help.starts_with("did you mean")
        {
            finding.help = "write one of the words of this field, or a port number from 1 to 65535".into();
        }
        value
    }
}

/// The words of a closed set.
fn words(schema: &Value) -> Option<Vec<&str>> {
    if let Some(word) = schema.get("const") {
        return Some(word.as_str().into_iter().collect());
    }
    let listed = schema.get("enum").and_then(Value::as_array).map(|words| words.iter().filter_map(Value::as_str).collect());
    listed
        .or_else(|| schema.get("oneOf").and_then(Value::as_array).map(|choices| choices.iter().flat_map(|choice| words(choice).unwrap_or_default()).collect()))
}

/// A whole number as YAML 1.2 writes it; leading zeros are refused, because YAML 1.1 read them as octal.
fn number(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && (digits.len() == 1 || !digits.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// What a text might have been meant as, where a name is wanted.
fn slug(text: &str) -> String {
    let mapped: String = text.chars().take(63).map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    mapped.trim_matches('-').to_owned()
}

/// The path of a field for a message; the root is the document.
pub fn title(path: &Path) -> String {
    if path.0.is_empty() { "the document".into() } else { format!("`{path}`") }
}

/// The first sentence of a description, to follow a colon.
fn lower(text: &str) -> String {
    let text = text.trim_end_matches('.');
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_lowercase().to_string()).unwrap_or_default();
    let shouts = chars.clone().next().is_some_and(char::is_uppercase);
    if shouts { text.to_owned() } else { first + chars.as_str() }
}

/// A value that no schema describes, by the core schema of YAML 1.2.
pub fn untyped(node: &Node) -> Value {
    match &node.content {
        Content::List(nodes) => Value::Array(nodes.iter().map(untyped).collect()),
        Content::Map(entries) => Value::Object(entries.iter().map(|entry| (entry.key.clone(), untyped(&entry.value))).collect()),
        Content::Scalar { .. } if node.is_null() => Value::Null,
        Content::Scalar { text, plain: false } => Value::from(text.as_str()),
        Content::Scalar { text, plain: true } => match text.as_str() {
            "true" | "True" | "TRUE" => Value::Bool(true),
            "false" | "False" | "FALSE" => Value::Bool(false),
            text => match number(text) {
                Some(number) => Value::from(number),
                None => float(text).map_or_else(|| Value::from(text), Value::from),
            },
        },
    }
}

fn float(text: &str) -> Option<f64> {
    let looks = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E')) && text.contains(['.', 'e', 'E']);
    text.parse().ok().filter(|value: &f64| looks && value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Kind;
    use crate::source::schema::schema;
    use proptest::prelude::*;

    #[test]
    fn every_pattern_of_the_schemas_has_words() {
        fn walk(schema: &Value, name: &str) {
            // Quantities are read as what they are.
            if let Some(pattern) = schema.get("pattern").and_then(Value::as_str).filter(|_| !["Bytes", "Cpu", "Duration"].contains(&name)) {
                assert!(PATTERNS.iter().any(|(known, ..)| *known == pattern), "{name}: {pattern}");
            }
            match schema {
                Value::Object(fields) => fields.iter().for_each(|(name, field)| walk(field, name)),
                Value::Array(entries) => entries.iter().for_each(|entry| walk(entry, name)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        Kind::WRITTEN.into_iter().for_each(|kind| walk(schema(kind), ""));
    }

    #[test]
    fn the_name_of_a_variable_begins_with_no_digit() {
        for (text, is) in [
            ("A", true),
            ("_", true),
            ("_a", true),
            ("a1.b-c_D", true),
            ("", false),
            ("1a", false),
            ("-a", false),
            (".a", false),
            ("a:b", false),
            ("a b", false),
            ("aé", false),
        ] {
            assert_eq!(is_variable(text), is, "{text:?}");
        }
    }

    #[test]
    fn a_day_ends_a_minute_before_midnight() {
        for (text, is) in [
            ("00:00", true),
            ("23:59", true),
            ("24:00", false),
            ("23:60", false),
            ("8:00", false),
            ("08:0", false),
            ("+8:00", false),
            ("0800", false),
            ("08:00:00", false),
        ] {
            assert_eq!(is_clock(text), is, "{text:?}");
        }
    }

    #[test]
    fn a_value_without_a_schema_is_what_yaml_says() {
        let value = |text: &str, plain: bool| untyped(&Node { span: Span { start: 0, end: 0 }, content: Content::Scalar { text: text.into(), plain } });
        for (text, expected) in [
            ("", Value::Null),
            ("~", Value::Null),
            ("null", Value::Null),
            ("true", Value::Bool(true)),
            ("FALSE", Value::Bool(false)),
            ("7", Value::from(7)),
            ("-7", Value::from(-7)),
            ("1.5", Value::from(1.5)),
            ("-.5", Value::from(-0.5)),
            ("1e3", Value::from(1000.0)),
            ("+1E-3", Value::from(0.001)),
            ("017", Value::from("017")),
            ("1e999", Value::from("1e999")),
            ("1.2.3", Value::from("1.2.3")),
            ("inf", Value::from("inf")),
            ("NaN", Value::from("NaN")),
            ("0x1F", Value::from("0x1F")),
            ("no", Value::from("no")),
        ] {
            assert_eq!(value(text, true), expected, "{text:?}");
            assert_eq!(value(text, false), Value::from(text), "{text:?} in quotes");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_words_mean_the_patterns(text in "[a-zA-Z0-9_.:-]{0,8}|[a-z0-9-]{60,66}|[0-2][0-9]:[0-6][0-9]") {
            for (pattern, is, _) in PATTERNS {
                let expected = jsonschema::is_valid(&serde_json::json!({"pattern": pattern}), &Value::from(text.as_str()));
                prop_assert_eq!(is(&text), expected, "{} {}", pattern, text);
            }
        }
    }
}
