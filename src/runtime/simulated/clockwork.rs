//! What is to happen when, and its happening.

use std::time::Duration;

use super::state::{Engine, Status};

/// Something that is due at a time. A container's is void when it was started again since.
#[derive(Clone, Debug)]
pub enum Due {
    /// Somebody wants to be woken.
    Nothing,
    /// A main process goes on.
    Process(String, u64),
    /// A command in a container goes on.
    Exec(String),
    /// The grace of a stop is over.
    Kill(String, u64),
    /// The engine starts it again.
    Restart(String, u64),
    /// Its health is tested.
    Health(String, u64),
    /// A health test ends, with that code and output.
    Tested(String, u64, i64, String),
    /// It ends by itself.
    Ends(String, u64, i64),
    /// The kernel kills it.
    OutOfMemory(String, u64),
}

impl Engine {
    /// Puts something down for later.
    pub(super) fn after(&mut self, time: Duration, due: Due) {
        self.serial += 1;
        self.agenda.insert((self.elapsed + time, self.serial), due);
        self.changes += 1;
    }

    /// Wakes those who wait for a change after so long.
    pub(super) fn alarm(&mut self, time: Duration) {
        self.after(time, Due::Nothing);
    }

    /// When the next thing is due, since the engine was made.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.agenda.keys().next().map(|(at, _)| *at)
    }

    /// Does what is due by now, each at its time.
    pub(super) fn catch_up(&mut self) {
        let (now, elapsed) = (self.now, self.elapsed);
        while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= elapsed) {
            let ((at, _), due) = entry.remove_entry();
            self.elapsed = at;
            self.now = now.checked_sub(elapsed - at).unwrap_or(now);
            self.changes += 1;
            self.happen(due);
        }
        self.elapsed = elapsed;
        self.now = now;
    }

    fn happen(&mut self, due: Due) {
        let current = |engine: &Self, id: &str, run: u64| engine.containers.get(id).is_some_and(|container| container.run == run);
        match due {
            Due::Nothing => {}
            Due::Process(id, run) if current(self, &id, run) => self.go_on(&id),
            Due::Exec(id) => self.exec_goes_on(&id),
            Due::Kill(id, run) if current(self, &id, run) => {
                self.tell_kill(&id, 9);
                self.ended(&id, 137, false);
            }
            Due::Restart(id, run) if current(self, &id, run) => {
                if self.containers.get(&id).is_some_and(|container| container.status == Status::Restarting) {
                    self.start_again(&id);
                }
            }
            Due::Health(id, run) if current(self, &id, run) => self.test_health(&id),
            Due::Tested(id, run, code, output) if current(self, &id, run) => self.health_tested(&id, code, output),
            Due::Ends(id, run, code) if current(self, &id, run) => self.ended(&id, code, false),
            Due::OutOfMemory(id, run) if current(self, &id, run) => self.ended(&id, 137, true),
            Due::Process(..) | Due::Kill(..) | Due::Restart(..) | Due::Health(..) | Due::Tested(..) | Due::Ends(..) | Due::OutOfMemory(..) => {}
        }
    }
}
