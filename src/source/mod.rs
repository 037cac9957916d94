//! Where specs live: the port, and what a source says. `parse` is the only YAML reader, `splice` the only YAML writer.
//!
//! **Invariant:** a source that fails never says that something is gone. `Gone` is said only of a listing that was complete, of the same
//! root, at rest, and seen twice.

pub mod directory;
pub mod exchange;
pub mod explain;
#[cfg(test)]
mod field_tests;
pub mod item;
pub mod parse;
pub mod render;
pub mod report;
pub mod schema;
pub mod select;
pub mod sink;
pub mod splice;
pub mod structure;
pub mod tree;
pub mod validate;
pub mod words;

use futures::future::BoxFuture;
use futures::stream::BoxStream;

use crate::resource::{ObjectRef, Origin, Resource};

/// A good document.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// What it says; the namespace is filled in.
    pub resource: Resource,
    /// Where it is.
    pub origin: Origin,
    /// SHA-256 in hexadecimal over its `spec`, labels and annotations in canonical form; comments, order and `status` do not count.
    pub digest: String,
    /// Its text, without `status`.
    pub text: String,
    /// The directory of its file, absolute: what relative host paths start from.
    pub directory: std::path::PathBuf,
}

/// What a source says: a list, then a watch.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceEvent {
    /// A listing begins; what was said before is void when it is done.
    Init,
    /// One document of the listing.
    InitApply(Box<Item>),
    /// The listing is complete, and the source can be trusted; not said while it is unhealthy.
    InitDone,
    /// A document is new or changed.
    Apply(Box<Item>),
    /// The `status` in a document is another than before, and nothing else of what it means.
    Reported {
        /// What it declares.
        object: ObjectRef,
        /// Where it is.
        origin: Origin,
        /// The status that it has now; `None`: it has none any more.
        status: Option<serde_json::Value>,
    },
    /// These documents are gone, all noticed at once; the listing was complete and agreed twice.
    Gone(Vec<(ObjectRef, Origin)>),
    /// A file or document cannot be used. What it held when it was last good stays in force.
    Invalid {
        /// Where: document 0 stands for the whole file; the path may be of a directory that cannot be looked into.
        origin: Origin,
        /// The objects last seen in it, now shielded from deletion; empty when that is not known.
        shields: Vec<ObjectRef>,
        /// What the file says now, rendered with `path:line:column:` and carets; empty: it is good again.
        errors: Vec<String>,
    },
    /// The whole source cannot be trusted now; nothing of it may be deleted. The text says why and what to do.
    Unhealthy(String),
    /// It can be trusted again; its identity may be another one.
    Healthy,
}

/// A change to exactly one document.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// Sets a value, by the path of its keys; makes missing mappings on the way.
    Set {
        /// `["spec", "state"]`.
        path: Vec<String>,
        /// The value; `None` removes the key.
        value: Option<serde_json::Value>,
    },
    /// Removes the document, and the file with its last.
    Remove,
    /// Puts a whole document in its place, or at a new one; comments of the old go.
    Put(String),
    /// Puts a whole document back into the file it was removed from, behind what is there now; the file is made again where it is gone.
    PutBack(String),
}

/// A source failed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The edit cannot be made without harming the file; the text says which edit to make by hand.
    #[error("{0}")]
    Refused(String),
    /// The file system failed.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Where specs live.
pub trait SpecSource: Send + Sync {
    /// Its name, as in `Origin::source`.
    fn name(&self) -> &str;
    /// A list, then a watch, for ever.
    fn events(&self) -> BoxStream<'static, SourceEvent>;
    /// Looks again now (a timer, or a command).
    fn rescan(&self);
    /// What tells this place from another under the same name (a directory's file system and inode), once it was listed; to be remembered for the
    /// next run.
    fn identity(&self) -> Option<String>;
    /// A person has confirmed that what the source shows now is meant, even where it is not what it was (another directory in its place).
    fn accept(&self) {}
    /// Whether the last scan found the object at that origin. Tells a move (the old origin does not hold it any more) from a second document
    /// with the same key.
    fn holds(&self, object: &ObjectRef, origin: &Origin) -> bool;
    /// Changes one document; `at` says where it is, `None`: it is new.
    fn edit<'a>(&'a self, object: &'a ObjectRef, at: Option<&'a Origin>, edit: Edit) -> BoxFuture<'a, Result<Origin, SourceError>>;
}
