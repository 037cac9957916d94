//! Long work beside the reconciles: begun at once, one at a time for each key, its state a fact of the world.
//!
//! Generic over [`Work`], so that a simulated engine runs its tasks the same way. A crash loses all of it, and it is begun again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::observed::{TaskKey, TaskResult, TaskState};
use crate::planner::Task;

/// What does the work.
pub trait Work: Send + Sync + 'static {
    /// Does it to its end. The error is for people; the work may be begun again.
    fn run(&self, key: TaskKey, task: Task, progress: Progress) -> BoxFuture<'static, Result<TaskResult, String>>;
    /// The instant by which starts and ends are recorded.
    fn now(&self) -> Timestamp;
}

/// Called with the key of a task that made progress or ended; must not block.
pub type Notify = Arc<dyn Fn(TaskKey) + Send + Sync>;

/// Progress is told at most this often.
const PROGRESS: Duration = Duration::from_secs(1);

/// A clock that lags by more was set back.
const SET_BACK: SignedDuration = SignedDuration::from_secs(1);

/// The tasks of one engine. Cheap to clone; what runs ends with the last clone.
#[derive(Clone)]
pub struct Tasks {
    inner: Arc<Inner>,
}

struct Inner {
    work: Arc<dyn Work>,
    notify: Notify,
    slots: Slots,
    entries: Mutex<BTreeMap<TaskKey, Entry>>,
    runs: AtomicU64,
}

struct Entry {
    state: TaskState,
    /// When it became so, by a clock that nobody sets.
    changed: Instant,
    /// Failures in a row, kept while it runs again.
    failures: u32,
    /// Which run this is; one that was forgotten must not write over its successor.
    run: u64,
    handle: Option<AbortOnDropHandle<()>>,
}

impl Entry {
    fn by_the_clock(&self, now: Timestamp) -> TaskState {
        let mut state = self.state.clone();
        if let TaskState::Done { at, .. } | TaskState::Failed { at, .. } = &mut state
            && let Ok(ended) = now.checked_sub(self.changed.elapsed())
            && *at > ended + SET_BACK
        {
            *at = ended;
        }
        state
    }
}

/// How many of a sort run at once.
struct Slots {
    samples: Arc<Semaphore>,
    pulls: Arc<Semaphore>,
    others: Arc<Semaphore>,
}

impl Slots {
    fn of(&self, task: &Task) -> Arc<Semaphore> {
        match task {
            Task::Sample { .. } => self.samples.clone(),
            Task::Pull { .. } | Task::Helper => self.pulls.clone(),
            Task::Exec { .. } | Task::Tail { .. } | Task::Disk { .. } | Task::Memory => self.others.clone(),
        }
    }
}

/// Where a task tells how far it is.
#[derive(Clone)]
pub struct Progress {
    inner: std::sync::Weak<Inner>,
    key: TaskKey,
    run: u64,
    told: Arc<Mutex<Option<Instant>>>,
}

impl Progress {
    /// Tells, for people: `pulling 34 %`.
    pub fn tell(&self, text: String) {
        let Some(inner) = self.inner.upgrade() else { return };
        let changed = match inner.entries().get_mut(&self.key).filter(|entry| entry.run == self.run).map(|entry| &mut entry.state) {
            Some(TaskState::Running { progress, .. }) if *progress != text => {
                *progress = text;
                true
            }
            Some(TaskState::Running { .. } | TaskState::Done { .. } | TaskState::Failed { .. }) | None => false,
        };
        let mut told = lock(&self.told);
        if changed && told.is_none_or(|last| last.elapsed() >= PROGRESS) {
            *told = Some(Instant::now());
            (inner.notify)(self.key.clone());
        }
    }
}

impl Tasks {
    /// A runner without tasks.
    pub fn new(work: Arc<dyn Work>, notify: Notify) -> Self {
        let slots = Slots { samples: Arc::new(Semaphore::new(4)), pulls: Arc::new(Semaphore::new(3)), others: Arc::new(Semaphore::new(16)) };
        Self { inner: Arc::new(Inner { work, notify, slots, entries: Mutex::default(), runs: AtomicU64::new(0) }) }
    }

