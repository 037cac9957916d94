//! Changes of one document, by the same exchange that statuses are written with.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Root;
use crate::resource::{ObjectRef, Origin};
use crate::source::exchange::{Failure, New, change};
use crate::source::sink::SIDECAR_ENDING;
use crate::source::splice::{append_document, documents, put_document, remove_document, set_value};
use crate::source::{Edit, SourceError};

/// Makes an edit; where the document is now.
pub async fn edit(root: &Root, object: &ObjectRef, at: Option<&Origin>, edit: Edit) -> Result<Origin, SourceError> {
    let origin = match (at, &edit) {
        (Some(at), _) => at.clone(),
        (None, Edit::Put(_)) => Origin { source: root.name.clone(), path: new_path(root, object), document: 0 },
        (None, Edit::Set { .. } | Edit::Remove | Edit::PutBack(_)) => return Err(SourceError::Refused(format!("{object} is in no file of {}", root.name))),
    };
    if let Edit::Put(text) | Edit::PutBack(text) = &edit
        && !documents(text).iter().any(|piece| piece.value.as_ref().and_then(|value| root.identify(&origin.path, value)).as_ref() == Some(object))
    {
        return Err(SourceError::Refused(format!("the document for {origin} does not declare {object}; its kind, name and namespace must be these")));
    }
    let by_hand = by_hand(&origin, &edit);
    let is_new = at.is_none() || matches!(edit, Edit::PutBack(_));
    let path = place(root, &origin, is_new).map_err(|failure| explain(&origin, &by_hand, failure))?;
    let position = Arc::new(AtomicU32::new(origin.document));
    let is_removal = edit == Edit::Remove;
    let (maker, written) = (Maker { root: root.clone(), object: object.clone(), origin: origin.clone(), edit, is_new }, position.clone());
    let make = move |text: Option<&str>| {
        let (new, document) = maker.make(text)?;
        written.store(document, Ordering::Relaxed);
        Ok(new)
    };
    change(path.clone(), make).await.map_err(|failure| explain(&origin, &by_hand, failure))?;
    if is_removal && !path.exists() {
        // Its objects' statuses go with it; there may be none.
        _ = fs::remove_file(root.path.join(format!("{}{SIDECAR_ENDING}", origin.path)));
    }
    Ok(Origin { document: position.load(Ordering::Relaxed), ..origin })
}

/// The file of an object that has none.
fn new_path(root: &Root, object: &ObjectRef) -> String {
    match (&object.namespace, &root.namespace) {
        (None, _) => format!("{}-{}.yaml", object.kind.singular(), object.name),
        (Some(_), Some(_)) => format!("{}.yaml", object.name),
        (Some(namespace), None) => format!("{namespace}/{}.yaml", object.name),
    }
}

/// The real path of the file; the directory of a new one is made.
fn place(root: &Root, origin: &Origin, is_new: bool) -> Result<PathBuf, Failure<SourceError>> {
    if is_new
        && root.path.is_dir()
        && let Some(parent) = root.path.join(&origin.path).parent()
    {
        fs::create_dir_all(parent)?;
    }
    let out = || Failure::Refused(format!("it is a link that leads out of {}", root.name));
    root.resolve(&origin.path)?.ok_or_else(out)
}

/// An edit of an object's document.
struct Maker {
    root: Root,
    object: ObjectRef,
    origin: Origin,
    edit: Edit,
    is_new: bool,
}

impl Maker {
    /// The new content of the file, and the position of the document in it.
    fn make(&self, text: Option<&str>) -> Result<(New, u32), SourceError> {
        let text = text.unwrap_or_default();
        let found = self.root.locate(&self.origin.path, text, &self.object, self.origin.document);
        let moved = || SourceError::Refused(format!("{} is not in {} any more; try again", self.object, self.origin));
        match (&self.edit, found) {
            (Edit::Put(document) | Edit::PutBack(document), Some(index)) => Ok((New::Text(put_document(text, index, document)?), index)),
            (Edit::Put(document) | Edit::PutBack(document), None) if self.is_new => {
                append_document(text, document).map(|(text, index)| (New::Text(text), index))
            }
            (Edit::Set { path, value }, Some(index)) => Ok((New::Text(set_value(text, index, path, value.as_ref())?), index)),
            (Edit::Remove, Some(index)) => Ok((remove_document(text, index)?.map_or(New::Nothing, New::Text), index)),
            (Edit::Put(_) | Edit::PutBack(_) | Edit::Set { .. } | Edit::Remove, None) => Err(moved()),
        }
    }
}

