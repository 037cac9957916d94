//! Who gets which port and which subnet: pure, and the same for every adapter.
//!
//! The rules, for ports:
//! - What an object holds it keeps, as long as it lives and the number lies in the range. What labels say that it holds counts where the ledger
//!   knows nothing and nobody else has it.
//! - A new one is sought from `hash(uid, port name)` upwards, so that a lost ledger leads to the same numbers.
//! - Fixed ports are never leased. Of two that fix the same number the older life has it. A lease that was there before the number was fixed
//!   stays where it is while its holder runs; when it is stopped it moves.
//! - When the range is used up, the longest stopped gives its port up; when nobody is stopped, the claim is refused and names the holders.
//!
//! For subnets: what is held is kept while the network exists or nothing else uses the addresses; a new one is the first free block of the pool.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use sha2::{Digest, Sha256};

use super::{Claim, Displaced, Grant, Granted, Lease, Pools};
use crate::resource::{ObjectRef, Uid};

/// What a grant leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The answer.
    pub granted: Granted,
    /// All leases of the object from now on.
    pub leases: Vec<Lease>,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Claimant<'a> {
    /// The object.
    pub object: &'a ObjectRef,
    /// Its life.
    pub uid: &'a Uid,
}

/// Grants claims, given all leases there are.
pub fn grant(who: Claimant<'_>, claims: &[Claim], held: &[Grant], pools: &Pools, leases: &[Lease]) -> Outcome {
    let mut displaced = Vec::new();
    let ports = grant_ports(who, claims, held, pools, leases, &mut displaced);
    let subnets = grant_subnets(who, claims, held, pools, leases);
    let refused = |claim: &Claim| Grant::Refused { claim: claim.clone(), holders: Vec::new() };
    let mut outcome = Outcome { granted: Granted { displaced, ..Granted::default() }, leases: Vec::new() };
    let had = |grant: &Grant| held.contains(grant) || leases.iter().any(|lease| lease.uid == *who.uid && lease.grant == *grant);
    for claim in claims {
        let (grant, fixed) = match claim {
            Claim::Port { name, fixed } => (ports.get(name.as_str()), fixed.is_some()),
            Claim::Subnet { network, .. } => (subnets.get(network.as_str()), false),
        };
        let grant = grant.cloned().unwrap_or_else(|| refused(claim));
        let lease = Lease { object: who.object.clone(), uid: who.uid.clone(), grant: grant.clone(), fixed };
        if !matches!(grant, Grant::Refused { .. }) && outcome.leases.iter().all(|known| known.grant != lease.grant) {
            if port_of(&grant).is_some() && !had(&grant) {
                outcome.granted.leased.push(grant.clone());
            }
            outcome.leases.push(lease);
        }
        outcome.granted.grants.push(grant);
    }
    outcome
}

/// The grants, where all that is claimed is held already and nothing else is: then nothing needs to be written, nor others to be looked at.
pub fn settled(who: Claimant<'_>, claims: &[Claim], held: &[Grant], pools: &Pools, mine: &[Lease]) -> Option<Granted> {
    let outcome = grant(who, claims, held, pools, mine);
    let refused = outcome.granted.grants.iter().any(|grant| matches!(grant, Grant::Refused { .. }));
    let unchanged = outcome.leases.len() == mine.len() && mine.iter().all(|lease| outcome.leases.contains(lease));
    (unchanged && !refused).then_some(outcome.granted)
}

