//! A watched root: its name, where it is, whose it is, and how a document in it is found again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::resource::{ObjectRef, is_dns_label};
use crate::source::select::NamespaceRule;
use crate::source::splice::{Piece, documents};

/// A directory of specs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// The directory as it was given, without a slash at the end: the name of the source.
    pub name: String,
    /// The same, absolute. It need not exist now.
    pub path: PathBuf,
    /// The one namespace of all that is in it; `None`: the first directory below the root is the namespace.
    pub namespace: Option<String>,
}

impl Root {
    /// A root from its directory, and the namespace it is pinned to.
    pub fn new(directory: &str, namespace: Option<&str>) -> io::Result<Self> {
        let name = match directory.trim_end_matches('/') {
            "" => "/",
            name => name,
        };
        Ok(Self { name: name.to_owned(), path: std::path::absolute(name)?, namespace: namespace.map(str::to_owned) })
    }

    /// `DIR` or `DIR=NAMESPACE`; a directory whose own name has a `=` is taken as it is.
    pub fn parse(text: &str) -> io::Result<Self> {
        match text.rsplit_once('=') {
            Some((directory, namespace)) if is_dns_label(namespace) && !Path::new(text).is_dir() => Self::new(directory, Some(namespace)),
            Some(_) | None => Self::new(text, None),
        }
    }

    /// Whose the documents of a file are.
    pub fn rule(&self, relative: &str) -> NamespaceRule {
        NamespaceRule::of(relative, self.namespace.as_deref())
    }

    /// The real path of a file or of where one would be made, links followed; `None` if that lies outside the root.
    pub fn resolve(&self, relative: &str) -> io::Result<Option<PathBuf>> {
        let path = self.path.join(relative);
        let real = match fs::canonicalize(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(&path).is_err() => {
                let parent = fs::canonicalize(path.parent().unwrap_or(&self.path))?;
                parent.join(path.file_name().ok_or(io::ErrorKind::InvalidInput)?)
            }
            result => result?,
        };
        Ok(real.starts_with(fs::canonicalize(&self.path)?).then_some(real))
    }

    /// What a document of the file at `relative` is the declaration of.
    pub fn identify(&self, relative: &str, value: &Value) -> Option<ObjectRef> {
        let kind = serde_json::from_value(value.get("kind")?.clone()).ok()?;
        let metadata = value.get("metadata")?;
        let rule = self.rule(relative);
        let namespace = rule.dictated().or_else(|| metadata.get("namespace")?.as_str()).unwrap_or("default");
        Some(ObjectRef::new(kind, namespace, metadata.get("name")?.as_str()?))
    }

    /// Which document of the text declares the object: the one at `at` if it does, else the only one that does.
    pub fn locate(&self, relative: &str, text: &str, object: &ObjectRef, at: u32) -> Option<u32> {
        let declares = |piece: &Piece| piece.value.as_ref().and_then(|value| self.identify(relative, value)).as_ref() == Some(object);
        let found: Vec<u32> = (0..).zip(documents(text)).filter(|(_, piece)| declares(piece)).map(|(index, _)| index).collect();
        match found.as_slice() {
            _ if found.contains(&at) => Some(at),
            [only] => Some(*only),
            [] | [_, ..] => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Kind;

    #[test]
    fn a_root_may_be_pinned_to_a_namespace() {
        let directory = tempfile::tempdir().unwrap();
        let text = directory.path().to_str().unwrap();
        assert_eq!(Root::parse(&format!("{text}/=alice")).unwrap(), Root::new(text, Some("alice")).unwrap());
        assert_eq!(Root::parse("specs/").unwrap().name, "specs");
        let odd = format!("{text}/a=b");
        fs::create_dir(&odd).unwrap();
        assert_eq!(Root::parse(&odd).unwrap().namespace, None);
    }

    #[test]
    fn a_document_is_found_by_what_it_declares() {
        let root = Root::new("specs", None).unwrap();
        let text = "kind: Tenant\nmetadata: {name: a}\n---\nkind: Workspace\nmetadata: {name: a}\n---\nkind: Workspace\nmetadata: {name: b}\n---\nkind: Workspace\nmetadata: {name: b}\n";
        let workspace = |name| ObjectRef::new(Kind::Workspace, "alice", name);
        assert_eq!(root.locate("alice/x.yaml", text, &workspace("a"), 7), Some(1));
        assert_eq!(root.locate("alice/x.yaml", text, &workspace("b"), 3), Some(3));
        assert_eq!(root.locate("alice/x.yaml", text, &workspace("b"), 0), None, "two, and neither is where it was");
        assert_eq!(root.locate("bob/x.yaml", text, &workspace("a"), 1), None);
        assert_eq!(root.locate("x.yaml", text, &ObjectRef::new(Kind::Tenant, "", "a"), 0), Some(0));
        assert_eq!(root.locate("x.yaml", text, &ObjectRef::new(Kind::Workspace, "default", "a"), 0), Some(1));
    }

    #[test]
    fn links_are_followed_only_inside() {
        let directory = tempfile::tempdir().unwrap();
        let inside = directory.path().join("specs");
        fs::create_dir(&inside).unwrap();
        fs::write(inside.join("real.yaml"), "").unwrap();
        fs::write(directory.path().join("out.yaml"), "").unwrap();
        std::os::unix::fs::symlink("real.yaml", inside.join("link.yaml")).unwrap();
        std::os::unix::fs::symlink("../out.yaml", inside.join("escape.yaml")).unwrap();
        std::os::unix::fs::symlink("loop.yaml", inside.join("loop.yaml")).unwrap();
        std::os::unix::fs::symlink("nowhere.yaml", inside.join("dangling.yaml")).unwrap();
        let root = Root::new(inside.to_str().unwrap(), None).unwrap();
        assert!(root.resolve("link.yaml").unwrap().unwrap().ends_with("specs/real.yaml"));
        assert!(root.resolve("new.yaml").unwrap().unwrap().ends_with("specs/new.yaml"));
        assert_eq!(root.resolve("escape.yaml").unwrap(), None);
        assert!(root.resolve("loop.yaml").is_err());
        assert!(root.resolve("dangling.yaml").is_err(), "a link to nowhere is no place for a new file");
        assert!(root.resolve("missing/new.yaml").is_err());
    }
}
