//! Which objects are meant: `KIND/NAME…`, `KIND NAME…`, a bare NAME, `all`; and what to say when there is none.

use std::str::FromStr;

use super::out::Failure;
use crate::desired::builtin;
use crate::resource::{Kind, ObjectRef};
pub use crate::source::render::nearest;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Everything of these kinds.
    Kinds(Vec<Kind>),
    /// These.
    Objects(Vec<ObjectRef>),
}

/// Reads the arguments of a verb that can list: kinds alone are allowed.
pub fn parse(arguments: &[String], namespace: &str) -> Result<Wanted, Failure> {
    let Some((first, rest)) = arguments.split_first() else { return Ok(Wanted::Kinds(Kind::WRITTEN.to_vec())) };
    if first.contains('/') {
        return arguments.iter().map(|text| slashed(text, namespace)).collect::<Result<_, _>>().map(Wanted::Objects);
    }
    if let Some(stray) = rest.iter().find(|text| text.contains('/')) {
        return Err(Failure::new(format!("`{stray}` stands beside `{first}`; write either KIND NAME… or KIND/NAME…")));
    }
    match kinds(first) {
        Some(kinds) if rest.is_empty() => Ok(Wanted::Kinds(kinds)),
        Some(kinds) => match kinds.as_slice() {
            [kind] => Ok(Wanted::Objects(rest.iter().map(|name| ObjectRef::new(*kind, namespace, name)).collect())),
            _ => Err(Failure::new(format!("names behind `{first}` could be of several kinds; write KIND/NAME…"))),
        },
        None => Ok(Wanted::Objects(arguments.iter().map(|name| ObjectRef::new(Kind::Workspace, namespace, name)).collect())),
    }
}

/// Reads the arguments of a verb that acts on named objects.
pub fn objects(arguments: &[String], namespace: &str) -> Result<Vec<ObjectRef>, Failure> {
    match parse(arguments, namespace)? {
        Wanted::Objects(objects) => Ok(objects),
        Wanted::Kinds(_) => Err(Failure::new(format!("which one? `{}` is a kind; write KIND/NAME or KIND NAME…", arguments.join(" ")))),
    }
}

/// Reads one name: `KIND/NAME`, or the name of a workspace.
pub fn object(argument: &str, namespace: &str) -> Result<ObjectRef, Failure> {
    if argument.contains('/') { slashed(argument, namespace) } else { Ok(ObjectRef::new(Kind::Workspace, namespace, argument)) }
}

fn slashed(text: &str, namespace: &str) -> Result<ObjectRef, Failure> {
    let (kind, name) = text.split_once('/').unwrap_or((text, ""));
    let kind = written(kind).ok_or_else(|| Failure::new(unknown_kind(kind)))?;
    if name.is_empty() || name.contains('/') {
        return Err(Failure::new(format!("`{text}` is not a name; write it like {}/NAME", kind.singular())));
    }
    Ok(ObjectRef::new(kind, namespace, name))
}

/// `ws,pv`, `all`.
fn kinds(text: &str) -> Option<Vec<Kind>> {
    if text.eq_ignore_ascii_case("all") {
        return Some(Kind::WRITTEN.to_vec());
    }
    text.split(',').map(written).collect()
}

/// A kind that people write.
pub fn written(text: &str) -> Option<Kind> {
    Kind::from_str(text).ok().filter(|kind| Kind::WRITTEN.contains(kind))
}

/// What to say of a word that is no kind.
pub fn unknown_kind(text: &str) -> String {
    let nearest = nearest(text, Kind::WRITTEN.iter().map(|kind| kind.singular()));
    let hint = nearest.map(|kind| format!(" (did you mean {kind}?)")).unwrap_or_default();
    format!("unknown kind `{text}`{hint}; the kinds are workspace (ws), preview (pv), workspacetype (wt) and tenant (tn)")
}

/// What to say of an object that does not exist: the same name elsewhere, or the nearest name here.
pub fn not_found<'a>(object: &ObjectRef, known: impl IntoIterator<Item = &'a ObjectRef> + Clone) -> String {
    let here = object.namespace.as_ref().map(|namespace| format!(" in namespace {namespace}")).unwrap_or_default();
    let found = |hint: String| format!("{} not found{here}{hint}", object.short());
    let same: Vec<_> = known.clone().into_iter().filter(|other| other.name == object.name && **other != *object).collect();
    if let Some(other) = same.iter().find(|other| other.kind == object.kind).or(same.first()) {
        return found(format!("; there is {other}"));
    }
    let names = known.into_iter().filter(|other| other.kind == object.kind && other.namespace == object.namespace).map(|other| other.name.as_str());
    if object.kind == Kind::WorkspaceType && builtin::TYPES.contains(&object.name.as_str()) {
        return format!("{} is built in and has no document; `dockmaster get workspace NAME --resolved` shows what it gives", object.short());
    }
    found(match nearest(&object.name, names) {
        Some(name) => format!("; did you mean {}/{name}?", object.kind.singular()),
        None => format!("; `dockmaster get {}s{}` lists what there is", object.kind.singular(), if object.namespace.is_some() { " -A" } else { "" }),
    })
}

