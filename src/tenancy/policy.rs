//! What the specs of a namespace may ask for. Each function refuses one thing with a sentence for people.

use crate::resource::tenant::Policy;

/// Whether the image may be used. Patterns match the reference as it is written, `*` any text.
///
/// # Errors
/// Why not.
pub fn image(policy: &Policy, image: &str) -> Result<(), String> {
    match &policy.images {
        Some(allowed) if !matches_any(allowed, image) => Err(refusal("image", image, "images", allowed)),
        Some(_) | None => Ok(()),
    }
}

/// Whether an existing network may be joined.
///
/// # Errors
/// Why not.
pub fn network(policy: &Policy, network: &str) -> Result<(), String> {
    listed("network", network, "networks", policy.networks.as_deref())
}

/// Whether an existing volume may be mounted.
///
/// # Errors
/// Why not.
pub fn external_volume(policy: &Policy, volume: &str) -> Result<(), String> {
    listed("volume", volume, "externalVolumes", policy.external_volumes.as_deref())
}

/// Whether a directory of the host may be mounted; the path is absolute, with symbolic links already followed.
///
/// # Errors
/// Why not.
pub fn host_path(policy: &Policy, path: &str) -> Result<(), String> {
    let Some(allowed) = &policy.host_paths else { return Ok(()) };
    let wanted = segments(path);
    let below = |root: &String| segments(root).zip(wanted.as_ref()).is_some_and(|(root, wanted)| wanted.starts_with(&root));
    if allowed.iter().any(below) { Ok(()) } else { Err(refusal("host path", path, "hostPaths", allowed)) }
}

/// What must be listed to be allowed.
fn listed(what: &str, name: &str, field: &str, allowed: Option<&[String]>) -> Result<(), String> {
    let allowed = allowed.unwrap_or_default();
    if matches_any(allowed, name) { Ok(()) } else { Err(refusal(what, name, field, allowed)) }
}

fn refusal(what: &str, name: &str, field: &str, allowed: &[String]) -> String {
    let only = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
    format!("{what} `{name}` is not allowed here; policy.{field} of the tenant allows {only}")
}

fn matches_any(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| matches(pattern, text))
}

/// Whether the text fits the pattern, in which `*` stands for any text, slashes included.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let tail = parts.pop().unwrap_or_default();
    for part in parts {
        // The earliest place leaves the most for what follows.
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(tail)
}

/// The parts of an absolute path; `None` for a relative one, and for one that leads out of itself with `..`.
fn segments(path: &str) -> Option<Vec<&str>> {
    let parts: Vec<&str> = path.strip_prefix('/')?.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    (!parts.contains(&"..")).then_some(parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(all: &[&str]) -> Option<Vec<String>> {
        Some(all.iter().map(|text| (*text).to_owned()).collect())
    }

    #[test]
    fn images_are_free_until_they_are_listed() {
        assert_eq!(image(&Policy::default(), "nginx:1"), Ok(()));
        let policy = Policy { images: texts(&["registry.example.com/*", "busybox", "*/node:*-slim"]), ..Policy::default() };
        for allowed in ["registry.example.com/a/b:1", "busybox", "docker.io/node:22-slim"] {
            assert_eq!(image(&policy, allowed), Ok(()), "{allowed}");
        }
        for refused in ["registry.example.com.evil.org/a", "busybox:1", "node:22-slim", "docker.io/node:22", ""] {
            assert!(image(&policy, refused).is_err(), "{refused}");
        }
        assert_eq!(
            image(&Policy { images: texts(&[]), ..Policy::default() }, "nginx").unwrap_err(),
            "image `nginx` is not allowed here; policy.images of the tenant allows none"
        );
    }

    #[test]
    fn networks_and_volumes_of_others_are_closed_until_they_are_listed() {
        assert!(network(&Policy::default(), "db").is_err());
        assert!(external_volume(&Policy::default(), "data").is_err());
        let policy = Policy { networks: texts(&["db"]), external_volumes: texts(&["alice-*"]), ..Policy::default() };
        assert_eq!(network(&policy, "db"), Ok(()));
        assert_eq!(external_volume(&policy, "alice-data"), Ok(()));
        assert!(external_volume(&policy, "bob-data").unwrap_err().contains("policy.externalVolumes of the tenant allows alice-*"));
    }

    #[test]
    fn host_paths_are_compared_by_whole_parts() {
        assert_eq!(host_path(&Policy::default(), "/anything"), Ok(()));
        let policy = Policy { host_paths: texts(&["/srv/alice/"]), ..Policy::default() };
        for allowed in ["/srv/alice", "/srv//alice/./a"] {
            assert_eq!(host_path(&policy, allowed), Ok(()), "{allowed}");
        }
        for refused in ["/srv/alice2", "/srv", "/srv/alice/../bob", "srv/alice", "/"] {
            assert!(host_path(&policy, refused).is_err(), "{refused}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_what_its_stars_are_filled_with(parts in prop::collection::vec("[ab/]{0,3}", 1..4), fill in "[ab/]{0,4}") {
            prop_assert!(matches(&parts.join("*"), &parts.join(&fill)));
            prop_assert_eq!(matches(&parts.concat(), &format!("{}x", parts.concat())), false);
        }
    }
}