    /// Begins a task, unless it runs: then nothing happens. A finished one is begun anew.
    pub fn begin(&self, key: &TaskKey, task: &Task) {
        let inner = &self.inner;
        let since = inner.work.now();
        let mut entries = inner.entries();
        let before = entries.get(key);
        if before.is_some_and(|entry| matches!(entry.state, TaskState::Running { .. })) {
            return;
        }
        let failures = before.map_or(0, |entry| entry.failures);
        let failed = before.and_then(|entry| match &entry.state {
            TaskState::Failed { error, .. } => Some(error.clone()),
            TaskState::Running { .. } | TaskState::Done { .. } => None,
        });
        let run = inner.runs.fetch_add(1, Ordering::Relaxed);
        let progress = Progress { inner: Arc::downgrade(inner), key: key.clone(), run, told: Arc::default() };
        let slots = inner.slots.of(task);
        let (work, key_of_run, task) = (inner.work.clone(), key.clone(), task.clone());
        let handle = tokio::spawn(async move {
            let (weak, key) = (progress.inner.clone(), progress.key.clone());
            // The semaphores are never closed; without a permit there would only be no bound.
            let _permit = slots.acquire_owned().await.ok();
            let body = AbortOnDropHandle::new(tokio::spawn(async move { work.run(key_of_run, task, progress).await }));
            let result = body.await.unwrap_or_else(|error| Err(format!("it broke off: {error}")));
            if let Some(inner) = weak.upgrade() {
                inner.finish(key, run, result);
            }
        });
        let state = TaskState::Running { since, progress: String::new(), failed };
        entries.insert(key.clone(), Entry { state, changed: Instant::now(), failures, run, handle: Some(AbortOnDropHandle::new(handle)) });
    }

    /// Forgets a task and its failures; one that runs is broken off.
    pub fn forget(&self, key: &TaskKey) {
        self.inner.entries().remove(key);
    }

    /// The state of every task that was begun and not forgotten. Where the clock was set back since one ended, its end is told by the clock as
    /// it is now, so that what waits for some time after it does not wait for the clock to come round again.
    pub fn states(&self) -> BTreeMap<TaskKey, TaskState> {
        let now = self.inner.work.now();
        self.inner.entries().iter().map(|(key, entry)| (key.clone(), entry.by_the_clock(now))).collect()
    }
}

impl Inner {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<TaskKey, Entry>> {
        lock(&self.entries)
    }

    fn finish(&self, key: TaskKey, run: u64, result: Result<TaskResult, String>) {
        let at = self.work.now();
        {
            let mut entries = self.entries();
            let Some(entry) = entries.get_mut(&key).filter(|entry| entry.run == run) else { return };
            entry.changed = Instant::now();
            entry.failures = if result.is_ok() { 0 } else { entry.failures + 1 };
            entry.state = match result {
                Ok(result) => TaskState::Done { at, result },
                Err(error) => TaskState::Failed { at, attempts: entry.failures, error },
            };
            // It is this run that ends here: to drop its handle must not break it off before the notice.
            if let Some(handle) = entry.handle.take() {
                handle.detach();
            }
        }
        (self.notify)(key);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use tokio::sync::{Notify as Signal, mpsc};

    /// Fails, succeeds or panics as the reference of a pull says, when it is let go; counts how many run at once.
    #[derive(Default)]
    struct Play {
        go: Arc<Signal>,
        now: Arc<AtomicUsize>,
        most: Arc<AtomicUsize>,
        begun: Arc<AtomicUsize>,
        /// Seconds by which its clock was set back.
        back: Arc<AtomicUsize>,
    }

    impl Work for Play {
        fn run(&self, key: TaskKey, _: Task, progress: Progress) -> BoxFuture<'static, Result<TaskResult, String>> {
            let (go, now, most, begun) = (self.go.clone(), self.now.clone(), self.most.clone(), self.begun.clone());
            Box::pin(async move {
                begun.fetch_add(1, Ordering::SeqCst);
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                progress.tell("half".into());
                go.notified().await;
                now.fetch_sub(1, Ordering::SeqCst);
                if key == TaskKey::Pull("fail".into()) {
                    return Err("no".into());
                }
                assert!(key != TaskKey::Pull("panic".into()), "as asked");
                Ok(TaskResult::Done)
            })
        }

        fn now(&self) -> Timestamp {
            Timestamp::now() - Duration::from_secs(self.back.load(Ordering::SeqCst) as u64)
        }
    }

    struct Stage {
        tasks: Tasks,
        play: Arc<Play>,
        notes: mpsc::UnboundedReceiver<TaskKey>,
    }

    fn stage() -> Stage {
        let play = Arc::new(Play::default());
        let (sender, notes) = mpsc::unbounded_channel();
        let notify: Notify = Arc::new(move |key| drop(sender.send(key)));
        Stage { tasks: Tasks::new(play.clone(), notify), play, notes }
    }

