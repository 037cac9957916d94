//! What the engine's replies say, as observed data.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bollard::models::{
    ContainerInspectResponse, ContainerSummary, ContainerSummaryStateEnum as Word, ImageSummary, Network as DockerNetwork, PortSummary, PortSummaryTypeEnum,
    RestartPolicyNameEnum, Volume as DockerVolume,
};
use jiff::Timestamp;

use crate::desired::naming;
use crate::observed::{Container, ContainerId, Details, HealthState, Network, State, Volume};
use crate::resource::workspace::Protocol;

/// A container of a list; its owner and details come from elsewhere.
pub fn container(summary: ContainerSummary) -> Option<Container> {
    // A link of another container shows as `/other/alias`; the own name has one slash.
    let name = summary.names?.iter().find_map(|name| name.strip_prefix('/').filter(|name| !name.contains('/')).map(str::to_owned))?;
    let networks = summary.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    // The engine lists them in any order.
    let mut ports: Vec<_> = summary.ports.unwrap_or_default().into_iter().filter_map(port).collect();
    ports.sort_unstable();
    Some(Container {
        id: ContainerId(summary.id?),
        name,
        owner: None,
        state: state(summary.state, summary.status.as_deref().unwrap_or_default()),
        image: summary.image.unwrap_or_default(),
        image_id: summary.image_id.unwrap_or_default(),
        networks: networks.into_iter().map(|(name, endpoint)| (name, endpoint.network_id.unwrap_or_default())).collect(),
        labels: summary.labels.unwrap_or_default().into_iter().collect(),
        ports,
        created: Timestamp::from_second(summary.created.unwrap_or_default()).unwrap_or_default(),
        details: None,
    })
}

/// The engine gives a container's networks their ids only at its first start. Until then the name leads to the id, unless the network
/// of its creation, which it holds by id, is gone: then the one that now bears the name is another.
pub fn resolve_networks(container: &mut Container, network_mode: Option<&str>, networks: &BTreeMap<String, Network>) {
    let held_is_gone = network_mode.is_some_and(|mode| is_id(mode) && !networks.contains_key(mode));
    for (name, id) in container.networks.iter_mut().filter(|(_, id)| id.is_empty()) {
        let mut named = networks.values().filter(|network| network.name == *name);
        let held = named.clone().find(|network| Some(network.id.as_str()) == network_mode);
        let only = named.next().filter(|_| named.next().is_none());
        if let Some(network) = held.or(only)
            && !held_is_gone
        {
            id.clone_from(&network.id);
        }
    }
}

/// Whether the text is one of Docker's ids: 64 hexadecimal digits.
pub fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The state, from the word and the text of a list. Only the text tells health and exit code:
/// `Up 5 minutes (health: starting)`, `Up 2 hours (healthy)`, `Up 3 seconds (Paused)`, `Exited (137) 2 days ago`.
pub fn state(word: Option<Word>, status: &str) -> State {
    match word {
        Some(Word::RUNNING | Word::STOPPING) => State::Running(health(status)),
        Some(Word::PAUSED) => State::Paused,
        Some(Word::RESTARTING) => State::Restarting,
        Some(Word::EXITED) => State::Exited { code: exit_code(status) },
        Some(Word::REMOVING) => State::Removing,
        Some(Word::DEAD) => State::Dead,
        Some(Word::CREATED | Word::EMPTY) | None => State::Created,
    }
}

fn health(status: &str) -> HealthState {
    match status.rsplit_once(" (").map(|(_, tail)| tail) {
        Some("healthy)") => HealthState::Healthy,
        Some("unhealthy)") => HealthState::Unhealthy,
        Some("health: starting)") => HealthState::Starting,
        Some(_) | None => HealthState::None,
    }
}

fn exit_code(status: &str) -> i64 {
    let code = status.strip_prefix("Exited (").and_then(|rest| rest.split(')').next());
    code.and_then(|code| code.parse().ok()).unwrap_or_default()
}

fn port(port: PortSummary) -> Option<(String, u16, u16, Protocol)> {
    let protocol = match port.typ? {
        PortSummaryTypeEnum::TCP => Protocol::Tcp,
        PortSummaryTypeEnum::UDP => Protocol::Udp,
        PortSummaryTypeEnum::SCTP | PortSummaryTypeEnum::EMPTY => return None,
    };
    Some((port.ip.unwrap_or_default(), port.public_port?, port.private_port, protocol))
}