/// Labels asked for with `-l`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    Equals(String, String),
    Differs(String, String),
    Present(String),
    Absent(String),
}

impl FromStr for Selector {
    type Err = Failure;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let one = |part: &str| {
            let part = part.trim();
            let pair = |key: &str, value: &str| (key.trim().to_owned(), value.trim().to_owned());
            let requirement = if let Some((key, value)) = part.split_once("!=") {
                let (key, value) = pair(key, value);
                Requirement::Differs(key, value)
            } else if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
                let (key, value) = pair(key, value);
                Requirement::Equals(key, value)
            } else if let Some(key) = part.strip_prefix('!') {
                Requirement::Absent(key.trim().to_owned())
            } else {
                Requirement::Present(part.to_owned())
            };
            let (Requirement::Equals(key, _) | Requirement::Differs(key, _) | Requirement::Present(key) | Requirement::Absent(key)) = &requirement;
            let valid = !key.is_empty() && !key.contains(char::is_whitespace);
            if valid { Ok(requirement) } else { Err(Failure::new(format!("`{text}` selects no labels; write it like team=web,stage!=test,!draft"))) }
        };
        text.split(',').map(one).collect::<Result<_, _>>().map(Self)
    }
}

impl Selector {
    /// Whether an object's `metadata.labels` fulfil it.
    pub fn matches(&self, labels: Option<&serde_json::Value>) -> bool {
        let get = |key: &str| labels.and_then(|labels| labels.get(key)).and_then(|value| value.as_str());
        self.0.iter().all(|requirement| match requirement {
            Requirement::Equals(key, value) => get(key) == Some(value),
            Requirement::Differs(key, value) => get(key) != Some(value),
            Requirement::Present(key) => get(key).is_some(),
            Requirement::Absent(key) => get(key).is_none(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn check(text: &str, expected: &str) {
        let shown = match parse(&words(text), "alice") {
            Ok(Wanted::Kinds(kinds)) => kinds.iter().map(|kind| kind.singular()).collect::<Vec<_>>().join(" "),
            Ok(Wanted::Objects(objects)) => objects.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            Err(failure) => failure.message,
        };
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn names_are_read_as_people_write_them() {
        check("shop", "workspace/shop -n alice");
        check("shop blog", "workspace/shop -n alice, workspace/blog -n alice");
        check("ws", "workspace");
        check("Workspaces", "workspace");
        check("ws,PV", "workspace preview");
        check("all", "workspace preview workspacetype tenant");
        check("previews demo next", "preview/demo -n alice, preview/next -n alice");
        check("ws/shop tn/bob", "workspace/shop -n alice, tenant/bob");
        check("wt node", "workspacetype/node");
        check("ws shop pv/demo", "`pv/demo` stands beside `ws`; write either KIND NAME… or KIND/NAME…");
        check("ws,pv demo", "names behind `ws,pv` could be of several kinds; write KIND/NAME…");
        check(
            "worspace/shop",
            "unknown kind `worspace` (did you mean workspace?); the kinds are workspace (ws), preview (pv), workspacetype (wt) and tenant (tn)",
        );
        check("namespace/x", "unknown kind `namespace`; the kinds are workspace (ws), preview (pv), workspacetype (wt) and tenant (tn)");
        check("ws/", "`ws/` is not a name; write it like workspace/NAME");
        assert!(objects(&words("ws"), "alice").is_err(), "a verb that acts wants names");
    }

    #[test]
    fn what_is_missing_is_named_with_the_nearest() {
        let known = [ObjectRef::new(Kind::Workspace, "alice", "shop"), ObjectRef::new(Kind::Workspace, "bob", "blog")];
        let say = |ns: &str, name: &str| not_found(&ObjectRef::new(Kind::Workspace, ns, name), &known);
        assert_eq!(say("alice", "shpo"), "workspace/shpo not found in namespace alice; did you mean workspace/shop?");
        assert_eq!(say("default", "blog"), "workspace/blog not found in namespace default; there is workspace/blog -n bob");
        assert_eq!(say("alice", "zzz"), "workspace/zzz not found in namespace alice; `dockmaster get workspaces -A` lists what there is");
    }

    #[test]
    fn labels_are_selected() {
        let labels = serde_json::json!({"team": "web", "draft": ""});
        for (selector, expected) in
            [("team=web", true), ("team==web,draft", true), ("team!=web", false), ("!draft", false), ("stage!=test, !old", true), ("stage", false)]
        {
            assert_eq!(selector.parse::<Selector>().unwrap().matches(Some(&labels)), expected, "{selector}");
        }
        assert!("=x".parse::<Selector>().is_err());
    }
}
