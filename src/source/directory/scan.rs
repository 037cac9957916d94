//! What the files of a root say now: reads those that have changed and have come to rest, and keeps the others as they were.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::Root;
use super::git;
use super::walk::{self, Found, Listing, Stamp};
use crate::source::Item;
use crate::source::exchange;
use crate::source::parse::parse_bytes;
use crate::source::render::{Problem, Severity};
use crate::source::select::{FileContext, MAX_FILE_BYTES};
use crate::source::sink::SIDECAR_ENDING;

/// A file that was touched less than this ago may be half written.
pub const REST: Duration = Duration::from_millis(200);
/// A file that never comes to rest is read as it is after this long.
const PATIENCE: Duration = Duration::from_secs(5);
/// Temporary files of ours that are older were left behind, and so were all that the first look of their writer finds.
const LEFTOVER: Duration = Duration::from_secs(10);

/// What a file said when it was last read.
#[derive(Debug, Default)]
pub struct Content {
    /// Its good documents, each without its status.
    pub items: Vec<Item>,
    /// The JSON text of the status of each: as a tree it takes several times as much, and there may be very many.
    pub statuses: Vec<Option<Box<str>>>,
    /// What is wrong with the others, rendered.
    pub errors: Vec<String>,
    /// Another number for each time that the file was read.
    pub reading: u64,
}

/// A file of a root.
#[derive(Debug)]
struct Known {
    found: Found,
    content: Content,
}

/// The files of a root as they were last read.
#[derive(Debug)]
pub struct Scanner {
    root: Root,
    files: BTreeMap<String, Known>,
    /// Files that are being written, and since when.
    restless: BTreeMap<String, Instant>,
    /// The files with statuses beside them.
    sidecars: BTreeSet<String>,
    /// How old a temporary file must be to be one that was left behind.
    leftover: Duration,
    /// How often a file was read, or was not there any more.
    changes: u64,
}

/// One look at a root.
#[derive(Debug, Default)]
pub struct Look {
    /// File system and inode of the root, if there is one.
    pub identity: Option<String>,
    /// Why what was seen is not all: then what was not seen is kept as it was.
    pub trouble: Option<String>,
    /// A file was just touched; look again in [`REST`].
    pub restless: bool,
    /// How long it took to find the files.
    pub walked: Duration,
    /// What git is doing to the root.
    pub git: Option<String>,
    /// The spec files whose file with statuses was there at the last look, and is not now.
    pub bared: BTreeSet<String>,
}

impl Scanner {
    /// Of a root, nothing read yet; by who writes in it, or by somebody who only reads.
    pub fn new(root: Root, is_writer: bool) -> Self {
        let leftover = if is_writer { Duration::ZERO } else { LEFTOVER };
        Self { root, files: BTreeMap::new(), restless: BTreeMap::new(), sidecars: BTreeSet::new(), leftover, changes: 0 }
    }

    /// The files and what they say, in the order of their paths.
    pub fn files(&self) -> impl Iterator<Item = (&str, &Content)> {
        self.files.iter().map(|(path, known)| (path.as_str(), &known.content))
    }

    /// Another number than before, when the files say something else.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether what the file at this path held must be kept in force, because it cannot be read now.
    pub fn shields(&self, path: &str) -> bool {
        self.files.get(path).is_some_and(|known| !known.content.errors.is_empty())
            // A link in the place of a directory above it that cannot be followed.
            || path.match_indices('/').any(|(end, _)| self.files.contains_key(&path[..end]))
    }

