//! What the operator knows and reads: the state directory, the lock, and the directories of specs.

use std::path::Path;
use std::time::Duration;

use dockmaster::cli::Failure;
use dockmaster::cli::doctor::Report;
use dockmaster::config::{RunSettings, StatusMode};
use dockmaster::controller::intake::root_setting;
use dockmaster::http::control::{self, ControlError};
use dockmaster::resource::ConditionType;
use dockmaster::runtime::docker::connect::Client;
use dockmaster::runtime::docker::lock::Lock;
use dockmaster::source::directory::{DirectorySource, Root};
use dockmaster::source::{SourceEvent, SpecSource};
use dockmaster::state::sqlite::SqliteLedger;
use dockmaster::state::{Ledger, LedgerError};
use futures::StreamExt;

/// How long a directory may take to be listed.
const LISTING: Duration = Duration::from_secs(15);

/// Whether the ledger is sound, and the disk below it.
pub async fn directory(report: &mut Report, dir: &Path) {
    let shown = dir.display();
    match SqliteLedger::examine(dir).await {
        Ok(()) => report.ok("state", format!("the ledger in {shown} is sound")),
        Err(LedgerError::Absent { .. }) => report.ok("state", format!("{shown} holds no ledger yet; the first `dockmaster run` makes it")),
        Err(error @ LedgerError::TooNew { .. }) => report.fail("state", error.to_string(), "run the newer dockmaster that wrote it"),
        Err(error) => report.fail(
            "state",
            error.to_string(),
            "`dockmaster state restore` puts a backup in its place; without one, move the directory away: containers stay",
        ),
    }
    let there = dir.ancestors().find(|dir| dir.is_dir()).unwrap_or_else(|| Path::new("/"));
    match rustix::fs::statvfs(there) {
        Ok(stat) => super::engine::space(report, "state disk", &there.display().to_string(), (stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize)),
        Err(error) => report.fail("state disk", format!("{}: {error}", there.display()), "make the directory readable for this user"),
    }
}

/// Who works: the operator of this state directory, and whoever holds the engine.
pub async fn lock(report: &mut Report, state_dir: &Path, settings: &RunSettings, client: &Client) {
    let operator = match control::Client::new(state_dir).ping().await {
        Ok(ping) => Some(ping),
        Err(ControlError::NotRunning) => None,
        Err(error) => {
            return report.fail("operator", error.to_string(), "the control socket belongs to the user who runs the operator: ask as that user");
        }
    };
    let holder = match Lock::holder(client, &settings.installation).await {
        Ok(holder) => holder,
        Err(error) => return report.fail("operator", format!("the lock on the engine cannot be looked at: {error}"), "see the lines about rights"),
    };
    let installation = &settings.installation;
    match (operator, holder) {
        (Some(ping), Some(holder)) if holder.pid == ping.pid => report.ok("operator", format!("{} runs as process {}", ping.version, ping.pid)),
        (Some(ping), Some(holder)) => report.warn(
            "operator",
            format!("process {} runs here, and installation {installation} is held by {holder}", ping.pid),
            "one of them waits for the other: stop one, or give it another --installation",
        ),
        (Some(ping), None) => report.warn(
            "operator",
            format!("process {} runs, and does not hold installation {installation} on this engine", ping.pid),
            "it works on another engine than the one looked at here, or is about to end: name its engine with --docker-host",
        ),
        (None, Some(holder)) => report.warn(
            "operator",
            format!("none runs here; installation {installation} is held by {holder}"),
            "that one works on this engine: ask it with its --state-dir, or stop it before you start another",
        ),
        (None, None) => report.ok("operator", "none runs; `dockmaster run` starts one"),
    }
}

