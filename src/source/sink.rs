//! Where the status of a spec file is written for its user: into the file, into a file beside it, nowhere.
//!
//! **Invariant:** only `status` changes in a user's file, and no save of anybody else is lost.

use std::collections::BTreeSet;
use std::path::Path;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::SourceError;
use super::directory::Root;
use super::exchange::{Failure, New, change};
use super::splice::{documents, render, set_status};
use crate::resource::{API_VERSION, ObjectRef, Origin, Status};
use crate::status::{SinkError, StatusSink};

/// What a refusal ends with.
const WAYS_OUT: &str = "or run with `--status sidecar` (a file beside it) or `--status none`";

/// Writes `status:` into the user's own file.
pub struct Inline {
    roots: Vec<Root>,
}

impl Inline {
    /// For the files of these roots.
    pub fn new(roots: Vec<Root>) -> Self {
        Self { roots }
    }

    async fn put(&self, object: &ObjectRef, at: &Origin, status: &Status) -> Result<bool, SinkError> {
        let (root, status) = prepare(&self.roots, at, status)?;
        let path = match root.resolve(&at.path) {
            Ok(Some(path)) => path,
            Ok(None) => return Err(refused(at, &format!("it is a link that leads out of {}; put the file itself there, {WAYS_OUT}", root.name))),
            Err(error) => return Err(io_or_moved(at, error)),
        };
        let (object, origin) = (object.clone(), at.clone());
        let edit = move |text: Option<&str>| {
            let found = text.and_then(|text| Some((text, root.locate(&origin.path, text, &object, origin.document)?)));
            let (text, document) = found.ok_or_else(|| SinkError::Moved(origin.clone()))?;
            match set_status(text, document, Some(&status)) {
                Ok(new) => Ok(New::Text(new)),
                Err(SourceError::Refused(why)) => Err(refused(&origin, &format!("{why}\n{WAYS_OUT}"))),
                Err(SourceError::Io { source, .. }) => Err(SinkError::Io { origin: origin.clone(), source }),
            }
        };
        change(path, edit).await.map_err(|failure| explain(at, failure, WAYS_OUT))
    }
}

impl StatusSink for Inline {
    fn write<'a>(&'a self, object: &'a ObjectRef, at: &'a Origin, status: &'a Status) -> BoxFuture<'a, Result<bool, SinkError>> {
        self.put(object, at, status).boxed()
    }
}

/// Writes `<file>.status.yaml` beside the user's file: one document with the status of each of its objects.
pub struct Sidecar {
    roots: Vec<Root>,
}

impl Sidecar {
    /// For the files of these roots.
    pub fn new(roots: Vec<Root>) -> Self {
        Self { roots }
    }

    async fn put(&self, object: &ObjectRef, at: &Origin, status: &Status) -> Result<bool, SinkError> {
        let (root, status) = prepare(&self.roots, at, status)?;
        let path = match root.resolve(&format!("{}{SIDECAR_ENDING}", at.path)) {
            Ok(Some(path)) => path,
            Ok(None) => return Err(refused(at, &format!("its directory is a link that leads out of {}; run with `--status none`", root.name))),
            Err(error) => return Err(io_or_moved(at, error)),
        };
        let spec = root.path.join(&at.path);
        let (object, origin) = (object.clone(), at.clone());
        let edit = move |text: Option<&str>| {
            let declared = declared(&root, &origin, &spec)?;
            if !declared.contains(&object) {
                return Err(SinkError::Moved(origin.clone()));
            }
            // The documents of the objects that the file still declares, with ours in its place or at the end.
            let mut values: Vec<Value> = documents(text.unwrap_or_default()).into_iter().filter_map(|piece| piece.value).collect();
            values.retain(|value| root.identify(&origin.path, value).is_some_and(|key| declared.contains(&key)));
            let ours = envelope(&object, &status);
            match values.iter_mut().find(|value| root.identify(&origin.path, value).as_ref() == Some(&object)) {
                Some(value) => *value = ours,
                None => values.push(ours),
            }
            let texts: Vec<String> = values.iter().map(render).collect();
            Ok(New::Text(format!("# Written by dockmaster; changes made here are lost.\n---\n{}", texts.join("---\n"))))
        };
        change(path, edit).await.map_err(|failure| explain(at, failure, "or run with `--status none`"))
    }
}

impl StatusSink for Sidecar {
    fn write<'a>(&'a self, object: &'a ObjectRef, at: &'a Origin, status: &'a Status) -> BoxFuture<'a, Result<bool, SinkError>> {
        self.put(object, at, status).boxed()
    }
}

/// Writes nothing; the status is in the ledger only.
pub struct Nowhere;

impl StatusSink for Nowhere {
    fn write<'a>(&'a self, _: &'a ObjectRef, _: &'a Origin, _: &'a Status) -> BoxFuture<'a, Result<bool, SinkError>> {
        async { Ok(false) }.boxed()
    }
}

/// What a spec file's name gets at its end in the name of its sidecar.
pub const SIDECAR_ENDING: &str = ".status.yaml";