/// The ports, by name.
fn grant_ports<'a>(
    who: Claimant<'_>,
    claims: &'a [Claim],
    held: &[Grant],
    pools: &Pools,
    leases: &[Lease],
    displaced: &mut Vec<Displaced>,
) -> BTreeMap<&'a str, Grant> {
    // Of two claims under one name the first counts.
    let claims: BTreeMap<&str, (&Claim, Option<u16>)> = claims
        .iter()
        .rev()
        .filter_map(|claim| match claim {
            Claim::Port { name, fixed } => Some((name.as_str(), (claim, *fixed))),
            Claim::Subnet { .. } => None,
        })
        .collect();
    let (low, high) = pools.ports;
    let in_range = |port: u16| (low..=high).contains(&port);
    let mine: BTreeMap<&str, u16> = leases.iter().filter(|lease| lease.uid == *who.uid).filter_map(|lease| port_of(&lease.grant)).collect();
    let labelled: BTreeMap<&str, u16> = held.iter().filter_map(port_of).collect();
    let mut others: BTreeMap<u16, &Lease> =
        leases.iter().filter(|lease| lease.uid != *who.uid).filter_map(|lease| port_of(&lease.grant).map(|(_, port)| (port, lease))).collect();
    // A holder may have fixed one number under several names.
    let mut take_from = |others: &mut BTreeMap<u16, &Lease>, port: u16| {
        if others.remove(&port).is_some() {
            let lost = leases.iter().filter(|lease| lease.uid != *who.uid && port_of(&lease.grant).is_some_and(|(_, held)| held == port)).cloned();
            displaced.extend(lost.map(|Lease { object, uid, grant, .. }| Displaced { object, uid, grant }));
        }
    };
    let mut ports: BTreeMap<&str, u16> = BTreeMap::new();
    let mut grants: BTreeMap<&str, Grant> = BTreeMap::new();

    for (&name, &(claim, fixed)) in &claims {
        let Some(port) = fixed else { continue };
        let holder = others.get(&port).copied();
        let known = mine.get(name) == Some(&port) || labelled.get(name) == Some(&port);
        let allowed = match holder {
            Some(holder) if holder.fixed => who.uid < &holder.uid,
            Some(holder) => pools.reclaimable.contains(&holder.uid),
            None => known || !pools.ports_taken.contains(&port),
        };
        if allowed {
            take_from(&mut others, port);
            ports.insert(name, port);
        } else {
            let holders = holder.map(|lease| lease.object.clone()).into_iter().collect();
            grants.insert(name, Grant::Refused { claim: claim.clone(), holders });
        }
    }

    let pooled = || claims.iter().filter(|(_, (_, fixed))| fixed.is_none()).map(|(name, (claim, _))| (*name, *claim));
    let usable = |port: u16| in_range(port) && !pools.ports_taken.contains(&port) && !pools.ports_fixed.contains(&port);
    for (name, _) in pooled() {
        let kept = mine.get(name).copied().filter(|port| in_range(*port));
        if let Some(port) = kept.filter(|port| !ports.values().any(|used| used == port)) {
            ports.insert(name, port);
        }
    }
    for (name, _) in pooled() {
        let known = labelled.get(name).copied().filter(|port| usable(*port) && !others.contains_key(port));
        if let Some(port) = known.filter(|port| !ports.contains_key(name) && !ports.values().any(|used| used == port)) {
            ports.insert(name, port);
        }
    }
    for (name, claim) in pooled() {
        if ports.contains_key(name) {
            continue;
        }
        let used: BTreeSet<u16> = ports.values().copied().collect();
        let free = from_hash(who.uid, name, low, high).find(|port| usable(*port) && !used.contains(port) && !others.contains_key(port));
        let given_up = || {
            let of = |uid: &Uid| others.iter().find(|(port, lease)| lease.uid == *uid && !lease.fixed && usable(**port)).map(|(port, _)| *port);
            pools.reclaimable.iter().find_map(of)
        };
        if let Some(port) = free.or_else(given_up) {
            take_from(&mut others, port);
            ports.insert(name, port);
        } else {
            let own = used.iter().any(|port| in_range(*port)).then(|| who.object.clone());
            let holders: BTreeSet<ObjectRef> = others.range(low..=high.max(low)).map(|(_, lease)| lease.object.clone()).chain(own).collect();
            grants.insert(name, Grant::Refused { claim: claim.clone(), holders: holders.into_iter().collect() });
        }
    }
    grants.extend(ports.into_iter().map(|(name, host)| (name, Grant::Port { name: name.to_owned(), host })));
    grants
}

