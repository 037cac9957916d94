//! Tells those who wait that something changed, in the order in which they began to wait: `tokio::sync::watch` wakes them in any, and a run could not
//! be repeated.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;

#[derive(Debug, Default)]
struct Shared {
    count: AtomicU64,
    is_over: AtomicBool,
    notify: Notify,
}

/// Where a change is told; its end is told too.
#[derive(Debug, Default)]
pub struct Signal(Arc<Shared>);

impl Signal {
    /// Something changed.
    pub fn send(&self) {
        self.0.count.fetch_add(1, Ordering::SeqCst);
        self.0.notify.notify_waiters();
    }

    /// Hears of all changes from now on.
    pub fn subscribe(&self) -> Waiter {
        Waiter { shared: self.0.clone(), seen: self.0.count.load(Ordering::SeqCst) }
    }
}

impl Drop for Signal {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::SeqCst);
        self.0.notify.notify_waiters();
    }
}

/// Where changes are waited for.
#[derive(Debug)]
pub struct Waiter {
    shared: Arc<Shared>,
    seen: u64,
}

impl Waiter {
    /// Waits for a change since the last one that was heard of; false when there will be none.
    pub async fn changed(&mut self) -> bool {
        loop {
            // Made before the look, so that a change in between is not missed.
            let told = self.shared.notify.notified();
            let count = self.shared.count.load(Ordering::SeqCst);
            if count != self.seen {
                self.seen = count;
                return true;
            }
            if self.shared.is_over.load(Ordering::SeqCst) {
                return false;
            }
            told.await;
        }
    }
}
