//! Writes statuses where they live: only what says something new, not too often, and never in the way of the work itself. A file is
//! exchanged with care, which takes its time; files are read by people and committed by git.
//!
//! **Invariant:** after the first, at most one write per object in ten seconds without a change of phase, and at most twelve in an hour. The
//! newest status wins.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{SinkError, StatusSink};
use crate::resource::{ObjectRef, Origin, Status};

/// Time between two writes for one object.
const PACE: Duration = Duration::from_secs(10);
/// So many writes for one object follow each other at that pace within [`WINDOW`]; further ones at [`SLOW`], which makes twelve at most.
const QUICK: usize = 6;
/// Time between two writes for an object that was written often.
const SLOW: Duration = Duration::from_secs(600);
/// What counts as often.
const WINDOW: Duration = Duration::from_secs(3600);
/// Time after which a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(30);
/// Writes at a time. Each of them waits more than it works.
const AT_ONCE: usize = 64;
/// The longest that the end waits for what is still to be written.
const FAREWELL: Duration = Duration::from_secs(10);

/// What is to be written and what was.
pub struct Reporter {
    sink: Arc<dyn StatusSink>,
    slots: Mutex<Slots>,
    changed: Notify,
}

/// All of them, and when which is due: with many objects, no write looks at all.
#[derive(Default)]
struct Slots {
    of: BTreeMap<ObjectRef, Slot>,
    /// Those with a status to write, by the instant from which it may be.
    due: BTreeSet<(Instant, ObjectRef)>,
}

impl Slots {
    /// Changes what is known of an object, and when it is due.
    fn change<T>(&mut self, object: &ObjectRef, change: impl FnOnce(&mut Slot) -> T) -> T {
        let slot = self.of.entry(object.clone()).or_default();
        let changed = change(slot);
        let due = slot.due_from(Instant::now());
        let before = std::mem::replace(&mut slot.due, due);
        if due != before {
            before.map(|at| self.due.remove(&(at, object.clone())));
            due.map(|at| self.due.insert((at, object.clone())));
        }
        changed
    }
}

#[derive(Default)]
struct Slot {
    /// The newest status that is not written yet.
    wanted: Option<(Origin, Arc<Status>)>,
    /// Not before this instant, unless the phase changes.
    paced: Option<Instant>,
    /// When it was written without a change of phase, within [`WINDOW`].
    repeats: VecDeque<Instant>,
    /// What was written last.
    written: Option<(Origin, Arc<Status>)>,
    /// A write is under way.
    writing: bool,
    /// Where it stands in [`Slots::due`].
    due: Option<Instant>,
}

impl Slot {
    /// When the wanted status may be written; `None`: nothing is wanted, or a write is under way.
    fn due_from(&self, now: Instant) -> Option<Instant> {
        let (_, status) = self.wanted.as_ref().filter(|_| !self.writing)?;
        let same_phase = self.written.as_ref().is_some_and(|(_, written)| written.phase == status.phase);
        // What waits already keeps its place.
        Some(self.paced.filter(|_| same_phase).or(self.due.filter(|at| *at <= now)).unwrap_or(now))
    }

    /// Remembers a write, and says how long the next one waits.
    fn wrote(&mut self, origin: Origin, status: Arc<Status>, now: Instant) {
        if self.written.as_ref().is_some_and(|(_, written)| written.phase == status.phase) {
            self.repeats.push_back(now);
        }
        self.written = Some((origin, status));
        while self.repeats.front().is_some_and(|at| now.duration_since(*at) >= WINDOW) {
            self.repeats.pop_front();
        }
        self.paced = Some(now + if self.repeats.len() < QUICK { PACE } else { SLOW });
    }
}

impl Reporter {
    /// Writes through this sink, once [`Reporter::run`] runs.
    pub fn new(sink: Arc<dyn StatusSink>) -> Self {
        Self { sink, slots: Mutex::default(), changed: Notify::new() }
    }

    /// Wants a status written; nothing happens if it is what was written last.
    pub fn offer(&self, object: &ObjectRef, origin: &Origin, status: &Arc<Status>) {
        let is_wanted = self.slots().change(object, |slot| {
            let news = (origin.clone(), status.clone());
            slot.wanted = (slot.written.as_ref() != Some(&news)).then_some(news);
            slot.wanted.is_some()
        });
        // Whoever is woken looks at all of them: a pass over many that are as they were wakes nobody.
        if is_wanted {
            self.changed.notify_one();
        }
    }

    /// Forgets what was written: the document is gone, or was edited, so that what is in the file is not known any more.
    pub fn forget(&self, object: &ObjectRef) {
        self.slots().change(object, |slot| {
            slot.written = None;
            slot.wanted = None;
        });
    }