/// What to do where the operator may not.
fn by_hand(origin: &Origin, edit: &Edit) -> String {
    match edit {
        Edit::Set { path, value: Some(value) } => format!("set `{}` to `{value}` in {origin}", path.join(".")),
        Edit::Set { path, value: None } => format!("remove `{}` from {origin}", path.join(".")),
        Edit::Remove => format!("delete {origin}"),
        Edit::Put(text) | Edit::PutBack(text) => format!("put this into {origin}:\n\n{text}"),
    }
}

fn explain(origin: &Origin, by_hand: &str, failure: Failure<SourceError>) -> SourceError {
    match failure {
        Failure::Edit(SourceError::Refused(why)) => SourceError::Refused(format!("{origin}: {why}")),
        Failure::Edit(error) => error,
        Failure::Refused(why) => SourceError::Refused(format!("{origin} cannot be changed: {why}; by hand: {by_hand}")),
        Failure::Io(error) if error.kind() == io::ErrorKind::NotFound => SourceError::Refused(format!("{origin} is not there any more; try again")),
        Failure::Io(source) => SourceError::Io { doing: "change", path: origin.to_string(), source },
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::spec;
    use super::*;

    #[test]
    fn a_file_that_went_while_it_was_changed_is_told_otherwise_than_a_failing_file_system() {
        let origin = Origin { source: "specs".into(), path: "a.yaml".into(), document: 0 };
        let told = |kind: io::ErrorKind| explain(&origin, "", Failure::Io(kind.into()));
        let SourceError::Refused(why) = told(io::ErrorKind::NotFound) else { panic!("it can be tried again") };
        assert!(why.ends_with("is not there any more; try again"), "{why}");
        assert!(matches!(told(io::ErrorKind::PermissionDenied), SourceError::Io { doing: "change", .. }));
    }

    /// The namespace `alice`, with these files.
    fn alice(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let root = Root::new(directory.path().to_str().unwrap(), Some("alice")).unwrap();
        (directory, root)
    }

    fn workspace(name: &str) -> ObjectRef {
        ObjectRef::new(crate::resource::Kind::Workspace, "alice", name)
    }

    #[tokio::test]
    async fn the_statuses_beside_a_file_go_with_its_last_document() {
        let (a, b) = (spec("a", "x"), spec("b", "x"));
        let (directory, root) = alice(&[("ab.yaml", &format!("{a}---\n{b}")), ("ab.yaml.status.yaml", "x: y\n")]);
        let beside = directory.path().join("ab.yaml.status.yaml");
        let at = Origin { source: root.name.clone(), path: "ab.yaml".into(), document: 0 };
        edit(&root, &workspace("a"), Some(&at), Edit::Remove).await.unwrap();
        assert!(beside.exists(), "that of the other document is in it");
        edit(&root, &workspace("b"), Some(&at), Edit::Remove).await.unwrap();
        assert!(!beside.exists());
    }

    #[tokio::test]
    async fn a_document_that_is_not_in_its_file_any_more_is_not_put_there() {
        let b = spec("b", "x");
        let (directory, root) = alice(&[("a.yaml", &b)]);
        let at = Origin { source: root.name.clone(), path: "a.yaml".into(), document: 0 };
        let why = edit(&root, &workspace("a"), Some(&at), Edit::Put(spec("a", "y"))).await.unwrap_err().to_string();
        assert!(why.contains("workspace/a -n alice is not in") && why.ends_with("any more; try again"), "{why}");
        assert_eq!(fs::read_to_string(directory.path().join("a.yaml")).unwrap(), b);
    }

    #[tokio::test]
    async fn only_a_new_file_makes_its_directory_and_none_makes_the_root() {
        let (directory, root) = alice(&[]);
        let at = Origin { source: root.name.clone(), path: "sub/a.yaml".into(), document: 0 };
        let (below, put) = (directory.path().join("sub"), || Edit::Put(spec("a", "x")));
        edit(&root, &workspace("a"), Some(&at), put()).await.unwrap_err();
        assert!(!below.exists());
        edit(&root, &workspace("a"), Some(&at), Edit::PutBack(spec("a", "x"))).await.unwrap();
        assert!(below.join("a.yaml").exists());
        let away = Root::new(directory.path().join("away").to_str().unwrap(), Some("alice")).unwrap();
        edit(&away, &workspace("a"), None, put()).await.unwrap_err();
        assert!(!away.path.exists());
    }
}