/// Whether each directory of specs can be read, trusted and written to, and what in it cannot be used.
pub async fn sources(report: &mut Report, settings: &RunSettings, ledger: Option<&SqliteLedger>) -> Result<(), Failure> {
    for root in &settings.roots {
        let check = format!("source {}", root.name);
        if !root.path.is_dir() && ledger.is_none() {
            report.warn(&check, format!("{} is not there yet", root.path.display()), "make it, or name another with `dockmaster run --specs DIR`");
            continue;
        }
        if !root.path.is_dir() {
            report.fail(
                &check,
                format!("{} is not a directory", root.path.display()),
                "make it, mount it, or name another with --specs; nothing is deleted meanwhile",
            );
            continue;
        }
        let remembered = match ledger {
            Some(ledger) => ledger.setting(&root_setting(&root.name)).await?,
            None => None,
        };
        let source = DirectorySource::new(root.clone(), crate::wiring::options(Some(settings), remembered));
        let listing = listed(&source);
        match tokio::time::timeout(LISTING, listing).await {
            Ok(Listing { unhealthy: Some(why), .. }) => report.fail(&check, why, "nothing of it is deleted meanwhile"),
            Ok(Listing { documents, errors, .. }) if errors.is_empty() => report.ok(&check, format!("{documents} documents, all good")),
            Ok(Listing { documents, errors, .. }) => {
                let message =
                    format!("{documents} documents are good; these cannot be used, and what they last said stays in force:\n{}", errors.join("\n").trim_end());
                report.fail(&check, message, format!("correct them; `dockmaster validate {}` checks again", root.name));
            }
            Err(_) => {
                report.fail(&check, "it could not be listed to its end: files change all the time, or the file system is slow", "look at what writes there")
            }
        }
        written(report, &check, settings.status, root, &source);
    }
    Ok(())
}

struct Listing {
    documents: usize,
    errors: Vec<String>,
    unhealthy: Option<String>,
}

async fn listed(source: &DirectorySource) -> Listing {
    let mut events = source.events();
    let mut listing = Listing { documents: 0, errors: Vec::new(), unhealthy: None };
    while let Some(event) = events.next().await {
        match event {
            SourceEvent::InitApply(_) | SourceEvent::Apply(_) => listing.documents += 1,
            SourceEvent::Invalid { errors, .. } => listing.errors.extend(errors),
            SourceEvent::Unhealthy(why) => {
                listing.unhealthy = Some(why);
                break;
            }
            SourceEvent::InitDone => break,
            SourceEvent::Init | SourceEvent::Reported { .. } | SourceEvent::Gone(_) | SourceEvent::Healthy => {}
        }
    }
    listing
}

/// Whether status can be written there, and whether git minds.
fn written(report: &mut Report, check: &str, status: StatusMode, root: &Root, source: &DirectorySource) {
    if status == StatusMode::None {
        return;
    }
    if rustix::fs::access(&root.path, rustix::fs::Access::WRITE_OK).is_err() {
        report.warn(
            check,
            "this user cannot write there, so no status can be written and verbs cannot edit specs",
            "give write access, or run with `--status none`",
        );
    }
    if status == StatusMode::Inline && source.is_tracked_by_git() {
        report.warn(
            check,
            "git tracks these files, and status is written into them: `git pull` refuses files that change on both sides",
            "run with `--status sidecar`, or commit the status",
        );
    }
}

/// Deletions that wait for a person.
pub async fn holds(report: &mut Report, ledger: Option<&SqliteLedger>) -> Result<(), Failure> {
    let Some(ledger) = ledger else { return Ok(()) };
    for (type_, next) in [
        (ConditionType::PruneBlocked, "put the documents back, or confirm with `dockmaster prune`"),
        (ConditionType::SourceUnhealthy, "see the lines about sources; nothing is deleted meanwhile"),
        (ConditionType::EngineChanged, "point the operator at the engine it knew, or start it once with --accept-engine"),
    ] {
        let is = |status: &serde_json::Value| {
            status["conditions"].as_array().is_some_and(|all| all.iter().any(|one| one["type"] == type_.as_str() && one["status"] == "True"))
        };
        let objects: Vec<String> = ledger.statuses().await?.iter().filter(|(_, (status, _))| is(status)).map(|(object, _)| object.to_string()).collect();
        if !objects.is_empty() {
            report.warn("objects", format!("{type_}: {}", objects.join(", ")), next);
        }
    }
    Ok(())
}