/// The details of an inspect.
pub fn details(inspect: ContainerInspectResponse) -> Details {
    let short = inspect.id.as_deref().and_then(|id| id.get(..12)).unwrap_or_default().to_owned();
    let state = inspect.state.unwrap_or_default();
    let host = inspect.host_config.unwrap_or_default();
    let config = inspect.config.unwrap_or_default();
    let endpoints = inspect.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let asked: BTreeSet<&str> = host.mounts.iter().flatten().filter_map(|mount| mount.target.as_deref()).collect();
    let volumes: Vec<(String, String)> = inspect
        .mounts
        .unwrap_or_default()
        .into_iter()
        .filter(|mount| mount.typ.as_deref() == Some("volume"))
        .filter_map(|mount| Some((mount.name?, mount.destination?)))
        .collect();
    Details {
        started: instant(state.started_at.as_deref()),
        finished: instant(state.finished_at.as_deref()),
        exit_code: state.exit_code.unwrap_or_default(),
        oom_killed: state.oom_killed.unwrap_or_default(),
        error: state.error.unwrap_or_default(),
        restarts: inspect.restart_count.and_then(|count| u64::try_from(count).ok()).unwrap_or_default(),
        pid: state.pid.unwrap_or_default(),
        memory: host.memory.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default(),
        memory_swap: host.memory_swap.unwrap_or_default(),
        nano_cpus: host.nano_cpus.unwrap_or_default(),
        pids: host.pids_limit.unwrap_or_default(),
        restart: restart_word(host.restart_policy.as_ref().and_then(|policy| policy.name)).to_owned(),
        aliases: endpoints.into_iter().map(|(name, endpoint)| (name, aliases(endpoint.aliases, &short))).collect(),
        env: config.env.unwrap_or_default(),
        command: config.cmd.unwrap_or_default(),
        anonymous_volumes: volumes.iter().filter(|(name, path)| is_id(name) && !asked.contains(path.as_str())).cloned().collect(),
        volumes: volumes.into_iter().map(|(name, _)| name).collect(),
    }
}

/// Those that were asked for: Docker 20.10 adds the short id of the container, and behind it the host name.
fn aliases(given: Option<Vec<String>>, short: &str) -> Vec<String> {
    given.unwrap_or_default().into_iter().take_while(|alias| alias != short).collect()
}

/// Docker's word for a restart policy; none is `no`.
pub fn restart_word(name: Option<RestartPolicyNameEnum>) -> &'static str {
    match name {
        Some(RestartPolicyNameEnum::ALWAYS) => "always",
        Some(RestartPolicyNameEnum::UNLESS_STOPPED) => "unless-stopped",
        Some(RestartPolicyNameEnum::ON_FAILURE) => "on-failure",
        Some(RestartPolicyNameEnum::NO | RestartPolicyNameEnum::EMPTY) | None => "no",
    }
}

/// An instant; Docker writes the year 1 for never.
fn instant(text: Option<&str>) -> Option<Timestamp> {
    text.and_then(|text| text.parse::<Timestamp>().ok()).filter(|instant| instant.as_second() > 0)
}

/// A network, with its owner by labels and name.
pub fn network(installation: &str, network: DockerNetwork) -> Option<Network> {
    let name = network.name?;
    let labels = network.labels.unwrap_or_default().into_iter().collect();
    Some(Network {
        id: network.id?,
        owner: naming::network_owner(installation, &name, &labels),
        subnets: network.ipam.and_then(|ipam| ipam.config).unwrap_or_default().into_iter().filter_map(|config| config.subnet).collect(),
        driver: network.driver.unwrap_or_default(),
        name,
    })
}

/// A volume, with its owner by labels and name. Ours are plain: one with another driver or with options is somebody else's work.
pub fn volume(installation: &str, volume: DockerVolume) -> Volume {
    let labels = volume.labels.into_iter().collect();
    let options: BTreeMap<String, String> = volume.options.into_iter().collect();
    let plain = volume.driver == "local" && options.is_empty();
    let owner = naming::volume_owner(installation, &volume.name, &labels).filter(|_| plain);
    Volume { owner, driver: volume.driver, options, name: volume.name }
}

