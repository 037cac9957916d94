//! One process per state directory: a lock that the kernel frees when its holder ends.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::sqlite::FILE;
use super::statedir::LOCK;

/// The right to use a state directory. Dropping it gives it up.
#[derive(Debug)]
pub struct StateDirLock {
    file: File,
    dir: PathBuf,
}

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process uses it.
    #[error("the state directory {} is in use by process {holder}: stop that operator, or choose another with --state-dir", dir.display())]
    Held {
        /// The directory.
        dir: PathBuf,
        /// The process's id, as it wrote it.
        holder: String,
    },
    /// The lock file cannot be opened or locked.
    #[error("cannot lock the state directory {}", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl StateDirLock {
    /// Locks `<dir>/lock`, and writes this process's id into it. The directory must exist.
    ///
    /// # Errors
    /// `Held`, naming the process that has it; `Io`.
    pub fn acquire(dir: &Path) -> Result<Self, LockError> {
        let failed = |source: io::Error| LockError::Io { dir: dir.to_owned(), source };
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(dir.join(LOCK)).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).map_err(failed)?;
                return Err(LockError::Held { dir: dir.to_owned(), holder: holder.trim().to_owned() });
            }
            Err(error) => return Err(failed(error.into())),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(failed)?;
        Ok(Self { file, dir: dir.to_owned() })
    }

    /// Whether the directory still has the file that was locked, and its ledger. Where that cannot be told, it is believed to.
    pub fn is_in_place(&self) -> bool {
        let same = |here: Metadata| self.file.metadata().is_ok_and(|locked| (locked.dev(), locked.ino()) == (here.dev(), here.ino()));
        let is_gone = |error: io::Error| error.kind() == io::ErrorKind::NotFound;
        let lock = fs::metadata(self.dir.join(LOCK)).map_or_else(|error| !is_gone(error), same);
        lock && fs::metadata(self.dir.join(FILE)).map_or_else(|error| !is_gone(error), |_| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_knows_whether_the_directory_is_still_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let make = || {
            fs::create_dir(&state).unwrap();
            let lock = StateDirLock::acquire(&state).unwrap();
            fs::write(state.join(FILE), "").unwrap();
            lock
        };
        let lock = make();
        assert!(lock.is_in_place());
        fs::remove_file(state.join(FILE)).unwrap();
        assert!(!lock.is_in_place(), "the ledger is gone");
        fs::remove_dir_all(&state).unwrap();
        assert!(!lock.is_in_place(), "all is gone");
        let _other = make();
        assert!(!lock.is_in_place(), "it is another's");
    }

    #[test]
    fn one_at_a_time_and_the_holder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDirLock::acquire(dir.path()).unwrap();
        let text = StateDirLock::acquire(dir.path()).unwrap_err().to_string();
        assert!(text.contains(&format!("process {}:", std::process::id())) && text.contains("--state-dir"), "{text}");
        drop(first);
        StateDirLock::acquire(dir.path()).unwrap();
    }

    #[test]
    fn a_directory_that_is_missing_is_said() {
        let error = StateDirLock::acquire(Path::new("/nonexistent/state")).unwrap_err();
        assert!(matches!(error, LockError::Io { .. }) && error.to_string().contains("/nonexistent/state"));
    }
}
