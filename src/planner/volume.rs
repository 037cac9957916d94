//! Volumes: made when they are missing, never mounted when they are another's, and missed when they held data.
//!
//! **Invariant:** a volume over whose name somebody else's volume stands is never used.

use super::builder::Builder;
use super::{Action, Cause, Operation};
use crate::desired::{VolumeScope, VolumeWant};
use crate::observed::Volume;
use crate::resource::ConditionType;
use crate::state::Fact;

/// Plans the volumes that an object wants; false when one cannot be had.
pub fn ensure(b: &mut Builder<'_>, wants: &[VolumeWant]) -> bool {
    let mut possible = true;
    for want in wants {
        let found = b.input.world.volumes.get(&want.name);
        match (want.scope, found) {
            (VolumeScope::External, Some(_)) => {}
            (VolumeScope::External, None) => {
                b.report(ConditionType::VolumeConflict, format!("volume {} does not exist; create it, or take the mount out of the spec", want.name));
                possible = false;
            }
            (VolumeScope::Private | VolumeScope::Namespace, Some(volume)) if is_the_objects(b, want, volume) => {
                if want.scope == VolumeScope::Private && !b.input.facts.volumes_made.contains(&want.name) {
                    b.push(Operation::Record(Fact::VolumeMade(want.name.clone())), Action::None, Cause::new("volume", "unknown", &want.name), Vec::new());
                }
            }
            (VolumeScope::Private | VolumeScope::Namespace, Some(_)) => {
                b.report(
                    ConditionType::VolumeConflict,
                    format!("volume {} exists and is not this object's; rename one of them, or remove it if its data is not needed", want.name),
                );
                possible = false;
            }
            (VolumeScope::Private | VolumeScope::Namespace, None) => make(b, want),
        }
    }
    for (name, generation) in &b.input.facts.data_lost {
        if *generation == b.desired.generation {
            b.report(ConditionType::DataLost, format!("volume {name} was removed by somebody and was made anew, empty; restore its data from a backup"));
        }
    }
    possible
}

fn make(b: &mut Builder<'_>, want: &VolumeWant) {
    let lost = b.input.facts.volumes_made.contains(&want.name);
    if lost {
        let fact = Fact::VolumeLost { name: want.name.clone(), generation: b.desired.generation };
        b.push(Operation::Record(fact), Action::None, Cause::new(format!("volumes.{}", want.volume), "present", "removed by somebody"), Vec::new());
    }
    let operation = Operation::EnsureVolume { name: want.name.clone(), labels: want.labels.clone() };
    b.push_made(&want.name, operation, Cause::new(format!("volumes.{}", want.volume), if lost { "removed" } else { "absent" }, &want.name));
}

/// Ours by its labels: this life of this object, or the namespace for a shared one; a plain local volume without options.
fn is_the_objects(b: &Builder<'_>, want: &VolumeWant, volume: &Volume) -> bool {
    let plain = volume.driver == "local" && volume.options.is_empty();
    plain
        && volume.owner.as_ref().is_some_and(|owner| match want.scope {
            VolumeScope::Private => owner.uid.as_ref() == Some(&b.desired.uid),
            VolumeScope::Namespace => owner.uid.is_none() && owner.object.name == b.input.object.ns(),
            VolumeScope::External => false,
        })
}
