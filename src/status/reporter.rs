//! Writes a status only when it says something new, and not too often: files are read by people and committed by git.
//!
//! **Invariant:** after the first, at most one write per object in ten seconds without a change of phase.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::{SinkError, StatusSink};
use crate::resource::{ObjectRef, Origin, Status};

/// Time between two writes for one object.
const PACE: SignedDuration = SignedDuration::from_secs(10);

/// Keeps what was written last for each object.
pub struct Reporter {
    sink: Arc<dyn StatusSink>,
    written: Mutex<BTreeMap<ObjectRef, Written>>,
}

struct Written {
    origin: Origin,
    status: Status,
    at: Timestamp,
}

impl Reporter {
    /// Writes through this sink.
    pub fn new(sink: Arc<dyn StatusSink>) -> Self {
        Self { sink, written: Mutex::default() }
    }

    /// Writes a status where it lives, if it is new and its time has come; else gives the instant at which to report again.
    pub async fn report(&self, object: &ObjectRef, origin: &Origin, status: &Status, now: Timestamp) -> Result<Option<Timestamp>, SinkError> {
        if let Some(verdict) = self.verdict(object, origin, status, now) {
            return Ok(verdict);
        }
        self.sink.write(object, origin, status).await?;
        let written = Written { origin: origin.clone(), status: status.clone(), at: now };
        self.lock().insert(object.clone(), written);
        Ok(None)
    }

    /// `Some(None)`: nothing to write; `Some(Some(at))`: later; `None`: now.
    fn verdict(&self, object: &ObjectRef, origin: &Origin, status: &Status, now: Timestamp) -> Option<Option<Timestamp>> {
        let written = self.lock();
        let last = written.get(object).filter(|last| last.origin == *origin)?;
        if last.status == *status {
            return Some(None);
        }
        let due = last.at + PACE;
        (last.status.phase == status.phase && now < due && now >= last.at).then_some(Some(due))
    }

    /// Forgets an object: its document is gone, or was edited, so that what is in the file is not known any more.
    pub fn forget(&self, object: &ObjectRef) {
        self.lock().remove(object);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<ObjectRef, Written>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
