//! The security profile of a container: what the tenant's policy demands, tightened by what the spec asks for.

use std::collections::BTreeSet;

use super::SecurityWant;
use crate::resource::workspace::{Security, SecurityProfile};

/// The user of a container under `Restricted` whose spec names none: the first ordinary user of most images.
pub const ORDINARY_USER: &str = "1000:1000";

/// Capabilities of Docker's default set that `Baseline` drops: raw sockets can forge packets of neighbours.
const BASELINE_DROPS: &str = "NET_RAW";

/// The profile in force: the stricter of the two.
pub fn profile(policy: Option<SecurityProfile>, asked: Option<&Security>) -> SecurityProfile {
    policy.unwrap_or(SecurityProfile::Baseline).max(asked.and_then(|security| security.profile).unwrap_or(SecurityProfile::Baseline))
}

/// The profile as values; a spec can only take away.
pub fn lower(profile: SecurityProfile, asked: Option<&Security>) -> SecurityWant {
    let asked_drops = asked.map(|security| security.drop_capabilities.as_slice()).unwrap_or_default();
    let asked_root = asked.and_then(|security| security.read_only_root).unwrap_or(false);
    let (drops, root) = match profile {
        SecurityProfile::Baseline => (BASELINE_DROPS, false),
        SecurityProfile::Restricted => ("ALL", true),
    };
    let mut dropped: BTreeSet<String> = asked_drops.iter().map(|name| capability(name)).collect();
    dropped.insert(drops.to_owned());
    let cap_drop = if dropped.contains("ALL") { vec!["ALL".to_owned()] } else { dropped.into_iter().collect() };
    SecurityWant { cap_drop, read_only_root: root || asked_root }
}

/// `CAP_net_raw` and `net_raw` are `NET_RAW`.
fn capability(name: &str) -> String {
    let upper = name.trim().to_ascii_uppercase();
    upper.strip_prefix("CAP_").map(str::to_owned).unwrap_or(upper)
}

/// Whether the text of `user:` means root; a name other than `root` is believed.
pub fn is_root(user: &str) -> bool {
    let name = user.split(':').next().unwrap_or_default();
    name == "root" || name.parse::<u32>() == Ok(0)
}

/// `uid` and `gid` of a numeric user; without a group the number of the user, as ordinary users have it.
pub fn numeric_owner(user: &str) -> Option<(u32, u32)> {
    let (uid, gid) = user.split_once(':').unwrap_or((user, user));
    Some((uid.parse().ok()?, gid.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(profile: Option<SecurityProfile>, drops: &[&str], root: Option<bool>) -> Security {
        Security { profile, drop_capabilities: drops.iter().map(|d| (*d).to_owned()).collect(), read_only_root: root }
    }

    #[test]
    fn a_spec_tightens_and_never_loosens() {
        use SecurityProfile::{Baseline, Restricted};
        for (policy, asked, drops, root) in [
            (None, None, vec!["NET_RAW"], false),
            (None, Some(asked(None, &["cap_chown", "SETUID"], Some(true))), vec!["CHOWN", "NET_RAW", "SETUID"], true),
            (None, Some(asked(Some(Restricted), &[], None)), vec!["ALL"], true),
            (Some(Restricted), Some(asked(Some(Baseline), &["CHOWN"], Some(false))), vec!["ALL"], true),
            (Some(Baseline), Some(asked(None, &["all"], None)), vec!["ALL"], false),
        ] {
            let found = lower(profile(policy, asked.as_ref()), asked.as_ref());
            assert_eq!((found.cap_drop.iter().map(String::as_str).collect::<Vec<_>>(), found.read_only_root), (drops, root), "{policy:?} {asked:?}");
        }
    }

    #[test]
    fn users_are_read() {
        assert!(["root", "0", "0:0", "root:users", "00"].into_iter().all(is_root));
        assert!(!["node", "1000", "1000:0", ""].into_iter().any(is_root));
        assert_eq!(numeric_owner("1000"), Some((1000, 1000)));
        assert_eq!(numeric_owner("1000:50"), Some((1000, 50)));
        assert_eq!(numeric_owner("node"), None);
    }
}