/// References of images to their ids: tags, digests, both also under the registry that `docker.io` stands for, and the ids themselves.
pub fn images(list: Vec<ImageSummary>) -> BTreeMap<String, String> {
    let mut images = BTreeMap::new();
    for image in list {
        for reference in image.repo_tags.into_iter().chain(image.repo_digests).filter(|reference| !reference.contains("<none>")) {
            let (first, rest) = reference.split_once('/').map_or((None, reference.as_str()), |(first, rest)| (Some(first), rest));
            let on_hub = first.is_none_or(|first| !first.contains(['.', ':']) && first != "localhost");
            if on_hub {
                images.insert(format!("docker.io/{reference}"), image.id.clone());
            }
            if on_hub && first.is_none() {
                images.insert(format!("docker.io/library/{rest}"), image.id.clone());
            }
            images.insert(reference, image.id.clone());
        }
        images.insert(image.id.clone(), image.id);
    }
    images
}

/// Filters of a list.
pub fn filters<const N: usize>(pairs: [(&str, Vec<String>); N]) -> HashMap<String, Vec<String>> {
    pairs.into_iter().map(|(key, values)| (key.to_owned(), values)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_and_exit_codes_are_read_from_the_text() {
        for (word, text, expect) in [
            (Word::RUNNING, "Up 5 minutes", State::Running(HealthState::None)),
            (Word::RUNNING, "Up 2 hours (healthy)", State::Running(HealthState::Healthy)),
            (Word::RUNNING, "Up 2 hours (unhealthy)", State::Running(HealthState::Unhealthy)),
            (Word::RUNNING, "Up Less than a second (health: starting)", State::Running(HealthState::Starting)),
            (Word::PAUSED, "Up 3 seconds (Paused)", State::Paused),
            (Word::EXITED, "Exited (137) 2 days ago", State::Exited { code: 137 }),
            (Word::EXITED, "Exited", State::Exited { code: 0 }),
            (Word::RESTARTING, "Restarting (1) 5 seconds ago", State::Restarting),
            (Word::CREATED, "Created", State::Created),
            (Word::REMOVING, "Removal In Progress", State::Removing),
            (Word::DEAD, "Dead", State::Dead),
        ] {
            assert_eq!(state(Some(word), text), expect, "{text}");
        }
    }

    #[test]
    fn an_image_answers_to_every_spelling_of_its_reference() {
        let image = |tag: &str| ImageSummary { id: "sha256:1".into(), repo_tags: vec![tag.into()], ..Default::default() };
        let keys = |tag: &str| images(vec![image(tag)]).into_keys().collect::<Vec<_>>();
        assert_eq!(keys("busybox:1"), ["busybox:1", "docker.io/busybox:1", "docker.io/library/busybox:1", "sha256:1"]);
        assert_eq!(keys("acme/dev:1"), ["acme/dev:1", "docker.io/acme/dev:1", "sha256:1"]);
        assert_eq!(keys("localhost:5000/dev:1"), ["localhost:5000/dev:1", "sha256:1"]);
        assert_eq!(keys("<none>:<none>"), ["sha256:1"]);
    }

    #[test]
    fn networks_of_a_container_that_never_started_are_found_by_name() {
        let network = |id: &str, name: &str| Network { id: id.into(), name: name.into(), owner: None, subnets: Vec::new(), driver: "bridge".into() };
        let (first, second) = ("a".repeat(64), "b".repeat(64));
        let networks: BTreeMap<_, _> = [network(&first, "one"), network(&second, "two")].into_iter().map(|n| (n.id.clone(), n)).collect();
        let fresh = || {
            let names = serde_json::json!({"Id": "c", "Names": ["/c"], "NetworkSettings": {"Networks": {"one": {"NetworkID": ""}, "two": {"NetworkID": ""}}}});
            container(serde_json::from_value(names).unwrap()).unwrap()
        };
        let mut known = fresh();
        resolve_networks(&mut known, Some(&first), &networks);
        assert_eq!(known.networks, BTreeMap::from([("one".into(), first.clone()), ("two".into(), second)]));
        let mut gone = fresh();
        resolve_networks(&mut gone, Some(&"d".repeat(64)), &networks);
        assert!(gone.networks.values().all(String::is_empty), "the network of its creation is gone: {:?}", gone.networks);
    }

    #[test]
    fn never_is_no_instant() {
        assert_eq!(instant(Some("0001-01-01T00:00:00Z")), None);
        assert!(instant(Some("2026-01-02T03:04:05.678901234Z")).is_some());
    }
}
