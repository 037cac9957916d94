//! What git is doing in the work tree around a root, from the files that git itself goes by.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A lock that is older than this was left behind by a git that died.
const STALE: Duration = Duration::from_secs(600);

/// What git leaves in its directory while a work tree is between two states.
const MARKS: [(&str, &str); 8] = [
    ("MERGE_HEAD", "merge"),
    ("rebase-merge", "rebase"),
    ("rebase-apply", "rebase"),
    ("CHERRY_PICK_HEAD", "cherry-pick"),
    ("REVERT_HEAD", "revert"),
    ("sequencer", "cherry-pick or revert"),
    ("BISECT_LOG", "bisect"),
    ("index.lock", "command"),
];

/// Why deletions wait, if git is at work around this directory.
pub fn under_way(root: &Path) -> Option<String> {
    let (tree, directory) = work_tree(root)?;
    let (mark, what) = MARKS.into_iter().find(|(mark, _)| directory.join(mark).exists())?;
    let age = || fs::metadata(directory.join(mark)).ok()?.modified().ok()?.elapsed().ok();
    let tree = tree.display();
    if mark == "index.lock" && age().is_some_and(|age| age > STALE) {
        let lock = directory.join(mark);
        return Some(format!("a git command in {tree} left its lock behind; nothing is deleted until you remove {}", lock.display()));
    }
    Some(format!("a git {what} is under way in {tree}; nothing is deleted until it is finished or given up"))
}

/// Whether git tracks a spec below this directory. Where git cannot be asked, a work tree counts as tracked.
pub fn tracks(root: &Path) -> bool {
    if work_tree(root).is_none() {
        return false;
    }
    let mut git = Command::new("git");
    git.arg("-C").arg(root).args(["ls-files", "--", "*.yaml", "*.yml"]).env("GIT_OPTIONAL_LOCKS", "0").stdin(Stdio::null());
    git.output().map_or(true, |output| !output.status.success() || !output.stdout.is_empty())
}

/// The work tree around a directory, and where git keeps its state; `.git` may be a file that names it.
fn work_tree(root: &Path) -> Option<(PathBuf, PathBuf)> {
    let root = fs::canonicalize(root).ok()?;
    root.ancestors().find_map(|tree| {
        let dot = tree.join(".git");
        if dot.is_dir() {
            return Some((tree.to_owned(), dot));
        }
        let text = fs::read_to_string(&dot).ok()?;
        Some((tree.to_owned(), tree.join(text.strip_prefix("gitdir:")?.trim())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_at_work_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let specs = directory.path().join("specs");
        fs::create_dir_all(&specs).unwrap();
        assert_eq!(under_way(&specs), None);
        assert!(!tracks(&specs));
        let git = directory.path().join(".git");
        fs::create_dir(&git).unwrap();
        assert_eq!(under_way(&specs), None);
        for (mark, what) in MARKS {
            fs::write(git.join(mark), "").unwrap();
            assert!(under_way(&specs).unwrap().contains(&format!("git {what} is under way")), "{mark}");
            fs::remove_file(git.join(mark)).unwrap();
        }
        let lock = fs::File::create(git.join("index.lock")).unwrap();
        lock.set_modified(std::time::SystemTime::now() - 2 * STALE).unwrap();
        assert!(under_way(&specs).unwrap().contains("until you remove"));
    }

    #[test]
    fn a_worktree_keeps_its_state_elsewhere() {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        let state = directory.path().join("main/.git/worktrees/tree");
        fs::create_dir_all(&tree).unwrap();
        fs::create_dir_all(&state).unwrap();
        fs::write(tree.join(".git"), "gitdir: ../main/.git/worktrees/tree\n").unwrap();
        assert_eq!(under_way(&tree), None);
        fs::write(state.join("index.lock"), "").unwrap();
        assert!(under_way(&tree).is_some());
        assert!(tracks(&tree), "where git cannot answer, say so rather than not");
    }
}
