//! The small languages inside of single texts: paths, images, users, signals, names. Each function says what to write where the text
//! is wrong, and nothing where it is right.

use std::collections::BTreeMap;

use crate::resource::is_dns_label;
use crate::resource::workspace::Service;

/// A DNS label.
pub fn label(text: &str) -> Option<&'static str> {
    (!is_dns_label(text)).then_some("write a DNS label: at most 63 lower-case letters, digits and `-`, with a letter or digit at both ends")
}

/// An absolute path without detours.
pub fn absolute(path: &str) -> Option<&'static str> {
    if !path.starts_with('/') {
        return Some("write an absolute path: it begins with `/`");
    }
    if path.contains(char::is_control) {
        return Some("remove line breaks and control characters");
    }
    let inner = path.strip_prefix('/').unwrap_or(path);
    let detour = !inner.is_empty() && inner.split('/').any(|part| matches!(part, "" | "." | ".."));
    detour.then_some("write it without `.`, `..`, `//` and without `/` at its end")
}

/// Where something can be mounted.
pub fn mount_path(path: &str) -> Option<&'static str> {
    let system = ["/proc", "/sys", "/dev"].into_iter().any(|top| path == top) || path.starts_with("/proc/") || path.starts_with("/sys/");
    match path {
        "" => Some("add the absolute path in the container: `path: /…`"),
        "/" => Some("mount below `/`, not over the whole container"),
        _ if system => Some("mount elsewhere: the system itself lives here"),
        path => absolute(path),
    }
}

/// The name of an image, as far as it can be told without asking: `[host[:port]/]path[:tag][@digest]`.
pub fn image(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("name an image, such as `nginx:1.27`");
    }
    if text.contains("://") {
        return Some("remove the scheme: `host/path:tag`");
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/:@+".contains(&b)) || text.len() > 512 {
        return Some("write it as `[host[:port]/]path[:tag][@digest]`");
    }
    let name = text.split('@').next().unwrap_or(text);
    // The first part is a host if it looks like one; a colon behind the last slash opens the tag.
    let path = match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => path,
        Some(_) | None => name,
    };
    let (path, tag) = match path.rsplit_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (path, None),
    };
    if path.contains(|c: char| c.is_ascii_uppercase()) {
        return Some("write the path of the image in lower case");
    }
    let badly = path.split('/').any(|part| part.is_empty() || !part.starts_with(|c: char| c.is_ascii_alphanumeric()) || part.contains(':'));
    let is_tag =
        |tag: &str| tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) && (1..=128).contains(&tag.len()) && !tag.starts_with(['.', '-']);
    (badly || tag.is_some_and(|tag| !is_tag(tag))).then_some("write it as `[host[:port]/]path[:tag][@digest]`")
}

/// `name`, `uid`, either with `:group`.
pub fn user(text: &str) -> Option<&'static str> {
    let part =
        |part: &str| !part.is_empty() && part.len() <= 64 && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-$".contains(&b)) && !part.starts_with('-');
    let right = match text.split_once(':') {
        Some((user, group)) => part(user) && part(group),
        None => part(text),
    };
    (!right).then_some("write `name`, `uid`, `name:group` or `uid:gid`")
}

/// The name of a volume that is Docker's, not ours.
pub fn docker_name(text: &str) -> Option<&'static str> {
    let right =
        text.len() > 1 && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    (!right).then_some("write the name as `docker volume ls` and `docker network ls` show it")
}

/// An existing network that may be joined.
pub fn network(text: &str) -> Option<&'static str> {
    match text {
        "host" | "none" | "bridge" | "default" => Some("name a network of its own: the engine's built-in ones are not isolated"),
        text => docker_name(text),
    }
}

/// A capability to drop.
pub fn capability(text: &str) -> Option<&'static str> {
    if text.starts_with("CAP_") {
        return Some("write it without `CAP_`");
    }
    let right = !text.is_empty() && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    (!right).then_some("write a capability in capitals, such as `NET_BIND_SERVICE`, or `ALL`")
}

/// The signals of Linux, without `SIG`.
pub const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP",
    "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Whether Docker knows the signal: `SIGTERM`, `TERM`, `15`, `RTMIN+3`.
pub fn is_signal(text: &str) -> bool {
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let offset = |rest: &str, sign: char| rest.is_empty() || rest.strip_prefix(sign).is_some_and(|n| n.parse::<u8>().is_ok_and(|n| (1..=15).contains(&n)));
    let real_time = name.strip_prefix("RTMIN").map(|rest| offset(rest, '+')).or_else(|| name.strip_prefix("RTMAX").map(|rest| offset(rest, '-')));
    SIGNALS.contains(&name) || real_time.unwrap_or(false) || text.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number))
}

