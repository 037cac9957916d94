//! The last lines of a process that ended: read once, after its end, and waited for only while they are being read.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::model::Model;
use super::tests::{intent, model, text, web};
use super::{Operation, Plan};
use crate::desired::Intent;
use crate::observed::{State, TaskKey, TaskResult, TaskState};
use crate::state::Fact;

const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// A process that ended by itself, and when.
fn ended() -> (Model, Intent, TaskKey, Timestamp) {
    let (mut m, want) = (model(), intent(web("web:1"), 1));
    m.settle(&want);
    m.now += SignedDuration::from_mins(1);
    let end = m.now;
    m.meddle("dm-ws-alice.shop", |c| {
        c.state = State::Exited { code: 1 };
        Arc::make_mut(c.details.as_mut().unwrap()).finished = Some(end);
    });
    let key = TaskKey::Tail(m.world.container_named("dm-ws-alice.shop").unwrap().id.clone());
    (m, want, key, end)
}

/// What the plan does: reads, remembers, starts.
fn does(plan: &Plan) -> (bool, bool, bool) {
    let has = |name: &str| plan.nodes.iter().any(|node| node.operation.name() == name);
    let remembers = plan.nodes.iter().any(|node| node.operation == Operation::Record(Fact::PreviousLog("bye\n".to_owned())));
    (has("read-log"), remembers, has("start"))
}

#[test]
fn what_was_read_since_the_end_counts_however_long_ago_and_what_was_read_before_does_not() {
    let (reads, starts) = ((true, false, false), (false, true, true));
    for (read, now, expected) in [
        // Before its end: the last lines were not written yet.
        (-1, 1, reads),
        (0, 1, starts),
        (1, 2, starts),
        (1, 60, starts),
        (1, 3600, starts),
    ] {
        let (mut m, want, key, end) = ended();
        let tail = TaskResult::Tail("bye\n".to_owned());
        m.world.tasks.insert(key, TaskState::Done { at: end + SECOND * read, result: tail });
        m.now = end + SECOND * now;
        let plan = m.plan(&want);
        assert_eq!(does(&plan), expected, "read after {read} s, now {now} s: {}", text(&m, &plan));
    }
}

#[test]
fn what_is_remembered_already_is_not_remembered_again() {
    let (mut m, want, key, end) = ended();
    m.world.tasks.insert(key, TaskState::Done { at: end, result: TaskResult::Tail("bye\n".to_owned()) });
    m.facts.previous_log = Some("bye\n".to_owned());
    assert_eq!(does(&m.plan(&want)), (false, false, true));
}

#[test]
fn a_log_that_cannot_be_read_keeps_nothing_waiting() {
    for (failed, expected) in [(-1, (true, false, false)), (0, (false, false, true)), (1, (false, false, true))] {
        let (mut m, want, key, end) = ended();
        m.world.tasks.insert(key, TaskState::Failed { at: end + SECOND * failed, attempts: 1, error: "no such log".to_owned() });
        m.now = end + SECOND * 2;
        let plan = m.plan(&want);
        assert_eq!(does(&plan), expected, "failed after {failed} s: {}", text(&m, &plan));
    }
}
