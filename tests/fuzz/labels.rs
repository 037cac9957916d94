//! Labels: the first line is a Docker name, the others are `key=value`. Whatever they say, they are refused, or say what the names and labels
//! that are computed from it say again.

use std::collections::BTreeMap;

use dockmaster::desired::naming;
use dockmaster::resource::{Kind, is_dns_label};
use dockmaster::state::Admission;

use crate::run::{Outcome, outcome};

const INSTALLATION: &str = "dm";

pub fn check(input: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.lines();
    let name = lines.next().unwrap_or_default();
    let labels: BTreeMap<String, String> = lines.filter_map(|line| line.split_once('=')).map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let holds = |wanted: &BTreeMap<String, String>| wanted.iter().all(|(key, value)| labels.get(key) == Some(value));

    let identity = naming::identity_from_labels(INSTALLATION, name, &labels);
    if let Some(identity) = &identity {
        let service = identity.service.as_deref();
        assert_eq!(naming::in_slot(&naming::container_name(INSTALLATION, &identity.object, service), identity.slot), name);
        assert!(identity.uid.is_well_formed() && is_dns_label(&identity.object.name) && is_dns_label(identity.object.ns()));
        assert!(service.is_none_or(is_dns_label) && identity.object.kind != Kind::Namespace);
        let admission = Admission { uid: identity.uid.clone(), generation: identity.generation, created: identity.created };
        let mut again = naming::container_labels(INSTALLATION, &identity.object, &admission, identity.role, service);
        again.insert(naming::SPEC_HASH.to_owned(), identity.hash.clone());
        assert_eq!(naming::identity_from_labels(INSTALLATION, name, &again).as_ref(), Some(identity));
        assert!(holds(&naming::object_labels(INSTALLATION, &identity.object, &identity.uid)));
    }
    let network = naming::network_owner(INSTALLATION, name, &labels);
    if let Some(network) = &network {
        let (again, wanted) = match &network.uid {
            Some(uid) => (naming::private_network(INSTALLATION, &network.object), naming::object_labels(INSTALLATION, &network.object, uid)),
            None => (naming::namespace_network(INSTALLATION, &network.object.name), naming::namespace_labels(INSTALLATION, &network.object.name)),
        };
        assert_eq!(again, name);
        assert!(holds(&wanted));
        assert_eq!(naming::network_owner(INSTALLATION, name, &wanted).as_ref(), Some(network));
    }
    let volume = naming::volume_owner(INSTALLATION, name, &labels);
    if let Some(volume) = &volume {
        let service = labels.get(naming::SERVICE).map(String::as_str);
        let (again, wanted) = match &volume.uid {
            Some(_) if volume.expired_marker => (naming::expired_marker(INSTALLATION, &volume.object), labels.clone()),
            Some(uid) => {
                let again = match service {
                    Some(service) => naming::service_volume_name(INSTALLATION, &volume.object, service),
                    None => naming::volume_name(INSTALLATION, &volume.object, &volume.volume),
                };
                (again, naming::volume_labels(INSTALLATION, &volume.object, uid, &volume.volume, service))
            }
            None => {
                let namespace = &volume.object.name;
                (naming::shared_volume_name(INSTALLATION, namespace, &volume.volume), naming::shared_volume_labels(INSTALLATION, namespace, &volume.volume))
            }
        };
        assert_eq!(again, name);
        assert!(holds(&wanted));
        assert_eq!(naming::volume_owner(INSTALLATION, name, &wanted).as_ref(), Some(volume));
    }
    // One thing has one owner, whatever it is.
    let owners = [identity.as_ref().map(|i| &i.object), volume.as_ref().map(|v| &v.object)];
    assert!(owners.iter().flatten().count() < 2, "{name} is both a container and a volume");

    let grants = naming::grants_from_labels(&labels);
    let ports: BTreeMap<String, u16> = grants
        .iter()
        .map(|grant| match grant {
            dockmaster::state::Grant::Port { name, host } => (name.clone(), *host),
            other => panic!("a label cannot lease {other:?}"),
        })
        .collect();
    let again = BTreeMap::from([(naming::PORTS.to_owned(), naming::ports_label(&ports))]);
    assert_eq!(naming::grants_from_labels(&again), grants);
    assert!(ports.values().all(|host| *host != 0), "port 0 cannot be leased");

    let kind = identity.map(|i| (i.object.kind, i.role, i.slot as u8, i.service.is_some()));
    outcome((kind, network.map(|n| n.object.kind), volume.map(|v| (v.object.kind, v.expired_marker)), ports.len(), labels.len()))
}
