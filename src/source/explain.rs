//! `explain KIND[.path]`: the schema of a field in words, as `kubectl explain` tells it.

use serde_json::{Map, Value};

use super::render::{alternatives, nearest};
use super::schema::schema;
use crate::resource::{Kind, UnknownKind};

/// A path that leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// The first word is no kind.
    #[error(transparent)]
    Kind(#[from] UnknownKind),
    /// A further word is no field.
    #[error("`{at}` has no field `{field}`; {help}")]
    Field {
        /// The path up to there.
        at: String,
        /// The word.
        field: String,
        /// The nearest field, or all of them.
        help: String,
    },
}

/// The text for `workspace`, `ws.spec.idle`, `tenant.spec.quota.maxRunning`: kind, field, type, description, fields. Entries of lists and
/// mappings need no step of their own: `workspace.spec.services.image`.
pub fn explain(path: &str) -> Result<String, ExplainError> {
    let mut words = path.split('.').filter(|word| !word.is_empty());
    let kind: Kind = words.next().unwrap_or("").parse()?;
    let root = schema(kind);
    if root.is_null() {
        return Err(UnknownKind(path.to_owned()).into());
    }
    let (mut field, mut description, mut at) = (root, text(root, "description"), kind.singular().to_owned());
    for word in words {
        let fields = fields(root, field);
        let Some(found) = fields.and_then(|fields| fields.get(word)) else {
            let names = || fields.into_iter().flatten().map(|(name, _)| name.as_str());
            let help = match nearest(word, names()) {
                Some(name) => format!("did you mean `{name}`?"),
                None if fields.is_none() => "it is a single value".to_owned(),
                None => format!("its fields are {}", alternatives(names()).replace(" or ", " and ")),
            };
            return Err(ExplainError::Field { at, field: word.to_owned(), help });
        };
        (field, description, at) = (found, text(found, "description"), format!("{at}.{word}"));
    }
    let mut lines = vec![format!("KIND:     {kind}"), format!("VERSION:  {}", crate::resource::API_VERSION)];
    if at.contains('.') {
        lines.push(format!("FIELD:    {at} <{}>", type_of(root, field)));
    }
    let more = text(inner(root, field), "description");
    lines.push(format!("\nDESCRIPTION:\n{}", indented(&description)));
    if !more.is_empty() && more != description {
        lines.push(indented(&more));
    }
    let choices = choices(resolve(root, field));
    if !choices.is_empty() {
        lines.push("\nVALUES:".into());
        lines.extend(choices.into_iter().map(|(word, about)| format!("    {word:<16} {about}").trim_end().to_owned()));
    }
    if let Some(fields) = fields(root, field) {
        lines.push("\nFIELDS:".into());
        let required: Vec<&str> = inner(root, field).get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        for (name, property) in fields {
            let mark = if required.contains(&name.as_str()) { " (required)" } else { "" };
            lines.push(format!("    {name} <{}>{mark}\n{}", type_of(root, property), indented(&format!("    {}", text(property, "description")))));
        }
    }
    Ok(lines.join("\n") + "\n")
}

fn text(schema: &Value, key: &str) -> String {
    schema.get(key).and_then(Value::as_str).unwrap_or("").to_owned()
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}").trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix("#/$defs/"));
    name.and_then(|name| root.get("$defs").and_then(|all| all.get(name))).unwrap_or(schema)
}

/// What a field holds: of a list its entries, of a mapping with free keys its values.
fn inner<'a>(root: &'a Value, field: &'a Value) -> &'a Value {
    let field = resolve(root, field);
    match (field.get("items"), field.get("additionalProperties")) {
        (Some(items), _) => resolve(root, items),
        (None, Some(values @ Value::Object(_))) => resolve(root, values),
        (None, _) => field,
    }
}

fn fields<'a>(root: &'a Value, field: &'a Value) -> Option<&'a Map<String, Value>> {
    inner(root, field).get("properties").and_then(Value::as_object)
}

