//! Hints that something in a root changed. A hint may be lost, late or wrong: a listing tells what is.

use std::path::{Path, PathBuf};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::walk;
use crate::source::exchange::PREFIX;

/// The watch on a root, as long as it is the same directory.
#[derive(Default)]
pub struct Watch {
    watched: Option<String>,
    watcher: Option<RecommendedWatcher>,
}

impl Watch {
    /// Watches the root anew if it is another directory than the one that is watched. `false`: it cannot be watched, and has to be polled.
    pub fn follow(&mut self, root: &Path, hint: impl Fn() + Send + 'static) -> bool {
        let identity = walk::identity(root).ok();
        if self.watched != identity {
            self.watcher = None;
            self.watched = identity;
            if self.watched.is_some() {
                self.watcher = watch(root, hint).inspect_err(|error| tracing::warn!(%error, root = %root.display(), "cannot be watched, and is polled")).ok();
            }
        }
        self.watcher.is_some()
    }
}

fn watch(root: &Path, hint: impl Fn() + Send + 'static) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |result: notify::Result<Event>| {
        // An error may have swallowed a change.
        if result.as_ref().map_or(true, matters) {
            hint();
        }
    })?;
    watcher.watch(root, RecursiveMode::Recursive)?;
    Ok(watcher)
}

/// Reading is no change, and neither is what we write beside a file before it is exchanged. An overflow has no paths, and matters most.
fn matters(event: &Event) -> bool {
    let ours = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
    event.need_rescan() || !(matches!(event.kind, EventKind::Access(_)) || event.paths.iter().all(ours))
}

#[cfg(test)]
mod tests {
    use notify::event::{AccessKind, CreateKind, Flag};

    use super::*;

    #[test]
    fn an_overflow_matters_and_reading_does_not() {
        assert!(matters(&Event::new(EventKind::Other).set_flag(Flag::Rescan)));
        let create = Event::new(EventKind::Create(CreateKind::File));
        assert!(matters(&create.clone().add_path("specs/a.yaml".into())));
        assert!(!matters(&create.add_path(format!("specs/{PREFIX}1-2-a.yaml").into())));
        assert!(!matters(&Event::new(EventKind::Access(AccessKind::Read)).add_path("specs/a.yaml".into())));
    }
}
