//! A directory of spec files as a source.
//!
//! Listings alone tell what is; the watch only says when to look. A file is read when it has come to rest, one that cannot be read keeps
//! what it held in force, and nothing is gone before two complete listings of the same root agree, with no git command in between.
//!
//! **Invariant:** a root that is missing, unreadable, exchanged or half checked out never says that something is gone.

mod edit;
pub mod git;
pub mod root;
mod scan;
mod tell;
pub(super) mod walk;
mod watch;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio::sync::{mpsc, watch as signal};
use tokio_stream::wrappers::ReceiverStream;

pub use root::Root;

use super::{Edit, SourceError, SourceEvent, SpecSource};
use crate::resource::{ObjectRef, Origin};
use scan::{Look, REST, Scanner};
use tell::{Place, Teller};
use watch::Watch;

/// How long a hint waits for others of its kind.
const DEBOUNCE: Duration = Duration::from_millis(300);
/// How many times as long as it took to find the files a well source is left alone, at most for [`LONGEST_LEISURE`]: while statuses are written each
/// look is followed by the next, and those of very many files would keep a core busy.
const LEISURE: u32 = 8;
const LONGEST_LEISURE: Duration = Duration::from_secs(10);
/// How often a root is looked at that is in trouble.
const RETRY: Duration = Duration::from_secs(2);
/// How often a root is looked at that cannot be watched.
const POLL: Duration = Duration::from_secs(30);
/// After this many looks at files that are being written all the time, the first listing is in trouble.
const PATIENCE: u32 = 50;

/// How a directory is looked at.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long something must be missing before it is gone.
    pub settle: Duration,
    /// How often it is looked at without a hint.
    pub resync: Duration,
    /// The [`SpecSource::identity`] of an earlier run, so that another directory in the place of the root is noticed.
    pub remembered: Option<String>,
    /// Whether this process writes the statuses. Then nobody did before its first look, and every temporary file was left behind.
    pub is_writer: bool,
}

/// A directory of spec files.
pub struct DirectorySource {
    shared: Arc<Shared>,
}

/// What the task behind `events` shares with the source.
struct Shared {
    root: Root,
    options: Options,
    /// Counts the requests to look again.
    hints: signal::Sender<u64>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What the last scan found or had to keep.
    held: BTreeSet<Place>,
    /// The root that is trusted.
    trusted: Option<String>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hint(&self) {
        self.hints.send_modify(|count| *count += 1);
    }
}

impl DirectorySource {
    /// A source of the specs in a root. Nothing is read before [`SpecSource::events`].
    pub fn new(root: Root, options: Options) -> Self {
        let state = State { trusted: options.remembered.clone(), ..State::default() };
        Self { shared: Arc::new(Shared { root, options, hints: signal::Sender::new(0), state: Mutex::new(state) }) }
    }

    /// The root of the source.
    pub fn root(&self) -> &Root {
        &self.shared.root
    }

    /// Whether writing into the files of this root changes files that git tracks. Asks git; blocks.
    pub fn is_tracked_by_git(&self) -> bool {
        git::tracks(&self.shared.root.path)
    }
}

impl SpecSource for DirectorySource {
    fn name(&self) -> &str {
        &self.shared.root.name
    }

    fn events(&self) -> BoxStream<'static, SourceEvent> {
        let (sender, receiver) = mpsc::channel(64);
        tokio::spawn(Watcher::new(self.shared.clone(), sender).run());
        ReceiverStream::new(receiver).boxed()
    }

    fn rescan(&self) {
        self.shared.hint();
    }

    /// File system and inode of the root that is trusted.
    fn identity(&self) -> Option<String> {
        self.shared.state().trusted.clone()
    }

    fn holds(&self, object: &ObjectRef, origin: &Origin) -> bool {
        self.shared.state().held.contains(&(object.clone(), origin.clone()))
    }

    /// Trusts the directory that is in the place of the root now.
    fn accept(&self) {
        self.shared.state().trusted = None;
        self.shared.hint();
    }

    fn edit<'a>(&'a self, object: &'a ObjectRef, at: Option<&'a Origin>, edit: Edit) -> BoxFuture<'a, Result<Origin, SourceError>> {
        async move {
            let done = edit::edit(&self.shared.root, object, at, edit).await;
            self.rescan();
            done
        }
        .boxed()
    }
}

