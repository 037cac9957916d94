//! Lists the spec files of a root: which there are, what tells that one has changed, and what is wrong with where they lie.
//!
//! **Invariant:** nothing outside the root is read, no link can trap the walk, and a directory that cannot be read is said, never skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::source::select::{is_spec_file, skips_directory};
use crate::source::sink::SIDECAR_ENDING;

/// The most directory entries of a root.
const MAX_ENTRIES: usize = 200_000;
/// The most directories inside each other.
const MAX_DEPTH: usize = 32;

/// What tells that a file has changed, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Of a file.
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// How long ago the file was last touched; `None` if by its clock that is yet to come. Nobody can set this back.
    pub fn age(&self) -> Option<Duration> {
        let changed = SystemTime::UNIX_EPOCH + Duration::new(u64::try_from(self.changed.0).ok()?, self.changed.1 as u32);
        changed.elapsed().ok()
    }
}

/// A spec file, or why what is there cannot be read: the message, and what to do.
pub type Found = Result<Stamp, (String, String)>;

/// A listing of a root.
#[derive(Debug, Default)]
pub struct Listing {
    /// File system and inode of the root.
    pub identity: String,
    /// The spec files, and the links that cannot be followed, by their path below the root.
    pub files: BTreeMap<String, Found>,
    /// The files with statuses beside them, by their path.
    pub sidecars: BTreeSet<String>,
    /// Hidden files, by directory and name: among them may be temporary files of ours.
    pub hidden: Vec<(PathBuf, String)>,
    /// Why the listing is not complete, if it is not.
    pub incomplete: Option<String>,
}

/// File system and inode of a directory. The id of the file system outlives a reboot, where the number of its device need not.
pub fn identity(root: &Path) -> io::Result<String> {
    let metadata = fs::metadata(root)?;
    if !metadata.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let system = match rustix::fs::statvfs(root)?.f_fsid {
        0 => metadata.dev(),
        id => id,
    };
    Ok(format!("{system:x}:{}", metadata.ino()))
}

/// Lists a root. An error: there is no root that could be listed.
pub fn list(root: &Path) -> io::Result<Listing> {
    let listing = Listing { identity: identity(root)?, ..Listing::default() };
    let mut walk = Walk { real: fs::canonicalize(root)?, listing, entries: 0 };
    let top = fs::metadata(root)?;
    walk.directory(root, "", &mut vec![(top.dev(), top.ino())]);
    if identity(root).ok().as_ref() != Some(&walk.listing.identity) {
        walk.incomplete("the directory was exchanged while it was listed".into());
    }
    Ok(walk.listing)
}

struct Walk {
    /// The root, links resolved.
    real: PathBuf,
    listing: Listing,
    entries: usize,
}

impl Walk {
    fn incomplete(&mut self, why: String) {
        self.listing.incomplete.get_or_insert(why);
    }

