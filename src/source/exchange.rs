//! Replaces the content of a file that somebody else may be saving at this very moment.
//!
//! The new content is made ready beside the file and the two are exchanged in one step of the file system. What comes out of the exchange
//! is then compared with what was read: if somebody saved in between, their version is put back and the change is made again from it. What
//! came out is kept for [`GRACE`] and looked at once more, because an editor that opened the file before the exchange writes into it still.
//!
//! **Invariant:** at every moment the path holds the whole old content, the whole new content, or what somebody else saved last; what is saved in the
//! instant between the last look and the exchange is put back right after it.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use sha2::{Digest, Sha256};

use super::select::MAX_FILE_BYTES;

/// How long what was displaced is kept, for editors that still write into it.
pub const GRACE: Duration = Duration::from_millis(200);

/// How the names of our temporary files begin; hidden, so that nobody takes one for a spec.
pub const PREFIX: &str = ".dockmaster-";

/// What a change makes of a file.
#[derive(Debug, PartialEq)]
pub enum New {
    /// Nothing has to be done.
    Same,
    /// The whole new content; the file is made if there is none.
    Text(String),
    /// The file goes.
    Nothing,
}

/// A file could not be replaced; it holds what it held.
#[derive(Debug)]
pub enum Failure<E> {
    /// It would be harmed; the text says why and what to do.
    Refused(String),
    /// The file system failed.
    Io(io::Error),
    /// The change itself failed.
    Edit(E),
}

impl<E> From<io::Error> for Failure<E> {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
            Some(rustix::io::Errno::BUSY) => Failure::Refused("it is a mount point of its own (a bind-mounted file); mount its directory instead".into()),
            Some(rustix::io::Errno::ROFS | rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => {
                Failure::Refused("it or its directory is read-only for the operator; allow writing there".into())
            }
            _ => Failure::Io(error),
        }
    }
}

/// A file that was saved less than this ago is left alone for the rest of it: the one who saves may not be done.
const QUIET: Duration = Duration::from_millis(300);

/// One writer of ours at a time per file, from its reading to its being settled; files share locks by hash, which are many
/// more than the writes at a time.
static LOCKS: [tokio::sync::Mutex<()>; 1024] = [const { tokio::sync::Mutex::const_new(()) }; 1024];

/// The whole protocol: waits until the file is quiet, replaces it, waits [`GRACE`], settles, and begins again where somebody else was at it.
/// Takes about as long as [`GRACE`] if something is written. `Ok(false)`: nothing had to be done.
pub async fn change<E, F>(path: PathBuf, mut edit: F) -> Result<bool, Failure<E>>
where
    E: Send + 'static,
    F: FnMut(Option<&str>) -> Result<New, E> + Send + 'static,
{
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    let _one_at_a_time = LOCKS[hasher.finish() as usize % LOCKS.len()].lock().await;
    let mut written = false;
    for _ in 0..10 {
        let age = fs::symlink_metadata(&path).and_then(|metadata| metadata.modified()).ok().and_then(|saved| saved.elapsed().ok());
        if let Some(rest) = age.and_then(|age| QUIET.checked_sub(age)) {
            tokio::time::sleep(rest).await;
        }
        let at = path.clone();
        let (returned, outcome) = blocking(move || {
            let outcome = replace(&at, &mut edit);
            (edit, outcome)
        })
        .await?;
        edit = returned;
        let Some(displaced) = outcome? else { return Ok(written) };
        written = true;
        tokio::time::sleep(GRACE).await;
        if blocking(move || displaced.settle()).await?? {
            return Ok(true);
        }
    }
    Err(Failure::Refused("it is being saved all the time; it is tried again later".into()))
}

/// Runs what blocks on the file system where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

/// The steps after which a crash is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The temporary file was made.
    Made,
    /// It has half its content.
    HalfWritten,
    /// It has all its content, on disk.
    Synced,
    /// Nobody had saved by then.
    Checked,
    /// The file has the new content.
    Exchanged,
    /// What was displaced is what was read.
    Verified,
    /// The directory is on disk.
    DirectorySynced,
}