    /// That status was found in the document: where it is not what was written there last, what was written is not known any more.
    pub fn saw(&self, object: &ObjectRef, origin: &Origin, status: Option<&serde_json::Value>) {
        self.slots().change(object, |slot| {
            let same = |(at, written): &(Origin, Arc<Status>)| at == origin && serde_json::to_value(written.as_ref()).ok().as_ref() == status;
            if !slot.written.as_ref().is_some_and(same) {
                slot.written = None;
            }
        });
    }

    /// Writes what is wanted until told to stop; then what is still wanted, without waiting for its time.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut writes = JoinSet::new();
        let mut farewell = None;
        loop {
            let ending = stop.is_cancelled();
            let changed = self.changed.notified();
            while writes.len() < AT_ONCE
                && let Some((object, origin, status)) = self.take(ending)
            {
                let reporter = self.clone();
                writes.spawn(async move { reporter.write(object, origin, status, ending).await });
            }
            if ending && writes.is_empty() {
                return;
            }
            let deadline = *farewell.get_or_insert_with(|| Instant::now() + FAREWELL);
            if !ending {
                farewell = None;
            } else if Instant::now() >= deadline {
                tracing::warn!("some statuses were not written before the end");
                return;
            }
            // Where as many as may be are being written, the next begins when one of them ends.
            let next = self.next().filter(|_| writes.len() < AT_ONCE);
            let next = next.unwrap_or_else(|| Instant::now() + RETRY).min(if ending { deadline } else { Instant::now() + RETRY });
            tokio::select! { biased;
                Some(_) = writes.join_next() => {}
                () = changed => {}
                () = stop.cancelled(), if !ending => {}
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    /// The next status whose time has come; at the end that of all.
    fn take(&self, ending: bool) -> Option<(ObjectRef, Origin, Arc<Status>)> {
        let mut slots = self.slots();
        let (_, object) = slots.due.first().filter(|(at, _)| ending || *at <= Instant::now())?.clone();
        let (origin, status) = slots.change(&object, |slot| {
            slot.writing = true;
            slot.wanted.take()
        })?;
        Some((object, origin, status))
    }

    /// When the next one's time comes.
    fn next(&self) -> Option<Instant> {
        self.slots().due.first().map(|(at, _)| *at)
    }

    async fn write(&self, object: ObjectRef, origin: Origin, status: Arc<Status>, ending: bool) {
        let result = self.sink.write(&object, &origin, &status).await;
        if let Err(error) = &result {
            match error {
                // Its document is gone: the source tells.
                SinkError::Moved(_) => tracing::debug!(object = %object, %error, "the status was not written to its file"),
                SinkError::Refused { .. } | SinkError::Io { .. } => {
                    tracing::warn!(object = %object, error = error as &dyn std::error::Error, "the status was not written to its file");
                }
            }
        }
        self.slots().change(&object, |slot| {
            slot.writing = false;
            if result.is_ok() {
                return slot.wrote(origin, status, Instant::now());
            }
            slot.paced = Some(Instant::now() + RETRY);
            // The same phase and not the same status: it is tried again at its time.
            slot.written = Some((origin.clone(), Arc::new(Status { conditions: Vec::new(), ..Status::clone(&status) })));
            // At the end there is no other time.
            if !ending {
                slot.wanted.get_or_insert((origin, status));
            }
        });
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Kind;
    use crate::resource::status::Phase;
    use futures::FutureExt;
    use futures::future::BoxFuture;

    /// Counts what it is told to write; each write takes a second.
    #[derive(Default)]
    struct Slow(Mutex<Vec<(String, Phase, u64)>>);

    impl StatusSink for Slow {
        fn write<'a>(&'a self, object: &'a ObjectRef, _: &'a Origin, status: &'a Status) -> BoxFuture<'a, Result<bool, SinkError>> {
            Box::pin(async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                self.0.lock().unwrap().push((object.name.clone(), status.phase, status.observed_generation));
                Ok(true)
            })
        }
    }

    fn status(phase: Phase, generation: u64) -> Arc<Status> {
        let mut status = crate::status::project::definition(generation, None, jiff::Timestamp::UNIX_EPOCH);
        status.phase = phase;
        Arc::new(status)
    }

    fn of(name: &str) -> (ObjectRef, Origin) {
        (ObjectRef::new(Kind::Workspace, "a", name), Origin { source: "s".to_owned(), path: format!("{name}.yaml"), document: 0 })
    }

    #[test]
    fn what_is_written_already_wakes_nobody() {
        let reporter = Reporter::new(Arc::new(Slow::default()));
        let (x, at) = of("x");
        reporter.slots().change(&x, |slot| slot.written = Some((at.clone(), status(Phase::Running, 1))));
        reporter.offer(&x, &at, &status(Phase::Running, 1));
        assert!(reporter.changed.notified().now_or_never().is_none());
        reporter.offer(&x, &at, &status(Phase::Running, 2));
        assert!(reporter.changed.notified().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_wins_phases_hurry_and_the_end_leaves_nothing() {
        let sink = Arc::new(Slow::default());
        let reporter = Arc::new(Reporter::new(sink.clone()));
        let stop = CancellationToken::new();
        let running = tokio::spawn(reporter.clone().run(stop.clone()));
        let (x, at) = of("x");
        reporter.offer(&x, &at, &status(Phase::Starting, 1));
        tokio::time::sleep(Duration::from_millis(100)).await;
        // Three while the first is being written: the last of them counts, and its new phase need not wait.
        for generation in 2..5 {
            reporter.offer(&x, &at, &status(Phase::Running, generation));
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        let written = || sink.0.lock().unwrap().clone();
        assert_eq!(written(), [("x".to_owned(), Phase::Starting, 1), ("x".to_owned(), Phase::Running, 4)]);
        // The same phase waits for its time, the same status is none.
        reporter.offer(&x, &at, &status(Phase::Running, 5));
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(written().len(), 2);
        tokio::time::sleep(Duration::from_secs(8)).await;
        assert_eq!(written().len(), 3);
        reporter.offer(&x, &at, &status(Phase::Running, 5));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(written().len(), 3);
        // What was written itself is no news; what somebody made of it is put right.
        let value = serde_json::to_value(status(Phase::Running, 5)).unwrap();
        for (seen, writes) in [(Some(&value), 3), (None, 4)] {
            reporter.saw(&x, &at, seen);
            reporter.offer(&x, &at, &status(Phase::Running, 5));
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(written().len(), writes);
        }
        // The end does not wait for the pace.
        reporter.offer(&x, &at, &status(Phase::Running, 6));
        tokio::time::sleep(Duration::from_millis(1)).await;
        stop.cancel();
        running.await.unwrap();
        assert_eq!(written().last().unwrap().2, 6);
    }

    #[tokio::test(start_paused = true)]
    async fn what_changes_all_the_time_is_written_twelve_times_an_hour_and_a_phase_at_once() {
        let sink = Arc::new(Slow::default());
        let reporter = Arc::new(Reporter::new(sink.clone()));
        let stop = CancellationToken::new();
        let running = tokio::spawn(reporter.clone().run(stop.clone()));
        let (x, at) = of("x");
        let mut written = Vec::new();
        // A pull of three hours that tells how far it is each second.
        for second in 0..10_800 {
            reporter.offer(&x, &at, &status(Phase::Pending, second));
            tokio::time::sleep(Duration::from_secs(1)).await;
            let all = sink.0.lock().unwrap().clone();
            written.extend(all[written.len()..].iter().map(|(_, _, generation)| (second, *generation)));
        }
        assert!(written.iter().all(|(at, generation)| at - generation <= 2), "the newest: {written:?}");
        for (position, (from, _)) in written.iter().enumerate().skip(1) {
            let within = written[position..].iter().take_while(|(at, _)| *at < from + 3600).count();
            assert!(within <= 12, "{within} in the hour from {from}: {written:?}");
        }
        assert!(written.len() >= 20 && written.windows(2).all(|pair| pair[1].0 - pair[0].0 <= 602), "never out of date for long: {written:?}");
        reporter.offer(&x, &at, &status(Phase::Running, 10_800));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(sink.0.lock().unwrap().last().map(|(_, phase, _)| *phase), Some(Phase::Running));
        stop.cancel();
        running.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn seven_are_written_at_the_quick_pace_and_the_next_only_after_ten_minutes() {
        let sink = Arc::new(Slow::default());
        let reporter = Arc::new(Reporter::new(sink.clone()));
        let stop = CancellationToken::new();
        let running = tokio::spawn(reporter.clone().run(stop.clone()));
        let (x, at) = of("x");
        for (seconds, writes) in [(30, 3), (300, 7), (330, 7), (20, 8)] {
            for _ in 0..seconds {
                reporter.offer(&x, &at, &status(Phase::Pending, sink.0.lock().unwrap().len() as u64));
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            assert_eq!(sink.0.lock().unwrap().len(), writes, "after {seconds} s more");
        }
        stop.cancel();
        running.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_forgotten_is_written_anew_and_what_was_wanted_of_it_is_not() {
        let sink = Arc::new(Slow::default());
        let reporter = Arc::new(Reporter::new(sink.clone()));
        let stop = CancellationToken::new();
        let running = tokio::spawn(reporter.clone().run(stop.clone()));
        let (x, at) = of("x");
        let generations = || sink.0.lock().unwrap().iter().map(|(_, _, generation)| *generation).collect::<Vec<_>>();
        reporter.offer(&x, &at, &status(Phase::Running, 1));
        tokio::time::sleep(Duration::from_secs(2)).await;
        // It waits for its time when the document goes.
        reporter.offer(&x, &at, &status(Phase::Running, 2));
        reporter.forget(&x);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(generations(), [1]);
        // The document is back, without a status, and has it at once.
        reporter.offer(&x, &at, &status(Phase::Running, 1));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(generations(), [1, 1]);
        reporter.forget(&of("y").0);
        stop.cancel();
        running.await.unwrap();
    }

    /// Each write takes a second; counts how many are under way at most.
    #[derive(Default)]
    struct Counting {
        now: Mutex<usize>,
        most: Mutex<usize>,
        all: Mutex<usize>,
    }

    impl StatusSink for Counting {
        fn write<'a>(&'a self, _: &'a ObjectRef, _: &'a Origin, _: &'a Status) -> BoxFuture<'a, Result<bool, SinkError>> {
            Box::pin(async move {
                *self.now.lock().unwrap() += 1;
                let now = *self.now.lock().unwrap();
                let most = (*self.most.lock().unwrap()).max(now);
                *self.most.lock().unwrap() = most;
                tokio::time::sleep(Duration::from_secs(1)).await;
                *self.now.lock().unwrap() -= 1;
                *self.all.lock().unwrap() += 1;
                Ok(true)
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_are_written_at_a_time_and_the_others_after_them() {
        let sink = Arc::new(Counting::default());
        let reporter = Arc::new(Reporter::new(sink.clone()));
        let stop = CancellationToken::new();
        for number in 0..2 * AT_ONCE + 8 {
            let (object, at) = of(&format!("x{number}"));
            reporter.offer(&object, &at, &status(Phase::Running, 1));
        }
        let begun = Instant::now();
        let running = tokio::spawn(reporter.clone().run(stop.clone()));
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        assert_eq!((*sink.most.lock().unwrap(), *sink.all.lock().unwrap()), (AT_ONCE, 2 * AT_ONCE));
        stop.cancel();
        running.await.unwrap();
        assert_eq!((*sink.all.lock().unwrap(), begun.elapsed().as_secs()), (2 * AT_ONCE + 8, 3));
    }

    /// On a clock that does not stand still.
    #[test]
    fn what_is_wanted_is_due_at_once() {
        let reporter = Reporter::new(Arc::new(Slow::default()));
        let (x, at) = of("x");
        reporter.offer(&x, &at, &status(Phase::Starting, 1));
        assert!(reporter.take(false).is_some());
        assert!(reporter.take(false).is_none(), "it is being written");
    }

    /// Fails, and counts how often it was asked.
    #[derive(Default)]
    struct Failing(Mutex<usize>);

    impl StatusSink for Failing {
        fn write<'a>(&'a self, _: &'a ObjectRef, at: &'a Origin, _: &'a Status) -> BoxFuture<'a, Result<bool, SinkError>> {
            *self.0.lock().unwrap() += 1;
            Box::pin(async move { Err(SinkError::Moved(at.clone())) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_written_is_tried_at_intervals_and_once_more_at_the_end() {
        let sink = Arc::new(Failing::default());
        let reporter = Arc::new(Reporter::new(sink.clone()));
        let stop = CancellationToken::new();
        let running = tokio::spawn(reporter.clone().run(stop.clone()));
        let (x, at) = of("x");
        reporter.offer(&x, &at, &status(Phase::Running, 1));
        tokio::time::sleep(Duration::from_secs(65)).await;
        assert_eq!(*sink.0.lock().unwrap(), 3);
        let end = Instant::now();
        stop.cancel();
        running.await.unwrap();
        assert_eq!((*sink.0.lock().unwrap(), end.elapsed()), (4, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_written_is_tried_again_though_each_pass_offers_it_anew() {
        let sink = Arc::new(Failing::default());
        let reporter = Arc::new(Reporter::new(sink.clone()));
        let stop = CancellationToken::new();
        let running = tokio::spawn(reporter.clone().run(stop.clone()));
        let (x, at) = of("x");
        for _ in 0..65 {
            reporter.offer(&x, &at, &status(Phase::Running, 1));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(*sink.0.lock().unwrap(), 3);
        stop.cancel();
        running.await.unwrap();
    }
}