    /// `chain` are the directories that lead here, by device and inode.
    fn directory(&mut self, path: &Path, relative: &str, chain: &mut Vec<(u64, u64)>) {
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            // Gone since its parent was listed: what was in it is gone too, and the next listing has to agree.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !relative.is_empty() => return,
            Err(error) => return self.incomplete(format!("{} cannot be read ({error}); make it readable", path.display())),
        };
        for entry in entries {
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return self.incomplete(format!("{} has more than {MAX_ENTRIES} files and directories; watch a smaller one", self.real.display()));
            }
            match entry {
                Ok(entry) => self.entry(&entry, relative, chain),
                Err(error) => self.incomplete(format!("{} cannot be read ({error})", path.display())),
            }
        }
    }

    fn entry(&mut self, entry: &fs::DirEntry, parent: &str, chain: &mut Vec<(u64, u64)>) {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') {
            if entry.file_type().is_ok_and(|kind| kind.is_file())
                && let Some(directory) = path.parent()
            {
                self.listing.hidden.push((directory.to_owned(), name.into_owned()));
            }
            return;
        }
        let relative = if parent.is_empty() { name.clone().into_owned() } else { format!("{parent}/{name}") };
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_link => return,
            Err(error) => {
                if is_link {
                    // What was below it may only be unmounted.
                    self.refuse(relative, format!("it is a link that leads nowhere: {error}"), "repair it, or remove it");
                } else {
                    self.incomplete(format!("{} cannot be looked at ({error})", path.display()));
                }
                return;
            }
        };
        let is_spec = metadata.is_file() && is_spec_file(&name);
        let is_walked = metadata.is_dir() && !skips_directory(&name);
        if metadata.is_file() && name.ends_with(SIDECAR_ENDING) {
            self.listing.sidecars.insert(relative);
            return;
        }
        if !is_spec && !is_walked {
            return;
        }
        if is_link && !fs::canonicalize(&path).is_ok_and(|real| real.starts_with(&self.real)) {
            self.refuse(relative, "it is a link that leads out of the watched directory".into(), "put the file itself here");
        } else if is_spec {
            let is_text = entry.file_name().to_str().is_some();
            let found = if is_text { Ok(Stamp::of(&metadata)) } else { Err(("its name is not UTF-8".into(), "rename it".into())) };
            self.listing.files.insert(relative, found);
        } else {
            let id = (metadata.dev(), metadata.ino());
            if chain.contains(&id) {
                return self.refuse(relative, "it is a link to a directory that it lies in".into(), "remove it");
            }
            if chain.len() > MAX_DEPTH {
                return self.incomplete(format!("{} lies more than {MAX_DEPTH} directories deep; move it up", path.display()));
            }
            chain.push(id);
            self.directory(&path, &relative, chain);
            chain.pop();
        }
    }

    fn refuse(&mut self, relative: String, message: String, help: &str) {
        self.listing.files.insert(relative, Err((message, help.to_owned())));
    }
}

