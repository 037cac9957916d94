//! The loops in virtual time over a small engine: what wakes whom, what is held, and that nothing is done twice or for nothing.

mod rig;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rig::{Rig, key, workspace};

use jiff::SignedDuration;

use super::Looks;
use super::run::OnceOutcome;
use super::store::Rest;
use crate::config::prune_setting;
use crate::desired::naming;
use crate::observed::{Glimpse, Look, Network, Networks, State, World};
use crate::resource::{ConditionType, ObjectRef, Truth, Uid};
use crate::runtime::Change;
use crate::source::{Item, SourceEvent};
use crate::state::{Claim, EventReason, Ledger, Pools, Trigger};

fn many(count: usize) -> (Vec<Item>, Vec<ObjectRef>) {
    let names: Vec<String> = (0..count).map(|n| format!("w{n}")).collect();
    (names.iter().map(|name| workspace(name, "{image: 'web:1'}")).collect(), names.iter().map(|name| key(name)).collect())
}

async fn all_ready(count: usize) -> (Rig, Vec<ObjectRef>) {
    let (documents, keys) = many(count);
    let rig = Rig::start(documents);
    rig.until("readiness", |rig| keys.iter().all(|key| rig.is_ready(key))).await;
    rig.pass(30).await;
    rig.engine.take_calls();
    (rig, keys)
}