/// All ports of the range in the order in which a new one is sought: from the one that the name hashes to, around.
pub fn from_hash(uid: &Uid, name: &str, low: u16, high: u16) -> impl Iterator<Item = u16> {
    let digest = Sha256::new().chain_update(&uid.0).chain_update([0]).chain_update(name).finalize();
    let number = digest.iter().take(8).fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    let size = u64::from(high.saturating_sub(low)) + 1;
    let start = u16::try_from(number % size).unwrap_or(0).saturating_add(low);
    (start..=high).chain(low..start).filter(move |_| low <= high)
}

fn port_of(grant: &Grant) -> Option<(&str, u16)> {
    match grant {
        Grant::Port { name, host } => Some((name, *host)),
        Grant::Subnet { .. } | Grant::Refused { .. } => None,
    }
}

/// The subnets, by network.
fn grant_subnets<'a>(who: Claimant<'_>, claims: &'a [Claim], held: &[Grant], pools: &Pools, leases: &[Lease]) -> BTreeMap<&'a str, Grant> {
    let pool = Block::parse(&pools.network);
    let taken: Vec<Block> = pools.subnets_taken.iter().filter_map(|cidr| Block::parse(cidr)).collect();
    let mine: BTreeMap<&str, Block> = leases.iter().filter(|lease| lease.uid == *who.uid).filter_map(|lease| block_of(&lease.grant)).collect();
    let exists: BTreeMap<&str, Block> = held.iter().filter_map(block_of).collect();
    let others = || leases.iter().filter(|lease| lease.uid != *who.uid);
    let mut used: Vec<Block> = others().filter_map(|lease| block_of(&lease.grant)).map(|(_, block)| block).collect();
    let clash = |used: &[Block], block: &Block| used.iter().any(|other| other.overlaps(block));
    let mut grants: BTreeMap<&str, Grant> = BTreeMap::new();
    let subnets = claims.iter().filter_map(|claim| match claim {
        Claim::Subnet { network, prefix } => Some((claim, network.as_str(), *prefix)),
        Claim::Port { .. } => None,
    });

    let mut open = Vec::new();
    for (claim, network, prefix) in subnets {
        let leased = mine.get(network).filter(|block| exists.get(network) == Some(*block) || !clash(&taken, block));
        let kept = leased.or(exists.get(network)).filter(|block| pool.is_some_and(|pool| pool.contains(block)) && !clash(&used, block));
        match kept {
            Some(block) if !grants.contains_key(network) => {
                used.push(*block);
                grants.insert(network, Grant::Subnet { network: network.to_owned(), cidr: block.to_string() });
            }
            Some(_) => {}
            None => open.push((claim, network, prefix)),
        }
    }
    for (claim, network, prefix) in open {
        if grants.contains_key(network) {
            continue;
        }
        let grant = match pool.and_then(|pool| pool.first_free(prefix, used.iter().chain(&taken))) {
            Some(block) => {
                used.push(block);
                Grant::Subnet { network: network.to_owned(), cidr: block.to_string() }
            }
            None => {
                let holders: BTreeSet<ObjectRef> = others().filter(|lease| block_of(&lease.grant).is_some()).map(|lease| lease.object.clone()).collect();
                Grant::Refused { claim: claim.clone(), holders: holders.into_iter().collect() }
            }
        };
        grants.insert(network, grant);
    }
    grants
}

fn block_of(grant: &Grant) -> Option<(&str, Block)> {
    match grant {
        Grant::Subnet { network, cidr } => Block::parse(cidr).map(|block| (network.as_str(), block)),
        Grant::Port { .. } | Grant::Refused { .. } => None,
    }
}

/// The subnets of that prefix in a pool that touch none of those taken, from the first to the last; `None`: the pool is no CIDR.
pub fn free_subnets<'a>(pool: &str, prefix: u8, taken: &'a [String]) -> Option<impl DoubleEndedIterator<Item = String> + use<'a>> {
    let pool = Block::parse(pool).filter(|_| pool.contains('/'))?;
    let taken: Vec<Block> = taken.iter().filter_map(|cidr| Block::parse(cidr)).filter(|block| block.overlaps(&pool)).collect();
    let count = if (pool.prefix..=32).contains(&prefix) { 1u32.checked_shl(u32::from(prefix - pool.prefix)).unwrap_or(u32::MAX) } else { 0 };
    let block = move |index: u32| Block { first: pool.first + (index << (32 - u32::from(prefix))), prefix };
    Some((0..count).map(block).filter(move |block| !taken.iter().any(|other| other.overlaps(block))).map(|block| block.to_string()))
}

