//! Names and labels of what is ours in Docker, computed from references, and read back.
//!
//! Names cannot collide: namespaces, names, services and volumes are DNS labels, which hold neither a dot nor an underscore, so a
//! dot joins them and an underscore starts a slot. Docker allows `[a-zA-Z0-9][a-zA-Z0-9_.-]+` and, because the local driver keeps a volume
//! in a directory of its name, 255 bytes; the longest name here has 217 (an installation of 16, three labels of 63).
//!
//! **Invariant:** a container, network or volume is ours when its labels carry our installation *and* its name is the one computed from
//! them. An image can set labels, but never a name.

use std::collections::{BTreeMap, BTreeSet};

use crate::desired::Role;
use crate::observed::{Identity, NetworkOwner, Slot, VolumeOwner};
use crate::resource::{Kind, ObjectRef, Uid, is_dns_label};
use crate::state::{Admission, Grant};

/// The prefix of all labels of ours; users may not set labels under it.
pub const LABEL_PREFIX: &str = "dockmaster.";
/// Which operator owns it.
pub const INSTALLATION: &str = "dockmaster.installation";
/// `workspace`, `preview` or `namespace`.
pub const KIND: &str = "dockmaster.kind";
/// The object's namespace; absent on what a namespace shares.
pub const NAMESPACE: &str = "dockmaster.namespace";
/// The object's name; on what a namespace shares, the namespace.
pub const NAME: &str = "dockmaster.name";
/// Which life of the object.
pub const UID: &str = "dockmaster.uid";
/// When the object was admitted, RFC 3339.
pub const CREATED: &str = "dockmaster.created";
/// The generation of the object at the creation of the container.
pub const GENERATION: &str = "dockmaster.generation";
/// `main`, `service` or `helper`.
pub const ROLE: &str = "dockmaster.role";
/// The service's name.
pub const SERVICE: &str = "dockmaster.service";
/// `v1:<hex>` over what is fixed at creation.
pub const SPEC_HASH: &str = "dockmaster.spec-hash";
/// The leases of ports, JSON: `{"http":10007}`.
pub const PORTS: &str = "dockmaster.ports";
/// A preview's hash.
pub const HASH: &str = "dockmaster.hash";
/// When a preview expired or was to expire at the creation of the container, RFC 3339.
pub const EXPIRES: &str = "dockmaster.expires";
/// The name of a volume in the spec; of a service's volume, the service.
pub const VOLUME: &str = "dockmaster.volume";
/// On the empty volume that keeps the tombstone of an expired preview: when it expired, RFC 3339.
pub const EXPIRED: &str = "dockmaster.expired";
/// The uid of the workspace that a copy helper keeps still.
pub const SOURCE: &str = "dockmaster.source";

