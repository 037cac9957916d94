//! The work queue: keys that are due, each at most once, never two at a time for one key, the earlier deadline winning.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::resource::ObjectRef;
use crate::state::Trigger;

/// What is to be looked at, and when.
#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// Due, in their order.
    ready: VecDeque<ObjectRef>,
    /// What brought each of them here; the first since its last turn, for the journal.
    triggers: BTreeMap<ObjectRef, Trigger>,
    /// Being worked on.
    running: BTreeSet<ObjectRef>,
    /// Became due while being worked on.
    again: BTreeSet<ObjectRef>,
    /// Not due yet, by instant.
    later: BTreeSet<(Instant, ObjectRef)>,
    /// The instant of each of those.
    due: BTreeMap<ObjectRef, Instant>,
}

impl Queue {
    /// Makes a key due now.
    pub fn push(&self, key: ObjectRef, trigger: Trigger) {
        self.lock().push(key, trigger);
        self.changed.notify_one();
    }

    /// Makes a key due after a while; an earlier deadline that it has stays.
    pub fn push_after(&self, key: ObjectRef, after: Duration) {
        let at = Instant::now() + after;
        let mut state = self.lock();
        match state.due.get(&key).copied() {
            Some(known) if known <= at => return,
            Some(known) => {
                state.later.remove(&(known, key.clone()));
            }
            None => {}
        }
        state.due.insert(key.clone(), at);
        state.later.insert((at, key));
        drop(state);
        self.changed.notify_one();
    }

    /// The next key that is due and not being worked on. It is, until [`Queue::done`].
    pub async fn take(&self) -> (ObjectRef, Trigger) {
        loop {
            let changed = self.changed.notified();
            let wake = {
                let mut state = self.lock();
                state.promote(Instant::now());
                if let Some(taken) = state.take() {
                    return taken;
                }
                state.later.first().map(|(at, _)| *at)
            };
            match wake {
                Some(at) => tokio::select! { biased; () = changed => {}, () = tokio::time::sleep_until(at) => {} },
                None => changed.await,
            }
        }
    }

    /// Ends the work on a key.
    pub fn done(&self, key: &ObjectRef) {
        let mut state = self.lock();
        state.running.remove(key);
        if state.again.remove(key) {
            state.ready.push_back(key.clone());
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Whether nothing is due or being worked on; deadlines may be pending.
    pub fn is_quiet(&self) -> bool {
        let state = self.lock();
        state.ready.is_empty() && state.running.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, key: ObjectRef, trigger: Trigger) {
        if let Some(at) = self.due.remove(&key) {
            self.later.remove(&(at, key.clone()));
        }
        let waits = self.triggers.contains_key(&key);
        self.triggers.entry(key.clone()).or_insert(trigger);
        if self.running.contains(&key) {
            self.again.insert(key);
        } else if !waits {
            self.ready.push_back(key);
        }
    }

    fn promote(&mut self, now: Instant) {
        while self.later.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.later.pop_first() else { return };
            self.due.remove(&key);
            self.push(key, Trigger::Deadline);
        }
    }

    fn take(&mut self) -> Option<(ObjectRef, Trigger)> {
        let key = self.ready.pop_front()?;
        self.running.insert(key.clone());
        let trigger = self.triggers.remove(&key).unwrap_or(Trigger::Resync);
        Some((key, trigger))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Kind;

    fn key(name: &str) -> ObjectRef {
        ObjectRef::new(Kind::Workspace, "a", name)
    }

    #[tokio::test(start_paused = true)]
    async fn equal_requests_collapse_and_the_first_trigger_is_told() {
        let queue = Queue::default();
        queue.push(key("x"), Trigger::Spec);
        queue.push(key("x"), Trigger::Resync);
        assert_eq!(queue.take().await, (key("x"), Trigger::Spec));
        queue.done(&key("x"));
        assert!(queue.is_quiet());
    }

    #[tokio::test(start_paused = true)]
    async fn never_twice_at_once() {
        let queue = Queue::default();
        queue.push(key("x"), Trigger::Spec);
        queue.take().await;
        queue.push(key("x"), Trigger::Event);
        assert!(tokio::time::timeout(Duration::from_secs(60), queue.take()).await.is_err());
        queue.done(&key("x"));
        assert_eq!(queue.take().await, (key("x"), Trigger::Event));
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_deadline_wins() {
        let queue = Queue::default();
        let start = Instant::now();
        queue.push_after(key("x"), Duration::from_secs(50));
        queue.push_after(key("x"), Duration::from_secs(5));
        queue.push_after(key("x"), Duration::from_secs(20));
        assert_eq!(queue.take().await, (key("x"), Trigger::Deadline));
        assert_eq!(start.elapsed().as_secs(), 5);
        queue.done(&key("x"));
        assert!(tokio::time::timeout(Duration::from_secs(100), queue.take()).await.is_err());
    }
}