/// The root of an origin, and the status as it is written.
fn prepare(roots: &[Root], at: &Origin, status: &Status) -> Result<(Root, Value), SinkError> {
    let root = roots.iter().find(|root| root.name == at.source);
    let root = root.ok_or_else(|| refused(at, "its directory is not watched any more; name it with `--specs`"))?.clone();
    let status = serde_json::to_value(status).map_err(|error| SinkError::Io { origin: at.clone(), source: error.into() })?;
    Ok((root, status))
}

/// The objects that a spec file declares now.
fn declared(root: &Root, origin: &Origin, spec: &Path) -> Result<BTreeSet<ObjectRef>, SinkError> {
    let text = std::fs::read_to_string(spec).map_err(|error| io_or_moved(origin, error))?;
    Ok(documents(&text).iter().filter_map(|piece| root.identify(&origin.path, piece.value.as_ref()?)).collect())
}

/// The document of one object in a sidecar.
fn envelope(object: &ObjectRef, status: &Value) -> Value {
    let mut metadata = json!({ "name": object.name });
    if let Some(namespace) = &object.namespace {
        metadata["namespace"] = json!(namespace);
    }
    json!({ "apiVersion": API_VERSION, "kind": object.kind, "metadata": metadata, "status": status })
}

fn refused(at: &Origin, why: &str) -> SinkError {
    SinkError::Refused { origin: at.clone(), why: why.to_owned() }
}

fn io_or_moved(at: &Origin, error: std::io::Error) -> SinkError {
    let gone = matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory);
    if gone { SinkError::Moved(at.clone()) } else { SinkError::Io { origin: at.clone(), source: error } }
}

