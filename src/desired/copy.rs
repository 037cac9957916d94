//! The helper container that copies the volumes of a preview.

use std::collections::BTreeMap;

use super::{ContainerSpec, CopyWant, ImageWant, Limits, MountSource, MountWant, Role, SecurityWant, naming};
use crate::observed::Slot;
use crate::resource::quantity::{Bytes, Duration};
use crate::resource::workspace::RestartPolicy;

/// The container of one pass. It sees the source's volumes read-only at `/from/N` and the preview's at `/to/N`, and no network.
pub fn container(main: &ContainerSpec, copy: &CopyWant, slot: Slot) -> ContainerSpec {
    let mut labels: BTreeMap<String, String> =
        main.labels.iter().filter(|(key, _)| key.starts_with(naming::LABEL_PREFIX)).map(|(key, value)| (key.clone(), value.clone())).collect();
    labels.insert(naming::ROLE.to_owned(), Role::Helper.as_str().to_owned());
    labels.remove(naming::PORTS);
    labels.insert(naming::SOURCE.to_owned(), copy.source_uid.0.clone());
    let mut command = vec!["copy".to_owned()];
    command.extend((slot == Slot::Delta).then(|| "--delta".to_owned()));
    let mut mounts = Vec::new();
    for (index, (from, to)) in copy.volumes.iter().enumerate() {
        let (source, destination) = (format!("/from/{index}"), format!("/to/{index}"));
        command.extend([source.clone(), destination.clone()]);
        mounts.push(MountWant { source: MountSource::Volume(from.clone()), path: source, read_only: true });
        mounts.push(MountWant { source: MountSource::Volume(to.clone()), path: destination, read_only: false });
    }
    let name = naming::in_slot(&main.name, slot);
    ContainerSpec {
        name,
        role: Role::Helper,
        service: None,
        depends_on: Vec::new(),
        image: ImageWant::Helper,
        entrypoint: None,
        command: Some(command),
        env: BTreeMap::new(),
        working_dir: None,
        // Files of any owner are read and made again with their owner.
        user: Some("0:0".to_owned()),
        hostname: "copy".to_owned(),
        labels,
        ports: Vec::new(),
        mounts,
        networks: Vec::new(),
        health: None,
        init: true,
        stop_signal: None,
        stop_grace: Duration::from_secs(1),
        security: SecurityWant { cap_drop: vec!["NET_RAW".to_owned()], read_only_root: true },
        storage_size: None,
        limits: Limits { memory: Some(Bytes(256 << 20)), cpu: None, pids: 64, restart: RestartPolicy::No },
        hash: String::new(),
    }
}