/// Does something with the rights of nobody, if the tests run as root.
#[cfg(test)]
pub fn as_nobody<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let (own, nobody) = (rustix::process::getuid(), rustix::process::Uid::from_raw(65_534));
    // The rights are the thread's, and end with it.
    let other = move || {
        if own.is_root() {
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        }
        work()
    };
    std::thread::scope(|scope| scope.spawn(other).join().unwrap())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_specs_inside_are_found() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("o.yaml"), "").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for path in ["alice/web", "..2024", "node_modules", "_old", ".git"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        for path in
            ["a.yaml", "alice/b.yml", "alice/web/c.yaml", "..2024/d.yaml", "node_modules/x.yaml", "_old/x.yaml", ".git/x.yaml", "a.yaml~", "x.status.yaml"]
        {
            fs::write(root.join(path), "").unwrap();
        }
        symlink("..2024", root.join("..data")).unwrap();
        symlink("..data/d.yaml", root.join("d.yaml")).unwrap();
        symlink("alice", root.join("bob")).unwrap();
        symlink("../..", root.join("alice/web/loop")).unwrap();
        symlink(outside.path(), root.join("out")).unwrap();
        symlink(outside.path().join("o.yaml"), root.join("o.yaml")).unwrap();
        symlink("nowhere", root.join("n.yaml")).unwrap();
        symlink("nowhere", root.join("nothing")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, root.join("fifo.yaml"), rustix::fs::Mode::RWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.join("socket.yaml")).unwrap();
        let listing = list(root).unwrap();
        assert_eq!(listing.incomplete, None);
        let good: Vec<_> = listing.files.iter().filter(|(_, found)| found.is_ok()).map(|(path, _)| path.as_str()).collect();
        assert_eq!(good, ["a.yaml", "alice/b.yml", "alice/web/c.yaml", "bob/b.yml", "bob/web/c.yaml", "d.yaml"]);
        let bad: Vec<_> = listing.files.iter().filter_map(|(path, found)| Some((path.as_str(), found.as_ref().err()?.0.as_str()))).collect();
        assert_eq!(bad.iter().map(|(path, _)| *path).collect::<Vec<_>>(), ["alice/web/loop", "bob/web/loop", "n.yaml", "nothing", "o.yaml", "out"]);
        assert!(bad[0].1.contains("lies in") && bad[2].1.contains("nowhere") && bad[4].1.contains("out of") && bad[5].1.contains("out of"));
    }

    #[test]
    fn a_root_that_is_no_directory_is_no_empty_root() {
        let directory = tempfile::tempdir().unwrap();
        assert!(list(&directory.path().join("missing")).is_err());
        fs::write(directory.path().join("file"), "").unwrap();
        assert!(list(&directory.path().join("file")).is_err());
        assert_eq!(list(directory.path()).unwrap().files.len(), 0);
    }

    /// As another user than root, to whom rights mean nothing.
    #[test]
    fn a_directory_without_rights_is_incomplete() {
        let directory = tempfile::tempdir().unwrap();
        let closed = directory.path().join("alice");
        fs::create_dir(&closed).unwrap();
        fs::write(closed.join("a.yaml"), "").unwrap();
        for (mode, found) in [(0o000, 0), (0o444, 0), (0o555, 1)] {
            fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            let listing = as_nobody(|| list(directory.path()).unwrap());
            assert_eq!((listing.incomplete.is_none(), listing.files.len()), (found == 1, found), "{mode:o}: {:?}", listing.incomplete);
        }
    }

    #[test]
    fn thirty_two_directories_inside_each_other_are_walked_and_more_are_incomplete() {
        for (depth, is_complete) in [(MAX_DEPTH, true), (MAX_DEPTH + 1, false), (MAX_DEPTH + 8, false)] {
            let directory = tempfile::tempdir().unwrap();
            let deep = (0..depth).fold(directory.path().to_owned(), |path, _| path.join("d"));
            fs::create_dir_all(&deep).unwrap();
            fs::write(deep.join("a.yaml"), "").unwrap();
            let listing = list(directory.path()).unwrap();
            assert_eq!((listing.incomplete.is_none(), listing.files.len()), (is_complete, usize::from(is_complete)), "{depth}: {:?}", listing.incomplete);
            assert!(is_complete || listing.incomplete.unwrap().contains("deep"));
        }
    }

    /// A walk of a directory that has come across so many entries.
    fn walk(root: &Path, entries: usize) -> Walk {
        Walk { real: fs::canonicalize(root).unwrap(), listing: Listing::default(), entries }
    }

    #[test]
    fn more_entries_than_the_limit_are_incomplete() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a.yaml"), "").unwrap();
        for (before, is_complete) in [(MAX_ENTRIES - 2, true), (MAX_ENTRIES - 1, true), (MAX_ENTRIES, false), (MAX_ENTRIES + 1, false)] {
            let mut walk = walk(directory.path(), before);
            walk.directory(directory.path(), "", &mut Vec::new());
            let listing = walk.listing;
            assert_eq!((listing.incomplete.is_none(), listing.files.len()), (is_complete, usize::from(is_complete)), "{before}: {:?}", listing.incomplete);
        }
    }

    #[test]
    fn a_directory_that_goes_while_its_parent_is_listed_is_gone_and_the_root_never_is() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("file"), "").unwrap();
        for (name, relative, is_complete) in [("gone", "alice", true), ("gone", "", false), ("file", "alice", false), ("file", "", false)] {
            let mut walk = walk(directory.path(), 0);
            walk.directory(&directory.path().join(name), relative, &mut Vec::new());
            assert_eq!(walk.listing.incomplete.is_none(), is_complete, "{name} {relative:?}: {:?}", walk.listing.incomplete);
        }
    }

    #[test]
    fn a_file_that_goes_while_its_directory_is_listed_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a.yaml"), "").unwrap();
        let entry = fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap();
        fs::remove_file(entry.path()).unwrap();
        let mut walk = walk(directory.path(), 0);
        walk.entry(&entry, "", &mut Vec::new());
        assert_eq!((walk.listing.incomplete, walk.listing.files.len()), (None, 0));
    }

    #[test]
    fn the_age_of_a_file_counts_from_its_last_touch_and_a_touch_that_is_yet_to_come_has_none() {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
        let directory = tempfile::tempdir().unwrap();
        let stamp = Stamp::of(&fs::metadata(directory.path()).unwrap());
        let age = |changed: i64| Stamp { changed: (changed, 0), ..stamp }.age();
        let minute = age(now - 60).unwrap();
        assert!((60..3600).contains(&minute.as_secs()), "{minute:?}");
        assert_eq!(age(now + 3600), None);
        assert_eq!(age(-1), None);
    }
}