/// Whether the text can be the id of an installation: 1 to 16 lower-case letters and digits.
pub fn is_installation_id(text: &str) -> bool {
    (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// `dm-ws-alice.shop`, `dm-pv-alice.shop`, and `dm-ws-alice.shop.db` for a service.
pub fn container_name(installation: &str, object: &ObjectRef, service: Option<&str>) -> String {
    let main = format!("{installation}-{}-{}.{}", object.kind.short(), object.ns(), object.name);
    match service {
        Some(service) => format!("{main}.{service}"),
        None => main,
    }
}

/// The name of a container in another slot: `dm-ws-alice.shop_next`.
pub fn in_slot(name: &str, slot: Slot) -> String {
    format!("{name}{}", suffix(slot))
}

/// The final name and the slot of a container's name.
pub fn split_slot(name: &str) -> (&str, Slot) {
    for slot in [Slot::Next, Slot::Copy, Slot::Delta] {
        if let Some(base) = name.strip_suffix(suffix(slot)) {
            return (base, slot);
        }
    }
    (name, Slot::Current)
}

fn suffix(slot: Slot) -> &'static str {
    match slot {
        Slot::Current => "",
        Slot::Next => "_next",
        Slot::Copy => "_copy",
        Slot::Delta => "_delta",
    }
}

/// The container that the one operator of an installation holds.
pub fn lock_container(installation: &str) -> String {
    format!("{installation}-lock")
}

/// The network that the objects of a namespace share: `dm-ns-alice`.
pub fn namespace_network(installation: &str, namespace: &str) -> String {
    format!("{installation}-ns-{namespace}")
}

/// The names of all networks that an object can have.
pub fn networks_of(installation: &str, object: &ObjectRef) -> BTreeSet<String> {
    match object.kind {
        Kind::Namespace => [namespace_network(installation, &object.name)].into(),
        Kind::Workspace | Kind::Preview | Kind::WorkspaceType | Kind::Tenant => {
            [namespace_network(installation, object.ns()), private_network(installation, object)].into()
        }
    }
}

/// The network of an object with services: the name of its main container.
pub fn private_network(installation: &str, object: &ObjectRef) -> String {
    container_name(installation, object, None)
}

/// An object's own volume: `dm-vol-alice.shop.cache`, `dm-pvol-alice.shop.cache` for the copy of a preview.
pub fn volume_name(installation: &str, object: &ObjectRef, volume: &str) -> String {
    format!("{installation}-{}vol-{}.{}.{volume}", preview_mark(object), object.ns(), object.name)
}

/// A service's volume: `dm-svc-alice.shop.db`, `dm-psvc-alice.shop.db` for the copy of a preview.
pub fn service_volume_name(installation: &str, object: &ObjectRef, service: &str) -> String {
    format!("{installation}-{}svc-{}.{}.{service}", preview_mark(object), object.ns(), object.name)
}

fn preview_mark(object: &ObjectRef) -> &'static str {
    if object.kind == Kind::Preview { "p" } else { "" }
}

/// A volume that a namespace shares: `dm-nsvol-alice.models`.
pub fn shared_volume_name(installation: &str, namespace: &str, volume: &str) -> String {
    format!("{installation}-nsvol-{namespace}.{volume}")
}

/// The empty volume that keeps the tombstone of an expired preview through a loss of state: `dm-pv-alice.shop.expired`.
pub fn expired_marker(installation: &str, object: &ObjectRef) -> String {
    format!("{}.expired", container_name(installation, object, None))
}

/// The key of what the objects of a namespace share.
pub fn namespace_ref(namespace: &str) -> ObjectRef {
    ObjectRef::new(Kind::Namespace, "", namespace)
}

/// The labels that say whose something is: of an object, with its uid.
pub fn object_labels(installation: &str, object: &ObjectRef, uid: &Uid) -> BTreeMap<String, String> {
    let mut labels = owner_labels(installation, object);
    labels.insert(UID.to_owned(), uid.0.clone());
    labels
}

/// The labels that say whose something is: of a namespace, which has no uid.
pub fn namespace_labels(installation: &str, namespace: &str) -> BTreeMap<String, String> {
    owner_labels(installation, &namespace_ref(namespace))
}

fn owner_labels(installation: &str, object: &ObjectRef) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        (INSTALLATION.to_owned(), installation.to_owned()),
        (KIND.to_owned(), object.kind.singular().to_owned()),
        (NAME.to_owned(), object.name.clone()),
    ]);
    if let Some(namespace) = &object.namespace {
        labels.insert(NAMESPACE.to_owned(), namespace.clone());
    }
    labels
}

/// The identity labels of a container; `.spec-hash`, `.ports` and a preview's own come on top where they apply.
pub fn container_labels(installation: &str, object: &ObjectRef, admission: &Admission, role: Role, service: Option<&str>) -> BTreeMap<String, String> {
    let mut labels = object_labels(installation, object, &admission.uid);
    labels.insert(CREATED.to_owned(), admission.created.to_string());
    labels.insert(GENERATION.to_owned(), admission.generation.to_string());
    labels.insert(ROLE.to_owned(), role.as_str().to_owned());
    if let Some(service) = service {
        labels.insert(SERVICE.to_owned(), service.to_owned());
    }
    labels
}