    /// Looks again.
    pub fn look(&mut self) -> Look {
        let begun = Instant::now();
        let listing = match walk::list(&self.root.path) {
            Ok(listing) => listing,
            Err(error) => {
                let trouble = format!("the directory {} cannot be read ({error}); mount it, make it, or make it readable", self.root.path.display());
                return Look { trouble: Some(trouble), ..Look::default() };
            }
        };
        let walked = begun.elapsed();
        let Listing { identity, files, sidecars, hidden, incomplete } = listing;
        for (directory, name) in hidden {
            if let Err(error) = exchange::sweep(&directory, &name, self.leftover) {
                tracing::debug!(%error, name, "a temporary file could not be removed");
            }
        }
        self.leftover = LEFTOVER;
        let complete = incomplete.is_none();
        let trouble = incomplete.map(|why| format!("{why}; until then nothing of {} is deleted", self.root.name));
        let lost = self.sidecars.difference(&sidecars).filter(|_| complete);
        let bared = lost.filter_map(|path| path.strip_suffix(SIDECAR_ENDING).map(str::to_owned)).collect();
        if complete {
            self.sidecars = sidecars;
        }
        let mut look = Look { identity: Some(identity), trouble, restless: false, walked, git: git::under_way(&self.root.path), bared };
        self.restless.retain(|path, _| files.contains_key(path));
        if complete {
            let before = self.files.len();
            self.files.retain(|path, _| files.contains_key(path));
            self.changes += u64::from(self.files.len() < before);
        }
        for (path, found) in files {
            if self.files.get(&path).is_some_and(|known| known.found == found) {
                continue;
            }
            let since = self.restless.get(&path).copied();
            let at_once = since.is_some_and(|since| since.elapsed() >= PATIENCE);
            match self.read(&path, found, at_once) {
                Read::Known(mut known) => {
                    if !at_once {
                        self.restless.remove(&path);
                    }
                    self.changes += 1;
                    known.content.reading = self.changes;
                    self.files.insert(path, known);
                }
                Read::Restless => {
                    self.restless.entry(path).or_insert_with(Instant::now);
                    look.restless = true;
                }
            }
        }
        look
    }

    /// Reads a file; with `at_once` even if it is being written.
    fn read(&self, path: &str, found: Found, at_once: bool) -> Read {
        let context = FileContext::new(&self.root.name, &self.root.path, path, self.root.namespace.as_deref());
        let refused = |message: &str, help: &str| Content { errors: vec![Problem::of_file(&context, message, help).rendered()], ..Content::default() };
        let stamp = match found {
            Ok(stamp) => stamp,
            Err((ref message, ref help)) => return Read::Known(Known { content: refused(message, help), found }),
        };
        // A clock that is ahead of ours says nothing about rest.
        let at_rest = at_once || stamp.age().is_none_or(|age| age >= REST);
        if !at_rest {
            return Read::Restless;
        }
        match read_regular(&self.root.path.join(path)) {
            Ok((_, now)) if now != stamp && !at_once => Read::Restless,
            Ok((bytes, _)) => {
                let mut parsed = parse_bytes(&bytes, &context);
                let errors = parsed.problems.iter().filter(|problem| problem.severity == Severity::Error).map(Problem::rendered).collect();
                for warning in parsed.problems.iter().filter(|problem| problem.severity == Severity::Warning) {
                    tracing::warn!(file = context.display, "{}", warning.rendered());
                }
                let statuses = parsed.items.iter_mut().map(|item| item.resource.status_mut().take().map(|status| status.to_string().into())).collect();
                Read::Known(Known { found: Ok(stamp), content: Content { items: parsed.items, statuses, errors, reading: 0 } })
            }
            // Gone since it was listed: the next listing tells.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Read::Restless,
            Err(error) => Read::Known(Known { found, content: refused(&format!("it cannot be read: {error}"), "make it readable") }),
        }
    }
}

/// What came of reading a file.
enum Read {
    Known(Known),
    /// It is being written.
    Restless,
}

/// The bytes of a regular file, at most one more than a spec may have, and its stamp after they were read.
fn read_regular(path: &Path) -> io::Result<(Vec<u8>, Stamp)> {
    let file = OpenOptions::new().read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32).open(path)?;
    stamp(&file)?;
    let mut bytes = Vec::new();
    (&file).take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    Ok((bytes, stamp(&file)?))
}

