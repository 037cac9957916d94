//! Which files of a directory hold specs, and whose they are: pure functions on names and paths, one place for the directory source
//! and for `validate`.

use std::path::{Path, PathBuf};

/// The most bytes that a spec file may have. A file that is longer is an error, never skipped in silence.
pub const MAX_FILE_BYTES: u64 = 256 * 1024;

/// Whether a file of this name (without directories) holds specs: `*.yaml` and `*.yml`, but not hidden or `_` files, not what editors
/// leave behind, and not the operator's own `*.status.yaml`.
pub fn is_spec_file(name: &str) -> bool {
    let hidden = name.starts_with(['.', '_', '#']);
    let stem = name.strip_suffix(".yaml").or_else(|| name.strip_suffix(".yml"));
    // `shop.yaml~`, `shop.yaml.bak` and `.shop.yaml.swp` end otherwise; these are the backups that still end in `.yaml`.
    let is_backup = |stem: &str| [".status", ".bak", ".orig", ".swp", "~"].iter().any(|ending| stem.ends_with(ending));
    !hidden && stem.is_some_and(|stem| !stem.is_empty() && !is_backup(stem))
}

/// Whether a directory of this name is not looked into: hidden or `_` directories, and `node_modules`.
pub fn skips_directory(name: &str) -> bool {
    name.starts_with(['.', '_']) || name == "node_modules"
}

/// Whose the documents of a file are, and whether it may declare cluster kinds (`Tenant`, `WorkspaceType`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamespaceRule {
    /// A file in the root itself: `metadata.namespace`, else `default`; the only place for cluster kinds.
    Root,
    /// The source is pinned to this namespace; another `metadata.namespace` is an error.
    Pinned(String),
    /// The first directory below the root; another `metadata.namespace` is an error.
    Directory(String),
}

impl NamespaceRule {
    /// The rule for a file at `relative` below the root (`/` between names), in a source pinned to `pinned` or to nothing.
    pub fn of(relative: &str, pinned: Option<&str>) -> Self {
        match (pinned, relative.split_once('/')) {
            (Some(namespace), _) => NamespaceRule::Pinned(namespace.to_owned()),
            (None, Some((first, _))) => NamespaceRule::Directory(first.to_owned()),
            (None, None) => NamespaceRule::Root,
        }
    }

    /// The namespace that the place of the file dictates, if it does.
    pub fn dictated(&self) -> Option<&str> {
        match self {
            NamespaceRule::Root => None,
            NamespaceRule::Pinned(namespace) | NamespaceRule::Directory(namespace) => Some(namespace),
        }
    }
}

/// Where the text of a file comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileContext {
    /// The path as people know it; every message opens with it.
    pub display: String,
    /// The name of the source, as in `Origin::source`.
    pub source: String,
    /// The path below the root of the source with `/`, as in `Origin::path`.
    pub path: String,
    /// The directory of the file, absolute: what relative host paths start from.
    pub directory: PathBuf,
    /// Whose its documents are.
    pub namespace: NamespaceRule,
}

impl FileContext {
    /// The context of the file at `relative` below a root: `source` is the root as it was given, `root` the same as an absolute path.
    pub fn new(source: &str, root: &Path, relative: &str, pinned: Option<&str>) -> Self {
        let directory = root.join(relative).parent().map_or_else(|| root.to_owned(), Path::to_owned);
        Self {
            display: format!("{}/{relative}", source.trim_end_matches('/')),
            source: source.to_owned(),
            path: relative.to_owned(),
            directory,
            namespace: NamespaceRule::of(relative, pinned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yaml_that_people_wrote_is_read() {
        for name in ["shop.yaml", "shop.yml", "my shop.v2.yaml", "status.yaml"] {
            assert!(is_spec_file(name), "{name}");
        }
        for name in [
            ".shop.yaml",
            "_shop.yaml",
            "#shop.yaml#",
            "shop.yaml~",
            "shop~.yaml",
            "shop.yaml.bak",
            "shop.bak.yaml",
            "shop.yaml.orig",
            ".shop.yaml.swp",
            "shop.status.yaml",
            "shop.json",
            "yaml",
            ".yaml",
        ] {
            assert!(!is_spec_file(name), "{name}");
        }
        assert!(skips_directory(".git") && skips_directory("_old") && skips_directory("node_modules") && !skips_directory("alice"));
    }

    #[test]
    fn the_place_of_a_file_says_whose_it_is() {
        assert_eq!(NamespaceRule::of("tenants.yaml", None), NamespaceRule::Root);
        assert_eq!(NamespaceRule::of("alice/web/shop.yaml", None), NamespaceRule::Directory("alice".into()));
        assert_eq!(NamespaceRule::of("web/shop.yaml", Some("bob")), NamespaceRule::Pinned("bob".into()));
        let context = FileContext::new("./my-specs/", Path::new("/home/me/my-specs"), "alice/shop.yaml", None);
        assert_eq!((context.display.as_str(), context.directory.as_path()), ("./my-specs/alice/shop.yaml", Path::new("/home/me/my-specs/alice")));
    }
}
