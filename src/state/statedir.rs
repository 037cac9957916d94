//! The state directory: where it is, and how it is made.

use std::ffi::OsStr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The name of a state directory that nobody named.
pub const NAME: &str = ".dockmaster";

/// The file in it whose lock the running operator holds.
pub const LOCK: &str = "lock";

/// Where the state is: the directory named on the command line, else in `DOCKMASTER_STATE_DIR`, else `.dockmaster` in the working directory or
/// the nearest one above it that has one, else `.dockmaster` in the working directory. `is_dir` looks at the file system.
pub fn resolve(flag: Option<&Path>, variable: Option<&OsStr>, cwd: &Path, is_dir: impl Fn(&Path) -> bool) -> PathBuf {
    let named = flag.or(variable.filter(|value| !value.is_empty()).map(Path::new));
    if let Some(named) = named {
        return cwd.join(named);
    }
    cwd.ancestors().map(|dir| dir.join(NAME)).find(|dir| is_dir(dir)).unwrap_or_else(|| cwd.join(NAME))
}

/// The state directory of this process.
///
/// # Errors
/// The working directory is gone.
pub fn locate(flag: Option<&Path>) -> std::io::Result<PathBuf> {
    let variable = std::env::var_os("DOCKMASTER_STATE_DIR");
    Ok(resolve(flag, variable.as_deref(), &std::env::current_dir()?, Path::is_dir))
}

/// Makes the directory, for this user alone, and keeps git from taking it in. One that holds files already is left as it is.
///
/// # Errors
/// It cannot be made or read.
pub fn prepare(dir: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    if std::fs::read_dir(dir)?.next().is_none() {
        std::fs::write(dir.join(".gitignore"), "*\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_flag_wins_over_the_variable_and_both_over_the_search() {
        let cwd = Path::new("/home/alice/specs/shop");
        let found = |flag: Option<&str>, variable: Option<&str>, there: &str| {
            let there = PathBuf::from(there);
            resolve(flag.map(Path::new), variable.map(OsStr::new), cwd, |dir| dir == there)
        };
        assert_eq!(found(Some("s"), Some("/v"), "/home/alice/.dockmaster"), Path::new("/home/alice/specs/shop/s"));
        assert_eq!(found(None, Some("/v"), "/home/alice/.dockmaster"), Path::new("/v"));
        assert_eq!(found(None, Some(""), "/home/alice/.dockmaster"), Path::new("/home/alice/.dockmaster"));
        assert_eq!(found(None, None, "/elsewhere"), Path::new("/home/alice/specs/shop/.dockmaster"));
    }

    #[test]
    fn a_new_directory_is_private_and_ignored_by_git_and_one_with_files_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let new = root.path().join("a/.dockmaster");
        prepare(&new).unwrap();
        prepare(&new).unwrap();
        assert_eq!(std::fs::metadata(&new).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(std::fs::read_to_string(new.join(".gitignore")).unwrap(), "*\n");
        let used = root.path().join("used");
        std::fs::create_dir(&used).unwrap();
        std::fs::write(used.join("README.md"), "mine").unwrap();
        prepare(&used).unwrap();
        assert!(!used.join(".gitignore").exists());
    }
}
