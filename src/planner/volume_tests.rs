//! Volumes over a small engine: remembered where they hold data, missed when they are gone, and never another's.

use std::collections::BTreeSet;

use serde_json::json;

use super::model::Model;
use super::tests::{intent, model, uid};
use super::workload_tests::acts;
use crate::desired::{Intent, naming};
use crate::observed::Volume;
use crate::resource::{ConditionType, Reason};

const OWN: &str = "dm-vol-alice.shop.data";
const SHARED: &str = "dm-nsvol-alice.models";

fn want(generation: u64) -> Intent {
    intent(json!({"image": "web:1", "mounts": [{"volume": "data", "path": "/data"}, {"sharedVolume": "models", "path": "/models"}]}), generation)
}

fn settled() -> Model {
    let mut m = model();
    m.settle(&want(1));
    m
}

#[test]
fn its_own_volume_is_remembered_once_and_a_shared_one_never() {
    let m = settled();
    assert_eq!(m.facts.volumes_made, BTreeSet::from([OWN.to_owned()]));
    assert_eq!(m.log.iter().filter(|line| *line == "record volume-made").count(), 1);
    assert!(m.world.volumes.contains_key(SHARED));
}

#[test]
fn lost_data_is_told_until_the_spec_changes() {
    let mut m = settled();
    m.world.volumes.remove(OWN);
    let told = |plan: &super::Plan| plan.verdict.conditions.iter().any(|c| c.type_ == ConditionType::DataLost && c.message.contains(OWN));
    assert!(told(&m.settle(&want(1))) && m.world.volumes.contains_key(OWN));
    assert!(told(&m.plan(&want(1))));
    assert!(!told(&m.plan(&want(2))));
    // One that is shared is made anew without a word.
    let mut m = settled();
    m.world.volumes.remove(SHARED);
    assert!(m.settle(&want(1)).verdict.conditions.is_empty() && m.world.volumes.contains_key(SHARED));
}

#[test]
fn a_volume_that_is_not_plainly_its_own_is_not_used() {
    let meddled = |name: &str, change: &dyn Fn(&mut Volume)| {
        let mut m = settled();
        let mut volume = m.world.volumes.remove(name).unwrap();
        change(&mut volume);
        m.world.volumes.insert(name.to_owned(), volume);
        let plan = m.plan(&want(1));
        let refused = plan.verdict.reason == Reason::VolumeConflict;
        assert!(acts(&plan).is_empty() && (!refused || plan.verdict.message.contains(name)), "{plan:?}");
        refused
    };
    for name in [OWN, SHARED] {
        assert!(!meddled(name, &|_| {}));
        assert!(meddled(name, &|volume| volume.driver = "nfs".to_owned()));
        assert!(meddled(name, &|volume| {
            volume.options.insert("device".to_owned(), "/elsewhere".to_owned());
        }));
        assert!(meddled(name, &|volume| volume.owner = None));
    }
    assert!(meddled(OWN, &|volume| volume.owner.as_mut().unwrap().uid.as_mut().unwrap().0.push('9')), "that of another life");
    assert!(meddled(SHARED, &|volume| volume.owner.as_mut().unwrap().uid = Some(uid())), "an object's own");
    assert!(meddled(SHARED, &|volume| volume.owner.as_mut().unwrap().object = naming::namespace_ref("bob")), "another namespace's");
}