/// The labels of an object's own volume; for a service's volume with the service.
pub fn volume_labels(installation: &str, object: &ObjectRef, uid: &Uid, volume: &str, service: Option<&str>) -> BTreeMap<String, String> {
    let mut labels = object_labels(installation, object, uid);
    labels.insert(VOLUME.to_owned(), volume.to_owned());
    if let Some(service) = service {
        labels.insert(SERVICE.to_owned(), service.to_owned());
    }
    labels
}

/// The labels of a volume that a namespace shares.
pub fn shared_volume_labels(installation: &str, namespace: &str, volume: &str) -> BTreeMap<String, String> {
    let mut labels = namespace_labels(installation, namespace);
    labels.insert(VOLUME.to_owned(), volume.to_owned());
    labels
}

/// The labels of the volume that keeps the tombstone of a preview that expired then.
pub fn expired_marker_labels(installation: &str, object: &ObjectRef, uid: &Uid, expired: jiff::Timestamp) -> BTreeMap<String, String> {
    let mut labels = object_labels(installation, object, uid);
    labels.insert(EXPIRED.to_owned(), expired.to_string());
    labels
}

/// Whose a container is: its labels agree with each other and with its name. `None`: not ours, whatever it says.
pub fn identity_from_labels(installation: &str, docker_name: &str, labels: &BTreeMap<String, String>) -> Option<Identity> {
    let (base, slot) = split_slot(docker_name);
    let identity = coherent(installation, slot, labels)?;
    (container_name(installation, &identity.object, identity.service.as_deref()) == base).then_some(identity)
}

/// Whose a container is that is known to be ours and has another name by now.
pub fn identity_of_renamed(installation: &str, labels: &BTreeMap<String, String>) -> Option<Identity> {
    coherent(installation, Slot::Current, labels)
}

/// What the labels say, when they agree with each other.
fn coherent(installation: &str, slot: Slot, labels: &BTreeMap<String, String>) -> Option<Identity> {
    let object = owner(installation, labels)?;
    let uid = uid(labels)?;
    let role = [Role::Main, Role::Service, Role::Helper].into_iter().find(|role| labels.get(ROLE).is_some_and(|text| text == role.as_str()))?;
    let service = labels.get(SERVICE).cloned();
    let coherent = match role {
        Role::Main => service.is_none() && matches!(slot, Slot::Current | Slot::Next),
        Role::Service => service.as_deref().is_some_and(is_dns_label) && matches!(slot, Slot::Current | Slot::Next),
        Role::Helper => service.is_none() && matches!(slot, Slot::Copy | Slot::Delta),
    };
    if !coherent || object.kind == Kind::Namespace {
        return None;
    }
    Some(Identity {
        object,
        uid,
        role,
        service,
        slot,
        hash: labels.get(SPEC_HASH).cloned().unwrap_or_default(),
        generation: labels.get(GENERATION)?.parse().ok()?,
        created: labels.get(CREATED)?.parse().ok()?,
    })
}

/// Whose a network is.
pub fn network_owner(installation: &str, docker_name: &str, labels: &BTreeMap<String, String>) -> Option<NetworkOwner> {
    let object = owner(installation, labels)?;
    let (name, uid) = match object.kind {
        Kind::Namespace => (namespace_network(installation, &object.name), None),
        Kind::Workspace | Kind::Preview | Kind::WorkspaceType | Kind::Tenant => (private_network(installation, &object), Some(uid(labels)?)),
    };
    (name == docker_name).then_some(NetworkOwner { object, uid })
}

