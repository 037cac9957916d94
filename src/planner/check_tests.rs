//! The promises that no plan may break: for each refusal a plan that it refuses, and one beside it that passes.

use serde_json::json;

use super::check::check;
use super::model::Model;
use super::tests::{intent, model, uid};
use super::{Action, Cause, Operation, Plan, PlanNode, Target, Verdict};
use crate::desired::{ContainerSpec, Intent, Role};
use crate::observed::{ContainerId, HealthState, Slot, State, Volume, VolumeOwner};
use crate::resource::quantity::Duration;
use crate::resource::status::Phase;
use crate::resource::{Kind, ObjectRef, Reason, Truth, Uid};
use crate::state::Consent;

const MAIN: &str = "dm-ws-alice.shop";
const NEXT: &str = "dm-ws-alice.shop_next";
const DB: &str = "dm-ws-alice.shop.db";
const DATA: &str = "dm-vol-alice.shop.data";

/// A workspace that runs, with a service and a volume.
fn running() -> (Model, Intent) {
    let spec = json!({"image": "web:1", "mounts": [{"volume": "data", "path": "/data"}], "services": {"db": {"image": "db:1"}}});
    let (mut m, want) = (model(), intent(spec, 1));
    m.settle(&want);
    (m, want)
}

fn workspace(namespace: &str, name: &str) -> ObjectRef {
    ObjectRef::new(Kind::Workspace, namespace, name)
}

fn preview() -> ObjectRef {
    ObjectRef::new(Kind::Preview, "alice", "demo")
}

/// Adds a container like another one, in another state and place.
fn add(m: &mut Model, like: &str, name: &str, state: State, slot: Slot) {
    let mut container = m.world.container_named(like).unwrap().clone();
    (container.id, container.name, container.state) = (ContainerId(name.to_owned()), name.to_owned(), state);
    container.owner.as_mut().unwrap().slot = slot;
    m.world.insert(container);
}

/// A plan of these operations, each after those with the numbers beside it.
fn plan_of(steps: Vec<(Operation, Vec<usize>)>) -> Plan {
    let mut plan = Plan::idle(Verdict::new(Phase::Running, Truth::True, Reason::Running, "made by hand"));
    let node = |(operation, depends_on)| PlanNode { operation, action: Action::None, cause: Cause::new("plan", "none", "made by hand"), depends_on };
    plan.nodes = steps.into_iter().map(node).collect();
    plan
}

fn refusal(m: &Model, want: &Intent, steps: Vec<(Operation, Vec<usize>)>) -> Option<String> {
    check(&m.input(want), &plan_of(steps)).err()
}

fn existing(m: &Model, name: &str) -> Target {
    Target::Existing { id: m.world.container_named(name).unwrap().id.clone(), uid: uid(), name: name.to_owned() }
}

fn start(m: &Model, name: &str) -> Operation {
    Operation::Start(existing(m, name))
}

fn stop(m: &Model, name: &str) -> Operation {
    Operation::Stop { target: existing(m, name), grace: Duration::from_secs(10) }
}

fn create(spec: &ContainerSpec, name: &str) -> Operation {
    Operation::Create { spec: Box::new(spec.clone()), name: name.to_owned(), image_id: "sha256:web1".to_owned() }
}

fn spec_of<'a>(want: &'a Intent, name: &str) -> &'a ContainerSpec {
    let Intent::Present(desired) = want else { unreachable!() };
    desired.containers.iter().find(|spec| spec.name == name).unwrap()
}

#[test]
fn a_step_depends_only_on_steps_before_it() {
    let (m, want) = running();
    for (on, refused) in [(vec![], None), (vec![0], None), (vec![1], Some(1)), (vec![2], Some(2)), (vec![0, 2], Some(2))] {
        let steps = [vec![], on.clone(), vec![]].into_iter().map(|on| (Operation::ReleaseLeases, on)).collect();
        let refused = refused.map(|later| format!("node 1 depends on node {later}, which comes after it"));
        assert_eq!(refusal(&m, &want, steps), refused, "{on:?}");
    }
}