/// Changes a file: `edit` gets its content (`None`: there is no such file) and says what it should be; it is called again with
/// what somebody else saved meanwhile. `path` must have no symbolic link in its last part. `Ok(None)`: nothing had to be done.
pub fn replace<E>(path: &Path, edit: impl FnMut(Option<&str>) -> Result<New, E>) -> Result<Option<Displaced>, Failure<E>> {
    replace_stepwise(path, edit, &|_| ())
}

/// [`replace`], telling each step.
fn replace_stepwise<E>(path: &Path, mut edit: impl FnMut(Option<&str>) -> Result<New, E>, step: &dyn Fn(Step)) -> Result<Option<Displaced>, Failure<E>> {
    // Somebody who saves faster than we can is asked to wait for the next status; nothing is lost by giving up.
    for _ in 0..100 {
        let read = read(path)?;
        let text = match &read {
            Some((bytes, _)) => Some(std::str::from_utf8(bytes).map_err(|_| Failure::Refused("it is not UTF-8; save it as UTF-8".into()))?),
            None => None,
        };
        let done = match (edit(text).map_err(Failure::Edit)?, &read) {
            (New::Same, _) | (New::Nothing, None) => return Ok(None),
            (New::Text(new), _) if text == Some(new.as_str()) => return Ok(None),
            (New::Text(new), _) if new.len() as u64 > MAX_FILE_BYTES => {
                return Err(Failure::Refused(format!("it would be longer than {} KiB; split it", MAX_FILE_BYTES / 1024)));
            }
            (New::Text(new), Some((old, metadata))) => exchange(path, old, metadata, new.as_bytes(), step)?,
            (New::Text(new), None) => create(path, new.as_bytes(), step)?,
            (New::Nothing, Some((old, _))) => take_away(path, old, step)?,
        };
        if done.is_some() {
            return Ok(done);
        }
    }
    Err(Failure::Refused("it is being saved all the time; it is tried again later".into()))
}

/// What was in the place of the file until now. Dropped without being settled, it is deleted.
#[derive(Debug)]
pub struct Displaced {
    path: PathBuf,
    temp: Temp,
    /// What it held when it was displaced.
    old: Vec<u8>,
    /// What was put in its place; `None`: nothing.
    new: Option<Vec<u8>>,
}

impl Displaced {
    /// To be called [`GRACE`] later. `false`: somebody wrote into the old file meanwhile; it was put back, and the change has to be made again.
    pub fn settle(self) -> io::Result<bool> {
        let now = match fs::read(&self.temp.path) {
            Ok(now) => now,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(error),
        };
        if now == self.old {
            return Ok(true);
        }
        put_back(&self.temp.path, &self.path, now, self.new)?;
        sync_directory(&self.path)?;
        Ok(false)
    }
}

/// Deletes what a crash left behind in this directory entry, or puts it back if it is what somebody saved and nobody has any more.
/// Young files are left alone, they may be in use. Returns whether `name` is one of our temporary files at all.
pub fn sweep(directory: &Path, name: &str, older_than: Duration) -> io::Result<bool> {
    let Some((old, new, target)) = name.strip_prefix(PREFIX).and_then(|rest| {
        let (old, rest) = rest.split_once('-')?;
        let (new, target) = rest.split_once('-')?;
        Some((old, new, target))
    }) else {
        return Ok(false);
    };
    let (temp, path) = (directory.join(name), directory.join(target));
    let metadata = fs::symlink_metadata(&temp)?;
    let changed = SystemTime::UNIX_EPOCH + Duration::new(metadata.ctime().max(0) as u64, metadata.ctime_nsec() as u32);
    if !metadata.is_file() || changed.elapsed().unwrap_or_default() < older_than {
        return Ok(true);
    }
    let held = fs::read(&temp)?;
    let current = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        result => Some(result?),
    };
    // Only if our new content is in place, what lies here came from the user; only if it is not what was read, nobody else has it.
    if current.as_deref().map_or(short_hash(b""), short_hash) == new && short_hash(&held) != old && short_hash(&held) != new {
        put_back(&temp, &path, held, current)?;
    }
    match fs::remove_file(&temp) {
        // What was put back where nothing is has moved there.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        result => result.map(|()| true),
    }
}

