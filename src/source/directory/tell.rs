//! From what the files say now to what is new about it: the events of a source, each said once.
//!
//! **Invariant:** an object is said to be gone only if two listings, `settle` apart, did not have it and nothing shields it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::scan::Scanner;
use crate::resource::{ObjectRef, Origin};
use crate::source::SourceEvent;

/// A document, by what it declares and where it is.
pub type Place = (ObjectRef, Origin);

/// What was said of a document.
#[derive(Debug)]
struct Said {
    digest: String,
    /// In which reading of its file it was found.
    reading: u64,
    /// In which pass it was found last.
    found: u64,
}

/// A status from the text that was made of it.
fn read_again(text: Option<&str>) -> Option<serde_json::Value> {
    text.and_then(|text| serde_json::from_str(text).ok())
}

/// What was said.
#[derive(Debug)]
pub struct Teller {
    source: String,
    /// The [`Scanner::changes`] of which everything was said.
    told: Option<u64>,
    /// What is in force.
    said: BTreeMap<Place, Said>,
    /// How often there was news.
    passes: u64,
    /// Whether what is in force and found is other than when it was last asked for.
    is_held_anew: bool,
    /// What is wrong with which file, and what it shields.
    wrong: BTreeMap<String, (Vec<String>, Vec<ObjectRef>)>,
    /// What was not found any more, all of it, and since when.
    missing: BTreeSet<Place>,
    since: Instant,
}

impl Teller {
    /// Of a source of that name that has said nothing.
    pub fn new(source: &str, now: Instant) -> Self {
        Self {
            source: source.to_owned(),
            told: None,
            said: BTreeMap::new(),
            passes: 0,
            is_held_anew: false,
            wrong: BTreeMap::new(),
            missing: BTreeSet::new(),
            since: now,
        }
    }

