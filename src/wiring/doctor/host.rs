//! The host: free subnets, routes that cross them, and free ports.

use std::collections::BTreeSet;

use dockmaster::cli::Failure;
use dockmaster::cli::doctor::Report;
use dockmaster::config::RunSettings;
use dockmaster::controller::Host;
use dockmaster::observed::World;
use dockmaster::state::sqlite::SqliteLedger;
use dockmaster::state::{Grant, Ledger, grant};

use crate::wiring::host::SystemHost;

/// The sizes of networks: of a namespace, and of a workspace with services.
const SIZES: [(u8, &str); 2] = [(26, "namespaces"), (28, "workspaces with services")];
/// More free subnets than so many are not counted.
const MANY: usize = 1000;

/// What is left of the pool of subnets; gives a free one, from the end where the operator looks last.
pub fn addresses(report: &mut Report, settings: &RunSettings, world: &World, local: bool) -> Option<String> {
    let pool = &settings.network_pool;
    let mine = |network: &dockmaster::observed::Network| network.owner.is_some();
    let crossing = |subnet: &&String| grant::overlap(pool, subnet);
    let ours: BTreeSet<&String> = world.networks.values().filter(|network| mine(network)).flat_map(|network| &network.subnets).collect();
    let routes: Vec<String> = if local { SystemHost.routes() } else { Vec::new() };
    let on_networks: BTreeSet<&String> = world.networks.values().flat_map(|network| &network.subnets).collect();
    let foreign: Vec<String> = world
        .networks
        .values()
        .filter(|network| !mine(network))
        .flat_map(|network| network.subnets.iter().filter(crossing).map(|subnet| format!("{} ({subnet})", network.name)))
        .collect();
    let crossed: Vec<&String> = routes.iter().filter(|route| !on_networks.contains(route)).filter(crossing).collect();

    let taken: Vec<String> = on_networks.iter().map(|subnet| (*subnet).clone()).chain(routes.iter().cloned()).collect();
    let free = |prefix| grant::free_subnets(pool, prefix, &taken);
    let Some(mut last) = free(28) else {
        report.fail("addresses", format!("the network pool `{pool}` is no IPv4 subnet"), "give one like --network-pool 10.213.0.0/16");
        return None;
    };
    let counts = SIZES.map(|(prefix, what)| (free(prefix).map_or(0, |subnets| subnets.take(MANY).count()), prefix, what));
    let many = |count: usize| if count == MANY { format!("{count} or more") } else { count.to_string() };
    let left = counts.map(|(count, prefix, what)| format!("{} /{prefix} for {what}", many(count))).join(", ");
    let message = format!("free in {pool}: {left}; {} used by this installation", ours.iter().filter(|subnet| crossing(subnet)).count());
    let next = "give a larger --network-pool, of addresses that nothing else on this host or its networks uses";
    match counts.iter().map(|(count, ..)| *count).min() {
        Some(0) => report.fail("addresses", message, next),
        Some(1..4) => report.warn("addresses", message, next),
        Some(4..) | None => report.ok("addresses", message),
    }
    if !foreign.is_empty() {
        report.warn(
            "addresses",
            format!("other networks lie in the pool: {}", foreign.join(", ")),
            "they are left out; a --network-pool of its own is clearer",
        );
    }
    match crossed.as_slice() {
        [] if !local => report.ok("routes", "the engine's host cannot be seen from here"),
        [] => report.ok("routes", "no route of the host crosses the pool"),
        crossed => {
            let list = crossed.iter().map(|route| route.as_str()).collect::<Vec<_>>().join(", ");
            report.warn(
                "routes",
                format!("the host routes {list}, which crosses the pool {pool}"),
                "these addresses are left out; a --network-pool that nothing routes is clearer",
            );
        }
    }
    last.next_back()
}

/// How many ports of the range are free.
pub async fn ports(report: &mut Report, settings: &RunSettings, world: &World, ledger: Option<&SqliteLedger>, local: bool) -> Result<(), Failure> {
    let range = settings.port_range;
    let leases = match ledger {
        Some(ledger) => ledger.leases().await?,
        None => Vec::new(),
    };
    let leased: BTreeSet<u16> = leases
        .iter()
        .filter_map(|lease| match &lease.grant {
            Grant::Port { host, .. } => Some(*host),
            Grant::Subnet { .. } | Grant::Refused { .. } => None,
        })
        .collect();
    let published: BTreeSet<u16> = world.containers.values().flat_map(|container| container.ports.iter().map(|(_, host, ..)| *host)).collect();
    let (mut free, mut held, mut busy) = (0, 0, Vec::new());
    for port in range.first..=range.last {
        if leased.contains(&port) {
            held += 1;
        } else if published.contains(&port) || (local && !SystemHost.is_port_free(settings.publish_address, port)) {
            busy.push(port);
        } else {
            free += 1;
        }
    }
    let all = usize::from(range.last - range.first) + 1;
    let message = format!("{free} of {all} free in {range} on {}: {held} leased, {} used by others", settings.publish_address, busy.len());
    let next = "give a larger --port-range, or stop what uses these ports";
    match free {
        0 => report.fail("ports", message, next),
        _ if free * 10 < all => report.warn("ports", message, next),
        _ => report.ok("ports", message),
    }
    if !settings.publish_address.is_loopback() {
        report.warn(
            "ports",
            format!("published ports are open to everyone who reaches {}", settings.publish_address),
            "if that is not meant, leave out --publish-address",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use dockmaster::cli::args::{Global, default_run};
    use dockmaster::cli::doctor::Verdict;
    use dockmaster::observed::Network;

    use super::*;

    fn checked(pool: &str, taken: &str) -> (Report, Option<String>) {
        let mut settings = default_run().settings(&Global::default()).unwrap();
        settings.network_pool = pool.to_owned();
        let network = Network { id: "n".to_owned(), name: "theirs".to_owned(), subnets: vec![taken.to_owned()], owner: None, driver: "bridge".to_owned() };
        let world = World { networks: [("n".to_owned(), network)].into_iter().collect(), ..World::default() };
        let mut report = Report::default();
        let subnet = addresses(&mut report, &settings, &world, false);
        (report, subnet)
    }

    #[test]
    fn what_is_left_of_the_pool_is_told_and_the_canary_gets_its_end() {
        let (report, subnet) = checked("10.99.0.0/16", "172.30.0.0/16");
        assert_eq!((report.worst(), subnet.as_deref()), (Verdict::Ok, Some("10.99.255.240/28")));
        let (report, subnet) = checked("10.99.0.0/24", "10.99.0.192/26");
        assert_eq!((report.worst(), subnet.as_deref()), (Verdict::Warn, Some("10.99.0.176/28")));
        assert!(report.checks.iter().any(|check| check.message.contains("theirs (10.99.0.192/26)")), "{report:?}");
        let (report, subnet) = checked("10.99.0.0/26", "10.0.0.0/8");
        assert_eq!((report.worst(), subnet), (Verdict::Fail, None));
        assert_eq!(checked("ten", "10.0.0.0/8").0.worst(), Verdict::Fail);
    }
}
