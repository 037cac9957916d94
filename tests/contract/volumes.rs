//! Volumes: what has the name and is not the object's is never used and never removed.

use std::collections::{BTreeMap, HashMap};

use bollard::models::VolumeCreateRequest;
use dockmaster::desired::MountSource;
use dockmaster::planner::Operation;
use dockmaster::resource::Uid;
use dockmaster::runtime::Refusal;
use dockmaster::state::Consent;

use crate::fixture::{Fixture, is_transient, mount, refusal};

async fn by_hand(f: &Fixture, labels: &BTreeMap<String, String>, options: &[(&str, &str)]) {
    let options: HashMap<String, String> = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let labels = Some(labels.clone().into_iter().collect());
    let request = VolumeCreateRequest { name: Some(f.volume_name()), labels, driver_opts: Some(options), ..Default::default() };
    f.docker().create_volume(request).await.unwrap();
}

#[tokio::test]
async fn a_volume_is_made_once_and_removed_once() {
    let f = Fixture::new().await;
    f.twice(Operation::EnsureVolume { name: f.volume_name(), labels: f.volume_labels(&f.uid) }).await;
    let volume = f.world().await.volumes.remove(&f.volume_name()).unwrap();
    let owner = volume.owner.unwrap();
    assert_eq!((owner.object, owner.uid, owner.volume.as_str()), (f.object(), Some(f.uid.clone()), "cache"));
    f.twice(f.remove_volume()).await;
    assert!(!f.world().await.volumes.contains_key(&f.volume_name()));
}

#[tokio::test]
async fn what_another_made_under_the_name_is_a_conflict() {
    let f = Fixture::new().await;
    let other_life = f.volume_labels(&Uid(uuid::Uuid::now_v7().to_string()));
    let redirected = [("type", "none"), ("o", "bind"), ("device", "/")];
    let cases = [
        (BTreeMap::new(), &[][..], "a stranger's"),
        (other_life, &[], "of an earlier life"),
        (f.volume_labels(&f.uid), &redirected[..], "ours by its labels, and the host's root by its options"),
    ];
    for (labels, options, what) in cases {
        by_hand(&f, &labels, options).await;
        assert_eq!(refusal(f.ensure_volume().await), Refusal::VolumeConflict, "{what}");
        assert_eq!(refusal(f.execute(f.remove_volume()).await), Refusal::NotOurs, "{what}");
        f.docker().remove_volume(&f.volume_name(), None::<bollard::query_parameters::RemoveVolumeOptions>).await.expect(what);
    }
}

#[tokio::test]
async fn a_volume_in_use_is_for_later_and_nothing_goes_without_consent() {
    let f = Fixture::new().await;
    f.ensure_volume().await.unwrap();
    let mut spec = f.spec();
    spec.mounts = vec![mount(MountSource::Volume(f.volume_name()), "/cache")];
    f.create(spec).await;
    assert!(is_transient(&f.execute(f.remove_volume()).await));
    let without = Operation::RemoveVolume { name: f.volume_name(), uid: f.uid.clone(), consent: Consent::None };
    assert_eq!(refusal(f.execute(without).await), Refusal::Other);
}