/// Whose a volume is.
pub fn volume_owner(installation: &str, docker_name: &str, labels: &BTreeMap<String, String>) -> Option<VolumeOwner> {
    let object = owner(installation, labels)?;
    if labels.contains_key(EXPIRED) {
        let ours = object.kind == Kind::Preview && docker_name == expired_marker(installation, &object);
        return ours.then_some(VolumeOwner { uid: Some(uid(labels)?), object, volume: String::new(), expired_marker: true });
    }
    let volume = labels.get(VOLUME)?.clone();
    let (name, uid) = match object.kind {
        Kind::Namespace => (shared_volume_name(installation, &object.name, &volume), None),
        Kind::Workspace | Kind::Preview | Kind::WorkspaceType | Kind::Tenant => {
            let name = match labels.get(SERVICE) {
                Some(service) => service_volume_name(installation, &object, service),
                None => volume_name(installation, &object, &volume),
            };
            (name, Some(uid(labels)?))
        }
    };
    (is_dns_label(&volume) && name == docker_name).then_some(VolumeOwner { object, uid, volume, expired_marker: false })
}

/// The object that labels speak of, when they are of this installation and well-formed.
fn owner(installation: &str, labels: &BTreeMap<String, String>) -> Option<ObjectRef> {
    if labels.get(INSTALLATION)? != installation {
        return None;
    }
    let kind = [Kind::Workspace, Kind::Preview, Kind::Namespace].into_iter().find(|kind| labels.get(KIND).is_some_and(|text| text == kind.singular()))?;
    let name = labels.get(NAME).filter(|text| is_dns_label(text))?;
    let namespace = labels.get(NAMESPACE).map(String::as_str);
    if kind.is_cluster() != namespace.is_none() || namespace.is_some_and(|text| !is_dns_label(text)) {
        return None;
    }
    Some(ObjectRef::new(kind, namespace.unwrap_or(""), name))
}

fn uid(labels: &BTreeMap<String, String>) -> Option<Uid> {
    labels.get(UID).map(|text| Uid(text.clone())).filter(Uid::is_well_formed)
}

/// The value of the label `.ports`.
pub fn ports_label(ports: &BTreeMap<String, u16>) -> String {
    serde_json::json!(ports).to_string()
}