/// Whether two subnets share an address; what is no CIDR shares none.
pub fn overlap(one: &str, other: &str) -> bool {
    Block::parse(one).zip(Block::parse(other)).is_some_and(|(one, other)| one.overlaps(&other))
}

/// An aligned block of IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    first: u32,
    prefix: u8,
}

impl Block {
    /// A block from CIDR notation; bits behind the prefix are dropped. `None` for IPv6 and for what is no CIDR.
    fn parse(cidr: &str) -> Option<Self> {
        let (address, prefix) = cidr.trim().split_once('/').unwrap_or((cidr.trim(), "32"));
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
        let address = address.parse::<Ipv4Addr>().ok()?.to_bits();
        Some(Self { first: address & u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0), prefix })
    }

    fn size(&self) -> u64 {
        1 << (32 - u32::from(self.prefix))
    }

    fn last(&self) -> u64 {
        u64::from(self.first) + self.size() - 1
    }

    fn overlaps(&self, other: &Self) -> bool {
        u64::from(self.first) <= other.last() && u64::from(other.first) <= self.last()
    }

    fn contains(&self, other: &Self) -> bool {
        self.first <= other.first && other.last() <= self.last()
    }

    /// The first aligned block of this prefix that touches none of those.
    fn first_free<'b>(&self, prefix: u8, used: impl Iterator<Item = &'b Self>) -> Option<Self> {
        if prefix < self.prefix || prefix > 32 {
            return None;
        }
        let mut used: Vec<&Self> = used.filter(|block| block.overlaps(self)).collect();
        used.sort_by_key(|block| block.first);
        let size = 1u64 << (32 - u32::from(prefix));
        let mut first = u64::from(self.first);
        for block in used {
            if first + size - 1 < u64::from(block.first) {
                break;
            }
            first = first.max((block.last() + 1).next_multiple_of(size));
        }
        let found = Self { first: u32::try_from(first).ok()?, prefix };
        self.contains(&found).then_some(found)
    }
}