    /// What is in force and was found, or could not be looked for, last time; `None`: the same as when this was last asked.
    pub fn held_anew(&mut self) -> Option<BTreeSet<Place>> {
        std::mem::take(&mut self.is_held_anew).then(|| self.said.keys().filter(|place| !self.missing.contains(place)).cloned().collect())
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
        let mut arrived = BTreeSet::new();
        self.passes += 1;
        // Most of many documents are as they were: of these nothing is made anew.
        let documents =
            scanner.files().flat_map(|(_, content)| content.items.iter().zip(&content.statuses).map(|(item, status)| (item, status, content.reading)));
        for (item, status, reading) in documents {
            let place = (item.resource.reference(), item.origin.clone());
            let known = self.said.get_mut(&place);
            match known {
                Some(known) if known.digest == item.digest => {
                    known.found = self.passes;
                    // Also where the status is as before: one that was written and taken away between two readings left no other trace.
                    if std::mem::replace(&mut known.reading, reading) != reading {
                        events.push(SourceEvent::Reported { object: place.0, origin: place.1, status: read_again(status.as_deref()) });
                    }
                }
                Some(_) | None => {
                    if known.is_none() {
                        arrived.insert(place.0.clone());
                    }
                    self.said.insert(place, Said { digest: item.digest.clone(), reading, found: self.passes });
                    let mut item = Box::new(item.clone());
                    *item.resource.status_mut() = read_again(status.as_deref());
                    events.push(if first { SourceEvent::InitApply(item) } else { SourceEvent::Apply(item) });
                }
            }
        }
        let lost: BTreeSet<Place> = self.said.iter().filter(|(_, said)| said.found != self.passes).map(|(place, _)| place.clone()).collect();
        let (shielded, missing): (BTreeSet<Place>, BTreeSet<Place>) = lost.into_iter().partition(|(_, origin)| scanner.shields(&origin.path));
        // What came up elsewhere has moved.
        let (moved, missing): (BTreeSet<Place>, BTreeSet<Place>) = missing.into_iter().partition(|(object, _)| arrived.contains(object));
        self.said.retain(|place, _| !moved.contains(place));
        self.is_held_anew |= !arrived.is_empty() || missing != self.missing;
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
        self.said.values_mut().for_each(|said| said.reading = 0);
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

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::super::scan::tests::{look_at_once, scanner, write};
    use super::super::tests::{brief, spec};
    use super::*;

    const SETTLE: Duration = Duration::from_secs(10);

    /// A root with a teller of what is in it, by a clock of its own.
    struct Rig {
        directory: TempDir,
        scanner: Scanner,
        teller: Teller,
        start: Instant,
    }

    impl Rig {
        /// Of these files, which were listed at 0 seconds.
        fn listed(files: &[(&str, &str)]) -> Self {
            let directory = tempfile::tempdir().unwrap();
            files.iter().for_each(|(path, text)| write(directory.path(), path, text));
            let start = Instant::now();
            let mut rig = Self { scanner: scanner(directory.path()), teller: Teller::new("specs", start), directory, start };
            look_at_once(&mut rig.scanner);
            let listing = brief(&rig.teller.news(&rig.scanner, true, start).unwrap());
            assert!(listing.iter().all(|line| line.starts_with("apply ")), "{listing:?}");
            rig
        }

        fn write(&self, path: &str, text: &str) {
            write(self.directory.path(), path, text);
        }

        fn remove(&self, path: &str) {
            fs::remove_file(self.directory.path().join(path)).unwrap();
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        /// What a look at that second brings; nothing too where no file was read since.
        fn news(&mut self, seconds: u64) -> Vec<String> {
            look_at_once(&mut self.scanner);
            let now = self.at(seconds);
            self.teller.news(&self.scanner, false, now).map_or_else(Vec::new, |events| brief(&events))
        }

        /// What was said to be gone at that instant.
        fn gone(&mut self, now: Instant) -> Vec<String> {
            let gone: Vec<SourceEvent> = self.teller.gone(SETTLE, now).into_iter().collect();
            brief(&gone)
        }

        /// What is held, each time that it is another than before.
        fn held(&mut self) -> Option<Vec<String>> {
            self.teller.held_anew().map(|places| places.into_iter().map(|(_, origin)| origin.path).collect())
        }
    }

    const NONE: [&str; 0] = [];

    #[test]
    fn what_is_missing_is_gone_when_it_stayed_missing_for_the_settle_time() {
        let mut rig = Rig::listed(&[("a.yaml", &spec("a", "x")), ("b.yaml", &spec("b", "x"))]);
        assert!(!rig.teller.is_missing_any());
        assert_eq!((rig.teller.due(SETTLE), rig.gone(rig.at(1000))), (None, vec![]));
        assert_eq!(rig.held(), Some(vec!["a.yaml".to_owned(), "b.yaml".to_owned()]));
        rig.remove("a.yaml");
        assert_eq!(rig.news(1), NONE);
        assert!(rig.teller.is_missing_any());
        assert_eq!((rig.held(), rig.teller.due(SETTLE)), (Some(vec!["b.yaml".to_owned()]), Some(rig.at(11))));
        assert_eq!(rig.gone(rig.at(11) - Duration::from_nanos(1)), NONE);
        assert_eq!(rig.gone(rig.at(11)), ["gone a.yaml#0"]);
        assert!(!rig.teller.is_missing_any());
        assert_eq!((rig.held(), rig.teller.due(SETTLE), rig.gone(rig.at(1000))), (None, None, vec![]));
        // What was there all the time is not said again, and what is gone is new when it comes back.
        rig.write("a.yaml", &spec("a", "x"));
        assert_eq!(rig.news(20), ["apply a.yaml#0"]);
        assert_eq!(rig.held(), Some(vec!["a.yaml".to_owned(), "b.yaml".to_owned()]));
        rig.write("a.yaml", &spec("a", "other"));
        assert_eq!((rig.news(21), rig.held()), (vec!["apply a.yaml#0".to_owned()], None));
        // One that moved is held where it is now.
        fs::rename(rig.directory.path().join("a.yaml"), rig.directory.path().join("c.yaml")).unwrap();
        rig.news(22);
        assert_eq!(rig.held(), Some(vec!["c.yaml".to_owned(), "b.yaml".to_owned()]));
    }

    #[test]
    fn nothing_is_gone_in_the_listing_that_missed_it_first() {
        let mut rig = Rig::listed(&[("a.yaml", &spec("a", "x"))]);
        rig.remove("a.yaml");
        rig.news(1);
        assert_eq!(rig.teller.gone(Duration::ZERO, rig.at(1)), None);
        assert_eq!(rig.teller.due(Duration::ZERO), Some(rig.at(1) + Duration::from_millis(1)));
    }

    #[test]
    fn only_what_is_missed_anew_makes_what_is_missing_wait_longer() {
        let mut rig = Rig::listed(&[("a.yaml", &spec("a", "x")), ("b.yaml", &spec("b", "x")), ("c.yaml", &spec("c", "x"))]);
        rig.remove("a.yaml");
        rig.news(1);
        rig.write("c.yaml", &spec("c", "other"));
        assert_eq!((rig.news(3), rig.teller.due(SETTLE)), (vec!["apply c.yaml#0".to_owned()], Some(rig.at(11))));
        rig.remove("b.yaml");
        assert_eq!((rig.news(5), rig.teller.due(SETTLE)), (vec![], Some(rig.at(15))));
        rig.write("b.yaml", &spec("b", "x"));
        assert_eq!((rig.news(7), rig.teller.due(SETTLE)), (vec!["reported b.yaml false".to_owned()], Some(rig.at(15))));
        assert_eq!(rig.held(), Some(vec!["b.yaml".to_owned(), "c.yaml".to_owned()]));
        assert_eq!(rig.gone(rig.at(15)), ["gone a.yaml#0"]);
    }

    #[test]
    fn what_was_missed_in_doubt_counts_from_the_end_of_the_doubt() {
        let mut rig = Rig::listed(&[("a.yaml", &spec("a", "x"))]);
        rig.remove("a.yaml");
        rig.news(1);
        rig.teller.doubt(rig.at(8));
        assert_eq!(rig.gone(rig.at(11)), NONE);
        assert_eq!(rig.teller.due(SETTLE), Some(rig.at(18)));
        assert_eq!(rig.gone(rig.at(18)), ["gone a.yaml#0"]);
    }

    #[test]
    fn there_is_no_news_while_no_file_is_read() {
        let mut rig = Rig::listed(&[("a.yaml", &spec("a", "x"))]);
        let now = rig.at(1);
        let mut news = |first| rig.teller.news(&rig.scanner, first, now);
        assert_eq!(news(true), Some(vec![]), "a listing that goes on is compared each time");
        assert_eq!(news(false), Some(vec![]));
        assert_eq!(news(false), None);
        assert_eq!(news(true), Some(vec![]));
        assert_eq!(news(false), None);
        rig.teller.begin_anew();
        assert_eq!(brief(&rig.teller.news(&rig.scanner, false, now).unwrap()), ["reported a.yaml false"], "what another scanner counts says nothing");
        assert_eq!(rig.teller.news(&rig.scanner, false, now), None);
    }

    #[test]
    fn a_change_is_said_once_and_a_status_is_no_change_of_the_document() {
        let status = |phase: &str| format!("status: {{phase: {phase}}}\n");
        let mut rig = Rig::listed(&[("a.yaml", &spec("a", "v0"))]);
        rig.news(1);
        for (text, expected) in [
            (format!("{}{}", spec("a", "v0"), status("Starting")), "reported a.yaml true"),
            (format!("{}{}", spec("a", "v0"), status("Running")), "reported a.yaml true"),
            (format!("{}{}", spec("a", "v1"), status("Running")), "apply a.yaml#0"),
            (format!("{}{}", spec("a", "v2"), status("Stopped")), "apply a.yaml#0"),
            (spec("a", "v2"), "reported a.yaml false"),
            (spec("a", "v3"), "apply a.yaml#0"),
        ] {
            rig.write("a.yaml", &text);
            assert_eq!(rig.news(2), [expected], "{text}");
        }
        assert_eq!(rig.news(2), NONE, "nothing was read");
        // A status may have been written there and taken away again.
        rig.write("a.yaml", &format!("# mine\n{}", spec("a", "v3")));
        assert_eq!(rig.news(3), ["reported a.yaml false"]);
    }

    #[test]
    fn all_documents_of_a_spec_file_have_no_status_any_more_when_the_file_with_it_is_removed() {
        let two = format!("{}---\n{}", spec("a", "x"), spec("b", "x"));
        let rig = Rig::listed(&[("ab.yaml", &two), ("c.yaml", &spec("c", "x"))]);
        let bared = |path: &str| brief(&rig.teller.bared(&BTreeSet::from([path.to_owned()])));
        assert_eq!(bared("ab.yaml"), ["reported ab.yaml false", "reported ab.yaml false"]);
        assert_eq!(bared("c.yaml"), ["reported c.yaml false"]);
        assert_eq!(bared("d.yaml"), NONE);
    }
}
