//! `validate PATH…`: reads files and whole directories, and tells all that is wrong with them in one go.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::Item;
use super::directory::walk;
use super::parse::{Parsed, parse_bytes};
use super::render::{Problem, Severity};
use super::select::{FileContext, MAX_FILE_BYTES, NamespaceRule};
use crate::resource::ObjectRef;

/// What was found in the paths.
#[derive(Debug, Default)]
pub struct Report {
    /// The files that were read, each once, though it is named twice.
    pub files: BTreeSet<PathBuf>,
    /// The good documents.
    pub items: Vec<Item>,
    /// What is wrong, and warnings; by file and place.
    pub problems: Vec<Problem>,
    /// Where the name of each of the good documents stands.
    names: Vec<Problem>,
}

impl Report {
    /// Whether anything is wrong; warnings are not.
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }
}

/// Reads files, and directories as roots of specs. A file that is named is read whatever its name is; its namespace is what it says
/// itself, so that it may hold any kind. Each root is pinned to nothing.
pub fn validate_paths(paths: &[PathBuf]) -> Report {
    let mut report = Report::default();
    for path in paths {
        let shown = path.display().to_string();
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        if path.is_dir() {
            directory(&mut report, &shown, &absolute);
        } else {
            let name = absolute.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            let directory = absolute.parent().map_or_else(|| absolute.clone(), Path::to_owned);
            let source = directory.display().to_string();
            let context = FileContext { display: shown, source, path: name, directory, namespace: NamespaceRule::Root };
            file(&mut report, &absolute, &context);
        }
    }
    duplicates(&mut report);
    report.problems.sort_by(|a, b| (&a.display, a.line, a.column).cmp(&(&b.display, b.line, b.column)));
    report
}

/// Reads the spec files of a root, as the source of a directory finds them.
fn directory(report: &mut Report, source: &str, root: &Path) {
    let context = |relative: &str| FileContext::new(source, root, relative, None);
    let listing = match walk::list(root) {
        Ok(listing) => listing,
        Err(error) => return report.problems.push(unreadable(&context(""), &error)),
    };
    for (relative, found) in listing.files {
        match found {
            Ok(_) => file(report, &root.join(&relative), &context(&relative)),
            Err((message, help)) => report.problems.push(Problem::of_file(&context(&relative), message, help)),
        }
    }
    if let Some(why) = listing.incomplete {
        report.problems.push(Problem::of_file(&context(""), format!("not all of it was read: {why}"), "see to that and try again"));
    }
}

fn file(report: &mut Report, path: &Path, context: &FileContext) {
    if !report.files.insert(path.to_owned()) {
        return;
    }
    match bytes(path) {
        Ok(bytes) => {
            let Parsed { items, problems, names } = parse_bytes(&bytes, context);
            report.items.extend(items);
            report.problems.extend(problems);
            report.names.extend(names);
        }
        Err(error) => report.problems.push(unreadable(context, &error)),
    }
}

/// The bytes of a file; of one that is too long no more than it takes to see that.
fn bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(context: &FileContext, error: &std::io::Error) -> Problem {
    Problem::of_file(context, format!("cannot be read: {error}"), "check that it exists and may be read")
}

/// Finds objects that are declared twice.
fn duplicates(report: &mut Report) {
    let mut first: BTreeMap<ObjectRef, &Problem> = BTreeMap::new();
    for (item, name) in report.items.iter().zip(&report.names) {
        let object = item.resource.reference();
        if let Some(other) = first.get(&object) {
            let message = format!("{object} is declared already, in {}:{}", other.display, other.line);
            report.problems.push(Problem { message, help: "rename or remove one of them".into(), ..name.clone() });
        } else {
            first.insert(object, name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(kind: &str, name: &str) -> String {
        format!("apiVersion: dockmaster/v1\nkind: {kind}\nmetadata: {{name: {name}}}\n")
    }

    fn told(report: &Report, root: &Path) -> Vec<String> {
        let first = |problem: &Problem| problem.rendered().lines().next().unwrap_or("").replace(&root.display().to_string(), "ROOT");
        report.problems.iter().map(first).collect()
    }

    #[test]
    fn all_that_is_wrong_in_all_files_is_told_at_once() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("tenants.yaml", &spec("Tenant", "alice"));
        write("alice/shop.yaml", &spec("Workspace", "shop"));
        write("alice/deep/again.yml", &format!("---\n# none\n---\n{}", spec("Workspace", "shop")));
        write("bob/shop.yaml", &spec("Workspace", "shop"));
        write("bob/tenant.yaml", &spec("Tenant", "bob"));
        write("bob/long.yaml", &"#".repeat(300_000));
        write("bob/foreign.yaml", "apiVersion: v1\nkind: Pod\n");
        for skipped in [".git/x.yaml", "node_modules/x.yaml", "_old/x.yaml", "bob/shop.status.yaml", "bob/x.yaml~", "bob/_x.yaml"] {
            write(skipped, "not: ours\n");
        }
        std::os::unix::fs::symlink("nowhere", root.path().join("bob/broken.yaml")).unwrap();
        std::os::unix::fs::symlink("..", root.path().join("bob/circle")).unwrap();

        let report = validate_paths(&[root.path().to_owned(), root.path().join("alice/shop.yaml"), root.path().join("missing.yaml")]);
        assert_eq!(
            told(&report, root.path()),
            [
                "ROOT/alice/shop.yaml:3:18: workspace/shop -n alice is declared already, in ROOT/alice/deep/again.yml:6",
                "ROOT/bob/broken.yaml:1:1: it is a link that leads nowhere: No such file or directory (os error 2)",
                "ROOT/bob/circle:1:1: it is a link to a directory that it lies in",
                "ROOT/bob/foreign.yaml:1:13: warning: apiVersion `v1` is not dockmaster's; the document is skipped",
                "ROOT/bob/long.yaml:1:1: the file is longer than 256 KiB",
                "ROOT/bob/tenant.yaml:2:7: a Tenant belongs to no namespace, but this file belongs to namespace `bob`",
                "ROOT/missing.yaml:1:1: cannot be read: No such file or directory (os error 2)",
            ]
        );
        assert_eq!(report.problems[0].help, "rename or remove one of them");
        assert!(report.has_errors());
        assert_eq!(report.items.len(), 4);
    }

    #[test]
    fn warnings_are_no_errors() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("a.yaml"), "apiVersion: v1\n").unwrap();
        let report = validate_paths(&[root.path().to_owned()]);
        assert_eq!((report.problems.len(), report.has_errors(), report.files.len()), (1, false, 1));
    }
}
