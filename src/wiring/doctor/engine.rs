//! The engine: what it is, what it lets us do, its disk and its clock, and whether a container can live there.

use dockmaster::cli::doctor::Report;
use dockmaster::config::RunSettings;
use dockmaster::runtime::docker::canary;
use dockmaster::runtime::docker::connect::Client;
use dockmaster::runtime::docker::rights::Right;
use jiff::SignedDuration;

const MIB: u64 = 1 << 20;

/// What it is and what it says of itself.
pub async fn facts(report: &mut Report, client: &Client) {
    let facts = match client.facts().await {
        Ok(facts) => facts,
        Err(error) => return report.fail("engine", format!("it does not say what it is: {error}"), "allow GET /version and GET /info"),
    };
    let (major, minor) = facts.api;
    report.ok("engine", format!("Docker {} at {}, API {major}.{minor}, {}", facts.version, client.host, facts.platform));
    let enforced = if facts.disk_limit { "enforced" } else { "measured, not enforced" };
    report.ok("storage", format!("{} in {}; disk limits are {enforced}", facts.storage, facts.root));
    report.ok("cgroup", format!("{}, {} CPUs, {} MiB of memory", facts.cgroup, facts.cpus, facts.memory.unsigned_abs() / MIB));
    for warning in &facts.warnings {
        report.warn("engine", warning.trim_start_matches("WARNING: "), "the engine's manual says what it means; limits of that kind may not hold");
    }
    match facts.disk {
        Some(disk) => space(report, "engine disk", &facts.root, disk),
        None => report.ok("engine disk", format!("{} cannot be seen from here", facts.root)),
    }
    clock(report, facts.clock_skew);
}

/// Free space: less than 2 GiB deserves a look, less than 200 MiB is too little for anything.
pub fn space(report: &mut Report, check: &str, directory: &str, (free, all): (u64, u64)) {
    let message = format!("{} MiB of {} MiB free in {directory}", free / MIB, all / MIB);
    let next = "remove what is not needed, or give it a larger disk; `docker system df` shows what Docker uses";
    match free / MIB {
        0..200 => report.fail(check, message, next),
        200..2048 => report.warn(check, message, next),
        2048.. => report.ok(check, message),
    }
}

fn clock(report: &mut Report, skew: SignedDuration) {
    let seconds = skew.as_secs_f64();
    let message = format!("the engine's clock is {:.1} s {} this one", seconds.abs(), if seconds < 0.0 { "behind" } else { "ahead of" });
    let next = "synchronise the clocks of both hosts (chrony, systemd-timesyncd): idle times and expiry are reckoned across them";
    match seconds.abs() {
        0.0..2.0 => report.ok("clock", message),
        2.0..60.0 => report.warn("clock", message, next),
        _ => report.fail("clock", message, next),
    }
}

/// Every endpoint that is called, each refused one by name.
pub async fn rights(report: &mut Report, client: &Client) {
    let rights = client.rights().await;
    let granted = rights.iter().filter(|(_, right)| *right == Right::Granted).count();
    if granted == rights.len() {
        return report.ok("rights", format!("all {granted} endpoints of the engine that are needed may be called"));
    }
    for (endpoint, right) in &rights {
        let purpose = endpoint.group.to_lowercase();
        match right {
            Right::Granted => {}
            Right::Denied(_) if endpoint.only().is_some() => report.warn(
                "rights",
                format!("{endpoint} is denied; it is called only {}", endpoint.only().unwrap_or_default()),
                "allow it, unless that never happens here",
            ),
            Right::Denied(why) => report.fail(
                "rights",
                format!("{endpoint} is denied ({purpose}): {}", why.lines().next().filter(|line| !line.starts_with('<')).unwrap_or("by a proxy")),
                "allow it in the proxy or the authorization plugin before the engine; deploy/endpoints.txt lists all that are needed",
            ),
            Right::Unknown(why) => {
                report.warn("rights", format!("{endpoint} gave no answer ({purpose}): {why}"), "run this again; if it stays, look at what is before the engine")
            }
        }
    }
}

/// A canary that is ready to go.
pub struct Canary {
    pub client: Client,
    pub settings: RunSettings,
    /// A free subnet of the pool; `None`: there is none.
    pub subnet: Option<String>,
}

/// Makes the helper image, then a network, a volume and a container; sees it run, and removes it all.
pub async fn canary(report: &mut Report, Canary { client, settings, subnet }: Canary) {
    let helper = crate::wiring::helper_image(&settings, None);
    match helper.ensure(&client).await {
        Ok(_) => report.ok("helper image", "it is on the engine"),
        Err(error) => {
            return report.fail(
                "helper image",
                error.to_string(),
                "without it, only specs that name an image work, and no operator can hold the engine's lock",
            );
        }
    }
    let name = canary::name(&settings.installation);
    let Some(subnet) = subnet else {
        return report.fail("canary", "not sent: no subnet is free for it", "give a larger --network-pool");
    };
    let interrupt = tokio::signal::ctrl_c();
    match canary::send(&client, &settings.installation, &helper, &subnet, interrupt).await {
        Ok(()) => report.ok("canary", format!("the container {name} was made with a network and a volume, seen to run, and removed")),
        Err(error) => {
            let left = if error.left.is_empty() {
                "nothing is left of it".to_owned()
            } else {
                format!("`docker rm -f {name}; docker network rm {name}; docker volume rm {name}` removes it")
            };
            report.fail("canary", format!("a test container failed {error}"), format!("what the engine said tells why; {left}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use dockmaster::cli::doctor::Verdict;

    use super::*;

    #[test]
    fn clocks_and_disks_have_limits() {
        for (millis, verdict) in [(0, Verdict::Ok), (-1900, Verdict::Ok), (2100, Verdict::Warn), (-59_000, Verdict::Warn), (61_000, Verdict::Fail)] {
            let mut report = Report::default();
            clock(&mut report, SignedDuration::from_millis(millis));
            assert_eq!(report.worst(), verdict, "{millis} ms");
        }
        for (mib, verdict) in [(5000, Verdict::Ok), (1000, Verdict::Warn), (100, Verdict::Fail)] {
            let mut report = Report::default();
            space(&mut report, "disk", "/", (mib * MIB, 9000 * MIB));
            assert_eq!(report.worst(), verdict, "{mib} MiB");
            assert_eq!(report.checks[0].next.is_some(), verdict != Verdict::Ok);
        }
    }
}