/// The leases that a container's labels tell of; none where there is no label or it cannot be read.
pub fn grants_from_labels(labels: &BTreeMap<String, String>) -> Vec<Grant> {
    let ports: BTreeMap<String, u16> = labels.get(PORTS).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    ports.into_iter().map(|(name, host)| Grant::Port { name, host }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UID_TEXT: &str = "01936f2e-7b7c-7000-8000-000000000001";

    fn admission() -> Admission {
        Admission { uid: Uid(UID_TEXT.to_owned()), generation: 3, created: "2026-01-02T03:04:05Z".parse().unwrap() }
    }

    fn shop(kind: Kind) -> ObjectRef {
        ObjectRef::new(kind, "alice", "shop")
    }

    #[test]
    fn names_are_predictable() {
        let (ws, pv) = (shop(Kind::Workspace), shop(Kind::Preview));
        assert_eq!(container_name("dm", &ws, None), "dm-ws-alice.shop");
        assert_eq!(container_name("dm", &ws, Some("db")), "dm-ws-alice.shop.db");
        assert_eq!(container_name("dm", &pv, None), "dm-pv-alice.shop");
        assert_eq!(in_slot("dm-ws-alice.shop", Slot::Next), "dm-ws-alice.shop_next");
        assert_eq!(in_slot("dm-pv-alice.shop", Slot::Copy), "dm-pv-alice.shop_copy");
        assert_eq!(in_slot("dm-pv-alice.shop", Slot::Delta), "dm-pv-alice.shop_delta");
        assert_eq!(namespace_network("dm", "alice"), "dm-ns-alice");
        assert_eq!(private_network("dm", &pv), "dm-pv-alice.shop");
        assert_eq!(volume_name("dm", &ws, "cache"), "dm-vol-alice.shop.cache");
        assert_eq!(volume_name("dm", &pv, "cache"), "dm-pvol-alice.shop.cache");
        assert_eq!(service_volume_name("dm", &ws, "db"), "dm-svc-alice.shop.db");
        assert_eq!(service_volume_name("dm", &pv, "db"), "dm-psvc-alice.shop.db");
        assert_eq!(shared_volume_name("dm", "alice", "models"), "dm-nsvol-alice.models");
        assert_eq!(expired_marker("dm", &pv), "dm-pv-alice.shop.expired");
        assert_eq!(lock_container("dm"), "dm-lock");
    }

    #[test]
    fn installation_ids_are_short_and_plain() {
        assert!(["a", "dm", "0123456789abcdef"].into_iter().all(is_installation_id));
        assert!(!["", "Dm", "d-m", "0123456789abcdefg", "d.m", "ä"].into_iter().any(is_installation_id));
    }

    #[test]
    fn the_longest_name_fits_into_a_directory_name() {
        let long = "x".repeat(63);
        let object = ObjectRef::new(Kind::Preview, &long, &long);
        let inst = "i".repeat(16);
        for name in [
            in_slot(&container_name(&inst, &object, Some(&long)), Slot::Delta),
            volume_name(&inst, &object, &long),
            service_volume_name(&inst, &object, &long),
            expired_marker(&inst, &object),
        ] {
            assert!(name.len() <= 217, "{name}");
        }
    }

    #[test]
    fn an_identity_needs_agreeing_labels_and_the_computed_name() {
        let object = shop(Kind::Workspace);
        let labels = container_labels("dm", &object, &admission(), Role::Main, None);
        assert!(identity_from_labels("dm", "dm-ws-alice.shop", &labels).is_some());
        for name in
            ["web", "dm-ws-alice.shop2", "dm-pv-alice.shop", "dm-ws-alice.shop.db", "dm-ws-alice.shop_copy", "x-ws-alice.shop", "dm-ws-alice.shop_next_next"]
        {
            assert_eq!(identity_from_labels("dm", name, &labels), None, "{name}");
        }
        assert_eq!(identity_from_labels("other", "dm-ws-alice.shop", &labels), None);
        for (key, value) in [
            (KIND, "preview"),
            (KIND, "tenant"),
            (NAME, "Shop"),
            (NAMESPACE, "bob"),
            (UID, "6ba7b810-9dad-41d1-80b4-00c04fd430c8"),
            (UID, "x"),
            (ROLE, "boss"),
            (ROLE, "service"),
            (ROLE, "helper"),
            (SERVICE, "db"),
            (GENERATION, "many"),
            (CREATED, "yesterday"),
        ] {
            let mut changed = labels.clone();
            changed.insert(key.to_owned(), value.to_owned());
            assert_eq!(identity_from_labels("dm", "dm-ws-alice.shop", &changed), None, "{key}={value}");
        }
        let mut future = labels;
        future.insert("dockmaster.colour".to_owned(), "blue".to_owned());
        assert!(identity_from_labels("dm", "dm-ws-alice.shop", &future).is_some(), "labels of later versions are ignored");
    }

    #[test]
    fn an_expired_marker_is_no_data_volume() {
        let object = shop(Kind::Preview);
        let labels = expired_marker_labels("dm", &object, &admission().uid, admission().created);
        let owner = volume_owner("dm", "dm-pv-alice.shop.expired", &labels).unwrap();
        assert!(owner.expired_marker && owner.object == object && owner.uid == Some(admission().uid));
        assert_eq!(volume_owner("dm", "dm-pvol-alice.shop.cache", &labels), None);
    }

    #[test]
    fn unreadable_leases_are_none() {
        let labels = BTreeMap::from([(PORTS.to_owned(), "[1,2".to_owned())]);
        assert_eq!(grants_from_labels(&labels), []);
        assert_eq!(grants_from_labels(&BTreeMap::new()), []);
    }

    fn label() -> impl Strategy<Value = String> {
        "[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?"
    }

    proptest! {
        #[test]
        fn containers_read_back(inst in "[a-z0-9]{1,16}", preview: bool, ns in label(), name in label(), service in proptest::option::of(label()), next: bool) {
            let object = ObjectRef::new(if preview { Kind::Preview } else { Kind::Workspace }, &ns, &name);
            let role = if service.is_some() { Role::Service } else { Role::Main };
            let slot = if next { Slot::Next } else { Slot::Current };
            let labels = container_labels(&inst, &object, &admission(), role, service.as_deref());
            let docker = in_slot(&container_name(&inst, &object, service.as_deref()), slot);
            let expected = Identity { object, uid: admission().uid, role, service, slot, hash: String::new(), generation: 3, created: admission().created };
            prop_assert_eq!(identity_from_labels(&inst, &docker, &labels), Some(expected));
        }

        #[test]
        fn helpers_read_back(ns in label(), name in label(), delta: bool) {
            let object = ObjectRef::new(Kind::Preview, &ns, &name);
            let slot = if delta { Slot::Delta } else { Slot::Copy };
            let labels = container_labels("dm", &object, &admission(), Role::Helper, None);
            let identity = identity_from_labels("dm", &in_slot(&container_name("dm", &object, None), slot), &labels);
            prop_assert_eq!(identity.map(|i| (i.object, i.slot, i.role)), Some((object, slot, Role::Helper)));
        }

        #[test]
        fn volumes_and_networks_read_back(preview: bool, ns in label(), name in label(), volume in label()) {
            let object = ObjectRef::new(if preview { Kind::Preview } else { Kind::Workspace }, &ns, &name);
            let uid = admission().uid;
            let own = VolumeOwner { object: object.clone(), uid: Some(uid.clone()), volume: volume.clone(), expired_marker: false };
            let labels = volume_labels("dm", &object, &uid, &volume, None);
            prop_assert_eq!(volume_owner("dm", &volume_name("dm", &object, &volume), &labels), Some(own.clone()));
            let labels = volume_labels("dm", &object, &uid, &volume, Some(&volume));
            prop_assert_eq!(volume_owner("dm", &service_volume_name("dm", &object, &volume), &labels), Some(own));
            let shared = volume_owner("dm", &shared_volume_name("dm", &ns, &volume), &shared_volume_labels("dm", &ns, &volume));
            prop_assert_eq!(shared.map(|o| (o.object, o.uid)), Some((namespace_ref(&ns), None)));

            let network = network_owner("dm", &private_network("dm", &object), &object_labels("dm", &object, &uid));
            prop_assert_eq!(network, Some(NetworkOwner { object, uid: Some(uid) }));
            let network = network_owner("dm", &namespace_network("dm", &ns), &namespace_labels("dm", &ns));
            prop_assert_eq!(network, Some(NetworkOwner { object: namespace_ref(&ns), uid: None }));
        }

        #[test]
        fn leases_read_back(ports in proptest::collection::btree_map(label(), 1u16.., 0..4)) {
            let labels = BTreeMap::from([(PORTS.to_owned(), ports_label(&ports))]);
            let expected: Vec<Grant> = ports.into_iter().map(|(name, host)| Grant::Port { name, host }).collect();
            prop_assert_eq!(grants_from_labels(&labels), expected);
        }

        #[test]
        fn no_labels_panic(name in ".*", labels in proptest::collection::btree_map("dockmaster\\.[a-z]{1,6}|.*", ".*", 0..8)) {
            prop_assert_eq!(identity_from_labels("dm", &name, &labels), None);
            prop_assert_eq!(network_owner("dm", &name, &labels), None);
            prop_assert_eq!(volume_owner("dm", &name, &labels), None);
        }
    }
}