impl std::fmt::Display for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from_bits(self.first), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::resource::Kind;

    fn object(n: u8) -> (ObjectRef, Uid) {
        (ObjectRef::new(Kind::Workspace, "alice", &format!("w{n}")), Uid(format!("0198-{n:03}")))
    }
    fn port(name: &str, fixed: Option<u16>) -> Claim {
        Claim::Port { name: name.to_owned(), fixed }
    }
    fn subnet(network: &str, prefix: u8) -> Claim {
        Claim::Subnet { network: network.to_owned(), prefix }
    }
    fn pools(low: u16, high: u16) -> Pools {
        Pools { ports: (low, high), network: "10.213.0.0/16".to_owned(), ..Pools::default() }
    }

    /// The leases of all objects, and grants one after the other.
    #[derive(Default)]
    struct Table(Vec<Lease>);
    impl Table {
        fn ask(&mut self, n: u8, claims: &[Claim], held: &[Grant], pools: &Pools) -> Granted {
            let (object, uid) = object(n);
            let Outcome { granted, leases } = grant(Claimant { object: &object, uid: &uid }, claims, held, pools, &self.0);
            self.0.retain(|lease| lease.uid != uid && !granted.displaced.iter().any(|lost| lost.uid == lease.uid && lost.grant == lease.grant));
            self.0.extend(leases);
            granted
        }
        fn port(&mut self, n: u8, claim: Claim, pools: &Pools) -> Option<u16> {
            port_of(&self.ask(n, &[claim], &[], pools).grants[0]).map(|(_, port)| port)
        }
    }

    #[test]
    fn free_subnets_are_those_that_nothing_touches() {
        let taken = ["10.0.0.16/30", "10.0.0.32/27", "172.17.0.0/16"].map(str::to_owned);
        let free: Vec<String> = free_subnets("10.0.0.0/25", 28, &taken).unwrap().collect();
        assert_eq!(free, ["10.0.0.0/28", "10.0.0.64/28", "10.0.0.80/28", "10.0.0.96/28", "10.0.0.112/28"]);
        assert_eq!(free_subnets("10.0.0.0/25", 28, &taken).unwrap().next_back().as_deref(), Some("10.0.0.112/28"));
        assert_eq!(free_subnets("10.0.0.0/29", 28, &[]).unwrap().count(), 0, "the pool is smaller");
        assert_eq!(free_subnets("0.0.0.0/0", 28, &[]).unwrap().nth(1).as_deref(), Some("0.0.0.16/28"));
        assert!(free_subnets("10.0.0.0", 28, &[]).is_none() && free_subnets("many", 28, &[]).is_none());
        assert!(overlap("10.0.0.0/8", "10.213.0.0/16") && !overlap("10.0.0.0/8", "11.0.0.0/8") && !overlap("fd00::/8", "0.0.0.0/0"));
    }

    #[test]
    fn what_is_leased_anew_is_told_and_what_labels_brought_back_is_not() {
        let (mut table, pools) = (Table::default(), pools(10, 20));
        let http = |host: u16| Grant::Port { name: "http".to_owned(), host };
        let claims = [port("http", None), port("api", Some(8080)), subnet("net", 28)];
        let first = table.ask(1, &claims, &[], &pools);
        assert_eq!(first.leased, first.grants[..2]);
        assert!(table.ask(1, &claims, &[], &pools).leased.is_empty(), "it has them");
        assert!(table.ask(2, &claims[..1], &[http(20)], &pools).leased.is_empty(), "its labels say that it had it");
    }

    #[test]
    fn of_two_equal_fixed_ports_the_older_life_has_it() {
        let (mut table, pools) = (Table::default(), pools(10, 20));
        assert_eq!(table.port(2, port("http", Some(8080)), &pools), Some(8080));
        let refused = table.ask(3, &[port("http", Some(8080))], &[], &pools);
        assert_eq!(refused.grants, [Grant::Refused { claim: port("http", Some(8080)), holders: vec![object(2).0] }]);
        let won = table.ask(1, &[port("http", Some(8080))], &[], &pools);
        assert_eq!(won.displaced.iter().map(|lost| &lost.uid).collect::<Vec<_>>(), [&object(2).1]);
        assert_eq!(table.port(2, port("http", Some(8080)), &pools), None);
    }

    #[test]
    fn a_fixed_port_is_never_leased_and_moves_only_a_stopped_holder() {
        let (mut table, mut pools) = (Table::default(), pools(10, 11));
        pools.ports_fixed.insert(10);
        assert_eq!(table.port(1, port("http", None), &pools), Some(11));
        assert_eq!(table.port(2, port("http", None), &pools), None);
        assert_eq!(table.port(3, port("http", Some(11)), &pools), None, "its holder runs");
        pools.reclaimable.push(object(1).1);
        assert_eq!(table.port(3, port("http", Some(11)), &pools), Some(11));
    }

    #[test]
    fn another_program_on_a_fixed_port_refuses_it_without_holders() {
        let (mut table, mut pools) = (Table::default(), pools(10, 11));
        pools.ports_taken.insert(8080);
        let refused = table.ask(1, &[port("http", Some(8080))], &[], &pools);
        assert_eq!(refused.grants, [Grant::Refused { claim: port("http", Some(8080)), holders: vec![] }]);
    }

    #[test]
    fn a_used_up_range_names_the_holders_and_then_takes_from_the_longest_stopped() {
        let (mut table, mut pools) = (Table::default(), pools(10, 11));
        let (first, second) = (table.port(1, port("http", None), &pools), table.port(2, port("http", None), &pools));
        assert!(first.is_some() && second.is_some() && first != second);
        let refused = table.ask(3, &[port("http", None)], &[], &pools);
        assert_eq!(refused.grants, [Grant::Refused { claim: port("http", None), holders: vec![object(1).0, object(2).0] }]);
        pools.reclaimable = vec![object(2).1, object(1).1];
        let granted = table.ask(3, &[port("http", None)], &[], &pools);
        assert_eq!(port_of(&granted.grants[0]).map(|(_, port)| port), second);
        assert_eq!(granted.displaced.len(), 1);
        assert_eq!(granted.displaced[0].object, object(2).0);
    }

    #[test]
    fn labels_count_where_the_ledger_knows_nothing_and_nobody_else_has_it() {
        let (mut table, mut pools) = (Table::default(), pools(10, 30));
        let held = [Grant::Port { name: "http".to_owned(), host: 25 }];
        assert_eq!(port_of(&table.ask(1, &[port("http", None)], &held, &pools).grants[0]), Some(("http", 25)));
        assert_ne!(port_of(&table.ask(2, &[port("http", None)], &held, &pools).grants[0]), Some(("http", 25)));
        let other = [Grant::Port { name: "http".to_owned(), host: 26 }];
        assert_eq!(port_of(&table.ask(1, &[port("http", None)], &other, &pools).grants[0]), Some(("http", 25)), "the ledger's word is first");
        pools.ports_taken.insert(26);
        assert_ne!(port_of(&table.ask(3, &[port("http", None)], &other, &pools).grants[0]), Some(("http", 26)), "in quarantine");
    }

    #[test]
    fn a_subnet_stays_while_its_network_exists_and_else_avoids_what_others_use() {
        let (mut table, mut pools) = (Table::default(), pools(10, 11));
        let first = table.ask(1, &[subnet("ns-alice", 26)], &[], &pools).grants;
        assert_eq!(first, [Grant::Subnet { network: "ns-alice".to_owned(), cidr: "10.213.0.0/26".to_owned() }]);
        let private = table.ask(2, &[subnet("ws-shop", 28)], &[], &pools).grants;
        assert_eq!(private, [Grant::Subnet { network: "ws-shop".to_owned(), cidr: "10.213.0.64/28".to_owned() }]);
        pools.subnets_taken.insert("10.213.0.0/25".to_owned());
        assert_eq!(table.ask(1, &[subnet("ns-alice", 26)], &first, &pools).grants, first, "the network exists");
        let moved = table.ask(1, &[subnet("ns-alice", 26)], &[], &pools).grants;
        assert_eq!(moved, [Grant::Subnet { network: "ns-alice".to_owned(), cidr: "10.213.0.128/26".to_owned() }]);
    }

    #[test]
    fn a_used_up_pool_of_subnets_names_the_holders() {
        let (mut table, mut pools) = (Table::default(), pools(10, 11));
        pools.network = "10.213.0.0/27".to_owned();
        for n in 1..=2 {
            assert!(matches!(table.ask(n, &[subnet("n", 28)], &[], &pools).grants[0], Grant::Subnet { .. }));
        }
        let refused = table.ask(3, &[subnet("n", 28)], &[], &pools).grants;
        assert_eq!(refused, [Grant::Refused { claim: subnet("n", 28), holders: vec![object(1).0, object(2).0] }]);
    }

    #[test]
    fn what_is_settled_is_the_same_without_looking_at_others() {
        let (mut table, pools) = (Table::default(), pools(10, 30));
        let claims = [port("http", None), port("db", Some(5432)), subnet("n", 28)];
        let granted = table.ask(1, &claims, &[], &pools);
        let (object, uid) = object(1);
        let who = Claimant { object: &object, uid: &uid };
        assert_eq!(settled(who, &claims, &[], &pools, &table.0).map(|again| (again.grants, again.leased)), Some((granted.grants, Vec::new())));
        assert_eq!(settled(who, &claims[..2], &[], &pools, &table.0), None, "one is given back");
        assert_eq!(settled(who, &claims, &[], &pools, &[]), None, "nothing is held yet");
    }

    /// What an object asks for in one step of a random history.
    fn step() -> impl Strategy<Value = (u8, Vec<Claim>, Vec<u16>, Vec<u8>)> {
        let claim = prop_oneof![
            (0u8..4).prop_map(|n| port(&format!("p{n}"), None)),
            (0u8..4, 8u16..14).prop_map(|(n, fixed)| port(&format!("p{n}"), Some(fixed))),
            (0u8..3, 0u8..40).prop_map(|(n, prefix)| subnet(&format!("n{n}"), prefix)),
        ];
        (0u8..6, prop::collection::vec(claim, 0..5), prop::collection::vec(8u16..16, 0..3), prop::collection::vec(0u8..6, 0..3))
    }

    proptest! {
        #[test]
        fn grants_are_injective_sticky_deterministic_and_in_range(steps in prop::collection::vec(step(), 1..25), taken in prop::collection::btree_set(8u16..16, 0..3)) {
            let mut table = Table::default();
            for (n, mut claims, labels, reclaimable) in steps {
                claims.sort();
                claims.dedup_by(|a, b| match (a, b) {
                    (Claim::Port { name: a, .. }, Claim::Port { name: b, .. }) => a == b,
                    (Claim::Subnet { network: a, .. }, Claim::Subnet { network: b, .. }) => a == b,
                    (Claim::Port { .. } | Claim::Subnet { .. }, _) => false,
                });
                let mut pools = pools(10, 14);
                pools.network = "10.0.0.0/25".to_owned();
                pools.ports_taken = taken.clone();
                pools.subnets_taken.insert("10.0.0.48/29".to_owned());
                pools.reclaimable = reclaimable.iter().map(|n| object(*n).1).collect();
                let held: Vec<Grant> = labels.iter().map(|host| Grant::Port { name: "p0".to_owned(), host: *host }).collect();
                let before = table.0.clone();
                let granted = table.ask(n, &claims, &held, &pools);
                let (me, uid) = object(n);
                let again = grant(Claimant { object: &me, uid: &uid }, &claims, &held, &pools, &before);
                prop_assert_eq!(&again.granted, &granted, "deterministic");
                prop_assert_eq!(&table.ask(n, &claims, &held, &pools).grants, &granted.grants, "sticky");
                prop_assert_eq!(granted.grants.len(), claims.len());
                for (claim, grant) in claims.iter().zip(&granted.grants) {
                    match (claim, grant) {
                        (Claim::Port { fixed: None, .. }, Grant::Port { host, .. }) => prop_assert!((10..=14).contains(host)),
                        (Claim::Port { fixed: Some(fixed), .. }, Grant::Port { host, .. }) => prop_assert_eq!(fixed, host),
                        (Claim::Subnet { .. }, Grant::Subnet { cidr, .. }) => {
                            prop_assert!(Block::parse("10.0.0.0/25").zip(Block::parse(cidr)).is_some_and(|(pool, block)| pool.contains(&block)));
                        }
                        (claim, Grant::Refused { claim: refused, .. }) => prop_assert_eq!(claim, refused),
                        (claim, grant) => prop_assert!(false, "{:?} got {:?}", claim, grant),
                    }
                }
                let ports: Vec<(u16, &Uid)> = table.0.iter().filter_map(|lease| port_of(&lease.grant).map(|(_, port)| (port, &lease.uid))).collect();
                for (i, (port, holder)) in ports.iter().enumerate() {
                    prop_assert!(ports[..i].iter().all(|(other, of)| other != port || of == holder), "{} has two holders", port);
                }
                let blocks: Vec<Block> = table.0.iter().filter_map(|lease| block_of(&lease.grant).map(|(_, block)| block)).collect();
                for (i, block) in blocks.iter().enumerate() {
                    prop_assert!(blocks[..i].iter().all(|other| !other.overlaps(block)), "{} overlaps", block);
                }
            }
        }

        #[test]
        fn no_text_panics(network in ".*", taken in ".*", prefix in any::<u8>(), low in any::<u16>(), high in any::<u16>()) {
            let mut pools = pools(low, high);
            pools.network = network;
            pools.subnets_taken.insert(taken);
            Table::default().ask(1, &[subnet("n", prefix), port("p", None)], &[], &pools);
            let mut odd = super::super::Pools { network: format!("0.0.0.0/{}", prefix % 33), ..Pools::default() };
            odd.subnets_taken.insert("255.255.255.255/0".to_owned());
            Table::default().ask(1, &[subnet("n", prefix)], &[], &odd);
        }
    }
}