/// Nobody listens any more.
struct Unheard;

/// The task behind `events`.
struct Watcher {
    shared: Arc<Shared>,
    sender: mpsc::Sender<SourceEvent>,
    /// What looks; lent to the thread that does while it does.
    eyes: Option<(Scanner, Watch)>,
    teller: Teller,
    is_watched: bool,
    /// Whether the trusted root was listed in this run.
    has_listed: bool,
    /// Why the source cannot be trusted, as it was last said.
    trouble: Option<String>,
}

impl Watcher {
    fn new(shared: Arc<Shared>, sender: mpsc::Sender<SourceEvent>) -> Self {
        let teller = Teller::new(&shared.root.name, Instant::now());
        Self { shared, sender, eyes: None, teller, is_watched: false, has_listed: false, trouble: None }
    }

    /// Ends when nobody listens any more.
    async fn run(mut self) {
        _ = self.list_then_watch().await;
    }

    async fn list_then_watch(&mut self) -> Result<(), Unheard> {
        self.say(SourceEvent::Init).await?;
        let mut hints = self.shared.hints.subscribe();
        // In trouble, or while files are being written, the first listing goes on.
        let (mut first, mut patience) = (true, PATIENCE);
        loop {
            let look = self.look().await;
            if first && look.restless && patience > 0 {
                patience -= 1;
            } else {
                self.tell(&look, first).await?;
                if first && self.trouble.is_none() {
                    first = false;
                    self.say(SourceEvent::InitDone).await?;
                }
            }
            let leisure = if first { Duration::ZERO } else { self.leisure(&look) };
            let since = tokio::time::Instant::now();
            tokio::select! {
                () = self.sender.closed() => return Err(Unheard),
                () = tokio::time::sleep(self.pause(&look, leisure)) => {}
                changed = hints.changed() => {
                    changed.map_err(|_| Unheard)?;
                    let rest = DEBOUNCE.max(leisure.saturating_sub(since.elapsed()));
                    tokio::select! { () = self.sender.closed() => return Err(Unheard), () = tokio::time::sleep(rest) => {} }
                    hints.mark_unchanged();
                }
            }
        }
    }

    /// How long it is left alone after a look although something may have changed.
    fn leisure(&self, look: &Look) -> Duration {
        if self.trouble.is_some() { Duration::ZERO } else { (look.walked * LEISURE).min(LONGEST_LEISURE) }
    }

