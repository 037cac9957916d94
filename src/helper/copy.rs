//! `helper copy`: makes one directory an exact copy of another: contents, owners, modes, times, links, extended attributes, holes
//! and special files; what the source does not have is removed from the copy.
//!
//! A second run with `delta` trusts files whose size and times say that they did not change, so that it is short.
//!
//! **Invariant:** a file gets its time last, so an interrupted copy is never taken for a finished one.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, OsStr, OsString};
use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

/// What a copy did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Entries made or made anew.
    pub copied: u64,
    /// Entries that were right already.
    pub unchanged: u64,
    /// Entries that the source does not have any more.
    pub removed: u64,
    /// Bytes of content written.
    pub bytes: u64,
    /// What could not be copied, one sentence each; empty: all of it was.
    pub errors: Vec<String>,
}

impl Summary {
    /// Adds another copy's figures.
    pub fn add(&mut self, other: Summary) {
        self.copied += other.copied;
        self.unchanged += other.unchanged;
        self.removed += other.removed;
        self.bytes += other.bytes;
        self.errors.extend(other.errors);
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { copied, unchanged, removed, bytes, errors } = self;
        write!(f, "copied {copied} ({bytes} bytes), unchanged {unchanged}, removed {removed}, failed {}", errors.len())
    }
}

/// Makes the directory `to` an exact copy of `from`. It goes on after an error, so that one file does not cost all others.
pub fn copy(from: &Path, to: &Path, delta: bool) -> Summary {
    let mut copier = Copier { delta, summary: Summary::default(), links: HashMap::new(), claimed: HashMap::new() };
    match fs::symlink_metadata(from) {
        Ok(meta) if meta.is_dir() => copier.directory(from, to, &meta),
        Ok(_) => copier.failed(from, &io::Error::from(ErrorKind::NotADirectory)),
        Err(error) => copier.failed(from, &error),
    }
    copier.summary
}

/// Device and inode.
type Inode = (u64, u64);

struct Copier {
    delta: bool,
    summary: Summary,
    /// Where a file of the source that has several names was copied to first.
    links: HashMap<Inode, PathBuf>,
    /// Which file of the source a file of the copy stands for; one that stands for another must not be shared.
    claimed: HashMap<Inode, Inode>,
}

impl Copier {
    fn directory(&mut self, from: &Path, to: &Path, meta: &Metadata) {
        if let Err(error) = self.fill(from, to) {
            return self.failed(from, &error);
        }
        // After its content, which changes its time.
        if let Err(error) = dress(from, to, meta) {
            self.failed(from, &error);
        }
    }