    fn pull(word: &str) -> (TaskKey, Task) {
        (TaskKey::Pull(word.into()), Task::Pull { reference: word.into() })
    }

    impl Stage {
        fn begin(&self, word: &str) {
            let (key, task) = pull(word);
            self.tasks.begin(&key, &task);
        }

        async fn note(&mut self) -> TaskKey {
            tokio::time::timeout(Duration::from_secs(5), self.notes.recv()).await.expect("a note").unwrap()
        }

        fn state(&self, word: &str) -> TaskState {
            self.tasks.states()[&TaskKey::Pull(word.into())].clone()
        }
    }

    #[tokio::test]
    async fn one_runs_at_a_time_for_each_key_and_tells_progress_and_end() {
        let mut stage = stage();
        stage.begin("ok");
        stage.begin("ok");
        stage.note().await;
        assert!(matches!(stage.state("ok"), TaskState::Running { ref progress, .. } if progress == "half"));
        stage.play.go.notify_one();
        stage.note().await;
        assert!(matches!(stage.state("ok"), TaskState::Done { result: TaskResult::Done, .. }));
        assert_eq!(stage.play.begun.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn failures_in_a_row_are_counted_until_forgotten() {
        let mut stage = stage();
        for round in 1..=3 {
            stage.begin("fail");
            let before = |state: &TaskState| matches!(state, TaskState::Running { failed: Some(error), .. } if error == "no");
            assert_eq!(before(&stage.state("fail")), round > 1, "{round}");
            stage.note().await;
            stage.play.go.notify_one();
            stage.note().await;
            assert!(matches!(stage.state("fail"), TaskState::Failed { attempts, .. } if attempts == round));
        }
        stage.tasks.forget(&TaskKey::Pull("fail".into()));
        assert!(stage.tasks.states().is_empty());
        stage.begin("fail");
        stage.note().await;
        stage.play.go.notify_one();
        stage.note().await;
        assert!(matches!(stage.state("fail"), TaskState::Failed { attempts: 1, .. }));
    }

    #[tokio::test]
    async fn a_clock_that_is_set_back_puts_no_second_try_off() {
        let mut stage = stage();
        stage.begin("fail");
        stage.note().await;
        stage.play.go.notify_one();
        stage.note().await;
        let at = |stage: &Stage| {
            let TaskState::Failed { at, .. } = stage.state("fail") else { panic!("it did not fail") };
            at
        };
        let before = at(&stage);
        assert_eq!(at(&stage), before, "it does not creep");
        stage.play.back.store(86_400, Ordering::SeqCst);
        assert!(at(&stage) <= stage.play.now(), "it ended some time ago");
        assert!(before.duration_since(at(&stage)) <= SignedDuration::from_secs(86_401), "and not longer ago than it did");
    }

    #[tokio::test]
    async fn a_panic_is_a_failure() {
        let mut stage = stage();
        stage.begin("panic");
        stage.note().await;
        stage.play.go.notify_one();
        stage.note().await;
        assert!(matches!(stage.state("panic"), TaskState::Failed { .. }));
    }

    #[tokio::test]
    async fn samples_are_at_most_four_at_once() {
        let mut stage = stage();
        for n in 0..10 {
            let key = TaskKey::Sample(crate::observed::ContainerId(n.to_string()));
            stage.tasks.begin(&key, &Task::Sample { ignore: Vec::new() });
        }
        for _ in 0..4 {
            stage.note().await;
        }
        for _ in 0..10 {
            stage.play.go.notify_one();
            // An end, or the progress of the next that got its place; the last ends come alone.
            stage.note().await;
        }
        while stage.tasks.states().values().any(|state| matches!(state, TaskState::Running { .. })) {
            stage.play.go.notify_one();
            stage.note().await;
        }
        assert_eq!(stage.play.most.load(Ordering::SeqCst), 4);
    }

    #[tokio::test]
    async fn forgetting_breaks_off_what_runs() {
        let mut stage = stage();
        stage.begin("ok");
        stage.note().await;
        stage.tasks.forget(&TaskKey::Pull("ok".into()));
        stage.begin("ok");
        stage.note().await;
        stage.play.go.notify_one();
        stage.note().await;
        assert!(matches!(stage.state("ok"), TaskState::Done { .. }));
        assert_eq!(stage.play.begun.load(Ordering::SeqCst), 2);
    }
}
