//! Hooks over a small engine: once for each occasion, again when they are mended, and never in the way of a stop.

use serde_json::{Value, json};

use super::model::Model;
use super::tests::{intent, model};
use crate::observed::{State, TaskKey, TaskResult, TaskState};
use crate::resource::{ConditionType, Reason, Truth};
use crate::state::StopReason;

fn with_hook(point: &str, program: &str) -> Value {
    json!({"image": "web:1", "hooks": {point: [program]}})
}

/// Ends the hook that runs with this exit code.
fn end(m: &mut Model, code: i64) {
    let at = m.now;
    let running = m.world.tasks.iter_mut().find(|(key, state)| matches!((key, state), (TaskKey::Hook(..), TaskState::Running { .. })));
    *running.expect("no hook runs").1 = TaskState::Done { at, result: TaskResult::Exit { code, output: String::new() } };
}

fn begun(m: &Model) -> usize {
    m.log.iter().filter(|line| line.starts_with("hook ")).count()
}

#[test]
fn a_hook_that_failed_is_run_again_only_when_it_changes() {
    let (mut m, broken) = (model(), intent(with_hook("postStart", "broken"), 1));
    m.settle_until_hook(&broken);
    end(&mut m, 7);
    let failed = m.settle(&broken);
    assert_eq!((failed.verdict.ready, failed.verdict.reason), (Truth::False, Reason::HookFailed));
    assert!(failed.verdict.message.contains("hooks.postStart ended with exit code 7"), "{}", failed.verdict.message);
    assert_eq!(begun(&m), 1);
    m.settle(&broken);
    assert_eq!(begun(&m), 1, "it is not repeated");
    let mended = intent(with_hook("postStart", "mended"), 2);
    let last = m.settle(&mended);
    assert_eq!((last.verdict.ready, begun(&m)), (Truth::True, 2));
    assert!(last.verdict.conditions.iter().all(|c| c.type_ != ConditionType::HookFailed));
}

#[test]
fn a_hook_that_was_changed_while_it_ran_is_run_as_it_is_now() {
    let (mut m, broken) = (model(), intent(with_hook("postStart", "broken"), 1));
    m.settle_until_hook(&broken);
    end(&mut m, 7);
    let mended = intent(with_hook("postStart", "mended"), 2);
    assert_eq!((m.settle(&mended).verdict.ready, begun(&m)), (Truth::True, 2));
}

#[test]
fn a_failing_hook_before_a_stop_is_told_and_delays_nothing() {
    let spec = with_hook("preStop", "broken");
    let mut m = model();
    m.settle(&intent(spec.clone(), 1));
    let mut stopped = spec.clone();
    stopped["state"] = json!("Stopped");
    let stop = intent(stopped, 2);
    m.settle_until_hook(&stop);
    assert!(matches!(m.world.container_named("dm-ws-alice.shop").unwrap().state, State::Running(_)));
    end(&mut m, 3);
    m.settle(&stop);
    assert_eq!((m.states(), m.facts.stopped.as_ref().map(|stop| stop.why)), (vec!["dm-ws-alice.shop exited".to_owned()], Some(StopReason::Declared)));
    assert_eq!(m.facts.failed_hooks["preStop"].message, "ended with exit code 3; it was stopped all the same");
    let again = m.settle(&intent(spec, 3));
    assert_eq!(again.verdict.ready, Truth::True, "that is over when it runs again");
}