    fn fill(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        match fs::symlink_metadata(to) {
            Ok(there) if there.is_dir() => self.summary.unchanged += 1,
            Ok(_) => {
                fs::remove_file(to)?;
                self.make(to)?;
            }
            Err(_) => self.make(to)?,
        }
        let mut names = HashSet::new();
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            self.entry(&from.join(&name), &to.join(&name));
            names.insert(name);
        }
        let extra: Vec<OsString> = fs::read_dir(to)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .filter(|name| !matches!(name, Ok(name) if names.contains(name)))
            .collect::<io::Result<_>>()?;
        for name in extra {
            remove(&to.join(name))?;
            self.summary.removed += 1;
        }
        Ok(())
    }

    fn make(&mut self, to: &Path) -> io::Result<()> {
        self.summary.copied += 1;
        fs::create_dir(to)
    }

    fn entry(&mut self, from: &Path, to: &Path) {
        match fs::symlink_metadata(from) {
            Ok(meta) if meta.is_dir() => self.directory(from, to, &meta),
            Ok(meta) => {
                if let Err(error) = self.leaf(from, to, &meta) {
                    // Gone while it was copied: a later run finds it gone.
                    if error.kind() == ErrorKind::NotFound && fs::symlink_metadata(from).is_err() {
                        return;
                    }
                    self.failed(from, &error);
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => self.failed(from, &error),
        }
    }

    /// Anything but a directory.
    fn leaf(&mut self, from: &Path, to: &Path, meta: &Metadata) -> io::Result<()> {
        let source = inode(meta);
        let there = match fs::symlink_metadata(to) {
            Ok(there) => Some(there),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let first = self.links.get(&source).cloned();
        if let Some(there) = &there {
            let is_link = first.as_ref().is_some_and(|first| fs::symlink_metadata(first).is_ok_and(|first| inode(&first) == inode(there)));
            let is_same = first.is_none() && self.delta && unchanged(meta, there) && self.claimed.get(&inode(there)).is_none_or(|owner| *owner == source);
            if is_link || is_same {
                self.remember(meta, there, to);
                self.summary.unchanged += 1;
                return Ok(());
            }
            remove(to)?;
        }
        if let Some(first) = first {
            fs::hard_link(first, to)?;
        } else {
            self.create(from, to, meta)?;
            dress(from, to, meta)?;
            self.remember(meta, &fs::symlink_metadata(to)?, to);
        }
        self.summary.copied += 1;
        Ok(())
    }

    fn remember(&mut self, meta: &Metadata, there: &Metadata, to: &Path) {
        self.claimed.insert(inode(there), inode(meta));
        if meta.nlink() > 1 {
            self.links.entry(inode(meta)).or_insert_with(|| to.to_owned());
        }
    }

    fn create(&mut self, from: &Path, to: &Path, meta: &Metadata) -> io::Result<()> {
        let kind = meta.file_type();
        if kind.is_symlink() {
            return symlink(fs::read_link(from)?, to);
        }
        if kind.is_file() {
            self.summary.bytes += content(from, to)?;
            return Ok(());
        }
        let kind = if kind.is_fifo() {
            FileType::Fifo
        } else if kind.is_socket() {
            FileType::Socket
        } else if kind.is_block_device() {
            FileType::BlockDevice
        } else {
            FileType::CharacterDevice
        };
        Ok(rustix::fs::mknodat(CWD, to, kind, Mode::RUSR | Mode::WUSR, meta.rdev())?)
    }

    fn failed(&mut self, path: &Path, error: &io::Error) {
        self.summary.errors.push(format!("{}: {error}", path.display()));
    }
}

/// Copies the data of a file and keeps its holes; the bytes that were written.
fn content(from: &Path, to: &Path) -> io::Result<u64> {
    // The name may stand for something else by now: neither follow a link nor wait for the writer of a pipe.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut source = OpenOptions::new().read(true).custom_flags(flags).open(from)?;
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let (mut at, mut written) = (0, 0);
    while let Some(begin) = next(&source, rustix::fs::SeekFrom::Data(at))? {
        let end = next(&source, rustix::fs::SeekFrom::Hole(begin))?.unwrap_or(begin);
        source.seek(SeekFrom::Start(begin))?;
        target.seek(SeekFrom::Start(begin))?;
        let copied = io::copy(&mut (&source).take(end - begin), &mut target)?;
        written += copied;
        at = begin + copied;
        if copied == 0 {
            break;
        }
    }
    target.set_len(source.metadata()?.len())?;
    Ok(written)
}

/// The next data or hole; `None` past the end.
fn next(file: &File, position: rustix::fs::SeekFrom) -> io::Result<Option<u64>> {
    match rustix::fs::seek(file, position) {
        Ok(offset) => Ok(Some(offset)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Gives the copy its owner, attributes, mode and times, in this order: each step may undo those after it.
fn dress(from: &Path, to: &Path, meta: &Metadata) -> io::Result<()> {
    let (user, group) = (Uid::from_raw(meta.uid()), Gid::from_raw(meta.gid()));
    rustix::fs::chownat(CWD, to, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    attributes(from, to)?;
    if !meta.file_type().is_symlink() {
        fs::set_permissions(to, Permissions::from_mode(meta.mode() & 0o7777))?;
    }
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    let times = Timestamps { last_access: time(meta.atime(), meta.atime_nsec()), last_modification: time(meta.mtime(), meta.mtime_nsec()) };
    Ok(rustix::fs::utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Copies the extended attributes that this process may read and write, and removes those that the source does not have.
fn attributes(from: &Path, to: &Path) -> io::Result<()> {
    let (wanted, there) = (attribute_names(from)?, attribute_names(to)?);
    for name in &wanted {
        let mut value = Vec::with_capacity(rustix::fs::lgetxattr_query(from, name.as_os_str())?);
        rustix::fs::lgetxattr(from, name.as_os_str(), rustix::buffer::spare_capacity(&mut value))?;
        tolerated(rustix::fs::lsetxattr(to, name.as_os_str(), &value, XattrFlags::empty()))?;
    }
    for name in there.iter().filter(|name| !wanted.contains(name)) {
        tolerated(rustix::fs::lremovexattr(to, name.as_os_str()))?;
    }
    Ok(())
}

fn attribute_names(path: &Path) -> io::Result<Vec<OsString>> {
    let size = match rustix::fs::llistxattr_query(path) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Ok(size) => size,
        Err(error) => return Err(error.into()),
    };
    let mut list = Vec::with_capacity(size);
    rustix::fs::llistxattr(path, rustix::buffer::spare_capacity(&mut list))?;
    let names = list.split_inclusive(|byte| *byte == 0).filter_map(|name| CStr::from_bytes_with_nul(name).ok());
    Ok(names.map(|name| OsStr::from_bytes(name.to_bytes()).to_owned()).collect())
}

/// Attributes of the host's security modules are not ours to set, and some file systems have none.
fn tolerated(result: Result<(), Errno>) -> io::Result<()> {
    match result {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether a file of the copy still is what the source has: same kind, size, owner, mode and time, and nothing about the source
/// changed since the copy was made (its change time cannot be set back).
fn unchanged(meta: &Metadata, there: &Metadata) -> bool {
    let facts = |meta: &Metadata| (meta.mode(), meta.uid(), meta.gid(), meta.len(), meta.rdev(), meta.mtime(), meta.mtime_nsec());
    let changed = |meta: &Metadata| (meta.ctime(), meta.ctime_nsec());
    facts(meta) == facts(there) && changed(meta) < changed(there)
}

fn inode(meta: &Metadata) -> Inode {
    (meta.dev(), meta.ino())
}

fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::time::{Duration, SystemTime};

    struct Trees {
        from: PathBuf,
        to: PathBuf,
        _keep: tempfile::TempDir,
    }

    impl Trees {
        fn new() -> Self {
            let keep = tempfile::tempdir().unwrap();
            let (from, to) = (keep.path().join("from"), keep.path().join("to"));
            fs::create_dir(&from).unwrap();
            fs::create_dir(&to).unwrap();
            Self { from, to, _keep: keep }
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.from.join(name), text).unwrap();
        }

        fn copy(&self, delta: bool) -> Summary {
            let summary = copy(&self.from, &self.to, delta);
            assert_eq!(summary.errors, Vec::<String>::new());
            assert_eq!(tree(&self.from), tree(&self.to));
            summary
        }
    }

    /// Everything about every entry that a copy must have kept; equal numbers in the second place are one file.
    fn tree(root: &Path) -> Vec<(String, u64, String)> {
        let (mut entries, mut inodes) = (Vec::new(), Vec::new());
        list(root, root, &mut entries);
        entries.sort();
        entries
            .into_iter()
            .map(|(name, inode, facts)| {
                let index = inodes.iter().position(|known| *known == inode).unwrap_or_else(|| {
                    inodes.push(inode);
                    inodes.len() - 1
                });
                (name, index as u64, facts)
            })
            .collect()
    }

    fn list(root: &Path, path: &Path, entries: &mut Vec<(String, u64, String)>) {
        let meta = fs::symlink_metadata(path).unwrap();
        let content = match meta.file_type() {
            kind if kind.is_symlink() => fs::read_link(path).unwrap().display().to_string(),
            kind if kind.is_file() => fs::read(path).unwrap().escape_ascii().to_string(),
            _ => String::new(),
        };
        let mut names = attribute_names(path).unwrap();
        names.sort();
        let facts = format!("{:o} {}:{} {}.{} {} {names:?} {content}", meta.mode(), meta.uid(), meta.gid(), meta.mtime(), meta.mtime_nsec(), meta.rdev());
        entries.push((path.strip_prefix(root).unwrap().display().to_string(), meta.ino(), facts));
        if meta.is_dir() {
            fs::read_dir(path).unwrap().for_each(|entry| list(root, &entry.unwrap().path(), entries));
        }
    }

    #[test]
    fn every_kind_of_entry_is_copied_with_all_that_belongs_to_it() {
        let trees = Trees::new();
        fs::create_dir_all(trees.from.join("deep/er")).unwrap();
        trees.write("deep/er/file", "text");
        trees.write("empty", "");
        trees.write("program", "#!");
        fs::set_permissions(trees.from.join("program"), Permissions::from_mode(0o4755)).unwrap();
        fs::hard_link(trees.from.join("program"), trees.from.join("deep/same")).unwrap();
        symlink("../nowhere", trees.from.join("dangling")).unwrap();
        symlink("deep", trees.from.join("to-directory")).unwrap();
        let _socket = UnixListener::bind(trees.from.join("socket")).unwrap();
        rustix::fs::mknodat(CWD, trees.from.join("pipe"), FileType::Fifo, Mode::RUSR | Mode::WGRP, 0).unwrap();
        fs::write(trees.from.join(OsStr::from_bytes(b"not-\xff-utf8")), "x").unwrap();
        let past = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
        File::options().write(true).open(trees.from.join("empty")).unwrap().set_modified(past).unwrap();
        File::open(trees.from.join("deep")).unwrap().set_modified(past).unwrap();
        fs::set_permissions(&trees.from, Permissions::from_mode(0o1777)).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::lchown(trees.from.join("dangling"), Some(1234), Some(5678)).unwrap();
            std::os::unix::fs::lchown(trees.from.join("deep/er/file"), Some(1234), Some(0)).unwrap();
        }
        let attribute = rustix::fs::lsetxattr(trees.from.join("empty"), "user.note", b"kept", XattrFlags::empty());
        assert!(matches!(attribute, Ok(()) | Err(Errno::OPNOTSUPP)), "{attribute:?}");

        let summary = trees.copy(false);
        assert_eq!((summary.unchanged, summary.removed), (1, 0), "only the root was there");
        assert_eq!(fs::symlink_metadata(trees.to.join("program")).unwrap().nlink(), 2);
        assert_eq!(attribute_names(&trees.to.join("empty")).unwrap().len(), usize::from(attribute.is_ok()));
    }

    #[test]
    fn holes_stay_holes() {
        let trees = Trees::new();
        let file = File::create(trees.from.join("disk")).unwrap();
        file.set_len(64 << 20).unwrap();
        std::os::unix::fs::FileExt::write_at(&file, b"middle", 32 << 20).unwrap();
        let summary = copy(&trees.from, &trees.to, false);
        let there = fs::metadata(trees.to.join("disk")).unwrap();
        let mut middle = [0; 8];
        std::os::unix::fs::FileExt::read_exact_at(&File::open(trees.to.join("disk")).unwrap(), &mut middle, (32 << 20) - 1).unwrap();
        assert_eq!(&middle, b"\0middle\0");
        assert_eq!(there.len(), 64 << 20);
        assert!(summary.bytes < 1 << 20 && there.blocks() * 512 < 1 << 20, "{summary}, {} blocks", there.blocks());
    }

    #[test]
    fn a_delta_copies_what_changed_and_removes_what_vanished() {
        let trees = Trees::new();
        for name in ["same", "grown", "touched", "gone", "mode", "becomes-a-directory"] {
            trees.write(name, "1");
        }
        fs::create_dir(trees.from.join("folder")).unwrap();
        trees.write("folder/gone", "1");
        assert_eq!(trees.copy(false).copied, 8);
        let idle = trees.copy(true);
        assert_eq!((idle.copied, idle.unchanged, idle.removed, idle.bytes), (0, 9, 0, 0));

        trees.write("grown", "12");
        let modified = fs::metadata(trees.from.join("touched")).unwrap().modified().unwrap();
        trees.write("touched", "2");
        File::options().write(true).open(trees.from.join("touched")).unwrap().set_modified(modified).unwrap();
        fs::set_permissions(trees.from.join("mode"), Permissions::from_mode(0o600)).unwrap();
        fs::remove_file(trees.from.join("gone")).unwrap();
        fs::remove_dir_all(trees.from.join("folder")).unwrap();
        fs::remove_file(trees.from.join("becomes-a-directory")).unwrap();
        fs::create_dir(trees.from.join("becomes-a-directory")).unwrap();
        trees.write("new", "1");
        let delta = trees.copy(true);
        assert_eq!((delta.copied, delta.unchanged, delta.removed), (5, 2, 2));
    }

    #[test]
    fn a_delta_follows_links_that_were_made_and_broken() {
        let trees = Trees::new();
        trees.write("a", "1");
        fs::hard_link(trees.from.join("a"), trees.from.join("b")).unwrap();
        trees.copy(false);
        let modified = fs::metadata(trees.from.join("a")).unwrap().modified().unwrap();
        fs::remove_file(trees.from.join("b")).unwrap();
        trees.write("b", "1");
        File::options().write(true).open(trees.from.join("b")).unwrap().set_modified(modified).unwrap();
        fs::hard_link(trees.from.join("b"), trees.from.join("c")).unwrap();
        trees.copy(true);
    }

    #[test]
    fn what_cannot_be_copied_is_named_and_the_rest_is_copied() {
        let trees = Trees::new();
        let missing = copy(Path::new("/nonexistent/source"), &trees.to, false);
        assert!(missing.errors[0].starts_with("/nonexistent/source: "), "{missing:?}");
        trees.write("file", "1");
        let onto_file = copy(&trees.from, &trees.from.join("file/below"), false);
        assert_eq!(onto_file.errors.len(), 1, "{onto_file:?}");
        assert!(onto_file.to_string().ends_with("failed 1"));
    }
}