#[test]
fn only_the_objects_own_containers_are_acted_on_and_by_a_preview_those_of_its_namespace() {
    let shop = workspace("alice", "shop");
    let cases = [
        (&shop, Some(shop.clone()), None),
        (&shop, Some(workspace("alice", "other")), Some("belongs to workspace/other -n alice")),
        (&shop, Some(workspace("bob", "shop")), Some("belongs to workspace/shop -n bob")),
        (&shop, Some(preview()), Some("belongs to preview/demo -n alice")),
        (&shop, None, Some("is not ours")),
        // It keeps still what it copies.
        (&preview(), Some(preview()), None),
        (&preview(), Some(shop.clone()), None),
        (&preview(), Some(workspace("bob", "shop")), Some("belongs to workspace/shop -n bob")),
        (&preview(), None, Some("is not ours")),
    ];
    for (object, owner, refused) in cases {
        let (mut m, want) = running();
        m.meddle(MAIN, |container| match owner.clone() {
            Some(owner) => container.owner.as_mut().unwrap().object = owner,
            None => container.owner = None,
        });
        m.object = object.clone();
        let refused = refused.map(|why| format!("{MAIN} {why}"));
        for operation in [Operation::Pause(existing(&m, MAIN)), stop(&m, MAIN), Operation::Remove(existing(&m, MAIN))] {
            assert_eq!(refusal(&m, &want, vec![(operation, vec![])]), refused, "{object} and what is of {owner:?}");
        }
    }
}

#[test]
fn a_container_is_acted_on_only_where_it_was_seen_or_is_made_by_the_plan() {
    let (m, want) = running();
    let unseen = Target::Existing { id: ContainerId("gone".to_owned()), uid: uid(), name: MAIN.to_owned() };
    let refused = refusal(&m, &want, vec![(Operation::Remove(unseen), vec![])]);
    assert_eq!(refused.as_deref(), Some("dm-ws-alice.shop was not seen in this pass"));
    let made = Target::Made { node: 0, name: NEXT.to_owned() };
    assert_eq!(refusal(&m, &want, vec![(create(spec_of(&want, MAIN), NEXT), vec![]), (Operation::Remove(made), vec![0])]), None);
}

#[test]
fn a_volume_goes_only_by_the_owners_word_and_only_when_it_is_of_this_life_of_the_object() {
    let another_life = Uid("01936f2e-7b7c-7000-8000-000000000009".to_owned());
    let shop = workspace("alice", "shop");
    let mine = Some((shop.clone(), Some(uid())));
    let cases = [
        (Consent::DeleteInSpec, mine.clone(), None),
        (Consent::PreviewCopy, mine.clone(), None),
        (Consent::None, mine, Some("would be removed without consent")),
        (Consent::DeleteInSpec, Some((shop, Some(another_life))), Some("belongs to workspace/shop -n alice")),
        (Consent::DeleteInSpec, Some((workspace("alice", "other"), Some(uid()))), Some("belongs to workspace/other -n alice")),
        (Consent::DeleteInSpec, Some((ObjectRef::new(Kind::Namespace, "", "alice"), None)), Some("belongs to namespace/alice")),
        (Consent::DeleteInSpec, None, Some("is not ours")),
    ];
    for (consent, owner, refused) in cases {
        let (mut m, want) = running();
        let owner = owner.map(|(object, uid)| VolumeOwner { object, uid, volume: "data".to_owned(), expired_marker: false });
        let volume = m.world.volumes.remove(DATA).unwrap();
        m.world.volumes.insert(DATA.to_owned(), Volume { owner, ..volume });
        let remove = Operation::RemoveVolume { name: DATA.to_owned(), uid: uid(), consent };
        let refused = refused.map(|why| format!("volume {DATA} {why}"));
        assert_eq!(refusal(&m, &want, vec![(remove.clone(), vec![])]), refused);
        m.world.volumes.remove(DATA);
        assert!(refusal(&m, &want, vec![(remove, vec![])]).is_some(), "it was not seen");
    }
}