fn explain(at: &Origin, failure: Failure<SinkError>, ways_out: &str) -> SinkError {
    match failure {
        Failure::Edit(error) => error,
        Failure::Refused(why) => refused(at, &format!("{why}, {ways_out}")),
        Failure::Io(error) => io_or_moved(at, error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::resource::Kind;
    use crate::resource::status::Phase;

    const TWO: &str = "# mine\nkind: Workspace\nmetadata: {name: a} # a\n---\nkind: Workspace\nmetadata: {name: b}\n";

    fn status(phase: Phase) -> Status {
        let none = json!({"observedGeneration": 1, "phase": phase, "conditions": []});
        serde_json::from_value(none).unwrap()
    }

    fn specs(text: &str) -> (tempfile::TempDir, Root, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("alice")).unwrap();
        let file = directory.path().join("alice/x.yaml");
        fs::write(&file, text).unwrap();
        let root = Root::new(directory.path().to_str().unwrap(), None).unwrap();
        (directory, root, file)
    }

    fn at(root: &Root, document: u32) -> Origin {
        Origin { source: root.name.clone(), path: "alice/x.yaml".into(), document }
    }

    fn workspace(name: &str) -> ObjectRef {
        ObjectRef::new(Kind::Workspace, "alice", name)
    }

    #[tokio::test]
    async fn inline_goes_into_the_document_of_the_object() {
        let (_directory, root, file) = specs(TWO);
        let sink = Inline::new(vec![root.clone()]);
        let (a, b, at) = (workspace("a"), workspace("b"), at(&root, 0));
        let (one, two) = (status(Phase::Running), status(Phase::Stopped));
        let (first, second) = tokio::join!(sink.write(&a, &at, &one), sink.write(&b, &at, &two));
        assert!(first.unwrap() && second.unwrap());
        let block = |phase| format!("status:\n  observedGeneration: 1\n  phase: {phase}\n  conditions: []\n");
        let expected = format!(
            "# mine\nkind: Workspace\nmetadata: {{name: a}} # a\n{}---\nkind: Workspace\nmetadata: {{name: b}}\n{}",
            block("Running"),
            block("Stopped")
        );
        assert_eq!(fs::read_to_string(&file).unwrap(), expected);
        assert!(!sink.write(&a, &at, &one).await.unwrap(), "nothing to write");
        assert!(matches!(sink.write(&workspace("c"), &at, &one).await, Err(SinkError::Moved(_))));
        fs::remove_file(&file).unwrap();
        assert!(matches!(sink.write(&a, &at, &one).await, Err(SinkError::Moved(_))));
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 0, "nothing is left behind");
    }

    #[tokio::test]
    async fn inline_writes_through_links_and_never_out() {
        let (directory, root, file) = specs(TWO);
        let real = directory.path().join("alice/.data");
        fs::create_dir(&real).unwrap();
        fs::rename(&file, real.join("x.yaml")).unwrap();
        std::os::unix::fs::symlink(".data/x.yaml", &file).unwrap();
        let sink = Inline::new(vec![root.clone()]);
        assert!(sink.write(&workspace("a"), &at(&root, 0), &status(Phase::Running)).await.unwrap());
        assert!(fs::symlink_metadata(&file).unwrap().is_symlink());
        assert!(fs::read_to_string(real.join("x.yaml")).unwrap().contains("phase: Running"));
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("x.yaml"), TWO).unwrap();
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink(outside.path().join("x.yaml"), &file).unwrap();
        let error = sink.write(&workspace("a"), &at(&root, 0), &status(Phase::Running)).await.unwrap_err();
        assert!(error.to_string().contains("leads out of") && error.to_string().contains("--status sidecar"), "{error}");
        assert_eq!(fs::read_to_string(outside.path().join("x.yaml")).unwrap(), TWO);
    }

    #[tokio::test]
    async fn a_mounted_configuration_may_be_swapped_at_any_moment() {
        use std::os::unix::fs::symlink;
        let (_directory, root, file) = specs(TWO);
        let folder = file.parent().unwrap().to_owned();
        // As Kubernetes does it: a new directory, a new link in the place of the old, and the old directory goes.
        let swap = move |version: u32| {
            let data = folder.join(format!("..{version}"));
            fs::create_dir(&data).unwrap();
            let new = fs::File::create(data.join("x.yaml")).unwrap();
            std::io::Write::write_all(&mut &new, format!("# version {version}\n{TWO}").as_bytes()).unwrap();
            // Saved long ago, so that nobody waits for it to come to rest.
            new.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(60)).unwrap();
            symlink(format!("..{version}"), folder.join("..data_tmp")).unwrap();
            fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
            if version > 0 {
                fs::remove_dir_all(folder.join(format!("..{}", version - 1))).unwrap_or_else(|error| assert_ne!(error.kind(), std::io::ErrorKind::NotFound));
            }
        };
        swap(0);
        fs::remove_file(&file).unwrap();
        symlink("..data/x.yaml", &file).unwrap();
        let sink = Inline::new(vec![root.clone()]);
        let is_done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let seen = is_done.clone();
        let swaps = std::thread::spawn(move || {
            let mut version = 0;
            while !seen.load(std::sync::atomic::Ordering::SeqCst) {
                version += 1;
                swap(version);
            }
            version
        });
        for _ in 0..30 {
            match sink.write(&workspace("a"), &at(&root, 0), &status(Phase::Running)).await {
                Ok(_) | Err(SinkError::Moved(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        is_done.store(true, std::sync::atomic::Ordering::SeqCst);
        let last = swaps.join().unwrap();
        sink.write(&workspace("a"), &at(&root, 0), &status(Phase::Running)).await.unwrap();
        let written = fs::read_to_string(&file).unwrap();
        assert!(fs::symlink_metadata(&file).unwrap().is_symlink() && written.contains("phase: Running"), "{written}");
        let without = set_status(&written, 0, None).unwrap();
        assert_eq!(without, format!("# version {last}\n{TWO}"));
    }

    #[tokio::test]
    async fn what_cannot_be_written_inline_is_explained() {
        let (_directory, root, file) = specs("kind: Workspace\nmetadata: &m {name: a}\nstatus: &s {phase: Running}\ncopy: *s\n");
        let sink = Inline::new(vec![root.clone()]);
        let before = fs::read_to_string(&file).unwrap();
        let error = sink.write(&workspace("a"), &at(&root, 0), &status(Phase::Stopped)).await.unwrap_err().to_string();
        assert!(error.contains("alice/x.yaml") && error.contains("by hand") && error.contains("--status"), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), before);
        let elsewhere = Inline::new(Vec::new());
        assert!(elsewhere.write(&workspace("a"), &at(&root, 0), &status(Phase::Stopped)).await.unwrap_err().to_string().contains("--specs"));
    }

    #[tokio::test]
    async fn a_sidecar_has_a_document_for_each_object_of_the_file() {
        let (_directory, root, file) = specs(TWO);
        let sink = Sidecar::new(vec![root.clone()]);
        assert!(sink.write(&workspace("a"), &at(&root, 0), &status(Phase::Running)).await.unwrap());
        assert!(sink.write(&workspace("b"), &at(&root, 1), &status(Phase::Stopped)).await.unwrap());
        assert!(!sink.write(&workspace("b"), &at(&root, 1), &status(Phase::Stopped)).await.unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), TWO, "the user's file is not touched");
        let sidecar = file.with_file_name("x.yaml.status.yaml");
        let values: Vec<_> = documents(&fs::read_to_string(&sidecar).unwrap()).into_iter().filter_map(|piece| piece.value).collect();
        let expected = |name, phase| {
            json!({"apiVersion": API_VERSION, "kind": "Workspace", "metadata": {"name": name, "namespace": "alice"},
                "status": {"observedGeneration": 1, "phase": phase, "conditions": []}})
        };
        assert_eq!(values, [expected("a", "Running"), expected("b", "Stopped")]);
        fs::write(&file, "kind: Workspace\nmetadata: {name: b}\n").unwrap();
        assert!(sink.write(&workspace("b"), &at(&root, 0), &status(Phase::Running)).await.unwrap());
        let text = fs::read_to_string(&sidecar).unwrap();
        assert!(!text.contains("name: a") && text.contains("phase: Running"), "{text}");
        assert!(matches!(sink.write(&workspace("a"), &at(&root, 0), &status(Phase::Running)).await, Err(SinkError::Moved(_))));
        assert!(!Nowhere.write(&workspace("b"), &at(&root, 0), &status(Phase::Running)).await.unwrap());
    }
}