    /// How long until the next look, if nothing hints at a change.
    fn pause(&self, look: &Look, leisure: Duration) -> Duration {
        let options = &self.shared.options;
        let due = self.teller.due(options.settle).map(|due| due.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)));
        let trouble = self.trouble.as_ref().map(|_| RETRY);
        let restless = look.restless.then_some(REST.max(leisure));
        let unwatched = (!self.is_watched).then_some(POLL);
        // Deletions of a source in trouble are not due before it is out of it.
        let due = due.filter(|_| self.trouble.is_none());
        [due, trouble, restless, unwatched].into_iter().flatten().fold(options.resync, Duration::min)
    }

    async fn say(&self, event: SourceEvent) -> Result<(), Unheard> {
        self.sender.send(event).await.map_err(|_| Unheard)
    }

    /// Looks at the root, where blocking is allowed.
    async fn look(&mut self) -> Look {
        let root = self.shared.root.clone();
        let (mut scanner, mut watch) = self.eyes.take().unwrap_or_else(|| (Scanner::new(root.clone(), self.shared.options.is_writer), Watch::default()));
        let shared = self.shared.clone();
        let looked = tokio::task::spawn_blocking(move || {
            // Watched before it is listed, so that no change falls in between.
            let is_watched = watch.follow(&root.path, move || shared.hint());
            let look = scanner.look();
            (scanner, watch, is_watched, look)
        });
        match looked.await {
            Ok((scanner, watch, is_watched, look)) => {
                self.eyes = Some((scanner, watch));
                self.is_watched = is_watched;
                look
            }
            Err(error) => {
                self.teller.begin_anew();
                Look { trouble: Some(format!("looking at {} failed ({error}); this is a bug", self.shared.root.name)), ..Look::default() }
            }
        }
    }

    /// Says what a look brought.
    async fn tell(&mut self, look: &Look, first: bool) -> Result<(), Unheard> {
        let Some((scanner, _)) = &self.eyes else { return self.judge(look.trouble.clone()).await };
        let now = Instant::now();
        let mut news = Vec::new();
        if let Some(read) = self.teller.news(scanner, first, now) {
            news = read;
            if let Some(held) = self.teller.held_anew() {
                self.shared.state().held = held;
            }
        }
        news.extend(self.teller.bared(&look.bared));
        let before = self.shared.state().trusted.clone();
        let trouble = self.diagnose(look, first);
        // What was missed in trouble, or in the look that ends it, was not missed yet.
        if trouble.is_some() || self.trouble.is_some() {
            self.teller.doubt(now);
        }
        let is_well = trouble.is_none();
        if !is_well {
            self.judge(trouble).await?;
        }
        for event in news {
            self.say(event).await?;
        }
        if is_well {
            // Trusted again only with all that it says. Another root that is trusted at once is one that can be trusted again.
            if self.trouble.is_none() && !first && before != self.shared.state().trusted {
                self.say(SourceEvent::Healthy).await?;
            }
            self.judge(None).await?;
            if !(first || look.restless)
                && let Some(gone) = self.teller.gone(self.shared.options.settle, now)
            {
                self.say(gone).await?;
            }
        }
        Ok(())
    }

    /// Why what is missing must not be deleted now.
    fn diagnose(&mut self, look: &Look, first: bool) -> Option<String> {
        let exchanged = || self.exchanged(look.identity.as_ref());
        let unread = || (first && look.restless).then(|| format!("files of {} are being written all the time; stop what writes them", self.shared.root.name));
        let matters = first || self.trouble.is_some() || self.teller.is_missing_any();
        let git = || look.git.clone().filter(|_| matters);
        let trouble = look.trouble.clone().or_else(exchanged).or_else(unread).or_else(git);
        self.has_listed |= trouble.is_none();
        trouble
    }

    /// Why this root is not the one that is trusted. The first one is trusted, and so is another one that has all that the trusted one had.
    fn exchanged(&self, identity: Option<&String>) -> Option<String> {
        let mut state = self.shared.state();
        let is_complete = self.has_listed && !self.teller.is_missing_any();
        let identity = identity?;
        match &state.trusted {
            Some(trusted) if trusted != identity && !is_complete => {
                let (root, name) = (self.shared.root.path.display(), &self.shared.root.name);
                Some(format!(
                    "{root} was exchanged: it is another directory than before; nothing of it is deleted until the old one is back (mount it) \
                     or `dockmaster prune --source {name}` accepts this one"
                ))
            }
            Some(_) | None => {
                state.trusted = Some(identity.clone());
                None
            }
        }
    }

    /// Says whether the source can be trusted, if that has changed.
    async fn judge(&mut self, trouble: Option<String>) -> Result<(), Unheard> {
        if trouble != self.trouble {
            self.trouble.clone_from(&trouble);
            self.say(trouble.map_or(SourceEvent::Healthy, SourceEvent::Unhealthy)).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod watcher_tests;