/// Services that depend on each other in a circle, in the order of their dependence; none if there is no circle.
pub fn cycle(services: &BTreeMap<String, Service>) -> Option<Vec<String>> {
    let mut waiting: BTreeMap<&str, Vec<&str>> = services
        .iter()
        .map(|(name, service)| (name.as_str(), service.depends_on.iter().map(String::as_str).filter(|other| services.contains_key(*other)).collect()))
        .collect();
    // What waits for nothing that is left can start; what remains is on a circle or behind one.
    loop {
        let ready: Vec<&str> = waiting.iter().filter(|(_, others)| !others.iter().any(|other| waiting.contains_key(other))).map(|(name, _)| *name).collect();
        if ready.is_empty() {
            break;
        }
        waiting.retain(|name, _| !ready.contains(name));
    }
    let mut walked: Vec<&str> = vec![*waiting.keys().next()?];
    while let Some(next) = walked.last().and_then(|last| waiting.get(last)).and_then(|others| others.iter().find(|other| waiting.contains_key(*other))) {
        if let Some(start) = walked.iter().position(|name| name == next) {
            return Some(walked.split_off(start).into_iter().map(str::to_owned).collect());
        }
        walked.push(next);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That each of these is right, and that each of those is told what is behind it.
    fn check(words: fn(&str) -> Option<&'static str>, right: &[&str], wrong: &[(&str, &str)]) {
        for text in right {
            assert_eq!(words(text), None, "{text:?}");
        }
        for (text, help) in wrong {
            assert!(words(text).is_some_and(|told| told.contains(help)), "{text:?}: {:?}", words(text));
        }
    }

    #[test]
    fn mounts_are_absolute_and_leave_the_system_alone() {
        let wrong = [
            ("", "add the absolute path"),
            ("/", "not over the whole container"),
            ("/proc", "the system itself"),
            ("/sys/fs", "the system itself"),
            ("/dev", "the system itself"),
            ("data", "begins with `/`"),
            ("/data/", "without"),
            ("/da\u{7}ta", "control characters"),
        ];
        check(mount_path, &["/data", "/dev/shm", "/process", "/system", "/devel"], &wrong);
    }

    #[test]
    fn images_are_named_as_docker_names_them() {
        let (long, longer, longest) = ("a".repeat(512), "a".repeat(513), "a".repeat(514));
        let [tag, long_tag, longer_tag] = [128, 129, 130].map(|length| format!("nginx:{}", "t".repeat(length)));
        let form = "[host[:port]/]path[:tag][@digest]";
        let right = [
            "nginx",
            "nginx:1.27",
            "nginx@sha256:abc",
            "acme/shop:V2",
            "localhost/shop",
            "localhost:5000/shop:1",
            "Registry.example.com/shop",
            "HOST:5000/shop:1",
            long.as_str(),
            tag.as_str(),
        ];
        let wrong = [
            ("", "name an image"),
            ("https://acme/shop", "remove the scheme"),
            ("Acme/shop", "lower case"),
            ("example.com/Shop", "lower case"),
            ("ng inx", form),
            ("nginx:", form),
            ("nginx:.1", form),
            ("nginx:-1", form),
            ("acme//shop", form),
            ("acme/", form),
            ("acme/-shop", form),
            ("_acme/shop", form),
            ("example.com/shop:1:2", form),
            ("example.com/shop:1/2", form),
            ("nginx:1+2", form),
            (longer.as_str(), form),
            (longest.as_str(), form),
            (long_tag.as_str(), form),
            (longer_tag.as_str(), form),
        ];
        check(image, &right, &wrong);
    }

    #[test]
    fn a_user_and_a_group_are_both_names_or_numbers() {
        let (name, long) = ("u".repeat(64), "u".repeat(65));
        let form = "`name`, `uid`, `name:group` or `uid:gid`";
        let wrong = ["", "a:", ":b", ":", "a b", "a:b c", "-a", "a:-b", "a:b:c", long.as_str()].map(|text| (text, form));
        check(user, &["root", "1000", "1000:1000", "a_b-c.d$:staff", name.as_str()], &wrong);
    }

    #[test]
    fn names_of_docker_have_two_characters_or_more() {
        let wrong = ["", "a", "-a", ".a", "_a", "a b", "a/b", "-", "aé"].map(|text| (text, "docker volume ls"));
        check(docker_name, &["ab", "a-", "A1_b.c-d"], &wrong);
    }

    #[test]
    fn capabilities_are_written_in_capitals_and_without_their_prefix() {
        let wrong = [("", "in capitals"), ("net_admin", "in capitals"), ("NET-ADMIN", "in capitals"), ("CAP_CHOWN", "without `CAP_`")];
        check(capability, &["ALL", "NET_BIND_SERVICE", "SYS_PTRACE", "A1"], &wrong);
    }

    #[test]
    fn signals_are_names_numbers_and_those_of_real_time() {
        for text in ["TERM", "SIGTERM", "1", "15", "64", "RTMIN", "SIGRTMIN", "RTMIN+1", "RTMIN+15", "RTMAX", "SIGRTMAX-1", "RTMAX-15"] {
            assert!(is_signal(text), "{text}");
        }
        for text in ["", "SIG", "term", "0", "65", "-1", "SIG15", "RTMIN+", "RTMIN+0", "RTMIN+16", "RTMIN-1", "RTMAX+1", "RTMAX-16", "RTMAXX"] {
            assert!(!is_signal(text), "{text}");
        }
    }
}
