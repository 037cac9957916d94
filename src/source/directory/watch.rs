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
    use std::fs;
    use std::sync::mpsc;
    use std::time::Duration;

    use notify::event::{AccessKind, CreateKind, Flag};

    use super::*;

    /// The one change that matters is lost in the overflow; that there was one is noticed.
    #[test]
    fn what_the_kernel_dropped_is_looked_for() {
        const PATIENCE: Duration = Duration::from_secs(30);
        let queue = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse::<usize>().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let (hint, hints) = mpsc::channel();
        let (go, gate) = mpsc::channel::<()>();
        let mut watch = Watch::default();
        // The reader of events stands still in its first hint.
        let told = move || {
            hint.send(()).unwrap();
            _ = gate.recv();
        };
        assert!(watch.follow(directory.path(), told));
        fs::write(directory.path().join("a.yaml"), "").unwrap();
        hints.recv_timeout(PATIENCE).unwrap();
        // Like events in a row are one, so there are two files, and they are of no interest.
        let ours = ["1", "2"].map(|name| directory.path().join(format!("{PREFIX}{name}")));
        let files = ours.map(|path| fs::File::create(path).unwrap());
        for _ in 0..queue {
            for file in &files {
                file.set_modified(std::time::SystemTime::now()).unwrap();
            }
        }
        fs::write(directory.path().join("b.yaml"), "").unwrap();
        drop(go);
        // What was queued of the first file, and then the overflow.
        let mut more = 0;
        while hints.recv_timeout(if more == 0 { PATIENCE } else { Duration::from_secs(1) }).is_ok() {
            more += 1;
        }
        assert!(more >= 1, "nothing was hinted at");
    }

    #[test]
    fn an_overflow_matters_and_reading_does_not() {
        assert!(matters(&Event::new(EventKind::Other).set_flag(Flag::Rescan)));
        let create = Event::new(EventKind::Create(CreateKind::File));
        assert!(matters(&create.clone().add_path("specs/a.yaml".into())));
        assert!(!matters(&create.add_path(format!("specs/{PREFIX}1-2-a.yaml").into())));
        assert!(!matters(&Event::new(EventKind::Access(AccessKind::Read)).add_path("specs/a.yaml".into())));
    }
}