fn stamp(file: &File) -> io::Result<Stamp> {
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok(Stamp::of(&metadata)) } else { Err(io::Error::other("it is not a regular file")) }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::super::tests::spec;
    use super::*;
    use crate::resource::Resource;

    /// A scanner of a directory, by who writes in it.
    pub fn scanner(directory: &Path) -> Scanner {
        Scanner::new(Root::new(directory.to_str().unwrap(), None).unwrap(), true)
    }

    /// Looks, and reads each file as it is, as if it had been written for a long time.
    pub fn look_at_once(scanner: &mut Scanner) -> Look {
        let long_ago = Instant::now().checked_sub(PATIENCE).unwrap();
        let files = walk::list(&scanner.root.path).unwrap().files;
        scanner.restless.extend(files.into_keys().map(|path| (path, long_ago)));
        scanner.look()
    }

    /// Puts a file in its place whole, so that it is another one than before.
    pub fn write(directory: &Path, path: &str, text: &str) {
        fs::create_dir_all(directory.join(path).parent().unwrap()).unwrap();
        fs::write(directory.join(".new"), text).unwrap();
        fs::rename(directory.join(".new"), directory.join(path)).unwrap();
    }

    /// A directory with one file that was touched long ago, which no test can make: `good.yaml`.
    fn old() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/source/parse")
    }

    fn stamp_of(path: &Path) -> Stamp {
        Stamp::of(&fs::metadata(path).unwrap())
    }

    fn image(scanner: &Scanner, path: &str) -> String {
        let (_, content) = scanner.files().find(|(known, _)| *known == path).unwrap();
        let Resource::Workspace(object) = &content.items[0].resource else { panic!() };
        object.spec.image.clone().unwrap()
    }

    #[test]
    fn each_file_that_is_read_or_lost_is_a_change_and_a_look_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let mut scanner = scanner(root);
        let mut before = scanner.changes();
        let mut is_change = |make: &dyn Fn()| {
            make();
            look_at_once(&mut scanner);
            std::mem::replace(&mut before, scanner.changes()) != scanner.changes()
        };
        assert!(is_change(&|| ["a.yaml", "b.yaml"].iter().for_each(|path| write(root, path, &spec("a", "x")))));
        assert!(!is_change(&|| {}));
        assert!(is_change(&|| write(root, "a.yaml", &spec("a", "other"))));
        assert!(is_change(&|| {
            fs::remove_file(root.join("a.yaml")).unwrap();
            write(root, "c.yaml", &spec("c", "x"));
        }));
        assert!(is_change(&|| fs::remove_file(root.join("c.yaml")).unwrap()));
        assert!(!is_change(&|| write(root, "notes.txt", "no spec")));
    }

    #[test]
    fn a_file_that_cannot_be_read_and_a_link_that_cannot_be_followed_shield() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), "good.yaml", &spec("a", "x"));
        write(directory.path(), "bad.yaml", "a: {\n");
        symlink("nowhere", directory.path().join("alice")).unwrap();
        let mut scanner = scanner(directory.path());
        look_at_once(&mut scanner);
        for (path, is_shielded) in [
            ("bad.yaml", true),
            ("alice/a.yaml", true),
            ("alice/web/a.yaml", true),
            ("good.yaml", false),
            ("gone.yaml", false),
            ("alicia/a.yaml", false),
            ("bob/alice/a.yaml", false),
        ] {
            assert_eq!(scanner.shields(path), is_shielded, "{path}");
        }
    }

    #[test]
    fn what_is_not_ours_is_logged_and_what_is_wrong_is_said() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), "bad.yaml", "a: {\n");
        write(directory.path(), "pod.yaml", "apiVersion: v1\nkind: Pod\n");
        let mut scanner = scanner(directory.path());
        let log = directory.path().join("log");
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(Arc::new(File::create(&log).unwrap())).finish();
        tracing::subscriber::with_default(subscriber, || look_at_once(&mut scanner));
        let log = fs::read_to_string(log).unwrap();
        assert!(log.matches("WARN").count() == 1 && log.contains("apiVersion `v1` is not dockmaster's"), "{log}");
        assert_eq!(scanner.files().map(|(path, content)| (path, content.errors.len())).collect::<Vec<_>>(), [("bad.yaml", 1), ("pod.yaml", 0)]);
    }

    #[test]
    fn a_file_that_was_just_touched_is_not_read() {
        // Where the host stands still for a moment, the file comes to rest.
        let looks = (0..100).find_map(|_| {
            let directory = tempfile::tempdir().unwrap();
            let mut scanner = scanner(directory.path());
            write(directory.path(), "a.yaml", &spec("a", "x"));
            let looks = [scanner.look().restless, scanner.look().restless];
            let is_young = stamp_of(&directory.path().join("a.yaml")).age().is_some_and(|age| age < REST);
            is_young.then(|| (looks, scanner.files().count()))
        });
        assert_eq!(looks, Some(([true, true], 0)));
    }

    #[test]
    fn a_file_that_never_comes_to_rest_is_read_as_it_is_each_time() {
        let directory = tempfile::tempdir().unwrap();
        let mut scanner = scanner(directory.path());
        for version in ["v0", "v1", "v2"] {
            write(directory.path(), "a.yaml", &spec("a", version));
            let look = if version == "v0" { look_at_once(&mut scanner) } else { scanner.look() };
            assert_eq!((look.restless, image(&scanner, "a.yaml").as_str()), (false, version));
        }
    }

    #[test]
    fn a_file_that_came_to_rest_has_to_come_to_rest_again_after_its_next_change() {
        let mut scanner = scanner(&old());
        scanner.restless.insert("good.yaml".into(), Instant::now());
        assert!(!scanner.look().restless);
        assert_eq!(scanner.files().map(|(path, content)| (path, content.errors.len())).collect::<Vec<_>>(), [("good.yaml", 0)]);
        assert!(scanner.restless.is_empty());
    }

    #[test]
    fn what_changes_between_the_listing_and_the_reading_is_looked_at_again() {
        let scanner = scanner(&old());
        let stamp = stamp_of(&old().join("good.yaml"));
        let other = stamp_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
        let is_read = |path: &str, stamp: Stamp, at_once: bool| matches!(scanner.read(path, Ok(stamp), at_once), Read::Known(_));
        assert!(is_read("good.yaml", stamp, false));
        assert!(is_read("good.yaml", stamp, true));
        assert!(!is_read("good.yaml", other, false), "it was changed since it was listed");
        assert!(is_read("good.yaml", other, true), "it never comes to rest");
        assert!(!is_read("gone.yaml", stamp, false), "it was removed since it was listed");
    }

    #[test]
    fn what_was_exchanged_for_something_else_than_a_file_cannot_be_read() {
        let scanner = scanner(&old());
        let stamp = stamp_of(&old().join("good.yaml"));
        let Read::Known(known) = scanner.read("../parse", Ok(stamp), false) else { panic!("it is kept as it was") };
        assert!(known.content.errors[0].contains("it cannot be read: it is not a regular file"), "{:?}", known.content.errors);
    }

    #[test]
    fn of_a_file_that_is_too_long_one_byte_more_is_read_than_it_may_have() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.yaml");
        for (size, read) in [(MAX_FILE_BYTES, MAX_FILE_BYTES), (MAX_FILE_BYTES + 1, MAX_FILE_BYTES + 1), (MAX_FILE_BYTES + 2, MAX_FILE_BYTES + 1)] {
            fs::write(&path, "#".repeat(size as usize)).unwrap();
            assert_eq!(read_regular(&path).unwrap().0.len() as u64, read, "{size}");
        }
    }
}
