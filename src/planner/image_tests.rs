//! Images over a small engine: the helper's, those that are always pulled, and those that a restart takes.

use jiff::SignedDuration;
use serde_json::json;

use super::model::Model;
use super::tests::{intent, model, text, web};
use super::{Plan, Task};
use crate::desired::Intent;
use crate::observed::{State, TaskKey, TaskResult, TaskState};
use crate::resource::ConditionType;
use crate::state::Fact;

const MAIN: &str = "dm-ws-alice.shop";

fn pulled_by(policy: &str, image: &str) -> Intent {
    let mut spec = web(image);
    spec["pullPolicy"] = json!(policy);
    intent(spec, 1)
}

/// One that runs, and a person who asks for a restart a minute later.
fn asked(policy: &str) -> (Model, Intent) {
    let (mut m, want) = (model(), pulled_by(policy, "web:1"));
    m.settle(&want);
    m.now += SignedDuration::from_mins(1);
    m.record(Fact::RestartAsked(m.now));
    (m, want)
}

fn names(plan: &Plan) -> Vec<&'static str> {
    plan.nodes.iter().filter(|node| node.operation.is_mutating()).map(|node| node.operation.name()).collect()
}

#[test]
fn a_workspace_of_the_helper_image_is_made_from_what_the_engine_has_of_it() {
    let (mut m, want) = (model(), intent(json!({"image": "dockmaster/helper"}), 1));
    m.world.helper = None;
    let plan = m.plan(&want);
    assert!(!names(&plan).contains(&"create") && names(&plan).contains(&"build-helper"), "{}", text(&m, &plan));
    assert!(plan.nodes.iter().any(|node| matches!(node.operation, super::Operation::Begin(TaskKey::Helper, Task::Helper))));
    m.settle(&want);
    assert_eq!(m.world.container_named(MAIN).unwrap().image_id, "sha256:helper");
}

#[test]
fn an_image_that_is_there_is_pulled_all_the_same_where_it_always_is() {
    for (policy, first) in [("Always", "pull"), ("IfNotPresent", "create")] {
        let (m, want) = (model(), pulled_by(policy, "web:1"));
        let plan = m.plan(&want);
        let (pulls, creates) = (names(&plan).contains(&"pull"), names(&plan).contains(&"create"));
        assert_eq!((pulls, creates), (first == "pull", first == "create"), "{policy}: {}", text(&m, &plan));
    }
}

#[test]
fn a_pull_is_forgotten_only_where_the_next_container_is_to_pull_again() {
    for (policy, forgotten) in [("Always", true), ("IfNotPresent", false)] {
        let (mut m, want) = (model(), pulled_by(policy, "far:1"));
        m.settle(&want);
        assert_eq!(m.log.iter().any(|line| line == "forget far:1"), forgotten, "{policy}");
        assert_eq!(m.world.tasks.contains_key(&TaskKey::Pull("far:1".to_owned())), !forgotten, "{policy}");
    }
}

#[test]
fn a_restart_takes_another_image_only_where_it_always_pulls_and_finds_one() {
    for (policy, moves, replaces) in [("Always", true, true), ("Always", false, false), ("IfNotPresent", true, false), ("IfNotPresent", false, false)] {
        let (mut m, want) = asked(policy);
        let before = m.world.container_named(MAIN).unwrap().id.clone();
        if policy == "Always" {
            let plan = m.plan(&want);
            assert_eq!(names(&plan), ["pull"], "nothing is interrupted for what is not known yet");
            m.apply(&plan, usize::MAX);
            m.finish_tasks();
        }
        if moves {
            m.world.images.insert("web:1".to_owned(), "sha256:newer".to_owned());
        }
        let plan = m.plan(&want);
        let expected = if replaces { &["create", "stop", "start"] as &[_] } else { &["stop", "start"] };
        assert_eq!(names(&plan), expected, "{policy}, moves: {moves}: {}", text(&m, &plan));
        m.settle(&want);
        assert_eq!((m.world.container_named(MAIN).unwrap().id == before, m.facts.restart_asked), (!replaces, None));
    }
}