fn type_of(root: &Value, field: &Value) -> String {
    let name = field.get("$ref").and_then(Value::as_str).and_then(|target| target.rsplit('/').next()).unwrap_or("");
    let field = resolve(root, field);
    match (field.get("type"), field.get("items"), field.get("additionalProperties")) {
        (_, Some(items), _) => format!("[]{}", type_of(root, items)),
        (_, None, Some(values @ Value::Object(_))) => format!("map[string]{}", type_of(root, values)),
        (_, None, _) if !name.is_empty() => name.to_owned(),
        (Some(Value::String(type_)), None, _) => type_.clone(),
        (Some(_) | None, None, _) => "string".to_owned(),
    }
}

/// The words of a closed set with what they mean.
fn choices(schema: &Value) -> Vec<(String, String)> {
    let listed = |key: &str| schema.get(key).and_then(Value::as_array).into_iter().flatten();
    let words = listed("enum").filter_map(Value::as_str).map(|word| (word.to_owned(), String::new()));
    let described = listed("oneOf").map(|choice| (text(choice, "const"), text(choice, "description")));
    let nested = listed("anyOf").flat_map(|choice| match choice.get("type").and_then(Value::as_str) {
        Some("integer") => vec![("<number>".to_owned(), "a whole number".to_owned())],
        Some(_) | None => choices(choice),
    });
    words.chain(described).chain(nested).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_explained_with_its_fields() {
        insta::assert_snapshot!(explain("ws.spec.idle").unwrap(), @r#"
KIND:     Workspace
VERSION:  dockmaster/v1
FIELD:    workspace.spec.idle <Idle>

DESCRIPTION:
    When to stop for want of activity.

FIELDS:
    timeout <Duration>
        Stop after so long without activity.
    network <Bytes>
        Sent bytes between two samples that count as activity. Default: 10k.
    check <Exec>
        Asked before an idle stop: exit 0 may stop, exit 1 is busy.
    warn <Exec>
        Run before an idle stop, to warn who is there.
"#);
        insta::assert_snapshot!(explain("workspace.spec.services.dependsOn").unwrap(), @r#"
KIND:     Workspace
VERSION:  dockmaster/v1
FIELD:    workspace.spec.services.dependsOn <[]string>

DESCRIPTION:
    Services that must run, and be healthy where they have a check, before this one starts.
"#);
        insta::assert_snapshot!(explain("workspace.spec.ports.publish").unwrap(), @r#"
KIND:     Workspace
VERSION:  dockmaster/v1
FIELD:    workspace.spec.ports.publish <Publish>

DESCRIPTION:
    `None` (default), `Pool`, or a port number of the host.

VALUES:
    None
    Pool
    <number>         a whole number
"#);
        insta::assert_snapshot!(explain("tenants").unwrap(), @r#"
KIND:     Tenant
VERSION:  dockmaster/v1

DESCRIPTION:
    A user or team: limits, defaults and policy of the namespace of the same name; `default` holds those for everyone. Only in files of the root directory.

FIELDS:
    apiVersion <string> (required)
        The version of this format.
    kind <string> (required)
        The kind of the document.
    metadata <Metadata> (required)
        Name, namespace, labels and annotations.
    spec <TenantSpec>
        What is wanted.
    status <Status>
        What was found. Written by the operator; never read as a wish.
"#);
    }

    #[test]
    fn an_unknown_path_names_the_nearest() {
        let error = |path| explain(path).unwrap_err().to_string();
        assert_eq!(error("workspace.spec.prots"), "`workspace.spec` has no field `prots`; did you mean `ports`?");
        assert_eq!(error("workspace.spec.idle.check.zzzzzz"), "`workspace.spec.idle.check` has no field `zzzzzz`; its fields are `exec`");
        assert_eq!(error("workspace.spec.image.x"), "`workspace.spec.image` has no field `x`; it is a single value");
        assert!(error("pod.spec").starts_with("unknown kind `pod`"));
        assert!(error("namespace").starts_with("unknown kind"));
    }

    #[test]
    fn every_field_of_every_kind_is_explained() {
        fn walk(root: &Value, field: &Value, path: &str) {
            let told = explain(path).unwrap();
            assert!(told.contains("DESCRIPTION:\n    "), "{path} has no description:\n{told}");
            for (name, property) in fields(root, field).into_iter().flatten() {
                walk(root, property, &format!("{path}.{name}"));
            }
        }
        for kind in Kind::WRITTEN {
            walk(schema(kind), schema(kind), kind.singular());
        }
    }
}