#[test]
fn nothing_is_started_beside_one_that_runs_in_its_place() {
    let (mut m, want) = running();
    add(&mut m, MAIN, NEXT, State::Created, Slot::Next);
    add(&mut m, DB, "dm-ws-alice.shop.db_next", State::Created, Slot::Next);
    add(&mut m, DB, "dm-ws-alice.shop.cache", State::Created, Slot::Current);
    m.meddle("dm-ws-alice.shop.cache", |container| container.owner.as_mut().unwrap().service = Some("cache".to_owned()));
    let beside = |name: &str, other: &str| Some(format!("{name} would run beside {other}"));
    let made = || create(spec_of(&want, MAIN), "made");
    let start_made = |node: usize| Operation::Start(Target::Made { node, name: "made".to_owned() });
    let cases = [
        ("the other runs on", vec![(start(&m, NEXT), vec![])], beside(NEXT, MAIN)),
        ("it is stopped before", vec![(stop(&m, MAIN), vec![]), (start(&m, NEXT), vec![0])], None),
        ("it is stopped at some time", vec![(stop(&m, MAIN), vec![]), (start(&m, NEXT), vec![])], beside(NEXT, MAIN)),
        (
            "it is stopped before something that comes before",
            vec![(stop(&m, MAIN), vec![]), (Operation::ReleaseLeases, vec![0]), (start(&m, NEXT), vec![1])],
            None,
        ),
        ("another is stopped before", vec![(stop(&m, DB), vec![]), (start(&m, NEXT), vec![0])], beside(NEXT, MAIN)),
        ("the replacement itself is stopped", vec![(stop(&m, NEXT), vec![]), (start(&m, NEXT), vec![0])], beside(NEXT, MAIN)),
        ("it runs itself", vec![(start(&m, MAIN), vec![])], None),
        ("a new one, the other runs on", vec![(made(), vec![]), (start_made(0), vec![0])], beside("made", MAIN)),
        ("a new one, the other is stopped", vec![(made(), vec![]), (stop(&m, MAIN), vec![0]), (start_made(0), vec![1])], None),
        ("a service of the same name", vec![(start(&m, "dm-ws-alice.shop.db_next"), vec![])], beside("dm-ws-alice.shop.db_next", DB)),
        ("another service", vec![(start(&m, "dm-ws-alice.shop.cache"), vec![])], None),
    ];
    for (case, steps, refused) in cases {
        assert_eq!(refusal(&m, &want, steps), refused, "{case}");
    }
    // What holds its place without a process may be passed by; what only stands still may not.
    for (state, refused) in [
        (State::Exited { code: 0 }, None),
        (State::Created, None),
        (State::Paused, beside(NEXT, MAIN)),
        (State::Restarting, beside(NEXT, MAIN)),
        (State::Running(HealthState::Unhealthy), beside(NEXT, MAIN)),
    ] {
        m.meddle(MAIN, |container| container.state = state);
        assert_eq!(refusal(&m, &want, vec![(start(&m, NEXT), vec![])]), refused, "{state:?}");
    }
}

#[test]
fn helpers_may_run_beside_each_other() {
    let (mut m, want) = running();
    for (name, state, slot) in [("live", State::Running(HealthState::None), Slot::Copy), ("delta", State::Created, Slot::Delta)] {
        add(&mut m, MAIN, name, state, slot);
        m.meddle(name, |container| container.owner.as_mut().unwrap().role = Role::Helper);
    }
    assert_eq!(refusal(&m, &want, vec![(start(&m, "delta"), vec![])]), None);
}
