//! `state backup` and `state restore`: a consistent copy while an operator runs, and back again while none does.

use std::path::{Path, PathBuf};

use super::directory_lock::{LockError, StateDirLock};
use super::{LedgerError, sqlite, statedir};

/// What a restore leaves of the ledger that it replaced.
pub const REPLACED: &str = "ledger.db.before-restore";

/// A backup or a restore failed; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The ledger or the backup cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The file is there.
    #[error("{} exists already; name another file, or say --overwrite", .0.display())]
    Exists(PathBuf),
    /// There is no such backup.
    #[error("there is no backup at {}", .0.display())]
    Missing(PathBuf),
    /// An operator holds the state directory.
    #[error(transparent)]
    Busy(#[from] LockError),
    /// The file system refused.
    #[error("could not {doing} {}", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

fn file<T>(doing: &'static str, path: &Path, result: std::io::Result<T>) -> Result<T, BackupError> {
    result.map_err(|source| BackupError::File { doing, path: path.to_owned(), source })
}

/// Writes a copy of the ledger of `dir` to the file `to`, readable by this user alone, whether an operator runs or not.
///
/// # Errors
/// `Exists` when `to` is there and `overwrite` is false; the ledger's own.
pub async fn backup(dir: &Path, to: &Path, overwrite: bool) -> Result<(), BackupError> {
    if to.exists() && !overwrite {
        return Err(BackupError::Exists(to.to_owned()));
    }
    let copy = file("write beside", to, tempfile::NamedTempFile::new_in(parent(to)))?;
    sqlite::copy_into(dir, copy.path()).await?;
    file("write", to, copy.as_file().sync_all())?;
    let kept = if overwrite { copy.persist(to) } else { copy.persist_noclobber(to) };
    match kept {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Err(BackupError::Exists(to.to_owned())),
        Err(error) => file("write", to, Err(error.error)),
    }
}

/// Puts the backup `from` in the place of the ledger of `dir`, which is made when it is missing. The ledger that was there is kept beside it.
///
/// # Errors
/// `Busy` while an operator holds the directory; `Missing`, `Corrupt` or `TooNew` when the backup cannot be used.
pub async fn restore(dir: &Path, from: &Path) -> Result<(), BackupError> {
    if !from.is_file() {
        return Err(BackupError::Missing(from.to_owned()));
    }
    file("make", dir, statedir::prepare(dir))?;
    let _lock = StateDirLock::acquire(dir)?;
    let mut copy = file("write in", dir, tempfile::NamedTempFile::new_in(dir))?;
    let mut source = file("read", from, std::fs::File::open(from))?;
    file("read", from, std::io::copy(&mut source, copy.as_file_mut()))?;
    file("write", copy.path(), copy.as_file().sync_all())?;
    let verdict = sqlite::verify(copy.path(), from).await;
    for leftover in [beside(copy.path(), "-wal"), beside(copy.path(), "-shm")] {
        file("remove", &leftover, remove(&leftover))?;
    }
    verdict?;
    swap(dir, copy)
}

/// Exchanges the files so that a crash at any point leaves a whole ledger: the journal file goes before the file that it belongs to, because
/// SQLite would play it into whatever it finds under that name.
fn swap(dir: &Path, copy: tempfile::NamedTempFile) -> Result<(), BackupError> {
    let (ledger, kept) = (dir.join(sqlite::FILE), dir.join(REPLACED));
    for path in [&kept, &beside(&kept, "-wal"), &beside(&ledger, "-shm")] {
        file("remove", path, remove(path))?;
    }
    if ledger.exists() {
        file("keep", &ledger, std::fs::hard_link(&ledger, &kept))?;
    }
    let journal = beside(&ledger, "-wal");
    if journal.exists() {
        file("keep", &journal, std::fs::rename(&journal, beside(&kept, "-wal")))?;
    }
    file("replace", &ledger, copy.persist(&ledger).map_err(|error| error.error))?;
    file("write", dir, std::fs::File::open(dir).and_then(|dir| dir.sync_all()))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