/// Found by the perturbation harness: `tag-moves-always` with `engine-kill@46` and `crash-before@55`.
#[test]
fn a_restart_of_what_has_ended_takes_another_image_too_and_is_not_kept_down_by_a_registry_that_fails() {
    for (fails, moves) in [(false, true), (false, false), (true, false)] {
        let (mut m, want) = asked("Always");
        m.meddle(MAIN, |container| container.state = State::Exited { code: 137 });
        let plan = m.plan(&want);
        assert_eq!(names(&plan), ["pull"], "{}", text(&m, &plan));
        m.apply(&plan, usize::MAX);
        if fails {
            let failed = TaskState::Failed { at: m.now, attempts: 1, error: "no such host".to_owned() };
            m.world.tasks.insert(TaskKey::Pull("web:1".to_owned()), failed);
        } else {
            m.finish_tasks();
        }
        if moves {
            m.world.images.insert("web:1".to_owned(), "sha256:newer".to_owned());
        }
        m.settle(&want);
        let image = &m.world.container_named(MAIN).unwrap().image_id;
        assert_eq!((image == "sha256:newer", m.facts.restart_asked, m.states()), (moves, None, vec!["dm-ws-alice.shop running".to_owned()]));
    }
}

#[test]
fn what_others_pulled_is_taken_by_a_restart_neither_before_its_own_pull_nor_where_it_needs_none() {
    for (policy, is_pulled, expected) in [("Always", false, &["pull"] as &[_]), ("IfNotPresent", true, &["stop", "start"])] {
        let (mut m, want) = asked(policy);
        m.world.images.insert("web:1".to_owned(), "sha256:newer".to_owned());
        if is_pulled {
            m.world.tasks.insert(TaskKey::Pull("web:1".to_owned()), TaskState::Done { at: m.now, result: TaskResult::Done });
        }
        let plan = m.plan(&want);
        assert_eq!(names(&plan), expected, "{policy}: {}", text(&m, &plan));
    }
}

#[test]
fn for_a_restart_counts_what_was_pulled_since_it_was_asked_for() {
    let before = |m: &Model| m.now - SignedDuration::from_secs(50);
    let done = |at| TaskState::Done { at, result: TaskResult::Done };
    let failed = |at| TaskState::Failed { at, attempts: 1, error: "no such host".to_owned() };
    for (ended, state, expected) in [
        (false, done(before(&asked("Always").0)), &["pull"] as &[_]),
        (false, done(asked("Always").0.now), &["stop", "start"]),
        (true, failed(before(&asked("Always").0)), &["pull"]),
        (true, failed(asked("Always").0.now), &["start"]),
    ] {
        let (mut m, want) = asked("Always");
        if ended {
            m.meddle(MAIN, |container| container.state = State::Exited { code: 137 });
        }
        m.world.tasks.insert(TaskKey::Pull("web:1".to_owned()), state.clone());
        let plan = m.plan(&want);
        assert_eq!(names(&plan), expected, "{state:?}: {}", text(&m, &plan));
    }
}

#[test]
fn a_restart_that_takes_another_image_names_both_as_docker_shows_them() {
    for (old, new, change) in [
        ("sha256:fedcba98765432100", "sha256:0123456789abcdef0", "image: fedcba987654 -> 0123456789ab"),
        ("sha256:fedc", "0123456789abc", "image: fedc -> 0123456789ab"),
    ] {
        let (mut m, want) = asked("Always");
        let plan = m.plan(&want);
        m.apply(&plan, usize::MAX);
        m.finish_tasks();
        m.meddle(MAIN, |container| container.image_id = old.to_owned());
        m.world.images.insert("web:1".to_owned(), new.to_owned());
        let plan = m.plan(&want);
        assert!(text(&m, &plan).contains(&format!("replace create dm-ws-alice.shop_next ({change})")), "{}", text(&m, &plan));
    }
}

#[test]
fn an_image_that_moved_without_a_restart_is_told_and_interrupts_nobody() {
    let (mut m, want) = (model(), pulled_by("Always", "web:1"));
    m.settle(&want);
    m.now += SignedDuration::from_mins(1);
    // Another object pulled it since.
    m.world.tasks.insert(TaskKey::Pull("web:1".to_owned()), TaskState::Done { at: m.now, result: TaskResult::Done });
    m.world.images.insert("web:1".to_owned(), "sha256:newer".to_owned());
    let plan = m.plan(&want);
    assert_eq!(names(&plan), [""; 0], "{}", text(&m, &plan));
    assert!(plan.verdict.conditions.iter().any(|c| c.type_ == ConditionType::ImageOutdated), "{:?}", plan.verdict.conditions);
}