/// A temporary file, deleted at the end of its use. Its name says what was read, what was to be written, and for which file,
/// so that the next start can tell what a crash left behind.
#[derive(Debug)]
struct Temp {
    path: PathBuf,
}

impl Temp {
    fn beside(path: &Path, old: &[u8], new: &[u8]) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let mut temp = OsString::from(format!("{PREFIX}{}-{}-", short_hash(old), short_hash(new)));
        temp.push(name);
        Ok(Self { path: path.with_file_name(temp) })
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        // It may be gone already; what cannot be deleted now is swept at the next start.
        _ = fs::remove_file(&self.path);
    }
}

/// The content of a regular file; `None` if there is none.
fn read<E>(path: &Path) -> Result<Option<(Vec<u8>, Metadata)>, Failure<E>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut file = match OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Failure::Refused("it is not a regular file".into()));
    }
    if metadata.nlink() > 1 {
        return Err(Failure::Refused("it has other hard links, which would be cut off; make it a file of its own".into()));
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(Failure::Refused(format!("it is longer than {} KiB; split it", MAX_FILE_BYTES / 1024)));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(Some((bytes, metadata)))
}

/// Makes the temporary file with its content on disk, as `like` in mode and owner.
fn prepare<E>(temp: &Temp, content: &[u8], like: Option<&Metadata>, step: &dyn Fn(Step)) -> Result<File, Failure<E>> {
    // A left-over of exactly this change by this operator: the lock of the file says that nobody else is at it.
    match fs::remove_file(&temp.path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    let mode = like.map_or(0o644, |metadata| metadata.permissions().mode() & 0o7777);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(if like.is_some() { 0o600 } else { mode }).open(&temp.path)?;
    step(Step::Made);
    if let Some(like) = like {
        let mine = file.metadata()?;
        if mine.uid() != like.uid() || mine.gid() != like.gid() {
            let owner = std::os::unix::fs::fchown(&file, Some(like.uid()), Some(like.gid()));
            if owner.is_err() && mine.uid() != like.uid() {
                return Err(Failure::Refused("it belongs to another user, and the operator may not keep it so; run the operator as its owner".into()));
            }
        }
        file.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    let half = content.len() / 2;
    file.write_all(&content[..half])?;
    step(Step::HalfWritten);
    file.write_all(&content[half..])?;
    file.sync_all()?;
    step(Step::Synced);
    Ok(file)
}

/// One attempt at replacing what is there; `None` if somebody else was faster.
fn exchange<E>(path: &Path, old: &[u8], like: &Metadata, new: &[u8], step: &dyn Fn(Step)) -> Result<Option<Displaced>, Failure<E>> {
    let temp = Temp::beside(path, old, new)?;
    prepare(&temp, new, Some(like), step)?;
    // To make the new content ready takes as long as the disk does: who saved meanwhile is not displaced even for an instant.
    if read(path)?.is_none_or(|(now, _)| now != old) {
        return Ok(None);
    }
    step(Step::Checked);
    match swap(&temp.path, path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if is_unsupported(&error) => return overwrite(path, temp, old, new, step),
        Err(error) => return Err(error.into()),
    }
    step(Step::Exchanged);
    let displaced = fs::read(&temp.path)?;
    if displaced != old {
        // Somebody saved after our reading: theirs is the newer one.
        put_back(&temp.path, path, displaced, Some(new.to_owned()))?;
        return Ok(None);
    }
    step(Step::Verified);
    sync_directory(path)?;
    step(Step::DirectorySynced);
    Ok(Some(Displaced { path: path.to_owned(), temp, old: old.to_owned(), new: Some(new.to_owned()) }))
}

/// The exchange where the file system knows none: looks a last time, then renames.
fn overwrite<E>(path: &Path, temp: Temp, old: &[u8], new: &[u8], step: &dyn Fn(Step)) -> Result<Option<Displaced>, Failure<E>> {
    if read(path)?.is_none_or(|(now, _)| now != old) {
        return Ok(None);
    }
    fs::rename(&temp.path, path)?;
    step(Step::Exchanged);
    sync_directory(path)?;
    step(Step::DirectorySynced);
    Ok(Some(Displaced { path: path.to_owned(), temp, old: old.to_owned(), new: Some(new.to_owned()) }))
}

/// One attempt at making a file that is not there; `None` if somebody else made it meanwhile.
fn create<E>(path: &Path, new: &[u8], step: &dyn Fn(Step)) -> Result<Option<Displaced>, Failure<E>> {
    let temp = Temp::beside(path, b"", new)?;
    prepare(&temp, new, None, step)?;
    match move_to_free(&temp.path, path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    step(Step::Exchanged);
    sync_directory(path)?;
    Ok(Some(Displaced { path: path.to_owned(), temp, old: Vec::new(), new: Some(new.to_owned()) }))
}

/// One attempt at removing a file; `None` if somebody else was faster.
fn take_away<E>(path: &Path, old: &[u8], step: &dyn Fn(Step)) -> Result<Option<Displaced>, Failure<E>> {
    let temp = Temp::beside(path, old, b"")?;
    match fs::rename(path, &temp.path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    step(Step::Exchanged);
    let displaced = fs::read(&temp.path)?;
    if displaced != old {
        put_back(&temp.path, path, displaced, None)?;
        return Ok(None);
    }
    sync_directory(path)?;
    Ok(Some(Displaced { path: path.to_owned(), temp, old: old.to_owned(), new: None }))
}

/// Puts `newer`, which is in `temp`, at `path`, where `expected` should be (`None`: nothing). If something else is there, it was saved later
/// still, and goes back in its turn.
fn put_back(temp: &Path, path: &Path, mut newer: Vec<u8>, mut expected: Option<Vec<u8>>) -> io::Result<()> {
    loop {
        let moved = match &expected {
            Some(_) => swap(temp, path),
            None => move_to_free(temp, path),
        };
        match moved {
            Ok(()) => {}
            // Removed, or made anew, after that: whoever did it has the last word.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists) => return Ok(()),
            Err(error) if is_unsupported(&error) => return fs::rename(temp, path),
            Err(error) => return Err(error),
        }
        let Some(expected_now) = expected else { return Ok(()) };
        let displaced = fs::read(temp)?;
        if displaced == expected_now {
            return Ok(());
        }
        (newer, expected) = (displaced, Some(newer));
    }
}

fn swap(temp: &Path, path: &Path) -> io::Result<()> {
    Ok(renameat_with(CWD, temp, CWD, path, RenameFlags::EXCHANGE)?)
}

/// Renames without overwriting.
fn move_to_free(temp: &Path, path: &Path) -> io::Result<()> {
    match renameat_with(CWD, temp, CWD, path, RenameFlags::NOREPLACE).map_err(io::Error::from) {
        Err(error) if is_unsupported(&error) => fs::hard_link(temp, path).and_then(|()| fs::remove_file(temp)),
        result => result,
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(error.raw_os_error().map(Errno::from_raw_os_error), Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP))
}

/// Makes a rename durable. Some file systems cannot; that is no harm to the content.
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = File::open(path.parent().unwrap_or(Path::new(".")))?;
    match directory.sync_all() {
        Err(error) if is_unsupported(&error) => Ok(()),
        result => result,
    }
}

pub(super) fn short_hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod editors;
#[cfg(test)]
mod killed;
#[cfg(test)]
mod tests;
