//! From a plan and the world to `status:`, and where it is written.
//!
//! **Invariant:** `Ready=True` is only said of a plan that was empty over a world that was seen.

pub mod project;
#[cfg(test)]
mod project_tests;
pub mod reporter;

use futures::future::BoxFuture;

use crate::resource::{ObjectRef, Origin, Status};

/// Where a status is written for its user: the file, a file beside it, nowhere.
pub trait StatusSink: Send + Sync {
    /// Writes it, only if it differs from what is there. `Ok(false)`: nothing had to be written.
    fn write<'a>(&'a self, object: &'a ObjectRef, at: &'a Origin, status: &'a Status) -> BoxFuture<'a, Result<bool, SinkError>>;
}

/// A status could not be written; the work goes on, and the status is in the ledger.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The document is not there any more, or another one is in its place: look again.
    #[error("{0} changed meanwhile")]
    Moved(Origin),
    /// Writing would harm the file.
    #[error("the status of {origin} is not written: {why}")]
    Refused {
        /// Where.
        origin: Origin,
        /// Why, and what to do.
        why: String,
    },
    /// The file system failed.
    #[error("cannot write the status of {origin}")]
    Io {
        /// Where.
        origin: Origin,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}
