//! Networks over a small engine: a namespace's, which goes with its last user, and a container's place on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::SignedDuration;

use super::model::Model;
use super::tests::{intent, model, text, web};
use super::{Action, Operation};
use crate::desired::{Intent, NetworkWant};
use crate::observed::{Network, State};
use crate::resource::{ConditionType, Kind, ObjectRef};

const MAIN: &str = "dm-ws-alice.shop";
const SHARED: &str = "dm-ns-alice";

/// A namespace whose network a workspace holds, and what its network is planned for while these objects use it.
fn namespace(users: &[ObjectRef]) -> (Model, Intent) {
    let mut m = model();
    m.settle(&intent(web("web:1"), 1));
    m.object = ObjectRef::new(Kind::Namespace, "", "alice");
    let network = NetworkWant { name: SHARED.to_owned(), subnet: String::new(), labels: BTreeMap::new() };
    (m, Intent::Shared { network, users: users.iter().cloned().collect::<BTreeSet<_>>() })
}

fn remove_main(m: &mut Model) {
    let id = m.world.container_named(MAIN).unwrap().id.clone();
    m.world.remove(&id);
}

#[test]
fn a_namespaces_network_goes_with_its_last_user_and_when_nothing_holds_it() {
    let (mut m, unused) = namespace(&[]);
    let plan = m.plan(&unused);
    assert!(plan.is_empty(), "{}", text(&m, &plan));
    assert_eq!(plan.recheck, Some(m.now + SignedDuration::from_mins(1)), "what holds it still is about to go");
    remove_main(&mut m);
    let plan = m.plan(&unused);
    let [removed, released] = plan.nodes.as_slice() else { panic!("{plan:?}") };
    assert!(matches!(&removed.operation, Operation::RemoveNetwork { name, .. } if name == SHARED));
    assert_eq!((removed.action, &released.operation, &released.depends_on), (Action::Delete, &Operation::ReleaseLeases, &vec![0]));
    assert_eq!(plan.recheck, None);
    m.apply(&plan, usize::MAX);
    assert!(m.world.networks.is_empty() && m.plan(&unused).is_empty());
    // Who uses it keeps it, whether or not a container holds it now.
    let (mut m, used) = namespace(&[ObjectRef::new(Kind::Workspace, "alice", "shop")]);
    remove_main(&mut m);
    assert!(m.plan(&used).is_settled());
}

#[test]
fn of_two_networks_of_one_name_the_one_that_is_held_stays() {
    let (mut m, unused) = namespace(&[]);
    let held = m.world.networks.named(SHARED).next().unwrap().clone();
    m.world.networks.insert("other".to_owned(), Network { id: "other".to_owned(), ..held });
    let plan = m.plan(&unused);
    let removed: Vec<&Operation> = plan.nodes.iter().map(|node| &node.operation).filter(|operation| operation.is_mutating()).collect();
    assert_eq!(removed, [&Operation::RemoveNetwork { id: "other".to_owned(), name: SHARED.to_owned() }]);
}

#[test]
fn a_foreign_network_of_a_namespaces_name_is_told_to_its_users_and_never_removed() {
    for (users, told) in [(vec![ObjectRef::new(Kind::Workspace, "alice", "shop")], true), (vec![], false)] {
        let (mut m, want) = namespace(&users);
        remove_main(&mut m);
        m.world.networks = m.world.networks.into_iter().map(|(id, network)| (id, Network { owner: None, ..network })).collect();
        let plan = m.plan(&want);
        assert!(plan.is_empty(), "{}", text(&m, &plan));
        assert_eq!(plan.verdict.conditions.iter().any(|c| c.type_ == ConditionType::NameConflict), told);
    }
}

#[test]
fn a_container_that_lost_its_network_is_made_anew_whether_it_runs_or_not() {
    let running = State::Running(crate::observed::HealthState::None);
    for (state, change) in [
        (running, "networks: removed under the running container -> made anew"),
        (State::Paused, "networks: removed under the running container -> made anew"),
        (State::Exited { code: 143 }, "networks: removed -> made anew"),
        (State::Created, "networks: removed -> made anew"),
    ] {
        let (mut m, want) = (model(), intent(web("web:1"), 1));
        m.settle(&want);
        m.meddle(MAIN, |container| container.state = state);
        assert!(m.plan(&want).changes.is_empty());
        m.world.networks.clear();
        let changes: Vec<String> = m.plan(&want).changes.iter().map(super::print::cause).collect();
        assert_eq!(changes, [change], "{state:?}");
    }
}

#[test]
fn a_container_that_has_no_network_id_before_its_first_start_is_started_as_it_is() {
    let (mut m, want) = (model(), intent(web("web:1"), 1));
    m.settle(&want);
    m.meddle(MAIN, |container| {
        container.state = State::Created;
        container.networks.values_mut().for_each(String::clear);
    });
    let plan = m.plan(&want);
    assert!(plan.changes.is_empty(), "{:?}", plan.changes);
    assert!(text(&m, &plan).contains("start   start dm-ws-alice.shop (state: created -> running)"), "{}", text(&m, &plan));
}

#[test]
fn names_that_a_running_container_lost_on_its_network_are_given_back() {
    let (mut m, want) = (model(), intent(web("web:1"), 1));
    m.settle(&want);
    let id = m.world.networks.named(SHARED).next().unwrap().id.clone();
    m.meddle(MAIN, |container| {
        Arc::make_mut(container.details.as_mut().unwrap()).aliases.insert(SHARED.to_owned(), vec!["shop".to_owned()]);
    });
    let plan = m.plan(&want);
    let [off, on] = plan.nodes.as_slice() else { panic!("{}", text(&m, &plan)) };
    assert!(matches!(&off.operation, Operation::Disconnect { network, .. } if *network == id));
    assert_eq!(super::print::cause(&off.cause), "networks.dm-ns-alice.aliases: lost -> shop,shop.alice");
    assert!(matches!(&on.operation, Operation::Connect { network, aliases, .. } if network == SHARED && *aliases == ["shop", "shop.alice"]));
    assert_eq!(on.depends_on, [0], "one after the other");
    // One that does not run has them when it is started.
    m.meddle(MAIN, |container| container.state = State::Created);
    let plan = m.plan(&want);
    assert!(!text(&m, &plan).contains("connect"), "{}", text(&m, &plan));
}
