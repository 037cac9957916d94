//! From what the files say now to what is new about it: the events of a source, each said once.
//!
//! **Invariant:** an object is said to be gone only if two listings, `settle` apart, did not have it and nothing shields it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::scan::Scanner;
use crate::resource::{ObjectRef, Origin};
use crate::source::SourceEvent;

/// A document, by what it declares and where it is.
pub type Place = (ObjectRef, Origin);

/// What was said.
#[derive(Debug)]
pub struct Teller {
    source: String,
    /// The [`Scanner::changes`] of which everything was said.
    told: Option<u64>,
    /// What is in force, with the digest that was said, and the text of the status that was found with it.
    said: BTreeMap<Place, (String, Option<Arc<str>>)>,
    /// What is wrong with which file, and what it shields.
    wrong: BTreeMap<String, (Vec<String>, Vec<ObjectRef>)>,
    /// What was not found any more, all of it, and since when.
    missing: BTreeSet<Place>,
    since: Instant,
}

impl Teller {
    /// Of a source of that name that has said nothing.
    pub fn new(source: &str, now: Instant) -> Self {
        Self { source: source.to_owned(), told: None, said: BTreeMap::new(), wrong: BTreeMap::new(), missing: BTreeSet::new(), since: now }
    }

    /// What is in force and was found, or could not be looked for, last time.
    pub fn held(&self) -> BTreeSet<Place> {
        self.said.keys().filter(|place| !self.missing.contains(place)).cloned().collect()
    }

    /// Whether documents are missing that were not said to be gone yet.
    pub fn is_missing_any(&self) -> bool {
        !self.missing.is_empty()
    }

    /// What is new or changed; `None`: no file was read since. `first`: as part of the listing that a source begins with.
    pub fn news(&mut self, scanner: &Scanner, first: bool, now: Instant) -> Option<Vec<SourceEvent>> {
        if !first && self.told.replace(scanner.changes()) == Some(scanner.changes()) {
            return None;
        }
        let mut events = Vec::new();
        let mut found = BTreeSet::new();
        let mut arrived = BTreeSet::new();
        for (item, status) in scanner.files().flat_map(|(_, content)| content.items.iter().zip(&content.statuses)) {
            let place = (item.resource.reference(), item.origin.clone());
            found.insert(place.clone());
            let before = self.said.insert(place.clone(), (item.digest.clone(), status.clone()));
            match before {
                Some((digest, known)) if digest == item.digest => {
                    if known != *status {
                        events.push(SourceEvent::Reported { object: place.0, origin: place.1, status: item.resource.status().cloned() });
                    }
                }
                Some(_) | None => {
                    if before.is_none() {
                        arrived.insert(place.0);
                    }
                    let item = Box::new(item.clone());
                    events.push(if first { SourceEvent::InitApply(item) } else { SourceEvent::Apply(item) });
                }
            }
        }
        let lost: BTreeSet<Place> = self.said.keys().filter(|place| !found.contains(place)).cloned().collect();
        let (shielded, missing): (BTreeSet<Place>, BTreeSet<Place>) = lost.into_iter().partition(|(_, origin)| scanner.shields(&origin.path));
        // What came up elsewhere has moved.
        let (moved, missing): (BTreeSet<Place>, BTreeSet<Place>) = missing.into_iter().partition(|(object, _)| arrived.contains(object));
        self.said.retain(|place, _| !moved.contains(place));
        if !missing.is_subset(&self.missing) {
            self.since = now;
        }
        self.missing = missing;
        events.extend(self.wrongs(scanner, &shielded));
        Some(events)
    }

    /// What comes next is of another scanner, which counts anew.
    pub fn begin_anew(&mut self) {
        self.told = None;
    }

    /// The files that went bad, or are bad in another way, or are good again.
    fn wrongs(&mut self, scanner: &Scanner, shielded: &BTreeSet<Place>) -> Vec<SourceEvent> {
        let shields = |path: &str| {
            let below = |origin: &Origin| origin.path == path || origin.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
            let objects: BTreeSet<&ObjectRef> = shielded.iter().filter(|(_, origin)| below(origin)).map(|(object, _)| object).collect();
            objects.into_iter().cloned().collect::<Vec<_>>()
        };
        let bad = scanner.files().filter(|(_, content)| !content.errors.is_empty());
        let wrong: BTreeMap<_, _> = bad.map(|(path, content)| (path.to_owned(), (content.errors.clone(), shields(path)))).collect();
        let before = std::mem::replace(&mut self.wrong, wrong);
        let invalid = |path: &str, errors: &[String], shields: &[ObjectRef]| SourceEvent::Invalid {
            origin: Origin { source: self.source.clone(), path: path.to_owned(), document: 0 },
            shields: shields.to_vec(),
            errors: errors.to_vec(),
        };
        let news = self.wrong.iter().filter(|(path, told)| before.get(*path) != Some(*told)).map(|(path, (errors, shields))| invalid(path, errors, shields));
        let good = before.keys().filter(|path| !self.wrong.contains_key(*path)).map(|path| invalid(path, &[], &[]));
        news.chain(good).collect()
    }

    /// That the files with statuses beside these spec files were removed: what was written there is not there any more.
    pub fn bared(&self, files: &BTreeSet<String>) -> Vec<SourceEvent> {
        let of = self.said.keys().filter(|(_, origin)| files.contains(&origin.path));
        of.map(|(object, origin)| SourceEvent::Reported { object: object.clone(), origin: origin.clone(), status: None }).collect()
    }

    /// Begins to count anew how long documents are missing: what was seen of a source in trouble does not count.
    pub fn doubt(&mut self, now: Instant) {
        self.since = now;
    }

    /// When what is missing will be gone, if it stays missing.
    pub fn due(&self, settle: Duration) -> Option<Instant> {
        // Never in the listing that missed them first.
        (!self.missing.is_empty()).then(|| self.since + settle.max(Duration::from_millis(1)))
    }

    /// All that is gone by now, at once.
    pub fn gone(&mut self, settle: Duration, now: Instant) -> Option<SourceEvent> {
        self.due(settle).filter(|due| *due <= now)?;
        let gone = std::mem::take(&mut self.missing);
        self.said.retain(|place, _| !gone.contains(place));
        Some(SourceEvent::Gone(gone.into_iter().collect()))
    }
}