#[tokio::test(start_paused = true)]
async fn what_is_settled_costs_listings_only_and_writes_nothing() {
    let (rig, keys) = all_ready(3).await;
    let writes = rig.sink.0.load(Ordering::SeqCst);
    let journal = rig.ledger.journal_of(&keys[0], 100).await.unwrap().len();
    rig.pass(600).await;
    assert_eq!(rig.engine.take_calls(), vec!["list"; 10]);
    assert_eq!(rig.sink.0.load(Ordering::SeqCst), writes);
    assert_eq!(rig.ledger.journal_of(&keys[0], 100).await.unwrap().len(), journal);
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_pass_leaves_alone_what_cannot_have_changed() {
    let (rig, keys) = all_ready(3).await;
    rig.pass(120).await;
    // One of two may be the tenth, which plans everything.
    let is_calm = |rig: &Rig| (0..2).any(|_| rig.controller.unrested().is_empty());
    assert!(is_calm(&rig));
    let all = (0..10).map(|_| rig.controller.unrested()).max_by_key(Vec::len).unwrap();
    assert!(keys.iter().all(|key| all.contains(key)), "the tenth: {all:?}");
    // What one of them should be may be another now: it is planned, and no other.
    rig.controller.lower_again(&keys[0]);
    assert!((0..2).any(|_| rig.controller.unrested() == keys[..1]));
    // What nobody told of is found by the next pass, and everything is planned over it.
    rig.engine.model().meddle("dm-ws-alice.w1", |c| c.state = State::Exited { code: 137 });
    let took = rig.until("the healing", |rig| rig.states().iter().all(|state| state.ends_with("running"))).await;
    assert!(took <= Duration::from_secs(70), "{took:?}");
    let moved = rig.controller.unrested();
    assert!([&keys[0], &keys[2]].into_iter().all(|key| moved.contains(key)), "the healed one was planned already: {moved:?}");
    rig.pass(120).await;
    assert!(is_calm(&rig));
    // A plan that waits for its time is made again when that has come, also where the clock was set, and not because of what came before it.
    let now = rig.controller.now();
    let rest = Rest { revision: 7, since: now, until: Some(now + Duration::from_secs(60)) };
    let holds = [(7, 0), (8, 0), (7, 59), (7, 60), (7, -1)].map(|(revision, seconds)| rest.holds(revision, now + SignedDuration::from_secs(seconds)));
    assert_eq!(holds, [true, false, true, false, false]);
    rig.end().await;
}

/// Nothing tells that what waits for calm may go on.
#[tokio::test(start_paused = true)]
async fn what_was_put_off_is_planned_again_in_each_pass() {
    let rig = Rig::start(vec![workspace("w0", "{image: 'web:1', update: {when: OnRestart}}")]);
    rig.until("readiness", |rig| rig.is_ready(&key("w0"))).await;
    let changed = workspace("w0", "{image: 'web:1', update: {when: OnRestart}, env: [{name: A, value: new}]}");
    rig.source.say(SourceEvent::Apply(Box::new(changed)));
    rig.until("it to be put off", |rig| rig.condition(&key("w0"), ConditionType::RestartPending).is_some()).await;
    rig.pass(180).await;
    assert!((0..9).all(|_| rig.controller.unrested().contains(&key("w0"))));
    rig.end().await;
}

/// To look at all others for each object makes a start with many a matter of their square.
#[tokio::test(start_paused = true)]
async fn others_are_looked_at_only_for_what_is_claimed() {
    let rig = Rig::start(vec![workspace("w0", "{image: 'web:1', ports: [{name: http, container: 80, publish: 10007}]}")]);
    rig.until("readiness", |rig| rig.is_ready(&key("w0"))).await;
    let pools = |claims: &[Claim]| rig.controller.pools(&key("w1"), &Uid("1".to_owned()), claims).1;
    let none = pools(&[]);
    assert!(none.ports_fixed.is_empty() && none.subnets_taken.is_empty());
    assert!(pools(&[Claim::Port { name: "http".to_owned(), fixed: None }]).ports_fixed.contains(&10007));
    let subnet = pools(&[Claim::Subnet { network: "other".to_owned(), prefix: 26 }]);
    assert!(subnet.ports_fixed.is_empty() && !subnet.subnets_taken.is_empty());
    rig.end().await;
}

/// All objects of a namespace are on its network: each of very many asking for it anew is a matter of the square of the networks.
#[tokio::test(start_paused = true)]
async fn the_network_of_a_namespace_is_asked_for_once_and_anew_when_it_is_gone() {
    let rig = Rig::start(vec![workspace("w0", "{image: 'web:1'}")]);
    rig.until("readiness", |rig| rig.is_ready(&key("w0"))).await;
    let subnet = async || rig.controller.namespace_network("alice").await.unwrap().unwrap().subnet;
    let leases = async || rig.ledger.leases().await.unwrap();
    let (held, uid) = (subnet().await, Uid("namespace/alice".to_owned()));
    assert_eq!(leases().await.len(), 1);
    rig.ledger.grant(&naming::namespace_ref("alice"), &uid, &[], &[], &Pools::default()).await.unwrap();
    assert_eq!((subnet().await, leases().await.len()), (held.clone(), 0), "what is known is not asked for");
    rig.controller.lower_again(&key("w0"));
    assert_eq!((subnet().await, leases().await.len()), (held.clone(), 1));
    rig.ledger.grant(&naming::namespace_ref("alice"), &uid, &[], &[], &Pools::default()).await.unwrap();
    rig.controller.world().networks.clear();
    assert_eq!((subnet().await, leases().await.len()), (held.clone(), 1), "what is not there is asked for");
    // Gone with its last object, its addresses may be another's by then.
    rig.source.lose(&[key("w0")]);
    rig.until("the network to go", |rig| rig.engine.model().world.networks.is_empty()).await;
    rig.pass(5).await;
    assert_eq!(leases().await, []);
    let claim = Claim::Subnet { network: "other".to_owned(), prefix: 26 };
    let pools = Pools { network: held.clone(), ..Pools::default() };
    rig.ledger.grant(&key("w1"), &Uid("other".to_owned()), &[claim], &[], &pools).await.unwrap();
    assert_ne!(subnet().await, held);
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_is_the_work_of_one_object() {
    let (rig, keys) = all_ready(20).await;
    rig.engine.meddle(&keys[7], |c| c.state = State::Exited { code: 137 });
    let took = rig.until("the healing", |rig| rig.engine.model().states()[7].ends_with("running")).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    rig.pass(5).await;
    let calls = rig.engine.take_calls();
    assert!(calls.iter().all(|call| call.contains("w15") || call.contains(&keys[7].name)), "{calls:?}");
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_its_own_operations_tell_is_seen_by_the_look_that_follows_them() {
    let rig = Rig::start(vec![workspace("w0", "{image: 'web:1'}")]);
    rig.until("readiness", |rig| rig.is_ready(&key("w0"))).await;
    rig.pass(30).await;
    let calls = rig.engine.take_calls();
    let count = |verb: &str| calls.iter().filter(|call| call.starts_with(verb)).count();
    assert_eq!((count("list"), count("start "), count("look ")), (1, 1, 1), "{calls:?}");
    rig.end().await;
}

/// Found by the harness: `change-shared-volume` with a cut reply. The event that a volume was made may be lost too.
#[tokio::test(start_paused = true)]
async fn a_shared_volume_is_seen_without_an_event() {
    let rig = Rig::start(vec![workspace("w0", "{image: 'web:1', mounts: [{sharedVolume: models, path: /m}]}")]);
    rig.until("readiness", |rig| rig.is_ready(&key("w0"))).await;
    let calls = rig.engine.take_calls();
    assert_eq!(calls.iter().filter(|call| call.starts_with("create-volume")).count(), 1, "{calls:?}");
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_does_not_show_although_it_was_done_is_tried_less_and_less_often() {
    let (rig, keys) = all_ready(1).await;
    rig.engine.idle.store(true, Ordering::SeqCst);
    rig.engine.meddle(&keys[0], |c| c.state = State::Exited { code: 137 });
    rig.pass(600).await;
    let calls = rig.engine.take_calls();
    assert!(calls.len() < 500, "{} calls in ten minutes", calls.len());
    assert!(rig.condition(&keys[0], ConditionType::Ready).unwrap().message.contains("does not show"));
    rig.engine.idle.store(false, Ordering::SeqCst);
    rig.until("the start", |rig| rig.is_ready(&keys[0])).await;
    rig.end().await;
}

/// On Docker 28 the end of a container that is removed by force comes some time before its removal.
#[tokio::test(start_paused = true)]
async fn what_is_being_removed_is_made_anew_at_once_and_no_failure() {
    let (rig, keys) = all_ready(1).await;
    rig.engine.going.store(true, Ordering::SeqCst);
    rig.engine.meddle(&keys[0], |c| c.state = State::Exited { code: 137 });
    let took = rig.until("the healing", |rig| rig.states().iter().any(|state| state.ends_with("running"))).await;
    assert!(!rig.engine.going.load(Ordering::SeqCst) && took < Duration::from_secs(1), "{took:?}");
    let calls = rig.engine.take_calls();
    assert_eq!(calls.iter().filter(|call| call.starts_with("create")).count(), 1, "{calls:?}");
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_counts_even_for_what_is_due_for_another_reason() {
    let (rig, keys) = all_ready(2).await;
    rig.controller.queue.push(keys[1].clone(), Trigger::Spec);
    rig.engine.model().meddle("dm-ws-alice.w1", |c| c.state = State::Exited { code: 137 });
    rig.controller.changed(Change::Object(keys[1].clone())).await.unwrap();
    let took = rig.until("the healing", |rig| rig.states().iter().all(|state| state.ends_with("running"))).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_began_before_a_network_was_made_does_not_take_it_away() {
    let (rig, keys) = all_ready(1).await;
    let begun = rig.controller.begin_look();
    let mut listing = rig.engine.model().world.clone();
    listing.networks.clear();
    rig.controller.look(&keys[0], Look::Object).await.unwrap();
    rig.controller.take_over(listing, begun);
    rig.controller.queue.push(keys[0].clone(), Trigger::Resync);
    rig.pass(5).await;
    assert_eq!(rig.engine.take_calls(), [format!("look {}", keys[0])]);
    // A later one counts.
    let begun = rig.controller.begin_look();
    rig.controller.take_over(World::default(), begun);
    assert!(rig.controller.world().networks.values().collect::<Vec<&Network>>().is_empty());
    rig.end().await;
}

#[test]
fn of_the_networks_of_a_name_the_look_that_began_last_counts() {
    let seen = |networks: &[(&str, &str)]| -> BTreeMap<String, Network> {
        let network = |(id, name): &(&str, &str)| Network {
            id: (*id).to_owned(),
            name: (*name).to_owned(),
            owner: None,
            subnets: Vec::new(),
            driver: "bridge".to_owned(),
        };
        networks.iter().map(|pair| (pair.0.to_owned(), network(pair))).collect()
    };
    let mut looks = Looks::default();
    let mut world = World::default();
    // When each began, the names asked for, what was seen, and what is known then: ids.
    for (begun, named, found, known) in [
        (1, None, seen(&[("1", "a"), ("2", "b"), ("3", "c")]), "1 2 3"),
        (4, Some("a"), seen(&[("4", "a")]), "2 3 4"),
        // Earlier than that of its name, and later than that of the others.
        (2, Some("a"), seen(&[]), "2 3 4"),
        (3, Some("b"), seen(&[]), "3 4"),
        // Of all, and earlier than that of one name.
        (3, None, seen(&[("1", "a"), ("3", "c"), ("5", "d")]), "3 4 5"),
        (2, None, seen(&[]), "3 4 5"),
        (2, Some("d"), seen(&[]), "3 4 5"),
        (5, None, seen(&[("6", "a")]), "6"),
    ] {
        let named = named.map(|name: &str| [name.to_owned()].into());
        let networks = looks.take_networks(begun, Networks { named, seen: found }, &world);
        world.merge(&key("w0"), Glimpse { networks, ..Glimpse::default() });
        assert_eq!(world.networks.keys().map(String::as_str).collect::<Vec<_>>().join(" "), known, "{begun}");
    }
}

#[tokio::test(start_paused = true)]
async fn too_many_deletions_are_held_until_they_are_confirmed() {
    let (rig, keys) = all_ready(5).await;
    rig.source.lose(&keys[..4]);
    rig.until("the hold", |rig| rig.condition(&keys[0], ConditionType::PruneBlocked).is_some()).await;
    rig.pass(600).await;
    assert_eq!(rig.states().len(), 5);
    assert!(rig.engine.take_calls().iter().all(|call| call == "list"));
    let OnceOutcome::Unsettled { objects: unsettled, .. } = rig.controller.settled(Duration::from_secs(10)).await else { panic!("held is not settled") };
    assert_eq!(unsettled.len(), 4);
    // Its deletion waits, and nothing else does.
    rig.engine.meddle(&keys[0], |container| container.state = State::Exited { code: 137 });
    rig.until("its healing", |rig| rig.states().len() == 5 && rig.states().iter().all(|state| state.ends_with(" running"))).await;
    assert!(rig.condition(&keys[0], ConditionType::PruneBlocked).is_some());
    rig.ledger.set_setting(&prune_setting(rig::SOURCE), Some("now")).await.unwrap();
    rig.controller.nudge(None).await;
    rig.until("the deletion", |rig| rig.states() == ["dm-ws-alice.w4 running"]).await;
    rig.end().await;
}

/// A crash before the turns of what is held would leave a part of it, which is believed.
#[tokio::test(start_paused = true)]
async fn what_is_held_is_kept_at_once_whatever_its_turn_waits_for() {
    let (rig, keys) = all_ready(5).await;
    *rig.engine.hangs.lock().unwrap() = Some("w0");
    rig.engine.meddle(&keys[0], |container| container.state = State::Exited { code: 137 });
    rig.pass(2).await;
    rig.source.lose(&keys[..4]);
    rig.until("the hold", |rig| rig.condition(&keys[3], ConditionType::PruneBlocked).is_some()).await;
    let kept = rig.ledger.statuses().await.unwrap();
    let held = |key: &ObjectRef| kept[key].0["conditions"].as_array().unwrap().iter().any(|condition| condition["type"] == "PruneBlocked");
    assert_eq!(keys.iter().map(held).collect::<Vec<_>>(), [true, true, true, true, false]);
    drop(rig);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_takes_its_things_and_a_return_brings_them_back() {
    let (rig, keys) = all_ready(2).await;
    let document = workspace("w0", "{image: 'web:1'}");
    rig.source.lose(&keys[..1]);
    rig.until("the deletion", |rig| rig.states() == ["dm-ws-alice.w1 running"]).await;
    let uid = |rig: &Rig| rig.controller.store().objects[&keys[0]].admission.uid.clone();
    let before = uid(&rig);
    rig.source.say(SourceEvent::Apply(Box::new(document.clone())));
    rig.until("its return", |rig| rig.is_ready(&keys[0])).await;
    assert_eq!(uid(&rig), before);
    // After the end of its tombstone it is another.
    rig.source.lose(&keys[..1]);
    rig.until("its end", |rig| !rig.controller.store().objects.contains_key(&keys[0])).await;
    rig.source.say(SourceEvent::Apply(Box::new(document)));
    rig.until("another life", |rig| rig.is_ready(&keys[0])).await;
    assert_ne!(uid(&rig), before);
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn of_two_documents_with_one_name_the_first_counts_and_the_other_follows() {
    let first = workspace("w0", "{image: 'web:1'}");
    let second_of = |value: &str| workspace("w0", &format!("{{image: 'web:1', env: [{{name: A, value: {value}}}]}}"));
    let mut second = second_of("b");
    second.origin.path = "alice/other.yaml".to_owned();
    let rig = Rig::start(vec![first, second]);
    rig.until("the word of it", |rig| rig.condition(&key("w0"), ConditionType::DuplicateObject).is_some() && rig.is_ready(&key("w0"))).await;
    assert_eq!(rig.controller.generation(&key("w0")), Some(1));
    // It is told once, however often the second is changed, and kept.
    let mut edited = second_of("c");
    edited.origin.path = "alice/other.yaml".to_owned();
    rig.source.say(SourceEvent::Apply(Box::new(edited)));
    rig.pass(5).await;
    let told = |event: &&crate::state::Event| event.reason == EventReason::SourceInvalid && event.message.contains("other.yaml");
    let events = rig.ledger.events(Some(&key("w0")), 100).await.unwrap();
    assert_eq!(events.iter().filter(told).map(|event| event.count).collect::<Vec<_>>(), [1], "{events:?}");
    let first = rig.controller.store().objects[&key("w0")].item.as_ref().map(|item| item.origin.clone()).unwrap();
    rig.source.say(SourceEvent::Gone(vec![(key("w0"), first)]));
    let follows = |rig: &Rig| rig.controller.generation(&key("w0")) == Some(2) && rig.is_ready(&key("w0"));
    rig.until("the other", |rig| follows(rig) && rig.condition(&key("w0"), ConditionType::DuplicateObject).is_none()).await;
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_away_makes_everything_unknown_and_is_made_up_for() {
    let (rig, keys) = all_ready(2).await;
    rig.engine.away.store(true, Ordering::SeqCst);
    rig.engine.tell(Change::Lost("connection refused".to_owned()));
    rig.pass(25).await;
    assert!(rig.is_ready(&keys[0]), "not at once");
    rig.pass(10).await;
    let ready = rig.condition(&keys[0], ConditionType::Ready).unwrap();
    assert_eq!(ready.status, Truth::Unknown);
    assert!(ready.message.contains("doctor"), "{}", ready.message);
    rig.engine.model().meddle("dm-ws-alice.w1", |c| c.state = State::Exited { code: 137 });
    rig.engine.away.store(false, Ordering::SeqCst);
    rig.engine.tell(Change::Resync);
    rig.until("the healing", |rig| keys.iter().all(|key| rig.is_ready(key)) && rig.states().iter().all(|s| s.ends_with("running"))).await;
    assert!(rig.condition(&keys[0], ConditionType::EngineUnavailable).is_none());
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_port_that_cannot_be_bound_is_exchanged_three_times_at_most() {
    let spec = "{image: 'web:1', ports: [{name: http, container: 80, publish: Pool}]}";
    let rig = Rig::start(vec![]);
    let taken = |ports: std::ops::RangeInclusive<u16>| *rig.engine.taken.lock().unwrap() = ports.collect();
    taken(10_000..=10_009);
    rig.source.say(SourceEvent::Apply(Box::new(workspace("w0", spec))));
    rig.until("the failure", |rig| rig.condition(&key("w0"), ConditionType::Ready).is_some_and(|ready| ready.message.contains("free the port"))).await;
    let starts = |rig: &Rig| rig.engine.calls.lock().unwrap().iter().filter(|call| call.starts_with("start ")).count();
    assert_eq!(starts(&rig), 4);
    // Its own events do not bring it back sooner than its backoff.
    rig.pass(300).await;
    assert!((8..=14).contains(&starts(&rig)), "{}", starts(&rig));
    // Once those ports need not be left alone any more, another three are tried.
    let leases = rig.ledger.leases().await.unwrap();
    let tried = |rig: &Rig| rig.engine.calls.lock().unwrap().iter().filter(|call| call.starts_with("create dm-ws-alice.w0")).count();
    assert_eq!(tried(&rig), 4);
    rig.pass(660).await;
    assert_eq!(tried(&rig), 7);
    assert_ne!(rig.ledger.leases().await.unwrap(), leases);
    taken(0..=0);
    rig.until("the start", |rig| rig.is_ready(&key("w0"))).await;
    assert_eq!(rig.states(), ["dm-ws-alice.w0 running"]);
    let leased = rig.ledger.events(Some(&key("w0")), 100).await.unwrap().into_iter().filter(|event| event.reason == EventReason::PortLeased);
    assert!((4..=8).contains(&leased.count()), "one for each");
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_pull_wakes_all_who_wait_for_it() {
    let rig = Rig::start(vec![workspace("a", "{image: 'far:1'}"), workspace("b", "{image: 'far:1'}"), workspace("c", "{image: 'web:1'}")]);
    rig.until("the others", |rig| rig.is_ready(&key("c"))).await;
    rig.pass(3).await;
    rig.engine.finish_tasks();
    let took = rig.until("the start", |rig| rig.is_ready(&key("a")) && rig.is_ready(&key("b"))).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    let calls = rig.engine.take_calls();
    assert!(calls.iter().filter(|call| *call == "pull far:1").count() <= 2, "{calls:?}");
    let pulled = rig.ledger.events(Some(&key("a")), 100).await.unwrap().into_iter().filter(|event| event.reason == EventReason::Pulled).count();
    assert_eq!(pulled, 1);
    rig.end().await;
}

/// Found by the perturbation harness: `type-edited` with `lose-state@65`.
#[tokio::test(start_paused = true)]
async fn without_a_state_a_generation_goes_on_from_its_document_though_nothing_is_on_the_engine() {
    let text = "apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {name: shop}\nspec: {image: 'web:1'}\nstatus: {observedGeneration: 4}\n";
    let rig = Rig::start(rig::items("shop", text));
    rig.until("readiness", |rig| rig.is_ready(&key("shop"))).await;
    assert_eq!(rig.status(&key("shop")).unwrap().observed_generation, 4);
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_breaks_for_one_does_not_break_another() {
    let (documents, keys) = many(2);
    let rig = Rig::start(vec![]);
    *rig.engine.breaks.lock().unwrap() = Some("w0");
    documents.into_iter().for_each(|document| rig.source.say(SourceEvent::Apply(Box::new(document))));
    rig.until("the other", |rig| rig.is_ready(&keys[1])).await;
    rig.pass(20).await;
    *rig.engine.breaks.lock().unwrap() = None;
    rig.until("the other try", |rig| rig.is_ready(&keys[0])).await;
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_hangs_for_one_does_not_delay_another() {
    let (documents, keys) = many(10);
    let rig = Rig::start(vec![]);
    *rig.engine.hangs.lock().unwrap() = Some("w0");
    documents.into_iter().for_each(|document| rig.source.say(SourceEvent::Apply(Box::new(document))));
    let took = rig.until("the others", |rig| keys[1..].iter().all(|key| rig.is_ready(key))).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    // And what happens to another meanwhile is seen to at once.
    rig.engine.meddle(&keys[9], |c| c.state = State::Exited { code: 137 });
    let took = rig.until("the healing", |rig| rig.states().iter().filter(|state| state.ends_with(" running")).count() == 9).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(!rig.is_ready(&keys[0]));
    drop(rig);
}

#[tokio::test(start_paused = true)]
async fn without_permission_nothing_is_changed_and_with_it_again_all_is_made_up_for() {
    let (rig, keys) = all_ready(2).await;
    rig.permission.revoke();
    rig.engine.meddle(&keys[0], |c| c.state = State::Exited { code: 137 });
    rig.source.lose(&keys[1..]);
    rig.pass(300).await;
    assert!(rig.engine.take_calls().iter().all(|call| call == "list"));
    rig.permission.restore();
    rig.controller.resume().await.unwrap();
    rig.until("the healing", |rig| rig.states() == ["dm-ws-alice.w0 running"]).await;
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn full_passes_that_were_missed_are_not_made_up_for() {
    let (rig, _) = all_ready(1).await;
    *rig.engine.lists_in.lock().unwrap() = Duration::from_secs(150);
    rig.pass(900).await;
    *rig.engine.lists_in.lock().unwrap() = Duration::ZERO;
    rig.engine.take_calls();
    rig.pass(290).await;
    let lists = rig.engine.take_calls().iter().filter(|call| *call == "list").count();
    assert!((2..=5).contains(&lists), "{lists} lists in less than five minutes");
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_with_an_end_ends_when_all_is_as_declared() {
    let (documents, keys) = many(3);
    let rig = Rig::start(documents);
    assert_eq!(rig.controller.settled(Duration::from_secs(60)).await, OnceOutcome::Settled);
    assert!(keys.iter().all(|key| rig.is_ready(key)));
    rig.end().await;
    let rig = Rig::start(vec![workspace("a", "{image: 'far:1'}")]);
    let OnceOutcome::Unsettled { objects: unsettled, .. } = rig.controller.settled(Duration::from_secs(60)).await else { panic!("nothing was pulled") };
    assert!(unsettled[0].1.contains("far:1"), "{unsettled:?}");
    rig.end().await;
}
